//! Decides what one router is asked for, by which protocol, and when again.
//!
//! [`Mapper`] holds no socket and reads no clock: feed it what the router sends, what came of UPnP,
//! and the time; do what [`Mapper::poll_action`] yields; sleep until [`Mapper::poll_timeout`].
//!
//! A *round* asks by PCP and NAT-PMP and looks for UPnP, all at once. Only one port is wanted, so the
//! protocols are used in this order as long as the better one answers within [`PATIENCE`]; asking a
//! router for its address, or where its UPnP is, opens nothing. What was granted is renewed at half
//! its life by the protocol it came from, and by a round of all when that fails.
//!
//! A router that was started anew has forgotten the mapping. Both UDP protocols tell how long the
//! router has had its mappings, the *epoch*; it is asked for once a minute.
//!
//! Not here: whether to ask at all, and whether what was granted is any good ([`super::task`]).

mod outcome;
mod round;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::epoch::Epoch;
use super::message::{self, Answer, Granted, Nonce};
use super::request::Request;
pub(crate) use outcome::{Failure, Opened, Protocol, Refusal};
use round::{Round, Upnp};

/// What is asked for (RFC 6886 §3.3).
pub(super) const LIFETIME: Duration = Duration::from_secs(7200);

/// Longest lifetime believed: renewals remind the router of us at least twice a day.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Shortest time between a grant and its renewal, however short-lived it is.
const SHORTEST_RENEWAL: Duration = Duration::from_secs(10);

/// How long the better protocol may be silent before the next one is used: a router in the same
/// network answers within milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// How long after a round without success the next one comes.
pub(super) const RETRY: Duration = Duration::from_secs(600);

/// Between the beginnings of two rounds, whatever happens.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);

/// How often a router is asked whether it still is the one it was.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(60);

/// Ports below are those of well-known services; no tracker tells anybody of them.
const LOWEST_PORT: u16 = 1024;

/// A port that is open until then, unless it is renewed.
#[derive(Clone, Copy, Debug)]
struct Lease {
    opened: Opened,
    expires: Instant,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Send this to the router.
    Send(Vec<u8>),
    /// Look for a router with UPnP.
    Search,
    /// Ask that one for this outside port, or for another one where that is taken.
    Add { port: u16 },
    /// End its mapping of this outside port.
    Remove { port: u16 },
}

/// What came of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UpnpNews {
    /// There is a router with UPnP.
    Found,
    /// There is none.
    NotFound,
    /// It opened this port.
    Added(SocketAddrV4, Duration),
    /// It did not.
    Refused(Refusal),
}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Asking,
    Granted(Opened),
    Failed(Failure),
}

/// Asks one router for one UDP port.
#[derive(Debug)]
pub(super) struct Mapper {
    client: Ipv4Addr,
    inside: u16,
    nonce: Nonce,
    round: Option<Round>,
    began: Option<Instant>,
    lease: Option<Lease>,
    failure: Option<Failure>,
    pcp_epoch: Option<Epoch>,
    nat_pmp_epoch: Option<Epoch>,
    next_round: Instant,
    next_heartbeat: Instant,
    is_released: bool,
    actions: VecDeque<Action>,
}

impl Mapper {
    /// Begins to ask for a way in to the port `inside` of our address `client`.
    pub(super) fn new(now: Instant, client: Ipv4Addr, inside: u16, nonce: Nonce) -> Mapper {
        let mut mapper = Mapper {
            client,
            inside,
            nonce,
            round: None,
            began: None,
            lease: None,
            failure: None,
            pcp_epoch: None,
            nat_pmp_epoch: None,
            next_round: now,
            next_heartbeat: now,
            is_released: false,
            actions: VecDeque::new(),
        };
        mapper.handle_timeout(now);
        mapper
    }

    /// How things stand.
    pub(super) fn standing(&self) -> Standing {
        match (&self.lease, &self.failure) {
            (Some(lease), _) => Standing::Granted(lease.opened),
            (None, Some(failure)) => Standing::Failed(failure.clone()),
            (None, None) => Standing::Asking,
        }
    }

