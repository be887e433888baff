//! A network that lets no UDP through, in one port: what comes by TCP is passed on to a tracker, what
//! comes by UDP is swallowed until it is let through.

use std::{
    collections::HashMap,
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How often a thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// Longest datagram that is passed on.
const DATAGRAM_BYTES: usize = 2048;

/// The port, open for as long as this lives.
pub(crate) struct Gate {
    /// `host:port`, as a daemon is given it.
    pub(crate) address: String,
    udp: UdpSocket,
    to_udp: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Gate {
    /// Opens a port that leads to a tracker at these addresses of UDP and TCP.
    pub(crate) fn open(to_udp: SocketAddr, to_tcp: SocketAddr) -> Gate {
        let (udp, tcp) = same_port();
        let over = Arc::<AtomicBool>::default();
        tcp.set_nonblocking(true).unwrap();
        let gate = Gate {
            address: udp.local_addr().unwrap().to_string(),
            udp,
            to_udp,
            over: Arc::clone(&over),
        };
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                match tcp.accept() {
                    Ok((client, _)) => pass_stream(&client, to_tcp),
                    Err(_) => thread::sleep(LOOK),
                }
            }
        });
        gate
    }

    /// Lets UDP through from now on.
    pub(crate) fn let_udp_through(&self) {
        let (outside, to) = (self.udp.try_clone().unwrap(), self.to_udp);
        let over = Arc::clone(&self.over);
        outside.set_read_timeout(Some(LOOK)).unwrap();
        thread::spawn(move || pass_datagrams(&outside, to, &over));
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn same_port() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

fn pass_stream(client: &TcpStream, to: SocketAddr) {
    client.set_nonblocking(false).unwrap();
    // A tracker that is gone refuses, and then so do we.
    let Ok(tracker) = TcpStream::connect(to) else {
        return;
    };
    for (from, to) in [(client, &tracker), (&tracker, client)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

/// Passes on what comes from each address by a socket of its own, as a NAT does.
fn pass_datagrams(outside: &UdpSocket, to: SocketAddr, over: &Arc<AtomicBool>) {
    let mut sockets: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    let mut bytes = [0; DATAGRAM_BYTES];
    while !over.load(Ordering::Relaxed) {
        let Ok((length, from)) = outside.recv_from(&mut bytes) else {
            continue;
        };
        let inside = sockets.entry(from).or_insert_with(|| {
            let inside = UdpSocket::bind("127.0.0.1:0").unwrap();
            inside.connect(to).unwrap();
            inside.set_read_timeout(Some(LOOK)).unwrap();
            let (answers, outside) = (inside.try_clone().unwrap(), outside.try_clone().unwrap());
            let over = Arc::clone(over);
            thread::spawn(move || {
                let mut bytes = [0; DATAGRAM_BYTES];
                while !over.load(Ordering::Relaxed) {
                    if let Ok(length) = answers.recv(&mut bytes) {
                        let _ = outside.send_to(&bytes[..length], from);
                    }
                }
            });
            inside
        });
        let _ = inside.send(&bytes[..length]);
    }
}
