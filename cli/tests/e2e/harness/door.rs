//! A router before one daemon, which lets only its tracker in until it is opened.
//!
//! The daemon is given the door's inner address for the tracker's. What it sends there reaches the
//! tracker from the outer one, where the tracker sees it and peers are sent.

use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How often a thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// Longest datagram that is passed on: QUIC over loopback makes long ones.
const DATAGRAM_BYTES: usize = 65_536;

/// The router, for as long as this lives.
pub(crate) struct Door {
    /// `host:port`, as the daemon is given it.
    pub(crate) address: String,
    is_open: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

/// What its threads share.
#[derive(Clone)]
struct Sockets {
    inner: Arc<UdpSocket>,
    outer: Arc<UdpSocket>,
    over: Arc<AtomicBool>,
}

impl Door {
    /// A door that is closed.
    pub(crate) fn before(tracker: &str) -> Door {
        let tracker: SocketAddr = tracker.parse().unwrap();
        let (is_open, over) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let sockets = Sockets {
            inner: Arc::new(socket()),
            outer: Arc::new(socket()),
            over: Arc::clone(&over),
        };
        let address = sockets.inner.local_addr().unwrap().to_string();
        let opened = Arc::clone(&is_open);
        thread::spawn(move || sockets.pass_on(tracker, &opened));
        Door {
            address,
            is_open,
            over,
        }
    }

    /// Lets everybody in from now on.
    pub(crate) fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Sockets {
    fn pass_on(&self, tracker: SocketAddr, is_open: &AtomicBool) {
        let mut bytes = vec![0; DATAGRAM_BYTES];
        // Nobody writes to the daemon before it has written to the tracker.
        let daemon = loop {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            if let Ok((length, from)) = self.inner.recv_from(&mut bytes) {
                let _ = self.outer.send_to(&bytes[..length], tracker);
                break from;
            }
        };
        let (inner, to_tracker) = (Arc::clone(&self.inner), self.clone());
        thread::spawn(move || to_tracker.pass_out(&inner, tracker));
        let mut peers: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        while !self.over.load(Ordering::Relaxed) {
            let Ok((length, from)) = self.outer.recv_from(&mut bytes) else {
                continue;
            };
            let through = match from == tracker {
                true => &self.inner,
                false if is_open.load(Ordering::Relaxed) => {
                    peers.entry(from).or_insert_with(|| {
                        let peer = Arc::new(socket());
                        let (answers, out) = (Arc::clone(&peer), self.clone());
                        thread::spawn(move || out.pass_out(&answers, from));
                        peer
                    })
                }
                false => continue,
            };
            let _ = through.send_to(&bytes[..length], daemon);
        }
    }

    /// Passes on what the daemon sends to `socket`.
    fn pass_out(&self, socket: &UdpSocket, to: SocketAddr) {
        let mut bytes = vec![0; DATAGRAM_BYTES];
        while !self.over.load(Ordering::Relaxed) {
            if let Ok((length, _)) = socket.recv_from(&mut bytes) {
                let _ = self.outer.send_to(&bytes[..length], to);
            }
        }
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LOOK)).unwrap();
    socket
}
