//! Answers STUN Binding requests (RFC 8489): tells anyone how their address looks from here.
//!
//! A request with CHANGE-REQUEST (RFC 5780 §7.2) is answered from our other port, which shows a
//! daemon whether its NAT lets in what it did not ask for. No answer leaves from another IP address
//! than was asked, not even where there is a second one ([`crate::alternate`]), so there is no
//! OTHER-ADDRESS (RFC 5780 §7.4) in any.
//!
//! A request in the name of a session brings a token by which a daemon proves to be where it came from
//! ([`crate::proofs`]); nothing is remembered of it, and no session need exist.
//!
//! Source addresses can be forged, so an answer must not make us an amplifier. A request at least
//! as long as its answer is always served; a shorter one only while its prefix has tokens.
//!
//! Not here: what requests look like ([`request`]), what answers look like ([`mod@answer`]).

mod answer;
mod request;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use warren_net::{Datagram, Socket};
use warren_proto::wire::{AddressToken, SessionName};

use self::request::{CHANGE_REQUEST, Change, Dialect, Request};
use crate::admission::Admission;
use crate::proofs::Proofs;

/// One port: the socket that is asked there, and those that can answer from another port.
pub(crate) struct Port {
    pub(crate) socket: Arc<Socket>,
    pub(crate) others: Vec<Arc<Socket>>,
}

/// Answers everything from `requests`, which came to `port`, until the socket is gone.
pub(crate) async fn serve(
    port: Port,
    mut requests: mpsc::Receiver<Datagram>,
    admission: Arc<Admission>,
    proofs: Arc<Proofs>,
) {
    while let Some(request) = requests.recv().await {
        let other = port.other(&request);
        let other_address = other.map(|(_, address)| address);
        let issue = |session: &_| proofs.issue(Instant::now(), session, request.from);
        let Some(answer) = answer(&request.bytes, request.from, other_address, issue) else {
            continue;
        };
        let grows = answer.bytes.len() > request.bytes.len();
        if grows && !admission.longer_stun_answer(request.from.ip()) {
            continue;
        }
        let socket = match (answer.leaves, other) {
            (Leaves::OtherPort, Some((socket, _))) => socket,
            _ => &port.socket,
        };
        let local_ip = request.local_ip.map(|ip| ip.to_canonical());
        socket.send_raw_from(&answer.bytes, request.from, local_ip);
    }
}

impl Port {
    /// The socket that can answer this request from another port of the address it was sent to, and
    /// what that port is.
    fn other(&self, request: &Datagram) -> Option<(&Arc<Socket>, SocketAddr)> {
        let asked = request.local_ip.map(|ip| ip.to_canonical());
        self.others.iter().find_map(|socket| {
            let address = stand_in(socket.local_addr(), asked, request.from)?;
            Some((socket, address))
        })
    }
}

/// The address from which a socket bound to `bound` can answer what `from` sent to `asked`.
fn stand_in(bound: SocketAddr, asked: Option<IpAddr>, from: SocketAddr) -> Option<SocketAddr> {
    let ip = match bound.ip() {
        // `[::]` takes both families.
        any if any.is_unspecified() && (any.is_ipv6() || from.is_ipv4()) => asked.unwrap_or(any),
        ip if Some(ip) == asked => ip,
        _ => return None,
    };
    Some(SocketAddr::new(ip, bound.port()))
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    leaves: Leaves,
    bytes: Vec<u8>,
}

/// Which port an answer leaves from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    /// The one that was asked.
    SamePort,
    OtherPort,
}

