//! A connection through a tracker: whether it is heard.
//!
//! There is no path to check: what carries it is the session at the tracker, which ends with the
//! tracker connection of either side. QUIC keeps the connection alive and ends it after 30 s of
//! silence; long before that, silence while something is outstanding is a reason to be introduced
//! anew, which brings a session that works. A peer that does not answer there either was started
//! anew.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Kept;
use super::relay::RelaySession;

/// How often a connection is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How often one is looked at on which nothing happens, and when that is so.
const LOOK_IDLE: Duration = Duration::from_millis(250);
const IDLE: Duration = Duration::from_secs(2);

/// Silence that means something at the earliest, and in round trips.
const LEAST_SILENCE: Duration = Duration::from_millis(400);
const SILENT_RTTS: u32 = 3;

/// How long a peer has for answering by a new session, at least, and in round trips: the news of it
/// may reach it later than us.
const LEAST_DOUBT: Duration = Duration::from_secs(2);
const DOUBT_RTTS: u32 = 6;

/// What is found out about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Something was asked, and nothing is heard: a packet that asks for an answer would tell.
    Quiet,
    /// What asked for an answer got none.
    Silent,
    /// It is heard again.
    Alive,
    /// The peer does not answer by a session that has just begun.
    Gone,
}

/// One relayed connection.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) kept: Kept,
    pub(super) route: SocketAddr,
    /// By what it goes now.
    pub(super) session: Option<RelaySession>,
    hearing: Hearing,
    next: Instant,
}

impl Watch {
    /// `None` for a connection without a route.
    pub(super) fn new(now: Instant, kept: Kept, session: Option<RelaySession>) -> Option<Watch> {
        let route = kept.connection.route()?;
        Some(Watch {
            kept,
            route,
            session,
            hearing: Hearing::new(now),
            next: now,
        })
    }

    /// Whether the connection is over.
    pub(super) fn is_over(&self) -> bool {
        self.kept.connection.quinn().close_reason().is_some()
    }

    /// Whether what was asked got no answer.
    pub(super) fn is_silent(&self) -> bool {
        self.hearing.is_silent
    }

    /// It goes by another session from now on, on which the peer has to answer.
    pub(super) fn repointed(&mut self, now: Instant, session: RelaySession) {
        self.session = Some(session);
        let rtt = self.kept.connection.rtt();
        self.hearing.doubt = Some(now + LEAST_DOUBT.max(rtt * DOUBT_RTTS));
    }

    /// When to call [`Watch::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Looks at the connection, if that is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Sight> {
        if self.next > now {
            return None;
        }
        let stats = self.kept.connection.quinn().stats();
        let sent = stats.frame_tx;
        let look = Look {
            received: stats.udp_rx.datagrams,
            asked: sent.stream + sent.ping + sent.immediate_ack,
            awaits: self.kept.common.asks(),
            patience: LEAST_SILENCE.max(stats.path.rtt * SILENT_RTTS),
        };
        let sight = self.hearing.look(now, look);
        let is_idle = !look.awaits && self.hearing.is_idle(now);
        self.next = now + if is_idle { LOOK_IDLE } else { LOOK };
        sight
    }
}

/// What a connection shows.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Datagrams received.
    received: u64,
    /// Frames sent that ask for an answer.
    asked: u64,
    /// Whether we wait for something that we asked for.
    awaits: bool,
    /// How long silence means nothing.
    patience: Duration,
}

/// When something was heard, and what was said since.
#[derive(Debug)]
struct Hearing {
    received: u64,
    heard: Instant,
    /// Frames sent by then that ask for an answer.
    answered: u64,
    /// When the first was sent that is not answered.
    outstanding: Option<Instant>,
    is_silent: bool,
    /// Whether the peer was asked for a sign since it was heard last.
    is_nudged: bool,
    doubt: Option<Instant>,
}

impl Hearing {
    fn new(now: Instant) -> Hearing {
        Hearing {
            received: 0,
            heard: now,
            answered: 0,
            outstanding: None,
            is_silent: false,
            is_nudged: false,
            doubt: None,
        }
    }

