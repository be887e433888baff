//! An honest daemon in this process, asked through its control socket.

use std::path::{Path, PathBuf};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::UnixStream,
    task::JoinHandle,
    time::timeout,
};
use warren_daemon::{
    Config, PortMapping,
    control::{
        model::{ApiError, DownloadRequest, Event, Peer, RegisterRequest, Registered, Source},
        wish::Wish,
    },
    home::socket_path,
};
use warren_net::Identity;
use warren_proto::{
    id::{PublicKey, TrackerPin},
    wire::Paths,
};
use warren_tracker::Tracker;

use crate::{DEADLINE, until};

/// A running daemon.
pub(crate) struct Daemon {
    home: PathBuf,
    idx: u16,
    downloads: PathBuf,
    task: JoinHandle<Result<(), ApiError>>,
}

impl Daemon {
    /// Starts daemon `idx` in the folder `place` and waits until it answers.
    pub(crate) async fn start(place: &Path, idx: u16, tracker: &Tracker) -> Daemon {
        let address = tracker.local_addrs()[0].to_string();
        Daemon::start_at(place, idx, address, tracker.pin()).await
    }

    /// Starts it with whatever tracker is at `address`.
    pub(crate) async fn start_at(
        place: &Path,
        idx: u16,
        address: String,
        pin: TrackerPin,
    ) -> Daemon {
        Daemon::start_with(place, idx, (address, pin), Paths::Any).await
    }

    /// The same, reached by these paths alone.
    pub(crate) async fn start_with(
        place: &Path,
        idx: u16,
        (address, pin): (String, TrackerPin),
        paths: Paths,
    ) -> Daemon {
        Daemon::start_relaying(place, idx, (address, pin), paths, None).await
    }

    /// The same, passing on so many bits per second for its swarms.
    pub(crate) async fn start_relaying(
        place: &Path,
        idx: u16,
        (address, pin): (String, TrackerPin),
        paths: Paths,
        relay_for_swarm: Option<u64>,
    ) -> Daemon {
        let home = place.join("h");
        let downloads = place.join(format!("downloads/daemon-{idx}"));
        let task = tokio::spawn(warren_daemon::run(Config {
            home: home.clone(),
            idx,
            tracker: address,
            tracker_pin: Some(pin),
            listen: Some("127.0.0.1:0".parse().unwrap()),
            paths,
            limits: Default::default(),
            relay_for_swarm,
            downloads: downloads.clone(),
            port_mapping: PortMapping::WhereNeeded,
            log: Default::default(),
            hooks: Default::default(),
            watch: None,
            memory_mib: warren_daemon::memory::LEAST_MIB,
            started: None,
        }));
        let socket = socket_path(&home, idx).unwrap();
        until("the daemon to answer", || {
            assert!(!task.is_finished(), "daemon {idx} ended");
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        })
        .await;
        Daemon {
            home,
            idx,
            downloads,
            task,
        }
    }

    /// Its key.
    pub(crate) fn key(&self) -> PublicKey {
        let path = self.home.join(format!("daemon-{}/key", self.idx));
        Identity::load_or_create(&path).unwrap().public_key()
    }

    /// Where its downloads go.
    pub(crate) fn downloads(&self) -> &Path {
        &self.downloads
    }

    /// Starts a download.
    pub(crate) async fn download(&self, source: Source) -> Events {
        let request = DownloadRequest {
            source,
            wish: Wish::default(),
            to: None,
            if_exists: Default::default(),
            as_chosen: false,
        };
        self.post("download", &serde_json::to_string(&request).unwrap())
            .await
    }

    /// Shares a path.
    pub(crate) async fn register(&self, path: &Path) -> Registered {
        let request = RegisterRequest {
            path: path.to_owned(),
            output: None,
            skip_special: false,
            update: false,
            code: None,
            expire_s: None,
            max_downloads: None,
        };
        let body = serde_json::to_string(&request).unwrap();
        let mut events = self.post("register", &body).await;
        match timeout(DEADLINE, events.last()).await.expect("in time") {
            Event::Registered(registered) => registered,
            other => panic!("{other:?}"),
        }
    }

    /// Ends it in good order.
    pub(crate) async fn stop(self) {
        // The answer is waited for: a request whose asker has gone is not carried out.
        let mut answer = self.post("stop", "").await;
        let status = answer.0.next_line().await.unwrap();
        assert!(status.is_some_and(|status| status.contains("204")));
        timeout(DEADLINE, self.task)
            .await
            .expect("in time")
            .unwrap()
            .unwrap();
    }

    /// Whom it is connected to.
    pub(crate) async fn peers(&self) -> Vec<Peer> {
        let mut answer = self.ask("GET", "peers", "").await;
        let mut last = String::new();
        while let Some(line) = answer.0.next_line().await.unwrap() {
            last = line;
        }
        let peer = |event| match event {
            Event::Peer(peer) => Some(peer),
            _ => None,
        };
        let events: Vec<Event> = serde_json::from_str(&last).unwrap();
        events.into_iter().filter_map(peer).collect()
    }

    async fn post(&self, route: &str, body: &str) -> Events {
        self.ask("POST", route, body).await
    }

    async fn ask(&self, method: &str, route: &str, body: &str) -> Events {
        let socket = socket_path(&self.home, self.idx).unwrap();
        let mut stream = UnixStream::connect(socket).await.unwrap();
        // With HTTP/1.0 the answer is not chunked.
        let request = format!(
            "{method} /v1/{route} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        Events(BufReader::new(stream).lines())
    }
}

/// The events of a download or a register.
pub(crate) struct Events(Lines<BufReader<UnixStream>>);

impl Events {
    /// Waits for the event that ends it.
    pub(crate) async fn last(&mut self) -> Event {
        let mut heard = String::new();
        while let Some(line) = self.0.next_line().await.unwrap() {
            if let Some(event) = line.strip_prefix("data:") {
                let event: Event = serde_json::from_str(event).unwrap();
                if event.is_final() {
                    return event;
                }
            }
            heard = line;
        }
        panic!("the daemon said no more after: {heard}");
    }
}
