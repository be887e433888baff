//! The one UDP socket of the process, shared by QUIC and everything that must use its port, and for
//! a while further ones ([`extra`]) where one port is not enough.
//!
//! [`Socket`] is what quinn reads and writes through ([`quic`]). What arrives is sorted segment by
//! segment ([`sort`](mod@sort)): QUIC goes on to quinn, what a tracker relays ([`relay`]) to quinn or
//! whoever called [`Socket::take_relay`], the rest to whoever called [`Socket::take_stun`].
//!
//! Towards quinn a peer may have a made-up address that stays while its real one changes, a route
//! ([`routes`]). A connection to a real address, without a route, is a plain one.
//!
//! quinn sees IPv6 addresses only: an IPv4 address is v4-mapped (RFC 4291 §2.5.5.2) towards quinn
//! and [`canonical`] everywhere else, on a dual-stack and on an IPv4 socket alike.
//!
//! The kernel's errors stop here: a receive error that reached quinn would end its endpoint, a send
//! error the connection. They are counted, and the packet counts as lost.
//!
//! quinn 0.12 replaces the trait; nothing outside this module knows it.

mod counters;
mod extra;
mod ids;
mod inbox;
mod low_ttl;
mod meter;
mod open;
mod quic;
mod relay;
mod routes;
mod sort;
mod taker;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use quinn::TransportConfig;
use quinn::udp::{Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::sync::mpsc;

use warren_proto::id::{PublicKey, RelayId};

use counters::Counters;
pub use counters::SocketCounters;
pub use extra::Via;
use extra::{Extra, Extras, Heard};
pub(crate) use ids::LocalIds;
use inbox::{Arrival, Inbox};
use meter::Meter;
pub use meter::{Carried, Subnet};
pub(crate) use open::lacks_ipv6;
pub use relay::{RelayBatch, Relayed};
pub use routes::{Class, Unsolicited};
use routes::{Path, RouteId, Routes};
pub use taker::Datagram;
use taker::Taker;

/// Largest GRO batch the kernel hands over in one buffer.
const MAX_RECEIVE_BYTES: usize = 65_535;

/// Batches waiting for whoever forwards them: 16 MiB of the largest, and at 100 Mbit/s and one
/// datagram each 25 ms in which the taker does not get to run.
const RELAY_QUEUE: usize = 256;

/// One UDP socket: quinn's packets, STUN, and whatever else must share its NAT mapping.
pub struct Socket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    /// For what leaves from an address that we name. When that is no longer ours, the kernel's
    /// error looks as if it lacked segmentation offload, which is then done without for ever.
    state_named: UdpSocketState,
    local: SocketAddr,
    receive_segments: usize,
    taker: Arc<Taker>,
    relay_taker: Mutex<Option<mpsc::Sender<RelayBatch>>>,
    inbox: Inbox,
    extras: Extras,
    /// Whose turn it is when not only this socket may have something for quinn.
    turn: AtomicUsize,
    local_ids: LocalIds,
    routes: Routes,
    counters: Arc<Counters>,
    meter: Arc<Meter>,
}

impl Socket {
    /// Opens the socket for everyone. `[::]` is dual-stack, and IPv4 only where the host has no
    /// IPv6.
    ///
    /// `payload_bytes` is the largest QUIC packet that will be advertised; the receive buffers are
    /// sized by it. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the address is taken or not ours.
    pub fn bind(addr: SocketAddr, payload_bytes: u16) -> io::Result<Arc<Self>> {
        Self::bind_with(addr, payload_bytes, Unsolicited::Accept)
    }

    /// Opens the socket, and says who may open connections over it. See [`bind`](Self::bind).
    ///
    /// # Errors
    ///
    /// When the address is taken or not ours.
    pub fn bind_with(
        addr: SocketAddr,
        payload_bytes: u16,
        unsolicited: Unsolicited,
    ) -> io::Result<Arc<Self>> {
        let socket = Self::open_at(addr)?;
        Self::on(socket, payload_bytes, unsolicited, |_| LocalIds::default())
    }

