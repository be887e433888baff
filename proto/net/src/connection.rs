//! An authenticated QUIC connection and what its handshake established.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::VarInt;
use quinn::crypto::rustls::HandshakeData;
use rustls::pki_types::CertificateDer;

use warren_proto::id::PublicKey;
use warren_proto::proof::{self, Side};

use crate::congestion::Cues;
use crate::exporter::EarlyExporter;
use crate::socket::{Class, Socket};
use crate::tls::{Protocol, key_of};
use crate::windows::{Expected, Windows};

/// A connection to a peer or a tracker whose key is proven.
///
/// Clones are handles on the same connection; it closes when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Connection {
    quic: quinn::Connection,
    socket: Arc<Socket>,
    peer_key: PublicKey,
    protocol: Protocol,
    class: Class,
    cues: Cues,
    windows: Arc<Windows>,
    early: Option<EarlyExporter>,
}

impl Connection {
    /// Wraps a connection whose handshake is over; `None` if it is not one of ours, which the
    /// verifier has ruled out.
    pub(crate) fn new(quic: quinn::Connection, socket: Arc<Socket>, cues: Cues) -> Option<Self> {
        let certificates = quic
            .peer_identity()?
            .downcast::<Vec<CertificateDer<'static>>>()
            .ok()?;
        let peer_key = key_of(certificates.first()?)?;
        let handshake = quic.handshake_data()?.downcast::<HandshakeData>().ok()?;
        let protocol = Protocol::from_alpn(handshake.protocol.as_deref()?)?;
        let class = socket.class_of(quic.remote_address());
        Some(Self {
            quic,
            socket,
            peer_key,
            protocol,
            class,
            cues,
            windows: Arc::default(),
            early: None,
        })
    }

    /// The same, as a handle that goes on with what an [early](Self::early) one has begun.
    pub(crate) fn continuing(self, early: Option<Arc<Windows>>) -> Self {
        match early {
            Some(windows) => Self { windows, ..self },
            None => self,
        }
    }

    /// Wraps one whose client has not proven its key yet; `peer_key` is the one it has to have.
    pub(crate) fn early(
        quic: quinn::Connection,
        socket: Arc<Socket>,
        cues: Cues,
        peer_key: PublicKey,
        exporter: EarlyExporter,
    ) -> Self {
        let class = socket.class_of(quic.remote_address());
        Self {
            quic,
            socket,
            peer_key,
            protocol: Protocol::Peer,
            class,
            cues,
            windows: Arc::default(),
            early: Some(exporter),
        }
    }

    /// What goes on when the other side has proven its key.
    pub(crate) fn windows(&self) -> Arc<Windows> {
        Arc::clone(&self.windows)
    }

    /// Whether this handle was taken before the other side had proven its key. See
    /// [`Handshake::early`](crate::Handshake::early).
    pub fn is_early(&self) -> bool {
        self.early.is_some()
    }

    /// Whether both are handles on the same connection.
    pub fn is_same(&self, other: &Connection) -> bool {
        self.quic.stable_id() == other.quic.stable_id()
    }

    /// The key that the other side has proven to hold; on an [early](Self::is_early) handle, that it
    /// will have to prove.
    pub fn peer_key(&self) -> PublicKey {
        self.peer_key
    }

    /// What the connection is for.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// How it leads to the peer, which does not change while it lives.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Which of the two we are: the client dialled.
    pub fn side(&self) -> Side {
        match self.quic.side() {
            quinn::Side::Client => Side::Client,
            quinn::Side::Server => Side::Server,
        }
    }

    /// Where the other side is now, canonical: the path of the route if it has one. A route that
    /// leads nowhere any more, or through a tunnel, stands for itself; one that leads through a
    /// tracker is where that is.
    pub fn remote_address(&self) -> SocketAddr {
        self.socket.real_addr(self.quic.remote_address())
    }

    /// The route it goes by; `None` for a plain connection.
    pub fn route(&self) -> Option<SocketAddr> {
        let remote = self.quic.remote_address();
        Socket::is_route(remote).then_some(remote)
    }

    /// Which of our addresses the other side talks to, where the system says so; of a plain
    /// connection.
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.quic.local_ip().map(|ip| ip.to_canonical())
    }

    /// The socket it goes by.
    pub fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// The current estimate of the round-trip time.
    pub fn rtt(&self) -> Duration {
        self.quic.rtt()
    }

    /// A secret that only the two ends of this very connection know (RFC 8446 §7.5), for `context`.
    pub fn exporter(&self, context: &[u8]) -> [u8; 32] {
        let early = self.early.as_ref();
        if let Some(secret) = early.and_then(|it| it.export(proof::EXPORTER_LABEL, context)) {
            return secret;
        }
        let mut secret = [0; 32];
        self.quic
            .export_keying_material(&mut secret, proof::EXPORTER_LABEL, context)
            .expect("32 bytes are within what HKDF-SHA256 can give");
        secret
    }

    /// The path has changed at either end, or was silent for so long that it is as good as another. The
    /// next message leaves although the congestion window may be
    /// full, and what was lost on the old path counts as no congestion.
    pub fn path_changed(&self) {
        self.cues.take_detour(Instant::now());
    }

    /// Leaves the path to whatever else is on it from now on, with what we send, or not any more.
    pub fn set_yielding(&self, yields: bool) {
        self.cues.set_yielding(yields);
    }

    /// Lets the peer send what is asked of it now, beside what was asked before. Without this it may send
    /// [`IDLE_WINDOW_BYTES`](crate::IDLE_WINDOW_BYTES) before they are read.
    pub fn expect(&self, bytes: u64) -> Expected {
        Expected::new(self.quic.clone(), self.windows(), bytes)
    }

    /// Lets the peer send at most so many bytes before they are read, whatever was asked of it. What it may
    /// send already it may send still.
    pub fn set_receive_limit(&self, bytes: Option<u32>) {
        self.windows.set_receive_limit(&self.quic, bytes);
    }

    /// What the peer may send that nobody waits for any more: of what was asked and given up.
    pub fn unspent_bytes(&self) -> u64 {
        self.windows.unspent_bytes()
    }

    /// Lets so many bytes be written before they are acknowledged;
    /// [`IDLE_WINDOW_BYTES`](crate::IDLE_WINDOW_BYTES) at first.
    pub fn set_send_window(&self, bytes: u64) {
        self.windows.set_send_window(&self.quic, bytes);
    }

    /// Lets at most so many bytes be written before they are acknowledged, whatever the window is.
    pub fn set_send_limit(&self, bytes: Option<u32>) {
        self.windows.set_send_limit(&self.quic, bytes);
    }

    /// quinn's own handle: streams, statistics.
    pub fn quinn(&self) -> &quinn::Connection {
        &self.quic
    }

    /// Closes at once; data not yet acknowledged is abandoned.
    pub fn close(&self, code: u32, reason: &str) {
        self.quic.close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// Waits until the connection is over and says why.
    pub async fn closed(&self) -> quinn::ConnectionError {
        self.quic.closed().await
    }
}
