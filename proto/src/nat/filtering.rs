//! Measures what our NAT or firewall lets in, by having a server answer from a port we never sent
//! to (RFC 5780 §4.4, of which this is the part that takes one IP address).
//!
//! [`FilteringProbe`] needs a socket of its own that has sent nothing yet, since whatever it sent
//! may have opened the NAT. Feed it datagrams and the time, send what `poll_transmit` yields, sleep
//! until `poll_timeout`, until `poll_measured` yields. That takes a third of a second or two round
//! trips, and 3 s at most.
//!
//! It asks a server plainly, and at the same time for an answer from its other port. If nothing
//! comes from there, we send there ourselves: a NAT whose outside port has changed by then gave it
//! to the packet that it dropped, which is how netfilter masquerades without an input filter.
//!
//! A NAT whose mapping depends on the far port shows another port too, so the result must be
//! corrected by what a [`MappingProbe`](super::MappingProbe) finds from another socket:
//! [`NatFiltering::given`].

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::probe::{Question, encode_request};
use super::stun::{self, Message, Transaction};
use super::{Transmit, usable};
use crate::wire::{NatFiltering, NatMapping};

/// How often we ask for an answer from the other port. None of these can be repeated when none is
/// answered, which is what most NATs do, so a few are sent in advance against loss.
const CHANGES: u32 = 3;

/// Gap between those.
const CHANGE_GAP: Duration = Duration::from_millis(40);

/// Shortest wait for an answer from the other port: round-trip times vary.
const SHORTEST_WAIT: Duration = Duration::from_millis(150);

/// When to give up, whatever is missing.
const DEADLINE: Duration = Duration::from_secs(3);

/// CHANGE-REQUEST with the change-port flag (RFC 5780 §7.2): type 2, length 2, flags 4. It makes
/// the request 52 bytes long, more than a refusal of it.
const CHANGE_PORT: [u8; 8] = [0x00, 0x03, 0x00, 0x04, 0, 0, 0, 0x02];

const BINDING_ERROR: u16 = 0x0111;

impl NatFiltering {
    /// What a filtering measured on one socket is worth when the mapping was measured as this on
    /// another: an outside port that changes says something about filtering only where it would
    /// not have changed anyway.
    pub fn given(self, mapping: NatMapping) -> NatFiltering {
        match (self, mapping) {
            (NatFiltering::Clashing, NatMapping::EndpointIndependent) => NatFiltering::Clashing,
            (NatFiltering::Clashing, _) => NatFiltering::PortDependent,
            (measured, _) => measured,
        }
    }
}

/// Has one server answer one socket from two ports.
#[derive(Debug)]
pub struct FilteringProbe {
    server: SocketAddr,
    other_port: SocketAddr,
    started: Instant,
    plain: Question,
    change: Transaction,
    /// Of the question to the other port.
    invitation: Transaction,
    state: State,
    transmits: VecDeque<Transmit>,
}

/// Uninvited → Ended when something comes from the other port, or the server does not do as asked;
/// Uninvited → Invited when nothing does; Invited → Ended with the answer from there. All of them
/// → Ended at the deadline.
#[derive(Debug)]
enum State {
    /// Nothing went to the other port, so what comes from there is let in uninvited.
    Uninvited {
        changes: Changes,
        rtt: Option<Duration>,
    },
    /// We have asked the other port too.
    Invited {
        question: Question,
    },
    Ended {
        result: NatFiltering,
    },
    Reported,
}

/// The requests for an answer from the other port.
#[derive(Debug)]
enum Changes {
    Due { at: Instant, left: u32 },
    Sent { last: Instant },
}

impl FilteringProbe {
    /// Asks `server`, for answers from there and from `other_port`. Unless these are two usable
    /// ports of one address, the result is [`NatFiltering::Unknown`] at once.
    pub fn new(
        now: Instant,
        server: SocketAddr,
        other_port: SocketAddr,
        seed: [u8; 32],
    ) -> FilteringProbe {
        let mut rng = StdRng::from_seed(seed);
        let [plain, change, invitation] = [(); 3].map(|()| Transaction(rng.random()));
        let canonical = usable(server).zip(usable(other_port));
        let (server, other_port) = canonical.unwrap_or((server, other_port));
        let mut probe = FilteringProbe {
            server,
            other_port,
            started: now,
            plain: Question::new(now, server, plain),
            change,
            invitation,
            state: State::Uninvited {
                changes: Changes::Due {
                    at: now,
                    left: CHANGES,
                },
                rtt: None,
            },
            transmits: VecDeque::new(),
        };
        let one_address = server.ip() == other_port.ip() && server.port() != other_port.port();
        match canonical.is_some() && one_address {
            true => probe.handle_timeout(now),
            false => probe.end(NatFiltering::Unknown),
        }
        probe
    }

