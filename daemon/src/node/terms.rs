//! For how long, how often, and whether a share is given: `--expire`, `--max-downloads` and `client revoke`.
//!
//! *A complete download* is counted once for each key of a peer: when it says that it has all chunks after
//! this daemon has given it some of the bytes, or 30 s after it was given as many bytes as the share has,
//! whatever it says. What others gave it is not seen. So a stranger who has the link can use up downloads with keys
//! made for that, a chunk each; and who gets some of it elsewhere and does not say that it has all is not
//! counted. What is counted bounds what this daemon gives, and nothing else: who has a share may give it on.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use warren_proto::content::path::printable;
use warren_proto::content::{ChunkSet, Run};
use warren_proto::id::{PublicKey, SwarmId};

use super::Node;
use super::commands::unix_ms;
use super::pausing::Answer;
use super::shares::Data;
use crate::control::model::{ApiError, Event, exit};
use crate::share::{Phase, Share};
use crate::store::db::ShareState;
use crate::store::terms::Terms;

/// Peers of which it is known how much they were given of one share; beyond them the first is forgotten.
const RECEIVERS: usize = 4096;

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
            let error = not_complete(&share.record.name);
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
        let was_paused = share.pause.take().is_some();
        if !was_paused {
            share.paused_bytes = share.bytes(None);
        }
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
            self.forget_pause(swarm);
        }
    }

    /// Removes shares whose time is over. What is being fetched is so once it is complete.
    pub(super) fn end_expired(&mut self) {
        let now = unix_ms();
        let is_over = |share: &&Share| {
            let expires = share.terms.expires_unix_ms;
            share.is_complete() && expires.is_some_and(|expires| expires <= now)
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
        if share.receivers.len() >= RECEIVERS && !share.receivers.contains_key(&peer) {
            share.receivers.pop_first();
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

impl Share {
    /// Whether all that is wanted of it is there, whatever it is doing.
    pub(crate) fn is_complete(&self) -> bool {
        let state = &self.record.state;
        matches!(state, ShareState::Registered | ShareState::Complete)
    }

    /// Why it is not given any more, if it is not to be.
    pub(crate) fn withheld(&self) -> Option<ApiError> {
        let name = printable(&self.record.name);
        let message = match &self.terms {
            terms if terms.revoked => format!("{name} was revoked"),
            terms if terms.is_used_up() => format!(
                "{name} was downloaded {} times, as often as it was to be",
                terms.takers.len()
            ),
            _ => return None,
        };
        let path = self.record.path.display();
        let hint = format!("To give it again: client register {path} IDX");
        Some(ApiError::new("withheld", exit::REFUSED, message, hint))
    }
}

fn not_complete(name: &str) -> ApiError {
    let message = format!("{} is still being downloaded", printable(name));
    let hint = "Stop it with client pause, or end it with client cancel.";
    ApiError::new("not_complete", exit::REFUSED, message, hint)
}
