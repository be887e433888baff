//! Faults injected into real daemons: whether `client doctor` names each, and nothing else, and how soon.
//!
//! Beside the forty of `daemon/src/control/doctor/tests/matrix.rs`, which are injected into what a daemon
//! knows of itself. What it takes NATs for is in `cli/tests/natlab`.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpListener,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use warren_daemon::control::model::{Event, Severity, Share, ShareState};

use crate::{
    content::MIB,
    harness::{Daemon, DaemonOptions, Place, Swarm, Tracker, free_address, succeeds, wait_for},
};

/// What is found of every daemon here: tests listen to this machine alone, and most fetch nothing.
const USUAL: [&str; 2] = ["NET-07", "PEER-05"];

/// After which a daemon of which nothing is wrong is looked at again: what is tried is not judged at once.
const LATER: Duration = Duration::from_secs(1);

/// What it is called, what is made wrong, and the codes of which one is to be named.
type Case = (&'static str, fn() -> Patient, &'static [&'static str]);

/// Case, injected fault, findings that name it.
#[rustfmt::skip]
const MATRIX: [Case; 15] = [
    ("nothing", well, &[]),
    ("tracker not started", no_tracker, &["TRK-13"]),
    ("tracker silent by UDP and TCP", silent_tracker, &["TRK-01"]),
    ("web server at the tracker's port", web_server, &["TRK-15"]),
    ("tracker's key changed", other_key, &["TRK-12"]),
    ("UDP blocked", udp_blocked, &["TRK-05"]),
    ("downloads folder is a file", no_folder, &["DISK-25"]),
    ("disk full", full_disk, &["DISK-24"]),
    ("256 open files", few_files, &["HOST-02"]),
    ("limit of 64 kbit/s", tiny_limit, &["LIM-02"]),
    ("in the background", in_background, &["LIM-03"]),
    ("relay only", relay_only, &["NET-13"]),
    ("share paused", paused, &["SHR-14"]),
    ("share changed on disk", changed, &["SHR-13"]),
    ("no source online", no_source, &["SHR-15"]),
];

/// A daemon with a fault, and what must live as long.
struct Patient {
    daemon: Daemon,
    _rest: Vec<Box<dyn std::any::Any>>,
}

#[test]
fn injected_faults_are_named_and_no_other_is_blamed() {
    let mut longest = Duration::ZERO;
    for (case, inject, expected) in MATRIX {
        let Patient { daemon, _rest } = inject();
        let expected = BTreeSet::from_iter(expected.iter().map(|it| (*it).to_owned()));
        let mut found = BTreeSet::new();
        let mut is_named = || {
            let asked = Instant::now();
            let said = daemon.client(&["doctor", "--json"]).stdout;
            longest = longest.max(asked.elapsed());
            found = blamed(&said);
            if found != expected {
                println!("{case}: {found:?} in place of {expected:?}");
            }
            found == expected
        };
        // Some faults show themselves only when something was tried for as long as it may take.
        wait_for(case, || is_named().then_some(()));
        if expected.is_empty() {
            thread::sleep(LATER);
            assert!(is_named(), "{case}: {found:?}");
        }
    }
    println!(
        "doctor of real daemons: {0} of {0} named, longest answer {longest:?}",
        MATRIX.len()
    );
}

fn blamed(said: &str) -> BTreeSet<String> {
    let finding = |line| match serde_json::from_str(line).unwrap() {
        Event::Finding(finding) if finding.severity > Severity::Ok => Some(finding.code),
        _ => None,
    };
    let codes = said.lines().filter_map(finding);
    codes
        .filter(|code| !USUAL.contains(&code.as_str()))
        .collect()
}

fn alone(daemon: Daemon) -> Patient {
    let _rest = Vec::new();
    Patient { daemon, _rest }
}

fn with(daemon: Daemon, rest: impl std::any::Any) -> Patient {
    let _rest: Vec<Box<dyn std::any::Any>> = vec![Box::new(rest)];
    Patient { daemon, _rest }
}

/// A daemon that is well but for what its options say.
fn started(options: &[&str]) -> Patient {
    let swarm = Swarm::start();
    let daemon = swarm.daemon_with(1, DaemonOptions::of(options));
    daemon.until_connected();
    with(daemon, swarm)
}

fn well() -> Patient {
    started(&[])
}

fn tiny_limit() -> Patient {
    started(&["--down", "64k"])
}

fn in_background() -> Patient {
    started(&["--background"])
}

fn relay_only() -> Patient {
    started(&["--relay-only"])
}

fn no_tracker() -> Patient {
    let address = free_address();
    alone(Daemon::start(
        &Place::new(),
        1,
        &address,
        DaemonOptions::default(),
    ))
}

/// Connections by TCP wait in the kernel's queue for ever.
fn silent_tracker() -> Patient {
    let silence = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silence.local_addr().unwrap().to_string();
    let daemon = Daemon::start(&Place::new(), 1, &address, DaemonOptions::default());
    with(daemon, silence)
}

fn web_server() -> Patient {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    // It ends with the test's process.
    thread::spawn(move || {
        for client in server.incoming() {
            let mut client = client.unwrap();
            let _ = client.read(&mut [0; 1024]);
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    alone(Daemon::start(
        &Place::new(),
        1,
        &address,
        DaemonOptions::default(),
    ))
}

fn other_key() -> Patient {
    let place = Place::new();
    let tracker = Tracker::start(&place, "t", "127.0.0.1:0");
    let address = tracker.address.clone();
    let daemon = Daemon::start(&place, 1, &address, DaemonOptions::default());
    daemon.until_connected();
    tracker.stop();
    let other = Tracker::start(&place, "other", &address);
    assert_ne!(other.key, tracker.key);
    with(daemon, other)
}

fn udp_blocked() -> Patient {
    let swarm = Swarm::start();
    let gate = swarm.tracker.gate();
    let daemon = Daemon::start(swarm.place(), 1, &gate.address, DaemonOptions::default());
    daemon.until_connected();
    with(daemon, (swarm, gate))
}

fn no_folder() -> Patient {
    let patient = well();
    let downloads = patient.daemon.downloads();
    let _ = fs::remove_dir_all(&downloads);
    fs::create_dir_all(downloads.parent().unwrap()).unwrap();
    fs::write(&downloads, "in the way").unwrap();
    patient
}

fn full_disk() -> Patient {
    const FULL_DISK: &str = "mkdir -p \"$0\" && mount -t tmpfs -o size=1m tmpfs \"$0\" && \
                             { head -c 2000000 /dev/zero > \"$0/ballast\"; exec \"$@\"; }";
    let can_mount = ["-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"];
    assert!(
        succeeds(Command::new("unshare").args(can_mount)),
        "the kernel lets us mount nothing"
    );
    let swarm = Swarm::start();
    let downloads = swarm.path("full");
    let mut wrapper = ["unshare", "-Urm", "sh", "-c", FULL_DISK]
        .map(str::to_owned)
        .to_vec();
    wrapper.push(downloads.to_str().unwrap().to_owned());
    let options = DaemonOptions {
        downloads: Some(downloads),
        wrapper,
        ..DaemonOptions::default()
    };
    let daemon = swarm.daemon_with(1, options);
    daemon.until_connected();
    with(daemon, swarm)
}

fn few_files() -> Patient {
    let swarm = Swarm::start();
    let wrapper = ["sh", "-c", "ulimit -n 256; exec \"$@\"", "sh"];
    let options = DaemonOptions {
        wrapper: wrapper.map(str::to_owned).to_vec(),
        ..DaemonOptions::default()
    };
    let daemon = swarm.daemon_with(1, options);
    daemon.until_connected();
    with(daemon, swarm)
}

fn paused() -> Patient {
    let swarm = Swarm::start();
    let daemon = swarm.daemon(1);
    daemon.register(&swarm.file("film.mkv", MIB, 1));
    daemon.client(&["pause", "film.mkv"]).expect(0);
    with(daemon, swarm)
}

fn changed() -> Patient {
    let swarm = Swarm::start();
    let mut daemon = swarm.daemon(1);
    let file = swarm.file("film.mkv", MIB, 1);
    let shared = daemon.register(&file);
    daemon.stop();
    fs::write(&file, "something else").unwrap();
    daemon.restart();
    daemon.until_connected();
    wait_for("the change to be seen", || {
        (daemon.share(&shared.content_id).state == ShareState::Changed).then_some(())
    });
    with(daemon, swarm)
}

fn no_source() -> Patient {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let shared = ours.register(&swarm.file("film.mkv", MIB, 1));
    ours.stop();
    let theirs = swarm.daemon(2);
    let download = theirs.download(&shared.manifest);
    let is_waiting = |share: &Share| share.state == ShareState::Waiting;
    theirs.until_share(&shared.content_id, "waiting", is_waiting);
    with(theirs, (swarm, download))
}
