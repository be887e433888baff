//! A peer: disk, swarm and control API around Warren's machines.

pub mod control;
