//! `client verify`: all that is stored of a share is read again, and what is wrong or missing is fetched.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::mpsc;
use warren_proto::content::path::printable;
use warren_proto::id::SwarmId;
use warren_proto::transfer::Download;

use super::choosing::busy;
use super::commands::EVENTS;
use super::{Node, ShareEvent};
use crate::control::model::{ApiError, Event, exit};
use crate::control::words::short_id;
use crate::share::rereading::Rereading;
use crate::share::writer::Writer;
use crate::share::{Phase, Share, Verifying, Watcher};

/// What is to be looked through.
pub(super) enum Stored {
    /// A download, as it is open.
    Fetched(Arc<Writer>),
    /// Whatever the database says.
    Noted,
}

impl Node {
    /// Begins to verify a share, which ends like a download of it.
    pub(super) fn verify(&mut self, wanted: &str) -> Result<mpsc::Receiver<Event>, ApiError> {
        let swarm = self.find(wanted)?;
        let stored = stored(self.shares.get(&swarm).ok_or_else(busy)?)?;
        let other = self.other_at(&swarm);
        let had_bytes = self.had_bytes(swarm);
        let Some(share) = self.shares.get_mut(&swarm) else {
            return Err(busy());
        };
        if let Some(other) = other {
            return Err(theirs(&other, &short_id(&share.record.id)));
        }
        let (events, receiver) = mpsc::channel(EVENTS);
        share.watchers.push(Watcher::new(events));
        let kept = Arc::<OnceLock<PathBuf>>::default();
        share.verifying = Some(Verifying {
            had_bytes,
            wrong_bytes: 0,
            kept: kept.clone(),
        });
        self.look_through(swarm, stored, Some(kept));
        Ok(receiver)
    }

    /// Bytes that are held to be here.
    fn had_bytes(&self, swarm: SwarmId) -> u64 {
        let share = self.shares.get(&swarm);
        match share.map(|share| (&share.phase, share.is_complete())) {
            Some((_, true)) => u64::MAX,
            Some((Phase::Downloading(_), false)) => {
                let download = self.download_of(&swarm);
                download.map_or(0, Download::verified_bytes)
            }
            _ => share.map_or(0, |share| share.stopped_bytes.0),
        }
    }

    /// What was verified is open: whatever was held to be here and is not was wrong or missing.
    pub(super) fn note_wrong(&mut self, swarm: SwarmId) {
        let right = self.download_of(&swarm).map(Download::verified_bytes);
        let (Some(share), Some(right)) = (self.shares.get_mut(&swarm), right) else {
            return;
        };
        let bytes = share.size();
        if let Some(verifying) = &mut share.verifying {
            verifying.wrong_bytes = verifying.had_bytes.min(bytes).saturating_sub(right);
        }
    }

    /// Reads all that is stored of a share, which is neither fetched nor given meanwhile. What was edited of it is
    /// copied before, and `kept` told where; without that it is lost.
    pub(super) fn look_through(
        &mut self,
        swarm: SwarmId,
        stored: Stored,
        kept: Option<Arc<OnceLock<PathBuf>>>,
    ) {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        share.changes = None;
        share.rereading = Rereading::default();
        share.meet_all_anew(Instant::now());
        let verified_bytes = Arc::<AtomicU64>::default();
        let bytes = share.size();
        share.phase = Phase::Preparing {
            verified_bytes: verified_bytes.clone(),
            bytes,
            is_new: false,
        };
        // Its journal is opened anew, and may not be open twice.
        share.kept = None;
        self.close_share(swarm);
        self.leave_on_all(&swarm);
        self.announce(swarm);
        self.active.insert(swarm);
        self.start_verifying(swarm, stored, (verified_bytes, kept));
    }

    /// The name of another share that has taken this one's path: to repair this one would undo that.
    fn other_at(&self, swarm: &SwarmId) -> Option<String> {
        let path = &self.shares.get(swarm)?.record.path;
        let mut others = self.shares.iter().filter(|(other, _)| *other != swarm);
        let (_, other) = others.find(|(_, other)| {
            let is_there = !matches!(other.phase, Phase::Stopped { .. } | Phase::Metadata(_));
            is_there && !other.is_preview && other.record.path == *path
        })?;
        Some(other.record.id.to_string())
    }

    fn start_verifying(
        &self,
        swarm: SwarmId,
        stored: Stored,
        (verified_bytes, kept): (Arc<AtomicU64>, Option<Arc<OnceLock<PathBuf>>>),
    ) {
        let Some(share) = self.shares.get(&swarm) else {
            return;
        };
        let (record, depot) = (share.record.clone(), self.config.depot.clone());
        self.run_disk_job(swarm, share.epoch, move || {
            ShareEvent::Opened(match stored {
                Stored::Fetched(writer) => depot.verify_fetched(writer, &verified_bytes),
                Stored::Noted => depot.verify(&record, &verified_bytes, kept.as_deref()),
            })
        });
    }
}

/// What there is of a share, unless it cannot be looked through now.
fn stored(share: &Share) -> Result<Stored, ApiError> {
    let name = printable(&share.record.name);
    match &share.phase {
        _ if share.is_choosing => Err(busy()),
        _ if share.is_withheld() => Err(share.withheld().unwrap_or_else(busy)),
        _ if share.pause.is_some() => {
            let id = share.record.id;
            let hint = format!("Go on with it first: client resume {id} IDX");
            let message = format!("{name} is paused");
            Err(ApiError::new("paused", exit::REFUSED, message, hint))
        }
        Phase::Preparing { .. } | Phase::Finishing(_) => Err(busy()),
        Phase::Downloading(active) => Ok(Stored::Fetched(active.writer.clone())),
        Phase::Metadata(_) => Err(nothing_stored()),
        Phase::Stopped { .. } if name.is_empty() => Err(nothing_stored()),
        Phase::Seeding(_) | Phase::Stopped { .. } => Ok(Stored::Noted),
    }
}

fn theirs(other: &str, id: &str) -> ApiError {
    ApiError::new(
        "target_exists",
        exit::REFUSED,
        format!("another share has its place: {other}"),
        format!("What is there belongs to that one now. Remove this one: client remove {id} IDX"),
    )
}

fn nothing_stored() -> ApiError {
    ApiError::new(
        "nothing_stored",
        exit::REFUSED,
        "nothing of the share is here yet",
        "Wait until its download has begun; client status IDX shows how it stands.",
    )
}
