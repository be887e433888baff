//! For how long and how often a share is given, and where its files are.

use std::{fs, path::Path};

use warren_daemon::control::model::{Registered, ShareState, exit};

use crate::{
    content::{MIB, assert_same_file, assorted_folder, random_file, tree},
    harness::{Daemon, Swarm, run},
};

#[test]
fn a_share_whose_time_is_over_is_gone_and_its_files_stay() {
    let swarm = Swarm::start();
    let (mut ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let registered = register(&ours, &file, &["--expire", "1h"]);
    let id = &registered.content_id;
    let shown = ours.client(&["list"]).expect(0).stdout;
    assert!(shown.contains("(expires in "), "{shown}");
    let expires = ours.share(id).expires_unix_ms;
    ours.stop();
    ours.restart();
    assert_eq!(ours.share(id).expires_unix_ms, expires);
    ours.client(&["expire", "film.mkv", "never"]).expect(0);
    assert_eq!(ours.share(id).expires_unix_ms, None);
    ours.client(&["expire", "film.mkv", "1s"]).expect(0);
    ours.until("the end", |status| status.shares.is_empty());
    assert!(file.exists());
    check_not_given(&theirs, &registered);
    ours.stop();
    ours.restart();
    assert!(ours.status().shares.is_empty());
    let ran = ours.client(&["expire", "film.mkv", "soon"]);
    assert!(ran.expect(2).stderr.contains("90s, 10m, 2h, 7d, or never"));
}

#[test]
fn after_as_many_downloads_as_were_to_be_a_share_is_given_no_longer() {
    let swarm = Swarm::start();
    let (mut ours, theirs, third) = (swarm.daemon(1), swarm.daemon(2), swarm.daemon(3));
    let file = swarm.file("film.mkv", MIB, 1);
    let registered = register(&ours, &file, &["--max-downloads", "1"]);
    let id = &registered.content_id;
    assert_eq!(ours.share(id).downloads, Some(0));
    theirs.fetch(&registered.manifest);
    let is_over = |state| state == ShareState::Withheld;
    let share = ours.until_share(id, "the end", |share| is_over(share.state));
    assert_eq!((share.downloads, share.max_downloads), (Some(1), Some(1)));
    theirs.stop();
    check_not_given(&third, &registered);
    ours.stop();
    ours.restart();
    ours.until_share(id, "the end", |share| is_over(share.state));
    let again = ours.register(&file);
    // It is counted anew.
    let share = ours.share(id);
    assert_eq!((share.downloads, share.max_downloads), (Some(0), Some(1)));
    let done = third.fetch(&again.manifest);
    assert_same_file(&file, Path::new(&done.path));
    let ran = ours.try_register(&file, &["--max-downloads", "0"]);
    assert!(ran.expect(2).stderr.contains("from 1 to 10000"));
}

#[test]
fn what_is_revoked_is_not_given_until_it_is_registered_again() {
    let swarm = Swarm::start();
    let (mut ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let registered = ours.register(&file);
    let ran = ours.client(&["revoke", "film.mkv"]).expect(0);
    assert!(ran.stdout.contains("  withheld  "), "{ran:?}");
    assert!(ran.stderr.contains("may still give that"), "{ran:?}");
    check_not_given(&theirs, &registered);
    let ran = ours.client(&["resume", "film.mkv"]);
    let ran = ran.expect_error(exit::REFUSED.into(), "film.mkv was revoked");
    assert!(ran.stderr.contains(" register "), "{ran:?}");
    let ran = ours.client(&["pause", "film.mkv"]);
    ran.expect_error(exit::REFUSED.into(), "film.mkv was revoked");
    let error = ours.download(&registered.manifest).failed(exit::REFUSED);
    assert_eq!(error.message_code, "SHR-18");
    ours.stop();
    ours.restart();
    ours.until_connected();
    let id = &registered.content_id;
    ours.until_share(id, "the end", |share| share.state == ShareState::Withheld);
    check_not_given(&theirs, &registered);
    ours.register(&file);
    theirs.fetch(&registered.manifest);
}

#[test]
fn what_was_revoked_and_then_changed_says_the_line_that_gives_it_again() {
    let swarm = Swarm::start();
    let (mut ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let registered = ours.register(&file);
    ours.client(&["revoke", "film.mkv"]).expect(0);
    ours.stop();
    random_file(&file, 2 * MIB, 2);
    ours.restart();
    let share = ours.until_share(&registered.content_id, "its note", |it| it.note.is_some());
    let note = share.note.unwrap();
    assert_eq!(share.state, ShareState::Withheld);
    assert!(note.contains("film.mkv was revoked, and "), "{note}");
    assert!(!note.contains(" verify "), "{note}");
    let shown = ours.client(&["status"]).expect(0).stdout;
    let (_, line) = shown.split_once("what is there now: client ").unwrap();
    let line = line.split(';').next().unwrap();
    let line = format!("{} {line}", env!("CARGO_BIN_EXE_client"));
    run(swarm.place().command("sh").args(["-c", &line])).expect(0);
    let shares = ours.status().shares;
    assert_eq!(shares.len(), 1, "{shares:?}");
    assert_eq!(shares[0].state, ShareState::Seeding);
    let done = theirs.fetch(ours.downloads().join("film.p2p"));
    assert_same_file(&file, Path::new(&done.path));
}

#[test]
fn files_that_were_moved_are_given_from_where_they_are_now_and_others_are_not() {
    let swarm = Swarm::start();
    let (mut ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let (folder, moved, copy) = (
        swarm.path("things"),
        swarm.path("moved"),
        swarm.path("copy"),
    );
    assorted_folder(&folder);
    let registered = ours.register(&folder);
    let id = &registered.content_id;
    let other = swarm.path("other");
    fs::create_dir(&other).unwrap();
    let other = other.to_str().unwrap();
    ours.client(&["relocate", "things", other])
        .expect_error(exit::VERIFICATION_FAILED.into(), "is not things");
    assert_eq!(ours.share(id).state, ShareState::Seeding);

    fs::rename(&folder, &moved).unwrap();
    let done = ours.client_last(&["relocate", "things", moved.to_str().unwrap()]);
    assert_eq!(done.renamed.as_deref(), Some("moved"));
    assert_eq!(Path::new(&done.path), moved);
    ours.stop();
    ours.restart();
    ours.until_share(id, "the files", |share| share.state == ShareState::Seeding);
    let done = theirs.fetch(&registered.manifest);
    // To others its name is what it was.
    assert_eq!(Path::new(&done.path), theirs.downloads().join("things"));
    assert_eq!(tree(Path::new(&done.path)), tree(&moved));

    // What has other inodes is read.
    assert!(succeeds_copying(&moved, &copy));
    ours.client_last(&["relocate", "moved", copy.to_str().unwrap()]);
    fs::write(moved.join("large.bin"), "other").unwrap();
    ours.client(&["relocate", "copy", moved.to_str().unwrap()])
        .expect_error(exit::VERIFICATION_FAILED.into(), "is not copy");
    assert_eq!(ours.share(id).state, ShareState::Seeding);

    // What was downloaded is repaired where it is now.
    let elsewhere = swarm.path("elsewhere");
    fs::rename(&done.path, &elsewhere).unwrap();
    theirs.client_last(&["relocate", "things", elsewhere.to_str().unwrap()]);
    fs::remove_file(elsewhere.join("large.bin")).unwrap();
    theirs.client_last(&["verify", "elsewhere"]);
    assert_eq!(tree(&elsewhere), tree(&copy));
}

fn succeeds_copying(from: &Path, to: &Path) -> bool {
    let mut copy = std::process::Command::new("cp");
    crate::harness::succeeds(copy.arg("-a").arg(from).arg(to))
}

#[track_caller]
fn register(daemon: &Daemon, path: &Path, options: &[&str]) -> Registered {
    daemon.try_register(path, options).expect(0);
    // The same once more would have no terms.
    let share = &daemon.status().shares[0];
    Registered {
        path: path.display().to_string(),
        manifest: daemon.downloads().join("film.p2p").display().to_string(),
        content_id: share.content_id.clone(),
        bytes: share.bytes,
        files: 1,
        ..Registered::default()
    }
}

/// Nobody gives it, and the download is ended again.
#[track_caller]
fn check_not_given(daemon: &Daemon, registered: &Registered) {
    let error = daemon
        .download_with(&registered.manifest, &["--timeout", "1"])
        .failed(exit::NO_SOURCE);
    assert_eq!(error.message_code, "PEER-07");
    daemon.client(&["cancel", "film.mkv", "--yes"]).expect(0);
}
