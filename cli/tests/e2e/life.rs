//! A share's life as a person steers it: paused, resumed, cancelled, verified, removed, named.

use std::{fs, path::Path};

use warren_daemon::control::model::{Event, ShareState};

use crate::{
    content::{
        MIB, assert_nothing_unfinished, assert_same_file, assorted_folder, b3sum, random_file, tree,
    },
    harness::{Daemon, DaemonOptions, Swarm},
};

/// What takes minutes at [`SLOW`], so that a download is still under way.
const LARGE: u64 = 6 * MIB;
const SLOW: &str = "500k";

#[test]
fn a_paused_download_stays_so_after_a_restart_and_goes_on_when_it_is_resumed() {
    let swarm = Swarm::start();
    let (ours, mut theirs) = slow(&swarm);
    let file = swarm.file("film.mkv", LARGE, 1);
    let registered = ours.register(&file);
    let mut transfer = theirs.download(&registered.manifest);
    transfer.until("some bytes", |at| at.verified_bytes > 0);
    let shown = theirs.client(&["pause", "film.mkv"]).expect(0).stdout;
    assert!(shown.contains("  paused  "), "{shown}");
    assert_eq!(transfer.failed(8).message_code, "SHR-07");
    theirs.stop();
    theirs.restart();
    theirs.until_connected();
    let id = &registered.content_id;
    let paused = theirs.until_share(id, "the pause", |it| it.state == ShareState::Paused);
    assert!(paused.verified_bytes > 0 && paused.verified_bytes < LARGE);
    // Who downloads it again means to go on with it, as who resumes it does.
    theirs.client(&["limit", "--down", "off"]).expect(0);
    ours.client(&["limit", "--up", "off"]).expect(0);
    theirs.client(&["resume", &id[..8]]).expect(0);
    let done = theirs.fetch(&registered.manifest);
    assert_same_file(&file, Path::new(&done.path));
    assert_nothing_unfinished(&theirs.downloads());
}

#[test]
fn a_paused_share_is_not_given_and_a_download_of_it_ends_the_pause() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let registered = ours.register(&file);
    ours.client(&["pause", "film.mkv"]).expect(0);
    let error = theirs
        .download_with(&registered.manifest, &["--timeout", "1"])
        .failed(5);
    assert_eq!(error.message_code, "PEER-07");
    let status = ours.client(&["list"]).expect(0).stdout;
    assert!(status.contains("paused  100 %"), "{status}");
    let said = ours.client(&["download", &registered.manifest]).expect(0);
    assert!(
        said.stderr.contains("it was paused and is given again"),
        "{said:?}"
    );
    let done = ours.fetch(&registered.manifest);
    assert!(done.already && !done.resumed);
    let done = theirs.fetch(&registered.manifest);
    assert_same_file(&file, Path::new(&done.path));
}

#[test]
fn of_what_lies_where_it_is_shared_no_data_are_deleted_and_nobody_is_asked() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let file = swarm.file("film.mkv", MIB, 1);
    let registered = ours.register(&file);
    assert!(ours.share(&registered.content_id).in_place);
    for options in [
        &["remove", "film.mkv", "--data"][..],
        &["remove", "film.mkv", "--data", "--yes"],
    ] {
        let ran = ours
            .client(options)
            .expect_error(8, "film.mkv was shared where it lies");
        assert!(ran.stderr.contains("SHR-10"), "{ran:?}");
    }
    // By whatever it was named, it is called by its name.
    let ran = ours
        .client(&["remove", &registered.content_id[..8]])
        .expect(0);
    assert_eq!(ran.stdout, "film.mkv is removed\n");
    assert!(file.exists());
}

#[test]
fn a_cancelled_download_leaves_nothing_and_what_is_complete_is_not_cancelled() {
    let swarm = Swarm::start();
    let (ours, theirs) = slow(&swarm);
    let file = swarm.file("film.mkv", LARGE, 1);
    let registered = ours.register(&file);
    let mut transfer = theirs.download(&registered.manifest);
    transfer.until("some bytes", |at| at.verified_bytes > 0);
    theirs
        .client(&["cancel", "film.mkv"])
        .expect_error(2, "nobody can be asked");
    theirs.client(&["cancel", "film.mkv", "--yes"]).expect(0);
    transfer.failed(8);
    assert!(theirs.status().shares.is_empty());
    assert_eq!(tree(&theirs.downloads()).len(), 0);
    ours.client(&["cancel", "film.mkv", "--yes"])
        .expect_error(8, "film.mkv is complete");
}

