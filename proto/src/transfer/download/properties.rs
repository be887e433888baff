//! What holds whatever happens: events in any order, and any swarm that has all chunks.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::{Order, Reach};
use super::selections::selected;
use super::simulation::{Faults, Simulation, Source, chunks, key};
use super::{Action, Download, Event, RequestId, consistency};
use crate::content::{ChunkSet, Run};
use crate::id::PublicKey;
use crate::wire::NoReason;

const CHUNKS: u32 = 150;

#[derive(Clone, Debug)]
enum Op {
    Join(u8, u64, Reach),
    Move(u8, u64, Reach),
    Has(u8, Vec<Run>),
    Lacks(u8, Vec<Run>),
    Started(u8, Vec<Run>),
    Suggested(u8, Vec<Run>),
    Supplied(u8, bool),
    Expected(u64),
    Leave(u8),
    Received(usize, u32),
    Ends(usize, u8),
    Forgotten(Vec<Run>),
    Selected(Vec<u8>, Order),
    Budget(u64),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_order_of_events_confuses_it(
        seed: u64, ops in prop::collection::vec((any_op(), -50i32..3000), 1..150),
    ) {
        let have = ChunkSet::empty(CHUNKS);
        let mut download = Download::new(chunks(CHUNKS), have, seed);
        let start = Instant::now() + Duration::from_secs(1000);
        let (mut now, mut requests) = (start, 0);
        let mut suggested = consistency::Suggested::new();
        for (op, millis) in ops {
            now = match u64::try_from(millis) {
                Ok(millis) => now + Duration::from_millis(millis),
                Err(_) => now - Duration::from_millis(millis.unsigned_abs().into()),
            };
            let past_the_end = !op.is_in_range();
            suggested.extend(op.suggests());
            let refused = download.handle(now, op.event(now, requests)).is_err();
            prop_assert!(!refused || past_the_end);
            consistency::check(&download);
            while let Some(action) = download.poll(now) {
                requests += u64::from(matches!(action, Action::Request { .. }));
                consistency::check_choice(&download, &action, &suggested);
            }
            consistency::check(&download);
            prop_assert!(download.deadline().is_none_or(|deadline| deadline > now));
        }
    }

    #[test]
    fn a_swarm_with_all_chunks_completes(
        count in 1..100u32, seed: u64, budget in prop_oneof![1..500_000u64, Just(48 << 20)],
        honest in prop::collection::vec((any_speed(), any_reach(), 1..6u32), 1..4),
        others in prop::collection::vec((any_speed(), any_reach(), any_faults(), any_span()), 0..4),
        forgotten in prop::option::of((0..20_000u64, 0..100u32)),
        suggestions in prop::collection::vec((any::<u8>(), any_runs()), 0..20),
    ) {
        let content = chunks(count);
        let mut simulation = Simulation::new(&content, seed);
        // Every chunk has an honest holder: the first, or another that has each nth.
        for (n, ((bytes_per_s, rtt_ms), reach, every)) in (1..).zip(&honest) {
            let mut source = Source::seed(&content, *bytes_per_s, *rtt_ms);
            source.reach = *reach;
            let all = n == 1;
            source.has.retain(|_| all);
            let some = (0..count).step_by(*every as usize).map(|start| Run { start, count: 1 });
            source.has.extend(some.filter(|_| !all));
            simulation.join_after(Duration::ZERO, n, source);
        }
        for (n, ((bytes_per_s, rtt_ms), reach, faults, (joins, stays))) in (11..).zip(&others) {
            let (faults, reach) = (*faults, *reach);
            let source = Source { faults, reach, ..Source::seed(&content, *bytes_per_s, *rtt_ms) };
            let joins = Duration::from_millis(*joins);
            simulation.join_after(joins, n, source.clone());
            let leaves = joins + Duration::from_millis(*stays);
            simulation.tell_after(leaves, Event::PeerLeft { peer: key(n) });
            simulation.join_after(leaves + Duration::from_secs(5), n, source);
        }
        // Whoever it is, it suggests chunks again and again, had or not.
        for ((n, runs), again) in suggestions.into_iter().zip(1..) {
            let n = if n % 2 == 0 { 1 + n / 2 % 3 } else { 11 + n / 2 % 4 };
            let runs = runs.into_iter().filter(|run| run.count > 0 && run.start + run.count <= count);
            let runs = runs.collect();
            let event = Event::Suggested { peer: key(n), runs };
            simulation.tell_after(Duration::from_millis(500 * again), event);
        }
        if let Some((after, start)) = forgotten {
            let runs = vec![Run { start, count: 50 }];
            simulation.tell_after(Duration::from_millis(after), Event::Forgotten { runs });
        }
        simulation.tell_after(Duration::ZERO, Event::Budget { bytes: budget });
        prop_assert!(simulation.run(Duration::from_secs(4 * 3600)).is_some());
    }
}

impl Op {
    fn is_in_range(&self) -> bool {
        let (Op::Has(_, runs) | Op::Lacks(_, runs) | Op::Started(_, runs) | Op::Suggested(_, runs)) =
            self
        else {
            return true;
        };
        runs.iter()
            .all(|run| run.count > 0 && run.start + run.count <= CHUNKS)
    }

    fn suggests(&self) -> Vec<(PublicKey, u32)> {
        let (n, runs) = match self {
            Op::Suggested(n, runs) if self.is_in_range() => (*n, &runs[..]),
            _ => (0, &[][..]),
        };
        let chunks = runs.iter().flat_map(|run| run.start..run.start + run.count);
        chunks.map(|chunk| (key(n), chunk)).collect()
    }

