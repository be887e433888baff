//! A network in memory: hosts behind NATs, with delay, loss and a virtual clock.
//!
//! Networks form a tree whose root is the Internet; each other one hangs below its parent by a
//! gateway, which is a NAT. A packet climbs until it is in a network that has its destination, and
//! descends from there when it arrives, so a NAT sees it at the time it gets there. Every NAT and
//! every router of the core takes one from a packet's hops; a NAT sees what reaches it even if it
//! could go no further. The same seed replays a run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{MappingProbe, Measured, PunchAttempt, PunchEvent, Transmit};
use crate::id::{PublicKey, SwarmId};
use crate::proof::Side;
use crate::swarm::{Introducer, Situation, Transport};
use crate::wire::{Bounded, Candidate, CandidateKind, NatFiltering, NatMapping, Paths, Rendezvous};

/// The root of the tree.
pub(super) const INTERNET: usize = 0;

/// How long an uninvited packet keeps the port it took: `nf_conntrack_udp_timeout` of Linux.
const UNINVITED: Duration = Duration::from_secs(30);

/// Hops of a packet that asks for none in particular.
const DEFAULT_TTL: u8 = 64;

/// One way between two hosts that meet below the Internet.
const INSIDE: Duration = Duration::from_millis(1);

/// What a mapping or a filter looks at (RFC 4787 §4.1 and §5), from lax to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dependence {
    EndpointIndependent,
    AddressDependent,
    AddressAndPortDependent,
}

impl Dependence {
    pub(super) const ALL: [Dependence; 3] = [
        Dependence::EndpointIndependent,
        Dependence::AddressDependent,
        Dependence::AddressAndPortDependent,
    ];

    /// What of a far address counts.
    fn key(self, far: SocketAddr) -> (Option<IpAddr>, Option<u16>) {
        match self {
            Dependence::EndpointIndependent => (None, None),
            Dependence::AddressDependent => (Some(far.ip()), None),
            Dependence::AddressAndPortDependent => (Some(far.ip()), Some(far.port())),
        }
    }
}

/// Which outside port a new mapping gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ports {
    /// The inside one if it is free, else the next free one.
    Preserved,
    /// Each so far from the last.
    Sequential(u16),
    Random,
}

impl Ports {
    pub(super) const ALL: [Ports; 3] = [Ports::Preserved, Ports::Sequential(1), Ports::Random];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hairpin {
    Yes,
    No,
}

/// How a NAT behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NatKind {
    pub(super) mapping: Dependence,
    pub(super) filtering: Dependence,
    pub(super) ports: Ports,
    pub(super) hairpin: Hairpin,
    /// As Linux masquerading without an input filter: what comes in uninvited takes the port that
    /// a flow of ours to that address would have got.
    pub(super) clashes: bool,
}

impl NatKind {
    pub(super) const fn new(mapping: Dependence, filtering: Dependence, ports: Ports) -> NatKind {
        NatKind {
            mapping,
            filtering,
            ports,
            hairpin: Hairpin::No,
            clashes: false,
        }
    }
}

struct Mapping {
    inside: SocketAddr,
    key: (Option<IpAddr>, Option<u16>),
    port: u16,
    contacted: BTreeSet<SocketAddr>,
}

struct Nat {
    kind: NatKind,
    outside: Ipv4Addr,
    mappings: Vec<Mapping>,
    next_port: u16,
    /// Flows that came in uninvited, by the far end and our port, and when the last packet did.
    uninvited: BTreeMap<(SocketAddr, u16), Instant>,
}

