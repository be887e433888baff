//! Measures how our NAT picks outside ports, by asking several servers how we look to them.
//!
//! [`MappingProbe`] sends a STUN Binding request to each of several server addresses from the one
//! socket in question and compares the answers (RFC 5780 §4.3). Feed it datagrams and the time,
//! send what `poll_transmit` yields, sleep until `poll_timeout`, until `poll_measured` yields.
//!
//! Two ports of one server tell whether the mapping depends on the port; only two IP addresses tell
//! whether it depends on the address ([`Measured::compares_addresses`]).
//!
//! Answers are not authenticated. They are matched by transaction and source, so only somebody who
//! sees our packets can forge one; what it gains is that our peers look for us in a wrong place.
//!
//! Not here: filtering, which only a packet from an address we never sent to can show
//! ([`super::FilteringProbe`]).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::stun::{self, Message, Transaction};
use super::{Transmit, usable};
use crate::wire::NatMapping;

/// Pauses after each request to one server. Short at first: a lost packet should not hold up the
/// start of a daemon.
const PAUSES_MS: [u64; 5] = [100, 200, 400, 800, 800];

/// Most servers asked.
const SERVERS: usize = 8;

/// Ports at most this far apart, always in one direction, are handed out in sequence; what lies
/// between two of ours went to other flows behind the NAT.
const MAX_STEP: u16 = 16;

/// Makes a request as long as the longest answer, 44 bytes with an IPv6 address, so that a server
/// that must not amplify serves it. PADDING (RFC 5780 §7.6) would have to be understood; this need
/// not be.
const SOFTWARE: &[u8; 20] = b"warren nat behaviour";

/// How one server saw our socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The server.
    pub server: SocketAddr,
    /// Where it saw our packet come from.
    pub mapped: SocketAddr,
}

/// What the answers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// How our NAT maps ports, as far as these servers show.
    pub mapping: NatMapping,
    /// One for each server that answered, in the order they were asked in.
    pub samples: Vec<Sample>,
}

impl Measured {
    /// Our server-reflexive address, if any server answered.
    pub fn reflexive(&self) -> Option<SocketAddr> {
        self.samples.first().map(|sample| sample.mapped)
    }

    /// Whether servers at two IP addresses answered. If not, a mapping that depends on the address
    /// but not on the port looks endpoint-independent.
    pub fn compares_addresses(&self) -> bool {
        let first = self.samples.first().map(|sample| sample.server.ip());
        let differs = |sample: &Sample| Some(sample.server.ip()) != first;
        self.samples.iter().any(differs)
    }
}

/// Asks some servers at once how one socket looks to them.
#[derive(Debug)]
pub struct MappingProbe {
    servers: Vec<Question>,
    transmits: VecDeque<Transmit>,
    is_reported: bool,
}

/// One server and what it is asked: how we look to it.
#[derive(Debug)]
pub(super) struct Question {
    address: SocketAddr,
    transaction: Transaction,
    pauses: std::slice::Iter<'static, u64>,
    /// When to ask again or give up; none once either happened for the last time.
    next: Option<Instant>,
    mapped: Option<SocketAddr>,
}

impl MappingProbe {
    /// Asks the first 8 usable addresses of the first one's family, each once. Two ports of one
    /// server should be among them, and a second IP address if there is one.
    pub fn new(now: Instant, servers: &[SocketAddr], seed: [u8; 32]) -> MappingProbe {
        let mut rng = StdRng::from_seed(seed);
        let mut probe = MappingProbe {
            servers: Vec::new(),
            transmits: VecDeque::new(),
            is_reported: false,
        };
        for address in servers.iter().copied().filter_map(usable) {
            let first = probe.servers.first();
            let fits = first.is_none_or(|server| is_same_family(server.address, address));
            let is_new = probe.servers.iter().all(|server| server.address != address);
            if fits && is_new && probe.servers.len() < SERVERS {
                let transaction = Transaction(rng.random());
                probe.servers.push(Question::new(now, address, transaction));
            }
        }
        probe.handle_timeout(now);
        probe
    }

    /// Whether the datagram claims to be an answer to one of our requests.
    pub fn recognizes(&self, bytes: &[u8]) -> bool {
        super::check::transaction_of(bytes)
            .is_some_and(|answered| self.servers.iter().any(|s| s.transaction == answered))
    }

    /// Takes a datagram in. What is not an answer of the server that was asked changes nothing.
    pub fn handle_datagram(&mut self, _now: Instant, from: SocketAddr, bytes: &[u8]) {
        let (Some(from), Some(message)) = (usable(from), Message::parse(bytes)) else {
            return;
        };
        for server in &mut self.servers {
            server.handle_message(from, &message);
        }
    }

