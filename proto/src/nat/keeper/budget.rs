//! How much may be sent, and which requests were seen: what bounds a keeper whatever arrives.
//!
//! A connection lives for days, so unlike a rendezvous it cannot count for ever: budgets slide.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::nat::schedule::PROBES_PER_ADDRESS;
use crate::nat::stun::Transaction;

/// Most messages of a kind to one address within [`WINDOW`]. Whoever is the target of a forged
/// source gets 24 checks of 80 bytes and 24 answers of 68.
pub(super) const PER_ADDRESS: usize = PROBES_PER_ADDRESS;

/// How far back a budget looks.
pub(super) const WINDOW: Duration = Duration::from_secs(30);

/// Most messages to strangers within [`WINDOW`]: the full budget of four.
pub(super) const STRANGERS: usize = 4 * PER_ADDRESS;

/// Most messages to all others: the path, four more addresses.
const KNOWN: usize = 5 * PER_ADDRESS;

/// Requests remembered, so that a copy does nothing. An honest peer takes minutes to make so many;
/// with their order they occupy some 30 kB.
pub(super) const REMEMBERED: usize = 1024;

/// Whom a message goes to. Strangers have a share of their own, so that a peer that pretends to be
/// everywhere uses up nobody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The path, an address that has answered, or one that a rendezvous has proven.
    Known,
    /// Any other that a request came from.
    Stranger,
}

/// What was sent within the last [`WINDOW`].
#[derive(Debug, Default)]
pub(super) struct Budget {
    spent: VecDeque<(Instant, SocketAddr, Standing)>,
}

impl Budget {
    /// Whether one more message may go to `to` now; if so it is counted.
    pub(super) fn try_spend(&mut self, now: Instant, to: SocketAddr, standing: Standing) -> bool {
        while let Some((at, ..)) = self.spent.front()
            && *at + WINDOW <= now
        {
            self.spent.pop_front();
        }
        let to_address = self.spent.iter().filter(|spent| spent.1 == to).count();
        let to_standing = self.spent.iter().filter(|spent| spent.2 == standing);
        let share = match standing {
            Standing::Known => KNOWN,
            Standing::Stranger => STRANGERS,
        };
        let may = to_address < PER_ADDRESS && to_standing.count() < share;
        if may {
            self.spent.push_back((now, to, standing));
        }
        may
    }
}

/// The newest [`REMEMBERED`] requests.
#[derive(Debug, Default)]
pub(super) struct Seen {
    transactions: BTreeSet<Transaction>,
    order: VecDeque<Transaction>,
}

impl Seen {
    /// Whether the request is new; from now on it is not.
    pub(super) fn insert(&mut self, transaction: Transaction) -> bool {
        if !self.transactions.insert(transaction) {
            return false;
        }
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.transactions.remove(&oldest);
        }
        self.order.push_back(transaction);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_24_in_any_30_s() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        let to = address(1);
        let spend = |budget: &mut Budget, at| budget.try_spend(start + at, to, Standing::Known);
        for n in 0..24 {
            assert!(spend(&mut budget, Duration::from_secs(n)));
        }
        assert!(!spend(&mut budget, Duration::from_millis(29_999)));
        assert!(spend(&mut budget, WINDOW));
        assert!(!spend(&mut budget, WINDOW));
    }

    #[test]
    fn strangers_leave_the_others_their_share() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        let strangers = (0..1000).filter(|n| {
            let stranger = address(2000 + n);
            budget.try_spend(now, stranger, Standing::Stranger)
        });
        assert_eq!(strangers.count(), STRANGERS);
        let known = (0..5 * 24).filter(|n| budget.try_spend(now, address(n % 5), Standing::Known));
        assert_eq!(known.count(), 5 * 24);
    }

    #[test]
    fn a_copy_is_known_until_1024_others_came() {
        let mut seen = Seen::default();
        let number = |n: u32| {
            let mut bytes = [0; 12];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            Transaction(bytes)
        };
        assert!((0..1024).all(|n| seen.insert(number(n))));
        assert!((0..1024).all(|n| !seen.insert(number(n))));
        assert!(seen.insert(number(1024)));
        assert!(seen.insert(number(0)));
        assert_eq!(seen.transactions.len(), REMEMBERED);
    }

    fn address(port: u16) -> SocketAddr {
        ([203, 0, 113, 1], 1024 + port).into()
    }
}
