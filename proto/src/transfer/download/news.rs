//! Who is there and who has what, and the counts that follow from it.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::super::Reach;
use super::super::availability::{Lowered, UNKNOWN, Wanted};
use super::super::holdings::Ranges;
use super::super::peer::Peer;
use super::{Download, RequestId};
use crate::content::chunks::OutOfRange;
use crate::content::{ChunkIndex, Run};
use crate::id::PublicKey;

impl Download {
    pub(super) fn join(&mut self, now: Instant, key: PublicKey, (rtt, reach): (Duration, Reach)) {
        self.part(key);
        if !self.banned.contains(&key) {
            let peer = Peer::new(now, rtt, reach, self.have.len());
            self.peers.insert(key, peer);
        }
    }

    /// Takes a peer out, and returns the requests that end with it.
    pub(super) fn part(&mut self, key: PublicKey) -> Vec<RequestId> {
        let Some(mut peer) = self.peers.remove(&key) else {
            return Vec::new();
        };
        let gone = peer.holds.clear();
        let lowered = self.availability.sub(&gone);
        self.lower_floors(lowered);
        if peer.is_counted {
            self.lose_direct(&gone);
        }
        self.forgive_last_holders();
        let ended = peer.requests();
        let ended: Vec<_> = ended.map(|(id, request)| (id, *request)).collect();
        for (id, request) in &ended {
            self.book_end(*id, request);
        }
        ended.into_iter().map(|(id, _)| id).collect()
    }

    pub(super) fn handle_has(&mut self, key: PublicKey, runs: &[Run]) -> Result<(), OutOfRange> {
        let Some(peer) = self.peers.get_mut(&key) else {
            return Ok(());
        };
        let fresh = peer.holds.insert(runs)?;
        peer.unshun(|chunk| named(runs, chunk));
        self.book_has(key, &fresh);
        Ok(())
    }

