//! One daemon's decisions over all its shares: what to ask of whom, whom to serve next, what to
//! tell.
//!
//! [`Engine`] holds no bytes and no socket and reads no clock: feed it [`Event`]s with the time, do
//! what [`Engine::poll`] yields until it yields nothing, and call it again at [`Engine::deadline`]
//! at the latest. The same seed and the same events give the same actions, so that the daemon and a
//! simulation of thousands of peers run the very same code.
//!
//! The rules, one a part:
//! * each share's [`Download`] asks for the rarest chunk first, where what is on its way to others
//!   counts as a copy;
//! * `room` bounds what is on its way to us of all shares together;
//! * `news` tells everybody of what we asked for and have, at most every 10 ms;
//! * `injection` lets a seed suggest every chunk to one peer before any to a second;
//! * `uploads` serves few receivers at a time, the neediest and what is rarest first, and gives
//!   every share its part;
//! * `invitations` suggests something to a neighbour when an uplink would idle;
//! * `awaited` keeps requests for what is on its way to us, and says when it can be passed on;
//! * `slots` finds how many receivers fill the uplink, `places` counts them.
//!
//! Not here: how fast bytes may go ([`super::shaper`]).

mod awaited;
mod injection;
mod invitations;
mod news;
mod places;
mod room;
mod share;
mod slots;
#[cfg(test)]
mod tests;
mod uploads;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Download, RequestId, Standing};
use crate::content::chunks::OutOfRange;
use crate::content::tree::GRAIN_BYTES;
use crate::content::{ChunkIndex, ChunkSet, Content, Run};
use crate::id::{PublicKey, SwarmId};
use awaited::Awaited;
pub use awaited::is_passable;
use invitations::{Invitations, RESERVE};
pub use news::News;
use room::Room;
use share::Share;
use uploads::{Asked, Uploads};

