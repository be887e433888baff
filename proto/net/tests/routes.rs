//! Routed connections over real sockets, through a NAT that the test can rebind.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use warren_net::{
    AcceptError, Class, ConnectError, Connection, Endpoint, Expect, Identity, Profile, Protocol,
    Unsolicited,
};
use warren_proto::id::PublicKey;

mod common;

use common::{
    PATIENCE, accept_in_background, echo, endpoint, open, pour, rate, read_to_end, wait_until,
};

#[tokio::test]
async fn a_routed_connection_moves_data_and_names_the_real_addresses() {
    let world = World::new(Unsolicited::OnlyAdmitted).await;
    let (dialled, accepted) = world.meet().await;
    assert_eq!(dialled.remote_address(), world.nat.inside_addr());
    assert_eq!(accepted.remote_address(), world.nat.outside_addr());
    assert_eq!(dialled.route(), Some(world.to_server));
    assert_eq!(accepted.route(), Some(world.to_client));
    let sending = pour(&accepted, 4 << 20);
    let receive = timeout(PATIENCE, dialled.quinn().accept_bi())
        .await
        .unwrap()
        .unwrap()
        .1;
    assert_eq!(read_to_end(receive).await, 4 << 20);
    sending.await.unwrap();
    assert_eq!(world.server.socket().counters().unrouted, 0);
}

#[tokio::test]
async fn a_rebound_nat_is_heard_at_once_and_reached_once_it_is_checked() {
    let world = World::new(Unsolicited::OnlyAdmitted).await;
    let (dialled, accepted) = world.meet().await;
    let old = world.nat.outside_addr();
    let sending = pour(&accepted, 16 << 20);
    let mut receive = timeout(PATIENCE, dialled.quinn().accept_bi())
        .await
        .unwrap()
        .unwrap()
        .1;
    // No more than the window follows until this is read on.
    let mut start = vec![0; 1 << 20];
    timeout(PATIENCE, receive.read_exact(&mut start))
        .await
        .unwrap()
        .unwrap();
    world.nat.rebind().await;

    // The client does not know; whatever it says arrives, and the answers go to the old port.
    let heard = accepted.quinn().stats().udp_rx.datagrams;
    let mut said = dialled.quinn().open_bi().await.unwrap().0;
    said.write_all(b"still here").await.unwrap();
    let mut hears = timeout(PATIENCE, accepted.quinn().accept_bi())
        .await
        .unwrap()
        .unwrap()
        .1;
    let mut what = [0; 10];
    timeout(PATIENCE, hears.read_exact(&mut what))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&what, b"still here");
    assert!(accepted.quinn().stats().udp_rx.datagrams > heard);
    assert_eq!(accepted.remote_address(), old);
    assert_eq!(world.nat.returned(), 0, "nothing reached the new port");

    let new = world.nat.outside_addr();
    assert!(world.server.socket().admit(world.to_client, new));
    assert!(world.server.socket().point(world.to_client, new));
    assert_eq!(accepted.remote_address(), new);
    assert_eq!(read_to_end(receive).await, 15 << 20);
    sending.await.unwrap();
    assert_eq!(world.server.socket().counters().strangers, 0);
}

#[tokio::test]
async fn only_an_admitted_address_may_dial() {
    let world = World::new(Unsolicited::OnlyAdmitted).await;
    let accepting = accept_in_background(&world.server);
    let identity = Identity::generate().unwrap();
    let stranger = endpoint(&identity, Unsolicited::OnlyAdmitted);
    let dialling = {
        let (stranger, to) = (stranger.clone(), world.server.local_addr());
        tokio::spawn(async move { stranger.connect(to, Protocol::Peer, Expect::Any).await })
    };
    wait_until(|| world.server.socket().counters().strangers > 0).await;
    assert!(!accepting.is_finished());
    assert!(!dialling.is_finished());

    // The very same packets get through once a check has been there.
    let route = world
        .server
        .socket()
        .route(&identity.public_key(), Class::Direct);
    open(&world.server, route, stranger.local_addr());
    let dialled = timeout(PATIENCE, dialling).await.unwrap().unwrap().unwrap();
    let accepted = accepting.await.unwrap().unwrap();
    assert_eq!(accepted.route(), Some(route));
    assert_eq!(accepted.remote_address(), stranger.local_addr());
    assert_eq!(dialled.route(), None);
}

