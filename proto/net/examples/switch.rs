//! An Ethernet switch that holds every frame back for a while, or loses it: what `scripts/bench` has
//! for long links, on kernels without netem.
//!
//! ```text
//! switch DELAY_MS [LOSS_PERCENT [SEED]]
//! ```
//!
//! Its ports are packet sockets (packet(7)), opened, bound and sized by whoever starts it: only an
//! `unsafe` block could do that here. Standard input is a Unix socket over which they come, a message
//! of one byte and up to 64 descriptors each (`SCM_RIGHTS`); an empty message says that there are no
//! more. Then it prints `ready`, and runs until the socket is closed. The last line is a count, in
//! JSON.
//!
//! A frame is read and written with the 10 bytes of `struct virtio_net_hdr` before it
//! (`PACKET_VNET_HDR`), so that batches of TCP and UDP (GSO) pass in one piece, with checksums that the
//! kernel has yet to make. What such a batch takes on a link is up to the queue behind the port; a loss
//! takes all of it, so whoever wants losses keeps hosts from sending batches.
//!
//! Not here: rates and queues. A tbf on the interface has both.

use std::collections::{HashMap, VecDeque};
use std::env;
use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};

/// Descriptors in one message.
const PORTS_PER_MESSAGE: usize = 64;

/// Length of `struct virtio_net_hdr`.
const HEADER_BYTES: usize = 10;

/// That header, an Ethernet header with a VLAN tag, and the longest IP packet.
const FRAME_BYTES: usize = HEADER_BYTES + 18 + 65_535;

/// Frames read from one port before others have their turn.
const TURN_FRAMES: usize = 64;

/// What may be held back, over all ports: 2 Gbit/s for half a second. What comes beyond is lost.
const HELD_BYTES: usize = 128 << 20;

/// An Ethernet address.
type Mac = [u8; 6];

fn main() -> io::Result<()> {
    let arguments = env::args().skip(1).map(|argument| argument.parse());
    let arguments: Vec<f64> = arguments.collect::<Result<_, _>>().map_err(invalid)?;
    let number = |at: usize| arguments.get(at).copied().unwrap_or_default();
    let delay = Duration::try_from_secs_f64(number(0) / 1e3).map_err(invalid)?;
    let ports = receive_ports()?;
    say("ready")?;
    let mut switch = Switch::new(ports, delay, number(1) / 100.0, number(2) as u64);
    switch.run()?;
    let Counts {
        passed,
        bytes,
        lost,
        dropped,
    } = switch.counts;
    say(&format!(
        r#"{{"frames":{passed},"bytes":{bytes},"lost":{lost},"dropped":{dropped}}}"#
    ))
}

/// Takes the ports over, in the order in which they come.
fn receive_ports() -> io::Result<Vec<OwnedFd>> {
    let mut ports = Vec::new();
    loop {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PORTS_PER_MESSAGE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut byte)];
        net::recvmsg(io::stdin(), into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let before = ports.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                ports.extend(descriptors);
            }
        }
        if ports.len() == before {
            return Ok(ports);
        }
    }
}

/// Where a frame goes.
enum To {
    Port(usize),
    AllBut(usize),
}

/// A frame on its way, with the header before it.
struct Held {
    due: Instant,
    to: To,
    frame: Box<[u8]>,
}

/// Frames, unless said otherwise.
#[derive(Default)]
struct Counts {
    passed: u64,
    bytes: u64,
    /// At random, as was asked for.
    lost: u64,
    /// For want of room, here or in the queue of a port.
    dropped: u64,
}

struct Switch {
    ports: Vec<OwnedFd>,
    delay: Duration,
    /// From 0 to 1.
    loss: f64,
    rng: StdRng,
    /// In the order in which they came, which is that in which they are due.
    held: VecDeque<Held>,
    held_bytes: usize,
    /// At which port a sender was last heard. Hosts of a lab are few.
    places: HashMap<Mac, usize>,
    counts: Counts,
}

