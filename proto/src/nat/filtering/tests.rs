use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::Rng as _;

use super::super::stun::binding_success;
use super::*;

const SERVER: &str = "192.0.2.1:59000";
const OTHER_PORT: &str = "192.0.2.1:59001";

#[test]
fn a_nat_is_taken_for_what_it_lets_in() {
    check(Nat::None, NatFiltering::PortIndependent);
    check(Nat::EndpointIndependent, NatFiltering::PortIndependent);
    check(Nat::AddressDependent, NatFiltering::PortIndependent);
    check(Nat::AddressAndPortDependent, NatFiltering::PortDependent);
    check(Nat::Clashing, NatFiltering::Clashing);
}

#[test]
fn a_mapping_that_depends_on_the_port_looks_like_a_clash_until_it_is_known() {
    let measured = measure(Nat::MapsByPort, Server::Able, 20, 0, 1);
    assert_eq!(measured, NatFiltering::Clashing);
    let mappings = [
        NatMapping::Unknown,
        NatMapping::AddressDependent,
        NatMapping::Sequential { step: 1 },
        NatMapping::Random { low: 1, high: 2 },
    ];
    for mapping in mappings {
        assert_eq!(measured.given(mapping), NatFiltering::PortDependent);
        for other in [NatFiltering::Unknown, NatFiltering::PortIndependent] {
            assert_eq!(other.given(mapping), other);
        }
    }
    let mapping = NatMapping::EndpointIndependent;
    assert_eq!(measured.given(mapping), NatFiltering::Clashing);
}

#[test]
fn a_server_that_cannot_or_does_not_change_ports_shows_nothing() {
    for server in [Server::Refuses, Server::Ignores, Server::OtherPortIsDead] {
        for nat in Nat::ALL {
            let measured = measure(nat, server, 20, 0, 1);
            assert_eq!(measured, NatFiltering::Unknown, "{server:?} behind {nat:?}");
        }
    }
}

#[test]
fn loss_leaves_the_result_right_or_unknown_most_of_the_time() {
    for (nat, right) in [
        (Nat::None, NatFiltering::PortIndependent),
        (Nat::AddressDependent, NatFiltering::PortIndependent),
        (Nat::AddressAndPortDependent, NatFiltering::PortDependent),
        (Nat::Clashing, NatFiltering::Clashing),
    ] {
        let results = (0..200).map(|seed| measure(nat, Server::Able, 60, 10, seed));
        let results: Vec<_> = results.collect();
        let is_right = |result: &&NatFiltering| **result == right;
        let wrong = |result: &&NatFiltering| **result != right && **result != NatFiltering::Unknown;
        assert!(results.iter().filter(is_right).count() >= 190, "{nat:?}");
        assert!(results.iter().filter(wrong).count() <= 4, "{nat:?}");
    }
}

#[test]
fn no_loss_makes_a_plain_filter_look_like_a_clash() {
    // What it drops leaves no trace.
    for seed in 0..200 {
        let measured = measure(Nat::AddressAndPortDependent, Server::Able, 60, 30, seed);
        let expected = [NatFiltering::PortDependent, NatFiltering::Unknown];
        assert!(expected.contains(&measured), "{measured:?}");
    }
}

#[test]
fn a_far_server_is_waited_for() {
    for (nat, result) in [
        (Nat::AddressDependent, NatFiltering::PortIndependent),
        (Nat::Clashing, NatFiltering::Clashing),
    ] {
        assert_eq!(measure(nat, Server::Able, 400, 0, 1), result);
    }
}

#[test]
fn a_silent_server_is_given_up_within_three_seconds() {
    let (mut probe, start) = probe();
    let mut sent = Vec::new();
    let mut now = start;
    loop {
        while let Some(transmit) = probe.poll_transmit() {
            assert_eq!(transmit.to, SERVER.parse().unwrap());
            sent.push((now - start).as_millis());
        }
        match probe.poll_timeout() {
            Some(next) => now = next,
            None => break,
        }
        assert_eq!(probe.poll_measured(), None);
        probe.handle_timeout(now);
    }
    assert_eq!(sent, [0, 0, 40, 80, 100, 300, 700, 1500]);
    assert!(now - start <= DEADLINE, "{:?}", now - start);
    assert_eq!(probe.poll_measured(), Some(NatFiltering::Unknown));
    assert_eq!(probe.poll_measured(), None);
}

