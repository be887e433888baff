//! What is said to a router by PCP (RFC 6887) and NAT-PMP (RFC 6886), and what it answers.
//!
//! Both live on port 5351 of the router. Only what we need: mapping one UDP port, and asking how
//! long the router has been up. Decoding believes nothing: whatever is short, of another version or
//! about something else is `None`.
//!
//! Not here: what is sent when ([`super::mapper`]).

use std::net::{Ipv4Addr, Ipv6Addr};

/// The port at which routers are asked.
pub(super) const ROUTER_PORT: u16 = 5351;

/// Longest message of a PCP server (RFC 6887 §7).
pub(super) const MAX_BYTES: usize = 1100;

const PCP: u8 = 2;
const NAT_PMP: u8 = 0;
/// Set in the opcode of every answer.
const ANSWER: u8 = 0x80;

const PCP_ANNOUNCE: u8 = 0;
const PCP_MAP: u8 = 1;
/// Bytes of a PCP header: version 1, opcode 1, reserved 2 (in answers: reserved 1, result 1),
/// lifetime 4, then our address 16 (in answers: epoch 4, reserved 12).
const PCP_HEADER: usize = 24;
/// Bytes of a MAP after the header: nonce 12, protocol 1, reserved 3, inside port 2, outside port 2,
/// outside address 16.
const PCP_MAP_BODY: usize = 36;
/// IANA's number of UDP.
const UDP: u8 = 17;

const NAT_PMP_ADDRESS: u8 = 0;
const NAT_PMP_MAP_UDP: u8 = 1;

/// The router does not speak this version; the same in both protocols.
const UNSUPPORTED_VERSION: u8 = 1;

/// What names our mapping to a PCP router (RFC 6887 §11.1).
pub(super) type Nonce = [u8; 12];

/// An outside address and port, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    /// The outside port.
    pub(super) port: u16,
    /// In seconds.
    pub(super) lifetime_s: u32,
}

/// One answer of a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A port is mapped, or not, with the result code of RFC 6887 §7.4.
    PcpMap {
        epoch_s: u32,
        nonce: Nonce,
        /// Our port that it is about.
        port: u16,
        result: Result<(Ipv4Addr, Granted), u16>,
    },
    /// How long the PCP server has had its mappings.
    PcpEpoch { epoch_s: u32 },
    /// The router has no PCP, or not this version of it.
    NoPcp,
    /// The outside address, or why there is none, with the result code of RFC 6886 §3.5.
    Address {
        epoch_s: u32,
        result: Result<Ipv4Addr, u16>,
    },
    /// A port is mapped, or not.
    Map {
        epoch_s: u32,
        /// Our port that it is about; refusals need not say.
        port: Option<u16>,
        result: Result<Granted, u16>,
    },
    /// The router has no NAT-PMP.
    NoNatPmp,
}

/// Asks for an outside port for our UDP port `inside`, or with a lifetime of 0 to end that.
/// `suggested` is what we should like (RFC 6887 §11.1); the port 0 and the unspecified address mean
/// anything.
pub(super) fn pcp_map(
    client: Ipv4Addr,
    nonce: Nonce,
    inside: u16,
    suggested: (Ipv4Addr, u16),
    lifetime_s: u32,
) -> Vec<u8> {
    let mut bytes = pcp_header(PCP_MAP, client, lifetime_s);
    bytes.extend(nonce);
    bytes.extend([UDP, 0, 0, 0]);
    bytes.extend(inside.to_be_bytes());
    bytes.extend(suggested.1.to_be_bytes());
    bytes.extend(suggested.0.to_ipv6_mapped().octets());
    debug_assert_eq!(bytes.len(), PCP_HEADER + PCP_MAP_BODY);
    bytes
}

/// Asks how long the PCP server has had its mappings (RFC 6887 §14.1).
pub(super) fn pcp_announce(client: Ipv4Addr) -> Vec<u8> {
    pcp_header(PCP_ANNOUNCE, client, 0)
}

fn pcp_header(opcode: u8, client: Ipv4Addr, lifetime_s: u32) -> Vec<u8> {
    let mut bytes = vec![PCP, opcode, 0, 0];
    bytes.extend(lifetime_s.to_be_bytes());
    bytes.extend(client.to_ipv6_mapped().octets());
    bytes
}

/// Asks for the outside address (RFC 6886 §3.2).
pub(super) fn nat_pmp_address() -> Vec<u8> {
    vec![NAT_PMP, NAT_PMP_ADDRESS]
}

