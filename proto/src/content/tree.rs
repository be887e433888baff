//! BLAKE3 as a tree: hashes of aligned parts that verify alone and merge to the file's hash.
//!
//! A part of 2^k KiB at a multiple of its length is a subtree of BLAKE3's binary tree, and has a
//! *chaining value* (CV, BLAKE3 paper §2.4 and §6.4). CVs of neighbours merge up to the root,
//! which is what `b3sum` prints. A file that is one part has no CV: its only hash is the root.
//!
//! [`Verifier`] and [`PartHasher`] take bytes as they come. Everything here is total: input that is
//! no subtree yields `false`, `None` or zeros instead of the panics of `blake3::hazmat`.

use blake3::hazmat::{self, HasherExt, Mode};

use super::hashes::HashList;
use crate::id::ContentId;
pub use crate::limits::GRAIN_BYTES;

/// BLAKE3's leaf, the alignment of every subtree.
const LEAF_BYTES: u64 = 1024;

/// What no data hashes to, as far as anyone will ever know.
const NO_HASH: [u8; 32] = [0; 32];

/// What a run of bytes must hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The bytes are a whole file.
    Root([u8; 32]),
    /// The bytes are an aligned part of a longer file.
    Subtree {
        /// Where in its file the part begins.
        offset: u64,
        /// Its chaining value.
        cv: [u8; 32],
    },
}

/// Where in its file a run of bytes stands; [`Expected`] without the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// It is the whole file.
    Whole,
    /// It is an aligned part of a longer file.
    Subtree {
        /// Where in its file the part begins.
        offset: u64,
    },
}

impl Position {
    /// Where the grain stands that begins `cut` bytes into an extent here, which has `len`.
    pub fn of_grain(self, cut: u32, len: u32) -> Position {
        match self {
            Position::Whole if len <= GRAIN_BYTES => Position::Whole,
            Position::Whole => Position::Subtree { offset: cut.into() },
            Position::Subtree { offset } => Position::Subtree {
                offset: offset + u64::from(cut),
            },
        }
    }
}

impl Expected {
    /// Where the bytes stand.
    pub fn position(&self) -> Position {
        match *self {
            Expected::Root(_) => Position::Whole,
            Expected::Subtree { offset, .. } => Position::Subtree { offset },
        }
    }

    fn hash(&self) -> &[u8; 32] {
        match self {
            Expected::Root(hash) | Expected::Subtree { cv: hash, .. } => hash,
        }
    }
}

/// Hashes bytes as they arrive and says at the end whether they are the expected ones.
pub struct Verifier {
    expected: Expected,
    hasher: PartHasher,
}

impl Verifier {
    /// Starts with no bytes seen.
    pub fn new(expected: Expected) -> Verifier {
        let hasher = PartHasher::new(expected.position());
        Verifier { expected, hasher }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.hasher.update(data);
    }

    /// Whether the bytes were the expected ones, all of them and no more.
    pub fn finish(self) -> bool {
        self.hasher.finish().as_ref() == Some(self.expected.hash())
    }
}

/// Hashes one whole file or one subtree as its bytes arrive, in pieces of any length; BLAKE3 reaches
/// its full speed with pieces from 64 KiB on.
pub struct PartHasher {
    /// `None` once the input can no longer be one subtree.
    hasher: Option<blake3::Hasher>,
    position: Position,
    /// Bytes the subtree may still have.
    room: u64,
}

