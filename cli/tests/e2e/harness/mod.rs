//! Starts trackers, daemons and clients as processes, and waits for what they say.
//!
//! [`Swarm`] is a folder with a tracker and whatever daemons a test starts there. [`Daemon`] and
//! [`Transfer`] are driven through the command line alone, but for [`Daemon::post`], which says
//! what no client would. Every process ends with its handle, and shows its messages when the test
//! failed.

mod daemon;
mod door;
mod gate;
mod process;
mod swarm;
mod transfer;

use std::{
    thread,
    time::{Duration, Instant},
};

pub(crate) use daemon::{Daemon, DaemonOptions};
pub(crate) use door::Door;
pub(crate) use gate::Gate;
pub(crate) use process::{Process, Ran, Throttle, run};
pub(crate) use swarm::{Place, Swarm, Tracker, free_address, succeeds, tracker_program};
pub(crate) use transfer::{Transfer, caught_in_the_middle};

/// How long anything may take that is awaited. Far more than it needs on an idle machine: a machine
/// that is busy, or a peer that has to be given up first (30 s), must not fail a test.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// Gap between two looks at a state.
const POLL: Duration = Duration::from_millis(20);

/// Asks until there is an answer.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {} s for {what}",
            DEADLINE.as_secs()
        );
        thread::sleep(POLL);
    }
}
