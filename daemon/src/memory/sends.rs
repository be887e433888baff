//! Divides send windows among the peers that are being served.
//!
//! A peer's part follows what its path takes: twice the congestion window, and a piece that waits to be
//! written. Where that is too much for all, it is divided max-min fairly. A window that was lowered takes
//! effect as its bytes are acknowledged; until that is seen they count, and nobody else gets them. So
//! what all windows hold never exceeds the whole, and a peer that acknowledges nothing keeps what it has
//! from the others until its connection ends.
//!
//! All bytes here are beyond [`IDLE_WINDOW_BYTES`], which every connection has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use warren_net::{Connection, IDLE_WINDOW_BYTES};

use super::division::divide;
use crate::peer::session::SessionId;

/// What one peer wants before anything is known of its path: what may leave in the first round trip,
/// twice, and a piece.
const FIRST_WANT: u64 = 512 << 10;

/// A piece that waits to be written.
const PIECE_BYTES: u64 = 256 << 10;

/// Send windows of one daemon.
#[derive(Clone, Debug)]
pub(crate) struct Sends(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    whole: u64,
    seats: Mutex<BTreeMap<SessionId, Seat>>,
}

/// A peer that is being served.
#[derive(Debug)]
struct Seat {
    connection: Connection,
    /// Answers on their way to it.
    answers: usize,
    part: Part,
}

/// What a peer may hold.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    wants: u64,
    /// What may be written.
    window: u64,
    /// What may have been written and not been acknowledged; at least the window.
    held: u64,
    /// Counts changes of the window.
    changes: u64,
}

/// A window as it was when something began to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u64);

/// One answer on its way to a peer, from before it is written until it is acknowledged.
#[derive(Debug)]
pub(crate) struct Sending {
    sends: Sends,
    session: SessionId,
    connection: Connection,
}

impl Sends {
    pub(super) fn new(whole: u64) -> Sends {
        let seats = Mutex::default();
        Sends(Arc::new(Shared { whole, seats }))
    }

    /// What one peer may have when no other wants any: so much that one whose path died leaves others
    /// something.
    pub(crate) fn most_of_one(&self) -> u64 {
        self.0.whole / 3 * 2
    }

    /// Begins to serve a peer. To be kept until what was written is acknowledged, or never will be.
    pub(crate) fn begin(&self, session: SessionId, connection: &Connection) -> Sending {
        let mut seats = self.seats();
        let seat = seats.entry(session).or_insert_with(|| Seat {
            connection: connection.clone(),
            answers: 0,
            part: Part::default(),
        });
        seat.answers += 1;
        if seat.answers == 1 {
            seat.part.wants = FIRST_WANT.min(self.most_of_one());
            self.settle(&mut seats);
        }
        Sending {
            sends: self.clone(),
            session,
            connection: connection.clone(),
        }
    }

    /// Divides anew, and tells QUIC.
    fn settle(&self, seats: &mut BTreeMap<SessionId, Seat>) {
        let mut parts: Vec<Part> = seats.values().map(|seat| seat.part).collect();
        settle(self.0.whole, &mut parts);
        for (seat, part) in seats.values_mut().zip(parts) {
            if part.changes != seat.part.changes {
                set_window(&seat.connection, part.window);
            }
            seat.part = part;
        }
    }

    fn seats(&self) -> MutexGuard<'_, BTreeMap<SessionId, Seat>> {
        self.0.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set_window(connection: &Connection, bytes: u64) {
    connection.set_send_window(u64::from(IDLE_WINDOW_BYTES) + bytes);
}

impl Sending {
    /// Something is about to be written: looks at what the path takes by now.
    pub(crate) fn mark(&self) -> Mark {
        let under_way = self.connection.quinn().stats().path.cwnd;
        let mut seats = self.sends.seats();
        let Some(seat) = seats.get_mut(&self.session) else {
            return Mark(u64::MAX);
        };
        let wants = 2u64.saturating_mul(under_way).saturating_add(PIECE_BYTES);
        let wants = wants.min(self.sends.most_of_one());
        let is_news = wants.abs_diff(seat.part.wants) > seat.part.wants / 8;
        if is_news {
            seat.part.wants = wants;
            self.sends.settle(&mut seats);
        }
        Mark(
            seats
                .get(&self.session)
                .map_or(u64::MAX, |seat| seat.part.changes),
        )
    }

    /// It has been written: no more than the window is unacknowledged now.
    pub(crate) fn wrote(&self, mark: Mark) {
        let mut seats = self.sends.seats();
        let Some(seat) = seats.get_mut(&self.session) else {
            return;
        };
        if seat.part.changes == mark.0 && seat.part.held > seat.part.window {
            seat.part.held = seat.part.window;
            self.sends.settle(&mut seats);
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut seats = self.sends.seats();
        let Some(seat) = seats.get_mut(&self.session) else {
            return;
        };
        seat.answers -= 1;
        if seat.answers == 0 {
            set_window(&seat.connection, 0);
            seats.remove(&self.session);
            self.sends.settle(&mut seats);
        }
    }
}

/// Divides `whole` anew. What is held never exceeds it.
fn settle(whole: u64, parts: &mut [Part]) {
    let wants: Vec<_> = parts.iter().map(|part| part.wants).collect();
    let fair = divide(whole, &wants);
    // Who holds more than its part gives it back in time; until then the others divide the rest.
    let (mut left, mut others) = (whole, Vec::new());
    for (index, part) in parts.iter_mut().enumerate() {
        if part.held > fair[index] {
            part.set(fair[index]);
            left -= part.held;
        } else {
            others.push(index);
        }
    }
    let wants: Vec<_> = others.iter().map(|index| parts[*index].wants).collect();
    let mut others: Vec<_> = others.into_iter().zip(divide(left, &wants)).collect();
    // Who has nothing yet comes first where not all of it is free yet.
    others.sort_by_key(|(index, _)| parts[*index].held);
    let mut free = whole - parts.iter().map(|part| part.held).sum::<u64>();
    for (index, fair) in others {
        let part = &mut parts[index];
        let more = fair.saturating_sub(part.held).min(free);
        free -= more;
        part.held += more;
        part.set(fair.min(part.held));
    }
}

impl Part {
    fn set(&mut self, window: u64) {
        if window != self.window {
            self.window = window;
            self.changes += 1;
        }
    }
}

#[cfg(test)]
mod tests;
