//! The task that owns all paths: reads what is not QUIC, gives it to the machine it is for, sends
//! what the machines say, and does what they find out.
//!
//! By concern: [`attempts`] to reach peers, [`guessing`] of ports, [`keepers`] of live connections,
//! [`relays`], [`proofs`] of our address of the other IP family; here the loop, the survey
//! of our own NAT, and what they share.

mod attempts;
mod guessing;
mod keepers;
mod proofs;
mod relays;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::sleep_until;
use warren_net::{Class, Datagram, Endpoint, Via};
use warren_proto::id::PublicKey;
use warren_proto::nat::{Allowance, Flows, MAIN, Path, Transmit, Turnstile, check};
use warren_proto::wire::Candidate;

use super::attempt::Attempt;
use super::guess::Led;
use super::host_turn::HostTurn;
use super::keeper::Keeper;
use super::owners::{Owner, Owners};
use super::survey::{Finding, Survey};
use super::vias::Vias;
use super::wake::{Wake, uptime};
use super::watch::Watch;
use super::{Nat, Order, PathNews, Records, StunServer};
use crate::node::{NodeEvent, NodeSender};
use crate::peer::interfaces::host_candidates;
use crate::portmap::PortHandle;
use proofs::Proofs;
use relays::Offered;

/// Results of dialling that may wait; the tasks that dialled then wait too.
const DIALLED: usize = 64;

/// Datagrams and orders taken in before the machines are looked at again.
const BATCH: usize = 64;

/// How often the addresses of this machine are looked at.
const INTERFACES: Duration = Duration::from_secs(1);

/// How long a route outlives its connection: its last packets are still to be sent.
const FADING: Duration = Duration::from_secs(3);

/// Where a datagram came from, and at which of our addresses and sockets.
type Arrival = (SocketAddr, Option<IpAddr>, Via);

/// Owns every machine.
#[derive(Debug)]
pub(super) struct Puncher {
    endpoint: Endpoint,
    node: NodeSender,
    records: Arc<Records>,
    attempts: BTreeMap<u64, Attempt>,
    keepers: BTreeMap<PublicKey, Keeper>,
    /// Connections through trackers or other peers.
    relayed: BTreeMap<PublicKey, Watch>,
    /// Ways to peers that others have opened, by both, and until when they are of use.
    offers: BTreeMap<(PublicKey, PublicKey), Offered>,
    owners: Owners,
    vias: Vias,
    allowance: Allowance,
    turnstile: Turnstile,
    /// Of all daemons on this machine.
    host_turn: HostTurn,
    flows: Flows<Via>,
    /// Where connections with peers led that are no more, and until when that counts.
    led: Led,
    survey: Survey,
    /// Routes that end then, unless their peers are back.
    fading: BTreeMap<SocketAddr, (Instant, PublicKey)>,
    candidates: Vec<Candidate>,
    ports: PortHandle,
    next_interfaces: Instant,
    wake: Wake,
    /// Peers that are being dialled.
    dialling: BTreeMap<PublicKey, Dialling>,
    /// The same through a tracker: for which attempt, and what dials.
    dialling_relay: BTreeMap<PublicKey, (u64, AbortHandle)>,
    nat: Nat,
    proofs: Proofs,
    dialled: mpsc::Receiver<Dialled>,
    dials: mpsc::Sender<Dialled>,
    counter: u64,
}

/// A peer is being dialled directly.
#[derive(Debug)]
struct Dialling {
    attempt: u64,
    /// What dials. Once it has ended, the node is about to take the connection in.
    task: AbortHandle,
    /// When the relay is taken beside it.
    patience: Instant,
}

/// What came of dialling a peer.
#[derive(Debug)]
struct Dialled {
    attempt: u64,
    peer: PublicKey,
    class: Class,
    is_connected: bool,
}

