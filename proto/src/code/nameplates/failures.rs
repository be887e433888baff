//! How often the exchanges of a network have failed through its own doing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// So many exchanges of one network (IPv4 /24, IPv6 /56) may fail in so long.
pub const FAILURES: u32 = 20;
/// See [`FAILURES`]. Begins with the first failure, and again with the first after its end.
pub const FAILURE_WINDOW: Duration = Duration::from_secs(600);

/// Networks whose failures are remembered. Who has more of them than that is slowed down by nothing here.
const NETWORKS: usize = 100_000;

/// The failures of all networks.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<IpAddr, Count>);

#[derive(Clone, Copy, Debug)]
struct Count {
    since: Instant,
    count: u32,
}

impl Failures {
    pub(super) fn are_too_many(&self, now: Instant, network: IpAddr) -> bool {
        let its = self.0.get(&network);
        its.is_some_and(|it| it.count >= FAILURES && now < it.since + FAILURE_WINDOW)
    }

    pub(super) fn note(&mut self, now: Instant, network: IpAddr) {
        if self.0.len() >= NETWORKS && !self.0.contains_key(&network) {
            return;
        }
        let new = Count {
            since: now,
            count: 0,
        };
        let its = self.0.entry(network).or_insert(new);
        if now >= its.since + FAILURE_WINDOW {
            *its = new;
        }
        its.count = its.count.saturating_add(1);
    }

    /// Forgets those whose window is over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.0.retain(|_, it| now < it.since + FAILURE_WINDOW);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
