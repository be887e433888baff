//! Something is in the place of a download already: what the person wants to become of it, and how that is
//! done.
//!
//! Nothing is lost before the person has said so: without a word the download is refused
//! ([`IfExists::Refuse`]). What is overwritten stays as it is until the new is complete and verified, and
//! then goes in one rename; of a folder, files that the share does not have stay.
//!
//! Not here: which chunks of what was found are right (`share::depot`).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, statat};
use serde::{Deserialize, Serialize};
use warren_proto::content::Content;
use warren_proto::limits;

use super::disk::{Disk, Folder, Open};
use super::error::StoreError;
use super::files::{Identities, Place, ShareFiles, State};
use super::partial::{exists, folder_of, part_name, place};

/// Bytes that a number in a new name may take, with its blank and its brackets.
const NUMBER_BYTES: usize = 16;

/// What is to be done when something has the name of a download already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum IfExists {
    /// Begin nothing, and say so.
    #[default]
    Refuse,
    /// Take another name: `film (2).mkv`.
    Rename,
    /// Replace it once the download is complete and verified.
    Overwrite,
    /// Take it as the beginning: fetch what is wrong or missing alone.
    Resume,
}

/// How a download has to do with what was in its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placing {
    /// What was wanted of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub if_exists: IfExists,
    /// What is being fetched began with files that were there: who removes the download keeps them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub found: bool,
    /// Of such files some may lie aside, since they are no longer wanted: they are kept too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub aside: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Taken {
    /// Nothing.
    Free,
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, a pipe or the like.
    Other,
}

/// What is at `path`, or under the `.part` name beside it.
///
/// # Errors
///
/// When the system does not say.
pub fn look(path: &Path, content: &Content) -> io::Result<Taken> {
    let name = path.file_name().unwrap_or_default();
    let part = folder_of(path).join(part_name(name, content));
    match (kind_of(path)?, kind_of(&part)?) {
        (Taken::Free, part) => Ok(part),
        (taken, _) => Ok(taken),
    }
}

fn kind_of(path: &Path) -> io::Result<Taken> {
    const NOWHERE: [io::ErrorKind; 2] = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => Ok(Taken::File),
        Ok(found) if found.is_dir() => Ok(Taken::Folder),
        Ok(_) => Ok(Taken::Other),
        Err(error) if NOWHERE.contains(&error.kind()) => Ok(Taken::Free),
        Err(error) => Err(error),
    }
}

/// Makes sure that what is at a path can become the share, or is nothing.
///
/// # Errors
///
/// [`StoreError::OfAnotherKind`] when it cannot.
pub(crate) fn check_kind(path: &Path, taken: Taken, content: &Content) -> Result<(), StoreError> {
    let kind = match content.listing {
        Some(_) => Taken::Folder,
        None => Taken::File,
    };
    let path = path.to_owned();
    match taken == Taken::Free || taken == kind {
        true => Ok(()),
        false => Err(StoreError::OfAnotherKind { path, taken }),
    }
}

/// `path` itself or, when that is taken, the first of `film (2).mkv`, `film (3).mkv` and so on that is not; so also
/// beside a `film (2).mkv`.
///
/// # Errors
///
/// When the system does not say what is there.
pub fn free_path(path: &Path, content: &Content) -> Result<PathBuf, StoreError> {
    let is_free = |path: &Path| {
        let taken = look(path, content).map_err(StoreError::at(path))?;
        Ok::<_, StoreError>(taken == Taken::Free)
    };
    if is_free(path)? {
        return Ok(path.to_owned());
    }
    let wanted = unnumbered(path, content);
    let wanted = wanted.as_deref().unwrap_or(path);
    let mut number = 2u64;
    loop {
        let numbered = path.with_file_name(numbered(wanted, number, content));
        if is_free(&numbered)? {
            return Ok(numbered);
        }
        number += 1;
    }
}

