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

/// How long something took, many times.
#[derive(Clone, Debug, Default)]
pub struct Waits {
    count: u64,
    sum_s: f64,
    /// How many took less than each step of [`Waits::step`], and not less than the step before.
    steps: Vec<u64>,
}

impl Waits {
    /// So many steps double the time.
    const OCTAVE: f64 = 8.0;
    /// The first step, in seconds.
    const FIRST: f64 = 1e-3;

    /// It took so long once more.
    pub(super) fn add(&mut self, took: Nanos) {
        let seconds = took as f64 / 1e9;
        let step = (seconds / Self::FIRST).max(1.0).log2() * Self::OCTAVE;
        let step = step as usize;
        self.steps.resize(self.steps.len().max(step + 1), 0);
        self.steps[step] += 1;
        self.count += 1;
        self.sum_s += seconds;
    }

    /// The mean, in seconds.
    pub fn mean(&self) -> f64 {
        self.sum_s / (self.count as f64).max(1.0)
    }

    /// What so many of a hundred took at most, in seconds; up to 9 % too much.
    pub fn percentile(&self, percent: u32) -> f64 {
        let wanted = (self.count * u64::from(percent)).div_ceil(100);
        let mut seen = 0;
        let at = self.steps.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        at.map_or(0.0, |step| {
            Self::FIRST * ((step + 1) as f64 / Self::OCTAVE).exp2()
        })
    }
}

/// Counters of one run.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    pub(super) events: u64,
    pub(super) letters: u64,
    pub(super) requests: u64,
    pub(super) waits: Waits,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_at_most_a_tenth_too_long() {
        let mut waits = Waits::default();
        (1..=1000).for_each(|ms| waits.add(ms * 1_000_000));
        assert!((waits.mean() - 0.5005).abs() < 1e-9);
        for percent in [1, 50, 90, 100] {
            let (found, true_one) = (waits.percentile(percent), f64::from(percent) / 100.0);
            assert!(
                (true_one..1.1 * true_one).contains(&found),
                "{percent} %: {found} s"
            );
        }
        assert_eq!(
            (Waits::default().mean(), Waits::default().percentile(50)),
            (0.0, 0.0)
        );
    }

    #[test]
    fn quarters_are_those_of_the_sorted_numbers() {
        assert_eq!(
            quarters(vec![4.0, 0.0, 3.0, 1.0, 2.0]),
            [0.0, 1.0, 2.0, 3.0, 4.0]
        );
        assert_eq!(
            (quarters(vec![0.5]), quarters(Vec::new())),
            ([0.5; 5], [1.0; 5])
        );
    }
}