#[tokio::test]
async fn a_route_is_open_to_its_peer_only() {
    let world = World::new(Unsolicited::OnlyAdmitted).await;
    let accepting = accept_in_background(&world.server);
    let other = endpoint(&Identity::generate().unwrap(), Unsolicited::OnlyAdmitted);
    open(&world.server, world.to_client, other.local_addr());
    let connecting = other.connect(world.server.local_addr(), Protocol::Peer, Expect::Any);
    // A TLS 1.3 client is done before the server has seen its certificate.
    if let Ok(connection) = timeout(PATIENCE, connecting).await.unwrap() {
        timeout(PATIENCE, connection.closed()).await.unwrap();
    }
    let refused = accepting.await.unwrap();
    assert!(matches!(refused, Err(AcceptError::Unusable)), "{refused:?}");
}

#[tokio::test]
async fn whoever_repeats_a_packet_does_not_change_where_we_send() {
    for unsolicited in [Unsolicited::Accept, Unsolicited::OnlyAdmitted] {
        let world = World::new(unsolicited).await;
        let (dialled, accepted) = world.meet().await;
        echo(&dialled, &accepted).await;
        let path = accepted.remote_address();

        // Of all that the client says only the thief's copy arrives: without a route, quinn would
        // follow it.
        world.nat.lose(Some(Lost::AllOfClient));
        let mut said = dialled.quinn().open_bi().await.unwrap().0;
        said.write_all(b"to be stolen").await.unwrap();
        let thief = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let begun = Instant::now();
        let mut arrives = pin!(accepted.quinn().accept_bi());
        while timeout(Duration::from_millis(5), &mut arrives)
            .await
            .is_err()
        {
            let stolen = world.nat.last_of_client();
            let sent = thief.send_to(&stolen, world.server.local_addr()).await;
            assert!(sent.is_ok() && begun.elapsed() < PATIENCE);
        }

        world.nat.lose(None);
        echo(&dialled, &accepted).await;
        assert_eq!(accepted.remote_address(), path);
        assert_eq!(accepted.route(), Some(world.to_client));
        assert!(thief.try_recv(&mut [0; 2048]).is_err());
    }
}

#[tokio::test]
async fn a_packet_that_belongs_nowhere_does_not_reach_quinn() {
    // An unknown version in a packet of full size: quinn offers its own (RFC 9000 §6).
    let mut packet = vec![0; 1200];
    packet[..6].copy_from_slice(&[0xc0, 0xfa, 0xce, 0xb0, 0x0c, 8]);
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let open = endpoint(&Identity::generate().unwrap(), Unsolicited::Accept);
    stranger.send_to(&packet, open.local_addr()).await.unwrap();
    let answer = timeout(PATIENCE, stranger.recv(&mut [0; 2048])).await;
    assert!(answer.unwrap().unwrap() > 0);

    let closed = endpoint(&Identity::generate().unwrap(), Unsolicited::OnlyAdmitted);
    stranger
        .send_to(&packet, closed.local_addr())
        .await
        .unwrap();
    wait_until(|| closed.socket().counters().strangers == 1).await;
    // Whatever quinn had answered would have been sent before what is sent now.
    closed
        .socket()
        .send_raw(b"last", stranger.local_addr().unwrap());
    let mut next = [0; 2048];
    let length = timeout(PATIENCE, stranger.recv(&mut next))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&next[..length], b"last");
}

