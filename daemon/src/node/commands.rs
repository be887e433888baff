//! What the person asks for, and the handle through which the control API asks it.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use warren_proto::code::Code;
use warren_proto::content::Link;
use warren_proto::follow::FollowLink;
use warren_proto::id::SwarmId;

use super::beginning::Way;
use super::choosing::Asker;
use super::ending::Data;
use super::heads::Then;
use super::limits::Answer as LimitAnswer;
use super::opening::Answer;
use super::previewing::Previewed;
use super::registering::hash;
use super::{Node, NodeEvent, NodeSender, pausing};
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
use crate::log::Log;
use crate::run::check_target;
use crate::share::depot::Depot;
use crate::store::db::ShareRecord;

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
    Follow(FollowLink, Way, oneshot::Sender<mpsc::Receiver<Event>>),
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
    pub(super) source: Parsed,
    /// How it begins.
    pub(super) way: Way,
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
        let FollowRequest { to, if_exists, .. } = request;
        let folder = to.clone();
        let checked =
            tokio::task::spawn_blocking(move || folder.as_deref().map_or(Ok(()), check_target));
        checked.await.unwrap_or_else(|_| Err(stopping()))?;
        let way = Way {
            to,
            if_exists,
            ..Way::default()
        };
        let asked = |answer| Command::Follow(link, way, answer);
        let started = self.ask(asked).await;
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
            as_chosen,
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
            way: Way {
                wish,
                to,
                if_exists,
                as_chosen,
            },
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
            Command::Follow(link, way, answer) => {
                drop(answer.send(self.follow(link, Then::Follow(way))));
            }
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

    /// The share that is to be removed or cancelled, which is followed no longer then.
    fn find_to_end(&mut self, wanted: &str) -> Result<SwarmId, ApiError> {
        let swarm = self.find(wanted)?;
        self.end_following(&swarm);
        Ok(swarm)
    }

    /// A content id alone becomes a link: of a share that is here, or by our own tracker.
    pub(super) fn with_tracker(&self, source: Parsed) -> Result<Located, ApiError> {
        let (kind, id) = match source {
            Parsed::Manifest(manifest) => return Ok(Located::Manifest(manifest)),
            Parsed::Link(link) => return Ok(Located::Link(link)),
            Parsed::Follow(link) => return Err(which_version(&link)),
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
}

/// A follow link names what comes, and no version.
fn which_version(link: &FollowLink) -> ApiError {
    ApiError::new(
        "not_learnt",
        exit::REFUSED,
        "a follow link does not say what its newest version is",
        format!("Fetch that: client download {link} IDX; or follow it: client follow {link} IDX"),
    )
}

/// The key of our own tracker is not known: it has never been reached.
fn no_tracker() -> ApiError {
    let message = "the daemon's tracker has not been reached yet, so that there is no link";
    let hint = "See why, and try again once it is reached: client doctor IDX";
    ApiError::new("tracker_unknown", exit::TRACKER_UNREACHABLE, message, hint)
}
