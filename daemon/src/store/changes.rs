//! Which files of a complete share are no longer what was shared: found by asking for each what it is, or by
//! reading it.
//!
//! Nothing is opened to ask, so that thousands of files can be gone through again and again. That tells of a file
//! of another size that it is another one; of one that was only touched ([`Touched`]), reading it tells.
//!
//! Not here: what a read finds (`store::files`), reading what was touched (`store::rereading`), folders of which
//! only some files were wanted (`store::division`).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use warren_proto::content::Content;

use super::disk::{Disk, FileIdentity, Folder, Open};
use super::division::ABSENT;
use super::error::StoreError;
use super::files::{Identities, ShareFiles, State, VERIFY_BYTES, is_gone};
use crate::memory::aligned;

/// Files of a complete share that are not as they were noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differing {
    /// Those that cannot be what was shared: they are gone, or of another size.
    pub changed: Vec<u32>,
    /// Those that may be.
    pub touched: Vec<Touched>,
}

/// A file of the size that it had, but of other times, another mode or inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Its number in the listing.
    pub file: u32,
    /// What it is now.
    pub now: FileIdentity,
}

/// What a look at a file tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Same,
    /// Of its bytes nothing is known any more.
    Touched,
    Changed,
}

impl Look {
    /// Of one that was noted as `known`; [`ABSENT`] stands for what was read and found wrong.
    fn of(known: FileIdentity, now: FileIdentity) -> Look {
        match now == known {
            true => Look::Same,
            false if known != ABSENT && now.size == known.size => Look::Touched,
            false => Look::Changed,
        }
    }
}

impl Differing {
    /// Whether every file is as it was noted.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.touched.is_empty()
    }

    /// Takes in what a look at a file has found. Of which the disk does not tell, that counts as what it was.
    pub(super) fn look(&mut self, file: u32, known: FileIdentity, now: io::Result<FileIdentity>) {
        match now.map(|now| (Look::of(known, now), now)) {
            Ok((Look::Same, _)) => (),
            Ok((Look::Touched, now)) => self.touched.push(Touched { file, now }),
            Ok((Look::Changed, _)) => self.changed.push(file),
            Err(error) if is_gone(&error) => self.changed.push(file),
            Err(_) => (),
        }
    }
}

impl ShareFiles {
    /// Those of these files that are no longer what they were when they were hashed or finished, by what lies
    /// at their paths now; all of them have changed when the share is no longer at its path. Of a share that is
    /// not complete, or of which only some files were wanted, none.
    ///
    /// A file of which the disk does not tell counts as what it was: whoever reads it finds out.
    pub fn differing_among(&self, files: Range<u32>) -> Differing {
        let mut differing = Differing::default();
        let state = self.state();
        let State::Whole(known) = &*state else {
            return differing;
        };
        if self.is_divided() {
            return differing;
        }
        let root = self.place.root.as_ref();
        if !root.map_or_else(|| self.is_beside_its_path(), |it| self.is_at_its_path(it)) {
            differing.changed.extend(files);
            return differing;
        }
        for file in files {
            let known = known.of(file).unwrap_or(ABSENT);
            let (folder, path) = self.relative(&state, file);
            differing.look(file, known, self.disk.identity_at(folder, path));
        }
        differing
    }

    /// The same of all files; of a share of which only some were wanted, of those.
    pub fn differing(&self) -> Differing {
        match self.is_divided() {
            true => self.differing_settled(),
            false => self.differing_among(0..self.content.file_count()),
        }
    }

