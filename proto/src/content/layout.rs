//! How a share is divided into chunks: a pure function of its sizes.
//!
//! One chunk size c holds for the whole share. A file larger than c stands alone, in chunks of c.
//! The other files that are not empty are packed, in listing order, into chunks of at most c, or of
//! 256 KiB where c is less; a large file in between does not break a pack. Chunks of large files come
//! first in the numbering,
//! in listing order, then the packs. `manifest-format.md`, Layout, is the normative text.
//!
//! A layout costs 8 bytes for each packed file and 16 for each large one, so a million files fit;
//! finding a chunk is a binary search at most.

use super::chunks::ChunkIndex;
use crate::limits::{self, GRAIN_BYTES};

/// What a pack of small files may have at least: where chunks are smaller than this, what each costs beside its
/// bytes would be most of what small files cost.
const MIN_PACK_BYTES: u32 = 256 * 1024;
/// Smallest chunk.
const MIN_CHUNK_BYTES: u64 = 64 * 1024;
/// Largest chunk of a share of at most [`HUGE_BYTES`].
const MAX_CHUNK_BYTES: u64 = 4 * 1024 * 1024;
/// A share larger than this has chunks of [`HUGE_CHUNK_BYTES`].
const HUGE_BYTES: u64 = 256 * 1024 * 1024 * 1024;
/// Chunk of a huge share.
const HUGE_CHUNK_BYTES: u32 = 16 * 1024 * 1024;
/// Chunks aimed at while the chunk size is between its bounds.
const TARGET_CHUNKS: u64 = 2048;

/// Why sizes have no layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// More than [`limits::CHUNKS`] chunks.
    #[error("the share is larger than {} chunks", limits::CHUNKS)]
    TooManyChunks,
    /// More than [`limits::LISTING_ENTRIES`] files.
    #[error("the share has more than {} files", limits::LISTING_ENTRIES)]
    TooManyFiles,
}

/// The chunk size of a share of `total` bytes: about 2,048 chunks, as a power of two from 64 KiB
/// to 4 MiB; 16 MiB above 256 GiB.
pub fn chunk_bytes(total: u64) -> u32 {
    if total > HUGE_BYTES {
        return HUGE_CHUNK_BYTES;
    }
    let wanted = total.div_ceil(TARGET_CHUNKS).next_power_of_two();
    wanted.clamp(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES) as u32
}

/// A run of bytes within one file of the share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Which file, counted among the files of the listing; 0 when the share is one file.
    pub file: u32,
    /// Where in that file.
    pub offset: u64,
    /// How many bytes, never 0.
    pub len: u32,
}

/// The division of one share into chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    total: u64,
    chunk_bytes: u32,
    longest: u32,
    chunk_count: u32,
    hash_count: u32,
    /// File and its first chunk, for each file larger than a chunk.
    large: Vec<(u32, u32)>,
    /// Sizes of the large files.
    large_sizes: Vec<u64>,
    /// Chunks of all large files, and so the number of the first pack.
    large_chunks: u32,
    /// File and size, for each file that is packed.
    packed: Vec<(u32, u32)>,
    packs: Vec<Pack>,
}

/// Consecutive entries of `packed` that share a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pack {
    /// First entry; the last is the one before the next pack's first.
    first: u32,
    /// Sum of their sizes.
    len: u32,
}

impl Layout {
    /// The layout of a share that is one file.
    ///
    /// # Errors
    ///
    /// When the file has too many chunks.
    pub fn file(size: u64) -> Result<Layout, LayoutError> {
        let mut layout = Layout::divide(&[size])?;
        layout.hash_count = layout.chunk_count.max(1);
        Ok(layout)
    }

