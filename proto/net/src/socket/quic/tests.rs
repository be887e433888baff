use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;
use std::time::Duration;

use warren_proto::id::PublicKey;

use super::super::{Class, Unsolicited};
use super::*;

const ONE: RelayId = RelayId([1; 12]);
const TWO: RelayId = RelayId([2; 12]);
const NONE: RelayId = RelayId([9; 12]);
const TRACKER: &str = "192.0.2.1:59000";
const STRANGER: &str = "198.51.100.7:59000";

/// Length of the datagrams in a batch, with their headers.
const STRIDE: usize = 56;

#[test]
fn a_batch_the_kernel_takes_stays_whole() {
    let contents = vec![0; 10 * 1452];
    assert_eq!(batches(&contents, Some(1452), 64).count(), 1);
    assert_eq!(batches(&contents, None, 64).count(), 1);
}

#[test]
fn an_oversized_batch_is_cut_between_segments() {
    let lengths = |length, size, most| -> Vec<usize> {
        let contents = vec![0; length];
        let batches = batches(&contents, Some(size), most);
        batches.map(<[u8]>::len).collect()
    };
    let large = lengths(9 * 16_000 + 7, 16_000, 64);
    assert_eq!(large, [64_000, 64_000, 16_007]);
    let jumbo = lengths(10 * 8_952, 8_952, 64);
    assert_eq!(jumbo, [62_664, 26_856]);
    assert_eq!(lengths(2_401, 1_200, 1), [1_200, 1_200, 1]);
}

#[test]
fn no_batch_is_longer_than_an_ipv4_packet_can_be() {
    assert_eq!(MAX_BATCH_BYTES, usize::from(u16::MAX) - 20 - 8);
    for size in 1_200..=16_000 {
        let contents = vec![0; 10 * size];
        let lengths = batches(&contents, Some(size), 64).map(<[u8]>::len);
        assert!(lengths.max() <= Some(65_507), "{size}");
    }
}

#[tokio::test]
async fn an_oversized_batch_arrives_segment_by_segment() {
    let from = Socket::bind("127.0.0.1:0".parse().unwrap(), 1472).unwrap();
    let to = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let contents: Vec<u8> = (0..10u8).flat_map(|n| vec![n; 16_000]).collect();
    let transmit = transmit(mapped(to.local_addr().unwrap()), &contents, 16_000);
    from.io.writable().await.unwrap();
    from.try_send(&transmit).unwrap();
    assert_eq!(from.counters().send_errors, 0);
    for expected in 0..10u8 {
        assert_eq!(next(&to).await, vec![expected; 16_000]);
    }
}

#[tokio::test]
async fn what_would_leave_from_an_address_that_is_no_longer_ours_leaves_from_another() {
    let from = Socket::bind("127.0.0.1:0".parse().unwrap(), 1472).unwrap();
    let to = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    from.io.writable().await.unwrap();
    let offload = from.max_transmit_segments();
    let sent = from.send_part(&Transmit {
        destination: to.local_addr().unwrap(),
        ecn: None,
        contents: b"still here",
        segment_size: None,
        src_ip: Some("192.0.2.77".parse().unwrap()),
    });
    sent.unwrap();
    assert_eq!(next(&to).await, b"still here");
    assert_eq!(from.counters().send_errors, 0);
    assert_eq!(from.max_transmit_segments(), offload);
}

#[tokio::test]
async fn every_segment_of_a_relayed_batch_leaves_with_its_header() {
    let world = World::new().await;
    let tracker = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = tracker.local_addr().unwrap();
    assert!(world.socket.point_relay(world.one, ONE, addr));
    // With the headers it is more than the kernel takes at once, and without it is not.
    let contents: Vec<u8> = (0..64u8).flat_map(|n| vec![n; 1_020]).collect();
    world.socket.io.writable().await.unwrap();
    let transmit = transmit(world.one, &contents[..63 * 1_020 + 9], 1_020);
    world.socket.try_send(&transmit).unwrap();
    for n in 0..64u8 {
        let payload = vec![n; if n == 63 { 9 } else { 1_020 }];
        let expected = [&[0x30, 0, 0, 0][..], &ONE.0, &payload].concat();
        assert_eq!(next(&tracker).await, expected);
    }
    assert_eq!(world.socket.counters().send_errors, 0);
}

