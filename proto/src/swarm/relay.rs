//! Passes datagrams between two daemons: which, to whom, and how many. A tracker does it for those
//! that it introduces, a daemon for peers that are in a swarm with it.
//!
//! [`RelayTable`] holds the sessions. The shell opens one with an introduction, asks for every batch
//! that arrives whether and to whom it goes, and says which daemons have left. Where a daemon is, the
//! shell alone knows: the table compares the place a batch came from with those of the session's two
//! daemons, and names one of these two as its receiver, never an address that anybody wrote.
//!
//! The rate is shared: while there is enough, everybody gets what they want; when it runs short, each
//! daemon gets an even part of it and each of its sessions an even part of that, and what exceeds it
//! is dropped. Nothing waits here, so a relayed path is never longer than its two ways.
//!
//! Not here: what is inside the datagrams, which only the two daemons can read; sockets.

mod bucket;
mod rate;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use bucket::{Bucket, Limit};
pub use rate::parsed_rate;

use super::techniques::prefix;
use crate::id::{PublicKey, RelayId};

/// A session lives for so long after its introduction, or after it was last used.
pub const RELAY_IDLE: Duration = Duration::from_secs(60);

/// A session that was quiet for so long makes room for another: QUIC keeps a connection alive every
/// 10 s.
const QUIET: Duration = Duration::from_secs(15);

/// Old sessions looked at to make room for one; those that were used meanwhile are put back.
const LOOKS: usize = 64;

/// Who had something passed on, or tried to, within this time shares in the rate.
const ACTIVE: Duration = Duration::from_secs(1);

/// One network, an IPv4 /24 or IPv6 /56, has at most one in so many of all sessions: whoever has all
/// of it makes as many daemons as they like.
const NETWORK_PART: usize = 4;

/// The bytes at which a STUN message has its magic cookie (RFC 8489 §5), so that no relayed datagram
/// is taken for one.
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// How much a relay takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// What it passes on, in bytes per second, headers of the session included.
    pub rate_bytes_per_s: u64,
    /// Most sessions; one takes about half a kilobyte. Those of one network are at most a quarter.
    pub sessions: usize,
    /// Most sessions of one daemon.
    pub sessions_per_peer: usize,
}

impl RelayConfig {
    /// A relay of so many bytes per second, with the usual numbers of sessions: a full mesh of 64
    /// peers in eight swarms for each daemon.
    pub fn new(rate_bytes_per_s: u64) -> RelayConfig {
        RelayConfig {
            rate_bytes_per_s,
            sessions: 65_536,
            sessions_per_peer: 512,
        }
    }

    /// The same of a daemon, for the others of its swarms: of 64 peers in each, a few cannot meet most
    /// of the others.
    pub fn of_peer(rate_bytes_per_s: u64) -> RelayConfig {
        RelayConfig {
            rate_bytes_per_s,
            sessions: 1024,
            sessions_per_peer: 64,
        }
    }
}

/// Where a daemon is now, as its connection to the tracker shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this address, where it has shown that it receives.
    Udp(SocketAddr),
    /// At the end of its own connection, which carries datagrams too.
    Tunnel,
    /// Its packets come from an address at which it has not shown yet that it receives.
    Unproven,
}

/// Where a batch came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From this address; anybody can write one.
    Udp(SocketAddr),
    /// On the connection of this daemon.
    Tunnel(PublicKey),
}

/// Datagrams that arrived together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The session that they name.
    pub id: RelayId,
    /// Where they came from.
    pub origin: Origin,
    /// How many they are.
    pub datagrams: u64,
    /// Bytes in all of them.
    pub bytes: u64,
}

/// Why a batch is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// There is no such session, or no longer.
    UnknownSession,
    /// It did not come from where one of the session's two daemons is.
    ForeignSource,
    /// One of the two is at an address at which it has not shown that it receives.
    Unproven(PublicKey),
    /// The other daemon is not connected.
    NoReceiver,
    /// There are more than the rate allows.
    OverRate,
}

/// What became of all datagrams so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayCounters {
    /// Datagrams passed on.
    pub datagrams: u64,
    /// Bytes in these.
    pub bytes: u64,
    /// Datagrams dropped because their session is not there.
    pub unknown_session: u64,
    /// Datagrams dropped because of where they came from.
    pub foreign_source: u64,
    /// Datagrams dropped because their receiver was not to be reached.
    pub no_receiver: u64,
    /// Datagrams dropped because there were too many.
    pub over_rate: u64,
}

