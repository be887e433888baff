//! The addresses of the peer, and when the first check goes there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Pair;
use crate::nat::schedule::{Approach, Schedule};
use crate::nat::{MAIN, is_private, usable};
use crate::wire::{CandidateKind, Rendezvous};

/// The longest wait a tracker can ask for; an honest one never asks for more.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Most candidates taken that differ in the port alone, as the observed and the mapped one do. So
/// whoever lives at a forged IP address gets at most 30 requests of 76 bytes it does not answer.
const PORTS_PER_IP: usize = 2;

/// What we know of one address of the peer.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) kind: CandidateKind,
    pub(super) schedule: Schedule,
    pub(super) answers: usize,
}

impl Remote {
    /// A candidate of the rendezvous.
    pub(super) fn told(kind: CandidateKind, approach: Approach, start: Instant) -> Remote {
        Remote {
            kind,
            schedule: Schedule::new(approach, start),
            answers: 0,
        }
    }

    /// The peer was heard from an address nobody named: our NAT let it in.
    pub(super) fn learnt(now: Instant) -> Remote {
        Remote {
            kind: CandidateKind::PeerReflexive,
            schedule: Schedule::heard(now),
            answers: 0,
        }
    }
}

/// When the first check goes out. A peer that may be approached directly need not be waited for: what
/// comes too early is dropped there without a trace, and round trips that the tracker measured under
/// load are no longer those of an idle path.
pub(super) fn start(now: Instant, rendezvous: &Rendezvous) -> Instant {
    match Approach::through(rendezvous.filtering) {
        Approach::Direct => now,
        Approach::Primed | Approach::Held => {
            now + Duration::from_millis(rendezvous.wait_ms.into()).min(MAX_WAIT)
        }
    }
}

/// The candidates that may be checked, from `start` on, or at `now` where that does no harm.
pub(super) fn told(
    now: Instant,
    rendezvous: &Rendezvous,
    start: Instant,
) -> BTreeMap<Pair, Remote> {
    let beyond_nats = Approach::through(rendezvous.filtering);
    let mut remotes: BTreeMap<Pair, Remote> = BTreeMap::new();
    for candidate in &rendezvous.candidates {
        let Some(address) = usable(candidate.address) else {
            continue;
        };
        let same_ip = remotes
            .keys()
            .filter(|(_, known)| known.ip() == address.ip());
        if same_ip.count() < PORTS_PER_IP {
            let (approach, start) = match is_local(address, candidate.kind) {
                true => (Approach::Direct, start),
                // A firewall gives nobody another port, so nothing is spoilt by being early.
                false if address.is_ipv6() && rendezvous.is_of_ipv4() => (Approach::Direct, now),
                false => (beyond_nats, start),
            };
            let remote = || Remote::told(candidate.kind, approach, start);
            remotes.entry((MAIN, address)).or_insert_with(remote);
        }
    }
    remotes
}

pub(super) fn is_local(address: SocketAddr, kind: CandidateKind) -> bool {
    kind == CandidateKind::Host || is_private(address)
}
