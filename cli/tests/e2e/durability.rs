//! What was confirmed stays so after a power switch, and what lies on the disk is believed only as
//! far as it verifies.

use std::{
    fs::{self, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use warren_daemon::control::model::{ShareState, exit};

use crate::{
    content::{MIB, assert_nothing_unfinished, assert_same_file, assorted_folder, tree},
    harness::{Daemon, Swarm, caught_in_the_middle},
};

#[test]
fn a_share_is_kept_once_register_has_confirmed_it() {
    let swarm = Swarm::start();
    let (mut ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let registered = ours.register(&file);
    ours.kill();
    ours.restart();
    assert_eq!(
        ours.share(&registered.content_id).state,
        ShareState::Seeding
    );
    assert_same_file(&file, Path::new(&theirs.fetch(&registered.manifest).path));
}

#[test]
fn a_download_is_kept_once_it_was_done() {
    let swarm = Swarm::start();
    let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = swarm.path("folder");
    assorted_folder(&folder);
    let registered = ours.register(&folder);
    let done = theirs.fetch(&registered.manifest);
    theirs.kill();
    ours.stop();
    theirs.restart();
    assert_eq!(tree(Path::new(&done.path)), tree(&folder));
    theirs.until_share(&registered.content_id, "a seed", |share| {
        share.state == ShareState::Seeding
    });
    let again = swarm.daemon(3).fetch(&registered.manifest);
    assert_eq!(tree(Path::new(&again.path)), tree(&folder));
}

#[test]
fn a_download_that_is_removed_stays_removed() {
    let swarm = Swarm::start();
    let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
    let registered = ours.register(&swarm.file("film.mkv", MIB, 2));
    theirs.fetch(&registered.manifest);
    theirs.client(&["remove", "film.mkv"]).expect(0);
    theirs.kill();
    theirs.restart();
    assert!(theirs.status().shares.is_empty());
    assert!(theirs.downloads().join("film.mkv").exists());
}

#[test]
fn what_was_damaged_while_the_daemon_was_down_is_fetched_again() {
    check_tampered(|part, _| {
        let mut file = OpenOptions::new().write(true).open(part).unwrap();
        let len = file.metadata().unwrap().len();
        for at in (0..len).step_by(MIB as usize / 2) {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(b"not what was verified").unwrap();
        }
    });
}

#[test]
fn what_was_cut_off_while_the_daemon_was_down_is_fetched_again() {
    check_tampered(|part, _| {
        OpenOptions::new()
            .write(true)
            .open(part)
            .unwrap()
            .set_len(70_000)
            .unwrap();
    });
}

#[test]
fn what_was_deleted_while_the_daemon_was_down_is_fetched_again() {
    check_tampered(|part, _| fs::remove_file(part).unwrap());
}

/// What a journal begins with; without it whole it is none.
const JOURNAL_HEADER_BYTES: u64 = 64;

#[test]
fn a_journal_that_was_cut_short_costs_no_more_than_what_it_said() {
    check_tampered(|_, journal| {
        let len = fs::metadata(journal).unwrap().len();
        OpenOptions::new()
            .write(true)
            .open(journal)
            .unwrap()
            .set_len(len - (len - JOURNAL_HEADER_BYTES) / 3)
            .unwrap();
    });
}

#[test]
fn a_journal_of_garbage_is_exit_7_and_what_the_hint_says_helps() {
    caught_in_the_middle(|bytes| {
        let swarm = Swarm::start();
        let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
        let file = swarm.file("film.mkv", bytes, 8);
        let registered = ours.register(&file);
        let slow = ours.throttle();
        let mut transfer = theirs.download(&registered.manifest);
        transfer.midway()?;
        theirs.kill();
        drop(slow);
        fs::write(journal(&swarm, &theirs), [0x5a; 5000]).unwrap();
        theirs.restart();
        let error = theirs.download(&registered.manifest).failed(exit::DISK);
        assert!(error.hint.contains(" remove"), "{error:?}");
        theirs.client(&["remove", "film.mkv"]).expect(0);
        let done = theirs.fetch(&registered.manifest);
        assert_same_file(&file, Path::new(&done.path));
        Some(())
    });
}

#[test]
fn a_journal_that_is_gone_ends_nothing() {
    check_tampered(|_, journal| fs::remove_file(journal).unwrap());
}

#[test]
fn a_download_whose_file_was_deleted_is_not_called_done() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 3);
    let registered = ours.register(&file);
    let done = theirs.fetch(&registered.manifest);
    fs::remove_file(&done.path).unwrap();
    let ran = swarm.client(&["download", &registered.manifest, "2"]);
    if ran.code == 0 {
        assert_same_file(&file, Path::new(&done.path));
    }
}

#[test]
fn a_download_whose_file_was_changed_is_not_called_done() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let registered = ours.register(&swarm.file("film.mkv", MIB, 4));
    let done = theirs.fetch(&registered.manifest);
    fs::write(&done.path, "edited").unwrap();
    let ran = swarm.client(&["download", &registered.manifest, "2"]);
    assert_ne!(ran.code, 0, "{ran:?}");
    assert_eq!(fs::read(&done.path).unwrap(), b"edited");
}

#[test]
fn a_changed_file_can_be_registered_anew() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 5);
    let before = ours.register(&file);
    swarm.file("film.mkv", MIB, 6);
    let after = ours.register(&file);
    assert_ne!(after.content_id, before.content_id);
    assert_ne!(after.link, before.link);
    assert_same_file(&file, Path::new(&theirs.fetch(&after.manifest).path));
}

/// Ends a daemon in the middle of a download, lets `tamper` do something to its `.part` and its
/// journal, and fails unless it still ends with the right bytes when the daemon is started again.
#[track_caller]
fn check_tampered(tamper: impl Fn(&Path, &Path)) {
    // After a kill some of it was not yet synced, after a stop all of it was.
    for end in [Daemon::kill, Daemon::stop] {
        caught_in_the_middle(|bytes| check_tampered_after(bytes, end, &tamper));
    }
}

#[track_caller]
fn check_tampered_after(bytes: u64, end: fn(&Daemon), tamper: impl Fn(&Path, &Path)) -> Option<()> {
    let swarm = Swarm::start();
    let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", bytes, 7);
    let registered = ours.register(&file);
    let slow = ours.throttle();
    let mut transfer = theirs.download(&registered.manifest);
    transfer.midway()?;
    end(&theirs);
    drop(slow);
    let part = theirs.downloads().join("film.mkv.part");
    part.exists().then_some(())?;
    tamper(&part, &journal(&swarm, &theirs));
    theirs.restart();
    let done = theirs.fetch(&registered.manifest);
    assert_same_file(&file, Path::new(&done.path));
    assert_nothing_unfinished(&theirs.downloads());
    Some(())
}

/// The journal of the only download of a daemon.
fn journal(swarm: &Swarm, daemon: &Daemon) -> PathBuf {
    let folder = swarm.path(&format!("h/daemon-{}/journal", daemon.idx));
    let mut journals = fs::read_dir(folder).unwrap();
    let journal = journals.next().unwrap().unwrap().path();
    assert!(journals.next().is_none());
    journal
}
