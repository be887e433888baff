//! Syncs a share being downloaded: first its files, then its journal, and what the journal then
//! says survives a power cut.

use std::sync::Mutex;

use warren_proto::content::Run;

use super::error::StoreError;
use super::files::ShareFiles;
use super::journal::{Journal, JournalError};
use super::open_files::lock;

/// Why a share was not synced.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The medium may lack these chunks, and reading them back would not tell. The journal has
    /// taken them back; the share must be opened anew and they must be fetched again.
    #[error("chunks written since the last sync are lost")]
    Lost {
        /// The chunks.
        chunks: Vec<Run>,
        /// What failed.
        source: StoreError,
    },
    /// The files could not be synced now; nothing is lost and the next try may succeed.
    #[error(transparent)]
    Store(StoreError),
    /// The journal could not be written; nothing is lost and the next try may succeed.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Makes durable every chunk noted in the journal before this call. Chunks may be written and
/// noted meanwhile; they wait for the next sync.
///
/// # Errors
///
/// See [`SyncError`].
pub fn sync_share(files: &ShareFiles, journal: &Mutex<Journal>) -> Result<(), SyncError> {
    lock(journal).begin_sync();
    match files.sync() {
        Ok(()) => Ok(lock(journal).end_sync()?),
        Err(source @ StoreError::SyncFailed { .. }) => {
            let mut journal = lock(journal);
            let chunks = journal.unsynced();
            // If even that cannot be written, a restart reads the chunks back before it believes
            // them, and the files have been told to forget what the medium does not have.
            let _ = journal.lose_unsynced();
            Err(SyncError::Lost { chunks, source })
        }
        Err(other) => Err(SyncError::Store(other)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use rustix::io::Errno;
    use warren_proto::content::ChunkIndex;

    use super::*;
    use crate::store::faulty::{Fault, FaultyDisk};
    use crate::store::samples::{CHUNK_BYTES, Sample, noise, quick_folder};

    const FAULTS: [Fault; 4] = [
        Fault::Once(Errno::IO),
        Fault::Once(Errno::NOSPC),
        Fault::From(Errno::IO),
        Fault::Short(Errno::NOSPC),
    ];

    #[test]
    fn no_fault_at_any_call_and_no_power_cut_leaves_a_false_claim() {
        for sample in [
            Sample::mixed(),
            Sample::file("f", noise(1, 3 * CHUNK_BYTES)),
        ] {
            for fault in FAULTS {
                for n in 0.. {
                    let disk = Arc::new(FaultyDisk::failing_at(n, fault));
                    let folder = quick_folder();
                    let finished = download(&disk, folder.path(), &sample);
                    disk.power_loss();
                    check_claims(folder.path(), &sample);
                    if !disk.fault_was_met() {
                        assert!(finished);
                        break;
                    }
                }
            }
        }
    }

    /// A whole download that goes on after failures as long as a daemon may; true when finished.
    fn download(disk: &Arc<FaultyDisk>, home: &Path, sample: &Sample) -> bool {
        let downloads = home.join("downloads");
        let made =
            ShareFiles::create_partial(disk.clone(), &sample.path_in(&downloads), &sample.content);
        let Ok(files) = made else {
            let nothing_left = std::fs::read_dir(&downloads).unwrap().count() == 0;
            assert!(nothing_left || !disk.recovers(), "{disk:?}");
            return false;
        };
        let (id, chunks) = (sample.content.id, sample.content.layout.chunk_count());
        let Ok((journal, _)) = Journal::open_on(disk.clone(), &home.join("j"), id, chunks) else {
            return false;
        };
        let journal = Mutex::new(journal);
        for chunk in sample.chunks() {
            if !store(&files, &journal, sample, chunk) {
                return false;
            }
            let lost = |result| matches!(result, Err(SyncError::Lost { .. }));
            if chunk.value() % 2 == 1 && lost(sync_share(&files, &journal)) {
                return false;
            }
        }
        sync_share(&files, &journal).is_ok() && files.finish().or_else(|_| files.finish()).is_ok()
    }

    /// Writes and notes a chunk, trying twice.
    fn store(
        files: &ShareFiles,
        journal: &Mutex<Journal>,
        sample: &Sample,
        chunk: ChunkIndex,
    ) -> bool {
        let run = Run {
            start: chunk.value(),
            count: 1,
        };
        let attempt = || {
            files
                .write_chunk(chunk, &sample.chunk(chunk)[..].into())
                .is_ok()
                && lock(journal).written(run).is_ok()
        };
        attempt() || attempt()
    }

    /// After the power cut: what the journal calls synced is there.
    fn check_claims(home: &Path, sample: &Sample) {
        let (id, chunks) = (sample.content.id, sample.content.layout.chunk_count());
        let disk = Arc::new(FaultyDisk::sound());
        let opened = Journal::open_on(disk.clone(), &home.join("j"), id, chunks);
        let (_, recovered) = opened.unwrap();
        if recovered.synced.count() == 0 {
            return;
        }
        let part = ShareFiles::open_partial(
            disk,
            &sample.path_in(&home.join("downloads")),
            &sample.content,
        );
        match part {
            Ok(files) => {
                for chunk in recovered.synced.iter() {
                    assert!(files.verify(chunk).unwrap(), "chunk {chunk:?} is claimed");
                }
            }
            Err(StoreError::AlreadyRenamed { path }) => sample.assert_at(&path),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_chunk_written_while_a_sync_runs_is_claimed_only_by_the_next() {
        let sample = Arc::new(Sample::file("f", noise(1, 2 * CHUNK_BYTES)));
        let home = quick_folder();
        let disk = Arc::new(FaultyDisk::sound());
        let downloads = home.path().join("downloads");
        let made =
            ShareFiles::create_partial(disk.clone(), &sample.path_in(&downloads), &sample.content);
        let opened = Journal::open_on(disk.clone(), &home.path().join("j"), sample.content.id, 2);
        let share = Arc::new((made.unwrap(), Mutex::new(opened.unwrap().0)));
        let (files, journal) = &*share;
        let [first, second] = [0, 1].map(|chunk| sample.content.layout.chunk(chunk).unwrap());

        assert!(store(files, journal, &sample, first));
        let (theirs, same_sample) = (share.clone(), sample.clone());
        disk.during_next_sync(move || {
            assert!(store(&theirs.0, &theirs.1, &same_sample, second));
        });
        sync_share(files, journal).unwrap();
        assert_eq!(lock(journal).unsynced(), [Run { start: 1, count: 1 }]);
        disk.power_loss();
        check_claims(home.path(), &sample);

        assert!(store(files, journal, &sample, second));
        sync_share(files, journal).unwrap();
        assert!(lock(journal).synced_chunks().is_full());
        disk.power_loss();
        check_claims(home.path(), &sample);
    }

    #[test]
    fn a_failed_sync_loses_what_it_covered_for_good() {
        let sample = Sample::file("f", noise(1, 4 * CHUNK_BYTES));
        let mut found = 0;
        for n in 0..60 {
            let home = quick_folder();
            let disk = Arc::new(FaultyDisk::failing_at(n, Fault::Once(Errno::IO)));
            let downloads = home.path().join("downloads");
            let made = ShareFiles::create_partial(
                disk.clone(),
                &sample.path_in(&downloads),
                &sample.content,
            );
            let Ok(files) = made else { continue };
            let id = sample.content.id;
            let Ok((journal, _)) = Journal::open_on(disk, &home.path().join("j"), id, 4) else {
                continue;
            };
            let journal = Mutex::new(journal);
            for chunk in sample.chunks() {
                store(&files, &journal, &sample, chunk);
            }
            let all = Run { start: 0, count: 4 };
            if let Err(SyncError::Lost { chunks, .. }) = sync_share(&files, &journal) {
                assert_eq!(chunks, [all]);
                assert!(matches!(files.sync(), Err(StoreError::SyncFailed { .. })));
                assert!(matches!(files.finish(), Err(StoreError::SyncFailed { .. })));
                let (_, recovered) = Journal::open(&home.path().join("j"), id, 4).unwrap();
                assert_eq!((recovered.synced.count(), recovered.written.len()), (0, 0));
                found += 1;
            }
        }
        assert_eq!(found, 1, "exactly one call is the sync of the data");
    }
}
