//! Which of two controllers decides, by how long the path is: CUBIC (RFC 9438) below 2 ms, [`Model`]
//! otherwise.
//!
//! On a path that short, what timers and batches make of a packet's time is as much as the path, so that
//! a model of it would be one of this machine; and losses are few and of queues. On longer ones CUBIC is
//! as slow as losses make it: 0.3 MB/s at 100 ms and 1 %, whatever the link could carry.
//!
//! The time is measured, by connection. Addresses say little: a VPN makes the other end of the world
//! private, and a neighbour may have a public address.

mod length;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig};
use quinn_proto::RttEstimator;

use super::model::Model;
use length::{Length, Looks};

/// Makes those controllers.
#[derive(Debug)]
pub(crate) struct ByRttConfig {
    /// What may leave in the first round trip, in bytes.
    pub(crate) initial_window: u64,
    /// From which connections draw when to probe.
    pub(crate) seed: u64,
}

impl ControllerFactory for ByRttConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let model = Model::new(now, current_mtu, self.initial_window, self.seed);
        Box::new(ByRtt {
            config: self,
            mtu: current_mtu,
            length: Length::new(now),
            newest: None,
            smoothed: Duration::MAX,
            decides: Decides::Model(Box::new(model)),
        })
    }
}

/// The controller of one connection.
#[derive(Clone, Debug)]
pub(crate) struct ByRtt {
    config: Arc<ByRttConfig>,
    mtu: u16,
    length: Length,
    /// When the newest was sent of the packets that are acknowledged together.
    newest: Option<Instant>,
    /// The round trip as QUIC knows it.
    smoothed: Duration,
    decides: Decides,
}

#[derive(Clone, Debug)]
enum Decides {
    Cubic(Box<Cubic>),
    Model(Box<Model>),
}

impl ByRtt {
    /// Whether CUBIC decides.
    #[cfg(test)]
    pub(crate) fn is_cubic(&self) -> bool {
        matches!(self.decides, Decides::Cubic(_))
    }

    /// Lets the other one decide if the path is not as long as it seemed. It begins with the window that
    /// there is.
    fn choose(&mut self, now: Instant) {
        let window = self.window().max(self.config.initial_window);
        match (&self.decides, self.length.is_short()) {
            (Decides::Model(_), true) => {
                let mut cubic = CubicConfig::default();
                cubic.initial_window(window);
                let cubic = Cubic::new(Arc::new(cubic), now, self.mtu);
                self.decides = Decides::Cubic(Box::new(cubic));
            }
            (Decides::Cubic(_), false) => {
                let model = Model::new(now, self.mtu, window, self.config.seed);
                self.decides = Decides::Model(Box::new(model));
            }
            _ => (),
        }
    }
}

impl Controller for ByRtt {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        if let Decides::Model(model) = &mut self.decides {
            model.sent(now, bytes);
        }
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.newest = self.newest.max(Some(sent));
        self.smoothed = rtt.get();
        match &mut self.decides {
            Decides::Cubic(cubic) => {
                let limited = app_limited || self.length.looks() != Looks::No;
                cubic.on_ack(now, sent, bytes, limited, rtt);
            }
            Decides::Model(model) => model.acked(sent, bytes),
        }
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        _largest_packet_num_acked: Option<u64>,
    ) {
        if let Decides::Model(model) = &mut self.decides {
            model.end_acks(now, in_flight, app_limited);
        }
        if let Some(sent) = self.newest.take() {
            let is_low = in_flight <= self.window();
            self.length.sample(now, sent, self.smoothed, is_low);
            self.choose(now);
        }
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        let persistent = is_persistent_congestion;
        match &mut self.decides {
            Decides::Cubic(cubic) => cubic.on_congestion_event(now, sent, persistent, lost_bytes),
            Decides::Model(model) => model.lost(now, sent, lost_bytes, persistent),
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu;
        match &mut self.decides {
            Decides::Cubic(cubic) => cubic.on_mtu_update(new_mtu),
            Decides::Model(model) => model.set_mtu(new_mtu),
        }
    }

    fn window(&self) -> u64 {
        match &self.decides {
            Decides::Cubic(cubic) => self.length.window(cubic.window(), self.mtu),
            Decides::Model(model) => model.window(),
        }
    }

    fn metrics(&self) -> ControllerMetrics {
        match &self.decides {
            Decides::Cubic(cubic) => cubic.metrics(),
            Decides::Model(model) => {
                let mut metrics = ControllerMetrics::default();
                metrics.congestion_window = model.window();
                metrics.pacing_rate = model.pacing_rate().map(|rate| (8.0 * rate) as u64);
                metrics
            }
        }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.config.initial_window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
