//! Fetching: what the engine wants of a share is asked for here, and what came of it reported to it.

use std::sync::Arc;

use warren_net::Connection;
use warren_proto::content::ChunkIndex;
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::transfer::{Action, Download, Event, Reach, RequestId};
use warren_proto::wire::{Part, PeerRequest};

use super::peers::reach_of;
use super::{Fetched, Node, NodeSender, ShareEvent, Stopping};
use crate::control::model::ApiError;
use crate::pace::Passage;
use crate::peer::fetch::{FetchError, Progress, fetch};
use crate::peer::{Common, count};
use crate::share::metadata::{self, Question};
use crate::share::writer::{Stored, Writer};
use crate::share::{Active, Epoch, Phase, Share, Task};

/// A request for a chunk, with all that carrying it out takes.
struct Order {
    connection: Connection,
    common: Arc<Common>,
    writer: Arc<Writer>,
    passage: Passage,
    alias: u32,
    request: RequestId,
    chunk: ChunkIndex,
    len: u32,
    swarm: SwarmId,
    epoch: Epoch,
    node: NodeSender,
}

impl Node {
    /// Does what the share can do now.
    pub(super) fn advance_share(&mut self, swarm: SwarmId) {
        match self.shares.get(&swarm).map(|share| &share.phase) {
            Some(Phase::Downloading(_)) => {
                let download = self.download_of(&swarm);
                if download.is_some_and(Download::is_complete) {
                    self.finish(swarm);
                }
            }
            Some(Phase::Metadata(_)) => self.ask_metadata(swarm),
            // Once nobody watches it it rests.
            Some(_) => {
                let share = self.shares.get(&swarm);
                if share.is_some_and(|share| share.watchers.is_empty()) {
                    self.active.remove(&swarm);
                }
            }
            None => {
                self.active.remove(&swarm);
            }
        }
    }

    /// Does what is to be done to fetch a share.
    pub(super) fn carry_out(&mut self, swarm: SwarmId, action: Action) {
        match action {
            Action::Request {
                request,
                peer,
                chunk,
                len,
            } => self.start_fetch(swarm, peer, request, (chunk, len)),
            Action::Cancel { request } => {
                if let Some(active) = self.active_mut(swarm) {
                    active.fetches.remove(&request);
                }
            }
            Action::Ban { peer } => self.ban(swarm, peer),
        }
    }

    fn active_mut(&mut self, swarm: SwarmId) -> Option<&mut Active> {
        match &mut self.shares.get_mut(&swarm)?.phase {
            Phase::Downloading(active) => Some(active),
            _ => None,
        }
    }

    fn start_fetch(
        &mut self,
        swarm: SwarmId,
        key: PublicKey,
        request: RequestId,
        (chunk, len): (ChunkIndex, u32),
    ) {
        let node = self.me.clone();
        let joined = self.peers.get(&key);
        let joined = joined.and_then(|peer| Some((peer, peer.asks_as(&swarm)?)));
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let epoch = share.epoch;
        let Phase::Downloading(active) = &mut share.phase else {
            return;
        };
        let Some((peer, alias)) = joined else {
            // The engine has not heard yet that the peer left.
            return self.tell_download(swarm, Event::PeerLeft { peer: key });
        };
        let order = Order {
            connection: peer.connection.clone(),
            common: peer.common.clone(),
            writer: active.writer.clone(),
            passage: Passage::new(&self.config.pace, swarm),
            alias,
            request,
            chunk,
            len,
            swarm,
            epoch,
            node,
        };
        let task = tokio::spawn(order.carry_out());
        active.fetches.insert(request, Task(task.abort_handle()));
    }

