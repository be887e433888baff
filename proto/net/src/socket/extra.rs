//! Further sockets beside the first, each with a NAT mapping of its own.
//!
//! A guess at somebody's ports takes hundreds of them for half a second. Until a route goes by one
//! it carries no QUIC: a small task reads it and hands on what is not QUIC. A route *adopts* it.
//! From then on it is read like the first one, in batches and by quinn's own poll, and it stays open
//! for as long as a route goes by it: the routes own it.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::process::{Resource, getrlimit};
use tokio::io::Interest;
use tokio::task::AbortHandle;

use super::counters::Counters;
use super::meter::Meter;
use super::taker::Taker;
use super::{low_ttl, open, relay, sort};

/// Sockets at once: the 1,100 of the largest guess, and what others need beside it.
const EXTRAS: usize = 1_140;

/// Files that we leave to everyone else in the process.
const SPARE_FILES: u64 = 128;

/// What the task reads at once: a few checks of one sender, run together by the kernel.
const READ_BYTES: usize = 2048;

/// One of our sockets. It is never used again for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Via(u32);

impl Via {
    /// The first, which is always open.
    pub const MAIN: Self = Self(0);
}

/// A further socket.
#[derive(Debug)]
pub(super) struct Extra {
    pub(super) via: Via,
    pub(super) io: tokio::net::UdpSocket,
    pub(super) state: UdpSocketState,
    /// For what leaves from an address that we name: an error there says nothing about the kernel.
    state_named: UdpSocketState,
    /// Whether quinn reads it. Held while the task polls: of two polls only the last is woken.
    adopted: Mutex<bool>,
    reader: OnceLock<AbortHandle>,
}

/// Those that a route goes by, or went by a moment ago.
pub(super) type Adopted = Arc<[Weak<Extra>]>;

/// The further sockets of a socket.
#[derive(Debug)]
pub(super) struct Extras {
    /// The address of the first, with port 0.
    local: SocketAddr,
    heard: Heard,
    table: Mutex<Table>,
    adopted: RwLock<Adopted>,
    /// Whether there are any, for whom the lock is too dear.
    any_adopted: AtomicBool,
}

/// Where what comes in goes that quinn does not read.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    pub(super) taker: Arc<Taker>,
    pub(super) counters: Arc<Counters>,
    pub(super) meter: Arc<Meter>,
}

#[derive(Debug, Default)]
struct Table {
    made: u32,
    open: HashMap<Via, Arc<Extra>>,
    adopted: HashMap<Via, Weak<Extra>>,
}

impl Extras {
    /// None yet; `local` is the address of the first socket.
    pub(super) fn new(mut local: SocketAddr, heard: Heard) -> Self {
        local.set_port(0);
        Self {
            local,
            heard,
            table: Mutex::default(),
            adopted: RwLock::default(),
            any_adopted: AtomicBool::new(false),
        }
    }