impl Nat {
    /// Where a packet from `inside` to `far` seems to come from.
    fn outbound(
        &mut self,
        now: Instant,
        inside: SocketAddr,
        far: SocketAddr,
        rng: &mut StdRng,
    ) -> SocketAddr {
        let key = self.kind.mapping.key(far);
        let known = self.mappings.iter().position(|mapping| {
            let uninvited = self.uninvited.get(&(far, mapping.port));
            let is_clashing = uninvited.is_some_and(|last| now < *last + UNINVITED);
            mapping.inside == inside && mapping.key == key && !is_clashing
        });
        let index = known.unwrap_or_else(|| {
            let port = self.free_port(inside.port(), rng);
            self.mappings.push(Mapping {
                inside,
                key,
                port,
                contacted: BTreeSet::new(),
            });
            self.mappings.len() - 1
        });
        self.mappings[index].contacted.insert(far);
        (self.outside, self.mappings[index].port).into()
    }

    fn free_port(&mut self, preferred: u16, rng: &mut StdRng) -> u16 {
        let mut port = match self.kind.ports {
            Ports::Preserved => preferred,
            Ports::Sequential(step) => self.next_port + step,
            Ports::Random => rng.random_range(1024..=u16::MAX),
        };
        while self.mappings.iter().any(|mapping| mapping.port == port) {
            port = port.checked_add(1).unwrap_or(1024);
        }
        self.next_port = port;
        port
    }

    /// Which inside address a packet from `far` to our `port` is for.
    fn inbound(&mut self, now: Instant, far: SocketAddr, port: u16) -> Option<SocketAddr> {
        let filtering = self.kind.filtering;
        let mapping = self.mappings.iter().find(|mapping| mapping.port == port)?;
        let mut contacted = mapping.contacted.iter();
        if contacted.any(|known| filtering.key(*known) == filtering.key(far)) {
            return Some(mapping.inside);
        }
        if self.kind.clashes {
            self.uninvited.insert((far, port), now);
        }
        None
    }
}

struct Network {
    parent: usize,
    gateway: Option<Nat>,
    leg: Duration,
}

struct Packet {
    network: usize,
    from: SocketAddr,
    to: SocketAddr,
    ttl: u8,
    bytes: Vec<u8>,
}

/// What a host runs.
enum Machine {
    Idle,
    Punch(Box<PunchAttempt>),
    Probe(MappingProbe),
    /// Answers Binding requests without authentication, as the tracker does.
    Stun,
}

struct Host {
    address: SocketAddr,
    network: usize,
    leg: Duration,
    machine: Machine,
    events: Vec<(Instant, PunchEvent)>,
    /// What no machine took: source and bytes.
    received: Vec<(SocketAddr, Vec<u8>)>,
}

/// What was sent to one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) packets: usize,
    pub(super) bytes: usize,
}

pub(super) struct SimNet {
    start: Instant,
    now: Instant,
    rng: StdRng,
    /// Chance that a packet is lost on the Internet.
    loss: f64,
    /// Chance that a packet is lost before it reaches the first gateway, as on a busy radio.
    pub(super) access_loss: f64,
    /// Routers between the gateways of two sites.
    pub(super) routers: u8,
    networks: Vec<Network>,
    hosts: Vec<Host>,
    /// In order of arrival, then of sending.
    in_flight: BTreeMap<(Instant, u64), Packet>,
    packets: u64,
    starts: Vec<(Instant, usize, PunchAttempt)>,
    pub(super) sent: BTreeMap<SocketAddr, Sent>,
}

impl SimNet {
    pub(super) fn new(seed: u64, loss: f64) -> SimNet {
        let start = Instant::now();
        SimNet {
            start,
            now: start,
            rng: StdRng::seed_from_u64(seed),
            loss,
            access_loss: 0.0,
            routers: 6,
            networks: vec![Network {
                parent: INTERNET,
                gateway: None,
                leg: Duration::ZERO,
            }],
            hosts: Vec::new(),
            in_flight: BTreeMap::new(),
            packets: 0,
            starts: Vec::new(),
            sent: BTreeMap::new(),
        }
    }

    /// A network below `parent`, `leg` away from the Internet's core.
    pub(super) fn network(&mut self, parent: usize, kind: NatKind, leg: Duration) -> usize {
        let number = u8::try_from(self.networks.len()).unwrap();
        let outside = match parent {
            INTERNET => Ipv4Addr::new(203, 0, 113, number),
            _ => Ipv4Addr::new(100, 64, 0, number),
        };
        self.networks.push(Network {
            parent,
            gateway: Some(Nat {
                kind,
                outside,
                mappings: Vec::new(),
                next_port: 20_000,
                uninvited: BTreeMap::new(),
            }),
            leg,
        });
        usize::from(number)
    }

