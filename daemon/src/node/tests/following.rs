//! What a node believes of newer versions, and how much it fetches because of them.

use warren_proto::follow::{FollowLink, Head, PublisherKey, Version};
use warren_proto::id::{ContentId, Kind};
use warren_proto::wire::{FOLLOW_FEATURE, FollowNews, FollowRequest, ToTracker};

use super::super::heads::Then;
use super::*;

/// A followed share and its publisher.
struct Followed {
    scene: Scene,
    key: PublisherKey,
}

impl Followed {
    /// One whose first version is known.
    fn new() -> Followed {
        let key = PublisherKey::of(&[1; 32]).unwrap();
        let mut scene = Scene::new();
        let link = link(&key);
        let mut watched = scene.node.follow(link, Then::Follow(Default::default()));
        let mut followed = Followed { scene, key };
        followed.hear(followed.head(1));
        assert!(watched.try_recv().is_err(), "it is being fetched");
        followed
    }

    fn head(&self, sequence: u64) -> Head {
        head(&self.key, sequence, sequence as u8)
    }

    /// The tracker says that this is the newest.
    fn hear(&mut self, head: Head) {
        let news = FollowNews::Newest {
            publisher: self.key.id(),
            head: Some(head),
        };
        self.scene.node.handle_follow_news(OWN, news);
    }

    /// The newest number that is known, and that which is being fetched.
    fn numbers(&self) -> (u64, u64) {
        let row = &self.scene.node.follows.followed[&self.key.id()].row;
        (row.head.sequence, row.fetching.unwrap().sequence)
    }
}

fn link(key: &PublisherKey) -> FollowLink {
    FollowLink {
        publisher: key.id(),
        read: key.read(),
        tracker: tracker(1),
    }
}

fn tracker(number: u8) -> TrackerAddress {
    let pin = TrackerPin([100 + number; 16]);
    format!("127.0.0.1:9#{pin}").parse().unwrap()
}

fn head(key: &PublisherKey, sequence: u64, id: u8) -> Head {
    let version = Version {
        kind: Kind::File,
        id: ContentId([id; 32]),
        secret: None,
        signed_unix_s: 0,
    };
    key.sign(sequence, &version)
}

#[tokio::test]
async fn only_a_greater_number_of_the_publisher_is_believed() {
    let mut followed = Followed::new();
    followed.hear(followed.head(7));
    assert_eq!(followed.numbers(), (7, 1));
    // An older one, forged ones, another publisher's, another one of the same number.
    followed.hear(followed.head(6));
    let forged = Head {
        sequence: 8,
        ..followed.head(7)
    };
    followed.hear(forged);
    let stranger = PublisherKey::of(&[2; 32]).unwrap();
    followed.hear(head(&stranger, 9, 9));
    followed.hear(head(&followed.key, 7, 99));
    let row = &followed.scene.node.follows.followed[&followed.key.id()].row;
    assert_eq!(row.head, followed.head(7));
}

#[tokio::test]
async fn what_was_seen_is_not_gone_back_on_after_a_restart() {
    let mut followed = Followed::new();
    followed.hear(followed.head(7));
    let depot = followed.scene.node.config.depot.clone();
    let seen = || depot.followed().unwrap().pop().map(|it| it.head.sequence);
    until(|| seen() == Some(7)).await;
    let rows = depot.followed().unwrap();
    followed.scene.node.follows = Default::default();
    followed.scene.node.restore_versions(rows, Vec::new());
    followed.hear(followed.head(6));
    assert_eq!(followed.numbers().0, 7);
}

