//! Connections with peers, and the swarms joined on them.
//!
//! On a connection each swarm is joined by itself: both sides prove that they know the content id,
//! the one that wants something first. Only then is anything said about the share, but for this: of a
//! seed of a public share the first chunks are asked in the same breath, see [`Node::presume`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use warren_net::{Class, Connection};
use warren_proto::content::Run;
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::limits;
use warren_proto::proof::{self, Proof, Side};
use warren_proto::transfer::{self, Reach};
use warren_proto::wire::{Bounded, MemberState, PeerMessage};

use super::Node;
use super::paths::{Drained, Upgrade};
use crate::control::model::PeerPath;
use crate::peer::session::{self, SessionId};
use crate::peer::{Close, Common, path_of};
use crate::punch::Kept;
use crate::share::offer::Offer;
use crate::share::{Phase, Share};

/// Peers connected at once, over all shares.
const PEERS: usize = 256;

/// Messages that may wait for a peer. News is batched every 10 ms, so this is ten seconds in which
/// it reads nothing.
const MESSAGES: usize = 1024;

/// How long a peer may stay that has joined no swarm with us, or only some that both have complete.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(20);

/// Joins for swarms that we are not in, or with a wrong proof, after which a peer is guessing.
const REFUSALS: u32 = 256;

/// A connected peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) session: SessionId,
    pub(super) connection: Connection,
    pub(super) common: Arc<Common>,
    out: mpsc::Sender<PeerMessage>,
    joints: BTreeMap<SwarmId, Joint>,
    next_alias: u32,
    refusals: u32,
    /// Since when it is of no use to us, nor we to it.
    stranger_since: Option<Instant>,
    /// Its path does not answer.
    silent: bool,
    /// Since when there is this connection.
    pub(super) since: Instant,
    /// When a better path is looked for.
    pub(super) upgrade: Upgrade,
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
    is_source: bool,
}

