//! One link with one queue, as a fluid: what others leave of it, and what we take.

use super::*;

const MTU: u16 = 1_452;
const SECOND: Duration = Duration::from_secs(1);

/// A link and us on it.
struct Link {
    now: Instant,
    ledbat: Ledbat,
    base: Duration,
    bytes_per_s: f64,
    /// What the queue holds at most.
    queue_s: f64,
    /// What others have in it.
    others: f64,
}

impl Link {
    fn new(base_ms: u64, mbit: f64, queue_ms: u64) -> Link {
        let (now, base) = (Instant::now(), Duration::from_millis(base_ms));
        Link {
            now,
            ledbat: Ledbat::new(now, MTU, base),
            base,
            bytes_per_s: mbit * 125_000.0,
            queue_s: queue_ms as f64 / 1000.0,
            others: 0.0,
        }
    }

    /// Seconds that the queue takes now.
    fn queued_s(&self) -> f64 {
        let under_way = self.base.as_secs_f64() * self.bytes_per_s;
        let all = self.ledbat.window + self.others * self.bytes_per_s;
        ((all - under_way) / self.bytes_per_s).max(0.0)
    }

    /// Round trips for so long. What of the link we used.
    fn run(&mut self, span: Duration) -> f64 {
        let (end, begun, mut sent) = (self.now + span, self.now, 0.0);
        while self.now < end {
            let queued = self.queued_s();
            let rtt = self.base.as_secs_f64() + queued.min(self.queue_s);
            let before = self.now;
            self.now += Duration::from_secs_f64(rtt);
            let part = self.bytes_per_s * rtt - self.others.min(rtt) * self.bytes_per_s;
            let went = self.ledbat.window.min(part.max(0.0));
            sent += went;
            let raw = self.now - before;
            self.ledbat.acked(before, self.ledbat.window as u64, raw);
            self.ledbat.end_acks(self.now, false);
            if queued > self.queue_s {
                self.ledbat.lost(self.now, before, false);
            }
        }
        sent / ((self.now - begun).as_secs_f64() * self.bytes_per_s)
    }
}

#[test]
fn alone_the_link_is_filled_and_the_queue_kept_short() {
    for (base_ms, mbit, queue_ms) in [(20, 50.0, 500), (1, 50.0, 50), (100, 10.0, 1000)] {
        let mut link = Link::new(base_ms, mbit, queue_ms);
        link.run(10 * SECOND);
        let used = link.run(60 * SECOND);
        assert!(used > 0.85, "{used} at {base_ms} ms, queue {queue_ms} ms");
        let late = link.ledbat.late();
        assert!(late <= TARGET.mul_f64(1.2), "{late:?} at {base_ms} ms");
    }
}

#[test]
fn beside_a_flow_that_fills_the_queue_next_to_nothing_is_sent() {
    for (queue_ms, others) in [(200, 0.150), (50, 0.040)] {
        let mut link = Link::new(20, 50.0, queue_ms);
        link.run(5 * SECOND);
        link.others = others + 0.02;
        link.run(5 * SECOND);
        let least = LEAST_PACKETS * f64::from(MTU);
        assert!(link.ledbat.window <= 2.0 * least, "{}", link.ledbat.window);
        link.others = 0.0;
        assert!(link.run(60 * SECOND) > 0.8, "and it comes back");
    }
}

#[test]
fn beside_reno_it_takes_little_and_alone_all() {
    let mut link = Link::new(20, 50.0, 50);
    link.run(10 * SECOND);
    let (mut given, mut all, end) = (0.0, 0.0, link.now + 60 * SECOND);
    let mut reno = 10.0 * f64::from(MTU);
    while link.now < end {
        let before = link.now;
        let is_full = link.queued_s() > link.queue_s;
        reno = if is_full {
            reno / 2.0
        } else {
            reno + f64::from(MTU)
        };
        link.others = reno / link.bytes_per_s;
        let ours = link.ledbat.window;
        link.run(Duration::from_nanos(1));
        let bytes = (link.now - before).as_secs_f64() * link.bytes_per_s;
        given += reno.min(bytes * reno / (reno + ours));
        all += bytes;
    }
    assert!(given / all > 0.9, "Reno gets {}", given / all);
    link.others = 0.0;
    link.run(10 * SECOND);
    let used = link.run(60 * SECOND);
    assert!(used > 0.85, "{used} alone");
}

#[test]
fn when_everything_is_lost_in_a_slowdown_the_window_does_not_come_back() {
    let mut link = slow_link();
    let now = link.now;
    link.ledbat.lost(now, now - SECOND / 10, true);
    let least = LEAST_PACKETS * f64::from(MTU);
    assert_eq!((link.ledbat.window, link.ledbat.threshold), (least, least));
}

