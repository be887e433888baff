//! What the person asks for, and the handle through which the control API asks it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use warren_proto::code::Code;
use warren_proto::content::{Link, Manifest};
use warren_proto::follow::FollowLink;
use warren_proto::id::SwarmId;

use super::choosing::Asker;
use super::heads::Then;
use super::limits::Answer as LimitAnswer;
use super::opening::Answer;
use super::registering::hash;
use super::report::tell_last;
use super::shares::{Data, Preparing};
use super::{Node, NodeEvent, NodeSender, pausing};
use crate::control::api::Control;
use crate::control::codes::CodeWish;
use crate::control::doctor;
use crate::control::follow::FollowRequest;
use crate::control::model::{
    ApiError, DownloadRequest, Event, LimitRequest, OpenRequest, Opened, RegisterRequest,
    RemoveRequest, SelectRequest, ShareLink, ShareRequest, exit,
};
use crate::control::source::Parsed;
use crate::control::wish::Wish;
use crate::hooks::Happening;
use crate::log::Log;
use crate::share::depot::Depot;
use crate::share::{Found, Phase, Watcher};
use crate::store::db::{ShareRecord, ShareState};

/// Events that may wait for a client; progress that does not fit is left out.
pub(super) const EVENTS: usize = 16;

/// What the control API passes on, each with the way back.
#[derive(Debug)]
pub(crate) enum Command {
    /// Fetch, or attach to what is there.
    Download(Box<Wanted>, oneshot::Sender<mpsc::Receiver<Event>>),
    /// Trackers and shares.
    Status(oneshot::Sender<Vec<Event>>),
    /// Connected peers.
    Peers(oneshot::Sender<Vec<Event>>),
    /// The latest attempts to reach peers.
    Attempts(oneshot::Sender<Vec<Event>>),
    /// What could be better about how we are connected.
    Doctor(oneshot::Sender<Vec<Event>>),
    /// Want other files of a share.
    Select(SelectRequest, oneshot::Sender<Result<Event, ApiError>>),
    /// Send and receive as fast as this.
    Limit(LimitRequest, LimitAnswer),
    /// Open a code.
    Open(Code, Answer),
    /// Follow a share.
    Follow(FollowLink, oneshot::Sender<mpsc::Receiver<Event>>),
    /// Follow it no longer.
    Unfollow(ShareRequest, oneshot::Sender<Result<(), ApiError>>),
    /// Stop sharing or downloading.
    Remove(RemoveRequest, oneshot::Sender<Result<(), ApiError>>),
    /// End a download and what is there of it.
    Cancel(ShareRequest, oneshot::Sender<Result<(), ApiError>>),
    /// Neither fetch nor give a share.
    Pause(ShareRequest, pausing::Answer),
    /// Go on with it.
    Resume(ShareRequest, pausing::Answer),
    /// Read again what is stored of a share.
    Verify(
        ShareRequest,
        oneshot::Sender<Result<mpsc::Receiver<Event>, ApiError>>,
    ),
    /// The link of a share.
    Link(ShareRequest, oneshot::Sender<Result<Event, ApiError>>),
    /// Shares alone.
    Shares(oneshot::Sender<Vec<Event>>),
    /// Everything, and what is otherwise from now on.
    Listen(oneshot::Sender<Result<mpsc::Receiver<Event>, ApiError>>),
}

/// What is to be fetched.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Of what.
    source: Parsed,
    /// Which files.
    wish: Wish,
}

/// The control API's way to the node.
#[derive(Clone, Debug)]
pub(crate) struct NodeControl {
    node: NodeSender,
    /// Where `.p2p` files go.
    downloads: PathBuf,
    /// What is known of files.
    depot: Arc<Depot>,
    log: Log,
    stop: CancellationToken,
}

