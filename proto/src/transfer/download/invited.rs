//! What comes of a suggestion of somebody of whom nothing is asked.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::simulation::{chunks, key};
use super::steps::Steps;
use super::{Action, Event, RequestId};
use crate::content::Run;
use crate::transfer::Reach;

/// A request, and what was cancelled with it.
type Taken = (Option<(u8, u32)>, Vec<RequestId>);

#[test]
fn an_invitation_is_taken_up_though_enough_is_outstanding() {
    let mut steps = busy();
    steps.join(2, &[]);
    assert_eq!(steps.poll().len(), 0, "all windows are full");
    steps.tell(2, &[(30, 10)]);
    assert_eq!(invite(&mut steps, 2, 39).0, Some((2, 39)));
}

#[test]
fn what_waits_at_another_is_taken_off_its_queue() {
    let mut steps = busy();
    let last = steps.download.asked_for().last().unwrap();
    steps.join(2, &[(last, 1)]);
    steps.poll();
    let (asked, cancelled) = invite(&mut steps, 2, last);
    assert_eq!((asked, cancelled.len()), (Some((2, last)), 1));
}

#[test]
fn what_was_moved_once_stays_where_it_is() {
    let mut steps = busy();
    let last = steps.download.asked_for().last().unwrap();
    steps.join(2, &[(last, 1)]);
    steps.join(3, &[(last, 1)]);
    steps.poll();
    assert_eq!(invite(&mut steps, 2, last).0, Some((2, last)));
    for second in 1..9 {
        steps.now += Duration::from_secs(1);
        let cancelled = invite(&mut steps, 3, last).1;
        assert_eq!(cancelled, [], "after {second} s");
    }
}

#[test]
fn what_has_begun_to_come_is_left_where_it_is() {
    let mut steps = Steps::new(&chunks(40));
    steps.join(1, &[(0, 40)]);
    let first = steps.poll()[0];
    let (request, bytes) = (first.id, 1);
    steps.now += Duration::from_secs(5);
    steps.handle(Event::Received { request, bytes });
    steps.join(2, &[(first.chunk, 1)]);
    steps.poll();
    assert_eq!(invite(&mut steps, 2, first.chunk), (None, vec![]));
}

#[test]
fn what_the_peer_does_not_have_or_we_do_not_lack_is_not_asked() {
    let mut steps = busy();
    steps.join(2, &[]);
    assert_eq!(invite(&mut steps, 2, 38), (None, vec![]));
    assert_eq!(invite(&mut steps, 3, 39), (None, vec![]), "nobody");
    let mut steps = Steps::new(&chunks(40));
    steps.join(1, &[(7, 1)]);
    let asked = steps.poll();
    steps.verify(&asked[0]);
    assert_eq!(invite(&mut steps, 1, 7), (None, vec![]));
}

#[test]
fn a_relay_is_not_used_for_an_invitation() {
    let mut steps = busy();
    steps.join_by(2, Reach::Relayed, &[(38, 1)]);
    assert_eq!(invite(&mut steps, 2, 38), (None, vec![]));
}

#[test]
fn a_second_copy_of_a_seed_is_not_taken_up() {
    let mut steps = busy();
    let peer = key(3);
    steps.join(3, &[]);
    let runs = vec![Run {
        start: 39,
        count: 1,
    }];
    steps.handle(Event::Started { peer, runs });
    steps.join(2, &[(0, 40)]);
    steps.poll();
    let gets = |steps: &mut Steps, chunk| invite(steps, 2, chunk).0;
    assert_eq!(gets(&mut steps, 39), None, "another gets it");
}

#[test]
fn a_seed_is_asked_for_nothing_but_what_it_suggests_while_others_may_bring_the_rest() {
    const NONE: [u32; 0] = [];
    let of_seed = |steps: &mut Steps| {
        let asked = steps.poll();
        let of_seed = asked.into_iter().filter(|it| it.peer == key(1));
        of_seed.map(|it| it.chunk).collect::<Vec<_>>()
    };
    let mut steps = Steps::new(&chunks(40));
    steps.join(1, &[(0, 40)]);
    steps.join(2, &[(0, 1)]);
    assert_eq!(invite(&mut steps, 1, 39).0, Some((1, 39)));
    assert_eq!(of_seed(&mut steps), NONE);
    steps.tell(2, &[(5, 5)]);
    assert_eq!(
        of_seed(&mut steps),
        NONE,
        "what others have is theirs to give"
    );
    assert_eq!(invite(&mut steps, 1, 38).0, Some((1, 38)));
    while of_seed(&mut steps).is_empty() {
        assert!(steps.sleep() < Duration::from_secs(5), "not for ever");
    }
    // What others have is nothing new: then it may be asked for whatever it has.
    let mut steps = Steps::new(&chunks(40));
    steps.join(1, &[(0, 40)]);
    steps.join(2, &[(36, 1)]);
    suggest(&mut steps, 1, 36);
    assert!(of_seed(&mut steps).len() > 5);
    // With nobody else, it is the seed that brings everything.
    let mut steps = Steps::new(&chunks(40));
    steps.join(1, &[(0, 40)]);
    suggest(&mut steps, 1, 39);
    assert!(of_seed(&mut steps).len() > 5);
}

#[test]
fn the_neediest_is_invited_to_what_is_rare() {
    let mut steps = Steps::new(&chunks(40));
    steps.join(1, &[(0, 40)]);
    // All but the last ten chunks are ours.
    let mut asked = Vec::new();
    while steps.download.have().count() < 30 {
        asked.extend(steps.poll());
        let next = asked.remove(0);
        if next.chunk < 30 {
            steps.verify(&next);
        } else {
            let request = next.id;
            steps.handle(Event::Withdrawn { request });
            steps.now += Duration::from_millis(1);
        }
    }
    steps.join(2, &[(0, 20)]);
    steps.join(3, &[(0, 29)]);
    let mut rng = StdRng::seed_from_u64(1);
    let mut invite = |may: &dyn Fn(u8) -> bool| {
        let may = |peer: &_| (0..9).any(|n| key(n) == *peer && may(n));
        let invitation = steps.download.invite(&mut rng, may);
        invitation.map(|it| (it.peer, it.chunk))
    };
    assert_eq!(invite(&|_| true), Some((key(2), 29)));
    assert_eq!(invite(&|n| n != 2), Some((key(3), 29)));
    assert_eq!(invite(&|n| n == 1), None, "it lacks nothing");
}

/// A download that has asked one peer, which has chunks 0 to 38, for as much as it may.
fn busy() -> Steps {
    let mut steps = Steps::new(&chunks(40));
    steps.join(1, &[(0, 39)]);
    assert!(steps.poll().len() > 5);
    steps
}

fn suggest(steps: &mut Steps, n: u8, chunk: u32) {
    let peer = key(n);
    let runs = vec![Run {
        start: chunk,
        count: 1,
    }];
    steps.handle(Event::Suggested { peer, runs });
}

fn invite(steps: &mut Steps, n: u8, chunk: u32) -> Taken {
    suggest(steps, n, chunk);
    let (mut asked, mut cancelled) = (None, Vec::new());
    while let Some(action) = steps.download.poll(steps.now) {
        match action {
            Action::Request { peer, chunk, .. } if peer == key(n) => {
                asked = asked.or(Some((n, chunk.value())));
            }
            Action::Cancel { request } => cancelled.push(request),
            _ => (),
        }
    }
    (asked, cancelled)
}