    pub(super) fn handle_received(
        &mut self,
        swarm: SwarmId,
        request: RequestId,
        (bytes, reach): (u32, Reach),
    ) {
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.received.add(reach, bytes);
        }
        self.tell_download(swarm, Event::Received { request, bytes });
    }

    pub(super) fn handle_fetched(&mut self, swarm: SwarmId, request: RequestId, outcome: Fetched) {
        if let Some(active) = self.active_mut(swarm) {
            active.fetches.remove(&request);
        }
        let event = match outcome {
            Fetched::Verified => Event::Verified { request },
            Fetched::Corrupt => Event::Corrupt { request },
            Fetched::Refused(reason) => Event::Refused { request, reason },
            Fetched::Failed => Event::Failed { request },
            Fetched::Withdrawn => Event::Withdrawn { request },
            Fetched::Disk(error) => return self.stop_share(swarm, error, Stopping::Paused),
        };
        self.tell_download(swarm, event);
    }

    /// A peer is no longer in the swarm with us.
    pub(super) fn peer_left(&mut self, swarm: SwarmId, peer: PublicKey) {
        if let Some(share) = self.shares.get_mut(&swarm)
            && let Phase::Metadata(learning) = &mut share.phase
        {
            learning.described.remove(&peer);
            learning.asking.take_if(|(asked, _)| *asked == peer);
        }
        self.tell_download(swarm, Event::PeerLeft { peer });
        self.close_if_idle(swarm);
    }

    /// Keeps a peer that has sent wrong bytes out of the share from now on.
    pub(super) fn ban(&mut self, swarm: SwarmId, peer: PublicKey) {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let name = match share.record.name.as_str() {
            "" => share.record.id.to_string(),
            name => warren_proto::content::path::printable(name),
        };
        tracing::warn!(%peer, name, "peer sent wrong bytes; it is not asked for this share again");
        share.banned.insert(peer);
        share.members.remove(&peer);
        self.leave_on(peer, &swarm);
    }

    /// Asks one of the peers that describe the share for what the link does not say.
    fn ask_metadata(&mut self, swarm: SwarmId) {
        let node = self.me.clone();
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let (epoch, kind, id) = (share.epoch, share.record.kind, share.record.id);
        let Phase::Metadata(learning) = &mut share.phase else {
            return;
        };
        if learning.asking.is_some() || learning.described.is_empty() {
            return;
        }
        let untried = learning.described.iter();
        let untried = untried.filter(|(peer, _)| !learning.tried.contains(peer));
        // Who is reached through a tracker comes last.
        let is_relayed = |key: &PublicKey| {
            let peer = self.peers.get(key);
            peer.is_some_and(|peer| peer.reach() == Reach::Relayed)
        };
        let untried = untried.min_by_key(|(peer, _)| is_relayed(peer));
        let Some((&key, (size, name))) = untried else {
            return;
        };
        let joined = self.peers.get(&key);
        let Some((peer, alias)) = joined.and_then(|peer| Some((peer, peer.joined(&swarm)?))) else {
            learning.described.remove(&key);
            return;
        };
        let question = Question {
            kind,
            id,
            alias,
            size: *size,
            name: name.clone(),
        };
        let connection = peer.connection.clone();
        let passage = Passage::new(&self.config.pace, swarm);
        let task = tokio::spawn(async move {
            let learnt = metadata::learn(connection, question, passage).await;
            let result = learnt.map(Arc::new);
            let event = ShareEvent::Learnt { peer: key, result };
            node.send_share(swarm, epoch, event).await;
        });
        learning.asking = Some((key, Task(task.abort_handle())));
    }

    /// A peer says what the share is.
    pub(super) fn handle_described(
        &mut self,
        swarm: SwarmId,
        peer: PublicKey,
        size: u64,
        name: String,
    ) {
        if let Some(share) = self.shares.get_mut(&swarm)
            && let Phase::Metadata(learning) = &mut share.phase
        {
            learning.described.insert(peer, (size, name));
            learning.tried.remove(&peer);
            self.active.insert(swarm);
        }
    }
}

/// The writer of a download, or of a share of which more could be fetched.
pub(super) fn writer_of(share: &Share) -> Option<Arc<Writer>> {
    match &share.phase {
        Phase::Downloading(active) => Some(active.writer.clone()),
        Phase::Finishing(writer) => Some(writer.clone()),
        Phase::Seeding(_) => share.kept.clone(),
        _ => None,
    }
}

impl Order {
    async fn carry_out(self) {
        let outcome = self.outcome().await;
        let event = ShareEvent::Fetched {
            request: self.request,
            outcome,
        };
        self.node.send_share(self.swarm, self.epoch, event).await;
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
        let len = self.len.into();
        let fetched = fetch(&self.connection, &request, len, &self.passage, self);
        match fetched.await {
            Ok(bytes) => self.store(bytes).await,
            Err(FetchError::Refused(reason)) => Fetched::Refused(reason),
            Err(FetchError::Length { .. }) => Fetched::Corrupt,
            Err(_) if self.common.is_replaced() => Fetched::Withdrawn,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(peer = %self.connection.peer_key(), error, "chunk not fetched");
                Fetched::Failed
            }
        }
    }

    async fn store(&self, bytes: Vec<u8>) -> Fetched {
        let (writer, chunk) = (self.writer.clone(), self.chunk);
        let stored = tokio::task::spawn_blocking(move || writer.store(chunk, &bytes)).await;
        match stored {
            Ok(Ok(Stored::Verified)) => Fetched::Verified,
            Ok(Ok(Stored::Corrupt)) => Fetched::Corrupt,
            Ok(Err(error)) => Fetched::Disk(ApiError::from(&error)),
            Err(_) => Fetched::Failed,
        }
    }
}

impl Progress for Order {
    async fn received(&self, bytes: u32) {
        count(&self.common.down_bytes, bytes as usize);
        let request = self.request;
        let reach = reach_of(self.connection.class());
        let event = ShareEvent::Received {
            request,
            bytes,
            reach,
        };
        self.node.send_share(self.swarm, self.epoch, event).await;
    }
}
