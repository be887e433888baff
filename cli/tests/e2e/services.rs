//! Daemons as services: settings, hooks, a watched folder, the service manager, and what is
//! installed.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    content::{MIB, assert_same_file},
    harness::{
        DEADLINE, Daemon, DaemonOptions, Place, Process, Swarm, free_address, run, succeeds,
        tracker_program, wait_for,
    },
};

#[test]
fn what_is_dropped_into_the_watched_folder_arrives_and_its_command_is_run() {
    let swarm = Swarm::start();
    let (drop, told) = (swarm.path("drop"), swarm.path("told"));
    fs::create_dir(&drop).unwrap();
    let hook = |word: &str| {
        let told = told.display();
        format!("--on-{word}=sh -c 'echo \"$WARREN_EVENT $WARREN_NAME $WARREN_PATH\" >> {told}'")
    };
    let (added, complete) = (hook("added"), hook("complete"));
    let watch = format!("--watch={}", drop.display());
    let options = DaemonOptions::of(&[&watch, &added, &complete, &hook("removed")]);
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon_with(2, options));
    let film = swarm.file("film.mkv", MIB, 1);
    let song = swarm.file("song.ogg", MIB, 2);
    fs::copy(ours.register(&film).manifest, drop.join("film.p2p")).unwrap();
    fs::write(drop.join("song.link"), ours.register(&song).link.unwrap()).unwrap();
    fs::write(drop.join("bad.p2p"), "not one").unwrap();

    let said = wait_for("the commands", || {
        let said = fs::read_to_string(&told).unwrap_or_default();
        (said.lines().count() >= 4).then_some(said)
    });
    for (file, name) in [(&film, "film.mkv"), (&song, "song.ogg")] {
        let path = theirs.downloads().join(name);
        let line = format!("complete {name} {}\n", path.display());
        assert!(said.contains(&line), "{said}");
        assert_same_file(file, &path);
    }
    wait_for("all names", || {
        let is_there = |name: &str| drop.join(name).exists();
        let all = ["film.p2p.added", "song.link.added", "bad.p2p.failed"];
        all.into_iter().all(is_there).then_some(())
    });
    let reason = fs::read_to_string(drop.join("bad.p2p.failed.txt")).unwrap();
    assert!(reason.contains("Use the .p2p file"), "{reason}");

    theirs.client(&["remove", "film.mkv"]).expect(0);
    wait_for("the last command", || {
        let said = fs::read_to_string(&told).unwrap();
        said.contains("removed film.mkv ").then_some(())
    });
}

#[test]
fn a_folder_that_cannot_be_watched_is_refused_at_once() {
    let place = Place::new();
    let missing = place.path("missing");
    let options = DaemonOptions::of(&["--watch", missing.to_str().unwrap()]);
    Daemon::run_to_end_with(&place, 1, &free_address(), &options).expect_error(7, "cannot watch");
}

#[test]
fn the_service_manager_is_told_that_a_daemon_is_up_alive_and_going() {
    let swarm = Swarm::start();
    let path = swarm.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let options = DaemonOptions {
        wrapper: vec![
            "env".into(),
            format!("NOTIFY_SOCKET={}", path.display()),
            "WATCHDOG_USEC=2000000".into(),
        ],
        ..DaemonOptions::default()
    };
    let daemon = swarm.daemon_with(1, options);
    let until = |word: &str| while !hear(&manager).starts_with(word) {};
    until("READY=1");
    until("WATCHDOG=1");
    until("STATUS=tracker reached; 0 shares; 0 peers");
    daemon.register(&swarm.file("film.mkv", MIB, 3));
    until("STATUS=tracker reached; 1 share, 1 seeding; 0 peers");
    until("WATCHDOG=1");
    daemon.stop();
    until("STOPPING=1");
}

fn hear(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 1024];
    let len = manager.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..len].to_vec()).unwrap()
}

#[test]
fn a_daemon_is_run_by_a_file_alone_and_clients_find_it_by_the_same() {
    let place = Place::new();
    let file = place.path("config.toml");
    let (home, downloads) = (place.path("home"), place.path("here"));
    let text = format!(
        "tracker = '{}'\nhome = '{}'\nlisten = '127.0.0.1:0'\n\n[daemon.3]\ndownloads = '{}'\n",
        free_address(),
        home.display(),
        downloads.display(),
    );
    fs::write(&file, text).unwrap();
    let client = |words: &[&str]| {
        let mut client = place.command(env!("CARGO_BIN_EXE_client"));
        client.env("WARREN_CONFIG", &file).args(words);
        client
    };
    let daemon = Process::spawn("daemon 3", &mut client(&["daemon", "3"]));
    let said = daemon.stdout.wait_line(0).unwrap();
    let folder = format!("downloads in {}", downloads.display());
    assert!(said.contains(&folder), "{said}");
    assert!(home.join("daemon-3/control.sock").exists());
    run(&mut client(&["status", "3"])).expect(0);
    run(&mut client(&["stop", "3"])).expect(0);
    assert_eq!(daemon.wait(), 0);

    fs::write(&file, "home = 'here'\n").unwrap();
    run(&mut client(&["status", "3"])).expect_error(2, "config.toml:1: `home` cannot be");
    run(&mut client(&["inspect", "p2p:x"])).expect(6);
}