    /// Advances to `now`: asks again those that have not answered, or gives them up.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = self
            .servers
            .iter_mut()
            .filter_map(|s| s.handle_timeout(now));
        self.transmits.extend(due);
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When to call [`MappingProbe::handle_timeout`], or `None` when there is nothing to wait for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.servers.iter().filter_map(|server| server.next).min()
    }

    /// The result, once: when every server has answered or was given up.
    pub fn poll_measured(&mut self) -> Option<Measured> {
        if self.is_reported || self.poll_timeout().is_some() {
            return None;
        }
        self.is_reported = true;
        let sample = |server: &Question| {
            let server_address = server.address;
            server.mapped.map(|mapped| Sample {
                server: server_address,
                mapped,
            })
        };
        let samples: Vec<Sample> = self.servers.iter().filter_map(sample).collect();
        Some(Measured {
            mapping: classify(&samples),
            samples,
        })
    }
}

impl Question {
    /// To be asked at `now`, and again until there is an answer or the pauses are used up.
    pub(super) fn new(now: Instant, address: SocketAddr, transaction: Transaction) -> Question {
        Question {
            address,
            transaction,
            pauses: PAUSES_MS.iter(),
            next: Some(now),
            mapped: None,
        }
    }

    pub(super) fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// Where the server saw our packet come from, once it has answered.
    pub(super) fn mapped(&self) -> Option<SocketAddr> {
        self.mapped
    }

    /// When to call `handle_timeout`; `None` once answered or given up.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Takes in what came from `from`, if it is the answer.
    pub(super) fn handle_message(&mut self, from: SocketAddr, message: &Message<'_>) {
        let is_answer = self.address == from
            && self.transaction == message.transaction
            && message.kind == stun::BINDING_SUCCESS;
        let mapped = message.mapped_address().filter(|mapped| {
            is_same_family(*mapped, from) && !mapped.ip().is_unspecified() && mapped.port() != 0
        });
        if let (true, Some(mapped)) = (is_answer, mapped) {
            self.next = None;
            self.mapped.get_or_insert(mapped);
        }
    }

    /// The request, if it is due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Transmit> {
        self.next.take_if(|next| *next <= now)?;
        let pause = self.pauses.next()?;
        self.next = Some(now + Duration::from_millis(*pause));
        Some(Transmit {
            to: self.address,
            bytes: encode_request(self.transaction, &[]),
            ttl: None,
        })
    }
}

/// How a NAT maps that showed one socket to several servers like this, in the order they were asked
/// in. More samples, also of further sockets, narrow the range of a random mapping down.
pub fn classify(samples: &[Sample]) -> NatMapping {
    let [first, others @ ..] = samples else {
        return NatMapping::Unknown;
    };
    if others.is_empty() {
        return NatMapping::Unknown;
    }
    if others.iter().all(|sample| sample.mapped == first.mapped) {
        return NatMapping::EndpointIndependent;
    }
    if others.iter().any(|s| s.mapped.ip() != first.mapped.ip()) {
        return NatMapping::AddressDependent;
    }
    let mut ports: Vec<u16> = samples.iter().map(|sample| sample.mapped.port()).collect();
    ports.dedup();
    match (step(&ports), &ports[..]) {
        (Some(step), _) => NatMapping::Sequential { step },
        (None, [_, _]) => NatMapping::AddressDependent,
        (None, _) => NatMapping::Random {
            low: ports.iter().copied().min().unwrap_or_default(),
            high: ports.iter().copied().max().unwrap_or_default(),
        },
    }
}

/// The smallest distance between neighbours, if they all go the same way and never far.
fn step(ports: &[u16]) -> Option<i16> {
    let steps = ports.windows(2).map(|pair| {
        let is_near = pair[0].abs_diff(pair[1]) <= MAX_STEP;
        let step = i32::from(pair[1]) - i32::from(pair[0]);
        i16::try_from(step).ok().filter(|_| is_near)
    });
    let steps = steps.collect::<Option<Vec<i16>>>()?;
    let is_one_way = steps.iter().all(|step| step.signum() == steps[0].signum());
    let nearest = steps.iter().copied().min_by_key(|step| step.abs());
    nearest.filter(|_| is_one_way)
}

/// A Binding request with further attributes `more`, whose length is a multiple of four.
pub(super) fn encode_request(transaction: Transaction, more: &[u8]) -> Vec<u8> {
    let length = stun::ATTRIBUTE_HEADER_BYTES + SOFTWARE.len() + more.len();
    let mut bytes = Vec::with_capacity(stun::HEADER_BYTES + length);
    bytes.extend_from_slice(&stun::BINDING_REQUEST.to_be_bytes());
    bytes.extend_from_slice(&(length as u16).to_be_bytes());
    bytes.extend_from_slice(&stun::MAGIC_COOKIE);
    bytes.extend_from_slice(&transaction.0);
    bytes.extend_from_slice(&stun::SOFTWARE.to_be_bytes());
    bytes.extend_from_slice(&(SOFTWARE.len() as u16).to_be_bytes());
    bytes.extend_from_slice(SOFTWARE);
    bytes.extend_from_slice(more);
    bytes
}

