//! Who is in which swarm, with what, and until when.
//!
//! Every operation costs O(log n) for each member that it is about or returns, and what
//! [`super::Overlay`] takes to say who is whose neighbour. A membership lasts one
//! [`SwarmConfig::ttl`] after the last announce; the shell sleeps until [`SwarmTable::deadline`]
//! and calls [`SwarmTable::expire`].
//!
//! Members hear of their neighbours only. A seed has no use for seeds, so it does not hear of them.
//!
//! Not here: introductions ([`super::Introducer`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::overlay::{Overlay, Shape, Sited};
use super::site::Site;
use crate::id::{PublicKey, SwarmId};
use crate::limits::{PEERS_PER_ANSWER, SWARMS_PER_PEER};
use crate::wire::{FromTracker, Member, MemberState};

/// What an operator may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwarmConfig {
    /// How long a membership lasts without a further announce.
    pub ttl: Duration,
    /// In how many swarms one peer may be.
    pub swarms_per_peer: usize,
    /// How many memberships there may be in all; one takes about 300 bytes, in a large swarm twice
    /// or three times that.
    pub memberships: usize,
    /// How swarms are wired.
    pub shape: Shape,
}

impl Default for SwarmConfig {
    /// Three minutes, [`SWARMS_PER_PEER`], two million memberships (600 MB, or up to 1.8 GB if all
    /// swarms are large), and the usual shape.
    fn default() -> Self {
        SwarmConfig {
            ttl: Duration::from_secs(180),
            swarms_per_peer: SWARMS_PER_PEER,
            memberships: 2_000_000,
            shape: Shape::default(),
        }
    }
}

/// What is to be told to whom. Of the one whose announce or departure brings it, that is at most two
/// messages for each edge that changes, and so bounded by [`Shape::degree`], or in a small swarm by how
/// many members that may have.
pub type News = Vec<(PublicKey, FromTracker)>;

/// What an announce led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceOutcome {
    /// A cap was reached: the peer was not, and is not, in the swarm.
    pub refused: bool,
    /// Seeds in the swarm, the peer itself included.
    pub seeds: u32,
    /// Leeches in the swarm, the peer itself included.
    pub leeches: u32,
    /// What others are to be told.
    pub news: News,
}

/// All swarms of a tracker.
#[derive(Debug)]
pub struct SwarmTable {
    config: SwarmConfig,
    rng: StdRng,
    swarms: BTreeMap<SwarmId, Swarm>,
    peers: BTreeMap<PublicKey, BTreeSet<SwarmId>>,
    /// One entry per membership.
    expiries: BTreeSet<(Instant, SwarmId, PublicKey)>,
}

impl SwarmTable {
    /// An empty table. The seed decides which members a sample picks, and nothing secret.
    pub fn new(config: SwarmConfig, seed: u64) -> SwarmTable {
        SwarmTable {
            config,
            rng: StdRng::seed_from_u64(seed),
            swarms: BTreeMap::new(),
            peers: BTreeMap::new(),
            expiries: BTreeSet::new(),
        }
    }

    /// Takes `peer`, which is at `site`, into `swarm`, or renews its membership and its state.
    pub fn announce(
        &mut self,
        now: Instant,
        swarm: SwarmId,
        (peer, site): (PublicKey, Site),
        state: MemberState,
    ) -> AnnounceOutcome {
        let before = self.remove(swarm, peer);
        let refused = before.is_none() && !self.has_room_for(&peer);
        let changed = before.is_some_and(|before| before != state);
        let mut news = News::new();
        if !refused {
            let slot = Slot {
                state,
                site,
                expires: now + self.config.ttl,
            };
            self.insert(swarm, peer, slot);
            news = self.news_of(swarm, peer, (before.is_none(), changed));
        }
        let (seeds, leeches) = self.counts(swarm);
        AnnounceOutcome {
            refused,
            seeds,
            leeches,
            news,
        }
    }

