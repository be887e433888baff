//! One daemon, and what a person asks of it.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use rustix::process::Signal;
use warren_daemon::control::{
    model::{
        Attempt, CodeStatus, Done, DownloadRequest, Event, IfExists, Peer, PortMappingState,
        Registered, Share, Source, Tracker,
    },
    wish::Wish,
};

use super::{Process, Ran, Throttle, Transfer, run, swarm::Place, wait_for};

/// What a test wants of a daemon beyond the usual.
#[derive(Clone, Default)]
pub(crate) struct DaemonOptions {
    /// Folder of the downloads, when not the usual one.
    pub(crate) downloads: Option<PathBuf>,
    /// Further options of `client daemon`.
    pub(crate) options: Vec<String>,
    /// A command to run the daemon in: it gets the daemon's command line as its last arguments.
    pub(crate) wrapper: Vec<String>,
}

impl DaemonOptions {
    /// The usual, with these options of `client daemon`.
    pub(crate) fn of(options: &[&str]) -> DaemonOptions {
        let options = options.iter().map(|option| (*option).to_owned());
        DaemonOptions {
            options: options.collect(),
            ..DaemonOptions::default()
        }
    }
}

/// A daemon that runs, or ran and may be started again.
pub(crate) struct Daemon {
    /// Its number.
    pub(crate) idx: u16,
    place: Arc<Place>,
    tracker: String,
    options: DaemonOptions,
    process: Process,
}

/// What `client status` lists.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    /// Trackers.
    pub(crate) trackers: Vec<Tracker>,
    /// Shares.
    pub(crate) shares: Vec<Share>,
    /// Codes.
    pub(crate) codes: Vec<CodeStatus>,
}

impl Daemon {
    /// Starts a daemon and waits until it answers.
    #[track_caller]
    pub(crate) fn start(
        place: &Arc<Place>,
        idx: u16,
        tracker: &str,
        options: DaemonOptions,
    ) -> Daemon {
        let process = spawn(place, idx, tracker, &options);
        let daemon = Daemon {
            idx,
            place: Arc::clone(place),
            tracker: tracker.to_owned(),
            options,
            process,
        };
        daemon.until_ready();
        daemon
    }

    /// Starts a daemon that is expected to end by itself.
    #[track_caller]
    pub(crate) fn run_to_end(place: &Arc<Place>, idx: u16, tracker: &str) -> Ran {
        Daemon::run_to_end_with(place, idx, tracker, &DaemonOptions::default())
    }

    /// The same with options.
    #[track_caller]
    pub(crate) fn run_to_end_with(
        place: &Arc<Place>,
        idx: u16,
        tracker: &str,
        options: &DaemonOptions,
    ) -> Ran {
        run(&mut command(place, idx, tracker, options))
    }

    #[track_caller]
    fn until_ready(&self) {
        wait_for(&format!("daemon {} to answer", self.idx), || {
            assert_eq!(
                self.process.exited(),
                None,
                "daemon {} ended: {}",
                self.idx,
                self.process.stderr.text()
            );
            // Quicker than a client each time, and just as telling.
            UnixStream::connect(self.socket()).ok()
        });
        self.client(&["status"]).expect(0);
    }

    /// Waits until it is connected to its tracker.
    #[track_caller]
    pub(crate) fn until_connected(&self) {
        self.until("its tracker", |status| {
            status.trackers.iter().any(|tracker| tracker.connected)
        });
    }

    /// Runs `client COMMAND.. IDX`.
    #[track_caller]
    pub(crate) fn client(&self, command: &[&str]) -> Ran {
        run(self.place.client().args(command).arg(self.idx.to_string()))
    }

    /// Runs `client COMMAND.. IDX --json`, which ends like a download, and returns that end.
    #[track_caller]
    pub(crate) fn client_last(&self, command: &[&str]) -> Done {
        let mut client = self.place.client();
        client.args(command).arg(self.idx.to_string()).arg("--json");
        Transfer::start(self.idx, &mut client).done()
    }

