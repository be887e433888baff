//! Writes the `.p2p` of a share under a name a person would look for.
//!
//! `file.txt` gets `file.p2p`; a folder or a dotfile keeps its whole name. A name that is taken by
//! anything but a `.p2p` of the same share is left alone and the next one is tried: `file.txt.p2p`,
//! `file.txt-2.p2p` and so on. A `.p2p` of the same share is replaced, so sharing something again
//! leads to the same file.
//!
//! Not here: what is in a `.p2p` ([`Manifest`]).

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use warren_proto::content::{Content, Manifest, ManifestError};
use warren_proto::id::{Kind, SwarmId};
use warren_proto::limits;

use super::atomic::{
    create_atomically, create_private, try_folder, write_atomically, write_private,
};
use super::explain;
use crate::control::model::{ApiError, exit};

const SUFFIX: &str = ".p2p";

/// Highest number that is put behind a name.
const MAX_NUMBER: u32 = 9999;

/// So many names, the best first, may a former version's `.p2p` have that is looked for.
const FORMER_NAMES: usize = 8;

/// How often a name is chosen anew because somebody took it first.
const TRIES: usize = 8;

/// Why the `.p2p` of a share was not written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestFileError {
    /// The name that was asked for is taken by something else.
    #[error("{} exists already and is not the .p2p of this share", path.display())]
    Taken {
        /// What is there.
        path: PathBuf,
    },
    /// Every name that could be made up is taken.
    #[error("no name is left in {} for the .p2p of {name}", folder.display())]
    NoName {
        /// The name of the share.
        name: String,
        /// Where its `.p2p` should go.
        folder: PathBuf,
    },
    /// The folder of the name that was asked for does not exist.
    #[error("there is no folder {}", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Nobody could read it back: it is too large.
    #[error("the share cannot be described in a .p2p")]
    Manifest(#[source] ManifestError),
    /// The file system refused.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Writes the `.p2p` of a share to `output`, or under a name of its own into `folder`, which is
/// made if missing. Returns its absolute path. It is readable by its owner only when the share has
/// a secret. A `.p2p` of one of the `formers`, whose next version this is, is replaced, or removed where it is
/// under another name that we would have given it.
///
/// # Errors
///
/// See [`ManifestFileError`]. Nothing but a `.p2p` of the same share or of these is ever replaced.
pub fn write_manifest(
    folder: &Path,
    output: Option<&Path>,
    manifest: &Manifest,
    formers: &[SwarmId],
) -> Result<PathBuf, ManifestFileError> {
    let bytes = manifest.encode();
    Manifest::decode(&bytes).map_err(ManifestFileError::Manifest)?;
    let file = ManifestFile {
        bytes,
        swarms: [&[swarm_of(manifest)], formers].concat(),
        is_private: manifest.secret.is_some(),
    };
    let folder = absolute(folder)?;
    let written = match output {
        Some(path) => file.write_to(absolute(path)?),
        None => file.write_into(&folder, &manifest.content),
    }?;
    remove_former(&folder, &written, manifest, formers);
    Ok(written)
}

/// Removes what is left of former versions beside the `.p2p` that was written.
fn remove_former(folder: &Path, written: &Path, manifest: &Manifest, formers: &[SwarmId]) {
    let is_former = |path: &PathBuf| {
        path != written && read(path).is_some_and(|it| formers.contains(&swarm_of(&it)))
    };
    let names = names(&manifest.content).map(|(name, _)| folder.join(name));
    for path in names.take(FORMER_NAMES).filter(is_former) {
        if let Err(error) = fs::remove_file(&path) {
            tracing::debug!(path = %path.display(), %error, "the .p2p of a former version stays");
        }
    }
}

/// Makes sure that a `.p2p` can be written to `output`, or into `folder`, as far as that can be told
/// without knowing of what.
///
/// # Errors
///
/// As [`write_manifest`].
pub fn check_place(folder: &Path, output: Option<&Path>) -> Result<(), ManifestFileError> {
    let folder = match output.map(absolute).transpose()? {
        None => absolute(folder)?,
        Some(output) => {
            let folder = folder_of(&output)?;
            // Of which share a .p2p there is, is known when this one is read.
            if fs::symlink_metadata(&output).is_ok() && read(&output).is_none() {
                return Err(ManifestFileError::Taken { path: output });
            }
            folder.to_owned()
        }
    };
    try_folder(&folder).map_err(at(&folder))
}

/// The folder of the name that was asked for.
fn folder_of(output: &Path) -> Result<&Path, ManifestFileError> {
    let folder = output.parent().unwrap_or(output);
    match folder.is_dir() {
        true => Ok(folder),
        false => Err(ManifestFileError::NoFolder {
            path: folder.to_owned(),
        }),
    }
}

struct ManifestFile {
    bytes: Vec<u8>,
    /// Of the share, and of those whose place it takes.
    swarms: Vec<SwarmId>,
    is_private: bool,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occupant {
    Nothing,
    /// A `.p2p` of the same share.
    Ours,
    Other,
}

impl ManifestFile {
    fn write_to(&self, path: PathBuf) -> Result<PathBuf, ManifestFileError> {
        folder_of(&path)?;
        match self.occupant(&path)? {
            Occupant::Ours => self.replace(path),
            Occupant::Nothing if self.create(&path)? => Ok(path),
            Occupant::Nothing | Occupant::Other => Err(ManifestFileError::Taken { path }),
        }
    }

    fn write_into(&self, folder: &Path, content: &Content) -> Result<PathBuf, ManifestFileError> {
        fs::create_dir_all(folder).map_err(at(folder))?;
        for _ in 0..TRIES {
            match self.choose(folder, content)? {
                Some((path, Occupant::Ours)) => return self.replace(path),
                Some((path, _)) if self.create(&path)? => return Ok(path),
                // Somebody has just taken the name.
                Some(_) => (),
                None => break,
            }
        }
        Err(ManifestFileError::NoName {
            name: content.name.to_string(),
            folder: folder.to_owned(),
        })
    }

    /// The name our `.p2p` has already, else the first that is free.
    fn choose(
        &self,
        folder: &Path,
        content: &Content,
    ) -> Result<Option<(PathBuf, Occupant)>, ManifestFileError> {
        let mut free = None;
        for (name, is_numbered) in names(content) {
            let path = folder.join(name);
            match self.occupant(&path)? {
                Occupant::Ours => return Ok(Some((path, Occupant::Ours))),
                Occupant::Other => continue,
                Occupant::Nothing => free = free.or(Some((path, Occupant::Nothing))),
            }
            // Numbers are given in order, so ours is not behind a free one.
            if is_numbered {
                break;
            }
        }
        Ok(free)
    }

    fn occupant(&self, path: &Path) -> Result<Occupant, ManifestFileError> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Occupant::Nothing),
            Err(error) => Err(at(path)(error)),
            // What cannot be read or understood is not ours to replace.
            Ok(found) => match found.is_file() && read(path).is_some_and(|m| self.is_of(&m)) {
                true => Ok(Occupant::Ours),
                false => Ok(Occupant::Other),
            },
        }
    }

    fn is_of(&self, manifest: &Manifest) -> bool {
        self.swarms.contains(&swarm_of(manifest))
    }

    fn replace(&self, path: PathBuf) -> Result<PathBuf, ManifestFileError> {
        let written = match self.is_private {
            true => write_private(&path, &self.bytes),
            false => write_atomically(&path, &self.bytes),
        };
        written.map_err(at(&path))?;
        Ok(path)
    }

    /// Writes where nothing is; false when something is there by now.
    fn create(&self, path: &Path) -> Result<bool, ManifestFileError> {
        let created = match self.is_private {
            true => create_private(path, &self.bytes),
            false => create_atomically(path, &self.bytes),
        };
        match created {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(at(path)(error)),
        }
    }
}

