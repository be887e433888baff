//! What an attempt sends, to whom, and what it makes of what arrives.

use proptest::prelude::*;

use super::choice::LOCAL_PREFERENCE;
use super::*;
use crate::id::{PublicKey, SwarmId};
use crate::nat::check::{ANSWER_BYTES, NOMINATION_BYTES};
use crate::wire::{Bounded, Candidate, CandidateKind, NatFiltering, NatMapping, Paths};
use CandidateKind::{Host, PeerReflexive, ServerReflexive};

const OUTSIDE: &str = "203.0.113.7:5000";
const INSIDE: &str = "192.168.1.2:5000";
const INSIDE_2: &str = "10.1.2.3:5000";
const STRANGER: &str = "198.51.100.9:6000";

const FILTERINGS: [NatFiltering; 4] = [
    NatFiltering::Unknown,
    NatFiltering::PortIndependent,
    NatFiltering::PortDependent,
    NatFiltering::Clashing,
];

/// How many confirmations follow a choice.
const CHECKS_AFTER: usize = 3;

#[test]
fn nothing_is_sent_before_the_wait_is_over() {
    let rendezvous = Rendezvous {
        wait_ms: 40,
        paths: Paths::Any,
        relay: None,
        ..rendezvous(&[(ServerReflexive, OUTSIDE)])
    };
    let mut bench = Bench::new(&rendezvous);
    assert_eq!(bench.attempt.poll_timeout(), Some(bench.now + ms(40)));
    bench.attempt.handle_timeout(bench.now + ms(39));
    assert_eq!(bench.sent(), []);
    bench.attempt.handle_timeout(bench.now + ms(40));
    let hops: Vec<_> = bench.sent().iter().map(|transmit| transmit.ttl).collect();
    assert_eq!(hops, [Some(3), Some(5)]);
}

#[test]
fn ipv6_beside_ipv4_is_checked_at_once_whatever_the_nat_of_ipv4_does() {
    let v6 = "[2001:db8::7]:5000";
    for filtering in FILTERINGS {
        let rendezvous = Rendezvous {
            filtering,
            wait_ms: 40,
            ..rendezvous(&[(ServerReflexive, OUTSIDE), (ServerReflexive, v6)])
        };
        let mut bench = Bench::new(&rendezvous);
        bench.attempt.handle_timeout(bench.now);
        let sent = bench.sent();
        let v6: Vec<_> = sent.iter().filter(|it| it.to.is_ipv6()).collect();
        assert!(matches!(v6[..], [check] if check.ttl.is_none()), "{sent:?}");
    }
}

#[test]
fn where_there_is_ipv6_alone_its_nat_is_approached_as_it_needs() {
    let rendezvous = Rendezvous {
        filtering: NatFiltering::Clashing,
        ..rendezvous(&[(ServerReflexive, "[2001:db8::7]:5000")])
    };
    let mut bench = Bench::new(&rendezvous);
    bench.attempt.handle_timeout(bench.now);
    assert_eq!(bench.sent()[0].ttl, Some(2));
}

#[test]
fn what_is_not_authenticated_changes_nothing() {
    let mut bench = Bench::meeting(&[(ServerReflexive, OUTSIDE)]);
    let request = bench.sent().remove(0);
    let (due, wrong) = (
        bench.attempt.poll_timeout(),
        Credentials::new(&[5; 10], &[9; 32]),
    );
    let asked = asked(&request);
    let datagrams = [
        wrong.encode_request(asked, Side::Server),
        wrong.encode_answer(asked, address(STRANGER)),
        unsigned(bench.credentials.encode_request(asked, Side::Server)),
        unsigned(bench.credentials.encode_answer(asked, address(STRANGER))),
        vec![0; 20],
        Vec::new(),
    ];
    for bytes in datagrams {
        for from in [OUTSIDE, STRANGER] {
            bench.receive(from, &bytes);
        }
    }
    assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
    assert_eq!(bench.attempt.poll_timeout(), due);
}

