//! Two keepers against each other: a machine behind a NAT each, with delay, loss and a virtual
//! clock, and a stand-in for QUIC that sends where the keeper points. Each has one socket, so its
//! NAT has one mapping, which is lost when the NAT is rebooted.

mod scenarios;

use std::collections::{BTreeMap, BTreeSet};

use super::super::budget::{PER_ADDRESS, WINDOW};
use super::super::*;
use super::ms;
use KeeperEvent::Silent;

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// What a NAT lets in through its mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    /// No NAT: there is always a way in.
    Open,
    /// Whatever comes (RFC 4787 §5, endpoint-independent).
    FullCone,
    /// What comes from where it has sent to (address and port-dependent).
    PortRestricted,
}

use Filter::{FullCone, Open, PortRestricted};

/// Which port a NAT gives after a reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Same,
    New,
}

struct Nat {
    filter: Filter,
    outside: SocketAddr,
    is_mapped: bool,
    contacted: BTreeSet<SocketAddr>,
}

impl Nat {
    /// Where a packet to `far` seems to come from.
    fn outbound(&mut self, far: SocketAddr) -> SocketAddr {
        self.is_mapped = true;
        self.contacted.insert(far);
        self.outside
    }

    fn lets_in(&self, far: SocketAddr, to: SocketAddr) -> bool {
        let may = match self.filter {
            Open => true,
            FullCone => self.is_mapped,
            PortRestricted => self.contacted.contains(&far),
        };
        may && to == self.outside
    }
}

#[derive(Clone)]
enum Payload {
    Check(Vec<u8>),
    Data,
    Ack,
}

struct Packet {
    host: usize,
    from: SocketAddr,
    to: SocketAddr,
    sent: Instant,
    payload: Payload,
}

/// Data that QUIC has under way at most.
const WINDOW_PACKETS: usize = 16;

/// How often the pause before a retransmission doubles the first one, at most.
const LONGEST_BACKOFF: u32 = 16;

/// Between packets of data.
const PACING: Duration = Duration::from_millis(5);

struct Host {
    nat: Nat,
    keeper: Option<PathKeeper>,
    /// Whether it has data for the peer.
    sends: bool,
    /// Whether it waits for data of the peer.
    asks: bool,
    unacked: usize,
    next_data: Instant,
    backoff: u32,
    /// When it first heard something that was sent after the last reboot.
    alive: Option<Instant>,
    last_data: Instant,
    events: Vec<(Instant, KeeperEvent)>,
    checks: Vec<(Instant, Transmit)>,
}

impl Host {
    fn keeper(&self) -> &PathKeeper {
        self.keeper.as_ref().unwrap()
    }
}

struct Net {
    now: Instant,
    rtt: Duration,
    loss: f64,
    rng: StdRng,
    credentials: Credentials,
    hosts: [Host; 2],
    in_flight: BTreeMap<(Instant, u64), Packet>,
    packets: u64,
    rebooted: Instant,
    /// How long the tracker takes to introduce both sides to each other when one is silent.
    introduces: Option<Duration>,
    introduction: Option<Instant>,
}

impl Net {
    /// A connection over which `sender` has data and the other waits for it.
    fn new(rtt: Duration, filters: [Filter; 2], sender: usize) -> Net {
        let now = Instant::now();
        let credentials = Credentials::new(&[5; 10], &[6; 32]);
        let outside = [
            ([203, 0, 113, 1], 5000).into(),
            ([203, 0, 113, 2], 5000).into(),
        ];
        let host = |own: usize| Host {
            nat: Nat {
                filter: filters[own],
                outside: outside[own],
                is_mapped: true,
                contacted: BTreeSet::from([outside[1 - own]]),
            },
            keeper: Some(PathKeeper::new(
                now,
                credentials.clone(),
                [Side::Client, Side::Server][own],
                outside[1 - own],
                rtt,
                [own as u8; 32],
            )),
            sends: own == sender,
            asks: own != sender,
            unacked: 0,
            next_data: now,
            backoff: 0,
            alive: None,
            last_data: now,
            events: Vec::new(),
            checks: Vec::new(),
        };
        Net {
            now,
            rtt,
            loss: 0.0,
            rng: StdRng::seed_from_u64(1),
            hosts: [host(CLIENT), host(SERVER)],
            credentials,
            in_flight: BTreeMap::new(),
            packets: 0,
            rebooted: now,
            introduces: None,
            introduction: None,
        }
    }

