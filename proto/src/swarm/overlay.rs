//! Who of a swarm, large or small, should be connected to whom.
//!
//! Up to so many members as [`Shape`] says everybody is everybody's neighbour, and nothing is kept. One
//! more, and [`Overlay`] builds a [`Graph`], which it keeps until three quarters of that are left, so
//! that a swarm of about that size does not change its mind with everyone who comes and goes. Either
//! way nobody is told of all the edges that begin or end then: who asks hears what its neighbours are
//! now.
//!
//! Not here: the members themselves, which are passed in.

use std::collections::BTreeMap;

use rand::Rng;

use super::graph::Graph;
use super::site::Site;

/// How a swarm is wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Up to so many members, each is connected to all others.
    full_mesh: usize,
    degree: usize,
}

impl Default for Shape {
    /// A full mesh of up to 64 members, beyond that 32 neighbours for each.
    fn default() -> Self {
        Shape::new(64, 32)
    }
}

impl Shape {
    /// A full mesh of up to so many members, at least twice the degree; beyond that about `degree`
    /// neighbours for each, an even number from 4 to 38.
    pub fn new(full_mesh: usize, degree: usize) -> Shape {
        // So many that a list of them is shorter than the longest answer of a tracker.
        let degree = degree.clamp(4, 38) & !1;
        Shape {
            full_mesh: full_mesh.max(2 * degree),
            degree,
        }
    }

    /// Neighbours of a member of a larger swarm, about: as many as its rings bring it.
    pub fn degree(&self) -> usize {
        self.degree
    }

    /// Neighbours of a member of a larger swarm, at least.
    pub fn least(&self) -> usize {
        self.degree * 3 / 4
    }

    /// Neighbours of a member of a larger swarm, at most.
    pub fn most(&self) -> usize {
        self.degree * 5 / 4
    }

    /// Of these, how many should be reached directly at least, where that is possible.
    pub fn least_direct(&self) -> usize {
        (self.degree / 8).max(1)
    }

    /// With fewer members than this a large swarm is a small one again.
    fn least_members(&self) -> usize {
        self.full_mesh * 3 / 4
    }

    /// Each brings two neighbours.
    pub(super) fn rings(&self) -> usize {
        self.degree / 2
    }
}

/// Something that says where a member is.
pub trait Sited {
    /// Where it is.
    fn site(&self) -> Site;
}

impl Sited for Site {
    fn site(&self) -> Site {
        *self
    }
}

/// Who of one swarm is whose neighbour. Each operation is given the members as they are after it.
#[derive(Debug)]
pub struct Overlay<K> {
    shape: Shape,
    /// Nothing while the swarm is small.
    graph: Option<Box<Graph<K>>>,
}

impl<K: Copy + Ord> Overlay<K> {
    /// That of a swarm without members.
    pub fn new(shape: Shape) -> Overlay<K> {
        Overlay { shape, graph: None }
    }

    /// `key` has come; returns all pairs that are to be told that they are neighbours now.
    pub fn join(
        &mut self,
        members: &BTreeMap<K, impl Sited>,
        key: &K,
        rng: &mut impl Rng,
    ) -> Vec<(K, K)> {
        if members.len() > self.shape.full_mesh && self.graph.is_none() {
            self.graph = Some(Box::new(self.built(members, key, rng)));
        }
        let site = members.get(key).map(Sited::site).unwrap_or_default();
        match &mut self.graph {
            Some(graph) => graph.join(*key, site, rng),
            None => others(members, key).map(|other| (*key, other)).collect(),
        }
    }

    /// `key` has gone; returns its neighbours, and the pairs that are to be told that they are
    /// neighbours now.
    pub fn leave(
        &mut self,
        members: &BTreeMap<K, impl Sited>,
        key: &K,
        rng: &mut impl Rng,
    ) -> (Vec<K>, Vec<(K, K)>) {
        let Some(graph) = &mut self.graph else {
            return (others(members, key).collect(), Vec::new());
        };
        let (former, pairs) = graph.leave(key, rng);
        if members.len() < self.shape.least_members() {
            self.graph = None;
            return (former, Vec::new());
        }
        (former, pairs)
    }

    /// `key` is still there, perhaps somewhere else; returns the pairs that are to be told that they
    /// are neighbours now.
    pub fn renew(&mut self, key: &K, site: Site, rng: &mut impl Rng) -> Vec<(K, K)> {
        let graph = self.graph.as_mut();
        graph.map_or(Vec::new(), |graph| graph.renew(key, site, rng))
    }

    /// Whom a member should be connected to, ascending.
    pub fn neighbours(&self, members: &BTreeMap<K, impl Sited>, key: &K) -> Vec<K> {
        match &self.graph {
            Some(graph) => graph.neighbours(key),
            None => others(members, key).collect(),
        }
    }

    /// A graph of all but one.
    fn built(&self, members: &BTreeMap<K, impl Sited>, but: &K, rng: &mut impl Rng) -> Graph<K> {
        let mut graph = Graph::new(self.shape);
        for (key, member) in members.iter().filter(|(key, _)| *key != but) {
            graph.join(*key, member.site(), rng);
        }
        graph
    }
}

fn others<K: Copy + Ord, V>(members: &BTreeMap<K, V>, key: &K) -> impl Iterator<Item = K> {
    members.keys().copied().filter(move |other| other != key)
}
