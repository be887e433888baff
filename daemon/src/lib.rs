//! The peer: disk, swarm and control API around the machines of `warren_proto`.
//!
//! [`run`] is a daemon from start to end. [`node`] is the task that decides; [`tracker`] and
//! [`peer`] talk to others for it, [`punch`] finds the paths to them, [`pace`] keeps to limits, [`memory`] divides what may be kept
//! in memory because of peers, [`hands`] are the threads that read and
//! write bytes for peers, [`share`] and [`store`] hold what is shared, [`control`] is how
//! the person reaches it, [`clock`] tells the time, [`log`] keeps the last lines of what it says of itself,
//! [`watch`] and [`hooks`] are how files and commands of theirs take part.

pub mod clock;
pub mod control;
mod hands;
pub mod home;
pub mod hooks;
pub mod log;
pub mod memory;
mod node;
mod pace;
mod peer;
mod portmap;
mod punch;
mod run;
mod share;
mod started;
pub mod store;
mod tracker;
mod watch;

pub use portmap::PortMapping;
pub use run::{Config, run};
pub use started::Started;
