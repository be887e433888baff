//! Which pairs of NATs meet, how fast, and over which path: the attempts of both sides in [`sim`].
//!
//! Pairs and their delays are [`scenario`]s. [`can_meet`] says from the definitions of RFC 4787
//! alone which pairs can; exactly those must.

mod guessing;
mod pair;
mod scenario;

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::sim::{Hairpin, INTERNET, NatKind, Ports, SimNet};
use super::{Confidence, Dependence, Hairpinning, Path, PunchEvent};
use crate::wire::{CandidateKind, NatMapping};
use Dependence::{AddressAndPortDependent, EndpointIndependent};
use scenario::{Filtering, Meeting, Neighbours, Scenario, Setting, Told};

/// The usual home router: keeps its ports and lets nothing in uninvited.
const HOME: NatKind = NatKind::new(
    EndpointIndependent,
    AddressAndPortDependent,
    Ports::Preserved,
);

/// The same from Linux, where masquerading was left to filter.
const CLASHING: NatKind = NatKind {
    clashes: true,
    ..HOME
};

const DEPENDENCES: [Dependence; 3] = [
    EndpointIndependent,
    Dependence::AddressDependent,
    AddressAndPortDependent,
];

#[test]
fn exactly_the_pairs_that_can_meet_do() {
    for (index, (ours, theirs)) in pairs().enumerate() {
        let seed = index as u64;
        for filtering in [Filtering::Unmeasured, Filtering::Measured] {
            let mut scenario = Scenario::between(&[ours], &[theirs]).varied(seed);
            scenario.filtering = filtering;
            scenario.check(can_meet(ours, theirs));
        }
    }
}

#[test]
fn behind_two_nats_the_stricter_of_both_decides() {
    for (index, (inner, outer)) in pairs().enumerate() {
        // An inner filter sees together what an outer mapping keeps apart: no simple rule then.
        let inner_is_open =
            inner.mapping == EndpointIndependent && inner.filtering == EndpointIndependent;
        if outer.mapping != EndpointIndependent && !inner_is_open {
            continue;
        }
        let both = NatKind {
            mapping: inner.mapping.max(outer.mapping),
            filtering: inner.filtering.max(outer.filtering),
            ..inner
        };
        for mapping in DEPENDENCES {
            let theirs = NatKind { mapping, ..HOME };
            let scenario = Scenario::between(&[outer, inner], &[theirs]).varied(index as u64);
            scenario.check(can_meet(both, theirs));
        }
    }
}

#[test]
fn two_hosts_behind_one_nat_meet_inside_it() {
    for (kind, hairpin) in kinds().zip([Hairpin::Yes, Hairpin::No].into_iter().cycle()) {
        let kind = NatKind { hairpin, ..kind };
        let mut meeting = Neighbours::behind(kind, Told::Interfaces).meet();
        let context = format!("{kind:?}");
        for path in meeting.paths(&context) {
            assert_eq!(path.kind, CandidateKind::Host, "{context}");
            assert!(path.is_local() && path.rtt <= ms(2), "{context}: {path:?}");
        }
    }
}

#[test]
fn without_interfaces_two_hosts_behind_one_nat_need_its_hairpin() {
    for kind in kinds() {
        for hairpin in [Hairpin::Yes, Hairpin::No] {
            let kind = NatKind { hairpin, ..kind };
            let meeting = Neighbours::behind(kind, Told::Outside).meet();
            let expected = hairpin == Hairpin::Yes && can_meet(kind, kind);
            assert_eq!(meeting.both_proven(), expected, "{kind:?}");
        }
    }
}

#[test]
fn two_homes_behind_one_carrier_need_its_hairpin() {
    for hairpin in [Hairpin::Yes, Hairpin::No] {
        let carrier = NatKind { hairpin, ..HOME };
        let mut net = SimNet::new(1, 0.0);
        let shared = net.network(INTERNET, carrier, ms(5));
        let homes = [0, 1].map(|_| net.network(shared, HOME, ms(5)));
        let hosts = homes.map(|home| net.host(home, 5000, Duration::ZERO));
        let meeting = Meeting::of(net, hosts, &Setting::of_legs([ms(10); 2]));
        assert_eq!(meeting.both_proven(), hairpin == Hairpin::Yes);
    }
}

