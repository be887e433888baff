//! What a tracker decides: who is in which swarm, who hears of whom, who is introduced to whom.
//!
//! Pure machines: time is passed in, randomness comes from a seed, nothing is sent from here.
//! [`SwarmTable`] keeps the members, [`Introducer`] writes the two halves of a rendezvous,
//! [`candidates_for`] is the one rule about which addresses a peer may be told, [`echo_target`] about
//! where a tracker sends a probe, and [`RelayTable`] decides which datagrams pass through the
//! tracker.
//! [`Overlay`] says who of a swarm is whose neighbour, with a [`Graph`] where it is large. [`Meetings`] knows the latest rendezvous, [`TechniqueMemory`] what came of them.
//!
//! Not here: connections, and the messages these decisions travel in ([`crate::wire::tracker`]).

mod address_tokens;
mod consent;
mod graph;
mod introducer;
mod meetings;
mod overlay;
mod quota;
mod relay;
mod site;
mod table;
mod techniques;

pub use address_tokens::AddressTokens;
pub use consent::{Situation, Transport, can_be_proven, candidates_for, echo_target, may_prove_at};
pub use graph::Graph;
pub use introducer::{IntroduceError, Introducer};
pub use meetings::{Meetings, Trickled};
pub use overlay::{Overlay, Shape, Sited};
pub use quota::{PAIR_INTERVAL, PEER_INTRODUCTIONS, PEER_WINDOW};
pub use relay::{
    Batch, Origin, Place, RELAY_IDLE, Refusal, RelayConfig, RelayCounters, RelayTable, parsed_rate,
};
pub use site::{Class, Site};
pub use table::{AnnounceOutcome, News, SwarmConfig, SwarmTable};
pub use techniques::TechniqueMemory;
pub(crate) use techniques::prefix;
