//! What is in the place of a download when it begins: looked at, and taken as its beginning where that is
//! wanted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use warren_proto::content::{Content, Run};
use warren_proto::id::SwarmId;

use super::{Depot, Opened};
use crate::control::model::{ApiError, exit};
use crate::control::wish::Picked;
use crate::store::db::{ShareRecord, ShareState};
use crate::store::error::StoreError;
use crate::store::files::{Identities, ShareFiles};
use crate::store::taken::{self, IfExists, Placing, Taken};

impl Depot {
    /// The record of a download that begins, with the place where it is going to lie.
    pub(super) fn placed(
        &self,
        record: &ShareRecord,
        content: &Content,
        picked: &Picked,
    ) -> Result<ShareRecord, ApiError> {
        let (path, if_exists) = (&record.path, record.placing.if_exists);
        let at = |error| ApiError::from(&StoreError::at(path)(error));
        let found = match if_exists {
            IfExists::Resume => taken::look(path, content).map_err(at)? != Taken::Free,
            _ => false,
        };
        let is_taken = || Ok::<_, ApiError>(taken::look(path, content).map_err(at)? != Taken::Free);
        if if_exists == IfExists::Overwrite && !picked.is_everything() && is_taken()? {
            return Err(not_in_part(path));
        }
        let path = match if_exists {
            IfExists::Rename => taken::free_path(path, content),
            _ => Ok(path.clone()),
        };
        Ok(ShareRecord {
            path: path.map_err(|error| ApiError::from(&error))?,
            placing: Placing { if_exists, found },
            ..record.clone()
        })
    }

    /// Takes what is in the place of a download as its beginning: everything is read, what is right stays, and
    /// the rest is to be fetched.
    pub(super) fn resume_found(
        &self,
        record: ShareRecord,
        content: &Arc<Content>,
        picked: &Picked,
        verified_bytes: &AtomicU64,
    ) -> Result<Opened, ApiError> {
        let usable = ShareFiles::check_usable(self.disk.as_ref(), &record.path, content);
        usable.map_err(|error| ApiError::from(&error))?;
        let is_part = !picked.is_everything();
        let mut record = ShareRecord {
            state: ShareState::Downloading,
            settled: is_part.then(Identities::none),
            ..super::with_manifest(&record, content)
        };
        self.remember(&record)?;
        record.settled = is_part.then(|| Identities::claimed(&picked.chosen));
        let begun = match is_part {
            true => self
                .claim_all(&record.swarm(), content)
                .and_then(|()| self.verify_settled(record.clone(), content, verified_bytes)),
            false => self.repair(record.clone(), content, verified_bytes),
        };
        if begun.is_err() {
            // As it was before; the error is what matters.
            let _ = self.give_back(&record.path, content);
        }
        begun
    }

    /// Begins a journal that calls every chunk written, which is what makes them be read.
    pub(super) fn claim_all(&self, swarm: &SwarmId, content: &Content) -> Result<(), ApiError> {
        self.forget_journal(swarm)?;
        let (mut journal, _) = self.journal(swarm, content)?;
        let count = content.layout.chunk_count();
        if count == 0 {
            return Ok(());
        }
        let noted = journal.written(Run { start: 0, count });
        noted.map_err(|error| ApiError::from(&error))
    }

    /// Gives what a download began with its name back, whatever it is now.
    pub(crate) fn give_back(&self, path: &Path, content: &Content) -> Result<(), ApiError> {
        let given = ShareFiles::give_name_back(self.disk.as_ref(), path, content);
        given.map_err(|error| ApiError::from(&error))
    }

    /// Gives the files of a download that is removed their name back if they were there before it, or were
    /// complete once. False when they were not.
    pub(crate) fn keep_found(&self, swarm: &SwarmId) -> Result<bool, ApiError> {
        let records = self.records()?;
        let record = records.into_iter().find(|known| known.swarm() == *swarm);
        let Some(record) = record.filter(|it| it.placing.found && it.settled.is_none()) else {
            return Ok(false);
        };
        let content = self.content_of(swarm)?;
        self.give_back(&record.path, &content).map(|()| true)
    }

    /// What is in the place where a download would lie, and how much room there is beside it: bytes that may
    /// still be written, as far as its folder or one above it is there.
    pub(crate) fn look(&self, path: &Path, content: &Content) -> (Taken, Option<u64>) {
        let taken = taken::look(path, content).unwrap_or(Taken::Other);
        let above = path.ancestors().skip(1);
        let open = |folder: &Path| self.disk.open_folder(folder).ok();
        let folder = above.map(PathBuf::from).find_map(|folder| open(&folder));
        let free = folder.and_then(|folder| self.disk.free_bytes(&folder).ok());
        (taken, free)
    }

    /// What a share is, of which the database knows.
    pub(crate) fn content_known(&self, swarm: &SwarmId) -> Result<Arc<Content>, ApiError> {
        self.content_of(swarm)
    }
}

/// Only what is wanted whole replaces something.
fn not_in_part(path: &Path) -> ApiError {
    let message = format!(
        "{} exists already, and some of the files alone do not replace it",
        path.display()
    );
    let hint = "Take what is there as the beginning: --if-exists resume; or another name: --if-exists rename.";
    ApiError::new("target_exists", exit::REFUSED, message, hint)
}
