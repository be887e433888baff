//! What a daemon and a tracker say about followable shares: heads that are given, and the newest one.
//!
//! Type codes and layouts: PROTOCOL.md, Following.
//!
//! Not here: what a head is and what a tracker decides ([`crate::follow`]).

use serde::{Deserialize, Serialize};

use super::frame::{DecodeError, decode_fields, encode_fields};
use crate::follow::{Head, PublisherId};

/// The feature bit of a tracker that knows these messages, in its hello.
pub const FOLLOW_FEATURE: u64 = 1;

const GIVE: u16 = 0x0080;
const FOLLOW: u16 = 0x0081;
const UNFOLLOW: u16 = 0x0082;
const GIVEN: u16 = 0x0088;
const NEWEST: u16 = 0x0089;
const TOO_MANY: u16 = 0x008a;

/// What a daemon says to a tracker about followable shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FollowRequest {
    /// This is a head, of our own or of somebody we follow; answered by [`FollowNews::Given`].
    Give(Head),
    /// Tell us the newest head of this publisher, now and whenever there is a newer one; answered by
    /// [`FollowNews::Newest`] or [`FollowNews::TooMany`].
    Follow {
        /// Whose.
        publisher: PublisherId,
    },
    /// No longer.
    Unfollow {
        /// Whose.
        publisher: PublisherId,
    },
}

/// What a tracker says about followable shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FollowNews {
    /// What became of a head.
    Given {
        /// Whose.
        publisher: PublisherId,
        /// Its number.
        sequence: u64,
        /// What became of it.
        result: Given,
    },
    /// The newest head that is known of a publisher.
    Newest {
        /// Whose.
        publisher: PublisherId,
        /// None is known.
        head: Option<Head>,
    },
    /// The daemon, its network or all together follow too many.
    TooMany {
        /// Whose heads it will not be told.
        publisher: PublisherId,
    },
}

/// What becomes of a head that a tracker is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Given {
    /// It is the newest, and kept.
    Kept = 0,
    /// The tracker knows a newer one, and tells it next.
    Older = 1,
    /// The tracker keeps another one of that number, and tells it next: the publisher contradicts itself.
    Differs = 2,
    /// Its signature is wrong.
    Invalid = 3,
    /// There is no room for another publisher, or too much was given lately.
    TooMany = 4,
}

impl FollowRequest {
    pub(super) fn kind(&self) -> u16 {
        match self {
            FollowRequest::Give(_) => GIVE,
            FollowRequest::Follow { .. } => FOLLOW,
            FollowRequest::Unfollow { .. } => UNFOLLOW,
        }
    }

    pub(super) fn encode_body(&self) -> Vec<u8> {
        match self {
            FollowRequest::Give(head) => encode_fields(head),
            FollowRequest::Follow { publisher } | FollowRequest::Unfollow { publisher } => {
                encode_fields(publisher)
            }
        }
    }

    pub(super) fn decode(kind: u16, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            GIVE => FollowRequest::Give(decode_fields(kind, body)?),
            FOLLOW => FollowRequest::Follow {
                publisher: decode_fields(kind, body)?,
            },
            UNFOLLOW => FollowRequest::Unfollow {
                publisher: decode_fields(kind, body)?,
            },
            _ => return Ok(None),
        }))
    }
}

impl FollowNews {
    pub(super) fn kind(&self) -> u16 {
        match self {
            FollowNews::Given { .. } => GIVEN,
            FollowNews::Newest { .. } => NEWEST,
            FollowNews::TooMany { .. } => TOO_MANY,
        }
    }

    pub(super) fn encode_body(&self) -> Vec<u8> {
        match self {
            FollowNews::Given {
                publisher,
                sequence,
                result,
            } => encode_fields(&(publisher, sequence, result)),
            FollowNews::Newest { publisher, head } => encode_fields(&(publisher, head)),
            FollowNews::TooMany { publisher } => encode_fields(publisher),
        }
    }

    pub(super) fn decode(kind: u16, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            GIVEN => {
                let (publisher, sequence, result) = decode_fields(kind, body)?;
                FollowNews::Given {
                    publisher,
                    sequence,
                    result,
                }
            }
            NEWEST => {
                let (publisher, head) = decode_fields(kind, body)?;
                FollowNews::Newest { publisher, head }
            }
            TOO_MANY => FollowNews::TooMany {
                publisher: decode_fields(kind, body)?,
            },
            _ => return Ok(None),
        }))
    }
}
