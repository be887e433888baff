//! What an attempt does that may guess: what it asks, says and sends, and when.

use super::limits::{FAMILY_GRACE, GRACE, UNSURE_GRACE};
use super::shots::PROBES;
use super::*;
use crate::id::{PublicKey, SwarmId};
use crate::nat::check::{Check, Credentials};
use crate::nat::stun::binding_success;
use crate::nat::{Allowance, Charge, PunchAttempt, PunchEvent};
use crate::proof::Side;
use crate::wire::{Bounded, Candidate};
use Dependence::AddressDependent;

const PEER: &str = "203.0.113.7:5000";
const OWN: &str = "198.51.100.9:6000";
const STUN: &str = "192.0.2.1:59000";

const EASY: NatMapping = NatMapping::EndpointIndependent;
const SEQUENTIAL: NatMapping = NatMapping::Sequential { step: 1 };
const RANDOM: NatMapping = NatMapping::Random {
    low: 1024,
    high: 65535,
};
const BLOCK: NatMapping = NatMapping::Random {
    low: 20_480,
    high: 21_503,
};

/// All pairs of mappings that guess something, ours first.
const PAIRS: [(NatMapping, NatMapping); 8] = [
    (EASY, SEQUENTIAL),
    (EASY, RANDOM),
    (SEQUENTIAL, EASY),
    (RANDOM, EASY),
    (SEQUENTIAL, SEQUENTIAL),
    (BLOCK, BLOCK),
    (SEQUENTIAL, BLOCK),
    (BLOCK, SEQUENTIAL),
];

#[test]
fn without_the_peers_word_a_victim_gets_no_guess_and_at_most_3_kb() {
    for (ours, theirs) in PAIRS {
        let mut bench = Bench::new(ours, theirs);
        bench.run_for(ms(20_000));
        assert_eq!(bench.guesses(), 0, "{ours:?} {theirs:?}");
        let (mut allowance, mut bytes) = (Allowance::new(), 0);
        for (at, transmit) in bench.sent.iter().filter(|(_, it)| it.to != stun()) {
            assert_eq!(transmit.to.ip(), peer().ip());
            if allowance.take(*at, transmit.to, transmit.bytes.len()) {
                bytes += transmit.bytes.len() + 28;
            }
        }
        assert!((1..=3_000).contains(&bytes), "{bytes}: {ours:?} {theirs:?}");
    }
}

#[test]
fn without_our_turn_no_guess_is_sent() {
    for (ours, theirs) in PAIRS {
        let mut bench = Bench::new(ours, theirs);
        bench.lets_through = false;
        for word in [EASY, SEQUENTIAL, RANDOM, BLOCK] {
            bench.run_for(ms(300));
            bench.word(PEER, word);
        }
        bench.run_for(ms(20_000));
        assert_eq!(bench.guesses(), 0, "{ours:?} {theirs:?}");
    }
}

#[test]
fn a_word_from_another_address_than_was_introduced_is_nobodys() {
    for (ours, theirs) in PAIRS {
        let mut bench = Bench::new(ours, theirs);
        bench.run_for(ms(200));
        for from in ["203.0.113.8:5000", "203.0.113.7:80", "[2001:db8::1]:5000"] {
            bench.word(from, theirs);
        }
        bench.run_for(ms(20_000));
        assert_eq!(bench.guesses(), 0, "{ours:?} {theirs:?}");
    }
}

#[test]
fn whatever_the_peer_says_the_budget_holds_and_ports_below_1024_are_left_alone() {
    let words = [
        NatMapping::Random { low: 0, high: 9 },
        NatMapping::Random { low: 9, high: 0 },
        NatMapping::Sequential { step: i16::MIN },
        NatMapping::Sequential { step: i16::MAX },
        NatMapping::Sequential { step: 0 },
        NatMapping::AddressDependent,
        NatMapping::Unknown,
    ];
    for (ours, theirs) in PAIRS {
        for word in words.into_iter().chain([EASY, SEQUENTIAL, RANDOM, BLOCK]) {
            let mut bench = Bench::new(ours, theirs);
            for _ in 0..40 {
                bench.run_for(ms(100));
                bench.word("203.0.113.7:1024", word);
            }
            bench.run_for(ms(20_000));
            let context = format!("{ours:?} {theirs:?} {word:?}");
            let limit = 12 + bench.turn.map_or(0, |turn| turn.packets);
            assert!(bench.turned <= limit, "{} packets: {context}", bench.turned);
            let to = bench.sent.iter().map(|(_, transmit)| transmit.to);
            assert!(to.clone().all(|to| to.port() >= 1024), "{context}");
            assert!(
                to.filter(|to| *to != stun())
                    .all(|to| to.ip() == peer().ip())
            );
        }
    }
}

