//! Peers that relay for each other: asked where nothing else leads to a peer, and answered.
//!
//! A daemon that was started so passes datagrams between peers of its swarms that cannot meet, under
//! the rate that it was given. It does so only for two that are both connected with it directly and
//! both in one swarm with it, and sends to nowhere but where these connections lead.
//!
//! Not here: passing on (`warren_net::Relay`), the connection by it (`punch`).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use warren_proto::id::{PublicKey, RelayId, SwarmId};
use warren_proto::proof::Side;
use warren_proto::transfer::Reach;
use warren_proto::wire::peer::RELAYS;
use warren_proto::wire::{NoRelay, Paths, PeerMessage};

use super::Node;
use super::peers::Peer;
use crate::control::model::PeerPath;
use crate::peer::Close;
use crate::peer::seat::{PeerSeat, direct_address};
use crate::punch::relay::RelaySession;
use crate::share::Share;

/// Peers that one peer may ask us to be its relay to in [`ASKS_WINDOW`]; more are ignored. A full mesh,
/// twice.
const ASKS: u32 = 128;
const ASKS_WINDOW: Duration = Duration::from_secs(10);

/// Peers to whom others are our relay, or may be.
const RELAYED_BY: usize = 256;

/// What a peer and we have said to each other about relaying.
#[derive(Debug, Default)]
pub(super) struct Relaying {
    /// It relays for its swarms.
    relays: bool,
    /// To whom it does not, as far as we have asked.
    declined: BTreeSet<PublicKey>,
    /// How often it has asked, and since when that is counted.
    asks: (u32, Option<Instant>),
}

impl Relaying {
    fn may_ask(&mut self, now: Instant) -> bool {
        let (count, since) = &mut self.asks;
        if since.is_none_or(|since| since + ASKS_WINDOW <= now) {
            (*count, *since) = (0, Some(now));
        }
        *count += 1;
        *count <= ASKS
    }
}

impl Peer {
    /// Whether it is reached directly and answers, so that it could be our relay.
    fn is_near(&self) -> bool {
        self.reach() == Reach::Direct && self.is_heard() && self.common.is_proven()
    }

    fn joined_swarms(&self) -> impl Iterator<Item = SwarmId> {
        let joined = self.joints.iter().filter(|(_, joint)| joint.is_joined());
        joined.map(|(swarm, _)| *swarm)
    }
}

// What we do for others.
impl Node {
    /// Notes where a peer is, or that it does not answer there.
    pub(super) fn seat(&self, key: PublicKey) {
        if let (Some(relay), Some(peer)) = (&self.config.relay, self.peers.get(&key)) {
            let seat = PeerSeat::new(peer.connection.clone(), peer.is_heard());
            relay.seat(key, seat);
        }
    }

    /// A peer is gone: nothing is passed on to it any more, or from it.
    pub(super) fn unseat(&self, key: &PublicKey) {
        if let Some(relay) = &self.config.relay {
            relay.unseat(key);
        }
    }

    /// A peer has left a swarm: ends its sessions with those with whom it shares no other.
    pub(super) fn end_sessions(&self, key: PublicKey) {
        let Some(relay) = &self.config.relay else {
            return;
        };
        let others = self.peers.keys().filter(|other| **other != key);
        for other in others.filter(|other| self.common_swarm(key, **other).is_none()) {
            relay.close(key, *other);
        }
    }

    /// A swarm that two peers and we have joined.
    fn common_swarm(&self, a: PublicKey, b: PublicKey) -> Option<SwarmId> {
        let (a, b) = (self.peers.get(&a)?, self.peers.get(&b)?);
        let mut swarms = a.joined_swarms();
        swarms.find(|swarm| b.joined(swarm).is_some())
    }

    /// A peer asks us to be its relay to another.
    pub(super) fn handle_relay_ask(&mut self, key: PublicKey, alias: u32, other: PublicKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if !peer.relaying.may_ask(Instant::now()) {
            return tracing::debug!(peer = %key, "a peer asks too often to be relayed");
        }
        match self.open_session(key, alias, other) {
            Ok(id) => {
                self.tell_session(key, other, id);
                self.tell_session(other, key, id);
            }
            Err(reason) => {
                let peer = other;
                self.say_to(key, PeerMessage::RelayRefused { peer, reason });
            }
        }
    }

    fn open_session(
        &self,
        key: PublicKey,
        alias: u32,
        other: PublicKey,
    ) -> Result<RelayId, NoRelay> {
        let relay = self.config.relay.as_ref().ok_or(NoRelay::Off)?;
        let near = |key: &PublicKey| self.peers.get(key).filter(|peer| peer.is_near());
        let both = near(&key).zip(near(&other));
        let (asker, asked) = both.ok_or(NoRelay::NotConnected)?;
        let swarm = asker.swarm_of(alias).ok_or(NoRelay::NotConnected)?;
        let are_in = asker.joined(&swarm).is_some() && asked.joined(&swarm).is_some();
        let are_placed = [asker, asked]
            .iter()
            .all(|peer| direct_address(&peer.connection).is_some());
        if key == other || !are_in || !are_placed {
            return Err(NoRelay::NotConnected);
        }
        let opened = relay.open(Instant::now(), key, other);
        opened.ok_or(NoRelay::Full)
    }