    fn look(&mut self, now: Instant, look: Look) -> Option<Sight> {
        if look.received != self.received {
            return self.hear(now, look);
        }
        if look.asked != self.answered {
            self.outstanding.get_or_insert(now);
        }
        if self.doubt.take_if(|until| *until <= now).is_some() {
            return Some(Sight::Gone);
        }
        let is_late = |since: Instant| now.duration_since(since) >= look.patience;
        if !self.is_silent && self.outstanding.is_some_and(is_late) && is_late(self.heard) {
            self.is_silent = true;
            return Some(Sight::Silent);
        }
        let is_quiet = self.outstanding.is_none() && look.awaits && is_late(self.heard);
        let nudge = is_quiet && !std::mem::replace(&mut self.is_nudged, is_quiet);
        nudge.then_some(Sight::Quiet)
    }

    /// Whether nothing was heard for a while, nor is to be.
    fn is_idle(&self, now: Instant) -> bool {
        let is_settled = self.outstanding.is_none() && self.doubt.is_none();
        is_settled && now.duration_since(self.heard) >= IDLE
    }

    fn hear(&mut self, now: Instant, look: Look) -> Option<Sight> {
        (self.received, self.heard) = (look.received, now);
        (self.answered, self.outstanding) = (look.asked, None);
        (self.is_nudged, self.doubt) = (false, None);
        std::mem::take(&mut self.is_silent).then_some(Sight::Alive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(400);

    #[test]
    fn who_waits_for_an_answer_asks_for_a_sign_once_and_then_calls_it_silent() {
        let (mut hearing, start) = begun();
        let waits = look(1, 1, true);
        assert_eq!(hearing.look(start + PATIENCE / 2, waits), None);
        assert_eq!(hearing.look(start + PATIENCE, waits), Some(Sight::Quiet));
        assert_eq!(hearing.look(start + 2 * PATIENCE, waits), None, "once");
        let asked = look(1, 2, true);
        assert_eq!(hearing.look(start + 2 * PATIENCE, asked), None);
        let late = start + 3 * PATIENCE;
        assert_eq!(hearing.look(late, asked), Some(Sight::Silent));
        assert_eq!(hearing.look(late + PATIENCE, asked), None, "once");
        let back = hearing.look(late + 2 * PATIENCE, look(2, 2, true));
        assert_eq!(back, Some(Sight::Alive));
    }

    #[test]
    fn nobody_is_silent_of_whom_nothing_is_wanted() {
        let (mut hearing, start) = begun();
        for n in 1..100 {
            assert_eq!(hearing.look(start + n * PATIENCE, look(1, 1, false)), None);
        }
    }

    #[test]
    fn a_busy_connection_is_never_silent() {
        let (mut hearing, start) = begun();
        for n in 1..1000 {
            let at = start + Duration::from_millis(50) * n;
            // Heard every 200 ms, while ever more is asked.
            let seen = look(1 + u64::from(n / 4), u64::from(n), true);
            assert_eq!(hearing.look(at, seen), None);
        }
    }

    #[test]
    fn a_peer_that_is_heard_by_the_new_session_is_not_gone_and_another_is() {
        let (mut hearing, start) = begun();
        hearing.doubt = Some(start + LEAST_DOUBT);
        assert_eq!(
            hearing.look(start + LEAST_DOUBT / 2, look(2, 2, false)),
            None
        );
        assert_eq!(
            hearing.look(start + 2 * LEAST_DOUBT, look(2, 2, false)),
            None
        );
        hearing.doubt = Some(start + 3 * LEAST_DOUBT);
        let late = start + 3 * LEAST_DOUBT;
        assert_eq!(hearing.look(late, look(2, 2, false)), Some(Sight::Gone));
    }

    fn begun() -> (Hearing, Instant) {
        let start = Instant::now();
        let mut hearing = Hearing::new(start);
        assert_eq!(hearing.look(start, look(1, 1, false)), None);
        (hearing, start)
    }

    fn look(received: u64, asked: u64, awaits: bool) -> Look {
        Look {
            received,
            asked,
            awaits,
            patience: PATIENCE,
        }
    }
}
