//! What each may be told of each, case by case, and that the rules hold whatever two peers say.

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
fn who_is_seen_by_both_families_is_told_of_by_both_ipv4_first() {
    let expected = ["203.0.113.7:5000", "[2001:db8::7]:5000"];
    for (observed, proven) in [(expected[0], expected[1]), (expected[1], expected[0])] {
        let of = seen_at(observed).proves(proven);
        check(&seen_at("198.51.100.1:6000"), &of, &expected);
        check(&seen_at("[2001:db8:9::1]:6000"), &of, &expected);
        assert!(of.seen_at().eq(expected.map(|text| text.parse().unwrap())));
    }
}

#[test]
fn ports_of_a_proven_address_may_be_declared_and_no_neighbour_of_it() {
    let of = seen_at("203.0.113.7:5000")
        .proves("[2001:db8::7]:5000")
        .says(Mapped, "[2001:db8::7]:7000")
        .says(Mapped, "203.0.113.7:7001")
        .says(Host, "[2001:db8::8]:5000");
    let told = [
        "203.0.113.7:5000",
        "[2001:db8::7]:5000",
        "[2001:db8::7]:7000",
        "203.0.113.7:7001",
    ];
    check(&seen_at("198.51.100.1:6000"), &of, &told);
    // By IPv6 alone nothing of IPv4 is known.
    let of = seen_at("[2001:db8::7]:5000").says(Mapped, "203.0.113.7:7001");
    check(&seen_at("198.51.100.1:6000"), &of, &["[2001:db8::7]:5000"]);
}

#[test]
fn a_proven_address_counts_where_the_connection_is_over_tcp() {
    let of = Situation {
        transport: Transport::Tcp,
        ..seen_at("203.0.113.7:5000").proves("[2001:db8::7]:5000")
    };
    check(&seen_at("198.51.100.1:6000"), &of, &["[2001:db8::7]:5000"]);
}

#[test]
fn who_shares_an_ipv4_address_is_in_one_network_however_the_tracker_was_reached() {
    let of = seen_at("[2001:db8::7]:5000")
        .proves("203.0.113.7:5000")
        .says(Host, "192.168.1.2:5000");
    let told = ["203.0.113.7:5000", "[2001:db8::7]:5000", "192.168.1.2:5000"];
    let neighbour = seen_at("[2001:db8::9]:6000").proves("203.0.113.7:6000");
    check(&neighbour, &of, &told);
    check(&seen_at("203.0.113.7:6000"), &of, &told);
    check(&seen_at("[2001:db8::9]:6000"), &of, &told[..2]);
}

#[test]
fn a_private_proven_address_stays_in_private_networks() {
    let of = seen_at("[2001:db8::7]:5000").proves("192.168.1.2:5000");
    check(&seen_at("198.51.100.1:6000"), &of, &["[2001:db8::7]:5000"]);
    let inside = seen_at("[2001:db8::9]:5000").proves("192.168.1.3:5000");
    check(&inside, &of, &["192.168.1.2:5000", "[2001:db8::7]:5000"]);
}

#[test]
fn what_counts_as_proof_is_of_the_other_family_and_somebodys() {
    let can = |observed: &str, address: &str| {
        can_be_proven(observed.parse().unwrap(), address.parse().unwrap())
    };
    assert!(can("203.0.113.7:5000", "[2001:db8::7]:5000"));
    assert!(can("[::ffff:203.0.113.7]:5000", "[fd00::7]:5000"));
    assert!(can("[2001:db8::7]:5000", "[::ffff:203.0.113.7]:5000"));
    assert!(!can("203.0.113.7:5000", "203.0.113.8:5000"));
    assert!(!can("203.0.113.7:5000", "[::ffff:203.0.113.8]:5000"));
    assert!(can("127.0.0.1:5000", "[::1]:5000"));
    for address in [
        "[::1]:5000",
        "[fe80::1]:5000",
        "[ff02::1]:5000",
        "[::]:5000",
    ] {
        assert!(!can("203.0.113.7:5000", address), "{address}");
    }
}

#[test]
fn where_to_prove_it_is_told_to_who_can_mean_the_same_by_it() {
    let may = |observed: &str, server: &str| {
        may_prove_at(observed.parse().unwrap(), server.parse().unwrap())
    };
    assert!(may("203.0.113.7:5000", "[2001:db8::1]:59000"));
    assert!(may("192.168.1.2:5000", "[fd00::1]:59000"));
    assert!(!may("203.0.113.7:5000", "[fd00::1]:59000"));
    assert!(!may("[2001:db8::7]:5000", "192.168.1.1:59000"));
    assert!(may("192.168.1.2:5000", "[2001:db8::1]:59000"));
    assert!(may("127.0.0.1:5000", "[::1]:59000"));
    assert!(!may("127.0.0.1:5000", "[2001:db8::1]:59000"));
    assert!(
        !may("203.0.113.7:5000", "192.0.2.1:59000"),
        "no other family"
    );
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
            let address = candidate.address;
            let is_proven = of.proven.map(canonical) == Some(address);
            prop_assert!(of.transport == Transport::Udp || is_declared || is_proven);
            let mut ips = of.ips();
            prop_assert!(address.port() >= 1024);
            prop_assert_eq!(address.ip().to_canonical(), address.ip());
            match scope(address.ip()) {
                Scope::Public => prop_assert!(ips.any(|ip| ip == address.ip())),
                Scope::Private => {
                    let is_shared = ips.any(|ip| receiver.ips().any(|other| other == ip));
                    let is_seen = of.ips().any(|ip| ip == address.ip());
                    let is_inside = receiver.ips().any(|ip| scope(ip) != Scope::Public);
                    prop_assert!(is_shared || (is_seen && is_inside));
                }
                Scope::Loopback => {
                    prop_assert!(address == canonical(of.observed) || is_proven);
                    prop_assert!(receiver.tracker_is_loopback && of.tracker_is_loopback);
                    prop_assert_eq!(scope(ip(receiver.observed)), Scope::Loopback);
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
        proven: None,
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
    fn proves(self, address: &str) -> Situation {
        Situation {
            proven: Some(address.parse().unwrap()),
            ..self
        }
    }

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
    let kind = prop::sample::select(vec![Host, ServerReflexive, PeerReflexive, Mapped, Relayed]);
    let candidate = (kind, address()).prop_map(|(kind, address)| Candidate { kind, address });
    let candidates = prop::collection::vec(candidate, 0..=CANDIDATES);
    let flags = any::<(bool, bool)>();
    let paths = prop::sample::select(vec![Paths::Any, Paths::DirectOnly, Paths::RelayOnly]);
    let proven = prop::option::of(address());
    let parts = (address(), flags, candidates, paths, proven);
    parts.prop_map(
        |(observed, (tracker_is_loopback, tcp), list, paths, proven)| Situation {
            observed,
            transport: if tcp { Transport::Tcp } else { Transport::Udp },
            proven: proven.filter(|it| can_be_proven(observed, *it)),
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