    /// At most `n` and at most [`PEERS_PER_ANSWER`] of the members that `peer`, which is one, should be
    /// connected to, in random order. If they are fewer than that, they are all.
    pub fn sample(&mut self, swarm: SwarmId, peer: &PublicKey, n: usize) -> Vec<Member> {
        let Some(swarm) = self.swarms.get(&swarm) else {
            return Vec::new();
        };
        let n = n.min(PEERS_PER_ANSWER);
        let mut members = swarm.concerned(peer);
        members.shuffle(&mut self.rng);
        if members.len() > n {
            // A leech that is left out asks for us when it hears of us, a seed does not.
            members.sort_by_key(|member| member.state == MemberState::Leech);
            members.truncate(n);
            members.shuffle(&mut self.rng);
        }
        members
    }

    /// Ends one membership, if there is one. What others are to be told.
    pub fn leave(&mut self, swarm: SwarmId, peer: PublicKey) -> News {
        let mut news = News::new();
        self.depart(swarm, peer, &mut news);
        news
    }

    /// Ends all memberships of `peer`. What others are to be told.
    pub fn disconnect(&mut self, peer: PublicKey) -> News {
        let mut news = News::new();
        for swarm in self.peers.get(&peer).cloned().unwrap_or_default() {
            self.depart(swarm, peer, &mut news);
        }
        news
    }

    /// Ends every membership whose time is up at `now`. What others are to be told.
    pub fn expire(&mut self, now: Instant) -> News {
        let mut news = News::new();
        while let Some(&(at, swarm, peer)) = self.expiries.first()
            && at <= now
        {
            self.depart(swarm, peer, &mut news);
        }
        news
    }

    /// When the next membership ends, if there is one.
    pub fn deadline(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _, _)| *at)
    }

    /// Whether `peer` is in `swarm`.
    pub fn contains(&self, swarm: SwarmId, peer: PublicKey) -> bool {
        self.state(swarm, peer).is_some()
    }

    /// What `peer` last said it has, when it is in `swarm`.
    pub fn state(&self, swarm: SwarmId, peer: PublicKey) -> Option<MemberState> {
        Some(self.swarms.get(&swarm)?.members.get(&peer)?.state)
    }

    /// Seeds and leeches in `swarm`.
    pub fn counts(&self, swarm: SwarmId) -> (u32, u32) {
        self.swarms.get(&swarm).map_or((0, 0), Swarm::counts)
    }

    /// How many swarms have a member.
    pub fn swarm_count(&self) -> usize {
        self.swarms.len()
    }

    /// How many memberships there are in all.
    pub fn membership_count(&self) -> usize {
        self.expiries.len()
    }

    fn has_room_for(&self, peer: &PublicKey) -> bool {
        let swarms = self.peers.get(peer).map_or(0, BTreeSet::len);
        swarms < self.config.swarms_per_peer && self.expiries.len() < self.config.memberships
    }

    fn insert(&mut self, swarm: SwarmId, peer: PublicKey, slot: Slot) {
        self.expiries.insert((slot.expires, swarm, peer));
        self.peers.entry(peer).or_default().insert(swarm);
        let shape = self.config.shape;
        let swarm = self.swarms.entry(swarm);
        swarm
            .or_insert_with(|| Swarm::new(shape))
            .insert(peer, slot);
    }

    /// What others are to be told of a member that is new, has changed or is still there.
    fn news_of(
        &mut self,
        id: SwarmId,
        peer: PublicKey,
        (is_new, has_changed): (bool, bool),
    ) -> News {
        let Some(swarm) = self.swarms.get_mut(&id) else {
            return News::new();
        };
        let Swarm {
            members, overlay, ..
        } = swarm;
        let site = members.get(&peer).map(Sited::site).unwrap_or_default();
        let pairs = match is_new {
            true => overlay.join(members, &peer, &mut self.rng),
            false => overlay.renew(&peer, site, &mut self.rng),
        };
        let mut news = swarm.introductions(id, &pairs);
        // Who has just come or asked is answered with all its neighbours.
        news.retain(|(to, _)| *to != peer);
        if has_changed {
            let known = pairs.iter().flat_map(|(a, b)| [*a, *b]);
            let known: BTreeSet<PublicKey> = known.collect();
            let told = swarm.concerned(&peer).into_iter().map(|member| member.peer);
            let told = told.filter(|to| !known.contains(to));
            news.extend(told.filter_map(|to| Some((to, swarm.joined(id, &peer)?))));
        }
        news
    }

    fn depart(&mut self, id: SwarmId, peer: PublicKey, news: &mut News) {
        let Some(state) = self.remove(id, peer) else {
            return;
        };
        let Some(swarm) = self.swarms.get_mut(&id) else {
            return;
        };
        let (former, pairs) = swarm.overlay.leave(&swarm.members, &peer, &mut self.rng);
        let told = former.into_iter().filter(|to| swarm.concerns(state, to));
        let left = told.map(|to| (to, FromTracker::Left { swarm: id, peer }));
        news.extend(left);
        news.extend(swarm.introductions(id, &pairs));
    }

    /// Takes a membership out of all three indexes and returns the state it had. The overlay still
    /// has it.
    fn remove(&mut self, swarm: SwarmId, peer: PublicKey) -> Option<MemberState> {
        let members = self.swarms.get_mut(&swarm)?;
        let slot = members.remove(&peer)?;
        if members.members.is_empty() {
            self.swarms.remove(&swarm);
        }
        if let Some(swarms) = self.peers.get_mut(&peer) {
            swarms.remove(&swarm);
            if swarms.is_empty() {
                self.peers.remove(&peer);
            }
        }
        self.expiries.remove(&(slot.expires, swarm, peer));
        Some(slot.state)
    }
}

