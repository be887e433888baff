//! One STUN Binding request to one server, repeated until it is answered (RFC 8489 §6.2.1).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::nat::stun::{self, Message, Transaction};
use crate::nat::{Charge, Transmit};

/// Pauses after each request to one server. Short at first: a lost packet should not hold up the
/// start of a daemon.
const PAUSES_MS: [u64; 5] = [100, 200, 400, 800, 800];

/// Makes a request as long as the longest answer, 44 bytes with an IPv6 address, so that a server
/// that must not amplify serves it. PADDING (RFC 5780 §7.6) would have to be understood; this need
/// not be.
const SOFTWARE: &[u8; 20] = b"warren nat behaviour";

/// One server and what it is asked: how one of our sockets looks to it.
#[derive(Debug)]
pub(in crate::nat) struct Question {
    via: u16,
    address: SocketAddr,
    transaction: Transaction,
    /// Attributes of the request.
    more: Vec<u8>,
    asked: usize,
    /// When to ask again or give up; none once either happened for the last time.
    next: Option<Instant>,
    answer: Option<Answer>,
}

/// What a server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nat) struct Answer {
    /// Where it saw our packet come from.
    pub(in crate::nat) mapped: SocketAddr,
    /// Whether it answers our first request, so that the mapping was made when that was sent.
    pub(in crate::nat) is_first_try: bool,
}

impl Question {
    /// To be asked from socket `via` at `at`, and again until there is an answer or the pauses are
    /// used up.
    pub(in crate::nat) fn new(
        at: Instant,
        via: u16,
        address: SocketAddr,
        transaction: Transaction,
    ) -> Question {
        Question {
            via,
            address,
            transaction,
            more: Vec::new(),
            asked: 0,
            next: Some(at),
            answer: None,
        }
    }

    /// With these attributes too, whose length is a multiple of four.
    pub(in crate::nat) fn carrying(mut self, more: Vec<u8>) -> Question {
        self.more = more;
        self
    }

    /// Asks no more.
    pub(super) fn give_up(&mut self) {
        self.next = None;
    }

    pub(in crate::nat) fn via(&self) -> u16 {
        self.via
    }

    pub(in crate::nat) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether an answer with this transaction is one to us. It is not authenticated.
    pub(in crate::nat) fn recognizes(&self, transaction: Transaction) -> bool {
        self.number_of(transaction).is_some()
    }

    /// Which of our requests has this transaction, counted from 0.
    fn number_of(&self, transaction: Transaction) -> Option<usize> {
        (0..self.asked).find(|number| self.transaction(*number) == transaction)
    }

    /// Each request has its own, so that an answer tells which of them made the mapping.
    pub(in crate::nat) fn transaction(&self, number: usize) -> Transaction {
        let mut transaction = self.transaction;
        transaction.0[11] ^= number as u8;
        transaction
    }

    /// What the server said, once it has.
    pub(in crate::nat) fn answer(&self) -> Option<Answer> {
        self.answer
    }

    /// Where the server saw our packet come from, once it has answered.
    pub(in crate::nat) fn mapped(&self) -> Option<SocketAddr> {
        self.answer.map(|answer| answer.mapped)
    }

    /// When to call `handle_timeout`; `None` once answered or given up.
    pub(in crate::nat) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Takes in what came from `from`, if it is the answer.
    pub(in crate::nat) fn handle_message(&mut self, from: SocketAddr, message: &Message<'_>) {
        let is_answer = self.address == from && message.kind == stun::BINDING_SUCCESS;
        let number = self.number_of(message.transaction).filter(|_| is_answer);
        let mapped = message.mapped_address().filter(|mapped| {
            is_same_family(*mapped, from) && !mapped.ip().is_unspecified() && mapped.port() != 0
        });
        if let (Some(number), Some(mapped)) = (number, mapped) {
            self.next = None;
            self.answer.get_or_insert(Answer {
                mapped,
                is_first_try: number == 0,
            });
        }
    }

    /// The request, if it is due at `now`.
    pub(in crate::nat) fn handle_timeout(&mut self, now: Instant) -> Option<Transmit> {
        self.next.take_if(|next| *next <= now)?;
        let pause = PAUSES_MS.get(self.asked)?;
        let transaction = self.transaction(self.asked);
        self.asked += 1;
        self.next = Some(now + Duration::from_millis(*pause));
        Some(Transmit {
            via: self.via,
            to: self.address,
            bytes: encode_request(transaction, &self.more),
            ttl: None,
            charge: Charge::Free,
        })
    }
}

/// A Binding request with further attributes `more`, whose length is a multiple of four.
pub(in crate::nat) fn encode_request(transaction: Transaction, more: &[u8]) -> Vec<u8> {
    let length = stun::ATTRIBUTE_HEADER_BYTES + SOFTWARE.len() + more.len();
    let mut bytes = Vec::with_capacity(stun::HEADER_BYTES + length);
    bytes.extend_from_slice(&stun::BINDING_REQUEST.to_be_bytes());
    bytes.extend_from_slice(&(length as u16).to_be_bytes());
    bytes.extend_from_slice(&stun::MAGIC_COOKIE);
    bytes.extend_from_slice(&transaction.0);
    bytes.extend_from_slice(&stun::SOFTWARE.to_be_bytes());
    bytes.extend_from_slice(&(SOFTWARE.len() as u16).to_be_bytes());
    bytes.extend_from_slice(SOFTWARE);
    bytes.extend_from_slice(more);
    bytes
}

pub(in crate::nat) fn is_same_family(a: SocketAddr, b: SocketAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}
