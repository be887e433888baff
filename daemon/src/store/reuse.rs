//! Takes into a share being downloaded what lies on the disk already, of another version of it.
//!
//! A file that has the same hash is the same wherever it was, and of a large file whatever is at the same place
//! may be. All of it is copied by the system, without a byte written where the file system can share them, and
//! counts only once it was read and verified as a received chunk is.
//!
//! Not here: which share is a version of which (`node::following`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use warren_proto::content::{ChunkIndex, ChunkSet, Content, Expected, Extent};

use super::cores;
use super::disk::{Disk, copy_all};
use super::error::StoreError;
use super::files::{Identities, Place, ShareFiles, State};

/// A version whose bytes may be used, and what it should be.
pub type Source = Arc<ShareFiles>;

/// Which files of the sources may hold which bytes.
struct Index<'a> {
    sources: &'a [Source],
    /// By hash.
    by_root: BTreeMap<[u8; 32], (usize, u32)>,
    /// By path, for each source; one file alone has the empty one.
    by_path: Vec<BTreeMap<&'a str, u32>>,
}

impl ShareFiles {
    /// Opens a share under its own name, whether it is whole or not: as a source alone.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn open_as_source(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
    ) -> Result<ShareFiles, StoreError> {
        let gone = || StoreError::Changed {
            path: path.to_owned(),
        };
        let name = path.file_name().ok_or_else(gone)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        let mut place = Place::open(disk.as_ref(), parent, name, name)?;
        place.open_root(disk.as_ref(), content)?;
        let state = State::Whole(Identities::none());
        Ok(ShareFiles::new(disk, content.clone(), place, state))
    }

    /// Takes all chunks over that the sources have and that are not in `have`, on all processors; tells which
    /// those are. `note` is called for each.
    ///
    /// # Errors
    ///
    /// When this share cannot be written; what is wrong with a source is no error.
    pub fn take_over(
        &self,
        have: &ChunkSet,
        sources: &[Source],
        note: impl Fn(ChunkIndex) + Sync,
    ) -> Result<ChunkSet, StoreError> {
        let index = Index::of(sources);
        let layout = &self.content.layout;
        let found = cores::with_workers(layout.chunk_count(), u32::MAX, |(), number| {
            let chunk = layout.chunk(number);
            let missing = chunk.filter(|chunk| !have.contains(*chunk));
            let found = missing.filter(|chunk| self.take_chunk(*chunk, &index));
            found.into_iter().for_each(&note);
            Ok::<_, StoreError>(found)
        })?;
        let mut taken = ChunkSet::empty(layout.chunk_count());
        for chunk in found.into_iter().flatten() {
            taken.insert(chunk);
        }
        Ok(taken)
    }

    /// Whether the chunk is there now, and right.
    fn take_chunk(&self, chunk: ChunkIndex, index: &Index<'_>) -> bool {
        let extents: Vec<Extent> = self.content.layout.extents(chunk).collect();
        let found = extents.iter().map(|at| index.find(&self.content, at));
        // Of a chunk nothing less than all can be verified.
        let Some(found) = found.collect::<Option<Vec<_>>>() else {
            return false;
        };
        let mut pairs = extents.iter().zip(found);
        pairs.all(|(at, (source, file))| self.copy_from(at, source, file).is_ok())
            && self.verify(chunk).unwrap_or(false)
    }

    fn copy_from(&self, at: &Extent, source: &ShareFiles, file: u32) -> Result<(), StoreError> {
        self.ensure_home(at.file)?;
        let state = self.state();
        self.check_writable(&state)?;
        let (to, from) = (
            self.open_to_write(&state, at.file)?,
            source.open_file(&source.state(), file)?,
        );
        let len = u64::from(at.len);
        let copied = copy_all(self.disk.as_ref(), &from, &to, (at.offset, len));
        copied.map_err(StoreError::at(&self.file_path(&state, at.file)))
    }
}

impl<'a> Index<'a> {
    fn of(sources: &'a [Source]) -> Index<'a> {
        let mut index = Index {
            sources,
            by_root: BTreeMap::new(),
            by_path: Vec::new(),
        };
        for (number, source) in sources.iter().enumerate() {
            let content = source.content();
            let mut paths = BTreeMap::new();
            for file in 0..content.file_count() {
                let root = content.file_root(file);
                if let Some(root) = root {
                    index.by_root.entry(root).or_insert((number, file));
                }
                let path = content.file_path(file);
                paths.insert(path.map_or("", |path| path.as_str()), file);
            }
            index.by_path.push(paths);
        }
        index
    }

    /// Where the bytes of an extent may be, at the same offset of another file.
    fn find(&self, content: &Content, at: &Extent) -> Option<(&'a ShareFiles, u32)> {
        let root = content.file_root(at.file)?;
        if let Some((source, file)) = self.by_root.get(&root) {
            return Some((&*self.sources[*source], *file));
        }
        // Of a small file another hash means that nothing of it can be used.
        let Some(Expected::Subtree { cv, .. }) = content.expected(at) else {
            return None;
        };
        let path = content.file_path(at.file);
        let path = path.map_or("", |path| path.as_str());
        let mut sources = self.sources.iter().zip(&self.by_path);
        sources.find_map(|(source, paths)| {
            let file = *paths.get(path)?;
            let its = Extent { file, ..*at };
            let is_there = match source.content().expected(&its) {
                Some(Expected::Subtree { cv: its, .. }) => its == cv,
                // Divided otherwise: only reading it tells.
                _ => source.content().file_size(file)? >= at.offset + u64::from(at.len),
            };
            is_there.then_some((&**source, file))
        })
    }
}

#[cfg(test)]
#[path = "reuse_tests.rs"]
mod tests;