    /// What to do next; called again until there is nothing.
    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Mapper::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.is_released {
            return None;
        }
        let expiry = self.lease.as_ref().map(|lease| lease.expires);
        let round = match &self.round {
            Some(round) => round.poll_timeout(),
            None if self.wants_heartbeat() => Some(self.next_round.min(self.next_heartbeat)),
            None => Some(self.next_round),
        };
        expiry.into_iter().chain(round).min()
    }

    /// Advances to `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.is_released {
            return;
        }
        if self.lease.is_some_and(|lease| lease.expires <= now) {
            self.lease = None;
            self.next_round = self.next_round.min(now);
        }
        if self.round.is_none() && self.next_round <= now {
            self.begin(now);
        }
        if self.round.is_none() && self.wants_heartbeat() && self.next_heartbeat <= now {
            self.next_heartbeat = now + HEARTBEAT;
            self.ask_for_epoch();
        }
        self.advance(now);
    }

    /// Something may have changed: what we have is renewed, or asked for, at once.
    pub(super) fn renew(&mut self, now: Instant) {
        let earliest = self.began.map_or(now, |began| began + SHORTEST_PAUSE);
        self.next_round = self.next_round.min(earliest.max(now));
        self.handle_timeout(now);
    }

    /// Gives up what we have; nothing more happens.
    pub(super) fn release(&mut self) {
        self.is_released = true;
        self.round = None;
        self.actions.clear();
        let Some(lease) = self.lease.take() else {
            return;
        };
        let anywhere = (Ipv4Addr::UNSPECIFIED, 0);
        self.actions.push_back(match lease.opened.protocol {
            Protocol::Pcp => {
                let end = message::pcp_map(self.client, self.nonce, self.inside, anywhere, 0);
                Action::Send(end)
            }
            Protocol::NatPmp => Action::Send(message::nat_pmp_map(self.inside, 0, 0)),
            Protocol::Upnp => Action::Remove {
                port: lease.opened.outside.port(),
            },
        });
    }

    /// Takes in what the router sent; whatever is no answer of it is ignored.
    pub(super) fn handle_datagram(&mut self, now: Instant, bytes: &[u8]) {
        if self.is_released {
            return;
        }
        match message::decode(bytes) {
            Some(answer) => self.handle_answer(now, answer),
            None => tracing::debug!(length = bytes.len(), "the router sent nonsense"),
        }
        self.advance(now);
    }

    /// The router has nothing that listens where PCP and NAT-PMP are spoken.
    pub(super) fn handle_unreachable(&mut self, now: Instant) {
        match &mut self.round {
            Some(round) => {
                (round.pcp, round.address, round.map) = (Request::Out, Request::Out, Request::Out);
                self.advance(now);
            }
            // It had, or there would be nobody to ask.
            None => self.renew(now),
        }
    }

    /// Takes in what came of UPnP. A port that is opened too late is given back, unless it is the one
    /// that we have.
    pub(super) fn handle_upnp(&mut self, now: Instant, news: UpnpNews) {
        let upnp = self.round.as_ref().map(|round| round.upnp);
        if let UpnpNews::Added(outside, _) = news
            && (self.is_released || upnp != Some(Upnp::Adding))
        {
            let port = outside.port();
            let is_ours = self
                .lease
                .is_some_and(|it| it.opened.outside.port() == port);
            return self
                .actions
                .extend((!is_ours).then_some(Action::Remove { port }));
        }
        let Some(round) = self.round.as_mut().filter(|_| !self.is_released) else {
            return;
        };
        match (news, round.upnp) {
            (UpnpNews::Found, Upnp::Searching) => round.upnp = Upnp::Found,
            (UpnpNews::NotFound, _) => round.upnp = Upnp::Out,
            (UpnpNews::Refused(refusal), _) => round.refuse(Protocol::Upnp, refusal),
            (UpnpNews::Added(outside, lifetime), Upnp::Adding) => {
                self.grant(now, Protocol::Upnp, outside, lifetime);
            }
            (UpnpNews::Found | UpnpNews::Added(..), _) => (),
        }
        self.advance(now);
    }

    fn handle_answer(&mut self, now: Instant, answer: Answer) {
        match answer {
            Answer::PcpMap {
                epoch_s,
                nonce,
                port,
                result,
            } if nonce == self.nonce && port == self.inside => {
                self.pcp_epoch = Some(Epoch::new(now, epoch_s));
                self.handle_pcp(now, result);
            }
            Answer::PcpEpoch { epoch_s } => {
                let before = self.pcp_epoch.replace(Epoch::new(now, epoch_s));
                self.notice_restart(now, before, epoch_s);
            }
            Answer::Address { epoch_s, result } => {
                let before = self.nat_pmp_epoch.replace(Epoch::new(now, epoch_s));
                self.handle_address(now, result);
                self.notice_restart(now, before, epoch_s);
            }
            Answer::Map {
                epoch_s,
                port,
                result,
            } if port.is_none_or(|port| port == self.inside) => {
                self.nat_pmp_epoch = Some(Epoch::new(now, epoch_s));
                self.handle_map(now, result);
            }
            Answer::NoPcp => {
                if let Some(round) = &mut self.round {
                    round.pcp = Request::Out;
                }
            }
            Answer::NoNatPmp => {
                if let Some(round) = &mut self.round {
                    (round.address, round.map) = (Request::Out, Request::Out);
                }
            }
            Answer::PcpMap { .. } | Answer::Map { .. } => (),
        }
    }

    /// Also an answer that comes after another protocol was used: it is the better one.
    fn handle_pcp(&mut self, now: Instant, result: Result<(Ipv4Addr, Granted), u16>) {
        match (result, &mut self.round) {
            (Ok((ip, granted)), _) => {
                let (outside, lifetime) = outside(ip, granted);
                self.grant(now, Protocol::Pcp, outside, lifetime);
            }
            (Err(code), Some(round)) => round.refuse(Protocol::Pcp, Refusal::of_pcp(code)),
            (Err(_), None) => (),
        }
    }

    fn handle_address(&mut self, now: Instant, result: Result<Ipv4Addr, u16>) {
        let usable = |ip: &Ipv4Addr| !ip.is_unspecified();
        match (result.ok().filter(usable), &mut self.round) {
            (Some(ip), Some(round)) if round.address.is_waiting() => {
                round.address = Request::Answered;
                round.outside = Some(ip);
            }
            (None, Some(round)) => round.refuse(Protocol::NatPmp, Refusal::NoAddress),
            (Some(ip), None) => {
                let moved = |lease: Lease| {
                    lease.opened.protocol == Protocol::NatPmp && *lease.opened.outside.ip() != ip
                };
                if self.lease.is_some_and(moved) {
                    self.renew(now);
                }
            }
            (Some(_), Some(_)) | (None, None) => (),
        }
    }

    fn handle_map(&mut self, now: Instant, result: Result<Granted, u16>) {
        let Some(round) = &mut self.round else {
            return;
        };
        match (result, round.outside) {
            (Ok(granted), Some(ip)) => {
                let (outside, lifetime) = outside(ip, granted);
                self.grant(now, Protocol::NatPmp, outside, lifetime);
            }
            (Ok(_), None) => (),
            (Err(code), _) => round.refuse(Protocol::NatPmp, Refusal::of_nat_pmp(code)),
        }
    }

    /// A router that has been up for less long than it should have forgotten us.
    fn notice_restart(&mut self, now: Instant, before: Option<Epoch>, epoch_s: u32) {
        let restarted = before.is_some_and(|before| before.is_broken_by(now, epoch_s));
        if restarted && self.lease.is_some() && self.round.is_none() {
            tracing::info!("the router was started anew");
            self.renew(now);
        }
    }

    fn grant(&mut self, now: Instant, protocol: Protocol, outside: SocketAddrV4, life: Duration) {
        if outside.port() < LOWEST_PORT || outside.ip().is_unspecified() || life.is_zero() {
            if let Some(round) = &mut self.round {
                round.refuse(protocol, Refusal::Useless);
            }
            return;
        }
        let life = life.min(LONGEST_LIFETIME);
        let before = self.lease.replace(Lease {
            opened: Opened { protocol, outside },
            expires: now + life.max(SHORTEST_RENEWAL * 2),
        });
        // Where it is the same port it is the same mapping, and ending one would end the other.
        if let Some(before) = before.map(|lease| lease.opened)
            && (before.protocol, protocol) == (Protocol::Upnp, Protocol::Pcp)
            && before.outside.port() != outside.port()
        {
            let port = before.outside.port();
            self.actions.push_back(Action::Remove { port });
        }
        self.round = None;
        self.failure = None;
        self.next_round = now + (life / 2).max(SHORTEST_RENEWAL);
        self.next_heartbeat = now + HEARTBEAT;
    }

    fn wants_heartbeat(&self) -> bool {
        let has_epoch = |lease: Lease| lease.opened.protocol != Protocol::Upnp;
        self.lease.is_some_and(has_epoch)
    }

    fn ask_for_epoch(&mut self) {
        let asked = match self.lease.map(|lease| lease.opened.protocol) {
            Some(Protocol::Pcp) => message::pcp_announce(self.client),
            Some(Protocol::NatPmp) => message::nat_pmp_address(),
            Some(Protocol::Upnp) | None => return,
        };
        self.actions.push_back(Action::Send(asked));
    }

    /// Begins a round: a renewal where there is something to renew.
    fn begin(&mut self, now: Instant) {
        let only = self.lease.map(|lease| lease.opened.protocol);
        self.begin_with(now, only);
    }

    fn begin_with(&mut self, now: Instant, only: Option<Protocol>) {
        self.began = Some(now);
        // Whatever comes of it plans anew.
        self.next_round = now + RETRY;
        if only.is_none() {
            self.actions.push_back(Action::Search);
        }
        self.round = Some(Round::begun(now, only));
    }

    /// Sends what is due in the round, and ends it when nothing is left to try.
    fn advance(&mut self, now: Instant) {
        self.send_requests(now);
        self.turn_to_upnp();
        let ended = self.round.take_if(|round| round.is_over());
        if let Some(round) = ended {
            self.fail(now, round);
        }
    }

    fn send_requests(&mut self, now: Instant) {
        let (ip, port) = self.suggested();
        let (client, inside, nonce) = (self.client, self.inside, self.nonce);
        let lifetime_s = LIFETIME.as_secs() as u32;
        let Some(round) = &mut self.round else {
            return;
        };
        if round.pcp.take_due(now) {
            let map = message::pcp_map(client, nonce, inside, (ip, port), lifetime_s);
            self.actions.push_back(Action::Send(map));
        }
        if round.address.take_due(now) {
            self.actions
                .push_back(Action::Send(message::nat_pmp_address()));
        }
        if round.outside.is_some() && round.map == Request::Unsent && round.pcp.is_late() {
            round.map = Request::begun(now);
        }
        if round.map.take_due(now) {
            let map = message::nat_pmp_map(inside, port, lifetime_s);
            self.actions.push_back(Action::Send(map));
        }
    }

    fn turn_to_upnp(&mut self) {
        let (_, port) = self.suggested();
        if let Some(round) = &mut self.round
            && round.upnp == Upnp::Found
            && round.pcp.is_late()
            && round.is_nat_pmp_late()
        {
            round.upnp = Upnp::Adding;
            self.actions.push_back(Action::Add { port });
        }
    }

    /// What we have, or else the port inside.
    fn suggested(&self) -> (Ipv4Addr, u16) {
        match self.lease.map(|lease| lease.opened.outside) {
            Some(outside) => (*outside.ip(), outside.port()),
            None => (Ipv4Addr::UNSPECIFIED, self.inside),
        }
    }

    fn fail(&mut self, now: Instant, round: Round) {
        if round.is_renewal {
            self.begin_with(now, None);
            return self.send_requests(now);
        }
        self.failure = Some(round.refused.unwrap_or(Failure::Silent));
        // What we have may still be good; the sooner it ends, the sooner it is asked for again.
        let left = self
            .lease
            .map(|lease| lease.expires.saturating_duration_since(now) / 2);
        let pause = left.map_or(RETRY, |left| left.clamp(SHORTEST_RENEWAL, RETRY));
        self.next_round = now + pause;
    }
}

fn outside(ip: Ipv4Addr, granted: Granted) -> (SocketAddrV4, Duration) {
    let lifetime = Duration::from_secs(u64::from(granted.lifetime_s));
    (SocketAddrV4::new(ip, granted.port), lifetime)
}
