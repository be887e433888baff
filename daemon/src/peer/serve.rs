//! Answers one request of a peer.
//!
//! Bytes of files are read on threads that may block, a piece at a time, so that a peer that reads
//! slowly holds one piece and not a chunk, and only while there is room for it ([`crate::memory`]). The
//! first piece is read before the answer is given: a file that changed is then refused in words, and
//! later on by resetting the stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use warren_net::{Connection, FrameReader, FrameWriter, IDLE_WINDOW_BYTES};
use warren_proto::id::PublicKey;
use warren_proto::limits;
use warren_proto::transfer::engine::UploadId;
use warren_proto::wire::{NoReason, Part, PeerAnswer, PeerRequest};

use super::session::SessionId;
use super::{Close, Common, count};
use crate::hands;
use crate::memory::{Memory, Sending};
use crate::node::{Asked, NodeEvent, NodeSender, Turn};
use crate::pace::{Pace, Passage};
use crate::share::offer::{Offer, Piece, Unserved};

/// How long a peer may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request may come before its join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a peer may take to accept one piece. Long, because a slow uplink with many askers has
/// the whole send window before it; who no longer wants the bytes stops the stream.
const PIECE_TIMEOUT: Duration = Duration::from_secs(600);

/// Bytes of a list written at once.
const LIST_PIECE_BYTES: usize = 256 * 1024;

/// Why an answer ended early. Nobody is told but the peer, whose stream is reset.
struct Abandoned;

/// Who asks, and all that answering takes.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    /// The peer.
    pub(super) peer: PublicKey,
    /// Its connection.
    pub(super) session: SessionId,
    /// What it may ask for.
    pub(super) common: Arc<Common>,
    /// Turns of what is not bytes of chunks: the node gives those.
    pub(super) turns: Arc<Semaphore>,
    /// The node.
    pub(super) node: NodeSender,
    /// Keeps to limits.
    pub(super) pace: Arc<Pace>,
    /// What may be in memory because of peers.
    pub(super) memory: Arc<Memory>,
    /// What the answer goes by.
    pub(super) connection: Connection,
}

/// Answers the one request of this stream.
pub(super) async fn serve(send: SendStream, receive: RecvStream, asker: Asker) {
    let mut reader = FrameReader::new(receive);
    reader.set_max_bytes(limits::HELLO_BYTES);
    let Ok(Ok(Some(request))) = timeout(REQUEST_TIMEOUT, reader.recv::<PeerRequest>()).await else {
        return;
    };
    // A peer may ask in the same breath in which it joins; its join comes on another stream.
    let offered = asker.common.until_offered(alias_of(&request));
    let _ = timeout(JOIN_TIMEOUT, offered).await;
    let mut answer = Answer {
        writer: FrameWriter::new(send),
        asker,
        sending: None,
    };
    let given = async {
        answer.give(request).await?;
        answer.until_acknowledged().await
    };
    if given.await.is_err() {
        // The peer learns that no more comes; that it was told nothing wrong is what matters.
        let code = VarInt::from_u32(Close::Done.code());
        let _ = answer.writer.stream().reset(code);
    }
}

fn alias_of(request: &PeerRequest) -> u32 {
    match request {
        PeerRequest::Chunk { alias, .. }
        | PeerRequest::Hashes { alias, .. }
        | PeerRequest::Grains { alias, .. } => *alias,
    }
}

struct Answer {
    writer: FrameWriter,
    asker: Asker,
    /// What it takes of the send windows, once there is something to send.
    sending: Option<Sending>,
}

impl Answer {
    async fn give(&mut self, request: PeerRequest) -> Result<(), Abandoned> {
        let Some(offer) = self.asker.common.offered(alias_of(&request)) else {
            return self.refuse(NoReason::Unknown).await;
        };
        match request {
            PeerRequest::Chunk {
                part: Part::Content,
                chunk,
                offset,
                len,
                ..
            } => match offer.wanted(chunk, offset, len) {
                Ok(wanted) => self.give_in_turn(offer, wanted).await,
                Err(unserved) => self.explain(&offer, unserved).await,
            },
            other => self.give_metadata(offer, other).await,
        }
    }