#[test]
fn our_own_request_sent_back_from_elsewhere_changes_nothing() {
    let mut bench = Bench::meeting(&[(ServerReflexive, OUTSIDE)]);
    let own = bench.sent().remove(0).bytes;
    bench.receive(STRANGER, &own);
    assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
}

#[test]
fn a_copy_of_a_request_sent_on_from_elsewhere_changes_nothing() {
    let mut bench = Bench::meeting(&[(ServerReflexive, OUTSIDE)]);
    bench.sent();
    let request = bench.request(1);
    bench.receive(OUTSIDE, &request);
    assert_eq!(bench.sent().len(), 2, "an answer and a triggered check");
    bench.receive(STRANGER, &request);
    assert_eq!(bench.sent(), []);
}

#[test]
fn an_answer_proves_only_the_address_that_was_asked() {
    let mut bench = Bench::meeting(&[(ServerReflexive, OUTSIDE)]);
    let request = bench.sent().remove(0);
    let answer = bench.answer(&request);
    bench.receive(STRANGER, &answer);
    assert_eq!(bench.events(), []);
    bench.now += ms(30);
    bench.receive(OUTSIDE, &answer);
    assert_eq!(
        bench.events(),
        [PunchEvent::Proven(path(OUTSIDE, ServerReflexive, 30))]
    );
}

#[test]
fn a_request_from_an_unknown_address_is_answered_there_and_the_address_checked() {
    let mut bench = Bench::meeting(&[]);
    let request = bench.request(1);
    bench.receive(STRANGER, &request);
    let sent = bench.sent();
    let stranger = address(STRANGER);
    let answer = Check::Answer {
        transaction: transaction(1),
        mapped: stranger,
    };
    assert!(
        sent.iter()
            .all(|transmit| transmit.to == stranger && transmit.ttl.is_none())
    );
    assert_eq!(bench.credentials.decode(&sent[0].bytes), Ok(answer));
    assert!(sent[0].bytes.len() <= request.len());
    let answer = bench.answer(&sent[1]);
    bench.receive(STRANGER, &answer);
    let heard = PunchEvent::Heard {
        via: MAIN,
        remote: stranger,
    };
    let proven = PunchEvent::Proven(path(STRANGER, PeerReflexive, 0));
    assert_eq!(bench.events(), [heard, proven]);
}

#[test]
fn addresses_that_may_not_be_sent_to_are_not() {
    let forbidden = [
        "224.0.0.1:5000",
        "255.255.255.255:5000",
        "0.0.0.0:5000",
        "192.0.2.1:80",
    ];
    let mut bench = Bench::meeting(&forbidden.map(|address| (Host, address)));
    let request = bench.request(1);
    bench.receive("192.0.2.1:53", &request);
    bench.run_for(ms(6000));
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.events(), [PunchEvent::Failed]);
}

#[test]
fn a_forged_victim_gets_at_most_3_kb() {
    let ports: Vec<String> = (0..8).map(|n| format!("{}", 5000 + n)).collect();
    let victims: Vec<_> = ports
        .iter()
        .map(|port| format!("192.0.2.66:{port}"))
        .collect();
    let victims: Vec<_> = victims.iter().map(|v| (ServerReflexive, &v[..])).collect();
    for filtering in FILTERINGS {
        let mut bench = Bench::meeting_through(filtering, &victims);
        bench.run_for(ms(60_000));
        let sent = bench.sent();
        assert_eq!(bench.attempt.checks_sent(), sent.len());
        let bytes: usize = sent.iter().map(|transmit| transmit.bytes.len()).sum();
        assert!((1..=3000).contains(&bytes), "{bytes} bytes: {filtering:?}");
    }
}

