use std::time::Duration;

use quinn::AsyncUdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

use warren_proto::id::PublicKey;

use super::*;
use crate::socket::{Class, Datagram, Socket, Unsolicited};

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn what_is_not_quic_arrives_with_the_socket_it_came_to() {
    let (socket, mut stun) = socket("127.0.0.1:0");
    let peer = peer().await;
    let vias = [socket.open_extra().unwrap(), socket.open_extra().unwrap()];
    assert_ne!(vias[0], vias[1]);
    for via in vias {
        peer.send_to(b"\0hello", addr(&socket, via)).await.unwrap();
        let datagram = next(&socket, &mut stun).await;
        assert_eq!((datagram.via, &datagram.bytes[..]), (via, &b"\0hello"[..]));
        assert_eq!(datagram.from, peer.local_addr().unwrap());
    }
    peer.send_to(b"\0main", socket.local_addr()).await.unwrap();
    assert_eq!(next(&socket, &mut stun).await.via, Via::MAIN);
}

#[tokio::test]
async fn quic_and_relayed_datagrams_are_dropped_until_a_route_goes_by_the_socket() {
    let (socket, mut stun) = socket("127.0.0.1:0");
    let peer = peer().await;
    let via = socket.open_extra().unwrap();
    let to = addr(&socket, via);
    for datagram in [&b"\x40quic"[..], &[0x30; 20], &[0; 600], b"\0last"] {
        peer.send_to(datagram, to).await.unwrap();
    }
    assert_eq!(next(&socket, &mut stun).await.bytes, b"\0last"[..]);
    let counters = socket.counters();
    assert_eq!((counters.strangers, counters.stray), (1, 2));
}

#[tokio::test]
async fn what_a_socket_hears_counts_before_a_route_goes_by_it() {
    let (socket, mut stun) = socket("127.0.0.1:0");
    let peer = peer().await;
    let to = addr(&socket, socket.open_extra().unwrap());
    for datagram in [&b"\x40quic"[..], b"\0last"] {
        peer.send_to(datagram, to).await.unwrap();
    }
    next(&socket, &mut stun).await;
    assert_eq!(socket.carried().received, 2 * (5 + 28));
}

#[tokio::test]
async fn what_is_sent_by_a_socket_comes_from_its_port_whatever_the_limit() {
    for local in ["127.0.0.1:0", "[::]:0"] {
        let (socket, _stun) = socket(local);
        let peer = peer().await;
        let to = peer.local_addr().unwrap();
        // At once: nothing waits until the socket is known to be writable.
        let via = socket.open_extra().unwrap();
        let port = addr(&socket, via).port();
        socket.send_via(via, b"plain", to, None);
        assert_eq!(heard(&peer).await, (b"plain".to_vec(), port));
        socket.send_via(via, b"limit", to, Some(9));
        assert_eq!(heard(&peer).await, (b"limit".to_vec(), port));
        let second = "127.0.0.1".parse().unwrap();
        socket.send_via_from(via, b"from", to, Some(second));
        assert_eq!(heard(&peer).await, (b"from".to_vec(), port));
        // As after a move: the kernel is asked to choose.
        let gone = "192.0.2.1".parse().unwrap();
        socket.send_via_from(via, b"gone", to, Some(gone));
        assert_eq!(heard(&peer).await, (b"gone".to_vec(), port));
        assert_eq!(socket.counters().send_errors, 0);

        socket.io.writable().await.unwrap();
        socket.send_via(Via::MAIN, b"main", to, None);
        let main = socket.local_addr().port();
        assert_eq!(heard(&peer).await, (b"main".to_vec(), main));
        socket.close_extra(via);
        socket.send_via(via, b"gone", to, None);
        assert_eq!(socket.counters().send_errors, 1);
    }
}

#[tokio::test]
async fn only_so_many_are_open_at_once() {
    let (socket, _stun) = socket("127.0.0.1:0");
    let vias: Vec<Via> = (0..EXTRAS).map(|_| socket.open_extra().unwrap()).collect();
    let full = socket.open_extra().unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::QuotaExceeded);

    // One that a route goes by counts too.
    let route = socket.route(&PublicKey([1; 32]), Class::Direct);
    let peer = peer().await.local_addr().unwrap();
    assert!(socket.point_via(route, vias[0], peer));
    assert!(socket.open_extra().is_err());
    socket.forget(route);
    let again = socket.open_extra().unwrap();
    assert!(!vias.contains(&again), "a name is not used again");
    for via in vias {
        socket.close_extra(via);
    }
    assert!(socket.open_extra().is_ok());
}

