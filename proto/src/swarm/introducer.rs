//! Introduces two peers: writes what each is told about the other.
//!
//! The shell reports how each connected peer can be reached, asks for introductions, and sends the
//! two halves. That both are members of the swarm is for the shell to check, with
//! [`super::SwarmTable::contains`]; that neither is told an address it must not know is decided by
//! [`candidates_for`], and how often by the quota.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::consent::{Situation, candidates_for};
use super::quota::{OverQuota, Quota};
use crate::id::{PublicKey, SwarmId};
use crate::proof::Side;
use crate::wire::{Bounded, Rendezvous};

/// The nearer peer never waits longer than this for the farther one, however long a round trip
/// somebody feigns.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Why two peers are not introduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntroduceError {
    /// A peer asked to meet itself.
    #[error("a peer cannot be introduced to itself")]
    SamePeer,
    /// Nothing is known about this peer: it is not connected.
    #[error("peer {peer} is not connected")]
    Unknown {
        /// The peer.
        peer: PublicKey,
    },
    /// The same two were introduced a moment ago.
    #[error("this pair was introduced less than {} s ago", super::PAIR_INTERVAL.as_secs())]
    TooSoon {
        /// How long to wait.
        wait: Duration,
    },
    /// One of them was introduced too often.
    #[error("peer {peer} was introduced too often")]
    TooMany {
        /// The peer.
        peer: PublicKey,
        /// How long to wait.
        wait: Duration,
    },
}

impl From<OverQuota> for IntroduceError {
    fn from(over: OverQuota) -> IntroduceError {
        match over {
            OverQuota::Pair { wait } => IntroduceError::TooSoon { wait },
            OverQuota::Peer { peer, wait } => IntroduceError::TooMany { peer, wait },
        }
    }
}

/// Knows where every connected peer is, and introduces them.
#[derive(Debug)]
pub struct Introducer {
    rng: StdRng,
    situations: BTreeMap<PublicKey, Situation>,
    quota: Quota,
}

impl Introducer {
    /// Knows nobody yet. The secrets of all rendezvous come from `seed`, so outside of tests it
    /// must be 32 bytes of the system's randomness that nobody else knows.
    pub fn new(seed: [u8; 32]) -> Introducer {
        Introducer {
            rng: StdRng::from_seed(seed),
            situations: BTreeMap::new(),
            quota: Quota::default(),
        }
    }

    /// How `peer` can be reached from now on.
    pub fn situation(&mut self, peer: PublicKey, situation: Situation) {
        let (observed, proven) = (situation.observed, proven_ip(&situation));
        let before = self.situations.insert(peer, situation);
        let is_elsewhere = |before: &Situation| {
            before.observed != observed || (proven.is_some() && proven_ip(before) != proven)
        };
        if before.as_ref().is_some_and(is_elsewhere) {
            self.quota.forget_pairs(peer);
        }
    }

    /// `peer` was seen at another address than that of its connection, which ends for that: its pairs may
    /// be introduced once more before their time.
    pub fn moved(&mut self, peer: PublicKey) {
        self.quota.forget_pairs(peer);
    }

    /// `peer` is no longer connected. What it used of its quota stays used, but when it is back each of
    /// its pairs may be introduced once more: it may be a new process, which knows of no introduction.
    pub fn forget(&mut self, peer: PublicKey) {
        self.situations.remove(&peer);
        self.quota.forget_pairs(peer);
    }

    /// Whether the tracker may pass datagrams between the two.
    pub fn may_relay(&self, a: &PublicKey, b: &PublicKey) -> bool {
        let paths = |peer| self.situations.get(peer).map(|it| it.paths);
        let (a, b) = (paths(a), paths(b));
        a.zip(b).is_some_and(|(a, b)| a.may_relay(b))
    }

