//! What a daemon does with the disk when a share begins, is found again, is complete or goes.
//! Everything here blocks.

mod again;
mod changed;
mod found;
mod limits;
mod newest;
mod opening;
mod paused;
mod placing;
mod relocating;
mod terms;
mod verifying;
mod versions;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use warren_proto::content::{ChunkSet, Content, Manifest};
use warren_proto::follow::PublisherId;
use warren_proto::id::SwarmId;

use super::writer::Writer;
use crate::control::model::{ApiError, exit};
use crate::control::wish::{Picked, Wish};
use crate::control::words::short_id;
use crate::store::changes::Differing;
use crate::store::db::{ShareDb, ShareRecord, ShareState};
use crate::store::disk::{Disk, RealDisk};
use crate::store::files::{Identities, ShareFiles};
use crate::store::following::Followed;
use crate::store::journal::{Journal, Recovered};
use crate::store::settings::Manners;
use crate::store::sync::SyncError;
use crate::store::taken::{IfExists, Placing};
use crate::store::terms::Terms;

pub(crate) use again::{Checked, Others};
pub(crate) use limits::Limited;
use newest::Newest;
pub(crate) use placing::AtGoal;
pub(crate) use relocating::Moved;
pub(crate) use verifying::others_now;
pub(crate) use versions::Exchanged;

/// Keeps the name of a journal apart from every other use of the swarm id, which it does not tell.
const JOURNAL_CONTEXT: &str = "warren journal name v1";

/// The disk, the database and the journals of one daemon.
#[derive(Debug)]
pub(crate) struct Depot {
    db: ShareDb,
    journals: PathBuf,
    /// Where the keys of followable shares are.
    publishers: PathBuf,
    disk: Arc<dyn Disk>,
    unkept: Unkept,
    /// Held while a version is signed, so that no number is used for two of them.
    publishing: Mutex<()>,
}

/// What was noted and is not in the database yet.
#[derive(Debug, Default)]
struct Unkept {
    limits: Newest<Limited, Manners>,
    pauses: Newest<SwarmId, bool>,
    terms: Newest<SwarmId, Terms>,
    /// `None` for what is followed no longer.
    followed: Newest<PublisherId, Option<Followed>>,
}

/// A share of which all that is wanted has its name.
#[derive(Debug)]
pub(crate) struct Settled {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// As [`ShareRecord::settled`].
    pub(crate) settled: Option<Identities>,
    /// As [`ShareRecord::placing`].
    pub(crate) placing: Placing,
}

/// A share that has been found or made.
#[derive(Debug)]
pub(crate) enum Opened {
    /// Unfinished; these chunks are there.
    Partial {
        /// Its files.
        files: Arc<ShareFiles>,
        /// Its journal.
        journal: Box<Journal>,
        /// The chunks.
        have: ChunkSet,
        /// What of it is wanted.
        picked: Arc<Picked>,
        /// As [`Placing::found`](crate::store::taken::Placing::found).
        found: bool,
    },
    /// Complete.
    Whole(Arc<ShareFiles>),
    /// What was complete, of which these files are not as they were noted; there is something left of it.
    Differing(Arc<ShareFiles>, Differing),
    /// Unfinished, open all the time, and looked through.
    Checked(Arc<Writer>),
}

impl Depot {
    /// Works on the machine's own disk.
    pub(crate) fn new(db: ShareDb, journals: PathBuf) -> Depot {
        Depot {
            db,
            publishers: journals.with_file_name("publishers"),
            journals,
            disk: Arc::new(RealDisk),
            unkept: Unkept::default(),
            publishing: Mutex::default(),
        }
    }

    /// All shares, as they were when the daemon ended.
    pub(crate) fn records(&self) -> Result<Vec<ShareRecord>, ApiError> {
        let records = self.db.all().map_err(|error| ApiError::from(&error))?;
        Ok(records.into_iter().map(|it| self.mended(it)).collect())
    }

    /// Remembers a share of which only the link is known.
    pub(crate) fn remember(&self, record: &ShareRecord) -> Result<(), ApiError> {
        self.db
            .upsert(record)
            .map_err(|error| ApiError::from(&error))
    }

    /// Remembers what is otherwise of a share, unless it was removed meanwhile.
    fn amend(&self, record: &ShareRecord) -> Result<(), ApiError> {
        match self.db.replace(record) {
            Ok(true) => Ok(()),
            Ok(false) => Err(removed()),
            Err(error) => Err(ApiError::from(&error)),
        }
    }