    /// Whether it is complete, and always was wanted whole.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(*self.state(), State::Whole(_)) && !self.is_divided()
    }

    /// Whether its path still leads to this folder, which was opened there, and not only to one above it: either
    /// may have been moved away.
    pub(super) fn is_at_its_path(&self, root: &Folder) -> bool {
        let place = &self.place;
        let named = self.disk.identity_at(&place.parent, Path::new(&place.name));
        self.is_beside_its_path() && is_same(named.map(|it| it.inode), self.inode_of(root))
    }

    /// Whether the path of the folder that it is in still leads to that.
    fn is_beside_its_path(&self) -> bool {
        let place = &self.place;
        let at_path = self.disk.open_folder(&place.parent_path);
        let at_path = at_path.and_then(|folder| self.inode_of(&folder));
        is_same(at_path, self.inode_of(&place.parent))
    }

    fn inode_of(&self, folder: &Folder) -> io::Result<u64> {
        let identity = self.disk.identity_at(folder, Path::new("."));
        identity.map(|it| it.inode)
    }

    /// Opens what was shared, of which files are no longer what they were: these are told.
    ///
    /// # Errors
    ///
    /// [`StoreError::Changed`] when the folder itself is not there, and whatever the disk says.
    pub fn open_differing(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
        identities: &Identities,
    ) -> Result<(ShareFiles, Differing), StoreError> {
        let files = ShareFiles::open_named(disk, path, content, identities.clone())?;
        let differing = files.differing();
        Ok((files, differing))
    }

    /// Opens a folder that was shared and reads every file of it, whatever was known of them. Those that are
    /// not what they should be are told; what the others are now is what they are held against from then on.
    /// `verified_bytes` follows.
    ///
    /// # Errors
    ///
    /// As [`Self::open_differing`].
    pub fn open_read(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
        verified_bytes: &AtomicU64,
    ) -> Result<(ShareFiles, Identities, Vec<u32>), StoreError> {
        let files = ShareFiles::open_named(disk, path, content, Identities::none())?;
        let (mut identities, mut wrong) = (Vec::new(), Vec::new());
        for file in 0..content.file_count() {
            let right = files.read_right(file, verified_bytes)?;
            if right.is_none() {
                wrong.push(file);
            }
            identities.push(right.unwrap_or(ABSENT));
        }
        let identities = Identities(identities);
        *files.state_mut() = State::Whole(identities.clone());
        Ok((files, identities, wrong))
    }

    /// Reads a file; what it is, if that is what was shared.
    pub(super) fn read_right(
        &self,
        file: u32,
        verified_bytes: &AtomicU64,
    ) -> Result<Option<FileIdentity>, StoreError> {
        let state = self.state();
        let path = self.file_path(&state, file);
        let (folder, relative) = self.relative(&state, file);
        let opened = match self.disk.open(folder, relative, Open::Read) {
            Err(error) if is_gone(&error) => return Ok(None),
            opened => opened.map_err(StoreError::at(&path))?,
        };
        let before = self.disk.identity(&opened).map_err(StoreError::at(&path))?;
        if Some(before.size) != self.content.file_size(file) {
            return Ok(None);
        }
        let read = |bytes| {
            verified_bytes.fetch_add(bytes, Ordering::Relaxed);
        };
        let hash = self.hash_of(&opened, read).map_err(StoreError::at(&path))?;
        let after = self.disk.identity(&opened).map_err(StoreError::at(&path))?;
        let is_right = self.content.file_root(file) == Some(hash) && before == after;
        Ok(is_right.then_some(after))
    }

    /// The hash of all of an open file. `read` is told how many more bytes were.
    pub(super) fn hash_of(&self, file: &File, read: impl Fn(u64)) -> io::Result<[u8; 32]> {
        let hash = self.hash_while(file, |bytes| {
            read(bytes);
            true
        })?;
        Ok(hash.expect("nothing ends it before the end of the file"))
    }

    /// The same for as long as `go_on` is true, which is told how many more bytes were read; `None` when it ends
    /// before the file does.
    pub(super) fn hash_while(
        &self,
        file: &File,
        go_on: impl Fn(u64) -> bool,
    ) -> io::Result<Option<[u8; 32]>> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = aligned::zeros(VERIFY_BYTES);
        let mut offset = 0;
        loop {
            match self.disk.pread(file, &mut buffer, offset) {
                Ok(0) => return Ok(Some(*hasher.finalize().as_bytes())),
                Ok(len) => {
                    hasher.update(&buffer[..len]);
                    offset += len as u64;
                    if !go_on(len as u64) {
                        return Ok(None);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Identities {
    /// Of files of which only their sizes are known: whatever is there of these counts as touched, and is read.
    pub(crate) fn unread(content: &Content) -> Identities {
        let of_size = |file| FileIdentity {
            size: content.file_size(file).unwrap_or_default(),
            // An empty one is not as if it were absent, either.
            inode: u64::MAX,
            ..ABSENT
        };
        Identities((0..content.file_count()).map(of_size).collect())
    }

    /// What this file was.
    pub(super) fn of(&self, file: u32) -> Option<FileIdentity> {
        self.0.get(file as usize).copied()
    }
}

/// Whether both are the same folder, as far as the disk tells; what is not there is none.
fn is_same(one: io::Result<u64>, other: io::Result<u64>) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one == other,
        (Err(error), _) | (_, Err(error)) => !is_gone(&error),
    }
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
