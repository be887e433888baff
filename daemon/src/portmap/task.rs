//! The task that asks: the socket towards the router, the calls of UPnP, and the loop that feeds
//! them to the machines.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::PortNews;
use super::mapper::{Action, LIFETIME, Mapper, Refusal, Standing, UpnpNews};
use super::message;
use super::plan::{Router, plan, router_of};
use super::proof::{Finding, Proof, Token};
use super::state::{PortState, Unasked};
use super::upnp::{self, UpnpRouter};
use crate::node::{NodeEvent, NodeSender};
use crate::peer::interfaces::own_addresses;

/// How long a router may take to hear that we need the port no longer.
pub(super) const RELEASE_TIME: Duration = Duration::from_secs(1);

/// Until it is told again.
const RELEASE_REPEAT: Duration = Duration::from_millis(250);

/// What the task hears of beside the router.
#[derive(Debug)]
pub(super) struct Inputs {
    /// Where the tracker sees us.
    pub(super) observed: watch::Receiver<Option<IpAddr>>,
    /// The network may be another one.
    pub(super) changed: Arc<Notify>,
    /// Probes that came in.
    pub(super) probes: mpsc::Receiver<Token>,
}

/// Owns everything that is asked of a router.
#[derive(Debug)]
pub(super) struct PortTask {
    listening: SocketAddr,
    node: NodeSender,
    inputs: Inputs,
    /// Why nobody is asked, or whom.
    asking: Result<Asking, Unasked>,
    proof: Proof,
    told: Option<PortState>,
}

/// One router that is asked.
#[derive(Debug)]
struct Asking {
    router: Router,
    inside: u16,
    socket: UdpSocket,
    mapper: Mapper,
    upnp: Option<UpnpRouter>,
    calls: JoinSet<Called>,
    /// How many of the calls open a port.
    adding: usize,
}

/// What a call of UPnP has come to.
#[derive(Debug)]
enum Called {
    Searched(Option<UpnpRouter>),
    Added(Result<SocketAddrV4, Refusal>),
    Removed,
    Failed,
}

/// Whether something listens at the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    Maybe,
    Refused,
}

/// What came from a router.
#[derive(Debug)]
enum Heard {
    Datagram(Vec<u8>),
    /// Nothing listens there.
    Unreachable,
    Called(Called),
}

impl PortTask {
    pub(super) fn new(listening: SocketAddr, node: NodeSender, inputs: Inputs) -> PortTask {
        PortTask {
            listening,
            node,
            inputs,
            asking: Err(Unasked::Unseen),
            proof: Proof::default(),
            told: None,
        }
    }

