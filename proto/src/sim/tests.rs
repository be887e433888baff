//! What a simulated swarm does, and with it the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::transfer::engine::Engine;

/// Bytes per second.
const UP: f64 = 1e6;

#[test]
fn one_chunk_takes_its_time_on_the_line_and_three_ways_of_the_path() {
    // Half a round trip for the greeting, half for the request, the bytes, half for the last of
    // them; then a millisecond and a nanosecond a byte for the verdict.
    let outcome = run(&plan(
        vec![Member::seed(UP, UP), Member::new(UP, UP)],
        1,
        100_000,
    ));
    let expected = Duration::from_millis(3 * 25 + 100 + 1) + Duration::from_nanos(100_000);
    assert_eq!(outcome.last(), Some(expected));
    assert_eq!(
        (
            outcome.seed_bytes,
            outcome.payload_bytes,
            outcome.wasted_bytes
        ),
        (100_000, 100_000, 0)
    );
}

#[test]
fn the_slowest_link_of_a_path_bounds_it() {
    let path = |up, down, loss| {
        let plan = plan(
            vec![Member::seed(up, UP), Member::new(UP, down)],
            10,
            100_000,
        );
        run(&Plan { loss, ..plan }).last().unwrap().as_secs_f64()
    };
    let at = |rate: f64| 1e6 / rate;
    assert_near(path(UP, 5e6, 0.0), at(UP));
    assert_near(path(UP, 4e5, 0.0), at(4e5));
    // 1.22 x 1,452 / (50 ms x sqrt(0.01)) = 354 kB/s.
    assert_near(path(UP, 5e6, 0.01), at(354_288.0));
}

#[test]
fn the_same_plan_gives_the_same_run_and_another_seed_another() {
    let trace = |seed| {
        let mut plan = Scenario::named("churn").unwrap().plan(seed, 70, 20, 65_536);
        plan.rtt_spread = 0.5;
        let outcome = run(&plan);
        (outcome.trace, outcome.finished, outcome.letters)
    };
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1).0, trace(2).0);
}

#[test]
fn small_swarms_come_near_to_the_bound() {
    check_ratio("eight", 8, 200, 1.25);
    check_ratio("four-seeds", 1, 200, 1.05);
    check_ratio("twenty", 20, 200, RATIO_OF_TWENTY);
}

/// To be lowered as the engine gets better; what it bounds is one draw of chance. The aim for the
/// whole share of 2,048 chunks is 1.12.
const RATIO_OF_TWENTY: f64 = 2.4;

#[test]
fn nobody_honest_is_banned_and_everybody_honest_finishes() {
    let scenario = Scenario::named("malicious").unwrap();
    let outcome = run(&scenario.plan(1, 20, 300, 65_536));
    assert!(outcome.last().is_some(), "{outcome:?}");
    assert!(
        outcome.bans > 0 && outcome.unjust_bans == 0,
        "{} bans",
        outcome.bans
    );
    let waste = outcome.part(outcome.wasted_bytes);
    assert!(waste <= 0.03, "{waste} of what came was wasted");
}

#[test]
fn who_cannot_be_reached_directly_is_reached_through_the_relay_or_not_at_all() {
    let blocked = Member {
        class: Class::Blocked,
        ..Member::new(UP, UP)
    };
    let plan = plan(
        vec![Member::seed(UP, UP), Member::new(UP, UP), blocked],
        20,
        65_536,
    );
    let relayed = run(&Plan {
        relay: UP / 2.0,
        ..plan.clone()
    });
    assert_eq!(
        relayed.relayed_bytes,
        20 * 65_536,
        "the blocked one's, once"
    );
    let alone = run(&Plan {
        patience: Duration::from_secs(60),
        ..plan
    });
    let unfinished: Vec<bool> = alone.finished.iter().map(Option::is_none).collect();
    assert_eq!((unfinished, alone.relayed_bytes), (vec![false, true], 0));
}

#[test]
fn a_seed_that_leaves_has_given_everything_before() {
    for seed in 1..4 {
        let scenario = Scenario::named("seed-leaves").unwrap();
        let outcome = run(&scenario.plan(seed, 20, 200, 65_536));
        assert!(outcome.last().is_some(), "somebody lacks a chunk");
        let ratio = outcome.seed_ratio();
        assert!((1.099..1.11).contains(&ratio), "it leaves at 1.1: {ratio}");
    }
}

