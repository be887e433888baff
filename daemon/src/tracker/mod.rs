//! Our side of one tracker: one connection, kept up for as long as the daemon runs.
//!
//! [`start`] spawns a session that connects by whatever way gets through, says hello, announces
//! whatever [`TrackerHandle`] was told to announce, renews that, and begins again with back-off when
//! the connection is lost, or at once when somebody waits for an answer. What the tracker says goes
//! to the node as [`TrackerEvent`]s; nothing is decided here about peers.
//!
//! Not here: which shares are announced where, and whom to dial (`node`).

mod backoff;
mod better;
mod dial;
mod fault;
mod line;
mod reach;
mod said;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use warren_net::{Endpoint, Tunnel};
use warren_proto::content::HostPort;
use warren_proto::id::{PublicKey, SwarmId, TrackerPin};
use warren_proto::nat::Proven;
use warren_proto::wire::{Candidate, FromTracker, MemberState, Paths, ToTracker};

use crate::node::{NodeEvent, NodeSender};
use crate::punch::{Nat, Proving, StunServer};
use crate::store::known::KnownTrackers;

pub use fault::TrackerFault;
pub(crate) use line::Line;
pub(crate) use reach::Way;

/// Introductions that may wait for the tracker connection; more are tried again later anyway.
const INTRODUCTIONS: usize = 256;

/// What may wait to be said about rendezvous and codes: all that a guess says, for as many as are introduced
/// in a moment. An attempt whose words are lost goes on without; an exchange about a code takes too long.
const WORDS: usize = 256;

/// Probes that may wait to be asked for; there is one port.
const ECHOES: usize = 1;

/// Proofs of our other address that may wait: the next one is as good.
const PROOFS: usize = 1;

/// Tells the trackers of one daemon apart; 0 is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TrackerId(pub(crate) u32);

/// What happens with a tracker.
#[derive(Debug)]
pub(crate) enum TrackerEvent {
    /// Connected, and this is its key.
    Connected {
        /// The pin of the key it has proven.
        pin: TrackerPin,
        /// The address it wants in links.
        public: Option<HostPort>,
        /// What it can do, as in its hello.
        features: u64,
        /// Where it answers STUN.
        stun: StunServer,
        /// Where and how to show it our address of the other IP family, if it can be shown.
        proving: Option<Proving>,
        /// How it is reached.
        way: Way,
        /// How far it is.
        rtt: Duration,
        /// The way of relayed datagrams, where it is not UDP.
        tunnel: Option<Tunnel>,
    },
    /// Not connected; the session goes on trying.
    Lost {
        /// Why, for people.
        cause: String,
        /// Why, in a word.
        fault: TrackerFault,
        /// The pin it showed when it is not the one expected.
        mismatch: Option<TrackerPin>,
    },
    /// It said something.
    Said(FromTracker),
}

/// What a session needs to know.
#[derive(Clone, Debug)]
pub(crate) struct TrackerConfig {
    /// Which one it is.
    pub(crate) id: TrackerId,
    /// Where it is.
    pub(crate) address: HostPort,
    /// What its key must match; `None` takes any key and remembers it.
    pub(crate) pin: Option<TrackerPin>,
    /// Where keys are remembered; only for the tracker that the person named.
    pub(crate) known: Option<KnownTrackers>,
    /// Where we believe we can be reached, to begin with.
    pub(crate) situation: Situation,
}

/// Where we believe we can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Situation {
    /// Addresses of this machine.
    pub(crate) candidates: Vec<Candidate>,
    /// How our NAT behaves.
    pub(crate) nat: Nat,
    /// By which paths we want to be reached.
    pub(crate) paths: Paths,
}

/// The node's hold on a session; dropping it ends the session.
#[derive(Debug)]
pub(crate) struct TrackerHandle {
    wanted: watch::Sender<BTreeMap<SwarmId, MemberState>>,
    situation: watch::Sender<Situation>,
    introductions: mpsc::Sender<(SwarmId, PublicKey)>,
    words: mpsc::Sender<ToTracker>,
    echoes: mpsc::Sender<Echo>,
    proofs: mpsc::Sender<Proven>,
    hurry: Arc<Notify>,
    renewal: Arc<Notify>,
    stop: CancellationToken,
}

