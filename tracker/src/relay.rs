//! Passes datagrams between daemons whose paths to each other do not work.
//!
//! The machine that decides is `warren_proto::swarm::RelayTable`; here it learns where daemons are,
//! and what it lets through is sent on. One short lock is held for each batch, never across an
//! await. Nothing is queued but in the kernel and in the tunnels of daemons that are here by TCP.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

use warren_net::{Link, RelayBatch, Relayed, Socket};
use warren_proto::id::{PublicKey, RelayId};
use warren_proto::limits::DATAGRAM_BYTES;
use warren_proto::swarm::{Batch, Origin, Place, Refusal, RelayConfig, RelayCounters, RelayTable};

use crate::session::Close;

/// Batches taken in before others get to run.
const BATCHES: usize = 64;

/// What a relay has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayCounts {
    /// What was passed on and what was not.
    pub datagrams: RelayCounters,
    /// Sessions there are now.
    pub sessions: usize,
    /// Datagrams dropped because they are longer than any that QUIC makes.
    pub too_long: u64,
    /// Datagrams dropped because a daemon that is here by TCP does not read fast enough.
    pub tunnel_full: u64,
}

/// The relay of a tracker.
pub(crate) struct Relay(Option<Mutex<Inner>>);

struct Inner {
    table: RelayTable,
    daemons: HashMap<PublicKey, Daemon>,
    too_long: u64,
    tunnel_full: u64,
}

/// A connected daemon.
struct Daemon {
    link: Link,
    /// Where it was when it has proven its key: what it was sent there it has received.
    proven: IpAddr,
    /// What takes datagrams to it, if it is here by TCP.
    tunnel: Option<mpsc::Sender<Relayed>>,
}

/// Where a batch goes.
enum Way {
    Udp {
        socket: Arc<Socket>,
        to: SocketAddr,
        local_ip: Option<IpAddr>,
    },
    Tunnel {
        receiver: PublicKey,
        tunnel: mpsc::Sender<Relayed>,
    },
}

impl Relay {
    /// A relay of so many bits per second, or none.
    pub(crate) fn new(bits_per_s: Option<u64>) -> Self {
        Self(bits_per_s.map(|bits| {
            Mutex::new(Inner {
                table: RelayTable::new(RelayConfig::new(bits / 8), rand::random()),
                daemons: HashMap::new(),
                too_long: 0,
                tunnel_full: 0,
            })
        }))
    }

    /// Whether there is one.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A session for two daemons that are being introduced, if there is a relay and room.
    pub(crate) fn open(&self, now: Instant, a: PublicKey, b: PublicKey) -> Option<RelayId> {
        self.lock()?.table.open(now, a, b)
    }

    /// A daemon is here. `proven` is the IP address from which it began its handshake.
    pub(crate) fn connect(&self, link: &Link, proven: IpAddr) -> Option<mpsc::Receiver<Relayed>> {
        let mut inner = self.lock()?;
        let (tunnel, incoming) = link
            .take_tunnel()
            .map(|tunnel| (tunnel.outgoing, tunnel.incoming))
            .unzip();
        let daemon = Daemon {
            link: link.clone(),
            proven: proven.to_canonical(),
            tunnel,
        };
        inner.table.locate(link.peer_key(), daemon.proven);
        inner.daemons.insert(link.peer_key(), daemon);
        incoming
    }

    /// A daemon is gone, and its sessions are over.
    pub(crate) fn disconnect(&self, peer: &PublicKey) {
        if let Some(mut inner) = self.lock() {
            inner.daemons.remove(peer);
            inner.table.forget(peer);
        }
    }

    /// Ends the sessions whose time is up.
    pub(crate) fn expire(&self, now: Instant) {
        if let Some(mut inner) = self.lock() {
            inner.table.expire(now);
        }
    }

    /// What was done so far; nothing, where there is no relay.
    pub(crate) fn counts(&self) -> RelayCounts {
        let counts = self.lock().map(|inner| RelayCounts {
            datagrams: inner.table.counters(),
            sessions: inner.table.session_count(),
            too_long: inner.too_long,
            tunnel_full: inner.tunnel_full,
        });
        counts.unwrap_or_default()
    }

