//! Who of a large swarm should be connected to whom.
//!
//! Up to [`FULL_MESH`] members everybody knows everybody. Beyond, [`Graph`] keeps [`RINGS`] random
//! rings through all members, and whoever is next to a member in one of them is its neighbour
//! (Law and Siu, "Distributed construction of random expander networks", Infocom 2003). So everybody
//! has about [`DEGREE`] neighbours, two members are a few steps apart, and the graph stays in one
//! piece whoever joins or leaves, which costs two edges a ring. In a third of the rings a new member
//! takes its place beside one that is near to it, so that some traffic stays local.
//!
//! Not here: who is near ([`Graph::join`] is told), and how members hear of each other.

use std::collections::BTreeMap;

use rand::Rng;

/// Up to so many members, each is connected to all others.
pub const FULL_MESH: usize = 64;
/// Neighbours of a member of a larger swarm. Fewer if the rings happen to agree.
pub const DEGREE: usize = 32;
/// Each brings two neighbours.
const RINGS: usize = DEGREE / 2;
/// Rings in which near members are together.
const LOCAL_RINGS: usize = RINGS / 3;

/// Members, and who is next to whom.
#[derive(Clone, Debug)]
pub struct Graph<K> {
    seats: BTreeMap<K, usize>,
    /// Who sits where, and the vicinity told when it joined.
    members: Vec<Option<(K, u64)>>,
    free: Vec<usize>,
    everybody: Places,
    vicinities: BTreeMap<u64, Places>,
    rings: Vec<Ring>,
}

impl<K: Copy + Ord> Default for Graph<K> {
    fn default() -> Self {
        Graph {
            seats: BTreeMap::new(),
            members: Vec::new(),
            free: Vec::new(),
            everybody: Places::default(),
            vicinities: BTreeMap::new(),
            rings: vec![Ring::default(); RINGS],
        }
    }
}

impl<K: Copy + Ord> Graph<K> {
    /// Number of members.
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// A member joins. Those with the same `vicinity`, whatever its meaning, are near to each other.
    /// One that is a member already is taken to have left before.
    pub fn join(&mut self, key: K, vicinity: u64, rng: &mut impl Rng) {
        self.leave(&key);
        let seat = self.sit(key, vicinity);
        let near = self.vicinities.get(&vicinity);
        for (number, ring) in self.rings.iter_mut().enumerate() {
            let near = near.filter(|_| number < LOCAL_RINGS);
            let beside = near.and_then(|near| near.any(rng));
            match beside.or_else(|| self.everybody.any(rng)) {
                Some(beside) => ring.insert(seat, beside),
                None => ring.insert(seat, seat),
            }
        }
        self.everybody.add(seat);
        self.vicinities.entry(vicinity).or_default().add(seat);
    }

    /// A member leaves, if it is one.
    pub fn leave(&mut self, key: &K) {
        let Some(seat) = self.seats.remove(key) else {
            return;
        };
        self.rings.iter_mut().for_each(|ring| ring.remove(seat));
        self.everybody.remove(seat);
        if let Some((_, vicinity)) = self.members[seat].take()
            && let Some(near) = self.vicinities.get_mut(&vicinity)
        {
            near.remove(seat);
            if near.all.is_empty() {
                self.vicinities.remove(&vicinity);
            }
        }
        self.free.push(seat);
    }

    /// Whom a member should be connected to, ascending; nobody if it is none.
    pub fn neighbours(&self, key: &K) -> Vec<K> {
        let Some(&seat) = self.seats.get(key) else {
            return Vec::new();
        };
        if self.len() <= FULL_MESH {
            return self
                .seats
                .keys()
                .filter(|other| *other != key)
                .copied()
                .collect();
        }
        let seats = self.rings.iter().flat_map(|ring| ring.beside(seat));
        let seats = seats.filter(|other| *other != seat);
        let mut keys: Vec<K> = seats
            .filter_map(|seat| self.members[seat])
            .map(|(key, _)| key)
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn sit(&mut self, key: K, vicinity: u64) -> usize {
        let seat = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            self.members.len() - 1
        });
        self.members[seat] = Some((key, vicinity));
        self.seats.insert(key, seat);
        seat
    }
}

/// All seats in a circle; each has one before it and one after it, which may be itself.
#[derive(Clone, Debug, Default)]
struct Ring {
    after: Vec<usize>,
    before: Vec<usize>,
}

impl Ring {
    /// Puts a seat after another, or alone if it is the same.
    fn insert(&mut self, seat: usize, beside: usize) {
        let len = self.after.len().max(seat + 1);
        self.after.resize(len, seat);
        self.before.resize(len, seat);
        let next = if seat == beside {
            seat
        } else {
            self.after[beside]
        };
        self.join(beside, seat);
        self.join(seat, next);
    }

    fn remove(&mut self, seat: usize) {
        self.join(self.before[seat], self.after[seat]);
    }

