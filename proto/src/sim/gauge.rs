//! What is counted while a simulation runs.

use std::time::Duration;

use super::plan::mix;
use super::queue::Nanos;

/// Columns of the heat map: chunks are put together into at most so many groups.
const GROUPS: u32 = 64;
/// Looks at the swarm, over the time that the run takes at best; more if it takes longer.
pub(super) const LOOKS: u32 = 200;

/// The swarm at one moment.
#[derive(Clone, Debug)]
pub struct Look {
    /// When.
    pub at: Duration,
    /// What part of the share the peers have that are to have it: the least, the quarters, the most.
    pub progress: [f64; 5],
    /// Part of what the leeches' uplinks could carry that they do.
    pub leeches_up: f64,
    /// The same of the seeds'.
    pub seeds_up: f64,
    /// Mean number of copies of each group of chunks, among peers that are there.
    pub copies: Vec<f32>,
}

/// Counters of one run.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    pub(super) events: u64,
    pub(super) letters: u64,
    pub(super) requests: u64,
    pub(super) payload: u64,
    pub(super) wasted: u64,
    pub(super) control: u64,
    pub(super) relayed: u64,
    pub(super) seed_payload: u64,
    /// Bans of those who did nothing wrong.
    pub(super) unjust: u64,
    pub(super) bans: u64,
    /// When each peer had everything.
    pub(super) done: Vec<Option<Nanos>>,
    pub(super) copies: Vec<u32>,
    pub(super) looks: Vec<Look>,
    trace: u64,
}

impl Gauge {
    pub(super) fn new(peers: usize, chunks: u32) -> Gauge {
        Gauge {
            done: vec![None; peers],
            copies: vec![0; chunks as usize],
            ..Gauge::default()
        }
    }

    /// Adds to what two equal runs have in common.
    pub(super) fn trace(&mut self, words: &[u64]) {
        for word in words {
            self.trace = mix(self.trace ^ word);
        }
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace
    }

    /// Mean copies of each group of chunks.
    pub(super) fn groups(&self) -> Vec<f32> {
        let per_group = self.copies.len().div_ceil(GROUPS as usize).max(1);
        let mean = |group: &[u32]| group.iter().sum::<u32>() as f32 / group.len() as f32;
        self.copies.chunks(per_group).map(mean).collect()
    }
}

/// The least, the quarters and the most of some numbers; nothing is 1.
pub(super) fn quarters(mut numbers: Vec<f64>) -> [f64; 5] {
    numbers.sort_unstable_by(f64::total_cmp);
    let at = |part: usize| numbers.get((numbers.len().max(1) - 1) * part / 4).copied();
    [0, 1, 2, 3, 4].map(|part| at(part).unwrap_or(1.0))
}
