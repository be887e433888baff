//! What becomes of connections when paths do: silence, a better path, none at all.
//!
//! While a peer is reached through a tracker alone, a direct path is looked for again and again. When
//! there is one, everything new goes there at once: what the download knows of the peer stays, and
//! what was asked on the relayed connection has a moment to come ([`Drained`]).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use warren_net::{Class, Connection, Tunnel};
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::proof::Side;
use warren_proto::transfer::{Event, Reach};
use warren_proto::wire::{Paths, PeerMessage, Rendezvous};

use super::Node;
use super::meeting::{FIRST_TRY, ask_introduction};
use super::peers::Peer;
use crate::peer::Close;
use crate::peer::session::SessionId;
use crate::punch::PathNews;
use crate::punch::relay::{Carrier, RelaySession};
use crate::share::{Obstacle, Phase};
use crate::tracker::TrackerId;

/// How long a relayed connection lives beside the direct one: what is under way may come, and what
/// has not come by then is asked again.
const DRAIN: Duration = Duration::from_millis(500);

/// How long after a relayed connection was made a direct path is looked for again, and the longest
/// wait between two times. The attempt that goes on meanwhile takes 10 s.
const FIRST_UPGRADE: Duration = Duration::from_secs(10);
const LONGEST_UPGRADE: Duration = Duration::from_secs(300);

/// For how long a direct connection is so new that a relayed one was dialled before it was there.
const RACE: Duration = Duration::from_secs(3);

/// The same where nobody has proven yet who is at the other end, at least, and in round trips, of which
/// that takes one.
const LEAST_RACE: Duration = Duration::from_millis(500);
const RACE_RTTS: u32 = 3;

/// A relayed connection that a direct one has taken over from.
#[derive(Debug)]
pub(super) struct Drained {
    peer: Peer,
    until: Instant,
}

/// When a direct path to a relayed peer is looked for next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upgrade {
    next: Instant,
    wait: Duration,
}

impl Upgrade {
    /// For a connection that is made now.
    pub(super) fn new(now: Instant) -> Upgrade {
        Upgrade {
            next: now + FIRST_UPGRADE,
            wait: FIRST_UPGRADE,
        }
    }

    fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.next <= now;
        if is_due {
            self.wait = (self.wait * 2).min(LONGEST_UPGRADE);
            self.next = now + self.wait;
        }
        is_due
    }
}

impl Node {
    pub(super) fn handle_path(&mut self, news: PathNews) {
        match news {
            PathNews::MeetingOver(peer) => {
                self.meeting.remove(&peer);
                self.introduced.remove(&peer);
                if !self.peers.contains_key(&peer) {
                    self.seek_relay(peer);
                }
            }
            PathNews::Silent { peer, session } => self.handle_silent(peer, session),
            PathNews::Moved { peer, session } => {
                self.nudge(peer, session);
                self.renew_sessions(peer);
            }
            PathNews::Alive { peer, session } => {
                if let Some(peer) = self.peer_of_session(peer, session) {
                    peer.set_silent(false);
                }
                self.seat(peer);
                self.nudge(peer, session);
                self.renew_sessions(peer);
            }
            PathNews::Gone { peer, session } => {
                if self.peer_of_session(peer, session).is_some() {
                    tracing::debug!(%peer, "peer gone: its path does not answer");
                    self.drop_peer(peer, Close::Done);
                }
            }
            PathNews::Quiet { peer, session } => self.ask_for_sign(peer, session),
            PathNews::Nat(nat) => {
                self.nat = nat;
                self.hurry_upgrades();
                self.tell_situation();
                self.open_gate();
            }
            PathNews::Proven(tracker, proven) => {
                if let Some(tracker) = self.trackers.get(&tracker) {
                    tracker.handle.prove(proven);
                }
            }
            PathNews::Network(candidates) => {
                self.config.candidates = candidates;
                self.exempt_lan();
                self.hurry_upgrades();
                self.tell_situation();
                self.renew_trackers();
            }
            PathNews::Woken => {
                self.hurry_upgrades();
                self.renew_trackers();
            }
        }
    }

