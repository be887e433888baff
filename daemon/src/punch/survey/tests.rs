//! What is asked, told and asked again.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use warren_proto::nat::check::{self, Credentials};

use super::*;

#[tokio::test]
async fn what_is_found_quickly_is_told_before_further_sockets_are_asked() {
    let (mut bench, now) = (Bench::default(), Instant::now());
    bench.survey.start(now, bench.server());
    assert_eq!(bench.answer_all(now), [0, 0]);
    assert_eq!(
        bench.survey.poll_finding(now),
        None,
        "the filtering is not known"
    );
    assert!(bench.survey.guessing(None, false).is_none());
    let told = bench.survey.handle_filtered(NatFiltering::PortDependent);
    assert!(matches!(told, Some(Finding::Nat(_))), "{told:?}");
    assert!(bench.survey.is_deep());
    assert_eq!(bench.answer_all(now), [0, 0, 0, 1, 2, 3, 4, 5]);
    let nat = Nat {
        mapping: NatMapping::Sequential { step: 1 },
        filtering: NatFiltering::PortDependent,
        dependence: Some(Dependence::AddressAndPortDependent),
        ..Nat::default()
    };
    assert_eq!(bench.survey.poll_finding(now), Some(Finding::Nat(nat)));
    assert!(!bench.survey.is_deep());
    let own = bench.survey.guessing(None, false).map(|own| own.mapping);
    assert_eq!(own, Some(nat.mapping));
}

#[tokio::test]
async fn nothing_waits_for_a_port_that_cannot_be_reached() {
    let (mut bench, now) = (Bench::default(), Instant::now());
    let rtt = Duration::from_millis(50);
    bench.survey.start_within(now, bench.server(), rtt);
    let told = Some(Finding::Nat(Nat::default()));
    let late = now + rtt * PATIENCE_RTTS;
    assert_eq!(bench.survey.poll_finding(late - rtt / 2), None);
    assert!(
        bench
            .survey
            .poll_timeout(now)
            .is_some_and(|due| due <= late)
    );
    assert_eq!(bench.survey.poll_finding(late), told);
    assert_eq!(bench.survey.poll_finding(late), None, "once");
    // What is learned later is told later.
    bench.answer_all(late);
    bench.survey.handle_filtered(NatFiltering::PortDependent);
    let found = bench.survey.poll_finding(late);
    assert!(matches!(found, Some(Finding::Nat(nat)) if nat != Nat::default()));
}

#[tokio::test]
async fn where_the_quick_questions_are_answered_the_filtering_is_waited_for() {
    let (mut bench, now) = (Bench::default(), Instant::now());
    bench
        .survey
        .start_within(now, bench.server(), Duration::ZERO);
    bench.answer_all(now);
    assert_eq!(bench.survey.poll_finding(now + LEAST_PATIENCE), None);
}

#[tokio::test]
async fn what_was_found_by_one_family_says_nothing_of_the_other() {
    let (mut bench, now) = Bench::for_all().surveyed();
    bench.survey.turn_to(now, bench.server(), Duration::ZERO);
    assert!(bench.survey.guessing(None, false).is_none());
    assert_eq!(bench.survey.reflexive(), None);
    assert_eq!(bench.survey.poll_finding(now), None);
    // Another address than that of the other family is no rebound.
    bench.shift += 7;
    bench.answer_all(now);
    assert_eq!(
        bench.survey.poll_finding(now),
        None,
        "the filtering is not known"
    );
    let found = bench.survey.handle_filtered(NatFiltering::Clashing);
    assert!(matches!(found, Some(Finding::Nat(nat)) if nat.filtering == NatFiltering::Clashing));
}

#[tokio::test]
async fn a_pattern_stands_until_it_was_measured_anew() {
    let (mut bench, now) = (Bench::default(), Instant::now());
    bench.survey.mapping = Some(NatMapping::Sequential { step: 3 });
    bench.survey.filtering = Some(NatFiltering::PortDependent);
    bench.survey.start(now, bench.server());
    bench.answer_all(now);
    let nat = |step| {
        Some(Finding::Nat(Nat {
            mapping: NatMapping::Sequential { step },
            filtering: NatFiltering::PortDependent,
            dependence: Some(Dependence::AddressAndPortDependent),
            ..Nat::default()
        }))
    };
    assert_eq!(bench.survey.poll_finding(now), nat(3));
    bench.answer_all(now);
    assert_eq!(bench.survey.poll_finding(now), nat(1));
}

#[tokio::test]
async fn a_second_address_shows_a_mapping_by_address() {
    let (mut bench, now) = (Bench::by_address(), Instant::now());
    let mut server = bench.server();
    server.alternate = Some(([127, 0, 0, 2], 1025).into());
    bench.survey.filtering = Some(NatFiltering::PortDependent);
    bench.survey.start(now, server);
    let nat = bench.measure(now);
    assert_eq!(nat.dependence, Some(Dependence::AddressDependent));
    assert!(matches!(nat.mapping, NatMapping::Random { .. }), "{nat:?}");
    // What peers see of us is not needed then.
    bench.observe(now, "198.51.100.1:6000", bench.reflexive().port());
    bench.observe(now, "192.0.2.9:6000", bench.reflexive().port());
    assert_eq!(bench.survey.next_look(now), None);
    assert!(bench.survey.is_hearsay(([127, 0, 0, 2], 1025).into()));
    assert!(!bench.survey.is_hearsay(bench.server().main));
}

