//! The `.p2p` file: a share complete with its hashes, and the trackers that know its peers.
//!
//! Magic, version, body, extension records, checksum; `manifest-format.md`, Manifest, is the
//! normative text. [`Manifest::decode`] accepts only what [`Manifest::encode`] writes, so one
//! share with the same trackers has one manifest.
//!
//! Not here: what makes a share consistent (`describe`).

use serde::{Deserialize, Deserializer, Serialize};

use super::address::TrackerAddress;
pub use super::describe::{Content, ContentError};
use super::hashes::HashList;
use super::listing::{Listing, ListingError};
use super::path::{PathError, ShareName};
use crate::id::{ContentId, Kind, Secret};
use crate::limits;
use crate::wire::Bounded;

/// Like PNG's: not text, and changed by every transfer that changes line ends.
const MAGIC: [u8; 8] = [0x89, b'P', b'2', b'P', 0x0D, 0x0A, 0x1A, 0x0A];
const VERSION: u16 = 1;
/// First bytes of the BLAKE3 hash of everything before.
const CHECKSUM_BYTES: usize = 16;

/// A share and the way to its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What is shared.
    pub content: Content,
    /// Who knows its peers, at most [`limits::TRACKERS`].
    pub trackers: Vec<TrackerAddress>,
    /// The secret of a private share.
    pub secret: Option<Secret>,
    /// Records of a later version, kept as they are; types strictly ascending.
    pub extensions: Vec<Extension>,
}

/// An extension record, skipped by programs that do not know its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// What the record is.
    pub kind: u16,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Why bytes are no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`limits::MANIFEST_BYTES`].
    #[error("the manifest is larger than {} MiB", limits::MANIFEST_BYTES >> 20)]
    TooLarge,
    /// Does not begin like one.
    #[error("this is not a .p2p manifest")]
    NotAManifest,
    /// A newer format.
    #[error("the manifest has version {0}, which this program is too old for")]
    Version(u16),
    /// The checksum is wrong: cut short or changed on the way.
    #[error("the manifest is damaged")]
    Damaged,
    /// Undamaged, yet not what encoding its content gives.
    #[error("the manifest is malformed")]
    Malformed,
    /// The name is no file name.
    #[error("the name in the manifest is not allowed")]
    Name(#[source] PathError),
    /// The listing is invalid.
    #[error("the listing in the manifest is invalid")]
    Listing(#[from] ListingError),
    /// The parts do not fit together.
    #[error("the manifest contradicts itself")]
    Content(#[from] ContentError),
}

/// The body in its order on disk.
#[derive(Serialize, Deserialize)]
struct Body<'a> {
    kind: u8,
    name: &'a str,
    size: u64,
    id: ContentId,
    hashes: &'a [u8],
    /// Empty for a file.
    listing: &'a [u8],
    #[serde(deserialize_with = "few_trackers")]
    trackers: Vec<TrackerAddress>,
    secret: Option<Secret>,
}

/// Refuses too many before any room is made for them.
fn few_trackers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<TrackerAddress>, D::Error> {
    Bounded::<TrackerAddress, { limits::TRACKERS }>::deserialize(from).map(Bounded::into_vec)
}

impl Manifest {
    /// A manifest without extension records.
    pub fn new(
        content: Content,
        trackers: Vec<TrackerAddress>,
        secret: Option<Secret>,
    ) -> Manifest {
        Manifest {
            content,
            trackers,
            secret,
            extensions: Vec::new(),
        }
    }

    /// The bytes of the `.p2p` file. They read back unless they exceed
    /// [`limits::MANIFEST_BYTES`] or there are more than [`limits::TRACKERS`].
    pub fn encode(&self) -> Vec<u8> {
        let body = self.encode_body();
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_be_bytes());
        put_block(&mut out, &body);
        put_block(&mut out, &encode_extensions(&self.extensions));
        out.extend_from_slice(&checksum(&out));
        out
    }

    fn encode_body(&self) -> Vec<u8> {
        let content = &self.content;
        let listing = content.listing.as_ref().map_or(Vec::new(), Listing::encode);
        let body = Body {
            kind: content.kind as u8,
            name: content.name.as_str(),
            size: content.size,
            id: content.id,
            hashes: content.hashes.as_bytes(),
            listing: &listing,
            trackers: self.trackers.clone(),
            secret: self.secret,
        };
        postcard::to_stdvec(&body).expect("a growing vector has room and all lengths are known")
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are not the encoding of a consistent manifest, or exceed a limit.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        if bytes.len() > limits::MANIFEST_BYTES {
            return Err(ManifestError::TooLarge);
        }
        let manifest = decode_blocks(check_frame(bytes)?)?;
        if manifest.encode() != bytes {
            return Err(ManifestError::Malformed);
        }
        Ok(manifest)
    }
}

