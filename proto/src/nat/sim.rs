//! A network in memory: hosts behind NATs, with delay, loss and a virtual clock.
//!
//! Networks form a tree whose root is the Internet; each other one hangs below its parent by a
//! gateway, which is a NAT. A packet climbs until it is in a network that has its destination, and
//! descends from there when it arrives, so a NAT sees it at the time it gets there. Every NAT and
//! every router of the core takes one from a packet's hops; a NAT sees what reaches it even if it
//! could go no further. The same seed replays a run.

mod introduction;
mod nat;
mod routing;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::check::NOMINATION_BYTES;
use super::stun::binding_success;
use super::{
    Allowance, Charge, Flows, MAIN, MappingProbe, Measured, Observation, PunchAttempt, PunchEvent,
    Transmit, TurnEnd, Turnstile,
};
use crate::wire::{NatMapping, Technique};
pub(super) use introduction::Introduction;
use nat::Nat;
pub(super) use nat::{Hairpin, NatKind, Ports};

/// The root of the tree.
pub(super) const INTERNET: usize = 0;

/// Hops of a packet that asks for none in particular.
const DEFAULT_TTL: u8 = 64;

/// One way between two hosts that meet below the Internet.
const INSIDE: Duration = Duration::from_millis(1);

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
    Probe(Box<MappingProbe>),
    /// Answers Binding requests without authentication, as the tracker does.
    Stun,
}

struct Host {
    /// Of its main socket; further ones have the ports behind it.
    address: SocketAddr,
    network: usize,
    leg: Duration,
    machine: Machine,
    events: Vec<(Instant, PunchEvent)>,
    /// What no machine took: source and bytes.
    received: Vec<(SocketAddr, Vec<u8>)>,
    closed: BTreeSet<u16>,
    allowance: Allowance,
    turnstile: Turnstile,
    flows: Flows<u16>,
    /// The host it was introduced to, where that is told its words to come from, and how long they
    /// take.
    peer: Option<(usize, IpAddr, Duration)>,
}

impl Host {
    fn has(&self, to: SocketAddr) -> bool {
        let base = self.address.port();
        let is_its = (base..=base + 2 * SOCKETS).contains(&to.port());
        self.address.ip() == to.ip() && is_its && !self.closed.contains(&self.via(to.port()))
    }

    /// Further sockets of a new machine are new ones.
    fn offset(&self) -> u16 {
        match self.machine {
            Machine::Punch(_) => SOCKETS,
            Machine::Idle | Machine::Probe(_) | Machine::Stun => 0,
        }
    }

    fn port(&self, via: u16) -> u16 {
        let offset = if via == MAIN { 0 } else { self.offset() };
        self.address.port() + via + offset
    }

    /// The number by which the machine knows a socket; those of another are nobody's.
    fn via(&self, port: u16) -> u16 {
        match port - self.address.port() {
            MAIN => MAIN,
            distance => distance.checked_sub(self.offset()).unwrap_or(u16::MAX),
        }
    }
}

/// Further sockets of a host at most.
const SOCKETS: u16 = 1_140;

/// A host has one attempt.
const ATTEMPT: u64 = 1;

/// What a peer has said by way of the tracker.
struct Word {
    to: usize,
    address: SocketAddr,
    mapping: NatMapping,
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
    /// So many of the next nominations are lost.
    pub(super) lost_nominations: usize,
    /// Routers between the gateways of two sites.
    pub(super) routers: u8,
    networks: Vec<Network>,
    hosts: Vec<Host>,
    /// In order of arrival, then of sending.
    in_flight: BTreeMap<(Instant, u64), Packet>,
    packets: u64,
    starts: Vec<(Instant, usize, PunchAttempt)>,
    words: BTreeMap<(Instant, u64), Word>,
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
            lost_nominations: 0,
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
            words: BTreeMap::new(),
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
            gateway: Some(Nat::new(kind, outside)),
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
            closed: BTreeSet::new(),
            allowance: Allowance::new(),
            turnstile: Turnstile::new(),
            flows: Flows::new(),
            peer: None,
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

    /// What `of` says to the host goes through the tracker, which sees it come from `from`.
    pub(super) fn introduce(&mut self, host: usize, of: usize, from: IpAddr, delay: Duration) {
        self.hosts[of].peer = Some((host, from, delay));
    }

    /// Most flows that any NAT got within 30 s.
    pub(super) fn most_flows(&self) -> usize {
        let nats = self.networks.iter().filter_map(|n| n.gateway.as_ref());
        nats.map(Nat::most_made).max().unwrap_or(0)
    }

    pub(super) fn start_at(&mut self, after: Duration, host: usize, attempt: PunchAttempt) {
        self.starts.push((self.start + after, host, attempt));
    }

    /// What found the path of a host that has an attempt, or was tried last.
    pub(super) fn technique(&self, host: usize) -> Technique {
        match &self.hosts[host].machine {
            Machine::Punch(punch) => punch.technique(),
            _ => Technique::Checks,
        }
    }

    /// How long the run takes so far.
    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// A time from the start of the run, to make a machine with.
    pub(super) fn at(&self, after: Duration) -> Instant {
        self.start + after
    }

