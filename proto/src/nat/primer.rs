//! How far a check may travel that is to open our NATs and must not reach the peer's.
//!
//! A NAT that *clashes* lets a packet that comes too early take the port that its host was about to
//! get, so that what opens our side must die on the way. It has to pass all NATs on our side, and
//! nobody says how many those are. What is known is how far a server is, from requests that may not
//! travel further ([`Distance`]): one hop less does not leave our own provider's and the core's
//! networks. The peer may be nearer than the server, and a carrier's NAT a few routers further than
//! the first. So of many ports that are opened, each of which is a bet of its own, some are opened
//! by packets that go less far than the others ([`PrimerHops::of_bet`]).

use std::net::SocketAddr;
use std::time::Instant;

use super::probe::{Question, encode_request};
use super::stun::{self, Message, Transaction};
use super::{Charge, MAIN, Transmit};

/// How far a check may travel that opens our NATs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimerHops(u8);

impl PrimerHops {
    /// Past our first NAT and no further: one router between the two NATs keeps it from the far one.
    pub const LEAST: PrimerHops = PrimerHops(2);

    /// Past a carrier's NAT that is a few routers away, and seldom into another one's network.
    const MOST: u8 = 5;

    /// Past a home's NAT and a carrier's right behind it.
    const USUAL: u8 = 3;

    /// The most that leaves one router between us and a server that is so far, or farther than was
    /// asked.
    fn before(distance: Option<u8>) -> PrimerHops {
        let most = distance.map_or(PrimerHops::MOST, |hops| hops.saturating_sub(1));
        PrimerHops(most.clamp(PrimerHops::LEAST.0, PrimerHops::MOST))
    }

    /// The same as a number of hops.
    pub(super) fn get(self) -> u8 {
        self.0
    }

    /// How far the check goes that opens port number `bet` of several. Of eight, four pass a carrier's
    /// NAT at the second hop, three go as far as is allowed, and one passes the first NAT only, for a
    /// peer that has one router in common with us.
    pub(super) fn of_bet(self, bet: usize) -> u8 {
        match bet % 8 {
            1 => PrimerHops::LEAST.0,
            0 | 2 | 4 | 6 => self.0.min(PrimerHops::USUAL),
            _ => self.0,
        }
    }
}

/// Finds out in how few hops a server is reached, with the flow that the main socket has to it.
///
/// A server that is farther than [`PrimerHops::MOST`] gives no answer, so what is waited for is the one to
/// a further request, which travels all the way and is sent last. Answers are no more authenticated than
/// those of a [`super::MappingProbe`]; what a forged one gains is that a carrier's NAT is not opened.
#[derive(Debug)]
pub(super) struct Distance {
    transaction: Transaction,
    last: Option<Question>,
    fewest: Option<u8>,
}

/// What is asked, in hops. Nearer than the first of them is as good as that: see [`PrimerHops::LEAST`].
const ASKED: std::ops::RangeInclusive<u8> = PrimerHops::LEAST.0 + 1..=PrimerHops::MOST;

impl Distance {
    /// Nobody was asked.
    pub(super) fn unknown(transaction: Transaction) -> Distance {
        Distance {
            transaction,
            last: None,
            fewest: None,
        }
    }

    /// Asks a server that has answered the main socket before, or once more, in case of loss.
    pub(super) fn ask(&mut self, now: Instant, server: SocketAddr) -> Vec<Transmit> {
        let question = |hops| Transmit {
            via: MAIN,
            to: server,
            bytes: encode_request(numbered(self.transaction, hops), &[]),
            ttl: Some(hops),
            charge: Charge::Free,
        };
        let mut asked: Vec<Transmit> = ASKED.map(question).collect();
        let last = Question::new(now, MAIN, server, self.transaction);
        asked.extend(self.last.get_or_insert(last).handle_timeout(now));
        asked
    }