    /// Runs `client register PATH IDX` and returns what it printed.
    #[track_caller]
    pub(crate) fn register(&self, path: &Path) -> Registered {
        let ran = self.try_register(path, &["--json"]).expect(0);
        let last = ran.stdout.lines().last().unwrap_or_default();
        match serde_json::from_str(last) {
            Ok(Event::Registered(registered)) => registered,
            other => panic!("{other:?} in {ran:#?}"),
        }
    }

    /// Runs `client register PATH IDX OPTIONS..`.
    #[track_caller]
    pub(crate) fn try_register(&self, path: &Path, options: &[&str]) -> Ran {
        let mut client = self.place.client();
        client.arg("register").arg(path).arg(self.idx.to_string());
        run(client.args(options))
    }

    /// Starts `client download SOURCE IDX --json`.
    pub(crate) fn download(&self, source: impl AsRef<OsStr>) -> Transfer {
        let mut client = self.place.client();
        client.arg("download").arg(source);
        client.args([&self.idx.to_string(), "--json"]);
        Transfer::start(self.idx, &mut client)
    }

    /// The same with further options.
    pub(crate) fn download_with(&self, source: impl AsRef<OsStr>, options: &[&str]) -> Transfer {
        let mut client = self.place.client();
        client.arg("download").arg(source);
        client.args([&self.idx.to_string(), "--json"]).args(options);
        Transfer::start(self.idx, &mut client)
    }

    /// Runs `client select SHARE IDX --json OPTIONS..`.
    #[track_caller]
    pub(crate) fn select(&self, share: &str, options: &[&str]) -> Ran {
        let mut client = self.place.client();
        client.args(["select", share, &self.idx.to_string(), "--json"]);
        run(client.args(options))
    }

    /// Runs a download to its end.
    #[track_caller]
    pub(crate) fn fetch(&self, source: impl AsRef<OsStr>) -> Done {
        self.download(source).done()
    }

    /// What it says of itself.
    #[track_caller]
    pub(crate) fn status(&self) -> Status {
        let mut status = Status {
            trackers: Vec::new(),
            shares: Vec::new(),
            codes: Vec::new(),
        };
        for event in self.list("status") {
            match event {
                Event::Tracker(tracker) => status.trackers.push(tracker),
                Event::Share(share) => status.shares.push(share),
                // No test may make anybody's router do anything.
                Event::PortMapping(port) => {
                    let unasked = [PortMappingState::Waiting, PortMappingState::Unneeded];
                    assert!(unasked.contains(&port.state), "{port:?}");
                }
                Event::Limits(_) => (),
                Event::Code(code) => status.codes.push(code),
                other => panic!("{other:?} in a status"),
            }
        }
        status
    }

    /// One of its shares.
    #[track_caller]
    pub(crate) fn share(&self, content_id: &str) -> Share {
        let status = self.status();
        status
            .share(content_id)
            .cloned()
            .unwrap_or_else(|| panic!("no share {content_id} in {status:#?}"))
    }

    /// The peers it is connected to.
    #[track_caller]
    pub(crate) fn peers(&self) -> Vec<Peer> {
        let peer = |event| match event {
            Event::Peer(peer) => peer,
            other => panic!("{other:?} among peers"),
        };
        self.list("peers").into_iter().map(peer).collect()
    }

