//! TLS over TCP between a daemon and its tracker, for networks that let no UDP through.
//!
//! [`connect_tcp`] dials and [`TcpListener`] accepts. Certificates and checks are those of QUIC
//! (`tls`), ALPN included. What comes of it is a [`TcpConnection`] ([`mod@connection`]), which speaks
//! the frames of the control stream and a few of its own (PROTOCOL.md, On TLS over TCP).
//!
//! Not here: who may connect how often (the tracker), and when to dial by TCP (the daemon).

pub(crate) mod connection;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use warren_proto::limits;

use crate::endpoint::{AcceptError, BindError, ConnectError, HANDSHAKE_TIMEOUT};
use crate::identity::{CERTIFICATE_NAME, Identity};
use crate::socket::{canonical, lacks_ipv6};
use crate::tls::{self, Expect, KeyVerifier, Protocol};
use connection::TcpConnection;

/// Connections the kernel completes before we accept them.
const BACKLOG: i32 = 1024;

/// Kernel buffer for what a daemon sends and we do not read yet. Without a bound it would grow to
/// megabytes for each of thousands of connections.
const RECEIVE_BUFFER_BYTES: usize = 256 << 10;

/// What the kernel holds of what could not be sent yet. It is what a message may have to wait
/// behind, and less than a millisecond of a 100 Mbit/s line.
const UNSENT_BYTES: u32 = 16 << 10;

/// Pause after the system refused to accept, for instance because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Dials the tracker at `addr` and checks who is there, as
/// [`Endpoint::connect`](crate::Endpoint::connect) does by UDP. Needs a tokio runtime.
///
/// # Errors
///
/// See [`ConnectError`].
///
/// # Cancel safety
///
/// May be dropped; the attempt is abandoned.
pub async fn connect_tcp(
    identity: &Identity,
    addr: SocketAddr,
    expect: Expect,
) -> Result<TcpConnection, ConnectError> {
    let verifier = KeyVerifier::new(expect);
    let config = tls::client_config(identity, Protocol::Tracker, Arc::clone(&verifier))
        .map_err(|error| refused(addr, error))?;
    match timeout(HANDSHAKE_TIMEOUT, dial(addr, config)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(match verifier.mismatch() {
            Some(presented) => ConnectError::KeyMismatch { addr, presented },
            None => refused(addr, error),
        }),
        Err(_) => Err(ConnectError::TimedOut { addr }),
    }
}

async fn dial(addr: SocketAddr, config: ClientConfig) -> io::Result<TcpConnection> {
    let started = Instant::now();
    let stream = TcpStream::connect(addr).await?;
    // One round trip: what we sent and what acknowledged it.
    let rtt = started.elapsed();
    tune(&stream)?;
    let name = ServerName::try_from(CERTIFICATE_NAME).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    TcpConnection::start(stream.into(), canonical(addr), rtt)
        .ok_or_else(|| io::Error::other("no identity"))
}

fn refused(
    addr: SocketAddr,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ConnectError {
    let source = error.into();
    ConnectError::Refused { addr, source }
}

/// Small frames leave at once, and none waits behind much in the kernel.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES)
}

/// Where a tracker serves daemons by TLS over TCP.
#[derive(Debug)]
pub struct TcpListener {
    listener: tokio::net::TcpListener,
    addr: SocketAddr,
    config: Arc<ServerConfig>,
    handshakes: Arc<Semaphore>,
}

impl TcpListener {
    /// Listens at `addr`; `[::]` takes IPv4 too. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the address is not to be had.
    pub fn bind(addr: SocketAddr, identity: &Identity) -> Result<Self, BindError> {
        let listener = open(addr).map_err(|source| BindError::Socket { addr, source })?;
        Self::on(listener, identity)
    }

    /// The same on a listener that is open already and does not block, such as a service manager
    /// passes on.
    ///
    /// # Errors
    ///
    /// When it cannot be used.
    pub fn on(listener: std::net::TcpListener, identity: &Identity) -> Result<Self, BindError> {
        let unbound = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let addr = listener.local_addr().unwrap_or(unbound);
        let failed = |source| BindError::Socket { addr, source };
        let config = tls::server_config(identity, &[Protocol::Tracker])?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        Ok(Self {
            addr: listener.local_addr().map_err(failed)?,
            listener,
            config: Arc::new(config),
            handshakes: Arc::new(Semaphore::new(limits::HANDSHAKES_TRACKER)),
        })
    }

    /// The address it listens on; `[::]` stands for every address of both families.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Handshakes under way that were accepted and are not complete.
    pub fn handshakes_under_way(&self) -> usize {
        limits::HANDSHAKES_TRACKER - self.handshakes.available_permits()
    }

    /// The next one who wants in. Those beyond the cap on handshakes are dropped.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; nothing is lost.
    pub async fn accept(&self) -> TcpIncoming {
        loop {
            match self.listener.accept().await {
                Ok((stream, remote)) => {
                    let accepted = Instant::now();
                    if let Ok(permit) = Arc::clone(&self.handshakes).try_acquire_owned() {
                        return TcpIncoming {
                            stream,
                            remote: canonical(remote),
                            accepted,
                            config: Arc::clone(&self.config),
                            _permit: permit,
                        };
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a tcp connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Binds `addr`, or the same port of all IPv4 addresses on a host without IPv6.
fn open(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    match listen(addr) {
        Err(error) if addr.is_ipv6() && addr.ip().is_unspecified() && lacks_ipv6(&error) => {
            listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), addr.port()))
        }
        opened => opened,
    }
}

fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let protocol = Some(socket2::Protocol::TCP);
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, protocol)?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Connections of the tracker before us may still be waiting for their last packets.
    socket.set_reuse_address(true)?;
    // Before listening: accepted sockets inherit it, and the window scale depends on it.
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Someone who has connected and said nothing yet. Dropping it turns them away.
#[derive(Debug)]
pub struct TcpIncoming {
    stream: TcpStream,
    remote: SocketAddr,
    accepted: Instant,
    config: Arc<ServerConfig>,
    _permit: OwnedSemaphorePermit,
}

impl TcpIncoming {
    /// Where they are, canonical; TCP has shown that they receive there.
    pub fn remote_address(&self) -> SocketAddr {
        self.remote
    }

    /// Goes through with the handshake. The result is a connection whose client has proven its key.
    ///
    /// # Errors
    ///
    /// See [`AcceptError`].
    pub async fn complete(self) -> Result<TcpConnection, AcceptError> {
        tune(&self.stream).map_err(AcceptError::Stream)?;
        let accepting = TlsAcceptor::from(self.config).accept(self.stream);
        let stream = timeout(HANDSHAKE_TIMEOUT, accepting)
            .await
            .map_err(|_| AcceptError::TimedOut)?
            .map_err(AcceptError::Stream)?;
        // From the acknowledgement of TCP, with which the hello comes, to the end of the handshake
        // is one round trip and a signature.
        let rtt = self.accepted.elapsed();
        TcpConnection::start(stream.into(), self.remote, rtt).ok_or(AcceptError::Unusable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_unspecified_ipv6_address_takes_ipv4_too() {
        let listener = open("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_says_so() {
        let identity = Identity::generate().unwrap();
        let first = TcpListener::bind("127.0.0.1:0".parse().unwrap(), &identity).unwrap();
        let second = TcpListener::bind(first.local_addr(), &identity);
        assert!(second.unwrap_err().is_port_taken());
    }
}