/// One request of a peer's, as its shell numbers it; unique within its [`Engine`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UploadId(pub u64);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What happened. An event about a share that is not open, or an upload that has ended, changes
/// nothing; [`Event::Limited`] may come before.
#[derive(Clone, Debug)]
pub enum Event {
    /// A share is there, with these chunks verified. One that is open already is taken to have
    /// closed before.
    Opened {
        /// Its swarm.
        swarm: SwarmId,
        /// What it is.
        content: Arc<Content>,
        /// What we have of it.
        have: ChunkSet,
    },
    /// A share is no longer given or fetched. Nothing more is said of its requests.
    Closed {
        /// Its swarm.
        swarm: SwarmId,
    },
    /// Something about what we fetch of a share, or what its peers have.
    Share {
        /// Its swarm.
        swarm: SwarmId,
        /// What.
        event: super::Event,
    },
    /// So much of what a request brings is verified, grain by grain, that it can be passed on
    /// ([`is_passable`]).
    Passable {
        /// Its swarm.
        swarm: SwarmId,
        /// Which request.
        request: RequestId,
    },
    /// A peer asks for bytes of a chunk. For one that is on its way to us it waits.
    Asked {
        /// How later events and actions name it.
        upload: UploadId,
        /// Of which share.
        swarm: SwarmId,
        /// Who.
        peer: PublicKey,
        /// Of which chunk.
        chunk: ChunkIndex,
        /// How many bytes.
        bytes: u32,
    },
    /// Bytes of an upload that was to be served went out.
    Sent {
        /// Which.
        upload: UploadId,
        /// How many since the last such event.
        bytes: u32,
    },
    /// What a share gives has a limit of its own from now on, or not any more.
    Limited {
        /// Its swarm.
        swarm: SwarmId,
        /// Whether it has.
        is_limited: bool,
    },
    /// Nothing more will be sent of an upload, served or not.
    UploadEnded {
        /// Which.
        upload: UploadId,
    },
    /// How much may be outstanding of all shares together; anything until it is said.
    Budget {
        /// Most bytes of chunks asked for and not yet verified. Any budget has room for one chunk.
        bytes: u64,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Something about what we fetch of a share.
    Share {
        /// Its swarm.
        swarm: SwarmId,
        /// What.
        action: super::Action,
    },
    /// Send what was asked for.
    Serve {
        /// Which upload.
        upload: UploadId,
    },
    /// Answer that we are busy. The upload has ended.
    Refuse {
        /// Which upload.
        upload: UploadId,
    },
    /// Somebody waits for what a request brings, which is several grains: verify it grain by grain, and say
    /// when it is [`Event::Passable`]. Whoever cannot passes it on once it is here.
    PassOn {
        /// Its swarm.
        swarm: SwarmId,
        /// Which request.
        request: RequestId,
    },
    /// Answer that the chunk is not here. The upload has ended.
    Deny {
        /// Which upload.
        upload: UploadId,
    },
    /// Tell every peer of the swarm. Who joins is told [`Engine::greeting`] before.
    Announce {
        /// Which swarm.
        swarm: SwarmId,
        /// What.
        news: News,
    },
    /// Something else is thought of a peer as a source than when this was last said; of one that has
    /// joined, good. Nothing is to be done.
    Judged {
        /// In which swarm.
        swarm: SwarmId,
        /// Of whom.
        peer: PublicKey,
        /// What.
        standing: Standing,
    },
    /// Tell one peer which chunks it should ask us for.
    Suggest {
        /// Which swarm.
        swarm: SwarmId,
        /// Whom.
        peer: PublicKey,
        /// What.
        runs: Vec<Run>,
    },
}

impl Action {
    fn is_request(&self) -> bool {
        use super::Action::Request;
        matches!(
            self,
            Action::Share {
                action: Request { .. },
                ..
            }
        )
    }
}

/// Decides for one daemon.
#[derive(Debug)]
pub struct Engine {
    shares: BTreeMap<SwarmId, Share>,
    uploads: Uploads,
    awaited: Awaited,
    invitations: Invitations,
    room: Room,
    /// Bytes of chunks that were asked for and not verified, of all shares.
    outstanding: u64,
    actions: VecDeque<Action>,
    /// Shares of which something changed since they had nothing more to do.
    changed: BTreeSet<SwarmId>,
    /// When to look at a share though nothing changed.
    deadlines: BTreeSet<(Instant, SwarmId)>,
    rng: StdRng,
}

impl Engine {
    /// An engine without shares. `seed` decides whatever is left to chance.
    pub fn new(now: Instant, seed: u64) -> Engine {
        Engine {
            shares: BTreeMap::new(),
            uploads: Uploads::new(now),
            awaited: Awaited::default(),
            invitations: Invitations::default(),
            room: Room::new(),
            outstanding: 0,
            actions: VecDeque::new(),
            changed: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Takes an event in. Afterwards call [`Self::poll`].
    ///
    /// # Errors
    ///
    /// When a peer names a chunk there is not: it broke the protocol, and nothing changed.
    pub fn handle(&mut self, now: Instant, event: Event) -> Result<(), OutOfRange> {
        match event {
            Event::Opened {
                swarm,
                content,
                have,
            } => self.open(swarm, content, have),
            Event::Closed { swarm } => self.close(&swarm),
            Event::Share { swarm, event } => return self.handle_share(now, swarm, event),
            Event::Passable { swarm, request } => self.handle_passable(swarm, request),
            Event::Asked {
                upload,
                swarm,
                peer,
                chunk,
                bytes,
            } => {
                let asked = Asked {
                    upload,
                    swarm,
                    chunk: chunk.value(),
                    bytes,
                };
                self.handle_asked(now, peer, chunk, asked);
            }
            Event::Sent { upload, bytes } => self.uploads.sent(upload, bytes),
            Event::Limited { swarm, is_limited } => {
                self.uploads.set_limited(now, swarm, is_limited);
            }
            Event::UploadEnded { upload } => {
                self.uploads.end(upload);
                self.awaited.end(upload);
                self.invitations.stir();
            }
            Event::Budget { bytes } => self.room.set(bytes),
        }
        Ok(())
    }

    /// The next thing to do. Call until there is nothing.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        let in_vain = self.awaited.expire(now);
        in_vain.into_iter().for_each(|upload| self.deny(upload));
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        self.poll_uploads(now)
            .or_else(|| self.poll_shares(now))
            .or_else(|| self.poll_invitations(now))
    }

    /// When to call [`Self::poll`] even if nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let share = self.deadlines.first().map(|(at, _)| *at);
        let invitations = self.invitations.deadline(self.has_room());
        let others = [
            self.uploads.deadline(),
            invitations,
            self.awaited.deadline(),
        ];
        share.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// What is fetched of an open share.
    pub fn download(&self, swarm: &SwarmId) -> Option<&Download> {
        self.shares.get(swarm).map(|share| &share.download)
    }

    /// What a peer that joins is to be told first of an open share: what we have, and what is on its
    /// way to us.
    pub fn greeting(&self, swarm: &SwarmId) -> News {
        let share = self.shares.get(swarm);
        share.map(Share::greeting).unwrap_or_default()
    }

    fn open(&mut self, swarm: SwarmId, content: Arc<Content>, have: ChunkSet) {
        self.close(&swarm);
        let share = Share::new(content, have, self.rng.random());
        self.shares.insert(swarm, share);
        self.uploads.open(swarm);
        self.changed.insert(swarm);
    }

    fn close(&mut self, swarm: &SwarmId) {
        if let Some(share) = self.shares.remove(swarm) {
            share.uncount(&mut self.outstanding);
            share.noted.map(|at| self.deadlines.remove(&(at, *swarm)));
        }
        self.uploads.close(swarm);
        let denied = self.awaited.close(swarm).into_iter();
        self.actions
            .extend(denied.map(|upload| Action::Deny { upload }));
        self.changed.remove(swarm);
        self.room.leave(swarm);
    }

    fn handle_share(
        &mut self,
        now: Instant,
        swarm: SwarmId,
        event: super::Event,
    ) -> Result<(), OutOfRange> {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return Ok(());
        };
        // What begins to come others may be invited to; what goes on coming is no news.
        let is_news = match &event {
            super::Event::Received { request, .. } => !share.download.has_begun(*request),
            super::Event::PeerLeft { peer } => {
                self.invitations.close(peer);
                true
            }
            _ => true,
        };
        if let super::Event::Received { request, .. } = &event
            && !self.awaited.is_empty()
            && let Some(chunk) = share.download.chunk_of(*request)
        {
            self.awaited.progress(now, swarm, chunk.value());
        }
        share.handle(now, event)?;
        share.count(&mut self.outstanding);
        self.changed.insert(swarm);
        if is_news {
            self.invitations.stir();
        }
        self.settle(swarm);
        Ok(())
    }