/// The path that was wanted for a share that [`free_path`] has given a numbered one; `None` of any other.
pub fn unnumbered(path: &Path, content: &Content) -> Option<PathBuf> {
    let wanted = path.with_file_name(content.name.as_str());
    let name = path.file_name()?.to_str()?;
    let (_, rest) = name.rsplit_once(" (")?;
    let (number, _) = rest.split_once(')')?;
    let is_it = numbered(&wanted, number.parse().ok()?, content) == name;
    is_it.then_some(wanted)
}

/// The name with a number before what a file is known by, or after the name of a folder.
fn numbered(path: &Path, number: u64, content: &Content) -> OsString {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let end = match content.listing {
        Some(_) => None,
        None => name.rfind('.').filter(|dot| *dot > 0),
    };
    let (stem, rest) = name.split_at(end.unwrap_or(name.len()));
    let room = limits::COMPONENT_BYTES.saturating_sub(rest.len() + NUMBER_BYTES);
    let stem = &stem[..stem.floor_char_boundary(room)];
    OsString::from(format!("{stem} ({number}){rest}"))
}

impl ShareFiles {
    /// As [`Self::create_partial`], whatever has the final name. [`Self::finish_over`] is to end it.
    ///
    /// # Errors
    ///
    /// As there; [`StoreError::OfAnotherKind`] when what has the name is a folder and the share is none, or the
    /// other way round.
    pub fn create_beside(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
    ) -> Result<ShareFiles, StoreError> {
        let taken = kind_of(path).map_err(StoreError::at(path))?;
        check_kind(path, taken, content)?;
        let place = place(disk.as_ref(), path, content)?;
        if exists(disk.as_ref(), &place, &place.part_name)? {
            let path = place.part_path();
            return Err(StoreError::TargetExists { path });
        }
        ShareFiles::create_at(disk, place, content)
    }

    /// As [`Self::finish`], in the place of whatever has the name. Of a folder what the share does not have
    /// stays.
    ///
    /// # Errors
    ///
    /// As there; [`StoreError::TargetExists`] when what has the name cannot be replaced by the share.
    pub fn finish_over(&self) -> Result<(PathBuf, Identities), StoreError> {
        let finished = self.finish_by(ShareFiles::rename_over)?;
        if self.content.listing.is_some()
            && exists(self.disk.as_ref(), &self.place, &self.place.part_name)?
        {
            self.clear_replaced();
        }
        Ok(finished)
    }

    /// Moves a complete share to another path in its folder, in the place of whatever is there, as
    /// [`Self::finish_over`] does.
    ///
    /// # Errors
    ///
    /// As there, and when the share is not at `from`.
    pub fn move_over(
        disk: Arc<dyn Disk>,
        (from, to): (&Path, &Path),
        content: &Arc<Content>,
    ) -> Result<(ShareFiles, Identities), StoreError> {
        let names = (to.file_name().unwrap_or_default(), from.file_name());
        // It goes like what is complete under the name of an unfinished one.
        let (name, part_name) = (names.0, names.1.unwrap_or_default());
        let mut place = Place::open(disk.as_ref(), folder_of(to), name, part_name)?;
        place.open_root(disk.as_ref(), content)?;
        let files = ShareFiles::new(disk, content.clone(), place, State::Partial);
        let (_, identities) = files.finish_over()?;
        Ok((files, identities))
    }

    fn rename_over(&self) -> Result<(), StoreError> {
        match self.rename() {
            Err(StoreError::TargetExists { .. }) => (),
            renamed => return renamed,
        }
        let (part, name) = (
            Path::new(&self.place.part_name),
            Path::new(&self.place.name),
        );
        let (disk, parent) = (self.disk.as_ref(), &self.place.parent);
        let replaced = match self.content.listing {
            // What is no folder stays what it is.
            Some(_) => disk
                .open_folder_beneath(parent, name)
                .and_then(|_| disk.exchange(parent, part, name)),
            None => disk.rename(parent, part, name),
        };
        replaced.map_err(|_| StoreError::TargetExists { path: self.path() })
    }

