//! The queue to the node: what tasks and threads report by.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use warren_proto::id::SwarmId;
use warren_proto::transfer::engine::UploadId;

use super::{NodeEvent, ShareEvent};
use crate::share::Epoch;

/// Events that may wait for the node; the tasks that report then wait too.
const EVENTS: usize = 1024;

/// A queue to a node and the node's end of it.
pub(crate) fn channel() -> (NodeSender, mpsc::Receiver<NodeEvent>) {
    let (sender, receiver) = mpsc::channel(EVENTS);
    let sender = NodeSender {
        events: sender,
        uploads: Arc::default(),
    };
    (sender, receiver)
}

/// The way to the node.
#[derive(Clone, Debug)]
pub(crate) struct NodeSender {
    events: mpsc::Sender<NodeEvent>,
    uploads: Arc<AtomicU64>,
}

impl NodeSender {
    /// Reports; waits while the node is behind. Nothing happens once the node has ended.
    pub(crate) async fn send(&self, event: NodeEvent) {
        // Without a node there is nobody left to care.
        let _ = self.events.send(event).await;
    }

    /// The same, from a thread that may wait.
    pub(crate) fn blocking_send_share(&self, swarm: SwarmId, epoch: Epoch, event: ShareEvent) {
        let event = NodeEvent::Share {
            swarm,
            epoch,
            event,
        };
        self.blocking_send(event);
    }

    /// A name for something that a peer asks for.
    pub(crate) fn next_upload(&self) -> UploadId {
        UploadId(self.uploads.fetch_add(1, Ordering::Relaxed))
    }

    /// A report from a thread that may wait.
    pub(crate) fn blocking_send(&self, event: NodeEvent) {
        // As above.
        let _ = self.events.blocking_send(event);
    }

    /// A report about a share.
    pub(crate) async fn send_share(&self, swarm: SwarmId, epoch: Epoch, event: ShareEvent) {
        self.send(NodeEvent::Share {
            swarm,
            epoch,
            event,
        })
        .await;
    }
}
