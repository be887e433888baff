//! What others may ask of one share: its bytes, its hashes, its listing.
//!
//! An offer outlives the node's interest in the share for as long as somebody is being answered
//! from it. Its methods block on the disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use warren_proto::content::tree::{GRAIN_BYTES, grain_cvs};
use warren_proto::content::{ChunkIndex, ChunkSet, Content, HashList, Layout, tree};
use warren_proto::id::SwarmId;
use warren_proto::wire::{NoReason, Part, PeerRequest};

use super::arrival::Arrival;
use crate::memory::Buffer;
use crate::store::error::StoreError;
use crate::store::files::ShareFiles;

/// Why something is not given.
#[derive(Clone, Debug)]
pub(crate) enum Unserved {
    /// We do not have it.
    NotHere,
    /// There is no such thing.
    Unknown,
    /// The file is not what it was, or cannot be read.
    Broken(Arc<StoreError>),
}

impl Unserved {
    /// How the peer is told, of something of which nothing more can be had once a part has changed.
    pub(crate) fn reason(&self) -> NoReason {
        match self {
            Unserved::NotHere => NoReason::NotHere,
            Unserved::Unknown => NoReason::Unknown,
            Unserved::Broken(error) => match **error {
                StoreError::Changed { .. } => NoReason::Changed,
                _ => NoReason::NotHere,
            },
        }
    }
}

/// A run of grains of a chunk: which chunk, the first byte in it, how many bytes.
pub(crate) type Piece = (ChunkIndex, u32, u32);

/// One share, as others may ask for it.
#[derive(Debug)]
pub(crate) struct Offer {
    /// Whose it is.
    pub(crate) swarm: SwarmId,
    /// What it is.
    pub(crate) content: Arc<Content>,
    /// Where its bytes are.
    pub(crate) files: Arc<ShareFiles>,
    have: Mutex<ChunkSet>,
    /// What is on its way to us and passed on as it comes.
    arriving: Mutex<BTreeMap<ChunkIndex, Weak<Arrival>>>,
    listing: OnceLock<Option<EncodedListing>>,
    /// The hash list, as all who ask for it get it.
    hashes: OnceLock<Bytes>,
}

/// A tree's listing as a file of its own.
#[derive(Debug)]
struct EncodedListing {
    bytes: Bytes,
    layout: Layout,
    hashes: HashList,
}

impl Offer {
    /// Offers these chunks of a share.
    pub(crate) fn new(swarm: SwarmId, files: Arc<ShareFiles>, have: ChunkSet) -> Offer {
        Offer {
            swarm,
            content: files.content().clone(),
            files,
            have: Mutex::new(have),
            arriving: Mutex::default(),
            listing: OnceLock::new(),
            hashes: OnceLock::new(),
        }
    }

    /// What is offered now.
    pub(crate) fn have_now(&self) -> ChunkSet {
        self.have().clone()
    }

    /// Offers one chunk more.
    pub(crate) fn add(&self, chunk: ChunkIndex) {
        self.have().insert(chunk);
    }

    /// No longer offers a chunk.
    pub(crate) fn take_back(&self, chunk: ChunkIndex) {
        self.have().remove(chunk);
    }

    /// Passes a chunk on from now on while it comes.
    pub(crate) fn pass_on(&self, chunk: ChunkIndex, arrival: &Arc<Arrival>) {
        let mut arriving = self.arriving();
        arriving.retain(|_, other| other.strong_count() > 0);
        arriving.insert(chunk, Arc::downgrade(arrival));
    }

    /// The chunk as it comes, if it is passed on.
    pub(crate) fn arrival(&self, chunk: ChunkIndex) -> Option<Arc<Arrival>> {
        self.arriving().get(&chunk)?.upgrade()
    }

    /// Size and name that go into a description: of a tree, the size of its encoded listing.
    pub(crate) fn described_size(&self) -> u64 {
        match self.listing() {
            Some(listing) => listing.bytes.len() as u64,
            None => self.content.size,
        }
    }

    /// Whether some of it can be had although files have changed: of a complete folder.
    pub(crate) fn may_be_right_in_part(&self) -> bool {
        self.content.file_count() > 1 && self.files.is_whole()
    }

    /// Whether files of it that are not as they were noted are read again.
    pub(crate) fn may_be_touched(&self) -> bool {
        self.files.is_whole() || self.files.is_divided()
    }

    /// How a peer is told that something is not given. Who is told of a change asks for nothing more, and who is
    /// told that we are busy asks again.
    pub(crate) fn reason(&self, unserved: &Unserved) -> NoReason {
        match unserved.reason() {
            // It may only have been touched; who is to ask no more is told when that is known.
            NoReason::Changed if self.may_be_touched() => NoReason::Busy,
            reason => reason,
        }
    }

    /// Whether the chunk can be had now.
    pub(crate) fn has(&self, chunk: ChunkIndex) -> bool {
        self.have().contains(chunk)
    }

    /// What is meant by a range of a chunk, whether it can be had now or not.
    pub(crate) fn wanted(&self, chunk: u32, offset: u32, len: u32) -> Result<Piece, Unserved> {
        let layout = &self.content.layout;
        let chunk = layout.chunk(chunk).ok_or(Unserved::Unknown)?;
        let range = layout.range(chunk, offset, len);
        range.map(|_| (chunk, offset, len)).ok_or(Unserved::Unknown)
    }

