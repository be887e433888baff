//! The task that owns all paths: reads what is not QUIC, gives it to the machine it is for, sends
//! what the machines say, and does what they find out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep_until;
use warren_net::{Class, ConnectError, Datagram, Endpoint, Expect, Protocol};
use warren_proto::id::PublicKey;
use warren_proto::nat::{Allowance, KeeperEvent, Path, PunchEvent, Transmit, check};
use warren_proto::proof::Side;
use warren_proto::wire::Candidate;

use super::attempt::Attempt;
use super::keeper::Keeper;
use super::owners::{Owner, Owners};
use super::survey::{Finding, Survey};
use super::{Kept, Meeting, Order, PathNews, Records, StunServer};
use crate::node::{NodeEvent, NodeSender};
use crate::peer::interfaces::host_candidates;

/// Attempts at once: as many as there may be peers.
const ATTEMPTS: usize = 256;

/// Attempts with one peer: two trackers may introduce it at once.
const ATTEMPTS_PER_PEER: usize = 2;

/// Datagrams and orders taken in before the machines are looked at again.
const BATCH: usize = 64;

/// How often the addresses of this machine are looked at.
const INTERFACES: Duration = Duration::from_secs(1);

/// How long a route outlives its connection: its last packets are still to be sent.
const FADING: Duration = Duration::from_secs(3);

/// Owns every machine.
#[derive(Debug)]
pub(super) struct Puncher {
    endpoint: Endpoint,
    node: NodeSender,
    records: Arc<Records>,
    attempts: BTreeMap<u64, Attempt>,
    keepers: BTreeMap<PublicKey, Keeper>,
    owners: Owners,
    allowance: Allowance,
    survey: Survey,
    /// Peers whose routes end then, unless they are back.
    fading: BTreeMap<PublicKey, (Instant, SocketAddr)>,
    candidates: Vec<Candidate>,
    next_interfaces: Instant,
    /// Peers that are being dialled, and for which attempt.
    dialling: BTreeMap<PublicKey, u64>,
    dialled: mpsc::Receiver<Dialled>,
    dials: mpsc::Sender<Dialled>,
    counter: u64,
}

/// What came of dialling a peer.
#[derive(Debug)]
struct Dialled {
    attempt: u64,
    peer: PublicKey,
    is_connected: bool,
}

impl Puncher {
    pub(super) fn new(
        endpoint: Endpoint,
        node: NodeSender,
        records: Arc<Records>,
        candidates: Vec<Candidate>,
    ) -> Puncher {
        let (dials, dialled) = mpsc::channel(ATTEMPTS);
        Puncher {
            endpoint,
            node,
            records,
            attempts: BTreeMap::new(),
            keepers: BTreeMap::new(),
            owners: Owners::default(),
            allowance: Allowance::new(),
            survey: Survey::default(),
            fading: BTreeMap::new(),
            candidates,
            next_interfaces: Instant::now() + INTERFACES,
            dialling: BTreeMap::new(),
            dialled,
            dials,
            counter: 0,
        }
    }

