//! What a version of a share passes on to the one that takes its place: for how long, how often and how fast it is
//! given, and that it is paused.

use warren_proto::id::SwarmId;

use super::Node;
use super::shares::Preparing;
use crate::share::Pause;
use crate::store::db::ShareRecord;
use crate::store::settings::SpeedLimit;
use crate::store::terms::Terms;

/// A version whose place is being taken, and what is to be again if that fails.
#[derive(Debug)]
pub(super) struct Leaving {
    record: ShareRecord,
    terms: Terms,
    limit: SpeedLimit,
    is_paused: bool,
}

impl Node {
    /// Takes out the version `former`, whose place `next` takes and from which that has what was set.
    pub(super) fn leave(&mut self, former: SwarmId, next: SwarmId) -> Option<Leaving> {
        let limit = self.limit_of(&former);
        self.pass_on_limit(&former, next);
        let share = self.take_out(former)?;
        let leaving = Leaving {
            is_paused: share.pause.is_some(),
            record: share.record,
            terms: share.terms,
            limit,
        };
        let terms = leaving.terms.of_next();
        let has_none = |next: &Terms| *next == Terms::default();
        if !has_none(&terms) && self.shares.get(&next).is_some_and(|it| has_none(&it.terms)) {
            self.set_terms(next, terms);
        }
        if leaving.is_paused {
            self.begin_pause(next);
        }
        Some(leaving)
    }

    /// It is there again as it was.
    pub(super) fn take_back(&mut self, leaving: Leaving) {
        let Leaving {
            record,
            terms,
            limit,
            is_paused,
        } = leaving;
        let swarm = self.add_preparing(record, Preparing::Recall);
        self.set_terms(swarm, terms);
        self.set_limit(swarm, limit);
        if is_paused {
            self.begin_pause(swarm);
        }
    }

    /// Pauses a share as soon as its files are no longer worked on.
    fn begin_pause(&mut self, swarm: SwarmId) {
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.pause.get_or_insert(Pause::Asked);
        }
        self.note_pause(swarm, true);
    }
}
