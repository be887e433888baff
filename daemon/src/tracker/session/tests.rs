//! Sessions with a real tracker, by a network that can be cut.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;
use warren_net::{Identity, Profile, Protocol, Unsolicited};
use warren_proto::wire::Paths;
use warren_tracker::{Config, Tracker};

use super::*;
use crate::node::{self, NodeEvent};
use crate::punch::Nat;
use crate::tracker::{TrackerHandle, TrackerId, start};

/// What takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// Gap between two looks at a state.
const POLL: Duration = Duration::from_millis(5);

const SWARM: SwarmId = SwarmId([7; 32]);

#[tokio::test]
async fn a_renewed_session_takes_the_place_of_one_that_works() {
    let mut bench = Bench::new().await;
    bench.until_connected().await;
    for _ in 0..2 {
        bench.handle.renew();
        bench.until_connected().await;
    }
}

#[tokio::test]
async fn a_session_that_leads_nowhere_in_another_network_is_not_waited_for() {
    let mut bench = Bench::new().await;
    bench.until_connected().await;
    bench.handle.announce(SWARM, MemberState::Seed);
    bench.until_answered().await;
    bench.network.cut(true);
    bench.handle.renew();
    // And not that nothing was heard for as long as QUIC waits.
    assert_eq!(bench.until_lost().await, "the tracker does not answer");
    // It is tried again and again, and what is under way is given up for a network that is new.
    bench.network.cut(false);
    bench.handle.renew();
    bench.until_connected().await;
    bench.until_answered().await;
}

#[tokio::test]
async fn in_a_network_that_works_late_a_new_session_is_tried_for_again() {
    let mut bench = Bench::new().await;
    bench.until_connected().await;
    // Nothing is announced, so nothing tells that the session leads nowhere.
    bench.network.cut(true);
    bench.handle.renew();
    while bench.network.dropped() < 3 {
        sleep(POLL).await;
    }
    bench.network.cut(false);
    bench.until_connected().await;
}

struct Bench {
    handle: TrackerHandle,
    events: mpsc::Receiver<NodeEvent>,
    network: Arc<Network>,
    _tracker: Tracker,
    _home: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Bench {
        let home = tempfile::tempdir().unwrap();
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut config = Config::new(home.path().to_owned());
        (config.listen, config.stun_listen) = (vec![any], vec![any]);
        let tracker = Tracker::start(config).unwrap();
        let network = Network::to(tracker.local_addrs()[0]).await;
        let identity = Identity::generate().unwrap();
        let (profile, unsolicited) = (Profile::Daemon, Unsolicited::OnlyAdmitted);
        let endpoint =
            Endpoint::bind_with(any, &identity, &[Protocol::Peer], profile, unsolicited).unwrap();
        let (node, events) = node::channel();
        let config = TrackerConfig {
            id: TrackerId(0),
            address: network.address.to_string().parse().unwrap(),
            pin: Some(tracker.pin()),
            known: None,
            situation: Situation {
                candidates: Vec::new(),
                nat: Nat::default(),
                paths: Paths::Any,
            },
        };
        Bench {
            handle: start(endpoint, config, node),
            events,
            network,
            _tracker: tracker,
            _home: home,
        }
    }

    /// What the tracker says of itself is skipped.
    async fn next(&mut self) -> TrackerEvent {
        loop {
            let event = timeout(DEADLINE, self.events.recv()).await;
            match event.expect("in time") {
                Some(NodeEvent::Tracker { event, .. }) if is_about(&event) => (),
                Some(NodeEvent::Tracker { event, .. }) => return event,
                other => panic!("{other:?}"),
            }
        }
    }

    async fn until_connected(&mut self) {
        loop {
            match self.next().await {
                TrackerEvent::Connected { .. } => return,
                TrackerEvent::Said(_) => (),
                lost @ TrackerEvent::Lost { .. } => panic!("{lost:?}"),
            }
        }
    }

    async fn until_answered(&mut self) {
        let said = self.next().await;
        assert!(
            matches!(said, TrackerEvent::Said(FromTracker::Peers { .. })),
            "{said:?}"
        );
    }

    async fn until_lost(&mut self) -> String {
        match self.next().await {
            TrackerEvent::Lost { cause, .. } => cause,
            other => panic!("{other:?}"),
        }
    }
}

fn is_about(event: &TrackerEvent) -> bool {
    matches!(event, TrackerEvent::Said(FromTracker::About { .. }))
}

/// A port that leads to a tracker, unless it is cut.
struct Network {
    address: SocketAddr,
    outside: UdpSocket,
    inside: UdpSocket,
    is_cut: AtomicBool,
    dropped: std::sync::atomic::AtomicUsize,
}

impl Network {
    async fn to(tracker: SocketAddr) -> Arc<Network> {
        let socket = || UdpSocket::bind("127.0.0.1:0");
        let (outside, inside) = (socket().await.unwrap(), socket().await.unwrap());
        inside.connect(tracker).await.unwrap();
        let network = Arc::new(Network {
            address: outside.local_addr().unwrap(),
            outside,
            inside,
            is_cut: AtomicBool::new(false),
            dropped: Default::default(),
        });
        tokio::spawn(Arc::clone(&network).pass());
        network
    }

    fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }

    fn dropped(&self) -> usize {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Packets of one daemon.
    async fn pass(self: Arc<Self>) {
        let (mut out, mut back) = ([0; 2048], [0; 2048]);
        let mut daemon = None;
        loop {
            tokio::select! {
                Ok((length, from)) = self.outside.recv_from(&mut out) => {
                    daemon = Some(from);
                    self.pass_on(self.inside.send(&out[..length])).await;
                }
                Ok(length) = self.inside.recv(&mut back) => if let Some(daemon) = daemon {
                    self.pass_on(self.outside.send_to(&back[..length], daemon)).await;
                },
            }
        }
    }

    async fn pass_on(&self, sending: impl Future<Output = std::io::Result<usize>>) {
        match self.is_cut.load(Ordering::Relaxed) {
            true => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
            // What a kernel does not take is lost, as elsewhere.
            false => drop(sending.await),
        }
    }
}