#[test]
fn a_seed_that_leaves_when_others_have_everything_between_them_is_not_missed() {
    for seed in 1..4 {
        let scenario = Scenario::named("seed-leaves").unwrap();
        let mut plan = scenario.plan(seed, 20, 100, 65_536);
        plan.peers[0].sends_at_most = None;
        plan.peers[0].leaves_when_copied = true;
        // Otherwise all have everything before it has sent much more than once what there is.
        plan.peers[0].up *= 8.0;
        let outcome = run(&plan);
        assert!(outcome.last().is_some(), "somebody lacks a chunk");
        assert!(outcome.seed_ratio() <= 1.1, "{}", outcome.seed_ratio());
        plan.peers[0].leaves_when_copied = false;
        assert!(run(&plan).seed_bytes > outcome.seed_bytes, "it never left");
    }
}

#[test]
fn beyond_its_full_mesh_a_tracker_connects_each_with_few() {
    #[derive(Default)]
    struct Watch(BTreeMap<u32, BTreeSet<u32>>);
    impl Observer for Watch {
        fn told(&mut self, _: Duration, from: u32, to: u32, _: &dyn Debug) {
            self.0.entry(from).or_default().insert(to);
        }
    }
    let mut peers = vec![Member::new(UP, UP); 15];
    peers[14] = Member::seed(UP, UP);
    let (plan, shape) = (plan(peers, 10, 65_536), Shape::new(8, 4));
    for (topology, most) in [
        (Topology::Tracker(Shape::default()), 14),
        (Topology::Tracker(shape), shape.most()),
    ] {
        let mut watch = Watch::default();
        let plan = Plan {
            topology,
            ..plan.clone()
        };
        let outcome = run_before(&plan, &mut watch);
        assert!(outcome.last().is_some());
        let neighbours = watch.0.values().map(BTreeSet::len).max();
        assert!(neighbours <= Some(most), "{neighbours:?}");
        assert!(neighbours > Some(most / 2));
    }
}

#[test]
fn a_chunk_that_left_with_its_only_holder_is_never_had() {
    let mut seed = Member::seed(UP, UP);
    seed.sends_at_most = Some(0.5);
    let mut plan = plan(vec![seed, Member::new(UP, UP)], 10, 65_536);
    plan.patience = Duration::from_secs(60);
    let outcome = run(&plan);
    assert_eq!(
        (outcome.last(), outcome.last_ratio()),
        (None, f64::INFINITY)
    );
}

#[test]
fn engines_are_made_for_threads() {
    fn is_send<T: Send>() {}
    is_send::<Engine>();
    is_send::<Job<'_>>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The first peer is there all the time, does nothing wrong, can be reached by all, and is to have
    /// everything; with it, all chunks are among those that stay and do nothing wrong.
    #[test]
    fn a_swarm_with_all_chunks_always_finishes(
        seed: u64, chunks in 1..40u32,
        (chunk_bytes, rtt_ms) in (prop_oneof![Just(20_000u32), Just(65_536), Just(300_000)], 0..300u64),
        spread in prop_oneof![Just(0.0), Just(0.9)],
        (holders, holder_speeds) in (1..4u32, prop::collection::vec(any_speeds(), 4)),
        leeches in prop::collection::vec((any_speeds(), any_class()), 0..5),
        others in prop::collection::vec((any_speeds(), any_class(), any_fault(), any_presence()), 0..5),
        (relay, budget) in (prop_oneof![Just(0.0), Just(2e5)], prop::option::of(1..3_000_000u64)),
    ) {
        let mut peers: Vec<Member> = Vec::new();
        for (rest, (up, down)) in (0..holders).zip(&holder_speeds) {
            let has = Has::Some { every: holders, rest };
            peers.push(Member { has, ..Member::new(*up, *down) });
        }
        for ((up, down), class) in leeches {
            peers.push(Member { class, ..Member::new(up, down) });
        }
        for ((up, down), class, fault, presence) in others {
            let has = if fault == Fault::None { Has::Nothing } else { Has::Everything };
            peers.push(Member { class, fault, presence, has, ..Member::new(up, down) });
        }
        let plan = Plan {
            seed, relay, budget,
            rtt: Duration::from_millis(rtt_ms),
            rtt_spread: spread,
            patience: Duration::from_secs(4 * 3600),
            ..plan(peers, chunks, chunk_bytes)
        };
        let outcome = run(&plan);
        prop_assert!(outcome.last().is_some(), "{:?} of {plan:?}", outcome.finished);
        prop_assert_eq!(outcome.unjust_bans, 0);
        let (last, limit) = (outcome.last().unwrap(), outcome.bound.limit());
        prop_assert!(last >= limit.mul_f64(0.999), "faster than can be: {last:?} of {limit:?}");
    }

    /// All chunks are among those who stay, or come to be before their holders leave; and those who stay
    /// are connected with each other, each to few, as they would be in a swarm of thousands.
    #[test]
    fn so_does_one_in_which_each_knows_a_few_others_and_holders_leave(
        seed: u64, chunks in 1..30u32,
        (chunk_bytes, rtt_ms) in (prop_oneof![Just(20_000u32), Just(65_536)], 0..300u64),
        topology in any_thin_topology(),
        stay in prop::collection::vec(any_speeds(), 10..16),
        holders in prop::collection::vec((any_speeds(), any::<bool>()), 1..4),
        others in prop::collection::vec((any_speeds(), any_fault(), any_presence()), 0..5),
    ) {
        let mut peers: Vec<Member> = Vec::new();
        peers.extend(stay.iter().map(|(up, down)| Member::new(*up, *down)));
        let core = peers.len() as u32;
        let every = holders.len() as u32;
        for (rest, ((up, down), leaves_when_copied)) in (0..).zip(holders) {
            let has = Has::Some { every, rest };
            peers.push(Member { has, leaves_when_copied, ..Member::new(up, down) });
        }
        let topology = match topology {
            Topology::Random { links, .. } => Topology::Random { links, core },
            tracker => tracker,
        };
        // A tracker may make some a peer's only neighbours who do wrong.
        let may_do_wrong = matches!(topology, Topology::Random { .. });
        for ((up, down), fault, presence) in others {
            let fault = if may_do_wrong { fault } else { Fault::None };
            let has = if fault == Fault::None { Has::Nothing } else { Has::Everything };
            peers.push(Member { fault, presence, has, ..Member::new(up, down) });
        }
        let plan = Plan {
            seed, topology,
            rtt: Duration::from_millis(rtt_ms),
            patience: Duration::from_secs(4 * 3600),
            ..plan(peers, chunks, chunk_bytes)
        };
        let outcome = run(&plan);
        prop_assert!(outcome.last().is_some(), "{:?} of {plan:?}", outcome.finished);
        prop_assert_eq!(outcome.unjust_bans, 0);
    }
}