#[test]
fn an_easy_side_checks_around_the_port_it_is_told() {
    let mut bench = Bench::new(EASY, SEQUENTIAL);
    bench.run_for(ms(100));
    assert_eq!(bench.turn, None, "nothing to do before the peer's word");
    bench.word("203.0.113.7:40001", SEQUENTIAL);
    bench.run_for(ms(35));
    assert_eq!(bench.guessed(), [40_001, 40_002, 40_000]);
}

#[test]
fn a_side_in_sequence_opens_one_port_between_two_samples_and_names_it() {
    let mut bench = Bench::new(SEQUENTIAL, EASY);
    bench.run_for(ms(0));
    let order: Vec<_> = bench.sent.iter().map(|(_, it)| (it.via, it.to)).collect();
    let bracket = [(1, stun()), (2, peer()), (3, stun())];
    assert_eq!(order[order.len() - 3..], bracket);
    bench.sample(1, 40_000);
    bench.sample(3, 40_002);
    assert_eq!(bench.words, [(40_001, SEQUENTIAL)]);
    assert_eq!(bench.turn, None);
}

#[test]
fn a_sequence_that_was_not_met_is_foretold_three_times() {
    let mut bench = Bench::new(SEQUENTIAL, EASY);
    for round in 0..ROUNDS as u16 {
        bench.run_for(ms(10));
        bench.sample(3 * round + 1, 40_000);
        bench.sample(3 * round + 3, 40_002);
        bench.run_for(REST);
    }
    bench.run_for(ms(5_000));
    assert_eq!(bench.words, [(40_001, SEQUENTIAL); ROUNDS]);
}

#[test]
fn two_sides_in_sequence_aim_at_the_port_each_will_have() {
    let mut bench = Bench::new(SEQUENTIAL, SEQUENTIAL);
    bench.run_for(ms(5));
    bench.sample(1, 40_000);
    assert_eq!(bench.words, [(40_020, SEQUENTIAL)]);
    bench.word("203.0.113.7:30020", SEQUENTIAL);
    bench.run_for(ms(60));
    let guesses = bench
        .sent
        .iter()
        .filter(|(_, it)| it.charge == Charge::Guess);
    let guesses: Vec<_> = guesses.map(|(_, it)| (it.to.port(), it.ttl)).collect();
    let volleys = [[(30_020, Some(2)); 25], [(30_020, None); 25]].concat();
    assert_eq!(guesses, volleys);
    // The peer begins anew, and so do we.
    bench.word("203.0.113.7:30080", SEQUENTIAL);
    let newest = bench.sent.last().unwrap().1.via;
    bench.sample(newest, 40_050);
    assert_eq!(bench.words.last(), Some(&(40_070, SEQUENTIAL)));
    bench.run_for(ms(5));
    assert_eq!(bench.sent.last().unwrap().1.to.port(), 30_080);
}

#[test]
fn the_hard_side_of_a_birthday_opens_its_sockets_before_it_says_so() {
    let mut bench = Bench::new(RANDOM, EASY);
    bench.run_for(ms(500));
    assert_eq!((bench.turn, bench.words.len()), (None, 0));
    bench.word(PEER, EASY);
    bench.run_for(ms(100));
    assert!(bench.guesses() > 100 && bench.words.is_empty());
    bench.run_for(ms(100));
    assert_eq!(bench.words, [(1_024, RANDOM)]);
    let mut vias: Vec<u16> = bench.guess_transmits().map(|it| it.via).collect();
    vias.dedup();
    assert_eq!(vias.len(), bench.guesses(), "one check from each");
    assert!(bench.guess_transmits().all(|it| it.to == peer()));
}

