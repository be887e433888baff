//! Passes datagrams between others whose paths to each other do not work: a tracker between daemons,
//! or a daemon between peers of its swarm.
//!
//! The machine that decides is `warren_proto::swarm::RelayTable`; here it learns where everybody is
//! ([`Seat`]), and what it lets through is sent on. One short lock is held for each batch, never across
//! an await. Nothing is queued but in the kernel and in the tunnels of those who are here by TCP.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

use warren_proto::id::{PublicKey, RelayId};
use warren_proto::limits::DATAGRAM_BYTES;
use warren_proto::swarm::{Batch, Origin, Place, Refusal, RelayConfig, RelayCounters, RelayTable};

use crate::socket::{RelayBatch, Relayed, Socket};

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
    /// Datagrams dropped because somebody who is here by TCP does not read fast enough.
    pub tunnel_full: u64,
}

/// Somebody who is connected, and between whom and others something can be passed on.
pub trait Seat {
    /// Where they are now, as their connection shows.
    fn place(&self) -> Place;

    /// What takes datagrams to them there; `None` if nothing does.
    fn way(&self, place: Place) -> Option<Way>;

    /// Something is to be passed on, and they have not shown that they receive where they are.
    fn doubt(&self) {}
}

/// What takes datagrams to somebody.
#[derive(Clone, Debug)]
pub enum Way {
    /// A socket.
    Udp {
        /// Which.
        socket: Arc<Socket>,
        /// Where they are.
        to: SocketAddr,
        /// Which of our addresses they know us by, where that is known.
        local_ip: Option<IpAddr>,
    },
    /// Their own connection.
    Tunnel(mpsc::Sender<Relayed>),
}

/// Sessions, and who has them.
pub struct Relay<S>(Mutex<Inner<S>>);

struct Inner<S> {
    table: RelayTable,
    seats: HashMap<PublicKey, S>,
    too_long: u64,
    tunnel_full: u64,
}

impl<S: Seat> Relay<S> {
    /// A relay without sessions. See [`RelayTable::new`] on `seed`.
    pub fn new(config: RelayConfig, seed: [u8; 32]) -> Self {
        Self(Mutex::new(Inner {
            table: RelayTable::new(config, seed),
            seats: HashMap::new(),
            too_long: 0,
            tunnel_full: 0,
        }))
    }

    /// The session of these two, opened if they have none; `None` when there is no room.
    pub fn open(&self, now: Instant, a: PublicKey, b: PublicKey) -> Option<RelayId> {
        self.lock().table.open(now, a, b)
    }

    /// Ends the session of these two.
    pub fn close(&self, a: PublicKey, b: PublicKey) {
        self.lock().table.close(a, b);
    }

    /// Somebody is here, or is here otherwise than before.
    pub fn seat(&self, peer: PublicKey, seat: S) {
        self.lock().seats.insert(peer, seat);
    }

    /// Somebody's sessions count for the network of this address; see [`RelayTable::locate`].
    pub fn locate(&self, peer: PublicKey, ip: IpAddr) {
        self.lock().table.locate(peer, ip);
    }

    /// Somebody is gone, and their sessions are over.
    pub fn unseat(&self, peer: &PublicKey) {
        let mut inner = self.lock();
        inner.seats.remove(peer);
        inner.table.forget(peer);
    }

    /// Ends the sessions whose time is up.
    pub fn expire(&self, now: Instant) {
        self.lock().table.expire(now);
    }

    /// What was done so far.
    pub fn counts(&self) -> RelayCounts {
        let inner = self.lock();
        RelayCounts {
            datagrams: inner.table.counters(),
            sessions: inner.table.session_count(),
            too_long: inner.too_long,
            tunnel_full: inner.tunnel_full,
        }
    }

    /// Passes on what arrives on a socket, until that is gone.
    pub async fn serve(&self, mut batches: mpsc::Receiver<RelayBatch>) {
        let mut taken = Vec::with_capacity(BATCHES);
        while batches.recv_many(&mut taken, BATCHES).await > 0 {
            for batch in taken.drain(..) {
                self.pass_on(&batch, Origin::Udp(batch.from));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Passes on what somebody sends on their own connection, until that is over.
    pub async fn serve_tunnel(&self, sender: PublicKey, mut incoming: mpsc::Receiver<Relayed>) {
        while let Some(relayed) = incoming.recv().await {
            self.pass_on(&relayed.wrap(), Origin::Tunnel(sender));
        }
    }

    fn pass_on(&self, batch: &RelayBatch, origin: Origin) {
        // The lock is not held while something is sent.
        let way = self.lock().decide(batch, origin);
        match way {
            Some(Way::Udp {
                socket,
                to,
                local_ip,
            }) => socket.send_relay_from(batch, to, local_ip),
            Some(Way::Tunnel(tunnel)) => {
                let refused = batch.datagrams().map(|relayed| tunnel.try_send(relayed));
                let refused = refused.filter(Result::is_err).count();
                self.lock().tunnel_full += refused as u64;
            }
            None => (),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Seat> Inner<S> {
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
        let seats = &self.seats;
        let place_of = |peer: &PublicKey| seats.get(peer).map(S::place);
        match self.table.forward(Instant::now(), &offered, place_of) {
            Ok((receiver, place)) => seats.get(&receiver)?.way(place),
            Err(refusal) => {
                tracing::trace!(id = ?batch.id, ?refusal, "not passed on");
                if let Refusal::Unproven(peer) = refusal {
                    seats.get(&peer).into_iter().for_each(S::doubt);
                }
                None
            }
        }
    }
}

impl<S> fmt::Debug for Relay<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}