/// What lies between the version and the checksum, once both are right.
fn check_frame(bytes: &[u8]) -> Result<&[u8], ManifestError> {
    let rest = bytes
        .strip_prefix(&MAGIC)
        .ok_or(ManifestError::NotAManifest)?;
    let (version, rest) = rest.split_first_chunk().ok_or(ManifestError::Damaged)?;
    match u16::from_be_bytes(*version) {
        VERSION => (),
        version => return Err(ManifestError::Version(version)),
    }
    let (blocks, found) = rest.split_last_chunk().ok_or(ManifestError::Damaged)?;
    let before = &bytes[..bytes.len() - CHECKSUM_BYTES];
    if *found == checksum(before) {
        Ok(blocks)
    } else {
        Err(ManifestError::Damaged)
    }
}

fn decode_blocks(blocks: &[u8]) -> Result<Manifest, ManifestError> {
    let (body, rest) = take_block(blocks)?;
    let (extensions, rest) = take_block(rest)?;
    let body: Body<'_> = postcard::from_bytes(body).map_err(|_| ManifestError::Malformed)?;
    if !rest.is_empty() {
        return Err(ManifestError::Malformed);
    }
    let content = decode_content(&body)?;
    if content.id != body.id || content.size != body.size {
        return Err(ManifestError::Malformed);
    }
    let Body {
        trackers, secret, ..
    } = body;
    Ok(Manifest {
        content,
        trackers,
        secret,
        extensions: decode_extensions(extensions)?,
    })
}

fn decode_content(body: &Body<'_>) -> Result<Content, ManifestError> {
    let name = ShareName::parse(body.name).map_err(ManifestError::Name)?;
    let hashes = HashList::from_bytes(body.hashes.to_vec()).ok_or(ManifestError::Malformed)?;
    if body.kind == Kind::Tree as u8 {
        return Ok(Content::tree(name, Listing::decode(body.listing)?, hashes)?);
    }
    if body.kind != Kind::File as u8 || !body.listing.is_empty() {
        return Err(ManifestError::Malformed);
    }
    Ok(Content::file(name, body.size, hashes)?)
}

fn encode_extensions(extensions: &[Extension]) -> Vec<u8> {
    let mut out = Vec::new();
    for extension in extensions {
        out.extend_from_slice(&extension.kind.to_be_bytes());
        put_block(&mut out, &extension.bytes);
    }
    out
}

fn decode_extensions(mut bytes: &[u8]) -> Result<Vec<Extension>, ManifestError> {
    let mut extensions: Vec<Extension> = Vec::new();
    while !bytes.is_empty() {
        let (kind, rest) = bytes.split_first_chunk().ok_or(ManifestError::Malformed)?;
        let kind = u16::from_be_bytes(*kind);
        let (record, rest) = take_block(rest)?;
        if extensions.last().is_some_and(|last| last.kind >= kind) {
            return Err(ManifestError::Malformed);
        }
        extensions.push(Extension {
            kind,
            bytes: record.to_vec(),
        });
        bytes = rest;
    }
    Ok(extensions)
}

/// Appends a length as u32 in network order, then the bytes.
fn put_block(out: &mut Vec<u8>, block: &[u8]) {
    // Blocks hold a listing and a hash list, each far below 4 GiB by its own limit.
    out.extend_from_slice(&(block.len() as u32).to_be_bytes());
    out.extend_from_slice(block);
}

