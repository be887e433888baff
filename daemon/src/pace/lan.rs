//! The networks that this machine is in itself, to whose hosts nothing goes through a router.

use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use warren_net::{Subnet, is_local};

/// The subnets of our interfaces, of those with private or link-local addresses (RFC 1918, RFC 3927, RFC
/// 4193, RFC 4291 §2.5.6). Not those of tunnels, which lead through somebody's uplink; nor public ones,
/// which a provider may have given to many.
pub(crate) fn own_subnets() -> Vec<Subnet> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    let is_lan = |it: &InterfaceAddress| {
        it.flags.contains(InterfaceFlags::IFF_UP)
            && !it.flags.contains(InterfaceFlags::IFF_POINTOPOINT)
    };
    let mut subnets: Vec<_> = interfaces
        .filter(is_lan)
        .filter_map(|it| subnet(&it))
        .collect();
    subnets.dedup();
    subnets
}

fn subnet(interface: &InterfaceAddress) -> Option<Subnet> {
    let ip = ip_of(&interface.address?)?;
    let prefix_bits = match ip_of(&interface.netmask?)? {
        IpAddr::V4(mask) => u32::from(mask).leading_ones(),
        IpAddr::V6(mask) => u128::from(mask).leading_ones(),
    };
    is_local(ip).then_some(Subnet { ip, prefix_bits })
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_in_its_own_networks_and_nobody_on_the_internet_is() {
        let subnets = own_subnets();
        let holds = |ip: &str| {
            let ip = ip.parse().unwrap();
            subnets.iter().any(|subnet| subnet.contains(ip))
        };
        assert!(holds("127.0.0.1"), "{subnets:?}");
        assert!(
            !holds("203.0.113.7") && !holds("2001:db8::1"),
            "{subnets:?}"
        );
    }
}
