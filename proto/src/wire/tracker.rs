//! What a daemon and a tracker say on their one control stream.
//!
//! The daemon opens the stream and speaks first; both sides start with [`Hello`]. Afterwards either
//! side speaks whenever it has something to say. Type codes and layouts: PROTOCOL.md, Tracker.
//!
//! Not here: where a peer may be reached, and what two get that are introduced ([`super::rendezvous`]); what a
//! tracker decides ([`crate::swarm`]).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::bounded::Bounded;
use super::code::{CodeNews, CodeRequest};
use super::follow::{FollowNews, FollowRequest};
use super::frame::{DecodeError, Message, check_text, decode_fields, encode_fields};
use super::rendezvous::{Candidate, NatFiltering, NatMapping, Paths};
use super::technique::{TECHNIQUES, Technique};
use crate::id::{PublicKey, SwarmId};
use crate::limits::{CANDIDATES, PEERS_PER_ANSWER};

pub use super::rendezvous::Rendezvous;

/// Version of this protocol that [`Hello`] carries.
pub const VERSION: u16 = 1;

/// Longest public address a tracker may announce: a DNS name (253), a colon, a port (5).
pub const PUBLIC_BYTES: usize = 253 + 1 + 5;

/// Longest name and version that a tracker may give its program.
pub const PROGRAM_BYTES: usize = 64;

/// Names one connection of a daemon to a tracker; random, so that it says nothing of the daemon to
/// whoever sees it in a request.
pub type SessionName = [u8; 16];

/// Shows a tracker that a daemon receives at an address.
pub type AddressToken = [u8; 16];

pub(super) const HELLO: u16 = 0x0001;
const ANNOUNCE: u16 = 0x0010;
const LEAVE: u16 = 0x0011;
const SITUATION: u16 = 0x0012;
const INTRODUCE: u16 = 0x0013;
const TRICKLE: u16 = 0x0014;
const OUTCOME: u16 = 0x0015;
const ECHO: u16 = 0x0016;
const PROVE: u16 = 0x0017;
const WELCOME: u16 = 0x0020;
const PEERS: u16 = 0x0021;
const JOINED: u16 = 0x0022;
const LEFT: u16 = 0x0023;
const RENDEZVOUS: u16 = 0x0024;
const NO_SUCH_PEER: u16 = 0x0025;
const BUSY: u16 = 0x0026;
const TRICKLED: u16 = 0x0027;
const ADVICE: u16 = 0x0028;
const ABOUT: u16 = 0x0029;

/// The first message in each direction of a control stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Highest protocol version spoken; both sides use the lower of the two.
    pub version: u16,
    /// Optional features, one bit each; unknown bits are ignored.
    pub features: u64,
}

/// What a swarm member has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MemberState {
    /// Still fetching.
    Leech = 0,
    /// Everything.
    Seed = 1,
}

/// One peer of a swarm, as the tracker tells it to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its key, which is its identity.
    pub peer: PublicKey,
    /// What it last said it has.
    pub state: MemberState,
}

