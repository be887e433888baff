//! What is thought of peers, for each reason there is.

use std::time::Duration;

use super::super::standing::BanList;
use super::simulation::{Simulation, Source, chunks, key};
use super::steps::{Asked, Steps};
use super::{Action, Event};
use crate::content::Run;
use crate::id::PublicKey;
use crate::transfer::Standing;
use crate::wire::NoReason;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn who_is_asked_and_serves_is_good_and_nothing_is_told_of_it() {
    let (mut steps, asked) = asked_for(2);
    asked.iter().for_each(|asked| steps.verify(asked));
    steps.actions();
    assert_eq!(steps.download.standing(&key(1)), Some(Standing::Good));
    assert_eq!(steps.download.standing(&key(2)), None, "a stranger");
    assert_eq!(steps.told(), []);
}

#[test]
fn who_is_busy_is_so_until_its_pause_is_over() {
    check_pause(
        |steps, asked| steps.refuse(asked.id, NoReason::Busy),
        |until| Standing::Busy { until },
    );
}

#[test]
fn whose_stream_breaks_has_failed_until_its_pause_is_over() {
    check_pause(
        |steps, asked| steps.handle(Event::Failed { request: asked.id }),
        |until| Standing::Failed { until },
    );
}

#[test]
fn who_brings_nothing_has_stalled_until_its_pause_is_over() {
    check_pause(
        |steps, _| {
            steps.now += 10 * SECOND;
            steps.download.handle_timeouts(steps.now);
        },
        |until| Standing::Stalled { until },
    );
}

#[test]
fn after_three_setbacks_a_peer_is_unreliable_until_it_brings_something() {
    let mut steps = Steps::new(&chunks(1));
    steps.join(1, &[(0, 1)]);
    for _ in 0..3 {
        let [asked] = steps.poll()[..] else { panic!() };
        steps.handle(Event::Failed { request: asked.id });
        steps.actions();
        steps.told();
        steps.sleep();
    }
    let [asked] = steps.poll()[..] else { panic!() };
    assert_eq!(steps.told(), [(key(1), Standing::Unreliable)]);
    steps.verify(&asked);
    assert_eq!(steps.told(), [(key(1), Standing::Good)]);
}

#[test]
fn who_stalled_on_what_another_has_is_shunned_for_it_until_that_one_is_gone_or_a_minute_later() {
    for ends in [
        (|steps| steps.handle(Event::PeerLeft { peer: key(2) })) as fn(&mut Steps),
        |steps| steps.now += 60 * SECOND,
    ] {
        let (mut steps, _) = asked_for(1);
        steps.join(2, &[(0, 1)]);
        steps.now += 10 * SECOND;
        let stalled_at = steps.now;
        steps.actions();
        assert!(matches!(steps.told()[..], [(_, Standing::Stalled { .. })]));
        steps.now += 3 * SECOND;
        steps.actions();
        let until = stalled_at + 60 * SECOND;
        assert_eq!(steps.told(), [(key(1), Standing::Shunned { until })]);
        // Nothing is asked meanwhile, so that the other does not stall.
        steps.handle(Event::Budget { bytes: 0 });
        let requests: Vec<_> = steps.download.owners.keys().copied().collect();
        for request in requests {
            steps.handle(Event::Withdrawn { request });
        }
        ends(&mut steps);
        steps.actions();
        assert_eq!(steps.told(), [(key(1), Standing::Good)]);
    }
}

#[test]
fn who_refuses_what_it_said_it_has_is_told_so_with_its_reason_until_it_serves() {
    for reason in [NoReason::NotHere, NoReason::Unknown, NoReason::Changed] {
        let (mut steps, asked) = asked_for(2);
        steps.refuse(asked[0].id, reason);
        assert_eq!(steps.told(), [(key(1), Standing::Refused { reason })]);
        steps.verify(&asked[1]);
        assert_eq!(steps.told(), [(key(1), Standing::Good)]);
    }
}

#[test]
fn who_does_not_get_what_it_has_only_started_has_refused_nothing() {
    let mut steps = Steps::new(&chunks(2));
    steps.join(1, &[]);
    let (peer, runs) = (key(1), vec![Run { start: 0, count: 1 }]);
    let started = runs.clone();
    steps.handle(Event::Started {
        peer,
        runs: started,
    });
    steps.handle(Event::Suggested { peer, runs });
    let [asked] = steps.poll()[..] else { panic!() };
    steps.refuse(asked.id, NoReason::NotHere);
    assert_eq!(steps.told(), []);
    assert_eq!(steps.download.standing(&key(1)), Some(Standing::Good));
}

