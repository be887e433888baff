//! How many bytes are acknowledged together beyond what the rate explains (draft-ietf-ccwg-bbr,
//! `BBR.extra_acked`): as much more has to be under way, or the sender stands still while it waits.
//!
//! Receivers acknowledge ten packets at once, and wireless links hold acknowledgements back.

use std::time::Instant;

/// The most of so many round trips, or twice that (`BBR.ExtraAckedFilterLen`).
const MEMORY_ROUNDS: u64 = 5;

/// What is acknowledged together.
#[derive(Clone, Debug)]
pub(super) struct Aggregation {
    since: Instant,
    acked: f64,
    /// The most in this span of rounds and in the one before.
    most: [f64; 2],
    begun: u64,
}

impl Aggregation {
    pub(super) fn new(now: Instant) -> Self {
        Aggregation {
            since: now,
            acked: 0.0,
            most: [0.0; 2],
            begun: 0,
        }
    }

    /// In bytes.
    pub(super) fn extra(&self) -> f64 {
        self.most[0].max(self.most[1])
    }

    /// So many bytes were acknowledged, in round trip number `round`, of a path that carries
    /// `bandwidth` bytes a second. More than `cap` is not believed.
    pub(super) fn acked(&mut self, now: Instant, bytes: u64, bandwidth: f64, round: u64, cap: f64) {
        let is_past = round.saturating_sub(self.begun) >= MEMORY_ROUNDS;
        if is_past {
            (self.most, self.begun) = ([0.0, self.most[0]], round);
        }
        let mut expected = bandwidth * now.saturating_duration_since(self.since).as_secs_f64();
        if is_past || self.acked <= expected {
            (self.since, self.acked) = (now, 0.0);
            expected = 0.0;
        }
        self.acked += bytes as f64;
        self.most[0] = self.most[0].max((self.acked - expected).min(cap));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_comes_together_is_a_batch_at_a_steady_rate_and_more_after_a_pause() {
        let mut now = Instant::now();
        let mut aggregation = Aggregation::new(now);
        let mut acked = |after: Duration, bytes, round| {
            now += after;
            aggregation.acked(now, bytes, 1e7, round, 1e6);
            aggregation.extra()
        };
        let steady = (0..100).map(|_| acked(MS, 10_000, 0)).fold(0.0, f64::max);
        assert!((10_000.0..=20_000.0).contains(&steady), "{steady}");
        acked(20 * MS, 200_000, 1);
        let paused = acked(MS, 10_000, 1);
        assert!((200_000.0..=220_000.0).contains(&paused), "{paused}");
        let later = (2..14).map(|round| acked(MS, 10_000, round)).last();
        assert!(later.is_some_and(|later| later <= 20_000.0), "{later:?}");
    }

    #[test]
    fn more_than_the_window_is_not_believed() {
        let now = Instant::now();
        let mut aggregation = Aggregation::new(now);
        aggregation.acked(now, u64::MAX, 0.0, 0, 5_000.0);
        assert_eq!(aggregation.extra(), 5_000.0);
    }
}
