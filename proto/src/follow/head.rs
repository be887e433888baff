//! What a publisher signs about one version of its share.
//!
//! The content id is sealed, since a tracker that keeps the head is not to learn what is shared. What opens it
//! is in the follow link. PROTOCOL.md, Following, is the normative text.

use std::fmt;
use std::ops::Deref;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::PublisherId;
use crate::id::{ContentId, Kind, PublicKey, Secret};
use crate::limits::HEAD_SEALED_BYTES;
use crate::wire::Bounded;

const TREE: u8 = 1;
const PRIVATE: u8 = 1 << 1;
/// Kind and flags, content id, secret, time.
const PLAIN_BYTES: usize = 1 + 32 + 16 + 8;
/// Length of the sealed part of a head as this version makes it: nonce, text, tag.
pub const SEALED_BYTES: usize = NONCE_LEN + PLAIN_BYTES + 16;

/// Which content a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// A file or a tree.
    pub kind: Kind,
    /// Its content id.
    pub id: ContentId,
    /// The secret of a private share.
    pub secret: Option<Secret>,
    /// When its publisher says it was signed, in seconds since 1970.
    pub signed_unix_s: u64,
}

/// A version of a publisher's share, signed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The publisher's key.
    pub key: PublicKey,
    /// Which version: at least 1, and greater than that of all before.
    pub sequence: u64,
    /// The [`Version`], for who has the follow link.
    pub sealed: Bounded<u8, HEAD_SEALED_BYTES>,
    /// Ed25519 (RFC 8032) over all of this.
    pub signature: [[u8; 32]; 2],
}

/// A head whose signature was looked at and is right; made by [`Head::verified`] alone.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedHead(Head);

/// The private half of a publisher, of which all else follows.
pub struct PublisherKey {
    pair: Ed25519KeyPair,
    read: Secret,
}

impl PublisherKey {
    /// The publisher of this seed, 32 random bytes that are to be kept and shown to nobody.
    pub fn of(seed: &[u8; 32]) -> Option<PublisherKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let hash = blake3::derive_key("warren follow read v1", seed);
        let mut read = [0; 16];
        read.copy_from_slice(&hash[..16]);
        let read = Secret(read);
        Some(PublisherKey { pair, read })
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        // An Ed25519 public key has 32 bytes.
        key.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(key)
    }

    /// What it is known by.
    pub fn id(&self) -> PublisherId {
        PublisherId::of(&self.public())
    }

    /// What opens its heads.
    pub fn read(&self) -> Secret {
        self.read
    }

    /// Signs a version. The same version under the same number is the same head.
    pub fn sign(&self, sequence: u64, version: &Version) -> Head {
        let mut head = Head {
            key: self.public(),
            sequence,
            sealed: Bounded::truncated(seal(&self.read, &self.id(), sequence, version)),
            signature: [[0; 32]; 2],
        };
        let signature = self.pair.sign(&head.signed());
        let (first, second) = signature.as_ref().split_at(32);
        head.signature[0].copy_from_slice(first);
        head.signature[1].copy_from_slice(second);
        head
    }
}

impl Head {
    /// Whose it is.
    pub fn publisher(&self) -> PublisherId {
        PublisherId::of(&self.key)
    }

    /// Whether it was made by who has the publisher's key, and has a number.
    pub fn is_signed(&self) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.key.0);
        let verified = key.verify(&self.signed(), self.signature.as_flattened());
        self.sequence > 0 && verified.is_ok()
    }

    /// The same, if it is signed.
    pub fn verified(self) -> Option<SignedHead> {
        self.is_signed().then_some(SignedHead(self))
    }

    /// What the version is; `None` for who has not the right secret, or when it is not understood.
    pub fn open(&self, read: &Secret) -> Option<Version> {
        let (nonce, text) = self.sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = text.to_vec();
        let key = seal_key(read, &self.publisher(), self.sequence);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.open_in_place(nonce, Aad::empty(), &mut text).ok()?;
        decode(plain)
    }

    /// What is signed: one hash, so that no other message of any use is.
    fn signed(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("warren head v1");
        hasher.update(&self.key.0);
        hasher.update(&self.sequence.to_be_bytes());
        hasher.update(&self.sealed);
        *hasher.finalize().as_bytes()
    }
}

impl Deref for SignedHead {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.0
    }
}

impl fmt::Debug for SignedHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({}, {})", self.publisher(), self.sequence)
    }
}

impl fmt::Debug for PublisherKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublisherKey({})", self.id())
    }
}

/// Nonce, then what `ChaCha20-Poly1305` makes of it (RFC 8439). The nonce is a keyed hash of the version: should
/// a publisher use a number twice, nothing is learnt but that.
fn seal(read: &Secret, publisher: &PublisherId, sequence: u64, version: &Version) -> Vec<u8> {
    let mut text = encode(version);
    let key = seal_key_bytes(read, publisher, sequence);
    let hash = blake3::keyed_hash(&key, &text);
    let mut nonce = [0; NONCE_LEN];
    nonce.copy_from_slice(&hash.as_bytes()[..NONCE_LEN]);
    let used = Nonce::assume_unique_for_key(nonce);
    less_safe(key)
        .seal_in_place_append_tag(used, Aad::empty(), &mut text)
        .expect("57 bytes are not too many to seal");
    [&nonce[..], &text].concat()
}

