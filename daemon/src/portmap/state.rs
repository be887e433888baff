//! How things stand with the router, for the trackers and for people.

use std::fmt;
use std::net::IpAddr;

use warren_proto::wire::{Candidate, CandidateKind};

use super::mapper::{Failure, Opened};
use super::plan::is_inside;
use crate::control::model;

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PortState {
    /// No router is asked.
    Unasked(Unasked),
    /// It is being asked.
    Asking,
    /// It does not do it.
    Failed(Failure),
    /// It did, and is behind a NAT itself.
    BehindNat {
        /// What it opened.
        opened: Opened,
        /// The address of that other NAT.
        observed: IpAddr,
    },
    /// It says that it did.
    Checking(Opened),
    /// It says so, and nothing comes in.
    Shut(Opened),
    /// Packets come in.
    Open(Opened),
}

/// Why no router is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unasked {
    /// The person does not want it.
    TurnedOff,
    /// Peers come through the tracker alone.
    RelayOnly,
    /// No tracker has seen us yet, so nobody knows whether there is a NAT.
    Unseen,
    /// Only this machine can be heard.
    Local,
    /// We are seen at our own address.
    NoNat,
    /// The tracker is reached by IPv6, where there is no NAT.
    Ipv6,
    /// No router leads out of the network.
    NoRouter,
}

impl Default for PortState {
    fn default() -> Self {
        PortState::Unasked(Unasked::Unseen)
    }
}

impl PortState {
    /// What others may be told of: what packets come in by; and behind a carrier's NAT the port of the
    /// router in the carrier's network, which nobody but the carrier's customers can prove, and nobody
    /// else is told of.
    pub(crate) fn candidate(&self) -> Option<Candidate> {
        let opened = match self {
            PortState::Open(opened) => opened,
            PortState::BehindNat { opened, .. } if is_inside(*opened.outside.ip()) => opened,
            _ => return None,
        };
        Some(Candidate {
            kind: CandidateKind::Mapped,
            address: opened.outside.into(),
        })
    }

    /// Whether everybody is let in at the candidate.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, PortState::Open(_))
    }

    /// Whether only this machine can be heard, as far as it is known.
    pub(crate) fn is_local(&self) -> bool {
        *self == PortState::Unasked(Unasked::Local)
    }

    /// As the control API says it.
    pub(crate) fn shown(&self) -> model::PortMapping {
        let opened = match self {
            PortState::BehindNat { opened, .. }
            | PortState::Checking(opened)
            | PortState::Shut(opened)
            | PortState::Open(opened) => Some(opened),
            PortState::Unasked(_) | PortState::Asking | PortState::Failed(_) => None,
        };
        model::PortMapping {
            state: self.word(),
            protocol: opened.map(|opened| opened.protocol.to_string()),
            address: opened.map(|opened| opened.outside.to_string()),
            note: self.to_string(),
        }
    }

    fn word(&self) -> model::PortMappingState {
        use model::PortMappingState as Word;
        match self {
            PortState::Unasked(Unasked::TurnedOff) => Word::Off,
            PortState::Unasked(Unasked::Unseen) => Word::Waiting,
            PortState::Unasked(
                Unasked::RelayOnly | Unasked::Local | Unasked::NoNat | Unasked::Ipv6,
            ) => Word::Unneeded,
            PortState::Unasked(Unasked::NoRouter) => Word::NoRouter,
            PortState::Asking => Word::Asking,
            PortState::Failed(Failure::Silent) => Word::Silent,
            PortState::Failed(Failure::Refused(..)) => Word::Refused,
            PortState::BehindNat { .. } => Word::BehindNat,
            PortState::Checking(_) => Word::Checking,
            PortState::Shut(_) => Word::Shut,
            PortState::Open(_) => Word::Open,
        }
    }
}

impl fmt::Display for PortState {
    /// One sentence for a person, without full stop.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = |opened: &Opened| {
            let (port, protocol) = (opened.outside.port(), opened.protocol);
            format!("router opened UDP port {port} ({protocol})")
        };
        match self {
            PortState::Unasked(why) => f.write_str(why.sentence()),
            PortState::Asking => f.write_str("asking the router for a port"),
            PortState::Failed(Failure::Silent) => {
                f.write_str("none: the router speaks neither PCP nor NAT-PMP nor UPnP")
            }
            PortState::Failed(Failure::Refused(protocol, refusal)) => {
                write!(f, "none: the router refuses by {protocol}: {refusal}")
            }
            PortState::BehindNat { opened, observed } => write!(
                f,
                "none towards the Internet: your router is itself behind another NAT ({} is not \
                 {observed}, which the tracker sees){}",
                opened.outside.ip(),
                match self.candidate() {
                    Some(_) => "; those behind the same one are told of its port there",
                    None => "",
                }
            ),
            PortState::Checking(opened) => {
                write!(f, "{}; checking that packets come in", sentence(opened))
            }
            PortState::Shut(opened) => {
                write!(f, "{}, but packets do not come in", sentence(opened))
            }
            PortState::Open(opened) => f.write_str(&sentence(opened)),
        }
    }
}

impl Unasked {
    fn sentence(self) -> &'static str {
        match self {
            Unasked::TurnedOff => "off, as --no-port-mapping says",
            Unasked::RelayOnly => {
                "not needed: peers come through the tracker, as --relay-only says"
            }
            Unasked::Unseen => "not asked for: the tracker has not told our outside address yet",
            Unasked::Local => "not needed: nobody but this machine is listened to",
            Unasked::NoNat => "not needed: no NAT is between this machine and the tracker",
            Unasked::Ipv6 => "not needed: the tracker is reached by IPv6, which needs no NAT",
            Unasked::NoRouter => "none: no router leads out of this network",
        }
    }
}
