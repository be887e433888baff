//! For how long, how often, and whether a share is given: `--expire`, `--max-downloads` and `client revoke`.
//!
//! *A complete download* is counted once for each key of a peer: when it says that it has all chunks after
//! this daemon has given it some of the bytes, or 30 s after it was given as many bytes as the share has,
//! whatever it says. What others gave it is not seen. So a stranger who has the link can use up downloads with keys
//! made for that, a chunk each; and who gets some of it elsewhere and does not say that it has all is not
//! counted. What is counted bounds what this daemon gives, and nothing else: who has a share may give it on. Nor
//! does it bound the bytes that are given: a peer that takes some and never all is not counted, with as many keys
//! as it likes, and beyond [`RECEIVERS`] of them who was given least is forgotten.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use warren_proto::content::path::printable;
use warren_proto::content::{ChunkSet, Run};
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::transfer::Download;

use super::Node;
use super::ending::Data;
use super::pausing::Answer;
use crate::clock::unix_ms;
use crate::control::model::{ApiError, Event, exit};
use crate::control::words::{count, short_id, typed};
use crate::share::{Phase, Share};
use crate::store::db::{ShareRecord, ShareState};
use crate::store::terms::Terms;

/// Peers of which it is known how much they were given of one share, at most; beyond them the one that was given
/// least is forgotten. A stranger chooses its key, but has to take more than others to stay.
const RECEIVERS: usize = 4096;

/// What may be in memory about them for one share. The largest share has a bit for each of two million chunks,
/// 256 KiB: that leaves 64 of its peers.
const RECEIVERS_BYTES: usize = 16 << 20;

/// Peers that are known of however many chunks a share has.
const LEAST_RECEIVERS: usize = 64;

/// What one takes beside its chunks: its key, its counters, its place in the map.
const RECEIVER_BYTES: usize = 128;

/// How long after its last byte a peer may take to say that it has everything, before it is counted anyway.
const SILENCE: Duration = Duration::from_secs(30);

/// What one peer has of a share.
#[derive(Debug)]
pub(crate) struct Receiver {
    /// Bytes that we gave it.
    given_bytes: u64,
    /// Since when that is as much as the share has: the last of it may still be on its way.
    full_since: Option<Instant>,
    /// What it says that it has.
    has: ChunkSet,
}

impl Node {
    /// The terms of the last run.
    pub(crate) fn restore_terms(&mut self, terms: Vec<(SwarmId, Terms)>) {
        for (swarm, terms) in terms {
            match self.shares.get_mut(&swarm) {
                Some(share) => share.terms = terms,
                // Its share is gone.
                None => self.set_terms(swarm, Terms::default()),
            }
        }
    }

