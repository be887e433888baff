//! One source: what it has, what was asked of it, and whether it may be asked for more.
//!
//! Peers serve in order, so a request is late only once those before it have ended: the oldest
//! that is still to come is the one that has to move. A peer that is busy, breaks or stalls pauses, each time
//! longer until it brings a chunk; a chunk it stalled on it is not asked for again for a while,
//! as if it had lost it.
//!
//! Not here: which chunk it is asked for (`availability`, `download`).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rand::Rng;

use super::availability::{DRY, Level, UNKNOWN};
use super::holdings::Holdings;
use super::rate::Rate;
use super::standing::Standing;
use super::window::pipe_bytes;
use super::{Reach, RequestId};
use crate::content::ChunkIndex;
use crate::wire::NoReason;

/// A request that brings nothing for so long has stalled,
const STALL_TIME: Duration = Duration::from_secs(10);
/// unless the round trip is so long that this many of it are longer.
const STALL_RTTS: u32 = 20;
/// How long a peer is not asked for a chunk it stalled on.
const SHUN_TIME: Duration = Duration::from_secs(60);
/// Longest round trip believed.
const MAX_RTT: Duration = Duration::from_secs(60);
/// After so many setbacks in a row what a peer says it has does not count as to be had directly.
const UNRELIABLE: u32 = 3;
/// Over so many answers their time is averaged.
const ANSWERS: u32 = 4;
/// How long a seed is not asked for what it is giving to others, who can pass it on,
const HOLD_TIME: Duration = Duration::from_secs(2);
/// and how long it is asked for everything then: claims that all is on its way cost little.
const HOLD_REST: Duration = Duration::from_secs(8);
/// What it suggests and was not asked for yet, at most.
const SUGGESTIONS: usize = 1024;
/// A pause doubles at most so often.
const DOUBLINGS: u32 = 6;

/// Why a peer pauses. The durations are those of the first pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setback {
    /// It serves others; up to 16 s.
    Busy,
    /// A stream broke; up to 32 s.
    Failed,
    /// Nothing came; up to 2 minutes.
    Stalled,
}

impl Setback {
    fn first_pause(self) -> Duration {
        match self {
            Setback::Busy => Duration::from_millis(250),
            Setback::Failed => Duration::from_millis(500),
            Setback::Stalled => Duration::from_secs(2),
        }
    }
}

/// Whether what is on its way to others is left alone, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// It is.
    On(Instant),
    /// It is not.
    Off(Instant),
}

/// One chunk asked of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Which chunk.
    pub(super) chunk: ChunkIndex,
    /// Bytes in the chunk.
    pub(super) len: u32,
    /// How many of them arrived.
    pub(super) received: u32,
    sent: Instant,
    /// Whether it was asked on an invitation, and stays where it is.
    is_pinned: bool,
}

/// What a download knows of one joined peer.
#[derive(Debug)]
pub(super) struct Peer {
    rtt: Duration,
    rate: Rate,
    /// What it has, without what it is shunned for.
    pub(super) holds: Holdings,
    /// What is on its way to it.
    pub(super) started: Holdings,
    /// What it would rather be asked for, in this order.
    pub(super) suggested: VecDeque<u32>,
    /// Whether it suggests what is new to all but seeds.
    advises: bool,
    /// How many chunks of `holds` we miss.
    pub(super) useful: u32,
    /// No wanted chunk of `holds` is at a lower level.
    pub(super) floor: Level,
    pub(super) reach: Reach,
    /// Whether it says that all it lacks is had by somebody whom it reaches directly.
    pub(super) is_supplied: bool,
    /// Whether `holds` is counted as to be had directly.
    pub(super) is_counted: bool,
    /// Requests of which bytes are still to come, oldest first.
    coming: BTreeMap<RequestId, Request>,
    /// Requests of which all bytes came, to be verified.
    complete: BTreeMap<RequestId, Request>,
    /// Bytes asked for that have not arrived.
    unreceived: u64,
    /// How long it takes from a request to the first bytes, lately; `None` before any came.
    answer: Option<Duration>,
    /// What is on its way to others is left alone until then; afterwards not again for a while.
    hold: Option<Hold>,
    /// When the oldest of `coming` last moved, or became the oldest.
    head_moved: Instant,
    last_received: Instant,
    /// Why it is not asked, and until when.
    pause: Option<(Setback, Instant)>,
    setbacks: u32,
    /// What it last refused for, since it last brought a chunk.
    refused: Option<NoReason>,
    /// Whether others bring much more.
    pub(super) is_slow: bool,
    /// What was last told that is thought of it.
    told: Standing,
    /// Chunks it has but stalled on, and until when they are left alone.
    shunned: BTreeMap<ChunkIndex, Instant>,
}

