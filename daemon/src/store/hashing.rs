//! Measures and hashes the files of a share on all cores.
//!
//! The unit of work is a chunk of the share's layout: a part of a large file, or a pack of small
//! ones, so that neither one huge file nor a million tiny ones leaves a core idle. Each worker has
//! one small buffer, whatever the size of a chunk.
//!
//! Not here: which files there are (`store::walk`), what becomes of their hashes
//! (`store::register`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::BytesMut;
use warren_proto::content::tree::{self, PartHasher, Position};
use warren_proto::content::{Content, Expected, Extent, HashList, Layout};

use super::cores;
use super::disk::{Disk, FileIdentity, Folder, Open, read_exact_at};
use super::files::Identities;
use super::register::RegisterError;
use crate::memory::aligned;

/// Bytes a worker reads at once: enough for BLAKE3's full speed, and few enough to stay in the
/// core's own cache between being read and being hashed.
const BUFFER_BYTES: usize = 256 * 1024;

/// How far the hashing of a share is, and the way to stop it; shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Hashing {
    hashed_bytes: AtomicU64,
    read_bytes: AtomicU64,
    total_bytes: AtomicU64,
    cancelled: AtomicBool,
}

impl Hashing {
    /// Bytes hashed so far.
    pub fn hashed_bytes(&self) -> u64 {
        self.hashed_bytes.load(Ordering::Relaxed)
    }

    /// Of these, bytes that were read: of the others it was known what they hash to.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Bytes to be hashed; 0 until the share is measured.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    /// Makes hashing end as soon as each worker has hashed the few bytes it is at.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(super) fn check(&self) -> Result<(), RegisterError> {
        match self.is_cancelled() {
            true => Err(RegisterError::Cancelled),
            false => Ok(()),
        }
    }
}

/// The files of a share, by the numbers they have in its layout.
#[derive(Debug)]
pub(super) struct Files<'a> {
    pub(super) disk: &'a dyn Disk,
    /// What all of them are opened beneath.
    pub(super) folder: Folder,
    /// Its path.
    pub(super) folder_path: PathBuf,
    /// Their paths in it.
    pub(super) paths: Vec<PathBuf>,
}

/// What a file is without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) identity: FileIdentity,
    pub(super) executable: bool,
}

/// The hashes of all files.
#[derive(Debug)]
pub(super) struct Hashes {
    /// The hash of each file.
    pub(super) roots: Vec<[u8; 32]>,
    /// The CVs of the chunks of each file larger than a chunk.
    pub(super) cvs: HashList,
}

impl Files<'_> {
    /// Looks at every file.
    pub(super) fn measure(&self, hashing: &Hashing) -> Result<Vec<Measured>, RegisterError> {
        // A listing has at most a million files.
        let count = self.paths.len() as u32;
        on_all_cores(count, hashing, |_, number| {
            let file = self.open(number)?;
            Ok(Measured {
                identity: self.disk.identity(&file).map_err(self.at(number))?,
                executable: self.disk.is_executable(&file).map_err(self.at(number))?,
            })
        })
    }

    /// Makes sure that every file is still as it was measured.
    pub(super) fn check_unchanged(
        &self,
        measured: &[Measured],
        hashing: &Hashing,
    ) -> Result<(), RegisterError> {
        // Another executable bit shows too: it changes the time of the inode.
        let check = |_: &mut Worker, number| {
            let now = self.disk.identity(&self.open(number)?);
            match now.map_err(self.at(number))? == measured[number as usize].identity {
                true => Ok(()),
                false => Err(self.changed(number)),
            }
        };
        on_all_cores(measured.len() as u32, hashing, check).map(drop)
    }

    /// Hashes every file, each as long as it was measured.
    pub(super) fn hash(
        &self,
        layout: &Layout,
        measured: &[Measured],
        known: &Unchanged<'_>,
        hashing: &Hashing,
    ) -> Result<Hashes, RegisterError> {
        hashing.total_bytes.store(layout.total(), Ordering::Relaxed);
        let job = Job {
            files: self,
            layout,
            measured,
            known,
            hashing,
        };
        let chunks = on_all_cores(layout.chunk_count(), hashing, |worker, index| {
            let extents = job.extents(index);
            extents.map(|extent| worker.hash(&job, &extent)).collect()
        })?;
        Ok(job.sort(&chunks))
    }

    fn open(&self, number: u32) -> Result<File, RegisterError> {
        let path = &self.paths[number as usize];
        let opened = self.disk.open(&self.folder, path, Open::Read);
        opened.map_err(self.at(number))
    }

    /// Sorts what the system said about a file.
    fn at(&self, number: u32) -> impl Fn(io::Error) -> RegisterError {
        move |error| RegisterError::at(&self.path(number))(error)
    }

    fn path(&self, number: u32) -> PathBuf {
        self.folder_path.join(&self.paths[number as usize])
    }

    fn changed(&self, number: u32) -> RegisterError {
        let path = self.path(number);
        RegisterError::Changed { path }
    }
}

