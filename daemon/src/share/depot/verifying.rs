//! Reads again all that is stored of a share, and makes the rest of it something that can be fetched.
//!
//! What is being fetched is looked through as it is ([`Depot::verify_fetched`]). Of a complete share nothing
//! is touched unless something is wrong; then what somebody has edited of it is copied beside it, and it becomes a
//! download once more, in which only what is wrong or missing is still to come ([`Depot::verify`]).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use warren_proto::content::path::printable;
use warren_proto::content::{ChunkIndex, Content};

use super::{Depot, Opened, with_manifest};
use crate::control::model::{ApiError, exit};
use crate::control::wish::{PATTERNS, Wish, exactly, path_of};
use crate::control::words::register_anew;
use crate::share::writer::{WriteError, Writer};
use crate::store::db::{ShareRecord, ShareState};
use crate::store::edited::keep_edited;
use crate::store::error::StoreError;
use crate::store::files::{Identities, ShareFiles};

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

    /// Looks through what is there of a share that is not being fetched. What somebody has edited
    /// of a download is copied before, and `kept` told where that is; without it, it is lost.
    ///
    /// # Errors
    ///
    /// When the disk refuses or has no room for what was edited, and for what was shared where it lies and is no
    /// longer that.
    pub(crate) fn verify(
        &self,
        record: &ShareRecord,
        verified_bytes: &AtomicU64,
        kept: Option<&OnceLock<PathBuf>>,
    ) -> Result<Opened, ApiError> {
        // What was only touched may have been noted there alone.
        let (noted, content) = self.noted(&record.swarm())?;
        let known = record.settled.clone().or(noted.identities);
        // Nothing that was noted of its files is believed.
        let record = ShareRecord {
            identities: None,
            ..record.clone()
        };
        let (disk, path) = (self.disk.clone(), &record.path);
        let keep = || {
            let Some(kept) = kept else { return Ok(()) };
            if let Some(edited) = self.keep_edited(&record, &content, known.as_ref())? {
                let _ = kept.set(edited);
            }
            Ok::<_, ApiError>(())
        };
        if record.settled.is_some() {
            keep()?;
            let verified = self.verify_settled(record, &content, verified_bytes);
            return verified.map_err(|error| naming_kept(error, kept));
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
                let vacant = ShareFiles::check_part_vacant(disk.as_ref(), path, &content);
                vacant.map_err(in_the_way)?;
                keep()?;
                let repaired = self.repair(record, &content, verified_bytes);
                repaired.map_err(|error| naming_kept(error, kept))
            }
        }
    }

    /// Copies what somebody has edited of a download, and tells where that is; `known` is what its files were.
    pub(super) fn keep_edited(
        &self,
        record: &ShareRecord,
        content: &Arc<Content>,
        known: Option<&Identities>,
    ) -> Result<Option<PathBuf>, ApiError> {
        let edited = keep_edited(&self.disk, &record.path, content, known).map_err(unkept)?;
        if let Some(edited) = &edited {
            tracing::info!(kept = %edited.display(), "what was edited here is kept");
        }
        Ok(edited)
    }

    /// Makes a complete share a download again, of which everything is to be read first. Where it cannot get the
    /// name of one, it is noted as it was.
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
        let swarm = record.swarm();
        let before = self.record_of(&swarm)?;
        self.amend(&with_manifest(&record, content))?;
        if let Err(error) = self.unname(&record, content) {
            // The error is what matters.
            let _ = before.map_or(Ok(()), |before| self.amend(&before));
            let _ = self.forget_journal(&swarm);
            return Err(error);
        }
        self.open_partial(&record, content, verified_bytes)
    }

    /// Gives a complete share the name of a download, of which every chunk is to be read.
    fn unname(&self, record: &ShareRecord, content: &Arc<Content>) -> Result<(), ApiError> {
        self.claim_all(&record.swarm(), content)?;
        let unnamed = ShareFiles::take_back_name(self.disk.as_ref(), &record.path, content);
        unnamed.map_err(in_the_way)
    }

    /// The same of a folder of which only some files were wanted. Until it is known which of them are right, it is
    /// noted that they are to be looked at, so that the next start goes on with that; and that what is wrong was
    /// there before, so that who removes the share keeps it.
    pub(super) fn verify_settled(
        &self,
        record: ShareRecord,
        content: &Arc<Content>,
        verified_bytes: &AtomicU64,
    ) -> Result<Opened, ApiError> {
        let (swarm, path, has_aside) = (record.swarm(), record.path.clone(), record.placing.aside);
        let record = self.settle_again(record, content).inspect_err(|_| {
            // Who has removed it meanwhile has looked too early.
            if matches!(self.record_of(&swarm), Ok(None)) {
                let _ = self.give_files_back(&path, content, has_aside);
            }
        })?;
        self.open_divided(&record, content, verified_bytes)
    }

    /// Puts those files that are wrong among what is to be fetched; what is noted of the share then.
    fn settle_again(
        &self,
        record: ShareRecord,
        content: &Arc<Content>,
    ) -> Result<ShareRecord, ApiError> {
        let (disk, path) = (self.disk.clone(), record.path.clone());
        let was_found = record.placing.found;
        let claimed = record.settled.as_ref().map(Identities::as_claims);
        let claimed = claimed.unwrap_or_else(Identities::none);
        let mut record = ShareRecord {
            settled: Some(claimed.clone()),
            state: ShareState::Downloading,
            ..record
        };
        record.placing.found = true;
        self.amend(&with_manifest(&record, content))?;
        let settled = ShareFiles::check_settled_files(disk, &path, content, &claimed);
        let settled = settled.map_err(|error| ApiError::from(&error))?;
        let is_wrong = |file: u32| claimed.has(file) && !settled.has(file);
        record.placing.found = was_found || (0..content.file_count()).any(is_wrong);
        let record = ShareRecord {
            wish: still_wanted(&record.wish, content, (&claimed, &settled)),
            settled: Some(settled),
            ..record
        };
        self.amend(&with_manifest(&record, content))?;
        Ok(record)
    }
}