/// One swarm.
#[derive(Debug)]
struct Swarm {
    members: BTreeMap<PublicKey, Slot>,
    /// Leeches and seeds, by [`MemberState`].
    counts: [u32; 2],
    overlay: Overlay<PublicKey>,
}

#[derive(Debug)]
struct Slot {
    state: MemberState,
    site: Site,
    expires: Instant,
}

impl Sited for Slot {
    fn site(&self) -> Site {
        self.site
    }
}

impl Swarm {
    fn new(shape: Shape) -> Swarm {
        Swarm {
            members: BTreeMap::new(),
            counts: [0; 2],
            overlay: Overlay::new(shape),
        }
    }

    fn insert(&mut self, peer: PublicKey, slot: Slot) {
        self.counts[slot.state as usize] += 1;
        self.members.insert(peer, slot);
    }

    fn remove(&mut self, peer: &PublicKey) -> Option<Slot> {
        let slot = self.members.remove(peer)?;
        self.counts[slot.state as usize] -= 1;
        Some(slot)
    }

    fn counts(&self) -> (u32, u32) {
        let [leeches, seeds] = self.counts;
        (seeds, leeches)
    }

    /// The neighbours of a member that matter to it, and that it matters to.
    fn concerned(&self, peer: &PublicKey) -> Vec<Member> {
        let Some(state) = self.members.get(peer).map(|slot| slot.state) else {
            return Vec::new();
        };
        let neighbours = self.overlay.neighbours(&self.members, peer).into_iter();
        let members = neighbours.filter_map(|peer| self.member(&peer));
        members.filter(|it| matter(state, it.state)).collect()
    }

    /// Whether it matters to a member what one with that state does.
    fn concerns(&self, state: MemberState, to: &PublicKey) -> bool {
        let slot = self.members.get(to);
        slot.is_some_and(|slot| matter(state, slot.state))
    }

    /// Tells both of each pair of the other.
    fn introductions(&self, id: SwarmId, pairs: &[(PublicKey, PublicKey)]) -> News {
        let both = pairs.iter().flat_map(|(a, b)| [(a, b), (b, a)]);
        let news = both.filter_map(|(to, of)| {
            let state = self.members.get(of)?.state;
            Some((*to, self.joined(id, of)?)).filter(|_| self.concerns(state, to))
        });
        news.collect()
    }

    fn joined(&self, swarm: SwarmId, of: &PublicKey) -> Option<FromTracker> {
        let member = self.member(of)?;
        Some(FromTracker::Joined { swarm, member })
    }

    fn member(&self, peer: &PublicKey) -> Option<Member> {
        let state = self.members.get(peer)?.state;
        Some(Member { peer: *peer, state })
    }
}

/// Whether two with these states have any use for each other.
fn matter(one: MemberState, other: MemberState) -> bool {
    [one, other].contains(&MemberState::Leech)
}

#[cfg(test)]
mod tests;