/// What was shared from the same place before, so that files that are still the same need not be hashed again.
#[derive(Debug)]
pub struct Known {
    /// What it was.
    pub content: Arc<Content>,
    /// What its files were.
    pub identities: Identities,
    /// Files that were changed later than this may have been changed unseen, in nanoseconds since 1970.
    pub until_ns: i64,
}

/// Which files are what they were when they were hashed before.
#[derive(Debug, Default)]
pub(super) struct Unchanged<'a> {
    known: Option<&'a Known>,
    /// Their numbers then, by those they have now.
    before: BTreeMap<u32, u32>,
}

impl<'a> Unchanged<'a> {
    /// Of these files, which are at these paths now; one file alone has none.
    pub(super) fn find<'p>(
        known: Option<&'a Known>,
        paths: impl Iterator<Item = Option<&'p str>>,
        measured: &[Measured],
    ) -> Unchanged<'a> {
        let Some(before) = known else {
            return Unchanged::default();
        };
        let path_of = |file| before.content.file_path(file).map(|path| path.as_str());
        let numbers: BTreeMap<Option<&str>, u32> = (0..before.content.file_count())
            .map(|file| (path_of(file), file))
            .collect();
        let is_same = |file: u32, now: &Measured| {
            let known = before.identities.0.get(file as usize);
            known == Some(&now.identity)
                && now.identity.ctime_ns.max(now.identity.mtime_ns) < before.until_ns
        };
        let files = (0..).zip(paths.zip(measured));
        let same = files.filter_map(|(number, (path, now))| {
            let file = *numbers.get(&path)?;
            is_same(file, now).then_some((number, file))
        });
        Unchanged {
            known,
            before: same.collect(),
        }
    }

    fn hash(&self, extent: &Extent, position: Position) -> Option<[u8; 32]> {
        let content = &self.known?.content;
        let file = *self.before.get(&extent.file)?;
        match position {
            Position::Whole => content.file_root(file),
            // Of the same bytes at the same place it is the same however the rest was divided.
            Position::Subtree { .. } => match content.expected(&Extent { file, ..*extent })? {
                Expected::Subtree { cv, .. } => Some(cv),
                Expected::Root(_) => None,
            },
        }
    }
}

/// What all workers hash together.
struct Job<'a> {
    files: &'a Files<'a>,
    layout: &'a Layout,
    measured: &'a [Measured],
    known: &'a Unchanged<'a>,
    hashing: &'a Hashing,
}

