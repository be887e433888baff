//! A tracker passes datagrams between daemons over real sockets, and those that nobody should. A
//! daemon that has moved is nobody before it has proven where it is.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use warren_net::{
    Endpoint, Expect, Identity, Link, LinkReader, LinkWriter, Profile, Protocol, RelayBatch,
    Relayed, connect_tcp,
};
use warren_proto::id::{PublicKey, RelayId, SwarmId};
use warren_proto::swarm::{Shape, Transport};
use warren_proto::wire::{
    Bounded, FromTracker, MemberState, NatFiltering, NatMapping, Paths, Rendezvous, ToTracker,
};
use warren_tracker::{Config, RelayCounts, Tracker};

mod common;

use common::{any, greet, within};

const SWARM: SwarmId = SwarmId([7; 32]);
const RATE: u64 = 100_000_000;

/// Close code for who has moved.
const MOVED: u64 = 4;

#[tokio::test]
async fn two_that_were_introduced_reach_each_other_by_udp_and_by_tcp() {
    use Transport::{Tcp, Udp};
    for [one, other] in [[Udp, Udp], [Udp, Tcp], [Tcp, Udp], [Tcp, Tcp]] {
        let running = start(Some(RATE));
        let [mut a, mut b] = running.daemons([one, other]).await;
        let id = introduce(&mut a, &mut b).await.unwrap();
        for length in [1, 1200, 1472] {
            a.send(id, &vec![7; length]);
            assert_eq!(b.receive().await, relayed(id, vec![7; length]));
            b.send(id, &vec![8; length]);
            assert_eq!(a.receive().await, relayed(id, vec![8; length]));
        }
        let counts = running.tracker.relay_counts();
        assert_eq!((counts.datagrams.datagrams, counts.sessions), (6, 1));
        assert_eq!(counts.datagrams.bytes, 2 * (1 + 1200 + 1472 + 3 * 16));
    }
}

