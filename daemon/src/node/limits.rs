//! How fast we send and receive, as the person wants it: kept, carried out, shown.
//!
//! Payload waits for its limit at the gates of [`crate::pace`]. What would be in the way of that is made
//! small here: what peers may send before we read it, what we write before they have it, and how many
//! chunks we ask for at once. In the background, whatever is sent on our connections yields: by us, and
//! by peers that are asked to.

use tokio::sync::oneshot;
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::transfer::engine;
use warren_proto::wire::PeerMessage;

use super::Node;
use super::peers::Peer;
use crate::control::limits::{LEAST_BITS_PER_S, LimitRequest};
use crate::control::model::{ApiError, Event, Limits, exit};
use crate::pace::lan::own_subnets;
use crate::pace::{Direction, Gate, is_exempt};
use crate::share::Share;
use crate::share::depot::Limited;
use crate::store::settings::{Manners, SpeedLimit};

/// What a peer may send before it is read: what comes in during this time and some round trips, at
/// least so many bytes. So little is kept waiting that what comes in is what is read.
const RECEIVE_S: f64 = 0.02;
const RECEIVE_RTTS: f64 = 1.5;
const RECEIVE_LEAST_BYTES: u32 = 32 << 10;
const RECEIVE_MOST_BYTES: u32 = 64 << 20;

/// What may be written before a peer has it: what goes out during this time, and at least so many bytes.
/// Where the path is slower than the limit, so much waits.
const SEND_S: f64 = 1.0;
const SEND_LEAST_BYTES: u32 = 256 << 10;
const SEND_MOST_BYTES: u32 = 16 << 20;

/// Who is told that limits have changed.
pub(super) type Answer = oneshot::Sender<Result<Vec<Event>, ApiError>>;

impl Node {
    /// Goes by what was kept, before anything else is done.
    pub(crate) fn restore_limits(&mut self, manners: Manners, shares: Vec<(SwarmId, SpeedLimit)>) {
        self.manners = manners;
        self.share_limits = shares.into_iter().collect();
        self.apply_manners();
        let shares: Vec<_> = self.share_limits.keys().copied().collect();
        shares.into_iter().for_each(|swarm| self.apply_share(swarm));
    }

    /// Changes limits, and tells what they are now once they are kept.
    pub(super) fn handle_limit(&mut self, request: &LimitRequest, answer: Answer) {
        let changed = match &request.share {
            None => self.limit_all(request).map(|()| None),
            Some(share) => self.limit_share(share, request).map(Some),
        };
        let swarm = match changed {
            Ok(swarm) => swarm,
            Err(error) => return drop(answer.send(Err(error))),
        };
        let shown = match swarm {
            None => vec![self.shown_limits()],
            Some(swarm) => self
                .shown_share(&swarm)
                .map(Event::Share)
                .into_iter()
                .collect(),
        };
        let depot = self.config.depot.clone();
        let started = self.config.started.clone().filter(|_| swarm.is_none());
        let since = request.clone();
        tokio::task::spawn_blocking(move || {
            let kept = depot.keep_limit(swarm.map_or(Limited::All, Limited::Share));
            if let Some(Err(error)) = started.map(|started| started.limit(&since)) {
                tracing::warn!(%error, "who starts this daemon as before sets the limits of that start");
            }
            // Who asked may have gone.
            let _ = answer.send(kept.map(|()| shown));
        });
    }

    fn limit_all(&mut self, request: &LimitRequest) -> Result<(), ApiError> {
        self.manners = limited(self.manners, request)?;
        self.config.depot.note_manners(self.manners);
        self.apply_manners();
        Ok(())
    }

    fn limit_share(&mut self, share: &str, request: &LimitRequest) -> Result<SwarmId, ApiError> {
        if request.background.is_some() || request.lan_unlimited.is_some() {
            let message = "what is exempt, and the background, are for all shares together";
            let hint = "Leave out --share, or give --up and --down alone.";
            return Err(ApiError::new("not_of_a_share", exit::USAGE, message, hint));
        }
        let swarm = self.find(share)?;
        let limit = changed(self.limit_of(&swarm), request)?;
        self.share_limits.insert(swarm, limit);
        self.config.depot.note_share_limit(swarm, limit);
        self.apply_share(swarm);
        Ok(swarm)
    }

