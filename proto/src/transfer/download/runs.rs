//! What a download does in runs that everyone would call ordinary, and in some that are not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::Reach;
use super::simulation::{CHUNK_BYTES, Faults, Simulation, Source, chunks, key, share};
use super::{Action, Event, RequestId};
use crate::content::{Content, Run};
use crate::id::PublicKey;

const MIB: u64 = 1 << 20;
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn two_equal_seeds_share_the_load() {
    let content = share(32 * MIB);
    let mut simulation = swarm(&content, &[(4 * MIB, 40), (4 * MIB, 40)]);
    let took = simulation.run(HOUR).unwrap();
    assert_within(took, 1.15, 32.0 / 8.0);
    let halves = simulation
        .sent
        .values()
        .map(|sent| *sent as f64 / content.size as f64);
    assert!(halves.into_iter().all(|half| (0.45..0.55).contains(&half)));
}

#[test]
fn unequal_sources_are_all_used_up_to_the_end() {
    let content = share(64 * MIB);
    let speeds = [(8 * MIB, 10), (4 * MIB, 80), (MIB, 30), (MIB / 2, 300)];
    let mut simulation = swarm(&content, &speeds);
    let took = simulation.run(HOUR).unwrap();
    assert_within(took, 1.15, 64.0 / 13.5);
}

#[test]
fn a_long_way_is_filled_by_a_large_window() {
    let content = share(128 * MIB);
    let mut simulation = swarm(&content, &[(20 * MIB, 200)]);
    let took = simulation.run(HOUR).unwrap();
    assert_within(took, 1.25, 128.0 / 20.0);
}

#[test]
fn many_slow_peers_do_not_keep_a_fast_one_waiting_for_budget() {
    let content = share(64 * MIB);
    let speeds: Vec<_> = [(8 * MIB, 30)]
        .into_iter()
        .chain([(MIB / 8, 60); 19])
        .collect();
    let bytes = 12 * u64::from(CHUNK_BYTES);
    let mut simulation = Simulation::new(&content, 7);
    simulation.tell_after(Duration::ZERO, Event::Budget { bytes });
    join_all(&mut simulation, &content, &speeds);
    let took = simulation.run(HOUR).unwrap();
    assert_within(took, 1.15, 64.0 / 8.6);
}

#[test]
fn copies_are_few_whatever_the_sources() {
    let speeds: [&[(u64, u64)]; 6] = [
        &[(MIB, 20), (MIB, 20)],
        &[(8 * MIB, 10), (MIB, 100)],
        &[(20 * MIB, 5), (20 * MIB, 150), (MIB / 4, 30)],
        &[(2 * MIB, 10); 8],
        &[(MIB, 300), (3 * MIB, 30), (9 * MIB, 3)],
        &[(50 * MIB, 1), (100_000, 50), (100_000, 50), (100_000, 50)],
    ];
    for speeds in speeds {
        let mut simulation = swarm(&share(32 * MIB), speeds);
        assert!(simulation.run(HOUR).is_some());
        let overhead = simulation.overhead();
        assert!((0.0..0.05).contains(&overhead), "{speeds:?}: {overhead}");
    }
}

#[test]
fn the_last_chunks_of_a_slow_peer_are_copied_and_the_late_copy_cancelled() {
    let content = share(16 * MIB);
    let mut simulation = swarm(&content, &[(8 * MIB, 20), (20_000, 20)]);
    let took = simulation.run(HOUR).unwrap();
    // The window of the slow one is 1 MiB, for which alone it would need 50 seconds.
    assert_within(took, 1.1, 16.0 / 8.0);
    let late = cancelled(&simulation);
    assert!(late.iter().all(|peer| *peer == key(2)) && !late.is_empty());
}

#[test]
fn a_peer_that_falls_silent_is_replaced() {
    let content = share(16 * MIB);
    let mut dying = Source::seed(&content, 4 * MIB, 20);
    dying.dies = Some(Duration::from_secs(1));
    let mut simulation = Simulation::new(&content, 1)
        .with(1, dying)
        .with(2, Source::seed(&content, MIB, 20));
    let took = simulation.run(HOUR).unwrap();
    assert_within(took, 1.2, 12.0);
    let lost: BTreeSet<u32> = open_requests(&simulation, key(1));
    assert!(!lost.is_empty());
    let asked: BTreeSet<(PublicKey, u32)> = simulation.asked().collect();
    assert!(
        lost.into_iter()
            .all(|chunk| asked.contains(&(key(2), chunk)))
    );
}

#[test]
fn the_only_holder_is_asked_again_after_a_stall() {
    let content = chunks(20);
    let faults = Faults {
        silent: 0.2,
        ..Faults::default()
    };
    let source = Source {
        faults,
        ..Source::seed(&content, MIB, 20)
    };
    let mut simulation = Simulation::new(&content, 3).with(1, source);
    assert!(simulation.run(HOUR).is_some());
    assert!(!cancelled(&simulation).is_empty(), "nothing stalled");
}

