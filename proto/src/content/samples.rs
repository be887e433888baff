//! Shares and hostile bytes for the tests of this folder.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    Content, DnsName, Entry, EntryKind, HashList, Host, Layout, Listing, ShareName, SharePath,
    TrackerAddress, tree,
};
use crate::id::{Secret, TrackerPin};

/// Bytes that differ from place to place and from `seed` to `seed`.
pub(super) fn bytes(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_keyed(&[seed; 32])
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// The hashes that go with one file: CVs of its chunks, or its hash if it is one chunk.
pub(super) fn chunk_hashes(file: &[u8], chunk_bytes: u32) -> HashList {
    if file.len() <= chunk_bytes as usize {
        return [tree::whole_hash(file)].into_iter().collect();
    }
    let offsets = (0u64..).step_by(chunk_bytes as usize);
    let chunks = file.chunks(chunk_bytes as usize).zip(offsets);
    chunks
        .map(|(chunk, offset)| tree::subtree_cv(chunk, offset))
        .collect()
}

/// A share that is one file.
pub(super) fn file_share(file: &[u8]) -> Content {
    let size = file.len() as u64;
    let hashes = chunk_hashes(file, Layout::file(size).unwrap().chunk_bytes());
    Content::file(ShareName::parse("sample.bin").unwrap(), size, hashes).unwrap()
}

/// A listing of these files by path.
pub(super) fn listing(files: &BTreeMap<String, Vec<u8>>) -> Listing {
    let entries = files
        .iter()
        .map(|(path, file)| file_entry(path, file))
        .collect();
    Listing::new(entries).unwrap()
}

/// A share that is a tree of these files by path.
pub(super) fn tree_share(files: &BTreeMap<String, Vec<u8>>) -> Content {
    let sizes: Vec<u64> = files.values().map(|file| file.len() as u64).collect();
    let chunk_bytes = Layout::tree(&sizes).unwrap().chunk_bytes();
    let large = files
        .values()
        .filter(|file| file.len() > chunk_bytes as usize);
    let lists: Vec<_> = large.map(|file| chunk_hashes(file, chunk_bytes)).collect();
    let hashes = lists.iter().flat_map(HashList::iter).collect();
    Content::tree(ShareName::parse("sample").unwrap(), listing(files), hashes).unwrap()
}

/// The entry of a file that is not executable.
pub(super) fn file_entry(path: &str, file: &[u8]) -> Entry {
    let (size, root) = (file.len() as u64, tree::whole_hash(file));
    let path = SharePath::parse(path).unwrap();
    Entry {
        path,
        kind: EntryKind::File {
            size,
            executable: false,
            root,
        },
    }
}

/// A length around the edges of leaves, grains and chunks.
pub(super) fn any_len() -> impl Strategy<Value = usize> {
    prop_oneof![
        Just(0),
        1..3000usize,
        65_534..65_539usize,
        131_070..131_075usize,
        1..400_000usize
    ]
}

/// Files that never lie in each other, in path order.
pub(super) fn any_files() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    let file = (any_len(), any::<u8>()).prop_map(|(len, seed)| bytes(len, seed));
    prop::collection::btree_map("(d[a\u{e9}]/){0,2}f[ab]{1,2}", file, 0..6)
}

/// A tracker on any kind of host.
pub(crate) fn any_tracker() -> impl Strategy<Value = TrackerAddress> {
    let host = prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(Host::V4),
        any::<std::net::Ipv6Addr>().prop_map(Host::V6),
        "[a-z][a-z0-9]{0,60}(\\.[a-z]{1,60}){0,2}".prop_filter_map("too long", |name| {
            DnsName::parse(&name).ok().map(Host::Name)
        }),
    ];
    (host, any::<u16>(), any::<[u8; 16]>()).prop_map(|(host, port, pin)| TrackerAddress {
        host,
        port,
        pin: TrackerPin(pin),
    })
}

/// A secret or none.
pub(super) fn any_secret() -> impl Strategy<Value = Option<Secret>> {
    prop::option::of(any::<[u8; 16]>().prop_map(Secret))
}

/// One way to damage an encoding.
#[derive(Clone, Debug)]
pub(super) enum Damage {
    Flip(prop::sample::Index, u8),
    Truncate(prop::sample::Index),
    Append(u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
}

/// Any way to damage an encoding.
pub(super) fn any_damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), 1..=255u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        at().prop_map(Damage::Truncate),
        any::<u8>().prop_map(Damage::Append),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        at().prop_map(Damage::Remove),
    ]
}

impl Damage {
    /// Damages an encoding of at least one byte.
    pub(super) fn apply(&self, encoded: &[u8]) -> Vec<u8> {
        let (mut bytes, len) = (encoded.to_vec(), encoded.len());
        match self {
            Damage::Flip(at, bits) => bytes[at.index(len)] ^= bits,
            Damage::Truncate(at) => bytes.truncate(at.index(len)),
            Damage::Append(byte) => bytes.push(*byte),
            Damage::Insert(at, byte) => bytes.insert(at.index(len), *byte),
            Damage::Remove(at) => drop(bytes.remove(at.index(len))),
        }
        bytes
    }
}