    /// A share is gone, and its limits with it: those on the disk when the share is removed there.
    pub(super) fn forget_limits(&mut self, swarm: &SwarmId) {
        if self.share_limits.remove(swarm).is_some() {
            let none = SpeedLimit::default();
            self.config.depot.note_share_limit(*swarm, none);
        }
        self.config.pace.close(swarm);
        self.tell_limited(*swarm, false);
    }

    /// The next version of a share has the limit of the one before, unless it has one of its own.
    pub(super) fn pass_on_limit(&mut self, former: &SwarmId, swarm: SwarmId) {
        let none = SpeedLimit::default();
        let limit = self.limit_of(former);
        if limit != none && self.limit_of(&swarm) == none {
            self.set_limit(swarm, limit);
        }
    }

    /// Gives a share a limit, which is kept by a task.
    pub(super) fn set_limit(&mut self, swarm: SwarmId, limit: SpeedLimit) {
        if limit == self.limit_of(&swarm) {
            return;
        }
        self.share_limits.insert(swarm, limit);
        self.apply_share(swarm);
        let depot = self.config.depot.clone();
        depot.note_share_limit(swarm, limit);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = depot.keep_limit(Limited::Share(swarm)) {
                tracing::warn!(%error, "the limit of a share is not noted; a restart would forget it");
            }
        });
    }

    /// The limits of one share.
    pub(super) fn limit_of(&self, swarm: &SwarmId) -> SpeedLimit {
        self.share_limits.get(swarm).copied().unwrap_or_default()
    }

    /// The limits of all together.
    pub(super) fn shown_limits(&self) -> Event {
        Event::Limits(self.limits())
    }

    pub(super) fn limits(&self) -> Limits {
        let exempt = self
            .peers
            .values()
            .filter(|peer| is_exempt(&peer.connection));
        Limits {
            up_bits_per_s: self.manners.limit.up_bits_per_s,
            down_bits_per_s: self.manners.limit.down_bits_per_s,
            background: self.manners.background,
            lan_unlimited: self.manners.lan_unlimited,
            exempt_peers: exempt.count() as u32,
        }
    }

    /// The networks of this machine may have changed.
    pub(super) fn exempt_lan(&self) {
        let subnets = match self.manners.lan_unlimited {
            true => own_subnets(),
            false => Vec::new(),
        };
        self.config.endpoint.socket().set_exempt(subnets);
    }

    fn apply_manners(&mut self) {
        self.exempt_lan();
        let limit = self.manners.limit;
        for (direction, rate) in both(limit) {
            self.config.pace.gate(direction).set_limit(rate);
        }
        self.limit_peers();
        self.share_budget();
        let peers: Vec<_> = self.peers.keys().copied().collect();
        peers.into_iter().for_each(|key| self.set_background(key));
    }

    fn apply_share(&mut self, swarm: SwarmId) {
        let limit = self.limit_of(&swarm);
        for (direction, rate) in both(limit) {
            let gate = self.config.pace.gate(direction);
            gate.set_share_limit(swarm, rate);
        }
        self.tell_limited(swarm, limit.up_bits_per_s.is_some());
        self.limit_peers();
        self.share_budget();
    }

    fn tell_limited(&mut self, swarm: SwarmId, is_limited: bool) {
        self.tell_engine(engine::Event::Limited { swarm, is_limited });
    }

    /// Tells a peer whether we are in the background, where that is news, and yields accordingly.
    pub(super) fn set_background(&mut self, key: PublicKey) {
        let yields = self.manners.background;
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.connection.set_yielding(yields || peer.is_background);
        if std::mem::replace(&mut peer.told_background, yields) != yields {
            // One whose queue is full hears of it from nobody else, and is about to be let go.
            peer.say(PeerMessage::Yield { yields });
        }
    }

    /// A peer is in the background, or not any more.
    pub(super) fn handle_yield(&mut self, key: PublicKey, yields: bool) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.is_background = yields;
        }
        self.set_background(key);
    }

    /// Has every connection hold no more than its limits allow to be of use.
    pub(super) fn limit_peers(&mut self) {
        let gates = [Direction::Up, Direction::Down].map(|it| self.config.pace.gate(it));
        let is_limiting = gates.into_iter().any(Gate::is_limiting);
        if !is_limiting && !self.peers.values().any(|peer| peer.buffers.are_limited()) {
            return;
        }
        let keys: Vec<_> = self.peers.keys().copied().collect();
        keys.into_iter().for_each(|key| self.limit_peer(key));
    }

    /// The same for one.
    pub(super) fn limit_peer(&mut self, key: PublicKey) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let wanted = match is_exempt(&peer.connection) {
            true => Buffers::default(),
            false => self.buffers_for(peer),
        };
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.hold(wanted);
        }
    }

    fn buffers_for(&self, peer: &Peer) -> Buffers {
        let down = self.down_rate(peer.joints.keys());
        let up = self.manners.limit.up_bits_per_s.map(in_bytes);
        Buffers {
            receive: down.map(|rate| {
                let held = RECEIVE_S + RECEIVE_RTTS * peer.connection.rtt().as_secs_f64();
                let most = (rate as f64 * held).min(f64::from(RECEIVE_MOST_BYTES));
                let rounded = (most as u32).next_power_of_two();
                rounded.clamp(RECEIVE_LEAST_BYTES, RECEIVE_MOST_BYTES)
            }),
            send: up.map(|rate| {
                let most = (rate as f64 * SEND_S).min(f64::from(SEND_MOST_BYTES));
                (most as u32).max(SEND_LEAST_BYTES)
            }),
        }
    }

    /// What may come from a peer of these swarms, in bytes per second: no more than may come in all,
    /// nor than all we fetch of them may take together, if each of those has a limit.
    pub(super) fn down_rate<'a>(&self, swarms: impl Iterator<Item = &'a SwarmId>) -> Option<u64> {
        let whole = self.manners.limit.down_bits_per_s.map(in_bytes);
        let wanted = swarms.filter(|swarm| {
            let share = self.shares.get(swarm);
            share.is_some_and(Share::wants)
        });
        let rates = wanted.map(|swarm| self.limit_of(swarm).down_bits_per_s.map(in_bytes));
        let sum: Option<u64> = rates.sum();
        let shares = sum.filter(|sum| *sum > 0);
        whole.into_iter().chain(shares).min()
    }
}