#[tokio::test]
async fn a_mapping_for_all_is_certain_only_if_two_addresses_have_shown_it() {
    for alternate in [None, Some(([127, 0, 0, 2], 1025).into())] {
        let (mut bench, now) = (Bench::for_all(), Instant::now());
        bench.survey.filtering = Some(NatFiltering::PortDependent);
        let server = StunServer {
            alternate,
            ..bench.server()
        };
        bench.survey.start(now, server);
        let nat = bench.measure(now);
        assert_eq!(nat.mapping, NatMapping::EndpointIndependent);
        let expected = alternate.map(|_| Dependence::EndpointIndependent);
        assert_eq!(nat.dependence, expected);
    }
}

#[tokio::test]
async fn whether_our_nat_hairpins_is_told_once_measured_and_until_it_is_measured_anew() {
    for (hairpins, expected) in [(true, Hairpinning::Yes), (false, Hairpinning::No)] {
        let (mut bench, now) = Bench::for_all().surveyed();
        assert_eq!(bench.survey.nat.unwrap().hairpinning, Hairpinning::No);
        bench.hairpins = hairpins;
        bench.survey.restart(now);
        bench.answer_all(now);
        bench.survey.poll_finding(now);
        assert_eq!(bench.survey.nat.unwrap().hairpinning, Hairpinning::No);
        assert_eq!(bench.measure(now).hairpinning, expected);
    }
}

#[tokio::test]
async fn two_open_peers_show_what_a_tracker_with_one_address_cannot() {
    let (mut bench, now) = Bench::by_address().surveyed();
    bench.observe(now, "198.51.100.1:6000", 41_000);
    assert_eq!(bench.survey.next_look(now), None, "one may lie");
    bench.observe(now, "192.0.2.9:6000", 42_000);
    let due = bench.survey.next_look(now).unwrap();
    bench.survey.handle_timeout(due);
    let nat = bench.measure(due);
    assert_eq!(nat.dependence, Some(Dependence::AddressDependent));
    assert!(matches!(nat.mapping, NatMapping::Random { .. }), "{nat:?}");
}

#[tokio::test]
async fn no_liars_make_us_worse_off_for_good() {
    let hard = |bench: &mut Bench, now: Instant| {
        bench.observe(now, "198.51.100.1:6000", 41_000);
        bench.observe(now, "192.0.2.9:6000", 42_000);
        let due = bench.survey.next_look(now).unwrap();
        bench.survey.handle_timeout(due);
        assert_ne!(bench.measure(due).mapping, NatMapping::EndpointIndependent);
        due
    };
    let is_easy_again = |bench: &mut Bench, now: Instant| {
        let due = bench.survey.next_look(now).unwrap().max(now);
        bench.survey.handle_timeout(due);
        let nat = bench.measure(due);
        assert_eq!(nat.mapping, NatMapping::EndpointIndependent);
    };
    // Somebody honest comes.
    let (mut bench, now) = Bench::for_all().surveyed();
    let lied = hard(&mut bench, now);
    let ours = bench.reflexive().port();
    bench.observe(lied, "203.0.114.9:6000", ours);
    is_easy_again(&mut bench, lied);
    // Nobody says anything any more.
    let (mut bench, now) = Bench::for_all().surveyed();
    let lied = hard(&mut bench, now);
    is_easy_again(&mut bench, lied + Duration::from_secs(60 * 60));
    // We move, or come back to the tracker.
    let (mut bench, now) = Bench::for_all().surveyed();
    let lied = hard(&mut bench, now);
    bench.survey.restart(lied);
    assert_eq!(bench.measure(lied).mapping, NatMapping::EndpointIndependent);
}

#[tokio::test]
async fn what_peers_say_does_not_make_us_probe_more_than_once_a_minute() {
    let (mut bench, now) = Bench::for_all().surveyed();
    bench.observe(now, "198.51.100.1:6000", 41_000);
    bench.observe(now, "192.0.2.9:6000", 42_000);
    let due = bench.survey.next_look(now);
    assert_eq!(due, Some(now + LOOK_PAUSE), "the first probe was now");
    assert_eq!(bench.survey.poll_timeout(now), Some(now + REFRESH));
}

#[tokio::test]
async fn where_early_packets_take_ports_a_peer_that_sees_another_one_shows_nothing() {
    let (mut bench, now) = Bench::for_all().surveyed();
    bench.survey.filtering = Some(NatFiltering::Clashing);
    bench.observe(now, "198.51.100.1:6000", 41_000);
    bench.observe(now, "192.0.2.9:6000", 42_000);
    assert_eq!(bench.survey.next_look(now), None);
}

