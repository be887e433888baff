//! Tokens by which daemons prove their address of the other IP family: their clock and their lifetime.
//!
//! Not here: what a token is (`warren_proto::swarm::AddressTokens`), the answers that carry one
//! ([`crate::stun`]).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use warren_proto::swarm::{AddressTokens, can_be_proven};
use warren_proto::wire::{AddressToken, SessionName};

/// How long a proof counts: daemons repeat it every 20 s, and two may be lost.
const LIFETIME: Duration = Duration::from_secs(70);

/// An address at which a daemon was a moment ago.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof {
    address: SocketAddr,
    until: Instant,
}

impl Proof {
    /// The address, as long as that counts.
    pub(crate) fn address(self, now: Instant) -> Option<SocketAddr> {
        (now < self.until).then_some(self.address)
    }
}

/// Issues tokens and takes them back.
#[derive(Debug)]
pub(crate) struct Proofs {
    tokens: AddressTokens,
    begun: Instant,
}

impl Proofs {
    pub(crate) fn new() -> Proofs {
        Proofs {
            tokens: AddressTokens::new(rand::random()),
            begun: Instant::now(),
        }
    }

    /// The token for who asks from `address` in the name of `session`, be there such a one or not.
    pub(crate) fn issue(
        &self,
        now: Instant,
        session: &SessionName,
        address: SocketAddr,
    ) -> AddressToken {
        self.tokens.issue(self.age(now), session, address)
    }

    /// What a daemon on a connection of this name, which is observed at `observed`, has proven.
    pub(crate) fn check(
        &self,
        now: Instant,
        session: &SessionName,
        observed: SocketAddr,
        (address, token): (SocketAddr, AddressToken),
    ) -> Option<Proof> {
        let is_proven = can_be_proven(observed, address)
            && self
                .tokens
                .is_valid(self.age(now), session, address, &token);
        is_proven.then(|| Proof {
            address,
            until: now + LIFETIME,
        })
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_counts_for_a_while_and_only_of_the_other_family() {
        let (proofs, now, session) = (Proofs::new(), Instant::now(), [7; 16]);
        let [v4, v6] = ["203.0.113.7:5000", "[2001:db8::7]:5000"].map(|it| it.parse().unwrap());
        let token = proofs.issue(now, &session, v6);
        let proof = proofs.check(now, &session, v4, (v6, token)).unwrap();
        assert_eq!(proof.address(now + LIFETIME / 2), Some(v6));
        assert_eq!(proof.address(now + LIFETIME), None);
        assert!(proofs.check(now, &session, v6, (v6, token)).is_none());
        assert!(
            proofs
                .check(now + LIFETIME, &session, v4, (v6, token))
                .is_none()
        );
    }
}
