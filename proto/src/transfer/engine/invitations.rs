//! Whom to invite when our uplink would idle.
//!
//! Peers ask for little at a time, and all of them for what is rarest, of whoever has it first. While
//! they wait there, others get it too and could pass it on, but nobody asks them. So who has room on
//! its uplink suggests to a neighbour a chunk that this lacks (BEP 6, Suggest Piece): it invites it. The
//! neighbour asks for it at once if it is not on its way from another, or takes it off a queue in
//! which it would wait for longer. Invitations bind nobody; who takes no heed is left alone for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::id::PublicKey;

/// Receivers to have beyond those that are served: an invitation takes a round trip to become a request.
pub(super) const RESERVE: usize = 2;
/// How long an invitation may take to be taken up, beside two round trips.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long nobody is looked for after nobody was found.
const REST: Duration = Duration::from_millis(20);
/// Who took no heed is not invited again for so long, twice as long each time.
const FIRST_SULK: Duration = Duration::from_millis(100);
const DOUBLINGS: u32 = 5;
/// After this it is forgotten that somebody took no heed.
const MEMORY: Duration = Duration::from_secs(60);

/// What is known of a peer that was invited.
#[derive(Clone, Copy, Debug)]
struct Invitation {
    /// Whether it may still be taken up.
    is_open: bool,
    /// Until when; or until when it is not invited again.
    until: Instant,
    /// How often in a row it was not.
    ignored: u32,
}

/// The invitations of one daemon.
#[derive(Debug, Default)]
pub(super) struct Invitations {
    made: BTreeMap<PublicKey, Invitation>,
    open: usize,
    /// No invitation is over before.
    none_over_before: Option<Instant>,
    /// When to look for somebody again, after there was nobody.
    rest: Option<Instant>,
    /// Whether anything has happened since there was nobody.
    is_news: bool,
}

impl Invitations {
    /// Invitations that may be taken up.
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

    /// Whether this peer may be invited.
    pub(super) fn may_invite(&self, now: Instant, peer: &PublicKey) -> bool {
        let is_over = |invitation: &Invitation| !invitation.is_open && invitation.until <= now;
        self.made.get(peer).is_none_or(is_over)
    }

    /// A peer this far away is invited.
    pub(super) fn invite(&mut self, now: Instant, peer: PublicKey, rtt: Duration) {
        let ignored = self.made.get(&peer).map_or(0, |it| it.ignored);
        let until = now + 2 * rtt + PATIENCE;
        let invitation = Invitation {
            is_open: true,
            until,
            ignored,
        };
        self.made.insert(peer, invitation);
        self.open += 1;
        let first = self.none_over_before.into_iter().chain([until]);
        self.none_over_before = first.min();
    }

    /// A peer asked for something, or is gone.
    pub(super) fn close(&mut self, peer: &PublicKey) {
        if let Some(invitation) = self.made.remove(peer) {
            self.open -= usize::from(invitation.is_open);
        }
    }

    /// Books what was not taken up, and forgets what was not long ago.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.none_over_before.is_none_or(|at| now < at) {
            return;
        }
        self.made
            .retain(|_, it| it.is_open || now < it.until + MEMORY);
        let over = |invitation: &&mut Invitation| invitation.is_open && invitation.until <= now;
        for invitation in self.made.values_mut().filter(over) {
            invitation.is_open = false;
            invitation.until = now + FIRST_SULK * (1 << invitation.ignored.min(DOUBLINGS));
            invitation.ignored += 1;
            self.open -= 1;
            self.is_news = true;
        }
        let open = self.made.values().filter(|it| it.is_open);
        self.none_over_before = open.map(|it| it.until).min();
    }

    /// When an invitation will be over, or somebody is to be looked for, if there is room for another.
    pub(super) fn deadline(&self, has_room: bool) -> Option<Instant> {
        let rest = self.rest.filter(|_| has_room && self.is_news);
        self.none_over_before.into_iter().chain(rest).min()
    }
}
