//! What Warren says and what it decides: types, encodings and pure state machines.
//!
//! Nothing here knows a socket, a clock, a thread or a runtime. Time and randomness are passed in,
//! so a test or a simulator can replay any run. [`content`] describes what is shared, [`wire`] what
//! peers and trackers say to each other, [`swarm`] what a tracker decides, [`transfer`] what a
//! downloading peer decides, [`nat`] how two peers reach each other, [`code`] the short codes by which
//! people pass a link on, [`follow`] shares of which newer versions come.
//!
//! Not here: sockets, TLS and QUIC (`warren-net`), files and time (`warren-daemon`).

pub mod code;
pub mod content;
pub mod follow;
pub mod id;
pub mod limits;
pub mod nat;
pub mod proof;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod swarm;
mod tally;
pub mod transfer;
pub mod wire;
