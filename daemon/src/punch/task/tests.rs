//! The task on real sockets of this machine, with a node that only listens.

use warren_net::{Identity, Profile, Protocol, Unsolicited};
use warren_proto::id::{RelayId, SwarmId};
use warren_proto::nat::check::{Check, Credentials};
use warren_proto::nat::{Charge, Guessing, Hairpinning, PrimerHops, Transaction};
use warren_proto::proof::Side;
use warren_proto::wire::{Bounded, CandidateKind, NatFiltering, NatMapping, Paths, Rendezvous};

use tokio::net::UdpSocket;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::control::attempt::{self as control, Outcome, Reason};
use crate::node;
use crate::portmap::{self, PortMapping};
use crate::punch::Meeting;
use crate::punch::guess::Word;
use crate::punch::relay::{Carrier, RelaySession};
use crate::tracker::{Line, TrackerId};

const VICTIM: PublicKey = PublicKey([1; 32]);
const MEMBER: PublicKey = PublicKey([2; 32]);

const RANDOM: NatMapping = NatMapping::Random {
    low: 1024,
    high: 65535,
};

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

#[tokio::test]
async fn an_attempt_that_failed_is_recorded_with_both_nats_what_was_told_and_why() {
    let record = |change: fn(&mut Bench, &mut Meeting)| async move {
        let mut bench = Bench::new();
        bench.puncher.nat = Nat {
            mapping: NatMapping::Sequential { step: 1 },
            filtering: NatFiltering::PortDependent,
            hairpinning: Hairpinning::No,
            ..Nat::default()
        };
        let mut meeting = bench.meeting(Side::Server, vec![stranger()], None);
        change(&mut bench, &mut meeting);
        bench.puncher.meet(Instant::now(), &meeting).await;
        bench.run_ahead(Duration::from_secs(1)).await;
        bench.closed().await
    };
    let failed = record(|_, meeting| meeting.rendezvous.filtering = NatFiltering::Clashing).await;
    assert_eq!(
        (failed.outcome, failed.reason),
        (Outcome::NoPath, Some(Reason::NoAnswer))
    );
    assert!(failed.checks > 0 && failed.candidates == 1);
    assert_eq!(failed.candidate_kinds, [control::CandidateKind::Host]);
    let theirs = (failed.mapping.as_str(), failed.filtering.as_str());
    assert_eq!(theirs, ("endpoint-independent", "clashing"));
    let ours = (failed.our_mapping.as_str(), failed.our_filtering.as_str());
    assert_eq!(ours, ("sequential", "port-dependent"));
    assert_eq!(failed.our_hairpinning, Some(false));

    let spent = record(|bench, _| {
        let all = |bench: &mut Bench| {
            bench
                .puncher
                .allowance
                .take(Instant::now(), stranger(), 100)
        };
        while all(bench) {}
    });
    let spent = spent.await;
    assert_eq!((spent.reason, spent.checks), (Some(Reason::Budget), 0));
    let relayed = record(|_, meeting| meeting.is_direct = false).await;
    assert_eq!(relayed.reason, Some(Reason::RelayOnly));
    let unknown = record(|_, meeting| meeting.rendezvous.candidates = Bounded::truncated([])).await;
    assert_eq!(unknown.reason, Some(Reason::NoCandidates));
}

#[tokio::test]
async fn an_attempt_that_guessed_is_recorded_with_its_technique_and_what_ended_it() {
    for (says_its_word, expected) in [(true, Reason::NoAnswer), (false, Reason::NoTrickle)] {
        let mut bench = Bench::new();
        let meeting = bench.guess(Instant::now());
        if says_its_word {
            bench.say_word(&meeting).await;
        }
        bench.run_ahead(Duration::from_secs(6)).await;
        let record = bench.closed().await;
        assert_eq!(
            (record.outcome, record.reason),
            (Outcome::NoPath, Some(expected))
        );
        assert_eq!(record.mapping, "random");
        let technique = match says_its_word {
            true => control::Technique::Birthday,
            false => control::Technique::Checks,
        };
        let shown = (record.technique, record.checks > 800);
        assert_eq!(shown, (technique, says_its_word), "{record:?}");
    }
}

