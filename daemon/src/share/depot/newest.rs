//! Changes on their way to the database: each is written by a task of its own, and what was noted last is what
//! stays.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The newest value of each of some things, until the database has it.
#[derive(Debug)]
pub(super) struct Newest<K, V> {
    unwritten: Mutex<BTreeMap<K, V>>,
    /// Held while one is written, so that no older one comes after it.
    writing: Mutex<()>,
}

impl<K, V> Default for Newest<K, V> {
    fn default() -> Newest<K, V> {
        Newest {
            unwritten: Mutex::default(),
            writing: Mutex::default(),
        }
    }
}

impl<K: Ord + Copy, V: Clone + PartialEq> Newest<K, V> {
    /// Notes how this is now. Waits for no disk; [`Self::keep`] is to follow.
    pub(super) fn note(&self, key: K, value: V) {
        lock(&self.unwritten).insert(key, value);
    }

    /// Changes how this is now and makes that durable. `read` says how it is where nothing is to be written.
    /// What is noted meanwhile stays, and is changed too.
    ///
    /// # Errors
    ///
    /// Those of `read` and `write`.
    pub(super) fn amend<E>(
        &self,
        key: &K,
        change: impl Fn(&mut V),
        read: impl FnOnce() -> Result<V, E>,
        write: impl FnOnce(&V) -> Result<(), E>,
    ) -> Result<(), E> {
        let _one_at_a_time = lock(&self.writing);
        let newest = lock(&self.unwritten).get(key).cloned();
        let mut amended = newest.map_or_else(read, Ok)?;
        change(&mut amended);
        write(&amended)?;
        let mut unwritten = lock(&self.unwritten);
        if let Some(newest) = unwritten.get_mut(key) {
            change(newest);
            if *newest == amended {
                unwritten.remove(key);
            }
        }
        Ok(())
    }

    /// Makes durable by `write` what was noted last, if that is not done. Whoever gets `Ok` can rely on it,
    /// whoever has written it.
    ///
    /// # Errors
    ///
    /// Those of `write`; what was noted is then still to be written, by whoever comes next.
    pub(super) fn keep<E>(
        &self,
        key: &K,
        write: impl FnOnce(&V) -> Result<(), E>,
    ) -> Result<(), E> {
        let _one_at_a_time = lock(&self.writing);
        let newest = lock(&self.unwritten).get(key).cloned();
        let Some(newest) = newest else {
            return Ok(());
        };
        write(&newest)?;
        let mut unwritten = lock(&self.unwritten);
        if unwritten.get(key) == Some(&newest) {
            unwritten.remove(key);
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_last_is_written_once_and_again_where_that_failed() {
        let (newest, written) = (Newest::default(), Mutex::new(Vec::new()));
        let keep = |result: Result<(), &'static str>| {
            newest.keep(&1, |value| {
                lock(&written).push(*value);
                result
            })
        };
        newest.note(1, "first");
        newest.note(1, "second");
        assert_eq!(keep(Err("the disk is full")), Err("the disk is full"));
        assert_eq!(keep(Ok(())), Ok(()));
        assert_eq!(keep(Err("nothing is left to write")), Ok(()));
        assert_eq!(*lock(&written), ["second", "second"]);
    }

    #[test]
    fn what_is_amended_is_what_is_there_now_and_what_comes_meanwhile_is_amended_too() {
        let newest = Newest::default();
        let amend = |stored: u32, meanwhile: Option<u32>| {
            let mut written = None;
            let write = |value: &u32| {
                written = Some(*value);
                meanwhile.into_iter().for_each(|it| newest.note(1, it));
                Ok::<_, ()>(())
            };
            newest
                .amend(&1, |value| *value |= 1, || Ok(stored), write)
                .unwrap();
            (written, lock(&newest.unwritten).get(&1).copied())
        };
        assert_eq!(amend(2, None), (Some(3), None));
        assert_eq!(amend(2, Some(4)), (Some(3), Some(5)));
        assert_eq!(amend(2, None), (Some(5), None), "what was noted counts");
    }

    #[test]
    fn what_is_noted_while_an_older_one_is_written_waits_for_nobody_and_is_written_next() {
        let newest = Newest::default();
        newest.note(1, "older");
        let note = |_: &&str| {
            newest.note(1, "newer");
            Ok::<_, ()>(())
        };
        newest.keep(&1, note).unwrap();
        let mut written = None;
        let write = |value: &&'static str| {
            written = Some(*value);
            Ok::<_, ()>(())
        };
        newest.keep(&1, write).unwrap();
        assert_eq!(written, Some("newer"));
    }
}