#[test]
fn two_hosts_with_the_same_port_behind_one_nat_meet() {
    let mut meeting = Neighbours::behind(HOME, Told::Interfaces).meet();
    assert_eq!(meeting.net.address(meeting.hosts[0]).port(), 5000);
    assert_eq!(meeting.net.address(meeting.hosts[1]).port(), 5000);
    meeting.paths("same port");
}

#[test]
fn primers_keep_a_nat_open_that_uninvited_packets_would_shut() {
    // The far side's first full probe arrives one way after it was sent, 10 ms after the primers.
    for skew in [0, 5, 15, 25] {
        for late in 0..2 {
            clash_of(Filtering::Unmeasured, late, ms(skew)).check(true);
        }
    }
}

#[test]
fn only_who_knows_of_a_clashing_nat_meets_it_when_it_comes_late() {
    for skew in [40, 100, 200, 300] {
        for late in 0..2 {
            clash_of(Filtering::Unmeasured, late, ms(skew)).check(false);
            clash_of(Filtering::Measured, late, ms(skew)).check(true);
        }
    }
}

/// Two clashing NATs 20 ms apart, one side late.
fn clash_of(filtering: Filtering, late: usize, skew: Duration) -> Scenario {
    let mut scenario = Scenario::between(&[CLASHING], &[CLASHING]);
    scenario.legs = [ms(10); 2];
    scenario.filtering = filtering;
    scenario.skew[late] = skew;
    scenario
}

#[test]
fn endpoint_independent_mappings_meet_whatever_the_filtering_the_skew_and_the_hops() {
    let kinds: Vec<NatKind> = measurable().collect();
    let mut seed = 0;
    for ours in &kinds {
        for theirs in &kinds {
            for skew in [0, 35, 120, 300] {
                for late in 0..2 {
                    seed += 1;
                    let mut scenario = Scenario::measured(*ours, *theirs, seed);
                    scenario.skew = [Duration::ZERO; 2];
                    scenario.skew[late] = ms(skew);
                    scenario.check(true);
                }
            }
        }
    }
}

#[test]
fn a_path_is_proven_within_a_round_trip_of_the_news() {
    // The lead of the primers, and what is lost by starting not quite together.
    for (filtering, more) in [
        (Filtering::Unmeasured, ms(25)),
        (Filtering::Measured, ms(5)),
    ] {
        for seed in 0..200 {
            let ours = endpoint_independent(seed);
            let mut scenario = Scenario::between(&[ours], &[HOME]).legs_of(seed);
            scenario.filtering = filtering;
            let direct = scenario.legs.iter().sum::<Duration>() * 2;
            let (meeting, limit) = (scenario.meet(), scenario.news() + direct + more);
            for host in meeting.hosts {
                let (at, _) = meeting.proven(host).expect("both sides prove a path");
                assert!(at <= limit, "{at:?}: {scenario:?}");
            }
        }
    }
}

#[test]
fn behind_a_carriers_nat_a_clashing_one_is_met_at_any_skew() {
    for seed in 0..100 {
        let mut scenario = Scenario::measured(CLASHING, HOME, seed);
        scenario.nats[1] = vec![HOME, HOME];
        scenario.check(true);
        // The carrier's NAT may be the one that clashes.
        scenario.nats = [vec![HOME], vec![CLASHING, HOME]];
        scenario.check(true);
    }
}

#[test]
fn a_clashing_carrier_and_a_clashing_nat_meet_when_they_start_within_one_way() {
    // The primers of the side behind two NATs open the inner one only.
    for (skew, expected) in [(0, true), (15, true), (40, false)] {
        let mut scenario = clash_of(Filtering::Measured, 0, ms(skew));
        scenario.nats[0] = vec![CLASHING, HOME];
        scenario.check(expected);
    }
}

#[test]
fn with_5_percent_loss_all_meet_within_1500_ms() {
    check_late(Pairs::Plain, Losses(0.05, 0.0), ms(1500), 0);
}

#[test]
fn with_5_percent_loss_all_that_clash_meet_within_2_s() {
    check_late(Pairs::Clashing, Losses(0.05, 0.0), ms(2000), 0);
}

#[test]
fn with_20_percent_loss_all_meet_within_5_s() {
    check_late(Pairs::Plain, Losses(0.20, 0.0), ms(5000), 0);
    check_late(Pairs::Clashing, Losses(0.20, 0.0), ms(5000), 0);
}