#[tokio::test]
async fn a_plain_connection_needs_no_route() {
    let tracker = endpoint(&Identity::generate().unwrap(), Unsolicited::Accept);
    let daemon = endpoint(&Identity::generate().unwrap(), Unsolicited::OnlyAdmitted);
    let accepting = accept_in_background(&tracker);
    let to = tracker.local_addr();
    let dialled = daemon
        .connect(to, Protocol::Peer, Expect::Any)
        .await
        .unwrap();
    let accepted = accepting.await.unwrap().unwrap();
    echo(&dialled, &accepted).await;
    assert_eq!((dialled.route(), accepted.route()), (None, None));
    assert_eq!(dialled.remote_address(), to);

    // Meanwhile its address is not a route's to take, and afterwards it is.
    let route = daemon.socket().route(&dialled.peer_key(), Class::Direct);
    assert!(!daemon.socket().admit(route, to));
    dialled.close(0, "");
    drop((dialled, accepted));
    wait_until(|| daemon.socket().admit(route, to)).await;
    let refused = daemon.connect(to, Protocol::Peer, Expect::Any).await;
    assert!(
        matches!(refused, Err(ConnectError::Refused { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_route_that_leads_nowhere_is_not_dialled_and_a_forgotten_one_is_silent() {
    let world = World::new(Unsolicited::OnlyAdmitted).await;
    let client = &world.client;
    let nowhere = client.socket().route(&PublicKey([7; 32]), Class::Direct);
    let dialling = client.connect_route(nowhere, Protocol::Peer, Expect::Any, None);
    let refused = dialling.await.unwrap_err();
    assert!(matches!(refused, ConnectError::Refused { addr, .. } if addr == nowhere));

    let (dialled, _accepted) = world.meet().await;
    client.socket().forget(world.to_server);
    let mut said = dialled.quinn().open_bi().await.unwrap().0;
    said.write_all(b"anyone?").await.unwrap();
    wait_until(|| client.socket().counters().unrouted > 0).await;
    assert_eq!(dialled.remote_address(), world.to_server);
}

#[tokio::test]
async fn answers_come_from_the_address_that_was_dialled() {
    let (server, client) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let everywhere = "[::]:0".parse().unwrap();
    let listening = Endpoint::bind_with(
        everywhere,
        &server,
        &[Protocol::Peer],
        Profile::Daemon,
        Unsolicited::OnlyAdmitted,
    )
    .unwrap();
    let dialler = endpoint(&client, Unsolicited::OnlyAdmitted);
    // Not the address from which the kernel would send to 127.0.0.1.
    let second = SocketAddr::new([127, 0, 0, 2].into(), listening.local_addr().port());
    let to_server = dialler.socket().route(&server.public_key(), Class::Direct);
    open(&dialler, to_server, second);
    let to_client = listening
        .socket()
        .route(&client.public_key(), Class::Direct);
    open(&listening, to_client, dialler.local_addr());
    let accepting = accept_in_background(&listening);
    let dialled = dialler
        .connect_route(to_server, Protocol::Peer, Expect::Any, None)
        .await
        .unwrap();
    echo(&dialled, &accepting.await.unwrap().unwrap()).await;
    assert_eq!(dialler.socket().counters().strangers, 0);
}

#[tokio::test]
async fn a_lost_first_packet_costs_little_when_the_round_trip_is_known() {
    // Three times the guess, which without a check is 333 ms (RFC 9002 §6.2.2).
    let unknown = Duration::from_millis(999);
    let rtt = Some(Duration::from_millis(20));
    assert!(handshake_with_loss(Lost::NextOfClient, None, None).await >= unknown);
    assert!(handshake_with_loss(Lost::NextOfClient, rtt, None).await < unknown);
    assert!(handshake_with_loss(Lost::NextOfServer, None, None).await >= unknown);
    assert!(handshake_with_loss(Lost::NextOfServer, None, rtt).await < unknown);
}

async fn handshake_with_loss(
    lost: Lost,
    client_knows: Option<Duration>,
    server_knows: Option<Duration>,
) -> Duration {
    let world = World::new(Unsolicited::OnlyAdmitted).await;
    world.nat.lose(Some(lost));
    let started = Instant::now();
    let (dialled, accepted) = world.meet_knowing(client_knows, server_knows).await;
    echo(&dialled, &accepted).await;
    started.elapsed()
}

/// What loopback moves, in MB/s. Only a release build means anything:
/// `cargo test --release -p warren-net --test routes -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput_of_plain_connections() {
    for _ in 0..10 {
        let world = World::new(Unsolicited::Accept).await;
        let accepting = accept_in_background(&world.server);
        let to = world.server.local_addr();
        let connecting = world.client.connect(to, Protocol::Peer, Expect::Any);
        let plain = (connecting.await.unwrap(), accepting.await.unwrap().unwrap());
        println!("plain {:5.0}", rate(plain).await);
    }
}

/// The same on routes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput_of_routed_connections() {
    for _ in 0..10 {
        let world = World::new(Unsolicited::OnlyAdmitted).await;
        open(&world.client, world.to_server, world.server.local_addr());
        open(&world.server, world.to_client, world.client.local_addr());
        println!("routed {:5.0}", rate(world.meet().await).await);
    }
}

/// A server in the open and a client behind a NAT, each with a route to the other that leads
/// through the NAT.
struct World {
    server: Endpoint,
    client: Endpoint,
    to_server: SocketAddr,
    to_client: SocketAddr,
    nat: Nat,
}

impl World {
    async fn new(unsolicited: Unsolicited) -> Self {
        let (ours, theirs) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let server = endpoint(&ours, unsolicited);
        let client = endpoint(&theirs, unsolicited);
        let nat = Nat::new(server.local_addr()).await;
        let to_server = client.socket().route(&ours.public_key(), Class::Direct);
        open(&client, to_server, nat.inside_addr());
        let to_client = server.socket().route(&theirs.public_key(), Class::Direct);
        open(&server, to_client, nat.outside_addr());
        Self {
            server,
            client,
            to_server,
            to_client,
            nat,
        }
    }

    async fn meet(&self) -> (Connection, Connection) {
        self.meet_knowing(None, None).await
    }

    async fn meet_knowing(
        &self,
        client_knows: Option<Duration>,
        server_knows: Option<Duration>,
    ) -> (Connection, Connection) {
        let server = self.server.clone();
        let accepting = tokio::spawn(async move {
            let incoming = server.accept().await.unwrap();
            incoming.complete_with(server_knows).await
        });
        let peer = Protocol::Peer;
        let dialling = self
            .client
            .connect_route(self.to_server, peer, Expect::Any, client_knows);
        (dialling.await.unwrap(), accepting.await.unwrap().unwrap())
    }
}

/// Passes datagrams on between one client inside and one server outside.
struct Nat {
    inside: Arc<UdpSocket>,
    outside: watch::Sender<Arc<Outside>>,
    /// They stay open: a NAT drops what comes for a mapping that is gone.
    gone: Mutex<Vec<Arc<Outside>>>,
    traffic: Arc<Traffic>,
    tasks: [JoinHandle<()>; 2],
}

/// The mapping, as the server sees it.
struct Outside {
    socket: UdpSocket,
    /// Datagrams of the server that came here.
    returned: AtomicUsize,
}

#[derive(Default)]
struct Traffic {
    client: Mutex<Option<SocketAddr>>,
    last_of_client: Mutex<Vec<u8>>,
    lost: Mutex<Option<Lost>>,
}

/// What gets lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    NextOfClient,
    NextOfServer,
    AllOfClient,
}

impl Nat {
    async fn new(server: SocketAddr) -> Self {
        let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let (outside, current) = watch::channel(Outside::new().await);
        let traffic = Arc::new(Traffic::default());
        let out = outbound(
            Arc::clone(&inside),
            current.clone(),
            Arc::clone(&traffic),
            server,
        );
        let back = inbound(Arc::clone(&inside), current, Arc::clone(&traffic));
        Self {
            inside,
            outside,
            gone: Mutex::default(),
            traffic,
            tasks: [tokio::spawn(out), tokio::spawn(back)],
        }
    }

    fn inside_addr(&self) -> SocketAddr {
        self.inside.local_addr().unwrap()
    }

    fn outside_addr(&self) -> SocketAddr {
        self.outside.borrow().socket.local_addr().unwrap()
    }

    async fn rebind(&self) {
        let before = self.outside.send_replace(Outside::new().await);
        self.gone.lock().unwrap().push(before);
    }

    fn returned(&self) -> usize {
        self.outside.borrow().returned.load(Ordering::Relaxed)
    }

    fn last_of_client(&self) -> Vec<u8> {
        self.traffic.last_of_client.lock().unwrap().clone()
    }

    fn lose(&self, lost: Option<Lost>) {
        *self.traffic.lost.lock().unwrap() = lost;
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Outside {
    async fn new() -> Arc<Self> {
        Arc::new(Self {
            socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            returned: AtomicUsize::new(0),
        })
    }
}

impl Traffic {
    fn loses(&self, next: Lost) -> bool {
        let mut lost = self.lost.lock().unwrap();
        let all = *lost == Some(Lost::AllOfClient) && next == Lost::NextOfClient;
        all || lost.take_if(|lost| *lost == next).is_some()
    }
}

async fn outbound(
    inside: Arc<UdpSocket>,
    outside: watch::Receiver<Arc<Outside>>,
    traffic: Arc<Traffic>,
    server: SocketAddr,
) {
    let mut datagram = vec![0; 65_535];
    loop {
        let (length, from) = inside.recv_from(&mut datagram).await.unwrap();
        *traffic.client.lock().unwrap() = Some(from);
        *traffic.last_of_client.lock().unwrap() = datagram[..length].to_vec();
        if !traffic.loses(Lost::NextOfClient) {
            let outside = Arc::clone(&outside.borrow());
            outside
                .socket
                .send_to(&datagram[..length], server)
                .await
                .unwrap();
        }
    }
}

async fn inbound(
    inside: Arc<UdpSocket>,
    mut outside: watch::Receiver<Arc<Outside>>,
    traffic: Arc<Traffic>,
) {
    let mut datagram = vec![0; 65_535];
    loop {
        let current = Arc::clone(&outside.borrow_and_update());
        let length = tokio::select! {
            received = current.socket.recv(&mut datagram) => received.unwrap(),
            _ = outside.changed() => continue,
        };
        current.returned.fetch_add(1, Ordering::Relaxed);
        let client = *traffic.client.lock().unwrap();
        if let Some(client) = client.filter(|_| !traffic.loses(Lost::NextOfServer)) {
            inside.send_to(&datagram[..length], client).await.unwrap();
        }
    }
}
