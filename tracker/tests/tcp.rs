//! A tracker and fake daemons that reach it by TLS over TCP, and those who mean it no good.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use warren_net::tls::{self, KeyVerifier};
use warren_net::{
    Endpoint, Expect, Identity, Link, LinkError, LinkReader, LinkWriter, Profile, Protocol,
    connect_tcp,
};
use warren_proto::id::{PublicKey, RelayId, SwarmId};
use warren_proto::swarm::{Shape, Transport};
use warren_proto::wire::{
    FromTracker, Hello, LinkFrame, MemberState, Rendezvous, ToTracker, encode,
};
use warren_tracker::{Config, StartError, Tracker};

mod common;

use common::{any, greet, within};

const SWARM: SwarmId = SwarmId([7; 32]);

#[tokio::test]
async fn the_port_of_udp_is_served_by_tcp_too_and_others_on_request() {
    // Somebody else may have the port that was free for UDP.
    let mut tries = (0..20).map(|_| start());
    let running = tries.find(|it| it.tracker.tcp_addrs().len() == 2);
    let running = running.unwrap();
    let tracker = &running.tracker;
    assert_eq!(tracker.tcp_addrs()[1], tracker.local_addrs()[0]);
    for addr in tracker.tcp_addrs() {
        let identity = Identity::generate().unwrap();
        let connection = connect_tcp(&identity, *addr, Expect::Key(tracker.key()));
        within(connection).await.unwrap();
    }
}

#[tokio::test]
async fn daemons_hear_of_each_other_whatever_they_connect_by() {
    let running = start();
    let mut by_udp = Daemon::connect(&running, Transport::Udp).await;
    by_udp.announce(MemberState::Seed, 0).await;
    let mut by_tcp = Daemon::connect(&running, Transport::Tcp).await;
    assert_eq!(by_tcp.observed.ip(), by_udp.observed.ip());
    by_tcp.announce(MemberState::Leech, 8).await;
    let (for_udp, for_tcp) = (by_udp.rendezvous().await, by_tcp.rendezvous().await);
    assert_eq!((for_udp.peer, for_tcp.peer), (by_tcp.key, by_udp.key));
    assert_eq!(for_udp.secret, for_tcp.secret);
    // Nobody is sent to the port of a TCP connection.
    let told: Vec<SocketAddr> = for_tcp.candidates.iter().map(|it| it.address).collect();
    assert_eq!(told, [by_udp.observed]);
    assert!(for_udp.candidates.is_empty(), "{for_udp:?}");
}

#[tokio::test]
async fn a_connection_by_udp_replaces_the_one_by_tcp() {
    let running = start();
    let mut other = Daemon::connect(&running, Transport::Tcp).await;
    other.announce(MemberState::Seed, 0).await;
    let identity = Identity::generate().unwrap();
    let mut first = Daemon::connect_as(&running, Transport::Tcp, &identity).await;
    first.announce(MemberState::Leech, 0).await;
    let mut second = Daemon::connect_as(&running, Transport::Udp, &identity).await;
    assert_eq!(first.close_code().await, 3);
    second.announce(MemberState::Leech, 0).await;
    assert!(matches!(other.next().await, FromTracker::Joined { .. }));
    assert!(matches!(other.next().await, FromTracker::Left { .. }));
    assert!(matches!(other.next().await, FromTracker::Joined { .. }));
}

#[tokio::test]
async fn who_disconnects_has_left() {
    let running = start();
    let mut stays = Daemon::connect(&running, Transport::Udp).await;
    stays.announce(MemberState::Leech, 0).await;
    let mut goes = Daemon::connect(&running, Transport::Tcp).await;
    goes.announce(MemberState::Leech, 0).await;
    assert!(matches!(stays.next().await, FromTracker::Joined { .. }));
    drop(goes);
    assert!(matches!(stays.next().await, FromTracker::Left { .. }));
}

