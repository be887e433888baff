//! Trackers: which are connected, and what all of them are told of us and of our shares.
//!
//! Not here: what they tell of others ([`super::meeting`]), the connections (`crate::tracker`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use warren_proto::content::{HostPort, TrackerAddress};
use warren_proto::id::{SwarmId, TrackerPin};
use warren_proto::swarm::Transport;
use warren_proto::wire::{Candidate, FOLLOW_FEATURE, NatFiltering, Paths, Technique};

use super::Node;
use crate::clock::unix_ms;
use crate::control::model::{self, ApiError, exit};
use crate::portmap::PortNews;
use crate::punch::StunServer;
use crate::punch::relay::Carrier;
use crate::store::known::KnownTrackers;
use crate::tracker::{self, Situation, TrackerConfig, TrackerFault, TrackerHandle, TrackerId, Way};

/// The tracker that the person named.
pub(crate) const OWN: TrackerId = TrackerId(0);

/// Trackers dialled beside our own, over all shares.
const EXTRA_TRACKERS: usize = 64;

/// Advice of one tracker remembered, of introductions that have not come yet: what an announce brings
/// may come between the advice and the introduction of somebody else.
const ADVICE: usize = 64;

/// How long after the first connection to a tracker nothing is announced, unless our NAT is known
/// before, or turns out not to be soon. Peers that are introduced should know how to approach it.
const SURVEY_TIME: Duration = Duration::from_millis(1500);

/// After which people are told that a tracker does not answer, though the first try has not ended. By each of
/// the four ways it is dialled within 3 s; a try ends when the last of them is given up.
const SILENCE: Duration = Duration::from_secs(5);

/// Whether trackers are told of our shares. Closed → Open once, when our NAT is known or a moment
/// after a tracker was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Opens then; not before a tracker was reached.
    Closed(Option<Instant>),
    Open,
}

/// The tracker of the daemon, as it was started.
#[derive(Debug)]
pub(crate) struct OwnTracker {
    /// Where it is.
    pub(crate) address: HostPort,
    /// What its key must match, when we know it.
    pub(crate) pin: Option<TrackerPin>,
    /// Where its key is remembered.
    pub(crate) known: KnownTrackers,
}

/// What we know of a tracker.
#[derive(Debug)]
pub(super) struct TrackerState {
    pub(super) address: HostPort,
    pub(super) pin: Option<TrackerPin>,
    /// The address it wants in links.
    pub(super) public: Option<HostPort>,
    pub(super) connected: bool,
    /// Whether it keeps the newest versions of followable shares.
    pub(super) follows: bool,
    was_connected: bool,
    /// Since when it is dialled.
    since: Instant,
    /// How it was reached last.
    way: Option<Way>,
    /// What takes datagrams there that are to be relayed, and how far it is.
    pub(super) carrier: Option<(Carrier, Duration)>,
    /// Where it answers STUN, and how far it is.
    stun: Option<(StunServer, Duration)>,
    /// Whether our NAT is looked at by its answers.
    pub(super) is_surveyed_by: bool,
    /// What it said last about how two could meet: it introduces them soon.
    pub(super) advice: Advice,
    /// Why there is no connection.
    pub(super) cause: Option<String>,
    /// The same in a word.
    pub(super) fault: Option<TrackerFault>,
    /// Name and version of its program, if it has told.
    pub(super) program: Option<String>,
    /// Whether it offered a relay at the last introduction of two that may use one.
    pub(super) relays: Option<bool>,
    /// What its clock said, and when.
    clock: Option<(u64, Instant)>,
    pub(super) handle: TrackerHandle,
}

impl Node {
    pub(super) fn start_own_tracker(&mut self, own: OwnTracker) {
        let config = TrackerConfig {
            id: OWN,
            address: own.address,
            pin: own.pin,
            known: Some(own.known),
            situation: self.situation(),
        };
        self.start_tracker(config);
    }

    fn start_tracker(&mut self, config: TrackerConfig) {
        let state = TrackerState {
            address: config.address.clone(),
            pin: config.pin,
            public: None,
            connected: false,
            follows: false,
            was_connected: false,
            since: Instant::now(),
            way: None,
            carrier: None,
            stun: None,
            is_surveyed_by: false,
            advice: Advice::default(),
            cause: None,
            fault: None,
            program: None,
            relays: None,
            clock: None,
            handle: tracker::start(
                self.config.endpoint.clone(),
                config.clone(),
                self.me.clone(),
            ),
        };
        self.trackers.insert(config.id, state);
    }