/// File names for the `.p2p` of a share, the best first, and whether each is a numbered one.
fn names(content: &Content) -> impl Iterator<Item = (String, bool)> {
    let full = content.name.as_str();
    let plain = [short(full, content.kind), full].map(|name| (with_end(name, SUFFIX), false));
    let numbered = (2..=MAX_NUMBER).map(move |n| (with_end(full, &format!("-{n}{SUFFIX}")), true));
    plain.into_iter().chain(numbered)
}

/// The name of a file without its last suffix; the dots a name begins with are no suffix.
fn short(name: &str, kind: Kind) -> &str {
    let start = name.len() - name.trim_start_matches('.').len();
    match name[start..].rfind('.') {
        Some(dot) if kind == Kind::File => &name[..start + dot],
        _ => name,
    }
}

/// `name` and `end`, the former cut where both would be too long for a file name.
fn with_end(name: &str, end: &str) -> String {
    let room = limits::COMPONENT_BYTES - end.len();
    format!("{}{end}", &name[..name.floor_char_boundary(room)])
}

/// The manifest in a regular file, if it is one.
fn read(path: &Path) -> Option<Manifest> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(flags.bits() as i32);
    let mut bytes = Vec::new();
    let cap = limits::MANIFEST_BYTES as u64 + 1;
    file.open(path)
        .ok()?
        .take(cap)
        .read_to_end(&mut bytes)
        .ok()?;
    Manifest::decode(&bytes).ok()
}

fn swarm_of(manifest: &Manifest) -> SwarmId {
    manifest.content.swarm_id(manifest.secret.as_ref())
}

fn absolute(path: &Path) -> Result<PathBuf, ManifestFileError> {
    std::path::absolute(path).map_err(at(path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> ManifestFileError {
    move |source| ManifestFileError::Io {
        path: path.to_owned(),
        source,
    }
}

impl From<&ManifestFileError> for ApiError {
    fn from(error: &ManifestFileError) -> Self {
        let (code, exit, hint) = match error {
            ManifestFileError::Taken { .. } => (
                "target_exists",
                exit::REFUSED,
                "Move it away, or name another file with --output.",
            ),
            ManifestFileError::NoName { .. } => (
                "target_exists",
                exit::REFUSED,
                "Remove old .p2p files there, or name a file with --output.",
            ),
            ManifestFileError::NoFolder { .. } => (
                "no_folder",
                exit::NOT_FOUND,
                "Make it with mkdir -p, or name another file with --output.",
            ),
            ManifestFileError::Manifest(_) => {
                ("too_large", exit::REFUSED, "Share its parts one by one.")
            }
            ManifestFileError::Io { source, .. } => return explain::io(error, source),
        };
        ApiError::caused(code, exit, error, hint)
    }
}

#[cfg(test)]
#[path = "manifest_file_tests.rs"]
mod tests;
