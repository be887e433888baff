//! How often a network may have signatures looked at.
//!
//! What a network has used up outlives its connections, so that connecting again buys nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::limits::FOLLOWS_PER_PEER;

/// Signatures of one network (IPv4 /24, IPv6 /56) that are looked at: so many at once, 50 µs of processor time
/// each, and then one in each [`LOOK_EVERY`].
pub(super) const LOOKS: u32 = 2 * FOLLOWS_PER_PEER as u32;
/// See [`LOOKS`]: 32 a second.
pub(super) const LOOK_EVERY: Duration = Duration::from_micros(1_000_000 / 32);

/// Networks that are remembered, for [`LOOKS`] times [`LOOK_EVERY`] at most. No others get a look meanwhile.
pub(super) const NETWORKS: usize = 100_000;

/// When each network has all its looks again; one that has is not here.
#[derive(Debug, Default)]
pub(super) struct Looks(pub(super) BTreeMap<IpAddr, Instant>);

impl Looks {
    /// Takes one look, if there is one left.
    pub(super) fn take(&mut self, now: Instant, network: IpAddr) -> bool {
        if self.0.len() >= NETWORKS && !self.0.contains_key(&network) {
            return false;
        }
        let has_all = self.0.entry(network).or_insert(now);
        let later = now.max(*has_all) + LOOK_EVERY;
        let may_look = later <= now + LOOKS * LOOK_EVERY;
        if may_look {
            *has_all = later;
        }
        may_look
    }

    /// Forgets networks that have all their looks again.
    pub(super) fn expire(&mut self, now: Instant) {
        self.0.retain(|_, has_all| now < *has_all);
    }
}
