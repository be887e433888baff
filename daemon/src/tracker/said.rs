//! What was said to a tracker about our swarms, and what is still to be said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use warren_proto::id::SwarmId;
use warren_proto::wire::{MemberState, ToTracker};

/// Peers we ask to meet with the first announce of an unfinished share: half a full mesh, the
/// others ask for us.
const FIRST_INTRODUCTIONS: u8 = 32;

/// Announces sent at once; the tracker answers each with a frame of its own.
const ANNOUNCES_AT_ONCE: usize = 32;

/// Announces without an answer up to which more are sent at once: who answers soon is told soon, of thousands of
/// shares too.
const UNANSWERED: usize = 128;

/// What was announced in this round, and what is still to be said.
#[derive(Default)]
pub(super) struct Said {
    announced: BTreeMap<SwarmId, MemberState>,
    /// Swarms whose first announce has asked for introductions. Later ones do not: who is not
    /// connected by then is asked for by name, so that an introduction always means that one of
    /// the two has no connection to the other.
    introduced: BTreeSet<SwarmId>,
    queue: VecDeque<ToTracker>,
    /// Announces of this round that have no answer yet.
    unanswered: usize,
}

impl Said {
    /// Queues the difference between what was said and what is wanted.
    pub(super) fn plan(&mut self, wanted: &BTreeMap<SwarmId, MemberState>) {
        let gone = self
            .announced
            .keys()
            .filter(|swarm| !wanted.contains_key(swarm));
        let gone: Vec<SwarmId> = gone.copied().collect();
        for swarm in gone {
            self.announced.remove(&swarm);
            self.introduced.remove(&swarm);
            self.queue.push_back(ToTracker::Leave { swarm });
        }
        for (&swarm, &state) in wanted {
            if self.announced.insert(swarm, state) != Some(state) {
                let introductions = match state {
                    MemberState::Leech if self.introduced.insert(swarm) => FIRST_INTRODUCTIONS,
                    // Who needs us asks.
                    _ => 0,
                };
                self.queue.push_back(ToTracker::Announce {
                    swarm,
                    state,
                    introductions,
                });
            }
        }
    }

    /// Begins a new round, or a new connection: everything is to be said again.
    pub(super) fn forget(&mut self) {
        self.announced.clear();
        self.queue.clear();
        self.unanswered = 0;
    }

    /// The tracker has answered an announce.
    pub(super) fn note_answer(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// Whether the next batch need not wait for anything.
    pub(super) fn may_go_on(&self) -> bool {
        self.unanswered + ANNOUNCES_AT_ONCE <= UNANSWERED
    }

    pub(super) fn has_more(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn next_batch(&mut self) -> impl Iterator<Item = ToTracker> {
        let count = self.queue.len().min(ANNOUNCES_AT_ONCE);
        let batch = self.queue.iter().take(count);
        let announces = batch.filter(|it| matches!(it, ToTracker::Announce { .. }));
        self.unanswered += announces.count();
        self.queue.drain(..count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_said_again() {
        let (a, b, c) = (SwarmId([1; 32]), SwarmId([2; 32]), SwarmId([3; 32]));
        let mut said = Said::default();
        said.plan(&BTreeMap::from([
            (a, MemberState::Leech),
            (b, MemberState::Seed),
        ]));
        let batch: Vec<_> = said.next_batch().collect();
        let announce = |swarm, state, introductions| ToTracker::Announce {
            swarm,
            state,
            introductions,
        };
        assert_eq!(
            batch,
            [
                announce(a, MemberState::Leech, FIRST_INTRODUCTIONS),
                announce(b, MemberState::Seed, 0)
            ]
        );

        said.plan(&BTreeMap::from([
            (a, MemberState::Seed),
            (c, MemberState::Leech),
        ]));
        let batch: Vec<_> = said.next_batch().collect();
        let expected = [
            ToTracker::Leave { swarm: b },
            announce(a, MemberState::Seed, 0),
            announce(c, MemberState::Leech, FIRST_INTRODUCTIONS),
        ];
        assert_eq!(batch, expected);
        assert!(!said.has_more());
    }

    #[test]
    fn who_answers_soon_is_told_at_once_and_who_does_not_later() {
        let swarms = (0..=255).map(|n| (SwarmId([n; 32]), MemberState::Seed));
        let mut said = Said::default();
        said.plan(&swarms.collect());
        for _ in 0..UNANSWERED / ANNOUNCES_AT_ONCE {
            assert!(said.may_go_on());
            assert_eq!(said.next_batch().count(), ANNOUNCES_AT_ONCE);
        }
        assert!(!said.may_go_on());
        (0..ANNOUNCES_AT_ONCE).for_each(|_| said.note_answer());
        assert!(said.may_go_on());
        assert_eq!(said.next_batch().count(), ANNOUNCES_AT_ONCE);
        assert!(!said.may_go_on());
        said.forget();
        assert!(said.may_go_on(), "nothing of another connection is awaited");
    }

    #[test]
    fn a_new_round_says_everything_and_asks_for_no_introductions() {
        let swarm = SwarmId([1; 32]);
        let wanted = BTreeMap::from([(swarm, MemberState::Leech)]);
        let mut said = Said::default();
        said.plan(&wanted);
        assert_eq!(said.next_batch().count(), 1);
        said.forget();
        said.plan(&wanted);
        let again = ToTracker::Announce {
            swarm,
            state: MemberState::Leech,
            introductions: 0,
        };
        assert_eq!(said.next_batch().collect::<Vec<_>>(), [again]);
    }
}
