//! Where a `.p2p` goes, and what is never touched on the way.

use std::os::unix::fs::{PermissionsExt, symlink};

use warren_proto::content::TrackerAddress;
use warren_proto::id::Secret;

use super::*;

use crate::store::samples::Sample;

#[test]
fn only_the_last_suffix_of_a_file_is_dropped() {
    for (name, expected) in [
        ("file.txt", "file.p2p"),
        ("a.tar.gz", "a.tar.p2p"),
        ("file", "file.p2p"),
        ("file.", "file.p2p"),
        (".bashrc", ".bashrc.p2p"),
        (".config.json", ".config.p2p"),
        ("..odd", "..odd.p2p"),
        ("movie.p2p", "movie.p2p"),
        ("Ünï cödé.☂", "Ünï cödé.p2p"),
    ] {
        check(&file(name, b"x"), &[], expected);
    }
    check(&folder("photos"), &[], "photos.p2p");
    check(&folder("photos.v1"), &[], "photos.v1.p2p");
    check(&folder(".git"), &[], ".git.p2p");
}

#[test]
fn where_none_can_be_written_is_known_before_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "theirs").unwrap();
    check_place(&at("made/when/needed"), None).unwrap();
    check_place(&at("file"), Some(&at("a.p2p"))).unwrap();
    for into in ["file", "file/below"] {
        let refused = check_place(&at(into), None);
        assert!(
            matches!(refused, Err(ManifestFileError::Io { .. })),
            "{refused:?}"
        );
    }
    let refused = check_place(folder.path(), Some(&at("missing/a.p2p")));
    assert!(matches!(refused, Err(ManifestFileError::NoFolder { path }) if path == at("missing")));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_may_not_be_written_to_is_refused_before_there_is_anything() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    let refused = check_place(&folder.path().join("p2p"), None);
    // Nothing is forbidden to root.
    let expected = fs::write(folder.path().join("probe"), "").is_ok();
    assert_eq!(refused.is_ok(), expected, "{refused:?}");
}

#[test]
fn a_taken_name_is_left_alone_and_the_next_one_used() {
    let manifest = file("file.txt", b"ours");
    check(&manifest, &["file.p2p"], "file.txt.p2p");
    check(&manifest, &["file.txt.p2p"], "file.p2p");
    check(&manifest, &["file.p2p", "file.txt.p2p"], "file.txt-2.p2p");
    let taken = ["file.p2p", "file.txt.p2p", "file.txt-2.p2p"];
    check(&manifest, &taken, "file.txt-3.p2p");
    check(&folder("photos"), &["photos.p2p"], "photos-2.p2p");
}

#[test]
fn names_as_long_as_names_get_are_cut_between_characters() {
    let long = "ä".repeat(127);
    let cut = |bytes: usize| long[..bytes].to_owned();
    check(&file(&long, b"x"), &[], &format!("{}.p2p", cut(250)));
    check(
        &folder(&long),
        &[&format!("{}.p2p", cut(250))],
        &format!("{}-2.p2p", cut(248)),
    );
    let with_suffix = format!("{}.ä", cut(250));
    check(&file(&with_suffix, b"x"), &[], &format!("{}.p2p", cut(250)));
}

#[test]
fn sharing_again_leads_to_the_same_file_with_the_new_trackers() {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = file("file.txt", b"ours");
    let first = write(folder.path(), &manifest);
    let tracker: TrackerAddress = "tracker.example:59000#aaaaaaaaaaaaaaaaaaaaaaaaaa"
        .parse()
        .unwrap();
    manifest.trackers.push(tracker);
    assert_eq!(write(folder.path(), &manifest), first);
    assert_eq!(read(&first).unwrap(), manifest);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn the_own_file_is_found_behind_a_name_that_became_free() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("file.p2p");
    fs::write(&taken, "other").unwrap();
    let manifest = file("file.txt", b"ours");
    let ours = write(folder.path(), &manifest);
    fs::remove_file(&taken).unwrap();
    assert_eq!(write(folder.path(), &manifest), ours);
    assert!(!taken.exists());
}

#[test]
fn other_shares_of_one_name_and_one_content_under_a_secret_have_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let public = file("file.txt", b"one");
    let other = file("file.txt", b"two");
    let mut private = file("file.txt", b"one");
    private.secret = Some(Secret([7; 16]));
    let expected = ["file.p2p", "file.txt.p2p", "file.txt-2.p2p"];
    for _ in 0..2 {
        for (manifest, name) in [&public, &other, &private].into_iter().zip(expected) {
            assert_eq!(write(folder.path(), manifest), folder.path().join(name));
        }
    }
    let mode = |name| {
        fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode()
    };
    assert_eq!(
        mode(expected[2]) & 0o777,
        0o600,
        "it lets in whoever reads it"
    );
}

#[test]
fn links_and_folders_in_the_way_are_neither_followed_nor_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let manifest = file("file.txt", b"ours");
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    // Even one that leads to a .p2p of this very share.
    write_manifest(folder.path(), Some(&target), &manifest, &[]).unwrap();
    let before = fs::metadata(&target).unwrap().modified().unwrap();
    symlink(&target, at("file.p2p")).unwrap();
    symlink("nowhere", at("file.txt.p2p")).unwrap();
    fs::create_dir(at("file.txt-2.p2p")).unwrap();
    assert_eq!(write(folder.path(), &manifest), at("file.txt-3.p2p"));
    assert_eq!(fs::metadata(&target).unwrap().modified().unwrap(), before);
    assert!(at("file.p2p").is_symlink() && at("file.txt.p2p").is_symlink());
    for taken in ["file.p2p", "file.txt.p2p", "file.txt-2.p2p"] {
        let error = write_manifest(folder.path(), Some(&at(taken)), &manifest, &[]).unwrap_err();
        assert!(
            matches!(&error, ManifestFileError::Taken { path } if *path == at(taken)),
            "{error}"
        );
    }
    assert!(!at("nowhere").exists());
}

