//! The least time in which a swarm can finish.
//!
//! The fluid bound is that of Kumar and Ross (HotWeb 2006): the seeds send everything once, the
//! slowest downlink takes everything, and all uplinks together bring everything to everybody; a relay
//! brings everything to those who can be reached in no other way. With
//! equal uplinks a chunk takes its time on each of the log2 N generations of copies as well
//! (Mundinger, Weber and Weiss 2008). Round trips, verifying and the first contact are not in it.
//!
//! If peers come and go, each term is taken over the time in which who it is about is there: the
//! uplinks of those who have something at first send everything once, each needed peer's downlink
//! has brought what it lacks since it last came with nothing, and the uplinks of all that are there
//! have sent what all needed peers lacked. What is lost with those who go is not counted, and who
//! gives nothing does not count as an uplink.

use std::time::Duration;

use super::plan::{Change, Class, Fault, Has, Member, Plan};

/// The terms, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Until the seeds have sent everything once.
    pub seeds: f64,
    /// Until the slowest downlink has brought everything.
    pub downlink: f64,
    /// Until all uplinks have sent everything to everybody.
    pub uplinks: f64,
    /// Until the relay has brought everything to those who can be reached in no other way.
    pub relay: f64,
    /// With equal uplinks that are there from the start: generations of chunks.
    pub chunks: f64,
}

/// No bound is longer than this, in seconds: with nobody to send, there is none.
const LONGEST: f64 = 1e9;

impl Bound {
    /// The bound of a plan.
    pub fn of(plan: &Plan) -> Bound {
        let helps = || plan.peers.iter().filter(|peer| peer.fault == Fault::None);
        let holders = helps().filter(|peer| peer.has != Has::Nothing);
        let needed: Vec<&Member> = plan.peers.iter().filter(|peer| peer.is_needed()).collect();
        let lacked: f64 = needed.iter().map(|peer| lacked(plan, peer)).sum();
        // Whatever somebody lacks has to be sent by who has it first.
        let bytes = lacked.min(plan.bytes() as f64);
        Bound {
            seeds: time_for(plan, bytes, holders),
            downlink: needed
                .iter()
                .map(|peer| own(plan, peer))
                .fold(0.0, f64::max),
            uplinks: time_for(plan, lacked, helps()),
            relay: relayed(plan, &needed),
            chunks: generations(plan, &needed),
        }
    }

    /// The greatest of them.
    pub fn limit(&self) -> Duration {
        let terms = [
            self.seeds,
            self.downlink,
            self.uplinks,
            self.relay,
            self.chunks,
        ];
        Duration::from_secs_f64(terms.into_iter().fold(0.0, f64::max).min(LONGEST))
    }
}

/// Bytes that a peer lacks at first.
fn lacked(plan: &Plan, peer: &Member) -> f64 {
    let chunks = plan.chunks - peer.first_chunks(plan.chunks).count();
    f64::from(chunks) * f64::from(plan.chunk_bytes)
}

/// When the relay has brought all to those to whom every path is relayed.
fn relayed(plan: &Plan, needed: &[&Member]) -> f64 {
    let blocked = needed.iter().filter(|peer| peer.class == Class::Blocked);
    let lacked: f64 = blocked.map(|peer| lacked(plan, peer)).sum();
    if lacked > 0.0 {
        lacked / plan.relay
    } else {
        0.0
    }
}

fn generations(plan: &Plan, needed: &[&Member]) -> f64 {
    let seeds: f64 = plan
        .peers
        .iter()
        .filter(|peer| peer.is_seed())
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

/// When these have sent so many bytes, each no more than it may.
fn time_for<'a>(plan: &Plan, bytes: f64, peers: impl Iterator<Item = &'a Member>) -> f64 {
    let share = plan.bytes() as f64;
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
fn own(plan: &Plan, peer: &Member) -> f64 {
    let last_empty = peer
        .presence
        .iter()
        .rposition(|(_, change)| *change == Change::ComesEmpty);
    let since = peer.presence[last_empty.unwrap_or(0)].0.as_secs_f64();
    let first = if last_empty.is_some() {
        plan.bytes() as f64
    } else {
        lacked(plan, peer)
    };
    let mut left = first / peer.down;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Scenario;

    /// 100 chunks of 100,000 bytes among these peers.
    fn bound(peers: Vec<Member>) -> Bound {
        let base = Scenario::named("eight").unwrap().plan(1, 1, 100, 100_000);
        Bound::of(&Plan { peers, ..base })
    }

    #[test]
    fn each_term_is_that_of_theory() {
        let seed = Member::seed(1e6, 1e6);
        let leech = Member::new(1e6, 4e6);
        let equal = bound(vec![
            seed.clone(),
            leech.clone(),
            leech.clone(),
            leech.clone(),
            leech.clone(),
        ]);
        assert_eq!(
            (equal.seeds, equal.downlink, equal.uplinks),
            (10.0, 2.5, 8.0)
        );
        assert_eq!(equal.chunks, 10.2, "two generations");
        let unequal = bound(vec![seed.clone(), Member::new(3e6, 1e5)]);
        assert_eq!((unequal.downlink, unequal.chunks), (100.0, 0.0));
        let nobody = bound(vec![leech]);
        assert_eq!(nobody.limit().as_secs_f64(), LONGEST);
        assert!(bound(vec![seed]).limit().is_zero());
    }

    #[test]
    fn who_comes_late_or_goes_helps_for_that_time() {
        let at = |seconds| Duration::from_secs(seconds);
        let presence = vec![
            (at(0), Change::Comes),
            (at(4), Change::Goes),
            (at(5), Change::Comes),
        ];
        let seed = Member {
            presence,
            ..Member::seed(1e6, 1e6)
        };
        let late = Member {
            presence: vec![(at(20), Change::Comes)],
            ..Member::new(1e6, 1e6)
        };
        let found = bound(vec![seed, late]);
        assert_eq!((found.seeds, found.downlink), (11.0, 30.0));
        let spent = Member {
            sends_at_most: Some(0.5),
            ..Member::seed(1e6, 1e6)
        };
        let (slow, leech) = (Member::seed(1e5, 1e6), Member::new(1e6, 1e6));
        assert_eq!(
            bound(vec![spent, slow, leech]).seeds,
            50.0,
            "4.55 s of both leave 45.45 s"
        );
    }
}
