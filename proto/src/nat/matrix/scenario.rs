//! Two introduced hosts in a simulated network, and what becomes of them.

use std::net::SocketAddr;
use std::time::Duration;

use super::ms;
use crate::nat::sim::{INTERNET, Introduction, NatKind, SimNet};
use crate::nat::{Charge, Dependence, Path, PunchAttempt, PunchEvent, Transmit};
use crate::proof::Side;
use crate::wire::{NatFiltering, NatMapping, Rendezvous};
use Dependence::AddressAndPortDependent;

pub(super) const TRACKER_LEG: Duration = Duration::from_millis(5);

/// What each side is told of the other's filtering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filtering {
    Unmeasured,
    Measured,
}

/// Two hosts in two sites, the NATs of each from the outside in.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) nats: [Vec<NatKind>; 2],
    pub(super) filtering: Filtering,
    /// One way from each site to the core.
    pub(super) legs: [Duration; 2],
    /// How late each side starts.
    pub(super) skew: [Duration; 2],
    pub(super) loss: f64,
    pub(super) access_loss: f64,
    /// Between the two sites.
    pub(super) routers: u8,
    pub(super) seed: u64,
}

impl Scenario {
    pub(super) fn between(ours: &[NatKind], theirs: &[NatKind]) -> Scenario {
        Scenario {
            nats: [ours.to_vec(), theirs.to_vec()],
            filtering: Filtering::Unmeasured,
            legs: [ms(12); 2],
            skew: [Duration::ZERO; 2],
            loss: 0.0,
            access_loss: 0.0,
            routers: 6,
            seed: 0,
        }
    }

    /// Two sites whose NATs were measured, with 1 to 8 routers in between.
    pub(super) fn measured(ours: NatKind, theirs: NatKind, seed: u64) -> Scenario {
        let mut scenario = Scenario::between(&[ours], &[theirs]).varied(seed);
        scenario.filtering = Filtering::Measured;
        scenario.routers = 1 + (seed / 4 % 8) as u8;
        scenario
    }

    /// Legs up to 100 ms.
    pub(super) fn legs_of(mut self, seed: u64) -> Scenario {
        self.legs = [ms(1 + seed * 7919 % 100), ms(1 + seed / 7 * 104_729 % 100)];
        self.seed = seed;
        self
    }

    /// Legs as above, and one side late by up to 300 ms.
    pub(super) fn varied(self, seed: u64) -> Scenario {
        let mut scenario = self.legs_of(seed % 1_000_003);
        scenario.skew[(seed % 2) as usize] = ms(seed / 2 % 301);
        scenario.seed = seed;
        scenario
    }

    /// When both sides start: the first has asked, and the tracker's word has reached the farther.
    pub(super) fn news(&self) -> Duration {
        let ways = self.legs.map(|leg| leg + TRACKER_LEG);
        ways[0] + ways[0].max(ways[1])
    }

    /// When the later side starts.
    pub(super) fn later_start(&self) -> Duration {
        self.news() + self.skew[0].max(self.skew[1])
    }

    pub(super) fn told(&self, side: usize) -> NatFiltering {
        match self.filtering {
            Filtering::Unmeasured => NatFiltering::Unknown,
            Filtering::Measured => filtering_of(&self.nats[side]),
        }
    }

    /// Both sides prove one path over which QUIC then works, or neither does.
    #[track_caller]
    pub(super) fn check(&self, expected: bool) {
        let mut meeting = self.meet();
        assert_eq!(meeting.both_proven(), expected, "{self:?}");
        if expected {
            meeting.paths(&format!("{self:?}"));
        }
        if self.loss + self.access_loss == 0.0 {
            let nominated = meeting.nominated(meeting.hosts[1]);
            assert_eq!(nominated.len(), usize::from(expected), "{self:?}");
        }
    }

    pub(super) fn meet(&self) -> Meeting {
        let mut net = SimNet::new(self.seed, self.loss);
        net.access_loss = self.access_loss;
        net.routers = self.routers;
        let hosts = [0, 1].map(|side| {
            let mut network = INTERNET;
            let mut leg = self.legs[side];
            for kind in &self.nats[side] {
                network = net.network(network, *kind, std::mem::take(&mut leg));
            }
            net.host(network, 5000, leg)
        });
        let setting = Setting {
            filtering: [0, 1].map(|side| self.told(side)),
            skew: self.skew,
            seed: self.seed,
            ..Setting::of_legs(self.legs)
        };
        Meeting::of(net, hosts, &setting)
    }
}

/// What lets a measurement know its filtering (RFC 4787 §5), from the outside in.
pub(super) fn filtering_of(nats: &[NatKind]) -> NatFiltering {
    let strictest = nats.iter().map(|nat| nat.filtering).max();
    let mut reached = nats.iter();
    let reaches_on = |nat: &&NatKind| nat.filtering != AddressAndPortDependent;
    let shut = reached.find(|nat| !reaches_on(nat));
    match (shut, strictest) {
        (Some(nat), _) if nat.clashes => NatFiltering::Clashing,
        (_, Some(AddressAndPortDependent)) => NatFiltering::PortDependent,
        _ => NatFiltering::PortIndependent,
    }
}

/// What two hosts find when they are introduced.
pub(super) struct Setting {
    pub(super) own: [Option<SocketAddr>; 2],
    pub(super) filtering: [NatFiltering; 2],
    pub(super) legs: [Duration; 2],
    pub(super) skew: [Duration; 2],
    pub(super) seed: u64,
}

impl Setting {
    /// Both start together and know nothing but what the tracker sees.
    pub(super) fn of_legs(legs: [Duration; 2]) -> Setting {
        Setting {
            own: [None; 2],
            filtering: [NatFiltering::Unknown; 2],
            legs,
            skew: [Duration::ZERO; 2],
            seed: 1,
        }
    }
}

