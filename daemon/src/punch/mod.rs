//! Paths to other daemons: finds one with each peer we are introduced to, keeps it while its
//! connection lives, and finds out how our own NAT behaves.
//!
//! One task, the [`Puncher`], owns all machines of `warren_proto::nat` that are under way and reads
//! whatever arrives on the socket beside QUIC. It dials on paths that are proven. The node tells it
//! whom to meet through a [`PunchHandle`] and hears of what comes of it as [`PathNews`].
//!
//! Not here: whom to meet, and what to do about a peer that is gone (`node`); what is sent when
//! (`warren_proto::nat`).

mod attempt;
mod guess;
mod host_turn;
mod keeper;
mod owners;
mod record;
pub(crate) mod relay;
mod survey;
mod task;
mod vias;
mod wake;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use warren_net::{Connection, Endpoint};
use warren_proto::id::PublicKey;
use warren_proto::nat::{Dependence, Hairpinning, Proven};
use warren_proto::proof::Side;
use warren_proto::wire::{Candidate, NatFiltering, NatMapping, Rendezvous, SessionName, Technique};

use crate::node::NodeSender;
use crate::peer::Common;
use crate::peer::session::SessionId;
use crate::portmap::PortHandle;
use crate::tracker::{Line, TrackerId};
use guess::Word;
use host_turn::HostTurn;
pub(crate) use record::Records;
use relay::{Carrier, RelaySession};
use task::Puncher;

/// Orders that may wait. The node gives up on one that finds no room: a tracker that introduces
/// faster than the task reads is not kept up with.
const ORDERS: usize = 1024;

/// How our NAT behaves, as far as it was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nat {
    /// How it picks outside ports.
    pub(crate) mapping: NatMapping,
    /// What it lets in.
    pub(crate) filtering: NatFiltering,
    /// What of a destination a mapping depends on, where two IP addresses or two ports have shown it.
    pub(crate) dependence: Option<Dependence>,
    /// Whether it leads packets for its own outside address back in.
    pub(crate) hairpinning: Hairpinning,
    /// Whether we are seen by IPv6, where there is a firewall at most. The rest is of IPv4 if we are seen by
    /// that too.
    pub(crate) has_ipv6: bool,
}

impl Default for Nat {
    fn default() -> Self {
        Nat {
            mapping: NatMapping::Unknown,
            filtering: NatFiltering::Unknown,
            dependence: None,
            hairpinning: Hairpinning::Unknown,
            has_ipv6: false,
        }
    }
}

/// What the node is told about paths.
#[derive(Debug)]
pub(crate) enum PathNews {
    /// We look for a path to this peer no longer. It may be connected, or be tried again.
    MeetingOver(PublicKey),
    /// The path of a connection does not answer: the peers need a new introduction.
    Silent {
        /// With whom.
        peer: PublicKey,
        /// Which connection.
        session: SessionId,
    },
    /// A connection goes by another path from now on.
    Moved {
        /// With whom.
        peer: PublicKey,
        /// Which connection.
        session: SessionId,
    },
    /// Nothing is heard on a relayed connection while something is awaited: a message that asks for an
    /// answer would tell why.
    Quiet {
        /// With whom.
        peer: PublicKey,
        /// Which connection.
        session: SessionId,
    },
    /// The path of a connection answers again, or the peer does on another.
    Alive {
        /// With whom.
        peer: PublicKey,
        /// Which connection.
        session: SessionId,
    },
    /// The peer no longer knows of a connection, or nothing was heard for too long.
    Gone {
        /// With whom.
        peer: PublicKey,
        /// Which connection.
        session: SessionId,
    },
    /// What our NAT does was found out.
    Nat(Nat),
    /// A tracker can be shown that we receive at an address by which we are not connected to it.
    Proven(TrackerId, Proven),
    /// This machine has other addresses than before.
    Network(Vec<Candidate>),
    /// This machine, or this program, was asleep.
    Woken,
}

/// What the task is told to do.
#[derive(Debug)]
enum Order {
    Meet(Box<Meeting>),
    Hear(Box<Word>),
    Keep(Box<Kept>),
    Suspect(PublicKey),
    Survey(StunServer, Duration),
    Prove(TrackerId, Option<Proving>),
    Carry(TrackerId, Carrier, Duration),
    Offer(Box<Offer>),
    Withdraw(PublicKey),
}

/// A way to a peer by another.
#[derive(Debug)]
struct Offer {
    peer: PublicKey,
    side: Side,
    session: RelaySession,
}

/// One introduction.
#[derive(Debug)]
struct Meeting {
    rendezvous: Rendezvous,
    /// The way through the tracker, where it may be taken.
    relay: Option<RelaySession>,
    /// Whether a direct path is looked for.
    is_direct: bool,
    /// To the tracker that arranged it.
    line: Line,
    /// What that advises.
    advice: Option<Technique>,
}

/// A connection whose path is to be kept.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Which one.
    pub(crate) session: SessionId,
    /// The connection.
    pub(crate) connection: Connection,
    /// Tells whether something is asked of the peer.
    pub(crate) common: Arc<Common>,
}

