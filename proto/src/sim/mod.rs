//! A simulator of swarms: the engine that daemons run, thousands of times, on virtual time.
//!
//! A [`Plan`] says who takes part; [`run`] gives an [`Outcome`]. The same plan gives the same outcome
//! and the same trace hash. What is modelled, and how:
//!
//! * `peer`: one [`Engine`](crate::transfer::engine::Engine), and what a daemon's shell does around
//!   it; faults are put in there;
//! * `fluid`: links share their rate max-min fairly among the connections over them;
//! * `streams`: the uploads of one connection go one after the other, and are told in pieces;
//! * `world`: time, round trips, who is connected to whom, who comes and goes;
//! * `plan`, `scenario`: what is simulated; `bound`: the least time it takes;
//! * `gauge`, `outcome`, `picture`: what is seen of it.
//!
//! What is left out: slow start and the other doings of congestion control (a connection has its fair
//! rate at once), the bytes of control messages on the links (they are counted), headers, disks, and
//! the time that connecting takes beyond a round trip.

mod bound;
mod fluid;
mod gauge;
mod outcome;
mod peer;
mod picture;
mod plan;
mod queue;
mod scenario;
mod streams;
#[cfg(test)]
mod tests;
mod world;

pub use bound::Bound;
pub use gauge::{Look, Waits};
pub use outcome::Outcome;
pub use picture::picture;
pub use plan::{Change, Class, Fault, Has, Member, Plan, Shape, Topology};
pub use scenario::{SCENARIOS, Scenario};
pub use world::{Job, Observer, run, run_before};
