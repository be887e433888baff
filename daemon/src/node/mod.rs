//! The daemon itself: one task that owns all shares, peers and trackers, and decides.
//!
//! Everything that takes time is a task of its own (tracker sessions, peer sessions, fetches, disk
//! work) and reports to the node over one bounded queue ([`sender`]) as a [`NodeEvent`]. The node never waits
//! for any of them: what it says to a peer goes into that peer's queue, and a peer whose queue is
//! full is disconnected. So the queue to the node always drains, and the tasks may wait on it.
//!
//! By concern: [`commands`] what the person asks, [`beginning`] how downloads begin, [`again`] those of what is
//! here already, [`registering`] how a path comes to be shared,
//! [`shares`] how shares begin and rest, [`ending`] how they end, [`restoring`] how they come back after a restart, [`choosing`]
//! which files are wanted, [`scheduling`] what the engine decides, [`downloads`] fetching, [`peers`]
//! connections, [`joins`] swarms on them, [`limits`] how fast, [`budget`] how much at once, [`paths`]
//! what becomes of them, [`relaying`] peers that relay, [`following`] shares of others of which newer
//! versions come, [`refollowing`] what is there of them already, [`passing_on`] what one leaves to the
//! next, [`publishing`] such shares of ours, [`heads`] what trackers say of both, [`trackers`] what
//! trackers are told, [`meeting`] what they tell and introductions, [`neighbours`] whom of a large swarm
//! we keep, [`codes`] and [`opening`] short codes for links, ours and others', [`report`] and
//! [`contents`] what is shown, [`naming`] which share is meant, [`pausing`] and [`verifying`] what their
//! names say, [`previewing`] what a download would be, [`terms`] for how long and how often shares are
//! given, [`relocating`] files that were moved, [`looking`] files that change under their shares,
//! [`rereading`] those that may only have been touched, [`watching`] the stream of all events, [`happenings`] what commands and the service manager are told.

mod again;
mod beginning;
mod budget;
mod choosing;
mod codes;
pub(crate) mod commands;
mod contents;
mod downloads;
mod ending;
mod fetching;
mod following;
mod happenings;
mod heads;
mod joins;
mod limits;
mod looking;
mod meeting;
mod naming;
mod neighbours;
mod opening;
mod passing_on;
mod paths;
mod pausing;
mod peers;
mod previewing;
mod publishing;
mod refollowing;
mod registering;
mod relaying;
mod relocating;
mod report;
mod rereading;
mod restoring;
mod scheduling;
mod sender;
mod shares;
mod terms;
#[cfg(test)]
mod tests;
mod trackers;
mod verifying;
mod waiting;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use warren_net::{Connection, Endpoint, Relay};
use warren_proto::content::Content;
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::transfer::engine::{self, Engine, UploadId};
use warren_proto::transfer::{Reach, RequestId};
use warren_proto::wire::{Candidate, NoReason, Paths, PeerMessage};
use warren_service::notify::Notifier;

use crate::control::model::ApiError;
use crate::hooks::Hooks;
use crate::memory::Memory;
use crate::pace::Pace;
use crate::peer::seat::PeerSeat;
use crate::peer::session::SessionId;
use crate::portmap::{PortNews, PortState};
use crate::punch::{Nat, PathNews, PunchHandle};
use crate::share::depot::{Checked, Depot, Exchanged, Moved, Opened, Settled};
use crate::share::metadata::MetadataError;
use crate::share::offer::{Offer, Unserved};
use crate::share::{Epoch, Share, Watcher};
use crate::started::KeptStart;
use crate::store::changes::Differing;
use crate::store::error::StoreError;
use crate::store::settings::{Manners, SpeedLimit};
use crate::tracker::{TrackerEvent, TrackerId};
use beginning::Wanting;
use choosing::{Asker, Chosen};
use codes::Codes;
use commands::Command;
pub(crate) use fetching::Fetch;
use heads::Follows;
pub(crate) use limits::limited;
use paths::Drained;
use peers::Peer;
use registering::Hashed;
use scheduling::Upload;
pub(crate) use scheduling::{Asked, Turn};
pub(crate) use sender::{NodeSender, channel};
pub(crate) use terms::Receiver;
use trackers::{Gate, TrackerState};
pub(crate) use trackers::{OWN, OwnTracker};