#[tokio::test]
async fn one_version_is_fetched_at_a_time_and_of_many_newer_ones_the_last_alone() {
    let mut followed = Followed::new();
    for sequence in 2..=50 {
        followed.hear(followed.head(sequence));
        followed.scene.node.watch_followed(Instant::now());
    }
    assert_eq!(followed.numbers(), (50, 1));
    assert_eq!(followed.scene.node.shares.len(), 1);
    let later = Instant::now() + Duration::from_secs(11);
    followed.scene.node.watch_followed(later);
    assert_eq!(followed.numbers(), (50, 50));
    // What there is of the first is kept until it is taken over, and is fetched no longer.
    let shares = &followed.scene.node.shares;
    assert_eq!(shares.len(), 2);
    assert_eq!(shares.values().filter(|share| share.wants()).count(), 1);
    followed.hear(followed.head(51));
    followed.scene.node.watch_followed(later);
    assert_eq!(followed.numbers(), (51, 50));
    followed
        .scene
        .node
        .watch_followed(later + Duration::from_secs(11));
    assert_eq!(
        followed.scene.node.shares.len(),
        2,
        "and the one before that is gone"
    );
}

#[tokio::test]
async fn a_tracker_that_knows_nothing_of_versions_is_said_to_be_too_old() {
    for (features, code) in [(0, "tracker_too_old"), (FOLLOW_FEATURE, "no_version")] {
        let mut scene = Scene::new();
        let pin = tracker(1).pin;
        let way = Way {
            transport: Transport::Udp,
            port: 9,
        };
        let node = &mut scene.node;
        node.handle_tracker_connected(OWN, pin, (None, features), way);
        let key = PublisherKey::of(&[1; 32]).unwrap();
        let mut watched = node.follow(link(&key), Then::Follow(Default::default()));
        node.watch_asked(Instant::now() + Duration::from_secs(11));
        match watched.recv().await.unwrap() {
            Event::Error(error) => assert_eq!(error.code, code),
            other => panic!("{other:?}"),
        }
        let refused = node.why_not_publish(Path::new("/film"));
        assert_eq!(refused.is_some(), features == 0);
    }
}

#[tokio::test]
async fn what_is_followed_without_any_version_is_ended_by_its_publisher() {
    let mut followed = Followed::new();
    let publisher = followed.key.id();
    let node = &mut followed.scene.node;
    let swarm = *node.shares.keys().next().unwrap();
    assert!(node.take_out(swarm).is_some());
    node.watch_followed(Instant::now());
    assert_eq!(node.follows.followed[&publisher].row.fetching, None);
    node.unfollow(&publisher.to_string()).unwrap();
    assert!(node.follows.followed.is_empty());
    let error = node.unfollow(&publisher.to_string()).unwrap_err();
    assert_eq!(error.code, "no_such_share");
}

#[tokio::test]
async fn a_tracker_need_not_tell_what_nobody_waits_for_any_more() {
    let key = PublisherKey::of(&[1; 32]).unwrap();
    let other = PublisherKey::of(&[2; 32]).unwrap();
    let unreadable = FollowLink {
        read: other.read(),
        ..link(&key)
    };
    for is_answered in [false, true] {
        let mut scene = Scene::new();
        let node = &mut scene.node;
        let way = Way {
            transport: Transport::Udp,
            port: 9,
        };
        node.handle_tracker_connected(OWN, tracker(1).pin, (None, FOLLOW_FEATURE), way);
        let mut said = node.trackers.get_mut(&OWN).unwrap().handle.overhear();
        let _watched = node.follow(unreadable.clone(), Then::Follow(Default::default()));
        let _another = node.follow(unreadable.clone(), Then::Follow(Default::default()));
        match is_answered {
            true => {
                let head = Some(head(&key, 1, 1));
                let publisher = key.id();
                node.handle_follow_news(OWN, FollowNews::Newest { publisher, head });
            }
            false => node.watch_asked(Instant::now() + Duration::from_secs(11)),
        }
        let mut last = None;
        while let Ok(word) = said.try_recv() {
            last = Some(word);
        }
        let publisher = key.id();
        let unfollow = ToTracker::Follow(FollowRequest::Unfollow { publisher });
        assert_eq!(last, Some(unfollow), "answered: {is_answered}");
    }
}

#[tokio::test]
async fn what_was_begun_before_downloads_went_elsewhere_is_dropped_all_the_same() {
    let mut followed = Followed::new();
    let node = &mut followed.scene.node;
    node.config.downloads = node.config.downloads.with_file_name("elsewhere");
    node.unfollow(&followed.key.id().to_string()).unwrap();
    assert!(node.shares.is_empty());
}
