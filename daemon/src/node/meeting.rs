//! The peers that trackers tell of, and introductions to them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::transfer::Event;
use warren_proto::wire::tracker::Rendezvous;
use warren_proto::wire::{Bounded, FromTracker, Member, MemberState, Paths};

use super::Node;
use super::peers::Peer;
use super::trackers::{OWN, TrackerState};
use crate::punch::relay;
use crate::share::{Known, Share};
use crate::tracker::{TrackerEvent, TrackerId};

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

/// How long a peer that is likely to be reached directly is waited for, and for what it says.
const EXPECTED: Duration = Duration::from_secs(1);

impl Node {
    pub(super) fn handle_tracker(&mut self, id: TrackerId, event: TrackerEvent) {
        match event {
            TrackerEvent::Connected {
                pin,
                public,
                features,
                stun,
                proving,
                way,
                rtt,
                tunnel,
            } => {
                self.note_carrier(id, stun.main, rtt, tunnel);
                self.handle_tracker_connected(id, pin, (public, features), way);
                if self.trackers.contains_key(&id) {
                    // Nobody is told of who is reached through a tracker alone.
                    let proving = proving.filter(|_| self.config.paths != Paths::RelayOnly);
                    self.config.punch.prove(id, proving);
                }
                self.survey_by(id, stun, rtt);
            }
            TrackerEvent::Lost {
                cause,
                fault,
                mismatch,
            } => self.handle_tracker_lost(id, (cause, fault), mismatch),
            TrackerEvent::Said(message) => self.handle_tracker_message(id, message),
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
            FromTracker::About { unix_ms, program } => self.note_about(id, unix_ms, program),
            // Codes are a matter between us and our own tracker.
            FromTracker::Code(news) if id == OWN => self.handle_code_news(news),
            FromTracker::Follow(news) => self.handle_follow_news(id, news),
            FromTracker::Code(_) | FromTracker::Hello(_) | FromTracker::Welcome { .. } => (),
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
        let relay = self.relay_session(id, &rendezvous);
        if self.is_forbidden(id, &rendezvous, relay.is_some()) {
            return self.config.punch.forbid(&rendezvous, self.nat);
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
            .meet(rendezvous, relay, is_direct, line, advice)
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

    /// Something is wanted again, of whoever was met in vain or let go of.
    pub(super) fn meet_all_anew(&mut self, now: Instant) {
        for known in self.members.values_mut() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_between_introductions_double_up_to_a_minute() {
        let waits: Vec<u64> = (1..8).map(|tries| wait_after(tries).as_secs()).collect();
        assert_eq!(waits, [3, 6, 12, 24, 48, 60, 60]);
    }
}