/// The sessions of a relay.
#[derive(Debug)]
pub struct RelayTable {
    config: RelayConfig,
    rng: StdRng,
    sessions: BTreeMap<RelayId, Session>,
    by_pair: BTreeMap<Pair, RelayId>,
    /// Every session once, by a time at which it was used or opened and after which it may have been
    /// used again.
    by_age: BTreeSet<(Instant, RelayId)>,
    members: BTreeMap<PublicKey, Member>,
    /// Where daemons are, with or without sessions.
    networks: BTreeMap<PublicKey, IpAddr>,
    /// How many sessions have an end there; none has no entry.
    by_network: BTreeMap<IpAddr, usize>,
    /// Every active session once, by a time at which it was.
    active: VecDeque<(Instant, RelayId)>,
    /// How many daemons have active sessions.
    active_members: u64,
    rate: Bucket,
    counters: RelayCounters,
}

/// Two daemons, the lower key first.
type Pair = (PublicKey, PublicKey);

#[derive(Debug)]
struct Session {
    pair: Pair,
    /// Its time in [`RelayTable::by_age`].
    noted: Instant,
    /// When it was last used, or opened.
    used: Instant,
    /// When something was last to be passed on, if it shares in the rate.
    asked: Option<Instant>,
    /// The networks of its daemons that are known, each once.
    networks: [Option<IpAddr>; 2],
    share: Bucket,
}

/// A daemon with sessions.
#[derive(Debug)]
struct Member {
    sessions: BTreeSet<RelayId>,
    /// How many of its sessions are active.
    active: u64,
    share: Bucket,
}

impl RelayTable {
    /// A relay without sessions. Their ids come from `seed`, so outside of tests it must be 32 bytes
    /// of the system's randomness that nobody else knows.
    pub fn new(config: RelayConfig, seed: [u8; 32]) -> RelayTable {
        RelayTable {
            config,
            rng: StdRng::from_seed(seed),
            sessions: BTreeMap::new(),
            by_pair: BTreeMap::new(),
            by_age: BTreeSet::new(),
            members: BTreeMap::new(),
            networks: BTreeMap::new(),
            by_network: BTreeMap::new(),
            active: VecDeque::new(),
            active_members: 0,
            rate: Bucket::default(),
            counters: RelayCounters::default(),
        }
    }

    /// The session of two daemons that are being introduced: the one they have, or a new one.
    /// `None` when there is no room.
    pub fn open(&mut self, now: Instant, a: PublicKey, b: PublicKey) -> Option<RelayId> {
        let pair = (a.min(b), a.max(b));
        self.expire(now);
        if let Some(id) = self.by_pair.get(&pair).copied() {
            let session = self.sessions.get_mut(&id)?;
            session.used = session.used.max(now);
            return Some(id);
        }
        if a == b || !self.make_room(now, pair) {
            return None;
        }
        let id = self.new_id();
        self.insert(now, id, pair);
        Some(id)
    }

    /// A daemon is here, until it is [forgotten](Self::forget). Its sessions count for the network of
    /// this address from then on; those of a daemon of which no address is told count for none.
    pub fn locate(&mut self, peer: PublicKey, ip: IpAddr) {
        self.networks.insert(peer, prefix(ip));
    }

    /// Ends the session of two daemons.
    pub fn close(&mut self, a: PublicKey, b: PublicKey) {
        if let Some(id) = self.by_pair.get(&(a.min(b), a.max(b))).copied() {
            self.remove(id);
        }
    }

    /// A daemon has left: its sessions are over.
    pub fn forget(&mut self, peer: &PublicKey) {
        self.networks.remove(peer);
        let sessions = self.members.get(peer).map(|it| it.sessions.clone());
        for id in sessions.into_iter().flatten() {
            self.remove(id);
        }
    }

    /// Ends the sessions that were not used for [`RELAY_IDLE`].
    pub fn expire(&mut self, now: Instant) {
        while let Some((noted, id)) = self.by_age.first().copied()
            && noted + RELAY_IDLE <= now
        {
            if !self.renew(id) {
                self.remove(id);
            }
        }
    }

    /// To whom a batch goes, and where that one is. `place_of` says where a daemon is now; `None` for
    /// one that is not connected.
    ///
    /// # Errors
    ///
    /// Why the batch is to be dropped; it is counted.
    pub fn forward(
        &mut self,
        now: Instant,
        batch: &Batch,
        place_of: impl Fn(&PublicKey) -> Option<Place>,
    ) -> Result<(PublicKey, Place), Refusal> {
        let decided = self.decide(now, batch, place_of);
        self.count(batch, decided.as_ref().err());
        decided
    }