#[test]
fn a_corrupt_peer_is_asked_for_nothing_after_its_ban_even_if_it_comes_again() {
    let content = share(8 * MIB);
    let faults = Faults {
        corrupt: 0.1,
        ..Faults::default()
    };
    let source = Source {
        faults,
        ..Source::seed(&content, 4 * MIB, 20)
    };
    let mut simulation = Simulation::new(&content, 1)
        .with(1, source.clone())
        .with(2, Source::seed(&content, MIB, 20));
    for again in 1..8 {
        simulation.join_after(Duration::from_secs(again), 1, source.clone());
    }
    assert!(simulation.run(HOUR).is_some());
    let log = &simulation.log;
    let ban = Action::Ban { peer: key(1) };
    let ban = log.iter().position(|(_, action)| *action == ban).unwrap();
    let asks_it =
        |action: &Action| matches!(action, Action::Request { peer, .. } if *peer == key(1));
    assert!(log[..ban].iter().any(|(_, action)| asks_it(action)));
    assert!(!log[ban..].iter().any(|(_, action)| asks_it(action)));
}

#[test]
fn a_relay_carries_nothing_that_a_direct_source_has() {
    let content = share(32 * MIB);
    // However slow the direct one is, and however many there are through the relay.
    let mut simulation = Simulation::new(&content, 7).with(1, Source::seed(&content, MIB / 2, 200));
    for n in 2..6 {
        simulation = simulation.with(n, relayed(&content, 20 * MIB));
    }
    assert_within(simulation.run(HOUR).unwrap(), 1.1, 64.0);
    assert_eq!(relayed_bytes(&simulation), 0);
}

#[test]
fn what_only_a_relayed_peer_has_is_fetched_from_it() {
    let content = chunks(100);
    let mut direct = Source::seed(&content, MIB, 20);
    direct.has = vec![
        Run {
            start: 0,
            count: 40,
        },
        Run {
            start: 41,
            count: 50,
        },
    ];
    let mut simulation = Simulation::new(&content, 7)
        .with(1, direct)
        .with(2, relayed(&content, 20 * MIB));
    assert!(simulation.run(HOUR).is_some());
    let of_relayed = simulation.asked().filter(|(peer, _)| *peer == key(2));
    let of_relayed: BTreeSet<u32> = of_relayed.map(|(_, chunk)| chunk).collect();
    assert_eq!(of_relayed, [40].into_iter().chain(91..100).collect());
}

#[test]
fn direct_leeches_that_have_it_all_between_them_leave_the_relay_idle() {
    let content = chunks(120);
    let mut simulation = Simulation::new(&content, 7);
    for n in 0..3u8 {
        let mut leech = Source::seed(&content, MIB, 20);
        let start = u32::from(n) * 40;
        leech.has = vec![Run { start, count: 40 }];
        simulation = simulation.with(n + 1, leech);
    }
    simulation = simulation.with(9, relayed(&content, 20 * MIB));
    assert!(simulation.run(HOUR).is_some());
    assert_eq!(relayed_bytes(&simulation), 0);
}

#[test]
fn the_relay_takes_over_from_a_direct_peer_that_leaves_and_gives_way_to_one_that_comes() {
    let content = share(16 * MIB);
    let second = Duration::from_secs(1);
    let mut simulation = Simulation::new(&content, 7)
        .with(1, Source::seed(&content, MIB, 20))
        .with(2, relayed(&content, 2 * MIB));
    simulation.tell_after(4 * second, Event::PeerLeft { peer: key(1) });
    simulation.join_after(6 * second, 1, Source::seed(&content, MIB, 20));
    // Four seconds of one, two of the other and what it had been asked for by then, a megabyte, then
    // the rest.
    assert_within(simulation.run(HOUR).unwrap(), 1.1, 13.0);
    let relayed = relayed_bytes(&simulation);
    assert!((4 * MIB - MIB / 2..7 * MIB).contains(&relayed), "{relayed}");
}

#[test]
fn a_peer_that_is_reached_directly_at_last_is_asked_for_everything() {
    let content = share(16 * MIB);
    let mut simulation = Simulation::new(&content, 7)
        .with(1, relayed(&content, MIB))
        .with(2, relayed(&content, MIB));
    let (peer, rtt, reach) = (key(2), Duration::from_millis(20), Reach::Direct);
    let moved = Event::PeerMoved { peer, rtt, reach };
    simulation.tell_after(Duration::from_secs(2), moved);
    assert!(simulation.run(HOUR).is_some());
    let sent = &simulation.sent;
    // Two seconds, and what had been asked by then.
    assert!(
        sent[&key(1)] < 4 * MIB && sent[&key(2)] > 12 * MIB,
        "{sent:?}"
    );
}

