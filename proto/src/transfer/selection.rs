//! What of a share is wanted, and what of it sooner: files as the person picks them, chunks as the
//! [`super::Download`] needs them.
//!
//! A chunk is wanted while any file with bytes in it is. A pack of small files may therefore bring
//! bytes of files that are not; these are kept by whoever writes them, and do not count here.
//!
//! Not here: which names a person's patterns mean (`warren-daemon`).

use std::collections::BTreeMap;

use fixedbitset::FixedBitSet;

use crate::content::{ChunkIndex, ChunkSet, Content, Extent, Layout};

/// What is to be done about a file; later ones outweigh earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// It is not fetched.
    Skip,
    /// It is fetched.
    #[default]
    Normal,
    /// It is fetched before all that is merely [`Priority::Normal`].
    First,
}

/// In which order chunks are asked for that are equally urgent otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The rarest first, which is best for the swarm.
    #[default]
    RarestFirst,
    /// As they are read, file after file: those within a window ahead of the first that is missing in
    /// that order, those behind the window the rarest first.
    Sequential,
}

/// The wanted part of one share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    wanted: ChunkSet,
    first: FixedBitSet,
    /// Bytes of wanted files in those wanted chunks that have others beside them.
    border: BTreeMap<ChunkIndex, u32>,
    /// Wanted chunks as they are to be read; only of [`Order::Sequential`].
    sequence: Option<Vec<ChunkIndex>>,
    bytes: u64,
    is_everything: bool,
}

/// What one chunk is worth.
#[derive(Clone, Copy, Debug, Default)]
struct Worth {
    priority: Priority,
    /// Bytes of files that are wanted.
    bytes: u32,
    /// The first file that gives it its priority.
    file: u32,
}

impl Selection {
    /// What follows from the priority of each file, by its number in [`Extent::file`].
    pub fn new(
        content: &Content,
        order: Order,
        mut priority_of: impl FnMut(u32) -> Priority,
    ) -> Selection {
        let files: Vec<Priority> = (0..content.file_count()).map(&mut priority_of).collect();
        let of = |file: u32| files.get(file as usize).copied().unwrap_or_default();
        let layout = &content.layout;
        let mut selection =
            Selection::of_chunks(layout, order, |chunk| worth_of(layout.extents(chunk), of));
        selection.is_everything = files.iter().all(|priority| *priority != Priority::Skip);
        selection
    }

    fn of_chunks(
        layout: &Layout,
        order: Order,
        worth_of: impl Fn(ChunkIndex) -> Worth,
    ) -> Selection {
        let len = layout.chunk_count();
        let mut selection = Selection {
            wanted: ChunkSet::empty(len),
            first: FixedBitSet::with_capacity(len as usize),
            border: BTreeMap::new(),
            sequence: None,
            bytes: 0,
            is_everything: true,
        };
        let mut read = Vec::new();
        for chunk in (0..len).filter_map(|chunk| layout.chunk(chunk)) {
            let worth = worth_of(chunk);
            selection.add(chunk, worth, layout.chunk_len(chunk));
            if order == Order::Sequential && worth.priority != Priority::Skip {
                let is_later = worth.priority != Priority::First;
                read.push((is_later, worth.file, chunk));
            }
        }
        if order == Order::Sequential {
            read.sort_unstable();
            selection.sequence = Some(read.into_iter().map(|(_, _, chunk)| chunk).collect());
        }
        selection
    }

    fn add(&mut self, chunk: ChunkIndex, worth: Worth, len: u32) {
        if worth.priority == Priority::Skip {
            self.is_everything = false;
            return;
        }
        self.wanted.insert(chunk);
        self.bytes += u64::from(worth.bytes);
        if worth.bytes < len {
            self.border.insert(chunk, worth.bytes);
        }
        let is_first = worth.priority == Priority::First;
        self.first.set(chunk.value() as usize, is_first);
    }

    /// Whether every file is wanted.
    pub fn is_everything(&self) -> bool {
        self.is_everything
    }

    /// Whether it is as if nothing had been said: everything, the rarest first.
    pub fn is_plain(&self) -> bool {
        self.is_everything && self.sequence.is_none() && self.first.is_clear()
    }

    /// Whether the chunk is wanted.
    pub fn wants(&self, chunk: ChunkIndex) -> bool {
        self.wanted.contains(chunk)
    }

    /// Bytes of the wanted files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many bytes of a chunk of `len` bytes are of wanted files.
    pub fn bytes_of(&self, chunk: ChunkIndex, len: u32) -> u32 {
        match self.wants(chunk) {
            true => self.border.get(&chunk).copied().unwrap_or(len),
            false => 0,
        }
    }