    /// Divides a wanted range into pieces of about `piece_bytes`.
    pub(crate) fn pieces(&self, (chunk, offset, len): Piece, piece_bytes: u32) -> Vec<Piece> {
        let wanted = offset..offset.saturating_add(len);
        let grains = self.content.layout.grains(chunk).into_iter();
        let mut pieces: Vec<Piece> = Vec::new();
        for (at, grain) in grains.filter(|(at, _)| wanted.contains(at)) {
            match pieces.last_mut() {
                Some((_, _, len)) if *len + grain <= piece_bytes => *len += grain,
                _ => pieces.push((chunk, at, grain)),
            }
        }
        pieces
    }

    /// Reads a piece from the files.
    pub(crate) fn read(&self, piece: Piece, mut into: Buffer) -> Result<Bytes, Unserved> {
        self.append(piece, into.bytes_mut())?;
        Ok(into.share())
    }

    fn append(&self, (chunk, offset, len): Piece, bytes: &mut Vec<u8>) -> Result<(), Unserved> {
        if !self.has(chunk) {
            return Err(Unserved::NotHere);
        }
        let read = self.files.read(chunk, offset, len, bytes);
        read.map_err(|error| Unserved::Broken(Arc::new(error)))
    }

    /// The hashes of the grains of a chunk, computed from its bytes, read one by one, or as they came if it
    /// is on its way.
    pub(crate) fn grains(&self, chunk: u32) -> Result<Bytes, Unserved> {
        let layout = &self.content.layout;
        let chunk = layout.chunk(chunk).ok_or(Unserved::Unknown)?;
        if !self.has(chunk) {
            let list = self.arrival(chunk).and_then(|arrival| arrival.list());
            return list.ok_or(Unserved::NotHere);
        }
        let (mut begin, mut hashes, mut grain) = (0, Vec::new(), Vec::new());
        for extent in layout.extents(chunk) {
            let expected = self.content.expected(&extent).ok_or(Unserved::Unknown)?;
            let position = expected.position();
            for cut in (0..extent.len).step_by(GRAIN_BYTES as usize) {
                let len = GRAIN_BYTES.min(extent.len - cut);
                grain.clear();
                self.append((chunk, begin + cut, len), &mut grain)?;
                let position = position.of_grain(cut, extent.len);
                hashes.extend_from_slice(grain_cvs(&grain, position).as_bytes());
            }
            begin += extent.len;
        }
        Ok(hashes.into())
    }

    /// What answers a request for anything but content bytes.
    pub(crate) fn metadata(&self, request: &PeerRequest) -> Result<Bytes, Unserved> {
        match *request {
            PeerRequest::Hashes {
                part: Part::Content,
                ..
            } => {
                let copy = || Bytes::copy_from_slice(self.content.hashes.as_bytes());
                Ok(self.hashes.get_or_init(copy).clone())
            }
            PeerRequest::Hashes {
                part: Part::Listing,
                ..
            } => {
                let listing = self.listing().ok_or(Unserved::Unknown)?;
                Ok(Bytes::copy_from_slice(listing.hashes.as_bytes()))
            }
            PeerRequest::Chunk {
                part: Part::Listing,
                chunk,
                offset,
                len,
                ..
            } => self
                .listing()
                .ok_or(Unserved::Unknown)?
                .range(chunk, offset, len),
            _ => Err(Unserved::Unknown),
        }
    }

    fn listing(&self) -> Option<&EncodedListing> {
        let listing = self.listing.get_or_init(|| {
            let listing = self.content.listing.as_ref()?;
            EncodedListing::new(listing.encode())
        });
        listing.as_ref()
    }

    fn arriving(&self) -> MutexGuard<'_, BTreeMap<ChunkIndex, Weak<Arrival>>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn have(&self) -> MutexGuard<'_, ChunkSet> {
        self.have.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EncodedListing {
    fn new(bytes: Vec<u8>) -> Option<EncodedListing> {
        let layout = Layout::file(bytes.len() as u64).ok()?;
        Some(EncodedListing {
            hashes: hash_list(&bytes, &layout),
            bytes: bytes.into(),
            layout,
        })
    }

    fn range(&self, chunk: u32, offset: u32, len: u32) -> Result<Bytes, Unserved> {
        let chunk = self.layout.chunk(chunk).ok_or(Unserved::Unknown)?;
        let extents = self.layout.range(chunk, offset, len);
        let extent = extents.and_then(|extents| extents.into_iter().next());
        let extent = extent.ok_or(Unserved::Unknown)?;
        // At most 64 MiB of listing exist, so offsets fit.
        let start = extent.offset as usize;
        Ok(self.bytes.slice(start..start + extent.len as usize))
    }
}

/// The hash list of bytes taken as a file: the hash of one chunk, else the CV of each.
fn hash_list(bytes: &[u8], layout: &Layout) -> HashList {
    let chunk_bytes = layout.chunk_bytes() as usize;
    if layout.chunk_count() <= 1 {
        return [tree::whole_hash(bytes)].into_iter().collect();
    }
    let offsets = (0u64..).step_by(chunk_bytes);
    let chunks = bytes.chunks(chunk_bytes).zip(offsets);
    chunks
        .map(|(chunk, offset)| tree::subtree_cv(chunk, offset))
        .collect()
}
