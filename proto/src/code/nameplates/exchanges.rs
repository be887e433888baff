//! The exchanges that are under way: who may speak next, and how many there may be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use crate::code::{ExchangeId, Nameplate};
use crate::id::PublicKey;
use crate::limits::{
    CODE_EXCHANGES, EXCHANGES_PER_CODE, EXCHANGES_PER_NETWORK, EXCHANGES_PER_PEER,
};
use crate::tally::Tally;

/// Messages of an exchange.
const MESSAGES: u8 = 4;

/// All exchanges of one tracker.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    under_way: BTreeMap<ExchangeId, Exchange>,
    /// Those that a daemon has begun, and those about its codes.
    of_peer: BTreeMap<PublicKey, BTreeSet<ExchangeId>>,
    of_receiver: Tally<PublicKey>,
    of_code: Tally<Nameplate>,
    of_network: Tally<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) nameplate: Nameplate,
    pub(super) sharer: PublicKey,
    pub(super) receiver: PublicKey,
    /// Where the receiver is.
    pub(super) network: IpAddr,
    /// Messages so far; the receiver has said the first.
    pub(super) said: u8,
    pub(super) until: Instant,
}

impl Exchange {
    /// Who is to say the next message, and who then hears it.
    pub(super) fn turn(&self) -> (PublicKey, PublicKey) {
        match self.said % 2 {
            1 => (self.sharer, self.receiver),
            _ => (self.receiver, self.sharer),
        }
    }

    pub(super) fn is_part(&self, peer: &PublicKey) -> bool {
        self.sharer == *peer || self.receiver == *peer
    }

    /// Who hears what this side says.
    pub(super) fn other(&self, peer: &PublicKey) -> PublicKey {
        match self.sharer == *peer {
            true => self.receiver,
            false => self.sharer,
        }
    }
}

impl Exchanges {
    /// Begins one; false if there are too many.
    pub(super) fn begin(&mut self, id: ExchangeId, it: Exchange) -> bool {
        if self.under_way.len() >= CODE_EXCHANGES
            || self.under_way.contains_key(&id)
            || self.of_receiver.count(&it.receiver) >= EXCHANGES_PER_PEER
            || self.of_code.count(&it.nameplate) >= EXCHANGES_PER_CODE
            || self.of_network.count(&it.network) >= EXCHANGES_PER_NETWORK
        {
            return false;
        }
        for peer in [it.sharer, it.receiver] {
            self.of_peer.entry(peer).or_default().insert(id);
        }
        self.of_receiver.add(it.receiver);
        self.of_code.add(it.nameplate);
        self.of_network.add(it.network);
        self.under_way.insert(id, it);
        true
    }

    pub(super) fn get(&self, id: &ExchangeId) -> Option<&Exchange> {
        self.under_way.get(id)
    }

    /// One more message was said; the last ends it.
    pub(super) fn note_said(&mut self, id: &ExchangeId) {
        let Some(it) = self.under_way.get_mut(id) else {
            return;
        };
        it.said += 1;
        if it.said == MESSAGES {
            self.end(id);
        }
    }

    pub(super) fn end(&mut self, id: &ExchangeId) -> Option<Exchange> {
        let it = self.under_way.remove(id)?;
        for peer in [it.sharer, it.receiver] {
            self.forget(&peer, id);
        }
        self.of_receiver.subtract(&it.receiver);
        self.of_code.subtract(&it.nameplate);
        self.of_network.subtract(&it.network);
        Some(it)
    }

    /// Those that a daemon is part of.
    pub(super) fn of(&self, peer: &PublicKey) -> Vec<ExchangeId> {
        self.of_peer
            .get(peer)
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }

    /// Those whose time is up.
    pub(super) fn overdue(&self, now: Instant) -> Vec<ExchangeId> {
        let all = self.under_way.iter();
        let overdue = all.filter(|(_, it)| it.until <= now);
        overdue.map(|(id, _)| *id).collect()
    }

    fn forget(&mut self, peer: &PublicKey, id: &ExchangeId) {
        if let Some(its) = self.of_peer.get_mut(peer) {
            its.remove(id);
            if its.is_empty() {
                self.of_peer.remove(peer);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn values(&self) -> impl Iterator<Item = &Exchange> {
        self.under_way.values()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
            && self.of_peer.is_empty()
            && self.of_receiver.is_empty()
            && self.of_code.is_empty()
            && self.of_network.is_empty()
    }
}
