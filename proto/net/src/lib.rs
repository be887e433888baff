//! Warren's protocol over real sockets, once, for the tracker and the daemon.
//!
//! [`Identity`] is who we are; [`tls`] turns it into rustls configurations that check who the other
//! side is. [`Socket`] is the one UDP socket of the process: QUIC goes to quinn, the rest to whoever
//! asked for it, and a peer keeps its address towards quinn while its path changes. [`Endpoint`]
//! makes [`Connection`]s on it, and [`FrameReader`] and [`FrameWriter`] carry the frames of
//! `warren_proto::wire` over their streams. Where no UDP gets through, a daemon
//! and its tracker talk by TLS over TCP ([`connect_tcp`], [`TcpListener`]); a [`Link`] is either.
//!
//! Not here: what the frames say (`warren_proto::wire`) and what is decided from them (the
//! machines of `warren_proto`, driven by the tracker and the daemon).

mod congestion;
mod connection;
mod endpoint;
mod exporter;
mod files;
mod frames;
mod identity;
mod link;
mod path_mtu;
mod relay;
mod socket;
mod tcp;
pub mod tls;
mod transport;
mod windows;

pub use connection::Connection;
pub use endpoint::{AcceptError, BindError, ConnectError, Endpoint, Handshake, Incoming};
pub use files::raise_open_files;
pub use frames::{FrameError, FrameReader, FrameWriter, SendError};
pub use identity::{Identity, IdentityError};
pub use link::{Link, LinkError, LinkReader, LinkWriter};
pub use relay::{Relay, RelayCounts, Seat, Way};
pub use socket::{
    Carried, Class, Datagram, RelayBatch, Relayed, Socket, SocketCounters, Subnet, Unsolicited,
    Via, canonical,
};
pub use tcp::connection::{TcpConnection, TcpReader, TcpWriter, Tunnel};
pub use tcp::{TcpIncoming, TcpListener, connect_tcp};
pub use tls::{Expect, Protocol};
pub use transport::{Profile, is_local};
pub use windows::{Expected, IDLE_WINDOW_BYTES};