    fn beside(&self, seat: usize) -> [usize; 2] {
        [self.before[seat], self.after[seat]]
    }

    fn join(&mut self, one: usize, next: usize) {
        self.after[one] = next;
        self.before[next] = one;
    }
}

/// Seats of which one can be drawn.
#[derive(Clone, Debug, Default)]
struct Places {
    all: Vec<usize>,
    position: BTreeMap<usize, usize>,
}

impl Places {
    fn add(&mut self, seat: usize) {
        self.position.insert(seat, self.all.len());
        self.all.push(seat);
    }

    fn remove(&mut self, seat: usize) {
        let Some(at) = self.position.remove(&seat) else {
            return;
        };
        self.all.swap_remove(at);
        if let Some(moved) = self.all.get(at) {
            self.position.insert(*moved, at);
        }
    }

    fn any(&self, rng: &mut impl Rng) -> Option<usize> {
        let len = self.all.len();
        (len > 0).then(|| self.all[rng.random_range(0..len)])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_small_swarm_is_a_full_mesh() {
        let graph = grown(FULL_MESH as u32, |_| 0);
        assert!((0..FULL_MESH as u32).all(|key| graph.neighbours(&key).len() == FULL_MESH - 1));
        let graph = grown(FULL_MESH as u32 + 1, |_| 0);
        assert!((0..=FULL_MESH as u32).all(|key| graph.neighbours(&key).len() <= DEGREE));
    }

    #[test]
    fn members_of_a_large_swarm_have_about_the_same_number_of_neighbours_and_are_near_each_other() {
        let graph = grown(5000, |_| 0);
        let degrees: Vec<usize> = (0..5000).map(|key| graph.neighbours(&key).len()).collect();
        let mean = degrees.iter().sum::<usize>() as f64 / 5000.0;
        assert!(mean > 31.5 && degrees.iter().all(|degree| (26..=DEGREE).contains(degree)));
        // Of 31 new members at each step, 1 + 32 + 992 are reached in two, and all soon after.
        assert!(
            (3..=4).contains(&steps_to_all(&graph, 0)),
            "{} steps",
            steps_to_all(&graph, 0)
        );
    }

    #[test]
    fn a_third_of_the_rings_prefers_those_near() {
        let graph = grown(2000, |key| u64::from(key % 20));
        let local = |key: &u32| {
            let neighbours = graph.neighbours(key);
            neighbours
                .iter()
                .filter(|other| *other % 20 == key % 20)
                .count()
        };
        let mean = (0..2000).map(|key| local(&key)).sum::<usize>() as f64 / 2000.0;
        let all = 2.0 * LOCAL_RINGS as f64;
        assert!(
            (0.7 * all..1.1 * all + 2.0).contains(&mean),
            "{mean} of {DEGREE} are near"
        );
    }

    #[test]
    fn the_same_randomness_gives_the_same_graph() {
        let (one, other) = (grown(300, |_| 0), grown(300, |_| 0));
        assert!((0..300).all(|key| one.neighbours(&key) == other.neighbours(&key)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]

        #[test]
        fn whoever_comes_and_goes_it_stays_symmetric_and_in_one_piece(
            seed: u64, first in 0..150u32,
            steps in prop::collection::vec((any::<bool>(), 0..200u32, 0..4u64), 0..200),
        ) {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut graph, mut members) = (Graph::default(), BTreeSet::new());
            let joins = (0..first).map(|key| (true, key, 0));
            for (number, (joins, key, vicinity)) in joins.chain(steps).enumerate() {
                if joins {
                    graph.join(key, vicinity, &mut rng);
                    members.insert(key);
                } else {
                    graph.leave(&key);
                    members.remove(&key);
                }
                if number % 20 == 0 {
                    check(&graph, &members)?;
                }
            }
            check(&graph, &members)?;
        }
    }

    fn check(graph: &Graph<u32>, members: &BTreeSet<u32>) -> Result<(), TestCaseError> {
        prop_assert_eq!(
            (graph.len(), graph.is_empty()),
            (members.len(), members.is_empty())
        );
        for key in members {
            let neighbours = graph.neighbours(key);
            let most = if members.len() <= FULL_MESH {
                FULL_MESH - 1
            } else {
                DEGREE
            };
            prop_assert!(neighbours.len() <= most && !neighbours.contains(key));
            prop_assert!(
                neighbours.is_sorted() && neighbours.iter().all(|other| members.contains(other))
            );
            prop_assert!(
                neighbours
                    .iter()
                    .all(|other| graph.neighbours(other).contains(key))
            );
        }
        if let Some(first) = members.first() {
            prop_assert!(steps_to_all(graph, *first) <= members.len());
        }
        Ok(())
    }

    fn grown(count: u32, vicinity: impl Fn(u32) -> u64) -> Graph<u32> {
        let mut rng = StdRng::seed_from_u64(1);
        let mut graph = Graph::default();
        (0..count).for_each(|key| graph.join(key, vicinity(key), &mut rng));
        graph
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
}