    /// Whether the datagram claims to be an answer to one of our requests.
    pub fn recognizes(&self, bytes: &[u8]) -> bool {
        let ours = [self.plain.transaction(), self.change, self.invitation];
        Message::parse(bytes).is_some_and(|message| {
            matches!(message.kind, stun::BINDING_SUCCESS | BINDING_ERROR)
                && ours.contains(&message.transaction)
        })
    }

    /// Takes a datagram in. What is not an answer of the server changes nothing.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let (Some(from), Some(message)) = (usable(from), Message::parse(bytes)) else {
            return;
        };
        self.plain.handle_message(from, &message);
        let before = self.plain.mapped();
        match &mut self.state {
            State::Uninvited { rtt, .. } if rtt.is_none() && before.is_some() => {
                *rtt = Some(now - self.started);
            }
            State::Invited { question } => {
                question.handle_message(from, &message);
                match question.mapped() {
                    Some(mapped) if Some(mapped) == before => self.end(NatFiltering::PortDependent),
                    Some(_) => self.end(NatFiltering::Clashing),
                    None => (),
                }
            }
            State::Uninvited { .. } | State::Ended { .. } | State::Reported => (),
        }
        if message.transaction == self.change {
            self.handle_change(from, message.kind);
        }
    }

    /// Takes in an answer to the request for another port.
    fn handle_change(&mut self, from: SocketAddr, kind: u16) {
        let is_success = kind == stun::BINDING_SUCCESS;
        match self.state {
            State::Uninvited { .. } if from == self.other_port && is_success => {
                self.end(NatFiltering::PortIndependent);
            }
            // It refuses, or answers as if it had not been asked for anything special.
            State::Uninvited { .. } | State::Invited { .. }
                if from == self.server && (is_success || kind == BINDING_ERROR) =>
            {
                self.end(NatFiltering::Unknown);
            }
            // Once we have sent there ourselves, what comes from the other port shows nothing.
            _ => (),
        }
    }

    /// Advances to `now`: asks, asks again, or gives up.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_over = self.started + DEADLINE <= now;
        match &mut self.state {
            State::Ended { .. } | State::Reported => (),
            State::Uninvited { .. } | State::Invited { .. } if is_over => {
                self.end(NatFiltering::Unknown);
            }
            State::Uninvited { .. } => self.wait_uninvited(now),
            State::Invited { question } => {
                self.transmits.extend(question.handle_timeout(now));
                if is_given_up(question) {
                    self.end(NatFiltering::Unknown);
                }
            }
        }
    }

    fn wait_uninvited(&mut self, now: Instant) {
        self.transmits.extend(self.plain.handle_timeout(now));
        if is_given_up(&self.plain) {
            return self.end(NatFiltering::Unknown);
        }
        if let State::Uninvited { changes, .. } = &mut self.state
            && changes.take_due(now)
        {
            self.transmits.push_back(Transmit {
                to: self.server,
                bytes: encode_request(self.change, &CHANGE_PORT),
                ttl: None,
            });
        }
        if self.invite_at().is_some_and(|at| at <= now) {
            let mut question = Question::new(now, self.other_port, self.invitation);
            self.transmits.extend(question.handle_timeout(now));
            self.state = State::Invited { question };
        }
    }

    /// When to stop waiting for something uninvited, once that is known.
    fn invite_at(&self) -> Option<Instant> {
        match self.state {
            State::Uninvited {
                changes: Changes::Sent { last },
                rtt: Some(rtt),
            } => Some(last + SHORTEST_WAIT.max(2 * rtt)),
            _ => None,
        }
    }

    fn end(&mut self, result: NatFiltering) {
        self.state = State::Ended { result };
        self.transmits.clear();
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When to call [`FilteringProbe::handle_timeout`], or `None` when there is nothing to wait for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let next = match &self.state {
            State::Uninvited { changes, .. } => {
                let of_change = match changes {
                    Changes::Due { at, .. } => Some(*at),
                    Changes::Sent { .. } => self.invite_at(),
                };
                [self.plain.poll_timeout(), of_change]
            }
            State::Invited { question } => [question.poll_timeout(), None],
            State::Ended { .. } | State::Reported => return None,
        };
        let deadline = self.started + DEADLINE;
        Some(next.into_iter().flatten().fold(deadline, Instant::min))
    }

    /// The result, once. See [`NatFiltering::given`].
    pub fn poll_measured(&mut self) -> Option<NatFiltering> {
        let State::Ended { result } = self.state else {
            return None;
        };
        self.state = State::Reported;
        Some(result)
    }
}

