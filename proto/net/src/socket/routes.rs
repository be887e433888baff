//! Which path leads to a peer, and which peer a packet is from.
//!
//! quinn is told one address per peer and [`Class`] that never changes: a *route*, a made-up IPv6
//! address. The path behind it, a real address, changes when a check has proven another one. So a
//! NAT that was rebound on either side, or a better path, is invisible to a connection.
//!
//! What comes from an admitted address belongs to its route. What comes from elsewhere belongs to
//! the route on which its connection id was heard before ([`receive`]): that peer's NAT was
//! rebound. It is received there, but only [`Routes::point`] changes where we send.
//!
//! A route of [`Class::Relay`] leads through a tracker, and what belongs to it says so itself, by
//! its session. Neither class takes anything from the other: no address, no connection id.
//!
//! Not here: checks (who calls [`Routes::admit`]), and the socket itself.

mod path;
mod receive;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use quinn::TransportConfig;

use warren_proto::id::{PublicKey, RelayId};

use super::extra::{Extra, Via};
use super::ids::{LocalId, LocalIds};
pub(super) use path::{Path, Place};

/// Routes at once. Each takes less than 2 KiB when full, so 8 MiB in all; a daemon has about 64
/// peers per swarm.
const ROUTES: usize = 4096;

/// Admitted addresses per route: as many as a peer may have candidates.
const SOURCES_PER_ROUTE: usize = 8;

/// Connection ids remembered per route: quinn has 8 per connection in use, and while one
/// connection takes over from another there are two.
const IDS_PER_ROUTE: usize = 16;

/// The upper half of a route's address, "warren" behind the `fd` of a unique local address
/// (RFC 4193). It never leaves the process, and a packet that claims to be from there is dropped.
const PREFIX: u64 = 0xfd77_6172_7265_6e00;

/// quinn refuses to dial port 0; otherwise it means nothing.
const PORT: u16 = 1;

/// How a route leads to its peer. A connection never moves from one class to the other: its
/// congestion state would be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// From us to the peer.
    Direct,
    /// Through the tracker.
    Relay,
}

/// What to do with QUIC packets from addresses that are neither admitted nor dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsolicited {
    /// Anyone may open a connection.
    #[default]
    Accept,
    /// Dropped, unless their connection id is known from a route: only an admitted address may
    /// open a connection.
    OnlyAdmitted,
}

/// The routes of a socket.
#[derive(Debug)]
pub(super) struct Routes {
    /// Never held for longer than a look-up, except where a route is made or ends.
    table: RwLock<Table>,
}

impl Routes {
    /// `ids` recognizes the connection ids that quinn gives out.
    pub(super) fn new(unsolicited: Unsolicited, ids: LocalIds) -> Self {
        Self {
            table: RwLock::new(Table::new(unsolicited, ids)),
        }
    }

    /// The route to a peer, made if there is none.
    pub(super) fn route(&self, peer: &PublicKey, class: Class) -> SocketAddr {
        self.write().route(*peer, class).addr()
    }

    /// Makes packets from `remote` belong to the route; false if they cannot.
    pub(super) fn admit(&self, route: SocketAddr, remote: SocketAddr) -> bool {
        let place = Place::new(Via::MAIN, remote);
        RouteId::of(route).is_some_and(|route| self.write().admit(route, place))
    }

    /// The same, unless `remote` is the path of another route.
    pub(super) fn admit_heard(&self, route: SocketAddr, remote: SocketAddr) -> bool {
        let place = Place::new(Via::MAIN, remote);
        RouteId::of(route).is_some_and(|route| {
            let mut table = self.write();
            !table.is_path_of_other(route, place) && table.admit(route, place)
        })
    }

    /// Sends to `remote` from now on; false if the route has not admitted it.
    pub(super) fn point(&self, route: SocketAddr, remote: SocketAddr) -> bool {
        let place = Place::new(Via::MAIN, remote);
        RouteId::of(route).is_some_and(|route| self.write().point(route, place, None))
    }

    /// Admits `remote` as a further socket sees it, and sends there by that from now on.
    pub(super) fn point_via(&self, route: SocketAddr, by: &Arc<Extra>, remote: SocketAddr) -> bool {
        let place = Place::new(by.via, remote);
        RouteId::of(route).is_some_and(|route| {
            let mut table = self.write();
            table.admit(route, place) && table.point(route, place, Some(Arc::clone(by)))
        })
    }

    /// Lets the kernel choose our end of every path again, until something is heard there.
    pub(super) fn forget_local_ips(&self) {
        self.write().forget_local_ips();
    }

    /// Sends through a tracker from now on, which may be pointed at anew; false if the route is no
    /// relay route. Another route of the same session leads nowhere any more.
    pub(super) fn point_relay(&self, route: SocketAddr, path: Path) -> bool {
        RouteId::of(route).is_some_and(|route| self.write().point_relay(route, path))
    }

    /// Where the route leads.
    pub(super) fn path(&self, route: RouteId) -> Option<Path> {
        self.read().routes.get(&route)?.path.clone()
    }

