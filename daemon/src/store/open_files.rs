//! The files of one share that are open, few at a time: a tree may have a million.

use std::fs::File;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files of one share open at once. A soft limit of 1,024 descriptors then carries ten busy trees
/// beside a few hundred connections' sockets and single files.
const OPEN_FILES: usize = 64;

/// A file that is open. Writers take turns: the kernel lets one write at a time, and those that wait for that
/// keep their processors busy.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    writing: Mutex<()>,
}

impl OpenFile {
    /// A file that nobody else has open.
    pub(super) fn new(file: File) -> OpenFile {
        let writing = Mutex::default();
        OpenFile { file, writing }
    }

    /// Waits for its turn to write.
    pub(super) fn take_turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.writing)
    }
}

impl Deref for OpenFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

/// The last used files of one share, by their number.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    /// Least recently used first.
    files: Mutex<Vec<(u32, Arc<OpenFile>)>>,
}

impl OpenFiles {
    /// The file of this number, opened by `open` unless it still is.
    pub(super) fn get_or_open<E>(
        &self,
        number: u32,
        open: impl FnOnce() -> Result<File, E>,
    ) -> Result<Arc<OpenFile>, E> {
        if let Some(file) = self.take(number) {
            self.put(number, file.clone());
            return Ok(file);
        }
        let file = Arc::new(OpenFile::new(open()?));
        self.put(number, file.clone());
        Ok(file)
    }

    /// Closes every file as soon as nobody uses it.
    pub(super) fn clear(&self) {
        lock(&self.files).clear();
    }

    /// Closes the file of this number as soon as nobody uses it.
    pub(super) fn forget(&self, number: u32) {
        drop(self.take(number));
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        lock(&self.files).len()
    }

    fn take(&self, number: u32) -> Option<Arc<OpenFile>> {
        let mut files = lock(&self.files);
        let at = files.iter().position(|(open, _)| *open == number)?;
        Some(files.remove(at).1)
    }

    fn put(&self, number: u32, file: Arc<OpenFile>) {
        let mut files = lock(&self.files);
        // Two threads may have opened it at once; one handle is enough.
        files.retain(|(open, _)| *open != number);
        if files.len() == OPEN_FILES {
            files.remove(0);
        }
        files.push((number, file));
    }
}

/// Locks even after a panic elsewhere: what the store guards is changed in single steps.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_used_files_stay_open() {
        let files = OpenFiles::default();
        let open = |number| files.get_or_open(number, tempfile::tempfile).unwrap();
        for number in 0..OPEN_FILES as u32 {
            open(number);
        }
        open(0);
        open(1000);
        let closed = |number| files.take(number).is_none();
        assert_eq!(files.count(), OPEN_FILES);
        assert!(closed(1) && !closed(0) && !closed(2) && !closed(1000));
    }
}
