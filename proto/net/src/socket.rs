//! The one UDP socket of the process, shared by QUIC and everything that must use its port.
//!
//! [`Socket`] is what quinn reads and writes through. What arrives is sorted segment by segment
//! ([`sort`](mod@sort)): QUIC goes on to quinn, the rest to whoever called [`Socket::take_stun`].
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

mod ids;
mod low_ttl;
mod open;
mod routes;
mod sort;

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, TransportConfig, UdpPoller};
use tokio::io::Interest;
use tokio::sync::mpsc;

use warren_proto::id::PublicKey;

pub(crate) use ids::LocalIds;
pub(crate) use open::lacks_ipv6;
pub use routes::{Class, Unsolicited};
use routes::{Path, RouteId, Routes};

/// Datagrams waiting for the STUN taker. A punch sends at most a few hundred probes at once;
/// beyond this bound the taker is stuck or we are flooded, and STUN repeats itself anyway.
const STUN_QUEUE: usize = 1024;

/// Longest datagram that is not QUIC: of unknown paths, STUN expects no more to pass unfragmented
/// (RFC 8489 §6.1).
const MAX_STUN_BYTES: usize = 548;

/// Largest payload the kernel takes in one call: 65,535 less the IPv4 and UDP headers.
const MAX_BATCH_BYTES: usize = 65_507;

/// Largest GRO batch the kernel hands over in one buffer.
const MAX_RECEIVE_BYTES: usize = 65_535;

/// Receive errors in a row after which the reader yields, so that a socket in a permanent error
/// state does not hold its thread.
const ERRORS_PER_POLL: usize = 32;

/// A datagram that is not QUIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it came from, canonical.
    pub from: SocketAddr,
    /// Which of our addresses it was sent to, where the system says so. An answer must come from
    /// there, or the sender's NAT drops it.
    pub local_ip: Option<IpAddr>,
    /// What it says.
    pub bytes: Bytes,
}

/// What the socket dropped or swallowed since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketCounters {
    /// Receive errors, usually ICMP messages about something sent earlier.
    pub receive_errors: u64,
    /// Send errors other than a full socket buffer.
    pub send_errors: u64,
    /// Non-QUIC datagrams that nobody wanted, that found the queue full, or that are too long.
    pub stray: u64,
    /// QUIC packets that belonged to no connection and were not let in.
    pub strangers: u64,
    /// Batches that quinn sent on a route without a path.
    pub unrouted: u64,
}

