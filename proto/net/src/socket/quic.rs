//! What quinn sees of the socket: batches out, batches in, and when there is room.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::sync::mpsc;

use warren_proto::id::RelayId;

use super::extra::Extra;
use super::inbox::Arrival;
use super::relay::{self, RelayBatch, Relayed};
use super::routes::{Path, RouteId};
use super::sort::sort;
use super::{Socket, Via, canonical, mapped};

/// Largest payload the kernel takes in one call: 65,535 less the IPv4 and UDP headers.
const MAX_BATCH_BYTES: usize = 65_507;

/// Receive errors in a row after which the reader yields, so that a socket in a permanent error
/// state does not hold its thread.
const ERRORS_PER_POLL: usize = 32;

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
        match self.path(transmit) {
            Some(Path::Direct {
                by,
                remote,
                local_ip,
            }) => {
                let transmit = Transmit {
                    destination: remote,
                    contents: transmit.contents,
                    segment_size: transmit.segment_size,
                    ecn: transmit.ecn,
                    src_ip: local_ip,
                };
                match by {
                    None => self.send_batch(&transmit),
                    Some(extra) => self.send_batch_by(&extra, &transmit),
                }
            }
            Some(Path::Relay { id, tracker }) => self.send_batch(&Transmit {
                destination: tracker,
                contents: &relay::wrap(id, transmit.contents, segment_of(transmit)),
                segment_size: transmit.segment_size.map(|size| size + relay::HEADER_BYTES),
                // The tracker does not pass marks on, so they would tell half the story.
                ecn: None,
                src_ip: None,
            }),
            Some(Path::Tunnel { id, queue }) => {
                self.send_tunnel(id, &queue, transmit);
                Ok(())
            }
            None => {
                self.counters.unrouted.add(1);
                Ok(())
            }
        }
    }

    /// Gives quinn what there is at this socket, in the inbox, or at the further sockets that routes
    /// go by: in turn, where there is more than this one.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        // Before looking: whatever comes after the look wakes.
        self.inbox.register(cx.waker());
        let extras = self.extras.adopted();
        let extras = extras.as_deref().unwrap_or_default();
        let first = match extras.is_empty() && !self.inbox.is_waiting() {
            true => 0,
            false => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        let sources = 2 + extras.len();
        for step in 0..sources {
            let received = match first.wrapping_add(step) % sources {
                0 => self.poll_kernel(Via::MAIN, &self.io, &self.state, cx, bufs, meta),
                1 => self.poll_inbox(bufs, meta),
                n => self.poll_extra(&extras[n - 2], cx, bufs, meta),
            };
            if received.is_ready() {
                return received;
            }
        }
        // What was sorted into it in the meantime.
        self.poll_inbox(bufs, meta)
    }

    /// Always IPv6, so that quinn takes every address it is given.
    fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
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

impl Socket {
    /// The real path of what quinn sends; `None` for a route that leads nowhere.
    ///
    /// The address that quinn would send from is the one at which the connection began, which a
    /// route may have outlived.
    fn path(&self, transmit: &Transmit<'_>) -> Option<Path> {
        match RouteId::of(transmit.destination) {
            Some(route) => self.routes.path(route),
            None => Some(Path::Direct {
                by: None,
                remote: transmit.destination,
                local_ip: transmit.src_ip,
            }),
        }
    }

    /// Sends a batch to a real address. Fails only when the buffer is full.
    pub(super) fn send_batch(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let most = self.state.max_gso_segments();
        self.send_parts(most, transmit, |part| self.send_part(part))
    }

    /// Never waits: no poller of quinn's watches this socket, and a full buffer that it does not
    /// see would make it try again without end.
    fn send_batch_by(&self, extra: &Extra, transmit: &Transmit<'_>) -> io::Result<()> {
        self.send_parts(extra.state.max_gso_segments(), transmit, |part| {
            self.meter.count_sent(part);
            if let Err(error) = extra.send(part) {
                self.counters.send_errors.add(1);
                tracing::trace!(to = %part.destination, %error, "packet not sent");
            }
            Ok(())
        })
    }