    /// Goes on with who waits for chunks that have come, or will not.
    fn settle(&mut self, swarm: SwarmId) {
        let settled = self.shares.get_mut(&swarm).map(Share::take_settled);
        for (chunk, has_come) in settled.into_iter().flatten() {
            for (peer, asked) in self.awaited.settle(swarm, chunk) {
                match has_come {
                    true => self.queue(peer, asked),
                    false => self.deny(asked.upload),
                }
            }
        }
    }

    fn handle_passable(&mut self, swarm: SwarmId, request: RequestId) {
        let share = self.shares.get(&swarm);
        let Some(chunk) = share.and_then(|share| share.download.chunk_of(request)) else {
            return;
        };
        for (peer, asked) in self.awaited.pass(swarm, chunk.value()) {
            self.queue(peer, asked);
        }
    }

    fn handle_asked(&mut self, now: Instant, peer: PublicKey, chunk: ChunkIndex, asked: Asked) {
        let (upload, swarm) = (asked.upload, asked.swarm);
        let Some(share) = self.shares.get_mut(&swarm) else {
            self.actions.push_back(Action::Refuse { upload });
            return;
        };
        self.invitations.close(&peer);
        share.asked(now, peer, chunk);
        self.changed.insert(swarm);
        let is_here = share.download.have().contains(chunk);
        if is_here || self.awaited.is_passable(swarm, chunk.value()) {
            return self.queue(peer, asked);
        }
        let request = share.download.brought_by(chunk);
        match request.filter(|_| self.awaited.add(now, peer, asked)) {
            Some(request) if share.download.chunk_len(chunk) > GRAIN_BYTES => {
                self.actions.push_back(Action::PassOn { swarm, request });
            }
            Some(_) => (),
            None => self.deny(upload),
        }
    }

