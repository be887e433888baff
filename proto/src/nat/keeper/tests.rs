//! What a keeper sends, to whom, and what it makes of what arrives. Not here: that it never sends
//! more than it may ([`bounds`]), two of them against each other ([`net`]).

mod bounds;
mod net;

use super::*;
use crate::nat::check::{NOMINATION_BYTES, REQUEST_BYTES};
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
fn a_suspicion_in_the_midst_of_doubt_is_answered_like_any_other() {
    let mut bench = Bench::doubting(Side::Server);
    bench.keeper.suspect(bench.now);
    bench.request_from(PATH);
    bench.run_for(ms(100));
    assert_eq!(bench.events(), [Silent]);
}

#[test]
fn checks_for_two_reasons_do_not_go_out_together() {
    let mut bench = Bench::doubting(Side::Server);
    bench.now += ms(25);
    bench.keeper.try_address(bench.now, address(OTHER));
    bench.run_for(ms(74));
    bench.sent();
    bench.run_for(ms(1));
    assert_eq!(addresses(&bench.sent()), [address(PATH), address(OTHER)]);
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
    bench.run_for(ms(9_900));
    assert_eq!(bench.events(), [Silent; 5]);
    bench.keeper.try_address(bench.now, address(OTHER));
    bench.run_for(ms(99));
    assert_eq!(bench.events(), []);
    bench.run_for(ms(1));
    assert_eq!(bench.events(), [Dead]);
    bench.sent();
    bench.run_for(ms(1000));
    bench.keeper.handle_timeout(bench.now);
    bench.request_from(OTHER);
    bench.keeper.suspect(bench.now);
    bench.keeper.try_address(bench.now, address(OTHER));
    bench.keeper.expects(bench.now, true);
    bench.run_for(ms(60_000));
    assert_eq!((bench.sent(), bench.events()), (vec![], vec![]));
}

#[test]
fn a_peer_that_only_asks_is_not_dead() {
    let mut bench = Bench::new(Side::Server);
    bench.keeper.suspect(bench.now);
    bench.run_for(ms(5000));
    bench.request_from(PATH);
    bench.run_for(ms(9_999));
    assert!(bench.events().iter().all(|event| *event == Silent));
    bench.run_for(ms(1));
    assert_eq!(bench.events(), [Dead]);
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
fn an_answer_to_a_check_that_did_not_nominate_ends_no_nominations() {
    let mut bench = Bench::new(Side::Client);
    bench.request_from(OTHER);
    bench.run_for(ms(100));
    let plain: Vec<_> = bench.sent().split_off(1);
    assert_eq!(plain.len(), 2);
    bench.answer(OTHER, &plain[0]);
    bench.answer(OTHER, &plain[1]);
    bench.run_for(ms(60_000));
    assert_eq!(bench.sent().len(), NOMINATIONS);
}

#[test]
fn a_path_that_was_left_is_nominated_no_more() {
    let mut bench = Bench::new(Side::Client);
    bench.request_from(OTHER);
    bench.answer_last(OTHER);
    bench.run_for(ms(30));
    bench.keeper.try_address(bench.now, address(THIRD));
    bench.answer_last(THIRD);
    bench.sent();
    bench.run_for(ms(60_000));
    assert_eq!(addresses(&bench.sent()), [address(THIRD); 2]);
}

#[test]
fn a_new_path_is_waited_for_as_long_as_its_check_took() {
    let mut bench = Bench::new(Side::Server);
    bench.keeper.expects(bench.now, true);
    bench.nomination_from(OTHER);
    bench.now += ms(200);
    bench.answer_last(OTHER);
    assert_eq!(bench.keeper.poll_timeout(), Some(bench.now + ms(300)));
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
fn an_address_that_was_given_is_kept_whoever_else_comes() {
    let mut bench = Bench::new(Side::Client);
    bench.keeper.try_address(bench.now, address(OTHER));
    for n in 0..20 {
        bench.run_for(ms(1));
        bench.request_from(&format!("192.0.2.{n}:5000"));
    }
    bench.answer_last(OTHER);
    assert_eq!(bench.keeper.path(), address(OTHER));
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
