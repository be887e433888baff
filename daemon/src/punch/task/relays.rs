//! Connections through trackers and other peers: dialled where a direct path is not there in time, kept going while
//! sessions come and go, left when there is a direct one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use warren_net::Class;
use warren_proto::id::PublicKey;
use warren_proto::proof::Side;

use super::{Dialled, Puncher};
use crate::punch::relay::{Carrier, HEAD_START, RelaySession, Relayer};
use crate::punch::watch::{Sight, Watch};
use crate::punch::{Kept, Offer, PathNews};
use crate::tracker::TrackerId;

/// Ways to peers that others have opened, at once.
const OFFERS: usize = 256;

/// How long such a way is of use that is not taken: the handshake of whoever hears of it last.
const OFFERED: Duration = Duration::from_secs(30);

/// A way to a peer that another has opened.
#[derive(Debug)]
pub(in crate::punch) struct Offered {
    session: RelaySession,
    /// Which side of a connection by it we are.
    side: Side,
    pub(in crate::punch) until: Instant,
}

impl Puncher {
    /// Points the relay route of a peer at the session that both sides will choose.
    ///
    /// Of one tracker the newest counts: it has ended the others, or they are the same. Of several
    /// trackers, whose introductions reach the two sides in any order, that with the least id; a
    /// connection that is well stays with its tracker.
    pub(super) async fn point_relay(&mut self, now: Instant, peer: PublicKey) {
        let watch = self.relayed.get(&peer);
        let present = watch.and_then(|it| it.session.as_ref());
        let stays = watch.is_some_and(|it| !it.is_silent());
        let newest = self.newest_sessions(peer);
        let own = present.and_then(|it| newest.get(&it.by)).filter(|_| stays);
        let least = || newest.values().min_by_key(|it| it.id).filter(|_| !stays);
        let Some(chosen) = own.or_else(least).cloned() else {
            return;
        };
        let socket = self.endpoint.socket();
        let route = socket.route(&peer, Class::Relay);
        chosen.point(socket, route);
        self.records.expect(route, chosen.rtt);
        let is_new = present.is_some_and(|it| it.id != chosen.id);
        self.dial_anew(peer, &chosen);
        if let Some(watch) = self.relayed.get_mut(&peer).filter(|_| is_new) {
            watch.repointed(now, chosen);
            let session = watch.kept.session;
            self.tell(PathNews::Moved { peer, session }).await;
        }
    }

    /// Sends what goes out by the sessions at a tracker the way by which it is reached now: they are
    /// the daemon's, whatever connection it has.
    pub(super) async fn carry(&mut self, tracker: TrackerId, carrier: &Carrier, rtt: Duration) {
        let attempts = self.attempts.values_mut();
        let offered = attempts.filter_map(|it| it.relay.as_mut());
        for session in offered.filter(|session| session.by == Relayer::Tracker(tracker)) {
            session.carry(carrier, rtt);
        }
        let watched = self.relayed.iter_mut();
        let its = watched.filter_map(|(peer, watch)| {
            let session = watch.session.as_mut();
            let session = session.filter(|session| session.by == Relayer::Tracker(tracker))?;
            let is_other = session.carry(carrier, rtt);
            is_other.then(|| (*peer, watch.kept.session, watch.route, session.clone()))
        });
        let moved: Vec<_> = its.collect();
        for (peer, session, route, relay) in moved {
            relay.point(self.endpoint.socket(), route);
            self.tell(PathNews::Moved { peer, session }).await;
        }
    }

    /// The newest session of a peer at each relay.
    fn newest_sessions(&self, peer: PublicKey) -> BTreeMap<Relayer, RelaySession> {
        let attempts = self.attempts.values().filter(|it| it.peer == peer);
        let sessions = attempts.filter_map(|it| it.relay.as_ref());
        let offers = self.offers.iter().filter(|((to, _), _)| *to == peer);
        let offers = offers.map(|(_, offered)| &offered.session);
        // Later ones come last, and stay.
        sessions
            .chain(offers)
            .map(|session| (session.by, session.clone()))
            .collect()
    }

    /// Takes a way to a peer that another has opened. As client it is dialled at once: everything else
    /// was in vain.
    pub(in crate::punch) async fn take_offer(&mut self, now: Instant, offer: Offer) {
        let Offer {
            peer,
            side,
            session,
        } = offer;
        let Relayer::Peer(relayer) = session.by else {
            return;
        };
        if self.is_direct(&peer) || self.offers.len() >= OFFERS {
            return;
        }
        let offered = Offered {
            session,
            side,
            until: now + OFFERED,
        };
        self.offers.insert((peer, relayer), offered);
        self.point_relay(now, peer).await;
        self.dial_offered(peer);
    }

