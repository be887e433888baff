//! What a controller of congestion is told from outside: that a connection goes by another path, and
//! that it is to yield to whatever else is on its path.
//!
//! When a path dies under a full window, all of it counts as under way, and nothing more may leave
//! but QUIC's probes, which come ever more rarely (RFC 9002 §6.2.1). Once another path is found,
//! [`Cues::take_detour`] lets a packet or two out at once: their acknowledgement tells QUIC what was lost. That
//! was no congestion, so the controller does not hear of it, and what it knew was of the old path: a new
//! one begins.
//!
//! While a connection yields, [`Ledbat`] decides alone; what would decide otherwise goes on hearing
//! everything, as of a sender that has little to send.

mod by_rtt;
#[cfg(test)]
mod lab;
mod ledbat;
mod model;

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

pub(crate) use by_rtt::ByRttConfig;
use ledbat::Ledbat;

/// What may leave beyond the window after a change of path: two packets of the usual size, though
/// QUIC asks before a batch and not before each packet.
const SPARE_BYTES: u64 = 3_000;

/// More than is ever under way: what a connection may have sent and not acknowledged is bounded.
const ANY_BYTES: u64 = 1 << 30;

/// What is told to the controller of one connection; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cues(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    spare_bytes: AtomicU64,
    /// Since when the connection goes by its path, if that is not the first.
    latest: Mutex<Option<Instant>>,
    /// How often it went by another.
    detours: AtomicU64,
    yields: AtomicBool,
}

impl Cues {
    /// The connection goes by another path now: a little may leave whatever is under way.
    pub(crate) fn take_detour(&self, now: Instant) {
        self.0.spare_bytes.store(SPARE_BYTES, Ordering::Relaxed);
        *self.latest() = Some(now);
        self.0.detours.fetch_add(1, Ordering::Release);
    }

    /// The connection leaves the path to others from now on, or not any more.
    pub(crate) fn set_yielding(&self, yields: bool) {
        self.0.yields.store(yields, Ordering::Relaxed);
    }

    fn is_yielding(&self) -> bool {
        self.0.yields.load(Ordering::Relaxed)
    }

    /// Whether that little has not left yet.
    fn is_open(&self) -> bool {
        self.0.spare_bytes.load(Ordering::Relaxed) > 0
    }

    fn sent(&self, bytes: u64) {
        if self.is_open() {
            let less = |left: u64| Some(left.saturating_sub(bytes));
            // It always has a new value.
            let _ = self
                .0
                .spare_bytes
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    fn detours(&self) -> u64 {
        self.0.detours.load(Ordering::Acquire)
    }

    fn latest(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes controllers that heed cues.
pub(crate) struct WithCues {
    pub(crate) factory: Arc<dyn ControllerFactory + Send + Sync>,
    pub(crate) cues: Cues,
}

impl ControllerFactory for WithCues {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Cued {
            inner: Arc::clone(&self.factory).build(now, current_mtu),
            factory: Arc::clone(&self.factory),
            path: Path::of(&self.cues),
            cues: self.cues.clone(),
            ledbat: None,
            mtu: current_mtu,
        })
    }
}

/// A controller, and what it hears nothing of.
struct Cued {
    inner: Box<dyn Controller>,
    /// Makes the next one.
    factory: Arc<dyn ControllerFactory + Send + Sync>,
    path: Path,
    cues: Cues,
    /// Decides while the connection yields.
    ledbat: Option<Ledbat>,
    mtu: u16,
}

/// What a controller takes for the path of its connection.
#[derive(Clone, Copy)]
struct Path {
    /// How many there were before.
    number: u64,
    since: Option<Instant>,
}

impl Path {
    fn of(cues: &Cues) -> Self {
        Path {
            number: cues.detours(),
            since: *cues.latest(),
        }
    }

    /// Whether what was sent then went by an earlier one.
    fn is_past(&self, sent: Instant) -> bool {
        self.since.is_some_and(|since| sent < since)
    }
}

impl Cued {
    /// Begins anew if the connection goes by another path.
    fn follow(&mut self, now: Instant) {
        if self.cues.detours() != self.path.number {
            self.path = Path::of(&self.cues);
            self.inner = Arc::clone(&self.factory).build(now, self.mtu);
        }
    }

    /// Begins to yield, or ends it, if that was said.
    fn heed(&mut self, now: Instant, rtt: &RttEstimator) {
        match (&self.ledbat, self.cues.is_yielding()) {
            (None, true) => self.ledbat = Some(Ledbat::new(now, self.mtu, rtt.min())),
            (Some(_), false) => self.ledbat = None,
            _ => (),
        }
    }
}

impl fmt::Debug for Cued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cued")
            .field("window", &self.window())
            .finish_non_exhaustive()
    }
}

impl Controller for Cued {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.follow(now);
        self.cues.sent(bytes);
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.follow(now);
        self.heed(now, rtt);
        if let Some(ledbat) = &mut self.ledbat {
            ledbat.acked(sent, bytes, rtt.get());
        }
        let limited = app_limited || self.ledbat.is_some();
        if !self.path.is_past(sent) {
            self.inner.on_ack(now, sent, bytes, limited, rtt);
        }
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        if let Some(ledbat) = &mut self.ledbat {
            ledbat.end_acks(now, app_limited);
        }
        let (largest, limited) = (
            largest_packet_num_acked,
            app_limited || self.ledbat.is_some(),
        );
        self.inner.on_end_acks(now, in_flight, limited, largest);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.follow(now);
        if self.path.is_past(sent) {
            return;
        }
        let persistent = is_persistent_congestion;
        if let Some(ledbat) = &mut self.ledbat {
            ledbat.lost(now, sent, persistent);
        }
        self.inner
            .on_congestion_event(now, sent, persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu;
        if let Some(ledbat) = &mut self.ledbat {
            ledbat.set_mtu(new_mtu);
        }
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        match &self.ledbat {
            _ if self.cues.is_open() => ANY_BYTES,
            Some(ledbat) => ledbat.window(),
            None => self.inner.window(),
        }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Cued {
            inner: self.inner.clone_box(),
            factory: Arc::clone(&self.factory),
            path: self.path,
            cues: self.cues.clone(),
            ledbat: self.ledbat.clone(),
            mtu: self.mtu,
        })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.inner.into_any()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quinn::congestion::CubicConfig;

    use super::*;

    #[test]
    fn a_detour_lets_a_little_leave_whatever_is_under_way() {
        let (cues, mut controller) = controller();
        let (now, window) = (Instant::now(), controller.window());
        cues.take_detour(now);
        let mut copy = controller.clone_box();
        assert_eq!(controller.window(), ANY_BYTES);
        copy.on_sent(now, 1_400, 1);
        assert_eq!(controller.window(), ANY_BYTES);
        controller.on_sent(now, 1_600, 2);
        assert_eq!([controller.window(), copy.window()], [window; 2]);
    }

    #[test]
    fn what_was_lost_on_an_earlier_path_is_no_congestion() {
        let (cues, mut controller) = controller();
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        cues.take_detour(later);
        controller.on_sent(later, SPARE_BYTES, 1);
        let window = controller.window();
        controller.on_congestion_event(later, start, false, 1200);
        assert_eq!(controller.window(), window);
        controller.on_congestion_event(later, later, false, 1200);
        assert!(controller.window() < window);
    }

    fn controller() -> (Cues, Box<dyn Controller>) {
        let cues = Cues::default();
        let factory = Arc::new(WithCues {
            factory: Arc::new(CubicConfig::default()),
            cues: cues.clone(),
        });
        (cues, factory.build(Instant::now(), 1200))
    }
}
