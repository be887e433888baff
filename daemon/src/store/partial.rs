//! An unfinished share on disk: made, found again after a restart, finished, or removed.
//!
//! It lies in the downloads folder as `<name>.part`, a file or a folder, with every file that is larger
//! than a chunk at its full length, so that the disk is known to suffice before the first byte arrives;
//! smaller ones are made when they come (`store::packed`). Finishing is one rename that never replaces
//! anything.
//!
//! Not here: reading and writing its chunks (`store::files`).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use warren_proto::content::{Content, EntryKind, SharePath};
use warren_proto::limits;

use super::cores;
use super::disk::{Disk, Folder, Open};
use super::division::Home;
use super::error::StoreError;
use super::files::{Identities, Place, ShareFiles, State};

const PART_SUFFIX: &str = ".part";

/// Hexadecimal digits of the content id in the `.part` name of a share whose own name is so long
/// that it has to be cut.
const ID_DIGITS: usize = 16;

impl ShareFiles {
    /// Makes the files of a share about to be downloaded at their full length; those that are no larger than
    /// a chunk are made when they come.
    ///
    /// # Errors
    ///
    /// [`StoreError::TargetExists`] when the share's name or its `.part` name is taken,
    /// [`StoreError::NoSpace`] when it does not fit. After any error nothing is left behind.
    pub fn create_partial(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
    ) -> Result<ShareFiles, StoreError> {
        let place = vacant_place(disk.as_ref(), path, content)?;
        ShareFiles::create_at(disk, place, content)
    }

    /// Makes the files in a place whose `.part` name is free.
    pub(super) fn create_at(
        disk: Arc<dyn Disk>,
        place: Place,
        content: &Arc<Content>,
    ) -> Result<ShareFiles, StoreError> {
        let free = disk
            .free_bytes(&place.parent)
            .map_err(StoreError::at(&place.parent_path))?;
        if free < content.size {
            let path = place.parent_path.clone();
            return Err(StoreError::NoSpace {
                path,
                needed: content.size,
                free,
            });
        }
        let mut files = ShareFiles::new(disk, content.clone(), place, State::Partial);
        files.claim()?;
        let filled = files.fill();
        files.kept_if(filled)
    }

    /// These files if they were made, and nothing of them otherwise.
    pub(super) fn kept_if(self, made: Result<(), StoreError>) -> Result<ShareFiles, StoreError> {
        if made.is_err() {
            // The first error is the one that tells what is wrong.
            let _ = self.discard_partial();
        }
        made.map(|()| self)
    }

    /// Finds the files of an unfinished share after a restart.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] when there is nothing, [`StoreError::AlreadyRenamed`] when only the
    /// final name is there. Files of it that are missing or not of their length are made so; see
    /// [`Self::identities_now`] for how to tell.
    pub fn open_partial(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
    ) -> Result<ShareFiles, StoreError> {
        let mut place = place(disk.as_ref(), path, content)?;
        if !exists(disk.as_ref(), &place, &place.part_name)? {
            return Err(match exists(disk.as_ref(), &place, &place.name)? {
                true => StoreError::AlreadyRenamed {
                    path: place.parent_path.join(&place.name),
                },
                false => StoreError::Missing {
                    path: place.part_path(),
                },
            });
        }
        place.open_root(disk.as_ref(), content)?;
        let files = ShareFiles::new(disk, content.clone(), place, State::Partial);
        files.mend()?;
        Ok(files)
    }

    /// Gives the complete share its name, durably, and tells where it is and what its files are.
    /// Every chunk has been written and verified.
    ///
    /// # Errors
    ///
    /// [`StoreError::TargetExists`] when something has taken the name meanwhile. After any error
    /// finishing can be tried again, unless a sync failed.
    pub fn finish(&self) -> Result<(PathBuf, Identities), StoreError> {
        self.finish_by(ShareFiles::rename)
    }