impl NodeControl {
    pub(crate) fn new(
        node: NodeSender,
        (downloads, depot): (PathBuf, Arc<Depot>),
        log: Log,
        stop: CancellationToken,
    ) -> NodeControl {
        NodeControl {
            node,
            downloads,
            depot,
            log,
            stop,
        }
    }

    /// Asks for something that may fail.
    async fn try_ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, ApiError>>) -> Command,
    ) -> Result<T, ApiError> {
        self.ask(command).await.unwrap_or_else(|| Err(stopping()))
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.node.send(NodeEvent::Command(command(answer))).await;
        answered.await.ok()
    }
}

impl Control for NodeControl {
    async fn register(&self, request: RegisterRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        request.code.map(CodeWish::checked).transpose()?;
        let (events, receiver) = mpsc::channel(EVENTS);
        let downloads = self.downloads.clone();
        let places = (downloads, self.depot.clone());
        tokio::spawn(hash(request, events, places, self.node.clone()));
        Ok(receiver)
    }

    async fn download(&self, request: DownloadRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        let wanted = read(request).await?;
        let started = self.ask(|answer| Command::Download(wanted, answer)).await;
        started.ok_or_else(stopping)
    }

    async fn follow(&self, request: FollowRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        let link = request.parse()?;
        let started = self.ask(|answer| Command::Follow(link, answer)).await;
        started.ok_or_else(stopping)
    }

    async fn unfollow(&self, request: ShareRequest) -> Result<(), ApiError> {
        self.try_ask(|answer| Command::Unfollow(request, answer))
            .await
    }

    async fn status(&self) -> Vec<Event> {
        self.ask(Command::Status).await.unwrap_or_default()
    }

    async fn peers(&self) -> Vec<Event> {
        self.ask(Command::Peers).await.unwrap_or_default()
    }

    async fn attempts(&self) -> Vec<Event> {
        self.ask(Command::Attempts).await.unwrap_or_default()
    }

    async fn doctor(&self) -> Vec<Event> {
        self.ask(Command::Doctor).await.unwrap_or_default()
    }

    async fn select(&self, request: SelectRequest) -> Result<Event, ApiError> {
        self.try_ask(|answer| Command::Select(request, answer))
            .await
    }

    async fn open(&self, request: OpenRequest) -> Result<Event, ApiError> {
        let code = request.parse()?;
        let opened = self.ask(|answer| Command::Open(code, answer)).await;
        let link = opened.unwrap_or_else(|| Err(stopping()))?.to_string();
        Ok(Event::Opened(Opened { link }))
    }

    async fn remove(&self, request: RemoveRequest) -> Result<(), ApiError> {
        self.try_ask(|answer| Command::Remove(request, answer))
            .await
    }

    async fn limit(&self, request: LimitRequest) -> Result<Vec<Event>, ApiError> {
        self.try_ask(|answer| Command::Limit(request, answer)).await
    }

    async fn cancel(&self, request: ShareRequest) -> Result<(), ApiError> {
        self.try_ask(|answer| Command::Cancel(request, answer))
            .await
    }

    async fn pause(&self, request: ShareRequest) -> Result<Event, ApiError> {
        self.try_ask(|answer| Command::Pause(request, answer)).await
    }

    async fn resume(&self, request: ShareRequest) -> Result<Event, ApiError> {
        self.try_ask(|answer| Command::Resume(request, answer))
            .await
    }

    async fn verify(&self, request: ShareRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        self.try_ask(|answer| Command::Verify(request, answer))
            .await
    }

    async fn link(&self, request: ShareRequest) -> Result<Event, ApiError> {
        self.try_ask(|answer| Command::Link(request, answer)).await
    }

    async fn shares(&self) -> Vec<Event> {
        self.ask(Command::Shares).await.unwrap_or_default()
    }

    async fn events(&self) -> Result<mpsc::Receiver<Event>, ApiError> {
        self.try_ask(Command::Listen).await
    }

    fn log(&self) -> &Log {
        &self.log
    }

    async fn stop(&self) {
        self.stop.cancel();
    }
}

