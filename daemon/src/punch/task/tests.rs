//! The task on real sockets of this machine, with a node that only listens.

use warren_net::{Identity, Profile, Protocol, Unsolicited};
use warren_proto::id::{RelayId, SwarmId};
use warren_proto::nat::check::{Check, Credentials};
use warren_proto::nat::{Charge, Transaction};
use warren_proto::proof::Side;
use warren_proto::wire::{Bounded, CandidateKind, NatFiltering, NatMapping, Paths, Rendezvous};

use tokio::net::UdpSocket;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::node;
use crate::portmap::{self, PortMapping};
use crate::punch::Meeting;
use crate::punch::relay::{Carrier, RelaySession};
use crate::tracker::{Line, TrackerId};

const VICTIM: PublicKey = PublicKey([1; 32]);
const MEMBER: PublicKey = PublicKey([2; 32]);

/// What takes the longest to happen here.
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_nomination_from_a_forged_address_takes_no_path_from_another_peer() {
    let mut bench = Bench::new();
    let theirs = ([203, 0, 113, 7], 5000).into();
    let socket = bench.puncher.endpoint.socket().clone();
    let victim = socket.route(&VICTIM, Class::Direct);
    assert!(socket.admit(victim, theirs) && socket.point(victim, theirs));
    let meeting = bench.meeting(Side::Server, Vec::new(), None);
    bench.puncher.meet(Instant::now(), &meeting).await;
    let member = socket.route(&MEMBER, Class::Direct);

    bench.nominate(&meeting, 1, theirs).await;
    assert_eq!(socket.path_of(victim), Some(theirs));
    assert_eq!(socket.path_of(member), None);
    let own = ([203, 0, 113, 8], 5000).into();
    bench.nominate(&meeting, 2, own).await;
    assert_eq!(socket.path_of(member), Some(own), "where nobody else is");
}

#[tokio::test]
async fn the_survey_sends_to_an_address_that_does_not_answer_what_others_may() {
    let mut bench = Bench::new();
    let question = |charge| Transmit {
        via: MAIN,
        to: ([203, 0, 113, 7], 5000).into(),
        bytes: vec![0; 44],
        ttl: None,
        charge,
    };
    let mut may = |charge| bench.puncher.may_send(&question(charge), Owner::Survey);
    let sent = (0..100).filter(|_| may(Charge::Unasked)).count();
    assert_eq!(sent, 3_000 / (44 + 28));
    assert!(may(Charge::Free), "a question to the tracker");
}

/// What answers here is a STUN server and no more.
#[tokio::test]
async fn where_checks_pass_and_quic_does_not_the_relay_is_taken() {
    let bench = Bench::new();
    let (peer, tracker) = (socket().await, socket().await);
    let at = |socket: &UdpSocket| socket.local_addr().unwrap();
    let meeting = bench.meeting(Side::Client, vec![at(&peer)], Some(at(&tracker)));
    tokio::spawn(answer_checks(peer, Credentials::of(&meeting.rendezvous)));
    let (orders, taken) = mpsc::channel(1);
    orders.send(Order::Meet(Box::new(meeting))).await.unwrap();
    tokio::spawn(bench.puncher.run(taken));
    let mut bytes = [0; 2048];
    let relayed = timeout(DEADLINE, tracker.recv(&mut bytes)).await;
    relayed.expect("by the relay").unwrap();
    assert_eq!(bytes[..16], [&[0x30, 0, 0, 0][..], &[7; 12]].concat());
}

#[tokio::test]
async fn a_handshake_outlives_its_attempt_and_no_other_ends_it() {
    let mut bench = Bench::new();
    let tracker = socket().await;
    let at = tracker.local_addr().unwrap();
    let meeting = bench.meeting(Side::Client, Vec::new(), Some(at));
    let puncher = &mut bench.puncher;
    // Nothing to check: the relay is dialled at once.
    puncher.meet(Instant::now(), &meeting).await;
    let direct = Dialling {
        attempt: 1,
        task: puncher.dialling_relay[&MEMBER].1.clone(),
        patience: Instant::now(),
    };
    puncher.dialling.insert(MEMBER, direct);
    puncher.close_attempt(1).await;
    assert_eq!(puncher.dialling_relay.len(), 1);
    assert_eq!(puncher.dialling.len(), 1);
    assert!(puncher.fading.is_empty(), "both routes are in use");

    let failed = |attempt, class| Dialled {
        attempt,
        peer: MEMBER,
        class,
        is_connected: false,
    };
    for class in [Class::Direct, Class::Relay] {
        puncher.handle_dialled(failed(2, class)).await;
    }
    assert_eq!(puncher.dialling_relay.len(), 1);
    assert_eq!(puncher.dialling.len(), 1);
    for class in [Class::Direct, Class::Relay] {
        puncher.handle_dialled(failed(1, class)).await;
    }
    assert!(puncher.dialling_relay.is_empty() && puncher.dialling.is_empty());
    assert_eq!(puncher.fading.len(), 2);
}

