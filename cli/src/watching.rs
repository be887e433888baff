//! Waits for the end of what was asked for: progress meanwhile, patience, Ctrl-C.
//!
//! Not here: what is asked for ([`crate::commands`]), how progress looks ([`crate::progress`]).

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use warren_daemon::control::model::{ApiError, Event, Phase, exit};

use crate::{commands::Client, control::Events, progress::Live};

/// How long a daemon may take to say whether something is missing, however impatient somebody is.
const FIRST_WORD: Duration = Duration::from_secs(10);

impl Client {
    /// Shows progress until the final event, which is returned unless it is an error.
    /// With `patience` it ends when nothing was verified for that long.
    pub(crate) async fn watch(
        &self,
        mut events: Events,
        mut live: Live,
        patience: Option<Duration>,
    ) -> Result<Event, ApiError> {
        let (mut verified_bytes, mut moved) = (0, Instant::now());
        // Until the daemon has said that something is missing, nobody waits for it.
        let mut least = FIRST_WORD;
        loop {
            let left = patience.map_or(Duration::MAX, |patience| {
                patience.max(least).saturating_sub(moved.elapsed())
            });
            let Ok(event) = tokio::time::timeout(left, events.next()).await else {
                return Err(self.out_of_patience().await);
            };
            match event? {
                Event::Error(error) => return Err(error),
                Event::Progress(progress) => {
                    let is_missing =
                        progress.bytes == 0 || progress.verified_bytes < progress.bytes;
                    let is_read = progress.phase != Some(Phase::Hashing);
                    if is_missing && is_read {
                        least = Duration::ZERO;
                    }
                    if progress.verified_bytes != verified_bytes {
                        (verified_bytes, moved) = (progress.verified_bytes, Instant::now());
                    }
                    live.show(progress, Instant::now())?;
                }
                event if event.is_final() => return Ok(event),
                _ => (),
            }
        }
    }

    /// Why nothing arrives, as far as the daemon knows.
    async fn out_of_patience(&self) -> ApiError {
        let status = self.daemon.list("status").await.unwrap_or_default();
        let connected =
            |event: &Event| matches!(event, Event::Tracker(tracker) if tracker.connected);
        let advice = "The download goes on in the daemon; see it with: client status IDX";
        let hint = self.daemon.addressed(advice);
        if status.iter().any(connected) {
            let message = "nothing arrived for too long: no peer has what is missing";
            ApiError::new("no_source", exit::NO_SOURCE, message, hint)
        } else {
            let message = "nothing arrived for too long: the tracker is not reached";
            ApiError::new(
                "tracker_unreachable",
                exit::TRACKER_UNREACHABLE,
                message,
                hint,
            )
        }
    }
}

/// Ctrl-C, listened for from the moment this exists, so that none falls between two commands.
pub(crate) struct Interrupt(Signal);

impl Interrupt {
    /// From now on.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn listen() -> Result<Self, ApiError> {
        signal(SignalKind::interrupt())
            .map(Interrupt)
            .map_err(|error| {
                let message = format!("cannot listen for Ctrl-C: {error}");
                ApiError::new("no_signals", exit::OTHER, message, "")
            })
    }

    /// The command's result, or `None` when Ctrl-C comes first.
    pub(crate) async fn or<T>(&mut self, command: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            result = command => Some(result),
            _ = self.0.recv() => None,
        }
    }
}

/// Ctrl-C came before anything was asked of the daemon.
pub(crate) fn interrupted_before() -> ApiError {
    ApiError::new(
        "interrupted",
        exit::INTERRUPTED,
        "interrupted; nothing was begun",
        "With --yes it begins without a question, and goes on in the daemon.",
    )
}

/// An end that the command has no words for, or an error.
pub(crate) fn unexpected(result: Result<Event, ApiError>) -> Result<(), ApiError> {
    let event = result?;
    Err(ApiError::new(
        "bad_answer",
        exit::OTHER,
        format!(
            "the daemon ended with an answer to another question: {}",
            event.to_json()
        ),
        "Its version may differ; stop it and start it again.",
    ))
}
