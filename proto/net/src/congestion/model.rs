//! Sends as fast as the path delivers: what it carries and how long it is are measured, and the window is
//! what follows from them. After draft-ietf-ccwg-bbr (BBRv3), for a sender that has a window and no rate.
//!
//! quinn paces at 1.25 times the window per smoothed round trip, whatever a controller would like. So the
//! window alone decides how fast bytes leave: a round trip after it is set, its bytes divided by what
//! the round trip then takes. BBR's own window (twice the bandwidth-delay product, its rate does the
//! work) would keep a queue as long as the path. Ours is, in the phase that lasts (*cruise*):
//!
//! ```text
//! bandwidth × round trip without our own queue + what is acknowledged together + one burst
//! ```
//!
//! Alone on a link that is a bandwidth-delay product and a short queue. Beside a flow that fills the
//! queue, the round trip is as long as that one makes it, so our part of the link lasts. It is measured
//! in each cycle when our own queue is gone (*drain*, *clear*). Who has more of the link sees more of the
//! queue go with his own, and takes less afterwards: so parts even out.
//!
//! Losses are no news up to 2 %. Beyond that ([`losses`]) they bound the window: for good while more is
//! sent than usual (*start-up*, *refill*, *up*), until the next look at what the path carries otherwise.
//!
//! [`Model`] knows nothing of quinn; time is told.

mod aggregation;
mod bandwidth;
mod delivery;
mod losses;
mod round_trip;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use aggregation::Aggregation;
use bandwidth::{Bandwidth, Plateau, Slump};
use delivery::{Deliveries, Sample};
use losses::Excess;
use round_trip::RoundTrip;

/// What may be under way in the start-up, in bandwidth-delay products, once packets are late
/// (`BBR.StartupCwndGain`); and before: the pacer holds back what the window allows already, and the
/// bandwidth is that of a round trip ago, so that bytes would not double otherwise.
const START_UP_GAIN: f64 = 2.0;
const FIRST_GAIN: f64 = 2.5;

/// How fast the window grows then: so many bytes for each that arrives, which is what the pacer is short
/// of.
const FIRST_GROWTH: f64 = 1.25;

/// What may be under way at any time but for probing, where the round trip without our own queue is longer
/// than it once was.
const MOST_GAIN: f64 = 3.0;

/// While our queue goes, while more is tried, and while the path is to be seen without us
/// (`BBR.DownPacingGain`, `BBR.UpPacingGain`, `BBR.ProbeRTTCwndGain`).
const CLEAR_GAIN: f64 = 0.9;
const UP_GAIN: f64 = 1.25;
const PROBE_RTT_GAIN: f64 = 0.5;

/// The last of these lasts so long, and a round trip (`BBR.ProbeRTTDuration`).
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);

/// Of a bound that losses have shown, what is used but for probing (1 - `BBR.Headroom`).
const HEADROOM: f64 = 0.85;

/// What congestion leaves of the window at least (`BBR.Beta`).
const BETA: f64 = 0.7;

/// What may get lost: in the start-up, which is over with one overflow of the queue, and otherwise
/// (`BBR.LossThresh`).
const START_UP_LOSS: f64 = 0.05;
const LOSS: f64 = 0.02;

/// The same while packets are not later than our window makes them, by this part of the round trip: the
/// queue that has dropped them is not to be seen.
const UNSEEN_LOSS: f64 = 0.05;
const LATE: f64 = 1.0 / 8.0;

/// All packets of a round trip are as late as that where a path has become slower, and less arrives
/// because of it ([`Slump`]).
const SLUMP_LATE: f64 = 0.25;

/// From one probe to the next: so long and up to [`CYCLE_SPREAD`] more, that two flows do not probe
/// together; or so many round trips, which is how long Reno would take to grow as much on short ones.
const CYCLE: Duration = Duration::from_secs(2);
const CYCLE_SPREAD: Duration = Duration::from_secs(1);
const CYCLE_ROUNDS: [u64; 2] = [8, 63];

/// More is tried for as long as the bandwidth grows by this factor a round trip.
const UP_GROWTH: f64 = 1.1;

/// What the pacer lets out at once: so much time's worth, but not more than so many packets.
const BURST: Duration = Duration::from_millis(2);
const BURST_PACKETS: [f64; 2] = [2.0, 256.0];

