//! Connectivity checks: what two introduced peers say to each other until a path is proven.
//!
//! A check is a STUN Binding request that only somebody who got the same rendezvous can make, its
//! answer one that only such a peer can make. Anything else is dropped without a word, so a
//! stranger's packet costs a stranger's packet and a short look. Layout: PROTOCOL.md, Checks.
//!
//! A request says which side it comes from (ICE-CONTROLLING is the QUIC client, ICE-CONTROLLED the
//! server; RFC 8445 §7.1.3). Both sides use one name and one password, so without this our own
//! request, sent back from a forged address, would pass for the peer's and make us check whoever
//! that address belongs to. The attribute also makes a request longer than the longest answer.
//!
//! The client tells the server which path it will use by USE-CANDIDATE in a request on that path
//! (RFC 8445 §7.1.2, nomination).
//!
//! The codec is asked for what we write ourselves only. stun-rs authenticates when told to and lets
//! a message without MESSAGE-INTEGRITY pass either way, so what arrives is walked here, and
//! MESSAGE-INTEGRITY must be there, last, and right.

use std::fmt;
use std::net::SocketAddr;

use stun_rs::attributes::ice::{IceControlled, IceControlling, UseCandidate};
use stun_rs::attributes::stun::{MessageIntegrity, UserName, XorMappedAddress};
use stun_rs::methods::BINDING;
use stun_rs::{HMACKey, MessageClass, MessageEncoderBuilder, StunMessageBuilder, TransactionId};

use super::stun::{self, Message, Transaction};
use crate::id::base32_encode;
use crate::proof::Side;
use crate::wire::Rendezvous;

/// Bytes of MESSAGE-INTEGRITY, its header included.
const INTEGRITY_BYTES: usize = stun::ATTRIBUTE_HEADER_BYTES + 20;

/// Length of every request we send but a nominating one: header, USERNAME, the side,
/// MESSAGE-INTEGRITY.
pub const REQUEST_BYTES: usize = stun::HEADER_BYTES
    + (stun::ATTRIBUTE_HEADER_BYTES + 16)
    + (stun::ATTRIBUTE_HEADER_BYTES + 8)
    + INTEGRITY_BYTES;

/// Length of a request that nominates: USE-CANDIDATE has no value.
pub const NOMINATION_BYTES: usize = REQUEST_BYTES + stun::ATTRIBUTE_HEADER_BYTES;

/// Length of the longest answer: header, XOR-MAPPED-ADDRESS for IPv6, MESSAGE-INTEGRITY.
pub const ANSWER_BYTES: usize =
    stun::HEADER_BYTES + (stun::ATTRIBUTE_HEADER_BYTES + 20) + INTEGRITY_BYTES;

const _: () = assert!(ANSWER_BYTES <= REQUEST_BYTES, "an answer must not amplify");

/// One authenticated message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The peer asks whether we hear it.
    Request {
        /// To be repeated in the answer.
        transaction: Transaction,
        /// Which side sent it.
        side: Side,
        /// Whether the path it came by is the one to use; only the client says so.
        nominates: bool,
    },
    /// The peer heard us.
    Answer {
        /// Which request it answers.
        transaction: Transaction,
        /// Where the peer saw that request come from.
        mapped: SocketAddr,
    },
}

/// Why a datagram is no check of this rendezvous. It is dropped whatever the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Not one whole STUN message, or over 256 bytes.
    #[error("not one whole stun message")]
    Malformed,
    /// MESSAGE-INTEGRITY is missing or not the last attribute.
    #[error("the message is not authenticated")]
    Unauthenticated,
    /// USERNAME is missing or that of another rendezvous.
    #[error("the user name is not that of this rendezvous")]
    WrongUsername,
    /// MESSAGE-INTEGRITY was made with another password, or what it covers was changed.
    #[error("the message integrity is wrong")]
    WrongPassword,
    /// Authenticated, but neither a Binding request that names its side nor an answer with an
    /// address, or it has an attribute that must be understood and is not.
    #[error("the message is no check")]
    NoCheck,
}

