//! Who of a large swarm should be connected to whom.
//!
//! [`Graph`] keeps random rings through all members, and whoever is next to a member in one of them is
//! its neighbour (Law and Siu, "Distributed construction of random expander networks", Infocom 2003).
//! So everybody has about [`Shape::degree`] neighbours, two members are a few steps apart, and the
//! graph stays in one piece whoever joins or leaves, which changes two edges a ring. Where in a ring a
//! member is put is the best of a few places at random, by the kind of the ring:
//!
//! | rings | the best place |
//! | --- | --- |
//! | the first third | beside those that are near, so that some traffic stays local |
//! | the next quarter | beside those that it reaches directly |
//! | the others | any, so that the swarm is mixed whatever the first two do |
//!
//! In all of them a place beside those who are neighbours already is the last choice. When members
//! leave, rings come to agree all the same; whoever then has too few neighbours, or too few that it
//! reaches directly, gets a *patch*: an edge in no ring, dropped when it is needed no longer.
//!
//! A join, a leave or a change costs O(degree) steps of O(degree) each, and tells of O(degree) edges.
//! A member takes at most 600 bytes or so.
//!
//! Not here: small swarms, and when a swarm is large ([`super::Overlay`]).

mod crowd;
#[cfg(test)]
mod properties;
mod ring;

use std::collections::{BTreeMap, VecDeque};

use rand::Rng;

use self::crowd::Crowd;
use self::ring::Ring;
use super::overlay::Shape;
use super::site::{CLASSES, Class, Site};

/// Places in a ring that are looked at, of which the best is taken.
const DRAWS: u32 = 8;

/// How much worse a place is beside somebody who is a neighbour already than one beside strangers.
const AGAIN: i32 = 4;

/// Members that are looked at for one patch.
const LOOKS: usize = 32;

/// Members that are looked after for one that joins or leaves: its neighbours, and those that lose a
/// patch to one of these.
const MENDS: usize = 128;

/// Members, and who is next to whom.
#[derive(Clone, Debug)]
pub struct Graph<K> {
    shape: Shape,
    seats: BTreeMap<K, u32>,
    /// By seat; there are no gaps.
    members: Vec<Member<K>>,
    vicinities: Crowd<u64>,
    classes: Crowd<Class>,
    rings: Vec<Ring>,
}

#[derive(Clone, Debug)]
struct Member<K> {
    key: K,
    site: Site,
    patches: Vec<u32>,
}

/// What a ring is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Near,
    Direct,
    Mixed,
}

type Pairs = Vec<(u32, u32)>;

