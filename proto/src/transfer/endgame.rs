//! The end game: which chunk to ask of a second peer once all that is missing was asked for.
//!
//! The download ends when its last chunk comes, so the request that will take longest gets a
//! copy, provided the copy will come much sooner. Whichever comes first counts, and the other is
//! cancelled.

use std::cmp::Reverse;
use std::time::Duration;

use super::holdings::Holdings;
use crate::content::ChunkIndex;
use crate::id::PublicKey;

/// How often to look again while nothing happens: a peer that falls silent looks ever slower.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// How long not to look again after there was nothing worth a copy, whatever happens: looking takes
/// going through all requests.
pub(super) const REST: Duration = Duration::from_millis(10);
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
    /// Of whom.
    pub(super) peer: PublicKey,
    /// When it will have come, from now.
    pub(super) arrival: Duration,
}

/// A peer that may be asked for a copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Free<'a> {
    /// When a chunk asked of it now will have come.
    pub(super) arrival: Duration,
    /// Who.
    pub(super) key: PublicKey,
    /// What it has.
    pub(super) holds: &'a Holdings,
}

/// The slowest of `singles` for which a free peer would be much faster, and the fastest such peer.
/// Stops at the first chunk that comes soon enough, which usually is the first of all.
pub(super) fn worth_copying(
    mut singles: Vec<Single>,
    mut free: Vec<Free<'_>>,
) -> Option<(PublicKey, Single)> {
    singles.sort_by_key(|single| (Reverse(single.arrival), single.chunk));
    free.sort_by_key(|free| (free.arrival, free.key));
    let fastest = free.first()?.arrival;
    let late = singles
        .into_iter()
        .take_while(|single| gains(fastest, single));
    late.filter_map(|single| {
        let mut better = free.iter().take_while(|free| gains(free.arrival, &single));
        let copy =
            better.find(|free| free.key != single.peer && free.holds.contains(single.chunk))?;
        Some((copy.key, single))
    })
    .next()
}

fn gains(arrival: Duration, original: &Single) -> bool {
    arrival * GAIN < original.arrival
}