    /// The same, with what gives it the name.
    pub(super) fn finish_by(
        &self,
        rename: impl FnOnce(&ShareFiles) -> Result<(), StoreError>,
    ) -> Result<(PathBuf, Identities), StoreError> {
        if self.is_divided() {
            return Ok((self.path(), self.finish_divided()?));
        }
        let renamed = |state: &State| matches!(state, State::Renamed);
        if !renamed(&self.state()) {
            self.sync()?;
            self.check_writable(&self.state())?;
            self.set_executable_bits()?;
        }
        let mut state = self.state_mut();
        if !renamed(&state) {
            self.check_writable(&state)?;
            rename(self)?;
            self.open.clear();
            *state = State::Renamed;
        }
        self.sync_name(&state)?;
        let identities = self.identities(&state)?;
        *state = State::Whole(identities.clone());
        Ok((self.path(), identities))
    }

    /// Gives a complete share its `.part` name again; nothing happens where neither is there or it has that
    /// already.
    ///
    /// # Errors
    ///
    /// [`StoreError::TargetExists`] when both are there, and whatever the disk says.
    pub fn take_back_name(
        disk: &dyn Disk,
        path: &Path,
        content: &Content,
    ) -> Result<(), StoreError> {
        let place = place(disk, path, content)?;
        if !exists(disk, &place, &place.name)? {
            return Ok(());
        }
        let (from, to) = (Path::new(&place.name), Path::new(&place.part_name));
        let renamed = disk.rename_noreplace(&place.parent, from, to);
        renamed.map_err(StoreError::named(&place.part_path()))
    }

    /// Makes sure that nothing has the name that [`Self::take_back_name`] gives a complete share.
    ///
    /// # Errors
    ///
    /// [`StoreError::TargetExists`] when something has it, which is not the share's.
    pub fn check_part_vacant(
        disk: &dyn Disk,
        path: &Path,
        content: &Content,
    ) -> Result<(), StoreError> {
        let place = place(disk, path, content)?;
        match exists(disk, &place, &place.part_name)? {
            true => Err(StoreError::TargetExists {
                path: place.part_path(),
            }),
            false => Ok(()),
        }
    }

    /// Removes a complete share from under its own name; of one of which only some files were wanted, those that
    /// are `settled`. What others have put among its files stays.
    ///
    /// # Errors
    ///
    /// The first removal that failed; the others were tried all the same.
    pub fn delete_named(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
        settled: Option<&Identities>,
    ) -> Result<(), StoreError> {
        let place = place(disk.as_ref(), path, content)?;
        let path = place.parent_path.join(&place.name);
        let mut first = Ok(());
        let mut note = |relative: &Path, removed: io::Result<()>| match removed {
            Err(error) if !is_harmless(&error) && first.is_ok() => {
                first = Err(StoreError::at(&path.join(relative))(error));
            }
            _ => (),
        };
        let name = PathBuf::from(&place.name);
        let files = ShareFiles::new(disk, content.clone(), place, State::Discarded);
        let parent = &files.place.parent;
        if content.listing.is_none() {
            note(Path::new(""), files.disk.unlink(parent, &name));
            return first;
        }
        match files.disk.open_folder_beneath(parent, &name) {
            Ok(root) => {
                let is_ours = |file| settled.is_none_or(|settled| settled.has(file));
                files.remove_from(&root, &mut note, &is_ours);
                note(Path::new(""), files.disk.rmdir(parent, &name));
            }
            Err(error) => note(Path::new(""), Err(error)),
        }
        first
    }

    /// Makes sure that the unfinished share is still there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] when somebody has removed it: what is written is lost with the end
    /// of the process.
    pub fn check_present(&self) -> Result<(), StoreError> {
        let partial = matches!(*self.state(), State::Partial) && self.needs_part();
        if partial && !exists(self.disk.as_ref(), &self.place, &self.place.part_name)? {
            let path = self.place.part_path();
            return Err(StoreError::Missing { path });
        }
        Ok(())
    }

