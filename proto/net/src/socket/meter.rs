//! How many bytes the sockets have carried, as IP packets, but for what is exempt.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use quinn::udp::Transmit;

/// The headers of UDP and of IP without options (RFC 768, RFC 791 §3.1, RFC 8200 §3).
const IPV4_HEADERS: usize = 8 + 20;
const IPV6_HEADERS: usize = 8 + 40;

/// The same of what goes through a tracker by TLS over TCP, about: frame, record and segment.
const TUNNEL_HEADERS: usize = 22 + 22 + 40;

/// Bytes of IP packets, headers included, since the socket was opened; of all our sockets, QUIC or not,
/// but for what went between us and a [`Subnet`] that is exempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Sent.
    pub sent: u64,
    /// Received.
    pub received: u64,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// One of them, canonical.
    pub ip: IpAddr,
    /// How many bits they have in common with that.
    pub prefix_bits: u32,
}

impl Subnet {
    /// Whether an address, canonical or not, is one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(ip)) => {
                let other = u32::from(ours) ^ u32::from(ip);
                other.leading_zeros() >= self.prefix_bits
            }
            (IpAddr::V6(ours), IpAddr::V6(ip)) => {
                let other = u128::from(ours) ^ u128::from(ip);
                other.leading_zeros() >= self.prefix_bits
            }
            _ => false,
        }
    }
}

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Meter {
    sent: AtomicU64,
    received: AtomicU64,
    exempt: RwLock<Arc<[Subnet]>>,
    /// Whether there are any, for whom the lock is too dear.
    any_exempt: AtomicBool,
}

impl Meter {
    /// How much it was so far.
    pub(super) fn read(&self) -> Carried {
        Carried {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }

    /// Counts no more what goes to or comes from there.
    pub(super) fn set_exempt(&self, subnets: Vec<Subnet>) {
        let any = !subnets.is_empty();
        *self.exempt.write().unwrap_or_else(PoisonError::into_inner) = subnets.into();
        self.any_exempt.store(any, Ordering::Release);
    }

    /// Whether what goes between us and an address is not counted.
    pub(super) fn is_exempt(&self, ip: IpAddr) -> bool {
        if !self.any_exempt.load(Ordering::Acquire) {
            return false;
        }
        let exempt = self.exempt.read().unwrap_or_else(PoisonError::into_inner);
        exempt.iter().any(|subnet| subnet.contains(ip))
    }

    /// A batch was sent.
    pub(super) fn count_sent(&self, batch: &Transmit<'_>) {
        let (to, len) = (batch.destination, batch.contents.len());
        self.add(&self.sent, to, len, batch.segment_size.unwrap_or(len));
    }

    /// A batch was received; all of its datagrams but the last have `stride` bytes.
    pub(super) fn count_received(&self, from: SocketAddr, len: usize, stride: usize) {
        self.add(&self.received, from, len, stride);
    }

    /// A datagram was sent through a tunnel, or received.
    pub(super) fn count_tunnelled(&self, sent: usize, received: usize) {
        let bytes = |len: usize| {
            if len > 0 {
                (len + TUNNEL_HEADERS) as u64
            } else {
                0
            }
        };
        self.sent.fetch_add(bytes(sent), Ordering::Relaxed);
        self.received.fetch_add(bytes(received), Ordering::Relaxed);
    }

    fn add(&self, counter: &AtomicU64, other: SocketAddr, len: usize, stride: usize) {
        if self.is_exempt(other.ip()) {
            return;
        }
        let headers = match other.ip().to_canonical() {
            IpAddr::V4(_) => IPV4_HEADERS,
            IpAddr::V6(_) => IPV6_HEADERS,
        };
        let datagrams = len.div_ceil(stride.max(1)).max(1);
        counter.fetch_add((len + datagrams * headers) as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datagram_counts_with_its_headers() {
        let meter = Meter::default();
        for (to, expected) in [
            ("192.0.2.1:1", 3_000 + 3 * 28),
            ("[::ffff:192.0.2.1]:1", 3_000 + 3 * 28),
            ("[2001:db8::1]:1", 3_000 + 3 * 48),
        ] {
            let before = meter.read();
            meter.count_received(to.parse().unwrap(), 3_000, 1_200);
            assert_eq!(meter.read().received - before.received, expected, "{to}");
        }
        meter.count_sent(&Transmit {
            destination: "192.0.2.1:1".parse().unwrap(),
            ecn: None,
            contents: &[0; 100],
            segment_size: None,
            src_ip: None,
        });
        assert_eq!(meter.read().sent, 128);
    }

    #[test]
    fn what_is_exempt_does_not_count() {
        let meter = Meter::default();
        let subnet = |ip: &str, prefix_bits| Subnet {
            ip: ip.parse().unwrap(),
            prefix_bits,
        };
        meter.set_exempt(vec![subnet("192.168.1.9", 24), subnet("fe80::1", 64)]);
        for (ip, exempt) in [
            ("192.168.1.200", true),
            ("::ffff:192.168.1.200", true),
            ("192.168.2.1", false),
            ("fe80::77", true),
            ("fe81::77", false),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            meter.count_received(SocketAddr::new(ip, 1), 100, 100);
            assert_eq!(meter.is_exempt(ip), exempt, "{ip}");
        }
        assert_eq!(meter.read().received, 128 + 148);
        meter.set_exempt(Vec::new());
        assert!(!meter.is_exempt("192.168.1.200".parse().unwrap()));
    }

    #[test]
    fn a_prefix_of_any_length_is_one() {
        let all = |ip: &str| Subnet {
            ip: ip.parse().unwrap(),
            prefix_bits: 0,
        };
        assert!(all("0.0.0.0").contains("203.0.113.7".parse().unwrap()));
        assert!(!all("0.0.0.0").contains("2001:db8::1".parse().unwrap()));
        let one = Subnet {
            ip: "192.0.2.1".parse().unwrap(),
            prefix_bits: 32,
        };
        assert!(
            one.contains("192.0.2.1".parse().unwrap())
                && !one.contains("192.0.2.0".parse().unwrap())
        );
    }
}
