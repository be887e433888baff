//! What is here already is downloaded again: it is looked at first, and what is gone or otherwise is fetched.

use std::{
    fs,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use warren_daemon::control::model::{FileCounts, Phase, Registered, Share, ShareState, exit};

use crate::{
    content::{MIB, assert_same_file, random_file, tree},
    harness::{Daemon, Swarm, wait_for},
};

/// Bytes of each of the four small files of [`make_folder`], which share chunks.
const SMALL: u64 = 5000;

/// What becomes of a file of a download.
type Change = fn(&Path);

const CHANGES: [(&str, Change); 3] = [
    ("removed", |path| fs::remove_file(path).unwrap()),
    ("edited", edit),
    ("cut off", |path| fs::write(path, "short").unwrap()),
];

#[test]
fn some_files_that_are_asked_for_again_are_looked_at_and_fetched_again() {
    let pair = Pair::start();
    let place = pair.fetch(&["--only", "p"]);
    for (what, change) in CHANGES {
        for file in ["p/film.bin", "p/text"] {
            for how in ["resume", "overwrite"] {
                change(&place.join(file));
                let done = pair.fetch_done(&["--only", "p", "--if-exists", how]);
                assert_eq!(done.files, of_four(2), "{file} {what}, {how}");
                pair.check(&["p/film.bin", "p/text"]);
            }
        }
        fs::remove_dir_all(&place).unwrap();
        pair.fetch(&["--only", "p"]);
        pair.check(&["p/film.bin", "p/text"]);
    }
    let share = pair.share();
    assert_eq!(
        (share.state, share.files),
        (ShareState::Seeding, of_four(2))
    );
}

#[test]
fn without_a_word_nothing_of_a_changed_part_is_replaced_nor_called_right() {
    let pair = Pair::start();
    let place = pair.fetch(&["--only", "p"]);
    let file = place.join("p/film.bin");
    edit(&file);
    let edited = fs::read(&file).unwrap();
    // At once, and when it was noticed.
    for _ in 0..2 {
        for options in [&["--only", "p"][..], &["--only", "q"], &[]] {
            let error = pair.refused(options);
            assert!(error.hint.contains("resume repairs it"), "{error:?}");
            assert!(!error.hint.contains("register"), "{error:?}");
        }
        let select = pair.theirs.select("things", &["--all"]);
        let said = select.expect(exit::DISK.into()).stdout;
        assert!(said.contains("--if-exists resume"), "{said}");
        assert!(!said.contains("register"), "{said}");
        until_changed(&pair);
    }
    assert_eq!(fs::read(&file).unwrap(), edited);
    pair.fetch(&["--if-exists", "resume"]);
    assert_eq!(tree(&place), tree(&pair.folder));
}

#[test]
fn a_changed_part_is_repaired_also_after_it_was_noticed_and_after_a_restart() {
    let mut pair = Pair::start();
    let place = pair.fetch(&["--only", "p"]);
    for is_restarted in [false, true] {
        edit(&place.join("p/film.bin"));
        fs::remove_file(place.join("p/text")).unwrap();
        pair.refused(&["--only", "p"]);
        until_changed(&pair);
        if is_restarted {
            pair.theirs.stop();
            pair.theirs.restart();
            pair.theirs.until_connected();
            until_changed(&pair);
        }
        pair.fetch(&["--only", "p", "--if-exists", "resume"]);
        pair.check(&["p/film.bin", "p/text"]);
    }
    // What was kept is fetched beside it, and the share is there from now on.
    edit(&place.join("p/film.bin"));
    let is_of_former = |name: &str| name.starts_with(".things~");
    let names = names_in(&pair.theirs.downloads());
    assert!(names.iter().any(|it| is_of_former(it)), "{names:?}");
    let edited = fs::read(place.join("p/film.bin")).unwrap();
    let other = pair.fetch(&["--only", "p", "--if-exists", "rename"]);
    assert_eq!(other, pair.theirs.downloads().join("things (2)"));
    assert_eq!(fs::read(place.join("p/film.bin")).unwrap(), edited);
    wait_for("what was aside to go", || {
        let names = names_in(&pair.theirs.downloads());
        (!names.iter().any(|it| is_of_former(it))).then_some(())
    });
    for file in ["p/film.bin", "p/text"] {
        assert_same_file(&pair.folder.join(file), &other.join(file));
    }
}

#[test]
fn of_a_share_that_was_whole_some_files_are_repaired_and_others_that_were_edited_are_not() {
    let pair = Pair::start();
    let place = pair.fetch(&[]);
    for how in ["resume", "overwrite"] {
        fs::remove_dir_all(place.join("p")).unwrap();
        let error = pair.refused(&["--only", "p"]);
        assert!(error.hint.contains("resume repairs it"), "{error:?}");
        // What lies elsewhere in it is as it was.
        let done = pair.fetch_done(&["--only", "q"]);
        assert!(done.already && done.files == of_four(2), "{done:?}");
        pair.fetch(&["--only", "p", "--if-exists", how]);
        assert_eq!(tree(&place), tree(&pair.folder), "{how}");
    }
    fs::remove_dir_all(place.join("p")).unwrap();
    edit(&place.join("q/film.bin"));
    let edited = fs::read(place.join("q/film.bin")).unwrap();
    let error = pair.refused(&["--only", "p", "--if-exists", "resume"]);
    assert!(error.message.contains("q/film.bin"), "{error:?}");
    assert!(!place.join("p").exists());
    let other = pair.fetch(&["--only", "p", "--if-exists", "rename"]);
    assert_eq!(other, pair.theirs.downloads().join("things (2)"));
    assert_eq!(fs::read(place.join("q/film.bin")).unwrap(), edited);
    assert_same_file(&pair.folder.join("p/text"), &other.join("p/text"));
    assert!(!other.join("q").exists());
}

#[test]
fn who_downloads_all_of_what_is_here_in_part_gets_the_rest() {
    let pair = Pair::start();
    let place = pair.fetch(&["--only", "p"]);
    let done = pair.fetch_done(&[]);
    assert_eq!((done.files, done.bytes), (None, 4 * MIB + 2 * SMALL));
    assert_eq!(tree(&place), tree(&pair.folder));
    let share = pair.share();
    assert_eq!((share.state, share.files), (ShareState::Seeding, None));
    assert!(pair.fetch_done(&[]).already);
    assert!(pair.fetch_done(&["--only", "p"]).already);
}

#[test]
fn what_was_chosen_before_is_repaired_too_when_something_else_is_asked_for() {
    let pair = Pair::start();
    let place = pair.fetch(&["--only", "p/text", "--only", "p/film.bin"]);
    pair.fetch(&["--only", "q/text"]);
    for how in ["resume", "overwrite"] {
        fs::remove_file(place.join("p/text")).unwrap();
        edit(&place.join("p/film.bin"));
        pair.refused(&["--only", "q/text"]);
        let done = pair.fetch_done(&["--only", "q/text", "--if-exists", how]);
        assert_eq!(done.files, of_four(3), "{how}");
        pair.check(&["p/film.bin", "p/text", "q/text"]);
    }
}

#[test]
fn what_was_only_touched_is_read_and_a_folder_that_was_moved_away_is_fetched_again() {
    let pair = Pair::start();
    let place = pair.fetch(&["--only", "p"]);
    let touch = |name: &str| {
        let file = fs::File::options().write(true).open(place.join(name));
        file.unwrap().set_modified(UNIX_EPOCH).unwrap();
    };
    touch("p/text");
    assert!(pair.fetch_done(&["--only", "p"]).already);
    touch("p/film.bin");
    pair.theirs
        .select("things", &["--only", "q/text"])
        .expect(0);
    let id = &pair.registered.content_id;
    pair.theirs.until_share(id, "one more", |share| {
        share.state == ShareState::Seeding && share.files == of_four(3)
    });
    fs::rename(&place, pair.swarm.path("elsewhere")).unwrap();
    let done = pair.fetch_done(&["--only", "p"]);
    assert!(!done.already);
    pair.check(&["p/film.bin", "p/text", "q/text"]);
}

#[test]
fn two_who_ask_at_once_for_all_of_a_part_both_get_it() {
    let pair = Pair::start();
    let place = pair.fetch(&["--only", "p"]);
    let manifest = &pair.registered.manifest;
    let transfers = [(); 3].map(|()| pair.theirs.download(manifest));
    for transfer in transfers {
        assert_eq!(transfer.done().files, None);
    }
    assert_eq!(tree(&place), tree(&pair.folder));
}

#[test]
fn a_repair_asks_peers_at_once_that_are_there() {
    let pair = Pair::start();
    let third = pair.swarm.daemon(3);
    third.fetch(&pair.registered.manifest);
    let place = pair.fetch(&["--only", "p"]);
    // A tracker that is told nothing new does not say who is there, for half a minute or more.
    let options = ["--only", "p", "--timeout", "10", "--if-exists"];
    fs::remove_file(place.join("p/film.bin")).unwrap();
    pair.fetch(&[&options[..], &["resume"]].concat());
    edit(&place.join("p/film.bin"));
    pair.fetch(&[&options[..], &["rename"]].concat());
}

#[test]
fn a_repair_that_is_killed_goes_on_after_the_start() {
    for wanted in [&["--only", "p"][..], &[]] {
        for how in ["resume", "overwrite", "rename"] {
            let mut pair = Pair::start();
            let place = pair.fetch(wanted);
            edit(&place.join("p/film.bin"));
            let edited = fs::read(place.join("p/film.bin")).unwrap();
            fs::remove_file(place.join("p/text")).unwrap();
            pair.theirs.client(&["limit", "--down", "1M"]).expect(0);
            let options = [wanted, &["--if-exists", how]].concat();
            let manifest = &pair.registered.manifest;
            let mut transfer = pair.theirs.download_with(manifest, &options);
            transfer.until("the repair", |at| at.phase == Some(Phase::Downloading));
            pair.theirs.kill();
            assert_eq!(transfer.code(), 3);
            pair.theirs.restart();
            pair.theirs.client(&["limit", "--down", "off"]).expect(0);
            let id = &pair.registered.content_id;
            pair.theirs.until_share(id, "all that is wanted", |share| {
                share.state == ShareState::Seeding && share.verified_bytes == share.bytes
            });
            let at = match how {
                "rename" => pair.theirs.downloads().join("things (2)"),
                _ => place.clone(),
            };
            match wanted {
                [] => assert_eq!(tree(&at), tree(&pair.folder), "{how}"),
                _ => pair.check_at(&at, &["p/film.bin", "p/text"]),
            }
            if how == "rename" {
                assert_eq!(fs::read(place.join("p/film.bin")).unwrap(), edited);
            }
        }
    }
}

#[test]
fn what_is_repaired_is_counted_as_what_was_wrong() {
    let pair = Pair::start();
    let place = pair.fetch(&["--only", "p/text"]);
    fs::remove_file(place.join("p/text")).unwrap();
    let done = pair.theirs.client_last(&["verify", "things"]);
    assert_eq!((done.repaired_bytes, done.bytes), (Some(SMALL), SMALL));
    pair.check(&["p/text"]);
}

#[test]
fn a_folder_in_the_place_of_a_file_is_said_to_be_in_the_way() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let registered = ours.register(&file);
    let place = theirs.downloads().join("film.mkv");
    // Before it was fetched, and once it was.
    for _ in 0..2 {
        fs::create_dir_all(&place).unwrap();
        for how in ["resume", "overwrite"] {
            let transfer = theirs.download_with(&registered.manifest, &["--if-exists", how]);
            let error = transfer.failed(exit::REFUSED);
            assert!(
                error.message.starts_with("a folder is in the way"),
                "{error:?}"
            );
            assert!(
                error.hint.contains("Move ") && error.hint.contains("rename"),
                "{error:?}"
            );
            assert!(place.is_dir(), "{how}");
        }
        fs::remove_dir(&place).unwrap();
        let done = theirs.fetch(&registered.manifest);
        assert_same_file(&file, Path::new(&done.path));
        fs::remove_file(&place).unwrap();
    }
}

