//! Rounds of a sequence: finding out by samples where our ports are, and saying it.

use std::time::Instant;

use rand::Rng;

use super::plan::{Class, Role};
use super::sampling::Sampling;
use super::shots::{self, AHEAD, Shot};
use super::{Guess, Move, NoPath, OPEN, REST, SETTLINGS, Stage};
use crate::nat::probe::Question;
use crate::nat::stun::Transaction;
use crate::wire::NatMapping;

impl Guess {
    /// Finds out where our sequence is: with one sample, or two around packets to the peer.
    pub(super) fn begin_round(&mut self, now: Instant) {
        self.rounds += 1;
        self.has_said = false;
        self.shots.clear();
        let is_bracket = matches!(self.role, Role::Predicted | Role::Settling | Role::Lining);
        let before = self.ask();
        let mut questions = vec![before];
        if is_bracket {
            self.easy_via = self.new_via();
            questions.push(self.ask());
        }
        let mut sampling = Sampling::new(questions.into_iter().map(|ask| ask(now)).collect());
        let mut asked = sampling.take_due(now).into_iter().map(Move::Ask);
        self.moves.extend(asked.next());
        if is_bracket {
            self.shots = self.open().into();
            self.last_shot = now;
            self.shoot(now);
        }
        self.moves.extend(asked);
        self.stage = Stage::Sampling(sampling);
    }

    /// What is sent between two samples.
    fn open(&mut self) -> Vec<Shot> {
        let (via, opening) = (self.easy_via, self.opening());
        match (self.role, self.theirs) {
            (Role::Lining, Class::Ranged(range)) => {
                shots::open_run(via, self.told.ip(), range, opening, &mut self.rng)
            }
            _ => shots::open_one(via, self.told, opening, self.rounds - 1),
        }
    }

    pub(super) fn opening(&self) -> shots::Opening {
        shots::Opening {
            filtering: self.filtering,
            primer_hops: self.settings.primer_hops,
        }
    }

    /// A question from a socket of its own.
    fn ask(&mut self) -> impl FnOnce(Instant) -> Question + use<> {
        let (via, server) = (self.new_via(), self.settings.stun);
        let transaction = Transaction(self.rng.random());
        move |now| Question::new(now, via, server, transaction)
    }

    pub(super) fn handle_samples(&mut self, now: Instant) {
        let Stage::Sampling(sampling) = &self.stage else {
            return;
        };
        let Some(step) = self.step() else {
            return self.end(NoPath::NoSample);
        };
        let (newest, between) = (sampling.newest(), sampling.between(step));
        match self.role {
            Role::Settling => match between {
                Some(port) if port.is_certain => self.settle(now, port.port),
                _ if self.rounds < SETTLINGS => self.begin_round(now),
                _ => self.end(NoPath::NoSample),
            },
            Role::Predicted | Role::Lining => {
                if let Some(between) = between {
                    self.say(between.port, NatMapping::Sequential { step });
                }
                let rest = if self.role == Role::Lining {
                    OPEN
                } else {
                    REST
                };
                self.stage = Stage::Resting { until: now + rest };
            }
            _ => {
                let place = newest.and_then(|port| shots::stepped(port, step, AHEAD.into()));
                match place {
                    Some(port) => self.say(port, NatMapping::Sequential { step }),
                    None => return self.end(NoPath::NoSample),
                }
                self.proceed(now);
            }
        }
    }

    /// Our port for the peer's address is known: for this peer we are easy. What it has said so far was
    /// to somebody else.
    fn settle(&mut self, now: Instant, port: u16) {
        self.own = Class::Easy { is_shut: true };
        self.role = Role::Spraying;
        self.word = None;
        self.say(port, NatMapping::EndpointIndependent);
        self.proceed(now);
    }

    /// Of our own sequence, if our ports come in one.
    fn step(&self) -> Option<i16> {
        match self.own {
            Class::Sequential { step, .. } => Some(step),
            Class::Easy { .. } | Class::Ranged(_) => None,
        }
    }
}