#[test]
fn a_peer_that_forges_its_source_cannot_make_us_amplify_much_or_reach_many() {
    let mut bench = Bench::meeting(&[(ServerReflexive, OUTSIDE)]);
    let mut received = 0;
    for n in 0..2000u32 {
        let request = bench.request(n);
        received += request.len();
        bench.receive(&format!("192.0.2.{}:5000", n % 200), &request);
        bench.run_for(ms(5));
    }
    let mut per_address = BTreeMap::<SocketAddr, (usize, usize)>::new();
    let sent = bench.sent();
    for transmit in &sent {
        let (requests, answers) = per_address.entry(transmit.to).or_default();
        match bench.credentials.decode(&transmit.bytes).unwrap() {
            Check::Request { .. } => *requests += 1,
            Check::Answer { .. } => *answers += 1,
        }
    }
    assert_eq!(per_address.len(), 1 + LEARNT);
    for (requests, answers) in per_address.values() {
        assert!(*requests <= PROBES_PER_ADDRESS && *answers <= PROBES_PER_ADDRESS);
    }
    assert!(
        sent.iter()
            .map(|transmit| transmit.bytes.len())
            .sum::<usize>()
            < received
    );
}

#[test]
fn a_peer_that_asks_without_end_gets_24_answers() {
    let mut bench = Bench::meeting(&[(ServerReflexive, OUTSIDE)]);
    bench.prove(OUTSIDE);
    bench.sent();
    for n in 0..100 {
        let request = bench.request(n);
        bench.receive(OUTSIDE, &request);
    }
    let sizes: Vec<usize> = bench.sent().iter().map(|t| t.bytes.len()).collect();
    assert_eq!(sizes.len(), PROBES_PER_ADDRESS);
    assert!(sizes.iter().all(|size| *size <= ANSWER_BYTES));
}

#[test]
fn a_path_inside_the_network_is_preferred_for_50_ms() {
    for (after, chosen) in [(49, INSIDE), (50, OUTSIDE)] {
        let mut bench = Bench::meeting(&[(ServerReflexive, OUTSIDE), (Host, INSIDE)]);
        bench.prove(OUTSIDE);
        assert_eq!(bench.events(), []);
        bench.run_for(ms(after));
        bench.prove(INSIDE);
        let remotes = bench.proven();
        assert_eq!(remotes[0], address(chosen), "after {after} ms");
        assert_eq!(remotes.len(), 2);
    }
}

#[test]
fn without_a_candidate_inside_the_network_the_first_path_is_taken_at_once() {
    let mut bench = Bench::meeting(&[(ServerReflexive, OUTSIDE), (ServerReflexive, STRANGER)]);
    bench.prove(STRANGER);
    assert_eq!(bench.proven(), [address(STRANGER)]);
}

