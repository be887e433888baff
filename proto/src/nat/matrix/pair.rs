//! Two sites whose NATs are measured, introduced and left to guess, from the first packet to a proven path.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::scenario::{Meeting, TRACKER_LEG, filtering_of};
use super::{HOME, ms};
use crate::nat::sim::{INTERNET, Introduction, NatKind, SimNet};
use crate::nat::{Guessing, Measured, Observation, Observers, PunchAttempt};
use crate::wire::{NatFiltering, Rendezvous, Technique};

/// How long a pair may take.
const LONGEST: Duration = Duration::from_secs(9);

/// Two sites.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) kinds: [NatKind; 2],
    pub(super) legs: [Duration; 2],
    pub(super) skew: [Duration; 2],
    pub(super) loss: f64,
    /// Whether each NAT is a carrier's, with a home's behind it.
    pub(super) is_carrier: [bool; 2],
    pub(super) routers: Routers,
    pub(super) lost_nominations: usize,
    pub(super) seen_by: SeenBy,
    pub(super) seed: u64,
}

/// Between the core's side of a site's NATs and others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routers {
    pub(super) to_servers: u8,
    pub(super) to_peer: u8,
}

/// Who shows a side that its mapping depends on the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SeenBy {
    /// A second address of the tracker.
    SecondAddress,
    /// Two of the peers that it meets, where the tracker has one.
    OpenPeers,
    Nobody,
}

/// What came of two attempts.
pub(super) struct Run {
    pub(super) meeting: Meeting,
    /// From the later start until both have proven a path.
    pub(super) time: Option<Duration>,
    /// What both sent to each other by then, answers included.
    pub(super) packets: usize,
    /// Most that any NAT made within 30 s, measuring included.
    pub(super) flows: usize,
    pub(super) technique: Technique,
}

impl Pair {
    pub(super) fn of(ours: NatKind, theirs: NatKind, seed: u64) -> Pair {
        Pair {
            kinds: [ours, theirs],
            legs: [ms(1 + seed % 50), ms(1 + seed / 50 % 50)],
            skew: [Duration::ZERO; 2],
            loss: 0.0,
            is_carrier: [false; 2],
            routers: Routers {
                to_servers: 6,
                to_peer: 6,
            },
            lost_nominations: 0,
            seen_by: SeenBy::SecondAddress,
            seed,
        }
    }

    pub(super) fn meet(&self) -> Run {
        let mut net = SimNet::new(self.seed, self.loss);
        net.routers = self.routers.to_servers;
        let hosts = [0, 1].map(|side| self.host(&mut net, side));
        let tracker = net.stun_server(TRACKER_LEG);
        let other_port = SocketAddr::new(tracker.ip(), tracker.port() + 1);
        let others = [0, 1].map(|_| net.stun_server(TRACKER_LEG));
        let servers = match self.seen_by {
            SeenBy::SecondAddress => vec![tracker, other_port, others[0]],
            SeenBy::OpenPeers | SeenBy::Nobody => vec![tracker, other_port],
        };
        let measured = hosts.map(|host| {
            let observations = self.observations(&mut net, host, tracker, others);
            net.measure(host, &servers, observations)
        });
        let (halves, later) = self.introduce(&mut net, hosts, &measured, tracker);
        let meeting = Meeting::between(net, hosts, &halves);
        self.finish(meeting, later, &servers)
    }

    /// Has the tracker introduce both; returns what it says, and when the later of them starts.
    fn introduce(
        &self,
        net: &mut SimNet,
        hosts: [usize; 2],
        measured: &[Measured; 2],
        tracker: SocketAddr,
    ) -> ([Rendezvous; 2], Duration) {
        let mapping = [0, 1].map(|side| measured[side].mapping);
        let filtering = [0, 1].map(|side| filtering_of(&self.nats(side)).given(mapping[side]));
        let observed = hosts.map(|host| net.observed(host, tracker));
        let ways = self.legs.map(|leg| leg + TRACKER_LEG);
        let introduction = Introduction {
            mapping,
            observed,
            hosts: [None; 2],
            rtts: ways.map(|way| way * 2),
            filtering,
        };
        let halves = introduction.rendezvous(self.seed);
        net.sent.clear();
        net.routers = self.routers.to_peer;
        net.lost_nominations = self.lost_nominations;
        let said = net.elapsed() + ways[0];
        let starts = [0, 1].map(|side| said + ways[side] + self.skew[side]);
        for (side, rendezvous) in halves.iter().enumerate() {
            let own = own(&measured[side], filtering[side], observed[side], tracker);
            let attempt = self.attempt(net.at(starts[side]), rendezvous, side, own);
            net.start_at(starts[side], hosts[side], attempt);
            let delay = ways[0] + ways[1];
            net.introduce(hosts[1 - side], hosts[side], observed[side].ip(), delay);
        }
        (halves, starts[0].max(starts[1]))
    }

