//! Whether as much is lost that it must be congestion.
//!
//! draft-ietf-ccwg-bbr compares what was lost in a round trip with 2 % (`BBR.LossThresh`). Where a round
//! trip is a few dozen packets, a single one is more than that, and a link that loses 1 % at random would
//! be slowed down again and again. So what is lost beyond the tolerated part is summed up, and what
//! arrives takes the tolerated part off again, never below zero (a CUSUM test, Page 1954). The sum is
//! looked at as it grows: a queue that overflows is noticed within the round trip.

/// The sum that is too much, as part of the window.
const MOST_PART: f64 = 0.02;

/// The sum that is too much at least, in packets: losses that come singly stay below
/// (`BBR.StartupFullLossCnt`).
const MOST_PACKETS: f64 = 6.0;

/// What a link loses at one go, a batch of packets that left together above all, is no congestion however long
/// it is, up to this part of the window (after `BBR.StartupFullLossCnt`, which counts ranges).
const MOST_AT_ONCE: f64 = 0.125;

/// Losses beyond what is tolerated.
#[derive(Clone, Debug, Default)]
pub(super) struct Excess {
    bytes: f64,
    /// How often some were missed since there was none.
    times: u32,
    /// Bytes under way when the first of them left.
    first_in_flight: u64,
}

impl Excess {
    /// So many bytes arrived, where `tolerated` of all may get lost.
    pub(super) fn delivered(&mut self, bytes: u64, tolerated: f64) {
        self.bytes = (self.bytes - tolerated * bytes as f64).max(0.0);
    }

    /// So many were found lost at once; `in_flight` were under way when they left.
    pub(super) fn lost(&mut self, bytes: u64, in_flight: u64, tolerated: f64) {
        if self.bytes == 0.0 {
            (self.first_in_flight, self.times) = (in_flight, 0);
        }
        self.times += 1;
        self.bytes += (1.0 - tolerated) * bytes as f64;
    }

    /// Whether that is congestion, where `window` bytes may be under way: if so, what was under way as
    /// it began. The sum begins anew.
    pub(super) fn take(&mut self, window: u64, mtu: u64) -> Option<u64> {
        let most = (MOST_PACKETS * mtu as f64).max(MOST_PART * window as f64);
        let is_single = self.times == 1 && self.bytes < MOST_AT_ONCE * window as f64;
        let is_much = self.bytes > most && !is_single;
        is_much.then(|| std::mem::take(self).first_in_flight)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const MTU: u64 = 1_452;

    #[test]
    fn one_in_a_hundred_at_random_is_next_to_never_too_much() {
        for (window_packets, most) in [(10, 10), (100, 10), (1_000, 0)] {
            let times = times(0.01, window_packets, 1_000_000);
            assert!(times <= most, "{window_packets}: {times} in a million");
        }
    }

    #[test]
    fn four_in_a_hundred_are_too_much_soon() {
        for window_packets in [50, 500, 5_000] {
            let packets = 1_000 + 4 * window_packets;
            assert!(times(0.04, window_packets, packets) > 0, "{packets}");
        }
    }

    #[test]
    fn a_queue_that_overflows_is_noticed_at_once_with_what_it_held() {
        let (mut excess, window) = (Excess::default(), 200 * MTU);
        for lost in 0..7 {
            assert_eq!(excess.take(window, MTU), None);
            excess.lost(MTU, window + lost, 0.02);
            excess.delivered(MTU, 0.02);
        }
        assert_eq!(excess.take(window, MTU), Some(window));
        assert_eq!(excess.take(window, MTU), None, "and then it begins anew");
    }

    #[test]
    fn what_is_lost_at_one_go_is_one_event() {
        let (mut excess, window) = (Excess::default(), 200 * MTU);
        for expected in [None, Some(window)] {
            excess.lost(10 * MTU, window, 0.02);
            assert_eq!(excess.take(window, MTU), expected);
            excess.delivered(10 * MTU, 0.02);
        }
        excess.lost(50 * MTU, window, 0.02);
        assert_eq!(excess.take(window, MTU), Some(window), "a quarter of all");
    }

    /// How often it was too much in so many packets, where that part of them gets lost.
    fn times(part: f64, window_packets: u64, packets: u64) -> usize {
        let (mut excess, window) = (Excess::default(), window_packets * MTU);
        let mut rng = StdRng::seed_from_u64(1);
        let is_much = |_: &u64| {
            if rng.random::<f64>() < part {
                excess.lost(MTU, window, 0.02);
            } else {
                excess.delivered(MTU, 0.02);
            }
            excess.take(window, MTU).is_some()
        };
        (0..packets).filter(is_much).count()
    }
}
