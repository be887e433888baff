//! Sends what others leave of a path: LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus-01), which is LEDBAT
//! (RFC 6817) by round trips, with a fair share among its own kind.
//!
//! The queue on the way makes packets late. While they are later than a target, somebody else wants
//! the link too, or we alone have filled it: the window shrinks. So we keep a little of the queue when
//! alone and nothing of it beside a flow that fills it.
//!
//! How late packets would be without a queue is the least round trip seen; that we alone may have hidden
//! it, we slow down now and then and look.
//!
//! Where it departs from the draft: its target is 60 ms, which keeps a queue of 50 ms all but full, so
//! that a flow that begins beside it finds no room and never fills it so far that we would notice. Ours
//! is shorter; and where packets are lost before they are as late as that, it is half of what the queue
//! holds. That is at least as much as packets were late that arrived: how late they are when a loss is
//! found says little, for it may have had another cause, or a slowdown has begun.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How late packets may be by what we send: half of the shorter queues that links have.
const TARGET: Duration = Duration::from_millis(25);

/// What the gain is made of: the target of the draft (§4.2).
const GAIN_TARGET: Duration = Duration::from_millis(60);

/// The shortest target, where a queue is shorter: what timers and acknowledgements that wait make of a
/// path without any queue.
const LEAST_TARGET: Duration = Duration::from_millis(5);

/// What a queue was found to hold is believed for so long, or twice that.
const QUEUE_MEMORY: Duration = Duration::from_secs(60);

/// The window grows by this part of what TCP's would, at least (§4.2).
const LEAST_GAIN: f64 = 1.0 / 16.0;

/// The first slow start ends at this part of the target (§4.4). A later one has a threshold that was
/// found to be right, and ends at the whole target: what little packets vary must not end it sooner.
const SLOW_START_END: f64 = 0.75;

/// The smallest window, in packets (§4.4).
const LEAST_PACKETS: f64 = 2.0;

/// What a connection begins with (RFC 6928).
const FIRST_PACKETS: f64 = 10.0;

/// Round trips from the end of the first slow start to a slowdown, and how long that lasts (§4.4).
const SLOWDOWN_RTTS: u32 = 2;

/// From the end of a slowdown to the next: so many times what it took, ramping up included (§4.4).
const BETWEEN_SLOWDOWNS: u32 = 9;

/// The least round trip is that of the last so many spans of so long (RFC 6817 §3.4.2).
const BASE_SPANS: usize = 10;
const BASE_SPAN: Duration = Duration::from_secs(60);

/// How late packets are is the least of so many samples, since an acknowledgement may have waited.
const SAMPLES: usize = 4;

/// The window of one connection.
#[derive(Clone, Debug)]
pub(super) struct Ledbat {
    mtu: f64,
    window: f64,
    /// Where slow start ends.
    threshold: f64,
    base: VecDeque<(Instant, Duration)>,
    samples: VecDeque<Duration>,
    /// Of the acknowledgements that come together.
    acked: u64,
    newest: Option<Instant>,
    /// The round trip without what acknowledgements waited, smoothed.
    smoothed: Duration,
    /// What was lost before then is no news.
    recovery: Option<Instant>,
    /// When some were lost last.
    overflow: Option<Instant>,
    /// How late packets were at the most, in the last two spans of [`QUEUE_MEMORY`] and since when.
    latest: [(Instant, Duration); 2],
    phase: Phase,
}

/// Of the slowdowns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first slow start is not over.
    Begun,
    /// The next slowdown comes then.
    Steady { next: Instant },
    /// The least window until then; `since` is when it began.
    Slow { since: Instant, until: Instant },
    /// Slow start up to the threshold.
    Ramp { since: Instant },
}

impl Ledbat {
    /// For a path whose least round trip so far is `rtt`, and on which packets have `mtu` bytes.
    pub(super) fn new(now: Instant, mtu: u16, rtt: Duration) -> Ledbat {
        let mtu = f64::from(mtu);
        Ledbat {
            mtu,
            window: FIRST_PACKETS * mtu,
            threshold: f64::INFINITY,
            base: VecDeque::from([(now, rtt)]),
            samples: VecDeque::new(),
            acked: 0,
            newest: None,
            smoothed: rtt,
            recovery: None,
            overflow: None,
            latest: [(now, Duration::ZERO); 2],
            phase: Phase::Begun,
        }
    }

    /// Bytes that may be under way.
    pub(super) fn window(&self) -> u64 {
        self.window as u64
    }