/// What a daemon says to a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToTracker {
    /// First of all.
    Hello(Hello),
    /// We are in this swarm; answered by [`FromTracker::Peers`]. Repeated to stay in it.
    Announce {
        /// The swarm.
        swarm: SwarmId,
        /// What we have.
        state: MemberState,
        /// How many of the peers in the answer we want to be introduced to at once.
        introductions: u8,
    },
    /// We are no longer in this swarm.
    Leave {
        /// The swarm.
        swarm: SwarmId,
    },
    /// Where we believe we can be reached; replaces what was said before.
    Situation {
        /// Our candidates.
        candidates: Bounded<Candidate, CANDIDATES>,
        /// How our NAT picks outside ports.
        mapping: NatMapping,
        /// What our NAT lets in.
        filtering: NatFiltering,
        /// By which paths we may be reached.
        paths: Paths,
    },
    /// Introduce us to this member of this swarm.
    Introduce {
        /// The swarm we share.
        swarm: SwarmId,
        /// The other peer.
        peer: PublicKey,
    },
    /// Send one probe to this port of the address we are seen at; whether it arrives shows whether
    /// strangers reach us there. PROTOCOL.md, Probes of a tracker.
    Echo {
        /// Where, at least 1024; an outside port that our router is said to have opened.
        port: u16,
        /// What the probe carries: its STUN transaction id (RFC 8489 §5).
        token: [u8; 12],
    },
    /// We receive at this address, of the other IP family than that of this connection: a STUN answer
    /// there has brought us the token. PROTOCOL.md, Address tokens.
    Prove {
        /// The XOR-MAPPED-ADDRESS of that answer.
        address: SocketAddr,
        /// Its ADDRESS-TOKEN.
        token: AddressToken,
    },
    /// Where the other peer of a rendezvous will find us, learnt after it began (RFC 8838), and our
    /// consent to be looked for there by guessing.
    Trickle {
        /// The rendezvous.
        id: [u8; 10],
        /// An outside port of ours; what it means depends on `mapping`. PROTOCOL.md, Guessing.
        port: u16,
        /// How our NAT picks outside ports, as far as this peer is concerned.
        mapping: NatMapping,
    },
    /// What came of a rendezvous.
    Outcome {
        /// The rendezvous.
        id: [u8; 10],
        /// What found the path, or was tried last.
        technique: Technique,
        /// Whether a path was found.
        success: bool,
    },
    /// About codes.
    Code(CodeRequest),
    /// About followable shares.
    Follow(FollowRequest),
}

/// What a tracker says to a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromTracker {
    /// First of all.
    Hello(Hello),
    /// Follows the hello.
    Welcome {
        /// The daemon's address as the tracker sees it.
        observed: SocketAddr,
        /// The address the tracker wants in links, as `host:port`; at most [`PUBLIC_BYTES`] long.
        public: Option<String>,
        /// The other port at which it answers STUN, on the IP address it was reached at.
        stun_port: Option<u16>,
        /// Where it answers STUN at another IP address, of the family it was reached by.
        alternate: Option<SocketAddr>,
        /// Where it answers STUN by the other IP family than that it was reached by.
        other_family: Option<SocketAddr>,
        /// What this connection is called in requests for address tokens.
        session: SessionName,
        /// How often to announce each swarm, in seconds.
        announce_interval_s: u32,
        /// How long to wait before connecting again after a loss, in seconds, before jitter.
        retry_after_s: u32,
    },
    /// Answers an announce.
    Peers {
        /// The swarm.
        swarm: SwarmId,
        /// How many seeds it has.
        seeds: u32,
        /// How many leeches it has.
        leeches: u32,
        /// Some of them, picked at random.
        sample: Bounded<Member, PEERS_PER_ANSWER>,
    },
    /// A peer came, or changed what it has.
    Joined {
        /// The swarm.
        swarm: SwarmId,
        /// The peer.
        member: Member,
    },
    /// A peer went.
    Left {
        /// The swarm.
        swarm: SwarmId,
        /// The peer.
        peer: PublicKey,
    },
    /// Meet this peer now.
    Rendezvous(Rendezvous),
    /// The peer asked for is not connected, or not in that swarm.
    NoSuchPeer {
        /// The swarm.
        swarm: SwarmId,
        /// The peer.
        peer: PublicKey,
    },
    /// Too much was asked; the last request was not carried out.
    Busy {
        /// How long to wait before asking again, in seconds.
        retry_after_s: u32,
    },
    /// What the other peer of a rendezvous said by [`ToTracker::Trickle`].
    Trickled {
        /// The rendezvous.
        id: [u8; 10],
        /// The IP address that the tracker observes the peer at, with the port it gave.
        address: SocketAddr,
        /// How the peer's NAT picks outside ports, as far as we are concerned.
        mapping: NatMapping,
    },
    /// Which techniques have worked lately between the networks of the two peers of a rendezvous,
    /// the best first; comes before the rendezvous.
    Advice {
        /// The rendezvous.
        id: [u8; 10],
        /// None of them twice.
        techniques: Bounded<Technique, TECHNIQUES>,
    },
    /// About the tracker itself; follows the welcome.
    About {
        /// Its clock, in milliseconds since 1970.
        unix_ms: u64,
        /// Name and version of its program, for people; at most [`PROGRAM_BYTES`] long.
        program: String,
    },
    /// About codes.
    Code(CodeNews),
    /// About followable shares.
    Follow(FollowNews),
}

