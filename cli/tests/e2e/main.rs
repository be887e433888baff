//! Whole swarms on one machine: a tracker and daemons as real processes, driven through `client`
//! as a person would.
//!
//! [`harness`] starts and watches the processes, [`content`] makes and compares what they share.
//! A test's name is its claim. Nothing sleeps and hopes: every wait is for a state, with
//! [`harness::DEADLINE`] as its end.
//!
//! Not here: the command line without a daemon (`client.rs`), or against one that follows a script
//! (`with_daemon.rs`).

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

mod advice;
mod again;
mod as_written;
mod asleep;
mod bad_days;
mod bad_input;
mod changed;
mod choice;
mod codes;
mod content;
mod control_api;
mod disk;
mod doctor;
mod durability;
mod faults;
mod follow;
mod harness;
mod life;
mod limits;
mod manifests;
mod receiving;
mod registering;
mod relays;
mod repairing;
mod restarts;
mod services;
mod sources;
mod terms;
mod top;
mod touched;
mod trackers;
mod transfers;