#[tokio::test]
async fn introducing_the_same_two_again_prolongs_their_session() {
    let running = start(Some(RATE));
    let [mut a, mut b] = running.daemons([Transport::Udp; 2]).await;
    let id = introduce(&mut a, &mut b).await;
    // Not sooner: a pair is introduced once in two seconds.
    let again = loop {
        a.say(&ToTracker::Introduce {
            swarm: SWARM,
            peer: b.key,
        })
        .await;
        match a.next_of(&[0x0024, 0x0026]).await {
            FromTracker::Rendezvous(again) => break again,
            _ => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    };
    assert_eq!(again.relay, id);
}

#[tokio::test]
async fn who_comes_back_by_another_way_goes_on_with_the_same_session() {
    use Transport::{Tcp, Udp};
    for [before, after] in [[Tcp, Udp], [Udp, Tcp], [Udp, Udp]] {
        let running = start(Some(RATE));
        let identity = Identity::generate().unwrap();
        let mut a = running.daemon_as(before, &identity).await;
        let mut b = running.daemon(Udp).await;
        let id = introduce(&mut a, &mut b).await.unwrap();
        let mut again = running.daemon_as(after, &identity).await;
        // It has neither announced nor been introduced since.
        again.send(id, &[7; 1200]);
        assert_eq!(b.receive().await, relayed(id, vec![7; 1200]));
        b.send(id, &[8; 1200]);
        assert_eq!(again.receive().await, relayed(id, vec![8; 1200]));
    }
}

#[tokio::test]
async fn what_names_no_session_or_comes_from_elsewhere_is_not_passed_on() {
    let running = start(Some(RATE));
    let [mut a, mut b] = running.daemons([Transport::Udp; 2]).await;
    let [other, stranger] = running.daemons([Transport::Udp; 2]).await;
    let by_tcp = running.daemon(Transport::Tcp).await;
    let id = introduce(&mut a, &mut b).await.unwrap();
    let nobody = UdpSocket::bind(any()).await.unwrap();
    let tracker = running.tracker.local_addrs()[0];

    let mut unknown = id;
    unknown.0[11] ^= 1;
    a.send(unknown, b"no such session");
    a.send(RelayId([0; 12]), b"no such session");
    other.send(id, b"of another daemon");
    stranger.send(id, b"of another daemon");
    by_tcp.send(id, b"of another daemon");
    nobody
        .send_to(&datagram(id, b"of nobody"), tracker)
        .await
        .unwrap();
    a.send(id, &[7; 1473]);
    // What follows arrives after all of that; by TCP it may not.
    until(|| running.tracker.relay_counts().datagrams.foreign_source == 4).await;
    a.send(id, b"of the other of the two");
    assert_eq!(b.receive().await, relayed(id, *b"of the other of the two"));

    let RelayCounts {
        datagrams: count,
        too_long,
        ..
    } = running.tracker.relay_counts();
    assert_eq!((count.unknown_session, count.foreign_source), (2, 4));
    assert_eq!((count.datagrams, too_long), (1, 1));
    assert!(b.relayed.try_recv().is_err() && a.relayed.try_recv().is_err());
}

#[tokio::test]
async fn an_id_is_worth_nothing_after_its_session_ended() {
    let running = start(Some(RATE));
    let mut a = running.daemon(Transport::Udp).await;
    let identity = Identity::generate().unwrap();
    let mut b = running.daemon_as(Transport::Udp, &identity).await;
    let before = introduce(&mut a, &mut b).await.unwrap();
    b.leave().await;
    until(|| running.tracker.relay_counts().sessions == 0).await;
    a.send(before, b"nobody is there");
    let mut b = running.daemon_as(Transport::Udp, &identity).await;
    a.send(before, b"replayed");
    b.send(before, b"replayed");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let id = introduce(&mut a, &mut b).await.unwrap();
    assert_ne!(id, before);
    a.send(before, b"replayed");
    a.send(id, b"new");
    assert_eq!(b.receive().await, relayed(id, *b"new"));
    let count = running.tracker.relay_counts().datagrams;
    assert_eq!((count.unknown_session, count.datagrams), (4, 1));
}

#[tokio::test]
async fn a_flood_is_cut_to_the_rate() {
    // A bucket holds 128 KiB, and a megabit brings as much in a second.
    let running = start(Some(1_000_000));
    let [mut a, mut b] = running.daemons([Transport::Udp; 2]).await;
    let id = introduce(&mut a, &mut b).await.unwrap();
    let began = std::time::Instant::now();
    const SENT: u64 = 2000;
    for _ in 0..SENT / 100 {
        (0..100).for_each(|_| a.send(id, &[7; 1184]));
        // The queue of the socket is for bursts, not for this.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let settled = || {
        let count = running.tracker.relay_counts().datagrams;
        count.datagrams + count.over_rate > SENT / 2
    };
    until(settled).await;
    let count = running.tracker.relay_counts().datagrams;
    let most = 131_072.0 + began.elapsed().as_secs_f64() * 125_000.0;
    assert!(
        count.over_rate > 0 && count.bytes as f64 <= most,
        "{count:?}"
    );
    assert!(count.datagrams >= 100, "{count:?}");
}

#[tokio::test]
async fn who_wants_no_relay_gets_none_and_who_wants_nothing_else_gets_no_addresses() {
    let running = start(Some(RATE));
    for ([ours, theirs], has_relay, has_addresses) in [
        ([Paths::Any, Paths::Any], true, true),
        ([Paths::Any, Paths::DirectOnly], false, true),
        ([Paths::RelayOnly, Paths::Any], true, false),
        ([Paths::RelayOnly, Paths::DirectOnly], false, false),
    ] {
        let [mut a, mut b] = running.daemons([Transport::Udp; 2]).await;
        a.say(&situation(ours)).await;
        b.say(&situation(theirs)).await;
        let [for_a, for_b] = meet(&mut a, &mut b).await;
        assert_eq!((for_a.paths, for_b.paths), (theirs, ours));
        for told in [for_a, for_b] {
            assert_eq!(told.relay.is_some(), has_relay, "{ours:?} {theirs:?}");
            assert_eq!(
                !told.candidates.is_empty(),
                has_addresses,
                "{ours:?} {theirs:?}"
            );
        }
        a.leave().await;
        b.leave().await;
    }
}

#[tokio::test]
async fn who_is_reached_through_the_tracker_alone_says_nothing_of_its_ports() {
    let running = start(Some(RATE));
    for (paths, expected) in [(Paths::Any, 0x0027), (Paths::RelayOnly, 0x0023)] {
        let [mut a, mut b] = running.daemons([Transport::Udp; 2]).await;
        a.say(&situation(paths)).await;
        let [for_a, _] = meet(&mut a, &mut b).await;
        a.say(&ToTracker::Trickle {
            id: for_a.id,
            port: 40_000,
            mapping: NatMapping::Unknown,
        })
        .await;
        a.say(&ToTracker::Leave { swarm: SWARM }).await;
        let first = b.next_of(&[0x0027, 0x0023]).await;
        assert_eq!(warren_proto::wire::Message::kind(&first), expected);
        a.leave().await;
        b.leave().await;
    }
}

#[tokio::test]
async fn a_tracker_without_a_relay_passes_nothing_on() {
    let running = start(None);
    let [mut a, mut b] = running.daemons([Transport::Udp, Transport::Tcp]).await;
    assert_eq!(introduce(&mut a, &mut b).await, None);
    a.send(RelayId([1; 12]), b"to nobody");
    b.send(RelayId([1; 12]), b"to nobody");
    // What was sent before has arrived by then, at least by UDP.
    a.announce(0).await;
    assert_eq!(running.tracker.relay_counts(), RelayCounts::default());
}

/// From 127.0.0.2, whence anybody could write that they send.
#[tokio::test]
async fn nobody_is_told_of_another_ip_address_before_a_new_handshake() {
    let running = start(Some(RATE));
    let mut a = running.daemon(Transport::Udp).await;
    for asked_by_the_other in [false, true] {
        let (mut b, detour, identity) = running.mobile().await;
        let [for_a, _] = meet(&mut a, &mut b).await;
        assert!(addresses(&for_a).all(|ip| ip == IpAddr::from([127, 0, 0, 1])));
        detour.has_moved.store(true, Ordering::Relaxed);
        if asked_by_the_other {
            // Only the acknowledgement of what b is told then comes from elsewhere.
            while b.link.close_code().is_none() {
                a.say(&introduction_to(&b)).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        } else {
            b.say(&introduction_to(&a)).await;
            within(b.link.closed()).await;
        }
        assert_eq!(b.link.close_code(), Some(MOVED));

        // Sooner than two seconds after the first time.
        let mut b = Daemon::connect(&running, Transport::Udp, detour.address, &identity).await;
        b.announce(0).await;
        b.say(&introduction_to(&a)).await;
        let for_b = b.rendezvous().await;
        let for_a = loop {
            let told = a.rendezvous().await;
            if told.id == for_b.id {
                break told;
            }
            assert!(addresses(&told).all(|ip| ip != IpAddr::from([127, 0, 0, 2])));
        };
        assert!(addresses(&for_a).all(|ip| ip == IpAddr::from([127, 0, 0, 2])));
        b.leave().await;
    }
}

#[tokio::test]
async fn what_is_said_from_another_ip_address_points_nobody_there() {
    let running = start(Some(RATE));
    let mut a = running.daemon(Transport::Udp).await;
    let elsewhere = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    for is_echo in [true, false] {
        let (mut b, detour, _) = running.mobile().await;
        let [for_a, _] = meet(&mut a, &mut b).await;
        detour.has_moved.store(true, Ordering::Relaxed);
        let said = match is_echo {
            true => ToTracker::Echo {
                port,
                token: [1; 12],
            },
            false => ToTracker::Trickle {
                id: for_a.id,
                port,
                mapping: NatMapping::Unknown,
            },
        };
        b.say(&said).await;
        within(b.link.closed()).await;
        assert_eq!(b.link.close_code(), Some(MOVED));
        // Left is the last that is said of it.
        let heard = a.next_of(&[0x0027, 0x0023]).await;
        assert_eq!(warren_proto::wire::Message::kind(&heard), 0x0023);
    }
    let mut bytes = [0; 64];
    assert!(elsewhere.try_recv(&mut bytes).is_err(), "a probe");
}

#[tokio::test]
async fn nothing_is_relayed_to_another_ip_address_before_a_new_handshake() {
    let running = start(Some(RATE));
    let detour = Detour::start(running.tracker.local_addrs()[0]).await;
    let mut a = running.daemon(Transport::Udp).await;
    let identity = Identity::generate().unwrap();
    let mut b = Daemon::connect(&running, Transport::Udp, detour.address, &identity).await;
    let id = introduce(&mut a, &mut b).await.unwrap();
    a.send(id, b"at home");
    assert_eq!(b.receive().await, relayed(id, *b"at home"));

    // From now on its packets come from another address, as anybody could make theirs.
    detour.has_moved.store(true, Ordering::Relaxed);
    // The acknowledgement of what it is told then is the first.
    a.say(&ToTracker::Leave { swarm: SWARM }).await;
    let over = b.link.clone();
    let closed = tokio::spawn(async move { over.closed().await });
    let sending = async {
        loop {
            a.send(id, b"elsewhere");
            tokio::time::sleep(Duration::from_millis(20)).await;
            if running.tracker.relay_counts().datagrams.no_receiver > 0 {
                break;
            }
            // Until the tracker has heard of the move.
            b.relayed.try_recv().ok();
        }
    };
    within(sending).await;
    within(closed).await.unwrap();
    assert_eq!(b.link.close_code(), Some(MOVED));
    until(|| running.tracker.relay_counts().sessions == 0).await;
    while b.relayed.try_recv().is_ok() {}
    a.send(id, b"elsewhere");
    until(|| running.tracker.relay_counts().datagrams.unknown_session > 0).await;
    assert!(b.relayed.try_recv().is_err());
}

#[tokio::test]
async fn who_has_moved_connects_again_and_is_introduced_at_once() {
    let running = start(Some(RATE));
    let detour = Detour::start(running.tracker.local_addrs()[0]).await;
    let mut a = running.daemon(Transport::Udp).await;
    let identity = Identity::generate().unwrap();
    let mut b = Daemon::connect(&running, Transport::Udp, detour.address, &identity).await;
    introduce(&mut a, &mut b).await.unwrap();

    detour.has_moved.store(true, Ordering::Relaxed);
    let asked = ToTracker::Introduce {
        swarm: SWARM,
        peer: a.key,
    };
    b.say(&asked).await;
    within(b.link.closed()).await;
    assert_eq!(b.link.close_code(), Some(MOVED));

    // Sooner than two seconds after the first time.
    let mut b = Daemon::connect(&running, Transport::Udp, detour.address, &identity).await;
    b.announce(0).await;
    b.say(&asked).await;
    let (for_a, for_b) = (a.rendezvous().await, b.rendezvous().await);
    assert_eq!(for_a.relay, for_b.relay);
    let id = for_b.relay.unwrap();
    a.send(id, b"at the new place");
    assert_eq!(b.receive().await, relayed(id, *b"at the new place"));
}

/// Introduces two by an announce of the second, and returns what each is told.
async fn meet(a: &mut Daemon, b: &mut Daemon) -> [Rendezvous; 2] {
    a.announce(0).await;
    b.announce(8).await;
    loop {
        let (for_a, for_b) = (a.rendezvous().await, b.rendezvous().await);
        if for_a.id == for_b.id {
            return [for_a, for_b];
        }
    }
}

async fn introduce(a: &mut Daemon, b: &mut Daemon) -> Option<RelayId> {
    let [for_a, for_b] = meet(a, b).await;
    assert_eq!(for_a.relay, for_b.relay);
    for_a.relay
}

fn addresses(told: &Rendezvous) -> impl Iterator<Item = IpAddr> {
    told.candidates.iter().map(|it| it.address.ip())
}

fn introduction_to(other: &Daemon) -> ToTracker {
    ToTracker::Introduce {
        swarm: SWARM,
        peer: other.key,
    }
}

fn situation(paths: Paths) -> ToTracker {
    ToTracker::Situation {
        candidates: Bounded::new(),
        mapping: NatMapping::Unknown,
        filtering: NatFiltering::Unknown,
        paths,
    }
}

fn relayed(id: RelayId, bytes: impl AsRef<[u8]>) -> Relayed {
    let bytes = bytes.as_ref().to_vec().into();
    Relayed { id, bytes }
}

fn datagram(id: RelayId, payload: &[u8]) -> Vec<u8> {
    [&[0x30, 0, 0, 0], &id.0[..], payload].concat()
}

async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(waiting).await;
}

struct Running {
    tracker: Tracker,
    _home: tempfile::TempDir,
}

fn start(relay_bits_per_s: Option<u64>) -> Running {
    let home = tempfile::tempdir().unwrap();
    let config = Config {
        listen: vec![any()],
        tcp_listen: vec![any()],
        stun_listen: vec![any()],
        alt_addresses: vec![],
        also_at: vec![],
        public: None,
        relay_bits_per_s,
        shape: Shape::default(),
        home: home.path().to_owned(),
    };
    Running {
        tracker: Tracker::start(config).unwrap(),
        _home: home,
    }
}

impl Running {
    async fn daemons(&self, by: [Transport; 2]) -> [Daemon; 2] {
        [self.daemon(by[0]).await, self.daemon(by[1]).await]
    }

    async fn daemon(&self, by: Transport) -> Daemon {
        self.daemon_as(by, &Identity::generate().unwrap()).await
    }

    /// A daemon that can move to another address.
    async fn mobile(&self) -> (Daemon, Detour, Identity) {
        let detour = Detour::start(self.tracker.local_addrs()[0]).await;
        let identity = Identity::generate().unwrap();
        let daemon = Daemon::connect(self, Transport::Udp, detour.address, &identity).await;
        (daemon, detour, identity)
    }

    async fn daemon_as(&self, by: Transport, identity: &Identity) -> Daemon {
        let at = match by {
            Transport::Udp => self.tracker.local_addrs()[0],
            Transport::Tcp => self.tracker.tcp_addrs()[0],
        };
        Daemon::connect(self, by, at, identity).await
    }
}

/// Speaks the daemon's side of the protocol, and nothing else.
struct Daemon {
    key: PublicKey,
    link: Link,
    writer: LinkWriter,
    said: mpsc::UnboundedReceiver<FromTracker>,
    way: Way,
    relayed: mpsc::UnboundedReceiver<Relayed>,
}

/// How it sends what is to be relayed.
enum Way {
    Udp(Box<Endpoint>, SocketAddr),
    Tcp(mpsc::Sender<Relayed>),
}

impl Daemon {
    async fn connect(
        running: &Running,
        by: Transport,
        at: SocketAddr,
        identity: &Identity,
    ) -> Self {
        let expect = Expect::Key(running.tracker.key());
        let (relayed_in, relayed) = mpsc::unbounded_channel();
        let (link, way) = match by {
            Transport::Udp => {
                let endpoint = Endpoint::bind(any(), identity, &[], Profile::Daemon).unwrap();
                let batches = endpoint.socket().take_relay();
                tokio::spawn(take_apart(batches, relayed_in));
                let connecting = endpoint.connect(at, Protocol::Tracker, expect);
                let link = Link::Quic(within(connecting).await.unwrap());
                (link, Way::Udp(Box::new(endpoint), at))
            }
            Transport::Tcp => {
                let connecting = connect_tcp(identity, at, expect);
                let link = Link::Tcp(within(connecting).await.unwrap());
                let mut tunnel = link.take_tunnel().unwrap();
                tokio::spawn(async move {
                    while let Some(relayed) = tunnel.incoming.recv().await {
                        relayed_in.send(relayed).ok();
                    }
                });
                (link, Way::Tcp(tunnel.outgoing))
            }
        };
        let (reader, writer) = greet(&link).await;
        let (said_in, said) = mpsc::unbounded_channel();
        tokio::spawn(listen(reader, said_in));
        let key = identity.public_key();
        let mut daemon = Self {
            key,
            link,
            writer,
            said,
            way,
            relayed,
        };
        daemon.next_of(&[0x0020]).await;
        daemon
    }

    async fn say(&mut self, message: &ToTracker) {
        self.writer.send(message).await.unwrap();
    }

    /// The next of these types; whatever else is said is skipped.
    async fn next_of(&mut self, kinds: &[u16]) -> FromTracker {
        use warren_proto::wire::Message;
        loop {
            let said = within(self.said.recv()).await.unwrap();
            if kinds.contains(&said.kind()) {
                return said;
            }
        }
    }

    async fn announce(&mut self, introductions: u8) {
        self.say(&ToTracker::Announce {
            swarm: SWARM,
            state: MemberState::Leech,
            introductions,
        })
        .await;
        // A rendezvous can only follow.
        self.next_of(&[0x0021]).await;
    }

    async fn rendezvous(&mut self) -> Rendezvous {
        match self.next_of(&[0x0024]).await {
            FromTracker::Rendezvous(rendezvous) => rendezvous,
            other => panic!("{other:?}"),
        }
    }

    fn send(&self, id: RelayId, payload: &[u8]) {
        match &self.way {
            Way::Udp(endpoint, tracker) => {
                endpoint.socket().send_raw(&datagram(id, payload), *tracker);
            }
            Way::Tcp(tunnel) => tunnel.try_send(relayed(id, payload)).unwrap(),
        }
    }

    async fn receive(&mut self) -> Relayed {
        within(self.relayed.recv()).await.unwrap()
    }

    async fn leave(self) {
        self.link.close(0, "");
        within(self.link.finished()).await;
        if let Way::Udp(endpoint, _) = &self.way {
            within(endpoint.wait_idle()).await;
        }
    }
}

async fn take_apart(mut batches: mpsc::Receiver<RelayBatch>, to: mpsc::UnboundedSender<Relayed>) {
    while let Some(batch) = batches.recv().await {
        batch.datagrams().for_each(|relayed| drop(to.send(relayed)));
    }
}

async fn listen(mut reader: LinkReader, to: mpsc::UnboundedSender<FromTracker>) {
    while let Ok(Some(message)) = reader.recv().await {
        to.send(message).ok();
    }
}

/// Passes on what goes between one daemon and a tracker, at first from 127.0.0.1, and from 127.0.0.2
/// after it has moved.
struct Detour {
    address: SocketAddr,
    has_moved: Arc<AtomicBool>,
}

impl Detour {
    async fn start(tracker: SocketAddr) -> Self {
        let inside = UdpSocket::bind(any()).await.unwrap();
        let bind = async |last| {
            let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
            UdpSocket::bind(SocketAddr::new(ip, 0)).await.unwrap()
        };
        let (before, after) = (bind(1).await, bind(2).await);
        let address = inside.local_addr().unwrap();
        let has_moved = Arc::new(AtomicBool::new(false));
        let moved = Arc::clone(&has_moved);
        tokio::spawn(async move {
            let mut daemon = None;
            let (mut out, mut back, mut back_after) = ([0; 2048], [0; 2048], [0; 2048]);
            loop {
                tokio::select! {
                    Ok((length, from)) = inside.recv_from(&mut out) => {
                        daemon = Some(from);
                        let outside = match moved.load(Ordering::Relaxed) {
                            true => &after,
                            false => &before,
                        };
                        outside.send_to(&out[..length], tracker).await.ok();
                    }
                    Ok(length) = before.recv(&mut back) => {
                        inside.send_to(&back[..length], daemon.unwrap()).await.ok();
                    }
                    Ok(length) = after.recv(&mut back_after) => {
                        inside.send_to(&back_after[..length], daemon.unwrap()).await.ok();
                    }
                }
            }
        });
        Self { address, has_moved }
    }
}