    /// Removes the unfinished share. What others have put among its files stays.
    ///
    /// # Errors
    ///
    /// The first removal that failed; the others were tried all the same.
    pub fn discard_partial(&self) -> Result<(), StoreError> {
        let mut state = self.state_mut();
        if matches!(*state, State::Renamed | State::Whole(_)) {
            return Err(StoreError::ReadOnly { path: self.path() });
        }
        *state = State::Discarded;
        self.open.clear();
        let mut first = Ok(());
        let mut note = |path: &Path, removed: io::Result<()>| match removed {
            Err(error) if !is_harmless(&error) && first.is_ok() => {
                first = Err(StoreError::at(&self.place.part_path().join(path))(error));
            }
            _ => (),
        };
        if self.discard_divided(&mut note) {
            return first;
        }
        if let Some(root) = &self.place.root {
            self.remove_entries(root, &mut note);
        }
        let part = Path::new(&self.place.part_name);
        note(
            Path::new(""),
            match self.content.listing {
                Some(_) => self.disk.rmdir(&self.place.parent, part),
                None => self.disk.unlink(&self.place.parent, part),
            },
        );
        first
    }

    /// Removes everything of the share that lies in the folder.
    pub(super) fn remove_entries(
        &self,
        root: &Folder,
        note: &mut dyn FnMut(&Path, io::Result<()>),
    ) {
        self.remove_from(root, note, &|_| true);
    }

    /// Removes the folders of the share that lie in the folder and are empty.
    pub(super) fn remove_folders(
        &self,
        root: &Folder,
        note: &mut dyn FnMut(&Path, io::Result<()>),
    ) {
        self.remove_from(root, note, &|_| false);
    }

    /// Removes folders that are empty, and files by their numbers.
    fn remove_from(
        &self,
        root: &Folder,
        note: &mut dyn FnMut(&Path, io::Result<()>),
        is_removed: &dyn Fn(u32) -> bool,
    ) {
        let mut file = self.content.file_count();
        let entries = self
            .content
            .listing
            .as_ref()
            .map_or(&[][..], |listing| listing.entries());
        for (at, entry) in entries.iter().enumerate().rev() {
            let path = Path::new(entry.path.as_str());
            let removed = match entry.kind {
                EntryKind::Dir => self.disk.rmdir(root, path),
                EntryKind::File { .. } => {
                    file -= 1;
                    match is_removed(file) {
                        true => self.disk.unlink(root, path),
                        false => Ok(()),
                    }
                }
            };
            note(path, removed);
            let before = at.checked_sub(1).map(|before| &entries[before].path);
            let mut folders: Vec<&str> = new_folders(before, &entry.path).collect();
            folders.reverse();
            for folder in folders.into_iter().map(Path::new) {
                note(folder, self.disk.rmdir(root, folder));
            }
        }
    }

    /// Takes the `.part` name; what already has it stays untouched.
    fn claim(&mut self) -> Result<(), StoreError> {
        let part = Path::new(&self.place.part_name);
        let (disk, parent) = (self.disk.as_ref(), &self.place.parent);
        let claimed = match self.content.listing {
            Some(_) => disk.mkdir(parent, part),
            None => disk.open(parent, part, Open::Create).map(drop),
        };
        claimed.map_err(StoreError::named(&self.place.part_path()))
    }

    /// Makes everything of the share, and makes that durable: the journal will rely on it.
    fn fill(&mut self) -> Result<(), StoreError> {
        let part = self.place.part_path();
        self.place.open_root(self.disk.as_ref(), &self.content)?;
        if self.content.listing.is_some() {
            self.make_entries()?;
            let synced = self.disk.syncfs(self.place.any_folder());
            synced.map_err(StoreError::at(&part))?;
        } else {
            let file = self.open_file(&State::Partial, 0)?;
            self.allocate(&file, self.content.size, &part)?;
            self.disk.fsync(&file).map_err(StoreError::at(&part))?;
        }
        let synced = self.disk.fsync_folder(&self.place.parent);
        synced.map_err(StoreError::at(&self.place.parent_path))
    }