/// One UDP socket: quinn's packets, STUN, and whatever else must share its NAT mapping.
pub struct Socket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    receive_segments: usize,
    taker: Mutex<Option<mpsc::Sender<Datagram>>>,
    local_ids: LocalIds,
    routes: Routes,
    receive_errors: AtomicU64,
    send_errors: AtomicU64,
    stray: AtomicU64,
    strangers: AtomicU64,
    unrouted: AtomicU64,
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
        let io = tokio::net::UdpSocket::from_std(open::open(addr)?)?;
        let state = UdpSocketState::new((&io).into())?;
        let local = canonical(io.local_addr()?);
        let segments = MAX_RECEIVE_BYTES.div_ceil(usize::from(payload_bytes).max(1));
        let local_ids = LocalIds::default();
        Ok(Arc::new(Self {
            receive_segments: segments.min(state.gro_segments()).max(1),
            io,
            state,
            local,
            taker: Mutex::new(None),
            routes: Routes::new(unsolicited, local_ids.clone()),
            local_ids,
            receive_errors: AtomicU64::new(0),
            send_errors: AtomicU64::new(0),
            stray: AtomicU64::new(0),
            strangers: AtomicU64::new(0),
            unrouted: AtomicU64::new(0),
        }))
    }

    /// The address it is bound to; `[::]` for a dual-stack one.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Everything that is not QUIC from now on. A second call takes over from the first.
    pub fn take_stun(&self) -> mpsc::Receiver<Datagram> {
        let (sender, receiver) = mpsc::channel(STUN_QUEUE);
        *self.taker.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Sends one datagram beside QUIC; like any datagram it may get lost, also right here.
    pub fn send_raw(&self, bytes: &[u8], to: SocketAddr) {
        self.send_raw_from(bytes, to, None);
    }

    /// Sends one datagram from one of our addresses, the one in [`Datagram::local_ip`].
    pub fn send_raw_from(&self, bytes: &[u8], to: SocketAddr, local_ip: Option<IpAddr>) {
        let sent = self.send_part(&Transmit {
            destination: self.kernel_addr(to),
            contents: bytes,
            ecn: None,
            segment_size: None,
            src_ip: local_ip,
        });
        if sent.is_err() {
            // The buffer is full.
            self.send_errors.fetch_add(1, Ordering::Relaxed);
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
        if let Err(error) = sent {
            self.send_errors.fetch_add(1, Ordering::Relaxed);
            tracing::trace!(%to, %error, "packet not sent");
        }
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
    /// belongs to one route, the last that admitted it. False if the route is over, or if a plain
    /// connection that we dialled leads to `remote`.
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

    /// The real address that a route leads to, canonical.
    pub fn path_of(&self, route: SocketAddr) -> Option<SocketAddr> {
        let path = self.routes.path(RouteId::of(route)?)?;
        Some(path.remote)
    }

    /// Whose route it is; `None` for a real address.
    pub fn owner_of(&self, route: SocketAddr) -> Option<(PublicKey, Class)> {
        self.routes.owner(route)
    }

    /// Ends a route: its connections hear and reach nobody any more.
    pub fn forget(&self, route: SocketAddr) {
        self.routes.forget(route);
    }

    /// The address that quinn's `addr` stands for, canonical; a route that leads nowhere stands for
    /// itself.
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
        SocketCounters {
            receive_errors: self.receive_errors.load(Ordering::Relaxed),
            send_errors: self.send_errors.load(Ordering::Relaxed),
            stray: self.stray.load(Ordering::Relaxed),
            strangers: self.strangers.load(Ordering::Relaxed),
            unrouted: self.unrouted.load(Ordering::Relaxed),
        }
    }

    /// The real path of what quinn sends; `None` for a route that leads nowhere.
    ///
    /// The address that quinn would send from is the one at which the connection began, which a
    /// route may have outlived.
    fn path(&self, transmit: &Transmit<'_>) -> Option<Path> {
        match RouteId::of(transmit.destination) {
            Some(route) => self.routes.path(route),
            None => Some(Path {
                remote: transmit.destination,
                local_ip: transmit.src_ip,
            }),
        }
    }

    /// Gives a batch to its route; true if anything of it is left.
    fn receive_batch(&self, meta: &mut RecvMeta, batch: &mut [u8]) -> bool {
        let received = self.routes.receive(meta, batch);
        meta.addr = mapped(meta.addr);
        if received.dropped > 0 {
            self.strangers
                .fetch_add(received.dropped, Ordering::Relaxed);
        }
        received.any
    }

    /// The form of `addr` that this socket's family takes.
    fn kernel_addr(&self, addr: SocketAddr) -> SocketAddr {
        if self.local.is_ipv4() {
            canonical(addr)
        } else {
            mapped(addr)
        }
    }

    fn take_segment(&self, meta: &RecvMeta, segment: &[u8]) {
        let taker = self.taker.lock().unwrap_or_else(PoisonError::into_inner);
        let datagram = || Datagram {
            from: canonical(meta.addr),
            local_ip: meta.dst_ip,
            bytes: Bytes::copy_from_slice(segment),
        };
        // Reserve first: a flood must not cost a copy per datagram.
        let taker = taker.as_ref().filter(|_| segment.len() <= MAX_STUN_BYTES);
        let slot = taker.and_then(|taker| taker.try_reserve().ok());
        match slot {
            Some(slot) => slot.send(datagram()),
            None => {
                self.stray.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn send_part(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.io.try_io(Interest::WRITABLE, || {
            self.state.try_send((&self.io).into(), transmit)
        }) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(error) => {
                self.send_errors.fetch_add(1, Ordering::Relaxed);
                tracing::trace!(to = %transmit.destination, %error, "packet not sent");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable {
            socket: self,
            waiting: None,
        })
    }

    /// Sends a batch, in several calls where it is more than the kernel takes in one.
    ///
    /// When the buffer fills up in the middle of such a batch quinn sends all of it again: the
    /// first packets arrive twice, which costs less than losing the last ones.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(path) = self.path(transmit) else {
            self.unrouted.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        let destination = self.kernel_addr(path.remote);
        for contents in batches(transmit.contents, transmit.segment_size) {
            self.send_part(&Transmit {
                destination,
                contents,
                // A batch of one is no batch, and old kernels refuse it as one.
                segment_size: transmit.segment_size.filter(|size| *size < contents.len()),
                ecn: transmit.ecn,
                src_ip: path.local_ip,
            })?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        for _ in 0..ERRORS_PER_POLL {
            // An error here means that the runtime is shutting down: there quinn may end.
            ready!(self.io.poll_recv_ready(cx))?;
            let received = self.io.try_io(Interest::READABLE, || {
                self.state.recv((&self.io).into(), bufs, meta)
            });
            match received {
                Ok(count) => {
                    let take = |meta: &RecvMeta, segment: &[u8]| self.take_segment(meta, segment);
                    let receive =
                        |meta: &mut RecvMeta, batch: &mut [u8]| self.receive_batch(meta, batch);
                    if sort::sort(&mut bufs[..count], &mut meta[..count], take, receive) {
                        return Poll::Ready(Ok(count));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(error) => {
                    self.receive_errors.fetch_add(1, Ordering::Relaxed);
                    tracing::trace!(%error, "receive error");
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Always IPv6, so that quinn takes every address it is given.
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(mapped(self.local))
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.receive_segments
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

/// Cuts a batch into runs of whole segments that the kernel takes.
fn batches(contents: &[u8], segment_size: Option<usize>) -> impl Iterator<Item = &[u8]> {
    let run_bytes = match segment_size {
        Some(size) if contents.len() > MAX_BATCH_BYTES && size > 0 => {
            (MAX_BATCH_BYTES / size).max(1) * size
        }
        _ => contents.len(),
    };
    contents.chunks(run_bytes.max(1))
}

/// Waits until the socket takes data again. One per connection, because the socket itself
/// remembers only one waker per direction for polling.
struct Writable {
    socket: Arc<Socket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let waiting = this.waiting.get_or_insert_with(|| {
            let socket = Arc::clone(&this.socket);
            Box::pin(async move { socket.io.writable().await })
        });
        let writable = ready!(waiting.as_mut().poll(cx));
        this.waiting = None;
        Poll::Ready(writable)
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_batch_the_kernel_takes_stays_whole() {
        let contents = vec![0; 10 * 1452];
        assert_eq!(batches(&contents, Some(1452)).count(), 1);
        assert_eq!(batches(&contents, None).count(), 1);
    }

    #[test]
    fn an_oversized_batch_is_cut_between_segments() {
        let contents = vec![0; 9 * 16_000 + 7];
        let lengths: Vec<usize> = batches(&contents, Some(16_000)).map(<[u8]>::len).collect();
        assert_eq!(lengths, [64_000, 64_000, 16_007]);
    }

    #[test]
    fn canonical_unmaps_and_leaves_the_rest() {
        let v4: SocketAddr = "192.0.2.1:7".parse().unwrap();
        assert_eq!(canonical(mapped(v4)), v4);
        let scoped: SocketAddr = "[fe80::1%3]:7".parse().unwrap();
        assert_eq!(canonical(scoped), scoped);
    }

    #[tokio::test]
    async fn an_oversized_batch_arrives_segment_by_segment() {
        let from = Socket::bind("127.0.0.1:0".parse().unwrap(), 1472).unwrap();
        let to = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let contents: Vec<u8> = (0..10u8).flat_map(|n| vec![n; 16_000]).collect();
        let transmit = Transmit {
            destination: mapped(to.local_addr().unwrap()),
            ecn: None,
            contents: &contents,
            segment_size: Some(16_000),
            src_ip: None,
        };
        from.io.writable().await.unwrap();
        from.try_send(&transmit).unwrap();
        assert_eq!(from.counters().send_errors, 0);
        let mut segment = vec![0; 65_535];
        for expected in 0..10u8 {
            let received = tokio::time::timeout(Duration::from_secs(10), to.recv(&mut segment));
            assert_eq!(received.await.unwrap().unwrap(), 16_000);
            assert_eq!(segment[0], expected);
        }
    }
}
