//! Whom to serve next.
//!
//! Few receivers at a time, so that the first of them has a whole chunk soon and can pass it on; each
//! in the order in which it asked; the share first that has been given least. One place is for the
//! receiver that misses most, the others for whoever has waited longest: if all places were, all peers
//! would serve the same one, whose downlink would be full while their uplinks idle.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::UploadId;
use super::slots::Slots;
use crate::id::{PublicKey, SwarmId};

/// Requests of one peer that may wait.
const WAITING: usize = 256;
/// The next request of a receiver is begun once no more than this is left of the one before, and no
/// more than half, that nothing idles between them.
const AHEAD_BYTES: u32 = 64 * 1024;
/// How often to look whether another number of receivers would be better, while some wait.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Shares that were given as much within so many bytes are equal.
const GIVEN_BYTES: u64 = 4 * 1024 * 1024;

/// A request that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) upload: UploadId,
    pub(super) swarm: SwarmId,
    pub(super) bytes: u32,
}

#[derive(Debug, Default)]
struct Receiver {
    /// Requests, and when each came.
    waiting: VecDeque<(u64, Asked)>,
    waiting_bytes: u64,
    /// Served now, oldest first.
    served: Vec<UploadId>,
}

#[derive(Debug)]
struct Served {
    peer: PublicKey,
    swarm: SwarmId,
    bytes: u32,
    left: u32,
    /// Whether its receiver was chosen because it needs most.
    by_need: bool,
}

/// What peers have asked of us.
#[derive(Debug)]
pub(super) struct Uploads {
    slots: Slots,
    receivers: BTreeMap<PublicKey, Receiver>,
    served: BTreeMap<UploadId, Served>,
    /// Who asked for what waits.
    owners: BTreeMap<UploadId, PublicKey>,
    /// Bytes given of each share; one that comes later starts at the least of them.
    given: BTreeMap<SwarmId, u64>,
    count: u64,
    next_look: Instant,
    /// Nothing has changed since there was nothing to serve.
    is_settled: bool,
}

impl Uploads {
    pub(super) fn new(now: Instant) -> Uploads {
        Uploads {
            slots: Slots::new(now),
            receivers: BTreeMap::new(),
            served: BTreeMap::new(),
            owners: BTreeMap::new(),
            given: BTreeMap::new(),
            count: 0,
            next_look: now,
            is_settled: true,
        }
    }

    /// A share may be asked for.
    pub(super) fn open(&mut self, swarm: SwarmId) {
        let least = self.given.values().min().copied().unwrap_or(0);
        self.given.insert(swarm, least);
    }

    /// It may not any more. What was asked stays until its shell says that it has ended.
    pub(super) fn close(&mut self, swarm: &SwarmId) {
        self.given.remove(swarm);
    }

    /// A peer asks; false when too much of its waits already.
    pub(super) fn ask(&mut self, peer: PublicKey, asked: Asked) -> bool {
        let receiver = self.receivers.entry(peer).or_default();
        if receiver.waiting.len() >= WAITING {
            return false;
        }
        receiver.waiting.push_back((self.count, asked));
        receiver.waiting_bytes += u64::from(asked.bytes);
        self.owners.insert(asked.upload, peer);
        self.count += 1;
        self.is_settled = false;
        true
    }

    /// Bytes went out.
    pub(super) fn sent(&mut self, upload: UploadId, bytes: u32) {
        if let Some(served) = self.served.get_mut(&upload) {
            served.left = served.left.saturating_sub(bytes);
            self.is_settled &= !served.is_nearly_out();
            self.slots.sent(bytes);
            if let Some(given) = self.given.get_mut(&served.swarm) {
                *given += u64::from(bytes);
            }
        }
    }

    /// An upload is over, served or not.
    pub(super) fn end(&mut self, upload: UploadId) {
        let served = self.served.remove(&upload).map(|served| served.peer);
        let Some(peer) = served.or_else(|| self.owners.remove(&upload)) else {
            return;
        };
        let Some(receiver) = self.receivers.get_mut(&peer) else {
            return;
        };
        self.is_settled = false;
        receiver.finish(upload);
        if receiver.is_idle() {
            self.receivers.remove(&peer);
        }
    }