/// What has its final name stays wanted, also when it is no longer what it was: these files `before`, of which those
/// `after` are left, and what is wished for. A wish that leaves something out says so of all files.
fn still_wanted(
    wish: &Wish,
    content: &Content,
    (before, after): (&Identities, &Identities),
) -> Wish {
    let mut wish = wish.clone();
    let picked = match wish.pick(content, |_| false) {
        Ok(picked) if !wish.files.only.is_empty() && wish.files.except.is_empty() => picked,
        _ => return wish,
    };
    let is_lost = |file: &u32| before.has(*file) && !after.has(*file);
    let files = (0..content.file_count()).filter(is_lost);
    let unnamed = files.filter(|file| picked.chosen.get(*file as usize) != Some(&true));
    let patterns = unnamed.map(|file| exactly(path_of(content, file)));
    let room = PATTERNS.saturating_sub(wish.files.only.len());
    wish.files.only.extend(patterns.take(room));
    wish
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

/// Something that is not the share's has the name that it would have while it is repaired.
fn in_the_way(error: StoreError) -> ApiError {
    let StoreError::TargetExists { path } = &error else {
        return ApiError::from(&error);
    };
    let message = format!(
        "{} is in the way: it is not of the share, which would have that name while it is repaired",
        path.display()
    );
    let hint = "Move it elsewhere; then verify again: client verify NAME IDX";
    ApiError::new("target_exists", exit::REFUSED, message, hint)
}

/// The same error of a repair that did not begin, which says where the copy is that was made before.
fn naming_kept(error: ApiError, kept: Option<&OnceLock<PathBuf>>) -> ApiError {
    match kept.and_then(OnceLock::get) {
        Some(kept) => ApiError {
            hint: format!(
                "What was edited here is kept in {}. {}",
                printable(&kept.display().to_string()),
                error.hint
            ),
            ..error
        },
        None => error,
    }
}

/// What was shared where it lies is no longer that.
pub(crate) fn others_now(path: &Path) -> ApiError {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::io::Errno;

    use super::*;
    use crate::control::wish::Files;
    use crate::share::offer::Offer;
    use crate::store::db::ShareDb;
    use crate::store::faulty::{Fault, FaultyDisk};
    use crate::store::samples::{Sample, noise, quick_folder};
    use crate::store::taken::Placing;

    /// Files of [`Sample::mixed`].
    const WANTED: [&str; 2] = ["a-b", "z"];

    /// Wherever the daemon ends while what is wrong of a part is put among what is fetched.
    #[test]
    fn a_part_that_was_being_verified_is_verified_by_the_next_start() {
        let ended = (0..).find(|call| !is_cut_at(*call));
        assert!(ended.is_some_and(|calls| calls > 3), "{ended:?}");
    }

    /// False when it is over before that call of the disk.
    fn is_cut_at(call: u64) -> bool {
        let (folder, sample) = (quick_folder(), Sample::mixed());
        let content = &sample.content;
        let (depot, record) = settled(folder.path(), &sample);
        let [edited, left] = WANTED.map(|name| record.path.join(name));
        fs::write(&edited, "edited").unwrap();
        let disk = Arc::new(FaultyDisk::failing_at(call, Fault::From(Errno::IO)));
        let claimed = record.settled.as_ref().unwrap().as_claims();
        // The daemon ends before it notes what came of it.
        let path = &record.path;
        let _ = ShareFiles::check_settled_files(disk.clone(), path, content, &claimed);
        let record = ShareRecord {
            settled: Some(claimed),
            ..record
        };
        let opened = depot.reopen(&record, content, &AtomicU64::new(0));
        let Opened::Partial {
            files,
            have,
            picked,
            ..
        } = opened.unwrap()
        else {
            panic!("something of it is wrong");
        };
        assert_eq!(picked.files, 2, "call {call}");
        assert!(!edited.exists() && left.exists(), "call {call}");
        let right = |chunk: &ChunkIndex| files.is_settled(*chunk);
        let chunks: Vec<ChunkIndex> = sample.chunks().filter(right).collect();
        assert!(!chunks.is_empty() && chunks.iter().all(|it| have.contains(*it)));
        for chunk in sample.chunks().filter(|it| !have.contains(*it)) {
            files
                .write_chunk(chunk, &sample.chunk(chunk)[..].into())
                .unwrap();
        }
        files.settle(&picked.chosen).unwrap();
        let right = WANTED.map(|name| fs::read(record.path.join(name)).unwrap());
        let roots = right.map(|bytes| *blake3::hash(&bytes).as_bytes());
        let files = 0..content.file_count();
        let wanted = files.filter(|file| picked.chosen[*file as usize]);
        let expected: Vec<_> = wanted.filter_map(|it| content.file_root(it)).collect();
        assert_eq!(roots.to_vec(), expected, "call {call}");
        disk.fault_was_met()
    }

    #[test]
    fn what_a_former_process_was_about_to_look_at_is_kept_before_it_is_repaired() {
        let (folder, sample) = (quick_folder(), Sample::mixed());
        let (depot, record) = settled(folder.path(), &sample);
        fs::write(record.path.join("a-b"), "edited").unwrap();
        let claimed = record.settled.as_ref().map(Identities::as_claims);
        let record = ShareRecord {
            settled: claimed,
            ..record
        };
        let opened = depot.reopen(&record, &sample.content, &AtomicU64::new(0));
        assert!(matches!(opened, Ok(Opened::Partial { .. })));
        let kept = folder.path().join("photos.kept-1");
        assert_eq!(fs::read(kept.join("a-b")).unwrap(), b"edited");
        assert_eq!(
            fs::read_dir(&kept).unwrap().count(),
            1,
            "the other is right"
        );
    }

    #[test]
    fn what_is_wrong_of_a_part_is_noted_as_found_until_it_is_right_again() {
        let (folder, sample) = (quick_folder(), Sample::mixed());
        let (depot, record) = settled(folder.path(), &sample);
        let (file, swarm) = (record.path.join("z"), record.swarm());
        let mut wrong = fs::read(&file).unwrap();
        wrong[0] ^= 1;
        fs::write(&file, &wrong).unwrap();
        let noted = || depot.records().unwrap()[0].placing;
        for is_removed in [true, false] {
            let opened = depot.verify(&record, &AtomicU64::new(0), None).unwrap();
            let Opened::Partial {
                files,
                journal,
                have,
                picked,
                found,
            } = opened
            else {
                panic!("something of it is wrong");
            };
            assert!(found && noted().found && !file.exists());
            if is_removed {
                assert!(depot.keep_found(&swarm).unwrap());
                assert_eq!(fs::read(&file).unwrap(), wrong);
                let names = fs::read_dir(folder.path()).unwrap();
                let mut names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
                assert!(!names.any(|it| it.ends_with(".part") || it.ends_with(".aside")));
                continue;
            }
            let writer = Writer::new(Arc::new(Offer::new(swarm, files, have)), *journal);
            for chunk in sample.chunks() {
                let bytes = sample.chunk(chunk);
                writer.store(chunk, &bytes[..].into()).unwrap();
            }
            let record = depot.records().unwrap().remove(0);
            let done = depot.finish(&writer, &record, &picked).unwrap();
            assert_eq!((done.placing, noted()), Default::default());
            assert!(!depot.keep_found(&swarm).unwrap());
        }
    }

    #[test]
    fn what_is_in_the_way_of_a_repair_stops_it_before_anything_is_noted_or_copied() {
        let (folder, sample) = (quick_folder(), Sample::file("film", noise(1, 100_000)));
        let (depot, record) = whole(folder.path(), &sample);
        fs::write(&record.path, "edited").unwrap();
        let theirs = folder.path().join("film.part");
        fs::write(&theirs, "of somebody").unwrap();
        let verify = |kept: &OnceLock<PathBuf>| {
            let verified_bytes = AtomicU64::new(0);
            depot.verify(&record, &verified_bytes, Some(kept))
        };
        for _ in 0..2 {
            let kept = OnceLock::new();
            let error = verify(&kept).unwrap_err();
            assert_eq!(error.code, "target_exists");
            assert!(error.message.contains("film.part"), "{error:?}");
            assert_eq!(kept.get(), None);
            let noted = depot.records().unwrap().remove(0);
            assert_eq!(noted.state, ShareState::Complete);
            assert_eq!(noted.placing, Placing::default());
        }
        assert!(!folder.path().join("film.kept-1").exists());
        assert_eq!(fs::read(&theirs).unwrap(), b"of somebody");
        assert_eq!(fs::read(&record.path).unwrap(), b"edited");
        fs::remove_file(&theirs).unwrap();
        let opened = verify(&OnceLock::new());
        assert!(matches!(opened, Ok(Opened::Partial { found: true, .. })));
    }

    #[test]
    fn wherever_the_disk_fails_what_is_noted_as_a_download_has_the_name_of_one() {
        let mut unnamed = 0;
        for call in 0.. {
            let (folder, sample) = (quick_folder(), Sample::file("film", noise(1, 100_000)));
            let (mut depot, record) = whole(folder.path(), &sample);
            fs::write(&record.path, "edited").unwrap();
            let disk = Arc::new(FaultyDisk::failing_at(call, Fault::Once(Errno::IO)));
            depot.disk = disk.clone();
            let kept = OnceLock::new();
            let verified = depot.verify(&record, &AtomicU64::new(0), Some(&kept));
            let noted = depot.records().unwrap().remove(0);
            let is_download = noted.state == ShareState::Downloading;
            assert_eq!(is_download, !record.path.exists(), "call {call}");
            assert_eq!(noted.placing.found, is_download, "call {call}");
            if let (Err(error), Some(kept)) = (&verified, kept.get()) {
                assert!(error.hint.contains(kept.to_str().unwrap()), "{error:?}");
                unnamed += u32::from(!is_download);
            }
            if !disk.fault_was_met() {
                break;
            }
        }
        assert!(
            unnamed > 0,
            "it fails also after the copy and before the rename"
        );
    }

    /// A share that is complete.
    fn whole(folder: &Path, sample: &Sample) -> (Depot, ShareRecord) {
        let db = ShareDb::open(&folder.join("state.db")).unwrap();
        let depot = Depot::new(db, folder.to_owned());
        let path = sample.path_in(folder);
        sample.lay_out(&path);
        let opened = ShareFiles::open_as_it_is(depot.disk.clone(), &path, &sample.content);
        let record = ShareRecord {
            state: ShareState::Complete,
            identities: Some(opened.unwrap().unwrap().1),
            ..sample.record(sample.path_in(folder))
        };
        depot
            .remember(&with_manifest(&record, &sample.content))
            .unwrap();
        (depot, record)
    }

    /// A share of which two files were wanted and are there.
    fn settled(folder: &Path, sample: &Sample) -> (Depot, ShareRecord) {
        let content = &sample.content;
        let db = ShareDb::open(&folder.join("state.db")).unwrap();
        let depot = Depot::new(db, folder.to_owned());
        let record = ShareRecord {
            wish: Wish {
                files: Files {
                    only: WANTED.map(exactly).to_vec(),
                    except: Vec::new(),
                },
                ..Wish::default()
            },
            ..sample.record(sample.path_in(folder))
        };
        let created = depot.create(&record, content, &AtomicU64::new(0));
        let Opened::Partial {
            files,
            mut journal,
            picked,
            ..
        } = created.unwrap()
        else {
            panic!("it is not there yet");
        };
        for chunk in sample.chunks() {
            let mut extents = content.layout.extents(chunk);
            if extents.any(|at| picked.chosen[at.file as usize]) {
                let bytes = sample.chunk(chunk);
                files.write_chunk(chunk, &bytes[..].into()).unwrap();
                let (start, count) = (chunk.value(), 1);
                journal
                    .written(warren_proto::content::Run { start, count })
                    .unwrap();
            }
        }
        let settled = Some(files.settle(&picked.chosen).unwrap());
        (depot, ShareRecord { settled, ..record })
    }
}