/// Where a bound is raised: by this part of it in the first round trip, then twice as much in each.
const RAISE_PART: f64 = 1.0 / 64.0;

/// Packets of the smallest window (`BBR.MinPipeCwnd`), and of that after persistent congestion
/// (RFC 9002 §7.6.2).
const LEAST_PACKETS: u64 = 4;
const COLLAPSED_PACKETS: u64 = 2;

/// What is done about the window.
#[derive(Clone, Debug)]
enum Phase {
    /// It doubles each round trip until the bandwidth does not grow any more.
    StartUp(Plateau),
    /// Less than `most` bytes are to be under way, which is less than arrives, until our queue is gone.
    Drain { most: f64 },
    /// A round trip without it, from round `since` on.
    Clear { most: f64, since: u64 },
    /// As much as arrives, until then or that round.
    Cruise { until: Instant, last: u64 },
    /// The same without the bounds that losses have set, from round `since` on.
    Refill { since: u64 },
    /// A quarter more.
    Up(Up),
    /// Half of it.
    ProbeRtt(ProbeRtt),
}

/// Of a probe for bandwidth.
#[derive(Clone, Debug)]
struct Up {
    since: u64,
    /// What there was a round trip ago.
    bandwidth: f64,
    /// Bytes by which a bound is raised in this round trip.
    step: f64,
}

/// Of a probe for the least round trip.
#[derive(Clone, Debug)]
struct ProbeRtt {
    /// Once that little is under way: until then, and from which round on.
    settled: Option<(Instant, u64)>,
    least: Duration,
}

/// The window of one connection.
#[derive(Clone, Debug)]
pub(super) struct Model {
    mtu: u64,
    window: u64,
    deliveries: Deliveries,
    bandwidth: Bandwidth,
    slump: Slump,
    round_trip: RoundTrip,
    aggregation: Aggregation,
    excess: Excess,
    /// What the path was seen to hold when more was tried (`BBR.inflight_hi`).
    high: f64,
    /// The same in this cycle only (`BBR.inflight_lo`).
    low: f64,
    phase: Phase,
    /// When the present cycle began, and in which round.
    cycle: (Instant, u64),
    /// The highest rate and the least round trip since the last round began.
    round: (f64, Duration),
    /// The highest rate in the round before.
    last_rate: f64,
    /// Whether more was tried in this cycle.
    has_tried: bool,
    /// Bytes that arrived in the last round trip (`BBR.inflight_latest`).
    volume: u64,
    /// Whether the newest packet that arrived had waited in a queue that is not explained by our window.
    is_late: bool,
    /// What was sent before then and got lost is no news.
    recovery: Option<Instant>,
    random: u64,
}

impl Model {
    /// Begins with `window` bytes, on a path of which nothing is known. From `seed` comes how long cycles
    /// are.
    pub(super) fn new(now: Instant, mtu: u16, window: u64, seed: u64) -> Self {
        Model {
            mtu: u64::from(mtu),
            window,
            deliveries: Deliveries::new(now),
            bandwidth: Bandwidth::default(),
            slump: Slump::default(),
            round_trip: RoundTrip::new(now),
            aggregation: Aggregation::new(now),
            excess: Excess::default(),
            high: f64::INFINITY,
            low: f64::INFINITY,
            phase: Phase::StartUp(Plateau::default()),
            cycle: (now, 0),
            round: (0.0, Duration::MAX),
            last_rate: 0.0,
            has_tried: false,
            volume: 0,
            is_late: false,
            recovery: None,
            // Spread over all bits (Fibonacci hashing), and never 0, where xorshift would stay.
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        }
    }

    /// Bytes that may be under way.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// Bytes a second, for a pacer that asks: what the window comes to in a round trip without queue.
    pub(super) fn pacing_rate(&self) -> Option<f64> {
        let clear = self.round_trip.clear()?.as_secs_f64();
        (clear > 0.0).then(|| self.window as f64 / clear)
    }