#[test]
fn what_was_let_in_uninvited_ends_it_at_once() {
    let (mut probe, now) = probe();
    let change = changes(&mut probe).pop().unwrap();
    let answer = binding_success(&change, "203.0.113.7:5000");
    assert!(probe.recognizes(&answer));
    // From ports that are neither.
    probe.handle_datagram(now, "192.0.2.1:59002".parse().unwrap(), &answer);
    probe.handle_datagram(now, "192.0.2.2:59001".parse().unwrap(), &answer);
    assert_eq!(probe.poll_measured(), None);
    probe.handle_datagram(now, OTHER_PORT.parse().unwrap(), &answer);
    assert_eq!(probe.poll_measured(), Some(NatFiltering::PortIndependent));
    assert_eq!((probe.poll_timeout(), probe.poll_transmit()), (None, None));
}

#[test]
fn a_tracker_at_the_port_of_https_is_asked_and_heard() {
    let now = Instant::now();
    let server = "192.0.2.1:443".parse().unwrap();
    let mut probe = FilteringProbe::new(now, server, OTHER_PORT.parse().unwrap(), [1; 32]);
    let request = changes(&mut probe).pop().unwrap();
    probe.handle_datagram(now, server, &refusal(&request));
    assert_eq!(probe.poll_measured(), Some(NatFiltering::Unknown));
}

#[test]
fn what_comes_after_we_sent_there_ourselves_was_invited() {
    let (mut probe, now) = probe();
    let change = changes(&mut probe).pop().unwrap();
    let plain = encode_request(probe.plain.transaction(0), &[]);
    let [server, other] = [SERVER, OTHER_PORT].map(|text| text.parse().unwrap());
    probe.handle_datagram(now, server, &binding_success(&plain, "203.0.113.7:5000"));
    while !matches!(probe.state, State::Invited { .. }) {
        probe.handle_timeout(probe.poll_timeout().unwrap());
    }
    let asked_at = now + 2 * CHANGE_GAP + SHORTEST_WAIT;
    probe.handle_datagram(
        asked_at,
        other,
        &binding_success(&change, "203.0.113.7:5000"),
    );
    assert_eq!(probe.poll_measured(), None);
    let question = std::iter::from_fn(|| probe.poll_transmit()).last().unwrap();
    assert_eq!(question.to, other);
    let answer = binding_success(&question.bytes, "203.0.113.7:5000");
    probe.handle_datagram(asked_at, other, &answer);
    assert_eq!(probe.poll_measured(), Some(NatFiltering::PortDependent));
}

#[test]
fn no_request_is_shorter_than_its_answer() {
    let (mut probe, _) = probe();
    let requests = changes(&mut probe);
    assert_eq!(requests.len(), 1);
    for request in requests {
        assert!(request.len() >= refusal(&request).len());
        assert!(request.len() >= binding_success(&request, "[2001:db8::1]:5000").len());
    }
}

#[test]
fn addresses_that_cannot_show_anything_are_not_asked() {
    for (server, other) in [
        (SERVER, SERVER),
        (SERVER, "192.0.2.2:59001"),
        (SERVER, "192.0.2.1:0"),
        ("0.0.0.0:59000", "0.0.0.0:59001"),
    ] {
        let [server, other] = [server, other].map(|text| text.parse().unwrap());
        let mut probe = FilteringProbe::new(Instant::now(), server, other, [1; 32]);
        assert_eq!(probe.poll_transmit(), None);
        assert_eq!(probe.poll_measured(), Some(NatFiltering::Unknown));
    }
}

proptest! {
    #[test]
    fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80), at_ms in 0u64..4000) {
        let (mut probe, start) = probe();
        let now = start + Duration::from_millis(at_ms);
        probe.handle_timeout(now);
        let mut answer = binding_success(&encode_request(probe.change, &[]), "203.0.113.7:5000");
        for (at, byte) in bytes.iter().enumerate() {
            let index = at * 7 % answer.len();
            answer[index] ^= byte;
        }
        for from in [SERVER, OTHER_PORT].map(|text| text.parse().unwrap()) {
            probe.handle_datagram(now, from, &bytes);
            probe.handle_datagram(now, from, &answer);
        }
    }
}

/// What lies between the probe and its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nat {
    None,
    /// Filters like this, and maps to one port for all destinations.
    EndpointIndependent,
    AddressDependent,
    AddressAndPortDependent,
    /// The same, but gives the port away to what it drops.
    Clashing,
    /// The same, and maps to a port per far address and port.
    MapsByPort,
}

impl Nat {
    const ALL: [Nat; 6] = [
        Nat::None,
        Nat::EndpointIndependent,
        Nat::AddressDependent,
        Nat::AddressAndPortDependent,
        Nat::Clashing,
        Nat::MapsByPort,
    ];
}

#[derive(Clone, Copy, Debug)]
enum Server {
    Able,
    Refuses,
    /// Takes CHANGE-REQUEST for something it may ignore.
    Ignores,
    OtherPortIsDead,
}

#[track_caller]
fn check(nat: Nat, expected: NatFiltering) {
    for rtt_ms in [0, 20, 200] {
        assert_eq!(
            measure(nat, Server::Able, rtt_ms, 0, 1),
            expected,
            "{nat:?}"
        );
    }
}

