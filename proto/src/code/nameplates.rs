//! What a tracker decides about codes: whose each number is, and who says what to whom in an exchange.
//!
//! [`Nameplates`] is told what daemons say and returns what to tell them. It reads nothing of an exchange
//! but who may speak next, and passes on no more than the four messages that one has, in turns. It bounds
//! how many numbers and exchanges there are, and how many exchanges of one network may fail: who guesses
//! is slowed down here, and stopped by the sharer's daemon ([`super::given`]), which trusts no tracker to
//! do that.
//!
//! A number is kept for a while after its code has ended, so that who comes late is told why, and does not
//! use up a guess of another code. It is kept while its daemon is away for a moment, too.
//!
//! Not here: connections and sockets (`warren-tracker`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::given::EXCHANGE_TIME;
use super::{Body, Closed, ExchangeId, Nameplate};
use crate::id::PublicKey;
use crate::limits::{
    CODE_EXCHANGES, EXCHANGES_PER_CODE, EXCHANGES_PER_PEER, NAMEPLATES, NAMEPLATES_PER_NETWORK,
    NAMEPLATES_PER_PEER,
};
use crate::swarm::prefix;
use crate::wire::{Claimed, CodeNews, CodeRequest};

/// Longest time for which a number is kept.
pub const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// How long a number is kept while its daemon is not connected: it comes back within seconds, also to a
/// tracker that was started anew.
pub const GRACE: Duration = Duration::from_secs(120);

/// How long nobody else gets a number whose code has ended.
pub const RETIRED: Duration = Duration::from_secs(600);

/// So many exchanges of one network (IPv4 /24, IPv6 /56) may fail in so long.
pub const FAILURES: u32 = 20;
/// See [`FAILURES`]. Begins with the first failure, and again with the first after its end.
pub const FAILURE_WINDOW: Duration = Duration::from_secs(600);

/// Networks whose failures are remembered. Who has more of them than that is slowed down by nothing here.
const NETWORKS: usize = 100_000;

/// Messages of an exchange.
const MESSAGES: u8 = 4;

/// What to tell whom.
pub type CodeMail = Vec<(PublicKey, CodeNews)>;

/// All numbers and exchanges of one tracker.
#[derive(Debug, Default)]
pub struct Nameplates {
    held: BTreeMap<Nameplate, Held>,
    exchanges: BTreeMap<ExchangeId, Exchange>,
    failures: BTreeMap<IpAddr, Failures>,
}

#[derive(Debug)]
struct Held {
    owner: PublicKey,
    network: IpAddr,
    state: State,
}

/// Live → Away and back, with the owner's connection; either → Over, until it is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live { until: Instant },
    Away { since: Instant, until: Instant },
    Over { why: Closed, since: Instant },
}

