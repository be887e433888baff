//! Passes datagrams between daemons whose paths to each other do not work: who they are and where
//! they may be sent to. What is passed on is decided and sent by [`warren_net::Relay`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use warren_net::{Link, RelayBatch, RelayCounts, Relayed, Seat, Way};
use warren_proto::id::{PublicKey, RelayId};
use warren_proto::swarm::{Place, RelayConfig};

use crate::session::Close;

/// The relay of a tracker.
pub(crate) struct Relay(Option<warren_net::Relay<Daemon>>);

/// A connected daemon.
pub(crate) struct Daemon {
    link: Link,
    /// Where it was when it has proven its key: what it was sent there it has received.
    proven: IpAddr,
    /// What takes datagrams to it, if it is here by TCP.
    tunnel: Option<mpsc::Sender<Relayed>>,
}

impl Relay {
    /// A relay of so many bits per second, or none.
    pub(crate) fn new(bits_per_s: Option<u64>) -> Self {
        Self(
            bits_per_s
                .map(|bits| warren_net::Relay::new(RelayConfig::new(bits / 8), rand::random())),
        )
    }

    /// Whether there is one.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A session for two daemons that are being introduced, if there is a relay and room.
    pub(crate) fn open(&self, now: Instant, a: PublicKey, b: PublicKey) -> Option<RelayId> {
        self.0.as_ref()?.open(now, a, b)
    }

    /// A daemon is here. `proven` is the IP address from which it began its handshake.
    pub(crate) fn connect(&self, link: &Link, proven: IpAddr) -> Option<mpsc::Receiver<Relayed>> {
        let relay = self.0.as_ref()?;
        let (tunnel, incoming) = link
            .take_tunnel()
            .map(|tunnel| (tunnel.outgoing, tunnel.incoming))
            .unzip();
        let daemon = Daemon {
            link: link.clone(),
            proven: proven.to_canonical(),
            tunnel,
        };
        relay.locate(link.peer_key(), daemon.proven);
        relay.seat(link.peer_key(), daemon);
        incoming
    }

    /// A daemon is gone, and its sessions are over.
    pub(crate) fn disconnect(&self, peer: &PublicKey) {
        if let Some(relay) = &self.0 {
            relay.unseat(peer);
        }
    }

    /// Ends the sessions whose time is up.
    pub(crate) fn expire(&self, now: Instant) {
        if let Some(relay) = &self.0 {
            relay.expire(now);
        }
    }

    /// What was done so far; nothing, where there is no relay.
    pub(crate) fn counts(&self) -> RelayCounts {
        let counts = self.0.as_ref().map(warren_net::Relay::counts);
        counts.unwrap_or_default()
    }

    /// Passes on what arrives on a socket, until that is gone.
    pub(crate) async fn serve(&self, mut batches: mpsc::Receiver<RelayBatch>) {
        match &self.0 {
            Some(relay) => relay.serve(batches).await,
            // Drained all the same, so that no queue fills up.
            None => while batches.recv().await.is_some() {},
        }
    }

    /// Passes on what a daemon sends on its own connection, until that is over.
    pub(crate) async fn serve_tunnel(
        &self,
        sender: PublicKey,
        incoming: Option<mpsc::Receiver<Relayed>>,
    ) {
        match (&self.0, incoming) {
            (Some(relay), Some(incoming)) => relay.serve_tunnel(sender, incoming).await,
            _ => std::future::pending().await,
        }
    }
}

impl Seat for Daemon {
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

    fn way(&self, place: Place) -> Option<Way> {
        match (place, &self.tunnel, &self.link) {
            (Place::Udp(to), _, Link::Quic(connection)) => Some(Way::Udp {
                socket: Arc::clone(connection.socket()),
                to,
                local_ip: connection.local_ip(),
            }),
            (Place::Tunnel, Some(tunnel), _) => Some(Way::Tunnel(tunnel.clone())),
            _ => None,
        }
    }

    /// A daemon that has moved cannot be relayed to before it has proven that it is there, which a new
    /// handshake does.
    fn doubt(&self) {
        let peer = self.link.peer_key();
        tracing::debug!(%peer, "a daemon has moved, and is to connect again");
        Close::Moved.apply(&self.link);
    }
}
