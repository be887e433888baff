//! What is on disk becomes a share, or is refused with the reason.

use std::fs::{FileTimes, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use warren_proto::content::Content;

use super::*;

use crate::store::disk::RealDisk;
use crate::store::error::StoreError;
use crate::store::faulty::{Fault, FaultyDisk};
use crate::store::files::ShareFiles;
use crate::store::samples::{CHUNK_BYTES, Sample, noise, quick_folder};

#[test]
fn every_shape_of_share_is_what_it_was_when_laid_out() {
    for sample in [
        Sample::file("movie.mkv", noise(1, 3 * CHUNK_BYTES + 7)),
        Sample::file("note", noise(2, 10)),
        Sample::file("empty", Vec::new()),
        Sample::file("Ünï cödé ☂ and blanks .txt", noise(3, 10)),
        Sample::mixed(),
        Sample::tree("hollow", vec![]),
        Sample::tree("folders", vec![("a/b", None), ("c", None)]),
        Sample::tree("one small", vec![("ä/ö ü", Some(noise(4, 1)))]),
    ] {
        let folder = quick_folder();
        let path = folder.path().join(sample.content.name.as_str());
        sample.lay_out(&path);
        let hashing = Hashing::default();
        let hashed = hash_share(&RealDisk, &path, Special::Refuse, &hashing).unwrap();
        assert_eq!(hashed.content, *sample.content);
        assert_eq!(hashed.path, path);
        assert_eq!(hashed.skipped, [""; 0].map(PathBuf::from));
        let size = sample.content.size;
        assert_eq!(
            (hashing.hashed_bytes(), hashing.total_bytes()),
            (size, size)
        );
        assert_serves(&hashed);
    }
}

/// What is known is told from what was read by being wrong.
#[test]
fn files_that_are_what_they_were_are_not_read_again_and_others_are() {
    let (folder, sample) = (quick_folder(), Sample::mixed());
    let path = folder.path().join("photos");
    sample.lay_out(&path);
    let before = hash(&path).unwrap();
    let zeros = Sample::tree(
        "photos",
        sample
            .files
            .iter()
            .zip(["a-b", "a/b/deep.bin", "a/b/small", "empty", "run.sh", "z"])
            .map(|(bytes, path)| (path, Some(vec![0; bytes.len()])))
            .chain([("nothing/here", None)])
            .collect(),
    );
    let known = |until_ns| Known {
        content: zeros.content.clone(),
        identities: before.identities.clone(),
        until_ns,
    };
    let hash = |known: &Known| {
        let hashing = Hashing::default();
        let hashed = hash_version(&RealDisk, &path, Special::Refuse, Some(known), &hashing);
        assert_eq!(hashing.hashed_bytes(), hashing.total_bytes());
        let hashed = hashed.unwrap();
        (hashed.content, hashed.read_bytes)
    };
    let nothing = ((*zeros.content).clone(), 0);
    assert_eq!(hash(&known(i64::MAX)), nothing, "nothing is read");
    let all = ((*sample.content).clone(), sample.content.size);
    assert_eq!(hash(&known(0)), all, "all might have changed unseen");

    let deep = path.join("a/b/deep.bin");
    std::fs::write(&deep, noise(9, 2 * CHUNK_BYTES + 100)).unwrap();
    std::fs::rename(path.join("z"), path.join("y")).unwrap();
    let (content, read_bytes) = hash(&known(i64::MAX));
    let z = sample.files[5].len() as u64;
    assert_eq!(read_bytes, 2 * CHUNK_BYTES as u64 + 100 + z);
    let root = |path: &str| {
        let files = 0..content.file_count();
        let mut files = files.filter(|it| content.file_path(*it).unwrap().as_str() == path);
        content.file_root(files.next().unwrap()).unwrap()
    };
    let is_read = |path: &str, bytes: &[u8]| root(path) == *blake3::hash(bytes).as_bytes();
    assert!(is_read("a/b/deep.bin", &noise(9, 2 * CHUNK_BYTES + 100)));
    assert!(is_read("y", &sample.files[5]), "by its path it is new");
    assert!(is_read("a-b", &vec![0; CHUNK_BYTES - 500]));
    assert!(is_read("run.sh", &[0; 300]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_file_has_the_id_b3sum_prints(len in any_len(), seed: u64) {
        let bytes = noise(seed, len);
        let (_folder, path) = file("f", &bytes);
        let hashed = hash(&path).unwrap();
        prop_assert_eq!(hashed.content.id.0, *blake3::hash(&bytes).as_bytes());
        assert_serves(&hashed);
    }

    #[test]
    fn each_file_of_a_tree_has_the_hash_b3sum_prints(lens in prop::collection::vec(any_len(), 0..9)) {
        let folder = quick_folder();
        for (seed, len) in (0..).zip(&lens) {
            std::fs::write(folder.path().join(format!("f{seed}")), noise(seed, *len)).unwrap();
        }
        let hashed = hash(folder.path()).unwrap();
        for (number, len) in (0..).zip(&lens) {
            let root = blake3::hash(&noise(u64::from(number), *len));
            prop_assert_eq!(hashed.content.file_root(number).unwrap(), *root.as_bytes());
        }
        assert_serves(&hashed);
    }
}

fn any_len() -> impl Strategy<Value = usize> {
    prop_oneof![
        Just(0),
        Just(1),
        65_535..65_538usize,
        131_071..131_074usize,
        1..600_000usize,
    ]
}

#[test]
fn a_file_with_chunks_larger_than_a_buffer_has_the_right_id() {
    // Zeros with some bytes at the ends: sparse, so quick to read.
    let (_folder, path) = file("sparse", b"begin");
    let sparse = OpenOptions::new().write(true).open(&path).unwrap();
    sparse.write_all_at(b"end", 512 << 20).unwrap();
    let hashed = hash(&path).unwrap();
    assert_eq!(hashed.content.layout.chunk_bytes(), 512 << 10);
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(std::fs::File::open(&path).unwrap())
        .unwrap();
    assert_eq!(hashed.content.id.0, *hasher.finalize().as_bytes());
}

#[test]
fn what_is_typed_may_be_a_link_or_end_without_a_name() {
    let folder = quick_folder();
    let real = folder.path().canonicalize().unwrap().join("real");
    Sample::mixed().lay_out(&real);
    let link = folder.path().join("link");
    symlink("real", &link).unwrap();
    for (typed, name, at) in [
        (link.clone(), "link", &real),
        (link.join(""), "link", &real),
        (link.join("."), "link", &real),
        (real.join("nothing/here/../.."), "real", &real),
        (real.join(""), "real", &real),
    ] {
        let hashed = hash(&typed).unwrap();
        assert_eq!(hashed.content.name.as_str(), name, "{}", typed.display());
        assert_eq!(hashed.path, *at, "{}", typed.display());
        assert_serves(&hashed);
    }
}

#[test]
fn what_cannot_be_shared_by_itself_is_refused_with_a_code() {
    let folder = quick_folder();
    let at = |name: &str| folder.path().join(name);
    let _socket = UnixListener::bind(at("socket")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    let bytes = std::ffi::OsStr::from_bytes(b"not \xff utf-8");
    let not_utf8 = folder.path().join(bytes);
    for path in [
        &at("plain"),
        &at("tab\there"),
        &at("back\\slash"),
        &not_utf8,
    ] {
        std::fs::write(path, "x").unwrap();
    }
    for (path, code, exit) in [
        (at("missing"), "not_found", exit::NOT_FOUND),
        (at("plain/below"), "not_found", exit::NOT_FOUND),
        (at("dangling"), "not_found", exit::NOT_FOUND),
        ("plain".into(), "relative_path", exit::USAGE),
        (at("socket"), "not_regular", exit::REFUSED),
        ("/dev/null".into(), "not_regular", exit::REFUSED),
        (at("tab\there"), "bad_name", exit::REFUSED),
        (at("back\\slash"), "bad_name", exit::REFUSED),
        ("/".into(), "bad_name", exit::REFUSED),
        (not_utf8, "not_utf8", exit::REFUSED),
    ] {
        let error = ApiError::from(&hash(&path).unwrap_err());
        assert_eq!((error.code.as_str(), error.exit), (code, exit), "{error}");
        assert!(!error.hint.is_empty(), "{error}");
    }
}

#[test]
fn special_files_in_a_folder_are_refused_together_or_skipped() {
    let folder = quick_folder();
    let share = folder.path().join("share");
    Sample::mixed().lay_out(&share);
    for n in 0..11 {
        symlink("/etc/passwd", share.join(format!("a/link{n:02}"))).unwrap();
    }
    std::fs::create_dir(share.join("only links")).unwrap();
    symlink("..", share.join("only links/up")).unwrap();
    let _socket = UnixListener::bind(share.join("socket")).unwrap();

    let error = hash(&share).unwrap_err();
    let RegisterError::Special { paths, total, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((paths.len(), *total), (10, 13));
    assert_eq!(paths[0], Path::new("a/link00"));
    assert!(error.hint().contains("--skip-special"));
    assert!(error.to_string().ends_with("a/link09, ..."), "{error}");

    let hashed = hash_share(&RealDisk, &share, Special::Skip, &Hashing::default()).unwrap();
    assert_eq!(hashed.skipped.len(), 13);
    assert_eq!(hashed.skipped[11], Path::new("only links/up"));
    let entries = hashed.content.listing.as_ref().unwrap().entries();
    let mut paths = entries.iter().map(|entry| entry.path.as_str());
    assert!(
        paths.any(|path| path == "only links"),
        "the folder is shared, empty"
    );
    assert_eq!(
        entries.len(),
        Sample::mixed()
            .content
            .listing
            .as_ref()
            .unwrap()
            .entries()
            .len()
            + 1
    );
    assert_serves(&hashed);
}

#[test]
fn bad_names_deep_in_a_folder_are_named() {
    for (name, code) in [
        (&b"line\nfeed"[..], "bad_name"),
        (b"\xff", "not_utf8"),
        ("a\u{202e}b".as_bytes(), "bad_name"),
    ] {
        let folder = quick_folder();
        let deep = folder
            .path()
            .join("a/b")
            .join(std::ffi::OsStr::from_bytes(name));
        for make in [
            |path: &Path| std::fs::create_dir(path).unwrap(),
            |path: &Path| drop(std::fs::File::create_new(path).unwrap()),
        ] {
            let _ = std::fs::remove_dir_all(folder.path().join("a"));
            std::fs::create_dir_all(deep.parent().unwrap()).unwrap();
            make(&deep);
            let error = hash(folder.path()).unwrap_err();
            assert_eq!(ApiError::from(&error).code, code);
            assert!(error.to_string().contains("a/b/"), "{error}");
        }
    }
}

#[test]
fn folders_nested_too_deep_are_refused() {
    let folder = quick_folder();
    let deepest = |depth| folder.path().join(vec!["d"; depth].join("/"));
    std::fs::create_dir_all(deepest(limits::PATH_DEPTH)).unwrap();
    assert!(hash(folder.path()).is_ok());
    std::fs::create_dir_all(deepest(limits::PATH_DEPTH + 1)).unwrap();
    let error = hash(folder.path()).unwrap_err();
    assert!(
        matches!(
            error,
            RegisterError::Name {
                source: PathError::Deep,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_file_no_manifest_could_describe_is_refused_before_it_is_read() {
    let (_folder, path) = file("huge", b"");
    // Its hashes alone come to 64 MiB. Sparse, and never read.
    let huge = OpenOptions::new().write(true).open(&path).unwrap();
    for size in [
        (limits::CHUNKS as u64) << 24,
        ((limits::CHUNKS as u64) << 24) + 1,
    ] {
        if huge.set_len(size).is_err() {
            continue; // The file system has smaller files only.
        }
        let hashing = Hashing::default();
        let error = hash_share(&RealDisk, &path, Special::Refuse, &hashing).unwrap_err();
        assert!(matches!(error, RegisterError::TooLarge { .. }), "{error}");
        assert_eq!(hashing.hashed_bytes(), 0);
    }
}

#[test]
fn what_other_systems_could_not_store_is_a_warning() {
    let folder = quick_folder();
    let share = folder.path().join("aux");
    std::fs::create_dir(&share).unwrap();
    for name in ["AUX", "readme", "README"] {
        std::fs::write(share.join(name), name).unwrap();
    }
    let warnings = hash(&share).unwrap().warnings;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    let (_folder, path) = file("a:b", b"");
    assert_eq!(hash(&path).unwrap().warnings.len(), 1);
}

#[test]
fn the_executable_bit_is_part_of_a_tree() {
    let folder = quick_folder();
    let script = folder.path().join("script");
    std::fs::write(&script, "#!").unwrap();
    let plain = hash(folder.path()).unwrap();
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let executable = hash(folder.path()).unwrap();
    assert_ne!(plain.content.id, executable.content.id);
    let listing = executable.content.listing.unwrap();
    assert!(listing.file(0).unwrap().executable);
}

/// Something another program does to a share.
type Meddling = (&'static str, fn(&Path));

const MEDDLINGS: [Meddling; 5] = [
    ("append", |path| {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"more").unwrap();
    }),
    ("rewrite", |path| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(b"other", 0).unwrap();
        // A clock's tick may be longer than this test.
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
    }),
    ("truncate", |path| {
        OpenOptions::new()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(3)
            .unwrap();
    }),
    ("replace", |path| {
        let other = path.with_extension("other");
        std::fs::copy(path, &other).unwrap();
        std::fs::rename(other, path).unwrap();
    }),
    ("plant a link", |path| {
        std::fs::remove_file(path).unwrap();
        symlink("/etc/passwd", path).unwrap();
    }),
];

#[test]
fn a_change_at_any_moment_is_noticed_or_part_of_the_share() {
    for (sample, victim) in [
        (Sample::file("movie", noise(1, 2 * CHUNK_BYTES + 7)), ""),
        (Sample::mixed(), "a/b/deep.bin"),
        (Sample::mixed(), "run.sh"),
    ] {
        for (what, meddle) in MEDDLINGS {
            let mut refused = 0;
            for call in 0.. {
                let folder = quick_folder();
                let path = folder.path().join(sample.content.name.as_str());
                sample.lay_out(&path);
                let file = if victim.is_empty() {
                    path.clone()
                } else {
                    path.join(victim)
                };
                let disk = FaultyDisk::meddled_with_at(call, move || meddle(&file));
                let result = hash_share(&disk, &path, Special::Skip, &Hashing::default());
                if disk.calls() <= call {
                    assert_eq!(result.unwrap().content, *sample.content);
                    break;
                }
                match result {
                    Ok(hashed) => assert_fresh_or_changed(&hashed),
                    Err(RegisterError::Changed { .. }) => refused += 1,
                    Err(error) => panic!("{what} before call {call}: {error}"),
                }
            }
            assert!(refused > 0, "{what} was never noticed");
        }
    }
}

/// A change came either before the first look at the file or after the last one.
#[track_caller]
fn assert_fresh_or_changed(hashed: &Hashed) {
    match open(hashed) {
        Ok(files) => assert_all_verify(&files),
        Err(StoreError::Changed { .. }) => (),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn any_failing_call_fails_the_whole_and_names_a_path() {
    for sample in [
        Sample::file("movie", noise(1, 2 * CHUNK_BYTES + 7)),
        Sample::mixed(),
    ] {
        let folder = quick_folder();
        let path = folder.path().join(sample.content.name.as_str());
        sample.lay_out(&path);
        'calls: for call in 0.. {
            for (errno, code) in [(Errno::ACCESS, "unreadable"), (Errno::IO, "disk_error")] {
                let disk = FaultyDisk::failing_at(call, Fault::Once(errno));
                let result = hash_share(&disk, &path, Special::Refuse, &Hashing::default());
                if !disk.fault_was_met() {
                    assert!(result.is_ok() && call > 5);
                    break 'calls;
                }
                let error = ApiError::from(&result.unwrap_err());
                assert_eq!((error.code.as_str(), error.exit), (code, exit::DISK));
                let folder = folder.path().to_str().unwrap();
                assert!(error.message.contains(folder), "{error}");
            }
        }
    }
}

#[test]
fn cancelling_ends_it_within_a_few_pieces() {
    let (_folder, path) = file("long", &noise(1, 40 * CHUNK_BYTES));
    let hashing = Arc::new(Hashing::default());
    let canceller = hashing.clone();
    let disk = FaultyDisk::meddled_with_at(8, move || canceller.cancel());
    let error = hash_share(&disk, &path, Special::Refuse, &hashing).unwrap_err();
    assert!(matches!(error, RegisterError::Cancelled) && hashing.is_cancelled());
    assert!(hashing.hashed_bytes() < hashing.total_bytes() / 2);

    let error = hash_share(&RealDisk, &path, Special::Refuse, &hashing).unwrap_err();
    assert!(matches!(error, RegisterError::Cancelled), "before it began");
}

#[track_caller]
fn assert_serves(hashed: &Hashed) {
    assert_all_verify(&open(hashed).unwrap());
}

fn open(hashed: &Hashed) -> Result<ShareFiles, StoreError> {
    let content: Arc<Content> = Arc::new(hashed.content.clone());
    ShareFiles::open_in_place(
        Arc::new(RealDisk),
        &hashed.path,
        &content,
        &hashed.identities,
    )
}

#[track_caller]
fn assert_all_verify(files: &ShareFiles) {
    let layout = &files.content().layout;
    for chunk in (0..layout.chunk_count()).filter_map(|index| layout.chunk(index)) {
        assert!(files.verify(chunk).unwrap());
    }
}

fn hash(path: &Path) -> Result<Hashed, RegisterError> {
    hash_share(&RealDisk, path, Special::Refuse, &Hashing::default())
}

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = quick_folder();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}
