//! What whoever receives decides: where a download goes, what becomes of what is there, whether it begins.

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    process::{Command, Stdio},
};

use warren_daemon::control::model::{ShareState, exit};

use crate::{
    content::{
        MIB, assert_nothing_unfinished, assert_same_file, assorted_folder, random_file, tree,
    },
    harness::{Daemon, Swarm, succeeds},
};

#[test]
fn a_download_goes_where_it_is_told_to_and_is_found_there_after_a_restart() {
    let swarm = Swarm::start();
    let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let registered = ours.register(&file);
    let (here, there) = (swarm.path("here/deep"), swarm.path("a file"));
    fs::write(&there, "x").unwrap();
    let error = theirs
        .download_with(&registered.manifest, &["--to", there.to_str().unwrap()])
        .failed(exit::DISK);
    assert_eq!(error.message_code, "DISK-11");
    let link = registered.link.unwrap();
    let done = theirs
        .download_with(&link, &["--to", here.to_str().unwrap()])
        .done();
    assert_eq!(Path::new(&done.path), here.join("film.mkv"));
    assert_same_file(&file, &here.join("film.mkv"));
    assert!(!theirs.downloads().join("film.mkv").exists());
    theirs.stop();
    theirs.restart();
    theirs.until_share(&registered.content_id, "the file", |share| {
        share.state == ShareState::Seeding
    });
}

#[test]
fn what_has_the_name_is_refused_renamed_overwritten_or_resumed() {
    let swarm = Swarm::start();
    let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", 8 * MIB, 1);
    let registered = ours.register(&file);
    let manifest = &registered.manifest;
    let taken = theirs.downloads().join("film.mkv");
    fs::create_dir_all(theirs.downloads()).unwrap();
    fs::write(&taken, "mine").unwrap();
    let error = theirs.download(manifest).failed(exit::REFUSED);
    assert_eq!(error.message_code, "DISK-07");
    assert!(error.hint.contains("--if-exists"), "{error:?}");

    let renamed = theirs
        .download_with(manifest, &["--if-exists", "rename"])
        .done();
    let path = Path::new(&renamed.path);
    assert_eq!(path, theirs.downloads().join("film (2).mkv"));
    assert_same_file(&file, path);
    assert_eq!(fs::read(&taken).unwrap(), b"mine");
    theirs.stop();
    theirs.restart();
    let share = theirs.until_share(&registered.content_id, "the file", |share| {
        share.state == ShareState::Seeding
    });
    assert_eq!(share.name, "film (2).mkv");
    let verified = theirs.client_last(&["verify", "film (2).mkv"]);
    assert_eq!(verified.repaired_bytes, Some(0));
    theirs
        .client(&["remove", "film (2).mkv", "--data", "--yes"])
        .expect(0);
    assert!(!path.exists());

    let done = theirs
        .download_with(manifest, &["--if-exists", "overwrite"])
        .done();
    assert_eq!(Path::new(&done.path), taken);
    assert_same_file(&file, &taken);
    assert_nothing_unfinished(&theirs.downloads());

    theirs.client(&["remove", "film.mkv"]).expect(0);
    overwrite(&taken, 3 * MIB, b"wrong");
    fs::File::options()
        .write(true)
        .open(&taken)
        .unwrap()
        .set_len(7 * MIB)
        .unwrap();
    let done = theirs
        .download_with(manifest, &["--if-exists", "resume"])
        .done();
    assert_eq!(Path::new(&done.path), taken);
    assert_same_file(&file, &taken);
    let share = theirs.share(&registered.content_id);
    let fetched = share.direct_bytes + share.relayed_bytes;
    assert!(
        (MIB..3 * MIB).contains(&fetched),
        "{fetched} bytes of 8 MiB came"
    );
    assert_nothing_unfinished(&theirs.downloads());
}