/// Reads a manifest, which may be large, outside of the node. A wish that means nothing is refused
/// before anything is begun, where the files are known.
async fn read(request: DownloadRequest) -> Result<Box<Wanted>, ApiError> {
    let reading = tokio::task::spawn_blocking(move || {
        let DownloadRequest { source, wish } = request;
        let source = source.parse()?;
        if let Parsed::Manifest(manifest) = &source
            && !wish.is_default()
        {
            wish.pick(&manifest.content, |_| false)?;
        }
        Ok(Box::new(Wanted { source, wish }))
    });
    reading.await.unwrap_or_else(|_| Err(stopping()))
}

fn stopping() -> ApiError {
    let hint = "Start it again and repeat the command.";
    ApiError::new(
        "stopping",
        exit::DAEMON_NOT_RUNNING,
        "the daemon is stopping",
        hint,
    )
}

impl Node {
    pub(super) fn handle_command(&mut self, command: Command) {
        // Who asked may have gone; then nobody misses the answer.
        match command {
            Command::Download(wanted, answer) => drop(answer.send(self.download(*wanted))),
            Command::Status(answer) => drop(answer.send(self.status())),
            Command::Attempts(answer) => drop(answer.send(self.attempts())),
            Command::Doctor(answer) => drop(answer.send(doctor::shown(&self.snapshot()))),
            Command::Peers(answer) => drop(answer.send(self.connected_peers())),
            Command::Select(request, answer) => self.select(&request, Asker::Select(answer)),
            Command::Limit(request, answer) => self.handle_limit(&request, answer),
            Command::Open(code, answer) => self.open_code(code, answer),
            Command::Follow(link, answer) => drop(answer.send(self.follow(link, Then::Follow))),
            Command::Unfollow(request, answer) => drop(answer.send(self.unfollow(&request.share))),
            Command::Remove(request, answer) => match self.find_to_end(&request.share) {
                Ok(swarm) if request.data => self.remove_share(swarm, Data::Deleted, answer),
                Ok(swarm) => self.remove_share(swarm, Data::Kept, answer),
                Err(error) => drop(answer.send(Err(error))),
            },
            Command::Cancel(request, answer) => match self.find_to_end(&request.share) {
                Ok(swarm) => self.cancel_share(swarm, answer),
                Err(error) => drop(answer.send(Err(error))),
            },
            Command::Pause(request, answer) => self.pause(&request.share, answer),
            Command::Resume(request, answer) => self.resume_share(&request.share, answer),
            Command::Verify(request, answer) => drop(answer.send(self.verify(&request.share))),
            Command::Link(request, answer) => drop(answer.send(self.link(&request.share))),
            Command::Shares(answer) => drop(answer.send(self.shown_shares())),
            Command::Listen(answer) => drop(answer.send(self.listen())),
        }
    }

    fn download(&mut self, wanted: Wanted) -> mpsc::Receiver<Event> {
        let Wanted { source, wish } = wanted;
        if let Parsed::Follow(link) = source {
            return self.follow(link, Then::Once(wish));
        }
        let (events, receiver) = mpsc::channel(EVENTS);
        let watcher = Watcher {
            events,
            since: Instant::now(),
            found: None,
        };
        self.start_download(source, wish, watcher);
        receiver
    }

    /// Begins a download for somebody, or attaches them to one that is there.
    pub(super) fn start_download(&mut self, source: Parsed, wish: Wish, mut watcher: Watcher) {
        let source = match self.with_tracker(source) {
            Ok(source) => source,
            Err(error) => return tell_last(watcher, error.into()),
        };
        let swarm = match &source {
            Parsed::Manifest(manifest) => manifest.content.swarm_id(manifest.secret.as_ref()),
            Parsed::Link(link) => SwarmId::of(link.kind, &link.id, link.secret.as_ref()),
            // It was given a tracker just now, or is asked for first.
            Parsed::Id { .. } | Parsed::Follow(_) => return,
        };
        self.end_pause(swarm);
        let change = wish.as_change();
        if !change.is_empty() && self.may_choose(swarm, &source) {
            return self.choose(swarm, &change, Asker::Download(watcher));
        }
        let swarm = self.attach(swarm, source, &wish);
        if let Some(share) = self.shares.get_mut(&swarm) {
            let is_whole = matches!(share.phase, Phase::Seeding(_));
            watcher.found = is_whole.then(|| Found {
                bytes: share.bytes(None).1,
                files: share.file_counts(),
            });
            share.watchers.push(watcher);
        }
    }