#[test]
fn the_easy_side_of_a_birthday_says_where_it_is_and_waits() {
    let mut bench = Bench::new(EASY, RANDOM);
    bench.run_for(ms(400));
    assert_eq!(bench.words, [(6_000, EASY)]);
    assert_eq!(bench.guesses(), 0);
    bench.word("203.0.113.7:1024", RANDOM);
    bench.run_for(ms(2_000));
    assert_eq!(bench.guesses(), PROBES);
    assert!(bench.guess_transmits().all(|it| it.via == MAIN));
}

#[test]
fn a_sequence_by_address_becomes_easy_for_a_peer_that_is_not() {
    let mut bench = Bench::with(SEQUENTIAL, RANDOM, |own| {
        own.dependence = Some(AddressDependent);
    });
    bench.run_for(ms(5));
    bench.sample(1, 40_000);
    bench.sample(3, 40_004);
    assert!(bench.words.is_empty(), "others came between");
    bench.sample(4, 40_010);
    bench.sample(6, 40_012);
    assert_eq!(bench.words, [(40_011, EASY)]);
    bench.word("203.0.113.7:1024", RANDOM);
    bench.run_for(ms(2_000));
    assert_eq!(bench.guesses(), PROBES);
    assert!(bench.guess_transmits().all(|it| it.via == 5));
}

#[test]
fn a_peer_that_does_not_say_its_word_gives_our_turn_away() {
    for (ours, theirs) in [(EASY, RANDOM), (BLOCK, BLOCK)] {
        let mut bench = Bench::new(ours, theirs);
        bench.run_for(PATIENCE - ms(1));
        assert!(bench.turn.is_some() && !bench.is_turn_over);
        bench.run_for(ms(1));
        assert!(bench.is_turn_over);
    }
}

#[test]
fn a_turn_that_will_not_come_ends_the_guess_and_not_the_attempt() {
    let mut bench = Bench::new(EASY, RANDOM);
    bench.lets_through = false;
    bench.run_for(ms(10));
    bench.attempt.deny_turn(bench.now);
    bench.run_for(ms(4_980));
    assert!(bench.events.is_empty());
    bench.run_for(ms(10));
    assert_eq!(bench.events, [PunchEvent::Failed]);
}

#[test]
fn guesses_end_when_the_peer_is_heard() {
    for (ours, theirs) in [(EASY, RANDOM), (BLOCK, BLOCK), (RANDOM, EASY)] {
        let mut bench = Bench::new(ours, theirs);
        bench.run_for(ms(10));
        bench.word(PEER, theirs);
        bench.run_for(ms(50));
        let before = bench.guesses();
        assert!(before > 0);
        let request = bench
            .credentials
            .encode_request(Transaction([9; 12]), Side::Server);
        bench.receive(MAIN, PEER, &request);
        bench.run_for(ms(3_000));
        assert_eq!(bench.guesses(), before, "{ours:?} {theirs:?}");
    }
}

#[test]
fn a_path_begins_at_the_socket_it_was_found_by_and_the_others_are_closed() {
    let mut bench = Bench::new(RANDOM, EASY);
    bench.run_for(ms(10));
    bench.word(PEER, EASY);
    bench.run_for(ms(1_000));
    let request = bench
        .credentials
        .encode_request(Transaction([9; 12]), Side::Server);
    bench.receive(7, PEER, &request);
    let replies: Vec<Transmit> = bench
        .sent
        .iter()
        .rev()
        .take(2)
        .map(|(_, it)| it.clone())
        .collect();
    assert!(replies.iter().all(|it| it.via == 7 && it.to == peer()));
    let heard = PunchEvent::Heard {
        via: 7,
        remote: peer(),
    };
    assert_eq!(bench.events, [heard]);
    let asked = replies
        .iter()
        .find_map(|it| match bench.credentials.decode(&it.bytes) {
            Ok(Check::Request { transaction, .. }) => Some(transaction),
            _ => None,
        });
    let answer = bench
        .credentials
        .encode_answer(asked.unwrap(), OWN.parse().unwrap());
    bench.receive(8, PEER, &answer);
    assert_eq!(bench.events.len(), 1, "it came by another socket");
    bench.receive(7, PEER, &answer);
    let proven = bench.events.iter().find_map(|event| match event {
        PunchEvent::Proven(path) => Some((path.via, path.remote)),
        _ => None,
    });
    assert_eq!(proven, Some((7, peer())));
    assert_eq!(bench.attempt.technique(), Technique::Birthday);
    let sockets = bench.attempt_sockets();
    assert_eq!(bench.closed.len(), usize::from(sockets) - 1);
    assert!(!bench.closed.contains(&7) && !bench.closed.contains(&MAIN));
}

