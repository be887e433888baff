//! How fast bytes arrive: delivery-rate samples (draft-ietf-ccwg-bbr, delivery rate samples; before that
//! draft-cheng-iccrg-delivery-rate-estimation), out of what quinn tells a controller.
//!
//! quinn names the time at which an acknowledged packet was sent, and not its number, which would be
//! ambiguous anyway (three packet number spaces count from 0). So what was sent is remembered by time, in
//! [`Batch`]es: all that left within a small part of a round trip is one. A sample reaches from where
//! things stood when the newest acknowledged packet left until now, over whichever took longer, sending
//! or acknowledging. So acknowledgements that come many at once do not look like a fast link.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Batches that are told apart within a round trip: samples are as exact as that.
const BATCHES_PER_RTT: u32 = 64;

/// What is remembered at the most: 16 round trips, or 72 KiB.
const MOST_BATCHES: usize = 1024;

/// What left at about the same time, and how things stood then.
#[derive(Clone, Debug)]
struct Batch {
    at: Instant,
    /// Bytes that had been delivered, and when the last of them were acknowledged.
    delivered: u64,
    delivered_at: Instant,
    /// When those had been sent.
    first_sent: Instant,
    /// Bytes under way, the batch included.
    in_flight: u64,
    /// Whether there was no more to send.
    is_idle: bool,
    /// Whether most of what was allowed was under way.
    is_full: bool,
}

/// What acknowledgements that came together tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Of the newest packet, with what its acknowledgement has waited.
    pub(super) rtt: Duration,
    /// In bytes a second. Nothing when the time was too short to tell.
    pub(super) rate: Option<f64>,
    /// Bytes delivered since the newest packet left, itself included.
    pub(super) volume: u64,
    /// Bytes that were acknowledged.
    pub(super) acked: u64,
    /// Bytes that are still under way.
    pub(super) in_flight: u64,
    /// Whether there is no more to send.
    pub(super) has_no_more: bool,
    /// Whether there was no more to send when the newest packet left, or shortly before.
    pub(super) is_idle: bool,
    /// Whether less was under way than might have been, for that or another reason: the path may do
    /// better.
    pub(super) is_limited: bool,
    /// Whether a packet was acknowledged that left after the last round trip had begun.
    pub(super) starts_round: bool,
}

/// What was sent and what was delivered.
#[derive(Clone, Debug)]
pub(super) struct Deliveries {
    /// In the order of their times.
    sent: VecDeque<Batch>,
    delivered: u64,
    delivered_at: Instant,
    first_sent: Instant,
    in_flight: u64,
    /// What is sent until so much was delivered was limited by what there was to send.
    limited_until: u64,
    rounds: u64,
    /// A packet sent after so much was delivered begins the next round trip.
    round_end: u64,
    /// A batch is as long.
    span: Duration,
    /// Of the acknowledgements that come together.
    newest: Option<Instant>,
    acked: u64,
}

impl Deliveries {
    pub(super) fn new(now: Instant) -> Self {
        Deliveries {
            sent: VecDeque::new(),
            delivered: 0,
            delivered_at: now,
            first_sent: now,
            in_flight: 0,
            limited_until: 0,
            rounds: 0,
            round_end: 0,
            span: Duration::ZERO,
            newest: None,
            acked: 0,
        }
    }

    /// Round trips so far.
    pub(super) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Bytes under way, as far as is known.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// The round trip that counts begins now: the next one begins when something is acknowledged that
    /// is yet to be sent.
    pub(super) fn begin_round(&mut self) {
        self.round_end = self.delivered;
    }

    /// Bytes leave, of as many as `window` allows to be under way.
    pub(super) fn sent(&mut self, now: Instant, bytes: u64, window: u64) {
        if self.in_flight == 0 {
            (self.first_sent, self.delivered_at) = (now, now);
        }
        self.in_flight = self.in_flight.saturating_add(bytes);
        let (is_idle, is_full) = (self.limited_until > 0, self.in_flight >= window / 4 * 3);
        let is_much = self.sent.len() >= MOST_BATCHES;
        match self.sent.back_mut() {
            // A clock that went back counts as one that stood still.
            Some(last) if is_much || now.saturating_duration_since(last.at) <= self.span => {
                last.in_flight = last.in_flight.max(self.in_flight);
                last.is_idle |= is_idle;
                last.is_full |= is_full;
            }
            _ => self.sent.push_back(Batch {
                at: now,
                delivered: self.delivered,
                delivered_at: self.delivered_at,
                first_sent: self.first_sent,
                in_flight: self.in_flight,
                is_idle,
                is_full,
            }),
        }
    }

    /// A packet that was sent then was acknowledged.
    pub(super) fn acked(&mut self, sent: Instant, bytes: u64) {
        self.acked = self.acked.saturating_add(bytes);
        self.newest = self.newest.max(Some(sent));
    }

    /// A packet was lost.
    pub(super) fn lost(&mut self, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// Bytes that were under way when a packet left at `sent`, itself included; nothing if that is
    /// forgotten.
    pub(super) fn in_flight_at(&self, sent: Instant) -> Option<u64> {
        self.batch(sent).map(|batch| batch.in_flight)
    }

    /// Those were all that are acknowledged together. Bytes under way are `in_flight` now; `has_no_more`
    /// when all that there was to send had left; a sample over less than `least` of time says nothing.
    pub(super) fn end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        has_no_more: bool,
        least: Duration,
    ) -> Option<Sample> {
        self.in_flight = in_flight;
        let acked = std::mem::take(&mut self.acked);
        self.delivered = self.delivered.saturating_add(acked);
        self.note_limit(has_no_more);
        let newest = self.newest.take()?;
        self.delivered_at = now;
        let rtt = now.saturating_duration_since(newest);
        let batch = self.batch(newest).cloned();
        self.first_sent = newest;
        self.forget(newest, rtt);
        self.span = least.min(rtt) / BATCHES_PER_RTT;
        let batch = batch?;
        let volume = self.delivered - batch.delivered;
        let sending = newest.saturating_duration_since(batch.first_sent);
        let took = sending.max(now.saturating_duration_since(batch.delivered_at));
        let is_long = took >= least && !took.is_zero();
        Some(Sample {
            rtt,
            rate: is_long.then(|| volume as f64 / took.as_secs_f64()),
            volume,
            acked,
            in_flight,
            has_no_more,
            is_idle: batch.is_idle,
            is_limited: batch.is_idle || !batch.is_full,
            starts_round: self.starts_round(batch.delivered),
        })
    }