    /// The layout of a simulated share: chunks of any one size, whatever the rule says.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn even(chunks: u32, chunk_bytes: u32) -> Layout {
        let total = u64::from(chunks) * u64::from(chunk_bytes);
        Layout {
            chunk_bytes,
            longest: chunk_bytes,
            chunk_count: chunks,
            hash_count: chunks,
            large: vec![(0, 0)],
            large_sizes: vec![total],
            large_chunks: chunks,
            ..Layout::empty(total)
        }
    }

    /// The layout of a tree from the sizes of its files in listing order.
    ///
    /// # Errors
    ///
    /// When there are too many files or chunks.
    pub fn tree(sizes: &[u64]) -> Result<Layout, LayoutError> {
        Layout::divide(sizes)
    }

    fn divide(sizes: &[u64]) -> Result<Layout, LayoutError> {
        if sizes.len() > limits::LISTING_ENTRIES {
            return Err(LayoutError::TooManyFiles);
        }
        let total = sizes
            .iter()
            .try_fold(0u64, |sum, size| sum.checked_add(*size));
        let total = total.ok_or(LayoutError::TooManyChunks)?;
        let mut layout = Layout::empty(total);
        for (file, &size) in (0..).zip(sizes) {
            match u32::try_from(size) {
                Ok(0) => (),
                Ok(size) if size <= layout.chunk_bytes => layout.pack(file, size),
                _ => layout.stand_alone(file, size)?,
            }
        }
        layout.hash_count = layout.large_chunks;
        layout.chunk_count = layout
            .large_chunks
            .saturating_add(layout.packs.len() as u32);
        if layout.chunk_count > limits::CHUNKS {
            return Err(LayoutError::TooManyChunks);
        }
        Ok(layout)
    }

    fn empty(total: u64) -> Layout {
        Layout {
            total,
            chunk_bytes: chunk_bytes(total),
            longest: chunk_bytes(total),
            chunk_count: 0,
            hash_count: 0,
            large: Vec::new(),
            large_sizes: Vec::new(),
            large_chunks: 0,
            packed: Vec::new(),
            packs: Vec::new(),
        }
    }

    fn stand_alone(&mut self, file: u32, size: u64) -> Result<(), LayoutError> {
        let chunks = size.div_ceil(u64::from(self.chunk_bytes));
        let end = u64::from(self.large_chunks) + chunks.min(u64::from(limits::CHUNKS) + 1);
        if end > u64::from(limits::CHUNKS) {
            return Err(LayoutError::TooManyChunks);
        }
        self.large.push((file, self.large_chunks));
        self.large_sizes.push(size);
        self.large_chunks = end as u32;
        Ok(())
    }

    fn pack(&mut self, file: u32, size: u32) {
        let most = self.chunk_bytes.max(MIN_PACK_BYTES);
        let len = match self.packs.last_mut() {
            Some(pack) if size <= most - pack.len => {
                pack.len += size;
                pack.len
            }
            _ => {
                let first = self.packed.len() as u32;
                self.packs.push(Pack { first, len: size });
                size
            }
        };
        self.longest = self.longest.max(len);
        self.packed.push((file, size));
    }

    /// Sum of all file sizes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes in a chunk of a large file; its last one may have fewer.
    pub fn chunk_bytes(&self) -> u32 {
        self.chunk_bytes
    }

    /// What any chunk takes at most, in bytes: that of a large file, or the longest pack if that is longer.
    pub fn longest_chunk(&self) -> u32 {
        self.longest
    }

    /// Number of chunks, each with at least one byte; 0 for a share without bytes.
    pub fn chunk_count(&self) -> u32 {
        self.chunk_count
    }

    /// Accepts an index that came off the wire, or `None` when this share has no such chunk.
    pub fn chunk(&self, index: u32) -> Option<ChunkIndex> {
        (index < self.chunk_count).then_some(ChunkIndex::new(index))
    }

    /// Bytes in this chunk; 0 for a chunk of another layout.
    pub fn chunk_len(&self, chunk: ChunkIndex) -> u32 {
        match self.locate(chunk) {
            Place::Large(extent) => extent.len,
            Place::Pack(pack) => self.packs.get(pack).map_or(0, |pack| pack.len),
        }
    }

    /// The chunk's bytes in order: one part of a large file, or whole small files.
    pub fn extents(&self, chunk: ChunkIndex) -> impl Iterator<Item = Extent> + '_ {
        let (large, packed) = match self.locate(chunk) {
            Place::Large(extent) => (Some(extent), &[][..]),
            Place::Pack(pack) => (None, self.packed_in(pack)),
        };
        let whole = |&(file, len): &(u32, u32)| Extent {
            file,
            offset: 0,
            len,
        };
        large.into_iter().chain(packed.iter().map(whole))
    }

    /// The files behind `len` bytes of a chunk from `offset` on. `None` unless there is at least
    /// one byte and both ends are grain boundaries of the chunk.
    pub fn range(&self, chunk: ChunkIndex, offset: u32, len: u32) -> Option<Vec<Extent>> {
        let end = offset.checked_add(len).filter(|_| len > 0)?;
        let (mut found, mut begin) = (Vec::new(), 0u32);
        for extent in self.extents(chunk) {
            let extent_end = begin + extent.len;
            if begin >= end {
                break;
            }
            if extent_end > offset {
                let (from, to) = (offset.max(begin) - begin, end.min(extent_end) - begin);
                let aligned = |at: u32| at.is_multiple_of(GRAIN_BYTES) || at == extent.len;
                if !aligned(from) || !aligned(to) {
                    return None;
                }
                let offset = extent.offset + u64::from(from);
                found.push(Extent {
                    offset,
                    len: to - from,
                    ..extent
                });
            }
            begin = extent_end;
        }
        (begin >= end).then_some(found)
    }

    /// Offset in the chunk and length of each grain: cut at file boundaries, and every
    /// [`GRAIN_BYTES`] within a file.
    pub fn grains(&self, chunk: ChunkIndex) -> Vec<(u32, u32)> {
        let (mut grains, mut begin) = (Vec::new(), 0);
        for extent in self.extents(chunk) {
            let cuts = (0..extent.len).step_by(GRAIN_BYTES as usize);
            grains.extend(cuts.map(|cut| (begin + cut, GRAIN_BYTES.min(extent.len - cut))));
            begin += extent.len;
        }
        grains
    }

    /// File and first chunk of each file larger than a chunk, both ascending.
    pub fn large_files(&self) -> &[(u32, u32)] {
        &self.large
    }

    /// Number of hashes that go with the listing or name: one for each chunk of a large file. A
    /// share that is one file has at least one, the root when it has no more than one chunk.
    pub fn hash_count(&self) -> u32 {
        self.hash_count
    }

    fn locate(&self, chunk: ChunkIndex) -> Place {
        let index = chunk.value();
        if index >= self.large_chunks {
            return Place::Pack((index - self.large_chunks) as usize);
        }
        // The first large file begins at chunk 0, so at least one begins at or before `index`.
        let nth = self.large.partition_point(|&(_, first)| first <= index) - 1;
        let (file, first) = self.large[nth];
        let offset = u64::from(index - first) * u64::from(self.chunk_bytes);
        let rest = self.large_sizes[nth] - offset;
        let len = rest.min(u64::from(self.chunk_bytes)) as u32;
        Place::Large(Extent { file, offset, len })
    }

    fn packed_in(&self, pack: usize) -> &[(u32, u32)] {
        let Some(Pack { first, .. }) = self.packs.get(pack) else {
            return &[];
        };
        let end = self
            .packs
            .get(pack + 1)
            .map_or(self.packed.len(), |next| next.first as usize);
        &self.packed[*first as usize..end]
    }
}

