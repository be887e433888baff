//! How a path comes to be shared: hashed, opened, remembered, its `.p2p` written, its link told, and its
//! code if one is wanted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use warren_proto::content::path::printable;
use warren_proto::content::{Content, Link, Manifest};
use warren_proto::follow::FollowLink;
use warren_proto::id::{Secret, SwarmId};

use super::codes::Waiting;
use super::trackers::{OWN, TrackerState};
use super::{Node, NodeEvent, NodeSender};
use crate::clock::unix_ms;
use crate::control::codes::CodeWish;
use crate::control::model::{
    ApiError, Event, Phase as ShownPhase, Progress, RegisterRequest, Registered, exit,
};
use crate::control::wish::Wish;
use crate::control::words::about;
use crate::hooks::Happening;
use crate::share::depot::{Depot, Opened};
use crate::share::{Phase, Rate};
use crate::store::db::{ShareRecord, ShareState};
use crate::store::disk::RealDisk;
use crate::store::following::Published;
use crate::store::manifest_file::{check_place, write_manifest};
use crate::store::register::{self, Hashing, RegisterError, Special, hash_version};
use crate::store::taken::Placing;
use crate::store::terms::Terms;

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
    /// When hashing began, in milliseconds since 1970: what is changed after that is not what was hashed.
    began_unix_ms: u64,
    events: mpsc::Sender<Event>,
    /// Until when the tracker may be waited for.
    deadline: Instant,
}

/// A share that is open, remembered and has its `.p2p`, or not.
#[derive(Debug)]
pub(crate) struct Registration {
    record: ShareRecord,
    code: Option<CodeWish>,
    terms: Terms,
    events: mpsc::Sender<Event>,
    result: Result<(Opened, Described), ApiError>,
}

/// What there is to pass on, and the version that was signed if it is to be followed.
type Described = (Registered, Option<Published>);

/// Hashes a path, reporting how far it is, and hands it to the node. Where the `.p2p` cannot be
/// written, which goes into `downloads` unless another place was asked for, that is said before.
pub(super) async fn hash(
    request: RegisterRequest,
    events: mpsc::Sender<Event>,
    (downloads, depot): (PathBuf, Arc<Depot>),
    node: NodeSender,
) {
    let output = request.output.clone();
    let checking = tokio::task::spawn_blocking(move || check_place(&downloads, output.as_deref()));
    if let Ok(Err(error)) = checking.await {
        return drop(events.send(ApiError::from(&error).into()).await);
    }
    let began_unix_ms = unix_ms();
    match run_hashing(&request, depot, &events).await {
        Some(Ok(hashed)) => {
            let deadline = Instant::now() + TRACKER_PATIENCE;
            let hashed = Box::new(Hashed {
                request,
                hashed,
                began_unix_ms,
                events,
                deadline,
            });
            node.send(NodeEvent::Hashed(hashed)).await;
        }
        Some(Err(error)) => drop(events.send(ApiError::from(&error).into()).await),
        None => (),
    }
}

/// What came of hashing; `None` once nobody listens any more, or when the daemon ends.
async fn run_hashing(
    request: &RegisterRequest,
    depot: Arc<Depot>,
    events: &mpsc::Sender<Event>,
) -> Option<Result<register::Hashed, RegisterError>> {
    let hashing = Arc::<Hashing>::default();
    let (path, shared) = (request.path.clone(), hashing.clone());
    let special = match request.skip_special {
        true => Special::Skip,
        false => Special::Refuse,
    };
    let update = request.update;
    let mut work = tokio::task::spawn_blocking(move || {
        // What is as it was need not be read again.
        let known = update.then(|| depot.known(&path)).flatten();
        hash_version(&RealDisk, &path, special, known.as_ref(), &shared)
    });
    let mut tick = tokio::time::interval(HASHING_TICK);
    let mut rate = Rate::default();
    loop {
        tokio::select! {
            done = &mut work => return done.ok(),
            () = events.closed() => {
                hashing.cancel();
                return None;
            }
            _ = tick.tick() => {
                rate.sample(Instant::now(), hashing.hashed_bytes());
                // Who does not read gets the next one.
                let _ = events.try_send(Event::Progress(shown(&hashing, &rate)));
            }
        }
    }
}

