//! What a router grants or refuses, as it is told to the person.

use std::fmt;
use std::net::SocketAddrV4;

/// How a router is asked for a port, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    /// Port Control Protocol, RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// UPnP Internet Gateway Device.
    Upnp,
}

/// A port that a router says it has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// How it was asked.
    pub(crate) protocol: Protocol,
    /// The outside address and port, as the router says.
    pub(crate) outside: SocketAddrV4,
}

/// Why there is no port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The router speaks none of the protocols, or does not answer.
    Silent,
    /// It does and said no.
    Refused(Protocol, Refusal),
}

/// What a router says when it says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It does not let us.
    NotAllowed,
    /// It has no ports or no memory left.
    NoRoom,
    /// It has no outside address.
    NoAddress,
    /// Something is granted that is of no use.
    Useless,
    /// Another result code (RFC 6887 §7.4, RFC 6886 §3.5).
    Code(u16),
    /// In words.
    Said(String),
}

impl Refusal {
    /// RFC 6887 §7.4.
    pub(super) fn of_pcp(code: u16) -> Refusal {
        match code {
            2 | 12 => Refusal::NotAllowed,
            7 => Refusal::NoAddress,
            8 | 10 | 11 => Refusal::NoRoom,
            code => Refusal::Code(code),
        }
    }

    /// RFC 6886 §3.5.
    pub(super) fn of_nat_pmp(code: u16) -> Refusal {
        match code {
            2 => Refusal::NotAllowed,
            3 => Refusal::NoAddress,
            4 => Refusal::NoRoom,
            code => Refusal::Code(code),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Pcp => "PCP",
            Protocol::NatPmp => "NAT-PMP",
            Protocol::Upnp => "UPnP",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotAllowed => f.write_str("it does not let this machine"),
            Refusal::NoRoom => f.write_str("it has no port left"),
            Refusal::NoAddress => f.write_str("it has no outside address"),
            Refusal::Useless => f.write_str("it offered a port that is of no use"),
            Refusal::Code(code) => write!(f, "result code {code}"),
            Refusal::Said(text) => f.write_str(text),
        }
    }
}
