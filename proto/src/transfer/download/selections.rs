//! What a selection does to a download: nothing unselected is asked, nothing selected is left, and
//! what is read soon comes first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::selection::tests::{of_chunks, tree_of};
use super::super::{Order, Priority, Reach, Selection};
use super::properties::{any_classes, any_order};
use super::simulation::{CHUNK_BYTES, Simulation, Source, chunks, key};
use super::steps::Steps;
use super::{Action, Download, Event, RequestId};
use crate::content::{ChunkSet, Content, Run};

const HOUR: Duration = Duration::from_secs(3600);
const MIB: u64 = 1 << 20;

#[test]
fn only_what_is_selected_is_asked_for_and_that_is_all_there_is() {
    let mut steps = Steps::new(&chunks(6));
    steps.handle(selected(&chunks(6), &[0, 1, 0], Order::RarestFirst));
    steps.join(1, &[(0, 6)]);
    let asked = steps.poll();
    let which: BTreeSet<u32> = asked.iter().map(|it| it.chunk).collect();
    assert_eq!(which, BTreeSet::from([1, 4]));
    asked.iter().for_each(|it| steps.verify(it));
    let download = &steps.download;
    assert!(download.is_complete() && !download.has_everything() && !download.has_source());
    assert_eq!(download.verified_bytes(), 2 * u64::from(CHUNK_BYTES));
}

#[test]
fn what_is_no_longer_selected_is_cancelled_and_what_has_come_stays() {
    let mut steps = Steps::new(&chunks(4));
    steps.join(1, &[(0, 4)]);
    let asked = steps.poll();
    steps.verify(&asked[0]);
    let kept = asked[1].chunk;
    let only = of_chunks(&chunks(4).layout, Order::RarestFirst, |it| match it {
        it if it == kept => Priority::Normal,
        _ => Priority::Skip,
    });
    let selection = Arc::new(only);
    steps.handle(Event::Selected { selection });
    let cancelled = cancelled(steps.actions());
    assert_eq!(cancelled, BTreeSet::from([asked[2].id, asked[3].id]));
    steps.verify(&asked[1]);
    assert!(steps.download.is_complete());
    assert_eq!(steps.download.have().count(), 2);
    steps.handle(selected(&chunks(4), &[1], Order::RarestFirst));
    let rest: BTreeSet<u32> = steps.poll().iter().map(|it| it.chunk).collect();
    assert_eq!(rest, BTreeSet::from([asked[2].chunk, asked[3].chunk]));
}

#[test]
fn files_that_come_first_are_asked_for_before_rarer_ones() {
    let mut steps = Steps::new(&chunks(400));
    let first = of_chunks(&chunks(400).layout, Order::RarestFirst, |it| match it {
        300.. => Priority::First,
        _ => Priority::Normal,
    });
    let selection = Arc::new(first);
    steps.handle(Event::Selected { selection });
    steps.join(2, &[(300, 100)]);
    steps.join(1, &[(0, 400)]);
    let asked = steps.poll();
    assert!(asked.len() > 5 && asked.iter().all(|it| it.chunk >= 300));
}

#[test]
fn in_order_the_next_chunks_are_asked_for_in_order() {
    let mut steps = Steps::new(&chunks(400));
    steps.handle(selected(&chunks(400), &[1], Order::Sequential));
    steps.join(1, &[(0, 400)]);
    let first: Vec<u32> = steps.poll().iter().take(8).map(|it| it.chunk).collect();
    assert_eq!(first, (0..8).collect::<Vec<_>>());
}

#[test]
fn a_chunk_that_is_read_next_is_asked_of_whoever_has_it_however_slow() {
    let mut steps = Steps::new(&chunks(400));
    steps.handle(selected(&chunks(400), &[1], Order::Sequential));
    steps.join(1, &[(1, 399)]);
    steps.poll();
    // Only this one has what comes next, of which it says so late.
    steps.join(2, &[(0, 1), (200, 100)]);
    assert_eq!(steps.poll()[0].chunk, 0);
}

