//! Whoever talked to a process that was started anew is told that their connection is no more.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::net::SocketAddr;
use std::time::Duration;

use quinn::ConnectionError;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use warren_net::{Class, Connection, Endpoint, Expect, Identity, Profile, Protocol, Unsolicited};

mod common;

use common::{PATIENCE, endpoint, open};

/// Tries of what fails one in 256 times: a life that looks like the one before says nothing.
const LIVES: usize = 4;

/// How long nothing comes, for it to mean that nothing will.
const QUIET: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_tracker_that_was_started_anew_says_so_to_who_speaks_to_it() {
    for _ in 0..LIVES {
        let (server, daemon) = (identity(), endpoint(&identity(), Unsolicited::OnlyAdmitted));
        let before = Life::start(&server, any(), Profile::Tracker, |_| ());
        let dialling = daemon.connect(before.at(), Protocol::Tracker, Expect::Any);
        let dialled = timeout(PATIENCE, dialling).await.unwrap().unwrap();
        let at = before.kill();
        let _after = Life::start(&server, at, Profile::Tracker, |_| ());
        if is_reset(&dialled).await {
            return;
        }
    }
    panic!("no life said so");
}

#[tokio::test]
async fn a_daemon_that_was_started_anew_says_so_though_it_takes_in_no_strangers() {
    for _ in 0..LIVES {
        let (server, client) = (identity(), identity());
        let peer = endpoint(&client, Unsolicited::OnlyAdmitted);
        let from = peer.local_addr();
        let before = Life::start(&server, any(), Profile::Daemon, |listening| {
            let back = listening
                .socket()
                .route(&client.public_key(), Class::Direct);
            open(listening, back, from);
        });
        let route = peer.socket().route(&server.public_key(), Class::Direct);
        open(&peer, route, before.at());
        let key = Expect::Key(server.public_key());
        let dialling = peer.connect_route(route, Protocol::Peer, key, None);
        let dialled = timeout(PATIENCE, dialling).await.unwrap().unwrap();
        let at = before.kill();
        let _after = Life::start(&server, at, Profile::Daemon, |_| ());
        if is_reset(&dialled).await {
            return;
        }
    }
    panic!("no life said so");
}

#[tokio::test]
async fn another_key_at_the_same_port_resets_nothing() {
    let (server, other) = (identity(), identity());
    let daemon = endpoint(&identity(), Unsolicited::OnlyAdmitted);
    let before = Life::start(&server, any(), Profile::Tracker, |_| ());
    let dialling = daemon.connect(before.at(), Protocol::Tracker, Expect::Any);
    let dialled = timeout(PATIENCE, dialling).await.unwrap().unwrap();
    let at = before.kill();
    let after = Life::start(&other, at, Profile::Tracker, |_| ());
    say(&dialled).await;
    let ended = timeout(QUIET, dialled.quinn().closed()).await;
    assert!(ended.is_err(), "{ended:?}");
    drop(after);
}

#[tokio::test]
async fn who_makes_up_an_id_gets_nothing() {
    for profile in [Profile::Tracker, Profile::Daemon] {
        let listening = Life::start(&identity(), any(), profile, |_| ());
        let stranger = UdpSocket::bind(any()).await.unwrap();
        for number in 0..1000u32 {
            let mut packet = [7; 60];
            packet[0] = 0x41;
            packet[1..5].copy_from_slice(&number.to_be_bytes());
            stranger.send_to(&packet, listening.at()).await.unwrap();
        }
        assert_eq!(bytes_back(&stranger).await, 0);
    }
}

#[tokio::test]
async fn a_copied_packet_gets_less_than_it_is_from_wherever_it_is_sent() {
    for _ in 0..LIVES {
        let server = identity();
        let before = Life::start(&server, any(), Profile::Tracker, |_| ());
        let copied = sealed_packet(before.at()).await;
        let at = before.kill();
        let after = Life::start(&server, at, Profile::Daemon, |_| ());
        let stranger = UdpSocket::bind(any()).await.unwrap();
        let sent = 20 * copied.len();
        for _ in 0..20 {
            stranger.send_to(&copied, after.at()).await.unwrap();
        }
        let back = bytes_back(&stranger).await;
        assert!(back < sent, "{back} bytes for {sent}");
        if back > 0 {
            return;
        }
    }
    panic!("no life said anything");
}

