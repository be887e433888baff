//! Attempts to reach peers: begun for an introduction, followed to a proven path, dialled on it,
//! ended.

use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;
use warren_net::{Class, ConnectError, Expect, Protocol, Via};
use warren_proto::id::PublicKey;
use warren_proto::nat::{MAIN, Observation, Path, PunchEvent, Transmit};
use warren_proto::proof::Side;

use super::{Arrival, Dialled, Dialling, Puncher};
use crate::node::NodeEvent;
use crate::punch::attempt::Attempt;
use crate::punch::owners::Owner;
use crate::punch::{Meeting, PathNews, relay};

/// Attempts at once: as many as there may be peers.
const ATTEMPTS: usize = 256;

/// Attempts with one peer: two trackers may introduce it at once.
const ATTEMPTS_PER_PEER: usize = 2;

impl Puncher {
    pub(super) async fn meet(&mut self, now: Instant, meeting: &Meeting) {
        let peer = meeting.rendezvous.peer;
        if self.attempts.len() >= ATTEMPTS {
            tracing::debug!(%peer, "too many attempts at once");
            return self.tell_over(peer).await;
        }
        self.counter += 1;
        let id = self.counter;
        let name = meeting.rendezvous.username();
        // Who is reached through a tracker alone answers no checks either.
        if meeting.is_direct && !self.owners.name(&name, Owner::Attempt(id)) {
            tracing::debug!(%peer, "an introduction by a name that is taken");
            return self.tell_over(peer).await;
        }
        self.make_room(peer).await;
        self.end_guesses(now, peer, meeting.line.tracker()).await;
        let route = self.endpoint.socket().route(&peer, Class::Direct);
        let head_start = self.head_start(meeting);
        let own = self.survey.guessing(meeting.advice, self.nat.has_ipv6);
        let attempt = Attempt::new(now, meeting, self.nat, route, head_start);
        let attempt = match meeting.is_direct {
            true => attempt.guessing(&meeting.rendezvous, own),
            false => attempt,
        };
        self.records.note(id, attempt.record());
        self.attempts.insert(id, attempt);
        self.settle_attempt(id, None).await;
        self.point_relay(now, peer).await;
        if head_start.is_zero() {
            self.dial_relay(id);
        }
    }

    /// How long a direct path has before the relay is taken. One that is in use and well is given time.
    fn head_start(&self, meeting: &Meeting) -> Duration {
        let keeper = self.keepers.get(&meeting.rendezvous.peer);
        match keeper.is_some_and(|keeper| !keeper.is_silent) {
            true => relay::HEAD_START,
            false => relay::head_start(&self.nat, &meeting.rendezvous),
        }
    }

    /// Ends the oldest attempt with a peer that has come to nothing, if there are as many as may be.
    async fn make_room(&mut self, peer: PublicKey) {
        let its = self.attempts.iter().filter(|(_, it)| it.peer == peer);
        let futile = its.filter(|(_, it)| it.proven.is_empty());
        let futile: Vec<u64> = futile.map(|(id, _)| *id).collect();
        if futile.len() >= ATTEMPTS_PER_PEER {
            self.close_attempt(futile[0]).await;
        }
    }

    /// Tells the node that a peer may be met anew, unless another attempt goes on.
    async fn tell_over(&self, peer: PublicKey) {
        if !self
            .attempts
            .values()
            .any(|it| it.peer == peer && it.is_under_way())
        {
            self.tell(PathNews::MeetingOver(peer)).await;
        }
    }

    pub(super) async fn time_attempts(&mut self, now: Instant) {
        let is_due = |it: &Attempt| it.machine.poll_timeout().is_some_and(|due| due <= now);
        let due = self.attempts.iter().filter(|(_, it)| is_due(it));
        let due: Vec<u64> = due.map(|(id, _)| *id).collect();
        for id in due {
            if let Some(attempt) = self.attempts.get_mut(&id) {
                attempt.machine.handle_timeout(now);
            }
            self.settle_attempt(id, None).await;
        }
        let over = self.attempts.iter().filter(|(_, it)| it.ends() <= now);
        let over: Vec<u64> = over.map(|(id, _)| *id).collect();
        for id in over {
            self.close_attempt(id).await;
        }
    }

