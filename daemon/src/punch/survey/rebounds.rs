//! How often our NAT is taken for rebound.

use std::time::{Duration, Instant};

/// Time between two rebounds in the long run. Two may come in a row: one where we have moved, and one
/// for what was asked meanwhile.
const PAUSE: Duration = Duration::from_secs(2);

/// Our NAT was rebound, or somebody answers with another address each time, whom we would ask without
/// end: what comes too early counts later, once.
#[derive(Debug, Default)]
pub(super) struct Rebounds {
    /// Up to when our NAT was rebound as often as it may be.
    until: Option<Instant>,
    due: Option<Instant>,
}

impl Rebounds {
    /// Whether the one that shows now counts.
    pub(super) fn note(&mut self, now: Instant) -> bool {
        let until = self.until.map_or(now, |until| until.max(now));
        if until > now + PAUSE {
            self.due = Some(until - PAUSE);
            return false;
        }
        (self.until, self.due) = (Some(until + PAUSE), None);
        true
    }

    /// When to note one that came too early.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}