/// The answer to one datagram from `from`, if it is a request that gets one. `other` is our other
/// port, if there is one; `issue` makes the token for a session there.
fn answer(
    bytes: &[u8],
    from: SocketAddr,
    other: Option<SocketAddr>,
    issue: impl FnOnce(&SessionName) -> AddressToken,
) -> Option<Answer> {
    let request = Request::parse(bytes)?;
    let mut refused = request.unknown.clone();
    let leaves = match leaves(&request, other) {
        Some(leaves) => leaves,
        // A classic client takes whatever comes, a refusal too, for proof that its NAT lets it in.
        None if request.dialect == Dialect::Classic => return None,
        None => {
            refused.push(CHANGE_REQUEST);
            Leaves::SamePort
        }
    };
    Some(match refused[..] {
        [] => Answer {
            leaves,
            bytes: with_token(
                bytes,
                &request,
                answer::success(&request, from, other)?,
                issue,
            ),
        },
        _ => Answer {
            leaves: Leaves::SamePort,
            bytes: answer::refusal(&request, &refused)?,
        },
    })
}

/// The answer with the token that the request asks for, unless that makes it longer than the request:
/// who wants one makes room for it.
fn with_token(
    bytes: &[u8],
    request: &Request,
    answer: Vec<u8>,
    issue: impl FnOnce(&SessionName) -> AddressToken,
) -> Vec<u8> {
    let is_plain = request.dialect == Dialect::Current && !request.has_fingerprint;
    match request.session.filter(|_| is_plain) {
        Some(session) if answer.len() + answer::TOKEN_BYTES <= bytes.len() => {
            answer::and_token(answer, issue(&session))
        }
        _ => answer,
    }
}

