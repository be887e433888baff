//! Files that change or vanish under their shares: noticed before anybody asks for them, and no more of a folder
//! is withheld than has changed.

use std::{fs, path::Path};

use warren_daemon::control::model::{Share, ShareState};

use crate::{
    content::{MIB, assert_same_file, b3sum, random_file, tree},
    harness::{Daemon, DaemonOptions, Swarm},
};

/// The files of the folder that is shared, each of several chunks.
const FILES: [&str; 3] = ["one.bin", "two.bin", "three.bin"];

#[test]
fn a_file_that_vanishes_is_noticed_though_nobody_asks_for_it() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let file = swarm.file("film.mkv", MIB, 1);
    let registered = ours.register(&file);
    fs::remove_file(&file).unwrap();
    let share = until_changed(&ours, &registered.content_id);
    let note = share.note.unwrap();
    let says = [file.to_str().unwrap(), " verify ", " register "];
    assert!(says.iter().all(|part| note.contains(part)), "{note}");
    let status = ours.client(&["status"]).expect(0);
    assert!(status.stdout.contains(&note), "{status:?}");
}

#[test]
fn of_a_folder_all_but_the_changed_file_is_given_until_it_is_put_back_and_verified() {
    let swarm = Swarm::start();
    let (mut ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = folder(&swarm);
    let registered = ours.register(&folder);
    let two = folder.join("two.bin");
    let right = fs::read(&two).unwrap();
    fs::write(&two, "something else").unwrap();
    check_changed(&until_changed(&ours, &registered.content_id));

    let others = ["--only", "one.bin", "--only", "three.bin"];
    let done = theirs.download_with(&registered.manifest, &others).done();
    for file in ["one.bin", "three.bin"] {
        assert_same_file(&folder.join(file), &Path::new(&done.path).join(file));
    }

    // It is found like that after a restart too, and by who verifies it.
    ours.kill();
    ours.restart();
    check_changed(&until_changed(&ours, &registered.content_id));
    ours.client(&["verify", "things"])
        .expect_error(7, "two.bin");
    check_changed(&ours.share(&registered.content_id));

    theirs.select("things", &["--all"]).expect(0);
    fs::write(&two, right).unwrap();
    ours.client(&["verify", "things"]).expect(0);
    let share = ours.share(&registered.content_id);
    assert_eq!((share.state, share.note), (ShareState::Seeding, None));
    theirs.until_share(&registered.content_id, "all of it", |share| {
        share.state == ShareState::Seeding && share.verified_bytes == share.bytes
    });
    assert_eq!(tree(Path::new(&done.path)), tree(&folder));
}

#[test]
fn who_was_told_of_a_chunk_hears_that_it_is_lost_and_fetches_the_others() {
    let swarm = Swarm::start();
    // A chunk a second.
    let theirs = swarm.daemon_with(2, DaemonOptions::of(&["--down", "500k"]));
    theirs.until_connected();
    let ours = swarm.daemon(1);
    let folder = folder(&swarm);
    let registered = ours.register(&folder);
    let transfer = theirs.download(&registered.manifest);
    theirs.until_share(&registered.content_id, "some of it", |share| {
        share.verified_bytes > 0
    });
    fs::remove_file(folder.join("two.bin")).unwrap();
    check_changed(&until_changed(&ours, &registered.content_id));
    theirs.client(&["limit", "--down", "off"]).expect(0);
    // Less than this of two.bin may have come before.
    theirs.until_share(&registered.content_id, "the other two", |share| {
        share.state == ShareState::Waiting && share.verified_bytes >= 4 * MIB
    });

    let other = swarm.daemon(3);
    let again = swarm.path("again/things");
    make_folder(&again);
    other.register(&again);
    assert_eq!(tree(Path::new(&transfer.done().path)), tree(&again));
}

#[test]
fn of_a_download_what_was_changed_is_fetched_again_by_verifying_it() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = folder(&swarm);
    let registered = ours.register(&folder);
    let done = theirs.fetch(&registered.manifest);
    fs::remove_file(Path::new(&done.path).join("two.bin")).unwrap();
    check_changed(&until_changed(&theirs, &registered.content_id));
    let verified = theirs.client_last(&["verify", "things"]);
    assert_eq!(verified.repaired_bytes, Some(2 * MIB));
    assert_eq!(tree(Path::new(&done.path)), tree(&folder));
}

fn until_changed(daemon: &Daemon, id: &str) -> Share {
    daemon.until_share(id, "changed", |share| share.state == ShareState::Changed);
    daemon.share(id)
}

/// Fails unless the share says that of its three files two are right.
#[track_caller]
fn check_changed(share: &Share) {
    assert_eq!(share.state, ShareState::Changed);
    assert_eq!(
        (share.verified_bytes, share.bytes),
        (4 * MIB, 6 * MIB),
        "{share:?}"
    );
    let note = share.note.as_deref().unwrap();
    assert!(note.contains("1 of 3 files"), "{note}");
    assert!(note.contains("two.bin"), "{note}");
    assert!(note.contains(" verify "), "{note}");
}

fn folder(swarm: &Swarm) -> std::path::PathBuf {
    let folder = swarm.path("things");
    make_folder(&folder);
    folder
}

fn make_folder(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for (seed, file) in (1..).zip(FILES) {
        random_file(&folder.join(file), 2 * MIB, seed);
    }
}
