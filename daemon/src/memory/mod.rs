//! What a daemon keeps in memory because of its peers: one budget, in parts that are each enforced.
//!
//! | part | of the budget | bounds | who waits |
//! | --- | --- | --- | --- |
//! | requests | 1/2 | chunks asked for and not yet on the disk, with what peers may send of them | our requests |
//! | sends | 1/4 | what was written to peers and not acknowledged, beyond idle windows | writing to a peer |
//! | pieces | 1/12 | what was read from files and is not written to a peer yet | reading the next piece |
//! | idle | 1/6 | windows both ways of connections on which nothing is asked for | further peers |
//!
//! A request lets the peer send as many bytes as it is for ([`warren_net::Expected`]). So what has come
//! and is unread takes of the same part as what was read, and the engine, which bounds what is asked for
//! (`transfer::engine`), bounds both. [`Sends`] divides send windows among the peers that are being
//! served.
//!
//! Not in it: what a share is (hashes, listings), messages that wait for peers, datagrams that are passed
//! on for others, what QUIC itself needs for a connection, and 4 MiB at most that are kept for the next
//! pieces ([`Buffers`]).

pub(crate) mod aligned;
mod buffers;
mod division;
mod pieces;
mod sends;

use std::sync::Arc;

use warren_net::IDLE_WINDOW_BYTES;

pub(crate) use buffers::Buffer;
use buffers::Buffers;
use pieces::Pieces;
pub(crate) use sends::Sending;
use sends::Sends;

/// The budget where none is named, in MiB.
pub const DEFAULT_MIB: u32 = 96;

/// The least that a daemon runs with, in MiB: one chunk of the largest size fits, and 85 peers.
pub const LEAST_MIB: u32 = 32;

/// Peers connected at once, over all shares, whatever the budget.
const MOST_PEERS: u64 = 256;

/// The budget of one daemon.
#[derive(Debug)]
pub(crate) struct Memory {
    parts: Parts,
    /// Send windows.
    pub(crate) sends: Sends,
    /// Pieces of files on their way to peers.
    pub(crate) pieces: Pieces,
    /// Memory of those.
    pub(crate) buffers: Arc<Buffers>,
}

/// Bytes of each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts {
    requests: u64,
    sends: u64,
    pieces: u64,
    idle: u64,
}

impl Parts {
    fn of(whole: u64) -> Parts {
        let (sends, pieces, idle) = (whole / 4, whole / 12, whole / 6);
        Parts {
            requests: whole - sends - pieces - idle,
            sends,
            pieces,
            idle,
        }
    }
}

impl Memory {
    /// A budget of so many MiB, at least [`LEAST_MIB`].
    pub(crate) fn new(mib: u32) -> Memory {
        let parts = Parts::of(u64::from(mib.max(LEAST_MIB)) << 20);
        Memory {
            parts,
            sends: Sends::new(parts.sends),
            pieces: Pieces::new(parts.pieces),
            buffers: Arc::default(),
        }
    }

    /// What may be asked for and not yet on the disk, in bytes.
    pub(crate) fn requests_bytes(&self) -> u64 {
        self.parts.requests
    }

    /// How many peers may be connected.
    pub(crate) fn peers(&self) -> usize {
        let each = 2 * u64::from(IDLE_WINDOW_BYTES);
        (self.parts.idle / each).min(MOST_PEERS) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_whole() {
        for mib in [LEAST_MIB, 33, DEFAULT_MIB, 100, 4_096, u32::MAX] {
            let whole = u64::from(mib) << 20;
            let parts = Parts::of(whole);
            let Parts {
                requests,
                sends,
                pieces,
                idle,
            } = parts;
            assert_eq!(requests + sends + pieces + idle, whole, "{mib}");
            assert!(requests >= whole / 2, "{mib}");
        }
    }

    #[test]
    fn a_path_of_1_gbit_per_s_and_100_ms_is_filled_by_one_peer_within_the_default() {
        let needed = 1_000_000_000 / 8 / 10;
        let memory = Memory::new(DEFAULT_MIB);
        assert!(memory.requests_bytes() > 2 * needed);
        assert!(memory.sends.most_of_one() > needed);
        assert_eq!(memory.peers(), 256);
    }

    #[test]
    fn the_least_has_room_for_the_largest_chunk() {
        let memory = Memory::new(0);
        assert!(memory.requests_bytes() >= 16 << 20);
        assert_eq!(memory.peers(), 85);
    }
}
