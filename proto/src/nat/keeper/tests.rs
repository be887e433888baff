//! What a keeper sends, to whom, and what it makes of what arrives. Two of them against each other
//! are in [`net`].

mod net;

use proptest::prelude::*;

use super::budget::{PER_ADDRESS, STRANGERS, WINDOW};
use super::remotes::OTHERS;
use super::*;
use crate::nat::check::{ANSWER_BYTES, NOMINATION_BYTES, REQUEST_BYTES};
use KeeperEvent::{Alive, Dead, Forgotten, Heard, Moved, Silent};

const PATH: &str = "203.0.113.7:5000";
const OTHER: &str = "203.0.113.7:6000";
const THIRD: &str = "198.51.100.9:6000";
const RTT: Duration = Duration::from_millis(40);

#[test]
fn where_nothing_is_outstanding_nothing_is_due() {
    let mut bench = Bench::new(Side::Client);
    assert_eq!(bench.keeper.poll_timeout(), None);
    bench.run_for(ms(600_000));
    assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
}

#[test]
fn a_silence_is_asked_about_after_half_our_patience_and_told_after_all_of_it() {
    for (rtt, half) in [(ms(40), ms(100)), (ms(100), ms(150))] {
        let mut bench = Bench::new(Side::Server);
        bench.keeper.heard(bench.now, rtt);
        bench.keeper.expects(bench.now, true);
        bench.run_for(half - ms(1));
        assert_eq!(bench.sent(), []);
        bench.run_for(ms(1));
        assert_eq!(addresses(&bench.sent()), [address(PATH)]);
        bench.run_for(half - ms(1));
        assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
        bench.run_for(ms(1));
        assert_eq!(addresses(&bench.sent()), [address(PATH)]);
        assert_eq!(bench.events(), [Silent]);
    }
}

