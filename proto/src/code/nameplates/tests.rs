//! Numbers, exchanges and their bounds, with made-up time and daemons that are mere numbers.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::code::Ended;
use crate::limits::{
    EXCHANGES_PER_CODE, EXCHANGES_PER_NETWORK, EXCHANGES_PER_PEER, NAMEPLATES,
    NAMEPLATES_PER_NETWORK, NAMEPLATES_PER_PEER,
};
use crate::wire::Claimed;

const HOUR: u32 = 3600;
const SHARER: u16 = 1;
const RECEIVER: u16 = 2;

#[test]
fn the_lowest_number_is_given_that_is_free_and_was_for_a_while() {
    let mut scene = Scene::new();
    assert_eq!(
        [1, 2, 3].map(|number| scene.claim(number)),
        [kept(1), kept(2), kept(3)]
    );
    scene.release(2, 2, Ended::Withdrawn);
    assert_eq!(scene.claim(4), kept(4), "2 may still be asked for");
    scene.pass_time(RETIRED);
    assert_eq!(scene.claim(5), kept(2));
}

#[test]
fn messages_go_to_the_other_side_in_turns_and_no_more_than_four() {
    let mut scene = Scene::new();
    scene.claim(SHARER);
    let opened = CodeNews::Opened {
        nameplate: Nameplate(1),
        exchange: id(7),
        message: body(1),
    };
    assert_eq!(scene.open(RECEIVER, 1, 7), [(peer(SHARER), opened)]);
    for (number, (from, to)) in [(SHARER, RECEIVER), (RECEIVER, SHARER), (SHARER, RECEIVER)]
        .into_iter()
        .enumerate()
    {
        let message = body(number as u8);
        let passed = CodeNews::Passed {
            exchange: id(7),
            message,
        };
        assert_eq!(scene.pass(from, 7, number as u8), [(peer(to), passed)]);
    }
    assert_eq!(
        scene.pass(RECEIVER, 7, 9),
        [closed(RECEIVER, 7, Closed::Late)]
    );
    assert!(scene.plates.exchanges.is_empty() && scene.plates.failures.is_empty());
}

#[test]
fn who_speaks_out_of_turn_ends_it_and_who_is_no_part_of_it_changes_nothing() {
    let mut scene = Scene::new();
    scene.claim(SHARER);
    scene.open(RECEIVER, 1, 7);
    assert_eq!(scene.pass(3, 7, 0), []);
    assert_eq!(scene.close(3, 7, Closed::WrongWords), []);
    assert_eq!(scene.plates.exchanges.len(), 1);
    assert_eq!(
        scene.pass(RECEIVER, 7, 0),
        [closed(SHARER, 7, Closed::Malformed)]
    );
    assert!(scene.plates.exchanges.is_empty());
}

#[test]
fn who_comes_late_is_told_why_there_is_no_code() {
    let mut scene = Scene::new();
    for (number, ended) in [(1, Ended::Used), (2, Ended::Burned), (3, Ended::Withdrawn)] {
        scene.claim(SHARER);
        scene.release(SHARER, number, ended);
        assert_eq!(
            scene.open(RECEIVER, number, 7),
            [closed(RECEIVER, 7, ended.into())]
        );
    }
    assert_eq!(scene.claim(SHARER), kept(4));
    scene.pass_time(Duration::from_secs(HOUR.into()));
    assert_eq!(
        scene.open(RECEIVER, 4, 7),
        [closed(RECEIVER, 7, Closed::Expired)]
    );
    scene.pass_time(RETIRED);
    assert_eq!(
        scene.open(RECEIVER, 4, 7),
        [closed(RECEIVER, 7, Closed::Unknown)]
    );
    assert!(scene.plates.numbers.is_empty());
}

#[test]
fn a_daemon_opens_no_code_of_its_own_and_ends_none_of_another() {
    let mut scene = Scene::new();
    scene.claim(SHARER);
    assert_eq!(
        scene.open(SHARER, 1, 7),
        [closed(SHARER, 7, Closed::Unknown)]
    );
    scene.release(RECEIVER, 1, Ended::Withdrawn);
    assert_eq!(scene.open(RECEIVER, 1, 8).len(), 1);
    assert_eq!(scene.plates.exchanges.len(), 1);
}