    /// A host in a network, at a port of its own choice.
    pub(super) fn host(&mut self, network: usize, port: u16, leg: Duration) -> usize {
        let number = u8::try_from(self.hosts.len() + 1).unwrap();
        let ip = match network {
            INTERNET => Ipv4Addr::new(198, 51, 100, number),
            _ => Ipv4Addr::new(192, 168, 0, number),
        };
        self.hosts.push(Host {
            address: (ip, port).into(),
            network,
            leg,
            machine: Machine::Idle,
            events: Vec::new(),
            received: Vec::new(),
        });
        self.hosts.len() - 1
    }

    /// A server that tells everybody how they look to it.
    pub(super) fn stun_server(&mut self, leg: Duration) -> SocketAddr {
        let host = self.host(INTERNET, 59_000, leg);
        self.hosts[host].machine = Machine::Stun;
        self.hosts[host].address
    }

    pub(super) fn address(&self, host: usize) -> SocketAddr {
        self.hosts[host].address
    }

    /// Where `server` sees the host come from. Makes the mapping.
    pub(super) fn observed(&mut self, host: usize, server: SocketAddr) -> SocketAddr {
        let (network, from) = (self.hosts[host].network, self.hosts[host].address);
        let climbed = self.climb(Packet {
            network,
            from,
            to: server,
            ttl: DEFAULT_TTL,
            bytes: Vec::new(),
        });
        climbed.unwrap().from
    }

    pub(super) fn start_at(&mut self, after: Duration, host: usize, attempt: PunchAttempt) {
        self.starts.push((self.start + after, host, attempt));
    }

    /// A time from the start of the run, to make a machine with.
    pub(super) fn at(&self, after: Duration) -> Instant {
        self.start + after
    }

    /// Sends bytes that no machine made.
    pub(super) fn send(&mut self, host: usize, transmit: Transmit) {
        let (network, from) = (self.hosts[host].network, self.hosts[host].address);
        let sent = self.sent.entry(transmit.to).or_default();
        sent.packets += 1;
        sent.bytes += transmit.bytes.len();
        if self.rng.random_bool(self.access_loss) {
            return;
        }
        let climbed = self.climb(Packet {
            network,
            from,
            to: transmit.to,
            ttl: transmit.ttl.unwrap_or(DEFAULT_TTL),
            bytes: transmit.bytes,
        });
        let Some(packet) = climbed else { return };
        let delay = match packet.network {
            INTERNET => self.leg(network, host) + self.leg_to(packet.to),
            _ => INSIDE,
        };
        if packet.network == INTERNET && self.rng.random_bool(self.loss) {
            return;
        }
        self.packets += 1;
        let arrival = (self.now + delay, self.packets);
        self.in_flight.insert(arrival, packet);
    }

    /// What the host received that was for none of its machines.
    pub(super) fn received(&self, host: usize) -> &[(SocketAddr, Vec<u8>)] {
        &self.hosts[host].received
    }

    /// What the host's attempt found, and when.
    pub(super) fn events(&self, host: usize) -> Vec<(Duration, PunchEvent)> {
        let events = self.hosts[host].events.iter();
        events
            .map(|(at, event)| (*at - self.start, *event))
            .collect()
    }

    /// Runs for this long in virtual time.
    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(next) = self.next().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    /// Measures the mapping of the host's NAT.
    pub(super) fn measure(&mut self, host: usize, servers: &[SocketAddr]) -> Measured {
        let seed = self.rng.random();
        self.hosts[host].machine = Machine::Probe(MappingProbe::new(self.now, servers, seed));
        self.drain(host);
        loop {
            if let Machine::Probe(probe) = &mut self.hosts[host].machine
                && let Some(measured) = probe.poll_measured()
            {
                return measured;
            }
            self.now = self.next().unwrap();
            self.step();
        }
    }