/// Events taken in before the node looks around again.
const BATCH: usize = 256;

/// Between two looks at what is due: progress to show, peers to be introduced to.
const TICK: Duration = Duration::from_millis(250);

/// Disk-heavy work (hashing, re-reading) done at once.
const DISK_JOBS: usize = 2;

/// What tasks report to the node.
#[derive(Debug)]
pub(crate) enum NodeEvent {
    /// The person asks for something.
    Command(Command),
    /// A path was hashed.
    Hashed(Box<Hashed>),
    /// A registered path is open and remembered, and its `.p2p` written.
    Registered(Box<registering::Registration>),
    /// Something about a tracker.
    Tracker {
        /// Which one.
        tracker: TrackerId,
        /// What.
        event: TrackerEvent,
    },
    /// A peer connected, or was reached.
    PeerConnected(Connection),
    /// A peer is about to prove its key, and can be spoken to; `PeerConnected` follows if it does.
    PeerConnecting(Connection),
    /// Something about paths to peers.
    Path(PathNews),
    /// Something about a port of our router.
    Port(PortNews),
    /// A peer said something.
    PeerSaid {
        /// Who.
        peer: PublicKey,
        /// On which connection.
        session: SessionId,
        /// What.
        message: PeerMessage,
    },
    /// A connection is over.
    PeerClosed {
        /// With whom.
        peer: PublicKey,
        /// Which one.
        session: SessionId,
    },
    /// Something about one share, which by now may be another one.
    Share {
        /// Its swarm.
        swarm: SwarmId,
        /// The life of it that is meant.
        epoch: Epoch,
        /// What.
        event: ShareEvent,
    },
    /// A peer asks for bytes of a chunk.
    Asked(Asked),
    /// Bytes of an answer went out.
    Sent {
        /// Of which.
        upload: UploadId,
        /// How many more.
        bytes: u32,
    },
    /// An answer is over, given or not.
    Answered {
        /// Which.
        upload: UploadId,
    },
    /// Files of what is offered are not as they were noted.
    Differing {
        /// The offer.
        offer: Arc<Offer>,
        /// Which files.
        files: Differing,
    },
    /// Files that were touched were read again.
    Reread(Box<rereading::Finished>),
    /// Some of the files that are shared were looked at, which took so long.
    Looked(Duration),
    /// Something that was offered cannot be read.
    OfferBroken {
        /// The offer.
        offer: Arc<Offer>,
        /// Why.
        error: Arc<StoreError>,
    },
}

/// What is reported about one share.
#[derive(Debug)]
pub(crate) enum ShareEvent {
    /// Its files were made or found, or not.
    Opened(Result<Opened, ApiError>),
    /// A peer told what a link does not say, or failed to.
    Learnt {
        /// Who was asked.
        peer: PublicKey,
        /// What came of it.
        result: Result<Arc<Content>, MetadataError>,
    },
    /// Bytes have come.
    Received {
        /// Of which request.
        request: RequestId,
        /// How many more.
        bytes: u32,
        /// How they came.
        reach: Reach,
    },
    /// So much of what a request brings is verified that it can be passed on.
    Passable {
        /// Which one.
        request: RequestId,
    },
    /// A request is over.
    Fetched {
        /// Which one.
        request: RequestId,
        /// How it ended.
        outcome: Fetched,
    },
    /// The disk does not keep what is written.
    SyncFailed(ApiError),
    /// Its files were looked at for somebody who wants it.
    Checked {
        /// Who that is.
        wanting: Wanting,
        /// What they are.
        result: Result<Checked, ApiError>,
    },
    /// What is wanted of it is complete and has its name, or could not be given it.
    Finished(Result<Settled, ApiError>),
    /// Its files were looked for at another path.
    Relocated {
        /// Where it is now, or why it is not there.
        result: Result<Box<Moved>, ApiError>,
        /// Who wants to know.
        watcher: Watcher,
    },
    /// It was moved over what had the path that it was to have, or could not be.
    MovedOver {
        /// Where it is now.
        result: Result<Box<Moved>, ApiError>,
        /// As it was given before.
        offer: Arc<Offer>,
    },
    /// It has taken the place of the version before, or could not.
    Exchanged(Result<Box<Exchanged>, ApiError>),
    /// Other files of it are wanted now, or could not be made.
    Chosen {
        /// What is wanted.
        result: Result<Chosen, ApiError>,
        /// Who wants it.
        asker: Asker,
    },
}

