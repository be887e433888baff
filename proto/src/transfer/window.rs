//! How many bytes may be outstanding: from one peer, and from all together.
//!
//! A window is counted in bytes, never in requests: a cap on their number is what makes other
//! programs stall at long round trips. What counts against a window is what has not arrived; what
//! counts against the budget is every chunk asked for and not yet verified.

use std::time::Duration;

/// Most bytes outstanding when nobody said otherwise: half of the daemon's memory budget.
const DEFAULT_BUDGET_BYTES: u64 = 48 * 1024 * 1024;
/// The window of a peer that has brought nothing yet, so that it shows what it can do.
const FIRST_WINDOW_BYTES: u64 = 1024 * 1024;
/// Afterwards a window is at least this: what waits at a slow peer could come from another,
const MIN_WINDOW_BYTES: u64 = 128 * 1024;
/// and at least so many chunks, so that the next is always asked for before the last has come.
const MIN_WINDOW_CHUNKS: u64 = 2;
/// What a peer may take from reading a request to sending the first byte.
const SERVICE_TIME: Duration = Duration::from_millis(50);
/// By how much a window exceeds what the measured rate needs, so that the rate can grow.
const HEADROOM: f64 = 1.5;

/// How many bytes to have on the way from one peer that delivers so many a second. `answer` is how long
/// it takes at the least from a request to the first bytes, if it has brought any.
pub(super) fn window_bytes(
    bytes_per_s: f64,
    rtt: Duration,
    chunk_bytes: u64,
    answer: Option<Duration>,
) -> u64 {
    let during = |time: Duration| (bytes_per_s * time.as_secs_f64() * HEADROOM) as u64;
    // A peer may take long to begin with anything, whatever the path: but not so much that all would
    // wait there.
    let least = match answer {
        Some(answer) => during(answer).clamp(MIN_WINDOW_BYTES, FIRST_WINDOW_BYTES),
        None => FIRST_WINDOW_BYTES,
    };
    during(rtt + SERVICE_TIME)
        .max(least)
        .max(MIN_WINDOW_CHUNKS * chunk_bytes)
}

/// What may be, and what is, outstanding over all peers.
#[derive(Debug)]
pub(super) struct Budget {
    /// Most bytes outstanding.
    pub(super) limit: u64,
    /// Bytes outstanding.
    pub(super) outstanding: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            limit: DEFAULT_BUDGET_BYTES,
            outstanding: 0,
        }
    }
}

impl Budget {
    /// Whether another chunk may be asked for. If nothing is outstanding, any budget will do.
    pub(super) fn has_room(&self, chunk_bytes: u64) -> bool {
        self.limit > 0 && (self.outstanding == 0 || self.fits(chunk_bytes, 0))
    }

    /// Whether another chunk may be asked of a peer that was asked for something already, as were
    /// `asked` peers, while `unasked` others have something too. A chunk's room is kept for each
    /// of these as long as first chunks take less than half of the budget: beyond that, many slow
    /// peers would keep the few fast ones waiting.
    pub(super) fn has_room_beside(&self, chunk_bytes: u64, asked: u64, unasked: u64) -> bool {
        let firsts = |peers: u64| peers.saturating_mul(chunk_bytes);
        let kept = (self.limit / 2).saturating_sub(firsts(asked));
        self.fits(chunk_bytes, kept.min(firsts(unasked)))
    }

    /// Whether another chunk may be asked for beside one for each of so many peers: then
    /// [`Self::has_room_beside`] is true whatever these were asked for.
    pub(super) fn has_room_for_all(&self, chunk_bytes: u64, peers: u64) -> bool {
        self.fits(chunk_bytes, peers.saturating_mul(chunk_bytes))
    }

    fn fits(&self, chunk_bytes: u64, kept: u64) -> bool {
        let used = self.outstanding.saturating_add(chunk_bytes);
        used.saturating_add(kept) <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn windows_follow_the_rate_and_are_never_small() {
        let window = |rate: u64, rtt_ms, chunk| {
            window_bytes(rate as f64, Duration::from_millis(rtt_ms), chunk, None)
        };
        assert_eq!(window(100 * MIB, 150, MIB), 30 * MIB);
        assert_eq!(window(0, 150, 65_536), MIB, "16 small chunks");
        assert_eq!(window(0, 150, 4 * MIB), 8 * MIB, "2 large ones");
        let known = |rate: u64, answer_ms| {
            let answer = Some(Duration::from_millis(answer_ms));
            window_bytes(rate as f64, Duration::from_millis(1), 65_536, answer)
        };
        assert_eq!(
            known(1000, 100),
            128 * 1024,
            "2 small ones once it is known"
        );
        assert_eq!(known(MIB, 400), 629_145, "it is slow to begin");
        assert_eq!(known(MIB, 10_000), MIB);
    }

    #[test]
    fn a_chunk_fits_any_budget_but_none() {
        let budget = |limit, outstanding| Budget { limit, outstanding };
        assert!(budget(1, 0).has_room(MIB));
        assert!(!budget(0, 0).has_room(1));
        assert!(!budget(MIB, 1).has_room(MIB));
        assert!(budget(2 * MIB, MIB).has_room(MIB));
    }

    #[test]
    fn room_is_kept_for_those_who_were_asked_for_nothing() {
        let budget = |outstanding| Budget {
            limit: 10 * MIB,
            outstanding,
        };
        assert!(budget(6 * MIB).has_room_beside(MIB, 1, 3));
        assert!(!budget(7 * MIB).has_room_beside(MIB, 1, 3));
        assert!(
            budget(5 * MIB).has_room_beside(MIB, 1, u64::MAX),
            "at most half is kept"
        );
        assert!(
            budget(9 * MIB).has_room_beside(MIB, 5, 5),
            "half is taken by first chunks"
        );
    }
}
