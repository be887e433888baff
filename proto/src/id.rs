//! The names of things: content, swarms, peers, trackers, relay sessions, and the secret of a
//! private share.
//!
//! All are fixed-size byte arrays, encoded raw in frames and manifests. A [`SwarmId`], a
//! [`RelayId`] and a [`Secret`] give access, so they have no text form and their `Debug` output
//! hides them.
//!
//! Not here: how a content id is computed (`content::tree`), how a key signs (`warren-net`).

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, BASE32_NOPAD_NOCASE, HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};

/// The BLAKE3 hash of a file's bytes, as `b3sum` prints it, or of a tree's encoded listing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContentId(pub [u8; 32]);

/// What a tracker knows a swarm by. Whoever knows it can ask for peers, so it is never logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SwarmId(pub [u8; 32]);

/// An Ed25519 public key: the identity of a peer or tracker. Shown as a 16-character short name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicKey(pub [u8; 32]);

/// What a link or manifest says of a tracker's key; 26 characters of base32 as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrackerPin(pub [u8; 16]);

/// A session at a tracker by which two daemons can talk to each other; also the second half of the
/// header of each relayed datagram.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RelayId(pub [u8; 12]);

/// The extra secret of a private share.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub [u8; 16]);

/// Whether a content id is the hash of a file or of a tree's listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// One file.
    File = 0,
    /// A folder with everything in it.
    Tree = 1,
}

/// Why a text is no identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// Not 64 hexadecimal digits.
    #[error("a content id is 64 hexadecimal digits")]
    ContentId,
    /// Not 26 characters of base32.
    #[error("a tracker key is 26 characters, letters and the digits 2 to 7")]
    TrackerPin,
}

impl SwarmId {
    /// Derives the swarm of a share. One way: the tracker can confirm a guess of `content`, and
    /// with a secret not even that.
    pub fn of(kind: Kind, content: &ContentId, secret: Option<&Secret>) -> SwarmId {
        let mut hasher = blake3::Hasher::new_derive_key("warren swarm v1");
        hasher.update(&[kind as u8]).update(&content.0);
        if let Some(secret) = secret {
            hasher.update(&secret.0);
        }
        SwarmId(*hasher.finalize().as_bytes())
    }
}

impl TrackerPin {
    /// The pin of a tracker's key: the first half of a derived hash.
    pub fn of(key: &PublicKey) -> TrackerPin {
        let hash = blake3::derive_key("warren tracker pin v1", &key.0);
        let mut pin = [0; 16];
        pin.copy_from_slice(&hash[..16]);
        TrackerPin(pin)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", HEXLOWER.encode_display(&self.0))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

impl FromStr for ContentId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<ContentId, ParseIdError> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        let id = bytes.and_then(|bytes| bytes.try_into().ok());
        id.map(ContentId).ok_or(ParseIdError::ContentId)
    }
}

impl fmt::Debug for SwarmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SwarmId(..)")
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32_encode(&self.0[..10]))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Display for TrackerPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32_encode(&self.0))
    }
}

impl fmt::Debug for TrackerPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrackerPin({self})")
    }
}

impl FromStr for TrackerPin {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<TrackerPin, ParseIdError> {
        let pin = base32_decode(text).and_then(|bytes| bytes.try_into().ok());
        pin.map(TrackerPin).ok_or(ParseIdError::TrackerPin)
    }
}

impl fmt::Debug for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayId(..)")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// RFC 4648 §6 in lower case, without padding.
pub fn base32_encode(bytes: &[u8]) -> String {
    let mut text = BASE32_NOPAD.encode(bytes);
    text.make_ascii_lowercase();
    text
}

/// Reads what [`base32_encode`] writes, in any case. `None` for any other character, an impossible
/// length, or unused bits that are not zero.
pub fn base32_decode(text: &str) -> Option<Vec<u8>> {
    BASE32_NOPAD_NOCASE.decode(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_reads_any_case_and_only_one_spelling_of_the_bits() {
        assert_eq!(base32_encode(b"foobar"), "mzxw6ytboi");
        assert_eq!(base32_decode("MZXW6ytboi"), Some(b"foobar".to_vec()));
        assert_eq!(base32_decode("mzxw6ytboj"), None, "a trailing bit is set");
        assert_eq!(
            base32_decode("mzxw6ytb1i"),
            None,
            "1 is not in the alphabet"
        );
        assert_eq!(base32_decode("mzxw6ytboi======"), None, "padding");
    }

    #[test]
    fn identifiers_survive_their_text_form() {
        let id = ContentId([0xA5; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(
            "a5".repeat(31).parse::<ContentId>(),
            Err(ParseIdError::ContentId)
        );
        let pin = TrackerPin::of(&PublicKey([7; 32]));
        assert_eq!(pin.to_string().len(), 26);
        assert_eq!(pin.to_string().to_uppercase().parse(), Ok(pin));
        assert_eq!("".parse::<TrackerPin>(), Err(ParseIdError::TrackerPin));
        assert_eq!(PublicKey([7; 32]).to_string().len(), 16);
    }

    #[test]
    fn kind_and_secret_separate_swarms() {
        let id = ContentId([1; 32]);
        let secret = Secret([2; 16]);
        let file = SwarmId::of(Kind::File, &id, None);
        assert_ne!(file, SwarmId::of(Kind::Tree, &id, None));
        assert_ne!(file, SwarmId::of(Kind::File, &id, Some(&secret)));
    }

    #[test]
    fn what_gives_access_is_hidden_from_debug_output() {
        assert_eq!(format!("{:?}", SwarmId([1; 32])), "SwarmId(..)");
        assert_eq!(format!("{:?}", Secret([1; 16])), "Secret(..)");
        assert_eq!(format!("{:?}", RelayId([1; 12])), "RelayId(..)");
    }

    #[test]
    fn identifiers_are_raw_bytes_on_the_wire() {
        let id = ContentId([3; 32]);
        assert_eq!(postcard::to_stdvec(&id).unwrap(), [3; 32]);
    }
}