/// How a request for a chunk ended.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// The chunk is verified and written.
    Verified,
    /// The bytes were wrong.
    Corrupt,
    /// The peer does not give it.
    Refused(NoReason),
    /// The stream broke.
    Failed,
    /// It ended with a connection that another has taken over from.
    Withdrawn,
    /// The disk refused it.
    Disk(ApiError),
}

/// What a node is made of.
#[derive(Debug)]
pub(crate) struct NodeConfig {
    /// Our number.
    pub(crate) idx: u16,
    /// Our key.
    pub(crate) key: PublicKey,
    /// Our socket.
    pub(crate) endpoint: Endpoint,
    /// Finds paths over it.
    pub(crate) punch: PunchHandle,
    /// Keeps to limits.
    pub(crate) pace: Arc<Pace>,
    /// What may be in memory because of peers.
    pub(crate) memory: Arc<Memory>,
    /// Disk and database.
    pub(crate) depot: Arc<Depot>,
    /// Where downloads and `.p2p` files go.
    pub(crate) downloads: PathBuf,
    /// By which paths we want to be reached.
    pub(crate) paths: Paths,
    /// Passes datagrams between peers of our swarms, if we do that.
    pub(crate) relay: Option<Arc<Relay<PeerSeat>>>,
    /// Where a peer in our network could reach us.
    pub(crate) candidates: Vec<Candidate>,
    /// Commands to run when something became of a share.
    pub(crate) hooks: Hooks,
    /// How we were started, for who does it again.
    pub(crate) started: Option<Arc<KeptStart>>,
    /// Ends the node.
    pub(crate) stop: CancellationToken,
}

/// The task that owns everything.
#[derive(Debug)]
pub(crate) struct Node {
    config: NodeConfig,
    me: NodeSender,
    trackers: BTreeMap<TrackerId, TrackerState>,
    shares: BTreeMap<SwarmId, Share>,
    /// Decides what to fetch, to give and to tell.
    engine: Engine,
    /// What peers have asked for.
    uploads: BTreeMap<UploadId, Upload>,
    /// Shares that want something or have news, so that a tick need not look at all of them.
    active: BTreeSet<SwarmId>,
    peers: BTreeMap<PublicKey, Peer>,
    /// Relayed connections beside direct ones.
    drained: BTreeMap<PublicKey, Drained>,
    /// Which peer is our relay to whom, or may be.
    relayed_by: BTreeMap<PublicKey, PublicKey>,
    /// Peers to whom a path is looked for.
    meeting: BTreeSet<PublicKey>,
    /// The swarms by which we were introduced to those.
    introduced: BTreeMap<PublicKey, BTreeSet<SwarmId>>,
    /// How our NAT behaves.
    nat: Nat,
    /// Whether our router lets peers in.
    port: PortState,
    /// Whether trackers are told of our shares yet.
    gate: Gate,
    /// Codes for links, of ours and of others.
    codes: Codes,
    /// Shares of which newer versions come, ours and others.
    follows: Follows,
    /// Who wants shares that cannot be looked at yet.
    waiting: Vec<(SwarmId, Wanting)>,
    /// Registrations that wait for the tracker.
    unlinked: Vec<Hashed>,
    /// How fast we send and receive.
    manners: Manners,
    share_limits: BTreeMap<SwarmId, SpeedLimit>,
    disk_jobs: Arc<Semaphore>,
    /// Which files are looked at next.
    looks: looking::Looks,
    /// Which shares are read again.
    rereads: rereading::Rereads,
    /// Who wants to know everything.
    listeners: watching::Listeners,
    counter: u64,
    next_tick: Instant,
    /// When to look again for a peer to let go of.
    next_release: Instant,
    /// Why the daemon cannot go on.
    fatal: Option<ApiError>,
}