    /// As client: opens a connection by a way that another peer has opened, if there is one.
    fn dial_offered(&mut self, peer: PublicKey) {
        let mut offers = self.offers.iter();
        let may = offers.any(|((to, _), it)| *to == peer && it.side == Side::Client);
        let waits = self.awaits_dial(peer, Instant::now()).is_some();
        if may && !waits && self.needs_relay(peer) {
            self.counter += 1;
            self.dial_session(self.counter, peer);
        }
    }

    /// The ways that a peer has opened are over.
    pub(in crate::punch) fn withdraw(&mut self, relayer: &PublicKey) {
        self.end_offers(|by, _| by == relayer);
    }

    fn end_offers(&mut self, is_over: impl Fn(&PublicKey, Instant) -> bool) {
        let over = self
            .offers
            .extract_if(.., |(_, by), it| is_over(by, it.until));
        let over: Vec<PublicKey> = over.map(|((peer, _), _)| peer).collect();
        for peer in over {
            let route = self.endpoint.socket().route(&peer, Class::Relay);
            self.let_fade(peer, route);
        }
    }

    /// As client: opens a connection through the tracker, unless there is one already or a direct
    /// path is in use. One that is being dialled has a moment.
    pub(super) fn dial_relay(&mut self, id: u64) {
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        attempt.relay_due = None;
        let (peer, side, has_relay) = (attempt.peer, attempt.side(), attempt.relay.is_some());
        if side != Side::Client || !has_relay || !self.needs_relay(peer) {
            return;
        }
        if let Some(patience) = self.awaits_dial(peer, Instant::now()) {
            if let Some(attempt) = self.attempts.get_mut(&id) {
                attempt.relay_due = Some(patience);
            }
            return;
        }
        self.dial_session(id, peer);
    }

    fn dial_session(&mut self, id: u64, peer: PublicKey) {
        let route = self.endpoint.socket().route(&peer, Class::Relay);
        let rtt = self.records.rtt(route);
        let dialling = self.dial_route(id, peer, (route, Class::Relay), rtt);
        self.dialling_relay.insert(peer, (id, dialling));
    }

    /// Dials by the session that is chosen now what is being dialled by another: that may lead nowhere any
    /// more, and QUIC tries ever more rarely.
    fn dial_anew(&mut self, peer: PublicKey, chosen: &RelaySession) {
        let is_by = |id: &u64| {
            let relay = self.attempts.get(id).and_then(|it| it.relay.as_ref());
            relay.is_some_and(|relay| relay.id == chosen.id)
        };
        let dialled = self.dialling_relay.get(&peer);
        if dialled.is_none_or(|(id, _)| is_by(id)) {
            return;
        }
        let its = self.attempts.keys().rev().find(|id| is_by(id)).copied();
        if let (Some(id), Some((_, dialling))) = (its, self.dialling_relay.remove(&peer)) {
            dialling.abort();
            self.dial_relay(id);
        }
    }

    /// The direct path of a peer does not answer: the way through a tracker that there is already is
    /// taken in a moment.
    pub(super) fn hurry_relay(&mut self, now: Instant, peer: PublicKey) {
        let its = self.attempts.values_mut().filter(|it| it.peer == peer);
        for attempt in its.filter(|it| it.may_relay() && it.relay_due.is_none()) {
            attempt.relay_due = Some(now + HEAD_START);
        }
    }

    fn needs_relay(&self, peer: PublicKey) -> bool {
        let is_relayed =
            self.relayed.contains_key(&peer) || self.dialling_relay.contains_key(&peer);
        !(self.is_direct(&peer) || is_relayed)
    }

    /// Until when a direct dial may still take: what carries checks need not carry QUIC.
    fn awaits_dial(&self, peer: PublicKey, now: Instant) -> Option<Instant> {
        let patience = self.dialling.get(&peer).map(|it| it.patience);
        patience.filter(|patience| now < *patience)
    }

    fn is_direct(&self, peer: &PublicKey) -> bool {
        self.keepers.get(peer).is_some_and(|it| !it.is_silent)
    }