/// Where a chunk's bytes are.
enum Place {
    /// In one part of a large file.
    Large(Extent),
    /// In the pack of this position, if there is one.
    Pack(usize),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_chunk_size_follows_from_the_total() {
        for (total, expected) in [
            (0, 64 << 10),
            (128 << 20, 64 << 10),
            ((128 << 20) + 1, 128 << 10),
            (GIB, 512 << 10),
            (8 * GIB, 4 << 20),
            (8 * GIB + 1, 4 << 20),
            (256 * GIB, 4 << 20),
            (256 * GIB + 1, 16 << 20),
            (u64::MAX, 16 << 20),
        ] {
            assert_eq!(chunk_bytes(total), expected, "{total}");
        }
    }

    #[test]
    fn a_file_has_a_hash_for_each_chunk_and_at_least_one() {
        for (size, chunks, hashes) in [
            (0, 0, 1),
            (1, 1, 1),
            (65_536, 1, 1),
            (65_537, 2, 2),
            (GIB, 2048, 2048),
        ] {
            let layout = Layout::file(size).unwrap();
            assert_eq!(
                (layout.chunk_count(), layout.hash_count()),
                (chunks, hashes),
                "{size}"
            );
        }
    }

    #[test]
    fn what_exceeds_the_limits_is_refused() {
        let most = u64::from(limits::CHUNKS) * u64::from(HUGE_CHUNK_BYTES);
        assert_eq!(Layout::file(most).unwrap().chunk_count(), limits::CHUNKS);
        for sizes in [
            vec![most + 1],
            vec![u64::MAX],
            vec![u64::MAX, 1],
            vec![most, 1],
            vec![most; 3],
        ] {
            assert_eq!(
                Layout::tree(&sizes),
                Err(LayoutError::TooManyChunks),
                "{sizes:?}"
            );
        }
        let files = vec![0; limits::LISTING_ENTRIES + 1];
        assert_eq!(Layout::tree(&files), Err(LayoutError::TooManyFiles));
    }

    #[test]
    fn a_large_file_in_between_does_not_break_a_pack() {
        let layout =
            Layout::tree(&[10, 100_000, 0, 20, 65_536, 200_000, 65_536, 65_536, 65_536]).unwrap();
        let first = |chunk| {
            layout
                .extents(layout.chunk(chunk).unwrap())
                .collect::<Vec<_>>()
        };
        let whole = |file, len| Extent {
            file,
            offset: 0,
            len,
        };
        assert_eq!(layout.large_files(), [(1, 0), (5, 2)]);
        assert_eq!(first(0), [whole(1, 65_536)]);
        assert_eq!(
            first(1),
            [Extent {
                file: 1,
                offset: 65_536,
                len: 34_464
            }]
        );
        let packed = [
            whole(0, 10),
            whole(3, 20),
            whole(4, 65_536),
            whole(6, 65_536),
            whole(7, 65_536),
        ];
        assert_eq!(first(6), packed);
        assert_eq!(first(7), [whole(8, 65_536)]);
        assert_eq!((layout.chunk_count(), layout.hash_count()), (8, 6));
        assert_eq!(
            (layout.chunk_bytes(), layout.longest_chunk()),
            (65_536, 196_638)
        );
    }