impl Node {
    /// A node without shares, whose own tracker is at `address`.
    pub(crate) fn new(config: NodeConfig, me: NodeSender, own: OwnTracker) -> Node {
        let now = Instant::now();
        let mut node = Node {
            config,
            me,
            trackers: BTreeMap::new(),
            shares: BTreeMap::new(),
            engine: Engine::new(now, rand::rng().random()),
            uploads: BTreeMap::new(),
            active: BTreeSet::new(),
            peers: BTreeMap::new(),
            drained: BTreeMap::new(),
            relayed_by: BTreeMap::new(),
            meeting: BTreeSet::new(),
            introduced: BTreeMap::new(),
            nat: Nat::default(),
            port: PortState::default(),
            gate: Gate::Closed(None),
            codes: Codes::default(),
            follows: Follows::default(),
            waiting: Vec::new(),
            unlinked: Vec::new(),
            manners: Manners::default(),
            share_limits: BTreeMap::new(),
            disk_jobs: Arc::new(Semaphore::new(DISK_JOBS)),
            looks: looking::Looks::new(now),
            rereads: rereading::Rereads::default(),
            listeners: watching::Listeners::default(),
            counter: 0,
            next_tick: now,
            next_release: now,
            fatal: None,
        };
        node.watch_budget();
        node.start_own_tracker(own);
        node
    }

