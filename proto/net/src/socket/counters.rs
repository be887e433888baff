//! What the socket dropped or swallowed.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the socket dropped or swallowed since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketCounters {
    /// Receive errors, usually ICMP messages about something sent earlier.
    pub receive_errors: u64,
    /// Send errors; also a full socket buffer where quinn cannot wait for it: beside QUIC, and by a
    /// further socket.
    pub send_errors: u64,
    /// Non-QUIC datagrams that nobody wanted, that found the queue full, or that are too long; and
    /// relayed ones of a session that is none.
    pub stray: u64,
    /// QUIC packets that belonged to no connection and were not let in.
    pub strangers: u64,
    /// Batches that quinn sent on a route without a path.
    pub unrouted: u64,
    /// Relayed datagrams of a session that found a queue full: the tunnel's on their way out, ours
    /// on their way in, or that of whoever forwards them.
    pub relay_overflow: u64,
}

/// The counters while they count.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) receive_errors: Counter,
    pub(super) send_errors: Counter,
    pub(super) stray: Counter,
    pub(super) strangers: Counter,
    pub(super) unrouted: Counter,
    pub(super) relay_overflow: Counter,
}

/// Only ever goes up.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// How far they are.
    pub(super) fn read(&self) -> SocketCounters {
        SocketCounters {
            receive_errors: self.receive_errors.read(),
            send_errors: self.send_errors.read(),
            stray: self.stray.read(),
            strangers: self.strangers.read(),
            unrouted: self.unrouted.read(),
            relay_overflow: self.relay_overflow.read(),
        }
    }
}
