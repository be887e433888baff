//! Positions of chunks, sets of them, and how sets travel.
//!
//! A [`ChunkSet`] is a bitmap with a cached count; between peers it travels as [`Run`]s, which are
//! one for a seed and few for a leech that fetches in runs.

use fixedbitset::FixedBitSet;
use serde::{Deserialize, Serialize};

/// Position of a chunk, counted from 0 and below the chunk count of the [`super::Layout`] (or the
/// length of the [`ChunkSet`]) that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkIndex(u32);

impl ChunkIndex {
    pub(super) fn new(index: u32) -> ChunkIndex {
        ChunkIndex(index)
    }

    /// The position as a number.
    pub fn value(self) -> u32 {
        self.0
    }
}

/// `count` chunks in a row, the first being `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Run {
    /// First chunk.
    pub start: u32,
    /// Number of chunks, at least 1 when a peer means something by it.
    pub count: u32,
}

impl Run {
    /// Ascending positions as the fewest runs, ascending.
    pub fn fewest(chunks: impl IntoIterator<Item = u32>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for chunk in chunks {
            match runs.last_mut() {
                Some(run) if run.start + run.count == chunk => run.count += 1,
                _ => runs.push(Run {
                    start: chunk,
                    count: 1,
                }),
            }
        }
        runs
    }
}

/// A run was empty or went past the last chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chunks {} and the {} after it are not all below {len}", run.start, run.count)]
pub struct OutOfRange {
    /// The offending run.
    pub run: Run,
    /// Number of chunks there are.
    pub len: u32,
}

/// Which of a share's chunks someone has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkSet {
    bits: FixedBitSet,
    count: u32,
    len: u32,
}

impl ChunkSet {
    /// None of `len` chunks.
    pub fn empty(len: u32) -> ChunkSet {
        let bits = FixedBitSet::with_capacity(len as usize);
        ChunkSet {
            bits,
            count: 0,
            len,
        }
    }

    /// All of `len` chunks.
    pub fn full(len: u32) -> ChunkSet {
        let mut set = ChunkSet::empty(len);
        set.bits.insert_range(..);
        set.count = len;
        set
    }

    /// Accepts an index that came off the wire, or `None` when it is not below [`Self::len`].
    pub fn index(&self, index: u32) -> Option<ChunkIndex> {
        (index < self.len).then_some(ChunkIndex(index))
    }

    /// Adds a chunk; true when it was missing. A chunk of another, longer layout is ignored.
    pub fn insert(&mut self, chunk: ChunkIndex) -> bool {
        let newly = chunk.0 < self.len && !self.bits.put(chunk.0 as usize);
        self.count += u32::from(newly);
        newly
    }

    /// Takes a chunk out; true when it was there.
    pub fn remove(&mut self, chunk: ChunkIndex) -> bool {
        let was_there = self.contains(chunk);
        if was_there {
            self.bits.remove(chunk.0 as usize);
            self.count -= 1;
        }
        was_there
    }

    /// Whether the chunk is in the set.
    pub fn contains(&self, chunk: ChunkIndex) -> bool {
        self.bits.contains(chunk.0 as usize)
    }

    /// A bit for each chunk.
    pub(crate) fn bits(&self) -> &FixedBitSet {
        &self.bits
    }

    /// Number of chunks in the set.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Number of chunks there are, in the set or not.
    #[expect(
        clippy::len_without_is_empty,
        reason = "empty would be read as `count() == 0`"
    )]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether nothing is missing. True for a share without chunks.
    pub fn is_full(&self) -> bool {
        self.count == self.len
    }

    /// The chunks in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = ChunkIndex> + '_ {
        self.bits.ones().map(|bit| ChunkIndex(bit as u32))
    }

    /// The set as the fewest runs, ascending.
    pub fn runs(&self) -> Vec<Run> {
        Run::fewest(self.iter().map(ChunkIndex::value))
    }

    /// Adds runs in any order and tells which chunks were missing before, ascending. The work is
    /// bounded by the number of chunks, however much the runs overlap.
    ///
    /// # Errors
    ///
    /// When a run is empty or goes past the last chunk; then the set is unchanged.
    pub fn insert_runs(&mut self, runs: &[Run]) -> Result<Vec<ChunkIndex>, OutOfRange> {
        let len = self.len;
        let fits = |run: &Run| {
            run.start
                .checked_add(run.count)
                .is_some_and(|end| end <= len)
        };
        if let Some(&run) = runs.iter().find(|run| run.count == 0 || !fits(run)) {
            return Err(OutOfRange { run, len });
        }
        let mut sorted = runs.to_vec();
        sorted.sort_unstable();
        let (mut newly, mut done) = (Vec::new(), 0);
        for run in sorted {
            let end = run.start + run.count;
            newly.extend(
                (run.start.max(done)..end)
                    .map(ChunkIndex)
                    .filter(|c| self.insert(*c)),
            );
            done = done.max(end);
        }
        Ok(newly)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_set_counts_what_it_holds() {
        let mut set = ChunkSet::empty(3);
        assert!(set.insert(ChunkIndex(2)) && !set.insert(ChunkIndex(2)));
        assert!(!set.insert(ChunkIndex(3)), "past the end");
        assert_eq!((set.count(), set.is_full()), (1, false));
        assert!(set.remove(ChunkIndex(2)) && !set.remove(ChunkIndex(2)));
        assert!(!set.remove(ChunkIndex(9)) && set.index(3).is_none());
        assert!(ChunkSet::full(3).is_full() && ChunkSet::empty(0).is_full());
    }

    #[test]
    fn runs_past_the_end_or_empty_change_nothing() {
        for (start, count) in [(0, 0), (9, 2), (10, 1), (u32::MAX, 1), (1, u32::MAX)] {
            let mut set = ChunkSet::empty(10);
            let runs = [Run { start: 0, count: 1 }, Run { start, count }];
            assert!(set.insert_runs(&runs).is_err(), "{start}+{count}");
            assert_eq!(set.count(), 0);
        }
    }

    proptest! {
        #[test]
        fn runs_carry_the_set(chunks in prop::collection::btree_set(0u32..300, 0..200)) {
            let mut set = ChunkSet::empty(300);
            chunks.iter().for_each(|c| { set.insert(ChunkIndex(*c)); });
            let mut copy = ChunkSet::empty(300);
            let newly = copy.insert_runs(&set.runs()).unwrap();
            prop_assert_eq!(&copy, &set);
            prop_assert!(newly.iter().map(|c| c.value()).eq(chunks));
        }

        #[test]
        fn overlapping_runs_name_each_new_chunk_once(
            runs in prop::collection::vec((0u32..50, 1u32..50), 0..20)
        ) {
            let runs: Vec<_> = runs.into_iter().map(|(start, count)| Run { start, count }).collect();
            let mut set = ChunkSet::empty(100);
            let newly = set.insert_runs(&runs).unwrap();
            prop_assert_eq!(newly.len(), set.count() as usize);
            prop_assert!(newly.into_iter().eq(set.iter()));
            prop_assert!(set.insert_runs(&runs).unwrap().is_empty());
        }
    }
}
