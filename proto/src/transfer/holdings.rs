//! Which chunks one peer says it has, and what each piece of news changes.
//!
//! News comes as runs and is passed on as disjoint ranges, so that a seed's one run is never
//! taken apart into its millions of chunks.

use std::ops::Range;

use fixedbitset::FixedBitSet;

use crate::content::chunks::OutOfRange;
use crate::content::{ChunkIndex, Run};

/// Chunks by position, ascending, disjoint, none empty.
pub(super) type Ranges = Vec<Range<u32>>;

/// Number of chunks in the ranges.
pub(super) fn count(ranges: &[Range<u32>]) -> u32 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// The chunks a peer has.
#[derive(Debug)]
pub(super) struct Holdings {
    bits: FixedBitSet,
    len: u32,
    count: u32,
}

impl Holdings {
    /// None of `len` chunks.
    pub(super) fn empty(len: u32) -> Holdings {
        let bits = FixedBitSet::with_capacity(len as usize);
        Holdings {
            bits,
            len,
            count: 0,
        }
    }

    /// How many it has.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Whether that is everything.
    pub(super) fn is_full(&self) -> bool {
        self.count == self.len
    }

    /// Whether the peer has the chunk.
    pub(super) fn contains(&self, chunk: ChunkIndex) -> bool {
        self.bits.contains(chunk.value() as usize)
    }

    /// A bit for each chunk.
    pub(super) fn bits(&self) -> &FixedBitSet {
        &self.bits
    }

    /// All of them.
    pub(super) fn ranges(&self) -> Ranges {
        let all = Some(0..self.len).filter(|all| !all.is_empty());
        self.pick_out(all.into_iter().collect(), true)
    }

    /// Adds chunks and returns those that were not there.
    pub(super) fn insert(&mut self, runs: &[Run]) -> Result<Ranges, OutOfRange> {
        let fresh = self.pick_out(merge(runs, self.len)?, false);
        self.insert_all(&fresh);
        Ok(fresh)
    }

    /// Adds chunks none of which is there, below the length.
    pub(super) fn insert_all(&mut self, ranges: &[Range<u32>]) {
        for range in ranges {
            self.bits.insert_range(bits(range));
        }
        self.count += count(ranges);
    }

    /// Those of the chunks that are not there.
    pub(super) fn without(&self, ranges: Ranges) -> Ranges {
        self.pick_out(ranges, false)
    }

    /// Takes out those of the chunks that are there, and returns them.
    pub(super) fn remove_all(&mut self, ranges: &[Range<u32>]) -> Ranges {
        let gone = self.pick_out(ranges.to_vec(), true);
        for range in &gone {
            self.bits.remove_range(bits(range));
        }
        self.count -= count(&gone);
        gone
    }

    /// Takes chunks out and returns those that were there.
    pub(super) fn remove(&mut self, runs: &[Run]) -> Result<Ranges, OutOfRange> {
        Ok(self.remove_all(&merge(runs, self.len)?))
    }

    /// Takes everything out and returns it.
    pub(super) fn clear(&mut self) -> Ranges {
        let gone = self.ranges();
        self.bits.clear();
        self.count = 0;
        gone
    }

    /// The parts of `ranges` that the peer has, or has not.
    fn pick_out(&self, ranges: Ranges, has: bool) -> Ranges {
        let mut picked: Ranges = Vec::new();
        for range in ranges {
            let ones = self.bits.count_ones(bits(&range));
            let matching = if has { ones } else { range.len() - ones };
            if matching == range.len() {
                picked.push(range);
            } else if matching > 0 {
                let chunks = range.filter(|chunk| self.bits.contains(*chunk as usize) == has);
                chunks.for_each(|chunk| append(&mut picked, chunk));
            }
        }
        picked
    }
}

fn bits(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

fn append(ranges: &mut Ranges, chunk: u32) {
    match ranges.last_mut() {
        Some(last) if last.end == chunk => last.end += 1,
        _ => ranges.push(chunk..chunk + 1),
    }
}

/// Brings runs into order and joins those that touch.
pub(super) fn merge(runs: &[Run], len: u32) -> Result<Ranges, OutOfRange> {
    let mut ranges = Vec::with_capacity(runs.len());
    for &run in runs {
        let end = run.start.checked_add(run.count);
        match end.filter(|end| run.count > 0 && *end <= len) {
            Some(end) => ranges.push(run.start..end),
            None => return Err(OutOfRange { run, len }),
        }
    }
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let touches = next.start <= last.end;
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const LEN: u32 = 200;

    #[test]
    fn news_past_the_end_or_empty_changes_nothing() {
        for (start, count) in [(0, 0), (LEN, 1), (LEN - 1, 2), (u32::MAX, 1), (1, u32::MAX)] {
            let (mut holdings, bad) = (Holdings::empty(LEN), Run { start, count });
            let runs = [Run { start: 0, count: 1 }, bad];
            assert_eq!(
                holdings.insert(&runs),
                Err(OutOfRange { run: bad, len: LEN })
            );
            assert!(holdings.remove(&runs).is_err() && holdings.clear().is_empty());
        }
    }

    proptest! {
        #[test]
        fn holdings_are_a_set_and_name_what_changed(
            news in prop::collection::vec((any::<bool>(), any_runs()), 0..20)
        ) {
            let (mut holdings, mut model) = (Holdings::empty(LEN), BTreeSet::new());
            for (has, runs) in news {
                let named: BTreeSet<u32> =
                    runs.iter().flat_map(|run| run.start..run.start + run.count).collect();
                let (changed, expected): (_, BTreeSet<u32>) = if has {
                    (holdings.insert(&runs).unwrap(), &named - &model)
                } else {
                    (holdings.remove(&runs).unwrap(), &named & &model)
                };
                model = &model ^ &expected;
                prop_assert_eq!(count(&changed) as usize, expected.len());
                prop_assert!(changed.into_iter().flatten().eq(expected));
                prop_assert!(holdings.bits().ones().eq(model.iter().map(|chunk| *chunk as usize)));
            }
            prop_assert!(holdings.clear().into_iter().flatten().eq(model));
        }
    }

    fn any_runs() -> impl Strategy<Value = Vec<Run>> {
        let run = (0..LEN, 1..LEN).prop_map(|(start, count)| Run {
            start,
            count: count.min(LEN - start),
        });
        prop::collection::vec(run, 0..5)
    }
}