impl<K: Copy + Ord> Graph<K> {
    /// Without members.
    pub fn new(shape: Shape) -> Graph<K> {
        Graph {
            shape,
            seats: BTreeMap::new(),
            members: Vec::new(),
            vicinities: Crowd::default(),
            classes: Crowd::default(),
            rings: vec![Ring::default(); shape.rings()],
        }
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A member joins, or is renewed if it is one; returns all pairs that are neighbours since.
    pub fn join(&mut self, key: K, site: Site, rng: &mut impl Rng) -> Vec<(K, K)> {
        if self.seats.contains_key(&key) {
            return self.renew(&key, site, rng);
        }
        let seat = self.members.len() as u32;
        self.seats.insert(key, seat);
        self.members.push(Member {
            key,
            site,
            patches: Vec::new(),
        });
        self.vicinities.push(site.vicinity);
        self.classes.push(site.class);
        self.rings.iter_mut().for_each(Ring::push);
        self.sit(seat, |_| true, rng);
        let mut beside = self.adjacent(seat);
        let mut pairs: Pairs = beside.iter().map(|other| (seat, *other)).collect();
        beside.push(seat);
        pairs.extend(self.mend(beside, rng));
        self.keys(&pairs)
    }

    /// A member leaves; returns its neighbours, and the pairs of others that are neighbours since.
    pub fn leave(&mut self, key: &K, rng: &mut impl Rng) -> (Vec<K>, Vec<(K, K)>) {
        let Some(seat) = self.seats.remove(key) else {
            return Default::default();
        };
        let former = self.adjacent(seat);
        let former_keys = former.iter().map(|seat| self.key(*seat)).collect();
        let mut pairs = self.stand_up(seat, |_| true);
        for other in std::mem::take(&mut self.members[seat as usize].patches) {
            self.members[other as usize]
                .patches
                .retain(|it| *it != seat);
        }
        self.swap_remove(seat);
        let last = self.members.len() as u32;
        let renamed = |it: u32| if it == last { seat } else { it };
        for (a, b) in &mut pairs {
            (*a, *b) = (renamed(*a), renamed(*b));
        }
        pairs.extend(self.mend(former.into_iter().map(renamed).collect(), rng));
        (former_keys, self.keys(&pairs))
    }

    /// A member is, or may be, somewhere else than before. It is also looked after: somebody whom it
    /// reaches may have come since. Returns the pairs that are neighbours since.
    pub fn renew(&mut self, key: &K, site: Site, rng: &mut impl Rng) -> Vec<(K, K)> {
        let Some(&seat) = self.seats.get(key) else {
            return Vec::new();
        };
        let before = std::mem::replace(&mut self.members[seat as usize].site, site);
        let is_stale = |kind| match kind {
            Kind::Near => before.vicinity != site.vicinity,
            Kind::Direct => before.class != site.class,
            Kind::Mixed => false,
        };
        if before == site {
            let pairs = self.mend(vec![seat], rng);
            return self.keys(&pairs);
        }
        self.vicinities.set(seat, site.vicinity);
        self.classes.set(seat, site.class);
        let old = self.adjacent(seat);
        let mut pairs = self.stand_up(seat, is_stale);
        self.sit(seat, is_stale, rng);
        let new = self.adjacent(seat);
        let is_new = |other: &&u32| !old.contains(other);
        pairs.extend(new.iter().filter(is_new).map(|other| (seat, *other)));
        let touched = [old, new, vec![seat]].concat();
        pairs.extend(self.mend(touched, rng));
        self.keys(&pairs)
    }

    /// Whom a member should be connected to, ascending; nobody if it is none.
    pub fn neighbours(&self, key: &K) -> Vec<K> {
        let seat = self.seats.get(key);
        let seats = seat.into_iter().flat_map(|seat| self.adjacent(*seat));
        let mut keys: Vec<K> = seats.map(|seat| self.key(seat)).collect();
        keys.sort_unstable();
        keys
    }

    fn key(&self, seat: u32) -> K {
        self.members[seat as usize].key
    }

    fn keys(&self, pairs: &[(u32, u32)]) -> Vec<(K, K)> {
        let keys = pairs.iter().map(|(a, b)| (self.key(*a), self.key(*b)));
        keys.collect()
    }

    fn class(&self, seat: u32) -> Class {
        self.members[seat as usize].site.class
    }

    /// Those next to a seat in some ring.
    fn in_rings(&self, seat: u32) -> impl Iterator<Item = u32> {
        self.rings.iter().flat_map(move |ring| ring.beside(seat))
    }

    /// The neighbours of a seat, ascending.
    fn adjacent(&self, seat: u32) -> Vec<u32> {
        let patches = self.members[seat as usize].patches.iter().copied();
        let rings = self.in_rings(seat);
        let mut seats: Vec<u32> = rings.chain(patches).filter(|it| *it != seat).collect();
        seats.sort_unstable();
        seats.dedup();
        seats
    }

    /// Those of the rings of a kind.
    fn rings(&self, is_meant: impl Fn(Kind) -> bool) -> Vec<usize> {
        let rings = 0..self.rings.len();
        rings.filter(|ring| is_meant(self.kind(*ring))).collect()
    }

    fn kind(&self, ring: usize) -> Kind {
        match self.rings.len() {
            rings if ring < rings / 3 => Kind::Near,
            rings if ring < rings / 3 + rings / 4 => Kind::Direct,
            _ => Kind::Mixed,
        }
    }

    /// Puts a seat into those rings, in none of which it is.
    fn sit(&mut self, seat: u32, is_meant: impl Fn(Kind) -> bool, rng: &mut impl Rng) {
        let mut known = self.adjacent(seat);
        for ring in self.rings(is_meant) {
            if let Some(beside) = self.best_place(ring, seat, &known, rng) {
                self.rings[ring].link(seat, beside);
                known.extend(self.rings[ring].beside(seat));
            }
        }
    }

    /// Takes a seat out of those rings; returns the pairs that are next to each other since and were
    /// not neighbours before.
    fn stand_up(&mut self, seat: u32, is_meant: impl Fn(Kind) -> bool) -> Pairs {
        let rings = self.rings(is_meant);
        let closed = rings.iter().map(|ring| self.rings[*ring].beside(seat));
        let mut pairs: Pairs = closed.map(|[a, b]| (a.min(b), a.max(b))).collect();
        pairs.sort_unstable();
        pairs.dedup();
        pairs.retain(|(a, b)| a != b && *a != seat && *b != seat);
        pairs.retain(|(a, b)| !self.adjacent(*a).contains(b));
        rings.iter().for_each(|ring| self.rings[*ring].unlink(seat));
        pairs
    }

    /// After whom to put a seat in a ring; nobody if there is nobody else.
    fn best_place(&self, ring: usize, seat: u32, known: &[u32], rng: &mut impl Rng) -> Option<u32> {
        let draws = (0..DRAWS).map(|draw| self.draw(ring, seat, draw, rng));
        let others = draws.filter(|it| *it != seat);
        others.min_by_key(|beside| self.cost(ring, seat, *beside, known))
    }

    /// Anybody; every other time one of those whom the ring is for.
    fn draw(&self, ring: usize, seat: u32, draw: u32, rng: &mut impl Rng) -> u32 {
        let site = self.members[seat as usize].site;
        let meant = match (self.kind(ring), site.class) {
            _ if draw % 2 == 1 => None,
            (Kind::Near, _) => self.vicinities.any(site.vicinity, rng),
            (Kind::Direct, Class::Hard) => self.classes.any(Class::Open, rng),
            (Kind::Direct, Class::Open) => self.classes.any(Class::Hard, rng),
            (Kind::Direct | Kind::Mixed, _) => None,
        };
        meant.unwrap_or_else(|| rng.random_range(0..self.members.len() as u32))
    }

    /// What it costs to put a seat after another: what is lost between that one and the next, less
    /// what is gained on both sides.
    fn cost(&self, ring: usize, seat: u32, beside: u32, known: &[u32]) -> i32 {
        let next = self.rings[ring].after(beside);
        let worth = |a, b| i32::from(self.is_wanted(ring, a, b));
        let again = [beside, next].into_iter().filter(|it| known.contains(it));
        AGAIN * again.count() as i32 + worth(beside, next) - worth(seat, beside) - worth(seat, next)
    }

    /// Whether two are what a ring is for.
    fn is_wanted(&self, ring: usize, a: u32, b: u32) -> bool {
        let [a, b] = [a, b].map(|seat| self.members[seat as usize].site);
        match self.kind(ring) {
            Kind::Near => a.vicinity == b.vicinity,
            Kind::Direct => a.class.meets(b.class),
            Kind::Mixed => false,
        }
    }

    /// Removes a seat that is in no ring and has no patches; the last one gets its number.
    fn swap_remove(&mut self, seat: u32) {
        let last = self.members.len() as u32 - 1;
        self.rings
            .iter_mut()
            .for_each(|ring| ring.swap_remove(seat));
        self.vicinities.swap_remove(seat);
        self.classes.swap_remove(seat);
        self.members.swap_remove(seat as usize);
        shrink(&mut self.members);
        let Some(moved) = self.members.get(seat as usize) else {
            return;
        };
        self.seats.insert(moved.key, seat);
        for other in moved.patches.clone() {
            let patches = &mut self.members[other as usize].patches;
            let renamed = patches.iter_mut().filter(|it| **it == last);
            renamed.for_each(|it| *it = seat);
        }
    }
}

/// Patches.
impl<K: Copy + Ord> Graph<K> {
    /// Sees to it that these have enough neighbours, and not too many. Returns the pairs that are
    /// neighbours since.
    fn mend(&mut self, seats: Vec<u32>, rng: &mut impl Rng) -> Pairs {
        let (mut pairs, mut queue) = (Pairs::new(), VecDeque::from(seats));
        for _ in 0..MENDS {
            let Some(seat) = queue.pop_front() else {
                break;
            };
            queue.extend(self.unpatch_surplus(seat));
            while self.adjacent(seat).len() < self.shape.least() {
                let Some(other) = self.stranger(seat, |_| true, rng) else {
                    break;
                };
                self.patch(seat, other);
                pairs.push((seat, other));
            }
            while self.lacks_direct(seat) {
                let Some(other) = self.stranger(seat, |class| self.class(seat).meets(class), rng)
                else {
                    break;
                };
                self.patch(seat, other);
                pairs.push((seat, other));
            }
        }
        pairs
    }

