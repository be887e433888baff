//! What the person asks for, and the handle through which the control API asks it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

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
use super::previewing::Previewed;
use super::registering::hash;
use super::report::tell_last;
use super::shares::{Data, Preparing};
use super::{Node, NodeEvent, NodeSender, pausing};
use crate::clock::unix_ms;
use crate::control::api::Control;
use crate::control::codes::CodeWish;
use crate::control::doctor::{self, Looks, Snapshot};
use crate::control::follow::FollowRequest;
use crate::control::model::{
    ApiError, DownloadRequest, Event, ExpireRequest, LimitRequest, OpenRequest, Opened,
    PreviewRequest, RegisterRequest, RelocateRequest, RemoveRequest, SelectRequest, ShareLink,
    ShareRequest, exit,
};
use crate::control::source::{Located, Parsed};
use crate::control::wish::Wish;
use crate::hooks::Happening;
use crate::log::Log;
use crate::run::check_target;
use crate::share::depot::Depot;
use crate::share::{Found, Phase, Watcher};
use crate::store::db::{ShareRecord, ShareState};
use crate::store::taken::{IfExists, Placing};

/// Events that may wait for a client; progress that does not fit is left out.
pub(super) const EVENTS: usize = 16;

/// What the control API passes on, each with the way back.
#[derive(Debug)]
pub(crate) enum Command {
    /// Fetch, or attach to what is there.
    Download(Box<Wanted>, oneshot::Sender<mpsc::Receiver<Event>>),
    /// Tell what a download would be.
    Preview(Box<Previewed>, oneshot::Sender<mpsc::Receiver<Event>>),
    /// Trackers and shares.
    Status(oneshot::Sender<Vec<Event>>),
    /// Connected peers.
    Peers(oneshot::Sender<Vec<Event>>),
    /// The latest attempts to reach peers.
    Attempts(oneshot::Sender<Vec<Event>>),
    /// What could be better about how we are connected.
    Doctor(oneshot::Sender<Box<Snapshot>>),
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
    /// Look for the files of a share elsewhere.
    Relocate(
        RelocateRequest,
        oneshot::Sender<Result<mpsc::Receiver<Event>, ApiError>>,
    ),
    /// Remove a share after a time.
    Expire(ExpireRequest, pausing::Answer),
    /// Give it no longer.
    Revoke(ShareRequest, pausing::Answer),
    /// The link of a share.
    Link(ShareRequest, oneshot::Sender<Result<Event, ApiError>>),
    /// What a share is made of.
    Contents(ShareRequest, oneshot::Sender<Result<Event, ApiError>>),
    /// Shares alone that begin so.
    Shares(String, oneshot::Sender<Vec<Event>>),
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
    /// The folder it goes to, unless that is the daemon's own.
    to: Option<PathBuf>,
    /// What to do when something has its name there.
    if_exists: IfExists,
}

/// How a download begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    /// Which files are wanted.
    wish: Wish,
    /// The folder it goes to, unless that is the daemon's own.
    to: Option<PathBuf>,
    /// What to do when something has its name there.
    if_exists: IfExists,
}

/// The control API's way to the node.
#[derive(Clone, Debug)]
pub(crate) struct NodeControl {
    node: NodeSender,
    /// Where `.p2p` files go.
    downloads: PathBuf,
    /// What is known of files.
    depot: Arc<Depot>,
    /// Looks at the disk.
    looks: Looks,
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
            looks: Looks::default(),
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
        request.checked_terms()?;
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

