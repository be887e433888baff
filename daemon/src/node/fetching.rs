//! One request of ours, from asking to what came of it; and passing on what it brings as it comes.

use std::sync::Arc;

use warren_net::Connection;
use warren_proto::content::ChunkIndex;
use warren_proto::id::SwarmId;
use warren_proto::transfer::RequestId;
use warren_proto::transfer::engine::is_passable;
use warren_proto::wire::{Part, PeerRequest};

use super::peers::reach_of;
use super::{Fetched, NodeSender, ShareEvent};
use crate::control::model::ApiError;
use crate::hands;
use crate::pace::Passage;
use crate::peer::fetch::{FetchError, Taker, fetch};
use crate::peer::{Common, count};
use crate::share::arrival::{Arrival, Ending};
use crate::share::writer::{Stored, Writer};
use crate::share::{Epoch, Task};
use crate::store::segments::Segments;

/// Length of a hash.
const HASH_BYTES: u64 = 32;

/// A request for a chunk, with all that carrying it out takes.
pub(super) struct Order {
    pub(super) connection: Connection,
    pub(super) common: Arc<Common>,
    pub(super) writer: Arc<Writer>,
    pub(super) passage: Passage,
    /// What others may have of it as it comes.
    pub(super) arrival: Arc<Arrival>,
    pub(super) alias: u32,
    pub(super) request: RequestId,
    pub(super) chunk: ChunkIndex,
    pub(super) len: u32,
    pub(super) swarm: SwarmId,
    pub(super) epoch: Epoch,
    pub(super) node: NodeSender,
}

/// A request under way, which ends when this is dropped.
pub(crate) struct Fetch {
    order: Arc<Order>,
    _chunk: Task,
    grains: Option<Task>,
}

/// Bytes of a chunk as they come.
struct Incoming<'a> {
    order: &'a Order,
    bytes: Segments,
    is_passable: bool,
}

impl std::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fetch({})", self.order.chunk.value())
    }
}

impl Fetch {
    /// Begins to carry it out.
    pub(super) fn start(order: Order) -> Fetch {
        let order = Arc::new(order);
        let task = tokio::spawn(Arc::clone(&order).carry_out());
        Fetch {
            order,
            _chunk: Task(task.abort_handle()),
            grains: None,
        }
    }

    /// Lets others have what comes, once the grain list is there by which it can be verified.
    pub(super) fn pass_on(&mut self) {
        let order = &self.order;
        self.grains.get_or_insert_with(|| {
            let task = tokio::spawn(Arc::clone(order).learn_grains());
            Task(task.abort_handle())
        });
    }
}

impl Order {
    async fn carry_out(self: Arc<Self>) {
        let outcome = self.outcome().await;
        self.tell(ShareEvent::Fetched {
            request: self.request,
            outcome,
        })
        .await;
    }

    async fn outcome(&self) -> Fetched {
        let request = PeerRequest::Chunk {
            alias: self.alias,
            part: Part::Content,
            chunk: self.chunk.value(),
            offset: 0,
            len: self.len,
        };
        let _asked = self.common.ask();
        let _ending = Ending(self.arrival.clone());
        let mut incoming = Incoming {
            order: self,
            bytes: Segments::new(self.len as usize),
            is_passable: false,
        };
        let len = self.len.into();
        let fetched = fetch(
            &self.connection,
            &request,
            len,
            &self.passage,
            &mut incoming,
        );
        match fetched.await {
            Ok(()) => self.store(incoming.bytes).await,
            Err(FetchError::Refused(reason)) => Fetched::Refused(reason),
            Err(FetchError::Length { .. } | FetchError::Wrong) => Fetched::Corrupt,
            Err(_) if self.common.is_replaced() => Fetched::Withdrawn,
            Err(error) => {
                self.log(&error, "chunk not fetched");
                Fetched::Failed
            }
        }
    }

    async fn store(&self, bytes: Segments) -> Fetched {
        let (writer, chunk) = (self.writer.clone(), self.chunk);
        match hands::work(move || writer.store(chunk, &bytes)).await {
            Some(Ok(Stored::Verified)) => Fetched::Verified,
            Some(Ok(Stored::Corrupt)) => Fetched::Corrupt,
            Some(Err(error)) => Fetched::Disk(ApiError::from(&error)),
            None => Fetched::Failed,
        }
    }

    /// Fetches the grain list. Without it the chunk is passed on once it is whole.
    async fn learn_grains(self: Arc<Self>) {
        let content = &self.writer.offer.content;
        let count = content.layout.grains(self.chunk).len() as u64;
        let request = PeerRequest::Grains {
            alias: self.alias,
            part: Part::Content,
            chunk: self.chunk.value(),
        };
        let (len, mut list) = (count * HASH_BYTES, Vec::new());
        let fetched = fetch(&self.connection, &request, len, &self.passage, &mut list).await;
        match fetched {
            Ok(()) if self.arrival.learn(content, self.chunk, list) => {
                self.writer.offer.pass_on(self.chunk, &self.arrival);
            }
            Ok(()) => self.log(&FetchError::Wrong, "grain list not taken"),
            Err(error) => self.log(&error, "grain list not fetched"),
        }
    }

    fn log(&self, error: &FetchError, what: &str) {
        let error: &dyn std::error::Error = error;
        tracing::debug!(peer = %self.connection.peer_key(), error, "{what}");
    }

    async fn tell(&self, event: ShareEvent) {
        self.node.send_share(self.swarm, self.epoch, event).await;
    }
}

impl Taker for Incoming<'_> {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes.append(bytes);
    }

    async fn look(&mut self) -> Result<(), FetchError> {
        let order = self.order;
        let verified = order.arrival.advance(&self.bytes);
        let verified = verified.map_err(|_| FetchError::Wrong)?;
        if !self.is_passable && is_passable(verified, order.len) {
            self.is_passable = true;
            let request = order.request;
            order.tell(ShareEvent::Passable { request }).await;
        }
        Ok(())
    }

    async fn woken(&self) {
        self.order.arrival.learnt().await;
    }

    async fn report(&self, bytes: u32) {
        let order = self.order;
        count(&order.common.down_bytes, bytes as usize);
        order
            .tell(ShareEvent::Received {
                request: order.request,
                bytes,
                reach: reach_of(order.connection.class()),
            })
            .await;
    }
}
