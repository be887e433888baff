//! How many there are of each: an index that is kept, so that nothing has to be counted.

use std::collections::BTreeMap;

/// Counts by key; a key whose count is 0 takes no room.
#[derive(Debug)]
pub(crate) struct Tally<K> {
    counts: BTreeMap<K, usize>,
    total: usize,
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        let (counts, total) = (BTreeMap::new(), 0);
        Tally { counts, total }
    }
}

impl<K: Ord> Tally<K> {
    pub(crate) fn count(&self, key: &K) -> usize {
        self.counts.get(key).copied().unwrap_or(0)
    }

    /// Of all keys together.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    pub(crate) fn add(&mut self, key: K) {
        *self.counts.entry(key).or_insert(0) += 1;
        self.total += 1;
    }

    /// Takes back one [`Tally::add`].
    pub(crate) fn subtract(&mut self, key: &K) {
        let Some(count) = self.counts.get_mut(key) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(key);
        }
        self.total -= 1;
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.total == 0
    }
}