    /// What to send to `a`, which asked for it, and what to send to `b`. A list of candidates may be empty: the other
    /// side may still come first, or both go through the relay, whose session the caller adds.
    ///
    /// # Errors
    /// When one is not connected, or they, or one of them, were introduced too often.
    pub fn introduce(
        &mut self,
        now: Instant,
        swarm: SwarmId,
        a: PublicKey,
        b: PublicKey,
    ) -> Result<(Rendezvous, Rendezvous), IntroduceError> {
        if a == b {
            return Err(IntroduceError::SamePeer);
        }
        let of_a = self
            .situations
            .get(&a)
            .ok_or(IntroduceError::Unknown { peer: a })?;
        let of_b = self
            .situations
            .get(&b)
            .ok_or(IntroduceError::Unknown { peer: b })?;
        self.quota.try_charge(now, a, b)?;
        let id = self.rng.random();
        let secret = self.rng.random();
        let half = |side: Side, receiver: &Situation, peer: PublicKey, of: &Situation| Rendezvous {
            id,
            secret,
            swarm,
            peer,
            side,
            candidates: Bounded::truncated(candidates_for(receiver, of)),
            mapping: of.mapping,
            filtering: of.filtering,
            wait_ms: wait_ms(receiver.rtt, of.rtt),
            paths: of.paths,
            relay: None,
        };
        Ok((
            half(Side::Server, of_a, b, of_b),
            half(Side::Client, of_b, a, of_a),
        ))
    }
}

/// Of the other IP family.
fn proven_ip(situation: &Situation) -> Option<IpAddr> {
    situation.proven.map(|proven| proven.ip())
}

