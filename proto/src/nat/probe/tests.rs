//! What a probe sends, and what it makes of the answers.

use proptest::prelude::*;
use stun_rs::methods::BINDING;
use stun_rs::{MessageClass, MessageDecoderBuilder};

use super::super::stun::binding_success;
use super::*;

const FIRST: &str = "192.0.2.1:59000";
const OTHER_PORT: &str = "192.0.2.1:59001";
const OTHER_IP: &str = "192.0.2.2:59000";

#[test]
fn a_request_is_as_long_as_the_longest_answer_and_carries_nothing_to_refuse() {
    let (mut probe, _) = probe(&[FIRST]);
    let request = probe.poll_transmit().unwrap().bytes;
    assert_eq!(request.len(), 44);
    let decoder = MessageDecoderBuilder::default().build();
    let (message, length) = decoder.decode(&request).unwrap();
    assert_eq!(length, request.len());
    assert_eq!(
        (message.method(), message.class()),
        (BINDING, MessageClass::Request)
    );
    let mut attributes = message.attributes().iter();
    assert!(attributes.all(|a| a.attribute_type().is_comprehension_optional()));
    let v6 = binding_success(&request, "[2001:db8::1]:5000");
    assert!(v6.len() <= request.len());
}

#[test]
fn the_result_comes_with_the_last_answer_and_once() {
    let (mut probe, now) = probe(&[FIRST, OTHER_PORT, OTHER_IP]);
    for (server, mapped) in [(OTHER_IP, 5002), (FIRST, 5000), (OTHER_PORT, 5001)] {
        assert_eq!(probe.poll_measured(), None);
        reply(&mut probe, now, server, server, mapped);
    }
    let measured = probe.poll_measured().unwrap();
    assert_eq!(measured.mapping, NatMapping::Sequential { step: 1 });
    assert_eq!(
        measured.reflexive(),
        Some("203.0.113.7:5000".parse().unwrap())
    );
    assert!(measured.compares_addresses());
    assert_eq!(probe.poll_measured(), None);
}

#[test]
fn two_ports_of_one_address_do_not_compare_addresses() {
    let (mut probe, now) = probe(&[FIRST, OTHER_PORT]);
    for server in [FIRST, OTHER_PORT] {
        reply(&mut probe, now, server, server, 5000);
    }
    let measured = probe.poll_measured().unwrap();
    assert_eq!(measured.mapping, NatMapping::EndpointIndependent);
    assert!(!measured.compares_addresses());
}

#[test]
fn a_silent_server_is_asked_five_times_and_then_given_up() {
    let (mut probe, start) = probe(&[FIRST, OTHER_PORT]);
    reply(&mut probe, start, FIRST, FIRST, 5000);
    assert_eq!(std::iter::from_fn(|| probe.poll_transmit()).count(), 2);
    let mut sent = vec![0];
    while let Some(now) = probe.poll_timeout() {
        assert_eq!(probe.poll_measured(), None);
        probe.handle_timeout(now);
        sent.extend(probe.poll_transmit().map(|_| (now - start).as_millis()));
    }
    assert_eq!(sent, [0, 100, 300, 700, 1500]);
    let measured = probe.poll_measured().unwrap();
    assert_eq!(measured.mapping, NatMapping::Unknown);
    assert_eq!(measured.samples.len(), 1);
}

#[test]
fn an_answer_from_elsewhere_or_to_another_question_is_no_answer() {
    let (mut probe, now) = probe(&[FIRST, OTHER_PORT]);
    reply(&mut probe, now, FIRST, OTHER_PORT, 5000);
    reply(&mut probe, now, FIRST, OTHER_IP, 5000);
    let mut other = asked(&probe, FIRST);
    other[8] ^= 1;
    probe.handle_datagram(
        now,
        FIRST.parse().unwrap(),
        &binding_success(&other, "192.0.2.9:5000"),
    );
    let question = asked(&probe, FIRST);
    for mapped in ["[2001:db8::1]:5000", "0.0.0.0:5000", "192.0.2.9:0"] {
        probe.handle_datagram(
            now,
            FIRST.parse().unwrap(),
            &binding_success(&question, mapped),
        );
    }
    assert!(
        probe
            .questions
            .iter()
            .all(|question| question.mapped().is_none())
    );
    reply(&mut probe, now, FIRST, FIRST, 5000);
    assert!(probe.questions[0].mapped().is_some());
}

