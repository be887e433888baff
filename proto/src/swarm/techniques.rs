//! Which techniques have found paths between two networks lately.
//!
//! What works depends on the two NATs, and both sides measure theirs. But measurements are of one
//! moment, and what is between the NATs shows in no measurement: a carrier's second NAT, a firewall, a
//! sequence that others disturb. So what came of each rendezvous counts for and against its technique,
//! for the pair of prefixes (IPv4 /24, IPv6 /56), and the next pair there is advised accordingly.
//!
//! A peer may say what it likes about its own rendezvous; what it can spoil is the order of techniques
//! between its own network and others, none of which leads past what `nat` allows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::wire::Technique;
use crate::wire::technique::TECHNIQUES;

/// How long an outcome counts: networks are rebuilt, and people come home.
const MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// Most pairs of networks remembered; one takes about 200 bytes, all of them 13 MB. The one that was
/// heard of least lately makes room.
const PAIRS: usize = 65_536;

/// What a success counts, what a failure, and how far they add up.
const SUCCESS: i8 = 2;
const FAILURE: i8 = -1;
const MOST: i8 = 10;

/// The networks of two peers, in order.
type Pair = (IpAddr, IpAddr);

/// Remembers what worked.
#[derive(Debug, Default)]
pub struct TechniqueMemory {
    pairs: BTreeMap<Pair, Entry>,
    by_age: BTreeSet<(Instant, Pair)>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    noted: Instant,
    scores: [i8; TECHNIQUES],
}

impl TechniqueMemory {
    /// Knows nothing yet.
    pub fn new() -> TechniqueMemory {
        TechniqueMemory::default()
    }

    /// A rendezvous of peers at these addresses came to this.
    pub fn note(
        &mut self,
        now: Instant,
        a: IpAddr,
        b: IpAddr,
        technique: Technique,
        success: bool,
    ) {
        self.forget(now);
        let pair = pair(a, b);
        let before = self.pairs.get(&pair).copied();
        let mut scores = before.map_or([0; TECHNIQUES], |entry| entry.scores);
        let counts = if success { SUCCESS } else { FAILURE };
        let score = &mut scores[technique as usize];
        *score = (*score + counts).clamp(-MOST, MOST);
        if let Some(before) = before {
            self.by_age.remove(&(before.noted, pair));
        } else if self.pairs.len() == PAIRS
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.pairs.remove(&oldest);
        }
        self.by_age.insert((now, pair));
        self.pairs.insert(pair, Entry { noted: now, scores });
    }

    /// The same techniques, which are [`crate::nat::possible`] between the two, with those first that
    /// have worked lately and those last that have not; `None` where nothing is known.
    pub fn order(
        &self,
        now: Instant,
        a: IpAddr,
        b: IpAddr,
        possible: impl Iterator<Item = Technique>,
    ) -> Option<Vec<Technique>> {
        let entry = self.pairs.get(&pair(a, b));
        let entry = entry.filter(|entry| now < entry.noted + MEMORY)?;
        let mut techniques: Vec<Technique> = possible.collect();
        techniques.sort_by_key(|technique| -entry.scores[*technique as usize]);
        Some(techniques)
    }

    fn forget(&mut self, now: Instant) {
        while let Some((noted, pair)) = self.by_age.first()
            && *noted + MEMORY <= now
        {
            self.pairs.remove(pair);
            self.by_age.pop_first();
        }
    }
}

fn pair(a: IpAddr, b: IpAddr) -> Pair {
    let (a, b) = (prefix(a), prefix(b));
    (a.min(b), a.max(b))
}

