//! Finds the machine that a datagram is for, without asking all of them.

use std::collections::{HashMap, VecDeque};

use warren_proto::id::PublicKey;
use warren_proto::nat::{Transaction, check};

/// Transactions remembered per machine: more than one has in flight.
const PER_OWNER: usize = 128;

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Owner {
    /// An attempt, by its number.
    Attempt(u64),
    /// The keeper of a peer's path.
    Keeper(PublicKey),
    /// The survey of our own NAT.
    Survey,
}

/// Who asked what, and who goes by which name.
#[derive(Debug, Default)]
pub(super) struct Owners {
    names: HashMap<String, Owner>,
    transactions: HashMap<Transaction, Owner>,
    asked: HashMap<Owner, VecDeque<Transaction>>,
}

impl Owners {
    /// Requests with this USERNAME are for `owner`.
    pub(super) fn name(&mut self, name: &str, owner: Owner) {
        self.names.insert(name.to_owned(), owner);
    }

    /// `owner` sends this: if it is a request, its answer is for it.
    pub(super) fn sent(&mut self, bytes: &[u8], owner: Owner) {
        let Some(transaction) = check::request_transaction_of(bytes) else {
            return;
        };
        let asked = self.asked.entry(owner).or_default();
        if asked.len() == PER_OWNER
            && let Some(oldest) = asked.pop_front()
        {
            self.transactions.remove(&oldest);
        }
        asked.push_back(transaction);
        self.transactions.insert(transaction, owner);
    }

    /// Whose a datagram is. It is not authenticated.
    pub(super) fn of(&self, bytes: &[u8]) -> Option<Owner> {
        match check::transaction_of(bytes) {
            Some(transaction) => self.transactions.get(&transaction).copied(),
            None => self.names.get(check::username_of(bytes)?).copied(),
        }
    }

    /// The machine is gone.
    pub(super) fn forget(&mut self, owner: Owner) {
        self.names.retain(|_, named| *named != owner);
        for transaction in self.asked.remove(&owner).into_iter().flatten() {
            self.transactions.remove(&transaction);
        }
    }
}