/// What a neighbour is told about the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Interfaces,
    Outside,
}

/// Two hosts behind one NAT, with the same inside port.
pub(super) struct Neighbours {
    pub(super) kind: NatKind,
    pub(super) told: Told,
}

impl Neighbours {
    pub(super) fn behind(kind: NatKind, told: Told) -> Neighbours {
        Neighbours { kind, told }
    }

    pub(super) fn meet(self) -> Meeting {
        let mut net = SimNet::new(1, 0.0);
        let home = net.network(INTERNET, self.kind, ms(10));
        let hosts = [0, 1].map(|_| net.host(home, 5000, Duration::ZERO));
        let own = hosts.map(|host| (self.told == Told::Interfaces).then(|| net.address(host)));
        let setting = Setting {
            own,
            ..Setting::of_legs([ms(10); 2])
        };
        Meeting::of(net, hosts, &setting)
    }
}

/// A run that is over.
pub(super) struct Meeting {
    pub(super) net: SimNet,
    pub(super) hosts: [usize; 2],
}

impl Meeting {
    /// The first host asks the tracker at the start of the run.
    pub(super) fn of(mut net: SimNet, hosts: [usize; 2], setting: &Setting) -> Meeting {
        let Setting { skew, seed, .. } = *setting;
        let tracker = net.stun_server(TRACKER_LEG);
        let ways = setting.legs.map(|leg| leg + TRACKER_LEG);
        let introduction = Introduction {
            observed: hosts.map(|host| net.observed(host, tracker)),
            hosts: setting.own,
            mapping: [NatMapping::Unknown; 2],
            rtts: ways.map(|way| way * 2),
            filtering: setting.filtering,
        };
        let halves = introduction.rendezvous(seed);
        for (side, rendezvous) in halves.iter().enumerate() {
            let news = ways[0] + ways[side] + skew[side];
            let mut random = [side as u8; 32];
            random[..8].copy_from_slice(&seed.to_be_bytes());
            let attempt = PunchAttempt::new(net.at(news), rendezvous, random);
            net.start_at(news, hosts[side], attempt);
        }
        net.run_for(Duration::from_secs(12));
        Meeting::between(net, hosts, &halves)
    }

    /// Of hosts that have been sent these halves.
    pub(super) fn between(net: SimNet, hosts: [usize; 2], halves: &[Rendezvous; 2]) -> Meeting {
        let hosts = match halves[0].side {
            Side::Client => hosts,
            Side::Server => [hosts[1], hosts[0]],
        };
        Meeting { net, hosts }
    }

    pub(super) fn proven(&self, host: usize) -> Option<(Duration, Path)> {
        let events = self.net.events(host).into_iter();
        let mut proven = events.filter_map(|(at, event)| match event {
            PunchEvent::Proven(path) => Some((at, path)),
            _ => None,
        });
        let first = proven.next();
        assert!(proven.next().is_none(), "Proven comes once");
        first
    }

    pub(super) fn nominated(&self, host: usize) -> Vec<SocketAddr> {
        let events = self.net.events(host).into_iter();
        let nominated = events.filter_map(|(_, event)| match event {
            PunchEvent::Nominated { remote, .. } => Some(remote),
            _ => None,
        });
        nominated.collect()
    }

    pub(super) fn both_proven(&self) -> bool {
        let proven = self.hosts.map(|host| self.proven(host).is_some());
        assert_eq!(proven[0], proven[1], "one side proved a path alone");
        proven[0]
    }

    /// The chosen paths, client's first. The client's must carry a packet to the server, from an
    /// address the server has heard of, and one back.
    #[track_caller]
    pub(super) fn paths(&mut self, context: &str) -> [Path; 2] {
        let paths = self.hosts.map(|host| match self.proven(host) {
            Some((_, path)) => path,
            None => panic!("no path: {context}"),
        });
        let [client, server] = self.hosts;
        let from = self.carry(client, server, (paths[0].via, paths[0].remote));
        let from = from.unwrap_or_else(|| panic!("no way there: {context}"));
        assert_eq!(from, paths[0].observed, "{context}");
        // What was nominated, or else heard: a nomination may be lost.
        let heard = self.net.events(server).into_iter();
        let via = heard.filter_map(|(_, event)| match event {
            PunchEvent::Heard { via, remote } if remote == from => Some((false, via)),
            PunchEvent::Nominated { via, remote } if remote == from => Some((true, via)),
            _ => None,
        });
        let via = via.max_by_key(|(is_nominated, _)| *is_nominated);
        let via = via.map(|(_, via)| via);
        let via = via.unwrap_or_else(|| panic!("{from} is new to the server: {context}"));
        let nominated = self.nominated(server);
        assert!(self.nominated(client).is_empty(), "{context}");
        assert!(nominated.iter().all(|remote| *remote == from), "{context}");
        let back = self.carry(server, client, (via, from));
        assert_eq!(back, Some(paths[0].remote), "{context}");
        paths
    }

    /// Where a packet seems to come from that one host sends and the other receives. Repeated, as
    /// QUIC does, so that loss does not decide.
    pub(super) fn carry(
        &mut self,
        sender: usize,
        receiver: usize,
        (via, to): (u16, SocketAddr),
    ) -> Option<SocketAddr> {
        let before = self.net.received(receiver).len();
        for _ in 0..20 {
            let transmit = Transmit {
                via,
                to,
                bytes: vec![0x40; 20],
                ttl: None,
                charge: Charge::Free,
            };
            self.net.send(sender, transmit);
        }
        self.net.run_for(Duration::from_secs(1));
        let received = self.net.received(receiver).get(before..)?;
        received.first().map(|(from, _)| *from)
    }
}
