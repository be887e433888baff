//! One question to a router, and its repeats.

use std::time::{Duration, Instant};

use super::mapper::PATIENCE;

/// From the first time it is sent to the second; each further pause is twice as long (RFC 6886 §3.1).
const FIRST_REPEAT: Duration = Duration::from_millis(250);

/// How often it is sent: after 0, 0.25, 0.75 and 1.75 s. Silence until 3.75 s is an answer, too.
const SENDS: u32 = 4;

/// Unsent → Waiting → Answered, or Out when refused or never answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Unsent,
    Waiting {
        since: Instant,
        sends: u32,
        next: Instant,
        /// Whether [`PATIENCE`] is over.
        is_late: bool,
    },
    Answered,
    Out,
}

impl Request {
    /// To be sent now.
    pub(super) fn begun(now: Instant) -> Request {
        Request::Waiting {
            since: now,
            sends: 0,
            next: now,
            is_late: false,
        }
    }

    pub(super) fn is_waiting(self) -> bool {
        matches!(self, Request::Waiting { .. })
    }

    /// Whether something else may be tried.
    pub(super) fn is_late(self) -> bool {
        matches!(self, Request::Waiting { is_late: true, .. } | Request::Out)
    }

    /// When [`Request::take_due`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match *self {
            Request::Waiting {
                since,
                next,
                is_late: false,
                ..
            } => Some(next.min(since + PATIENCE)),
            Request::Waiting { next, .. } => Some(next),
            Request::Unsent | Request::Answered | Request::Out => None,
        }
    }

    /// Whether it is to be sent at `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let Request::Waiting {
            since,
            sends,
            next,
            is_late,
        } = self
        else {
            return false;
        };
        *is_late = *since + PATIENCE <= now;
        if *next > now {
            return false;
        }
        if *sends == SENDS {
            *self = Request::Out;
            return false;
        }
        *next = now + FIRST_REPEAT * 2_u32.pow(*sends);
        *sends += 1;
        true
    }
}
