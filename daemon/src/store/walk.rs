//! Finds everything in a folder that is to be shared, without reading any of it.
//!
//! Folders are opened beneath the share's own and never through a symbolic link. The limits of a
//! listing are enforced while walking, so that a folder far too large costs no more than one that
//! just fits.
//!
//! Not here: sizes and hashes (`store::register`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, statat};
use warren_proto::content::{LayoutError, ListingError, SharePath};
use warren_proto::limits;

use super::disk::{Disk, Folder};
use super::register::{Hashing, RegisterError, Special};

/// Special files named in an error; the others are only counted.
const SPECIAL_NAMED: usize = 10;

/// What a folder holds, each list in bytewise path order.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Regular files.
    pub(super) files: Vec<SharePath>,
    /// Folders with nothing in them that is shared.
    pub(super) empty_folders: Vec<SharePath>,
    /// Symbolic links, fifos, sockets and devices, relative to the folder; when these are skipped,
    /// also what has a name that cannot be shared.
    pub(super) special: Vec<PathBuf>,
}

/// Walks the folder opened as `root`, which is called `root_path` in errors.
///
/// # Errors
///
/// As [`super::register::hash_share`] on a folder.
pub(super) fn walk(
    disk: &dyn Disk,
    root: &Folder,
    root_path: &Path,
    special: Special,
    hashing: &Hashing,
) -> Result<Found, RegisterError> {
    let mut walk = Walk {
        disk,
        root,
        root_path,
        special,
        hashing,
        found: Found::default(),
        to_do: Vec::new(),
        path_bytes: 0,
    };
    walk.read_folder(Path::new("."))?;
    while let Some(folder) = walk.to_do.pop() {
        walk.path_bytes -= folder.as_str().len();
        if !walk.read_folder(Path::new(folder.as_str()))? {
            walk.count(folder.as_str().len())?;
            walk.found.empty_folders.push(folder);
        }
    }
    walk.finish()
}

struct Walk<'a> {
    disk: &'a dyn Disk,
    root: &'a Folder,
    root_path: &'a Path,
    special: Special,
    hashing: &'a Hashing,
    found: Found,
    /// Folders not read yet: each will be, or hold, at least one entry.
    to_do: Vec<SharePath>,
    /// Length of all paths in `found` and `to_do`.
    path_bytes: usize,
}

impl Walk<'_> {
    /// Notes everything in one folder and tells whether any of it is shared.
    fn read_folder(&mut self, folder: &Path) -> Result<bool, RegisterError> {
        let path: PathBuf = self.root_path.join(folder).components().collect();
        let at = RegisterError::at(&path);
        let opened = self.disk.open_folder_beneath(self.root, folder);
        let opened = opened.map_err(&at)?;
        let mut entries = Dir::read_from(&opened).map_err(|errno| at(errno.into()))?;
        let mut any = false;
        while let Some(entry) = entries.read() {
            self.hashing.check()?;
            let entry = entry.map_err(|errno| at(errno.into()))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                let kind = type_of(&opened, &entry).map_err(|errno| at(errno.into()))?;
                // The root is not part of the paths in it.
                let relative = folder.strip_prefix(".").unwrap_or(folder).join(name);
                any |= self.note(relative, kind)?;
            }
        }
        Ok(any)
    }

    /// Notes one entry by its path relative to the root and tells whether it is shared.
    fn note(&mut self, relative: PathBuf, kind: FileType) -> Result<bool, RegisterError> {
        self.count(relative.as_os_str().len())?;
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            self.found.special.push(relative);
            return Ok(false);
        }
        let parsed = match self.parse(&relative) {
            Err(_) if self.special == Special::Skip => {
                self.found.special.push(relative);
                return Ok(false);
            }
            parsed => parsed?,
        };
        match kind {
            FileType::Directory => self.to_do.push(parsed),
            _ => self.found.files.push(parsed),
        }
        Ok(true)
    }

    fn parse(&self, relative: &Path) -> Result<SharePath, RegisterError> {
        let path = || self.root_path.join(relative);
        let text = relative.to_str();
        let text = text.ok_or_else(|| RegisterError::NotUtf8 { path: path() })?;
        SharePath::parse(text).map_err(|source| RegisterError::Name {
            path: path(),
            source,
        })
    }

    /// Counts one more path. What is not listed in the end takes memory all the same.
    fn count(&mut self, path_bytes: usize) -> Result<(), RegisterError> {
        let Found {
            files,
            empty_folders,
            special,
        } = &self.found;
        let paths = files.len() + empty_folders.len() + special.len() + self.to_do.len();
        if paths >= limits::LISTING_ENTRIES {
            let error = LayoutError::TooManyFiles;
            return Err(RegisterError::too_large(self.root_path, error));
        }
        self.path_bytes += path_bytes;
        if self.path_bytes > limits::LISTING_PATH_BYTES {
            let error = ListingError::TooLarge;
            return Err(RegisterError::too_large(self.root_path, error));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Found, RegisterError> {
        self.found.files.sort_unstable();
        self.found.empty_folders.sort_unstable();
        self.found.special.sort_unstable();
        let total = self.found.special.len();
        if total == 0 || self.special == Special::Skip {
            return Ok(self.found);
        }
        let mut paths = self.found.special;
        paths.truncate(SPECIAL_NAMED);
        Err(RegisterError::Special {
            path: self.root_path.to_owned(),
            paths,
            total,
        })
    }
}

/// What an entry is, itself and not what it points to.
fn type_of(folder: &Folder, entry: &DirEntry) -> rustix::io::Result<FileType> {
    match entry.file_type() {
        // Some file systems do not say.
        FileType::Unknown => {
            let stat = statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(FileType::from_raw_mode(stat.st_mode))
        }
        known => Ok(known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::store::disk::RealDisk;

    #[test]
    fn a_folder_with_too_much_in_it_is_left_at_the_limit() {
        let root = RealDisk.open_folder(Path::new("/")).unwrap();
        let hashing = Hashing::default();
        let walk = || Walk {
            disk: &RealDisk,
            root: &root,
            root_path: Path::new("/"),
            special: Special::Refuse,
            hashing: &hashing,
            found: Found::default(),
            to_do: Vec::new(),
            path_bytes: 0,
        };
        let full = |result| matches!(result, Err(RegisterError::TooLarge { .. }));

        let mut many = walk();
        many.found.special = vec![PathBuf::new(); limits::LISTING_ENTRIES - 1];
        assert!(many.count(1).is_ok());
        many.found.special.push(PathBuf::new());
        assert!(full(many.count(1)));

        let mut long = walk();
        assert!(long.count(limits::LISTING_PATH_BYTES).is_ok() && full(long.count(1)));
    }
}
