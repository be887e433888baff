//! Which addresses of one peer another may be told.
//!
//! Whoever is told an address sends packets to it. So a tracker passes on what it has *observed*,
//! and what a peer declares about itself only where it cannot point at a stranger:
//!
//! | address | goes to |
//! | --- | --- |
//! | observed over TCP | nobody: it is no UDP port |
//! | observed, public | everybody |
//! | observed, private (the tracker stands in that network) | who is observed at a private address or on the tracker's own machine |
//! | observed, loopback | who is observed there too, both having reached the tracker over loopback |
//! | declared, another port of the observed public or private IP | whom the observed IP may go to |
//! | declared, private, an own interface | who is observed at the same IP, so most likely behind the same NAT |
//! | declared, private, a port of the router that is itself behind a carrier's NAT | the same: a customer of that carrier |
//! | any of one that is reached through a tracker alone, or told to it | nobody |
//! | link-local, multicast, broadcast, unspecified, reserved; any port below 1024 | nobody |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::limits::CANDIDATES;
use crate::wire::{Bounded, Candidate, CandidateKind, NatFiltering, NatMapping, Paths};

/// Ports below are those of well-known services; no peer lives there and nobody is sent there.
const LOWEST_PORT: u16 = 1024;

/// What a peer's connection to the tracker runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// QUIC over UDP, from the very socket that peers reach it at.
    Udp,
    /// TLS over TCP, where UDP does not get through.
    Tcp,
}

/// What a tracker knows about how one connected peer can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Where its packets come from.
    pub observed: SocketAddr,
    /// What they are. The IP of a TCP connection is its peer's as well, but its port is no UDP port.
    pub transport: Transport,
    /// Whether it reached the tracker at a loopback address.
    pub tracker_is_loopback: bool,
    /// What it says about itself.
    pub candidates: Bounded<Candidate, CANDIDATES>,
    /// How it says its NAT picks outside ports.
    pub mapping: NatMapping,
    /// What it says its NAT lets in.
    pub filtering: NatFiltering,
    /// By which paths it wants to be reached.
    pub paths: Paths,
    /// Round trip between it and the tracker, as the tracker measured it.
    pub rtt: Duration,
}

/// The addresses of `of` that `receiver` may be told, the observed one first, each once, at most
/// [`CANDIDATES`]; none where one of the two wants to be reached through a tracker alone.
/// IPv4-mapped IPv6 addresses come out as IPv4 (RFC 4291 §2.5.5.2).
pub fn candidates_for(receiver: &Situation, of: &Situation) -> Vec<Candidate> {
    if !receiver.paths.may_be_direct(of.paths) {
        return Vec::new();
    }
    let observed = Candidate {
        kind: CandidateKind::ServerReflexive,
        address: of.observed,
    };
    let declared = of
        .candidates
        .iter()
        .filter(|candidate| may_tell_declared(receiver, of, candidate));
    let is_candidate = of.transport == Transport::Udp && may_tell_observed(receiver, of);
    let told = is_candidate
        .then_some(&observed)
        .into_iter()
        .chain(declared);
    let mut candidates: Vec<Candidate> = Vec::new();
    for Candidate { kind, address } in told {
        let address = canonical(*address);
        let known = candidates
            .iter()
            .any(|candidate| candidate.address == address);
        if !known && address.port() >= LOWEST_PORT && candidates.len() < CANDIDATES {
            candidates.push(Candidate {
                kind: *kind,
                address,
            });
        }
    }
    candidates
}

/// Where a probe goes that a daemon observed at `observed` asks for (PROTOCOL.md, Probes of a tracker),
/// or `None` if it gets none: to its own observed IP and to nowhere else.
///
/// None goes to loopback. Behind a proxy everybody looks local, and the tracker's own machine would
/// get packets from itself.
pub fn echo_target(observed: SocketAddr, port: u16) -> Option<SocketAddr> {
    let is_elsewhere = matches!(scope(observed), Scope::Public | Scope::Private);
    let target = SocketAddr::new(ip(observed), port);
    (is_elsewhere && port >= LOWEST_PORT).then_some(target)
}

