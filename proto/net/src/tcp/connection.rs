//! An authenticated connection by TLS over TCP, and the one task that writes to it.
//!
//! Whoever talks on the connection reads from it directly ([`TcpReader`]). Everything that leaves
//! goes through one task: messages first, then relayed datagrams a few at a time, pings where
//! nothing else was sent, and a close as the last frame. Queues are bounded: messages wait for
//! room, datagrams are dropped. A receiver that stops reading stops the task, which gives up after
//! [`WRITE_TIMEOUT`]; nothing grows meanwhile.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsStream;

use warren_proto::id::{PublicKey, RelayId};
use warren_proto::wire::link::encode_datagram;
use warren_proto::wire::{self, LinkFrame, Message, OnLink};

use crate::frames::{FrameReader, SendError};
use crate::link::LinkError;
use crate::socket::Relayed;
use crate::tls::{Protocol, key_of};

/// How long to say nothing before saying that we are there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Without any frame for so long, the other side is gone: two pings may be late.
const SILENCE: Duration = Duration::from_secs(60);

/// How long one frame may take to leave. Who does not read for so long has stopped reading.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the last frame may take, what was begun before it included.
const FAREWELL: Duration = Duration::from_secs(1);

/// Messages that wait for the task. Most are under a kilobyte, one is 64 KiB at most.
const MESSAGES: usize = 4;

/// Datagrams that wait in each direction: 190 KiB at most, 15 ms of a 100 Mbit/s line.
const DATAGRAMS: usize = 128;

/// Datagrams written at once, which a message may have to wait for: less than a TLS record.
const DATAGRAMS_AT_ONCE: usize = 8;

/// Both directions of relayed datagrams on one connection.
#[derive(Debug)]
pub struct Tunnel {
    /// What is to go out; with no room in the queue, a datagram is to be dropped.
    pub outgoing: mpsc::Sender<Relayed>,
    /// What has come in. Where nobody empties it, what comes is dropped.
    pub incoming: mpsc::Receiver<Relayed>,
}

/// A connection to a tracker or a daemon by TLS over TCP; the key at its other end is proven.
///
/// Clones are handles on the same connection; it closes with code 0 when the last one is dropped.
#[derive(Clone)]
pub struct TcpConnection(Arc<Inner>);

struct Inner {
    peer_key: PublicKey,
    remote: SocketAddr,
    rtt: Duration,
    closing: watch::Sender<Option<u32>>,
    /// Ends when the writing task does.
    over: watch::Receiver<()>,
    ends: Mutex<Option<(TcpReader, TcpWriter)>>,
    outgoing: mpsc::Sender<Relayed>,
    incoming: Arc<Incoming>,
}

/// Where relayed datagrams go that come in.
#[derive(Debug, Default)]
struct Incoming {
    taker: OnceLock<mpsc::Sender<Relayed>>,
    dropped: AtomicU64,
}

impl TcpConnection {
    /// Wraps a stream whose handshake is over; `None` if the other side has no key or speaks
    /// another protocol.
    pub(super) fn start(
        stream: TlsStream<TcpStream>,
        remote: SocketAddr,
        rtt: Duration,
    ) -> Option<Self> {
        let (_, tls) = stream.get_ref();
        let peer_key = key_of(tls.peer_certificates()?.first()?)?;
        if Protocol::from_alpn(tls.alpn_protocol()?)? != Protocol::Tracker {
            return None;
        }
        let (read, write) = split(stream);
        let (closing, close) = watch::channel(None);
        let (alive, over) = watch::channel(());
        let (messages, queued) = mpsc::channel(MESSAGES);
        let (outgoing, datagrams) = mpsc::channel(DATAGRAMS);
        let incoming = Arc::<Incoming>::default();
        let task = Writing {
            stream: write,
            close,
            messages: queued,
            datagrams,
        };
        tokio::spawn(async move {
            task.run().await;
            drop(alive);
        });
        let reader = TcpReader {
            frames: FrameReader::new(read),
            heard: Instant::now(),
            incoming: Arc::clone(&incoming),
        };
        let writer = TcpWriter { messages };
        Some(Self(Arc::new(Inner {
            peer_key,
            remote,
            rtt,
            closing,
            over,
            ends: Mutex::new(Some((reader, writer))),
            outgoing,
            incoming,
        })))
    }

