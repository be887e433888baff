//! The files of one share: chunks in, chunks out.
//!
//! A share being downloaded lies in its folder under a `.part` name; [`ShareFiles::finish`] gives it
//! its name. A finished or registered share is only read, and each read makes sure that the file is
//! still the one that was hashed.
//!
//! Everything beneath the share is opened without following symbolic links, so whoever plants one
//! gets an error, not a write somewhere else. All methods block on the disk and may be called from
//! several threads.
//!
//! Not here: making, renaming and removing the files (`store::partial`), small ones (`store::packed`), shares
//! of which only some files are wanted (`store::division`), remembering which chunks are there
//! (`store::journal`), which of them to ask for.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use warren_proto::content::{ChunkIndex, Content, Extent, Verifier};

use super::disk::{Disk, FileIdentity, Folder, Open, append_exact_at, read_exact_at, write_all_at};
use super::division::{Division, Home};
use super::error::StoreError;
use super::open_files::{OpenFile, OpenFiles, lock};
use super::segments::Segments;
use crate::memory::aligned;

/// Above this many changed files one sync of the whole file system is quicker than one of each.
const SYNC_EACH: usize = 64;

/// Bytes read at once while verifying; BLAKE3 reaches its full speed from 64 KiB on.
pub(super) const VERIFY_BYTES: usize = 256 * 1024;

/// What each file of a share was when it was hashed or finished, in the order of the listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identities(pub(super) Vec<FileIdentity>);

impl Identities {
    /// Whether these are the same files under other paths: of the same inodes, sizes and times of their
    /// bytes. A move changes the times of inodes.
    pub fn were_moved_to(&self, now: &Identities) -> bool {
        let known = |it: &FileIdentity| (it.inode, it.size, it.mtime_ns);
        self.0.iter().map(known).eq(now.0.iter().map(known))
    }

    /// Of these files alone; the others are as if they were not there.
    pub(crate) fn only(&self, chosen: &[bool]) -> Identities {
        let one = |(identity, chosen): (&FileIdentity, &bool)| match chosen {
            true => *identity,
            false => super::division::ABSENT,
        };
        Identities(self.0.iter().zip(chosen).map(one).collect())
    }
}

/// The files of one share.
#[derive(Debug)]
pub struct ShareFiles {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) content: Arc<Content>,
    pub(super) place: Place,
    pub(super) open: OpenFiles,
    state: RwLock<State>,
    /// Where each file is, once only some were wanted.
    pub(super) division: RwLock<Option<Division>>,
    /// Whether no two names are one to any file system, once that was asked.
    pub(super) is_distinct: OnceLock<bool>,
    /// Names were made that no sync has covered.
    pub(super) names_changed: AtomicBool,
    /// Files written to since the last sync began.
    dirty: Mutex<BTreeSet<u32>>,
    /// Held during a sync, so that none is reported done while another one still works on it.
    syncing: Mutex<()>,
}

/// Where a share lies.
#[derive(Debug)]
pub(super) struct Place {
    /// The folder that contains the share.
    pub(super) parent: Folder,
    /// Its path, absolute.
    pub(super) parent_path: PathBuf,
    /// The share's own name in it.
    pub(super) name: OsString,
    /// Its name until it is finished.
    pub(super) part_name: OsString,
    /// The share's own folder, when it is a tree.
    pub(super) root: Option<Folder>,
}

#[derive(Debug)]
pub(super) enum State {
    /// Being written under its `.part` name.
    Partial,
    /// As `Partial`, but a sync failed: what was written since the last good one may be lost.
    Doubtful(io::ErrorKind),
    /// Under its own name, but not all of [`ShareFiles::finish`] is done.
    Renamed,
    /// Only read, under its own name.
    Whole(Identities),
    /// Removed.
    Discarded,
}

