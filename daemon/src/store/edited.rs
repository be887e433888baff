//! What somebody has edited in a complete download, copied beside it before the download is repaired.
//!
//! A repair writes what was shared over what is wrong. A file that is as it was noted and wrong all the same was
//! harmed by the medium, and there is nothing in it to keep; one that was written to since may be somebody's work.
//! It is copied and not moved, so that of its bytes only those that are wrong are fetched; a file system that
//! can share blocks does. Until the copy is whole and on the medium it has a hidden name: what is called
//! `photos.kept-1` is all of it.
//!
//! Not here: the repair (`share::depot`), what is kept of a former version (`store::exchange`).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use warren_proto::content::Content;
use warren_proto::content::path::SharePath;
use warren_proto::limits;

use super::disk::{Disk, FileIdentity, Folder, Open, copy_all};
use super::division::ABSENT;
use super::error::StoreError;
use super::exchange::MAX_NUMBER;
use super::files::{Identities, ShareFiles};
use super::partial::{folder_of, stem};

/// Bytes of the longest end of such a name: `.kept-9999`.
const END_BYTES: usize = 10;

/// What the hidden name of a copy ends with until it is whole.
const UNFINISHED_END: &str = ".kept.part";

/// Copies what was edited in a complete download at `path` to `NAME.kept-1` beside it, or to the next number that
/// is free, and tells where that is. `known` is what its files were when they were complete; of which nothing is
/// known counts as edited unless it is what was shared. `None` when there is nothing to keep.
///
/// # Errors
///
/// [`StoreError::NoSpace`] when there is no room for it, and whatever the disk says; no copy is left then.
pub(crate) fn keep_edited(
    disk: &Arc<dyn Disk>,
    path: &Path,
    content: &Arc<Content>,
    known: Option<&Identities>,
) -> Result<Option<PathBuf>, StoreError> {
    let files = match ShareFiles::open_named(disk.clone(), path, content, Identities::none()) {
        Err(StoreError::Changed { .. }) => return Ok(None),
        files => files?,
    };
    let mut edited = Vec::new();
    for file in 0..content.file_count() {
        let known = known.map(|known| known.of(file).unwrap_or(ABSENT));
        if let Some(bytes) = files.edited_bytes(file, known)? {
            edited.push((file, bytes));
        }
    }
    // What a former process did not end with.
    let unfinished = unfinished_path(path, content);
    clear(&unfinished).map_err(StoreError::at(&unfinished))?;
    if edited.is_empty() {
        return Ok(None);
    }
    let folder = folder_of(path);
    let target = free_path(path)?;
    let parent = disk.open_folder(folder).map_err(StoreError::at(folder))?;
    let needed = edited.iter().map(|(_, bytes)| bytes).sum();
    let free = disk.free_bytes(&parent).map_err(StoreError::at(folder))?;
    if needed > free {
        let path = folder.to_owned();
        return Err(StoreError::NoSpace { path, needed, free });
    }
    let copying = Copying {
        disk: disk.as_ref(),
        files: &files,
        parent,
        target: &unfinished,
    };
    let copied = copying.copy(&edited);
    copied
        .and_then(|()| copying.name(&target))
        .inspect_err(|_| {
            // The error is what matters.
            let _ = clear(&unfinished);
        })?;
    Ok(Some(target))
}

/// Named by the content id too, so that nobody else's copy has that name.
fn unfinished_path(path: &Path, content: &Content) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let stem = stem(name, content, UNFINISHED_END.len() + 1);
    path.with_file_name(format!(".{stem}{UNFINISHED_END}"))
}

/// Removes a copy, if there is one.
fn clear(path: &Path) -> io::Result<()> {
    let cleared = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match cleared {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        cleared => cleared,
    }
}

/// The first name that is free.
fn free_path(path: &Path) -> Result<PathBuf, StoreError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let room = limits::COMPONENT_BYTES - END_BYTES;
    let name = &name[..name.floor_char_boundary(room)];
    let numbered = |number: u32| path.with_file_name(format!("{name}.kept-{number}"));
    let mut targets = (1..=MAX_NUMBER).map(numbered);
    let is_free = |target: &PathBuf| {
        let found = target.symlink_metadata();
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    targets.find(is_free).ok_or_else(|| {
        let path = numbered(MAX_NUMBER);
        StoreError::TargetExists { path }
    })
}

impl ShareFiles {
    /// How large a file is that is neither as it was noted nor what was shared; `None` of any other. `known` is
    /// what was noted of it, if anything was.
    fn edited_bytes(
        &self,
        file: u32,
        known: Option<FileIdentity>,
    ) -> Result<Option<u64>, StoreError> {
        if known == Some(ABSENT) {
            return Ok(None);
        }
        let now = match self.identity_now(file) {
            Err(StoreError::Changed { .. }) => return Ok(None),
            now => now?,
        };
        if now.size == 0 || known == Some(now) {
            return Ok(None);
        }
        let is_right = self.read_right(file, &AtomicU64::new(0))?.is_some();
        Ok((!is_right).then_some(now.size))
    }
}