    /// Packets have another size.
    pub(super) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu);
        self.window = self.window.max(COLLAPSED_PACKETS * self.mtu);
    }

    /// Bytes leave.
    pub(super) fn sent(&mut self, now: Instant, bytes: u64) {
        self.deliveries.sent(now, bytes, self.window);
    }

    /// A packet arrived that was sent then.
    pub(super) fn acked(&mut self, sent: Instant, bytes: u64) {
        self.deliveries.acked(sent, bytes);
    }

    /// Those were all that are acknowledged together. Bytes under way are `in_flight` now; `has_no_more`
    /// when all that there was to send had left.
    pub(super) fn end_acks(&mut self, now: Instant, in_flight: u64, has_no_more: bool) {
        let least = self.round_trip.least().unwrap_or_default();
        let sample = self.deliveries.end_acks(now, in_flight, has_no_more, least);
        let Some(sample) = sample else {
            return;
        };
        self.learn(now, &sample);
        self.proceed(now, &sample);
        self.set_window(&sample);
    }

    /// Packets of so many bytes were lost, or, if 0, one was marked (RFC 3168); the newest was sent at
    /// `sent`.
    pub(super) fn lost(&mut self, now: Instant, sent: Instant, bytes: u64, is_persistent: bool) {
        let then = self.deliveries.in_flight_at(sent);
        let then = then.unwrap_or(self.deliveries.in_flight());
        self.deliveries.lost(bytes);
        if self.recovery.is_some_and(|recovery| sent <= recovery) {
            return;
        }
        if is_persistent {
            return self.collapse(now);
        }
        self.excess.lost(bytes, then, self.tolerated());
        let excess = self.excess.take(self.window, self.mtu);
        if let Some(held) = excess.or((bytes == 0).then_some(then)) {
            let is_past = sent < self.cycle.0;
            self.recovery = Some(now);
            self.bound(now, held as f64, is_past);
        }
    }

    /// Nothing arrived for long (RFC 9002 §7.6): the path is another one now, for all we know.
    fn collapse(&mut self, now: Instant) {
        let window = COLLAPSED_PACKETS * self.mtu;
        let deliveries = self.deliveries.clone();
        *self = Model::new(now, self.mtu as u16, window, self.random);
        self.deliveries = deliveries;
        self.recovery = Some(now);
    }

    fn learn(&mut self, now: Instant, sample: &Sample) {
        let bandwidth = self.bandwidth.bytes_per_s();
        let (round, cap) = (self.deliveries.rounds(), self.window as f64);
        self.round_trip.sample(now, sample.rtt);
        self.aggregation
            .acked(now, sample.acked, bandwidth, round, cap);
        self.is_late = self.is_later(sample.rtt, LATE);
        self.excess.delivered(sample.acked, self.tolerated());
        if let Some(rate) = sample.rate {
            self.bandwidth.sample(rate, sample.is_limited);
            self.round.0 = self.round.0.max(rate);
        }
        self.round.1 = self.round.1.min(sample.rtt);
        self.volume = sample.volume;
        if let Phase::ProbeRtt(probe) = &mut self.phase {
            probe.least = probe.least.min(sample.rtt);
        }
    }

    /// Goes on to the next phase when this one is over.
    fn proceed(&mut self, now: Instant, sample: &Sample) {
        let round = self.deliveries.rounds();
        if let Some(rate) = self.slump(sample) {
            self.bandwidth.lower(rate);
            self.drain(now);
        }
        let is_low = sample.in_flight as f64 <= self.target() + self.burst();
        match &mut self.phase {
            Phase::StartUp(plateau) => {
                let is_over = sample.starts_round && !sample.is_idle;
                if is_over && plateau.end_round(self.bandwidth.bytes_per_s()) {
                    self.drain(now);
                }
            }
            Phase::Drain { most } if is_low => {
                self.deliveries.begin_round();
                let (most, since) = (*most, round);
                self.phase = Phase::Clear { most, since };
            }
            Phase::Clear { since, .. } if round > *since => {
                self.round_trip.begin_clear(sample.rtt);
                if std::mem::take(&mut self.has_tried) {
                    self.bandwidth.end_cycle();
                }
                self.cruise();
            }
            Phase::Cruise { until, last } => {
                let is_over = now >= *until || round >= *last;
                self.keep_cruising(now, sample, is_over);
            }
            Phase::Refill { since } if round > *since => {
                self.excess = Excess::default();
                self.deliveries.begin_round();
                self.has_tried = true;
                self.phase = Phase::Up(Up {
                    since: round,
                    bandwidth: self.bandwidth.bytes_per_s(),
                    step: self.high * RAISE_PART,
                });
            }
            Phase::Up(_) => self.go_up(now, sample),
            Phase::ProbeRtt(_) => self.keep_looking(now, is_low),
            _ => (),
        }
        if sample.starts_round {
            self.last_rate = self.round.0;
            self.round = (0.0, Duration::MAX);
        }
    }

    /// A cycle begins: our queue is to go. What arrived in the last round trips says how much less must
    /// be under way for that; the path may have become slower since it carried more.
    fn drain(&mut self, now: Instant) {
        let rate = self.round.0.max(self.last_rate);
        let rate = rate.min(self.bandwidth.bytes_per_s());
        let least = self.round_trip.least().unwrap_or_default().as_secs_f64();
        self.cycle = (now, self.deliveries.rounds());
        self.phase = Phase::Drain {
            most: CLEAR_GAIN * rate * least,
        };
    }

    fn cruise(&mut self) {
        let (begun, round) = self.cycle;
        let [least, most] = CYCLE_ROUNDS;
        let packets = self.window / self.mtu.max(1);
        self.phase = Phase::Cruise {
            until: begun + CYCLE + CYCLE_SPREAD.mul_f64(self.draw()),
            last: round + packets.clamp(least, most),
        };
    }

    fn keep_cruising(&mut self, now: Instant, sample: &Sample, is_over: bool) {
        if sample.is_idle {
            return;
        }
        if self.round_trip.is_due(now) {
            self.phase = Phase::ProbeRtt(ProbeRtt {
                settled: None,
                least: Duration::MAX,
            });
        } else if is_over {
            self.low = f64::INFINITY;
            self.deliveries.begin_round();
            let since = self.deliveries.rounds();
            self.phase = Phase::Refill { since };
        }
    }

    /// The rate to go by, once the path is seen to have become slower.
    fn slump(&mut self, sample: &Sample) -> Option<f64> {
        let is_usual = matches!(
            self.phase,
            Phase::Cruise { .. } | Phase::Refill { .. } | Phase::Up(_)
        );
        if !sample.starts_round || sample.is_idle || !is_usual {
            return None;
        }
        let (rate, rtt) = self.round;
        let is_bound = (self.window as f64) < self.usual();
        let is_late = !is_bound && self.is_later(rtt, SLUMP_LATE);
        self.slump
            .end_round(rate, is_late, self.bandwidth.bytes_per_s())
    }

    fn go_up(&mut self, now: Instant, sample: &Sample) {
        let (round, bandwidth) = (self.deliveries.rounds(), self.bandwidth.bytes_per_s());
        let is_bound = self.high < self.up_target();
        let before = sample.in_flight.saturating_add(sample.acked);
        let is_full = before as f64 >= 0.9 * self.window as f64;
        let Phase::Up(up) = &mut self.phase else {
            return;
        };
        if is_bound && is_full {
            self.high += up.step * sample.acked as f64 / self.window as f64;
        }
        if !sample.starts_round {
            return;
        }
        let grows = bandwidth >= UP_GROWTH * up.bandwidth;
        let is_early = round < up.since + 2;
        up.step *= 2.0;
        if sample.is_idle || !(is_early || is_bound || grows) {
            self.bandwidth.check(self.round.0.max(self.last_rate));
            self.drain(now);
        } else if !is_early {
            up.bandwidth = bandwidth;
        }
    }

    fn keep_looking(&mut self, now: Instant, is_low: bool) {
        let round = self.deliveries.rounds();
        let Phase::ProbeRtt(probe) = &mut self.phase else {
            return;
        };
        match probe.settled {
            None if is_low => {
                self.deliveries.begin_round();
                probe.settled = Some((now + PROBE_RTT_TIME, round));
            }
            Some((until, since)) if now >= until && round > since => {
                self.round_trip.probed(now, probe.least);
                self.drain(now);
            }
            _ => (),
        }
    }

    /// Losses, or a mark, say that less than `held` bytes may be under way. `is_past` if they left before
    /// this cycle began: what was lost had been tried.
    fn bound(&mut self, now: Instant, held: f64, is_past: bool) {
        let window = self.window as f64;
        match self.phase {
            Phase::Drain { .. } | Phase::Clear { .. } if is_past => {
                self.high = held.max(BETA * self.bandwidth_delay());
            }
            Phase::StartUp(_) | Phase::Refill { .. } | Phase::Up(_) => {
                let least = BETA * self.bandwidth_delay();
                self.high = held.max(least).min(window);
                self.drain(now);
            }
            Phase::ProbeRtt(_) => (),
            Phase::Drain { .. } | Phase::Clear { .. } | Phase::Cruise { .. } => {
                self.low = (BETA * window).max(self.volume as f64).min(window);
            }
        }
        let in_flight = self.deliveries.in_flight();
        self.window = match self.phase {
            Phase::Drain { .. } => self.window.min(in_flight.max(self.allowed())),
            _ => self.window.min(self.allowed()),
        };
    }

    fn tolerated(&self) -> f64 {
        match self.phase {
            Phase::StartUp(_) => START_UP_LOSS,
            _ if self.is_late => LOSS,
            _ => UNSEEN_LOSS,
        }
    }

    /// Whether a packet was later by that part of the round trip than our window explains.
    fn is_later(&self, rtt: Duration, part: f64) -> bool {
        let least = self.round_trip.least().unwrap_or_default().as_secs_f64();
        let bandwidth = self.bandwidth.bytes_per_s();
        rtt.as_secs_f64() > (1.0 + part) * least + self.slack() / bandwidth
    }

    /// The window follows what is wanted: up by as much as arrives, down at once. But while our queue
    /// goes, half of what arrives is sent on (`BBR.DrainPacingGain`), so that round trips have become
    /// short when it is gone: by them the pacer goes.
    fn set_window(&mut self, sample: &Sample) {
        let growth = match self.phase {
            Phase::StartUp(_) if !self.is_late => FIRST_GROWTH,
            _ => 1.0,
        };
        let grown = self.window as f64 + growth * sample.acked as f64;
        let grown = (grown as u64).min(self.allowed());
        self.window = match self.phase {
            Phase::StartUp(_) if sample.has_no_more => self.window,
            Phase::StartUp(_) => self.window.max(grown),
            Phase::Drain { .. } => {
                let less = sample.in_flight.saturating_add(sample.acked / 2);
                self.window.min(less).max(grown)
            }
            _ => grown,
        };
    }

    /// The window that is wanted, in whole bytes.
    fn allowed(&self) -> u64 {
        (self.target() as u64).max(LEAST_PACKETS * self.mtu)
    }

    fn target(&self) -> f64 {
        let product = self.bandwidth_delay();
        match self.phase {
            Phase::StartUp(_) if self.is_late => START_UP_GAIN * product + self.slack(),
            Phase::StartUp(_) => FIRST_GAIN * product + self.slack(),
            Phase::Drain { most } | Phase::Clear { most, .. } => most.min(self.low),
            Phase::Cruise { .. } => {
                let headroom = HEADROOM * self.high;
                (self.usual() + self.slack()).min(headroom).min(self.low)
            }
            Phase::Refill { .. } => (self.usual() + self.slack()).min(self.high),
            Phase::Up(_) => self.up_target().min(self.high),
            Phase::ProbeRtt(_) => PROBE_RTT_GAIN * product,
        }
    }

    fn up_target(&self) -> f64 {
        UP_GAIN * self.usual() + self.slack()
    }

    /// What is under way on a path that has no queue of ours.
    fn usual(&self) -> f64 {
        let clear = self.round_trip.clear().unwrap_or_default().as_secs_f64();
        let most = MOST_GAIN * self.bandwidth_delay();
        (self.bandwidth.bytes_per_s() * clear).min(most)
    }

    /// What is under way on a path that has no queue at all.
    fn bandwidth_delay(&self) -> f64 {
        let least = self.round_trip.least().unwrap_or_default().as_secs_f64();
        self.bandwidth.bytes_per_s() * least
    }

    fn slack(&self) -> f64 {
        self.aggregation.extra() + self.burst()
    }

    fn burst(&self) -> f64 {
        let [least, most] = BURST_PACKETS.map(|packets| packets * self.mtu as f64);
        (self.bandwidth.bytes_per_s() * BURST.as_secs_f64()).clamp(least, most)
    }

    /// From 0 up to 1 (xorshift64, Marsaglia 2003).
    fn draw(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}
