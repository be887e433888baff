//! Dials and accepts authenticated connections on the one socket.
//!
//! [`Endpoint`] is quinn's, with our configuration: who may be at the other end (`tls`), how the
//! connection behaves (`transport`), and how many handshakes are under way at once.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, ConnectionError, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig,
    VarInt,
};
use ring::hmac;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use warren_proto::id::PublicKey;

use crate::congestion::Cues;
use crate::connection::Connection;
use crate::exporter::{EarlyExporter, Taker};
use crate::identity::{CERTIFICATE_NAME, Identity};
use crate::socket::{LocalIds, Socket, Unsolicited};
use crate::tls::{self, Expect, KeyVerifier, Protocol};
use crate::transport::{self, Profile, Way};

/// How long a handshake may take: four round trips of a slow satellite link, with one packet lost.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The QUIC version we speak (RFC 9000). Drafts are of no use to anyone.
const QUIC_VERSIONS: [u32; 1] = [1];

/// What the keys are for that outlive the process, so that whoever talked to it before it was started
/// anew is told that their connection is no more: a stateless reset (RFC 9000 §10.3).
const IDS_PURPOSE: &str = "warren connection ids v1";
const RESET_PURPOSE: &str = "warren stateless reset v1";

/// Close code for a connection whose handshake established nothing we can use.
const CLOSE_UNUSABLE: u32 = 1;