#[tokio::test]
async fn a_socket_is_open_as_long_as_a_route_goes_by_it() {
    let (socket, _stun) = socket("127.0.0.1:0");
    let peer = peer().await.local_addr().unwrap();
    let [one, two] = [1, 2].map(|n| socket.route(&PublicKey([n; 32]), Class::Direct));
    let via = socket.open_extra().unwrap();
    let is_open = |via| socket.extras.find(via).is_some();
    assert!(socket.point_via(one, via, peer));
    assert_eq!(socket.via_of(one), Some(via));
    assert_eq!(socket.path_of(one), Some(peer));
    socket.close_extra(via);
    assert!(is_open(via), "it is in use");

    // Another place by the same socket, and another route.
    assert!(socket.point_via(one, via, "127.0.0.1:2000".parse().unwrap()));
    assert!(socket.point_via(two, via, peer));
    socket.forget(two);
    assert!(is_open(via), "it is still in use");

    let next = socket.open_extra().unwrap();
    assert!(socket.point_via(one, next, peer));
    assert!(!is_open(via), "pointed elsewhere");
    assert!(!socket.point_via(one, via, peer));
    assert_eq!(socket.via_of(one), Some(next));

    assert!(socket.point_via(one, Via::MAIN, peer));
    assert!(!is_open(next), "pointed at the first");
    assert_eq!(socket.via_of(one), Some(Via::MAIN));

    let last = socket.open_extra().unwrap();
    assert!(socket.point_via(one, last, peer));
    socket.forget(one);
    assert!(!is_open(last), "forgotten");
    assert!(!socket.point_via(one, last, peer));
}

#[tokio::test]
async fn only_a_direct_route_goes_by_a_further_socket() {
    let (socket, _stun) = socket("127.0.0.1:0");
    let route = socket.route(&PublicKey([1; 32]), Class::Relay);
    let via = socket.open_extra().unwrap();
    let peer = peer().await.local_addr().unwrap();
    assert!(!socket.point_via(route, via, peer));
    assert!(!socket.point_via(route, Via::MAIN, peer));
    assert!(!socket.point_via(peer, via, peer));
    assert!(socket.extras.adopted().is_none());
    socket.close_extra(via);
    assert!(socket.extras.find(via).is_none());
}

#[tokio::test]
async fn a_closed_socket_and_its_task_are_gone() {
    let (socket, _stun) = socket("127.0.0.1:0");
    let vias: Vec<Via> = (0..20).map(|_| socket.open_extra().unwrap()).collect();
    let ports: Vec<SocketAddr> = vias.iter().map(|via| addr(&socket, *via)).collect();
    let route = socket.route(&PublicKey([1; 32]), Class::Direct);
    assert!(socket.point_via(route, vias[0], ports[1]));
    socket.forget(route);
    vias.iter().for_each(|via| socket.close_extra(*via));
    for port in ports {
        assert!(std::net::UdpSocket::bind(port).is_ok(), "the port is free");
    }
    let metrics = tokio::runtime::Handle::current().metrics();
    let ended = async {
        while metrics.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, ended).await.unwrap();
}

#[tokio::test]
async fn a_flood_at_every_socket_costs_a_bounded_queue() {
    let (socket, mut stun) = socket("127.0.0.1:0");
    let vias: Vec<Via> = (0..64).map(|_| socket.open_extra().unwrap()).collect();
    let peer = peer().await;
    for round in 0..64 {
        for via in &vias {
            let sent = peer.send_to(&[0; 100], addr(&socket, *via)).await;
            assert_eq!(sent.unwrap(), 100, "{round}");
        }
        tokio::task::yield_now().await;
    }
    // The first were taken up and the others dropped, all of them.
    let all = async {
        while socket.counters().stray < 64 * 64 - 1024 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, all).await.unwrap();
    for _ in 0..1024 {
        next(&socket, &mut stun).await;
    }
    assert!(stun.try_recv().is_err());
}

#[test]
fn some_files_are_left_to_everyone_else() {
    assert!(leaves_spare(5, None));
    assert!(leaves_spare(5, Some(1024)));
    assert!(leaves_spare(895, Some(1024)));
    assert!(!leaves_spare(896, Some(1024)));
    assert!(!leaves_spare(5, Some(64)));
}

fn socket(local: &str) -> (Arc<Socket>, mpsc::Receiver<Datagram>) {
    let only = Unsolicited::OnlyAdmitted;
    let socket = Socket::bind_with(local.parse().unwrap(), 1472, only).unwrap();
    let stun = socket.take_stun();
    (socket, stun)
}

async fn peer() -> tokio::net::UdpSocket {
    tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

/// Where a peer on this host reaches a further socket.
fn addr(socket: &Socket, via: Via) -> SocketAddr {
    let local = socket.local_addr_of(via).unwrap();
    SocketAddr::new([127, 0, 0, 1].into(), local.port())
}

/// The next datagram that is not QUIC, while quinn polls.
async fn next(socket: &Socket, stun: &mut mpsc::Receiver<Datagram>) -> Datagram {
    let next = poll_fn(|cx| {
        let mut buf = [0; 2048];
        let mut bufs = [IoSliceMut::new(&mut buf)];
        let _ = socket.poll_recv(cx, &mut bufs, &mut [RecvMeta::default()]);
        stun.poll_recv(cx)
    });
    timeout(PATIENCE, next).await.unwrap().unwrap()
}

/// The next datagram and the port that it came from.
async fn heard(peer: &tokio::net::UdpSocket) -> (Vec<u8>, u16) {
    let mut datagram = [0; 2048];
    let received = timeout(PATIENCE, peer.recv_from(&mut datagram));
    let (length, from) = received.await.unwrap().unwrap();
    (datagram[..length].to_vec(), from.port())
}
