//! What a guess sends: which ports, from which sockets, how fast.
//!
//! Pauses are counted from when the shot before was really sent, so a late caller slows a guess down
//! and never makes a burst of more than [`BURST`].

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::Rng;
use rand::seq::{SliceRandom, index};

use super::plan::{Range, SPRAY};
use crate::nat::{Charge, LOWEST_PORT, MAIN, PrimerHops, usable};
use crate::wire::NatFiltering;

/// Sockets opened for a birthday among 64,512 ports. The root of them, 254, would make the sum of what
/// both sides send least on average; half more make a miss less likely.
pub(super) const OPENINGS: usize = 384;

/// Fewest, where a range is small: a lost packet should not matter.
const FEWEST_OPENINGS: usize = 24;

/// Most checks of a birthday. With 384 sockets they meet in 99.4 % of attempts (256 and 1,000 would in
/// 98.1 %); and all packets of both sides, those to the candidates included, stay below 1,300.
pub(super) const PROBES: usize = 880;

/// Sockets aimed at the port that the peer is about to get.
pub(super) const AIMED: u16 = 25;

/// How many steps behind the newest sample the port is that we promise to be at: what others behind
/// our NAT may take meanwhile, less the last few of [`AIMED`].
pub(super) const AHEAD: i16 = 20;

/// How often those 25 send.
const VOLLEYS: [(Duration, Option<PrimerHops>); 3] = [
    (Duration::ZERO, Some(PrimerHops::LEAST)),
    (Duration::from_millis(40), None),
    (Duration::from_millis(200), None),
];

/// Most checks around a foretold port.
pub(super) const AROUND: usize = NEAR + FAR;

/// The nearest ones first, then these once more and some beyond.
const NEAR: usize = 11;
const FAR: usize = 29;

/// Ports opened in a run, of which the peer aims at two in the middle: others may take some as well.
pub(super) const RUN: usize = 24;

/// Sockets that crowd into a port of a run at most, so that there are packets for two ports. No two of
/// them leave from the same port, so that 1,024 take all of such a block, and one of them the right one.
pub(super) const CROWD: usize = SPRAY / 2;

/// Most ports of a run that are crowded into, where a few sockets take all of a block.
const CROWDED: usize = 8;

/// Most sockets that spray one after the other.
const SPRAYERS: usize = 64;

/// Past a carrier's NAT too, and mostly not into the far peer's network.
const UNSURE_HOPS: u8 = 5;

/// Shots together, then a pause: timers are not much finer.
const BURST: usize = 4;
const BURST_PAUSE: Duration = Duration::from_millis(4);

/// Between shots at foretold ports: few are needed, so there is time to hear of a hit.
const AROUND_PAUSE: Duration = Duration::from_millis(10);

/// One check to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nat) struct Shot {
    /// After the one before.
    pub(super) pause: Duration,
    pub(in crate::nat) via: u16,
    pub(in crate::nat) to: SocketAddr,
    pub(in crate::nat) ttl: Option<u8>,
    pub(in crate::nat) charge: Charge,
}

/// What decides how far checks travel that open our NATs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    /// Of the peer's NAT.
    pub(super) filtering: NatFiltering,
    /// Where it clashes.
    pub(super) primer_hops: PrimerHops,
}

impl Opening {
    /// How far the one goes that opens port number `bet`.
    fn hops(self, bet: usize) -> Option<u8> {
        match self.filtering {
            NatFiltering::PortIndependent | NatFiltering::PortDependent => None,
            NatFiltering::Clashing => Some(self.primer_hops.of_bet(bet)),
            NatFiltering::Unknown => Some(UNSURE_HOPS),
        }
    }
}

/// Opens one socket towards the peer, once more in case of loss; the `round` is counted from 0.
pub(super) fn open_one(via: u16, to: SocketAddr, opening: Opening, round: usize) -> Vec<Shot> {
    let shot = |pause| Shot {
        pause,
        via,
        to,
        ttl: opening.hops(round),
        charge: Charge::Unasked,
    };
    vec![shot(Duration::ZERO), shot(Duration::from_millis(40))]
}

