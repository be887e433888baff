//! Swarms with a name.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::bound::Bound;
use super::plan::{Change, Class, Fault, Member, Plan, Shape, Topology};

/// Bytes per second of a megabit per second.
const MBIT: f64 = 125_000.0;
const KIB: u32 = 1024;

/// A kind of swarm, of which the size can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Leeches, unless said otherwise.
    pub leeches: u32,
    /// Chunks, unless said otherwise.
    pub chunks: u32,
    /// Bytes of a chunk, unless said otherwise.
    pub chunk_bytes: u32,
    plan: fn(&mut Plan, u32),
}

impl Scenario {
    /// The scenario with a name.
    pub fn named(name: &str) -> Option<&'static Scenario> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// Its plan with so many leeches and chunks.
    pub fn plan(&self, seed: u64, leeches: u32, chunks: u32, chunk_bytes: u32) -> Plan {
        let mut plan = Plan {
            name: self.name.to_owned(),
            seed,
            chunks,
            chunk_bytes,
            rtt: Duration::from_millis(50),
            rtt_spread: 0.0,
            loss: 0.0,
            relay: 0.0,
            topology: Topology::Tracker(Shape::default()),
            tick: tick(leeches),
            budget: None,
            pieces: 4,
            peers: Vec::new(),
            patience: Duration::from_secs(24 * 3600),
        };
        (self.plan)(&mut plan, leeches);
        plan
    }
}

/// The more peers, the coarser is time: a tick is short beside a round trip in any case.
fn tick(leeches: u32) -> Duration {
    match leeches {
        0..100 => Duration::from_micros(100),
        100..500 => Duration::from_millis(1),
        _ => Duration::from_millis(5),
    }
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "equal",
        about: "equal links of 100 Mbit/s up and 400 down, 50 ms",
        leeches: 1000,
        chunks: 2048,
        chunk_bytes: 512 * KIB,
        plan: |plan, leeches| plan.peers = swarm(leeches, 100.0, 100.0, 400.0),
    },
    Scenario {
        name: "unequal",
        about: "one leech in five has 200 Mbit/s up, the others 10; seed 100, 400 down, 50 ms",
        leeches: 1000,
        chunks: 2048,
        chunk_bytes: 512 * KIB,
        plan: |plan, leeches| {
            plan.peers = swarm(leeches, 100.0, 10.0, 400.0);
            let fast = plan.peers.iter_mut().skip(1).step_by(5);
            fast.for_each(|peer| peer.up = 200.0 * MBIT);
        },
    },
    Scenario {
        name: "churn",
        about: "as equal, but a fifth goes for a while, and half of these come back with nothing",
        leeches: 1000,
        chunks: 2048,
        chunk_bytes: 512 * KIB,
        plan: |plan, leeches| {
            plan.peers = swarm(leeches, 100.0, 100.0, 400.0);
            churn(plan, 0.2);
        },
    },
    Scenario {
        name: "huge",
        about: "as equal, but ten times as many",
        leeches: 10_000,
        chunks: 256,
        chunk_bytes: 512 * KIB,
        plan: |plan, leeches| plan.peers = swarm(leeches, 100.0, 100.0, 400.0),
    },
    Scenario {
        name: "eight",
        about: "50 Mbit/s up and 200 down, 1 ms, 256 MiB",
        leeches: 8,
        chunks: 2048,
        chunk_bytes: 128 * KIB,
        plan: |plan, leeches| {
            plan.rtt = Duration::from_millis(1);
            plan.tick = Duration::from_micros(20);
            plan.peers = swarm(leeches, 50.0, 50.0, 200.0);
        },
    },
    Scenario {
        name: "twenty",
        about: "20 Mbit/s up and 100 down, 40 ms, 128 MiB",
        leeches: 20,
        chunks: 2048,
        chunk_bytes: 64 * KIB,
        plan: |plan, leeches| {
            plan.rtt = Duration::from_millis(40);
            plan.peers = swarm(leeches, 20.0, 20.0, 100.0);
        },
    },
    Scenario {
        name: "uneven",
        about: "half of the leeches 10 Mbit/s up and half 100; seed 50, 200 down, 20 ms, 128 MiB",
        leeches: 20,
        chunks: 2048,
        chunk_bytes: 64 * KIB,
        plan: |plan, leeches| {
            plan.rtt = Duration::from_millis(20);
            plan.peers = swarm(leeches, 50.0, 10.0, 200.0);
            let fast = plan.peers.iter_mut().skip(1).step_by(2);
            fast.for_each(|peer| peer.up = 100.0 * MBIT);
        },
    },
    Scenario {
        name: "late",
        about: "50 Mbit/s up and 200 down, 20 ms, 128 MiB; half of the leeches come one after another",
        leeches: 20,
        chunks: 2048,
        chunk_bytes: 64 * KIB,
        plan: |plan, leeches| {
            plan.rtt = Duration::from_millis(20);
            plan.peers = swarm(leeches, 50.0, 50.0, 200.0);
            let span = Bound::of(plan).limit().mul_f64(0.8);
            for (late, peer) in (1..).zip(plan.peers.iter_mut().skip(1).step_by(2)) {
                let part = f64::from(late) / f64::from(leeches.div_ceil(2));
                peer.presence = vec![(span.mul_f64(part), Change::Comes)];
            }
        },
    },
    Scenario {
        name: "seed-leaves",
        about: "50 Mbit/s up and 200 down, 20 ms, 128 MiB; the seed goes after it has sent 1.1 times that",
        leeches: 20,
        chunks: 2048,
        chunk_bytes: 64 * KIB,
        plan: |plan, leeches| {
            plan.rtt = Duration::from_millis(20);
            plan.peers = swarm(leeches, 50.0, 50.0, 200.0);
            plan.peers[0].sends_at_most = Some(1.1);
            // If the seed takes a chunk with it, nobody will ever finish.
            plan.patience = Bound::of(plan).limit() * 10;
        },
    },
    Scenario {
        name: "four-seeds",
        about: "4 seeds of 50 Mbit/s, leeches that can take 1 Gbit/s, 20 ms, 256 MiB",
        leeches: 1,
        chunks: 2048,
        chunk_bytes: 128 * KIB,
        plan: |plan, leeches| {
            plan.rtt = Duration::from_millis(20);
            let seeds = std::iter::repeat_n(Member::seed(50.0 * MBIT, 50.0 * MBIT), 3);
            plan.peers = swarm(leeches, 50.0, 50.0, 1000.0);
            plan.peers.extend(seeds);
        },
    },
    Scenario {
        name: "malicious",
        about: "100 Mbit/s up and 400 down, 50 ms; three leeches in ten corrupt, lie, stall, refuse or mislead",
        leeches: 100,
        chunks: 2048,
        chunk_bytes: 256 * KIB,
        plan: |plan, leeches| {
            plan.peers = swarm(leeches, 100.0, 100.0, 400.0);
            let faults = [
                Fault::Corrupts,
                Fault::Lies,
                Fault::Stalls,
                Fault::Refuses,
                Fault::Misleads,
            ];
            let mut faults = faults.into_iter().cycle();
            for peer in chosen(plan, 0.3) {
                plan.peers[peer].fault = faults.next().unwrap_or_default();
            }
        },
    },
    Scenario {
        name: "nat",
        about: "behind NATs: 15 % open, 60 % easy, 20 % hard, 5 % without UDP; a relay of 100 Mbit/s",
        leeches: 100,
        chunks: 2048,
        chunk_bytes: 256 * KIB,
        plan: |plan, leeches| {
            plan.relay = 100.0 * MBIT;
            plan.peers = swarm(leeches, 50.0, 50.0, 200.0);
            plan.peers[0].class = Class::Easy;
            for (number, peer) in chosen(plan, 1.0).into_iter().enumerate() {
                plan.peers[peer].class = match number * 100 / leeches.max(1) as usize {
                    0..15 => Class::Open,
                    15..75 => Class::Easy,
                    75..95 => Class::Hard,
                    _ => Class::Blocked,
                };
            }
        },
    },
    Scenario {
        name: "lossy",
        about: "as twenty, but 0.1 % of the packets are lost, which bounds every path",
        leeches: 20,
        chunks: 2048,
        chunk_bytes: 64 * KIB,
        plan: |plan, leeches| {
            plan.rtt = Duration::from_millis(40);
            plan.rtt_spread = 0.5;
            plan.loss = 0.001;
            plan.peers = swarm(leeches, 20.0, 20.0, 100.0);
        },
    },
    Scenario {
        name: "cost",
        about: "1 Gbit/s both ways, 20 ms, 1 GiB, nothing put together in time",
        leeches: 50,
        chunks: 2048,
        chunk_bytes: 512 * KIB,
        plan: |plan, leeches| {
            plan.rtt = Duration::from_millis(20);
            plan.tick = Duration::from_micros(20);
            plan.peers = swarm(leeches, 1000.0, 1000.0, 1000.0);
        },
    },
];