    /// A request waits for its turn.
    fn queue(&mut self, peer: PublicKey, asked: Asked) {
        let upload = asked.upload;
        if !self.uploads.ask(peer, asked) {
            self.actions.push_back(Action::Refuse { upload });
        }
    }

    fn deny(&mut self, upload: UploadId) {
        self.actions.push_back(Action::Deny { upload });
    }

    fn poll_uploads(&mut self, now: Instant) -> Option<Action> {
        let shares = &self.shares;
        let need = |swarm: &SwarmId, peer: &PublicKey| {
            let share = shares.get(swarm);
            share.map_or(0, |share| share.download.need_of(peer))
        };
        let copies = |swarm: &SwarmId, chunk: u32| {
            let share = shares.get(swarm);
            share.map_or(0, |share| share.download.copies(chunk))
        };
        let upload = self.uploads.next(now, need, copies)?;
        Some(Action::Serve { upload })
    }

    /// Whether the uplink will have nothing to do when those are served who wait.
    fn has_room(&self) -> bool {
        let receivers = self.uploads.receivers() + self.awaited.len() + self.invitations.open();
        receivers < self.uploads.places() + RESERVE
    }

    /// Suggests something to somebody when there is room on the uplink, of the share first that has been
    /// given least.
    fn poll_invitations(&mut self, now: Instant) -> Option<Action> {
        self.invitations.expire(now);
        if !self.invitations.is_due(now) || !self.has_room() {
            return None;
        }
        let (uploads, awaited, invitations) = (&self.uploads, &self.awaited, &self.invitations);
        let waits = |peer: &PublicKey| !uploads.is_idle(peer) || awaited.has(peer);
        let may = |peer: &PublicKey| !waits(peer) && invitations.may_invite(now, peer);
        let mut shares: Vec<_> = self.shares.iter().collect();
        shares.sort_by_key(|(swarm, _)| uploads.given(swarm));
        let rng = &mut self.rng;
        let found = shares.into_iter().find_map(|(swarm, share)| {
            let invitation = share.invite(rng, may)?;
            Some((*swarm, invitation))
        });
        let Some((swarm, invitation)) = found else {
            self.invitations.rest(now);
            return None;
        };
        self.invitations
            .invite(now, invitation.peer, invitation.rtt);
        Some(Action::Suggest {
            swarm,
            peer: invitation.peer,
            runs: Run::fewest([invitation.chunk]),
        })
    }

    fn poll_shares(&mut self, now: Instant) -> Option<Action> {
        while let Some((_, swarm)) = self.deadlines.first().filter(|(at, _)| *at <= now) {
            self.changed.insert(*swarm);
            self.deadlines.pop_first();
        }
        loop {
            // Who waited longest may not want to any more; then it is the next one's turn.
            self.changed.extend(self.room.next(self.outstanding));
            let swarm = *self.changed.first()?;
            let room = self.room.of(&swarm, self.outstanding);
            let Some(share) = self.shares.get_mut(&swarm) else {
                self.changed.remove(&swarm);
                self.room.leave(&swarm);
                continue;
            };
            share.download.set_room(room);
            let queued = |peer: &PublicKey| self.uploads.queued_of(&swarm, peer);
            let action = share.poll(now, swarm, queued);
            share.count(&mut self.outstanding);
            if action.is_some() {
                if action.as_ref().is_some_and(Action::is_request) {
                    self.room.leave(&swarm);
                }
                self.settle(swarm);
                return action;
            }
            match share.lacks_room() {
                Some(chunk_bytes) => self.room.wait(swarm, chunk_bytes),
                None => self.room.leave(&swarm),
            }
            self.changed.remove(&swarm);
            let due = share.deadline();
            let noted = std::mem::replace(&mut share.noted, due);
            noted.map(|at| self.deadlines.remove(&(at, swarm)));
            self.deadlines.extend(due.map(|at| (at, swarm)));
        }
    }
}
