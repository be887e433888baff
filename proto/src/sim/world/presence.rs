//! Who is there, and who is connected to whom.

use rand::Rng;
use rand::rngs::StdRng;

use super::super::peer::{Peer, What};
use super::super::plan::{Change, Fault, Member, Plan, Topology, nanos};
use super::super::queue::Nanos;
use super::World;
use crate::content::ChunkSet;
use crate::transfer;

impl World<'_> {
    /// Lets those come and go whose time it is. All come before the first of them is connected.
    pub(super) fn change(&mut self) {
        let (mut comers, mut pairs) = (Vec::new(), Vec::new());
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
        for peer in &comers {
            pairs.extend(self.come(*peer));
        }
        for peer in &comers {
            let neighbours = self.neighbours(*peer).into_iter();
            neighbours.for_each(|other| self.connect(*peer, other));
        }
        // Of those who have come only what is so in the end counts.
        let is_comer = |peer: &u32| comers.contains(peer);
        pairs.retain(|(a, b)| !is_comer(a) && !is_comer(b));
        self.connect_all(pairs);
    }

    /// Connects those of whom the tracker says so.
    fn connect_all(&mut self, pairs: Vec<(u32, u32)>) {
        if matches!(self.plan.topology, Topology::Tracker(_)) {
            pairs.into_iter().for_each(|(a, b)| self.connect(a, b));
        }
    }

    fn lose_everything(&mut self, number: u32) {
        let index = number as usize;
        self.kept[index] = ChunkSet::empty(self.plan.chunks);
        if self.gauge.done[index].take().is_some() {
            self.done -= 1;
        }
    }

    /// A daemon starts, with what it had. Returns who are neighbours since.
    fn come(&mut self, number: u32) -> Vec<(u32, u32)> {
        let index = number as usize;
        let fault = self.plan.peers[index].fault;
        let claimed = match fault {
            Fault::None => self.kept[index].clone(),
            Fault::Misleads => ChunkSet::empty(self.plan.chunks),
            // Who does wrong otherwise claims to have everything, so as to be asked.
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
        self.wakes.set(number, Some(self.now));
        self.sites.insert(number, self.plan.peers[index].site());
        self.overlay.join(&self.sites, &number, &mut self.rng)
    }

    /// Two hear of each other. At the beginning all are connected already.
    fn connect(&mut self, number: u32, other: u32) {
        let are_there = [number, other].map(|peer| self.peers[peer as usize].is_some());
        let Some(reach) = self.plan.reach(number, other) else {
            return;
        };
        let pair = (number.min(other), number.max(other));
        if are_there.contains(&false) || !self.connected.insert(pair) {
            return;
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

    fn neighbours(&self, number: u32) -> Vec<u32> {
        match self.plan.topology {
            Topology::Tracker(_) => self.overlay.neighbours(&self.sites, &number),
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
        self.sites.remove(&number);
        let (_, found) = self.overlay.leave(&self.sites, &number, &mut self.rng);
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
        self.connect_all(found);
    }

    /// Lets those go who leave once those who stay have everything between them.
    pub(super) fn dismiss(&mut self) {
        let leaves = |(number, member): (u32, &Member)| member.leaves_when_copied.then_some(number);
        let leavers: Vec<u32> = (0..).zip(&self.plan.peers).filter_map(leaves).collect();
        if leavers.is_empty() {
            return;
        }
        let mut copied = ChunkSet::empty(self.plan.chunks);
        let members = self.plan.peers.iter().zip(&self.peers);
        let stay = members.filter(|(member, _)| member.stays());
        let stay = stay.filter_map(|(_, peer)| peer.as_ref()?.have(&self.common));
        for chunk in stay.flat_map(ChunkSet::iter) {
            copied.insert(chunk);
        }
        if copied.is_full() {
            leavers.into_iter().for_each(|number| self.go(number));
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
    if let Topology::Random { links, core } = plan.topology {
        for number in 1..plan.peers.len() as u32 {
            for link in 0..links {
                let below = if link == 0 { core.max(1) } else { number };
                let other = rng.random_range(0..below.min(number));
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