#[test]
fn a_late_chunk_is_asked_of_a_faster_peer_too() {
    let content = chunks(200);
    let mut simulation = Simulation::new(&content, 3)
        .with(1, Source::seed(&content, 8 * 1024, 50))
        .with(2, Source::seed(&content, 4 * MIB, 20));
    let event = selected(&content, &[1], Order::Sequential);
    simulation.tell_after(Duration::ZERO, event);
    let took = simulation.run(HOUR).unwrap();
    // Two chunks at the slow one alone take 16 s.
    assert!(took < Duration::from_secs(6), "{took:?}");
    let waits = simulation.reading_gaps();
    assert!(waits < Duration::from_secs(3), "{waits:?}");
}

#[test]
fn in_order_everything_is_read_long_before_all_is_there() {
    let content = chunks(800);
    let read_half = |order| {
        let mut simulation = Simulation::new(&content, 5)
            .with(1, Source::seed(&content, MIB, 30))
            .with(2, Source::seed(&content, MIB / 4, 80));
        simulation.tell_after(Duration::ZERO, selected(&content, &[1], order));
        let took = simulation.run(HOUR).unwrap();
        (simulation.readable_after(400), took)
    };
    let (half, all) = read_half(Order::Sequential);
    assert!(half < all.mul_f64(0.6), "{half:?} of {all:?}");
    let (half, all) = read_half(Order::RarestFirst);
    assert!(half > all.mul_f64(0.9), "{half:?} of {all:?}");
}

#[test]
fn who_leaves_something_out_is_nobody_to_wait_for() {
    let mut steps = Steps::new(&chunks(4));
    steps.join(1, &[(0, 4)]);
    assert!(steps.download.is_supplied());
    steps.handle(selected(&chunks(4), &[1, 0], Order::RarestFirst));
    assert!(!steps.download.is_supplied());
    steps.handle(selected(&chunks(4), &[1], Order::Sequential));
    assert!(steps.download.is_supplied());
}

#[test]
fn to_what_is_left_out_and_not_ours_nobody_is_invited() {
    let mut steps = Steps::new(&chunks(4));
    steps.handle(selected(&chunks(4), &[1, 0, 0, 0], Order::RarestFirst));
    steps.join(1, &[(0, 4)]);
    let asked = steps.poll();
    steps.verify(&asked[0]);
    steps.join(2, &[]);
    steps.join(3, &[(0, 1)]);
    let mut rng = StdRng::seed_from_u64(1);
    let mut invite = |n| steps.download.invite(&mut rng, |peer| *peer == key(n));
    assert_eq!(invite(2).map(|it| it.chunk), Some(0));
    assert_eq!(invite(3), None);
}

#[test]
fn what_is_read_next_is_asked_for_before_what_somebody_suggests() {
    let mut steps = Steps::new(&chunks(400));
    steps.handle(selected(&chunks(400), &[1], Order::Sequential));
    steps.join(1, &[(0, 400)]);
    let (peer, runs) = (
        key(1),
        vec![Run {
            start: 300,
            count: 1,
        }],
    );
    steps.handle(Event::Suggested { peer, runs });
    assert_eq!(steps.poll()[0].chunk, 0);
}

