//! Proves to a connected peer that we know a content id, without saying which one we know.
//!
//! A swarm id travels in the clear past the tracker; knowing it is not membership. Before anything
//! is told about a share, each side shows that it knows the content id (and the secret of a private
//! share). The proof is bound to the TLS session through an exporter (RFC 8446 §7.5, RFC 5705), to
//! the QUIC role of the prover and to the prover's key, so it can be neither relayed into another
//! connection nor reflected on its own.
//!
//! Not here: asking TLS for the exporter (`warren-net`), the messages that carry a proof
//! ([`crate::wire::peer`]). Layout: PROTOCOL.md, Proof.

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::id::{ContentId, PublicKey, Secret};

/// Label of the TLS exporter whose output a proof is bound to; its context is the 32 bytes of the
/// swarm id, its length 32 bytes.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-warren-proof-v1";

/// Context string of the key derivation; it keeps these keys apart from every other use of BLAKE3.
const KEY_CONTEXT: &str = "warren proof v1";

/// An end of a QUIC connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// It opens the connection.
    Client = 0,
    /// It accepts the connection.
    Server = 1,
}

impl Side {
    /// The other end of the same connection.
    pub fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// What a prover sends: 32 bytes, worthless on any other connection. Compared in constant time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Proof(pub [u8; 32]);

impl PartialEq for Proof {
    fn eq(&self, other: &Proof) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Proof {}

/// The proof that the holder of `key`, on its `side` of the connection that yields `exporter`,
/// knows `content` and `secret`.
pub fn prove(
    content: &ContentId,
    secret: Option<&Secret>,
    exporter: &[u8; 32],
    side: Side,
    key: &PublicKey,
) -> Proof {
    let mut hasher = blake3::Hasher::new_keyed(&proof_key(content, secret));
    hasher.update(exporter);
    hasher.update(&[side as u8]);
    hasher.update(&key.0);
    Proof(*hasher.finalize().as_bytes())
}

/// Whether `proof` is what [`prove`] gives for the same arguments; `side` and `key` are the
/// prover's, not ours. Takes the same time wherever the two differ.
pub fn verify(
    content: &ContentId,
    secret: Option<&Secret>,
    exporter: &[u8; 32],
    side: Side,
    key: &PublicKey,
    proof: &Proof,
) -> bool {
    prove(content, secret, exporter, side, key) == *proof
}

fn proof_key(content: &ContentId, secret: Option<&Secret>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(KEY_CONTEXT);
    hasher.update(&content.0);
    if let Some(secret) = secret {
        hasher.update(&secret.0);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: ContentId = ContentId([1; 32]);
    const SECRET: Secret = Secret([2; 16]);
    const EXPORTER: [u8; 32] = [3; 32];
    const ASKER: PublicKey = PublicKey([4; 32]);
    const ANSWERER: PublicKey = PublicKey([5; 32]);

    #[test]
    fn a_member_convinces_the_other_side_in_both_roles() {
        for (side, key) in [(Side::Client, ASKER), (Side::Server, ANSWERER)] {
            for secret in [None, Some(&SECRET)] {
                let proof = prove(&CONTENT, secret, &EXPORTER, side, &key);
                assert!(verify(&CONTENT, secret, &EXPORTER, side, &key, &proof));
            }
        }
    }

    #[test]
    fn a_proof_reflected_on_its_own_connection_is_refused() {
        let theirs = prove(&CONTENT, None, &EXPORTER, Side::Client, &ASKER);
        assert_refused(&CONTENT, None, &EXPORTER, Side::Server, &ANSWERER, &theirs);
        // Even from someone who talks to itself under one key.
        assert_refused(&CONTENT, None, &EXPORTER, Side::Server, &ASKER, &theirs);
    }

    #[test]
    fn a_proof_relayed_into_another_connection_is_refused() {
        let proof = prove(&CONTENT, None, &EXPORTER, Side::Client, &ASKER);
        assert_refused(&CONTENT, None, &[9; 32], Side::Client, &ASKER, &proof);
    }

    #[test]
    fn a_proof_for_another_swarm_is_refused() {
        let proof = prove(&CONTENT, None, &EXPORTER, Side::Client, &ASKER);
        let other = ContentId([8; 32]);
        assert_refused(&other, None, &EXPORTER, Side::Client, &ASKER, &proof);
    }

    #[test]
    fn a_proof_made_under_another_key_is_refused() {
        let proof = prove(&CONTENT, None, &EXPORTER, Side::Client, &ASKER);
        assert_refused(&CONTENT, None, &EXPORTER, Side::Client, &ANSWERER, &proof);
    }

    #[test]
    fn a_private_share_is_not_proven_by_its_content_id_alone() {
        let proof = prove(&CONTENT, None, &EXPORTER, Side::Client, &ASKER);
        let secret = Some(&SECRET);
        assert_refused(&CONTENT, secret, &EXPORTER, Side::Client, &ASKER, &proof);
        let other = prove(
            &CONTENT,
            Some(&Secret([7; 16])),
            &EXPORTER,
            Side::Client,
            &ASKER,
        );
        assert_refused(&CONTENT, secret, &EXPORTER, Side::Client, &ASKER, &other);
    }

    #[test]
    fn every_bit_of_a_proof_counts() {
        let proof = prove(&CONTENT, None, &EXPORTER, Side::Client, &ASKER);
        for bit in 0..256 {
            let mut bent = proof;
            bent.0[bit / 8] ^= 1 << (bit % 8);
            assert_refused(&CONTENT, None, &EXPORTER, Side::Client, &ASKER, &bent);
        }
    }

    #[track_caller]
    fn assert_refused(
        content: &ContentId,
        secret: Option<&Secret>,
        exporter: &[u8; 32],
        side: Side,
        key: &PublicKey,
        proof: &Proof,
    ) {
        assert!(!verify(content, secret, exporter, side, key, proof));
    }
}