/// What the probe finds behind this NAT when so many of a hundred packets are lost.
fn measure(nat: Nat, server: Server, rtt_ms: u64, loss: u32, seed: u64) -> NatFiltering {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut probe, start) = probe();
    let mut now = start;
    let mut gateway = Gateway::default();
    // When, and from which server port to which port of the NAT.
    let mut under_way: Vec<(Instant, SocketAddr, u16, Vec<u8>)> = Vec::new();
    loop {
        while let Some(transmit) = probe.poll_transmit() {
            let port = gateway.outbound(nat, transmit.to);
            if rng.random_range(0..100) < loss {
                continue;
            }
            let mapped = SocketAddr::from(([203, 0, 113, 7], port));
            let answer = answer(server, transmit.to, &transmit.bytes, mapped);
            if let Some((from, bytes)) = answer
                && rng.random_range(0..100) >= loss
            {
                let arrival = now + Duration::from_millis(rtt_ms);
                under_way.push((arrival, from, port, bytes));
            }
        }
        if let Some(result) = probe.poll_measured() {
            assert!(now - start <= DEADLINE);
            return result;
        }
        let timeout = probe.poll_timeout().unwrap();
        under_way.sort_by_key(|(at, ..)| *at);
        match under_way.first() {
            Some((at, ..)) if *at <= timeout => {
                let (at, from, port, bytes) = under_way.remove(0);
                now = at;
                if gateway.lets_in(nat, from, port) {
                    assert!(probe.recognizes(&bytes));
                    probe.handle_datagram(now, from, &bytes);
                }
            }
            _ => {
                now = now.max(timeout);
                probe.handle_timeout(now);
            }
        }
    }
}

#[derive(Default)]
struct Gateway {
    contacted: BTreeSet<SocketAddr>,
    /// What came in uninvited and took our port.
    taken: BTreeSet<SocketAddr>,
}

impl Gateway {
    /// The outside port of what we send to `far`.
    fn outbound(&mut self, nat: Nat, far: SocketAddr) -> u16 {
        self.contacted.insert(far);
        match nat {
            Nat::MapsByPort => 1024 + far.port() % 1000,
            _ if self.taken.contains(&far) => 6000,
            _ => 5000,
        }
    }

    fn lets_in(&mut self, nat: Nat, far: SocketAddr, port: u16) -> bool {
        let is_invited = self.contacted.contains(&far);
        if nat == Nat::Clashing && !is_invited && port == 5000 {
            self.taken.insert(far);
        }
        let knows_address = self.contacted.iter().any(|known| known.ip() == far.ip());
        match nat {
            Nat::None | Nat::EndpointIndependent => true,
            Nat::AddressDependent => knows_address,
            Nat::AddressAndPortDependent | Nat::Clashing | Nat::MapsByPort => is_invited,
        }
    }
}

/// What a server says to what was sent to `asked`, and from where.
fn answer(
    server: Server,
    asked: SocketAddr,
    request: &[u8],
    mapped: SocketAddr,
) -> Option<(SocketAddr, Vec<u8>)> {
    let [main, other] = [SERVER, OTHER_PORT].map(|text| text.parse().unwrap());
    let wants_change = Message::parse(request).unwrap().attribute(3).is_some();
    let success = binding_success(request, &mapped.to_string());
    match server {
        Server::OtherPortIsDead if asked == other || wants_change => None,
        Server::Refuses if wants_change => Some((asked, refusal(request))),
        Server::Able if wants_change && asked == main => Some((other, success)),
        Server::Able if wants_change => Some((main, success)),
        _ => Some((asked, success)),
    }
}

fn probe() -> (FilteringProbe, Instant) {
    let now = Instant::now();
    let [server, other] = [SERVER, OTHER_PORT].map(|text| text.parse().unwrap());
    (FilteringProbe::new(now, server, other, [1; 32]), now)
}

/// Those requests to be sent now that ask for the other port.
fn changes(probe: &mut FilteringProbe) -> Vec<Vec<u8>> {
    let change = probe.change;
    std::iter::from_fn(|| probe.poll_transmit())
        .map(|transmit| transmit.bytes)
        .filter(|bytes| Message::parse(bytes).unwrap().transaction == change)
        .collect()
}

/// 420 as the tracker says it.
fn refusal(request: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x01, 0x11, 0, 28];
    bytes.extend_from_slice(&request[4..20]);
    bytes.extend_from_slice(b"\x00\x09\x00\x10\x00\x00\x04\x14Unknown type");
    bytes.extend_from_slice(&[0x00, 0x0a, 0x00, 0x02, 0x00, 0x03, 0, 0]);
    bytes
}