#[test]
fn a_guess_that_hits_an_address_nobody_named_proves_it_by_the_answer() {
    let mut bench = Bench::new(EASY, RANDOM);
    bench.run_for(ms(10));
    bench.word("203.0.113.7:1024", RANDOM);
    bench.run_for(ms(100));
    let (_, guess) = bench
        .sent
        .iter()
        .rev()
        .find(|(_, it)| it.charge == Charge::Guess)
        .unwrap();
    let (to, asked) = (
        guess.to,
        Transaction(guess.bytes[8..20].try_into().unwrap()),
    );
    let answer = bench.credentials.encode_answer(asked, OWN.parse().unwrap());
    bench.receive(MAIN, &to.to_string(), &answer);
    let proven = bench.events.iter().any(|event| match event {
        PunchEvent::Proven(path) => path.remote == to && path.via == MAIN,
        _ => false,
    });
    assert!(proven && bench.is_turn_over);
    let before = bench.guesses();
    bench.run_for(ms(3_000));
    assert_eq!(bench.guesses(), before);
}

#[test]
fn an_attempt_that_guesses_fails_when_the_guess_is_over_and_no_later_than_after_7_s() {
    let mut bench = Bench::new(RANDOM, EASY);
    bench.run_for(LONGEST - ms(1));
    assert!(bench.events.is_empty());
    bench.run_for(ms(1));
    assert_eq!(bench.events, [PunchEvent::Failed]);
    bench.run_for(ms(60_000));
    assert_eq!(bench.events.len(), 1);
    assert_eq!(bench.attempt.poll_timeout(), None);
}

#[test]
fn nothing_is_guessed_where_plain_checks_suffice_or_nothing_would() {
    for (ours, theirs, filtering) in [
        (EASY, EASY, NatFiltering::PortDependent),
        (RANDOM, RANDOM, NatFiltering::PortDependent),
        (RANDOM, EASY, NatFiltering::PortIndependent),
        (
            NatMapping::Unknown,
            NatMapping::Unknown,
            NatFiltering::Unknown,
        ),
    ] {
        let mut rendezvous = rendezvous(theirs);
        rendezvous.filtering = filtering;
        let own = own(ours);
        let rng = rand::SeedableRng::from_seed([1; 32]);
        assert!(Guess::new(Instant::now(), &rendezvous, own, rng).is_none());
    }
}

#[test]
fn both_families_guess_and_none_does_for_the_other() {
    let v6 = |address: &str| address.parse::<SocketAddr>().unwrap();
    let observed = Candidate {
        kind: CandidateKind::ServerReflexive,
        address: v6("[2001:db8::7]:5000"),
    };
    for (stun, expected) in [("[2001:db8::1]:59000", PROBES), (STUN, 0)] {
        let rendezvous = Rendezvous {
            candidates: Bounded::truncated([observed]),
            ..rendezvous(RANDOM)
        };
        let own = Guessing {
            stun: v6(stun),
            ..own(EASY)
        };
        let mut bench = Bench::of(rendezvous, own);
        bench.run_for(ms(10));
        bench.word("[2001:db8::7]:1024", RANDOM);
        bench.run_for(ms(2_000));
        assert_eq!(bench.guesses(), expected, "{stun}");
    }
}

#[test]
fn no_port_is_guessed_before_ipv6_was_tried_where_both_are_seen_by_that() {
    let v6 = Candidate {
        kind: CandidateKind::ServerReflexive,
        address: "[2001:db8::7]:5000".parse().unwrap(),
    };
    for has_ipv6 in [true, false] {
        for (ours, theirs) in PAIRS {
            let mut rendezvous = rendezvous(theirs);
            let told: Vec<_> = rendezvous.candidates.to_vec();
            rendezvous.candidates = Bounded::truncated(told.into_iter().chain([v6]));
            let own = Guessing {
                has_ipv6,
                ..own(ours)
            };
            let mut bench = Bench::of(rendezvous, own);
            let has_acted = |bench: &Bench| {
                let has_asked = bench.sent.iter().any(|(_, it)| it.to == stun());
                bench.guesses() > 0 || !bench.words.is_empty() || has_asked
            };
            bench.run_for(ms(500));
            bench.word(PEER, theirs);
            bench.run_for(FAMILY_GRACE - ms(501));
            assert_eq!(has_acted(&bench), !has_ipv6, "{ours:?} {theirs:?}");
            bench.run_for(ms(500));
            assert!(has_acted(&bench), "{ours:?} {theirs:?}");
        }
    }
}

