//! The table of a tree's entries, in one canonical encoding.
//!
//! Equal trees have equal listings and so equal content ids everywhere: entries are in bytewise
//! path order, folders are implied by what is in them, and [`Listing::decode`] accepts only what
//! [`Listing::encode`] would write. `manifest-format.md`, Listing, is the normative text.
//!
//! Not here: walking a folder (`warren-daemon`), dividing files into chunks (`layout`).

use super::path::{PathError, SharePath};
use super::tree;
use crate::id::ContentId;
use crate::limits;

/// First byte of an encoded listing.
const VERSION: u8 = 1;
/// Flag of an entry that is an empty folder.
const DIR: u8 = 0b01;
/// Flag of a file that may be executed.
const EXECUTABLE: u8 = 0b10;
/// Smallest entry: flags, prefix length, suffix length and one byte of suffix.
const MIN_ENTRY_BYTES: usize = 4;

/// One file or empty folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is in the share.
    pub path: SharePath,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder with nothing in it; other folders are implied by their entries.
    Dir,
    /// A file.
    File {
        /// Length in bytes.
        size: u64,
        /// Whether it may be executed.
        executable: bool,
        /// BLAKE3 hash of its bytes.
        root: [u8; 32],
    },
}

/// A file of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileEntry<'a> {
    /// Where it is in the share.
    pub path: &'a SharePath,
    /// Length in bytes.
    pub size: u64,
    /// Whether it may be executed.
    pub executable: bool,
    /// BLAKE3 hash of its bytes.
    pub root: [u8; 32],
}

/// Why entries are no listing, or bytes no encoded one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListingError {
    /// More than [`limits::LISTING_ENTRIES`], longer than [`limits::MANIFEST_BYTES`] encoded, or
    /// with more than [`limits::LISTING_PATH_BYTES`] of paths.
    #[error("the listing is too large")]
    TooLarge,
    /// Two entries have one path.
    #[error("{0} is listed twice")]
    Duplicate(SharePath),
    /// An entry lies in another that is a file or a folder listed as empty.
    #[error("{0} is listed as a file or empty folder, yet has entries in it")]
    NotAFolder(SharePath),
    /// A file without bytes has the hash of another file.
    #[error("{0} is empty, but its hash is not that of an empty file")]
    EmptyFileHash(SharePath),
    /// A path breaks the rules of all paths.
    #[error("a listed path is not allowed")]
    Path(#[source] PathError),
    /// Another version of the format.
    #[error("the listing has the unknown version {0}")]
    Version(u8),
    /// Cut short, not what encoding its entries gives, or followed by something else.
    #[error("the listing is malformed")]
    Malformed,
}

/// The entries of a tree, valid together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    entries: Vec<Entry>,
    /// Positions in `entries` of the files.
    files: Vec<u32>,
    id: ContentId,
}

impl Listing {
    /// Sorts entries into a listing.
    ///
    /// # Errors
    ///
    /// When there are too many, two have one path, one lies in a file or in a folder listed as
    /// empty, or an empty file has an impossible hash.
    pub fn new(entries: Vec<Entry>) -> Result<Listing, ListingError> {
        Listing::build(entries).map(|(listing, _)| listing)
    }

    /// The listing and its encoding.
    fn build(mut entries: Vec<Entry>) -> Result<(Listing, Vec<u8>), ListingError> {
        let path_bytes: usize = entries.iter().map(|entry| entry.path.as_str().len()).sum();
        if entries.len() > limits::LISTING_ENTRIES || path_bytes > limits::LISTING_PATH_BYTES {
            return Err(ListingError::TooLarge);
        }
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        check_paths(&entries)?;
        check_empty_files(&entries)?;
        let encoded = encode(&entries);
        if encoded.len() > limits::MANIFEST_BYTES {
            return Err(ListingError::TooLarge);
        }
        let id = ContentId(tree::whole_hash(&encoded));
        let is_file = |entry: &Entry| matches!(entry.kind, EntryKind::File { .. });
        let positions = (0u32..).zip(&entries).filter(|(_, entry)| is_file(entry));
        let files = positions.map(|(position, _)| position).collect();
        Ok((Listing { entries, files, id }, encoded))
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.entries)
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are not the encoding of a valid listing, or exceed a limit.
    pub fn decode(bytes: &[u8]) -> Result<Listing, ListingError> {
        if bytes.len() > limits::MANIFEST_BYTES {
            return Err(ListingError::TooLarge);
        }
        let (listing, encoded) = Listing::build(decode_entries(bytes)?)?;
        // Order, prefix lengths, number forms and leftovers, all in one comparison.
        if encoded != bytes {
            return Err(ListingError::Malformed);
        }
        Ok(listing)
    }