    fn make_entries(&self) -> Result<(), StoreError> {
        let (Some(root), Some(listing)) = (&self.place.root, &self.content.listing) else {
            return Ok(());
        };
        let mut before = None;
        for entry in listing.entries() {
            for folder in new_folders(before, &entry.path) {
                self.make_folder(root, folder)?;
            }
            if entry.kind == EntryKind::Dir {
                self.make_folder(root, entry.path.as_str())?;
            }
            before = Some(&entry.path);
        }
        let now = self.files_made_early();
        let make = |number: u32| match listing.file(now[number as usize]) {
            Some(file) => self.make_file(root, file.path.as_str(), file.size),
            None => Ok(()),
        };
        // At most as many as a listing has entries.
        cores::for_each(now.len() as u32, make).map(drop)
    }

    fn make_folder(&self, root: &Folder, relative: &str) -> Result<(), StoreError> {
        let path = || self.place.part_path().join(relative);
        let made = self.disk.mkdir(root, Path::new(relative));
        made.map_err(|error| collision(&path(), error))
    }

    fn make_file(&self, root: &Folder, relative: &str, size: u64) -> Result<(), StoreError> {
        let path = self.place.part_path().join(relative);
        let opened = self.disk.open(root, Path::new(relative), Open::Create);
        let file = opened.map_err(|error| collision(&path, error))?;
        self.allocate(&file, size, &path)
    }

    fn allocate(&self, file: &File, size: u64, path: &Path) -> Result<(), StoreError> {
        if size == 0 {
            return Ok(());
        }
        self.disk.allocate(file, size).map_err(StoreError::at(path))
    }

    /// Makes anew what somebody has removed, cut or lengthened. What is in it then is not what was
    /// written, which the caller finds out from the identities.
    fn mend(&self) -> Result<(), StoreError> {
        if let (Some(root), Some(listing)) = (&self.place.root, &self.content.listing) {
            let mut before = None;
            for entry in listing.entries() {
                for folder in new_folders(before, &entry.path) {
                    self.mend_folder(root, folder)?;
                }
                if entry.kind == EntryKind::Dir {
                    self.mend_folder(root, entry.path.as_str())?;
                }
                before = Some(&entry.path);
            }
        }
        (0..self.content.file_count()).try_for_each(|number| self.mend_file(number))
    }

    pub(super) fn mend_folder(&self, root: &Folder, relative: &str) -> Result<(), StoreError> {
        match self.disk.mkdir(root, Path::new(relative)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(StoreError::at(
                &self.place.part_path().join(relative),
            )(error)),
            _ => Ok(()),
        }
    }

    fn mend_file(&self, number: u32) -> Result<(), StoreError> {
        let size = self.content.file_size(number).unwrap_or_default();
        let state = self.state();
        let file = match (self.open_file(&state, number), &self.place.root) {
            (Err(StoreError::Changed { .. }), Some(_))
                if self.is_still_to_come(&state, number)? =>
            {
                return Ok(());
            }
            (Err(StoreError::Changed { .. }), Some(root)) => {
                let path = self.content.file_path(number);
                let relative = path.map_or("", |path| path.as_str());
                return self.make_file(root, relative, size);
            }
            (opened, _) => opened?,
        };
        let path = self.file_path(&state, number);
        let identity = self.disk.identity(&file).map_err(StoreError::at(&path))?;
        if identity.size > size {
            self.disk
                .set_len(&file, size)
                .map_err(StoreError::at(&path))?;
        } else if identity.size < size {
            self.allocate(&file, size, &path)?;
        }
        Ok(())
    }

    pub(super) fn set_executable_bits(&self) -> Result<(), StoreError> {
        let Some(listing) = &self.content.listing else {
            return Ok(());
        };
        let state = self.state();
        let is_here = |number: u32| matches!(self.home(number), None | Some(Home::Part));
        for (number, file) in (0..)
            .zip(listing.files())
            .filter(|(number, file)| file.executable && is_here(*number))
        {
            let opened = self.open_file(&state, number)?;
            let path = || self.place.part_path().join(file.path.as_str());
            self.disk
                .set_executable(&opened)
                .map_err(|error| StoreError::at(&path())(error))?;
        }
        // The times of all files must not be lost, or the share would seem changed afterwards.
        let synced = self.disk.syncfs(self.place.any_folder());
        synced.map_err(StoreError::at(&self.place.part_path()))
    }

