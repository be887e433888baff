//! What people get wrong ends with its exit code and a hint, and harms nothing.

use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::Path,
    process::Command,
};

use warren_daemon::control::model::{Source, exit};
use warren_proto::content::Link;

use crate::{
    content::{MIB, Node, assert_nothing_unfinished, assert_same_file, random_file, tree},
    harness::{Daemon, DaemonOptions, Swarm, succeeds},
};

#[test]
fn a_path_that_does_not_exist_is_exit_9() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    ours.try_register(&swarm.path("missing"), &[])
        .expect_error(9, "missing");
    assert!(ours.status().shares.is_empty());
}

#[test]
fn a_file_that_may_not_be_read_is_exit_7() {
    let swarm = Swarm::start();
    let Some(ours) = unprivileged_daemon(&swarm, 1) else {
        eprintln!("SKIPPED: root may read every file, and setpriv does not make us another user");
        return;
    };
    for (name, registered) in [("secret", "secret"), ("folder/secret", "folder")] {
        let file = swarm.file(name, 10, 1);
        fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
        ours.try_register(&swarm.path(registered), &[])
            .expect_error(7, "secret");
    }
    assert!(ours.status().shares.is_empty());
}

#[test]
fn a_symlink_in_a_folder_is_refused_unless_it_may_be_skipped() {
    check_special("a link", |path| symlink("ordinary", path).unwrap());
}

#[test]
fn a_symlink_to_a_folder_outside_is_refused_unless_it_may_be_skipped() {
    check_special("a link", |path| symlink("/etc", path).unwrap());
}

#[test]
fn a_fifo_in_a_folder_is_refused_unless_it_may_be_skipped() {
    check_special("a fifo", |path| {
        assert!(succeeds(Command::new("mkfifo").arg(path)));
    });
}

#[test]
fn a_socket_in_a_folder_is_refused_unless_it_may_be_skipped() {
    check_special("a socket", |path| {
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    });
}

#[test]
fn a_name_that_is_not_utf8_is_refused_unless_it_may_be_skipped() {
    let name = OsStr::from_bytes(b"latin-\xe9");
    check_special_named(name, "latin-", |path| random_file(path, 10, 2));
}

#[test]
fn a_name_that_would_deceive_is_refused_unless_it_may_be_skipped() {
    let name = OsStr::new("invoice\u{202e}fdp.exe");
    check_special_named(name, "invoice", |path| random_file(path, 10, 2));
}

#[test]
fn a_fifo_itself_is_refused_without_waiting_for_its_writer() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let fifo = swarm.path("fifo");
    assert!(succeeds(Command::new("mkfifo").arg(&fifo)));
    ours.try_register(&fifo, &[]).expect_error(8, "fifo");
}

#[test]
fn a_target_that_exists_is_exit_8_before_anything_is_fetched() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 3);
    let registered = ours.register(&file);
    let target = theirs.downloads().join("film.mkv");
    fs::create_dir_all(theirs.downloads()).unwrap();
    fs::write(&target, "something else").unwrap();

    let error = theirs.download(&registered.manifest).failed(exit::REFUSED);
    assert!(!error.hint.is_empty());
    assert!(error.message.contains("film.mkv"), "{error:?}");
    assert_eq!(fs::read(&target).unwrap(), b"something else");
    check_nothing_sent(&ours);

    // Out of the way, the same command completes.
    fs::rename(&target, swarm.path("moved")).unwrap();
    theirs.fetch(&registered.manifest);
    assert_eq!(fs::read(&target).unwrap(), fs::read(&file).unwrap());
}

#[test]
fn a_target_folder_that_exists_is_exit_8_and_gets_nothing_added() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    random_file(&swarm.path("photos/new.jpg"), MIB, 4);
    let registered = ours.register(&swarm.path("photos"));
    let target = theirs.downloads().join("photos");
    random_file(&target.join("old.jpg"), 1000, 5);

    theirs.download(&registered.manifest).failed(exit::REFUSED);
    assert_eq!(tree(&target).into_keys().collect::<Vec<_>>(), ["old.jpg"]);
    check_nothing_sent(&ours);
    assert_nothing_unfinished(&theirs.downloads());
}

