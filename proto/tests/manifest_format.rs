//! `manifest-format.md` shows encodings; here each is read, compared with what it is said to be,
//! and written again.
//!
//! A vector is a line `vector NAME: VALUE`. A block that begins with `example NAME` or
//! `refused NAME` has a line for each field or encoding: hexadecimal, a bar, and what it is.

use data_encoding::HEXLOWER;
use warren_proto::content::layout::chunk_bytes;
use warren_proto::content::tree::{self, Position};
use warren_proto::content::{
    Content, DnsName, Entry, EntryKind, Expected, Extension, HashList, Layout, Link, Listing,
    Manifest, ShareName, SharePath, TrackerAddress,
};
use warren_proto::follow::{FollowLink, PublisherId};
use warren_proto::id::{
    ContentId, Kind, PublicKey, Secret, SwarmId, TrackerPin, base32_decode, base32_encode,
};
use warren_proto::limits;

const DOCUMENT: &str = include_str!("../../manifest-format.md");

const SECRET: Secret = Secret([0x33; 16]);
const HELLO: &[u8] = b"hello, warren\n";

#[test]
fn hashes_of_parts_merge_to_the_root() {
    let file: Vec<u8> = (0..200_000u32).map(|at| (at % 251) as u8).collect();
    let chunk = chunk_bytes(file.len() as u64) as usize;
    let mut list = HashList::new();
    for (index, bytes) in file.chunks(chunk).enumerate() {
        let cv = tree::subtree_cv(bytes, (index * chunk) as u64);
        assert_eq!(vector(&format!("cv of chunk {index}")), hex(&cv));
        list.push(cv);
    }
    let (left, right) = file.split_at(2 * chunk);
    assert_eq!(vector("parent of 0 and 1"), hex(&tree::subtree_cv(left, 0)));
    let cv = tree::subtree_cv(right, left.len() as u64);
    assert_eq!(vector("parent of 2 and 3"), hex(&cv));
    assert_eq!(vector("root"), hex(blake3::hash(&file).as_bytes()));
    assert_eq!(vector("root"), tree::root_of(&list).to_string());
    assert_eq!(
        vector("root of no bytes"),
        hex(blake3::hash(b"").as_bytes())
    );

    // As the text says: were 128 KiB the chunk size, the CVs would be grain hashes.
    let offset = left.len() as u64;
    let grains = tree::grain_cvs(right, Position::Subtree { offset });
    assert_eq!(grains.as_hashes(), &list.as_hashes()[2..]);
    let whole = Expected::Subtree { offset, cv };
    assert!(tree::verify_grains(&grains, &whole, right.len() as u64));
}

#[test]
fn chunk_sizes_follow_from_the_total() {
    let prefix = "vector chunk size of ";
    let lines = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix(prefix));
    let shown: Vec<_> = lines
        .map(|line| line.split_once(": ").expect("total and size"))
        .collect();
    assert_eq!(shown.len(), 7);
    for (total, size) in shown {
        let total = total.parse().expect("a number");
        assert_eq!(size, chunk_bytes(total).to_string(), "{total}");
    }
}

#[test]
fn a_tree_is_divided_as_shown() {
    let layout =
        Layout::tree(&[10, 100_000, 0, 20, 65_536, 65_536, 65_536, 65_536]).expect("a small tree");
    let chunks: Vec<_> = (0..).map_while(|index| layout.chunk(index)).collect();
    for chunk in &chunks {
        let extents: Vec<_> = layout
            .extents(*chunk)
            .map(|extent| {
                let end = extent.offset + u64::from(extent.len);
                format!("{}: {}..{end}", extent.file, extent.offset)
            })
            .collect();
        let name = format!("layout chunk {}", chunk.value());
        assert_eq!(vector(&name), extents.join(", "));
    }
    assert_eq!(chunks.len(), count("vector layout chunk "));
}

#[test]
fn the_listing() {
    let bytes = example("listing");
    let listing = Listing::decode(&bytes).expect("the example is valid");
    assert_eq!(listing, notes());
    assert_eq!(hex(&listing.encode()), hex(&bytes));
    let id = listing.content_id().to_string();
    assert_eq!(vector("content id of the listing"), id);
    assert_eq!(id, hex(blake3::hash(&bytes).as_bytes()));
    let empty = Listing::new(Vec::new()).expect("a listing of nothing");
    assert_eq!(
        vector("content id of an empty folder"),
        empty.content_id().to_string()
    );
}

