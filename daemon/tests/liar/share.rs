//! What is shared: a file, or a tree with large and small files, and the answers to every request
//! about it.

use std::{collections::BTreeMap, fs, path::Path};

use warren_proto::{
    content::{
        Content, Entry, EntryKind, HashList, Layout, Link, Listing, Run, ShareName, SharePath,
        TrackerAddress, Verifier, tree,
    },
    id::SwarmId,
    limits::GRAIN_BYTES,
    wire::{Part, PeerRequest},
};

/// Chunk of every tree here: they are all small.
const CHUNK_BYTES: usize = 65_536;

/// Length of the file that is a share of its own.
pub(crate) const FILE_BYTES: u64 = 3 * 1024 * 1024 + 12_345;

/// A share with its bytes.
pub(crate) struct Share {
    content: Content,
    /// In listing order.
    files: Vec<(String, Vec<u8>)>,
    /// A tree's encoded listing as a share of its own.
    listing: Option<Box<Share>>,
}

impl Share {
    /// A share that is one file of [`FILE_BYTES`].
    pub(crate) fn file() -> Share {
        Share::of_file("film.mkv", random(FILE_BYTES as usize, 1))
    }

    /// A share that is one file of nothing, the shortest whose chunks are two grains.
    pub(crate) fn of_two_grains() -> Share {
        Share::of_file("film.mkv", vec![0; (128 << 20) + 1])
    }

    /// A tree with two large files, a hundred small ones and an empty folder.
    pub(crate) fn tree() -> Share {
        let mut files = BTreeMap::from([
            ("a/large".to_owned(), random(1_000_000, 2)),
            ("z".to_owned(), random(200_000, 3)),
            ("empty".to_owned(), Vec::new()),
        ]);
        for n in 0..100 {
            files.insert(format!("small/{n:02}"), random(100 * n + 1, n as u64 + 10));
        }
        let mut entries: Vec<_> = files
            .iter()
            .map(|(path, bytes)| entry(path, bytes))
            .collect();
        entries.push(Entry {
            path: SharePath::parse("nothing").unwrap(),
            kind: EntryKind::Dir,
        });
        let listing = Listing::new(entries).unwrap();
        let encoded = listing.encode();
        let large = files.values().filter(|bytes| bytes.len() > CHUNK_BYTES);
        let hashes = large.flat_map(|bytes| chunk_hashes(bytes, CHUNK_BYTES).collect::<Vec<_>>());
        let name = ShareName::parse("photos").unwrap();
        Share {
            content: Content::tree(name, listing, hashes.collect()).unwrap(),
            files: files.into_iter().collect(),
            listing: Some(Box::new(Share::of_file("listing", encoded))),
        }
    }

    fn of_file(name: &str, bytes: Vec<u8>) -> Share {
        let size = bytes.len() as u64;
        let chunk_bytes = Layout::file(size).unwrap().chunk_bytes() as usize;
        let hashes = if bytes.len() > chunk_bytes {
            chunk_hashes(&bytes, chunk_bytes).collect()
        } else {
            HashList::from_bytes(tree::whole_hash(&bytes).to_vec()).unwrap()
        };
        Share {
            content: Content::file(ShareName::parse(name).unwrap(), size, hashes).unwrap(),
            files: vec![(name.to_owned(), bytes)],
            listing: None,
        }
    }

