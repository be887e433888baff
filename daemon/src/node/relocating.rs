//! `client relocate`: files that were moved are pointed at again.
//!
//! The share goes on as it is while the files at the new path are looked at; only if they are the ones
//! does it change.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use warren_proto::id::SwarmId;

use super::choosing::busy;
use super::commands::EVENTS;
use super::report::{error_about, tell_last};
use super::{Node, ShareEvent};
use crate::control::model::{self, ApiError, Done, Event, Progress, RelocateRequest, exit};
use crate::share::depot::{Moved, Opened};
use crate::share::{Phase, Rate, Watcher};

/// Between two reports of how much was read.
const TICK: Duration = Duration::from_millis(200);

impl Node {
    /// Begins to look at where a share is said to be now; ends like a download of it.
    pub(super) fn relocate(
        &mut self,
        request: RelocateRequest,
    ) -> Result<mpsc::Receiver<Event>, ApiError> {
        let swarm = self.find(&request.share)?;
        let share = self.shares.get(&swarm).ok_or_else(busy)?;
        let is_still = matches!(share.phase, Phase::Seeding(_) | Phase::Stopped { .. });
        if !share.is_complete() || share.record.settled.is_some() {
            return Err(not_whole());
        }
        if let Some(error) = share.withheld() {
            return Err(error);
        }
        if !is_still || share.is_choosing || share.pause.is_some() {
            return Err(busy());
        }
        let (events, receiver) = mpsc::channel(EVENTS);
        let (read, bytes) = (Arc::<AtomicU64>::default(), share.size());
        tokio::spawn(show(events.clone(), read.clone(), bytes));
        let watcher = Watcher::new(events);
        let (record, depot) = (share.record.clone(), self.config.depot.clone());
        let path: PathBuf = request.path;
        self.run_disk_job(swarm, share.epoch, move || {
            let result = depot.relocate(&record, &path, &read).map(Box::new);
            ShareEvent::Relocated { result, watcher }
        });
        Ok(receiver)
    }

    /// The files at the new path are the share's, or it stays as it is.
    pub(super) fn handle_relocated(
        &mut self,
        swarm: SwarmId,
        result: Result<Box<Moved>, ApiError>,
        watcher: Watcher,
    ) {
        let Moved { record, files } = match result {
            Ok(moved) => *moved,
            Err(error) => {
                let share = self.shares.get(&swarm);
                let error = match share {
                    Some(share) => error_about(share, error),
                    None => error,
                };
                return tell_last(watcher, error.into());
            }
        };
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let is_renamed = share.record.name != record.name;
        let done = Done {
            path: record.path.display().to_string(),
            content_id: record.id.to_string(),
            bytes: files.content().size,
            seconds: watcher.since.elapsed().as_secs_f64(),
            renamed: is_renamed.then(|| record.name.clone()),
            ..Done::default()
        };
        share.record = record;
        self.handle_opened(swarm, Ok(Opened::Whole(files)));
        tell_last(watcher, Event::Done(done));
    }
}

/// Reports until nobody listens or the end is told.
async fn show(events: mpsc::Sender<Event>, read: Arc<AtomicU64>, bytes: u64) {
    let mut rate = Rate::default();
    let mut tick = tokio::time::interval(TICK);
    // Ours, and that of who tells the end.
    while events.strong_count() > 1 && !events.is_closed() {
        tick.tick().await;
        let verified_bytes = read.load(Ordering::Relaxed);
        rate.sample(Instant::now(), verified_bytes);
        let progress = Progress {
            verified_bytes,
            bytes,
            rate_bytes_per_s: rate.bytes_per_s(),
            phase: Some(model::Phase::Hashing),
            ..Progress::default()
        };
        // Who does not read gets the next one.
        let _ = events.try_send(Event::Progress(progress));
    }
}

fn not_whole() -> ApiError {
    ApiError::new(
        "not_whole",
        exit::REFUSED,
        "only a share that is there whole can be found elsewhere",
        "Fetch the rest of it first, or remove it and download it with --to DIR --if-exists resume.",
    )
}
