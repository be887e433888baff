//! The way to a peer through a tracker or another peer: what carries it, and when it is worth taking.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::sync::mpsc;
use warren_net::{Relayed, Socket};
use warren_proto::id::{PublicKey, RelayId};
use warren_proto::wire::{NatFiltering, NatMapping, Rendezvous};

use super::Nat;
use crate::tracker::TrackerId;

/// How long a direct path has for being proven before the relay is taken: what a check takes around
/// the world, where it takes no longer because of a NAT.
pub(super) const HEAD_START: Duration = Duration::from_millis(300);

/// The same where a NAT clashes: checks to it are held for 400 ms (PROTOCOL.md, Checks).
const HEAD_START_HELD: Duration = Duration::from_millis(700);

/// Who passes datagrams on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Relayer {
    /// A tracker.
    Tracker(TrackerId),
    /// A peer of a swarm.
    Peer(PublicKey),
}

/// What takes datagrams to a relay.
#[derive(Clone, Debug)]
pub(crate) enum Carrier {
    /// Our socket, to the port of QUIC of the tracker or the peer.
    Udp(SocketAddr),
    /// The connection to the tracker, where no UDP gets through.
    Tunnel(mpsc::Sender<Relayed>),
}

/// A session at a relay by which a peer can be talked to.
#[derive(Clone, Debug)]
pub(crate) struct RelaySession {
    /// Its name.
    pub(crate) id: RelayId,
    /// Whose it is.
    pub(crate) by: Relayer,
    /// What takes datagrams there.
    pub(crate) carrier: Carrier,
    /// What a packet to the peer and back takes, as far as is known.
    pub(crate) rtt: Duration,
}

impl RelaySession {
    /// The session of an introduction by a tracker that is `tracker_rtt` away.
    pub(crate) fn new(
        rendezvous: &Rendezvous,
        tracker: TrackerId,
        carrier: Carrier,
        tracker_rtt: Duration,
    ) -> Option<RelaySession> {
        // The tracker has the nearer of the two wait for half of what the other is farther away.
        let farther = Duration::from_millis(rendezvous.wait_ms.into()) * 2;
        Some(RelaySession {
            id: rendezvous.relay?,
            by: Relayer::Tracker(tracker),
            carrier,
            rtt: tracker_rtt * 2 + farther,
        })
    }

    /// From now on this takes datagrams to the tracker, to which a round trip takes `rtt`; whether it
    /// is something else than before.
    pub(super) fn carry(&mut self, carrier: &Carrier, rtt: Duration) -> bool {
        let is_same = match (&self.carrier, carrier) {
            (Carrier::Udp(before), Carrier::Udp(now)) => before == now,
            (Carrier::Tunnel(before), Carrier::Tunnel(now)) => before.same_channel(now),
            (Carrier::Udp(_), Carrier::Tunnel(_)) | (Carrier::Tunnel(_), Carrier::Udp(_)) => false,
        };
        if !is_same {
            (self.carrier, self.rtt) = (carrier.clone(), self.rtt.max(rtt * 2));
        }
        !is_same
    }

    /// The session that a peer has opened, to which a direct connection leads at `at`.
    pub(crate) fn by_peer(
        id: RelayId,
        peer: PublicKey,
        at: SocketAddr,
        rtt: Duration,
    ) -> RelaySession {
        RelaySession {
            id,
            by: Relayer::Peer(peer),
            carrier: Carrier::Udp(at),
            rtt,
        }
    }

    /// Sends what goes out on a relay route by this session from now on.
    pub(super) fn point(&self, socket: &Socket, route: SocketAddr) {
        let pointed = match &self.carrier {
            Carrier::Udp(tracker) => socket.point_relay(route, self.id, *tracker),
            Carrier::Tunnel(tunnel) => socket.point_tunnel(route, self.id, tunnel.clone()),
        };
        if !pointed {
            tracing::debug!("the route through a tracker is gone");
        }
    }
}

