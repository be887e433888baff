//! The few file operations the store is made of, behind one trait.
//!
//! [`RealDisk`] does them; a test's disk can fail any one of them, so every error path of the
//! store can be walked. Whatever lies inside a share is opened beneath a [`Folder`] handle and
//! never through a symbolic link, whoever planted it: names in a listing come from strangers.
//!
//! Not here: which operations happen in which order (`store::files`, `store::journal`).

use std::fmt::Debug;
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path};

use rustix::buffer::spare_capacity;
use rustix::fs::{self, AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// What a tmpfs calls itself (`linux/magic.h`).
const TMPFS_MAGIC: fs::FsWord = 0x0102_1994;

/// How often `openat2` is asked again when a rename elsewhere made the kernel unsure (EAGAIN).
const OPEN_TRIES: usize = 8;

/// Bytes copied at once where the system does not do it.
const COPY_BYTES: usize = 256 * 1024;

/// An open folder: everything of a share is reached from one.
#[derive(Debug)]
pub struct Folder(OwnedFd);

impl Folder {
    /// Another handle of the same folder.
    pub(super) fn try_clone(&self) -> io::Result<Folder> {
        self.0.try_clone().map(Folder)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A new file, to read and write; an existing one is an error.
    Create,
}

/// What tells whether a file is still the one that was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change of its bytes, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of the last change of its inode, in nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Number of its inode.
    pub inode: u64,
}

/// File operations of the store. Paths are relative to the folder unless said otherwise; reads and
/// writes may be short, as the system's own are.
pub trait Disk: Send + Sync + Debug {
    /// Opens a folder by a path the person chose, following symbolic links.
    fn open_folder(&self, path: &Path) -> io::Result<Folder>;
    /// Opens a folder beneath another one.
    fn open_folder_beneath(&self, folder: &Folder, path: &Path) -> io::Result<Folder>;
    /// Opens a regular file beneath a folder; anything else is an error.
    fn open(&self, folder: &Folder, path: &Path, how: Open) -> io::Result<File>;
    /// Whether there is anything at this path, also a dangling symbolic link.
    fn exists(&self, folder: &Folder, path: &Path) -> io::Result<bool>;
    /// Makes one folder.
    fn mkdir(&self, folder: &Folder, path: &Path) -> io::Result<()>;
    /// Removes a file.
    fn unlink(&self, folder: &Folder, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn rmdir(&self, folder: &Folder, path: &Path) -> io::Result<()>;
    /// Renames one entry of the folder to a name nobody has, else fails with EEXIST.
    fn rename_noreplace(&self, folder: &Folder, from: &Path, to: &Path) -> io::Result<()>;
    /// Moves what is at `path` beneath one folder to the same path beneath another one, where nobody may
    /// have that name (EEXIST). Both are on one file system.
    fn move_noreplace(&self, from: &Folder, to: &Folder, path: &Path) -> io::Result<()>;
    /// Renames one entry of the folder over another one.
    fn rename(&self, folder: &Folder, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives each of two entries of the folder the name of the other.
    fn exchange(&self, folder: &Folder, one: &Path, other: &Path) -> io::Result<()>;
    /// Reads at an offset.
    fn pread(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reads at an offset and appends to a buffer, as much at most as its capacity has room for.
    fn pread_append(&self, file: &File, buffer: &mut Vec<u8>, offset: u64) -> io::Result<usize>;
    /// Writes at an offset.
    fn pwrite(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Copies from one file to another at the same offset, without the bytes passing through us where the system
    /// can do that; 0 at the end of the file.
    fn copy_range(&self, from: &File, to: &File, range: (u64, u64)) -> io::Result<u64>;
    /// Gives the file this length and reserves its blocks where the file system can, and is no memory.
    fn allocate(&self, file: &File, len: u64) -> io::Result<()>;
    /// Cuts the file.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()>;
    /// Brings the bytes of the file to the medium.
    fn fdatasync(&self, file: &File) -> io::Result<()>;
    /// Brings the bytes and the times of the file to the medium.
    fn fsync(&self, file: &File) -> io::Result<()>;
    /// Brings the names in the folder to the medium.
    fn fsync_folder(&self, folder: &Folder) -> io::Result<()>;
    /// Brings everything on the folder's file system to the medium.
    fn syncfs(&self, folder: &Folder) -> io::Result<()>;
    /// What the file is now.
    fn identity(&self, file: &File) -> io::Result<FileIdentity>;
    /// What is at this path now, not opened and no symbolic link followed; `.` is the folder itself.
    fn identity_at(&self, folder: &Folder, path: &Path) -> io::Result<FileIdentity>;
    /// Whether anyone may execute the file.
    fn is_executable(&self, file: &File) -> io::Result<bool>;
    /// Lets everyone who may read the file execute it.
    fn set_executable(&self, file: &File) -> io::Result<()>;
    /// Forgets cached pages, so that the next read asks the medium. A hint only.
    fn drop_cached(&self, file: &File) -> io::Result<()>;
    /// Bytes that this user may still write to the folder's file system.
    fn free_bytes(&self, folder: &Folder) -> io::Result<u64>;
}

/// Copies `len` bytes from `offset` on to the same place of another file; the end of the file before that is
/// `UnexpectedEof`.
pub(crate) fn copy_all(
    disk: &dyn Disk,
    from: &File,
    to: &File,
    (mut offset, len): (u64, u64),
) -> io::Result<()> {
    let end = offset + len;
    while offset < end {
        match disk.copy_range(from, to, (offset, end - offset)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(copied) => offset += copied,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads exactly `buffer`; the end of the file inside it is `UnexpectedEof`.
pub(crate) fn read_exact_at(
    disk: &dyn Disk,
    file: &File,
    mut buffer: &mut [u8],
    mut offset: u64,
) -> io::Result<()> {
    while !buffer.is_empty() {
        match disk.pread(file, buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Appends exactly `len` bytes to `buffer`, which has room for them; the end of the file before that is
/// `UnexpectedEof`.
pub(crate) fn append_exact_at(
    disk: &dyn Disk,
    file: &File,
    buffer: &mut Vec<u8>,
    (len, offset): (usize, u64),
) -> io::Result<()> {
    let begin = buffer.len();
    while buffer.len() < begin + len {
        let at = offset + (buffer.len() - begin) as u64;
        match disk.pread_append(file, buffer, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => (),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    // There may have been room for more than belongs here.
    buffer.truncate(begin + len);
    Ok(())
}

/// Writes all of `bytes`, however short the single writes are.
pub(crate) fn write_all_at(
    disk: &dyn Disk,
    file: &File,
    mut bytes: &[u8],
    mut offset: u64,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match disk.pwrite(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The machine's own file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open_folder(&self, path: &Path) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Folder(fs::open(path, flags, Mode::empty())?))
    }

    fn open_folder_beneath(&self, folder: &Folder, path: &Path) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ok(Folder(open_beneath(
            folder.0.as_fd(),
            path,
            flags,
            Mode::empty(),
        )?))
    }

    fn open(&self, folder: &Folder, path: &Path, how: Open) -> io::Result<File> {
        let (flags, mode) = match how {
            // A pipe would block the opener until somebody writes to it.
            Open::Read => (OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()),
            Open::Write => (OFlags::RDWR | OFlags::NONBLOCK, Mode::empty()),
            Open::Create => (
                OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
                Mode::from_raw_mode(0o666),
            ),
        };
        let file = File::from(open_beneath(folder.0.as_fd(), path, flags, mode)?);
        // What is made is one.
        if how != Open::Create && !file.metadata()?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(file)
    }

    fn exists(&self, folder: &Folder, path: &Path) -> io::Result<bool> {
        let (parent, name) = parent_of(folder, path)?;
        match fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn mkdir(&self, folder: &Folder, path: &Path) -> io::Result<()> {
        let (parent, name) = parent_of(folder, path)?;
        Ok(fs::mkdirat(parent, name, Mode::from_raw_mode(0o777))?)
    }

    fn unlink(&self, folder: &Folder, path: &Path) -> io::Result<()> {
        let (parent, name) = parent_of(folder, path)?;
        Ok(fs::unlinkat(parent, name, AtFlags::empty())?)
    }

    fn rmdir(&self, folder: &Folder, path: &Path) -> io::Result<()> {
        let (parent, name) = parent_of(folder, path)?;
        Ok(fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
    }

    fn rename_noreplace(&self, folder: &Folder, from: &Path, to: &Path) -> io::Result<()> {
        match fs::renameat_with(&folder.0, from, &folder.0, to, RenameFlags::NOREPLACE) {
            // Some network file systems know no flags; what remains is to look first.
            Err(Errno::INVAL | Errno::NOSYS) if self.exists(folder, to)? => {
                Err(Errno::EXIST.into())
            }
            Err(Errno::INVAL | Errno::NOSYS) => self.rename(folder, from, to),
            other => Ok(other?),
        }
    }

    fn move_noreplace(&self, from: &Folder, to: &Folder, path: &Path) -> io::Result<()> {
        let (from, name) = parent_of(from, path)?;
        let (target, _) = parent_of(to, path)?;
        match fs::renameat_with(&from, name, &target, name, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) if self.exists(to, path)? => Err(Errno::EXIST.into()),
            Err(Errno::INVAL | Errno::NOSYS) => Ok(fs::renameat(&from, name, &target, name)?),
            other => Ok(other?),
        }
    }

    fn rename(&self, folder: &Folder, from: &Path, to: &Path) -> io::Result<()> {
        Ok(fs::renameat(&folder.0, from, &folder.0, to)?)
    }

    fn exchange(&self, folder: &Folder, one: &Path, other: &Path) -> io::Result<()> {
        Ok(fs::renameat_with(
            &folder.0,
            one,
            &folder.0,
            other,
            RenameFlags::EXCHANGE,
        )?)
    }

    fn pread(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buffer, offset)
    }

    fn pread_append(&self, file: &File, buffer: &mut Vec<u8>, offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(file, spare_capacity(buffer), offset)?)
    }

    fn pwrite(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(bytes, offset)
    }

    fn copy_range(&self, from: &File, to: &File, (at, len): (u64, u64)) -> io::Result<u64> {
        let (mut from_at, mut to_at) = (at, at);
        let wanted = usize::try_from(len).unwrap_or(usize::MAX);
        match fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), wanted) {
            Ok(copied) => Ok(copied as u64),
            // From another file system, or on one that does not know the call.
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                let mut buffer = vec![0; COPY_BYTES.min(wanted)];
                let read = self.pread(from, &mut buffer, at)?;
                write_all_at(self, to, &buffer[..read], at)?;
                Ok(read as u64)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        // Memory is not laid out better for being reserved: that takes longer than to send the first bytes.
        if fs::fstatfs(file)?.f_type == TMPFS_MAGIC {
            return file.set_len(len);
        }
        match fs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(len),
            other => Ok(other?),
        }
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn fdatasync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn fsync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn fsync_folder(&self, folder: &Folder) -> io::Result<()> {
        Ok(fs::fsync(&folder.0)?)
    }

    fn syncfs(&self, folder: &Folder) -> io::Result<()> {
        Ok(fs::syncfs(&folder.0)?)
    }

    fn identity(&self, file: &File) -> io::Result<FileIdentity> {
        Ok(FileIdentity::of(&file.metadata()?))
    }

    fn identity_at(&self, folder: &Folder, path: &Path) -> io::Result<FileIdentity> {
        let is_deep = path.parent().is_some_and(|parent| parent != Path::new(""));
        let stat = if is_deep {
            let (parent, name) = parent_of(folder, path)?;
            fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?
        } else {
            fs::statat(&folder.0, path, AtFlags::SYMLINK_NOFOLLOW)?
        };
        Ok(FileIdentity::of_stat(&stat))
    }

    fn is_executable(&self, file: &File) -> io::Result<bool> {
        Ok(file.metadata()?.mode() & 0o111 != 0)
    }

    fn set_executable(&self, file: &File) -> io::Result<()> {
        let mode = file.metadata()?.mode();
        file.set_permissions(Permissions::from_mode(mode | (mode & 0o444) >> 2))
    }

    fn drop_cached(&self, file: &File) -> io::Result<()> {
        Ok(fs::fadvise(file, 0, None, fs::Advice::DontNeed)?)
    }

    fn free_bytes(&self, folder: &Folder) -> io::Result<u64> {
        let stat = fs::fstatvfs(&folder.0)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl FileIdentity {
    fn of(metadata: &Metadata) -> FileIdentity {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        FileIdentity {
            size: metadata.size(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }

    /// The same of what the system said without opening it.
    fn of_stat(stat: &fs::Stat) -> FileIdentity {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        FileIdentity {
            size: stat.st_size as u64,
            mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec as i64),
            inode: stat.st_ino,
        }
    }
}

/// The folder that holds the last component, opened beneath `folder`, and that component: the
/// calls on names would follow a symbolic link anywhere before it.
fn parent_of<'p>(folder: &Folder, path: &'p Path) -> io::Result<(OwnedFd, &'p Path)> {
    let refused = || io::Error::from(Errno::INVAL);
    let name = Path::new(path.file_name().ok_or_else(refused)?);
    match path.parent() {
        Some(parent) if parent != Path::new("") => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            Ok((
                open_beneath(folder.0.as_fd(), parent, flags, Mode::empty())?,
                name,
            ))
        }
        _ => Ok((folder.0.try_clone()?, name)),
    }
}

fn open_beneath(folder: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..OPEN_TRIES {
        match fs::openat2(&folder, path, flags, mode, resolve) {
            Err(Errno::AGAIN) => (),
            // Linux before 5.6, and sandboxes that do not know the call.
            Err(Errno::NOSYS) => return walk_beneath(folder, path, flags, mode),
            other => return Ok(other?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Opens one component after the other, none of them a symbolic link: `openat2` by hand.
fn walk_beneath(folder: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir => (),
            _ => return Err(Errno::XDEV.into()),
        }
    }
    let last = names.pop().ok_or(Errno::NOENT)?;
    let step = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut at = folder.as_fd().try_clone_to_owned()?;
    for name in names {
        at = fs::openat(&at, name, step, Mode::empty())?;
    }
    Ok(fs::openat(&at, last, flags, mode)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_is_opened_made_or_removed_through_a_symbolic_link() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("victim"), "precious").unwrap();
        let share = tempfile::tempdir().unwrap();
        symlink(outside.path(), share.path().join("dir")).unwrap();
        symlink(outside.path().join("victim"), share.path().join("file")).unwrap();
        let folder = RealDisk.open_folder(share.path()).unwrap();

        for path in ["dir/victim", "file", "../victim", "/etc/passwd"].map(Path::new) {
            for how in [Open::Read, Open::Write, Open::Create] {
                RealDisk.open(&folder, path, how).unwrap_err();
            }
        }
        RealDisk
            .open_folder_beneath(&folder, Path::new("dir"))
            .unwrap_err();
        RealDisk.mkdir(&folder, Path::new("dir/new")).unwrap_err();
        RealDisk
            .unlink(&folder, Path::new("dir/victim"))
            .unwrap_err();
        assert_eq!(
            std::fs::read(outside.path().join("victim")).unwrap(),
            b"precious"
        );
    }

    #[test]
    fn walking_by_hand_refuses_what_openat2_refuses() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("victim"), "precious").unwrap();
        let share = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(share.path().join("a/b")).unwrap();
        std::fs::write(share.path().join("a/b/c"), "ours").unwrap();
        symlink(outside.path(), share.path().join("dir")).unwrap();
        symlink(outside.path().join("victim"), share.path().join("file")).unwrap();
        let folder = RealDisk.open_folder(share.path()).unwrap();

        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let walk = |path| walk_beneath(&folder.0, Path::new(path), flags, Mode::empty());
        walk("a/b/c").unwrap();
        for path in [
            "dir/victim",
            "file",
            "../x",
            "/etc/passwd",
            "",
            "a/../a/b/c",
        ] {
            walk(path).unwrap_err();
        }
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_neither_blocks_nor_opens() {
        let share = tempfile::tempdir().unwrap();
        let folder = RealDisk.open_folder(share.path()).unwrap();
        let pipe = Path::new("pipe");
        fs::mknodat(
            &folder.0,
            pipe,
            fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        RealDisk.open(&folder, pipe, Open::Read).unwrap_err();
        RealDisk.open(&folder, pipe, Open::Write).unwrap_err();
    }

    #[test]
    fn a_rename_never_replaces() {
        let share = tempfile::tempdir().unwrap();
        std::fs::write(share.path().join("new"), "new").unwrap();
        std::fs::write(share.path().join("old"), "old").unwrap();
        let folder = RealDisk.open_folder(share.path()).unwrap();
        let [new, old, free] = ["new", "old", "free"].map(Path::new);

        let error = RealDisk.rename_noreplace(&folder, new, old).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(share.path().join("old")).unwrap(), b"old");
        RealDisk.rename_noreplace(&folder, new, free).unwrap();
        assert_eq!(std::fs::read(share.path().join("free")).unwrap(), b"new");
    }

    #[test]
    fn executable_follows_who_may_read() {
        let share = tempfile::tempdir().unwrap();
        let folder = RealDisk.open_folder(share.path()).unwrap();
        let file = RealDisk
            .open(&folder, Path::new("tool"), Open::Create)
            .unwrap();
        file.set_permissions(Permissions::from_mode(0o640)).unwrap();
        assert!(!RealDisk.is_executable(&file).unwrap());
        RealDisk.set_executable(&file).unwrap();
        assert!(RealDisk.is_executable(&file).unwrap());
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o750);
    }
}
