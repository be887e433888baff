//! What the tests of a tracker over real sockets share.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses a part of it"
)]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use warren_net::{
    Connection, Endpoint, Expect, FrameReader, FrameWriter, Identity, Link, LinkReader, LinkWriter,
    Profile, Protocol,
};
use warren_proto::wire::{FromTracker, Hello, ToTracker};
use warren_tracker::{Config, Tracker};

/// What takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What every daemon says first.
const HELLO: Hello = Hello {
    version: 1,
    features: 0,
};

/// A free port of the loopback.
pub fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A tracker, and the folder with its key.
pub fn start() -> (Tracker, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let config = Config {
        listen: vec![any()],
        stun_listen: vec![any()],
        ..Config::new(home.path().to_path_buf())
    };
    (Tracker::start(config).unwrap(), home)
}

/// A daemon that it has not seen before.
pub async fn join(tracker: &Tracker) -> Session {
    Session::connect(tracker, &Identity::generate().unwrap()).await
}

/// What comes of `future`, in time.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap()
}

/// Says hello to a tracker, whichever way it is reached, and hears its hello.
pub async fn greet(link: &Link) -> (LinkReader, LinkWriter) {
    let (mut reader, mut writer) = link.control().await.unwrap();
    writer.send(&ToTracker::Hello(HELLO)).await.unwrap();
    let said = within(reader.recv()).await.unwrap();
    assert!(matches!(said, Some(FromTracker::Hello(_))), "{said:?}");
    (reader, writer)
}

/// A daemon's connection to a tracker that has welcomed it.
pub struct Session {
    pub endpoint: Endpoint,
    pub connection: Connection,
    pub writer: FrameWriter,
    pub reader: FrameReader,
    pub welcome: FromTracker,
}

impl Session {
    /// Connects by UDP.
    pub async fn connect(tracker: &Tracker, identity: &Identity) -> Self {
        let endpoint = Endpoint::bind(any(), identity, &[], Profile::Daemon).unwrap();
        let expect = Expect::Key(tracker.key());
        let connecting = endpoint.connect(tracker.local_addrs()[0], Protocol::Tracker, expect);
        let connection = within(connecting).await.unwrap();
        let (send, receive) = connection.quinn().open_bi().await.unwrap();
        let mut writer = FrameWriter::new(send);
        let mut reader = FrameReader::new(receive);
        writer.send(&ToTracker::Hello(HELLO)).await.unwrap();
        let hello = within(reader.recv()).await.unwrap();
        assert!(matches!(hello, Some(FromTracker::Hello(_))), "{hello:?}");
        let welcome = within(reader.recv()).await.unwrap().unwrap();
        let about = within(reader.recv()).await.unwrap();
        assert!(
            matches!(about, Some(FromTracker::About { .. })),
            "{about:?}"
        );
        Self {
            endpoint,
            connection,
            writer,
            reader,
            welcome,
        }
    }
}
