//! Probes for daemons that want to know whether a port of their router is open (PROTOCOL.md, Probes
//! of a tracker).
//!
//! Where a probe may go is decided in `warren_proto::swarm::echo_target`, how many go out in
//! [`crate::admission`]; here they leave, each from a socket of its own, whose port nobody has sent
//! anything to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use warren_net::Link;
use warren_proto::nat::echo;
use warren_proto::swarm::echo_target;

use crate::admission::Admission;
use crate::state::proven as observed;

/// Sends the probe that a daemon asked for, unless it asks too often or for somebody else. `from` is
/// where it began its handshake: what it sends from elsewhere may be forged. `proven` is its address of
/// the other IP family. Routers open ports of IPv4, so the probe goes to that address which is one.
pub(crate) fn answer(
    link: &Link,
    (from, proven): (IpAddr, Option<SocketAddr>),
    admission: &Admission,
    (port, token): (u16, [u8; 12]),
) {
    let peer = link.peer_key();
    let target = observed(link, from).map(|observed| routed(observed, proven));
    let target = target.and_then(|seen| echo_target(seen, port));
    let Some(target) = target.filter(|to| admission.echo(&peer, to.ip())) else {
        tracing::debug!(%peer, port, "no probe: too often, or to where none goes");
        return;
    };
    if let Err(error) = send(target, token) {
        tracing::debug!(%error, "probe not sent");
    }
}

/// That of the addresses at which a daemon is seen whose ports routers open.
fn routed(observed: SocketAddr, proven: Option<SocketAddr>) -> SocketAddr {
    let is_ipv4 = |at: &SocketAddr| at.ip().to_canonical().is_ipv4();
    let mut all = [observed].into_iter().chain(proven);
    all.find(is_ipv4).unwrap_or(observed)
}

fn send(to: SocketAddr, token: [u8; 12]) -> io::Result<()> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.send_to(&echo::encode(token), to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_came_by_ipv6_and_has_proven_ipv4_is_probed_there() {
        let [v4, v6] = ["203.0.113.7:5000", "[2001:db8::7]:5000"].map(|at| at.parse().unwrap());
        assert_eq!(routed(v6, Some(v4)), v4);
        assert_eq!(routed(v4, Some(v6)), v4);
        assert_eq!(routed(v6, None), v6);
    }

    #[test]
    fn a_probe_is_20_bytes_with_the_token_of_who_asked() {
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        let patience = Some(Duration::from_secs(10));
        daemon.set_read_timeout(patience).unwrap();
        let mut bytes = [0; 64];
        let token = [1; 12];
        send(daemon.local_addr().unwrap(), token).unwrap();
        let length = daemon.recv(&mut bytes).unwrap();
        assert_eq!(length, 20);
        assert_eq!(echo::token_of(&bytes[..length]), Some(token));
    }
}
