//! How a daemon shows a tracker that it is at an address of the other IP family, over real sockets, and
//! what does not show that.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::net::{Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;
use warren_net::Identity;
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::nat::{ADDRESS_TOKEN, AddressProof, Proven, SESSION};
use warren_proto::swarm::Shape;
use warren_proto::wire::{CandidateKind, FromTracker, MemberState, SessionName, ToTracker};
use warren_tracker::{Config, Tracker};

mod common;

use common::{Session, any, within};

const SWARM: SwarmId = SwarmId([7; 32]);

#[tokio::test]
async fn who_proves_an_address_is_told_of_by_both() {
    let Some(tracker) = start() else { return };
    let mut daemon = Daemon::connect(&tracker).await;
    let socket = v6_socket().await;
    let proven = daemon.ask(&socket).await;
    assert_eq!(proven.address, socket.local_addr().unwrap());
    daemon.prove(proven).await;
    let seen = [daemon.session.endpoint.local_addr(), proven.address];
    assert_eq!(told_of(&tracker, &mut daemon).await, seen);
}

#[tokio::test]
async fn a_token_that_nobody_has_issued_shows_nothing() {
    let Some(tracker) = start() else { return };
    let mut daemon = Daemon::connect(&tracker).await;
    let proven = daemon.ask(&v6_socket().await).await;
    let token = [0; 16];
    daemon.prove(Proven { token, ..proven }).await;
    let alone = [daemon.session.endpoint.local_addr()];
    assert_eq!(told_of(&tracker, &mut daemon).await, alone);
}

#[tokio::test]
async fn a_token_shows_nothing_about_another_address() {
    let Some(tracker) = start() else { return };
    let mut daemon = Daemon::connect(&tracker).await;
    let victim = v6_socket().await.local_addr().unwrap();
    let proven = daemon.ask(&v6_socket().await).await;
    daemon
        .prove(Proven {
            address: victim,
            ..proven
        })
        .await;
    let elsewhere = "[2001:db8::66]:5000".parse().unwrap();
    daemon
        .prove(Proven {
            address: elsewhere,
            ..proven
        })
        .await;
    let alone = [daemon.session.endpoint.local_addr()];
    assert_eq!(told_of(&tracker, &mut daemon).await, alone);
}

#[tokio::test]
async fn the_token_of_another_session_shows_nothing() {
    let Some(tracker) = start() else { return };
    let identity = Identity::generate().unwrap();
    let mut other = Daemon::connect(&tracker).await;
    let mut before = Daemon::connect_as(&tracker, &identity).await;
    let socket = v6_socket().await;
    let stolen = other.ask(&socket).await;
    let stale = before.ask(&socket).await;
    before.prove(stale).await;
    assert_eq!(told_of(&tracker, &mut before).await.len(), 2);
    // The same daemon connects anew: neither another's token counts, nor what it has shown before.
    let mut daemon = Daemon::connect_as(&tracker, &identity).await;
    assert_ne!(daemon.name(), before.name());
    for proven in [stolen, stale] {
        daemon.prove(proven).await;
    }
    let alone = [daemon.session.endpoint.local_addr()];
    assert_eq!(told_of(&tracker, &mut daemon).await, alone);
}

#[tokio::test]
async fn an_address_of_the_family_of_the_connection_is_no_other_one() {
    let Some(tracker) = start() else { return };
    let mut daemon = Daemon::connect(&tracker).await;
    let socket = UdpSocket::bind(any()).await.unwrap();
    let proven = ask(&socket, tracker.local_addrs()[0], daemon.name()).await;
    daemon.prove(proven).await;
    let alone = [daemon.session.endpoint.local_addr()];
    assert_eq!(told_of(&tracker, &mut daemon).await, alone);
}

#[tokio::test]
async fn no_answer_with_a_token_is_longer_than_its_request_and_shorter_ones_are_rationed() {
    let Some(tracker) = start() else { return };
    let (socket, server) = (v6_socket().await, tracker.local_addrs()[1]);
    let name = [[0xda, 0xcc, 0, 16], [7; 4], [7; 4], [7; 4], [7; 4]].concat();
    let bare = request(&name);
    for _ in 0..200 {
        socket.send_to(&bare, server).await.unwrap();
    }
    // Who makes room for it gets one all the same.
    let padded = request(&[&[0x80, 0x22, 0, 20][..], &[0; 20], &name].concat());
    socket.send_to(&padded, server).await.unwrap();
    let mut without = 0;
    let with = loop {
        match receive(&socket).await {
            answer if answer.len() == 44 => without += 1,
            answer => break answer,
        }
    };
    assert!((1..200).contains(&without), "{without} of 200");
    assert_eq!((with.len(), padded.len()), (64, 64));
    assert_eq!(with[44..46], ADDRESS_TOKEN.to_be_bytes());
    assert_eq!(name[..2], SESSION.to_be_bytes());
}

