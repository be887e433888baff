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
