//! What a graph promises, whoever comes and goes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

const SHAPE: fn() -> Shape = Shape::default;

#[test]
fn members_have_about_the_same_number_of_neighbours_and_are_near_each_other() {
    let graph = grown(5000, |_| Site::default());
    let degrees: Vec<usize> = (0..5000).map(|key| graph.neighbours(&key).len()).collect();
    let mean = degrees.iter().sum::<usize>() as f64 / 5000.0;
    let all = 30..=SHAPE().degree();
    assert!(mean > 31.9 && degrees.iter().all(|degree| all.contains(degree)));
    // Of 31 new members at each step, 1 + 32 + 992 are reached in two, and all soon after.
    let steps = steps_to_all(&graph, 0);
    assert!((3..=4).contains(&steps), "{steps} steps");
}

#[test]
fn a_third_of_the_edges_stays_local() {
    let graph = grown(2000, |key| near(key % 20));
    let is_local = |key: u32, other: u32| key % 20 == other % 20;
    let part = part_of_edges(&graph, 2000, is_local);
    assert!((0.25..0.40).contains(&part), "{part} of the edges");
    // Two alone in their vicinity are neighbours, once, and have all the others they should.
    let graph = grown(2000, |key| near(key / 2));
    let degrees = (0..2000).map(|key| graph.neighbours(&key).len());
    assert!(degrees.min() >= Some(30));
    let together = (0..2000).filter(|key| graph.neighbours(key).contains(&(key ^ 1)));
    assert!(together.count() > 1900);
}

#[test]
fn hard_nats_have_neighbours_that_they_reach_and_fewer_edges_need_a_relay_than_by_chance() {
    let graph = grown(400, |key| reachable(mixed(key)));
    let direct = part_of_edges(&graph, 400, |a, b| mixed(a).meets(mixed(b)));
    // By chance: 75 % reach each other, 20 % reach 15 %: 0.75² + 2 x 0.15 x 0.2 = 0.62.
    assert!(direct > 0.66, "{direct} of the edges are direct");
    let hard = (0..400).filter(|key| mixed(*key) == Class::Hard);
    for key in hard {
        let open = graph.neighbours(&key).into_iter().map(mixed);
        let open = open.filter(|class| *class == Class::Open).count();
        assert!(open >= SHAPE().least_direct(), "{key} reaches {open}");
    }
}

#[test]
fn one_who_is_reached_by_everybody_does_not_get_everybody_who_needs_it() {
    let class = |key| if key == 0 { Class::Open } else { Class::Hard };
    let graph = grown(300, |key| reachable(class(key)));
    assert!(graph.neighbours(&0).len() <= SHAPE().most());
}

#[test]
fn a_member_that_turns_out_to_be_hard_to_reach_gets_others_in_part() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut graph = grown(300, |key| reachable(mixed(key)));
    let easy = (0..300).find(|key| mixed(*key) == Class::Easy).unwrap();
    let before = graph.neighbours(&easy);
    let pairs = graph.renew(&easy, reachable(Class::Hard), &mut rng);
    let after = graph.neighbours(&easy);
    let open = after.iter().filter(|key| mixed(**key) == Class::Open);
    assert!(open.count() >= SHAPE().least_direct());
    let kept = after.iter().filter(|key| before.contains(key)).count();
    assert!(kept >= SHAPE().degree() * 3 / 5, "{kept} are kept");
    assert!(pairs.len() <= SHAPE().degree());
    let again = graph.renew(&easy, reachable(Class::Hard), &mut rng);
    assert!(again.is_empty());
}

#[test]
fn the_same_randomness_gives_the_same_graph() {
    let graph = || grown(300, |key| near(key % 7));
    let (one, other) = (graph(), graph());
    assert!((0..300).all(|key| one.neighbours(&key) == other.neighbours(&key)));
}

#[test]
fn memory_is_that_of_the_members_there_are() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut graph = Graph::new(SHAPE());
    let most = 600;
    let member = |number: u32| {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        key
    };
    for number in 0..3000 {
        graph.join(member(number), near(number), &mut rng);
    }
    assert!(bytes(&graph) <= 3000 * most, "{}", bytes(&graph) / 3000);
    for number in 60..3000 {
        graph.leave(&member(number), &mut rng);
    }
    assert!(bytes(&graph) <= 128 * most, "{}", bytes(&graph) / 60);
}

