//! A peer: disk, swarm and control API around Warren's machines.

pub mod control;
pub mod home;
pub mod store;

use std::{net::SocketAddr, path::PathBuf};

use control::model::{ApiError, exit};
use warren_proto::id::TrackerPin;

/// Stands in for the node until it exists.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of all state.
    pub home: PathBuf,
    /// Number of the daemon.
    pub idx: u16,
    /// `host:port` of the tracker.
    pub tracker: String,
    /// What the tracker's key must match, when given.
    pub tracker_pin: Option<TrackerPin>,
    /// Where to listen for peers.
    pub listen: Option<SocketAddr>,
    /// Where downloads go.
    pub downloads: PathBuf,
}

/// Stands in for the node until it exists.
///
/// # Errors
/// Always.
pub async fn run(_: Config) -> Result<(), ApiError> {
    Err(ApiError::new(
        "not_built",
        exit::OTHER,
        "the daemon is not built yet",
        "",
    ))
}