#[test]
fn whether_anything_has_changed_is_asked_at_most_every_2_s() {
    let (mut survey, start) = (Survey::default(), Instant::now());
    (survey.begun, survey.next) = (start, Some(start + REFRESH));
    survey.hurry(start);
    assert_eq!(survey.poll_timeout(start), Some(start + PAUSE));
    survey.hurry(start + PAUSE * 2);
    assert_eq!(survey.poll_timeout(start), Some(start + PAUSE));
}

#[tokio::test]
async fn a_nat_that_is_rebound_all_the_time_is_asked_twice_and_then_every_2_s() {
    let (mut bench, start) = (Bench::default(), Instant::now());
    bench.survey.start(start, bench.server());
    let (mut now, mut rebounds) = (start, Vec::new());
    while now < start + PAUSE * 4 {
        if bench.survey.probe().is_some() {
            bench.ports.clear();
            bench.shift += 100;
            bench.answer_all(now);
        }
        if bench.survey.poll_finding(now) == Some(Finding::Rebound) {
            rebounds.push((now - start).as_secs());
            bench.survey.restart(now);
        } else {
            now += Duration::from_millis(100);
            bench.survey.handle_timeout(now);
        }
    }
    assert_eq!(rebounds, [0, 0, 2, 4, 6]);
}

#[tokio::test]
async fn one_socket_at_a_time_asks_for_the_filtering() {
    let (mut bench, now) = (Bench::default(), Instant::now());
    bench.survey.start(now, bench.server());
    let first = bench.survey.probing.clone().expect("it asks");
    bench.survey.restart(now);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    // By itself it takes seconds.
    assert!(first.is_finished());
}

/// A NAT that gives each socket and destination the next port, or what else a mapping depends on
/// a port of a range.
#[derive(Default)]
struct Bench {
    survey: Survey,
    ports: BTreeMap<(u16, SocketAddr), u16>,
    kind: Option<Dependence>,
    hairpins: bool,
    /// Of all ports, since it was rebound.
    shift: u16,
}

impl Bench {
    /// Where nobody answers but we.
    fn server(&self) -> StunServer {
        StunServer {
            main: (Ipv4Addr::LOCALHOST, 1024).into(),
            other: Some((Ipv4Addr::LOCALHOST, 1025).into()),
            alternate: None,
        }
    }

    fn by_address() -> Bench {
        Bench {
            kind: Some(Dependence::AddressDependent),
            ..Bench::default()
        }
    }

    fn for_all() -> Bench {
        Bench {
            kind: Some(Dependence::EndpointIndependent),
            ..Bench::default()
        }
    }

    /// By a tracker that has one address.
    fn surveyed(mut self) -> (Bench, Instant) {
        let now = Instant::now();
        self.survey.filtering = Some(NatFiltering::PortDependent);
        self.survey.start(now, self.server());
        let nat = self.measure(now);
        assert_eq!(nat.mapping, NatMapping::EndpointIndependent);
        (self, now)
    }

    /// Runs until nothing is under way; returns what was found last.
    fn measure(&mut self, now: Instant) -> Nat {
        let mut now = now;
        while self.survey.probe().is_some() {
            self.answer_all(now);
            self.survey.poll_finding(now);
            now += Duration::from_millis(20);
            self.survey.handle_timeout(now);
        }
        self.survey.nat.unwrap()
    }

    fn reflexive(&self) -> SocketAddr {
        self.survey.reflexive().unwrap()
    }

    fn observe(&mut self, now: Instant, observer: &str, port: u16) {
        let observation = Observation {
            observer: observer.parse().unwrap(),
            mapped: SocketAddr::new(self.reflexive().ip(), port),
        };
        self.survey.observed_by(now, observation);
    }

    /// Answers all questions; returns by which sockets they were put.
    fn answer_all(&mut self, now: Instant) -> Vec<u16> {
        let credentials = Credentials::new(&[1; 10], &[2; 32]);
        let mut asked = Vec::new();
        let probe = self.survey.probe().expect("one is under way");
        while let Some(transmit) = probe.poll_transmit() {
            let count = self.shift + self.ports.len() as u16;
            let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
            let (next, far) = match self.kind {
                None => (40_000 + count, transmit.to),
                Some(Dependence::EndpointIndependent) => (40_000 + count * 769 % 4_000, nobody),
                Some(_) => {
                    let far = SocketAddr::new(transmit.to.ip(), 0);
                    (40_000 + count * 769 % 4_000, far)
                }
            };
            let flow = (transmit.via, far);
            let port = *self.ports.entry(flow).or_insert(next);
            let transaction = check::request_transaction_of(&transmit.bytes).unwrap();
            let mapped = SocketAddr::from(([203, 0, 113, 7], port));
            if transmit.to.ip() == mapped.ip() {
                if self.hairpins {
                    probe.handle_datagram(now, mapped, &transmit.bytes);
                }
                continue;
            }
            let answer = credentials.encode_answer(transaction, mapped);
            probe.handle_datagram(now, transmit.to, &answer);
            asked.extend(Some(transmit.via).filter(|_| transmit.ttl.is_none()));
        }
        asked
    }
}
