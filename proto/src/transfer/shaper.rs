//! How fast bytes may go in one direction: a limit for all together, one for each share, and equal
//! parts for shares that want more than there is.
//!
//! A limit counts what is on the wire: IP packets with all their headers, acknowledgements and
//! repetitions. But only payload can be held back. So [`Shaper`] lets payload pass, and is told what
//! the socket has really carried ([`Shaper::handle_wire`]); what that was beyond the payload counts
//! too, and holds back the payload that comes next. It holds no bytes and reads no clock: who has
//! payload says so with [`Shaper::ask`], and gets it passed by [`Shaper::poll`]; call that again at
//! [`Shaper::deadline`].
//!
//! One is for what we send: bytes are written once they have passed. Another is for what we receive:
//! the next bytes are read once those before have passed, and since nothing is acknowledged to have
//! room that is not read, QUIC's own flow control slows the sender down to that (RFC 9000 §4).
//!
//! Shares take turns by deficit round robin (`rounds`); within a share, whoever asked first. Limits
//! are token buckets (RFC 2697 with one bucket).
//!
//! Not here: whom to serve at all ([`super::engine`]), what is exempt (the shell asks for nothing
//! that is), yielding to others' traffic (`warren-net`, congestion).

mod bucket;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::rounds::Rounds;
use crate::id::SwarmId;
use bucket::Bucket;

/// Payload that has passed and was not seen on the wire yet is believed to be under way up to so much of
/// the time of the limit, and this many bytes at least; the rest was given up.
const LEAD_S: f64 = 0.1;
const LEAD_BYTES: f64 = 65_536.0;

/// On the wire for each byte of payload, as long as nothing is known: packets of 1,452 bytes with 28
/// before them and some 35 within that are no payload.
const FIRST_COST: f64 = 1.045;

/// Bounds of that: no payload costs less, and what is more is no cost of this payload.
const COST: (f64, f64) = (1.0, 1.15);

/// It is measured over so much payload, and counts for this part of what is believed.
const COST_BYTES: f64 = 262_144.0;
const COST_PART: f64 = 0.25;

/// So long after the last pass of a share without a limit of its own it is forgotten if nothing of it waits.
/// Not at once: who asks for a little at a time wants nothing between a pass and the next question, and
/// would lose its turn by it.
const SHARE_MEMORY: Duration = Duration::from_secs(1);

/// Names what was asked for; unique within its [`Shaper`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PassId(u64);

/// So many bytes may go: at most what was asked for, and that asks no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pass {
    /// What was asked.
    pub id: PassId,
    /// How many bytes; at least one.
    pub bytes: u32,
}

/// The limits of one direction.
#[derive(Debug)]
pub struct Shaper {
    whole: Option<Bucket>,
    lanes: BTreeMap<SwarmId, Lane>,
    owners: BTreeMap<PassId, SwarmId>,
    rounds: Rounds,
    wire: Wire,
    asked: u64,
}

/// One share.
#[derive(Debug, Default)]
struct Lane {
    own: Option<Bucket>,
    waiting: VecDeque<(PassId, u32)>,
    /// When something of it passed last.
    passed: Option<Instant>,
}

/// What the socket has carried, beside what has passed.
#[derive(Debug)]
struct Wire {
    /// The last count that was told; none before the first.
    told: Option<u64>,
    /// Payload that has passed and was not seen yet.
    lead: f64,
    cost: f64,
    /// Since the cost was looked at last.
    passed: f64,
    carried: f64,
}

impl Default for Shaper {
    fn default() -> Shaper {
        Shaper::new()
    }
}

impl Shaper {
    /// Without limits.
    pub fn new() -> Shaper {
        Shaper {
            whole: None,
            lanes: BTreeMap::new(),
            owners: BTreeMap::new(),
            rounds: Rounds::default(),
            wire: Wire {
                told: None,
                lead: 0.0,
                cost: FIRST_COST,
                passed: 0.0,
                carried: 0.0,
            },
            asked: 0,
        }
    }

    /// Limits everything together to so many bytes a second on the wire, or not any more.
    pub fn set_limit(&mut self, now: Instant, bytes_per_s: Option<u64>) {
        if self.whole.is_none() {
            // What was carried without a limit is not owed.
            (self.wire.told, self.wire.lead) = (None, 0.0);
        }
        set(&mut self.whole, now, bytes_per_s);
    }

    /// Limits one share, or not any more.
    pub fn set_share_limit(&mut self, now: Instant, share: SwarmId, bytes_per_s: Option<u64>) {
        let lane = match bytes_per_s {
            Some(_) => Some(self.lanes.entry(share).or_default()),
            None => self.lanes.get_mut(&share),
        };
        if let Some(lane) = lane {
            set(&mut lane.own, now, bytes_per_s);
        }
    }

    /// Forgets a share and its limit. What waits of it passes.
    pub fn close(&mut self, share: &SwarmId) {
        self.rounds.forget(share);
        if let Some(lane) = self.lanes.get_mut(share) {
            lane.own = None;
            if lane.waiting.is_empty() {
                self.lanes.remove(share);
            }
        }
    }

    /// Whether anything is limited at all. Where nothing is, nobody needs to ask.
    pub fn is_limiting(&self) -> bool {
        self.whole.is_some() || self.lanes.values().any(|lane| lane.own.is_some())
    }

    /// What may pass of a share, in bytes per second, if that is limited by itself or with all others.
    pub fn limit_of(&self, share: &SwarmId) -> Option<u64> {
        let own = self.lanes.get(share).and_then(|lane| lane.own);
        let limits = own.into_iter().chain(self.whole);
        limits.map(|limit| limit.bytes_per_s() as u64).min()
    }

