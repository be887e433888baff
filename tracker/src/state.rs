//! All that a tracker knows, behind one short lock: who is connected, and the machines that decide.
//!
//! Sessions bring what their daemon said ([`State::handle`]) and get back what to answer. News for
//! other daemons goes straight into their queues, which never waits: a daemon whose queue is full
//! has stopped listening and is disconnected.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

use warren_net::{Link, Relayed};
use warren_proto::code::Nameplates;
use warren_proto::follow::{Heads, Heard};
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::limits::PEERS_PER_ANSWER;
use warren_proto::swarm::{
    IntroduceError, Introducer, News, Site, Situation, SwarmConfig, SwarmTable,
};
use warren_proto::wire::{
    AddressToken, Bounded, CodeRequest, FollowRequest, FromTracker, MemberState, NatFiltering,
    NatMapping, Paths, Rendezvous, SessionName, ToTracker,
};

use crate::followup::Followup;
use crate::proofs::{Proof, Proofs};
use crate::relay::Relay;
use crate::session::Close;

/// Seconds after which a daemon whose announce hit a cap may try again.
const REFUSED_RETRY_S: u32 = 60;

/// Daemons that can reconnect per second without each waiting for the others: a handshake takes
/// 0.8 ms of CPU, and this leaves half of it.
const RECONNECTS_PER_S: usize = 500;

/// Tells one session of a daemon from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionId(u64);

/// The state of a tracker.
pub(crate) struct State {
    tables: Mutex<Tables>,
    relay: Relay,
    proofs: Arc<Proofs>,
}

/// What is decided about swarms and introductions. Locked before the relay, never after it.
struct Tables {
    swarms: SwarmTable,
    introducer: Introducer,
    followup: Followup,
    codes: Nameplates,
    heads: Heads,
    sessions: BTreeMap<PublicKey, Session>,
    next_session: u64,
}

/// A connected daemon.
struct Session {
    id: SessionId,
    link: Link,
    /// Where it began its handshake, and has shown by completing it that it receives.
    from: IpAddr,
    /// What it calls itself where it proves another address.
    name: SessionName,
    proof: Option<Proof>,
    news: mpsc::Sender<FromTracker>,
    situation: Situation,
}

impl Session {
    /// Whether it is seen at another IP address than when it connected.
    fn has_moved(&self) -> bool {
        self.observed().is_none()
    }

    /// Where the daemon is seen; `None` if that is another IP address than it has proven to be at.
    /// QUIC goes by the last packet, and whoever writes a source address could point others there.
    fn observed(&self) -> Option<SocketAddr> {
        proven(&self.link, self.from)
    }
}

impl State {
    pub(crate) fn new(config: SwarmConfig, relay: Relay, proofs: Arc<Proofs>) -> Self {
        let tables = Mutex::new(Tables {
            swarms: SwarmTable::new(config, rand::random()),
            introducer: Introducer::new(rand::random()),
            followup: Followup::default(),
            codes: Nameplates::default(),
            heads: Heads::default(),
            sessions: BTreeMap::new(),
            next_session: 0,
        });
        Self {
            tables,
            relay,
            proofs,
        }
    }

    /// How many daemons are connected, and how many swarms they are in.
    pub(crate) fn population(&self) -> (usize, usize) {
        let tables = self.lock();
        (tables.sessions.len(), tables.swarms.swarm_count())
    }

    /// What passes datagrams between daemons.
    pub(crate) fn relay(&self) -> &Relay {
        &self.relay
    }

    /// A daemon has connected; its news go to `news`. An older connection of the same daemon is
    /// closed: it knows better than we do which of the two is alive. The daemon leaves all its
    /// swarms with it: it may be a new process, with which the others must meet anew, and its next
    /// announce tells them so. `from` is where it began its handshake, and `name` what this connection is
    /// called; returned is also what it will have relayed on this connection.
    pub(crate) fn connect(
        &self,
        link: &Link,
        (from, name): (IpAddr, SessionName),
        news: mpsc::Sender<FromTracker>,
    ) -> (SessionId, Option<mpsc::Receiver<Relayed>>) {
        let mut tables = self.lock();
        let id = SessionId(tables.next_session);
        tables.next_session += 1;
        let peer = link.peer_key();
        // What is relayed goes on by the new connection. To a new process it means nothing, which
        // that says by itself.
        if let Some(older) = tables.end_session(peer) {
            Close::Replaced.apply(&older.link);
        }
        let situation = first_situation(link);
        tables.introducer.situation(peer, situation.clone());
        let session = Session {
            id,
            link: link.clone(),
            from,
            name,
            proof: None,
            news,
            situation,
        };
        tables.sessions.insert(peer, session);
        (id, self.relay.connect(link, from))
    }

