//! The connection between a daemon and a tracker, whichever transport it runs over.
//!
//! QUIC over UDP where that gets through, TLS over TCP where it does not. What is said on it is the
//! same; what only one of them has is on its own type, [`Connection`] or [`TcpConnection`].

use std::net::SocketAddr;
use std::time::Duration;

use warren_proto::id::PublicKey;
use warren_proto::proof::Side;
use warren_proto::swarm::Transport;
use warren_proto::wire::Message;

use crate::connection::Connection;
use crate::frames::{FrameError, FrameReader, FrameWriter, SendError};
use crate::tcp::connection::{TcpConnection, TcpReader, TcpWriter, Tunnel};

/// A connection between a daemon and a tracker. Clones are handles on the same one; it closes when
/// the last one is dropped.
#[derive(Clone, Debug)]
pub enum Link {
    /// By QUIC over UDP.
    Quic(Connection),
    /// By TLS over TCP.
    Tcp(TcpConnection),
}

/// Why nothing more is said on a connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no control stream.
    #[error("control stream not opened")]
    NoStream(#[from] quinn::ConnectionError),
    /// The control stream has been taken before.
    #[error("control stream is in use")]
    Taken,
    /// The control stream broke, or carries what it must not.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// By TCP: the other side closed. By QUIC that is a [`FrameError::Read`].
    #[error("the other side closed with code {code}")]
    Closed {
        /// Its code.
        code: u32,
    },
    /// By TCP: no sign of life. By QUIC that is a [`FrameError::Read`].
    #[error("nothing was heard for {} s", .0.as_secs())]
    Silent(Duration),
}

impl Link {
    /// The key that the other side has proven to hold.
    pub fn peer_key(&self) -> PublicKey {
        match self {
            Self::Quic(connection) => connection.peer_key(),
            Self::Tcp(connection) => connection.peer_key(),
        }
    }

    /// What it runs over.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Quic(_) => Transport::Udp,
            Self::Tcp(_) => Transport::Tcp,
        }
    }

    /// Where the other side is, canonical: a port of UDP or TCP.
    pub fn remote_address(&self) -> SocketAddr {
        match self {
            Self::Quic(connection) => connection.remote_address(),
            Self::Tcp(connection) => connection.remote_address(),
        }
    }

    /// The round-trip time: by QUIC as it is now, by TCP as it was at the beginning.
    pub fn rtt(&self) -> Duration {
        match self {
            Self::Quic(connection) => connection.rtt(),
            Self::Tcp(connection) => connection.rtt(),
        }
    }

    /// The control stream. By QUIC, the client opens it and the server waits for that.
    ///
    /// # Errors
    ///
    /// When the connection is over before, or the stream was taken.
    pub async fn control(&self) -> Result<(LinkReader, LinkWriter), LinkError> {
        match self {
            Self::Quic(connection) => {
                let (send, receive) = match connection.side() {
                    Side::Client => connection.quinn().open_bi().await?,
                    Side::Server => connection.quinn().accept_bi().await?,
                };
                let reader = LinkReader::Quic(FrameReader::new(receive));
                Ok((reader, LinkWriter::Quic(FrameWriter::new(send))))
            }
            Self::Tcp(connection) => {
                let (reader, writer) = connection.take_control().ok_or(LinkError::Taken)?;
                Ok((LinkReader::Tcp(reader), LinkWriter::Tcp(writer)))
            }
        }
    }

    /// The way of relayed datagrams; `None` by QUIC, beside which UDP carries them, and after the
    /// first time.
    pub fn take_tunnel(&self) -> Option<Tunnel> {
        match self {
            Self::Quic(_) => None,
            Self::Tcp(connection) => connection.take_tunnel(),
        }
    }

    /// Closes at once; data not yet acknowledged is abandoned. By TCP the reason stays here.
    pub fn close(&self, code: u32, reason: &str) {
        match self {
            Self::Quic(connection) => connection.close(code, reason),
            Self::Tcp(connection) => connection.close(code),
        }
    }

    /// The code with which the other side closed; by QUIC alone, where more than one means something to
    /// who dialled.
    pub fn close_code(&self) -> Option<u64> {
        let Self::Quic(connection) = self else {
            return None;
        };
        match connection.quinn().close_reason()? {
            quinn::ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
            _ => None,
        }
    }

    /// Waits until the connection is over, or was closed here.
    pub async fn closed(&self) {
        match self {
            Self::Quic(connection) => drop(connection.closed().await),
            Self::Tcp(connection) => connection.closed().await,
        }
    }

    /// After a close, waits until the other side was told, or does not listen. By QUIC the endpoint
    /// sees to that.
    pub async fn finished(&self) {
        match self {
            Self::Quic(_) => (),
            Self::Tcp(connection) => connection.finished().await,
        }
    }
}

/// Reads the messages of a control stream.
#[derive(Debug)]
pub enum LinkReader {
    /// Of QUIC.
    Quic(FrameReader),
    /// Of TLS over TCP.
    Tcp(TcpReader),
}

impl LinkReader {
    /// Sets the largest frame accepted from the next one on, in bytes of type and body.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        match self {
            Self::Quic(reader) => reader.set_max_bytes(max_bytes),
            Self::Tcp(reader) => reader.set_max_bytes(max_bytes),
        }
    }

    /// The next message of a type that `M` knows; `None` once the other side has ended the stream.
    ///
    /// # Errors
    ///
    /// See [`LinkError`]; the connection is of no further use.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; what was read of a frame is kept for the next call.
    pub async fn recv<M: Message>(&mut self) -> Result<Option<M>, LinkError> {
        match self {
            Self::Quic(reader) => Ok(reader.recv().await?),
            Self::Tcp(reader) => reader.recv().await,
        }
    }
}

/// Writes messages to a control stream.
#[derive(Debug)]
pub enum LinkWriter {
    /// Of QUIC.
    Quic(FrameWriter),
    /// Of TLS over TCP.
    Tcp(TcpWriter),
}

impl LinkWriter {
    /// Writes one message. It is on its way when this returns, not yet received.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    ///
    /// # Cancel safety
    ///
    /// None: half a frame may have been written, so the stream is of no further use.
    pub async fn send<M: Message>(&mut self, message: &M) -> Result<(), SendError> {
        match self {
            Self::Quic(writer) => writer.send(message).await,
            Self::Tcp(writer) => writer.send(message).await,
        }
    }
}
