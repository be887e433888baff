//! What a controller of congestion is told when a connection goes by another path.
//!
//! When a path dies under a full window, all of it counts as under way, and nothing more may leave
//! but QUIC's probes, which come ever more rarely (RFC 9002 §6.2.1). Once another path is found,
//! [`Detour`] lets a packet or two out at once: their acknowledgement tells QUIC what was lost. That
//! was no congestion, so the controller does not hear of it.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

/// What may leave beyond the window after a change of path: two packets of the usual size, though
/// QUIC asks before a batch and not before each packet.
const SPARE_BYTES: u64 = 3_000;

/// More than is ever under way: what a connection may have sent and not acknowledged is bounded.
const ANY_BYTES: u64 = 1 << 30;

/// The changes of path of one connection; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Detour(Arc<Changes>);

#[derive(Debug, Default)]
struct Changes {
    spare_bytes: AtomicU64,
    latest: Mutex<Option<Instant>>,
}

impl Detour {
    /// The connection goes by another path now: a little may leave whatever is under way.
    pub(crate) fn take(&self, now: Instant) {
        self.0.spare_bytes.store(SPARE_BYTES, Ordering::Relaxed);
        *self.latest() = Some(now);
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

    /// Whether what was sent then went by an earlier path.
    fn is_past(&self, sent: Instant) -> bool {
        self.latest().is_some_and(|latest| sent < latest)
    }

    fn latest(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes controllers that know of detours.
pub(crate) struct WithDetour {
    pub(crate) factory: Arc<dyn ControllerFactory + Send + Sync>,
    pub(crate) detour: Detour,
}

impl ControllerFactory for WithDetour {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Detoured {
            inner: Arc::clone(&self.factory).build(now, current_mtu),
            detour: self.detour.clone(),
        })
    }
}

/// A controller and the detours it hears nothing of.
struct Detoured {
    inner: Box<dyn Controller>,
    detour: Detour,
}

impl fmt::Debug for Detoured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detoured")
            .field("window", &self.window())
            .finish_non_exhaustive()
    }
}

impl Controller for Detoured {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.detour.sent(bytes);
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
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        let largest = largest_packet_num_acked;
        self.inner.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        if !self.detour.is_past(sent) {
            let persistent = is_persistent_congestion;
            self.inner
                .on_congestion_event(now, sent, persistent, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        match self.detour.is_open() {
            true => ANY_BYTES,
            false => self.inner.window(),
        }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Detoured {
            inner: self.inner.clone_box(),
            detour: self.detour.clone(),
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
        let (detour, mut controller) = controller();
        let (now, window) = (Instant::now(), controller.window());
        detour.take(now);
        let mut copy = controller.clone_box();
        assert_eq!(controller.window(), ANY_BYTES);
        copy.on_sent(now, 1_400, 1);
        assert_eq!(controller.window(), ANY_BYTES);
        controller.on_sent(now, 1_600, 2);
        assert_eq!([controller.window(), copy.window()], [window; 2]);
    }

    #[test]
    fn what_was_lost_on_an_earlier_path_is_no_congestion() {
        let (detour, mut controller) = controller();
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        detour.take(later);
        controller.on_sent(later, SPARE_BYTES, 1);
        let window = controller.window();
        controller.on_congestion_event(later, start, false, 1200);
        assert_eq!(controller.window(), window);
        controller.on_congestion_event(later, later, false, 1200);
        assert!(controller.window() < window);
    }

    fn controller() -> (Detour, Box<dyn Controller>) {
        let detour = Detour::default();
        let factory = Arc::new(WithDetour {
            factory: Arc::new(CubicConfig::default()),
            detour: detour.clone(),
        });
        (detour, factory.build(Instant::now(), 1200))
    }
}
