//! What is said on TLS over TCP beside the messages of the control stream.
//!
//! QUIC keeps connections alive, closes them with a code and carries datagrams by itself; here each
//! of these is a frame. They belong to no conversation: either side may send them between any two
//! messages. Layouts: PROTOCOL.md, TLS over TCP.
//!
//! Not here: which datagrams are relayed to whom, streams and timers (`warren-net`).

use super::frame::{DecodeError, HEADER_BYTES, Message, TYPE_BYTES, decode_fields, encode_fields};
use crate::id::RelayId;
use crate::limits::DATAGRAM_BYTES;

const DATAGRAM: u16 = 0x0030;
const PING: u16 = 0x0031;
const CLOSE: u16 = 0x0032;

/// A frame that the link itself takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkFrame {
    /// A relayed datagram.
    Datagram {
        /// The session at the tracker it belongs to.
        relay: RelayId,
        /// One QUIC packet or several coalesced ones, at most [`DATAGRAM_BYTES`].
        payload: Vec<u8>,
    },
    /// The sender is there.
    Ping,
    /// The last frame: the sender says nothing more.
    Close {
        /// Why; the codes are those of the connection.
        code: u32,
    },
}

/// Either a frame of the link or a message of the control stream on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnLink<M> {
    /// For the link.
    Link(LinkFrame),
    /// For whoever talks on it.
    Message(M),
}

/// Appends the frame of a relayed datagram to `out`: what [`super::encode`] makes of
/// [`LinkFrame::Datagram`], without a copy in between. A payload over [`DATAGRAM_BYTES`] is
/// nothing that can be sent: false then, and `out` stays as it was.
pub fn encode_datagram(relay: RelayId, payload: &[u8], out: &mut Vec<u8>) -> bool {
    let length = TYPE_BYTES + relay.0.len() + payload.len();
    let Ok(length) = u32::try_from(length) else {
        return false;
    };
    if payload.len() > DATAGRAM_BYTES {
        return false;
    }
    out.reserve(HEADER_BYTES + relay.0.len() + payload.len());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&DATAGRAM.to_be_bytes());
    out.extend_from_slice(&relay.0);
    out.extend_from_slice(payload);
    true
}

impl Message for LinkFrame {
    fn kind(&self) -> u16 {
        match self {
            LinkFrame::Datagram { .. } => DATAGRAM,
            LinkFrame::Ping => PING,
            LinkFrame::Close { .. } => CLOSE,
        }
    }

    fn encode_body(&self) -> Vec<u8> {
        match self {
            LinkFrame::Datagram { relay, payload } => [&relay.0, payload.as_slice()].concat(),
            LinkFrame::Ping => Vec::new(),
            LinkFrame::Close { code } => encode_fields(code),
        }
    }

    fn decode(kind: u16, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            DATAGRAM => decode_datagram(body)?,
            PING if body.is_empty() => LinkFrame::Ping,
            PING => {
                let count = body.len();
                return Err(DecodeError::LeftOver { kind, count });
            }
            CLOSE => LinkFrame::Close {
                code: decode_fields(kind, body)?,
            },
            _ => return Ok(None),
        }))
    }
}

fn decode_datagram(body: &[u8]) -> Result<LinkFrame, DecodeError> {
    match body.split_first_chunk() {
        Some((relay, payload)) if payload.len() <= DATAGRAM_BYTES => Ok(LinkFrame::Datagram {
            relay: RelayId(*relay),
            payload: payload.to_vec(),
        }),
        _ => Err(DecodeError::Malformed { kind: DATAGRAM }),
    }
}

impl<M: Message> Message for OnLink<M> {
    fn kind(&self) -> u16 {
        match self {
            OnLink::Link(frame) => frame.kind(),
            OnLink::Message(message) => message.kind(),
        }
    }

    fn encode_body(&self) -> Vec<u8> {
        match self {
            OnLink::Link(frame) => frame.encode_body(),
            OnLink::Message(message) => message.encode_body(),
        }
    }

    fn decode(kind: u16, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        if let Some(frame) = LinkFrame::decode(kind, body)? {
            return Ok(Some(OnLink::Link(frame)));
        }
        Ok(M::decode(kind, body)?.map(OnLink::Message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ToTracker, encode};

    #[test]
    fn a_datagram_written_directly_is_the_same_frame() {
        for length in [0, 1, DATAGRAM_BYTES] {
            let (relay, payload) = (RelayId([7; 12]), vec![9; length]);
            let mut direct = vec![1];
            assert!(encode_datagram(relay, &payload, &mut direct));
            let frame = encode(&LinkFrame::Datagram { relay, payload });
            assert_eq!(direct[1..], frame);
        }
    }

    #[test]
    fn a_datagram_over_the_limit_is_neither_written_nor_read() {
        let mut out = vec![1];
        let payload = vec![0; DATAGRAM_BYTES + 1];
        assert!(!encode_datagram(RelayId([7; 12]), &payload, &mut out));
        assert_eq!(out, [1]);
        let body = vec![0; 12 + DATAGRAM_BYTES + 1];
        let error = Err(DecodeError::Malformed { kind: DATAGRAM });
        assert_eq!(LinkFrame::decode(DATAGRAM, &body), error);
        assert_eq!(LinkFrame::decode(DATAGRAM, &[0; 11]), error);
    }

    #[test]
    fn on_a_link_both_kinds_of_frames_are_known_and_others_skipped() {
        let ping = OnLink::<ToTracker>::decode(PING, &[]);
        assert_eq!(ping, Ok(Some(OnLink::Link(LinkFrame::Ping))));
        let swarm = crate::id::SwarmId([1; 32]);
        let leave = ToTracker::Leave { swarm };
        let read = OnLink::decode(leave.kind(), &leave.encode_body());
        assert_eq!(read, Ok(Some(OnLink::Message(leave))));
        assert_eq!(OnLink::<ToTracker>::decode(0x7fff, &[1]), Ok(None));
    }
}