    fn next(&self) -> Option<Instant> {
        let machines = self.hosts.iter().filter_map(|host| match &host.machine {
            Machine::Punch(punch) => punch.poll_timeout(),
            Machine::Probe(probe) => probe.poll_timeout(),
            Machine::Idle | Machine::Stun => None,
        });
        let arrivals = self.in_flight.keys().map(|(at, _)| *at);
        let starts = self.starts.iter().map(|(at, ..)| *at);
        machines.chain(arrivals).chain(starts).min()
    }

    /// Does what is due now.
    fn step(&mut self) {
        while let Some(index) = self.starts.iter().position(|(at, ..)| *at <= self.now) {
            let (_, host, attempt) = self.starts.remove(index);
            self.hosts[host].machine = Machine::Punch(Box::new(attempt));
        }
        while let Some(entry) = self.in_flight.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let packet = entry.remove();
            self.arrive(packet);
        }
        for host in 0..self.hosts.len() {
            match &mut self.hosts[host].machine {
                Machine::Punch(punch) => punch.handle_timeout(self.now),
                Machine::Probe(probe) => probe.handle_timeout(self.now),
                Machine::Idle | Machine::Stun => (),
            }
            self.drain(host);
        }
    }

    /// Takes out of the host's machine what it wants to send and say.
    fn drain(&mut self, host: usize) {
        loop {
            let now = self.now;
            let Host {
                machine, events, ..
            } = &mut self.hosts[host];
            let transmit = match machine {
                Machine::Punch(punch) => {
                    let found = std::iter::from_fn(|| punch.poll_event());
                    events.extend(found.map(|event| (now, event)));
                    punch.poll_transmit()
                }
                Machine::Probe(probe) => probe.poll_transmit(),
                Machine::Idle | Machine::Stun => None,
            };
            match transmit {
                Some(transmit) => self.send(host, transmit),
                None => return,
            }
        }
    }

    fn arrive(&mut self, packet: Packet) {
        let Some((host, packet)) = self.descend(packet) else {
            return;
        };
        match &mut self.hosts[host].machine {
            Machine::Punch(punch) if punch.recognizes(&packet.bytes) => {
                punch.handle_datagram(self.now, packet.from, &packet.bytes);
            }
            Machine::Probe(probe) => probe.handle_datagram(self.now, packet.from, &packet.bytes),
            Machine::Stun => {
                let transmit = stun_answer(&packet.bytes, packet.from);
                self.send(host, transmit);
            }
            _ => self.hosts[host].received.push((packet.from, packet.bytes)),
        }
        self.drain(host);
    }

    /// Out through gateways up to the network that has the destination.
    fn climb(&mut self, mut packet: Packet) -> Option<Packet> {
        loop {
            let is_here = self.has(packet.network, packet.to);
            let Some(nat) = &mut self.networks[packet.network].gateway else {
                return is_here.then_some(packet);
            };
            if is_here {
                return Some(packet);
            }
            packet.ttl = packet.ttl.checked_sub(1).filter(|ttl| *ttl > 0)?;
            let hairpins = packet.to.ip() == IpAddr::V4(nat.outside);
            if hairpins && nat.kind.hairpin == Hairpin::No {
                return None;
            }
            packet.from = nat.outbound(self.now, packet.from, packet.to, &mut self.rng);
            packet.network = self.networks[packet.network].parent;
        }
    }

    /// In through gateways down to the host.
    fn descend(&mut self, mut packet: Packet) -> Option<(usize, Packet)> {
        if packet.network == INTERNET {
            packet.ttl = packet
                .ttl
                .checked_sub(self.routers)
                .filter(|ttl| *ttl > 0)?;
        }
        loop {
            let host = self
                .hosts
                .iter()
                .position(|host| host.network == packet.network && host.address == packet.to);
            if let Some(host) = host {
                return Some((host, packet));
            }
            let below = self.below(packet.network, packet.to.ip())?;
            let nat = self.networks[below].gateway.as_mut()?;
            packet.to = nat.inbound(self.now, packet.from, packet.to.port())?;
            packet.ttl = packet.ttl.checked_sub(1).filter(|ttl| *ttl > 0)?;
            packet.network = below;
        }
    }

    fn has(&self, network: usize, to: SocketAddr) -> bool {
        let mut hosts = self.hosts.iter();
        let has_host = hosts.any(|host| host.network == network && host.address.ip() == to.ip());
        has_host || self.below(network, to.ip()).is_some()
    }

    /// The network whose gateway has this address in `network`.
    fn below(&self, network: usize, ip: IpAddr) -> Option<usize> {
        (1..self.networks.len()).find(|index| {
            let below = &self.networks[*index];
            let nat = below.gateway.as_ref();
            below.parent == network && nat.is_some_and(|nat| IpAddr::V4(nat.outside) == ip)
        })
    }

    /// From a host to the core.
    fn leg(&self, mut network: usize, host: usize) -> Duration {
        let mut leg = self.hosts[host].leg;
        while network != INTERNET {
            leg += self.networks[network].leg;
            network = self.networks[network].parent;
        }
        leg
    }

    /// From the core to whoever has this address.
    fn leg_to(&self, to: SocketAddr) -> Duration {
        let host = self
            .hosts
            .iter()
            .find(|h| h.network == INTERNET && h.address.ip() == to.ip());
        let below = self.below(INTERNET, to.ip());
        let network = below.map(|index| self.networks[index].leg);
        host.map(|host| host.leg).or(network).unwrap_or_default()
    }
}

