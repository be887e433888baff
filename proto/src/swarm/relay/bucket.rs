//! A bucket of bytes that fills up again with time.

use std::time::{Duration, Instant};

/// A full bucket holds what its rate brings in this time,
const FULL: Duration = Duration::from_millis(50);

/// and never less than this: a connection begins with so much at once, and the largest batch that
/// arrives is half of it.
const LEAST_BYTES: f64 = 131_072.0;

/// How fast a bucket fills, and how far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit {
    bytes_per_s: f64,
    full: f64,
}

impl Limit {
    /// So many bytes per second.
    pub(super) fn of(bytes_per_s: u64) -> Limit {
        let bytes_per_s = bytes_per_s as f64;
        Limit {
            bytes_per_s,
            full: (bytes_per_s * FULL.as_secs_f64()).max(LEAST_BYTES),
        }
    }

    /// Most bytes that leave at once.
    #[cfg(test)]
    pub(super) fn burst(&self) -> f64 {
        self.full
    }
}

/// Bytes that may still go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    bytes: f64,
    /// When it was last filled up; a new one is full.
    filled: Option<Instant>,
}

impl Bucket {
    /// Whether so many bytes may go now.
    pub(super) fn has(&mut self, now: Instant, limit: Limit, bytes: u64) -> bool {
        self.fill(now, limit);
        self.bytes >= bytes as f64
    }

    /// Whether it is at least half full.
    pub(super) fn has_plenty(&mut self, now: Instant, limit: Limit) -> bool {
        self.fill(now, limit);
        self.bytes >= limit.full / 2.0
    }

    /// Takes so many bytes out, or all there are.
    pub(super) fn take(&mut self, bytes: u64) {
        self.bytes = (self.bytes - bytes as f64).max(0.0);
    }

    fn fill(&mut self, now: Instant, limit: Limit) {
        let gained = match self.filled {
            Some(filled) => now.saturating_duration_since(filled).as_secs_f64() * limit.bytes_per_s,
            None => limit.full,
        };
        self.bytes = (self.bytes + gained).min(limit.full);
        self.filled = self.filled.max(Some(now));
    }
}
