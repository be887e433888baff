//! Heads that nobody follows, the oldest first: all together, and those of each network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use crate::follow::PublisherId;

/// A head that nobody follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Idler {
    /// Where it came from first.
    pub(super) network: IpAddr,
    /// When it was given or followed last.
    pub(super) since: Instant,
    /// Whose it is.
    pub(super) publisher: PublisherId,
}

type ByAge = BTreeSet<(Instant, PublisherId)>;

/// All of them. Each question is answered without a search.
#[derive(Debug, Default)]
pub(super) struct Idle {
    all: ByAge,
    of: BTreeMap<IpAddr, ByAge>,
    /// How many each network has.
    counts: BTreeSet<(usize, IpAddr)>,
}

impl Idle {
    pub(super) fn add(&mut self, idler: Idler) {
        let age = (idler.since, idler.publisher);
        self.all.insert(age);
        let its = self.of.entry(idler.network).or_default();
        self.counts.remove(&(its.len(), idler.network));
        its.insert(age);
        self.counts.insert((its.len(), idler.network));
    }

    pub(super) fn remove(&mut self, idler: Idler) {
        let age = (idler.since, idler.publisher);
        self.all.remove(&age);
        let Some(its) = self.of.get_mut(&idler.network) else {
            return;
        };
        self.counts.remove(&(its.len(), idler.network));
        its.remove(&age);
        match its.len() {
            0 => drop(self.of.remove(&idler.network)),
            some => drop(self.counts.insert((some, idler.network))),
        }
    }

    /// The oldest, if it is as old as that.
    pub(super) fn oldest_until(&self, since: Instant) -> Option<PublisherId> {
        let oldest = self.all.first().filter(|oldest| oldest.0 <= since);
        oldest.map(|(_, publisher)| *publisher)
    }

    /// The oldest of a network.
    pub(super) fn oldest_of(&self, network: &IpAddr) -> Option<PublisherId> {
        let (_, publisher) = self.of.get(network)?.first()?;
        Some(*publisher)
    }

    /// The oldest of the network that has most.
    pub(super) fn oldest_of_most(&self) -> Option<PublisherId> {
        let (_, network) = self.counts.last()?;
        self.oldest_of(network)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.counts.len(), self.of.len());
        let counts = self.counts.iter().map(|(count, _)| *count);
        assert_eq!(counts.sum::<usize>(), self.all.len());
        self.all.len()
    }
}
