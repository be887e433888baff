//! How QUIC behaves: windows, timers, packet sizes and congestion control.
//!
//! The numbers are the measured ones of the design's data plane. What differs per connection is
//! decided by whom it leads to: a tracker connection carries small frames only, and a path takes
//! packets as large as the interface at its beginning.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::{AckFrequencyConfig, MtuDiscoveryConfig, TransportConfig, VarInt};

use warren_proto::limits;

use crate::congestion::{ByRttConfig, Cues, WithCues};
use crate::path_mtu;
use crate::socket::{Class, Socket, canonical};
use crate::tls::Protocol;
use crate::windows::IDLE_WINDOW_BYTES;

/// What an endpoint is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Many connections that say little.
    Tracker,
    /// Few connections that move much.
    Daemon,
}

/// One Ethernet frame's worth over IPv4 or IPv6: what is tried in any case.
const MTU_BYTES: u16 = 1452;

/// The most that is tried, which only loopback takes. Measured there: 2.0 GB/s, against 0.6 at
/// [`MTU_BYTES`]; 65,000 is slower again.
const MOST_MTU_BYTES: u16 = 16_000;

/// What of an IP packet is not ours: the headers of IPv6 and UDP. Those of IPv4 are 20 bytes shorter,
/// but a route may change its family under a connection.
const HEADERS_BYTES: u32 = 40 + 8;

/// What every path must take (RFC 9000 §14), and with the header before it also every path through a
/// tracker. There nothing longer is tried: its parts may differ, and any of them may change.
const INITIAL_MTU_BYTES: u16 = 1200;

/// The least that is worth another try.
const LEAST_STEP_BYTES: u16 = 20;

/// Window of one chunk stream: a chunk is 16 MiB at most.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;

/// Parallel requests that a peer may have open with us.
const PEER_STREAMS: u32 = 256;

/// Windows of a tracker connection: one frame of the largest size.
const TRACKER_WINDOW_BYTES: u32 = 64 << 10;

/// What may leave in the first round trip.
pub(crate) const INITIAL_WINDOW_BYTES: u64 = 256 << 10;

/// Packets that may overtake another before it counts as lost; many paths reorder.
const REORDERING_PACKETS: u32 = 16;

/// One acknowledgement for this many packets; +16 % throughput over one for two.
const PACKETS_PER_ACK: u32 = 10;

/// The same where they may be larger than on any Ethernet. With 10 of 8,952 bytes a window that a short
/// queue keeps small has no acknowledgement in it, and each waits for the delay that is allowed.
/// Measured at 200 Mbit/s with a queue of 64 KB: 4.7 MB/s with 10, 12 with 4, 9 with 1.
const LARGE_PACKETS_PER_ACK: u32 = 4;

/// Twice within the shortest time for which NATs are known to keep a mapping, so that one may get
/// lost; a fifth of a packet a second, both directions together.
const PEER_KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A tracker connection is idle most of the time. Twice within the 20 s in which its mapping must
/// be refreshed.
const TRACKER_KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Below this a first guess of the round-trip time would send the handshake again before the other
/// side has done its cryptography.
const MIN_INITIAL_RTT: Duration = Duration::from_millis(10);

/// Silence after which a peer is gone.
const PEER_IDLE_MS: u32 = 30_000;

/// Silence after which a daemon, or its tracker, is gone; two keep-alives may get lost.
const TRACKER_IDLE_MS: u32 = 30_000;

/// How a connection leads to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To a real address.
    Direct(SocketAddr),
    /// Through a tracker.
    Relay,
}

impl Way {
    /// The way behind an address that quinn knows.
    pub(crate) fn of(socket: &Socket, addr: SocketAddr) -> Self {
        match socket.class_of(addr) {
            Class::Direct => Self::Direct(socket.real_addr(addr)),
            Class::Relay => Self::Relay,
        }
    }

    /// The largest packet that is tried: what the interface takes that leads to the peer now.
    fn most_bytes(self) -> u16 {
        match self {
            Self::Direct(remote) => most_bytes(path_mtu::towards(canonical(remote)).ok()),
            Self::Relay => INITIAL_MTU_BYTES,
        }
    }
}

impl Profile {
    /// Largest QUIC packet the endpoint takes.
    pub(crate) fn max_payload_bytes(self) -> u16 {
        match self {
            Self::Tracker => 1472,
            Self::Daemon => MOST_MTU_BYTES,
        }
    }

    /// How to behave towards who dialled us.
    pub(crate) fn transport(self, way: Way, cues: &Cues) -> TransportConfig {
        match self {
            Self::Tracker => tracker_transport(),
            Self::Daemon => peer_transport(way, cues),
        }
    }

    /// Handshakes that may be under way at once.
    pub(crate) fn handshakes(self) -> usize {
        match self {
            Self::Tracker => limits::HANDSHAKES_TRACKER,
            Self::Daemon => limits::HANDSHAKES_DAEMON,
        }
    }
}

/// The largest packet that is tried where the interface takes IP packets of `interface_bytes`.
///
/// Never less than on any Ethernet: a router that asked for less may have been anybody, and a try that
/// fails costs little.
fn most_bytes(interface_bytes: Option<u32>) -> u16 {
    let within = interface_bytes.map_or(0, |bytes| bytes.saturating_sub(HEADERS_BYTES));
    within.clamp(MTU_BYTES.into(), MOST_MTU_BYTES.into()) as u16
}

