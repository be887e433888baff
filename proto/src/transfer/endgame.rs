//! The end game: which chunk to ask of a second peer once all that is missing was asked for.
//!
//! The download ends when its last chunk comes, so the request that will take longest gets a
//! copy, provided the copy will come much sooner. Whichever comes first counts, and the other is
//! cancelled.

use std::time::{Duration, Instant};

use super::peer::Peer;
use crate::content::ChunkIndex;
use crate::id::PublicKey;

/// How often to look again while nothing happens: a peer that falls silent looks ever slower.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// A copy must be expected in less than this part of the time its original needs; the rest allows
/// for the error of both estimates.
const GAIN: u32 = 2;

/// A chunk asked of one peer only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Single {
    /// Which.
    pub(super) chunk: ChunkIndex,
    /// Bytes in it.
    pub(super) len: u32,
    /// When it will have come, from now.
    pub(super) arrival: Duration,
}

/// The slowest of `singles` for which an idle peer would be much faster, and that peer.
pub(super) fn worth_copying(
    now: Instant,
    mut singles: Vec<Single>,
    idle: &[(PublicKey, &Peer)],
) -> Option<(PublicKey, Single)> {
    singles.sort_by_key(|single| (std::cmp::Reverse(single.arrival), single.chunk));
    singles.into_iter().find_map(|single| {
        let holders = idle
            .iter()
            .filter(|(_, peer)| peer.holds.contains(single.chunk));
        let timed = holders.map(|(key, peer)| (peer.time_for(now, single.len.into()), *key));
        let (time, key) = timed.min()?;
        (time * GAIN < single.arrival).then_some((key, single))
    })
}