/// Where an answer leaves from that does what the request wants; `None` if we cannot do it.
fn leaves(request: &Request, other: Option<SocketAddr>) -> Option<Leaves> {
    match (request.change, request.dialect) {
        (Change::Unasked | Change::Nothing, _) => Some(Leaves::SamePort),
        // Classic clients have no way to hear that no answer leaves from another address, and call an open host
        // firewalled if nothing comes. The other port shows them all but a NAT that filters by
        // address alone for what they are.
        (Change::Port, _) | (Change::Ip, Dialect::Classic) => other.map(|_| Leaves::OtherPort),
        (Change::Ip, Dialect::Current) => None,
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::IndexedMutRandom;
    use rand::{Rng, SeedableRng};
    use stun_rs::attributes::stun::XorMappedAddress;
    use stun_rs::{MessageClass, MessageDecoderBuilder};

    use super::request::SESSION;
    use super::*;

    /// A Binding request without attributes.
    const BARE: [u8; 20] = [
        0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];

    /// The same without the cookie.
    const CLASSIC: [u8; 20] = [
        0, 1, 0, 0, 3, 9, 8, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];

    const V4: &str = "192.0.2.1:32853";
    const V6: &str = "[2001:db8::1]:443";

    const CHANGE_PORT: [u8; 4] = [0, 0, 0, 2];
    const CHANGE_IP: [u8; 4] = [0, 0, 0, 4];
    const CHANGE_BOTH: [u8; 4] = [0, 0, 0, 6];

    #[test]
    fn the_answer_names_the_senders_address() {
        for from in [V4, V6] {
            let answer = ask(&BARE, from).unwrap();
            assert_eq!(answer.leaves, Leaves::SamePort);
            let (message, _) = MessageDecoderBuilder::default()
                .build()
                .decode(&answer.bytes)
                .unwrap();
            assert_eq!(message.class(), MessageClass::SuccessResponse);
            assert_eq!(message.transaction_id().as_bytes(), &BARE[8..]);
            assert_eq!(message.attributes().len(), 1);
            let mapped = message.get::<XorMappedAddress>().unwrap();
            assert_eq!(
                *mapped.as_xor_mapped_address().unwrap().socket_address(),
                from.parse().unwrap()
            );
        }
    }

    #[test]
    fn a_classic_request_gets_a_classic_answer() {
        let changed = [0, 5, 0, 8, 0, 1, 0xe6, 0x79, 198, 51, 100, 1];
        let mapped = [0, 1, 0, 8, 0, 1, 0x80, 0x55, 192, 0, 2, 1];
        let header = |length| [&[1, 1, 0, length], &CLASSIC[4..]].concat();
        let answer = ask(&CLASSIC, V4).unwrap().bytes;
        assert_eq!(answer, [&header(24)[..], &mapped, &changed].concat());
        let alone = super::answer(&CLASSIC, V4.parse().unwrap(), None, no_token).unwrap();
        assert_eq!(alone.bytes, [&header(12)[..], &mapped].concat());
        let mut v6 = vec![0, 1, 0, 20, 0, 2, 0x01, 0xbb, 0x20, 0x01, 0x0d, 0xb8];
        v6.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let answer = ask(&CLASSIC, V6).unwrap().bytes;
        assert_eq!(answer, [&header(24)[..], &v6].concat());
    }

    #[test]
    fn no_answer_is_more_than_2_2_times_as_long_as_its_request() {
        let unknown = |count: u16| {
            let each = (0..count).map(|kind| (0x7000 + kind, Vec::new()));
            each.collect::<Vec<_>>()
        };
        for plain in [BARE, CLASSIC] {
            let mut requests = vec![plain.to_vec()];
            requests.extend((1..20).map(|count| with(&plain, &unknown(count))));
            requests.extend([CHANGE_PORT, CHANGE_IP].map(|flags| changing(&plain, flags)));
            let fingerprint = (0x8028, vec![0; 4]);
            requests.push(with(&plain, &[unknown(1), vec![fingerprint]].concat()));
            for (request, from) in requests.iter().flat_map(|r| [(r, V4), (r, V6)]) {
                let answer = ask(request, from).unwrap();
                assert!(
                    answer.bytes.len() * 10 <= request.len() * 22,
                    "{} bytes for {request:?}",
                    answer.bytes.len()
                );
            }
        }
    }

    #[test]
    fn attributes_that_must_be_understood_are_refused_and_named() {
        // PRIORITY and USE-CANDIDATE, which a codec for ICE knows; PADDING and RESPONSE-PORT of
        // RFC 5780; RESPONSE-ADDRESS of RFC 3489, which would make us a reflector.
        for kind in [0x0024, 0x0025, 0x0026, 0x0027, 0x0002, 0x7fff] {
            check_refused(&with(&BARE, &[(kind, vec![0; 4])]), &[kind]);
            check_refused(&with(&CLASSIC, &[(kind, vec![0; 4])]), &[kind, kind]);
        }
        let two = [(0x0024, vec![0; 4]), (0x0025, vec![]), (0x0024, vec![0; 4])];
        check_refused(&with(&BARE, &two), &[0x0024, 0x0025]);
        check_refused(&with(&CLASSIC, &two), &[0x0024, 0x0025]);
    }

    #[test]
    fn attributes_that_may_be_ignored_or_mean_nothing_here_are_ignored() {
        // USERNAME, MESSAGE-INTEGRITY, SOFTWARE, ICE-CONTROLLING.
        for (kind, length) in [(0x0006, 3), (0x0008, 20), (0x8022, 5), (0x802a, 8)] {
            for plain in [BARE, CLASSIC] {
                let answer = ask(&with(&plain, &[(kind, vec![0; length])]), V4);
                assert_eq!(answer, ask(&plain, V4), "{kind:#06x}");
            }
        }
    }

    #[test]
    fn a_fingerprint_is_answered_by_one() {
        let answer = ask(&with(&BARE, &[(0x8028, vec![0; 4])]), V4).unwrap();
        assert_eq!(answer.bytes.len(), 20 + 12 + 8);
        assert_eq!(answer.bytes[32..36], [0x80, 0x28, 0, 4]);
    }

    #[test]
    fn who_asks_for_another_port_is_answered_from_it() {
        for plain in [BARE, CLASSIC] {
            let answer = ask(&changing(&plain, CHANGE_PORT), V4).unwrap();
            assert_eq!(answer.leaves, Leaves::OtherPort);
            assert_eq!(answer.bytes, ask(&plain, V4).unwrap().bytes);
            assert_eq!(ask(&changing(&plain, [0; 4]), V4), ask(&plain, V4));
        }
    }

    #[test]
    fn what_cannot_be_changed_is_refused() {
        check_refused(&changing(&BARE, CHANGE_IP), &[CHANGE_REQUEST]);
        check_refused(&changing(&BARE, CHANGE_BOTH), &[CHANGE_REQUEST]);
        let from = V4.parse().unwrap();
        let answer = answer(&changing(&BARE, CHANGE_PORT), from, None, no_token).unwrap();
        assert_eq!(answer.leaves, Leaves::SamePort);
        assert_eq!(answer.bytes[..2], [0x01, 0x11]);
    }

    #[test]
    fn a_refusal_comes_from_the_port_that_was_asked() {
        let attributes = [(CHANGE_REQUEST, CHANGE_PORT.to_vec()), (0x0024, vec![0; 4])];
        check_refused(&with(&BARE, &attributes), &[0x0024]);
    }

    #[test]
    fn a_classic_client_is_answered_from_the_other_port_or_not_at_all() {
        for flags in [CHANGE_PORT, CHANGE_IP, CHANGE_BOTH] {
            let request = changing(&CLASSIC, flags);
            assert_eq!(ask(&request, V4).unwrap().leaves, Leaves::OtherPort);
            assert_eq!(answer(&request, V4.parse().unwrap(), None, no_token), None);
        }
    }

    #[test]
    fn who_asks_for_a_token_gets_one_that_fits_into_the_length_of_the_request() {
        let session = (SESSION, vec![0x77; 16]);
        let padding = (0x8022, vec![0; 20]);
        for from in [V4, V6] {
            let request = with(&BARE, &[padding.clone(), session.clone()]);
            let answer = ask(&request, from).unwrap();
            assert!(answer.bytes.len() <= request.len(), "{from}");
            assert_eq!(answer.leaves, Leaves::SamePort);
            let plain = ask(&BARE, from).unwrap().bytes;
            let mut expected = [&plain[..], &[0xda, 0xcd, 0, 16], &[0x88; 16]].concat();
            expected[3] += 20;
            assert_eq!(answer.bytes, expected);
            // One that is shorter gets the same as who has not asked for it.
            let short = with(&BARE, std::slice::from_ref(&session));
            assert_eq!(ask(&short, from).unwrap().bytes, plain);
        }
    }

    #[test]
    fn only_a_whole_name_gets_a_token() {
        let padding = (0x8022, vec![0; 40]);
        for length in [0, 15, 17, 32] {
            let request = with(&BARE, &[padding.clone(), (SESSION, vec![0x77; length])]);
            assert_eq!(ask(&request, V6).unwrap().bytes.len(), 44, "{length}");
        }
        let classic = with(&CLASSIC, &[padding.clone(), (SESSION, vec![0x77; 16])]);
        assert_eq!(ask(&classic, V6).unwrap().bytes.len(), 44);
        let change = (CHANGE_REQUEST, CHANGE_IP.to_vec());
        let refused = with(&BARE, &[padding, (SESSION, vec![0x77; 16]), change]);
        assert_eq!(ask(&refused, V6).unwrap().bytes[..2], [1, 0x11]);
    }

    #[test]
    fn another_port_is_one_of_the_same_address() {
        let check = |bound: &str, asked: &str, from: &str, expected: Option<&str>| {
            let found = stand_in(
                bound.parse().unwrap(),
                Some(asked.parse().unwrap()),
                from.parse().unwrap(),
            );
            assert_eq!(found, expected.map(|text| text.parse().unwrap()), "{bound}");
        };
        check("0.0.0.0:1", "198.51.100.1", V4, Some("198.51.100.1:1"));
        check("[::]:1", "198.51.100.1", V4, Some("198.51.100.1:1"));
        check("[::]:1", "2001:db8::2", V6, Some("[2001:db8::2]:1"));
        check("0.0.0.0:1", "2001:db8::2", V6, None);
        check("198.51.100.1:1", "198.51.100.1", V4, Some("198.51.100.1:1"));
        check("198.51.100.2:1", "198.51.100.1", V4, None);
        check("[2001:db8::2]:1", "198.51.100.1", V4, None);
    }

    #[test]
    fn what_is_no_binding_request_gets_no_answer() {
        let mut indication = BARE;
        indication[1] = 0x11;
        let mut response = BARE;
        response[0] = 1;
        let mut too_long = BARE;
        too_long[3] = 200;
        let trailing = [&BARE[..], &[0; 4]].concat();
        let mut odd = [&CLASSIC[..], &[0; 2]].concat();
        odd[3] = 2;
        let mut overlong_attribute = with(&BARE, &[(0x8022, vec![0; 4])]);
        overlong_attribute[23] = 5;
        let short_change = with(&BARE, &[(CHANGE_REQUEST, vec![2])]);
        for bytes in [
            &indication[..],
            &response,
            &too_long,
            &trailing,
            &odd,
            &overlong_attribute,
            &short_change,
            &BARE[..19],
            &[],
        ] {
            assert_eq!(ask(bytes, V4), None, "{bytes:?}");
        }
    }

    #[test]
    fn nothing_anybody_sends_panics_us() {
        let mut rng = StdRng::seed_from_u64(1);
        let attributes = [
            (CHANGE_REQUEST, CHANGE_PORT.to_vec()),
            (0x0024, vec![0; 5]),
            (SESSION, vec![7; 16]),
        ];
        for round in 0..20_000 {
            let plain = if round % 2 == 0 { BARE } else { CLASSIC };
            let mut bytes = with(&plain, &attributes);
            bytes.truncate(rng.random_range(0..=bytes.len()));
            for _ in 0..rng.random_range(0..4) {
                if let Some(byte) = bytes.choose_mut(&mut rng) {
                    *byte = rng.random();
                }
            }
            // A length that fits lets more of them reach the attributes.
            if let (Some(length), true) = (bytes.len().checked_sub(20), rng.random()) {
                bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            }
            if let Some(answer) = ask(&bytes, V6) {
                assert!(answer.bytes.len() <= 128, "{bytes:?}");
            }
        }
    }

    /// Asks a tracker that has another port.
    fn ask(bytes: &[u8], from: &str) -> Option<Answer> {
        let other = "198.51.100.1:59001".parse().unwrap();
        answer(bytes, from.parse().unwrap(), Some(other), |session| {
            session.map(|byte| !byte)
        })
    }

    fn no_token(_: &SessionName) -> AddressToken {
        panic!("nobody has asked for a token")
    }

    /// A request with these attributes.
    fn with(plain: &[u8; 20], attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = plain.to_vec();
        for (kind, value) in attributes {
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let length = (bytes.len() - 20) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes
    }

    fn changing(plain: &[u8; 20], flags: [u8; 4]) -> Vec<u8> {
        with(plain, &[(CHANGE_REQUEST, flags.to_vec())])
    }

    /// 420 with these types, from the port that was asked.
    #[track_caller]
    fn check_refused(request: &[u8], listed: &[u16]) {
        let answer = ask(request, V4).unwrap();
        assert_eq!(answer.leaves, Leaves::SamePort);
        let listed: Vec<u8> = listed.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        let mut expected = vec![0x01, 0x11, 0, 0];
        expected.extend_from_slice(&request[4..20]);
        expected.extend_from_slice(b"\x00\x09\x00\x10\x00\x00\x04\x14Unknown type");
        expected.extend_from_slice(&[0x00, 0x0a, 0x00, listed.len() as u8]);
        expected.extend_from_slice(&listed);
        expected.resize(expected.len().next_multiple_of(4), 0);
        let length = (expected.len() - 20) as u16;
        expected[2..4].copy_from_slice(&length.to_be_bytes());
        assert_eq!(answer.bytes, expected);
    }
}
