//! Who guesses what, from what is known of both NATs.
//!
//! Where a NAT's next outside port can be foretold, one packet to it is enough. Where it is any of
//! `n`, somebody who opens `s` of them and somebody who checks `m` meet with a chance of
//! `1 - (1 - s/n)^m`. Where neither side's port is known, each packet of one side is a bet on two ports
//! at once: `a` packets into a range of `n` and `b` into one of `m` meet `ab/nm` times on average, so
//! that only small ranges can be had.
//!
//! | | easy, filtering by port | sequential | block | wide |
//! | --- | --- | --- | --- | --- |
//! | **easy** | checks | prediction | birthday | birthday |
//! | **sequential** | | mutual prediction | crowding (99 %) | no |
//! | **sequential, by address** | | mutual prediction | birthday | birthday |
//! | **block** | | | spray | no |
//! | **wide** | | | | no |
//!
//! An *easy* side has one port for all; if it lets in what comes from any port of an address it has
//! sent to, nothing need be guessed. A mapping *by address* has one port for all ports of a peer: as
//! soon as that is known, which only a sequence makes possible, its side is easy for this peer. A
//! block of 1,024 is met by another in 98 of 100 attempts, one of 2,000 in 70, or in all if one of the
//! two maps by address.
//!
//! A side in sequence knows where a run of its ports is that it has just opened, each to another port of
//! the block. The other sends to two of them from as many sockets as it can: to one destination no two
//! sockets get the same port, so that 1,024 take all of such a block, and either of the two is met unless
//! a packet is lost or the port is somebody else's; of a block of 2,000 in 80 %. Sprays at all ports would
//! meet in 88 % with as many packets, three ports from two thirds of the sockets in 97 %.
//!
//! A sequence and a wide range, a block and a wide range, and two wide ranges meet
//! less than once in ten attempts within any budget that a home router survives.

use std::ops::RangeInclusive;

use super::Guessing;
use crate::nat::{Dependence, LOWEST_PORT};
use crate::wire::{NatFiltering, NatMapping, Technique};

/// Most packets of one side in a block spray.
pub(super) const SPRAY: usize = 2_200;

/// Sprays that would meet less than this often on average, in halves of the time, are not tried.
const WORTHWHILE: f64 = 0.7;

/// Where a NAT's outside ports come from, as far as a peer is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// One port for all destinations, or not known to be otherwise.
    Easy {
        /// Only what comes from an address and port that was sent to is let in.
        is_shut: bool,
    },
    /// The next one of a sequence.
    Sequential {
        /// From one to the next.
        step: i16,
        /// One for all ports of an address.
        by_address: bool,
    },
    /// Any of a range.
    Ranged(Range),
}

/// Outside ports, none of them below 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    low: u16,
    high: u16,
}

impl Range {
    /// All there are.
    pub(super) const WIDE: Range = Range {
        low: LOWEST_PORT,
        high: u16::MAX,
    };

    /// What somebody claims; all there are if that means nothing.
    pub(super) fn claimed(low: u16, high: u16) -> Range {
        let low = low.max(LOWEST_PORT);
        match low <= high {
            true => Range { low, high },
            false => Range::WIDE,
        }
    }

    pub(super) fn size(self) -> usize {
        usize::from(self.high - self.low) + 1
    }

    pub(super) fn ports(self) -> RangeInclusive<u16> {
        self.low..=self.high
    }

    pub(super) fn mapping(self) -> NatMapping {
        NatMapping::Random {
            low: self.low,
            high: self.high,
        }
    }
}

impl Class {
    pub(super) fn of(mapping: NatMapping, filtering: NatFiltering) -> Class {
        match mapping {
            NatMapping::Unknown | NatMapping::EndpointIndependent => Class::Easy {
                is_shut: filtering != NatFiltering::PortIndependent,
            },
            NatMapping::AddressDependent => Class::Ranged(Range::WIDE),
            // No sequence: nothing follows from it.
            NatMapping::Sequential { step: 0 } => Class::Ranged(Range::WIDE),
            NatMapping::Sequential { step } => Class::Sequential {
                step,
                by_address: false,
            },
            NatMapping::Random { low, high } => Class::Ranged(Range::claimed(low, high)),
        }
    }

    /// The same when it is known what its mapping depends on.
    pub(super) fn given(self, dependence: Option<Dependence>) -> Class {
        match self {
            Class::Sequential { step, .. } => Class::Sequential {
                step,
                by_address: dependence == Some(Dependence::AddressDependent),
            },
            other => other,
        }
    }

