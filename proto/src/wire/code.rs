//! What a daemon and a tracker say about codes: places for them, and exchanges by which they are opened.
//!
//! What travels in an exchange means nothing to the tracker. Type codes and layouts: PROTOCOL.md, Codes.
//!
//! Not here: what a tracker decides ([`crate::code::nameplates`]).

use serde::{Deserialize, Serialize};

use super::frame::{DecodeError, decode_fields, encode_fields};
use crate::code::{Body, Closed, Ended, ExchangeId, Nameplate};

const CLAIM: u16 = 0x0070;
const RELEASE: u16 = 0x0071;
const OPEN: u16 = 0x0072;
const PASS: u16 = 0x0073;
const CLOSE: u16 = 0x0074;
const CLAIMED: u16 = 0x0078;
const OPENED: u16 = 0x0079;
const PASSED: u16 = 0x007a;
const CLOSED: u16 = 0x007b;

/// What a daemon says to a tracker about codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeRequest {
    /// Keep a number for a code of ours; answered by [`CodeNews::Claimed`]. With `nameplate`, the number that
    /// it has already, on another connection.
    Claim {
        /// What the answer is to carry.
        ticket: u32,
        /// The number it has.
        nameplate: Option<Nameplate>,
        /// For how long, in seconds.
        lifetime_s: u32,
    },
    /// A code of ours is no longer good.
    Release {
        /// Its number.
        nameplate: Nameplate,
        /// Why, for those who still come.
        ended: Ended,
    },
    /// We want to open the code of this number, and this is message 1.
    Open {
        /// The number.
        nameplate: Nameplate,
        /// What the exchange is called.
        exchange: ExchangeId,
        /// For the sharer.
        message: Body,
    },
    /// The next message of an exchange.
    Pass {
        /// Which.
        exchange: ExchangeId,
        /// For the other side.
        message: Body,
    },
    /// An exchange is over.
    Close {
        /// Which.
        exchange: ExchangeId,
        /// Why.
        reason: Closed,
    },
}

/// What a tracker says about codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeNews {
    /// Answers a claim.
    Claimed {
        /// That of the claim.
        ticket: u32,
        /// The number that is kept, or why there is none.
        result: Claimed,
    },
    /// Somebody wants to open a code of ours.
    Opened {
        /// Its number.
        nameplate: Nameplate,
        /// What the exchange is called.
        exchange: ExchangeId,
        /// Message 1.
        message: Body,
    },
    /// The next message of an exchange.
    Passed {
        /// Which.
        exchange: ExchangeId,
        /// From the other side.
        message: Body,
    },
    /// An exchange is over.
    Closed {
        /// Which.
        exchange: ExchangeId,
        /// Why.
        reason: Closed,
    },
}

/// What comes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Claimed {
    /// This number is kept.
    Kept(Nameplate),
    /// The daemon, its network or all together have too many.
    TooMany,
    /// The number is somebody else's by now.
    Taken,
}

impl CodeRequest {
    pub(super) fn kind(&self) -> u16 {
        match self {
            CodeRequest::Claim { .. } => CLAIM,
            CodeRequest::Release { .. } => RELEASE,
            CodeRequest::Open { .. } => OPEN,
            CodeRequest::Pass { .. } => PASS,
            CodeRequest::Close { .. } => CLOSE,
        }
    }

    pub(super) fn encode_body(&self) -> Vec<u8> {
        match self {
            CodeRequest::Claim {
                ticket,
                nameplate,
                lifetime_s,
            } => encode_fields(&(ticket, nameplate, lifetime_s)),
            CodeRequest::Release { nameplate, ended } => encode_fields(&(nameplate, ended)),
            CodeRequest::Open {
                nameplate,
                exchange,
                message,
            } => encode_fields(&(nameplate, exchange, message)),
            CodeRequest::Pass { exchange, message } => encode_fields(&(exchange, message)),
            CodeRequest::Close { exchange, reason } => encode_fields(&(exchange, reason)),
        }
    }

    pub(super) fn decode(kind: u16, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            CLAIM => {
                let (ticket, nameplate, lifetime_s) = decode_fields(kind, body)?;
                CodeRequest::Claim {
                    ticket,
                    nameplate,
                    lifetime_s,
                }
            }
            RELEASE => {
                let (nameplate, ended) = decode_fields(kind, body)?;
                CodeRequest::Release { nameplate, ended }
            }
            OPEN => {
                let (nameplate, exchange, message) = decode_fields(kind, body)?;
                CodeRequest::Open {
                    nameplate,
                    exchange,
                    message,
                }
            }
            PASS => {
                let (exchange, message) = decode_fields(kind, body)?;
                CodeRequest::Pass { exchange, message }
            }
            CLOSE => {
                let (exchange, reason) = decode_fields(kind, body)?;
                CodeRequest::Close { exchange, reason }
            }
            _ => return Ok(None),
        }))
    }
}

impl CodeNews {
    pub(super) fn kind(&self) -> u16 {
        match self {
            CodeNews::Claimed { .. } => CLAIMED,
            CodeNews::Opened { .. } => OPENED,
            CodeNews::Passed { .. } => PASSED,
            CodeNews::Closed { .. } => CLOSED,
        }
    }

    pub(super) fn encode_body(&self) -> Vec<u8> {
        match self {
            CodeNews::Claimed { ticket, result } => encode_fields(&(ticket, result)),
            CodeNews::Opened {
                nameplate,
                exchange,
                message,
            } => encode_fields(&(nameplate, exchange, message)),
            CodeNews::Passed { exchange, message } => encode_fields(&(exchange, message)),
            CodeNews::Closed { exchange, reason } => encode_fields(&(exchange, reason)),
        }
    }

    pub(super) fn decode(kind: u16, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            CLAIMED => {
                let (ticket, result) = decode_fields(kind, body)?;
                CodeNews::Claimed { ticket, result }
            }
            OPENED => {
                let (nameplate, exchange, message) = decode_fields(kind, body)?;
                CodeNews::Opened {
                    nameplate,
                    exchange,
                    message,
                }
            }
            PASSED => {
                let (exchange, message) = decode_fields(kind, body)?;
                CodeNews::Passed { exchange, message }
            }
            CLOSED => {
                let (exchange, reason) = decode_fields(kind, body)?;
                CodeNews::Closed { exchange, reason }
            }
            _ => return Ok(None),
        }))
    }
}