    #[test]
    fn a_million_files_are_divided() {
        let layout = Layout::tree(&vec![10_000; limits::LISTING_ENTRIES]).unwrap();
        let last = layout.chunk(layout.chunk_count() - 1).unwrap();
        let end = layout.extents(last).last().unwrap();
        assert_eq!(end.file as usize, limits::LISTING_ENTRIES - 1);
    }

    #[test]
    fn a_chunk_of_a_longer_layout_has_no_bytes() {
        let layout = Layout::file(1).unwrap();
        let foreign = ChunkIndex::new(7);
        assert_eq!(layout.chunk_len(foreign), 0);
        assert_eq!(layout.extents(foreign).count(), 0);
        assert_eq!(layout.range(foreign, 0, 1), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_byte_is_in_exactly_one_extent(sizes in any_sizes()) {
            let layout = Layout::tree(&sizes).unwrap();
            let mut extents: Vec<Extent> = Vec::new();
            for chunk in chunks(&layout) {
                let here: Vec<_> = layout.extents(chunk).collect();
                let len: u32 = here.iter().map(|extent| extent.len).sum();
                prop_assert_eq!(len, layout.chunk_len(chunk));
                prop_assert!((1..=layout.longest_chunk()).contains(&len));
                prop_assert!(layout.longest_chunk() <= layout.chunk_bytes().max(MIN_PACK_BYTES));
                extents.extend(here);
            }
            extents.sort_by_key(|extent| (extent.file, extent.offset));
            let mut seen = vec![0u64; sizes.len()];
            for extent in extents {
                prop_assert_eq!(extent.offset, seen[extent.file as usize]);
                seen[extent.file as usize] += u64::from(extent.len);
            }
            prop_assert_eq!(seen, sizes);
        }

        #[test]
        fn grains_divide_a_chunk_and_only_their_bounds_are_ranges(
            sizes in any_sizes(), pick: prop::sample::Index, from: prop::sample::Index,
            to: prop::sample::Index, shift in 1u32..60_000,
        ) {
            let layout = Layout::tree(&sizes).unwrap();
            prop_assume!(layout.chunk_count() > 0);
            let chunk = layout.chunk(pick.index(layout.chunk_count() as usize) as u32).unwrap();
            let grains = layout.grains(chunk);
            let mut end = 0;
            for &(offset, len) in &grains {
                prop_assert_eq!(offset, end);
                prop_assert_eq!(layout.range(chunk, offset, len).unwrap().len(), 1);
                end += len;
            }
            prop_assert_eq!(end, layout.chunk_len(chunk));
            let whole: Vec<_> = layout.extents(chunk).collect();
            prop_assert_eq!(layout.range(chunk, 0, end), Some(whole));
            let mut bounds: Vec<_> = grains.iter().map(|&(offset, _)| offset).collect();
            bounds.push(end);
            let (from, to) = (bounds[from.index(bounds.len())], bounds[to.index(bounds.len())]);
            let found = layout.range(chunk, from, to.saturating_sub(from));
            prop_assert_eq!(found.is_some(), from < to);
            let sum: u32 = found.iter().flatten().map(|extent| extent.len).sum();
            prop_assert_eq!(sum, to.saturating_sub(from));
            let off = bounds.binary_search(&(from + shift)).is_err();
            prop_assert!(!off || layout.range(chunk, from, shift).is_none());
            prop_assert!(!off || layout.range(chunk, from + shift, end).is_none());
            prop_assert!(layout.range(chunk, end, u32::MAX).is_none());
        }

        #[test]
        fn packs_are_greedy(sizes in any_sizes()) {
            let layout = Layout::tree(&sizes).unwrap();
            let packs: Vec<_> = chunks(&layout).skip(layout.large_chunks as usize).collect();
            for pair in packs.windows(2) {
                let next = layout.extents(pair[1]).next().unwrap();
                let most = layout.chunk_bytes().max(MIN_PACK_BYTES);
                prop_assert!(layout.chunk_len(pair[0]) + next.len > most);
            }
        }
    }

    fn chunks(layout: &Layout) -> impl Iterator<Item = ChunkIndex> + '_ {
        (0..layout.chunk_count()).map(|index| layout.chunk(index).unwrap())
    }

    /// Sizes on both sides of grains and chunks, sometimes with chunks of several grains.
    fn any_sizes() -> impl Strategy<Value = Vec<u64>> {
        let size = prop_oneof![
            Just(0u64),
            1..1000u64,
            20_000..70_000u64,
            65_534..65_539u64,
            100_000..2_000_000u64,
            Just(300 << 20)
        ];
        prop::collection::vec(size, 0..40)
    }
}
