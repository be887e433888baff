//! How shares end: downloads that are cancelled, shares that are removed, with or without their files.

use warren_proto::content::path::printable;
use warren_proto::id::SwarmId;

use super::Node;
use crate::control::model::{ApiError, exit};
use crate::control::words::short_id;
use crate::hooks::Happening;
use crate::share::depot::removed;
use crate::share::{Phase, Share};
use crate::store::db::{ShareRecord, ShareState};

impl Node {
    /// Cancels a download: takes it out with what is unfinished of it.
    pub(super) fn cancel_share(
        &mut self,
        swarm: SwarmId,
        answer: tokio::sync::oneshot::Sender<Result<(), ApiError>>,
    ) {
        let share = self.shares.get(&swarm);
        let is_over = |share: &&Share| {
            matches!(
                share.record.state,
                ShareState::Registered | ShareState::Complete
            )
        };
        match share.filter(is_over) {
            Some(share) => drop(answer.send(Err(ApiError::not_a_download(
                &share.record.name,
                &share.record.id,
                share.has_changed(),
            )))),
            None => self.remove_share(swarm, Data::Kept, answer),
        }
    }

    /// Takes out a share and what is unfinished of it; with `Data::Deleted` also what is complete, unless
    /// it was shared where it lay.
    ///
    /// The answer comes when the disk has forgotten it too.
    pub(super) fn remove_share(
        &mut self,
        swarm: SwarmId,
        complete: Data,
        answer: tokio::sync::oneshot::Sender<Result<(), ApiError>>,
    ) {
        let deletes = complete == Data::Deleted;
        if deletes
            && let Some(share) = self.shares.get(&swarm)
            && share.record.state == ShareState::Registered
        {
            let (name, id) = (&share.record.name, &share.record.id);
            return drop(answer.send(Err(ApiError::not_downloaded(name, id))));
        }
        // It may have been complete, which without being asked nobody deletes; of what was shared where it lies
        // nothing is deleted anyway.
        if !deletes
            && let Some(share) = self.shares.get(&swarm)
            && share.record.state != ShareState::Registered
            && share.verifying.is_some()
            && !gives_back(share)
        {
            return drop(answer.send(Err(being_verified(&share.record))));
        }
        self.tell_error(swarm, &removed());
        let Some(share) = self.take_out(swarm) else {
            return;
        };
        let is_named = share.record.state == ShareState::Complete || share.record.settled.is_some();
        self.happened_to(&share, Happening::Removed);
        let depot = self.config.depot.clone();
        let writer = super::downloads::writer_of(&share);
        let record = share.record.clone();
        // Ends its fetches and its syncing.
        drop(share);
        self.share_budget();
        tokio::task::spawn_blocking(move || {
            // Those that were there before stay; whoever opens the others moves them.
            let kept = match deletes {
                true => Ok(false),
                false => depot.keep_found(&swarm),
            };
            let found = match (&writer, &kept) {
                (None, Ok(false)) => depot.partial_files(&record),
                _ => None,
            };
            let files = writer.as_ref().map(|writer| &*writer.offer.files);
            let deleted = match deletes && is_named {
                true => depot.delete(&record),
                false => Ok(()),
            };
            let files = files.or(found.as_ref());
            let removed = kept.and_then(|kept| depot.remove(&swarm, files.filter(|_| !kept)));
            // Who asked may have gone.
            let _ = answer.send(deleted.and(removed));
        });
    }
}

/// Whether what is there of a share that is being repaired gets its name back when that is removed.
fn gives_back(share: &Share) -> bool {
    let record = &share.record;
    let is_repaired = matches!(share.phase, Phase::Downloading(_));
    is_repaired && record.placing.found
}

/// What becomes of the complete files of a share that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// They stay.
    Kept,
    /// They go.
    Deleted,
}

fn being_verified(record: &ShareRecord) -> ApiError {
    let (name, id) = (printable(&record.name), short_id(&record.id));
    let message = format!("{name} is being verified, and repaired if need be");
    let hint = format!(
        "Wait until that has ended; or delete what is there of it: client remove {id} IDX --data"
    );
    ApiError::new("being_verified", exit::REFUSED, message, hint)
}