#[test]
fn who_sends_wrong_bytes_is_banned_also_when_it_comes_again() {
    let (mut steps, asked) = asked_for(1);
    let request = asked[0].id;
    steps.handle(Event::Corrupt { request });
    assert_eq!(steps.actions(), [Action::Ban { peer: key(1) }]);
    assert_eq!(steps.told(), [], "the ban says so");
    steps.join(1, &[(0, 1)]);
    assert!(steps.poll().is_empty());
    assert_eq!(steps.download.standing(&key(1)), Some(Standing::Banned));
}

#[test]
fn however_many_keys_are_banned_a_bounded_number_is_remembered() {
    let mut steps = Steps::new(&chunks(1));
    let key = |number: usize| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(number as u64).to_be_bytes());
        PublicKey(key)
    };
    let banned = BanList::MAX + 10;
    for number in 0..banned {
        let (peer, rtt, reach) = (key(number), SECOND / 50, Default::default());
        steps.handle(Event::PeerJoined { peer, rtt, reach });
        let runs = vec![Run { start: 0, count: 1 }];
        steps.handle(Event::Has { peer, runs });
        let request = steps.poll()[0].id;
        steps.handle(Event::Corrupt { request });
        steps.actions();
    }
    let is_banned = |number: &usize| steps.download.banned.contains(&key(*number));
    let remembered: Vec<usize> = (0..banned).filter(is_banned).collect();
    assert_eq!(remembered, (10..banned).collect::<Vec<_>>());
}

#[test]
fn who_brings_a_third_of_what_others_do_is_slow_and_is_asked_after_them() {
    const FAST: u64 = 2_000_000;
    let content = chunks(400);
    let mut simulation = Simulation::new(&content, 1);
    for (n, rate) in (1..).zip([FAST, FAST, FAST, FAST / 2, FAST / 10]) {
        simulation.join_after(Duration::ZERO, n, Source::seed(&content, rate, 20));
    }
    simulation.run(1000 * SECOND).unwrap();
    let of = |n| simulation.asked().filter(|it| it.0 == key(n)).count();
    let standing = |n| simulation.download.standing(&key(n));
    assert_eq!(standing(5), Some(Standing::Slow));
    assert!((1..5).all(|n| standing(n) == Some(Standing::Good)));
    assert!(of(5) * 5 < of(1), "{} and {}", of(5), of(1));
    // What all have is asked of one that is fast, for as long as these have room.
    let now = simulation.now();
    let mut steps = Steps {
        download: simulation.download,
        now,
    };
    let runs = vec![Run { start: 7, count: 3 }];
    steps.handle(Event::Forgotten { runs });
    assert!(steps.poll().iter().all(|asked| asked.peer < key(4)));
}

impl Steps {
    /// What has been told of peers since this was last called.
    fn told(&mut self) -> Vec<(PublicKey, Standing)> {
        std::iter::from_fn(|| self.download.poll_standing()).collect()
    }
}

/// A peer that has so many chunks, and was asked for all of them.
fn asked_for(count: u32) -> (Steps, Vec<Asked>) {
    let mut steps = Steps::new(&chunks(count));
    steps.join(1, &[(0, count)]);
    let asked = steps.poll();
    assert_eq!(asked.len(), count as usize);
    (steps, asked)
}

/// Fails unless what befalls the only peer's request leads to a pause, which is told with its end and
/// ends then.
#[track_caller]
fn check_pause(befalls: fn(&mut Steps, &Asked), expected: fn(std::time::Instant) -> Standing) {
    let (mut steps, asked) = asked_for(1);
    befalls(&mut steps, &asked[0]);
    steps.actions();
    let until = steps.download.deadline().unwrap();
    assert!(until > steps.now);
    assert_eq!(steps.told(), [(key(1), expected(until))]);
    assert_eq!(steps.download.standing(&key(1)), Some(expected(until)));
    steps.now = until;
    assert_eq!(steps.poll().len(), 1);
    assert_eq!(steps.told(), [(key(1), Standing::Good)]);
}
