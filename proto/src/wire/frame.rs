//! How one message becomes bytes on a stream: length, type, body.
//!
//! A reader takes [`HEADER_BYTES`], asks [`Header::decode`] whether the rest is short enough to be
//! read at all, reads `body_len` bytes and hands them to [`Message::decode`]. Layout: PROTOCOL.md,
//! Frames.

use serde::{Deserialize, Serialize};

/// Length (u32) and type (u16), both big-endian.
pub const HEADER_BYTES: usize = LENGTH_BYTES + TYPE_BYTES;
const LENGTH_BYTES: usize = 4;
pub(super) const TYPE_BYTES: usize = 2;

/// Why bytes are not a message. Whoever sent them is at fault; the stream cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The length field cannot even cover the type.
    #[error("a frame of {length} bytes has no room for its type")]
    TooShort {
        /// The length field.
        length: usize,
    },
    /// The length field exceeds what this stream allows.
    #[error("a frame of {length} bytes where at most {max} are allowed")]
    TooLong {
        /// The length field.
        length: usize,
        /// The largest length allowed here.
        max: usize,
    },
    /// The body is not one value of its type: cut short, out of range, or over a limit.
    #[error("the body of message type {kind:#06x} is malformed")]
    Malformed {
        /// Type of the message.
        kind: u16,
    },
    /// The body is followed by bytes that belong to nothing.
    #[error("{count} bytes are left over in message type {kind:#06x}")]
    LeftOver {
        /// Type of the message.
        kind: u16,
        /// How many bytes.
        count: usize,
    },
    /// The same value has a shorter or stricter encoding, which is the only one allowed.
    #[error("the body of message type {kind:#06x} is not in canonical form")]
    NotCanonical {
        /// Type of the message.
        kind: u16,
    },
}

/// One direction of one kind of stream: an enum of everything that may be said there.
pub trait Message: Sized {
    /// Type code, as PROTOCOL.md lists them.
    fn kind(&self) -> u16;

    /// The body: the fields in order, as postcard.
    fn encode_body(&self) -> Vec<u8>;

    /// Reads the body of a message of type `kind`; `Ok(None)` for an unknown type, to be skipped.
    ///
    /// # Errors
    /// When the body is malformed, over a limit, followed by more, or not canonical.
    fn decode(kind: u16, body: &[u8]) -> Result<Option<Self>, DecodeError>;
}

/// The whole frame: header and body.
pub fn encode<M: Message>(message: &M) -> Vec<u8> {
    let body = message.encode_body();
    let length = u32::try_from(TYPE_BYTES + body.len())
        .expect("bounded lists and names keep every body far below 4 GiB");
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&message.kind().to_be_bytes());
    frame.extend_from_slice(&body);
    frame
}

/// What precedes a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Type code of the message.
    pub kind: u16,
    /// Bytes of body that follow.
    pub body_len: usize,
}

impl Header {
    /// Reads a header; `max` bounds the length field, which counts the type and the body.
    ///
    /// # Errors
    /// [`DecodeError::TooShort`] or [`DecodeError::TooLong`], before anything is allocated.
    pub fn decode(bytes: [u8; HEADER_BYTES], max: usize) -> Result<Header, DecodeError> {
        let [a, b, c, d, e, f] = bytes;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        match length.checked_sub(TYPE_BYTES) {
            None => Err(DecodeError::TooShort { length }),
            Some(_) if length > max => Err(DecodeError::TooLong { length, max }),
            Some(body_len) => Ok(Header {
                kind: u16::from_be_bytes([e, f]),
                body_len,
            }),
        }
    }
}

/// Writes the fields of a message; a tuple of them is their concatenation.
pub(super) fn encode_fields<T: Serialize>(fields: &T) -> Vec<u8> {
    postcard::to_stdvec(fields).expect("a vector has room and every length is known")
}

/// Reads the fields of a message and holds them to the one canonical form.
pub(super) fn decode_fields<'a, T>(kind: u16, body: &'a [u8]) -> Result<T, DecodeError>
where
    T: Serialize + Deserialize<'a>,
{
    let (fields, rest) =
        postcard::take_from_bytes::<T>(body).map_err(|_| DecodeError::Malformed { kind })?;
    if !rest.is_empty() {
        return Err(DecodeError::LeftOver {
            kind,
            count: rest.len(),
        });
    }
    if encode_fields(&fields) != body {
        return Err(DecodeError::NotCanonical { kind });
    }
    Ok(fields)
}

/// Refuses text over its limit. The text is still borrowed from the frame here.
pub(super) fn check_text(kind: u16, text: &str, max: usize) -> Result<String, DecodeError> {
    if text.len() > max {
        return Err(DecodeError::Malformed { kind });
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_gives_type_and_body_length() {
        let header = Header::decode([0, 0, 0, 5, 0x12, 0x34], 5);
        assert_eq!(
            header,
            Ok(Header {
                kind: 0x1234,
                body_len: 3
            })
        );
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_and_the_limit_itself_is_not() {
        let header = [0, 0, 0, 6, 0, 1];
        assert!(Header::decode(header, 6).is_ok());
        let error = DecodeError::TooLong { length: 6, max: 5 };
        assert_eq!(Header::decode(header, 5), Err(error));
        let error = DecodeError::TooLong {
            length: u32::MAX as usize,
            max: 5,
        };
        assert_eq!(Header::decode([0xff; 6], 5), Err(error));
    }

    #[test]
    fn a_length_that_does_not_cover_the_type_is_refused() {
        for length in [0, 1] {
            let error = DecodeError::TooShort {
                length: length.into(),
            };
            assert_eq!(Header::decode([0, 0, 0, length, 0, 1], 9), Err(error));
        }
    }

    #[test]
    fn an_over_long_varint_is_not_canonical() {
        assert_eq!(decode_fields::<(u32,)>(7, &[0x05]), Ok((5,)));
        let error = DecodeError::NotCanonical { kind: 7 };
        assert_eq!(decode_fields::<(u32,)>(7, &[0x85, 0x00]), Err(error));
    }

    #[test]
    fn left_over_bytes_are_refused() {
        let error = DecodeError::LeftOver { kind: 7, count: 1 };
        assert_eq!(decode_fields::<(u32,)>(7, &[0x05, 0x00]), Err(error));
    }
}
