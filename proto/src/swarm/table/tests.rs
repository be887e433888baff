//! The table against a plain list, and what members hear of each other.

use proptest::prelude::*;

use super::*;
use crate::swarm::Class;
use MemberState::{Leech, Seed};

const SWARM: SwarmId = SwarmId([7; 32]);
const TTL: Duration = Duration::from_secs(60);

#[test]
fn only_a_first_announce_and_one_that_changes_something_are_news() {
    let (mut table, now) = (table(), Instant::now());
    table.announce(now, SWARM, at(peer(0)), Leech);
    let joined = |state| {
        let member = Member {
            peer: peer(1),
            state,
        };
        (
            peer(0),
            FromTracker::Joined {
                swarm: SWARM,
                member,
            },
        )
    };
    let first = table.announce(now, SWARM, at(peer(1)), Leech);
    assert_eq!((first.refused, first.news), (false, vec![joined(Leech)]));
    let again = table.announce(now, SWARM, at(peer(1)), Leech);
    assert_eq!(again.news, []);
    let done = table.announce(now, SWARM, at(peer(1)), Seed);
    assert_eq!(done.news, [joined(Seed)]);
    assert_eq!((done.seeds, done.leeches), (1, 1));
}

#[test]
fn a_membership_ends_one_ttl_after_the_last_announce() {
    let (mut table, start) = (table(), Instant::now());
    table.announce(start, SWARM, at(peer(1)), Leech);
    table.announce(start + TTL / 2, SWARM, at(peer(1)), Leech);
    assert_eq!(table.deadline(), Some(start + TTL / 2 + TTL));
    table.expire(start + TTL);
    assert!(table.contains(SWARM, peer(1)));
    table.expire(start + TTL / 2 + TTL);
    assert!(!table.contains(SWARM, peer(1)));
    assert_eq!((table.deadline(), table.swarm_count()), (None, 0));
}

#[test]
fn seeds_are_never_shown_to_seeds() {
    let (mut table, now) = (table(), Instant::now());
    for n in 0..20 {
        table.announce(
            now,
            SWARM,
            at(peer(n)),
            if n % 2 == 0 { Seed } else { Leech },
        );
    }
    let sample = table.sample(SWARM, &peer(0), 50);
    assert_eq!(sample.len(), 10);
    assert!(sample.iter().all(|member| member.state == Leech));
    assert_eq!(table.sample(SWARM, &peer(1), 50).len(), 19);
    assert_eq!(table.leave(SWARM, peer(0)).len(), 10);
    assert_eq!(table.leave(SWARM, peer(1)).len(), 18);
}

#[test]
fn a_sample_is_capped_whatever_is_asked_for() {
    let (mut table, now) = (table(), Instant::now());
    for n in 0..64 {
        table.announce(now, SWARM, at(peer(n)), if n == 63 { Seed } else { Leech });
    }
    assert_eq!(
        table.sample(SWARM, &peer(0), usize::MAX).len(),
        PEERS_PER_ANSWER
    );
    assert_eq!(table.sample(SWARM, &peer(0), 3).len(), 3);
    assert_eq!(table.sample(SWARM, &peer(0), 0).len(), 0);
    // A seed that is not told would not ask.
    let seeds = |sample: Vec<Member>| sample.iter().filter(|it| it.state == Seed).count();
    assert!((0..20).all(|_| seeds(table.sample(SWARM, &peer(0), 50)) == 1));
}

#[test]
fn every_member_is_picked_about_equally_often() {
    let (mut table, now) = (table(), Instant::now());
    for n in 0..10 {
        table.announce(now, SWARM, at(peer(n)), Leech);
    }
    let mut picked = BTreeMap::<PublicKey, u32>::new();
    for _ in 0..3000 {
        for member in table.sample(SWARM, &peer(0), 3) {
            *picked.entry(member.peer).or_default() += 1;
        }
    }
    // 3,000 samples of 3 out of 9 others: 1,000 each, standard deviation 26.
    assert_eq!(picked.len(), 9);
    assert!(
        picked.values().all(|count| (870..1130).contains(count)),
        "{picked:?}"
    );
}

