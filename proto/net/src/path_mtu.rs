//! How large a packet the interface takes by which a peer is reached, as the kernel's routes say.
//!
//! What the path beyond it takes is for QUIC to find out (RFC 8899).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::net::sockopt;

/// MTU of the route to `remote`, an IPv4 address given as such, in bytes of an IP packet: that of the
/// interface, unless somebody has set less for the route or a router on the way has asked for less.
/// Nothing is sent.
///
/// # Errors
///
/// When there is no route, or no more files may be open.
pub(crate) fn towards(remote: SocketAddr) -> io::Result<u32> {
    let any = match remote.ip() {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(remote)?;
    let mtu = match remote.ip() {
        IpAddr::V4(_) => sockopt::ip_mtu(&socket),
        IpAddr::V6(_) => sockopt::ipv6_mtu(&socket),
    };
    Ok(mtu?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_takes_more_than_any_ethernet() {
        let mtu = towards("127.0.0.1:9".parse().unwrap()).unwrap();
        assert!(mtu > 9_000, "{mtu}");
    }

    #[test]
    fn what_cannot_be_reached_has_none() {
        // The kernel connects no socket to a broadcast address that has not asked for it.
        towards("255.255.255.255:9".parse().unwrap()).unwrap_err();
    }
}
