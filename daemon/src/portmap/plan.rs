//! Whether there is a router to ask, and which.
//!
//! Decided from what the tracker sees and what this machine has, before anything is sent. A NAT is
//! known to be there only when the two differ.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};

use super::message::ROUTER_PORT;
use super::state::Unasked;
use crate::peer::default_route::default_route;

/// Where routers with UPnP are asked for (UPnP Device Architecture 1.0, §1.2.2).
const UPNP_GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250)), 1900);

/// A router, and who we are to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Router {
    /// Our address in its network.
    pub(super) client: Ipv4Addr,
    /// Where it speaks PCP and NAT-PMP.
    pub(super) server: SocketAddrV4,
    /// Where to ask for UPnP.
    pub(super) upnp_group: SocketAddr,
}

/// The router to ask, or why none is. `listening` is the address of our socket, `observed` the one
/// that the tracker sees, `own` are all addresses of this machine. `route` finds the router for
/// a socket bound to an address, or to any; it is called only where there is a NAT.
pub(super) fn plan(
    listening: SocketAddr,
    observed: Option<IpAddr>,
    own: &[IpAddr],
    route: impl FnOnce(Option<Ipv4Addr>) -> Option<Router>,
) -> Result<Router, Unasked> {
    let listening = listening.ip().to_canonical();
    if listening.is_loopback() {
        return Err(Unasked::Local);
    }
    let bound = match listening {
        any if any.is_unspecified() => None,
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => return Err(Unasked::Ipv6),
    };
    let observed = observed.ok_or(Unasked::Unseen)?.to_canonical();
    if observed.is_loopback() {
        return Err(Unasked::Local);
    }
    if own.iter().any(|own| own.to_canonical() == observed) {
        return Err(Unasked::NoNat);
    }
    if observed.is_ipv6() {
        return Err(Unasked::Ipv6);
    }
    let router = route(bound).ok_or(Unasked::NoRouter)?;
    // Who has a public address has a provider's machine for a router, which is nobody's to ask.
    match is_inside(router.client) {
        true => Ok(router),
        false => Err(Unasked::NoNat),
    }
}

/// Whether an address is one of those behind NATs: RFC 1918, RFC 6598, RFC 3927.
pub(super) fn is_inside(ip: Ipv4Addr) -> bool {
    let is_shared = matches!(ip.octets(), [100, 64..=127, ..]);
    ip.is_private() || ip.is_link_local() || is_shared
}

/// The router of this machine for a socket bound to `bound`. Nothing is sent to find it.
pub(super) fn router_of(bound: Option<Ipv4Addr>) -> Option<Router> {
    let routes = std::fs::read_to_string("/proc/net/route").ok()?;
    let gateway = default_route(&routes)?.gateway?;
    let server = SocketAddrV4::new(gateway, ROUTER_PORT);
    let client = match bound {
        Some(ip) => ip,
        None => address_towards(server)?,
    };
    Some(Router {
        client,
        server,
        upnp_group: UPNP_GROUP,
    })
}

/// The address that packets to `remote` leave from: connecting a UDP socket sends nothing.
fn address_towards(remote: SocketAddrV4) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(remote).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [&str; 3] = ["127.0.0.1", "192.168.1.9", "2001:db8::9"];

    #[test]
    fn behind_a_nat_the_router_is_asked() {
        check("[::]:5000", Some("203.0.113.7"), Ok(()));
        check("0.0.0.0:5000", Some("::ffff:203.0.113.7"), Ok(()));
        check("192.168.1.9:5000", Some("203.0.113.7"), Ok(()));
        // The tracker is in a private network, and a NAT in between all the same.
        check("[::]:5000", Some("10.9.9.9"), Ok(()));
    }

    #[test]
    fn a_daemon_for_this_machine_alone_asks_nobody() {
        check("127.0.0.1:5000", Some("203.0.113.7"), Err(Unasked::Local));
        check("[::1]:5000", None, Err(Unasked::Local));
        check("[::]:5000", Some("127.0.0.1"), Err(Unasked::Local));
        check("[::]:5000", Some("::ffff:127.0.0.1"), Err(Unasked::Local));
        check("[::]:5000", Some("::1"), Err(Unasked::Local));
    }

    #[test]
    fn nobody_is_asked_before_the_tracker_has_seen_us() {
        check("[::]:5000", None, Err(Unasked::Unseen));
    }

    #[test]
    fn where_no_nat_is_nobody_is_asked() {
        check("[::]:5000", Some("192.168.1.9"), Err(Unasked::NoNat));
        check("[::]:5000", Some("2001:db8::9"), Err(Unasked::NoNat));
        let public = |_| Some(router("198.51.100.9"));
        let own = ["198.51.100.9".parse().unwrap()];
        let seen = Some("203.0.113.7".parse().unwrap());
        let planned = plan("[::]:5000".parse().unwrap(), seen, &own, public);
        assert_eq!(planned, Err(Unasked::NoNat));
    }

    #[test]
    fn no_router_opens_ports_to_ipv6() {
        check("[::]:5000", Some("2001:db8::7"), Err(Unasked::Ipv6));
        check(
            "[2001:db8::9]:5000",
            Some("203.0.113.7"),
            Err(Unasked::Ipv6),
        );
    }

    #[test]
    fn without_a_router_there_is_nobody_to_ask() {
        let seen = Some("203.0.113.7".parse().unwrap());
        let planned = plan("[::]:5000".parse().unwrap(), seen, &[], |_| None);
        assert_eq!(planned, Err(Unasked::NoRouter));
    }

    /// Where nobody is to be asked, the router is not even looked for.
    #[track_caller]
    fn check(listening: &str, observed: Option<&str>, expected: Result<(), Unasked>) {
        let own = OWN.map(|ip| ip.parse().unwrap());
        let observed = observed.map(|ip| ip.parse().unwrap());
        let route = |_| {
            assert_eq!(expected, Ok(()), "a router was looked for");
            Some(router("192.168.1.9"))
        };
        let planned = plan(listening.parse().unwrap(), observed, &own, route);
        assert_eq!(planned.map(|_| ()), expected, "{listening} {observed:?}");
    }

    fn router(client: &str) -> Router {
        Router {
            client: client.parse().unwrap(),
            server: "192.168.1.1:5351".parse().unwrap(),
            upnp_group: UPNP_GROUP,
        }
    }
}