/// Whether the datagram claims to be STUN: two zero bits and the magic cookie.
pub fn is_stun(bytes: &[u8]) -> bool {
    stun::is_stun(bytes)
}

/// The USERNAME of a well-formed message, which nobody has authenticated yet. Answers have none
/// (RFC 8489 §9.1.3); they are found by [`transaction_of`].
pub fn username_of(bytes: &[u8]) -> Option<&str> {
    let name = Message::parse(bytes)?.attribute(stun::USERNAME)?;
    std::str::from_utf8(name).ok()
}

/// The transaction of a well-formed Binding answer, which nobody has authenticated yet.
pub fn transaction_of(bytes: &[u8]) -> Option<Transaction> {
    let message = Message::parse(bytes)?;
    (message.kind == stun::BINDING_SUCCESS).then_some(message.transaction)
}

/// The transaction of a well-formed Binding request.
pub fn request_transaction_of(bytes: &[u8]) -> Option<Transaction> {
    let message = Message::parse(bytes)?;
    (message.kind == stun::BINDING_REQUEST).then_some(message.transaction)
}

/// What authenticates the checks of one rendezvous (RFC 8489 §9.1, short-term credentials).
#[derive(Clone)]
pub struct Credentials {
    username: UserName,
    key: HMACKey,
}

impl Credentials {
    /// Those that the tracker gave to both peers.
    pub fn of(rendezvous: &Rendezvous) -> Credentials {
        Credentials::new(&rendezvous.id, &rendezvous.secret)
    }

    /// The name is the id, the password the secret, both as base32 text.
    pub fn new(id: &[u8; 10], secret: &[u8; 32]) -> Credentials {
        const REASON: &str = "OpaqueString (RFC 8265 §4.2) allows letters and digits";
        Credentials {
            username: UserName::new(base32_encode(id)).expect(REASON),
            key: HMACKey::new_short_term(base32_encode(secret)).expect(REASON),
        }
    }

    /// USERNAME of every request.
    pub fn username(&self) -> &str {
        self.username.as_str()
    }

    /// A request from the side we are; [`REQUEST_BYTES`] long.
    pub fn encode_request(&self, transaction: Transaction, side: Side) -> Vec<u8> {
        self.encode(self.request(transaction, side))
    }

    /// A request of the client that nominates its path; [`NOMINATION_BYTES`] long.
    pub fn encode_nomination(&self, transaction: Transaction) -> Vec<u8> {
        let request = self.request(transaction, Side::Client);
        self.encode(request.with_attribute(UseCandidate::default()))
    }

    fn request(&self, transaction: Transaction, side: Side) -> StunMessageBuilder {
        let request = StunMessageBuilder::new(BINDING, MessageClass::Request)
            .with_transaction_id(TransactionId::from(transaction.0))
            .with_attribute(self.username.clone());
        // ICE decides conflicts of the roles by the number. Keys fix the roles here, so it is 0.
        match side {
            Side::Client => request.with_attribute(IceControlling::from(0)),
            Side::Server => request.with_attribute(IceControlled::from(0)),
        }
    }

    /// The answer to a request that came from `mapped`; at most [`ANSWER_BYTES`] long.
    pub fn encode_answer(&self, transaction: Transaction, mapped: SocketAddr) -> Vec<u8> {
        self.encode(
            StunMessageBuilder::new(BINDING, MessageClass::SuccessResponse)
                .with_transaction_id(TransactionId::from(transaction.0))
                .with_attribute(XorMappedAddress::from(mapped)),
        )
    }

    fn encode(&self, message: StunMessageBuilder) -> Vec<u8> {
        let message = message.with_attribute(MessageIntegrity::new(self.key.clone()));
        let mut bytes = vec![0; NOMINATION_BYTES];
        let length = MessageEncoderBuilder::default()
            .build()
            .encode(&mut bytes, &message.build())
            .expect("NOMINATION_BYTES is the sum of the longest message's parts");
        bytes.truncate(length);
        bytes
    }