#[tokio::test]
async fn of_two_daemons_one_guesses_at_a_time_and_both_have_room_for_one_large_guess() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("guessing");
    let [mut ours, mut theirs] = [(); 2].map(|()| Bench::on_host(path.clone()));
    let now = Instant::now();
    let [meeting, _] = [ours.guess(now), theirs.guess(now)];
    assert!(ours.is_let_through().await && !theirs.is_let_through().await);
    let due = theirs.puncher.poll_timeout();
    assert!(
        due <= Instant::now() + Duration::from_millis(50),
        "it asks again"
    );
    // Without a word from the peer nothing is sent, and nobody needs to wait for us.
    ours.closed().await;
    assert!(!ours.is_let_through().await && theirs.until_let_through().await);

    theirs.say_word(&meeting).await;
    theirs.run_ahead(Duration::from_secs(2)).await;
    assert!(theirs.closed().await.checks > 800);
    assert!(!theirs.is_let_through().await);
    ours.guess(now);
    assert!(!ours.until_let_through().await, "no room in the NAT");
    // Nor does it keep others from a guess for which there is room.
    assert!(!ours.puncher.host_turn.is_held());
}

#[tokio::test]
async fn a_daemon_that_dies_leaves_the_turn_to_others() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("guessing");
    let [mut ours, mut theirs] = [(); 2].map(|()| Bench::on_host(path.clone()));
    ours.guess(Instant::now());
    theirs.guess(Instant::now());
    assert!(ours.is_let_through().await && !theirs.is_let_through().await);
    drop(ours);
    // As if what it was about to send had been long ago.
    std::fs::write(&path, "").unwrap();
    assert!(theirs.until_let_through().await);
}

pub(super) struct Bench {
    pub(super) puncher: Puncher,
    pub(super) events: mpsc::Receiver<NodeEvent>,
}

impl Bench {
    pub(super) fn new() -> Bench {
        // Nobody shares what is nowhere.
        Bench::on_host("/nowhere/guessing".into())
    }

    /// With the daemons that guess by the same lock.
    fn on_host(guessing: std::path::PathBuf) -> Bench {
        let host_turn = HostTurn::new(guessing, rand::random());
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
            puncher: Puncher::new(endpoint, node, records, Vec::new(), ports, host_turn),
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
            side,
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
            relay,
            is_direct: true,
            advice: None,
        }
    }

    /// An attempt, number 1, that sprays checks at a peer that maps at random, once that has said its word.
    fn guess(&mut self, now: Instant) -> Meeting {
        let mut meeting = self.meeting(Side::Client, Vec::new(), None);
        meeting.rendezvous.mapping = RANDOM;
        meeting.rendezvous.candidates = Bounded::truncated([Candidate {
            kind: CandidateKind::ServerReflexive,
            address: stranger(),
        }]);
        let own = Guessing {
            mapping: NatMapping::EndpointIndependent,
            dependence: None,
            filtering: NatFiltering::PortDependent,
            primer_hops: PrimerHops::LEAST,
            reflexive: ([198, 51, 100, 9], 6000).into(),
            stun: ([192, 0, 2, 1], 59000).into(),
            advice: None,
            has_ipv6: false,
        };
        let route = self.puncher.endpoint.socket().route(&MEMBER, Class::Direct);
        let attempt = Attempt::new(now, &meeting, Nat::default(), route, Duration::ZERO);
        let attempt = attempt.guessing(&meeting.rendezvous, Some(own));
        self.puncher.attempts.insert(1, attempt);
        meeting
    }

    /// Whether the attempt guesses after another look.
    async fn is_let_through(&mut self) -> bool {
        let now = Instant::now();
        self.puncher.time_attempts(now).await;
        self.puncher.let_through(now).await;
        self.puncher.turnstile.current().is_some()
    }

    /// The same once it may ask again.
    async fn until_let_through(&mut self) -> bool {
        let asks = self.puncher.next_host_turn();
        tokio::time::sleep_until(asks.unwrap_or_else(Instant::now).into()).await;
        self.is_let_through().await
    }

    async fn say_word(&mut self, meeting: &Meeting) {
        let word = Word {
            tracker: meeting.line.tracker(),
            id: meeting.rendezvous.id,
            address: stranger(),
            mapping: RANDOM,
        };
        self.puncher.hear(Instant::now(), &word).await;
    }

    /// What happens by itself within this time, at once.
    async fn run_ahead(&mut self, time: Duration) {
        let begun = Instant::now();
        for step in (0..time.as_millis()).step_by(5) {
            let now = begun + Duration::from_millis(u64::try_from(step).unwrap());
            self.puncher.time_attempts(now).await;
            self.puncher.let_through(now).await;
        }
    }

    /// What is recorded of attempt 1, which ends.
    async fn closed(&mut self) -> control::Attempt {
        self.puncher.close_attempt(1).await;
        self.puncher.records.attempts().remove(0)
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

/// Somewhere nobody answers.
fn stranger() -> SocketAddr {
    ([203, 0, 113, 7], 5000).into()
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