impl ShareFiles {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        content: Arc<Content>,
        place: Place,
        state: State,
    ) -> ShareFiles {
        ShareFiles {
            disk,
            content,
            place,
            open: OpenFiles::default(),
            state: RwLock::new(state),
            division: RwLock::default(),
            is_distinct: OnceLock::new(),
            names_changed: AtomicBool::new(false),
            dirty: Mutex::default(),
            syncing: Mutex::default(),
        }
    }

    /// Opens a registered or finished share where it lies.
    ///
    /// # Errors
    ///
    /// [`StoreError::Changed`] with the first file that is not as it was.
    pub fn open_in_place(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
        identities: &Identities,
    ) -> Result<ShareFiles, StoreError> {
        let files = ShareFiles::open_named(disk, path, content, identities.clone())?;
        if files.identities(&files.state())? != *identities {
            return Err(files.first_changed(identities));
        }
        // There may be thousands of shares that nobody asks for.
        files.open.clear();
        Ok(files)
    }

    /// Opens a share under its own name whatever is in it, with what its files are now; `None` when a file
    /// is missing, of another length, or something else.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn open_as_it_is(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
    ) -> Result<Option<(ShareFiles, Identities)>, StoreError> {
        match ShareFiles::opened_now(disk, path, content) {
            Err(StoreError::Changed { .. }) => Ok(None),
            Err(error) => Err(error),
            Ok((files, identities)) => {
                let sizes = identities.0.iter().map(|it| it.size);
                let expected = (0..content.file_count()).map(|file| content.file_size(file));
                let is_whole = sizes.map(Some).eq(expected);
                Ok(is_whole.then_some((files, identities)))
            }
        }
    }

    fn opened_now(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
    ) -> Result<(ShareFiles, Identities), StoreError> {
        let files = ShareFiles::open_named(disk, path, content, Identities::none())?;
        let identities = files.identities(&files.state())?;
        *files.state_mut() = State::Whole(identities.clone());
        Ok((files, identities))
    }

    /// Opens a share under its own name, whose files are believed to be these.
    pub(super) fn open_named(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
        identities: Identities,
    ) -> Result<ShareFiles, StoreError> {
        let gone = || StoreError::Changed {
            path: path.to_owned(),
        };
        let name = path.file_name().ok_or_else(gone)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        let mut place = Place::open(disk.as_ref(), parent, name, name)
            .map_err(|error| error.unless_gone(path))?;
        place
            .open_root(disk.as_ref(), content)
            .map_err(|error| error.unless_gone(path))?;
        let state = State::Whole(identities);
        Ok(ShareFiles::new(disk, content.clone(), place, state))
    }

    /// Where the share is, or will be once it is finished.
    pub fn path(&self) -> PathBuf {
        self.place.parent_path.join(&self.place.name)
    }

    /// What the share is.
    pub fn content(&self) -> &Arc<Content> {
        &self.content
    }

    /// Writes a whole, verified chunk. It is on the medium only after [`Self::sync`].
    ///
    /// # Errors
    ///
    /// When the bytes are not as long as the chunk, the share is not being downloaded, or the
    /// disk refused; parts of the chunk may then be written.
    pub fn write_chunk(&self, chunk: ChunkIndex, bytes: &Segments) -> Result<(), StoreError> {
        let state = self.state();
        self.check_writable(&state)?;
        if bytes.len() != self.content.layout.chunk_len(chunk) as usize {
            return Err(bad_range(chunk, 0, bytes.len() as u64));
        }
        let mut begin = 0;
        for extent in self.content.layout.extents(chunk) {
            let len = extent.len as usize;
            self.write_extent(&state, &extent, bytes.run(begin, len))?;
            begin += len;
        }
        Ok(())
    }

    fn write_extent<'a>(
        &self,
        state: &State,
        at: &Extent,
        mut pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), StoreError> {
        self.ensure_home(at.file)?;
        // What is settled was verified, and is the person's.
        if matches!(self.home(at.file), Some(Home::Settled(_))) {
            return Ok(());
        }
        let file = self.open_to_write(state, at.file)?;
        let _turn = file.take_turn();
        let mut offset = at.offset;
        let written = pieces.try_for_each(|piece| {
            let at = offset;
            offset += piece.len() as u64;
            write_all_at(self.disk.as_ref(), &file, piece, at)
        });
        // Also after a failure: a part of the bytes may be in the file.
        lock(&self.dirty).insert(at.file);
        written.map_err(|source| StoreError::at(&self.file_path(state, at.file))(source))
    }

    /// Reads a run of grains of a chunk and appends it. What a share being downloaded holds there is the
    /// caller's to know.
    ///
    /// # Errors
    ///
    /// [`StoreError::BadRange`] when the range is not made of grains; [`StoreError::Changed`] when
    /// a file of a finished or registered share is no longer the one that was hashed.
    pub fn read(
        &self,
        chunk: ChunkIndex,
        offset: u32,
        len: u32,
        bytes: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let extents = self.content.layout.range(chunk, offset, len);
        let extents = extents.ok_or_else(|| bad_range(chunk, offset, u64::from(len)))?;
        let state = self.state();
        bytes.reserve_exact(len as usize);
        for extent in extents {
            self.read_extent(&state, &extent, |disk, file| {
                let part = (extent.len as usize, extent.offset);
                append_exact_at(disk, file, bytes, part)
            })?;
        }
        Ok(())
    }

    /// Reads a chunk back and hashes it. A chunk that a former process wrote and this one finds
    /// right becomes part of the next [`Self::sync`].
    ///
    /// # Errors
    ///
    /// When the chunk cannot be read.
    pub fn verify(&self, chunk: ChunkIndex) -> Result<bool, StoreError> {
        let state = self.state();
        for extent in self.content.layout.extents(chunk) {
            let Some(expected) = self.content.expected(&extent) else {
                return Ok(false);
            };
            if self.home(extent.file) == Some(Home::Absent) {
                return Ok(false);
            }
            let mut verifier = Verifier::new(expected);
            let read = self.read_extent(&state, &extent, |disk, file| {
                feed(disk, file, &extent, &mut verifier)
            });
            let is_changed = matches!(read, Err(StoreError::Changed { .. }));
            if is_changed && self.is_made_late(&state, extent.file) {
                return Ok(false);
            }
            read?;
            if !verifier.finish() {
                return Ok(false);
            }
        }
        if matches!(*state, State::Partial) {
            let files = self.content.layout.extents(chunk).map(|extent| extent.file);
            let is_settled = |file: &u32| matches!(self.home(*file), Some(Home::Settled(_)));
            lock(&self.dirty).extend(files.filter(|file| !is_settled(file)));
        }
        Ok(true)
    }

    fn read_extent(
        &self,
        state: &State,
        extent: &Extent,
        read: impl FnOnce(&dyn Disk, &File) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let file = self.open_to_read(state, extent.file)?;
        let path = || self.file_path(state, extent.file);
        match read(self.disk.as_ref(), &file) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(StoreError::Changed { path: path() });
            }
            Err(source) => return Err(StoreError::at(&path())(source)),
            Ok(()) => (),
        }
        // After reading, so that a change during the read does not slip through.
        let known = match (state, self.home(extent.file)) {
            (State::Whole(identities), _) => identities.0.get(extent.file as usize).copied(),
            (_, Some(Home::Settled(identity))) => Some(identity),
            _ => return Ok(()),
        };
        let now = self
            .disk
            .identity(&file)
            .map_err(|source| StoreError::at(&path())(source))?;
        if known != Some(now) {
            return Err(StoreError::Changed { path: path() });
        }
        Ok(())
    }

    /// Brings to the medium every chunk whose write returned before this call.
    ///
    /// # Errors
    ///
    /// [`StoreError::SyncFailed`] when the medium may lack any of what was written since the last
    /// good sync. It is final: the system forgets what it could not write, and would call the next
    /// sync a success. The share must be opened anew and the unsynced chunks written again.
    pub fn sync(&self) -> Result<(), StoreError> {
        let _one_at_a_time = lock(&self.syncing);
        let path = match &*self.state() {
            State::Partial => self.place.part_path(),
            State::Doubtful(kind) => {
                let path = self.place.part_path();
                return Err(StoreError::SyncFailed {
                    path,
                    source: (*kind).into(),
                });
            }
            State::Renamed | State::Whole(_) | State::Discarded => return Ok(()),
        };
        let dirty = std::mem::take(&mut *lock(&self.dirty));
        let opened = match self.open_to_sync(&dirty) {
            Ok(opened) => opened,
            Err(error) => {
                lock(&self.dirty).extend(dirty);
                return Err(error);
            }
        };
        // Names without content can wait.
        let names_changed = !dirty.is_empty() && self.names_changed.swap(false, Ordering::Relaxed);
        let synced = match &opened {
            _ if names_changed => self.disk.syncfs(self.place.any_folder()),
            ToSync::Each(files) => files.iter().try_for_each(|file| self.disk.fdatasync(file)),
            ToSync::FileSystem => self.disk.syncfs(self.place.any_folder()),
        };
        synced.map_err(|source| {
            *self.state_mut() = State::Doubtful(source.kind());
            self.doubt(&dirty);
            StoreError::SyncFailed { path, source }
        })
    }

    fn open_to_sync(&self, dirty: &BTreeSet<u32>) -> Result<ToSync, StoreError> {
        if dirty.len() > SYNC_EACH {
            return Ok(ToSync::FileSystem);
        }
        let state = self.state();
        let files = dirty.iter().map(|file| self.open_file(&state, *file));
        Ok(ToSync::Each(files.collect::<Result<_, _>>()?))
    }

    /// Lets later reads see what the medium has, and not what it should have had.
    fn doubt(&self, dirty: &BTreeSet<u32>) {
        let state = self.state();
        for file in dirty {
            if let Ok(file) = self.open_file(&state, *file) {
                // A hint: without it the journal still says that these chunks are lost.
                let _ = self.disk.drop_cached(&file);
            }
        }
    }

    /// What every file is now, as it lies there and not as it was opened before.
    ///
    /// # Errors
    ///
    /// When a file is gone or cannot be asked.
    pub fn identities_now(&self) -> Result<Identities, StoreError> {
        let state = self.state();
        self.open.clear();
        self.identities(&state)
    }

    /// What one file is now.
    ///
    /// # Errors
    ///
    /// As [`Self::identities_now`].
    pub(super) fn identity_now(&self, file: u32) -> Result<FileIdentity, StoreError> {
        self.identity(&self.state(), file)
    }

    pub(super) fn identity(&self, state: &State, file: u32) -> Result<FileIdentity, StoreError> {
        if let Some(absent) = self.absent_identity(file) {
            return Ok(absent);
        }
        let opened = self.open_file(state, file)?;
        let identity = self.disk.identity(&opened);
        identity.map_err(|source| StoreError::at(&self.file_path(state, file))(source))
    }

    fn first_changed(&self, identities: &Identities) -> StoreError {
        let state = self.state();
        let same = |file: &u32| {
            self.identity(&state, *file).ok().as_ref() == identities.0.get(*file as usize)
        };
        let file = (0..self.content.file_count()).find(|file| !same(file));
        let path = file.map_or_else(|| self.path(), |file| self.file_path(&state, file));
        StoreError::Changed { path }
    }

    /// The file, opened for what the state allows.
    pub(super) fn open_file(&self, state: &State, file: u32) -> Result<Arc<OpenFile>, StoreError> {
        self.open.get_or_open(file, || self.open_anew(state, file))
    }

    /// The same, whether it is open already or not.
    pub(super) fn open_anew(&self, state: &State, file: u32) -> Result<File, StoreError> {
        if let Some(opened) = self.open_divided_file(file) {
            return opened;
        }
        let how = match state {
            State::Partial | State::Doubtful(_) => Open::Write,
            State::Renamed | State::Whole(_) | State::Discarded => Open::Read,
        };
        let (folder, relative) = self.relative(state, file);
        let opened = self.disk.open(folder, relative, how);
        let path = || self.file_path(state, file);
        opened.map_err(|source| StoreError::at(&path())(source).unless_gone(&path()))
    }

    /// The folder handle and the path beneath it of a file.
    pub(super) fn relative(&self, state: &State, file: u32) -> (&Folder, &Path) {
        match (&self.place.root, self.content.file_path(file)) {
            (Some(root), Some(path)) => (root, Path::new(path.as_str())),
            _ => (&self.place.parent, Path::new(self.current_name(state))),
        }
    }

    /// The path of a file, for people.
    pub(super) fn file_path(&self, state: &State, file: u32) -> PathBuf {
        if let Some(path) = self.divided_path(file) {
            return path;
        }
        let share = self.place.parent_path.join(self.current_name(state));
        match self.content.file_path(file) {
            Some(path) => share.join(path.as_str()),
            None => share,
        }
    }

    fn current_name(&self, state: &State) -> &OsStr {
        match state {
            State::Renamed | State::Whole(_) => &self.place.name,
            State::Partial | State::Doubtful(_) | State::Discarded => &self.place.part_name,
        }
    }

    pub(super) fn check_writable(&self, state: &State) -> Result<(), StoreError> {
        match state {
            State::Partial => Ok(()),
            State::Doubtful(kind) => Err(StoreError::SyncFailed {
                path: self.place.part_path(),
                source: (*kind).into(),
            }),
            State::Renamed | State::Whole(_) | State::Discarded => {
                Err(StoreError::ReadOnly { path: self.path() })
            }
        }
    }

    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a sync has to go through.