    /// Gives a share other terms, which are kept by a task.
    pub(super) fn set_terms(&mut self, swarm: SwarmId, terms: Terms) {
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.terms = terms.clone();
        }
        let depot = self.config.depot.clone();
        depot.note_terms(swarm, terms);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = depot.keep_terms(&swarm) {
                tracing::warn!(%error, "the terms of a share are not noted; a restart would forget them");
            }
        });
    }

    /// Ends a share at a time, or never. Tells how it stands when that is kept.
    pub(super) fn expire(&mut self, wanted: &str, in_s: Option<u64>, answer: Answer) {
        let change = |terms: &mut Terms| {
            terms.expires_unix_ms =
                in_s.map(|in_s| unix_ms().saturating_add(in_s.saturating_mul(1000)));
        };
        self.change_terms(wanted, change, answer);
    }

    /// Gives a complete share no longer, until it is registered again.
    pub(super) fn revoke(&mut self, wanted: &str, answer: Answer) {
        let found = self.find(wanted);
        let share = found.as_ref().ok().and_then(|swarm| self.shares.get(swarm));
        if let Some(share) = share.filter(|share| !share.is_complete()) {
            let error = not_complete(&share.record);
            return drop(answer.send(Err(error)));
        }
        self.change_terms(wanted, |terms| terms.revoked = true, answer);
    }

    fn change_terms(&mut self, wanted: &str, change: impl FnOnce(&mut Terms), answer: Answer) {
        let swarm = match self.find(wanted) {
            Ok(swarm) => swarm,
            // Who asked may have gone.
            Err(error) => return drop(answer.send(Err(error))),
        };
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        change(&mut share.terms);
        let terms = share.terms.clone();
        self.withhold(swarm);
        let Some(shown) = self.shown_share(&swarm) else {
            return;
        };
        let depot = self.config.depot.clone();
        depot.note_terms(swarm, terms);
        tokio::task::spawn_blocking(move || {
            let kept = depot.keep_terms(&swarm);
            let _ = answer.send(kept.map(|()| Event::Share(shown)));
        });
    }

    /// Stops giving a share that is not to be given any more.
    pub(super) fn withhold(&mut self, swarm: SwarmId) {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let is_idle = matches!(share.phase, Phase::Seeding(_)) || share.is_paused();
        let Some(error) = share.withheld().filter(|_| is_idle) else {
            return;
        };
        let bytes = share.bytes(None);
        self.stop_giving(swarm, error, bytes);
    }

    /// Stops a share instead of fetching what is missing of it, if it is not to be given; true then. It has so many
    /// bytes in all.
    pub(super) fn refuse_fetching(&mut self, swarm: SwarmId, bytes: u64) -> bool {
        let share = self.shares.get(&swarm);
        let Some(error) = share.and_then(Share::withheld) else {
            return false;
        };
        let verified_bytes = self.download_of(&swarm).map_or(0, Download::verified_bytes);
        self.stop_giving(swarm, error, (verified_bytes, bytes));
        true
    }

    fn stop_giving(&mut self, swarm: SwarmId, error: ApiError, bytes: (u64, u64)) {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let was_paused = share.pause.take().is_some();
        share.stopped_bytes = bytes;
        share.verifying = None;
        share.kept = None;
        share.receivers.clear();
        share.phase = Phase::Stopped {
            error: error.clone(),
            changed: false,
        };
        self.tell_error(swarm, &error);
        self.close_share(swarm);
        self.leave_on_all(&swarm);
        self.announce(swarm);
        if was_paused {
            self.note_pause(swarm, false);
        }
    }

    /// Removes shares whose time is over. What is being fetched is so once it is complete.
    pub(super) fn end_expired(&mut self) {
        let now = unix_ms();
        let is_over = |share: &&Share| {
            let expires = share.terms.expires_unix_ms;
            let is_over = expires.is_some_and(|expires| expires <= now);
            // Whatever verifying it makes of it comes first.
            is_over && share.is_complete() && share.verifying.is_none()
        };
        let over = self.shares.values().filter(is_over);
        let over: Vec<_> = over
            .map(|it| (it.swarm(), printable(&it.record.name)))
            .collect();
        for (swarm, name) in over {
            tracing::info!(
                name,
                "the time of a share is over; it is removed, and its data stay"
            );
            let (answer, _) = oneshot::channel();
            self.end_following(&swarm);
            self.remove_share(swarm, Data::Kept, answer);
        }
    }

    /// A peer says that it has these chunks.
    pub(super) fn note_has(&mut self, swarm: SwarmId, peer: PublicKey, runs: &[Run]) {
        let Some(receiver) = self.receiver(swarm, peer) else {
            return;
        };
        // What is out of range is refused elsewhere.
        let _ = receiver.has.insert_runs(runs);
        self.count_taker(swarm, peer);
    }

    /// A peer was given so many bytes more.
    pub(super) fn note_given(&mut self, swarm: SwarmId, peer: PublicKey, bytes: u32) {
        let Some(receiver) = self.receiver(swarm, peer) else {
            return;
        };
        receiver.given_bytes += u64::from(bytes);
        let given_bytes = receiver.given_bytes;
        let share = self.shares.get_mut(&swarm);
        if let Some(share) = share.filter(|share| given_bytes >= share.size())
            && let Some(receiver) = share.receivers.get_mut(&peer)
        {
            receiver.full_since.get_or_insert_with(Instant::now);
        }
        // What it says may come before we hear of what it was given.
        self.count_taker(swarm, peer);
    }

    /// Counts who was given everything and does not say that it has it.
    pub(super) fn count_silent(&mut self, now: Instant) {
        let is_silent = |receiver: &Receiver| {
            let since = receiver.full_since;
            since.is_some_and(|since| now.duration_since(since) >= SILENCE)
        };
        let mut silent = Vec::new();
        for (swarm, share) in &self.shares {
            let of_it = share.receivers.iter().filter(|it| is_silent(it.1));
            silent.extend(of_it.map(|it| (*swarm, *it.0)));
        }
        for (swarm, peer) in silent {
            self.add_taker(swarm, peer);
        }
    }

    /// What is known of a peer, if downloads of the share are counted and this one is not yet.
    fn receiver(&mut self, swarm: SwarmId, peer: PublicKey) -> Option<&mut Receiver> {
        let share = self.shares.get_mut(&swarm)?;
        share.terms.max_downloads?;
        let chunks = match &share.phase {
            Phase::Seeding(offer) => offer.content.layout.chunk_count(),
            _ => return None,
        };
        if share.terms.takers.contains(&peer) {
            return None;
        }
        if !share.receivers.contains_key(&peer) && share.receivers.len() >= most_receivers(chunks) {
            share.forget_receiver();
        }
        let new = || Receiver {
            given_bytes: 0,
            full_since: None,
            has: ChunkSet::empty(chunks),
        };
        Some(share.receivers.entry(peer).or_insert_with(new))
    }

    fn count_taker(&mut self, swarm: SwarmId, peer: PublicKey) {
        let has_taken = |receiver: &Receiver| {
            receiver.given_bytes > 0 && receiver.has.count() == receiver.has.len()
        };
        let share = self.shares.get(&swarm);
        let receiver = share.and_then(|share| share.receivers.get(&peer));
        if receiver.is_some_and(has_taken) {
            self.add_taker(swarm, peer);
        }
    }

    fn add_taker(&mut self, swarm: SwarmId, peer: PublicKey) {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        share.receivers.remove(&peer);
        share.terms.takers.insert(peer);
        let terms = share.terms.clone();
        self.set_terms(swarm, terms);
        self.withhold(swarm);
    }
}

