//! Connections with peers: taken in, kept, ended.
//!
//! Not here: the swarms joined on them (`joins`), what becomes of them when paths change (`paths`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::ConnectionError;
use tokio::sync::mpsc;
use warren_net::{Class, Connection};
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::proof::{self, Proof, Side};
use warren_proto::transfer::Reach;
use warren_proto::wire::peer::RELAYS;
use warren_proto::wire::{Bounded, MemberState, PeerMessage};

use super::Node;
use super::limits::Buffers;
use super::neighbours::Idleness;
use super::paths::{Drained, Upgrade};
use super::relaying::Relaying;
use crate::control::model::PeerPath;
use crate::peer::session::{self, SessionId, Voice};
use crate::peer::{Close, Common, path_of};
use crate::punch::Kept;
use crate::share::Share;

/// Messages that may wait for a peer. News is batched every 10 ms, so this is ten seconds in which
/// it reads nothing.
const MESSAGES: usize = 1024;

/// How long a peer may stay that has joined no swarm with us, or only some that both have complete.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(20);

/// A connected peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) session: SessionId,
    pub(super) connection: Connection,
    pub(super) common: Arc<Common>,
    out: mpsc::Sender<PeerMessage>,
    pub(super) joints: BTreeMap<SwarmId, Joint>,
    pub(super) next_alias: u32,
    pub(super) refusals: u32,
    /// Since when it is of no use to us, nor we to it.
    pub(super) stranger_since: Option<Instant>,
    /// Its path does not answer.
    silent: bool,
    /// Since when there is this connection.
    pub(super) since: Instant,
    /// Its path did not answer at some time.
    pub(super) has_been_silent: bool,
    /// When a better path is looked for.
    pub(super) upgrade: Upgrade,
    /// What was said about relaying.
    pub(super) relaying: Relaying,
    /// It is in the background: what we send it is to yield.
    pub(super) is_background: bool,
    /// What it was told of us.
    pub(super) told_background: bool,
    /// What QUIC holds for it.
    pub(super) buffers: Buffers,
    /// Since when nothing moves.
    pub(super) idleness: Idleness,
}

/// A swarm on one connection: joined once both aliases are there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Joint {
    /// Our number for it, once we have sent our proof.
    pub(super) ours: Option<u32>,
    /// The peer's, once we have verified its proof.
    pub(super) theirs: Option<u32>,
    /// The download knows of the peer and may ask it: of a seed before it has proven anything, since
    /// what it gives is verified in any case.
    pub(super) is_source: bool,
}

impl Joint {
    /// Whether both sides have proven that they know the content.
    pub(super) fn is_joined(&self) -> bool {
        self.ours.is_some() && self.theirs.is_some()
    }
}

impl Peer {
    /// How it is reached.
    pub(super) fn path(&self) -> PeerPath {
        match self.reach() {
            Reach::Direct => path_of(self.connection.remote_address().ip()),
            Reach::Relayed => PeerPath::Relay,
        }
    }

    /// Whether it is reached through a tracker.
    pub(super) fn reach(&self) -> Reach {
        reach_of(self.connection.class())
    }

    /// The swarms that a connection which takes over has to know of, none joined yet; the download
    /// goes on knowing the peer.
    pub(super) fn sources(&self) -> BTreeMap<SwarmId, Joint> {
        let fresh = |joint: &Joint| Joint {
            is_source: joint.is_source,
            ..Joint::default()
        };
        let joints = self.joints.iter();
        joints.map(|(swarm, it)| (*swarm, fresh(it))).collect()
    }

    /// The swarms of which we have sent our proof.
    pub(super) fn joined_by_us(&self) -> impl Iterator<Item = SwarmId> {
        let joints = self.joints.iter();
        let ours = joints.filter(|(_, joint)| joint.ours.is_some());
        ours.map(|(swarm, _)| *swarm)
    }

    /// Whether its path answers.
    pub(super) fn is_heard(&self) -> bool {
        !self.silent
    }

    /// Notes that its path does not answer, or does again.
    pub(super) fn set_silent(&mut self, silent: bool) {
        self.silent = silent;
        self.has_been_silent |= silent;
    }

    /// Our number for the swarm, when we may ask the peer for chunks.
    pub(super) fn asks_as(&self, swarm: &SwarmId) -> Option<u32> {
        let joint = self.joints.get(swarm)?;
        let may = joint.is_joined() || joint.is_source;
        joint.ours.filter(|_| may)
    }

    /// Our number for the swarm, when both sides have joined it.
    pub(super) fn joined(&self, swarm: &SwarmId) -> Option<u32> {
        let joint = self.joints.get(swarm).filter(|joint| joint.is_joined())?;
        joint.ours
    }

