//! How two peers behind NATs reach each other directly.
//!
//! [`MappingProbe`] measures how our NAT maps ports, and [`FilteringProbe`] what it lets in, for the
//! situation we tell the tracker.
//! [`PunchAttempt`] is one side of one rendezvous: it checks the other peer's candidates until a
//! path is proven in both directions. [`PathKeeper`] keeps the path of one connection from then on:
//! it notices that it is dead and follows the peer to another. [`check`] is what the two sides say
//! to each other meanwhile. All machines are driven alike: feed them datagrams and the time, send
//! what `poll_transmit` yields, call `handle_timeout` at `poll_timeout`. The same seed and the same
//! input give the same output.
//!
//! [`AddressProof`] shows a tracker our address of the other IP family.
//!
//! [`echo`] is what a tracker sends to show that a port of our router is open.
//!
//! [`Allowance`] bounds what all attempts together send to an address that does not answer,
//! [`Turnstile`] what they send when they guess ports, [`Flows`] what all that a machine does takes up in
//! the NATs it is behind.
//!
//! Guessing takes further sockets. Machines number them: 0, [`MAIN`], is the one that QUIC uses; for
//! any other number whoever drives the machine opens a socket the first time that a [`Transmit`]
//! names it, tells the machine by which number a datagram came, and closes it when told so or when
//! the machine is gone. Numbers mean something to one machine only.
//!
//! A NAT *maps* an inside address to an outside port and *filters* what comes back (RFC 4787 §4,
//! §5). Two peers meet unaided when both mappings are endpoint-independent, or when one is not and
//! the other NAT filters by address at most. A "cone" NAT is one of the former kind, a "symmetric"
//! one maps by address and port.
//!
//! Not here: which addresses a peer is told of (`swarm::consent`), the socket (`warren-net`),
//! QUIC on the proven path (`warren-daemon`).

mod address_proof;
mod allowance;
pub mod check;
pub mod echo;
mod filtering;
mod flows;
mod guess;
mod keeper;
mod primer;
mod probe;
mod punch;
mod schedule;
mod stun;
mod turnstile;

#[cfg(test)]
mod matrix;
#[cfg(test)]
mod sim;

use std::net::{IpAddr, SocketAddr};

pub use address_proof::{ADDRESS_TOKEN, AddressProof, Proven, SESSION};
pub use allowance::Allowance;
pub use filtering::FilteringProbe;
pub use flows::{Elsewhere, Flows};
pub use guess::{Guessing, Turn, possible};
pub use keeper::{KeeperEvent, PathKeeper};
pub use primer::PrimerHops;
pub use probe::{
    Confidence, Dependence, Hairpinning, MappingProbe, Measured, Observation, Observers, Sample,
    Verdict, classify,
};
pub use punch::{NoPath, Path, PunchAttempt, PunchEvent};
pub use stun::Transaction;
pub use turnstile::{TurnEnd, Turnstile, Wait};

/// Number of the socket that QUIC uses.
pub const MAIN: u16 = 0;

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// From which of the machine's sockets. Of a [`PathKeeper`] always [`MAIN`], which stands for the
    /// socket of the connection's route.
    pub via: u16,
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
    /// How many hops it may travel (IPv4 TTL, IPv6 hop limit), or the system's default.
    pub ttl: Option<u8>,
    /// Whom to ask before it is sent.
    pub charge: Charge,
}

/// What a datagram counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Nothing: it answers somebody, asks a server, or goes to who has answered.
    Free,
    /// It may not be wanted where it goes: [`Allowance::take`] decides.
    Unasked,
    /// It guesses a port of a peer that has agreed to it: [`Turnstile::take`] decides.
    Guess,
}

/// Ports below are those of well-known services: no peer lives there.
const LOWEST_PORT: u16 = 1024;

/// The address without its IPv6 mapping, flow label and scope, or `None` when no check may ever go
/// there: multicast, broadcast, unspecified, link-local, reserved, a port below 1024.
fn usable(address: SocketAddr) -> Option<SocketAddr> {
    usable_server(address).filter(|address| address.port() >= LOWEST_PORT)
}

/// The same for a server that a tracker is, or names at its own address: a service may be at any port.
fn usable_server(address: SocketAddr) -> Option<SocketAddr> {
    let ip = address.ip().to_canonical();
    let forbidden = match ip {
        IpAddr::V4(ip) => matches!(ip.octets(), [0, ..] | [169, 254, ..] | [224..=255, ..]),
        IpAddr::V6(ip) => match ip.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => false,
            // Unspecified and the deprecated IPv4-compatible addresses; link-local, the deprecated
            // site-local, multicast.
            [0, 0, 0, 0, 0, 0, _, _] | [0xfe80..=0xffff, ..] => true,
            _ => false,
        },
    };
    (!forbidden && address.port() != 0).then(|| SocketAddr::new(ip, address.port()))
}

/// Whether the address is inside a private network (RFC 1918, RFC 6598, RFC 4193) or this machine,
/// so that no NAT of ours is in between.
fn is_private(address: SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => matches!(
            ip.octets(),
            [127, ..] | [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..]
        ),
        IpAddr::V6(ip) => ip.is_loopback() || matches!(ip.segments(), [0xfc00..=0xfdff, ..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_nobodys_are_unusable() {
        for address in [
            "0.0.0.0:5000",
            "0.1.2.3:5000",
            "169.254.1.1:5000",
            "224.0.0.1:5000",
            "255.255.255.255:5000",
            "[::]:5000",
            "[::192.0.2.1]:5000",
            "[::ffff:224.0.0.1]:5000",
            "[fe80::1]:5000",
            "[ff02::1]:5000",
            "192.0.2.1:1023",
            "192.0.2.1:0",
        ] {
            assert_eq!(usable(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn a_server_may_be_at_the_port_of_a_service_and_nowhere_else_than_a_peer() {
        let server = |address: &str| usable_server(address.parse().unwrap());
        assert_eq!(server("[::ffff:192.0.2.1]:443"), server("192.0.2.1:443"));
        assert!(server("192.0.2.1:443").is_some() && server("192.0.2.1:0").is_none());
        assert_eq!(server("224.0.0.1:443"), None);
    }

    #[test]
    fn addresses_of_peers_are_usable_in_their_canonical_form() {
        for (address, canonical) in [
            ("192.0.2.1:1024", "192.0.2.1:1024"),
            ("[::ffff:192.0.2.1]:5000", "192.0.2.1:5000"),
            ("[2001:db8::1]:5000", "[2001:db8::1]:5000"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            let expected = canonical.parse().unwrap();
            assert_eq!(
                usable(address.parse().unwrap()),
                Some(expected),
                "{address}"
            );
        }
    }
}
