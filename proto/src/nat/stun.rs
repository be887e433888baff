//! Reads STUN messages without believing them (RFC 8489 §5 and §14).
//!
//! [`Message::parse`] walks a message once, header to last attribute; whatever passes can be read
//! without further checks. What arrives unauthenticated is read here and nowhere else, so no other
//! codec sees bytes of a stranger.
//!
//! Not here: what a message must contain ([`super::check`], [`super::probe`]).

use std::net::{IpAddr, SocketAddr};

/// Bytes of a header: type 2, length 2, cookie 4, transaction 12.
pub(super) const HEADER_BYTES: usize = 20;

/// Bytes of an attribute before its value: type 2, length 2.
pub(super) const ATTRIBUTE_HEADER_BYTES: usize = 4;

/// Bytes 4 to 8 of every message.
pub(super) const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// The longest message worth reading: ours are below 100 bytes, and a stranger must not make us
/// hash much.
pub(super) const MAX_BYTES: usize = 256;

pub(super) const BINDING_REQUEST: u16 = 0x0001;
pub(super) const BINDING_INDICATION: u16 = 0x0011;
pub(super) const BINDING_SUCCESS: u16 = 0x0101;

pub(super) const USERNAME: u16 = 0x0006;
pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
pub(super) const USE_CANDIDATE: u16 = 0x0025;
pub(super) const SOFTWARE: u16 = 0x8022;
pub(super) const ICE_CONTROLLED: u16 = 0x8029;
pub(super) const ICE_CONTROLLING: u16 = 0x802a;

/// Attribute types below must be understood, or the message refused.
pub(super) const COMPREHENSION_OPTIONAL: u16 = 0x8000;

/// What ties an answer to its request: 96 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transaction(pub [u8; 12]);

/// Whether the datagram claims to be STUN: two zero bits and the magic cookie.
pub(super) fn is_stun(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_BYTES && bytes[0] & 0xc0 == 0 && bytes[4..8] == MAGIC_COOKIE
}

/// One whole, well-formed message with nothing behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// Method and class, as they are on the wire.
    pub(super) kind: u16,
    pub(super) transaction: Transaction,
    attributes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Accepts a message of at most [`MAX_BYTES`] whose length field is exact and whose attributes
    /// fill it.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Message<'a>> {
        if !is_stun(bytes) || bytes.len() > MAX_BYTES {
            return None;
        }
        let (header, attributes) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        if usize::from(u16::from_be_bytes([header[2], header[3]])) != attributes.len() {
            return None;
        }
        let mut rest = attributes;
        while !rest.is_empty() {
            (_, rest) = split_attribute(rest)?;
        }
        Some(Message {
            kind: u16::from_be_bytes([header[0], header[1]]),
            transaction: Transaction(*header.last_chunk()?),
            attributes,
        })
    }

    /// Type and value of each attribute, in order.
    pub(super) fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        let mut rest = self.attributes;
        std::iter::from_fn(move || {
            let (attribute, behind) = split_attribute(rest)?;
            rest = behind;
            Some(attribute)
        })
    }

    /// The value of the first attribute of this type.
    pub(super) fn attribute(&self, kind: u16) -> Option<&'a [u8]> {
        self.attributes()
            .find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The address in XOR-MAPPED-ADDRESS (RFC 8489 §14.2).
    pub(super) fn mapped_address(&self) -> Option<SocketAddr> {
        let [_, family, port @ ..] = self.attribute(XOR_MAPPED_ADDRESS)? else {
            return None;
        };
        let (port, ip) = port.split_first_chunk::<2>()?;
        let port = u16::from_be_bytes([port[0] ^ MAGIC_COOKIE[0], port[1] ^ MAGIC_COOKIE[1]]);
        let ip: IpAddr = match family {
            1 => <[u8; 4]>::into(self.unmask(ip)?),
            2 => <[u8; 16]>::into(self.unmask(ip)?),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }

    /// Undoes the XOR with the cookie and the transaction. `N` is at most 16.
    fn unmask<const N: usize>(&self, masked: &[u8]) -> Option<[u8; N]> {
        let mut address: [u8; N] = masked.try_into().ok()?;
        let mask = MAGIC_COOKIE.iter().chain(&self.transaction.0);
        address
            .iter_mut()
            .zip(mask)
            .for_each(|(byte, mask)| *byte ^= mask);
        Some(address)
    }
}

/// Type and value.
type Attribute<'a> = (u16, &'a [u8]);

/// The first attribute, and what is behind it and its padding to four bytes.
fn split_attribute(bytes: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<ATTRIBUTE_HEADER_BYTES>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let value = rest.get(..length)?;
    let behind = rest.get(length.next_multiple_of(4)..)?;
    Some(((u16::from_be_bytes([header[0], header[1]]), value), behind))
}

/// The answer of a STUN server to a Binding request, made by the codec of others.
#[cfg(test)]
pub(super) fn binding_success(request: &[u8], mapped: &str) -> Vec<u8> {
    use stun_rs::attributes::stun::XorMappedAddress;
    use stun_rs::{
        MessageClass, MessageEncoderBuilder, StunMessageBuilder, TransactionId, methods::BINDING,
    };

    let transaction: [u8; 12] = request[8..20].try_into().unwrap();
    let mapped: SocketAddr = mapped.parse().unwrap();
    let answer = StunMessageBuilder::new(BINDING, MessageClass::SuccessResponse)
        .with_transaction_id(TransactionId::from(transaction))
        .with_attribute(XorMappedAddress::from(mapped))
        .build();
    let mut bytes = vec![0; 64];
    let encoder = MessageEncoderBuilder::default().build();
    let length = encoder.encode(&mut bytes, &answer).unwrap();
    bytes.truncate(length);
    bytes
}
