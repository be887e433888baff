//! Keeps what is sent and received to its limits: the shell of `warren_proto`'s [`Shaper`], one for
//! each direction.
//!
//! Who has payload waits at a [`Gate`] until it may go: before it is written to a connection, and after
//! it was read from one, before more is. A task of each gate tells its shaper what the socket has
//! carried, and lets pass what may. Where there are no limits a gate stands open and costs an atomic
//! read.
//!
//! Peers that are exempt do not come here, and the socket does not count what goes to them
//! ([`lan`]). Not here: what the limits are (`node::limits`).

mod gate;
pub(crate) mod lan;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use warren_net::{Carried, Class, Connection, Socket};
use warren_proto::id::SwarmId;

pub(crate) use gate::Gate;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From us.
    Up,
    /// To us.
    Down,
}

/// Both gates.
#[derive(Debug)]
pub(crate) struct Pace {
    up: Arc<Gate>,
    down: Arc<Gate>,
}

impl Pace {
    /// Gates without limits for what goes by this socket, until `stop`.
    pub(crate) fn start(socket: &Arc<Socket>, stop: &CancellationToken) -> Arc<Pace> {
        let gate = |carried: fn(Carried) -> u64| {
            let (gate, socket) = (Arc::new(Gate::new()), socket.clone());
            let keeper = gate.clone();
            let kept = async move { keeper.keep(|| carried(socket.carried())).await };
            tokio::spawn(stop.clone().run_until_cancelled_owned(kept));
            gate
        };
        Arc::new(Pace {
            up: gate(|carried| carried.sent),
            down: gate(|carried| carried.received),
        })
    }

    /// The gate of one direction.
    pub(crate) fn gate(&self, direction: Direction) -> &Gate {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    /// Forgets a share and its limits.
    pub(crate) fn close(&self, share: &SwarmId) {
        self.up.close(share);
        self.down.close(share);
    }
}

/// Payload of one share on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Passage {
    /// Both gates.
    pace: Arc<Pace>,
    /// Of which share.
    share: SwarmId,
}

impl Passage {
    /// That of this share through these gates.
    pub(crate) fn new(pace: &Arc<Pace>, share: SwarmId) -> Passage {
        let pace = pace.clone();
        Passage { pace, share }
    }

    /// Whether anything that we receive is limited.
    pub(crate) fn is_limited(&self) -> bool {
        self.pace.down.is_limiting()
    }

    /// What may be received of the share, in bytes per second, if that is limited.
    pub(crate) fn receive_bytes_per_s(&self) -> Option<u64> {
        self.pace.down.limit_of(&self.share)
    }

    /// Waits until some of what is to be sent may go: at least one byte, and at most `bytes`.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; what had not passed is nobody's.
    pub(crate) async fn send(&self, connection: &Connection, bytes: u32) -> u32 {
        match is_exempt(connection) {
            true => bytes,
            false => self.pace.up.pass(self.share, bytes).await,
        }
    }

    /// Waits until more may be read after `bytes` were.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub(crate) async fn received(&self, connection: &Connection, bytes: usize) {
        let mut left = u32::try_from(bytes).unwrap_or(u32::MAX);
        while left > 0 && !is_exempt(connection) {
            left -= self.pace.down.pass(self.share, left).await.min(left);
        }
    }
}

/// Whether what goes on a connection does not count.
pub(crate) fn is_exempt(connection: &Connection) -> bool {
    let remote = connection.remote_address().ip();
    connection.class() == Class::Direct && connection.socket().is_exempt(remote)
}
