//! Pairs of NATs that meet only by guessing: how often, with how many packets, how fast.
//!
//! Both sides are measured first by the production probes, introduced by the production introducer
//! and held to the production turnstile and allowance, as in a daemon.

use std::time::Duration;

use proptest::prelude::*;

use super::pair::{Pair, Routers, Run, SeenBy};
use super::{CLASHING, HOME, ms};
use crate::nat::Dependence;
use crate::nat::sim::{NatKind, Ports};
use crate::wire::Technique;
use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};

const fn hard(mapping: Dependence, ports: Ports) -> NatKind {
    NatKind::new(mapping, AddressAndPortDependent, ports)
}

/// By port, and others behind the NAT take 20 ports a second.
const SEQUENTIAL: NatKind = NatKind {
    others_per_s: 20,
    ..hard(AddressAndPortDependent, Ports::Sequential(1))
};

const SEQUENTIAL_BY_ADDRESS: NatKind = NatKind {
    mapping: AddressDependent,
    ..SEQUENTIAL
};

const RANDOM: NatKind = hard(AddressAndPortDependent, Ports::Random);
const RANDOM_BY_ADDRESS: NatKind = hard(AddressDependent, Ports::Random);
const BLOCK: NatKind = hard(AddressAndPortDependent, Ports::Block(1_024));
const BLOCK_BY_ADDRESS: NatKind = hard(AddressDependent, Ports::Block(2_000));

/// One port for each IP address, as some company networks do: from a few thousand, and as the lab's.
const BY_ADDRESS: NatKind = hard(AddressDependent, Ports::Block(4_000));

/// Ports of its own choice, one for all destinations.
const CARRIER: NatKind = NatKind {
    ports: Ports::Random,
    ..HOME
};
const FULL_CONE: NatKind = NatKind {
    filtering: EndpointIndependent,
    ..HOME
};
const ADDRESS_RESTRICTED: NatKind = NatKind {
    filtering: AddressDependent,
    ..HOME
};

/// What a technique must reach, over so many runs.
struct Floor {
    pairs: &'static [(NatKind, NatKind)],
    technique: Technique,
    runs: u64,
    /// In percent.
    success: f64,
    /// Of both sides until both have proven a path: what 95 % of the runs that met stay below.
    packets: usize,
    /// The same for the time from the later start.
    p95: Duration,
}

#[test]
fn a_sequence_is_met_by_prediction() {
    Floor {
        pairs: &[
            (SEQUENTIAL, HOME),
            (HOME, SEQUENTIAL),
            (SEQUENTIAL, CLASHING),
            (SEQUENTIAL_BY_ADDRESS, HOME),
        ],
        technique: Technique::Prediction,
        runs: 60,
        success: 98.0,
        packets: 60,
        p95: ms(1_000),
    }
    .check();
}

#[test]
fn two_sequences_meet_by_mutual_prediction() {
    Floor {
        pairs: &[
            (SEQUENTIAL, SEQUENTIAL),
            (SEQUENTIAL, SEQUENTIAL_BY_ADDRESS),
        ],
        technique: Technique::MutualPrediction,
        runs: 60,
        success: 95.0,
        packets: 200,
        p95: ms(1_500),
    }
    .check();
}

#[test]
fn any_port_is_hit_by_a_birthday() {
    Floor {
        pairs: &[
            (RANDOM, HOME),
            (HOME, RANDOM_BY_ADDRESS),
            (RANDOM, CLASHING),
        ],
        technique: Technique::Birthday,
        runs: 100,
        success: 96.0,
        packets: 1_300,
        p95: ms(1_500),
    }
    .check();
}

#[test]
fn a_port_of_a_block_is_hit_soon() {
    Floor {
        pairs: &[(BLOCK, HOME), (BLOCK_BY_ADDRESS, CLASHING)],
        technique: Technique::Birthday,
        runs: 40,
        success: 98.0,
        packets: 400,
        p95: ms(1_500),
    }
    .check();
}

#[test]
fn a_sequence_by_address_is_as_good_as_an_easy_nat() {
    Floor {
        pairs: &[
            (SEQUENTIAL_BY_ADDRESS, RANDOM),
            (BLOCK, SEQUENTIAL_BY_ADDRESS),
        ],
        technique: Technique::Birthday,
        runs: 40,
        success: 95.0,
        packets: 1_300,
        p95: ms(3_000),
    }
    .check();
}

#[test]
fn a_nat_that_maps_by_address_meets_every_easy_one_by_a_birthday_among_few_ports() {
    Floor {
        pairs: &[
            (BY_ADDRESS, HOME),
            (HOME, BY_ADDRESS),
            (BY_ADDRESS, CARRIER),
            (CARRIER, BY_ADDRESS),
            (BY_ADDRESS, CLASHING),
            (CLASHING, BY_ADDRESS),
        ],
        technique: Technique::Birthday,
        runs: 60,
        success: 98.0,
        packets: 600,
        p95: ms(1_500),
    }
    .check();
}

