//! What members of swarms of all sizes are told of each other, over real sockets. A full mesh has up to
//! eight members here, and a member of a larger swarm about four neighbours.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::collections::{BTreeMap, BTreeSet};

use warren_net::Identity;
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::swarm::Shape;
use warren_proto::wire::{
    Bounded, FromTracker, MemberState, NatFiltering, NatMapping, Paths, ToTracker,
};
use warren_tracker::{Config, Tracker};

mod common;

use common::{Session, any, within};

const SWARM: SwarmId = SwarmId([7; 32]);

/// Not in the swarm; whoever asks for it has an answer, and all before that was dealt with.
const STRANGER: PublicKey = PublicKey([8; 32]);

const EASY: (NatMapping, NatFiltering) =
    (NatMapping::EndpointIndependent, NatFiltering::PortDependent);
const OPEN: (NatMapping, NatFiltering) = (
    NatMapping::EndpointIndependent,
    NatFiltering::PortIndependent,
);
const HARD: (NatMapping, NatFiltering) =
    (NatMapping::AddressDependent, NatFiltering::PortDependent);

#[tokio::test]
async fn members_of_a_small_swarm_hear_of_everybody() {
    let tracker = start();
    let mut daemons = joined(&tracker, &[EASY; 8]).await;
    for daemon in &mut daemons {
        daemon.drain().await;
        assert_eq!(daemon.known.len(), 7);
    }
}

#[tokio::test]
async fn members_of_a_large_swarm_have_a_few_neighbours_each_that_are_all_of_one_piece() {
    let tracker = start();
    let mut daemons = joined(&tracker, &[EASY; 20]).await;
    check(&mut daemons).await;
    // Some say that they go, others just do.
    for mut gone in daemons.drain(..4) {
        gone.say(&ToTracker::Leave { swarm: SWARM }).await;
        gone.drain().await;
    }
    for gone in daemons.drain(..4).collect::<Vec<_>>() {
        gone.session.connection.close(0, "");
        let left = |daemons: &[Daemon]| daemons.iter().any(|it| it.known.contains(&gone.key));
        within(async {
            while left(&daemons) {
                for daemon in &mut daemons {
                    // What is known from before the full mesh ended is forgotten by asking.
                    daemon.announce(0).await;
                }
            }
        })
        .await;
    }
    check(&mut daemons).await;
    // And back to a full mesh.
    for mut gone in daemons.drain(..7) {
        gone.say(&ToTracker::Leave { swarm: SWARM }).await;
        gone.drain().await;
    }
    for daemon in &mut daemons {
        assert_eq!(daemon.announce(0).await.len(), 4);
    }
}

#[tokio::test]
async fn a_newcomer_is_introduced_to_its_neighbours_and_to_nobody_else() {
    let tracker = start();
    let mut daemons = joined(&tracker, &[EASY; 20]).await;
    let mut newcomer = Daemon::connect(&tracker, EASY).await;
    let neighbours = newcomer.announce(32).await;
    newcomer.drain().await;
    assert!((3..=5).contains(&neighbours.len()), "{neighbours:?}");
    assert_eq!(newcomer.met, neighbours);
    for daemon in &mut daemons {
        daemon.drain().await;
        let met = daemon.met.contains(&newcomer.key);
        assert_eq!(met, neighbours.contains(&daemon.key));
    }
    // Who asks for another member is introduced to that all the same.
    let stranger = daemons.iter().find(|it| !neighbours.contains(&it.key));
    let peer = stranger.unwrap().key;
    newcomer
        .say(&ToTracker::Introduce { swarm: SWARM, peer })
        .await;
    newcomer.drain().await;
    assert!(newcomer.met.contains(&peer));
}

#[tokio::test]
async fn who_is_hard_to_reach_has_a_neighbour_that_it_reaches() {
    let tracker = start();
    // Those who are reached by all come last, when the others have neighbours already. There are as
    // many as are hard to reach, for each may be left with room for a single one.
    let nats = [[EASY; 4].as_slice(), &[HARD; 8], &[OPEN; 8]].concat();
    let mut daemons = joined(&tracker, &nats).await;
    let open: BTreeSet<_> = daemons[12..].iter().map(|it| it.key).collect();
    for daemon in &mut daemons[4..12] {
        let neighbours = daemon.announce(0).await;
        assert!(!neighbours.is_disjoint(&open), "{neighbours:?}");
    }
    check(&mut daemons).await;
}

/// Who is whose neighbour.
type Graph = BTreeMap<PublicKey, BTreeSet<PublicKey>>;