    /// Works until it is dropped.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut datagrams = self.endpoint.socket().take_stun();
        let (mut received, mut taken) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        loop {
            let due = self.poll_timeout();
            tokio::select! {
                count = orders.recv_many(&mut taken, BATCH) => if count == 0 {
                    return;
                },
                _ = datagrams.recv_many(&mut received, BATCH) => (),
                Some(dialled) = self.dialled.recv() => self.handle_dialled(dialled).await,
                filtering = self.survey.filtered() => {
                    let finding = self.survey.handle_filtered(filtering);
                    self.handle_finding(finding).await;
                }
                () = sleep_until(due.into()) => (),
            }
            for order in taken.drain(..) {
                self.handle_order(order).await;
            }
            for datagram in received.drain(..) {
                self.handle_datagram(datagram).await;
            }
            self.handle_timeout().await;
        }
    }

    async fn tell(&self, news: PathNews) {
        self.node.send(NodeEvent::Path(news)).await;
    }

    async fn handle_order(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Meet(meeting) => self.meet(now, &meeting).await,
            Order::Keep(kept) => self.keep(now, *kept).await,
            Order::Suspect(peer) => {
                if let Some(keeper) = self.keepers.get_mut(&peer) {
                    keeper.machine.suspect(now);
                    self.settle_keeper(peer, None).await;
                }
            }
            Order::Survey(server) => self.survey(now, server).await,
        }
    }

    async fn meet(&mut self, now: Instant, meeting: &Meeting) {
        let peer = meeting.rendezvous.peer;
        if self.attempts.len() >= ATTEMPTS {
            tracing::debug!(%peer, "too many attempts at once");
            return self.tell_over(peer).await;
        }
        self.counter += 1;
        let id = self.counter;
        let name = meeting.rendezvous.username();
        if !self.owners.name(&name, Owner::Attempt(id)) {
            tracing::debug!(%peer, "an introduction by a name that is taken");
            return self.tell_over(peer).await;
        }
        self.make_room(peer).await;
        let route = self.endpoint.socket().route(&peer, Class::Direct);
        let attempt = Attempt::new(now, meeting, route);
        self.records.note(id, attempt.record());
        self.attempts.insert(id, attempt);
        self.settle_attempt(id, None).await;
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

    async fn keep(&mut self, now: Instant, kept: Kept) {
        let Some(keeper) = Keeper::new(now, kept) else {
            return;
        };
        let peer = keeper.peer();
        self.fading.remove(&peer);
        self.dialling.remove(&peer);
        self.owners.forget(Owner::Keeper(peer));
        // 80 bits of a secret that the two ends alone know: nobody else has the name.
        self.owners
            .name(keeper.machine.username(), Owner::Keeper(peer));
        let attempts = self.attempts.iter_mut();
        for (id, attempt) in attempts.filter(|(_, it)| it.peer == peer) {
            attempt.connected(now);
            self.records.note(*id, attempt.record());
        }
        self.keepers.insert(peer, keeper);
    }

    async fn survey(&mut self, now: Instant, server: StunServer) {
        self.survey.start(now, server);
        self.settle_survey().await;
    }

    async fn handle_datagram(&mut self, datagram: Datagram) {
        let Datagram {
            from,
            local_ip,
            bytes,
        } = datagram;
        let now = Instant::now();
        match self.owners.of(&bytes) {
            Some(Owner::Attempt(id)) => {
                if let Some(attempt) = self.attempts.get_mut(&id) {
                    attempt.machine.handle_datagram(now, from, &bytes);
                    self.settle_attempt(id, Some((from, local_ip))).await;
                }
            }
            Some(Owner::Keeper(peer)) => {
                if let Some(keeper) = self.keepers.get_mut(&peer) {
                    keeper.machine.handle_datagram(now, from, &bytes);
                    self.settle_keeper(peer, Some((from, local_ip))).await;
                }
            }
            Some(Owner::Survey) => {
                if let Some(probe) = self.survey.probe() {
                    probe.handle_datagram(now, from, &bytes);
                    self.settle_survey().await;
                }
            }
            None => (),
        }
    }

    fn poll_timeout(&self) -> Instant {
        let attempts = self.attempts.values();
        let attempts = attempts.map(|it| {
            it.machine
                .poll_timeout()
                .unwrap_or(it.ends())
                .min(it.ends())
        });
        let keepers = self.keepers.values().map(Keeper::poll_timeout);
        let fading = self.fading.values().map(|(at, _)| *at);
        let survey = self.survey.poll_timeout();
        let all = attempts.chain(keepers).chain(fading).chain(survey);
        all.fold(self.next_interfaces, Instant::min)
    }

    /// Does what is due.
    async fn handle_timeout(&mut self) {
        let now = Instant::now();
        self.time_attempts(now).await;
        self.time_keepers(now).await;
        if self.survey.poll_timeout().is_some_and(|due| due <= now) {
            self.survey.handle_timeout(now);
            self.settle_survey().await;
        }
        self.fade(now);
        if self.next_interfaces <= now {
            self.next_interfaces = now + INTERFACES;
            self.look_at_interfaces(now).await;
        }
    }

    async fn time_attempts(&mut self, now: Instant) {
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

    async fn close_attempt(&mut self, id: u64) {
        let Some(mut attempt) = self.attempts.remove(&id) else {
            return;
        };
        self.owners.forget(Owner::Attempt(id));
        if self.keepers.contains_key(&attempt.peer) {
            attempt.superfluous(Instant::now());
        }
        let (peer, route) = (attempt.peer, attempt.route);
        self.records.close(id, attempt.into_record(), route);
        if self.dialling.get(&peer) == Some(&id) {
            self.dialling.remove(&peer);
        }
        self.point_back(peer, route);
        self.let_fade(peer, route);
        self.tell_over(peer).await;
    }

    /// What a tracker's word has changed about a connection ends with the attempt, unless the peer
    /// has confirmed it on the connection.
    fn point_back(&self, peer: PublicKey, route: SocketAddr) {
        if let Some(keeper) = self.keepers.get(&peer) {
            let path = keeper.machine.path();
            let socket = self.endpoint.socket();
            if socket.path_of(route) != Some(path) {
                self.admit(route, path);
                socket.point(route, path);
            }
        }
    }

    async fn time_keepers(&mut self, now: Instant) {
        let due = self
            .keepers
            .iter()
            .filter(|(_, it)| it.poll_timeout() <= now);
        let due: Vec<PublicKey> = due.map(|(peer, _)| *peer).collect();
        for peer in due {
            let Some(keeper) = self.keepers.get_mut(&peer) else {
                continue;
            };
            if keeper.is_over() {
                self.close_keeper(peer);
                self.meet_anew(peer).await;
            } else {
                keeper.handle_timeout(now);
                self.settle_keeper(peer, None).await;
            }
        }
    }

    fn close_keeper(&mut self, peer: PublicKey) {
        let Some(keeper) = self.keepers.remove(&peer) else {
            return;
        };
        self.owners.forget(Owner::Keeper(peer));
        self.records.forget(&peer);
        self.let_fade(peer, keeper.route);
    }

    /// Ends the route to a peer in a moment, if nothing goes there any more.
    fn let_fade(&mut self, peer: PublicKey, route: SocketAddr) {
        let meets = self.attempts.values().any(|it| it.peer == peer);
        if !meets && !self.keepers.contains_key(&peer) {
            self.fading.insert(peer, (Instant::now() + FADING, route));
        }
    }

    fn fade(&mut self, now: Instant) {
        let (keepers, attempts, socket) = (&self.keepers, &self.attempts, self.endpoint.socket());
        self.fading.retain(|peer, (at, route)| {
            if *at > now {
                return true;
            }
            if !keepers.contains_key(peer) && attempts.values().all(|it| it.peer != *peer) {
                socket.forget(*route);
            }
            false
        });
    }

    async fn look_at_interfaces(&mut self, now: Instant) {
        let candidates = host_candidates(self.endpoint.local_addr());
        if candidates == self.candidates {
            return;
        }
        tracing::info!("this machine has other addresses than before");
        self.candidates = candidates.clone();
        self.tell(PathNews::Network(candidates)).await;
        self.doubt_everything(now).await;
    }

    /// Our address may be another one: finds out, and shows the peers that we are still there.
    async fn doubt_everything(&mut self, now: Instant) {
        self.survey.restart(now);
        self.settle_survey().await;
        let peers: Vec<PublicKey> = self.keepers.keys().copied().collect();
        for peer in peers {
            if let Some(keeper) = self.keepers.get_mut(&peer) {
                keeper.machine.suspect(now);
            }
            self.settle_keeper(peer, None).await;
        }
    }

    async fn settle_survey(&mut self) {
        while let Some(transmit) = self.survey.probe().and_then(|probe| probe.poll_transmit()) {
            self.send(&transmit, Owner::Survey, None);
        }
        let finding = self.survey.poll_finding();
        self.handle_finding(finding).await;
    }

    async fn handle_finding(&mut self, finding: Option<Finding>) {
        match finding {
            Some(Finding::Nat(nat)) => self.tell(PathNews::Nat(nat)).await,
            Some(Finding::Rebound) => {
                tracing::info!("our nat was rebound");
                Box::pin(self.doubt_everything(Instant::now())).await;
            }
            None => (),
        }
    }

    /// Sends what an attempt says, and does what it has found out. `heard` is where a datagram just
    /// came from, and where it arrived.
    async fn settle_attempt(&mut self, id: u64, heard: Option<(SocketAddr, Option<IpAddr>)>) {
        while let Some(transmit) = self.poll_attempt(id) {
            self.send(&transmit, Owner::Attempt(id), heard);
        }
        while let Some(event) = self.attempts.get_mut(&id).and_then(Attempt::poll_event) {
            self.handle_punched(id, event).await;
        }
    }

    fn poll_attempt(&mut self, id: u64) -> Option<Transmit> {
        self.attempts.get_mut(&id)?.machine.poll_transmit()
    }

    async fn handle_punched(&mut self, id: u64, event: PunchEvent) {
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let (peer, route) = (attempt.peer, attempt.route);
        match event {
            PunchEvent::Heard { remote } => {
                let socket = self.endpoint.socket();
                socket.admit_heard(route, remote);
                // Until the client nominates one, this address is as good as any.
                if socket.path_of(route).is_none() {
                    socket.point(route, remote);
                }
            }
            PunchEvent::Nominated { .. } => self.follow_nomination(id).await,
            PunchEvent::Proven(path) => self.handle_proven(id, path).await,
            PunchEvent::AlsoProven(path) => {
                self.allowance.answered(path.remote.ip());
                self.admit(route, path.remote);
                self.follow_nomination(id).await;
            }
            PunchEvent::Failed => self.tell_over(peer).await,
        }
    }

    fn admit(&self, route: SocketAddr, remote: SocketAddr) {
        if !self.endpoint.socket().admit(route, remote) {
            tracing::debug!(%remote, "not admitted: the address is a tracker's");
        }
    }

    /// As server: answers the client where it says it comes from. The tracker knows the secret of
    /// these checks too, so a connection that is well is not touched, and one that is silent only
    /// when the address is proven: much may be sent there, and the nomination may be somebody's copy.
    async fn follow_nomination(&mut self, id: u64) {
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let Some(remote) = attempt.nominated else {
            return;
        };
        let (peer, route) = (attempt.peer, attempt.route);
        let may = match self.keepers.get(&peer) {
            Some(keeper) => keeper.is_silent && attempt.has_proven(remote),
            None => true,
        };
        if may {
            self.point(peer, route, remote).await;
        }
    }

    /// Sends what goes to a peer to this address from now on.
    async fn point(&mut self, peer: PublicKey, route: SocketAddr, remote: SocketAddr) {
        self.admit(route, remote);
        let socket = self.endpoint.socket();
        let before = socket.path_of(route);
        socket.point(route, remote);
        if let Some(keeper) = self.keepers.get(&peer).filter(|_| before != Some(remote)) {
            let session = keeper.kept.session;
            self.tell(PathNews::Moved { peer, session }).await;
        }
    }

    async fn handle_proven(&mut self, id: u64, path: Path) {
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let (peer, route, side) = (attempt.peer, attempt.route, attempt.side());
        self.records.note(id, attempt.record());
        self.allowance.answered(path.remote.ip());
        self.admit(route, path.remote);
        self.records.expect(route, path.rtt);
        if let Some(keeper) = self.keepers.get_mut(&peer) {
            let now = Instant::now();
            keeper.machine.try_address(now, path.remote);
            // What answers on the present path is no proof of a new process elsewhere.
            keeper.machine.suspect(now);
            let is_silent = keeper.is_silent;
            self.settle_keeper(peer, None).await;
            // Nothing is lost on a path that is silent, and no time until the peer has confirmed it.
            if side == Side::Client && is_silent {
                self.point(peer, route, path.remote).await;
            }
        } else if side == Side::Client {
            self.dial(id);
        }
        self.follow_nomination(id).await;
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
        self.dialling.insert(peer, id);
        self.admit(route, path.remote);
        self.endpoint.socket().point(route, path.remote);
        let (endpoint, node, dials) =
            (self.endpoint.clone(), self.node.clone(), self.dials.clone());
        tokio::spawn(async move {
            let expect = Expect::Key(peer);
            let dialling = endpoint.connect_route(route, Protocol::Peer, expect, Some(path.rtt));
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
            let attempt = id;
            // Nobody waits for it once the daemon ends.
            let _ = dials
                .send(Dialled {
                    attempt,
                    peer,
                    is_connected,
                })
                .await;
        });
    }

    async fn handle_dialled(&mut self, dialled: Dialled) {
        // Until the node has taken the connection in, the peer is not dialled for another attempt.
        if dialled.is_connected {
            return;
        }
        self.dialling.remove(&dialled.peer);
        if let Some(attempt) = self.attempts.get_mut(&dialled.attempt) {
            attempt.refused();
            self.close_attempt(dialled.attempt).await;
        }
        self.meet_anew(dialled.peer).await;
    }

    async fn settle_keeper(
        &mut self,
        peer: PublicKey,
        heard: Option<(SocketAddr, Option<IpAddr>)>,
    ) {
        while let Some(transmit) = self.poll_keeper(&peer) {
            self.send(&transmit, Owner::Keeper(peer), heard);
        }
        while let Some(event) = self
            .keepers
            .get_mut(&peer)
            .and_then(|keeper| keeper.machine.poll_event())
        {
            self.handle_kept(peer, event).await;
        }
    }

    fn poll_keeper(&mut self, peer: &PublicKey) -> Option<Transmit> {
        self.keepers.get_mut(peer)?.machine.poll_transmit()
    }

    async fn handle_kept(&mut self, peer: PublicKey, event: KeeperEvent) {
        let Some(keeper) = self.keepers.get(&peer) else {
            return;
        };
        let (session, route) = (keeper.kept.session, keeper.route);
        tracing::debug!(%peer, ?event, "path");
        match event {
            KeeperEvent::Heard { remote } => {
                self.endpoint.socket().admit_heard(route, remote);
            }
            KeeperEvent::Moved { remote, .. } => {
                tracing::info!(%peer, %remote, "the path of a peer has changed");
                self.point(peer, route, remote).await;
                self.note_superfluous(peer);
            }
            KeeperEvent::Silent => {
                self.set_silent(peer, true);
                self.tell(PathNews::Silent { peer, session }).await;
            }
            KeeperEvent::Alive => {
                self.set_silent(peer, false);
                self.note_superfluous(peer);
                self.tell(PathNews::Alive { peer, session }).await;
            }
            KeeperEvent::Dead | KeeperEvent::Forgotten => {
                self.tell(PathNews::Gone { peer, session }).await;
                self.close_keeper(peer);
                self.meet_anew(peer).await;
            }
        }
    }

    fn set_silent(&mut self, peer: PublicKey, silent: bool) {
        if let Some(keeper) = self.keepers.get_mut(&peer) {
            keeper.is_silent = silent;
        }
    }

    /// The attempts with a peer were not needed to connect.
    fn note_superfluous(&mut self, peer: PublicKey) {
        let now = Instant::now();
        let attempts = self.attempts.values_mut().filter(|it| it.peer == peer);
        attempts.for_each(|attempt| attempt.superfluous(now));
    }

    /// The connection that we had is no more: the client opens another on a path that was proven
    /// meanwhile, the server awaits it there.
    async fn meet_anew(&mut self, peer: PublicKey) {
        let is_proven = |it: &Attempt| it.peer == peer && it.is_open();
        let latest = self.attempts.iter().rev().find(|(_, it)| is_proven(it));
        match latest.map(|(id, it)| (*id, it.side())) {
            Some((id, Side::Client)) => self.dial(id),
            Some((id, Side::Server)) => self.follow_nomination(id).await,
            None => (),
        }
    }

    /// Whether nobody at this address has shown that our packets are welcome there. An answer goes
    /// where somebody has asked, a keeper's checks to who has answered before, those of the survey to
    /// the tracker.
    fn is_unasked(&self, to: SocketAddr, bytes: &[u8], owner: Owner) -> bool {
        let Owner::Attempt(id) = owner else {
            return false;
        };
        let peer = self.attempts.get(&id).map(|attempt| attempt.peer);
        let keeper = peer.and_then(|peer| self.keepers.get(&peer));
        let is_known = keeper.is_some_and(|keeper| keeper.machine.path().ip() == to.ip());
        !is_known && check::request_transaction_of(bytes).is_some()
    }

    /// Sends a datagram; an answer leaves from where its request arrived.
    fn send(
        &mut self,
        transmit: &Transmit,
        owner: Owner,
        heard: Option<(SocketAddr, Option<IpAddr>)>,
    ) {
        let Transmit { to, bytes, ttl } = transmit;
        self.owners.sent(bytes, owner);
        let allowed = !self.is_unasked(*to, bytes, owner)
            || self.allowance.take(Instant::now(), *to, bytes.len());
        if !allowed {
            tracing::debug!(%to, "no more checks to an address that does not answer");
            return;
        }
        let socket = self.endpoint.socket();
        match (ttl, heard) {
            (None, Some((from, local_ip))) if from == *to => {
                socket.send_raw_from(bytes, *to, local_ip);
            }
            _ => socket.send_raw_ttl(bytes, *to, *ttl),
        }
    }
}

fn note_refused(peer: &PublicKey, error: &ConnectError) {
    let error: &dyn std::error::Error = error;
    tracing::debug!(%peer, error, "peer not reached on a proven path");
}
