//! Who is there, and who is connected to whom.

use rand::Rng;
use rand::rngs::StdRng;

use super::super::peer::{Peer, What};
use super::super::plan::{Change, Fault, Plan, Topology, nanos};
use super::super::queue::Nanos;
use super::World;
use crate::content::ChunkSet;
use crate::transfer;

impl World<'_> {
    /// Lets those come and go whose time it is. All come before the first of them is connected.
    pub(super) fn change(&mut self) {
        let mut comers = Vec::new();
        while let Some((_, peer, change)) = self.timeline.pop_if(|(at, ..)| *at <= self.now) {
            match change {
                Change::Goes => self.go(peer),
                Change::Comes => comers.push(peer),
                Change::ComesEmpty => {
                    self.lose_everything(peer);
                    comers.push(peer);
                }
            }
        }
        comers.iter().for_each(|peer| self.come(*peer));
        comers.into_iter().for_each(|peer| self.connect(peer));
    }

    fn lose_everything(&mut self, number: u32) {
        let index = number as usize;
        self.kept[index] = ChunkSet::empty(self.plan.chunks);
        if self.gauge.done[index].take().is_some() {
            self.done -= 1;
        }
    }

    /// A daemon starts, with what it had.
    fn come(&mut self, number: u32) {
        let index = number as usize;
        let fault = self.plan.peers[index].fault;
        let claimed = match fault {
            Fault::None => self.kept[index].clone(),
            // Who does wrong claims to have everything, so as to be asked.
            _ => ChunkSet::full(self.plan.chunks),
        };
        let seed = self.rng.random();
        let mut peer = Peer::new(&self.common, self.now, fault, claimed, seed);
        if let Some(bytes) = self.plan.budget {
            peer.handle_share(&self.common, transfer::Event::Budget { bytes });
        }
        if fault == Fault::None {
            self.count_copies(index, 1);
        }
        self.peers[index] = Some(Box::new(peer));
        self.note_done(index);
        self.graph.join(number, 0, &mut self.rng);
        self.wakes.set(number, Some(self.now));
    }

    /// It hears of its neighbours, and they of it. At the beginning all are connected already.
    fn connect(&mut self, number: u32) {
        for other in self.neighbours(number) {
            let is_there = self.peers[other as usize].is_some();
            let Some(reach) = self.plan.reach(number, other).filter(|_| is_there) else {
                continue;
            };
            let is_first = self
                .connected
                .insert((number.min(other), number.max(other)));
            if !is_first {
                continue;
            }
            let rtt = self.plan.rtt_of(number, other);
            let at = if self.now == 0 {
                0
            } else {
                self.now + nanos(rtt)
            };
            self.post(at, other, number, What::Joined { rtt, reach });
            self.post(at, number, other, What::Joined { rtt, reach });
        }
    }

    fn neighbours(&self, number: u32) -> Vec<u32> {
        match self.plan.topology {
            Topology::Tracker => self.graph.neighbours(&number),
            Topology::Random { .. } => self.fixed[number as usize].clone(),
        }
    }

    /// A daemon ends. Its neighbours hear of it.
    pub(super) fn go(&mut self, number: u32) {
        let index = number as usize;
        let Some(peer) = self.peers[index].take() else {
            return;
        };
        self.wakes.set(number, None);
        self.graph.leave(&number);
        if self.plan.peers[index].fault == Fault::None {
            if let Some(have) = peer.have(&self.common) {
                self.kept[index] = have.clone();
            }
            self.count_copies(index, -1);
        }
        let pairs = self
            .connected
            .extract_if(.., |(a, b)| *a == number || *b == number);
        for (a, b) in pairs.collect::<Vec<_>>() {
            self.streams.stop_all(self.now, (a, b));
            self.streams.stop_all(self.now, (b, a));
            let other = if a == number { b } else { a };
            // Not before it has heard that they were connected.
            let at = self.now + nanos(self.plan.rtt_of(a, b));
            self.post(at, number, other, What::Left);
        }
    }

    fn count_copies(&mut self, index: usize, by: i32) {
        for chunk in self.kept[index].iter() {
            let copies = &mut self.gauge.copies[chunk.value() as usize];
            *copies = copies.saturating_add_signed(by);
        }
    }
}

/// Comings and goings, the latest first.
pub(super) fn timeline(plan: &Plan) -> Vec<(Nanos, u32, Change)> {
    let members = (0..).zip(&plan.peers);
    let changes = members.flat_map(|(number, member)| {
        let presence = member.presence.iter();
        presence.map(move |(at, change)| (nanos(*at), number, *change))
    });
    let mut timeline: Vec<_> = changes.collect();
    timeline.sort_by_key(|(at, number, _)| (*at, *number));
    timeline.reverse();
    timeline
}

/// Neighbours of each peer if the plan says them.
pub(super) fn fixed(plan: &Plan, rng: &mut StdRng) -> Vec<Vec<u32>> {
    let mut fixed = vec![Vec::new(); plan.peers.len()];
    if let Topology::Random { links } = plan.topology {
        for number in 1..plan.peers.len() as u32 {
            for _ in 0..links {
                let other = rng.random_range(0..number);
                fixed[number as usize].push(other);
                fixed[other as usize].push(number);
            }
        }
    }
    for neighbours in &mut fixed {
        neighbours.sort_unstable();
        neighbours.dedup();
    }
    fixed
}
