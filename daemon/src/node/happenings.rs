//! What the person's commands are told: what became of shares; and what the service manager is.

use std::collections::BTreeMap;

use warren_proto::id::SwarmId;

use super::Node;
use crate::control::model::ShareState;
use crate::control::words::count;
use crate::hooks::{Happened, Happening};
use crate::share::{Phase, Share};

impl Node {
    /// Something became of a share that is there.
    pub(super) fn happened(&self, swarm: &SwarmId, what: Happening) {
        if let Some(share) = self.shares.get(swarm) {
            self.happened_to(share, what);
        }
    }

    /// The same of one that is perhaps no longer there.
    pub(super) fn happened_to(&self, share: &Share, what: Happening) {
        self.config.hooks.tell(what, || Happened {
            what,
            id: share.record.id.to_string(),
            name: share.record.name.clone(),
            path: share.record.path.clone(),
            error: match &share.phase {
                Phase::Stopped { error, .. } => Some(error.message.clone()),
                _ => None,
            },
        });
    }

    /// How things are, in a line.
    pub(super) fn status_line(&self) -> String {
        let connected = self.trackers.values().any(|tracker| tracker.connected);
        let tracker = if connected { "reached" } else { "not reached" };
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        for (swarm, share) in &self.shares {
            let state: ShareState = share.state(self.download_of(swarm));
            *states.entry(state.word()).or_default() += 1;
        }
        let states = states
            .iter()
            .map(|(word, number)| format!(", {number} {word}"));
        let states: String = states.collect();
        let (shares, peers) = (self.shares.len(), self.peers.len());
        let (shares, peers) = (count(shares, "share"), count(peers, "peer"));
        format!("tracker {tracker}; {shares}{states}; {peers}")
    }
}