    /// Drops patches that rings have come to replace or that neither side needs, and as many others as
    /// are too many; returns who lost one of these.
    fn unpatch_surplus(&mut self, seat: u32) -> Vec<u32> {
        let mut lost = Vec::new();
        for other in self.members[seat as usize].patches.clone() {
            let count = self.adjacent(seat).len();
            if self.in_rings(seat).any(|it| it == other) {
                self.unpatch(seat, other);
                continue;
            }
            let is_needed = self.needs(seat, other) || self.needs(other, seat);
            if count > self.shape.most() || (count > self.shape.degree() && !is_needed) {
                self.unpatch(seat, other);
                lost.extend(Some(other).filter(|_| is_needed));
            }
        }
        lost
    }

    /// Whether a seat would have too few neighbours without that one.
    fn needs(&self, seat: u32, other: u32) -> bool {
        let is_direct = self.class(seat).meets(self.class(other));
        self.adjacent(seat).len() <= self.shape.least()
            || (is_direct && self.directs(seat) <= self.shape.least_direct())
    }

    /// Whether a seat should have more neighbours that it reaches directly, and has room for one.
    fn lacks_direct(&self, seat: u32) -> bool {
        self.class(seat) != Class::Blocked
            && self.directs(seat) < self.shape.least_direct()
            && self.adjacent(seat).len() < self.shape.most()
    }

