//! A daemon that relays for its swarm, asked for more than it may do: nothing is passed on for
//! strangers, between swarms, above its rate, or to where nobody is connected any more.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{sleep, timeout},
};
use warren_net::{
    Connection, Endpoint, Expect, FrameReader, FrameWriter, Identity, Profile, Protocol,
    RelayBatch, Relayed, Socket,
};
use warren_proto::{
    id::{PublicKey, RelayId},
    proof::prove,
    wire::{
        Bounded, FromTracker, Hello, MemberState, NatFiltering, NatMapping, NoRelay, Paths,
        PeerMessage, Rendezvous, ToTracker, peer::RELAYS,
    },
};
use warren_tracker::Tracker;

use crate::{
    By, DEADLINE,
    daemon::{Daemon, Events},
    meeting,
    share::Share,
    source, start_tracker,
};

/// Our own number for the swarm.
pub(crate) const ALIAS: u32 = 7;

/// What the daemon passes on, in bits per second, unless a test says otherwise.
const RATE: u64 = 100_000_000;

/// Between two tries of what may fail on a busy machine.
const RETRY: Duration = Duration::from_millis(200);

/// What a bucket of the relay holds at least, in bytes.
const BURST_BYTES: u64 = 131_072;

/// Content of one datagram.
const DATAGRAM: [u8; 1000] = [0x40; 1000];

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_of_a_swarm_reach_each_other_and_a_stranger_nobody() {
    let world = World::start(Some(RATE)).await;
    let (mut a, mut b) = (world.join(&world.file).await, world.join(&world.file).await);
    assert_eq!(a.features & RELAYS, RELAYS);
    let id = a.open(b.key).await;
    assert_eq!(b.opened(a.key).await, id);
    assert_eq!(b.open(a.key).await, id, "one session for two");

    deliver(&a, &mut b, id, b"meant: b").await;
    deliver(&b, &mut a, id, b"meant: a").await;

    let any = "127.0.0.1:0".parse().unwrap();
    let stranger = Socket::bind(any, 1472).unwrap();
    let forged = Relayed {
        id,
        bytes: b"forged".as_slice().into(),
    };
    // Also a third member, whom nobody has asked for, has no part in the session.
    let c = world.join(&world.file).await;
    for _ in 0..50 {
        stranger.send_relay(&forged.wrap(), a.daemon);
        c.send(id, b"meddled");
        a.send(RelayId([9; 12]), b"of no session");
    }
    deliver(&a, &mut b, id, b"meant: next").await;
    deliver(&b, &mut a, id, b"meant: next").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_of_different_swarms_and_absent_ones_are_refused() {
    let world = World::start(Some(RATE)).await;
    let mut a = world.join(&world.file).await;
    let mut b = world.join(&world.tree).await;
    assert_eq!(a.ask(b.key).await, Err(NoRelay::NotConnected));
    assert_eq!(b.ask(a.key).await, Err(NoRelay::NotConnected));
    let absent = PublicKey([3; 32]);
    assert_eq!(a.ask(absent).await, Err(NoRelay::NotConnected));
    assert_eq!(a.ask(a.key).await, Err(NoRelay::NotConnected));
    let mut other = world.join(&world.file).await;
    // In no swarm that this number stands for.
    assert_eq!(
        a.ask_as(ALIAS + 1, other.key).await,
        Err(NoRelay::NotConnected)
    );
    let id = a.open(other.key).await;
    assert_eq!(other.opened(a.key).await, id);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_not_started_so_relays_for_nobody() {
    let world = World::start(None).await;
    let (mut a, b) = (world.join(&world.file).await, world.join(&world.file).await);
    assert_eq!(a.features & RELAYS, 0);
    assert_eq!(a.ask(b.key).await, Err(NoRelay::Off));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_one_of_the_two_leaves_the_swarm_or_the_daemon() {
    let world = World::start(Some(RATE)).await;
    let mut a = world.join(&world.file).await;
    let (mut b, mut c) = (world.join(&world.file).await, world.join(&world.file).await);
    let mut witness = world.join(&world.file).await;
    let to_witness = a.open(witness.key).await;
    let (to_b, to_c) = (a.open(b.key).await, a.open(c.key).await);
    // Their sockets stay where they are, and open.
    b.connection.close(0, "done");
    c.say(PeerMessage::Leave { alias: ALIAS }).await;
    until_refused(&mut a, b.key).await;
    until_refused(&mut a, c.key).await;
    for _ in 0..50 {
        a.send(to_b, b"to nobody");
        a.send(to_c, b"to nobody");
    }
    // One after the other: what came before this was dealt with.
    deliver(&a, &mut witness, to_witness, b"meant: seen").await;
    assert!(b.passed.try_recv().is_err() && c.passed.try_recv().is_err());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_passed_on_than_the_rate_allows() {
    const SLOW: u64 = 800_000;
    let world = World::start(Some(SLOW)).await;
    let (mut a, mut b) = (world.join(&world.file).await, world.join(&world.file).await);
    let id = a.open(b.key).await;
    let started = Instant::now();
    for _ in 0..20 {
        for _ in 0..200 {
            a.send(id, &DATAGRAM);
        }
        sleep(Duration::from_millis(50)).await;
    }
    let mut bytes = 0;
    while let Ok(Some(batch)) = timeout(Duration::from_millis(500), b.passed.recv()).await {
        bytes += batch.bytes.len() as u64;
    }
    let allowed = BURST_BYTES as f64 + started.elapsed().as_secs_f64() * SLOW as f64 / 8.0;
    assert!(bytes > 0 && bytes as f64 <= allowed, "{bytes} of {allowed}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_asks_without_end_is_not_answered_without_end() {
    let world = World::start(Some(RATE)).await;
    let (mut a, mut b) = (world.join(&world.file).await, world.join(&world.file).await);
    a.open(b.key).await;
    for _ in 0..1000 {
        let (alias, peer) = (ALIAS, b.key);
        a.say(PeerMessage::RelayAsk { alias, peer }).await;
    }
    let mut told = 0;
    while let Ok(message) = timeout(Duration::from_secs(1), b.hear()).await {
        told += usize::from(matches!(message, PeerMessage::RelayOpen { .. }));
    }
    assert!((1..=128).contains(&told), "told {told} times");
    world.stop().await;
}

/// A daemon that downloads two shares of which nobody gives it anything.
struct World {
    file: Share,
    tree: Share,
    tracker: Tracker,
    daemon: Daemon,
    _downloads: [Events; 2],
    _place: tempfile::TempDir,
}

impl World {
    async fn start(relay_for_swarm: Option<u64>) -> World {
        let place = tempfile::Builder::new().prefix("w").tempdir().unwrap();
        let tracker = start_tracker(place.path());
        let daemon = daemon(place.path(), &tracker, relay_for_swarm).await;
        let (file, tree) = (Share::file(), Share::tree());
        let download = |share| daemon.download(source(share, By::Manifest, &tracker));
        let downloads = [download(&file).await, download(&tree).await];
        World {
            file,
            tree,
            tracker,
            daemon,
            _downloads: downloads,
            _place: place,
        }
    }

    /// A member of that swarm, connected with the daemon.
    async fn join(&self, share: &Share) -> Member {
        let joining = Member::join(&self.tracker, share, self.daemon.key());
        timeout(DEADLINE, joining).await.expect("in time")
    }

    async fn stop(self) {
        self.daemon.stop().await;
        self.tracker.shutdown().await;
    }
}

async fn daemon(place: &Path, tracker: &Tracker, relay_for_swarm: Option<u64>) -> Daemon {
    let address = tracker.local_addrs()[0].to_string();
    let at = (address, tracker.pin());
    Daemon::start_relaying(place, 2, at, Paths::Any, relay_for_swarm).await
}

/// A peer that says what a test wants it to.
pub(crate) struct Member {
    key: PublicKey,
    endpoint: Endpoint,
    pub(crate) connection: Connection,
    reader: FrameReader,
    writer: FrameWriter,
    /// Of the daemon's hello.
    features: u64,
    /// Where the daemon is.
    daemon: SocketAddr,
    passed: mpsc::Receiver<RelayBatch>,
    tracker: AbortHandle,
}

impl Member {
    pub(crate) async fn join(tracker: &Tracker, share: &Share, daemon: PublicKey) -> Member {
        let identity = Identity::generate().unwrap();
        let key = identity.public_key();
        let any = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::bind(any, &identity, &[Protocol::Peer], Profile::Daemon).unwrap();
        let (met, following) = introduced(&endpoint, tracker, share, daemon).await;
        let (introductions, mut connections) = meeting::start(endpoint.clone());
        introductions.send(met).await.unwrap();
        let dialled = async { endpoint.accept().await.unwrap().complete().await };
        let connection = tokio::select! {
            connection = connections.recv() => connection.unwrap(),
            connection = dialled => connection.unwrap(),
        };
        let mut writer = FrameWriter::new(connection.quinn().open_uni().await.unwrap());
        writer.send(&PeerMessage::Hello(HELLO)).await.unwrap();
        let exporter = connection.exporter(&share.swarm().0);
        let join = PeerMessage::Join {
            alias: ALIAS,
            swarm: share.swarm(),
            proof: prove(
                &share.content().id,
                None,
                &exporter,
                connection.side(),
                &key,
            ),
        };
        let reader = FrameReader::new(connection.quinn().accept_uni().await.unwrap());
        let mut member = Member {
            key,
            daemon: connection.remote_address(),
            passed: endpoint.socket().take_relay(),
            endpoint,
            connection,
            reader,
            writer,
            features: 0,
            tracker: following,
        };
        // It joins anew once it has made its files, and describes only then.
        loop {
            match member.hear().await {
                PeerMessage::Hello(hello) => member.features = hello.features,
                PeerMessage::Join { .. } => member.say(join.clone()).await,
                PeerMessage::Describe { .. } => return member,
                _ => (),
            }
        }
    }

    async fn say(&mut self, message: PeerMessage) {
        self.writer.send(&message).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> PeerMessage {
        self.reader.recv().await.unwrap().unwrap()
    }

    async fn ask(&mut self, other: PublicKey) -> Result<RelayId, NoRelay> {
        self.ask_as(ALIAS, other).await
    }

    async fn ask_as(&mut self, alias: u32, other: PublicKey) -> Result<RelayId, NoRelay> {
        self.say(PeerMessage::RelayAsk { alias, peer: other }).await;
        let answer = async {
            loop {
                match self.hear().await {
                    PeerMessage::RelayOpen { id, peer, .. } if peer == other => return Ok(id),
                    PeerMessage::RelayRefused { peer, reason } if peer == other => {
                        return Err(reason);
                    }
                    _ => (),
                }
            }
        };
        timeout(DEADLINE, answer).await.expect("answered in time")
    }

    /// The session with another, of which that one has asked.
    async fn opened(&mut self, other: PublicKey) -> RelayId {
        let opened = async {
            loop {
                if let PeerMessage::RelayOpen { id, peer, .. } = self.hear().await
                    && peer == other
                {
                    return id;
                }
            }
        };
        timeout(DEADLINE, opened).await.expect("told in time")
    }

    /// Asks until there is a session: on a busy machine the path of one of the two may not answer for a
    /// moment.
    async fn open(&mut self, other: PublicKey) -> RelayId {
        let opened = async {
            loop {
                match self.ask(other).await {
                    Ok(id) => return id,
                    Err(_) => sleep(RETRY).await,
                }
            }
        };
        timeout(DEADLINE, opened).await.expect("opened in time")
    }

    fn send(&self, id: RelayId, bytes: &[u8]) {
        let bytes = bytes.to_vec().into();
        let batch = Relayed { id, bytes }.wrap();
        self.endpoint.socket().send_relay(&batch, self.daemon);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.tracker.abort();
    }
}

const HELLO: Hello = Hello {
    version: 1,
    features: 0,
};

/// Announces, and waits to be introduced to the daemon. The connection to the tracker is kept until
/// the task is ended.
async fn introduced(
    endpoint: &Endpoint,
    tracker: &Tracker,
    share: &Share,
    daemon: PublicKey,
) -> (Rendezvous, AbortHandle) {
    let expect = Expect::Pin(tracker.pin());
    let connection = endpoint.connect(tracker.local_addrs()[0], Protocol::Tracker, expect);
    let connection = connection.await.unwrap();
    let (send, receive) = connection.quinn().open_bi().await.unwrap();
    let (mut reader, mut writer) = (FrameReader::new(receive), FrameWriter::new(send));
    for message in [
        ToTracker::Hello(HELLO),
        ToTracker::Situation {
            candidates: Bounded::new(),
            mapping: NatMapping::EndpointIndependent,
            filtering: NatFiltering::Unknown,
            paths: Paths::Any,
        },
        ToTracker::Announce {
            swarm: share.swarm(),
            // Of a seed chunks would be asked.
            state: MemberState::Leech,
            introductions: 8,
        },
    ] {
        writer.send(&message).await.unwrap();
    }
    let met = loop {
        match reader.recv().await.unwrap().unwrap() {
            FromTracker::Rendezvous(met) if met.peer == daemon => break met,
            _ => (),
        }
    };
    let kept = Arc::new((connection, writer));
    let following = tokio::spawn(async move {
        let _kept = kept;
        while let Ok(Some(FromTracker::Peers { .. } | _)) = reader.recv().await {}
    });
    (met, following.abort_handle())
}

/// Sends until it has arrived, since datagrams get lost. Whatever arrives comes from the daemon, and was
/// meant to.
async fn deliver(from: &Member, to: &mut Member, id: RelayId, bytes: &[u8]) {
    let delivered = async {
        loop {
            from.send(id, bytes);
            while let Ok(Some(batch)) = timeout(RETRY, to.passed.recv()).await {
                assert_eq!(batch.from, to.daemon);
                for datagram in batch.datagrams() {
                    assert!(datagram.bytes.starts_with(b"meant"), "{datagram:?}");
                    if datagram.bytes == bytes {
                        return;
                    }
                }
            }
        }
    };
    timeout(DEADLINE, delivered)
        .await
        .expect("passed on in time");
}

/// Asks until the daemon has noticed that the other is not there any more.
async fn until_refused(asking: &mut Member, other: PublicKey) {
    let refused = async {
        // More than once: a path may not answer for a moment.
        let mut refusals = 0;
        while refusals < 4 {
            refusals = match asking.ask(other).await {
                Ok(_) => 0,
                Err(_) => refusals + 1,
            };
            sleep(RETRY).await;
        }
    };
    timeout(DEADLINE, refused).await.expect("noticed in time");
}
