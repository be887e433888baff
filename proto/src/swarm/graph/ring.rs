//! One closed chain through all seats.

/// Seats in a circle, numbered from 0 without gaps. Each has one before it and one after it; one that
/// is not linked has itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring(Vec<[u32; 2]>);

const BEFORE: usize = 0;
const AFTER: usize = 1;

impl Ring {
    /// One more seat, with the next number, not linked.
    pub(super) fn push(&mut self) {
        let seat = self.0.len() as u32;
        self.0.push([seat, seat]);
    }

    /// Puts a seat that is not linked after another.
    pub(super) fn link(&mut self, seat: u32, beside: u32) {
        let next = self.after(beside);
        self.chain(beside, seat);
        self.chain(seat, next);
    }

    /// Takes a seat out of the circle.
    pub(super) fn unlink(&mut self, seat: u32) {
        let [before, after] = self.beside(seat);
        self.chain(before, after);
        self.0[seat as usize] = [seat, seat];
    }

    /// Removes a seat that is not linked; the last one gets its number.
    pub(super) fn swap_remove(&mut self, seat: u32) {
        let last = self.0.len() as u32 - 1;
        let [before, after] = self.beside(last);
        if seat != last && before == last {
            self.0[seat as usize] = [seat, seat];
        } else if seat != last {
            self.chain(before, seat);
            self.chain(seat, after);
        }
        self.0.pop();
        super::shrink(&mut self.0);
    }

    /// Those next to a seat on both sides.
    pub(super) fn beside(&self, seat: u32) -> [u32; 2] {
        self.0[seat as usize]
    }

    /// The one after a seat.
    pub(super) fn after(&self, seat: u32) -> u32 {
        self.0[seat as usize][AFTER]
    }

    /// How much room it has taken.
    #[cfg(test)]
    pub(super) fn capacity_bytes(&self) -> usize {
        self.0.capacity() * size_of::<[u32; 2]>()
    }

    fn chain(&mut self, one: u32, next: u32) {
        self.0[one as usize][AFTER] = next;
        self.0[next as usize][BEFORE] = one;
    }
}
