//! A tree of which only some files are wanted: where each file lies, and how it moves.
//!
//! ```text
//! photos/               what is wanted and complete, under its final names; only read
//! photos.part/          what is wanted and is being fetched, every file at its full length
//! .photos~<id>.aside/   what is not wanted and came all the same: small files that share a chunk with
//!                       a wanted one, and what had come of files that are no longer wanted
//! ```
//!
//! A file is in one of the three at most, and only ever moves from one to another, so that no byte
//! that came is fetched again or copied. [`ShareFiles::choose`] says what is wanted from now on,
//! [`ShareFiles::settle`] gives what is wanted its final names once it is complete. What is settled
//! stays where it is, whatever is wanted later.
//!
//! Not here: how one file is made, moved or removed ([`moving`]); what is known of those that have their
//! final names ([`settled`]); which get theirs back when the share goes ([`returning`]); shares that are wanted
//! whole (`store::partial`) until they first become otherwise.

mod moving;
mod returning;
mod settled;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard};

use warren_proto::content::Content;

use super::disk::{Disk, FileIdentity, Folder, Open};
use super::error::StoreError;
use super::files::{Identities, ShareFiles, State};
use super::partial::{place, stem, vacant_place};

/// Stands for a file that is not there. No file has inode 0.
pub(super) const ABSENT: FileIdentity = FileIdentity {
    size: 0,
    mtime_ns: 0,
    ctime_ns: 0,
    inode: 0,
};

/// Where one file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// Nowhere.
    Absent,
    /// In the `.part` folder.
    Part,
    /// In the folder of what came and is not wanted.
    Aside,
    /// Under its final name, and this is what it was when it got that.
    Settled(FileIdentity),
}

/// The three folders and which file is in which.
#[derive(Debug)]
pub(super) struct Division {
    homes: Vec<Home>,
    part: Option<Folder>,
    aside: Option<Folder>,
    settled: Option<Folder>,
    /// Whether every file in the `.part` folder is known to have its full length.
    is_mended: bool,
}

