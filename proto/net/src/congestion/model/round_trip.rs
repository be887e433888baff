//! How long the path is: the least round trip (draft-ietf-ccwg-bbr, `BBR.min_rtt`), and the least since we
//! last left the queue.
//!
//! The two differ where somebody else keeps a queue. Then the second one says how much must be under way
//! for a given rate, and the first how little would do without them.

use std::time::{Duration, Instant};

/// Whether the least round trip is still true is looked at as often (`BBR.ProbeRTTInterval`).
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// What was not seen again for so long is not believed any more (`BBR.MinRTTFilterLen`).
const MEMORY: Duration = Duration::from_secs(10);

/// Within this part of it a round trip counts as the least one seen again.
const SAME: f64 = 1.0 + 1.0 / 16.0;

/// What is known of the length of the path.
#[derive(Clone, Debug)]
pub(super) struct RoundTrip {
    least: Duration,
    /// When that was seen last.
    seen: Instant,
    /// When it was looked for last, in vain or not.
    probed: Instant,
    /// The least since our own queue was gone, if it was.
    clear: Option<Duration>,
}

impl RoundTrip {
    pub(super) fn new(now: Instant) -> Self {
        RoundTrip {
            least: Duration::MAX,
            seen: now,
            probed: now,
            clear: None,
        }
    }

    /// The least; nothing before the first sample.
    pub(super) fn least(&self) -> Option<Duration> {
        (self.least < Duration::MAX).then_some(self.least)
    }

    /// What a round trip takes without a queue of our own.
    pub(super) fn clear(&self) -> Option<Duration> {
        let clear = self.clear.unwrap_or(self.least).max(self.least);
        (clear < Duration::MAX).then_some(clear)
    }

    pub(super) fn sample(&mut self, now: Instant, rtt: Duration) {
        self.least = self.least.min(rtt);
        if rtt <= self.least.mul_f64(SAME) {
            self.seen = now;
        }
        self.clear = self.clear.map(|clear| clear.min(rtt));
    }

    /// Our own queue is gone from here on: `rtt` is the first that shows it.
    pub(super) fn begin_clear(&mut self, rtt: Duration) {
        self.clear = Some(rtt);
    }

    /// Whether it is time to make room and look.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.seen.max(self.probed)) > PROBE_INTERVAL
    }

    /// It was looked for: `found` is the least while hardly anything of ours was under way.
    pub(super) fn probed(&mut self, now: Instant, found: Duration) {
        self.probed = now;
        if now.saturating_duration_since(self.seen) > MEMORY {
            (self.least, self.seen) = (found, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_seen_again_need_not_be_looked_for() {
        let mut now = Instant::now();
        let mut path = RoundTrip::new(now);
        for ms in [100, 140, 120, 105, 160, 104] {
            now += SECOND;
            path.sample(now, ms * MS);
        }
        assert_eq!(path.least(), Some(100 * MS));
        assert!(!path.is_due(now + 4 * SECOND));
        assert!(path.is_due(now + 6 * SECOND));
    }

    #[test]
    fn what_is_looked_for_in_vain_twice_is_believed_no_more() {
        let mut now = Instant::now();
        let mut path = RoundTrip::new(now);
        path.sample(now, 50 * MS);
        for (least_ms, seen_ms) in [(50, 150), (150, 140)] {
            now += 6 * SECOND;
            path.sample(now, 200 * MS);
            assert!(path.is_due(now));
            path.probed(now, 150 * MS);
            assert!(!path.is_due(now));
            assert_eq!(path.least(), Some(least_ms * MS));
            path.sample(now, seen_ms * MS);
        }
        assert_eq!(path.least(), Some(140 * MS));
    }

    #[test]
    fn who_keeps_a_queue_makes_the_path_longer_for_us() {
        let now = Instant::now();
        let mut path = RoundTrip::new(now);
        path.sample(now, 50 * MS);
        assert_eq!(path.clear(), Some(50 * MS));
        path.begin_clear(80 * MS);
        path.sample(now, 90 * MS);
        path.sample(now, 75 * MS);
        assert_eq!(path.clear(), Some(75 * MS));
        assert_eq!(path.least(), Some(50 * MS));
    }
}