#[test]
fn with_30_percent_loss_all_meet_within_5_s() {
    check_late(Pairs::Plain, Losses(0.30, 0.0), ms(5000), 0);
    check_late(Pairs::Clashing, Losses(0.30, 0.0), ms(5000), 0);
}

#[test]
fn with_5_percent_loss_on_a_radio_as_well_99_percent_that_clash_meet_within_2_s() {
    // One side in 400 loses both its primers, and a clashing peer that started before shuts it out.
    check_late(Pairs::Clashing, Losses(0.05, 0.05), ms(2000), 4);
}

#[test]
fn a_side_that_comes_after_the_other_gave_up_still_proves_the_path() {
    let mut scenario = Scenario::between(&[HOME], &[HOME]);
    scenario.skew[1] = ms(5500);
    let meeting = scenario.meet();
    let events = meeting.net.events(meeting.hosts[0]);
    assert_eq!(events[0].1, PunchEvent::Failed);
    assert!(meeting.both_proven());
}

#[test]
fn a_nat_is_measured_for_what_it_is() {
    let blocks = DEPENDENCES
        .map(|mapping| NatKind::new(mapping, AddressAndPortDependent, Ports::Block(1_024)));
    let downwards = NatKind::new(
        AddressAndPortDependent,
        EndpointIndependent,
        Ports::Sequential(-3),
    );
    for kind in kinds().chain(blocks).chain([downwards]) {
        for hairpin in [Hairpin::Yes, Hairpin::No] {
            check_measured(NatKind { hairpin, ..kind }, 0.0);
        }
        check_measured(kind, 0.1);
    }
}