    /// Requests are named by position among those there were, and one more.
    fn event(self, now: Instant, requests: u64) -> Event {
        let request = |n: usize| RequestId(n as u64 % (requests + 1));
        match self {
            Op::Join(n, rtt_ms, reach) => Event::PeerJoined {
                peer: key(n),
                rtt: Duration::from_millis(rtt_ms),
                reach,
            },
            Op::Move(n, rtt_ms, reach) => Event::PeerMoved {
                peer: key(n),
                rtt: Duration::from_millis(rtt_ms),
                reach,
            },
            Op::Has(n, runs) => Event::Has { peer: key(n), runs },
            Op::Lacks(n, runs) => Event::Lacks { peer: key(n), runs },
            Op::Started(n, runs) => Event::Started { peer: key(n), runs },
            Op::Suggested(n, runs) => Event::Suggested { peer: key(n), runs },
            Op::Supplied(n, supplied) => Event::Supplied {
                peer: key(n),
                supplied,
            },
            Op::Expected(ms) => Event::Expected {
                until: now + Duration::from_millis(ms),
            },
            Op::Leave(n) => Event::PeerLeft { peer: key(n) },
            Op::Received(n, bytes) => Event::Received {
                request: request(n),
                bytes,
            },
            Op::Ends(n, how) => ended(request(n), how),
            Op::Forgotten(runs) => Event::Forgotten { runs },
            Op::Selected(classes, order) => selected(&chunks(CHUNKS), &classes, order),
            Op::Budget(bytes) => Event::Budget { bytes },
        }
    }
}

fn ended(request: RequestId, how: u8) -> Event {
    let refused = |reason| Event::Refused { request, reason };
    match how {
        0 => Event::Corrupt { request },
        1 => refused(NoReason::NotHere),
        2 => refused(NoReason::Busy),
        3 => refused(NoReason::Changed),
        4 => refused(NoReason::Unknown),
        5 => Event::Failed { request },
        6 => Event::Withdrawn { request },
        _ => Event::Verified { request },
    }
}

fn any_op() -> impl Strategy<Value = Op> {
    let peer = || 0..5u8;
    let rtt = || prop_oneof![0..500u64, Just(u64::MAX)];
    let bytes = prop_oneof![0..100_000u32, Just(u32::MAX)];
    prop_oneof![
        2 => (peer(), rtt(), any_reach()).prop_map(|(n, rtt, reach)| Op::Join(n, rtt, reach)),
        1 => (peer(), rtt(), any_reach()).prop_map(|(n, rtt, reach)| Op::Move(n, rtt, reach)),
        4 => (peer(), any_runs()).prop_map(|(n, runs)| Op::Has(n, runs)),
        1 => (peer(), any_runs()).prop_map(|(n, runs)| Op::Lacks(n, runs)),
        2 => (peer(), any_runs()).prop_map(|(n, runs)| Op::Started(n, runs)),
        2 => (peer(), any_runs()).prop_map(|(n, runs)| Op::Suggested(n, runs)),
        1 => (peer(), any::<bool>()).prop_map(|(n, supplied)| Op::Supplied(n, supplied)),
        1 => (0..2000u64).prop_map(Op::Expected),
        1 => peer().prop_map(Op::Leave),
        4 => (any::<usize>(), bytes).prop_map(|(n, bytes)| Op::Received(n, bytes)),
        8 => (any::<usize>(), 0..20u8).prop_map(|(n, how)| Op::Ends(n, how)),
        1 => any_runs().prop_map(Op::Forgotten),
        1 => (any_classes(), any_order()).prop_map(|(it, order)| Op::Selected(it, order)),
        1 => prop_oneof![Just(0u64), 0..5_000_000u64, Just(u64::MAX)].prop_map(Op::Budget),
    ]
}

/// Priorities of runs of chunks; repeated over the share.
pub(super) fn any_classes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0..3u8, 1..40)
}

pub(super) fn any_order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::RarestFirst), Just(Order::Sequential)]
}

fn any_reach() -> impl Strategy<Value = Reach> {
    prop_oneof![Just(Reach::Direct), Just(Reach::Relayed)]
}

/// Mostly in range.
fn any_runs() -> impl Strategy<Value = Vec<Run>> {
    let run = prop_oneof![
        1 => Just(Run { start: 0, count: CHUNKS }),
        5 => (0..CHUNKS, 1..=CHUNKS).prop_map(|(start, count)| Run {
            start,
            count: count.min(CHUNKS - start),
        }),
        5 => (0..CHUNKS).prop_map(|start| Run { start, count: 1 }),
        1 => (0..2 * CHUNKS, 0..CHUNKS).prop_map(|(start, count)| Run { start, count }),
    ];
    prop::collection::vec(run, 0..4)
}

/// Bytes per second and round trip in milliseconds.
fn any_speed() -> impl Strategy<Value = (u64, u64)> {
    let rate = prop_oneof![Just(20_000u64), 100_000..2_000_000u64, Just(50_000_000)];
    (rate, prop_oneof![Just(0u64), 1..400u64])
}

fn any_faults() -> impl Strategy<Value = Faults> {
    let often = || prop_oneof![Just(0.0), Just(0.05), Just(0.5), Just(1.0)];
    (often(), often(), often(), often(), often()).prop_map(
        |(corrupt, silent, busy, fails, lies)| Faults {
            corrupt,
            silent,
            busy,
            fails,
            lies,
        },
    )
}

/// When a peer joins and how long it stays, in milliseconds.
fn any_span() -> impl Strategy<Value = (u64, u64)> {
    (0..10_000u64, 0..30_000u64)
}
