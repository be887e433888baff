//! Divides send windows among the peers that are being served.
//!
//! A peer's part follows what its path takes: twice the congestion window, and a piece that waits to be
//! written. Where that is too much for all, it is divided max-min fairly. A window that was lowered takes
//! effect as its bytes are acknowledged; until a write shows it they count, and nobody else gets them. So
//! what all windows hold never exceeds the whole. Who owes some of it to others and acknowledges nothing
//! for [`PATIENCE`] loses its connection.
//!
//! All bytes here are beyond [`IDLE_WINDOW_BYTES`], which every connection has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use warren_net::{Connection, IDLE_WINDOW_BYTES};

use super::division::divide;
use super::pieces::PIECE_BYTES;
use crate::peer::Close;
use crate::peer::session::SessionId;

/// What one peer wants before anything is known of its path: what may leave in the first round trip,
/// twice, and a piece.
const FIRST_WANT: u64 = 1 << 20;

/// For so long a peer may hold what others lack without any write to it going through: as long as QUIC
/// keeps a connection on which nothing comes.
const PATIENCE: Duration = Duration::from_secs(30);

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
    /// Answers on their way to it, by number; of each that is being written the largest window since that
    /// write began.
    answers: BTreeMap<u64, Option<u64>>,
    /// Number of the next answer.
    next: u64,
    part: Part,
    /// Since when it holds what others lack, and no write has given any of it back.
    owes_since: Option<Instant>,
}

/// What a peer may hold.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    wants: u64,
    /// What may be written.
    window: u64,
    /// What may have been written and not been acknowledged; at least the window.
    held: u64,
}

/// One answer on its way to a peer, from before it is written until it is acknowledged.
#[derive(Debug)]
pub(crate) struct Sending {
    sends: Sends,
    session: SessionId,
    number: u64,
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
        let wants = FIRST_WANT.min(self.most_of_one());
        let new = || Seat::new(connection.clone(), wants);
        let seat = seats.entry(session).or_insert_with(new);
        let is_first = seat.answers.is_empty();
        let number = seat.begin();
        if is_first {
            self.settle(&mut seats);
        }
        Sending {
            sends: self.clone(),
            session,
            number,
        }
    }

    /// Ends connections of those who have held what others lack for [`PATIENCE`].
    pub(crate) fn end_overdue(&self, now: Instant) {
        let mut seats = self.seats();
        let lacks = |seat: &Seat| seat.part.window < seat.part.wants;
        let is_short = seats.values().any(lacks);
        for seat in seats.values_mut() {
            let owes = is_short && seat.owes();
            seat.owes_since = owes.then(|| seat.owes_since.unwrap_or(now));
            if seat.owes_since.is_some_and(|since| since + PATIENCE <= now) {
                let (close, peer) = (Close::TooSlow, seat.connection.peer_key());
                tracing::debug!(%peer, "connection ended on which too little is acknowledged");
                seat.connection.close(close.code(), close.reason());
            }
        }
    }

    /// Divides anew, and tells QUIC.
    fn settle(&self, seats: &mut BTreeMap<SessionId, Seat>) {
        let mut parts: Vec<Part> = seats.values().map(|seat| seat.part).collect();
        settle(self.0.whole, &mut parts);
        for (seat, part) in seats.values_mut().zip(parts) {
            seat.set(part);
        }
    }

    fn seats(&self) -> MutexGuard<'_, BTreeMap<SessionId, Seat>> {
        self.0.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set_window(connection: &Connection, bytes: u64) {
    connection.set_send_window(u64::from(IDLE_WINDOW_BYTES) + bytes);
}

impl Seat {
    fn new(connection: Connection, wants: u64) -> Seat {
        Seat {
            connection,
            answers: BTreeMap::new(),
            next: 0,
            part: Part {
                wants,
                ..Part::default()
            },
            owes_since: None,
        }
    }

    /// One more answer is on its way; its number.
    fn begin(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.answers.insert(number, None);
        number
    }

    fn set(&mut self, part: Part) {
        if part.window != self.part.window {
            set_window(&self.connection, part.window);
            let largest = self.answers.values_mut().flatten();
            largest.for_each(|largest| *largest = part.window.max(*largest));
        }
        self.part = part;
    }

    /// Whether it holds more than its window, and it is for the peer to acknowledge some of it: while
    /// nothing is being written, it is we who wait for something.
    fn owes(&self) -> bool {
        let is_written = self.answers.values().any(Option::is_some);
        is_written && self.part.held > self.part.window
    }

    /// What its path takes by now, in bytes.
    fn wants(&self) -> u64 {
        let in_flight = self.connection.quinn().stats().path.cwnd;
        in_flight
            .saturating_mul(2)
            .saturating_add(PIECE_BYTES.into())
    }
}

impl Sending {
    /// Something is about to be written, or all has been and is to be acknowledged: looks at what the path
    /// takes by now.
    pub(crate) fn begin_write(&self) {
        let mut seats = self.sends.seats();
        let Some(seat) = seats.get_mut(&self.session) else {
            return;
        };
        seat.answers.insert(self.number, Some(seat.part.window));
        let wants = seat.wants().min(self.sends.most_of_one());
        if wants.abs_diff(seat.part.wants) > seat.part.wants / 8 {
            seat.part.wants = wants;
            self.sends.settle(&mut seats);
        }
    }

    /// It has been written: no more is unacknowledged now than a window of meanwhile.
    pub(crate) fn end_write(&self) {
        let mut seats = self.sends.seats();
        let Some(seat) = seats.get_mut(&self.session) else {
            return;
        };
        let largest = seat.answers.insert(self.number, None).flatten();
        if let Some(largest) = largest.filter(|largest| *largest < seat.part.held) {
            seat.part.held = largest;
            seat.owes_since = None;
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
        seat.answers.remove(&self.number);
        if seat.answers.is_empty() {
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
            part.window = fair[index];
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
        part.window = fair.min(part.held);
    }
}

#[cfg(test)]
mod tests;