    /// What became of all datagrams so far.
    pub fn counters(&self) -> RelayCounters {
        self.counters
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    fn decide(
        &mut self,
        now: Instant,
        batch: &Batch,
        place_of: impl Fn(&PublicKey) -> Option<Place>,
    ) -> Result<(PublicKey, Place), Refusal> {
        let session = self.sessions.get(&batch.id);
        let live = session.filter(|it| now < it.used + RELAY_IDLE);
        let (low, high) = live.ok_or(Refusal::UnknownSession)?.pair;
        let is_from = |peer: &PublicKey| match batch.origin {
            Origin::Udp(from) => place_of(peer) == Some(Place::Udp(from)),
            Origin::Tunnel(sender) => sender == *peer && place_of(peer) == Some(Place::Tunnel),
        };
        let receiver = match (is_from(&low), is_from(&high)) {
            (true, _) => high,
            (false, true) => low,
            (false, false) => return Err(self.why_foreign((low, high), place_of)),
        };
        let place = match place_of(&receiver) {
            Some(Place::Unproven) => return Err(Refusal::Unproven(receiver)),
            Some(place) => place,
            None => return Err(Refusal::NoReceiver),
        };
        match self.charge(now, batch.id, batch.bytes) {
            true => Ok((receiver, place)),
            false => Err(Refusal::OverRate),
        }
    }

    /// Whether one of the two may have sent it from an address that is not proven yet.
    fn why_foreign(
        &self,
        (low, high): Pair,
        place_of: impl Fn(&PublicKey) -> Option<Place>,
    ) -> Refusal {
        let unproven = [low, high]
            .into_iter()
            .find(|peer| place_of(peer) == Some(Place::Unproven));
        unproven.map_or(Refusal::ForeignSource, Refusal::Unproven)
    }

    /// Takes the bytes out of the buckets, if they are there.
    fn charge(&mut self, now: Instant, id: RelayId, bytes: u64) -> bool {
        self.note_asked(now, id);
        let (all, part) = (
            Limit::of(self.config.rate_bytes_per_s),
            self.part_of_member(),
        );
        let RelayTable {
            sessions,
            members,
            rate,
            ..
        } = self;
        let Some(session) = sessions.get_mut(&id) else {
            return false;
        };
        let (mut parts, mut is_within) = (1, true);
        for peer in [session.pair.0, session.pair.1] {
            if let Some(member) = members.get_mut(&peer) {
                is_within &= member.share.has(now, Limit::of(part), bytes);
                parts = parts.max(member.active);
            }
        }
        is_within &= session.share.has(now, Limit::of(part / parts), bytes);
        let plenty = rate.has_plenty(now, all);
        if !rate.has(now, all, bytes) || !(plenty || is_within) {
            return false;
        }
        rate.take(bytes);
        session.share.take(bytes);
        session.used = session.used.max(now);
        for peer in [session.pair.0, session.pair.1] {
            if let Some(member) = members.get_mut(&peer) {
                member.share.take(bytes);
            }
        }
        true
    }

    /// The part of one daemon in bytes per second. What a session moves counts for both its daemons.
    fn part_of_member(&self) -> u64 {
        let rate = self.config.rate_bytes_per_s;
        rate.saturating_mul(2) / self.active_members.max(2)
    }

    /// Something is to be passed on: from now on the session shares in the rate.
    fn note_asked(&mut self, now: Instant, id: RelayId) {
        self.end_active(now);
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.asked.replace(now).is_none() {
            let pair = session.pair;
            self.active.push_back((now, id));
            self.count_active(pair, |active| active + 1);
        }
    }

    /// Sessions of which nothing was to be passed on for [`ACTIVE`] share in the rate no longer. Each is
    /// looked at once in that time.
    fn end_active(&mut self, now: Instant) {
        while let Some((at, id)) = self.active.front().copied()
            && now.saturating_duration_since(at) >= ACTIVE
        {
            self.active.pop_front();
            let Some(session) = self.sessions.get_mut(&id) else {
                continue;
            };
            let is_old = |asked: &mut Instant| now.saturating_duration_since(*asked) >= ACTIVE;
            let pair = session.pair;
            if session.asked.take_if(is_old).is_some() {
                self.count_active(pair, |active| active - 1);
            } else if let Some(asked) = session.asked {
                self.active.push_back((asked, id));
            }
        }
    }

    /// Changes how many active sessions the two have.
    fn count_active(&mut self, (low, high): Pair, change: impl Fn(u64) -> u64) {
        for peer in [low, high] {
            if let Some(member) = self.members.get_mut(&peer) {
                self.active_members -= u64::from(member.active > 0);
                member.active = change(member.active);
                self.active_members += u64::from(member.active > 0);
            }
        }
    }

    fn count(&mut self, batch: &Batch, refusal: Option<&Refusal>) {
        let counters = &mut self.counters;
        let counter = match refusal {
            None => {
                counters.bytes += batch.bytes;
                &mut counters.datagrams
            }
            Some(Refusal::UnknownSession) => &mut counters.unknown_session,
            Some(Refusal::ForeignSource) => &mut counters.foreign_source,
            Some(Refusal::Unproven(_) | Refusal::NoReceiver) => &mut counters.no_receiver,
            Some(Refusal::OverRate) => &mut counters.over_rate,
        };
        *counter += batch.datagrams;
    }

    /// Whether there is room for one more session of these two; the quiet ones make it.
    fn make_room(&mut self, now: Instant, pair: Pair) -> bool {
        for peer in [pair.0, pair.1] {
            let its = self.members.get(&peer).map_or(0, |it| it.sessions.len());
            if its >= self.config.sessions_per_peer && !self.evict_of(now, &peer) {
                return false;
            }
        }
        let most = self.config.sessions / NETWORK_PART;
        let has_room = |network: &IpAddr| self.by_network.get(network).is_none_or(|it| *it < most);
        let has_room = self.networks_of(pair).iter().flatten().all(has_room);
        has_room && (self.sessions.len() < self.config.sessions || self.evict(now))
    }

    fn networks_of(&self, (low, high): Pair) -> [Option<IpAddr>; 2] {
        let [low, high] = [low, high].map(|peer| self.networks.get(&peer).copied());
        [low, high.filter(|_| low != high)]
    }

    /// Ends the quietest session of a daemon, if it is quiet.
    fn evict_of(&mut self, now: Instant, peer: &PublicKey) -> bool {
        let ids = self.members.get(peer).map(|it| &it.sessions);
        let its = ids.into_iter().flatten();
        let its = its.filter_map(|id| Some((self.sessions.get(id)?.used, *id)));
        let quietest = its.min().filter(|(used, _)| *used + QUIET <= now);
        quietest.map(|(_, id)| self.remove(id)).is_some()
    }

    /// Ends the quietest session of all, if it is quiet.
    fn evict(&mut self, now: Instant) -> bool {
        for _ in 0..LOOKS {
            let oldest = self.by_age.first().copied();
            let Some((_, id)) = oldest.filter(|(noted, _)| *noted + QUIET <= now) else {
                return false;
            };
            if !self.renew(id) {
                self.remove(id);
                return true;
            }
        }
        false
    }

    /// Notes that a session was used since it was last looked at; false if it was not.
    fn renew(&mut self, id: RelayId) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        let (noted, used) = (session.noted, session.used);
        session.noted = used;
        if used <= noted {
            return false;
        }
        self.by_age.remove(&(noted, id));
        self.by_age.insert((used, id));
        true
    }