/// What is copied, and where to.
struct Copying<'a> {
    disk: &'a dyn Disk,
    files: &'a ShareFiles,
    /// The folder of the share.
    parent: Folder,
    /// A file or a folder in it, as the share is one: what the copy is called until it is whole.
    target: &'a Path,
}

impl Copying<'_> {
    /// Copies these files, durably.
    fn copy(&self, edited: &[(u32, u64)]) -> Result<(), StoreError> {
        let name = Path::new(self.target.file_name().unwrap_or_default());
        let at = StoreError::at(self.target);
        if self.files.content().listing.is_none() {
            for (file, bytes) in edited {
                self.copy_file(*file, *bytes, (&self.parent, name))?;
            }
        } else {
            self.disk.mkdir(&self.parent, name).map_err(&at)?;
            let root = self.disk.open_folder_beneath(&self.parent, name);
            let root = root.map_err(&at)?;
            for (file, bytes) in edited {
                let Some(path) = self.files.content().file_path(*file) else {
                    continue;
                };
                self.make_folders(&root, path)?;
                self.copy_file(*file, *bytes, (&root, Path::new(path.as_str())))?;
            }
            self.disk.syncfs(&root).map_err(&at)?;
        }
        Ok(())
    }

    /// Gives the copy its name, durably. What somebody else has just put there is theirs.
    fn name(&self, target: &Path) -> Result<(), StoreError> {
        let [from, to] = [self.target, target].map(|path| path.file_name().unwrap_or_default());
        let named = self
            .disk
            .rename_noreplace(&self.parent, Path::new(from), Path::new(to));
        named.map_err(StoreError::named(target))?;
        let synced = self.disk.fsync_folder(&self.parent);
        synced.map_err(StoreError::at(target)).inspect_err(|_| {
            // Whoever tries again makes another one.
            let _ = clear(target);
        })
    }

    fn make_folders(&self, root: &Folder, path: &SharePath) -> Result<(), StoreError> {
        for folder in path.parents() {
            match self.disk.mkdir(root, Path::new(folder)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
                made => made.map_err(StoreError::at(self.target))?,
            }
        }
        Ok(())
    }

    fn copy_file(
        &self,
        file: u32,
        bytes: u64,
        (folder, path): (&Folder, &Path),
    ) -> Result<(), StoreError> {
        let from = self.files.open_anew(&self.files.state(), file)?;
        let copied = || -> io::Result<()> {
            let to = self.disk.open(folder, path, Open::Create)?;
            copy_all(self.disk, &from, &to, (0, bytes))?;
            if self.disk.is_executable(&from)? {
                self.disk.set_executable(&to)?;
            }
            // It is told apart from others by its time; without that it is the same.
            let _ = keep_time(&from, &to);
            self.disk.fsync(&to)
        };
        copied().map_err(StoreError::at(self.target))
    }
}

