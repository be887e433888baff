//! Reads Binding requests (RFC 8489 §5, §14) without believing them.
//!
//! Two dialects: with the magic cookie, and the classic one of before 2008 (RFC 3489) without it.
//! Both have the same layout; only what an answer looks like differs (RFC 8489 §11).
//!
//! Not here: what is answered ([`super::answer`]).

pub(super) use warren_proto::nat::SESSION;
use warren_proto::wire::SessionName;

/// Bytes of a header: type 2, length 2, cookie 4, transaction 12.
pub(super) const HEADER_BYTES: usize = 20;

/// The cookie, bytes 4 to 8 of a message that is not of the classic dialect.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];

pub(super) const CHANGE_REQUEST: u16 = 0x0003;
const FINGERPRINT: u16 = 0x8028;

/// Attribute types from here on may be ignored (RFC 8489 §14).
const COMPREHENSION_OPTIONAL: u16 = 0x8000;

/// What we take below it: what RFC 8489 §14 defines, which in a Binding request without
/// authentication means nothing, and CHANGE-REQUEST (RFC 5780 §7.2). Whatever else codecs know,
/// such as PRIORITY or USE-CANDIDATE of ICE, is refused.
const UNDERSTOOD: [u16; 12] = [
    0x0001, // MAPPED-ADDRESS
    CHANGE_REQUEST,
    0x0006, // USERNAME
    0x0008, // MESSAGE-INTEGRITY
    0x0009, // ERROR-CODE
    0x000a, // UNKNOWN-ATTRIBUTES
    0x0014, // REALM
    0x0015, // NONCE
    0x001c, // MESSAGE-INTEGRITY-SHA256
    0x001d, // PASSWORD-ALGORITHM
    0x001e, // USERHASH
    0x0020, // XOR-MAPPED-ADDRESS
];

/// Unknown attributes listed in a refusal; more would only make the answer longer.
const UNKNOWN_LISTED: usize = 8;

/// Flags of CHANGE-REQUEST.
const CHANGE_IP: u32 = 0x04;
const CHANGE_PORT: u32 = 0x02;

/// Which standard the sender goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// RFC 5389 and 8489: with the cookie.
    Current,
    /// RFC 3489: the transaction is 16 bytes long and takes the cookie's place too.
    Classic,
}

/// Where the answer should come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The sender does not care: there is no CHANGE-REQUEST.
    Unasked,
    /// From where the request went, in so many words.
    Nothing,
    /// From our other port.
    Port,
    /// From another IP address of ours, which we have not.
    Ip,
}

/// One whole, well-formed Binding request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) dialect: Dialect,
    /// Bytes 4 to 20 of the header: cookie and transaction, or a classic transaction.
    pub(super) id: [u8; 16],
    pub(super) change: Change,
    /// Types that had to be understood and are not, in order, each once.
    pub(super) unknown: Vec<u16>,
    pub(super) has_fingerprint: bool,
    /// In whose name it asks for a token.
    pub(super) session: Option<SessionName>,
}

impl Request {
    /// Accepts a Binding request whose attributes fill it exactly.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, attributes) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[..2] != BINDING_REQUEST || length != attributes.len() || length % 4 != 0 {
            return None;
        }
        let mut request = Self {
            dialect: match header[4..8] == MAGIC_COOKIE {
                true => Dialect::Current,
                false => Dialect::Classic,
            },
            id: *header.last_chunk()?,
            change: Change::Unasked,
            unknown: Vec::new(),
            has_fingerprint: false,
            session: None,
        };
        let mut rest = attributes;
        while !rest.is_empty() {
            let (kind, value, behind) = split_attribute(rest)?;
            request.take_in(kind, value)?;
            rest = behind;
        }
        Some(request)
    }

    fn take_in(&mut self, kind: u16, value: &[u8]) -> Option<()> {
        match kind {
            CHANGE_REQUEST => self.change = Change::decode(value)?,
            SESSION => self.session = value.try_into().ok(),
            FINGERPRINT => self.has_fingerprint = true,
            _ if kind >= COMPREHENSION_OPTIONAL || UNDERSTOOD.contains(&kind) => (),
            _ if self.unknown.len() == UNKNOWN_LISTED || self.unknown.contains(&kind) => (),
            _ => self.unknown.push(kind),
        }
        Some(())
    }
}

impl Change {
    fn decode(value: &[u8]) -> Option<Self> {
        let flags = u32::from_be_bytes(value.try_into().ok()?);
        Some(match (flags & CHANGE_IP, flags & CHANGE_PORT) {
            (0, 0) => Self::Nothing,
            (0, _) => Self::Port,
            _ => Self::Ip,
        })
    }
}

/// Type and value of the first attribute, and what is behind it and its padding to four bytes.
fn split_attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let value = rest.get(..length)?;
    let behind = rest.get(length.next_multiple_of(4)..)?;
    Some((u16::from_be_bytes([header[0], header[1]]), value, behind))
}
