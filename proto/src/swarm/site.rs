//! Where a member of a swarm is, as far as it matters for who should be connected to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::consent::{Situation, Transport};
use crate::wire::{NatFiltering, NatMapping, Paths};

/// How a peer can be reached, by the NAT it is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// By anybody.
    Open,
    /// Its mapping is endpoint-independent, or not known: by anybody who is open or likewise behind
    /// one.
    #[default]
    Easy,
    /// Its mapping depends on the destination: by who is open; by others where a port is guessed.
    Hard,
    /// It has no UDP, or wants none of it: through a relay only.
    Blocked,
}

/// All of them.
pub(super) const CLASSES: [Class; 4] = [Class::Open, Class::Easy, Class::Hard, Class::Blocked];

impl Class {
    /// Whether two such peers reach each other directly without guessing.
    pub fn meets(self, other: Class) -> bool {
        use Class::{Easy, Hard, Open};
        matches!(
            (self, other),
            (Open | Easy, Open | Easy) | (Open, Hard) | (Hard, Open)
        )
    }

    /// What a tracker knows of it.
    fn of(situation: &Situation) -> Class {
        use NatMapping::{AddressDependent, EndpointIndependent, Random, Sequential, Unknown};
        let has_no_udp = situation.transport == Transport::Tcp && situation.proven.is_none();
        if has_no_udp || situation.paths == Paths::RelayOnly {
            return Class::Blocked;
        }
        match (situation.filtering, situation.mapping) {
            (NatFiltering::PortIndependent, _) => Class::Open,
            (_, AddressDependent | Sequential { .. } | Random { .. }) => Class::Hard,
            (_, EndpointIndependent | Unknown) => Class::Easy,
        }
    }
}

/// Where a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Those with the same number, whatever its meaning, are near to each other.
    pub vicinity: u64,
    /// How it can be reached.
    pub class: Class,
}

impl Site {
    /// Where a connected peer is. Near to it is who is observed in the same IPv4 /24 or IPv6 /48, so
    /// everybody at the same address is too.
    pub fn of(situation: &Situation) -> Site {
        Site {
            vicinity: vicinity(situation.observed.ip()),
            class: Class::of(situation),
        }
    }
}

fn vicinity(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => (1 << 56) | u64::from(Ipv4Addr::to_bits(ip) >> 8),
        IpAddr::V6(ip) => (2 << 56) | (Ipv6Addr::to_bits(ip) >> 80) as u64,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::Bounded;

    #[test]
    fn who_shares_a_24_or_a_48_is_near() {
        let near = |a: &str, b: &str| vicinity(a.parse().unwrap()) == vicinity(b.parse().unwrap());
        assert!(near("203.0.113.7", "203.0.113.250"));
        assert!(near("203.0.113.7", "::ffff:203.0.113.8"));
        assert!(!near("203.0.113.7", "203.0.112.7"));
        assert!(near("2001:db8:1:2::1", "2001:db8:1:ffff::9"));
        assert!(!near("2001:db8:1::1", "2001:db8:2::1"));
    }

    #[test]
    fn a_class_follows_from_what_the_tracker_knows() {
        use NatFiltering::{Clashing, PortDependent, PortIndependent, Unknown};
        let sequential = NatMapping::Sequential { step: 1 };
        for (mapping, filtering, class) in [
            (NatMapping::Unknown, Unknown, Class::Easy),
            (NatMapping::EndpointIndependent, PortDependent, Class::Easy),
            (
                NatMapping::EndpointIndependent,
                PortIndependent,
                Class::Open,
            ),
            (sequential, Clashing, Class::Hard),
            // Its router lets everybody in at a port that it was asked for.
            (sequential, PortIndependent, Class::Open),
        ] {
            let situation = situation(mapping, filtering);
            assert_eq!(Class::of(&situation), class, "{mapping:?}, {filtering:?}");
            for blocked in [
                Situation {
                    transport: Transport::Tcp,
                    ..situation.clone()
                },
                Situation {
                    paths: Paths::RelayOnly,
                    ..situation.clone()
                },
            ] {
                assert_eq!(Class::of(&blocked), Class::Blocked);
            }
        }
    }

    #[test]
    fn whether_two_meet_does_not_depend_on_who_is_asked() {
        for a in CLASSES {
            assert!(CLASSES.iter().all(|b| a.meets(*b) == b.meets(a)));
            assert!(!a.meets(Class::Blocked));
        }
    }

    fn situation(mapping: NatMapping, filtering: NatFiltering) -> Situation {
        Situation {
            observed: "203.0.113.7:5000".parse().unwrap(),
            transport: Transport::Udp,
            proven: None,
            tracker_is_loopback: false,
            candidates: Bounded::new(),
            mapping,
            filtering,
            paths: Paths::Any,
            rtt: Duration::ZERO,
        }
    }
}