    /// Opens a socket as [`bind`](Self::bind) does, and does nothing with it yet.
    pub(crate) fn open_at(addr: SocketAddr) -> io::Result<std::net::UdpSocket> {
        open::open(addr)
    }

    /// Uses a socket that is open, with connection ids that depend on the address it is bound to.
    pub(crate) fn on(
        socket: std::net::UdpSocket,
        payload_bytes: u16,
        unsolicited: Unsolicited,
        ids: impl FnOnce(SocketAddr) -> LocalIds,
    ) -> io::Result<Arc<Self>> {
        open::enlarge_buffers((&socket).into());
        let io = tokio::net::UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new((&io).into())?;
        let state_named = UdpSocketState::new((&io).into())?;
        let local = canonical(io.local_addr()?);
        let segments = MAX_RECEIVE_BYTES.div_ceil(usize::from(payload_bytes).max(1));
        let local_ids = ids(local);
        let heard = Heard::default();
        let extras = Extras::new(local, heard.clone());
        Ok(Arc::new(Self {
            receive_segments: segments.min(state.gro_segments()).max(1),
            io,
            state,
            state_named,
            local,
            taker: heard.taker,
            relay_taker: Mutex::new(None),
            inbox: Inbox::default(),
            extras,
            turn: AtomicUsize::new(0),
            routes: Routes::new(unsolicited, local_ids.clone()),
            local_ids,
            counters: heard.counters,
            meter: heard.meter,
        }))
    }

    /// The address it is bound to; `[::]` for a dual-stack one.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Everything that is neither QUIC nor relayed from now on. A second call takes over from the
    /// first.
    pub fn take_stun(&self) -> mpsc::Receiver<Datagram> {
        self.taker.take()
    }

    /// Sends one datagram beside QUIC; like any datagram it may get lost, also right here.
    pub fn send_raw(&self, bytes: &[u8], to: SocketAddr) {
        self.send_raw_from(bytes, to, None);
    }

    /// Sends one datagram from one of our addresses, the one in [`Datagram::local_ip`].
    pub fn send_raw_from(&self, bytes: &[u8], to: SocketAddr, local_ip: Option<IpAddr>) {
        let sent = self.send_part(&datagram(bytes, self.kernel_addr(to), local_ip));
        if sent.is_err() {
            // The buffer is full.
            self.counters.send_errors.add(1);
        }
    }

    /// Sends one datagram that is dropped after `ttl` hops: it opens our NAT towards `to` without
    /// reaching the far one. The socket's own hop limit, which QUIC uses, stays as it is.
    pub fn send_raw_ttl(&self, bytes: &[u8], to: SocketAddr, ttl: Option<u8>) {
        let Some(ttl) = ttl else {
            return self.send_raw(bytes, to);
        };
        let to = self.kernel_addr(to);
        let sent = self.io.try_io(Interest::WRITABLE, || {
            low_ttl::send(&self.io, bytes, to, ttl)
        });
        self.meter.count_sent(&datagram(bytes, to, None));
        if let Err(error) = sent {
            self.counters.send_errors.add(1);
            tracing::trace!(%to, %error, "packet not sent");
        }
    }

    /// Opens a further socket, at the same local address and a free port. Needs a tokio runtime.
    ///
    /// What is not QUIC arrives at the [taker](Self::take_stun). QUIC is dropped until a route is
    /// [pointed](Self::point_via) at the socket.
    ///
    /// # Errors
    ///
    /// When 512 are open, when few more files may be, or when there is no free port.
    pub fn open_extra(&self) -> io::Result<Via> {
        self.extras.open()
    }

    /// The address that one of our sockets is bound to, while it is open.
    pub fn local_addr_of(&self, via: Via) -> Option<SocketAddr> {
        if via == Via::MAIN {
            return Some(self.local);
        }
        let local = self.extras.find(via)?.io.local_addr();
        local.ok().map(canonical)
    }

