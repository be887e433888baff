//! A network on virtual time between real QUIC connections: one bottleneck, which all of them share.
//!
//! Nothing of QUIC is modelled. Both ends of a flow are connections of quinn-proto, which knows neither
//! sockets nor clocks: its pacer, its loss detection, its acknowledgements (one for ten packets, or after
//! 25 ms) and its round-trip times are what our controllers get in real life, and what competes is
//! quinn's CUBIC. Timers fire as tokio's do, at whole milliseconds. The same seed gives the same run.

mod calls;
mod changes;
mod fairness;
mod grid;
mod host;
mod link;
mod senders;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig};
use quinn_proto::Connection;

use super::by_rtt::ByRtt;
use super::{ByRttConfig, Cues, WithCues};
use crate::transport::INITIAL_WINDOW_BYTES;
use host::{Datagram, Host};
use link::Link;

const MIB: u64 = 1 << 20;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What a bottleneck holds at least: two bursts of quinn's pacer. Shorter queues overflow with any sender
/// that has a timer.
const LEAST_BUFFER: f64 = 20.0 * 1_494.0;

/// A path, and what it does.
#[derive(Clone, Copy, Debug)]
struct Setting {
    mbit: f64,
    rtt_ms: f64,
    /// Of packets each way, at random.
    loss_percent: f64,
    /// What the bottleneck holds, in bandwidth-delay products.
    buffer: f64,
    seed: u64,
}

impl Setting {
    fn new(mbit: f64, rtt_ms: f64, loss_percent: f64, buffer: f64) -> Self {
        let seed = 1;
        Setting {
            mbit,
            rtt_ms,
            loss_percent,
            buffer,
            seed,
        }
    }
}

/// Who sends, and with which controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    /// quinn's, as it comes: others'.
    Cubic,
    /// quinn's.
    Bbr,
}

/// One connection: a sender and a receiver.
struct Flow {
    cues: Cues,
    ends: [Host; 2],
}

impl Flow {
    /// Bytes of content that have come.
    fn received(&self) -> u64 {
        self.ends[1].received
    }

    fn sender(&self) -> &Connection {
        self.ends[0].connection().expect("it has dialled")
    }
}

/// Which flow, and which end of it.
type Place = (usize, usize);

/// The network.
struct Lab {
    begun: Instant,
    now: Instant,
    setting: Setting,
    /// Where all content passes, and where all acknowledgements do.
    there: Link,
    back: Link,
    flows: Vec<Flow>,
    under_way: BTreeMap<(Instant, u64), (Place, Datagram)>,
    count: u64,
}

impl Lab {
    fn new(setting: Setting) -> Self {
        let now = Instant::now();
        let mut there = Link::new(now, setting.mbit, setting.seed);
        let mut back = Link::new(now, 100.0 * setting.mbit, !setting.seed);
        for link in [&mut there, &mut back] {
            link.delay = Duration::from_secs_f64(setting.rtt_ms / 2e3);
            link.loss = setting.loss_percent / 100.0;
        }
        let product = setting.mbit * 125.0 * setting.rtt_ms;
        there.buffer_bytes = (setting.buffer * product).max(LEAST_BUFFER);
        Lab {
            begun: now,
            now,
            setting,
            there,
            back,
            flows: Vec::new(),
            under_way: BTreeMap::new(),
            count: 0,
        }
    }

    /// Begins a flow that has so many bytes to send. Its number.
    fn add(&mut self, kind: Kind, bytes: u64) -> usize {
        let cues = Cues::default();
        let number = self.flows.len();
        let factory = WithCues {
            factory: match kind {
                Kind::Ours => ours(self.setting.seed + number as u64),
                Kind::Cubic => Arc::new(CubicConfig::default()),
                Kind::Bbr => bbr(),
            },
            cues: cues.clone(),
        };
        self.add_with(Arc::new(factory), cues, bytes)
    }

    fn add_with(
        &mut self,
        factory: Arc<dyn ControllerFactory + Send + Sync>,
        cues: Cues,
        bytes: u64,
    ) -> usize {
        let number = self.flows.len();
        let receiver = Host::listen(number);
        // A few times what the path holds, and more than a path that comes later does.
        let most = 3.0 * (self.product() + self.there.buffer_bytes) + 4.0 * MIB as f64;
        let mut sender = Host::dial(self.now, number, factory, most as u64);
        sender.to_send = bytes;
        let ends = [sender, receiver];
        self.flows.push(Flow { cues, ends });
        self.drive((number, 0));
        number
    }