enum ToSync {
    Each(Vec<Arc<OpenFile>>),
    FileSystem,
}

impl Place {
    pub(super) fn open(
        disk: &dyn Disk,
        parent_path: &Path,
        name: &OsStr,
        part_name: &OsStr,
    ) -> Result<Place, StoreError> {
        let at = StoreError::at(parent_path);
        Ok(Place {
            parent: disk.open_folder(parent_path).map_err(&at)?,
            parent_path: std::path::absolute(parent_path).map_err(&at)?,
            name: name.to_owned(),
            part_name: part_name.to_owned(),
            root: None,
        })
    }

    /// Opens the folder of a tree under its `.part` name.
    pub(super) fn open_root(
        &mut self,
        disk: &dyn Disk,
        content: &Content,
    ) -> Result<(), StoreError> {
        if content.listing.is_some() {
            let root = disk.open_folder_beneath(&self.parent, Path::new(&self.part_name));
            self.root = Some(root.map_err(StoreError::at(&self.part_path()))?);
        }
        Ok(())
    }

    pub(super) fn part_path(&self) -> PathBuf {
        self.parent_path.join(&self.part_name)
    }

    /// A folder on the share's file system, open since before the first write: the kernel reports
    /// a failed write-back only to handles of that age.
    pub(super) fn any_folder(&self) -> &Folder {
        self.root.as_ref().unwrap_or(&self.parent)
    }
}