impl Switch {
    fn new(ports: Vec<OwnedFd>, delay: Duration, loss: f64, seed: u64) -> Self {
        Switch {
            ports,
            delay,
            loss,
            rng: StdRng::seed_from_u64(seed),
            held: VecDeque::new(),
            held_bytes: 0,
            places: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// Until standard input is closed.
    fn run(&mut self) -> io::Result<()> {
        let mut scratch = vec![0; FRAME_BYTES].into_boxed_slice();
        loop {
            self.release(Instant::now());
            let Some(ready) = self.wait()? else {
                return Ok(());
            };
            for port in ready {
                self.take(port, &mut scratch)?;
            }
        }
    }

    /// Returns ports that have frames, none when one that is held is due, nothing at the end.
    fn wait(&self) -> io::Result<Option<Vec<usize>>> {
        let wait = self.held.front().map(|held| {
            let wait = held.due.saturating_duration_since(Instant::now());
            Timespec::try_from(wait).expect("delays are of milliseconds")
        });
        let stdin = io::stdin();
        let mut polled: Vec<_> = self
            .ports
            .iter()
            .map(OwnedFd::as_fd)
            .chain([stdin.as_fd()])
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match poll(&mut polled, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
        let is_ready = |at: &usize| !polled[*at].revents().is_empty();
        let ended = is_ready(&self.ports.len());
        Ok((!ended).then(|| (0..self.ports.len()).filter(is_ready).collect()))
    }

    /// Takes in what waits at a port, at most its turn.
    fn take(&mut self, port: usize, scratch: &mut [u8]) -> io::Result<()> {
        for _ in 0..TURN_FRAMES {
            match net::recv(&self.ports[port], &mut *scratch, RecvFlags::DONTWAIT) {
                Ok((length, _)) => self.hold(port, &scratch[..length]),
                Err(Errno::AGAIN) => return Ok(()),
                // An interface that is down says so once.
                Err(Errno::INTR | Errno::NETDOWN) => (),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn hold(&mut self, port: usize, frame: &[u8]) {
        let Some((to, from)) = addresses(frame) else {
            return;
        };
        self.places.insert(from, port);
        if self.loss > 0.0 && self.rng.random::<f64>() < self.loss {
            self.counts.lost += 1;
            return;
        }
        if self.held_bytes + frame.len() > HELD_BYTES {
            self.counts.dropped += 1;
            return;
        }
        self.held_bytes += frame.len();
        let to = self
            .places
            .get(&to)
            .map_or(To::AllBut(port), |at| To::Port(*at));
        let due = Instant::now() + self.delay;
        self.held.push_back(Held {
            due,
            to,
            frame: frame.into(),
        });
    }

    /// Sends what is due.
    fn release(&mut self, now: Instant) {
        while let Some(held) = self.held.pop_front() {
            if held.due > now {
                self.held.push_front(held);
                return;
            }
            self.held_bytes -= held.frame.len();
            match held.to {
                To::Port(port) => self.send(port, &held.frame),
                To::AllBut(source) => (0..self.ports.len())
                    .filter(|port| *port != source)
                    .for_each(|port| self.send(port, &held.frame)),
            }
        }
    }

    fn send(&mut self, port: usize, frame: &[u8]) {
        match net::send(&self.ports[port], frame, SendFlags::DONTWAIT) {
            Ok(_) => {
                self.counts.passed += 1;
                self.counts.bytes += (frame.len() - HEADER_BYTES) as u64;
            }
            // A full queue drops, as it would behind a real switch.
            Err(_) => self.counts.dropped += 1,
        }
    }
}

/// Destination and source; nothing of what is too short to have them.
fn addresses(frame: &[u8]) -> Option<(Mac, Mac)> {
    let (to, rest) = frame.get(HEADER_BYTES..)?.split_first_chunk()?;
    let (from, _) = rest.split_first_chunk()?;
    Some((*to, *from))
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}
