//! Connections by further sockets.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use warren_net::{
    Class, Connection, Endpoint, Expect, Identity, Protocol, Socket, Unsolicited, Via,
};

mod common;

use common::{
    PATIENCE, accept_in_background, echo, endpoint, expect_much, open, pour, rate, read_to_end,
    wait_until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_goes_by_further_sockets_at_both_ends() {
    let world = World::new();
    let [left, right] = [world.left.open_extra(), world.right.open_extra()];
    world.left.point(left, world.right.addr(right));
    world.right.point(right, world.left.addr(left));
    let (dialled, accepted) = world.connect().await;
    assert_eq!(dialled.remote_address(), world.right.addr(right));
    assert_eq!(accepted.remote_address(), world.left.addr(left));
    assert_eq!(dialled.class(), Class::Direct);

    let _expected = expect_much(&dialled);
    let sending = pour(&accepted, 32 << 20);
    let receive = dialled.quinn().accept_bi().await.unwrap().1;
    assert_eq!(read_to_end(receive).await, 32 << 20);
    sending.await.unwrap();
    for socket in [world.left.socket(), world.right.socket()] {
        let counters = socket.counters();
        assert_eq!((counters.strangers, counters.unrouted), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_moves_between_sockets_while_it_transfers() {
    let world = World::new();
    world
        .left
        .point(Via::MAIN, world.right.endpoint.local_addr());
    world
        .right
        .point(Via::MAIN, world.left.endpoint.local_addr());
    let (dialled, accepted) = world.connect().await;
    let _expected = expect_much(&dialled);
    let sending = pour(&accepted, 64 << 20);
    let mut receive = dialled.quinn().accept_bi().await.unwrap().1;
    let mut piece = vec![0; 8 << 20];
    for _ in 0..3 {
        timeout(PATIENCE, receive.read_exact(&mut piece))
            .await
            .unwrap()
            .unwrap();
        // First where it is heard, then where it is sent.
        let via = world.left.open_extra();
        world.left.point(via, world.right.endpoint.local_addr());
        world.right.point(Via::MAIN, world.left.addr(via));
        dialled.path_changed();
        accepted.path_changed();
        assert_eq!(world.left.socket().via_of(world.left.route), Some(via));
    }
    let main = world.left.endpoint.local_addr();
    open(
        &world.left.endpoint,
        world.left.route,
        world.right.endpoint.local_addr(),
    );
    open(&world.right.endpoint, world.right.route, main);
    assert_eq!(
        world.left.socket().via_of(world.left.route),
        Some(Via::MAIN)
    );
    assert_eq!(read_to_end(receive).await, 40 << 20);
    sending.await.unwrap();
    echo(&dialled, &accepted).await;
    assert_eq!(accepted.remote_address(), main);
}

#[tokio::test]
async fn nobody_opens_a_connection_at_a_further_socket_unless_a_route_leads_to_them() {
    let world = World::new();
    let via = world.right.open_extra();
    // The stranger knows the port, before and after a route goes by it.
    let stranger = Identity::generate().unwrap();
    let stranger = endpoint(&stranger, Unsolicited::Accept);
    let to = world.right.addr(via);
    let dialling =
        tokio::spawn(async move { stranger.connect(to, Protocol::Peer, Expect::Any).await });
    let strangers = || world.right.socket().counters().strangers;
    wait_until(|| strangers() > 0).await;
    world.right.point(via, world.left.endpoint.local_addr());
    let before = strangers();
    wait_until(|| strangers() > before).await;
    assert!(!dialling.is_finished());

    // From the place that it leads to, and by that socket alone.
    world.left.point(Via::MAIN, to);
    let (dialled, accepted) = world.connect().await;
    echo(&dialled, &accepted).await;
    dialling.abort();
}

#[tokio::test]
async fn a_route_that_ends_closes_its_socket_and_quinn_does_not_spin() {
    let world = World::new();
    let via = world.left.open_extra();
    world.left.point(via, world.right.endpoint.local_addr());
    world.right.point(Via::MAIN, world.left.addr(via));
    let (dialled, accepted) = world.connect().await;
    echo(&dialled, &accepted).await;
    let freed = world.left.addr(via);
    world.left.socket().forget(world.left.route);
    assert_eq!(world.left.socket().local_addr_of(via), None);
    assert!(UdpSocket::bind(freed).await.is_ok());
    let mut said = dialled.quinn().open_bi().await.unwrap().0;
    said.write_all(b"anyone?").await.unwrap();
    wait_until(|| world.left.socket().counters().unrouted > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_at_one_socket_does_not_stop_another() {
    let world = World::new();
    let via = world.right.open_extra();
    world.right.point(via, world.left.endpoint.local_addr());
    world.left.point(Via::MAIN, world.right.addr(via));
    let (dialled, accepted) = world.connect().await;
    let _expected = expect_much(&dialled);
    for flooded in [world.right.endpoint.local_addr(), world.right.addr(via)] {
        let flood = tokio::spawn(async move {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let quic = [0x40; 1200];
            loop {
                socket.send_to(&quic, flooded).await.unwrap();
            }
        });
        let heard = || world.right.socket().counters().strangers;
        let before = heard();
        wait_until(|| heard() > before).await;
        echo(&dialled, &accepted).await;
        let sending = pour(&accepted, 4 << 20);
        let receive = timeout(PATIENCE, dialled.quinn().accept_bi()).await;
        assert_eq!(read_to_end(receive.unwrap().unwrap().1).await, 4 << 20);
        sending.await.unwrap();
        flood.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_open_for_a_moment_leave_a_transfer_alone() {
    let world = World::new();
    world
        .left
        .point(Via::MAIN, world.right.endpoint.local_addr());
    world
        .right
        .point(Via::MAIN, world.left.endpoint.local_addr());
    let (dialled, accepted) = world.connect().await;
    let _expected = expect_much(&dialled);
    let sending = pour(&accepted, 32 << 20);
    let receive = dialled.quinn().accept_bi().await.unwrap().1;
    let reading = tokio::spawn(read_to_end(receive));
    for _ in 0..3 {
        let vias: Vec<Via> = (0..256).map(|_| world.left.open_extra()).collect();
        for via in &vias {
            let to = world.right.endpoint.local_addr();
            world.left.socket().send_via(*via, b"\0probe", to, None);
        }
        tokio::task::yield_now().await;
        vias.iter()
            .for_each(|via| world.left.socket().close_extra(*via));
    }
    assert_eq!(reading.await.unwrap(), 32 << 20);
    sending.await.unwrap();
    assert_eq!(world.left.socket().counters().send_errors, 0);
}

/// What loopback moves by further sockets, in MB/s; see `routes.rs`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput_by_further_sockets() {
    for _ in 0..5 {
        let world = World::new();
        let started = Instant::now();
        let left = world.left.open_extra();
        println!("opened in {:?}", started.elapsed());
        world.left.point(left, world.right.endpoint.local_addr());
        world.right.point(Via::MAIN, world.left.addr(left));
        println!("further {:5.0}", rate(world.connect().await).await);
    }
}

/// Two daemons, each with a route to the other that leads nowhere yet.
struct World {
    left: Daemon,
    right: Daemon,
}

struct Daemon {
    endpoint: Endpoint,
    route: SocketAddr,
}

impl World {
    fn new() -> Self {
        let [one, two] = [(); 2].map(|()| Identity::generate().unwrap());
        let daemon = |own: &Identity, peer: &Identity| {
            let endpoint = endpoint(own, Unsolicited::OnlyAdmitted);
            let route = endpoint.socket().route(&peer.public_key(), Class::Direct);
            Daemon { endpoint, route }
        };
        Self {
            left: daemon(&one, &two),
            right: daemon(&two, &one),
        }
    }

    async fn connect(&self) -> (Connection, Connection) {
        let accepting = accept_in_background(&self.right.endpoint);
        let (route, peer) = (self.left.route, Protocol::Peer);
        let dialling = self
            .left
            .endpoint
            .connect_route(route, peer, Expect::Any, None);
        let dialled = timeout(PATIENCE, dialling).await.unwrap().unwrap();
        (dialled, accepting.await.unwrap().unwrap())
    }
}

impl Daemon {
    fn socket(&self) -> &Arc<Socket> {
        self.endpoint.socket()
    }

    #[track_caller]
    fn open_extra(&self) -> Via {
        self.socket().open_extra().unwrap()
    }

    #[track_caller]
    fn addr(&self, via: Via) -> SocketAddr {
        self.socket().local_addr_of(via).unwrap()
    }

    #[track_caller]
    fn point(&self, via: Via, remote: SocketAddr) {
        assert!(self.socket().point_via(self.route, via, remote));
    }
}