    fn is_hard(self) -> bool {
        !matches!(self, Class::Easy { .. })
    }
}

/// What our side does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// We open one port and say which it most likely is.
    Predicted,
    /// We check the ports around the one we are told.
    Predicting,
    /// Both aim many sockets at the port that the other is about to get.
    Mutual,
    /// We find out our port for this peer's address, and are easy from then on.
    Settling,
    /// We open many ports.
    Opening,
    /// We check many ports.
    Spraying,
    /// Both check all ports of the other.
    Block,
    /// We open a run of ports and say where it is.
    Lining,
    /// We check a few ports of the run from as many of ours as we can.
    Crowding,
}

impl Role {
    pub(super) fn technique(self) -> Technique {
        match self {
            Role::Predicted | Role::Predicting => Technique::Prediction,
            Role::Mutual => Technique::MutualPrediction,
            Role::Settling | Role::Opening | Role::Spraying => Technique::Birthday,
            Role::Block | Role::Lining | Role::Crowding => Technique::BlockSpray,
        }
    }
}

/// Our role, if there is anything to guess.
pub(super) fn role(own: Class, peer: Class) -> Option<Role> {
    use Class::{Easy, Ranged, Sequential};
    match (own, peer) {
        (Easy { .. }, Easy { .. }) => None,
        (Easy { is_shut }, Sequential { .. }) => is_shut.then_some(Role::Predicting),
        (Easy { is_shut }, Ranged(_)) => is_shut.then_some(Role::Spraying),
        (Sequential { .. }, Easy { is_shut }) => is_shut.then_some(Role::Predicted),
        (Ranged(_), Easy { is_shut }) => is_shut.then_some(Role::Opening),
        (Sequential { .. }, Sequential { .. }) => Some(Role::Mutual),
        (
            Sequential {
                by_address: true, ..
            },
            Ranged(_),
        ) => Some(Role::Settling),
        (Sequential { .. }, Ranged(range)) => run_meets(range).then_some(Role::Lining),
        (Ranged(range), Sequential { .. }) => Some(match run_meets(range) {
            true => Role::Crowding,
            // Unless the peer settles, nothing will come of it, and nothing is sent.
            false => Role::Opening,
        }),
        (Ranged(ours), Ranged(theirs)) => blocks_meet(ours, theirs).then_some(Role::Block),
    }
}

/// How often two sprays meet on average when each side picks from its range.
fn blocks_meet(ours: Range, theirs: Range) -> bool {
    let (spray, size) = (SPRAY as f64, |range: Range| range.size() as f64);
    let full = size(ours) <= spray && size(theirs) <= spray;
    full || spray * spray / (size(ours) * size(theirs)) >= WORTHWHILE
}

/// Whether a few ports of a run meet a crowd from this range half of the time: about as above.
fn run_meets(range: Range) -> bool {
    SPRAY as f64 / range.size() as f64 >= WORTHWHILE
}

/// Which techniques can find a path between two NATs, the most promising first. The order in which a
/// tracker knows nothing better: `swarm::TechniqueMemory`.
pub fn possible(
    a: (NatMapping, NatFiltering),
    b: (NatMapping, NatFiltering),
) -> impl Iterator<Item = Technique> {
    let (a, b) = (Class::of(a.0, a.1), Class::of(b.0, b.1));
    let guess = role(a, b).map(Role::technique);
    // Somebody else's flows may have disturbed the sequence.
    let instead = match (guess, a.is_hard() != b.is_hard()) {
        (Some(Technique::Prediction), true) => Some(Technique::Birthday),
        _ => None,
    };
    let may_check = guess.is_none().then_some(Technique::Checks);
    guess.into_iter().chain(instead).chain(may_check)
}

/// Whether two sides both map by destination in a way that no technique meets.
pub(in crate::nat) fn is_hopeless(own: &Guessing, peer: (NatMapping, NatFiltering)) -> bool {
    let own = Class::of(own.mapping, own.filtering).given(own.dependence);
    let peer = Class::of(peer.0, peer.1);
    own.is_hard() && peer.is_hard() && role(own, peer).is_none()
}

