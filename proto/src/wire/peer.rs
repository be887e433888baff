//! What two peers say: news on a control stream each way, requests on a stream each.
//!
//! Each side opens a control stream of its own and starts with [`Hello`]. For every swarm
//! they may share, the asker sends [`PeerMessage::Join`] with its proof first; the other answers
//! with a proof of its own or with [`PeerMessage::Refused`], the same for an unknown swarm and for
//! a bad proof. An *alias* is the sender's own number for a swarm, given in its `Join`, and means
//! nothing but in what the same side says afterwards on the same connection.
//!
//! A request is one bidirectional stream: one [`PeerRequest`], then one [`PeerAnswer`], then, after
//! [`PeerAnswer::Data`], that many raw bytes. Type codes and layouts: PROTOCOL.md, Peers.

use serde::{Deserialize, Serialize};

use super::bounded::Bounded;
use super::frame::{DecodeError, Message, check_text, decode_fields, encode_fields};
use super::tracker::{HELLO, Hello};
use crate::content::chunks::Run;
use crate::id::{PublicKey, RelayId, SwarmId};
use crate::limits::{NAME_BYTES, RUNS_PER_FRAME};
use crate::proof::Proof;

const JOIN: u16 = 0x0040;
const REFUSED: u16 = 0x0041;
const DESCRIBE: u16 = 0x0042;
const HAVE: u16 = 0x0043;
const STARTED: u16 = 0x0044;
const LOST: u16 = 0x0045;
const LEAVE: u16 = 0x0046;
const SUPPLIED: u16 = 0x0047;
const RELAY_ASK: u16 = 0x0048;
const RELAY_OPEN: u16 = 0x0049;
const RELAY_REFUSED: u16 = 0x004a;
const SUGGEST: u16 = 0x004b;
const YIELD: u16 = 0x004c;
const CHUNK: u16 = 0x0050;
const HASHES: u16 = 0x0051;
const GRAINS: u16 = 0x0052;
const DATA: u16 = 0x0058;
const NO: u16 = 0x0059;

/// Bit of [`Hello::features`] between peers: whoever sets it relays for the others of its swarms.
pub const RELAYS: u64 = 1;

/// What a peer says on its control stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// First of all.
    Hello(Hello),
    /// We are in this swarm, and here is the proof.
    Join {
        /// Our number for the swarm from now on.
        alias: u32,
        /// The swarm.
        swarm: SwarmId,
        /// Shows that we know what the swarm id was made from.
        proof: Proof,
    },
    /// We are not in this swarm, or do not believe that you are.
    Refused {
        /// The swarm of the `Join` this answers.
        swarm: SwarmId,
    },
    /// What the share is, for a peer that came with a link alone. Claims, to be verified.
    Describe {
        /// Our number for the swarm.
        alias: u32,
        /// Bytes of the file; of a tree, bytes of its encoded listing.
        size: u64,
        /// Suggested name; at most [`NAME_BYTES`] long, and not checked for anything else here.
        name: String,
    },
    /// We have these chunks, verified.
    Have {
        /// Our number for the swarm.
        alias: u32,
        /// Runs of chunk indexes.
        chunks: Bounded<Run, RUNS_PER_FRAME>,
    },
    /// We have asked for these chunks.
    Started {
        /// Our number for the swarm.
        alias: u32,
        /// Runs of chunk indexes.
        chunks: Bounded<Run, RUNS_PER_FRAME>,
    },
    /// We no longer have these chunks, or will not get them for now.
    Lost {
        /// Our number for the swarm.
        alias: u32,
        /// Runs of chunk indexes.
        chunks: Bounded<Run, RUNS_PER_FRAME>,
    },
    /// We would rather be asked for these chunks than for any others (BEP 6, Suggest Piece).
    Suggest {
        /// Our number for the swarm.
        alias: u32,
        /// Runs of chunk indexes.
        chunks: Bounded<Run, RUNS_PER_FRAME>,
    },
    /// Whether somebody whom we reach directly has everything that we lack of the swarm.
    Supplied {
        /// Our number for the swarm.
        alias: u32,
        /// Whether that is so; not, unless it was said.
        supplied: bool,
    },
    /// We cannot meet another peer of the swarm: be our relay, you that have said [`RELAYS`].
    RelayAsk {
        /// Our number for the swarm.
        alias: u32,
        /// Whom we cannot meet.
        peer: PublicKey,
    },
    /// From now on, what you send us with this session in its header reaches the other peer, and the
    /// other way round.
    RelayOpen {
        /// The session; the same for both.
        id: RelayId,
        /// The other peer.
        peer: PublicKey,
        /// What a packet from us to the other peer and back takes, in milliseconds.
        rtt_ms: u16,
    },
    /// We are not your relay to that peer.
    RelayRefused {
        /// Of the `RelayAsk` this answers.
        peer: PublicKey,
        /// Why.
        reason: NoRelay,
    },
    /// Leave our path to others with what you send us (`client daemon --background`), or not any more.
    Yield {
        /// Whether to; not, unless it was said.
        yields: bool,
    },
    /// We leave the swarm; the alias is free again.
    Leave {
        /// Our number for the swarm.
        alias: u32,
    },
}