    /// Files and empty folders in bytewise path order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The files in listing order. The position of each is its number in [`super::Extent::file`].
    pub fn files(&self) -> impl ExactSizeIterator<Item = FileEntry<'_>> {
        self.files
            .iter()
            .map(|position| as_file(&self.entries[*position as usize]))
    }

    /// The file of this number.
    pub fn file(&self, file: u32) -> Option<FileEntry<'_>> {
        let position = *self.files.get(file as usize)?;
        Some(as_file(&self.entries[position as usize]))
    }

    /// Number of files, folders not counted.
    pub fn file_count(&self) -> u32 {
        self.files.len() as u32
    }

    /// The content id of the tree: the BLAKE3 hash of the encoded listing.
    pub fn content_id(&self) -> ContentId {
        self.id
    }
}

/// `entry` as the file it is.
fn as_file(entry: &Entry) -> FileEntry<'_> {
    let path = &entry.path;
    match entry.kind {
        EntryKind::File {
            size,
            executable,
            root,
        } => FileEntry {
            path,
            size,
            executable,
            root,
        },
        EntryKind::Dir => FileEntry {
            path,
            size: 0,
            executable: false,
            root: [0; 32],
        },
    }
}

/// Whether sorted entries have distinct paths and none lies in another.
fn check_paths(entries: &[Entry]) -> Result<(), ListingError> {
    let mut previous = "";
    for entry in entries {
        let path = entry.path.as_str();
        if path == previous {
            return Err(ListingError::Duplicate(entry.path.clone()));
        }
        // All of a folder's entries follow each other, so a parent shared with the previous entry
        // was looked up already.
        let shared = shared_prefix(previous, path);
        let new_parents = entry.path.parents().filter(|parent| parent.len() >= shared);
        for parent in new_parents {
            if let Ok(at) = entries.binary_search_by(|entry| entry.path.as_str().cmp(parent)) {
                return Err(ListingError::NotAFolder(entries[at].path.clone()));
            }
        }
        previous = path;
    }
    Ok(())
}

/// A file without bytes has no chunk that would verify its hash, so it is verified here.
fn check_empty_files(entries: &[Entry]) -> Result<(), ListingError> {
    let nothing = tree::whole_hash(&[]);
    let wrong = |entry: &&Entry| match entry.kind {
        EntryKind::File { size, root, .. } => size == 0 && root != nothing,
        EntryKind::Dir => false,
    };
    match entries.iter().find(wrong) {
        Some(entry) => Err(ListingError::EmptyFileHash(entry.path.clone())),
        None => Ok(()),
    }
}

/// Bytes two paths have in common at their start.
fn shared_prefix(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_varint(&mut out, entries.len() as u64);
    let mut previous = "";
    for entry in entries {
        let path = entry.path.as_str();
        let shared = shared_prefix(previous, path);
        let suffix = &path.as_bytes()[shared..];
        out.push(match entry.kind {
            EntryKind::Dir => DIR,
            EntryKind::File { executable, .. } => u8::from(executable) * EXECUTABLE,
        });
        put_varint(&mut out, shared as u64);
        put_varint(&mut out, suffix.len() as u64);
        out.extend_from_slice(suffix);
        if let EntryKind::File { size, root, .. } = entry.kind {
            put_varint(&mut out, size);
            out.extend_from_slice(&root);
        }
        previous = path;
    }
    out
}

/// Reads entries with every length checked; whether they are canonical shows when re-encoding.
fn decode_entries(bytes: &[u8]) -> Result<Vec<Entry>, ListingError> {
    let mut input = Input(bytes);
    match input.byte()? {
        VERSION => (),
        version => return Err(ListingError::Version(version)),
    }
    let count = input.length()?;
    if count > limits::LISTING_ENTRIES {
        return Err(ListingError::TooLarge);
    }
    if count > input.0.len() / MIN_ENTRY_BYTES {
        return Err(ListingError::Malformed);
    }
    let mut entries = Vec::with_capacity(count);
    let mut path: Vec<u8> = Vec::new();
    let mut path_bytes = 0;
    for _ in 0..count {
        let entry = decode_entry(&mut input, &mut path)?;
        path_bytes += path.len();
        if path_bytes > limits::LISTING_PATH_BYTES {
            return Err(ListingError::TooLarge);
        }
        entries.push(entry);
    }
    if input.0.is_empty() {
        Ok(entries)
    } else {
        Err(ListingError::Malformed)
    }
}