/// Everybody knows few others: as a tracker has it beyond 8 members, or at random.
fn any_thin_topology() -> impl Strategy<Value = Topology> {
    let random = (1..3u32).prop_map(|links| Topology::Random { links, core: 0 });
    prop_oneof![Just(Topology::Tracker(Shape::new(8, 4))), random]
}

fn any_speeds() -> impl Strategy<Value = (f64, f64)> {
    let speed = || prop_oneof![Just(2e4), 1e5..2e6, Just(2e7)];
    (speed(), speed())
}

fn any_class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Open), Just(Class::Easy), Just(Class::Hard)]
}

fn any_fault() -> impl Strategy<Value = Fault> {
    use Fault::{Corrupts, Lies, Misleads, Refuses, Stalls};
    let faults = [Corrupts, Lies, Misleads, Refuses, Stalls];
    prop_oneof![1 => Just(Fault::None), 2 => prop::sample::select(faults.to_vec())]
}

/// It comes, goes, comes back perhaps with nothing, and goes again or stays.
fn any_presence() -> impl Strategy<Value = Vec<(Duration, Change)>> {
    let back = prop_oneof![Just(Change::Comes), Just(Change::ComesEmpty)];
    let steps = (0..20_000u64, 1..20_000u64, 1000..20_000u64, 1..20_000u64);
    (steps, back, 1..5usize).prop_map(|((comes, stays, away, again), back, count)| {
        let times = [
            comes,
            comes + stays,
            comes + stays + away,
            comes + stays + away + again,
        ];
        let changes = [Change::Comes, Change::Goes, back, Change::Goes];
        let times = times.map(Duration::from_millis);
        times.into_iter().zip(changes).take(count).collect()
    })
}

fn plan(peers: Vec<Member>, chunks: u32, chunk_bytes: u32) -> Plan {
    let base = Scenario::named("equal")
        .unwrap()
        .plan(1, 1, chunks, chunk_bytes);
    Plan {
        peers,
        tick: Duration::ZERO,
        ..base
    }
}

#[track_caller]
fn check_ratio(name: &str, leeches: u32, chunks: u32, most: f64) {
    let scenario = Scenario::named(name).unwrap();
    let outcome = run(&scenario.plan(1, leeches, chunks, scenario.chunk_bytes));
    let ratio = outcome.last_ratio();
    assert!(
        (1.0..=most).contains(&ratio),
        "{name}: {ratio} of the least time"
    );
}

/// The last byte comes then, but for the ways of the path and the verdict.
#[track_caller]
fn assert_near(found: f64, line: f64) {
    assert!(
        (line..line + 0.2).contains(&found),
        "{found} s, of which {line} s on the line"
    );
}