#[test]
fn listings_that_are_refused() {
    for (bytes, why) in refused("listings", 16) {
        assert!(Listing::decode(&bytes).is_err(), "{why}");
    }
}

#[test]
fn the_manifest_of_a_file() {
    let root = tree::whole_hash(HELLO);
    let hashes = [root].into_iter().collect();
    let content = Content::file(name("hello.txt"), HELLO.len() as u64, hashes);
    let trackers = vec![tracker("203.0.113.7:59000", 0x22)];
    let manifest = Manifest::new(content.expect("consistent"), trackers, None);
    check_manifest("manifest of a file", &manifest);
}

#[test]
fn the_manifest_of_a_tree() {
    let content = Content::tree(name("notes"), notes(), HashList::new()).expect("consistent");
    let trackers = vec![
        tracker("[2001:db8::1]:59000", 0x22),
        tracker("tracker.example:443", 0x44),
    ];
    let record = Extension {
        kind: 0x1234,
        bytes: vec![1, 2, 3],
    };
    let manifest = Manifest {
        extensions: vec![record],
        ..Manifest::new(content, trackers, Some(SECRET))
    };
    check_manifest("manifest of a tree", &manifest);
}

#[test]
fn manifests_that_are_refused() {
    let good = bytes_of("00000048 00 0161 01 11x32 20 11x32 00 00 00 00000000");
    assert!(Manifest::decode(&framed(&good)).is_ok());
    for (blocks, why) in refused("manifests", 13) {
        assert!(Manifest::decode(&framed(&blocks)).is_err(), "{why}");
    }
}

#[test]
fn links() {
    let file = ContentId(tree::whole_hash(HELLO));
    let folder = notes().content_id();
    let v4 = tracker("203.0.113.7:59000", 0x22);
    let v6 = tracker("[2001:db8::1]:59000", 0x22);
    let named = tracker("tracker.example:443", 0x44);
    check_link("link to a file", Kind::File, file, v4, None);
    check_link("link to a tree", Kind::Tree, folder, v6, None);
    let private = "link to a private tree";
    check_link(private, Kind::Tree, folder, named, Some(SECRET));
}

#[test]
fn a_follow_link() {
    let link = FollowLink {
        publisher: PublisherId([0x11; 16]),
        read: Secret([0x22; 16]),
        tracker: tracker("203.0.113.7:59000", 0x22),
    };
    let text = vector("follow link");
    assert_eq!(link.to_string(), text);
    assert!(text.parse() == Ok(link));
    let bytes = base32_decode(text.strip_prefix("p2p:").expect("a link"));
    assert_eq!(bytes, Some(example("follow link")));
}

#[test]
fn links_that_are_refused() {
    let good = bytes_of("20 11x32 22x16 7f000001 e678");
    assert!(link_text(&good).parse::<Link>().is_ok());
    for (body, why) in refused("links", 9) {
        assert!(link_text(&body).parse::<Link>().is_err(), "{why}");
    }
}

#[test]
fn links_are_as_long_as_the_table_says() {
    for (shown, host) in [
        ("IPv4", "127.0.0.1".to_owned()),
        ("IPv6", "[::1]".to_owned()),
        ("name of 15 bytes", host_name(15)),
        ("name of 19 bytes", host_name(19)),
        ("name of 178 bytes, the longest", host_name(178)),
    ] {
        let len = |secret| {
            let tracker = tracker(&format!("{host}:1"), 0x22);
            let (kind, id) = (Kind::File, ContentId([0; 32]));
            let link = Link {
                kind,
                id,
                tracker,
                secret,
            };
            link.to_string().len()
        };
        assert_row(&format!(
            "| {shown} | {} | {} |",
            len(None),
            len(Some(SECRET))
        ));
    }
    assert!(DnsName::parse(&host_name(179)).is_err());
}