    /// A session has ended. Unless another has replaced it, the daemon leaves all its swarms.
    pub(crate) fn disconnect(&self, peer: PublicKey, id: SessionId) {
        let mut tables = self.lock();
        if tables.is_current(&peer, id) {
            tables.end_session(peer);
            self.relay.disconnect(&peer);
        }
    }

    /// Takes in what a daemon said and returns what to answer, in order; `None` if the session is
    /// not the daemon's current one, or over since the daemon has moved.
    pub(crate) fn handle(
        &self,
        now: Instant,
        peer: PublicKey,
        id: SessionId,
        message: ToTracker,
    ) -> Option<Vec<FromTracker>> {
        let mut tables = self.lock();
        if !tables.is_current(&peer, id) || !tables.refresh_situation(now, peer) {
            return None;
        }
        Some(match message {
            // An echo is answered by a packet and not on the stream.
            ToTracker::Hello(_) | ToTracker::Echo { .. } => Vec::new(),
            ToTracker::Announce {
                swarm,
                state,
                introductions,
            } => {
                let asked = (swarm, state, introductions);
                tables.announce(now, peer, asked, &self.relay)
            }
            ToTracker::Leave { swarm } => {
                tables.leave(peer, swarm);
                Vec::new()
            }
            ToTracker::Situation {
                candidates,
                mapping,
                filtering,
                paths,
            } => {
                if let Some(session) = tables.sessions.get_mut(&peer) {
                    session.situation.candidates = candidates;
                    session.situation.mapping = mapping;
                    session.situation.filtering = filtering;
                    session.situation.paths = paths;
                }
                Vec::new()
            }
            ToTracker::Introduce { swarm, peer: other } => {
                tables.introduce_on_request(now, swarm, (peer, other), &self.relay)
            }
            ToTracker::Prove { address, token } => {
                tables.prove(now, peer, (address, token), &self.proofs);
                Vec::new()
            }
            ToTracker::Trickle { id, port, mapping } => {
                tables.pass_on(now, peer, (id, port, mapping));
                Vec::new()
            }
            ToTracker::Outcome {
                id,
                technique,
                success,
            } => {
                let came_to = (technique, success);
                tables.followup.outcome(now, &peer, &id, came_to);
                Vec::new()
            }
            ToTracker::Code(request) => tables.handle_code(now, peer, request),
            ToTracker::Follow(request) => {
                return self.handle_follow(tables, now, (peer, id), request);
            }
        })
    }

