//! Binds the socket, and gives it buffers large enough for a burst.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Once;

use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Kernel buffer per direction: at 1 GB/s it covers 8 ms in which we do not get to run.
const BUFFER_BYTES: usize = 8 << 20;

/// Binds `addr`; `[::]` takes IPv4 too, and falls back to `0.0.0.0` on a host without IPv6.
pub(super) fn open(addr: SocketAddr) -> io::Result<UdpSocket> {
    match bind(addr) {
        Err(error) if addr.is_ipv6() && addr.ip().is_unspecified() && lacks_ipv6(&error) => {
            bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), addr.port()))
        }
        bound => bound,
    }
}

/// Binds `addr` alone, with buffers of the usual size.
pub(super) fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Whether this is how a host without IPv6 refuses to bind.
pub(crate) fn lacks_ipv6(error: &io::Error) -> bool {
    [
        rustix::io::Errno::AFNOSUPPORT,
        rustix::io::Errno::ADDRNOTAVAIL,
    ]
    .iter()
    .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Past the system's limit where we are allowed to, up to it otherwise.
pub(super) fn enlarge_buffers(socket: SockRef<'_>) {
    let fd = socket.as_fd();
    if sockopt::set_socket_recv_buffer_size_force(fd, BUFFER_BYTES).is_err() {
        // What it becomes is read back below.
        let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    }
    if sockopt::set_socket_send_buffer_size_force(fd, BUFFER_BYTES).is_err() {
        let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    }
    let received = socket.recv_buffer_size().unwrap_or(0);
    let sent = socket.send_buffer_size().unwrap_or(0);
    if received.min(sent) < BUFFER_BYTES {
        report_small_buffers(received, sent);
    }
}

fn report_small_buffers(receive_bytes: usize, send_bytes: usize) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::debug!(
            receive_bytes,
            send_bytes,
            "socket buffers are smaller than asked for; \
             sysctl -w net.core.rmem_max={BUFFER_BYTES} net.core.wmem_max={BUFFER_BYTES} raises them"
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unspecified_ipv6_address_takes_ipv4_too() {
        let socket = open("[::]:0".parse().unwrap()).unwrap();
        let port = socket.local_addr().unwrap().port();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.send_to(b"hello", ("127.0.0.1", port)).unwrap();
        socket.set_nonblocking(false).unwrap();
        let (_, from) = socket.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(from.port(), other.local_addr().unwrap().port());
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let first = open("127.0.0.1:0".parse().unwrap()).unwrap();
        let second = open(first.local_addr().unwrap());
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