#[test]
fn a_number_is_kept_while_its_daemon_is_away_for_a_moment() {
    let mut scene = Scene::new();
    scene.claim(SHARER);
    scene.plates.disconnected(scene.now, &peer(SHARER));
    assert_eq!(
        scene.open(RECEIVER, 1, 7),
        [closed(RECEIVER, 7, Closed::Absent)]
    );
    assert_eq!(scene.claim(3), kept(2));
    scene.pass_time(GRACE - Duration::from_secs(1));
    assert_eq!(
        scene.open(RECEIVER, 1, 7),
        [closed(RECEIVER, 7, Closed::Absent)],
        "a daemon that was started anew knows nothing of the code"
    );
    assert_eq!(scene.claim_again(SHARER, 1), kept(1));
    assert!(matches!(
        scene.open(RECEIVER, 1, 8)[..],
        [(_, CodeNews::Opened { .. })]
    ));
    // For longer: nobody else has it yet, so it is still to be had by who had it.
    scene.plates.disconnected(scene.now, &peer(SHARER));
    scene.pass_time(GRACE);
    assert_eq!(scene.claim_again(3, 1), Claimed::Taken);
    assert_eq!(scene.claim_again(SHARER, 1), kept(1));
    assert!(matches!(
        scene.open(RECEIVER, 1, 9)[..],
        [(_, CodeNews::Opened { .. })]
    ));
}

#[test]
fn a_tracker_that_was_started_anew_gives_a_number_back_unless_it_is_taken() {
    let mut scene = Scene::new();
    assert_eq!(scene.claim_again(SHARER, 7), kept(7));
    assert_eq!(scene.claim_again(SHARER, 7), kept(7));
    assert_eq!(scene.claim_again(3, 7), Claimed::Taken);
    scene.release(SHARER, 7, Ended::Burned);
    assert_eq!(
        scene.claim_again(SHARER, 7),
        Claimed::Taken,
        "burned is burned"
    );
    // Nobody is given number 0.
    assert_eq!(scene.claim_again(3, 0), kept(1));
}

#[test]
fn what_a_daemon_was_in_the_middle_of_ends_with_its_connection() {
    for gone in [SHARER, RECEIVER] {
        let mut scene = Scene::new();
        scene.claim(SHARER);
        scene.open(RECEIVER, 1, 7);
        let left = SHARER + RECEIVER - gone;
        let mail = scene.plates.disconnected(scene.now, &peer(gone));
        assert_eq!(mail, [closed(left, 7, Closed::Absent)]);
        assert!(scene.plates.exchanges.is_empty());
    }
}

#[test]
fn an_exchange_that_does_not_go_on_ends_after_half_a_minute() {
    let mut scene = Scene::new();
    scene.claim(SHARER);
    scene.open(RECEIVER, 1, 7);
    let ended = [RECEIVER, SHARER].map(|it| closed(it, 7, Closed::Late));
    assert_eq!(scene.pass_time(EXCHANGE_TIME), ended);
}

#[test]
fn a_daemon_a_network_and_all_together_have_no_more_numbers_than_they_may() {
    let mut scene = Scene::new();
    for _ in 0..NAMEPLATES_PER_PEER {
        assert!(matches!(scene.claim(SHARER), Claimed::Kept(_)));
    }
    assert_eq!(scene.claim(SHARER), Claimed::TooMany);
    scene.release(SHARER, 1, Ended::Used);
    assert!(
        matches!(scene.claim(SHARER), Claimed::Kept(_)),
        "what has ended does not count"
    );

    let mut scene = Scene::new();
    let networks = ["10.0.0.1", "10.1.0.1", "10.2.0.1", "10.3.0.1"].map(|ip| ip.parse().unwrap());
    for (number, ip) in (1..).zip(networks) {
        let first = 1 + (number - 1) * NAMEPLATES_PER_NETWORK as u16;
        scene.hold(ip, first..first + NAMEPLATES_PER_NETWORK as u16 - 1);
        let last = Nameplate(first + NAMEPLATES_PER_NETWORK as u16 - 1);
        assert_eq!(scene.claim_from(number, ip), Claimed::Kept(last));
        assert_eq!(scene.claim_from(number, ip), Claimed::TooMany);
    }
    assert_eq!(scene.plates.numbers.len(), NAMEPLATES);
    let elsewhere = "10.9.0.1".parse().unwrap();
    assert_eq!(scene.claim_from(u16::MAX, elsewhere), Claimed::TooMany);
}

#[test]
fn a_number_that_comes_back_after_a_long_absence_counts_like_a_new_one() {
    let mut scene = Scene::new();
    scene.claim(SHARER);
    scene.plates.disconnected(scene.now, &peer(SHARER));
    scene.pass_time(GRACE);
    for _ in 0..NAMEPLATES_PER_PEER {
        assert!(matches!(scene.claim(SHARER), Claimed::Kept(_)));
    }
    assert_eq!(scene.claim_again(SHARER, 1), Claimed::TooMany);
    scene.release(SHARER, 2, Ended::Used);
    assert_eq!(scene.claim_again(SHARER, 1), kept(1));
}