    /// A peer has more. If it is reached directly that is what relayed peers are left alone for.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        key: PublicKey,
        runs: &[Run],
    ) -> Result<(), OutOfRange> {
        let useful = |it: &Self| it.peers.get(&key).map_or(0, |peer| peer.useful);
        let before = useful(self);
        self.handle_has(key, runs)?;
        let is_counted = self.peers.get(&key).is_some_and(|peer| peer.is_counted);
        if is_counted && useful(self) > before && self.has_supplier() {
            self.patience.wait(now);
        }
        Ok(())
    }

    /// A peer says whether all it lacks is had by somebody whom it reaches directly.
    pub(super) fn handle_supplied(&mut self, now: Instant, key: PublicKey, supplied: bool) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let was_supplied = std::mem::replace(&mut peer.is_supplied, supplied);
        if supplied && !was_supplied {
            self.patience.wait(now);
        }
    }

    /// Whether somebody who is reached directly will soon have everything.
    pub(super) fn has_supplier(&self) -> bool {
        let mut peers = self.peers.values();
        peers.any(|peer| peer.is_counted && peer.is_supplied)
    }

    pub(super) fn handle_lacks(&mut self, key: PublicKey, runs: &[Run]) -> Result<(), OutOfRange> {
        let Some(peer) = self.peers.get_mut(&key) else {
            return Ok(());
        };
        let gone = peer.holds.remove(runs)?;
        peer.unshun(|chunk| named(runs, chunk));
        self.book_lacks(key, &gone);
        Ok(())
    }

    pub(super) fn handle_moved(&mut self, key: PublicKey, rtt: Duration, reach: Reach) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.relocate(rtt, reach);
            self.recount(key);
        }
    }

    /// Counts what a peer has as to be had directly, or no longer.
    pub(super) fn recount(&mut self, key: PublicKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let should = peer.is_at_hand();
        if std::mem::replace(&mut peer.is_counted, should) == should {
            return;
        }
        let ranges = peer.holds.ranges();
        match should {
            true => drop(self.direct.add(&ranges)),
            false => self.lose_direct(&ranges),
        }
    }

    /// Fewer can be asked directly for these chunks: relayed peers may be needed for some.
    fn lose_direct(&mut self, gone: &Ranges) {
        self.direct.sub(gone);
        let relayed = self.peers.values_mut();
        let relayed = relayed.filter(|peer| peer.reach == Reach::Relayed);
        relayed.for_each(|peer| peer.floor = UNKNOWN);
    }

    /// Counts chunks that `holds` of this peer has gained.
    fn book_has(&mut self, key: PublicKey, fresh: &Ranges) {
        let lowered = self.availability.add(fresh);
        self.lower_floors(lowered);
        if self.peers.get(&key).is_some_and(|peer| peer.is_counted) {
            self.direct.add(fresh);
        }
        let useful = self.missing_in(fresh);
        if let Some(peer) = self.peers.get_mut(&key).filter(|_| useful > 0) {
            peer.useful += useful;
            peer.floor = peer.floor.min(self.availability.floor_of(fresh));
        }
    }

    /// Counts chunks that `holds` of this peer has lost.
    pub(super) fn book_lacks(&mut self, key: PublicKey, gone: &Ranges) {
        let lowered = self.availability.sub(gone);
        self.lower_floors(lowered);
        if self.peers.get(&key).is_some_and(|peer| peer.is_counted) {
            self.lose_direct(gone);
        }
        let useful = self.missing_in(gone);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.useful -= useful;
        }
        self.forgive_last_holders();
    }

    /// A peer that stalled on a chunk may be asked for it again once nobody else has it.
    fn forgive_last_holders(&mut self) {
        let availability = &self.availability;
        let mut forgiven = Vec::new();
        for (key, peer) in &mut self.peers {
            let chunks = peer.forgive(|chunk, _| availability.holders(chunk.value()) == 0);
            forgiven.extend(chunks.into_iter().map(|chunk| (*key, chunk)));
        }
        for (key, chunk) in forgiven {
            self.has(key, chunk);
        }
    }

    /// Books that a peer has one more chunk.
    pub(super) fn has(&mut self, key: PublicKey, chunk: ChunkIndex) {
        let booked = self.handle_has(key, &[run_of(chunk)]);
        debug_assert!(booked.is_ok(), "{chunk:?} is of this share");
    }

    /// Books that a peer has one chunk less.
    pub(super) fn lacks(&mut self, key: PublicKey, chunk: ChunkIndex) {
        let booked = self.handle_lacks(key, &[run_of(chunk)]);
        debug_assert!(booked.is_ok(), "{chunk:?} is of this share");
    }

    /// Books that a peer has nothing any more.
    pub(super) fn lacks_everything(&mut self, key: PublicKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.unshun(|_| true);
            let gone = peer.holds.clear();
            self.book_lacks(key, &gone);
        }
    }

    fn missing_in(&self, ranges: &[Range<u32>]) -> u32 {
        let bits = ranges
            .iter()
            .map(|range| range.start as usize..range.end as usize);
        bits.map(|bits| self.missing.count_ones(bits) as u32).sum()
    }

    /// Lets no floor stay above a chunk that its peer has.
    pub(super) fn lower_floors(&mut self, lowered: Lowered) {
        let Lowered::These(lowered) = lowered else {
            self.peers
                .values_mut()
                .for_each(|peer| peer.floor = UNKNOWN);
            return;
        };
        for Wanted { chunk, level } in lowered {
            for peer in self.peers.values_mut() {
                if peer.floor > level && peer.holds.bits().contains(chunk as usize) {
                    peer.floor = level;
                }
            }
        }
    }
}

fn named(runs: &[Run], chunk: ChunkIndex) -> bool {
    let past = |run: &Run| chunk.value().checked_sub(run.start);
    runs.iter()
        .any(|run| past(run).is_some_and(|past| past < run.count))
}

fn run_of(chunk: ChunkIndex) -> Run {
    Run {
        start: chunk.value(),
        count: 1,
    }
}
