//! Starts and stops a tracker: its sockets and the tasks on them.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use warren_net::{
    AcceptError, BindError, Endpoint, Identity, Incoming, Link, Profile, Protocol, TcpIncoming,
    TcpListener, Unsolicited,
};
use warren_proto::id::{PublicKey, TrackerPin};
use warren_proto::swarm::SwarmConfig;
use warren_service::notify::Notifier;

use crate::admission::{Admission, Verdict};
use crate::alternate::Alternates;
use crate::config::{Config, StartError, checked_public};
use crate::families::Families;
use crate::passed::Passed;
use crate::proofs::Proofs;
use crate::relay::Relay;
use crate::seats::{Seat, Seats};
use crate::session::{self, ANNOUNCE_INTERVAL, Close, Desk, Place};
use crate::state::State;
use crate::stun;
use warren_net::RelayCounts;

/// How often memberships and token buckets are looked through.
const TICK: Duration = Duration::from_secs(1);

/// How often it is logged what was relayed, if that has changed.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// How long a shutdown waits for daemons to hear of it.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// A running tracker. Dropping it stops it without telling anyone; see [`Tracker::shutdown`].
#[derive(Debug)]
pub struct Tracker {
    key: PublicKey,
    endpoints: Vec<Endpoint>,
    stun_endpoints: Vec<Endpoint>,
    alternates: Alternates,
    tcp_addrs: Vec<SocketAddr>,
    state: Arc<State>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What every task of a tracker shares.
struct Shared {
    state: Arc<State>,
    admission: Arc<Admission>,
    proofs: Arc<Proofs>,
    seats: Arc<Seats>,
    place: Place,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Shared {
    fn desk(&self) -> Desk {
        Desk {
            state: Arc::clone(&self.state),
            admission: Arc::clone(&self.admission),
            place: self.place.clone(),
        }
    }
}

impl Tracker {
    /// Opens all sockets and begins to serve. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the key or an address cannot be used; nothing is left running then.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_on(config, Passed::default())
    }

    /// The same with sockets that are open already, in the place of addresses.
    ///
    /// # Errors
    ///
    /// See [`start`](Self::start).
    pub fn start_on(config: Config, passed: Passed) -> Result<Self, StartError> {
        if config.listen.is_empty() && passed.udp.is_empty() {
            return Err(StartError::NoAddress);
        }
        let public = config.public.as_deref().map(checked_public).transpose()?;
        let identity = Identity::load_or_create(&config.home.join("tracker").join("key"))?;
        let endpoints = open_all(passed.udp, &config.listen, &identity, &[Protocol::Tracker])
            .map_err(StartError::Listen)?;
        // QUIC is not served there; the endpoint is what reads the socket.
        let stun_endpoints = open_all(passed.stun, &config.stun_listen, &identity, &[])
            .map_err(StartError::StunListen)?;
        let alternates = Alternates::open(
            &config,
            &addrs_of(&endpoints),
            &addrs_of(&stun_endpoints),
            &identity,
        )?;
        let listeners = listen_all(passed.tcp, &config.tcp_listen, &endpoints, &identity)?;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let membership = SwarmConfig {
            ttl: 3 * ANNOUNCE_INTERVAL,
            shape: config.shape,
            ..SwarmConfig::default()
        };
        let (proofs, relay) = (Arc::new(Proofs::new()), Relay::new(config.relay_bits_per_s));
        let shared = Arc::new(Shared {
            state: Arc::new(State::new(membership, relay, Arc::clone(&proofs))),
            admission: Arc::new(Admission::new()),
            proofs,
            seats: Seats::for_open_files(),
            place: Place {
                public,
                stun_port: stun_endpoints.first().map(|it| it.local_addr().port()),
                alternates: alternates.addrs.clone(),
                families: Families::new(&config, &addrs_of(&endpoints)),
            },
            stop: stop.clone(),
            tasks: tasks.clone(),
        });
        for endpoint in &stun_endpoints {
            spawn_stun(&shared, endpoint, &endpoints);
        }
        for endpoint in &alternates.endpoints {
            spawn_stun(&shared, endpoint, &stun_endpoints);
        }
        for endpoint in &endpoints {
            spawn_stun(&shared, endpoint, &stun_endpoints);
            spawn_relay(&shared, endpoint);
            tasks.spawn(accept(Arc::clone(&shared), endpoint.clone()));
        }
        let tcp_addrs = listeners.iter().map(TcpListener::local_addr).collect();
        for listener in listeners {
            tasks.spawn(accept_tcp(Arc::clone(&shared), listener));
        }
        tasks.spawn(tick(Arc::clone(&shared)));
        tasks.close();
        Ok(Self {
            key: identity.public_key(),
            endpoints,
            stun_endpoints,
            alternates,
            tcp_addrs,
            state: Arc::clone(&shared.state),
            stop,
            tasks,
        })
    }