impl Peer {
    /// A peer that has none of the `chunks`.
    pub(super) fn new(now: Instant, rtt: Duration, reach: Reach, chunks: u32) -> Peer {
        let rtt = rtt.min(MAX_RTT);
        Peer {
            rtt,
            rate: Rate::new(rtt),
            holds: Holdings::empty(chunks),
            started: Holdings::empty(chunks),
            suggested: VecDeque::new(),
            advises: false,
            useful: 0,
            floor: DRY,
            reach,
            is_supplied: false,
            is_counted: reach == Reach::Direct,
            coming: BTreeMap::new(),
            complete: BTreeMap::new(),
            unreceived: 0,
            answer: None,
            hold: None,
            head_moved: now,
            last_received: now,
            pause: None,
            setbacks: 0,
            refused: None,
            is_slow: false,
            told: Standing::Good,
            shunned: BTreeMap::new(),
        }
    }

    /// It is reached otherwise from now on.
    pub(super) fn relocate(&mut self, rtt: Duration, reach: Reach) {
        self.rtt = rtt.min(MAX_RTT);
        self.reach = reach;
        self.floor = UNKNOWN;
    }

    /// Whether what it has can be had directly, as far as it has shown.
    pub(super) fn is_at_hand(&self) -> bool {
        self.reach == Reach::Direct && self.setbacks < UNRELIABLE
    }

    /// Whether it has, as far as is known, a wanted chunk and may be asked for it.
    pub(super) fn is_ready(&self) -> bool {
        self.is_useful() && self.floor != DRY && !matches!(self.hold, Some(Hold::On(_)))
    }

    /// It suggests chunks, in this order; whether some of them are new to all but seeds.
    pub(super) fn advise(&mut self, chunks: impl Iterator<Item = u32>, are_new: bool) {
        let room = SUGGESTIONS.saturating_sub(self.suggested.len());
        self.suggested.extend(chunks.take(room));
        if self.is_seed() {
            (self.advises, self.hold) = (are_new, None);
            self.floor = UNKNOWN;
        }
    }

    /// Whether it is a seed that still has something new, and says what it should be asked for.
    pub(super) fn is_advising_seed(&self) -> bool {
        self.advises && self.is_seed()
    }

    /// Leaves alone for a moment what is on its way to others and will be had from them; false when
    /// that was done a short while ago.
    pub(super) fn hold(&mut self, now: Instant) -> bool {
        let is_free = self.hold.is_none();
        if is_free {
            self.hold = Some(Hold::On(now + HOLD_TIME));
        }
        is_free
    }

    /// There is something else to ask for.
    pub(super) fn let_go(&mut self) {
        self.hold.take_if(|hold| matches!(hold, Hold::On(_)));
    }

    /// Whether it has something we miss, wanted or asked of another, and may be asked for it.
    pub(super) fn is_useful(&self) -> bool {
        self.is_willing() && self.useful > 0
    }

    /// Whether it may be asked for anything now.
    pub(super) fn is_willing(&self) -> bool {
        self.pause.is_none()
    }

    /// Whether it has everything.
    pub(super) fn is_seed(&self) -> bool {
        self.holds.is_full()
    }

    /// Whether everything asked of it has arrived.
    pub(super) fn is_drained(&self) -> bool {
        self.unreceived == 0
    }

    /// Whether nothing asked of it is unverified.
    pub(super) fn has_no_requests(&self) -> bool {
        self.coming.is_empty() && self.complete.is_empty()
    }

    /// Whether it should be asked for another chunk: whether less is to come than it needs not to wait,
    /// or than the `least`.
    pub(super) fn has_room(&self, now: Instant, least: u64) -> bool {
        let pipe = pipe_bytes(self.rate.bytes_per_s(now), self.rtt);
        let pipe = if self.answer.is_some() { pipe } else { 0 };
        self.unreceived == 0 || self.unreceived < pipe.max(least)
    }

    /// How long until so many bytes more would have come.
    pub(super) fn time_for(&self, now: Instant, bytes: u64) -> Duration {
        self.rtt + self.rate.time_for(now, self.unreceived + bytes)
    }

    /// The chunks still to come and how long until each will have, in that order. However little
    /// there is to come, a silence is expected to last as long again.
    pub(super) fn arrivals(&self, now: Instant) -> impl Iterator<Item = (ChunkIndex, Duration)> {
        self.coming.values().scan(0, move |before, request| {
            *before += u64::from(request.len - request.received);
            let time = self.rate.time_for(now, *before);
            Some((request.chunk, time.max(self.rate.silence(now))))
        })
    }