impl Message for ToTracker {
    fn kind(&self) -> u16 {
        match self {
            ToTracker::Hello(_) => HELLO,
            ToTracker::Announce { .. } => ANNOUNCE,
            ToTracker::Leave { .. } => LEAVE,
            ToTracker::Situation { .. } => SITUATION,
            ToTracker::Introduce { .. } => INTRODUCE,
            ToTracker::Echo { .. } => ECHO,
            ToTracker::Prove { .. } => PROVE,
            ToTracker::Trickle { .. } => TRICKLE,
            ToTracker::Outcome { .. } => OUTCOME,
            ToTracker::Code(request) => request.kind(),
            ToTracker::Follow(request) => request.kind(),
        }
    }

    fn encode_body(&self) -> Vec<u8> {
        match self {
            ToTracker::Hello(hello) => encode_fields(hello),
            ToTracker::Announce {
                swarm,
                state,
                introductions,
            } => encode_fields(&(swarm, state, introductions)),
            ToTracker::Leave { swarm } => encode_fields(swarm),
            ToTracker::Situation {
                candidates,
                mapping,
                filtering,
                paths,
            } => encode_fields(&(candidates, mapping, filtering, paths)),
            ToTracker::Introduce { swarm, peer } => encode_fields(&(swarm, peer)),
            ToTracker::Echo { port, token } => encode_fields(&(port, token)),
            ToTracker::Prove { address, token } => encode_fields(&(address, token)),
            ToTracker::Trickle { id, port, mapping } => encode_fields(&(id, port, mapping)),
            ToTracker::Outcome {
                id,
                technique,
                success,
            } => encode_fields(&(id, technique, success)),
            ToTracker::Code(request) => request.encode_body(),
            ToTracker::Follow(request) => request.encode_body(),
        }
    }

    fn decode(kind: u16, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            HELLO => ToTracker::Hello(decode_fields(kind, body)?),
            ANNOUNCE => {
                let (swarm, state, introductions) = decode_fields(kind, body)?;
                ToTracker::Announce {
                    swarm,
                    state,
                    introductions,
                }
            }
            LEAVE => ToTracker::Leave {
                swarm: decode_fields(kind, body)?,
            },
            SITUATION => {
                let (candidates, mapping, filtering, paths) = decode_fields(kind, body)?;
                ToTracker::Situation {
                    candidates,
                    mapping,
                    filtering,
                    paths,
                }
            }
            INTRODUCE => {
                let (swarm, peer) = decode_fields(kind, body)?;
                ToTracker::Introduce { swarm, peer }
            }
            ECHO => {
                let (port, token) = decode_fields(kind, body)?;
                ToTracker::Echo { port, token }
            }
            PROVE => {
                let (address, token) = decode_fields(kind, body)?;
                ToTracker::Prove { address, token }
            }
            TRICKLE => {
                let (id, port, mapping) = decode_fields(kind, body)?;
                ToTracker::Trickle { id, port, mapping }
            }
            OUTCOME => {
                let (id, technique, success) = decode_fields(kind, body)?;
                ToTracker::Outcome {
                    id,
                    technique,
                    success,
                }
            }
            _ => match CodeRequest::decode(kind, body)? {
                Some(code) => ToTracker::Code(code),
                None => return Ok(FollowRequest::decode(kind, body)?.map(ToTracker::Follow)),
            },
        }))
    }
}

impl Message for FromTracker {
    fn kind(&self) -> u16 {
        match self {
            FromTracker::Hello(_) => HELLO,
            FromTracker::Welcome { .. } => WELCOME,
            FromTracker::Peers { .. } => PEERS,
            FromTracker::Joined { .. } => JOINED,
            FromTracker::Left { .. } => LEFT,
            FromTracker::Rendezvous(_) => RENDEZVOUS,
            FromTracker::NoSuchPeer { .. } => NO_SUCH_PEER,
            FromTracker::Busy { .. } => BUSY,
            FromTracker::Trickled { .. } => TRICKLED,
            FromTracker::Advice { .. } => ADVICE,
            FromTracker::About { .. } => ABOUT,
            FromTracker::Code(news) => news.kind(),
            FromTracker::Follow(news) => news.kind(),
        }
    }

