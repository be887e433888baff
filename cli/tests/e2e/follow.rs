//! Followable shares: published, followed, updated; what is fetched then and what is kept; trackers and
//! publishers that go and come back.

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
    thread,
    time::Duration,
};

use warren_daemon::control::model::{Event, Registered, Share, ShareState};

use crate::{
    content::{MIB, assert_same_file, random_file, tree},
    harness::{Daemon, Swarm, run, wait_for},
};

/// Files of a folder, and the bytes of each.
const FILES: u64 = 50;
const FILE_BYTES: u64 = 200 * 1024;

/// Bytes of a chunk of such a folder: what is fetched at least where anything has changed.
const CHUNK_BYTES: u64 = 64 * 1024;

/// From then on the time of a file shows whether it was changed: more than the daemon goes by.
const SETTLED: Duration = Duration::from_secs(3);

#[test]
fn only_what_has_changed_is_fetched_and_the_rest_is_taken_from_the_version_before() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = folder(&swarm);
    let first = publish(&ours, &folder);
    assert_eq!(first.sequence, Some(1));
    let link = first.follow_link.clone().unwrap();
    assert!(link.len() <= 120, "{link}");
    let path = follow(&theirs, &link).path;
    assert_eq!(tree(Path::new(&path)), tree(&folder));

    // One file of fifty, a new name, and 1 MiB in the middle of a large file.
    random_file(&folder.join("07"), FILE_BYTES, 107);
    fs::rename(folder.join("08"), folder.join("renamed")).unwrap();
    overwrite(&folder.join("large"), 10 * MIB, &noise(MIB, 3));
    let second = publish(&ours, &folder);
    assert_eq!(second.sequence, Some(2));
    assert_eq!(second.follow_link, Some(link));
    assert_eq!(second.publisher, first.publisher);
    assert!(
        second
            .warnings
            .iter()
            .any(|it| it.contains("the version before")),
        "{second:?}"
    );

    let share = until_version(&theirs, &second, 2);
    let fetched = share.direct_bytes + share.relayed_bytes;
    let changed = FILE_BYTES + MIB;
    // A chunk at either end of what has changed, and a pack that was cut elsewhere.
    let most = changed + 6 * CHUNK_BYTES;
    assert!(
        (changed..=most).contains(&fetched),
        "{fetched} bytes were fetched where {changed} have changed"
    );
    assert_eq!(tree(Path::new(&path)), tree(&folder));
    assert_nothing_beside(&theirs, &["folder"]);
    // The former one is no share any more, on either side.
    for daemon in [&ours, &theirs] {
        let shares = daemon.status().shares;
        assert_eq!(shares.len(), 1, "{shares:?}");
    }
}

#[test]
fn both_sides_count_each_other_and_following_ends_by_the_line_that_is_shown() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = folder(&swarm);
    let first = publish(&ours, &folder);
    let said = theirs
        .client(&["follow", &first.follow_link.unwrap()])
        .expect(0)
        .stderr;
    // Once they have joined anew, each has the other, until they part at the same time.
    wait_for("as many peers on either side", || {
        let peers = |daemon: &Daemon| daemon.share(&first.content_id).peers.total();
        (peers(&ours) == 1 && peers(&theirs) == 1).then_some(())
    });
    let (_, line) = said.trim_end().split_once("to end that: client ").unwrap();
    let line = format!("{} {line}", env!("CARGO_BIN_EXE_client"));
    run(swarm.place().command("sh").args(["-c", &line])).expect(0);
    assert_eq!(theirs.status().shares[0].followed, None);
}

#[test]
fn registering_an_update_reads_what_has_changed_and_nothing_else() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let folder = folder(&swarm);
    // What was changed a moment before it is hashed may be changed unseen, and is read again.
    thread::sleep(SETTLED);
    let first = publish(&ours, &folder);
    assert_eq!(first.read_bytes, Some(first.bytes));
    let same = publish(&ours, &folder);
    assert_eq!(
        (same.sequence, &same.content_id, same.read_bytes),
        (Some(1), &first.content_id, Some(0))
    );
    fs::write(folder.join("new"), "new").unwrap();
    let second = publish(&ours, &folder);
    assert_eq!(second.sequence, Some(2));
    let read = second.read_bytes.unwrap();
    assert!((1..FILE_BYTES).contains(&read), "{read} bytes were read");
    assert_ne!(second.content_id, first.content_id);
    // What it is called is a matter of what is in it, however it was come to know.
    let other = swarm.daemon(3);
    assert_eq!(other.register(&folder).content_id, second.content_id);
}

