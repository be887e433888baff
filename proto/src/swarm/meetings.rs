//! The rendezvous of the last minute: what their peers may still tell each other by way of the
//! tracker, and us about them.
//!
//! The shell reports each introduction ([`Meetings::open`]), asks where a trickle goes
//! ([`Meetings::trickle`]) and whose outcome one is ([`Meetings::outcome`], for
//! [`super::TechniqueMemory`]). Nothing is passed on to where the rendezvous did not point already: the
//! address is the one that its sender was introduced by, with another port.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::id::PublicKey;
use crate::wire::{CandidateKind, Rendezvous};

/// How long after the introduction a peer may tell the other where to look: several times what its
/// attempt takes.
const TRICKLES_WITHIN: Duration = Duration::from_secs(30);

/// How long it may tell us what came of it.
const OUTCOMES_WITHIN: Duration = Duration::from_secs(60);

/// Most trickles of one side.
const TRICKLES: u8 = 8;

/// Most rendezvous remembered: what 256 peers can cause that do nothing but ask for them. One takes
/// about 300 bytes, all of them 20 MB. The oldest makes room.
const MEETINGS: usize = 65_536;

/// Ports below are those of services.
const LOWEST_PORT: u16 = 1024;

/// Names a rendezvous.
type Id = [u8; 10];

/// Whom a trickle goes to, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trickled {
    /// The other peer.
    pub to: PublicKey,
    /// The sender's observed IP address with the port it gave.
    pub address: SocketAddr,
}

/// Remembers who was introduced to whom.
#[derive(Debug, Default)]
pub struct Meetings {
    by_id: BTreeMap<Id, [Side; 2]>,
    by_age: VecDeque<(Instant, Id)>,
}

#[derive(Clone, Copy, Debug)]
struct Side {
    opened: Instant,
    peer: PublicKey,
    /// Where the other side was told that it is observed, if it was.
    told: Option<SocketAddr>,
    trickles: u8,
    has_outcome: bool,
}

impl Meetings {
    /// Nobody was introduced yet.
    pub fn new() -> Meetings {
        Meetings::default()
    }

    /// Two peers were introduced: what each of them was sent. Time never runs backwards.
    pub fn open(&mut self, now: Instant, for_a: &Rendezvous, for_b: &Rendezvous) {
        self.forget(now);
        if self.by_id.len() == MEETINGS
            && let Some((_, oldest)) = self.by_age.pop_front()
        {
            self.by_id.remove(&oldest);
        }
        // Each half says where the other side is.
        let sides = [for_b, for_a].map(|half| Side {
            opened: now,
            peer: half.peer,
            told: observed(half),
            trickles: 0,
            has_outcome: false,
        });
        if self.by_id.insert(for_a.id, sides).is_none() {
            self.by_age.push_back((now, for_a.id));
        }
    }

    /// Where to pass on what `from`, whom we see at `seen` now, says about a port of its own.
    /// `None` when it is to be dropped.
    pub fn trickle(
        &mut self,
        now: Instant,
        id: &Id,
        from: &PublicKey,
        mut seen: impl Iterator<Item = SocketAddr>,
        port: u16,
    ) -> Option<Trickled> {
        let [own, other] = self.sides(now, id, from, TRICKLES_WITHIN)?;
        let ip = own.told?.ip();
        let is_there = seen.any(|seen| seen.ip().to_canonical() == ip);
        if !is_there || port < LOWEST_PORT || own.trickles == TRICKLES {
            return None;
        }
        own.trickles += 1;
        Some(Trickled {
            to: other.peer,
            address: SocketAddr::new(ip, port),
        })
    }

    /// The addresses of the two peers, if `from` is one of them, has not told us the outcome yet, and
    /// both were told the other's.
    pub fn outcome(&mut self, now: Instant, id: &Id, from: &PublicKey) -> Option<[IpAddr; 2]> {
        let [own, other] = self.sides(now, id, from, OUTCOMES_WITHIN)?;
        if std::mem::replace(&mut own.has_outcome, true) {
            return None;
        }
        Some([own.told?.ip(), other.told?.ip()])
    }