    /// Bytes that the path holds without a queue.
    fn product(&self) -> f64 {
        self.there.bytes_per_s * (self.there.delay + self.back.delay).as_secs_f64()
    }

    fn set_rtt_ms(&mut self, rtt_ms: f64) {
        let delay = Duration::from_secs_f64(rtt_ms / 2e3);
        (self.there.delay, self.back.delay) = (delay, delay);
    }

    /// There is more to send.
    fn write(&mut self, flow: usize, bytes: u64) {
        self.flows[flow].ends[0].to_send = bytes;
        self.drive((flow, 0));
    }

    /// Bytes that a sender may have under way.
    fn window(&self, flow: usize) -> u64 {
        self.flows[flow].sender().congestion_state().window()
    }

    /// Whether CUBIC decides for a flow of ours.
    fn is_cubic(&self, flow: usize) -> bool {
        let controller = self.flows[flow].sender().congestion_state().clone_box();
        let ours = controller.into_any().downcast::<ByRtt>();
        ours.expect("it is ours").is_cubic()
    }

    /// Until then, or for as long as `goes_on`.
    fn run_while(&mut self, span: Duration, goes_on: impl Fn(&Lab) -> bool) {
        let end = self.now + span;
        while goes_on(self) {
            let Some(next) = self.next().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn run(&mut self, span: Duration) {
        self.run_while(span, |_| true);
    }

    /// Until a flow has brought so many bytes: seconds since now, or nothing if `most` did not do.
    fn run_until(&mut self, flow: usize, bytes: u64, most: Duration) -> Option<f64> {
        let begun = self.now;
        self.run_while(most, |lab| lab.flows[flow].received() < bytes);
        let is_done = self.flows[flow].received() >= bytes;
        is_done.then(|| (self.now - begun).as_secs_f64())
    }

    /// What a flow brings of the link for so long.
    fn share(&mut self, flow: usize, span: Duration) -> f64 {
        self.shares(&[flow], span)[0]
    }

    /// What flows bring of the link for so long.
    fn shares(&mut self, flows: &[usize], span: Duration) -> Vec<f64> {
        let received = |lab: &Lab| -> Vec<u64> {
            flows
                .iter()
                .map(|flow| lab.flows[*flow].received())
                .collect()
        };
        let before = received(self);
        self.run(span);
        let whole = self.there.bytes_per_s * span.as_secs_f64();
        let after = received(self);
        before
            .iter()
            .zip(after)
            .map(|(before, after)| (after - before) as f64 / whole)
            .collect()
    }

    fn next(&self) -> Option<Instant> {
        let first = self.under_way.first_key_value().map(|((at, _), _)| *at);
        let ends = self.flows.iter().flat_map(|flow| &flow.ends);
        ends.filter_map(|end| end.wakes).chain(first).min()
    }

    /// Everything that is due.
    fn step(&mut self) {
        while let Some(entry) = self.under_way.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let ((flow, end), datagram) = entry.remove();
            self.flows[flow].ends[end].receive(self.now, datagram);
            self.drive((flow, end));
        }
        for place in (0..self.flows.len()).flat_map(|flow| [(flow, 0), (flow, 1)]) {
            let end = &mut self.flows[place.0].ends[place.1];
            if end.wakes.is_some_and(|wakes| wakes <= self.now) {
                end.wake(self.now);
                self.drive(place);
            }
        }
    }

    /// Sends what an end has to send.
    fn drive(&mut self, (flow, end): Place) {
        let mut datagrams = Vec::new();
        self.flows[flow].ends[end].drive(self.now, self.begun, &mut datagrams);
        let link = if end == 0 {
            &mut self.there
        } else {
            &mut self.back
        };
        for mut datagram in datagrams {
            if let Some(at) = link.pass(self.now, &mut datagram) {
                self.count += 1;
                let to = (flow, 1 - end);
                self.under_way.insert((at, self.count), (to, datagram));
            }
        }
    }
}

/// What peers use.
fn ours(seed: u64) -> Arc<dyn ControllerFactory + Send + Sync> {
    Arc::new(ByRttConfig {
        initial_window: INITIAL_WINDOW_BYTES,
        seed,
    })
}

/// With the same first window as ours.
fn bbr() -> Arc<dyn ControllerFactory + Send + Sync> {
    let mut bbr = BbrConfig::default();
    bbr.initial_window(INITIAL_WINDOW_BYTES);
    Arc::new(bbr)
}
