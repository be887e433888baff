//! Files that seem to have changed and have not: they are read again, by themselves, and given only then.

use std::fs::{self, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use warren_daemon::control::model::{Share, ShareState};

use crate::content::{MIB, assert_same_file, b3sum, random_file};
use crate::harness::{Daemon, Swarm};

#[test]
fn what_was_touched_chmodded_or_copied_over_is_given_though_nobody_verifies_it() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    for (number, change) in (1..).zip([touch as fn(&Path), chmod, copy_over]) {
        let file = swarm.file(&format!("film-{number}.mkv"), 3 * MIB, number);
        let folder = swarm.path(&format!("things-{number}"));
        make_folder(&folder, 10 * number);
        let registered = [ours.register(&file), ours.register(&folder)];
        change(&file);
        change(&folder.join("two.bin"));
        let done = theirs.fetch(&registered[0].manifest);
        assert_same_file(&file, Path::new(&done.path));
        let done = theirs.fetch(&registered[1].manifest);
        assert_eq!(bytes_of(&folder), bytes_of(Path::new(&done.path)));
        for registered in &registered {
            check_well(&ours, &registered.content_id);
        }
    }
}

#[test]
fn while_it_is_touched_again_and_again_nobody_is_blamed_and_then_it_comes() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", 3 * MIB, 1);
    let registered = ours.register(&file);
    let id = registered.content_id;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                touch(&file);
                thread::sleep(Duration::from_millis(200));
            }
        });
        let transfer = theirs.download(&registered.manifest);
        let until_it_was_seen = || {
            until_hashing(&ours, &id);
            let note = ours.share(&id).note.unwrap();
            assert!(note.contains("1 file was touched"), "{note}");
            theirs.until_share(&id, "asking for it", |share| {
                share.state == ShareState::Downloading && share.verified_bytes == 0
            });
            for daemon in [&ours, &theirs] {
                let found = daemon.client(&["doctor"]).stdout;
                let blames = ["SHR-13", "SHR-15", "SHR-16"];
                assert!(!blames.iter().any(|code| found.contains(code)), "{found}");
            }
        };
        // Whatever becomes of that, the other thread is to end.
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(until_it_was_seen));
        stop.store(true, Ordering::Relaxed);
        seen.unwrap();
        assert_same_file(&file, Path::new(&transfer.done().path));
    });
    check_well(&ours, &id);
}

#[test]
fn an_edit_that_keeps_the_size_is_noticed_and_never_sent() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let (file, folder) = (swarm.file("film.mkv", 3 * MIB, 1), swarm.path("things"));
    make_folder(&folder, 1);
    let film = ours.register(&file);
    let things = ours.register(&folder);
    edit(&file);
    edit(&folder.join("two.bin"));
    let transfers = [&film, &things].map(|registered| theirs.download(&registered.manifest));
    for (registered, words) in [(&film, "film.mkv"), (&things, "1 of 3 files")] {
        let note = until_changed(&ours, &registered.content_id).note.unwrap();
        let says = [words, " verify ", " register "];
        assert!(says.iter().all(|part| note.contains(part)), "{note}");
    }
    // What has not changed comes all the same.
    theirs.until_share(&things.content_id, "the other two", |share| {
        share.verified_bytes == 4 * MIB
    });
    assert_eq!(theirs.share(&film.content_id).verified_bytes, 0);
    let log = theirs.process().stderr.text();
    assert!(!log.contains("wrong bytes"), "{log}");
    drop(transfers);
    // Whatever shows the share says it so that it can be typed.
    let paused = ours.client(&["pause", &film.content_id]).expect(0).stdout;
    assert!(
        paused.contains(" verify ") && !paused.contains("IDX"),
        "{paused}"
    );
}

#[test]
fn what_a_person_has_edited_in_a_download_is_not_fetched_over() {
    let swarm = Swarm::start();
    let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
    let registered = ours.register(&swarm.file("film.mkv", 3 * MIB, 1));
    let done = theirs.fetch(&registered.manifest);
    let path = Path::new(&done.path);
    edit(path);
    let edited = b3sum(path);
    until_changed(&theirs, &registered.content_id);
    assert_eq!(b3sum(path), edited);
    theirs.stop();
    theirs.restart();
    until_changed(&theirs, &registered.content_id);
    assert_eq!(b3sum(path), edited);
}