fn keep_time(from: &File, to: &File) -> io::Result<()> {
    to.set_modified(from.metadata()?.modified()?)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};
    use std::sync::OnceLock;

    use rustix::io::Errno;

    use super::*;
    use crate::store::disk::RealDisk;
    use crate::store::faulty::{Fault, FaultyDisk};
    use crate::store::samples::{Sample, noise};

    #[test]
    fn what_was_edited_is_kept_beside_and_nothing_else() {
        for sample in [Sample::mixed(), Sample::file("film.mkv", noise(1, 100_000))] {
            let (folder, path, known) = laid_out(&sample);
            let keep = |known| keep_edited(&real(), &path, &sample.content, known).unwrap();
            assert_eq!(keep(Some(&known)), None);
            assert_eq!(keep(None), None, "all of it is what was shared");
            let file = edited_file(&sample, &path);
            write_at_start(&file, b"mine");
            let edited = fs::read(&file).unwrap();
            let kept = keep(Some(&known)).unwrap();
            let name = format!("{}.kept-1", sample.content.name.as_str());
            assert_eq!(kept, folder.path().join(name));
            let copy = kept.join(file.strip_prefix(&path).unwrap());
            let copy = if sample.content.listing.is_some() {
                copy
            } else {
                kept
            };
            assert_eq!(fs::read(&copy).unwrap(), edited);
            let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
            assert_eq!(modified(&copy), modified(&file));
            assert_eq!(fs::read(&file).unwrap(), edited, "it stays where it is");
            // Nothing that was kept before is written over.
            let again = keep(Some(&known)).unwrap();
            assert!(again.to_str().unwrap().ends_with(".kept-2"));
        }
    }

    #[test]
    fn a_copy_has_its_name_once_it_is_whole_and_what_was_left_of_another_goes() {
        for sample in [Sample::mixed(), Sample::file("film.mkv", noise(1, 100_000))] {
            let (folder, path, known) = laid_out(&sample);
            write_at_start(&edited_file(&sample, &path), b"mine");
            let left = unfinished_path(&path, &sample.content);
            match sample.content.listing {
                Some(_) => {
                    fs::create_dir_all(left.join("a")).unwrap();
                    fs::write(left.join("a/left"), "cut off").unwrap();
                }
                None => fs::write(&left, "cut off").unwrap(),
            }
            let names = |folder: &Path| {
                let names = fs::read_dir(folder).unwrap();
                let mut names: Vec<_> = names.map(|it| it.unwrap().file_name()).collect();
                names.sort();
                names
            };
            let faulty = Arc::new(FaultyDisk::sound());
            let (at, seen) = (folder.path().to_owned(), Arc::new(OnceLock::new()));
            let during = seen.clone();
            faulty.during_next_sync(move || drop(during.set(names(&at))));
            let disk: Arc<dyn Disk> = faulty.clone();
            let kept = keep_edited(&disk, &path, &sample.content, Some(&known));
            let kept = kept.unwrap().unwrap();
            // While it is made, a kill leaves what nobody takes for it.
            let hidden = left.file_name().unwrap().to_owned();
            let own = path.file_name().unwrap().to_owned();
            assert_eq!(seen.get(), Some(&vec![hidden, own.clone()]));
            let kept_name = kept.file_name().unwrap().to_owned();
            assert_eq!(names(folder.path()), [own, kept_name]);
            assert!(!kept.join("a/left").exists());
        }
    }

    #[test]
    fn what_the_medium_has_harmed_and_what_is_gone_is_not_kept() {
        let sample = Sample::mixed();
        let (_folder, path, _) = laid_out(&sample);
        let file = edited_file(&sample, &path);
        write_at_start(&file, b"harm");
        // As if it had been so when it was noted.
        let known = identities(&sample, &path);
        fs::remove_file(path.join("run.sh")).unwrap();
        let kept = keep_edited(&real(), &path, &sample.content, Some(&known));
        assert_eq!(kept.unwrap(), None);
        fs::remove_dir_all(&path).unwrap();
        let kept = keep_edited(&real(), &path, &sample.content, Some(&known));
        assert_eq!(kept.unwrap(), None);
    }

    #[test]
    fn wherever_the_disk_fails_no_copy_is_left_and_the_file_is_as_it_was() {
        for sample in [Sample::mixed(), Sample::file("film.mkv", noise(1, 100_000))] {
            let (folder, path, known) = laid_out(&sample);
            let file = edited_file(&sample, &path);
            write_at_start(&file, b"mine");
            let edited = fs::read(&file).unwrap();
            let mut failed = 0;
            for call in 0.. {
                let disk = Arc::new(FaultyDisk::failing_at(call, Fault::From(Errno::IO)));
                let as_disk: Arc<dyn Disk> = disk.clone();
                let kept = keep_edited(&as_disk, &path, &sample.content, Some(&known));
                if !disk.fault_was_met() {
                    break;
                }
                assert!(kept.is_err(), "call {call}: {kept:?}");
                failed += 1;
                assert_eq!(
                    fs::read_dir(folder.path()).unwrap().count(),
                    1,
                    "call {call}"
                );
                assert_eq!(fs::read(&file).unwrap(), edited);
            }
            assert!(failed > 5, "{failed}");
        }
    }

    fn real() -> Arc<dyn Disk> {
        Arc::new(RealDisk)
    }

    fn laid_out(sample: &Sample) -> (tempfile::TempDir, PathBuf, Identities) {
        let folder = tempfile::tempdir().unwrap();
        let path = sample.path_in(folder.path());
        sample.lay_out(&path);
        let known = identities(sample, &path);
        (folder, path, known)
    }

    fn identities(sample: &Sample, path: &Path) -> Identities {
        let opened = ShareFiles::open_as_it_is(real(), path, &sample.content);
        opened.unwrap().unwrap().1
    }

    /// One of its files, in a folder where there is one.
    fn edited_file(sample: &Sample, path: &Path) -> PathBuf {
        match sample.content.listing {
            Some(_) => path.join("a/b/small"),
            None => path.to_owned(),
        }
    }

    fn write_at_start(path: &Path, bytes: &[u8]) {
        let mut file = File::options().write(true).open(path).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(bytes).unwrap();
    }
}
