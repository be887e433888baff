//! What people are told to type: it names the daemon, one share, and all that a daemon was started with.

use std::{fs::File, process::Command};

use warren_daemon::control::model::{PeerPath, ShareState};

use crate::{
    content::{MIB, random_file},
    harness::{Daemon, DaemonOptions, Swarm, run},
};

#[test]
fn the_line_that_starts_a_daemon_again_has_all_that_it_was_started_with() {
    let swarm = Swarm::start();
    let options = DaemonOptions {
        downloads: Some(swarm.path("my films")),
        ..DaemonOptions::of(&["--relay-only"])
    };
    let mut daemon = swarm.daemon_with(2, options);
    daemon.stop();
    let home = swarm.place().home();
    let line = format!(
        "client --home {} daemon 2 {} --listen 127.0.0.1:0 --relay-only --downloads '{}'",
        home.display(),
        swarm.tracker.address,
        swarm.path("my films").display()
    );
    let here = format!("hint: Start it with: {line}\n");
    let ran = daemon.client(&["list"]).expect(3);
    assert!(ran.stderr.ends_with(&here), "{ran:?}");
    // Elsewhere its relative paths would mean something else.
    let folder = swarm.path("");
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    let mut client = swarm.place().client();
    let ran = run(client.args(["list", "2"]).current_dir("/")).expect(3);
    let there = format!("hint: Start it with: cd {folder} && {line}\n");
    assert!(ran.stderr.ends_with(&there), "{ran:?}");
    // It is what starts it.
    let line = line.replacen("client", env!("CARGO_BIN_EXE_client"), 1);
    let mut again = swarm.place().command("sh");
    again.args(["-c", &format!("exec {line}")]);
    let again = crate::harness::Process::spawn("daemon 2 again", &mut again);
    assert!(
        again
            .stdout
            .wait_line(0)
            .is_some_and(|said| said.contains("my films"))
    );
    daemon.client(&["stop"]).expect(0);
    assert_eq!(again.wait(), 0);
    daemon.restart();
}

#[test]
fn the_line_that_starts_a_daemon_again_undoes_no_limit_that_was_set_since() {
    let swarm = Swarm::start();
    let options = DaemonOptions::of(&["--up", "20M", "--down", "30M", "--background"]);
    let daemon = swarm.daemon_with(2, options);
    let limit = ["limit", "--up", "5M", "--background", "off"];
    daemon.client(&limit).expect(0);
    // Of one share, which says nothing of all.
    daemon.register(&swarm.file("film.mkv", MIB, 1));
    let limit = ["limit", "--share", "film.mkv", "--down", "1M"];
    daemon.client(&limit).expect(0);
    daemon.stop();
    let ran = daemon.client(&["list"]).expect(3);
    let options = "--down 30M --up 5M\n";
    assert!(ran.stderr.ends_with(options), "{ran:?}");
    assert!(!ran.stderr.contains("--background"), "{ran:?}");
}

#[test]
fn a_daemon_that_a_link_starts_again_is_as_private_as_before() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let link = ours.register(&swarm.file("film.mkv", MIB, 1)).link.unwrap();
    let hidden = swarm.daemon_with(2, DaemonOptions::of(&["--relay-only"]));
    hidden.stop();
    let ran = hidden.client(&["download", &link]).expect(0);
    assert!(
        ran.stderr.contains("daemon 2 is started in the background"),
        "{ran:?}"
    );
    let peers = hidden.peers();
    assert!(
        peers.iter().all(|peer| peer.path == PeerPath::Relay),
        "{peers:?}"
    );
    assert_eq!(peers.len(), 1);
    let findings = hidden.client(&["doctor"]).expect(0).stdout;
    assert!(findings.contains("NET-13"), "{findings}");
    hidden.client(&["stop"]).expect(0);
}

