//! A share whose parts fit together: sizes, hashes and listing agree with the content id.
//!
//! [`Content`] is made from a scan of our own files, from a manifest, or from what peers sent for
//! a link. In every case the constructor checks all that can be checked without the bytes; what
//! remains a claim is the name, and the size of a file until its last chunk verifies.

use super::hashes::HashList;
use super::layout::{Extent, Layout, LayoutError};
use super::listing::Listing;
use super::path::{ShareName, SharePath};
use super::tree::{self, Expected};
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
