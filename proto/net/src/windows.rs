//! What either end of a connection may make the other keep in memory: QUIC's windows (RFC 9000 §4.1).
//!
//! A peer may send what was asked of it and not received, and a little besides ([`Expected`]). So what
//! it can make us keep, in order or with gaps, is bounded by what we have asked for, and who bounds that
//! bounds the memory of all connections. Credit cannot be taken back: what was given for a request that
//! was then given up is left until later requests use it.
//!
//! What we have written and the peer has not acknowledged is bounded by the send window, which whoever
//! divides memory among connections sets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::VarInt;

/// Window each way of a connection on which nothing is asked for: requests, news and hellos. It is what
/// a stranger can take. Of a frame of the largest size it is half, which costs another round trip.
pub const IDLE_WINDOW_BYTES: u32 = 32 << 10;

/// Windows of one connection; every handle on it shares them.
#[derive(Debug, Default)]
pub(crate) struct Windows(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    receive: Receive,
    send: Send,
}

/// What the peer may send.
#[derive(Debug, Default)]
struct Receive {
    /// What was asked for and has not come.
    asked: u64,
    /// What the peer may send of that; what was asked for, or more where some of it was given up.
    granted: u64,
    limit: Option<u32>,
}

/// What we may write before it is acknowledged.
#[derive(Debug)]
struct Send {
    window: u64,
    limit: Option<u32>,
}

impl Default for Send {
    fn default() -> Self {
        Self {
            window: IDLE_WINDOW_BYTES.into(),
            limit: None,
        }
    }
}

impl Receive {
    fn ask(&mut self, bytes: u64) {
        self.asked = self.asked.saturating_add(bytes);
        self.granted = self.granted.max(self.asked);
    }

    fn receive(&mut self, bytes: u64) {
        self.asked = self.asked.saturating_sub(bytes);
        self.granted = self.granted.saturating_sub(bytes).max(self.asked);
    }

    fn give_up(&mut self, bytes: u64) {
        self.asked = self.asked.saturating_sub(bytes);
    }

    fn window(&self) -> u32 {
        let granted = u32::try_from(self.granted).unwrap_or(u32::MAX);
        let window = IDLE_WINDOW_BYTES.saturating_add(granted);
        self.limit.map_or(window, |limit| window.min(limit))
    }
}

impl Windows {
    pub(crate) fn set_receive_limit(&self, quic: &quinn::Connection, bytes: Option<u32>) {
        self.change_receive(quic, |receive| receive.limit = bytes);
    }

    pub(crate) fn set_send_window(&self, quic: &quinn::Connection, bytes: u64) {
        self.change_send(quic, |send| send.window = bytes);
    }

    pub(crate) fn set_send_limit(&self, quic: &quinn::Connection, bytes: Option<u32>) {
        self.change_send(quic, |send| send.limit = bytes);
    }

    /// What the peer may send beyond what is still to come of what was asked of it.
    pub(crate) fn unspent_bytes(&self) -> u64 {
        let state = self.state();
        state.receive.granted - state.receive.asked
    }

    /// Told to QUIC before anybody else may change it.
    fn change_receive(&self, quic: &quinn::Connection, change: impl FnOnce(&mut Receive)) {
        let mut state = self.state();
        let before = state.receive.window();
        change(&mut state.receive);
        let now = state.receive.window();
        if now != before {
            quic.set_receive_window(VarInt::from_u32(now));
        }
    }

    fn change_send(&self, quic: &quinn::Connection, change: impl FnOnce(&mut Send)) {
        let mut state = self.state();
        change(&mut state.send);
        let Send { window, limit } = state.send;
        quic.set_send_window(limit.map_or(window, |limit| window.min(limit.into())));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that was asked of a peer, and that it may therefore send. What has not come when this is
/// dropped is given up.
#[derive(Debug)]
pub struct Expected {
    quic: quinn::Connection,
    windows: Arc<Windows>,
    left: u64,
}

impl Expected {
    pub(crate) fn new(quic: quinn::Connection, windows: Arc<Windows>, bytes: u64) -> Self {
        windows.change_receive(&quic, |receive| receive.ask(bytes));
        let left = bytes;
        Self {
            quic,
            windows,
            left,
        }
    }

    /// So much of it has been read, and is kept by whoever reads it from now on.
    pub fn received(&mut self, bytes: u64) {
        let bytes = bytes.min(self.left);
        self.left -= bytes;
        self.windows
            .change_receive(&self.quic, |receive| receive.receive(bytes));
    }

    /// So much of it is still to come, if that is more than is expected.
    pub fn raise(&mut self, bytes: u64) {
        let more = bytes.saturating_sub(self.left);
        self.left += more;
        self.windows
            .change_receive(&self.quic, |receive| receive.ask(more));
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let left = self.left;
        self.windows
            .change_receive(&self.quic, |receive| receive.give_up(left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: u32 = IDLE_WINDOW_BYTES;

    #[test]
    fn a_peer_may_send_what_was_asked_and_has_not_come() {
        let mut receive = Receive::default();
        assert_eq!(receive.window(), IDLE);
        receive.ask(100_000);
        receive.ask(50_000);
        assert_eq!(receive.window(), IDLE + 150_000);
        receive.receive(120_000);
        assert_eq!(receive.window(), IDLE + 30_000);
        receive.receive(30_000);
        assert_eq!(receive.window(), IDLE);
    }

    #[test]
    fn what_was_given_up_is_left_to_the_next_request() {
        let mut receive = Receive::default();
        receive.ask(100_000);
        receive.receive(40_000);
        receive.give_up(60_000);
        assert_eq!(receive.granted - receive.asked, 60_000);
        assert_eq!(receive.window(), IDLE + 60_000);
        receive.ask(50_000);
        assert_eq!(receive.window(), IDLE + 60_000);
        receive.ask(50_000);
        assert_eq!(receive.window(), IDLE + 100_000);
        receive.receive(100_000);
        assert_eq!((receive.granted, receive.asked), (0, 0));
    }

    #[test]
    fn a_limit_is_never_exceeded_and_what_was_asked_is_granted_after_it() {
        let mut receive = Receive {
            limit: Some(IDLE + 1),
            ..Receive::default()
        };
        receive.ask(1 << 40);
        assert_eq!(receive.window(), IDLE + 1);
        receive.limit = None;
        assert_eq!(receive.window(), u32::MAX);
    }
}