#[test]
fn who_is_heard_by_ipv6_is_not_guessed_at() {
    let v6 = "[2001:db8::7]:5000";
    let rendezvous = Rendezvous {
        candidates: Bounded::truncated([peer(), v6.parse().unwrap()].map(|address| Candidate {
            kind: CandidateKind::ServerReflexive,
            address,
        })),
        ..rendezvous(RANDOM)
    };
    let own = Guessing {
        has_ipv6: true,
        ..own(EASY)
    };
    let credentials = Credentials::of(&rendezvous);
    let mut bench = Bench::of(rendezvous, own);
    bench.run_for(ms(500));
    bench.word(PEER, RANDOM);
    let request = credentials.encode_request(Transaction([9; 12]), Side::Server);
    bench.receive(MAIN, v6, &request);
    bench.run_for(ms(20_000));
    assert_eq!(bench.guesses(), 0);
}

#[test]
fn other_candidates_are_tried_first() {
    let mut rendezvous = rendezvous(RANDOM);
    let mapped = Candidate {
        kind: CandidateKind::Mapped,
        address: "203.0.113.7:7777".parse().unwrap(),
    };
    let both = rendezvous.candidates.iter().copied().chain([mapped]);
    rendezvous.candidates = Bounded::truncated(both.collect::<Vec<_>>());
    let mut bench = Bench::of(rendezvous, own(EASY));
    bench.run_for(GRACE - ms(1));
    assert_eq!((bench.turn, bench.words.len()), (None, 0));
    bench.run_for(ms(1));
    assert!(bench.turn.is_some());
}

#[test]
fn of_unknown_filtering_plain_checks_have_half_a_second() {
    let mut bench = Bench::with(EASY, RANDOM, |own| own.filtering = NatFiltering::Unknown);
    bench.run_for(UNSURE_GRACE - ms(1));
    assert_eq!(bench.turn, None);
    bench.run_for(ms(1));
    assert!(bench.turn.is_some());
}

#[test]
fn a_samples_answer_from_elsewhere_shows_nothing() {
    let mut bench = Bench::new(SEQUENTIAL, SEQUENTIAL);
    bench.run_for(ms(5));
    let (_, question) = bench.sent.iter().find(|(_, it)| it.to == stun()).unwrap();
    let answer = binding_success(&question.bytes, "198.51.100.9:40000");
    bench.receive(1, "192.0.2.66:59000", &answer);
    assert!(bench.words.is_empty());
    bench.receive(1, STUN, &answer);
    assert_eq!(bench.words.len(), 1);
}

#[test]
fn who_is_told_to_stop_gives_its_turn_back_and_guesses_no_more() {
    let mut bench = Bench::new(EASY, RANDOM);
    bench.run_for(ms(600));
    bench.word(PEER, RANDOM);
    bench.run_for(ms(100));
    assert!(bench.turn.is_some() && bench.guesses() > 0);
    bench.attempt.stop_guessing(bench.now);
    bench.settle();
    assert!(bench.is_turn_over);
    let before = bench.guesses();
    bench.word(PEER, RANDOM);
    bench.run_for(ms(5_000));
    assert_eq!(bench.guesses(), before);
}

