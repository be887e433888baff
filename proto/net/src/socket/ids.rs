//! The connection ids that we give out, and finding them in packets.
//!
//! A packet is addressed to a connection by the id that its receiver chose (RFC 9000 §5.1). All of
//! ours have one length, so that they can be found in short headers, and carry a signature, so that
//! one that was made up is told from one that we gave out without remembering those.
//!
//! The signature is made with a key that outlives the process. So a daemon or tracker that was
//! started anew knows an id of its former life for its own, and that the connection is no more: it
//! says so by a stateless reset (RFC 9000 §10.3), and whoever talked to it need not wait in vain.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;
use ring::hmac;

/// Length of the ids we give out: 1 byte that is the same for all of a process, 3 that nobody can
/// guess, and 4 of signature.
const ID_BYTES: usize = 8;

/// Length of the part that is not signature.
const NONCE_BYTES: usize = 4;

/// What tells one process from the next: 1 of 256 takes the ids of the one before for its own, and
/// then does not answer them.
const LIFE_BYTES: usize = 1;

/// The bit of the first byte that tells a long header from a short one (RFC 9000 §17).
const LONG_HEADER: u8 = 0x80;

/// Offset of the destination id's length in a long header: first byte 1, version 4 (RFC 8999 §5.1).
const LONG_ID_LENGTH_AT: usize = 5;

/// A destination id that has the length of ours.
pub(super) type LocalId = [u8; ID_BYTES];

/// Makes our ids and recognizes them; a clone recognizes the same ones.
#[derive(Clone)]
pub(crate) struct LocalIds {
    nonces: RandomState,
    signatures: hmac::Key,
    life: [u8; LIFE_BYTES],
    made: u64,
}

impl fmt::Debug for LocalIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { life, made, .. } = self;
        let mut shown = f.debug_struct("LocalIds");
        shown.field("life", life).field("made", made);
        shown.finish_non_exhaustive()
    }
}

impl Default for LocalIds {
    /// Those of a process that nobody remembers once it has ended.
    fn default() -> Self {
        let random = RandomState::new();
        let mut key = [0; 32];
        for (number, part) in key.chunks_mut(8).enumerate() {
            part.copy_from_slice(&random.hash_one(number).to_le_bytes());
        }
        Self::new(&key)
    }
}

impl LocalIds {
    /// Those of a process; `key` is that of the processes before it, which nobody else may know.
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let nonces = RandomState::new();
        Self {
            life: low_bytes(nonces.hash_one("life")),
            nonces,
            signatures: hmac::Key::new(hmac::HMAC_SHA256, key),
            made: 0,
        }
    }

    /// Whether `id` was made by this process.
    pub(super) fn made(&self, id: &LocalId) -> bool {
        id[..LIFE_BYTES] == self.life && self.is_signed(id)
    }

    /// Whether `id` was made by a process before this: no connection of ours has it.
    pub(super) fn made_before(&self, id: &LocalId) -> bool {
        id[..LIFE_BYTES] != self.life && self.is_signed(id)
    }

    fn is_signed(&self, id: &LocalId) -> bool {
        let (nonce, signature) = id.split_at(NONCE_BYTES);
        self.sign(nonce) == signature
    }

    /// The next id.
    pub(super) fn make(&mut self) -> LocalId {
        self.made += 1;
        let mut nonce: [_; NONCE_BYTES] = low_bytes(self.nonces.hash_one(self.made));
        nonce[..LIFE_BYTES].copy_from_slice(&self.life);
        let mut id = [0; ID_BYTES];
        id[..NONCE_BYTES].copy_from_slice(&nonce);
        id[NONCE_BYTES..].copy_from_slice(&self.sign(&nonce));
        id
    }

    fn sign(&self, nonce: &[u8]) -> [u8; ID_BYTES - NONCE_BYTES] {
        let mut signature = [0; ID_BYTES - NONCE_BYTES];
        let tag = hmac::sign(&self.signatures, nonce);
        signature.copy_from_slice(&tag.as_ref()[..ID_BYTES - NONCE_BYTES]);
        signature
    }
}

impl ConnectionIdGenerator for LocalIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.make())
    }

    /// Those of former lives are valid: to them quinn answers that there is no such connection.
    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let ours = LocalId::try_from(&id[..]).is_ok_and(|id| self.is_signed(&id));
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
        let mut ids = LocalIds::new(&[1; 32]);
        let recognizer = ids.clone();
        for _ in 0..1000 {
            let id = ids.make();
            assert!(recognizer.made(&id));
            assert!(recognizer.validate(&ConnectionId::new(&id)).is_ok());
            let mut other = id;
            other[7] ^= 1;
            assert!(!recognizer.made(&other));
            assert!(!LocalIds::new(&[2; 32]).made(&id));
            assert!(!recognizer.made_before(&id));
        }
        let short = ConnectionId::new(&ids.make()[..7]);
        assert!(recognizer.validate(&short).is_err());
    }

    #[test]
    fn a_process_knows_the_ids_of_the_one_before_and_that_they_are_not_its_own() {
        let mut before = LocalIds::new(&[1; 32]);
        let lives = std::iter::repeat_with(|| LocalIds::new(&[1; 32]));
        let mut lives = lives.filter(|next| next.life != before.life);
        let (now, stranger) = (lives.next().unwrap(), LocalIds::new(&[2; 32]));
        for _ in 0..100 {
            let id = before.make();
            assert!(now.made_before(&id) && !now.made(&id));
            assert!(now.validate(&ConnectionId::new(&id)).is_ok());
            assert!(!stranger.made_before(&id));
        }
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