#[test]
fn of_a_folder_that_is_overwritten_or_resumed_what_is_not_of_the_share_stays() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = swarm.path("things");
    assorted_folder(&folder);
    let registered = ours.register(&folder);
    let there = theirs.downloads().join("things");
    let mine = there.join("deep/mine.txt");
    fs::create_dir_all(mine.parent().unwrap()).unwrap();
    fs::write(&mine, "mine").unwrap();
    random_file(&there.join("large.bin"), 100, 9);
    for how in ["overwrite", "resume"] {
        let done = theirs
            .download_with(&registered.manifest, &["--if-exists", how])
            .done();
        assert_eq!(Path::new(&done.path), there, "{how}");
        assert_eq!(fs::read(&mine).unwrap(), b"mine", "{how}");
        let mut now = tree(&there);
        now.remove("deep/mine.txt");
        assert_eq!(now, tree(&folder), "{how}");
        assert_nothing_unfinished(&theirs.downloads());
        theirs.client(&["remove", "things"]).expect(0);
        overwrite(&there.join("large.bin"), MIB, b"wrong");
    }
    let options = [
        "--if-exists",
        "resume",
        "--only",
        "large.bin",
        "--only",
        "many/",
    ];
    fs::remove_file(there.join("many/007.dat")).unwrap();
    theirs.download_with(&registered.manifest, &options).done();
    for name in ["large.bin", "many/007.dat", "many/008.dat"] {
        assert_same_file(&folder.join(name), &there.join(name));
    }
    assert_eq!(fs::read(&mine).unwrap(), b"mine");
    assert_nothing_unfinished(&theirs.downloads());
}

#[test]
fn what_a_download_began_with_is_still_there_when_that_is_cancelled() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", 4 * MIB, 1);
    let registered = ours.register(&file);
    ours.stop();
    let taken = theirs.downloads().join("film.mkv");
    random_file(&taken, 3 * MIB, 2);
    let options = ["--if-exists", "resume", "--timeout", "1"];
    let mut transfer = theirs.download_with(&registered.manifest, &options);
    transfer.until("all read", |at| at.note.is_some());
    assert!(!taken.exists());
    theirs.client(&["cancel", "film.mkv", "--yes"]).expect(0);
    assert_eq!(fs::metadata(&taken).unwrap().len(), 4 * MIB);
    assert_nothing_unfinished(&theirs.downloads());
}

#[test]
fn a_repair_that_is_removed_after_a_restart_leaves_the_file() {
    let swarm = Swarm::start();
    let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", 4 * MIB, 1);
    let registered = ours.register(&file);
    let done = theirs.fetch(&registered.manifest);
    ours.stop();
    let arrived = Path::new(&done.path);
    overwrite(arrived, MIB, b"wrong");
    theirs
        .client(&["verify", "film.mkv", "--timeout", "1"])
        .expect_error(exit::NO_SOURCE.into(), "no peer");
    assert!(!arrived.exists());
    theirs.stop();
    theirs.restart();
    theirs.until_share(&registered.content_id, "what is there", |share| {
        share.state == ShareState::Waiting && share.verified_bytes > 0
    });
    theirs.client(&["remove", "film.mkv"]).expect(0);
    assert_eq!(fs::metadata(arrived).unwrap().len(), 4 * MIB);
    assert_nothing_unfinished(&theirs.downloads());
}

/// Whether there is something to make terminals with; says so where there is not.
fn has_terminals() -> bool {
    let is_there = succeeds(Command::new("script").args(["-qec", "true", "/dev/null"]));
    if !is_there {
        eprintln!("SKIPPED: there is no script to make a terminal with");
    }
    is_there
}

#[test]
fn at_a_terminal_what_comes_is_shown_and_picked_and_what_is_in_the_way_asked_about() {
    if !has_terminals() {
        return;
    }
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = swarm.path("things");
    for name in ["a/one", "b", "c [1].txt"] {
        random_file(&folder.join(name), 1000, 1);
    }
    let registered = ours.register(&folder);
    let link = registered.link.unwrap();

    let said = at_terminal(&swarm, &theirs, &link, "n\n", exit::REFUSED);
    assert!(said.contains("things  2.9 KiB, folder, 3 files"), "{said}");
    assert!(
        said.contains("goes to") && said.contains("not signed"),
        "{said}"
    );
    assert!(said.contains("3      1000 B  c [1].txt"), "{said}");
    assert!(theirs.status().shares.is_empty());
    assert!(!theirs.downloads().join("things").exists());

    let there = theirs.downloads().join("things");
    fs::create_dir_all(there.join("mine")).unwrap();
    let said = at_terminal(&swarm, &theirs, &link, "9\n1,3\ny\ns\n", exit::OK);
    assert!(said.contains("9 is no number of the list"), "{said}");
    assert!(said.contains("2 of 3 files, 1.9 KiB"), "{said}");
    assert!(said.contains("is there already: a folder"), "{said}");
    for name in ["a/one", "c [1].txt"] {
        assert_same_file(&folder.join(name), &there.join(name));
    }
    assert!(!there.join("b").exists() && there.join("mine").exists());
    // Of a part that is here more can be picked, and nothing is fetched unasked.
    let shown = theirs.client(&["list"]).expect(0).stdout;
    assert!(shown.contains("things  (2 of 3 files)"), "{shown}");
    let said = at_terminal(&swarm, &theirs, &link, "\n", exit::OK);
    assert!(said.contains("2 of 3 files are here"), "{said}");
    assert!(!there.join("b").exists());
    let said = at_terminal(&swarm, &theirs, &link, "2\ny\n", exit::OK);
    assert!(said.contains("1 of 3 files, 1000 B"), "{said}");
    for name in ["a/one", "b", "c [1].txt"] {
        assert_same_file(&folder.join(name), &there.join(name));
    }
    // All of it is here, which is not asked about again.
    at_terminal(&swarm, &theirs, &link, "", exit::OK);
}