impl StoreError {
    /// A file that is not there, or is something else now, is a change.
    pub(super) fn unless_gone(self, path: &Path) -> StoreError {
        match self {
            StoreError::Io { source, .. } if is_gone(&source) => StoreError::Changed {
                path: path.to_owned(),
            },
            other => other,
        }
    }
}

/// Whether a file is not there, or something else is.
pub(super) fn is_gone(error: &io::Error) -> bool {
    const GONE: [Errno; 5] = [
        Errno::NOENT,
        Errno::LOOP,
        Errno::NOTDIR,
        Errno::ISDIR,
        Errno::NXIO,
    ];
    let is_one_of_them = Errno::from_io_error(error).is_some_and(|it| GONE.contains(&it));
    error.kind() == io::ErrorKind::InvalidInput || is_one_of_them
}

fn feed(disk: &dyn Disk, file: &File, at: &Extent, verifier: &mut Verifier) -> io::Result<()> {
    let mut buffer = aligned::zeros(VERIFY_BYTES.min(at.len as usize));
    let end = at.offset + u64::from(at.len);
    let mut offset = at.offset;
    while offset < end {
        let len = (end - offset).min(buffer.len() as u64);
        let part = &mut buffer[..len as usize];
        read_exact_at(disk, file, part, offset)?;
        verifier.update(part);
        offset += len;
    }
    Ok(())
}

fn bad_range(chunk: ChunkIndex, offset: u32, len: u64) -> StoreError {
    StoreError::BadRange {
        chunk: chunk.value(),
        offset,
        len,
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