#[tokio::test]
async fn the_last_attempt_ends_a_relay_route_that_another_had() {
    let mut bench = Bench::new();
    let tracker = socket().await.local_addr().unwrap();
    let with = bench.meeting(Side::Server, Vec::new(), Some(tracker));
    let mut without = bench.meeting(Side::Server, Vec::new(), None);
    without.rendezvous.id = [8; 10];
    let puncher = &mut bench.puncher;
    puncher.meet(Instant::now(), &with).await;
    puncher.meet(Instant::now(), &without).await;
    let relay = puncher.endpoint.socket().route(&MEMBER, Class::Relay);
    puncher.close_attempt(1).await;
    assert!(!puncher.fading.contains_key(&relay), "they still meet");
    puncher.close_attempt(2).await;
    assert!(puncher.fading.contains_key(&relay));
}

pub(super) struct Bench {
    pub(super) puncher: Puncher,
    pub(super) events: mpsc::Receiver<NodeEvent>,
}

impl Bench {
    pub(super) fn new() -> Bench {
        let any = ([127, 0, 0, 1], 0).into();
        let identity = Identity::generate().unwrap();
        let (profile, unsolicited) = (Profile::Daemon, Unsolicited::OnlyAdmitted);
        let endpoint =
            Endpoint::bind_with(any, &identity, &[Protocol::Peer], profile, unsolicited).unwrap();
        let (node, events) = node::channel();
        let stop = CancellationToken::new();
        let (ports, _) = portmap::start(PortMapping::Off, any, node.clone(), stop);
        let records = Arc::default();
        Bench {
            puncher: Puncher::new(endpoint, node, records, Vec::new(), ports),
            events,
        }
    }

    /// What the node is told next about paths.
    pub(super) async fn next(&mut self) -> PathNews {
        loop {
            let next = timeout(DEADLINE, self.events.recv()).await;
            if let NodeEvent::Path(news) = next.unwrap().unwrap() {
                return news;
            }
        }
    }

    fn meeting(
        &self,
        side: Side,
        candidates: Vec<SocketAddr>,
        tracker: Option<SocketAddr>,
    ) -> Meeting {
        let candidates = candidates.into_iter().map(|address| Candidate {
            kind: CandidateKind::Host,
            address,
        });
        let rendezvous = Rendezvous {
            id: [7; 10],
            secret: [9; 32],
            swarm: SwarmId([0; 32]),
            peer: MEMBER,
            candidates: Bounded::truncated(candidates),
            mapping: NatMapping::EndpointIndependent,
            filtering: NatFiltering::PortDependent,
            wait_ms: 0,
            paths: Paths::Any,
            relay: tracker.map(|_| RelayId([7; 12])),
        };
        let own = TrackerId(0);
        let relay = tracker.and_then(|tracker| {
            let rtt = Duration::from_millis(10);
            RelaySession::new(&rendezvous, own, Carrier::Udp(tracker), rtt)
        });
        let (words, _) = mpsc::channel(1);
        Meeting {
            line: Line::new(own, rendezvous.id, words),
            rendezvous,
            side,
            relay,
            is_direct: true,
            advice: None,
        }
    }

    /// The peer of the meeting says that it is to be answered at `from`.
    async fn nominate(&mut self, meeting: &Meeting, number: u8, from: SocketAddr) {
        let credentials = Credentials::of(&meeting.rendezvous);
        let nomination = credentials.encode_nomination(Transaction([number; 12]));
        let datagram = Datagram {
            from,
            via: Via::MAIN,
            local_ip: None,
            bytes: nomination.into(),
        };
        self.puncher.handle_datagram(datagram).await;
    }
}

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

async fn answer_checks(socket: UdpSocket, credentials: Credentials) {
    let mut bytes = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
        if let Ok(Check::Request { transaction, .. }) = credentials.decode(&bytes[..length]) {
            let answer = credentials.encode_answer(transaction, from);
            socket.send_to(&answer, from).await.unwrap();
        }
    }
}
