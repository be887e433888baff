//! Sources that are not there, go, or change under the share; people who change their mind.

use std::{
    fs::{self, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::Path,
};

use warren_daemon::control::model::{Phase, Progress, ShareState, exit};

use crate::{
    content::{MIB, assert_nothing_unfinished, assert_same_file, unfinished},
    harness::{Swarm, caught_in_the_middle, wait_for},
};

#[test]
fn a_download_nobody_has_waits_and_says_so_until_a_source_registers() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", 5 * MIB, 1);
    let registered = ours.register(&file);
    ours.client(&["remove", &registered.content_id]).expect(0);

    let mut transfer = theirs.download(&registered.manifest);
    transfer.until("waiting with a note", says_it_waits);
    let share = theirs.share(&registered.content_id);
    assert_eq!(
        (share.state, share.verified_bytes),
        (ShareState::Waiting, 0)
    );
    ours.register(&file);
    assert_same_file(&file, Path::new(&transfer.done().path));
}

#[test]
fn a_person_may_limit_the_wait_and_the_download_goes_on() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 9);
    let registered = ours.register(&file);
    ours.stop();

    let impatient = ["download", "--timeout", "1", &registered.manifest];
    theirs.client(&impatient).expect_error(5, "no peer has");
    swarm.tracker.stop();
    theirs.until("the tracker to be missed", |status| {
        status.trackers.iter().all(|tracker| !tracker.connected)
    });
    theirs.client(&impatient).expect_error(4, "tracker");
    let share = theirs.share(&registered.content_id);
    assert_eq!(share.state, ShareState::Waiting);
}