#[test]
fn a_direct_peer_that_only_says_it_has_it_does_not_keep_the_relay_away() {
    for faults in [
        Faults {
            busy: 1.0,
            ..Faults::default()
        },
        Faults {
            fails: 1.0,
            ..Faults::default()
        },
        Faults {
            silent: 1.0,
            ..Faults::default()
        },
        Faults {
            lies: 1.0,
            ..Faults::default()
        },
    ] {
        let content = chunks(60);
        let liar = Source {
            faults,
            ..Source::seed(&content, MIB, 20)
        };
        let mut simulation = Simulation::new(&content, 7)
            .with(1, liar)
            .with(2, relayed(&content, MIB));
        let took = simulation.run(HOUR).unwrap();
        assert!(took < Duration::from_secs(120), "{faults:?}: {took:?}");
    }
}

#[test]
fn a_withdrawn_request_is_asked_again_at_once() {
    let content = chunks(1);
    let have = crate::content::ChunkSet::empty(1);
    let mut download = super::Download::new(content, have, 1);
    let (now, peer, rtt) = (std::time::Instant::now(), key(1), Duration::from_millis(20));
    let runs = vec![Run { start: 0, count: 1 }];
    let reach = Reach::Relayed;
    let _ = download.handle(now, Event::PeerJoined { peer, rtt, reach });
    let _ = download.handle(now, Event::Has { peer, runs });
    let asked = |action| match action {
        Some(Action::Request { request, .. }) => request,
        other => panic!("{other:?}"),
    };
    let request = asked(download.poll(now));
    let _ = download.handle(now, Event::Withdrawn { request });
    assert!(asked(download.poll(now)) > request);
}

#[test]
fn the_same_seed_replays_and_another_does_not() {
    let log = |seed| {
        let content = chunks(200);
        let faults = Faults {
            busy: 0.1,
            fails: 0.1,
            silent: 0.01,
            ..Faults::default()
        };
        let source = Source {
            faults,
            ..Source::seed(&content, MIB, 30)
        };
        let mut simulation = Simulation::new(&content, seed)
            .with(1, source.clone())
            .with(2, source);
        simulation.run(HOUR).unwrap();
        simulation.log
    };
    assert_eq!(log(1), log(1));
    assert_ne!(log(1), log(2));
}

fn swarm(content: &Arc<Content>, speeds: &[(u64, u64)]) -> Simulation {
    let mut simulation = Simulation::new(content, 7);
    join_all(&mut simulation, content, speeds);
    simulation
}

fn join_all(simulation: &mut Simulation, content: &Content, speeds: &[(u64, u64)]) {
    for (n, (bytes_per_s, rtt_ms)) in (1..).zip(speeds) {
        let source = Source::seed(content, *bytes_per_s, *rtt_ms);
        simulation.join_after(Duration::ZERO, n, source);
    }
}

/// A seed behind a relay.
fn relayed(content: &Content, bytes_per_s: u64) -> Source {
    Source {
        reach: Reach::Relayed,
        ..Source::seed(content, bytes_per_s, 20)
    }
}

/// What was sent through the relay.
fn relayed_bytes(simulation: &Simulation) -> u64 {
    let sent = simulation.sent.iter();
    let sent = sent.filter(|(peer, _)| simulation.reach_of(peer) == Some(Reach::Relayed));
    sent.map(|(_, bytes)| bytes).sum()
}

fn requests(simulation: &Simulation) -> BTreeMap<RequestId, (PublicKey, u32)> {
    let request = |(_, action): &(Duration, Action)| match action {
        Action::Request {
            request,
            peer,
            chunk,
            ..
        } => Some((*request, (*peer, chunk.value()))),
        Action::Cancel { .. } | Action::Ban { .. } => None,
    };
    simulation.log.iter().filter_map(request).collect()
}

/// Whose requests were cancelled, in order.
fn cancelled(simulation: &Simulation) -> Vec<PublicKey> {
    let requests = requests(simulation);
    let cancelled = |(_, action): &(Duration, Action)| match action {
        Action::Cancel { request } => Some(requests[request].0),
        Action::Request { .. } | Action::Ban { .. } => None,
    };
    simulation.log.iter().filter_map(cancelled).collect()
}

/// Chunks asked of a peer that were cancelled.
fn open_requests(simulation: &Simulation, peer: PublicKey) -> BTreeSet<u32> {
    let requests = requests(simulation);
    let chunk = |(_, action): &(Duration, Action)| match action {
        Action::Cancel { request } => Some(requests[request]).filter(|(asked, _)| *asked == peer),
        Action::Request { .. } | Action::Ban { .. } => None,
    };
    let chunks = simulation.log.iter().filter_map(chunk);
    chunks.map(|(_, chunk)| chunk).collect()
}

#[track_caller]
fn assert_within(took: Duration, factor: f64, bound_s: f64) {
    let ratio = took.as_secs_f64() / bound_s;
    assert!(
        (1.0..factor).contains(&ratio),
        "{took:?} is {ratio} of {bound_s} s"
    );
}