impl ShareFiles {
    /// As [`ShareFiles::create_partial`], with the files alone for which `chosen` is true.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn create_chosen(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
        chosen: &[bool],
    ) -> Result<ShareFiles, StoreError> {
        let place = vacant_place(disk.as_ref(), path, content)?;
        let files = ShareFiles::new(disk, content.clone(), place, State::Partial);
        let mut division = Division::empty(content);
        division.aside = files.open_folder(&files.aside_name())?;
        *files.division_mut() = Some(division);
        let made = files.choose(chosen, |_| false);
        files.kept_if(made)
    }

    /// Finds the files of a share of which some were wanted. `settled` is what [`Self::settle`] has
    /// returned last.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] when there is nothing, [`StoreError::Changed`] with a file that is
    /// settled and no longer what it was. Wanted files that are missing or not of their length are
    /// made so.
    pub fn open_divided(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
        chosen: &[bool],
        settled: Option<&Identities>,
    ) -> Result<ShareFiles, StoreError> {
        let place = place(disk.as_ref(), path, content)?;
        let files = ShareFiles::new(disk, content.clone(), place, State::Partial);
        let mut division = Division::empty(content);
        division.part = files.open_folder(&files.place.part_name)?;
        // A folder of that name beside the `.part` one is ours only if we have put something there.
        let has_settled = settled.is_some_and(|settled| !settled.0.is_empty());
        if has_settled || division.part.is_none() {
            division.settled = files.open_folder(&files.place.name)?;
        }
        division.aside = files.open_folder(&files.aside_name())?;
        if division.part.is_none() && division.settled.is_none() {
            let path = files.place.part_path();
            return Err(StoreError::Missing { path });
        }
        for file in 0..content.file_count() {
            division.homes[file as usize] = files.find(&division, file, (chosen, settled))?;
        }
        *files.division_mut() = Some(division);
        files.choose(chosen, |_| true)?;
        // What a former process has made and not synced is covered by the first sync of ours.
        files.names_changed.store(true, Ordering::Relaxed);
        Ok(files)
    }

    /// From now on the files are wanted for which `chosen` is true, and what is settled. What has come
    /// of others is kept aside; `has_bytes` tells whether any has of a file. Durable, and where no file
    /// has to be made or moved the disk is not asked.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSpace`] when what is wanted does not fit, and whatever the disk says. Then some
    /// of the files may have been made; nothing is lost.
    pub fn choose(
        &self,
        chosen: &[bool],
        has_bytes: impl Fn(u32) -> bool,
    ) -> Result<(), StoreError> {
        // Nobody discards the share meanwhile.
        let state = self.state();
        self.check_writable(&state)?;
        let mut division = self.division_mut();
        if self.content.listing.is_none() {
            return Ok(());
        }
        let division = match &mut *division {
            Some(division) => division,
            None if chosen.iter().all(|it| *it) => return Ok(()),
            undivided => undivided.insert(self.divide()?),
        };
        self.check_space(division, chosen)?;
        self.open.clear();
        // Until all below has gone well.
        let was_mended = std::mem::replace(&mut division.is_mended, false);
        for file in 0..self.content.file_count() {
            let is_chosen = chosen.get(file as usize) == Some(&true);
            match (division.homes[file as usize], is_chosen) {
                (Home::Absent, true) => self.make_part(division, file)?,
                (Home::Aside, true) => self.move_file(division, file, Home::Part)?,
                (Home::Part, false) if has_bytes(file) => {
                    self.move_file(division, file, Home::Aside)?;
                }
                (Home::Part, false) => self.drop_part(division, file)?,
                (Home::Part, true) if !was_mended => self.mend_length(division, file)?,
                (Home::Part, true) => (),
                (Home::Absent | Home::Aside, false) | (Home::Settled(_), _) => (),
            }
        }
        // A share without a chosen byte has a folder all the same, so that it is found again.
        if division.settled.is_none() {
            self.folder(division, Home::Part)?;
        }
        division.is_mended = true;
        match self.names_changed.load(Ordering::Relaxed) {
            true => self.sync_names(),
            false => Ok(()),
        }
    }

    /// Gives the files for which `chosen` is true their final names, durably, and tells what is settled
    /// now; all their chunks have been written, verified and synced.
    ///
    /// # Errors
    ///
    /// [`StoreError::TargetExists`] when something has taken a name meanwhile, [`StoreError::Changed`] when one
    /// that had its own is no longer what it was. After any error it can be tried again.
    pub fn settle(&self, chosen: &[bool]) -> Result<Identities, StoreError> {
        self.sync()?;
        self.check_writable(&self.state())?;
        self.set_executable_bits()?;
        let mut division = self.division_mut();
        let Some(division) = &mut *division else {
            return Err(StoreError::ReadOnly { path: self.path() });
        };
        self.open.clear();
        for file in division.files_in(Home::Part) {
            if chosen.get(file as usize) != Some(&true) {
                self.move_file(division, file, Home::Aside)?;
            }
        }
        match division.settled {
            None => self.settle_all(division)?,
            Some(_) => self.settle_each(division)?,
        }
        self.sync_names()?;
        self.remove_folder(division.part.take(), &self.place.part_name)?;
        for file in 0..self.content.file_count() {
            match division.homes[file as usize] {
                Home::Settled(ABSENT) => {
                    let identity = self.identity_in(division, file)?;
                    division.homes[file as usize] = Home::Settled(identity);
                }
                Home::Settled(known) => {
                    let now = self.still_settled(division, file, known)?;
                    division.homes[file as usize] = Home::Settled(now);
                }
                _ => (),
            }
        }
        self.open.clear();
        Ok(division.settled_identities())
    }

    /// Makes a share whole of which every file is settled.
    pub(super) fn finish_divided(&self) -> Result<Identities, StoreError> {
        let all = vec![true; self.content.file_count() as usize];
        let identities = self.settle(&all)?;
        self.make_empty_folders()?;
        let aside = self
            .division_mut()
            .as_mut()
            .and_then(|division| division.aside.take());
        self.remove_folder(aside, &self.aside_name())?;
        self.sync_names()?;
        *self.state_mut() = State::Whole(identities.clone());
        Ok(identities)
    }

    /// Whether only some files were ever wanted.
    pub fn is_divided(&self) -> bool {
        self.division().is_some()
    }

    /// Makes sure that a file that chunks bring is somewhere.
    pub(super) fn ensure_home(&self, file: u32) -> Result<(), StoreError> {
        let is_absent =
            |division: &Division| division.homes.get(file as usize) == Some(&Home::Absent);
        if !self.division().as_ref().is_some_and(is_absent) {
            return Ok(());
        }
        let mut division = self.division_mut();
        if let Some(division) = division.as_mut().filter(|division| is_absent(division)) {
            let folder = self.folder(division, Home::Aside)?;
            self.create(&folder, file, Home::Aside)?;
            self.note_home(division, file, Home::Aside);
        }
        Ok(())
    }

    /// Where a file is, when the share is divided.
    pub(super) fn home(&self, file: u32) -> Option<Home> {
        let division = self.division();
        division.as_ref()?.homes.get(file as usize).copied()
    }

    /// Opens a file of a divided share; `None` when the share is none.
    pub(super) fn open_divided_file(&self, file: u32) -> Option<Result<File, StoreError>> {
        let division = self.division();
        let division = division.as_ref()?;
        let home = division.homes.get(file as usize).copied();
        let home = home.unwrap_or(Home::Absent);
        let how = match home {
            Home::Settled(_) => Open::Read,
            _ => Open::Write,
        };
        let path = self.path_in(home, file);
        let opened = match division.open_folder_of(home) {
            Some(folder) => self.disk.open(folder, self.relative_path(file), how),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        Some(opened.map_err(|source| StoreError::at(&path)(source).unless_gone(&path)))
    }

    /// [`ABSENT`] for a file of a divided share that is nowhere, and `None` for every other.
    pub(super) fn absent_identity(&self, file: u32) -> Option<FileIdentity> {
        (self.home(file)? == Home::Absent).then_some(ABSENT)
    }

    /// The path of a file of a divided share, for people.
    pub(super) fn divided_path(&self, file: u32) -> Option<PathBuf> {
        // Whoever moves files asks for paths too, and knows the homes better.
        let division = self.division.try_read().ok()?;
        let home = division.as_ref()?.homes.get(file as usize).copied()?;
        Some(self.path_in(home, file))
    }

    /// Removes what is not settled.
    pub(super) fn discard_divided(&self, note: &mut dyn FnMut(&Path, io::Result<()>)) -> bool {
        let mut division = self.division_mut();
        let Some(division) = division.as_mut() else {
            return false;
        };
        let part = (division.part.take(), &self.place.part_name);
        let aside = (division.aside.take(), &self.aside_name());
        for (folder, name) in [part, aside] {
            if let Some(folder) = folder {
                self.remove_entries(&folder, note);
                let removed = self.disk.rmdir(&self.place.parent, Path::new(name));
                note(Path::new(""), removed);
            }
        }
        let is_settled = |home: &Home| matches!(home, Home::Settled(_));
        let homes = division.homes.iter_mut();
        homes
            .filter(|home| !is_settled(home))
            .for_each(|home| *home = Home::Absent);
        true
    }

    /// Whether the `.part` folder has to be there.
    pub(super) fn needs_part(&self) -> bool {
        let division = self.division();
        let needs = |division: &Division| division.files_in(Home::Part).next().is_some();
        division.as_ref().is_none_or(needs)
    }

    /// The share as it is before it is divided: everything that there is in the `.part` folder.
    fn divide(&self) -> Result<Division, StoreError> {
        let part = self.open_folder(&self.place.part_name)?;
        let home = |file| match &part {
            Some(folder) if self.is_packed(file) && !self.is_there(folder, file)? => {
                Ok(Home::Absent)
            }
            _ => Ok(Home::Part),
        };
        let homes: Result<_, StoreError> = (0..self.content.file_count()).map(home).collect();
        Ok(Division {
            homes: homes?,
            part,
            aside: self.open_folder(&self.aside_name())?,
            settled: None,
            is_mended: true,
        })
    }

    /// Where a file of a share is that was left by a former process.
    fn find(
        &self,
        division: &Division,
        file: u32,
        (chosen, settled): (&[bool], Option<&Identities>),
    ) -> Result<Home, StoreError> {
        let known = settled.and_then(|known| known.0.get(file as usize));
        if let Some(known) = known.filter(|known| **known != ABSENT) {
            let path = self.path_in(Home::Settled(*known), file);
            let changed = || StoreError::Changed { path: path.clone() };
            let folder = division.settled.as_ref().ok_or_else(changed)?;
            let opened = self.disk.open(folder, self.relative_path(file), Open::Read);
            let opened = opened.map_err(|error| StoreError::at(&path)(error).unless_gone(&path))?;
            let now = self.disk.identity(&opened).map_err(StoreError::at(&path))?;
            if now == *known {
                return Ok(Home::Settled(now));
            }
            // It may only have been touched.
            return match self.find_settled(folder, file)? {
                Home::Absent => Err(changed()),
                home => Ok(home),
            };
        }
        for (home, folder) in [(Home::Part, &division.part), (Home::Aside, &division.aside)] {
            if let Some(folder) = folder
                && self.is_there(folder, file)?
            {
                return Ok(home);
            }
        }
        let is_chosen = chosen.get(file as usize) == Some(&true);
        match &division.settled {
            Some(folder) if is_chosen => self.find_settled(folder, file),
            _ => Ok(Home::Absent),
        }
    }

    fn check_space(&self, division: &Division, chosen: &[bool]) -> Result<(), StoreError> {
        let is_new = |file: &u32| {
            let is_absent = division.homes[*file as usize] == Home::Absent;
            is_absent && chosen.get(*file as usize) == Some(&true)
        };
        let new = (0..self.content.file_count()).filter(is_new);
        let needed = new.map(|file| self.size_of(file)).sum();
        if needed == 0 {
            return Ok(());
        }
        let parent = &self.place.parent;
        let path = &self.place.parent_path;
        let free = self.disk.free_bytes(parent).map_err(StoreError::at(path))?;
        if free < needed {
            let path = path.clone();
            return Err(StoreError::NoSpace { path, needed, free });
        }
        Ok(())
    }

    fn is_there(&self, folder: &Folder, file: u32) -> Result<bool, StoreError> {
        match self.disk.exists(folder, self.relative_path(file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            found => found.map_err(StoreError::at(&self.path_in(Home::Part, file))),
        }
    }

    fn size_of(&self, file: u32) -> u64 {
        self.content.file_size(file).unwrap_or_default()
    }

    fn relative_path(&self, file: u32) -> &Path {
        let path = self.content.file_path(file);
        Path::new(path.map_or("", |path| path.as_str()))
    }

    fn path_in(&self, home: Home, file: u32) -> PathBuf {
        let aside = self.aside_name();
        let folder = match home {
            Home::Aside => &aside,
            Home::Settled(_) => &self.place.name,
            Home::Part | Home::Absent => &self.place.part_name,
        };
        let folder = self.place.parent_path.join(folder);
        folder.join(self.relative_path(file))
    }

    /// Named by the content id too, so that nobody else's folder has that name.
    fn aside_name(&self) -> OsString {
        OsString::from(format!(
            ".{}.aside",
            stem(&self.place.name, &self.content, ".aside".len() + 1)
        ))
    }

    fn division(&self) -> RwLockReadGuard<'_, Option<Division>> {
        self.division.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn division_mut(&self) -> RwLockWriteGuard<'_, Option<Division>> {
        self.division
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Division {
    fn empty(content: &Content) -> Division {
        Division {
            homes: vec![Home::Absent; content.file_count() as usize],
            part: None,
            aside: None,
            settled: None,
            is_mended: false,
        }
    }

    fn open_folder_of(&self, home: Home) -> Option<&Folder> {
        match home {
            Home::Absent => None,
            Home::Part => self.part.as_ref(),
            Home::Aside => self.aside.as_ref(),
            Home::Settled(_) => self.settled.as_ref(),
        }
    }

    /// The files that are there now.
    fn files_in(&self, home: Home) -> impl Iterator<Item = u32> + use<> {
        let files = (0u32..).zip(&self.homes).filter(|(_, it)| **it == home);
        let files: Vec<u32> = files.map(|(file, _)| file).collect();
        files.into_iter()
    }
}

#[cfg(test)]
#[path = "division_tests.rs"]
mod tests;