    /// When [`Distance::handle_timeout`] has something to send; none when there is nothing to wait for.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.last.as_ref().and_then(Question::poll_timeout)
    }

    /// Asks again where nothing at all was answered.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Transmit> {
        self.last.as_mut().and_then(|last| last.handle_timeout(now))
    }

    /// Whether an answer with this transaction is one to us.
    pub(super) fn recognizes(&self, transaction: Transaction) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|last| last.recognizes(transaction) || self.hops_of(transaction).is_some())
    }

    /// Takes in what came from `from`, if it is an answer of the server.
    pub(super) fn handle_message(&mut self, from: SocketAddr, message: &Message<'_>) {
        let Some(last) = &mut self.last else {
            return;
        };
        last.handle_message(from, message);
        let is_answer = last.address() == from && message.kind == stun::BINDING_SUCCESS;
        let hops = self.hops_of(message.transaction).filter(|_| is_answer);
        self.fewest = self.fewest.into_iter().chain(hops).min();
    }

    /// How far primers may go, as far as the answers show: of a server that answers nothing they show
    /// nothing, so that the far NAT could be as near as any.
    pub(super) fn primer_hops(&self) -> PrimerHops {
        let is_there = self.last.as_ref().is_some_and(|it| it.answer().is_some());
        match self.fewest {
            None if !is_there => PrimerHops::LEAST,
            fewest => PrimerHops::before(fewest),
        }
    }

    fn hops_of(&self, transaction: Transaction) -> Option<u8> {
        ASKED
            .into_iter()
            .find(|hops| numbered(self.transaction, *hops) == transaction)
    }
}

/// Each request has its own, so that an answer tells which of them has arrived.
fn numbered(mut transaction: Transaction, hops: u8) -> Transaction {
    transaction.0[10] ^= hops;
    transaction
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::stun::binding_success;

    const SERVER: &str = "192.0.2.1:59000";

    #[test]
    fn one_router_stays_between_a_primer_and_the_server() {
        for (distance, expected) in [
            (Some(1), 2),
            (Some(3), 2),
            (Some(4), 3),
            (Some(5), 4),
            (Some(255), 5),
            (None, 5),
        ] {
            assert_eq!(PrimerHops::before(distance).get(), expected, "{distance:?}");
        }
    }

    #[test]
    fn of_many_ports_some_are_opened_by_what_goes_less_far() {
        let hops = |most: Option<u8>| {
            [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|bet| PrimerHops::before(most).of_bet(bet))
        };
        assert_eq!(hops(None), [3, 2, 3, 5, 3, 5, 3, 5, 3]);
        assert_eq!(hops(Some(4)), [3, 2, 3, 3, 3, 3, 3, 3, 3]);
        assert_eq!(hops(Some(3)), [2; 9]);
    }

    #[test]
    fn a_server_is_as_far_as_the_shortest_lived_request_that_it_answers() {
        for (reached, expected) in [(0, 2), (3, 2), (4, 3), (5, 4), (6, 5), (64, 5)] {
            let mut distance = Distance::unknown(Transaction([7; 12]));
            for transmit in distance.ask(Instant::now(), SERVER.parse().unwrap()) {
                if transmit.ttl.is_none_or(|hops| hops >= reached) {
                    answer(&mut distance, SERVER, &transmit);
                }
            }
            assert_eq!(distance.primer_hops().get(), expected, "{reached}");
        }
    }

    #[test]
    fn who_was_not_asked_and_who_is_silent_say_nothing() {
        let mut distance = Distance::unknown(Transaction([7; 12]));
        assert_eq!(distance.primer_hops(), PrimerHops::LEAST);
        let asked = distance.ask(Instant::now(), SERVER.parse().unwrap());
        for from in ["192.0.2.1:59001", "192.0.2.2:59000"] {
            answer(&mut distance, from, &asked[0]);
        }
        let mut other = Distance::unknown(Transaction([8; 12]));
        let others = other.ask(Instant::now(), SERVER.parse().unwrap());
        answer(&mut distance, SERVER, &others[0]);
        assert_eq!(distance.primer_hops(), PrimerHops::LEAST);
    }

    #[test]
    fn the_answer_to_what_was_sent_last_is_waited_for_and_no_other() {
        let (now, server) = (Instant::now(), SERVER.parse().unwrap());
        let mut distance = Distance::unknown(Transaction([7; 12]));
        assert_eq!(distance.poll_timeout(), None);
        let asked = distance.ask(now, server);
        let hops: Vec<_> = asked.iter().map(|it| it.ttl).collect();
        assert_eq!(hops, [Some(3), Some(4), Some(5), None]);
        let due = distance.poll_timeout().unwrap();
        let again = distance.handle_timeout(due).unwrap();
        assert_eq!(again.ttl, None);
        answer(&mut distance, SERVER, &asked[2]);
        assert!(distance.poll_timeout().is_some());
        answer(&mut distance, SERVER, &again);
        assert_eq!(distance.poll_timeout(), None);
        assert_eq!(distance.ask(due, server).len(), 3, "that is known");
        assert_eq!(distance.primer_hops().get(), 4);
    }

    fn answer(distance: &mut Distance, from: &str, request: &Transmit) {
        let answer = binding_success(&request.bytes, "203.0.113.7:5000");
        let message = Message::parse(&answer).unwrap();
        distance.handle_message(from.parse().unwrap(), &message);
    }
}
