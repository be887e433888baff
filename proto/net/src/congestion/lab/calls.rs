//! Whatever quinn calls, in whatever order and with whatever times: no panic, and a window that lets a
//! packet out.

use std::any::Any;
use std::sync::Mutex;

use proptest::prelude::*;
use quinn::congestion::Controller;
use quinn_proto::RttEstimator;

use super::*;

#[derive(Clone, Debug)]
enum Call {
    Wait(u64),
    /// The clock is behind by so many microseconds in the next call.
    Back(u64),
    Sent(u64),
    Ack {
        age_us: u64,
        bytes: u64,
        limited: bool,
    },
    EndAcks {
        in_flight: u64,
        limited: bool,
    },
    Lost {
        age_us: u64,
        bytes: u64,
        persistent: bool,
    },
    Mtu(u16),
    Detour,
    Yield(bool),
}

fn call() -> impl Strategy<Value = Call> {
    let bytes = prop_oneof![4 => 0..2_000u64, 1 => 0..=u64::from(u32::MAX)];
    let age = prop_oneof![4 => 0..300_000u64, 1 => 0..100_000_000_000u64];
    let in_flight = prop_oneof![4 => 0..2_000_000u64, 1 => any::<u64>()];
    let limited = prop::bool::weighted(0.2);
    prop_oneof![
        4 => age.clone().prop_map(Call::Wait),
        1 => age.clone().prop_map(Call::Back),
        8 => bytes.clone().prop_map(Call::Sent),
        8 => (age.clone(), bytes.clone(), limited)
            .prop_map(|(age_us, bytes, limited)| Call::Ack { age_us, bytes, limited }),
        8 => (in_flight, limited)
            .prop_map(|(in_flight, limited)| Call::EndAcks { in_flight, limited }),
        4 => (age, bytes, prop::bool::weighted(0.1))
            .prop_map(|(age_us, bytes, persistent)| Call::Lost { age_us, bytes, persistent }),
        1 => (1_200..=16_000u16).prop_map(Call::Mtu),
        1 => Just(Call::Detour),
        1 => any::<bool>().prop_map(Call::Yield),
    ]
}

proptest! {
    #[test]
    fn no_order_of_calls_breaks_it(calls in prop::collection::vec(call(), 1..300)) {
        // The estimates of two paths; both come to both controllers.
        static ESTIMATES: Mutex<Vec<RttEstimator>> = Mutex::new(Vec::new());
        let mut estimates = ESTIMATES.lock().unwrap();
        if estimates.is_empty() {
            *estimates = vec![estimate(0.5), estimate(100.0)];
        }
        for rtt in estimates.iter() {
            run(&calls, rtt);
        }
    }
}

fn run(calls: &[Call], rtt: &RttEstimator) {
    let cues = Cues::default();
    let mut now = Instant::now() + 1_000_000 * SECOND;
    let factory = WithCues {
        factory: ours(1),
        cues: cues.clone(),
    };
    let (mut mtu, mut behind) = (1_200, Duration::ZERO);
    let mut controller = Arc::new(factory).build(now, mtu);
    for call in calls {
        let at = now - std::mem::take(&mut behind);
        let sent = |age_us| at - Duration::from_micros(age_us);
        match *call {
            Call::Wait(us) => now += Duration::from_micros(us),
            Call::Back(us) => behind = Duration::from_micros(us),
            Call::Sent(bytes) => controller.on_sent(at, bytes, 0),
            Call::Ack {
                age_us,
                bytes,
                limited,
            } => {
                controller.on_ack(at, sent(age_us), bytes, limited, rtt);
            }
            Call::EndAcks { in_flight, limited } => {
                controller.on_end_acks(at, in_flight, limited, None);
            }
            Call::Lost {
                age_us,
                bytes,
                persistent,
            } => {
                controller.on_congestion_event(at, sent(age_us), persistent, bytes);
            }
            Call::Mtu(new) => {
                mtu = new;
                controller.on_mtu_update(new);
            }
            Call::Detour => cues.take_detour(at),
            Call::Yield(yields) => cues.set_yielding(yields),
        }
        assert!(
            controller.window() >= 2 * u64::from(mtu),
            "{}",
            controller.window()
        );
        controller.metrics();
        controller = controller.clone_box();
    }
}

/// What quinn knows of a path of `rtt_ms` after a while: nobody else can make one.
fn estimate(rtt_ms: f64) -> RttEstimator {
    let seen = Arc::new(Mutex::new(None));
    let spy = Spy(Arc::clone(&seen));
    let mut lab = Lab::new(Setting::new(10.0, rtt_ms, 0.0, 1.0));
    let flow = lab.add_with(Arc::new(spy), Cues::default(), MIB);
    lab.run_until(flow, MIB, 10 * SECOND).unwrap();
    seen.lock().unwrap().unwrap()
}

/// Keeps what it is told of round trips.
#[derive(Clone)]
struct Spy(Arc<Mutex<Option<RttEstimator>>>);

impl ControllerFactory for Spy {
    fn build(self: Arc<Self>, _now: Instant, _current_mtu: u16) -> Box<dyn Controller> {
        self.clone_box()
    }
}

impl Controller for Spy {
    fn on_ack(&mut self, _: Instant, _: Instant, _: u64, _: bool, rtt: &RttEstimator) {
        *self.0.lock().unwrap() = Some(*rtt);
    }

    fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: u64) {}

    fn on_mtu_update(&mut self, _: u16) {}

    fn window(&self) -> u64 {
        INITIAL_WINDOW_BYTES
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        INITIAL_WINDOW_BYTES
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