    /// The chunks that come before others.
    pub(super) fn first(&self) -> &FixedBitSet {
        &self.first
    }

    /// The wanted chunks as they are read, if that is the order.
    pub(super) fn sequence(&self) -> Option<&[ChunkIndex]> {
        self.sequence.as_deref()
    }
}

fn worth_of(extents: impl Iterator<Item = Extent>, priority_of: impl Fn(u32) -> Priority) -> Worth {
    let mut worth = Worth {
        priority: Priority::Skip,
        ..Worth::default()
    };
    for extent in extents {
        let priority = priority_of(extent.file);
        if priority != Priority::Skip {
            worth.bytes += extent.len;
        }
        if priority > worth.priority {
            (worth.priority, worth.file) = (priority, extent.file);
        }
    }
    worth
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::content::{Entry, EntryKind, HashList, Listing, ShareName, SharePath, tree};

    /// A tree of files of these sizes, named in order. Its hashes are of nothing.
    pub(in crate::transfer) fn tree_of(sizes: &[u64]) -> Content {
        let entry = |(n, size): (usize, &u64)| Entry {
            path: SharePath::parse(&format!("{n:05}")).unwrap(),
            kind: EntryKind::File {
                size: *size,
                executable: false,
                root: root_of(*size),
            },
        };
        let listing = Listing::new(sizes.iter().enumerate().map(entry).collect()).unwrap();
        let hashes = Layout::tree(sizes).unwrap().hash_count();
        let hashes: HashList = (0..hashes).map(|_| [7; 32]).collect();
        Content::tree(ShareName::parse("tree").unwrap(), listing, hashes).unwrap()
    }

    /// In a share of at most 128 MiB.
    fn root_of(size: u64) -> [u8; 32] {
        let chunks = size.div_ceil(65_536);
        if chunks == 0 {
            return tree::whole_hash(&[]);
        }
        tree::root_of(&(0..chunks).map(|_| [7; 32]).collect()).0
    }

    /// Priorities of single chunks, as no files could give them.
    pub(in crate::transfer) fn of_chunks(
        layout: &Layout,
        order: Order,
        priority_of: impl Fn(u32) -> Priority,
    ) -> Selection {
        Selection::of_chunks(layout, order, |chunk| Worth {
            priority: priority_of(chunk.value()),
            bytes: layout.chunk_len(chunk),
            file: 0,
        })
    }

    #[test]
    fn a_pack_is_wanted_for_one_of_its_files_and_counts_for_that_alone() {
        // Chunks: the large file's two, then a pack of the others.
        let content = tree_of(&[10, 100_000, 20, 65_530]);
        let picked = |file| match file {
            2 => Priority::Normal,
            _ => Priority::Skip,
        };
        let selection = Selection::new(&content, Order::RarestFirst, picked);
        let wanted: Vec<u32> = selection.wanted.iter().map(ChunkIndex::value).collect();
        assert_eq!((wanted, selection.bytes()), (vec![2], 20));
        let pack = content.layout.chunk(2).unwrap();
        assert_eq!(selection.bytes_of(pack, 30), 20);
        assert!(!selection.is_everything());
    }

    #[test]
    fn what_is_read_comes_file_after_file_and_what_is_first_before() {
        let content = tree_of(&[10, 100_000, 20, 70_000, 65_530, 65_530, 65_530, 65_530]);
        let order = |first: &'static [u32]| {
            let of = move |file| match first.contains(&file) {
                true => Priority::First,
                false => Priority::Normal,
            };
            let selection = Selection::new(&content, Order::Sequential, of);
            assert!(selection.is_everything() && selection.bytes() == content.size);
            let sequence = selection.sequence.unwrap();
            sequence.iter().map(|it| it.value()).collect::<Vec<_>>()
        };
        // The pack of files 0, 2, 4, 5 and 6 is chunk 4, read for its first file; file 7 is chunk 5.
        assert_eq!(order(&[]), [4, 0, 1, 2, 3, 5]);
        assert_eq!(order(&[3]), [2, 3, 4, 0, 1, 5]);
        assert_eq!(order(&[2, 7]), [4, 5, 0, 1, 2, 3]);
    }

    #[test]
    fn empty_files_alone_are_something_and_no_chunk() {
        let content = tree_of(&[70_000]);
        let selection = Selection::new(&content, Order::Sequential, |_| Priority::Skip);
        assert_eq!((selection.bytes(), selection.wanted.count()), (0, 0));
        assert_eq!(selection.sequence().map(<[_]>::len), Some(0));
    }
}