    /// Goes on where [`Self::finish_over`] was broken off after the share, which is at `path` whole and verified,
    /// had taken the place of a folder.
    ///
    /// # Errors
    ///
    /// When the disk does not say what is there. What cannot be cleared stays, with a warning.
    pub fn clear_replaced_at(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
    ) -> Result<(), StoreError> {
        let mut place = place(disk.as_ref(), path, content)?;
        if content.listing.is_none() || !exists(disk.as_ref(), &place, &place.part_name)? {
            return Ok(());
        }
        let root = disk.open_folder_beneath(&place.parent, Path::new(&place.name));
        place.root = Some(root.map_err(StoreError::at(path))?);
        ShareFiles::new(disk, content.clone(), place, State::Discarded).clear_replaced();
        Ok(())
    }

    /// Removes the folder that was replaced; what the share does not have moves over before.
    fn clear_replaced(&self) {
        let part = Path::new(&self.place.part_name);
        let (disk, parent) = (self.disk.as_ref(), &self.place.parent);
        let cleared = disk.open_folder_beneath(parent, part).and_then(|old| {
            let files = self
                .content
                .listing
                .iter()
                .flat_map(|listing| listing.files());
            let ours: BTreeSet<&str> = files.map(|file| file.path.as_str()).collect();
            self.move_others(&old, Path::new("."), &ours)?;
            disk.rmdir(parent, part)
        });
        if let Err(error) = cleared {
            let path = self.place.part_path();
            tracing::warn!(path = %path.display(), %error, "something of a folder that was replaced is left there");
        }
    }