/// By IPv4 first, then by IPv6; `None` where there is none of that.
fn start() -> Option<Running> {
    std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).ok()?;
    let home = tempfile::tempdir().unwrap();
    let listen = vec![any(), (Ipv6Addr::LOCALHOST, 0).into()];
    let config = Config {
        stun_listen: listen.clone(),
        listen,
        relay_bits_per_s: None,
        shape: Shape::default(),
        ..Config::new(home.path().to_owned())
    };
    let tracker = Tracker::start(config).unwrap();
    Some(Running {
        tracker,
        _home: home,
    })
}

struct Running {
    tracker: Tracker,
    _home: tempfile::TempDir,
}

impl std::ops::Deref for Running {
    type Target = Tracker;

    fn deref(&self) -> &Tracker {
        &self.tracker
    }
}

async fn v6_socket() -> UdpSocket {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap()
}

/// The addresses at which others are told that a daemon was seen.
async fn told_of(tracker: &Tracker, daemon: &mut Daemon) -> Vec<SocketAddr> {
    let mut other = Daemon::connect(tracker).await;
    let peer = daemon.key;
    daemon.announce().await;
    other.announce().await;
    other
        .say(&ToTracker::Introduce { swarm: SWARM, peer })
        .await;
    loop {
        if let FromTracker::Rendezvous(rendezvous) = other.next().await {
            let seen = rendezvous.candidates.iter();
            let seen = seen.filter(|it| it.kind == CandidateKind::ServerReflexive);
            return seen.map(|it| it.address).collect();
        }
    }
}

struct Daemon {
    key: PublicKey,
    session: Session,
}

impl Daemon {
    async fn connect(tracker: &Tracker) -> Daemon {
        Daemon::connect_as(tracker, &Identity::generate().unwrap()).await
    }

    async fn connect_as(tracker: &Tracker, identity: &Identity) -> Daemon {
        Daemon {
            key: identity.public_key(),
            session: Session::connect(tracker, identity).await,
        }
    }

    fn name(&self) -> SessionName {
        match self.session.welcome {
            FromTracker::Welcome { session, .. } => session,
            ref other => panic!("{other:?}"),
        }
    }

    /// Gets a token where the welcome says.
    async fn ask(&mut self, socket: &UdpSocket) -> Proven {
        let server = match self.session.welcome {
            FromTracker::Welcome { other_family, .. } => other_family.unwrap(),
            ref other => panic!("{other:?}"),
        };
        ask(socket, server, self.name()).await
    }

    async fn say(&mut self, message: &ToTracker) {
        self.session.writer.send(message).await.unwrap();
    }

    async fn prove(&mut self, Proven { address, token }: Proven) {
        self.say(&ToTracker::Prove { address, token }).await;
    }

    /// Once it is answered, everything said before has been dealt with.
    async fn announce(&mut self) {
        self.say(&ToTracker::Announce {
            swarm: SWARM,
            state: MemberState::Leech,
            introductions: 0,
        })
        .await;
        while !matches!(self.next().await, FromTracker::Peers { .. }) {}
    }

    async fn next(&mut self) -> FromTracker {
        within(self.session.reader.recv()).await.unwrap().unwrap()
    }
}

/// What a daemon does.
async fn ask(socket: &UdpSocket, server: SocketAddr, session: SessionName) -> Proven {
    let now = std::time::Instant::now();
    let mut proof = AddressProof::new(now, server, session, rand::random()).unwrap();
    let request = proof.handle_timeout(now).unwrap();
    socket.send_to(&request.bytes, server).await.unwrap();
    let answer = receive(socket).await;
    assert!(answer.len() <= request.bytes.len());
    proof.handle_datagram(now, server, &answer);
    proof.poll_proven().unwrap()
}

/// A Binding request with these attributes.
fn request(attributes: &[u8]) -> Vec<u8> {
    let length = attributes.len() as u8;
    let header = [&[0, 1, 0, length, 0x21, 0x12, 0xa4, 0x42][..], &[9; 12]].concat();
    [&header, attributes].concat()
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = [0; 256];
    let (length, _) = within(socket.recv_from(&mut bytes)).await.unwrap();
    bytes[..length].to_vec()
}
