//! Trackers, the peers they tell of, and introductions to them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use warren_proto::content::{HostPort, TrackerAddress};
use warren_proto::id::{PublicKey, SwarmId, TrackerPin};
use warren_proto::proof::Side;
use warren_proto::swarm::Transport;
use warren_proto::transfer::Event;
use warren_proto::wire::tracker::Rendezvous;
use warren_proto::wire::{
    Bounded, Candidate, FromTracker, Member, MemberState, NatFiltering, Paths, Technique,
};

use super::Node;
use super::peers::Peer;
use crate::control::model::{self, ApiError, exit};
use crate::portmap::PortNews;
use crate::punch::relay::{self, Carrier};
use crate::share::{Known, Share};
use crate::store::known::KnownTrackers;
use crate::tracker::{self, Situation, TrackerConfig, TrackerEvent, TrackerHandle, TrackerId, Way};

/// The tracker that the person named.
pub(super) const OWN: TrackerId = TrackerId(0);

/// Trackers dialled beside our own, over all shares.
const EXTRA_TRACKERS: usize = 64;

/// Peers we connect to for one unfinished share: a full mesh up to here. Of a larger swarm trackers
/// name fewer.
const PEERS_PER_SHARE: usize = 64;

/// Members remembered per share.
const KNOWN_PER_SHARE: usize = 1024;

/// Introductions asked for in one tick, over all shares.
const INTRODUCTIONS_PER_TICK: usize = 16;

/// First and longest wait before asking again to be introduced to the same peer.
pub(super) const FIRST_TRY: Duration = Duration::from_secs(3);
const LONGEST_TRY: Duration = Duration::from_secs(60);

/// Advice of one tracker remembered, of introductions that have not come yet: what an announce brings
/// may come between the advice and the introduction of somebody else.
const ADVICE: usize = 64;

/// How long after the first connection to a tracker nothing is announced, unless our NAT is known
/// before, or turns out not to be soon. Peers that are introduced should know how to approach it.
const SURVEY_TIME: Duration = Duration::from_millis(1500);

