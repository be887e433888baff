//! What bounds a keeper: whatever arrives and whoever asks, so much is sent and remembered and no
//! more.

use proptest::prelude::*;

use super::*;
use crate::nat::check::ANSWER_BYTES;
use crate::nat::keeper::budget::{PER_ADDRESS, STRANGERS, WINDOW};
use crate::nat::keeper::remotes::OTHERS;

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
fn who_could_not_ask_for_a_while_waits_until_an_answer_could_have_come() {
    let mut bench = Bench::new(Side::Client);
    for _ in 0..PER_ADDRESS {
        bench.keeper.suspect(bench.now);
        bench.answer_last(PATH);
        bench.run_for(ms(20));
    }
    bench.keeper.expects(bench.now, true);
    bench.run_for(ms(39_000));
    assert!(bench.events().iter().all(|event| *event == Silent));
    bench.run_for(ms(2000));
    assert_eq!(bench.events().last(), Some(&Dead));
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
        bench.keeper.try_address(bench.now, address(OTHER));
        bench.keeper.suspect(bench.now);
        assert_eq!(addresses(&bench.sent()), [address(OTHER), address(PATH)]);
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

impl Bench {
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