/// What a side passes for when the tracker advises a birthday where a sequence was measured.
pub(super) fn advised(class: Class, other: Class, advice: Option<Technique>) -> Class {
    match (class, other, advice) {
        (Class::Sequential { .. }, Class::Easy { is_shut: true }, Some(Technique::Birthday)) => {
            Class::Ranged(Range::WIDE)
        }
        _ => class,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EASY: Class = Class::Easy { is_shut: true };
    const OPEN: Class = Class::Easy { is_shut: false };
    const SEQUENTIAL: Class = Class::Sequential {
        step: 1,
        by_address: false,
    };
    const BY_ADDRESS: Class = Class::Sequential {
        step: 1,
        by_address: true,
    };
    const BLOCK: Class = Class::Ranged(Range {
        low: 20_480,
        high: 21_503,
    });
    const WIDE: Class = Class::Ranged(Range::WIDE);

    #[test]
    fn both_sides_play_the_same_game() {
        use Role::*;
        for (ours, theirs, expected) in [
            (EASY, EASY, None),
            (OPEN, SEQUENTIAL, None),
            (OPEN, WIDE, None),
            (EASY, SEQUENTIAL, Some((Predicting, Predicted))),
            (EASY, BY_ADDRESS, Some((Predicting, Predicted))),
            (EASY, BLOCK, Some((Spraying, Opening))),
            (EASY, WIDE, Some((Spraying, Opening))),
            (SEQUENTIAL, SEQUENTIAL, Some((Mutual, Mutual))),
            (SEQUENTIAL, BLOCK, Some((Lining, Crowding))),
            (BY_ADDRESS, WIDE, Some((Settling, Opening))),
            (BLOCK, BLOCK, Some((Block, Block))),
            (BLOCK, WIDE, None),
            (WIDE, WIDE, None),
        ] {
            let roles = role(ours, theirs).zip(role(theirs, ours));
            assert_eq!(roles, expected, "{ours:?} {theirs:?}");
        }
        // It waits for a word that never comes.
        assert_eq!(role(SEQUENTIAL, WIDE), None);
        assert_eq!(role(WIDE, SEQUENTIAL), Some(Opening));
    }

    #[test]
    fn sprays_are_tried_where_they_meet_more_often_than_not() {
        let block = |size: u16| Range::claimed(10_000, 10_000 + size - 1);
        assert!(blocks_meet(block(1_024), block(1_024)));
        assert!(blocks_meet(block(2_000), block(2_000)));
        assert!(blocks_meet(block(1_024), block(4_096)));
        assert!(!blocks_meet(block(4_096), block(4_096)));
        assert!(run_meets(block(1_024)) && run_meets(block(3_000)) && !run_meets(block(4_096)));
    }

    #[test]
    fn what_a_peer_claims_makes_a_range_of_usable_ports() {
        assert_eq!(Range::claimed(0, 2_000).ports(), 1024..=2_000);
        assert_eq!(Range::claimed(5_000, 5_000).size(), 1);
        for nonsense in [(6_000, 5_000), (0, 1_023)] {
            assert_eq!(Range::claimed(nonsense.0, nonsense.1), Range::WIDE);
        }
        let none = NatMapping::Sequential { step: 0 };
        assert_eq!(Class::of(none, NatFiltering::Unknown), WIDE);
    }

    #[test]
    fn advice_replaces_a_prediction_by_a_birthday_on_both_sides() {
        let advice = Some(Technique::Birthday);
        let ours = advised(SEQUENTIAL, EASY, advice);
        assert_eq!(role(ours, EASY), Some(Role::Opening));
        assert_eq!(role(EASY, ours), Some(Role::Spraying));
        assert_eq!(advised(SEQUENTIAL, SEQUENTIAL, advice), SEQUENTIAL);
        assert_eq!(advised(SEQUENTIAL, EASY, None), SEQUENTIAL);
    }

    #[test]
    fn a_tracker_can_tell_what_is_possible() {
        let shut = |mapping| (mapping, NatFiltering::PortDependent);
        let easy = shut(NatMapping::EndpointIndependent);
        let sequential = shut(NatMapping::Sequential { step: 1 });
        let wide = shut(NatMapping::AddressDependent);
        for (a, b, expected) in [
            (easy, easy, vec![Technique::Checks]),
            (
                easy,
                sequential,
                vec![Technique::Prediction, Technique::Birthday],
            ),
            (easy, wide, vec![Technique::Birthday]),
            (sequential, sequential, vec![Technique::MutualPrediction]),
            (wide, wide, vec![Technique::Checks]),
        ] {
            assert_eq!(possible(a, b).collect::<Vec<_>>(), expected);
            assert_eq!(possible(b, a).collect::<Vec<_>>(), expected);
        }
    }
}
