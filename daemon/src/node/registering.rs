//! How a path comes to be shared: hashed, opened, remembered, its `.p2p` written, its link told.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use warren_proto::content::path::printable;
use warren_proto::content::{Content, Link, Manifest};

use super::commands::unix_ms;
use super::trackers::{OWN, TrackerState};
use super::{Node, NodeEvent, NodeSender};
use crate::control::model::{
    ApiError, Event, Phase as ShownPhase, Progress, RegisterRequest, Registered, exit,
};
use crate::control::wish::Wish;
use crate::share::Phase;
use crate::share::depot::Opened;
use crate::store::db::{ShareRecord, ShareState};
use crate::store::disk::RealDisk;
use crate::store::manifest_file::{check_place, write_manifest};
use crate::store::register::{self, Hashing, Special, hash_share};

/// Between two reports of hashing.
const HASHING_TICK: Duration = Duration::from_millis(200);

/// How long a registration waits for the tracker: for its key, which the link needs, and to be told
/// whether it answers.
const TRACKER_PATIENCE: Duration = Duration::from_secs(3);

/// Files left out of a folder that are named.
const SKIPPED_SHOWN: usize = 20;

/// A path that was hashed and is to be shared.
#[derive(Debug)]
pub(crate) struct Hashed {
    request: RegisterRequest,
    hashed: register::Hashed,
    events: mpsc::Sender<Event>,
    /// Until when the tracker may be waited for.
    deadline: Instant,
}

/// A share that is open, remembered and has its `.p2p`, or not.
#[derive(Debug)]
pub(crate) struct Registration {
    record: ShareRecord,
    events: mpsc::Sender<Event>,
    result: Result<(Opened, Registered), ApiError>,
}

/// Hashes a path, reporting how far it is, and hands it to the node. Where the `.p2p` cannot be
/// written, which goes into `downloads` unless another place was asked for, that is said before.
pub(super) async fn hash(
    request: RegisterRequest,
    events: mpsc::Sender<Event>,
    downloads: PathBuf,
    node: NodeSender,
) {
    let output = request.output.clone();
    let checking = tokio::task::spawn_blocking(move || check_place(&downloads, output.as_deref()));
    if let Ok(Err(error)) = checking.await {
        return drop(events.send(ApiError::from(&error).into()).await);
    }
    let hashing = Arc::<Hashing>::default();
    let (path, shared) = (request.path.clone(), hashing.clone());
    let special = match request.skip_special {
        true => Special::Skip,
        false => Special::Refuse,
    };
    let mut work =
        tokio::task::spawn_blocking(move || hash_share(&RealDisk, &path, special, &shared));
    let mut tick = tokio::time::interval(HASHING_TICK);
    let mut rate = crate::share::Rate::default();
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            () = events.closed() => return hashing.cancel(),
            _ = tick.tick() => {
                rate.sample(Instant::now(), hashing.hashed_bytes());
                // Who does not read gets the next one.
                let _ = events.try_send(Event::Progress(Progress {
                    verified_bytes: hashing.hashed_bytes(),
                    bytes: hashing.total_bytes(),
                    rate_bytes_per_s: rate.bytes_per_s(),
                    phase: Some(ShownPhase::Hashing),
                    ..Progress::default()
                }));
            }
        }
    };
    match done {
        Ok(Ok(hashed)) => {
            let deadline = Instant::now() + TRACKER_PATIENCE;
            let hashed = Box::new(Hashed {
                request,
                hashed,
                events,
                deadline,
            });
            node.send(NodeEvent::Hashed(hashed)).await;
        }
        Ok(Err(error)) => drop(events.send(ApiError::from(&error).into()).await),
        Err(_) => (),
    }
}

impl Node {
    /// Shares what was hashed, as soon as it is known whether the tracker answers, and its key, or
    /// without a link.
    pub(super) fn handle_hashed(&mut self, hashed: Hashed) {
        let own = self.trackers.get(&OWN);
        let is_unknown = |own: &TrackerState| !own.connected && own.cause.is_none();
        let unknown = own.is_some_and(|own| own.pin.is_none() || is_unknown(own));
        if unknown && Instant::now() < hashed.deadline {
            self.unlinked.push(hashed);
        } else {
            self.register(hashed);
        }
    }

    /// Looks again at registrations that wait for the tracker.
    pub(super) fn link_registrations(&mut self) {
        for hashed in std::mem::take(&mut self.unlinked) {
            self.handle_hashed(hashed);
        }
    }