    /// A path that does not answer is looked for anew: either side asks, since the one whose NAT
    /// was rebound is reached by nobody before it has said something.
    fn handle_silent(&mut self, key: PublicKey, session: SessionId) {
        let Some(peer) = self.peer_of_session(key, session) else {
            return;
        };
        peer.set_silent(true);
        self.seat(key);
        if self.relayed_by.contains_key(&key) {
            self.seek_relay(key);
        }
        let now = Instant::now();
        for (swarm, share) in &mut self.shares {
            let Some(known) = share.members.get_mut(&key) else {
                continue;
            };
            if ask_introduction(&self.trackers, known.tracker, *swarm, key) {
                known.next_try = now + FIRST_TRY;
                return;
            }
            if let Some(tracker) = self.trackers.get(&known.tracker) {
                tracker.hurry();
            }
        }
    }

    /// The same for all peers whose paths do not answer: a tracker, or a peer, is back that may know more.
    pub(super) fn seek_silent(&mut self) {
        let silent = self.peers.iter().filter(|(_, peer)| !peer.is_heard());
        let silent: Vec<_> = silent.map(|(key, peer)| (*key, peer.session)).collect();
        for (key, session) in silent {
            self.handle_silent(key, session);
        }
    }

    /// Says something without meaning on a path that has just been found: QUIC would wait longer and
    /// longer before it tries again, and what we have received without the peer knowing goes along.
    fn nudge(&mut self, key: PublicKey, session: SessionId) {
        if let Some(peer) = self.peer_of_session(key, session)
            && !peer.nudge()
        {
            self.drop_peer(key, Close::TooSlow);
        }
    }