#[tokio::test]
async fn a_batch_goes_into_the_tunnel_datagram_by_datagram_and_never_waits() {
    let world = World::new().await;
    let (tunnel, mut queue) = mpsc::channel(3);
    assert!(world.socket.point_tunnel(world.one, ONE, tunnel));
    let contents = [[1; 100], [2; 100], [3; 100], [4; 100]].concat();
    let transmit = transmit(world.one, &contents[..350], 100);
    assert!(world.socket.try_send(&transmit).is_ok());
    assert_eq!(world.socket.counters().relay_overflow, 1);
    for n in 1..4 {
        let Relayed { id, bytes } = queue.try_recv().unwrap();
        assert_eq!((id, bytes.to_vec()), (ONE, vec![n; 100]));
    }
    drop(queue);
    assert!(world.socket.try_send(&transmit).is_ok());
    assert_eq!(world.socket.counters().relay_overflow, 5);
}

#[tokio::test]
async fn a_pure_batch_is_stripped_where_it_lies() {
    let world = World::new().await;
    let seen = world.receive(
        TRACKER,
        &[relayed(ONE, 1), relayed(ONE, 2), short(relayed(ONE, 3))],
    );
    let batch = [payload(1), payload(2), short(payload(3))].concat();
    assert_eq!(seen, [(world.one, STRIDE - 16, batch)]);
    let seen = world.receive(TRACKER, &[short(relayed(TWO, 4))]);
    assert_eq!(seen, [(world.two, STRIDE - 19, short(payload(4)))]);
    assert_eq!(world.socket.counters().stray, 0);
}