/// How long to wait for a direct path before the relay is taken: not at all where a direct one is not
/// likely to be there within about a round trip. Where it is not known how a NAT behaves, mostly since
/// hardly any UDP is let through, it is not, unless both are in one network.
///
/// A NAT that maps by destination shows a peer another port than the one the peer was told of. That
/// does no harm where the peer lets in what comes from ports it has not sent to, at the port that we
/// were told of.
pub(super) fn head_start(ours: &Nat, rendezvous: &Rendezvous) -> Duration {
    if meets_by_ipv6(ours, rendezvous) {
        return HEAD_START;
    }
    let clashes = [ours.filtering, rendezvous.filtering].contains(&NatFiltering::Clashing);
    match is_direct_likely(ours, rendezvous) {
        true if clashes => HEAD_START_HELD,
        true => HEAD_START,
        false => Duration::ZERO,
    }
}

/// Whether a direct path is likely to be there within about a round trip.
pub(crate) fn is_direct_likely(ours: &Nat, rendezvous: &Rendezvous) -> bool {
    let theirs = &Nat {
        mapping: rendezvous.mapping,
        filtering: rendezvous.filtering,
        ..Nat::default()
    };
    if meets_by_ipv6(ours, rendezvous) {
        return true;
    }
    let meets = |one: &Nat, other: &Nat| !maps_by_destination(one) || lets_in(other);
    let is_known = |nat: &Nat| nat.mapping != NatMapping::Unknown;
    let mut addresses = rendezvous.candidates.iter().map(|it| it.address.ip());
    let are_known = addresses.any(is_local) || (is_known(ours) && is_known(theirs));
    let may_meet = meets(ours, theirs) && meets(theirs, ours);
    are_known && may_meet && !rendezvous.candidates.is_empty()
}

/// Whether both are seen by IPv6, where no NAT is in the way, unless the peer is seen by that alone and says
/// that there is one.
fn meets_by_ipv6(ours: &Nat, rendezvous: &Rendezvous) -> bool {
    let has_no_nat =
        rendezvous.is_of_ipv4() || rendezvous.mapping == NatMapping::EndpointIndependent;
    ours.has_ipv6 && has_no_nat && rendezvous.is_seen_by_ipv6()
}

/// Whether only somebody in our network, or on this machine, is told of such an address.
fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
}

fn maps_by_destination(nat: &Nat) -> bool {
    use NatMapping::{AddressDependent, EndpointIndependent, Random, Sequential, Unknown};
    match nat.mapping {
        AddressDependent | Sequential { .. } | Random { .. } => true,
        EndpointIndependent | Unknown => false,
    }
}

fn lets_in(nat: &Nat) -> bool {
    !maps_by_destination(nat) && nat.filtering == NatFiltering::PortIndependent
}

#[cfg(test)]
mod tests {
    use warren_proto::id::SwarmId;
    use warren_proto::wire::{Bounded, Candidate, CandidateKind, Paths};

    use super::*;

    use NatFiltering::{PortDependent, PortIndependent};

    const ALIKE: NatMapping = NatMapping::EndpointIndependent;

    #[test]
    fn a_direct_path_gets_a_head_start_where_it_is_likely() {
        let random = NatMapping::Random { low: 1, high: 9 };
        let sequential = NatMapping::Sequential { step: 1 };
        for hard in [random, sequential, NatMapping::AddressDependent] {
            let hard = (hard, PortDependent);
            check(hard, (ALIKE, PortDependent), 1, Duration::ZERO);
            check((ALIKE, PortDependent), hard, 1, Duration::ZERO);
            check((ALIKE, PortIndependent), hard, 1, HEAD_START);
            check(hard, (ALIKE, PortIndependent), 1, HEAD_START);
            check(hard, (hard.0, PortIndependent), 1, Duration::ZERO);
        }
        let usual = (ALIKE, PortDependent);
        let unknown = (NatMapping::Unknown, NatFiltering::Unknown);
        check(usual, usual, 1, HEAD_START);
        check(unknown, usual, 1, Duration::ZERO);
        check(usual, unknown, 1, Duration::ZERO);
        check(unknown, unknown, 1, Duration::ZERO);
        check(usual, usual, 0, Duration::ZERO);
        let clashing = (ALIKE, NatFiltering::Clashing);
        check(clashing, usual, 1, HEAD_START_HELD);
        check(usual, clashing, 1, HEAD_START_HELD);
        check((random, NatFiltering::Clashing), usual, 1, Duration::ZERO);
    }