    /// Works until it is stopped, then gives back what it has.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        self.replan().await;
        self.serve(stop).await;
    }

    async fn serve(mut self, stop: CancellationToken) {
        loop {
            self.settle().await;
            let due = self.poll_timeout();
            tokio::select! {
                () = stop.cancelled() => break,
                changed = self.inputs.observed.changed() => match changed {
                    Ok(()) => self.replan().await,
                    // The daemon is gone.
                    Err(_) => break,
                },
                () = self.inputs.changed.notified() => self.handle_change().await,
                Some(token) = self.inputs.probes.recv() => self.handle_probe(token),
                heard = hear(&mut self.asking) => self.handle_heard(heard),
                () = sleep(due) => self.handle_timeout(),
            }
        }
        if let Ok(asking) = self.asking {
            asking.release().await;
        }
    }

    /// Finds out whom to ask now.
    async fn replan(&mut self) {
        let observed = *self.inputs.observed.borrow_and_update();
        let planned = plan(self.listening, observed, &own_addresses(), router_of);
        self.turn_to(planned).await;
    }

    async fn turn_to(&mut self, planned: Result<Router, Unasked>) {
        if matches!((&self.asking, &planned), (Ok(asking), Ok(router)) if asking.router == *router)
        {
            return;
        }
        let inside = self.listening.port();
        let asking = match planned {
            Ok(router) => Asking::begin(router, inside).await.map_err(|error| {
                tracing::debug!(%error, "no socket towards the router");
                Unasked::NoRouter
            }),
            Err(why) => Err(why),
        };
        self.proof.end();
        if let Ok(before) = std::mem::replace(&mut self.asking, asking) {
            // It is mostly out of reach by now.
            tokio::spawn(before.release());
        }
    }

    async fn handle_change(&mut self) {
        self.replan().await;
        if let Ok(asking) = &mut self.asking {
            asking.mapper.renew(Instant::now());
        }
        if self.proof.finding() != Finding::Open {
            self.proof.end();
        }
    }

    fn handle_probe(&mut self, token: Token) {
        if self.proof.handle_probe(token) {
            tracing::debug!("packets come in by the port that the router opened");
        }
    }

    fn handle_heard(&mut self, heard: Heard) {
        let Ok(asking) = &mut self.asking else {
            return;
        };
        let now = Instant::now();
        match heard {
            Heard::Datagram(bytes) => asking.mapper.handle_datagram(now, &bytes),
            Heard::Unreachable => asking.mapper.handle_unreachable(now),
            Heard::Called(called) => asking.handle_called(now, called),
        }
    }

    fn handle_timeout(&mut self) {
        if let Ok(asking) = &mut self.asking {
            asking.mapper.handle_timeout(Instant::now());
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let asking = self.asking.as_ref().ok();
        let mapper = asking.and_then(|asking| asking.mapper.poll_timeout());
        mapper.into_iter().chain(self.proof.poll_timeout()).min()
    }

    /// Does what the machines want, and tells what has changed.
    async fn settle(&mut self) {
        if let Ok(asking) = &mut self.asking {
            asking.act().await;
        }
        self.prove().await;
        let state = self.state();
        if self.told.as_ref() != Some(&state) {
            match state {
                PortState::Open(_) | PortState::Shut(_) | PortState::BehindNat { .. } => {
                    tracing::info!(%state, "port mapping");
                }
                _ => tracing::debug!(%state, "port mapping"),
            }
            self.told = Some(state.clone());
            self.tell(PortNews::State(state)).await;
        }
    }

    async fn prove(&mut self) {
        let now = Instant::now();
        match self.granted() {
            Some(outside) => self.proof.begin(now, outside, rand::random()),
            None => self.proof.end(),
        }
        if let Some(ask) = self.proof.poll_ask(now) {
            let (port, token) = (ask.port, ask.token);
            self.tell(PortNews::Probe { port, token }).await;
        }
    }

    /// What the router opened, if it is of the address that the tracker sees.
    fn granted(&self) -> Option<SocketAddrV4> {
        match self.asking.as_ref().ok()?.mapper.standing() {
            Standing::Granted(opened) if self.is_observed(opened.outside) => Some(opened.outside),
            _ => None,
        }
    }

    fn is_observed(&self, outside: SocketAddrV4) -> bool {
        *self.inputs.observed.borrow() == Some(IpAddr::V4(*outside.ip()))
    }

    fn state(&self) -> PortState {
        let asking = match &self.asking {
            Ok(asking) => asking,
            Err(why) => return PortState::Unasked(*why),
        };
        let observed = *self.inputs.observed.borrow();
        match (asking.mapper.standing(), observed) {
            (Standing::Asking, _) => PortState::Asking,
            (Standing::Failed(failure), _) => PortState::Failed(failure),
            (Standing::Granted(opened), Some(observed)) if !self.is_observed(opened.outside) => {
                PortState::BehindNat { opened, observed }
            }
            (Standing::Granted(opened), _) => match self.proof.finding() {
                Finding::Pending => PortState::Checking(opened),
                Finding::Open => PortState::Open(opened),
                Finding::Shut => PortState::Shut(opened),
            },
        }
    }

    async fn tell(&self, news: PortNews) {
        self.node.send(NodeEvent::Port(news)).await;
    }
}

impl Asking {
    async fn begin(router: Router, inside: u16) -> io::Result<Asking> {
        let socket = UdpSocket::bind((router.client, 0)).await?;
        socket.connect(router.server).await?;
        let mapper = Mapper::new(Instant::now(), router.client, inside, rand::random());
        Ok(Asking {
            router,
            inside,
            socket,
            mapper,
            upnp: None,
            calls: JoinSet::new(),
            adding: 0,
        })
    }

