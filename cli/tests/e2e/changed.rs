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

#[test]
fn a_download_that_was_moved_away_and_put_back_is_there_again_when_it_is_asked_for() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let registered = ours.register(&file);
    let path = theirs.fetch(&registered.manifest).path;
    let path = Path::new(&path);
    let away = swarm.path("away.mkv");
    fs::rename(path, &away).unwrap();
    until_changed(&theirs, &registered.content_id);
    fs::rename(&away, path).unwrap();
    ours.stop();
    theirs.fetch(&registered.manifest);
    assert_same_file(&file, path);
    let share = theirs.share(&registered.content_id);
    assert_eq!(share.state, ShareState::Seeding);
}

#[test]
fn a_changed_share_shows_its_size_and_what_is_right_of_it_and_is_no_download_to_cancel() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let film = ours.register(&swarm.file("film.mkv", MIB, 1));
    let done = theirs.fetch(&film.manifest);
    fs::write(&done.path, "something else").unwrap();
    let share = until_changed(&theirs, &film.content_id);
    assert_eq!((share.verified_bytes, share.bytes), (0, MIB));
    let list = theirs.client(&["list"]).expect(0).stdout;
    assert!(list.contains("changed   0 %  1.0 MiB"), "{list}");
    for yes in [
        &["cancel", "film.mkv"][..],
        &["cancel", "film.mkv", "--yes"],
    ] {
        let ran = theirs.client(yes);
        ran.expect_error(8, "film.mkv has changed since it was complete");
    }
    // What is known of it stays known when it is tried again.
    theirs.client(&["resume", "film.mkv"]).expect(0);
    let share = until_changed(&theirs, &film.content_id);
    assert_eq!((share.verified_bytes, share.bytes), (0, MIB));
}

#[test]
fn a_changed_share_that_is_paused_is_shown_as_both_also_after_a_restart() {
    let swarm = Swarm::start();
    let mut ours = swarm.daemon(1);
    let (film, folder) = (swarm.file("film.mkv", MIB, 1), folder(&swarm));
    let ids = [&film, &folder].map(|path| ours.register(path).content_id);
    fs::write(&film, "something else").unwrap();
    fs::remove_file(folder.join("two.bin")).unwrap();
    for (id, name) in ids.iter().zip(["film.mkv", "things"]) {
        until_changed(&ours, id);
        let shown = ours.client(&["pause", name]).expect(0).stdout;
        assert!(shown.contains("  paused, changed  "), "{shown}");
        assert!(
            shown.contains(" resume ") && shown.contains(" verify "),
            "{shown}"
        );
    }
    ours.kill();
    ours.restart();
    for (id, (right, bytes)) in ids.iter().zip([(0, MIB), (4 * MIB, 6 * MIB)]) {
        ours.until_share(id, "both", |share| {
            (share.state, share.also) == (ShareState::Paused, Some(ShareState::Changed))
        });
        let share = ours.share(id);
        assert_eq!((share.verified_bytes, share.bytes), (right, bytes));
    }
    let list = ours.client(&["list"]).expect(0).stdout;
    assert_eq!(list.matches("  paused, changed  ").count(), 2, "{list}");
    for (id, name) in ids.iter().zip(["film.mkv", "things"]) {
        ours.client(&["resume", name]).expect(0);
        assert_eq!(until_changed(&ours, id).also, None);
    }
}

#[test]
fn of_what_is_selected_while_a_share_is_paused_the_part_that_is_here_is_shown() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let things = ours.register(&folder(&swarm));
    theirs
        .download_with(&things.manifest, &["--only", "one.bin"])
        .done();
    theirs.client(&["pause", "things"]).expect(0);
    let shown = theirs
        .client(&["select", "things", "--all"])
        .expect(0)
        .stdout;
    assert!(shown.contains("paused  2.0 MiB of 6.0 MiB"), "{shown}");
    let list = theirs.client(&["list"]).expect(0).stdout;
    assert!(list.contains("33 %  6.0 MiB"), "{list}");
    theirs.client(&["resume", "things"]).expect(0);
    theirs.until_share(&things.content_id, "all of it", |share| {
        share.state == ShareState::Seeding && share.verified_bytes == 6 * MIB
    });
}

