//! How many peers have each chunk, whole and to be asked for, and whether any wanted chunk has one.

use std::ops::Range;

use fixedbitset::FixedBitSet;

/// Holders of every chunk.
#[derive(Debug)]
pub(super) struct Holders {
    count: Vec<u32>,
    wanted: FixedBitSet,
    /// Wanted chunks that somebody has.
    askable: u32,
}

impl Holders {
    /// None of `len` chunks has a holder or is wanted.
    pub(super) fn new(len: u32) -> Holders {
        Holders {
            count: vec![0; len as usize],
            wanted: FixedBitSet::with_capacity(len as usize),
            askable: 0,
        }
    }

    /// One more peer has `chunks`.
    pub(super) fn add(&mut self, chunks: &[Range<u32>]) {
        for chunk in chunks.iter().cloned().flatten() {
            let chunk = chunk as usize;
            self.count[chunk] += 1;
            let first = self.count[chunk] == 1 && self.wanted.contains(chunk);
            self.askable += u32::from(first);
        }
    }

    /// One peer fewer has `chunks`.
    pub(super) fn sub(&mut self, chunks: &[Range<u32>]) {
        for chunk in chunks.iter().cloned().flatten() {
            let chunk = chunk as usize;
            self.count[chunk] -= 1;
            let last = self.count[chunk] == 0 && self.wanted.contains(chunk);
            self.askable -= u32::from(last);
        }
    }

    /// How many peers have the chunk.
    pub(super) fn of(&self, chunk: u32) -> u32 {
        self.count.get(chunk as usize).copied().unwrap_or(0)
    }

    /// The chunk is wanted from now on.
    pub(super) fn want(&mut self, chunk: u32) {
        let newly = !self.wanted.put(chunk as usize) && self.of(chunk) > 0;
        self.askable += u32::from(newly);
    }

    /// The chunk is no longer wanted.
    pub(super) fn unwant(&mut self, chunk: u32) {
        let was_wanted = self.wanted.contains(chunk as usize);
        self.wanted.set(chunk as usize, false);
        self.askable -= u32::from(was_wanted && self.of(chunk) > 0);
    }

    /// Whether the chunk is wanted.
    pub(super) fn is_wanted(&self, chunk: u32) -> bool {
        self.wanted.contains(chunk as usize)
    }

    /// Whether some wanted chunk has a holder.
    pub(super) fn is_askable(&self) -> bool {
        self.askable > 0
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    #[test]
    fn a_wanted_chunk_is_askable_while_somebody_has_it() {
        let mut holders = Holders::new(4);
        holders.add(from_ref(&(0..2)));
        assert!(!holders.is_askable(), "nothing is wanted");
        holders.want(3);
        assert!(!holders.is_askable(), "nobody has it");
        holders.want(1);
        holders.want(1);
        assert!(holders.is_askable());
        holders.unwant(1);
        holders.unwant(1);
        assert!(!holders.is_askable() && !holders.is_wanted(1));
        holders.add(from_ref(&(3..4)));
        holders.add(from_ref(&(2..4)));
        assert_eq!((holders.of(3), holders.of(9)), (2, 0));
        holders.sub(from_ref(&(3..4)));
        assert!(holders.is_askable());
        holders.sub(from_ref(&(2..4)));
        assert!(!holders.is_askable());
    }
}
