//! Connections through a tracker over real sockets: by UDP, and by a tunnel.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use warren_net::{
    AcceptError, Class, Connection, Endpoint, Expect, Identity, Profile, Protocol, RelayBatch,
    Socket, Unsolicited,
};
use warren_proto::id::{PublicKey, RelayId};

mod common;

use common::{
    PATIENCE, accept_in_background, echo, endpoint, expect_much, open, pour, rate, read_to_end,
};

const SESSION: RelayId = RelayId(*b"some session");

/// What a UDP payload of the tracker's never exceeds: header and QUIC datagram.
const LONGEST: usize = 16 + 1200;

#[tokio::test]
async fn a_connection_through_a_tracker_moves_data_beside_the_tracker_connection() {
    let world = World::new().await;
    let (dialled, accepted) = world.meet().await;
    assert_eq!([dialled.class(), accepted.class()], [Class::Relay; 2]);
    assert_eq!(dialled.remote_address(), world.tracker.local_addr());
    assert_eq!(accepted.route(), Some(world.right.route));

    let _expected = expect_much(&dialled);
    let sending = pour(&accepted, 8 << 20);
    let receive = timeout(PATIENCE, dialled.quinn().accept_bi())
        .await
        .unwrap()
        .unwrap()
        .1;
    let reading = tokio::spawn(read_to_end(receive));
    // Meanwhile the tracker itself is talked to.
    while !reading.is_finished() {
        echo(&world.left.to_tracker, &world.left.at_tracker).await;
        echo(&world.right.at_tracker, &world.right.to_tracker).await;
    }
    assert_eq!(reading.await.unwrap(), 8 << 20);
    sending.await.unwrap();
    for socket in [&world.left, &world.right].map(|it| it.endpoint.socket()) {
        let counters = socket.counters();
        assert_eq!((counters.stray, counters.unrouted), (0, 0));
    }
    assert!(world.forwarder.longest() <= LONGEST);
    assert!(world.forwarder.in_batches(), "GSO and GRO are of use");
}

#[tokio::test]
async fn nobody_dials_on_a_relay_route_before_it_is_pointed_nor_with_another_key() {
    let world = World::new().await;
    let refused = world.left.dial().await.unwrap_err().to_string();
    assert!(refused.contains("no connection to"), "{refused}");

    // The session leads to a peer that the other does not expect there.
    let wrong = world.right.endpoint.socket();
    let route = wrong.route(&PublicKey([7; 32]), Class::Relay);
    world.left.point();
    assert!(wrong.point_relay(route, SESSION, world.tracker.local_addr()));
    let accepting = accept_in_background(&world.right.endpoint);
    if let Ok(connection) = timeout(PATIENCE, world.left.dial()).await.unwrap() {
        timeout(PATIENCE, connection.closed()).await.unwrap();
    }
    let refused = accepting.await.unwrap();
    assert!(matches!(refused, Err(AcceptError::Unusable)), "{refused:?}");
}

#[tokio::test]
async fn a_direct_and_a_relayed_connection_live_beside_each_other() {
    let world = World::new().await;
    let (dialled, accepted) = world.meet().await;
    let (left, right) = (&world.left.endpoint, &world.right.endpoint);
    let to_right = left.socket().route(&dialled.peer_key(), Class::Direct);
    open(left, to_right, right.local_addr());
    let to_left = right.socket().route(&accepted.peer_key(), Class::Direct);
    open(right, to_left, left.local_addr());
    let accepting = accept_in_background(right);
    let connecting = left.connect_route(to_right, Protocol::Peer, Expect::Any, None);
    let direct = timeout(PATIENCE, connecting).await.unwrap().unwrap();
    let direct = (direct, accepting.await.unwrap().unwrap());
    assert_eq!(direct.0.class(), Class::Direct);

    for _ in 0..20 {
        echo(&direct.0, &direct.1).await;
        echo(&dialled, &accepted).await;
    }
    // Each is over when its own route is.
    left.socket().forget(world.left.route);
    echo(&direct.0, &direct.1).await;
    assert_eq!(direct.0.remote_address(), right.local_addr());
    assert_eq!(direct.1.remote_address(), left.local_addr());
}

#[tokio::test]
async fn a_relayed_connection_goes_on_in_another_session() {
    let world = World::new().await;
    let (dialled, accepted) = world.meet().await;
    echo(&dialled, &accepted).await;
    let next = RelayId([9; 12]);
    world.left.point_at(next);
    world.right.point_at(next);
    echo(&dialled, &accepted).await;
    assert_eq!(world.forwarder.last().id, next);
}

#[tokio::test]
async fn a_connection_through_tunnels_moves_data() {
    let world = World::new().await;
    let tunnels = [
        world.left.tunnel_to(&world.right),
        world.right.tunnel_to(&world.left),
    ];
    let (dialled, accepted) = world.connect().await;
    assert_eq!(dialled.remote_address(), world.left.route);
    assert_eq!(accepted.class(), Class::Relay);
    let _expected = expect_much(&dialled);
    let sending = pour(&accepted, 8 << 20);
    let receive = dialled.quinn().accept_bi().await.unwrap().1;
    assert_eq!(read_to_end(receive).await, 8 << 20);
    sending.await.unwrap();
    assert!(world.forwarder.seen().is_none(), "nothing went by UDP");
    tunnels.iter().for_each(JoinHandle::abort);
}

