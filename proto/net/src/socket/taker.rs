//! Whoever takes what is neither QUIC nor relayed.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use quinn::udp::RecvMeta;
use tokio::sync::mpsc;

use super::{Via, canonical};

/// Datagrams waiting for the taker. A punch sends at most a few hundred probes at once; beyond this
/// bound the taker is stuck or we are flooded, and STUN repeats itself anyway.
const QUEUE: usize = 1024;

/// Longest datagram that is not QUIC: of unknown paths, STUN expects no more to pass unfragmented
/// (RFC 8489 §6.1).
const MAX_BYTES: usize = 548;

/// A datagram that is not QUIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it came from, canonical.
    pub from: SocketAddr,
    /// Which of our sockets it came to.
    pub via: Via,
    /// Which of our addresses it was sent to, where the system says so. An answer must come from
    /// there, or the sender's NAT drops it.
    pub local_ip: Option<IpAddr>,
    /// What it says.
    pub bytes: Bytes,
}

/// The queue to the taker, if there is one.
#[derive(Debug, Default)]
pub(super) struct Taker(Mutex<Option<mpsc::Sender<Datagram>>>);

impl Taker {
    /// The queue's other end; a second call takes over from the first.
    pub(super) fn take(&self) -> mpsc::Receiver<Datagram> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Passes a datagram on; false if nobody takes it, or it is too long.
    pub(super) fn hand(&self, via: Via, meta: &RecvMeta, segment: &[u8]) -> bool {
        let taker = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Reserve first: a flood must not cost a copy per datagram.
        let taker = taker.as_ref().filter(|_| segment.len() <= MAX_BYTES);
        let Some(slot) = taker.and_then(|taker| taker.try_reserve().ok()) else {
            return false;
        };
        slot.send(Datagram {
            from: canonical(meta.addr),
            via,
            local_ip: meta.dst_ip,
            bytes: Bytes::copy_from_slice(segment),
        });
        true
    }
}
