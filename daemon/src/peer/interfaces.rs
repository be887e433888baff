//! The host candidates of this machine (RFC 8445 §5.1.1.1): where a peer could reach us without a
//! NAT in between.
//!
//! Addresses come from the kernel; what it thinks of an IPv6 address (temporary, deprecated, not yet
//! usable) is in /proc/net/if_inet6, and which interface leads outside in /proc/net/route. Where
//! those cannot be read, all addresses are alike.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use warren_proto::wire::{Candidate, CandidateKind};

use super::default_route::default_route;

/// Most candidates of each family. A situation has room for 8: these and a mapped one.
const IPV6_CANDIDATES: usize = 3;
const IPV4_CANDIDATES: usize = 4;

const _: () = assert!(IPV6_CANDIDATES + IPV4_CANDIDATES < warren_proto::limits::CANDIDATES);

/// Flags of an address in /proc/net/if_inet6, as in `linux/if_addr.h`.
const IFA_F_TEMPORARY: u8 = 0x01;
const IFA_F_DADFAILED: u8 = 0x08;
const IFA_F_DEPRECATED: u8 = 0x20;
const IFA_F_TENTATIVE: u8 = 0x40;

/// How the names of interfaces begin that containers and virtual machines hang on: they lead to
/// nobody but those.
const VIRTUAL: [&str; 11] = [
    "docker", "virbr", "veth", "lxcbr", "lxdbr", "incusbr", "podman", "cni", "flannel", "vboxnet",
    "vmnet",
];

/// Addresses of the interfaces that are up, with the port we listen on, best first; only the one we
/// listen on when it is not every address. Loopback is left out: the tracker sees it by itself.
///
/// IPv6 comes first, since no NAT is in its way; of it what changes from time to time before what
/// stays (RFC 8981), and never what is deprecated or not proven unique yet (RFC 4862 §5.4, §5.5.4).
pub(crate) fn host_candidates(listening: SocketAddr) -> Vec<Candidate> {
    let ips = match listening.ip().is_unspecified() {
        true => best(interface_addresses(listening.is_ipv4())),
        false => vec![listening.ip()],
    };
    let usable = ips.into_iter().filter(is_usable);
    let candidates = usable.map(|ip| Candidate {
        kind: CandidateKind::Host,
        address: SocketAddr::new(ip, listening.port()),
    });
    candidates.collect()
}

/// All addresses of this machine, loopback and link-local ones included.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    let all = interface_addresses(false).into_iter();
    all.map(|address| address.ip).collect()
}

/// An address of an interface that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InterfaceAddress {
    ip: IpAddr,
    standing: Standing,
    wing: Wing,
}

/// What the kernel thinks of an address, best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Deprecated, tentative or found to be another machine's.
    Unfit,
    Stable,
    Temporary,
}

/// Where an interface leads, best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wing {
    /// To containers or virtual machines of this machine.
    Virtual,
    Some,
    /// Where packets go that nothing else is said about.
    Outside,
}

/// The best few of each family, IPv6 first.
fn best(addresses: Vec<InterfaceAddress>) -> Vec<IpAddr> {
    let fit =
        |address: &InterfaceAddress| is_usable(&address.ip) && address.standing != Standing::Unfit;
    let (mut v4, mut v6): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .filter(fit)
        .partition(|address| address.ip.is_ipv4());
    v6.sort_by_key(|address| Reverse((is_global(address.ip), address.wing, address.standing)));
    v4.sort_by_key(|address| Reverse(address.wing));
    let v6 = v6.into_iter().take(IPV6_CANDIDATES);
    let both = v6.chain(v4.into_iter().take(IPV4_CANDIDATES));
    both.map(|address| address.ip).collect()
}

/// What the kernel has, in its order.
fn interface_addresses(v4_only: bool) -> Vec<InterfaceAddress> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let standings = standings(&read("/proc/net/if_inet6"));
    let outside = default_route(&read("/proc/net/route")).map(|route| route.interface);
    let up = interfaces.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
    let addresses = up.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
        Some(InterfaceAddress {
            ip,
            standing: standings.get(&ip).copied().unwrap_or(Standing::Stable),
            wing: wing(&interface.interface_name, outside.as_deref()),
        })
    });
    addresses
        .filter(|address| address.ip.is_ipv4() || !v4_only)
        .collect()
}

fn wing(interface: &str, outside: Option<&str>) -> Wing {
    if outside == Some(interface) {
        Wing::Outside
    } else if VIRTUAL.iter().any(|begin| interface.starts_with(begin)) || is_docker(interface) {
        Wing::Virtual
    } else {
        Wing::Some
    }
}

