//! Makes a share out of a file or folder where it lies: hashed in place on all cores, not copied.
//!
//! A share is first walked and measured, so that what will be refused is refused before the first
//! byte is read, and only then hashed. What changes meanwhile is noticed: a file must be the same
//! when it is measured, after each chunk of it was read, and once more when all are hashed. A file
//! that is added to a folder after it was walked is not part of the share.
//!
//! Not here: finding the files of a folder (`store::walk`), hashing them (`store::hashing`),
//! serving the share ([`super::files::ShareFiles::open_in_place`]), writing its `.p2p`
//! ([`super::manifest_file`]).

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use warren_proto::content::path::{PathError, portability_warnings};
use warren_proto::content::tree;
use warren_proto::content::{
    Content, ContentError, Entry, EntryKind, Layout, Listing, ListingError, ManifestError,
    ShareName, SharePath,
};
use warren_proto::limits;

use super::disk::Disk;
use super::files::Identities;
use super::hashing::{Files, Measured};
use super::walk::{Found, walk};
use crate::control::model::{ApiError, exit};

use super::hashing::Unchanged;
pub use super::hashing::{Hashing, Known};

/// Bytes of a manifest beside its hashes and its listing: a name, eight trackers with host names
/// and the fixed fields come to less.
const MANIFEST_REST_BYTES: usize = 8 * 1024;

/// What to do about symbolic links, fifos, sockets and devices in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// Refuse the folder and list them.
    Refuse,
    /// Leave them out and list them.
    Skip,
}

/// A share as it was found on disk.
#[derive(Debug)]
pub struct Hashed {
    /// What the share is.
    pub content: Content,
    /// What its files were while they were hashed.
    pub identities: Identities,
    /// Where it lies: the path that was given, or what it led to when it was a symbolic link or
    /// had no name at its end.
    pub path: PathBuf,
    /// What was left out, relative to the folder.
    pub skipped: Vec<PathBuf>,
    /// What would keep the share from being stored on other systems, a sentence each.
    pub warnings: Vec<String>,
    /// Bytes that were read for it.
    pub read_bytes: u64,
}

