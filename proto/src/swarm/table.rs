//! Who is in which swarm, with what, and until when.
//!
//! Every operation costs O(log n), or that for each member it returns. A membership lasts one
//! [`SwarmConfig::ttl`] after the last announce; the shell sleeps until [`SwarmTable::deadline`]
//! and calls [`SwarmTable::expire`].
//!
//! Not here: introductions ([`super::Introducer`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::index;
use rand::{Rng, SeedableRng};

use crate::id::{PublicKey, SwarmId};
use crate::limits::{PEERS_PER_ANSWER, SWARMS_PER_PEER};
use crate::wire::{Member, MemberState};

/// What an operator may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwarmConfig {
    /// How long a membership lasts without a further announce.
    pub ttl: Duration,
    /// In how many swarms one peer may be.
    pub swarms_per_peer: usize,
    /// How many memberships there may be in all; one takes about 300 bytes.
    pub memberships: usize,
}

impl Default for SwarmConfig {
    /// Three minutes, [`SWARMS_PER_PEER`], and two million memberships (about 600 MB).
    fn default() -> Self {
        SwarmConfig {
            ttl: Duration::from_secs(180),
            swarms_per_peer: SWARMS_PER_PEER,
            memberships: 2_000_000,
        }
    }
}

/// What an announce led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceOutcome {
    /// The peer was not in the swarm before and is now.
    pub newcomer: bool,
    /// The peer was in the swarm before, with another state.
    pub changed: bool,
    /// A cap was reached: the peer was not, and is not, in the swarm.
    pub refused: bool,
    /// Seeds in the swarm, the peer itself included.
    pub seeds: u32,
    /// Leeches in the swarm, the peer itself included.
    pub leeches: u32,
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

    /// Takes `peer` into `swarm`, or renews its membership and its state.
    pub fn announce(
        &mut self,
        now: Instant,
        swarm: SwarmId,
        peer: PublicKey,
        state: MemberState,
    ) -> AnnounceOutcome {
        let before = self.remove(swarm, peer);
        let refused = before.is_none() && !self.has_room_for(&peer);
        if !refused {
            self.insert(now + self.config.ttl, swarm, peer, state);
        }
        let (seeds, leeches) = self.counts(swarm);
        AnnounceOutcome {
            newcomer: before.is_none() && !refused,
            changed: before.is_some_and(|before| before != state),
            refused,
            seeds,
            leeches,
        }
    }

    /// At most `n` and at most [`PEERS_PER_ANSWER`] members other than `exclude`, picked at random.
    /// A seed has no use for seeds, so none are picked for one.
    pub fn sample(
        &mut self,
        swarm: SwarmId,
        exclude: &PublicKey,
        for_state: MemberState,
        n: usize,
    ) -> Vec<Member> {
        let n = n.min(PEERS_PER_ANSWER);
        match self.swarms.get(&swarm) {
            Some(swarm) => swarm.pick(&mut self.rng, for_state, exclude, n),
            None => Vec::new(),
        }
    }

    /// At most `max` members to whom news about `exclude` matters, picked at random: all others,
    /// or only the leeches when `exclude` is a seed.
    pub fn members_to_tell(
        &mut self,
        swarm: SwarmId,
        exclude: &PublicKey,
        max: usize,
    ) -> Vec<PublicKey> {
        let Some(swarm) = self.swarms.get(&swarm) else {
            return Vec::new();
        };
        let state = swarm
            .members
            .get(exclude)
            .map_or(MemberState::Leech, |slot| slot.state);
        let picked = swarm.pick(&mut self.rng, state, exclude, max);
        picked.into_iter().map(|member| member.peer).collect()
    }

    /// Ends one membership; whether there was one.
    pub fn leave(&mut self, swarm: SwarmId, peer: PublicKey) -> bool {
        self.remove(swarm, peer).is_some()
    }

    /// Ends all memberships of `peer`. For each: the swarm, and at most [`PEERS_PER_ANSWER`]
    /// members to tell.
    pub fn disconnect(&mut self, peer: PublicKey) -> Vec<(SwarmId, Vec<PublicKey>)> {
        let swarms = self.peers.get(&peer).cloned().unwrap_or_default();
        let mut left = Vec::with_capacity(swarms.len());
        for swarm in swarms {
            left.push((swarm, self.members_to_tell(swarm, &peer, PEERS_PER_ANSWER)));
            self.remove(swarm, peer);
        }
        left
    }

    /// Ends every membership whose time is up at `now`, and names them.
    pub fn expire(&mut self, now: Instant) -> Vec<(SwarmId, PublicKey)> {
        let mut expired = Vec::new();
        while let Some(&(at, swarm, peer)) = self.expiries.first()
            && at <= now
        {
            self.remove(swarm, peer);
            expired.push((swarm, peer));
        }
        expired
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

    fn insert(&mut self, expires: Instant, swarm: SwarmId, peer: PublicKey, state: MemberState) {
        self.swarms
            .entry(swarm)
            .or_default()
            .insert(peer, state, expires);
        self.peers.entry(peer).or_default().insert(swarm);
        self.expiries.insert((expires, swarm, peer));
    }

    /// Takes a membership out of all three indexes and returns the state it had.
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

/// One swarm. Each member is in `members` and in the pool of its state.
#[derive(Debug, Default)]
struct Swarm {
    members: BTreeMap<PublicKey, Slot>,
    /// Leeches and seeds, by [`MemberState`]; vectors, so that a random pick is an index.
    pools: [Vec<PublicKey>; 2],
}

#[derive(Debug)]
struct Slot {
    state: MemberState,
    expires: Instant,
    /// Where in its pool the member stands.
    position: usize,
}

impl Swarm {
    fn insert(&mut self, peer: PublicKey, state: MemberState, expires: Instant) {
        let pool = &mut self.pools[state as usize];
        self.members.insert(
            peer,
            Slot {
                state,
                expires,
                position: pool.len(),
            },
        );
        pool.push(peer);
    }

    fn remove(&mut self, peer: &PublicKey) -> Option<Slot> {
        let slot = self.members.remove(peer)?;
        let pool = &mut self.pools[slot.state as usize];
        pool.swap_remove(slot.position);
        // The last of the pool now stands where the removed one stood.
        if let Some(moved) = pool
            .get(slot.position)
            .and_then(|peer| self.members.get_mut(peer))
        {
            moved.position = slot.position;
        }
        Some(slot)
    }

    fn pool(&self, state: MemberState) -> &[PublicKey] {
        &self.pools[state as usize]
    }

    fn counts(&self) -> (u32, u32) {
        let count = |state| u32::try_from(self.pool(state).len()).unwrap_or(u32::MAX);
        (count(MemberState::Seed), count(MemberState::Leech))
    }

    /// At most `n` members that matter to a peer in state `audience`, without `exclude`, in random
    /// order.
    fn pick(
        &self,
        rng: &mut impl Rng,
        audience: MemberState,
        exclude: &PublicKey,
        n: usize,
    ) -> Vec<Member> {
        let leeches = self.pool(MemberState::Leech);
        let seeds = match audience {
            MemberState::Leech => self.pool(MemberState::Seed),
            MemberState::Seed => &[],
        };
        let total = leeches.len() + seeds.len();
        // One more than asked for: `exclude` may be among them.
        let indexes = index::sample(rng, total, n.saturating_add(1).min(total));
        let member = |index: usize| match index.checked_sub(leeches.len()) {
            None => Member {
                peer: leeches[index],
                state: MemberState::Leech,
            },
            Some(index) => Member {
                peer: seeds[index],
                state: MemberState::Seed,
            },
        };
        indexes
            .iter()
            .map(member)
            .filter(|member| member.peer != *exclude)
            .take(n)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use MemberState::{Leech, Seed};

    const SWARM: SwarmId = SwarmId([7; 32]);
    const TTL: Duration = Duration::from_secs(60);

    #[test]
    fn only_the_first_announce_makes_a_newcomer() {
        let (mut table, now) = (table(), Instant::now());
        let first = table.announce(now, SWARM, peer(1), Leech);
        assert!(first.newcomer && !first.changed && !first.refused);
        let again = table.announce(now, SWARM, peer(1), Leech);
        assert!(!again.newcomer && !again.changed);
        let done = table.announce(now, SWARM, peer(1), Seed);
        assert!(!done.newcomer && done.changed);
        assert_eq!((done.seeds, done.leeches), (1, 0));
    }

    #[test]
    fn a_membership_ends_one_ttl_after_the_last_announce() {
        let (mut table, start) = (table(), Instant::now());
        table.announce(start, SWARM, peer(1), Leech);
        table.announce(start + TTL / 2, SWARM, peer(1), Leech);
        assert_eq!(table.deadline(), Some(start + TTL / 2 + TTL));
        assert_eq!(table.expire(start + TTL), []);
        assert_eq!(table.expire(start + TTL / 2 + TTL), [(SWARM, peer(1))]);
        assert_eq!((table.deadline(), table.swarm_count()), (None, 0));
    }

    #[test]
    fn seeds_are_never_shown_to_seeds() {
        let (mut table, now) = (table(), Instant::now());
        for n in 0..20 {
            table.announce(now, SWARM, peer(n), if n % 2 == 0 { Seed } else { Leech });
        }
        let sample = table.sample(SWARM, &peer(0), Seed, 50);
        assert_eq!(sample.len(), 10);
        assert!(sample.iter().all(|member| member.state == Leech));
        assert_eq!(table.sample(SWARM, &peer(1), Leech, 50).len(), 19);
        assert_eq!(table.members_to_tell(SWARM, &peer(0), 50).len(), 10);
        assert_eq!(table.members_to_tell(SWARM, &peer(1), 50).len(), 19);
    }

    #[test]
    fn a_sample_is_capped_whatever_is_asked_for() {
        let (mut table, now) = (table(), Instant::now());
        for n in 0..200 {
            table.announce(now, SWARM, peer(n), Leech);
        }
        assert_eq!(
            table.sample(SWARM, &peer(0), Leech, usize::MAX).len(),
            PEERS_PER_ANSWER
        );
        assert_eq!(table.sample(SWARM, &peer(0), Leech, 3).len(), 3);
        assert_eq!(table.sample(SWARM, &peer(0), Leech, 0).len(), 0);
    }

    #[test]
    fn every_member_is_picked_about_equally_often() {
        let (mut table, now) = (table(), Instant::now());
        for n in 0..10 {
            table.announce(now, SWARM, peer(n), if n < 5 { Seed } else { Leech });
        }
        let mut picked = BTreeMap::<PublicKey, u32>::new();
        for _ in 0..3000 {
            for member in table.sample(SWARM, &peer(0), Leech, 3) {
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
                table.announce(now, SWARM, peer(n), Leech);
            }
            table.sample(SWARM, &peer(0), Leech, 10)
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
                    .announce(now, SwarmId([n; 32]), peer(1), Leech)
                    .refused
            );
        }
        let third = table.announce(now, SWARM, peer(1), Leech);
        assert!(third.refused && !third.newcomer && !table.contains(SWARM, peer(1)));
        assert!(
            !table.announce(now, SwarmId([0; 32]), peer(1), Seed).refused,
            "a renewal"
        );
        table.leave(SwarmId([0; 32]), peer(1));
        assert!(!table.announce(now, SWARM, peer(1), Leech).refused);
    }

    #[test]
    fn the_table_as_a_whole_is_capped() {
        let config = SwarmConfig {
            memberships: 3,
            ..SwarmConfig::default()
        };
        let (mut table, now) = (SwarmTable::new(config, 1), Instant::now());
        let refused = (0..5).filter(|n| table.announce(now, SWARM, peer(*n), Leech).refused);
        assert_eq!(refused.count(), 2);
        assert_eq!(table.membership_count(), 3);
    }

    #[test]
    fn a_disconnected_peer_leaves_every_swarm_and_the_others_are_told() {
        let (mut table, now) = (table(), Instant::now());
        let other = SwarmId([8; 32]);
        table.announce(now, SWARM, peer(1), Leech);
        table.announce(now, SWARM, peer(2), Leech);
        table.announce(now, other, peer(1), Seed);
        table.announce(now, other, peer(3), Seed);
        let told = table.disconnect(peer(1));
        assert_eq!(told, [(SWARM, vec![peer(2)]), (other, vec![])]);
        assert!(!table.contains(SWARM, peer(1)) && !table.contains(other, peer(1)));
        assert_eq!(table.disconnect(peer(1)), []);
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
                        let outcome = table.announce(now, swarm, who, state);
                        let before = model.insert((swarm, who), (state, now + TTL));
                        prop_assert_eq!(outcome.newcomer, before.is_none());
                    }
                    2 => {
                        let was_in = model.remove(&(swarm, who)).is_some();
                        prop_assert_eq!(table.leave(swarm, who), was_in);
                    }
                    3 => {
                        let swarms = model.keys().filter(|(_, peer)| *peer == who).count();
                        prop_assert_eq!(table.disconnect(who).len(), swarms);
                        model.retain(|(_, peer), _| *peer != who);
                    }
                    _ => {
                        now += Duration::from_secs(wait);
                        let all = model.len();
                        model.retain(|_, (_, expires)| *expires > now);
                        prop_assert_eq!(table.expire(now).len(), all - model.len());
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
        for audience in [Leech, Seed] {
            let mut sample = table.sample(swarm, &who, audience, 50);
            sample.sort_by_key(|member| member.peer);
            let others = model.iter().filter(|((s, p), _)| *s == swarm && *p != who);
            let useful = others.filter(|(_, (state, _))| audience == Leech || *state == Leech);
            let expected: Vec<Member> = useful
                .map(|((_, peer), (state, _))| Member {
                    peer: *peer,
                    state: *state,
                })
                .collect();
            prop_assert_eq!(sample, expected);
        }
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

    fn peer(n: u16) -> PublicKey {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        PublicKey(key)
    }
}