    /// Closes a further socket. Nothing happens while a route goes by it; with that it closes by
    /// itself.
    pub fn close_extra(&self, via: Via) {
        self.extras.close(via);
    }

    /// Like [`send_raw_ttl`](Self::send_raw_ttl), by one of our sockets. Lost if that is closed.
    pub fn send_via(&self, via: Via, bytes: &[u8], to: SocketAddr, ttl: Option<u8>) {
        if via == Via::MAIN {
            return self.send_raw_ttl(bytes, to, ttl);
        }
        let to = self.kernel_addr(to);
        self.meter.count_sent(&datagram(bytes, to, None));
        self.send_by(via, |extra| match ttl {
            Some(ttl) => extra.send_ttl(bytes, to, ttl),
            None => extra.send(&datagram(bytes, to, None)),
        });
    }

    /// Like [`send_raw_from`](Self::send_raw_from), by one of our sockets. Lost if that is closed.
    pub fn send_via_from(&self, via: Via, bytes: &[u8], to: SocketAddr, local_ip: Option<IpAddr>) {
        if via == Via::MAIN {
            return self.send_raw_from(bytes, to, local_ip);
        }
        let datagram = datagram(bytes, self.kernel_addr(to), local_ip);
        self.meter.count_sent(&datagram);
        self.send_by(via, |extra| extra.send(&datagram));
    }

    /// The address under which quinn knows `peer`; made on the first call.
    ///
    /// It is the same for as long as the socket lives, and leads nowhere until it is
    /// [pointed](Self::point) at a path. There are at most 4,096: a new one beyond that ends the
    /// oldest that leads nowhere, or the oldest of all.
    pub fn route(&self, peer: &PublicKey, class: Class) -> SocketAddr {
        self.routes.route(peer, class)
    }

    /// Makes packets from `remote` belong to a route; they may open connections on it. A check must
    /// have proven that the peer is there.
    ///
    /// A route has at most 8 such addresses; the oldest that is not the path makes room. An address
    /// belongs to one route, the last that admitted it. False if the route is over or none to a peer
    /// [directly](Class::Direct), or if a plain connection that we dialled leads to `remote`.
    pub fn admit(&self, route: SocketAddr, remote: SocketAddr) -> bool {
        self.routes.admit(route, remote)
    }

    /// Like [`admit`](Self::admit), for an address from which the peer was heard and nothing is proven:
    /// its sender may have written somebody else's. False if it is the path of another route.
    pub fn admit_heard(&self, route: SocketAddr, remote: SocketAddr) -> bool {
        self.routes.admit_heard(route, remote)
    }

    /// Sends what goes out on a route to `remote` from now on. Nothing else ever changes that.
    ///
    /// False, and nothing has changed, unless the route has [admitted](Self::admit) the address.
    pub fn point(&self, route: SocketAddr, remote: SocketAddr) -> bool {
        self.routes.point(route, remote)
    }

    /// Sends what goes out on a route to `remote` from now on, by the socket `via`, at which packets
    /// from there belong to the route. Both must have been proven by a check.
    ///
    /// A further socket stays open for as long as a route goes by it, and closes when none does any
    /// more. False, and nothing has changed, if the socket is closed, or the route is over or none
    /// to a peer [directly](Class::Direct).
    pub fn point_via(&self, route: SocketAddr, via: Via, remote: SocketAddr) -> bool {
        if via == Via::MAIN {
            return self.admit(route, remote) && self.point(route, remote);
        }
        let Some(extra) = self.extras.find(via) else {
            return false;
        };
        let pointed = self.routes.point_via(route, &extra, remote);
        if pointed {
            self.extras.adopt(&extra);
            self.inbox.wake();
        }
        pointed
    }

