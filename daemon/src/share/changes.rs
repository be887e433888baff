//! What of a complete folder is no longer what was shared: which files, and so which chunks.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use warren_proto::content::path::printable;
use warren_proto::content::{ChunkIndex, Content};
use warren_proto::transfer::{Order, Priority, Selection};

use crate::control::model::{ApiError, exit};
use crate::control::wish::path_of;
use crate::control::words::register_anew;

/// The files of a folder that are no longer what was shared. The others are given as before.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    /// Which, at least one.
    files: BTreeSet<u32>,
    /// The first of them by name, in its folder.
    first: String,
    /// Files there are.
    of: u32,
    /// Bytes of the others.
    pub(crate) right_bytes: u64,
    /// Nothing: what was complete is not fetched again unless somebody asks for that.
    pub(crate) selection: Arc<Selection>,
}

impl Changes {
    /// Of these files; `None` when there are none.
    pub(crate) fn new(content: &Content, files: BTreeSet<u32>) -> Option<Changes> {
        let first = *files.first()?;
        let sizes = files.iter().filter_map(|file| content.file_size(*file));
        let wrong_bytes: u64 = sizes.sum();
        let nothing = Selection::new(content, Order::default(), |_| Priority::Skip);
        Some(Changes {
            first: path_of(content, first).to_owned(),
            of: content.file_count(),
            right_bytes: content.size.saturating_sub(wrong_bytes),
            selection: Arc::new(nothing),
            files,
        })
    }

    /// These files and those before.
    pub(crate) fn with(before: Option<&Changes>, files: &[u32]) -> BTreeSet<u32> {
        let before = before.into_iter().flat_map(|it| &it.files);
        before.chain(files).copied().collect()
    }

    /// Whether these files are among its own.
    pub(crate) fn has_all(&self, files: &[u32]) -> bool {
        files.iter().all(|file| self.files.contains(file))
    }

    /// The chunks with bytes of these files.
    pub(crate) fn chunks(&self, content: &Content) -> Vec<ChunkIndex> {
        let layout = &content.layout;
        let chunks = (0..layout.chunk_count()).filter_map(|chunk| layout.chunk(chunk));
        let is_changed = |chunk: &ChunkIndex| {
            let mut extents = layout.extents(*chunk);
            extents.any(|extent| self.files.contains(&extent.file))
        };
        chunks.filter(is_changed).collect()
    }

    /// What is said of the share while it stays so.
    pub(crate) fn note(&self) -> String {
        format!("{}. {HINT}", self.news())
    }

    /// The same without what can be done, which is for who can type it.
    pub(crate) fn news(&self) -> String {
        format!("{}; what lies in the others is given", self.message())
    }

    /// The same for who has just had it verified. What was shared where it lies, at `registered`, can only be put
    /// back or shared anew.
    pub(crate) fn error(&self, registered: Option<&Path>) -> ApiError {
        let hint = registered.map_or(HINT.to_owned(), register_anew);
        ApiError::new("changed", exit::DISK, self.message(), hint)
    }

    fn message(&self) -> String {
        let (count, of, first) = (self.files.len(), self.of, printable(&self.first));
        match count {
            1 => format!("1 of {of} files is no longer what was shared: {first}"),
            _ => format!("{count} of {of} files are no longer what was shared, {first} first"),
        }
    }
}

/// What to do about it.
pub(crate) const HINT: &str = "Put back what was there, then: client verify NAME IDX (of a download, that fetches it again, and \
     keeps what you have changed beside it); or share \
     what is there now: client register PATH IDX";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::{CHUNK_BYTES, Sample, noise};

    #[test]
    fn the_chunks_of_a_changed_file_are_lost_with_what_is_packed_beside_it_and_no_others() {
        let items = vec![
            ("a", Some(noise(1, 100))),
            ("b", Some(noise(2, 100))),
            ("c", Some(noise(3, 2 * CHUNK_BYTES))),
            ("d", Some(noise(4, 3 * CHUNK_BYTES))),
        ];
        let content = Sample::tree("things", items).content;
        // Chunks of large files come first: 0 and 1 are of c, 2 to 4 of d, 5 holds a and b.
        for (files, chunks, right_bytes) in [
            (&[1][..], &[5][..], 5 * CHUNK_BYTES + 100),
            (&[2], &[0, 1], 3 * CHUNK_BYTES + 200),
            (&[0, 3], &[2, 3, 4, 5], 2 * CHUNK_BYTES + 100),
        ] {
            let changes = Changes::new(&content, Changes::with(None, files)).unwrap();
            let lost = changes.chunks(&content).into_iter();
            assert_eq!(lost.map(ChunkIndex::value).collect::<Vec<_>>(), chunks);
            assert_eq!(changes.right_bytes, right_bytes as u64);
            assert_eq!(changes.selection.bytes(), 0);
        }
    }

    #[test]
    fn what_is_found_later_is_added_and_the_first_is_named() {
        let content = Sample::mixed().content;
        let one = Changes::new(&content, Changes::with(None, &[4])).unwrap();
        assert!(
            one.note()
                .starts_with("1 of 6 files is no longer what was shared: run.sh;")
        );
        assert!(one.has_all(&[4]) && !one.has_all(&[4, 2]));
        let two = Changes::new(&content, Changes::with(Some(&one), &[2])).unwrap();
        assert!(two.has_all(&[2, 4]));
        assert!(
            two.note()
                .starts_with("2 of 6 files are no longer what was shared, a/b/small first;")
        );
        assert!(Changes::new(&content, BTreeSet::new()).is_none());
    }
}
