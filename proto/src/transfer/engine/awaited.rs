//! Requests for chunks that are on their way to us: they wait until enough of these has come.
//!
//! Who asks for a chunk only once it was told that we have it gets it two ways later than who has asked
//! by then; on each generation of copies that is as much as a small chunk itself takes. A chunk of several
//! grains is passed on while the rest of it comes, from half of it on ([`is_passable`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::UploadId;
use super::uploads::Asked;
use crate::id::{PublicKey, SwarmId};

/// Who may wait for one chunk.
const WAITING: usize = 8;

/// How long nothing of a chunk may come before who waits for it is sent elsewhere: somewhat more than
/// the time after which the least progress is reported.
const SILENCE: Duration = Duration::from_millis(1500);

/// Whether a chunk of which so many bytes are verified, from its first one on, is passed on while the rest comes: once
/// half of it is here. Sent as fast as it comes, it then takes a place at the uplink for no longer than it needs.
pub fn is_passable(verified_bytes: u32, chunk_bytes: u32) -> bool {
    verified_bytes >= chunk_bytes.div_ceil(2)
}

/// Who waits for one chunk.
#[derive(Debug)]
struct Waiting {
    peers: Vec<(PublicKey, Asked)>,
    /// Until when something more of it must have come.
    until: Instant,
}

/// What is waited for.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    waiting: BTreeMap<(SwarmId, u32), Waiting>,
    chunks: BTreeMap<UploadId, (SwarmId, u32)>,
    /// What can be passed on though it is not here.
    passable: BTreeSet<(SwarmId, u32)>,
}

impl Awaited {
    /// A peer asks for a chunk that is on its way; false when too many wait for it.
    pub(super) fn add(&mut self, now: Instant, peer: PublicKey, asked: Asked) -> bool {
        let at = (asked.swarm, asked.chunk);
        let waiting = self.waiting.entry(at).or_insert_with(|| Waiting {
            peers: Vec::new(),
            until: now + SILENCE,
        });
        let has_room = waiting.peers.len() < WAITING;
        if has_room {
            waiting.peers.push((peer, asked));
            self.chunks.insert(asked.upload, at);
        }
        has_room
    }

    /// More of a chunk has come.
    pub(super) fn progress(&mut self, now: Instant, swarm: SwarmId, chunk: u32) {
        if let Some(waiting) = self.waiting.get_mut(&(swarm, chunk)) {
            waiting.until = now + SILENCE;
        }
    }

    /// Takes out who has waited in vain.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<UploadId> {
        let over = self.waiting.iter().filter(|(_, it)| it.until <= now);
        let over: Vec<_> = over.map(|(at, _)| *at).collect();
        let ended = over
            .into_iter()
            .flat_map(|(swarm, chunk)| self.take(swarm, chunk));
        ended.map(|(_, asked)| asked.upload).collect()
    }

    /// When that is to be looked at again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.values().map(|it| it.until).min()
    }

    /// From now on the chunk can be passed on: takes out who waits for it, in the order in which they asked.
    pub(super) fn pass(&mut self, swarm: SwarmId, chunk: u32) -> Vec<(PublicKey, Asked)> {
        self.passable.insert((swarm, chunk));
        self.take(swarm, chunk)
    }

    /// Whether the chunk can be passed on though it is not here.
    pub(super) fn is_passable(&self, swarm: SwarmId, chunk: u32) -> bool {
        self.passable.contains(&(swarm, chunk))
    }

    /// The chunk has come, or will not: takes out who waits for it.
    pub(super) fn settle(&mut self, swarm: SwarmId, chunk: u32) -> Vec<(PublicKey, Asked)> {
        self.passable.remove(&(swarm, chunk));
        self.take(swarm, chunk)
    }

    fn take(&mut self, swarm: SwarmId, chunk: u32) -> Vec<(PublicKey, Asked)> {
        let waiting = self.waiting.remove(&(swarm, chunk));
        let peers = waiting.map(|it| it.peers).unwrap_or_default();
        for (_, asked) in &peers {
            self.chunks.remove(&asked.upload);
        }
        peers
    }

    /// Nothing of the share will come.
    pub(super) fn close(&mut self, swarm: &SwarmId) -> Vec<UploadId> {
        self.passable.retain(|(other, _)| other != swarm);
        let its = self.waiting.range((*swarm, 0)..=(*swarm, u32::MAX));
        let its: Vec<u32> = its.map(|((_, chunk), _)| *chunk).collect();
        let waiting = its.into_iter().flat_map(|chunk| self.take(*swarm, chunk));
        waiting.map(|(_, asked)| asked.upload).collect()
    }

    /// Nobody waits for this upload any more.
    pub(super) fn end(&mut self, upload: UploadId) {
        let Some(at) = self.chunks.remove(&upload) else {
            return;
        };
        if let Some(waiting) = self.waiting.get_mut(&at) {
            waiting.peers.retain(|(_, asked)| asked.upload != upload);
            if waiting.peers.is_empty() {
                self.waiting.remove(&at);
            }
        }
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Whether a peer waits for anything.
    pub(super) fn has(&self, peer: &PublicKey) -> bool {
        let mut waiting = self.waiting.values().flat_map(|it| &it.peers);
        waiting.any(|(other, _)| other == peer)
    }
}