    fn lossy(mut self, seed: u64) -> Net {
        self.loss = 0.2;
        self.rng = StdRng::seed_from_u64(seed);
        self
    }

    fn reboot(&mut self, host: usize, port: Port) {
        let nat = &mut self.hosts[host].nat;
        nat.is_mapped = false;
        nat.contacted.clear();
        if port == Port::New {
            nat.outside.set_port(nat.outside.port() + 1000);
        }
        self.rebooted = self.now;
        for host in &mut self.hosts {
            host.alive = None;
        }
    }

    /// A new process, at the same address and without any connection.
    fn restart(&mut self, host: usize) {
        let other = Credentials::new(&[7; 10], &[8; 32]);
        let remote = self.hosts[1 - host].nat.outside;
        let keeper = PathKeeper::new(self.now, other, Side::Server, remote, self.rtt, [9; 32]);
        self.hosts[host].keeper = Some(keeper);
        (self.hosts[host].sends, self.hosts[host].asks) = (false, false);
        self.hosts[host].unacked = usize::MAX;
    }

    fn become_idle(&mut self) {
        for host in &mut self.hosts {
            (host.sends, host.asks) = (false, false);
        }
        self.run_for(2 * self.rtt);
        self.hosts
            .iter()
            .for_each(|host| assert_eq!(host.unacked, 0));
    }

    fn suspect(&mut self, host: usize) {
        let keeper = self.hosts[host].keeper.as_mut().unwrap();
        keeper.suspect(self.now);
        self.drain(host);
    }

    /// A rendezvous tells both sides where the other is now.
    fn introduce(&mut self) {
        for host in [CLIENT, SERVER] {
            let remote = self.hosts[1 - host].nat.outside;
            if self.knows(host)
                && let Some(keeper) = &mut self.hosts[host].keeper
            {
                keeper.try_address(self.now, remote);
            }
            self.drain(host);
        }
    }

    /// Whether a process runs there that knows the connection.
    fn knows(&self, host: usize) -> bool {
        let keeper = self.hosts[host].keeper.as_ref();
        keeper.is_some_and(|k| k.credentials.username() == self.credentials.username())
    }

    fn inject(&mut self, delay: Duration, from: SocketAddr, transmit: Transmit) {
        let packet = Packet {
            host: SERVER,
            from,
            to: transmit.to,
            sent: self.now,
            payload: Payload::Check(transmit.bytes),
        };
        self.packets += 1;
        self.in_flight
            .insert((self.now + delay, self.packets), packet);
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(next) = self.next().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
        self.assert_budget();
    }

    /// How long after the reboot both sides have heard each other again.
    fn alive_within(&mut self, limit: Duration) -> Duration {
        self.run_for(limit);
        let alive = self
            .hosts
            .iter()
            .map(|host| host.alive.expect("heard again"));
        alive.max().unwrap() - self.rebooted
    }

    /// How long after the reboot the event came, with the clock there.
    fn first(&mut self, host: usize, wanted: KeeperEvent, limit: Duration) -> Duration {
        let end = self.now + limit;
        loop {
            let events = &self.hosts[host].events;
            if let Some((at, _)) = events.iter().find(|(_, event)| *event == wanted) {
                return *at - self.rebooted;
            }
            self.now = self.next().filter(|next| *next <= end).unwrap();
            self.step();
        }
    }

    /// Whether data has arrived of late, and its acknowledgements. Where packets are lost, late
    /// is what QUIC's longest pause makes of it.
    fn flows(&self) -> bool {
        let pauses = if self.loss > 0.0 { LONGEST_BACKOFF } else { 2 };
        let recent = 3 * self.rtt * pauses + ms(500);
        self.hosts
            .iter()
            .all(|host| self.now - host.last_data < recent)
    }

    /// What both were told.
    fn events(&self) -> Vec<KeeperEvent> {
        [self.told(CLIENT), self.told(SERVER)].concat()
    }

    fn told(&self, host: usize) -> Vec<KeeperEvent> {
        let events = self.hosts[host].events.iter();
        events.map(|(_, event)| *event).collect()
    }

    /// All checks the host has sent, without its answers.
    fn checks(&self, host: usize) -> Vec<(Instant, Transmit)> {
        self.hosts[host].checks.clone()
    }