#[test]
fn a_loss_in_a_slowdown_halves_the_window_that_comes_back() {
    let mut link = slow_link();
    let (remembered, now) = (link.ledbat.threshold, link.now);
    assert!(remembered > 100.0 * f64::from(MTU));
    // It was sent before the slowdown.
    link.ledbat.lost(now, now - SECOND / 10, false);
    assert_eq!(link.ledbat.window(), 2 * u64::from(MTU));
    while matches!(link.ledbat.phase, Phase::Slow { .. } | Phase::Ramp { .. }) {
        link.run(SECOND / 1000);
    }
    let window = link.ledbat.window;
    assert!((0.49..=0.51).contains(&(window / remembered)), "{window}");
}

#[test]
fn what_the_queue_holds_is_known_from_what_arrived_and_not_from_the_loss() {
    for (queue_ms, least, most) in [(50, 23, 25), (20, 9, 14), (4, 5, 5)] {
        let mut link = Link::new(20, 50.0, queue_ms);
        // Somebody fills it now and then.
        link.others = 0.2;
        link.run(SECOND);
        link.others = 0.0;
        link.run(SECOND);
        let now = link.now;
        link.ledbat.samples.clear();
        link.ledbat.lost(now, now, false);
        let target = link.ledbat.target(now).as_millis();
        assert!(
            (least..=most).contains(&target),
            "{target} of {queue_ms} ms"
        );
        let later = link.ledbat.target(now + QUEUE_MEMORY);
        assert_eq!(later, TARGET, "a loss is not believed for ever");
    }
}

#[test]
fn a_ramp_is_not_over_while_packets_are_in_time() {
    let now = Instant::now();
    for (late_ms, goes_on) in [(24, true), (26, false)] {
        let mut ledbat = Ledbat::new(now, MTU, SECOND / 50);
        ledbat.phase = Phase::Ramp { since: now };
        ledbat.threshold = 100.0 * f64::from(MTU);
        let (rtt, later) = (Duration::from_millis(20 + late_ms), now + SECOND);
        ledbat.acked(later - rtt, u64::from(MTU), rtt);
        ledbat.end_acks(later, false);
        let goes = ledbat.window < ledbat.threshold;
        assert_eq!(goes, goes_on, "{late_ms} ms late");
    }
}

#[test]
fn now_and_then_it_slows_down_to_see_the_path_without_a_queue() {
    let mut link = Link::new(20, 50.0, 500);
    link.ledbat.base = VecDeque::from([(link.now, SECOND / 10)]);
    // It believes that a round trip of 100 ms is the least.
    link.run(20 * SECOND);
    assert!(
        link.ledbat.base() < Duration::from_millis(30),
        "{:?}",
        link.ledbat.base()
    );
}

#[test]
fn acknowledgements_that_wait_longer_than_the_target_do_not_hold_it_down() {
    let (begun, base) = (Instant::now(), Duration::from_millis(1));
    let mut ledbat = Ledbat::new(begun, MTU, base);
    ledbat.lost(begun, begun, true);
    let least = ledbat.window();
    for round in 0..1_000 {
        let sent = begun + 30 * base * round;
        ledbat.acked(sent, ledbat.window(), base);
        ledbat.end_acks(sent + 30 * base, false);
    }
    assert!(ledbat.window() > 10 * least, "{}", ledbat.window());
}

#[test]
fn a_round_trip_of_losses_counts_once() {
    let now = Instant::now();
    let mut ledbat = Ledbat::new(now, MTU, SECOND / 10);
    let before = ledbat.window();
    for _ in 0..10 {
        ledbat.lost(now + SECOND, now, false);
    }
    assert_eq!(ledbat.window(), before / 2);
    ledbat.lost(now + 2 * SECOND, now + 2 * SECOND, true);
    assert_eq!(ledbat.window(), 2 * u64::from(MTU));
}

#[test]
fn no_order_of_times_and_no_amount_breaks_it() {
    let now = Instant::now();
    let mut ledbat = Ledbat::new(now + SECOND, MTU, Duration::ZERO);
    ledbat.end_acks(now, false);
    ledbat.acked(now + SECOND, u64::MAX / 2, Duration::MAX);
    ledbat.end_acks(now, false);
    ledbat.acked(now, 0, Duration::ZERO);
    ledbat.end_acks(now, true);
    ledbat.lost(now, now + SECOND, false);
    assert!(ledbat.window() >= 2 * u64::from(MTU));
}

/// A link on which a slowdown has just begun.
fn slow_link() -> Link {
    let mut link = Link::new(20, 50.0, 500);
    link.run(10 * SECOND);
    while !matches!(link.ledbat.phase, Phase::Slow { .. }) {
        link.run(SECOND / 1000);
    }
    link
}