    pub(super) async fn close_attempt(&mut self, id: u64) {
        self.end_turn(id);
        let Some(mut attempt) = self.attempts.remove(&id) else {
            return;
        };
        self.owners.forget(Owner::Attempt(id));
        self.vias.forget(self.endpoint.socket(), Owner::Attempt(id));
        if self.keepers.contains_key(&attempt.peer) {
            attempt.superfluous(Instant::now());
        }
        let (peer, route) = (attempt.peer, attempt.route);
        self.records.close(id, attempt.into_record(), route);
        // A handshake that is under way goes on. A connection that the node does not want is forgotten.
        self.dialling
            .retain(|_, it| it.attempt != id || !it.task.is_finished());
        self.dialling_relay
            .retain(|_, (attempt, task)| *attempt != id || !task.is_finished());
        // Also where this attempt had no relay: it may have kept the route of one that had.
        let relay_route = self.endpoint.socket().route(&peer, Class::Relay);
        self.let_fade(peer, relay_route);
        self.point_back(peer, route);
        self.let_fade(peer, route);
        self.tell_over(peer).await;
    }

    /// Sends what an attempt says, and does what it has found out. `heard` is where a datagram just
    /// came from, and where it arrived.
    pub(super) async fn settle_attempt(&mut self, id: u64, heard: Option<Arrival>) {
        loop {
            while let Some(transmit) = self.poll_attempt(id) {
                self.send(&transmit, Owner::Attempt(id), heard);
            }
            let Some(event) = self.attempts.get_mut(&id).and_then(Attempt::poll_event) else {
                return;
            };
            self.handle_punched(id, event).await;
        }
    }

    fn poll_attempt(&mut self, id: u64) -> Option<Transmit> {
        let attempt = self.attempts.get_mut(&id)?;
        attempt
            .machine
            .poll_transmit()
            .filter(|_| attempt.is_direct)
    }

    async fn handle_punched(&mut self, id: u64, event: PunchEvent) {
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let (peer, route) = (attempt.peer, attempt.route);
        match event {
            PunchEvent::Heard { via, remote } => self.follow_heard(id, route, via, remote),
            PunchEvent::Nominated { .. } => self.follow_nomination(id).await,
            PunchEvent::Proven(path) => self.handle_proven(id, path).await,
            PunchEvent::AlsoProven(path) => {
                self.allowance.answered(path.remote.ip());
                self.note_observed(id, &path);
                self.admit_proven(route, &path);
                self.follow_nomination(id).await;
            }
            PunchEvent::Failed => {
                attempt.tell_outcome(false);
                self.tell_over(peer).await;
            }
            PunchEvent::Trickle { port, mapping } => attempt.line.trickle(port, mapping),
            PunchEvent::Turn(turn) => self.queue(id, turn),
            PunchEvent::TurnOver => self.end_turn(id),
            PunchEvent::Close { via } => self.close_via(id, via),
        }
    }

    /// As server: answers the client where it says it comes from. The tracker knows the secret of
    /// these checks too, so a connection that is well is not touched, and one that is silent only
    /// when the address is proven: much may be sent there, and the nomination may be somebody's copy.
    async fn follow_nomination(&mut self, id: u64) {
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let Some((number, remote)) = attempt.nominated else {
            return;
        };
        let Some(via) = self.via_of_attempt(id, number) else {
            return;
        };
        let (peer, route) = (attempt.peer, attempt.route);
        let is_proven = attempt.has_proven(number, remote);
        match self.keepers.get(&peer) {
            Some(keeper) if !(keeper.is_silent && is_proven) => (),
            None if !is_proven => self.point_unproven(route, (via, remote)),
            _ => self.point(peer, route, (via, remote)).await,
        }
    }

    /// Sends to where a client says that it is, so that the handshake waits for nothing, unless another
    /// peer is there: the sender may have written somebody's address. A further socket is the attempt's
    /// own.
    fn point_unproven(&self, route: SocketAddr, (via, remote): (Via, SocketAddr)) {
        let socket = self.endpoint.socket();
        let pointed = match via {
            Via::MAIN => socket.admit_heard(route, remote) && socket.point(route, remote),
            _ => socket.point_via(route, via, remote),
        };
        if !pointed {
            tracing::debug!(%remote, "not gone there: somebody else's address, or a closed socket");
        }
    }

    async fn handle_proven(&mut self, id: u64, path: Path) {
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let (peer, route, side) = (attempt.peer, attempt.route, attempt.side());
        attempt.tell_outcome(true);
        self.records.note(id, attempt.record());
        self.note_observed(id, &path);
        self.allowance.answered(path.remote.ip());
        self.admit_proven(route, &path);
        self.records.expect(route, path.rtt);
        let via = self.via_of_attempt(id, path.via);
        if let Some(keeper) = self.keepers.get(&peer) {
            // Nothing is lost on a path that is silent, and no time until the peer has confirmed it.
            if let Some(via) = via.filter(|_| side == Side::Client && keeper.is_silent) {
                self.point(peer, route, (via, path.remote)).await;
            }
            self.try_proven(peer, via, path.remote).await;
        } else if side == Side::Client {
            self.dial(id);
        }
        self.follow_nomination(id).await;
    }

