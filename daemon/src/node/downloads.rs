//! Fetching: what the engine wants of a share is asked for here, and what came of it reported to it.

use std::sync::Arc;

use warren_proto::content::ChunkIndex;
use warren_proto::content::path::printable;
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::transfer::{Action, Download, Event, Reach, RequestId, Standing};

use super::fetching::{Fetch, Order};
use super::{Fetched, Node, ShareEvent, Stopping};
use crate::control::standing;
use crate::pace::Passage;
use crate::share::metadata::{self, Question};
use crate::share::writer::Writer;
use crate::share::{Active, Pause, Phase, Share, Task};

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
            arrival: Default::default(),
            alias,
            request,
            chunk,
            len,
            swarm,
            epoch,
            node,
        };
        active.fetches.insert(request, Fetch::start(order));
    }

    /// Somebody waits for what a request brings.
    pub(super) fn pass_on(&mut self, swarm: SwarmId, request: RequestId) {
        let active = self.active_mut(swarm);
        let fetch = active.and_then(|active| active.fetches.get_mut(&request));
        fetch.into_iter().for_each(Fetch::pass_on);
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
        let has_come = matches!(event, Event::Verified { .. });
        self.tell_download(swarm, event);
        if !has_come {
            // It may still come, which counts before anything else is asked for.
            self.watch_budget();
        }
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
        let name = shown_name(share);
        tracing::warn!(%peer, name, "peer sent wrong bytes; it is not asked for this share again");
        share.banned.insert(peer);
        share.members.remove(&peer);
        self.leave_on(peer, &swarm);
    }

    /// Something else is thought of a peer than before.
    pub(super) fn note_standing(&self, swarm: &SwarmId, peer: PublicKey, standing: Standing) {
        let Some(share) = self.shares.get(swarm) else {
            return;
        };
        let (name, reason) = (shown_name(share), standing::reason(standing));
        let word = standing::word(standing).word();
        tracing::debug!(%peer, name, standing = word, reason, "what is thought of a peer");
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

/// The name of a share as logs have it, or its id while it has none.
fn shown_name(share: &Share) -> String {
    match share.record.name.as_str() {
        "" => share.record.id.to_string(),
        name => printable(name),
    }
}

/// The writer of a download, or of a share of which more could be fetched.
pub(super) fn writer_of(share: &Share) -> Option<Arc<Writer>> {
    match &share.phase {
        Phase::Downloading(active) => Some(active.writer.clone()),
        Phase::Finishing(writer) => Some(writer.clone()),
        Phase::Seeding(_) => share.kept.clone(),
        Phase::Stopped { .. } => match &share.pause {
            Some(Pause::Download(writer)) => Some(writer.clone()),
            Some(Pause::Complete(_)) => share.kept.clone(),
            _ => None,
        },
        _ => None,
    }
}