/// Splits off what [`put_block`] appended.
fn take_block(bytes: &[u8]) -> Result<(&[u8], &[u8]), ManifestError> {
    let (len, rest) = bytes.split_first_chunk().ok_or(ManifestError::Malformed)?;
    let len = u32::from_be_bytes(*len) as usize;
    rest.split_at_checked(len).ok_or(ManifestError::Malformed)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::samples::{
        any_damage, any_files, any_len, any_secret, any_tracker, bytes, file_share, tree_share,
    };
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_told_apart() {
        let good = sample().encode();
        let change = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            Manifest::decode(&bad)
        };
        assert_eq!(change(0, 0), Err(ManifestError::NotAManifest));
        assert_eq!(change(9, 2), Err(ManifestError::Version(2)));
        assert_eq!(change(20, 0xAA), Err(ManifestError::Damaged));
        assert_eq!(
            Manifest::decode(&good[..good.len() - 1]),
            Err(ManifestError::Damaged)
        );
        assert_eq!(Manifest::decode(&good[..9]), Err(ManifestError::Damaged));
        assert_eq!(Manifest::decode(b""), Err(ManifestError::NotAManifest));
        let large = vec![0; limits::MANIFEST_BYTES + 1];
        assert_eq!(Manifest::decode(&large), Err(ManifestError::TooLarge));
    }

    #[test]
    fn extension_records_survive_and_ascend() {
        let record = |kind| Extension {
            kind,
            bytes: vec![1, 2, 3],
        };
        let with = |extensions| Manifest {
            extensions,
            ..sample()
        };
        let good = with(vec![record(1), record(0xFFFF)]);
        assert_eq!(Manifest::decode(&good.encode()), Ok(good));
        for kinds in [[1, 1], [2, 1]] {
            let bad = with(kinds.map(record).to_vec());
            assert_eq!(
                Manifest::decode(&bad.encode()),
                Err(ManifestError::Malformed)
            );
        }
    }

    #[test]
    fn undamaged_lies_are_refused() {
        let lie = |change: fn(&mut Manifest)| {
            let mut manifest = sample();
            change(&mut manifest);
            Manifest::decode(&manifest.encode())
        };
        assert!(lie(|_| ()).is_ok());
        assert_eq!(
            lie(|m| m.content.id.0[0] ^= 1),
            Err(ManifestError::Malformed)
        );
        assert_eq!(
            lie(|m| m.content.kind = Kind::File),
            Err(ManifestError::Malformed)
        );
        assert_eq!(lie(|m| m.content.size += 1), Err(ManifestError::Malformed));
        assert_eq!(
            lie(|m| m.content.listing = None),
            Err(ListingError::Malformed.into())
        );
        let unneeded = lie(|m| m.content.hashes.push([0; 32]));
        assert!(matches!(
            unneeded,
            Err(ManifestError::Content(ContentError::HashCount { .. }))
        ));
        assert_eq!(
            lie(|m| m.trackers = vec![m.trackers[0].clone(); 9]),
            Err(ManifestError::Malformed)
        );
    }

    #[test]
    fn a_hostile_name_is_refused() {
        let manifest = sample();
        let name = manifest.content.name.as_str().as_bytes();
        let mut bytes = manifest.encode();
        let at = bytes
            .windows(name.len())
            .position(|window| window == name)
            .unwrap();
        bytes[at..at + 3].copy_from_slice(b"../");
        assert_eq!(
            Manifest::decode(&sealed(bytes)),
            Err(ManifestError::Name(PathError::Separator))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_file_share_survives_its_manifest(
            len in any_len(), tracker in any_tracker(), secret in any_secret()
        ) {
            let manifest = Manifest::new(file_share(&bytes(len, 1)), vec![tracker], secret);
            prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
        }

        #[test]
        fn a_tree_survives_its_manifest(
            files in any_files(), trackers in prop::collection::vec(any_tracker(), 0..9)
        ) {
            let manifest = Manifest::new(tree_share(&files), trackers, None);
            prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
        }
    }

    proptest! {
        #[test]
        fn damage_is_noticed(damage in any_damage()) {
            let good = sample().encode();
            let bad = damage.apply(&good);
            prop_assert_eq!(Manifest::decode(&bad).is_ok(), bad == good);
        }

        #[test]
        fn what_decodes_behind_a_right_checksum_is_canonical(damage in any_damage()) {
            let bytes = sealed(damage.apply(&sample().encode()));
            if let Ok(manifest) = Manifest::decode(&bytes) {
                prop_assert_eq!(manifest.encode(), bytes);
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Manifest::decode(&bytes).is_err());
            let framed = [&MAGIC, &VERSION.to_be_bytes()[..], &bytes, &[0; 16]].concat();
            prop_assert!(Manifest::decode(&sealed(framed)).is_err());
        }
    }

    /// `bytes` with its last 16 replaced by the checksum of those before.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.truncate(bytes.len().saturating_sub(CHECKSUM_BYTES));
        bytes.extend_from_slice(&checksum(&bytes));
        bytes
    }

    fn sample() -> Manifest {
        let files = [("a/one", 3), ("a/two", 0), ("b", 70_000)];
        let files = BTreeMap::from(files.map(|(path, len)| (path.to_owned(), bytes(len, 9))));
        let tracker = "tracker.example:59000#aaaaaaaaaaaaaaaaaaaaaaaaaa"
            .parse()
            .unwrap();
        Manifest::new(tree_share(&files), vec![tracker], Some(Secret([5; 16])))
    }
}
