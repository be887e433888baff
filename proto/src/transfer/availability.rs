//! How many copies of each chunk there are or are on the way, and which wanted chunk of a peer's is
//! rarest.
//!
//! A chunk is *wanted* while it is missing and not asked of anybody. Wanted chunks lie in levels:
//! one bitmap for each number of copies, so that a chunk changes level in O(1) and a pick is a
//! word-wise intersection with the peer's own bitmap, lowest level first, from a random place on.
//! A pick reads at most one word for every 64 chunks of each level; a *floor* lets it skip the
//! levels known to hold nothing of that peer's, and makes knowing that a peer has nothing to give
//! free.
//!
//! Only the order of levels matters, so they are relative: one more copy of nearly everything is
//! one copy fewer of the rest. A seed therefore costs nothing, and a peer with any part of the
//! share costs at most half of it.

use std::collections::BTreeMap;
use std::ops::Range;

use fixedbitset::FixedBitSet;
use rand::Rng;

use super::holdings::{Ranges, count};

/// A number of copies, less [`Availability::base`].
pub(super) type Level = i64;

/// The floor of a peer that has no wanted chunk.
pub(super) const DRY: Level = Level::MAX;

/// The floor of a peer of which nothing is known.
pub(super) const UNKNOWN: Level = Level::MIN;

/// How many chunks that moved down are told one by one.
const TOLD: usize = 256;

/// A wanted chunk and its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Position of the chunk.
    pub(super) chunk: u32,
    /// How rare it is.
    pub(super) level: Level,
}

/// Which wanted chunks moved to a lower level, below which a floor may not stay.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lowered {
    /// These alone.
    These(Vec<Wanted>),
    /// More than are worth telling.
    Many,
}

/// Copies of every chunk, and the wanted chunks by rarity.
#[derive(Debug)]
pub(super) struct Availability {
    /// Level of every chunk, wanted or not.
    level_of: Vec<Level>,
    /// Level plus this is the number of copies.
    base: i64,
    /// Wanted chunks; no level is empty.
    wanted: BTreeMap<Level, Members>,
}

impl Availability {
    /// None of `len` chunks has a copy or is wanted.
    pub(super) fn new(len: u32) -> Availability {
        Availability {
            level_of: vec![0; len as usize],
            base: 0,
            wanted: BTreeMap::new(),
        }
    }

    /// One more peer has `chunks`, or will.
    pub(super) fn add(&mut self, chunks: &[Range<u32>]) -> Lowered {
        self.adjust(chunks, 1)
    }

    /// One peer fewer has `chunks`, or will.
    pub(super) fn sub(&mut self, chunks: &[Range<u32>]) -> Lowered {
        self.adjust(chunks, -1)
    }

    /// How many peers have the chunk, or will.
    pub(super) fn copies(&self, chunk: u32) -> i64 {
        self.level_of
            .get(chunk as usize)
            .map_or(0, |level| level + self.base)
    }

    /// A floor for a peer with `chunks`, wanted or not; [`UNKNOWN`] rather than look at many.
    pub(super) fn floor_of(&self, chunks: &[Range<u32>]) -> Level {
        if count(chunks) as usize > TOLD {
            return UNKNOWN;
        }
        let levels = chunks
            .iter()
            .cloned()
            .flatten()
            .map(|chunk| self.level_of[chunk as usize]);
        levels.min().unwrap_or(DRY)
    }

    /// Puts a chunk among the wanted, where it was not.
    pub(super) fn want(&mut self, chunk: u32) -> Wanted {
        let level = self.level_of[chunk as usize];
        self.members(level).insert(chunk);
        Wanted { chunk, level }
    }

    /// Takes a chunk from the wanted, if it is there.
    pub(super) fn unwant(&mut self, chunk: u32) {
        let level = self.level_of[chunk as usize];
        self.take(level, chunk);
    }

    /// A rarest wanted chunk of the peer with this bitmap, not below its floor; one of them at
    /// random.
    pub(super) fn rarest(
        &self,
        has: &FixedBitSet,
        floor: Level,
        rng: &mut impl Rng,
    ) -> Option<Wanted> {
        let floor = floor.max(1 - self.base);
        for (&level, members) in self.wanted.range(floor..) {
            if let Some(chunk) = members.any_in(has, rng) {
                return Some(Wanted { chunk, level });
            }
        }
        None
    }

    /// A rarest wanted chunk of the peer with this bitmap that is also in `among`; one of them at
    /// random.
    pub(super) fn rarest_among(
        &self,
        has: &FixedBitSet,
        among: &FixedBitSet,
        rng: &mut impl Rng,
    ) -> Option<Wanted> {
        for (&level, members) in self.wanted.range(1 - self.base..) {
            if let Some(chunk) = members.any_in_both(has, among, rng) {
                return Some(Wanted { chunk, level });
            }
        }
        None
    }

