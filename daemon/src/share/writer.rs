//! Takes in the chunks of a share being downloaded: verify, write, note, offer; and makes them
//! durable from time to time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use warren_proto::content::tree::Expected;
use warren_proto::content::{ChunkIndex, Content, Run, Verifier};

use super::offer::Offer;
use crate::control::model::ApiError;
use crate::store::error::StoreError;
use crate::store::files::Identities;
use crate::store::journal::{Journal, JournalError};
use crate::store::segments::Segments;
use crate::store::sync::{SyncError, sync_share};

/// Most time and most bytes between two syncs: what a power cut may cost.
const SYNC_EVERY: Duration = Duration::from_secs(1);
const SYNC_BYTES: u64 = 64 << 20;

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It is what it should be, and written.
    Verified,
    /// It is not what it should be; nothing was written.
    Corrupt,
}

/// Why a verified chunk could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<&WriteError> for ApiError {
    fn from(error: &WriteError) -> ApiError {
        match error {
            WriteError::Store(error) => error.into(),
            WriteError::Journal(error) => error.into(),
        }
    }
}

/// The way of received bytes to the disk. Its methods block.
#[derive(Debug)]
pub(crate) struct Writer {
    /// What is offered of the share; every stored chunk is added.
    pub(crate) offer: Arc<Offer>,
    journal: Mutex<Journal>,
    /// Held while a chunk is stored, so that what is had does not change while files move.
    storing: RwLock<()>,
    unsynced_bytes: AtomicU64,
    much_unsynced: Notify,
}

impl Writer {
    /// Writes to the files of `offer` and notes it in `journal`.
    pub(crate) fn new(offer: Arc<Offer>, journal: Journal) -> Writer {
        Writer {
            offer,
            journal: Mutex::new(journal),
            storing: RwLock::default(),
            unsynced_bytes: AtomicU64::new(0),
            much_unsynced: Notify::new(),
        }
    }

    /// Verifies a chunk; when it is right, writes it, notes it in the journal and offers it.
    ///
    /// # Errors
    ///
    /// When the disk refused. The chunk is then not had.
    pub(crate) fn store(&self, chunk: ChunkIndex, bytes: &Segments) -> Result<Stored, WriteError> {
        if !verify(&self.offer.content, chunk, bytes) {
            return Ok(Stored::Corrupt);
        }
        let _stays = self.storing.read().unwrap_or_else(PoisonError::into_inner);
        self.offer.files.write_chunk(chunk, bytes)?;
        let run = Run {
            start: chunk.value(),
            count: 1,
        };
        self.journal().written(run)?;
        self.offer.add(chunk);
        let len = bytes.len() as u64;
        if self.unsynced_bytes.fetch_add(len, Ordering::Relaxed) + len >= SYNC_BYTES {
            self.much_unsynced.notify_one();
        }
        Ok(Stored::Verified)
    }

    /// From now on these files of the share are wanted.
    ///
    /// # Errors
    ///
    /// As [`ShareFiles::choose`].
    ///
    /// [`ShareFiles::choose`]: crate::store::files::ShareFiles::choose
    pub(crate) fn choose(&self, chosen: &[bool]) -> Result<(), StoreError> {
        let _none_stored = self.none_stored();
        let (content, have) = (&self.offer.content, self.offer.have_now());
        let chunks = have.iter();
        let files = chunks.flat_map(|chunk| content.layout.extents(chunk).map(|at| at.file));
        let has_bytes: BTreeSet<u32> = files.collect();
        self.offer
            .files
            .choose(chosen, |file| has_bytes.contains(&file))
    }

    /// The same of a share that began with files that were there: none of them goes, though no chunk of it is right.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) fn choose_of_found(&self, chosen: &[bool]) -> Result<(), StoreError> {
        let _none_stored = self.none_stored();
        self.offer.files.choose(chosen, |_| true)
    }

    /// Gives these files of the share their final names; all their chunks are stored and synced.
    ///
    /// # Errors
    ///
    /// As [`ShareFiles::settle`].
    ///
    /// [`ShareFiles::settle`]: crate::store::files::ShareFiles::settle
    pub(crate) fn settle(&self, chosen: &[bool]) -> Result<Identities, StoreError> {
        let _none_stored = self.none_stored();
        self.offer.files.settle(chosen)
    }

    /// Makes durable all that was stored before.
    ///
    /// # Errors
    ///
    /// See [`SyncError`].
    pub(crate) fn sync(&self) -> Result<(), SyncError> {
        self.unsynced_bytes.store(0, Ordering::Relaxed);
        self.offer.files.check_present().map_err(SyncError::Store)?;
        sync_share(&self.offer.files, &self.journal)
    }

    /// While this is held no chunk is stored.
    pub(super) fn none_stored(&self) -> RwLockWriteGuard<'_, ()> {
        self.storing.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A chunk is not what it should be after all.
    ///
    /// # Errors
    ///
    /// When that could not be noted.
    pub(super) fn forget(&self, chunk: ChunkIndex) -> Result<(), JournalError> {
        self.offer.take_back(chunk);
        let run = Run {
            start: chunk.value(),
            count: 1,
        };
        self.journal().lost(run)
    }

    fn journal(&self) -> std::sync::MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Syncs again and again until `stop`; returns the first error.
///
/// # Errors
///
/// See [`SyncError`].
pub(crate) async fn keep_synced(
    writer: Arc<Writer>,
    stop: CancellationToken,
) -> Result<(), SyncError> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(SYNC_EVERY) => (),
            () = writer.much_unsynced.notified() => (),
        }
        if writer.unsynced_bytes.load(Ordering::Relaxed) == 0 {
            continue;
        }
        let syncing = writer.clone();
        if let Ok(synced) = tokio::task::spawn_blocking(move || syncing.sync()).await {
            synced?;
        }
    }
}

/// Whether these are the bytes of the chunk.
pub(crate) fn verify(content: &Content, chunk: ChunkIndex, bytes: &Segments) -> bool {
    let layout = &content.layout;
    if bytes.len() != layout.chunk_len(chunk) as usize {
        return false;
    }
    let mut begin = 0;
    layout.extents(chunk).all(|extent| {
        let (start, len) = (begin, extent.len as usize);
        begin += len;
        content
            .expected(&extent)
            .is_some_and(|expected| is_run(bytes, (start, len), expected))
    })
}

/// Whether the `len` bytes from `start` on are the expected ones.
pub(crate) fn is_run(bytes: &Segments, (start, len): (usize, usize), expected: Expected) -> bool {
    let mut verifier = Verifier::new(expected);
    bytes.run(start, len).for_each(|part| verifier.update(part));
    verifier.finish()
}
