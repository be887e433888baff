//! How a route leads to its peer, and where that is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::mpsc;

use warren_proto::id::RelayId;

use crate::socket::canonical;
use crate::socket::extra::{Extra, Via};
use crate::socket::relay::Relayed;

/// Somebody's address, as one of our sockets sees it: each has NAT mappings of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::socket) struct Place {
    pub(in crate::socket) via: Via,
    /// Canonical.
    pub(in crate::socket) remote: SocketAddr,
}

impl Place {
    /// The place at an address of any form.
    pub(in crate::socket) fn new(via: Via, remote: SocketAddr) -> Self {
        let remote = canonical(remote);
        Self { via, remote }
    }
}

/// How to send to a peer.
#[derive(Clone, Debug)]
pub(in crate::socket) enum Path {
    /// From us to the peer.
    Direct {
        /// By this socket, which stays open for it; `None` for the first.
        by: Option<Arc<Extra>>,
        /// Canonical.
        remote: SocketAddr,
        /// Where the peer's packets arrived since the path was chosen. Answers must come from
        /// there; the kernel chooses before the first.
        local_ip: Option<IpAddr>,
    },
    /// Through a tracker, which is sent the datagrams with a header.
    Relay { id: RelayId, tracker: SocketAddr },
    /// Through a tracker, by way of whoever has the other end of the queue.
    Tunnel {
        id: RelayId,
        queue: mpsc::Sender<Relayed>,
    },
}

impl Path {
    /// Where the datagrams go; a tunnel knows that for itself.
    pub(in crate::socket) fn remote(&self) -> Option<SocketAddr> {
        match self {
            Self::Direct { remote, .. } => Some(*remote),
            Self::Relay { tracker, .. } => Some(*tracker),
            Self::Tunnel { .. } => None,
        }
    }

    /// The place at its other end, if it is a direct one.
    pub(in crate::socket) fn place(&self) -> Option<Place> {
        let Self::Direct { by, remote, .. } = self else {
            return None;
        };
        let via = by.as_ref().map_or(Via::MAIN, |extra| extra.via);
        Some(Place {
            via,
            remote: *remote,
        })
    }

    /// Chooses which of our addresses a direct one leaves from.
    pub(super) fn leave_from(&mut self, ip: Option<IpAddr>) {
        if let Self::Direct { local_ip, .. } = self {
            *local_ip = ip;
        }
    }

    /// Whether it leads straight to `place`.
    pub(super) fn is_to(&self, place: Place) -> bool {
        self.place() == Some(place)
    }

    /// The session, and who may send datagrams of it by UDP.
    pub(super) fn session(&self) -> Option<(RelayId, Option<SocketAddr>)> {
        match self {
            Self::Direct { .. } => None,
            Self::Relay { id, tracker } => Some((*id, Some(*tracker))),
            Self::Tunnel { id, .. } => Some((*id, None)),
        }
    }
}