    /// Whose route it is.
    pub(super) fn owner(&self, route: SocketAddr) -> Option<(PublicKey, Class)> {
        let route = RouteId::of(route)?;
        Some(self.read().routes.get(&route)?.owner)
    }

    /// Ends the route.
    pub(super) fn forget(&self, route: SocketAddr) {
        if let Some(route) = RouteId::of(route) {
            self.write().remove(route);
        }
    }

    /// Lets packets from `addr` through under that address while `connection` lives; false if
    /// `addr` belongs to a route.
    pub(super) fn dial(&self, addr: SocketAddr, connection: Weak<TransportConfig>) -> bool {
        self.write().dial(addr, connection)
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lower half of a route's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RouteId(u64);

impl RouteId {
    /// The route that `addr` stands for, if it is not a real address.
    pub(super) fn of(addr: SocketAddr) -> Option<Self> {
        let SocketAddr::V6(addr) = addr else {
            return None;
        };
        let bits = addr.ip().to_bits();
        ((bits >> 64) as u64 == PREFIX).then_some(Self(bits as u64))
    }

    fn addr(self) -> SocketAddr {
        let bits = u128::from(PREFIX) << 64 | u128::from(self.0);
        SocketAddr::new(Ipv6Addr::from_bits(bits).into(), PORT)
    }
}

#[derive(Debug)]
struct Table {
    unsolicited: Unsolicited,
    local_ids: LocalIds,
    /// Makes route ids from peers.
    names: RandomState,
    made: u64,
    routes: HashMap<RouteId, Route>,
    /// Every `Admitted` one is in the list of its route, and the other way round.
    sources: HashMap<Place, Source>,
    /// Every one is in the list of its route, and the other way round.
    ids: HashMap<LocalId, RouteId>,
    /// Every one is in the path of its route, and the other way round.
    sessions: HashMap<RelayId, RouteId>,
}

#[derive(Debug)]
struct Route {
    owner: (PublicKey, Class),
    /// Orders routes by age.
    made: u64,
    path: Option<Path>,
    /// Oldest first, at most [`SOURCES_PER_ROUTE`].
    sources: VecDeque<Place>,
    /// Oldest first, at most [`IDS_PER_ROUTE`].
    ids: VecDeque<LocalId>,
}

#[derive(Debug)]
enum Source {
    /// By a check.
    Admitted {
        route: RouteId,
        /// It was made the path, and nothing has come from there since.
        unheard: bool,
    },
    /// We dialled it by the first socket, without a route. quinn keeps the transport configuration of a connection for
    /// as long as the connection, and says in no other way when that is over.
    Dialled(Vec<Weak<TransportConfig>>),
}

impl Table {
    fn new(unsolicited: Unsolicited, local_ids: LocalIds) -> Self {
        Self {
            unsolicited,
            local_ids,
            names: RandomState::new(),
            made: 0,
            routes: HashMap::new(),
            sources: HashMap::new(),
            ids: HashMap::new(),
            sessions: HashMap::new(),
        }
    }

    /// The name is a hash under a key of our own: 64 bits that no peer can aim at another's, and
    /// the same again for a route that was forgotten.
    fn route(&mut self, peer: PublicKey, class: Class) -> RouteId {
        let id = RouteId(self.names.hash_one((peer, class)));
        if !self.routes.contains_key(&id) {
            self.make_room();
            self.made += 1;
            let route = Route {
                owner: (peer, class),
                made: self.made,
                path: None,
                sources: VecDeque::new(),
                ids: VecDeque::new(),
            };
            self.routes.insert(id, route);
        }
        id
    }

    /// Routes that lead nowhere go first: a tracker that introduces thousands of peers must not
    /// cost us those we talk to.
    fn make_room(&mut self) {
        if self.routes.len() < ROUTES {
            return;
        }
        let oldest = self
            .routes
            .iter()
            .min_by_key(|(_, route)| (route.path.is_some(), route.made))
            .map(|(id, _)| *id);
        if let Some(oldest) = oldest {
            self.remove(oldest);
        }
    }

    fn remove(&mut self, id: RouteId) {
        let Some(route) = self.routes.remove(&id) else {
            return;
        };
        for source in route.sources {
            self.sources.remove(&source);
        }
        for id in route.ids {
            self.ids.remove(&id);
        }
        if let Some((session, _)) = route.path.and_then(|path| path.session()) {
            self.sessions.remove(&session);
        }
    }

    fn class_of(&self, id: RouteId) -> Option<Class> {
        self.routes.get(&id).map(|route| route.owner.1)
    }

    /// The last check counts: an address that was another peer's is now this one's.
    fn admit(&mut self, id: RouteId, place: Place) -> bool {
        if RouteId::of(place.remote).is_some() || self.class_of(id) != Some(Class::Direct) {
            return false;
        }
        match self.sources.get(&place) {
            Some(Source::Dialled(connections)) if connections.iter().any(is_alive) => return false,
            Some(Source::Dialled(_)) => (),
            Some(Source::Admitted { route, .. }) if *route == id => return true,
            Some(Source::Admitted { route, .. }) => self.revoke(*route, place),
            None => (),
        }
        self.add_source(id, place);
        true
    }

    fn is_path_of_other(&self, id: RouteId, place: Place) -> bool {
        let Some(Source::Admitted { route, .. }) = self.sources.get(&place) else {
            return false;
        };
        let path = self.routes.get(route).and_then(|it| it.path.as_ref());
        *route != id && path.is_some_and(|path| path.is_to(place))
    }

    fn add_source(&mut self, id: RouteId, place: Place) {
        let Some(route) = self.routes.get_mut(&id) else {
            return;
        };
        if route.sources.len() == SOURCES_PER_ROUTE {
            let path = route.path.as_ref();
            let is_path = |place| path.is_some_and(|path| path.is_to(place));
            let oldest = route.sources.iter().position(|place| !is_path(*place));
            if let Some(oldest) = oldest.and_then(|at| route.sources.remove(at)) {
                self.sources.remove(&oldest);
            }
        }
        route.sources.push_back(place);
        let source = Source::Admitted {
            route: id,
            unheard: false,
        };
        self.sources.insert(place, source);
    }

    fn revoke(&mut self, id: RouteId, place: Place) {
        self.sources.remove(&place);
        if let Some(route) = self.routes.get_mut(&id) {
            route.sources.retain(|source| *source != place);
            route.path.take_if(|path| path.is_to(place));
        }
    }

    fn point(&mut self, id: RouteId, place: Place, by: Option<Arc<Extra>>) -> bool {
        let Some(Source::Admitted { route, unheard }) = self.sources.get_mut(&place) else {
            return false;
        };
        let Some(pointed) = self.routes.get_mut(&id).filter(|_| *route == id) else {
            return false;
        };
        *unheard = true;
        pointed.path = Some(Path::Direct {
            by,
            remote: place.remote,
            local_ip: None,
        });
        true
    }

    fn forget_local_ips(&mut self) {
        for path in self.routes.values_mut().filter_map(|it| it.path.as_mut()) {
            path.leave_from(None);
            let source = path.place().and_then(|place| self.sources.get_mut(&place));
            if let Some(Source::Admitted { unheard, .. }) = source {
                *unheard = true;
            }
        }
    }

    fn point_relay(&mut self, id: RouteId, path: Path) -> bool {
        let Some((session, _)) = path.session() else {
            return false;
        };
        if self.class_of(id) != Some(Class::Relay) {
            return false;
        }
        if let Some(other) = self.sessions.get(&session).copied() {
            self.lead_nowhere(other);
        }
        self.lead_nowhere(id);
        if let Some(route) = self.routes.get_mut(&id) {
            route.path = Some(path);
            self.sessions.insert(session, id);
        }
        true
    }

    /// Ends the session of a relay route.
    fn lead_nowhere(&mut self, id: RouteId) {
        let path = self.routes.get_mut(&id).and_then(|it| it.path.take());
        if let Some((session, _)) = path.and_then(|path| path.session()) {
            self.sessions.remove(&session);
        }
    }

    fn dial(&mut self, addr: SocketAddr, connection: Weak<TransportConfig>) -> bool {
        self.hang_up();
        if RouteId::of(addr).is_some() {
            return false;
        }
        let source = self.sources.entry(Place::new(Via::MAIN, addr));
        match source.or_insert_with(|| Source::Dialled(Vec::new())) {
            Source::Dialled(connections) => connections.push(connection),
            Source::Admitted { .. } => return false,
        }
        true
    }

    /// Forgets the dialled addresses whose connections are over.
    fn hang_up(&mut self) {
        self.sources.retain(|_, source| match source {
            Source::Dialled(connections) => {
                connections.retain(is_alive);
                !connections.is_empty()
            }
            Source::Admitted { .. } => true,
        });
    }

    /// Remembers an id, unless it was made up or heard on another route: whoever repeats an id of
    /// somebody else's from an address of their own does not take it away.
    fn learn(&mut self, id: LocalId, on: RouteId) {
        if self.ids.contains_key(&id) || !self.local_ids.made(&id) {
            return;
        }
        let Some(route) = self.routes.get_mut(&on) else {
            return;
        };
        if route.ids.len() == IDS_PER_ROUTE
            && let Some(oldest) = route.ids.pop_front()
        {
            self.ids.remove(&oldest);
        }
        route.ids.push_back(id);
        self.ids.insert(id, on);
    }

    /// Takes note of which of our addresses a new path leads to.
    fn hear(&mut self, from: Place, arrived: Option<IpAddr>) {
        let Some(Source::Admitted { route, unheard }) = self.sources.get_mut(&from) else {
            return;
        };
        let was_unheard = std::mem::take(unheard);
        let route = self.routes.get_mut(route);
        let path = route.and_then(|route| route.path.as_mut());
        if let Some(path) = path.filter(|path| was_unheard && path.is_to(from)) {
            path.leave_from(arrived);
        }
    }
}

fn is_alive(connection: &Weak<TransportConfig>) -> bool {
    connection.strong_count() > 0
}

#[cfg(test)]
mod tests;