    /// Notes where a share stands. It is not lost if that fails: the next start finds out again.
    pub(crate) fn note(&self, swarm: &SwarmId, state: &ShareState) {
        if let Err(error) = self.db.set_state(swarm, state) {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "the state of a share is not noted");
        }
    }

    /// Makes the files of a new download and remembers it. Where something is in its place that is taken as
    /// its beginning, that is read; `verified_bytes` follows.
    pub(crate) fn create(
        &self,
        record: &ShareRecord,
        content: &Arc<Content>,
        verified_bytes: &AtomicU64,
    ) -> Result<Opened, ApiError> {
        let picked = match pick(record, content) {
            Ok(picked) => picked,
            Err(error) => {
                // Whoever says better what is wanted need not learn again what there is.
                self.remember(&with_manifest(record, content))?;
                return Err(error);
            }
        };
        let record = &self.placed(record, content, &picked)?;
        if record.placing.found {
            return self.resume_found(record.clone(), content, &picked, verified_bytes);
        }
        let (disk, path) = (self.disk.clone(), &record.path);
        let files = match (picked.is_everything(), record.placing.if_exists) {
            (true, IfExists::Overwrite) => ShareFiles::create_beside(disk, path, content),
            (true, _) => ShareFiles::create_partial(disk, path, content),
            (false, _) => ShareFiles::create_chosen(disk, path, content, &picked.chosen),
        };
        let files = files.map_err(|error| ApiError::from(&error))?;
        let settled = (!picked.is_everything()).then(Identities::none);
        let record = ShareRecord {
            settled,
            ..record.clone()
        };
        match self.begin(&record, content) {
            Ok((journal, recovered)) => Ok(Opened::Partial {
                files: Arc::new(files),
                journal: Box::new(journal),
                have: recovered.synced,
                picked: Arc::new(picked),
                found: false,
            }),
            Err(error) => {
                // Nothing was fetched yet; the error is what matters.
                let _ = files.discard_partial();
                Err(error)
            }
        }
    }

    fn begin(
        &self,
        record: &ShareRecord,
        content: &Arc<Content>,
    ) -> Result<(Journal, Recovered), ApiError> {
        let swarm = record.swarm();
        self.forget_journal(&swarm)?;
        let journal = self.journal(&swarm, content)?;
        let mut record = with_manifest(record, content);
        record.state = ShareState::Downloading;
        self.remember(&record)?;
        Ok(journal)
    }

    /// Wants something else of a share from now on. What is noted first is what the next start goes by.
    /// Files follow at once where there is a `writer`, and else when they are found again.
    pub(crate) fn choose(
        &self,
        writer: Option<&Writer>,
        record: &ShareRecord,
        wish: Wish,
    ) -> Result<(Box<ShareRecord>, Option<Arc<Picked>>), ApiError> {
        let (record, content) = match writer {
            Some(writer) => {
                let content = writer.offer.content.clone();
                (with_manifest(record, &content), content)
            }
            None => self.noted(&record.swarm())?,
        };
        let mut changed = ShareRecord {
            wish,
            ..record.clone()
        };
        let picked = pick(&changed, &content)?;
        if is_whole(&record) {
            // All of it is there, and stays wanted.
            return Ok((Box::new(without_manifest(record)), None));
        }
        if !picked.is_everything() {
            changed.settled.get_or_insert_with(Identities::none);
            // What of it is not wanted goes there.
            changed.placing.aside |= changed.placing.found;
        }
        // It may come from there.
        changed.placing.found |= changed.placing.aside;
        if writer.is_some() {
            changed.state = ShareState::Downloading;
        }
        self.amend(&changed)?;
        let moved = writer.map_or(Ok(()), |writer| match changed.placing.found {
            true => writer.choose_of_found(&picked.chosen),
            false => writer.choose(&picked.chosen),
        });
        if let Err(error) = moved {
            let before = ShareRecord {
                settled: changed.settled,
                placing: changed.placing,
                ..record
            };
            self.amend(&before)?;
            return Err(ApiError::from(&error));
        }
        changed.manifest = None;
        Ok((Box::new(changed), writer.map(|_| Arc::new(picked))))
    }

    /// Brings a download to rest: durable, and with a note of what its files are, so that the next
    /// start need not read them.
    pub(crate) fn rest(&self, writer: &Writer) {
        let offer = &writer.offer;
        let rested = || -> Result<(), ApiError> {
            writer.sync().map_err(|error| explain_sync(&error))?;
            let now = offer.files.identities_now();
            let now = now.map_err(|error| ApiError::from(&error))?;
            let noted = self.db.set_identities(&offer.swarm, &now);
            noted.map(drop).map_err(|error| ApiError::from(&error))
        };
        if let Err(error) = rested() {
            tracing::warn!(%error, "a download is not brought to rest; the next start verifies it");
        }
    }

    /// Gives a complete download its name, durably.
    pub(crate) fn finish(
        &self,
        writer: &Writer,
        record: &ShareRecord,
        picked: &Picked,
    ) -> Result<Settled, ApiError> {
        writer.sync().map_err(|error| explain_sync(&error))?;
        if !picked.is_everything() {
            return self.settle(writer, record, picked);
        }
        let files = &writer.offer.files;
        let finished = match record.placing.if_exists {
            IfExists::Overwrite => files.finish_over(),
            _ => files.finish(),
        };
        let (path, identities) = finished.map_err(|error| ApiError::from(&error))?;
        let record = ShareRecord {
            path: path.clone(),
            ..record.clone()
        };
        self.remember_whole(&record, &writer.offer.content, identities)?;
        Ok(Settled {
            path,
            settled: None,
            placing: Placing::default(),
        })
    }

    /// Remembers that a download is complete, with all of its files.
    fn remember_whole(
        &self,
        record: &ShareRecord,
        content: &Arc<Content>,
        identities: Identities,
    ) -> Result<(), ApiError> {
        self.remember(&ShareRecord {
            state: ShareState::Complete,
            identities: Some(identities),
            wish: Wish::default(),
            settled: None,
            placing: Placing::default(),
            ..with_manifest(record, content)
        })?;
        self.forget_journal(&record.swarm())
    }

    /// Gives what is wanted of a share its names, durably. The journal stays: there may be more than
    /// is wanted, and more may be wanted.
    fn settle(
        &self,
        writer: &Writer,
        record: &ShareRecord,
        picked: &Picked,
    ) -> Result<Settled, ApiError> {
        let settled = writer.settle(&picked.chosen);
        let settled = Some(settled.map_err(|error| ApiError::from(&error))?);
        let record = ShareRecord {
            state: ShareState::Complete,
            settled: settled.clone(),
            // What is fetched from now on was not there before.
            placing: Placing {
                aside: record.placing.aside && writer.offer.files.has_aside(),
                ..Placing::default()
            },
            ..with_manifest(record, &writer.offer.content)
        };
        self.remember(&record)?;
        Ok(Settled {
            path: writer.offer.files.path(),
            settled,
            placing: record.placing,
        })
    }

    /// Shares files where they lie, once `publish` has done whatever else belongs to it: what was not
    /// published is not remembered, or it would be shared from the next start on.
    pub(crate) fn register<T>(
        &self,
        record: &ShareRecord,
        content: &Arc<Content>,
        publish: impl FnOnce() -> Result<T, ApiError>,
    ) -> Result<(Opened, T), ApiError> {
        let opened = self.open_whole(record, content)?;
        let published = publish()?;
        self.remember(&with_manifest(record, content))?;
        Ok((opened, published))
    }

    /// Deletes what was downloaded of a complete share. What others have put among it stays.
    ///
    /// # Errors
    ///
    /// When some of it could not be removed.
    pub(crate) fn delete(&self, record: &ShareRecord) -> Result<(), ApiError> {
        let content = self.content_of(&record.swarm())?;
        let (disk, path) = (self.disk.clone(), &record.path);
        let deleted = ShareFiles::delete_named(disk, path, &content, record.settled.as_ref());
        deleted.map_err(|error| ApiError::from(&error))
    }

    /// Forgets a share, and its limit and pause if those were noted to be over; `partial` are the files to
    /// remove, those of an unfinished download.
    pub(crate) fn remove(
        &self,
        swarm: &SwarmId,
        partial: Option<&ShareFiles>,
    ) -> Result<(), ApiError> {
        self.db
            .remove(swarm)
            .map_err(|error| ApiError::from(&error))?;
        self.keep_limit(Limited::Share(*swarm))?;
        self.keep_paused(swarm)?;
        self.keep_terms(swarm)?;
        self.forget_journal(swarm)?;
        let discarded = partial.map_or(Ok(()), ShareFiles::discard_partial);
        discarded.map_err(|error| ApiError::from(&error))
    }

    /// Finds again a share that is stopped, of which only the database knows the content.
    pub(crate) fn recall(
        &self,
        record: &ShareRecord,
        verified_bytes: &AtomicU64,
    ) -> Result<Opened, ApiError> {
        let content = self.content_of(&record.swarm())?;
        self.reopen(record, &content, verified_bytes)
    }

    /// The files of an unfinished download that is not being fetched now, as far as they are there.
    pub(crate) fn partial_files(&self, record: &ShareRecord) -> Option<ShareFiles> {
        let unfinished = ShareState::Downloading;
        let is_unfinished =
            record.state == unfinished || matches!(record.state, ShareState::Paused { .. });
        if !is_unfinished && record.settled.is_none() {
            return None;
        }
        let content = self.content_of(&record.swarm()).ok()?;
        let (disk, path) = (self.disk.clone(), &record.path);
        let Some(settled) = &record.settled else {
            return ShareFiles::open_partial(disk, path, &content).ok();
        };
        // Nothing is to be made now.
        let chosen = vec![false; content.file_count() as usize];
        ShareFiles::open_divided(disk, path, &content, &chosen, Some(settled)).ok()
    }

    /// Removes what nobody had asked for beside files that stay as they are, and are of no share any more. What was
    /// there before the share gets its name back.
    pub(crate) fn discard_aside(&self, left: &ShareRecord) {
        if left.placing.aside {
            let content = self.content_of(&left.swarm());
            let given = content.and_then(|it| self.give_files_back(&left.path, &it, true));
            if let Err(error) = given {
                tracing::warn!(%error, "what was there before a share has not got its name back");
            }
            return;
        }
        let left = ShareRecord {
            settled: Some(Identities::none()),
            ..left.clone()
        };
        let files = self.partial_files(&left);
        if let Some(Err(error)) = files.map(|files| files.discard_partial()) {
            tracing::warn!(%error, "what came beside files that are kept is still there");
        }
    }

    fn record_of(&self, swarm: &SwarmId) -> Result<Option<ShareRecord>, ApiError> {
        self.db.find(swarm).map_err(|error| ApiError::from(&error))
    }

    /// A share as the database has it, with all that is not kept in memory: what its files were, for one.
    fn noted(&self, swarm: &SwarmId) -> Result<(ShareRecord, Arc<Content>), ApiError> {
        let record = self.record_of(swarm)?;
        let content = content_in(record.as_ref())?;
        Ok((record.ok_or_else(removed)?, content))
    }

    fn content_of(&self, swarm: &SwarmId) -> Result<Arc<Content>, ApiError> {
        content_in(self.record_of(swarm)?.as_ref())
    }

    fn journal(
        &self,
        swarm: &SwarmId,
        content: &Content,
    ) -> Result<(Journal, Recovered), ApiError> {
        let path = self.journal_path(swarm);
        Journal::open_on(
            self.disk.clone(),
            &path,
            content.id,
            content.layout.chunk_count(),
        )
        .map_err(|error| ApiError::from(&error))
    }

    fn forget_journal(&self, swarm: &SwarmId) -> Result<(), ApiError> {
        let path = self.journal_path(swarm);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let hint = "See that the daemon's state folder can be written to.";
                let message = format!("cannot remove {}: {error}", path.display());
                Err(ApiError::new("journal", exit::DISK, message, hint))
            }
            _ => Ok(()),
        }
    }

    /// Swarm ids are shown nowhere, a folder included.
    fn journal_path(&self, swarm: &SwarmId) -> PathBuf {
        let name = blake3::derive_key(JOURNAL_CONTEXT, &swarm.0);
        self.journals
            .join(data_encoding::HEXLOWER.encode(&name[..16]))
    }
}

