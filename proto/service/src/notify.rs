//! Tells the service manager how things are: `sd_notify(3)`. Without one nothing happens.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// How often it is told how things are, when that has changed.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// Parts of the watchdog's interval after which it is told that we are alive, as
/// `sd_watchdog_enabled(3)` advises.
const PARTS: u32 = 2;

/// The way to the service manager.
#[derive(Debug)]
pub struct Notifier {
    /// How often it is told something; `None` when nobody listens.
    interval: Option<Duration>,
    has_watchdog: bool,
    next: Option<Instant>,
    status: String,
}

impl Notifier {
    /// As the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`).
    pub fn from_env() -> Notifier {
        let watchdog = sd_notify::watchdog_enabled();
        let interval = watchdog.map_or(STATUS_INTERVAL, |it| STATUS_INTERVAL.min(it / PARTS));
        Notifier {
            interval: std::env::var_os("NOTIFY_SOCKET").map(|_| interval),
            has_watchdog: watchdog.is_some(),
            next: None,
            status: String::new(),
        }
    }

    /// The service is up.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// The service ends.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// The loop that does the work has come round at `now`; `status` says how things are, and is
    /// asked for only when it is to be told. To be called by that loop and nobody else: what it
    /// proves is that the loop does not hang.
    pub fn alive(&mut self, now: Instant, status: impl FnOnce() -> String) {
        let Some(interval) = self.interval else {
            return;
        };
        if self.next.is_some_and(|next| now < next) {
            return;
        }
        self.next = Some(now + interval);
        if self.has_watchdog {
            tell(&[NotifyState::Watchdog]);
        }
        let status = status();
        if status != self.status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager does not hear us");
    }
}