#[tokio::test]
async fn a_shutdown_is_told() {
    let running = start();
    let mut daemon = Daemon::connect(&running, Transport::Tcp).await;
    let Running { tracker, _home } = running;
    let telling = tokio::spawn(tracker.shutdown());
    assert_eq!(daemon.close_code().await, 0);
    within(telling).await.unwrap();
}

#[tokio::test]
async fn who_says_no_hello_is_disconnected() {
    let running = start();
    let (identity, expect) = (Identity::generate().unwrap(), running.tracker.key());
    let silent = connect_tcp(&identity, running.tcp(), Expect::Key(expect));
    let silent = Link::Tcp(within(silent).await.unwrap());
    let (mut reader, _writer) = silent.control().await.unwrap();
    tokio::time::pause();
    let ended = reader.recv::<FromTracker>().await;
    assert!(
        matches!(ended, Err(LinkError::Closed { code: 1 })),
        "{ended:?}"
    );
}

#[tokio::test]
async fn who_breaks_the_protocol_is_disconnected_and_the_others_are_not() {
    let running = start();
    let mut well_behaved = Daemon::connect(&running, Transport::Tcp).await;
    let hello = encode(&ToTracker::Hello(Hello {
        version: 1,
        features: 0,
    }));
    let endless = vec![0xff; 64];
    let second_hello_too_long = [hello.clone(), vec![0, 1, 0, 1, 0, 1]].concat();
    let oversized = LinkFrame::Datagram {
        relay: RelayId([1; 12]),
        payload: vec![0; 60_000],
    };
    let datagram = [hello.clone(), encode(&oversized)].concat();
    let no_hello = encode(&ToTracker::Leave { swarm: SWARM });
    for bytes in [endless, second_hello_too_long, datagram, no_hello] {
        let mut stranger = stranger(&running).await;
        stranger.write_all(&bytes).await.unwrap();
        stranger.flush().await.unwrap();
        // Whatever is said before, it ends.
        let mut said = Vec::new();
        let _ = within(tokio::io::AsyncReadExt::read_to_end(
            &mut stranger,
            &mut said,
        ))
        .await;
    }
    well_behaved.announce(MemberState::Leech, 0).await;
}

#[tokio::test]
async fn who_does_not_read_the_news_is_disconnected() {
    let running = start();
    let mut noisy = Daemon::connect(&running, Transport::Udp).await;
    noisy.announce(MemberState::Leech, 0).await;
    let mut deaf = Daemon::connect(&running, Transport::Tcp).await;
    deaf.announce(MemberState::Leech, 0).await;
    // Each change is a frame of 73 bytes to the other; the kernel takes what fits into its buffers.
    for n in 0..40_000 {
        let state = match n % 2 {
            0 => MemberState::Seed,
            _ => MemberState::Leech,
        };
        let (seeds, leeches) = noisy.announce(state, 0).await;
        if seeds + leeches == 1 {
            return;
        }
    }
    panic!("it is still a member");
}

#[tokio::test]
async fn strangers_with_half_a_handshake_keep_nobody_out() {
    let running = start();
    let mut strangers = Vec::new();
    for n in 0..200 {
        let mut stranger = TcpStream::connect(running.tcp()).await.unwrap();
        let bytes: &[u8] = match n % 3 {
            0 => &[],
            1 => &[0x16, 3, 1, 2, 0, 1, 0],
            _ => b"GET / HTTP/1.1\r\n\r\n",
        };
        stranger.write_all(bytes).await.unwrap();
        strangers.push(stranger);
    }
    let mut daemon = Daemon::connect(&running, Transport::Tcp).await;
    daemon.announce(MemberState::Leech, 0).await;
}

#[tokio::test]
async fn a_tcp_port_that_is_taken_matters_only_when_it_was_asked_for() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let home = tempfile::tempdir().unwrap();
    let by_default = Config {
        listen: vec![addr],
        ..config(home.path(), vec![])
    };
    let tracker = Tracker::start(by_default).unwrap();
    assert_eq!(tracker.tcp_addrs(), []);
    let error = Tracker::start(config(home.path(), vec![addr])).unwrap_err();
    assert!(matches!(error, StartError::TcpListen(_)), "{error:?}");
    assert!(error.hint().unwrap().contains("--tcp"), "{error}");
}

