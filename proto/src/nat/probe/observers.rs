//! What peers see of our main socket, where the tracker has one IP address only.
//!
//! A peer that lets everybody in is as good a server as any: its authenticated answer to a check of
//! ours says where that came from (XOR-MAPPED-ADDRESS, RFC 8489 §14.2). But a peer may lie, and who is
//! taken for address-dependent has its ports guessed where a check would do. So
//!
//! * nothing is believed of one peer: it takes two, in networks of their own, that see another port
//!   than the tracker does, and none that sees the same;
//! * one honest peer is enough to undo what any number of liars have said: a NAT that gives each
//!   address another port never shows two of them the same one;
//! * what was said is forgotten after an hour, and whenever our address may be another.
//!
//! A peer that says that it sees the same port where it does not leaves us where we are without it.
//!
//! Not here: which peers are asked, and that a second address of the tracker makes them needless
//! (whoever drives this); the pattern of the ports ([`super::MappingProbe::observed_by`]).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::swarm::prefix;

/// How long it counts what a peer has seen.
const MEMORY: Duration = Duration::from_secs(60 * 60);

/// Networks of peers that are remembered. The one that was heard of least lately makes room.
const NETWORKS: usize = 64;

/// In how many networks somebody must see another port.
const WITNESSES: usize = 2;

/// Where somebody sees our main socket come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Who.
    pub observer: SocketAddr,
    /// Where from.
    pub mapped: SocketAddr,
}

/// Remembers what peers have seen.
#[derive(Debug, Default)]
pub struct Observers {
    /// By the network of the peer: IPv4 /24, IPv6 /56.
    by_network: BTreeMap<IpAddr, (Instant, Observation)>,
}

impl Observers {
    /// Nobody has seen anything.
    pub fn new() -> Observers {
        Observers::default()
    }

    /// A peer sees our main socket like this, which the tracker sees at `reflexive`. Who sees another
    /// IP address than the tracker does is by another way to us, and shows nothing; neither does who is
    /// behind our own NAT.
    pub fn note(&mut self, now: Instant, reflexive: SocketAddr, observation: Observation) {
        let Observation { observer, mapped } = observation;
        let ours = reflexive.ip().to_canonical();
        if mapped.ip().to_canonical() != ours || observer.ip().to_canonical() == ours {
            return;
        }
        self.forget(now);
        let network = prefix(observer.ip());
        let known = self.by_network.get(&network);
        // Nobody takes back what a neighbour has shown.
        let is_shown = known.is_some_and(|(_, known)| known.mapped.port() == reflexive.port());
        if is_shown && mapped.port() != reflexive.port() {
            return;
        }
        self.by_network.insert(network, (now, observation));
        if self.by_network.len() > NETWORKS
            && let Some(oldest) = self.oldest()
        {
            self.by_network.remove(&oldest);
        }
    }

    /// What shows that our mapping depends on the address, if that is beyond doubt; else nothing.
    pub fn dependent(&self, now: Instant, reflexive: SocketAddr) -> Vec<Observation> {
        let counts = |(at, observation): &(Instant, Observation)| {
            (now < *at + MEMORY).then_some(*observation)
        };
        let seen: Vec<Observation> = self.by_network.values().filter_map(counts).collect();
        let differs = |it: &Observation| it.mapped.port() != reflexive.port();
        match seen.len() >= WITNESSES && seen.iter().all(differs) {
            true => seen,
            false => Vec::new(),
        }
    }

    fn forget(&mut self, now: Instant) {
        self.by_network.retain(|_, (at, _)| now < *at + MEMORY);
    }

    fn oldest(&self) -> Option<IpAddr> {
        let by_age = self.by_network.iter();
        let oldest = by_age.min_by_key(|(_, (at, _))| *at);
        oldest.map(|(network, _)| *network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "203.0.113.7:5000";
    const OTHER: &str = "203.0.113.7:40000";
    const ANOTHER: &str = "203.0.113.7:41000";

    #[test]
    fn two_peers_that_see_other_ports_show_an_address_dependent_mapping() {
        let mut bench = Bench::new();
        bench.note("198.51.100.1:6000", OTHER);
        assert_eq!(bench.witnesses(), 0);
        bench.note("192.0.2.9:6000", ANOTHER);
        assert_eq!(bench.witnesses(), 2);
    }

    #[test]
    fn one_peer_shows_nothing_however_often_and_from_wherever_in_its_network() {
        let mut bench = Bench::new();
        for host in 1..=250 {
            bench.note(&format!("198.51.100.{host}:6000"), OTHER);
            bench.note(&format!("[2001:db8::{host:x}]:6000"), OTHER);
        }
        bench.by_network_is(2);
        let mut bench = Bench::new();
        for host in 1..=250 {
            bench.note(&format!("198.51.100.{host}:6000"), OTHER);
        }
        assert_eq!(bench.witnesses(), 0);
    }

    #[test]
    fn one_honest_peer_undoes_what_many_liars_say() {
        let mut bench = Bench::new();
        for network in 1..=20 {
            bench.note(&format!("198.51.{network}.1:6000"), OTHER);
        }
        assert_eq!(bench.witnesses(), 20);
        bench.note("192.0.2.9:6000", OURS);
        assert_eq!(bench.witnesses(), 0);
        // Not even a neighbour of its takes that back.
        bench.note("192.0.2.10:6000", OTHER);
        assert_eq!(bench.witnesses(), 0);
    }

    #[test]
    fn what_was_seen_counts_for_an_hour() {
        let mut bench = Bench::new();
        bench.note("198.51.100.1:6000", OTHER);
        bench.note("192.0.2.9:6000", ANOTHER);
        bench.now += MEMORY - Duration::from_nanos(1);
        assert_eq!(bench.witnesses(), 2);
        bench.now += Duration::from_nanos(1);
        assert_eq!(bench.witnesses(), 0);
    }

    #[test]
    fn who_sees_another_address_or_shares_ours_shows_nothing() {
        let mut bench = Bench::new();
        bench.note("198.51.100.1:6000", "203.0.113.8:40000");
        bench.note("192.0.2.9:6000", "[2001:db8::1]:40000");
        bench.note("203.0.113.7:6000", OTHER);
        bench.by_network_is(0);
    }

    #[test]
    fn the_networks_that_were_heard_of_last_are_remembered() {
        let mut bench = Bench::new();
        for network in 0..=255 {
            bench.now += Duration::from_secs(1);
            bench.note(&format!("198.51.{network}.1:6000"), OTHER);
        }
        bench.by_network_is(NETWORKS);
        let first = prefix("198.51.192.1".parse().unwrap());
        assert_eq!(bench.observers.by_network.keys().next(), Some(&first));
    }

    struct Bench {
        observers: Observers,
        now: Instant,
    }

    impl Bench {
        fn new() -> Bench {
            Bench {
                observers: Observers::new(),
                now: Instant::now(),
            }
        }

        fn note(&mut self, observer: &str, mapped: &str) {
            let observation = Observation {
                observer: observer.parse().unwrap(),
                mapped: mapped.parse().unwrap(),
            };
            let reflexive = OURS.parse().unwrap();
            self.observers.note(self.now, reflexive, observation);
        }

        fn witnesses(&self) -> usize {
            let reflexive = OURS.parse().unwrap();
            self.observers.dependent(self.now, reflexive).len()
        }

        #[track_caller]
        fn by_network_is(&self, expected: usize) {
            assert_eq!(self.observers.by_network.len(), expected);
        }
    }
}
