//! When a relay is left alone although what it leads to is wanted.

use std::time::Duration;

use super::super::Reach;
use super::Event;
use super::simulation::{chunks, key};
use super::steps::Steps;
use crate::content::Run;

/// Of the peers below: a seed behind a relay, and a leech that is reached directly.
const SEED: u8 = 1;
const LEECH: u8 = 2;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn nothing_comes_by_relay_while_a_direct_peer_is_supplied_and_has_ever_more() {
    let mut steps = begun();
    supply(&mut steps, true);
    for chunk in 0..40 {
        assert_eq!(asked_of(&mut steps, SEED), 0, "after {chunk} chunks");
        steps.now += 4 * SECOND;
        steps.tell(LEECH, &[(chunk, 1)]);
        let asked = steps.poll();
        assert_eq!(asked.len(), 1);
        assert_eq!((asked[0].peer, asked[0].chunk), (key(LEECH), chunk));
        steps.verify(&asked[0]);
    }
    assert!(steps.download.is_complete());
}

#[test]
fn the_relay_is_used_when_a_supplied_peer_has_nothing_more_for_seconds() {
    let mut steps = begun();
    supply(&mut steps, true);
    assert_eq!(asked_of(&mut steps, SEED), 0);
    assert_eq!(steps.sleep(), 5 * SECOND);
    assert!(asked_of(&mut steps, SEED) > 1);
}

#[test]
fn saying_it_again_prolongs_nothing() {
    let mut steps = begun();
    supply(&mut steps, true);
    steps.now += 3 * SECOND;
    supply(&mut steps, true);
    steps.tell(LEECH, &[]);
    steps.now += 2 * SECOND;
    assert!(asked_of(&mut steps, SEED) > 1);
}

#[test]
fn who_says_it_again_and_again_and_brings_nothing_keeps_nobody_off_the_relay() {
    let toggle: fn(&mut Steps) = |steps| {
        supply(steps, false);
        supply(steps, true);
    };
    let tease: fn(&mut Steps) = |steps| {
        let (peer, runs) = (key(LEECH), vec![Run { start: 0, count: 1 }]);
        steps.handle(Event::Lacks { peer, runs });
        steps.tell(LEECH, &[(0, 1)]);
    };
    for again in [toggle, tease] {
        let mut steps = begun();
        supply(&mut steps, true);
        // What it says it has, and never gives, is not wanted here.
        steps.handle(Event::Budget { bytes: 0 });
        for _ in 0..7 {
            again(&mut steps);
            steps.now += 4 * SECOND;
        }
        steps.now += 2 * SECOND;
        again(&mut steps);
        steps.handle(Event::Budget { bytes: u64::MAX });
        assert!(asked_of(&mut steps, SEED) > 1);
        // Much later it is believed once more.
        let mut steps = begun();
        supply(&mut steps, true);
        steps.now += 301 * SECOND;
        again(&mut steps);
        assert_eq!(asked_of(&mut steps, SEED), 0);
    }
}

#[test]
fn the_relay_is_used_at_once_when_there_is_no_supplied_peer_any_more() {
    let ways: [fn(&mut Steps); 3] = [
        |steps| supply(steps, false),
        |steps| steps.handle(Event::PeerLeft { peer: key(LEECH) }),
        |steps| {
            let (peer, rtt, reach) = (key(LEECH), SECOND, Reach::Relayed);
            steps.handle(Event::PeerMoved { peer, rtt, reach });
        },
    ];
    for way in ways {
        let mut steps = begun();
        supply(&mut steps, true);
        assert_eq!(asked_of(&mut steps, SEED), 0);
        way(&mut steps);
        assert!(asked_of(&mut steps, SEED) > 1);
    }
}

#[test]
fn who_has_something_by_a_relay_alone_is_not_supplied() {
    let mut steps = begun();
    assert!(!steps.download.is_supplied());
    // Somebody who is reached directly has part, and then all.
    steps.join(3, &[(0, 39)]);
    assert!(!steps.download.is_supplied());
    steps.tell(3, &[(39, 1)]);
    assert!(steps.download.is_supplied());
    steps.handle(Event::PeerLeft { peer: key(3) });
    assert!(!steps.download.is_supplied());
}

#[test]
fn two_who_reach_the_seed_by_a_relay_alone_do_not_wait_for_each_other() {
    let mut steps = begun();
    supply(&mut steps, false);
    assert!(asked_of(&mut steps, SEED) > 1);
    steps.tell(LEECH, &[(0, 5)]);
    assert!(!steps.download.is_supplied());
    steps.now += SECOND / 10;
    let asked = steps.poll();
    assert!(asked.iter().all(|it| it.peer == key(LEECH)), "{asked:?}");
}

#[test]
fn while_direct_peers_are_expected_one_chunk_at_a_time_comes_by_relay() {
    let mut steps = begun();
    let until = steps.now + SECOND;
    steps.handle(Event::Expected { until });
    let first = steps.poll();
    assert_eq!(first.len(), 1);
    assert_eq!(asked_of(&mut steps, SEED), 0);
    steps.now = until;
    assert!(asked_of(&mut steps, SEED) > 1);
    let mut steps = begun();
    steps.handle(Event::Expected { until });
    let first = steps.poll();
    steps.verify(&first[0]);
    assert_eq!(asked_of(&mut steps, SEED), 1);
}

/// The seed has 40 chunks, the leech none.
fn begun() -> Steps {
    let mut steps = Steps::new(&chunks(40));
    steps.join_by(SEED, Reach::Relayed, &[(0, 40)]);
    steps.join(LEECH, &[]);
    steps
}

fn supply(steps: &mut Steps, supplied: bool) {
    let peer = key(LEECH);
    steps.handle(Event::Supplied { peer, supplied });
}

/// How many requests go to a peer now.
fn asked_of(steps: &mut Steps, peer: u8) -> usize {
    let asked = steps.poll();
    asked.iter().filter(|it| it.peer == key(peer)).count()
}
