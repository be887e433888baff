//! What an attempt finds out.

use std::net::SocketAddr;
use std::time::Duration;

use super::remotes::is_local;
use crate::nat::guess::Turn;
use crate::wire::{CandidateKind, NatMapping};

/// A path on which the peer answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Which of our sockets it begins at.
    pub via: u16,
    /// The peer's end of it.
    pub remote: SocketAddr,
    /// How that address became known.
    pub kind: CandidateKind,
    /// From the check to its answer.
    pub rtt: Duration,
    /// Our end, as the peer sees it.
    pub observed: SocketAddr,
}

impl Path {
    /// Whether no NAT is in between: in one network, or to an address of the peer's own.
    pub fn is_local(&self) -> bool {
        is_local(self.remote, self.kind)
    }
}

/// Why an attempt has proven no path, as far as our side can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPath {
    /// No address of the peer is known that may be sent to.
    NoCandidates,
    /// Both NATs map by destination, in a way that no technique meets.
    Unguessable,
    /// Our turn to guess did not come in time: others guessed, or our NAT had no room for more flows.
    NoTurn,
    /// The [`crate::nat::Turnstile`] would not have us guess.
    TurnRefused,
    /// The tracker's answers did not show where the sequence of our ports is.
    NoSample,
    /// The peer did not say by way of the tracker where to look for it.
    NoTrickle,
    /// A later rendezvous with the same peer took over.
    Superseded,
    /// Nothing that was sent was answered.
    NoAnswer,
}

/// What an attempt found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PunchEvent {
    /// An authenticated check came from this address, once per address. The QUIC server accepts
    /// the client's first packets from there: the client may know of the path before we do.
    Heard {
        /// At which of our sockets.
        via: u16,
        /// Where it came from.
        remote: SocketAddr,
    },
    /// The client chose the path it sees come from this address, at every change of it and after
    /// `Heard` of the same address; only on the server. What the server has to say goes there.
    Nominated {
        /// At which of our sockets.
        via: u16,
        /// Where the nomination came from.
        remote: SocketAddr,
    },
    /// The path to use; once. The QUIC client dials now, with the path's round trip; its nomination
    /// is already among what is to be sent.
    Proven(Path),
    /// One more path that works.
    AlsoProven(Path),
    /// Nothing was proven in time; at most once, and not after `Proven`. An attempt that is kept
    /// still answers, and may yet prove a path when the peer comes late.
    Failed,
    /// The peer must be told by way of the tracker where to look for us:
    /// [`crate::wire::ToTracker::Trickle`].
    Trickle {
        /// An outside port of ours.
        port: u16,
        /// How our NAT picks them.
        mapping: NatMapping,
    },
    /// We would guess now: [`crate::nat::Turnstile::ask`], then [`super::PunchAttempt::take_turn`] or
    /// [`super::PunchAttempt::deny_turn`].
    Turn(Turn),
    /// The guess is over, or not needed any more: [`crate::nat::Turnstile::leave`].
    TurnOver,
    /// No path begins at this further socket: it may be closed.
    Close {
        /// Which one.
        via: u16,
    },
}
