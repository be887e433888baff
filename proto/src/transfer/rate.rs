//! How fast a peer delivers, lately.
//!
//! The mean since the beginning until a horizon has passed, and from then on one in which older
//! bytes count ever less. The clock runs only while something is outstanding, and after a pause
//! starts one round trip late: waiting for the first byte says nothing about the rate.

use std::time::{Duration, Instant};

/// What a peer is taken to deliver before it has delivered anything.
const FIRST_GUESS_BYTES_PER_S: f64 = 1024.0 * 1024.0;
/// How long the first guess counts for: little beside the first real bytes, but enough that a
/// moment of silence before them does not pass for a rate.
const FIRST_GUESS_WEIGHT_S: f64 = 0.05;
/// How long bytes count, in round trips: the window that follows from the rate then grows tenfold
/// in about seven of them.
const HORIZON_RTTS: f64 = 4.0;
/// Bounds of the horizon. Shorter, and the arrival of single bursts shows; longer, and a slow peer
/// is noticed late.
const HORIZON_S: (f64, f64) = (0.25, 2.0);
/// Longest time anything is said to take.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The delivery rate of one peer.
#[derive(Debug)]
pub(super) struct Rate {
    bytes_per_s: f64,
    weight_s: f64,
    horizon_s: f64,
    /// Time up to which deliveries are in `bytes_per_s`; `None` while nothing is outstanding.
    counted: Option<Instant>,
}

impl Rate {
    /// A peer with this round trip that has delivered nothing.
    pub(super) fn new(rtt: Duration) -> Rate {
        let (shortest, longest) = HORIZON_S;
        Rate {
            bytes_per_s: FIRST_GUESS_BYTES_PER_S,
            weight_s: FIRST_GUESS_WEIGHT_S,
            horizon_s: (rtt.as_secs_f64() * HORIZON_RTTS).clamp(shortest, longest),
            counted: None,
        }
    }

    /// Something is outstanding from now on.
    pub(super) fn start(&mut self, now: Instant, rtt: Duration) {
        self.counted.get_or_insert(now + rtt);
    }

    /// Nothing is outstanding any more.
    pub(super) fn stop(&mut self, now: Instant) {
        self.credit(now, 0);
        self.counted = None;
    }

    /// So much arrived.
    pub(super) fn credit(&mut self, now: Instant, bytes: u32) {
        let silent = self.silence_s(now);
        let weight = self.weight_s + silent;
        self.bytes_per_s = (self.bytes_per_s * self.weight_s + f64::from(bytes)) / weight;
        self.weight_s = weight.min(self.horizon_s);
        self.counted = self.counted.map(|counted| counted.max(now));
    }

    /// Bytes per second, the present silence included.
    pub(super) fn bytes_per_s(&self, now: Instant) -> f64 {
        self.bytes_per_s * self.weight_s / (self.weight_s + self.silence_s(now))
    }

    /// How long so many bytes will take; at most a day.
    pub(super) fn time_for(&self, now: Instant, bytes: u64) -> Duration {
        let seconds = bytes as f64 / self.bytes_per_s(now).max(1.0);
        Duration::from_secs_f64(seconds.min(FOREVER.as_secs_f64()))
    }

    /// For how long nothing has come although something should have.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        let silence = |counted| now.saturating_duration_since(counted);
        self.counted.map_or(Duration::ZERO, silence)
    }

    fn silence_s(&self, now: Instant) -> f64 {
        self.silence(now).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);
    const STEP: Duration = Duration::from_millis(10);

    #[test]
    fn a_steady_stream_is_measured_within_a_second() {
        let (mut rate, start) = (Rate::new(RTT), Instant::now());
        rate.start(start, RTT);
        let end = deliver(&mut rate, start + RTT, 100, 100_000);
        assert_about(&rate, end, 10_000_000.0);
    }

    #[test]
    fn a_change_is_followed_within_a_few_round_trips() {
        let (mut rate, start) = (Rate::new(RTT), Instant::now());
        rate.start(start, RTT);
        let slow = deliver(&mut rate, start + RTT, 100, 10_000);
        let end = deliver(&mut rate, slow, 200, 100_000);
        assert_about(&rate, end, 10_000_000.0);
    }

    #[test]
    fn silence_counts_only_while_something_is_outstanding() {
        let (mut rate, start) = (Rate::new(RTT), Instant::now());
        rate.start(start, RTT);
        let end = deliver(&mut rate, start + RTT, 100, 100_000);
        let before = rate.bytes_per_s(end);
        assert!(rate.bytes_per_s(end + 10 * RTT) < before / 2.0);
        rate.stop(end);
        let later = end + 100 * RTT;
        assert_eq!(rate.bytes_per_s(later), before);
        rate.start(later, RTT);
        assert_eq!(
            rate.bytes_per_s(later + RTT),
            before,
            "the round trip is no silence"
        );
    }

    #[test]
    fn no_order_of_times_breaks_it() {
        let (mut rate, start) = (Rate::new(Duration::ZERO), Instant::now());
        rate.start(start + RTT, Duration::ZERO);
        rate.credit(start, u32::MAX);
        rate.credit(start, u32::MAX);
        rate.stop(start);
        rate.stop(start);
        assert!(rate.bytes_per_s(start).is_finite());
        assert!(rate.time_for(start, u64::MAX) <= FOREVER);
    }

    fn deliver(rate: &mut Rate, mut now: Instant, times: u32, bytes: u32) -> Instant {
        for _ in 0..times {
            now += STEP;
            rate.credit(now, bytes);
        }
        now
    }

    #[track_caller]
    fn assert_about(rate: &Rate, now: Instant, expected: f64) {
        let found = rate.bytes_per_s(now);
        assert!((found / expected - 1.0).abs() < 0.1, "{found}");
    }
}