    fn encode_body(&self) -> Vec<u8> {
        match self {
            FromTracker::Hello(hello) => encode_fields(hello),
            FromTracker::Welcome {
                observed,
                public,
                stun_port,
                alternate,
                other_family,
                session,
                announce_interval_s,
                retry_after_s,
            } => encode_fields(&(
                observed,
                public,
                stun_port,
                alternate,
                other_family,
                session,
                announce_interval_s,
                retry_after_s,
            )),
            FromTracker::Peers {
                swarm,
                seeds,
                leeches,
                sample,
            } => encode_fields(&(swarm, seeds, leeches, sample)),
            FromTracker::Joined { swarm, member } => encode_fields(&(swarm, member)),
            FromTracker::Left { swarm, peer } | FromTracker::NoSuchPeer { swarm, peer } => {
                encode_fields(&(swarm, peer))
            }
            FromTracker::Rendezvous(rendezvous) => encode_fields(rendezvous),
            FromTracker::Busy { retry_after_s } => encode_fields(retry_after_s),
            FromTracker::Trickled {
                id,
                address,
                mapping,
            } => encode_fields(&(id, address, mapping)),
            FromTracker::Advice { id, techniques } => encode_fields(&(id, techniques)),
            FromTracker::About { unix_ms, program } => encode_fields(&(unix_ms, program)),
            FromTracker::Code(news) => news.encode_body(),
            FromTracker::Follow(news) => news.encode_body(),
        }
    }

    fn decode(kind: u16, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            HELLO => FromTracker::Hello(decode_fields(kind, body)?),
            WELCOME => decode_welcome(body)?,
            PEERS => {
                let (swarm, seeds, leeches, sample) = decode_fields(kind, body)?;
                FromTracker::Peers {
                    swarm,
                    seeds,
                    leeches,
                    sample,
                }
            }
            JOINED => {
                let (swarm, member) = decode_fields(kind, body)?;
                FromTracker::Joined { swarm, member }
            }
            LEFT => {
                let (swarm, peer) = decode_fields(kind, body)?;
                FromTracker::Left { swarm, peer }
            }
            RENDEZVOUS => FromTracker::Rendezvous(decode_fields(kind, body)?),
            NO_SUCH_PEER => {
                let (swarm, peer) = decode_fields(kind, body)?;
                FromTracker::NoSuchPeer { swarm, peer }
            }
            BUSY => FromTracker::Busy {
                retry_after_s: decode_fields(kind, body)?,
            },
            TRICKLED => {
                let (id, address, mapping) = decode_fields(kind, body)?;
                FromTracker::Trickled {
                    id,
                    address,
                    mapping,
                }
            }
            ADVICE => {
                let (id, techniques) = decode_fields(kind, body)?;
                FromTracker::Advice { id, techniques }
            }
            ABOUT => {
                let (unix_ms, program) = decode_fields::<(u64, &str)>(kind, body)?;
                let program = check_text(kind, program, PROGRAM_BYTES)?;
                FromTracker::About { unix_ms, program }
            }
            _ => match CodeNews::decode(kind, body)? {
                Some(code) => FromTracker::Code(code),
                None => return Ok(FollowNews::decode(kind, body)?.map(FromTracker::Follow)),
            },
        }))
    }
}

/// In the order of PROTOCOL.md.
type WelcomeFields<'a> = (
    SocketAddr,
    Option<&'a str>,
    Option<u16>,
    Option<SocketAddr>,
    Option<SocketAddr>,
    SessionName,
    u32,
    u32,
);

fn decode_welcome(body: &[u8]) -> Result<FromTracker, DecodeError> {
    let (
        observed,
        public,
        stun_port,
        alternate,
        other_family,
        session,
        announce_interval_s,
        retry_after_s,
    ) = decode_fields::<WelcomeFields<'_>>(WELCOME, body)?;
    let public = public
        .map(|text| check_text(WELCOME, text, PUBLIC_BYTES))
        .transpose()?;
    Ok(FromTracker::Welcome {
        observed,
        public,
        stun_port,
        alternate,
        other_family,
        session,
        announce_interval_s,
        retry_after_s,
    })
}
