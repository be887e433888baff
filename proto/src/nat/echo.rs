//! The probe by which a tracker shows a daemon that strangers reach it at a port of its router.
//!
//! A STUN Binding indication (RFC 8489 §3) of 20 bytes whose transaction id is the token the daemon
//! chose. It calls for no answer, so nothing comes of it where it was not asked for.
//!
//! Not here: who may ask for one, and where it goes (`swarm::echo_target`).

use super::stun::{BINDING_INDICATION, HEADER_BYTES, MAGIC_COOKIE, Message};

/// The probe with this token: type 2 bytes, length 2 (0), cookie 4, token 12.
pub fn encode(token: [u8; 12]) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..2].copy_from_slice(&BINDING_INDICATION.to_be_bytes());
    bytes[4..8].copy_from_slice(&MAGIC_COOKIE);
    bytes[8..].copy_from_slice(&token);
    bytes
}

/// The token of a probe; `None` for anything else.
pub fn token_of(bytes: &[u8]) -> Option<[u8; 12]> {
    let message = Message::parse(bytes)?;
    (message.kind == BINDING_INDICATION).then_some(message.transaction.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nat::check;

    #[test]
    fn the_probe_is_the_one_in_the_document() {
        let document = include_str!("../../PROTOCOL.md");
        let line = document
            .lines()
            .find_map(|line| line.strip_prefix("datagram probe: "));
        let hex: String = encode([0x99; 12])
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(
            line.unwrap().replace("99x12", &"99".repeat(12)),
            format!(
                "{} {} {} {}",
                &hex[..4],
                &hex[4..8],
                &hex[8..16],
                &hex[16..]
            )
        );
    }

    #[test]
    fn a_probe_is_no_request_and_no_answer() {
        let probe = encode([7; 12]);
        assert_eq!(check::transaction_of(&probe), None);
        assert_eq!(check::request_transaction_of(&probe), None);
        let mut request = probe;
        request[..2].copy_from_slice(&[0x00, 0x01]);
        assert_eq!(token_of(&request), None);
    }

    proptest! {
        #[test]
        fn tokens_come_back(token: [u8; 12]) {
            prop_assert_eq!(token_of(&encode(token)), Some(token));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = token_of(&bytes);
        }
    }
}
