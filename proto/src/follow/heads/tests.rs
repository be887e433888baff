use proptest::prelude::*;

use super::looks::{LOOK_EVERY, LOOKS, NETWORKS};
use super::*;
use crate::follow::{PublisherKey, Version};
use crate::id::{ContentId, Kind};
use crate::limits::{HEADS, HEADS_PER_NETWORK};
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

    /// One with so much room for heads.
    fn with_room(total: usize, each: usize) -> World {
        let mut world = World::new();
        world.heads.kept.bound = Bound { total, each };
        world
    }

    fn say(&mut self, from: u8, request: FollowRequest) -> FollowMail {
        let peer = (peer(from), ip(from));
        match self.heads.handle(self.now, peer, request) {
            Heard::Mail(mail) => mail,
            Heard::Claim(claim) => self.verify(claim),
        }
    }

    fn verify(&mut self, claim: Claim) -> FollowMail {
        self.heads.handle_verified(self.now, claim.verify())
    }

    /// Gives a head whose signature is not looked at yet.
    fn claim(&mut self, from: u8, head: &Head) -> Claim {
        let request = FollowRequest::Give(head.clone());
        let peer = (peer(from), ip(from));
        match self.heads.handle(self.now, peer, request) {
            Heard::Claim(claim) => claim,
            Heard::Mail(mail) => panic!("{mail:?}"),
        }
    }

    /// What becomes of a head.
    fn give(&mut self, from: u8, head: &Head) -> Given {
        let mail = self.say(from, FollowRequest::Give(head.clone()));
        result(from, &mail)
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

    fn disconnect(&mut self, number: u8) {
        self.heads.disconnected(self.now, &peer(number));
    }

    fn keeps(&self, key: &PublisherKey) -> bool {
        self.heads.kept.head(&key.id()).is_some()
    }

    /// Uses up what signatures of its network are looked at.
    fn use_up_looks(&mut self, from: u8) {
        for number in 0..LOOKS {
            assert_eq!(self.give(from, &forged(number)), Given::Invalid);
        }
    }
}

/// Daemons below 100 are in one network, each other one in its own.
fn ip(number: u8) -> IpAddr {
    match number {
        0..100 => IpAddr::from([203, 0, 113, number]),
        _ => IpAddr::from([198, 51, number, 1]),
    }
}

/// What became of a head that this daemon has given.
fn result(from: u8, mail: &FollowMail) -> Given {
    match &mail[0] {
        (to, FollowNews::Given { result, .. }) if *to == peer(from) => *result,
        other => panic!("{other:?}"),
    }
}

