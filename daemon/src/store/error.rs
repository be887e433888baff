//! What can go wrong with the files of a share.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::taken::Taken;

/// Why the files of a share could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something is in the place of the share, or of its unfinished form.
    #[error("{} exists already", path.display())]
    TargetExists {
        /// What is there.
        path: PathBuf,
    },
    /// What is in the place of the share can never become it: a folder is no file.
    #[error("{} is in the way: {}", words_of(*taken), path.display())]
    OfAnotherKind {
        /// What is there.
        path: PathBuf,
        /// Of which kind that is.
        taken: Taken,
    },
    /// Two names of the tree are one to this file system, which ignores case or Unicode forms.
    #[error("{} is the same name as another one of the share on this file system", path.display())]
    Collides {
        /// The second of them.
        path: PathBuf,
    },
    /// The share does not fit; nothing was made.
    #[error("there is no space for {needed} bytes in {}: {free} are free", path.display())]
    NoSpace {
        /// The folder it should go to.
        path: PathBuf,
        /// Bytes it takes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The disk or the user's quota filled up while writing; the write can be repeated.
    #[error("no space left for {}", path.display())]
    DiskFull {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The unfinished share is not there.
    #[error("{} is missing", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The unfinished share is gone and something has its final name: most likely the rename was
    /// done and not recorded. Hash it (`store::register`) before believing so.
    #[error("{} has its final name already", path.display())]
    AlreadyRenamed {
        /// The final path.
        path: PathBuf,
    },
    /// A file is gone, or its size, times or inode are not those it was hashed with.
    #[error("{} is no longer what was shared", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// What was written since the last good sync may be lost, whatever reading says.
    #[error("{} could not be brought to the disk", path.display())]
    SyncFailed {
        /// The file, or the share when many were synced at once.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The share is finished or discarded: nothing more is written to it.
    #[error("{} is not being downloaded", path.display())]
    ReadOnly {
        /// The share.
        path: PathBuf,
    },
    /// The range does not consist of grains of the chunk, or the bytes are not as long as it.
    #[error("bytes {offset} to {} are no range of grains of chunk {chunk}", u64::from(*offset) + len)]
    BadRange {
        /// Position of the chunk.
        chunk: u32,
        /// First byte, counted within the chunk.
        offset: u32,
        /// Number of bytes.
        len: u64,
    },
    /// The file system refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder in question.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    /// Sorts what the system said about `path`, a name that was to be given and may be taken.
    pub(crate) fn named(path: &Path) -> impl Fn(io::Error) -> StoreError {
        move |source| match source.kind() {
            io::ErrorKind::AlreadyExists => StoreError::TargetExists {
                path: path.to_owned(),
            },
            _ => StoreError::at(path)(source),
        }
    }

    /// Sorts what the system said about `path`.
    pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> StoreError {
        move |source| {
            let path = path.to_owned();
            if is_full(&source) {
                StoreError::DiskFull { path, source }
            } else {
                StoreError::Io { path, source }
            }
        }
    }

    /// Whether the person can help by making room; the share then goes on.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            StoreError::NoSpace { .. } | StoreError::DiskFull { .. } => true,
            StoreError::SyncFailed { source, .. } => is_full(source),
            _ => false,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    let full = [Errno::NOSPC, Errno::DQUOT].map(|errno| Some(errno.raw_os_error()));
    full.contains(&error.raw_os_error())
}

fn words_of(taken: Taken) -> &'static str {
    match taken {
        Taken::File => "a file",
        Taken::Folder => "a folder",
        Taken::Free | Taken::Other => "something that is neither a file nor a folder",
    }
}
