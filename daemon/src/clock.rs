//! The time of day, as it is told to others and written down.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970; 0 where the clock is set to before that.
pub fn unix_ms() -> u64 {
    unix_ms_at(SystemTime::now())
}

/// The same of another moment.
pub fn unix_ms_at(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