#[test]
fn a_nat_that_maps_by_address_meets_who_lets_in_other_ports_by_checks() {
    Floor {
        pairs: &[
            (BY_ADDRESS, FULL_CONE),
            (FULL_CONE, BY_ADDRESS),
            (BY_ADDRESS, ADDRESS_RESTRICTED),
            (ADDRESS_RESTRICTED, BY_ADDRESS),
        ],
        technique: Technique::Checks,
        runs: 60,
        success: 100.0,
        packets: 100,
        p95: ms(1_000),
    }
    .check();
}

#[test]
fn a_mapping_by_address_must_be_known_and_two_open_peers_are_enough_for_that() {
    for (ours, theirs) in [(BY_ADDRESS, HOME), (CLASHING, BY_ADDRESS)] {
        let met = |seen_by| {
            let meets = |seed: &u64| {
                let mut pair = Pair::of(ours, theirs, seed * 7_919 + 13);
                pair.seen_by = seen_by;
                pair.meet().time.is_some()
            };
            (0..40).filter(meets).count()
        };
        assert_eq!(met(SeenBy::Nobody), 0, "{ours:?} {theirs:?}");
        let seen = met(SeenBy::OpenPeers);
        assert!(seen >= 39, "{seen} of 40: {ours:?} {theirs:?}");
    }
}

#[test]
fn two_blocks_meet_when_both_check_all() {
    Floor {
        pairs: &[(BLOCK, BLOCK)],
        technique: Technique::BlockSpray,
        runs: 60,
        success: 95.0,
        packets: 4_600,
        p95: ms(4_000),
    }
    .check();
}

/// One packet of either side can hit, and none is left to repeat it: of packets 5 % lost they meet in 92
/// of 100 attempts.
#[test]
fn two_blocks_by_address_meet_when_both_check_all_and_little_is_lost() {
    Floor {
        pairs: &[(BLOCK_BY_ADDRESS, BLOCK_BY_ADDRESS)],
        technique: Technique::BlockSpray,
        runs: 150,
        success: 85.0,
        packets: 4_600,
        p95: ms(4_000),
    }
    .check();
}

#[test]
fn a_sequence_and_a_block_meet_in_a_crowd() {
    Floor {
        pairs: &[(SEQUENTIAL, BLOCK), (BLOCK, SEQUENTIAL)],
        technique: Technique::BlockSpray,
        runs: 150,
        success: 98.0,
        packets: 1_500,
        p95: ms(3_000),
    }
    .check();
}

#[test]
fn a_carriers_nat_behind_a_homes_is_opened_and_one_that_clashes_is_not_shut() {
    for routers in [1, 2, 6] {
        for (kinds, is_carrier) in [
            ([CLASHING, RANDOM], [false, true]),
            ([RANDOM, CLASHING], [true, false]),
            ([CLASHING, BLOCK], [false, true]),
            ([CLASHING, SEQUENTIAL], [false, true]),
        ] {
            let met = met(60, |seed| Pair {
                is_carrier,
                routers: Routers {
                    to_servers: routers,
                    to_peer: routers,
                },
                ..Pair::of(kinds[0], kinds[1], seed)
            });
            assert!(met >= 57, "{met} of 60, {routers} routers: {kinds:?}");
        }
    }
}

#[test]
fn neighbours_whose_tracker_is_far_still_meet_though_one_router_is_between_them() {
    for (ours, floor) in [(RANDOM, 40), (BLOCK, 90), (SEQUENTIAL, 90)] {
        let met = met(100, |seed| Pair {
            routers: Routers {
                to_servers: 6,
                to_peer: 1,
            },
            ..Pair::of(ours, CLASHING, seed)
        });
        assert!(met >= floor, "{met} of 100: {ours:?}");
    }
}

/// How many of so many pairs meet.
fn met(runs: u64, pair: impl Fn(u64) -> Pair) -> usize {
    let meets = |number: &u64| pair(number * 7_919 + 13).meet().time.is_some();
    (0..runs).filter(meets).count()
}

#[test]
fn both_sides_settle_on_one_path_where_several_guesses_hit_and_nominations_are_lost() {
    for theirs in [BLOCK, RANDOM] {
        let met = met(60, |seed| Pair {
            lost_nominations: 3,
            ..Pair::of(CLASHING, theirs, seed)
        });
        assert!(met >= 57, "{met} of 60: {theirs:?}");
    }
    for (theirs, seed, loss, skew) in [
        (BLOCK, 6_120_659_126_773_519_070, 0.06, 194),
        (RANDOM, 10_842_824_967_227_706_596, 0.10, 109),
    ] {
        let mut pair = Pair::of(CLASHING, theirs, seed);
        pair.loss = loss;
        pair.skew[(seed % 2) as usize] = ms(skew);
        assert!(pair.meet().time.is_some());
    }
}

