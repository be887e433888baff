//! When something is next to be woken: a binary heap of times in which each id has one place.

/// Nanoseconds since the simulation began.
pub(super) type Nanos = u64;

const ABSENT: usize = usize::MAX;

/// The next time of each id, the earliest first; of equal times, the smallest id.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    heap: Vec<(Nanos, u32)>,
    /// Where each id is in the heap.
    place: Vec<usize>,
}

impl Wakes {
    /// The earliest.
    pub(super) fn first(&self) -> Option<(Nanos, u32)> {
        self.heap.first().copied()
    }

    /// When this id is woken.
    pub(super) fn of(&self, id: u32) -> Option<Nanos> {
        let place = self
            .place
            .get(id as usize)
            .filter(|place| **place != ABSENT)?;
        Some(self.heap[*place].0)
    }

    /// Sets the time of an id, or takes it out.
    pub(super) fn set(&mut self, id: u32, at: Option<Nanos>) {
        match at {
            Some(at) => self.put(id, at),
            None => self.remove(id),
        }
    }

    fn put(&mut self, id: u32, at: Nanos) {
        let index = id as usize;
        if self.place.len() <= index {
            self.place.resize(index + 1, ABSENT);
        }
        if self.place[index] == ABSENT {
            self.place[index] = self.heap.len();
            self.heap.push((at, id));
        } else {
            self.heap[self.place[index]].0 = at;
        }
        self.settle(self.place[index]);
    }

    fn remove(&mut self, id: u32) {
        let Some(at) = self
            .place
            .get(id as usize)
            .copied()
            .filter(|at| *at != ABSENT)
        else {
            return;
        };
        self.heap.swap_remove(at);
        self.place[id as usize] = ABSENT;
        if at < self.heap.len() {
            self.place[self.heap[at].1 as usize] = at;
            self.settle(at);
        }
    }

    fn settle(&mut self, mut at: usize) {
        while at > 0 && self.heap[at] < self.heap[(at - 1) / 2] {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
        loop {
            let children = 2 * at + 1..(2 * at + 3).min(self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap[*child]) else {
                return;
            };
            if self.heap[at] <= self.heap[least] {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.place[self.heap[a].1 as usize] = a;
        self.place[self.heap[b].1 as usize] = b;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_is_the_earliest(
            steps in prop::collection::vec((0..20u32, prop::option::of(0..50u64)), 0..200)
        ) {
            let (mut wakes, mut model) = (Wakes::default(), BTreeMap::new());
            for (id, at) in steps {
                wakes.set(id, at);
                match at {
                    Some(at) => drop(model.insert(id, at)),
                    None => drop(model.remove(&id)),
                }
                prop_assert_eq!(wakes.of(id), at);
                let first = model.iter().map(|(id, at)| (*at, *id)).min();
                prop_assert_eq!(wakes.first(), first);
            }
        }
    }
}