    #[test]
    fn in_one_network_a_direct_path_is_likely_whatever_is_known() {
        let unknown = (NatMapping::Unknown, NatFiltering::Unknown);
        let mut told = rendezvous(unknown, 1);
        let near = Candidate {
            kind: CandidateKind::Host,
            address: ([192, 168, 1, 9], 5000).into(),
        };
        let candidates = told.candidates.into_vec().into_iter().chain([near]);
        told.candidates = Bounded::truncated(candidates);
        assert_eq!(head_start(&Nat::default(), &told), HEAD_START);
    }

    #[test]
    fn the_round_trip_is_that_of_both_to_the_tracker() {
        let session = |wait_ms| {
            let mut rendezvous = rendezvous((ALIKE, PortDependent), 1);
            rendezvous.wait_ms = wait_ms;
            let carrier = Carrier::Udp(([192, 0, 2, 1], 5000).into());
            let rtt = Duration::from_millis(20);
            RelaySession::new(&rendezvous, TrackerId(0), carrier, rtt).map(|it| it.rtt)
        };
        // The other is 120 ms away from the tracker.
        assert_eq!(session(50), Some(Duration::from_millis(140)));
        assert_eq!(session(0), Some(Duration::from_millis(40)));
    }

    #[test]
    fn where_both_are_seen_by_ipv6_a_direct_path_is_likely_whatever_their_nats() {
        let random = (
            NatMapping::Random { low: 1, high: 9 },
            NatFiltering::Clashing,
        );
        let ours = |has_ipv6| Nat {
            mapping: random.0,
            filtering: random.1,
            has_ipv6,
            ..Nat::default()
        };
        let seen = |address: &str| Candidate {
            kind: CandidateKind::ServerReflexive,
            address: address.parse().unwrap(),
        };
        let by_both = Rendezvous {
            candidates: Bounded::truncated(["203.0.113.7:5000", "[2001:db8::7]:5000"].map(seen)),
            ..rendezvous(random, 1)
        };
        assert_eq!(head_start(&ours(true), &by_both), HEAD_START);
        assert_eq!(head_start(&ours(false), &by_both), Duration::ZERO);
        let by_ipv6 = |nat| Rendezvous {
            candidates: Bounded::truncated([seen("[2001:db8::7]:5000")]),
            ..rendezvous(nat, 1)
        };
        let firewalled = by_ipv6((ALIKE, PortDependent));
        assert_eq!(head_start(&ours(true), &firewalled), HEAD_START);
        assert_eq!(head_start(&ours(true), &by_ipv6(random)), Duration::ZERO);
        assert_eq!(
            head_start(&ours(true), &rendezvous(random, 1)),
            Duration::ZERO
        );
    }

    #[track_caller]
    fn check(
        ours: (NatMapping, NatFiltering),
        theirs: (NatMapping, NatFiltering),
        candidates: usize,
        expected: Duration,
    ) {
        let nat = Nat {
            mapping: ours.0,
            filtering: ours.1,
            ..Nat::default()
        };
        let head_start = head_start(&nat, &rendezvous(theirs, candidates));
        assert_eq!(head_start, expected, "{ours:?} {theirs:?}");
    }

    fn rendezvous(
        (mapping, filtering): (NatMapping, NatFiltering),
        candidates: usize,
    ) -> Rendezvous {
        let candidate = Candidate {
            kind: CandidateKind::ServerReflexive,
            address: ([203, 0, 113, 7], 5000).into(),
        };
        Rendezvous {
            id: [0; 10],
            secret: [0; 32],
            swarm: SwarmId([0; 32]),
            peer: PublicKey([0; 32]),
            side: warren_proto::proof::Side::Client,
            candidates: Bounded::truncated(vec![candidate; candidates]),
            mapping,
            filtering,
            wait_ms: 0,
            paths: Paths::Any,
            relay: Some(RelayId([1; 12])),
        }
    }
}
