//! A NAT of the simulated network: what it maps, filters, counts and forgets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

use crate::nat::Dependence;

/// How long a flow is kept that was not answered, and an uninvited packet the port it took:
/// `nf_conntrack_udp_timeout` of Linux.
const UNREPLIED: Duration = Duration::from_secs(30);

/// How long one that was: `nf_conntrack_udp_timeout_stream`.
const REPLIED: Duration = Duration::from_secs(120);

/// Sequences begin here, and again at the end of their range.
const FIRST_PORT: u16 = 20_000;

/// How often a free port is looked for, as Linux does about as often where it may be any of a range.
const TRIES: usize = 240;

/// What of a far address counts.
type Key = (Option<IpAddr>, Option<u16>);

/// What a mapping or a filter looks at of a far address.
pub(in crate::nat) fn key(dependence: Dependence, far: SocketAddr) -> Key {
    match dependence {
        Dependence::EndpointIndependent => (None, None),
        Dependence::AddressDependent => (Some(far.ip()), None),
        Dependence::AddressAndPortDependent => (Some(far.ip()), Some(far.port())),
    }
}

/// Which outside port a new mapping gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nat) enum Ports {
    /// The inside one if it is free, else the next free one.
    Preserved,
    /// Each so far from the last.
    Sequential(i16),
    Random,
    /// At random from so many, as carriers give to one customer; one serves several destinations.
    Block(u16),
}

impl Ports {
    pub(in crate::nat) const ALL: [Ports; 3] =
        [Ports::Preserved, Ports::Sequential(1), Ports::Random];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nat) enum Hairpin {
    Yes,
    No,
}

/// How a NAT behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nat) struct NatKind {
    pub(in crate::nat) mapping: Dependence,
    pub(in crate::nat) filtering: Dependence,
    pub(in crate::nat) ports: Ports,
    pub(in crate::nat) hairpin: Hairpin,
    /// As Linux masquerading without an input filter: what comes in uninvited takes the port that
    /// a flow of ours to that address would have got.
    pub(in crate::nat) clashes: bool,
    /// Ports of a sequence that others behind the NAT take in a second.
    pub(in crate::nat) others_per_s: u32,
    /// Most flows at once; no new one passes beyond.
    pub(in crate::nat) capacity: usize,
}

impl NatKind {
    pub(in crate::nat) const fn new(
        mapping: Dependence,
        filtering: Dependence,
        ports: Ports,
    ) -> NatKind {
        NatKind {
            mapping,
            filtering,
            ports,
            hairpin: Hairpin::No,
            clashes: false,
            others_per_s: 0,
            capacity: 16_384,
        }
    }
}

#[derive(Debug)]
struct Mapping {
    inside: SocketAddr,
    key: Key,
    port: u16,
    /// Where it was used to, and until when that counts.
    flows: BTreeMap<SocketAddr, Instant>,
    is_replied: bool,
}

impl Mapping {
    fn is_alive(&self, now: Instant) -> bool {
        self.flows.values().any(|until| now < *until)
    }

    fn use_flow(&mut self, now: Instant, far: SocketAddr) -> Option<Instant> {
        let lifetime = if self.is_replied { REPLIED } else { UNREPLIED };
        self.flows.insert(far, now + lifetime)
    }
}

#[derive(Debug)]
pub(super) struct Nat {
    pub(super) kind: NatKind,
    pub(super) outside: Ipv4Addr,
    mappings: BTreeMap<usize, Mapping>,
    by_inside: BTreeMap<(SocketAddr, Key), Vec<usize>>,
    by_port: BTreeMap<u16, Vec<usize>>,
    counter: usize,
    next_port: u16,
    others_until: Option<Instant>,
    /// Flows that came in uninvited, by the far end and our port, and when the last packet did.
    uninvited: BTreeMap<(SocketAddr, u16), Instant>,
    /// When each flow was made, uninvited ones included.
    pub(super) made: Vec<Instant>,
}

impl Nat {
    pub(super) fn new(kind: NatKind, outside: Ipv4Addr) -> Nat {
        Nat {
            kind,
            outside,
            mappings: BTreeMap::new(),
            by_inside: BTreeMap::new(),
            by_port: BTreeMap::new(),
            counter: 0,
            next_port: FIRST_PORT,
            others_until: None,
            uninvited: BTreeMap::new(),
            made: Vec::new(),
        }
    }

    /// Where a packet from `inside` to `far` seems to come from, unless the table is full.
    pub(super) fn outbound(
        &mut self,
        now: Instant,
        inside: SocketAddr,
        far: SocketAddr,
        rng: &mut StdRng,
    ) -> Option<SocketAddr> {
        let key = key(self.kind.mapping, far);
        let known = self.by_inside.get(&(inside, key));
        let known = known.into_iter().flatten().copied().find(|id| {
            let mapping = &self.mappings[id];
            mapping.is_alive(now) && !self.is_uninvited(now, far, mapping.port)
        });
        let is_new = known.is_none_or(|id| !self.mappings[&id].flows.contains_key(&far));
        if is_new && !self.has_room(now) {
            return None;
        }
        let id = match known {
            Some(id) => id,
            None => self.add(now, inside, key, far, rng)?,
        };
        let mapping = self.mappings.get_mut(&id)?;
        mapping.use_flow(now, far);
        if is_new {
            self.made.push(now);
        }
        Some((self.outside, mapping.port).into())
    }