fn is_same_family(a: SocketAddr, b: SocketAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stun_rs::methods::BINDING;
    use stun_rs::{MessageClass, MessageDecoderBuilder};

    use super::super::stun::binding_success;
    use super::*;

    const FIRST: &str = "192.0.2.1:59000";
    const OTHER_PORT: &str = "192.0.2.1:59001";
    const OTHER_IP: &str = "192.0.2.2:59000";

    #[test]
    fn one_port_for_all_is_endpoint_independent() {
        check(&[5000, 5000], NatMapping::EndpointIndependent);
        check(&[5000, 5000, 5000], NatMapping::EndpointIndependent);
    }

    #[test]
    fn ports_near_each_other_in_one_direction_are_sequential() {
        check(&[5000, 5001], NatMapping::Sequential { step: 1 });
        check(&[5000, 5002, 5008], NatMapping::Sequential { step: 2 });
        check(&[5000, 4999, 4996], NatMapping::Sequential { step: -1 });
        // By address only: both ports of the first server see the same one.
        check(&[5000, 5000, 5003], NatMapping::Sequential { step: 3 });
    }

    #[test]
    fn ports_without_a_pattern_are_a_range() {
        let (low, high) = (1024, 65535);
        check(&[30000, 1024, 65535], NatMapping::Random { low, high });
        let (low, high) = (5000, 5001);
        check(&[5000, 5001, 5000], NatMapping::Random { low, high });
    }

    #[test]
    fn two_ports_far_apart_show_no_more_than_dependence() {
        check(&[5000, 5017], NatMapping::AddressDependent);
        check(&[1024, 65535], NatMapping::AddressDependent);
    }

    #[test]
    fn outside_addresses_that_differ_show_no_pattern() {
        let mut samples = samples(&[5000, 5000]);
        samples[1].mapped = "198.51.100.1:5000".parse().unwrap();
        assert_eq!(classify(&samples), NatMapping::AddressDependent);
    }

    #[test]
    fn one_answer_shows_nothing() {
        check(&[], NatMapping::Unknown);
        check(&[5000], NatMapping::Unknown);
    }

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
        assert!(probe.servers.iter().all(|server| server.mapped.is_none()));
        reply(&mut probe, now, FIRST, FIRST, 5000);
        assert!(probe.servers[0].mapped.is_some());
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
        let asked: Vec<_> = probe.servers.iter().map(|server| server.address).collect();
        assert_eq!(asked, [FIRST, OTHER_PORT].map(|text| text.parse().unwrap()));
    }

    #[test]
    fn without_servers_the_result_is_there_at_once() {
        let (mut probe, _) = probe(&[]);
        assert_eq!(probe.poll_measured().unwrap().mapping, NatMapping::Unknown);
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

        #[test]
        fn any_ports_are_classified(ports in proptest::collection::vec(any::<u16>(), 0..8)) {
            if let NatMapping::Random { low, high } = classify(&samples(&ports)) {
                prop_assert!(ports.iter().all(|port| (low..=high).contains(port)));
            }
        }
    }

    #[track_caller]
    fn check(ports: &[u16], expected: NatMapping) {
        assert_eq!(classify(&samples(ports)), expected);
    }

    fn samples(ports: &[u16]) -> Vec<Sample> {
        let server = FIRST.parse().unwrap();
        let sample = |port: &u16| Sample {
            server,
            mapped: ([203, 0, 113, 7], *port).into(),
        };
        ports.iter().map(sample).collect()
    }

    fn probe(servers: &[&str]) -> (MappingProbe, Instant) {
        let now = Instant::now();
        let servers: Vec<_> = servers.iter().map(|text| text.parse().unwrap()).collect();
        (MappingProbe::new(now, &servers, [1; 32]), now)
    }

    /// The request that went to this server.
    fn asked(probe: &MappingProbe, server: &str) -> Vec<u8> {
        let server = server.parse().unwrap();
        let asked = probe.servers.iter().find(|s| s.address == server);
        encode_request(asked.unwrap().transaction, &[])
    }

    /// Lets `from` answer what `server` was asked.
    fn reply(probe: &mut MappingProbe, now: Instant, server: &str, from: &str, port: u16) {
        let answer = binding_success(&asked(probe, server), &format!("203.0.113.7:{port}"));
        probe.handle_datagram(now, from.parse().unwrap(), &answer);
    }
}
