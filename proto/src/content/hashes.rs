//! A list of 32-byte hashes, kept as the bytes it travels as.
//!
//! Not here: what the hashes are of (`tree`), how many there must be (`layout`).

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::limits;

/// Length of one hash.
const HASH_BYTES: usize = 32;

/// Concatenated 32-byte hashes, never more than [`limits::HASH_LIST_BYTES`] off a wire.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HashList(Vec<u8>);

impl HashList {
    /// A list of nothing.
    pub fn new() -> HashList {
        HashList::default()
    }

    /// Accepts bytes off a wire or disk, or `None` when they are not whole hashes or too many.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<HashList> {
        Self::is_list(&bytes).then_some(HashList(bytes))
    }

    /// Appends a hash.
    pub fn push(&mut self, hash: [u8; 32]) {
        self.0.extend_from_slice(&hash);
    }

    /// Number of hashes.
    pub fn len(&self) -> usize {
        self.0.len() / HASH_BYTES
    }

    /// Whether there is no hash.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The hash at position `index`.
    pub fn get(&self, index: usize) -> Option<[u8; 32]> {
        self.as_hashes().get(index).copied()
    }

    /// All hashes in order.
    pub fn iter(&self) -> impl Iterator<Item = [u8; 32]> + '_ {
        self.as_hashes().iter().copied()
    }

    /// The list as it travels.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The list as a slice of hashes.
    pub fn as_hashes(&self) -> &[[u8; 32]] {
        self.0.as_chunks().0
    }

    fn is_list(bytes: &[u8]) -> bool {
        bytes.len() <= limits::HASH_LIST_BYTES && bytes.len().is_multiple_of(HASH_BYTES)
    }
}

impl FromIterator<[u8; 32]> for HashList {
    fn from_iter<I: IntoIterator<Item = [u8; 32]>>(hashes: I) -> HashList {
        HashList(hashes.into_iter().flatten().collect())
    }
}

impl fmt::Debug for HashList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashList({} hashes)", self.len())
    }
}

impl Serialize for HashList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for HashList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HashList, D::Error> {
        deserializer.deserialize_bytes(ListVisitor)
    }
}

struct ListVisitor;

impl Visitor<'_> for ListVisitor {
    type Value = HashList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("concatenated 32-byte hashes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<HashList, E> {
        // Checked before copying, so that an oversized list costs nothing.
        if !HashList::is_list(bytes) {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(HashList(bytes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_hashes_within_the_limit_are_a_list() {
        assert!(HashList::from_bytes(vec![0; 31]).is_none());
        assert!(HashList::from_bytes(vec![0; limits::HASH_LIST_BYTES + 32]).is_none());
        assert_eq!(HashList::from_bytes(vec![]).unwrap().len(), 0);
        let list = HashList::from_bytes(vec![1; 64]).unwrap();
        assert_eq!(
            (list.len(), list.get(1), list.get(2)),
            (2, Some([1; 32]), None)
        );
    }

    #[test]
    fn a_list_travels_as_bytes() {
        let list: HashList = [[1; 32], [2; 32]].into_iter().collect();
        let bytes = postcard::to_stdvec(&list).unwrap();
        assert_eq!(bytes.len(), 1 + 64);
        assert_eq!(postcard::from_bytes::<HashList>(&bytes).unwrap(), list);
        assert!(postcard::from_bytes::<HashList>(&bytes[..64]).is_err());
        assert!(
            postcard::from_bytes::<HashList>(&[1, 0]).is_err(),
            "not a whole hash"
        );
    }
}