impl Puncher {
    pub(super) fn new(
        endpoint: Endpoint,
        node: NodeSender,
        records: Arc<Records>,
        candidates: Vec<Candidate>,
        ports: PortHandle,
        host_turn: HostTurn,
    ) -> Puncher {
        let (dials, dialled) = mpsc::channel(DIALLED);
        Puncher {
            endpoint,
            node,
            records,
            attempts: BTreeMap::new(),
            keepers: BTreeMap::new(),
            relayed: BTreeMap::new(),
            offers: BTreeMap::new(),
            owners: Owners::default(),
            vias: Vias::default(),
            allowance: Allowance::new(),
            turnstile: Turnstile::new(),
            host_turn,
            flows: Flows::new(),
            led: Led::default(),
            survey: Survey::default(),
            fading: BTreeMap::new(),
            candidates,
            ports,
            next_interfaces: Instant::now() + INTERFACES,
            wake: Wake::new(uptime()),
            dialling: BTreeMap::new(),
            dialling_relay: BTreeMap::new(),
            nat: Nat::default(),
            proofs: Proofs::default(),
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
            Order::Hear(word) => self.hear(now, &word).await,
            Order::Keep(kept) => match kept.connection.class() {
                Class::Direct => self.keep(now, *kept).await,
                Class::Relay => self.watch(now, *kept),
            },
            Order::Suspect(peer) => {
                if let Some(keeper) = self.keepers.get_mut(&peer) {
                    keeper.machine.suspect(now);
                    self.settle_keeper(peer, None).await;
                }
                self.ask_relayed(peer).await;
            }
            Order::Survey(server, rtt) => self.survey(now, server, rtt).await,
            Order::Prove(tracker, proving) => self.prove(now, tracker, proving).await,
            Order::Carry(tracker, carrier, rtt) => self.carry(tracker, &carrier, rtt).await,
            Order::Offer(offer) => self.take_offer(now, *offer).await,
            Order::Withdraw(relayer) => self.withdraw(&relayer),
        }
    }

    async fn survey(&mut self, now: Instant, server: StunServer, rtt: Duration) {
        // There was no connection to the tracker: the router may have been started anew.
        self.ports.network_changed();
        self.proofs.begin(now, server, rtt);
        self.survey.start_within(now, self.surveyed_at(server), rtt);
        self.settle_survey().await;
    }

    async fn handle_datagram(&mut self, datagram: Datagram) {
        let Datagram {
            from,
            via,
            local_ip,
            bytes,
        } = datagram;
        let now = Instant::now();
        let heard = Some((from, local_ip, via));
        match self.owners.of(&bytes) {
            Some(owner @ Owner::Attempt(id)) => {
                if let (Some(attempt), Some(number)) =
                    (self.attempts.get_mut(&id), self.vias.number(owner, via))
                {
                    let machine = &mut attempt.machine;
                    machine.handle_datagram_via(now, number, from, &bytes);
                    self.settle_attempt(id, heard).await;
                }
            }
            Some(Owner::Keeper(peer)) => {
                if let Some(keeper) = self.keepers.get_mut(&peer) {
                    keeper.machine.handle_datagram(now, from, &bytes);
                    self.settle_keeper(peer, heard).await;
                }
            }
            Some(Owner::Survey) => self.handle_surveyed(now, from, &bytes).await,
            Some(Owner::Proof(tracker)) => self.handle_proof(now, tracker, from, &bytes).await,
            None if self.survey.recognizes(&bytes) => {
                self.handle_surveyed(now, from, &bytes).await;
            }
            None => self.ports.handle_datagram(&bytes),
        }
    }

    async fn handle_surveyed(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        if let Some(probe) = self.survey.probe() {
            probe.handle_datagram(now, from, bytes);
            self.settle_survey().await;
        }
    }

    fn poll_timeout(&self) -> Instant {
        let attempts = self.attempts.values();
        let attempts = attempts.map(|it| {
            let dues = [it.machine.poll_timeout(), it.relay_due];
            dues.into_iter().flatten().fold(it.ends(), Instant::min)
        });
        let relayed = self.relayed.values().map(Watch::poll_timeout);
        let keepers = self.keepers.values().map(Keeper::poll_timeout);
        let keepers = keepers.chain(relayed);
        let fading = self.fading.values().map(|(at, _)| *at);
        let survey = self.survey.poll_timeout(Instant::now());
        let turns = self.turnstile.poll_timeout(&self.flows);
        let offers = self.offers.values().map(|it| it.until);
        let all = attempts.chain(keepers).chain(fading).chain(offers);
        let host_turn = self.next_host_turn();
        let all = all.chain(survey).chain(turns).chain(host_turn);
        let all = all.chain(self.proofs.poll_timeout());
        all.fold(self.next_interfaces, Instant::min)
    }