    fn new_id(&mut self) -> RelayId {
        loop {
            let id = RelayId(self.rng.random());
            if !id.0.starts_with(&STUN_COOKIE) && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }

    fn insert(&mut self, now: Instant, id: RelayId, pair: Pair) {
        let networks = self.networks_of(pair);
        for network in networks.iter().flatten() {
            *self.by_network.entry(*network).or_default() += 1;
        }
        let session = Session {
            networks,
            pair,
            noted: now,
            used: now,
            asked: None,
            share: Bucket::default(),
        };
        self.sessions.insert(id, session);
        self.by_pair.insert(pair, id);
        self.by_age.insert((now, id));
        for peer in [pair.0, pair.1] {
            let member = self.members.entry(peer).or_insert_with(|| Member {
                sessions: BTreeSet::new(),
                active: 0,
                share: Bucket::default(),
            });
            member.sessions.insert(id);
        }
    }

    fn remove(&mut self, id: RelayId) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        if session.asked.is_some() {
            self.count_active(session.pair, |active| active - 1);
        }
        for network in session.networks.into_iter().flatten() {
            if let Entry::Occupied(mut count) = self.by_network.entry(network) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        self.by_pair.remove(&session.pair);
        self.by_age.remove(&(session.noted, id));
        for peer in [session.pair.0, session.pair.1] {
            if let Some(member) = self.members.get_mut(&peer) {
                member.sessions.remove(&id);
                if member.sessions.is_empty() {
                    self.members.remove(&peer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
