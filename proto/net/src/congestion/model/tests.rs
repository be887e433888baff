//! Single decisions. What comes of all of them is seen in the lab.

use super::*;

const MTU: u16 = 1_452;
const MS: Duration = Duration::from_millis(1);

/// A path of 50 ms that carries 10 packets a millisecond, and us on it.
struct Steady {
    now: Instant,
    model: Model,
    in_flight: u64,
}

impl Steady {
    /// Filled, with a window that follows.
    fn new() -> Steady {
        let now = Instant::now();
        let model = Model::new(now, MTU, 1 << 20, 1);
        let in_flight = 0;
        let mut steady = Steady {
            now,
            model,
            in_flight,
        };
        steady.run(4_000);
        steady
    }

    fn run(&mut self, millis: u32) {
        let batch = 10 * u64::from(MTU);
        for _ in 0..millis {
            self.now += MS;
            if self.in_flight >= 50 * batch {
                self.in_flight -= batch;
                self.model.acked(self.now - 50 * MS, batch);
                self.model.end_acks(self.now, self.in_flight, false);
            }
            self.model.sent(self.now, batch);
            self.in_flight += batch;
        }
    }

    /// Packets that left half a round trip ago are lost.
    fn lose(&mut self, bytes: u64) {
        self.model.lost(self.now, self.now - 25 * MS, bytes, false);
    }
}

#[test]
fn a_steady_path_is_known() {
    let steady = Steady::new();
    let bandwidth = steady.model.bandwidth.bytes_per_s() / (1e4 * f64::from(MTU));
    assert!((0.97..=1.03).contains(&bandwidth), "{bandwidth}");
    assert_eq!(steady.model.round_trip.least(), Some(50 * MS));
    let rate = steady.model.pacing_rate().unwrap() / (1e4 * f64::from(MTU));
    assert!((0.8..=2.0).contains(&rate), "{rate}");
}

#[test]
fn a_lost_packet_changes_nothing() {
    let mut steady = Steady::new();
    let window = steady.model.window();
    steady.lose(u64::from(MTU));
    assert_eq!(steady.model.window(), window);
}

#[test]
fn many_lost_packets_and_every_mark_count_once_a_round_trip() {
    for bytes in [0, 100 * u64::from(MTU)] {
        let mut steady = Steady::new();
        steady.model.cruise();
        // As where little of what was sent has arrived.
        steady.model.volume = 0;
        let window = steady.model.window();
        steady.lose(bytes);
        let bounded = steady.model.window();
        assert!(bounded < window, "{bytes}: {bounded} of {window}");
        assert!(
            bounded as f64 >= 0.69 * window as f64,
            "{bytes}: {bounded} of {window}"
        );
        for _ in 0..10 {
            steady.lose(bytes);
            assert_eq!(steady.model.window(), bounded, "{bytes}");
        }
    }
}

#[test]
fn persistent_congestion_leaves_two_packets_and_no_belief() {
    let mut steady = Steady::new();
    let (now, sent) = (steady.now, steady.now - MS);
    steady.model.lost(now, sent, 1 << 20, true);
    assert_eq!(steady.model.window(), 2 * u64::from(MTU));
    assert_eq!(steady.model.bandwidth.bytes_per_s(), 0.0);
    // The same again, found late.
    steady.model.set_mtu(1_200);
    steady.model.lost(now + MS, sent, 1 << 20, true);
    assert_eq!(steady.model.window(), 2 * u64::from(MTU));
}

#[test]
fn cycles_of_two_connections_differ() {
    let until = |seed| {
        let now = Instant::now();
        let mut model = Model::new(now, MTU, 1 << 20, seed);
        model.cruise();
        match model.phase {
            Phase::Cruise { until, .. } => until - now,
            _ => unreachable!(),
        }
    };
    let (one, other) = (until(1 << 40), until(1 << 41));
    assert_ne!(one, other);
    for spans in [one, other] {
        assert!((CYCLE..=CYCLE + CYCLE_SPREAD).contains(&spans), "{spans:?}");
    }
}
