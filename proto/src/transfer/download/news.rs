//! Who is there and who has what, and the counts that follow from it.

use std::ops::Range;
use std::time::{Duration, Instant};

use fixedbitset::FixedBitSet;

use super::super::Reach;
use super::super::availability::{Lowered, UNKNOWN, Wanted};
use super::super::holdings::{Holdings, Ranges, merge};
use super::super::peer::Peer;
use super::{Download, RequestId};
use crate::content::chunks::OutOfRange;
use crate::content::{ChunkIndex, Run};
use crate::id::PublicKey;

/// Bytes on their way to one peer that are believed, and chunks however large: more than anybody
/// has the memory for.
const STARTED_BYTES: u32 = 128 * 1024 * 1024;
const STARTED_CHUNKS: u32 = 32;

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
        self.reviewed.remove(&key);
        let is_counted = peer.is_counted;
        let (had, started) = (peer.holds.clear(), peer.started.clear());
        self.holders.sub(&had);
        self.lose_copies(&had, is_counted);
        self.lose_copies(&started, is_counted);
        self.recount_spread();
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
        self.reviewed.insert(key);
        let known = peer.started.remove_all(&fresh);
        let unannounced = if known.is_empty() {
            &fresh
        } else {
            &difference(&fresh, &known)
        };
        let lowered = self.rarity.add(unannounced);
        if peer.is_counted {
            self.direct.add(unannounced);
        }
        self.holders.add(&fresh);
        let useful = missing_in(&self.missing, &fresh);
        if useful > 0 {
            self.may_ask = true;
            peer.useful += useful;
            peer.floor = peer.floor.min(self.rarity.floor_of(&fresh));
        }
        self.lower_floors(lowered);
        self.book_spread(key, &fresh);
        Ok(())
    }

    pub(super) fn handle_started(
        &mut self,
        key: PublicKey,
        runs: &[Run],
    ) -> Result<(), OutOfRange> {
        let Some(peer) = self.peers.get_mut(&key) else {
            return Ok(());
        };
        let lacking = peer.holds.without(merge(runs, self.have.len())?);
        let room = started_room(&peer.started, self.content.layout.longest_chunk());
        let fresh = first(peer.started.without(lacking), room);
        peer.started.insert_all(&fresh);
        let is_counted = peer.is_counted;
        self.gain_copies(&fresh, is_counted);
        Ok(())
    }

    /// What a peer suggests beyond a bound is not remembered.
    pub(super) fn handle_suggested(
        &mut self,
        key: PublicKey,
        runs: &[Run],
    ) -> Result<(), OutOfRange> {
        let ranges = merge(runs, self.have.len())?;
        if let Some(peer) = self.peers.get_mut(&key) {
            let is_new = |chunk: u32| !self.spread.contains(chunk as usize);
            let are_new = ranges.iter().cloned().flatten().any(is_new);
            peer.advise(ranges.into_iter().flatten(), are_new);
            self.may_ask = true;
            self.note_invitation(key);
        }
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
        let stopped = peer.started.remove(runs)?;
        peer.unshun(|chunk| named(runs, chunk));
        self.reviewed.insert(key);
        let is_counted = peer.is_counted;
        self.lose_copies(&stopped, is_counted);
        self.book_lacks(key, &gone);
        Ok(())
    }

    pub(super) fn handle_moved(&mut self, key: PublicKey, rtt: Duration, reach: Reach) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.relocate(rtt, reach);
            self.recount(key);
            self.mind(key);
        }
    }

    /// Counts what a peer has as to be had directly, or no longer.
    pub(super) fn recount(&mut self, key: PublicKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        self.reviewed.insert(key);
        let should = peer.is_at_hand();
        if std::mem::replace(&mut peer.is_counted, should) == should {
            return;
        }
        for ranges in [peer.holds.ranges(), peer.started.ranges()] {
            match should {
                true => drop(self.direct.add(&ranges)),
                false => self.lose_direct(&ranges),
            }
        }
    }

    /// There are more copies of these chunks, or will be.
    fn gain_copies(&mut self, fresh: &Ranges, is_counted: bool) {
        let lowered = self.rarity.add(fresh);
        self.lower_floors(lowered);
        if is_counted {
            self.direct.add(fresh);
        }
    }

    /// There are fewer.
    fn lose_copies(&mut self, gone: &Ranges, is_counted: bool) {
        let lowered = self.rarity.sub(gone);
        self.lower_floors(lowered);
        if is_counted {
            self.lose_direct(gone);
        }
    }

    /// Fewer can be asked directly for these chunks: relayed peers may be needed for some.
    fn lose_direct(&mut self, gone: &Ranges) {
        self.direct.sub(gone);
        let relayed = self.peers.values_mut();
        let relayed = relayed.filter(|peer| peer.reach == Reach::Relayed);
        relayed.for_each(|peer| peer.floor = UNKNOWN);
    }

    /// Notes what peers have who do not have everything: from them it can be had instead of from a
    /// seed that gives it to others.
    fn book_spread(&mut self, key: PublicKey, fresh: &Ranges) {
        let Some(peer) = self.peers.get(&key).filter(|_| !fresh.is_empty()) else {
            return;
        };
        if peer.is_seed() {
            return self.recount_spread();
        }
        let before = self.spread.count_ones(..);
        for range in fresh {
            self.spread
                .insert_range(range.start as usize..range.end as usize);
        }
        if self.spread.count_ones(..) > before {
            self.peers.values_mut().for_each(Peer::let_go);
        }
    }

    /// Counts the seeds and what others have anew: one has become a seed, or is none any more.
    fn recount_spread(&mut self) {
        self.seeds = self.peers.values().filter(|peer| peer.is_seed()).count() as u32;
        self.spread.clear();
        let leeches = self.peers.values().filter(|peer| !peer.is_seed());
        leeches.for_each(|peer| self.spread.union_with(peer.holds.bits()));
        self.peers.values_mut().for_each(Peer::let_go);
    }

    /// Counts chunks that `holds` of this peer has lost.
    pub(super) fn book_lacks(&mut self, key: PublicKey, gone: &Ranges) {
        let is_counted = self.peers.get(&key).is_some_and(|peer| peer.is_counted);
        self.holders.sub(gone);
        self.lose_copies(gone, is_counted);
        let useful = missing_in(&self.missing, gone);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.useful -= useful;
            // Of a seed the floor hides what others get; it is none any more.
            if !gone.is_empty() {
                peer.floor = UNKNOWN;
            }
        }
        if !gone.is_empty() {
            self.recount_spread();
        }
        self.forgive_last_holders();
    }

    /// A peer that stalled on a chunk may be asked for it again once nobody else has it.
    fn forgive_last_holders(&mut self) {
        let holders = &self.holders;
        let mut forgiven = Vec::new();
        for (key, peer) in &mut self.peers {
            let chunks = peer.forgive(|chunk, _| holders.of(chunk.value()) == 0);
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
            let (gone, stopped) = (peer.holds.clear(), peer.started.clear());
            let is_counted = peer.is_counted;
            self.lose_copies(&stopped, is_counted);
            self.book_lacks(key, &gone);
        }
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

/// How many of the chunks are missing.
fn missing_in(missing: &FixedBitSet, ranges: &[Range<u32>]) -> u32 {
    let bits = ranges
        .iter()
        .map(|range| range.start as usize..range.end as usize);
    bits.map(|bits| missing.count_ones(bits) as u32).sum()
}

/// What of ascending, disjoint ranges is in none of others, all of which are in them.
fn difference(ranges: &[Range<u32>], others: &[Range<u32>]) -> Ranges {
    let mut left = Ranges::new();
    let mut others = others.iter().peekable();
    for range in ranges {
        let mut start = range.start;
        while let Some(other) = others.next_if(|other| other.start < range.end) {
            left.push(start..other.start);
            start = other.end;
        }
        left.push(start..range.end);
    }
    left.retain(|range| !range.is_empty());
    left
}

/// How many chunks more a peer may say are on their way to it, and be believed.
fn started_room(started: &Holdings, chunk_bytes: u32) -> u32 {
    let most = STARTED_BYTES / chunk_bytes.max(1);
    most.max(STARTED_CHUNKS).saturating_sub(started.count())
}

/// The first so many chunks of the ranges.
fn first(ranges: Ranges, mut room: u32) -> Ranges {
    let mut first = ranges;
    first.retain_mut(|range| {
        range.end = range.end.min(range.start.saturating_add(room));
        room -= range.end - range.start;
        range.start < range.end
    });
    first
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