#[test]
fn shells_complete_the_names_of_shares() {
    let swarm = Swarm::start();
    let daemon = swarm.daemon(1);
    let film = daemon.register(&swarm.file("film.mkv", MIB, 4));
    let spaced = daemon.register(&swarm.file("two words", MIB, 5));
    let script = "source <(client completions bash --live)
        COMP_WORDS=(client remove \"$1\"); COMP_CWORD=2
        _clap_complete_client client \"$1\" remove
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let complete = |word: &str| {
        let programs = Path::new(env!("CARGO_BIN_EXE_client")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let mut bash = swarm.place().command("bash");
        bash.args(["-c", script, "bash", word]);
        bash.env("PATH", path)
            .env("WARREN_HOME", swarm.place().home());
        let said = run(&mut bash).expect(0).stdout;
        said.trim_end().to_owned()
    };
    assert_eq!(complete("fi"), "film.mkv");
    assert_eq!(complete(&film.content_id[..6]), film.content_id);
    // What would need quotes is named by its id.
    assert_eq!(complete(&spaced.content_id[..2]), &spaced.content_id[..12]);
    daemon.stop();
    assert_eq!(complete("fi"), "");
}

#[test]
fn a_package_holds_both_programs_and_what_belongs_to_them() {
    if !succeeds(Command::new("dpkg-deb").arg("--version")) {
        return eprintln!("skipped: there is no dpkg-deb");
    }
    let place = Place::new();
    let output = place.path("package");
    let mut package = place.command(script("package"));
    // The compiler has left so much in these that packing it would take a minute.
    package.env("DPKG_DEB_COMPRESSOR_TYPE", "none");
    package
        .arg("--binaries")
        .arg(tracker_program().parent().unwrap());
    let made = run(package.arg("--output").arg(&output)).expect(0);
    let deb = PathBuf::from(made.stdout.lines().last().unwrap());
    let listed = run(place.command("dpkg-deb").arg("--contents").arg(&deb)).expect(0);
    for name in [
        "./usr/bin/client",
        "./usr/bin/tracker",
        "./usr/lib/systemd/system/warren-tracker.service",
        "./usr/lib/systemd/system/warren-tracker.socket",
        "./usr/lib/systemd/user/warren-daemon@.service",
        "./usr/share/man/man1/client.1.gz",
        "./usr/share/man/man1/client-download.1.gz",
        "./usr/share/man/man1/tracker.1.gz",
        "./usr/share/bash-completion/completions/client",
        "./usr/share/zsh/vendor-completions/_client",
        "./usr/share/fish/vendor_completions.d/client.fish",
        "./etc/warren/tracker.toml",
    ] {
        let is_it = |line: &&str| line.ends_with(&format!(" {name}"));
        let line = listed.stdout.lines().find(is_it);
        let line = line.unwrap_or_else(|| panic!("no {name} in {}", listed.stdout));
        assert!(line.contains("root/root"), "{line}");
    }
    let root = place.path("root");
    run(place
        .command("dpkg-deb")
        .arg("--extract")
        .arg(&deb)
        .arg(&root))
    .expect(0);
    let version = run(place.command(root.join("usr/bin/client")).arg("--version")).expect(0);
    assert!(
        version.stdout.contains(env!("CARGO_PKG_VERSION")),
        "{version:?}"
    );
}

#[test]
fn what_is_installed_is_said_first_and_taken_back() {
    let place = Place::new();
    let root = place.path("root");
    let binaries = tracker_program().parent().unwrap();
    let install = |words: &[&str]| {
        let mut install = place.command(script("install"));
        install.args(words).arg("--binaries").arg(binaries);
        run(install.env("DESTDIR", &root))
    };
    let address = "tracker.example:59000#vf277kwl7malsgyd224lhon3ay";
    let daemon = ["daemon", "--idx", "4", "--tracker", address];
    let said = install(&[&daemon[..], &["--dry-run"]].concat()).expect(0);
    assert!(said.stdout.contains("warren-daemon@.service"), "{said:?}");
    assert!(!root.exists());
    // Nobody says yes.
    install(&daemon).expect(1);
    assert!(!root.exists());

    install(&[&daemon[..], &["--yes"]].concat()).expect(0);
    let home = |name: &str| {
        PathBuf::from(format!(
            "{}{}/{name}",
            root.display(),
            place.path("").display()
        ))
    };
    let unit = home(".config/systemd/user/warren-daemon@.service");
    let text = fs::read_to_string(&unit).unwrap();
    let program = place.path(".local/bin/client");
    let line = format!("ExecStart={} daemon %i\n", program.display());
    assert!(text.contains(&line), "{text}");
    let settings = home(".config/warren/config.toml");
    assert_eq!(
        fs::read_to_string(&settings).unwrap(),
        format!("tracker = \"{address}\"\n")
    );
    let shown = run(place
        .command(home(".local/bin/client"))
        .args(["config", "--config"])
        .arg(&settings))
    .expect(0);
    assert!(shown.stdout.contains(address), "{shown:?}");

    // What another daemon needs stays as long as that is enabled.
    let wants = home(".config/systemd/user/default.target.wants");
    fs::create_dir_all(&wants).unwrap();
    for idx in [4, 5] {
        let link = wants.join(format!("warren-daemon@{idx}.service"));
        std::os::unix::fs::symlink(&unit, link).unwrap();
    }
    let uninstall = ["daemon", "--idx", "4", "--uninstall", "--yes"];
    let said = install(&uninstall).expect(0);
    assert!(
        said.stdout.contains("stay for: warren-daemon@5.service\n"),
        "{said:?}"
    );
    assert!(unit.exists() && home(".local/bin/client").exists());
    fs::remove_file(wants.join("warren-daemon@5.service")).unwrap();
    install(&uninstall).expect(0);
    assert!(!unit.exists() && !home(".local/bin/client").exists());
    assert!(settings.exists());

    install(&["tracker", "--yes"]).expect(0);
    for name in [
        "usr/local/bin/tracker",
        "etc/systemd/system/warren-tracker.socket",
        "etc/warren/tracker.toml",
    ] {
        assert!(root.join(name).exists(), "{name}");
    }
    install(&["nonsense"]).expect(2);
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../scripts")
        .join(name)
}