/// Peers of a share of so many chunks that may be known.
pub(super) fn most_receivers(chunks: u32) -> usize {
    let each = chunks as usize / 8 + RECEIVER_BYTES;
    (RECEIVERS_BYTES / each).clamp(LEAST_RECEIVERS, RECEIVERS)
}

impl Share {
    /// Makes room for another peer.
    fn forget_receiver(&mut self) {
        let receivers = self.receivers.iter();
        let least = receivers.min_by_key(|(_, receiver)| receiver.given_bytes);
        if let Some(peer) = least.map(|(peer, _)| *peer) {
            self.receivers.remove(&peer);
        }
    }

    /// Whether all that is wanted of it is there, whatever it is doing.
    pub(crate) fn is_complete(&self) -> bool {
        let state = &self.record.state;
        matches!(state, ShareState::Registered | ShareState::Complete)
    }

    /// Whether it is not to be given any more.
    pub(crate) fn is_withheld(&self) -> bool {
        self.terms.revoked || self.terms.is_used_up()
    }

    /// Why it is not given any more, if it is not to be.
    pub(crate) fn withheld(&self) -> Option<ApiError> {
        if !self.is_withheld() {
            return None;
        }
        let name = printable(&self.record.name);
        let message = match self.terms.revoked {
            true => format!("{name} was revoked"),
            false => format!(
                "{name} was downloaded {}, as often as it was to be",
                count(self.terms.takers.len(), "time")
            ),
        };
        let path = typed(&self.record.path);
        let hint = format!("To give it again: client register {path} IDX");
        Some(ApiError::new("withheld", exit::REFUSED, message, hint))
    }
}

fn not_complete(record: &ShareRecord) -> ApiError {
    let (name, id) = (printable(&record.name), short_id(&record.id));
    let message = format!("{name} is still being downloaded");
    let hint = format!("Stop it: client pause {id} IDX; or end it: client cancel {id} IDX");
    ApiError::new("not_complete", exit::REFUSED, message, hint)
}
