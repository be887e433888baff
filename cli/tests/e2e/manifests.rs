//! A `.p2p` that is damaged or hostile is exit 6, at the command line and in the daemon, which is
//! sent the bytes here without a client in between. None puts anything anywhere, and the daemon
//! answers still.

use std::{fs, path::Path};

use warren_daemon::control::model::Source;
use warren_proto::{
    content::{
        describe::Content,
        hashes::HashList,
        listing::{Entry, EntryKind, Listing},
        manifest::Manifest,
        path::{ShareName, SharePath},
        tree::whole_hash,
    },
    limits,
};

use crate::{
    content::MIB,
    harness::{Daemon, Swarm},
};

/// Bytes of checksum at the end of a manifest.
const CHECKSUM_BYTES: usize = 16;

#[test]
fn a_damaged_p2p_is_refused() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let registered = ours.register(&swarm.file("film.mkv", 3 * MIB, 1));
    let good = fs::read(&registered.manifest).unwrap();
    let mut cases = vec![
        ("empty".to_owned(), Vec::new()),
        ("text".to_owned(), b"just a text\n".to_vec()),
        ("lengthened".to_owned(), [&good[..], b"\0"].concat()),
        ("twice".to_owned(), [&good[..], &good].concat()),
    ];
    for len in [1, 8, 10, 14, 50, good.len() / 2, good.len() - 1] {
        cases.push((format!("cut to {len}"), good[..len].to_vec()));
    }
    for at in [0, 9, 12, 20, good.len() / 2, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        cases.push((format!("bit of byte {at}"), bytes));
    }
    for (what, bytes) in cases {
        check_refused(&swarm, &theirs, &what, bytes);
    }
    check_unharmed(&theirs);
    theirs.fetch(&registered.manifest);
}

#[test]
fn a_p2p_that_lies_behind_a_right_checksum_is_refused() {
    let swarm = Swarm::start();
    let theirs = swarm.daemon(1);
    let good = file_manifest("film.mkv", &[7; 100_000]).encode();
    // Every byte of the body, changed one at a time: sizes, counts, hashes, lengths of lists.
    for at in 8..good.len() - CHECKSUM_BYTES {
        for change in [0x01, 0x80, 0xFF] {
            let mut bytes = good.clone();
            bytes[at] ^= change;
            let bytes = sealed(bytes);
            if Manifest::decode(&bytes).is_err() {
                check_refused_by_daemon(&theirs, &format!("byte {at}"), bytes);
            }
        }
    }
    check_unharmed(&theirs);
}

#[test]
fn a_p2p_larger_than_any_is_refused() {
    let swarm = Swarm::start();
    let theirs = swarm.daemon(1);
    let path = swarm.path("large.p2p");
    let file = fs::File::create(&path).unwrap();
    file.set_len(limits::MANIFEST_BYTES as u64 + 1).unwrap();
    let path = path.to_str().unwrap();
    swarm
        .client(&["download", path, "1"])
        .expect_error(6, "large.p2p");

    let bytes = vec![0x89; limits::MANIFEST_BYTES + 1];
    check_refused_by_daemon(&theirs, "too large", bytes);
    // Even a body that no request may have does not end the daemon.
    theirs.post("download", &vec![b' '; 100 << 20]);
    theirs.post(
        "download",
        b"{\"source\":{\"manifest\":{\"bytes\":\"????\"}}}",
    );
    theirs.post("download", b"{");
    check_unharmed(&theirs);
}

#[test]
fn a_hostile_name_in_a_p2p_is_refused() {
    let swarm = Swarm::start();
    let theirs = swarm.daemon(1);
    let name = "0123456789";
    let good = file_manifest(name, b"gotcha").encode();
    for hostile in [
        "../../evil",
        "/etc/passw",
        "..\\..\\evil",
        "a\0b.txt   ",
        "\u{1b}[2Jab    ",
        "fdp\u{202e}exe.",
        "a/b       ",
        "./.       ",
    ] {
        let bytes = sealed(replaced(&good, name.as_bytes(), hostile.as_bytes()));
        check_refused(&swarm, &theirs, &format!("{hostile:?}"), bytes);
    }
    check_unharmed(&theirs);
}