#[test]
fn what_was_edited_in_a_download_is_kept_and_a_repair_that_nobody_can_give_says_so_and_can_be_ended()
 {
    let swarm = Swarm::start();
    let (mut ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let film = swarm.file("film.mkv", 4 * MIB, 1);
    let registered = ours.register(&film);
    let done = theirs.fetch(&registered.manifest);
    let path = Path::new(&done.path);
    fs::write(path, [&b"mine"[..], &fs::read(path).unwrap()[4..]].concat()).unwrap();
    let edited = b3sum(path);
    let note = until_changed(&theirs, &registered.content_id).note.unwrap();
    assert!(
        note.contains("keeps what you have changed beside it"),
        "{note}"
    );
    ours.stop();

    let ran = theirs.client(&["verify", "film.mkv", "--timeout", "6"]);
    let ran = ran.expect_error(5, "no peer has what is missing");
    let kept = theirs.downloads().join("film.mkv.kept-1");
    assert_eq!(b3sum(&kept), edited);
    let client = format!("client --home {}", swarm.place().home().display());
    let remove = format!("{client} remove {} 2", &registered.content_id[..12]);
    let advice = format!(
        "What was edited here is kept in {}. What is wrong or missing is fetched once somebody who has it is \
         connected; until then its name ends in .part. Not to wait: {remove} ends the share and gives it its name back",
        kept.display()
    );
    assert_eq!(ran.stderr.matches(&advice).count(), 1, "{ran:?}");
    let nobody = "nobody who has what is missing is connected";
    assert!(ran.stderr.contains(nobody), "{ran:?}");
    let status = theirs.client(&["status"]).expect(0).stdout;
    assert!(
        status.contains("  waiting  3.9 MiB of 4.0 MiB  "),
        "{status}"
    );
    assert!(status.contains(&advice), "{status}");
    assert!(status.contains(nobody), "{status}");

    // Whoever will not wait has it as it was.
    theirs.client(&["remove", "film.mkv"]).expect(0);
    assert_eq!(b3sum(path), edited);
    let names = fs::read_dir(theirs.downloads()).unwrap();
    let mut names: Vec<_> = names.map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["film.mkv", "film.mkv.kept-1"]);

    // And whoever waits has both.
    ours.restart();
    let resume = ["--if-exists", "resume"];
    theirs.download_with(&registered.manifest, &resume).done();
    fs::write(path, "mine alone").unwrap();
    let verified = theirs.client_last(&["verify", "film.mkv"]);
    let kept = theirs.downloads().join("film.mkv.kept-2");
    assert_eq!(verified.kept.as_deref(), kept.to_str());
    assert_eq!(fs::read(&kept).unwrap(), b"mine alone");
    assert_eq!(b3sum(path), b3sum(&film));
    assert_eq!(theirs.client_last(&["verify", "film.mkv"]).kept, None);
}

#[test]
fn of_a_part_of_a_folder_what_was_edited_is_kept_when_it_is_repaired() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = folder(&swarm);
    let registered = ours.register(&folder);
    let others = ["--only", "one.bin", "--only", "two.bin"];
    let done = theirs.download_with(&registered.manifest, &others).done();
    let two = Path::new(&done.path).join("two.bin");
    fs::write(&two, "mine").unwrap();
    let verified = theirs.client_last(&["verify", "things"]);
    let kept = theirs.downloads().join("things.kept-1");
    assert_eq!(verified.kept.as_deref(), kept.to_str());
    assert_eq!(fs::read(kept.join("two.bin")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 1);
    assert_same_file(&folder.join("two.bin"), &two);
}

#[test]
fn what_is_wrong_of_a_part_is_there_when_it_is_removed_also_after_a_pause_or_a_restart() {
    let swarm = Swarm::start();
    let (mut ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
    let registered = ours.register(&folder(&swarm));
    let wanted = ["--only", "one.bin", "--only", "two.bin"];
    for is_paused in [true, false] {
        let done = theirs.download_with(&registered.manifest, &wanted).done();
        let (place, two) = (Path::new(&done.path), Path::new(&done.path).join("two.bin"));
        let mut bytes = fs::read(&two).unwrap();
        bytes[..4].copy_from_slice(b"mine");
        fs::write(&two, &bytes).unwrap();
        ours.stop();
        let ran = theirs.client(&["verify", "things", "--timeout", "6"]);
        let ran = ran.expect_error(5, "no peer has what is missing");
        let advice = "ends the share and gives its files their names back";
        assert!(ran.stderr.contains(advice), "{ran:?}");
        assert!(!two.exists(), "it is to be fetched");
        match is_paused {
            true => drop(theirs.client(&["pause", "things"]).expect(0)),
            false => {
                theirs.stop();
                theirs.restart();
                theirs.until_share(&registered.content_id, "what is right", |share| {
                    share.verified_bytes > 0 && share.state != ShareState::Hashing
                });
            }
        }
        theirs.client(&["remove", "things"]).expect(0);
        assert!(fs::read(&two).unwrap() == bytes, "it is what it was");
        assert_eq!(fs::read_dir(place).unwrap().count(), 2);
        assert!(!place.with_extension("part").exists());
        fs::remove_dir_all(place).unwrap();
        ours.restart();
    }
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
