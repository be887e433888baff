//! Whom a tracker would have us connected to, and how we let go of others.
//!
//! A swarm of up to 64 members is a full mesh. In a larger one a tracker names about 32 neighbours
//! (PROTOCOL.md, *Neighbours*), others as members come and go. Who is no neighbour any more is not
//! sought, but nothing that is under way with it ends for that: its swarm is left only when nothing
//! was asked or sent for a while, by us or by it, and when enough neighbours are there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::limits::PEERS_PER_ANSWER;
use warren_proto::wire::Member;

use super::Node;
use crate::peer::session::SessionId;
use crate::share::{Known, Share};
use crate::tracker::TrackerId;

/// How long somebody may have been no neighbour before we let go: long enough that it has announced
/// itself since, and so knows the same.
const FORMER: Duration = Duration::from_secs(90);

/// How long nothing was asked or sent, both ways, when we let go.
const IDLE: Duration = Duration::from_secs(30);

/// Neighbours that must be connected before we let go of anybody: half of those we should have.
const ENOUGH: usize = 16;

/// One is let go of at a time, this far apart.
pub(super) const RELEASE_INTERVAL: Duration = Duration::from_secs(1);

/// Since when nothing moves between a peer and us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idleness {
    since: Instant,
    moved_bytes: u64,
}

impl Idleness {
    /// Nothing has moved yet.
    pub(super) fn new(now: Instant) -> Idleness {
        Idleness {
            since: now,
            moved_bytes: 0,
        }
    }

    /// So many bytes have moved in all, and something is under way or not.
    fn note(&mut self, now: Instant, moved_bytes: u64, is_busy: bool) {
        if is_busy || moved_bytes != self.moved_bytes {
            *self = Idleness {
                since: now,
                moved_bytes,
            };
        }
    }
}

impl Node {
    /// A tracker has named members that we should be connected to. If they are fewer than fit into an
    /// answer, nobody else concerns us there.
    pub(super) fn note_neighbours(&mut self, id: TrackerId, swarm: SwarmId, named: &[Member]) {
        if named.len() >= PEERS_PER_ANSWER || !self.serves(id, &swarm) {
            return;
        }
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let named: BTreeSet<PublicKey> = named.iter().map(|member| member.peer).collect();
        let is_kept = |key: &PublicKey| self.peers.contains_key(key) || self.meeting.contains(key);
        settle(&mut share.members, id, &named, is_kept);
    }

    /// Leaves a swarm with one peer that is no neighbour in it any more, if there is one and it is
    /// time.
    pub(super) fn release_former(&mut self, now: Instant) {
        if now < self.next_release {
            return;
        }
        self.next_release = now + RELEASE_INTERVAL;
        self.note_idleness(now);
        let mut shares = self.shares.iter();
        let released = shares.find_map(|(swarm, share)| Some((*swarm, self.spare(share, now)?)));
        let Some((swarm, key)) = released else {
            return;
        };
        tracing::debug!(peer = %key, "let go of a peer that is no neighbour any more");
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.members.remove(&key);
        }
        self.leave_on(key, &swarm);
    }

    fn note_idleness(&mut self, now: Instant) {
        let served = self.uploads.values().map(|upload| upload.session);
        let served: BTreeSet<SessionId> = served.collect();
        for peer in self.peers.values_mut() {
            let is_busy = peer.common.asks() || served.contains(&peer.session);
            let moved_bytes = peer.common.moved_bytes();
            peer.idleness.note(now, moved_bytes, is_busy);
        }
    }

    /// A peer that the share can do without.
    fn spare(&self, share: &Share, now: Instant) -> Option<PublicKey> {
        let swarm = share.swarm();
        let joined = share.members.iter().filter_map(|(key, known)| {
            let peer = self.peers.get(key)?;
            let is_joined = peer.joints.contains_key(&swarm) && peer.is_heard();
            is_joined.then_some((key, known.former, peer.idleness))
        });
        let joined: Vec<_> = joined.collect();
        let neighbours = joined.iter().filter(|(_, former, _)| former.is_none());
        if neighbours.count() < ENOUGH {
            return None;
        }
        let mut spare = joined.into_iter().filter(|(_, former, idleness)| {
            let is_former = former.is_some_and(|since| now.duration_since(since) >= FORMER);
            is_former && now.duration_since(idleness.since) >= IDLE
        });
        spare.next().map(|(key, ..)| *key)
    }
}

/// Of the members that a tracker knows, those it has not named are no neighbours: they are forgotten,
/// or noted as such while we have something to do with them.
fn settle(
    members: &mut BTreeMap<PublicKey, Known>,
    tracker: TrackerId,
    named: &BTreeSet<PublicKey>,
    is_kept: impl Fn(&PublicKey) -> bool,
) {
    let now = Instant::now();
    members.retain(|key, known| {
        if known.tracker != tracker || named.contains(key) {
            return true;
        }
        known.former.get_or_insert(now);
        is_kept(key)
    });
}

#[cfg(test)]
mod tests {
    use warren_proto::wire::{MemberState, Paths};

    use super::*;

    #[test]
    fn whom_a_tracker_does_not_name_is_forgotten_unless_connected_or_known_from_another() {
        let [named, idle, connected, elsewhere] = [1, 2, 3, 4].map(|n| PublicKey([n; 32]));
        let (ours, other) = (TrackerId(0), TrackerId(1));
        let mut members = BTreeMap::from([
            (named, known(ours)),
            (idle, known(ours)),
            (connected, known(ours)),
            (elsewhere, known(other)),
        ]);
        settle(&mut members, ours, &BTreeSet::from([named]), |key| {
            *key == connected
        });
        let left: Vec<_> = members
            .iter()
            .map(|(key, known)| (*key, known.former.is_some()))
            .collect();
        let expected = [(named, false), (connected, true), (elsewhere, false)];
        assert_eq!(left, expected);
        // It stays as long as it is connected, and it counts from the first time.
        let since = members[&connected].former;
        settle(&mut members, ours, &BTreeSet::from([named]), |_| true);
        assert_eq!(members[&connected].former, since);
    }

    #[test]
    fn a_peer_is_idle_from_the_last_byte_and_the_end_of_the_last_request_on() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut idleness = Idleness::new(start);
        for (second, moved_bytes, is_busy, since) in [
            (1, 0, false, 0),
            (2, 5, false, 2),
            (3, 5, true, 3),
            (4, 5, true, 4),
            (5, 5, false, 4),
        ] {
            idleness.note(at(second), moved_bytes, is_busy);
            assert_eq!(idleness.since, at(since));
        }
    }

    fn known(tracker: TrackerId) -> Known {
        Known {
            state: MemberState::Leech,
            tracker,
            next_try: Instant::now(),
            tries: 0,
            paths: Paths::Any,
            obstacle: None,
            is_unreached: false,
            former: None,
        }
    }
}