    /// Does what is due.
    async fn handle_timeout(&mut self) {
        let now = Instant::now();
        self.time_attempts(now).await;
        self.let_through(now).await;
        self.time_keepers(now).await;
        self.time_relays(now).await;
        if self.survey.poll_timeout(now).is_some_and(|due| due <= now) {
            self.survey.handle_timeout(now);
            self.settle_survey().await;
        }
        self.time_proofs(now).await;
        self.fade(now);
        if self.next_interfaces <= now {
            self.next_interfaces = now + INTERFACES;
            self.look_at_clock(now).await;
            self.look_at_interfaces(now).await;
        }
    }

    /// Ends the route to a peer in a moment, if nothing goes there any more.
    fn let_fade(&mut self, peer: PublicKey, route: SocketAddr) {
        if !self.is_in_use(&peer, route) {
            self.fading.insert(route, (Instant::now() + FADING, peer));
        }
    }

    fn fade(&mut self, now: Instant) {
        let over: Vec<_> = self
            .fading
            .extract_if(.., |_, (at, _)| *at <= now)
            .collect();
        for (route, (_, peer)) in over {
            if !self.is_in_use(&peer, route) {
                self.records.unexpect(route);
                self.endpoint.socket().forget(route);
            }
        }
    }

    fn is_in_use(&self, peer: &PublicKey, route: SocketAddr) -> bool {
        let meets = self.attempts.values().any(|it| it.peer == *peer);
        let owner = self.endpoint.socket().owner_of(route);
        meets
            || match owner.map(|(_, class)| class) {
                Some(Class::Direct) => {
                    self.keepers.contains_key(peer) || self.dialling.contains_key(peer)
                }
                Some(Class::Relay) => self.uses_relay(peer),
                None => false,
            }
    }

    async fn look_at_clock(&mut self, now: Instant) {
        if let Some(slept) = self.wake.look(uptime()) {
            tracing::info!(
                slept_s = slept.as_secs(),
                "this machine or daemon was asleep"
            );
            self.tell(PathNews::Woken).await;
            self.doubt_everything(now).await;
        }
    }

    async fn look_at_interfaces(&mut self, now: Instant) {
        let candidates = host_candidates(self.endpoint.local_addr());
        if candidates == self.candidates {
            return;
        }
        tracing::info!("this machine has other addresses than before");
        self.endpoint.socket().forget_local_ips();
        self.candidates = candidates.clone();
        self.tell(PathNews::Network(candidates)).await;
        self.doubt_everything(now).await;
    }

    /// Our address may be another one: finds out, and shows the peers that we are still there.
    async fn doubt_everything(&mut self, now: Instant) {
        self.ports.network_changed();
        self.survey.restart(now);
        self.settle_survey().await;
        self.prove_anew(now).await;
        let peers: Vec<PublicKey> = self.keepers.keys().copied().collect();
        for peer in peers {
            if let Some(keeper) = self.keepers.get_mut(&peer) {
                keeper.machine.suspect(now);
            }
            self.settle_keeper(peer, None).await;
        }
    }

    async fn settle_survey(&mut self) {
        self.send_survey();
        let finding = self.survey.poll_finding(Instant::now());
        if !self.survey.is_deep() {
            self.vias.forget(self.endpoint.socket(), Owner::Survey);
        }
        // What is found quickly is told before more is asked.
        self.send_survey();
        self.ports.observed(self.survey.reflexive());
        self.handle_finding(finding).await;
    }

    fn send_survey(&mut self) {
        while let Some(transmit) = self.survey.probe().and_then(|probe| probe.poll_transmit()) {
            self.send(&transmit, Owner::Survey, None);
        }
    }