/// How long a peer that is likely to be reached directly is waited for, and for what it says.
const EXPECTED: Duration = Duration::from_secs(1);

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
    was_connected: bool,
    /// How it was reached last.
    way: Option<Way>,
    /// What takes datagrams there that are to be relayed, and how far it is.
    pub(super) carrier: Option<(Carrier, Duration)>,
    /// What it said last about how two could meet: it introduces them soon.
    advice: Advice,
    /// Why there is no connection.
    pub(super) cause: Option<String>,
    handle: TrackerHandle,
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
            was_connected: false,
            way: None,
            carrier: None,
            advice: Advice::default(),
            cause: None,
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
            pins.any(|known| Some(known) == pin)
        };
        let idle: Vec<TrackerId> = self
            .trackers
            .iter()
            .filter(|(id, tracker)| **id != OWN && !needed(tracker.pin))
            .map(|(id, _)| *id)
            .collect();
        idle.iter().for_each(|id| drop(self.trackers.remove(id)));
    }

    pub(super) fn handle_tracker(&mut self, id: TrackerId, event: TrackerEvent) {
        match event {
            TrackerEvent::Connected {
                pin,
                public,
                stun,
                way,
                rtt,
                tunnel,
            } => {
                self.note_carrier(id, stun.main, rtt, tunnel);
                self.handle_tracker_connected(id, pin, public, way);
                if id == OWN {
                    self.config.punch.survey(stun, rtt);
                }
            }
            TrackerEvent::Lost { cause, mismatch } => self.handle_tracker_lost(id, cause, mismatch),
            TrackerEvent::Said(message) => self.handle_tracker_message(id, message),
        }
    }

    fn handle_tracker_connected(
        &mut self,
        id: TrackerId,
        pin: TrackerPin,
        public: Option<HostPort>,
        way: Way,
    ) {
        let Some(tracker) = self.trackers.get_mut(&id) else {
            return;
        };
        tracker.connected = true;
        tracker.was_connected = true;
        tracker.pin = Some(pin);
        tracker.public = public;
        tracker.cause = None;
        tracker.way = Some(way);
        let address = tracker.address.to_string();
        tracing::info!(
            "tracker {address} {}",
            model::Way::from(way).words(&address)
        );
        if id == OWN {
            self.drop_doubles(pin);
        }
        if self.gate == Gate::Closed(None) {
            self.gate = match way.transport {
                Transport::Udp => Gate::Closed(Some(Instant::now() + SURVEY_TIME)),
                // Where no UDP gets through nothing is to be found out.
                Transport::Tcp => Gate::Open,
            };
        }
        // Only now is it known whose tracker this is.
        self.announce_all();
        self.seek_silent();
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
        self.trackers
            .retain(|id, tracker| *id == OWN || tracker.pin != Some(pin));
    }

    fn handle_tracker_lost(&mut self, id: TrackerId, cause: String, mismatch: Option<TrackerPin>) {
        let Some(tracker) = self.trackers.get_mut(&id) else {
            return;
        };
        let news = tracker.connected || tracker.cause.as_ref() != Some(&cause);
        tracker.connected = false;
        tracker.cause = Some(cause.clone());
        let fatal = id == OWN && mismatch.is_some() && !tracker.was_connected;
        let address = tracker.address.clone();
        if let (true, Some(presented)) = (fatal, mismatch) {
            self.fatal = Some(wrong_key(&address, tracker.pin, presented));
            self.config.stop.cancel();
        } else if news {
            tracing::warn!(tracker = %address, cause, "no tracker; trying again");
        }
    }

    fn handle_tracker_message(&mut self, id: TrackerId, message: FromTracker) {
        match message {
            FromTracker::Peers { swarm, sample, .. } => {
                self.note_neighbours(id, swarm, &sample);
                for member in sample.into_vec() {
                    self.note_member(id, swarm, member);
                    self.meet_if_silent(member.peer, &swarm);
                }
            }
            FromTracker::Joined { swarm, member } => {
                // It may have been started anew, and know nothing of our connection.
                if self.peers.contains_key(&member.peer) && self.serves(id, &swarm) {
                    self.config.punch.suspect(member.peer);
                }
                self.note_member(id, swarm, member);
                self.seek_silent();
                self.meet_newcomer(member, &swarm);
            }
            FromTracker::Left { swarm, peer } | FromTracker::NoSuchPeer { swarm, peer } => {
                // Another tracker may know better.
                if let Some(share) = self.shares.get_mut(&swarm) {
                    share
                        .members
                        .retain(|key, known| *key != peer || known.tracker != id);
                }
            }
            FromTracker::Rendezvous(rendezvous) => self.handle_rendezvous(id, rendezvous),
            FromTracker::Busy { retry_after_s } => {
                tracing::debug!(retry_after_s, "the tracker is busy");
            }
            FromTracker::Trickled {
                id: rendezvous,
                address,
                mapping,
            } => self.config.punch.hear(id, rendezvous, address, mapping),
            FromTracker::Advice {
                id: rendezvous,
                techniques,
            } => {
                if let (Some(tracker), Some(first)) =
                    (self.trackers.get_mut(&id), techniques.first())
                {
                    tracker.advice.note(rendezvous, *first);
                }
            }
            FromTracker::Hello(_) | FromTracker::Welcome { .. } => (),
        }
    }

    /// Whether a tracker is one of the share's, or our own: another has no say in it.
    pub(super) fn serves(&self, tracker: TrackerId, swarm: &SwarmId) -> bool {
        let pin = self.trackers.get(&tracker).and_then(|tracker| tracker.pin);
        let named = |share: &Share| {
            let mut trackers = share.record.trackers.iter();
            trackers.any(|named| Some(named.pin) == pin)
        };
        tracker == OWN || self.shares.get(swarm).is_some_and(named)
    }

    fn note_member(&mut self, tracker: TrackerId, swarm: SwarmId, member: Member) {
        if !self.serves(tracker, &swarm) {
            return;
        }
        self.know_member(tracker, swarm, member.peer);
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let wants = share.wants();
        if let Some(known) = share.members.get_mut(&member.peer) {
            known.state = member.state;
            known.tracker = tracker;
            known.former = None;
        }
        if wants {
            self.join_if_connected(member.peer, swarm);
        }
    }

    /// Asks a tracker that was started anew, or a peer that was, for what we have lost with it.
    fn meet_if_silent(&mut self, peer: PublicKey, swarm: &SwarmId) {
        if self.peers.get(&peer).is_some_and(|it| !it.is_heard()) {
            self.meet_soon(peer, swarm);
        }
    }

    /// A seed that comes asks for nobody, so there is nothing to wait for; a leech has asked with its
    /// announce to be introduced.
    fn meet_newcomer(&mut self, member: Member, swarm: &SwarmId) {
        match self.peers.contains_key(&member.peer) {
            true => self.meet_if_silent(member.peer, swarm),
            false if member.state == MemberState::Seed => self.meet_soon(member.peer, swarm),
            false => (),
        }
    }

    /// What is under way with a peer that has just come leads to what it was before.
    fn meet_soon(&mut self, peer: PublicKey, swarm: &SwarmId) {
        self.meeting.remove(&peer);
        let share = self.shares.get_mut(swarm);
        if let Some(known) = share.and_then(|share| share.members.get_mut(&peer)) {
            known.next_try = Instant::now();
            self.next_tick = known.next_try;
        }
    }

    /// Remembers a member that a tracker told us of; it is a leech until more is said.
    fn know_member(&mut self, tracker: TrackerId, swarm: SwarmId, peer: PublicKey) {
        let own_key = self.config.key;
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        if peer == own_key || share.members.len() >= KNOWN_PER_SHARE {
            return;
        }
        share.members.entry(peer).or_insert_with(|| Known {
            state: MemberState::Leech,
            tracker,
            // The first announce has asked for introductions; this is for those that did not come.
            next_try: Instant::now() + FIRST_TRY / 4,
            tries: 0,
            paths: Paths::Any,
            obstacle: None,
            is_unreached: false,
            former: None,
        });
    }

    fn handle_rendezvous(&mut self, id: TrackerId, mut rendezvous: Rendezvous) {
        let (swarm, peer) = (rendezvous.swarm, rendezvous.peer);
        let Some(share) = self.shares.get(&swarm).filter(|_| self.serves(id, &swarm)) else {
            return;
        };
        if peer == self.config.key || share.member_state().is_none() || share.banned.contains(&peer)
        {
            return;
        }
        let wants = share.wants();
        self.know_member(id, swarm, peer);
        if wants {
            self.join_if_connected(peer, swarm);
        }
        if !self.peers.contains_key(&peer) && !self.has_room() {
            return;
        }
        // The lower key is the QUIC client, always, so that two peers make one connection.
        let side = match self.config.key < peer {
            true => Side::Client,
            false => Side::Server,
        };
        let relay = self.relay_session(id, &rendezvous);
        if self.is_forbidden(id, &rendezvous, relay.is_some()) {
            return self.config.punch.forbid(&rendezvous, side);
        }
        let trusted = self
            .trackers
            .get(&id)
            .is_some_and(|tracker| tracker.is_local());
        let is_direct = self.config.paths.may_be_direct(rendezvous.paths);
        rendezvous.candidates = Bounded::truncated(
            rendezvous
                .candidates
                .into_vec()
                .into_iter()
                .filter(|candidate| {
                    is_direct && (trusted || !candidate.address.ip().to_canonical().is_loopback())
                }),
        );
        let is_likely = is_direct && relay::is_direct_likely(&self.nat, &rendezvous);
        if is_likely {
            self.expect_direct(swarm, peer);
        }
        let is_connected = self.peers.contains_key(&peer);
        let needs_relay = relay.is_none() && !is_likely && !is_connected;
        let Some(tracker) = self.trackers.get_mut(&id) else {
            return;
        };
        let line = tracker.handle.line(id, rendezvous.id);
        let advice = tracker.advice.take(&rendezvous.id);
        if self
            .config
            .punch
            .meet(rendezvous, side, relay, is_direct, line, advice)
        {
            self.meeting.insert(peer);
            self.introduced.entry(peer).or_default().insert(swarm);
        }
        if needs_relay {
            self.seek_relay(peer);
        }
    }

    /// A peer of the swarm is about to be reached directly, unless that was tried before in vain.
    fn expect_direct(&mut self, swarm: SwarmId, peer: PublicKey) {
        let until = Instant::now() + EXPECTED;
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let is_tried = share.members.get(&peer).is_none_or(|it| it.tries > 1);
        if is_tried || self.peers.contains_key(&peer) {
            return;
        }
        share.expected = Some(until);
        self.tell_download(swarm, Event::Expected { until });
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

    /// Asks to be introduced to members of unfinished shares that we are not connected to.
    pub(super) fn seek_introductions(&mut self, now: Instant) {
        let mut left = INTRODUCTIONS_PER_TICK;
        let mut unjoined = Vec::new();
        for swarm in &self.active {
            let Some(share) = self.shares.get_mut(swarm).filter(|share| share.wants()) else {
                continue;
            };
            let connected = |key: &PublicKey| {
                let peer = self.peers.get(key);
                peer.is_some_and(Peer::is_heard)
            };
            let sought = |known: &Known| known.former.is_none();
            let have = share.members.iter();
            let have = have.filter(|(peer, known)| sought(known) && connected(peer));
            let have = have.count();
            let mut room = PEERS_PER_SHARE.saturating_sub(have).min(left);
            for (peer, known) in &mut share.members {
                if connected(peer) && sought(known) && known.next_try <= now {
                    unjoined.push((*peer, *swarm));
                }
                let skip = connected(peer)
                    || !sought(known)
                    || self.meeting.contains(peer)
                    || share.banned.contains(peer)
                    || known.next_try > now;
                if skip || room == 0 {
                    continue;
                }
                if ask_introduction(&self.trackers, known.tracker, *swarm, *peer) {
                    known.tries = known.tries.saturating_add(1);
                    known.next_try = now + wait_after(known.tries);
                    (room, left) = (room - 1, left - 1);
                }
            }
        }
        for (peer, swarm) in unjoined {
            self.join_if_connected(peer, swarm);
        }
        self.seek_direct_paths(now);
    }
}

