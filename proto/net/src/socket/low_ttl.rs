//! Sends a datagram with a hop limit of its own.
//!
//! The limit travels with the packet (`IP_TTL`, `IPV6_HOPLIMIT` as control messages). Changing the
//! socket's own would race with quinn, whose packets would then die on the way.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

/// Sends `bytes` to `to`, which must be of the socket's family. A v4-mapped address is IPv4 here
/// too: the packet goes out as such and takes IPv4's limit.
pub(super) fn send(socket: &impl AsFd, bytes: &[u8], to: SocketAddr, ttl: u8) -> io::Result<()> {
    let hops = i32::from(ttl);
    let limit = if to.ip().to_canonical().is_ipv4() {
        ControlMessage::Ipv4Ttl(&hops)
    } else {
        ControlMessage::Ipv6HopLimit(&hops)
    };
    sendmsg(
        socket.as_fd().as_raw_fd(),
        &[IoSlice::new(bytes)],
        &[limit],
        MsgFlags::MSG_DONTWAIT,
        Some(&SockaddrStorage::from(to)),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use nix::sys::socket::sockopt::{Ipv4RecvTtl, Ipv6RecvHopLimit};
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};

    use crate::Socket;

    #[tokio::test]
    async fn an_ipv4_packet_carries_its_limit() {
        check("127.0.0.1:0", "127.0.0.1:0").await;
    }

    #[tokio::test]
    async fn an_ipv4_packet_of_a_dual_stack_socket_carries_its_limit() {
        check("[::]:0", "127.0.0.1:0").await;
    }

    #[tokio::test]
    async fn an_ipv6_packet_carries_its_limit() {
        check("[::]:0", "[::1]:0").await;
    }

    /// Packets with a limit and without alternate: the one must not rub off on the other.
    async fn check(from: &str, to: &str) {
        let from = Socket::bind(from.parse().unwrap(), 1472).unwrap();
        let to = UdpSocket::bind(to).unwrap();
        to.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        if to.local_addr().unwrap().is_ipv4() {
            setsockopt(&to, Ipv4RecvTtl, &true).unwrap();
        } else {
            setsockopt(&to, Ipv6RecvHopLimit, &true).unwrap();
        }
        from.io.writable().await.unwrap();
        for ttl in [Some(3), None, Some(5), None] {
            from.send_raw_ttl(b"primer", to.local_addr().unwrap(), ttl);
            assert_eq!(received_limit(&to), i32::from(ttl.unwrap_or(64)));
        }
        assert_eq!(from.counters().send_errors, 0);
    }

    fn received_limit(socket: &UdpSocket) -> i32 {
        let mut bytes = [0; 16];
        let mut bufs = [IoSliceMut::new(&mut bytes)];
        let mut control = nix::cmsg_space!(i32);
        let received = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut bufs,
            Some(&mut control),
            MsgFlags::empty(),
        )
        .unwrap();
        let limit = received.cmsgs().unwrap().find_map(|message| match message {
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => Some(ttl),
            _ => None,
        });
        limit.expect("the kernel reports it")
    }
}