    /// The latest attempts to reach peers.
    #[track_caller]
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        let answer = self.request("GET", "attempts", &[]);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let attempt = |event| match event {
            Event::Attempt(attempt) => attempt,
            other => panic!("{other:?} among attempts"),
        };
        let events: Vec<Event> = serde_json::from_str(body).unwrap();
        events.into_iter().map(attempt).collect()
    }

    #[track_caller]
    fn list(&self, command: &str) -> Vec<Event> {
        let ran = self.client(&[command, "--json"]).expect(0);
        let event = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        ran.stdout.lines().map(event).collect()
    }

    /// Waits until its status is as wanted.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut shown = String::new();
        wait_for(
            &format!("{what} in the status of daemon {}", self.idx),
            || {
                let status = self.status();
                if wanted(&status) {
                    return Some(status);
                }
                let text = format!("{status:?}");
                if text != shown {
                    eprintln!("daemon {}: {text}", self.idx);
                    shown = text;
                }
                None
            },
        )
    }

    /// Waits until one of its shares is as wanted.
    #[track_caller]
    pub(crate) fn until_share(
        &self,
        content_id: &str,
        what: &str,
        wanted: impl Fn(&Share) -> bool,
    ) -> Share {
        let status = self.until(what, |status| status.share(content_id).is_some_and(&wanted));
        status.share(content_id).unwrap().clone()
    }

    /// Ends it without warning.
    pub(crate) fn kill(&self) {
        self.process.kill();
    }

    /// Ends it with `client stop`.
    #[track_caller]
    pub(crate) fn stop(&self) {
        self.client(&["stop"]).expect(0);
        assert_eq!(self.process.wait(), 0, "{}", self.process.stderr.text());
    }

    /// Starts it again after it ended.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        assert!(self.process.exited().is_some(), "it still runs");
        self.process = spawn(&self.place, self.idx, &self.tracker, &self.options);
        self.until_ready();
    }

    /// Stops the process in its tracks; nothing of it moves until [`Self::unfreeze`].
    pub(crate) fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn unfreeze(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Makes it slow for as long as the answer lives.
    pub(crate) fn throttle(&self) -> Throttle {
        self.process.throttle()
    }

    /// Where its downloads go.
    pub(crate) fn downloads(&self) -> PathBuf {
        let usual = || self.place.path(&format!("downloads/daemon-{}", self.idx));
        self.options.downloads.clone().unwrap_or_else(usual)
    }

    /// Its process.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Asks for a download as no client would: with whatever bytes. Returns the whole answer.
    #[track_caller]
    pub(crate) fn post_download(&self, source: Source) -> String {
        let wish = Wish::default();
        let body = serde_json::to_vec(&DownloadRequest {
            source,
            wish,
            to: None,
            if_exists: IfExists::Refuse,
            as_chosen: false,
        })
        .unwrap();
        self.post("download", &body)
    }

    /// Sends a request to its socket. The answer is read until the daemon ends it.
    #[track_caller]
    pub(crate) fn post(&self, route: &str, body: &[u8]) -> String {
        self.request("POST", route, body)
    }

    #[track_caller]
    fn request(&self, method: &str, route: &str, body: &[u8]) -> String {
        let mut socket = UnixStream::connect(self.socket()).unwrap();
        // With HTTP/1.0 the answer is not chunked, and ends with the connection.
        let head = format!(
            "{method} /v1/{route} HTTP/1.0\r\nHost: warren\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes()).unwrap();
        // A request that is too large is refused before it is read to its end.
        let _ = socket.write_all(body);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The folder of its state.
    pub(crate) fn state(&self) -> PathBuf {
        self.place.home().join(format!("daemon-{}", self.idx))
    }

    fn socket(&self) -> PathBuf {
        self.state().join("control.sock")
    }
}

impl Status {
    /// The share of this content id.
    pub(crate) fn share(&self, content_id: &str) -> Option<&Share> {
        let is_it = |share: &&Share| share.content_id == content_id;
        self.shares.iter().find(is_it)
    }
}

fn spawn(place: &Arc<Place>, idx: u16, tracker: &str, options: &DaemonOptions) -> Process {
    let mut command = command(place, idx, tracker, options);
    Process::spawn(format!("daemon {idx}"), &mut command)
}

fn command(place: &Arc<Place>, idx: u16, tracker: &str, options: &DaemonOptions) -> Command {
    let mut daemon = place.client();
    daemon.args(["daemon", &idx.to_string(), tracker]);
    daemon.args(["--listen", "127.0.0.1:0"]);
    daemon.args(&options.options);
    if let Some(downloads) = &options.downloads {
        daemon.arg("--downloads").arg(downloads);
    }
    let mut command = match options.wrapper.split_first() {
        None => daemon,
        Some((program, arguments)) => {
            let mut wrapper = place.command(program);
            wrapper.args(arguments).arg(daemon.get_program());
            wrapper.args(daemon.get_args());
            wrapper
        }
    };
    command.env("RUST_LOG", "info");
    command
}
