//! Answers one request of a peer.
//!
//! Bytes of files are read on threads that may block, a piece at a time, so that a peer that reads
//! slowly holds one piece and not a chunk. The first piece is read before the answer is given: a
//! file that changed is then refused in words, and later on by resetting the stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use warren_net::{FrameReader, FrameWriter};
use warren_proto::limits;
use warren_proto::wire::{NoReason, Part, PeerAnswer, PeerRequest};

use super::{Close, Common, count};
use crate::node::{NodeEvent, NodeSender};
use crate::share::offer::{Offer, Unserved};

/// How long a peer may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request may come before its join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a peer may take to accept one piece. Long, because a slow uplink with many askers has
/// the whole send window before it; who no longer wants the bytes stops the stream.
const PIECE_TIMEOUT: Duration = Duration::from_secs(600);

/// Bytes read from the disk at once, about.
const PIECE_BYTES: u32 = 256 * 1024;

/// Why an answer ended early. Nobody is told but the peer, whose stream is reset.
struct Abandoned;

/// Answers the one request of this stream.
pub(super) async fn serve(
    send: SendStream,
    receive: RecvStream,
    common: Arc<Common>,
    turns: Arc<Semaphore>,
    node: NodeSender,
) {
    let mut reader = FrameReader::new(receive);
    reader.set_max_bytes(limits::HELLO_BYTES);
    let Ok(Ok(Some(request))) = timeout(REQUEST_TIMEOUT, reader.recv::<PeerRequest>()).await else {
        return;
    };
    // A peer may ask in the same breath in which it joins; its join comes on another stream.
    let _ = timeout(JOIN_TIMEOUT, common.until_offered(alias_of(&request))).await;
    let Ok(_turn) = turns.acquire().await else {
        return;
    };
    let mut answer = Answer {
        writer: FrameWriter::new(send),
        common,
        node,
    };
    if answer.give(request).await.is_err() {
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
    common: Arc<Common>,
    node: NodeSender,
}

impl Answer {
    async fn give(&mut self, request: PeerRequest) -> Result<(), Abandoned> {
        let Some(offer) = self.common.offered(alias_of(&request)) else {
            return self.refuse(NoReason::Unknown).await;
        };
        match request {
            PeerRequest::Chunk {
                part: Part::Content,
                chunk,
                offset,
                len,
                ..
            } => self.give_chunk(offer, chunk, offset, len).await,
            PeerRequest::Grains {
                part: Part::Content,
                chunk,
                ..
            } => {
                let grains = blocking(offer.clone(), move |offer| offer.grains(chunk)).await;
                self.give_bytes(&offer, grains).await
            }
            other => {
                let bytes = blocking(offer.clone(), move |offer| offer.metadata(&other)).await;
                self.give_bytes(&offer, bytes).await
            }
        }
    }

    async fn give_chunk(
        &mut self,
        offer: Arc<Offer>,
        chunk: u32,
        offset: u32,
        len: u32,
    ) -> Result<(), Abandoned> {
        let pieces = match offer.pieces(chunk, offset, len, PIECE_BYTES) {
            Ok(pieces) => pieces,
            Err(unserved) => return self.explain(&offer, unserved).await,
        };
        let mut begun = false;
        for (chunk, offset, len) in pieces.iter().copied() {
            let read = move |offer: &Offer| offer.read(chunk, offset, len);
            match blocking(offer.clone(), read).await {
                Ok(bytes) => {
                    if !begun {
                        let bytes = pieces.iter().map(|&(_, _, len)| u64::from(len)).sum();
                        self.say(PeerAnswer::Data { bytes }).await?;
                        begun = true;
                    }
                    self.write(bytes.into()).await?;
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

    async fn give_bytes(
        &mut self,
        offer: &Arc<Offer>,
        bytes: Result<Bytes, Unserved>,
    ) -> Result<(), Abandoned> {
        match bytes {
            Ok(bytes) => {
                let len = bytes.len() as u64;
                self.say(PeerAnswer::Data { bytes: len }).await?;
                let mut rest = bytes;
                while !rest.is_empty() {
                    let piece = rest.split_to(rest.len().min(PIECE_BYTES as usize));
                    self.write(piece).await?;
                }
                Ok(())
            }
            Err(unserved) => self.explain(offer, unserved).await,
        }
    }

    async fn explain(&mut self, offer: &Arc<Offer>, unserved: Unserved) -> Result<(), Abandoned> {
        self.note(offer, &unserved).await;
        self.refuse(unserved.reason()).await
    }

    /// Tells the node of a share that can no longer be served.
    async fn note(&self, offer: &Arc<Offer>, unserved: &Unserved) {
        if let Unserved::Broken(error) = unserved {
            self.node
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

    async fn write(&mut self, bytes: Bytes) -> Result<(), Abandoned> {
        let len = bytes.len();
        let written = timeout(PIECE_TIMEOUT, self.writer.stream().write_chunk(bytes)).await;
        written.map_err(|_| Abandoned)?.map_err(|_| Abandoned)?;
        count(&self.common.up_bytes, len);
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    offer: Arc<Offer>,
    read: impl FnOnce(&Offer) -> Result<T, Unserved> + Send + 'static,
) -> Result<T, Unserved> {
    tokio::task::spawn_blocking(move || read(&offer))
        .await
        .unwrap_or(Err(Unserved::NotHere))
}