/// Asks for an outside port for our UDP port `inside`, or with a lifetime of 0 to end that
/// (RFC 6886 §3.3, §3.4).
pub(super) fn nat_pmp_map(inside: u16, suggested: u16, lifetime_s: u32) -> Vec<u8> {
    let mut bytes = vec![NAT_PMP, NAT_PMP_MAP_UDP, 0, 0];
    bytes.extend(inside.to_be_bytes());
    // Whoever ends a mapping must name no outside port.
    let suggested = if lifetime_s == 0 { 0 } else { suggested };
    bytes.extend(suggested.to_be_bytes());
    bytes.extend(lifetime_s.to_be_bytes());
    bytes
}

/// Reads what a router sent.
pub(super) fn decode(bytes: &[u8]) -> Option<Answer> {
    let [version, opcode, ..] = *bytes else {
        return None;
    };
    if opcode & ANSWER == 0 || bytes.len() > MAX_BYTES {
        return None;
    }
    match version {
        NAT_PMP => decode_nat_pmp(opcode & !ANSWER, bytes),
        PCP => decode_pcp(opcode & !ANSWER, bytes),
        // Another version of PCP, which says so.
        _ => (*bytes.get(3)? == UNSUPPORTED_VERSION).then_some(Answer::NoPcp),
    }
}

fn decode_pcp(opcode: u8, bytes: &[u8]) -> Option<Answer> {
    let (header, body) = bytes.split_first_chunk::<PCP_HEADER>()?;
    let (code, epoch_s) = (header[3], u32_at(header, 8)?);
    if code == UNSUPPORTED_VERSION {
        // It speaks PCP as we do: what it did not know was our NAT-PMP.
        return Some(Answer::NoNatPmp);
    }
    if opcode != PCP_MAP {
        return Some(Answer::PcpEpoch { epoch_s });
    }
    let (nonce, rest) = body.split_first_chunk::<12>()?;
    let outside: [u8; 16] = *rest.get(8..24)?.first_chunk()?;
    if rest.first() != Some(&UDP) {
        return None;
    }
    let granted = Granted {
        port: u16_at(rest, 6)?,
        lifetime_s: u32_at(header, 4)?,
    };
    let result = match (code, Ipv6Addr::from(outside).to_ipv4_mapped()) {
        (0, Some(ip)) => Ok((ip, granted)),
        (0, None) => return None,
        (code, _) => Err(u16::from(code)),
    };
    Some(Answer::PcpMap {
        epoch_s,
        nonce: *nonce,
        port: u16_at(rest, 4)?,
        result,
    })
}

