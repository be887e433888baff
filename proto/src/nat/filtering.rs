//! Measures what our NAT or firewall lets in, by having a server answer from a port we never sent
//! to (RFC 5780 §4.4, of which this is the part that takes one IP address).
//!
//! [`FilteringProbe`] needs a socket of its own that has sent nothing yet, since whatever it sent
//! may have opened the NAT. Feed it datagrams and the time, send what `poll_transmit` yields, sleep
//! until `poll_timeout`, until `poll_measured` yields. That takes a third of a second or two round
//! trips, and 3 s at most.
//!
//! It asks a server plainly, and at the same time for an answer from its other port. If nothing
//! comes from there, we send there ourselves: a NAT whose outside port has changed by then gave it
//! to the packet that it dropped, which is how netfilter masquerades without an input filter.
//!
//! A NAT whose mapping depends on the far port shows another port too, so the result must be
//! corrected by what a [`MappingProbe`](super::MappingProbe) finds from another socket:
//! [`NatFiltering::given`].

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::probe::{Question, encode_request};
use super::stun::{self, Message, Transaction};
use super::{Charge, MAIN, Transmit, usable_server};
use crate::wire::{NatFiltering, NatMapping};

/// How often we ask for an answer from the other port. None of these can be repeated when none is
/// answered, which is what most NATs do, so a few are sent in advance against loss.
const CHANGES: u32 = 3;

/// Gap between those.
const CHANGE_GAP: Duration = Duration::from_millis(40);

/// Shortest wait for an answer from the other port: round-trip times vary.
const SHORTEST_WAIT: Duration = Duration::from_millis(150);

/// When to give up, whatever is missing.
const DEADLINE: Duration = Duration::from_secs(3);

/// CHANGE-REQUEST with the change-port flag (RFC 5780 §7.2): type 2, length 2, flags 4. It makes
/// the request 52 bytes long, more than a refusal of it.
const CHANGE_PORT: [u8; 8] = [0x00, 0x03, 0x00, 0x04, 0, 0, 0, 0x02];

const BINDING_ERROR: u16 = 0x0111;

impl NatFiltering {
    /// What a filtering measured on one socket is worth when the mapping was measured as this on
    /// another: an outside port that changes says something about filtering only where it would
    /// not have changed anyway.
    pub fn given(self, mapping: NatMapping) -> NatFiltering {
        match (self, mapping) {
            (NatFiltering::Clashing, NatMapping::EndpointIndependent) => NatFiltering::Clashing,
            (NatFiltering::Clashing, _) => NatFiltering::PortDependent,
            (measured, _) => measured,
        }
    }
}

/// Has one server answer one socket from two ports.
#[derive(Debug)]
pub struct FilteringProbe {
    server: SocketAddr,
    other_port: SocketAddr,
    started: Instant,
    plain: Question,
    change: Transaction,
    /// Of the question to the other port.
    invitation: Transaction,
    state: State,
    transmits: VecDeque<Transmit>,
}

/// Uninvited → Ended when something comes from the other port, or the server does not do as asked;
/// Uninvited → Invited when nothing does; Invited → Ended with the answer from there. All of them
/// → Ended at the deadline.
#[derive(Debug)]
enum State {
    /// Nothing went to the other port, so what comes from there is let in uninvited.
    Uninvited {
        changes: Changes,
        rtt: Option<Duration>,
    },
    /// We have asked the other port too.
    Invited {
        question: Question,
    },
    Ended {
        result: NatFiltering,
    },
    Reported,
}

/// The requests for an answer from the other port.
#[derive(Debug)]
enum Changes {
    Due { at: Instant, left: u32 },
    Sent { last: Instant },
}

impl FilteringProbe {
    /// Asks `server`, for answers from there and from `other_port`. Unless these are two usable
    /// ports of one address, the result is [`NatFiltering::Unknown`] at once.
    pub fn new(
        now: Instant,
        server: SocketAddr,
        other_port: SocketAddr,
        seed: [u8; 32],
    ) -> FilteringProbe {
        let mut rng = StdRng::from_seed(seed);
        let [plain, change, invitation] = [(); 3].map(|()| Transaction(rng.random()));
        let canonical = usable_server(server).zip(usable_server(other_port));
        let (server, other_port) = canonical.unwrap_or((server, other_port));
        let mut probe = FilteringProbe {
            server,
            other_port,
            started: now,
            plain: Question::new(now, MAIN, server, plain),
            change,
            invitation,
            state: State::Uninvited {
                changes: Changes::Due {
                    at: now,
                    left: CHANGES,
                },
                rtt: None,
            },
            transmits: VecDeque::new(),
        };
        let one_address = server.ip() == other_port.ip() && server.port() != other_port.port();
        match canonical.is_some() && one_address {
            true => probe.handle_timeout(now),
            false => probe.end(NatFiltering::Unknown),
        }
        probe
    }

    /// Whether the datagram claims to be an answer to one of our requests.
    pub fn recognizes(&self, bytes: &[u8]) -> bool {
        Message::parse(bytes).is_some_and(|message| {
            matches!(message.kind, stun::BINDING_SUCCESS | BINDING_ERROR)
                && self.has_asked(message.transaction)
        })
    }

