//! Frames of `warren_proto::wire` on a stream of bytes, of QUIC where nothing else is said.
//!
//! A frame's length is checked before anything is allocated for it, and a type that we do not know
//! is read and skipped. Neither side reads a byte beyond its frame, so raw data may follow one on
//! the same stream: take the stream back with `into_inner`.

use std::io;

use quinn::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use warren_proto::limits;
use warren_proto::wire::{self, DecodeError, Header, Message};

/// Length and type: what precedes every body.
const HEADER_BYTES: usize = 6;

/// Why no frame came in.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended within a frame.
    #[error("stream ended within a frame")]
    Truncated,
    /// The frame is not one that we may be sent.
    #[error("frame does not decode")]
    Decode(#[from] DecodeError),
    /// The stream or its connection is gone.
    #[error("cannot read from the stream")]
    Read(#[from] io::Error),
}

/// Why a frame did not go out.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to the stream")]
pub struct SendError(#[from] io::Error);

/// Writes frames to a stream.
#[derive(Debug)]
pub struct FrameWriter<W = SendStream> {
    stream: W,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Frames on `stream` from here on.
    pub fn new(stream: W) -> Self {
        Self { stream }
    }

    /// Writes one frame. It is on its way when this returns, not yet received.
    ///
    /// # Errors
    ///
    /// When the other side stopped reading or the connection is gone.
    ///
    /// # Cancel safety
    ///
    /// None: half a frame may have been written, so the stream is of no further use.
    pub async fn send<M: Message>(&mut self, message: &M) -> Result<(), SendError> {
        self.stream.write_all(&wire::encode(message)).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// The stream itself, for as long as the borrow lasts.
    pub fn stream(&mut self) -> &mut W {
        &mut self.stream
    }

    /// The stream, to write raw data after the frames.
    pub fn into_inner(self) -> W {
        self.stream
    }
}

/// Reads frames from a stream.
#[derive(Debug)]
pub struct FrameReader<R = RecvStream> {
    stream: R,
    state: State,
    max_bytes: usize,
}

/// Header → Body once the header is whole and its length is allowed; back once the body is.
#[derive(Debug)]
enum State {
    Header {
        bytes: [u8; HEADER_BYTES],
        filled: usize,
    },
    Body {
        header: Header,
        bytes: Vec<u8>,
        filled: usize,
    },
}

const AT_HEADER: State = State::Header {
    bytes: [0; HEADER_BYTES],
    filled: 0,
};

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Frames of up to [`limits::FRAME_BYTES`] on `stream` from here on.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            state: AT_HEADER,
            max_bytes: limits::FRAME_BYTES,
        }
    }

    /// Sets the largest frame accepted from the next one on, in bytes of type and body.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
    }

    /// The next frame of a type that `M` knows; `None` once the stream has ended between frames.
    ///
    /// # Errors
    ///
    /// See [`FrameError`]; the stream is of no further use.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; what was read of a frame is kept for the next call.
    pub async fn recv<M: Message>(&mut self) -> Result<Option<M>, FrameError> {
        while let Some((kind, body)) = self.recv_body().await? {
            if let Some(message) = M::decode(kind, &body)? {
                return Ok(Some(message));
            }
            tracing::trace!(kind, "frame of an unknown type skipped");
        }
        Ok(None)
    }

    /// The stream itself, for as long as the borrow lasts.
    pub fn stream(&mut self) -> &mut R {
        &mut self.stream
    }

    /// The stream, to read raw data after the last frame received.
    pub fn into_inner(self) -> R {
        self.stream
    }

    async fn recv_body(&mut self) -> Result<Option<(u16, Vec<u8>)>, FrameError> {
        loop {
            match &mut self.state {
                State::Header { bytes, filled } => {
                    if !fill(&mut self.stream, bytes, filled).await? {
                        return if *filled == 0 {
                            Ok(None)
                        } else {
                            Err(FrameError::Truncated)
                        };
                    }
                    let header = Header::decode(*bytes, self.max_bytes)?;
                    let bytes = vec![0; header.body_len];
                    self.state = State::Body {
                        header,
                        bytes,
                        filled: 0,
                    };
                }
                State::Body {
                    header,
                    bytes,
                    filled,
                } => {
                    if !fill(&mut self.stream, bytes, filled).await? {
                        return Err(FrameError::Truncated);
                    }
                    let frame = (header.kind, std::mem::take(bytes));
                    self.state = AT_HEADER;
                    return Ok(Some(frame));
                }
            }
        }
    }
}

/// Reads until `bytes` is full; false if the stream ended before.
async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut [u8],
    filled: &mut usize,
) -> io::Result<bool> {
    while *filled < bytes.len() {
        match stream.read(&mut bytes[*filled..]).await? {
            0 => return Ok(false),
            read => *filled += read,
        }
    }
    Ok(true)
}
