//! Whom to offer something when our uplink would idle.
//!
//! Peers ask for little at a time, and all of them for what is rarest, of whoever has it first. While
//! they wait there, others get it too and could pass it on, but nobody asks them. So who has room on
//! its uplink suggests to a neighbour a chunk that this lacks (BEP 6, Suggest Piece), and the
//! neighbour asks for it at once if it is not on its way from another, or takes it off a queue in
//! which it would wait for longer. Offers bind nobody; who takes no heed is left alone for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::id::PublicKey;

/// Receivers to have beyond those that are served: an offer takes a round trip to become a request.
pub(super) const RESERVE: usize = 2;
/// How long an offer may take to be taken up, beside two round trips.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long nobody is looked for after nobody was found.
const REST: Duration = Duration::from_millis(20);
/// Who took no heed is offered nothing for so long, twice as long each time.
const FIRST_SULK: Duration = Duration::from_millis(100);
const DOUBLINGS: u32 = 5;

/// What is known of a peer to whom something was offered.
#[derive(Clone, Copy, Debug)]
struct Offer {
    /// Whether it may still be taken up.
    is_open: bool,
    /// Until when; or until when nothing more is offered.
    until: Instant,
    /// How often in a row it was not.
    ignored: u32,
}

/// The offers of one daemon.
#[derive(Debug, Default)]
pub(super) struct Offers {
    made: BTreeMap<PublicKey, Offer>,
    open: usize,
    /// When to look for somebody again, after there was nobody.
    rest: Option<Instant>,
    /// Whether anything has happened since there was nobody.
    is_news: bool,
}

impl Offers {
    /// Offers that may be taken up.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Something has happened: there may be somebody now.
    pub(super) fn stir(&mut self) {
        self.is_news = true;
    }

    /// Whether somebody may be looked for now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.is_news && self.rest.is_none_or(|until| until <= now)
    }

    /// Nobody was found.
    pub(super) fn rest(&mut self, now: Instant) {
        (self.rest, self.is_news) = (Some(now + REST), false);
    }

    /// Whether this peer may be offered something.
    pub(super) fn may_offer(&self, now: Instant, peer: &PublicKey) -> bool {
        let is_over = |offer: &Offer| !offer.is_open && offer.until <= now;
        self.made.get(peer).is_none_or(is_over)
    }

    /// Something was offered to a peer this far away.
    pub(super) fn offer(&mut self, now: Instant, peer: PublicKey, rtt: Duration) {
        let ignored = self.made.get(&peer).map_or(0, |offer| offer.ignored);
        let until = now + 2 * rtt + PATIENCE;
        let offer = Offer {
            is_open: true,
            until,
            ignored,
        };
        self.made.insert(peer, offer);
        self.open += 1;
    }

    /// A peer asked for something, or is gone.
    pub(super) fn close(&mut self, peer: &PublicKey) {
        if let Some(offer) = self.made.remove(peer) {
            self.open -= usize::from(offer.is_open);
        }
    }

    /// Books what was not taken up.
    pub(super) fn expire(&mut self, now: Instant) {
        let over = |offer: &&mut Offer| offer.is_open && offer.until <= now;
        for offer in self.made.values_mut().filter(over) {
            offer.is_open = false;
            offer.until = now + FIRST_SULK * (1 << offer.ignored.min(DOUBLINGS));
            offer.ignored += 1;
            self.open -= 1;
            self.is_news = true;
        }
    }

    /// When an offer will be over, or somebody is to be looked for, if there is room for another.
    pub(super) fn deadline(&self, has_room: bool) -> Option<Instant> {
        let open = self.made.values().filter(|offer| offer.is_open);
        let rest = self.rest.filter(|_| has_room && self.is_news);
        open.map(|offer| offer.until).chain(rest).min()
    }
}
