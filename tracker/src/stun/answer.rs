//! Writes answers to Binding requests in the dialect of whoever asked.
//!
//! A bare request is 20 bytes long and its longest answer 44, to IPv6 in the current dialect and to
//! IPv4 in the classic one; a refusal of one or two attributes is 48 for at least 24.

use std::net::{IpAddr, SocketAddr};

use stun_rs::attributes::stun::{
    ErrorCode as ErrorCodeAttribute, Fingerprint, UnknownAttributes, XorMappedAddress,
};
use stun_rs::methods::BINDING;
use stun_rs::{ErrorCode, MessageClass, MessageEncoderBuilder, StunMessageBuilder, TransactionId};

use warren_proto::nat::ADDRESS_TOKEN;
use warren_proto::wire::AddressToken;

use super::request::{Dialect, HEADER_BYTES, Request};

const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const MAPPED_ADDRESS: u16 = 0x0001;
const CHANGED_ADDRESS: u16 = 0x0005;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;

/// 420 is Unknown Attribute (RFC 8489 §14.8). The text is for people, short so that the answer is,
/// and a multiple of four bytes long, as RFC 3489 §11.2.9 wants it.
const UNKNOWN_ATTRIBUTE: u16 = 420;
const REASON: &str = "Unknown type";

/// Room for the longest answer: header 20, error code 20, unknown attributes 4 + 2 × 9,
/// fingerprint 8.
const ANSWER_BYTES: usize = 128;

/// Tells the sender that it is at `from`. A classic one hears also where our `other` port is, which
/// it needs to go on.
pub(super) fn success(
    request: &Request,
    from: SocketAddr,
    other: Option<SocketAddr>,
) -> Option<Vec<u8>> {
    if request.dialect == Dialect::Classic {
        return Some(classic_success(request, from, other));
    }
    let answer = StunMessageBuilder::new(BINDING, MessageClass::SuccessResponse)
        .with_attribute(XorMappedAddress::from(from));
    encode(request, answer)
}

/// Bytes that a token adds to an answer: type 2, length 2, token 16.
pub(super) const TOKEN_BYTES: usize = 4 + 16;

/// A success with a token behind what it says.
pub(super) fn and_token(mut success: Vec<u8>, token: AddressToken) -> Vec<u8> {
    push_attribute(&mut success, ADDRESS_TOKEN, &token);
    success
}

/// Refuses because of the attributes in `unknown`.
pub(super) fn refusal(request: &Request, unknown: &[u16]) -> Option<Vec<u8>> {
    if request.dialect == Dialect::Classic {
        return Some(classic_refusal(request, unknown));
    }
    let code = ErrorCode::new(UNKNOWN_ATTRIBUTE, REASON).ok()?;
    let answer = StunMessageBuilder::new(BINDING, MessageClass::ErrorResponse)
        .with_attribute(ErrorCodeAttribute::from(code))
        .with_attribute(UnknownAttributes::from(unknown));
    encode(request, answer)
}

/// With the request's transaction, and a fingerprint if it has one (RFC 8489 §7).
fn encode(request: &Request, answer: StunMessageBuilder) -> Option<Vec<u8>> {
    let transaction: [u8; 12] = *request.id.last_chunk()?;
    let answer = answer.with_transaction_id(TransactionId::from(transaction));
    let answer = match request.has_fingerprint {
        true => answer.with_attribute(Fingerprint::default()),
        false => answer,
    };
    let mut bytes = vec![0; ANSWER_BYTES];
    let encoder = MessageEncoderBuilder::default().build();
    let length = encoder.encode(&mut bytes, &answer.build()).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

/// MAPPED-ADDRESS and CHANGED-ADDRESS (RFC 3489 §11.2.1, §11.2.3). SOURCE-ADDRESS, which repeats
/// where the answer comes from, is left out, and CHANGED-ADDRESS to IPv6, which RFC 3489 does not
/// know: the answer would be too long.
fn classic_success(request: &Request, from: SocketAddr, other: Option<SocketAddr>) -> Vec<u8> {
    let mut bytes = classic_header(request, BINDING_SUCCESS);
    push_attribute(&mut bytes, MAPPED_ADDRESS, &address(from));
    if let Some(other) = other.filter(|other| other.is_ipv4() && from.is_ipv4()) {
        push_attribute(&mut bytes, CHANGED_ADDRESS, &address(other));
    }
    bytes
}

fn classic_refusal(request: &Request, unknown: &[u16]) -> Vec<u8> {
    let mut bytes = classic_header(request, BINDING_ERROR);
    let (class, number) = (UNKNOWN_ATTRIBUTE / 100, UNKNOWN_ATTRIBUTE % 100);
    let code = [0, 0, class as u8, number as u8];
    push_attribute(&mut bytes, ERROR_CODE, &[&code, REASON.as_bytes()].concat());
    // An odd number is made even by a repetition (RFC 3489 §11.2.10).
    let repeated = unknown.last().filter(|_| unknown.len() % 2 == 1);
    let listed = unknown.iter().chain(repeated);
    let listed: Vec<u8> = listed.flat_map(|kind| kind.to_be_bytes()).collect();
    push_attribute(&mut bytes, UNKNOWN_ATTRIBUTES, &listed);
    bytes
}

fn classic_header(request: &Request, kind: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ANSWER_BYTES);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&request.id);
    bytes
}

/// Appends a value whose length is a multiple of four.
fn push_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
    bytes.extend_from_slice(value);
    let length = (bytes.len() - HEADER_BYTES) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
}

/// The value of MAPPED-ADDRESS: zero 1, family 1, port 2, address 4 or 16 (RFC 8489 §14.1).
fn address(address: SocketAddr) -> Vec<u8> {
    let mut value = vec![0, 1];
    value.extend_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => value.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => {
            value[1] = 2;
            value.extend_from_slice(&ip.octets());
        }
    }
    value
}