    /// Opens one more.
    pub(super) fn open(&self) -> io::Result<Via> {
        let mut table = self.table();
        table.adopted.retain(|_, extra| extra.strong_count() > 0);
        if table.open.len() + table.adopted.len() >= EXTRAS {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("{EXTRAS} further sockets are open"),
            ));
        }
        let via = Via(table.made + 1);
        let extra = Arc::new(Extra::bind(via, self.local)?);
        table.made = via.0;
        let read = read(Arc::downgrade(&extra), self.heard.clone());
        // It is empty until here.
        let _ = extra.reader.set(tokio::spawn(read).abort_handle());
        table.open.insert(via, extra);
        Ok(via)
    }

    /// Closes one that no route goes by.
    pub(super) fn close(&self, via: Via) {
        self.table().open.remove(&via);
    }

    /// The socket, while it is open.
    pub(super) fn find(&self, via: Via) -> Option<Arc<Extra>> {
        let table = self.table();
        let adopted = || table.adopted.get(&via).and_then(Weak::upgrade);
        table.open.get(&via).cloned().or_else(adopted)
    }

    /// Leaves a socket to quinn and the routes that go by it.
    pub(super) fn adopt(&self, extra: &Arc<Extra>) {
        if extra.stop_reading() {
            open::enlarge_buffers((&extra.io).into());
            let mut table = self.table();
            table.open.remove(&extra.via);
            table.adopted.insert(extra.via, Arc::downgrade(extra));
        }
        self.refresh();
    }

    /// What quinn has to poll; `None` costs nothing.
    pub(super) fn adopted(&self) -> Option<Adopted> {
        if !self.any_adopted.load(Ordering::Acquire) {
            return None;
        }
        let adopted = self.adopted.read();
        Some(Arc::clone(&adopted.unwrap_or_else(PoisonError::into_inner)))
    }

    /// Leaves out those that are closed.
    pub(super) fn refresh(&self) {
        let mut table = self.table();
        table.adopted.retain(|_, extra| extra.strong_count() > 0);
        let adopted: Adopted = table.adopted.values().cloned().collect();
        self.any_adopted
            .store(!adopted.is_empty(), Ordering::Release);
        *self.adopted.write().unwrap_or_else(PoisonError::into_inner) = adopted;
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Extra {
    fn bind(via: Via, local: SocketAddr) -> io::Result<Self> {
        let io = open::bind(local)?;
        let limit = getrlimit(Resource::Nofile).current;
        if !leaves_spare(io.as_fd().as_raw_fd(), limit) {
            return Err(rustix::io::Errno::MFILE.into());
        }
        let io = tokio::net::UdpSocket::from_std(io)?;
        Ok(Self {
            via,
            state: UdpSocketState::new((&io).into())?,
            state_named: UdpSocketState::new((&io).into())?,
            io,
            adopted: Mutex::new(false),
            reader: OnceLock::new(),
        })
    }

    /// One that nobody reads.
    #[cfg(test)]
    pub(super) fn open_for_test() -> Arc<Self> {
        let loopback = SocketAddr::new([127, 0, 0, 1].into(), 0);
        Arc::new(Self::bind(Via(1), loopback).expect("loopback has free ports"))
    }

    /// Sends at once or not at all: no poller of quinn's watches this socket. `to` is of its family. Once
    /// more if our end is no address of ours any more.
    pub(super) fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let state = match transmit.src_ip {
            Some(_) => &self.state_named,
            None => &self.state,
        };
        match state.try_send((&self.io).into(), transmit) {
            Err(error)
                if transmit.src_ip.is_some() && error.kind() != io::ErrorKind::WouldBlock =>
            {
                self.send(&Transmit {
                    src_ip: None,
                    ..*transmit
                })
            }
            sent => sent,
        }
    }

    /// The same with a hop limit.
    pub(super) fn send_ttl(&self, bytes: &[u8], to: SocketAddr, ttl: u8) -> io::Result<()> {
        low_ttl::send(&self.io, bytes, to, ttl)
    }

    /// Ends the task; false if it has ended.
    fn stop_reading(&self) -> bool {
        let before = std::mem::replace(&mut *self.adopted_lock(), true);
        if let Some(reader) = self.reader.get() {
            reader.abort();
        }
        !before
    }

    /// Hands on what has come, and is ready once it is not ours to read any more.
    fn poll_read(&self, cx: &mut Context<'_>, heard: &Heard) -> Poll<()> {
        let adopted = self.adopted_lock();
        if *adopted {
            return Poll::Ready(());
        }
        let mut buf = [0; READ_BYTES];
        loop {
            if ready!(self.io.poll_recv_ready(cx)).is_err() {
                // The runtime is shutting down.
                return Poll::Ready(());
            }
            let mut metas = [RecvMeta::default()];
            let received = self.io.try_io(Interest::READABLE, || {
                let mut bufs = [IoSliceMut::new(&mut buf)];
                self.state.recv((&self.io).into(), &mut bufs, &mut metas)
            });
            match received {
                Ok(_) => self.hand_on(&metas[0], &mut buf, heard),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(_) => heard.counters.receive_errors.add(1),
            }
        }
    }

    fn hand_on(&self, meta: &RecvMeta, buf: &mut [u8], heard: &Heard) {
        let counters = &heard.counters;
        heard.meter.count_received(meta.addr, meta.len, meta.stride);
        let batch = &mut buf[..meta.len];
        sort::sort(batch, meta.stride, |segment| {
            if !heard.taker.hand(self.via, meta, segment) {
                counters.stray.add(1);
            }
        });
        for segment in batch.chunks(meta.stride.max(1)) {
            if sort::is_quic(segment) {
                counters.strangers.add(1);
            } else if relay::is_relayed(segment) {
                counters.stray.add(1);
            }
        }
    }

    fn adopted_lock(&self) -> MutexGuard<'_, bool> {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Extra {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.get() {
            reader.abort();
        }
    }
}

/// Reads a socket until it is adopted or closed. It does not keep it open.
async fn read(extra: Weak<Extra>, heard: Heard) {
    poll_fn(|cx| match extra.upgrade() {
        Some(extra) => extra.poll_read(cx, &heard),
        None => Poll::Ready(()),
    })
    .await;
}

/// Whether enough files may still be opened. A new one gets the lowest free number, so as many are
/// open at least.
fn leaves_spare(newest: i32, limit: Option<u64>) -> bool {
    let newest = u64::try_from(newest).unwrap_or(0);
    limit.is_none_or(|limit| newest + SPARE_FILES < limit)
}

#[cfg(test)]
mod tests;