    /// The wanted chunks that nobody has or will have, if there are any.
    pub(super) fn orphans(&self) -> Option<&FixedBitSet> {
        let orphans = self.wanted.get(&-self.base);
        orphans.map(|members| &members.bits)
    }

    /// The level of a chunk, if it is wanted.
    #[cfg(test)]
    pub(super) fn wanted_level(&self, chunk: u32) -> Option<Level> {
        let holds = |(_, members): &(&Level, &Members)| members.bits.contains(chunk as usize);
        self.wanted.iter().find(holds).map(|(level, _)| *level)
    }

    fn adjust(&mut self, chunks: &[Range<u32>], by: i64) -> Lowered {
        let len = self.level_of.len() as u32;
        if count(chunks) > len / 2 {
            self.base += by;
            self.shift(&gaps(chunks, len), -by)
        } else {
            self.shift(chunks, by)
        }
    }

    fn shift(&mut self, chunks: &[Range<u32>], by: i64) -> Lowered {
        let mut lowered = Vec::new();
        for chunk in chunks.iter().cloned().flatten() {
            let old = self.level_of[chunk as usize];
            let level = old + by;
            self.level_of[chunk as usize] = level;
            if !self.take(old, chunk) {
                continue;
            }
            self.members(level).insert(chunk);
            if by < 0 && lowered.len() <= TOLD {
                lowered.push(Wanted { chunk, level });
            }
        }
        if lowered.len() > TOLD {
            return Lowered::Many;
        }
        Lowered::These(lowered)
    }

    fn members(&mut self, level: Level) -> &mut Members {
        let len = self.level_of.len();
        self.wanted
            .entry(level)
            .or_insert_with(|| Members::empty(len))
    }

    fn take(&mut self, level: Level, chunk: u32) -> bool {
        let Some(members) = self.wanted.get_mut(&level) else {
            return false;
        };
        let was_there = members.remove(chunk);
        if members.count == 0 {
            self.wanted.remove(&level);
        }
        was_there
    }
}

/// What is between the ranges, below `len`.
fn gaps(ranges: &[Range<u32>], len: u32) -> Ranges {
    let starts = [0].into_iter().chain(ranges.iter().map(|range| range.end));
    let ends = ranges.iter().map(|range| range.start).chain([len]);
    let gaps = starts.zip(ends).map(|(start, end)| start..end);
    gaps.filter(|gap| !gap.is_empty()).collect()
}

/// The wanted chunks of one level.
#[derive(Debug)]
struct Members {
    bits: FixedBitSet,
    count: u32,
}

impl Members {
    fn empty(len: usize) -> Members {
        let bits = FixedBitSet::with_capacity(len);
        Members { bits, count: 0 }
    }

    fn insert(&mut self, chunk: u32) {
        self.count += u32::from(!self.bits.put(chunk as usize));
    }

    fn remove(&mut self, chunk: u32) -> bool {
        let was_there = self.bits.contains(chunk as usize);
        if was_there {
            self.bits.remove(chunk as usize);
            self.count -= 1;
        }
        was_there
    }

    /// A chunk that is also in `has`: any of the first word in which there is one, from a random
    /// word on.
    fn any_in(&self, has: &FixedBitSet, rng: &mut impl Rng) -> Option<u32> {
        self.any(|at| word(has, at), rng)
    }

    /// The same, also in `among`.
    fn any_in_both(
        &self,
        has: &FixedBitSet,
        among: &FixedBitSet,
        rng: &mut impl Rng,
    ) -> Option<u32> {
        self.any(|at| word(has, at) & word(among, at), rng)
    }

    fn any(&self, mask: impl Fn(usize) -> usize, rng: &mut impl Rng) -> Option<u32> {
        let ours = self.bits.as_slice();
        let start = rng.random_range(0..ours.len().max(1));
        let order = (start..ours.len()).chain(0..start);
        let common = |at: usize| ours[at] & mask(at);
        let (at, word) = order
            .map(|at| (at, common(at)))
            .find(|(_, word)| *word != 0)?;
        let turn = rng.random_range(0..usize::BITS);
        let bit = (word.rotate_right(turn).trailing_zeros() + turn) % usize::BITS;
        Some(at as u32 * usize::BITS + bit)
    }
}

/// The bits of one word of a bitmap, none past its end.
pub(super) fn word(bits: &FixedBitSet, at: usize) -> usize {
    bits.as_slice().get(at).copied().unwrap_or(0)
}
