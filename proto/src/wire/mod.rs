//! What peers and trackers say to each other, as types and as bytes.
//!
//! Every message is one frame ([`frame`]); its body is postcard, bounded ([`bounded`]) and
//! canonical: a body that would not be written again byte for byte is refused. A type code nobody
//! here knows is skipped, so that newer programs may say more. [`tracker`] is the control stream
//! between a daemon and a tracker, [`rendezvous`] what it tells of peers to each other, [`code`] what they say there of codes, [`follow`] of versions, [`link`] what TLS over TCP needs beside it, [`peer`] what two
//! peers say.
//!
//! Normative text with test vectors: PROTOCOL.md. Not here: streams and sockets (`warren-net`).

pub mod bounded;
pub mod code;
pub mod follow;
pub mod frame;
pub mod link;
pub mod peer;
pub mod rendezvous;
pub mod technique;
pub mod tracker;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod vectors;

pub use bounded::{Bounded, TooMany};
pub use code::{Claimed, CodeNews, CodeRequest};
pub use follow::{FOLLOW_FEATURE, FollowNews, FollowRequest, Given};
pub use frame::{DecodeError, HEADER_BYTES, Header, Message, encode};
pub use link::{LinkFrame, OnLink};
pub use peer::{NoReason, NoRelay, Part, PeerAnswer, PeerMessage, PeerRequest};
pub use rendezvous::{Candidate, CandidateKind, NatFiltering, NatMapping, Paths, Rendezvous};
pub use technique::Technique;
pub use tracker::{AddressToken, FromTracker, Hello, Member, MemberState, SessionName, ToTracker};