    /// What was asked last stays here, whoever else invites: what is moved again and again never comes.
    pub(super) fn pin_last(&mut self) {
        if let Some(mut last) = self.coming.last_entry() {
            last.get_mut().is_pinned = true;
        }
    }

    /// How long until a request is answered of which nothing has come; `None` once something has, and
    /// if it is to stay here. What has waited for longer than others is expected to wait for as long
    /// again as it is late.
    pub(super) fn waits(&self, now: Instant, id: RequestId) -> Option<Duration> {
        let may_move = |request: &&Request| request.received == 0 && !request.is_pinned;
        let request = self.coming.get(&id).filter(may_move)?;
        let age = now.saturating_duration_since(request.sent);
        if let Some(answer) = self.answer {
            return Some(answer.abs_diff(age));
        }
        let mut arrivals = self.arrivals(now);
        arrivals.find_map(|(chunk, time)| (chunk == request.chunk).then_some(time))
    }

    /// Whether bytes of a request have come.
    pub(super) fn has_begun(&self, id: RequestId) -> bool {
        let coming = self.coming.get(&id);
        coming.is_some_and(|request| request.received > 0)
    }

    /// All requests.
    pub(super) fn requests(&self) -> impl Iterator<Item = (RequestId, &Request)> {
        let requests = self.coming.iter().chain(&self.complete);
        requests.map(|(id, request)| (*id, request))
    }

    /// How far away it is.
    pub(super) fn rtt(&self) -> Duration {
        self.rtt
    }

    /// Something was asked of it. Ids grow.
    pub(super) fn ask(&mut self, now: Instant, id: RequestId, chunk: ChunkIndex, len: u32) {
        if self.coming.is_empty() {
            self.head_moved = now;
        }
        self.rate.start(now, self.rtt);
        self.unreceived += u64::from(len);
        let request = Request {
            chunk,
            len,
            received: 0,
            sent: now,
            is_pinned: false,
        };
        self.coming.insert(id, request);
    }

    /// More of a chunk came; never counted beyond its length.
    pub(super) fn receive(&mut self, now: Instant, id: RequestId, bytes: u32) {
        let is_head = self.head() == Some(id);
        let Some(request) = self.coming.get_mut(&id).filter(|_| bytes > 0) else {
            return;
        };
        let bytes = bytes.min(request.len - request.received);
        if request.received == 0 {
            let took = now.saturating_duration_since(request.sent);
            let mean = |before: Duration| (before * (ANSWERS - 1) + took) / ANSWERS;
            self.answer = Some(self.answer.map_or(took, mean));
        }
        request.received += bytes;
        if request.received == request.len {
            self.complete.extend(self.coming.remove_entry(&id));
        }
        if is_head {
            self.head_moved = now;
        }
        self.last_received = now;
        self.rate.credit(now, bytes);
        self.expect_less(now, bytes);
    }

    /// Bytes of a request that are still to come.
    pub(super) fn rest_of(&self, id: RequestId) -> u32 {
        let request = self.coming.get(&id);
        request.map_or(0, |request| request.len - request.received)
    }

    /// A chunk came whole, and is right.
    pub(super) fn succeed(&mut self, now: Instant, id: RequestId) -> Option<Request> {
        self.receive(now, id, u32::MAX);
        self.setbacks = 0;
        self.refused = None;
        self.end(now, id)
    }

    /// Nothing more will come of a request.
    pub(super) fn end(&mut self, now: Instant, id: RequestId) -> Option<Request> {
        if let Some(request) = self.complete.remove(&id) {
            return Some(request);
        }
        let was_head = self.head() == Some(id);
        let request = self.coming.remove(&id)?;
        if was_head {
            self.head_moved = now;
        }
        self.expect_less(now, request.len - request.received);
        Some(request)
    }

    /// Pauses for a while, if it does not pause already: what else goes wrong meanwhile has the
    /// same cause.
    pub(super) fn set_back(&mut self, now: Instant, why: Setback, rng: &mut impl Rng) {
        if self.pause.is_some() {
            return;
        }
        let pause = why.first_pause() * (1 << self.setbacks.min(DOUBLINGS));
        let pause = pause.mul_f64(rng.random_range(0.75..1.25));
        self.pause = Some((why, now + pause));
        self.setbacks += 1;
    }

