//! How many bytes may be outstanding: from one peer, and from all together.
//!
//! A window is counted in bytes, never in requests: a cap on their number is what makes other
//! programs stall at long round trips. What counts against a window is what has not arrived; what
//! counts against the budget is every chunk asked for and not yet verified. One share has a part of
//! what all may have outstanding; what there is room for in all is its room ([`super::Engine`]).
//!
//! No more is outstanding than keeps what delivers busy. A chunk that waits its turn at one peer is
//! asked of nobody else, and is chosen by what was rare when it was asked for: in a swarm of many,
//! where each is asked by many, that costs as much as late news does. Whose uplink is left idle
//! says so itself (`engine::invitations`).

use std::time::Duration;

/// Most bytes outstanding when nobody said otherwise: half of the daemon's memory budget.
const DEFAULT_BUDGET_BYTES: u64 = 48 * 1024 * 1024;
/// What may always be outstanding, and what all peers are asked for between them however slow they
/// are, so that they can show what they can do;
const FIRST_BYTES: u64 = 1024 * 1024;
/// and so many chunks in any case.
const FIRST_CHUNKS: u64 = 4;
/// What a peer may take from reading a request to sending the first byte.
const SERVICE_TIME: Duration = Duration::from_millis(50);
/// How long a request may wait for others' at the peers, in the mean.
const QUEUE_TIME: Duration = Duration::from_millis(200);
/// By how much more is asked for than the measured rate needs, so that it can grow.
const HEADROOM: f64 = 1.5;

/// What one peer that delivers so many bytes a second is to have on the way, that it never waits for a
/// request. It is asked for the next chunk when less than that is to come.
pub(super) fn pipe_bytes(bytes_per_s: f64, rtt: Duration) -> u64 {
    (bytes_per_s * (rtt + SERVICE_TIME).as_secs_f64() * HEADROOM) as u64
}

/// What one of so many peers is to have on the way at the least.
pub(super) fn least_bytes(peers: usize) -> u64 {
    FIRST_BYTES / (peers.max(1) as u64)
}

/// What may be outstanding from all peers, which deliver so many bytes a second between them, with
/// another chunk from one that is so far away.
pub(super) fn all_bytes(bytes_per_s: f64, rtt: Duration, chunk_bytes: u64) -> u64 {
    let needed = (bytes_per_s * (rtt + QUEUE_TIME).as_secs_f64() * HEADROOM) as u64;
    needed
        .max(FIRST_BYTES)
        .max(FIRST_CHUNKS.saturating_mul(chunk_bytes))
}

/// Whether a peer so far away would bring a chunk so soon that it is asked whatever is outstanding: what
/// waits at slow peers must not keep fast ones idle.
pub(super) fn is_quick(rtt: Duration, time: Duration) -> bool {
    time <= rtt + QUEUE_TIME
}

/// What may be, and what is, outstanding over all peers.
#[derive(Debug)]
pub(super) struct Budget {
    /// Most bytes outstanding.
    pub(super) limit: u64,
    /// Bytes outstanding.
    pub(super) outstanding: u64,
    /// What may be added to the bytes outstanding, whatever the limit.
    pub(super) room: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            limit: DEFAULT_BUDGET_BYTES,
            outstanding: 0,
            room: u64::MAX,
        }
    }
}

impl Budget {
    /// Whether another chunk may be asked for. If nothing is outstanding, any limit will do.
    pub(super) fn has_room(&self, chunk_bytes: u64) -> bool {
        self.would_have_room(chunk_bytes) && chunk_bytes <= self.room
    }

    /// Whether it is for room alone that no other chunk may be asked for.
    pub(super) fn lacks_room(&self, chunk_bytes: u64) -> bool {
        self.would_have_room(chunk_bytes) && chunk_bytes > self.room
    }

    fn would_have_room(&self, chunk_bytes: u64) -> bool {
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

    /// Whether another chunk may be asked for where no more than `most` is to be outstanding.
    pub(super) fn is_within(&self, chunk_bytes: u64, most: u64) -> bool {
        self.outstanding.saturating_add(chunk_bytes) <= most
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
    fn what_is_outstanding_follows_the_rate() {
        let ms = Duration::from_millis;
        assert_eq!(pipe_bytes(100.0 * MIB as f64, ms(150)), 30 * MIB);
        assert_eq!(pipe_bytes(0.0, ms(150)), 0);
        assert_eq!(least_bytes(0), MIB);
        assert_eq!(least_bytes(16), MIB / 16);
        assert_eq!(all_bytes(100.0 * MIB as f64, ms(200), MIB), 60 * MIB);
        assert_eq!(all_bytes(0.0, ms(200), 65_536), MIB, "16 small chunks");
        assert_eq!(all_bytes(0.0, ms(200), 4 * MIB), 16 * MIB, "4 large ones");
    }

    #[test]
    fn a_chunk_fits_any_budget_but_none() {
        let budget = |limit, outstanding| Budget {
            limit,
            outstanding,
            ..Budget::default()
        };
        assert!(budget(1, 0).has_room(MIB));
        assert!(!budget(0, 0).has_room(1));
        assert!(!budget(MIB, 1).has_room(MIB));
        assert!(budget(2 * MIB, MIB).has_room(MIB));
    }

    #[test]
    fn no_chunk_is_asked_for_beyond_the_room() {
        let budget = |limit, room| Budget {
            limit,
            room,
            ..Budget::default()
        };
        assert!(budget(1, MIB).has_room(MIB));
        assert!(!budget(1, MIB - 1).has_room(MIB));
        assert!(budget(1, MIB - 1).lacks_room(MIB));
        assert!(
            !budget(0, 0).lacks_room(MIB),
            "there is nothing to wait for"
        );
    }

    #[test]
    fn room_is_kept_for_those_who_were_asked_for_nothing() {
        let budget = |outstanding| Budget {
            limit: 10 * MIB,
            outstanding,
            ..Budget::default()
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