    /// Our own tracker as it goes into manifests and links, once its key is known.
    pub(super) fn own_address(&self) -> Option<TrackerAddress> {
        let own = self.trackers.get(&OWN)?;
        let HostPort { host, port } = own.public.clone().unwrap_or_else(|| own.address.clone());
        let pin = own.pin?;
        Some(TrackerAddress { host, port, pin })
    }

    /// Dials the trackers of a share that are not dialled yet.
    pub(super) fn ensure_trackers(&mut self, wanted: &[TrackerAddress]) {
        for tracker in wanted {
            let own = self.trackers.get(&OWN);
            let is_own =
                own.is_some_and(|own| own.pin.is_none() && own.address == tracker.host_port());
            let known = self
                .trackers
                .values()
                .any(|known| known.pin == Some(tracker.pin));
            if is_own || known || self.trackers.len() > EXTRA_TRACKERS {
                continue;
            }
            let id = TrackerId(self.next_number() as u32);
            self.start_tracker(TrackerConfig {
                id,
                address: tracker.host_port(),
                pin: Some(tracker.pin),
                known: None,
                situation: self.situation(),
            });
        }
    }

    /// Tells the trackers of a share where it stands now.
    pub(super) fn announce(&mut self, swarm: SwarmId) {
        let Some(share) = self.shares.get(&swarm).filter(|_| self.gate == Gate::Open) else {
            return;
        };
        let state = share.member_state();
        let pins: Vec<_> = share
            .record
            .trackers
            .iter()
            .map(|tracker| tracker.pin)
            .collect();
        let its = |(id, tracker): &(&TrackerId, &TrackerState)| {
            **id == OWN || tracker.pin.is_some_and(|pin| pins.contains(&pin))
        };
        for (_, tracker) in self.trackers.iter().filter(its) {
            match state {
                Some(state) => tracker.handle.announce(swarm, state),
                None => tracker.handle.leave(&swarm),
            }
        }
    }

    /// Tells all trackers that we are no longer in a swarm, and lets go of those that no share
    /// needs.
    pub(super) fn leave_swarm(&mut self, swarm: &SwarmId) {
        for tracker in self.trackers.values() {
            tracker.handle.leave(swarm);
        }
        let needed = |pin: Option<TrackerPin>| {
            let shares = self.shares.values();
            let mut pins = shares
                .flat_map(|share| &share.record.trackers)
                .map(|tracker| tracker.pin);
            pins.any(|known| Some(known) == pin) || self.followed_pins().any(|it| Some(it) == pin)
        };
        let idle: Vec<TrackerId> = self
            .trackers
            .iter()
            .filter(|(id, tracker)| **id != OWN && !needed(tracker.pin))
            .map(|(id, _)| *id)
            .collect();
        for id in idle {
            self.trackers.remove(&id);
            self.config.punch.prove(id, None);
        }
    }

    pub(super) fn handle_tracker_connected(
        &mut self,
        id: TrackerId,
        pin: TrackerPin,
        (public, features): (Option<HostPort>, u64),
        way: Way,
    ) {
        let Some(tracker) = self.trackers.get_mut(&id) else {
            return;
        };
        tracker.connected = true;
        tracker.was_connected = true;
        tracker.pin = Some(pin);
        tracker.public = public;
        tracker.follows = features & FOLLOW_FEATURE != 0;
        tracker.cause = None;
        tracker.fault = None;
        tracker.way = Some(way);
        let address = tracker.address.to_string();
        tracing::info!(
            "tracker {address} {}",
            model::Way::from(way).words(&address)
        );
        if id == OWN {
            self.drop_doubles(pin);
            self.end_openings();
            self.claim_again();
        }
        if self.gate == Gate::Closed(None) {
            self.gate = match way.transport {
                Transport::Udp => Gate::Closed(Some(Instant::now() + SURVEY_TIME)),
                // Where no UDP gets through nothing is to be found out.
                Transport::Tcp => Gate::Open,
            };
        }
        self.ask_heads(id);
        // Only now is it known whose tracker this is.
        self.announce_all();
        self.seek_silent();
    }