    pub(super) fn swarm_of(&self, alias: u32) -> Option<SwarmId> {
        let mut joints = self.joints.iter();
        let its = |(_, joint): &(&SwarmId, &Joint)| joint.theirs == Some(alias);
        joints.find(its).map(|(swarm, _)| *swarm)
    }

    /// Queues a message; false when the peer does not read what it is sent.
    pub(super) fn say(&self, message: PeerMessage) -> bool {
        self.out.try_send(message).is_ok()
    }

    /// Says that we have nothing new, as if the path were another than before; false when the peer
    /// does not read.
    pub(super) fn nudge(&self) -> bool {
        self.connection.path_changed();
        self.say_nothing_new()
    }

    /// Says that we have nothing new; false when the peer does not read.
    pub(super) fn say_nothing_new(&self) -> bool {
        self.say(PeerMessage::Have {
            alias: self
                .joints
                .values()
                .find_map(|joint| joint.ours)
                .unwrap_or_default(),
            chunks: Bounded::new(),
        })
    }

    /// What the holder of `key`, on that side of the connection, proves that it knows the share with.
    pub(super) fn proof(&self, share: &Share, side: Side, key: &PublicKey) -> Proof {
        let exporter = self.connection.exporter(&share.swarm().0);
        let record = &share.record;
        proof::prove(&record.id, record.secret.as_ref(), &exporter, side, key)
    }

    /// Forgets the swarm here; true when it was joined.
    pub(super) fn unjoin(&mut self, swarm: &SwarmId) -> bool {
        let Some(joint) = self.joints.remove(swarm) else {
            return false;
        };
        if let Some(theirs) = joint.theirs {
            self.common.withdraw(theirs);
        }
        let none_left = self.joints.values().all(|joint| joint.theirs.is_none());
        if none_left {
            self.stranger_since.get_or_insert_with(Instant::now);
        }
        joint.is_joined() || joint.is_source
    }
}

/// How a peer is reached whose connection is of this class.
pub(super) fn reach_of(class: Class) -> Reach {
    match class {
        Class::Direct => Reach::Direct,
        Class::Relay => Reach::Relayed,
    }
}

impl Node {
    /// Whether one more peer may be connected.
    pub(super) fn has_room(&self) -> bool {
        self.peers.len() + self.meeting.len() < self.config.memory.peers()
    }

    /// A peer is about to prove its key. Of the swarm by which we were introduced can be said already
    /// what we want, unless there is another connection with it: nobody may end that before they have
    /// proven who they are.
    pub(super) fn handle_connecting(&mut self, connection: Connection) {
        let key = connection.peer_key();
        if !self.peers.contains_key(&key) && self.may_connect(&key) {
            self.take_in(connection);
        }
    }

    pub(super) fn handle_connected(&mut self, connection: Connection) {
        let key = connection.peer_key();
        self.meeting.remove(&key);
        let begun = |peer: &&Peer| peer.connection.is_same(&connection);
        if let Some(session) = self.peers.get(&key).filter(begun).map(|it| it.session) {
            return self.handle_proven(connection, session);
        }
        if !self.may_connect(&key) || self.is_superfluous(&connection) {
            connection.close(Close::Refused.code(), Close::Refused.reason());
            return;
        }
        let session = match self.takes_over(&connection) {
            true => self.take_over(connection.clone()),
            false => {
                self.drop_peer(key, Close::Replaced);
                self.take_in(connection.clone())
            }
        };
        self.handle_proven(connection, session);
    }

    fn may_connect(&self, key: &PublicKey) -> bool {
        self.peers.contains_key(key) || self.peers.len() < self.config.memory.peers()
    }

    /// Starts to speak on a connection.
    pub(super) fn take_in(&mut self, connection: Connection) -> SessionId {
        self.take_in_with(connection, BTreeMap::new())
    }

    /// The same, with what is known of the peer from another connection.
    pub(super) fn take_in_with(
        &mut self,
        connection: Connection,
        known: BTreeMap<SwarmId, Joint>,
    ) -> SessionId {
        let key = connection.peer_key();
        let mut peer = self.start_session(connection);
        peer.joints = known;
        let session = peer.session;
        self.peers.insert(key, peer);
        self.set_background(key);
        self.join_wanted(key);
        session
    }

    /// Joins what we want of a peer, as far as that may be said yet.
    fn join_wanted(&mut self, key: PublicKey) {
        let wanted = |share: &&Share| share.wants() && share.members.contains_key(&key);
        let swarms: Vec<_> = self
            .shares
            .values()
            .filter(wanted)
            .map(Share::swarm)
            .collect();
        swarms
            .into_iter()
            .for_each(|swarm| self.join_if_connected(key, swarm));
    }

