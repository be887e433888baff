//! A share whose parts fit together: sizes, hashes and listing agree with the content id.
//!
//! [`Content`] is made from a scan of our own files, from a manifest, or from what peers sent for
//! a link. In every case the constructor checks all that can be checked without the bytes; what
//! remains a claim is the name, and the size of a file until its last chunk verifies.

use super::chunks::ChunkIndex;
use super::hashes::HashList;
use super::layout::{Extent, Layout, LayoutError};
use super::listing::Listing;
use super::path::{ShareName, SharePath};
use super::tree::{self, Expected, GRAIN_BYTES, expected_grain, verify_grains};
use crate::id::{ContentId, Kind, Secret, SwarmId};

/// Why size, hashes and listing are not those of one share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Too large to divide into chunks.
    #[error("the share cannot be divided into chunks")]
    Layout(#[from] LayoutError),
    /// The hash list is of another size or chunk size.
    #[error("the share needs {expected} chunk hashes, but there are {found}")]
    HashCount {
        /// Hashes the layout asks for.
        expected: u32,
        /// Hashes there are.
        found: usize,
    },
    /// A file without bytes has the hash of another file.
    #[error("the file is empty, but its hash is not that of an empty file")]
    EmptyFileHash,
    /// The chunk hashes of a large file do not merge to its hash.
    #[error("the chunk hashes of {0} do not belong to it")]
    FileHashes(SharePath),
}

/// Everything needed to ask for a share's bytes and to verify them. Made by [`Content::file`] and
/// [`Content::tree`] only, and not to be changed afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Content {
    /// One file or a tree.
    pub kind: Kind,
    /// Hash of the file, or of the listing.
    pub id: ContentId,
    /// What the sharer called it; not bound by the id.
    pub name: ShareName,
    /// Sum of the file sizes in bytes.
    pub size: u64,
    /// Its division into chunks.
    pub layout: Layout,
    /// CVs of the chunks of each file larger than a chunk, in chunk order; for a file of at most
    /// one chunk its hash.
    pub hashes: HashList,
    /// The table of entries of a tree.
    pub listing: Option<Listing>,
}

impl Content {
    /// A share that is one file. Its id follows from the hashes.
    ///
    /// # Errors
    ///
    /// When there are not as many hashes as a file of this size has chunks, or the size is 0 and
    /// the hash is not that of an empty file.
    pub fn file(name: ShareName, size: u64, hashes: HashList) -> Result<Content, ContentError> {
        let layout = Layout::file(size)?;
        check_count(&layout, &hashes)?;
        let id = tree::root_of(&hashes);
        // No chunk of an empty file would ever show that the hash is another file's.
        if size == 0 && id.0 != tree::whole_hash(&[]) {
            return Err(ContentError::EmptyFileHash);
        }
        Ok(Content {
            kind: Kind::File,
            id,
            name,
            size,
            layout,
            hashes,
            listing: None,
        })
    }

    /// A share that is a tree. Its id follows from the listing.
    ///
    /// # Errors
    ///
    /// When the hashes are not the chunk CVs of exactly the files larger than a chunk.
    pub fn tree(
        name: ShareName,
        listing: Listing,
        hashes: HashList,
    ) -> Result<Content, ContentError> {
        let sizes: Vec<u64> = listing.files().map(|file| file.size).collect();
        let layout = Layout::tree(&sizes)?;
        check_count(&layout, &hashes)?;
        check_file_hashes(&layout, &listing, &hashes)?;
        let (kind, id, size) = (Kind::Tree, listing.content_id(), layout.total());
        Ok(Content {
            kind,
            id,
            name,
            size,
            layout,
            hashes,
            listing: Some(listing),
        })
    }

    /// Length of each grain of a chunk and what it must hash to, by a grain list that somebody sent
    /// (manifest-format.md, *Grains*). `None` unless the list is that of the chunk.
    pub fn expected_grains(
        &self,
        chunk: ChunkIndex,
        list: &HashList,
    ) -> Option<Vec<(u32, Expected)>> {
        let (mut rest, mut grains) = (list.as_hashes(), Vec::new());
        for extent in self.layout.extents(chunk) {
            let count = extent.len.div_ceil(GRAIN_BYTES);
            let (own, after) = rest.split_at_checked(count as usize)?;
            rest = after;
            let (expected, own) = (self.expected(&extent)?, own.iter().copied().collect());
            if !verify_grains(&own, &expected, extent.len.into()) {
                return None;
            }
            for index in 0..count {
                let len = GRAIN_BYTES.min(extent.len - index * GRAIN_BYTES);
                grains.push((len, expected_grain(&own, &expected, index)?));
            }
        }
        rest.is_empty().then_some(grains)
    }

