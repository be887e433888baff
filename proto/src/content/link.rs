//! The shortest form of a share: what to fetch and which tracker knows the way.
//!
//! `p2p:` and base32 of: version, kind and flags (1 byte), content id (32), tracker pin (16),
//! address, secret if any (16), check (1). 94 characters for an IPv4 tracker. A link says neither
//! size nor name; those are a peer's claims until the bytes prove them. `manifest-format.md`, Link,
//! is the normative text.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::address::{DnsName, Host, TrackerAddress};
use crate::id::{ContentId, Kind, Secret, TrackerPin, base32_decode, base32_encode};
use crate::limits;

/// What every link begins with, read in any case.
const SCHEME: &str = "p2p:";
/// The version this module reads and writes, in bits 7 to 5 of the first byte.
const VERSION: u8 = 1;
/// That of a link to a publisher, which has the same fields.
pub(crate) const FOLLOW_VERSION: u8 = 2;
const TREE: u8 = 1 << 4;
const HOST_V6: u8 = 0b01 << 2;
const HOST_NAME: u8 = 0b10 << 2;
const HOST_MASK: u8 = 0b11 << 2;
const SECRET: u8 = 1 << 1;
const RESERVED: u8 = 1;

/// A share as a line of text. It gives access, so it belongs in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    /// Whether `id` is of a file or of a tree's listing.
    pub kind: Kind,
    /// What to fetch.
    pub id: ContentId,
    /// Who knows its peers.
    pub tracker: TrackerAddress,
    /// The secret of a private share.
    pub secret: Option<Secret>,
}

/// Why a text is no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Does not begin with `p2p:`.
    #[error("a link begins with p2p:")]
    NotALink,
    /// Longer than [`limits::LINK_CHARS`].
    #[error("the link is longer than {} characters", limits::LINK_CHARS)]
    TooLong,
    /// A character is wrong or missing.
    #[error("the link is damaged: a character is wrong or missing")]
    Damaged,
    /// A newer format.
    #[error("the link has version {0}, which this program is too old for")]
    Version(u8),
    /// Undamaged, yet not what a link of this version holds.
    #[error("the link is malformed")]
    Malformed,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text(VERSION))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link(..)")
    }
}

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Link, LinkError> {
        Link::from_text(text, VERSION)
    }
}

impl Link {
    /// As text, with this version.
    pub(crate) fn to_text(&self, version: u8) -> String {
        format!("{SCHEME}{}", base32_encode(&self.encode(version)))
    }

    /// Reads a text of this version.
    pub(crate) fn from_text(text: &str, version: u8) -> Result<Link, LinkError> {
        let text = text.trim();
        if text.len() > limits::LINK_CHARS {
            return Err(LinkError::TooLong);
        }
        let scheme = text.get(..SCHEME.len()).ok_or(LinkError::NotALink)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(LinkError::NotALink);
        }
        let bytes = base32_decode(&text[SCHEME.len()..]).ok_or(LinkError::Damaged)?;
        let (check, body) = bytes.split_last().ok_or(LinkError::Damaged)?;
        if *check != check_of(body) {
            return Err(LinkError::Damaged);
        }
        Link::decode(body, version)
    }

    fn encode(&self, version: u8) -> Vec<u8> {
        let mut out = vec![version << 5 | self.first_bits()];
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.tracker.pin.0);
        match &self.tracker.host {
            Host::V4(address) => out.extend_from_slice(&address.octets()),
            Host::V6(address) => out.extend_from_slice(&address.octets()),
            Host::Name(name) => {
                // A name has at most 178 bytes.
                out.push(name.len() as u8);
                out.extend_from_slice(name.as_bytes());
            }
        }
        out.extend_from_slice(&self.tracker.port.to_be_bytes());
        if let Some(secret) = &self.secret {
            out.extend_from_slice(&secret.0);
        }
        out.push(check_of(&out));
        out
    }

    fn first_bits(&self) -> u8 {
        let kind = match self.kind {
            Kind::File => 0,
            Kind::Tree => TREE,
        };
        let host = match self.tracker.host {
            Host::V4(_) => 0,
            Host::V6(_) => HOST_V6,
            Host::Name(_) => HOST_NAME,
        };
        let secret = if self.secret.is_some() { SECRET } else { 0 };
        kind | host | secret
    }

    /// Reads everything but the check.
    fn decode(bytes: &[u8], version: u8) -> Result<Link, LinkError> {
        let mut input = Input(bytes);
        let [first] = input.array()?;
        if first >> 5 != version {
            return Err(LinkError::Version(first >> 5));
        }
        if first & RESERVED != 0 {
            return Err(LinkError::Malformed);
        }
        let kind = if first & TREE == 0 {
            Kind::File
        } else {
            Kind::Tree
        };
        let id = ContentId(input.array()?);
        let pin = TrackerPin(input.array()?);
        let host = input.host(first & HOST_MASK)?;
        let port = u16::from_be_bytes(input.array()?);
        let secret = match first & SECRET {
            0 => None,
            _ => Some(Secret(input.array()?)),
        };
        if !input.0.is_empty() {
            return Err(LinkError::Malformed);
        }
        Ok(Link {
            kind,
            id,
            tracker: TrackerAddress { host, port, pin },
            secret,
        })
    }
}

/// First byte of the BLAKE3 hash: tells a typing error, not an attack.
fn check_of(bytes: &[u8]) -> u8 {
    blake3::hash(bytes).as_bytes()[0]
}