#[test]
fn at_a_terminal_all_that_is_left_out_of_a_part_can_be_added() {
    if !has_terminals() {
        return;
    }
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let folder = swarm.path("things");
    for name in ["a/one", "b", ".hidden"] {
        random_file(&folder.join(name), 1000, 1);
    }
    let registered = ours.register(&folder);
    let done = theirs
        .download_with(&registered.manifest, &["--only", "b"])
        .done();
    at_terminal(&swarm, &theirs, &registered.manifest, "y\n", exit::OK);
    assert_eq!(tree(Path::new(&done.path)), tree(&folder));
    // What is deleted is asked about by its path.
    let remove = format!("remove things {} --data", theirs.idx);
    let said = typed_at_terminal(&swarm, &remove, "n\n", exit::REFUSED);
    let asked = format!("remove things and delete {}, 2.9 KiB", done.path);
    assert!(said.contains(&asked), "{said}");
    typed_at_terminal(&swarm, &remove, "y\n", exit::OK);
    assert!(!Path::new(&done.path).exists());
}

#[test]
fn at_a_terminal_a_follow_link_shows_whose_version_it_is_before_anything_is_fetched() {
    if !has_terminals() {
        return;
    }
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let printed = ours.try_register(&file, &["--update"]).expect(0).stdout;
    let link = printed.lines().last().unwrap();
    let inspected = swarm.client(&["inspect", link, "--json"]).expect(0).stdout;
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let publisher = inspected["publisher"].as_str().unwrap();
    let said = at_terminal(&swarm, &theirs, link, "n\n", exit::REFUSED);
    let signed = format!("publisher  {publisher} (signed version 1)");
    assert!(said.contains(&signed), "{said}");
    assert!(theirs.status().shares.is_empty());
    at_terminal(&swarm, &theirs, link, "y\n", exit::OK);
    assert_same_file(&file, &theirs.downloads().join("film.mkv"));
    let shown = swarm.client(&["inspect", link]).expect(0).stdout;
    let signs = format!("publisher   {publisher} (signs each version)");
    assert!(shown.contains(&signs), "{shown}");
}

/// Runs a download at a terminal at which somebody types `typed`; returns what was shown.
#[track_caller]
fn at_terminal(swarm: &Swarm, daemon: &Daemon, source: &str, typed: &str, code: u8) -> String {
    let command = format!("download '{source}' {}", daemon.idx);
    typed_at_terminal(swarm, &command, typed, code)
}

/// The same of any command.
#[track_caller]
fn typed_at_terminal(swarm: &Swarm, command: &str, typed: &str, code: u8) -> String {
    let client = swarm.place().client();
    let words = [client.get_program()].into_iter().chain(client.get_args());
    let words: Vec<String> = words
        .map(|it| format!("'{}'", it.to_str().unwrap()))
        .collect();
    let line = format!("{} {command}", words.join(" "));
    let mut script = swarm.place().command("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .env("TERM", "dumb");
    for (name, value) in client.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    let script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut script = script.unwrap();
    // Kept open: its end would be typed too.
    let mut keys = script.stdin.take().unwrap();
    keys.write_all(typed.as_bytes()).unwrap();
    let mut said = String::new();
    script
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    let ended = script.wait().unwrap();
    drop(keys);
    assert_eq!(ended.code(), Some(code.into()), "{said}");
    said
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = fs::File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}