    /// Passes on what arrives on a socket, until that is gone.
    pub(crate) async fn serve(&self, mut batches: mpsc::Receiver<RelayBatch>) {
        let mut taken = Vec::with_capacity(BATCHES);
        while batches.recv_many(&mut taken, BATCHES).await > 0 {
            for batch in taken.drain(..) {
                self.pass_on(&batch, Origin::Udp(batch.from));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Passes on what a daemon sends on its own connection, until that is over.
    pub(crate) async fn serve_tunnel(
        &self,
        sender: PublicKey,
        incoming: Option<mpsc::Receiver<Relayed>>,
    ) {
        let Some(mut incoming) = incoming else {
            return std::future::pending().await;
        };
        while let Some(relayed) = incoming.recv().await {
            self.pass_on(&relayed.wrap(), Origin::Tunnel(sender));
        }
    }

    fn pass_on(&self, batch: &RelayBatch, origin: Origin) {
        let way = self
            .lock()
            .and_then(|mut inner| inner.decide(batch, origin));
        match way {
            Some(Way::Udp {
                socket,
                to,
                local_ip,
            }) => socket.send_relay_from(batch, to, local_ip),
            Some(Way::Tunnel { receiver, tunnel }) => {
                let refused = batch.datagrams().map(|relayed| tunnel.try_send(relayed));
                let refused = refused.filter(Result::is_err).count();
                if let Some(mut inner) = self.lock().filter(|_| refused > 0) {
                    inner.tunnel_full += refused as u64;
                    tracing::trace!(peer = %receiver, refused, "a tunnel is full");
                }
            }
            None => (),
        }
    }

    fn lock(&self) -> Option<MutexGuard<'_, Inner>> {
        let inner = self.0.as_ref()?;
        Some(inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn decide(&mut self, batch: &RelayBatch, origin: Origin) -> Option<Way> {
        let offered = Batch {
            id: batch.id,
            origin,
            datagrams: batch.datagram_count(),
            bytes: batch.bytes.len() as u64,
        };
        if batch.longest_datagram() > DATAGRAM_BYTES {
            self.too_long += offered.datagrams;
            return None;
        }
        let daemons = &self.daemons;
        let place_of = |peer: &PublicKey| daemons.get(peer).map(Daemon::place);
        match self.table.forward(Instant::now(), &offered, place_of) {
            Ok((receiver, place)) => daemons.get(&receiver)?.way(receiver, place),
            Err(refusal) => {
                self.note(batch.id, refusal);
                None
            }
        }
    }

    /// A daemon that has moved cannot be relayed to before it has proven that it is there, which a new
    /// handshake does.
    fn note(&self, id: RelayId, refusal: Refusal) {
        tracing::trace!(?id, ?refusal, "not passed on");
        if let Refusal::Unproven(peer) = refusal
            && let Some(daemon) = self.daemons.get(&peer)
        {
            tracing::debug!(%peer, "a daemon has moved, and is to connect again");
            Close::Moved.apply(&daemon.link);
        }
    }
}

impl Daemon {
    /// A NAT that was rebound changes the port, which is the same daemon's as before: whoever can
    /// write another IP address could have us send to somebody else.
    fn place(&self) -> Place {
        let at = self.link.remote_address();
        match self.tunnel {
            Some(_) => Place::Tunnel,
            None if at.ip() == self.proven => Place::Udp(at),
            None => Place::Unproven,
        }
    }

    fn way(&self, receiver: PublicKey, place: Place) -> Option<Way> {
        match (place, &self.tunnel, &self.link) {
            (Place::Udp(to), _, Link::Quic(connection)) => Some(Way::Udp {
                socket: Arc::clone(connection.socket()),
                to,
                local_ip: connection.local_ip(),
            }),
            (Place::Tunnel, Some(tunnel), _) => {
                let tunnel = tunnel.clone();
                Some(Way::Tunnel { receiver, tunnel })
            }
            _ => None,
        }
    }
}