fn seal_key(read: &Secret, publisher: &PublisherId, sequence: u64) -> LessSafeKey {
    less_safe(seal_key_bytes(read, publisher, sequence))
}

/// Another key for each number.
fn seal_key_bytes(read: &Secret, publisher: &PublisherId, sequence: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("warren head seal v1");
    hasher.update(&publisher.0);
    hasher.update(&read.0);
    hasher.update(&sequence.to_be_bytes());
    *hasher.finalize().as_bytes()
}

fn less_safe(key: [u8; 32]) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, &key);
    LessSafeKey::new(key.expect("a key of this algorithm has 32 bytes"))
}

fn encode(version: &Version) -> Vec<u8> {
    let kind = match version.kind {
        Kind::File => 0,
        Kind::Tree => TREE,
    };
    let private = version.secret.map_or(0, |_| PRIVATE);
    let mut out = Vec::with_capacity(SEALED_BYTES);
    out.push(kind | private);
    out.extend_from_slice(&version.id.0);
    out.extend_from_slice(&version.secret.map_or([0; 16], |secret| secret.0));
    out.extend_from_slice(&version.signed_unix_s.to_be_bytes());
    out
}

/// `None` for what [`encode`] would not have written.
fn decode(bytes: &[u8]) -> Option<Version> {
    let (&flags, rest) = bytes.split_first()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (secret, rest) = rest.split_first_chunk()?;
    let version = Version {
        kind: match flags & TREE {
            0 => Kind::File,
            _ => Kind::Tree,
        },
        id: ContentId(*id),
        secret: (flags & PRIVATE != 0).then_some(Secret(*secret)),
        signed_unix_s: u64::from_be_bytes(rest.try_into().ok()?),
    };
    (encode(&version) == bytes).then_some(version)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(seed: u8) -> PublisherKey {
        PublisherKey::of(&[seed; 32]).unwrap()
    }

    fn version(id: u8) -> Version {
        Version {
            kind: Kind::Tree,
            id: ContentId([id; 32]),
            secret: None,
            signed_unix_s: 1_700_000_000,
        }
    }

    #[test]
    fn who_has_the_secret_reads_which_version_it_is_and_nobody_else() {
        let (ours, theirs) = (key(1), key(2));
        let head = ours.sign(7, &version(5));
        assert!(head.is_signed());
        assert_eq!(head.publisher(), ours.id());
        assert_eq!(head.open(&ours.read()), Some(version(5)));
        assert_eq!(head.open(&theirs.read()), None);
        assert_eq!(head.sealed.len(), SEALED_BYTES);
        let id = [5; 32];
        let seen = head.sealed.windows(id.len()).any(|part| part == id);
        assert!(!seen, "a tracker would learn what is shared");
    }

    #[test]
    fn a_stranger_cannot_change_anything_of_it() {
        let head = key(1).sign(7, &version(5));
        let later = Head {
            sequence: 8,
            ..head.clone()
        };
        assert!(!later.is_signed(), "another number");
        let stranger = Head {
            key: key(2).public(),
            ..head.clone()
        };
        assert!(!stranger.is_signed(), "another publisher");
        let other = Head {
            sealed: key(1).sign(7, &version(6)).sealed,
            ..head.clone()
        };
        assert!(!other.is_signed(), "another version");
        let mut signature = head.signature;
        signature[1][3] ^= 1;
        assert!(!Head { signature, ..head }.is_signed(), "another signature");
    }

    #[test]
    fn the_number_0_is_none() {
        assert!(!key(1).sign(0, &version(5)).is_signed());
    }

    #[test]
    fn one_version_has_one_head_and_two_of_one_number_have_nothing_in_common() {
        let ours = key(1);
        assert_eq!(ours.sign(7, &version(5)), ours.sign(7, &version(5)));
        let [one, two] = [5, 6].map(|id| ours.sign(7, &version(id)).sealed);
        let same = one.iter().zip(two.iter()).filter(|(a, b)| a == b).count();
        assert!(same < 16, "{same} of {SEALED_BYTES} bytes are the same");
    }

    proptest! {
        #[test]
        fn a_version_survives_its_head(
            seed: [u8; 32], sequence in 1u64.., tree: bool, id: [u8; 32],
            secret: Option<[u8; 16]>, signed_unix_s: u64,
        ) {
            let kind = if tree { Kind::Tree } else { Kind::File };
            let (id, secret) = (ContentId(id), secret.map(Secret));
            let version = Version { kind, id, secret, signed_unix_s };
            let key = PublisherKey::of(&seed).unwrap();
            let head = key.sign(sequence, &version);
            prop_assert!(head.is_signed());
            prop_assert_eq!(head.open(&key.read()), Some(version));
        }

        #[test]
        fn whatever_is_sealed_opening_never_panics(
            sealed in prop::collection::vec(any::<u8>(), 0..=HEAD_SEALED_BYTES), plain: Vec<u8>,
        ) {
            let head = Head { sealed: Bounded::truncated(sealed), ..key(1).sign(7, &version(5)) };
            prop_assert!(!head.is_signed());
            prop_assert_eq!(head.open(&key(1).read()), None);
            if let Some(version) = decode(&plain) {
                prop_assert_eq!(encode(&version), plain);
            }
        }
    }
}