#[test]
fn data_go_with_a_share_that_was_downloaded_alone() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = swarm.path("things");
    assorted_folder(&folder);
    let before = tree(&folder);
    let registered = ours.register(&folder);
    let done = theirs.fetch(&registered.manifest);
    fs::write(Path::new(&done.path).join("mine.txt"), "mine").unwrap();
    theirs
        .client(&["remove", "things", "--data"])
        .expect_error(2, "nobody can be asked");
    theirs
        .client(&["remove", "things", "--data", "--yes"])
        .expect(0);
    // What somebody else has put there stays.
    let left: Vec<String> = tree(Path::new(&done.path)).into_keys().collect();
    assert_eq!(left, ["mine.txt"]);
    ours.client(&["remove", "things", "--data", "--yes"])
        .expect_error(8, "shared where it lies");
    assert_eq!(tree(&folder), before);
    assert_eq!(ours.status().shares.len(), 1);
}

#[test]
fn verifying_repairs_changed_cut_and_lost_files_of_a_folder_and_nothing_else() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = swarm.path("things");
    assorted_folder(&folder);
    let registered = ours.register(&folder);
    let done = theirs.fetch(&registered.manifest);
    let arrived = Path::new(&done.path);
    let verified = theirs.client_last(&["verify", "things"]);
    assert_eq!(verified.repaired_bytes, Some(0));
    let changed = arrived.join("deep/er/and deeper/large too.bin");
    overwrite(&changed, MIB, b"wrong");
    fs::remove_file(arrived.join("many/007.dat")).unwrap();
    let cut = fs::File::options()
        .write(true)
        .open(arrived.join("large.bin"));
    cut.unwrap().set_len(8 * MIB).unwrap();
    let verified = theirs.client_last(&["verify", "things"]);
    assert_eq!(tree(arrived), tree(&folder));
    let repaired = verified.repaired_bytes.unwrap();
    assert!(repaired > 0 && repaired < 4 * MIB, "{repaired}");
    assert_nothing_unfinished(&theirs.downloads());
    let share = theirs.share(&registered.content_id);
    assert_eq!(share.state, ShareState::Seeding);
}

#[test]
fn verifying_repairs_what_is_there_of_a_folder_of_which_a_part_was_picked() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = swarm.path("things");
    for name in ["a/one", "a/two", "b/three"] {
        random_file(
            &folder.join(name),
            MIB,
            name.len() as u64 + u64::from(name.as_bytes()[2]),
        );
    }
    let registered = ours.register(&folder);
    let done = theirs
        .download_with(&registered.manifest, &["--only", "a/"])
        .done();
    let arrived = Path::new(&done.path);
    overwrite(&arrived.join("a/one"), 0, b"wrong");
    fs::remove_file(arrived.join("a/two")).unwrap();
    let verified = theirs.client_last(&["verify", "things"]);
    assert!(verified.repaired_bytes.unwrap() >= MIB, "{verified:?}");
    for name in ["a/one", "a/two"] {
        assert_same_file(&folder.join(name), &arrived.join(name));
    }
    assert!(!arrived.join("b/three").exists());
    assert_nothing_unfinished(&theirs.downloads());
}

#[test]
fn verifying_repairs_a_single_file_and_a_download_that_is_under_way() {
    let swarm = Swarm::start();
    let (ours, theirs) = slow(&swarm);
    let file = swarm.file("film.mkv", LARGE, 1);
    let registered = ours.register(&file);
    let mut transfer = theirs.download(&registered.manifest);
    transfer.until("some bytes", |at| at.verified_bytes >= 128 << 10);
    theirs.client(&["pause", "film.mkv"]).expect(0);
    transfer.failed(8);
    theirs
        .client(&["verify", "film.mkv"])
        .expect_error(8, "film.mkv is paused");
    overwrite(
        &theirs.downloads().join("film.mkv.part"),
        0,
        &[0; 128 << 10],
    );
    theirs.client(&["resume", "film.mkv"]).expect(0);
    theirs.client(&["limit", "--down", "off"]).expect(0);
    ours.client(&["limit", "--up", "off"]).expect(0);
    let verified = theirs.client_last(&["verify", "film.mkv"]);
    assert_same_file(&file, Path::new(&verified.path));
    // What had not come was not wrong.
    let repaired = verified.repaired_bytes.unwrap();
    assert!(repaired <= MIB, "{repaired}");

    overwrite(Path::new(&verified.path), 3 * MIB, b"wrong");
    let verified = theirs.client_last(&["verify", "film.mkv"]);
    assert_same_file(&file, Path::new(&verified.path));
    let repaired = verified.repaired_bytes.unwrap();
    assert!(repaired > 0 && repaired <= MIB, "{repaired}");
}