#[test]
fn what_the_doctor_and_errors_tell_to_type_does_what_it_says() {
    let swarm = Swarm::start();
    let daemon = swarm.daemon(2);
    for (folder, seed) in [("a", 1), ("b", 2)] {
        std::fs::create_dir_all(swarm.path(folder)).unwrap();
        daemon.register(&swarm.file(&format!("{folder}/film.mkv"), MIB, seed));
    }
    let ids: Vec<String> = daemon
        .status()
        .shares
        .into_iter()
        .map(|it| it.content_id)
        .collect();
    daemon.client(&["pause", &ids[0]]).expect(0);
    let said = daemon.client(&["doctor"]).expect(0).stdout;
    let home = swarm.place().home();
    let (client, id) = (format!("client --home {}", home.display()), &ids[0][..12]);
    let advice = format!("do: Go on with it: {client} resume {id} 2\n");
    assert!(said.contains(&advice), "{said}");
    swarm.client(&["resume", id, "2"]).expect(0);
    assert!(
        !daemon
            .client(&["doctor"])
            .expect(0)
            .stdout
            .contains("SHR-14")
    );
    let ran = daemon.client(&["pause", "flim.mkv"]).expect(9);
    assert!(
        ran.stderr
            .contains(&format!("See its shares with {client} list 2;")),
        "{ran:?}"
    );
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_asked_with_a_line_to_type() {
    let swarm = Swarm::start();
    let daemon = swarm.daemon(2);
    let home = swarm.place().home();
    let client = format!("client --home {}", home.display());
    let ran = daemon.client(&["list"]).expect(0);
    let said = format!("nothing is shared; share a file with: {client} register PATH 2\n");
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", &*said));
    let ran = daemon.client(&["list", "--json"]).expect(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));

    let share = daemon.register(&swarm.file("two words", MIB, 1));
    let id = &share.content_id[..12];
    let hint = format!("hint: To stop sharing it: {client} remove {id} 2; --data deletes");
    for cancelled in [&["cancel", "two words"][..], &["cancel", id, "--yes"]] {
        let ran = daemon.client(cancelled).expect_error(8, "is complete");
        assert!(ran.stderr.contains(&hint), "{ran:?}");
    }
    for wanted in [&["cancel", "nothing"][..], &["remove", "nothing", "--data"]] {
        daemon.client(wanted).expect_error(9, "no share nothing");
    }
    let ran = swarm.client(&["explain", "NOPE"]).expect(9);
    assert!(!ran.stderr.contains("Is it"), "{ran:?}");
}

#[test]
fn what_has_changed_is_shared_again_by_the_line_that_is_shown() {
    let swarm = Swarm::start();
    let daemon = swarm.daemon(2);
    let file = swarm.file("two words", MIB, 1);
    let id = daemon.register(&file).content_id;
    std::fs::write(&file, "other").unwrap();
    daemon.until_share(&id, "it is changed", |share| {
        share.state == ShareState::Changed
    });
    let client = format!("client --home {}", swarm.place().home().display());
    let verify = format!("{client} verify {} 2", &id[..12]);
    let register = format!("{client} register '{}' 2", file.display());
    let shown = daemon.client(&["status"]).expect(0).stdout;
    assert!(
        shown.contains(&verify) && shown.contains(&register),
        "{shown}"
    );
    let said = daemon.client(&["doctor"]).expect(0).stdout;
    assert!(said.contains(&register), "{said}");
    let line = register.replacen("client", env!("CARGO_BIN_EXE_client"), 1);
    run(swarm.place().command("sh").args(["-c", &line])).expect(0);
}

#[test]
fn nothing_that_is_said_of_a_changed_share_has_to_be_filled_in() {
    let swarm = Swarm::start();
    let daemon = swarm.daemon(2);
    let file = swarm.file("two words", MIB, 1);
    let id = daemon.register(&file).content_id;
    for (name, seed) in [("one", 1), ("two", 2)] {
        random_file(&swarm.path("things").join(name), 2 * MIB, seed);
    }
    let things = daemon.register(&swarm.path("things")).content_id;
    let client = format!("client --home {}", swarm.place().home().display());
    let ran = daemon.client(&["select", "things", "--only", "nope"]);
    let ran = ran.expect_error(2, "nothing in things matches nope");
    let see = format!("See all in: {client} top 2\n");
    assert!(ran.stderr.ends_with(&see), "{ran:?}");

    std::fs::write(&file, "other").unwrap();
    std::fs::remove_file(swarm.path("things").join("two")).unwrap();
    for id in [&id, &things] {
        daemon.until_share(id, "it is changed", |share| {
            share.state == ShareState::Changed
        });
    }
    let ran = daemon.client(&["select", "two words", "--all"]);
    let ran = ran.expect_error(7, "is no longer what was shared");
    let register = format!("{client} register '{}' 2\n", file.display());
    assert!(ran.stderr.ends_with(&register), "{ran:?}");
    let log = daemon.client(&["logs"]).expect(0).stdout;
    assert_eq!(log.matches("no longer what was shared").count(), 2, "{log}");
    let is_open = |word: &str| ["NAME", "PATH", "IDX"].contains(&word);
    assert!(!log.split_whitespace().any(is_open), "{log}");
}

