//! What follows an introduction: where the two peers say each other's ports are, what came of it, and
//! the advice that the next two there get.
//!
//! Not here: who is introduced to whom, and the queues (`state`).

use std::time::Instant;

use warren_proto::id::PublicKey;
use warren_proto::nat::possible;
use warren_proto::swarm::{Meetings, Situation, TechniqueMemory, Trickled};
use warren_proto::wire::{Bounded, FromTracker, NatMapping, Rendezvous, Technique};

/// The rendezvous of the last minute, and what they have taught us.
#[derive(Debug, Default)]
pub(crate) struct Followup {
    meetings: Meetings,
    techniques: TechniqueMemory,
}

impl Followup {
    /// Two peers are introduced, and this is what each of them is sent. Returns what both are to be
    /// told before that; nothing where there is no choice, or nothing is known of it.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        (for_a, for_b): (&Rendezvous, &Rendezvous),
        (a, b): (&Situation, &Situation),
    ) -> Option<FromTracker> {
        self.meetings.open(now, for_a, for_b);
        let nat = |it: &Situation| (it.mapping, it.filtering);
        let at = |it: &Situation| it.seen_at().next().unwrap_or(it.observed).ip();
        let (at_a, at_b) = (at(a), at(b));
        let possible = possible(nat(a), nat(b));
        let order = self.techniques.order(now, at_a, at_b, possible)?;
        (order.len() > 1).then(|| FromTracker::Advice {
            id: for_a.id,
            techniques: Bounded::truncated(order),
        })
    }

    /// To whom to pass on what `from`, which is as `situation` says now, says about a port of its own, and how
    /// it reads there. `None` when it is to be dropped.
    pub(crate) fn trickle(
        &mut self,
        now: Instant,
        (from, situation): (&PublicKey, &Situation),
        (id, port, mapping): ([u8; 10], u16, NatMapping),
    ) -> Option<(PublicKey, FromTracker)> {
        let Trickled { to, address } =
            self.meetings
                .trickle(now, &id, from, situation.seen_at(), port)?;
        let news = FromTracker::Trickled {
            id,
            address,
            mapping,
        };
        Some((to, news))
    }

    /// What one of the two says came of a rendezvous.
    pub(crate) fn outcome(
        &mut self,
        now: Instant,
        from: &PublicKey,
        id: &[u8; 10],
        (technique, success): (Technique, bool),
    ) {
        if let Some([a, b]) = self.meetings.outcome(now, id, from) {
            self.techniques.note(now, a, b, technique, success);
        }
    }
}
