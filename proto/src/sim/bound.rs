//! The least time in which a swarm can finish.
//!
//! The fluid bound is that of Kumar and Ross (HotWeb 2006): the seeds send everything once, the
//! slowest downlink takes everything, and all uplinks together bring everything to everybody. With
//! equal uplinks a chunk takes its time on each of the log2 N generations of copies as well
//! (Mundinger, Weber and Weiss 2008). Round trips, verifying and the first contact are not in it.
//!
//! If peers come and go, each term is taken over the time in which who it is about is there: the
//! seeds' uplinks bring everything once, each needed peer's downlink has brought everything since its
//! last coming with nothing, and the uplinks of all that are there what all needed peers lacked.

use std::time::Duration;

use super::plan::{Change, Fault, Member, Plan};

/// The terms, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Until the seeds have sent everything once.
    pub seeds: f64,
    /// Until the slowest downlink has brought everything.
    pub downlink: f64,
    /// Until all uplinks have sent everything to everybody.
    pub uplinks: f64,
    /// With equal uplinks that are there from the start: generations of chunks.
    pub chunks: f64,
}

impl Bound {
    /// The bound of a plan.
    pub fn of(plan: &Plan) -> Bound {
        let bytes = plan.bytes() as f64;
        let needed: Vec<&Member> = plan.peers.iter().filter(|peer| peer.is_needed()).collect();
        let downlinks = needed.iter().map(|peer| own(peer, bytes));
        Bound {
            seeds: time_for(
                bytes,
                plan.peers.iter().filter(|peer| peer.is_seed && helps(peer)),
                bytes,
            ),
            downlink: downlinks.fold(0.0, f64::max),
            uplinks: time_for(
                bytes * needed.len() as f64,
                plan.peers.iter().filter(|peer| helps(peer)),
                bytes,
            ),
            chunks: generations(plan, &needed),
        }
    }

    /// The greatest of them.
    pub fn limit(&self) -> Duration {
        let terms = [self.seeds, self.downlink, self.uplinks, self.chunks];
        Duration::from_secs_f64(terms.into_iter().fold(0.0, f64::max))
    }
}

/// Whether a peer gives what it has. Who does not is of no use, so the bound is that of the others.
fn helps(peer: &Member) -> bool {
    peer.fault == Fault::None
}

fn generations(plan: &Plan, needed: &[&Member]) -> f64 {
    let seeds: f64 = plan
        .peers
        .iter()
        .filter(|peer| peer.is_seed)
        .map(|peer| peer.up)
        .sum();
    let is_equal = needed.iter().all(|peer| peer.up == seeds);
    let is_still = plan
        .peers
        .iter()
        .all(|peer| peer.presence.len() == 1 && peer.presence[0].0.is_zero());
    let Some(generations) = needed
        .len()
        .checked_ilog2()
        .filter(|_| is_equal && is_still)
    else {
        return 0.0;
    };
    plan.bytes() as f64 / seeds * (1.0 + f64::from(generations) / f64::from(plan.chunks))
}

/// When these have sent so many bytes, at most as many as each may.
fn time_for<'a>(bytes: f64, peers: impl Iterator<Item = &'a Member>, share: f64) -> f64 {
    // Time, and by how much more all send from then on.
    let mut changes: Vec<(f64, f64)> = Vec::new();
    for peer in peers {
        let mut left = peer
            .sends_at_most
            .map_or(f64::INFINITY, |times| times * share);
        for (start, end) in spans(peer) {
            let end = end.min(start + left / peer.up);
            left -= (end - start) * peer.up;
            changes.push((start, peer.up));
            if end.is_finite() {
                changes.push((end, -peer.up));
            }
        }
    }
    changes.sort_unstable_by(|a, b| f64::total_cmp(&a.0, &b.0));
    let (mut now, mut rate, mut left) = (0.0, 0.0, bytes);
    for (at, change) in changes {
        if rate > 0.0 && left <= rate * (at - now) {
            break;
        }
        left -= rate * (at - now);
        (now, rate) = (at, rate + change);
    }
    if rate > 0.0 {
        now + left / rate
    } else {
        f64::INFINITY
    }
}

/// When the downlink of a peer has brought it everything.
fn own(peer: &Member, bytes: f64) -> f64 {
    let last_empty = peer
        .presence
        .iter()
        .rposition(|(_, change)| *change == Change::ComesEmpty);
    let since = peer.presence[last_empty.unwrap_or(0)].0.as_secs_f64();
    let mut left = bytes / peer.down;
    for (start, end) in spans(peer).into_iter().filter(|(start, _)| *start >= since) {
        if left <= end - start {
            return start + left;
        }
        left -= end - start;
    }
    f64::INFINITY
}

/// From when to when it is there, in seconds.
fn spans(peer: &Member) -> Vec<(f64, f64)> {
    let mut spans: Vec<(f64, f64)> = Vec::new();
    for (at, change) in &peer.presence {
        let at = at.as_secs_f64();
        match change {
            Change::Comes | Change::ComesEmpty => spans.push((at, f64::INFINITY)),
            Change::Goes => spans.last_mut().into_iter().for_each(|span| span.1 = at),
        }
    }
    spans
}
