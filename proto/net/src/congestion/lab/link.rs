//! One direction of a path: a rate, a queue that drops what comes when it is full, a delay, losses at
//! random.

use std::time::{Duration, Instant};

use quinn_proto::EcnCodepoint;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::host::Datagram;

/// What UDP, IPv4 and Ethernet add to a datagram.
const HEADER_BYTES: usize = 8 + 20 + 14;

/// As long a delay stays what it is.
const WOBBLE: Duration = Duration::from_millis(20);

pub(super) struct Link {
    pub(super) bytes_per_s: f64,
    pub(super) delay: Duration,
    pub(super) buffer_bytes: f64,
    /// From 0 to 1.
    pub(super) loss: f64,
    /// Packets arrive at multiples of that only, as a wireless link that is polled makes them.
    pub(super) gather: Duration,
    /// So much more delay at the most, drawn anew every [`WOBBLE`].
    pub(super) wobble: Duration,
    /// Whether nothing passes.
    pub(super) is_cut: bool,
    /// Packets that come to so many bytes in the queue are marked (RFC 3168).
    pub(super) marks_from: f64,
    /// The most bytes in the queue.
    pub(super) most_queued: f64,
    rng: StdRng,
    begun: Instant,
    /// Until when the delay stays, and how much more it is.
    wobbles: (Instant, Duration),
    /// When what is in the queue has left.
    busy: Instant,
    /// The last arrival: packets do not overtake each other.
    last: Instant,
    pub(super) passed: u64,
    /// For want of room.
    pub(super) dropped: u64,
}

impl Link {
    pub(super) fn new(now: Instant, mbit: f64, seed: u64) -> Self {
        Link {
            bytes_per_s: mbit * 125_000.0,
            delay: Duration::ZERO,
            buffer_bytes: f64::INFINITY,
            loss: 0.0,
            gather: Duration::ZERO,
            wobble: Duration::ZERO,
            is_cut: false,
            marks_from: f64::INFINITY,
            most_queued: 0.0,
            rng: StdRng::seed_from_u64(seed),
            begun: now,
            wobbles: (now, Duration::ZERO),
            busy: now,
            last: now,
            passed: 0,
            dropped: 0,
        }
    }

    /// Bytes in the queue.
    pub(super) fn queued(&self, now: Instant) -> f64 {
        self.busy.saturating_duration_since(now).as_secs_f64() * self.bytes_per_s
    }

    /// What is in the queue leaves at the new rate.
    pub(super) fn set_mbit(&mut self, now: Instant, mbit: f64) {
        let queued = self.queued(now);
        self.bytes_per_s = mbit * 125_000.0;
        self.busy = now + Duration::from_secs_f64(queued / self.bytes_per_s);
    }

    /// Part of the packets for which there was no room.
    pub(super) fn dropped_part(&self) -> f64 {
        self.dropped as f64 / (self.dropped + self.passed).max(1) as f64
    }

    /// Counts begin anew.
    pub(super) fn forget(&mut self) {
        (self.passed, self.dropped, self.most_queued) = (0, 0, 0.0);
    }

    /// When a datagram arrives, if it does.
    pub(super) fn pass(&mut self, now: Instant, datagram: &mut Datagram) -> Option<Instant> {
        let bytes = (datagram.bytes.len() + HEADER_BYTES) as f64;
        let queued = self.queued(now) + bytes;
        if self.is_cut || queued > self.buffer_bytes {
            self.dropped += 1;
            return None;
        }
        self.most_queued = self.most_queued.max(queued);
        if queued > self.marks_from && datagram.ecn.is_some() {
            datagram.ecn = Some(EcnCodepoint::Ce);
        }
        self.busy = self.busy.max(now) + Duration::from_secs_f64(bytes / self.bytes_per_s);
        if self.rng.random::<f64>() < self.loss {
            return None;
        }
        self.passed += 1;
        let delay = self.delay + self.wobbled(now);
        self.last = self.last.max(self.gathered(self.busy + delay));
        Some(self.last)
    }

    fn wobbled(&mut self, now: Instant) -> Duration {
        if now >= self.wobbles.0 {
            let more = self.wobble.mul_f64(self.rng.random());
            self.wobbles = (now + WOBBLE, more);
        }
        self.wobbles.1
    }

    fn gathered(&self, at: Instant) -> Instant {
        if self.gather.is_zero() {
            return at;
        }
        let spans = (at - self.begun).as_secs_f64() / self.gather.as_secs_f64();
        self.begun + self.gather.mul_f64(spans.ceil())
    }
}