    /// Works until it is stopped, then brings everything to rest.
    ///
    /// # Errors
    ///
    /// When it cannot go on.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::Receiver<NodeEvent>,
        mut notifier: Notifier,
    ) -> Result<(), ApiError> {
        let mut batch = Vec::with_capacity(BATCH);
        let stop = self.config.stop.clone();
        loop {
            let due = tokio::time::Instant::from_std(self.deadline());
            tokio::select! {
                () = stop.cancelled() => break,
                _ = events.recv_many(&mut batch, BATCH) => (),
                () = tokio::time::sleep_until(due) => (),
            }
            for event in batch.drain(..) {
                self.handle(event);
            }
            let now = Instant::now();
            self.advance(now);
            notifier.alive(now, || self.status_line());
        }
        events.close();
        // Before what takes a while: from now on nobody says that it is alive.
        notifier.stopping();
        self.shut_down().await;
        self.fatal.map_or(Ok(()), Err)
    }

    fn handle(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Command(command) => self.handle_command(command),
            NodeEvent::Hashed(hashed) => self.handle_hashed(*hashed),
            NodeEvent::Registered(registration) => self.handle_registered(*registration),
            NodeEvent::Tracker { tracker, event } => self.handle_tracker(tracker, event),
            NodeEvent::PeerConnected(connection) => self.handle_connected(connection),
            NodeEvent::PeerConnecting(connection) => self.handle_connecting(connection),
            NodeEvent::Path(news) => self.handle_path(news),
            NodeEvent::Port(news) => self.handle_port(news),
            NodeEvent::PeerSaid {
                peer,
                session,
                message,
            } => self.handle_peer_message(peer, session, message),
            NodeEvent::PeerClosed { peer, session } => self.handle_closed(peer, session),
            NodeEvent::Share {
                swarm,
                epoch,
                event,
            } => self.handle_share(swarm, epoch, event),
            NodeEvent::Asked(asked) => self.handle_asked(asked),
            NodeEvent::Sent { upload, bytes } => self.handle_sent(upload, bytes),
            NodeEvent::Answered { upload } => self.handle_answered(upload),
            NodeEvent::Differing { offer, files } => self.handle_differing(&offer, &files),
            NodeEvent::Reread(finished) => self.handle_reread(*finished),
            NodeEvent::Looked(took) => self.looks.end(Instant::now(), took),
            NodeEvent::OfferBroken { offer, error } => self.handle_broken(&offer, &error),
        }
    }

    fn handle_share(&mut self, swarm: SwarmId, epoch: Epoch, event: ShareEvent) {
        self.take_in_share(swarm, epoch, event);
        self.serve_waiting(swarm);
    }

    fn take_in_share(&mut self, swarm: SwarmId, epoch: Epoch, event: ShareEvent) {
        let current = self.shares.get(&swarm).map(|share| share.epoch);
        match event {
            ShareEvent::Opened(result) if current.is_none() => self.discard_opened(swarm, result),
            ShareEvent::Chosen { asker, .. } if current != Some(epoch) => self.drop_chosen(asker),
            ShareEvent::Checked { wanting, .. } if current != Some(epoch) => {
                self.want_of_others(swarm, wanting);
            }
            ShareEvent::Relocated { watcher, .. } if current != Some(epoch) => {
                report::tell_last(watcher, crate::share::depot::removed().into());
            }
            _ if current != Some(epoch) => (),
            ShareEvent::Opened(result) => self.handle_opened(swarm, result),
            ShareEvent::Learnt { peer, result } => self.handle_learnt(swarm, peer, result),
            ShareEvent::Received {
                request,
                bytes,
                reach,
            } => self.handle_received(swarm, request, (bytes, reach)),
            ShareEvent::Passable { request } => {
                self.tell_engine(engine::Event::Passable { swarm, request });
            }
            ShareEvent::Fetched { request, outcome } => {
                self.handle_fetched(swarm, request, outcome);
            }
            ShareEvent::SyncFailed(error) => self.stop_share(swarm, error, Stopping::Paused),
            ShareEvent::Checked { wanting, result } => self.handle_checked(swarm, wanting, result),
            ShareEvent::Relocated { result, watcher } => {
                self.handle_relocated(swarm, result, watcher);
            }
            ShareEvent::MovedOver { result, offer } => {
                self.handle_moved_over(swarm, result, offer);
            }
            ShareEvent::Chosen { result, asker } => self.handle_chosen(swarm, result, asker),
            ShareEvent::Finished(result) => self.handle_finished(swarm, result),
            ShareEvent::Exchanged(result) => self.handle_exchanged(swarm, result),
        }
    }

    fn handle_broken(&mut self, offer: &Arc<Offer>, error: &Arc<StoreError>) {
        if !self.is_offered(offer) {
            return;
        }
        let share = self.shares.get(&offer.swarm);
        let is_complete = share.and_then(looking::looked_at).is_some();
        let is_changed = matches!(**error, StoreError::Changed { .. });
        if is_changed && is_complete && offer.may_be_touched() {
            return self.look_at(offer);
        }
        let explained = ApiError::from(&**error);
        tracing::warn!(error = %explained, "a share is no longer served");
        let stopping = match Unserved::Broken(error.clone()).reason() {
            NoReason::Changed => Stopping::Changed,
            _ => Stopping::Paused,
        };
        self.stop_share(offer.swarm, explained, stopping);
    }

    /// Whether this is what others may ask of the share now.
    fn is_offered(&self, offer: &Arc<Offer>) -> bool {
        let share = self.shares.get(&offer.swarm);
        let ours = share.and_then(Share::offer);
        ours.is_some_and(|ours| Arc::ptr_eq(ours, offer))
    }

    /// Does what is due, and whatever the events have made possible.
    fn advance(&mut self, now: Instant) {
        self.carry_out_all(now);
        for swarm in self.active.clone() {
            self.advance_share(swarm);
        }
        self.end_drained(now);
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.tick(now);
        }
    }

    fn tick(&mut self, now: Instant) {
        self.watch_gate(now);
        self.drop_strangers(now);
        self.limit_peers();
        self.watch_budget();
        self.config.memory.sends.end_overdue(now);
        self.release_former(now);
        if let Some(relay) = &self.config.relay {
            relay.expire(now);
        }
        self.seek_introductions(now);
        self.link_registrations();
        self.watch_codes(now);
        self.watch_asked(now);
        self.watch_followed(now);
        self.ask_again(now);
        self.end_previews();
        self.end_expired();
        self.count_silent(now);
        self.look_around(now);
        self.reread(now);
        self.show_progress(now);
        self.tell_news(now);
    }

    fn deadline(&self) -> Instant {
        let engine = self.engine.deadline().into_iter();
        engine
            .chain(self.drain_deadline())
            .min()
            .map_or(self.next_tick, |due| due.min(self.next_tick))
    }

    /// A number that was not used before.
    fn next_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    async fn shut_down(&mut self) {
        self.trackers.clear();
        let writers = self.shares.values().filter_map(downloads::writer_of);
        let writers: Vec<_> = writers.collect();
        self.shares.clear();
        let depot = self.config.depot.clone();
        let resting = tokio::task::spawn_blocking(move || {
            writers.iter().for_each(|writer| depot.rest(writer));
        });
        // A panic in there loses nothing: the next start reads everything again.
        let _ = resting.await;
        self.peers.clear();
        self.drained.clear();
        self.config.endpoint.close(crate::peer::Close::Done.code());
    }
}

/// Why a share stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    /// The disk refused; asking for it again goes on.
    Paused,
    /// Its files are no longer what was shared.
    Changed,
}