impl Changes {
    /// Whether one is to be sent at `now`, which counts as sent then.
    fn take_due(&mut self, now: Instant) -> bool {
        match *self {
            Changes::Due { at, left } if at <= now => {
                *self = match left {
                    0 | 1 => Changes::Sent { last: now },
                    _ => Changes::Due {
                        at: now + CHANGE_GAP,
                        left: left - 1,
                    },
                };
                true
            }
            Changes::Due { .. } | Changes::Sent { .. } => false,
        }
    }
}

fn is_given_up(question: &Question) -> bool {
    question.mapped().is_none() && question.poll_timeout().is_none()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::Rng as _;
    use stun_rs::attributes::stun::XorMappedAddress;
    use stun_rs::methods::BINDING;
    use stun_rs::{MessageClass, MessageEncoderBuilder, StunMessageBuilder, TransactionId};

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
            let wrong =
                |result: &&NatFiltering| **result != right && **result != NatFiltering::Unknown;
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
        let answer = success(&change, "203.0.113.7:5000");
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
    fn what_comes_after_we_sent_there_ourselves_was_invited() {
        let (mut probe, now) = probe();
        let change = changes(&mut probe).pop().unwrap();
        let plain = encode_request(probe.plain.transaction(), &[]);
        let [server, other] = [SERVER, OTHER_PORT].map(|text| text.parse().unwrap());
        probe.handle_datagram(now, server, &success(&plain, "203.0.113.7:5000"));
        while !matches!(probe.state, State::Invited { .. }) {
            probe.handle_timeout(probe.poll_timeout().unwrap());
        }
        let asked_at = now + 2 * CHANGE_GAP + SHORTEST_WAIT;
        probe.handle_datagram(asked_at, other, &success(&change, "203.0.113.7:5000"));
        assert_eq!(probe.poll_measured(), None);
        let question = std::iter::from_fn(|| probe.poll_transmit()).last().unwrap();
        assert_eq!(question.to, other);
        let answer = success(&question.bytes, "203.0.113.7:5000");
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
            assert!(request.len() >= success(&request, "[2001:db8::1]:5000").len());
        }
    }

    #[test]
    fn addresses_that_cannot_show_anything_are_not_asked() {
        for (server, other) in [
            (SERVER, SERVER),
            (SERVER, "192.0.2.2:59001"),
            (SERVER, "192.0.2.1:80"),
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
            let mut answer = success(&encode_request(probe.change, &[]), "203.0.113.7:5000");
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
        let success = success(request, &mapped.to_string());
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

    fn success(request: &[u8], mapped: &str) -> Vec<u8> {
        let transaction: [u8; 12] = request[8..20].try_into().unwrap();
        let mapped: SocketAddr = mapped.parse().unwrap();
        let answer = StunMessageBuilder::new(BINDING, MessageClass::SuccessResponse)
            .with_transaction_id(TransactionId::from(transaction))
            .with_attribute(XorMappedAddress::from(mapped))
            .build();
        let mut bytes = vec![0; 64];
        let encoder = MessageEncoderBuilder::default().build();
        let length = encoder.encode(&mut bytes, &answer).unwrap();
        bytes.truncate(length);
        bytes
    }

    /// 420 as the tracker says it.
    fn refusal(request: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x01, 0x11, 0, 28];
        bytes.extend_from_slice(&request[4..20]);
        bytes.extend_from_slice(b"\x00\x09\x00\x10\x00\x00\x04\x14Unknown type");
        bytes.extend_from_slice(&[0x00, 0x0a, 0x00, 0x02, 0x00, 0x03, 0, 0]);
        bytes
    }
}