#[test]
fn what_is_lost_is_fetched_again_only_if_it_is_selected() {
    let content = chunks(4);
    let mut download = Download::new(content.clone(), ChunkSet::full(4), 1);
    let now = Instant::now();
    let event = selected(&content, &[1, 0], Order::Sequential);
    download.handle(now, event).unwrap();
    assert!(download.is_complete());
    let runs = vec![Run { start: 0, count: 2 }];
    download.handle(now, Event::Forgotten { runs }).unwrap();
    let mut steps = Steps { download, now };
    steps.join(1, &[(0, 4)]);
    let asked: Vec<u32> = steps.poll().iter().map(|it| it.chunk).collect();
    assert_eq!(asked, [0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn however_the_selection_changes_what_is_selected_comes_once(
        count in 1..120u32, seed: u64,
        speeds in prop::collection::vec((100_000..5_000_000u64, 0..200u64, any::<bool>()), 1..4),
        changes in prop::collection::vec((0..4_000u64, any_classes(), any_order()), 1..5),
    ) {
        let content = chunks(count);
        let mut simulation = Simulation::new(&content, seed);
        for (n, (bytes_per_s, rtt_ms, relayed)) in (1..).zip(&speeds) {
            let mut source = Source::seed(&content, *bytes_per_s, *rtt_ms);
            if *relayed && n > 1 {
                source.reach = Reach::Relayed;
            }
            simulation.join_after(Duration::ZERO, n, source);
        }
        // At each the simulation asserts that nothing is asked for that we have.
        let mut last = Duration::ZERO;
        for (after, classes, order) in &changes {
            last += Duration::from_millis(*after);
            simulation.tell_after(last, selected(&content, classes, *order));
        }
        prop_assert!(simulation.run_past(last, HOUR).is_some());
        let (_, classes, order) = changes.last().unwrap();
        let Event::Selected { selection } = selected(&content, classes, *order) else {
            unreachable!();
        };
        let have = simulation.download.have().clone();
        let layout = &content.layout;
        let mut chunks = (0..count).filter_map(|chunk| layout.chunk(chunk));
        prop_assert!(chunks.all(|chunk| !selection.wants(chunk) || have.contains(chunk)));
        prop_assert_eq!(simulation.download.verified_bytes(), selection.bytes());
        let everything = selected(&content, &[1], Order::RarestFirst);
        simulation.tell_now(everything);
        let now = simulation.elapsed();
        prop_assert!(simulation.run_past(now, 2 * HOUR).is_some());
        prop_assert_eq!(simulation.download.verified_bytes(), content.size);
    }

    #[test]
    fn of_a_tree_the_bytes_of_selected_files_are_counted(
        sizes in prop::collection::vec(prop_oneof![0..300u64, 20_000..200_000u64], 1..30),
        picks in prop::collection::vec(0..3u8, 30),
    ) {
        let content = Arc::new(tree_of(&sizes));
        let of = |file: u32| priority(picks[file as usize]);
        let selection = Arc::new(Selection::new(&content, Order::Sequential, of));
        let picked = sizes.iter().zip(&picks).filter(|(_, pick)| **pick > 0);
        let bytes = picked.map(|(size, _)| size).sum::<u64>();
        prop_assert_eq!(selection.bytes(), bytes);
        let mut steps = Steps::new(&content);
        steps.handle(Event::Selected { selection });
        let len = content.layout.chunk_count();
        if len > 0 {
            steps.join(1, &[(0, len)]);
        }
        while !steps.download.is_complete() {
            let asked = steps.poll();
            prop_assert!(!asked.is_empty());
            asked.iter().for_each(|it| steps.verify(it));
        }
        prop_assert_eq!(steps.download.verified_bytes(), bytes);
    }
}

/// Selects chunks by these classes, over and over: 0 is not wanted, 2 comes first.
pub(super) fn selected(content: &Content, classes: &[u8], order: Order) -> Event {
    let of = |chunk: u32| priority(classes[chunk as usize % classes.len()]);
    let selection = Arc::new(of_chunks(&content.layout, order, of));
    Event::Selected { selection }
}

fn priority(class: u8) -> Priority {
    match class {
        0 => Priority::Skip,
        1 => Priority::Normal,
        _ => Priority::First,
    }
}

/// The requests that were cancelled, of actions that are nothing else.
fn cancelled(actions: Vec<Action>) -> BTreeSet<RequestId> {
    let cancelled = actions.into_iter().map(|action| match action {
        Action::Cancel { request } => request,
        other => panic!("{other:?}"),
    });
    cancelled.collect()
}

impl Simulation {
    /// When each chunk was verified, as a reader could go on.
    fn readable(&self) -> Vec<Duration> {
        let mut front = Duration::ZERO;
        let mut times = Vec::new();
        for (chunk, at) in &self.verified {
            assert_eq!(*chunk as usize, times.len(), "something is missing");
            front = front.max(*at);
            times.push(front);
        }
        times
    }

    /// When the first so many chunks could be read.
    fn readable_after(&self, count: usize) -> Duration {
        self.readable()[count - 1]
    }

    /// The longest time that a reader had to wait for the next chunk.
    fn reading_gaps(&self) -> Duration {
        let times = self.readable();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }

    fn tell_now(&mut self, event: Event) {
        let after = self.elapsed();
        self.tell_after(after, event);
    }
}