/// Opens one socket towards some ports of a range, at once, so that nobody else's come in between.
pub(super) fn open_run(
    via: u16,
    ip: IpAddr,
    range: Range,
    opening: Opening,
    rng: &mut impl Rng,
) -> Vec<Shot> {
    let count = range.size().min(RUN);
    let ports = index::sample(rng, range.size(), count).into_iter();
    let ports = ports.filter_map(|index| range.ports().nth(index));
    let addresses = ports.filter_map(|port| usable(SocketAddr::new(ip, port)));
    let shot = |(index, to)| Shot {
        pause: Duration::ZERO,
        via,
        to,
        ttl: opening.hops(index),
        charge: Charge::Guess,
    };
    (0..).zip(addresses).map(shot).collect()
}

/// Opens many towards the peer, one shot from each.
pub(super) fn open_many(
    vias: impl Iterator<Item = u16>,
    to: SocketAddr,
    opening: Opening,
) -> Vec<Shot> {
    let shot = |(index, via)| Shot {
        pause: paced(index, 2 * BURST),
        via,
        to,
        ttl: opening.hops(index),
        charge: Charge::Guess,
    };
    (0..).zip(vias).map(shot).collect()
}

/// How many sockets to open when our port will be one of this range.
pub(super) fn openings(range: Range) -> usize {
    let root = range.size().isqrt() + 1;
    (root + root.div_ceil(2)).clamp(FEWEST_OPENINGS, OPENINGS)
}

/// Checks the port the peer named and its neighbours in the sequence.
pub(super) fn around(named: SocketAddr, step: i16) -> Vec<Shot> {
    let ports = neighbours(NEAR).chain(neighbours(FAR));
    let ports = ports.filter_map(|offset| stepped(named.port(), step, offset));
    let shot = |port| Shot {
        pause: AROUND_PAUSE,
        via: MAIN,
        to: SocketAddr::new(named.ip(), port),
        ttl: None,
        charge: Charge::Guess,
    };
    ports.map(shot).collect()
}

/// 0, 1, -1, 2, -2 and so on.
fn neighbours(count: usize) -> impl Iterator<Item = i32> {
    (0..count as i32).map(|n| if n % 2 == 0 { -n / 2 } else { (n + 1) / 2 })
}

/// The port so many steps on, if there is one.
pub(super) fn stepped(port: u16, step: i16, steps: i32) -> Option<u16> {
    let port = i32::from(port) + i32::from(step) * steps;
    u16::try_from(port).ok().filter(|port| *port >= LOWEST_PORT)
}

/// Checks ports of the range in random order, from one socket.
pub(super) fn birthday(via: u16, ip: IpAddr, range: Range, rng: &mut impl Rng) -> Vec<Shot> {
    let count = range.size().min(PROBES);
    let ports = index::sample(rng, range.size(), count).into_iter();
    let port = |index: usize| range.ports().nth(index);
    paced_shots(via, ip, ports.filter_map(port))
}

/// All of our aimed sockets, at the one port, in a few volleys.
pub(super) fn volleys(vias: &[u16], to: SocketAddr) -> Vec<Shot> {
    let volley = |(pause, hops): (Duration, Option<PrimerHops>)| {
        let shot = move |(index, via): (usize, &u16)| Shot {
            pause: if index == 0 { pause } else { Duration::ZERO },
            via: *via,
            to,
            ttl: hops.map(PrimerHops::get),
            charge: Charge::Guess,
        };
        vias.iter().enumerate().map(shot)
    };
    VOLLEYS.into_iter().flat_map(volley).collect()
}

/// All ports of a range, from one socket after the other until the packets are used up. A socket that
/// has checked all is worth more than two that have checked half each: its mapping may be by address.
pub(super) fn spray(
    mut next_via: impl FnMut() -> u16,
    ip: IpAddr,
    mut ports: Vec<u16>,
    rng: &mut impl Rng,
) -> Vec<Shot> {
    let mut shots = Vec::with_capacity(SPRAY);
    for _ in 0..SPRAYERS {
        let left = SPRAY - shots.len();
        if left == 0 || ports.is_empty() {
            break;
        }
        ports.shuffle(rng);
        shots.extend(paced_shots(
            next_via(),
            ip,
            ports.iter().copied().take(left),
        ));
    }
    shots
}

/// How many sockets crowd, whose ports are of this range.
pub(super) fn crowd_size(range: Range) -> usize {
    range.size().min(CROWD)
}

