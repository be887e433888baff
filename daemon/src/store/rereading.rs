//! Files that were touched, read again where they lie: only that tells whether they are what was shared.
//!
//! Nothing is written to them. What is right is believed from then on as it is now, and what is not stays what it
//! is: whoever has changed it may want it so.
//!
//! Not here: which files were touched (`store::changes`), when they are read and what becomes of a share
//! meanwhile (`share::rereading`).

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::changes::Touched;
use super::disk::FileIdentity;
use super::division::Home;
use super::error::StoreError;
use super::files::{Identities, ShareFiles, State};

/// How far a reading is, and the way to end it; shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Reading {
    read_bytes: AtomicU64,
    is_over: AtomicBool,
}

impl Reading {
    /// Bytes read so far.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Makes it end after the few bytes it is at.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::end`] was called.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn goes_on(&self, bytes: u64) -> bool {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        !self.is_over()
    }
}

/// What the files of a complete share are held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    /// All of them.
    Whole(Identities),
    /// Those that were wanted.
    Settled(Identities),
}

/// What a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reread {
    /// What was shared.
    Right,
    /// Something else, or nothing.
    Wrong,
    /// It was touched once more before it was read, or meanwhile.
    Again(Touched),
    /// The reading was ended.
    Ended,
}

impl ShareFiles {
    /// Reads a touched file. If it is what was shared, this is what it is held against from now on.
    ///
    /// It must not have been touched for longer than the clock of the file system takes for a tick: who writes
    /// to it later then changes its times.
    ///
    /// # Errors
    ///
    /// When it cannot be opened or read.
    pub fn reread(&self, touched: Touched, reading: &Reading) -> Result<Reread, StoreError> {
        let file = touched.file;
        let Some(opened) = self.open_if_there(file)? else {
            return Ok(Reread::Wrong);
        };
        let identity = || {
            let now = self.disk.identity(&opened);
            now.map_err(|source| StoreError::at(&self.file_path(&self.state(), file))(source))
        };
        let before = identity()?;
        if self.is_noted(file, before) {
            return Ok(Reread::Right);
        }
        if before != touched.now {
            return Ok(self.again(file, before));
        }
        let hash = self.hash_while(&opened, |bytes| reading.goes_on(bytes));
        let hash =
            hash.map_err(|source| StoreError::at(&self.file_path(&self.state(), file))(source))?;
        let after = identity()?;
        match hash {
            None => Ok(Reread::Ended),
            Some(_) if after != before => Ok(self.again(file, after)),
            Some(hash) if self.content.file_root(file) == Some(hash) => {
                self.adopt(file, after);
                Ok(Reread::Right)
            }
            Some(_) => Ok(Reread::Wrong),
        }
    }

    /// Whether a file is what was shared at this moment, which is noted nowhere. One that cannot be read is not.
    pub fn is_right_now(&self, file: u32) -> bool {
        let Ok(Some(opened)) = self.open_if_there(file) else {
            return false;
        };
        let hash = self.hash_of(&opened, |_| ()).ok();
        hash.is_some() && hash == self.content.file_root(file)
    }

    /// What all files of a complete share are held against; of one of which only some were wanted, those.
    pub fn noted(&self) -> Noted {
        match &*self.state() {
            State::Whole(identities) => Noted::Whole(identities.clone()),
            _ => Noted::Settled(self.settled().unwrap_or_else(Identities::none)),
        }
    }

    /// A file as it lies there now, whatever was opened before; `None` when it is gone. Others go on reading
    /// meanwhile.
    fn open_if_there(&self, file: u32) -> Result<Option<File>, StoreError> {
        match self.open_anew(&self.state(), file) {
            Err(StoreError::Changed { .. }) => Ok(None),
            opened => opened.map(Some),
        }
    }

    fn is_noted(&self, file: u32, now: FileIdentity) -> bool {
        let noted = match (&*self.state(), self.home(file)) {
            (_, Some(Home::Settled(known))) => Some(known),
            (State::Whole(identities), None) => identities.of(file),
            _ => None,
        };
        noted == Some(now)
    }

    fn again(&self, file: u32, now: FileIdentity) -> Reread {
        match Some(now.size) == self.content.file_size(file) {
            true => Reread::Again(Touched { file, now }),
            false => Reread::Wrong,
        }
    }

    /// Believes a file to be what was shared as it is now. What is still open of it may be another one.
    fn adopt(&self, file: u32, now: FileIdentity) {
        let mut state = self.state_mut();
        if let State::Whole(identities) = &mut *state
            && let Some(known) = identities.0.get_mut(file as usize)
        {
            *known = now;
        }
        self.settle_anew(file, now);
        self.open.forget(file);
    }
}

#[cfg(test)]
#[path = "rereading_tests.rs"]
mod tests;