    fn tell_session(&mut self, key: PublicKey, peer: PublicKey, id: RelayId) {
        let rtt = self.peers.get(&peer).map(|it| it.connection.rtt());
        let rtt_ms = rtt.unwrap_or_default().as_millis();
        let rtt_ms = u16::try_from(rtt_ms).unwrap_or(u16::MAX);
        self.say_to(key, PeerMessage::RelayOpen { id, peer, rtt_ms });
    }

    fn say_to(&mut self, key: PublicKey, message: PeerMessage) {
        if self.peers.get(&key).is_some_and(|peer| !peer.say(message)) {
            self.drop_peer(key, Close::TooSlow);
        }
    }
}

// What others do for us.
impl Node {
    /// A peer says what it is able to.
    pub(super) fn handle_hello(&mut self, key: PublicKey, features: u64) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.relaying.relays = features & RELAYS != 0;
        }
    }

    /// There was an introduction to a peer without a way through the tracker, or it has led nowhere:
    /// asks somebody else to be the relay, now or when there is one.
    pub(super) fn seek_relay(&mut self, other: PublicKey) {
        for share in self.shares.values_mut() {
            if let Some(known) = share.members.get_mut(&other) {
                known.is_unreached = true;
            }
        }
        self.peers.values_mut().for_each(|peer| {
            peer.relaying.declined.remove(&other);
        });
        self.ask_for_relay(other);
    }

    /// Asks the relay that both sides would think of first, of those that have not declined.
    fn ask_for_relay(&mut self, other: PublicKey) {
        let Some((relayer, alias)) = self.choose_relayer(other) else {
            return;
        };
        tracing::debug!(peer = %other, %relayer, "asking to be relayed");
        let peer = other;
        self.say_to(relayer, PeerMessage::RelayAsk { alias, peer });
    }

    fn choose_relayer(&self, other: PublicKey) -> Option<(PublicKey, u32)> {
        if self.config.paths != Paths::Any {
            return None;
        }
        let known = |share: &&Share| {
            let known = share.members.get(&other);
            known.is_some_and(|known| known.paths == Paths::Any)
        };
        // It need not be the swarm of which we want something that the three of us are in.
        let common = || self.shares.values().filter(known);
        if !common().any(Share::wants) {
            return None;
        }
        let relayers = common().flat_map(|share| {
            let swarm = share.swarm();
            let relayers = self
                .peers
                .iter()
                .filter(|(key, peer)| **key != other && peer.relaying.relays && peer.is_near());
            relayers.filter_map(move |(key, peer)| {
                let alias = peer.joined(&swarm)?;
                let declined = peer.relaying.declined.contains(&other);
                (!declined).then_some((*key, alias))
            })
        });
        relayers.min_by_key(|(key, _)| distance(key, &self.config.key, &other))
    }

    /// A peer that relays is in a swarm with us: asks it for those whom nothing else leads to.
    pub(super) fn use_relayer(&mut self, key: PublicKey, swarm: SwarmId) {
        if !self.peers.get(&key).is_some_and(|it| it.relaying.relays) {
            return;
        }
        let Some(share) = self.shares.get(&swarm) else {
            return;
        };
        let unreached = share.members.iter().filter(|(member, known)| {
            known.is_unreached && !self.peers.contains_key(member) && **member != key
        });
        let unreached: Vec<PublicKey> = unreached.map(|(member, _)| *member).collect();
        unreached
            .into_iter()
            .for_each(|member| self.ask_for_relay(member));
    }

    /// A peer is our relay to another.
    pub(super) fn handle_relay_open(
        &mut self,
        relayer: PublicKey,
        (id, other): (RelayId, PublicKey),
        rtt: Duration,
    ) {
        if self.relayed_by.len() >= RELAYED_BY {
            // Those who never were reached make room.
            let peers = &self.peers;
            self.relayed_by.retain(|other, _| peers.contains_key(other));
        }
        let Some(session) = self.session_by(relayer, (id, other), rtt) else {
            return tracing::debug!(%relayer, peer = %other, "a session that we have no use for");
        };
        let side = match self.config.key < other {
            true => Side::Client,
            false => Side::Server,
        };
        if self.config.punch.offer(other, side, session) {
            self.relayed_by.insert(other, relayer);
        }
    }

    /// The way by a peer to another, if that may be one: nobody has us keep a route to those who are in
    /// no swarm with the two of us.
    fn session_by(
        &self,
        relayer: PublicKey,
        (id, other): (RelayId, PublicKey),
        rtt: Duration,
    ) -> Option<RelaySession> {
        let by = self.peers.get(&relayer).filter(|peer| peer.is_near())?;
        let is_common = by.joined_swarms().any(|swarm| {
            let share = self.shares.get(&swarm);
            share.is_some_and(|share| {
                let known = share.members.get(&other);
                let may = known.is_some_and(|known| known.paths == Paths::Any);
                may && share.member_state().is_some() && !share.banned.contains(&other)
            })
        });
        let is_well = self.peers.get(&other).is_some_and(|peer| {
            let is_other_way = self.relayed_by.get(&other) != Some(&relayer);
            peer.is_heard() && (peer.reach() == Reach::Direct || is_other_way)
        });
        let has_room = self.peers.contains_key(&other) || self.has_room();
        let is_counted = self.relayed_by.contains_key(&other) || self.relayed_by.len() < RELAYED_BY;
        let may = self.config.paths == Paths::Any && other != self.config.key;
        if !may || !is_common || is_well || !has_room || !is_counted {
            return None;
        }
        let at = direct_address(&by.connection)?;
        let rtt = by.connection.rtt() + rtt;
        Some(RelaySession::by_peer(id, relayer, at, rtt))
    }

    /// A peer is not our relay to another: asks the next.
    pub(super) fn handle_relay_refused(
        &mut self,
        relayer: PublicKey,
        other: PublicKey,
        reason: NoRelay,
    ) {
        tracing::debug!(%relayer, peer = %other, ?reason, "not relayed");
        let is_known = |share: &Share| share.members.contains_key(&other);
        if !self.shares.values().any(is_known) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&relayer) else {
            return;
        };
        // Asked again once there was another introduction.
        if peer.relaying.declined.insert(other) && !self.peers.contains_key(&other) {
            self.ask_for_relay(other);
        }
    }

    /// A relay is elsewhere, or does not answer: the sessions by it are opened anew, by it or by
    /// another.
    pub(super) fn renew_sessions(&mut self, relayer: PublicKey) {
        for other in self.relayed_peers_by(relayer) {
            self.ask_for_relay(other);
        }
    }

    /// A relay is gone.
    pub(super) fn lose_relayer(&mut self, relayer: PublicKey) {
        let orphans = self.relayed_peers_by(relayer);
        if orphans.is_empty() {
            return;
        }
        self.config.punch.withdraw(relayer);
        for other in orphans {
            self.relayed_by.remove(&other);
            self.ask_for_relay(other);
        }
    }

    fn relayed_peers_by(&self, relayer: PublicKey) -> Vec<PublicKey> {
        let by = self.relayed_by.iter().filter(|(_, by)| **by == relayer);
        by.map(|(other, _)| *other).collect()
    }

    /// Who relays between a peer and us, for people.
    pub(super) fn relayer_of(&self, key: &PublicKey, peer: &Peer) -> Option<String> {
        if peer.path() != PeerPath::Relay {
            return None;
        }
        let relayer = self.relayed_by.get(key);
        let relayer = relayer.and_then(|by| Some((by, self.peers.get(by)?)));
        let at = peer.connection.remote_address();
        let relayer = relayer.filter(|(_, by)| by.connection.remote_address() == at);
        Some(match relayer {
            Some((by, _)) => format!("peer {by}"),
            None => "tracker".to_owned(),
        })
    }
}