    fn has_room(&self, now: Instant) -> bool {
        if self.made.len() < self.kind.capacity {
            return true;
        }
        let flows = self.mappings.values().flat_map(|m| m.flows.values());
        flows.filter(|until| now < **until).count() < self.kind.capacity
    }

    fn is_uninvited(&self, now: Instant, far: SocketAddr, port: u16) -> bool {
        let last = self.uninvited.get(&(far, port));
        last.is_some_and(|last| now < *last + UNREPLIED)
    }

    fn add(
        &mut self,
        now: Instant,
        inside: SocketAddr,
        key: Key,
        far: SocketAddr,
        rng: &mut StdRng,
    ) -> Option<usize> {
        let port = self.free_port(now, inside.port(), far, rng)?;
        self.counter += 1;
        let id = self.counter;
        self.by_port.entry(port).or_default().push(id);
        self.by_inside.entry((inside, key)).or_default().push(id);
        let mapping = Mapping {
            inside,
            key,
            port,
            flows: BTreeMap::new(),
            is_replied: false,
        };
        self.mappings.insert(id, mapping);
        Some(id)
    }

    fn free_port(
        &mut self,
        now: Instant,
        preferred: u16,
        far: SocketAddr,
        rng: &mut StdRng,
    ) -> Option<u16> {
        if let Ports::Sequential(step) = self.kind.ports {
            let others = self.others(now, rng);
            for _ in 0..others {
                self.next_port = next_in_sequence(self.next_port, step);
            }
        }
        let mut port = match self.kind.ports {
            Ports::Preserved => preferred,
            Ports::Sequential(step) => next_in_sequence(self.next_port, step),
            Ports::Random => rng.random_range(1024..=u16::MAX),
            Ports::Block(size) => FIRST_PORT + 480 + rng.random_range(0..size),
        };
        let mut tries = 0;
        while self.is_taken(now, port, far) {
            tries += 1;
            if tries == TRIES {
                return None;
            }
            port = match self.kind.ports {
                Ports::Block(size) => FIRST_PORT + 480 + rng.random_range(0..size),
                _ => port.checked_add(1).unwrap_or(1024),
            };
        }
        self.next_port = port;
        Some(port)
    }

    /// How many ports others took since the last time.
    fn others(&mut self, now: Instant, rng: &mut StdRng) -> u32 {
        let since = self.others_until.replace(now).unwrap_or(now);
        let mean = (now - since).as_secs_f64() * f64::from(self.kind.others_per_s);
        // Arrivals of a Poisson process, at most a burst that no prediction would survive.
        let (limit, mut product, mut count) = ((-mean).exp(), rng.random::<f64>(), 0);
        while product > limit && count < 500 {
            product *= rng.random::<f64>();
            count += 1;
        }
        count
    }

    fn is_taken(&self, now: Instant, port: u16, far: SocketAddr) -> bool {
        let mut its = self.by_port.get(&port).into_iter().flatten();
        let mut mappings = its.by_ref().map(|id| &self.mappings[id]);
        let is_mapped = match self.kind.ports {
            Ports::Block(_) => mappings.any(|it| it.key == key(self.kind.mapping, far)),
            _ => mappings.any(|mapping| mapping.is_alive(now)),
        };
        is_mapped || self.is_uninvited(now, far, port)
    }

    /// Which inside address a packet from `far` to our `port` is for.
    pub(super) fn inbound(
        &mut self,
        now: Instant,
        far: SocketAddr,
        port: u16,
    ) -> Option<SocketAddr> {
        let filtering = self.kind.filtering;
        let its = self.by_port.get(&port).cloned().unwrap_or_default();
        for id in its {
            let mapping = self.mappings.get_mut(&id)?;
            let mut flows = mapping.flows.iter().filter(|(_, until)| now < **until);
            if flows.any(|(known, _)| key(filtering, *known) == key(filtering, far)) {
                mapping.is_replied = true;
                mapping.use_flow(now, far);
                return Some(mapping.inside);
            }
        }
        if self.kind.clashes && self.uninvited.insert((far, port), now).is_none() {
            self.made.push(now);
        }
        None
    }

    /// Most flows made within any 30 s.
    pub(super) fn most_made(&self) -> usize {
        let within = |(index, at): (usize, &Instant)| {
            let later = &self.made[index..];
            later.partition_point(|made| *made < *at + UNREPLIED)
        };
        self.made.iter().enumerate().map(within).max().unwrap_or(0)
    }
}

fn next_in_sequence(port: u16, step: i16) -> u16 {
    let next = port.checked_add_signed(step).filter(|it| *it >= 2_000);
    next.unwrap_or(FIRST_PORT)
}
