//! A peer as the relay of its swarm sees it: where datagrams to it may be sent.

use std::net::SocketAddr;
use std::sync::Arc;

use warren_net::{Class, Connection, Seat, Via, Way};
use warren_proto::swarm::Place;

/// One peer that is connected directly.
#[derive(Debug)]
pub(crate) struct PeerSeat {
    connection: Connection,
    /// Whether its path answers.
    is_heard: bool,
}

impl PeerSeat {
    /// The peer at the other end of a connection.
    pub(crate) fn new(connection: Connection, is_heard: bool) -> PeerSeat {
        PeerSeat {
            connection,
            is_heard,
        }
    }

    /// Where it is: the path of its live connection, which a check has proven, by our first socket. A
    /// further socket is there for one peer alone.
    fn address(&self) -> Option<SocketAddr> {
        let is_over = self.connection.quinn().close_reason().is_some();
        if !self.is_heard || is_over {
            return None;
        }
        direct_address(&self.connection)
    }
}

impl Seat for PeerSeat {
    fn place(&self) -> Place {
        self.address().map_or(Place::Unproven, Place::Udp)
    }

    fn way(&self, place: Place) -> Option<Way> {
        let Place::Udp(to) = place else {
            return None;
        };
        let socket = self.connection.socket();
        Some(Way::Udp {
            socket: Arc::clone(socket),
            to,
            local_ip: socket.local_ip_of(self.connection.route()?),
        })
    }
}

/// Where the peer of a direct connection is, if that goes by our first socket; its other end sees us
/// at the same address whatever we send from there.
pub(crate) fn direct_address(connection: &Connection) -> Option<SocketAddr> {
    let route = connection.route()?;
    let socket = connection.socket();
    let is_main = connection.class() == Class::Direct && socket.via_of(route) == Some(Via::MAIN);
    socket.path_of(route).filter(|_| is_main)
}