/// Whether all of it is there, and always was wanted.
fn is_whole(record: &ShareRecord) -> bool {
    let is_complete = matches!(record.state, ShareState::Registered | ShareState::Complete);
    is_complete && record.settled.is_none()
}

/// The files that the person wants, and those that have their names already.
fn pick(record: &ShareRecord, content: &Content) -> Result<Picked, ApiError> {
    let settled = record.settled.as_ref();
    let is_settled = |file: u32| settled.is_some_and(|settled| settled.has(file));
    record.wish.pick(content, is_settled)
}

/// What a share is, as the database has it.
fn content_in(record: Option<&ShareRecord>) -> Result<Arc<Content>, ApiError> {
    let manifest = record.and_then(|record| record.manifest.as_deref());
    let manifest = manifest.ok_or_else(|| {
        let id = record.map_or("NAME".to_owned(), |record| short_id(&record.id));
        ApiError::new(
            "unknown_content",
            exit::OTHER,
            "the content of the share is not known",
            format!("Remove it and download it again: client remove {id} IDX"),
        )
    })?;
    let manifest = Manifest::decode(manifest).map_err(|error| ApiError::from(&error))?;
    Ok(Arc::new(manifest.content))
}

/// Why nothing more is done with a share that is gone.
pub(crate) fn removed() -> ApiError {
    ApiError::new(
        "removed",
        exit::REFUSED,
        "the download was cancelled or removed",
        "Run the same download command again to start over.",
    )
}

/// What a failed sync means to the person.
pub(crate) fn explain_sync(error: &SyncError) -> ApiError {
    match error {
        SyncError::Lost { source, .. } => source.into(),
        SyncError::Store(error) => error.into(),
        SyncError::Journal(error) => error.into(),
    }
}

/// The record as it is kept in memory, where the manifest would be there twice.
pub(crate) fn without_manifest(record: ShareRecord) -> ShareRecord {
    ShareRecord {
        manifest: None,
        ..record
    }
}

fn with_manifest(record: &ShareRecord, content: &Arc<Content>) -> ShareRecord {
    let content = Content::clone(content);
    let manifest = Manifest::new(content, record.trackers.clone(), record.secret);
    ShareRecord {
        manifest: Some(manifest.encode()),
        ..record.clone()
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
