//! Makes, moves and removes single files and folders of a share that is divided, on the disk and in
//! its [`Division`].
//!
//! Not here: which ones ([`super`]).

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use warren_proto::content::EntryKind;

use super::{ABSENT, Division, Home};
use crate::store::disk::{Folder, Open};
use crate::store::error::StoreError;
use crate::store::files::ShareFiles;
use crate::store::partial::{exists, new_folders};

impl ShareFiles {
    pub(super) fn make_part(&self, division: &mut Division, file: u32) -> Result<(), StoreError> {
        let folder = self.folder(division, Home::Part)?;
        self.create(&folder, file, Home::Part)?;
        self.note_home(division, file, Home::Part);
        self.mend_length(division, file)
    }

    /// A file is somewhere else now, which no sync has covered yet.
    pub(super) fn note_home(&self, division: &mut Division, file: u32, home: Home) {
        division.homes[file as usize] = home;
        self.names_changed.store(true, Ordering::Relaxed);
    }

    /// Makes the file unless it is there, and the folders above it.
    pub(super) fn create(&self, folder: &Folder, file: u32, home: Home) -> Result<(), StoreError> {
        self.make_parents(folder, file, home)?;
        let opened = self
            .disk
            .open(folder, self.relative_path(file), Open::Create);
        match opened {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(StoreError::at(&self.path_in(home, file))(error))
            }
            _ => Ok(()),
        }
    }

    fn make_parents(&self, folder: &Folder, file: u32, home: Home) -> Result<(), StoreError> {
        let path = self.content.file_path(file);
        for parent in path.iter().flat_map(|path| path.parents()) {
            match self.disk.mkdir(folder, Path::new(parent)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::at(&self.path_in(home, file))(error));
                }
                _ => (),
            }
        }
        Ok(())
    }

    /// Gives a file in the `.part` folder its full length.
    pub(super) fn mend_length(&self, division: &Division, file: u32) -> Result<(), StoreError> {
        let (path, size) = (self.path_in(Home::Part, file), self.size_of(file));
        let folder = division.open_folder_of(Home::Part).ok_or_else(|| {
            let path = path.clone();
            StoreError::Missing { path }
        })?;
        let opened = self
            .disk
            .open(folder, self.relative_path(file), Open::Write);
        let opened = opened.map_err(StoreError::at(&path))?;
        let now = self.disk.identity(&opened).map_err(StoreError::at(&path))?;
        match now.size.cmp(&size) {
            std::cmp::Ordering::Less => self.disk.allocate(&opened, size),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => self.disk.set_len(&opened, size),
        }
        .map_err(StoreError::at(&path))
    }

    pub(super) fn drop_part(&self, division: &mut Division, file: u32) -> Result<(), StoreError> {
        if let Some(folder) = division.open_folder_of(Home::Part) {
            let removed = self.disk.unlink(folder, self.relative_path(file));
            removed.map_err(StoreError::at(&self.path_in(Home::Part, file)))?;
        }
        self.note_home(division, file, Home::Absent);
        Ok(())
    }

    /// Moves a file to another home, and gives it the length that it has there.
    pub(super) fn move_file(
        &self,
        division: &mut Division,
        file: u32,
        to: Home,
    ) -> Result<(), StoreError> {
        let home = division.homes[file as usize];
        let target = self.folder(division, to)?;
        self.make_parents(&target, file, to)?;
        let path = self.relative_path(file);
        if let Some(folder) = division.open_folder_of(home) {
            let moved = self.disk.move_noreplace(folder, &target, path);
            moved.map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => StoreError::TargetExists {
                    path: self.path_in(to, file),
                },
                _ => StoreError::at(&self.path_in(home, file))(error),
            })?;
        }
        self.note_home(division, file, to);
        match to {
            Home::Part => self.mend_length(division, file),
            _ => Ok(()),
        }
    }

    /// Everything in the `.part` folder is wanted and complete, and there is nothing under the final
    /// name: one rename.
    pub(super) fn settle_all(&self, division: &mut Division) -> Result<(), StoreError> {
        self.folder(division, Home::Part)?;
        self.rename()?;
        division.settled = division.part.take();
        for home in division.homes.iter_mut().filter(|it| **it == Home::Part) {
            *home = Home::Settled(ABSENT);
        }
        Ok(())
    }

    pub(super) fn settle_each(&self, division: &mut Division) -> Result<(), StoreError> {
        for file in division.files_in(Home::Part) {
            self.move_file(division, file, Home::Settled(ABSENT))?;
        }
        Ok(())
    }

    pub(super) fn make_empty_folders(&self) -> Result<(), StoreError> {
        let division = self.division();
        let settled = division.as_ref().and_then(|it| it.settled.as_ref());
        let (Some(folder), Some(listing)) = (settled, &self.content.listing) else {
            return Ok(());
        };
        let mut before = None;
        for entry in listing.entries() {
            if entry.kind == EntryKind::Dir {
                let parents = new_folders(before, &entry.path);
                for name in parents.chain([entry.path.as_str()]) {
                    self.mend_folder(folder, name)?;
                }
            }
            before = (entry.kind == EntryKind::Dir).then_some(&entry.path);
        }
        Ok(())
    }

    /// Removes a folder of ours of which no file is left; what others have put there stays.
    pub(super) fn remove_folder(
        &self,
        folder: Option<Folder>,
        name: &OsString,
    ) -> Result<(), StoreError> {
        if let Some(folder) = folder {
            let ignore = &mut |_: &Path, _: io::Result<()>| ();
            self.remove_folders(&folder, ignore);
            // Not empty when it has others' files.
            let _ = self.disk.rmdir(&self.place.parent, Path::new(name));
        }
        let synced = self.disk.fsync_folder(&self.place.parent);
        synced.map_err(StoreError::at(&self.place.parent_path))
    }

    /// The folder of a home, made if need be.
    pub(super) fn folder(&self, division: &mut Division, home: Home) -> Result<Folder, StoreError> {
        let aside = self.aside_name();
        let (slot, name) = match home {
            Home::Aside => (&mut division.aside, &aside),
            Home::Settled(_) => (&mut division.settled, &self.place.name),
            Home::Part | Home::Absent => (&mut division.part, &self.place.part_name),
        };
        if slot.is_none() {
            let made = self.disk.mkdir(&self.place.parent, Path::new(name));
            made.map_err(StoreError::named(&self.place.parent_path.join(name)))?;
            self.names_changed.store(true, Ordering::Relaxed);
            *slot = self.open_folder(name)?;
        }
        let path = self.place.parent_path.join(name);
        let gone = || StoreError::Missing { path: path.clone() };
        let folder = slot.as_ref().ok_or_else(gone)?;
        folder.try_clone().map_err(StoreError::at(&path))
    }

    /// One of the three folders, if it is there.
    pub(super) fn open_folder(&self, name: &OsString) -> Result<Option<Folder>, StoreError> {
        if !exists(self.disk.as_ref(), &self.place, name)? {
            return Ok(None);
        }
        let opened = self
            .disk
            .open_folder_beneath(&self.place.parent, Path::new(name));
        let opened = opened.map_err(StoreError::at(&self.place.parent_path.join(name)))?;
        Ok(Some(opened))
    }

    /// Makes durable which file is where.
    pub(super) fn sync_names(&self) -> Result<(), StoreError> {
        self.names_changed.store(false, Ordering::Relaxed);
        let synced = self.disk.syncfs(&self.place.parent);
        self.names_changed
            .fetch_or(synced.is_err(), Ordering::Relaxed);
        synced.map_err(StoreError::at(&self.place.parent_path))
    }
}