    /// What an extent must hash to. `None` unless it is a whole chunk of a large file or a whole
    /// packed file, as [`Layout::extents`] yields them.
    pub fn expected(&self, extent: &Extent) -> Option<Expected> {
        let size = self.file_size(extent.file)?;
        let chunk_bytes = u64::from(self.layout.chunk_bytes());
        if size <= chunk_bytes {
            let whole = extent.offset == 0 && u64::from(extent.len) == size;
            return if whole {
                self.file_root(extent.file).map(Expected::Root)
            } else {
                None
            };
        }
        let rest = size.checked_sub(extent.offset)?;
        let whole = u64::from(extent.len) == rest.min(chunk_bytes);
        if !whole || extent.len == 0 || !extent.offset.is_multiple_of(chunk_bytes) {
            return None;
        }
        let large = self.layout.large_files();
        let nth = large
            .binary_search_by_key(&extent.file, |&(file, _)| file)
            .ok()?;
        let position = u64::from(large[nth].1) + extent.offset / chunk_bytes;
        let cv = self.hashes.get(usize::try_from(position).ok()?)?;
        Some(Expected::Subtree {
            offset: extent.offset,
            cv,
        })
    }

    /// The path of a file of a tree; `None` for a share that is one file, whose path is its name.
    pub fn file_path(&self, file: u32) -> Option<&SharePath> {
        self.listing.as_ref()?.file(file).map(|file| file.path)
    }

    /// Number of files, empty ones included.
    pub fn file_count(&self) -> u32 {
        self.listing.as_ref().map_or(1, Listing::file_count)
    }

    /// Length of a file in bytes.
    pub fn file_size(&self, file: u32) -> Option<u64> {
        match &self.listing {
            None => (file == 0).then_some(self.size),
            Some(listing) => listing.file(file).map(|file| file.size),
        }
    }

    /// The BLAKE3 hash of a file.
    pub fn file_root(&self, file: u32) -> Option<[u8; 32]> {
        match &self.listing {
            None => (file == 0).then_some(self.id.0),
            Some(listing) => listing.file(file).map(|file| file.root),
        }
    }

    /// The swarm of everyone who knows this id and secret.
    pub fn swarm_id(&self, secret: Option<&Secret>) -> SwarmId {
        SwarmId::of(self.kind, &self.id, secret)
    }
}

/// A list is only valid for its count: the root binds no chunk size.
fn check_count(layout: &Layout, hashes: &HashList) -> Result<(), ContentError> {
    let (expected, found) = (layout.hash_count(), hashes.len());
    if found == expected as usize {
        Ok(())
    } else {
        Err(ContentError::HashCount { expected, found })
    }
}