#[test]
fn the_newest_version_comes_from_a_follower_when_publisher_and_tracker_have_forgotten_it() {
    let mut swarm = Swarm::start();
    let (ours, first) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let link = publish(&ours, &file).follow_link.unwrap();
    let path = follow(&first, &link).path;
    random_file(&file, MIB, 2);
    let second = publish(&ours, &file);
    until_version(&first, &second, 2);
    assert_same_file(&file, Path::new(&path));

    ours.stop();
    swarm.tracker.kill();
    first.until("the loss of its tracker", |status| {
        !status.trackers[0].connected
    });
    swarm.tracker.restart();
    first.until_connected();
    let newcomer = swarm.daemon(3);
    let done = wait_for("the head to be given again", || {
        let ran = newcomer.client(&["follow", &link, "--json"]);
        let last = ran.stdout.lines().last().unwrap_or_default().to_owned();
        match serde_json::from_str(&last) {
            Ok(Event::Done(done)) => Some(done),
            _ => None,
        }
    });
    assert_eq!(done.content_id, second.content_id);
    assert_same_file(&file, Path::new(&done.path));
}

#[test]
fn a_version_that_was_signed_before_is_not_taken_for_newer_again() {
    let swarm = Swarm::start();
    let (mut ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let link = publish(&ours, &file).follow_link.unwrap();
    let path = follow(&theirs, &link).path;
    // The publisher's state as it was with version 1.
    ours.stop();
    let backup = swarm.path("backup");
    copy_folder(&ours.state(), &backup);
    ours.restart();
    ours.until_connected();
    random_file(&file, MIB, 2);
    let second = publish(&ours, &file);
    until_version(&theirs, &second, 2);
    ours.stop();
    fs::remove_dir_all(ours.state()).unwrap();
    copy_folder(&backup, &ours.state());
    ours.restart();
    ours.until_connected();
    // It hears from the tracker that there is a version 2, so what it signs next is the third.
    wait_for("the publisher to learn what it has signed", || {
        let log = ours.process().stderr.text();
        log.contains("that this daemon has not signed")
            .then_some(())
    });
    assert_eq!(theirs.share(&second.content_id).followed.unwrap().newest, 2);
    assert_eq!(fs::read(&path).unwrap(), fs::read(&file).unwrap());
    random_file(&file, MIB, 3);
    let third = publish(&ours, &file);
    assert_eq!(third.sequence, Some(3));
    until_version(&theirs, &third, 3);
    assert_same_file(&file, Path::new(&path));
}

#[test]
fn what_a_follower_has_changed_or_added_is_kept_beside() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = folder(&swarm);
    let link = publish(&ours, &folder).follow_link.unwrap();
    let path = follow(&theirs, &link).path;
    let path = Path::new(&path);
    fs::write(path.join("03"), "mine now").unwrap();
    fs::create_dir(path.join("notes")).unwrap();
    fs::write(path.join("notes/own"), "my own").unwrap();

    random_file(&folder.join("04"), FILE_BYTES, 104);
    let second = publish(&ours, &folder);
    let share = until_version(&theirs, &second, 2);
    assert_eq!(tree(path), tree(&folder));
    let kept = share.followed.unwrap().kept.unwrap();
    assert_eq!(kept, format!("{}.kept-1", path.display()));
    let kept = Path::new(&kept);
    assert_eq!(fs::read_to_string(kept.join("03")).unwrap(), "mine now");
    assert_eq!(
        fs::read_to_string(kept.join("notes/own")).unwrap(),
        "my own"
    );
    let left: Vec<_> = fs::read_dir(kept).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_nothing_beside(&theirs, &["folder", "folder.kept-1"]);
    let list = theirs.client(&["list"]).expect(0).stdout;
    assert!(
        list.contains("version 2, followed, files changed here are kept in"),
        "{list}"
    );
}