    fn peer_of_session(&mut self, key: PublicKey, session: SessionId) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(&key);
        peer.filter(|peer| peer.session == session)
    }

    /// Has a peer answer something, without any other meaning.
    fn ask_for_sign(&mut self, key: PublicKey, session: SessionId) {
        if let Some(peer) = self.peer_of_session(key, session)
            && !peer.say_nothing_new()
        {
            self.drop_peer(key, Close::TooSlow);
        }
    }

    /// Notes what takes relayed datagrams to a tracker.
    pub(super) fn note_carrier(
        &mut self,
        id: TrackerId,
        tracker: SocketAddr,
        rtt: Duration,
        tunnel: Option<Tunnel>,
    ) {
        let carrier = match tunnel {
            Some(Tunnel {
                outgoing,
                mut incoming,
            }) => {
                let socket = self.config.endpoint.socket().clone();
                // Ends with the connection to the tracker.
                tokio::spawn(async move {
                    while let Some(relayed) = incoming.recv().await {
                        socket.receive_relayed(relayed);
                    }
                });
                Carrier::Tunnel(outgoing)
            }
            None => Carrier::Udp(tracker),
        };
        if let Some(state) = self.trackers.get_mut(&id) {
            state.carrier = Some((carrier.clone(), rtt));
            self.config.punch.carry(id, carrier, rtt);
        }
    }

    /// The way through the tracker that an introduction offers, if we want one.
    pub(super) fn relay_session(
        &self,
        id: TrackerId,
        rendezvous: &Rendezvous,
    ) -> Option<RelaySession> {
        let (carrier, rtt) = self.trackers.get(&id)?.carrier.clone()?;
        let may = self.config.paths.may_relay(rendezvous.paths);
        RelaySession::new(rendezvous, id, carrier, rtt).filter(|_| may)
    }

    /// Notes whether the two of an introduction allow no path in common.
    pub(super) fn is_forbidden(
        &mut self,
        id: TrackerId,
        rendezvous: &Rendezvous,
        has_relay: bool,
    ) -> bool {
        let Rendezvous {
            swarm, peer, paths, ..
        } = rendezvous;
        let obstacle = match (self.config.paths, *paths) {
            (Paths::RelayOnly, Paths::DirectOnly) => Some(Obstacle::TheyWantDirect),
            (Paths::DirectOnly, Paths::RelayOnly) => Some(Obstacle::TheyWantRelay),
            (Paths::RelayOnly, _) if !has_relay => Some(Obstacle::NoRelayForUs(id)),
            (_, Paths::RelayOnly) if !has_relay => Some(Obstacle::NoRelayForThem(id)),
            _ => None,
        };
        // Two that want none are offered none by any tracker.
        if self.config.paths.may_relay(*paths)
            && let Some(tracker) = self.trackers.get_mut(&id)
        {
            tracker.relays = Some(rendezvous.relay.is_some());
        }
        let share = self.shares.get_mut(swarm);
        if let Some(known) = share.and_then(|share| share.members.get_mut(peer)) {
            known.paths = *paths;
            known.obstacle = obstacle;
        }
        obstacle.is_some()
    }

    /// Why none of the members of a share that we know can be reached, if that is so.
    pub(super) fn why_unreachable(&self, members: impl Iterator<Item = Obstacle>) -> String {
        let mut members: Vec<Obstacle> = members.collect();
        members.sort_unstable();
        members.dedup();
        let relays_nothing = |id: TrackerId| match self.trackers.get(&id) {
            Some(tracker) => format!("tracker {} relays nothing", tracker.address),
            None => "its tracker relays nothing".to_owned(),
        };
        let reasons = members.into_iter().map(|obstacle| match obstacle {
            Obstacle::TheyWantDirect => {
                "this daemon was started with --relay-only, and a peer with --no-relay".to_owned()
            }
            Obstacle::TheyWantRelay => {
                "this daemon was started with --no-relay, and a peer with --relay-only".to_owned()
            }
            Obstacle::NoRelayForUs(id) => format!(
                "this daemon was started with --relay-only, and {}",
                relays_nothing(id)
            ),
            Obstacle::NoRelayForThem(id) => format!(
                "a peer was started with --relay-only, and {}",
                relays_nothing(id)
            ),
        });
        reasons.collect::<Vec<_>>().join("; ")
    }

    /// Asks to be introduced again to peers that we reach through a tracker alone. Who wants something
    /// asks.
    pub(super) fn seek_direct_paths(&mut self, now: Instant) {
        if self.config.paths != Paths::Any {
            return;
        }
        let meeting = &self.meeting;
        let relayed = self.peers.iter_mut().filter(|(key, peer)| {
            peer.reach() == Reach::Relayed && peer.is_heard() && !meeting.contains(key)
        });
        for (key, peer) in relayed {
            if !peer.upgrade.take_due(now) {
                continue;
            }
            for swarm in &self.active {
                let share = self.shares.get(swarm).filter(|share| share.wants());
                let known = share.and_then(|share| share.members.get(key));
                if let Some(known) = known.filter(|known| known.paths == Paths::Any)
                    && ask_introduction(&self.trackers, known.tracker, *swarm, *key)
                {
                    break;
                }
            }
        }
    }

    /// What we know of our own paths has changed: what was in vain may not be any more.
    fn hurry_upgrades(&mut self) {
        let now = Instant::now();
        for peer in self.peers.values_mut() {
            peer.upgrade = Upgrade {
                next: now,
                wait: FIRST_UPGRADE,
            };
        }
    }

    /// Whether a connection is of no use beside the one that there is, which is heard: a relayed one beside a
    /// direct one, and of two that each side has dialled at once that of the higher key. Who dials knows best:
    /// if the one that there is is not new, or was silent meanwhile, it was found dead.
    pub(super) fn is_superfluous(&self, connection: &Connection) -> bool {
        let present = self.peers.get(&connection.peer_key());
        let Some(present) = present.filter(|present| present.is_heard()) else {
            return false;
        };
        let race = race(present.common.is_proven(), present.connection.rtt());
        let is_new = present.since.elapsed() < race && !present.has_been_silent;
        match (present.connection.class(), connection.class()) {
            (Class::Direct, Class::Relay) => connection.side() == Side::Client || is_new,
            (Class::Relay, Class::Direct) => false,
            _ => is_new && self.is_of_lower(&present.connection) && !self.is_of_lower(connection),
        }
    }

    /// Whether the lower key has dialled.
    fn is_of_lower(&self, connection: &Connection) -> bool {
        let is_ours = connection.side() == Side::Client;
        is_ours == (self.config.key < connection.peer_key())
    }

    /// Whether a connection takes over from a relayed one.
    pub(super) fn takes_over(&self, connection: &Connection) -> bool {
        let present = self.peers.get(&connection.peer_key());
        let is_relayed = present.is_some_and(|present| present.reach() == Reach::Relayed);
        is_relayed && connection.class() == Class::Direct
    }

    /// A direct connection takes over from the relayed one: it joins what that had joined, and the
    /// download is told that the peer is somewhere else. Nothing is lost, and nothing waits.
    pub(super) fn take_over(&mut self, connection: Connection) -> SessionId {
        let key = connection.peer_key();
        let (now, rtt) = (Instant::now(), connection.rtt());
        let Some(before) = self.peers.remove(&key) else {
            return self.take_in(connection);
        };
        tracing::debug!(peer = %key, "a direct connection takes over from the relayed one");
        before.common.replace();
        let session = self.take_in_with(connection, before.sources());
        let joined: Vec<SwarmId> = before.joined_by_us().collect();
        for swarm in joined {
            self.join_if_connected(key, swarm);
            let reach = Reach::Direct;
            self.tell_download(
                swarm,
                Event::PeerMoved {
                    peer: key,
                    rtt,
                    reach,
                },
            );
        }
        self.ask_metadata_anew(key);
        let until = now + DRAIN;
        let drained = Drained {
            peer: before,
            until,
        };
        if let Some(older) = self.drained.insert(key, drained) {
            older.end();
        }
        session
    }

    /// Ends relayed connections that have had their time.
    pub(super) fn end_drained(&mut self, now: Instant) {
        let over = self.drained.extract_if(.., |_, it| it.until <= now);
        over.for_each(|(_, drained)| drained.end());
    }

    /// When [`Self::end_drained`] has something to do.
    pub(super) fn drain_deadline(&self) -> Option<Instant> {
        self.drained.values().map(|it| it.until).min()
    }

    /// What a peer says on a connection that another has taken over from: what it has is as true as
    /// ever.
    pub(super) fn handle_late_message(
        &mut self,
        key: PublicKey,
        session: SessionId,
        message: PeerMessage,
    ) {
        let drained = self.drained.get(&key);
        let Some(drained) = drained.filter(|it| it.peer.session == session) else {
            return;
        };
        let (PeerMessage::Have { alias, .. } | PeerMessage::Lost { alias, .. }) = message else {
            return;
        };
        let Some(swarm) = drained.peer.swarm_of(alias) else {
            return;
        };
        match message {
            PeerMessage::Have { chunks, .. } => {
                let runs = chunks.into_vec();
                self.handle_news(swarm, key, |peer| Event::Has { peer, runs });
            }
            PeerMessage::Lost { chunks, .. } => {
                let runs = chunks.into_vec();
                self.handle_news(swarm, key, |peer| Event::Lacks { peer, runs });
            }
            _ => (),
        }
    }

    /// A connection that another has taken over from is over before its time.
    pub(super) fn handle_drained_closed(&mut self, key: PublicKey, session: SessionId) {
        let its = self.drained.get(&key);
        if its.is_some_and(|it| it.peer.session == session) {
            self.drained.remove(&key);
        }
    }

    /// What a peer was asked about a share, it is asked once more where it is now.
    fn ask_metadata_anew(&mut self, key: PublicKey) {
        for share in self.shares.values_mut() {
            if let Phase::Metadata(learning) = &mut share.phase {
                learning.asking.take_if(|(asked, _)| *asked == key);
                // It describes the share again when it has joined there.
                learning.described.remove(&key);
            }
        }
    }
}

/// For how long a direct connection is new.
fn race(is_proven: bool, rtt: Duration) -> Duration {
    match is_proven {
        true => RACE,
        false => LEAST_RACE.max(rtt * RACE_RTTS).min(RACE),
    }
}

impl Drained {
    /// Closes it; what has not come by now is asked again.
    pub(super) fn end(self) {
        let close = Close::Replaced;
        self.peer.connection.close(close.code(), close.reason());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_proven_its_key_refuses_a_relayed_connection_for_a_moment_only() {
        let ms = Duration::from_millis;
        assert_eq!(race(false, ms(40)), ms(500));
        assert_eq!(race(false, ms(300)), ms(900));
        assert_eq!(race(false, ms(5_000)), race(true, ms(40)));
    }
}