#[test]
fn a_link_nobody_answers_waits_and_says_so_until_a_source_comes_back() {
    let swarm = Swarm::start();
    let (mut ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", 5 * MIB, 2);
    let registered = ours.register(&file);
    ours.stop();

    let mut transfer = theirs.download(registered.link.unwrap());
    let waiting = transfer.until("waiting with a note", says_it_waits);
    assert_eq!(waiting.bytes, 0, "a link does not say the size");
    ours.restart();
    assert_same_file(&file, Path::new(&transfer.done().path));
}

#[test]
fn a_source_that_is_killed_in_the_middle_and_comes_back_is_used_again() {
    caught_in_the_middle(|bytes| {
        let swarm = Swarm::start();
        let (mut ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
        let file = swarm.file("film.mkv", bytes, 3);
        let registered = ours.register(&file);
        let slow = ours.throttle();
        let mut transfer = theirs.download(&registered.manifest);
        transfer.midway()?;
        ours.kill();
        drop(slow);
        ours.restart();
        assert_same_file(&file, Path::new(&transfer.done().path));
        Some(())
    });
}

#[test]
fn a_source_that_goes_for_good_leaves_the_download_waiting_for_another() {
    caught_in_the_middle(|bytes| {
        let swarm = Swarm::start();
        let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
        let file = swarm.file("film.mkv", bytes, 4);
        let registered = ours.register(&file);
        let slow = ours.throttle();
        let mut transfer = theirs.download(&registered.manifest);
        transfer.midway()?;
        drop(slow);
        ours.stop();
        let waiting = transfer.progress(says_it_waits)?;
        assert!(waiting.verified_bytes > 0);

        let other = swarm.daemon(3);
        other.register(&file);
        assert_same_file(&file, Path::new(&transfer.done().path));
        Some(())
    });
}

#[test]
fn a_file_that_grew_under_its_share_is_no_longer_given() {
    check_changed_before(|file| {
        let mut file = OpenOptions::new().append(true).open(file).unwrap();
        file.write_all(b"one line more\n").unwrap();
    });
}

#[test]
fn a_file_that_was_overwritten_under_its_share_is_no_longer_given() {
    check_changed_before(|file| overwrite(file, 3 * MIB));
}

#[test]
fn a_file_that_was_replaced_under_its_share_is_no_longer_given() {
    check_changed_before(|file| {
        let copy = file.with_extension("copy");
        fs::copy(file, &copy).unwrap();
        overwrite(&copy, 3 * MIB);
        fs::rename(&copy, file).unwrap();
    });
}

#[test]
fn a_file_that_was_removed_under_its_share_is_no_longer_given() {
    check_changed_before(|file| fs::remove_file(file).unwrap());
}

#[test]
fn a_file_that_changes_in_the_middle_of_a_transfer_puts_no_wrong_byte_in_place() {
    caught_in_the_middle(|bytes| {
        let swarm = Swarm::start();
        let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
        let file = swarm.file("film.mkv", bytes, 5);
        let original = swarm.path("original/film.mkv");
        fs::create_dir(original.parent().unwrap()).unwrap();
        fs::copy(&file, &original).unwrap();
        let registered = ours.register(&file);
        let slow = ours.throttle();
        let mut transfer = theirs.download(&registered.manifest);
        transfer.midway()?;
        // All of it, whatever of it comes next.
        for at in (0..bytes).step_by(MIB as usize) {
            overwrite(&file, at);
        }
        drop(slow);
        let waiting = transfer.progress(says_it_waits)?;
        assert!(waiting.verified_bytes < bytes);
        ours.until_share(&registered.content_id, "changed", |share| {
            share.state == ShareState::Changed
        });
        assert!(!theirs.downloads().join("film.mkv").exists());

        // What is missing comes from one that has the right bytes.
        let other = swarm.daemon(3);
        other.register(&original);
        assert_same_file(&original, Path::new(&transfer.done().path));
        Some(())
    });
}

#[test]
fn ctrl_c_leaves_the_download_to_the_daemon() {
    caught_in_the_middle(|bytes| {
        let swarm = Swarm::start();
        let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
        let file = swarm.file("film.mkv", bytes, 6);
        let registered = ours.register(&file);
        let slow = ours.throttle();
        let mut transfer = theirs.download(&registered.manifest);
        transfer.midway()?;
        transfer.interrupt();
        let error = transfer.failed(exit::INTERRUPTED);
        assert!(error.hint.contains("cancel"), "{error:?}");
        drop(slow);
        theirs.until_share(&registered.content_id, "all of it", |share| {
            share.state == ShareState::Seeding && share.verified_bytes == bytes
        });
        assert_same_file(&file, &theirs.downloads().join("film.mkv"));
        Some(())
    });
}

#[test]
fn remove_cancels_a_download_and_leaves_nothing_of_it() {
    caught_in_the_middle(|bytes| {
        let swarm = Swarm::start();
        let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
        let file = swarm.file("film.mkv", bytes, 7);
        let registered = ours.register(&file);
        let slow = ours.throttle();
        let mut transfer = theirs.download(&registered.manifest);
        transfer.midway()?;
        assert_eq!(unfinished(&theirs.downloads()).len(), 1);
        transfer.interrupt();
        transfer.failed(exit::INTERRUPTED);
        theirs
            .client(&["remove", &registered.content_id[..12]])
            .expect(0);
        assert!(theirs.status().shares.is_empty());
        wait_for("the .part to go", || {
            unfinished(&theirs.downloads()).is_empty().then_some(())
        });
        assert!(!theirs.downloads().join("film.mkv").exists());
        drop(slow);

        // Nothing is left that would stand in the way of fetching it after all.
        let done = theirs.fetch(&registered.manifest);
        assert_same_file(&file, Path::new(&done.path));
        Some(())
    });
}

#[test]
fn removing_a_download_ends_the_command_that_watches_it() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let registered = ours.register(&swarm.file("film.mkv", MIB, 8));
    ours.stop();
    let mut transfer = theirs.download(&registered.manifest);
    transfer.until("waiting", says_it_waits);
    theirs.client(&["remove", "film.mkv"]).expect(0);
    let code = transfer.code();
    assert!(code != 0 && code < 128, "{code}");
    assert_nothing_unfinished(&theirs.downloads());
}

/// Whether nobody has it, and the person is told so.
fn says_it_waits(progress: &Progress) -> bool {
    progress.phase == Some(Phase::Waiting) && progress.note.is_some()
}

/// Fails unless a share is `changed` after `change`, and nobody gets anything of it.
#[track_caller]
fn check_changed_before(change: impl Fn(&Path)) {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", 5 * MIB, 9);
    let registered = ours.register(&file);
    change(&file);
    let mut transfer = theirs.download(&registered.manifest);
    ours.until_share(&registered.content_id, "changed", |share| {
        share.state == ShareState::Changed
    });
    let waiting = transfer.until("waiting with a note", says_it_waits);
    assert_eq!(waiting.verified_bytes, 0);
    assert!(!theirs.downloads().join("film.mkv").exists());
}

/// Writes over some bytes of a file without changing its length.
fn overwrite(path: &Path, at: u64) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(b"these are not the bytes that were here")
        .unwrap();
}