#[test]
fn only_usable_servers_of_one_family_are_asked_each_once() {
    let servers = [
        "0.0.0.0:59000",
        FIRST,
        FIRST,
        "[2001:db8::1]:59000",
        OTHER_PORT,
    ];
    let (probe, _) = probe(&servers);
    let asked: Vec<_> = probe
        .questions
        .iter()
        .map(|question| question.address())
        .collect();
    assert_eq!(asked, [FIRST, OTHER_PORT].map(|text| text.parse().unwrap()));
}

#[test]
fn a_tracker_at_the_port_of_https_is_asked_and_heard() {
    let https = "192.0.2.1:443";
    let (mut probe, now) = probe(&[https, OTHER_PORT]);
    for server in [https, OTHER_PORT] {
        reply(&mut probe, now, server, server, 5000);
    }
    let measured = probe.poll_measured().unwrap();
    assert_eq!(measured.mapping, NatMapping::EndpointIndependent);
    assert_eq!(measured.samples.len(), 2);
}

#[test]
fn without_servers_the_result_is_there_at_once() {
    let (mut probe, _) = probe(&[]);
    assert_eq!(probe.poll_measured().unwrap().mapping, NatMapping::Unknown);
}

#[test]
fn a_thorough_probe_of_a_sequence_asks_from_five_more_sockets_at_once() {
    let mut bench = Thorough::new(&[FIRST, OTHER_PORT]);
    bench.answer_all(|via, server| match (via, server) {
        (0, FIRST) => 40_000,
        (0, _) => 40_001,
        (via, _) => 40_002 + 2 * via,
    });
    assert_eq!(bench.vias(), [0, 0, 0, 1, 2, 3, 4, 5]);
    let measured = bench.probe.poll_measured().unwrap();
    assert_eq!(measured.mapping, NatMapping::Sequential { step: 2 });
    assert_eq!(measured.confidence, Confidence::High);
    assert_eq!(measured.base(), Some(40_012));
    assert_eq!(
        measured.dependence,
        Some(Dependence::AddressAndPortDependent)
    );
}

#[test]
fn a_nat_that_maps_by_destination_is_asked_how_near_the_first_server_is() {
    let server: SocketAddr = FIRST.parse().unwrap();
    let mut bench = Thorough::new(&[FIRST, OTHER_PORT]);
    bench.answer_all(|via, server| match (via, server) {
        (0, FIRST) => 40_000,
        (via, _) => 40_001 + via,
    });
    let asked = bench.short_lived.iter();
    let asked: Vec<_> = asked.map(|it| (it.via, it.to, it.ttl)).collect();
    assert_eq!(asked, [3, 4, 5].map(|hops| (MAIN, server, Some(hops))));
    let measured = bench.probe.poll_measured().unwrap();
    assert_eq!(measured.primer_hops, PrimerHops::LEAST, "all were answered");
    let mut easy = Thorough::new(&[FIRST, OTHER_IP]);
    easy.answer_all(|via, _| 5_000 + via);
    easy.run();
    assert!(easy.short_lived.is_empty());
    let measured = easy.probe.poll_measured().unwrap();
    assert_eq!(measured.primer_hops, PrimerHops::LEAST);
}

#[test]
fn where_there_is_no_sequence_it_asks_from_27_more() {
    let mut bench = Thorough::new(&[FIRST, OTHER_IP]);
    bench.answer_all(|via, server| match server {
        OTHER_IP => 30_000,
        _ => 20_480 + via * 389 % 1_024,
    });
    assert_eq!(bench.vias().len(), 3 + 32);
    let times: Vec<u128> = bench.sent[8..]
        .iter()
        .map(|(at, _)| at.as_millis())
        .collect();
    assert_eq!(times[26], 26 * 2, "2 ms apart");
    let measured = bench.probe.poll_measured().unwrap();
    let NatMapping::Random { low, high } = measured.mapping else {
        panic!("{measured:?}");
    };
    assert!(low <= 20_480 && high >= 30_000);
    assert_eq!(measured.dependence, None, "no second port was asked");
}