/// How the tracker introduces two hosts it has observed, the client's half first: the production
/// introducer decides what each is told.
pub(super) struct Introduction {
    pub(super) observed: [SocketAddr; 2],
    pub(super) hosts: [Option<SocketAddr>; 2],
    pub(super) rtts: [Duration; 2],
    pub(super) filtering: [NatFiltering; 2],
}

impl Introduction {
    pub(super) fn rendezvous(&self, seed: u64) -> (Rendezvous, Rendezvous) {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&seed.to_be_bytes());
        let mut introducer = Introducer::new(secret);
        let keys = [PublicKey([1; 32]), PublicKey([2; 32])];
        for (side, key) in keys.into_iter().enumerate() {
            let own = self.hosts[side].map(|address| Candidate {
                kind: CandidateKind::Host,
                address,
            });
            let situation = Situation {
                observed: self.observed[side],
                transport: Transport::Udp,
                tracker_is_loopback: false,
                candidates: Bounded::truncated(own),
                mapping: NatMapping::Unknown,
                filtering: self.filtering[side],
                paths: Paths::Any,
                rtt: self.rtts[side],
            };
            introducer.situation(key, situation);
        }
        let swarm = SwarmId([7; 32]);
        let halves = introducer.introduce(Instant::now(), swarm, keys[0], keys[1]);
        halves.unwrap()
    }
}

/// Which side each half of an introduction is.
pub(super) const SIDES: [Side; 2] = [Side::Client, Side::Server];

fn stun_answer(request: &[u8], from: SocketAddr) -> Transmit {
    use stun_rs::attributes::stun::XorMappedAddress;
    use stun_rs::{MessageClass, MessageEncoderBuilder, StunMessageBuilder, TransactionId};
    let transaction: [u8; 12] = request[8..20].try_into().unwrap();
    let class = MessageClass::SuccessResponse;
    let answer = StunMessageBuilder::new(stun_rs::methods::BINDING, class)
        .with_transaction_id(TransactionId::from(transaction))
        .with_attribute(XorMappedAddress::from(from))
        .build();
    let mut bytes = vec![0; 64];
    let encoder = MessageEncoderBuilder::default().build();
    let length = encoder.encode(&mut bytes, &answer).unwrap();
    bytes.truncate(length);
    Transmit {
        to: from,
        bytes,
        ttl: None,
    }
}