    /// The key that the other side has proven to hold.
    pub fn peer_key(&self) -> PublicKey {
        self.0.peer_key
    }

    /// Where the other side is, canonical. Its port is one of TCP.
    pub fn remote_address(&self) -> SocketAddr {
        self.0.remote
    }

    /// The round-trip time, as measured when the connection was made.
    pub fn rtt(&self) -> Duration {
        self.0.rtt
    }

    /// The two directions of the control stream, once; `None` afterwards.
    pub fn take_control(&self) -> Option<(TcpReader, TcpWriter)> {
        let mut ends = self.0.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.take()
    }

    /// The way of relayed datagrams, once; `None` afterwards. Before, those that come are dropped.
    pub fn take_tunnel(&self) -> Option<Tunnel> {
        let (taker, incoming) = mpsc::channel(DATAGRAMS);
        self.0.incoming.taker.set(taker).ok()?;
        let outgoing = self.0.outgoing.clone();
        Some(Tunnel { outgoing, incoming })
    }

    /// Relayed datagrams that came in and found no room, or nobody.
    pub fn datagrams_dropped(&self) -> u64 {
        self.0.incoming.dropped.load(Ordering::Relaxed)
    }

    /// Closes with this code, unless closed before. What was not sent yet is abandoned.
    pub fn close(&self, code: u32) {
        self.0.closing.send_if_modified(|closing| {
            let is_first = closing.is_none();
            closing.get_or_insert(code);
            is_first
        });
    }

    /// Waits until it was [closed](Self::close) here, or cannot be written to any more.
    pub async fn closed(&self) {
        let mut closing = self.0.closing.subscribe();
        tokio::select! {
            _ = closing.wait_for(Option::is_some) => (),
            () = self.finished() => (),
        }
    }

    /// Waits until the other side was told of a [`close`](Self::close), or does not listen.
    pub async fn finished(&self) {
        let mut over = self.0.over.clone();
        while over.changed().await.is_ok() {}
    }
}

impl fmt::Debug for TcpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpConnection")
            .field("peer_key", &self.0.peer_key)
            .field("remote", &self.0.remote)
            .field("rtt", &self.0.rtt)
            .finish_non_exhaustive()
    }
}

/// Reads the messages of a connection. Frames of the connection itself are dealt with on the way.
#[derive(Debug)]
pub struct TcpReader {
    frames: FrameReader<ReadHalf<TlsStream<TcpStream>>>,
    heard: Instant,
    incoming: Arc<Incoming>,
}

impl TcpReader {
    /// Sets the largest frame accepted from the next one on, in bytes of type and body.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        self.frames.set_max_bytes(max_bytes);
    }

    /// The next message of a type that `M` knows; `None` once the other side has ended its
    /// direction.
    ///
    /// # Errors
    ///
    /// See [`LinkError`]; the connection is of no further use.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; what was read of a frame is kept for the next call.
    pub async fn recv<M: Message>(&mut self) -> Result<Option<M>, LinkError> {
        loop {
            let receiving = self.frames.recv::<OnLink<M>>();
            let received = timeout_at(self.heard + SILENCE, receiving)
                .await
                .map_err(|_| LinkError::Silent(SILENCE))??;
            self.heard = Instant::now();
            match received {
                None => return Ok(None),
                Some(OnLink::Message(message)) => return Ok(Some(message)),
                Some(OnLink::Link(LinkFrame::Close { code })) => {
                    return Err(LinkError::Closed { code });
                }
                Some(OnLink::Link(LinkFrame::Ping)) => (),
                Some(OnLink::Link(LinkFrame::Datagram { relay, payload })) => {
                    self.incoming.take_in(relay, payload).await;
                }
            }
        }
    }
}

