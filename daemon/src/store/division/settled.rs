//! Files of a divided tree that have their final names: what they were when they got those, and whether they
//! are that still.

use std::path::Path;
use std::sync::Arc;

use warren_proto::content::{ChunkIndex, Content};

use super::{ABSENT, Division, Home};
use crate::store::changes::Differing;
use crate::store::disk::{Disk, FileIdentity, Folder, Open};
use crate::store::error::StoreError;
use crate::store::files::{Identities, ShareFiles, State};
use crate::store::partial::place;

/// Stands for a file that is said to be there. What has bytes was written once, so that no file is this.
const CLAIMED: FileIdentity = FileIdentity { inode: 1, ..ABSENT };

impl ShareFiles {
    /// Reads again the files that were settled, and tells which of them are what they should be. The others
    /// are put among those that are being fetched.
    ///
    /// # Errors
    ///
    /// Whatever the disk says.
    pub fn check_settled_files(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
        settled: &Identities,
    ) -> Result<Identities, StoreError> {
        let place = place(disk.as_ref(), path, content)?;
        let files = ShareFiles::new(disk, content.clone(), place, State::Partial);
        let mut division = Division::empty(content);
        division.part = files.open_folder(&files.place.part_name)?;
        division.settled = files.open_folder(&files.place.name)?;
        let Some(folder) = division.settled.as_ref() else {
            return Ok(Identities::none());
        };
        let folder = folder.try_clone().map_err(StoreError::at(path))?;
        let known = (0..content.file_count()).filter(|file| settled.has(*file));
        for file in known {
            let home = files.find_settled(&folder, file)?;
            let is_wrong = home == Home::Absent && files.is_there(&folder, file)?;
            division.homes[file as usize] = home;
            if is_wrong {
                division.homes[file as usize] = Home::Settled(ABSENT);
                files.move_file(&mut division, file, Home::Part)?;
            }
        }
        files.sync_names()?;
        // Though none may be left, the folder is ours.
        Ok(Identities(division.homes.iter().map(identity_of).collect()))
    }

    /// What the files are that have their final names, once only some were wanted.
    pub fn settled(&self) -> Option<Identities> {
        let division = self.division();
        division.as_ref().map(Division::settled_identities)
    }

    /// A file that has its final name is the same as before and is this now.
    pub(in crate::store) fn settle_anew(&self, file: u32, now: FileIdentity) {
        let mut division = self.division_mut();
        let homes = division.as_mut().map(|division| &mut division.homes);
        let home = homes.and_then(|homes| homes.get_mut(file as usize));
        if let Some(Home::Settled(known)) = home {
            *known = now;
        }
    }

    /// Those that have their final names and are not as they were noted.
    pub(in crate::store) fn differing_settled(&self) -> Differing {
        let mut differing = Differing::default();
        let division = self.division();
        let Some(Division {
            homes,
            settled: Some(folder),
            ..
        }) = &*division
        else {
            return differing;
        };
        let is_at_its_path = self.is_at_its_path(folder);
        for (file, home) in (0..).zip(homes) {
            match home {
                Home::Settled(_) if !is_at_its_path => differing.changed.push(file),
                Home::Settled(known) => {
                    let now = self.disk.identity_at(folder, self.relative_path(file));
                    differing.look(file, *known, now);
                }
                _ => (),
            }
        }
        differing
    }

    /// Whether all files of the chunk have their final names, and so are known to be what they were.
    pub fn is_settled(&self, chunk: ChunkIndex) -> bool {
        let division = self.division();
        let Some(division) = &*division else {
            return false;
        };
        let mut extents = self.content.layout.extents(chunk);
        extents.all(|at| matches!(division.homes.get(at.file as usize), Some(Home::Settled(_))))
    }

    /// The daemon may have ended between the move of a file and the note of it: what lies there is the
    /// file if it hashes to it.
    pub(super) fn find_settled(&self, folder: &Folder, file: u32) -> Result<Home, StoreError> {
        let Ok(opened) = self.disk.open(folder, self.relative_path(file), Open::Read) else {
            return Ok(Home::Absent);
        };
        let path = self.path_in(Home::Settled(ABSENT), file);
        let identity = self.disk.identity(&opened);
        let identity = identity.map_err(StoreError::at(&path))?;
        if Some(identity.size) != self.content.file_size(file) {
            return Ok(Home::Absent);
        }
        let hash = self
            .hash_of(&opened, |_| ())
            .map_err(StoreError::at(&path))?;
        let is_it = self.content.file_root(file) == Some(hash);
        Ok(match is_it {
            true => Home::Settled(identity),
            false => Home::Absent,
        })
    }

    pub(super) fn identity_in(
        &self,
        division: &Division,
        file: u32,
    ) -> Result<FileIdentity, StoreError> {
        let path = self.path_in(Home::Settled(ABSENT), file);
        let Some(folder) = &division.settled else {
            return Err(StoreError::Missing { path });
        };
        let opened = self.disk.open(folder, self.relative_path(file), Open::Read);
        let opened = opened.map_err(StoreError::at(&path))?;
        self.disk.identity(&opened).map_err(StoreError::at(&path))
    }

    /// What a file is that was settled before, which is what it was then; one that was only touched is read.
    pub(super) fn still_settled(
        &self,
        division: &Division,
        file: u32,
        known: FileIdentity,
    ) -> Result<FileIdentity, StoreError> {
        if let Ok(now) = self.identity_in(division, file)
            && now == known
        {
            return Ok(now);
        }
        let folder = division.settled.as_ref();
        let found = folder.map(|folder| self.find_settled(folder, file));
        match found.transpose()? {
            Some(Home::Settled(now)) => Ok(now),
            _ => Err(StoreError::Changed {
                path: self.path_in(Home::Settled(known), file),
            }),
        }
    }
}

impl Division {
    pub(super) fn settled_identities(&self) -> Identities {
        let is_settled = |home: &Home| matches!(home, Home::Settled(_));
        if !self.homes.iter().any(is_settled) {
            return Identities::none();
        }
        Identities(self.homes.iter().map(identity_of).collect())
    }
}

fn identity_of(home: &Home) -> FileIdentity {
    match home {
        Home::Settled(identity) => *identity,
        _ => ABSENT,
    }
}

impl Identities {
    /// Of no file.
    pub fn none() -> Identities {
        Identities(Vec::new())
    }

    /// Of files that are said to be there, whatever they are; to be looked at with
    /// [`ShareFiles::check_settled_files`].
    pub fn claimed(files: &[bool]) -> Identities {
        let one = |is_there: &bool| if *is_there { CLAIMED } else { ABSENT };
        Identities(files.iter().map(one).collect())
    }

    /// Of the same files, which are to be looked at.
    pub fn as_claims(&self) -> Identities {
        let is_there: Vec<bool> = self.0.iter().map(|it| *it != ABSENT).collect();
        Identities::claimed(&is_there)
    }

    /// Whether any of them is only said to be there.
    pub fn is_claimed(&self) -> bool {
        self.0.contains(&CLAIMED)
    }

    /// Whether this file was there.
    pub fn has(&self, file: u32) -> bool {
        let identity = self.0.get(file as usize);
        identity.is_some_and(|identity| *identity != ABSENT)
    }
}