    async fn preview(&self, request: PreviewRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        let PreviewRequest { source, to } = request;
        let source = tokio::task::spawn_blocking(move || source.parse());
        let source = source.await.unwrap_or_else(|_| Err(stopping()))?;
        let asked = Box::new(Previewed { source, to });
        let begun = self.ask(|answer| Command::Preview(asked, answer)).await;
        begun.ok_or_else(stopping)
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
        let Some(mut snapshot) = self.ask(Command::Doctor).await else {
            return Vec::new();
        };
        snapshot.machine = self.looks.look(self.downloads.clone()).await;
        doctor::shown(&snapshot)
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

    async fn relocate(&self, request: RelocateRequest) -> Result<mpsc::Receiver<Event>, ApiError> {
        self.try_ask(|answer| Command::Relocate(request, answer))
            .await
    }

    async fn expire(&self, request: ExpireRequest) -> Result<Event, ApiError> {
        self.try_ask(|answer| Command::Expire(request, answer))
            .await
    }

    async fn revoke(&self, request: ShareRequest) -> Result<Event, ApiError> {
        self.try_ask(|answer| Command::Revoke(request, answer))
            .await
    }

    async fn link(&self, request: ShareRequest) -> Result<Event, ApiError> {
        self.try_ask(|answer| Command::Link(request, answer)).await
    }

    async fn contents(&self, request: ShareRequest) -> Result<Event, ApiError> {
        self.try_ask(|answer| Command::Contents(request, answer))
            .await
    }

    async fn shares(&self, beginning: String) -> Vec<Event> {
        let command = |answer| Command::Shares(beginning, answer);
        self.ask(command).await.unwrap_or_default()
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
        let DownloadRequest {
            source,
            wish,
            to,
            if_exists,
        } = request;
        let source = source.parse()?;
        to.as_deref().map_or(Ok(()), check_target)?;
        if let Parsed::Manifest(manifest) = &source
            && !wish.is_default()
        {
            wish.pick(&manifest.content, |_| false)?;
        }
        Ok(Box::new(Wanted {
            source,
            wish,
            to,
            if_exists,
        }))
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
            Command::Preview(asked, answer) => drop(answer.send(self.preview(*asked))),
            Command::Status(answer) => drop(answer.send(self.status())),
            Command::Attempts(answer) => drop(answer.send(self.attempts())),
            Command::Doctor(answer) => drop(answer.send(Box::new(self.snapshot()))),
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
            Command::Relocate(request, answer) => drop(answer.send(self.relocate(request))),
            Command::Expire(request, answer) => self.expire(&request.share, request.in_s, answer),
            Command::Revoke(request, answer) => self.revoke(&request.share, answer),
            Command::Link(request, answer) => drop(answer.send(self.link(&request.share))),
            Command::Contents(request, answer) => self.contents(&request.share, answer),
            Command::Shares(beginning, answer) => {
                drop(answer.send(self.shown_shares(&beginning)));
            }
            Command::Listen(answer) => drop(answer.send(self.listen())),
        }
    }

    fn download(&mut self, wanted: Wanted) -> mpsc::Receiver<Event> {
        let Wanted {
            source,
            wish,
            to,
            if_exists,
        } = wanted;
        let way = Way {
            wish,
            to,
            if_exists,
        };
        if let Parsed::Follow(link) = source {
            return self.follow(link, Then::Once(way));
        }
        let (events, receiver) = mpsc::channel(EVENTS);
        let watcher = Watcher {
            events,
            since: Instant::now(),
            found: None,
            preview: None,
        };
        self.start_download(source, way, watcher);
        receiver
    }

