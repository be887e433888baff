//! The host candidates of this machine (RFC 8445 §5.1.1.1): where a peer in the same network could
//! reach us.

use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use warren_proto::limits;
use warren_proto::wire::{Candidate, CandidateKind};

/// Addresses of the interfaces that are up, with the port we listen on; only the one we listen on
/// when it is not every address. Loopback is left out: the tracker sees it by itself.
pub(crate) fn host_candidates(listening: SocketAddr) -> Vec<Candidate> {
    let ips = match listening.ip().is_unspecified() {
        true => interface_addresses(),
        false => vec![listening.ip()],
    };
    let usable = ips.into_iter().filter(is_usable);
    let candidates = usable.map(|ip| Candidate {
        kind: CandidateKind::Host,
        address: SocketAddr::new(ip, listening.port()),
    });
    candidates.take(limits::CANDIDATES).collect()
}

fn interface_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    let up = interfaces.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
    up.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    })
    .collect()
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
}