/// Which bytes of a share a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Part {
    /// The file, or the files of the tree.
    Content,
    /// A tree's encoded listing, as if it were a file of its own.
    Listing,
}

/// What a request stream asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRequest {
    /// Bytes of one chunk, from grain boundary to grain boundary.
    Chunk {
        /// Our number for the swarm.
        alias: u32,
        /// Of the content or of the listing.
        part: Part,
        /// Index of the chunk.
        chunk: u32,
        /// First byte, counted within the chunk.
        offset: u32,
        /// How many bytes; at least 1.
        len: u32,
    },
    /// The hash list: of a file or a listing its own, of a tree's content those of its large files,
    /// one after the other.
    Hashes {
        /// Our number for the swarm.
        alias: u32,
        /// Of the content or of the listing.
        part: Part,
    },
    /// The hashes of the grains of one chunk.
    Grains {
        /// Our number for the swarm.
        alias: u32,
        /// Of the content or of the listing.
        part: Part,
        /// Index of the chunk.
        chunk: u32,
    },
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAnswer {
    /// The raw bytes follow on this stream.
    Data {
        /// How many.
        bytes: u64,
    },
    /// Nothing follows.
    No {
        /// Why.
        reason: NoReason,
    },
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NoReason {
    /// We do not have it (any more).
    NotHere,
    /// We serve enough others; ask again later or elsewhere.
    Busy,
    /// The file changed under the share, which is therefore no longer served.
    Changed,
    /// The alias, index or range means nothing to us.
    Unknown,
}

/// Why a peer is not a relay to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NoRelay {
    /// It relays for nobody.
    Off,
    /// It is not connected directly to the other, or not in that swarm.
    NotConnected,
    /// It relays for as many as it can.
    Full,
}

impl Message for PeerMessage {
    fn kind(&self) -> u16 {
        match self {
            PeerMessage::Hello(_) => HELLO,
            PeerMessage::Join { .. } => JOIN,
            PeerMessage::Refused { .. } => REFUSED,
            PeerMessage::Describe { .. } => DESCRIBE,
            PeerMessage::Have { .. } => HAVE,
            PeerMessage::Started { .. } => STARTED,
            PeerMessage::Lost { .. } => LOST,
            PeerMessage::Supplied { .. } => SUPPLIED,
            PeerMessage::RelayAsk { .. } => RELAY_ASK,
            PeerMessage::RelayOpen { .. } => RELAY_OPEN,
            PeerMessage::RelayRefused { .. } => RELAY_REFUSED,
            PeerMessage::Leave { .. } => LEAVE,
            PeerMessage::Suggest { .. } => SUGGEST,
            PeerMessage::Yield { .. } => YIELD,
        }
    }

    fn encode_body(&self) -> Vec<u8> {
        match self {
            PeerMessage::Hello(hello) => encode_fields(hello),
            PeerMessage::Join {
                alias,
                swarm,
                proof,
            } => encode_fields(&(alias, swarm, proof)),
            PeerMessage::Refused { swarm } => encode_fields(swarm),
            PeerMessage::Describe { alias, size, name } => encode_fields(&(alias, size, name)),
            PeerMessage::Have { alias, chunks }
            | PeerMessage::Started { alias, chunks }
            | PeerMessage::Lost { alias, chunks }
            | PeerMessage::Suggest { alias, chunks } => encode_fields(&(alias, chunks)),
            PeerMessage::Supplied { alias, supplied } => encode_fields(&(alias, supplied)),
            PeerMessage::RelayAsk { alias, peer } => encode_fields(&(alias, peer)),
            PeerMessage::RelayOpen { id, peer, rtt_ms } => encode_fields(&(id, peer, rtt_ms)),
            PeerMessage::RelayRefused { peer, reason } => encode_fields(&(peer, reason)),
            PeerMessage::Yield { yields } => encode_fields(yields),
            PeerMessage::Leave { alias } => encode_fields(alias),
        }
    }