    /// A peer that lets everybody in sees us as another server would.
    fn note_observed(&mut self, id: u64, path: &Path) {
        let is_open = self.attempts.get(&id).is_some_and(Attempt::meets_open);
        if is_open && path.via == MAIN {
            let observation = Observation {
                observer: path.remote,
                mapped: path.observed,
            };
            self.survey.observed_by(Instant::now(), observation);
        }
    }

    /// As client: opens a connection on the path that is proven.
    fn dial(&mut self, id: u64) {
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let Some(path) = attempt.proven.first().copied() else {
            return;
        };
        let (peer, route) = (attempt.peer, attempt.route);
        // Another tracker may have introduced the same two.
        if self.dialling.contains_key(&peer) {
            return;
        }
        let Some(via) = self.via_of_attempt(id, path.via) else {
            return;
        };
        self.admit_proven(route, &path);
        let socket = self.endpoint.socket();
        socket.point_via(route, via, path.remote);
        let task = self.dial_route(id, peer, (route, Class::Direct), Some(path.rtt));
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        let dialling = Dialling {
            attempt: id,
            task,
            patience: attempt.dialled(Instant::now(), path.rtt),
        };
        self.dialling.insert(peer, dialling);
    }

    /// Dials the peer at the end of a route, for an attempt; what comes of it is told to the node and
    /// to [`handle_dialled`](Self::handle_dialled).
    pub(super) fn dial_route(
        &self,
        attempt: u64,
        peer: PublicKey,
        (route, class): (SocketAddr, Class),
        rtt: Option<Duration>,
    ) -> AbortHandle {
        let (endpoint, node, dials) =
            (self.endpoint.clone(), self.node.clone(), self.dials.clone());
        let dialling = tokio::spawn(async move {
            let expect = Expect::Key(peer);
            let dialling = endpoint.connect_route(route, Protocol::Peer, expect, rtt);
            let is_connected = match dialling.await {
                Ok(connection) => {
                    node.send(NodeEvent::PeerConnected(connection)).await;
                    true
                }
                Err(error) => {
                    note_refused(&peer, &error);
                    false
                }
            };
            // Nobody waits for it once the daemon ends.
            let _ = dials
                .send(Dialled {
                    attempt,
                    peer,
                    class,
                    is_connected,
                })
                .await;
        });
        dialling.abort_handle()
    }

    pub(super) async fn handle_dialled(&mut self, dialled: Dialled) {
        if dialled.class == Class::Relay {
            return self.handle_relay_dialled(&dialled);
        }
        let Dialled { attempt, peer, .. } = dialled;
        // Until the node has taken the connection in, the peer is not dialled for another attempt.
        if dialled.is_connected && self.attempts.contains_key(&attempt) {
            return;
        }
        if let Entry::Occupied(present) = self.dialling.entry(peer)
            && present.get().attempt == attempt
        {
            present.remove();
        }
        if dialled.is_connected {
            return;
        }
        if let Some(refused) = self.attempts.get_mut(&attempt) {
            refused.refused();
            self.dial_relay(attempt);
            self.close_attempt(attempt).await;
        }
        let route = self.endpoint.socket().route(&peer, Class::Direct);
        self.let_fade(peer, route);
        self.meet_anew(peer).await;
    }

    /// The connection that we had is no more: the client opens another on a path that was proven
    /// meanwhile, the server awaits it there.
    pub(super) async fn meet_anew(&mut self, peer: PublicKey) {
        if !self.keepers.contains_key(&peer) {
            let its = self.attempts.values_mut().filter(|it| it.peer == peer);
            its.for_each(Attempt::reopen);
        }
        let is_proven = |it: &Attempt| it.peer == peer && it.is_open();
        let latest = self.attempts.iter().rev().find(|(_, it)| is_proven(it));
        match latest.map(|(id, it)| (*id, it.side())) {
            Some((id, Side::Client)) => self.dial(id),
            Some((id, Side::Server)) => self.follow_nomination(id).await,
            None => self.relay_anew(peer),
        }
    }

    /// The attempts with a peer were not needed to connect.
    pub(super) fn note_superfluous(&mut self, peer: PublicKey) {
        let now = Instant::now();
        let attempts = self.attempts.values_mut().filter(|it| it.peer == peer);
        attempts.for_each(|attempt| attempt.superfluous(now));
    }
}

fn note_refused(peer: &PublicKey, error: &ConnectError) {
    let error: &dyn std::error::Error = error;
    tracing::debug!(%peer, error, "peer not reached on a proven path");
}
