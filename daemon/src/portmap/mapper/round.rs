//! One time of asking a router, by up to three protocols.

use std::net::Ipv4Addr;
use std::time::Instant;

use super::{Failure, Protocol, Refusal};
use crate::portmap::request::Request;

/// One time of asking.
#[derive(Debug)]
pub(super) struct Round {
    /// Whether only the protocol of the lease is asked.
    pub(super) is_renewal: bool,
    pub(super) pcp: Request,
    /// For the outside address, by NAT-PMP.
    pub(super) address: Request,
    pub(super) outside: Option<Ipv4Addr>,
    /// For a port, by NAT-PMP.
    pub(super) map: Request,
    pub(super) upnp: Upnp,
    /// The first that was heard.
    pub(super) refused: Option<Failure>,
}

/// Searching → Found → Adding, or Out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upnp {
    Searching,
    Found,
    Adding,
    Out,
}

impl Round {
    /// Asks by all protocols, or by one alone.
    pub(super) fn begun(now: Instant, only: Option<Protocol>) -> Round {
        let asked = |protocol| match only {
            Some(only) if only != protocol => Request::Out,
            _ => Request::begun(now),
        };
        Round {
            is_renewal: only.is_some(),
            pcp: asked(Protocol::Pcp),
            address: asked(Protocol::NatPmp),
            outside: None,
            map: Request::Unsent,
            upnp: match only {
                None => Upnp::Searching,
                Some(Protocol::Upnp) => Upnp::Found,
                Some(_) => Upnp::Out,
            },
            refused: None,
        }
    }

    pub(super) fn refuse(&mut self, protocol: Protocol, refusal: Refusal) {
        match protocol {
            Protocol::Pcp => self.pcp = Request::Out,
            Protocol::NatPmp => (self.address, self.map) = (Request::Out, Request::Out),
            Protocol::Upnp => self.upnp = Upnp::Out,
        }
        self.refused
            .get_or_insert(Failure::Refused(protocol, refusal));
    }

    pub(super) fn is_nat_pmp_late(&self) -> bool {
        match self.outside {
            None => self.address.is_late(),
            Some(_) => self.map.is_late(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        let nat_pmp = match self.outside {
            None => self.address == Request::Out,
            Some(_) => self.map == Request::Out,
        };
        self.pcp == Request::Out && nat_pmp && self.upnp == Upnp::Out
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let requests = [&self.pcp, &self.address, &self.map];
        requests.into_iter().filter_map(Request::poll_timeout).min()
    }
}