    /// Bytes a peer has asked for that it is not served yet.
    pub(super) fn queued_of(&self, peer: &PublicKey) -> u64 {
        let receiver = self.receivers.get(peer);
        receiver.map_or(0, |receiver| receiver.waiting_bytes)
    }

    /// Peers that have asked for something that is not sent.
    pub(super) fn receivers(&self) -> usize {
        self.receivers.len()
    }

    /// Whether a peer is not one of them.
    pub(super) fn is_idle(&self, peer: &PublicKey) -> bool {
        !self.receivers.contains_key(peer)
    }

    /// How many are served at once.
    pub(super) fn places(&self) -> usize {
        self.slots.count()
    }

    /// Bytes given of a share, in steps within which shares are equal.
    pub(super) fn given(&self, swarm: &SwarmId) -> u64 {
        self.given.get(swarm).copied().unwrap_or(0) / GIVEN_BYTES
    }

    /// The upload to serve now, if there is one. `need` tells how much of a share a peer misses.
    pub(super) fn next(
        &mut self,
        now: Instant,
        need: impl Fn(&SwarmId, &PublicKey) -> u32,
    ) -> Option<UploadId> {
        self.look(now);
        if self.is_settled {
            return None;
        }
        let Some((peer, by_need)) = self.neediest(need) else {
            self.is_settled = true;
            return None;
        };
        let receiver = self.receivers.get_mut(&peer)?;
        let (_, asked) = receiver.waiting.pop_front()?;
        receiver.waiting_bytes -= u64::from(asked.bytes);
        receiver.served.push(asked.upload);
        self.owners.remove(&asked.upload);
        let served = Served {
            peer,
            swarm: asked.swarm,
            bytes: asked.bytes,
            left: asked.bytes,
            by_need,
        };
        self.served.insert(asked.upload, served);
        Some(asked.upload)
    }

    /// When [`Self::next`] may have something though nothing happened.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waits = !self.owners.is_empty() && !self.served.is_empty();
        waits.then_some(self.next_look)
    }

    fn look(&mut self, now: Instant) {
        if self.busy() < self.slots.count() {
            self.slots.idle();
        }
        if now >= self.next_look {
            self.slots.look(now);
            self.is_settled = false;
            self.next_look = now + LOOK_EVERY;
        }
    }

    fn neediest(&self, need: impl Fn(&SwarmId, &PublicKey) -> u32) -> Option<(PublicKey, bool)> {
        if self.busy() >= self.slots.count() {
            return None;
        }
        let mut served = self.served.values();
        let by_need = !served.any(|served| served.by_need && !served.is_nearly_out());
        let due = self.receivers.iter().filter_map(|(peer, receiver)| {
            let (order, asked) = receiver.waiting.front()?;
            let is_free = match receiver.served.as_slice() {
                [] => true,
                [only] => self.is_nearly_out(only),
                _ => false,
            };
            if !is_free {
                return None;
            }
            let given = self.given(&asked.swarm);
            let need = Reverse(if by_need { need(&asked.swarm, peer) } else { 0 });
            Some((given, need, *order, *peer))
        });
        due.min().map(|(_, _, _, peer)| (peer, by_need))
    }

    /// Uploads that are not nearly out: each takes a place.
    fn busy(&self) -> usize {
        let served = self.served.values();
        served.filter(|served| !served.is_nearly_out()).count()
    }

    fn is_nearly_out(&self, upload: &UploadId) -> bool {
        self.served.get(upload).is_none_or(Served::is_nearly_out)
    }
}

impl Served {
    fn is_nearly_out(&self) -> bool {
        self.left <= AHEAD_BYTES.min(self.bytes / 2)
    }
}

impl Receiver {
    /// Takes an upload out.
    fn finish(&mut self, upload: UploadId) {
        self.served.retain(|other| *other != upload);
        let waiting = &mut self.waiting;
        if let Some(at) = waiting.iter().position(|(_, asked)| asked.upload == upload)
            && let Some((_, asked)) = waiting.remove(at)
        {
            self.waiting_bytes -= u64::from(asked.bytes);
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.served.is_empty()
    }
}