/// Checks that each has a few neighbours, is one of theirs, and heard of each when it became one; and
/// that all are of one piece.
async fn check(daemons: &mut [Daemon]) {
    for daemon in daemons.iter_mut() {
        daemon.drain().await;
    }
    let told: Graph = daemons
        .iter()
        .map(|it| (it.key, it.known.clone()))
        .collect();
    let graph = settled(daemons).await;
    assert!(graph.values().all(|beside| (3..=5).contains(&beside.len())));
    let untold = |(key, beside): (&PublicKey, &BTreeSet<_>)| beside.difference(&told[key]).count();
    // Both of a pair or two that the questions have made.
    let untold: usize = graph.iter().map(untold).sum();
    assert!(untold <= 4, "{untold} neighbours were never announced");
    let mut reached = BTreeSet::from([daemons[0].key]);
    while let Some(next) = graph
        .iter()
        .find(|(key, beside)| !reached.contains(key) && !beside.is_disjoint(&reached))
    {
        reached.insert(*next.0);
    }
    assert_eq!(reached.len(), daemons.len());
    let is_mutual = |(key, beside): (&PublicKey, &BTreeSet<PublicKey>)| {
        beside.iter().all(|other| graph[other].contains(key))
    };
    assert!(graph.iter().all(is_mutual));
}

/// Whom each is told of when it asks.
async fn asked(daemons: &mut [Daemon]) -> Graph {
    let mut graph = Graph::new();
    for daemon in daemons {
        graph.insert(daemon.key, daemon.announce(0).await);
    }
    graph
}

/// What they are told in the end: whoever asks is looked after, and others may lose or gain a neighbour
/// by that, so now and then it takes a few rounds.
async fn settled(daemons: &mut [Daemon]) -> Graph {
    let mut graph = asked(daemons).await;
    for _ in 0..10 {
        let again = asked(daemons).await;
        if again == graph {
            return graph;
        }
        graph = again;
    }
    panic!("neighbours change with every question");
}

/// Leeches that have joined one after the other.
async fn joined(tracker: &Running, nats: &[(NatMapping, NatFiltering)]) -> Vec<Daemon> {
    let mut daemons = Vec::new();
    for nat in nats {
        let mut daemon = Daemon::connect(tracker, *nat).await;
        daemon.announce(0).await;
        daemons.push(daemon);
    }
    daemons
}

struct Running {
    tracker: Tracker,
    _home: tempfile::TempDir,
}

fn start() -> Running {
    let home = tempfile::tempdir().unwrap();
    let config = Config {
        listen: vec![any()],
        stun_listen: vec![any()],
        relay_bits_per_s: None,
        shape: Shape::new(8, 4),
        ..Config::new(home.path().to_owned())
    };
    Running {
        tracker: Tracker::start(config).unwrap(),
        _home: home,
    }
}

/// Speaks the daemon's side of the protocol, and keeps what it is told.
struct Daemon {
    key: PublicKey,
    session: Session,
    /// Members that it should be connected to.
    known: BTreeSet<PublicKey>,
    /// Those it was introduced to.
    met: BTreeSet<PublicKey>,
}

impl Daemon {
    async fn connect(tracker: &Running, (mapping, filtering): (NatMapping, NatFiltering)) -> Self {
        let identity = Identity::generate().unwrap();
        let session = Session::connect(&tracker.tracker, &identity).await;
        let mut daemon = Self {
            key: identity.public_key(),
            session,
            known: BTreeSet::new(),
            met: BTreeSet::new(),
        };
        daemon
            .say(&ToTracker::Situation {
                candidates: Bounded::new(),
                mapping,
                filtering,
                paths: Paths::Any,
            })
            .await;
        daemon
    }

    async fn say(&mut self, message: &ToTracker) {
        self.session.writer.send(message).await.unwrap();
    }

    /// Takes in what is said next, and returns it.
    async fn hear(&mut self) -> FromTracker {
        let said = within(self.session.reader.recv()).await.unwrap().unwrap();
        match &said {
            FromTracker::Joined { member, .. } => drop(self.known.insert(member.peer)),
            FromTracker::Left { peer, .. } => drop(self.known.remove(peer)),
            FromTracker::Rendezvous(rendezvous) => drop(self.met.insert(rendezvous.peer)),
            FromTracker::Peers { sample, .. } => {
                self.known = sample.iter().map(|member| member.peer).collect();
            }
            _ => (),
        }
        said
    }

    /// Announces itself as a leech, and returns who it should be connected to.
    async fn announce(&mut self, introductions: u8) -> BTreeSet<PublicKey> {
        self.say(&ToTracker::Announce {
            swarm: SWARM,
            state: MemberState::Leech,
            introductions,
        })
        .await;
        while !matches!(self.hear().await, FromTracker::Peers { .. }) {}
        self.known.clone()
    }

    /// Takes in all that was said to it: the second answer comes after what waited at the first.
    async fn drain(&mut self) {
        for _ in 0..2 {
            self.say(&ToTracker::Introduce {
                swarm: SWARM,
                peer: STRANGER,
            })
            .await;
            while !matches!(self.hear().await, FromTracker::NoSuchPeer { .. }) {}
        }
    }
}
