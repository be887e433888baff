//! Every limit a decoder enforces before it allocates, in one table.
//!
//! A limit is a promise to memory and time, not to a peer: whatever exceeds one is refused whole,
//! never cut. Types elsewhere remember that a limit was checked, so it is checked once.

/// Largest control frame, type and body together.
pub const FRAME_BYTES: usize = 64 * 1024;
/// Largest frame before the other side's hello was read.
pub const HELLO_BYTES: usize = 4 * 1024;
/// Largest `.p2p` manifest, and largest encoded listing.
pub const MANIFEST_BYTES: usize = 64 * 1024 * 1024;
/// Most entries in one listing.
pub const LISTING_ENTRIES: usize = 1 << 20;
/// Longest path in a share, in bytes of UTF-8, separators included.
pub const PATH_BYTES: usize = 4096;
/// Longest component of a path.
pub const COMPONENT_BYTES: usize = 255;
/// Most components in one path.
pub const PATH_DEPTH: usize = 64;
/// Longest name of a share: one component.
pub const NAME_BYTES: usize = COMPONENT_BYTES;
/// Most candidate addresses one peer may offer.
pub const CANDIDATES: usize = 8;
/// Most peers in one answer of the tracker.
pub const PEERS_PER_ANSWER: usize = 50;
/// Most trackers in one manifest.
pub const TRACKERS: usize = 8;
/// Longest link in characters.
pub const LINK_CHARS: usize = 400;
/// Most chunks in one share: 32 TiB of 16 MiB chunks.
pub const CHUNKS: u32 = 1 << 21;
/// Longest hash list: one 32-byte hash for each of [`CHUNKS`].
pub const HASH_LIST_BYTES: usize = CHUNKS as usize * 32;
/// Most runs of chunks in one frame: 4,096 of at most 10 bytes stay below [`FRAME_BYTES`].
pub const RUNS_PER_FRAME: usize = 4096;
/// Most streams a daemon may open on a tracker connection.
pub const TRACKER_STREAMS: usize = 4;
/// Longest relayed datagram: an Ethernet frame without the headers of IPv4 and UDP.
pub const DATAGRAM_BYTES: usize = 1472;
/// Most handshakes a daemon has in flight.
pub const HANDSHAKES_DAEMON: usize = 256;
/// Most handshakes a tracker has in flight.
pub const HANDSHAKES_TRACKER: usize = 4096;
/// Most connections by TLS over TCP a tracker has.
pub const TCP_CONNECTIONS: usize = 16_384;
/// Longest message of an exchange by which a code is opened: the sealed link has
/// [`LINK_CHARS`] + 16 bytes.
pub const CODE_MESSAGE_BYTES: usize = 512;
/// Most codes that a tracker has numbers for at once, and of those most of one network, IPv4 /24 or
/// IPv6 /56.
pub const NAMEPLATES: usize = 16_384;
/// See [`NAMEPLATES`].
pub const NAMEPLATES_PER_NETWORK: usize = NAMEPLATES / 4;
/// Most live codes of one peer at one tracker.
pub const NAMEPLATES_PER_PEER: usize = 64;
/// Most exchanges by which codes are being opened at one tracker, each two keys and a few numbers.
pub const CODE_EXCHANGES: usize = 4096;
/// Of [`CODE_EXCHANGES`], most that were begun in one network, IPv4 /24 or IPv6 /56.
pub const EXCHANGES_PER_NETWORK: usize = CODE_EXCHANGES / 4;
/// Of [`CODE_EXCHANGES`], most of one code, and most that one peer has begun.
pub const EXCHANGES_PER_CODE: usize = 64;
/// See [`EXCHANGES_PER_CODE`].
pub const EXCHANGES_PER_PEER: usize = 4;
/// Longest sealed part of what a publisher signs about a version; this version of the program writes 85 bytes.
pub const HEAD_SEALED_BYTES: usize = 128;
/// Most publishers of whom one tracker keeps the newest head, and of those most that came from one network, IPv4 /24
/// or IPv6 /56. One takes 520 bytes with all that finds it, where each is of a network of its own.
pub const HEADS: usize = 65_536;
/// See [`HEADS`].
pub const HEADS_PER_NETWORK: usize = HEADS / 8;
/// Most publishers that one peer may follow at one tracker.
pub const FOLLOWS_PER_PEER: usize = 256;
/// Most pairs of a follower and a publisher at one tracker, and of those most of one network.
pub const FOLLOWS: usize = 262_144;
/// See [`FOLLOWS`].
pub const FOLLOWS_PER_NETWORK: usize = FOLLOWS / 8;
/// Most swarms one peer may be in at one tracker.
pub const SWARMS_PER_PEER: usize = 10_000;
/// Most bytes the paths of one listing may have together, since front coding makes short work of
/// repeating a long one: 256 for each of [`LISTING_ENTRIES`].
pub const LISTING_PATH_BYTES: usize = LISTING_ENTRIES * 256;
/// The smallest unit that verifies alone: the last grain of a file may be shorter.
pub const GRAIN_BYTES: u32 = 65_536;