impl Joint {
    fn is_joined(&self) -> bool {
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
        match self.connection.class() {
            Class::Direct => Reach::Direct,
            Class::Relay => Reach::Relayed,
        }
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
    fn say(&self, message: PeerMessage) -> bool {
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

    fn proof(&self, share: &Share, side: Side, key: &PublicKey) -> Proof {
        let exporter = self.connection.exporter(&share.swarm().0);
        let record = &share.record;
        proof::prove(&record.id, record.secret.as_ref(), &exporter, side, key)
    }

    /// Forgets the swarm here; true when it was joined.
    fn unjoin(&mut self, swarm: &SwarmId) -> bool {
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

impl Node {
    /// Whether one more peer may be connected.
    pub(super) fn has_room(&self) -> bool {
        self.peers.len() + self.meeting.len() < PEERS
    }

    /// A peer is about to prove its key. What we want can be said to it already, unless there is
    /// another connection with it: nobody may end that before they have proven who they are.
    pub(super) fn handle_connecting(&mut self, connection: Connection) {
        let key = connection.peer_key();
        if !self.peers.contains_key(&key) && self.may_connect(&connection) {
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
        if !self.may_connect(&connection) || self.is_superfluous(&connection) {
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

    /// Whether the lower key has dialled, and there is room.
    fn may_connect(&self, connection: &Connection) -> bool {
        let key = connection.peer_key();
        let lower_dialled = match connection.side() {
            Side::Client => self.config.key < key,
            Side::Server => key < self.config.key,
        };
        lower_dialled && (self.peers.contains_key(&key) || self.peers.len() < PEERS)
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
        session
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
        let kept = self.config.punch.keep(Kept {
            session,
            connection: connection.clone(),
            common,
        });
        if !kept {
            // Its session ends at once, and says so.
            connection.close(Close::Refused.code(), Close::Refused.reason());
        }
    }

    fn start_session(&mut self, connection: Connection) -> Peer {
        let session = SessionId(self.next_number());
        let (out, queue) = mpsc::channel(MESSAGES);
        let common = Arc::<Common>::default();
        let (shared, node) = (common.clone(), self.me.clone());
        tokio::spawn(session::run(
            connection.clone(),
            session,
            shared,
            queue,
            node,
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
            upgrade: Upgrade::new(Instant::now()),
        }
    }

    pub(super) fn handle_closed(&mut self, key: PublicKey, session: SessionId) {
        if self
            .peers
            .get(&key)
            .is_some_and(|peer| peer.session == session)
        {
            tracing::debug!(peer = %key, "peer gone");
            self.drop_peer(key, Close::Done);
        }
        self.handle_drained_closed(key, session);
    }

    /// Ends the connection with a peer and whatever was under way on it.
    pub(super) fn drop_peer(&mut self, key: PublicKey, close: Close) {
        let Some(peer) = self.peers.remove(&key) else {
            return;
        };
        peer.connection.close(close.code(), close.reason());
        self.drained.remove(&key).into_iter().for_each(Drained::end);
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

    /// Sends our proof for the swarm, unless that was done or the peer is not connected.
    pub(super) fn join_if_connected(&mut self, key: PublicKey, swarm: SwarmId) {
        let (Some(share), Some(peer)) = (self.shares.get(&swarm), self.peers.get_mut(&key)) else {
            return;
        };
        let joint = peer.joints.entry(swarm).or_default();
        if joint.ours.is_some() || share.banned.contains(&key) {
            return;
        }
        let alias = peer.next_alias;
        peer.next_alias = peer.next_alias.wrapping_add(1);
        joint.ours = Some(alias);
        let proof = peer.proof(share, peer.connection.side(), &self.config.key);
        let join = PeerMessage::Join {
            alias,
            swarm,
            proof,
        };
        if peer.say(join) {
            self.presume(key, swarm);
        } else {
            self.drop_peer(key, Close::TooSlow);
        }
    }

    /// Asks a seed in the same breath in which we join, a round trip before it can have told what
    /// it has.
    fn presume(&mut self, key: PublicKey, swarm: SwarmId) {
        let (Some(share), Some(peer)) = (self.shares.get_mut(&swarm), self.peers.get_mut(&key))
        else {
            return;
        };
        let known = share.members.get(&key).map(|known| known.state);
        let (Phase::Downloading(active), Some(joint)) =
            (&mut share.phase, peer.joints.get_mut(&swarm))
        else {
            return;
        };
        // The chunks we ask for say something of the share, which nobody may learn of a private one.
        let is_private = share.record.secret.is_some();
        let is_known = joint.theirs.is_some() || joint.is_source;
        if is_private || known != Some(MemberState::Seed) || is_known {
            return;
        }
        joint.is_source = true;
        let (now, rtt) = (Instant::now(), peer.connection.rtt());
        let reach = peer.reach();
        let runs = vec![Run {
            start: 0,
            count: active.writer.offer.content.layout.chunk_count(),
        }];
        for event in [
            transfer::Event::PeerJoined {
                peer: key,
                rtt,
                reach,
            },
            transfer::Event::Has { peer: key, runs },
        ] {
            // These are all chunks there are.
            let _ = active.download.handle(now, event);
        }
    }

    pub(super) fn handle_peer_message(
        &mut self,
        key: PublicKey,
        session: SessionId,
        message: PeerMessage,
    ) {
        let Some(peer) = self.peers.get(&key).filter(|peer| peer.session == session) else {
            return self.handle_late_message(key, session, message);
        };
        match message {
            PeerMessage::Join {
                alias,
                swarm,
                proof,
            } => self.handle_join(key, alias, swarm, &proof),
            PeerMessage::Refused { swarm } => self.handle_refused(key, swarm),
            PeerMessage::Describe { alias, size, name } => {
                // An alias that means nothing (any more) is no fault: it may just have ended.
                if let Some(swarm) = peer.swarm_of(alias) {
                    self.handle_described(swarm, key, size, name);
                }
            }
            PeerMessage::Have { alias, chunks } => {
                if let Some(swarm) = peer.swarm_of(alias) {
                    let runs = chunks.into_vec();
                    self.handle_news(swarm, key, |peer| transfer::Event::Has { peer, runs });
                }
            }
            PeerMessage::Lost { alias, chunks } => {
                if let Some(swarm) = peer.swarm_of(alias) {
                    let runs = chunks.into_vec();
                    self.handle_news(swarm, key, |peer| transfer::Event::Lacks { peer, runs });
                }
            }
            PeerMessage::Leave { alias } => {
                if let Some(swarm) = peer.swarm_of(alias) {
                    self.unjoin(key, &swarm);
                }
            }
            PeerMessage::Hello(_) | PeerMessage::Started { .. } => (),
        }
    }

    fn handle_join(&mut self, key: PublicKey, alias: u32, swarm: SwarmId, proof: &Proof) {
        let share = self.shares.get_mut(&swarm);
        let share =
            share.filter(|share| share.member_state().is_some() && !share.banned.contains(&key));
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let side = peer.connection.side().other();
        let Some(share) = share else {
            return self.refuse_join(key, swarm);
        };
        if peer.proof(share, side, &key) != *proof {
            tracing::debug!(peer = %key, "a peer does not know what it says it has");
            share.banned.insert(key);
            return self.refuse_join(key, swarm);
        }
        if let Some(offer) = share.offer() {
            peer.common.offer(alias, offer.clone());
        }
        let joint = peer.joints.entry(swarm).or_default();
        if let Some(before) = joint
            .theirs
            .replace(alias)
            .filter(|before| *before != alias)
        {
            peer.common.withdraw(before);
        }
        peer.stranger_since = None;
        self.join_if_connected(key, swarm);
        self.handle_joined(key, swarm);
    }

    fn refuse_join(&mut self, key: PublicKey, swarm: SwarmId) {
        self.unjoin(key, &swarm);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.refusals += 1;
        let answered = peer.say(PeerMessage::Refused { swarm });
        if !answered || peer.refusals > REFUSALS {
            self.drop_peer(key, Close::Protocol);
        }
    }

    /// Both sides have proven that they know the content.
    fn handle_joined(&mut self, key: PublicKey, swarm: SwarmId) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let (Some(alias), Some(share)) = (peer.joined(&swarm), self.shares.get_mut(&swarm)) else {
            return;
        };
        let (rtt, reach) = (peer.connection.rtt(), peer.reach());
        if share.wants() {
            peer.connection.expect_content();
        }
        let told = share
            .offer()
            .is_none_or(|offer| describe(peer, alias, offer));
        // Whoever joins anew may say so twice: what was asked of it meanwhile is still under way.
        if let (Phase::Downloading(active), Some(joint)) =
            (&mut share.phase, peer.joints.get_mut(&swarm))
            && !std::mem::replace(&mut joint.is_source, true)
        {
            let event = transfer::Event::PeerJoined {
                peer: key,
                rtt,
                reach,
            };
            // Only claims about chunks can be out of range.
            let _ = active.download.handle(Instant::now(), event);
        }
        if !told {
            self.drop_peer(key, Close::TooSlow);
        }
    }

    fn handle_refused(&mut self, key: PublicKey, swarm: SwarmId) {
        let joint = self
            .peers
            .get(&key)
            .and_then(|peer| peer.joints.get(&swarm));
        if joint.is_some_and(|joint| joint.theirs.is_none()) {
            self.unjoin(key, &swarm);
        }
        // It may only have begun to prepare its share.
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.set_back_member(&key, Instant::now());
        }
    }

    fn unjoin(&mut self, key: PublicKey, swarm: &SwarmId) {
        if self
            .peers
            .get_mut(&key)
            .is_some_and(|peer| peer.unjoin(swarm))
        {
            self.peer_left(*swarm, key);
        }
    }

    /// Leaves a swarm on one connection.
    pub(super) fn leave_on(&mut self, key: PublicKey, swarm: &SwarmId) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let ours = peer.joints.get(swarm).and_then(|joint| joint.ours);
        let told = ours.is_none_or(|alias| peer.say(PeerMessage::Leave { alias }));
        self.unjoin(key, swarm);
        if !told {
            self.drop_peer(key, Close::TooSlow);
        }
    }

    /// Leaves a swarm on all connections.
    pub(super) fn leave_on_all(&mut self, swarm: &SwarmId) {
        for key in self.peers_with(swarm) {
            self.leave_on(key, swarm);
        }
    }

    /// Joins a swarm anew on every connection where it was joined, so that both sides say from the
    /// start what they have: after a link has become a download, or files were opened anew.
    pub(super) fn rejoin(&mut self, swarm: SwarmId) {
        for key in self.peers_with(&swarm) {
            self.leave_on(key, &swarm);
            self.join_if_connected(key, swarm);
        }
    }

    fn peers_with(&self, swarm: &SwarmId) -> Vec<PublicKey> {
        let peers = self.peers.iter();
        let with = peers.filter(|(_, peer)| peer.joints.contains_key(swarm));
        with.map(|(key, _)| *key).collect()
    }

    /// Tells all peers of chunks verified since the last time.
    pub(super) fn tell_news(&mut self) {
        for swarm in self.active.clone() {
            let Some(share) = self.shares.get_mut(&swarm) else {
                continue;
            };
            let fresh = std::mem::take(&mut share.fresh);
            let single = |chunk: warren_proto::content::ChunkIndex| Run {
                start: chunk.value(),
                count: 1,
            };
            let runs = merged(fresh.into_iter().map(single).collect());
            self.tell_all(&swarm, &runs);
        }
    }

    fn tell_all(&mut self, swarm: &SwarmId, runs: &[Run]) {
        if runs.is_empty() {
            return;
        }
        let mut deaf = Vec::new();
        for (key, peer) in &self.peers {
            if let Some(alias) = peer.joined(swarm)
                && !have(peer, alias, runs)
            {
                deaf.push(*key);
            }
        }
        deaf.into_iter()
            .for_each(|key| self.drop_peer(key, Close::TooSlow));
    }
}

/// Says what the share is and what we have of it; false when the peer does not read.
fn describe(peer: &Peer, alias: u32, offer: &Offer) -> bool {
    let size = offer.described_size();
    let name = offer.content.name.as_str().to_owned();
    peer.say(PeerMessage::Describe { alias, size, name }) && have(peer, alias, &offer.runs())
}

fn have(peer: &Peer, alias: u32, runs: &[Run]) -> bool {
    let mut frames = runs.chunks(limits::RUNS_PER_FRAME);
    frames.all(|runs| {
        let chunks = Bounded::truncated(runs.iter().copied());
        peer.say(PeerMessage::Have { alias, chunks })
    })
}

/// The same chunks in as few runs as possible.
fn merged(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_unstable();
    let mut merged: Vec<Run> = Vec::new();
    for run in runs {
        match merged.last_mut() {
            Some(last) if last.start + last.count >= run.start => {
                let end = (last.start + last.count).max(run.start + run.count);
                last.count = end - last.start;
            }
            _ => merged.push(run),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_chunks_become_one_run() {
        let run = |start, count| Run { start, count };
        let scattered = vec![
            run(7, 1),
            run(3, 1),
            run(4, 1),
            run(4, 1),
            run(9, 1),
            run(8, 1),
        ];
        assert_eq!(merged(scattered), [run(3, 2), run(7, 3)]);
        assert_eq!(merged(Vec::new()), []);
    }
}
