//! Tokens by which a tracker knows that a daemon receives at an address.
//!
//! A daemon's connection shows one address of it, of one IP family. For another it asks the tracker's
//! STUN there, in the name of its session; the answer carries a token, and the daemon says that on its
//! connection. Whoever only writes a source address never sees the answer, and what a session was given
//! is worth nothing to another. That is the address validation of QUIC (RFC 9000 §8.1), and like there
//! nothing is remembered between question and answer.
//!
//! Not here: STUN (the tracker's), what a daemon does (`nat::AddressProof`), who is told of such an
//! address (`consent`). PROTOCOL.md, Address tokens.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use subtle::ConstantTimeEq;

use crate::wire::{AddressToken, SessionName};

/// How long a token is good for at least; at most twice that.
const EPOCH: Duration = Duration::from_secs(30);

/// Keeps these keys apart from every other use of BLAKE3.
const KEY_CONTEXT: &str = "warren address token v1";

/// Issues tokens and knows them again.
pub struct AddressTokens {
    key: [u8; 32],
}

impl AddressTokens {
    /// All tokens come from `seed`, so outside of tests it must be 32 bytes of the system's randomness
    /// that nobody else knows.
    pub fn new(seed: [u8; 32]) -> AddressTokens {
        AddressTokens {
            key: blake3::derive_key(KEY_CONTEXT, &seed),
        }
    }

    /// The token for who asks from `address` in the name of `session`. `age` is how long these tokens
    /// have been issued; it never runs backwards.
    pub fn issue(&self, age: Duration, session: &SessionName, address: SocketAddr) -> AddressToken {
        self.token(epoch(age), session, address)
    }

    /// Whether `token` was issued for this session and address a moment ago. Takes the same time
    /// wherever it differs.
    pub fn is_valid(
        &self,
        age: Duration,
        session: &SessionName,
        address: SocketAddr,
        token: &AddressToken,
    ) -> bool {
        let now = epoch(age);
        let epochs = [Some(now), now.checked_sub(1)];
        let mut expected = epochs
            .into_iter()
            .flatten()
            .map(|epoch| self.token(epoch, session, address));
        expected.any(|expected| expected.ct_eq(token).into())
    }

    /// The first 16 bytes of a keyed hash of session 16, epoch 8, address 16, port 2.
    fn token(&self, epoch: u64, session: &SessionName, address: SocketAddr) -> AddressToken {
        let ip = match address.ip().to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(session);
        hasher.update(&epoch.to_be_bytes());
        hasher.update(&ip.octets());
        hasher.update(&address.port().to_be_bytes());
        let mut token = [0; 16];
        hasher.finalize_xof().fill(&mut token);
        token
    }
}

impl std::fmt::Debug for AddressTokens {
    /// Nothing of the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AddressTokens").finish_non_exhaustive()
    }
}

fn epoch(age: Duration) -> u64 {
    age.as_secs() / EPOCH.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionName = [7; 16];
    const V6: &str = "[2001:db8::7]:5000";

    #[test]
    fn a_token_is_good_for_its_session_and_address_alone() {
        let tokens = AddressTokens::new([1; 32]);
        let token = tokens.issue(Duration::ZERO, &SESSION, at(V6));
        let is_valid = |session, address: &str, token: &AddressToken| {
            tokens.is_valid(Duration::ZERO, session, at(address), token)
        };
        assert!(is_valid(&SESSION, V6, &token));
        assert!(!is_valid(&[8; 16], V6, &token), "of another session");
        for other in [
            "[2001:db8::8]:5000",
            "[2001:db8::7]:5001",
            "203.0.113.7:5000",
        ] {
            assert!(!is_valid(&SESSION, other, &token), "{other}");
        }
        for place in 0..16 {
            let mut forged = token;
            forged[place] ^= 1;
            assert!(!is_valid(&SESSION, V6, &forged), "{place}");
        }
        let restarted = AddressTokens::new([2; 32]);
        assert!(!restarted.is_valid(Duration::ZERO, &SESSION, at(V6), &token));
    }

    #[test]
    fn a_token_ages() {
        let tokens = AddressTokens::new([1; 32]);
        let seconds = Duration::from_secs;
        let token = tokens.issue(seconds(59), &SESSION, at(V6));
        let is_valid = |age| tokens.is_valid(seconds(age), &SESSION, at(V6), &token);
        assert!(is_valid(59) && is_valid(89));
        assert!(!is_valid(90) && !is_valid(29));
    }

    #[test]
    fn an_ipv4_address_is_the_same_in_either_form() {
        let tokens = AddressTokens::new([1; 32]);
        let token = tokens.issue(Duration::ZERO, &SESSION, at("[::ffff:203.0.113.7]:5000"));
        assert!(tokens.is_valid(Duration::ZERO, &SESSION, at("203.0.113.7:5000"), &token));
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }
}
