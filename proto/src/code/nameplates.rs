//! What a tracker decides about codes: whose each number is, and who says what to whom in an exchange.
//!
//! [`Nameplates`] is told what daemons say and returns what to tell them. It reads nothing of an exchange
//! but who may speak next, and passes on no more than the four messages that one has, in turns. It bounds
//! how many numbers and exchanges there are, and how many exchanges of one network may fail: who guesses
//! is slowed down here, and stopped by the sharer's daemon ([`super::given`]), which trusts no tracker to
//! do that.
//!
//! A failure counts where it is the receiver's doing. What the sharer's side causes says nothing of who
//! opens, and must not lock out a network.
//!
//! Not here: connections and sockets (`warren-tracker`).

mod exchanges;
mod failures;
mod numbers;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use self::exchanges::{Exchange, Exchanges};
use self::failures::Failures;
use self::numbers::Numbers;
use super::given::EXCHANGE_TIME;
use super::{Body, Closed, ExchangeId, Nameplate};
use crate::id::PublicKey;
use crate::swarm::prefix;
use crate::wire::{CodeNews, CodeRequest};

pub use self::failures::{FAILURE_WINDOW, FAILURES};
pub use self::numbers::{GRACE, RETIRED};

/// Longest time for which a number is kept.
pub const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// What to tell whom.
pub type CodeMail = Vec<(PublicKey, CodeNews)>;

/// All numbers and exchanges of one tracker.
#[derive(Debug, Default)]
pub struct Nameplates {
    numbers: Numbers,
    exchanges: Exchanges,
    failures: Failures,
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
                let result = self.numbers.claim((peer, network), nameplate, until);
                vec![(peer, CodeNews::Claimed { ticket, result })]
            }
            CodeRequest::Release { nameplate, ended } => {
                self.numbers.release(now, &peer, nameplate, ended.into());
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

    /// A daemon's connection has ended, and with it what it was opening or answering. Its numbers are kept
    /// for a while, in which it may claim them again.
    pub fn disconnected(&mut self, now: Instant, peer: &PublicKey) -> CodeMail {
        self.numbers.disconnected(now, peer);
        let mut mail = CodeMail::new();
        for exchange in self.exchanges.of(peer) {
            let Some(it) = self.exchanges.end(&exchange) else {
                continue;
            };
            if it.receiver == *peer {
                self.failures.note(now, it.network);
            }
            let reason = Closed::Absent;
            mail.push((it.other(peer), CodeNews::Closed { exchange, reason }));
        }
        mail
    }

    /// Ends what has lasted its time.
    pub fn expire(&mut self, now: Instant) -> CodeMail {
        self.numbers.expire(now);
        self.failures.expire(now);
        let mut mail = CodeMail::new();
        for exchange in self.exchanges.overdue(now) {
            let Some(it) = self.exchanges.end(&exchange) else {
                continue;
            };
            let (silent, _) = it.turn();
            if it.receiver == silent {
                self.failures.note(now, it.network);
            }
            let reason = Closed::Late;
            let both = [it.receiver, it.sharer].into_iter();
            mail.extend(both.map(|to| (to, CodeNews::Closed { exchange, reason })));
        }
        mail
    }

    /// To whom message 1 goes, or why it goes nowhere.
    fn open(
        &mut self,
        now: Instant,
        (receiver, network): (PublicKey, IpAddr),
        nameplate: Nameplate,
        exchange: ExchangeId,
    ) -> Result<PublicKey, Closed> {
        if self.failures.are_too_many(now, network) {
            return Err(Closed::TooManyGuesses);
        }
        let sharer = match self.numbers.sharer(now, nameplate) {
            Ok(sharer) if sharer == receiver => Err(Closed::Unknown),
            sharer => sharer,
        };
        let sharer = sharer.inspect_err(|why| {
            // Who tries all numbers is to be slow at that, too.
            if *why != Closed::Absent {
                self.failures.note(now, network);
            }
        })?;
        let begun = Exchange {
            nameplate,
            sharer,
            receiver,
            network,
            said: 1,
            until: now + EXCHANGE_TIME,
        };
        match self.exchanges.begin(exchange, begun) {
            true => Ok(sharer),
            false => Err(Closed::Busy),
        }
    }

    /// Passes a message on if it is the sender's turn; who speaks out of turn has ended the exchange.
    fn pass(
        &mut self,
        now: Instant,
        from: PublicKey,
        exchange: ExchangeId,
        message: Body,
    ) -> CodeMail {
        let Some(it) = self.exchanges.get(&exchange) else {
            // The other side may just have gone.
            let reason = Closed::Late;
            return vec![(from, CodeNews::Closed { exchange, reason })];
        };
        let (speaker, listener) = it.turn();
        if speaker != from {
            return self.end(now, from, exchange, (Closed::Malformed, Fault::Speaker));
        }
        self.exchanges.note_said(&exchange);
        vec![(listener, CodeNews::Passed { exchange, message })]
    }

    /// One side ends an exchange. The receiver gives up, for whatever reason; the sharer may say what the
    /// receiver did wrong, or that it cannot go on itself.
    fn close(
        &mut self,
        now: Instant,
        from: PublicKey,
        exchange: ExchangeId,
        reason: Closed,
    ) -> CodeMail {
        let fault = match reason {
            Closed::Busy | Closed::Late | Closed::Absent | Closed::TooManyGuesses => Fault::Speaker,
            Closed::Unknown
            | Closed::Expired
            | Closed::Used
            | Closed::Burned
            | Closed::Withdrawn
            | Closed::WrongWords
            | Closed::Malformed => Fault::Receiver,
        };
        self.end(now, from, exchange, (reason, fault))
    }

    /// Ends an exchange that `from` is part of, and tells the other side.
    fn end(
        &mut self,
        now: Instant,
        from: PublicKey,
        exchange: ExchangeId,
        (reason, fault): (Closed, Fault),
    ) -> CodeMail {
        let its = self.exchanges.get(&exchange);
        if !its.is_some_and(|it| it.is_part(&from)) {
            return Vec::new();
        }
        let Some(it) = self.exchanges.end(&exchange) else {
            return Vec::new();
        };
        if fault == Fault::Receiver || it.receiver == from {
            self.failures.note(now, it.network);
        }
        vec![(it.other(&from), CodeNews::Closed { exchange, reason })]
    }
}

/// Who has brought an exchange to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Who says that it is over.
    Speaker,
    /// Who has opened the code, also where the sharer says so.
    Receiver,
}

#[cfg(test)]
mod tests;