    async fn give_metadata(
        &mut self,
        offer: Arc<Offer>,
        request: PeerRequest,
    ) -> Result<(), Abandoned> {
        let turns = self.asker.turns.clone();
        let Ok(_turn) = turns.acquire().await else {
            return Err(Abandoned);
        };
        let room = self.asker.memory.pieces.take_grain();
        let room = unless_stopped(self.writer.stream(), room).await?;
        let read = move |offer: &Offer| match request {
            PeerRequest::Grains {
                part: Part::Content,
                chunk,
                ..
            } => offer.grains(chunk),
            other => offer.metadata(&other),
        };
        let bytes = blocking(offer.clone(), read).await;
        // A list is short, or the same for all who ask for it: who does not read it takes no room.
        drop(room);
        self.give_bytes(&offer, bytes).await
    }

    /// Gives bytes of a chunk once the node says that it is its turn.
    async fn give_in_turn(&mut self, offer: Arc<Offer>, wanted: Piece) -> Result<(), Abandoned> {
        let upload = self.asker.node.next_upload();
        let (turn, given) = oneshot::channel();
        let (chunk, _, bytes) = wanted;
        let asked = Asked {
            upload,
            peer: self.asker.peer,
            session: self.asker.session,
            swarm: offer.swarm,
            chunk,
            bytes,
            turn,
        };
        self.asker.node.send(NodeEvent::Asked(asked)).await;
        let stopped = self.writer.stream().stopped();
        let given = tokio::select! {
            given = given => given,
            _ = stopped => return self.end_turn(upload, Err(Abandoned)).await,
        };
        let answered = match given {
            Ok(Turn::Serve) => self.give_chunk(offer, upload, wanted).await,
            Ok(Turn::Deny) => self.refuse(NoReason::NotHere).await,
            Err(_) => self.refuse(NoReason::Busy).await,
        };
        self.end_turn(upload, answered).await
    }

    async fn end_turn(
        &mut self,
        upload: UploadId,
        answered: Result<(), Abandoned>,
    ) -> Result<(), Abandoned> {
        self.asker.node.send(NodeEvent::Answered { upload }).await;
        answered
    }

    /// Gives the bytes as they are there: at once, or grain by grain while they come.
    async fn give_chunk(
        &mut self,
        offer: Arc<Offer>,
        upload: UploadId,
        wanted: Piece,
    ) -> Result<(), Abandoned> {
        let passage = Passage::new(&self.asker.pace, offer.swarm);
        let pieces = &self.asker.memory.pieces;
        let room = async {
            match offer.has(wanted.0) {
                true => pieces.take().await,
                // Grains of what is only coming are passed on one by one.
                false => pieces.take_grain().await,
            }
        };
        let room = unless_stopped(self.writer.stream(), room).await?;
        let mut begun = false;
        for piece in offer.pieces(wanted, room.bytes()) {
            match self.read(&offer, piece).await? {
                Ok(parts) => {
                    if !begun {
                        let bytes = wanted.2.into();
                        self.begin_sending(bytes);
                        self.say(PeerAnswer::Data { bytes }).await?;
                        begun = true;
                    }
                    for part in parts {
                        self.write(&passage, part).await?;
                    }
                    let bytes = piece.2;
                    let sent = NodeEvent::Sent { upload, bytes };
                    self.asker.node.send(sent).await;
                }
                Err(unserved) if begun => {
                    self.note(&offer, &unserved).await;
                    return Err(Abandoned);
                }
                Err(unserved) => return self.explain(&offer, unserved).await,
            }
        }
        Ok(())
    }

    /// Reads a piece from the files, or from what is on its way to us.
    async fn read(
        &mut self,
        offer: &Arc<Offer>,
        (chunk, offset, len): Piece,
    ) -> Result<Result<Vec<Bytes>, Unserved>, Abandoned> {
        if !offer.has(chunk)
            && let Some(arrival) = offer.arrival(chunk)
        {
            let come = arrival.read(offset, len);
            if let Some(parts) = unless_stopped(self.writer.stream(), come).await? {
                return Ok(Ok(parts));
            }
        }
        let buffer = self.asker.memory.buffers.take(len as usize);
        let read = move |offer: &Offer| offer.read((chunk, offset, len), buffer);
        let read = blocking(offer.clone(), read).await;
        Ok(read.map(|bytes| vec![bytes]))
    }