    /// Begins a download for somebody, or attaches them to one that is there.
    pub(super) fn start_download(&mut self, source: Parsed, way: Way, mut watcher: Watcher) {
        let source = match self.with_tracker(source) {
            Ok(source) => source,
            Err(error) => return tell_last(watcher, error.into()),
        };
        let swarm = match &source {
            Located::Manifest(manifest) => manifest.content.swarm_id(manifest.secret.as_ref()),
            Located::Link(link) => SwarmId::of(link.kind, &link.id, link.secret.as_ref()),
        };
        let share = self.shares.get(&swarm);
        if let Some(error) = share.and_then(|share| share.withheld()) {
            return tell_last(watcher, error.into());
        }
        self.end_pause(swarm);
        if let Located::Link(_) = &source
            && self.want_previewed(swarm, &way)
        {
            return self.watch_share(swarm, watcher);
        }
        let change = way.wish.as_change();
        if !change.is_empty() && self.may_choose(swarm, &source) {
            return self.choose(swarm, &change, Asker::Download(watcher));
        }
        let swarm = self.attach(swarm, source, way);
        if let Some(share) = self.shares.get(&swarm) {
            let is_whole = matches!(share.phase, Phase::Seeding(_));
            watcher.found = is_whole.then(|| Found {
                bytes: share.bytes(None).1,
                files: share.file_counts(),
            });
        }
        self.watch_share(swarm, watcher);
    }

    /// The share that is to be removed or cancelled, which is followed no longer then.
    fn find_to_end(&mut self, wanted: &str) -> Result<SwarmId, ApiError> {
        let swarm = self.find(wanted)?;
        self.end_following(&swarm);
        Ok(swarm)
    }

