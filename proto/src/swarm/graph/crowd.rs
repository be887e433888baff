//! Seats in groups, of which one can be drawn.

use std::collections::BTreeMap;

use rand::Rng;

/// Each seat, numbered from 0 without gaps, is in one group.
#[derive(Clone, Debug)]
pub(super) struct Crowd<G> {
    groups: BTreeMap<G, Vec<u32>>,
    /// Group of each seat, and its position in there.
    places: Vec<(G, u32)>,
}

impl<G> Default for Crowd<G> {
    fn default() -> Self {
        Crowd {
            groups: BTreeMap::new(),
            places: Vec::new(),
        }
    }
}

impl<G: Copy + Ord> Crowd<G> {
    /// One more seat, with the next number.
    pub(super) fn push(&mut self, group: G) {
        let seat = self.places.len() as u32;
        self.places.push((group, 0));
        self.enter(seat, group);
    }

    /// A seat is in another group from now on.
    pub(super) fn set(&mut self, seat: u32, group: G) {
        self.quit(seat);
        self.enter(seat, group);
    }

    /// Removes a seat; the last one gets its number.
    pub(super) fn swap_remove(&mut self, seat: u32) {
        self.quit(seat);
        let last = self.places.len() as u32 - 1;
        if seat != last {
            let (group, at) = self.places[last as usize];
            if let Some(seats) = self.groups.get_mut(&group) {
                seats[at as usize] = seat;
            }
        }
        self.places.swap_remove(seat as usize);
        super::shrink(&mut self.places);
    }

    /// The seats of a group.
    pub(super) fn group(&self, group: G) -> &[u32] {
        self.groups.get(&group).map_or(&[], Vec::as_slice)
    }

    /// A seat of a group at random.
    pub(super) fn any(&self, group: G, rng: &mut impl Rng) -> Option<u32> {
        let seats = self.group(group);
        (!seats.is_empty()).then(|| seats[rng.random_range(0..seats.len())])
    }

    /// How much room it has taken; of a B-tree two thirds are taken to be full.
    #[cfg(test)]
    pub(super) fn capacity_bytes(&self) -> usize {
        let seats = self.groups.values().map(|seats| 4 * seats.capacity());
        let group = size_of::<G>() + size_of::<Vec<u32>>();
        self.places.capacity() * size_of::<(G, u32)>()
            + self.groups.len() * group * 3 / 2
            + seats.sum::<usize>()
    }

    fn enter(&mut self, seat: u32, group: G) {
        let seats = self.groups.entry(group).or_default();
        self.places[seat as usize] = (group, seats.len() as u32);
        seats.push(seat);
    }

    fn quit(&mut self, seat: u32) {
        let (group, at) = self.places[seat as usize];
        let Some(seats) = self.groups.get_mut(&group) else {
            return;
        };
        seats.swap_remove(at as usize);
        super::shrink(seats);
        if let Some(moved) = seats.get(at as usize) {
            self.places[*moved as usize].1 = at;
        }
        if seats.is_empty() {
            self.groups.remove(&group);
        }
    }
}
