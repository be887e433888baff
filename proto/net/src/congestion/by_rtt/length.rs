//! Whether a path is short, measured.
//!
//! A round trip below [`SHORT`] says so at once: nothing makes packets early. That a path is *not* short
//! any more is harder to tell, since CUBIC keeps a queue, and with it the path looks long for as long as
//! it likes. So where no short round trip was seen for a while, hardly anything is sent until what is
//! under way has left no queue ([`Looks`]), and what a round trip takes then is believed.

use std::time::{Duration, Instant};

/// Below this a path is short.
const SHORT: Duration = Duration::from_millis(2);

/// From this on a short path is so no more.
const LONG: Duration = Duration::from_millis(4);

/// After so long without a short round trip it is looked at.
const LOOK_AFTER: Duration = Duration::from_secs(30);

/// What may be under way meanwhile, at least, in packets.
const LOOK_PACKETS: u64 = 4;

/// A look at a path that was short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looks {
    No,
    /// What is under way is to become little.
    Drains,
    /// It was little at that time: what is sent from then on shows the path.
    Since(Instant),
}

/// What is known of the length of a path.
#[derive(Clone, Debug)]
pub(super) struct Length {
    is_short: bool,
    /// When it was last seen to be short.
    seen: Instant,
    /// The round trip lately.
    rtt: Duration,
    looks: Looks,
}

impl Length {
    pub(super) fn new(now: Instant) -> Self {
        Length {
            is_short: false,
            seen: now,
            rtt: Duration::MAX,
            looks: Looks::No,
        }
    }

    pub(super) fn is_short(&self) -> bool {
        self.is_short
    }

    pub(super) fn looks(&self) -> Looks {
        self.looks
    }

    /// Of `window` bytes, what may be under way: while it is looked, as much as a short path would hold.
    pub(super) fn window(&self, window: u64, mtu: u16) -> u64 {
        if self.looks == Looks::No {
            return window;
        }
        let part = SHORT.as_secs_f64() / self.rtt.max(SHORT).as_secs_f64();
        let least = LOOK_PACKETS * u64::from(mtu);
        window.min(((window as f64 * part) as u64).max(least))
    }

    /// What was sent then is acknowledged; `is_low` if no more than the window is under way. `smoothed`
    /// is the round trip as QUIC knows it, without what acknowledgements have waited. It lags, so where
    /// the path is new it is not asked.
    pub(super) fn sample(&mut self, now: Instant, sent: Instant, smoothed: Duration, is_low: bool) {
        let raw = now.saturating_duration_since(sent);
        let rtt = if self.is_short {
            raw.min(smoothed)
        } else {
            raw
        };
        if rtt < SHORT {
            (self.is_short, self.seen, self.looks) = (true, now, Looks::No);
            return;
        }
        match self.looks {
            _ if !self.is_short => (),
            Looks::No if now.saturating_duration_since(self.seen) > LOOK_AFTER => {
                (self.rtt, self.looks) = (rtt, Looks::Drains);
            }
            Looks::Drains if is_low => self.looks = Looks::Since(now),
            Looks::Since(since) if sent >= since => {
                self.is_short = rtt < LONG;
                (self.seen, self.looks) = (now, Looks::No);
            }
            _ => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_short_round_trip_is_enough() {
        let mut now = Instant::now();
        let mut length = Length::new(now);
        for (ms, is_short) in [(30, false), (3, false), (1, true), (30, true)] {
            now += SECOND;
            length.sample(now, now - ms * MS, Duration::MAX, true);
            assert_eq!(length.is_short(), is_short, "{ms} ms");
        }
    }

    #[test]
    fn acknowledgements_that_wait_do_not_make_a_path_long() {
        let mut now = Instant::now();
        let mut length = Length::new(now);
        length.sample(now, now - MS, MS, true);
        for _ in 0..100 {
            now += SECOND;
            length.sample(now, now - 25 * MS, MS, true);
            assert_eq!(length.looks(), Looks::No);
        }
    }

    #[test]
    fn what_a_look_finds_is_believed() {
        for (found_ms, is_short) in [(1, true), (3, true), (5, false)] {
            let begun = Instant::now();
            let mut length = Length::new(begun);
            length.sample(begun, begun - MS, MS, false);
            // A queue of 40 ms, for long.
            let mut now = begun + 31 * SECOND;
            length.sample(now, now - 40 * MS, 40 * MS, false);
            assert_eq!(length.looks(), Looks::Drains);
            let window = length.window(1_000_000, 1_452);
            assert_eq!(window, 50_000, "as much as 2 ms hold");
            now += 20 * MS;
            length.sample(now, now - 40 * MS, 40 * MS, true);
            assert_eq!(length.looks(), Looks::Since(now));
            // What was sent before shows the queue.
            let low = now;
            now += 10 * MS;
            length.sample(now, low - MS, 40 * MS, true);
            assert_eq!(length.looks(), Looks::Since(low));
            now += 10 * MS;
            length.sample(now, now - found_ms * MS, 40 * MS, true);
            assert_eq!(
                (length.looks(), length.is_short()),
                (Looks::No, is_short),
                "{found_ms} ms"
            );
        }
    }
}