#[test]
fn a_network_has_no_more_exchanges_than_it_may() {
    let mut scene = Scene::new();
    let (ip, other) = (ip("192.0.2.1"), ip("198.51.100.1"));
    let mut begun = 0;
    let mut open = |scene: &mut Scene, ip| {
        // As many codes and receivers as it takes for these not to be what is too many.
        let (by, code) = (begun / EXCHANGES_PER_PEER, begun / EXCHANGES_PER_CODE);
        let open = CodeRequest::Open {
            nameplate: Nameplate(1 + code as u16),
            exchange: ExchangeId((begun as u64).to_be_bytes()),
            message: body(1),
        };
        begun += 1;
        scene.say_from(100 + by as u16, ip, open).remove(0).1
    };
    for _ in 0..=EXCHANGES_PER_NETWORK / EXCHANGES_PER_CODE {
        scene.claim(SHARER);
    }
    for _ in 0..EXCHANGES_PER_NETWORK {
        assert!(matches!(open(&mut scene, ip), CodeNews::Opened { .. }));
    }
    let busy = Closed::Busy;
    assert!(matches!(open(&mut scene, ip), CodeNews::Closed { reason, .. } if reason == busy));
    assert!(matches!(open(&mut scene, other), CodeNews::Opened { .. }));
    let first = 100;
    scene.plates.disconnected(scene.now, &peer(first));
    assert!(matches!(open(&mut scene, ip), CodeNews::Opened { .. }));
}

#[test]
fn a_receiver_and_a_code_have_no_more_exchanges_than_they_may() {
    let mut scene = Scene::new();
    scene.claim(SHARER);
    for exchange in 0..EXCHANGES_PER_PEER as u8 {
        assert_eq!(scene.open(RECEIVER, 1, exchange)[0].0, peer(SHARER));
    }
    assert_eq!(
        scene.open(RECEIVER, 1, 99),
        [closed(RECEIVER, 99, Closed::Busy)]
    );
    assert_eq!(
        scene.open(3, 1, 0),
        [closed(3, 0, Closed::Busy)],
        "that name is taken"
    );
    for exchange in EXCHANGES_PER_PEER as u8..EXCHANGES_PER_CODE as u8 {
        assert_eq!(
            scene.open(100 + u16::from(exchange), 1, exchange)[0].0,
            peer(SHARER)
        );
    }
    assert_eq!(scene.open(3, 1, 99), [closed(3, 99, Closed::Busy)]);
}

#[test]
fn a_network_that_fails_too_often_waits_and_one_that_succeeds_never_does() {
    let mut scene = Scene::new();
    scene.claim(SHARER);
    for _ in 0..2 * FAILURES {
        scene.open(RECEIVER, 1, 7);
        for from in [SHARER, RECEIVER, SHARER] {
            scene.pass(from, 7, 0);
        }
    }
    for number in 0..FAILURES {
        // Of whatever kind: no such code, given up, wrong.
        match number % 3 {
            0 => assert_eq!(
                scene.open(RECEIVER, 9, 7),
                [closed(RECEIVER, 7, Closed::Unknown)]
            ),
            1 => {
                scene.open(RECEIVER, 1, 7);
                scene.close(RECEIVER, 7, Closed::Late);
            }
            _ => {
                scene.open(RECEIVER, 1, 7);
                let wrong = closed(RECEIVER, 7, Closed::WrongWords);
                assert_eq!(scene.close(SHARER, 7, Closed::WrongWords), [wrong]);
            }
        }
    }
    // By any daemon there; elsewhere nothing is amiss.
    assert_eq!(scene.open(3, 1, 7), [closed(3, 7, Closed::TooManyGuesses)]);
    let elsewhere = ("198.51.100.1".parse().unwrap(), 1, 8);
    assert_eq!(scene.open_from(4, elsewhere)[0].0, peer(SHARER));
    scene.pass_time(FAILURE_WINDOW);
    assert_eq!(scene.open(3, 1, 9)[0].0, peer(SHARER));
}