    async fn give_bytes(
        &mut self,
        offer: &Arc<Offer>,
        bytes: Result<Bytes, Unserved>,
    ) -> Result<(), Abandoned> {
        match bytes {
            Ok(bytes) => {
                let len = bytes.len() as u64;
                self.begin_sending(len);
                self.say(PeerAnswer::Data { bytes: len }).await?;
                let passage = Passage::new(&self.asker.pace, offer.swarm);
                let mut rest = bytes;
                while !rest.is_empty() {
                    let piece = rest.split_to(rest.len().min(LIST_PIECE_BYTES));
                    self.write(&passage, piece).await?;
                }
                Ok(())
            }
            Err(unserved) => self.explain(offer, unserved).await,
        }
    }

    async fn explain(&mut self, offer: &Arc<Offer>, unserved: Unserved) -> Result<(), Abandoned> {
        self.note(offer, &unserved).await;
        self.refuse(offer.reason(&unserved)).await
    }

    /// Tells the node of a share that can no longer be served.
    async fn note(&self, offer: &Arc<Offer>, unserved: &Unserved) {
        if let Unserved::Broken(error) = unserved {
            self.asker
                .node
                .send(NodeEvent::OfferBroken {
                    offer: offer.clone(),
                    error: error.clone(),
                })
                .await;
        }
    }

    async fn refuse(&mut self, reason: NoReason) -> Result<(), Abandoned> {
        self.say(PeerAnswer::No { reason }).await
    }

    async fn say(&mut self, answer: PeerAnswer) -> Result<(), Abandoned> {
        let said = timeout(PIECE_TIMEOUT, self.writer.send(&answer)).await;
        said.map_err(|_| Abandoned)?.map_err(|_| Abandoned)
    }

    /// Writes as the limits allow.
    async fn write(&mut self, passage: &Passage, mut bytes: Bytes) -> Result<(), Abandoned> {
        while !bytes.is_empty() {
            let may = self.may_send(passage, bytes.len() as u32).await?;
            let part = bytes.split_to(bytes.len().min(may as usize));
            let len = part.len();
            self.sending.iter().for_each(Sending::begin_write);
            let written = timeout(PIECE_TIMEOUT, self.writer.stream().write_chunk(part)).await;
            written.map_err(|_| Abandoned)?.map_err(|_| Abandoned)?;
            self.sending.iter().for_each(Sending::end_write);
            count(&self.asker.common.up_bytes, len);
        }
        Ok(())
    }

    /// Takes part in the send windows, unless a window that is always there will do.
    fn begin_sending(&mut self, bytes: u64) {
        let Asker {
            memory,
            session,
            connection,
            ..
        } = &self.asker;
        let is_long = bytes > u64::from(IDLE_WINDOW_BYTES);
        self.sending = is_long.then(|| memory.sends.begin(*session, connection));
    }

    /// What was written is in memory until the peer has acknowledged it, or wants no more of it.
    async fn until_acknowledged(&mut self) -> Result<(), Abandoned> {
        let stream = self.writer.stream();
        if self.sending.is_none() || stream.finish().is_err() {
            return Ok(());
        }
        self.sending.iter().for_each(Sending::begin_write);
        match timeout(PIECE_TIMEOUT, stream.stopped()).await {
            Ok(Ok(None)) => Ok(()),
            _ => Err(Abandoned),
        }
    }

    /// How much may be sent now, at least one byte; waits for that, unless the peer gives up.
    async fn may_send(&mut self, passage: &Passage, bytes: u32) -> Result<u32, Abandoned> {
        let may = passage.send(&self.asker.connection, bytes);
        unless_stopped(self.writer.stream(), may).await
    }
}

/// Waits for something, unless the peer gives up what it asked for.
async fn unless_stopped<T>(
    stream: &mut SendStream,
    wanted: impl Future<Output = T>,
) -> Result<T, Abandoned> {
    let stopped = stream.stopped();
    tokio::select! {
        biased;
        wanted = wanted => Ok(wanted),
        _ = stopped => Err(Abandoned),
    }
}

async fn blocking<T: Send + 'static>(
    offer: Arc<Offer>,
    read: impl FnOnce(&Offer) -> Result<T, Unserved> + Send + 'static,
) -> Result<T, Unserved> {
    let read = hands::work(move || read(&offer)).await;
    read.unwrap_or(Err(Unserved::NotHere))
}