/// How larger packets are tried than must pass, up to `most_bytes`.
///
/// QUIC halves the range again and again: one try a round trip, three for a size that does not pass. It
/// ends where a step would be less than a hundredth of the range. So 8,952 bytes are found with 7 tries
/// instead of 9, and what a path of 1,500 takes behind an interface of 9,000 with 5 sizes that do not
/// pass instead of 7. When packets of that size vanish later on, it goes back to what must pass, and
/// tries again after a minute.
fn mtu_discovery(most_bytes: u16) -> Option<MtuDiscoveryConfig> {
    let range = most_bytes.checked_sub(INITIAL_MTU_BYTES)?;
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(most_bytes)
        .minimum_change(LEAST_STEP_BYTES.max(range / 100));
    (range > 0).then_some(mtu)
}

/// How to behave towards a daemon that dialled a tracker, and the tracker.
fn tracker_transport() -> TransportConfig {
    let mut transport = common(TRACKER_KEEP_ALIVE, TRACKER_IDLE_MS);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(limits::TRACKER_STREAMS as u32))
        .stream_receive_window(VarInt::from_u32(TRACKER_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(TRACKER_WINDOW_BYTES))
        .send_window(u64::from(TRACKER_WINDOW_BYTES));
    transport
}

fn packets_per_ack(most_bytes: u16) -> u32 {
    match most_bytes > MTU_BYTES {
        true => LARGE_PACKETS_PER_ACK,
        false => PACKETS_PER_ACK,
    }
}

/// How to behave towards a peer.
fn peer_transport(way: Way, cues: &Cues) -> TransportConfig {
    let most_bytes = way.most_bytes();
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(packets_per_ack(most_bytes)))
        .reordering_threshold(VarInt::from_u32(REORDERING_PACKETS));
    let mut transport = common(PEER_KEEP_ALIVE, PEER_IDLE_MS);
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(PEER_STREAMS))
        // The control stream.
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(IDLE_WINDOW_BYTES))
        .send_window(IDLE_WINDOW_BYTES.into())
        .packet_threshold(REORDERING_PACKETS)
        .initial_mtu(INITIAL_MTU_BYTES)
        .mtu_discovery_config(mtu_discovery(most_bytes))
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(WithCues {
            factory: Arc::new(congestion()),
            cues: cues.clone(),
        }));
    transport
}

/// How to behave, by what the connection is for and where it leads.
pub(crate) fn transport(protocol: Protocol, way: Way, cues: &Cues) -> TransportConfig {
    match protocol {
        Protocol::Tracker => tracker_transport(),
        Protocol::Peer => peer_transport(way, cues),
    }
}

/// Takes the round-trip time of a check for the first guess. Without one it is 333 ms, and a first
/// packet that is lost costs a second.
pub(crate) fn expect_rtt(transport: &mut TransportConfig, rtt: Option<Duration>) {
    if let Some(rtt) = rtt {
        transport.initial_rtt(rtt.max(MIN_INITIAL_RTT));
    }
}

/// A fresh configuration with what every connection shares.
fn common(keep_alive: Duration, idle_ms: u32) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        // Fair streams would make all parallel chunks finish together, at the end.
        .send_fairness(false)
        .keep_alive_interval(Some(keep_alive))
        .max_idle_timeout(Some(VarInt::from_u32(idle_ms).into()));
    transport
}

/// The same on every path: which controller decides, it measures itself.
fn congestion() -> ByRttConfig {
    ByRttConfig {
        initial_window: INITIAL_WINDOW_BYTES,
        // So that connections of one machine do not probe at the same time.
        seed: RandomState::new().hash_one(()),
    }
}

/// Whether an address is of this machine or of a network without a router to the Internet in between:
/// loopback, private (RFC 1918, RFC 4193) or link-local (RFC 3927, RFC 4291 §2.5.6). An IPv4 address is
/// to be given as such.
pub fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_large_as_the_interface_takes_and_never_smaller_than_on_ethernet() {
        for (interface, expected) in [
            (None, 1_452),
            (Some(0), 1_452),
            (Some(1_280), 1_452),
            (Some(1_500), 1_452),
            (Some(9_000), 8_952),
            (Some(65_536), 16_000),
            (Some(u32::MAX), 16_000),
        ] {
            assert_eq!(most_bytes(interface), expected, "{interface:?}");
            assert!(expected <= Profile::Daemon.max_payload_bytes());
        }
    }

    #[test]
    fn nothing_larger_than_must_pass_is_tried_through_a_relay() {
        assert_eq!(Way::Relay.most_bytes(), INITIAL_MTU_BYTES);
        assert!(mtu_discovery(INITIAL_MTU_BYTES).is_none());
        assert!(mtu_discovery(MTU_BYTES).is_some());
    }

    #[test]
    fn local_addresses_are_told_from_public_ones() {
        for local in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.9",
            "::1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(is_local(local.parse().unwrap()), "{local}");
        }
        for public in ["198.51.100.7", "2001:db8::1"] {
            assert!(!is_local(public.parse().unwrap()), "{public}");
        }
    }
}