/// Docker names the bridges of further networks so; `br-lan` is a real one.
fn is_docker(interface: &str) -> bool {
    let number = interface.strip_prefix("br-");
    number.is_some_and(|it| it.len() == 12 && it.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Reads /proc/net/if_inet6. A line has the address in 32 hex digits, then in hex the number of the
/// interface, the length of the prefix, the scope and the flags, then the name of the interface.
fn standings(if_inet6: &str) -> HashMap<IpAddr, Standing> {
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let ip = u128::from_str_radix(fields.next()?, 16).ok()?;
        let flags = u8::from_str_radix(fields.nth(3)?, 16).ok()?;
        Some((Ipv6Addr::from_bits(ip).into(), standing(flags)))
    };
    if_inet6.lines().filter_map(line).collect()
}

fn standing(flags: u8) -> Standing {
    if flags & (IFA_F_DADFAILED | IFA_F_DEPRECATED | IFA_F_TENTATIVE) != 0 {
        Standing::Unfit
    } else if flags & IFA_F_TEMPORARY != 0 {
        Standing::Temporary
    } else {
        Standing::Stable
    }
}

/// Whether it is an address that the whole internet could reach, were there no firewall.
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_private() && !is_shared(ip),
        IpAddr::V6(ip) => !ip.is_unique_local(),
    }
}

/// RFC 6598: of a carrier's network.
fn is_shared(ip: Ipv4Addr) -> bool {
    matches!(ip.octets(), [100, 64..=127, ..])
}

fn is_usable(ip: &IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine as it is at home, a day after it was started.
    const IF_INET6: &str = "\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000010000000000000aaa 02 40 00 00     eth0
20010db8000000015555000000000001 02 40 00 01     eth0
20010db8000000016666000000000001 02 40 00 21     eth0
20010db8000000017777000000000001 02 40 00 41     eth0
20010db8000000018888000000000001 02 40 00 08     eth0
fd000000000000000000000000000002 02 40 00 80     eth0
fe80000000000000021122fffe334455 02 40 20 80     eth0
a line that is none
";

    #[test]
    fn what_is_deprecated_tentative_or_a_duplicate_is_no_candidate() {
        let found = best(of_eth0());
        for unfit in [
            "2001:db8:0:1:6666::1",
            "2001:db8:0:1:7777::1",
            "2001:db8:0:1:8888::1",
        ] {
            assert!(!found.contains(&unfit.parse().unwrap()), "{unfit}");
        }
    }

    #[test]
    fn temporary_addresses_come_before_stable_ones_and_those_before_local_ones() {
        let expected = ["2001:db8:0:1:5555::1", "2001:db8:0:1::aaa", "fd00::2"];
        assert_eq!(best(of_eth0()), expected.map(ip));
    }

    #[test]
    fn the_interface_that_leads_outside_comes_first_and_bridges_to_containers_last() {
        let v4 = |name: &str, ip: &str| address(name, ip, Standing::Stable);
        let all = vec![
            v4("docker0", "172.17.0.1"),
            v4("br-0123456789ab", "172.18.0.1"),
            v4("virbr0", "192.168.122.1"),
            v4("lo", "127.0.0.1"),
            v4("br-lan", "192.168.2.9"),
            v4("eth0", "192.168.1.9"),
            v4("eth1", "169.254.7.7"),
        ];
        let expected = ["192.168.1.9", "192.168.2.9", "172.17.0.1", "172.18.0.1"];
        assert_eq!(best(all), expected.map(ip));
    }

    #[test]
    fn neither_family_takes_the_room_of_the_other_or_of_a_mapped_one() {
        let v6 = (1..20).map(|n| format!("2001:db8::{n}"));
        let v4 = (1..20).map(|n| format!("10.0.0.{n}"));
        let all = v6.chain(v4);
        let found = best(
            all.map(|ip| address("eth0", &ip, Standing::Stable))
                .collect(),
        );
        assert_eq!(
            found.iter().filter(|ip| ip.is_ipv6()).count(),
            IPV6_CANDIDATES
        );
        assert_eq!(
            found.iter().filter(|ip| ip.is_ipv4()).count(),
            IPV4_CANDIDATES
        );
    }

    #[test]
    fn one_address_listened_on_is_the_only_candidate() {
        let candidates = host_candidates("192.0.2.1:7".parse().unwrap());
        assert_eq!(candidates.len(), 1);
        assert_eq!(candidates[0].address, "192.0.2.1:7".parse().unwrap());
    }

    #[test]
    fn loopback_and_link_local_addresses_are_no_candidates() {
        for listening in ["127.0.0.1:7", "[::1]:7", "[fe80::1]:7", "169.254.1.1:7"] {
            assert!(
                host_candidates(listening.parse().unwrap()).is_empty(),
                "{listening}"
            );
        }
        let everywhere = host_candidates("[::]:7".parse().unwrap());
        assert!(
            everywhere
                .iter()
                .all(|candidate| !candidate.address.ip().is_loopback())
        );
    }

    #[test]
    fn a_socket_without_ipv6_has_no_candidates_of_it() {
        let candidates = host_candidates("0.0.0.0:7".parse().unwrap());
        assert!(
            candidates
                .iter()
                .all(|candidate| candidate.address.is_ipv4())
        );
    }

    fn of_eth0() -> Vec<InterfaceAddress> {
        let standings = standings(IF_INET6);
        assert_eq!(standings.len(), 8);
        let mut all: Vec<_> = standings
            .into_iter()
            .map(|(ip, standing)| address("eth0", &ip.to_string(), standing))
            .collect();
        all.sort_by_key(|address| address.ip);
        all
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn address(interface: &str, ip: &str, standing: Standing) -> InterfaceAddress {
        InterfaceAddress {
            ip: ip.parse().unwrap(),
            standing,
            wing: wing(interface, Some("eth0")),
        }
    }
}
