//! Connections to other daemons: talking on the control streams, asking for bytes and
//! giving them.
//!
//! A [`session`] moves control messages between one connection and the node. [`fetch`] asks for
//! one thing on a stream of its own, [`serve`] answers what the other side asks. None of them
//! decides what to fetch or whom to trust: the node does.

pub(crate) mod default_route;
pub(crate) mod fetch;
pub(crate) mod interfaces;
pub(crate) mod seat;
pub(crate) mod serve;
pub(crate) mod session;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, SetOnce};
use warren_net::is_local;

use crate::control::model::PeerPath;
use crate::share::offer::Offer;

/// Why a daemon closes a connection to a peer, as the peer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// Nothing is wrong.
    Done,
    /// The peer broke the protocol.
    Protocol,
    /// The peer does not read what it is sent.
    TooSlow,
    /// There is a newer connection of the same peer.
    Replaced,
    /// The wrong side dialled, or there is no room for more peers.
    Refused,
}

impl Close {
    /// The application error code (RFC 9000 §20.2).
    pub(crate) fn code(self) -> u32 {
        match self {
            Close::Done => 0,
            Close::Protocol => 1,
            Close::TooSlow => 2,
            Close::Replaced => 3,
            Close::Refused => 4,
        }
    }

    pub(crate) fn reason(self) -> &'static str {
        match self {
            Close::Done => "done",
            Close::Protocol => "protocol violation",
            Close::TooSlow => "not read",
            Close::Replaced => "connected again",
            Close::Refused => "refused",
        }
    }
}

/// What the node, the session and the streams of one connection share.
#[derive(Debug, Default)]
pub(crate) struct Common {
    /// What the peer may ask for, by the alias it has given to the swarm.
    offers: Mutex<BTreeMap<u32, Arc<Offer>>>,
    /// Wakes those who wait for an offer.
    offered: Notify,
    /// Set once the peer has proven its key.
    proven: SetOnce<()>,
    /// Set once another connection has taken over.
    is_replaced: AtomicBool,
    /// Requests of ours under way.
    asked: AtomicUsize,
    /// Content bytes received from the peer.
    pub(crate) down_bytes: AtomicU64,
    /// Content bytes sent to the peer.
    pub(crate) up_bytes: AtomicU64,
}

impl Common {
    /// Lets the peer ask for a share.
    pub(crate) fn offer(&self, alias: u32, offer: Arc<Offer>) {
        self.offers().insert(alias, offer);
        self.offered.notify_waiters();
    }

    /// Ends that.
    pub(crate) fn withdraw(&self, alias: u32) {
        self.offers().remove(&alias);
    }

    /// What the alias stands for.
    pub(crate) fn offered(&self, alias: u32) -> Option<Arc<Offer>> {
        self.offers().get(&alias).cloned()
    }

    /// The peer has proven its key: it is listened to.
    pub(crate) fn prove(&self) {
        // It does so once.
        let _ = self.proven.set(());
    }

    /// Whether the peer has proven its key.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.initialized()
    }

    /// Waits until the peer has proven its key.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub(crate) async fn until_proven(&self) {
        self.proven.wait().await;
    }

    /// Another connection with the peer has taken over: what ends with this one is asked again there.
    pub(crate) fn replace(&self) {
        self.is_replaced.store(true, Ordering::Relaxed);
    }

    /// Whether another connection has taken over.
    pub(crate) fn is_replaced(&self) -> bool {
        self.is_replaced.load(Ordering::Relaxed)
    }

    /// Waits until the alias stands for something.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub(crate) async fn until_offered(&self, alias: u32) {
        loop {
            let news = self.offered.notified();
            tokio::pin!(news);
            // From here on no news is missed.
            news.as_mut().enable();
            if self.offered(alias).is_some() {
                return;
            }
            news.await;
        }
    }

    /// Something is asked of the peer until the guard is dropped.
    pub(crate) fn ask(&self) -> Asked<'_> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Asked(self)
    }

    /// Whether something is asked of the peer.
    pub(crate) fn asks(&self) -> bool {
        self.asked.load(Ordering::Relaxed) > 0
    }

    /// Content bytes that have moved, both ways.
    pub(crate) fn moved_bytes(&self) -> u64 {
        self.down_bytes.load(Ordering::Relaxed) + self.up_bytes.load(Ordering::Relaxed)
    }

    fn offers(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Arc<Offer>>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that is asked of a peer.
pub(crate) struct Asked<'a>(&'a Common);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.asked.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds to a counter that only people look at.
pub(crate) fn count(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// How a peer at this address is reached.
pub(crate) fn path_of(ip: IpAddr) -> PeerPath {
    match is_local(ip) {
        true => PeerPath::Lan,
        false => PeerPath::Direct,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_the_local_network() {
        for (ip, path) in [
            ("127.0.0.1", PeerPath::Lan),
            ("192.168.1.2", PeerPath::Lan),
            ("fd00::1", PeerPath::Lan),
            ("203.0.113.7", PeerPath::Direct),
            ("2001:db8::1", PeerPath::Direct),
        ] {
            assert_eq!(path_of(ip.parse().unwrap()), path, "{ip}");
        }
    }
}