    /// The peer has proven its key: from now on it is listened to, and its path kept.
    fn handle_proven(&mut self, connection: Connection, session: SessionId) {
        let key = connection.peer_key();
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.connection = connection.clone();
        tracing::debug!(peer = %key, path = peer.path().word(), "peer connected");
        peer.common.prove();
        let common = peer.common.clone();
        self.introduced.remove(&key);
        self.join_wanted(key);
        let kept = self.config.punch.keep(Kept {
            session,
            connection: connection.clone(),
            common,
        });
        if !kept {
            // Its session ends at once, and says so.
            connection.close(Close::Refused.code(), Close::Refused.reason());
        }
        self.seat(key);
    }

    fn start_session(&mut self, connection: Connection) -> Peer {
        let session = SessionId(self.next_number());
        let (out, queue) = mpsc::channel(MESSAGES);
        let common = Arc::<Common>::default();
        let shared = common.clone();
        let voice = Voice {
            features: match self.config.relay {
                Some(_) => RELAYS,
                None => 0,
            },
            node: self.me.clone(),
            pace: self.config.pace.clone(),
            memory: self.config.memory.clone(),
        };
        tokio::spawn(session::run(
            connection.clone(),
            session,
            shared,
            queue,
            voice,
        ));
        Peer {
            session,
            connection,
            common,
            out,
            joints: BTreeMap::new(),
            next_alias: 0,
            refusals: 0,
            stranger_since: Some(Instant::now()),
            silent: false,
            since: Instant::now(),
            has_been_silent: false,
            upgrade: Upgrade::new(Instant::now()),
            relaying: Relaying::default(),
            is_background: false,
            told_background: false,
            buffers: Buffers::default(),
            idleness: Idleness::new(Instant::now()),
        }
    }

    pub(super) fn handle_closed(&mut self, key: PublicKey, session: SessionId) {
        if self
            .peers
            .get(&key)
            .is_some_and(|peer| peer.session == session)
        {
            tracing::debug!(peer = %key, "peer gone");
            self.drop_gone(key);
        }
        self.handle_drained_closed(key, session);
        self.end_uploads(session);
    }

    /// Lets go of a peer whose connection has ended. One that was started anew is met at once.
    fn drop_gone(&mut self, key: PublicKey) {
        let peer = self.peers.get(&key);
        let ended = peer.and_then(|peer| peer.connection.quinn().close_reason());
        self.drop_peer(key, Close::Done);
        if ended == Some(ConnectionError::Reset) {
            let now = Instant::now();
            for share in self.shares.values_mut() {
                share.meet_anew(&key, now);
            }
            self.next_tick = now;
        }
    }

    /// Ends the connection with a peer and whatever was under way on it.
    pub(super) fn drop_peer(&mut self, key: PublicKey, close: Close) {
        let Some(peer) = self.peers.remove(&key) else {
            return;
        };
        peer.connection.close(close.code(), close.reason());
        self.drained.remove(&key).into_iter().for_each(Drained::end);
        self.unseat(&key);
        self.relayed_by.remove(&key);
        self.lose_relayer(key);
        let now = Instant::now();
        for swarm in peer.joints.keys() {
            self.peer_left(*swarm, key);
            if let Some(share) = self.shares.get_mut(swarm) {
                share.retry_member(&key, now);
            }
        }
    }

    /// Ends connections that have nothing in common with us, or nothing more to give or take.
    pub(super) fn drop_strangers(&mut self, now: Instant) {
        for (key, peer) in &mut self.peers {
            let mut joined = peer.joints.iter().filter(|(_, joint)| joint.is_joined());
            let useful = |share: &Share| {
                let known = share.members.get(key);
                share.wants() || known.is_none_or(|known| known.state != MemberState::Seed)
            };
            if joined.any(|(swarm, _)| self.shares.get(swarm).is_some_and(useful)) {
                peer.stranger_since = None;
            } else {
                peer.stranger_since.get_or_insert(now);
            }
        }
        let is_old = |since: Instant| now.duration_since(since) >= STRANGER_TIMEOUT;
        let strangers = self.peers.iter();
        let strangers = strangers.filter(|(_, peer)| peer.stranger_since.is_some_and(is_old));
        let strangers: Vec<PublicKey> = strangers.map(|(key, _)| *key).collect();
        strangers
            .into_iter()
            .for_each(|key| self.drop_peer(key, Close::Done));
    }
}
