//! Heads that nobody follows, the oldest first: all together, and those of each network.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use crate::follow::PublisherId;
use crate::tally::Tally;

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

/// All of them. Each question is answered without a search.
#[derive(Debug, Default)]
pub(super) struct Idle {
    by_age: BTreeSet<(Instant, PublisherId)>,
    /// With `None` one finds where those of a network begin; none here has it.
    by_network: BTreeSet<(IpAddr, Option<Instant>, PublisherId)>,
    of: Tally<IpAddr>,
    /// The networks, by how many each has.
    counts: BTreeSet<(usize, IpAddr)>,
}

impl Idle {
    pub(super) fn add(&mut self, idler: Idler) {
        let Idler {
            network,
            since,
            publisher,
        } = idler;
        self.by_age.insert((since, publisher));
        self.by_network.insert((network, Some(since), publisher));
        self.recount(network, |of| of.add(network));
    }

    /// Takes back one [`Idle::add`].
    pub(super) fn remove(&mut self, idler: Idler) {
        let Idler {
            network,
            since,
            publisher,
        } = idler;
        self.by_age.remove(&(since, publisher));
        self.by_network.remove(&(network, Some(since), publisher));
        self.recount(network, |of| of.subtract(&network));
    }

    /// The oldest, if it is as old as that.
    pub(super) fn oldest_until(&self, since: Instant) -> Option<PublisherId> {
        let oldest = self.by_age.first().filter(|oldest| oldest.0 <= since);
        oldest.map(|(_, publisher)| *publisher)
    }

    /// The oldest of a network.
    pub(super) fn oldest_of(&self, network: IpAddr) -> Option<PublisherId> {
        let begin = (network, None, PublisherId([0; 16]));
        let (of, _, publisher) = self.by_network.range(begin..).next()?;
        (*of == network).then_some(*publisher)
    }

    /// The oldest of the network that has most.
    pub(super) fn oldest_of_most(&self) -> Option<PublisherId> {
        let (_, network) = self.counts.last()?;
        self.oldest_of(*network)
    }

    fn recount(&mut self, network: IpAddr, change: impl FnOnce(&mut Tally<IpAddr>)) {
        self.counts.remove(&(self.of.count(&network), network));
        change(&mut self.of);
        let count = self.of.count(&network);
        if count > 0 {
            self.counts.insert((count, network));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.by_age.len(), self.by_network.len());
        assert_eq!(self.by_age.len(), self.of.total());
        let counts = self.counts.iter().map(|(count, _)| *count);
        assert_eq!(self.by_age.len(), counts.sum::<usize>());
        self.by_age.len()
    }
}
