//! What is sent for the peer's word, and what comes after that.

use std::time::Instant;

use super::plan::{Class, Role};
use super::shots::{self, AIMED, Shot};
use super::{Guess, NoPath, OPEN, REST, ROUNDS, Stage, Word};

impl Guess {
    /// Sends what the peer's word is for.
    pub(super) fn fire(&mut self, now: Instant) {
        let Some(word) = self.word.take() else {
            return;
        };
        self.shots = self.aim(word).into();
        self.last_shot = now;
        self.stage = Stage::Firing;
        self.handle_timeout(now);
    }

    fn aim(&mut self, word: Word) -> Vec<Shot> {
        let Word { address, class } = word;
        match (self.role, class) {
            (Role::Predicting, Class::Sequential { step, .. }) => shots::around(address, step),
            (Role::Mutual, _) => {
                let vias: Vec<u16> = (0..AIMED).map(|_| self.new_via()).collect();
                shots::volleys(&vias, address)
            }
            (Role::Opening, _) => {
                let Class::Ranged(range) = self.own else {
                    return Vec::new();
                };
                let first = self.next_via;
                self.next_via += shots::openings(range) as u16;
                shots::open_many(first..self.next_via, address, self.opening())
            }
            (Role::Spraying, Class::Ranged(range)) => {
                shots::birthday(self.easy_via, address.ip(), range, &mut self.rng)
            }
            (Role::Crowding, Class::Sequential { step, .. }) => {
                let Class::Ranged(range) = self.own else {
                    return Vec::new();
                };
                let sockets = shots::crowd_size(range);
                let vias: Vec<u16> = (0..sockets).map(|_| self.new_via()).collect();
                shots::crowd(&vias, address, step)
            }
            (Role::Block, Class::Ranged(theirs)) => {
                let (ip, ports) = (address.ip(), theirs.ports().collect());
                let mut rng = self.rng.clone();
                let shots = shots::spray(|| self.new_via(), ip, ports, &mut rng);
                self.rng = rng;
                shots
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn handle_fired(&mut self, now: Instant) {
        let until = match self.role {
            Role::Opening => {
                self.say_place();
                now + OPEN
            }
            Role::Predicting => self.ends,
            _ => now + REST,
        };
        self.stage = Stage::Resting { until };
    }

    pub(super) fn handle_rested(&mut self, now: Instant) {
        match self.role {
            Role::Predicted | Role::Mutual if self.rounds < ROUNDS => self.begin_round(now),
            _ => self.end(NoPath::NoAnswer),
        }
    }
}
