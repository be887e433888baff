//! Small files, several of which share a chunk: made when their bytes come, and open for no longer than that
//! takes.
//!
//! A file larger than a chunk is there from the start at its full length, and stays open while it is in use. Of
//! files that come whole, ten thousand at a time, each such step costs more than the bytes. Until it comes such
//! a file is nowhere, and its identity is [`ABSENT`]. Once only some files of a share are wanted, all that are
//! wanted are made at once (`store::division`).
//!
//! That two names of a share are one to the file system is noticed when the second is made. So where that may
//! be, all files are made at the start, before anything is fetched.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use warren_proto::content::Content;

use super::cores;
use super::disk::{FileIdentity, Folder, Open};
use super::division::ABSENT;
use super::error::StoreError;
use super::files::{Identities, ShareFiles, State};
use super::open_files::OpenFile;

/// The folder that a thread has looked into last: files that lie together follow each other.
#[derive(Default)]
struct LastFolder {
    path: String,
    folder: Option<Folder>,
}

impl ShareFiles {
    /// Whether the file is one of those that share a chunk.
    pub(super) fn is_packed(&self, file: u32) -> bool {
        let size = self.content.file_size(file).unwrap_or_default();
        let most = u64::from(self.content.layout.chunk_bytes());
        self.content.listing.is_some() && (1..=most).contains(&size)
    }

    /// Whether the file is made only when its bytes come.
    pub(super) fn is_made_late(&self, state: &State, file: u32) -> bool {
        let is_unfinished = matches!(state, State::Partial | State::Doubtful(_));
        let is_distinct = || *self.is_distinct.get_or_init(|| is_distinct(&self.content));
        is_unfinished && self.is_packed(file) && !self.is_divided() && is_distinct()
    }

    /// Whether the file is made when its bytes come, and nothing has its name yet.
    pub(super) fn is_still_to_come(&self, state: &State, file: u32) -> Result<bool, StoreError> {
        if !self.is_made_late(state, file) {
            return Ok(false);
        }
        let (folder, relative) = self.relative(state, file);
        match self.disk.exists(folder, relative) {
            Err(error) if is_missing(&error) => Ok(true),
            found => found
                .map(|is_there| !is_there)
                .map_err(StoreError::at(&self.file_path(state, file))),
        }
    }

    /// The file, opened to be written, and made if need be.
    pub(super) fn open_to_write(
        &self,
        state: &State,
        file: u32,
    ) -> Result<Arc<OpenFile>, StoreError> {
        if !self.is_made_late(state, file) {
            return self.open_file(state, file);
        }
        let (folder, relative) = self.relative(state, file);
        let opened = match self.disk.open(folder, relative, Open::Create) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.open(folder, relative, Open::Write)
            }
            made => {
                self.names_changed.store(true, Ordering::Relaxed);
                made
            }
        };
        let path = || self.file_path(state, file);
        let opened = opened.map_err(|error| StoreError::at(&path())(error).unless_gone(&path()))?;
        Ok(Arc::new(OpenFile::new(opened)))
    }

    /// The files that are made at the start.
    pub(super) fn files_made_early(&self) -> Vec<u32> {
        let files = 0..self.content.file_count();
        files
            .filter(|file| !self.is_made_late(&State::Partial, *file))
            .collect()
    }

    /// The file, opened to be read.
    pub(super) fn open_to_read(
        &self,
        state: &State,
        file: u32,
    ) -> Result<Arc<OpenFile>, StoreError> {
        match self.is_packed(file) {
            true => self.open_anew(state, file).map(OpenFile::new).map(Arc::new),
            false => self.open_file(state, file),
        }
    }

    /// What every file is now.
    pub(super) fn identities(&self, state: &State) -> Result<Identities, StoreError> {
        let count = self.content.file_count();
        let all = match &self.place.root {
            Some(root) if !self.is_divided() => {
                cores::for_each_with(count, |last: &mut LastFolder, file| {
                    self.identity_beneath(state, (root, last), file)
                })
            }
            _ => cores::for_each(count, |file| self.identity(state, file)),
        };
        all.map(Identities)
    }

    /// What a file of a tree is now, without opening it.
    fn identity_beneath(
        &self,
        state: &State,
        (root, last): (&Folder, &mut LastFolder),
        file: u32,
    ) -> Result<FileIdentity, StoreError> {
        let relative = self.content.file_path(file).map_or("", |it| it.as_str());
        let (parent, name) = relative.rsplit_once('/').unwrap_or(("", relative));
        let found = self.look_into(root, parent, last).and_then(|folder| {
            let folder = folder.unwrap_or(root);
            self.disk.identity_at(folder, Path::new(name))
        });
        match found {
            Err(error) if is_missing(&error) && self.is_made_late(state, file) => Ok(ABSENT),
            found => found.map_err(|error| {
                let path = self.file_path(state, file);
                StoreError::at(&path)(error).unless_gone(&path)
            }),
        }
    }

    /// The folder of this path; none for the root itself.
    fn look_into<'l>(
        &self,
        root: &Folder,
        path: &str,
        last: &'l mut LastFolder,
    ) -> io::Result<Option<&'l Folder>> {
        if last.path != path {
            last.folder = None;
            last.folder = match path {
                "" => None,
                path => Some(self.disk.open_folder_beneath(root, Path::new(path))?),
            };
            path.clone_into(&mut last.path);
        }
        Ok(last.folder.as_ref())
    }
}

/// Whether no two paths can be one to any file system: they differ in more than their case, and have nothing in
/// them that some know several spellings of (letters with accents, short names with a tilde) or leave out
/// (dots and spaces at an end).
fn is_distinct(content: &Content) -> bool {
    let paths = content.listing.iter().flat_map(|it| it.entries());
    let mut seen = BTreeSet::new();
    let is_plain = |part: &str| {
        let is_known = |byte: u8| byte.is_ascii_graphic() && byte != b'~' || byte == b' ';
        part.bytes().all(is_known) && !part.ends_with(['.', ' '])
    };
    paths
        .map(|entry| entry.path.as_str())
        .all(|path| path.split('/').all(is_plain) && seen.insert(path.to_ascii_lowercase()))
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
#[path = "packed_tests.rs"]
mod tests;