#[test]
fn an_easy_nat_is_asked_whether_it_hairpins() {
    for hairpins in [true, false] {
        let mut bench = Thorough::new(&[FIRST, OTHER_IP]);
        bench.answer_all(|via, _| 5_000 + via);
        let sent: Vec<_> = bench
            .sent
            .iter()
            .map(|(at, it)| (at.as_millis(), it.via, it.to))
            .collect();
        let [own, neighbour] = [0, 1].map(|via| ([203, 0, 113, 7], 5_000 + via).into());
        assert_eq!(sent[3..], [(0, 0, neighbour), (0, 1, own)]);
        if hairpins {
            let request = bench.sent[4].1.bytes.clone();
            assert!(bench.probe.recognizes(&request));
            bench.probe.handle_datagram(bench.now, neighbour, &request);
        } else {
            bench.run();
            assert_eq!(bench.sent.len(), 3 + 2 * HAIRPINS);
        }
        let expected = match hairpins {
            true => Hairpinning::Yes,
            false => Hairpinning::No,
        };
        assert_eq!(bench.probe.poll_measured().unwrap().hairpinning, expected);
    }
}

#[test]
fn a_server_that_lies_about_our_address_has_six_packets_sent_there() {
    let mut bench = Thorough::new(&[FIRST, OTHER_PORT]);
    bench.answer_with(|_, _| "192.0.2.66:7000".to_owned());
    bench.run();
    let victim: SocketAddr = "192.0.2.66:7000".parse().unwrap();
    let sent = bench.sent.iter().filter(|(_, it)| it.to == victim);
    // The allowance may refuse them.
    assert!(sent.clone().all(|(_, it)| it.charge == Charge::Unasked));
    assert_eq!(sent.count(), 2 * HAIRPINS);
    let mut bench = Thorough::new(&[FIRST, OTHER_PORT]);
    bench.answer_with(|_, _| "192.0.2.66:53".to_owned());
    assert_eq!(bench.sent.len(), 3);
    let measured = bench.probe.poll_measured().unwrap();
    assert_eq!(measured.hairpinning, Hairpinning::Unknown);
}

#[test]
fn both_families_are_measured() {
    let servers = ["[2001:db8::1]:59000", "[2001:db8::1]:59001", FIRST];
    let mut bench = Thorough::new(&servers);
    bench.answer_with(|via, _| format!("[2001:db8:7::1]:{}", 5_000 + via));
    bench.run();
    let measured = bench.probe.poll_measured().unwrap();
    assert_eq!(measured.mapping, NatMapping::EndpointIndependent);
    assert_eq!(measured.samples.len(), 3, "and one of the neighbour");
}

#[test]
fn an_open_peer_shows_what_two_ports_of_one_address_cannot() {
    let measured = |observed: Option<u16>| {
        let mut bench = Thorough::new(&[FIRST, OTHER_PORT]);
        let observation = observed.map(|port| Observation {
            observer: OTHER_IP.parse().unwrap(),
            mapped: ([203, 0, 113, 7], port).into(),
        });
        bench.probe = bench.probe.observed_by(observation.into_iter().collect());
        // The ports of a range, in no order.
        bench.answer_all(|via, _| 5_000 + via * 769 % 1_000);
        bench.run();
        let measured = bench.probe.poll_measured().unwrap();
        (measured.mapping, measured.confidence, measured.dependence)
    };
    let (mapping, confidence, _) = measured(None);
    assert_eq!(mapping, NatMapping::EndpointIndependent);
    assert_eq!(confidence, Confidence::Low);
    let (mapping, confidence, _) = measured(Some(5_000));
    assert_eq!(mapping, NatMapping::EndpointIndependent);
    assert_eq!(confidence, Confidence::High);
    let (mapping, confidence, dependence) = measured(Some(40_000));
    assert!(matches!(mapping, NatMapping::Random { .. }), "{mapping:?}");
    assert_eq!(confidence, Confidence::High);
    assert_eq!(dependence, Some(Dependence::AddressDependent));
}

#[test]
fn a_second_address_that_is_silent_holds_up_what_is_known_for_half_a_second() {
    let (mut probe, start) = probe(&[FIRST, OTHER_PORT, OTHER_IP]);
    for server in [FIRST, OTHER_PORT] {
        reply(&mut probe, start, server, server, 5000);
    }
    while let Some(now) = probe.poll_timeout() {
        assert_eq!(probe.poll_measured(), None);
        assert!(now <= start + ALTERNATE_WAIT);
        probe.handle_timeout(now);
    }
    let asked = std::iter::from_fn(|| probe.poll_transmit());
    let second = OTHER_IP.parse().unwrap();
    assert_eq!(asked.filter(|transmit| transmit.to == second).count(), 3);
    let measured = probe.poll_measured().unwrap();
    assert_eq!(measured.mapping, NatMapping::EndpointIndependent);
    assert!(!measured.compares_addresses());
}

