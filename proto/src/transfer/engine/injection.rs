//! A seed's suggestions: every chunk to one peer before any to a second.
//!
//! A swarm can be no faster than its seed brings every chunk into it once, so a seed that sends a
//! chunk twice before that costs everybody time. Peers choose what to ask for and cannot see what
//! peers choose who are not their neighbours; the seed can. It suggests chunks that it has sent to
//! nobody and that nobody else is known to have, each to one peer, and in an order of its own, so
//! that several seeds do not suggest the same. Suggestions bind nobody (BEP 6, Suggest Piece).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::Rng;

use crate::id::PublicKey;

/// The suggestions of a peer that takes up none of them for so long are made to others. A seed has
/// dozens of neighbours, and each has its turn seldom: made to another too early, a chunk is sent twice.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a seed has suggested, and what it will.
#[derive(Debug)]
pub(super) struct Injection {
    len: u32,
    /// The n-th chunk suggested is `(first + n step) mod len`; `step` and `len` have no common
    /// divisor, so that each comes once.
    first: u32,
    step: u32,
    suggested: u32,
    /// Suggestions that came to nothing.
    returned: VecDeque<u32>,
    open: BTreeMap<PublicKey, BTreeMap<u32, Instant>>,
    /// Peers that took no heed: they get no more until they ask for something.
    heedless: BTreeSet<PublicKey>,
    /// Peers that have asked for something.
    asked: BTreeSet<PublicKey>,
}

impl Injection {
    /// Nothing of `len` chunks is suggested yet.
    pub(super) fn new(len: u32, rng: &mut impl Rng) -> Injection {
        let below = len.max(1);
        let start = rng.random_range(0..below);
        let mut steps = (start..below).chain(0..start);
        Injection {
            len,
            first: rng.random_range(0..below),
            step: steps.find(|step| divisor(*step, below) == 1).unwrap_or(1),
            suggested: 0,
            returned: VecDeque::new(),
            open: BTreeMap::new(),
            heedless: BTreeSet::new(),
            asked: BTreeSet::new(),
        }
    }

    /// Whether the peer has asked for anything.
    pub(super) fn has_asked(&self, peer: &PublicKey) -> bool {
        self.asked.contains(peer)
    }

    /// Suggestions of this peer's that are open.
    pub(super) fn open_of(&self, peer: &PublicKey) -> usize {
        self.open.get(peer).map_or(0, BTreeMap::len)
    }

    /// Chunks that were not suggested yet.
    pub(super) fn left(&self) -> usize {
        (self.len - self.suggested) as usize + self.returned.len()
    }

    /// Up to `count` chunks for a peer, ascending; `is_fit` tells whether the peer lacks a chunk that
    /// nobody else is known to have.
    pub(super) fn suggest(
        &mut self,
        now: Instant,
        peer: PublicKey,
        count: usize,
        is_fit: impl Fn(u32) -> bool,
    ) -> Vec<u32> {
        let mut chunks = Vec::new();
        let count = if self.heedless.contains(&peer) {
            0
        } else {
            count
        };
        while chunks.len() < count
            && let Some(chunk) = self.next()
        {
            if is_fit(chunk) {
                chunks.push(chunk);
            }
        }
        let open = self.open.entry(peer).or_default();
        open.extend(chunks.iter().map(|chunk| (*chunk, now + PATIENCE)));
        chunks.sort_unstable();
        chunks
    }

    /// The peer has asked for the chunk. It has time anew for what else was suggested to it.
    pub(super) fn taken(&mut self, now: Instant, peer: &PublicKey, chunk: u32) {
        self.heedless.remove(peer);
        self.asked.insert(*peer);
        if let Some(open) = self.open.get_mut(peer) {
            open.remove(&chunk);
            open.values_mut().for_each(|until| *until = now + PATIENCE);
        }
    }

    /// The peer is gone.
    pub(super) fn part(&mut self, peer: &PublicKey) {
        self.heedless.remove(peer);
        self.asked.remove(peer);
        let open = self.open.remove(peer).unwrap_or_default();
        self.returned.extend(open.into_keys());
    }

    /// Takes back what was not taken up. Who has asked for something and `waits` for it has time: it
    /// asks for the next when that comes.
    pub(super) fn expire(&mut self, now: Instant, waits: impl Fn(&PublicKey) -> bool) {
        for (peer, open) in &mut self.open {
            if open.values().all(|until| *until > now) {
                continue;
            }
            if waits(peer) {
                open.values_mut().for_each(|until| *until = now + PATIENCE);
                continue;
            }
            let stale = open.extract_if(.., |_, until| *until <= now);
            let before = self.returned.len();
            self.returned.extend(stale.map(|(chunk, _)| chunk));
            if self.returned.len() > before {
                self.heedless.insert(*peer);
            }
        }
    }

    /// When [`Self::expire`] will have something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let open = self.open.values().flat_map(BTreeMap::values);
        open.min().copied()
    }

    fn next(&mut self) -> Option<u32> {
        if let Some(chunk) = self.returned.pop_front() {
            return Some(chunk);
        }
        if self.suggested == self.len {
            return None;
        }
        let n = u64::from(self.suggested) * u64::from(self.step) + u64::from(self.first);
        self.suggested += 1;
        // Below `len`, which fits.
        Some((n % u64::from(self.len)) as u32)
    }
}

/// The greatest common divisor.
fn divisor(mut a: u32, mut b: u32) -> u32 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn who_takes_its_time_keeps_what_was_suggested_to_it() {
        let mut injection = Injection::new(3, &mut StdRng::seed_from_u64(1));
        let (peer, now) = (PublicKey([1; 32]), Instant::now());
        let chunks = injection.suggest(now, peer, 2, |_| true);
        let left_after = |injection: &mut Injection, seconds| {
            injection.expire(now + Duration::from_secs(seconds), |_| false);
            injection.left()
        };
        assert_eq!(left_after(&mut injection, 8), 1);
        injection.taken(now + Duration::from_secs(8), &peer, chunks[0]);
        assert_eq!(left_after(&mut injection, 17), 1);
        assert_eq!(left_after(&mut injection, 18), 2, "silent for too long");
        let again = injection.suggest(now, PublicKey([2; 32]), 1, |_| true);
        assert_eq!(again, chunks[1..]);
    }
}