/// A process that listens, and ends as a kill ends it: nobody hears of it.
struct Life {
    runtime: Option<Runtime>,
    endpoint: Endpoint,
}

impl Life {
    /// `prepare` is called before anybody is let in.
    fn start(
        identity: &Identity,
        at: SocketAddr,
        profile: Profile,
        prepare: impl FnOnce(&Endpoint),
    ) -> Life {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (serves, unsolicited) = match profile {
            Profile::Tracker => (Protocol::Tracker, Unsolicited::Accept),
            Profile::Daemon => (Protocol::Peer, Unsolicited::OnlyAdmitted),
        };
        let endpoint = {
            let _inside = runtime.enter();
            bind_when_free(|| {
                Endpoint::bind_with(at, identity, &[serves], profile, unsolicited).ok()
            })
        };
        prepare(&endpoint);
        let listening = endpoint.clone();
        runtime.spawn(async move {
            let mut accepted = Vec::new();
            while let Some(incoming) = listening.accept().await {
                accepted.push(incoming.complete().await);
            }
        });
        Life {
            runtime: Some(runtime),
            endpoint,
        }
    }

    fn at(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    /// Ends it; returns where it listened.
    fn kill(self) -> SocketAddr {
        self.at()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.runtime
            .take()
            .into_iter()
            .for_each(Runtime::shutdown_background);
    }
}

/// The one before may take a moment to let go of the port.
fn bind_when_free(bind: impl Fn() -> Option<Endpoint>) -> Endpoint {
    let began = std::time::Instant::now();
    loop {
        if let Some(bound) = bind() {
            return bound;
        }
        assert!(began.elapsed() < PATIENCE, "the port is not free");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn identity() -> Identity {
    Identity::generate().unwrap()
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn say(connection: &Connection) {
    let (mut send, _receive) = connection.quinn().open_bi().await.unwrap();
    send.write_all(b"are you there?").await.unwrap();
    // What was begun is not taken back.
    std::mem::forget(send);
}

/// Whether the connection ends by a reset when something is said on it.
async fn is_reset(connection: &Connection) -> bool {
    say(connection).await;
    let ended = timeout(PATIENCE / 4, connection.quinn().closed()).await;
    ended == Ok(ConnectionError::Reset)
}

/// A packet that somebody has seen on its way to `server`.
async fn sealed_packet(server: SocketAddr) -> Vec<u8> {
    let tap = UdpSocket::bind(any()).await.unwrap();
    let daemon = endpoint(&identity(), Unsolicited::OnlyAdmitted);
    let (client, to) = (daemon.local_addr(), tap.local_addr().unwrap());
    let dialling = tokio::spawn(async move {
        let dialled = daemon.connect(to, Protocol::Tracker, Expect::Any).await;
        dialled.unwrap().quinn().closed().await
    });
    let mut bytes = [0; 2048];
    let seen = async {
        loop {
            let (length, from) = tap.recv_from(&mut bytes).await.unwrap();
            let is_from_client = from == client;
            if is_from_client && bytes[0] & 0x80 == 0 {
                return bytes[..length].to_vec();
            }
            let on = if is_from_client { server } else { client };
            tap.send_to(&bytes[..length], on).await.unwrap();
        }
    };
    let seen = timeout(PATIENCE, seen).await.unwrap();
    dialling.abort();
    seen
}

/// All that comes before it stays quiet.
async fn bytes_back(socket: &UdpSocket) -> usize {
    let (mut bytes, mut back) = ([0; 2048], 0);
    while let Ok(received) = timeout(QUIET, socket.recv(&mut bytes)).await {
        back += received.unwrap();
    }
    back
}