#[test]
fn what_kept_a_path_from_being_found_is_told() {
    let nothing = |_: &mut Bench| ();
    let has_said = |bench: &mut Bench| bench.word("203.0.113.7:20480", BLOCK);
    why(EASY, EASY, nothing, NoPath::NoAnswer);
    why(RANDOM, RANDOM, nothing, NoPath::Unguessable);
    why(EASY, RANDOM, nothing, NoPath::NoTrickle);
    why(RANDOM, EASY, nothing, NoPath::NoTrickle);
    why(SEQUENTIAL, EASY, nothing, NoPath::NoSample);
    why(BLOCK, BLOCK, has_said, NoPath::NoAnswer);
    let mut bench = Bench::new(BLOCK, BLOCK);
    bench.lets_through = false;
    bench.run_for(ms(10));
    assert_eq!(bench.attempt.no_path(), NoPath::NoTurn);
    bench.attempt.deny_turn(bench.now);
    assert_eq!(bench.attempt.no_path(), NoPath::TurnRefused);
    bench.attempt.stop_guessing(bench.now);
    assert_eq!(bench.attempt.no_path(), NoPath::TurnRefused, "the first");
    let is_superseded = |bench: &mut Bench| bench.attempt.stop_guessing(bench.now);
    why(EASY, RANDOM, is_superseded, NoPath::Superseded);
    let nowhere = Rendezvous {
        candidates: Bounded::truncated([]),
        ..rendezvous(EASY)
    };
    let bench = Bench::of(nowhere, own(EASY));
    assert_eq!(bench.attempt.no_path(), NoPath::NoCandidates);
}

/// What is told of an attempt with which `change` happened in its first moments.
#[track_caller]
fn why(ours: NatMapping, theirs: NatMapping, change: impl FnOnce(&mut Bench), expected: NoPath) {
    let mut bench = Bench::new(ours, theirs);
    bench.run_for(ms(10));
    change(&mut bench);
    bench.run_for(ms(20_000));
    assert_eq!(bench.attempt.no_path(), expected, "{ours:?} {theirs:?}");
    assert_eq!(bench.events, [PunchEvent::Failed]);
}

#[test]
fn an_attempt_never_names_more_sockets_than_a_host_opens() {
    for (ours, theirs) in PAIRS {
        let mut bench = Bench::new(ours, theirs);
        for _ in 0..70 {
            bench.run_for(ms(100));
            bench.sample_all(30_000);
            bench.word(PEER, theirs);
        }
        assert!(bench.attempt_sockets() <= 1_140, "{ours:?} {theirs:?}");
    }
}

#[test]
fn who_is_to_be_found_behind_a_nat_that_clashes_sends_nothing_that_takes_its_ports() {
    for ours in [SEQUENTIAL, RANDOM, BLOCK] {
        let mut rendezvous = rendezvous(EASY);
        rendezvous.filtering = NatFiltering::Clashing;
        let mut bench = Bench::of(rendezvous, own(ours));
        bench.run_for(ms(300));
        bench.word(PEER, EASY);
        bench.run_for(ms(20_000));
        let to_peer = || bench.sent.iter().filter(|(_, it)| it.to == peer());
        assert!(to_peer().count() > 2, "{ours:?}");
        assert!(to_peer().all(|(_, it)| it.ttl.is_some()), "{ours:?}");
    }
    // Who looks for a port, and who is found by plain checks, tells the peer where it is.
    for (ours, theirs) in [(EASY, RANDOM), (EASY, EASY)] {
        let mut rendezvous = rendezvous(theirs);
        rendezvous.filtering = NatFiltering::Clashing;
        let mut bench = Bench::of(rendezvous, own(ours));
        bench.run_for(ms(1_000));
        let is_probe = |(_, it): &(Instant, Transmit)| it.to == peer() && it.ttl.is_none();
        assert!(bench.sent.iter().any(is_probe), "{theirs:?}");
    }
}

/// An attempt with its turnstile, its tracker and its peer.
struct Bench {
    now: Instant,
    attempt: PunchAttempt,
    credentials: Credentials,
    lets_through: bool,
    turn: Option<Turn>,
    is_turn_over: bool,
    /// Packets of guesses for which the turnstile would be asked.
    turned: usize,
    sent: Vec<(Instant, Transmit)>,
    words: Vec<(u16, NatMapping)>,
    closed: Vec<u16>,
    /// The others.
    events: Vec<PunchEvent>,
}

impl Bench {
    fn new(ours: NatMapping, theirs: NatMapping) -> Bench {
        Bench::of(rendezvous(theirs), own(ours))
    }

    fn with(ours: NatMapping, theirs: NatMapping, change: impl FnOnce(&mut Guessing)) -> Bench {
        let mut own = own(ours);
        change(&mut own);
        Bench::of(rendezvous(theirs), own)
    }

