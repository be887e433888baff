//! Answers STUN Binding requests (RFC 8489): tells anyone how their address looks from here.
//!
//! Source addresses can be forged, so an answer must not make us an amplifier. A request at least
//! as long as its answer is always served; a shorter one only while its prefix has tokens.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use stun_rs::attributes::StunAttribute;
use stun_rs::attributes::stun::{
    ErrorCode as ErrorCodeAttribute, Fingerprint, UnknownAttributes, XorMappedAddress,
};
use stun_rs::methods::BINDING;
use stun_rs::{
    ErrorCode, MESSAGE_HEADER_SIZE, MessageClass, MessageDecoderBuilder, MessageEncoderBuilder,
    StunMessage, StunMessageBuilder,
};
use tokio::sync::mpsc;

use warren_net::{Datagram, Socket};

use crate::admission::Admission;

/// The magic cookie (RFC 8489 §5), bytes 4 to 8 of every message.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Room for the longest answer: header 20, error code 28, unknown attributes 4 + 2 each.
const ANSWER_BYTES: usize = 256;

/// Attribute types below this must be understood, or the request refused (RFC 8489 §14).
const COMPREHENSION_OPTIONAL: u16 = 0x8000;

/// Unknown attributes listed in a refusal; more would only make the answer longer.
const UNKNOWN_LISTED: usize = 8;

/// Answers everything from `requests` through `socket` until the socket is gone.
pub(crate) async fn serve(
    socket: Arc<Socket>,
    mut requests: mpsc::Receiver<Datagram>,
    admission: Arc<Admission>,
) {
    while let Some(request) = requests.recv().await {
        let Some(bytes) = answer(&request.bytes, request.from) else {
            continue;
        };
        let grows = bytes.len() > request.bytes.len();
        if !grows || admission.longer_stun_answer(request.from.ip()) {
            socket.send_raw_from(&bytes, request.from, request.local_ip);
        }
    }
}

/// The answer to one datagram from `from`, if it is a request that gets one.
fn answer(request: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    if request.len() < MESSAGE_HEADER_SIZE || request[4..8] != MAGIC_COOKIE {
        return None;
    }
    // The codec has not been fuzzed as our own decoders are, and this task answers everybody: a
    // panic in it may cost one answer, not all that follow.
    catch_unwind(AssertUnwindSafe(|| decode_and_answer(request, from)))
        .ok()
        .flatten()
}

fn decode_and_answer(request: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let decoder = MessageDecoderBuilder::default().build();
    let (request, _) = decoder.decode(request).ok()?;
    if request.method() != BINDING || request.class() != MessageClass::Request {
        return None;
    }
    let unknown = unknown_attributes(&request);
    let answer = if unknown.is_empty() {
        success(&request, from)
    } else {
        refusal(&request, &unknown)?
    };
    let answer = match request.get::<Fingerprint>() {
        Some(_) => answer.with_attribute(Fingerprint::default()),
        None => answer,
    };
    let mut bytes = vec![0; ANSWER_BYTES];
    let length = MessageEncoderBuilder::default()
        .build()
        .encode(&mut bytes, &answer.build())
        .ok()?;
    bytes.truncate(length);
    Some(bytes)
}

fn success(request: &StunMessage, from: SocketAddr) -> StunMessageBuilder {
    StunMessageBuilder::new(BINDING, MessageClass::SuccessResponse)
        .with_transaction_id(*request.transaction_id())
        .with_attribute(XorMappedAddress::from(from))
}

/// 420, Unknown Attribute (RFC 8489 §6.3.1).
fn refusal(request: &StunMessage, unknown: &[u16]) -> Option<StunMessageBuilder> {
    let code = ErrorCode::new(420, "Unknown Attribute").ok()?;
    Some(
        StunMessageBuilder::new(BINDING, MessageClass::ErrorResponse)
            .with_transaction_id(*request.transaction_id())
            .with_attribute(ErrorCodeAttribute::from(code))
            .with_attribute(UnknownAttributes::from(unknown)),
    )
}

fn unknown_attributes(request: &StunMessage) -> Vec<u16> {
    request
        .attributes()
        .iter()
        .filter(|attribute| matches!(attribute, StunAttribute::Unknown(_)))
        .map(|attribute| attribute.attribute_type().as_u16())
        .filter(|kind| *kind < COMPREHENSION_OPTIONAL)
        .take(UNKNOWN_LISTED)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Binding request without attributes.
    const BARE: [u8; 20] = [
        0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];

    #[test]
    fn the_answer_names_the_senders_address() {
        for from in ["192.0.2.1:32853", "[2001:db8::1]:443"] {
            let from: SocketAddr = from.parse().unwrap();
            let bytes = answer(&BARE, from).unwrap();
            let (message, _) = MessageDecoderBuilder::default()
                .build()
                .decode(&bytes)
                .unwrap();
            assert_eq!(message.class(), MessageClass::SuccessResponse);
            assert_eq!(message.transaction_id().as_bytes(), &BARE[8..]);
            let mapped = message.get::<XorMappedAddress>().unwrap();
            assert_eq!(
                *mapped.as_xor_mapped_address().unwrap().socket_address(),
                from
            );
        }
    }

    #[test]
    fn a_bare_request_is_amplified_by_no_more_than_2_2() {
        let answer = answer(&BARE, "[2001:db8::1]:443".parse().unwrap()).unwrap();
        assert!(
            answer.len() * 10 <= BARE.len() * 22,
            "{} bytes",
            answer.len()
        );
    }

    #[test]
    fn an_attribute_that_must_be_understood_is_refused() {
        let mut request = BARE.to_vec();
        request[3] = 8;
        request.extend_from_slice(&[0x7f, 0xff, 0, 4, 1, 2, 3, 4]);
        let bytes = answer(&request, "192.0.2.1:1".parse().unwrap()).unwrap();
        assert_eq!(bytes[..2], [0x01, 0x11]);
    }

    #[test]
    fn what_is_no_binding_request_gets_no_answer() {
        let from = "192.0.2.1:1".parse().unwrap();
        let mut indication = BARE;
        indication[1] = 0x11;
        let mut response = BARE;
        response[0] = 1;
        let mut no_cookie = BARE;
        no_cookie[4] = 0;
        let mut too_long = BARE;
        too_long[3] = 200;
        for bytes in [
            &indication[..],
            &response,
            &no_cookie,
            &too_long,
            &BARE[..19],
            &[],
        ] {
            assert_eq!(answer(bytes, from), None);
        }
    }
}
