//! What an attempt has to do with guessing ports: the words of the peer, ours, and what came of it.

use std::net::{IpAddr, SocketAddr};

use warren_proto::nat::{Guessing, TurnEnd};
use warren_proto::wire::{NatMapping, Rendezvous};

use super::attempt::Attempt;
use crate::tracker::TrackerId;

/// What the peer of a rendezvous has said by way of the tracker.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) tracker: TrackerId,
    pub(super) id: [u8; 10],
    pub(super) address: SocketAddr,
    pub(super) mapping: NatMapping,
}

impl Attempt {
    /// Guesses ports too, if our own NAT is known.
    pub(super) fn guessing(mut self, rendezvous: &Rendezvous, own: Option<Guessing>) -> Attempt {
        if let Some(own) = own {
            self.machine = self.machine.guessing(rendezvous, own);
        }
        self
    }

    /// How our turn to guess has ended. `known` is where a connection with the peer leads or has led:
    /// there it has answered before.
    pub(super) fn turn_end(&self, known: Option<IpAddr>) -> TurnEnd {
        let is_known = known.is_some() && known == self.guessed;
        match self.proven.is_empty() && !is_known {
            true => TurnEnd::Unanswered,
            false => TurnEnd::Answered,
        }
    }

    /// Tells the tracker whether a path was found, and by what.
    pub(super) fn tell_outcome(&self, success: bool) {
        self.line.outcome(self.machine.technique(), success);
    }
}
