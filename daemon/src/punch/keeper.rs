//! The path of one live connection: what QUIC hears and expects is told to the machine that keeps
//! it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use warren_net::{Connection, Via};
use warren_proto::id::PublicKey;
use warren_proto::nat::PathKeeper;
use warren_proto::nat::check::Credentials;

use super::Kept;

/// How often a connection on which something happens is looked at. Silence is told from a pause
/// after 100 ms at the earliest.
const LOOK: Duration = Duration::from_millis(20);

/// How often one is looked at on which nothing does.
const LOOK_IDLE: Duration = Duration::from_millis(250);

/// How long after the last packet a connection counts as idle.
const IDLE: Duration = Duration::from_secs(2);

/// What the two secrets are for, to the TLS exporter (RFC 8446 §7.5): no tracker knows them.
const ID_CONTEXT: &[u8] = b"warren path id";
const SECRET_CONTEXT: &[u8] = b"warren path secret";

/// The keeper of one connection's path.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) machine: PathKeeper,
    pub(super) kept: Kept,
    pub(super) route: SocketAddr,
    /// The socket by which the peer has confirmed its path.
    pub(super) via: Via,
    /// Where the peer was heard last that it had not been heard from before, and by which socket.
    pub(super) aside: Option<(SocketAddr, Via)>,
    /// Its path does not answer.
    pub(super) is_silent: bool,
    /// Datagrams received, and when the last of them was noticed.
    received: u64,
    heard: Instant,
    /// Frames sent by then that wait for an answer.
    asked: u64,
    next: Instant,
}

impl Keeper {
    /// `None` for a connection without a route.
    pub(super) fn new(now: Instant, kept: Kept) -> Option<Keeper> {
        let connection = &kept.connection;
        let route = connection.route()?;
        let machine = PathKeeper::new(
            now,
            credentials(connection),
            connection.side(),
            connection.remote_address(),
            connection.rtt(),
            rand::random(),
        );
        Some(Keeper {
            machine,
            kept,
            route,
            via: Via::MAIN,
            aside: None,
            is_silent: false,
            received: 0,
            heard: now,
            asked: 0,
            next: now,
        })
    }

    /// With whom.
    pub(super) fn peer(&self) -> PublicKey {
        self.kept.connection.peer_key()
    }

    /// Whether the connection is over.
    pub(super) fn is_over(&self) -> bool {
        self.kept.connection.quinn().close_reason().is_some()
    }

    /// When to call [`Keeper::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Instant {
        let machine = self.machine.poll_timeout();
        machine.map_or(self.next, |due| due.min(self.next))
    }

    /// Looks at the connection if that is due, and advances the machine.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.next <= now {
            self.look(now);
        }
        self.machine.handle_timeout(now);
    }

    /// Silence means something while we wait for what we asked for, or for the acknowledgement of
    /// what we sent.
    fn look(&mut self, now: Instant) {
        let stats = self.kept.connection.quinn().stats();
        let sent = stats.frame_tx;
        // Probes of QUIC for what was not acknowledged ask for an answer at once.
        let asked = sent.stream + sent.ping + sent.immediate_ack;
        if stats.udp_rx.datagrams != self.received {
            self.received = stats.udp_rx.datagrams;
            self.heard = now;
            self.asked = asked;
            self.machine.heard(now, stats.path.rtt);
        }
        let outstanding = self.kept.common.asks() || asked != self.asked;
        let (received, window) = (self.received, stats.path.cwnd);
        tracing::trace!(received, asked, outstanding, window, rtt = ?stats.path.rtt, "looked");
        self.machine.expects(now, outstanding);
        let is_idle = !outstanding && now.duration_since(self.heard) >= IDLE;
        self.next = now + if is_idle { LOOK_IDLE } else { LOOK };
    }
}

fn credentials(connection: &Connection) -> Credentials {
    let mut id = [0; 10];
    id.copy_from_slice(&connection.exporter(ID_CONTEXT)[..10]);
    Credentials::new(&id, &connection.exporter(SECRET_CONTEXT))
}