    /// What comes next from the router.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; nothing is lost.
    async fn hear(&mut self) -> Heard {
        let mut bytes = [0; message::MAX_BYTES];
        loop {
            tokio::select! {
                received = self.socket.recv(&mut bytes) => match received {
                    Ok(length) => return Heard::Datagram(bytes[..length].to_vec()),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        return Heard::Unreachable;
                    }
                    Err(error) => tracing::debug!(%error, "the router is not reached"),
                },
                Some(called) = self.calls.join_next() => {
                    return Heard::Called(called.unwrap_or(Called::Failed));
                }
            }
        }
    }

    async fn act(&mut self) {
        while let Some(action) = self.mapper.poll_action() {
            match action {
                Action::Send(bytes) => {
                    if self.send(&bytes).await == Reached::Refused {
                        self.mapper.handle_unreachable(Instant::now());
                    }
                }
                Action::Search => {
                    let Router {
                        client,
                        server,
                        upnp_group,
                    } = self.router;
                    self.calls.spawn(async move {
                        Called::Searched(upnp::search(client, upnp_group, *server.ip()).await)
                    });
                }
                Action::Add { port } => self.add(port),
                Action::Remove { port } => {
                    if let Some(router) = self.upnp.clone() {
                        self.calls.spawn(remove(router, port));
                    }
                }
            }
        }
    }

    /// What is lost is sent again. The kernel tells here, too, what came of the one before.
    async fn send(&self, bytes: &[u8]) -> Reached {
        match self.socket.send(bytes).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Reached::Refused,
            Err(error) => {
                tracing::debug!(%error, "the router is not reached");
                Reached::Maybe
            }
            Ok(_) => Reached::Maybe,
        }
    }

    fn add(&mut self, port: u16) {
        let inside = SocketAddrV4::new(self.router.client, self.inside);
        let router = self.upnp.clone();
        self.adding += 1;
        self.calls.spawn(async move {
            Called::Added(match router {
                Some(router) => router.add(inside, port).await,
                None => Err(Refusal::Said("it is gone".to_owned())),
            })
        });
    }

    fn handle_called(&mut self, now: Instant, called: Called) {
        if let Called::Added(_) = called {
            self.adding -= 1;
        }
        let news = match called {
            Called::Searched(Some(router)) => {
                self.upnp = Some(router);
                UpnpNews::Found
            }
            Called::Searched(None) | Called::Failed => UpnpNews::NotFound,
            Called::Added(Ok(outside)) => UpnpNews::Added(outside, LIFETIME),
            Called::Added(Err(refusal)) => UpnpNews::Refused(refusal),
            Called::Removed => return,
        };
        self.mapper.handle_upnp(now, news);
    }

    /// Gives back what the router has granted, and what it is about to grant.
    async fn release(mut self) {
        self.mapper.release();
        let releasing = async {
            self.give_back().await;
            while self.adding > 0
                && let Some(called) = self.calls.join_next().await
            {
                self.handle_called(Instant::now(), called.unwrap_or(Called::Failed));
                self.give_back().await;
            }
        };
        if timeout(RELEASE_TIME, releasing).await.is_err() {
            tracing::debug!("the router does not confirm that the port is closed");
        }
    }

    async fn give_back(&mut self) {
        while let Some(action) = self.mapper.poll_action() {
            match action {
                Action::Send(bytes) => self.send_until_answered(&bytes).await,
                Action::Remove { port } => {
                    if let Some(router) = self.upnp.clone() {
                        remove(router, port).await;
                    }
                }
                Action::Search | Action::Add { .. } => (),
            }
        }
    }

    async fn send_until_answered(&self, bytes: &[u8]) {
        let mut answer = [0; message::MAX_BYTES];
        loop {
            self.send(bytes).await;
            if timeout(RELEASE_REPEAT, self.socket.recv(&mut answer))
                .await
                .is_ok()
            {
                return;
            }
        }
    }
}

async fn remove(router: UpnpRouter, port: u16) -> Called {
    if let Err(refusal) = router.remove(port).await {
        tracing::debug!(%refusal, port, "the router does not close the port");
    }
    Called::Removed
}

/// What comes next from the router that is asked; never anything when none is.
async fn hear(asking: &mut Result<Asking, Unasked>) -> Heard {
    match asking {
        Ok(asking) => asking.hear().await,
        Err(_) => std::future::pending().await,
    }
}

async fn sleep(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