/// Why something could not be shared.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// There is nothing at the path.
    #[error("there is no file or folder {}", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The path depends on a working folder, and the daemon has another one than the person.
    #[error("{} is not an absolute path", path.display())]
    Relative {
        /// The path.
        path: PathBuf,
    },
    /// A fifo, socket or device.
    #[error("{} is neither a file nor a folder", path.display())]
    NotRegular {
        /// The path.
        path: PathBuf,
    },
    /// This user may not read it.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its name is not text, so it cannot be told to others.
    #[error("the name of {} is not UTF-8", path.display())]
    NotUtf8 {
        /// The file or folder.
        path: PathBuf,
    },
    /// It is the root of the file system.
    #[error("{} has no name to be shared under", path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// Its name could deceive or harm on another machine.
    #[error("{} cannot be shared under its name", path.display())]
    Name {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with its name.
        source: PathError,
    },
    /// The folder has entries that are neither files nor folders.
    #[error(
        "{} has {} in it: {}{}", path.display(), special(*total),
        paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
        if *total > paths.len() { ", ..." } else { "" }
    )]
    Special {
        /// The folder.
        path: PathBuf,
        /// The first of them, relative to the folder.
        paths: Vec<PathBuf>,
        /// How many there are.
        total: usize,
    },
    /// No manifest could describe it.
    #[error("{} is too large to be shared", path.display())]
    TooLarge {
        /// The file or folder.
        path: PathBuf,
        /// Which limit it exceeds.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It is not what it was when hashing began.
    #[error("{} changed while it was hashed", path.display())]
    Changed {
        /// The file or folder.
        path: PathBuf,
    },
    /// The hashes contradict each other.
    #[error("the hashes of {} do not fit together", path.display())]
    Content {
        /// The share.
        path: PathBuf,
        /// How.
        source: ContentError,
    },
    /// [`Hashing::cancel`] was called.
    #[error("hashing was cancelled")]
    Cancelled,
    /// The file system failed.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Hashes the file or folder at `path`, which is absolute and may itself be a symbolic link; those
/// in a folder are never followed. Blocks for as long as reading every byte takes.
///
/// # Errors
///
/// See [`RegisterError`]. All but [`RegisterError::Changed`], [`RegisterError::Cancelled`] and a
/// failing disk are found before anything is hashed.
pub fn hash_share(
    disk: &dyn Disk,
    path: &Path,
    special: Special,
    hashing: &Hashing,
) -> Result<Hashed, RegisterError> {
    hash_version(disk, path, special, None, hashing)
}

/// The same, but for files that are what they were before: of these it is known what they hash to.
///
/// # Errors
///
/// As [`hash_share`].
pub fn hash_version(
    disk: &dyn Disk,
    path: &Path,
    special: Special,
    known: Option<&Known>,
    hashing: &Hashing,
) -> Result<Hashed, RegisterError> {
    let place = Place::find(path)?;
    match place.is_folder {
        true => hash_tree(disk, place, special, known, hashing),
        false => hash_file(disk, place, known, hashing),
    }
}

/// Where a share is and what it is called.
struct Place {
    path: PathBuf,
    name: ShareName,
    is_folder: bool,
}

impl Place {
    fn find(typed: &Path) -> Result<Place, RegisterError> {
        if !typed.is_absolute() {
            let path = typed.to_owned();
            return Err(RegisterError::Relative { path });
        }
        // Without a trailing slash, which would make the system follow a link.
        let typed: PathBuf = typed.components().collect();
        let at = RegisterError::missing_or_at(&typed);
        let metadata = fs::metadata(&typed).map_err(&at)?;
        if !metadata.is_file() && !metadata.is_dir() {
            return Err(RegisterError::NotRegular {
                path: typed.clone(),
            });
        }
        let is_link = fs::symlink_metadata(&typed).map_err(&at)?.is_symlink();
        // When it is served, a link in the place of a share is not followed.
        let path = match typed.file_name() {
            Some(_) if !is_link => typed.clone(),
            _ => fs::canonicalize(&typed).map_err(&at)?,
        };
        let named = typed.file_name().map_or(&path, |_| &typed);
        Ok(Place {
            name: share_name(named)?,
            path,
            is_folder: metadata.is_dir(),
        })
    }
}

fn share_name(path: &Path) -> Result<ShareName, RegisterError> {
    let at = || path.to_owned();
    let name = path.file_name();
    let name = name.ok_or_else(|| RegisterError::NoName { path: at() })?;
    let name = name.to_str();
    let name = name.ok_or_else(|| RegisterError::NotUtf8 { path: at() })?;
    let parsed = ShareName::parse(name);
    parsed.map_err(|source| RegisterError::Name { path: at(), source })
}

fn hash_file(
    disk: &dyn Disk,
    place: Place,
    known: Option<&Known>,
    hashing: &Hashing,
) -> Result<Hashed, RegisterError> {
    let Place { path, name, .. } = place;
    let parent = path.parent().unwrap_or(Path::new("/"));
    let folder = disk
        .open_folder(parent)
        .map_err(RegisterError::at(parent))?;
    let files = Files {
        disk,
        folder,
        folder_path: parent.to_owned(),
        paths: path.file_name().map(PathBuf::from).into_iter().collect(),
    };
    let measured = files.measure(hashing)?;
    let size = measured.iter().map(|file| file.identity.size).sum();
    let layout = Layout::file(size).map_err(|error| RegisterError::too_large(&path, error))?;
    check_manifest_len(&path, &layout, 0)?;

    let unchanged = Unchanged::find(known, std::iter::once(None), &measured);
    let hashes = files.hash(&layout, &measured, &unchanged, hashing)?;
    files.check_unchanged(&measured, hashing)?;
    let list = match layout.large_files() {
        [] => hashes.roots.into_iter().collect(),
        _ => hashes.cvs,
    };
    let warnings = name_warnings(&name);
    let content = Content::file(name, size, list);
    Ok(Hashed {
        content: content.map_err(RegisterError::content(&path))?,
        identities: identities(measured),
        path,
        skipped: Vec::new(),
        warnings,
        read_bytes: hashing.read_bytes(),
    })
}

fn hash_tree(
    disk: &dyn Disk,
    place: Place,
    special: Special,
    known: Option<&Known>,
    hashing: &Hashing,
) -> Result<Hashed, RegisterError> {
    let Place { path, name, .. } = place;
    let root = disk.open_folder(&path).map_err(RegisterError::at(&path))?;
    let found = walk(disk, &root, &path, special, hashing)?;
    let files = Files {
        disk,
        folder: root,
        folder_path: path.clone(),
        paths: found
            .files
            .iter()
            .map(|file| PathBuf::from(file.as_str()))
            .collect(),
    };
    let measured = files.measure(hashing)?;
    let sizes: Vec<u64> = measured.iter().map(|file| file.identity.size).collect();
    let layout = Layout::tree(&sizes).map_err(|error| RegisterError::too_large(&path, error))?;
    check_manifest_len(&path, &layout, listing_len(&path, &found, &measured)?)?;

    let paths = found.files.iter().map(|path| Some(path.as_str()));
    let unchanged = Unchanged::find(known, paths, &measured);
    let hashes = files.hash(&layout, &measured, &unchanged, hashing)?;
    files.check_unchanged(&measured, hashing)?;
    let listing = listing(&path, &found, &measured, &hashes.roots)?;
    let mut warnings = name_warnings(&name);
    warnings.extend(portability_warnings(
        listing.entries().iter().map(|entry| &entry.path),
    ));
    let content = Content::tree(name, listing, hashes.cvs);
    Ok(Hashed {
        content: content.map_err(RegisterError::content(&path))?,
        identities: identities(measured),
        path,
        skipped: found.special,
        warnings,
        read_bytes: hashing.read_bytes(),
    })
}

/// The table of entries.
fn listing(
    path: &Path,
    found: &Found,
    measured: &[Measured],
    roots: &[[u8; 32]],
) -> Result<Listing, RegisterError> {
    let file = |(path, (file, root)): (&SharePath, (&Measured, &[u8; 32]))| Entry {
        path: path.clone(),
        kind: EntryKind::File {
            size: file.identity.size,
            executable: file.executable,
            root: *root,
        },
    };
    let folder = |path: &SharePath| Entry {
        path: path.clone(),
        kind: EntryKind::Dir,
    };
    let files = found.files.iter().zip(measured.iter().zip(roots)).map(file);
    let entries = files
        .chain(found.empty_folders.iter().map(folder))
        .collect();
    Listing::new(entries).map_err(|error| match error {
        // A folder that is changed while it is read may show an entry twice.
        ListingError::Duplicate(entry) | ListingError::NotAFolder(entry) => {
            let path = path.join(entry.as_str());
            RegisterError::Changed { path }
        }
        error => RegisterError::too_large(path, error),
    })
}

/// Length of the encoded listing, which does not depend on the hashes in it.
fn listing_len(path: &Path, found: &Found, measured: &[Measured]) -> Result<usize, RegisterError> {
    let roots = vec![tree::whole_hash(&[]); measured.len()];
    Ok(listing(path, found, measured, &roots)?.encode().len())
}

fn check_manifest_len(path: &Path, layout: &Layout, listing: usize) -> Result<(), RegisterError> {
    let hashes = layout.hash_count() as usize * size_of::<[u8; 32]>();
    if hashes + listing + MANIFEST_REST_BYTES > limits::MANIFEST_BYTES {
        return Err(RegisterError::too_large(path, ManifestError::TooLarge));
    }
    Ok(())
}

fn identities(measured: Vec<Measured>) -> Identities {
    Identities(measured.into_iter().map(|file| file.identity).collect())
}

/// How many there are of what cannot be shared.
fn special(total: usize) -> String {
    match total {
        1 => "a symbolic link or special file".to_owned(),
        _ => format!("{total} symbolic links or special files"),
    }
}

fn name_warnings(name: &ShareName) -> Vec<String> {
    // A name is a path of one component.
    let path = SharePath::parse(name.as_str());
    portability_warnings(path.iter())
}

impl RegisterError {
    /// Sorts what the system said about `path`, which was there before.
    pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> RegisterError {
        const GONE: [Errno; 5] = [
            Errno::NOENT,
            Errno::LOOP,
            Errno::NOTDIR,
            Errno::ISDIR,
            Errno::NXIO,
        ];
        const FORBIDDEN: [Errno; 2] = [Errno::ACCESS, Errno::PERM];
        move |source| {
            let path = path.to_owned();
            let errno = Errno::from_io_error(&source);
            let is_one_of = |errnos: &[Errno]| errno.is_some_and(|errno| errnos.contains(&errno));
            match source.kind() {
                // The second when it is no longer a regular file.
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
                    RegisterError::Changed { path }
                }
                _ if is_one_of(&GONE) => RegisterError::Changed { path },
                _ if is_one_of(&FORBIDDEN) => RegisterError::Unreadable { path, source },
                _ => RegisterError::Io { path, source },
            }
        }
    }

    /// Sorts what the system said about `path`, which may never have been there.
    fn missing_or_at(path: &Path) -> impl Fn(io::Error) -> RegisterError {
        move |source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => RegisterError::Missing {
                path: path.to_owned(),
            },
            _ => RegisterError::at(path)(source),
        }
    }

    pub(super) fn too_large(
        path: &Path,
        source: impl Error + Send + Sync + 'static,
    ) -> RegisterError {
        RegisterError::TooLarge {
            path: path.to_owned(),
            source: Box::new(source),
        }
    }

    fn content(path: &Path) -> impl Fn(ContentError) -> RegisterError {
        move |source| RegisterError::Content {
            path: path.to_owned(),
            source,
        }
    }

    /// What the person can do about it; empty when there is nothing.
    pub fn hint(&self) -> String {
        match self {
            RegisterError::Missing { .. } => "Check the path: ls shows what is there.".into(),
            RegisterError::Relative { .. } => "Give the whole path, from / on.".into(),
            RegisterError::NotRegular { .. } => "Share a file or a folder.".into(),
            RegisterError::Unreadable { .. } => "Check its permissions: ls -l shows them.".into(),
            RegisterError::NotUtf8 { .. } | RegisterError::Name { .. } => {
                "Rename it, or inside a folder leave it out with --skip-special.".into()
            }
            RegisterError::NoName { .. } => "Share the folders in it one by one.".into(),
            RegisterError::Special { .. } => {
                "Leave them out with --skip-special, or replace them by what they point to.".into()
            }
            RegisterError::TooLarge { .. } => "Share its parts one by one.".into(),
            RegisterError::Changed { .. } => {
                "Wait until nothing writes to it, then run the same command again.".into()
            }
            RegisterError::Io { .. } => "Check the disk; dmesg shows its errors.".into(),
            RegisterError::Content { .. } => "This is a bug; please report it.".into(),
            RegisterError::Cancelled => String::new(),
        }
    }
}

