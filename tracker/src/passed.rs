//! Sockets that the service manager has opened for us: `sd_listen_fds(3)`.
//!
//! They take the place of addresses of the same use: TCP listeners that of `--tcp`, and what of UDP
//! has a port of `--stun-listen` that of these; all else of UDP that of `--listen`.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// Sockets that are open already.
#[derive(Debug, Default)]
pub struct Passed {
    /// For daemons and STUN.
    pub udp: Vec<UdpSocket>,
    /// For STUN alone.
    pub stun: Vec<UdpSocket>,
    /// For daemons by TLS over TCP.
    pub tcp: Vec<TcpListener>,
}

/// Why what was passed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    /// It is neither a UDP socket nor a TCP listener.
    #[error("socket {number} that the service manager has passed is neither for UDP nor for TCP")]
    Kind {
        /// Which one, from 0 on.
        number: usize,
    },
    /// It is one of them, and cannot be used all the same.
    #[error("socket {number} that the service manager has passed cannot be used")]
    Unusable {
        /// Which one, from 0 on.
        number: usize,
        /// What the system said.
        source: io::Error,
    },
}

impl Passed {
    /// Takes what was passed; nothing outside of a service manager. `stun` says what STUN alone is
    /// to be served at. Before there are threads, as it changes the environment.
    ///
    /// # Errors
    ///
    /// When something of another kind was passed, or the system refuses to use it.
    pub fn from_env(stun: &[SocketAddr]) -> Result<Passed, PassedError> {
        let mut passed = Passed::default();
        let mut sockets = listenfd::ListenFd::from_env();
        for number in 0..sockets.len() {
            let unusable = |source| PassedError::Unusable { number, source };
            // Either leaves in its place what is of another kind.
            if let Ok(Some(listener)) = sockets.take_tcp_listener(number) {
                listener.set_nonblocking(true).map_err(unusable)?;
                passed.tcp.push(listener);
            } else if let Ok(Some(socket)) = sockets.take_udp_socket(number) {
                socket.set_nonblocking(true).map_err(unusable)?;
                let port = socket.local_addr().map_err(unusable)?.port();
                let is_stun = stun.iter().any(|addr| addr.port() == port);
                match is_stun {
                    true => passed.stun.push(socket),
                    false => passed.udp.push(socket),
                }
            } else {
                return Err(PassedError::Kind { number });
            }
        }
        Ok(passed)
    }
}
