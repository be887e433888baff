//! Which files of a folder come, in which order, and what happens when others are wanted later.

use std::{fs, path::Path};

use warren_daemon::control::model::{FileCounts, Share, ShareState};

use crate::{
    content::{MIB, assert_nothing_unfinished, assert_same_file, random_file, tree},
    harness::{Daemon, Swarm, caught_in_the_middle, wait_for},
};

const SMALL: u64 = 20_000;

#[test]
fn only_what_is_picked_comes_and_later_only_the_rest() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let (folder, all) = many_files(&swarm);
    let registered = ours.register(&folder);

    let options = ["--only", "films/one.bin", "--only", "notes/"];
    let done = theirs.download_with(&registered.manifest, &options).done();
    let counts = of_many(11);
    assert_eq!(done.files, Some(counts));
    assert_eq!(done.bytes, 2 * MIB + 10 * SMALL);
    let arrived = Path::new(&done.path);
    check_files(arrived, &folder, |path| {
        path == "films/one.bin" || path.starts_with("notes/")
    });
    let share = theirs.share(&registered.content_id);
    assert_eq!(
        (share.state, share.files),
        (ShareState::Seeding, Some(counts))
    );
    assert_eq!(
        (share.verified_bytes, share.bytes),
        (done.bytes, done.bytes)
    );
    let status = theirs.client(&["status"]).expect(0);
    assert!(status.stdout.contains("11 of 33 files"), "{status:?}");

    theirs.select("things", &["--all"]).expect(0);
    let share = seeding(&theirs, &registered.content_id, None);
    assert_eq!(share.verified_bytes, all);
    assert_eq!(tree(arrived), tree(&folder));
    // What begins to come by relay on a busy machine may be asked for again, a window at most.
    let came = fetched(&share);
    assert!(
        (all..all + MIB).contains(&came),
        "{came} bytes came of {all}"
    );
    assert_nothing_left(&theirs);
}

#[test]
fn who_has_some_files_gives_them_and_a_third_gets_all() {
    let swarm = Swarm::start();
    let (ours, theirs, third) = (swarm.daemon(1), swarm.daemon(2), swarm.daemon(3));
    let (folder, _) = many_files(&swarm);
    let registered = ours.register(&folder);
    theirs
        .download_with(&registered.manifest, &["--only", "films"])
        .done();
    ours.kill();
    // Of two who have some, one cannot give the other what it has not.
    let done = third
        .download_with(&registered.manifest, &["--only", "films"])
        .done();
    check_files(Path::new(&done.path), &folder, |path| {
        path.starts_with("films/")
    });
    assert!(fetched(&third.share(&registered.content_id)) >= 6 * MIB);
}

#[test]
fn a_pattern_that_means_nothing_is_refused_and_nothing_is_begun() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let (folder, _) = many_files(&swarm);
    let registered = ours.register(&folder);
    let error = theirs
        .download_with(&registered.manifest, &["--only", "film/one.bin"])
        .failed(2);
    assert_eq!(error.code, "no_match");
    let inspect = format!(
        "client --home {} inspect {}",
        swarm.place().home().display(),
        registered.manifest
    );
    assert!(error.hint.ends_with(&inspect), "{error:?}");
    assert!(error.hint.contains("films/one.bin"), "{error:?}");
    assert!(theirs.status().shares.is_empty());
    let inspected = swarm
        .client(&["inspect", &registered.manifest, "--only", "notes"])
        .expect(0);
    let marked = inspected
        .stdout
        .lines()
        .filter(|line| line.starts_with('+'));
    assert_eq!(marked.count(), 10, "{inspected:?}");
    swarm
        .client(&["inspect", &registered.manifest, "--only", "nope"])
        .expect(2);

    // From a link it shows once the listing has come, and can be said better then.
    let link = registered.link.unwrap();
    let error = theirs
        .download_with(&link, &["--only", "film/one.bin"])
        .failed(2);
    assert_eq!(error.code, "no_match");
    let share = theirs.share(&registered.content_id);
    assert_eq!(share.state, ShareState::Failed);
    assert!(share.note.unwrap().contains("film/one.bin"));
    assert!(!theirs.downloads().join("things").exists());
    let refused = theirs.select(&registered.content_id, &["--only", "nope"]);
    refused.expect(2);
    theirs
        .select(&registered.content_id, &["--only", "films/one.bin"])
        .expect(0);
    let counts = of_many(1);
    seeding(&theirs, &registered.content_id, Some(counts));
    check_files(&theirs.downloads().join("things"), &folder, |path| {
        path == "films/one.bin"
    });
}

