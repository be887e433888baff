//! Limits of speed in the database.

use warren_proto::id::SwarmId;

use super::Depot;
use crate::control::model::ApiError;
use crate::store::db::DbError;
use crate::store::settings::{Manners, SpeedLimit};

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Limited {
    /// All shares together.
    All,
    /// One.
    Share(SwarmId),
}

impl Depot {
    /// What holds for all shares together, and for single ones, as it was kept.
    pub(crate) fn limits(&self) -> Result<(Manners, Vec<(SwarmId, SpeedLimit)>), ApiError> {
        let found = self.db.manners();
        let found = found.and_then(|manners| Ok((manners, self.db.share_limits()?)));
        found.map_err(|error| ApiError::from(&error))
    }

    /// Notes what holds for all shares together. Does not block; [`Self::keep_limit`] is to follow.
    pub(crate) fn note_manners(&self, manners: Manners) {
        self.unkept.limits.note(Limited::All, manners);
    }

    /// Notes the limit of one share, likewise.
    pub(crate) fn note_share_limit(&self, swarm: SwarmId, limit: SpeedLimit) {
        let manners = Manners {
            limit,
            ..Manners::default()
        };
        self.unkept.limits.note(Limited::Share(swarm), manners);
    }

    /// Keeps what was noted last of this, if that is not done.
    pub(crate) fn keep_limit(&self, of: Limited) -> Result<(), ApiError> {
        let limits = &self.unkept.limits;
        let kept = limits.keep(&of, |newest| self.write_limit(of, newest));
        kept.map_err(|error| ApiError::from(&error))
    }

    fn write_limit(&self, of: Limited, newest: &Manners) -> Result<(), DbError> {
        match of {
            Limited::All => self.db.set_manners(newest),
            Limited::Share(swarm) if newest.limit == SpeedLimit::default() => {
                self.db.forget_share_limit(&swarm)
            }
            Limited::Share(swarm) => self.db.set_share_limit(&swarm, newest.limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::db::ShareDb;

    #[test]
    fn whoever_comes_last_to_write_a_limit_writes_the_one_that_was_set_last() {
        let folder = tempfile::tempdir().unwrap();
        let db = ShareDb::open(&folder.path().join("state.db")).unwrap();
        let depot = Depot::new(db, folder.path().to_owned());
        let (swarm, fast, slow) = (SwarmId([1; 32]), limit(2_000_000), limit(1_000_000));
        let of = Limited::Share(swarm);
        depot.note_share_limit(swarm, fast);
        depot.note_share_limit(swarm, slow);
        depot.keep_limit(of).unwrap();
        assert_eq!(depot.limits().unwrap().1, [(swarm, slow)]);
        depot.keep_limit(of).unwrap();
        assert_eq!(depot.limits().unwrap().1, [(swarm, slow)]);

        // It goes with its share, and is there again if that has come back with one meanwhile.
        depot.note_share_limit(swarm, SpeedLimit::default());
        depot.remove(&swarm, None).unwrap();
        assert_eq!(depot.limits().unwrap().1, []);
        depot.note_share_limit(swarm, SpeedLimit::default());
        depot.note_share_limit(swarm, fast);
        depot.keep_limit(of).unwrap();
        depot.remove(&swarm, None).unwrap();
        assert_eq!(depot.limits().unwrap().1, [(swarm, fast)]);
    }

    fn limit(bits_per_s: u64) -> SpeedLimit {
        SpeedLimit {
            up_bits_per_s: Some(bits_per_s),
            down_bits_per_s: None,
        }
    }
}
