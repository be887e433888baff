use proptest::prelude::*;

use super::super::{PublisherKey, Version};
use super::*;
use crate::id::{ContentId, Kind};
use crate::wire::Bounded;

/// A tracker with time, and daemons by number.
struct World {
    now: Instant,
    heads: Heads,
}

impl World {
    fn new() -> World {
        World {
            now: Instant::now(),
            heads: Heads::default(),
        }
    }

    fn say(&mut self, from: u8, request: FollowRequest) -> FollowMail {
        let ip = IpAddr::from([203, 0, 113, from]);
        self.heads.handle(self.now, (peer(from), ip), request)
    }

    /// What becomes of a head.
    fn give(&mut self, from: u8, head: &Head) -> Given {
        let mail = self.say(from, FollowRequest::Give(head.clone()));
        match &mail[0] {
            (to, FollowNews::Given { result, .. }) if *to == peer(from) => *result,
            other => panic!("{other:?}"),
        }
    }

    fn follow(&mut self, from: u8, key: &PublisherKey) -> Option<Head> {
        let publisher = key.id();
        match self.say(from, FollowRequest::Follow { publisher }).pop() {
            Some((to, FollowNews::Newest { head, .. })) if to == peer(from) => head,
            other => panic!("{other:?}"),
        }
    }

    fn pass(&mut self, time: Duration) -> FollowMail {
        self.now += time;
        self.heads.expire(self.now)
    }
}

fn peer(number: u8) -> PublicKey {
    PublicKey([number; 32])
}

fn key(seed: u8) -> PublisherKey {
    PublisherKey::of(&[seed; 32]).unwrap()
}

fn head(key: &PublisherKey, sequence: u64, id: u8) -> Head {
    let version = Version {
        kind: Kind::Tree,
        id: ContentId([id; 32]),
        secret: None,
        signed_unix_s: 0,
    };
    key.sign(sequence, &version)
}

/// Who was told which number.
fn told(mail: &FollowMail) -> Vec<(PublicKey, u64)> {
    let told = mail.iter().filter_map(|(to, news)| match news {
        FollowNews::Newest {
            head: Some(head), ..
        } => Some((*to, head.sequence)),
        _ => None,
    });
    told.collect()
}

#[test]
fn followers_are_told_the_newest_at_once_and_whenever_there_is_a_newer_one() {
    let (mut world, ours) = (World::new(), key(1));
    assert_eq!(world.follow(2, &ours), None);
    let mail = world.say(1, FollowRequest::Give(head(&ours, 1, 1)));
    assert_eq!(told(&mail), [(peer(2), 1)]);
    assert_eq!(world.follow(3, &ours), Some(head(&ours, 1, 1)));
    world.pass(TOLD_EVERY);
    let mail = world.say(1, FollowRequest::Give(head(&ours, 2, 2)));
    assert_eq!(told(&mail), [(peer(2), 2), (peer(3), 2)]);
    world.say(
        2,
        FollowRequest::Unfollow {
            publisher: ours.id(),
        },
    );
    world.pass(TOLD_EVERY);
    let mail = world.say(1, FollowRequest::Give(head(&ours, 3, 3)));
    assert_eq!(told(&mail), [(peer(3), 3)]);
}

#[test]
fn a_head_counts_whoever_gives_it_and_nobody_but_the_publisher_can_make_one() {
    let (mut world, ours) = (World::new(), key(1));
    assert_eq!(world.give(9, &head(&ours, 5, 5)), Given::Kept);
    let forged = Head {
        sequence: 6,
        ..head(&ours, 5, 5)
    };
    assert_eq!(world.give(8, &forged), Given::Invalid);
    let stranger = Head {
        key: ours.public(),
        ..head(&key(2), 6, 6)
    };
    assert_eq!(world.give(8, &stranger), Given::Invalid);
    assert_eq!(world.follow(2, &ours), Some(head(&ours, 5, 5)));
}

#[test]
fn an_older_one_never_takes_the_place_of_a_newer_one() {
    let (mut world, ours) = (World::new(), key(1));
    world.follow(2, &ours);
    assert_eq!(world.give(1, &head(&ours, 7, 7)), Given::Kept);
    world.pass(TOLD_EVERY);
    let mail = world.say(9, FollowRequest::Give(head(&ours, 6, 6)));
    assert!(matches!(
        mail[0].1,
        FollowNews::Given {
            result: Given::Older,
            ..
        }
    ));
    // Who gave it is told better, and nobody else anything.
    assert_eq!(told(&mail), [(peer(9), 7)]);
    assert_eq!(world.follow(3, &ours), Some(head(&ours, 7, 7)));
}

#[test]
fn of_two_with_one_number_the_first_stays_and_it_is_said_that_they_differ() {
    let (mut world, ours) = (World::new(), key(1));
    assert_eq!(world.give(1, &head(&ours, 4, 1)), Given::Kept);
    assert_eq!(world.give(1, &head(&ours, 4, 2)), Given::Differs);
    assert_eq!(world.follow(2, &ours), Some(head(&ours, 4, 1)));
    // Giving the same again is no fault.
    assert_eq!(world.give(3, &head(&ours, 4, 1)), Given::Kept);
}

#[test]
fn what_comes_too_often_is_told_later_and_only_the_newest_of_it() {
    let (mut world, ours) = (World::new(), key(1));
    world.follow(2, &ours);
    let first = world.say(1, FollowRequest::Give(head(&ours, 1, 1)));
    assert_eq!(told(&first), [(peer(2), 1)]);
    for sequence in 2..=9 {
        let mail = world.say(1, FollowRequest::Give(head(&ours, sequence, 1)));
        assert_eq!(told(&mail), []);
    }
    assert_eq!(told(&world.pass(TOLD_EVERY / 2)), []);
    assert_eq!(told(&world.pass(TOLD_EVERY / 2)), [(peer(2), 9)]);
    assert_eq!(told(&world.pass(TOLD_EVERY)), []);
}