#[test]
fn pins_and_swarms() {
    let tracker = tracker("203.0.113.7:59000", 0x22);
    assert_eq!(vector("pin"), hex(&tracker.pin.0));
    assert_eq!(vector("pin as text"), tracker.pin.to_string());
    assert_eq!(vector("tracker as text"), tracker.to_string());
    assert_eq!(vector("tracker as text").parse(), Ok(tracker));

    let file = ContentId(tree::whole_hash(HELLO));
    let folder = notes().content_id();
    for (name, kind, id, secret) in [
        ("swarm id of a file", Kind::File, file, None),
        ("swarm id of a tree", Kind::Tree, folder, None),
        (
            "swarm id of a private file",
            Kind::File,
            file,
            Some(&SECRET),
        ),
    ] {
        assert_eq!(vector(name), hex(&SwarmId::of(kind, &id, secret).0));
    }
}

#[test]
fn the_limits_are_those_of_the_program() {
    for (what, limit, unit) in [
        ("manifest", limits::MANIFEST_BYTES, " bytes"),
        ("encoded listing", limits::MANIFEST_BYTES, " bytes"),
        ("entries in a listing", limits::LISTING_ENTRIES, ""),
        (
            "paths of a listing, together",
            limits::LISTING_PATH_BYTES,
            " bytes",
        ),
        ("path", limits::PATH_BYTES, " bytes"),
        ("components in a path", limits::PATH_DEPTH, ""),
        (
            "component of a path, name of a share",
            limits::COMPONENT_BYTES,
            " bytes",
        ),
        ("chunks in a share", limits::CHUNKS as usize, ""),
        ("hash list", limits::HASH_LIST_BYTES, " bytes"),
        ("trackers in a manifest", limits::TRACKERS, ""),
        ("host name of a tracker", DnsName::MAX_BYTES, " bytes"),
        ("link", limits::LINK_CHARS, " characters"),
    ] {
        assert_row(&format!("| {what} | {}{unit} |", grouped(limit)));
    }
}

#[test]
fn everything_shown_is_checked() {
    let source = include_str!("manifest_format.rs");
    for line in DOCUMENT.lines() {
        let shown = ["vector ", "example ", "refused "].map(|word| line.strip_prefix(word));
        let Some(name) = shown.into_iter().flatten().next() else {
            continue;
        };
        // The names of a series end in a number.
        let name = name.split(':').next().unwrap_or_default();
        let series = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let checked = source.contains(&format!("{name:?}"))
            || series != name && source.contains(series.trim_end());
        assert!(checked, "{name} is checked nowhere");
    }
}

/// The tree of the examples.
fn notes() -> Listing {
    let path = |text| SharePath::parse(text).expect("a valid path");
    let file = |text, bytes: &[u8], executable| Entry {
        path: path(text),
        kind: EntryKind::File {
            size: bytes.len() as u64,
            executable,
            root: *blake3::hash(bytes).as_bytes(),
        },
    };
    let folder = |text| Entry {
        path: path(text),
        kind: EntryKind::Dir,
    };
    let entries = vec![
        file("bin/run", b"#!/bin/sh\n", true),
        file("bin/run.log", b"", false),
        folder("caf\u{e8}"),
        folder("caf\u{e9}"),
        file("hello.txt", HELLO, false),
    ];
    Listing::new(entries).expect("a valid tree")
}

#[track_caller]
fn check_manifest(name: &str, manifest: &Manifest) {
    let bytes = example(name);
    assert_eq!(Manifest::decode(&bytes).as_ref(), Ok(manifest));
    assert_eq!(hex(&manifest.encode()), hex(&bytes));
    let id = manifest.content.id.0;
    assert_eq!(fields(name, "content id"), [id.to_vec()]);
    let pins: Vec<_> = manifest
        .trackers
        .iter()
        .map(|tracker| tracker.pin.0.to_vec())
        .collect();
    assert_eq!(fields(name, "pin"), pins);
    let sum = blake3::hash(&bytes[..bytes.len() - 16]);
    assert_eq!(fields(name, "checksum"), [&sum.as_bytes()[..16]]);
}

#[track_caller]
fn check_link(
    name: &str,
    kind: Kind,
    id: ContentId,
    tracker: TrackerAddress,
    secret: Option<Secret>,
) {
    let text = vector(name);
    let link = Link {
        kind,
        id,
        tracker,
        secret,
    };
    assert!(text.parse() == Ok(link.clone()), "{name}");
    assert_eq!(link.to_string(), text);
    let bytes = base32_decode(text.strip_prefix("p2p:").expect("a link"));
    assert_eq!(bytes, Some(example(name)));
    assert_eq!(fields(name, "content id"), [id.0.to_vec()]);
    let check = blake3::hash(&example(name)[..example(name).len() - 1]);
    assert_eq!(fields(name, "check"), [&check.as_bytes()[..1]]);
}

