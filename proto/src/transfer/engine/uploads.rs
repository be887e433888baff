//! Whom to serve next.
//!
//! Few receivers at a time, so that the first of them has a whole chunk soon and can pass it on; each
//! in the order in which it asked. Shares take turns, so that each gives as many bytes whatever the
//! size of its chunks; of a share the receiver comes first that misses most, then whoever has waited
//! longest. A receiver is a peer in one share: who fetches two shares of us is two receivers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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

/// A request that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) upload: UploadId,
    pub(super) swarm: SwarmId,
    pub(super) bytes: u32,
}

/// A peer in one share.
type Who = (SwarmId, PublicKey);

/// Which place a receiver would be served in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Its own, which it has had for the request before.
    Kept,
    /// One that is free.
    Free,
    /// That of a receiver of another share, whose request is nearly out.
    Another,
}

/// Who may be served next.
#[derive(Clone, Copy, Debug)]
struct Due {
    who: Who,
    place: Place,
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
    who: Who,
    bytes: u32,
    left: u32,
}

/// What peers have asked of us.
#[derive(Debug)]
pub(super) struct Uploads {
    places: Places,
    receivers: BTreeMap<Who, Receiver>,
    served: BTreeMap<UploadId, Served>,
    /// Who asked for what waits.
    owners: BTreeMap<UploadId, Who>,
    /// Whose turn it is among shares.
    rounds: Rounds,
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
            served: BTreeMap::new(),
            owners: BTreeMap::new(),
            rounds: Rounds::default(),
            count: 0,
            next_look: now,
            is_settled: true,
        }
    }

    /// Whether what a share gives has a limit of its own: then its receivers wait for that, and not
    /// for the uplink, and must not take the places of others.
    pub(super) fn set_limited(&mut self, now: Instant, swarm: SwarmId, is_limited: bool) {
        let busy = self.receivers_of(&swarm);
        let busy = busy.filter(|receiver| !receiver.served.is_empty()).count();
        self.places.set_apart(now, swarm, busy, is_limited);
        self.is_settled = false;
    }

    /// A peer asks; false when too much of its waits already.
    pub(super) fn ask(&mut self, peer: PublicKey, asked: Asked) -> bool {
        let who = (asked.swarm, peer);
        let receiver = self.receivers.entry(who).or_default();
        if receiver.waiting.len() >= WAITING {
            return false;
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
        if receiver.finish(upload) {
            self.places.leave(&who.0);
        }
        if receiver.is_idle() {
            self.receivers.remove(&who);
        }
        if self.receivers_of(&who.0).next().is_none() {
            self.rounds.forget(&who.0);
        }
    }

    /// Bytes of a share that a peer has asked for and is not served yet.
    pub(super) fn queued_of(&self, swarm: &SwarmId, peer: &PublicKey) -> u64 {
        let receiver = self.receivers.get(&(*swarm, *peer));
        receiver.map_or(0, |receiver| receiver.waiting_bytes)
    }

    /// The upload to serve now, if there is one. `missing` tells how many chunks of a share a peer
    /// misses.
    pub(super) fn next(
        &mut self,
        now: Instant,
        missing: impl Fn(&SwarmId, &PublicKey) -> u32,
    ) -> Option<UploadId> {
        self.look(now);
        if self.is_settled {
            return None;
        }
        let Some(Due { who, place }) = self.neediest(missing) else {
            self.is_settled = true;
            return None;
        };
        let receiver = self.receivers.get_mut(&who)?;
        let (_, asked) = receiver.waiting.pop_front()?;
        receiver.waiting_bytes -= u64::from(asked.bytes);
        match place {
            Place::Kept => (),
            Place::Free => self.places.take(&who.0),
            Place::Another => self.places.displace(&who.0),
        }
        receiver.served.push(asked.upload);
        self.owners.remove(&asked.upload);
        let served = Served {
            who,
            bytes: asked.bytes,
            left: asked.bytes,
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
        self.places.note_idle();
        if now >= self.next_look {
            self.places.look(now);
            self.is_settled = false;
            self.next_look = now + LOOK_EVERY;
        }
    }

    /// Of the share whose turn it is, the neediest.
    fn neediest(&mut self, missing: impl Fn(&SwarmId, &PublicKey) -> u32) -> Option<Due> {
        let able = self.able();
        // Receivers come share by share.
        let mut offers: Vec<(SwarmId, u64)> = Vec::new();
        let mut firsts: Vec<(_, Due)> = Vec::new();
        for (due, receiver) in able {
            let Some((order, asked)) = receiver.waiting.front() else {
                continue;
            };
            let (swarm, peer) = due.who;
            // In steps of two: if the very neediest came first, all would serve that one at once and
            // fill its downlink while their uplinks idle.
            let need = Reverse(missing(&swarm, &peer).checked_ilog2());
            let rank = (due.place == Place::Another, need, *order);
            let offer = (swarm, u64::from(asked.bytes));
            match (firsts.last_mut(), offers.last_mut()) {
                (Some(first), Some(last)) if last.0 == swarm => {
                    if rank < first.0 {
                        (*first, *last) = ((rank, due), offer);
                    }
                }
                _ => {
                    firsts.push((rank, due));
                    offers.push(offer);
                }
            }
        }
        let swarm = self.rounds.next(&offers)?;
        let mut firsts = firsts.into_iter().map(|(_, due)| due);
        firsts.find(|due| due.who.0 == swarm)
    }

    /// Those who wait and might be served next.
    fn able(&self) -> Vec<(Due, &Receiver)> {
        let waiting = self
            .receivers
            .iter()
            .filter(|(_, it)| !it.waiting.is_empty());
        let mut able: Vec<_> = waiting
            .filter_map(|(who, receiver)| {
                let place = self.place_for(&who.0, receiver)?;
                Some((Due { who: *who, place }, receiver))
            })
            .collect();
        // Who goes on keeps a place from receivers of the same share, not from those of others.
        let going_on = |due: &Due| due.place == Place::Kept && self.places.is_common(&due.who.0);
        let keepers: BTreeSet<_> = able
            .iter()
            .map(|it| it.0)
            .filter(going_on)
            .map(|it| it.who.0)
            .collect();
        able.retain(|(due, _)| {
            let mut others = keepers.iter().filter(|share| **share != due.who.0);
            due.place != Place::Another || others.next().is_some()
        });
        able
    }

    /// Where the next request of a receiver may be begun, if it may.
    fn place_for(&self, swarm: &SwarmId, receiver: &Receiver) -> Option<Place> {
        match receiver.served.as_slice() {
            [] if self.places.has_room(swarm) => Some(Place::Free),
            [] => self.places.may_displace(swarm).then_some(Place::Another),
            [only] => {
                let is_out = self.served.get(only).is_none_or(Served::is_nearly_out);
                (is_out && self.places.may_keep(swarm)).then_some(Place::Kept)
            }
            _ => None,
        }
    }

    fn receivers_of(&self, swarm: &SwarmId) -> impl Iterator<Item = &Receiver> {
        let (least, most) = (PublicKey([0; 32]), PublicKey([u8::MAX; 32]));
        let theirs = self.receivers.range((*swarm, least)..=(*swarm, most));
        theirs.map(|(_, receiver)| receiver)
    }
}

impl Served {
    fn is_nearly_out(&self) -> bool {
        self.left <= AHEAD_BYTES.min(self.bytes / 2)
    }
}

impl Receiver {
    /// Takes an upload out; true when it was the last that was served.
    fn finish(&mut self, upload: UploadId) -> bool {
        let before = self.served.len();
        self.served.retain(|other| *other != upload);
        if self.served.len() < before {
            return self.served.is_empty();
        }
        let waiting = &mut self.waiting;
        if let Some(at) = waiting.iter().position(|(_, asked)| asked.upload == upload)
            && let Some((_, asked)) = waiting.remove(at)
        {
            self.waiting_bytes -= u64::from(asked.bytes);
        }
        false
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.served.is_empty()
    }
}