#[test]
fn what_the_side_of_the_sharer_is_at_fault_for_counts_against_nobody() {
    let mut scene = Scene::new();
    for round in 0..2 * FAILURES {
        scene.claim_again(SHARER, 1);
        scene.open(RECEIVER, 1, 7);
        match round % 6 {
            0 => drop(scene.close(SHARER, 7, Closed::Busy)),
            1 => drop(scene.close(SHARER, 7, Closed::Late)),
            2 => drop(scene.plates.disconnected(scene.now, &peer(SHARER))),
            // It does not answer,
            3 => drop(scene.pass_time(EXCHANGE_TIME)),
            // or speaks where it is not to.
            4 => {
                scene.pass(SHARER, 7, 0);
                scene.pass(SHARER, 7, 0);
            }
            _ => {
                scene.plates.disconnected(scene.now, &peer(SHARER));
                scene.open(RECEIVER, 1, 7);
            }
        }
    }
    assert!(scene.plates.failures.is_empty() && scene.plates.exchanges.is_empty());
}

#[test]
fn a_receiver_that_leaves_or_says_nothing_more_has_failed() {
    let mut scene = Scene::new();
    scene.claim(SHARER);
    for round in 0..FAILURES {
        scene.open(RECEIVER, 1, 7);
        match round % 3 {
            0 => drop(scene.plates.disconnected(scene.now, &peer(RECEIVER))),
            1 => drop(scene.close(RECEIVER, 7, Closed::Busy)),
            _ => {
                scene.pass(SHARER, 7, 0);
                scene.pass_time(EXCHANGE_TIME);
            }
        }
    }
    assert_eq!(scene.open(3, 1, 7), [closed(3, 7, Closed::TooManyGuesses)]);
}

/// What a daemon may say, each by one of a few.
#[derive(Clone, Debug)]
enum Step {
    Claim(u16, Option<u16>),
    Release(u16, u16),
    Open(u16, u16, u8),
    Pass(u16, u8),
    Close(u16, u8),
    Gone(u16),
    Time(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (who, number, exchange) = (0u16..6, 0u16..6, 0u8..6);
    prop_oneof![
        (who.clone(), prop::option::of(number.clone())).prop_map(|(a, b)| Step::Claim(a, b)),
        (who.clone(), number.clone()).prop_map(|(a, b)| Step::Release(a, b)),
        (who.clone(), number, exchange.clone()).prop_map(|(a, b, c)| Step::Open(a, b, c)),
        (who.clone(), exchange.clone()).prop_map(|(a, b)| Step::Pass(a, b)),
        (who.clone(), exchange).prop_map(|(a, b)| Step::Close(a, b)),
        who.prop_map(Step::Gone),
        (1u64..200).prop_map(Step::Time),
    ]
}

proptest! {
    #[test]
    fn whatever_is_said_no_exchange_has_more_than_four_messages_or_a_third_party(
        steps in prop::collection::vec(step(), 0..200)
    ) {
        let mut scene = Scene::new();
        let mut parties: BTreeMap<ExchangeId, (BTreeSet<PublicKey>, u32)> = BTreeMap::new();
        for step in steps {
            let (by, mail) = scene.take(&step);
            for (to, news) in mail {
                match news {
                    CodeNews::Opened { exchange, .. } => {
                        parties.insert(exchange, ([to, by].into(), 1));
                        prop_assert!(to != by);
                    }
                    CodeNews::Passed { exchange, .. } => {
                        let (both, messages) = parties.get_mut(&exchange).unwrap();
                        *messages += 1;
                        prop_assert!(both.contains(&to) && both.contains(&by) && to != by);
                        prop_assert!(*messages <= 4);
                    }
                    CodeNews::Closed { .. } | CodeNews::Claimed { .. } => (),
                }
            }
            for exchange in scene.plates.exchanges.values() {
                prop_assert!(exchange.until <= scene.now + EXCHANGE_TIME);
                let both = [exchange.sharer, exchange.receiver];
                prop_assert!(both.iter().all(|it| scene.present.contains(it)));
            }
        }
        // Nothing is kept for good.
        scene.pass_time(LONGEST);
        scene.pass_time(RETIRED);
        let Nameplates { numbers, exchanges, failures } = &scene.plates;
        prop_assert!(numbers.is_empty() && exchanges.is_empty() && failures.is_empty());
    }
}

struct Scene {
    plates: Nameplates,
    now: Instant,
    present: BTreeSet<PublicKey>,
}

impl Scene {
    fn new() -> Scene {
        Scene {
            plates: Nameplates::default(),
            now: Instant::now(),
            present: BTreeSet::new(),
        }
    }