/// Bytes not read yet.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], LinkError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(LinkError::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn host(&mut self, form: u8) -> Result<Host, LinkError> {
        match form {
            0 => Ok(Host::V4(Ipv4Addr::from(self.array::<4>()?))),
            HOST_V6 => Ok(Host::V6(Ipv6Addr::from(self.array::<16>()?))),
            HOST_NAME => self.name().map(Host::Name),
            _ => Err(LinkError::Malformed),
        }
    }

    fn name(&mut self) -> Result<DnsName, LinkError> {
        let [len] = self.array()?;
        let split = self.0.split_at_checked(usize::from(len));
        let (name, rest) = split.ok_or(LinkError::Malformed)?;
        self.0 = rest;
        let name = String::from_utf8(name.to_vec()).map_err(|_| LinkError::Malformed)?;
        DnsName::try_from(name).map_err(|_| LinkError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{any_secret, any_tracker};
    use super::*;

    #[test]
    fn links_are_as_short_as_promised() {
        let (v4, v6) = (Host::V4(Ipv4Addr::LOCALHOST), Host::V6(Ipv6Addr::LOCALHOST));
        let name = |len| Host::Name(DnsName::parse(&longest_name()[..len]).unwrap());
        let secret = Some(Secret([6; 16]));
        for (host, secret, chars) in [
            (v4.clone(), None, 94),
            (v6, None, 113),
            (name(19), None, 120),
            (v4, secret, 120),
            (name(DnsName::MAX_BYTES), secret, 400),
        ] {
            let link = Link {
                tracker: tracker(host),
                secret,
                ..sample()
            };
            let text = link.to_string();
            assert_eq!(text.len(), chars, "{text}");
            assert_eq!(text.parse(), Ok(link));
        }
    }

    #[test]
    fn a_link_is_read_in_any_case_and_between_spaces() {
        let text = sample().to_string();
        assert_eq!(
            format!(" \t{}\r\n", text.to_uppercase()).parse(),
            Ok(sample())
        );
    }

    #[test]
    fn what_is_wrong_with_a_text_is_told_apart() {
        let text = sample().to_string();
        let longest = format!("p2p:{}", "a".repeat(limits::LINK_CHARS - 4));
        for (text, error) in [
            ("", LinkError::NotALink),
            ("magnet:?xt=1", LinkError::NotALink),
            ("p2\u{e9}:a", LinkError::NotALink),
            ("p2p:", LinkError::Damaged),
            ("p2p:\u{e9}", LinkError::Damaged),
            (&text[..93], LinkError::Damaged),
            (&text.replace("p2p:e", "p2p:a"), LinkError::Damaged),
            (&longest, LinkError::Damaged),
            (&format!("{longest}a"), LinkError::TooLong),
        ] {
            assert_eq!(text.parse::<Link>(), Err(error), "{text}");
        }
    }

    #[test]
    fn undamaged_links_of_no_known_form_are_refused() {
        let body = |change: fn(&mut Vec<u8>)| {
            let mut bytes = sample().encode(VERSION);
            bytes.pop();
            change(&mut bytes);
            bytes.push(check_of(&bytes));
            format!("p2p:{}", base32_encode(&bytes)).parse::<Link>()
        };
        assert_eq!(body(|_| ()), Ok(sample()));
        assert_eq!(body(|b| b[0] ^= 0b110 << 4), Err(LinkError::Version(2)));
        assert_eq!(body(|b| b[0] |= RESERVED), Err(LinkError::Malformed));
        assert_eq!(body(|b| b[0] |= HOST_MASK), Err(LinkError::Malformed));
        assert_eq!(
            body(|b| b[0] |= SECRET),
            Err(LinkError::Malformed),
            "no secret there"
        );
        assert_eq!(
            body(|b| b.push(0)),
            Err(LinkError::Malformed),
            "something left over"
        );
        assert_eq!(body(|b| b.truncate(20)), Err(LinkError::Malformed));
    }

    proptest! {
        #[test]
        fn a_link_survives_its_text(
            tree: bool, id: [u8; 32], tracker in any_tracker(), secret in any_secret()
        ) {
            let kind = if tree { Kind::Tree } else { Kind::File };
            let link = Link { kind, id: ContentId(id), tracker, secret };
            prop_assert_eq!(link.to_string().parse(), Ok(link));
        }

        #[test]
        fn any_text_that_reads_is_the_only_spelling(text in "p2p:[ei][a-z2-7]{0,120}") {
            if let Ok(link) = text.parse::<Link>() {
                prop_assert_eq!(link.to_string(), text);
            }
        }

        #[test]
        fn any_body_that_reads_encodes_to_itself(
            first in 32u8..64, mut bytes in prop::collection::vec(any::<u8>(), 54..90)
        ) {
            bytes[0] = first;
            bytes[49] %= 24;
            if let Ok(link) = Link::decode(&bytes, VERSION) {
                bytes.push(check_of(&bytes));
                prop_assert_eq!(link.encode(VERSION), bytes);
            }
        }
    }

    fn sample() -> Link {
        let tracker = tracker(Host::V4(Ipv4Addr::new(203, 0, 113, 7)));
        Link {
            kind: Kind::File,
            id: ContentId([5; 32]),
            tracker,
            secret: None,
        }
    }

    fn tracker(host: Host) -> TrackerAddress {
        TrackerAddress {
            host,
            port: 59_000,
            pin: TrackerPin([9; 16]),
        }
    }

    fn longest_name() -> String {
        let label = "a".repeat(59);
        format!("{label}.{label}.{}", &label[1..])
    }
}
