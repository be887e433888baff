//! What reaches quinn by another way than the socket that it polls.
//!
//! A bounded queue beside the kernel's. quinn asks for both with one poll, so whoever hands
//! something in has to wake it: [`Inbox::register`] comes before every look into the queue, and
//! what is handed in after that look wakes.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use quinn::udp::RecvMeta;

use super::routes::RouteId;

/// Batches waiting. At 100 Mbit/s and one datagram each, 0.1 s in which quinn does not get to run.
const QUEUE: usize = 1024;

/// Bytes waiting: as many datagrams of the usual size.
const QUEUE_BYTES: usize = QUEUE * 1500;

/// Datagrams of one route, and how they are cut.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) route: RouteId,
    /// Length of each but the last, which may be shorter.
    pub(super) stride: usize,
    pub(super) bytes: Bytes,
}

/// The queue. One task takes out; anyone puts in.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    /// Whether something is in the queue, for whom the lock is too dear.
    waiting: AtomicBool,
    reader: AtomicWaker,
}

#[derive(Debug, Default)]
struct Queue {
    arrivals: VecDeque<Arrival>,
    bytes: usize,
}

impl Inbox {
    /// Wakes the reader for what is handed in from now on.
    pub(super) fn register(&self, reader: &Waker) {
        self.reader.register(reader);
    }

    /// Makes the reader look again.
    pub(super) fn wake(&self) {
        self.reader.wake();
    }

    /// Whether there is anything to take. Costs nothing while there is not.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Hands in; false if there is no room.
    pub(super) fn push(&self, arrival: Arrival) -> bool {
        let mut queue = self.queue();
        let bytes = queue.bytes + arrival.bytes.len();
        if queue.arrivals.len() == QUEUE || bytes > QUEUE_BYTES {
            return false;
        }
        queue.bytes = bytes;
        queue.arrivals.push_back(arrival);
        self.waiting.store(true, Ordering::Release);
        drop(queue);
        self.wake();
        true
    }

    /// The oldest of what was handed in.
    pub(super) fn pop(&self) -> Option<Arrival> {
        let mut queue = self.queue();
        let arrival = queue.arrivals.pop_front()?;
        queue.bytes -= arrival.bytes.len();
        self.waiting
            .store(!queue.arrivals.is_empty(), Ordering::Release);
        Some(arrival)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrival {
    /// Copies it to where quinn reads; false if it is too long for that.
    pub(super) fn fill(&self, buf: &mut IoSliceMut<'_>, meta: &mut RecvMeta) -> bool {
        let Some(room) = buf.get_mut(..self.bytes.len()) else {
            return false;
        };
        room.copy_from_slice(&self.bytes);
        *meta = RecvMeta::default();
        (meta.len, meta.stride) = (self.bytes.len(), self.stride);
        true
    }
}