#[test]
fn a_thorough_probe_without_answers_is_over_as_soon() {
    let mut bench = Thorough::new(&[FIRST, OTHER_PORT]);
    bench.run();
    let measured = bench.probe.poll_measured().unwrap();
    assert_eq!(measured.mapping, NatMapping::Unknown);
    assert!(bench.vias().iter().all(|via| *via == MAIN));
}

proptest! {
    #[test]
    fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let (mut probe, now) = probe(&[FIRST]);
        let mut answer = binding_success(&asked(&probe, FIRST), "192.0.2.9:5000");
        for (at, byte) in bytes.iter().enumerate() {
            let index = at * 7 % answer.len();
            answer[index] ^= byte;
        }
        probe.handle_datagram(now, FIRST.parse().unwrap(), &bytes);
        probe.handle_datagram(now, FIRST.parse().unwrap(), &answer);
    }
}

fn probe(servers: &[&str]) -> (MappingProbe, Instant) {
    let now = Instant::now();
    let servers: Vec<_> = servers.iter().map(|text| text.parse().unwrap()).collect();
    (MappingProbe::new(now, &servers, [1; 32]), now)
}

/// The request that went to this server.
fn asked(probe: &MappingProbe, server: &str) -> Vec<u8> {
    let server = server.parse().unwrap();
    let asked = probe.questions.iter().find(|q| q.address() == server);
    encode_request(asked.unwrap().transaction(0), &[])
}

/// Lets `from` answer what `server` was asked.
fn reply(probe: &mut MappingProbe, now: Instant, server: &str, from: &str, port: u16) {
    let answer = binding_success(&asked(probe, server), &format!("203.0.113.7:{port}"));
    probe.handle_datagram(now, from.parse().unwrap(), &answer);
}

/// A thorough probe, and all it has sent since the start.
struct Thorough {
    start: Instant,
    now: Instant,
    probe: MappingProbe,
    sent: Vec<(Duration, Transmit)>,
    /// What may not travel all the way is not among that.
    short_lived: Vec<Transmit>,
}

impl Thorough {
    fn new(servers: &[&str]) -> Thorough {
        let now = Instant::now();
        let servers: Vec<_> = servers.iter().map(|text| text.parse().unwrap()).collect();
        let probe = MappingProbe::thorough(now, &servers, [1; 32]);
        Thorough {
            start: now,
            now,
            probe,
            sent: Vec::new(),
            short_lived: Vec::new(),
        }
    }

    fn take_sent(&mut self) -> Vec<Transmit> {
        let sent: Vec<Transmit> = std::iter::from_fn(|| self.probe.poll_transmit()).collect();
        let since = self.now - self.start;
        let (whole, short) = sent
            .iter()
            .cloned()
            .partition::<Vec<_>, _>(|it| it.ttl.is_none());
        self.sent.extend(whole.into_iter().map(|it| (since, it)));
        self.short_lived.extend(short);
        sent
    }

    /// Until nothing is due any more; nobody answers.
    fn run(&mut self) {
        self.take_sent();
        while let Some(next) = self.probe.poll_timeout() {
            self.now = self.now.max(next);
            self.probe.handle_timeout(self.now);
            self.take_sent();
        }
    }

    /// Servers answer at once, as long as they are asked, with an outside port.
    fn answer_all(&mut self, port: impl Fn(u16, &str) -> u16) {
        self.answer_with(|via, server| format!("203.0.113.7:{}", port(via, server)));
    }

    fn answer_with(&mut self, mapped: impl Fn(u16, &str) -> String) {
        loop {
            let asked = self.take_sent();
            for request in &asked {
                let server = request.to.to_string();
                let answer = binding_success(&request.bytes, &mapped(request.via, &server));
                self.probe.handle_datagram(self.now, request.to, &answer);
            }
            let is_asking = matches!(self.probe.stage, Stage::Range);
            match self.probe.poll_timeout().filter(|_| is_asking) {
                Some(next) => {
                    self.now = self.now.max(next);
                    self.probe.handle_timeout(self.now);
                }
                None if asked.is_empty() => return,
                None => (),
            }
        }
    }

    fn vias(&self) -> Vec<u16> {
        self.sent.iter().map(|(_, it)| it.via).collect()
    }
}