    async fn handle_finding(&mut self, finding: Option<Finding>) {
        match finding {
            Some(Finding::Nat(nat)) => {
                let has_ipv6 = self.nat.has_ipv6;
                self.nat = Nat { has_ipv6, ..nat };
                self.proofs.note_found();
                self.tell_nat(Instant::now()).await;
            }
            Some(Finding::Rebound) => {
                tracing::info!("our nat was rebound");
                Box::pin(self.doubt_everything(Instant::now())).await;
            }
            None => (),
        }
    }

    /// Lets in what comes from the end of a path. By a further socket that is so once it is in use.
    fn admit_proven(&self, route: SocketAddr, path: &Path) {
        let remote = path.remote;
        if path.via == MAIN && !self.endpoint.socket().admit(route, remote) {
            tracing::debug!(%remote, "not admitted: the address is a tracker's");
        }
    }

    /// Sends what goes to a peer by this socket and to this address from now on.
    async fn point(
        &mut self,
        peer: PublicKey,
        route: SocketAddr,
        (via, remote): (Via, SocketAddr),
    ) {
        let socket = self.endpoint.socket();
        let is_there = socket.via_of(route) == Some(via) && socket.path_of(route) == Some(remote);
        if !socket.point_via(route, via, remote) {
            tracing::debug!(%remote, "not gone there: a tracker's address, or a closed socket");
        }
        if let Some(keeper) = self.keepers.get(&peer).filter(|_| !is_there) {
            let session = keeper.kept.session;
            self.tell(PathNews::Moved { peer, session }).await;
        }
    }

    /// Whether nobody at this address has shown that our packets are welcome there. An answer goes
    /// where somebody has asked, a keeper's checks to who has answered before, the questions of the survey
    /// to the tracker, but not to where that says it has another address. Of the other IP family that
    /// counts until it has answered.
    fn is_unasked(&self, to: SocketAddr, bytes: &[u8], owner: Owner) -> bool {
        let id = match owner {
            Owner::Attempt(id) => id,
            Owner::Survey => return self.survey.is_hearsay(to),
            Owner::Proof(_) => return true,
            Owner::Keeper(_) => return false,
        };
        let peer = self.attempts.get(&id).map(|attempt| attempt.peer);
        let keeper = peer.and_then(|peer| self.keepers.get(&peer));
        let is_known = keeper.is_some_and(|keeper| keeper.machine.path().ip() == to.ip());
        !is_known && check::request_transaction_of(bytes).is_some()
    }

    /// By which socket a datagram may leave, if there is one and the budgets allow it.
    fn grant(&mut self, transmit: &Transmit, owner: Owner, heard: Option<Arrival>) -> Option<Via> {
        let to = transmit.to;
        if !self.may_send(transmit, owner) {
            tracing::debug!(%to, "no more checks to an address that does not answer");
            return None;
        }
        let via = self.via_for(transmit, owner, heard)?;
        let (now, guess) = (Instant::now(), self.turnstile.technique());
        let has_room = self.flows.take(now, (via, to), transmit.charge, guess);
        if !has_room {
            tracing::debug!(%to, "no more flows through our nat for now");
        }
        has_room.then_some(via)
    }

    /// Sends a datagram; an answer leaves from where its request arrived.
    fn send(&mut self, transmit: &Transmit, owner: Owner, heard: Option<Arrival>) {
        let Transmit { to, bytes, ttl, .. } = transmit;
        self.owners.sent(bytes, owner);
        let Some(via) = self.grant(transmit, owner, heard) else {
            if let Owner::Attempt(id) = owner
                && let Some(attempt) = self.attempts.get_mut(&id)
            {
                attempt.note_withheld(bytes);
            }
            return;
        };
        let socket = self.endpoint.socket();
        match (ttl, heard) {
            (None, Some((from, local_ip, at))) if (from, at) == (*to, via) => {
                socket.send_via_from(via, bytes, *to, local_ip);
            }
            _ => socket.send_via(via, bytes, *to, *ttl),
        }
    }
}

#[cfg(test)]
mod tests;
