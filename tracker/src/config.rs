//! What a tracker is started with, and why it may not start.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use warren_net::{BindError, IdentityError};
use warren_proto::swarm::Shape;

use crate::alternate::{AltAddress, AltAddressError};

/// The port of QUIC and STUN, and of TLS over TCP.
pub const DEFAULT_PORT: u16 = 59000;

/// The port of STUN alone. Two ports let a daemon see whether its NAT maps by destination,
/// and what it lets in.
pub const DEFAULT_STUN_PORT: u16 = 59001;

/// One to use instead of one that is taken.
const FREE_PORT: u16 = 59010;

/// What is relayed in all unless said otherwise: a tenth of the line of a small server.
pub const DEFAULT_RELAY_BITS_PER_S: u64 = 100_000_000;

/// How to run a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen for daemons and STUN by UDP. Daemons are served by TLS over TCP at the same
    /// addresses and ports, where these are to be had.
    pub listen: Vec<SocketAddr>,
    /// Where else to serve daemons by TLS over TCP.
    pub tcp_listen: Vec<SocketAddr>,
    /// Where to listen for STUN only.
    pub stun_listen: Vec<SocketAddr>,
    /// Where else to answer STUN: at most one address of each family.
    pub alt_addresses: Vec<AltAddress>,
    /// By which other addresses daemons reach it, of IPv4 or IPv6, where that is not to be seen here; the port
    /// is the first of `listen` unless said otherwise.
    pub also_at: Vec<AltAddress>,
    /// The address that daemons should put into links, as `host:port`.
    pub public: Option<String>,
    /// What is passed on in all between daemons that do not reach each other, in bits per second;
    /// `None` for nothing.
    pub relay_bits_per_s: Option<u64>,
    /// From how many members on a swarm is no full mesh, and how many neighbours each has then.
    pub shape: Shape,
    /// The state folder; the key is in `tracker/key` under it.
    pub home: PathBuf,
}

impl Config {
    /// The usual ports on every address, with the key under `home`.
    pub fn new(home: PathBuf) -> Self {
        let any = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        Self {
            listen: vec![any(DEFAULT_PORT)],
            tcp_listen: Vec::new(),
            stun_listen: vec![any(DEFAULT_STUN_PORT)],
            alt_addresses: Vec::new(),
            also_at: Vec::new(),
            public: None,
            relay_bits_per_s: Some(DEFAULT_RELAY_BITS_PER_S),
            shape: Shape::default(),
            home,
        }
    }
}

/// Where STUN alone is served unless that is said: at the addresses for daemons, so that a tracker that is for this
/// machine alone is.
pub fn stun_beside(listen: &[SocketAddr]) -> Vec<SocketAddr> {
    let beside = |addr: &SocketAddr| with_port(*addr, DEFAULT_STUN_PORT);
    let addrs: BTreeSet<SocketAddr> = listen.iter().map(beside).collect();
    addrs.into_iter().collect()
}

/// Why a tracker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its key cannot be used.
    #[error("no key to run under")]
    Identity(#[from] IdentityError),
    /// An address for daemons is not to be had.
    #[error("cannot serve daemons")]
    Listen(#[source] BindError),
    /// An address for daemons by TCP that was asked for is not to be had.
    #[error("cannot serve daemons by TCP")]
    TcpListen(#[source] BindError),
    /// An address for STUN is not to be had.
    #[error("cannot serve STUN on its second port")]
    StunListen(#[source] BindError),
    /// A second address for STUN is none.
    #[error("no second address")]
    AltAddress(#[from] AltAddressError),
    /// There is no address to listen on.
    #[error("no address to listen on")]
    NoAddress,
    /// The public address is not one.
    #[error("{public:?} is not a public address of the form host:port")]
    Public {
        /// What was given.
        public: String,
    },
}

impl StartError {
    /// What the person can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Identity(error) => error.hint(),
            Self::Listen(error) if error.is_port_taken() => Some(format!(
                "Another program, perhaps another tracker, has the port. To use a different one: \
                 tracker --listen {} --stun-listen {}",
                beside(error, FREE_PORT),
                beside(error, FREE_PORT + 1)
            )),
            Self::TcpListen(error) if error.is_port_taken() => Some(format!(
                "Another program, perhaps a web server, has the port. To use a different one: \
                 tracker --tcp {}",
                beside(error, FREE_PORT)
            )),
            Self::Listen(error) | Self::TcpListen(error) | Self::StunListen(error)
                if error.is_forbidden() =>
            {
                Some(
                    "Ports below 1024 need a permission, which this gives: \
                     sudo setcap cap_net_bind_service=+ep \"$(command -v tracker)\""
                        .to_owned(),
                )
            }
            Self::StunListen(error) if error.is_port_taken() => Some(format!(
                "Another program has the port. To use a different one: tracker --stun-listen {}",
                beside(error, FREE_PORT + 1)
            )),
            Self::AltAddress(error) => Some(error.hint()),
            Self::Public { .. } => {
                Some("For example: tracker --public tracker.example.org:59000".to_owned())
            }
            Self::Listen(_) | Self::TcpListen(_) | Self::StunListen(_) | Self::NoAddress => None,
        }
    }
}

/// `public` in its usual spelling.
///
/// # Errors
///
/// [`StartError::Public`] when it is not of the form `host:port`.
pub fn checked_public(public: &str) -> Result<String, StartError> {
    let valid = public
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    valid
        .then(|| public.to_owned())
        .ok_or_else(|| StartError::Public {
            public: public.to_owned(),
        })
}

/// The address that is taken, with another port.
fn beside(taken: &BindError, port: u16) -> SocketAddr {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    with_port(taken.addr().unwrap_or(any), port)
}

fn with_port(mut addr: SocketAddr, port: u16) -> SocketAddr {
    addr.set_port(port);
    addr
}
