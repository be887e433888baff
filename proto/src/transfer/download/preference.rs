//! What is asked for before all else: chunks that will be read soon, and files that come first.
//!
//! While a share is read in order, the chunks in a window ahead of the first that is missing are asked
//! for in that order, of whoever has them and has room, however rare or fast. One that a much faster
//! peer would bring much sooner is asked of that one too.

use std::time::{Duration, Instant};

use super::super::Reach;
use super::super::availability::UNKNOWN;
use super::super::endgame;
use super::{Action, Download};
use crate::content::ChunkIndex;
use crate::id::PublicKey;

/// How far ahead the window reaches, at the rate of all peers together: what a player buffers,
const WINDOW: Duration = Duration::from_secs(4);
/// in chunks at least and at most.
const WINDOW_CHUNKS: (usize, usize) = (8, 4096);
/// A chunk of the least window that takes longer than this is late.
const LATE: Duration = Duration::from_secs(1);

impl Download {
    /// The chunk that a peer may be asked for before all others, if it has any such.
    pub(super) fn preferred(&mut self, now: Instant, key: PublicKey) -> Option<u32> {
        let urgent = self.urgent(now, key);
        urgent.or_else(|| self.first_of(key))
    }

    /// The next chunk in the window that the peer may be asked for.
    fn urgent(&self, now: Instant, key: PublicKey) -> Option<u32> {
        let peer = self.peers.get(&key)?;
        let is_near = |chunk: u32| peer.reach == Reach::Direct || self.direct.copies(chunk) == 0;
        let may_ask = |chunk: &u32| self.holders.is_wanted(*chunk) && is_near(*chunk);
        let has = |chunk: &&ChunkIndex| peer.holds.contains(**chunk);
        let window = self.window(self.window_chunks(now)).iter().filter(has);
        window.map(|chunk| chunk.value()).find(may_ask)
    }

    /// The rarest chunk of those that come first.
    fn first_of(&mut self, key: PublicKey) -> Option<u32> {
        let (peer, selection) = (self.peers.get(&key)?, self.selection.as_ref()?);
        if self.first_wanted == 0 {
            return None;
        }
        let (bits, rng) = (peer.holds.bits(), &mut self.rng);
        let rarest = match peer.reach {
            Reach::Direct => self.rarity.rarest_among(bits, selection.first(), rng),
            Reach::Relayed => {
                let mut orphans = self.direct.orphans()?.clone();
                orphans.intersect_with(selection.first());
                self.rarity.rarest_among(bits, &orphans, rng)
            }
        };
        rarest.map(|wanted| wanted.chunk)
    }

    /// A second request for a chunk that will be read next and comes too late.
    pub(super) fn poll_late(&mut self, now: Instant) -> Option<Action> {
        let next = self.window(WINDOW_CHUNKS.0);
        if next.is_empty() || !self.may_ask || !self.may_waste() {
            return None;
        }
        let singles = next.iter().filter_map(|chunk| self.single(now, *chunk));
        let singles: Vec<_> = singles.filter(|it| it.arrival > LATE).collect();
        if singles.is_empty() {
            return None;
        }
        let chunk_bytes = u64::from(self.content.layout.longest_chunk());
        let copy = endgame::worth_copying(singles, self.free(now, chunk_bytes));
        let (key, single) = copy.filter(|(_, it)| self.budget.has_room(it.len.into()))?;
        self.ask(now, key, single.chunk)
    }

    /// Something was verified: the window has moved, and may hold what a seed was not to be asked for.
    pub(super) fn read_on(&mut self) {
        let Some(sequence) = self.selection.as_ref().and_then(|it| it.sequence()) else {
            return;
        };
        let missing = |chunk: &ChunkIndex| self.missing.contains(chunk.value() as usize);
        let rest = sequence.get(self.read..).unwrap_or_default();
        self.read += rest.iter().take_while(|chunk| !missing(chunk)).count();
        let seeds = self.peers.values_mut().filter(|peer| peer.is_seed());
        seeds.for_each(|peer| {
            peer.let_go();
            peer.floor = UNKNOWN;
        });
    }

    /// The next so many chunks that are read, from the first that is missing on; none unless they are
    /// asked for in order.
    fn window(&self, chunks: usize) -> &[ChunkIndex] {
        let sequence = self.selection.as_ref().and_then(|it| it.sequence());
        let rest = sequence.and_then(|sequence| sequence.get(self.read..));
        rest.map_or(&[], |rest| &rest[..chunks.min(rest.len())])
    }

    fn window_chunks(&self, now: Instant) -> usize {
        let rate = self.rate.bytes_per_s(now);
        let chunk_bytes = f64::from(self.content.layout.longest_chunk().max(1));
        let (least, most) = WINDOW_CHUNKS;
        ((rate * WINDOW.as_secs_f64() / chunk_bytes) as usize).clamp(least, most)
    }

    /// Whether chunks are asked for in order.
    #[cfg(test)]
    pub(super) fn is_sequential(&self) -> bool {
        self.selection
            .as_ref()
            .is_some_and(|it| it.sequence().is_some())
    }
}
