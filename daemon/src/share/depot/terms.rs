//! Terms of shares in the database.

use warren_proto::id::SwarmId;

use super::Depot;
use crate::control::model::ApiError;
use crate::store::terms::Terms;

impl Depot {
    /// All terms, as they were kept.
    pub(crate) fn terms(&self) -> Result<Vec<(SwarmId, Terms)>, ApiError> {
        self.db.terms().map_err(|error| ApiError::from(&error))
    }

    /// Notes the terms of a share. Does not block; [`Self::keep_terms`] is to follow.
    pub(crate) fn note_terms(&self, swarm: SwarmId, terms: Terms) {
        self.unkept.terms.note(swarm, terms);
    }

    /// Keeps what was noted last of this share, if that is not done.
    pub(crate) fn keep_terms(&self, swarm: &SwarmId) -> Result<(), ApiError> {
        let terms = &self.unkept.terms;
        let kept = terms.keep(swarm, |terms| self.db.set_terms(swarm, terms));
        kept.map_err(|error| ApiError::from(&error))
    }
}
