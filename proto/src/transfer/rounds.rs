//! Whose turn it is among shares that all want to go: deficit round robin (Shreedhar and Varghese,
//! SIGCOMM 1995), so that each gets as many bytes as any other, whatever the sizes in which they go.
//!
//! In every round each share that could go gains [`QUANTUM_BYTES`] of credit, and the first goes whose
//! credit covers what it has. Rounds in which nobody would go are skipped by arithmetic.

use std::collections::BTreeMap;

use crate::id::SwarmId;

/// What a share gains in one round.
const QUANTUM_BYTES: u64 = 64 * 1024;

/// The credit of each share.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    credit: BTreeMap<SwarmId, u64>,
    /// Who went last; whoever comes after it in the circle goes first in a round.
    last: Option<SwarmId>,
}

impl Rounds {
    /// Who goes now of those that could, each with the bytes it would go with; in ascending order. What
    /// it goes with is taken from its credit.
    pub(super) fn next(&mut self, able: &[(SwarmId, u64)]) -> Option<SwarmId> {
        let wait = |(share, bytes): &(SwarmId, u64)| {
            let lacking = bytes.saturating_sub(self.credit_of(share));
            (lacking.div_ceil(QUANTUM_BYTES), self.last >= Some(*share))
        };
        let &(share, bytes) = able.iter().min_by_key(|it| (wait(it), it.0))?;
        let (rounds, _) = wait(&(share, bytes));
        for (share, _) in able {
            *self.credit.entry(*share).or_default() += rounds * QUANTUM_BYTES;
        }
        let left = self.credit_of(&share).saturating_sub(bytes);
        self.credit.insert(share, left);
        self.last = Some(share);
        Some(share)
    }

    /// Of what a share went with, so much did not go in the end.
    pub(super) fn give_back(&mut self, share: SwarmId, bytes: u64) {
        *self.credit.entry(share).or_default() += bytes;
    }

    /// A share wants nothing any more: it must not save credit for later.
    pub(super) fn forget(&mut self, share: &SwarmId) {
        self.credit.remove(share);
    }

    /// How many shares are remembered.
    #[cfg(test)]
    pub(super) fn shares(&self) -> usize {
        self.credit.len()
    }

    fn credit_of(&self, share: &SwarmId) -> u64 {
        self.credit.get(share).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(sizes: &[u64]) -> Vec<(SwarmId, u64)> {
        let share = |(n, size): (usize, &u64)| (SwarmId([n as u8; 32]), *size);
        sizes.iter().enumerate().map(share).collect()
    }

    #[test]
    fn each_gets_as_many_bytes_whatever_their_sizes() {
        let able = shares(&[16 << 20, 65_536, 1_000]);
        let (mut rounds, mut given) = (Rounds::default(), BTreeMap::new());
        for _ in 0..200_000 {
            let share = rounds.next(&able).unwrap();
            let (_, bytes) = able.iter().find(|it| it.0 == share).unwrap();
            *given.entry(share).or_insert(0) += bytes;
        }
        let (least, most) = (given.values().min(), given.values().max());
        let apart = most.unwrap() - least.unwrap();
        assert!(
            given.len() == 3 && apart <= (16 << 20) + QUANTUM_BYTES,
            "{given:?}"
        );
    }

    #[test]
    fn equal_ones_take_turns() {
        let able = shares(&[QUANTUM_BYTES; 3]);
        let mut rounds = Rounds::default();
        let order: Vec<_> = (0..6)
            .filter_map(|_| rounds.next(&able))
            .map(|it| it.0[0])
            .collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn who_could_not_go_has_saved_nothing() {
        let able = shares(&[QUANTUM_BYTES; 2]);
        let mut rounds = Rounds::default();
        for _ in 0..100 {
            assert_eq!(rounds.next(&able[..1]), Some(able[0].0));
        }
        let both: Vec<_> = (0..4)
            .filter_map(|_| rounds.next(&able))
            .map(|it| it.0[0])
            .collect();
        assert_eq!(both, [1, 0, 1, 0]);
    }

    #[test]
    fn what_did_not_go_is_not_held_against_it() {
        let able = shares(&[4 << 20, 4 << 20]);
        let mut rounds = Rounds::default();
        assert_eq!(rounds.next(&able), Some(able[0].0));
        rounds.give_back(able[0].0, 4 << 20);
        assert_eq!(rounds.next(&able[..1]), Some(able[0].0));
        assert_eq!(rounds.next(&able), Some(able[1].0));
    }

    #[test]
    fn nobody_goes_where_nobody_can() {
        assert_eq!(Rounds::default().next(&[]), None);
    }
}
