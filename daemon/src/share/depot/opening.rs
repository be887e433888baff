//! Shares that are found again after a restart: whole, as they lie; or unfinished, with what of them is trusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use warren_proto::content::{ChunkIndex, ChunkSet, Content, Run};

use super::{Depot, Opened, folder_of, pick, with_manifest};
use crate::control::model::ApiError;
use crate::control::wish::{Picked, Wish};
use crate::store::db::{ShareRecord, ShareState};
use crate::store::error::StoreError;
use crate::store::files::{Identities, ShareFiles};
use crate::store::journal::{Journal, Recovered};
use crate::store::register::{Hashing, Special, hash_share};
use crate::store::taken::IfExists;

impl Depot {
    /// Finds a share after a restart, which may mean to read much of it again; `verified_bytes`
    /// follows that.
    pub(crate) fn reopen(
        &self,
        record: &ShareRecord,
        content: &Arc<Content>,
        verified_bytes: &AtomicU64,
    ) -> Result<Opened, ApiError> {
        match record.state {
            _ if self.is_unbegun(record) => self.create(record, content, verified_bytes),
            // The daemon ended while its files were looked at; somebody may have edited them since.
            _ if record.settled.as_ref().is_some_and(Identities::is_claimed) => {
                self.keep_edited(record, content, record.settled.as_ref())?;
                self.verify_settled(record.clone(), content, verified_bytes)
            }
            _ if record.settled.is_some() => self.open_divided(record, content, verified_bytes),
            ShareState::Registered | ShareState::Complete => self.open_lying(record, content),
            _ => self.open_partial(record, content, verified_bytes),
        }
    }

    /// The record of a complete share that is noted as a part of a folder of which no file has its name, and that
    /// has no journal: what was chosen while it was paused once did that. All of it is there, unless reading its
    /// files, which is done once it is found, tells otherwise.
    pub(super) fn mended(&self, mut record: ShareRecord) -> ShareRecord {
        let is_complete = matches!(record.state, ShareState::Registered | ShareState::Complete);
        let is_of_no_file = record.settled == Some(Identities::none());
        if is_complete && is_of_no_file && !self.journal_path(&record.swarm()).exists() {
            (record.settled, record.wish) = (None, Wish::default());
        }
        record
    }

    /// Whether a download was stopped before anything of it was made: it was not known which files.
    fn is_unbegun(&self, record: &ShareRecord) -> bool {
        let is_paused = matches!(record.state, ShareState::Paused { .. });
        let has_journal = self.journal_path(&record.swarm()).exists();
        is_paused && !has_journal && !folder_of(&record.path).exists()
    }

    pub(super) fn open_whole(
        &self,
        record: &ShareRecord,
        content: &Arc<Content>,
    ) -> Result<Opened, ApiError> {
        let unknown = || {
            ApiError::from(&StoreError::Changed {
                path: record.path.clone(),
            })
        };
        let identities = record.identities.as_ref().ok_or_else(unknown)?;
        ShareFiles::open_in_place(self.disk.clone(), &record.path, content, identities)
            .map(|files| Opened::Whole(Arc::new(files)))
            .map_err(|error| ApiError::from(&error))
    }

    pub(super) fn open_partial(
        &self,
        record: &ShareRecord,
        content: &Arc<Content>,
        verified_bytes: &AtomicU64,
    ) -> Result<Opened, ApiError> {
        if let Some(whole) = self.overwritten(record, content, verified_bytes)? {
            return Ok(whole);
        }
        let path = &record.path;
        match ShareFiles::open_partial(self.disk.clone(), path, content) {
            Ok(files) => self.recover(record, files, pick(record, content)?, verified_bytes),
            // Somebody removed it: begin again.
            Err(StoreError::Missing { .. }) => self.create(record, content, verified_bytes),
            Err(StoreError::AlreadyRenamed { .. }) => match self.adopt(record, content) {
                // It is what something was said of.
                Err(_) if record.placing.if_exists != IfExists::Refuse => {
                    self.create(record, content, verified_bytes)
                }
                adopted => adopted,
            },
            Err(error) => Err(ApiError::from(&error)),
        }
    }

