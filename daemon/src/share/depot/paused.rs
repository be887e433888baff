//! Which shares are paused, in the database.

use warren_proto::id::SwarmId;

use super::Depot;
use crate::control::model::ApiError;

impl Depot {
    /// The shares that are paused, as it was kept.
    pub(crate) fn paused(&self) -> Result<Vec<SwarmId>, ApiError> {
        self.db.paused().map_err(|error| ApiError::from(&error))
    }

    /// Notes whether a share is paused. Does not block; [`Self::keep_paused`] is to follow.
    pub(crate) fn note_paused(&self, swarm: SwarmId, is_paused: bool) {
        self.unkept.pauses.note(swarm, is_paused);
    }

    /// Keeps what was noted last of this share, if that is not done.
    pub(crate) fn keep_paused(&self, swarm: &SwarmId) -> Result<(), ApiError> {
        let pauses = &self.unkept.pauses;
        let kept = pauses.keep(swarm, |is_paused| self.db.set_paused(swarm, *is_paused));
        kept.map_err(|error| ApiError::from(&error))
    }
}