#[derive(Debug)]
struct Exchange {
    nameplate: Nameplate,
    sharer: PublicKey,
    receiver: PublicKey,
    /// Where the receiver is.
    network: IpAddr,
    /// Messages so far; the receiver has said the first.
    said: u8,
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Nameplates {
    /// Takes in what a daemon says, which is connected from `ip`.
    pub fn handle(
        &mut self,
        now: Instant,
        (peer, ip): (PublicKey, IpAddr),
        request: CodeRequest,
    ) -> CodeMail {
        let network = prefix(ip);
        match request {
            CodeRequest::Claim {
                ticket,
                nameplate,
                lifetime_s,
            } => {
                let until = now + Duration::from_secs(lifetime_s.into()).min(LONGEST);
                let result = self.claim((peer, network), nameplate, until);
                vec![(peer, CodeNews::Claimed { ticket, result })]
            }
            CodeRequest::Release { nameplate, ended } => {
                let its = self.held.get_mut(&nameplate).filter(|it| it.owner == peer);
                if let Some(held) = its {
                    held.end(now, ended.into());
                }
                Vec::new()
            }
            CodeRequest::Open {
                nameplate,
                exchange,
                message,
            } => match self.open(now, (peer, network), nameplate, exchange) {
                Ok(sharer) => {
                    let opened = CodeNews::Opened {
                        nameplate,
                        exchange,
                        message,
                    };
                    vec![(sharer, opened)]
                }
                Err(reason) => vec![(peer, CodeNews::Closed { exchange, reason })],
            },
            CodeRequest::Pass { exchange, message } => self.pass(now, peer, exchange, message),
            CodeRequest::Close { exchange, reason } => self.close(now, peer, exchange, reason),
        }
    }

    /// A daemon has connected, perhaps anew.
    pub fn connected(&mut self, peer: &PublicKey) {
        for held in self.held.values_mut().filter(|it| it.owner == *peer) {
            if let State::Away { until, .. } = held.state {
                held.state = State::Live { until };
            }
        }
    }

    /// A daemon's connection has ended, and with it what it was opening or answering.
    pub fn disconnected(&mut self, now: Instant, peer: &PublicKey) -> CodeMail {
        for held in self.held.values_mut().filter(|it| it.owner == *peer) {
            if let State::Live { until } = held.state {
                held.state = State::Away { since: now, until };
            }
        }
        let its = |it: &Exchange| it.sharer == *peer || it.receiver == *peer;
        self.end_exchanges(now, Closed::Absent, its)
            .into_iter()
            .filter(|(to, _)| to != peer)
            .collect()
    }

    /// Ends what has lasted its time.
    pub fn expire(&mut self, now: Instant) -> CodeMail {
        for held in self.held.values_mut() {
            match held.state {
                State::Live { until } | State::Away { until, .. } if until <= now => {
                    held.end(now, Closed::Expired);
                }
                State::Away { since, .. } if since + GRACE <= now => held.end(now, Closed::Absent),
                _ => (),
            }
        }
        self.held.retain(|_, held| match held.state {
            State::Over { since, .. } => now < since + RETIRED,
            _ => true,
        });
        self.failures
            .retain(|_, it| now < it.since + FAILURE_WINDOW);
        self.end_exchanges(now, Closed::Late, |it| it.until <= now)
    }

    fn claim(
        &mut self,
        (owner, network): (PublicKey, IpAddr),
        wanted: Option<Nameplate>,
        until: Instant,
    ) -> Claimed {
        let state = State::Live { until };
        if let Some(held) = wanted.and_then(|it| self.held.get_mut(&it)) {
            let may_go_on = !matches!(held.state, State::Over { why, .. } if why != Closed::Absent);
            if held.owner != owner || !may_go_on {
                return Claimed::Taken;
            }
            held.state = state;
            return Claimed::Kept(wanted.unwrap_or(Nameplate(0)));
        }
        let count = |is: &dyn Fn(&Held) -> bool| self.held.values().filter(|it| is(it)).count();
        let is_its = |it: &Held| it.owner == owner && !matches!(it.state, State::Over { .. });
        if self.held.len() >= NAMEPLATES
            || count(&is_its) >= NAMEPLATES_PER_PEER
            || count(&|it| it.network == network) >= NAMEPLATES_PER_NETWORK
        {
            return Claimed::TooMany;
        }
        let Some(nameplate) = wanted.filter(|it| it.0 > 0).or_else(|| self.lowest_free()) else {
            return Claimed::TooMany;
        };
        let held = Held {
            owner,
            network,
            state,
        };
        self.held.insert(nameplate, held);
        Claimed::Kept(nameplate)
    }

    /// Short numbers are easy to say.
    fn lowest_free(&self) -> Option<Nameplate> {
        let mut held = self.held.keys().map(|it| it.0).peekable();
        (1..=u16::MAX)
            .find(|number| held.next_if_eq(number).is_none())
            .map(Nameplate)
    }

    /// To whom message 1 goes, or why it goes nowhere.
    fn open(
        &mut self,
        now: Instant,
        (receiver, network): (PublicKey, IpAddr),
        nameplate: Nameplate,
        exchange: ExchangeId,
    ) -> Result<PublicKey, Closed> {
        if self.has_failed_too_often(now, network) {
            return Err(Closed::TooManyGuesses);
        }
        let sharer = match self.held.get(&nameplate) {
            Some(held) if held.owner == receiver => Err(Closed::Unknown),
            Some(held) => held.sharer(now),
            None => Err(Closed::Unknown),
        };
        let sharer = match sharer {
            Ok(sharer) => sharer,
            Err(why) => {
                // Who tries all numbers is to be slow at that, too.
                self.note_failure(now, network);
                return Err(why);
            }
        };
        let count = |is: &dyn Fn(&Exchange) -> bool| {
            let exchanges = self.exchanges.values();
            exchanges.filter(|it| is(it)).count()
        };
        if self.exchanges.len() >= CODE_EXCHANGES
            || self.exchanges.contains_key(&exchange)
            || count(&|it| it.receiver == receiver) >= EXCHANGES_PER_PEER
            || count(&|it| it.nameplate == nameplate) >= EXCHANGES_PER_CODE
        {
            return Err(Closed::Busy);
        }
        let begun = Exchange {
            nameplate,
            sharer,
            receiver,
            network,
            said: 1,
            until: now + EXCHANGE_TIME,
        };
        self.exchanges.insert(exchange, begun);
        Ok(sharer)
    }

    /// Passes a message on if it is the sender's turn; who speaks out of turn has ended the exchange.
    fn pass(
        &mut self,
        now: Instant,
        from: PublicKey,
        exchange: ExchangeId,
        message: Body,
    ) -> CodeMail {
        let Some(it) = self.exchanges.get_mut(&exchange) else {
            // The other side may just have gone.
            let reason = Closed::Late;
            return vec![(from, CodeNews::Closed { exchange, reason })];
        };
        let (speaker, listener) = match it.said % 2 {
            1 => (it.sharer, it.receiver),
            _ => (it.receiver, it.sharer),
        };
        if speaker != from {
            return self.close(now, from, exchange, Closed::Malformed);
        }
        it.said += 1;
        if it.said == MESSAGES {
            self.exchanges.remove(&exchange);
        }
        vec![(listener, CodeNews::Passed { exchange, message })]
    }

    /// Ends an exchange that `from` is part of, and tells the other side.
    fn close(
        &mut self,
        now: Instant,
        from: PublicKey,
        exchange: ExchangeId,
        reason: Closed,
    ) -> CodeMail {
        let is_its = |it: &&Exchange| it.sharer == from || it.receiver == from;
        let Some(it) = self.exchanges.get(&exchange).filter(is_its) else {
            return Vec::new();
        };
        let (other, network) = match it.sharer == from {
            true => (it.receiver, it.network),
            false => (it.sharer, it.network),
        };
        self.exchanges.remove(&exchange);
        self.note_failure(now, network);
        vec![(other, CodeNews::Closed { exchange, reason })]
    }

    /// Ends all such exchanges, and tells both sides.
    fn end_exchanges(
        &mut self,
        now: Instant,
        reason: Closed,
        is_over: impl Fn(&Exchange) -> bool,
    ) -> CodeMail {
        let ended = self.exchanges.extract_if(.., |_, it| is_over(it));
        let ended: Vec<(ExchangeId, Exchange)> = ended.collect();
        let mut mail = CodeMail::new();
        for (exchange, it) in ended {
            self.note_failure(now, it.network);
            for to in [it.receiver, it.sharer] {
                mail.push((to, CodeNews::Closed { exchange, reason }));
            }
        }
        mail
    }

    fn has_failed_too_often(&self, now: Instant, network: IpAddr) -> bool {
        let failures = self.failures.get(&network);
        failures.is_some_and(|it| it.count >= FAILURES && now < it.since + FAILURE_WINDOW)
    }

    fn note_failure(&mut self, now: Instant, network: IpAddr) {
        if self.failures.len() >= NETWORKS && !self.failures.contains_key(&network) {
            return;
        }
        let new = Failures {
            since: now,
            count: 0,
        };
        let failures = self.failures.entry(network).or_insert(new);
        if now >= failures.since + FAILURE_WINDOW {
            *failures = new;
        }
        failures.count = failures.count.saturating_add(1);
    }
}

impl Held {
    /// Ends it, unless it has ended before.
    fn end(&mut self, now: Instant, why: Closed) {
        if !matches!(self.state, State::Over { .. }) {
            self.state = State::Over { why, since: now };
        }
    }

    /// Who answers those who open it, or why nobody does.
    fn sharer(&self, now: Instant) -> Result<PublicKey, Closed> {
        match self.state {
            State::Live { until } | State::Away { until, .. } if until <= now => {
                Err(Closed::Expired)
            }
            State::Live { .. } => Ok(self.owner),
            State::Away { .. } => Err(Closed::Absent),
            State::Over { why, .. } => Err(why),
        }
    }
}

#[cfg(test)]
mod tests;