fn shown(hashing: &Hashing, rate: &Rate) -> Progress {
    Progress {
        verified_bytes: hashing.hashed_bytes(),
        bytes: hashing.total_bytes(),
        rate_bytes_per_s: rate.bytes_per_s(),
        phase: Some(ShownPhase::Hashing),
        ..Progress::default()
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
            began_unix_ms,
            events,
            ..
        } = hashed;
        let content = Arc::new(hashed.content);
        let record = ShareRecord {
            id: content.id,
            kind: content.kind,
            secret: None,
            name: content.name.as_str().to_owned(),
            path: hashed.path,
            state: ShareState::Registered,
            manifest: None,
            trackers: self.own_address().into_iter().collect(),
            identities: Some(hashed.identities),
            added_unix_ms: began_unix_ms,
            wish: Wish::default(),
            settled: None,
            placing: Placing::default(),
        };
        let update = request.update;
        let refused = self.why_not_register(&record);
        let refused = refused.or_else(|| match update {
            true => self.why_not_publish(&record.path),
            false => None,
        });
        if let Some(error) = refused {
            drop(events.try_send(error.into()));
            return;
        }
        let mut warnings = hashed.warnings;
        warnings.extend(left_out(&hashed.skipped));
        warnings.extend(self.warnings(&record));
        let formers = self.formers_at(&record.path, &record.id);
        let (formers, replaces): (Vec<_>, Vec<_>) = formers
            .map(|(swarm, share)| (*swarm, share.record.id.to_string()))
            .unzip();
        if update && !formers.is_empty() {
            warnings.push(
                "the version before is no longer shared, since its files have changed".to_owned(),
            );
        }
        if !update {
            warnings.extend(self.not_for_followers(&record));
        }
        let read_bytes = update.then_some(hashed.read_bytes);
        let seen = self.published_at(&record.path);
        let (depot, node) = (self.config.depot.clone(), self.me.clone());
        let downloads = self.config.downloads.clone();
        let before = self.terms_before(&record.swarm(), &formers);
        let (code, terms) = (request.code, request.terms(&before, unix_ms()));
        tokio::task::spawn_blocking(move || {
            let output = request.output.as_deref();
            let result = depot.register(&record, &content, || {
                let publish = || depot.publish((&record.path, seen), &content, record.secret);
                let published = update.then(publish).transpose()?;
                let place = (downloads.as_path(), output);
                let registered = describe(&record, &content, place, &formers)?;
                depot.note_terms(record.swarm(), terms.clone());
                depot.keep_terms(&record.swarm())?;
                let registered = Registered {
                    warnings,
                    replaces,
                    read_bytes,
                    expires_unix_ms: terms.expires_unix_ms,
                    max_downloads: terms.max_downloads,
                    downloads: terms.max_downloads.map(|_| terms.takers.len() as u32),
                    ..registered
                };
                Ok(match published {
                    Some((published, read)) => {
                        let registered = followable(registered, &record, &published, read);
                        (registered, Some(published))
                    }
                    None => (registered, None),
                })
            });
            let result = result.map_err(|error| {
                let hint = about(&error.hint, &record.id, &record.path);
                ApiError { hint, ..error }
            });
            let registration = Registration {
                record,
                code,
                terms,
                events,
                result,
            };
            let event = NodeEvent::Registered(Box::new(registration));
            tokio::runtime::Handle::current().block_on(node.send(event));
        });
    }

    /// What the person should know of how a share can be found, and of what it replaces.
    fn warnings(&self, record: &ShareRecord) -> impl Iterator<Item = String> {
        let no_key = record.trackers.is_empty().then(|| {
            "the .p2p names no tracker, because its key is not known yet; register again once the \
             daemon is connected"
                .to_owned()
        });
        let lost = self.trackers.get(&OWN).filter(|own| !own.connected);
        let no_answer = lost.map(|own| {
            let address = &own.address;
            format!("tracker {address} does not answer; peers cannot find the share until it does")
        });
        let before = self.shares.get(&record.swarm()).map(|it| &it.record.path);
        let moved = before.filter(|before| **before != record.path);
        let moved = moved.map(|before| {
            let before = before.display();
            format!("the same content is no longer shared from {before}")
        });
        [no_key, no_answer, moved].into_iter().flatten()
    }

    /// The terms of a share that is registered again, or of the versions that it is the next one of.
    fn terms_before(&self, swarm: &SwarmId, formers: &[SwarmId]) -> Terms {
        let terms_of = |swarm: &SwarmId| self.shares.get(swarm).map(|share| &share.terms);
        let own = terms_of(swarm).cloned();
        let former = || formers.iter().find_map(terms_of).map(Terms::of_next);
        own.or_else(former).unwrap_or_default()
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
            code,
            terms,
            events,
            result,
        } = registration;
        let last = match result {
            Ok((opened, (registered, published))) => {
                let bytes = registered.bytes;
                let verified_bytes = Arc::default();
                let phase = Phase::Preparing {
                    verified_bytes,
                    bytes,
                    is_new: false,
                };
                let swarm = self.add(record, phase);
                if let Some(share) = self.shares.get_mut(&swarm) {
                    share.terms = terms;
                }
                self.happened(&swarm, Happening::Added);
                self.handle_opened(swarm, Ok(opened));
                match published {
                    Some(published) => self.handle_published(published),
                    None => self.replace_formers(swarm),
                }
                if let Some(wish) = code {
                    let waiting = Waiting { registered, events };
                    return self.give_code(swarm, wish, waiting);
                }
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
    (downloads, output): (&Path, Option<&Path>),
    formers: &[SwarmId],
) -> Result<Registered, ApiError> {
    let manifest = Manifest::new(
        Content::clone(content),
        record.trackers.clone(),
        record.secret,
    );
    let path: PathBuf = write_manifest(downloads, output, &manifest, formers)
        .map_err(|error| ApiError::from(&error))?;
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
        ..Registered::default()
    })
}

/// The same of a share that can be followed.
fn followable(
    registered: Registered,
    record: &ShareRecord,
    published: &Published,
    read: Secret,
) -> Registered {
    let publisher = published.head.publisher();
    let link = record.trackers.first().map(|tracker| FollowLink {
        publisher,
        read,
        tracker: tracker.clone(),
    });
    Registered {
        publisher: Some(publisher.to_string()),
        sequence: Some(published.head.sequence),
        follow_link: link.map(|link| link.to_string()),
        ..registered
    }
}

/// Which files of a folder were left out, the first of them by name.
fn left_out(skipped: &[PathBuf]) -> impl Iterator<Item = String> {
    let shown = skipped.iter().take(SKIPPED_SHOWN);
    let shown = shown.map(|path| format!("left out: {}", path.display()));
    let more = skipped.len().saturating_sub(SKIPPED_SHOWN);
    shown.chain((more > 0).then(|| format!("left out: {more} more")))
}