impl Job<'_> {
    fn extents(&self, index: u32) -> impl Iterator<Item = Extent> {
        let chunk = self.layout.chunk(index).into_iter();
        chunk.flat_map(|chunk| self.layout.extents(chunk))
    }

    fn is_large(&self, file: u32) -> bool {
        self.measured[file as usize].identity.size > u64::from(self.layout.chunk_bytes())
    }

    fn position(&self, extent: &Extent) -> Position {
        match self.is_large(extent.file) {
            true => Position::Subtree {
                offset: extent.offset,
            },
            false => Position::Whole,
        }
    }

    /// The hash of an extent that is known from before.
    fn known(&self, extent: &Extent) -> Option<[u8; 32]> {
        let hash = self.known.hash(extent, self.position(extent))?;
        let len = u64::from(extent.len);
        self.hashing.hashed_bytes.fetch_add(len, Ordering::Relaxed);
        Some(hash)
    }

    /// Brings the hashes of all extents, chunk by chunk, to where they belong.
    fn sort(&self, chunks: &[Vec<[u8; 32]>]) -> Hashes {
        let mut roots = vec![tree::whole_hash(&[]); self.measured.len()];
        let mut cvs = HashList::new();
        for (index, hashes) in (0..).zip(chunks) {
            for (extent, hash) in self.extents(index).zip(hashes) {
                match self.is_large(extent.file) {
                    true => cvs.push(*hash),
                    false => roots[extent.file as usize] = *hash,
                }
            }
        }
        let large = self.layout.large_files();
        let ends = large.iter().skip(1).map(|&(_, first)| first as usize);
        for (&(file, first), end) in large.iter().zip(ends.chain([cvs.len()])) {
            let own = cvs.as_hashes()[first as usize..end].iter().copied();
            roots[file as usize] = tree::root_of(&own.collect()).0;
        }
        Hashes { roots, cvs }
    }
}

/// What each thread has for itself.
#[derive(Default)]
struct Worker {
    buffer: BytesMut,
    /// The file it read last, most often the next one too.
    open: Option<(u32, File)>,
}

impl Worker {
    fn hash(&mut self, job: &Job<'_>, extent: &Extent) -> Result<[u8; 32], RegisterError> {
        if let Some(hash) = job.known(extent) {
            return Ok(hash);
        }
        let (files, number) = (job.files, extent.file);
        let file = match self.open.take() {
            Some((open, file)) if open == number => file,
            _ => files.open(number)?,
        };
        let hash = self.read(job, &file, extent)?;
        // After reading, so that a change during the read does not slip through.
        let now = files.disk.identity(&file).map_err(files.at(number))?;
        if now != job.measured[number as usize].identity {
            return Err(files.changed(number));
        }
        self.open = Some((number, file));
        Ok(hash)
    }

    /// Reads an extent in pieces and hashes it.
    fn read(
        &mut self,
        job: &Job<'_>,
        file: &File,
        extent: &Extent,
    ) -> Result<[u8; 32], RegisterError> {
        let buffer_bytes = BUFFER_BYTES.min(job.layout.chunk_bytes() as usize);
        if self.buffer.len() != buffer_bytes {
            self.buffer = aligned::zeros(buffer_bytes);
        }
        let mut hasher = PartHasher::new(job.position(extent));
        let (mut offset, end) = (extent.offset, extent.offset + u64::from(extent.len));
        while offset < end {
            job.hashing.check()?;
            let len = (end - offset).min(buffer_bytes as u64);
            let piece = &mut self.buffer[..len as usize];
            read_exact_at(job.files.disk, file, piece, offset)
                .map_err(job.files.at(extent.file))?;
            hasher.update(piece);
            job.hashing.hashed_bytes.fetch_add(len, Ordering::Relaxed);
            job.hashing.read_bytes.fetch_add(len, Ordering::Relaxed);
            offset += len;
        }
        Ok(hasher
            .finish()
            .expect("an extent is a whole file or a subtree"))
    }
}

/// Does `work` for each number below `count` on all cores, unless the hashing is cancelled meanwhile.
///
/// # Errors
///
/// As [`cores::with_workers`].
fn on_all_cores<T: Send + Sync>(
    count: u32,
    hashing: &Hashing,
    work: impl Fn(&mut Worker, u32) -> Result<T, RegisterError> + Sync,
) -> Result<Vec<T>, RegisterError> {
    cores::with_workers(count, u32::MAX, |worker, index| {
        hashing.check()?;
        work(worker, index)
    })
}
