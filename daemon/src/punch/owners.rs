//! Finds the machine that a datagram is for, without asking all of them.

use std::collections::{HashMap, VecDeque};

use warren_proto::id::PublicKey;
use warren_proto::nat::{Transaction, check};

use crate::tracker::TrackerId;

/// Transactions remembered per machine: more than one has in flight that sprays a block. All attempts
/// of a host together guess no more than that.
const PER_OWNER: usize = 2_560;

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Owner {
    /// An attempt, by its number.
    Attempt(u64),
    /// The keeper of a peer's path.
    Keeper(PublicKey),
    /// The survey of our own NAT.
    Survey,
    /// What shows a tracker our address of the other IP family.
    Proof(TrackerId),
}

/// Who asked what, and who goes by which name.
#[derive(Debug, Default)]
pub(super) struct Owners {
    names: HashMap<String, Owner>,
    transactions: HashMap<Transaction, Owner>,
    asked: HashMap<Owner, VecDeque<Transaction>>,
}

impl Owners {
    /// Requests with this USERNAME are for `owner`; false if they are for another already.
    pub(super) fn name(&mut self, name: &str, owner: Owner) -> bool {
        *self.names.entry(name.to_owned()).or_insert(owner) == owner
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

#[cfg(test)]
mod tests {
    use warren_proto::nat::check::Credentials;
    use warren_proto::proof::Side;

    use super::*;

    const KEEPER: Owner = Owner::Keeper(PublicKey([1; 32]));

    #[test]
    fn requests_go_by_their_name_and_answers_to_who_asked() {
        let mut owners = Owners::default();
        let credentials = Credentials::new(&[1; 10], &[2; 32]);
        let request = credentials.encode_request(Transaction([3; 12]), Side::Client);
        let answer = credentials.encode_answer(Transaction([3; 12]), ([192, 0, 2, 1], 5000).into());
        assert_eq!((owners.of(&request), owners.of(&answer)), (None, None));
        assert!(owners.name(credentials.username(), KEEPER));
        owners.sent(&request, Owner::Attempt(7));
        assert_eq!(owners.of(&request), Some(KEEPER));
        assert_eq!(owners.of(&answer), Some(Owner::Attempt(7)));
        owners.forget(Owner::Attempt(7));
        assert_eq!(
            (owners.of(&request), owners.of(&answer)),
            (Some(KEEPER), None)
        );
    }

    #[test]
    fn a_name_that_is_taken_is_given_to_nobody_else() {
        let mut owners = Owners::default();
        assert!(owners.name("name", KEEPER));
        assert!(owners.name("name", KEEPER));
        assert!(!owners.name("name", Owner::Attempt(7)));
        owners.forget(Owner::Attempt(7));
        assert!(
            !owners.name("name", Owner::Attempt(8)),
            "the keeper has it still"
        );
    }

    #[test]
    fn what_was_asked_long_ago_is_forgotten() {
        let mut owners = Owners::default();
        let credentials = Credentials::new(&[1; 10], &[2; 32]);
        let transaction = |n: usize| {
            let mut bytes = [0; 12];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            Transaction(bytes)
        };
        for n in 0..=PER_OWNER {
            let request = credentials.encode_request(transaction(n), Side::Client);
            owners.sent(&request, KEEPER);
        }
        assert_eq!(owners.transactions.len(), PER_OWNER);
        assert!(!owners.transactions.contains_key(&transaction(0)));
    }
}