    pub(super) fn open_divided(
        &self,
        record: &ShareRecord,
        content: &Arc<Content>,
        verified_bytes: &AtomicU64,
    ) -> Result<Opened, ApiError> {
        let picked = pick(record, content)?;
        let (disk, path) = (self.disk.clone(), &record.path);
        let settled = record.settled.as_ref();
        match ShareFiles::open_divided(disk, path, content, &picked.chosen, settled) {
            Ok(files) => self.recover(record, files, picked, verified_bytes),
            // Somebody removed it: begin again.
            Err(StoreError::Missing { .. }) => self.create(record, content, verified_bytes),
            Err(error) => Err(ApiError::from(&error)),
        }
    }

    /// What the journal calls synced is trusted only if nobody has touched the files since the
    /// daemon was stopped in good order; everything else is read and hashed again.
    fn recover(
        &self,
        record: &ShareRecord,
        files: ShareFiles,
        picked: Picked,
        verified_bytes: &AtomicU64,
    ) -> Result<Opened, ApiError> {
        let content = files.content().clone();
        let (
            mut journal,
            Recovered {
                synced, written, ..
            },
        ) = self.journal(&record.swarm(), &content)?;
        let now = files
            .identities_now()
            .map_err(|error| ApiError::from(&error))?;
        let mut have = match record.identities == Some(now) {
            true => synced.clone(),
            false => settled_of(&files, &synced),
        };
        let mut doubtful = synced.clone();
        // Both come from the journal, which was made for as many chunks.
        let _ = doubtful.insert_runs(&written);
        for chunk in doubtful.iter() {
            if !have.contains(chunk) && check(&files, chunk, &mut journal, &synced)? {
                have.insert(chunk);
            }
            if have.contains(chunk) {
                let len = u64::from(content.layout.chunk_len(chunk));
                verified_bytes.fetch_add(len, Ordering::Relaxed);
            }
        }
        Ok(Opened::Partial {
            files: Arc::new(files),
            journal: Box::new(journal),
            have,
            picked: Arc::new(picked),
            found: record.placing.found,
        })
    }

    /// The daemon ended between the rename and the note of it: what lies there is the share if it
    /// hashes to it.
    fn adopt(&self, record: &ShareRecord, content: &Arc<Content>) -> Result<Opened, ApiError> {
        let hashing = Hashing::default();
        let hashed = hash_share(self.disk.as_ref(), &record.path, Special::Refuse, &hashing)
            .map_err(|error| ApiError::from(&error))?;
        if (hashed.content.kind, hashed.content.id) != (content.kind, content.id) {
            let path = record.path.clone();
            return Err(ApiError::from(&StoreError::TargetExists { path }));
        }
        let record = ShareRecord {
            state: ShareState::Complete,
            identities: Some(hashed.identities),
            ..with_manifest(record, content)
        };
        self.remember(&record)?;
        self.open_whole(&record, content)
    }
}

/// Those of the chunks whose files have their names, and were found to be what they were.
fn settled_of(files: &ShareFiles, synced: &ChunkSet) -> ChunkSet {
    let mut settled = ChunkSet::empty(synced.len());
    for chunk in synced.iter().filter(|chunk| files.is_settled(*chunk)) {
        settled.insert(chunk);
    }
    settled
}

/// Reads a chunk again, and tells the journal what it did not know.
fn check(
    files: &ShareFiles,
    chunk: ChunkIndex,
    journal: &mut Journal,
    synced: &ChunkSet,
) -> Result<bool, ApiError> {
    let run = Run {
        start: chunk.value(),
        count: 1,
    };
    let right = files
        .verify(chunk)
        .map_err(|error| ApiError::from(&error))?;
    let noted = match right {
        true if synced.contains(chunk) => Ok(()),
        true => journal.written(run),
        false => journal.lost(run),
    };
    noted
        .map(|()| right)
        .map_err(|error| ApiError::from(&error))
}