    fn has_asked(&self, transaction: Transaction) -> bool {
        let is_invited = match &self.state {
            State::Invited { question } => question.recognizes(transaction),
            State::Uninvited { .. } | State::Ended { .. } | State::Reported => false,
        };
        is_invited || self.change == transaction || self.plain.recognizes(transaction)
    }

    /// Takes a datagram in. What is not an answer of the server changes nothing.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let (Some(from), Some(message)) = (usable_server(from), Message::parse(bytes)) else {
            return;
        };
        self.plain.handle_message(from, &message);
        let before = self.plain.mapped();
        match &mut self.state {
            State::Uninvited { rtt, .. } if rtt.is_none() && before.is_some() => {
                *rtt = Some(now - self.started);
            }
            State::Invited { question } => {
                question.handle_message(from, &message);
                match question.mapped() {
                    Some(mapped) if Some(mapped) == before => self.end(NatFiltering::PortDependent),
                    Some(_) => self.end(NatFiltering::Clashing),
                    None => (),
                }
            }
            State::Uninvited { .. } | State::Ended { .. } | State::Reported => (),
        }
        if message.transaction == self.change {
            self.handle_change(from, message.kind);
        }
    }

    /// Takes in an answer to the request for another port.
    fn handle_change(&mut self, from: SocketAddr, kind: u16) {
        let is_success = kind == stun::BINDING_SUCCESS;
        match self.state {
            State::Uninvited { .. } if from == self.other_port && is_success => {
                self.end(NatFiltering::PortIndependent);
            }
            // It refuses, or answers as if it had not been asked for anything special.
            State::Uninvited { .. } | State::Invited { .. }
                if from == self.server && (is_success || kind == BINDING_ERROR) =>
            {
                self.end(NatFiltering::Unknown);
            }
            // Once we have sent there ourselves, what comes from the other port shows nothing.
            _ => (),
        }
    }

    /// Advances to `now`: asks, asks again, or gives up.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_over = self.started + DEADLINE <= now;
        match &mut self.state {
            State::Ended { .. } | State::Reported => (),
            State::Uninvited { .. } | State::Invited { .. } if is_over => {
                self.end(NatFiltering::Unknown);
            }
            State::Uninvited { .. } => self.wait_uninvited(now),
            State::Invited { question } => {
                self.transmits.extend(question.handle_timeout(now));
                if is_given_up(question) {
                    self.end(NatFiltering::Unknown);
                }
            }
        }
    }

    fn wait_uninvited(&mut self, now: Instant) {
        self.transmits.extend(self.plain.handle_timeout(now));
        if is_given_up(&self.plain) {
            return self.end(NatFiltering::Unknown);
        }
        if let State::Uninvited { changes, .. } = &mut self.state
            && changes.take_due(now)
        {
            self.transmits.push_back(Transmit {
                via: MAIN,
                to: self.server,
                bytes: encode_request(self.change, &CHANGE_PORT),
                ttl: None,
                charge: Charge::Free,
            });
        }
        if self.invite_at().is_some_and(|at| at <= now) {
            let mut question = Question::new(now, MAIN, self.other_port, self.invitation);
            self.transmits.extend(question.handle_timeout(now));
            self.state = State::Invited { question };
        }
    }

    /// When to stop waiting for something uninvited, once that is known.
    fn invite_at(&self) -> Option<Instant> {
        match self.state {
            State::Uninvited {
                changes: Changes::Sent { last },
                rtt: Some(rtt),
            } => Some(last + SHORTEST_WAIT.max(2 * rtt)),
            _ => None,
        }
    }

    fn end(&mut self, result: NatFiltering) {
        self.state = State::Ended { result };
        self.transmits.clear();
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When to call [`FilteringProbe::handle_timeout`], or `None` when there is nothing to wait for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let next = match &self.state {
            State::Uninvited { changes, .. } => {
                let of_change = match changes {
                    Changes::Due { at, .. } => Some(*at),
                    Changes::Sent { .. } => self.invite_at(),
                };
                [self.plain.poll_timeout(), of_change]
            }
            State::Invited { question } => [question.poll_timeout(), None],
            State::Ended { .. } | State::Reported => return None,
        };
        let deadline = self.started + DEADLINE;
        Some(next.into_iter().flatten().fold(deadline, Instant::min))
    }

    /// The result, once. See [`NatFiltering::given`].
    pub fn poll_measured(&mut self) -> Option<NatFiltering> {
        let State::Ended { result } = self.state else {
            return None;
        };
        self.state = State::Reported;
        Some(result)
    }
}

impl Changes {
    /// Whether one is to be sent at `now`, which counts as sent then.
    fn take_due(&mut self, now: Instant) -> bool {
        match *self {
            Changes::Due { at, left } if at <= now => {
                *self = match left {
                    0 | 1 => Changes::Sent { last: now },
                    _ => Changes::Due {
                        at: now + CHANGE_GAP,
                        left: left - 1,
                    },
                };
                true
            }
            Changes::Due { .. } | Changes::Sent { .. } => false,
        }
    }
}

fn is_given_up(question: &Question) -> bool {
    question.mapped().is_none() && question.poll_timeout().is_none()
}

#[cfg(test)]
mod tests;
