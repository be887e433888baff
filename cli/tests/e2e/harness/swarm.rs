//! A folder with a tracker, and the daemons a test starts there.

use std::{
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
};

use tempfile::TempDir;

use super::{Daemon, DaemonOptions, Gate, Process, run};
use crate::content::random_file;

/// A tracker, and a folder with room for daemons.
pub(crate) struct Swarm {
    /// The tracker all daemons are started with.
    pub(crate) tracker: Tracker,
    place: Arc<Place>,
}

impl Swarm {
    /// Starts a tracker.
    pub(crate) fn start() -> Swarm {
        let place = Place::new();
        let tracker = Tracker::start(&place, "t", "127.0.0.1:0");
        Swarm { tracker, place }
    }

    /// Starts daemon `idx` and waits until it is connected to the tracker.
    #[track_caller]
    pub(crate) fn daemon(&self, idx: u16) -> Daemon {
        let daemon = self.daemon_with(idx, DaemonOptions::default());
        daemon.until_connected();
        daemon
    }

    /// Starts daemon `idx` and waits until it answers.
    #[track_caller]
    pub(crate) fn daemon_with(&self, idx: u16, options: DaemonOptions) -> Daemon {
        Daemon::start(&self.place, idx, &self.tracker.address, options)
    }

    /// A path in the folder of this swarm.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    /// Makes a file in the folder of this swarm.
    pub(crate) fn file(&self, name: &str, bytes: u64, seed: u64) -> PathBuf {
        let path = self.path(name);
        random_file(&path, bytes, seed);
        path
    }

    /// The folder and what is common to all processes in it.
    pub(crate) fn place(&self) -> &Arc<Place> {
        &self.place
    }
}

/// A temporary folder in which all processes of one test run.
pub(crate) struct Place {
    folder: PathBuf,
    /// Removes it at the end.
    _guard: TempDir,
}

impl Place {
    /// Makes the folder. Its path is short, because sockets lie beneath it.
    pub(crate) fn new() -> Arc<Place> {
        let guard = tempfile::Builder::new().prefix("w").tempdir().unwrap();
        Arc::new(Place {
            folder: fs::canonicalize(guard.path()).unwrap(),
            _guard: guard,
        })
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where daemons and clients keep their state.
    pub(crate) fn home(&self) -> PathBuf {
        self.path("h")
    }

    /// Runs `program` here, and with nothing of the person's own settings.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).env("HOME", &self.folder);
        for variable in [
            "WARREN_HOME",
            "WARREN_CONFIG",
            "XDG_STATE_HOME",
            "XDG_CONFIG_HOME",
            "RUST_LOG",
        ] {
            command.env_remove(variable);
        }
        command.env("WARREN_TRACKER_CONFIG", "/dev/null");
        command
    }

    /// The program `client` with the state of this place.
    pub(crate) fn client(&self) -> Command {
        let mut client = self.command(env!("CARGO_BIN_EXE_client"));
        client.arg("--home").arg(self.home());
        client
    }
}

/// A running tracker.
pub(crate) struct Tracker {
    /// `host:port`, as daemons are given it.
    pub(crate) address: String,
    /// Where else it listens, by TCP.
    tcp: String,
    /// The pin of its key.
    pub(crate) key: String,
    process: Process,
    place: Arc<Place>,
    home: String,
    options: Vec<String>,
}

impl Tracker {
    /// Starts a tracker that keeps its key in the folder `home` of `place`.
    #[track_caller]
    pub(crate) fn start(place: &Arc<Place>, home: &str, listen: &str) -> Tracker {
        Tracker::start_with(place, home, listen, &[])
    }

    /// The same, with further options.
    #[track_caller]
    pub(crate) fn start_with(
        place: &Arc<Place>,
        home: &str,
        listen: &str,
        options: &[&str],
    ) -> Tracker {
        let mut command = place.command(tracker_program());
        command
            .args(["--listen", listen, "--stun-listen", "127.0.0.1:0", "--json"])
            .args(["--tcp", "127.0.0.1:0"])
            .arg("--home")
            .arg(place.path(home))
            .args(options)
            .envs([("RUST_LOG", "info"), ("NO_COLOR", "1")]);
        let process = Process::spawn("tracker", &mut command);
        let line = process.stdout.wait_line(0).unwrap_or_default();
        let said: serde_json::Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("the tracker said: {line}{}", process.stderr.text()));
        let text = |field: &str| said[field].as_str().unwrap().to_owned();
        Tracker {
            address: text("address"),
            tcp: said["tcp_listen"][0].as_str().unwrap().to_owned(),
            key: text("key"),
            process,
            place: Arc::clone(place),
            home: home.to_owned(),
            options: options.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    /// A port at which it is reached from a network that lets no UDP through.
    pub(crate) fn gate(&self) -> Gate {
        Gate::open(self.address.parse().unwrap(), self.tcp.parse().unwrap())
    }

    /// Ends it without warning.
    pub(crate) fn kill(&self) {
        self.process.kill();
    }

    /// Ends it in good order.
    #[track_caller]
    pub(crate) fn stop(&self) {
        self.process.signal(rustix::process::Signal::TERM);
        assert_eq!(self.process.wait(), 0);
    }

    /// Ends it, and returns the bytes that it says it has relayed.
    #[track_caller]
    pub(crate) fn stopped_after_relaying(&self) -> u64 {
        self.stop();
        let log = self.process.stderr.text();
        let said = log.lines().rev().find(|line| line.contains("relayed"));
        let bytes = said.and_then(|line| line.split(" bytes=").nth(1)?.split(' ').next());
        bytes.map_or(0, |bytes| bytes.parse().unwrap())
    }

    /// Starts it again with the same key at the same address.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let again = Tracker::start_with(&self.place, &self.home, &self.address, &options);
        assert_eq!(again.key, self.key);
        *self = again;
    }
}

/// An address at which nobody listens now.
pub(crate) fn free_address() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().to_string()
}

/// The program `tracker`, which lies beside `client`. Tests of the whole workspace have built it;
/// those of this package alone have not.
pub(crate) fn tracker_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let client = Path::new(env!("CARGO_BIN_EXE_client"));
        let program = client.with_file_name("tracker");
        if !program.exists() {
            build_tracker(client);
        }
        program
    })
}

fn build_tracker(client: &Path) {
    let profile_folder = client.parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args([
            "build",
            "--quiet",
            "-p",
            "warren-tracker",
            "--bin",
            "tracker",
        ])
        .arg("--target-dir")
        .arg(profile_folder.parent().unwrap());
    if profile_folder.ends_with("release") {
        cargo.arg("--release");
    }
    // Its own deadline would be that of a state, not of a compiler.
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
    assert!(status.unwrap().success(), "the tracker does not build");
}

/// Whether `command` runs and succeeds, for tests that need something of the system.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

impl Swarm {
    /// Runs `client` with these arguments.
    #[track_caller]
    pub(crate) fn client(&self, arguments: &[&str]) -> super::Ran {
        run(self.place.client().args(arguments))
    }
}