/// What to try first in rendezvous that have not come yet, newest first.
#[derive(Debug, Default)]
struct Advice(VecDeque<([u8; 10], Technique)>);

impl Advice {
    fn note(&mut self, rendezvous: [u8; 10], first: Technique) {
        self.0.truncate(ADVICE - 1);
        self.0.push_front((rendezvous, first));
    }

    fn take(&mut self, rendezvous: &[u8; 10]) -> Option<Technique> {
        let at = self.0.iter().position(|(id, _)| id == rendezvous)?;
        self.0.remove(at).map(|(_, first)| first)
    }
}

impl TrackerState {
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

impl Share {
    /// A member that wanted nothing to do with us is asked again later.
    pub(super) fn set_back_member(&mut self, peer: &PublicKey, now: Instant) {
        if let Some(known) = self.members.get_mut(peer) {
            known.tries = known.tries.saturating_add(1);
            known.next_try = now + wait_after(known.tries);
        }
    }

    /// A member was started anew, and can be met again now.
    pub(super) fn meet_anew(&mut self, peer: &PublicKey, now: Instant) {
        if let Some(known) = self.members.get_mut(peer) {
            (known.tries, known.next_try) = (0, now);
        }
    }

    /// Lets go of a member that could not be kept; it is tried again soon.
    pub(super) fn retry_member(&mut self, peer: &PublicKey, now: Instant) {
        if let Some(known) = self.members.get_mut(peer) {
            known.tries = 0;
            known.next_try = now + FIRST_TRY / 3;
        }
    }
}

/// Asks the tracker that knows the peer, if it is connected.
pub(super) fn ask_introduction(
    trackers: &BTreeMap<TrackerId, TrackerState>,
    tracker: TrackerId,
    swarm: SwarmId,
    peer: PublicKey,
) -> bool {
    let tracker = trackers.get(&tracker).filter(|tracker| tracker.connected);
    tracker.is_some_and(|tracker| tracker.handle.introduce(swarm, peer))
}

fn wait_after(tries: u32) -> Duration {
    let doubled = FIRST_TRY * 2u32.saturating_pow(tries.saturating_sub(1).min(10));
    doubled.min(LONGEST_TRY)
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

    #[test]
    fn waits_between_introductions_double_up_to_a_minute() {
        let waits: Vec<u64> = (1..8).map(|tries| wait_after(tries).as_secs()).collect();
        assert_eq!(waits, [3, 6, 12, 24, 48, 60, 60]);
    }
}