/// Checks the port the peer named and those beside it in the sequence, each from many sockets. One after
/// the other: where a port of the block serves one destination only, all of them go to the first.
pub(super) fn crowd(vias: &[u16], named: SocketAddr, step: i16) -> Vec<Shot> {
    let count = (SPRAY / vias.len().max(1)).min(CROWDED);
    let ports: Vec<u16> = neighbours(count)
        .filter_map(|steps| stepped(named.port(), step, steps))
        .collect();
    let shots = ports
        .iter()
        .flat_map(|port| vias.iter().map(move |via| (*via, *port)));
    let shot = |(index, (via, port))| Shot {
        pause: paced(index, BURST),
        via,
        to: SocketAddr::new(named.ip(), port),
        ttl: None,
        charge: Charge::Guess,
    };
    (0..).zip(shots).map(shot).collect()
}

fn paced_shots(via: u16, ip: IpAddr, ports: impl Iterator<Item = u16>) -> Vec<Shot> {
    let addresses = ports.filter_map(|port| usable(SocketAddr::new(ip, port)));
    let shot = |(index, to)| Shot {
        pause: paced(index, BURST),
        via,
        to,
        ttl: None,
        charge: Charge::Guess,
    };
    (0..).zip(addresses).map(shot).collect()
}

fn paced(index: usize, burst: usize) -> Duration {
    match index % burst {
        0 => BURST_PAUSE,
        _ => Duration::ZERO,
    }
}