    pub(super) fn handle_relay_dialled(&mut self, dialled: &Dialled) {
        let Dialled { attempt, peer, .. } = *dialled;
        // Until the node has taken the connection in, the peer is not dialled for another attempt.
        if dialled.is_connected && self.attempts.contains_key(&attempt) {
            return;
        }
        if let Entry::Occupied(present) = self.dialling_relay.entry(peer)
            && present.get().0 == attempt
        {
            present.remove();
            let route = self.endpoint.socket().route(&peer, Class::Relay);
            self.let_fade(peer, route);
        }
    }

    /// Watches over a relayed connection from now on.
    pub(super) fn watch(&mut self, now: Instant, kept: Kept) {
        let peer = kept.connection.peer_key();
        let sessions = self.newest_sessions(peer);
        let session = sessions.into_values().min_by_key(|it| it.id);
        let Some(watch) = Watch::new(now, kept, session) else {
            return;
        };
        self.fading.remove(&watch.route);
        self.dialling_relay.remove(&peer);
        for (id, attempt) in self.attempts.iter_mut().filter(|(_, it)| it.peer == peer) {
            attempt.relayed();
            self.records.note(*id, attempt.record());
        }
        self.relayed.insert(peer, watch);
    }

    /// There is a direct connection with a peer: no other is opened or watched.
    pub(super) fn leave_relay(&mut self, peer: PublicKey) {
        if let Some((_, dialling)) = self.dialling_relay.remove(&peer) {
            dialling.abort();
        }
        for attempt in self.attempts.values_mut().filter(|it| it.peer == peer) {
            attempt.relay_due = None;
        }
        self.close_watch(peer);
    }

    fn close_watch(&mut self, peer: PublicKey) {
        if let Some(watch) = self.relayed.remove(&peer) {
            self.let_fade(peer, watch.route);
        }
    }

    pub(super) async fn time_relays(&mut self, now: Instant) {
        self.end_offers(|_, until| until <= now);
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        let due = self.attempts.iter().filter(|(_, it)| is_due(it.relay_due));
        let due: Vec<u64> = due.map(|(id, _)| *id).collect();
        due.into_iter().for_each(|id| self.dial_relay(id));
        let due = self.relayed.iter();
        let due = due.filter(|(_, it)| it.poll_timeout() <= now);
        let due: Vec<PublicKey> = due.map(|(peer, _)| *peer).collect();
        for peer in due {
            self.look_at_relayed(now, peer).await;
        }
    }

    async fn look_at_relayed(&mut self, now: Instant, peer: PublicKey) {
        let Some(watch) = self.relayed.get_mut(&peer) else {
            return;
        };
        let session = watch.kept.session;
        if watch.is_over() {
            self.close_watch(peer);
            self.records.forget(&peer);
            return self.relay_anew(peer);
        }
        let Some(sight) = watch.handle_timeout(now) else {
            return;
        };
        tracing::debug!(%peer, ?sight, "relayed");
        match sight {
            Sight::Quiet => self.tell(PathNews::Quiet { peer, session }).await,
            Sight::Silent => self.tell(PathNews::Silent { peer, session }).await,
            Sight::Alive => self.tell(PathNews::Alive { peer, session }).await,
            Sight::Gone => {
                self.tell(PathNews::Gone { peer, session }).await;
                self.close_watch(peer);
                self.records.forget(&peer);
                self.relay_anew(peer);
            }
        }
    }

    /// Has a peer show that it is still there, if we are connected to it through a tracker.
    pub(super) async fn ask_relayed(&self, peer: PublicKey) {
        if let Some(watch) = self.relayed.get(&peer) {
            let session = watch.kept.session;
            self.tell(PathNews::Quiet { peer, session }).await;
        }
    }

    /// The connection that we had is no more: the client dials through a session that was opened
    /// meanwhile.
    pub(super) fn relay_anew(&mut self, peer: PublicKey) {
        let may = |it: &&u64| {
            let attempt = self.attempts.get(it);
            attempt.is_some_and(|it| it.peer == peer && it.may_relay())
        };
        if let Some(id) = self.attempts.keys().rev().find(may).copied() {
            return self.dial_relay(id);
        }
        self.dial_offered(peer);
    }

    /// Whether the relay route of a peer leads, or is about to lead, to somebody.
    pub(super) fn uses_relay(&self, peer: &PublicKey) -> bool {
        let is_offered = self.offers.keys().any(|(to, _)| to == peer);
        is_offered || self.relayed.contains_key(peer) || self.dialling_relay.contains_key(peer)
    }
}