    fn of(rendezvous: Rendezvous, own: Guessing) -> Bench {
        let now = Instant::now();
        let attempt = PunchAttempt::new(now, &rendezvous, [1; 32]);
        Bench {
            now,
            attempt: attempt.guessing(&rendezvous, own),
            credentials: Credentials::of(&rendezvous),
            lets_through: true,
            turn: None,
            is_turn_over: false,
            turned: 0,
            sent: Vec::new(),
            words: Vec::new(),
            closed: Vec::new(),
            events: Vec::new(),
        }
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(next) = self.attempt.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.attempt.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn settle(&mut self) {
        while let Some(event) = self.attempt.poll_event() {
            match event {
                PunchEvent::Trickle { port, mapping } => self.words.push((port, mapping)),
                PunchEvent::Turn(turn) => {
                    self.turn = Some(turn);
                    if self.lets_through {
                        self.attempt.take_turn(self.now);
                    }
                }
                PunchEvent::TurnOver => self.is_turn_over = true,
                PunchEvent::Close { via } => self.closed.push(via),
                other => self.events.push(other),
            }
        }
        while let Some(transmit) = self.attempt.poll_transmit() {
            if transmit.charge == Charge::Guess {
                let may = self.turn.is_some_and(|turn| self.turned < turn.packets);
                assert!(self.turn.is_some(), "no turn was asked for");
                self.turned += 1;
                if !may {
                    continue;
                }
            }
            self.sent.push((self.now, transmit));
        }
    }

    fn word(&mut self, from: &str, mapping: NatMapping) {
        let from = from.parse().unwrap();
        self.attempt.handle_trickled(self.now, from, mapping);
        self.settle();
    }

    fn receive(&mut self, via: u16, from: &str, bytes: &[u8]) {
        let from = from.parse().unwrap();
        self.attempt.handle_datagram_via(self.now, via, from, bytes);
        self.settle();
    }

    /// The tracker answers what it was asked last from this socket.
    fn sample(&mut self, via: u16, port: u16) {
        let mut asked = self.sent.iter().rev();
        let asked = asked.find(|(_, it)| it.via == via && it.to == stun());
        let answer = binding_success(&asked.unwrap().1.bytes, &format!("198.51.100.9:{port}"));
        self.receive(via, STUN, &answer);
    }

    /// The tracker answers everything.
    fn sample_all(&mut self, port: u16) {
        let asked = self.sent.iter().filter(|(_, it)| it.to == stun());
        let asked: Vec<Transmit> = asked.map(|(_, it)| it.clone()).collect();
        for request in asked {
            let mapped = format!("198.51.100.9:{}", port + request.via);
            self.receive(request.via, STUN, &binding_success(&request.bytes, &mapped));
        }
    }

    fn guess_transmits(&self) -> impl Iterator<Item = &Transmit> {
        let sent = self.sent.iter().map(|(_, transmit)| transmit);
        sent.filter(|transmit| transmit.charge == Charge::Guess)
    }

    fn guesses(&self) -> usize {
        self.guess_transmits().count()
    }

    fn guessed(&self) -> Vec<u16> {
        self.guess_transmits().map(|it| it.to.port()).collect()
    }

    /// The highest number of a socket that was named.
    fn attempt_sockets(&self) -> u16 {
        self.sent.iter().map(|(_, it)| it.via).max().unwrap_or(0)
    }
}

fn own(mapping: NatMapping) -> Guessing {
    Guessing {
        mapping,
        dependence: None,
        filtering: NatFiltering::PortDependent,
        primer_hops: PrimerHops::LEAST,
        has_ipv6: false,
        reflexive: OWN.parse().unwrap(),
        stun: stun(),
        advice: None,
    }
}

fn rendezvous(mapping: NatMapping) -> Rendezvous {
    let observed = Candidate {
        kind: CandidateKind::ServerReflexive,
        address: peer(),
    };
    Rendezvous {
        id: [5; 10],
        secret: [6; 32],
        swarm: SwarmId([7; 32]),
        peer: PublicKey([8; 32]),
        side: Side::Client,
        candidates: Bounded::truncated([observed]),
        mapping,
        filtering: NatFiltering::PortDependent,
        wait_ms: 0,
        paths: crate::wire::Paths::Any,
        relay: None,
    }
}

fn peer() -> SocketAddr {
    PEER.parse().unwrap()
}

fn stun() -> SocketAddr {
    STUN.parse().unwrap()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