    pub(super) fn rename(&self) -> Result<(), StoreError> {
        let (from, to) = (
            Path::new(&self.place.part_name),
            Path::new(&self.place.name),
        );
        match self.disk.rename_noreplace(&self.place.parent, from, to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(StoreError::TargetExists { path: self.path() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Missing {
                path: self.place.part_path(),
            }),
            other => other.map_err(StoreError::at(&self.place.part_path())),
        }
    }

    /// Makes the rename durable, and the inode time that some file systems change with it.
    fn sync_name(&self, state: &State) -> Result<(), StoreError> {
        let at = StoreError::at(&self.place.parent_path);
        if self.content.listing.is_none() {
            let file = self.open_file(state, 0)?;
            self.disk.fsync(&file).map_err(&at)?;
        }
        self.disk.fsync_folder(&self.place.parent).map_err(&at)
    }
}

/// The place of a share that lies at `path`, or will.
pub(super) fn place(disk: &dyn Disk, path: &Path, content: &Content) -> Result<Place, StoreError> {
    let name = path.file_name().unwrap_or_default();
    Place::open(disk, folder_of(path), name, &part_name(name, content))
}

/// The folder that something lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// The place of a share about to be downloaded, where nothing has its name or its `.part` name.
pub(super) fn vacant_place(
    disk: &dyn Disk,
    path: &Path,
    content: &Content,
) -> Result<Place, StoreError> {
    let folder = folder_of(path);
    std::fs::create_dir_all(folder).map_err(StoreError::at(folder))?;
    let place = place(disk, path, content)?;
    for name in [&place.name, &place.part_name] {
        if exists(disk, &place, name)? {
            let path = place.parent_path.join(name);
            return Err(StoreError::TargetExists { path });
        }
    }
    Ok(place)
}

/// `<name>.part`, cut and made unique by the content id when that would be too long for a name.
pub(super) fn part_name(name: &OsStr, content: &Content) -> OsString {
    let mut part = match name.len() + PART_SUFFIX.len() <= limits::COMPONENT_BYTES {
        true => name.to_owned(),
        false => OsString::from(stem(name, content, PART_SUFFIX.len())),
    };
    part.push(PART_SUFFIX);
    part
}

/// The name, cut if need be, and part of the content id, with room for so many bytes more.
pub(super) fn stem(name: &OsStr, content: &Content, more: usize) -> String {
    let (name, id) = (name.to_string_lossy(), content.id.to_string());
    let room = limits::COMPONENT_BYTES - more - 1 - ID_DIGITS;
    let cut = &name[..name.floor_char_boundary(room)];
    format!("{cut}~{}", &id[..ID_DIGITS])
}

pub(super) fn exists(disk: &dyn Disk, place: &Place, name: &OsStr) -> Result<bool, StoreError> {
    let found = disk.exists(&place.parent, Path::new(name));
    found.map_err(StoreError::at(&place.parent_path.join(name)))
}

/// The folders above `path` that are not above `before`, the outermost first. Entries are sorted
/// bytewise, so all entries of one folder follow each other, and each folder is new once.
pub(super) fn new_folders<'p>(
    before: Option<&'p SharePath>,
    path: &'p SharePath,
) -> impl Iterator<Item = &'p str> {
    path.parents().filter(move |folder| {
        let inside = before.and_then(|before| before.as_str().strip_prefix(folder));
        !inside.is_some_and(|rest| rest.starts_with('/'))
    })
}

/// In a folder of our own making a taken name can only be another spelling of one of ours.
fn collision(path: &Path, error: io::Error) -> StoreError {
    if error.kind() == io::ErrorKind::AlreadyExists {
        return StoreError::Collides {
            path: path.to_owned(),
        };
    }
    StoreError::at(path)(error)
}

/// Failures to remove that mean: it is gone already, or it is not ours.
fn is_harmless(error: &io::Error) -> bool {
    const HARMLESS: [Errno; 4] = [Errno::NOENT, Errno::NOTEMPTY, Errno::LOOP, Errno::NOTDIR];
    Errno::from_io_error(error).is_some_and(|errno| HARMLESS.contains(&errno))
}