/// A folder that one daemon shares and another fetches.
struct Pair {
    swarm: Swarm,
    theirs: Daemon,
    folder: PathBuf,
    registered: Registered,
    _ours: Daemon,
}

impl Pair {
    fn start() -> Pair {
        let swarm = Swarm::start();
        let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
        let folder = swarm.path("things");
        make_folder(&folder);
        Pair {
            registered: ours.register(&folder),
            theirs,
            folder,
            _ours: ours,
            swarm,
        }
    }

    /// Downloads it to the end; where it is then.
    #[track_caller]
    fn fetch(&self, options: &[&str]) -> PathBuf {
        self.fetch_done(options).path.into()
    }

    #[track_caller]
    fn fetch_done(&self, options: &[&str]) -> warren_daemon::control::model::Done {
        let transfer = self
            .theirs
            .download_with(&self.registered.manifest, options);
        transfer.done()
    }

    #[track_caller]
    fn refused(&self, options: &[&str]) -> warren_daemon::control::model::ApiError {
        let transfer = self
            .theirs
            .download_with(&self.registered.manifest, options);
        transfer.failed(exit::REFUSED)
    }

    #[track_caller]
    fn share(&self) -> Share {
        self.theirs.share(&self.registered.content_id)
    }

    /// Fails unless exactly these files are there, and are what was shared.
    #[track_caller]
    fn check(&self, files: &[&str]) {
        self.check_at(&self.theirs.downloads().join("things"), files);
    }

    #[track_caller]
    fn check_at(&self, place: &Path, files: &[&str]) {
        let there = tree(place).into_keys();
        let there: Vec<String> = there.filter(|it| place.join(it).is_file()).collect();
        assert_eq!(there, files);
        for file in files {
            assert_same_file(&self.folder.join(file), &place.join(file));
        }
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

fn until_changed(pair: &Pair) {
    let id = &pair.registered.content_id;
    pair.theirs
        .until_share(id, "changed", |share| share.state == ShareState::Changed);
}

fn of_four(selected: u64) -> Option<FileCounts> {
    Some(FileCounts { selected, of: 4 })
}

/// Other bytes in the same place, as many.
fn edit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes.iter_mut().step_by(100).for_each(|byte| *byte ^= 1);
    fs::write(path, bytes).unwrap();
}

fn make_folder(folder: &Path) {
    for (seed, name) in (1..).zip(["p", "q"]) {
        random_file(&folder.join(name).join("film.bin"), 2 * MIB, seed);
        random_file(&folder.join(name).join("text"), SMALL, 10 * seed);
    }
}
