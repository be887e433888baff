//! Registering and downloading again, and where `.p2p` files go.

use std::{fs, path::Path};

use crate::{
    content::{MIB, assert_same_file, random_file},
    harness::{Swarm, caught_in_the_middle},
};

#[test]
fn registering_twice_gives_the_same_p2p_and_the_same_link() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let file = swarm.file("film.mkv", MIB, 1);
    let first = ours.register(&file);
    let bytes = fs::read(&first.manifest).unwrap();
    let second = ours.register(&file);
    assert_eq!(second, first);
    assert!(fs::read(&first.manifest).unwrap() == bytes);
    assert_eq!(files_in(&ours.downloads()), ["film.p2p"]);
    assert_eq!(ours.status().shares.len(), 1);
}

#[test]
fn what_changed_and_is_registered_again_takes_the_place_of_what_it_was() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let other = ours.register(&swarm.file("other", MIB, 9));
    let things = swarm.path("my things");
    fs::create_dir(&things).unwrap();
    random_file(&things.join("one.bin"), MIB, 1);
    let before = ours.register(&things);
    ours.client(&["limit", "--share", "my things", "--up", "20M"])
        .expect(0);
    ours.client(&["expire", "my things", "2d"]).expect(0);
    random_file(&things.join("one.bin"), 2 * MIB, 2);
    random_file(&things.join("two.bin"), MIB, 3);
    let refused = ours.client(&["verify", "my things"]);
    let again = format!("register '{}' 1", things.display());
    assert!(refused.stderr.contains(&again), "{refused:?}");

    let ran = swarm
        .client(&["register", things.to_str().unwrap(), "1"])
        .expect(0);
    let says = format!(
        "replaces {}, which was the same path before it changed",
        before.content_id
    );
    assert!(ran.stderr.contains(&says), "{ran:?}");
    let after = ours.register(&things);
    assert!(after.replaces.is_empty(), "it is replaced once");
    assert_eq!(after.manifest, before.manifest);
    let shares = ours.status().shares;
    let mut ids: Vec<&String> = shares.iter().map(|share| &share.content_id).collect();
    ids.sort();
    let mut expected = [&other.content_id, &after.content_id];
    expected.sort();
    assert_eq!(ids, expected);
    let share = ours.share(&after.content_id);
    assert_eq!(share.up_bits_per_s, Some(20_000_000));
    assert!(share.expires_unix_ms.is_some());
    assert_eq!(files_in(&things), ["one.bin", "two.bin"]);
    let fetched = theirs.fetch(&after.manifest);

    // The same of what was downloaded and has become something else since.
    fs::write(Path::new(&fetched.path).join("two.bin"), "edited").unwrap();
    let edited = theirs.register(Path::new(&fetched.path));
    assert_eq!(edited.replaces, [after.content_id]);
    assert_eq!(theirs.status().shares.len(), 1);
    assert_eq!(files_in(Path::new(&fetched.path)), ["one.bin", "two.bin"]);
}

#[test]
fn a_p2p_that_was_lost_is_written_again() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let file = swarm.file("film.mkv", MIB, 2);
    let first = ours.register(&file);
    fs::remove_file(&first.manifest).unwrap();
    assert_eq!(ours.register(&file), first);
    assert!(Path::new(&first.manifest).exists());
}

#[test]
fn equal_names_get_p2p_files_of_their_own() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    for (seed, (name, manifest)) in [
        ("a/film.mkv", "film.p2p"),
        ("b/film.srt", "film.srt.p2p"),
        ("c/film.mkv", "film.mkv.p2p"),
        ("d/.film", ".film.p2p"),
    ]
    .into_iter()
    .enumerate()
    {
        let registered = ours.register(&swarm.file(name, 1000, seed as u64));
        let expected = ours.downloads().join(manifest);
        assert_eq!(Path::new(&registered.manifest), expected, "{name}");
    }
}

#[test]
fn the_p2p_goes_where_it_is_asked_to() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 3);
    // Relative to the folder of the one who types it.
    ours.try_register(&file, &["-o", "my film.p2p"]).expect(0);
    assert!(files_in(&ours.downloads()).is_empty());
    let done = theirs.fetch(swarm.path("my film.p2p"));
    assert_same_file(&file, Path::new(&done.path));
}

#[test]
fn downloading_again_is_done_at_once() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 4);
    let registered = ours.register(&file);
    let first = theirs.fetch(&registered.manifest);
    // Nobody is left to fetch it from.
    ours.stop();
    for source in [&registered.manifest, registered.link.as_ref().unwrap()] {
        let again = theirs.fetch(source);
        assert_eq!(again.path, first.path);
        assert_eq!(again.content_id, first.content_id);
    }
    assert_eq!(files_in(&theirs.downloads()), ["film.mkv"]);
}

#[test]
fn downloading_what_is_shared_here_is_done_at_once() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let file = swarm.file("film.mkv", MIB, 5);
    let registered = ours.register(&file);
    let done = ours.fetch(&registered.manifest);
    assert_same_file(&file, Path::new(&done.path));
}

#[test]
fn a_second_download_attaches_to_the_first() {
    caught_in_the_middle(|bytes| {
        let swarm = Swarm::start();
        let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
        let file = swarm.file("film.mkv", bytes, 6);
        let registered = ours.register(&file);
        let slow = ours.throttle();
        let mut first = theirs.download(&registered.manifest);
        first.midway()?;
        let mut second = theirs.download(registered.link.unwrap());
        let seen = second.midway()?;
        assert_eq!(seen.bytes, bytes);
        drop(slow);
        let (first, second) = (first.done(), second.done());
        assert_eq!(first.path, second.path);
        assert_same_file(&file, Path::new(&first.path));
        assert_eq!(theirs.status().shares.len(), 1);
        Some(())
    });
}

#[test]
fn a_share_is_still_there_after_a_restart() {
    let swarm = Swarm::start();
    let (mut ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.path("film.mkv");
    random_file(&file, MIB, 7);
    let registered = ours.register(&file);
    ours.stop();
    ours.restart();
    assert_eq!(ours.share(&registered.content_id).state.word(), "seeding");
    let done = theirs.fetch(&registered.manifest);
    assert_same_file(&file, Path::new(&done.path));
}

#[test]
fn a_share_that_was_removed_is_no_longer_given() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 8);
    let registered = ours.register(&file);
    ours.client(&["remove", "film.mkv"]).expect(0);
    assert!(ours.status().shares.is_empty());
    assert!(file.exists(), "the file itself stays");
    ours.client(&["remove", "film.mkv"]).expect_error(9, "");
    let mut transfer = theirs.download(&registered.manifest);
    transfer.until("a phase of waiting", |progress| {
        progress.phase.is_some_and(|phase| {
            phase == warren_daemon::control::model::Phase::Waiting && progress.note.is_some()
        })
    });
}

/// Names in a folder, sorted; none when there is no such folder.
fn files_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