fn check_file_hashes(
    layout: &Layout,
    listing: &Listing,
    hashes: &HashList,
) -> Result<(), ContentError> {
    let large = layout.large_files();
    let ends = large
        .iter()
        .skip(1)
        .map(|&(_, first)| first)
        .chain([layout.hash_count()]);
    for (&(file, first), end) in large.iter().zip(ends) {
        let cvs = hashes
            .as_hashes()
            .get(first as usize..end as usize)
            .unwrap_or(&[]);
        let Some(file) = listing.file(file) else {
            continue;
        };
        if tree::root_of_hashes(cvs) != file.root {
            return Err(ContentError::FileHashes(file.path.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::samples::{any_files, any_len, bytes, chunk_hashes, file_share, tree_share};
    use super::super::tree::Verifier;
    use super::*;

    #[test]
    fn hashes_must_be_as_many_as_chunks() {
        for (size, count) in [
            (0, 0),
            (0, 2),
            (1, 2),
            (65_536, 2),
            (65_537, 1),
            (65_537, 3),
        ] {
            let result = Content::file(name(), size, (0..count).map(|n| [n; 32]).collect());
            assert!(
                matches!(result, Err(ContentError::HashCount { .. })),
                "{size} with {count}"
            );
        }
        let result = Content::file(name(), u64::MAX, HashList::new());
        assert!(matches!(result, Err(ContentError::Layout(_))));
    }

    proptest! {
        #[test]
        fn every_grain_of_a_chunk_verifies_by_the_list_and_by_no_other(
            files in any_files(), at in any::<prop::sample::Index>(),
        ) {
            let content = tree_share(&files);
            let files: Vec<_> = files.values().collect();
            let layout = &content.layout;
            for chunk in (0..layout.chunk_count()).filter_map(|chunk| layout.chunk(chunk)) {
                let (mut list, mut data) = (HashList::new(), Vec::new());
                for extent in layout.extents(chunk) {
                    let start = extent.offset as usize;
                    let part = &files[extent.file as usize][start..][..extent.len as usize];
                    let position = content.expected(&extent).unwrap().position();
                    let own = tree::grain_cvs(part, position);
                    own.iter().for_each(|hash| list.push(hash));
                    data.extend_from_slice(part);
                }
                let grains = content.expected_grains(chunk, &list).unwrap();
                let lens: Vec<_> = layout.grains(chunk).iter().map(|(_, len)| *len).collect();
                prop_assert_eq!(grains.iter().map(|(len, _)| *len).collect::<Vec<_>>(), lens);
                let mut rest = data.as_slice();
                for (len, expected) in grains {
                    let mut verifier = Verifier::new(expected);
                    verifier.update(rest.split_off(..len as usize).unwrap());
                    prop_assert!(verifier.finish());
                }
                let mut wrong = list.as_bytes().to_vec();
                wrong[at.index(list.len() * 32)] ^= 1;
                let wrong = HashList::from_bytes(wrong).unwrap();
                prop_assert_eq!(content.expected_grains(chunk, &wrong), None);
                list.push([0; 32]);
                prop_assert_eq!(content.expected_grains(chunk, &list), None);
            }
        }
    }

    #[test]
    fn a_peer_cannot_pass_off_nothing_as_a_file() {
        let hashes = || [[7; 32]].into_iter().collect();
        assert_eq!(
            Content::file(name(), 0, hashes()),
            Err(ContentError::EmptyFileHash)
        );
        assert!(
            Content::file(name(), 1, hashes()).is_ok(),
            "its one chunk will not verify"
        );
        assert_eq!(file_share(b"").id.0, *blake3::hash(b"").as_bytes());
    }

    #[test]
    fn the_hashes_of_a_tree_belong_to_its_large_files() {
        let file = bytes(100_000, 1);
        let files = BTreeMap::from([("f".to_owned(), file.clone()), ("g".to_owned(), vec![1])]);
        let content = tree_share(&files);
        let listing = content.listing.unwrap();
        let wrong = chunk_hashes(&bytes(100_000, 2), 65_536);
        let path = SharePath::parse("f").unwrap();
        let result = Content::tree(name(), listing.clone(), wrong);
        assert_eq!(result, Err(ContentError::FileHashes(path)));
        let result = Content::tree(name(), listing, HashList::new());
        assert!(matches!(
            result,
            Err(ContentError::HashCount {
                expected: 2,
                found: 0
            })
        ));
    }

    #[test]
    fn only_what_has_a_hash_of_its_own_is_expected() {
        let content = file_share(&bytes(100_000, 3));
        let expected = |file, offset, len| content.expected(&Extent { file, offset, len });
        assert!(expected(0, 0, 65_536).is_some() && expected(0, 65_536, 34_464).is_some());
        for (file, offset, len) in [
            (1, 0, 65_536),
            (0, 0, 100_000),
            (0, 0, 65_535),
            (0, 1, 65_535),
            (0, 65_536, 34_463),
            (0, 100_000, 0),
            (0, 131_072, 0),
            (0, u64::MAX, u32::MAX),
        ] {
            assert_eq!(
                expected(file, offset, len),
                None,
                "{len} bytes at {offset} of {file}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_file_has_the_id_b3sum_prints_and_its_chunks_verify(len in any_len(), seed: u8) {
            let file = bytes(len, seed);
            let content = file_share(&file);
            prop_assert_eq!(content.id.0, *blake3::hash(&file).as_bytes());
            check_all_chunks(&content, &[&file])?;
        }

        #[test]
        fn every_chunk_of_a_tree_verifies(files in any_files()) {
            let content = tree_share(&files);
            let bytes: Vec<_> = files.values().map(Vec::as_slice).collect();
            prop_assert_eq!(content.file_count() as usize, bytes.len());
            for (file, path) in (0..).zip(files.keys()) {
                prop_assert_eq!(content.file_path(file).unwrap().as_str(), path.as_str());
            }
            check_all_chunks(&content, &bytes)?;
        }
    }

    fn check_all_chunks(content: &Content, files: &[&[u8]]) -> Result<(), TestCaseError> {
        let layout = &content.layout;
        let mut total = 0;
        for chunk in (0..layout.chunk_count()).filter_map(|index| layout.chunk(index)) {
            for extent in layout.extents(chunk) {
                let start = extent.offset as usize;
                let bytes = &files[extent.file as usize][start..][..extent.len as usize];
                let mut verifier = Verifier::new(content.expected(&extent).unwrap());
                verifier.update(bytes);
                prop_assert!(verifier.finish(), "{:?}", extent);
                total += bytes.len() as u64;
            }
        }
        prop_assert_eq!(total, content.size);
        Ok(())
    }

    fn name() -> ShareName {
        ShareName::parse("sample").unwrap()
    }
}