#[test]
fn the_same_seed_replays_the_same_samples() {
    let run = || {
        let (mut table, now) = (table(), Instant::now());
        for n in 0..100 {
            table.announce(now, SWARM, at(peer(n)), Leech);
        }
        table.sample(SWARM, &peer(0), 10)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_peer_cannot_be_in_more_swarms_than_its_cap() {
    let config = SwarmConfig {
        swarms_per_peer: 2,
        ..SwarmConfig::default()
    };
    let (mut table, now) = (SwarmTable::new(config, 1), Instant::now());
    for n in 0..2 {
        assert!(
            !table
                .announce(now, SwarmId([n; 32]), at(peer(1)), Leech)
                .refused
        );
    }
    let third = table.announce(now, SWARM, at(peer(1)), Leech);
    assert!(third.refused && third.news.is_empty() && !table.contains(SWARM, peer(1)));
    assert!(
        !table
            .announce(now, SwarmId([0; 32]), at(peer(1)), Seed)
            .refused,
        "a renewal"
    );
    table.leave(SwarmId([0; 32]), peer(1));
    assert!(!table.announce(now, SWARM, at(peer(1)), Leech).refused);
}

#[test]
fn the_table_as_a_whole_is_capped() {
    let config = SwarmConfig {
        memberships: 3,
        ..SwarmConfig::default()
    };
    let (mut table, now) = (SwarmTable::new(config, 1), Instant::now());
    let refused = (0..5).filter(|n| table.announce(now, SWARM, at(peer(*n)), Leech).refused);
    assert_eq!(refused.count(), 2);
    assert_eq!(table.membership_count(), 3);
}

#[test]
fn a_disconnected_peer_leaves_every_swarm_and_the_others_are_told() {
    let (mut table, now) = (table(), Instant::now());
    let other = SwarmId([8; 32]);
    table.announce(now, SWARM, at(peer(1)), Leech);
    table.announce(now, SWARM, at(peer(2)), Leech);
    table.announce(now, other, at(peer(1)), Seed);
    table.announce(now, other, at(peer(3)), Seed);
    let news = table.disconnect(peer(1));
    let left = FromTracker::Left {
        swarm: SWARM,
        peer: peer(1),
    };
    assert_eq!(news, [(peer(2), left)]);
    assert!(!table.contains(SWARM, peer(1)) && !table.contains(other, peer(1)));
    assert_eq!(table.disconnect(peer(1)), []);
}

#[test]
fn up_to_64_members_hear_of_all_others_and_more_of_their_neighbours() {
    let (mut table, now) = (table(), Instant::now());
    for n in 0..64 {
        let outcome = table.announce(now, SWARM, at(peer(n)), Leech);
        assert_eq!(outcome.news.len(), usize::from(n), "everybody hears of it");
    }
    let shape = Shape::default();
    let bounds = shape.least()..=shape.most();
    for n in 64..300 {
        let outcome = table.announce(now, SWARM, at(peer(n)), Leech);
        let sample = table.sample(SWARM, &peer(n), 50);
        assert!(
            bounds.contains(&sample.len()),
            "{} neighbours",
            sample.len()
        );
        let told = |member: &Member| outcome.news.iter().any(|(to, _)| *to == member.peer);
        assert!(sample.iter().all(told));
        assert!(outcome.news.len() <= 2 * shape.most());
    }
    for n in 0..300 {
        let sample = table.sample(SWARM, &peer(n), 50);
        assert!(
            bounds.contains(&sample.len()),
            "{} neighbours",
            sample.len()
        );
        let knows_us = |member: &Member| {
            let theirs = table.sample(SWARM, &member.peer, 50);
            theirs.iter().any(|it| it.peer == peer(n))
        };
        assert!(sample.iter().all(knows_us));
    }
}

#[test]
fn a_swarm_about_as_large_as_a_full_mesh_does_not_change_its_mind_with_each_member() {
    let (mut table, now) = (table(), Instant::now());
    let is_graph = |table: &mut SwarmTable| table.sample(SWARM, &peer(0), 50).len() < 45;
    let join = |table: &mut SwarmTable, n| drop(table.announce(now, SWARM, at(peer(n)), Leech));
    (0..64).for_each(|n| join(&mut table, n));
    assert!(!is_graph(&mut table));
    join(&mut table, 64);
    assert!(is_graph(&mut table));
    for n in 48..65 {
        assert!(is_graph(&mut table));
        table.leave(SWARM, peer(n));
    }
    assert!(is_graph(&mut table), "48 are left");
    table.leave(SWARM, peer(47));
    assert_eq!(table.sample(SWARM, &peer(0), 50).len(), 46);
    (47..64).for_each(|n| join(&mut table, n));
    assert!(!is_graph(&mut table));
}

#[test]
fn who_is_silent_makes_room_for_new_neighbours_that_hear_of_each_other() {
    let (mut table, now) = (table(), Instant::now());
    for n in 0..100 {
        table.announce(now, SWARM, at(peer(n)), Leech);
    }
    let mut known: BTreeMap<PublicKey, BTreeSet<PublicKey>> = BTreeMap::new();
    for n in 30..100 {
        table.announce(now + TTL / 2, SWARM, at(peer(n)), Leech);
        let sample = table.sample(SWARM, &peer(n), 50);
        known.insert(peer(n), sample.iter().map(|it| it.peer).collect());
    }
    let news = table.expire(now + TTL);
    assert_eq!(table.membership_count(), 70);
    for (to, news) in news {
        let known = known.entry(to).or_default();
        match news {
            FromTracker::Joined { member, .. } => known.insert(member.peer),
            FromTracker::Left { peer, .. } => known.remove(&peer),
            other => panic!("{other:?}"),
        };
    }
    for n in 30..100 {
        let sample = table.sample(SWARM, &peer(n), 50);
        assert!(sample.len() >= Shape::default().least());
        assert!(sample.iter().all(|it| known[&peer(n)].contains(&it.peer)));
    }
}

#[test]
fn whatever_one_member_does_few_others_hear_of_it() {
    let (mut table, now) = (table(), Instant::now());
    for n in 0..400 {
        table.announce(now, SWARM, at(peer(n)), Leech);
    }
    let most = 3 * Shape::default().most();
    for n in 0..200u16 {
        let site = Site {
            vicinity: u64::from(n % 5),
            class: [Class::Open, Class::Hard, Class::Blocked][usize::from(n % 3)],
        };
        let state = if n % 2 == 0 { Seed } else { Leech };
        let told = table.announce(now, SWARM, (peer(7), site), state).news;
        assert!(told.len() <= most, "an announce is told to {}", told.len());
        let sample = table.sample(SWARM, &peer(7), 50);
        assert!(sample.len() <= Shape::default().most());
        if n % 7 == 0 {
            let told = table.leave(SWARM, peer(7));
            assert!(told.len() <= most, "a departure is told to {}", told.len());
        }
    }
}

#[test]
fn one_seed_of_a_large_swarm_does_not_get_all_leeches_and_seeds_do_not_hear_of_seeds() {
    let (mut table, now) = (table(), Instant::now());
    for n in 0..400 {
        let state = if n % 4 == 0 { Seed } else { Leech };
        let outcome = table.announce(now, SWARM, at(peer(n)), state);
        let of_seed = |news: &FromTracker| match news {
            FromTracker::Joined { member, .. } => member.state == Seed,
            _ => false,
        };
        let to_seed = |to: &PublicKey| table.state(SWARM, *to) == Some(Seed);
        let mut news = outcome.news.iter();
        assert!(!news.any(|(to, news)| of_seed(news) && to_seed(to)));
    }
    for n in (0..400).step_by(4) {
        let sample = table.sample(SWARM, &peer(n), 50);
        assert!(sample.iter().all(|it| it.state == Leech));
        assert!((1..=Shape::default().most()).contains(&sample.len()));
    }
    // Three quarters of what had hardly anything to do with it before do now.
    let outcome = table.announce(now, SWARM, at(peer(0)), Leech);
    assert!((1..=Shape::default().most()).contains(&outcome.news.len()));
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_plain_list_of_memberships(
        steps in prop::collection::vec((0u8..5, 0u8..3, 0u16..6, 0u64..40), 0..80),
    ) {
        let (mut table, mut now) = (table(), Instant::now());
        let mut model = BTreeMap::<(SwarmId, PublicKey), (MemberState, Instant)>::new();
        for (step, swarm, who, wait) in steps {
            let (swarm, who) = (SwarmId([swarm; 32]), peer(who));
            match step {
                0 | 1 => {
                    let state = if step == 0 { Leech } else { Seed };
                    table.announce(now, swarm, at(who), state);
                    model.insert((swarm, who), (state, now + TTL));
                }
                2 => {
                    model.remove(&(swarm, who));
                    table.leave(swarm, who);
                }
                3 => {
                    table.disconnect(who);
                    model.retain(|(_, peer), _| *peer != who);
                }
                _ => {
                    now += Duration::from_secs(wait);
                    model.retain(|_, (_, expires)| *expires > now);
                    table.expire(now);
                }
            }
            check_against(&mut table, &model, swarm, who)?;
        }
    }
}

fn check_against(
    table: &mut SwarmTable,
    model: &BTreeMap<(SwarmId, PublicKey), (MemberState, Instant)>,
    swarm: SwarmId,
    who: PublicKey,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(table.membership_count(), model.len());
    prop_assert_eq!(
        table.deadline(),
        model.values().map(|(_, expires)| *expires).min()
    );
    let state = model.get(&(swarm, who)).map(|(state, _)| *state);
    prop_assert_eq!(table.state(swarm, who), state);
    let mut sample = table.sample(swarm, &who, 50);
    sample.sort_by_key(|member| member.peer);
    let others = model.iter().filter(|((s, p), _)| *s == swarm && *p != who);
    let useful = others.filter(|(_, (other, _))| [state, Some(*other)].contains(&Some(Leech)));
    let expected: Vec<Member> = useful
        .filter(|_| state.is_some())
        .map(|((_, peer), (state, _))| Member {
            peer: *peer,
            state: *state,
        })
        .collect();
    prop_assert_eq!(sample, expected);
    Ok(())
}

fn table() -> SwarmTable {
    SwarmTable::new(
        SwarmConfig {
            ttl: TTL,
            ..SwarmConfig::default()
        },
        1,
    )
}

fn at(peer: PublicKey) -> (PublicKey, Site) {
    (peer, Site::default())
}

fn peer(n: u16) -> PublicKey {
    let mut key = [0; 32];
    key[..2].copy_from_slice(&n.to_be_bytes());
    PublicKey(key)
}