impl PartHasher {
    /// Starts with no bytes seen.
    pub fn new(position: Position) -> PartHasher {
        let (offset, room) = match position {
            Position::Whole => (0, Some(u64::MAX)),
            Position::Subtree { offset } => (offset, max_subtree_bytes(offset)),
        };
        let hasher = room.map(|_| {
            let mut hasher = blake3::Hasher::new();
            hasher.set_input_offset(offset);
            hasher
        });
        PartHasher {
            hasher,
            position,
            room: room.unwrap_or(0),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        match self.room.checked_sub(data.len() as u64) {
            Some(room) => self.room = room,
            None => self.hasher = None,
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(data);
        }
    }

    /// The hash of the whole file or the chaining value of the subtree. `None` when the bytes are no
    /// subtree: none at all, too many, or none begins there.
    pub fn finish(self) -> Option<[u8; 32]> {
        let hasher = self.hasher?;
        match self.position {
            Position::Whole => Some(*hasher.finalize().as_bytes()),
            Position::Subtree { .. } if hasher.count() == 0 => None,
            Position::Subtree { .. } => Some(hasher.finalize_non_root()),
        }
    }
}

/// Longest subtree that begins at `offset`; `None` when none does.
fn max_subtree_bytes(offset: u64) -> Option<u64> {
    let aligned = offset.is_multiple_of(LEAF_BYTES);
    aligned.then(|| hazmat::max_subtree_len(offset).unwrap_or(u64::MAX))
}

/// The chaining value of a part of a longer file. All zeros when `data` is empty or no subtree
/// begins at `offset`.
pub fn subtree_cv(data: &[u8], offset: u64) -> [u8; 32] {
    part_hash(data, Position::Subtree { offset })
}

/// The hash of a whole file: what `b3sum` prints.
pub fn whole_hash(data: &[u8]) -> [u8; 32] {
    part_hash(data, Position::Whole)
}

fn part_hash(data: &[u8], position: Position) -> [u8; 32] {
    let mut hasher = PartHasher::new(position);
    hasher.update(data);
    hasher.finish().unwrap_or(NO_HASH)
}

/// The hash of a file from the CVs of its chunks; a list of one holds the file's hash itself.
/// All zeros for an empty list. Whether the list has as many hashes as the file has chunks is the
/// caller's to check first: the root does not bind the chunk size.
pub fn root_of(list: &HashList) -> ContentId {
    ContentId(root_of_hashes(list.as_hashes()))
}

/// [`root_of`] for a part of a list, such as one file's CVs out of a tree's.
pub(super) fn root_of_hashes(hashes: &[[u8; 32]]) -> [u8; 32] {
    match hashes {
        [] => NO_HASH,
        [only] => *only,
        _ => {
            let (left, right) = hashes.split_at(left_len(hashes.len()));
            let root = hazmat::merge_subtrees_root(&merge(left), &merge(right), Mode::Hash);
            *root.as_bytes()
        }
    }
}

/// Merges the CVs of one subtree; zeros for none. Depth is the logarithm of the list's length.
fn merge(cvs: &[[u8; 32]]) -> [u8; 32] {
    match cvs {
        [] => NO_HASH,
        [only] => *only,
        _ => {
            let (left, right) = cvs.split_at(left_len(cvs.len()));
            hazmat::merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
        }
    }
}

/// Leaves in the left subtree: the largest power of two below `leaves`, which is at least 2.
fn left_len(leaves: usize) -> usize {
    leaves.next_power_of_two() / 2
}

/// The hashes of the grains of one extent. A whole file of one grain has its root as the only
/// hash; everything else has CVs. A [`Position::Subtree`] begins at a multiple of [`GRAIN_BYTES`].
pub fn grain_cvs(data: &[u8], position: Position) -> HashList {
    let start = match position {
        Position::Whole if data.len() <= GRAIN_BYTES as usize => {
            return [whole_hash(data)].into_iter().collect();
        }
        Position::Whole => 0,
        Position::Subtree { offset } => offset,
    };
    let offsets = (start..).step_by(GRAIN_BYTES as usize);
    data.chunks(GRAIN_BYTES as usize)
        .zip(offsets)
        .map(|(grain, offset)| subtree_cv(grain, offset))
        .collect()
}

/// Whether `list` are the grain hashes of the `len` bytes that hash to `expected`.
pub fn verify_grains(list: &HashList, expected: &Expected, len: u64) -> bool {
    let grains = len.div_ceil(u64::from(GRAIN_BYTES));
    let (grains, merged) = match expected {
        Expected::Root(_) => (grains.max(1), root_of_hashes(list.as_hashes())),
        Expected::Subtree { .. } => (grains, merge(list.as_hashes())),
    };
    grains > 0 && list.len() as u64 == grains && merged == *expected.hash()
}

/// What grain `index` of an extent must hash to, given the extent's verified grain list.
pub fn expected_grain(list: &HashList, extent: &Expected, index: u32) -> Option<Expected> {
    let hash = list.get(index as usize)?;
    let within = u64::from(index) * u64::from(GRAIN_BYTES);
    Some(match *extent {
        Expected::Root(_) if list.len() == 1 => Expected::Root(hash),
        Expected::Root(_) => Expected::Subtree {
            offset: within,
            cv: hash,
        },
        Expected::Subtree { offset, .. } => Expected::Subtree {
            offset: offset.checked_add(within)?,
            cv: hash,
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{any_len, bytes, chunk_hashes};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn chunk_hashes_merge_to_what_b3sum_prints(len in any_len(), power in 0u32..3) {
            let file = bytes(len, 1);
            let list = chunk_hashes(&file, GRAIN_BYTES << power);
            prop_assert_eq!(root_of(&list).0, *blake3::hash(&file).as_bytes());
        }

        #[test]
        fn every_chunk_and_every_grain_of_it_verifies_alone(len in any_len(), power in 0u32..3) {
            let file = bytes(len, 2);
            for (chunk, expected) in chunks(&file, GRAIN_BYTES << power) {
                prop_assert!(verifies(expected, chunk));
                let grains = grain_cvs(chunk, expected.position());
                prop_assert!(verify_grains(&grains, &expected, chunk.len() as u64));
                let cuts = (0..).step_by(GRAIN_BYTES as usize).zip(chunk.chunks(GRAIN_BYTES as usize));
                for ((cut, grain), hash) in cuts.zip(grains.as_hashes()) {
                    let position = expected.position().of_grain(cut, chunk.len() as u32);
                    prop_assert_eq!(grain_cvs(grain, position).get(0), Some(*hash));
                }
                for (index, grain) in (0..).zip(chunk.chunks(GRAIN_BYTES as usize)) {
                    let expected = expected_grain(&grains, &expected, index).unwrap();
                    prop_assert!(verifies(expected, grain));
                }
            }
        }

        #[test]
        fn one_wrong_bit_or_length_fails(len in 1..200_000usize, at: prop::sample::Index, bit in 0..8u32) {
            let mut file = bytes(len, 3);
            let list = chunk_hashes(&file, GRAIN_BYTES);
            let at = at.index(len);
            file[at] ^= 1u8 << bit;
            let touched = at / GRAIN_BYTES as usize;
            for (index, (chunk, _)) in chunks(&file, GRAIN_BYTES).into_iter().enumerate() {
                let expected = expected_in(&list, index);
                prop_assert_eq!(verifies(expected, chunk), index != touched);
                prop_assert!(!verifies(expected, &chunk[1..]));
                prop_assert!(!verifies(expected, &[chunk, &[0]].concat()));
            }
        }
    }

    #[test]
    fn a_wrong_grain_list_is_refused() {
        let data = bytes(4 * 65_536, 4);
        let expected = Expected::Subtree {
            offset: 1 << 20,
            cv: subtree_cv(&data, 1 << 20),
        };
        let good = grain_cvs(&data, expected.position());
        let len = data.len() as u64;
        assert!(verify_grains(&good, &expected, len));
        let mut swapped = good.as_hashes().to_vec();
        swapped.swap(0, 1);
        let dropped: Vec<_> = good.iter().skip(1).collect();
        // A shorter list that merges to the same value: right hash, wrong count.
        let merged = [merge(&good.as_hashes()[..2]), merge(&good.as_hashes()[2..])].to_vec();
        for bad in [swapped, dropped, merged, vec![]] {
            let bad: HashList = bad.into_iter().collect();
            assert!(!verify_grains(&bad, &expected, len), "{bad:?}");
        }
        assert!(!verify_grains(&good, &expected, len + 1));
        assert!(!verify_grains(&HashList::new(), &expected, 0));
    }

    #[test]
    fn what_is_no_subtree_fails_without_panic() {
        let cv = [0; 32];
        for offset in [0, 1024, 65_536, 1 << 63, u64::MAX - 1023] {
            assert!(
                !verifies(Expected::Subtree { offset, cv }, &[]),
                "empty at {offset}"
            );
        }
        for offset in [1, 1023, u64::MAX] {
            assert!(
                !verifies(Expected::Subtree { offset, cv }, b"a"),
                "misaligned at {offset}"
            );
        }
        assert!(
            !verifies(Expected::Subtree { offset: 1024, cv }, &[0; 1025]),
            "past its parent"
        );
        assert!(verifies(Expected::Root(whole_hash(b"")), b""));
        assert_eq!(subtree_cv(b"", 0), NO_HASH);
        assert_eq!(root_of(&HashList::new()).0, NO_HASH);
    }

    fn expected_in(list: &HashList, index: usize) -> Expected {
        let hash = list.get(index).unwrap();
        match list.len() {
            1 => Expected::Root(hash),
            _ => Expected::Subtree {
                offset: index as u64 * u64::from(GRAIN_BYTES),
                cv: hash,
            },
        }
    }

    fn chunks(file: &[u8], chunk_bytes: u32) -> Vec<(&[u8], Expected)> {
        let list = chunk_hashes(file, chunk_bytes);
        if list.len() == 1 {
            return vec![(file, Expected::Root(list.get(0).unwrap()))];
        }
        let offsets = (0u64..).step_by(chunk_bytes as usize);
        let expected = list
            .iter()
            .zip(offsets)
            .map(|(cv, offset)| Expected::Subtree { offset, cv });
        file.chunks(chunk_bytes as usize).zip(expected).collect()
    }

    /// Feeds the bytes in packets' sizes, as they would come.
    fn verifies(expected: Expected, data: &[u8]) -> bool {
        let mut verifier = Verifier::new(expected);
        data.chunks(1447).for_each(|part| verifier.update(part));
        verifier.finish()
    }
}