/// Where a tracker answers STUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StunServer {
    /// Where we are connected to it.
    pub(crate) main: SocketAddr,
    /// Its other port, if it has one.
    pub(crate) other: Option<SocketAddr>,
    /// Where it answers at another IP address, if it does. Whose that is, only the tracker says.
    pub(crate) alternate: Option<SocketAddr>,
}

/// What it takes to show a tracker our address of the other IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proving {
    /// Where it answers STUN by that family. Whose that is, only the tracker says, or its name.
    pub(crate) server: SocketAddr,
    /// What our connection is called there.
    pub(crate) session: SessionName,
}

/// The way to the task.
#[derive(Clone, Debug)]
pub(crate) struct PunchHandle {
    orders: mpsc::Sender<Order>,
    records: Arc<Records>,
}

impl PunchHandle {
    /// Looks for a path to the peer of an introduction; false when there is no room for more.
    /// With `relay` it may lead through the tracker; without a direct one it leads nowhere else.
    /// `line` leads to the tracker that arranged it, and `advice` is what that would try first.
    pub(crate) fn meet(
        &self,
        rendezvous: Rendezvous,
        relay: Option<RelaySession>,
        is_direct: bool,
        line: Line,
        advice: Option<Technique>,
    ) -> bool {
        let meeting = Box::new(Meeting {
            rendezvous,
            relay,
            is_direct,
            line,
            advice,
        });
        self.orders.try_send(Order::Meet(meeting)).is_ok()
    }

    /// Notes that the two of an introduction allow no path in common; `ours` is our own NAT.
    pub(crate) fn forbid(&self, rendezvous: &Rendezvous, ours: Nat) {
        self.records.forbid(rendezvous, ours);
    }

    /// Passes on what the peer of a rendezvous says by way of this tracker.
    pub(crate) fn hear(
        &self,
        tracker: TrackerId,
        id: [u8; 10],
        address: SocketAddr,
        mapping: NatMapping,
    ) {
        let word = Box::new(Word {
            tracker,
            id,
            address,
            mapping,
        });
        // The attempt goes on without.
        let _ = self.orders.try_send(Order::Hear(word));
    }

    /// Keeps the path of a connection for as long as it lives.
    /// False when there is no room: then it must end, since nobody would follow the peer.
    pub(crate) fn keep(&self, kept: Kept) -> bool {
        self.orders.try_send(Order::Keep(Box::new(kept))).is_ok()
    }

    /// Takes a way to a peer that another has opened, unless a direct one is there; false when there is
    /// no room.
    pub(crate) fn offer(&self, peer: PublicKey, side: Side, session: RelaySession) -> bool {
        let offer = Box::new(Offer {
            peer,
            side,
            session,
        });
        self.orders.try_send(Order::Offer(offer)).is_ok()
    }

    /// The ways that a peer has opened are over.
    pub(crate) fn withdraw(&self, relayer: PublicKey) {
        // What is sent by them is lost, and that is noticed.
        let _ = self.orders.try_send(Order::Withdraw(relayer));
    }

    /// Checks the path of the connection with a peer that may have been started anew.
    pub(crate) fn suspect(&self, peer: PublicKey) {
        // The next sign of it being gone will do as well.
        let _ = self.orders.try_send(Order::Suspect(peer));
    }

    /// Finds out how our NAT looks to this tracker, now and from time to time. A round trip to it
    /// takes `rtt`.
    pub(crate) fn survey(&self, server: StunServer, rtt: Duration) {
        // Without it, we are told of as of unknown kind.
        let _ = self.orders.try_send(Order::Survey(server, rtt));
    }

    /// Shows this tracker our address of the other IP family, now and from time to time, or no longer.
    pub(crate) fn prove(&self, tracker: TrackerId, proving: Option<Proving>) {
        // Without it, we are known by one address.
        let _ = self.orders.try_send(Order::Prove(tracker, proving));
    }

    /// From now on this takes relayed datagrams to a tracker, to which a round trip takes `rtt`.
    pub(crate) fn carry(&self, tracker: TrackerId, carrier: Carrier, rtt: Duration) {
        // Connections there turn out to be silent, and are introduced anew.
        let _ = self.orders.try_send(Order::Carry(tracker, carrier, rtt));
    }

    /// The round trip of the path that was proven on a route, for the handshake.
    pub(crate) fn expected_rtt(&self, route: SocketAddr) -> Option<Duration> {
        self.records.rtt(route)
    }

    /// What came of the latest attempts, and how the present paths were made.
    pub(crate) fn records(&self) -> &Records {
        &self.records
    }
}

/// Starts the task. It ends when `stop` is cancelled. `ports` hears what is its own to know of the
/// network and of what arrives. The daemons that share the file `guessing` guess ports one at a time.
pub(crate) fn start(
    endpoint: Endpoint,
    node: NodeSender,
    candidates: Vec<Candidate>,
    ports: PortHandle,
    guessing: PathBuf,
    stop: CancellationToken,
) -> PunchHandle {
    let (orders, taken) = mpsc::channel(ORDERS);
    let records = Arc::<Records>::default();
    let host_turn = HostTurn::new(guessing, rand::random());
    let puncher = Puncher::new(
        endpoint,
        node,
        records.clone(),
        candidates,
        ports,
        host_turn,
    );
    tokio::spawn(async move { stop.run_until_cancelled(puncher.run(taken)).await });
    PunchHandle { orders, records }
}