#[test]
fn a_target_that_is_a_dangling_symlink_is_not_written_through() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let registered = ours.register(&swarm.file("film.mkv", MIB, 6));
    fs::create_dir_all(theirs.downloads()).unwrap();
    symlink(swarm.path("outside"), theirs.downloads().join("film.mkv")).unwrap();
    theirs.download(&registered.manifest).failed(exit::REFUSED);
    assert!(!swarm.path("outside").exists());
}

#[test]
fn an_unfinished_file_of_somebody_else_is_not_written_over() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let registered = ours.register(&swarm.file("film.mkv", MIB, 12));
    let part = theirs.downloads().join("film.mkv.part");
    fs::create_dir_all(theirs.downloads()).unwrap();
    fs::write(&part, "of another program").unwrap();
    let error = theirs.download(&registered.manifest).failed(exit::REFUSED);
    assert!(error.message.contains("film.mkv.part"), "{error:?}");
    assert_eq!(fs::read(&part).unwrap(), b"of another program");
}

#[test]
fn two_downloads_of_one_name_do_not_mix() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let first = swarm.file("a/film.mkv", MIB, 13);
    let second = swarm.file("b/film.mkv", MIB, 14);
    let registered = [&first, &second].map(|file| ours.register(file));
    // Both wait, so that neither can be done before the other begins.
    ours.stop();
    let mut waiting = theirs.download(&registered[0].manifest);
    waiting.until("waiting", |progress| progress.note.is_some());
    theirs
        .download(&registered[1].manifest)
        .failed(exit::REFUSED);
    let share = theirs.status().shares;
    assert_eq!(share.len(), 1, "{share:?}");
    let other = swarm.daemon(3);
    other.register(&first);
    assert_same_file(&first, Path::new(&waiting.done().path));
}

#[test]
fn a_folder_for_downloads_that_is_a_file_is_exit_7() {
    let swarm = Swarm::start();
    let downloads = swarm.file("not a folder", 10, 16);
    let options = DaemonOptions {
        downloads: Some(downloads.clone()),
        ..DaemonOptions::default()
    };
    let (place, tracker) = (swarm.place(), &swarm.tracker.address);
    let ran = Daemon::run_to_end_with(place, 1, tracker, &options);
    ran.expect_error(exit::DISK.into(), "downloads cannot go to");
    assert_eq!(fs::metadata(&downloads).unwrap().len(), 10);
}

#[test]
fn a_damaged_link_is_exit_6_and_the_daemon_answers_still() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let registered = ours.register(&swarm.file("film.mkv", 10, 7));
    let link = registered.link.unwrap();
    // One change in 256 has the same check.
    let changes = ["a", "b", "c", "d"].iter().map(|other| {
        let (before, after) = (&link[..20], &link[21..]);
        format!("{before}{other}{after}")
    });
    let changed = changes.into_iter().find(|it| it.parse::<Link>().is_err());
    let changed = changed.unwrap();
    for bad in [
        "p2p:",
        "p2p:abc",
        &link[..link.len() - 1],
        &format!("{link}a"),
        &changed,
    ] {
        let ran = swarm.client(&["download", bad, "1"]);
        ran.expect_error(6, "");
        let text = bad.to_owned();
        let answer = ours.post_download(Source::Link { text });
        assert!(answer.contains(r#""exit":6"#), "{answer}");
    }
    ours.client(&["status"]).expect(0);
}

#[test]
fn a_daemon_that_does_not_run_is_exit_3() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let file = swarm.file("film.mkv", 10, 8);
    let link = ours.register(&file).link.unwrap();
    for command in [
        &["register", "film.mkv", "2"][..],
        &["download", &link, "2", "--no-start"],
        &["status", "2"],
        &["peers", "2"],
        &["stop", "2"],
        &["remove", "film.mkv", "2"],
    ] {
        swarm
            .client(command)
            .expect_error(3, "daemon 2 is not running");
    }
}

