//! How the tracker introduces two hosts that it has observed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::id::{PublicKey, SwarmId};
use crate::swarm::{Introducer, Situation, Transport};
use crate::wire::{Bounded, Candidate, CandidateKind, NatFiltering, NatMapping, Paths, Rendezvous};

/// What it has observed of each. The production introducer decides what they are told.
pub(in crate::nat) struct Introduction {
    pub(in crate::nat) mapping: [NatMapping; 2],
    pub(in crate::nat) observed: [SocketAddr; 2],
    pub(in crate::nat) hosts: [Option<SocketAddr>; 2],
    pub(in crate::nat) rtts: [Duration; 2],
    pub(in crate::nat) filtering: [NatFiltering; 2],
}

impl Introduction {
    /// The halves of the two. The seed also decides which of them has asked, and so is the server.
    pub(in crate::nat) fn rendezvous(&self, seed: u64) -> [Rendezvous; 2] {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&seed.to_be_bytes());
        let mut introducer = Introducer::new(secret);
        let keys = [PublicKey([1; 32]), PublicKey([2; 32])];
        for (side, key) in keys.into_iter().enumerate() {
            let own = self.hosts[side].map(|address| Candidate {
                kind: CandidateKind::Host,
                address,
            });
            let situation = Situation {
                proven: None,
                observed: self.observed[side],
                transport: Transport::Udp,
                tracker_is_loopback: false,
                candidates: Bounded::truncated(own),
                mapping: self.mapping[side],
                filtering: self.filtering[side],
                paths: Paths::Any,
                rtt: self.rtts[side],
            };
            introducer.situation(key, situation);
        }
        let swarm = SwarmId([7; 32]);
        let now = Instant::now();
        let [first, second] = keys;
        if (seed / 3).is_multiple_of(2) {
            let (for_second, for_first) = introducer.introduce(now, swarm, second, first).unwrap();
            [for_first, for_second]
        } else {
            introducer
                .introduce(now, swarm, first, second)
                .unwrap()
                .into()
        }
    }
}