/// What was asked for, without what the allocator adds; of a B-tree two thirds are taken to be full.
fn bytes(graph: &Graph<[u8; 32]>) -> usize {
    let list = |capacity: usize, each: usize| capacity * each;
    let tree = |len: usize, each: usize| len * each * 3 / 2;
    let patches = graph.members.iter().map(|it| 4 * it.patches.capacity());
    let rings = graph.rings.iter().map(Ring::capacity_bytes);
    tree(graph.seats.len(), 32 + 4)
        + list(graph.members.capacity(), size_of::<Member<[u8; 32]>>())
        + patches.sum::<usize>()
        + rings.sum::<usize>()
        + graph.vicinities.capacity_bytes()
        + graph.classes.capacity_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whoever_comes_and_goes_it_stays_regular_and_in_one_piece(
        seed: u64, first in 49..140u32,
        steps in prop::collection::vec((0..5u8, 0..200u32, any_site()), 0..100),
    ) {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut graph, mut members) = (Graph::new(SHAPE()), BTreeMap::new());
        for key in 0..first {
            graph.join(key, Site::default(), &mut rng);
            members.insert(key, Site::default());
        }
        let mut known = Known::of(&graph, &members);
        for (number, (step, key, site)) in steps.into_iter().enumerate() {
            match step {
                0 | 1 if !members.contains_key(&key) => {
                    members.insert(key, site);
                    known.note(&graph.join(key, site, &mut rng))?;
                }
                2 => {
                    members.entry(key).and_modify(|it| *it = site);
                    known.note(&graph.renew(&key, site, &mut rng))?;
                }
                _ if members.len() > 49 => {
                    members.remove(&key);
                    let (former, pairs) = graph.leave(&key, &mut rng);
                    prop_assert!(former.len() <= SHAPE().most());
                    known.note(&pairs)?;
                }
                _ => continue,
            }
            if number % 8 == 0 {
                known.check(&graph, &members)?;
            }
        }
        known.check(&graph, &members)?;
    }
}

/// What the members together know of their edges, the lower key first: what was so when they were
/// asked, and what they were told since.
struct Known(BTreeSet<(u32, u32)>);

impl Known {
    fn of(graph: &Graph<u32>, members: &BTreeMap<u32, Site>) -> Known {
        let its = |key: u32| {
            let others = graph.neighbours(&key).into_iter();
            others.map(move |other| (key.min(other), key.max(other)))
        };
        Known(members.keys().flat_map(|key| its(*key)).collect())
    }

    /// Few edges change at a time.
    fn note(&mut self, pairs: &[(u32, u32)]) -> Result<(), TestCaseError> {
        prop_assert!(pairs.len() <= 2 * SHAPE().most(), "{} pairs", pairs.len());
        self.0
            .extend(pairs.iter().map(|(a, b)| (*a.min(b), *a.max(b))));
        Ok(())
    }

    /// Everything that holds at any time. Nobody has to guess that an edge is new.
    fn check(
        &mut self,
        graph: &Graph<u32>,
        members: &BTreeMap<u32, Site>,
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(graph.len(), members.len());
        let bounds = SHAPE().least()..=SHAPE().most();
        let neighbours = |key: &u32| (*key, graph.neighbours(key));
        let beside: BTreeMap<u32, Vec<u32>> = members.keys().map(neighbours).collect();
        for (key, others) in &beside {
            prop_assert!(
                bounds.contains(&others.len()),
                "{} neighbours",
                others.len()
            );
            prop_assert!(others.is_sorted() && !others.contains(key));
            prop_assert!(others.iter().all(|other| beside[other].contains(key)));
        }
        let first = members.keys().next().copied().unwrap();
        prop_assert!(steps_to_all(graph, first) < members.len());
        let now = Known::of(graph, members);
        prop_assert!(now.0.is_subset(&self.0), "not all were told");
        *self = now;
        Ok(())
    }
}

fn any_site() -> impl Strategy<Value = Site> {
    (0..4u64, 0..20u32).prop_map(|(vicinity, number)| Site {
        vicinity,
        class: mixed(number),
    })
}

/// As members may be: 15 % open, 60 % easy, 20 % hard, 5 % without UDP.
fn mixed(key: u32) -> Class {
    match key * 7 % 20 {
        0..3 => Class::Open,
        3..15 => Class::Easy,
        15..19 => Class::Hard,
        _ => Class::Blocked,
    }
}

fn near(vicinity: u32) -> Site {
    Site {
        vicinity: vicinity.into(),
        class: Class::Easy,
    }
}

fn reachable(class: Class) -> Site {
    Site { vicinity: 0, class }
}

fn grown(count: u32, site: impl Fn(u32) -> Site) -> Graph<u32> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut graph = Graph::new(SHAPE());
    for key in 0..count {
        graph.join(key, site(key), &mut rng);
    }
    graph
}

fn part_of_edges(graph: &Graph<u32>, count: u32, is_meant: impl Fn(u32, u32) -> bool) -> f64 {
    let (mut meant, mut all) = (0, 0);
    for key in 0..count {
        let neighbours = graph.neighbours(&key);
        all += neighbours.len();
        meant += neighbours
            .iter()
            .filter(|other| is_meant(key, **other))
            .count();
    }
    meant as f64 / all as f64
}

/// Steps from one member to the farthest; more than there are members if some cannot be reached.
fn steps_to_all(graph: &Graph<u32>, from: u32) -> usize {
    let (mut reached, mut edge, mut steps) = (BTreeSet::from([from]), vec![from], 0);
    while reached.len() < graph.len() {
        let next = edge.iter().flat_map(|key| graph.neighbours(key));
        edge = next.filter(|key| reached.insert(*key)).collect();
        if edge.is_empty() {
            return usize::MAX;
        }
        steps += 1;
    }
    steps
}