#[test]
fn silence_counts_from_when_an_answer_is_outstanding() {
    let mut bench = Bench::new(Side::Client);
    bench.run_for(ms(5000));
    bench.keeper.expects(bench.now, true);
    bench.run_for(ms(99));
    bench.keeper.expects(bench.now, true);
    assert_eq!(bench.sent(), []);
    bench.run_for(ms(1));
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn an_answer_that_is_outstanding_no_more_is_not_waited_for() {
    let mut bench = Bench::doubting(Side::Client);
    bench.keeper.expects(bench.now, false);
    assert_eq!(bench.keeper.poll_timeout(), None);
    bench.run_for(ms(20_000));
    assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
}

#[test]
fn whatever_is_heard_ends_doubt() {
    let quic: fn(&mut Bench) = |bench| bench.keeper.heard(bench.now, RTT);
    let request = |bench: &mut Bench| bench.request_from(PATH);
    let answer = |bench: &mut Bench| bench.answer_last(PATH);
    for hear in [quic, request, answer] {
        let mut bench = Bench::doubting(Side::Client);
        bench.run_for(ms(100));
        assert_eq!(bench.events(), [Silent]);
        hear(&mut bench);
        assert_eq!(bench.events(), [Alive]);
        bench.keeper.expects(bench.now, false);
        bench.sent();
        bench.run_for(ms(20_000));
        assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
    }
}

#[test]
fn a_suspicion_is_looked_into_at_once_even_where_nothing_is_outstanding() {
    let mut bench = Bench::new(Side::Client);
    bench.keeper.suspect(bench.now);
    assert_eq!(bench.sent().len(), 1);
    bench.run_for(ms(199));
    assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
    bench.run_for(ms(1));
    assert_eq!((bench.sent().len(), bench.events()), (1, vec![Silent]));
}

#[test]
fn a_request_does_not_end_a_suspicion_and_an_answer_does() {
    let mut bench = Bench::new(Side::Server);
    bench.keeper.suspect(bench.now);
    bench.request_from(PATH);
    bench.run_for(ms(200));
    assert_eq!(bench.events(), [Silent]);
    bench.answer_last(PATH);
    assert_eq!(bench.events(), [Alive]);
    assert_eq!(bench.keeper.poll_timeout(), None);
}

#[test]
fn a_suspicion_repeated_without_pause_is_asked_about_once() {
    let mut bench = Bench::new(Side::Client);
    for _ in 0..100 {
        bench.keeper.suspect(bench.now);
    }
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn a_peer_that_is_heard_though_it_answers_no_check_is_not_doubted_for_long() {
    let mut bench = Bench::new(Side::Client);
    bench.keeper.expects(bench.now, true);
    for _ in 0..100 {
        bench.run_for(ms(150));
        bench.keeper.heard(bench.now, RTT);
    }
    assert_eq!(bench.events(), []);
}

#[test]
fn a_dead_peer_is_told_of_and_given_up_after_10_s_and_nothing_follows() {
    let mut bench = Bench::doubting(Side::Server);
    bench.run_for(ms(9_999));
    assert_eq!(bench.events(), [Silent; 5]);
    bench.run_for(ms(1));
    assert_eq!(bench.events(), [Dead]);
    bench.sent();
    bench.request_from(OTHER);
    bench.keeper.suspect(bench.now);
    bench.keeper.try_address(bench.now, address(OTHER));
    bench.keeper.expects(bench.now, true);
    bench.run_for(ms(60_000));
    assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
}

#[test]
fn a_peer_that_takes_its_time_over_a_request_is_asked_ever_less_often() {
    let mut bench = Bench::new(Side::Client);
    bench.keeper.expects(bench.now, true);
    let mut checks = 0;
    for _ in 0..30_000 {
        bench.run_for(ms(1));
        for request in bench.sent() {
            checks += 1;
            bench.answer(PATH, &request);
        }
    }
    assert_eq!(bench.events(), []);
    assert_eq!(checks, 11);
}

#[test]
fn a_client_nominates_its_path_with_every_check_and_a_server_never() {
    for (side, length) in [
        (Side::Client, NOMINATION_BYTES),
        (Side::Server, REQUEST_BYTES),
    ] {
        let mut bench = Bench::doubting(side);
        bench.run_for(ms(3000));
        let sent = bench.sent();
        assert!(sent.len() > 10);
        assert!(sent.iter().all(|transmit| transmit.bytes.len() == length));
    }
}

#[test]
fn a_request_from_elsewhere_is_answered_there_and_the_address_checked() {
    let mut bench = Bench::new(Side::Server);
    bench.request_from(OTHER);
    let sent = bench.sent();
    assert_eq!(addresses(&sent), [address(OTHER); 2]);
    let answer = bench.credentials.decode(&sent[0].bytes);
    let mapped = address(OTHER);
    assert!(matches!(answer, Ok(Check::Answer { mapped: m, .. }) if m == mapped));
    assert_eq!(bench.events(), [heard(OTHER)]);
    bench.run_for(ms(20));
    bench.request_from(OTHER);
    assert_eq!((bench.sent().len(), bench.events()), (2, vec![]));
}

#[test]
fn an_address_heard_once_is_asked_until_it_answers_but_not_for_ever() {
    let mut bench = Bench::new(Side::Server);
    bench.request_from(OTHER);
    bench.run_for(ms(250));
    assert_eq!(bench.sent().len(), 1 + 3);
    bench.answer_last(OTHER);
    bench.run_for(ms(60_000));
    assert_eq!(bench.sent(), []);
    bench.request_from(THIRD);
    bench.run_for(ms(60_000));
    assert_eq!(bench.sent().len(), 1 + 5);
}

#[test]
fn a_server_moves_when_an_address_was_nominated_and_has_answered() {
    let mut bench = Bench::new(Side::Server);
    bench.nomination_from(OTHER);
    assert_eq!(bench.keeper.path(), address(PATH));
    bench.now += ms(30);
    bench.answer_last(OTHER);
    assert_eq!(bench.events(), [heard(OTHER), moved(OTHER, 30)]);

    let mut bench = Bench::new(Side::Server);
    bench.request_from(OTHER);
    bench.now += ms(30);
    bench.answer_last(OTHER);
    assert_eq!(bench.events(), [heard(OTHER)]);
    bench.nomination_from(OTHER);
    assert_eq!(bench.events(), [moved(OTHER, 30)]);
    assert_eq!(bench.keeper.path(), address(OTHER));
}

#[test]
fn an_answer_of_long_ago_is_no_proof() {
    let mut bench = Bench::new(Side::Server);
    bench.request_from(OTHER);
    bench.answer_last(OTHER);
    bench.run_for(ms(5000));
    bench.events();
    bench.sent();
    bench.nomination_from(OTHER);
    assert_eq!(bench.events(), []);
    bench.answer_last(OTHER);
    assert_eq!(bench.events(), [moved(OTHER, 0)]);
}

#[test]
fn of_two_nominations_the_newer_counts() {
    let mut bench = Bench::new(Side::Server);
    bench.nomination_from(OTHER);
    bench.nomination_from(THIRD);
    bench.answer_last(OTHER);
    assert_eq!(bench.keeper.path(), address(PATH));
    bench.answer_last(THIRD);
    assert_eq!(bench.keeper.path(), address(THIRD));

    let mut bench = Bench::new(Side::Server);
    bench.nomination_from(OTHER);
    bench.nomination_from(PATH);
    bench.answer_last(OTHER);
    assert_eq!(bench.keeper.path(), address(PATH));
}

#[test]
fn a_nomination_of_the_path_in_use_is_answered_and_nothing_more() {
    let mut bench = Bench::new(Side::Server);
    bench.nomination_from(PATH);
    bench.run_for(ms(60_000));
    assert_eq!((bench.sent().len(), bench.events()), (1, vec![]));
}

#[test]
fn a_client_moves_where_the_peer_was_heard_and_nominates_it_three_times() {
    let mut bench = Bench::new(Side::Client);
    bench.request_from(OTHER);
    bench.answer_last(OTHER);
    assert_eq!(bench.events(), [heard(OTHER), moved(OTHER, 0)]);
    bench.run_for(ms(60_000));
    let sent = bench.sent();
    assert_eq!(addresses(&sent), [address(OTHER); 5]);
    let lengths: Vec<_> = sent.iter().map(|sent| sent.bytes.len()).collect();
    assert_eq!(lengths[1..], [REQUEST_BYTES, 80, 80, 80]);
}

#[test]
fn a_nomination_that_was_answered_is_not_repeated() {
    let mut bench = Bench::new(Side::Client);
    bench.request_from(OTHER);
    bench.answer_last(OTHER);
    bench.run_for(ms(30));
    bench.answer_last(OTHER);
    bench.sent();
    bench.run_for(ms(60_000));
    assert_eq!(bench.sent(), []);
}

#[test]
fn a_client_stays_on_a_path_that_is_heard_in_the_same_round() {
    let mut bench = Bench::new(Side::Client);
    bench.request_from(PATH);
    bench.run_for(ms(20));
    bench.request_from(OTHER);
    bench.answer_last(OTHER);
    assert_eq!(bench.keeper.path(), address(PATH));
    bench.run_for(ms(100));
    bench.request_from(OTHER);
    assert_eq!(bench.keeper.path(), address(OTHER));
}

#[test]
fn where_the_path_is_silent_any_address_that_answers_will_do() {
    let mut bench = Bench::new(Side::Client);
    bench.request_from(PATH);
    bench.request_from(OTHER);
    bench.answer_last(OTHER);
    bench.run_for(ms(60_000));
    assert_eq!(bench.events(), [heard(OTHER)]);
    bench.keeper.expects(bench.now, true);
    bench.run_for(ms(200));
    bench.now += ms(30);
    bench.answer_last(OTHER);
    assert_eq!(bench.events(), [Silent, moved(OTHER, 30), Alive]);
}

#[test]
fn an_answer_proves_only_the_address_that_was_asked_and_only_once() {
    let mut bench = Bench::new(Side::Server);
    bench.nomination_from(OTHER);
    let request = bench.sent().remove(1);
    bench.answer(THIRD, &request);
    assert_eq!(bench.events(), [heard(OTHER)]);
    bench.answer(OTHER, &request);
    assert_eq!(bench.events(), [moved(OTHER, 0)]);
    bench.run_for(ms(6000));
    bench.nomination_from(PATH);
    bench.answer_last(PATH);
    bench.nomination_from(OTHER);
    bench.events();
    bench.answer(OTHER, &request);
    assert_eq!(bench.events(), []);
}

#[test]
fn what_is_not_authenticated_changes_nothing() {
    let mut bench = Bench::doubting(Side::Server);
    let wrong = Credentials::new(&[5; 10], &[9; 32]);
    let due = bench.keeper.poll_timeout();
    let asked = *bench.keeper.in_flight.keys().next().unwrap();
    let own = bench.credentials.encode_request(asked, Side::Server);
    let mut cut = bench.credentials.encode_nomination(asked);
    cut.truncate(cut.len() - 24);
    cut[3] -= 24;
    for bytes in [
        wrong.encode_nomination(asked),
        wrong.encode_answer(asked, address(PATH)),
        own,
        cut,
        vec![0; 20],
        Vec::new(),
    ] {
        for from in [PATH, OTHER] {
            bench.receive(from, &bytes);
        }
    }
    assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
    assert_eq!(bench.keeper.poll_timeout(), due);
}

#[test]
fn a_copy_of_a_request_sent_on_from_elsewhere_changes_nothing() {
    let mut bench = Bench::new(Side::Server);
    let nomination = bench.nomination();
    bench.receive(PATH, &nomination);
    bench.sent();
    for _ in 0..10 {
        bench.receive(OTHER, &nomination);
        bench.run_for(ms(60_000));
    }
    assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
}

#[test]
fn an_address_that_may_not_be_sent_to_is_not() {
    let forbidden = ["224.0.0.1:5000", "0.0.0.0:5000", "192.0.2.1:80"];
    for forbidden in forbidden {
        let mut bench = Bench::new(Side::Server);
        bench.nomination_from(forbidden);
        bench.keeper.try_address(bench.now, address(forbidden));
        bench.run_for(ms(60_000));
        assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
    }
    let mut bench = Bench::on(Side::Client, "224.0.0.1:5000");
    bench.keeper.suspect(bench.now);
    bench.run_for(ms(60_000));
    assert_eq!(bench.sent(), []);
    assert!(bench.events().iter().all(|event| *event == Silent));
}

#[test]
fn an_address_that_was_given_is_asked_five_times_and_then_the_peer_has_forgotten() {
    for (rtt, pause) in [(ms(40), 75), (ms(200), 200)] {
        let mut bench = Bench::new(Side::Client);
        bench.keeper.heard(bench.now, rtt);
        bench.now += ms(1);
        bench.keeper.try_address(bench.now, address(OTHER));
        bench.run_for(ms(5 * pause - 1));
        assert_eq!(addresses(&bench.sent()), [address(OTHER); 5]);
        assert_eq!(bench.events(), []);
        bench.run_for(ms(1));
        assert_eq!(bench.events(), [Forgotten]);
        bench.run_for(ms(60_000));
        assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
    }
}

#[test]
fn an_address_that_was_given_twice_is_asked_five_times() {
    let mut bench = Bench::new(Side::Client);
    bench.keeper.try_address(bench.now, address(OTHER));
    bench.run_for(ms(100));
    bench.keeper.try_address(bench.now, address(OTHER));
    bench.run_for(ms(60_000));
    assert_eq!((bench.sent().len(), bench.events()), (5, vec![Forgotten]));
}

#[test]
fn a_peer_that_is_heard_meanwhile_has_not_forgotten() {
    let quic: fn(&mut Bench) = |bench| bench.keeper.heard(bench.now, RTT);
    let request = |bench: &mut Bench| bench.request_from(PATH);
    for hear in [quic, request] {
        let mut bench = Bench::new(Side::Client);
        bench.keeper.try_address(bench.now, address(OTHER));
        hear(&mut bench);
        bench.run_for(ms(60_000));
        assert_eq!(bench.events(), []);
    }
}

#[test]
fn only_a_client_moves_to_an_address_because_it_was_given() {
    for (side, expected) in [
        (Side::Client, vec![moved(OTHER, 0)]),
        (Side::Server, vec![]),
    ] {
        let mut bench = Bench::new(side);
        bench.keeper.try_address(bench.now, address(OTHER));
        bench.answer_last(OTHER);
        bench.run_for(ms(60_000));
        assert_eq!(bench.events(), expected);
    }
}

#[test]
fn an_address_given_that_is_the_path_is_nominated() {
    let mut bench = Bench::new(Side::Client);
    bench.keeper.try_address(bench.now, address(PATH));
    bench.answer_last(PATH);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].bytes.len(), NOMINATION_BYTES);
    bench.run_for(ms(60_000));
    assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
}

