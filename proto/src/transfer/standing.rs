//! What a download thinks of a peer as a source, and who it has banned.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use crate::id::PublicKey;
use crate::wire::NoReason;

/// What a download thinks of a peer: what keeps it from being asked, or else the worst of what it
/// is asked less for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is asked like any other.
    Good,
    /// Less than a third of the median of all peers comes from it. Windows are measured in what a peer
    /// delivers, and a chunk is asked of whom would bring it first, so it is asked last and for little;
    /// what waits at it goes to whom invites, or is asked of a second.
    Slow,
    /// It refused a chunk that it said it had, and has brought none since. It counts as lacking that
    /// chunk, or everything when what it shares has changed, until it says otherwise.
    Refused {
        /// What it said.
        reason: NoReason,
    },
    /// It stalled on chunks that others have too, which are asked of these alone.
    Shunned {
        /// When the last of them may be asked of it again.
        until: Instant,
    },
    /// So much has gone wrong in a row that what it has does not count as to be had directly.
    Unreliable,
    /// It serves others.
    Busy {
        /// When it is asked again.
        until: Instant,
    },
    /// A stream broke.
    Failed {
        /// When it is asked again.
        until: Instant,
    },
    /// Nothing came of a request for too long.
    Stalled {
        /// When it is asked again.
        until: Instant,
    },
    /// It sent wrong bytes, and is not asked again.
    Banned,
}

/// Those who are never asked again; of very many, the latest.
///
/// A key costs its owner nothing, so who wants to be asked again takes another. To remember all would
/// let whoever has many keys fill our memory.
#[derive(Clone, Debug, Default)]
pub struct BanList {
    keys: BTreeSet<PublicKey>,
    /// The oldest first.
    order: VecDeque<PublicKey>,
}

impl BanList {
    /// Most keys that are remembered: 32 bytes each, twice.
    pub const MAX: usize = 1024;

    /// Whether this one is banned.
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.keys.contains(key)
    }

    /// Bans this one. The oldest is forgotten when there are too many.
    pub fn insert(&mut self, key: PublicKey) {
        if !self.keys.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > Self::MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_the_oldest_is_forgotten() {
        let key = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&(number as u64).to_be_bytes());
            PublicKey(key)
        };
        let mut list = BanList::default();
        for number in 0..BanList::MAX {
            list.insert(key(number));
            list.insert(key(0));
        }
        assert!((0..BanList::MAX).all(|number| list.contains(&key(number))));
        for number in BanList::MAX..3 * BanList::MAX {
            list.insert(key(number));
            assert!(!list.contains(&key(number - BanList::MAX)));
            assert!(list.contains(&key(number + 1 - BanList::MAX)) && list.contains(&key(number)));
        }
        assert_eq!(
            (list.keys.len(), list.order.len()),
            (BanList::MAX, BanList::MAX)
        );
    }
}