    fn watch_share(&mut self, swarm: SwarmId, watcher: Watcher) {
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.watchers.push(watcher);
        }
    }

    /// Makes a link that somebody is only asking about a download. False when it is none.
    fn want_previewed(&mut self, swarm: SwarmId, way: &Way) -> bool {
        let folder = self.folder_of(way);
        let share = self.shares.get_mut(&swarm);
        let Some(share) = share.filter(|share| share.is_preview) else {
            return false;
        };
        share.is_preview = false;
        share.record = ShareRecord {
            path: folder,
            wish: way.wish.clone(),
            placing: way.placing(),
            ..share.record.clone()
        };
        let record = share.record.clone();
        self.remember(&record);
        self.happened(&swarm, Happening::Added);
        true
    }

    /// Where a download goes.
    fn folder_of(&self, way: &Way) -> PathBuf {
        let own = || self.config.downloads.clone();
        way.to.clone().unwrap_or_else(own)
    }

    /// A content id alone becomes a link: of a share that is here, or by our own tracker.
    pub(super) fn with_tracker(&self, source: Parsed) -> Result<Located, ApiError> {
        let (kind, id) = match source {
            Parsed::Manifest(manifest) => return Ok(Located::Manifest(manifest)),
            Parsed::Link(link) => return Ok(Located::Link(link)),
            Parsed::Follow(_) => return Err(which_version()),
            Parsed::Id { kind, id } => (kind, id),
        };
        let mut records = self.shares.values().map(|share| &share.record);
        if let Some(record) = records.find(|record| record.id == id)
            && let Some(link) = self.link_of(record)
        {
            return Ok(Located::Link(link));
        }
        let tracker = self.own_address().ok_or_else(no_tracker)?;
        Ok(Located::Link(Link {
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
    fn may_choose(&self, swarm: SwarmId, source: &Located) -> bool {
        let share = self.shares.get(&swarm);
        share.is_some_and(|share| match share.phase {
            Phase::Metadata(_) => matches!(source, Located::Link(_)),
            _ => true,
        })
    }

    /// Begins a download, goes on with it, or looks at what is there.
    fn attach(&mut self, swarm: SwarmId, source: Located, way: Way) -> SwarmId {
        match self.shares.get(&swarm).map(|share| &share.phase) {
            Some(Phase::Metadata(_)) => match source {
                Located::Manifest(manifest) => {
                    let before = self.shares.get(&swarm);
                    let is_new = before.is_some_and(|share| share.is_preview);
                    let before = before.map(|share| share.record.wish.clone());
                    let wish = before.unwrap_or_default().changed(&way.wish.as_change());
                    let swarm = self.begin_manifest(*manifest, Way { wish, ..way });
                    if is_new {
                        self.happened(&swarm, Happening::Added);
                    }
                    swarm
                }
                Located::Link(_) => swarm,
            },
            Some(Phase::Stopped { .. }) => self.resume(swarm, source, way),
            Some(Phase::Seeding(_)) => {
                self.check_share(swarm, source);
                swarm
            }
            Some(_) => swarm,
            None => {
                let swarm = self.begin(source, way);
                self.happened(&swarm, Happening::Added);
                swarm
            }
        }
    }

    /// The files of a share that is complete are what they were, or it is fetched once more.
    pub(super) fn handle_checked(
        &mut self,
        swarm: SwarmId,
        source: Located,
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
        let before = self.shares.remove(&swarm);
        // Where it was downloaded to, it goes again.
        let folder = before.and_then(|before| before.downloaded_to());
        let again = Way {
            to: folder,
            ..Way::default()
        };
        let swarm = self.begin(source, again);
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.watchers.extend(watchers.unwrap_or_default());
        }
    }

    fn begin(&mut self, source: Located, way: Way) -> SwarmId {
        match source {
            Located::Manifest(manifest) => self.begin_manifest(*manifest, way),
            Located::Link(link) => self.begin_link(&link, way),
        }
    }

    fn begin_manifest(&mut self, manifest: Manifest, way: Way) -> SwarmId {
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
            path: self.folder_of(&way).join(content.name.as_str()),
            state: ShareState::Downloading,
            manifest: None,
            trackers,
            identities: None,
            added_unix_ms: unix_ms(),
            placing: way.placing(),
            wish: way.wish,
            settled: None,
        };
        let watchers = self.shares.get_mut(&record.swarm());
        let watchers = watchers.map(|share| std::mem::take(&mut share.watchers));
        let content = Arc::new(content);
        let swarm = self.add_preparing(record, Preparing::Create(content.clone()));
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.watchers.extend(watchers.unwrap_or_default());
        }
        self.tell_previews(swarm, &content);
        swarm
    }

    fn begin_link(&mut self, link: &Link, way: Way) -> SwarmId {
        let record = ShareRecord {
            path: self.folder_of(&way),
            placing: way.placing(),
            wish: way.wish,
            ..self.link_record(link)
        };
        self.remember(&record);
        self.add_link(record)
    }

    /// Of what only the link is known, it is noted to which folder it goes.
    pub(super) fn link_record(&self, link: &Link) -> ShareRecord {
        ShareRecord {
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
            wish: Wish::default(),
            settled: None,
            placing: Placing::default(),
        }
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
    fn resume(&mut self, swarm: SwarmId, source: Located, way: Way) -> SwarmId {
        let record = self.shares.get(&swarm).map(|share| share.record.clone());
        let begun = |record: &ShareRecord| {
            matches!(record.state, ShareState::Paused { .. }) && !record.name.is_empty()
        };
        match record.filter(begun) {
            Some(mut record) => {
                if way.if_exists != IfExists::Refuse {
                    record.placing.if_exists = way.if_exists;
                }
                self.add_preparing(record, Preparing::Recall)
            }
            None => {
                let before = self.shares.remove(&swarm).map(|share| share.record.wish);
                let wish = before.unwrap_or_default();
                self.begin(source, Way { wish, ..way })
            }
        }
    }
}

impl Way {
    fn placing(&self) -> Placing {
        Placing {
            if_exists: self.if_exists,
            found: false,
        }
    }
}

/// A follow link names what comes, and no version.
fn which_version() -> ApiError {
    ApiError::new(
        "not_learnt",
        exit::REFUSED,
        "a follow link does not say what its newest version is",
        "Fetch that: client download LINK IDX; or follow it: client follow LINK IDX.",
    )
}

/// The key of our own tracker is not known: it has never been reached.
fn no_tracker() -> ApiError {
    let message = "the daemon's tracker has not been reached yet, so that there is no link";
    let hint = "See what it says with client doctor, and try again once it is reached.";
    ApiError::new("tracker_unknown", exit::TRACKER_UNREACHABLE, message, hint)
}
