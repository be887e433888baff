//! Whom to serve next.
//!
//! Few receivers at a time, so that the first of them has a whole chunk soon and can pass it on; each
//! in the order in which it asked. Shares take turns, so that each gives as many bytes whatever the
//! size of its chunks. One place is for the receiver that misses most: if all places were, all peers
//! would serve the same one, whose downlink would be full while their uplinks idle. The others are for
//! the chunk that is rarest, and of equals for who has waited longest: a chunk that waits at each peer
//! that passes it on comes to the last of them late, and with the last chunk the swarm ends. A receiver
//! is a peer in one share: who fetches two shares of us is two.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::UploadId;
use super::places::Places;
use crate::id::{PublicKey, SwarmId};
use crate::transfer::rounds::Rounds;

/// Requests of one receiver that may wait.
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
    pub(super) chunk: u32,
    pub(super) bytes: u32,
}

/// A peer in one share.
type Who = (SwarmId, PublicKey);

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
    who: Who,
    bytes: u32,
    left: u32,
    /// Whether its receiver was chosen because it needs most.
    by_need: bool,
}

/// What peers have asked of us.
#[derive(Debug)]
pub(super) struct Uploads {
    places: Places,
    receivers: BTreeMap<Who, Receiver>,
    /// Of how many shares each peer is a receiver.
    asking: BTreeMap<PublicKey, usize>,
    served: BTreeMap<UploadId, Served>,
    /// Who asked for what waits.
    owners: BTreeMap<UploadId, Who>,
    /// Whose turn it is among shares.
    rounds: Rounds,
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
            places: Places::new(now),
            receivers: BTreeMap::new(),
            asking: BTreeMap::new(),
            served: BTreeMap::new(),
            owners: BTreeMap::new(),
            rounds: Rounds::default(),
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

    /// Whether what a share gives has a limit of its own: then its receivers wait for that, and not
    /// for the uplink, and must not take the places of others.
    pub(super) fn set_limited(&mut self, now: Instant, swarm: SwarmId, is_limited: bool) {
        self.places.set_apart(now, swarm, is_limited);
        self.is_settled = false;
    }

    /// A peer asks; false when too much of its waits already.
    pub(super) fn ask(&mut self, peer: PublicKey, asked: Asked) -> bool {
        let who = (asked.swarm, peer);
        let receiver = self.receivers.entry(who).or_default();
        if receiver.waiting.len() >= WAITING {
            return false;
        }
        if receiver.is_idle() {
            *self.asking.entry(peer).or_default() += 1;
        }
        receiver.waiting.push_back((self.count, asked));
        receiver.waiting_bytes += u64::from(asked.bytes);
        self.owners.insert(asked.upload, who);
        self.count += 1;
        self.is_settled = false;
        true
    }

    /// Bytes went out.
    pub(super) fn sent(&mut self, upload: UploadId, bytes: u32) {
        if let Some(served) = self.served.get_mut(&upload) {
            served.left = served.left.saturating_sub(bytes);
            self.is_settled &= !served.is_nearly_out();
            self.places.sent(&served.who.0, bytes);
            if let Some(given) = self.given.get_mut(&served.who.0) {
                *given += u64::from(bytes);
            }
        }
    }

    /// An upload is over, served or not.
    pub(super) fn end(&mut self, upload: UploadId) {
        let served = self.served.remove(&upload);
        if let Some(served) = &served {
            self.rounds.give_back(served.who.0, served.left.into());
        }
        let served = served.map(|served| served.who);
        let Some(who) = served.or_else(|| self.owners.remove(&upload)) else {
            return;
        };
        let Some(receiver) = self.receivers.get_mut(&who) else {
            return;
        };
        self.is_settled = false;
        receiver.finish(upload);
        if receiver.is_idle() {
            self.remove(who);
        }
    }

    /// A receiver has nothing more to wait for.
    fn remove(&mut self, who: Who) {
        let (swarm, peer) = who;
        self.receivers.remove(&who);
        if let Some(shares) = self.asking.get_mut(&peer) {
            *shares -= 1;
            if *shares == 0 {
                self.asking.remove(&peer);
            }
        }
        let (least, most) = (PublicKey([0; 32]), PublicKey([u8::MAX; 32]));
        let mut others = self.receivers.range((swarm, least)..=(swarm, most));
        if others.next().is_none() {
            self.rounds.forget(&swarm);
        }
    }