#[test]
fn a_link_keeps_what_was_picked_until_it_knows_the_files() {
    let swarm = Swarm::start();
    let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
    let (folder, _) = many_files(&swarm);
    let registered = ours.register(&folder);
    let link = registered.link.unwrap();
    ours.stop();
    let transfer = theirs.download_with(&link, &["--only", "notes"]);
    theirs.until_share(&registered.content_id, "the link", |_| true);
    theirs.kill();
    assert_eq!(transfer.code(), 3);
    theirs.restart();
    let mut ours = ours;
    ours.restart();
    let counts = of_many(10);
    seeding(&theirs, &registered.content_id, Some(counts));
    check_files(&theirs.downloads().join("things"), &folder, |path| {
        path.starts_with("notes/")
    });
}

#[test]
fn what_is_picked_survives_a_kill_in_the_middle_and_a_restart_at_rest() {
    caught_in_the_middle(|bytes| {
        let swarm = Swarm::start();
        let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
        let folder = swarm.path("things");
        random_file(&folder.join("wanted/film.bin"), bytes, 1);
        random_file(&folder.join("wanted/text"), SMALL, 2);
        random_file(&folder.join("other/film.bin"), bytes, 3);
        random_file(&folder.join("other/text"), SMALL, 4);
        let registered = ours.register(&folder);
        let mut transfer = theirs.download_with(&registered.manifest, &["--only", "wanted"]);
        let at = transfer.midway_beyond(bytes / 4)?;
        assert_eq!(at.bytes, bytes + SMALL);
        theirs.kill();
        theirs.restart();
        let counts = FileCounts { selected: 2, of: 4 };
        seeding(&theirs, &registered.content_id, Some(counts));
        let arrived = theirs.downloads().join("things");
        check_files(&arrived, &folder, |path| path.starts_with("wanted/"));

        // At rest, and after a kill: nothing of it is fetched again, the rest comes alone.
        theirs.kill();
        theirs.restart();
        let share = seeding(&theirs, &registered.content_id, Some(counts));
        assert_eq!((share.verified_bytes, fetched(&share)), (bytes + SMALL, 0));
        theirs.select("things", &["--all"]).expect(0);
        let share = seeding(&theirs, &registered.content_id, None);
        let came = fetched(&share);
        assert!(
            (bytes..bytes + bytes / 4).contains(&came),
            "{came} bytes came of {bytes}"
        );
        assert_eq!(tree(&arrived), tree(&folder));
        assert_nothing_left(&theirs);
        Some(())
    });
}

#[test]
fn a_running_download_can_be_made_smaller_and_larger() {
    caught_in_the_middle(|bytes| {
        let swarm = Swarm::start();
        let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
        let folder = swarm.path("things");
        for (n, name) in (0..).zip(["a", "b", "c"]) {
            random_file(&folder.join(name), bytes / 2, n);
        }
        let registered = ours.register(&folder);
        let mut transfer = theirs.download_with(&registered.manifest, &["--first", "b"]);
        transfer.midway_beyond(bytes / 8)?;
        if theirs.select("things", &["--only", "a"]).code != 0 {
            return None;
        }
        let done = transfer.done();
        // All of it was there before less was wanted.
        done.files?;
        check_files(Path::new(&done.path), &folder, |path| path == "a");
        theirs.select("things", &["--all", "--stream"]).expect(0);
        seeding(&theirs, &registered.content_id, None);
        assert_eq!(tree(Path::new(&done.path)), tree(&folder));
        assert_nothing_left(&theirs);
        Some(())
    });
}

#[test]
fn a_stream_arrives_from_the_beginning_on() {
    caught_in_the_middle(|bytes| {
        let swarm = Swarm::start();
        let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
        let film = swarm.file("film.mkv", bytes, 1);
        let registered = ours.register(&film);
        let mut transfer = theirs.download_with(&registered.manifest, &["--stream"]);
        let at = transfer.midway_beyond(bytes / 4)?;
        ours.freeze();
        let part = theirs.downloads().join("film.mkv.part");
        let (whole, arrived) = (fs::read(&film).unwrap(), fs::read(&part).ok()?);
        let same = whole
            .iter()
            .zip(&arrived)
            .take_while(|(a, b)| a == b)
            .count() as u64;
        // Two are served at once and some are on their way; of chunks in any order it would be the first.
        let verified = at.verified_bytes;
        assert!(
            same >= verified / 2,
            "{same} of {verified} bytes come first"
        );
        ours.unfreeze();
        let done = transfer.done();
        assert_same_file(&film, Path::new(&done.path));
        assert_nothing_unfinished(&theirs.downloads());
        Some(())
    });
}