    /// Looks at our NAT by the answers of this tracker, if it is our own or there is no other.
    pub(super) fn survey_by(&mut self, id: TrackerId, stun: StunServer, rtt: Duration) {
        if let Some(tracker) = self.trackers.get_mut(&id) {
            tracker.stun = Some((stun, rtt));
        }
        let mut others = self.trackers.iter().filter(|(other, _)| **other != id);
        let is_taken = others.any(|(_, it)| it.is_surveyed_by && it.connected);
        if id == OWN || !is_taken {
            self.survey();
        }
    }

    /// By the first that is connected; our own comes before all.
    fn survey(&mut self) {
        let trackers = self.trackers.values_mut();
        trackers.for_each(|tracker| tracker.is_surveyed_by = false);
        let mut connected = self.trackers.values_mut().filter(|it| it.connected);
        if let Some(first) = connected.next()
            && let Some((stun, rtt)) = first.stun
        {
            first.is_surveyed_by = true;
            self.config.punch.survey(stun, rtt);
        }
    }

    fn announce_all(&mut self) {
        let swarms: Vec<SwarmId> = self.shares.keys().copied().collect();
        swarms.into_iter().for_each(|swarm| self.announce(swarm));
    }

    pub(super) fn open_gate(&mut self) {
        if self.gate != Gate::Open {
            self.gate = Gate::Open;
            self.announce_all();
        }
    }

    /// Opens the gate although our NAT is not known.
    pub(super) fn watch_gate(&mut self, now: Instant) {
        if matches!(self.gate, Gate::Closed(Some(at)) if at <= now) {
            self.open_gate();
        }
    }

    /// The same tracker under another address: one connection is enough, and it admits no more.
    fn drop_doubles(&mut self, pin: TrackerPin) {
        let is_double =
            |id: &TrackerId, tracker: &mut TrackerState| *id != OWN && tracker.pin == Some(pin);
        for (id, _) in self.trackers.extract_if(.., is_double) {
            self.config.punch.prove(id, None);
        }
    }

    pub(super) fn note_about(&mut self, id: TrackerId, unix_ms: u64, program: String) {
        if let Some(tracker) = self.trackers.get_mut(&id) {
            tracker.clock = Some((unix_ms, Instant::now()));
            tracker.program = Some(program);
        }
    }

    pub(super) fn handle_tracker_lost(
        &mut self,
        id: TrackerId,
        (cause, fault): (String, TrackerFault),
        mismatch: Option<TrackerPin>,
    ) {
        let Some(tracker) = self.trackers.get_mut(&id) else {
            return;
        };
        let news = tracker.connected || tracker.cause.as_ref() != Some(&cause);
        tracker.connected = false;
        let was_surveyed_by = std::mem::take(&mut tracker.is_surveyed_by);
        tracker.cause = Some(cause.clone());
        tracker.fault = Some(fault);
        let fatal = id == OWN && mismatch.is_some() && !tracker.was_connected;
        let address = tracker.address.clone();
        if let (true, Some(presented)) = (fatal, mismatch) {
            self.fatal = Some(wrong_key(&address, tracker.pin, presented));
            self.config.stop.cancel();
        } else if news {
            tracing::warn!(tracker = %address, cause, "no tracker; trying again");
        }
        if was_surveyed_by {
            self.survey();
        }
        if id == OWN {
            self.end_openings();
        }
    }

    pub(super) fn handle_port(&mut self, news: PortNews) {
        match news {
            PortNews::State(state) => {
                self.port = state;
                self.tell_situation();
            }
            PortNews::Probe { port, token } => {
                if let Some(own) = self.trackers.get(&OWN) {
                    own.handle.echo(port, token);
                }
            }
        }
    }

    /// Comes to all trackers anew: they may know us where we are no more.
    pub(super) fn renew_trackers(&self) {
        let trackers = self.trackers.values();
        trackers.for_each(|tracker| tracker.handle.renew());
    }

    /// Tells all trackers where we can be reached now.
    pub(super) fn tell_situation(&self) {
        let situation = self.situation();
        for tracker in self.trackers.values() {
            tracker.handle.situation(situation.clone());
        }
    }

