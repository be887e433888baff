//! What travels arrives as it was: by `.p2p` and by link, files and folders of every kind.

use std::{fs, path::Path, process::Command};

use crate::{
    content::{
        MIB, assert_nothing_unfinished, assert_same_file, assorted_folder, b3sum, random_file, tree,
    },
    harness::{Daemon, Swarm},
};

#[test]
fn a_file_travels_by_its_p2p() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let film = swarm.file("film.mkv", 5 * MIB + 3, 1);
    let registered = ours.register(&film);
    assert_eq!((registered.bytes, registered.files), (5 * MIB + 3, 1));
    assert_eq!(Path::new(&registered.path), film);

    let done = theirs.fetch(&registered.manifest);
    assert_eq!(done.bytes, 5 * MIB + 3);
    assert_eq!(done.content_id, registered.content_id);
    check_arrived(&theirs, &done.path, &film);
}

#[test]
fn a_file_travels_by_its_link_alone() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let film = swarm.file("film.mkv", 5 * MIB + 3, 2);
    let registered = ours.register(&film);
    fs::remove_file(&registered.manifest).unwrap();

    let done = theirs.fetch(registered.link.unwrap());
    assert_eq!(done.bytes, 5 * MIB + 3);
    check_arrived(&theirs, &done.path, &film);
}

#[test]
fn files_travel_both_ways_between_two_daemons() {
    let swarm = Swarm::start();
    let (one, two) = (swarm.daemon(1), swarm.daemon(2));
    for (from, to, seed) in [(&one, &two, 3), (&two, &one, 4), (&one, &two, 5)] {
        let file = swarm.file(&format!("file {seed}"), 2 * MIB, seed);
        let done = to.fetch(from.register(&file).manifest);
        check_arrived(to, &done.path, &file);
    }
}

#[test]
fn names_with_spaces_and_unicode_arrive_unchanged() {
    let swarm = Swarm::start();
    let (ours, by_file, by_link) = (swarm.daemon(1), swarm.daemon(2), swarm.daemon(3));
    let file = swarm.file("a b/ç d/Ünï côde – 文件 'quoted' №1.tar.gz", 300_000, 6);
    let registered = ours.register(&file);
    let manifest = Path::new(&registered.manifest);
    let name = "Ünï côde – 文件 'quoted' №1.tar.p2p";
    assert_eq!(manifest, ours.downloads().join(name));
    let done = by_file.fetch(manifest);
    check_arrived(&by_file, &done.path, &file);
    let done = by_link.fetch(registered.link.unwrap());
    check_arrived(&by_link, &done.path, &file);
}

#[test]
fn the_longest_names_and_deepest_paths_travel() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let longest = "n".repeat(255);
    let file = swarm.file(&longest, 1000, 9);
    let registered = ours.register(&file);
    assert!(registered.manifest.ends_with(".p2p"));
    check_arrived(&theirs, &theirs.fetch(&registered.manifest).path, &file);

    let folder = swarm.path("folder");
    let deepest = vec!["d"; 63].join("/");
    random_file(&folder.join(deepest).join(&longest), 1000, 10);
    random_file(&folder.join(&longest).join(&longest), 1000, 11);
    let done = theirs.fetch(ours.register(&folder).manifest);
    assert_eq!(tree(Path::new(&done.path)), tree(&folder));
}

#[test]
fn files_of_every_critical_size_travel() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    // Around a leaf, a grain and a chunk; 128 MiB is where chunks begin to grow.
    for bytes in [1, 1023, 1024, 1025, 65_535, 65_536, 65_537, 131_072] {
        let file = swarm.file(&format!("{bytes} bytes"), bytes, bytes);
        let registered = ours.register(&file);
        let source = if bytes % 2 == 0 {
            registered.manifest
        } else {
            registered.link.unwrap()
        };
        check_arrived(&theirs, &theirs.fetch(source).path, &file);
    }
}

#[test]
fn an_empty_file_travels_by_its_p2p_and_by_its_link() {
    let swarm = Swarm::start();
    let (ours, by_file, by_link) = (swarm.daemon(1), swarm.daemon(2), swarm.daemon(3));
    let file = swarm.file("nothing.txt", 0, 0);
    let registered = ours.register(&file);
    for (daemon, source) in [
        (&by_file, registered.manifest),
        (&by_link, registered.link.unwrap()),
    ] {
        let done = daemon.fetch(source);
        assert_eq!(done.bytes, 0);
        check_arrived(daemon, &done.path, &file);
    }
}