/// How long a peer at `own` round trip waits so that one at `other` starts at the same moment:
/// the difference of the two ways from the tracker.
fn wait_ms(own: Duration, other: Duration) -> u16 {
    let wait = (other.saturating_sub(own) / 2).min(MAX_WAIT);
    u16::try_from(wait.as_millis()).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::{PAIR_INTERVAL, PEER_INTRODUCTIONS, PEER_WINDOW, Transport};
    use crate::wire::{NatFiltering, NatMapping, Paths};

    const A: PublicKey = PublicKey([1; 32]);
    const B: PublicKey = PublicKey([2; 32]);
    const SWARM: SwarmId = SwarmId([7; 32]);

    #[test]
    fn both_halves_share_id_and_secret_name_the_other_and_have_who_asked_dialled() {
        let (for_a, for_b) = introducer().introduce(Instant::now(), SWARM, A, B).unwrap();
        assert_eq!((for_a.id, for_a.secret), (for_b.id, for_b.secret));
        assert_eq!((for_a.peer, for_b.peer), (B, A));
        assert_eq!((for_a.side, for_b.side), (Side::Server, Side::Client));
        assert_eq!(
            for_a.candidates[0].address,
            "198.51.100.1:6000".parse().unwrap()
        );
        assert_eq!(
            for_b.candidates[0].address,
            "203.0.113.7:5000".parse().unwrap()
        );
        assert_eq!(for_a.mapping, NatMapping::Sequential { step: 2 });
        assert_eq!(for_b.mapping, NatMapping::EndpointIndependent);
        assert_eq!(for_a.filtering, NatFiltering::Clashing);
        assert_eq!(for_b.filtering, NatFiltering::PortDependent);
    }

    #[test]
    fn the_nearer_peer_waits_for_the_farther_one() {
        let (for_a, for_b) = introducer().introduce(Instant::now(), SWARM, A, B).unwrap();
        // 20 ms and 120 ms of round trip: the news arrives 50 ms apart.
        assert_eq!((for_a.wait_ms, for_b.wait_ms), (50, 0));
        assert_eq!(wait_ms(Duration::ZERO, Duration::MAX), 1000);
    }

    #[test]
    fn every_rendezvous_has_its_own_id_and_secret() {
        let (mut introducer, now) = (introducer(), Instant::now());
        let (first, _) = introducer.introduce(now, SWARM, A, B).unwrap();
        let (second, _) = introducer
            .introduce(now + PAIR_INTERVAL, SWARM, A, B)
            .unwrap();
        assert_ne!(first.id, second.id);
        assert_ne!(first.secret, second.secret);
    }

    #[test]
    fn a_seed_replays_a_run() {
        let run = || {
            let (for_a, for_b) = introducer().introduce(Instant::now(), SWARM, A, B).unwrap();
            (for_a.id, for_b.secret)
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn only_two_who_both_allow_it_may_be_relayed() {
        let may = |paths: [Paths; 2]| {
            let mut introducer = introducer();
            for (peer, paths) in [A, B].into_iter().zip(paths) {
                let situation = Situation {
                    paths,
                    ..situation("203.0.113.7:5000", 20)
                };
                introducer.situation(peer, situation);
            }
            let (for_a, for_b) = introducer.introduce(Instant::now(), SWARM, A, B).unwrap();
            assert_eq!([for_b.paths, for_a.paths], paths);
            introducer.may_relay(&A, &B)
        };
        let [any, direct, relay] = [Paths::Any, Paths::DirectOnly, Paths::RelayOnly];
        assert!(
            [[any, any], [any, relay], [relay, relay]]
                .into_iter()
                .all(may)
        );
        assert!(
            ![[any, direct], [relay, direct], [direct, direct]]
                .into_iter()
                .any(may)
        );
        assert!(!introducer().may_relay(&A, &PublicKey([9; 32])));
    }

    #[test]
    fn unknown_and_forgotten_peers_are_not_introduced() {
        let (mut introducer, now) = (introducer(), Instant::now());
        let stranger = PublicKey([9; 32]);
        let unknown = |peer| Err(IntroduceError::Unknown { peer });
        assert_eq!(
            introducer.introduce(now, SWARM, A, stranger),
            unknown(stranger)
        );
        introducer.forget(A);
        assert_eq!(introducer.introduce(now, SWARM, A, B), unknown(A));
        assert_eq!(
            introducer.introduce(now, SWARM, B, B),
            Err(IntroduceError::SamePeer)
        );
    }

    #[test]
    fn a_peer_whose_nat_was_rebound_is_introduced_again_at_once() {
        let (mut introducer, now) = (introducer(), Instant::now());
        introducer.introduce(now, SWARM, A, B).unwrap();
        introducer.situation(A, situation("203.0.113.7:5001", 20));
        let (_, for_b) = introducer.introduce(now, SWARM, A, B).unwrap();
        assert_eq!(
            for_b.candidates[0].address,
            "203.0.113.7:5001".parse().unwrap()
        );
        introducer.situation(A, situation("203.0.113.7:5001", 30));
        let again = introducer.introduce(now, SWARM, B, A);
        assert!(matches!(again, Err(IntroduceError::TooSoon { .. })));
    }

    #[test]
    fn who_reconnects_is_introduced_once_more_at_once_however_often_they_do() {
        let (mut introducer, now) = (introducer(), Instant::now());
        introducer.introduce(now, SWARM, A, B).unwrap();
        let mut reconnect_and_meet = |at| {
            introducer.forget(A);
            introducer.situation(A, situation("203.0.113.7:5001", 20));
            introducer.introduce(at, SwarmId([8; 32]), B, A).map(drop)
        };
        assert_eq!(reconnect_and_meet(now), Ok(()));
        let error = IntroduceError::TooSoon {
            wait: PAIR_INTERVAL,
        };
        assert_eq!(reconnect_and_meet(now), Err(error));
        assert_eq!(reconnect_and_meet(now), Err(error));
        assert_eq!(reconnect_and_meet(now + PAIR_INTERVAL), Ok(()));
    }

    #[test]
    fn a_peer_is_introduced_256_times_a_minute_at_most() {
        let (mut introducer, now) = (introducer(), Instant::now());
        for n in 0..PEER_INTRODUCTIONS {
            let mut key = [3; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            introducer.situation(PublicKey(key), situation("192.0.2.1:5000", 10));
            introducer.introduce(now, SWARM, A, PublicKey(key)).unwrap();
        }
        let error = IntroduceError::TooMany {
            peer: A,
            wait: PEER_WINDOW,
        };
        assert_eq!(introducer.introduce(now, SWARM, B, A), Err(error));
        assert!(introducer.introduce(now + PEER_WINDOW, SWARM, B, A).is_ok());
    }

    fn introducer() -> Introducer {
        let mut introducer = Introducer::new([1; 32]);
        introducer.situation(A, situation("203.0.113.7:5000", 20));
        let mapping = NatMapping::Sequential { step: 2 };
        introducer.situation(
            B,
            Situation {
                mapping,
                filtering: NatFiltering::Clashing,
                ..situation("198.51.100.1:6000", 120)
            },
        );
        introducer
    }

    fn situation(observed: &str, rtt_ms: u64) -> Situation {
        Situation {
            observed: observed.parse().unwrap(),
            transport: Transport::Udp,
            proven: None,
            tracker_is_loopback: false,
            candidates: Bounded::new(),
            mapping: NatMapping::EndpointIndependent,
            filtering: NatFiltering::PortDependent,
            paths: Paths::Any,
            rtt: Duration::from_millis(rtt_ms),
        }
    }
}
