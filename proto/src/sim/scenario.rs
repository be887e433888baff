//! Swarms with a name.

use std::time::Duration;

use super::plan::{Member, Plan};

/// Bytes per second of a megabit per second.
const MBIT: f64 = 125_000.0;

/// A kind of swarm, of which the size can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Leeches, chunks and bytes of a chunk unless said otherwise.
    pub size: (u32, u32, u32),
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
            relay: f64::INFINITY,
            tick: Duration::from_millis(1),
            budget: None,
            pieces: 4,
            peers: Vec::new(),
            patience: Duration::from_secs(24 * 3600),
        };
        (self.plan)(&mut plan, leeches);
        plan
    }
}

const KIB: u32 = 1024;

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "equal",
        about: "one seed, equal links of 100 Mbit/s up and 400 down, 50 ms",
        size: (1000, 2048, 512 * KIB),
        plan: |plan, leeches| plan.peers = swarm(leeches, 100.0, 100.0, 400.0),
    },
    Scenario {
        name: "eight",
        about: "one seed and 8 leeches, 50 Mbit/s up and 200 down, 1 ms",
        size: (8, 2048, 128 * KIB),
        plan: |plan, leeches| {
            plan.rtt = Duration::from_millis(1);
            plan.tick = Duration::from_micros(20);
            plan.peers = swarm(leeches, 50.0, 50.0, 200.0);
        },
    },
    Scenario {
        name: "twenty",
        about: "one seed and 20 leeches, 20 Mbit/s up and 100 down, 40 ms",
        size: (20, 2048, 64 * KIB),
        plan: |plan, leeches| {
            plan.rtt = Duration::from_millis(40);
            plan.tick = Duration::from_micros(100);
            plan.peers = swarm(leeches, 20.0, 20.0, 100.0);
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
