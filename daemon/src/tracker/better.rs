//! Looks for a better way to a tracker while a session goes on.
//!
//! Peers are reached by UDP, and the tracker sees by UDP alone where we are. So a daemon that talks
//! to its tracker by TCP goes on trying UDP: soon at first, since one lost packet may have decided
//! for TCP, then ever more rarely.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::backoff::Backoff;
use super::reach::{Reach, Way, better_ways};
use super::session::{SessionError, Welcomed};

/// First and longest wait between two tries.
const FIRST_WAIT: Duration = Duration::from_secs(15);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How long a try that is under way may take once the session is lost. The tracker ends the old
/// session when it has welcomed the new one, so the welcome is on its way by then.
const LAST_MOMENT: Duration = Duration::from_secs(3);

/// The search during one session.
pub(super) struct Better {
    reach: Reach,
    ways: Vec<Way>,
    waits: Backoff,
    due: Instant,
    under_way: JoinSet<Result<Welcomed, SessionError>>,
}

impl Better {
    /// Looks for something better than `way`, if there is.
    pub(super) fn new(reach: Reach, way: Way) -> Self {
        let mut waits = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        Self {
            ways: better_ways(way, reach.address.port),
            due: Instant::now() + waits.next(&mut rand::rng()),
            reach,
            waits,
            under_way: JoinSet::new(),
        }
    }

    /// A session that is better. Waits forever where there is none to be had.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; a try under way goes on.
    pub(super) async fn found(&mut self) -> Welcomed {
        while !self.ways.is_empty() {
            if self.under_way.is_empty() {
                sleep_until(self.due).await;
                self.try_now();
            }
            match self.under_way.join_next().await {
                Some(Ok(Ok(welcomed))) => return welcomed,
                Some(Ok(Err(error))) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::debug!(error, "no better way to the tracker");
                }
                Some(Err(_)) | None => (),
            }
            self.due = Instant::now() + self.waits.next(&mut rand::rng());
        }
        std::future::pending().await
    }

    /// The network is another one: what did not work may do so now.
    pub(super) fn hurry(&mut self) {
        self.waits.reset();
        self.due = Instant::now();
    }

    /// What comes of the try that is under way when the session is lost: it may have been lost
    /// because the try succeeded.
    pub(super) async fn last(mut self) -> Option<Welcomed> {
        let ended = timeout(LAST_MOMENT, self.under_way.join_next()).await;
        ended.ok()??.ok()?.ok()
    }

    fn try_now(&mut self) {
        let (reach, ways) = (self.reach.clone(), self.ways.clone());
        self.under_way
            .spawn(async move { super::session::connect(&reach, &ways).await });
    }
}