fn name(text: &str) -> ShareName {
    ShareName::parse(text).expect("a valid name")
}

/// The tracker at `address` with a key of 32 times `key`.
fn tracker(address: &str, key: u8) -> TrackerAddress {
    let pin = TrackerPin::of(&PublicKey([key; 32]));
    let text = format!("{address}#{pin}");
    text.parse().expect("a valid address")
}

/// A host name of this length.
fn host_name(len: usize) -> String {
    let labels = "a".repeat(59) + ".";
    labels.repeat(4)[..len].to_owned()
}

/// `blocks` with magic, version and checksum.
fn framed(blocks: &[u8]) -> Vec<u8> {
    let magic = bytes_of("89 50 32 50 0d 0a 1a 0a 0001");
    let mut bytes = [&magic, blocks].concat();
    let sum = blake3::hash(&bytes);
    bytes.extend_from_slice(&sum.as_bytes()[..16]);
    bytes
}

/// `body` with its check, as text.
fn link_text(body: &[u8]) -> String {
    let check = blake3::hash(body).as_bytes()[0];
    format!("p2p:{}", base32_encode(&[body, &[check]].concat()))
}

/// The value of the one line `vector NAME: VALUE`.
#[track_caller]
fn vector(name: &str) -> &'static str {
    let prefix = format!("vector {name}: ");
    let mut values = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix));
    match (values.next(), values.next()) {
        (Some(value), None) => value,
        (found, _) => panic!(
            "vector {name} is shown {}",
            found.map_or("nowhere", |_| "twice")
        ),
    }
}

fn count(prefix: &str) -> usize {
    let lines = DOCUMENT.lines();
    lines.filter(|line| line.starts_with(prefix)).count()
}

/// The lines of the block that begins with `first`: bytes and what they are.
#[track_caller]
fn block(first: &str) -> Vec<(Vec<u8>, &'static str)> {
    let mut lines = DOCUMENT.lines();
    assert!(lines.any(|line| line == first), "{first} is not shown");
    lines
        .take_while(|line| *line != "```")
        .map(|line| {
            let (bytes, meaning) = line.split_once('|').expect("a bar in each line");
            (bytes_of(bytes), meaning.trim())
        })
        .collect()
}

/// All bytes of an example.
#[track_caller]
fn example(name: &str) -> Vec<u8> {
    let lines = block(&format!("example {name}"));
    lines.into_iter().flat_map(|(bytes, _)| bytes).collect()
}

/// The bytes of an example that are said to be `meaning`.
#[track_caller]
fn fields(name: &str, meaning: &str) -> Vec<Vec<u8>> {
    let lines = block(&format!("example {name}")).into_iter();
    let wanted = lines.filter(|(_, shown)| *shown == meaning);
    wanted.map(|(bytes, _)| bytes).collect()
}

/// Encodings that are refused, and why.
#[track_caller]
fn refused(name: &str, number: usize) -> Vec<(Vec<u8>, &'static str)> {
    let lines = block(&format!("refused {name}"));
    assert_eq!(lines.len(), number, "{name}");
    lines
}

/// Hexadecimal words; `NNxCOUNT` is a byte repeated.
#[track_caller]
fn bytes_of(text: &str) -> Vec<u8> {
    let word = |word: &str| match word.split_once('x') {
        Some((byte, count)) => byte.repeat(count.parse().expect("a count")),
        None => word.to_owned(),
    };
    let digits: String = text.split_whitespace().map(word).collect();
    HEXLOWER
        .decode(digits.as_bytes())
        .expect("hexadecimal digits")
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

#[track_caller]
fn assert_row(row: &str) {
    assert!(DOCUMENT.lines().any(|line| line == row), "{row}");
}

/// A number with a comma between its thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut groups: Vec<&str> = vec![&digits[..first]];
    groups.extend(
        (first..digits.len())
            .step_by(3)
            .map(|at| &digits[at..at + 3]),
    );
    groups.retain(|group| !group.is_empty());
    groups.join(",")
}