#[test]
fn who_may_not_ask_does_not_say_that_the_peer_has_forgotten() {
    let mut bench = Bench::new(Side::Client);
    for n in 0..8 {
        bench.keeper.try_address(bench.now, address(OTHER));
        bench.run_for(ms(1000));
        let expected = if n < 4 { vec![Forgotten] } else { vec![] };
        assert_eq!(bench.events(), expected, "trial {n}");
    }
    assert_eq!(bench.sent().len(), PER_ADDRESS);
}

#[test]
fn a_peer_that_asks_without_end_gets_24_answers_in_30_s_and_no_longer_than_asked() {
    let mut bench = Bench::new(Side::Server);
    for _ in 0..100 {
        bench.request_from(PATH);
    }
    let sent = bench.sent();
    assert_eq!(sent.len(), PER_ADDRESS);
    assert!(sent.iter().all(|sent| sent.bytes.len() <= ANSWER_BYTES));
    bench.run_for(WINDOW);
    bench.request_from(PATH);
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn the_same_seed_sends_the_same() {
    let run = || {
        let mut bench = Bench::doubting(Side::Client);
        bench.request_from(OTHER);
        bench.run_for(ms(12_000));
        bench.sent()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_peer_that_pretends_to_be_everywhere_reaches_little() {
    for pause in [0, 5, 50] {
        let mut bench = Bench::new(Side::Server);
        for n in 0..2000u32 {
            bench.request_from(&format!("192.0.{}.{}:5000", n / 200, n % 200));
            bench.run_for(ms(pause));
            bench.events();
        }
        let sent = bench.sent();
        let bytes: usize = sent.iter().map(|sent| sent.bytes.len()).sum();
        assert!(bytes <= 2000 * REQUEST_BYTES);
        let checks = sent.iter().filter(|sent| bench.is_check(sent)).count();
        let windows = 1 + 2000 * pause / 30_000;
        assert!(checks <= STRANGERS * windows as usize, "{checks} checks");
        assert!(bench.keeper.in_flight.len() <= STRANGERS);
        assert_eq!(bench.keeper.remotes.addresses().count(), 1 + OTHERS);
    }
}

/// What may happen to a keeper. Addresses are numbers, of which some may not be sent to.
#[derive(Clone, Debug)]
enum Input {
    Pass(u64),
    Request { from: u8, nominates: bool },
    Answer { from: u8, nth: prop::sample::Index },
    Junk(u8, Vec<u8>),
    Quic(u64),
    Expects(bool),
    Suspect,
    Try(u8),
}

fn any_input() -> impl Strategy<Value = Input> {
    let request = (0..12u8, any::<bool>());
    let junk = proptest::collection::vec(any::<u8>(), 0..100);
    let quic = prop_oneof![0..1000u64, Just(u64::MAX)];
    prop_oneof![
        6 => prop_oneof![0..50u64, 0..5000u64].prop_map(Input::Pass),
        6 => request.prop_map(|(from, nominates)| Input::Request { from, nominates }),
        6 => (0..12u8, any::<prop::sample::Index>())
            .prop_map(|(from, nth)| Input::Answer { from, nth }),
        1 => (0..12u8, junk).prop_map(|(from, bytes)| Input::Junk(from, bytes)),
        2 => quic.prop_map(Input::Quic),
        3 => any::<bool>().prop_map(Input::Expects),
        2 => Just(Input::Suspect),
        3 => (0..12u8).prop_map(Input::Try),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_the_budget_holds(
        is_client in any::<bool>(),
        inputs in proptest::collection::vec(any_input(), 0..400),
    ) {
        let side = if is_client { Side::Client } else { Side::Server };
        let mut bench = Bench::new(side);
        for input in inputs {
            let received = bench.apply(input);
            let sent = bench.sent();
            let answered = sent.iter().filter(|sent| !bench.is_check(sent));
            prop_assert!(answered.map(|sent| sent.bytes.len()).sum::<usize>() <= received);
            prop_assert!(bench.keeper.remotes.addresses().count() <= 1 + OTHERS);
            prop_assert!(bench.keeper.poll_timeout().is_none_or(|next| next > bench.now));
        }
        for (at, transmit) in &bench.log {
            prop_assert_eq!(usable(transmit.to), Some(transmit.to));
            let kind = bench.is_check(transmit);
            let same = bench.log.iter().filter(|(other, sent)| {
                (*at..*at + WINDOW).contains(other)
                    && sent.to == transmit.to
                    && bench.is_check(sent) == kind
            });
            prop_assert!(same.count() <= PER_ADDRESS);
        }
    }
}

/// A keeper, and what its peer would say.
struct Bench {
    now: Instant,
    keeper: PathKeeper,
    credentials: Credentials,
    requests: u32,
    /// All that was sent, and when.
    log: Vec<(Instant, Transmit)>,
    /// How much of it [`Bench::sent`] has told.
    told: usize,
}

impl Bench {
    fn new(side: Side) -> Bench {
        Bench::on(side, PATH)
    }

    fn on(side: Side, path: &str) -> Bench {
        let now = Instant::now();
        let credentials = Credentials::new(&[5; 10], &[6; 32]);
        Bench {
            now,
            keeper: PathKeeper::new(now, credentials.clone(), side, address(path), RTT, [1; 32]),
            credentials,
            requests: 0,
            log: Vec::new(),
            told: 0,
        }
    }

    /// One whose first check has just gone out.
    fn doubting(side: Side) -> Bench {
        let mut bench = Bench::new(side);
        bench.keeper.expects(bench.now, true);
        bench.run_for(ms(100));
        assert_eq!(bench.sent().len(), 1);
        bench
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.drain();
        while let Some(next) = self.keeper.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.keeper.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn receive(&mut self, from: &str, bytes: &[u8]) {
        self.keeper.handle_datagram(self.now, address(from), bytes);
    }

    fn request_from(&mut self, from: &str) {
        let transaction = self.transaction();
        let side = self.keeper.side.other();
        let request = self.credentials.encode_request(transaction, side);
        self.receive(from, &request);
    }

    fn nomination_from(&mut self, from: &str) {
        let nomination = self.nomination();
        self.receive(from, &nomination);
    }

    fn nomination(&mut self) -> Vec<u8> {
        let transaction = self.transaction();
        self.credentials.encode_nomination(transaction)
    }

    fn transaction(&mut self) -> Transaction {
        self.requests += 1;
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.requests.to_be_bytes());
        Transaction(bytes)
    }

    fn answer(&mut self, from: &str, request: &Transmit) {
        let asked = Transaction(request.bytes[8..20].try_into().unwrap());
        let answer = self.credentials.encode_answer(asked, address(THIRD));
        self.receive(from, &answer);
    }

    /// Answers the newest check that went to `remote`.
    fn answer_last(&mut self, remote: &str) {
        let in_flight = self.keeper.in_flight.iter();
        let to_remote = in_flight.filter(|(_, check)| check.to == address(remote));
        let newest = to_remote.max_by_key(|(_, check)| check.sent);
        let answer = self
            .credentials
            .encode_answer(*newest.unwrap().0, address(THIRD));
        self.receive(remote, &answer);
    }

    fn drain(&mut self) {
        let sent = std::iter::from_fn(|| self.keeper.poll_transmit());
        self.log.extend(sent.map(|transmit| (self.now, transmit)));
    }

    /// What was sent since the last call.
    fn sent(&mut self) -> Vec<Transmit> {
        self.drain();
        let new = self.log.iter().skip(self.told);
        let new: Vec<_> = new.map(|(_, transmit)| transmit.clone()).collect();
        self.told = self.log.len();
        new
    }

    fn events(&mut self) -> Vec<KeeperEvent> {
        std::iter::from_fn(|| self.keeper.poll_event()).collect()
    }

    fn is_check(&self, transmit: &Transmit) -> bool {
        let check = self.credentials.decode(&transmit.bytes);
        matches!(check.unwrap(), Check::Request { .. })
    }

    /// Lets it happen. How many bytes of requests that was.
    fn apply(&mut self, input: Input) -> usize {
        let numbered = |n: u8| match n {
            0 => "224.0.0.1:5000".to_owned(),
            1 => "192.0.2.1:80".to_owned(),
            2 => PATH.to_owned(),
            n => format!("203.0.113.{n}:5000"),
        };
        match input {
            Input::Pass(duration) => {
                self.run_for(ms(duration));
            }
            Input::Request { from, nominates } => {
                let is_nomination = nominates && self.keeper.side == Side::Server;
                match is_nomination {
                    true => self.nomination_from(&numbered(from)),
                    false => self.request_from(&numbered(from)),
                }
                return NOMINATION_BYTES;
            }
            Input::Answer { from, nth } => {
                let asked: Vec<_> = self.keeper.in_flight.keys().copied().collect();
                if !asked.is_empty() {
                    let answer = self
                        .credentials
                        .encode_answer(*nth.get(&asked), address(THIRD));
                    self.receive(&numbered(from), &answer);
                }
            }
            Input::Junk(from, bytes) => self.receive(&numbered(from), &bytes),
            Input::Quic(rtt_ms) => self.keeper.heard(self.now, ms(rtt_ms)),
            Input::Expects(outstanding) => self.keeper.expects(self.now, outstanding),
            Input::Suspect => self.keeper.suspect(self.now),
            Input::Try(remote) => self
                .keeper
                .try_address(self.now, address(&numbered(remote))),
        }
        self.keeper.handle_timeout(self.now);
        0
    }
}

fn heard(remote: &str) -> KeeperEvent {
    let remote = address(remote);
    Heard { remote }
}

fn moved(remote: &str, rtt_ms: u64) -> KeeperEvent {
    Moved {
        remote: address(remote),
        rtt: ms(rtt_ms),
    }
}

fn addresses(sent: &[Transmit]) -> Vec<SocketAddr> {
    sent.iter().map(|transmit| transmit.to).collect()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