    /// Bytes of a share that a peer has asked for and is not served yet.
    pub(super) fn queued_of(&self, swarm: &SwarmId, peer: &PublicKey) -> u64 {
        let receiver = self.receivers.get(&(*swarm, *peer));
        receiver.map_or(0, |receiver| receiver.waiting_bytes)
    }

    /// Receivers that have asked for something that is not sent, of what has no limit of its own.
    pub(super) fn receivers(&self) -> usize {
        let shares = self.receivers.keys().map(|(swarm, _)| swarm);
        shares.filter(|swarm| self.places.is_common(swarm)).count()
    }

    /// Whether a peer has asked for nothing that is not sent.
    pub(super) fn is_idle(&self, peer: &PublicKey) -> bool {
        !self.asking.contains_key(peer)
    }

    /// How many of those are served at once.
    pub(super) fn places(&self) -> usize {
        self.places.common()
    }

    /// Bytes given of a share, in steps within which shares are equal.
    pub(super) fn given(&self, swarm: &SwarmId) -> u64 {
        self.given.get(swarm).copied().unwrap_or(0) / GIVEN_BYTES
    }

    /// The upload to serve now, if there is one. `need` tells how much of a share a peer misses,
    /// `copies` how often there is a chunk.
    pub(super) fn next(
        &mut self,
        now: Instant,
        need: impl Fn(&SwarmId, &PublicKey) -> u32,
        copies: impl Fn(&SwarmId, u32) -> i64,
    ) -> Option<UploadId> {
        self.look(now);
        if self.is_settled {
            return None;
        }
        let Some((who, by_need)) = self.first(need, copies) else {
            self.is_settled = true;
            return None;
        };
        let receiver = self.receivers.get_mut(&who)?;
        let (_, asked) = receiver.waiting.pop_front()?;
        receiver.waiting_bytes -= u64::from(asked.bytes);
        receiver.served.push(asked.upload);
        self.owners.remove(&asked.upload);
        let served = Served {
            who,
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
        // Each upload that is not nearly out takes a place.
        let served = self.served.values().filter(|it| !it.is_nearly_out());
        self.places.count_busy(served.map(|it| &it.who.0));
        self.places.note_idle();
        if now >= self.next_look {
            self.places.look(now);
            self.is_settled = false;
            self.next_look = now + LOOK_EVERY;
        }
    }

    /// Of the share whose turn it is, the neediest, or who asks for what is rarest; whether it is for its
    /// need.
    fn first(
        &mut self,
        need: impl Fn(&SwarmId, &PublicKey) -> u32,
        copies: impl Fn(&SwarmId, u32) -> i64,
    ) -> Option<(Who, bool)> {
        // Receivers come share by share.
        let mut able: Vec<(SwarmId, u64)> = Vec::new();
        let mut firsts: Vec<((i64, u64), Who)> = Vec::new();
        for (who, receiver) in &self.receivers {
            let (swarm, peer) = *who;
            let front = receiver.waiting.front();
            let Some((order, asked)) = front.filter(|_| self.may_begin(&swarm, receiver)) else {
                continue;
            };
            let rank = match self.goes_by_need(&swarm) {
                true => -i64::from(need(&swarm, &peer)),
                false => copies(&swarm, asked.chunk),
            };
            let rank = (rank, *order);
            let offer = (swarm, u64::from(asked.bytes));
            match (firsts.last_mut(), able.last_mut()) {
                (Some(first), Some(last)) if last.0 == swarm => {
                    if rank < first.0 {
                        (*first, *last) = ((rank, *who), offer);
                    }
                }
                _ => {
                    firsts.push((rank, *who));
                    able.push(offer);
                }
            }
        }
        let swarm = self.rounds.next(&able)?;
        let mut firsts = firsts.into_iter().map(|(_, who)| who);
        let who = firsts.find(|(share, _)| *share == swarm)?;
        Some((who, self.goes_by_need(&swarm)))
    }

    /// Whether the place that is for the neediest is free where the receivers of a share have theirs.
    fn goes_by_need(&self, swarm: &SwarmId) -> bool {
        let served = self.served.values();
        let mut busy = served.filter(|served| served.by_need && !served.is_nearly_out());
        !busy.any(|served| self.places.are_alike(&served.who.0, swarm))
    }

    /// Whether the next request of a receiver may be begun.
    fn may_begin(&self, swarm: &SwarmId, receiver: &Receiver) -> bool {
        let is_free = match receiver.served.as_slice() {
            [] => true,
            [only] => self.is_nearly_out(only),
            _ => false,
        };
        is_free && self.places.has_room(swarm)
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