#[test]
fn following_goes_on_after_a_restart_and_ends_when_it_is_told_to() {
    let swarm = Swarm::start();
    let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let link = publish(&ours, &file).follow_link.unwrap();
    let path = follow(&theirs, &link).path;
    theirs.stop();
    random_file(&file, MIB, 2);
    let second = publish(&ours, &file);
    theirs.restart();
    until_version(&theirs, &second, 2);
    assert_same_file(&file, Path::new(&path));

    theirs.client(&["unfollow", "film.mkv"]).expect(0);
    assert_eq!(theirs.share(&second.content_id).followed, None);
    let ran = theirs.client(&["unfollow", "film.mkv"]);
    ran.expect_error(9, "film.mkv is not followed");
    random_file(&file, MIB, 3);
    let third = publish(&ours, &file);
    // Somebody else who follows has it; by then who does not would have it too.
    let other = swarm.daemon(3);
    follow(&other, &link);
    assert_eq!(
        theirs.status().share(&third.content_id).map(|it| it.state),
        None
    );
    assert_eq!(theirs.share(&second.content_id).state, ShareState::Seeding);
}

#[test]
fn who_registers_without_update_what_others_follow_is_told_the_line_that_makes_it_the_next_version()
{
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let first = publish(&ours, &file);
    follow(&theirs, &first.follow_link.unwrap());
    // As it is, it is the version that they have.
    assert_eq!(ours.register(&file).warnings, Vec::<String>::new());
    random_file(&file, MIB, 2);
    let told = ours.try_register(&file, &[]).expect(0).stderr;
    let says = "stays at version 1, and that version is no longer shared; ";
    assert!(told.contains(says), "{told}");
    // Once more, by who reads JSON; nothing of version 1 is left by then.
    let again = ours.register(&file).warnings;
    assert!(again[0].contains("stays at version 1; "), "{again:?}");
    let (_, line) = told.split_once("the next version: client ").unwrap();
    let line = line.lines().next().unwrap();
    let line = format!("{} {line} --json", env!("CARGO_BIN_EXE_client"));
    let ran = run(swarm.place().command("sh").args(["-c", &line])).expect(0);
    let Ok(Event::Registered(second)) = serde_json::from_str(ran.stdout.lines().last().unwrap())
    else {
        panic!("{ran:?}");
    };
    assert_eq!((second.sequence, &second.warnings), (Some(2), &Vec::new()));
    until_version(&theirs, &second, 2);
}

#[test]
fn who_has_removed_a_version_follows_again_with_what_lies_there() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = folder(&swarm);
    let first = publish(&ours, &folder);
    let link = first.follow_link.clone().unwrap();
    let path = follow(&theirs, &link).path;
    theirs.client(&["remove", "folder"]).expect(0);
    // The newest is there as it is: it is read, and nothing of it is fetched or moved.
    assert_eq!(follow(&theirs, &link).path, path);
    let share = theirs.share(&first.content_id);
    assert_eq!(share.followed.as_ref().map(|it| it.sequence), Some(1));
    assert_eq!(share.direct_bytes + share.relayed_bytes, 0);
    assert_nothing_beside(&theirs, &["folder"]);

    theirs.client(&["remove", &first.content_id]).expect(0);
    random_file(&folder.join("07"), FILE_BYTES, 107);
    let second = publish(&ours, &folder);
    let ran = theirs.client(&["follow", &link]);
    let ran = ran.expect_error(8, "is not the newest version");
    assert!(ran.stderr.contains("--if-exists resume"), "{ran:?}");
    assert!(theirs.status().shares.is_empty());
    let again = theirs.client_last(&["follow", &link, "--if-exists", "resume"]);
    assert_eq!(again.path, path);
    let share = until_version(&theirs, &second, 2);
    let fetched = share.direct_bytes + share.relayed_bytes;
    assert!(fetched < MIB, "{fetched} bytes were fetched");
    assert_eq!(tree(Path::new(&path)), tree(&folder));
}