    /// Where daemons are served, in the order of [`Config::listen`].
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        addrs_of(&self.endpoints)
    }

    /// Where daemons are served by TLS over TCP, those of [`Config::tcp_listen`] first.
    pub fn tcp_addrs(&self) -> &[SocketAddr] {
        &self.tcp_addrs
    }

    /// Where STUN alone is served, in the order of [`Config::stun_listen`].
    pub fn stun_addrs(&self) -> Vec<SocketAddr> {
        addrs_of(&self.stun_endpoints)
    }

    /// Where else STUN is answered, in the order of [`Config::alt_addresses`].
    pub fn alt_addrs(&self) -> &[SocketAddr] {
        &self.alternates.addrs
    }

    /// What it has relayed so far.
    pub fn relay_counts(&self) -> RelayCounts {
        self.state.relay().counts()
    }

    /// The tracker's key.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// The pin of its key: what daemons are given.
    pub fn pin(&self) -> TrackerPin {
        TrackerPin::of(&self.key)
    }

    /// Tells all daemons and stops.
    pub async fn shutdown(self) {
        self.stop.cancel();
        let alternates = &self.alternates.endpoints;
        let stun = self.stun_endpoints.iter().chain(alternates);
        for endpoint in self.endpoints.iter().chain(stun) {
            endpoint.close(Close::Done.code());
        }
        let told = async {
            self.tasks.wait().await;
            for endpoint in &self.endpoints {
                endpoint.wait_idle().await;
            }
        };
        if timeout(SHUTDOWN_GRACE, told).await.is_err() {
            tracing::debug!("some daemons did not hear of the shutdown");
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn addrs_of(endpoints: &[Endpoint]) -> Vec<SocketAddr> {
    endpoints.iter().map(Endpoint::local_addr).collect()
}

/// On sockets that are open already, or else at `addrs`.
fn open_all(
    passed: Vec<UdpSocket>,
    addrs: &[SocketAddr],
    identity: &Identity,
    serves: &[Protocol],
) -> Result<Vec<Endpoint>, BindError> {
    let (open, profile) = (Unsolicited::Accept, Profile::Tracker);
    if passed.is_empty() {
        let bind = |addr: &SocketAddr| Endpoint::bind(*addr, identity, serves, profile);
        return addrs.iter().map(bind).collect();
    }
    let passed = passed.into_iter();
    passed
        .map(|socket| Endpoint::on(socket, identity, serves, profile, open))
        .collect()
}

/// Listens on TCP at `asked` or on what is open already, where it must work, and where the endpoints
/// are, where it may not.
fn listen_all(
    passed: Vec<std::net::TcpListener>,
    asked: &[SocketAddr],
    endpoints: &[Endpoint],
    identity: &Identity,
) -> Result<Vec<TcpListener>, StartError> {
    let asked: Result<Vec<_>, _> = match passed.is_empty() {
        true => asked
            .iter()
            .map(|addr| TcpListener::bind(*addr, identity))
            .collect(),
        false => passed
            .into_iter()
            .map(|listener| TcpListener::on(listener, identity))
            .collect(),
    };
    let mut listeners = asked.map_err(StartError::TcpListen)?;
    for addr in endpoints.iter().map(Endpoint::local_addr) {
        if listeners.iter().any(|it| it.local_addr() == addr) {
            continue;
        }
        match TcpListener::bind(addr, identity) {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    error,
                    "daemons that no UDP reaches are not served at this port"
                );
            }
        }
    }
    Ok(listeners)
}

/// Answers STUN on `endpoint`, and from one of `others` who asks for another port.
fn spawn_stun(shared: &Arc<Shared>, endpoint: &Endpoint, others: &[Endpoint]) {
    let port = stun::Port {
        socket: Arc::clone(endpoint.socket()),
        others: others.iter().map(|o| Arc::clone(o.socket())).collect(),
    };
    let requests = port.socket.take_stun();
    let (admission, proofs) = (Arc::clone(&shared.admission), Arc::clone(&shared.proofs));
    let serve = stun::serve(port, requests, admission, proofs);
    let stop = shared.stop.clone();
    shared
        .tasks
        .spawn(async move { stop.run_until_cancelled(serve).await });
}

/// Passes on what daemons send to each other through `endpoint`.
fn spawn_relay(shared: &Arc<Shared>, endpoint: &Endpoint) {
    let batches = endpoint.socket().take_relay();
    let (state, stop) = (Arc::clone(&shared.state), shared.stop.clone());
    let serve = async move { state.relay().serve(batches).await };
    shared
        .tasks
        .spawn(async move { stop.run_until_cancelled(serve).await });
}

/// Takes in daemons until the endpoint closes.
async fn accept(shared: Arc<Shared>, endpoint: Endpoint) {
    let incoming = async {
        while let Some(incoming) = endpoint.accept().await {
            admit(&shared, incoming, endpoint.handshakes_under_way());
        }
    };
    shared.stop.run_until_cancelled(incoming).await;
}

fn admit(shared: &Arc<Shared>, incoming: Incoming, under_way: usize) {
    let ip = incoming.remote_address().ip();
    match shared
        .admission
        .handshake(ip, incoming.is_validated(), under_way)
    {
        Verdict::Accept => {
            // Each in a task of its own: a panic ends one session, not the tracker.
            let session = session_of(Arc::clone(shared), incoming);
            let stop = shared.stop.clone();
            shared
                .tasks
                .spawn(async move { stop.run_until_cancelled(session).await });
        }
        Verdict::Retry => incoming.retry(),
        Verdict::Refuse => drop(incoming),
    }
}

async fn session_of(shared: Arc<Shared>, incoming: Incoming) {
    // Whoever completes the handshake has received something there.
    let from = incoming.remote_address().ip();
    match incoming.complete().await {
        Ok(connection) => {
            let link = Link::Quic(connection);
            session::run(link, from, shared.desk()).await;
        }
        Err(error) => report_handshake(&error),
    }
}

/// Takes in daemons by TCP until the tracker stops.
async fn accept_tcp(shared: Arc<Shared>, listener: TcpListener) {
    let incoming = async {
        loop {
            let incoming = listener.accept().await;
            admit_tcp(&shared, incoming, listener.handshakes_under_way());
        }
    };
    shared.stop.run_until_cancelled(incoming).await;
}

/// By TCP everybody has shown their address.
fn admit_tcp(shared: &Arc<Shared>, incoming: TcpIncoming, under_way: usize) {
    let ip = incoming.remote_address().ip();
    let Some(seat) = shared.seats.take(ip) else {
        return;
    };
    if shared.admission.handshake(ip, true, under_way) == Verdict::Accept {
        let session = tcp_session_of(Arc::clone(shared), incoming, seat);
        shared.tasks.spawn(session);
    }
}

async fn tcp_session_of(shared: Arc<Shared>, incoming: TcpIncoming, _seat: Seat) {
    let from = incoming.remote_address().ip();
    let completing = shared.stop.run_until_cancelled(incoming.complete());
    let link = match completing.await {
        Some(Ok(connection)) => Link::Tcp(connection),
        Some(Err(error)) => return report_handshake(&error),
        None => return,
    };
    let session = session::run(link.clone(), from, shared.desk());
    shared.stop.run_until_cancelled(session).await;
    // Unless the session has said why already.
    Close::Done.apply(&link);
    link.finished().await;
}

fn report_handshake(error: &AcceptError) {
    let error: &dyn std::error::Error = error;
    tracing::debug!(error, "no handshake");
}

/// Lets time pass for the tables.
async fn tick(shared: Arc<Shared>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut notifier = Notifier::from_env();
    notifier.ready();
    let mut reported = RelayCounts::default();
    let mut next_report = Instant::now() + REPORT_INTERVAL;
    let passing = async {
        loop {
            ticks.tick().await;
            let now = Instant::now();
            shared.state.expire(now);
            shared.admission.tidy();
            // Having gone through the tables that all sessions need, it is known not to hang.
            notifier.alive(now, || status(&shared.state));
            if now >= next_report {
                next_report = now + REPORT_INTERVAL;
                reported = report_relay(&shared.state, reported);
            }
        }
    };
    shared.stop.run_until_cancelled(passing).await;
    Notifier::from_env().stopping();
    report_relay(&shared.state, RelayCounts::default());
}

/// How things are, in a line.
fn status(state: &State) -> String {
    let relayed_mib = state.relay().counts().datagrams.bytes >> 20;
    let (daemons, swarms) = state.population();
    format!("{daemons} daemons in {swarms} swarms, {relayed_mib} MiB relayed")
}

/// Logs what was relayed, if that has changed, and returns it.
fn report_relay(state: &State, before: RelayCounts) -> RelayCounts {
    let counts = state.relay().counts();
    let RelayCounts {
        datagrams: count,
        sessions,
        too_long,
        tunnel_full,
    } = counts;
    if (count, too_long, tunnel_full) != (before.datagrams, before.too_long, before.tunnel_full) {
        tracing::info!(
            sessions,
            datagrams = count.datagrams,
            bytes = count.bytes,
            unknown_session = count.unknown_session,
            foreign_source = count.foreign_source,
            no_receiver = count.no_receiver,
            over_rate = count.over_rate,
            too_long,
            tunnel_full,
            "relayed"
        );
    }
    counts
}