    /// Sends what goes out on a relay route to `tracker` from now on, with the header of session
    /// `id`. What comes from there with that header arrives on the route.
    ///
    /// A session belongs to one route, the last that was pointed at it, and a route has one
    /// session, the last it was pointed at. `tracker` must be where a tracker connection leads, or a
    /// direct one to a peer that relays: it has consented. False, and nothing has changed, if it is no [relay](Class::Relay) route.
    pub fn point_relay(&self, route: SocketAddr, id: RelayId, tracker: SocketAddr) -> bool {
        let tracker = canonical(tracker);
        self.routes.point_relay(route, Path::Relay { id, tracker })
    }

    /// The same by another way than this socket: what goes out enters `tunnel`, one datagram each,
    /// or is dropped while that is full. What arrives is handed to
    /// [`receive_relayed`](Self::receive_relayed).
    pub fn point_tunnel(
        &self,
        route: SocketAddr,
        id: RelayId,
        tunnel: mpsc::Sender<Relayed>,
    ) -> bool {
        let queue = tunnel;
        self.routes.point_relay(route, Path::Tunnel { id, queue })
    }

    /// Takes in what came through the tunnel of a route. Dropped if no route has such a tunnel, or
    /// while more than 1,024 datagrams or 1.5 MB wait for quinn.
    pub fn receive_relayed(&self, relayed: Relayed) {
        let Relayed { id, bytes } = relayed;
        let route = self.routes.session(id, None);
        let Some(route) = route.filter(|_| !bytes.is_empty()) else {
            return self.counters.stray.add(1);
        };
        self.meter.count_tunnelled(0, bytes.len());
        self.hand_in(Arrival {
            route,
            stride: bytes.len(),
            bytes,
        });
    }

    /// What was carried so far, by this socket and the further ones.
    pub fn carried(&self) -> Carried {
        self.meter.read()
    }

    /// Counts in [`carried`](Self::carried) no more what goes between us and these; instead of those
    /// that were named before.
    pub fn set_exempt(&self, subnets: Vec<Subnet>) {
        self.meter.set_exempt(subnets);
    }

    /// Whether what goes between us and an address is not counted.
    pub fn is_exempt(&self, ip: IpAddr) -> bool {
        self.meter.is_exempt(ip)
    }

    /// Every relayed datagram from now on that is not of a session of ours; for whoever relays. A second
    /// call takes over from the first.
    ///
    /// Without it such datagrams are stray. Nothing is known of their senders.
    pub fn take_relay(&self) -> mpsc::Receiver<RelayBatch> {
        let (sender, receiver) = mpsc::channel(RELAY_QUEUE);
        *self.relay_taker() = Some(sender);
        receiver
    }

    /// Passes a batch on as it came; it may get lost, also right here.
    pub fn send_relay(&self, batch: &RelayBatch, to: SocketAddr) {
        self.send_relay_from(batch, to, None);
    }

    /// The same from one of our addresses: the one at which whoever is at `to` knows us, or its NAT
    /// drops the batch.
    pub fn send_relay_from(&self, batch: &RelayBatch, to: SocketAddr, local_ip: Option<IpAddr>) {
        for contents in batch.parts() {
            let sent = self.send_batch(&Transmit {
                destination: to,
                contents,
                ecn: None,
                segment_size: Some(batch.segment),
                src_ip: local_ip,
            });
            if sent.is_err() {
                // The buffer is full.
                self.counters.send_errors.add(1);
            }
        }
    }

    /// The real address that a route leads to, canonical; of a relay route, the tracker's. `None`
    /// if it leads nowhere or through a tunnel.
    pub fn path_of(&self, route: SocketAddr) -> Option<SocketAddr> {
        self.routes.path(RouteId::of(route)?)?.remote()
    }

    /// The socket that a route goes by; `None` if it leads nowhere or through a tracker.
    pub fn via_of(&self, route: SocketAddr) -> Option<Via> {
        let place = self.routes.path(RouteId::of(route)?)?.place()?;
        Some(place.via)
    }

