//! One connection to a peer: hello both ways, then control messages to and from the node, and a
//! task for each thing the peer asks for.
//!
//! We may speak before the peer has proven its key, and listen only after that.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use warren_net::{Connection, FrameError, FrameReader, FrameWriter, SendError};
use warren_proto::limits;
use warren_proto::wire::tracker::VERSION;
use warren_proto::wire::{Hello, PeerMessage};

use super::serve::{self, Asker};
use super::{Close, Common};
use crate::memory::Memory;
use crate::node::{NodeEvent, NodeSender};
use crate::pace::Pace;

/// How long a peer may take to open its control stream and say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests for hashes and the like answered at once; the others wait in their order.
const ANSWERED_AT_ONCE: usize = 4;

/// What a session says first, and where it reports.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    /// [`Hello::features`] of ours.
    pub(crate) features: u64,
    /// Hears what the peer says.
    pub(crate) node: NodeSender,
    /// Keeps to limits.
    pub(crate) pace: Arc<Pace>,
    /// What may be in memory because of peers.
    pub(crate) memory: Arc<Memory>,
}

/// Which of the connections with a peer something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) u64);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("no hello within {} s", HELLO_TIMEOUT.as_secs())]
    NoHello,
    #[error("something else came in place of a hello")]
    NotHello,
    #[error("the connection was lost")]
    Connection(#[from] quinn::ConnectionError),
    #[error("cannot read from the peer")]
    Read(#[from] FrameError),
    #[error("cannot write to the peer")]
    Write(#[from] SendError),
    #[error("the peer ended its control stream")]
    Ended,
}

impl SessionError {
    /// Whose fault it was, as the peer is told.
    fn close(&self) -> Close {
        match self {
            SessionError::Connection(_) | SessionError::Write(_) | SessionError::Ended => {
                Close::Done
            }
            SessionError::NoHello | SessionError::NotHello | SessionError::Read(_) => {
                Close::Protocol
            }
        }
    }
}

/// Serves one connection until it ends, then tells the node.
pub(crate) async fn run(
    connection: Connection,
    id: SessionId,
    common: Arc<Common>,
    out: mpsc::Receiver<PeerMessage>,
    voice: Voice,
) {
    let node = voice.node.clone();
    let peer = connection.peer_key();
    let close = match talk(&connection, id, &common, out, &voice).await {
        Ok(()) => Close::Done,
        Err(error) => {
            let close = error.close();
            let error: &dyn std::error::Error = &error;
            tracing::debug!(%peer, error, "peer session ended");
            close
        }
    };
    connection.close(close.code(), close.reason());
    node.send(NodeEvent::PeerClosed { peer, session: id }).await;
}

async fn talk(
    connection: &Connection,
    id: SessionId,
    common: &Arc<Common>,
    out: mpsc::Receiver<PeerMessage>,
    voice: &Voice,
) -> Result<(), SessionError> {
    let node = &voice.node;
    let speak = async {
        let opening = timeout(HELLO_TIMEOUT, open(connection, voice.features)).await;
        write(opening.map_err(|_| SessionError::NoHello)??, out).await
    };
    let listen = async {
        common.until_proven().await;
        tokio::select! {
            ended = read(connection, id, node) => ended,
            ended = answer(connection, id, common, voice) => ended,
        }
    };
    tokio::select! {
        ended = speak => ended,
        ended = listen => ended,
        lost = connection.closed() => Err(lost.into()),
    }
}

/// Opens our control stream and says hello. What follows need not wait for the other hello.
async fn open(connection: &Connection, features: u64) -> Result<FrameWriter, SessionError> {
    let mut writer = FrameWriter::new(connection.quinn().open_uni().await?);
    // Before everything else that we send later on this connection.
    let _ = writer.stream().set_priority(1);
    let hello = Hello {
        version: VERSION,
        features,
    };
    writer.send(&PeerMessage::Hello(hello)).await?;
    Ok(writer)
}

/// The peer's control stream; its hello must be the first that it says.
async fn greeted(connection: &Connection) -> Result<(FrameReader, PeerMessage), SessionError> {
    let mut reader = FrameReader::new(connection.quinn().accept_uni().await?);
    reader.set_max_bytes(limits::HELLO_BYTES);
    match reader.recv().await? {
        Some(hello @ PeerMessage::Hello(_)) => {
            reader.set_max_bytes(limits::FRAME_BYTES);
            Ok((reader, hello))
        }
        _ => Err(SessionError::NotHello),
    }
}

async fn read(
    connection: &Connection,
    session: SessionId,
    node: &NodeSender,
) -> Result<(), SessionError> {
    let peer = connection.peer_key();
    let (mut reader, hello) = timeout(HELLO_TIMEOUT, greeted(connection))
        .await
        .map_err(|_| SessionError::NoHello)??;
    let mut said = Some(hello);
    while let Some(message) = said {
        node.send(NodeEvent::PeerSaid {
            peer,
            session,
            message,
        })
        .await;
        said = reader.recv().await?;
    }
    Err(SessionError::Ended)
}

/// Ends well when the node lets go of the session.
async fn write(
    mut writer: FrameWriter,
    mut out: mpsc::Receiver<PeerMessage>,
) -> Result<(), SessionError> {
    while let Some(message) = out.recv().await {
        writer.send(&message).await?;
    }
    Ok(())
}

/// Answers requests; their number is bounded by the streams that QUIC lets the peer open.
async fn answer(
    connection: &Connection,
    session: SessionId,
    common: &Arc<Common>,
    voice: &Voice,
) -> Result<(), SessionError> {
    let asker = Asker {
        peer: connection.peer_key(),
        session,
        common: common.clone(),
        turns: Arc::new(Semaphore::new(ANSWERED_AT_ONCE)),
        node: voice.node.clone(),
        pace: voice.pace.clone(),
        memory: voice.memory.clone(),
        connection: connection.clone(),
    };
    let mut answers = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.quinn().accept_bi() => {
                let (send, receive) = stream?;
                answers.spawn(serve::serve(send, receive, asker.clone()));
            }
            Some(_) = answers.join_next() => (),
        }
    }
}