    /// How many neighbours a seat reaches directly.
    fn directs(&self, seat: u32) -> usize {
        let class = self.class(seat);
        let direct = |other: &&u32| class.meets(self.class(**other));
        self.adjacent(seat).iter().filter(direct).count()
    }

    /// Somebody of a suitable class who is no neighbour of a seat yet and has room for one more.
    fn stranger(
        &self,
        seat: u32,
        is_suitable: impl Fn(Class) -> bool,
        rng: &mut impl Rng,
    ) -> Option<u32> {
        let groups = CLASSES.into_iter().filter(|class| is_suitable(*class));
        let groups: Vec<&[u32]> = groups.map(|class| self.classes.group(class)).collect();
        let all = groups.iter().map(|group| group.len()).sum::<usize>();
        if all == 0 {
            return None;
        }
        let (start, known) = (rng.random_range(0..all), self.adjacent(seat));
        let at = |mut index: usize| {
            groups.iter().find_map(|group| {
                let found = group.get(index).copied();
                index = index.saturating_sub(group.len());
                found
            })
        };
        let looked_at = (0..LOOKS.min(all)).filter_map(|look| at((start + look) % all));
        let mut strangers = looked_at.filter(|it| *it != seat && !known.contains(it));
        strangers.find(|it| self.adjacent(*it).len() < self.shape.most())
    }

    fn patch(&mut self, a: u32, b: u32) {
        self.members[a as usize].patches.push(b);
        self.members[b as usize].patches.push(a);
    }

    fn unpatch(&mut self, a: u32, b: u32) {
        self.members[a as usize].patches.retain(|it| *it != b);
        self.members[b as usize].patches.retain(|it| *it != a);
    }
}

/// Gives back what a list has needed before; seldom enough that it costs nothing on the whole.
fn shrink<T>(list: &mut Vec<T>) {
    if list.capacity() > 64 && list.capacity() > 4 * list.len() {
        list.shrink_to(2 * list.len());
    }
}