    /// The share that is to be removed or cancelled, which is followed no longer then.
    fn find_to_end(&mut self, wanted: &str) -> Result<SwarmId, ApiError> {
        let swarm = self.find(wanted)?;
        self.end_following(&swarm);
        Ok(swarm)
    }

    /// A content id alone becomes a link: of a share that is here, or by our own tracker.
    fn with_tracker(&self, source: Parsed) -> Result<Parsed, ApiError> {
        let Parsed::Id { kind, id } = source else {
            return Ok(source);
        };
        let mut records = self.shares.values().map(|share| &share.record);
        if let Some(record) = records.find(|record| record.id == id)
            && let Some(link) = self.link_of(record)
        {
            return Ok(Parsed::Link(link));
        }
        let tracker = self.own_address().ok_or_else(no_tracker)?;
        Ok(Parsed::Link(Link {
            kind,
            id,
            tracker,
            secret: None,
        }))
    }

    fn link_of(&self, record: &ShareRecord) -> Option<Link> {
        let tracker = record.trackers.first().cloned();
        Some(Link {
            kind: record.kind,
            id: record.id,
            tracker: tracker.or_else(|| self.own_address())?,
            secret: record.secret,
        })
    }

    fn link(&self, wanted: &str) -> Result<Event, ApiError> {
        let swarm = self.find(wanted)?;
        let share = self.shares.get(&swarm).ok_or_else(no_tracker)?;
        let link = self.link_of(&share.record).ok_or_else(no_tracker)?;
        Ok(Event::Link(ShareLink {
            content_id: share.record.id.to_string(),
            name: share.record.name.clone(),
            link: link.to_string(),
        }))
    }

    /// Whether a share is there of which other files can be wanted. Of a link more is known now if it is a
    /// manifest that came.
    fn may_choose(&self, swarm: SwarmId, parsed: &Parsed) -> bool {
        let share = self.shares.get(&swarm);
        share.is_some_and(|share| match share.phase {
            Phase::Metadata(_) => matches!(parsed, Parsed::Link(_)),
            _ => true,
        })
    }

    /// Begins a download, goes on with it, or looks at what is there.
    fn attach(&mut self, swarm: SwarmId, parsed: Parsed, wish: &Wish) -> SwarmId {
        match self.shares.get(&swarm).map(|share| &share.phase) {
            Some(Phase::Metadata(_)) => match parsed {
                Parsed::Manifest(manifest) => {
                    let before = self.shares.get(&swarm);
                    let before = before.map(|share| share.record.wish.clone());
                    let wish = before.unwrap_or_default().changed(&wish.as_change());
                    self.begin_manifest(*manifest, wish)
                }
                Parsed::Link(_) | Parsed::Id { .. } | Parsed::Follow(_) => swarm,
            },
            Some(Phase::Stopped { .. }) => self.resume(swarm, parsed),
            Some(Phase::Seeding(_)) => {
                self.check_share(swarm, parsed);
                swarm
            }
            Some(_) => swarm,
            None => {
                let swarm = self.begin(parsed, wish.clone());
                self.happened(&swarm, Happening::Added);
                swarm
            }
        }
    }

