//! How often peers may be introduced, so that nobody is made to send, or to receive, a flood.
//!
//! Entries end by themselves with time and outlive the connection of their peer, so that
//! connecting again buys nothing. Time never runs backwards between calls.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::id::PublicKey;

/// One pair is introduced at most once in this time: about what one round of checks takes.
pub const PAIR_INTERVAL: Duration = Duration::from_secs(2);

/// How many introductions one peer takes part in during one [`PEER_WINDOW`]. Eight swarms' first
/// answers of 32 peers fit.
pub const PEER_INTRODUCTIONS: u32 = 256;

/// Starts with the first introduction of a peer; the next window with the first after its end.
pub const PEER_WINDOW: Duration = Duration::from_secs(60);

/// Why there is no introduction now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OverQuota {
    /// This pair was introduced less than [`PAIR_INTERVAL`] ago.
    Pair {
        /// How long to wait.
        wait: Duration,
    },
    /// This peer has used up its [`PEER_INTRODUCTIONS`].
    Peer {
        /// Which of the two.
        peer: PublicKey,
        /// How long to wait.
        wait: Duration,
    },
}

type Pair = (PublicKey, PublicKey);

/// The introduction of a pair.
#[derive(Clone, Copy, Debug)]
struct Charge {
    at: Instant,
    /// One of the two has moved since.
    may_repeat: bool,
    /// That was made use of.
    is_repeated: bool,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    start: Instant,
    count: u32,
}

/// The introductions of the last minute, as far as they count.
#[derive(Debug, Default)]
pub(super) struct Quota {
    pairs: BTreeMap<Pair, Charge>,
    pairs_by_age: VecDeque<(Instant, Pair)>,
    windows: BTreeMap<PublicKey, Window>,
    windows_by_age: VecDeque<(Instant, PublicKey)>,
}

impl Quota {
    /// Counts an introduction of `a` and `b`, or counts nothing and says what is used up.
    pub(super) fn try_charge(
        &mut self,
        now: Instant,
        a: PublicKey,
        b: PublicKey,
    ) -> Result<(), OverQuota> {
        self.drop_old(now);
        let pair = (a.min(b), a.max(b));
        let charged = self.pairs.get(&pair).copied();
        if let Some(charge) = charged.filter(|charge| !charge.may_repeat) {
            return Err(OverQuota::Pair {
                wait: (charge.at + PAIR_INTERVAL).duration_since(now),
            });
        }
        for peer in [a, b] {
            if let Some(window) = self.windows.get(&peer)
                && window.count >= PEER_INTRODUCTIONS
            {
                let wait = (window.start + PEER_WINDOW).duration_since(now);
                return Err(OverQuota::Peer { peer, wait });
            }
        }
        self.charge(now, pair);
        self.count(now, a);
        self.count(now, b);
        Ok(())
    }

    fn charge(&mut self, now: Instant, pair: Pair) {
        if let Some(charge) = self.pairs.get_mut(&pair) {
            (charge.may_repeat, charge.is_repeated) = (false, true);
            return;
        }
        let charge = Charge {
            at: now,
            may_repeat: false,
            is_repeated: false,
        };
        self.pairs.insert(pair, charge);
        self.pairs_by_age.push_back((now, pair));
    }

    /// The pairs of a peer may be introduced once more before their time: it is at another address or
    /// has connected anew, so that what the others were told is of no use.
    pub(super) fn forget_pairs(&mut self, peer: PublicKey) {
        let its = |(a, b): &Pair| *a == peer || *b == peer;
        let pairs = self.pairs.iter_mut().filter(|(pair, _)| its(pair));
        pairs.for_each(|(_, charge)| charge.may_repeat = !charge.is_repeated);
    }

    fn count(&mut self, now: Instant, peer: PublicKey) {
        let window = self.windows.entry(peer).or_insert_with(|| {
            self.windows_by_age.push_back((now, peer));
            Window {
                start: now,
                count: 0,
            }
        });
        window.count += 1;
    }

    fn drop_old(&mut self, now: Instant) {
        while let Some((at, pair)) = self.pairs_by_age.front()
            && *at + PAIR_INTERVAL <= now
        {
            self.pairs.remove(pair);
            self.pairs_by_age.pop_front();
        }
        while let Some((start, peer)) = self.windows_by_age.front()
            && *start + PEER_WINDOW <= now
        {
            self.windows.remove(peer);
            self.windows_by_age.pop_front();
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.windows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PublicKey = PublicKey([1; 32]);
    const B: PublicKey = PublicKey([2; 32]);

    #[test]
    fn a_pair_waits_two_seconds_whoever_asks() {
        let (mut quota, start) = (Quota::default(), Instant::now());
        assert_eq!(quota.try_charge(start, A, B), Ok(()));
        let later = start + Duration::from_millis(1500);
        let over = OverQuota::Pair {
            wait: Duration::from_millis(500),
        };
        assert_eq!(quota.try_charge(later, B, A), Err(over));
        assert_eq!(quota.try_charge(start + PAIR_INTERVAL, B, A), Ok(()));
    }

    #[test]
    fn a_peer_that_moved_is_introduced_once_more_before_its_time() {
        let (mut quota, start) = (Quota::default(), Instant::now());
        assert_eq!(quota.try_charge(start, A, B), Ok(()));
        quota.forget_pairs(A);
        assert_eq!(quota.try_charge(start, A, B), Ok(()));
        for _ in 0..2 {
            quota.forget_pairs(B);
            let over = quota.try_charge(start, A, B);
            assert!(matches!(over, Err(OverQuota::Pair { .. })), "{over:?}");
        }
        let later = start + PAIR_INTERVAL;
        assert_eq!(quota.try_charge(later, A, B), Ok(()));
    }

    #[test]
    fn a_peer_takes_part_in_256_introductions_a_minute_on_either_side() {
        let (mut quota, start) = (Quota::default(), Instant::now());
        for n in 0..PEER_INTRODUCTIONS {
            let (a, b) = if n % 2 == 0 {
                (A, other(n))
            } else {
                (other(n), A)
            };
            assert_eq!(quota.try_charge(start, a, b), Ok(()));
        }
        let over = OverQuota::Peer {
            peer: A,
            wait: PEER_WINDOW,
        };
        assert_eq!(quota.try_charge(start, A, B), Err(over));
        assert_eq!(quota.try_charge(start, B, A), Err(over));
        assert_eq!(quota.try_charge(start, B, other(0)), Ok(()), "others go on");
        assert_eq!(quota.try_charge(start + PEER_WINDOW, A, B), Ok(()));
    }

    #[test]
    fn nothing_is_kept_longer_than_it_counts() {
        let (mut quota, start) = (Quota::default(), Instant::now());
        for n in 0..1000 {
            let _ = quota.try_charge(start, other(n), other(n + 5000));
        }
        quota.drop_old(start + PEER_WINDOW);
        assert!(quota.is_empty());
    }

    fn other(n: u32) -> PublicKey {
        let mut key = [3; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        PublicKey(key)
    }
}