    /// Reads one datagram, which somebody with the same credentials must have made.
    ///
    /// # Errors
    /// For everything else; the caller drops it and stays silent.
    pub fn decode(&self, bytes: &[u8]) -> Result<Check, CheckError> {
        let message = Message::parse(bytes).ok_or(CheckError::Malformed)?;
        let request = message.kind == stun::BINDING_REQUEST;
        if request && message.attribute(stun::USERNAME) != Some(self.username().as_bytes()) {
            return Err(CheckError::WrongUsername);
        }
        self.authenticate(&message, bytes)?;
        if message.attributes().any(|(kind, _)| must_be_refused(kind)) {
            return Err(CheckError::NoCheck);
        }
        let check = match message.kind {
            stun::BINDING_REQUEST => read_request(&message),
            stun::BINDING_SUCCESS => read_answer(&message),
            _ => None,
        };
        check.ok_or(CheckError::NoCheck)
    }

    /// MESSAGE-INTEGRITY must be last, so that nothing in the message escapes it; then the text it
    /// covers (RFC 8489 §14.5) is what stands before it, length field included. The comparison is
    /// not in constant time: an attempt lives for seconds, and its answers cross a network.
    fn authenticate(&self, message: &Message<'_>, bytes: &[u8]) -> Result<(), CheckError> {
        let Some((stun::MESSAGE_INTEGRITY, code)) = message.attributes().last() else {
            return Err(CheckError::Unauthenticated);
        };
        let code: [u8; 20] = code.try_into().map_err(|_| CheckError::Unauthenticated)?;
        let covered = &bytes[..bytes.len() - INTEGRITY_BYTES];
        MessageIntegrity::from(code)
            .validate(covered, &self.key)
            .then_some(())
            .ok_or(CheckError::WrongPassword)
    }
}

impl fmt::Debug for Credentials {
    /// The name only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username())
            .finish_non_exhaustive()
    }
}

fn must_be_refused(kind: u16) -> bool {
    let known = [
        stun::USERNAME,
        stun::MESSAGE_INTEGRITY,
        stun::XOR_MAPPED_ADDRESS,
        stun::USE_CANDIDATE,
    ];
    kind < stun::COMPREHENSION_OPTIONAL && !known.contains(&kind)
}

fn read_request(message: &Message<'_>) -> Option<Check> {
    let client = message.attribute(stun::ICE_CONTROLLING).is_some();
    let server = message.attribute(stun::ICE_CONTROLLED).is_some();
    let side = match (client, server) {
        (true, false) => Side::Client,
        (false, true) => Side::Server,
        _ => return None,
    };
    let nominates = message.attribute(stun::USE_CANDIDATE).is_some();
    // The server has nothing to nominate (RFC 8445 §7.3.1.5).
    (side == Side::Client || !nominates).then_some(Check::Request {
        transaction: message.transaction,
        side,
        nominates,
    })
}