    /// Moves what is in a folder beneath the share's own one; of these files of ours what is there stays, and the
    /// other goes.
    pub(super) fn move_others(
        &self,
        old: &Folder,
        folder: &Path,
        ours: &BTreeSet<&str>,
    ) -> io::Result<()> {
        let Some(new) = &self.place.root else {
            return Ok(());
        };
        let opened = self.disk.open_folder_beneath(old, folder)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&opened)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                let found = statat(&opened, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                entries.push((name, FileType::from_raw_mode(found.st_mode)));
            }
        }
        for (name, kind) in entries {
            let path = folder.strip_prefix(".").unwrap_or(folder).join(name);
            let is_ours = path.to_str().is_some_and(|path| ours.contains(path));
            match kind {
                FileType::Directory => {
                    match self.disk.mkdir(new, &path) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                            return Err(error);
                        }
                        _ => (),
                    }
                    self.move_others(old, &path, ours)?;
                    self.disk.rmdir(old, &path)?;
                }
                _ if is_ours => self.disk.unlink(old, &path)?,
                _ => self.disk.move_noreplace(old, new, &path)?,
            }
        }
        Ok(())
    }

    /// Makes sure that what is at `path`, or under its `.part` name, can become the share: it is of the same
    /// kind, and there is room for what is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] when nothing is there, [`StoreError::OfAnotherKind`] or
    /// [`StoreError::TargetExists`] for what cannot, [`StoreError::NoSpace`] when the rest does not fit.
    pub fn check_usable(disk: &dyn Disk, path: &Path, content: &Content) -> Result<(), StoreError> {
        let place = place(disk, path, content)?;
        let has = |name: &OsString| exists(disk, &place, name);
        let name = match (has(&place.name)?, has(&place.part_name)?) {
            (true, false) => &place.name,
            (false, true) => &place.part_name,
            (true, true) => {
                return Err(StoreError::TargetExists {
                    path: place.part_path(),
                });
            }
            (false, false) => {
                return Err(StoreError::Missing {
                    path: path.to_owned(),
                });
            }
        };
        let at = Path::new(name);
        let full = place.parent_path.join(name);
        check_kind(
            &full,
            kind_of(&full).map_err(StoreError::at(&full))?,
            content,
        )?;
        let unusable = |_| StoreError::TargetExists { path: full.clone() };
        let size_of = |folder: &Folder, path: &Path| {
            disk.open(folder, path, Open::Read)
                .and_then(|file| disk.identity(&file))
        };
        let there = match &content.listing {
            None => size_of(&place.parent, at)
                .map_err(unusable)?
                .size
                .min(content.size),
            Some(listing) => {
                let root = disk
                    .open_folder_beneath(&place.parent, at)
                    .map_err(unusable)?;
                let found =
                    |path, size: u64| size_of(&root, path).map_or(0, |it| it.size.min(size));
                listing
                    .files()
                    .map(|file| found(Path::new(file.path.as_str()), file.size))
                    .sum()
            }
        };
        let needed = content.size.saturating_sub(there);
        let free = disk
            .free_bytes(&place.parent)
            .map_err(StoreError::at(path))?;
        match free < needed {
            true => Err(StoreError::NoSpace {
                path: place.parent_path,
                needed,
                free,
            }),
            false => Ok(()),
        }
    }

    /// Gives what a download began with, or what was complete before it was repaired, its name back as it is
    /// now; nothing happens where it has that.
    ///
    /// # Errors
    ///
    /// [`StoreError::TargetExists`] when something else has the name.
    pub fn give_name_back(
        disk: &dyn Disk,
        path: &Path,
        content: &Content,
    ) -> Result<(), StoreError> {
        let place = place(disk, path, content)?;
        if !exists(disk, &place, &place.part_name)? {
            return Ok(());
        }
        let (part, name) = (Path::new(&place.part_name), Path::new(&place.name));
        let renamed = disk.rename_noreplace(&place.parent, part, name);
        renamed.map_err(StoreError::named(path))?;
        disk.fsync_folder(&place.parent)
            .map_err(StoreError::at(&place.parent_path))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::disk::RealDisk;
    use crate::store::samples::{Sample, noise};

    #[test]
    fn a_name_that_is_taken_gets_the_first_number_that_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, path) = (Sample::mixed(), folder.path().join("a.b"));
        assert_eq!(free_path(&path, &tree.content).unwrap(), path);
        fs::write(&path, "x").unwrap();
        fs::create_dir(folder.path().join("a.b (2).part")).unwrap();
        assert_eq!(
            free_path(&path, &tree.content).unwrap(),
            folder.path().join("a.b (3)")
        );
        let file = Sample::file("film.mkv", noise(1, 10));
        let film = |end: &str| folder.path().join(format!("film{end}.mkv"));
        fs::write(film(" (2)"), "x").unwrap();
        for taken in ["", " (2)"] {
            fs::write(film(taken), "x").unwrap();
            assert_eq!(
                free_path(&film(taken), &file.content).unwrap(),
                film(" (3)")
            );
        }
        assert_eq!(
            free_path(&path, &file.content).unwrap(),
            folder.path().join("a (2).b")
        );
        let hidden = folder.path().join(".b");
        fs::write(&hidden, "x").unwrap();
        assert_eq!(
            free_path(&hidden, &file.content).unwrap(),
            folder.path().join(".b (2)")
        );
        let long = folder.path().join("ä".repeat(127));
        fs::write(&long, "x").unwrap();
        let numbered = free_path(&long, &file.content).unwrap();
        assert!(numbered.to_str().unwrap().ends_with("ä (2)"));
        fs::write(numbered, "x").unwrap();
    }

    #[test]
    fn what_is_overwritten_stays_until_the_new_is_complete_and_so_does_what_is_not_of_the_share() {
        for sample in [Sample::mixed(), Sample::file("film.mkv", noise(1, 100_000))] {
            let folder = tempfile::tempdir().unwrap();
            let path = sample.path_in(folder.path());
            let is_tree = sample.content.listing.is_some();
            let old = match is_tree {
                true => path.join("a/mine.txt"),
                false => path.clone(),
            };
            fs::create_dir_all(old.parent().unwrap()).unwrap();
            fs::write(&old, "precious").unwrap();
            if is_tree {
                fs::write(path.join("z"), "replaced").unwrap();
            }
            let disk = || Arc::new(RealDisk);
            let error = ShareFiles::create_partial(disk(), &path, &sample.content).unwrap_err();
            assert!(matches!(error, StoreError::TargetExists { .. }));
            let files = ShareFiles::create_beside(disk(), &path, &sample.content).unwrap();
            for chunk in sample.chunks() {
                assert_eq!(fs::read(&old).unwrap(), b"precious");
                files
                    .write_chunk(chunk, &sample.chunk(chunk)[..].into())
                    .unwrap();
            }
            assert!(matches!(
                files.finish(),
                Err(StoreError::TargetExists { .. })
            ));
            let (finished, _) = files.finish_over().unwrap();
            assert_eq!(finished, path);
            sample.assert_at(&path);
            if is_tree {
                assert_eq!(fs::read(&old).unwrap(), b"precious");
            }
            assert_eq!(
                fs::read_dir(folder.path()).unwrap().count(),
                1,
                "nothing beside it"
            );
        }
    }

    #[test]
    fn what_was_kept_beside_something_takes_its_place_and_is_the_share_there() {
        for sample in [Sample::mixed(), Sample::file("film.mkv", noise(1, 10))] {
            let is_tree = sample.content.listing.is_some();
            let folder = tempfile::tempdir().unwrap();
            let wanted = folder.path().join(sample.content.name.as_str());
            let lay_other = || match is_tree {
                true => {
                    fs::create_dir_all(&wanted).unwrap();
                    fs::write(wanted.join("mine"), b"precious").unwrap();
                }
                false => fs::write(&wanted, b"something else").unwrap(),
            };
            lay_other();
            let beside = free_path(&wanted, &sample.content).unwrap();
            assert_eq!(unnumbered(&beside, &sample.content), Some(wanted.clone()));
            assert_eq!(unnumbered(&wanted, &sample.content), None);
            sample.lay_out(&beside);
            let disk: Arc<dyn Disk> = Arc::new(RealDisk);
            let paths = (&*beside, &*wanted);
            let moved = ShareFiles::move_over(disk.clone(), paths, &sample.content);
            let (files, identities) = moved.unwrap();
            assert_eq!(files.path(), wanted);
            assert!(files.differing().is_empty());
            let precious = wanted.join("mine");
            if is_tree {
                assert_eq!(fs::read(&precious).unwrap(), b"precious");
                fs::remove_file(precious).unwrap();
            }
            sample.assert_at(&wanted);
            assert!(!beside.exists());
            ShareFiles::open_in_place(disk, &wanted, &sample.content, &identities).unwrap();
        }
    }

    #[test]
    fn only_numbers_of_ours_are_taken_for_such() {
        let content = Sample::file("film.mkv", noise(1, 10)).content;
        for (name, is_numbered) in [
            ("film (2).mkv", true),
            ("film (10).mkv", true),
            ("film (x).mkv", false),
            ("film (2).avi", false),
            ("film.mkv (2)", false),
            ("other (2).mkv", false),
            ("film.mkv", false),
        ] {
            let found = unnumbered(&Path::new("/a").join(name), &content);
            let expected = is_numbered.then(|| PathBuf::from("/a/film.mkv"));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_file_does_not_become_a_folder_nor_the_other_way_round() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, file) = (Sample::mixed(), Sample::file("film.mkv", noise(1, 10)));
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::write(&one, "x").unwrap();
        fs::create_dir(&other).unwrap();
        for (path, sample) in [(&one, &tree), (&other, &file)] {
            let made = ShareFiles::create_beside(Arc::new(RealDisk), path, &sample.content);
            assert!(matches!(made, Err(StoreError::OfAnotherKind { .. })));
            let usable = ShareFiles::check_usable(&RealDisk, path, &sample.content);
            assert!(matches!(usable, Err(StoreError::OfAnotherKind { .. })));
        }
        ShareFiles::check_usable(&RealDisk, &one, &file.content).unwrap();
        let missing = ShareFiles::check_usable(&RealDisk, &folder.path().join("no"), &file.content);
        assert!(matches!(missing, Err(StoreError::Missing { .. })));
    }
}