#[test]
fn three_more_checks_follow_a_success_and_answers_for_as_long_as_asked() {
    let mut bench = Bench::meeting(&[(ServerReflexive, OUTSIDE)]);
    bench.prove(OUTSIDE);
    let first = bench.sent().pop().expect("it went with the success");
    let answer = bench.answer(&first);
    bench.receive(OUTSIDE, &answer);
    bench.run_for(ms(60_000));
    assert_eq!(bench.sent().len(), 2);
    let request = bench.request(1);
    bench.receive(OUTSIDE, &request);
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn a_choice_that_nobody_answers_is_repeated_three_times_until_somebody_does() {
    for (answered, expected) in [(0, 6), (4, 4), (6, 6)] {
        let mut bench = Bench::meeting(&[(ServerReflexive, OUTSIDE)]);
        bench.sent();
        bench.prove(OUTSIDE);
        let mut nominations = 0;
        for _ in 0..100 {
            let sent = bench.sent();
            assert!(sent.iter().all(|it| bench.is_nomination(it)));
            nominations += sent.len();
            if nominations == answered && !sent.is_empty() {
                let answer = bench.answer(&sent[0]);
                bench.receive(OUTSIDE, &answer);
            }
            bench.run_for(ms(50));
        }
        assert_eq!(nominations, expected, "{answered}");
    }
}

#[test]
fn the_client_nominates_the_path_it_chose_at_once_and_twice_more() {
    let mut bench = Bench::meeting(&[(ServerReflexive, OUTSIDE), (ServerReflexive, STRANGER)]);
    bench.sent();
    assert!(!bench.attempt.is_proven());
    bench.prove(OUTSIDE);
    assert!(bench.attempt.is_proven());
    let mut sent = bench.sent();
    assert_eq!(bench.proven(), [address(OUTSIDE)]);
    assert!(bench.is_nomination(&sent[0]), "before the event is seen");
    bench.run_for(ms(100));
    sent.extend(bench.sent());
    let nominations = sent.iter().filter(|t| bench.is_nomination(t));
    let nominated: Vec<_> = nominations.map(|t| (t.to, t.bytes.len())).collect();
    assert_eq!(nominated, [(address(OUTSIDE), NOMINATION_BYTES); 3]);
}

#[test]
fn a_path_that_waited_for_a_local_one_is_nominated_when_chosen() {
    let mut bench = Bench::meeting(&[(ServerReflexive, OUTSIDE), (Host, INSIDE)]);
    bench.prove(OUTSIDE);
    assert!(!bench.attempt.is_proven());
    assert!(!bench.sent().iter().any(|t| bench.is_nomination(t)));
    bench.attempt.handle_timeout(bench.now + LOCAL_PREFERENCE);
    let nominated = bench.sent().into_iter().filter(|t| bench.is_nomination(t));
    let nominated: Vec<_> = nominated.map(|t| t.to).collect();
    assert_eq!(nominated, [address(OUTSIDE)]);
}

#[test]
fn the_server_chooses_without_nominating() {
    let mut bench = Bench::serving(&[(ServerReflexive, OUTSIDE)]);
    bench.prove(OUTSIDE);
    bench.run_for(ms(6000));
    assert_eq!(bench.proven(), [address(OUTSIDE)]);
    let sent = bench.sent();
    assert!(sent.len() > CHECKS_AFTER && !sent.iter().any(|t| bench.is_nomination(t)));
}

#[test]
fn the_server_says_where_it_was_nominated_at_every_change() {
    let mut bench = Bench::serving(&[(ServerReflexive, OUTSIDE)]);
    bench.sent();
    let (outside, stranger) = (address(OUTSIDE), address(STRANGER));
    let heard = |remote| PunchEvent::Heard { via: MAIN, remote };
    let nominated = |remote| PunchEvent::Nominated { via: MAIN, remote };
    for (number, from, expected) in [
        (1, OUTSIDE, vec![heard(outside), nominated(outside)]),
        (2, OUTSIDE, vec![]),
        (3, STRANGER, vec![heard(stranger), nominated(stranger)]),
        (4, OUTSIDE, vec![nominated(outside)]),
        // A copy, sent on from elsewhere.
        (1, STRANGER, vec![]),
    ] {
        let nomination = bench.credentials.encode_nomination(transaction(number));
        bench.receive(from, &nomination);
        assert_eq!(bench.events(), expected, "nomination {number} from {from}");
    }
    let is_answer = |t: &&Transmit| check::transaction_of(&t.bytes).is_some();
    assert_eq!(bench.sent().iter().filter(is_answer).count(), 4);
}

#[test]
fn a_request_that_does_not_nominate_is_heard_only() {
    let mut bench = Bench::serving(&[]);
    let request = (bench.credentials).encode_request(transaction(1), Side::Client);
    bench.receive(STRANGER, &request);
    let remote = address(STRANGER);
    assert_eq!(bench.events(), [PunchEvent::Heard { via: MAIN, remote }]);
}

#[test]
fn a_clashing_nat_is_not_reached_before_the_peer_is_heard_or_400_ms_passed() {
    let mut bench = Bench::meeting_through(
        NatFiltering::Clashing,
        &[(ServerReflexive, OUTSIDE), (ServerReflexive, STRANGER)],
    );
    bench.run_for(ms(200));
    assert!(bench.sent().iter().all(|t| t.ttl == Some(2)));
    let request = bench.request(1);
    bench.receive(OUTSIDE, &request);
    let hops: Vec<_> = bench.sent().iter().map(|t| (t.to, t.ttl)).collect();
    assert_eq!(hops, [(address(OUTSIDE), None); 2], "an answer and a check");
    let to_the_other = |bench: &mut Bench| {
        let mut sent = bench.sent();
        sent.retain(|transmit| transmit.to == address(STRANGER));
        sent
    };
    bench.run_for(ms(199));
    assert_eq!(to_the_other(&mut bench), []);
    bench.run_for(ms(1));
    assert_eq!(to_the_other(&mut bench).len(), 1);
}

#[test]
fn where_no_nat_is_in_between_probes_go_at_once_whatever_the_peers_lets_in() {
    for filtering in FILTERINGS {
        let told = [
            (Host, INSIDE),
            (Host, STRANGER),
            (ServerReflexive, INSIDE_2),
        ];
        let mut bench = Bench::meeting_through(filtering, &told);
        let hops: Vec<_> = bench.sent().iter().map(|transmit| transmit.ttl).collect();
        assert_eq!(hops, [None; 3], "{filtering:?}");
    }
}

#[test]
fn a_measured_nat_on_which_nothing_leaves_a_trace_is_probed_at_once() {
    for filtering in [NatFiltering::PortIndependent, NatFiltering::PortDependent] {
        let mut bench = Bench::meeting_through(filtering, &[(ServerReflexive, OUTSIDE)]);
        let hops: Vec<_> = bench.sent().iter().map(|transmit| transmit.ttl).collect();
        assert_eq!(hops, [None], "{filtering:?}");
    }
}

#[test]
fn an_attempt_fails_once_and_then_waits_for_nothing() {
    let mut bench = Bench::meeting(&[(ServerReflexive, OUTSIDE)]);
    bench.run_for(ms(4999));
    assert_eq!(bench.events(), []);
    bench.run_for(ms(1));
    assert_eq!(bench.events(), [PunchEvent::Failed]);
    assert_eq!(bench.attempt.poll_timeout(), None);
    bench.attempt.handle_timeout(bench.now + ms(1000));
    assert_eq!(bench.events(), []);
}

#[test]
fn the_same_seed_sends_the_same() {
    let run = || {
        let mut bench = Bench::meeting(&[(ServerReflexive, OUTSIDE), (Host, INSIDE)]);
        bench.run_for(ms(6000));
        bench.sent()
    };
    assert_eq!(run(), run());
}

proptest! {
    #[test]
    fn no_datagram_panics_or_is_answered(
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        changed in any::<prop::sample::Index>(),
        bit in 0..8,
    ) {
        let mut bench = Bench::meeting(&[(ServerReflexive, OUTSIDE)]);
        let mut request = bench.request(1);
        *changed.get_mut(&mut request) ^= 1u8 << bit;
        bench.sent();
        bench.receive(OUTSIDE, &bytes);
        bench.receive(STRANGER, &request);
        prop_assert_eq!(bench.sent(), vec![]);
    }
}

/// An attempt, and what its peer would say.
struct Bench {
    now: Instant,
    attempt: PunchAttempt,
    credentials: Credentials,
}

impl Bench {
    fn new(rendezvous: &Rendezvous) -> Bench {
        let now = Instant::now();
        Bench {
            now,
            attempt: PunchAttempt::new(now, rendezvous, [1; 32]),
            credentials: Credentials::of(rendezvous),
        }
    }

    /// One that has begun to send.
    fn meeting(candidates: &[(CandidateKind, &str)]) -> Bench {
        Bench::meeting_through(NatFiltering::Unknown, candidates)
    }

    /// One that has begun to send and knows of the peer's NAT.
    fn meeting_through(filtering: NatFiltering, candidates: &[(CandidateKind, &str)]) -> Bench {
        let rendezvous = Rendezvous {
            filtering,
            ..rendezvous(candidates)
        };
        let mut bench = Bench::new(&rendezvous);
        bench.attempt.handle_timeout(bench.now);
        bench
    }

    /// The server's, which has begun to send.
    fn serving(candidates: &[(CandidateKind, &str)]) -> Bench {
        let rendezvous = Rendezvous {
            side: Side::Server,
            ..rendezvous(candidates)
        };
        let mut bench = Bench::new(&rendezvous);
        bench.attempt.handle_timeout(bench.now);
        bench
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(next) = self.attempt.poll_timeout().filter(|next| *next <= end) {
            self.attempt.handle_timeout(next);
        }
        self.now = end;
    }

    fn receive(&mut self, from: &str, bytes: &[u8]) {
        self.attempt.handle_datagram(self.now, address(from), bytes);
    }

    fn sent(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.attempt.poll_transmit()).collect()
    }

    fn events(&mut self) -> Vec<PunchEvent> {
        std::iter::from_fn(|| self.attempt.poll_event()).collect()
    }

    /// Addresses of the proven paths, the chosen one first.
    fn proven(&mut self) -> Vec<SocketAddr> {
        let events = self.events();
        let is_chosen = |event: &&PunchEvent| matches!(event, PunchEvent::Proven(_));
        assert_eq!(events.iter().position(|event| is_chosen(&event)), Some(0));
        assert_eq!(events.iter().filter(is_chosen).count(), 1);
        let paths = events.iter().map(|event| match event {
            PunchEvent::Proven(path) | PunchEvent::AlsoProven(path) => path.remote,
            other => panic!("{other:?}"),
        });
        paths.collect()
    }

    /// Answers the last check that went to `remote`.
    fn prove(&mut self, remote: &str) {
        self.attempt.send_due(self.now);
        let in_flight = &self.attempt.in_flight;
        let asked = in_flight
            .iter()
            .find(|(_, check)| check.to == (MAIN, address(remote)));
        let (transaction, _) = asked.unwrap();
        let answer = self
            .credentials
            .encode_answer(*transaction, address(STRANGER));
        self.receive(remote, &answer);
    }

    fn request(&self, number: u32) -> Vec<u8> {
        self.credentials
            .encode_request(transaction(number), Side::Server)
    }

    fn is_nomination(&self, transmit: &Transmit) -> bool {
        let check = self.credentials.decode(&transmit.bytes).unwrap();
        matches!(check, Check::Request { nominates, .. } if nominates)
    }

    fn answer(&self, request: &Transmit) -> Vec<u8> {
        self.credentials
            .encode_answer(asked(request), address(STRANGER))
    }
}

fn rendezvous(candidates: &[(CandidateKind, &str)]) -> Rendezvous {
    let candidates = candidates.iter().map(|(kind, text)| Candidate {
        kind: *kind,
        address: address(text),
    });
    Rendezvous {
        id: [5; 10],
        secret: [6; 32],
        swarm: SwarmId([7; 32]),
        peer: PublicKey([8; 32]),
        side: Side::Client,
        candidates: Bounded::truncated(candidates),
        mapping: NatMapping::Unknown,
        filtering: NatFiltering::Unknown,
        wait_ms: 0,
        paths: Paths::Any,
        relay: None,
    }
}

fn path(remote: &str, kind: CandidateKind, rtt_ms: u64) -> Path {
    Path {
        via: MAIN,
        remote: address(remote),
        kind,
        rtt: ms(rtt_ms),
        observed: address(STRANGER),
    }
}

fn asked(request: &Transmit) -> Transaction {
    Transaction(request.bytes[8..20].try_into().unwrap())
}

fn transaction(number: u32) -> Transaction {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Transaction(bytes)
}

/// Cuts MESSAGE-INTEGRITY off.
fn unsigned(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - 24);
    bytes[3] -= 24;
    bytes
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