/// A probe to ask for: the port of our outside address where it shall go, and what it carries.
pub(crate) type Echo = (u16, [u8; 12]);

impl TrackerHandle {
    /// Announces the swarm from now on, or with another state than before.
    pub(crate) fn announce(&self, swarm: SwarmId, state: MemberState) {
        self.wanted
            .send_if_modified(|wanted| wanted.insert(swarm, state) != Some(state));
    }

    /// Leaves the swarm.
    pub(crate) fn leave(&self, swarm: &SwarmId) {
        self.wanted
            .send_if_modified(|wanted| wanted.remove(swarm).is_some());
    }

    /// We can be reached otherwise than before.
    pub(crate) fn situation(&self, situation: Situation) {
        self.situation.send_if_modified(|told| {
            let is_news = *told != situation;
            *told = situation;
            is_news
        });
    }

    /// Asks to be introduced; false when too many wait already.
    pub(crate) fn introduce(&self, swarm: SwarmId, peer: PublicKey) -> bool {
        self.introductions.try_send((swarm, peer)).is_ok()
    }

    /// Comes back soon, if there is no connection: somebody waits for it.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Has a new session take the place of the one there is: this machine may be elsewhere than it was,
    /// or have been asleep. One that is being made is begun anew.
    pub(crate) fn renew(&self) {
        self.renewal.notify_one();
    }

    /// What the two of a rendezvous have to say about it to this tracker.
    pub(crate) fn line(&self, own: TrackerId, id: [u8; 10]) -> Line {
        Line::new(own, id, self.words.clone())
    }

    /// Says this once there is a connection; false when too much waits to be said already.
    pub(crate) fn say(&self, message: ToTracker) -> bool {
        self.words.try_send(message).is_ok()
    }

    /// Shows that we receive at an address by which we are not connected.
    pub(crate) fn prove(&self, proven: Proven) {
        // There is another one soon.
        let _ = self.proofs.try_send(proven);
    }

    /// What is said from now on, which no tracker hears then.
    #[cfg(test)]
    pub(crate) fn overhear(&mut self) -> mpsc::Receiver<ToTracker> {
        let (words, spoken) = mpsc::channel(WORDS);
        self.words = words;
        spoken
    }

    /// Asks for a probe to a port of our outside address, once there is a connection.
    pub(crate) fn echo(&self, port: u16, token: [u8; 12]) {
        // Who waits for it asks again.
        let _ = self.echoes.try_send((port, token));
    }
}

impl Drop for TrackerHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Starts the session of one tracker.
pub(crate) fn start(endpoint: Endpoint, config: TrackerConfig, node: NodeSender) -> TrackerHandle {
    let (wanted, wanted_by_session) = watch::channel(BTreeMap::new());
    let (situation, situation_of_session) = watch::channel(config.situation.clone());
    let (introductions, asked) = mpsc::channel(INTRODUCTIONS);
    let (words, spoken) = mpsc::channel(WORDS);
    let (echoes, wanted_echoes) = mpsc::channel(ECHOES);
    let (proofs, shown) = mpsc::channel(PROOFS);
    let (hurry, renewal) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let stop = CancellationToken::new();
    let session = session::Session {
        endpoint,
        config,
        node,
        wanted: wanted_by_session,
        situation: situation_of_session,
        introductions: asked,
        words: spoken,
        said: said::Said::default(),
        worked: None,
        rtt: None,
        answer_due: None,
        silences: 0,
        hurry: Arc::clone(&hurry),
        renewal: Arc::clone(&renewal),
        echoes: wanted_echoes,
        proofs: shown,
    };
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = stopped.cancelled() => (),
            () = session.run() => (),
        }
    });
    TrackerHandle {
        wanted,
        situation,
        introductions,
        words,
        echoes,
        proofs,
        hurry,
        renewal,
        stop,
    }
}

impl TrackerEvent {
    /// The event as the node takes it.
    fn of(self, tracker: TrackerId) -> NodeEvent {
        NodeEvent::Tracker {
            tracker,
            event: self,
        }
    }
}