    /// The side of `from` first.
    fn sides(
        &mut self,
        now: Instant,
        id: &Id,
        from: &PublicKey,
        within: Duration,
    ) -> Option<[&mut Side; 2]> {
        let [a, b] = self.by_id.get_mut(id)?;
        if a.opened + within <= now {
            return None;
        }
        match (a.peer == *from, b.peer == *from) {
            (true, _) => Some([a, b]),
            (_, true) => Some([b, a]),
            (false, false) => None,
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some((opened, id)) = self.by_age.front()
            && *opened + OUTCOMES_WITHIN <= now
        {
            self.by_id.remove(id);
            self.by_age.pop_front();
        }
    }
}

/// The address in a rendezvous that the tracker has observed, which it puts first.
fn observed(half: &Rendezvous) -> Option<SocketAddr> {
    let first = half.candidates.first();
    let observed = first.filter(|first| first.kind == CandidateKind::ServerReflexive)?;
    Some(SocketAddr::new(
        observed.address.ip().to_canonical(),
        observed.address.port(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SwarmId;
    use crate::wire::{Bounded, Candidate, NatFiltering, NatMapping};

    const A: PublicKey = PublicKey([1; 32]);
    const B: PublicKey = PublicKey([2; 32]);
    const STRANGER: PublicKey = PublicKey([3; 32]);
    const AT_A: &str = "203.0.113.7:5000";
    const AT_B: &str = "198.51.100.1:6000";
    const ID: Id = [5; 10];

    #[test]
    fn a_trickle_goes_to_the_other_with_the_observed_address() {
        let (mut meetings, now) = met();
        let expected = trickled(B, "203.0.113.7:40000");
        assert_eq!(from(&mut meetings, now, A, AT_A, 40_000), expected);
        let expected = trickled(A, "198.51.100.1:1024");
        assert_eq!(from(&mut meetings, now, B, AT_B, 1_024), expected);
        let mapped = "[::ffff:198.51.100.1]:7";
        assert_eq!(from(&mut meetings, now, B, mapped, 1_024), expected);
    }

    #[test]
    fn nobody_points_at_another_address_or_into_another_rendezvous() {
        let (mut meetings, now) = met();
        assert_eq!(from(&mut meetings, now, STRANGER, AT_A, 40_000), None);
        assert_eq!(from(&mut meetings, now, A, AT_B, 40_000), None);
        assert_eq!(from(&mut meetings, now, A, AT_A, 1_023), None);
        let address = AT_A.parse().unwrap();
        let other = meetings.trickle(now, &[6; 10], &A, [address].into_iter(), 40_000);
        assert_eq!(other, None);
    }

    #[test]
    fn who_was_told_no_address_hears_none() {
        let (mut meetings, now) = (Meetings::new(), Instant::now());
        meetings.open(now, &half(B, None), &half(A, Some(AT_A)));
        assert_eq!(from(&mut meetings, now, B, AT_B, 40_000), None);
        assert!(from(&mut meetings, now, A, AT_A, 40_000).is_some());
        assert_eq!(meetings.outcome(now, &ID, &A), None);
    }

    #[test]
    fn each_side_trickles_8_times_within_30_s() {
        let (mut meetings, now) = met();
        for _ in 0..TRICKLES {
            assert!(from(&mut meetings, now, A, AT_A, 40_000).is_some());
        }
        assert_eq!(from(&mut meetings, now, A, AT_A, 40_000), None);
        let last = now + TRICKLES_WITHIN - Duration::from_nanos(1);
        assert!(from(&mut meetings, last, B, AT_B, 40_000).is_some());
        assert_eq!(
            from(&mut meetings, now + TRICKLES_WITHIN, B, AT_B, 40_000),
            None
        );
    }

    #[test]
    fn each_side_tells_the_outcome_once_within_a_minute() {
        let (mut meetings, now) = met();
        let [a, b] = [AT_A, AT_B].map(|text| text.parse::<SocketAddr>().unwrap().ip());
        assert_eq!(meetings.outcome(now, &ID, &STRANGER), None);
        assert_eq!(meetings.outcome(now, &ID, &A), Some([a, b]));
        assert_eq!(meetings.outcome(now, &ID, &A), None);
        let late = now + OUTCOMES_WITHIN;
        assert_eq!(meetings.outcome(late, &ID, &B), None);
        let last = late - Duration::from_nanos(1);
        assert_eq!(meetings.outcome(last, &ID, &B), Some([b, a]));
    }

    #[test]
    fn what_is_old_or_too_many_is_forgotten() {
        let (mut meetings, now) = met();
        for n in 0..MEETINGS {
            let mut id = [9; 10];
            id[..8].copy_from_slice(&n.to_be_bytes());
            let for_a = Rendezvous {
                id,
                ..half(B, Some(AT_B))
            };
            meetings.open(now, &for_a, &for_a);
        }
        assert_eq!(meetings.by_id.len(), MEETINGS);
        assert_eq!(
            from(&mut meetings, now, A, AT_A, 40_000),
            None,
            "the oldest"
        );
        meetings.open(now + OUTCOMES_WITHIN, &half(B, None), &half(A, None));
        assert_eq!((meetings.by_id.len(), meetings.by_age.len()), (1, 1));
    }

    fn met() -> (Meetings, Instant) {
        let (mut meetings, now) = (Meetings::new(), Instant::now());
        meetings.open(now, &half(B, Some(AT_B)), &half(A, Some(AT_A)));
        (meetings, now)
    }

    fn from(
        meetings: &mut Meetings,
        now: Instant,
        peer: PublicKey,
        observed: &str,
        port: u16,
    ) -> Option<Trickled> {
        let elsewhere = "[2001:db8::9]:9".parse().unwrap();
        let seen = [elsewhere, observed.parse().unwrap()].into_iter();
        meetings.trickle(now, &ID, &peer, seen, port)
    }

    fn trickled(to: PublicKey, address: &str) -> Option<Trickled> {
        let address = address.parse().unwrap();
        Some(Trickled { to, address })
    }

    fn half(peer: PublicKey, observed: Option<&str>) -> Rendezvous {
        let candidate = observed.map(|text| Candidate {
            kind: CandidateKind::ServerReflexive,
            address: text.parse().unwrap(),
        });
        Rendezvous {
            id: ID,
            secret: [6; 32],
            swarm: SwarmId([7; 32]),
            peer,
            side: crate::proof::Side::Client,
            candidates: Bounded::truncated(candidate),
            mapping: NatMapping::Unknown,
            filtering: NatFiltering::Unknown,
            wait_ms: 0,
            paths: crate::wire::Paths::Any,
            relay: None,
        }
    }
}