/// Whether the IP that `of` was observed at may go to `receiver`.
fn may_tell_observed(receiver: &Situation, of: &Situation) -> bool {
    match scope(of.observed) {
        Scope::Public => true,
        Scope::Private => scope(receiver.observed) == Scope::Private || is_local(receiver),
        Scope::Loopback => is_local(of) && is_local(receiver),
        Scope::Unusable => false,
    }
}

/// Whether something `of` says about itself may go to `receiver`.
fn may_tell_declared(receiver: &Situation, of: &Situation, declared: &Candidate) -> bool {
    use CandidateKind::{Host, Mapped, PeerReflexive, Relayed, ServerReflexive};
    let is_observed_ip = ip(declared.address) == ip(of.observed);
    match (scope(declared.address), declared.kind) {
        (_, PeerReflexive | Relayed) => false,
        (Scope::Public | Scope::Private, Host | ServerReflexive | Mapped) if is_observed_ip => {
            may_tell_observed(receiver, of)
        }
        (Scope::Private, Host | Mapped) => share_a_network(receiver, of),
        (Scope::Private, ServerReflexive) => false,
        // A public address that was not observed may be anybody's. So may a loopback port: it
        // would be a service of the receiver's own machine.
        (Scope::Public | Scope::Loopback | Scope::Unusable, _) => false,
    }
}

/// Whether both are seen at one IP: behind the same NAT, or on one machine.
fn share_a_network(a: &Situation, b: &Situation) -> bool {
    let same = ip(a.observed) == ip(b.observed);
    same && match scope(a.observed) {
        Scope::Public | Scope::Private => true,
        // A proxy in front of the tracker makes strangers look local; see `is_local`.
        Scope::Loopback => is_local(a) && is_local(b),
        Scope::Unusable => false,
    }
}

/// Whether the peer runs on the tracker's own machine.
fn is_local(peer: &Situation) -> bool {
    peer.tracker_is_loopback && scope(peer.observed) == Scope::Loopback
}

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Public,
    /// RFC 1918, RFC 6598 (shared by a carrier's customers) and RFC 4193.
    Private,
    Loopback,
    /// Nobody may be sent there.
    Unusable,
}

fn scope(address: SocketAddr) -> Scope {
    match ip(address) {
        IpAddr::V4(ip) => scope_v4(ip),
        IpAddr::V6(ip) => scope_v6(ip),
    }
}

fn scope_v4(ip: Ipv4Addr) -> Scope {
    match ip.octets() {
        [127, ..] => Scope::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Scope::Private,
        // This network, link-local, multicast, reserved and broadcast.
        [0, ..] | [169, 254, ..] | [224..=255, ..] => Scope::Unusable,
        _ => Scope::Public,
    }
}

fn scope_v6(ip: Ipv6Addr) -> Scope {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Scope::Loopback,
        // Unspecified and the deprecated IPv4-compatible ones.
        [0, 0, 0, 0, 0, 0, _, _] => Scope::Unusable,
        [0xfc00..=0xfdff, ..] => Scope::Private,
        // Link-local, the deprecated site-local, multicast.
        [0xfe80..=0xffff, ..] => Scope::Unusable,
        _ => Scope::Public,
    }
}

