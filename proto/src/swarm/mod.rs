//! What a tracker decides: who is in which swarm, who hears of whom, who is introduced to whom.
//!
//! Pure machines: time is passed in, randomness comes from a seed, nothing is sent from here.
//! [`SwarmTable`] keeps the members, [`Introducer`] writes the two halves of a rendezvous,
//! [`candidates_for`] is the one rule about which addresses a peer may be told. [`Meetings`] knows the
//! latest rendezvous, [`TechniqueMemory`] what came of them.
//!
//! Not here: connections, and the messages these decisions travel in ([`crate::wire::tracker`]).

mod consent;
mod introducer;
mod meetings;
mod quota;
mod table;
mod techniques;

pub use consent::{Situation, candidates_for};
pub use introducer::{IntroduceError, Introducer};
pub use meetings::{Meetings, Trickled};
pub use quota::{PAIR_INTERVAL, PEER_INTRODUCTIONS, PEER_WINDOW};
pub use table::{AnnounceOutcome, SwarmConfig, SwarmTable};
pub use techniques::TechniqueMemory;
