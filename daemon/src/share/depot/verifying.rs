//! Reads again all that is stored of a share, and makes the rest of it something that can be fetched.
//!
//! What is being fetched is looked through as it is ([`Depot::verify_fetched`]). Of a complete share nothing
//! is touched unless something is wrong; then what somebody has edited of it is copied beside it, and it becomes a
//! download once more, in which only what is wrong or missing is still to come ([`Depot::verify`]).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use warren_proto::content::{ChunkIndex, Content};

use super::{Depot, Opened, with_manifest};
use crate::control::model::ApiError;
use crate::control::words::register_anew;
use crate::share::writer::{WriteError, Writer};
use crate::store::db::{ShareRecord, ShareState};
use crate::store::edited::keep_edited;
use crate::store::error::StoreError;
use crate::store::files::ShareFiles;

impl Depot {
    /// Looks through what is there of a download that nobody fetches meanwhile. `verified_bytes` follows
    /// it.
    ///
    /// # Errors
    ///
    /// When the disk refuses, or a file is gone.
    pub(crate) fn verify_fetched(
        &self,
        writer: Arc<Writer>,
        verified_bytes: &AtomicU64,
    ) -> Result<Opened, ApiError> {
        let layout = &writer.offer.content.layout;
        for chunk in writer.offer.have_now().iter() {
            let checked = writer.check(chunk);
            if checked.map_err(|error: WriteError| ApiError::from(&error))? {
                let len = u64::from(layout.chunk_len(chunk));
                verified_bytes.fetch_add(len, Ordering::Relaxed);
            }
        }
        Ok(Opened::Checked(writer))
    }

    /// Looks through what is there of a share that is not being fetched. `kept` is told where what somebody has
    /// edited of a download is, if anything was.
    ///
    /// # Errors
    ///
    /// When the disk refuses or has no room for what was edited, and for what was shared where it lies and is no
    /// longer that.
    pub(crate) fn verify(
        &self,
        record: &ShareRecord,
        verified_bytes: &AtomicU64,
        kept: &OnceLock<PathBuf>,
    ) -> Result<Opened, ApiError> {
        let content = self.content_of(&record.swarm())?;
        // What was noted when it was complete, which the node need not have.
        let noted = self.record_of(&record.swarm())?;
        let noted = noted.and_then(|noted| noted.identities);
        let known = record.settled.clone().or(noted);
        // Nothing that was noted of its files is believed.
        let record = ShareRecord {
            identities: None,
            ..record.clone()
        };
        let (disk, path) = (self.disk.clone(), &record.path);
        let keep = || {
            let edited = keep_edited(&disk, path, &content, known.as_ref()).map_err(unkept)?;
            if let Some(edited) = edited {
                tracing::info!(kept = %edited.display(), "what was edited here is kept");
                let _ = kept.set(edited);
            }
            Ok::<_, ApiError>(())
        };
        if record.settled.is_some() {
            keep()?;
            return self.verify_settled(record, &content, verified_bytes);
        }
        let is_registered = record.state == ShareState::Registered;
        if !is_registered && record.state != ShareState::Complete {
            return self.reopen(&record, &content, verified_bytes);
        }
        if is_registered && content.listing.is_some() {
            return self.verify_lying(&record, &content, verified_bytes);
        }
        let whole = ShareFiles::open_as_it_is(disk.clone(), path, &content);
        match whole.map_err(|error| ApiError::from(&error))? {
            Some((files, identities)) if is_right(&files, &content, verified_bytes)? => {
                let record = ShareRecord {
                    identities: Some(identities),
                    ..with_manifest(&record, &content)
                };
                self.amend(&record)?;
                Ok(Opened::Whole(Arc::new(files)))
            }
            _ if is_registered => Err(others_now(path)),
            _ => {
                keep()?;
                self.repair(record, &content, verified_bytes)
            }
        }
    }

    /// Makes a complete share a download again, of which everything is to be read first.
    pub(super) fn repair(
        &self,
        record: ShareRecord,
        content: &Arc<Content>,
        verified_bytes: &AtomicU64,
    ) -> Result<Opened, ApiError> {
        verified_bytes.store(0, Ordering::Relaxed);
        let mut record = ShareRecord {
            state: ShareState::Downloading,
            ..record
        };
        // Who removes it keeps what was there.
        record.placing.found = true;
        self.amend(&with_manifest(&record, content))?;
        self.claim_all(&record.swarm(), content)?;
        let path = &record.path;
        let unnamed = ShareFiles::take_back_name(self.disk.as_ref(), path, content);
        unnamed.map_err(|error| ApiError::from(&error))?;
        self.open_partial(&record, content, verified_bytes)
    }

    /// The same of a folder of which only some files were wanted.
    pub(super) fn verify_settled(
        &self,
        record: ShareRecord,
        content: &Arc<Content>,
        verified_bytes: &AtomicU64,
    ) -> Result<Opened, ApiError> {
        let (disk, path) = (self.disk.clone(), &record.path);
        let settled = record.settled.as_ref();
        let checked = settled.map(|it| ShareFiles::check_settled_files(disk, path, content, it));
        let settled = checked
            .transpose()
            .map_err(|error| ApiError::from(&error))?;
        let record = ShareRecord {
            settled,
            state: ShareState::Downloading,
            ..record
        };
        self.amend(&with_manifest(&record, content))?;
        self.open_divided(&record, content, verified_bytes)
    }
}

/// What was edited cannot be kept, so that nothing is repaired.
fn unkept(error: StoreError) -> ApiError {
    let error = ApiError::from(&error);
    match error.code.as_str() {
        "no_space" => ApiError {
            hint: "What was edited is copied before it is repaired. Make room for that, or move it elsewhere, where \
                   it stays yours; then verify again: client verify NAME IDX"
                .into(),
            ..error
        },
        _ => error,
    }
}

/// What was shared where it lies is no longer that.
pub(super) fn others_now(path: &Path) -> ApiError {
    let path = path.to_owned();
    let hint = register_anew(&path);
    let error = ApiError::from(&StoreError::Changed { path });
    ApiError { hint, ..error }
}

/// Whether every chunk is what it should be.
pub(super) fn is_right(
    files: &ShareFiles,
    content: &Content,
    verified_bytes: &AtomicU64,
) -> Result<bool, ApiError> {
    let layout = &content.layout;
    let chunks = (0..layout.chunk_count()).filter_map(|chunk| layout.chunk(chunk));
    for chunk in chunks {
        match files.verify(chunk) {
            Ok(true) => {
                let len = u64::from(layout.chunk_len(chunk));
                verified_bytes.fetch_add(len, Ordering::Relaxed);
            }
            Ok(false) | Err(StoreError::Changed { .. }) => return Ok(false),
            Err(error) => return Err(ApiError::from(&error)),
        }
    }
    Ok(true)
}

impl Writer {
    /// Reads a chunk again. One that is not what it should be is no longer had, and nobody is told that it
    /// is from then on.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or that cannot be noted.
    fn check(&self, chunk: ChunkIndex) -> Result<bool, WriteError> {
        let _none_stored = self.none_stored();
        let is_right = match self.offer.files.verify(chunk) {
            // Cut off: what is missing is fetched like what is wrong.
            Err(StoreError::Changed { .. }) if !self.offer.files.is_settled(chunk) => false,
            verified => verified?,
        };
        if !is_right {
            self.forget(chunk)?;
        }
        Ok(is_right)
    }
}