impl From<&RegisterError> for ApiError {
    fn from(error: &RegisterError) -> Self {
        let (code, exit) = match error {
            RegisterError::Missing { .. } => ("not_found", exit::NOT_FOUND),
            RegisterError::Relative { .. } => ("relative_path", exit::USAGE),
            RegisterError::NotRegular { .. } => ("not_regular", exit::REFUSED),
            RegisterError::Unreadable { .. } => ("unreadable", exit::DISK),
            RegisterError::NotUtf8 { .. } => ("not_utf8", exit::REFUSED),
            RegisterError::Name { .. } | RegisterError::NoName { .. } => {
                ("bad_name", exit::REFUSED)
            }
            RegisterError::Special { .. } => ("special_files", exit::REFUSED),
            RegisterError::TooLarge { .. } => ("too_large", exit::REFUSED),
            RegisterError::Changed { .. } => ("changed", exit::DISK),
            RegisterError::Content { .. } => ("internal", exit::OTHER),
            RegisterError::Cancelled => ("cancelled", exit::INTERRUPTED),
            RegisterError::Io { .. } => ("disk_error", exit::DISK),
        };
        ApiError::caused(code, exit, error, error.hint())
    }
}

#[cfg(test)]
#[path = "register_tests.rs"]
mod tests;