    fn decode(kind: u16, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            HELLO => PeerMessage::Hello(decode_fields(kind, body)?),
            JOIN => {
                let (alias, swarm, proof) = decode_fields(kind, body)?;
                PeerMessage::Join {
                    alias,
                    swarm,
                    proof,
                }
            }
            REFUSED => PeerMessage::Refused {
                swarm: decode_fields(kind, body)?,
            },
            DESCRIBE => {
                let (alias, size, name) = decode_fields::<(u32, u64, &str)>(kind, body)?;
                PeerMessage::Describe {
                    alias,
                    size,
                    name: check_text(kind, name, NAME_BYTES)?,
                }
            }
            HAVE => {
                let (alias, chunks) = decode_fields(kind, body)?;
                PeerMessage::Have { alias, chunks }
            }
            STARTED => {
                let (alias, chunks) = decode_fields(kind, body)?;
                PeerMessage::Started { alias, chunks }
            }
            LOST => {
                let (alias, chunks) = decode_fields(kind, body)?;
                PeerMessage::Lost { alias, chunks }
            }
            SUGGEST => {
                let (alias, chunks) = decode_fields(kind, body)?;
                PeerMessage::Suggest { alias, chunks }
            }
            SUPPLIED => {
                let (alias, supplied) = decode_fields(kind, body)?;
                PeerMessage::Supplied { alias, supplied }
            }
            RELAY_ASK => {
                let (alias, peer) = decode_fields(kind, body)?;
                PeerMessage::RelayAsk { alias, peer }
            }
            RELAY_OPEN => {
                let (id, peer, rtt_ms) = decode_fields(kind, body)?;
                PeerMessage::RelayOpen { id, peer, rtt_ms }
            }
            RELAY_REFUSED => {
                let (peer, reason) = decode_fields(kind, body)?;
                PeerMessage::RelayRefused { peer, reason }
            }
            YIELD => PeerMessage::Yield {
                yields: decode_fields(kind, body)?,
            },
            LEAVE => PeerMessage::Leave {
                alias: decode_fields(kind, body)?,
            },
            _ => return Ok(None),
        }))
    }
}

impl Message for PeerRequest {
    fn kind(&self) -> u16 {
        match self {
            PeerRequest::Chunk { .. } => CHUNK,
            PeerRequest::Hashes { .. } => HASHES,
            PeerRequest::Grains { .. } => GRAINS,
        }
    }

    fn encode_body(&self) -> Vec<u8> {
        match self {
            PeerRequest::Chunk {
                alias,
                part,
                chunk,
                offset,
                len,
            } => encode_fields(&(alias, part, chunk, offset, len)),
            PeerRequest::Hashes { alias, part } => encode_fields(&(alias, part)),
            PeerRequest::Grains { alias, part, chunk } => encode_fields(&(alias, part, chunk)),
        }
    }

    fn decode(kind: u16, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            CHUNK => {
                let (alias, part, chunk, offset, len) = decode_fields(kind, body)?;
                PeerRequest::Chunk {
                    alias,
                    part,
                    chunk,
                    offset,
                    len,
                }
            }
            HASHES => {
                let (alias, part) = decode_fields(kind, body)?;
                PeerRequest::Hashes { alias, part }
            }
            GRAINS => {
                let (alias, part, chunk) = decode_fields(kind, body)?;
                PeerRequest::Grains { alias, part, chunk }
            }
            _ => return Ok(None),
        }))
    }
}

impl Message for PeerAnswer {
    fn kind(&self) -> u16 {
        match self {
            PeerAnswer::Data { .. } => DATA,
            PeerAnswer::No { .. } => NO,
        }
    }

    fn encode_body(&self) -> Vec<u8> {
        match self {
            PeerAnswer::Data { bytes } => encode_fields(bytes),
            PeerAnswer::No { reason } => encode_fields(reason),
        }
    }

    fn decode(kind: u16, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            DATA => PeerAnswer::Data {
                bytes: decode_fields(kind, body)?,
            },
            NO => PeerAnswer::No {
                reason: decode_fields(kind, body)?,
            },
            _ => return Ok(None),
        }))
    }
}