    /// From here on until all that is under way has arrived, the path is not filled.
    fn note_limit(&mut self, has_no_more: bool) {
        if has_no_more {
            self.limited_until = self.delivered.saturating_add(self.in_flight).max(1);
        } else if self.delivered > self.limited_until {
            self.limited_until = 0;
        }
    }

    fn starts_round(&mut self, delivered_when_sent: u64) -> bool {
        let starts = delivered_when_sent >= self.round_end;
        if starts {
            self.rounds += 1;
            self.round_end = self.delivered;
        }
        starts
    }

    /// The batch in which something left.
    fn batch(&self, sent: Instant) -> Option<&Batch> {
        let after = self.sent.partition_point(|batch| batch.at <= sent);
        self.sent.get(after.checked_sub(1)?)
    }

    /// Drops what left a round trip before the newest that arrived: what is still missing of it is found
    /// to be lost long before that.
    fn forget(&mut self, newest: Instant, rtt: Duration) {
        let is_past = |batch: &Batch| newest.saturating_duration_since(batch.at) > rtt;
        while self.sent.len() > 1 && is_past(&self.sent[1]) {
            self.sent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Ten packets a millisecond, and a round trip of 100 ms.
    const BATCH: u64 = 14_520;

    #[test]
    fn a_steady_flow_has_its_rate_however_its_acknowledgements_come() {
        for gather_ms in [1, 10, 50] {
            let (_, samples) = flow(1_000, gather_ms, |_| false);
            let rates = samples
                .iter()
                .skip(200 / gather_ms as usize)
                .filter_map(|sample| sample.rate);
            let most = rates.clone().fold(0.0, f64::max);
            let real = BATCH as f64 * 1e3;
            assert!(
                (0.98..=1.02).contains(&(most / real)),
                "{gather_ms} ms: {most}"
            );
            assert!(rates.count() > 100 / gather_ms as usize);
        }
    }

    #[test]
    fn a_round_trip_is_over_when_what_was_sent_in_it_arrives() {
        let (deliveries, samples) = flow(1_000, 1, |_| false);
        // The last starts 100 ms after it was sent; batches are told apart by 1.6 ms.
        assert!((8..=10).contains(&deliveries.rounds()), "{deliveries:?}");
        let starts = samples.iter().filter(|sample| sample.starts_round).count();
        assert_eq!(starts as u64, deliveries.rounds());
    }

    #[test]
    fn what_leaves_while_there_is_no_more_is_marked_and_what_follows_is_not() {
        let (_, samples) = flow(1_000, 1, |ms| (400..500).contains(&ms));
        let idle = |from: usize, to: usize| samples[from..to].iter().filter(|s| s.is_idle).count();
        assert_eq!(idle(0, 398), 0);
        assert!(idle(450, 550) >= 98);
        assert_eq!(idle(750, 880), 0);
    }

    #[test]
    fn little_under_way_says_nothing_of_the_path() {
        let now = Instant::now();
        let mut deliveries = Deliveries::new(now);
        for (window, is_limited) in [(10 * BATCH, true), (BATCH, false)] {
            deliveries.sent(now, BATCH, window);
            deliveries.acked(now, BATCH);
            let sample = deliveries.end_acks(now + 100 * MS, 0, false, MS).unwrap();
            assert_eq!(sample.is_limited, is_limited);
            assert!(!sample.is_idle);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let now = Instant::now();
        let mut deliveries = Deliveries::new(now);
        for ms in 0..1_000_000 {
            deliveries.sent(now + ms * MS / 10, 1_452, 1 << 20);
        }
        assert_eq!(deliveries.sent.len(), MOST_BATCHES);
        let (deliveries, _) = flow(10_000, 1, |_| false);
        assert!(deliveries.sent.len() < 3 * BATCHES_PER_RTT as usize);
    }

    /// A flow of so many milliseconds. `has_no_more` says of each whether there was no more to send, which
    /// its acknowledgements tell.
    fn flow(
        millis: u32,
        gather_ms: u32,
        has_no_more: impl Fn(u32) -> bool,
    ) -> (Deliveries, Vec<Sample>) {
        let (begun, least) = (Instant::now(), 100 * MS);
        let mut deliveries = Deliveries::new(begun);
        let (mut samples, mut in_flight) = (Vec::new(), 0);
        for ms in 0..millis {
            let now = begun + ms * MS;
            if ms > 100 && ms.is_multiple_of(gather_ms) {
                for sent in (ms - gather_ms..ms).filter_map(|late| late.checked_sub(100)) {
                    deliveries.acked(begun + sent * MS, BATCH);
                    in_flight -= BATCH;
                }
                let sample = deliveries.end_acks(now, in_flight, has_no_more(ms), least);
                samples.extend(sample);
            }
            deliveries.sent(now, BATCH, 100 * BATCH);
            in_flight += BATCH;
        }
        (deliveries, samples)
    }
}