    /// What everybody may know of it.
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.content.name.as_str()
    }

    /// Its swarm.
    pub(crate) fn swarm(&self) -> SwarmId {
        self.content.swarm_id(None)
    }

    /// Its link.
    pub(crate) fn link(&self, tracker: TrackerAddress) -> Link {
        Link {
            kind: self.content.kind,
            id: self.content.id,
            tracker,
            secret: None,
        }
    }

    /// What a peer describes as its size: that of a file, or of a tree's encoded listing.
    pub(crate) fn described_bytes(&self) -> u64 {
        self.listing
            .as_ref()
            .map_or(self.content.size, |l| l.content.size)
    }

    /// All its chunks.
    pub(crate) fn all_chunks(&self) -> Run {
        Run {
            start: 0,
            count: self.content.layout.chunk_count(),
        }
    }

    /// The raw bytes that answer a request; `None` when it means nothing.
    pub(crate) fn answer(&self, request: &PeerRequest) -> Option<Vec<u8>> {
        match *request {
            PeerRequest::Chunk {
                part,
                chunk,
                offset,
                len,
                ..
            } => {
                let bytes = self.part(part)?.chunk(chunk)?;
                let end = offset.checked_add(len)?;
                bytes.get(offset as usize..end as usize).map(<[u8]>::to_vec)
            }
            PeerRequest::Hashes { part, .. } => {
                Some(self.part(part)?.content.hashes.as_bytes().to_vec())
            }
            PeerRequest::Grains { part, chunk, .. } => self.part(part)?.grains(chunk),
        }
    }

    fn part(&self, part: Part) -> Option<&Share> {
        match part {
            Part::Content => Some(self),
            Part::Listing => self.listing.as_deref(),
        }
    }

    fn chunk(&self, chunk: u32) -> Option<Vec<u8>> {
        let layout = &self.content.layout;
        let extents = layout.extents(layout.chunk(chunk)?);
        let bytes = extents.map(|extent| {
            let start = extent.offset as usize;
            &self.files[extent.file as usize].1[start..start + extent.len as usize]
        });
        Some(bytes.collect::<Vec<_>>().concat())
    }

    fn grains(&self, chunk: u32) -> Option<Vec<u8>> {
        let layout = &self.content.layout;
        let mut hashes = Vec::new();
        for extent in layout.extents(layout.chunk(chunk)?) {
            let start = extent.offset as usize;
            let bytes = &self.files[extent.file as usize].1[start..start + extent.len as usize];
            let position = self.content.expected(&extent)?.position();
            hashes.extend_from_slice(tree::grain_cvs(bytes, position).as_bytes());
        }
        Some(hashes)
    }

    /// Writes it to disk, as what is at `path`.
    pub(crate) fn write(&self, path: &Path) {
        if self.listing.is_none() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &self.files[0].1).unwrap();
            return;
        }
        fs::create_dir_all(path.join("nothing")).unwrap();
        for (name, bytes) in &self.files {
            let file = path.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
    }

    /// Fails unless that is what is at `path`.
    #[track_caller]
    pub(crate) fn check(&self, path: &Path) {
        for (name, bytes) in &self.files {
            let file = if self.listing.is_none() {
                path.to_owned()
            } else {
                path.join(name)
            };
            assert!(fs::read(&file).unwrap() == *bytes, "{}", file.display());
        }
    }
}

fn entry(path: &str, bytes: &[u8]) -> Entry {
    Entry {
        path: SharePath::parse(path).unwrap(),
        kind: EntryKind::File {
            size: bytes.len() as u64,
            executable: false,
            root: tree::whole_hash(bytes),
        },
    }
}

/// The hashes of the chunks of a file that has more than one.
fn chunk_hashes(bytes: &[u8], chunk_bytes: usize) -> impl Iterator<Item = [u8; 32]> {
    let offsets = (0..).step_by(chunk_bytes);
    let chunks = bytes.chunks(chunk_bytes).zip(offsets);
    chunks.map(|(chunk, offset)| tree::subtree_cv(chunk, offset))
}

fn random(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn every_answer_of_a_share_is_right() {
    for share in [Share::file(), Share::tree()] {
        check_answers(&share, Part::Content, &share);
        if let Some(listing) = &share.listing {
            check_answers(&share, Part::Listing, listing);
        }
    }
}

/// Verifies what `share` answers about its `part`, which is `expected`.
#[track_caller]
fn check_answers(share: &Share, part: Part, expected: &Share) {
    let layout = &expected.content.layout;
    for chunk in 0..layout.chunk_count() {
        let (alias, offset) = (0, 0);
        let len = layout.chunk_len(layout.chunk(chunk).unwrap());
        let request = PeerRequest::Chunk {
            alias,
            part,
            chunk,
            offset,
            len,
        };
        let bytes = share.answer(&request).unwrap();
        let grains = share.answer(&PeerRequest::Grains { alias, part, chunk });
        let (mut bytes, mut grains) = (&bytes[..], &grains.unwrap()[..]);
        for extent in layout.extents(layout.chunk(chunk).unwrap()) {
            let expected = expected.content.expected(&extent).unwrap();
            let mut verifier = Verifier::new(expected);
            verifier.update(bytes.split_off(..extent.len as usize).unwrap());
            assert!(verifier.finish(), "{extent:?}");
            let hash_bytes = 32 * extent.len.div_ceil(GRAIN_BYTES) as usize;
            let list = grains.split_off(..hash_bytes).unwrap().to_vec();
            let list = HashList::from_bytes(list).unwrap();
            let len = u64::from(extent.len);
            assert!(tree::verify_grains(&list, &expected, len), "{extent:?}");
        }
        assert!(bytes.is_empty() && grains.is_empty());
    }
}