fn decode_nat_pmp(opcode: u8, bytes: &[u8]) -> Option<Answer> {
    let code = u16_at(bytes, 2)?;
    if code == u16::from(UNSUPPORTED_VERSION) {
        return Some(Answer::NoPcp);
    }
    let epoch_s = u32_at(bytes, 4)?;
    match opcode {
        NAT_PMP_ADDRESS => {
            let ip = || Some(Ipv4Addr::from(u32_at(bytes, 8)?));
            let result = if code == 0 { Ok(ip()?) } else { Err(code) };
            Some(Answer::Address { epoch_s, result })
        }
        NAT_PMP_MAP_UDP => {
            let granted = || {
                Some(Granted {
                    port: u16_at(bytes, 10)?,
                    lifetime_s: u32_at(bytes, 12)?,
                })
            };
            let (port, result) = match code {
                0 => (Some(u16_at(bytes, 8)?), Ok(granted()?)),
                code => (u16_at(bytes, 8), Err(code)),
            };
            Some(Answer::Map {
                epoch_s,
                port,
                result,
            })
        }
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// What a router says, for tests.
#[cfg(test)]
pub(super) mod says {
    use super::*;

    /// Result codes other than 0 are refusals.
    pub(crate) fn pcp_map(
        epoch_s: u32,
        code: u8,
        nonce: Nonce,
        inside: u16,
        (ip, granted): (Ipv4Addr, Granted),
    ) -> Vec<u8> {
        let mut bytes = pcp_announce(epoch_s);
        (bytes[1], bytes[3]) = (ANSWER | PCP_MAP, code);
        bytes[4..8].copy_from_slice(&granted.lifetime_s.to_be_bytes());
        bytes.extend(nonce);
        bytes.extend([UDP, 0, 0, 0]);
        bytes.extend(inside.to_be_bytes());
        bytes.extend(granted.port.to_be_bytes());
        bytes.extend(ip.to_ipv6_mapped().octets());
        bytes
    }

    pub(crate) fn pcp_announce(epoch_s: u32) -> Vec<u8> {
        let mut bytes = vec![PCP, ANSWER, 0, 0, 0, 0, 0, 0];
        bytes.extend(epoch_s.to_be_bytes());
        bytes.extend([0; 12]);
        bytes
    }

    pub(crate) fn address(epoch_s: u32, code: u8, ip: Ipv4Addr) -> Vec<u8> {
        let mut bytes = vec![NAT_PMP, ANSWER, 0, code];
        bytes.extend(epoch_s.to_be_bytes());
        bytes.extend(ip.octets());
        bytes
    }

    pub(crate) fn map(epoch_s: u32, code: u8, inside: u16, granted: Granted) -> Vec<u8> {
        let mut bytes = vec![NAT_PMP, ANSWER | NAT_PMP_MAP_UDP, 0, code];
        bytes.extend(epoch_s.to_be_bytes());
        bytes.extend(inside.to_be_bytes());
        bytes.extend(granted.port.to_be_bytes());
        bytes.extend(granted.lifetime_s.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 9);
    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

    #[test]
    fn a_pcp_request_is_laid_out_as_in_the_rfc() {
        let bytes = pcp_map(CLIENT, [9; 12], 5000, (OUTSIDE, 6000), 7200);
        let header = [2, 1, 0, 0, 0, 0, 0x1c, 0x20];
        let client = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 9];
        let map = [17, 0, 0, 0, 0x13, 0x88, 0x17, 0x70];
        let outside = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 7];
        let expected = [&header[..], &client, &[9; 12], &map, &outside].concat();
        assert_eq!(bytes, expected);
        let announce = [&[2, 0, 0, 0, 0, 0, 0, 0][..], &client].concat();
        assert_eq!(pcp_announce(CLIENT), announce);
    }

    #[test]
    fn a_nat_pmp_request_is_laid_out_as_in_the_rfc() {
        assert_eq!(nat_pmp_address(), [0, 0]);
        let expected = [0, 1, 0, 0, 0x13, 0x88, 0x17, 0x70, 0, 0, 0x1c, 0x20];
        assert_eq!(nat_pmp_map(5000, 6000, 7200), expected);
        let end = [0, 1, 0, 0, 0x13, 0x88, 0, 0, 0, 0, 0, 0];
        assert_eq!(nat_pmp_map(5000, 6000, 0), end);
    }

    #[test]
    fn answers_are_read() {
        let granted = Granted {
            port: 6000,
            lifetime_s: 3600,
        };
        let pcp = |result| Answer::PcpMap {
            epoch_s: 77,
            nonce: [9; 12],
            port: 5000,
            result,
        };
        let of_pcp = |code| says::pcp_map(77, code, [9; 12], 5000, (OUTSIDE, granted));
        check(&of_pcp(0), pcp(Ok((OUTSIDE, granted))));
        check(&of_pcp(2), pcp(Err(2)));
        check(&says::pcp_announce(77), Answer::PcpEpoch { epoch_s: 77 });
        let address = |result| Answer::Address {
            epoch_s: 77,
            result,
        };
        check(&says::address(77, 0, OUTSIDE), address(Ok(OUTSIDE)));
        check(&says::address(77, 3, OUTSIDE), address(Err(3)));
        let map = |result| Answer::Map {
            epoch_s: 77,
            port: Some(5000),
            result,
        };
        check(&says::map(77, 0, 5000, granted), map(Ok(granted)));
        check(&says::map(77, 4, 5000, granted), map(Err(4)));
    }

    #[test]
    fn a_router_without_the_version_is_told_from_one_that_refuses() {
        // RFC 6886 §3.5: an old router asked in PCP; RFC 6887 §9: one of another version of it; a
        // router with PCP alone asked in NAT-PMP.
        check(&[0, 0x81, 0, 1, 0, 0, 0, 9], Answer::NoPcp);
        check(&[0, 0x80, 0, 1], Answer::NoPcp);
        check(&[[1, 0x81, 0, 1], [0; 4]].concat(), Answer::NoPcp);
        let mut other = says::pcp_announce(5);
        other[3] = 1;
        check(&other, Answer::NoNatPmp);
    }

    #[test]
    fn what_is_no_answer_to_us_is_ignored() {
        let granted = Granted {
            port: 6000,
            lifetime_s: 3600,
        };
        let whole = says::pcp_map(77, 0, [9; 12], 5000, (OUTSIDE, granted));
        let mut tcp = whole.clone();
        tcp[PCP_HEADER + 12] = 6;
        let mut request = whole.clone();
        request[1] = PCP_MAP;
        let mut ipv6 = whole.clone();
        ipv6[PCP_HEADER + 20] = 0x20;
        let too_long = [&whole[..], &[0; MAX_BYTES]].concat();
        let short = &whole[..whole.len() - 1];
        for bytes in [
            &tcp[..],
            &request,
            &ipv6,
            &too_long,
            short,
            &[],
            &[2],
            &[0, 0x81],
        ] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            start in prop::sample::select(vec![[0, 0x80], [0, 0x81], [2, 0x80], [2, 0x81], [1, 0x81]]),
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = decode(&[&start[..], &bytes].concat());
        }
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: Answer) {
        assert_eq!(decode(bytes), Some(expected));
    }
}
