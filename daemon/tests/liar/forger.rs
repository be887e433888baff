//! A tracker that forges introductions, to make a daemon send packets to somebody who did not ask.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    sync::mpsc,
    time::{sleep, timeout},
};
use warren_net::{Connection, Endpoint, FrameReader, FrameWriter, Identity, Profile, Protocol};
use warren_proto::{
    id::{PublicKey, RelayId, SwarmId, TrackerPin},
    nat::{
        Transaction,
        check::{Credentials, request_transaction_of},
    },
    proof::Side,
    wire::{
        Bounded, Candidate, CandidateKind, FromTracker, Hello, NatFiltering, NatMapping, Paths,
        Rendezvous, ToTracker,
    },
};

use crate::{DEADLINE, daemon::Daemon};

/// What one IP address that does not answer may get in a minute, with the headers of IPv4 and UDP.
const VICTIM_BYTES: usize = 3_000;
const HEADER_BYTES: usize = 28;

/// Longer than all checks of an attempt take.
const ATTEMPT: Duration = Duration::from_secs(6);

/// How long an answer to a check may take here.
const ANSWER: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn forged_introductions_cost_a_victim_3_kb_at_most() {
    let mut forger = Forger::start().await;
    let victims = [victim().await, victim().await];
    for n in 0..40 {
        let places = victims
            .each_ref()
            .map(|victim| victim.local_addr().unwrap());
        forger.introduce(n, &places).await;
    }
    let counted = victims.map(|victim| tokio::spawn(count(victim)));
    let mut bytes = 0;
    for count in counted {
        bytes += count.await.unwrap();
    }
    assert!(bytes > 0, "the introductions were not believed at all");
    assert!(bytes <= VICTIM_BYTES, "{bytes} bytes");
    forger.daemon.stop().await;
}

