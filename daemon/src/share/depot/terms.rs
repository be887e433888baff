//! Terms of shares in the database: each change is written by a task of its own, and what was changed
//! last is what stays.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use warren_proto::id::SwarmId;

use super::Depot;
use crate::control::model::ApiError;
use crate::store::terms::Terms;

/// As they are wanted, until the database has them.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    newest: Mutex<BTreeMap<SwarmId, Terms>>,
    /// Held while some are written, so that no older ones come after them.
    keeping: Mutex<()>,
}

impl Unwritten {
    fn newest(&self) -> MutexGuard<'_, BTreeMap<SwarmId, Terms>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Depot {
    /// All terms, as they were kept.
    pub(crate) fn terms(&self) -> Result<Vec<(SwarmId, Terms)>, ApiError> {
        self.db.terms().map_err(|error| ApiError::from(&error))
    }

    /// Notes the terms of a share. Does not block; [`Self::keep_terms`] is to follow.
    pub(crate) fn note_terms(&self, swarm: SwarmId, terms: Terms) {
        self.unwritten.newest().insert(swarm, terms);
    }

    /// Keeps what was noted last of this share, if that is not done.
    pub(crate) fn keep_terms(&self, swarm: &SwarmId) -> Result<(), ApiError> {
        let keeping = self.unwritten.keeping.lock();
        let _one_at_a_time = keeping.unwrap_or_else(PoisonError::into_inner);
        let Some(newest) = self.unwritten.newest().get(swarm).cloned() else {
            return Ok(());
        };
        let kept = self.db.set_terms(swarm, &newest);
        kept.map_err(|error| ApiError::from(&error))?;
        let mut unwritten = self.unwritten.newest();
        if unwritten.get(swarm) == Some(&newest) {
            unwritten.remove(swarm);
        }
        Ok(())
    }
}