#[test]
fn where_physics_does_not_allow_it_nothing_is_guessed() {
    for (ours, theirs) in [
        (RANDOM, RANDOM),
        (RANDOM, BLOCK),
        (SEQUENTIAL, RANDOM),
        (RANDOM_BY_ADDRESS, RANDOM_BY_ADDRESS),
    ] {
        for seed in 0..3 {
            let run = Pair::of(ours, theirs, seed).meet();
            assert_eq!(run.time, None);
            assert!(
                run.packets < 100,
                "{} packets: {ours:?} {theirs:?}",
                run.packets
            );
        }
    }
}

#[test]
fn a_nat_with_a_small_table_still_works_afterwards() {
    let small = NatKind {
        capacity: 1_400,
        ..HOME
    };
    let mut run = Pair::of(small, RANDOM, 5).meet();
    assert!(run.time.is_some());
    run.meeting.paths("small table");
}

#[test]
fn loss_and_skew_cost_little_whichever_side_is_late_and_whichever_the_client() {
    for (ours, theirs, floor) in [
        (SEQUENTIAL, HOME, 98),
        (SEQUENTIAL, CLASHING, 98),
        (SEQUENTIAL, SEQUENTIAL, 95),
        (RANDOM, HOME, 96),
        (RANDOM, CLASHING, 94),
        (BLOCK, HOME, 98),
        (BLOCK, BLOCK, 92),
    ] {
        let runs = 100;
        let is_missed = |seed: &u64| {
            let mut pair = Pair::of(ours, theirs, seed * 104_729 + 7);
            pair.loss = [0.0, 0.02, 0.05, 0.1][(seed % 4) as usize];
            pair.skew[(seed / 4 % 2) as usize] = ms(seed * 37 % 301);
            pair.meet().time.is_none()
        };
        let missed: Vec<u64> = (0..runs).filter(is_missed).collect();
        println!("{} x {}: missed {missed:?}", word(ours), word(theirs));
        assert!(
            runs - missed.len() as u64 >= floor,
            "{ours:?} {theirs:?}: {missed:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the pair, the loss, the skew and the roles: no NAT gets more flows than its budget,
    /// what is proven carries packets both ways, and both sides prove it or neither does.
    #[test]
    fn no_pair_exceeds_its_budget(
        ours in any_kind(),
        theirs in any_kind(),
        seed in any::<u64>(),
        loss in 0..=10u32,
        skew in 0..300u64,
    ) {
        let mut pair = Pair::of(ours, theirs, seed);
        pair.loss = f64::from(loss) / 100.0;
        pair.skew[(seed % 2) as usize] = ms(skew);
        pair.meet();
    }
}

fn any_kind() -> impl Strategy<Value = NatKind> {
    proptest::sample::select(vec![
        HOME,
        CLASHING,
        NatKind::new(EndpointIndependent, AddressDependent, Ports::Preserved),
        SEQUENTIAL,
        SEQUENTIAL_BY_ADDRESS,
        NatKind {
            ports: Ports::Sequential(-3),
            ..SEQUENTIAL
        },
        RANDOM,
        RANDOM_BY_ADDRESS,
        BLOCK,
        BLOCK_BY_ADDRESS,
    ])
}

impl Floor {
    #[track_caller]
    fn check(&self) {
        for (ours, theirs) in self.pairs {
            for loss in [0.0, 0.05] {
                self.check_pair(*ours, *theirs, loss);
            }
        }
    }

    #[track_caller]
    fn check_pair(&self, ours: NatKind, theirs: NatKind, loss: f64) {
        let runs: Vec<Run> = (0..self.runs)
            .map(|number| {
                let mut pair = Pair::of(ours, theirs, number * 7_919 + 13);
                pair.loss = loss;
                pair.meet()
            })
            .collect();
        let mut met: Vec<&Run> = runs.iter().filter(|run| run.time.is_some()).collect();
        let success = 100.0 * met.len() as f64 / runs.len() as f64;
        met.sort_by_key(|run| run.packets);
        let packets = [met.len() / 2, met.len() * 95 / 100].map(|at| met[at].packets);
        met.sort_by_key(|run| run.time);
        let times = [met.len() / 2, met.len() * 95 / 100].map(|at| met[at].time);
        let flows = runs.iter().map(|run| run.flows).max();
        println!(
            "{:?} {} x {} loss {loss}: {success:.1} %, packets p50/p95 {packets:?}, time p50/p95 \
             {times:?}, flows at most {flows:?}",
            self.technique,
            word(ours),
            word(theirs),
        );
        let context = format!("{ours:?} {theirs:?} loss {loss}");
        assert!(
            met.iter().all(|run| run.technique == self.technique),
            "{context}"
        );
        assert!(success >= self.success, "{success} %: {context}");
        assert!(packets[1] <= self.packets, "{packets:?} packets: {context}");
        assert!(
            times[1].is_some_and(|time| time <= self.p95),
            "{times:?}: {context}"
        );
    }
}

/// As a row of a table says it.
fn word(kind: NatKind) -> String {
    let by = match kind.mapping {
        EndpointIndependent if kind.clashes => return "clashing".into(),
        EndpointIndependent => return "easy".into(),
        AddressDependent => "by address",
        AddressAndPortDependent => "by port",
    };
    format!("{:?} {by}", kind.ports)
}