#[test]
fn an_output_is_exactly_that_path_and_replaces_only_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("any name");
    let manifest = file("file.txt", b"ours");
    let unused = folder.path().join("unused");
    let to = |manifest: &Manifest| write_manifest(&unused, Some(&output), manifest, &[]);
    assert_eq!(to(&manifest).unwrap(), output);
    assert_eq!(to(&manifest).unwrap(), output, "again");
    for occupant in [
        file("file.txt", b"other").encode(),
        b"a film".to_vec(),
        Vec::new(),
    ] {
        fs::write(&output, &occupant).unwrap();
        let error = ApiError::from(&to(&manifest).unwrap_err());
        assert_eq!(
            (error.code.as_str(), error.exit),
            ("target_exists", exit::REFUSED)
        );
        assert_eq!(fs::read(&output).unwrap(), occupant);
    }
    assert!(!unused.exists());
}

#[test]
fn a_missing_folder_is_made_for_our_names_and_named_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("downloads/daemon-1");
    let manifest = file("file.txt", b"ours");
    let output = missing.join("x.p2p");
    let error = write_manifest(folder.path(), Some(&output), &manifest, &[]).unwrap_err();
    assert!(matches!(&error, ManifestFileError::NoFolder { path } if *path == missing));
    let error = ApiError::from(&error);
    assert_eq!(
        (error.code.as_str(), error.exit),
        ("no_folder", exit::NOT_FOUND)
    );
    assert_eq!(write(&missing, &manifest), missing.join("file.p2p"));
}

#[test]
fn where_a_p2p_cannot_go_is_known_before_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let check =
        |output: &Path| check_place(folder.path(), Some(output)).map_err(|it| ApiError::from(&it));
    fs::write(at("film.mkv"), "theirs").unwrap();
    fs::create_dir(at("films")).unwrap();
    for (output, code) in [
        (at("missing/x.p2p"), "no_folder"),
        (at("film.mkv/x.p2p"), "no_folder"),
        (at("film.mkv"), "target_exists"),
        (at("films"), "target_exists"),
    ] {
        assert_eq!(
            check(&output).unwrap_err().code,
            code,
            "{}",
            output.display()
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    // As root too, whom no permission there stops.
    check(Path::new("/proc/x.p2p")).unwrap_err();
    // Whose it is, is not known yet.
    let other = write(folder.path(), &file("other", b"other"));
    check(&other).unwrap();
    check(&at("x.p2p")).unwrap();
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = file("file.txt", b"ours");
    manifest.extensions.push(warren_proto::content::Extension {
        kind: 1,
        bytes: vec![0; limits::MANIFEST_BYTES],
    });
    let error = write_manifest(folder.path(), None, &manifest, &[]).unwrap_err();
    assert!(matches!(
        error,
        ManifestFileError::Manifest(ManifestError::TooLarge)
    ));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_p2p_of_a_former_version_is_replaced_or_goes_and_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (at, one) = (|name: &str| folder.path().join(name), file("film", b"1"));
    let (two, other) = (file("film", b"2"), file("film", b"other"));
    let place = folder.path();
    assert_eq!(write(place, &other), at("film.p2p"));
    assert_eq!(write(place, &one), at("film-2.p2p"));
    let next = |former: &Manifest, manifest: &Manifest, output: Option<&Path>| {
        let former = swarm_of(former);
        write_manifest(place, output, manifest, &[former]).unwrap()
    };
    assert_eq!(next(&one, &two, None), at("film-2.p2p"));
    assert_eq!(fs::read(at("film-2.p2p")).unwrap(), two.encode());
    let output = at("mine.p2p");
    assert_eq!(next(&two, &one, Some(&output)), output);
    assert_eq!(next(&one, &two, Some(&output)), output);
    assert!(!at("film-2.p2p").exists());
    assert_eq!(fs::read(at("film.p2p")).unwrap(), other.encode());
}

#[test]
fn many_at_once_get_a_name_each() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for n in 0..6u8 {
            let folder = folder.path();
            scope.spawn(move || {
                let manifest = file("file.txt", &[n]);
                let path = write(folder, &manifest);
                assert_eq!(read(&path).unwrap(), manifest);
            });
        }
    });
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
}

/// Where the `.p2p` goes when these names are taken.
#[track_caller]
fn check(manifest: &Manifest, taken: &[&str], expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    for name in taken {
        fs::write(folder.path().join(name), "other").unwrap();
    }
    let path = write(folder.path(), manifest);
    assert_eq!(path, folder.path().join(expected));
    assert_eq!(
        Manifest::decode(&fs::read(path).unwrap()).unwrap(),
        *manifest
    );
    for name in taken {
        assert_eq!(fs::read(folder.path().join(name)).unwrap(), b"other");
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        taken.len() + 1
    );
}

#[track_caller]
fn write(folder: &Path, manifest: &Manifest) -> PathBuf {
    write_manifest(folder, None, manifest, &[]).unwrap()
}

fn file(name: &str, bytes: &[u8]) -> Manifest {
    of(Sample::file(name, bytes.to_vec()))
}

fn folder(name: &str) -> Manifest {
    of(Sample::tree(name, vec![("a", Some(vec![1]))]))
}

fn of(sample: Sample) -> Manifest {
    Manifest::new((*sample.content).clone(), Vec::new(), None)
}