fn read_answer(message: &Message<'_>) -> Option<Check> {
    Some(Check::Answer {
        transaction: message.transaction,
        mapped: message.mapped_address()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stun_rs::attributes::stun::{Fingerprint, Nonce, Software};

    use super::*;

    const DOCUMENT: &str = include_str!("../../PROTOCOL.md");
    const TRANSACTION: Transaction = Transaction([0x99; 12]);

    #[test]
    fn checks_are_what_the_document_shows() {
        let (v4, v6) = addresses();
        for (name, bytes) in [
            ("request of the client", request(Side::Client)),
            ("request of the server", request(Side::Server)),
            ("nomination", credentials().encode_nomination(TRANSACTION)),
            (
                "answer to ipv4",
                credentials().encode_answer(TRANSACTION, v4),
            ),
            (
                "answer to ipv6",
                credentials().encode_answer(TRANSACTION, v6),
            ),
        ] {
            let prefix = format!("datagram {name}: ");
            let vector = DOCUMENT.lines().find_map(|line| line.strip_prefix(&prefix));
            let hex = vector.unwrap().replace("99x12", &"99".repeat(12));
            assert_eq!(
                data_encoding::HEXLOWER.encode(&bytes),
                hex.replace(' ', ""),
                "{name}"
            );
        }
    }

    #[test]
    fn a_request_names_its_side() {
        for side in [Side::Client, Side::Server] {
            let expected = Check::Request {
                transaction: TRANSACTION,
                side,
                nominates: false,
            };
            assert_eq!(credentials().decode(&request(side)), Ok(expected));
        }
    }

    #[test]
    fn only_the_client_nominates() {
        let bytes = credentials().encode_nomination(TRANSACTION);
        assert_eq!(bytes.len(), NOMINATION_BYTES);
        let expected = Check::Request {
            transaction: TRANSACTION,
            side: Side::Client,
            nominates: true,
        };
        assert_eq!(credentials().decode(&bytes), Ok(expected));
        let nominate = |m: StunMessageBuilder| {
            m.with_attribute(IceControlled::from(0))
                .with_attribute(UseCandidate::default())
        };
        check(&signed(nominate, |m| m), CheckError::NoCheck);
    }

    #[test]
    fn an_answer_names_the_address_and_is_shorter_than_any_request() {
        let (v4, v6) = addresses();
        for (mapped, length) in [(v4, 56), (v6, ANSWER_BYTES)] {
            let answer = credentials().encode_answer(TRANSACTION, mapped);
            assert_eq!(answer.len(), length);
            assert!(length < request(Side::Client).len());
            let expected = Check::Answer {
                transaction: TRANSACTION,
                mapped,
            };
            assert_eq!(credentials().decode(&answer), Ok(expected));
        }
    }

    #[test]
    fn without_message_integrity_nothing_passes() {
        let answer = credentials().encode_answer(TRANSACTION, addresses().0);
        for mut bytes in [request(Side::Client), answer] {
            bytes.truncate(bytes.len() - INTEGRITY_BYTES);
            bytes[3] -= INTEGRITY_BYTES as u8;
            check(&bytes, CheckError::Unauthenticated);
        }
    }

    #[test]
    fn nothing_follows_message_integrity() {
        let with_fingerprint = signed(|m| m, |m| m.with_attribute(Fingerprint::default()));
        check(&with_fingerprint, CheckError::Unauthenticated);
        let forged = addresses().0;
        let behind = |m: StunMessageBuilder| m.with_attribute(XorMappedAddress::from(forged));
        check(&signed(|m| m, behind), CheckError::Unauthenticated);
    }

    #[test]
    fn every_changed_bit_every_cut_and_every_addition_is_noticed() {
        let answer = credentials().encode_answer(TRANSACTION, addresses().1);
        for bytes in [request(Side::Client), answer] {
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(credentials().decode(&changed).is_err(), "bit {bit}");
            }
            for length in 0..bytes.len() {
                check(&bytes[..length], CheckError::Malformed);
            }
            check(&[&bytes[..], &[0; 4]].concat(), CheckError::Malformed);
        }
    }

    #[test]
    fn another_rendezvous_is_not_ours() {
        let other_id = Credentials::new(&[0x56; 10], &[0x44; 32]);
        let other_secret = Credentials::new(&[0x55; 10], &[0x45; 32]);
        let by = |credentials: &Credentials| credentials.encode_request(TRANSACTION, Side::Client);
        check(&by(&other_id), CheckError::WrongUsername);
        check(&by(&other_secret), CheckError::WrongPassword);
        let answer = other_secret.encode_answer(TRANSACTION, addresses().0);
        check(&answer, CheckError::WrongPassword);
    }

    #[test]
    fn a_side_is_named_once() {
        let both = |m: StunMessageBuilder| {
            m.with_attribute(IceControlling::from(0))
                .with_attribute(IceControlled::from(0))
        };
        check(&signed(both, |m| m), CheckError::NoCheck);
        check(&signed(|m| m, |m| m), CheckError::NoCheck);
    }

    #[test]
    fn what_need_not_be_understood_is_ignored_and_what_must_be_is_not() {
        let client = |m: StunMessageBuilder| m.with_attribute(IceControlling::from(7));
        let software = |m| client(m).with_attribute(Software::new("other").unwrap());
        assert!(credentials().decode(&signed(software, |m| m)).is_ok());
        let nonce = |m| client(m).with_attribute(Nonce::new("nonce").unwrap());
        check(&signed(nonce, |m| m), CheckError::NoCheck);
    }

    #[test]
    fn a_look_finds_the_attempt_before_any_authentication() {
        let mut bytes = request(Side::Server);
        *bytes.last_mut().unwrap() ^= 1;
        assert!(is_stun(&bytes));
        assert_eq!(username_of(&bytes), Some(credentials().username()));
        assert_eq!(transaction_of(&bytes), None);
        let mut answer = credentials().encode_answer(TRANSACTION, addresses().0);
        *answer.last_mut().unwrap() ^= 1;
        assert_eq!(username_of(&answer), None);
        assert_eq!(transaction_of(&answer), Some(TRANSACTION));
        // A QUIC packet has the bit 0x40.
        bytes[0] |= 0x40;
        assert!(!is_stun(&bytes));
    }

    #[test]
    fn the_password_does_not_show_in_debug_output() {
        let text = format!("{:?}", credentials());
        assert_eq!(text, r#"Credentials { username: "kvkvkvkvkvkvkvkv", .. }"#);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_none_pass(bytes in any_datagram()) {
            let _ = (is_stun(&bytes), username_of(&bytes), transaction_of(&bytes));
            let _ = Message::parse(&bytes).map(|message| message.mapped_address());
            prop_assert!(credentials().decode(&bytes).is_err());
        }
    }

    /// Random bytes, or a good header before random attributes.
    fn any_datagram() -> impl Strategy<Value = Vec<u8>> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..300);
        let kinds = prop_oneof![
            Just(stun::USERNAME),
            Just(stun::MESSAGE_INTEGRITY),
            Just(stun::XOR_MAPPED_ADDRESS),
            any::<u16>()
        ];
        let value = proptest::collection::vec(any::<u8>(), 0..24);
        let attributes = proptest::collection::vec((kinds, value, 0..3u16), 0..8);
        let message = (any::<bool>(), attributes).prop_map(|(is_answer, attributes)| {
            let mut bytes = vec![u8::from(is_answer), 1, 0, 0];
            bytes.extend_from_slice(&stun::MAGIC_COOKIE);
            bytes.extend_from_slice(&[7; 12]);
            for (kind, value, lie) in attributes {
                bytes.extend_from_slice(&kind.to_be_bytes());
                let length = value.len() as u16 + lie / 2;
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.extend_from_slice(&value);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            let length = (bytes.len() - stun::HEADER_BYTES) as u16;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            bytes
        });
        prop_oneof![bytes, message]
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: CheckError) {
        assert_eq!(credentials().decode(bytes), Err(expected));
    }

    fn credentials() -> Credentials {
        Credentials::new(&[0x55; 10], &[0x44; 32])
    }

    fn request(side: Side) -> Vec<u8> {
        credentials().encode_request(TRANSACTION, side)
    }

    fn addresses() -> (SocketAddr, SocketAddr) {
        let parse = |text: &str| text.parse().unwrap();
        (parse("203.0.113.7:5000"), parse("[2001:db8::1]:5000"))
    }

    /// A request with further attributes before and behind its MESSAGE-INTEGRITY.
    fn signed(
        before: impl FnOnce(StunMessageBuilder) -> StunMessageBuilder,
        behind: impl FnOnce(StunMessageBuilder) -> StunMessageBuilder,
    ) -> Vec<u8> {
        let request = StunMessageBuilder::new(BINDING, MessageClass::Request)
            .with_transaction_id(TransactionId::from(TRANSACTION.0))
            .with_attribute(credentials().username);
        let integrity = MessageIntegrity::new(credentials().key);
        let request = behind(before(request).with_attribute(integrity)).build();
        let mut bytes = vec![0; stun::MAX_BYTES];
        let encoder = MessageEncoderBuilder::default().build();
        let length = encoder.encode(&mut bytes, &request).unwrap();
        bytes.truncate(length);
        bytes
    }
}