/// A seed and equal leeches, in Mbit/s.
fn swarm(leeches: u32, seed_up: f64, up: f64, down: f64) -> Vec<Member> {
    let seed = Member::seed(seed_up * MBIT, down * MBIT);
    let leech = Member::new(up * MBIT, down * MBIT);
    let leeches = std::iter::repeat_n(leech, leeches as usize);
    [seed].into_iter().chain(leeches).collect()
}

/// A part of the leeches at random.
fn chosen(plan: &Plan, part: f64) -> Vec<usize> {
    let mut all: Vec<usize> = (1..plan.peers.len()).collect();
    all.shuffle(&mut StdRng::seed_from_u64(plan.seed));
    all.truncate((all.len() as f64 * part).round() as usize);
    all
}

/// A part of the leeches goes at any time in the first 80 % of what the run takes at best, for 5 to
/// 20 % of that.
fn churn(plan: &mut Plan, part: f64) {
    let limit = Bound::of(plan).limit();
    let mut rng = StdRng::seed_from_u64(plan.seed);
    for (number, peer) in chosen(plan, part).into_iter().enumerate() {
        let goes = limit.mul_f64(rng.random_range(0.0..0.8));
        let comes = goes + limit.mul_f64(rng.random_range(0.05..0.2));
        let back = if number % 2 == 0 {
            Change::Comes
        } else {
            Change::ComesEmpty
        };
        let first = (Duration::ZERO, Change::Comes);
        plan.peers[peer].presence = vec![first, (goes, Change::Goes), (comes, back)];
    }
}