#[tokio::test]
async fn the_trackers_own_packets_and_the_sessions_are_told_apart_in_one_batch() {
    let world = World::new().await;
    let tracker = mapped(addr(TRACKER));
    let quic = packet(0x40, STRIDE, 7);
    let batch = [
        relayed(ONE, 1),
        quic.clone(),
        relayed(TWO, 2),
        relayed(TWO, 3),
        quic.clone(),
        short(relayed(ONE, 4)),
    ];
    let seen = world.receive(TRACKER, &batch);
    assert_eq!(seen.len(), 4);
    let (from, stride, own) = &seen[0];
    assert_eq!((*from, *stride), (tracker, STRIDE));
    let own: Vec<_> = own.chunks(STRIDE).filter(|it| it[0] & 0x40 != 0).collect();
    assert_eq!(own, [&quic, &quic]);
    let rest = [
        (world.one, STRIDE - 16, payload(1)),
        (world.two, STRIDE - 16, [payload(2), payload(3)].concat()),
        (world.one, STRIDE - 16, short(payload(4))),
    ];
    assert_eq!(seen[1..], rest);

    // The other way round: a short packet of the tracker's own behind relayed ones.
    let seen = world.receive(TRACKER, &[relayed(ONE, 1), short(quic.clone())]);
    let own = [&relayed(ONE, 1)[..], &short(quic)].concat();
    let expected = [(tracker, STRIDE, own), (world.one, STRIDE - 16, payload(1))];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn two_sessions_in_one_batch_both_arrive() {
    let world = World::new().await;
    let batch = [
        relayed(TWO, 1),
        relayed(ONE, 2),
        relayed(TWO, 3),
        short(relayed(ONE, 4)),
    ];
    let seen = world.receive(TRACKER, &batch);
    let expected = [
        (world.two, STRIDE - 16, [payload(1), payload(3)].concat()),
        (world.one, STRIDE - 16, payload(2)),
        (world.one, STRIDE - 16, short(payload(4))),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn relayed_datagrams_of_others_are_dropped_and_counted() {
    let world = World::new().await;
    assert_eq!(
        world.receive(STRANGER, &[relayed(ONE, 1), relayed(ONE, 2)]),
        []
    );
    assert_eq!(world.receive(TRACKER, &[relayed(NONE, 1)]), []);
    let mut other = relayed(ONE, 1);
    other[3] = 1;
    assert_eq!(world.receive(TRACKER, &[other]), []);
    assert_eq!(
        world.receive(TRACKER, &[relayed(ONE, 1)[..16].to_vec()]),
        []
    );
    assert_eq!(world.socket.counters().stray, 5);

    // Nor by UDP what goes through a tunnel, or the other way round.
    let (tunnel, _queue) = mpsc::channel(1);
    assert!(world.socket.point_tunnel(world.one, ONE, tunnel));
    assert_eq!(world.receive(TRACKER, &[relayed(ONE, 1)]), []);
    let through = |id| Relayed {
        id,
        bytes: payload(1).into(),
    };
    world.socket.receive_relayed(through(TWO));
    world.socket.receive_relayed(through(NONE));
    assert_eq!(world.socket.counters().stray, 8);
    assert_eq!(world.waiting(), []);
    world.socket.receive_relayed(through(ONE));
    assert_eq!(world.waiting(), [(world.one, STRIDE - 16, payload(1))]);
}

#[tokio::test]
async fn what_waits_for_a_route_that_ends_is_not_received() {
    let world = World::new().await;
    let (tunnel, _queue) = mpsc::channel(1);
    assert!(world.socket.point_tunnel(world.one, ONE, tunnel));
    world.socket.receive_relayed(Relayed {
        id: ONE,
        bytes: payload(1).into(),
    });
    world.socket.forget(world.one);
    assert_eq!(world.waiting(), []);
    assert_eq!(world.socket.counters().strangers, 1);
}

#[tokio::test]
async fn a_flood_through_the_tunnel_is_bounded() {
    let world = World::new().await;
    let (tunnel, _queue) = mpsc::channel(1);
    assert!(world.socket.point_tunnel(world.one, ONE, tunnel));
    let flood = |count, length| {
        for _ in 0..count {
            world.socket.receive_relayed(Relayed {
                id: ONE,
                bytes: packet(0x40, length, 1).into(),
            });
        }
    };
    flood(5_000, 1_200);
    assert_eq!(world.socket.counters().relay_overflow, 5_000 - 1_024);
    assert_eq!(world.waiting().len(), 1_024);
    flood(100, 60_000);
    assert_eq!(world.waiting().len(), 25, "1.5 MB");
}

#[tokio::test]
async fn whoever_forwards_gets_batches_as_they_came() {
    let world = World::new().await;
    let mut batches = world.socket.take_relay();
    let quic = packet(0x40, STRIDE, 7);
    let theirs = [
        relayed(NONE, 1),
        relayed(NONE, 2),
        quic,
        short(relayed(NONE, 3)),
    ];
    world.receive(STRANGER, &theirs);
    // Ours stay ours.
    assert_eq!(world.receive(TRACKER, &[relayed(ONE, 1)]).len(), 1);
    let batch = |segment, bytes: Vec<u8>| RelayBatch {
        from: addr(STRANGER),
        local_ip: None,
        id: NONE,
        segment,
        bytes: bytes.into(),
    };
    let first = batch(STRIDE, [relayed(NONE, 1), relayed(NONE, 2)].concat());
    assert_eq!(batches.try_recv().unwrap(), first);
    let last = batch(STRIDE - 3, short(relayed(NONE, 3)));
    assert_eq!(batches.try_recv().unwrap(), last);
    assert!(batches.try_recv().is_err());
    assert_eq!(world.socket.counters().stray, 0);

    for _ in 0..300 {
        world.receive(STRANGER, &[relayed(NONE, 1), relayed(NONE, 2)]);
    }
    assert_eq!(world.socket.counters().relay_overflow, 2 * (300 - 256));
}

#[tokio::test]
async fn a_batch_is_passed_on_as_it_came_whatever_its_length() {
    let from = Socket::bind("127.0.0.1:0".parse().unwrap(), 1472).unwrap();
    let to = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    from.io.writable().await.unwrap();
    for segment in [100, 1_216, 20_000] {
        let bytes: Vec<u8> = (0..5u8).flat_map(|n| vec![n; segment]).collect();
        let bytes = Bytes::from(bytes).slice(..5 * segment - 3);
        let batch = RelayBatch {
            from: addr(STRANGER),
            local_ip: None,
            id: ONE,
            segment,
            bytes: bytes.clone(),
        };
        from.send_relay(&batch, to.local_addr().unwrap());
        for expected in bytes.chunks(segment) {
            assert_eq!(next(&to).await, expected);
        }
    }
    assert_eq!(from.counters().send_errors, 0);
    assert_eq!(from.max_transmit_segments(), from.state.max_gso_segments());
}

#[tokio::test]
async fn no_hand_in_goes_unnoticed() {
    /// Counts.
    struct Woken(AtomicUsize);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    let world = World::new().await;
    let (tunnel, _queue) = mpsc::channel(1);
    assert!(world.socket.point_tunnel(world.one, ONE, tunnel));
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Arc::clone(&woken).into();
    let mut context = Context::from_waker(&waker);
    let hand_in = || {
        let socket = Arc::clone(&world.socket);
        let bytes = Bytes::from(payload(1));
        std::thread::spawn(move || socket.receive_relayed(Relayed { id: ONE, bytes }))
    };
    for _ in 0..2_000 {
        // Handed in at any moment around the poll: it is seen by it or wakes.
        let before = woken.0.load(Ordering::SeqCst);
        let handing = hand_in();
        let mut buf = vec![0; 2048];
        let mut bufs = [IoSliceMut::new(&mut buf)];
        let mut metas = [RecvMeta::default()];
        let seen = world.socket.poll_recv(&mut context, &mut bufs, &mut metas);
        handing.join().unwrap();
        if seen.is_pending() {
            assert!(woken.0.load(Ordering::SeqCst) > before, "a lost wake-up");
            let seen = world.socket.poll_recv(&mut context, &mut bufs, &mut metas);
            assert!(seen.is_ready());
        }
    }
}

#[tokio::test]
async fn neither_the_tunnel_nor_the_kernel_keeps_the_other_waiting() {
    let world = World::new().await;
    let (tunnel, _queue) = mpsc::channel(1);
    assert!(world.socket.point_tunnel(world.one, ONE, tunnel));
    let plain = Socket::bind("127.0.0.1:0".parse().unwrap(), 1472).unwrap();
    plain.io.writable().await.unwrap();
    for _ in 0..64 {
        plain.send_raw(&packet(0x40, 100, 1), world.socket.local_addr());
        world.socket.receive_relayed(Relayed {
            id: ONE,
            bytes: payload(1).into(),
        });
    }
    world.socket.io.readable().await.unwrap();
    // One buffer a poll.
    let mut sources = Vec::new();
    for _ in 0..20 {
        let mut buf = vec![0; 2048];
        let mut metas = [RecvMeta::default()];
        let received = world.poll(&mut [IoSliceMut::new(&mut buf)], &mut metas);
        assert_eq!(received, Some(1));
        sources.push(metas[0].addr == world.one);
    }
    assert_eq!(sources.iter().filter(|relayed| **relayed).count(), 10);
}

/// A socket with a route of session [`ONE`] and one of [`TWO`], both at [`TRACKER`].
struct World {
    socket: Arc<Socket>,
    one: SocketAddr,
    two: SocketAddr,
}

impl World {
    async fn new() -> Self {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let socket = Socket::bind_with(loopback, 16_000, Unsolicited::Accept).unwrap();
        let [one, two] = [1, 2].map(|n| socket.route(&PublicKey([n; 32]), Class::Relay));
        assert!(socket.point_relay(one, ONE, addr(TRACKER)));
        assert!(socket.point_relay(two, TWO, addr(TRACKER)));
        Self { socket, one, two }
    }

    /// What quinn gets of a batch, buffer by buffer: from whom, how long its packets are, and it.
    fn receive(&self, from: &str, segments: &[Vec<u8>]) -> Vec<(SocketAddr, usize, Vec<u8>)> {
        let mut batch = segments.concat();
        let mut metas = [RecvMeta::default()];
        metas[0].addr = mapped(addr(from));
        (metas[0].len, metas[0].stride) = (batch.len(), segments[0].len());
        let any =
            self.socket
                .receive_all(Via::MAIN, &mut [IoSliceMut::new(&mut batch)], &mut metas);
        assert_eq!(any, metas[0].len > 0);
        let [meta] = metas;
        let first = any.then(|| (meta.addr, meta.stride, batch[..meta.len].to_vec()));
        first.into_iter().chain(self.waiting()).collect()
    }

    /// The same of what was handed in.
    fn waiting(&self) -> Vec<(SocketAddr, usize, Vec<u8>)> {
        let mut seen = Vec::new();
        let mut first = vec![0; 80_000];
        let mut second = vec![0; 80_000];
        loop {
            let mut metas = [RecvMeta::default(); 2];
            let bufs = &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
            let Some(count) = self.poll(bufs, &mut metas) else {
                return seen;
            };
            for (buf, meta) in bufs.iter().zip(&metas[..count]) {
                seen.push((meta.addr, meta.stride, buf[..meta.len].to_vec()));
            }
        }
    }

    fn poll(&self, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> Option<usize> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match self.socket.poll_recv(&mut context, bufs, metas) {
            Poll::Ready(received) => Some(received.unwrap()),
            Poll::Pending => None,
        }
    }
}

fn transmit(destination: SocketAddr, contents: &[u8], segment: usize) -> Transmit<'_> {
    Transmit {
        destination,
        ecn: None,
        contents,
        segment_size: Some(segment),
        src_ip: None,
    }
}

async fn next(socket: &tokio::net::UdpSocket) -> Vec<u8> {
    let mut datagram = vec![0; 65_535];
    let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut datagram));
    let length = received.await.unwrap().unwrap();
    datagram.truncate(length);
    datagram
}

/// A relayed datagram of full length.
fn relayed(id: RelayId, n: u8) -> Vec<u8> {
    [&[0x30, 0, 0, 0][..], &id.0, &payload(n)].concat()
}

/// What is in it.
fn payload(n: u8) -> Vec<u8> {
    packet(0x41, STRIDE - 16, n)
}

fn packet(first: u8, length: usize, n: u8) -> Vec<u8> {
    let mut packet = vec![n; length];
    packet[0] = first;
    packet
}

/// As it is at the end of a batch.
fn short(mut datagram: Vec<u8>) -> Vec<u8> {
    datagram.truncate(datagram.len() - 3);
    datagram
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