    /// Which of our addresses the peer of a direct route sends to, where it was heard since the path was
    /// chosen.
    pub fn local_ip_of(&self, route: SocketAddr) -> Option<IpAddr> {
        match self.routes.path(RouteId::of(route)?)? {
            Path::Direct { local_ip, .. } => local_ip,
            Path::Relay { .. } | Path::Tunnel { .. } => None,
        }
    }

    /// Whether a route leads anywhere.
    pub(crate) fn is_open(&self, route: SocketAddr) -> bool {
        RouteId::of(route).is_some_and(|route| self.routes.path(route).is_some())
    }

    /// How a connection under quinn's `addr` leads to its peer.
    pub(crate) fn class_of(&self, addr: SocketAddr) -> Class {
        self.owner_of(addr)
            .map_or(Class::Direct, |(_, class)| class)
    }

    /// This machine has other addresses than before: the kernel chooses our end of every path
    /// again, until something is heard there.
    pub fn forget_local_ips(&self) {
        self.routes.forget_local_ips();
    }

    /// Whose route it is; `None` for a real address.
    pub fn owner_of(&self, route: SocketAddr) -> Option<(PublicKey, Class)> {
        self.routes.owner(route)
    }

    /// Ends a route: its connections hear and reach nobody any more.
    pub fn forget(&self, route: SocketAddr) {
        self.routes.forget(route);
    }

    /// The address that quinn's `addr` stands for, canonical; a route that leads nowhere or through a
    /// tunnel stands for itself.
    pub(crate) fn real_addr(&self, addr: SocketAddr) -> SocketAddr {
        self.path_of(addr).unwrap_or_else(|| canonical(addr))
    }

    /// Whether `addr` was made by [`route`](Self::route), here or elsewhere.
    pub(crate) fn is_route(addr: SocketAddr) -> bool {
        RouteId::of(addr).is_some()
    }

    /// Lets answers from `addr` through while `connection` lives; false if it is or has a route.
    pub(crate) fn dial(&self, addr: SocketAddr, connection: Weak<TransportConfig>) -> bool {
        self.routes.dial(addr, connection)
    }

    /// What makes the connection ids that the socket recognizes.
    pub(crate) fn local_ids(&self) -> LocalIds {
        self.local_ids.clone()
    }

    /// What was dropped or swallowed so far.
    pub fn counters(&self) -> SocketCounters {
        self.counters.read()
    }

    fn send_by(&self, via: Via, send: impl FnOnce(&Extra) -> io::Result<()>) {
        let sent = self.extras.find(via).map(|extra| send(&extra));
        if !matches!(sent, Some(Ok(()))) {
            self.counters.send_errors.add(1);
            tracing::trace!(?via, ?sent, "packet not sent");
        }
    }

    /// The form of `addr` that this socket's family takes.
    fn kernel_addr(&self, addr: SocketAddr) -> SocketAddr {
        if self.local.is_ipv4() {
            canonical(addr)
        } else {
            mapped(addr)
        }
    }

    fn relay_taker(&self) -> MutexGuard<'_, Option<mpsc::Sender<RelayBatch>>> {
        self.relay_taker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

/// One datagram beside QUIC; `to` is of the socket's family.
fn datagram(bytes: &[u8], to: SocketAddr, local_ip: Option<IpAddr>) -> Transmit<'_> {
    Transmit {
        destination: to,
        contents: bytes,
        ecn: None,
        segment_size: None,
        src_ip: local_ip,
    }
}

/// `addr` with a v4-mapped IPv6 address written as the IPv4 address it is.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), addr.port()),
        // Not rebuilt: a scope would be lost.
        IpAddr::V6(_) => addr,
    }
}

/// `addr` as IPv6, v4-mapped where it is IPv4.
pub(crate) fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_unmaps_and_leaves_the_rest() {
        let v4: SocketAddr = "192.0.2.1:7".parse().unwrap();
        assert_eq!(canonical(mapped(v4)), v4);
        let scoped: SocketAddr = "[fe80::1%3]:7".parse().unwrap();
        assert_eq!(canonical(scoped), scoped);
    }
}