    /// Cuts a batch into what the kernel takes, at most `most` packets in each part.
    fn send_parts(
        &self,
        most: usize,
        transmit: &Transmit<'_>,
        send: impl Fn(&Transmit<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let destination = self.kernel_addr(transmit.destination);
        for contents in batches(transmit.contents, transmit.segment_size, most) {
            send(&Transmit {
                destination,
                contents,
                // A batch of one is no batch, and old kernels refuse it as one.
                segment_size: transmit.segment_size.filter(|size| *size < contents.len()),
                ecn: transmit.ecn,
                src_ip: transmit.src_ip,
            })?;
        }
        Ok(())
    }

    /// One call to the kernel, and another one if our end is no address of ours any more. Fails
    /// only when the buffer is full.
    pub(super) fn send_part(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let state = match transmit.src_ip {
            Some(_) => &self.state_named,
            None => &self.state,
        };
        let send = || state.try_send((&self.io).into(), transmit);
        match self.io.try_io(Interest::WRITABLE, send) {
            Ok(()) => {
                self.meter.count_sent(transmit);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(_) if transmit.src_ip.is_some() => self.send_part(&Transmit {
                src_ip: None,
                ..*transmit
            }),
            Err(error) => {
                self.counters.send_errors.add(1);
                tracing::trace!(to = %transmit.destination, %error, "packet not sent");
                Ok(())
            }
        }
    }

    /// Never waits: nobody watches the tunnel's queue for quinn.
    fn send_tunnel(&self, id: RelayId, queue: &mpsc::Sender<Relayed>, transmit: &Transmit<'_>) {
        let batch = Bytes::copy_from_slice(transmit.contents);
        let segment = segment_of(transmit);
        for start in (0..batch.len()).step_by(segment) {
            let bytes = batch.slice(start..batch.len().min(start + segment));
            self.meter.count_tunnelled(bytes.len(), 0);
            if queue.try_send(Relayed { id, bytes }).is_err() {
                self.counters.relay_overflow.add(1);
            }
        }
    }

    fn poll_extra(
        &self,
        extra: &Weak<Extra>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        match extra.upgrade() {
            Some(extra) => self.poll_kernel(extra.via, &extra.io, &extra.state, cx, bufs, meta),
            None => {
                self.extras.refresh();
                Poll::Pending
            }
        }
    }

    fn poll_kernel(
        &self,
        via: Via,
        io: &tokio::net::UdpSocket,
        state: &UdpSocketState,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        for _ in 0..ERRORS_PER_POLL {
            // An error here means that the runtime is shutting down: there quinn may end.
            ready!(io.poll_recv_ready(cx))?;
            let received = io.try_io(Interest::READABLE, || state.recv(io.into(), bufs, meta));
            match received {
                Ok(count) => {
                    if self.receive_all(via, &mut bufs[..count], &mut meta[..count]) {
                        return Poll::Ready(Ok(count));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(error) => {
                    self.counters.receive_errors.add(1);
                    tracing::trace!(%error, "receive error");
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sorts what the kernel gave; true if anything is left for quinn, which must not be told of 0
    /// buffers.
    ///
    /// A buffer in which nothing is left ends up with length 0.
    fn receive_all(&self, via: Via, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> bool {
        let mut any_left = false;
        for (buf, meta) in bufs.iter_mut().zip(metas) {
            if self.receive_buffer(via, meta, buf) {
                any_left = true;
            } else {
                meta.len = 0;
            }
        }
        any_left
    }

    fn receive_buffer(&self, via: Via, meta: &mut RecvMeta, buf: &mut [u8]) -> bool {
        self.meter.count_received(meta.addr, meta.len, meta.stride);
        let batch = &mut buf[..meta.len];
        let found = sort(batch, meta.stride, |segment| {
            if !self.taker.hand(via, meta, segment) {
                self.counters.stray.add(1);
            }
        });
        let kept = match found.relayed {
            true if via == Via::MAIN => self.receive_relay(meta, batch, !found.quic),
            true => {
                // No tracker knows us there.
                let runs = relay::runs(batch, meta.stride);
                self.counters.stray.add(runs.map(|run| run.segments).sum());
                None
            }
            false => None,
        };
        match kept {
            Some(route) => self.receive_on(route, meta, &mut buf[..meta.len]),
            None => found.quic && self.receive_batch(via, meta, batch),
        }
    }

    /// Gives a batch to its route; true if anything of it is left.
    fn receive_batch(&self, via: Via, meta: &mut RecvMeta, batch: &mut [u8]) -> bool {
        let received = self.routes.receive(via, meta, batch);
        meta.addr = mapped(meta.addr);
        if received.dropped > 0 {
            self.counters.strangers.add(received.dropped);
        }
        received.any
    }

    /// The same of one that came through a tracker.
    fn receive_on(&self, route: RouteId, meta: &mut RecvMeta, batch: &mut [u8]) -> bool {
        let received = self.routes.receive_relayed(route, meta, batch);
        self.counters.strangers.add(received.dropped);
        received.any
    }

    /// Gives the relayed datagrams of a batch to whom they are for.
    ///
    /// Where they are `alone`, without QUIC of the sender's own, those of the first session of ours
    /// stay: the batch becomes one that came on the returned route.
    fn receive_relay(&self, meta: &mut RecvMeta, batch: &mut [u8], alone: bool) -> Option<RouteId> {
        let mut stays = None;
        for run in relay::runs(batch, meta.stride) {
            let session = run.id.and_then(|id| {
                let route = self.routes.session(id, Some(meta.addr))?;
                Some((id, route))
            });
            match session {
                Some(session) if alone && stays.is_none_or(|stays| stays == session) => {
                    stays = Some(session);
                }
                Some((_, route)) => self.hand_in(Arrival {
                    route,
                    stride: meta.stride - relay::HEADER_BYTES,
                    bytes: relay::unwrap(&batch[run.bytes], meta.stride),
                }),
                None => self.forward(meta, run, batch),
            }
        }
        let (id, route) = stays?;
        meta.len = relay::unwrap_in_place(batch, meta.stride, id);
        meta.stride -= relay::HEADER_BYTES;
        Some(route)
    }

    /// Gives datagrams of a session that is not ours to whoever forwards such.
    fn forward(&self, meta: &RecvMeta, run: relay::Run, batch: &[u8]) {
        let taker = self.relay_taker();
        let (Some(id), Some(taker)) = (run.id, taker.as_ref()) else {
            return self.counters.stray.add(run.segments);
        };
        // Reserve first: a flood must not cost a copy.
        match taker.try_reserve() {
            Ok(slot) => slot.send(RelayBatch {
                from: canonical(meta.addr),
                local_ip: meta.dst_ip,
                id,
                segment: meta.stride.min(run.bytes.len()),
                bytes: Bytes::copy_from_slice(&batch[run.bytes]),
            }),
            Err(_) => self.counters.relay_overflow.add(run.segments),
        }
    }

    /// Has quinn receive datagrams of a route.
    pub(super) fn hand_in(&self, arrival: Arrival) {
        let datagrams = arrival.bytes.len().div_ceil(arrival.stride.max(1));
        if !self.inbox.push(arrival) {
            self.counters.relay_overflow.add(datagrams as u64);
        }
    }

    /// Gives quinn what was handed in.
    fn poll_inbox(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if !self.inbox.is_waiting() {
            return Poll::Pending;
        }
        let mut count = 0;
        while let (Some(buf), Some(meta)) = (bufs.get_mut(count), metas.get_mut(count)) {
            let Some(arrival) = self.inbox.pop() else {
                break;
            };
            if !arrival.fill(buf, meta) {
                self.counters.stray.add(1);
            } else if self.receive_on(arrival.route, meta, &mut buf[..arrival.bytes.len()]) {
                count += 1;
            }
        }
        match count {
            0 => Poll::Pending,
            count => Poll::Ready(Ok(count)),
        }
    }
}

/// Length of each datagram of a batch but the last; never 0.
fn segment_of(transmit: &Transmit<'_>) -> usize {
    let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
    segment.max(1)
}

/// Cuts a batch into runs of whole segments that the kernel takes, at most `most` in each.
fn batches(
    contents: &[u8],
    segment_size: Option<usize>,
    most: usize,
) -> impl Iterator<Item = &[u8]> {
    let run_bytes = match segment_size {
        Some(size) if size > 0 => (MAX_BATCH_BYTES / size).clamp(1, most.max(1)) * size,
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
