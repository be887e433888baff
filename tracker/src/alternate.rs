//! A second IP address of the tracker's machine, at which it answers STUN.
//!
//! A NAT may give a socket one outside port for each IP address it sends to (RFC 4787 §4.1,
//! address-dependent mapping). To all ports of one address it looks endpoint-independent; only a
//! question to another address shows it.
//!
//! Not here: how requests are answered ([`crate::stun`]).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;

use warren_net::{BindError, Endpoint, Identity, Profile};

use crate::config::{Config, DEFAULT_STUN_PORT};

/// Daemons ask no port below: those are of other services.
const LOWEST_PORT: u16 = 1024;

/// A second address as it is given: `192.0.2.2`, `192.0.2.2:59001`, `2001:db8::2` or
/// `[2001:db8::2]:59001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AltAddress {
    /// An IP address of this machine, other than the one by which daemons reach the tracker.
    pub ip: IpAddr,
    /// Where to answer there, or where STUN alone is served.
    pub port: Option<u16>,
}

impl FromStr for AltAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<AltAddress, Self::Err> {
        let whole = text.parse::<SocketAddr>();
        let whole = whole.map(|address| (address.ip(), Some(address.port())));
        let alone = || text.parse().map(|ip| (ip, None));
        let (ip, port) = whole.or_else(|_| alone()).map_err(|_| {
            "expected IP or IP:PORT, for example 192.0.2.2, 192.0.2.2:59001 or [2001:db8::2]:59001"
        })?;
        Ok(AltAddress { ip, port })
    }
}

/// Why a second address is none.
#[derive(Debug, thiserror::Error)]
pub enum AltAddressError {
    /// No packet that is sent there arrives here.
    #[error("{ip} is not an address of this machine")]
    NotOurs {
        /// What was given.
        ip: IpAddr,
        /// What the system said, if it was asked.
        source: Option<io::Error>,
    },
    /// Daemons reach the tracker there, so it shows them nothing new.
    #[error("{ip} is the tracker's first address")]
    NotSecond {
        /// What was given.
        ip: IpAddr,
    },
    /// No daemon asks such a port.
    #[error("port {port} belongs to another service")]
    LowPort {
        /// What was given.
        port: u16,
    },
    /// There are two of one family.
    #[error("{ip} is one more second address")]
    Third {
        /// What was given last.
        ip: IpAddr,
    },
    /// Something else is there.
    #[error("cannot serve STUN there")]
    Bind(#[source] BindError),
}

impl AltAddressError {
    /// What the person can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NotOurs { .. } => {
                "List this machine's addresses with: ip address show. A router that passes an \
                 address on to this machine does not make it one of them."
            }
            Self::NotSecond { .. } => {
                "Give another address of this machine. If daemons reach the tracker by another one \
                 than this, say so with --public ADDR:PORT."
            }
            Self::LowPort { .. } => "Give a port from 1024 up, or none.",
            Self::Third { .. } => "Give --alt-address once for IPv4 and once for IPv6 at most.",
            Self::Bind(_) => "Give another port: --alt-address IP:PORT.",
        }
        .to_owned()
    }
}

/// The second addresses, and what serves those that no socket of the tracker serves already.
#[derive(Debug, Default)]
pub(crate) struct Alternates {
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) endpoints: Vec<Endpoint>,
}

impl Alternates {
    /// Opens what is asked for by `config`; STUN is served at `main` and at `stun` already.
    pub(crate) fn open(
        config: &Config,
        main: &[SocketAddr],
        stun: &[SocketAddr],
        identity: &Identity,
    ) -> Result<Alternates, AltAddressError> {
        let mut alternates = Alternates::default();
        for asked in &config.alt_addresses {
            let ip = asked.ip.to_canonical();
            if is_main(ip, main.iter().chain(stun), config.public.as_deref()) {
                return Err(AltAddressError::NotSecond { ip });
            }
            let mut known = alternates.addrs.iter();
            if known.any(|addr| addr.is_ipv4() == ip.is_ipv4()) {
                return Err(AltAddressError::Third { ip });
            }
            alternates.add((ip, asked.port), main, stun, identity)?;
        }
        Ok(alternates)
    }

    fn add(
        &mut self,
        (ip, port): (IpAddr, Option<u16>),
        main: &[SocketAddr],
        stun: &[SocketAddr],
        identity: &Identity,
    ) -> Result<(), AltAddressError> {
        let ports = stun.iter().chain(main).map(SocketAddr::port);
        let usual = || ports.clone().find(|port| *port >= LOWEST_PORT);
        let port = port.or_else(usual).unwrap_or(DEFAULT_STUN_PORT);
        // Port 0 is for the system to choose.
        if (1..LOWEST_PORT).contains(&port) {
            return Err(AltAddressError::LowPort { port });
        }
        check_ours(ip)?;
        let asked = SocketAddr::new(ip, port);
        if main.iter().chain(stun).any(|bound| serves(*bound, asked)) {
            self.addrs.push(asked);
            return Ok(());
        }
        let bound = Endpoint::bind(asked, identity, &[], Profile::Tracker);
        let endpoint = bound.map_err(AltAddressError::Bind)?;
        self.addrs.push(endpoint.local_addr());
        self.endpoints.push(endpoint);
        Ok(())
    }
}

