//! When a guess may begin, and what it takes.

use std::time::Duration;

use super::plan::{Role, SPRAY};
use super::shots::{AIMED, AROUND, OPENINGS, PROBES, RUN};
use super::{Guessing, ROUNDS};
use crate::wire::{Candidate, NatFiltering, Rendezvous};

/// Other candidates are tried first for so long.
pub(super) const GRACE: Duration = Duration::from_millis(250);

/// The same when nobody knows whether the easy side filters by port.
pub(super) const UNSURE_GRACE: Duration = Duration::from_millis(500);

/// The same where both sides are seen by IPv6, so that nothing need be guessed as long as the firewalls
/// there let out what is asked: two checks around the world, and what the two sides start apart.
pub(super) const FAMILY_GRACE: Duration = Duration::from_millis(1_000);

/// How long to wait for other ways before guessing.
pub(super) fn grace(role: Role, rendezvous: &Rendezvous, own: &Guessing) -> Duration {
    let easy = match role {
        _ if own.has_ipv6 && rendezvous.is_seen_by_ipv6() => return FAMILY_GRACE,
        // It takes three packets, and the other side begins when it hears of it.
        Role::Predicted => return Duration::ZERO,
        Role::Predicting | Role::Spraying => own.filtering,
        Role::Opening => rendezvous.filtering,
        Role::Mutual | Role::Settling | Role::Lining | Role::Crowding | Role::Block => {
            NatFiltering::PortDependent
        }
    };
    // Nobody without IPv6 need wait for it.
    let is_tried = |it: &&Candidate| own.has_ipv6 || it.address.ip().to_canonical().is_ipv4();
    match (easy, rendezvous.candidates.iter().filter(is_tried).count()) {
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
