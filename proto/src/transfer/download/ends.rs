//! What comes of requests, and how chunks become ours or wanted again.

use std::time::Instant;

use super::super::Reach;
use super::super::availability::{Lowered, Wanted};
use super::super::holdings::merge;
use super::super::peer::{Peer, Request, Setback};
use super::{Action, Change, Download, RequestId};
use crate::content::{ChunkIndex, Run};
use crate::wire::NoReason;

impl Download {
    pub(super) fn receive(&mut self, now: Instant, id: RequestId, bytes: u32) {
        let Some(peer) = self.owner(id) else {
            return;
        };
        let bytes = bytes.min(peer.rest_of(id));
        peer.receive(now, id, bytes);
        if peer.is_drained() {
            self.look_for_copy = Some(now);
        }
        self.rate.credit(now, bytes);
    }

    pub(super) fn verify(&mut self, now: Instant, id: RequestId) {
        let rest = self.owner(id).map_or(0, |peer| peer.rest_of(id));
        let Some(request) = self.owner(id).and_then(|peer| peer.succeed(now, id)) else {
            return;
        };
        self.rate.credit(now, rest);
        if let Some(key) = self.owners.get(&id).copied() {
            self.recount(key);
            let peer = self.peers.get(&key);
            if peer.is_some_and(|peer| peer.reach == Reach::Direct) {
                self.patience.reward();
            }
        }
        self.compare(now);
        let chunk = request.chunk;
        self.have.insert(chunk);
        self.changes.push((chunk, Change::Had));
        self.missing.remove(chunk.value() as usize);
        self.verified_bytes += self.counted_bytes(chunk);
        for peer in self.peers.values_mut() {
            peer.useful -= u32::from(peer.holds.contains(chunk));
        }
        self.read_on();
        self.book_end(id, &request);
        for copy in self.in_flight.get(&chunk).cloned().unwrap_or_default() {
            let copy = self.cancel(now, copy);
            self.wasted_bytes += copy.map_or(0, |copy| copy.received.into());
        }
    }

    pub(super) fn ban(&mut self, id: RequestId) {
        let Some(key) = self.owners.get(&id).copied() else {
            return;
        };
        self.banned.insert(key);
        let ended = self.part(key).into_iter().filter(|ended| *ended != id);
        self.actions
            .extend(ended.map(|request| Action::Cancel { request }));
        self.actions.push_back(Action::Ban { peer: key });
    }

    pub(super) fn refuse(&mut self, now: Instant, id: RequestId, reason: NoReason) {
        let Some(key) = self.owners.get(&id).copied() else {
            return;
        };
        if reason == NoReason::Busy {
            return self.give_up(now, id, Setback::Busy);
        }
        if let Some(peer) = self.peers.get_mut(&key)
            && peer.has_promised(id)
        {
            peer.refuse(reason);
            self.reviewed.insert(key);
        }
        match reason {
            NoReason::Busy | NoReason::NotHere | NoReason::Unknown => {
                let chunk = self.end(now, id).map(|request| request.chunk);
                chunk.into_iter().for_each(|chunk| self.lacks(key, chunk));
            }
            NoReason::Changed => {
                self.end(now, id);
                self.lacks_everything(key);
            }
        }
    }

    pub(super) fn give_up(&mut self, now: Instant, id: RequestId, why: Setback) {
        let Some(key) = self.owners.get(&id).copied() else {
            return;
        };
        self.end(now, id);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.set_back(now, why, &mut self.rng);
        }
        self.mind_all();
        self.recount(key);
    }

    /// A request is over because we wanted it so; the chunk is wanted again.
    pub(super) fn withdraw(&mut self, now: Instant, id: RequestId) {
        self.end(now, id);
    }

    /// Chunks of ours are missing after all.
    pub(super) fn forget(&mut self, runs: &[Run]) {
        let len = self.have.len();
        let clamped = runs.iter().filter(|run| run.count > 0 && run.start < len);
        let clamped = clamped.map(|run| Run {
            start: run.start,
            count: run.count.min(len - run.start),
        });
        let ranges = merge(&clamped.collect::<Vec<_>>(), len).unwrap_or_default();
        for chunk in ranges.into_iter().flatten() {
            let chunk = self.have.index(chunk);
            let lost = chunk.filter(|chunk| self.have.remove(*chunk));
            let Some(chunk) = lost else {
                continue;
            };
            self.changes.push((chunk, Change::Lost));
            if self.selects(chunk) {
                let wanted = self.miss(chunk);
                for peer in self.peers.values_mut() {
                    peer.useful += u32::from(peer.holds.contains(chunk));
                }
                self.lower_floors(Lowered::These(vec![wanted]));
            }
        }
        self.read = 0;
        self.read_on();
    }

    /// Books a chunk as missing and wanted.
    pub(super) fn miss(&mut self, chunk: ChunkIndex) -> Wanted {
        self.missing.insert(chunk.value() as usize);
        self.verified_bytes -= self.counted_bytes(chunk);
        self.want(chunk)
    }

    pub(super) fn want(&mut self, chunk: ChunkIndex) -> Wanted {
        if !self.holders.is_wanted(chunk.value()) && self.is_first(chunk) {
            self.first_wanted += 1;
        }
        self.holders.want(chunk.value());
        self.direct.want(chunk.value());
        self.rarity.want(chunk.value())
    }

    pub(super) fn unwant(&mut self, chunk: ChunkIndex) {
        if self.holders.is_wanted(chunk.value()) && self.is_first(chunk) {
            self.first_wanted -= 1;
        }
        self.holders.unwant(chunk.value());
        self.direct.unwant(chunk.value());
        self.rarity.unwant(chunk.value());
    }

    fn owner(&mut self, id: RequestId) -> Option<&mut Peer> {
        self.peers.get_mut(self.owners.get(&id)?)
    }

    pub(super) fn cancel(&mut self, now: Instant, id: RequestId) -> Option<Request> {
        let request = self.end(now, id)?;
        self.actions.push_back(Action::Cancel { request: id });
        Some(request)
    }

    fn end(&mut self, now: Instant, id: RequestId) -> Option<Request> {
        let request = self.owner(id)?.end(now, id)?;
        self.book_end(id, &request);
        Some(request)
    }

    /// Books that a request its peer no longer has is over. A chunk that is missing and asked of
    /// nobody else is wanted again, one that is not selected any more is not.
    pub(super) fn book_end(&mut self, id: RequestId, request: &Request) {
        let chunk = request.chunk;
        self.owners.remove(&id);
        self.budget.outstanding -= u64::from(request.len);
        if let Some(copies) = self.in_flight.get_mut(&chunk) {
            copies.retain(|copy| *copy != id);
            if !copies.is_empty() {
                return;
            }
            self.in_flight.remove(&chunk);
        }
        if !self.have.contains(chunk) {
            self.changes.push((chunk, Change::Missing));
        }
        if self.missing.contains(chunk.value() as usize) {
            let wanted = self.want(chunk);
            self.lower_floors(Lowered::These(vec![wanted]));
        }
    }
}