    /// Payload wants to pass: `bytes` of them, at least one.
    pub fn ask(&mut self, share: SwarmId, bytes: u32) -> PassId {
        self.asked += 1;
        let id = PassId(self.asked);
        let lane = self.lanes.entry(share).or_default();
        lane.waiting.push_back((id, bytes.max(1)));
        self.owners.insert(id, share);
        id
    }

    /// It does not want to any more. Nothing happens if it has passed.
    pub fn withdraw(&mut self, id: PassId) {
        let share = self.owners.remove(&id);
        if let Some(lane) = share.and_then(|share| self.lanes.get_mut(&share)) {
            lane.waiting.retain(|(other, _)| *other != id);
        }
    }

    /// The socket has carried so many bytes since it was opened, of what is limited.
    pub fn handle_wire(&mut self, now: Instant, bytes: u64) {
        let told = self.wire.told.replace(bytes).unwrap_or(bytes);
        let unpaid = self.wire.carry(bytes.saturating_sub(told) as f64);
        if let Some(whole) = &mut self.whole {
            whole.settle(now, unpaid);
        }
    }

    /// What passes now. Call until there is nothing.
    pub fn poll(&mut self, now: Instant) -> Option<Pass> {
        self.forget_idle(now);
        self.settle(now);
        let able = self.fronts().filter(|(_, _, lane)| self.may(lane));
        let able: Vec<_> = able
            .map(|(share, bytes, _)| (share, u64::from(bytes)))
            .collect();
        let share = self.rounds.next(&able)?;
        let (_, bytes) = *able.iter().find(|(other, _)| *other == share)?;
        let bytes = bytes as u32;
        let lane = self.lanes.get_mut(&share)?;
        let (id, _) = lane.waiting.pop_front()?;
        lane.passed = Some(now);
        self.owners.remove(&id);
        self.charge(now, share, bytes);
        Some(Pass { id, bytes })
    }

    /// When to call [`Self::poll`] even if nothing happens; nothing waits if there is no such time.
    pub fn deadline(&self) -> Option<Instant> {
        let whole = self.whole.map(|whole| whole.when(1.0));
        let own = |lane: &Lane| lane.own.map(|own| own.when(self.wire.cost));
        let due = self
            .fronts()
            .filter_map(|(_, _, lane)| whole.max(own(lane)));
        due.min()
    }

    /// What would pass next of each share that wants something.
    fn fronts(&self) -> impl Iterator<Item = (SwarmId, u32, &Lane)> {
        let slice = self.whole.map_or(u32::MAX, |whole| whole.slice());
        self.lanes.iter().filter_map(move |(share, lane)| {
            let (_, bytes) = *lane.waiting.front()?;
            let own = lane.own.map_or(u32::MAX, |own| own.slice());
            Some((*share, bytes.min(slice).min(own), lane))
        })
    }

    /// Whether something of a share may pass. It must not depend on how much that is, or small things
    /// would always come before large ones.
    fn may(&self, lane: &Lane) -> bool {
        let own = |own: Bucket| own.has_slice(self.wire.cost);
        self.whole.is_none_or(|whole| whole.has_slice(1.0)) && lane.own.is_none_or(own)
    }

    fn forget_idle(&mut self, now: Instant) {
        let rounds = &mut self.rounds;
        self.lanes.retain(|share, lane| {
            let stays = lane.stays(now);
            if !stays {
                rounds.forget(share);
            }
            stays
        });
    }

    fn settle(&mut self, now: Instant) {
        let own = self.lanes.values_mut().filter_map(|lane| lane.own.as_mut());
        own.chain(&mut self.whole)
            .for_each(|bucket| bucket.settle(now, 0.0));
    }

    fn charge(&mut self, now: Instant, share: SwarmId, bytes: u32) {
        let payload = f64::from(bytes);
        let most = self.whole.map_or(LEAD_BYTES, |whole| {
            (whole.bytes_per_s() * LEAD_S).max(LEAD_BYTES)
        });
        self.wire.pass(payload, most);
        if let Some(whole) = &mut self.whole {
            whole.settle(now, payload);
        }
        let own = self
            .lanes
            .get_mut(&share)
            .and_then(|lane| lane.own.as_mut());
        if let Some(own) = own {
            own.settle(now, payload * self.wire.cost);
        }
    }
}

impl Lane {
    /// Whether there is anything to remember of it.
    fn stays(&self, now: Instant) -> bool {
        let is_recent = |at| now.saturating_duration_since(at) < SHARE_MEMORY;
        self.own.is_some() || !self.waiting.is_empty() || self.passed.is_some_and(is_recent)
    }
}

fn set(limit: &mut Option<Bucket>, now: Instant, bytes_per_s: Option<u64>) {
    match (limit.as_mut(), bytes_per_s) {
        (Some(bucket), Some(rate)) => bucket.set_rate(now, rate),
        (None, Some(rate)) => *limit = Some(Bucket::new(now, rate)),
        (_, None) => *limit = None,
    }
}

impl Wire {
    /// Payload has passed; `most` of what has is believed to be under way.
    fn pass(&mut self, payload: f64, most: f64) {
        self.lead = (self.lead + payload).min(most);
        self.passed += payload;
    }

    /// So much was carried; what of it was not paid for when payload passed.
    fn carry(&mut self, bytes: f64) -> f64 {
        self.carried += bytes;
        if self.passed >= COST_BYTES {
            let (least, most) = COST;
            let cost = (self.carried / self.passed).clamp(least, most);
            self.cost += COST_PART * (cost - self.cost);
            (self.passed, self.carried) = (0.0, 0.0);
        }
        let unpaid = (bytes - self.lead).max(0.0);
        self.lead = (self.lead - bytes).max(0.0);
        unpaid
    }
}