#[test]
fn an_empty_folder_travels_by_its_p2p_and_by_its_link() {
    let swarm = Swarm::start();
    let (ours, by_file, by_link) = (swarm.daemon(1), swarm.daemon(2), swarm.daemon(3));
    let folder = swarm.path("nothing");
    fs::create_dir(&folder).unwrap();
    let registered = ours.register(&folder);
    for (daemon, source) in [
        (&by_file, registered.manifest),
        (&by_link, registered.link.unwrap()),
    ] {
        let done = daemon.fetch(source);
        assert_eq!(Path::new(&done.path), daemon.downloads().join("nothing"));
        assert!(tree(Path::new(&done.path)).is_empty());
        assert_nothing_unfinished(&daemon.downloads());
    }
}

#[test]
fn a_folder_arrives_with_everything_in_it_by_its_p2p() {
    check_folder(|registered| registered.manifest);
}

#[test]
fn a_folder_arrives_with_everything_in_it_by_its_link() {
    check_folder(|registered| registered.link.unwrap());
}

#[test]
fn several_files_travel_at_once() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let files: Vec<_> = (0..8)
        .map(|n| swarm.file(&format!("file {n}.bin"), n * MIB + n, n))
        .collect();
    let manifests: Vec<_> = files
        .iter()
        .map(|file| ours.register(file).manifest)
        .collect();
    let transfers: Vec<_> = manifests
        .iter()
        .map(|manifest| theirs.download(manifest))
        .collect();
    for (transfer, file) in transfers.into_iter().zip(&files) {
        let path = transfer.done().path;
        assert_same_file(file, Path::new(&path));
    }
    assert_nothing_unfinished(&theirs.downloads());
}

#[test]
fn the_content_id_is_what_b3sum_prints() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    for bytes in [0, 1, 65_536, 3 * MIB + 17] {
        let file = swarm.file(&format!("{bytes}"), bytes, bytes);
        let registered = ours.register(&file);
        assert_eq!(registered.content_id, b3sum(&file));
        // The program itself, where it is installed.
        if let Ok(output) = Command::new("b3sum").arg(&file).output() {
            let printed = String::from_utf8(output.stdout).unwrap();
            assert!(printed.starts_with(&registered.content_id), "{printed}");
        }
    }
}

#[test]
fn people_read_the_path_on_stdout_and_the_rest_on_stderr() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 7);
    let registered = ours.try_register(&file, &[]).expect(0);
    let lines: Vec<_> = registered.stdout.lines().collect();
    assert_eq!(Path::new(lines[0]), ours.downloads().join("film.p2p"));
    assert!(lines[1].starts_with("p2p:"), "{registered:?}");
    assert_eq!(lines.len(), 2);
    swarm.client(&["inspect", lines[0]]).expect(0);

    let fetched = swarm.client(&["download", lines[1], "2"]).expect(0);
    let path = theirs.downloads().join("film.mkv");
    assert_eq!(fetched.stdout, format!("{}\n", path.display()));
    assert!(fetched.stderr.contains("verified"), "{fetched:?}");
}

fn check_folder(source: fn(warren_daemon::control::model::Registered) -> String) {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = swarm.path("all sorts.d");
    assorted_folder(&folder);
    let registered = ours.register(&folder);
    assert_eq!(registered.files, 208);
    assert!(registered.manifest.ends_with("/all sorts.d.p2p"));

    let done = theirs.fetch(source(registered));
    assert_eq!(
        Path::new(&done.path),
        theirs.downloads().join("all sorts.d")
    );
    assert_eq!(tree(Path::new(&done.path)), tree(&folder));
    assert_nothing_unfinished(&theirs.downloads());
}

/// Fails unless the download has the name and the bytes of `original` and lies where it should.
#[track_caller]
fn check_arrived(daemon: &Daemon, path: &str, original: &Path) {
    let expected = daemon.downloads().join(original.file_name().unwrap());
    assert_eq!(Path::new(path), expected);
    assert_same_file(original, &expected);
    assert_nothing_unfinished(&daemon.downloads());
}
