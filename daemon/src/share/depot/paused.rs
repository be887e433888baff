//! Which shares are paused, in the database: each change is written by a task of its own, and what was
//! changed last is what stays.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use warren_proto::id::SwarmId;

use super::Depot;
use crate::control::model::ApiError;

/// As it is wanted, whether the database has it yet or not.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    wanted: Mutex<BTreeSet<SwarmId>>,
    /// Held while one is written, so that no older one comes after it.
    keeping: Mutex<()>,
}

impl Pauses {
    fn wanted(&self) -> MutexGuard<'_, BTreeSet<SwarmId>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Depot {
    /// The shares that are paused, as it was kept.
    pub(crate) fn paused(&self) -> Result<Vec<SwarmId>, ApiError> {
        let paused = self.db.paused().map_err(|error| ApiError::from(&error))?;
        self.pauses.wanted().extend(&paused);
        Ok(paused)
    }

    /// Notes whether a share is paused. Does not block; [`Self::keep_paused`] is to follow.
    pub(crate) fn note_paused(&self, swarm: SwarmId, is_paused: bool) {
        let mut wanted = self.pauses.wanted();
        match is_paused {
            true => wanted.insert(swarm),
            false => wanted.remove(&swarm),
        };
    }

    /// Keeps what was noted last of this share.
    pub(crate) fn keep_paused(&self, swarm: &SwarmId) -> Result<(), ApiError> {
        let keeping = self.pauses.keeping.lock();
        let _one_at_a_time = keeping.unwrap_or_else(PoisonError::into_inner);
        let is_paused = self.pauses.wanted().contains(swarm);
        let kept = self.db.set_paused(swarm, is_paused);
        kept.map_err(|error| ApiError::from(&error))
    }
}