/// Whether this is where daemons reach the tracker: where it listens, or, if that is everywhere, the
/// address it wants in links, or the one that this machine sends from.
fn is_main<'a>(
    ip: IpAddr,
    mut bound: impl Iterator<Item = &'a SocketAddr>,
    public: Option<&str>,
) -> bool {
    let public = public.and_then(|public| public.parse::<SocketAddr>().ok());
    let public = public.map(|public| public.ip().to_canonical());
    let usual = public.filter(|public| public.is_ipv4() == ip.is_ipv4());
    bound.any(|addr| match addr.ip().is_unspecified() {
        true => usual.or_else(|| outward_ip(ip.is_ipv4())) == Some(ip),
        false => addr.ip().to_canonical() == ip,
    })
}

fn check_ours(ip: IpAddr) -> Result<(), AltAddressError> {
    let source = match ip.is_unspecified() || ip.is_multicast() {
        true => None,
        false => match UdpSocket::bind((ip, 0)) {
            Ok(_) => return Ok(()),
            Err(error) => Some(error),
        },
    };
    Err(AltAddressError::NotOurs { ip, source })
}

/// Whether a socket bound to `bound` gets what is sent to `asked`.
fn serves(bound: SocketAddr, asked: SocketAddr) -> bool {
    // `[::]` takes both families.
    let takes_all = bound.ip().is_unspecified() && (bound.is_ipv6() || asked.is_ipv4());
    takes_all && bound.port() == asked.port()
}

/// The address this machine would send from to the Internet by IPv4, or else by IPv6. Nothing is sent
/// to find out.
pub fn outward_ip(is_ipv4: bool) -> Option<IpAddr> {
    // Any public address does; these two are a root name server's.
    let (any, far): (IpAddr, IpAddr) = match is_ipv4 {
        true => (
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(198, 41, 0, 4).into(),
        ),
        false => (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30).into(),
        ),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, DEFAULT_STUN_PORT)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_address_has_a_port_or_none() {
        for (text, ip, port) in [
            ("192.0.2.2", "192.0.2.2", None),
            ("192.0.2.2:59003", "192.0.2.2", Some(59_003)),
            ("2001:db8::2", "2001:db8::2", None),
            ("[2001:db8::2]:59003", "2001:db8::2", Some(59_003)),
        ] {
            let ip = ip.parse().unwrap();
            assert_eq!(text.parse(), Ok(AltAddress { ip, port }), "{text}");
        }
        for text in ["", "example.org", "192.0.2.2:", "192.0.2.2:70000", "59003"] {
            assert!(text.parse::<AltAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn where_daemons_come_is_not_second() {
        let check = |ip: &str, bound: &str, public: Option<&str>, expected: bool| {
            let bound = [bound.parse().unwrap()];
            let found = is_main(ip.parse().unwrap(), bound.iter(), public);
            assert_eq!(found, expected, "{ip} {bound:?} {public:?}");
        };
        check("192.0.2.1", "192.0.2.1:59000", None, true);
        check("192.0.2.2", "192.0.2.1:59000", None, false);
        check("192.0.2.2", "192.0.2.1:59000", Some("192.0.2.2:1"), false);
        check("192.0.2.2", "[::]:59000", Some("192.0.2.2:59000"), true);
        check("192.0.2.2", "0.0.0.0:59000", Some("192.0.2.1:59000"), false);
        check("2001:db8::2", "[::]:59000", Some("[2001:db8::2]:1"), true);
        if let Some(outward) = outward_ip(true) {
            let outward = outward.to_string();
            check(&outward, "[::]:59000", None, true);
            check(&outward, "[::]:59000", Some("192.0.2.1:59000"), false);
        }
    }

    #[test]
    fn a_socket_for_all_addresses_serves_the_second_one_too() {
        let check = |bound: &str, asked: &str, expected| {
            let found = serves(bound.parse().unwrap(), asked.parse().unwrap());
            assert_eq!(found, expected, "{bound} {asked}");
        };
        check("[::]:59001", "192.0.2.2:59001", true);
        check("[::]:59001", "[2001:db8::2]:59001", true);
        check("0.0.0.0:59001", "192.0.2.2:59001", true);
        check("0.0.0.0:59001", "[2001:db8::2]:59001", false);
        check("[::]:59000", "192.0.2.2:59001", false);
        check("192.0.2.1:59001", "192.0.2.2:59001", false);
    }
}