/// The most that QUIC is to hold for a connection; see `Connection::set_receive_limit`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Buffers {
    receive: Option<u32>,
    send: Option<u32>,
}

impl Buffers {
    fn are_limited(&self) -> bool {
        self.send.or(self.receive).is_some()
    }
}

impl Peer {
    /// Has QUIC hold no more for it.
    fn hold(&mut self, wanted: Buffers) {
        let before = std::mem::replace(&mut self.buffers, wanted);
        if before.send != wanted.send {
            self.connection.set_send_limit(wanted.send);
        }
        if before.receive != wanted.receive {
            self.connection.set_receive_limit(wanted.receive);
        }
    }
}

fn both(limit: SpeedLimit) -> [(Direction, Option<u64>); 2] {
    [
        (Direction::Up, limit.up_bits_per_s.map(in_bytes)),
        (Direction::Down, limit.down_bits_per_s.map(in_bytes)),
    ]
}

pub(super) fn in_bytes(bits: u64) -> u64 {
    bits / 8
}

/// What holds for all shares together, as it is asked for.
///
/// # Errors
///
/// When a limit is too low.
pub(crate) fn limited(manners: Manners, request: &LimitRequest) -> Result<Manners, ApiError> {
    Ok(Manners {
        limit: changed(manners.limit, request)?,
        background: request.background.unwrap_or(manners.background),
        lan_unlimited: request.lan_unlimited.unwrap_or(manners.lan_unlimited),
    })
}

/// A limit as it is asked for.
fn changed(limit: SpeedLimit, request: &LimitRequest) -> Result<SpeedLimit, ApiError> {
    Ok(SpeedLimit {
        up_bits_per_s: changed_rate(limit.up_bits_per_s, request.up_bits_per_s)?,
        down_bits_per_s: changed_rate(limit.down_bits_per_s, request.down_bits_per_s)?,
    })
}

fn changed_rate(rate: Option<u64>, asked: Option<u64>) -> Result<Option<u64>, ApiError> {
    match asked {
        None => Ok(rate),
        Some(0) => Ok(None),
        Some(asked) if asked < LEAST_BITS_PER_S => {
            let message = format!("a limit of {asked} bits per second is too low");
            let hint = "The least is 64k; connections that only stay open take that.";
            Err(ApiError::new("limit_too_low", exit::USAGE, message, hint))
        }
        Some(asked) => Ok(Some(asked)),
    }
}