#[test]
fn a_share_goes_to_another_folder_by_the_line_that_is_shown() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let share = ours.register(&swarm.file("two words", MIB, 1));
    theirs.fetch(&share.manifest);
    let typed = |daemon: &Daemon, to: &str, prefix: &str| {
        let ran = daemon.client(&["download", &share.manifest, "--to", to, "--yes"]);
        let ran = ran.expect_error(8, "is here already");
        let hint = ran.stderr.lines().find_map(|it| it.strip_prefix(prefix));
        let hint = hint.unwrap();
        let line = hint.split_once(". ").map_or(hint, |(line, _)| line);
        let client = format!("&& {} ", env!("CARGO_BIN_EXE_client"));
        let line = line.replacen("&& client ", &client, 1);
        run(swarm.place().command("sh").args(["-c", &line]))
    };
    // What somebody has there already is not touched, and nothing is put into it.
    let before = theirs.fetch(&share.manifest).path;
    let (taken, mine) = (swarm.path("taken"), swarm.path("taken").join("two words"));
    std::fs::create_dir_all(&mine).unwrap();
    let move_there = "hint: To move it there: ";
    let ran = typed(&theirs, taken.to_str().unwrap(), move_there);
    assert_ne!(ran.code, 0, "{ran:?}");
    assert_eq!(std::fs::read_dir(&mine).unwrap().count(), 0);
    assert_eq!(theirs.fetch(&share.manifest).path, before);

    let to = swarm.path("else where").join("new");
    let to = to.to_str().unwrap();
    typed(&theirs, to, move_there).expect(0);
    let done = theirs.fetch(&share.manifest);
    assert_eq!(done.path, format!("{to}/two words"));
    // What is shared where it lies stays there.
    let to = swarm.path("copies");
    let copy = "hint: It is shared from there, and stays. For a copy: ";
    typed(&ours, to.to_str().unwrap(), copy).expect(0);
    let lies = swarm.path("two words");
    crate::content::assert_same_file(&lies, &to.join("two words"));
}

#[test]
fn a_download_reads_links_ids_and_codes_from_standard_input() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 1);
    let printed = ours.try_register(&file, &["--code"]).expect(0).stdout;
    let lines: Vec<&str> = printed.lines().collect();
    let id = ours.status().shares[0].content_id.clone();
    for said in [lines[2], lines[1], &id] {
        let input = swarm.path("input");
        std::fs::write(&input, format!(" {said}\n")).unwrap();
        let mut client: Command = swarm.place().client();
        client
            .args(["download", "-", "2"])
            .stdin(File::open(&input).unwrap());
        let output = client.output().unwrap();
        assert!(output.status.success(), "{said}: {output:?}");
        let path = String::from_utf8(output.stdout).unwrap();
        crate::content::assert_same_file(&file, path.trim().as_ref());
        theirs
            .client(&["remove", "film.mkv", "--data", "--yes"])
            .expect(0);
    }
}

#[test]
fn a_code_is_not_said_to_be_good_for_longer_than_its_share() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let file = swarm.file("film.mkv", MIB, 1);
    let ran = ours
        .try_register(&file, &["--expire", "10m", "--code"])
        .expect(0);
    let is_shorter = ["for 10 min 0 s and while", "for 9 min 5"];
    assert!(
        is_shorter.iter().any(|it| ran.stderr.contains(it)),
        "{ran:?}"
    );
    let status = ours.client(&["status"]).expect(0).stdout;
    assert!(
        status.contains("open for 9 min ") || status.contains("open for 10 min "),
        "{status}"
    );
}
