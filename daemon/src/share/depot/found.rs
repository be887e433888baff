//! What is in the place of a download when it begins: looked at, and taken as its beginning where that is
//! wanted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use warren_proto::content::{Content, Run};
use warren_proto::id::SwarmId;

use super::verifying::is_right;
use super::{Depot, Opened, content_in};
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
            placing: Placing {
                if_exists,
                found,
                aside: false,
            },
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
        let record = ShareRecord {
            state: ShareState::Downloading,
            settled: is_part.then(|| Identities::claimed(&picked.chosen)),
            ..super::with_manifest(&record, content)
        };
        self.remember(&record)?;
        let begun = match is_part {
            true => self
                .claim_all(&record.swarm(), content)
                .and_then(|()| self.verify_settled(record.clone(), content, verified_bytes)),
            false => self.repair(record.clone(), content, verified_bytes),
        };
        if begun.is_err() {
            // As it was before; the error is what matters.
            let _ = match is_part {
                true => self.give_files_back(&record.path, content, false),
                false => self.give_back(&record.path, content),
            };
        }
        begun
    }

    /// What has taken the place of what was there, if the daemon ended between that and the note of it: under the
    /// `.part` name is then what it has replaced, which is no download.
    ///
    /// Nothing is replaced before every chunk is on the medium, so only then is what lies there read.
    pub(super) fn overwritten(
        &self,
        record: &ShareRecord,
        content: &Arc<Content>,
        verified_bytes: &AtomicU64,
    ) -> Result<Option<Opened>, ApiError> {
        if record.placing.if_exists != IfExists::Overwrite || !self.is_synced(record, content)? {
            return Ok(None);
        }
        let (disk, path) = (self.disk.clone(), &record.path);
        let opened = ShareFiles::open_as_it_is(disk, path, content);
        let Some((files, identities)) = opened.map_err(|error| ApiError::from(&error))? else {
            return Ok(None);
        };
        if !is_right(&files, content, verified_bytes)? {
            verified_bytes.store(0, Ordering::Relaxed);
            return Ok(None);
        }
        let cleared = ShareFiles::clear_replaced_at(self.disk.clone(), path, content);
        cleared.map_err(|error| ApiError::from(&error))?;
        self.remember_whole(record, content, identities)?;
        Ok(Some(Opened::Whole(Arc::new(files))))
    }

    fn is_synced(&self, record: &ShareRecord, content: &Content) -> Result<bool, ApiError> {
        let (_, recovered) = self.journal(&record.swarm(), content)?;
        Ok(recovered.synced.is_full())
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
    fn give_back(&self, path: &Path, content: &Content) -> Result<(), ApiError> {
        let given = ShareFiles::give_name_back(self.disk.as_ref(), path, content);
        given.map_err(|error| ApiError::from(&error))
    }

    /// The same of a folder of which only some files are wanted: what of it lies among what is fetched, and aside
    /// if files that were there before may be there.
    pub(super) fn give_files_back(
        &self,
        path: &Path,
        content: &Arc<Content>,
        has_aside: bool,
    ) -> Result<(), ApiError> {
        let given = ShareFiles::give_part_back(self.disk.clone(), path, content);
        let given = given.and_then(|()| match has_aside {
            true => ShareFiles::give_aside_back(self.disk.clone(), path, content),
            false => Ok(()),
        });
        given.map_err(|error| ApiError::from(&error))
    }

    /// Gives files that a download began with, and that were opened after it was removed, their name back.
    pub(crate) fn return_found(&self, files: &ShareFiles) -> Result<(), ApiError> {
        let (path, content) = (files.path(), files.content());
        match files.is_divided() {
            // What was noted of them is gone.
            true => self.give_files_back(&path, content, true),
            false => self.give_back(&path, content),
        }
    }

    /// Gives the files of a download that is removed their name back if they were there before it, or were
    /// complete once. False when they were not.
    pub(crate) fn keep_found(&self, swarm: &SwarmId) -> Result<bool, ApiError> {
        let record = self.record_of(swarm)?;
        let Some(record) = record.filter(|it| it.placing.found || it.placing.aside) else {
            return Ok(false);
        };
        let content = content_in(Some(&record))?;
        if record.settled.is_none() {
            return self.give_back(&record.path, &content).map(|()| true);
        }
        self.give_files_back(&record.path, &content, record.placing.aside)?;
        if !record.placing.aside {
            self.discard_aside(&record);
        }
        Ok(true)
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

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::io::Errno;

    use super::*;
    use crate::share::offer::Offer;
    use crate::share::writer::Writer;
    use crate::store::db::ShareDb;
    use crate::store::faulty::{Fault, FaultyDisk};
    use crate::store::samples::{Sample, noise, quick_folder};

    /// Wherever the daemon ends while a download takes the place of what was there.
    #[test]
    fn what_is_overwritten_is_neither_lost_nor_taken_for_the_download() {
        for sample in [Sample::mixed(), Sample::file("film", noise(1, 100_000))] {
            let ended = (0..).find(|call| !is_cut_at(*call, &sample));
            assert!(ended.is_some_and(|calls| calls > 5), "{ended:?}");
        }
    }

    /// False when the download is complete before that call of the disk.
    fn is_cut_at(call: u64, sample: &Sample) -> bool {
        let folder = quick_folder();
        let (path, content) = (sample.path_in(folder.path()), &sample.content);
        let is_tree = content.listing.is_some();
        let (old, own) = match is_tree {
            true => (path.join("z"), path.join("a/mine.txt")),
            false => (path.clone(), path.with_extension("txt")),
        };
        fs::create_dir_all(own.parent().unwrap()).unwrap();
        fs::write(&old, "old").unwrap();
        fs::write(&own, "precious").unwrap();
        let depot = Depot::new(
            ShareDb::open(&folder.path().join("state.db")).unwrap(),
            folder.path().to_owned(),
        );
        let record = download(&depot, path.clone(), sample);
        let disk = Arc::new(FaultyDisk::failing_at(call, Fault::From(Errno::IO)));
        if let Ok(files) = ShareFiles::open_partial(disk.clone(), &path, content) {
            // The daemon ends before it notes what came of it.
            let _ = files.finish_over();
        }
        match depot.reopen(&record, content, &AtomicU64::new(0)).unwrap() {
            Opened::Whole(_) => {
                sample.assert_at(&path);
                let mut names = fs::read_dir(folder.path()).unwrap();
                let is_part = |name: &str| name.ends_with(".part");
                assert!(!names.any(|it| is_part(it.unwrap().file_name().to_str().unwrap())));
                assert_eq!(depot.records().unwrap()[0].state, ShareState::Complete);
            }
            Opened::Partial { have, .. } => {
                assert!(
                    have.is_full(),
                    "call {call}: there is something to be fetched again"
                );
                assert_eq!(fs::read(&old).unwrap(), b"old", "call {call}");
            }
            Opened::Checked(_) | Opened::Differing(..) => panic!("nobody has asked for that"),
        }
        assert_eq!(fs::read(&own).unwrap(), b"precious", "call {call}");
        disk.fault_was_met()
    }

    /// All of it, on the medium, and not yet in its place.
    fn download(depot: &Depot, path: PathBuf, sample: &Sample) -> ShareRecord {
        let content = &sample.content;
        let record = ShareRecord {
            placing: Placing {
                if_exists: IfExists::Overwrite,
                ..Placing::default()
            },
            ..sample.record(path)
        };
        let created = depot.create(&record, content, &AtomicU64::new(0));
        let Opened::Partial {
            files,
            journal,
            have,
            ..
        } = created.unwrap()
        else {
            panic!("it is not there yet");
        };
        let offer = Arc::new(Offer::new(record.swarm(), files, have));
        let writer = Writer::new(offer, *journal);
        for chunk in sample.chunks() {
            let bytes = sample.chunk(chunk);
            writer.store(chunk, &bytes[..].into()).unwrap();
        }
        writer.sync().unwrap();
        record
    }
}