    /// Ends the pause and the hold if they are over; true when the pause did.
    pub(super) fn resume(&mut self, now: Instant) -> bool {
        self.hold = match self.hold {
            Some(Hold::On(until)) if until <= now => {
                self.floor = UNKNOWN;
                Some(Hold::Off(until + HOLD_REST))
            }
            Some(Hold::Off(until)) if until <= now => {
                self.floor = UNKNOWN;
                None
            }
            hold => hold,
        };
        let over = self.pause.is_some_and(|(_, until)| until <= now);
        if over {
            self.pause = None;
        }
        over
    }

    /// The requests that have brought nothing for too long. If anything else came meanwhile only
    /// the oldest has stalled, and those behind it wait their turn.
    pub(super) fn stalled(&self, now: Instant) -> Vec<RequestId> {
        let Some(head) = self
            .head()
            .filter(|_| self.head_moved + self.patience() <= now)
        else {
            return Vec::new();
        };
        if self.last_received + self.patience() > now {
            return vec![head];
        }
        let old = |request: &Request| request.sent + self.patience() <= now;
        let old = self.coming.iter().filter(|(_, request)| old(request));
        old.map(|(id, _)| *id).collect()
    }

    /// Whether it said that it has what a request is for, and not only that this has been started.
    pub(super) fn has_promised(&self, id: RequestId) -> bool {
        let mut requests = self.requests();
        requests.any(|(other, request)| other == id && self.holds.contains(request.chunk))
    }

    /// It does not serve a chunk that it said it has.
    pub(super) fn refuse(&mut self, reason: NoReason) {
        self.refused = Some(reason);
    }

    /// What is thought of it.
    pub(super) fn standing(&self) -> Standing {
        if let Some((why, until)) = self.pause {
            return match why {
                Setback::Busy => Standing::Busy { until },
                Setback::Failed => Standing::Failed { until },
                Setback::Stalled => Standing::Stalled { until },
            };
        }
        if self.setbacks >= UNRELIABLE {
            return Standing::Unreliable;
        }
        if let Some(until) = self.shunned.values().max().copied() {
            return Standing::Shunned { until };
        }
        match (self.refused, self.is_slow) {
            (Some(reason), _) => Standing::Refused { reason },
            (None, true) => Standing::Slow,
            (None, false) => Standing::Good,
        }
    }

    /// What is thought of it, unless that was told already.
    pub(super) fn tell_standing(&mut self) -> Option<Standing> {
        let standing = self.standing();
        let told = std::mem::replace(&mut self.told, standing);
        (told != standing).then_some(standing)
    }

    /// What it brings, in bytes per second, once it has brought anything.
    pub(super) fn shown_rate(&self, now: Instant) -> Option<f64> {
        self.answer.map(|_| self.rate.bytes_per_s(now))
    }

    /// Leaves a chunk alone for a while. The caller takes it out of `holds`.
    pub(super) fn shun(&mut self, now: Instant, chunk: ChunkIndex) {
        self.shunned.insert(chunk, now + SHUN_TIME);
    }

    /// There is news of these chunks from the peer itself.
    pub(super) fn unshun(&mut self, is_named: impl Fn(ChunkIndex) -> bool) {
        self.shunned.retain(|chunk, _| !is_named(*chunk));
    }

    /// Takes the chunks that need not be left alone any more: those for which `is_over` says so of
    /// them and their time. The caller puts them back into `holds`.
    pub(super) fn forgive(
        &mut self,
        mut is_over: impl FnMut(ChunkIndex, Instant) -> bool,
    ) -> Vec<ChunkIndex> {
        let forgiven = self
            .shunned
            .extract_if(.., |chunk, until| is_over(*chunk, *until));
        forgiven.map(|(chunk, _)| chunk).collect()
    }

    /// The chunks it has but is left alone about.
    pub(super) fn shunned(&self) -> impl Iterator<Item = ChunkIndex> {
        self.shunned.keys().copied()
    }

    /// When [`Self::stalled`], [`Self::resume`] or [`Self::forgive`] will have something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stall = self.head().map(|_| self.head_moved + self.patience());
        let forgive = self.shunned.values().min().copied();
        let hold = self.hold.map(|(Hold::On(at) | Hold::Off(at))| at);
        let pause = self.pause.map(|(_, until)| until);
        let all = [stall, pause, forgive, hold];
        all.into_iter().flatten().min()
    }

    fn head(&self) -> Option<RequestId> {
        self.coming.keys().next().copied()
    }

    fn patience(&self) -> Duration {
        STALL_TIME.max(self.rtt * STALL_RTTS)
    }

    fn expect_less(&mut self, now: Instant, bytes: u32) {
        self.unreceived -= u64::from(bytes);
        if self.unreceived == 0 {
            self.rate.stop(now);
        }
    }
}
