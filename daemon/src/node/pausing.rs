//! Shares that the person has paused: neither fetched nor given until they are resumed, also after a restart.
//!
//! What is being made, read or named is paused when that is done ([`Node::hold`]). What was open stays open
//! meanwhile, so that going on costs nothing.

use std::sync::Arc;

use tokio::sync::oneshot;
use warren_proto::content::path::printable;
use warren_proto::id::SwarmId;

use super::Node;
use super::shares::Preparing;
use crate::control::model::{ApiError, Event, exit};
use crate::share::{Learning, Pause, Phase, Share};
use crate::store::db::ShareState;

/// Who is told how the share stands.
pub(super) type Answer = oneshot::Sender<Result<Event, ApiError>>;

impl Node {
    /// Pauses a share, and tells how it stands once that is kept.
    pub(super) fn pause(&mut self, wanted: &str, answer: Answer) {
        match self.find(wanted) {
            Ok(swarm) => {
                // It stands still, and is not paused when it is given again.
                if let Some(error) = self.shares.get(&swarm).and_then(Share::withheld) {
                    return drop(answer.send(Err(error)));
                }
                if let Some(share) = self.shares.get_mut(&swarm) {
                    share.pause.get_or_insert(Pause::Asked);
                }
                self.hold(swarm);
                self.keep_pause(swarm, answer);
            }
            // Who asked may have gone.
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Goes on with a share that is paused, or that was stopped by an error.
    pub(super) fn resume_share(&mut self, wanted: &str, answer: Answer) {
        match self.find(wanted) {
            Ok(swarm) => {
                if let Some(error) = self.shares.get(&swarm).and_then(Share::withheld) {
                    return drop(answer.send(Err(error)));
                }
                self.go_on(swarm);
                self.keep_pause(swarm, answer);
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    fn keep_pause(&self, swarm: SwarmId, answer: Answer) {
        let Some(shown) = self.shown_share(&swarm) else {
            return;
        };
        let is_paused = self.shares.get(&swarm).is_some_and(|it| it.pause.is_some());
        let depot = self.config.depot.clone();
        depot.note_paused(swarm, is_paused);
        tokio::task::spawn_blocking(move || {
            let kept = depot.keep_paused(&swarm);
            let _ = answer.send(kept.map(|()| Event::Share(shown)));
        });
    }

    /// The shares that were paused in the last run.
    pub(crate) fn restore_pauses(&mut self, paused: Vec<SwarmId>) {
        for swarm in paused {
            match self.shares.get_mut(&swarm) {
                Some(share) => {
                    share.pause = Some(Pause::Asked);
                    self.hold(swarm);
                }
                // Its share is gone.
                None => self.note_pause(swarm, false),
            }
        }
    }

    /// Stops a share that is to be paused, unless its files are just being worked on.
    pub(super) fn hold(&mut self, swarm: SwarmId) {
        let download = self.engine.download(&swarm);
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let bytes = share.bytes(download);
        let (Some(Pause::Asked), Some(held)) = (&share.pause, held(share)) else {
            return;
        };
        let writer = match &held {
            Pause::Download(writer) => Some(writer.clone()),
            _ => None,
        };
        (share.pause, share.stopped_bytes) = (Some(held), bytes);
        share.verifying = None;
        share.rereading.forget();
        let error = paused(share);
        self.tell_error(swarm, &error);
        if let Some(share) = self.shares.get_mut(&swarm) {
            let changed = false;
            share.phase = Phase::Stopped { error, changed };
        }
        self.close_share(swarm);
        self.leave_on_all(&swarm);
        self.announce(swarm);
        self.share_budget();
        if let Some(writer) = writer {
            let depot = self.config.depot.clone();
            tokio::task::spawn_blocking(move || depot.rest(&writer));
        }
    }

    /// Ends a pause; what was stopped by an error is tried again.
    pub(super) fn go_on(&mut self, swarm: SwarmId) {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        match share.pause.take() {
            Some(Pause::Download(writer)) => {
                let have = writer.offer.have_now();
                share.record.state = ShareState::Downloading;
                self.begin_download(swarm, writer, have);
            }
            Some(Pause::Complete(offer)) => self.set_phase(swarm, Phase::Seeding(offer)),
            Some(Pause::Link) => {
                self.set_phase(swarm, Phase::Metadata(Learning::default()));
            }
            Some(Pause::Asked) | None => self.try_again(swarm),
        }
    }

    /// Finds the files of a share again that an error has stopped.
    fn try_again(&mut self, swarm: SwarmId) {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        if !matches!(share.phase, Phase::Stopped { .. }) {
            return;
        }
        let (record, watchers) = (share.record.clone(), std::mem::take(&mut share.watchers));
        match record.name.is_empty() {
            true => drop(self.add_link(record)),
            false => drop(self.add_preparing(record, Preparing::Recall)),
        }
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.watchers = watchers;
        }
    }

    /// A download of a share that is paused ends the pause.
    pub(super) fn end_pause(&mut self, swarm: SwarmId) {
        let share = self.shares.get(&swarm);
        if share.is_none_or(|share| share.pause.is_none()) {
            return;
        }
        self.go_on(swarm);
        self.note_pause(swarm, false);
    }

    /// Keeps whether a share is paused, for the next start; one that is gone is not.
    pub(super) fn note_pause(&self, swarm: SwarmId, is_paused: bool) {
        let depot = self.config.depot.clone();
        depot.note_paused(swarm, is_paused);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = depot.keep_paused(&swarm) {
                tracing::warn!(%error, is_paused, "it is not noted whether a share is paused");
            }
        });
    }
}

/// What a share goes on with, when it can be stopped now.
fn held(share: &Share) -> Option<Pause> {
    match &share.phase {
        Phase::Downloading(active) => Some(Pause::Download(Arc::clone(&active.writer))),
        Phase::Seeding(offer) => Some(Pause::Complete(offer.clone())),
        Phase::Metadata(_) => Some(Pause::Link),
        // It has stopped by itself, and does not go on either.
        Phase::Preparing { .. } | Phase::Finishing(_) | Phase::Stopped { .. } => None,
    }
}

fn paused(share: &Share) -> ApiError {
    let (name, id) = (printable(&share.record.name), &share.record.id);
    let message = match name.as_str() {
        "" => "the download is paused".to_owned(),
        name => format!("{name} is paused"),
    };
    let hint = format!("Go on with: client resume {id} IDX");
    ApiError::new("paused", exit::REFUSED, message, hint)
}
