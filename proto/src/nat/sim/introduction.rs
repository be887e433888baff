//! How the tracker introduces two hosts that it has observed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::id::{PublicKey, SwarmId};
use crate::proof::Side;
use crate::swarm::{Introducer, Situation, Transport};
use crate::wire::{Bounded, Candidate, CandidateKind, NatFiltering, NatMapping, Paths, Rendezvous};

/// Which side each half of an introduction is.
pub(in crate::nat) const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// What it has observed; the client's half comes first. The production introducer decides what each is
/// told.
pub(in crate::nat) struct Introduction {
    pub(in crate::nat) mapping: [NatMapping; 2],
    pub(in crate::nat) observed: [SocketAddr; 2],
    pub(in crate::nat) hosts: [Option<SocketAddr>; 2],
    pub(in crate::nat) rtts: [Duration; 2],
    pub(in crate::nat) filtering: [NatFiltering; 2],
}

impl Introduction {
    pub(in crate::nat) fn rendezvous(&self, seed: u64) -> (Rendezvous, Rendezvous) {
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
        let halves = introducer.introduce(Instant::now(), swarm, keys[0], keys[1]);
        halves.unwrap()
    }
}