struct Running {
    tracker: Tracker,
    _home: tempfile::TempDir,
}

impl Running {
    /// One of its TCP addresses.
    fn tcp(&self) -> SocketAddr {
        self.tracker.tcp_addrs()[0]
    }
}

fn start() -> Running {
    let home = tempfile::tempdir().unwrap();
    let tracker = Tracker::start(config(home.path(), vec![any()])).unwrap();
    Running {
        tracker,
        _home: home,
    }
}

fn config(home: &std::path::Path, tcp_listen: Vec<SocketAddr>) -> Config {
    Config {
        listen: vec![any()],
        tcp_listen,
        stun_listen: vec![any()],
        alt_addresses: vec![],
        also_at: vec![],
        public: None,
        relay_bits_per_s: Some(100_000_000),
        shape: Shape::default(),
        home: home.to_owned(),
    }
}

/// A TLS client that says what it likes.
async fn stranger(running: &Running) -> TlsStream<TcpStream> {
    let own = Identity::generate().unwrap();
    let verifier = KeyVerifier::new(Expect::Any);
    let config = tls::client_config(&own, Protocol::Tracker, verifier).unwrap();
    let stream = TcpStream::connect(running.tcp()).await.unwrap();
    let name = ServerName::try_from("warren").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.unwrap()
}

/// Speaks the daemon's side of the protocol, and nothing else.
struct Daemon {
    key: PublicKey,
    observed: SocketAddr,
    _link: Link,
    reader: LinkReader,
    writer: LinkWriter,
}

impl Daemon {
    async fn connect(running: &Running, by: Transport) -> Self {
        Self::connect_as(running, by, &Identity::generate().unwrap()).await
    }

    async fn connect_as(running: &Running, by: Transport, identity: &Identity) -> Self {
        let expect = Expect::Key(running.tracker.key());
        let link = match by {
            Transport::Udp => {
                let endpoint = Endpoint::bind(any(), identity, &[], Profile::Daemon).unwrap();
                let addr = running.tracker.local_addrs()[0];
                let connecting = endpoint.connect(addr, Protocol::Tracker, expect);
                Link::Quic(within(connecting).await.unwrap())
            }
            Transport::Tcp => {
                let connecting = connect_tcp(identity, running.tcp(), expect);
                Link::Tcp(within(connecting).await.unwrap())
            }
        };
        let (mut reader, writer) = greet(&link).await;
        let welcome = within(reader.recv()).await.unwrap();
        let Some(FromTracker::Welcome { observed, .. }) = welcome else {
            panic!("{welcome:?}");
        };
        let about = within(reader.recv()).await.unwrap();
        assert!(
            matches!(about, Some(FromTracker::About { .. })),
            "{about:?}"
        );
        Self {
            key: identity.public_key(),
            observed,
            _link: link,
            reader,
            writer,
        }
    }

    async fn next(&mut self) -> FromTracker {
        within(self.reader.recv()).await.unwrap().unwrap()
    }

    /// Announces, and returns the numbers of seeds and leeches. Other news is skipped.
    async fn announce(&mut self, state: MemberState, introductions: u8) -> (u32, u32) {
        let announce = ToTracker::Announce {
            swarm: SWARM,
            state,
            introductions,
        };
        self.writer.send(&announce).await.unwrap();
        loop {
            if let FromTracker::Peers { seeds, leeches, .. } = self.next().await {
                return (seeds, leeches);
            }
        }
    }

    async fn rendezvous(&mut self) -> Rendezvous {
        loop {
            if let FromTracker::Rendezvous(rendezvous) = self.next().await {
                return rendezvous;
            }
        }
    }

    /// The code with which the tracker closes, by TCP.
    async fn close_code(&mut self) -> u32 {
        loop {
            match within(self.reader.recv::<FromTracker>()).await {
                Ok(Some(_)) => (),
                Err(LinkError::Closed { code }) => return code,
                other => panic!("{other:?}"),
            }
        }
    }
}