/// The network of an address, as far as such a thing shows: IPv4 /24, IPv6 /56.
pub(crate) fn prefix(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(ip) => {
            let bits = ip.to_bits() >> (128 - 56) << (128 - 56);
            Ipv6Addr::from_bits(bits).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use Technique::{Birthday, Checks, Prediction};

    use super::*;

    const A: &str = "203.0.113.7";
    const B: &str = "198.51.100.9";

    #[test]
    fn nothing_is_known_at_first() {
        assert_eq!(order(&TechniqueMemory::new(), Instant::now(), A, B), None);
    }

    #[test]
    fn what_worked_comes_first_and_what_did_not_last() {
        let (mut memory, now) = (TechniqueMemory::new(), Instant::now());
        note(&mut memory, now, Prediction, false);
        let expected = Some(vec![Birthday, Checks, Prediction]);
        assert_eq!(order(&memory, now, A, B), expected);
        note(&mut memory, now, Checks, true);
        let expected = Some(vec![Checks, Birthday, Prediction]);
        assert_eq!(order(&memory, now, A, B), expected);
        note(&mut memory, now, Prediction, true);
        note(&mut memory, now, Prediction, true);
        let expected = Some(vec![Prediction, Checks, Birthday]);
        assert_eq!(order(&memory, now, A, B), expected);
    }

    #[test]
    fn one_failure_does_not_outweigh_a_success_and_many_are_forgiven_by_a_few() {
        let (mut memory, now) = (TechniqueMemory::new(), Instant::now());
        note(&mut memory, now, Prediction, true);
        note(&mut memory, now, Prediction, false);
        assert_eq!(order(&memory, now, A, B).unwrap()[0], Prediction);
        for _ in 0..1_000 {
            note(&mut memory, now, Prediction, false);
        }
        for _ in 0..6 {
            note(&mut memory, now, Prediction, true);
        }
        assert_eq!(order(&memory, now, A, B).unwrap()[0], Prediction);
    }

    #[test]
    fn neighbours_share_what_is_known_from_either_side() {
        let (mut memory, now) = (TechniqueMemory::new(), Instant::now());
        note(&mut memory, now, Birthday, true);
        for (a, b, is_known) in [
            ("198.51.100.200", "203.0.113.1", true),
            ("::ffff:203.0.113.1", "198.51.100.1", true),
            ("203.0.114.7", B, false),
            (A, A, false),
        ] {
            assert_eq!(order(&memory, now, a, b).is_some(), is_known, "{a} {b}");
        }
        let (a, b) = ("2001:db8:1:100::1", "2001:db8:2::1");
        memory.note(now, ip(a), ip(b), Birthday, true);
        assert!(order(&memory, now, "2001:db8:1:1ff::9", b).is_some());
        assert!(order(&memory, now, "2001:db8:1:200::9", b).is_none());
    }

    #[test]
    fn what_was_heard_counts_for_a_day() {
        let (mut memory, start) = (TechniqueMemory::new(), Instant::now());
        note(&mut memory, start, Birthday, true);
        let last = start + MEMORY - Duration::from_nanos(1);
        assert!(order(&memory, last, A, B).is_some());
        assert!(order(&memory, start + MEMORY, A, B).is_none());
        note(&mut memory, start + MEMORY, Checks, false);
        let expected = Some(vec![Prediction, Birthday, Checks]);
        assert_eq!(order(&memory, start + MEMORY, A, B), expected);
    }

    #[test]
    fn the_pair_heard_of_least_lately_makes_room() {
        let (mut memory, start) = (TechniqueMemory::new(), Instant::now());
        let network = |n: u32| IpAddr::from(Ipv4Addr::from_bits(n << 8));
        let mut note = |n: u32, at: u32| {
            let at = start + Duration::from_millis(at.into());
            memory.note(at, network(n), ip(B), Birthday, true);
        };
        let pairs = u32::try_from(PAIRS).unwrap();
        (0..pairs).for_each(|n| note(n, n));
        note(0, pairs);
        note(pairs, pairs + 1);
        let now = start + Duration::from_secs(70);
        let is_known = |n| memory.order(now, network(n), ip(B), all()).is_some();
        assert!(is_known(0) && !is_known(1) && is_known(2) && is_known(pairs));
        assert_eq!((memory.pairs.len(), memory.by_age.len()), (PAIRS, PAIRS));
    }

    fn note(memory: &mut TechniqueMemory, now: Instant, technique: Technique, success: bool) {
        memory.note(now, ip(A), ip(B), technique, success);
    }

    fn order(memory: &TechniqueMemory, now: Instant, a: &str, b: &str) -> Option<Vec<Technique>> {
        memory.order(now, ip(a), ip(b), all())
    }

    fn all() -> impl Iterator<Item = Technique> {
        [Prediction, Birthday, Checks].into_iter()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
