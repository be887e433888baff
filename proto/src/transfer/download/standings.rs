//! What is thought of peers, and when that changes.

use std::time::{Duration, Instant};

use super::super::peer::Peer;
use super::super::standing::Standing;
use super::Download;
use crate::id::PublicKey;

/// How often peers are compared with each other.
const COMPARE_INTERVAL: Duration = Duration::from_secs(1);
/// Fewer peers that have brought something are not compared.
const COMPARED: usize = 3;
/// Who brings less than this part of the median is slow,
const SLOW_PART: f64 = 1.0 / 3.0;
/// and is so until it brings this part of it.
const QUICK_PART: f64 = 1.0 / 2.0;

impl Download {
    /// What is thought of a peer that is joined or banned.
    pub fn standing(&self, key: &PublicKey) -> Option<Standing> {
        match self.banned.contains(key) {
            true => Some(Standing::Banned),
            false => self.peers.get(key).map(Peer::standing),
        }
    }

    /// A joined peer of whom something else is thought than when this was last said. A ban is told by
    /// [`super::Action::Ban`] alone.
    pub(in crate::transfer) fn poll_standing(&mut self) -> Option<(PublicKey, Standing)> {
        while let Some(key) = self.reviewed.pop_first() {
            let told = self.peers.get_mut(&key).and_then(Peer::tell_standing);
            if let Some(standing) = told {
                return Some((key, standing));
            }
        }
        None
    }

    /// What is thought of those may change whose time has come.
    pub(super) fn review_due(&mut self, now: Instant) {
        if self.no_deadline_before.is_some_and(|at| at <= now) {
            let due = |peer: &Peer| peer.deadline().is_some_and(|deadline| deadline <= now);
            let due = self.peers.iter().filter(|(_, peer)| due(peer));
            self.reviewed.extend(due.map(|(key, _)| *key));
        }
    }

    /// Compares what peers bring, unless that was done a moment ago.
    pub(super) fn compare(&mut self, now: Instant) {
        if self.no_comparison_before.is_some_and(|at| at > now) {
            return;
        }
        self.no_comparison_before = Some(now + COMPARE_INTERVAL);
        let rate = |peer: &Peer| peer.shown_rate(now);
        let mut rates: Vec<f64> = self.peers.values().filter_map(rate).collect();
        if rates.len() < COMPARED {
            return;
        }
        let middle = rates.len() / 2;
        let (_, median, _) = rates.select_nth_unstable_by(middle, f64::total_cmp);
        let median = *median;
        for (key, peer) in &mut self.peers {
            let Some(rate) = rate(peer) else { continue };
            let part = if peer.is_slow { QUICK_PART } else { SLOW_PART };
            peer.is_slow = rate < part * median;
            self.reviewed.insert(*key);
        }
    }
}
