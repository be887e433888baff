//! Invitations: which chunk of ours a neighbour lacks, and what to do when others invite us.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use rand::Rng;

use super::super::Reach;
use super::super::availability::word;
use super::super::peer::Peer;
use super::{Action, Download, RequestId};
use crate::content::ChunkIndex;
use crate::id::PublicKey;

/// Chunks among which the rarest is suggested.
const SAMPLE: usize = 128;

/// What to suggest to a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transfer) struct Invitation {
    /// Whom.
    pub(in crate::transfer) peer: PublicKey,
    /// How far away it is.
    pub(in crate::transfer) rtt: Duration,
    /// What.
    pub(in crate::transfer) chunk: u32,
}

impl Download {
    /// A rare chunk of ours that a neighbour lacks: one that `may` be invited and is reached
    /// directly, the neediest first.
    pub(in crate::transfer) fn invite(
        &self,
        rng: &mut impl Rng,
        may: impl Fn(&PublicKey) -> bool,
    ) -> Option<Invitation> {
        let all = self.have.len();
        let is_fit = |key: &PublicKey, peer: &Peer| {
            peer.reach == Reach::Direct && peer.holds.count() < all && may(key)
        };
        let fit = self.peers.iter().filter(|(key, peer)| is_fit(key, peer));
        let mut fit: Vec<_> = fit
            .map(|(key, peer)| (Reverse(self.need_of(key)), rng.random::<u32>(), key, peer))
            .collect();
        fit.sort_unstable_by_key(|(need, order, ..)| (*need, *order));
        fit.into_iter().find_map(|(.., key, peer)| {
            let chunk = self.worth_inviting(peer, rng)?;
            let (peer, rtt) = (*key, peer.rtt());
            Some(Invitation { peer, rtt, chunk })
        })
    }

    /// A rare chunk that the peer lacks, if possible none that is on its way to it.
    fn worth_inviting(&self, peer: &Peer, rng: &mut impl Rng) -> Option<u32> {
        let (ours, holds) = (self.have.bits(), peer.holds.bits());
        let started = peer.started.bits();
        let lacked = |at| word(ours, at) & !word(holds, at);
        let unasked = |at| lacked(at) & !word(started, at);
        self.rarest_of(unasked, rng)
            .or_else(|| self.rarest_begun(peer))
            .or_else(|| self.rarest_of(lacked, rng))
    }

    /// The rarest of the chunks that have begun to come to us, and which the peer has not asked for: by
    /// the time it asks we may have it. What has not begun may come by way of the peer itself.
    fn rarest_begun(&self, peer: &Peer) -> Option<u32> {
        let has_begun = |requests: &[RequestId]| requests.iter().any(|id| self.has_begun(*id));
        let begun = self.in_flight.iter().filter(|(_, all)| has_begun(all));
        let unasked =
            |chunk: &ChunkIndex| !peer.holds.contains(*chunk) && !peer.started.contains(*chunk);
        let unasked = begun.map(|(chunk, _)| *chunk).filter(unasked);
        unasked
            .map(ChunkIndex::value)
            .min_by_key(|chunk| self.copies(*chunk))
    }

    /// The rarest of a sample of the chunks of a bitmap.
    fn rarest_of(&self, mask: impl Fn(usize) -> usize, rng: &mut impl Rng) -> Option<u32> {
        let len = self.have.len();
        let words = (len as usize).div_ceil(WORD_BITS);
        let start = rng.random_range(0..words.max(1));
        let order = (start..words).chain(0..start);
        let chunks = order.flat_map(|at| bits(mask(at)).map(move |bit| at as u32 * WORD + bit));
        let sample = chunks.filter(|chunk| *chunk < len).take(SAMPLE);
        sample.min_by_key(|chunk| self.copies(*chunk))
    }

    /// Notes what a peer suggests of which nothing is asked.
    pub(super) fn note_invitation(&mut self, key: PublicKey) {
        let is_idle = |peer: &Peer| peer.has_no_requests() && peer.reach == Reach::Direct;
        if self.peers.get(&key).is_some_and(is_idle) {
            self.invited.insert(key);
        }
    }

    /// Takes up an invitation.
    pub(super) fn poll_invited(&mut self, now: Instant) -> Option<Action> {
        let chunk_bytes = u64::from(self.content.layout.longest_chunk());
        while let Some(key) = self.invited.pop_first() {
            // What comes before all else does so before this too.
            let is_busy = self.preferred(now, key).is_some();
            if is_busy || !self.budget.has_room(chunk_bytes) {
                continue;
            }
            let Some(chunk) = self.fit_invitation(now, key) else {
                continue;
            };
            if let Some(request) = self.in_flight.get(&chunk).and_then(|all| all.first()) {
                self.cancel(now, *request);
            }
            self.unwant(chunk);
            let action = self.ask(now, key, chunk);
            let asked = self.peers.get_mut(&key);
            asked.into_iter().for_each(Peer::pin_last);
            // What it takes the place of is cancelled before.
            self.actions.extend(action);
            return self.actions.pop_front();
        }
        None
    }

    /// The first chunk that a peer suggests and would bring sooner than anybody else.
    fn fit_invitation(&mut self, now: Instant, key: PublicKey) -> Option<ChunkIndex> {
        let peer = self.peers.get_mut(&key)?;
        if !peer.is_willing() || !peer.has_no_requests() {
            return None;
        }
        let mut suggested = std::mem::take(&mut peer.suggested);
        let mut found = None;
        while found.is_none()
            && let Some(chunk) = suggested.pop_front()
        {
            let chunk = self.have.index(chunk);
            found = chunk.filter(|chunk| self.is_worth(now, key, *chunk));
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.suggested = suggested;
        }
        found
    }

    fn is_worth(&self, now: Instant, key: PublicKey, chunk: ChunkIndex) -> bool {
        let Some(peer) = self.peers.get(&key) else {
            return false;
        };
        let (has, begins) = (peer.holds.contains(chunk), peer.started.contains(chunk));
        if !has && !begins {
            return false;
        }
        let is_left = peer.is_seed() && self.is_coming_to_others(chunk.value());
        if self.holders.is_wanted(chunk.value()) {
            return !is_left;
        }
        if !has {
            return false;
        }
        let len = u64::from(self.content.layout.chunk_len(chunk));
        let sooner = |request: &RequestId| {
            let owner = self.owners.get(request).and_then(|key| self.peers.get(key));
            let waits = owner.and_then(|owner| owner.waits(now, *request));
            waits.is_some_and(|waits| waits > peer.time_for(now, len))
        };
        let requests = self.in_flight.get(&chunk).map_or(&[][..], Vec::as_slice);
        matches!(requests, [only] if sooner(only))
    }

    /// Whether a chunk that only those have who have everything is on its way to somebody, who will
    /// pass it on.
    pub(super) fn is_coming_to_others(&self, chunk: u32) -> bool {
        !self.spread.contains(chunk as usize) && self.rarity.copies(chunk) > self.seeds.into()
    }
}

const WORD_BITS: usize = usize::BITS as usize;
const WORD: u32 = usize::BITS;

/// The bits that are set, ascending.
fn bits(mut word: usize) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        (word != 0).then(|| {
            word &= word - 1;
            bit
        })
    })
}