    fn situation(&self) -> Situation {
        let mut nat = self.nat;
        if self.port.is_open() {
            // At that port everybody is let in, so nobody need wait for us to send first.
            nat.filtering = NatFiltering::PortIndependent;
        }
        Situation {
            candidates: self.candidates(),
            nat,
            paths: self.config.paths,
        }
    }

    /// Where we can be reached, best first: past a NAT, then without one. Nobody needs to know who
    /// reaches us through a tracker alone.
    fn candidates(&self) -> Vec<Candidate> {
        if self.config.paths == Paths::RelayOnly {
            return Vec::new();
        }
        let mapped = self.port.candidate().into_iter();
        mapped
            .chain(self.config.candidates.iter().copied())
            .collect()
    }
}

/// What to try first in rendezvous that have not come yet, newest first.
#[derive(Debug, Default)]
pub(super) struct Advice(VecDeque<([u8; 10], Technique)>);

impl Advice {
    pub(super) fn note(&mut self, rendezvous: [u8; 10], first: Technique) {
        self.0.truncate(ADVICE - 1);
        self.0.push_front((rendezvous, first));
    }

    pub(super) fn take(&mut self, rendezvous: &[u8; 10]) -> Option<Technique> {
        let at = self.0.iter().position(|(id, _)| id == rendezvous)?;
        self.0.remove(at).map(|(_, first)| first)
    }
}

impl TrackerState {
    /// How far our clock is ahead of the tracker's, in milliseconds, while it is connected. How long its
    /// word was under way is not known, and less than a person cares about.
    pub(super) fn clock_ahead_ms(&self) -> Option<i64> {
        let (theirs, at) = self.clock.filter(|_| self.connected)?;
        let ours = i64::try_from(unix_ms()).ok()?;
        let ours = ours.saturating_sub_unsigned(at.elapsed().as_millis() as u64);
        let theirs = i64::try_from(theirs).ok()?;
        Some(ours.saturating_sub(theirs))
    }

    /// Why it is not reached, once that is known or it has been silent for [`SILENCE`].
    pub(super) fn why_unreached(&self, now: Instant) -> Option<String> {
        let is_silent = !self.connected && now.duration_since(self.since) >= SILENCE;
        let silent = is_silent.then(|| "it has not answered yet".to_owned());
        self.cause.clone().or(silent)
    }

    /// Has it come back soon, if there is no connection.
    pub(super) fn hurry(&self) {
        if !self.connected {
            self.handle.hurry();
        }
    }

    /// How it is reached now.
    pub(super) fn way(&self) -> Option<model::Way> {
        self.way.filter(|_| self.connected).map(model::Way::from)
    }

    /// Whether it is on this very machine, so that loopback addresses it tells of are ours too.
    pub(super) fn is_local(&self) -> bool {
        use warren_proto::content::Host;
        match &self.address.host {
            Host::V4(ip) => ip.is_loopback(),
            Host::V6(ip) => ip.is_loopback(),
            Host::Name(name) => name.to_string() == "localhost",
        }
    }
}

fn wrong_key(address: &HostPort, expected: Option<TrackerPin>, presented: TrackerPin) -> ApiError {
    let expected = expected.map_or(String::new(), |pin| format!(" and not {pin}"));
    ApiError::new(
        "tracker_key",
        exit::REFUSED,
        format!("tracker {address} has the key {presented}{expected}"),
        format!(
            "Somebody else may be answering. If its operator confirms the new key, start with: \
             {address}#{presented}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_kept_until_its_rendezvous_comes_and_the_oldest_is_forgotten() {
        let (mut advice, id) = (Advice::default(), |n| [n; 10]);
        advice.note(id(0), Technique::Checks);
        advice.note(id(1), Technique::Birthday);
        assert_eq!(advice.take(&id(0)), Some(Technique::Checks));
        assert_eq!(advice.take(&id(0)), None);
        (2..=ADVICE as u8).for_each(|n| advice.note(id(n), Technique::Prediction));
        assert_eq!(advice.take(&id(1)), Some(Technique::Birthday));
        advice.note(id(1), Technique::Birthday);
        (100..100 + ADVICE as u8).for_each(|n| advice.note(id(n), Technique::Prediction));
        assert_eq!((advice.take(&id(1)), advice.0.len()), (None, ADVICE));
    }
}
