//! When a guess may begin, and what it takes.

use std::time::Duration;

use super::ROUNDS;
use super::plan::{Role, SPRAY};
use super::shots::{AIMED, AROUND, OPENINGS, PROBES, RUN};
use crate::wire::{NatFiltering, Rendezvous};

/// Other candidates are tried first for so long.
pub(super) const GRACE: Duration = Duration::from_millis(250);

/// The same when nobody knows whether the easy side filters by port.
pub(super) const UNSURE_GRACE: Duration = Duration::from_millis(500);

/// How long to wait for other ways before guessing.
pub(super) fn grace(role: Role, rendezvous: &Rendezvous, own: NatFiltering) -> Duration {
    let easy = match role {
        // It takes three packets, and the other side begins when it hears of it.
        Role::Predicted => return Duration::ZERO,
        Role::Predicting | Role::Spraying => own,
        Role::Opening => rendezvous.filtering,
        Role::Mutual | Role::Settling | Role::Lining | Role::Crowding | Role::Block => {
            NatFiltering::PortDependent
        }
    };
    match (easy, rendezvous.candidates.len()) {
        (NatFiltering::Unknown, _) => UNSURE_GRACE,
        (_, 0 | 1) => Duration::ZERO,
        (..) => GRACE,
    }
}

/// Most packets of a role's guesses.
pub(super) const fn packets(role: Role) -> usize {
    match role {
        Role::Predicted => 0,
        Role::Predicting => AROUND * ROUNDS,
        Role::Mutual => AIMED as usize * 3 * ROUNDS,
        Role::Opening => OPENINGS,
        Role::Settling | Role::Spraying => PROBES,
        Role::Lining => RUN,
        Role::Crowding | Role::Block => SPRAY,
    }
}

/// Flows with which a role's guess is worth while: half of the checks of a birthday hit in 92 of 100.
pub(super) const fn least(role: Role) -> usize {
    match role {
        Role::Predicted => 0,
        Role::Predicting => AROUND,
        Role::Mutual => AIMED as usize * ROUNDS,
        Role::Lining => RUN,
        Role::Opening => OPENINGS,
        Role::Settling | Role::Spraying => PROBES / 2,
        Role::Crowding | Role::Block => SPRAY / 2,
    }
}
