//! A tracker and fake daemons over real sockets: announces, news, introductions, departures.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};

use warren_net::Identity;
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::swarm::Shape;
use warren_proto::wire::{
    Bounded, FromTracker, Member, MemberState, NatFiltering, NatMapping, Paths, Rendezvous,
    Technique, ToTracker,
};
use warren_tracker::{Config, StartError, Tracker};

mod common;

use common::{Session, any, within};

const SWARM: SwarmId = SwarmId([7; 32]);

/// Not in the swarm; whoever asks for it has an answer, and all before that was dealt with.
const STRANGER: PublicKey = PublicKey([8; 32]);

/// Of a NAT that maps by destination.
const HARD: NatMapping = NatMapping::Sequential { step: 1 };

#[tokio::test]
async fn hello_and_welcome_come_first() {
    let tracker = start(Some("tracker.example.org:59000"));
    let daemon = Daemon::connect(&tracker).await;
    match daemon.session.welcome {
        FromTracker::Welcome {
            observed,
            ref public,
            alternate,
            announce_interval_s,
            ..
        } => {
            assert_eq!(alternate, None);
            assert_eq!(observed.port(), daemon.session.endpoint.local_addr().port());
            assert_eq!(public.as_deref(), Some("tracker.example.org:59000"));
            assert!(announce_interval_s > 0);
        }
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_newcomer_gets_a_sample_and_the_others_hear_of_it() {
    let tracker = start(None);
    let mut seed = Daemon::connect(&tracker).await;
    assert_eq!(seed.announce(MemberState::Seed, 0).await, (1, 0, vec![]));
    let mut leech = Daemon::connect(&tracker).await;
    let sample = vec![Member {
        peer: seed.key,
        state: MemberState::Seed,
    }];
    assert_eq!(leech.announce(MemberState::Leech, 0).await, (1, 1, sample));
    let member = Member {
        peer: leech.key,
        state: MemberState::Leech,
    };
    assert_eq!(
        seed.next().await,
        FromTracker::Joined {
            swarm: SWARM,
            member
        }
    );
}

#[tokio::test]
async fn no_echo_makes_a_tracker_send_to_its_own_machine() {
    let tracker = start(None);
    let mut daemon = Daemon::connect(&tracker).await;
    let victim = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    victim.set_nonblocking(true).unwrap();
    let port = victim.local_addr().unwrap().port();
    let token = [7; 12];
    daemon.say(&ToTracker::Echo { port, token }).await;
    // The answer shows that the echo before it was dealt with; a probe would have been there first.
    daemon.announce(MemberState::Seed, 0).await;
    let mut bytes = [0; 64];
    let received = victim.recv(&mut bytes);
    assert_eq!(received.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn an_announce_can_ask_for_introductions() {
    let tracker = start(None);
    let mut first = Daemon::connect(&tracker).await;
    first.announce(MemberState::Seed, 0).await;
    let mut second = Daemon::connect(&tracker).await;
    second.announce(MemberState::Leech, 8).await;
    let for_second = second.rendezvous().await;
    let for_first = first.rendezvous().await;
    assert_eq!((for_first.peer, for_second.peer), (second.key, first.key));
    assert_eq!(
        (for_first.id, for_first.secret),
        (for_second.id, for_second.secret)
    );
    assert_eq!(for_first.swarm, SWARM);
    // Everybody is on loopback, the tracker too, so that is where they may be sent.
    let at = |rendezvous: &Rendezvous| rendezvous.candidates[0].address;
    assert_eq!(
        at(&for_first).port(),
        second.session.endpoint.local_addr().port()
    );
    assert_eq!(
        at(&for_second).port(),
        first.session.endpoint.local_addr().port()
    );
}

#[tokio::test]
async fn a_member_can_be_asked_for_by_key_and_a_stranger_cannot() {
    let tracker = start(None);
    let mut first = Daemon::connect(&tracker).await;
    first.announce(MemberState::Leech, 0).await;
    let mut second = Daemon::connect(&tracker).await;
    let stranger = ToTracker::Introduce {
        swarm: SWARM,
        peer: first.key,
    };
    second.say(&stranger).await;
    let refused = FromTracker::NoSuchPeer {
        swarm: SWARM,
        peer: first.key,
    };
    assert_eq!(second.next().await, refused, "not a member itself");
    second.announce(MemberState::Leech, 0).await;
    second.say(&stranger).await;
    assert_eq!(second.rendezvous().await.peer, first.key);
    assert_eq!(first.rendezvous().await.peer, second.key);
    second
        .say(&ToTracker::Introduce {
            swarm: SWARM,
            peer: PublicKey([3; 32]),
        })
        .await;
    let unknown = FromTracker::NoSuchPeer {
        swarm: SWARM,
        peer: PublicKey([3; 32]),
    };
    assert_eq!(second.next().await, unknown);
}

#[tokio::test]
async fn who_disconnects_has_left() {
    let tracker = start(None);
    let mut stays = Daemon::connect(&tracker).await;
    stays.announce(MemberState::Leech, 0).await;
    let mut goes = Daemon::connect(&tracker).await;
    goes.announce(MemberState::Leech, 0).await;
    let gone = goes.key;
    goes.session.connection.close(0, "");
    assert!(matches!(stays.next().await, FromTracker::Joined { .. }));
    assert_eq!(
        stays.next().await,
        FromTracker::Left {
            swarm: SWARM,
            peer: gone
        }
    );
    assert_eq!(stays.announce(MemberState::Leech, 0).await, (0, 1, vec![]));
}

#[tokio::test]
async fn who_says_leave_has_left_and_a_new_state_is_news() {
    let tracker = start(None);
    let mut stays = Daemon::connect(&tracker).await;
    stays.announce(MemberState::Leech, 0).await;
    let mut goes = Daemon::connect(&tracker).await;
    goes.announce(MemberState::Leech, 0).await;
    goes.announce(MemberState::Seed, 0).await;
    goes.say(&ToTracker::Leave { swarm: SWARM }).await;
    let joined = |state| FromTracker::Joined {
        swarm: SWARM,
        member: Member {
            peer: goes.key,
            state,
        },
    };
    assert_eq!(stays.next().await, joined(MemberState::Leech));
    assert_eq!(stays.next().await, joined(MemberState::Seed));
    assert_eq!(
        stays.next().await,
        FromTracker::Left {
            swarm: SWARM,
            peer: goes.key
        }
    );
}

#[tokio::test]
async fn a_second_connection_of_a_daemon_replaces_the_first_and_is_a_newcomer() {
    let tracker = start(None);
    let mut other = Daemon::connect(&tracker).await;
    other.announce(MemberState::Leech, 0).await;
    let identity = Identity::generate().unwrap();
    let mut first = Daemon::connect_as(&tracker, &identity).await;
    first.announce(MemberState::Leech, 0).await;
    let mut second = Daemon::connect_as(&tracker, &identity).await;
    assert!(matches!(
        first.session.connection.closed().await,
        quinn::ConnectionError::ApplicationClosed(close) if close.error_code == 3u32.into()
    ));
    let left = FromTracker::Left {
        swarm: SWARM,
        peer: second.key,
    };
    let joined = FromTracker::Joined {
        swarm: SWARM,
        member: Member {
            peer: second.key,
            state: MemberState::Leech,
        },
    };
    assert_eq!(other.next().await, joined);
    assert_eq!(other.next().await, left, "it has not announced since");
    let (_, leeches, sample) = second.announce(MemberState::Leech, 0).await;
    assert_eq!((leeches, sample.len()), (2, 1));
    assert_eq!(other.next().await, joined);
    second.say(&ToTracker::Leave { swarm: SWARM }).await;
    assert_eq!(
        other.next().await,
        left,
        "the end of the first connection was no departure"
    );
}

#[tokio::test]
async fn who_came_back_has_left_before_it_joins() {
    let tracker = start(None);
    let mut other = Daemon::connect(&tracker).await;
    other.announce(MemberState::Seed, 0).await;
    let identity = Identity::generate().unwrap();
    let mut sessions = Vec::new();
    for _ in 0..20 {
        let mut back = Daemon::connect_as(&tracker, &identity).await;
        back.announce(MemberState::Leech, 0).await;
        sessions.push(back);
    }
    for round in 0..20 {
        if round > 0 {
            let left = other.next().await;
            assert!(matches!(left, FromTracker::Left { .. }), "{left:?}");
        }
        let joined = other.next().await;
        assert!(matches!(joined, FromTracker::Joined { .. }), "{joined:?}");
    }
    assert_eq!(other.announce(MemberState::Seed, 0).await.1, 1);
    assert_eq!(other.news.pop_front(), None);
}

#[tokio::test]
async fn who_breaks_the_protocol_is_disconnected_and_the_others_are_not() {
    let tracker = start(None);
    let mut well_behaved = Daemon::connect(&tracker).await;
    let mut broken = Daemon::connect(&tracker).await;
    let garbage = [0xff; 64];
    broken
        .session
        .writer
        .stream()
        .write_all(&garbage)
        .await
        .unwrap();
    assert!(matches!(
        broken.session.connection.closed().await,
        quinn::ConnectionError::ApplicationClosed(close) if close.error_code == 1u32.into()
    ));
    assert_eq!(
        well_behaved.announce(MemberState::Leech, 0).await,
        (0, 1, vec![])
    );
}

#[tokio::test]
async fn the_key_outlives_a_restart_and_a_shutdown_is_told() {
    let running = start(None);
    let daemon = Daemon::connect(&running).await;
    let Running {
        tracker,
        _home: home,
    } = running;
    let key = tracker.key();
    within(tracker.shutdown()).await;
    assert!(matches!(
        within(daemon.session.connection.closed()).await,
        quinn::ConnectionError::ApplicationClosed(close) if close.error_code == 0u32.into()
    ));
    let again = Tracker::start(config(home.path(), None)).unwrap();
    assert_eq!(again.key(), key);
}

#[tokio::test]
async fn a_second_address_is_told_to_those_of_its_family() {
    for (second, is_told) in [("127.0.0.2", true), ("::1", false)] {
        let home = tempfile::tempdir().unwrap();
        let config = Config {
            alt_addresses: vec![second.parse().unwrap()],
            ..config(home.path(), None)
        };
        let tracker = match Tracker::start(config) {
            Ok(tracker) => tracker,
            Err(_) if UdpSocket::bind("[::1]:0").is_err() => continue,
            Err(error) => panic!("{error}"),
        };
        let expected = tracker.alt_addrs().first().copied().filter(|_| is_told);
        let running = Running {
            tracker,
            _home: home,
        };
        let daemon = Daemon::connect(&running).await;
        match daemon.session.welcome {
            FromTracker::Welcome { alternate, .. } => assert_eq!(alternate, expected, "{second}"),
            ref other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_taken_port_says_what_to_type() {
    let running = start(None);
    let home = tempfile::tempdir().unwrap();
    let taken = Config {
        listen: running.tracker.local_addrs(),
        ..config(home.path(), None)
    };
    let error = Tracker::start(taken).unwrap_err();
    let ip = running.tracker.local_addrs()[0].ip();
    let ip = SocketAddr::new(ip, 59010).to_string();
    let hint = error.hint().unwrap();
    assert!(hint.contains(&format!("--listen {ip} --stun")), "{hint}");
    let public = Config {
        public: Some("no port".to_owned()),
        ..config(home.path(), None)
    };
    assert!(matches!(
        Tracker::start(public),
        Err(StartError::Public { .. })
    ));
}

struct Running {
    tracker: Tracker,
    _home: tempfile::TempDir,
}

#[tokio::test]
async fn a_trickle_goes_to_the_other_peer_with_the_observed_address_and_nowhere_else() {
    let tracker = start(None);
    let [mut seed, mut leech, mut third] = three(&tracker).await;
    let id = meet(&mut seed, &mut leech).await;
    let said = |id, port| ToTracker::Trickle {
        id,
        port,
        mapping: HARD,
    };
    let heard = |port| FromTracker::Trickled {
        id,
        address: SocketAddr::new([127, 0, 0, 1].into(), port),
        mapping: HARD,
    };
    // Who is no part of the rendezvous is not passed on, nor is what names another, or a service.
    third.say(&said(id, 40_000)).await;
    third
        .say(&ToTracker::Introduce {
            swarm: SWARM,
            peer: STRANGER,
        })
        .await;
    third.next_but_members().await;
    leech.say(&said([9; 10], 40_001)).await;
    leech.say(&said(id, 1_023)).await;
    for port in 40_002..40_010 {
        leech.say(&said(id, port)).await;
    }
    for port in 40_002..40_010 {
        assert_eq!(seed.next_but_members().await, heard(port));
    }
    // Eight are enough. What the other side says is counted apart.
    leech.say(&said(id, 40_010)).await;
    leech
        .say(&ToTracker::Introduce {
            swarm: SWARM,
            peer: STRANGER,
        })
        .await;
    leech.next_but_members().await;
    seed.say(&said(id, 1_024)).await;
    assert_eq!(leech.next_but_members().await, heard(1_024));
    for daemon in [&mut seed, &mut third] {
        // The second answer comes after all that waited at the first.
        for _ in 0..2 {
            daemon
                .say(&ToTracker::Introduce {
                    swarm: SWARM,
                    peer: STRANGER,
                })
                .await;
            let next = daemon.next_but_members().await;
            assert!(matches!(next, FromTracker::NoSuchPeer { .. }), "{next:?}");
        }
    }
}

#[tokio::test]
async fn what_worked_between_two_networks_is_advised_before_the_next_rendezvous_there() {
    let tracker = start(None);
    let [mut seed, mut leech, mut third] = three(&tracker).await;
    let id = meet(&mut seed, &mut leech).await;
    leech
        .say(&ToTracker::Outcome {
            id,
            technique: Technique::Birthday,
            success: true,
        })
        .await;
    // A second word of the same peer counts for nothing.
    for _ in 0..3 {
        let technique = Technique::Prediction;
        leech
            .say(&ToTracker::Outcome {
                id,
                technique,
                success: true,
            })
            .await;
    }
    leech
        .say(&ToTracker::Introduce {
            swarm: SWARM,
            peer: STRANGER,
        })
        .await;
    leech.next_but_members().await;
    third
        .say(&ToTracker::Introduce {
            swarm: SWARM,
            peer: leech.key,
        })
        .await;
    for daemon in [&mut third, &mut leech] {
        let FromTracker::Advice { id, techniques } = daemon.next_but_members().await else {
            panic!("no advice");
        };
        let expected = [Technique::Birthday, Technique::Prediction];
        assert_eq!(techniques.to_vec(), expected);
        assert_eq!(daemon.rendezvous().await.id, id);
    }
}

fn start(public: Option<&str>) -> Running {
    let home = tempfile::tempdir().unwrap();
    let tracker = Tracker::start(config(home.path(), public)).unwrap();
    Running {
        tracker,
        _home: home,
    }
}

fn config(home: &std::path::Path, public: Option<&str>) -> Config {
    Config {
        listen: vec![any()],
        tcp_listen: Vec::new(),
        stun_listen: vec![any()],
        alt_addresses: vec![],
        also_at: vec![],
        public: public.map(str::to_owned),
        relay_bits_per_s: None,
        shape: Shape::default(),
        home: home.to_owned(),
    }
}

/// A seed and two leeches; the leeches' NATs hand out ports in sequence or keep one.
async fn three(tracker: &Running) -> [Daemon; 3] {
    let mut daemons = [
        Daemon::connect(tracker).await,
        Daemon::connect(tracker).await,
        Daemon::connect(tracker).await,
    ];
    let easy = NatMapping::EndpointIndependent;
    for (daemon, mapping) in daemons.iter_mut().zip([easy, HARD, easy]) {
        daemon
            .say(&ToTracker::Situation {
                candidates: Bounded::new(),
                mapping,
                filtering: NatFiltering::PortDependent,
                paths: Paths::Any,
            })
            .await;
        daemon.announce(MemberState::Leech, 0).await;
    }
    daemons
}

/// Introduces two, and returns what their rendezvous is called.
async fn meet(first: &mut Daemon, second: &mut Daemon) -> [u8; 10] {
    let peer = first.key;
    second
        .say(&ToTracker::Introduce { swarm: SWARM, peer })
        .await;
    let id = second.rendezvous().await.id;
    assert_eq!(first.rendezvous().await.id, id);
    id
}

/// Speaks the daemon's side of the protocol, and nothing else.
struct Daemon {
    key: PublicKey,
    session: Session,
    /// News that came while something else was waited for.
    news: VecDeque<FromTracker>,
}

impl Daemon {
    async fn connect(tracker: &Running) -> Self {
        Self::connect_as(tracker, &Identity::generate().unwrap()).await
    }

    async fn connect_as(tracker: &Running, identity: &Identity) -> Self {
        Self {
            key: identity.public_key(),
            session: Session::connect(&tracker.tracker, identity).await,
            news: VecDeque::new(),
        }
    }

    async fn say(&mut self, message: &ToTracker) {
        self.session.writer.send(message).await.unwrap();
    }

    async fn next(&mut self) -> FromTracker {
        match self.news.pop_front() {
            Some(news) => news,
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> FromTracker {
        within(self.session.reader.recv()).await.unwrap().unwrap()
    }

    /// Announces and returns seeds, leeches and the sample.
    async fn announce(&mut self, state: MemberState, introductions: u8) -> (u32, u32, Vec<Member>) {
        self.say(&ToTracker::Announce {
            swarm: SWARM,
            state,
            introductions,
        })
        .await;
        loop {
            match self.receive().await {
                FromTracker::Peers {
                    swarm,
                    seeds,
                    leeches,
                    sample,
                } => {
                    assert_eq!(swarm, SWARM);
                    return (seeds, leeches, sample.to_vec());
                }
                news => self.news.push_back(news),
            }
        }
    }

    /// The next thing that is not about who is in the swarm.
    async fn next_but_members(&mut self) -> FromTracker {
        loop {
            match self.next().await {
                FromTracker::Joined { .. } | FromTracker::Left { .. } => (),
                other => return other,
            }
        }
    }

    async fn rendezvous(&mut self) -> Rendezvous {
        loop {
            if let FromTracker::Rendezvous(rendezvous) = self.next().await {
                return rendezvous;
            }
        }
    }
}
