//! Small files replaced whole: a reader, and the machine after a power cut, sees the old bytes or
//! the new ones, never a mixture.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::disk::{Disk, RealDisk};

/// Makes sure that files can be made in a folder, or the folder itself where it is missing, as far as
/// permissions tell.
///
/// # Errors
///
/// What the system would say.
pub fn check_folder(folder: &Path) -> io::Result<()> {
    let is_there = |path: &&Path| fs::symlink_metadata(path).is_ok();
    let nearest = folder.ancestors().find(is_there).unwrap_or(folder);
    if !fs::metadata(nearest)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(nearest, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// The same, and tries it: no permission of `/proc` forbids root anything, and yet no file can be made there. What is
/// made is empty and removed at once.
///
/// # Errors
///
/// What the system says, unless that is only that there is no room.
pub fn try_folder(folder: &Path) -> io::Result<()> {
    check_folder(folder)?;
    let is_there = |path: &&Path| path.is_dir();
    let nearest = folder.ancestors().find(is_there).unwrap_or(folder);
    let unique: u64 = rand::random();
    let tried = nearest.join(format!(".{unique:016x}.tmp"));
    match write_new(&tried, &[], 0o600) {
        Ok(()) => fs::remove_file(&tried),
        Err(error) if is_no_room(&error) => Ok(()),
        Err(error) => {
            let message = format!("no file can be made in {}: {error}", nearest.display());
            Err(io::Error::new(error.kind(), message))
        }
    }
}

fn is_no_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Writes a file that others may read, as far as the process's umask allows.
///
/// # Errors
///
/// What the system said; the file is then as it was, or already the new one when only the last
/// step, making its name durable, failed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with_mode(path, bytes, 0o666)
}

/// Writes a file that only its owner may read: keys, links with secrets.
///
/// # Errors
///
/// As [`write_atomically`].
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with_mode(path, bytes, 0o600)
}

/// As [`write_atomically`], but never in the place of anything, be it a dangling link.
///
/// # Errors
///
/// `AlreadyExists` when the name is taken, else as [`write_atomically`].
pub fn create_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    place_with_mode(path, bytes, 0o666, rename_noreplace)
}

/// As [`write_private`], but never in the place of anything.
///
/// # Errors
///
/// As [`create_atomically`].
pub fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    place_with_mode(path, bytes, 0o600, rename_noreplace)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    place_with_mode(path, bytes, mode, |from, to| fs::rename(from, to))
}

/// Renames within a folder, and never in the place of anything.
///
/// # Errors
///
/// `AlreadyExists` when the name is taken, else what the system said.
pub(crate) fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    let (Some(from), Some(name)) = (from.file_name(), to.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = RealDisk.open_folder(folder_of(to))?;
    RealDisk.rename_noreplace(&folder, Path::new(from), Path::new(name))
}

fn place_with_mode(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    place: impl Fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let (folder, temporary) = temporary_beside(path)?;
    let written = write_new(&temporary, bytes, mode).and_then(|()| place(&temporary, path));
    if written.is_err() {
        // What failed is reported; a temporary file left behind would be the lesser harm.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(folder)?.sync_all()
}

/// A name in the same folder that no other process or thread uses at this moment.
fn temporary_beside(path: &Path) -> io::Result<(&Path, PathBuf)> {
    let folder = folder_of(path);
    if path.file_name().is_none() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let unique: u64 = rand::random();
    Ok((
        folder,
        folder.join(OsString::from(format!(".{unique:016x}.tmp"))),
    ))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, b"old and long").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        write_atomically(&path, b"new").unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write_atomically(&folder.path().join("missing/file"), b"new").unwrap_err();
    }

    #[test]
    fn nothing_is_replaced_by_a_file_that_is_to_be_new() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name| folder.path().join(name);
        create_atomically(&at("new"), b"new").unwrap();
        assert_eq!(fs::read(at("new")).unwrap(), b"new");
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        for taken in ["new", "link", "folder"] {
            let error = create_private(&at(taken), b"other").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{taken}");
        }
        assert_eq!(fs::read(at("new")).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_private_file_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_private(&path, b"secret").unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