#[test]
fn the_same_number_cannot_run_twice() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let second = Daemon::run_to_end(swarm.place(), 1, &swarm.tracker.address);
    second.expect_error(8, "daemon 1 is already running");
    ours.client(&["status"]).expect(0);
    // The first one's socket was left alone.
    ours.register(&swarm.file("film.mkv", 10, 9));
}

#[test]
fn a_socket_left_by_a_daemon_that_was_killed_is_no_obstacle() {
    let swarm = Swarm::start();
    let mut ours = swarm.daemon(1);
    let registered = ours.register(&swarm.file("film.mkv", 10, 10));
    ours.kill();
    swarm
        .client(&["status", "1"])
        .expect_error(3, "daemon 1 is not running");
    ours.restart();
    assert_eq!(ours.share(&registered.content_id).state.word(), "seeding");
}

#[test]
fn a_daemon_says_on_stdout_that_it_is_ready_and_stops_without_a_word_of_trouble() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let line = ours.process().stdout.wait_line(0).unwrap();
    assert!(!line.is_empty());
    ours.stop();
    let said = ours.process().stderr.text();
    assert!(
        !said.contains("ERROR") && !said.contains("panicked"),
        "{said}"
    );
}

/// [`check_special_named`] with a name that is nothing special.
#[track_caller]
fn check_special(name: &str, make: impl Fn(&Path)) {
    check_special_named(OsStr::new(name), name, make);
}

/// Fails unless a folder with what `make` makes in it is refused, naming it as `shown`, and travels
/// without it when it may be skipped.
#[track_caller]
fn check_special_named(name: &OsStr, shown: &str, make: impl Fn(&Path)) {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = swarm.path("folder");
    random_file(&folder.join("inner/ordinary"), 1000, 11);
    make(&folder.join("inner").join(name));

    ours.try_register(&folder, &[]).expect_error(8, shown);
    assert!(ours.status().shares.is_empty());
    let skipping = ours.try_register(&folder, &["--skip-special"]).expect(0);
    let manifest = skipping.stdout.lines().next().unwrap();
    let done = theirs.fetch(manifest);
    let arrived = tree(Path::new(&done.path));
    let names: Vec<_> = arrived.keys().map(String::as_str).collect();
    assert_eq!(names, ["inner", "inner/ordinary"]);
    assert!(!arrived.values().any(|node| *node == Node::Other));
}

/// A daemon that is not root's; `None` where that is not to be had.
fn unprivileged_daemon(swarm: &Swarm, idx: u16) -> Option<Daemon> {
    if !rustix::process::geteuid().is_root() {
        return Some(swarm.daemon(idx));
    }
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let mut runs = Command::new(nobody[0]);
    runs.args(&nobody[1..]);
    runs.args([env!("CARGO_BIN_EXE_client"), "--version"]);
    if !succeeds(&mut runs) {
        return None;
    }
    // It makes its state folder itself, in a folder that is root's.
    fs::set_permissions(swarm.path(""), Permissions::from_mode(0o777)).unwrap();
    let options = DaemonOptions {
        wrapper: nobody.map(str::to_owned).to_vec(),
        ..DaemonOptions::default()
    };
    Some(swarm.daemon_with(idx, options))
}

/// Fails when a daemon has sent content to anybody.
#[track_caller]
fn check_nothing_sent(daemon: &Daemon) {
    let peers = daemon.peers();
    let sent: u64 = peers.iter().map(|peer| peer.up_bytes).sum();
    assert_eq!(sent, 0, "{peers:?}");
}