#[test]
fn what_was_shared_where_it_lies_is_verified_and_never_written_to() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let file = swarm.file("film.mkv", MIB, 1);
    let registered = ours.register(&file);
    // Touched, so that it seems changed, and is not.
    let touched = fs::File::options().write(true).open(&file).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    let verified = ours.client_last(&["verify", "film.mkv"]);
    assert_eq!(verified.repaired_bytes, Some(0));
    overwrite(&file, 0, b"other");
    let hash = b3sum(&file);
    ours.client(&["verify", "film.mkv"])
        .expect_error(7, "film.mkv");
    assert_eq!(b3sum(&file), hash);
    let share = ours.share(&registered.content_id);
    assert_eq!(share.state, ShareState::Changed);
}

#[test]
fn what_is_there_already_is_said_and_only_what_was_asked_for_is_counted() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = swarm.path("things");
    assorted_folder(&folder);
    let registered = ours.register(&folder);
    assert!(!theirs.fetch(&registered.manifest).already);
    assert!(theirs.fetch(&registered.manifest).already);
    let options = ["--only", "large.bin", "--timeout", "0"];
    let done = theirs.download_with(&registered.manifest, &options).done();
    assert!(done.already);
    assert_eq!(done.bytes, 9 * MIB + 1);
    assert_eq!(done.files.map(|files| files.selected), Some(1));
    let vain = ["--only", "nothing like it"];
    let error = theirs.download_with(&registered.manifest, &vain).failed(2);
    assert_eq!(error.message_code, "USE-03");
}

#[test]
fn a_link_and_a_content_id_lead_to_the_share_and_a_link_starts_a_daemon() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let registered = ours.register(&file);
    let link = ours.client(&["link", "film.mkv"]).expect(0).stdout;
    assert_eq!(Some(link.trim()), registered.link.as_deref());
    let done = theirs.fetch(b3sum(&file));
    assert_same_file(&file, Path::new(&done.path));

    let ran = swarm.client(&["download", link.trim(), "3", "--no-start"]);
    ran.expect_error(3, "daemon 3 is not running");
    let ran = swarm.client(&["download", link.trim(), "3"]).expect(0);
    assert!(ran.stderr.contains("daemon 3 is started"), "{ran:?}");
    assert_same_file(&file, Path::new(ran.stdout.trim()));
    swarm.client(&["stop", "3"]).expect(0);
}

#[test]
fn a_folder_is_fetched_by_its_content_id_too() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = swarm.path("things");
    random_file(&folder.join("a"), MIB, 1);
    let registered = ours.register(&folder);
    let done = theirs
        .download_with(&registered.content_id, &["--folder"])
        .done();
    assert_eq!(tree(Path::new(&done.path)), tree(&folder));
}

#[test]
fn shares_are_named_by_name_and_id_and_what_is_not_clear_or_not_there_is_said() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let films = ["one", "two"].map(|folder| {
        let file = swarm.file(
            &format!("{folder}/film.mkv"),
            1000,
            folder.as_bytes()[0].into(),
        );
        ours.register(&file)
    });
    let ran = ours
        .client(&["pause", "film.mkv"])
        .expect_error(2, "2 shares");
    for film in &films {
        assert!(ran.stderr.contains(&film.content_id[..12]), "{ran:?}");
    }
    ours.client(&["pause", &films[0].content_id]).expect(0);
    let ran = ours
        .client(&["pause", "flim.mkv"])
        .expect_error(9, "flim.mkv");
    for film in &films {
        assert!(ran.stderr.contains(&film.content_id[..12]), "{ran:?}");
    }
}

#[test]
fn the_log_of_a_daemon_can_be_read_while_it_runs() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let log = ours.client(&["logs"]).expect(0).stdout;
    assert!(log.contains("tracker"), "{log}");
    let json = swarm.client(&["logs", "1", "-n", "1", "--json"]).expect(0);
    let lines: Vec<Event> = json
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(matches!(lines.as_slice(), [Event::Log(_)]), "{json:?}");
}

/// A daemon that gives, and one that fetches slowly.
fn slow(swarm: &Swarm) -> (Daemon, Daemon) {
    let theirs = swarm.daemon_with(2, DaemonOptions::of(&["--down", SLOW]));
    theirs.until_connected();
    (swarm.daemon(1), theirs)
}

/// Writes into the middle of a file.
fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}
