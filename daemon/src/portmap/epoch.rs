//! How long a router says it has had its mappings, and what that says about a restart
//! (RFC 6887 §8.5, RFC 6886 §3.6).

use std::time::{Duration, Instant};

/// What clocks may differ by beside their rates.
const SLACK: Duration = Duration::from_secs(2);

/// How much slower one clock may be: a sixteenth.
const DRIFT: u32 = 16;

/// An epoch that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    heard: Instant,
    epoch_s: u32,
}

impl Epoch {
    /// Heard at `heard`, in seconds.
    pub(super) fn new(heard: Instant, epoch_s: u32) -> Epoch {
        Epoch { heard, epoch_s }
    }

    /// Whether the one heard at `now` is not this one grown older: the router has lost its mappings.
    pub(super) fn is_broken_by(self, now: Instant, epoch_s: u32) -> bool {
        // One second back is a rounding.
        let Some(grown) = epoch_s.saturating_add(1).checked_sub(self.epoch_s) else {
            return true;
        };
        let theirs = Duration::from_secs(u64::from(grown.saturating_sub(1)));
        let ours = now.saturating_duration_since(self.heard);
        ours + SLACK < theirs - theirs / DRIFT || theirs + SLACK < ours - ours / DRIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_runs_as_ours_does_is_the_same_epoch() {
        for (ours, theirs) in [
            (0, 100),
            (60, 160),
            (60, 158),
            (60, 162),
            (0, 99),
            (3600, 3500),
        ] {
            assert!(!is_broken(ours, theirs), "{ours} {theirs}");
        }
    }

    #[test]
    fn one_that_went_back_or_stood_still_or_jumped_is_another() {
        for (ours, theirs) in [
            (60, 5),
            (60, 98),
            (60, 101),
            (3600, 100),
            (60, 1000),
            (0, 0),
        ] {
            assert!(is_broken(ours, theirs), "{ours} {theirs}");
        }
        assert!(Epoch::new(Instant::now(), u32::MAX).is_broken_by(Instant::now(), 0));
    }

    /// 100 was heard first, then, `ours` seconds later, `theirs`.
    fn is_broken(ours: u64, theirs: u32) -> bool {
        let start = Instant::now();
        Epoch::new(start, 100).is_broken_by(start + Duration::from_secs(ours), theirs)
    }
}