#[test]
fn a_complete_share_that_is_removed_keeps_its_files_and_nothing_else() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let (folder, _) = many_files(&swarm);
    let registered = ours.register(&folder);
    let done = theirs
        .download_with(&registered.manifest, &["--only", "notes/1"])
        .done();
    theirs.client(&["remove", "things"]).expect(0);
    check_files(Path::new(&done.path), &folder, |path| path == "notes/1");
    assert_nothing_left(&theirs);
}

#[test]
fn a_choice_made_while_a_complete_share_is_paused_leaves_it_what_it_is() {
    let swarm = Swarm::start();
    let (mut ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
    let (folder, _) = many_files(&swarm);
    let registered = [&folder, &swarm.file("film.mkv", MIB, 7)].map(|path| ours.register(path));
    for registered in &registered {
        theirs.fetch(&registered.manifest);
    }
    // Resumed before the end or not; and whatever is chosen.
    let choices: [(&str, &[&str], bool); 5] = [
        ("things", &["--all"], false),
        ("things", &["--stream"], true),
        ("things", &["--only", "notes"], true),
        ("film.mkv", &["--all"], false),
        ("film.mkv", &["--stream"], true),
    ];
    for (name, choice, is_resumed) in choices {
        for daemon in [&mut ours, &mut theirs] {
            daemon.client(&["pause", name]).expect(0);
            daemon.select(name, choice).expect(0);
            if is_resumed {
                daemon.client(&["resume", name]).expect(0);
            }
            daemon.stop();
            daemon.restart();
            daemon.client(&["resume", name]).expect(0);
            for registered in &registered {
                let share = seeding(daemon, &registered.content_id, None);
                assert_eq!(fetched(&share), 0, "{name} {choice:?}");
            }
        }
    }
    assert_eq!(tree(&theirs.downloads().join("things")), tree(&folder));
    assert_nothing_unfinished(&theirs.downloads());
}

/// So many of them.
fn of_many(selected: u64) -> FileCounts {
    FileCounts { selected, of: 33 }
}

/// Three films and thirty small files that share chunks; and how many bytes that is.
fn many_files(swarm: &Swarm) -> (std::path::PathBuf, u64) {
    let folder = swarm.path("things");
    for (n, name) in (0..).zip(["one", "two", "three"]) {
        random_file(&folder.join(format!("films/{name}.bin")), 2 * MIB, n);
    }
    for n in 0..30 {
        let kind = ["images", "notes", "tools"][n as usize % 3];
        random_file(&folder.join(format!("{kind}/{n}")), SMALL, 10 + n);
    }
    (folder, 6 * MIB + 30 * SMALL)
}

/// Fails unless exactly these files of `folder` are in `arrived`.
#[track_caller]
fn check_files(arrived: &Path, folder: &Path, is_picked: impl Fn(&str) -> bool) {
    let files = |folder: &Path| -> Vec<String> {
        let entries = tree(folder).into_keys();
        entries.filter(|path| folder.join(path).is_file()).collect()
    };
    let expected: Vec<String> = files(folder)
        .into_iter()
        .filter(|it| is_picked(it))
        .collect();
    assert_eq!(files(arrived), expected);
    for path in expected {
        assert_same_file(&folder.join(&path), &arrived.join(&path));
    }
}

/// Bytes that came since its daemon was started. On a busy machine some come through the tracker.
fn fetched(share: &Share) -> u64 {
    share.direct_bytes + share.relayed_bytes
}

/// Waits until a share is complete with so many of its files.
#[track_caller]
fn seeding(daemon: &Daemon, content_id: &str, files: Option<FileCounts>) -> Share {
    daemon.until_share(content_id, "all that is wanted", |share| {
        share.state == ShareState::Seeding && share.files == files
    })
}

/// Fails unless the downloads folder has finished downloads alone.
#[track_caller]
fn assert_nothing_left(daemon: &Daemon) {
    wait_for("the rest to go", || {
        let entries = fs::read_dir(daemon.downloads()).unwrap();
        let mut names = entries.map(|entry| entry.unwrap().file_name());
        names.all(|name| name == "things").then_some(())
    });
}
