//! Notices that this machine was asleep, or this program stopped.
//!
//! Others have given us up meanwhile, and our NAT has forgotten us, while by our own clock, which may have
//! stood still, nothing is late.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A pause that a machine which is awake does not make, however busy: half of what a path takes to be
/// forgotten by the least patient NATs.
const NAP: Duration = Duration::from_secs(10);

/// How long the machine runs, the time it was asleep included.
pub(super) fn uptime() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    // Neither is ever negative there.
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}

/// Looks at the clock from time to time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wake {
    /// Uptime at the last look.
    looked: Duration,
}

impl Wake {
    /// Awake at this uptime.
    pub(super) fn new(uptime: Duration) -> Wake {
        Wake { looked: uptime }
    }

    /// Looks again; returns how long there was no look, if that was a sleep.
    pub(super) fn look(&mut self, uptime: Duration) -> Option<Duration> {
        let slept = uptime.saturating_sub(self.looked);
        self.looked = uptime;
        (slept >= NAP).then_some(slept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_pause_is_a_sleep_once_and_a_short_one_is_none() {
        let at = Duration::from_secs;
        let mut wake = Wake::new(at(100));
        assert_eq!(wake.look(at(101)), None);
        assert_eq!(wake.look(at(110)), None, "busy");
        assert_eq!(wake.look(at(140)), Some(at(30)));
        assert_eq!(wake.look(at(141)), None);
        assert_eq!(wake.look(at(3)), None, "no clock goes back");
    }

    #[test]
    fn uptime_goes_on() {
        let first = uptime();
        assert!(first > Duration::ZERO && uptime() >= first);
    }
}