    /// The files of a share that is complete are what they were, or it is fetched once more.
    pub(super) fn handle_checked(
        &mut self,
        swarm: SwarmId,
        parsed: Parsed,
        result: Result<(), ApiError>,
    ) {
        if result.is_ok() {
            return self.tell_done(swarm);
        }
        let share = self.shares.get_mut(&swarm);
        if !share
            .as_ref()
            .is_some_and(|it| matches!(it.phase, Phase::Seeding(_)))
        {
            return;
        }
        let mut watchers = share.map(|share| std::mem::take(&mut share.watchers));
        let waiting = watchers.iter_mut().flatten();
        waiting.for_each(|watcher| watcher.found = None);
        self.leave_on_all(&swarm);
        self.shares.remove(&swarm);
        let swarm = self.begin(parsed, Wish::default());
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.watchers.extend(watchers.unwrap_or_default());
        }
    }

    fn begin(&mut self, parsed: Parsed, wish: Wish) -> SwarmId {
        match parsed {
            Parsed::Manifest(manifest) => self.begin_manifest(*manifest, wish),
            Parsed::Link(link) => self.begin_link(&link, wish),
            // Never here: it was made a link.
            Parsed::Id { kind, id } => SwarmId::of(kind, &id, None),
            // Nor here: what it leads to was asked for.
            Parsed::Follow(_) => SwarmId([0; 32]),
        }
    }

    fn begin_manifest(&mut self, manifest: Manifest, wish: Wish) -> SwarmId {
        let Manifest {
            content,
            trackers,
            secret,
            ..
        } = manifest;
        let record = ShareRecord {
            id: content.id,
            kind: content.kind,
            secret,
            name: content.name.as_str().to_owned(),
            path: self.config.downloads.join(content.name.as_str()),
            state: ShareState::Downloading,
            manifest: None,
            trackers,
            identities: None,
            added_unix_ms: unix_ms(),
            wish,
            settled: None,
        };
        let watchers = self.shares.get_mut(&record.swarm());
        let watchers = watchers.map(|share| std::mem::take(&mut share.watchers));
        let swarm = self.add_preparing(record, Preparing::Create(Arc::new(content)));
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.watchers.extend(watchers.unwrap_or_default());
        }
        swarm
    }

    fn begin_link(&mut self, link: &Link, wish: Wish) -> SwarmId {
        let record = ShareRecord {
            id: link.id,
            kind: link.kind,
            secret: link.secret,
            name: String::new(),
            path: self.config.downloads.clone(),
            state: ShareState::Downloading,
            manifest: None,
            trackers: vec![link.tracker.clone()],
            identities: None,
            added_unix_ms: unix_ms(),
            wish,
            settled: None,
        };
        self.remember(&record);
        self.add_link(record)
    }

    /// Notes a share of which only the link is known.
    pub(super) fn remember(&self, record: &ShareRecord) {
        let (depot, remembered) = (self.config.depot.clone(), record.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = depot.remember(&remembered) {
                tracing::warn!(%error, "the download is not remembered; a restart would forget it");
            }
        });
    }

    /// Goes on with a download that was stopped, or begins anew where there is nothing to go on
    /// with.
    fn resume(&mut self, swarm: SwarmId, parsed: Parsed) -> SwarmId {
        let record = self.shares.get(&swarm).map(|share| share.record.clone());
        let begun = |record: &ShareRecord| {
            matches!(record.state, ShareState::Paused { .. }) && !record.name.is_empty()
        };
        match record.filter(begun) {
            Some(record) => self.add_preparing(record, Preparing::Recall),
            None => {
                let before = self.shares.remove(&swarm).map(|share| share.record.wish);
                self.begin(parsed, before.unwrap_or_default())
            }
        }
    }
}

/// The key of our own tracker is not known: it has never been reached.
fn no_tracker() -> ApiError {
    let message = "the daemon's tracker has not been reached yet, so that there is no link";
    let hint = "See what it says with client doctor, and try again once it is reached.";
    ApiError::new("tracker_unknown", exit::TRACKER_UNREACHABLE, message, hint)
}

pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