impl Incoming {
    /// After a loss TCP hands over a whole window at once, so whoever empties the queue gets to run
    /// once more before something is dropped.
    async fn take_in(&self, id: RelayId, payload: Vec<u8>) {
        let bytes = payload.into();
        let mut refused = Some(Relayed { id, bytes });
        if let Some(taker) = self.taker.get() {
            refused = offer(taker, refused);
            if refused.is_some() {
                tokio::task::yield_now().await;
                refused = offer(taker, refused);
            }
        }
        if refused.is_some() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Gives it back where there is no room.
fn offer(taker: &mpsc::Sender<Relayed>, relayed: Option<Relayed>) -> Option<Relayed> {
    let refused = taker.try_send(relayed?).err()?;
    Some(refused.into_inner())
}

/// Writes messages to a connection.
#[derive(Debug)]
pub struct TcpWriter {
    messages: mpsc::Sender<Vec<u8>>,
}

impl TcpWriter {
    /// Queues one message; waits for room.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the message is sent whole or not at all.
    pub async fn send<M: Message>(&mut self, message: &M) -> Result<(), SendError> {
        let sent = self.messages.send(wire::encode(message)).await;
        sent.map_err(|_| io::Error::new(io::ErrorKind::NotConnected, "it is closed").into())
    }
}

/// The task that writes.
struct Writing {
    stream: WriteHalf<TlsStream<TcpStream>>,
    close: watch::Receiver<Option<u32>>,
    messages: mpsc::Receiver<Vec<u8>>,
    datagrams: mpsc::Receiver<Relayed>,
}

impl Writing {
    async fn run(mut self) {
        let mut close = self.close.clone();
        let overdue = async move {
            closing(&mut close).await;
            sleep(FAREWELL).await;
        };
        tokio::select! {
            written = self.write_until_closed() => if let Err(error) = written {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "a tcp connection broke");
            },
            () = overdue => tracing::debug!("a tcp connection did not take its close"),
        }
    }

    async fn write_until_closed(&mut self) -> io::Result<()> {
        loop {
            match self.next().await {
                Next::Frames(frames) => self.write(&frames).await?,
                Next::Close(code) => {
                    self.write(&wire::encode(&LinkFrame::Close { code }))
                        .await?;
                    return self.stream.shutdown().await;
                }
            }
        }
    }

    /// What to write next.
    async fn next(&mut self) -> Next {
        tokio::select! {
            biased;
            code = closing(&mut self.close) => Next::Close(code),
            Some(message) = self.messages.recv() => Next::Frames(message),
            Some(datagram) = self.datagrams.recv() => Next::Frames(self.batch(&datagram)),
            () = sleep(PING_INTERVAL) => Next::Frames(wire::encode(&LinkFrame::Ping)),
        }
    }

    /// The frames of this datagram and a few more that wait.
    fn batch(&mut self, first: &Relayed) -> Vec<u8> {
        let mut frames = Vec::new();
        append(first, &mut frames);
        for _ in 1..DATAGRAMS_AT_ONCE {
            match self.datagrams.try_recv() {
                Ok(datagram) => append(&datagram, &mut frames),
                Err(_) => break,
            }
        }
        frames
    }

    async fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        let writing = async {
            self.stream.write_all(frames).await?;
            // Otherwise TLS could keep the end of it to itself.
            self.stream.flush().await
        };
        let written = timeout(WRITE_TIMEOUT, writing).await;
        written.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it is not read"))?
    }
}

/// Waits until it is to be closed, and says with which code.
async fn closing(close: &mut watch::Receiver<Option<u32>>) -> u32 {
    let closing = close.wait_for(Option::is_some).await;
    // An error means that the last handle is gone, which closes too.
    closing.ok().and_then(|code| *code).unwrap_or(0)
}

enum Next {
    Frames(Vec<u8>),
    Close(u32),
}

fn append(datagram: &Relayed, frames: &mut Vec<u8>) {
    if !encode_datagram(datagram.id, &datagram.bytes, frames) {
        let bytes = datagram.bytes.len();
        tracing::debug!(bytes, "a datagram is too long to be relayed");
    }
}