    /// Takes in what a daemon says about followable shares. While a signature is looked at, others go on.
    fn handle_follow<'a>(
        &'a self,
        mut tables: MutexGuard<'a, Tables>,
        now: Instant,
        (peer, id): (PublicKey, SessionId),
        request: FollowRequest,
    ) -> Option<Vec<FromTracker>> {
        let from = tables.sessions.get(&peer)?.from;
        let mail = match tables.heads.handle(now, (peer, from), request) {
            Heard::Mail(mail) => mail,
            Heard::Claim(claim) => {
                drop(tables);
                let verified = claim.verify();
                tables = self.lock();
                tables.heads.handle_verified(now, verified)
            }
        };
        let answers = tables.pass(peer, mail, FromTracker::Follow);
        tables.is_current(&peer, id).then_some(answers)
    }

    /// Where else a daemon is, unless the session is over.
    pub(crate) fn proven(&self, peer: PublicKey, id: SessionId) -> Option<SocketAddr> {
        let tables = self.lock();
        let session = tables.sessions.get(&peer).filter(|it| it.id == id)?;
        session.proof?.address(Instant::now())
    }

    /// Ends the memberships whose time is up.
    pub(crate) fn expire(&self, now: Instant) {
        self.relay.expire(now);
        let mut tables = self.lock();
        let news = tables.swarms.expire(now);
        tables.tell_all(news);
        let mail = tables.codes.expire(now);
        tables.deliver(mail, FromTracker::Code);
        let mail = tables.heads.expire(now);
        tables.deliver(mail, FromTracker::Follow);
    }

    /// How long a daemon should wait before it connects again after a loss, so that all of them
    /// do not come back at once.
    pub(crate) fn retry_after_s(&self) -> u32 {
        let sessions = self.lock().sessions.len();
        u32::try_from(1 + sessions / RECONNECTS_PER_S).unwrap_or(u32::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // A panic in one session must not end the others; the machines keep their own indexes
        // consistent between any two calls.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl Tables {
    fn is_current(&self, peer: &PublicKey, id: SessionId) -> bool {
        self.sessions
            .get(peer)
            .is_some_and(|session| session.id == id)
    }

    /// Ends a daemon's session, if it has one, and its memberships, and tells the others.
    fn end_session(&mut self, peer: PublicKey) -> Option<Session> {
        let session = self.sessions.remove(&peer)?;
        if session.has_moved() {
            self.introducer.moved(peer);
        }
        self.introducer.forget(peer);
        let news = self.swarms.disconnect(peer);
        self.tell_all(news);
        let mail = self.codes.disconnected(Instant::now(), &peer);
        self.deliver(mail, FromTracker::Code);
        self.heads.disconnected(Instant::now(), &peer);
        Some(session)
    }

    fn announce(
        &mut self,
        now: Instant,
        peer: PublicKey,
        (swarm, state, introductions): (SwarmId, MemberState, u8),
        relay: &Relay,
    ) -> Vec<FromTracker> {
        let situation = self.sessions.get(&peer).map(|it| &it.situation);
        let site = situation.map(Site::of).unwrap_or_default();
        let outcome = self.swarms.announce(now, swarm, (peer, site), state);
        if outcome.refused {
            return vec![FromTracker::Busy {
                retry_after_s: REFUSED_RETRY_S,
            }];
        }
        self.tell_all(outcome.news);
        let sample = self.swarms.sample(swarm, &peer, PEERS_PER_ANSWER);
        let to_meet: Vec<PublicKey> = sample
            .iter()
            .take(usize::from(introductions))
            .map(|member| member.peer)
            .collect();
        let mut answers = vec![FromTracker::Peers {
            swarm,
            seeds: outcome.seeds,
            leeches: outcome.leeches,
            sample: Bounded::truncated(sample),
        }];
        // A pair that met a moment ago, or a quota that is used up, is no fault: the announce
        // asked for up to so many.
        for other in to_meet {
            let introduced = self.introduce(now, swarm, (peer, other), relay);
            answers.extend(introduced.into_iter().flatten());
        }
        answers
    }

    fn leave(&mut self, peer: PublicKey, swarm: SwarmId) {
        let news = self.swarms.leave(swarm, peer);
        self.tell_all(news);
    }

    fn introduce_on_request(
        &mut self,
        now: Instant,
        swarm: SwarmId,
        (peer, other): (PublicKey, PublicKey),
        relay: &Relay,
    ) -> Vec<FromTracker> {
        if !self.swarms.contains(swarm, peer) || !self.swarms.contains(swarm, other) {
            return vec![FromTracker::NoSuchPeer { swarm, peer: other }];
        }
        if relay.is_on() && self.send_away_moved([peer, other]) {
            return Vec::new();
        }
        match self.introduce(now, swarm, (peer, other), relay) {
            Ok(answers) => answers,
            // After a moment ago, the earlier rendezvous still stands.
            Err(IntroduceError::TooSoon { wait } | IntroduceError::TooMany { wait, .. }) => {
                let wait_s = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
                vec![FromTracker::Busy {
                    retry_after_s: wait_s.saturating_add(1),
                }]
            }
            Err(IntroduceError::Unknown { .. } | IntroduceError::SamePeer) => {
                vec![FromTracker::NoSuchPeer { swarm, peer: other }]
            }
        }
    }

    /// Has those of the two who have moved connect again, since nothing can be relayed to them before;
    /// returns whether one has. Once it is back the two are introduced.
    fn send_away_moved(&self, peers: [PublicKey; 2]) -> bool {
        let sessions = peers.iter().filter_map(|peer| self.sessions.get(peer));
        let moved: Vec<&Session> = sessions.filter(|session| session.has_moved()).collect();
        moved
            .iter()
            .for_each(|session| Close::Moved.apply(&session.link));
        !moved.is_empty()
    }

    /// Introduces two: tells `other`, and returns what to tell `peer`, in order.
    fn introduce(
        &mut self,
        now: Instant,
        swarm: SwarmId,
        (peer, other): (PublicKey, PublicKey),
        relay: &Relay,
    ) -> Result<Vec<FromTracker>, IntroduceError> {
        self.refresh_situation(now, peer);
        self.refresh_situation(now, other);
        let (mut for_peer, mut for_other) = self.introducer.introduce(now, swarm, peer, other)?;
        if self.introducer.may_relay(&peer, &other) {
            for_peer.relay = relay.open(now, peer, other);
            for_other.relay = for_peer.relay;
        }
        // Who is reached through a tracker alone says and is told nothing of ports either.
        let is_direct = for_peer.paths.may_be_direct(for_other.paths);
        let halves = Some((&for_peer, &for_other)).filter(|_| is_direct);
        let advice = halves.and_then(|halves| self.advice(now, halves, (peer, other)));
        for news in advice.iter().cloned() {
            self.tell(&other, news);
        }
        self.tell(&other, FromTracker::Rendezvous(for_other));
        let rendezvous = FromTracker::Rendezvous(for_peer);
        Ok(advice.into_iter().chain([rendezvous]).collect())
    }

    /// Follows a rendezvous from now on; returns what is known to work between the two.
    fn advice(
        &mut self,
        now: Instant,
        halves: (&Rendezvous, &Rendezvous),
        (a, b): (PublicKey, PublicKey),
    ) -> Option<FromTracker> {
        let (a, b) = (self.sessions.get(&a)?, self.sessions.get(&b)?);
        let situations = (&a.situation, &b.situation);
        self.followup.open(now, halves, situations)
    }

    /// Tells the other peer of a rendezvous, in the queue in which it heard of that, what this one
    /// says of a port of its own.
    fn pass_on(&mut self, now: Instant, peer: PublicKey, word: ([u8; 10], u16, NatMapping)) {
        let Some(session) = self.sessions.get(&peer) else {
            return;
        };
        let from = (&peer, &session.situation);
        if let Some((to, news)) = self.followup.trickle(now, from, word) {
            self.tell(&to, news);
        }
    }

    /// Takes in what a daemon says about codes.
    fn handle_code(
        &mut self,
        now: Instant,
        peer: PublicKey,
        request: CodeRequest,
    ) -> Vec<FromTracker> {
        let Some(from) = self.sessions.get(&peer).map(|session| session.from) else {
            return Vec::new();
        };
        let mail = self.codes.handle(now, (peer, from), request);
        self.pass(peer, mail, FromTracker::Code)
    }

    /// Tells others their part of what followed from what `peer` has said; returns what to answer it.
    fn pass<T>(
        &self,
        peer: PublicKey,
        mail: Vec<(PublicKey, T)>,
        wrap: fn(T) -> FromTracker,
    ) -> Vec<FromTracker> {
        let (answers, others): (Vec<_>, _) = mail.into_iter().partition(|(to, _)| *to == peer);
        self.deliver(others, wrap);
        answers.into_iter().map(|(_, news)| wrap(news)).collect()
    }

    fn deliver<T>(&self, mail: Vec<(PublicKey, T)>, wrap: fn(T) -> FromTracker) {
        for (peer, news) in mail {
            self.tell(&peer, wrap(news));
        }
    }

    /// Takes in that a daemon receives at an address of the other IP family, if the token shows it. One
    /// that shows nothing changes nothing: it may have aged on the way.
    fn prove(
        &mut self,
        now: Instant,
        peer: PublicKey,
        claim: (SocketAddr, AddressToken),
        proofs: &Proofs,
    ) {
        let Some(session) = self.sessions.get_mut(&peer) else {
            return;
        };
        let observed = session.situation.observed;
        match proofs.check(now, &session.name, observed, claim) {
            Some(proof) => session.proof = Some(proof),
            None => tracing::debug!(%peer, address = %claim.0, "an address that is not proven"),
        }
        self.refresh_situation(now, peer);
    }

    /// Addresses and round-trip times change while a daemon is connected. False if it has moved: then
    /// nobody is told of it, and it has to connect again.
    fn refresh_situation(&mut self, now: Instant, peer: PublicKey) -> bool {
        let Some(session) = self.sessions.get_mut(&peer) else {
            return false;
        };
        let Some(observed) = session.observed() else {
            tracing::debug!(%peer, "a daemon has moved, and is to connect again");
            Close::Moved.apply(&session.link);
            self.introducer.moved(peer);
            self.introducer.forget(peer);
            return false;
        };
        session.situation.observed = observed;
        session.situation.proven = session.proof.and_then(|proof| proof.address(now));
        session.situation.tracker_is_loopback = observed.ip().is_loopback();
        session.situation.rtt = session.link.rtt();
        self.introducer.situation(peer, session.situation.clone());
        true
    }

    fn tell_all(&self, news: News) {
        for (peer, news) in news {
            self.tell(&peer, news);
        }
    }

    fn tell(&self, peer: &PublicKey, news: FromTracker) {
        let Some(session) = self.sessions.get(peer) else {
            return;
        };
        if let Err(mpsc::error::TrySendError::Full(_)) = session.news.try_send(news) {
            tracing::debug!(%peer, "a daemon does not keep up with its news");
            Close::TooSlow.apply(&session.link);
        }
    }
}

/// Where a daemon is seen, if it began its handshake at that IP address.
pub(crate) fn proven(link: &Link, from: IpAddr) -> Option<SocketAddr> {
    let observed = link.remote_address();
    (observed.ip() == from.to_canonical()).then_some(observed)
}

/// What the connection alone says about where a daemon is.
fn first_situation(link: &Link) -> Situation {
    let observed = link.remote_address();
    Situation {
        observed,
        transport: link.transport(),
        proven: None,
        tracker_is_loopback: observed.ip().is_loopback(),
        candidates: Bounded::new(),
        mapping: NatMapping::Unknown,
        filtering: NatFiltering::Unknown,
        paths: Paths::Any,
        rtt: link.rtt(),
    }
}