/// Where a tracker says that we are, we test whether our NAT hairpins.
#[tokio::test(flavor = "multi_thread")]
async fn forged_stun_answers_cost_a_victim_no_more_than_that_with_introductions() {
    let victim = victim().await;
    let at = victim.local_addr().unwrap();
    let mut forger = Forger::start_with(Paths::Any, Some(at)).await;
    for n in 0..10 {
        forger.introduce(n, &[at]).await;
    }
    let bytes = count(victim).await;
    assert!(bytes > 0, "nothing was believed at all");
    assert!(bytes <= VICTIM_BYTES, "{bytes} bytes");
    forger.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_trickle_points_no_guess_at_another_ip_address() {
    let mut forger = Forger::start().await;
    let named = victim().await;
    let victim = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let met = forger.introduce(1, &[named.local_addr().unwrap()]).await;
    for mapping in [
        NatMapping::Random {
            low: 1024,
            high: 65_535,
        },
        NatMapping::Sequential { step: 1 },
        NatMapping::EndpointIndependent,
    ] {
        let trickled = FromTracker::Trickled {
            id: met.id,
            address: victim.local_addr().unwrap(),
            mapping,
        };
        forger.said.send(trickled).await.unwrap();
    }
    assert_eq!(count(victim).await, 0);
    forger.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_second_address_costs_a_victim_3_kb_at_most() {
    let place = tempfile::Builder::new().prefix("w").tempdir().unwrap();
    let identity = Identity::generate().unwrap();
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let endpoint = Endpoint::bind(any, &identity, &[Protocol::Tracker], Profile::Tracker).unwrap();
    let victim = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let alternate = victim.local_addr().unwrap();
    let served = endpoint.clone();
    // Each connection has the daemon measure anew.
    let serving = tokio::spawn(async move {
        for _ in 0..16 {
            let connection = served.accept().await.unwrap().complete().await.unwrap();
            let _streams = greet_with(&connection, None, Some(alternate)).await;
            sleep(Duration::from_millis(800)).await;
            connection.close(0, "again");
        }
    });
    let pin = TrackerPin::of(&identity.public_key());
    let address = endpoint.local_addr().to_string();
    let daemon = Daemon::start_with(place.path(), 1, (address, pin), Paths::Any).await;
    let bytes = count(victim).await;
    serving.await.unwrap();
    assert!(bytes > VICTIM_BYTES / 2, "it was hardly believed: {bytes}");
    assert!(bytes <= VICTIM_BYTES, "{bytes} bytes");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_is_answered_only_if_it_is_authenticated() {
    let mut forger = Forger::start().await;
    let stranger = victim().await;
    let met = forger.introduce(1, &[]).await;
    let right = Credentials::of(&met);
    let wrong = Credentials::new(&met.id, &[9; 32]);
    let transaction = |n| Transaction([n; 12]);
    let mut unsigned = right.encode_request(transaction(1), Side::Client);
    unsigned.truncate(unsigned.len() - 24);
    let length = unsigned.len() as u16 - 20;
    unsigned[2..4].copy_from_slice(&length.to_be_bytes());
    for (what, bytes) in [
        ("without integrity", unsigned),
        (
            "of another secret",
            wrong.encode_request(transaction(2), Side::Client),
        ),
        (
            "of nobody",
            Credentials::new(&[8; 10], &[9; 32]).encode_request(transaction(3), Side::Client),
        ),
        (
            "of its own side",
            right.encode_request(transaction(4), met.side),
        ),
    ] {
        stranger.send_to(&bytes, forger.there).await.unwrap();
        assert_eq!(answer(&stranger).await, None, "a check {what}");
    }
    let good = right.encode_request(transaction(5), met.side.other());
    stranger.send_to(&good, forger.there).await.unwrap();
    assert!(answer(&stranger).await.is_some(), "to what is right");
    stranger.send_to(&good, forger.there).await.unwrap();
    // A copy of it may come from anywhere. What still comes are the daemon's own checks.
    while let Some(bytes) = answer(&stranger).await {
        assert_eq!(bytes[..2], [0, 1], "a copy was answered");
    }
    forger.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_reached_through_a_tracker_alone_sends_nothing_wherever_it_is_told_to() {
    let mut forger = Forger::start_with(Paths::RelayOnly, None).await;
    let named = victim().await;
    let stranger = victim().await;
    let at = named.local_addr().unwrap();
    let met = forger.introduce(1, &[at]).await;
    let trickled = FromTracker::Trickled {
        id: met.id,
        address: at,
        mapping: NatMapping::EndpointIndependent,
    };
    forger.said.send(trickled).await.unwrap();
    let right = Credentials::of(&met);
    let side = met.side.other();
    let good = right.encode_request(Transaction([5; 12]), side);
    stranger.send_to(&good, forger.there).await.unwrap();
    let counted = [named, stranger].map(|victim| tokio::spawn(count(victim)));
    for count in counted {
        assert_eq!(count.await.unwrap(), 0);
    }
    forger.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_allows_it_sends_through_the_tracker() {
    for (paths, sends) in [
        (Paths::Any, true),
        (Paths::RelayOnly, true),
        (Paths::DirectOnly, false),
    ] {
        let mut forger = Forger::start_with(paths, None).await;
        let mut relayed = forger.endpoint.socket().take_relay();
        // The daemon is to dial those with an even number.
        forger.introduce(254, &[]).await;
        let batch = timeout(ATTEMPT, relayed.recv()).await;
        let id = batch.ok().flatten().map(|batch| batch.id);
        assert_eq!(id, sends.then_some(RelayId([254; 12])), "{paths:?}");
        forger.daemon.stop().await;
    }
}

/// A forging tracker and the daemon that trusts it.
struct Forger {
    daemon: Daemon,
    swarm: SwarmId,
    /// Where the daemon is.
    there: SocketAddr,
    said: mpsc::Sender<FromTracker>,
    _place: tempfile::TempDir,
    endpoint: Endpoint,
    /// Its other port of STUN.
    _other: Endpoint,
}

impl Forger {
    /// Waits until the daemon has announced a share.
    async fn start() -> Forger {
        Forger::start_with(Paths::Any, None).await
    }

    /// The same with a daemon that is reached by these paths alone. Whoever asks by STUN is told to be
    /// at `named`.
    async fn start_with(paths: Paths, named: Option<SocketAddr>) -> Forger {
        let place = tempfile::Builder::new().prefix("w").tempdir().unwrap();
        let identity = Identity::generate().unwrap();
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let endpoint =
            Endpoint::bind(any, &identity, &[Protocol::Tracker], Profile::Tracker).unwrap();
        let other = Endpoint::bind(any, &identity, &[], Profile::Tracker).unwrap();
        let stun_port = other.local_addr().port();
        if let Some(named) = named {
            answer_stun(&endpoint, named);
            answer_stun(&other, named);
        }
        let (said, to_say) = mpsc::channel(64);
        let (announced, mut swarms) = mpsc::channel(1);
        tokio::spawn(serve(endpoint.clone(), stun_port, to_say, announced));
        let pin = TrackerPin::of(&identity.public_key());
        let address = endpoint.local_addr().to_string();
        let daemon = Daemon::start_with(place.path(), 1, (address, pin), paths).await;
        let file = place.path().join("file");
        std::fs::write(&file, "what is shared").unwrap();
        daemon.register(&file).await;
        let announced = timeout(DEADLINE, swarms.recv()).await.expect("in time");
        let (there, swarm) = announced.unwrap();
        Forger {
            daemon,
            swarm,
            there,
            said,
            _place: place,
            endpoint,
            _other: other,
        }
    }

    /// Introduces somebody who does not exist, at these addresses.
    async fn introduce(&mut self, n: u8, places: &[SocketAddr]) -> Rendezvous {
        let candidates = places.iter().map(|address| Candidate {
            kind: CandidateKind::ServerReflexive,
            address: *address,
        });
        let rendezvous = Rendezvous {
            id: [n; 10],
            secret: [n; 32],
            swarm: self.swarm,
            peer: PublicKey([n; 32]),
            side: if n.is_multiple_of(2) {
                Side::Client
            } else {
                Side::Server
            },
            candidates: Bounded::truncated(candidates),
            mapping: NatMapping::EndpointIndependent,
            filtering: NatFiltering::PortDependent,
            wait_ms: 0,
            paths: Paths::Any,
            relay: Some(RelayId([n; 12])),
        };
        let message = FromTracker::Rendezvous(rendezvous.clone());
        self.said.send(message).await.unwrap();
        // Until it has been read.
        sleep(Duration::from_millis(50)).await;
        rendezvous
    }
}

fn answer_stun(endpoint: &Endpoint, named: SocketAddr) {
    let socket = endpoint.socket().clone();
    let mut asked = socket.take_stun();
    tokio::spawn(async move {
        while let Some(request) = asked.recv().await {
            if let Some(transaction) = request_transaction_of(&request.bytes) {
                // The daemon looks for no integrity there.
                let answer = Credentials::new(&[0; 10], &[0; 32]);
                let answer = answer.encode_answer(transaction, named);
                socket.send_raw(&answer, request.from);
            }
        }
    });
}

async fn serve(
    endpoint: Endpoint,
    stun_port: u16,
    mut to_say: mpsc::Receiver<FromTracker>,
    announced: mpsc::Sender<(SocketAddr, SwarmId)>,
) {
    let connection = endpoint.accept().await.unwrap().complete().await.unwrap();
    let (mut reader, mut writer) = greet(&connection, stun_port).await;
    loop {
        tokio::select! {
            message = reader.recv() => match message {
                Ok(Some(ToTracker::Announce { swarm, .. })) => {
                    let peers = FromTracker::Peers {
                        swarm,
                        seeds: 1,
                        leeches: 0,
                        sample: Bounded::new(),
                    };
                    writer.send(&peers).await.unwrap();
                    let _ = announced.try_send((connection.remote_address(), swarm));
                }
                Ok(Some(_)) => (),
                Ok(None) | Err(_) => return,
            },
            Some(message) = to_say.recv() => writer.send(&message).await.unwrap(),
        }
    }
}

async fn greet(connection: &Connection, stun_port: u16) -> (FrameReader, FrameWriter) {
    greet_with(connection, Some(stun_port), None).await
}

/// Says that there is a second address.
async fn greet_with(
    connection: &Connection,
    stun_port: Option<u16>,
    alternate: Option<SocketAddr>,
) -> (FrameReader, FrameWriter) {
    let (send, receive) = connection.quinn().accept_bi().await.unwrap();
    let (reader, mut writer) = (FrameReader::new(receive), FrameWriter::new(send));
    for message in [
        FromTracker::Hello(Hello {
            version: 1,
            features: 0,
        }),
        FromTracker::Welcome {
            observed: connection.remote_address(),
            public: None,
            stun_port,
            alternate,
            other_family: None,
            session: [0; 16],
            announce_interval_s: 60,
            retry_after_s: 1,
        },
    ] {
        writer.send(&message).await.unwrap();
    }
    (reader, writer)
}

async fn victim() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// Bytes that arrive until nothing more does.
async fn count(victim: UdpSocket) -> usize {
    let (mut bytes, mut buffer) = (0, [0; 2048]);
    while let Ok(length) = timeout(ATTEMPT, victim.recv(&mut buffer)).await {
        bytes += length.unwrap() + HEADER_BYTES;
    }
    bytes
}

async fn answer(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    let length = timeout(ANSWER, socket.recv(&mut buffer)).await.ok()?;
    Some(buffer[..length.unwrap()].to_vec())
}