/// Why an endpoint cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken, not ours, or not allowed.
    #[error("cannot listen on {addr}")]
    Socket {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Our own key does not make a TLS configuration.
    #[error("cannot use our own key for TLS")]
    Tls(#[from] rustls::Error),
}

impl BindError {
    /// The address that was asked for, if that is what is wrong.
    pub fn addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket { addr, .. } => Some(*addr),
            Self::Tls(_) => None,
        }
    }

    /// Whether another program has the port.
    pub fn is_port_taken(&self) -> bool {
        matches!(self, Self::Socket { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }

    /// Whether we are not allowed to use it, as for ports below 1024.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Socket { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// Why there is no connection to an address.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Someone else is there.
    #[error("{addr} presented an unexpected key")]
    KeyMismatch {
        /// Where.
        addr: SocketAddr,
        /// The key that was presented. It is not proven to be held by whoever presented it.
        presented: PublicKey,
    },
    /// Nothing that speaks our protocol answered.
    #[error("{addr} did not answer within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    TimedOut {
        /// Where.
        addr: SocketAddr,
    },
    /// The other side or our own endpoint declined.
    #[error("no connection to {addr}")]
    Refused {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why an incoming handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It took too long.
    #[error("handshake not finished within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    TimedOut,
    /// It failed, on either side.
    #[error("handshake failed")]
    Failed(#[from] ConnectionError),
    /// The same by TLS over TCP.
    #[error("handshake failed")]
    Stream(#[source] io::Error),
    /// It established no key or no protocol of ours, or not the key whose route it came by.
    #[error("handshake established no identity")]
    Unusable,
}

/// Our end of every connection.
#[derive(Clone, Debug)]
pub struct Endpoint {
    quic: quinn::Endpoint,
    socket: Arc<Socket>,
    identity: Identity,
    /// What to accept with.
    server: Option<Server>,
    profile: Profile,
    handshakes: Arc<Semaphore>,
}

impl Endpoint {
    /// Opens the socket at `addr` (see [`Socket::bind`]) and accepts the protocols in `serves`,
    /// of which there may be none, from anyone. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the address is not to be had.
    pub fn bind(
        addr: SocketAddr,
        identity: &Identity,
        serves: &[Protocol],
        profile: Profile,
    ) -> Result<Self, BindError> {
        Self::bind_with(addr, identity, serves, profile, Unsolicited::Accept)
    }

    /// Opens the socket, and says who may open connections. See [`bind`](Self::bind).
    ///
    /// # Errors
    ///
    /// When the address is not to be had.
    pub fn bind_with(
        addr: SocketAddr,
        identity: &Identity,
        serves: &[Protocol],
        profile: Profile,
        unsolicited: Unsolicited,
    ) -> Result<Self, BindError> {
        let socket = Socket::open_at(addr).map_err(|source| BindError::Socket { addr, source })?;
        Self::on(socket, identity, serves, profile, unsolicited)
    }

    /// The same on a socket that is open already and does not block, such as a service manager
    /// passes on.
    ///
    /// # Errors
    ///
    /// When it cannot be used.
    pub fn on(
        socket: UdpSocket,
        identity: &Identity,
        serves: &[Protocol],
        profile: Profile,
        unsolicited: Unsolicited,
    ) -> Result<Self, BindError> {
        let unbound = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let addr = socket.local_addr().unwrap_or(unbound);
        let failed = |source| BindError::Socket { addr, source };
        let payload_bytes = profile.max_payload_bytes();
        // Of one port each: who is told that a connection is no more at one of our ports learns
        // nothing that would end one at another (RFC 9000 §21.11).
        let ids = |local: SocketAddr| LocalIds::new(&identity.derive(IDS_PURPOSE, local.port()));
        let socket = Socket::on(socket, payload_bytes, unsolicited, ids).map_err(failed)?;
        let server = match serves {
            [] => None,
            _ => Some(Server::new(identity, serves, profile)?),
        };
        let quic = quinn::Endpoint::new_with_abstract_socket(
            endpoint_config(profile, &socket, identity),
            server.as_ref().map(|server| server.quic.clone()),
            Arc::clone(&socket) as Arc<dyn quinn::AsyncUdpSocket>,
            Arc::new(TokioRuntime),
        )
        .map_err(failed)?;
        Ok(Self {
            quic,
            socket,
            identity: identity.clone(),
            server,
            profile,
            handshakes: Arc::new(Semaphore::new(profile.handshakes())),
        })
    }

    /// The address it listens on; `[::]` stands for every address of both families.
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    /// Who we are on every connection.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The socket underneath, for STUN.
    pub fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// Dials `addr`, without a route, and checks who is there.
    ///
    /// A returned connection means that the other side has proven its key; it may still close the
    /// connection when it has seen ours.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the attempt is abandoned.
    pub async fn connect(
        &self,
        addr: SocketAddr,
        protocol: Protocol,
        expect: Expect,
    ) -> Result<Connection, ConnectError> {
        let cues = Cues::default();
        let way = Way::Direct(addr);
        let transport = Arc::new(transport::transport(protocol, way, &cues));
        if !self.socket.dial(addr, Arc::downgrade(&transport)) {
            let source = "the address belongs to a route".into();
            return Err(ConnectError::Refused { addr, source });
        }
        let dial = Dial {
            to: addr,
            addr,
            protocol,
            transport,
            cues,
        };
        self.dial(dial, expect).await
    }

    /// Dials the peer at the end of a route (see [`Socket::route`]), which must lead somewhere, and
    /// checks who is there.
    ///
    /// `initial_rtt` is the round-trip time that a check has measured. Otherwise like
    /// [`connect`](Self::connect); errors name the real address, which a tunnel has not.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the attempt is abandoned.
    pub async fn connect_route(
        &self,
        route: SocketAddr,
        protocol: Protocol,
        expect: Expect,
        initial_rtt: Option<Duration>,
    ) -> Result<Connection, ConnectError> {
        if !self.socket.is_open(route) {
            let source = "the route leads nowhere".into();
            return Err(ConnectError::Refused {
                addr: route,
                source,
            });
        }
        let addr = self.socket.real_addr(route);
        let cues = Cues::default();
        let way = Way::of(&self.socket, route);
        let mut transport = transport::transport(protocol, way, &cues);
        transport::expect_rtt(&mut transport, initial_rtt);
        let dial = Dial {
            to: route,
            addr,
            protocol,
            transport: Arc::new(transport),
            cues,
        };
        self.dial(dial, expect).await
    }

    async fn dial(&self, dial: Dial, expect: Expect) -> Result<Connection, ConnectError> {
        let Dial { to, addr, .. } = dial;
        let cues = dial.cues.clone();
        let refused = |source| ConnectError::Refused { addr, source };
        let verifier = KeyVerifier::new(expect);
        let config = self
            .client_config(dial, Arc::clone(&verifier))
            .map_err(refused)?;
        let connecting = self
            .quic
            .connect_with(config, to, CERTIFICATE_NAME)
            .map_err(|error| refused(error.into()))?;
        match timeout(HANDSHAKE_TIMEOUT, connecting).await {
            Ok(Ok(quic)) => Connection::new(quic, Arc::clone(&self.socket), cues)
                .ok_or_else(|| refused("no identity".into())),
            Err(_) | Ok(Err(ConnectionError::TimedOut)) => Err(ConnectError::TimedOut { addr }),
            Ok(Err(error)) => Err(match verifier.mismatch() {
                Some(presented) => ConnectError::KeyMismatch { addr, presented },
                None => refused(error.into()),
            }),
        }
    }

    /// The next one who wants in; `None` once the endpoint is closed.
    ///
    /// Handshakes beyond the cap of the profile are dropped unanswered; their senders try again.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; nothing is lost.
    pub async fn accept(&self) -> Option<Incoming> {
        loop {
            let quic = self.quic.accept().await?;
            let server = self.server.clone()?;
            match Arc::clone(&self.handshakes).try_acquire_owned() {
                Ok(permit) => {
                    let profile = self.profile;
                    return Some(Incoming {
                        quic,
                        server,
                        profile,
                        socket: Arc::clone(&self.socket),
                        permit,
                    });
                }
                Err(_) => quic.ignore(),
            }
        }
    }

    /// Handshakes under way that were accepted and are not complete.
    pub fn handshakes_under_way(&self) -> usize {
        self.profile.handshakes() - self.handshakes.available_permits()
    }

    /// Closes every connection and accepts no more.
    pub fn close(&self, code: u32) {
        self.quic.close(VarInt::from_u32(code), b"");
    }

    /// Waits until the other sides have been told of a [`close`](Self::close), or a little longer
    /// than they take to answer.
    pub async fn wait_idle(&self) {
        self.quic.wait_idle().await;
    }

    fn client_config(
        &self,
        dial: Dial,
        verifier: Arc<KeyVerifier>,
    ) -> Result<ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
        let tls = tls::client_config(&self.identity, dial.protocol, verifier)?;
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        config.transport_config(dial.transport);
        Ok(config)
    }
}

/// Whom to dial.
struct Dial {
    /// The address for quinn: real, or a route.
    to: SocketAddr,
    /// The real one.
    addr: SocketAddr,
    protocol: Protocol,
    transport: Arc<TransportConfig>,
    cues: Cues,
}

/// Someone whose first packet has arrived. Dropping it refuses them.
#[derive(Debug)]
pub struct Incoming {
    quic: quinn::Incoming,
    server: Server,
    profile: Profile,
    socket: Arc<Socket>,
    permit: OwnedSemaphorePermit,
}

impl Incoming {
    /// Where the packet came from, canonical: on a relay route, the tracker, or without an address
    /// of it the route itself. Anyone can write a source address; see
    /// [`is_validated`](Self::is_validated).
    pub fn remote_address(&self) -> SocketAddr {
        self.socket.real_addr(self.quic.remote_address())
    }

    /// The route it came by; `None` if the address has none.
    pub fn route(&self) -> Option<SocketAddr> {
        let remote = self.quic.remote_address();
        Socket::is_route(remote).then_some(remote)
    }

    /// Whether the sender has shown that it receives at its address.
    pub fn is_validated(&self) -> bool {
        self.quic.remote_address_validated()
    }

    /// Makes the sender show that it receives at its address (Retry, RFC 9000 §8.1.2), before any
    /// cryptography is spent on it. For one that has shown it, this is a refusal.
    pub fn retry(self) {
        if let Err(error) = self.quic.retry() {
            error.into_incoming().refuse();
        }
    }

    /// Answers nothing at all.
    pub fn ignore(self) {
        self.quic.ignore();
    }

    /// Goes through with the handshake. The result is a connection whose client has proven its
    /// key: on a route, that of the route's peer.
    ///
    /// # Errors
    ///
    /// See [`AcceptError`].
    pub async fn complete(self) -> Result<Connection, AcceptError> {
        self.complete_with(None).await
    }

    /// Goes through with the handshake; `initial_rtt` is the round-trip time that a check has
    /// measured. See [`complete`](Self::complete).
    ///
    /// # Errors
    ///
    /// See [`AcceptError`].
    pub async fn complete_with(
        self,
        initial_rtt: Option<Duration>,
    ) -> Result<Connection, AcceptError> {
        self.begin(initial_rtt)?.finish().await
    }

    /// Answers the first packet; `initial_rtt` is the round-trip time that a check has measured.
    ///
    /// # Errors
    ///
    /// When the packet begins no handshake.
    pub fn begin(self, initial_rtt: Option<Duration>) -> Result<Handshake, AcceptError> {
        let cues = Cues::default();
        let way = Way::of(&self.socket, self.quic.remote_address());
        let mut transport = self.profile.transport(way, &cues);
        transport::expect_rtt(&mut transport, initial_rtt);
        let route = self.route();
        let owner = route.and_then(|route| self.socket.owner_of(route));
        let exporter = EarlyExporter::default();
        let mut config = match owner {
            Some(_) => self.server.watched(&exporter)?,
            None => self.server.quic,
        };
        config.transport_config(Arc::new(transport));
        let connecting = self.quic.accept_with(Arc::new(config))?;
        let owner = owner.filter(|_| exporter.is_ready());
        let (early, completing): (_, Completing) = match (owner, connecting.into_0rtt()) {
            (_, Err(connecting)) => (None, Box::pin(connecting)),
            (owner, Ok((quic, proven))) => {
                let early = owner.map(|(owner, _)| {
                    let (socket, cues) = (Arc::clone(&self.socket), cues.clone());
                    Connection::early(quic.clone(), socket, cues, owner, exporter)
                });
                (early, Box::pin(complete(quic, proven)))
            }
        };
        Ok(Handshake {
            early,
            completing,
            route,
            socket: self.socket,
            cues,
            _permit: self.permit,
        })
    }
}

type Completing = Pin<Box<dyn Future<Output = Result<quinn::Connection, ConnectionError>> + Send>>;

/// Waits for the client's proof.
async fn complete(
    quic: quinn::Connection,
    proven: quinn::ZeroRttAccepted,
) -> Result<quinn::Connection, ConnectionError> {
    proven.await;
    quic.close_reason().map_or(Ok(quic), Err)
}

/// What to accept with; the transport is chosen per connection.
#[derive(Clone, Debug)]
struct Server {
    quic: ServerConfig,
    tls: Arc<rustls::ServerConfig>,
}

impl Server {
    fn new(
        identity: &Identity,
        serves: &[Protocol],
        profile: Profile,
    ) -> Result<Self, rustls::Error> {
        let tls = tls::server_config(identity, serves)?;
        let mut quic = ServerConfig::with_crypto(Arc::new(crypto(tls.clone())?));
        quic.max_incoming(profile.handshakes());
        Ok(Self {
            quic,
            tls: Arc::new(tls),
        })
    }

    /// The configuration for one handshake, whose exporter is wanted early.
    fn watched(&self, exporter: &EarlyExporter) -> Result<ServerConfig, AcceptError> {
        let mut tls = rustls::ServerConfig::clone(&self.tls);
        tls.key_log = Arc::new(Taker(exporter.clone()));
        let mut quic = self.quic.clone();
        // The same configuration was good when the endpoint was opened.
        quic.crypto = Arc::new(crypto(tls).map_err(|_| AcceptError::Unusable)?);
        Ok(quic)
    }
}

fn crypto(tls: rustls::ServerConfig) -> Result<QuicServerConfig, rustls::Error> {
    QuicServerConfig::try_from(tls).map_err(|error| rustls::Error::General(error.to_string()))
}

/// A handshake that we answered, to be [finished](Self::finish).
pub struct Handshake {
    early: Option<Connection>,
    completing: Completing,
    route: Option<SocketAddr>,
    socket: Arc<Socket>,
    cues: Cues,
    _permit: OwnedSemaphorePermit,
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("early", &self.early)
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

impl Handshake {
    /// A handle for what may be said before the client has proven its key ("0.5-RTT data", RFC 8446
    /// §2), half a round trip earlier; of a client on a route, whose key is known. Whoever has passed
    /// the checks of the route can read it. What the client says comes only after its proof.
    pub fn early(&self) -> Option<&Connection> {
        self.early.as_ref()
    }

    /// Waits until the client has proven its key: on a route, that of the route's peer.
    ///
    /// # Errors
    ///
    /// See [`AcceptError`]; the connection is closed then, all its handles included.
    pub async fn finish(self) -> Result<Connection, AcceptError> {
        let begun = self.early.as_ref().map(Connection::windows);
        let unusable = self.early.map(|early| early.quinn().clone());
        let quic = timeout(HANDSHAKE_TIMEOUT, self.completing)
            .await
            .inspect_err(|_| close_unusable(unusable.as_ref()))
            .map_err(|_| AcceptError::TimedOut)??;
        let unusable = quic.clone();
        Connection::new(quic, Arc::clone(&self.socket), self.cues)
            .map(|connection| connection.continuing(begun))
            .filter(|connection| may_use(&self.socket, self.route, connection.peer_key()))
            .ok_or_else(|| {
                close_unusable(Some(&unusable));
                AcceptError::Unusable
            })
    }
}

fn close_unusable(quic: Option<&quinn::Connection>) {
    if let Some(quic) = quic {
        quic.close(VarInt::from_u32(CLOSE_UNUSABLE), b"");
    }
}

/// A route is its peer's alone; off the routes, any key is as good as another here.
fn may_use(socket: &Socket, route: Option<SocketAddr>, key: PublicKey) -> bool {
    route.is_none_or(|route| {
        let owner = socket.owner_of(route);
        owner.is_some_and(|(owner, _)| owner == key)
    })
}

fn endpoint_config(profile: Profile, socket: &Socket, identity: &Identity) -> EndpointConfig {
    let key = identity.derive(RESET_PURPOSE, socket.local_addr().port());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let mut config = EndpointConfig::new(Arc::new(key));
    let local_ids = socket.local_ids();
    config
        .max_udp_payload_size(profile.max_payload_bytes())
        .expect("both profiles are within 1200..=65527")
        .supported_versions(QUIC_VERSIONS.to_vec())
        // The socket tells by them whose a packet is.
        .cid_generator(move || Box::new(local_ids.clone()))
        // The socket tells QUIC from STUN by the fixed bit.
        .grease_quic_bit(false);
    config
}
