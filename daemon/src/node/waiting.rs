//! Who asks for a complete share while its files are being opened, or something else is chosen of it, waits until that
//! has ended: only then it can be looked whether they are what they were.
//!
//! Not here: looking at them (`node/again.rs`).

use warren_proto::id::SwarmId;

use super::Node;
use super::beginning::Wanting;
use super::report::{error_about, tell_last};
use crate::share::depot::removed;
use crate::share::{Phase, Share, Watcher};

impl Node {
    pub(super) fn wait_for_rest(&mut self, swarm: SwarmId, wanting: Wanting) {
        self.waiting.push((swarm, wanting));
    }

    /// What was being done with a share may have ended, or the share is gone.
    pub(super) fn serve_waiting(&mut self, swarm: SwarmId) {
        if self.waiting.is_empty() || self.shares.get(&swarm).is_some_and(Share::is_unready) {
            return;
        }
        let due = self.waiting.extract_if(.., |(wanted, _)| *wanted == swarm);
        for (_, wanting) in due.collect::<Vec<_>>() {
            if !self.shares.contains_key(&swarm) {
                tell_last(wanting.watcher, removed().into());
            } else if let Some(wanting) = self.check_share(swarm, wanting) {
                self.want_of_others(swarm, wanting);
            }
        }
    }

    /// Lets somebody wait for the end of what is going on with a share, if anything is.
    pub(super) fn watch_or_tell(&mut self, swarm: SwarmId, watcher: Watcher) {
        match self.shares.get_mut(&swarm) {
            Some(share) => match &share.phase {
                Phase::Stopped { error, .. } => {
                    let error = error_about(share, error.clone());
                    tell_last(watcher, error.into());
                }
                _ => share.watchers.push(watcher),
            },
            None => tell_last(watcher, removed().into()),
        }
    }
}

impl Share {
    /// Whether it is complete, as far as is known, and will be looked at as soon as it can be. Who verifies it looks at
    /// it already.
    pub(super) fn is_unready(&self) -> bool {
        let is_opened = matches!(self.phase, Phase::Preparing { is_new: false, .. });
        let is_opened = is_opened && self.verifying.is_none();
        self.is_complete() && (self.is_choosing || is_opened)
    }
}
