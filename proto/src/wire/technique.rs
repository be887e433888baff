//! The ways two peers can find a path, as a tracker is told of them and advises them.
//!
//! Not here: how each works (`nat`), which worked lately (`swarm::TechniqueMemory`).

use serde::{Deserialize, Serialize};

/// How many there are.
pub const TECHNIQUES: usize = 5;

/// How a path was found, or looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Technique {
    /// Checks to the candidates of the rendezvous, and answers to where the peer's come from.
    Checks = 0,
    /// One NAT hands ports out in sequence: the other side checks the ports next in line.
    Prediction = 1,
    /// Both do: each aims at the port that the other is about to get.
    MutualPrediction = 2,
    /// One NAT picks ports at random: its side opens many, the other checks many.
    Birthday = 3,
    /// Both pick from few enough ports that each side can check all of them.
    BlockSpray = 4,
}

impl Technique {
    /// All of them.
    pub const ALL: [Technique; TECHNIQUES] = [
        Technique::Checks,
        Technique::Prediction,
        Technique::MutualPrediction,
        Technique::Birthday,
        Technique::BlockSpray,
    ];
}
