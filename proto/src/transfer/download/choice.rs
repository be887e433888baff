//! What to do next: give up what stalled, ask for a wanted chunk, ask for a copy.

use std::time::{Duration, Instant};

use super::super::Reach;
use super::super::availability::{DRY, Wanted};
use super::super::endgame::{self, Free, Single};
use super::super::peer::{Peer, Setback};
use super::super::window::{all_bytes, is_quick, least_bytes};
use super::{Action, Change, Download, RequestId};
use crate::content::ChunkIndex;
use crate::id::PublicKey;

/// Copies of one chunk asked for at once, at most.
const COPIES: usize = 2;
/// Copies stop once they have cost this part of the share, or may yet,
const WASTE_PART: u64 = 100;
/// and this many chunks more, so that small shares have a tail too.
const WASTE_CHUNKS: u64 = 4;

impl Download {
    /// Cancels what has stalled and lets peers go on whose time has come.
    pub(super) fn handle_timeouts(&mut self, now: Instant) {
        if self.patience.deadline().is_some_and(|at| at <= now) {
            self.patience.handle_timeout(now);
            self.may_ask = true;
        }
        if self.no_deadline_before.is_none_or(|at| at > now) {
            return;
        }
        self.may_ask = true;
        let due = |peer: &Peer| peer.deadline().is_some_and(|deadline| deadline <= now);
        let due = self.peers.iter().filter(|(_, peer)| due(peer));
        for key in due.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.look_for_copy = Some(now);
            self.handle_stall(now, key);
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.resume(now);
                self.forgive(now, key);
            }
        }
        self.mind_all();
    }

    /// The deadlines of peers may be others than before.
    pub(super) fn mind_all(&mut self) {
        self.no_deadline_before = self.peers.values().filter_map(Peer::deadline).min();
    }

    /// The deadline of a peer may have come nearer.
    pub(super) fn mind(&mut self, key: PublicKey) {
        let deadline = self.peers.get(&key).and_then(Peer::deadline);
        let deadlines = self.no_deadline_before.into_iter().chain(deadline);
        self.no_deadline_before = deadlines.min();
    }

    fn handle_stall(&mut self, now: Instant, key: PublicKey) {
        let stalled = self.peers.get(&key).map(|peer| peer.stalled(now));
        for id in stalled.into_iter().flatten() {
            let chunk = self.cancel(now, id).map(|request| request.chunk);
            let elsewhere = |chunk: &ChunkIndex| self.holders.of(chunk.value()) > 1;
            if let Some(chunk) = chunk.filter(elsewhere) {
                self.lacks(key, chunk);
                self.peers
                    .get_mut(&key)
                    .into_iter()
                    .for_each(|peer| peer.shun(now, chunk));
            }
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.set_back(now, Setback::Stalled, &mut self.rng);
            }
            self.recount(key);
        }
    }

    fn forgive(&mut self, now: Instant, key: PublicKey) {
        let peer = self.peers.get_mut(&key);
        let forgiven = peer.map(|peer| peer.forgive(|_, until| until <= now));
        for chunk in forgiven.into_iter().flatten() {
            self.has(key, chunk);
        }
    }

    /// A request for a wanted chunk, to the peer that would bring one first.
    pub(super) fn poll_wanted(&mut self, now: Instant) -> Option<Action> {
        if !self.may_ask {
            return None;
        }
        while let Some(key) = self.next_asked(now) {
            let chunk = self.preferred(now, key);
            let chunk = chunk.or_else(|| self.suggested(key));
            let chunk = chunk.or_else(|| self.rarest(now, key));
            if let Some(chunk) = chunk.and_then(|chunk| self.have.index(chunk)) {
                self.unwant(chunk);
                return self.ask(now, key, chunk);
            }
        }
        self.may_ask = false;
        None
    }

    /// The wanted chunk that the peer would give first, unless another has asked for it already. Who
    /// is reached through a relay has no say.
    fn suggested(&mut self, key: PublicKey) -> Option<u32> {
        let peer = self.peers.get_mut(&key)?;
        while let Some(chunk) = peer.suggested.pop_front() {
            let has = peer.holds.bits().contains(chunk as usize);
            if has && self.holders.is_wanted(chunk) && peer.reach == Reach::Direct {
                return Some(chunk);
            }
        }
        None
    }

    /// The rarest wanted chunk that the peer may be asked for.
    fn rarest(&mut self, now: Instant, key: PublicKey) -> Option<u32> {
        if self.is_advised(&key) && self.hold(now, key) {
            return None;
        }
        let peer = self.peers.get(&key)?;
        let (bits, rng) = (peer.holds.bits(), &mut self.rng);
        let is_seed = peer.is_seed() && peer.reach == Reach::Direct;
        let mut rarest = match peer.reach {
            Reach::Direct => self.rarity.rarest(bits, peer.floor, rng),
            Reach::Relayed => {
                let orphans = self.direct.orphans();
                orphans.and_then(|it| self.rarity.rarest_among(bits, it, rng))
            }
        };
        if is_seed && rarest.is_some_and(|it| self.is_coming_to_others(it.chunk)) {
            // All that is as rare or less so has been asked of a seed by somebody, who will pass
            // it on; what others have already is asked for now.
            let spread = self.rarest_spread(&key);
            if spread.is_none() && self.hold(now, key) {
                return None;
            }
            rarest = spread.or(rarest);
        }
        // What a floor hides of a seed's is looked at again after a moment.
        if is_seed && rarest.is_none() {
            self.hold(now, key);
        }
        let peer = self.peers.get_mut(&key)?;
        peer.floor = rarest.map_or(DRY, |wanted| wanted.level);
        rarest.map(|wanted| wanted.chunk)
    }

    /// Whether it is a seed that says what it should be asked for: it knows what it has sent to whom,
    /// and what else we lack comes from others.
    fn is_advised(&self, key: &PublicKey) -> bool {
        let advises = |peer: &Peer| peer.is_advising_seed() && peer.reach == Reach::Direct;
        self.peers.len() as u32 > self.seeds && self.peers.get(key).is_some_and(advises)
    }

    /// The rarest wanted chunk of this peer's that another has who does not have everything.
    fn rarest_spread(&mut self, key: &PublicKey) -> Option<Wanted> {
        let bits = self.peers.get(key)?.holds.bits();
        self.rarity.rarest_among(bits, &self.spread, &mut self.rng)
    }

    /// Leaves a seed alone for a moment; false when that was done a short while ago.
    fn hold(&mut self, now: Instant, key: PublicKey) -> bool {
        let is_held = self.peers.get_mut(&key).is_some_and(|peer| peer.hold(now));
        self.mind(key);
        is_held
    }

    /// The peer to ask next, among those that may have a wanted chunk and room for it.
    fn next_asked(&self, now: Instant) -> Option<PublicKey> {
        let chunk_bytes = u64::from(self.content.layout.longest_chunk());
        if !self.holders.is_askable() || !self.budget.has_room(chunk_bytes) {
            return None;
        }
        let budget = &self.budget;
        let restraint = self.patience.restraint(|| self.has_supplier());
        // Counting is left out where it would make no difference.
        let is_ample = budget.has_room_for_all(chunk_bytes, self.peers.len() as u64);
        let (asked, unasked) = if is_ample {
            (0, 0)
        } else {
            self.asked_and_unasked()
        };
        let (rate, least) = (self.rate.bytes_per_s(now), least_bytes(self.peers.len()));
        let has_room = |peer: &Peer| {
            let first = peer.has_no_requests();
            (peer.reach == Reach::Direct || restraint.allows(!first))
                && (first || is_ample || budget.has_room_beside(chunk_bytes, asked, unasked))
                && peer.has_room(now, least)
                && (budget.is_within(chunk_bytes, all_bytes(rate, peer.rtt(), chunk_bytes))
                    || is_quick(peer.rtt(), peer.time_for(now, chunk_bytes)))
        };
        let ready = self.peers.iter().filter(|(_, peer)| peer.is_ready());
        ready
            .filter(|(_, peer)| has_room(peer))
            .min_by_key(|(_, peer)| peer.time_for(now, chunk_bytes))
            .map(|(key, _)| *key)
    }

    /// How many peers were asked for something, and how many others have something.
    fn asked_and_unasked(&self) -> (u64, u64) {
        self.peers.values().fold((0, 0), |(asked, unasked), peer| {
            match peer.has_no_requests() {
                true => (asked, unasked + u64::from(peer.is_ready())),
                false => (asked + 1, unasked),
            }
        })
    }

    /// A second request for a chunk, once every missing chunk that somebody has was asked for.
    pub(super) fn poll_copy(&mut self, now: Instant) -> Option<Action> {
        self.look_for_copy.filter(|at| *at <= now)?;
        self.look_for_copy = self.no_copy_before.filter(|rested| *rested > now);
        if self.look_for_copy.is_some() {
            return None;
        }
        let chunk_bytes = u64::from(self.content.layout.longest_chunk());
        if self.holders.is_askable() || !self.may_waste() {
            return None;
        }
        let (singles, free) = (self.singles(now), self.free(now, chunk_bytes));
        if singles.is_empty() || self.peers.len() < COPIES {
            return None;
        }
        let copy = endgame::worth_copying(singles, free);
        let fits = |single: &Single| self.budget.has_room(single.len.into());
        let Some((key, single)) = copy.filter(|(_, single)| fits(single)) else {
            self.look_for_copy = Some(now + endgame::INTERVAL);
            self.no_copy_before = Some(now + endgame::REST);
            return None;
        };
        self.look_for_copy = Some(now);
        self.ask(now, key, single.chunk)
    }

    /// Whether another copy may be asked for: those before have not cost too much, and will not if all that
    /// are under way come to nothing.
    pub(super) fn may_waste(&self) -> bool {
        let chunk_bytes = u64::from(self.content.layout.longest_chunk());
        let under_way = self.in_flight.values().filter(|all| all.len() > 1).count() as u64;
        let waste = self.content.size / WASTE_PART + WASTE_CHUNKS * chunk_bytes;
        self.wasted_bytes + under_way * chunk_bytes < waste
    }

    /// What was asked of one peer only and is still to come.
    pub(super) fn singles(&self, now: Instant) -> Vec<Single> {
        let copies = |chunk: &ChunkIndex| self.in_flight.get(chunk).map_or(0, Vec::len);
        let coming = self.peers.iter().flat_map(|(key, peer)| {
            peer.arrivals(now).map(|(chunk, arrival)| Single {
                chunk,
                len: self.content.layout.chunk_len(chunk),
                peer: *key,
                arrival,
            })
        });
        coming
            .filter(|single| copies(&single.chunk) < COPIES)
            .collect()
    }

    /// The chunk, if it was asked of one peer only and is still to come.
    pub(super) fn single(&self, now: Instant, chunk: ChunkIndex) -> Option<Single> {
        let [only] = self.in_flight.get(&chunk)?.as_slice() else {
            return None;
        };
        let key = *self.owners.get(only)?;
        let mut arrivals = self.peers.get(&key)?.arrivals(now);
        let (_, arrival) = arrivals.find(|(other, _)| *other == chunk)?;
        Some(Single {
            chunk,
            len: self.content.layout.chunk_len(chunk),
            peer: key,
            arrival,
        })
    }

    /// Peers with room for a chunk. A copy is never
    /// worth a relay's while.
    pub(super) fn free(&self, now: Instant, chunk_bytes: u64) -> Vec<Free<'_>> {
        let may_copy = |peer: &Peer| {
            let is_direct = peer.reach == Reach::Direct;
            is_direct && peer.is_useful() && peer.has_room(now, 0)
        };
        let free = self.peers.iter().filter(|(_, peer)| may_copy(peer));
        free.map(|(key, peer)| Free {
            arrival: peer.time_for(now, chunk_bytes),
            key: *key,
            holds: &peer.holds,
        })
        .collect()
    }

    pub(super) fn ask(
        &mut self,
        now: Instant,
        key: PublicKey,
        chunk: ChunkIndex,
    ) -> Option<Action> {
        let (request, len) = (
            RequestId(self.next_request),
            self.content.layout.chunk_len(chunk),
        );
        self.peers.get_mut(&key)?.ask(now, request, chunk, len);
        self.rate.start(now, Duration::ZERO);
        self.mind(key);
        self.next_request += 1;
        self.owners.insert(request, key);
        self.in_flight.entry(chunk).or_default().push(request);
        self.changes.push((chunk, Change::Asked));
        self.budget.outstanding += u64::from(len);
        Some(Action::Request {
            request,
            peer: key,
            chunk,
            len,
        })
    }
}
