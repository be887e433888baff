//! The rendezvous server of Warren: who is in which swarm, and how two of them can meet.
//!
//! [`Tracker`] listens, keeps one connection per daemon and forgets everything when it ends. What
//! it decides (sampling, expiry, introductions) is decided by the machines in `warren_proto::swarm`;
//! this crate owns the sockets, the clock and the policy around them.
//!
//! Not here: names, content, manifests. A tracker never learns what is being shared.

mod admission;
mod alternate;
mod config;
mod echo;
mod families;
mod followup;
mod passed;
mod proofs;
mod relay;
mod seats;
mod server;
mod session;
mod state;
mod stun;

pub use alternate::{AltAddress, AltAddressError, outward_ip};
pub use config::{
    Config, DEFAULT_PORT, DEFAULT_RELAY_BITS_PER_S, DEFAULT_STUN_PORT, StartError, checked_public,
    stun_beside,
};
pub use passed::{Passed, PassedError};
pub use server::Tracker;
pub use warren_net::RelayCounts;