    /// Packets have another size.
    pub(super) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = f64::from(mtu);
        self.window = self.window.max(self.least());
    }

    /// A packet arrived. `smoothed` is the round trip as QUIC knows it, without what acknowledgements
    /// have waited: of few packets they wait longer than the target.
    pub(super) fn acked(&mut self, sent: Instant, bytes: u64, smoothed: Duration) {
        self.acked += bytes;
        self.smoothed = smoothed;
        self.newest = self.newest.max(Some(sent));
    }

    /// Those were all that are acknowledged together. `is_idle` when we had no more to send than went.
    pub(super) fn end_acks(&mut self, now: Instant, is_idle: bool) {
        let acked = std::mem::take(&mut self.acked) as f64;
        if let Some(sent) = self.newest.take() {
            let raw = now.saturating_duration_since(sent);
            self.sample(now, raw.min(self.smoothed));
        }
        self.look_at_phase(now);
        if matches!(self.phase, Phase::Slow { .. }) {
            return;
        }
        let (late, target) = (self.late(), self.target(now));
        if late <= target && is_idle {
            return;
        }
        if self.window < self.threshold {
            self.start_slowly(late, target, acked);
        } else {
            self.follow(late, target, acked);
        }
        self.window = self.window.max(self.least());
    }

    /// A packet that was sent then was lost, or marked.
    pub(super) fn lost(&mut self, now: Instant, sent: Instant, is_persistent: bool) {
        if self.recovery.is_some_and(|recovery| sent <= recovery) {
            return;
        }
        self.recovery = Some(now);
        self.overflow = Some(now);
        let least = self.least();
        let reduced = |window: f64| match is_persistent {
            true => least,
            false => (window / 2.0).max(least),
        };
        if let Phase::Slow { .. } = self.phase {
            // What was lost was sent with the window that is to come back.
            self.threshold = reduced(self.threshold);
            return;
        }
        self.window = reduced(self.window);
        self.threshold = self.window;
    }

    /// How late packets may be.
    fn target(&self, now: Instant) -> Duration {
        let is_recent = |at| now.saturating_duration_since(at) < QUEUE_MEMORY;
        if !self.overflow.is_some_and(is_recent) {
            return TARGET;
        }
        let latest = self.latest.iter().map(|(_, late)| *late).max();
        let half = latest.unwrap_or_default() / 2;
        half.clamp(LEAST_TARGET, TARGET)
    }

    /// How late they are.
    fn late(&self) -> Duration {
        let latest = self.samples.iter().min().copied().unwrap_or_default();
        latest.saturating_sub(self.base())
    }

    fn base(&self) -> Duration {
        let spans = self.base.iter().map(|(_, least)| *least);
        spans.min().unwrap_or_default()
    }

    fn sample(&mut self, now: Instant, rtt: Duration) {
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(rtt);
        match self.base.back_mut() {
            Some((since, least)) if now.saturating_duration_since(*since) < BASE_SPAN => {
                *least = rtt.min(*least);
            }
            _ => self.base.push_back((now, rtt)),
        }
        if self.base.len() > BASE_SPANS {
            self.base.pop_front();
        }
        self.note_late(now);
    }

    fn note_late(&mut self, now: Instant) {
        let [(since, _), _] = self.latest;
        if now.saturating_duration_since(since) >= QUEUE_MEMORY {
            self.latest = [(now, Duration::ZERO), self.latest[0]];
        }
        self.latest[0].1 = self.latest[0].1.max(self.late());
    }

    fn start_slowly(&mut self, late: Duration, target: Duration, acked: f64) {
        let end = match self.phase {
            Phase::Begun => target.mul_f64(SLOW_START_END),
            _ => target,
        };
        if late > end {
            self.threshold = self.window;
            return;
        }
        self.window = (self.window + acked * self.gain()).min(self.threshold);
    }

    /// Grows by a part of a packet a round trip, or shrinks by as much of itself as packets are too
    /// late, at most by half a round trip (§4.2).
    fn follow(&mut self, late: Duration, target: Duration, acked: f64) {
        let part = acked / self.window;
        let more = self.gain() * self.mtu;
        let change = match late.checked_sub(target) {
            None => more,
            Some(over) => {
                let over = over.as_secs_f64() / target.as_secs_f64();
                (more - self.window * over).max(-self.window / 2.0)
            }
        };
        self.window += change * part;
        self.threshold = self.threshold.min(self.window);
    }

    /// Slower than TCP where the round trip is short, that the queue has time to show (§4.2).
    fn gain(&self) -> f64 {
        let base = self.base().as_secs_f64().max(1e-6);
        let rounds = (2.0 * GAIN_TARGET.as_secs_f64() / base).ceil();
        (1.0 / rounds).clamp(LEAST_GAIN, 1.0)
    }

    fn look_at_phase(&mut self, now: Instant) {
        let pause = self.rtt() * SLOWDOWN_RTTS;
        self.phase = match self.phase {
            Phase::Begun if self.window >= self.threshold => Phase::Steady { next: now + pause },
            Phase::Steady { next } if next <= now => {
                self.threshold = self.window.max(self.least());
                self.window = self.least();
                let (since, until) = (now, now + pause);
                Phase::Slow { since, until }
            }
            Phase::Slow { since, until } if until <= now => Phase::Ramp { since },
            Phase::Ramp { since } if self.window >= self.threshold => {
                let took = now.saturating_duration_since(since);
                let next = now + took * BETWEEN_SLOWDOWNS;
                Phase::Steady { next }
            }
            other => other,
        };
    }

    fn rtt(&self) -> Duration {
        self.samples.back().copied().unwrap_or_default()
    }

    fn least(&self) -> f64 {
        LEAST_PACKETS * self.mtu
    }
}

#[cfg(test)]
#[path = "ledbat_tests.rs"]
mod tests;
