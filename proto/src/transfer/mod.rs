//! What a downloading peer decides: which chunk to ask of whom, and when to give an answer up.
//!
//! [`Download`] is one share's machine. It holds no bytes and no socket and reads no clock: feed it
//! [`Event`]s with the time, do what [`Download::poll`] yields until it yields nothing, and call
//! it again at [`Download::deadline`] at the latest. The same seed and the same events give the
//! same actions.
//!
//! Its parts: `holdings` (what one peer has), `availability` (which missing chunks are rarest),
//! `holders` (who can be asked at all), `selection` (what is wanted of the share),
//! `rate` and `window` (how much may be outstanding), `peer` (one source and its requests),
//! `standing` (what is thought of a source), `patience` (what can be had directly before long), `endgame` (which request to ask of a second peer).
//!
//! Beside it: [`engine`] (all shares of a daemon), [`shaper`] (how fast bytes may go, and `rounds`,
//! whose turn it is).
//!
//! Not here: the requests on the wire ([`crate::wire::peer`]), hashing and writing what arrives
//! (`warren-daemon`).

mod availability;
mod download;
mod endgame;
pub mod engine;
mod holders;
mod holdings;
mod patience;
mod peer;
mod rate;
mod rounds;
mod selection;
pub mod shaper;
mod standing;
mod window;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use download::Download;
pub use selection::{Order, Priority, Selection};
pub use standing::{BanList, Standing};

use crate::content::{ChunkIndex, Run};
use crate::id::PublicKey;
use crate::wire::NoReason;

/// One request for one chunk, unique within its [`Download`]; later requests compare greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub(super) u64);

#[cfg(test)]
impl RequestId {
    /// For tests that have no download to ask for one.
    pub(crate) fn numbered(number: u64) -> RequestId {
        RequestId(number)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a peer is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// From us to it.
    #[default]
    Direct,
    /// Through a tracker, whose line all share. Such a peer is asked only for what nobody who is
    /// reached directly has or will soon have.
    Relayed,
}

/// What happened. An event about a request that has ended, or about a peer that is not joined or
/// banned, changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer can be asked, and has nothing until it says so. One that is joined already is taken
    /// to have left before.
    PeerJoined {
        /// Who.
        peer: PublicKey,
        /// Round trip as measured so far.
        rtt: Duration,
        /// How it is reached.
        reach: Reach,
    },
    /// The peer is reached otherwise from now on. What was asked of it stays asked.
    PeerMoved {
        /// Who.
        peer: PublicKey,
        /// Round trip as measured so far.
        rtt: Duration,
        /// How it is reached now.
        reach: Reach,
    },
    /// The peer has these chunks, in addition to what it has said before.
    Has {
        /// Who.
        peer: PublicKey,
        /// Which chunks.
        runs: Vec<Run>,
    },
    /// The peer has asked somebody for these chunks: they count in how rare a chunk is, and may be asked
    /// for only when it suggests them.
    Started {
        /// Who.
        peer: PublicKey,
        /// Which chunks.
        runs: Vec<Run>,
    },
    /// The peer would rather be asked for these chunks, in this order, than for any others.
    Suggested {
        /// Who.
        peer: PublicKey,
        /// Which chunks.
        runs: Vec<Run>,
    },
    /// Whether somebody whom the peer reaches directly has everything that the peer lacks. Then it
    /// will soon have that itself.
    Supplied {
        /// Who.
        peer: PublicKey,
        /// Whether that is so; not, unless it was said.
        supplied: bool,
    },
    /// Peers are being met that are likely to be reached directly.
    Expected {
        /// Until then what they have will be known.
        until: Instant,
    },
    /// The peer no longer has these chunks, or will not get them. What was asked of it stays asked.
    Lacks {
        /// Who.
        peer: PublicKey,
        /// Which chunks.
        runs: Vec<Run>,
    },
    /// The peer is gone and its requests with it, without [`Action::Cancel`].
    PeerLeft {
        /// Who.
        peer: PublicKey,
    },
    /// Payload arrived.
    Received {
        /// For which request.
        request: RequestId,
        /// How much since the last such event.
        bytes: u32,
    },
    /// The chunk is hashed and written.
    Verified {
        /// Which request brought it.
        request: RequestId,
    },
    /// The bytes are not those of the chunk: the peer is banned from this download for good.
    Corrupt {
        /// Which request brought them.
        request: RequestId,
    },
    /// The peer does not serve the chunk.
    Refused {
        /// Which request.
        request: RequestId,
        /// Why.
        reason: NoReason,
    },
    /// The request's stream broke.
    Failed {
        /// Which request.
        request: RequestId,
    },
    /// Nothing more will come of the request, through no fault of the peer.
    Withdrawn {
        /// Which request.
        request: RequestId,
    },
    /// Chunks we had turned out to be lost. Whatever is past the last chunk is ignored.
    Forgotten {
        /// Which chunks.
        runs: Vec<Run>,
    },
    /// From now on this is wanted, and nothing else; everything, in no order, until it is said. What
    /// was asked for and is no longer wanted is cancelled, what is verified stays.
    Selected {
        /// What; made for the same content.
        selection: Arc<Selection>,
    },
    /// How much may be outstanding from now on.
    Budget {
        /// Most bytes of chunks asked for and not yet verified, over all peers; 0 asks for nothing
        /// more. Any other budget has room for one chunk.
        bytes: u64,
    },
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask for a whole chunk.
    Request {
        /// How events name this request.
        request: RequestId,
        /// Whom to ask.
        peer: PublicKey,
        /// For what.
        chunk: ChunkIndex,
        /// Bytes in the chunk.
        len: u32,
    },
    /// Give up a request; events about it will be ignored.
    Cancel {
        /// Which.
        request: RequestId,
    },
    /// The peer sent bytes that are not the chunk's. Its other requests were cancelled before, and
    /// it will not be asked again even if it joins again.
    Ban {
        /// Who.
        peer: PublicKey,
    },
}