#[test]
fn what_was_touched_while_the_daemon_was_off_is_given_after_its_start_and_read_once() {
    let swarm = Swarm::start();
    let (mut ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let (file, folder) = (swarm.file("film.mkv", MIB, 1), swarm.path("things"));
    make_folder(&folder, 1);
    let registered = [ours.register(&file), ours.register(&folder)];
    ours.stop();
    touch(&file);
    copy_over(&folder.join("one.bin"));
    ours.restart();
    for registered in &registered {
        check_well(&ours, &registered.content_id);
    }
    assert_eq!(times_read(&ours), 2);
    let done = theirs.fetch(&registered[1].manifest);
    assert_eq!(bytes_of(&folder), bytes_of(Path::new(&done.path)));
    // It was noted what they are.
    ours.stop();
    ours.restart();
    for registered in &registered {
        check_well(&ours, &registered.content_id);
    }
    ours.stop();
    assert_eq!(times_read(&ours), 0);
}

#[test]
fn of_a_folder_of_which_some_files_were_wanted_a_touched_one_is_given_too() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = swarm.path("things");
    make_folder(&folder, 1);
    let registered = ours.register(&folder);
    let some = ["--only", "one.bin", "--only", "two.bin"];
    let done = theirs.download_with(&registered.manifest, &some).done();
    ours.stop();
    touch(&Path::new(&done.path).join("two.bin"));
    let other = swarm.daemon(3);
    let came = other.download_with(&registered.manifest, &some).done();
    for file in ["one.bin", "two.bin"] {
        assert_same_file(&folder.join(file), &Path::new(&came.path).join(file));
    }
    check_well(&theirs, &registered.content_id);

    edit(&Path::new(&done.path).join("two.bin"));
    other.stop();
    let another = swarm.daemon(4);
    let asking = another.download_with(&registered.manifest, &["--only", "two.bin"]);
    until_changed(&theirs, &registered.content_id);
    assert_eq!(another.share(&registered.content_id).verified_bytes, 0);
    drop(asking);
}

/// How often it says that it has read something again.
fn times_read(daemon: &Daemon) -> usize {
    let log = daemon.process().stderr.text();
    log.matches("touched files were read").count()
}

/// Waits until it is given, and fails unless nothing is said about it.
fn check_well(daemon: &Daemon, id: &str) {
    let share = daemon.until_share(id, "given", |share| share.state == ShareState::Seeding);
    assert_eq!((share.note, share.verified_bytes), (None, share.bytes));
}

fn until_hashing(daemon: &Daemon, id: &str) {
    daemon.until_share(id, "read again", |share| share.state == ShareState::Hashing);
}

fn until_changed(daemon: &Daemon, id: &str) -> Share {
    daemon.until_share(id, "changed", |share| share.state == ShareState::Changed)
}

fn touch(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now()).unwrap();
}

fn chmod(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// As `cp -p` of a copy and `mv` do it: another inode, of the same times.
fn copy_over(path: &Path) {
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).unwrap();
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(&copy).unwrap();
    file.set_times(FileTimes::new().set_modified(modified))
        .unwrap();
    fs::rename(copy, path).unwrap();
}

fn edit(path: &Path) {
    let size = fs::metadata(path).unwrap().len();
    random_file(path, size, 99);
}

fn bytes_of(folder: &Path) -> Vec<String> {
    FILES.map(|file| b3sum(&folder.join(file))).to_vec()
}

/// The files of the folder that is shared, each of several chunks.
const FILES: [&str; 3] = ["one.bin", "two.bin", "three.bin"];

fn make_folder(folder: &Path, seed: u64) {
    fs::create_dir_all(folder).unwrap();
    for (number, file) in (seed..).zip(FILES) {
        random_file(&folder.join(file), 2 * MIB, number);
    }
}