    fn assert_budget(&self) {
        for host in &self.hosts {
            for (at, check) in &host.checks {
                let window = *at..*at + WINDOW;
                let same = |other: &&(Instant, Transmit)| {
                    window.contains(&other.0) && other.1.to == check.to
                };
                assert!(host.checks.iter().filter(same).count() <= PER_ADDRESS);
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        let keepers = self.hosts.iter().filter_map(|host| host.keeper.as_ref());
        let timeouts = keepers.filter_map(PathKeeper::poll_timeout);
        let arrivals = self.in_flight.keys().map(|(at, _)| *at);
        let data = self
            .hosts
            .iter()
            .filter(|h| h.keeper.is_some() && has_data(h));
        let data = data.map(|host| host.next_data);
        let all = timeouts.chain(arrivals).chain(data);
        all.chain(self.introduction).min()
    }

    fn step(&mut self) {
        while let Some(entry) = self.in_flight.first_entry()
            && entry.key().0 <= self.now
        {
            let packet = entry.remove();
            self.arrive(packet);
        }
        if self.introduction.take_if(|at| *at <= self.now).is_some() {
            self.introduce();
        }
        for host in [CLIENT, SERVER] {
            self.send_data(host);
            if let Some(keeper) = &mut self.hosts[host].keeper {
                keeper.handle_timeout(self.now);
            }
            self.drain(host);
        }
    }

    /// A packet of data if one is due: paced, or retransmitted ever more slowly.
    fn send_data(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        if host.keeper.is_none() || !has_data(host) || host.next_data > self.now {
            return;
        }
        if host.unacked < WINDOW_PACKETS {
            host.unacked += 1;
        }
        host.next_data = self.now + PACING;
        if host.unacked == WINDOW_PACKETS {
            host.next_data = self.now + 3 * self.rtt * LONGEST_BACKOFF.min(1 << host.backoff);
            host.backoff = (host.backoff + 1).min(31);
        }
        let path = host.keeper().path();
        self.send(index, path, Payload::Data);
    }

    fn send(&mut self, host: usize, to: SocketAddr, payload: Payload) {
        let from = self.hosts[host].nat.outbound(to);
        if self.rng.random_bool(self.loss) {
            return;
        }
        self.packets += 1;
        let packet = Packet {
            host: 1 - host,
            from,
            to,
            sent: self.now,
            payload,
        };
        let arrival = (self.now + self.rtt / 2, self.packets);
        self.in_flight.insert(arrival, packet);
    }

    fn arrive(&mut self, packet: Packet) {
        let (now, rtt, knows) = (self.now, self.rtt, self.knows(packet.host));
        let host = &mut self.hosts[packet.host];
        let Some(keeper) = &mut host.keeper else {
            return;
        };
        if !host.nat.lets_in(packet.from, packet.to) {
            return;
        }
        let is_quic = !matches!(packet.payload, Payload::Check(_));
        if is_quic && knows {
            keeper.heard(now, rtt);
            host.last_data = now;
        }
        if knows && packet.sent >= self.rebooted {
            host.alive.get_or_insert(now);
        }
        match packet.payload {
            Payload::Check(bytes) => keeper.handle_datagram(now, packet.from, &bytes),
            Payload::Data if knows => {
                let path = keeper.path();
                self.send(packet.host, path, Payload::Ack);
            }
            Payload::Ack if knows => {
                (host.unacked, host.backoff) = (0, 0);
                host.next_data = host.next_data.min(now + PACING);
            }
            Payload::Data | Payload::Ack => (),
        }
        self.drain(packet.host);
    }

    /// Takes out of the host's keeper what it wants to send and say.
    fn drain(&mut self, index: usize) {
        let (now, credentials) = (self.now, self.credentials.clone());
        let host = &mut self.hosts[index];
        let Some(keeper) = &mut host.keeper else {
            return;
        };
        let is_sending = (1..=WINDOW_PACKETS).contains(&host.unacked);
        keeper.expects(now, host.asks || is_sending);
        let transmits: Vec<_> = std::iter::from_fn(|| keeper.poll_transmit()).collect();
        for event in std::iter::from_fn(|| keeper.poll_event()) {
            if event == Silent
                && let Some(delay) = self.introduces
            {
                self.introduction.get_or_insert(now + delay);
            }
            host.events.push((now, event));
        }
        for transmit in transmits {
            if matches!(
                credentials.decode(&transmit.bytes),
                Ok(Check::Request { .. })
            ) {
                self.hosts[index].checks.push((now, transmit.clone()));
            }
            self.send(index, transmit.to, Payload::Check(transmit.bytes));
        }
    }
}

fn has_data(host: &Host) -> bool {
    host.sends || (1..=WINDOW_PACKETS).contains(&host.unacked)
}