    /// Sends bytes that no machine made.
    pub(super) fn send(&mut self, host: usize, transmit: Transmit) {
        let (network, mut from) = (self.hosts[host].network, self.hosts[host].address);
        from.set_port(self.hosts[host].port(transmit.via));
        let sent = self.sent.entry(transmit.to).or_default();
        sent.packets += 1;
        sent.bytes += transmit.bytes.len();
        if self.rng.random_bool(self.access_loss) || self.loses_nomination(&transmit) {
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

    fn loses_nomination(&mut self, transmit: &Transmit) -> bool {
        let is_lost = self.lost_nominations > 0 && transmit.bytes.len() == NOMINATION_BYTES;
        self.lost_nominations -= usize::from(is_lost);
        is_lost
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

    /// Measures the mapping of the host's NAT. `observations` are what peers have seen.
    pub(super) fn measure(
        &mut self,
        host: usize,
        servers: &[SocketAddr],
        observations: Vec<Observation>,
    ) -> Measured {
        let seed = self.rng.random();
        let probe = MappingProbe::thorough(self.now, servers, seed).observed_by(observations);
        self.hosts[host].machine = Machine::Probe(Box::new(probe));
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
        let words = self.words.keys().map(|(at, _)| *at);
        let turns = self
            .hosts
            .iter()
            .filter_map(|h| h.turnstile.poll_timeout(&h.flows));
        let news = starts.chain(words).chain(turns);
        machines.chain(arrivals.take(1)).chain(news).min()
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
        while let Some(entry) = self.words.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let Word {
                to,
                address,
                mapping,
            } = entry.remove();
            if let Machine::Punch(punch) = &mut self.hosts[to].machine {
                punch.handle_trickled(self.now, address, mapping);
            }
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
            let transmit = match &mut self.hosts[host].machine {
                Machine::Punch(punch) => match punch.poll_event() {
                    Some(event) => {
                        self.handle_event(host, event);
                        continue;
                    }
                    None => punch.poll_transmit(),
                },
                Machine::Probe(probe) => probe.poll_transmit(),
                Machine::Idle | Machine::Stun => None,
            };
            match transmit {
                Some(transmit) if self.may_send(host, &transmit) => self.send(host, transmit),
                Some(_) => (),
                None => return,
            }
        }
    }

    /// As whoever drives the machines for real does it.
    fn may_send(&mut self, host: usize, transmit: &Transmit) -> bool {
        let (now, to) = (self.now, transmit.to);
        let host = &mut self.hosts[host];
        assert!(transmit.via <= SOCKETS && !host.closed.contains(&transmit.via));
        let guess = host.turnstile.technique();
        let may = match transmit.charge {
            Charge::Free => true,
            // Without a peer's consent, attempts are tested on their own.
            Charge::Unasked if host.peer.is_none() => true,
            Charge::Unasked => host.allowance.take(now, to, transmit.bytes.len()),
            Charge::Guess => host.turnstile.take(now, ATTEMPT, to),
        };
        may && (host.flows).take(now, (transmit.via, to), transmit.charge, guess)
    }

    fn handle_event(&mut self, number: usize, event: PunchEvent) {
        let now = self.now;
        let host = &mut self.hosts[number];
        let Machine::Punch(punch) = &mut host.machine else {
            return;
        };
        host.events.push((now, event));
        match event {
            PunchEvent::Trickle { port, mapping } => {
                let (to, ip, delay) = host.peer.unwrap();
                self.packets += 1;
                // It comes by the stream that the introduction came by, so not before it.
                let begins = self.starts.iter().find(|(_, host, _)| *host == to);
                let begins = begins.map_or(now, |(at, ..)| *at);
                let address = SocketAddr::new(ip, port);
                let word = Word {
                    to,
                    address,
                    mapping,
                };
                let arrival = begins.max(now + delay);
                self.words.insert((arrival, self.packets), word);
            }
            PunchEvent::Turn(turn) => match host.turnstile.ask(now, ATTEMPT, turn) {
                Ok(()) => self.take_turn(number),
                Err(_) => punch.deny_turn(now),
            },
            PunchEvent::TurnOver => {
                let end = match punch.is_proven() {
                    true => TurnEnd::Answered,
                    false => TurnEnd::Unanswered,
                };
                host.turnstile.leave(now, ATTEMPT, end);
            }
            PunchEvent::Close { via } => {
                host.closed.insert(via);
            }
            PunchEvent::Proven(path) | PunchEvent::AlsoProven(path) => {
                host.allowance.answered(path.remote.ip());
            }
            PunchEvent::Heard { .. } | PunchEvent::Nominated { .. } | PunchEvent::Failed => (),
        }
    }

    fn take_turn(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        if let Machine::Punch(punch) = &mut host.machine
            && host.turnstile.poll(self.now, &mut host.flows).is_some()
        {
            punch.take_turn(self.now);
        }
    }

    fn arrive(&mut self, packet: Packet) {
        let Some((host, packet)) = self.descend(packet) else {
            return;
        };
        let via = self.hosts[host].via(packet.to.port());
        match &mut self.hosts[host].machine {
            Machine::Punch(punch) if punch.recognizes(&packet.bytes) => {
                punch.handle_datagram_via(self.now, via, packet.from, &packet.bytes);
            }
            Machine::Probe(probe) => probe.handle_datagram(self.now, packet.from, &packet.bytes),
            Machine::Stun => {
                let transmit = Transmit {
                    via,
                    to: packet.from,
                    bytes: binding_success(&packet.bytes, &packet.from.to_string()),
                    ttl: None,
                    charge: Charge::Free,
                };
                self.send(host, transmit);
            }
            _ => self.hosts[host].received.push((packet.from, packet.bytes)),
        }
        self.drain(host);
    }
}