#[test]
fn what_nobody_follows_or_gives_is_forgotten_and_what_is_followed_is_not() {
    let (mut world, ours, theirs) = (World::new(), key(1), key(2));
    world.give(1, &head(&ours, 1, 1));
    world.give(1, &head(&theirs, 1, 1));
    world.follow(2, &ours);
    world.pass(LIFETIME);
    assert_eq!(world.heads.len(), 1);
    let now = world.now;
    world.heads.disconnected(now, &peer(2));
    world.pass(LIFETIME - Duration::from_secs(1));
    assert_eq!(world.heads.len(), 1);
    world.pass(Duration::from_secs(1));
    assert!(world.heads.is_empty());
    assert_eq!(world.heads.kept_of.total, 0);
    assert!(world.heads.kept_of.of.is_empty());
}

#[test]
fn one_network_cannot_take_all_the_room() {
    let (mut world, ours) = (World::new(), key(1));
    world.give(1, &head(&ours, 1, 1));
    let network = prefix(IpAddr::from([203, 0, 113, 1]));
    // Signing as many takes too long for a test.
    world.heads.kept_of.of.insert(network, HEADS_PER_NETWORK);
    assert_eq!(world.give(2, &head(&key(2), 1, 1)), Given::TooMany);
    assert_eq!(world.give(2, &head(&ours, 2, 1)), Given::Kept, "known");
    let elsewhere = IpAddr::from([198, 51, 100, 1]);
    let request = FollowRequest::Give(head(&key(2), 1, 1));
    let mail = world.heads.handle(world.now, (peer(9), elsewhere), request);
    assert!(matches!(
        mail[0].1,
        FollowNews::Given {
            result: Given::Kept,
            ..
        }
    ));
    world.heads.kept_of.total = HEADS;
    assert_eq!(world.give(9, &head(&key(3), 1, 1)), Given::TooMany, "full");
}

#[test]
fn one_daemon_follows_so_many_and_its_going_makes_room() {
    let mut world = World::new();
    let follow = |number: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let publisher = PublisherId(id);
        FollowRequest::Follow { publisher }
    };
    for number in 0..FOLLOWS_PER_PEER {
        let mail = world.say(1, follow(number));
        assert!(matches!(mail[0].1, FollowNews::Newest { .. }));
    }
    let mail = world.say(1, follow(FOLLOWS_PER_PEER));
    assert!(matches!(mail[0].1, FollowNews::TooMany { .. }));
    let mail = world.say(1, follow(0));
    assert!(matches!(mail[0].1, FollowNews::Newest { .. }), "it does");
    let now = world.now;
    world.heads.disconnected(now, &peer(1));
    assert_eq!(world.heads.follows_of.total, 0);
    assert!(world.heads.followers.is_empty() && world.heads.peers.is_empty());
    let network = prefix(IpAddr::from([203, 0, 113, 1]));
    world
        .heads
        .follows_of
        .of
        .insert(network, FOLLOWS_PER_NETWORK);
    let mail = world.say(2, follow(0));
    assert!(matches!(mail[0].1, FollowNews::TooMany { .. }), "network");
}

#[test]
fn wrong_signatures_cost_the_tracker_so_much_and_then_one_in_a_while() {
    let (mut world, ours) = (World::new(), key(1));
    let forged = |number: u32| Head {
        sequence: u64::from(number) + 2,
        ..head(&ours, 1, 1)
    };
    for number in 0..LOOKS {
        assert_eq!(world.give(9, &forged(number)), Given::Invalid);
    }
    assert_eq!(world.give(9, &forged(0)), Given::TooMany);
    world.now += LOOK_EVERY;
    assert_eq!(world.give(9, &forged(0)), Given::Invalid);
    assert_eq!(world.give(9, &forged(0)), Given::TooMany);
    // Others are not kept from it.
    assert_eq!(world.give(8, &head(&ours, 1, 1)), Given::Kept);
}

proptest! {
    /// Whatever is said, the newest number never goes back, and the counts are those of what there is.
    #[test]
    fn numbers_only_grow(
        said in prop::collection::vec((0u8..4, 1u8..4, 1u64..6, 0u8..3, 0u8..5), 0..60)
    ) {
        let mut world = World::new();
        let mut newest = BTreeMap::new();
        for (from, of, sequence, id, what) in said {
            let ours = key(of);
            match what {
                0 => drop(world.follow(from, &ours)),
                1 => drop(world.say(from, FollowRequest::Unfollow { publisher: ours.id() })),
                2 => {
                    let now = world.now;
                    world.heads.disconnected(now, &peer(from));
                }
                3 => {
                    let sealed = Bounded::truncated([id; 85]);
                    let forged = Head { sealed, ..head(&ours, sequence, id) };
                    let given = world.give(from, &forged);
                    prop_assert!(matches!(given, Given::Invalid | Given::Older));
                }
                _ => drop(world.give(from, &head(&ours, sequence, id))),
            }
            for (publisher, kept) in &world.heads.kept {
                let before = newest.insert(*publisher, kept.head.clone());
                if let Some(before) = before {
                    let stays = before == kept.head;
                    prop_assert!(stays || before.sequence < kept.head.sequence);
                }
            }
            let follows: usize = world.heads.followers.values().map(BTreeSet::len).sum();
            prop_assert_eq!(world.heads.follows_of.total, follows);
            prop_assert_eq!(world.heads.kept_of.total, world.heads.kept.len());
        }
    }
}