/// What loopback moves through a tracker, in MB/s; see `routes.rs`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput_of_relayed_connections() {
    for _ in 0..5 {
        let world = World::new().await;
        println!("relayed {:5.0}", rate(world.meet().await).await);
    }
}

/// Two daemons, each connected to the tracker and with a relay route to the other.
struct World {
    tracker: Endpoint,
    forwarder: Arc<Forwarder>,
    left: Daemon,
    right: Daemon,
}

struct Daemon {
    endpoint: Endpoint,
    route: SocketAddr,
    tracker: SocketAddr,
    to_tracker: Connection,
    at_tracker: Connection,
}

impl World {
    async fn new() -> Self {
        let identity = Identity::generate().unwrap();
        let loopback = "127.0.0.1:0".parse().unwrap();
        let serves = [Protocol::Tracker];
        let tracker = Endpoint::bind(loopback, &identity, &serves, Profile::Tracker).unwrap();
        let identities = [(); 2].map(|()| Identity::generate().unwrap());
        let [one, two] = identities.each_ref().map(Identity::public_key);
        let left = Daemon::new(&identities[0], two, &tracker).await;
        let right = Daemon::new(&identities[1], one, &tracker).await;
        let ends = [&left, &right].map(|daemon| daemon.at_tracker.remote_address());
        let forwarder = Forwarder::start(Arc::clone(tracker.socket()), ends);
        Self {
            tracker,
            forwarder,
            left,
            right,
        }
    }

    async fn meet(&self) -> (Connection, Connection) {
        self.left.point();
        self.right.point();
        self.connect().await
    }

    async fn connect(&self) -> (Connection, Connection) {
        let accepting = accept_in_background(&self.right.endpoint);
        let dialled = timeout(PATIENCE, self.left.dial()).await.unwrap();
        (dialled.unwrap(), accepting.await.unwrap().unwrap())
    }
}

impl Daemon {
    async fn new(identity: &Identity, peer: PublicKey, tracker: &Endpoint) -> Self {
        let endpoint = endpoint(identity, Unsolicited::OnlyAdmitted);
        let accepting = accept_in_background(tracker);
        let addr = tracker.local_addr();
        let to_tracker = endpoint.connect(addr, Protocol::Tracker, Expect::Any);
        let route = endpoint.socket().route(&peer, Class::Relay);
        Self {
            to_tracker: to_tracker.await.unwrap(),
            at_tracker: accepting.await.unwrap().unwrap(),
            tracker: addr,
            endpoint,
            route,
        }
    }

    #[track_caller]
    fn point(&self) {
        self.point_at(SESSION);
    }

    #[track_caller]
    fn point_at(&self, id: RelayId) {
        let socket = self.endpoint.socket();
        assert!(socket.point_relay(self.route, id, self.tracker));
    }

    async fn dial(&self) -> Result<Connection, warren_net::ConnectError> {
        let (peer, route) = (Protocol::Peer, self.route);
        self.endpoint
            .connect_route(route, peer, Expect::Any, None)
            .await
    }

    /// Sends through a tunnel whose other end is at `other`.
    fn tunnel_to(&self, other: &Self) -> JoinHandle<()> {
        let (tunnel, mut queue) = mpsc::channel(256);
        let socket = self.endpoint.socket();
        assert!(socket.point_tunnel(self.route, SESSION, tunnel));
        let other = Arc::clone(other.endpoint.socket());
        tokio::spawn(async move {
            while let Some(relayed) = queue.recv().await {
                other.receive_relayed(relayed);
            }
        })
    }
}

/// What a tracker does, without its cares: passes on what comes from either end to the other.
struct Forwarder {
    seen: Mutex<Vec<RelayBatch>>,
}

impl Forwarder {
    fn start(socket: Arc<Socket>, ends: [SocketAddr; 2]) -> Arc<Self> {
        let forwarder = Arc::new(Self {
            seen: Mutex::default(),
        });
        let forwards = Arc::clone(&forwarder);
        let mut batches = socket.take_relay();
        tokio::spawn(async move {
            while let Some(batch) = batches.recv().await {
                let [one, two] = ends;
                let to = if batch.from == one { two } else { one };
                assert!(ends.contains(&batch.from));
                socket.send_relay(&batch, to);
                forwards.seen.lock().unwrap().push(batch);
            }
        });
        forwarder
    }

    fn seen(&self) -> Option<RelayBatch> {
        self.seen.lock().unwrap().last().cloned()
    }

    fn last(&self) -> RelayBatch {
        self.seen().unwrap()
    }

    fn longest(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|batch| batch.segment).max().unwrap()
    }

    fn in_batches(&self) -> bool {
        let seen = self.seen.lock().unwrap();
        seen.iter().any(|batch| batch.bytes.len() > batch.segment)
    }
}
