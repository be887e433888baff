//! Starts and stops a tracker: its sockets and the tasks on them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use warren_net::{Endpoint, Identity, Incoming, Profile, Protocol};
use warren_proto::id::{PublicKey, TrackerPin};
use warren_proto::swarm::SwarmConfig;

use crate::admission::{Admission, Verdict};
use crate::config::{Config, StartError, checked_public};
use crate::session::{self, ANNOUNCE_INTERVAL, Close, Place};
use crate::state::State;
use crate::stun;

/// How often memberships and token buckets are looked through.
const TICK: Duration = Duration::from_secs(1);

/// How long a shutdown waits for daemons to hear of it.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// A running tracker. Dropping it stops it without telling anyone; see [`Tracker::shutdown`].
#[derive(Debug)]
pub struct Tracker {
    key: PublicKey,
    endpoints: Vec<Endpoint>,
    stun_endpoints: Vec<Endpoint>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What every task of a tracker shares.
struct Shared {
    state: Arc<State>,
    admission: Arc<Admission>,
    place: Place,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Tracker {
    /// Opens all sockets and begins to serve. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the key or an address cannot be used; nothing is left running then.
    pub fn start(config: Config) -> Result<Self, StartError> {
        if config.listen.is_empty() {
            return Err(StartError::NoAddress);
        }
        let public = config.public.as_deref().map(checked_public).transpose()?;
        let identity = Identity::load_or_create(&config.home.join("tracker").join("key"))?;
        let endpoints = bind_all(&config.listen, &identity, &[Protocol::Tracker])
            .map_err(StartError::Listen)?;
        // QUIC is not served there; the endpoint is what reads the socket.
        let stun_endpoints =
            bind_all(&config.stun_listen, &identity, &[]).map_err(StartError::StunListen)?;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let membership = SwarmConfig {
            ttl: 3 * ANNOUNCE_INTERVAL,
            ..SwarmConfig::default()
        };
        let shared = Arc::new(Shared {
            state: Arc::new(State::new(membership)),
            admission: Arc::new(Admission::new()),
            place: Place {
                public,
                stun_port: stun_endpoints.first().map(|it| it.local_addr().port()),
            },
            stop: stop.clone(),
            tasks: tasks.clone(),
        });
        for endpoint in &stun_endpoints {
            spawn_stun(&shared, endpoint, &endpoints);
        }
        for endpoint in &endpoints {
            spawn_stun(&shared, endpoint, &stun_endpoints);
            tasks.spawn(accept(Arc::clone(&shared), endpoint.clone()));
        }
        tasks.spawn(tick(Arc::clone(&shared)));
        tasks.close();
        Ok(Self {
            key: identity.public_key(),
            endpoints,
            stun_endpoints,
            stop,
            tasks,
        })
    }

    /// Where daemons are served, in the order of [`Config::listen`].
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().map(Endpoint::local_addr).collect()
    }

    /// Where STUN alone is served, in the order of [`Config::stun_listen`].
    pub fn stun_addrs(&self) -> Vec<SocketAddr> {
        self.stun_endpoints
            .iter()
            .map(Endpoint::local_addr)
            .collect()
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
        for endpoint in self.endpoints.iter().chain(&self.stun_endpoints) {
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

fn bind_all(
    addrs: &[SocketAddr],
    identity: &Identity,
    serves: &[Protocol],
) -> Result<Vec<Endpoint>, warren_net::BindError> {
    addrs
        .iter()
        .map(|addr| Endpoint::bind(*addr, identity, serves, Profile::Tracker))
        .collect()
}

/// Answers STUN on `endpoint`, and from one of `others` who asks for another port.
fn spawn_stun(shared: &Arc<Shared>, endpoint: &Endpoint, others: &[Endpoint]) {
    let port = stun::Port {
        socket: Arc::clone(endpoint.socket()),
        others: others.iter().map(|o| Arc::clone(o.socket())).collect(),
    };
    let requests = port.socket.take_stun();
    let serve = stun::serve(port, requests, Arc::clone(&shared.admission));
    let stop = shared.stop.clone();
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
    match incoming.complete().await {
        Ok(connection) => {
            let (state, admission) = (Arc::clone(&shared.state), Arc::clone(&shared.admission));
            session::run(connection, state, admission, shared.place.clone()).await;
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "no handshake");
        }
    }
}

/// Lets time pass for the tables.
async fn tick(shared: Arc<Shared>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let passing = async {
        loop {
            ticks.tick().await;
            shared.state.expire(Instant::now());
            shared.admission.tidy();
        }
    };
    shared.stop.run_until_cancelled(passing).await;
}