    fn register(&mut self, hashed: Hashed) {
        let Hashed {
            request,
            hashed,
            events,
            ..
        } = hashed;
        let mut warnings = warnings(&hashed.skipped, hashed.warnings);
        let content = Arc::new(hashed.content);
        let own = self.own_address();
        let record = ShareRecord {
            id: content.id,
            kind: content.kind,
            secret: None,
            name: content.name.as_str().to_owned(),
            path: hashed.path,
            state: ShareState::Registered,
            manifest: None,
            trackers: own.into_iter().collect(),
            identities: Some(hashed.identities),
            added_unix_ms: unix_ms(),
            wish: Wish::default(),
            settled: None,
        };
        if record.trackers.is_empty() {
            let warning = "the .p2p names no tracker, because its key is not known yet; register \
                           again once the daemon is connected";
            warnings.push(warning.to_owned());
        }
        if let Some(own) = self.trackers.get(&OWN).filter(|own| !own.connected) {
            let address = &own.address;
            warnings.push(format!(
                "tracker {address} does not answer; peers cannot find the share until it does"
            ));
        }
        if let Some(before) = self
            .shares
            .get(&record.swarm())
            .map(|share| &share.record.path)
            && *before != record.path
        {
            let before = before.display();
            warnings.push(format!(
                "the same content is no longer shared from {before}"
            ));
        }
        if let Some(error) = self.why_not_register(&record) {
            drop(events.try_send(error.into()));
            return;
        }
        let (depot, node) = (self.config.depot.clone(), self.me.clone());
        let downloads = self.config.downloads.clone();
        tokio::task::spawn_blocking(move || {
            let output = request.output.as_deref();
            let opened = depot.register(&record, &content);
            let result = opened.and_then(|opened| {
                let registered = describe(&record, &content, &downloads, output)?;
                let registered = Registered {
                    warnings,
                    ..registered
                };
                Ok((opened, registered))
            });
            let registration = Registration {
                record,
                events,
                result,
            };
            let event = NodeEvent::Registered(Box::new(registration));
            tokio::runtime::Handle::current().block_on(node.send(event));
        });
    }

    fn why_not_register(&self, record: &ShareRecord) -> Option<ApiError> {
        let share = self.shares.get(&record.swarm())?;
        if matches!(share.phase, Phase::Seeding(_) | Phase::Stopped { .. }) {
            return None;
        }
        let message = format!(
            "{} is being downloaded by this daemon",
            printable(&share.record.name)
        );
        let hint = format!("Cancel the download first: client remove {} IDX", record.id);
        Some(ApiError::new(
            "being_downloaded",
            exit::REFUSED,
            message,
            hint,
        ))
    }

    pub(super) fn handle_registered(&mut self, registration: Registration) {
        let Registration {
            record,
            events,
            result,
        } = registration;
        let last = match result {
            Ok((opened, registered)) => {
                let bytes = registered.bytes;
                let verified_bytes = Arc::default();
                let phase = Phase::Preparing {
                    verified_bytes,
                    bytes,
                    is_new: false,
                };
                let swarm = self.add(record, phase);
                self.handle_opened(swarm, Ok(opened));
                Event::Registered(registered)
            }
            Err(error) => error.into(),
        };
        tokio::spawn(async move { events.send(last).await });
    }
}

/// Writes the `.p2p` and says what there is to pass on.
fn describe(
    record: &ShareRecord,
    content: &Arc<Content>,
    downloads: &Path,
    output: Option<&Path>,
) -> Result<Registered, ApiError> {
    let manifest = Manifest::new(
        Content::clone(content),
        record.trackers.clone(),
        record.secret,
    );
    let path: PathBuf =
        write_manifest(downloads, output, &manifest).map_err(|error| ApiError::from(&error))?;
    let link = record.trackers.first().map(|tracker| Link {
        kind: content.kind,
        id: content.id,
        tracker: tracker.clone(),
        secret: record.secret,
    });
    Ok(Registered {
        path: record.path.display().to_string(),
        manifest: path.display().to_string(),
        link: link.map(|link| link.to_string()),
        content_id: content.id.to_string(),
        bytes: content.size,
        files: u64::from(content.file_count()),
        warnings: Vec::new(),
    })
}

/// What the person should know of a share beside that it is one.
fn warnings(skipped: &[PathBuf], mut warnings: Vec<String>) -> Vec<String> {
    let shown = skipped.iter().take(SKIPPED_SHOWN);
    warnings.extend(shown.map(|path| format!("left out: {}", path.display())));
    if let Some(more) = skipped
        .len()
        .checked_sub(SKIPPED_SHOWN)
        .filter(|more| *more > 0)
    {
        warnings.push(format!("left out: {more} more"));
    }
    warnings
}