    fn attempt(
        &self,
        at: Instant,
        rendezvous: &Rendezvous,
        side: usize,
        own: Guessing,
    ) -> PunchAttempt {
        let mut random = [side as u8; 32];
        random[..8].copy_from_slice(&self.seed.to_be_bytes());
        PunchAttempt::new(at, rendezvous, random).guessing(rendezvous, own)
    }

    /// The NATs of a side, from the outside in.
    fn nats(&self, side: usize) -> Vec<NatKind> {
        let home = self.is_carrier[side].then_some(HOME);
        [self.kinds[side]].into_iter().chain(home).collect()
    }

    fn host(&self, net: &mut SimNet, side: usize) -> usize {
        let (mut network, mut leg) = (INTERNET, self.legs[side]);
        for kind in self.nats(side) {
            network = net.network(network, kind, std::mem::take(&mut leg));
        }
        net.host(network, 5000, leg)
    }

    /// What two open peers tell a host, one of each network they are in.
    fn observations(
        &self,
        net: &mut SimNet,
        host: usize,
        tracker: SocketAddr,
        peers: [SocketAddr; 2],
    ) -> Vec<Observation> {
        let mut observers = Observers::new();
        if self.seen_by != SeenBy::OpenPeers {
            return Vec::new();
        }
        let (now, reflexive) = (net.at(net.elapsed()), net.observed(host, tracker));
        for (network, peer) in (0..).zip(peers) {
            let mapped = net.observed(host, peer);
            let observer = SocketAddr::from(([192, 0, network, 1], peer.port()));
            observers.note(now, reflexive, Observation { observer, mapped });
        }
        observers.dependent(now, reflexive)
    }

    /// Runs until both have proven a path, or nobody will.
    fn finish(&self, mut meeting: Meeting, later: Duration, servers: &[SocketAddr]) -> Run {
        let is_proven = |meeting: &Meeting| meeting.hosts.map(|h| meeting.proven(h).is_some());
        while meeting.net.elapsed() < later + LONGEST && is_proven(&meeting) != [true; 2] {
            meeting.net.run_for(ms(20));
        }
        let others = meeting
            .net
            .sent
            .iter()
            .filter(|(to, _)| !servers.contains(to));
        let packets = others.map(|(_, sent)| sent.packets).sum();
        // Nominations that are lost are repeated for so long.
        meeting.net.run_for(ms(1_700));
        let techniques = meeting.hosts.map(|host| meeting.net.technique(host));
        let technique = techniques[0].max(techniques[1]);
        let is_both = meeting.both_proven();
        let proven = meeting.hosts.map(|host| meeting.proven(host));
        let time = proven.iter().flatten().map(|(at, _)| *at).max();
        if is_both {
            meeting.paths(&format!("{self:?}"));
        }
        let flows = meeting.net.most_flows();
        let limit = if technique == Technique::BlockSpray {
            2_300
        } else {
            1_300
        };
        // Those of the measurement right before are not the attempt's.
        assert!(flows <= limit + 37, "{flows} flows: {self:?}");
        Run {
            meeting,
            time: time.map(|at| at.saturating_sub(later)),
            packets,
            flows,
            technique,
        }
    }
}

fn own(
    measured: &Measured,
    filtering: NatFiltering,
    reflexive: SocketAddr,
    stun: SocketAddr,
) -> Guessing {
    Guessing {
        mapping: measured.mapping,
        dependence: measured.dependence,
        filtering,
        primer_hops: measured.primer_hops,
        has_ipv6: false,
        reflexive,
        stun,
        advice: None,
    }
}