#[track_caller]
fn check_measured(kind: NatKind, loss: f64) {
    let mut net = SimNet::new(3, loss);
    let home = net.network(INTERNET, kind, ms(10));
    let host = net.host(home, 5000, Duration::ZERO);
    let tracker = net.stun_server(ms(5));
    let other_port = SocketAddr::new(tracker.ip(), tracker.port() + 1);
    let other_ip = net.stun_server(ms(5));
    let measured = net.measure(host, &[tracker, other_port, other_ip], Vec::new());
    let context = format!("{kind:?} measured as {measured:?}");
    assert!(measured.compares_addresses(), "{context}");
    assert_eq!(measured.dependence, Some(kind.mapping), "{context}");
    if kind.mapping == EndpointIndependent {
        assert_eq!(
            measured.mapping,
            NatMapping::EndpointIndependent,
            "{context}"
        );
        let hairpins = match kind.hairpin {
            Hairpin::Yes => Hairpinning::Yes,
            Hairpin::No => Hairpinning::No,
        };
        assert_eq!(measured.hairpinning, hairpins, "{context}");
        return assert_eq!(measured.confidence, Confidence::High, "{context}");
    }
    assert_eq!(measured.hairpinning, Hairpinning::Unknown, "{context}");
    let fits = match (kind.ports, measured.mapping) {
        (Ports::Random, NatMapping::Random { low, high }) => high - low > 50_000,
        (Ports::Block(size), NatMapping::Random { low, high }) => high - low < 2 * size,
        (Ports::Sequential(step), NatMapping::Sequential { step: found }) => step == found,
        // The inside ports of our sockets follow each other.
        (Ports::Preserved, NatMapping::Sequential { step }) => step.abs() <= 2,
        // Of four samples too few were first tries.
        (Ports::Preserved | Ports::Sequential(_), _) => loss > 0.0,
        _ => false,
    };
    assert!(fits, "{context}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// As above at any skew, seen from either side.
    #[test]
    fn endpoint_independent_mappings_meet(
        ours in any_measurable(),
        theirs in any_measurable(),
        seed in any::<u64>(),
    ) {
        Scenario::measured(ours, theirs, seed).check(true);
    }

    /// Any pair that can meet does, whatever the delays, the skew, the side and up to 20 % of loss.
    #[test]
    fn what_can_meet_meets(
        ours in any_kind(),
        theirs in any_kind(),
        seed in any::<u64>(),
        loss in 0..=20u32,
    ) {
        let mut scenario = Scenario::between(&[ours], &[theirs]).varied(seed);
        scenario.loss = f64::from(loss) / 100.0;
        scenario.check(can_meet(ours, theirs));
    }
}

/// Whether two peers that know what the tracker saw can find one path. Each side's *told* address
/// is its mapping towards the tracker.
///
/// * Both map endpoint-independently: the told addresses are the path.
/// * One does: it is found by the other, whose own address only a packet of its own can tell; that
///   packet must pass a filter that has seen packets to another port of the same IP address.
/// * Neither does: somebody must be found at the told address although nothing was sent from there
///   to the finder, and then the finder at an unexpected port. When both map by port as well, each
///   answer makes a new mapping, for ever.
fn can_meet(a: NatKind, b: NatKind) -> bool {
    let is_findable = |one: NatKind, other: NatKind| {
        one.filtering == EndpointIndependent && other.filtering != AddressAndPortDependent
    };
    match (a.mapping, b.mapping) {
        (EndpointIndependent, EndpointIndependent) => true,
        (EndpointIndependent, _) => a.filtering != AddressAndPortDependent,
        (_, EndpointIndependent) => b.filtering != AddressAndPortDependent,
        (AddressAndPortDependent, AddressAndPortDependent) => false,
        _ => is_findable(a, b) || is_findable(b, a),
    }
}

/// Which NATs meet.
#[derive(Clone, Copy, Debug)]
enum Pairs {
    /// All that map endpoint-independently and do not clash.
    Plain,
    /// One in three has one clashing NAT, the others two.
    Clashing,
}

impl Pairs {
    fn pick(self, seed: u64) -> (NatKind, NatKind) {
        match self {
            Pairs::Plain => (endpoint_independent(seed), endpoint_independent(seed / 9)),
            Pairs::Clashing if seed.is_multiple_of(3) => (CLASHING, endpoint_independent(seed / 3)),
            Pairs::Clashing => (CLASHING, CLASHING),
        }
    }
}

/// Chances of loss on the Internet and before the first gateway.
#[derive(Clone, Copy, Debug)]
struct Losses(f64, f64);

/// Of 400 pairs at most `allowed` do not meet in this time from the later start.
#[track_caller]
fn check_late(pairs: Pairs, losses: Losses, limit: Duration, allowed: usize) {
    let is_late = |number: &u64| {
        let (ours, theirs) = pairs.pick(*number);
        let mut scenario = Scenario::measured(ours, theirs, number * 6_700_417);
        Losses(scenario.loss, scenario.access_loss) = losses;
        let (meeting, limit) = (scenario.meet(), scenario.later_start() + limit);
        let proven = meeting.hosts.map(|host| meeting.proven(host));
        let in_time = |found: &Option<(Duration, Path)>| found.is_some_and(|(at, _)| at <= limit);
        !proven.iter().all(in_time)
    };
    let late: Vec<u64> = (0..400).filter(is_late).collect();
    assert!(late.len() <= allowed, "{pairs:?}, {losses:?}: {late:?}");
}

fn endpoint_independent(seed: u64) -> NatKind {
    let filtering = DEPENDENCES[(seed % 3) as usize];
    NatKind::new(
        EndpointIndependent,
        filtering,
        Ports::ALL[(seed / 3 % 3) as usize],
    )
}

/// Every NAT that maps endpoint-independently.
fn measurable() -> impl Iterator<Item = NatKind> {
    let filtering = kinds().filter(|kind| kind.mapping == EndpointIndependent);
    let clashing = Ports::ALL.map(|ports| NatKind { ports, ..CLASHING });
    filtering.chain(clashing)
}

fn any_measurable() -> impl Strategy<Value = NatKind> {
    proptest::sample::select(measurable().collect::<Vec<_>>())
}

fn kinds() -> impl Iterator<Item = NatKind> {
    DEPENDENCES.into_iter().flat_map(|mapping| {
        DEPENDENCES.into_iter().flat_map(move |filtering| {
            let kind = move |ports| NatKind::new(mapping, filtering, ports);
            Ports::ALL.into_iter().map(kind)
        })
    })
}

fn pairs() -> impl Iterator<Item = (NatKind, NatKind)> {
    kinds().flat_map(|ours| kinds().map(move |theirs| (ours, theirs)))
}

fn any_kind() -> impl Strategy<Value = NatKind> {
    proptest::sample::select(kinds().collect::<Vec<_>>())
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