/// The same for both sides, and another relay first for every two of them.
fn distance(relayer: &PublicKey, a: &PublicKey, b: &PublicKey) -> [u8; 32] {
    std::array::from_fn(|at| relayer.0[at] ^ a.0[at] ^ b.0[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_think_of_the_same_relay_first() {
        let keys: Vec<PublicKey> = (0..9)
            .map(|n| PublicKey([37u8.wrapping_mul(n); 32]))
            .collect();
        let first = |a: &PublicKey, b: &PublicKey| {
            keys.iter().min_by_key(|key| distance(key, a, b)).copied()
        };
        let (a, b, c) = (PublicKey([1; 32]), PublicKey([2; 32]), PublicKey([128; 32]));
        assert_eq!(first(&a, &b), first(&b, &a));
        assert_ne!(first(&a, &b), first(&a, &c));
    }

    #[test]
    fn a_peer_that_asks_without_end_is_ignored_until_the_window_is_over() {
        let (mut relaying, start) = (Relaying::default(), Instant::now());
        let answered = (0..10 * ASKS).filter(|_| relaying.may_ask(start)).count();
        assert_eq!(answered, ASKS as usize);
        assert!(!relaying.may_ask(start + ASKS_WINDOW / 2));
        assert!(relaying.may_ask(start + ASKS_WINDOW));
    }
}
