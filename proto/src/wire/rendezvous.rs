//! Where a peer may be reached, as far as is known, and what each of two gets that a tracker introduces.
//!
//! Not here: the messages that carry it ([`super::tracker`]), who may be told what ([`crate::swarm`]).

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::bounded::Bounded;
use crate::id::{PublicKey, RelayId, SwarmId, base32_encode};
use crate::limits::CANDIDATES;
use crate::proof::Side;

/// How a candidate address was learnt (RFC 8445 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CandidateKind {
    /// An address of one of the peer's own interfaces.
    Host,
    /// The outside of the peer's NAT, as a server saw it.
    ServerReflexive,
    /// The outside of the peer's NAT, as another peer saw it.
    PeerReflexive,
    /// A port the peer's router opened because it was asked to.
    Mapped,
    /// An address at a relay.
    Relayed,
}

/// An address a peer may be reached at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Candidate {
    /// How it was learnt.
    pub kind: CandidateKind,
    /// The address. IPv6 flow label and scope do not travel and read as 0.
    pub address: SocketAddr,
}

/// How a peer's NAT picks the outside port for a new destination (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NatMapping {
    /// Not measured yet.
    Unknown,
    /// The same port for every destination, or no NAT at all.
    EndpointIndependent,
    /// A port per destination, with no pattern found so far.
    AddressDependent,
    /// A port per destination, each a fixed distance from the last.
    Sequential {
        /// The distance; negative where ports count down.
        step: i16,
    },
    /// A port per destination, anywhere in a range.
    Random {
        /// Lowest port seen.
        low: u16,
        /// Highest port seen.
        high: u16,
    },
}

/// What a peer's NAT or firewall lets in (RFC 4787 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NatFiltering {
    /// Not measured yet.
    Unknown = 0,
    /// Packets from a port we never sent to, at least of an address we did send to:
    /// endpoint-independent or address-dependent.
    PortIndependent = 1,
    /// Only packets from addresses and ports we sent to; what it drops leaves no trace.
    PortDependent = 2,
    /// The same, but what it drops takes up our outside port, so that what we send to that address
    /// and port within the next half minute leaves from another one.
    Clashing = 3,
}

/// By which paths a daemon may be reached, as it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Paths {
    /// Directly, and through a tracker where that helps.
    #[default]
    Any = 0,
    /// Directly, or not at all.
    DirectOnly = 1,
    /// Through a tracker alone, so that no peer learns where the daemon is.
    RelayOnly = 2,
}

impl Paths {
    /// Whether a tracker may pass datagrams between two such daemons.
    pub fn may_relay(self, other: Paths) -> bool {
        self != Paths::DirectOnly && other != Paths::DirectOnly
    }

    /// Whether two such daemons may be told of each other's addresses.
    pub fn may_be_direct(self, other: Paths) -> bool {
        self != Paths::RelayOnly && other != Paths::RelayOnly
    }
}

/// The tracker introduces two peers: each gets one of these, with the same id and secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendezvous {
    /// Names this introduction; see [`Rendezvous::username`].
    pub id: [u8; 10],
    /// Authenticates connectivity checks; see [`Rendezvous::password`]. Never logged.
    pub secret: [u8; 32],
    /// The swarm both are in.
    pub swarm: SwarmId,
    /// The other peer.
    pub peer: PublicKey,
    /// Which side of the connection to come the receiver is. Who asked to meet is the server: its request
    /// leaves with its half of the handshake, a round trip earlier than a client's.
    pub side: Side,
    /// Where to look for it.
    pub candidates: Bounded<Candidate, CANDIDATES>,
    /// How its NAT picks outside ports.
    pub mapping: NatMapping,
    /// What its NAT lets in.
    pub filtering: NatFiltering,
    /// How long to wait before the first check, in milliseconds, so that both start together.
    pub wait_ms: u16,
    /// By which paths the other peer may be reached.
    pub paths: Paths,
    /// The session by which both can talk through the tracker at once; none when the tracker
    /// relays nothing or one of the two wants none of it.
    pub relay: Option<RelayId>,
}

impl Rendezvous {
    /// Whether the tracker sees the other peer by IPv6.
    pub fn is_seen_by_ipv6(&self) -> bool {
        let seen = |it: &Candidate| it.kind == CandidateKind::ServerReflexive;
        let mut candidates = self.candidates.iter();
        candidates.any(|it| seen(it) && it.address.ip().to_canonical().is_ipv6())
    }

    /// Whether what is said of mapping and filtering is about IPv4: the tracker sees the other peer by that,
    /// and perhaps by IPv6 as well, where it has no NAT.
    pub fn is_of_ipv4(&self) -> bool {
        let first = self.candidates.first();
        let seen = first.filter(|first| first.kind == CandidateKind::ServerReflexive);
        seen.is_some_and(|first| first.address.ip().to_canonical().is_ipv4())
    }

    /// The id as text: the USERNAME of a check (RFC 8489 §14.3), 16 base32 characters.
    pub fn username(&self) -> String {
        base32_encode(&self.id)
    }

    /// The secret as text: the password of a check (RFC 8489 §9.1), 52 base32 characters.
    pub fn password(&self) -> String {
        base32_encode(&self.secret)
    }
}

impl fmt::Debug for Rendezvous {
    /// Everything but the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendezvous")
            .field("id", &self.username())
            .field("swarm", &self.swarm)
            .field("peer", &self.peer)
            .field("side", &self.side)
            .field("candidates", &self.candidates)
            .field("mapping", &self.mapping)
            .field("filtering", &self.filtering)
            .field("wait_ms", &self.wait_ms)
            .field("paths", &self.paths)
            .field("relay", &self.relay)
            .finish_non_exhaustive()
    }
}