fn ip(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(ip(address), address.port())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use CandidateKind::{Host, Mapped, PeerReflexive, Relayed, ServerReflexive};

    #[test]
    fn strangers_are_told_the_observed_public_address_and_nothing_private() {
        let of = seen_at("203.0.113.7:5000").says(Host, "192.168.1.2:5000");
        check(&seen_at("198.51.100.1:6000"), &of, &["203.0.113.7:5000"]);
    }

    #[test]
    fn who_is_reached_through_a_tracker_alone_is_told_nothing_and_told_of_to_nobody() {
        let hidden = Situation {
            paths: Paths::RelayOnly,
            ..seen_at("203.0.113.7:5000")
        };
        let other = Situation {
            paths: Paths::DirectOnly,
            ..seen_at("198.51.100.1:6000")
        };
        check(&other, &hidden, &[]);
        check(&hidden, &other, &[]);
        check(&other, &other, &["198.51.100.1:6000"]);
    }

    #[test]
    fn the_port_of_a_tcp_connection_is_told_to_nobody() {
        let over_tcp = |observed| Situation {
            transport: Transport::Tcp,
            ..seen_at(observed)
        };
        let of = over_tcp("203.0.113.7:5000")
            .says(Host, "192.168.1.2:4000")
            .says(Mapped, "203.0.113.7:7000");
        check(&seen_at("198.51.100.1:6000"), &of, &["203.0.113.7:7000"]);
        let neighbours = ["192.168.1.2:4000", "203.0.113.7:7000"];
        check(&seen_at("203.0.113.7:6000"), &of, &neighbours);
        check(&over_tcp("203.0.113.7:6000"), &of, &neighbours);
        let local = Situation {
            transport: Transport::Tcp,
            ..local("127.0.0.1:5000")
        };
        check(&local.clone(), &local, &[]);
    }

    #[test]
    fn peers_behind_one_nat_are_told_each_others_interfaces() {
        let of = seen_at("203.0.113.7:5000").says(Host, "192.168.1.2:4000");
        check(
            &seen_at("203.0.113.7:6000"),
            &of,
            &["203.0.113.7:5000", "192.168.1.2:4000"],
        );
    }

    #[test]
    fn customers_of_one_carrier_are_told_each_others_addresses_in_its_network() {
        let of = seen_at("203.0.113.7:5000")
            .says(Host, "192.168.1.2:4000")
            .says(Mapped, "100.64.3.4:4000");
        let neighbours = ["203.0.113.7:5000", "192.168.1.2:4000", "100.64.3.4:4000"];
        check(&seen_at("203.0.113.7:6000"), &of, &neighbours);
        check(&seen_at("203.0.113.8:6000"), &of, &["203.0.113.7:5000"]);
        check(&local("127.0.0.1:6000"), &of, &["203.0.113.7:5000"]);
        let guessed = seen_at("203.0.113.7:5000").says(ServerReflexive, "100.64.3.4:4000");
        check(
            &seen_at("203.0.113.7:6000"),
            &guessed,
            &["203.0.113.7:5000"],
        );
    }

    #[test]
    fn an_address_observed_in_the_trackers_own_network_stays_in_private_networks() {
        let of = seen_at("192.168.1.2:5000");
        check(&seen_at("192.168.1.3:6000"), &of, &["192.168.1.2:5000"]);
        check(&seen_at("203.0.113.7:6000"), &of, &[]);
        check(&local("127.0.0.1:6000"), &of, &["192.168.1.2:5000"]);
        check(&seen_at("127.0.0.1:6000"), &of, &[]);
    }

    #[test]
    fn interfaces_are_not_told_to_another_machine_of_a_private_network() {
        let of = seen_at("192.168.1.2:5000").says(Host, "10.0.0.1:5000");
        check(&seen_at("192.168.1.3:6000"), &of, &["192.168.1.2:5000"]);
    }

    #[test]
    fn peers_on_the_trackers_machine_meet_over_loopback() {
        let of = local("127.0.0.1:5000");
        check(&local("127.0.0.1:6000"), &of, &["127.0.0.1:5000"]);
        check(&local("[::1]:6000"), &of, &["127.0.0.1:5000"]);
    }

    #[test]
    fn loopback_is_told_only_when_both_reached_the_tracker_over_it() {
        let of = local("127.0.0.1:5000");
        for receiver in ["127.0.0.1:6000", "192.168.1.3:6000", "203.0.113.7:6000"] {
            check(&seen_at(receiver), &of, &[]);
        }
        check(&local("127.0.0.1:6000"), &seen_at("127.0.0.1:5000"), &[]);
        check(&local("203.0.113.7:6000"), &of, &[]);
    }

    #[test]
    fn strangers_behind_a_local_proxy_do_not_learn_each_others_interfaces() {
        let of = seen_at("127.0.0.1:5000").says(Host, "192.168.1.2:5000");
        check(&seen_at("127.0.0.1:6000"), &of, &[]);
    }

    #[test]
    fn a_probe_goes_to_the_observed_ip_alone_and_to_no_service() {
        let to = |observed: &str, port| {
            let target = echo_target(observed.parse().unwrap(), port);
            target.map(|target| target.to_string())
        };
        let reached = |address: &str| Some(address.to_owned());
        assert_eq!(to("203.0.113.7:5000", 1024), reached("203.0.113.7:1024"));
        assert_eq!(to("[::ffff:10.0.0.1]:5000", 9), None);
        assert_eq!(
            to("[::ffff:10.0.0.1]:5000", 65_535),
            reached("10.0.0.1:65535")
        );
        assert_eq!(
            to("[2001:db8::1]:5000", 6000),
            reached("[2001:db8::1]:6000")
        );
        for port in [0, 53, 1023] {
            assert_eq!(to("203.0.113.7:5000", port), None, "{port}");
        }
        for observed in [
            "127.0.0.1:5000",
            "[::1]:5000",
            "[::ffff:127.0.0.1]:5000",
            "0.0.0.0:5000",
            "169.254.1.1:5000",
            "224.0.0.1:5000",
            "255.255.255.255:5000",
            "[fe80::1]:5000",
            "[ff02::1]:5000",
        ] {
            assert_eq!(to(observed, 6000), None, "{observed}");
        }
    }

    #[test]
    fn a_declared_loopback_port_is_never_told() {
        let of = local("127.0.0.1:5000")
            .says(Host, "127.0.0.1:8080")
            .says(Mapped, "[::1]:8080");
        check(&local("127.0.0.1:6000"), &of, &["127.0.0.1:5000"]);
    }

    #[test]
    fn a_declared_public_address_must_have_the_observed_ip() {
        let of = seen_at("203.0.113.7:5000")
            .says(Mapped, "203.0.113.7:7000")
            .says(ServerReflexive, "203.0.113.7:7001")
            .says(Mapped, "192.0.2.66:7000")
            .says(Host, "[2001:db8::66]:7000");
        let told = ["203.0.113.7:5000", "203.0.113.7:7000", "203.0.113.7:7001"];
        check(&seen_at("198.51.100.1:6000"), &of, &told);
        check(&seen_at("203.0.113.7:6000"), &of, &told);
    }

    #[test]
    fn nobody_declares_what_only_others_can_know() {
        let of = seen_at("203.0.113.7:5000")
            .says(PeerReflexive, "203.0.113.7:7000")
            .says(Relayed, "203.0.113.7:7001");
        check(&seen_at("198.51.100.1:6000"), &of, &["203.0.113.7:5000"]);
    }

    #[test]
    fn addresses_that_are_nobodys_are_never_told() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.1.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
            "[::192.0.2.1]",
            "[::ffff:224.0.0.1]",
            "[::ffff:169.254.0.1]",
        ] {
            let address = format!("{ip}:5000");
            check(&seen_at("203.0.113.7:6000"), &seen_at(&address), &[]);
            let of = seen_at("203.0.113.7:1").says(Host, &address);
            check(&seen_at("203.0.113.7:6000"), &of, &[]);
            let of = seen_at(&address).says(Host, "192.168.1.2:5000");
            check(&seen_at(&address), &of, &[]);
        }
    }

    #[test]
    fn ports_of_well_known_services_are_never_told() {
        let of = seen_at("203.0.113.7:1023")
            .says(Host, "192.168.1.2:53")
            .says(Mapped, "203.0.113.7:0")
            .says(Host, "192.168.1.2:1024");
        check(&seen_at("203.0.113.7:6000"), &of, &["192.168.1.2:1024"]);
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_it_stands_for() {
        let of = seen_at("[::ffff:203.0.113.7]:5000").says(Host, "[::ffff:192.168.1.2]:5000");
        let told = ["203.0.113.7:5000", "192.168.1.2:5000"];
        check(&seen_at("203.0.113.7:6000"), &of, &told);
        let of = local("[::ffff:127.0.0.1]:5000");
        check(&local("[::ffff:127.0.0.1]:6000"), &of, &["127.0.0.1:5000"]);
    }

    #[test]
    fn each_address_is_told_once_and_eight_at_most() {
        let mut of = seen_at("203.0.113.7:5000").says(Host, "203.0.113.7:5000");
        for port in 2000..2007 {
            of = of.says(Host, &format!("192.168.1.2:{port}"));
        }
        assert_eq!(candidates_for(&seen_at("203.0.113.7:6000"), &of).len(), 8);
        let mut of = seen_at("203.0.113.7:5000");
        for port in 2000..2008 {
            of = of.says(Host, &format!("192.168.1.2:{port}"));
        }
        let told = candidates_for(&seen_at("203.0.113.7:6000"), &of);
        assert_eq!((told.len(), told[0].address), (8, of.observed));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn whatever_two_peers_say_the_rules_hold(receiver in situation(), of in situation()) {
            let told = candidates_for(&receiver, &of);
            prop_assert!(told.len() <= CANDIDATES);
            let hidden = [&receiver, &of].iter().any(|it| it.paths == Paths::RelayOnly);
            prop_assert!(!hidden || told.is_empty());
            for candidate in told {
                let is_declared = of
                    .candidates
                    .iter()
                    .any(|declared| canonical(declared.address) == candidate.address);
                prop_assert!(of.transport == Transport::Udp || is_declared);
                let (address, observed) = (candidate.address, canonical(of.observed));
                prop_assert!(address.port() >= 1024);
                prop_assert_eq!(address.ip().to_canonical(), address.ip());
                match scope(address) {
                    Scope::Public => prop_assert_eq!(address.ip(), observed.ip()),
                    Scope::Private => prop_assert!(
                        ip(receiver.observed) == observed.ip()
                            || (address.ip() == observed.ip()
                                && scope(receiver.observed) != Scope::Public)
                    ),
                    Scope::Loopback => {
                        prop_assert_eq!(address, observed);
                        prop_assert!(receiver.tracker_is_loopback && of.tracker_is_loopback);
                        prop_assert_eq!(scope(receiver.observed), Scope::Loopback);
                    }
                    Scope::Unusable => prop_assert!(false, "{} was told", address),
                }
            }
        }
    }

    #[track_caller]
    fn check(receiver: &Situation, of: &Situation, expected: &[&str]) {
        let told = candidates_for(receiver, of);
        let told: Vec<String> = told
            .iter()
            .map(|candidate| candidate.address.to_string())
            .collect();
        assert_eq!(told, expected);
    }

    fn seen_at(observed: &str) -> Situation {
        Situation {
            observed: observed.parse().unwrap(),
            transport: Transport::Udp,
            tracker_is_loopback: false,
            candidates: Bounded::new(),
            mapping: NatMapping::Unknown,
            filtering: NatFiltering::Unknown,
            paths: Paths::Any,
            rtt: Duration::ZERO,
        }
    }

    /// Reached the tracker over loopback.
    fn local(observed: &str) -> Situation {
        Situation {
            tracker_is_loopback: true,
            ..seen_at(observed)
        }
    }

    impl Situation {
        fn says(mut self, kind: CandidateKind, address: &str) -> Situation {
            let mut candidates = self.candidates.to_vec();
            candidates.push(Candidate {
                kind,
                address: address.parse().unwrap(),
            });
            self.candidates = candidates.try_into().unwrap();
            self
        }
    }

    fn situation() -> impl Strategy<Value = Situation> {
        let kind =
            prop::sample::select(vec![Host, ServerReflexive, PeerReflexive, Mapped, Relayed]);
        let candidate = (kind, address()).prop_map(|(kind, address)| Candidate { kind, address });
        let candidates = prop::collection::vec(candidate, 0..=CANDIDATES);
        let flags = any::<(bool, bool)>();
        let paths = prop::sample::select(vec![Paths::Any, Paths::DirectOnly, Paths::RelayOnly]);
        let parts = (address(), flags, candidates, paths);
        parts.prop_map(
            |(observed, (tracker_is_loopback, tcp), list, paths)| Situation {
                observed,
                transport: if tcp { Transport::Tcp } else { Transport::Udp },
                tracker_is_loopback,
                candidates: Bounded::truncated(list),
                mapping: NatMapping::Unknown,
                filtering: NatFiltering::Unknown,
                paths,
                rtt: Duration::ZERO,
            },
        )
    }

    /// Few enough that two peers often share one, with every scope among them.
    fn address() -> impl Strategy<Value = SocketAddr> {
        let usual = prop::sample::select(vec![
            "203.0.113.7",
            "198.51.100.1",
            "192.168.1.2",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "0.0.0.0",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "2001:db8::1",
            "ff02::1",
            "::ffff:203.0.113.7",
            "::ffff:127.0.0.1",
        ]);
        let usual = usual.prop_map(|ip| ip.parse::<IpAddr>().unwrap());
        let port = prop::sample::select(vec![0, 80, 1023, 1024, 5000, 65535]);
        (prop_oneof![8 => usual, 1 => any::<IpAddr>()], port).prop_map(SocketAddr::from)
    }
}