#[test]
fn a_version_that_is_here_is_looked_at_for_whoever_follows_it_again() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = folder(&swarm);
    let link = publish(&ours, &folder).follow_link.unwrap();
    let path = follow(&theirs, &link).path;
    let file = Path::new(&path).join("07");
    for how in ["resume", "overwrite"] {
        fs::write(&file, "mine").unwrap();
        // At once, and when it was noticed.
        for _ in 0..2 {
            let ran = theirs.client(&["follow", &link]);
            let ran = ran.expect_error(8, "is no longer what was downloaded");
            assert!(ran.stderr.contains("resume repairs it"), "{ran:?}");
            assert_eq!(fs::read(&file).unwrap(), b"mine");
            wait_for("the change to be noticed", || {
                let mut shares = theirs.status().shares.into_iter();
                shares.find(|it| it.state == ShareState::Changed)
            });
        }
        theirs.client_last(&["follow", &link, "--if-exists", how]);
        assert_eq!(tree(Path::new(&path)), tree(&folder), "{how}");
    }
    // And the next one comes.
    random_file(&folder.join("07"), FILE_BYTES, 107);
    let second = publish(&ours, &folder);
    until_version(&theirs, &second, 2);
    assert_eq!(tree(Path::new(&path)), tree(&folder));
}

#[test]
fn a_follow_link_fetches_the_newest_version_once() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let first = publish(&ours, &file);
    let link = first.follow_link.clone().unwrap();
    let done = theirs.fetch(&link);
    assert_eq!(done.content_id, first.content_id);
    assert_same_file(&file, Path::new(&done.path));
    assert_eq!(theirs.share(&first.content_id).followed, None);
    let ran = theirs.client(&["follow", &first.link.unwrap()]);
    ran.expect_error(2, "this link names one version");
    let ran = ours.client(&["follow", &link]);
    ran.expect_error(2, "publishes that share itself");
    // What is here already is followed where it is.
    let again = follow(&theirs, &link);
    assert!(again.already);
    assert_eq!(
        theirs.share(&first.content_id).followed.unwrap().sequence,
        1
    );
}

#[test]
fn a_publisher_that_nobody_knows_is_said_to_be_so_and_its_key_is_for_its_daemon_alone() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let first = publish(&ours, &file);
    let keys: Vec<_> = fs::read_dir(ours.state().join("publishers"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(keys.len(), 1);
    let mode = fs::metadata(&keys[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = fs::read_to_string(&keys[0]).unwrap();
    let log = ours.process().stderr.text();
    assert!(!log.contains(key.trim()));
    assert!(!log.contains(first.follow_link.as_ref().unwrap()), "{log}");

    let mut link: warren_proto::follow::FollowLink = first.follow_link.unwrap().parse().unwrap();
    link.publisher.0[0] ^= 1;
    let ran = theirs.client(&["follow", &link.to_string()]);
    ran.expect_error(5, "knows no version of this share");
    assert!(theirs.status().shares.is_empty());
}

/// A folder of small files and a large one.
fn folder(swarm: &Swarm) -> std::path::PathBuf {
    let folder = swarm.path("folder");
    fs::create_dir(&folder).unwrap();
    for number in 0..FILES {
        random_file(&folder.join(format!("{number:02}")), FILE_BYTES, number);
    }
    random_file(&folder.join("large"), 24 * MIB, 99);
    folder
}

fn noise(bytes: u64, seed: u8) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    let mut noise = vec![0; bytes as usize];
    hasher.update(&[seed]).finalize_xof().fill(&mut noise);
    noise
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let kind = entry.file_type().unwrap();
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_folder(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Runs `client register PATH IDX --update`.
#[track_caller]
fn publish(daemon: &Daemon, path: &Path) -> Registered {
    let ran = daemon.try_register(path, &["--update", "--json"]).expect(0);
    let last = ran.stdout.lines().last().unwrap_or_default();
    match serde_json::from_str(last) {
        Ok(Event::Registered(registered)) => registered,
        other => panic!("{other:?} in {ran:#?}"),
    }
}

/// Runs `client follow LINK IDX` until the newest version is there.
#[track_caller]
fn follow(daemon: &Daemon, link: &str) -> warren_daemon::control::model::Done {
    daemon.client_last(&["follow", link])
}

/// Waits until this version is complete and in its place.
#[track_caller]
fn until_version(daemon: &Daemon, version: &Registered, sequence: u64) -> Share {
    let share = daemon.until_share(&version.content_id, "the next version", |share| {
        share.state == ShareState::Seeding
    });
    assert_eq!(
        share.followed.as_ref().map(|it| it.sequence),
        Some(sequence)
    );
    share
}

/// Of what is fetched nothing stays but these.
#[track_caller]
fn assert_nothing_beside(daemon: &Daemon, names: &[&str]) {
    let entries = fs::read_dir(daemon.downloads()).unwrap();
    let mut found: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, names);
}
