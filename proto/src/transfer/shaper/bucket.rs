//! Bytes that may go, which come in with time.

use std::time::{Duration, Instant};

/// What goes at once is what comes in during this time, between the bounds of [`SLICE_BYTES`].
const SLICE: Duration = Duration::from_millis(5);

/// At least three packets, since each costs a call; at most what leaves in one batch.
const SLICE_BYTES: (f64, f64) = (4_096.0, 65_536.0);

/// A full bucket holds what comes in during this time: who is that late still gets all of it.
const FULL: Duration = Duration::from_millis(30);

/// What went beyond what there was is owed for at most so long a time.
const MOST_OWED: Duration = Duration::from_secs(1);

/// One limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    bytes_per_s: f64,
    /// Less than nothing when more went than there was.
    level: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(now: Instant, bytes_per_s: u64) -> Bucket {
        let mut bucket = Bucket {
            bytes_per_s: bytes_per_s.max(1) as f64,
            level: 0.0,
            filled: now,
        };
        bucket.level = bucket.full();
        bucket
    }

    /// Changes the rate. What it holds or owes stays, as far as the new rate allows.
    pub(super) fn set_rate(&mut self, now: Instant, bytes_per_s: u64) {
        self.settle(now, 0.0);
        self.bytes_per_s = bytes_per_s.max(1) as f64;
        self.settle(now, 0.0);
    }

    /// The limit.
    pub(super) fn bytes_per_s(&self) -> f64 {
        self.bytes_per_s
    }

    /// Most bytes that go at once.
    pub(super) fn slice(&self) -> u32 {
        let (least, most) = SLICE_BYTES;
        (self.bytes_per_s * SLICE.as_secs_f64()).clamp(least, most) as u32
    }

    /// Most bytes it holds.
    pub(super) fn full(&self) -> f64 {
        let during = self.bytes_per_s * FULL.as_secs_f64();
        during.max(2.0 * f64::from(self.slice()))
    }

    /// What has come in by now, less so many bytes that went.
    pub(super) fn settle(&mut self, now: Instant, gone: f64) {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        let level = self.level + since * self.bytes_per_s - gone;
        let least = -self.bytes_per_s * MOST_OWED.as_secs_f64();
        self.level = level.clamp(least, self.full());
        self.filled = self.filled.max(now);
    }

    /// Whether it has what a slice of payload takes at `cost` bytes a byte, as of when it was last
    /// settled.
    pub(super) fn has_slice(&self, cost: f64) -> bool {
        // Half a byte, which a wait that was rounded to nanoseconds falls short of.
        self.lacking(cost) <= 0.5
    }

    /// When it will have that.
    pub(super) fn when(&self, cost: f64) -> Instant {
        self.filled + Duration::from_secs_f64(self.lacking(cost).max(0.0) / self.bytes_per_s)
    }

    fn lacking(&self, cost: f64) -> f64 {
        f64::from(self.slice()) * cost - self.level
    }
}