/// A birthday: what both sides send, with room for the checks to the candidates meanwhile.
const _: () = assert!(OPENINGS + PROBES + 2 * 18 <= 1_300);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const PEER: &str = "203.0.113.7:5000";

    #[test]
    fn the_named_port_comes_first_and_its_neighbours_next() {
        let shots = around(peer(), 2);
        let ports: Vec<u16> = shots.iter().map(|shot| shot.to.port()).collect();
        assert_eq!(ports[..5], [5_000, 5_002, 4_998, 5_004, 4_996]);
        assert_eq!(ports.len(), AROUND);
        assert_eq!(ports[NEAR], 5_000, "once more");
        let distinct: BTreeSet<u16> = ports.into_iter().collect();
        assert_eq!(distinct.len(), FAR);
    }

    #[test]
    fn no_shot_goes_below_port_1024_or_beyond_the_last() {
        for port in [1_024, 65_535] {
            let named = SocketAddr::new(peer().ip(), port);
            for step in [1, -7, i16::MIN] {
                let shots = around(named, step);
                assert!(shots.len() <= AROUND && !shots.is_empty());
                assert!(shots.iter().all(|shot| shot.to.port() >= 1_024), "{step}");
            }
        }
        assert_eq!(stepped(65_530, 1, 6), None);
        assert_eq!(stepped(1_025, -1, 2), None);
        assert_eq!(stepped(u16::MAX, i16::MAX, i32::from(u16::MAX)), None);
    }

    #[test]
    fn a_birthday_checks_distinct_ports_of_the_range() {
        for (range, expected) in [(Range::WIDE, PROBES), (Range::claimed(20_480, 21_000), 521)] {
            let shots = birthday(3, peer().ip(), range, &mut rng());
            let ports: BTreeSet<u16> = shots.iter().map(|shot| shot.to.port()).collect();
            assert_eq!((shots.len(), ports.len()), (expected, expected));
            assert!(ports.iter().all(|port| range.ports().contains(port)));
            assert!(shots.iter().all(|shot| shot.via == 3 && shot.ttl.is_none()));
        }
    }

    #[test]
    fn a_spray_checks_all_ports_from_each_socket_as_long_as_it_may() {
        let mut via = 0;
        let next = || {
            via += 1;
            via
        };
        let ports: Vec<u16> = (20_480..=21_503).collect();
        let shots = spray(next, peer().ip(), ports, &mut rng());
        assert_eq!(shots.len(), SPRAY);
        let from = |via: u16| {
            let its = shots.iter().filter(|shot| shot.via == via);
            its.map(|shot| shot.to.port()).collect::<BTreeSet<u16>>()
        };
        assert_eq!([1, 2, 3].map(|via| from(via).len()), [1_024, 1_024, 152]);
    }

    #[test]
    fn no_more_than_1000_checks_go_out_in_a_second() {
        let shots = birthday(0, peer().ip(), Range::WIDE, &mut rng());
        let time: Duration = shots.iter().map(|shot| shot.pause).sum();
        assert!(time >= Duration::from_millis(PROBES as u64), "{time:?}");
        let sockets = open_many(1..=384, peer(), opening(NatFiltering::Clashing));
        let time: Duration = sockets.iter().map(|shot| shot.pause).sum();
        assert_eq!(time, Duration::from_millis(192));
    }

    #[test]
    fn what_opens_our_nat_does_not_reach_one_that_would_be_shut_by_it() {
        for (filtering, hops) in [
            (NatFiltering::Clashing, Some(2)),
            (NatFiltering::Unknown, Some(5)),
            (NatFiltering::PortDependent, None),
        ] {
            let many = open_many(1..=3, peer(), opening(filtering));
            let one = open_one(1, peer(), opening(filtering), 0);
            assert!(many.iter().chain(&one).all(|shot| shot.ttl == hops));
        }
    }

    #[test]
    fn small_ranges_take_few_sockets() {
        assert_eq!(openings(Range::WIDE), 381);
        assert_eq!(openings(Range::claimed(20_480, 21_503)), 50);
        assert_eq!(openings(Range::claimed(20_480, 20_500)), 24);
    }

    #[test]
    fn every_volley_has_every_socket() {
        let vias: Vec<u16> = (1..=AIMED).collect();
        let shots = volleys(&vias, peer());
        assert_eq!(shots.len(), 3 * usize::from(AIMED));
        assert!(shots[..25].iter().all(|shot| shot.ttl == Some(2)));
        assert!(shots[25..].iter().all(|shot| shot.ttl.is_none()));
    }

    #[test]
    fn a_crowd_sends_from_every_socket_to_two_ports_in_sequence() {
        let vias: Vec<u16> = (1..=CROWD as u16).collect();
        let shots = crowd(&vias, peer(), 2);
        assert_eq!(shots.len(), SPRAY);
        let ports = [0, CROWD].map(|index| shots[index].to.port());
        assert_eq!(ports, [5_000, 5_002]);
        let flows: BTreeSet<_> = shots.iter().map(|shot| (shot.via, shot.to)).collect();
        assert_eq!(flows.len(), shots.len());
        let time: Duration = shots.iter().map(|shot| shot.pause).sum();
        assert!(time >= Duration::from_millis(2_180), "{time:?}");
    }

    #[test]
    fn a_crowd_from_a_small_block_takes_all_of_it_to_more_ports() {
        for (range, sockets, ports) in [
            (Range::claimed(20_480, 21_503), 1_024, 2),
            (Range::claimed(20_480, 20_991), 512, 4),
            (Range::claimed(20_480, 20_500), 21, CROWDED),
            (Range::WIDE, CROWD, 2),
        ] {
            assert_eq!(crowd_size(range), sockets);
            let vias: Vec<u16> = (1..=sockets as u16).collect();
            let shots = crowd(&vias, peer(), 1);
            assert!(shots.len() == sockets * ports && shots.len() <= SPRAY);
        }
        assert!(crowd(&[], peer(), 1).is_empty());
    }

    #[test]
    fn a_run_goes_to_distinct_ports_of_the_range_at_once() {
        for (range, expected) in [
            (Range::claimed(20_480, 21_503), RUN),
            (Range::claimed(5_000, 5_009), 10),
        ] {
            let shots = open_run(
                4,
                peer().ip(),
                range,
                opening(NatFiltering::Clashing),
                &mut rng(),
            );
            let ports: BTreeSet<u16> = shots.iter().map(|shot| shot.to.port()).collect();
            assert_eq!((shots.len(), ports.len()), (expected, expected));
            assert!(ports.iter().all(|port| range.ports().contains(port)));
            assert!(
                shots
                    .iter()
                    .all(|shot| shot.pause.is_zero() && shot.ttl == Some(2))
            );
        }
    }

    fn opening(filtering: NatFiltering) -> Opening {
        Opening {
            filtering,
            primer_hops: PrimerHops::LEAST,
        }
    }

    fn peer() -> SocketAddr {
        PEER.parse().unwrap()
    }

    fn rng() -> StdRng {
        StdRng::seed_from_u64(1)
    }
}