/// One that was signed under another number.
fn forged(number: u32) -> Head {
    Head {
        sequence: u64::from(number) + 2,
        ..head(&key(200), 1, 1)
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
    world.disconnect(2);
    world.pass(LIFETIME - Duration::from_secs(1));
    assert_eq!(world.heads.len(), 1);
    world.pass(Duration::from_secs(1));
    assert!(world.heads.is_empty());
    assert!(world.heads.kept.networks.is_empty());
    assert_eq!(world.heads.kept.idle.len(), 0);
}

#[test]
fn a_head_that_is_given_again_lasts_as_long_again_and_an_older_one_changes_nothing() {
    let (mut world, ours, theirs) = (World::new(), key(1), key(2));
    world.give(1, &head(&ours, 2, 1));
    world.give(1, &head(&theirs, 2, 1));
    world.pass(LIFETIME / 2);
    assert_eq!(world.give(1, &head(&ours, 2, 1)), Given::Kept);
    assert_eq!(world.give(1, &head(&theirs, 1, 1)), Given::Older);
    world.pass(LIFETIME / 2);
    assert!(world.keeps(&ours) && !world.keeps(&theirs));
}

#[test]
fn a_network_that_has_its_part_of_the_room_loses_its_own_oldest() {
    let mut world = World::with_room(100, 3);
    world.give(100, &head(&key(9), 1, 1));
    for number in 1..=3 {
        world.now += Duration::from_secs(1);
        assert_eq!(world.give(number, &head(&key(number), 1, 1)), Given::Kept);
    }
    world.now += Duration::from_secs(1);
    assert_eq!(world.give(1, &head(&key(1), 1, 1)), Given::Kept, "again");
    assert_eq!(world.give(4, &head(&key(4), 1, 1)), Given::Kept);
    let kept = [1, 2, 3, 4, 9].map(|number| world.keeps(&key(number)));
    assert_eq!(kept, [true, false, true, true, true]);
    // A newer one of a publisher that is known takes no room.
    assert_eq!(world.give(4, &head(&key(3), 2, 1)), Given::Kept);
    assert_eq!(world.heads.len(), 4);
}

#[test]
fn where_all_is_full_the_network_that_has_most_loses_its_oldest() {
    let mut world = World::with_room(4, 3);
    for (from, number) in [(100, 1), (1, 2), (2, 3), (3, 4)] {
        world.now += Duration::from_secs(1);
        assert_eq!(world.give(from, &head(&key(number), 1, 1)), Given::Kept);
    }
    assert_eq!(world.give(101, &head(&key(5), 1, 1)), Given::Kept);
    let kept = [1, 2, 3, 4, 5].map(|number| world.keeps(&key(number)));
    assert_eq!(kept, [true, false, true, true, true]);
}

#[test]
fn what_is_followed_stays_and_where_all_is_there_is_no_room() {
    let mut world = World::with_room(4, 2);
    for number in [1, 2] {
        world.follow(100, &key(number));
        assert_eq!(world.give(number, &head(&key(number), 1, 1)), Given::Kept);
    }
    assert_eq!(world.give(3, &head(&key(3), 1, 1)), Given::TooMany);
    assert_eq!(world.give(3, &head(&key(2), 2, 1)), Given::Kept, "known");
    for number in [101, 102] {
        world.give(number, &head(&key(number), 1, 1));
        world.follow(100, &key(number));
    }
    assert_eq!(world.give(103, &head(&key(3), 1, 1)), Given::TooMany);
    world.say(
        100,
        FollowRequest::Unfollow {
            publisher: key(1).id(),
        },
    );
    assert_eq!(world.give(103, &head(&key(3), 1, 1)), Given::Kept);
    assert!(!world.keeps(&key(1)) && world.keeps(&key(2)));
}

#[test]
fn what_is_not_signed_pushes_nothing_out() {
    let mut world = World::with_room(1, 1);
    world.give(1, &head(&key(1), 1, 1));
    assert_eq!(world.give(1, &forged(0)), Given::Invalid);
    assert!(world.keeps(&key(1)));
}

#[test]
fn there_is_room_for_as_many_as_the_protocol_says() {
    let heads = Heads::default();
    let Bound { total, each } = heads.kept.bound;
    assert_eq!((total, each), (HEADS, HEADS_PER_NETWORK));
    let Bound { total, each } = heads.follows_bound;
    assert_eq!((total, each), (FOLLOWS, FOLLOWS_PER_NETWORK));
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
    world.disconnect(1);
    assert!(world.heads.follows_of.is_empty());
    assert!(world.heads.followers.is_empty() && world.heads.peers.is_empty());
}

#[test]
fn a_network_follows_so_many_and_so_do_all_together() {
    let mut world = World::new();
    world.heads.follows_bound = Bound { total: 3, each: 2 };
    let mut is_refused = |from: u8, of: u8| {
        let publisher = key(of).id();
        let mail = world.say(from, FollowRequest::Follow { publisher });
        matches!(mail[0].1, FollowNews::TooMany { .. })
    };
    assert!(!is_refused(1, 1) && !is_refused(2, 1));
    assert!(is_refused(3, 1), "a third one of that network");
    assert!(!is_refused(100, 1));
    assert!(is_refused(101, 1), "a fourth one");
    assert!(!is_refused(100, 1), "it does");
    world.disconnect(1);
    assert!(world.follow(101, &key(1)).is_none());
}

#[test]
fn wrong_signatures_cost_the_tracker_so_much_and_then_one_in_a_while() {
    let (mut world, ours) = (World::new(), key(1));
    world.use_up_looks(9);
    assert_eq!(world.give(9, &forged(0)), Given::TooMany);
    world.now += LOOK_EVERY;
    assert_eq!(world.give(9, &forged(0)), Given::Invalid);
    assert_eq!(world.give(9, &forged(0)), Given::TooMany);
    // Others are not kept from it.
    assert_eq!(world.give(100, &head(&ours, 1, 1)), Given::Kept);
    // What is known costs nothing.
    assert_eq!(world.give(9, &head(&ours, 1, 1)), Given::Kept);
}

#[test]
fn connecting_again_or_from_a_neighbour_buys_no_looks() {
    let mut world = World::new();
    world.use_up_looks(9);
    world.disconnect(9);
    assert_eq!(world.give(9, &forged(0)), Given::TooMany);
    assert_eq!(world.give(8, &forged(0)), Given::TooMany);
}

#[test]
fn no_part_of_the_time_that_brings_a_look_is_lost() {
    let mut world = World::new();
    world.use_up_looks(9);
    let mut given = Vec::new();
    for _ in 0..2 {
        world.now += LOOK_EVERY * 3 / 2;
        given.extend([0, 0].map(|_| world.give(9, &forged(0))));
    }
    let looked_at = given.iter().filter(|it| **it == Given::Invalid);
    assert_eq!(looked_at.count(), 3, "{given:?}");
}

#[test]
fn networks_are_remembered_until_they_have_all_looks_again_and_only_so_many() {
    let (mut looks, start) = (Looks::default(), Instant::now());
    let network = |number: u32| IpAddr::from(number.to_be_bytes());
    for number in 0..u32::try_from(NETWORKS).unwrap() {
        assert!(looks.take(start, network(number)));
    }
    assert!(!looks.take(start, network(u32::MAX)));
    assert!(looks.take(start, network(0)), "a known one");
    looks.expire(start + LOOK_EVERY);
    assert!(looks.take(start + LOOK_EVERY, network(u32::MAX)));
    assert_eq!(looks.0.len(), 2);
    looks.expire(start + LOOK_EVERY * 2);
    assert!(looks.0.is_empty());
}

#[test]
fn what_others_have_given_while_a_signature_was_looked_at_counts() {
    let (mut world, ours) = (World::new(), key(1));
    let [same, other] = [5, 6].map(|id| world.claim(1, &head(&ours, 5, id)));
    let late = [4, 6].map(|sequence| world.claim(1, &head(&ours, sequence, 4)));
    assert_eq!(world.give(9, &head(&ours, 5, 5)), Given::Kept);
    assert_eq!(result(1, &world.verify(same)), Given::Kept);
    let mail = world.verify(other);
    assert_eq!(
        (result(1, &mail), told(&mail)),
        (Given::Differs, vec![(peer(1), 5)])
    );
    let results = late.map(|claim| result(1, &world.verify(claim)));
    assert_eq!(results, [Given::Older, Given::Kept]);
    assert_eq!(world.follow(3, &ours), Some(head(&ours, 6, 4)));
}

#[test]
fn a_head_is_kept_whose_giver_has_gone_meanwhile_and_nothing_of_that_one() {
    let (mut world, ours) = (World::new(), key(1));
    let claim = world.claim(1, &head(&ours, 1, 1));
    world.disconnect(1);
    world.verify(claim);
    assert!(world.keeps(&ours) && world.heads.peers.is_empty());
}

proptest! {
    /// Whatever is said, the newest number never goes back, and the counts are those of what there is.
    #[test]
    fn numbers_only_grow(
        said in prop::collection::vec((0usize..4, 1u8..6, 1u64..6, 0u8..3, 0u8..8), 0..60)
    ) {
        let mut world = World::with_room(3, 2);
        let mut newest: BTreeMap<PublisherId, Head> = BTreeMap::new();
        for (from, of, sequence, id, what) in said {
            let (from, ours) = ([1, 2, 100, 101][from], key(of));
            world.now += Duration::from_secs(1);
            match what {
                0 => drop(world.follow(from, &ours)),
                1 => drop(world.say(from, FollowRequest::Unfollow { publisher: ours.id() })),
                2 => world.disconnect(from),
                3 => {
                    let sealed = Bounded::truncated([id; 85]);
                    let forged = Head { sealed, ..head(&ours, sequence, id) };
                    let given = world.give(from, &forged);
                    prop_assert!(matches!(given, Given::Invalid | Given::Older));
                }
                4 => drop(world.pass(LIFETIME / 4)),
                _ => drop(world.give(from, &head(&ours, sequence, id))),
            }
            let heads = &world.heads;
            newest.retain(|publisher, _| heads.kept.heads.contains_key(publisher));
            for (publisher, kept) in &heads.kept.heads {
                let before = newest.insert(*publisher, Head::clone(&kept.head));
                if let Some(before) = before {
                    let stays = before == *kept.head;
                    prop_assert!(stays || before.sequence < kept.head.sequence);
                }
            }
            let follows: usize = heads.followers.values().map(BTreeSet::len).sum();
            prop_assert_eq!(heads.follows_of.total(), follows);
            prop_assert!(heads.len() <= 3);
            prop_assert_eq!(heads.kept.networks.total(), heads.len());
            let is_idle = |publisher: &&PublisherId| !heads.followers.contains_key(*publisher);
            let idle = heads.kept.heads.keys().filter(is_idle).count();
            prop_assert_eq!(heads.kept.idle.len(), idle);
        }
    }
}