/// Reads one entry; `path` holds the previous entry's path and then this one's.
fn decode_entry(input: &mut Input<'_>, path: &mut Vec<u8>) -> Result<Entry, ListingError> {
    let flags = input.byte()?;
    let shared = input.length()?;
    let suffix = input.length()?;
    if shared > path.len() || suffix > limits::PATH_BYTES {
        return Err(ListingError::Malformed);
    }
    path.truncate(shared);
    path.extend_from_slice(input.take(suffix)?);
    let text = str::from_utf8(path).map_err(|_| ListingError::Malformed)?;
    let kind = match flags {
        DIR => EntryKind::Dir,
        0 | EXECUTABLE => EntryKind::File {
            executable: flags == EXECUTABLE,
            size: input.varint()?,
            root: *input
                .take(32)?
                .first_chunk()
                .ok_or(ListingError::Malformed)?,
        },
        _ => return Err(ListingError::Malformed),
    };
    Ok(Entry {
        path: SharePath::parse(text).map_err(ListingError::Path)?,
        kind,
    })
}

/// Appends a number in LEB128: 7 bits a byte, low bits first, the top bit set on all but the last.
fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes not read yet.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], ListingError> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(ListingError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, ListingError> {
        self.take(1).map(|byte| byte[0])
    }

    /// A number of at most 64 bits.
    fn varint(&mut self) -> Result<u64, ListingError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                return Err(ListingError::Malformed);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ListingError::Malformed)
    }

    fn length(&mut self) -> Result<usize, ListingError> {
        usize::try_from(self.varint()?).map_err(|_| ListingError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::samples::{Damage, any_damage, any_files, file_entry, listing};
    use super::*;

    #[test]
    fn order_of_creation_does_not_matter() {
        let entries = || vec![file("b", 0), dir("a/empty"), file("a-b", 1), file("a/x", 2)];
        let listing = Listing::new(entries()).unwrap();
        let paths: Vec<_> = listing
            .entries()
            .iter()
            .map(|entry| entry.path.as_str())
            .collect();
        assert_eq!(paths, ["a-b", "a/empty", "a/x", "b"]);
        let files: Vec<_> = listing.files().map(|file| file.path.as_str()).collect();
        assert_eq!(files, ["a-b", "a/x", "b"]);
        assert_eq!(listing.file(1).unwrap().size, 2);
        assert_eq!((listing.file_count(), listing.file(3)), (3, None));
        let mut reversed = entries();
        reversed.reverse();
        assert_eq!(
            Listing::new(reversed).unwrap().content_id(),
            listing.content_id()
        );
    }

    #[test]
    fn conflicting_entries_are_refused() {
        let path = |text| SharePath::parse(text).unwrap();
        for (entries, error) in [
            (
                vec![file("a", 1), file("a", 2)],
                ListingError::Duplicate(path("a")),
            ),
            (
                vec![file("a", 1), dir("a")],
                ListingError::Duplicate(path("a")),
            ),
            // Bytewise, `a-b` stands between a folder and what is in it.
            (
                vec![file("a", 1), file("a-b", 1), file("a/b", 1)],
                ListingError::NotAFolder(path("a")),
            ),
            (
                vec![dir("a"), file("a/b/c", 1)],
                ListingError::NotAFolder(path("a")),
            ),
            (
                vec![file("a/b", 1), file("a/b/c", 1)],
                ListingError::NotAFolder(path("a/b")),
            ),
            (
                vec![dir("x/a"), file("x/a-b", 1), dir("x/a/b")],
                ListingError::NotAFolder(path("x/a")),
            ),
        ] {
            assert_eq!(Listing::new(entries), Err(error));
        }
        let mut lying = file("a", 0);
        lying.kind = EntryKind::File {
            size: 0,
            executable: false,
            root: [1; 32],
        };
        assert_eq!(
            Listing::new(vec![lying]),
            Err(ListingError::EmptyFileHash(path("a")))
        );
    }

    #[test]
    fn hostile_encodings_are_refused() {
        use ListingError::*;
        let dir =
            |shared: u8, suffix: &[u8]| [&[DIR, shared, suffix.len() as u8][..], suffix].concat();
        let of =
            |count: u8, entries: &[Vec<u8>]| [&[VERSION, count][..], &entries.concat()].concat();
        let cases: Vec<(&str, Vec<u8>, ListingError)> = vec![
            ("nothing", vec![], Malformed),
            ("version", vec![2, 0], Version(2)),
            ("leftover", vec![1, 0, 0], Malformed),
            ("count in too many bytes", vec![1, 0x80, 0], Malformed),
            ("count beyond the bytes", vec![1, 0xFF, 0xFF, 3], Malformed),
            (
                "count beyond the limit",
                vec![1, 0xFF, 0xFF, 0xFF, 0xFF, 15],
                TooLarge,
            ),
            (
                "endless number",
                [&[1][..], &[0xFF; 20]].concat(),
                Malformed,
            ),
            (
                "parent",
                of(1, &[dir(0, b"../x")]),
                Path(PathError::DotComponent),
            ),
            ("root", of(1, &[dir(0, b"/x")]), Path(PathError::Absolute)),
            (
                "nul",
                of(1, &[dir(0, b"a\0")]),
                Path(PathError::Character('\0')),
            ),
            ("not UTF-8", of(1, &[dir(0, b"a\xFF")]), Malformed),
            ("prefix of nothing", of(1, &[dir(1, b"a")]), Malformed),
            (
                "prefix not the longest",
                of(2, &[dir(0, b"aa"), dir(0, b"ab")]),
                Malformed,
            ),
            ("order", of(2, &[dir(0, b"b"), dir(0, b"a")]), Malformed),
            ("flags", of(1, &[vec![3, 0, 1, b'a']]), Malformed),
            (
                "suffix beyond the bytes",
                of(1, &[vec![1, 0, 9, b'a']]),
                Malformed,
            ),
        ];
        for (what, bytes, error) in cases {
            assert_eq!(Listing::decode(&bytes), Err(error), "{what}");
        }
        assert!(Listing::decode(&of(2, &[dir(0, b"aa"), dir(1, b"b")])).is_ok());
    }

    #[test]
    fn short_encodings_of_long_paths_stop_at_the_limit() {
        // Each entry repeats a path of 4,000 bytes for a handful of its own.
        let folder = vec!["d".repeat(199); 20].join("/");
        let mut bytes = vec![VERSION];
        put_varint(&mut bytes, 100_000);
        for n in 0..100_000 {
            let (shared, name) = if n == 0 {
                (0, format!("{folder}/x{n:06}"))
            } else {
                (4001, format!("{n:06}"))
            };
            bytes.push(DIR);
            put_varint(&mut bytes, shared);
            put_varint(&mut bytes, name.len() as u64);
            bytes.extend_from_slice(name.as_bytes());
        }
        assert_eq!(Listing::decode(&bytes), Err(ListingError::TooLarge));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn a_listing_survives_its_encoding(files in any_files()) {
            let listing = listing(&files);
            let bytes = listing.encode();
            prop_assert_eq!(listing.content_id().0, *blake3::hash(&bytes).as_bytes());
            prop_assert_eq!(Listing::decode(&bytes), Ok(listing));
        }

        #[test]
        fn what_decodes_is_canonical(damage in prop::collection::vec(any_damage(), 1..4)) {
            let bytes = damage.iter().fold(sample().encode(), keep_non_empty);
            if let Ok(listing) = Listing::decode(&bytes) {
                prop_assert_eq!(listing.encode(), bytes);
            }
        }

        #[test]
        fn random_bytes_never_panic(mut bytes in prop::collection::vec(0..40u8, 0..60)) {
            let _ = Listing::decode(&bytes);
            bytes.insert(0, VERSION);
            if let Ok(listing) = Listing::decode(&bytes) {
                prop_assert_eq!(listing.encode(), bytes);
            }
        }

        #[test]
        fn numbers_survive_and_have_one_form(value: u64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            prop_assert_eq!(Input(&bytes).varint(), Ok(value));
        }
    }

    fn keep_non_empty(bytes: Vec<u8>, damage: &Damage) -> Vec<u8> {
        if bytes.is_empty() {
            bytes
        } else {
            damage.apply(&bytes)
        }
    }

    fn sample() -> Listing {
        let files = [("a/one", 3), ("a/two", 0), ("b", 5)];
        listing(&BTreeMap::from(
            files.map(|(path, len)| (path.to_owned(), vec![7; len])),
        ))
    }

    fn file(path: &str, len: usize) -> Entry {
        file_entry(path, &vec![7; len])
    }

    fn dir(path: &str) -> Entry {
        Entry {
            path: SharePath::parse(path).unwrap(),
            kind: EntryKind::Dir,
        }
    }
}