    /// Who did it, and what follows.
    fn take(&mut self, step: &Step) -> (PublicKey, CodeMail) {
        let by = match step {
            Step::Claim(by, _) | Step::Release(by, _) | Step::Open(by, ..) => *by,
            Step::Pass(by, _) | Step::Close(by, _) | Step::Gone(by) => *by,
            Step::Time(_) => u16::MAX,
        };
        // Whoever says something is there.
        match step {
            Step::Gone(_) => drop(self.present.remove(&peer(by))),
            Step::Time(_) => (),
            _ => {
                self.present.insert(peer(by));
            }
        }
        let mail = match *step {
            Step::Claim(_, wanted) => self.say(by, claim(wanted)),
            Step::Release(_, number) => {
                let (nameplate, ended) = (Nameplate(number), Ended::Withdrawn);
                self.say(by, CodeRequest::Release { nameplate, ended })
            }
            Step::Open(_, number, exchange) => self.open(by, number, exchange),
            Step::Pass(_, exchange) => self.pass(by, exchange, 0),
            Step::Close(_, exchange) => self.close(by, exchange, Closed::Late),
            Step::Gone(_) => self.plates.disconnected(self.now, &peer(by)),
            Step::Time(seconds) => self.pass_time(Duration::from_secs(seconds)),
        };
        (peer(by), mail)
    }

    fn say(&mut self, by: u16, request: CodeRequest) -> CodeMail {
        self.say_from(by, "192.0.2.1".parse().unwrap(), request)
    }

    fn say_from(&mut self, by: u16, ip: IpAddr, request: CodeRequest) -> CodeMail {
        self.plates.handle(self.now, (peer(by), ip), request)
    }

    fn claim(&mut self, by: u16) -> Claimed {
        self.claim_from(by, "192.0.2.1".parse().unwrap())
    }

    fn claim_from(&mut self, by: u16, ip: IpAddr) -> Claimed {
        result(by, self.say_from(by, ip, claim(None)))
    }

    /// Numbers of many daemons there.
    fn hold(&mut self, ip: IpAddr, numbers: std::ops::Range<u16>) {
        let until = self.now + Duration::from_secs(HOUR.into());
        for number in numbers {
            let by = (peer(1000 + number), prefix(ip));
            let claimed = self
                .plates
                .numbers
                .claim(by, Some(Nameplate(number)), until);
            assert_eq!(claimed, kept(number));
        }
    }

    fn claim_again(&mut self, by: u16, number: u16) -> Claimed {
        result(by, self.say(by, claim(Some(number))))
    }

    fn release(&mut self, by: u16, number: u16, ended: Ended) {
        let nameplate = Nameplate(number);
        let mail = self.say(by, CodeRequest::Release { nameplate, ended });
        assert_eq!(mail, []);
    }

    fn open(&mut self, by: u16, number: u16, exchange: u8) -> CodeMail {
        self.open_from(by, ("192.0.2.1".parse().unwrap(), number, exchange))
    }

    fn open_from(&mut self, by: u16, (ip, number, exchange): (IpAddr, u16, u8)) -> CodeMail {
        let open = CodeRequest::Open {
            nameplate: Nameplate(number),
            exchange: id(exchange),
            message: body(1),
        };
        self.say_from(by, ip, open)
    }

    fn pass(&mut self, by: u16, exchange: u8, message: u8) -> CodeMail {
        let pass = CodeRequest::Pass {
            exchange: id(exchange),
            message: body(message),
        };
        self.say(by, pass)
    }

    fn close(&mut self, by: u16, exchange: u8, reason: Closed) -> CodeMail {
        let exchange = id(exchange);
        self.say(by, CodeRequest::Close { exchange, reason })
    }

    fn pass_time(&mut self, time: Duration) -> CodeMail {
        self.now += time;
        self.plates.expire(self.now)
    }
}

fn claim(wanted: Option<u16>) -> CodeRequest {
    CodeRequest::Claim {
        ticket: 5,
        nameplate: wanted.map(Nameplate),
        lifetime_s: HOUR,
    }
}

#[track_caller]
fn result(by: u16, mail: CodeMail) -> Claimed {
    match mail[..] {
        [(to, CodeNews::Claimed { ticket: 5, result })] if to == peer(by) => result,
        _ => panic!("{mail:?}"),
    }
}

fn kept(number: u16) -> Claimed {
    Claimed::Kept(Nameplate(number))
}

fn closed(to: u16, exchange: u8, reason: Closed) -> (PublicKey, CodeNews) {
    let exchange = id(exchange);
    (peer(to), CodeNews::Closed { exchange, reason })
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn peer(number: u16) -> PublicKey {
    let mut key = [0; 32];
    key[..2].copy_from_slice(&number.to_be_bytes());
    PublicKey(key)
}

fn id(number: u8) -> ExchangeId {
    ExchangeId([number; 8])
}

fn body(number: u8) -> Body {
    Body::truncated([number; 33])
}
