//! The connection ids that we give out, and finding them in packets.
//!
//! A packet is addressed to a connection by the id that its receiver chose (RFC 9000 §5.1). All of
//! ours have one length, so that they can be found in short headers, and carry a signature, so that
//! one that was made up is told from one that we gave out without remembering those.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;

/// Length of the ids we give out: 4 bytes nobody can guess, and 4 of signature.
const ID_BYTES: usize = 8;

/// Length of the part that is not signature.
const NONCE_BYTES: usize = 4;

/// The bit of the first byte that tells a long header from a short one (RFC 9000 §17).
const LONG_HEADER: u8 = 0x80;

/// Offset of the destination id's length in a long header: first byte 1, version 4 (RFC 8999 §5.1).
const LONG_ID_LENGTH_AT: usize = 5;

/// A destination id that has the length of ours.
pub(super) type LocalId = [u8; ID_BYTES];

/// Makes our ids and recognizes them; a clone recognizes the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct LocalIds {
    nonces: RandomState,
    signatures: RandomState,
    made: u64,
}

impl LocalIds {
    /// Whether `id` was made here.
    pub(super) fn made(&self, id: &LocalId) -> bool {
        let (nonce, signature) = id.split_at(NONCE_BYTES);
        self.sign(nonce) == signature
    }

    /// The next id.
    pub(super) fn make(&mut self) -> LocalId {
        self.made += 1;
        let nonce: [_; NONCE_BYTES] = low_bytes(self.nonces.hash_one(self.made));
        let mut id = [0; ID_BYTES];
        id[..NONCE_BYTES].copy_from_slice(&nonce);
        id[NONCE_BYTES..].copy_from_slice(&self.sign(&nonce));
        id
    }

    fn sign(&self, nonce: &[u8]) -> [u8; ID_BYTES - NONCE_BYTES] {
        low_bytes(self.signatures.hash_one(nonce))
    }
}

impl ConnectionIdGenerator for LocalIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.make())
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let ours = LocalId::try_from(&id[..]).is_ok_and(|id| self.made(&id));
        ours.then_some(()).ok_or(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Where the first packet of a datagram is going, if its destination id has the length of ours.
/// The other packets of the datagram go there too (RFC 9000 §12.2).
pub(super) fn destination(datagram: &[u8]) -> Option<LocalId> {
    let at = if is_long(datagram) {
        let length = usize::from(*datagram.get(LONG_ID_LENGTH_AT)?);
        (length == ID_BYTES).then_some(LONG_ID_LENGTH_AT + 1)?
    } else {
        1
    };
    datagram.get(at..at + ID_BYTES)?.try_into().ok()
}

/// Whether it has a long header: a handshake, or something about versions.
pub(super) fn is_long(datagram: &[u8]) -> bool {
    datagram
        .first()
        .is_some_and(|first| first & LONG_HEADER != 0)
}

fn low_bytes<const N: usize>(hash: u64) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&hash.to_le_bytes()[..N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_ids_are_recognized_by_a_clone_and_others_are_not() {
        let mut ids = LocalIds::default();
        let recognizer = ids.clone();
        for _ in 0..1000 {
            let id = ids.make();
            assert!(recognizer.made(&id));
            assert!(recognizer.validate(&ConnectionId::new(&id)).is_ok());
            let mut other = id;
            other[7] ^= 1;
            assert!(!recognizer.made(&other));
            assert!(!LocalIds::default().made(&id));
        }
        let short = ConnectionId::new(&ids.make()[..7]);
        assert!(recognizer.validate(&short).is_err());
    }

    #[test]
    fn the_destination_is_found_in_both_kinds_of_header() {
        let id = [1, 2, 3, 4, 5, 6, 7, 8];
        let short = [&[0x40], &id[..], &[9; 20]].concat();
        assert_eq!(destination(&short), Some(id));
        let long = [&[0xc0, 0, 0, 0, 1, 8], &id[..], &[9; 20]].concat();
        assert_eq!(destination(&long), Some(id));
    }

    #[test]
    fn another_length_and_a_cut_header_have_no_destination_of_ours() {
        let long =
            |length: u8, rest: usize| [&[0xc0, 0, 0, 0, 1, length], &vec![0; rest][..]].concat();
        for none in [long(20, 40), long(0, 40), long(8, 7), long(255, 40)] {
            assert_eq!(destination(&none), None);
        }
        for length in 0..9 {
            assert_eq!(destination(&[0x40; 9][..length]), None);
            assert_eq!(destination(&[0xc0; 9][..length]), None);
        }
    }
}