#[test]
fn a_hostile_path_in_a_p2p_is_refused() {
    let swarm = Swarm::start();
    let theirs = swarm.daemon(1);
    let path = "folder/0123456789";
    let manifest = tree_manifest(path, b"gotcha");
    let listing = manifest.content.listing.as_ref().unwrap().encode();
    let good = manifest.encode();
    for hostile in [
        "../../outside/evi",
        "/etc/cron.d/evil.",
        "folder/../../evil",
        "folder//123456789",
        "folder/./23456789",
        "folder\\..\\..\\evil",
        "folder/a\0b3456789",
        "folder/01234567/.",
        "folder/012345678/",
        "folder/\u{202e}3456789",
    ] {
        let hostile_listing = replaced(&listing, path.as_bytes(), hostile.as_bytes());
        let bytes = replaced(&good, &listing, &hostile_listing);
        // So that nothing but the path is wrong.
        let id = whole_hash(&hostile_listing);
        let bytes = sealed(replaced(&bytes, &manifest.content.id.0, &id));
        check_refused(&swarm, &theirs, &format!("{hostile:?}"), bytes);
    }
    check_unharmed(&theirs);
}

/// Fails unless the bytes are refused at the command line and by the daemon itself.
#[track_caller]
fn check_refused(swarm: &Swarm, daemon: &Daemon, what: &str, bytes: Vec<u8>) {
    let path = swarm.path("bad.p2p");
    fs::write(&path, &bytes).unwrap();
    let idx = daemon.idx.to_string();
    let ran = swarm.client(&["download", path.to_str().unwrap(), &idx]);
    assert_eq!(ran.code, 6, "{what}: {ran:?}");
    check_refused_by_daemon(daemon, what, bytes);
}

#[track_caller]
fn check_refused_by_daemon(daemon: &Daemon, what: &str, bytes: Vec<u8>) {
    let answer = daemon.post_download(Source::Manifest { bytes });
    assert!(answer.contains(r#""exit":6"#), "{what}: {answer}");
}

/// Fails unless the daemon answers, and has neither a share nor a file.
#[track_caller]
fn check_unharmed(daemon: &Daemon) {
    assert!(daemon.status().shares.is_empty());
    let downloads = daemon.downloads();
    let empty = |path: &Path| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    assert!(!downloads.exists() || empty(&downloads));
}

fn file_manifest(name: &str, bytes: &[u8]) -> Manifest {
    let hashes = if bytes.len() <= 65_536 {
        HashList::from_bytes(whole_hash(bytes).to_vec()).unwrap()
    } else {
        let chunks = bytes.chunks(65_536).zip((0..).step_by(65_536));
        chunks
            .map(|(chunk, offset)| warren_proto::content::tree::subtree_cv(chunk, offset))
            .collect()
    };
    let name = ShareName::parse(name).unwrap();
    let content = Content::file(name, bytes.len() as u64, hashes).unwrap();
    Manifest::new(content, Vec::new(), None)
}

fn tree_manifest(path: &str, bytes: &[u8]) -> Manifest {
    let kind = EntryKind::File {
        size: bytes.len() as u64,
        executable: false,
        root: whole_hash(bytes),
    };
    let path = SharePath::parse(path).unwrap();
    let listing = Listing::new(vec![Entry { path, kind }]).unwrap();
    let name = ShareName::parse("share").unwrap();
    let content = Content::tree(name, listing, HashList::new()).unwrap();
    Manifest::new(content, Vec::new(), None)
}

/// `bytes` with the one place where `from` stands replaced.
#[track_caller]
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "lengths are written elsewhere");
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// `bytes` with its last ones replaced by the checksum of those before.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - CHECKSUM_BYTES);
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(&checksum.as_bytes()[..CHECKSUM_BYTES]);
    bytes
}
