//! Which addresses of one peer another may be told.
//!
//! Whoever is told an address sends packets to it. So a tracker passes on what it has *observed*,
//! and what a peer declares about itself only where it cannot point at a stranger:
//!
//! | address | goes to |
//! | --- | --- |
//! | observed over TCP | nobody: it is no UDP port |
//! | proven, of the other IP family | as one observed over UDP |
//! | observed, public | everybody |
//! | observed, private (the tracker stands in that network) | who is observed at a private address or on the tracker's own machine |
//! | observed, loopback | who is observed there too, both having reached the tracker over loopback |
//! | declared, another port of an observed or proven public or private IP | whom that IP may go to |
//! | declared, private, an own interface | who is observed or proven at the same IP, so most likely behind the same NAT |
//! | declared, private, a port of the router that is itself behind a carrier's NAT | the same: a customer of that carrier |
//! | any of one that is reached through a tracker alone, or told to it | nobody |
//! | link-local, multicast, broadcast, unspecified, reserved; any port below 1024 | nobody |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::limits::CANDIDATES;
use crate::wire::{Bounded, Candidate, CandidateKind, NatFiltering, NatMapping, Paths};

/// Ports below are those of well-known services; no peer lives there and nobody is sent there.
const LOWEST_PORT: u16 = 1024;

/// What a peer's connection to the tracker runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// QUIC over UDP, from the very socket that peers reach it at.
    Udp,
    /// TLS over TCP, where UDP does not get through.
    Tcp,
}

/// What a tracker knows about how one connected peer can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Where its packets come from.
    pub observed: SocketAddr,
    /// What they are. The IP of a TCP connection is its peer's as well, but its port is no UDP port.
    pub transport: Transport,
    /// Where else it has shown that it receives, by UDP from that same socket: an address of the other
    /// IP family. `AddressTokens` tell; [`can_be_proven`] which ones count.
    pub proven: Option<SocketAddr>,
    /// Whether it reached the tracker at a loopback address.
    pub tracker_is_loopback: bool,
    /// What it says about itself.
    pub candidates: Bounded<Candidate, CANDIDATES>,
    /// How it says its NAT picks outside ports.
    pub mapping: NatMapping,
    /// What it says its NAT lets in.
    pub filtering: NatFiltering,
    /// By which paths it wants to be reached.
    pub paths: Paths,
    /// Round trip between it and the tracker, as the tracker measured it.
    pub rtt: Duration,
}

impl Situation {
    /// The UDP addresses at which the tracker knows that it receives, that of IPv4 first: it is NATs of
    /// IPv4 that need what is said of mapping and filtering. In canonical form.
    pub fn seen_at(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        let observed = Some(self.observed).filter(|_| self.transport == Transport::Udp);
        let both = [observed, self.proven].map(|it| it.map(canonical));
        let of = |is_ipv4| move |it: &SocketAddr| it.is_ipv4() == is_ipv4;
        let [v4, v6] = [true, false].map(|is_ipv4| both.into_iter().flatten().filter(of(is_ipv4)));
        v4.chain(v6)
    }

    /// The IP addresses at which the tracker knows that it is, by whatever transport.
    fn ips(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let addresses = [Some(self.observed), self.proven];
        addresses.into_iter().flatten().map(ip)
    }
}

/// The addresses of `of` that `receiver` may be told, those first at which it was seen, each once, at most
/// [`CANDIDATES`]; none where one of the two wants to be reached through a tracker alone.
/// IPv4-mapped IPv6 addresses come out as IPv4 (RFC 4291 §2.5.5.2).
pub fn candidates_for(receiver: &Situation, of: &Situation) -> Vec<Candidate> {
    if !receiver.paths.may_be_direct(of.paths) {
        return Vec::new();
    }
    let seen = of
        .seen_at()
        .filter(|address| may_tell_seen(receiver, of, address.ip()));
    let seen = seen.map(|address| Candidate {
        kind: CandidateKind::ServerReflexive,
        address,
    });
    let declared = of
        .candidates
        .iter()
        .filter(|candidate| may_tell_declared(receiver, of, candidate));
    let mut candidates: Vec<Candidate> = Vec::new();
    for Candidate { kind, address } in seen.chain(declared.copied()) {
        let address = canonical(address);
        let known = candidates
            .iter()
            .any(|candidate| candidate.address == address);
        if !known && address.port() >= LOWEST_PORT && candidates.len() < CANDIDATES {
            candidates.push(Candidate { kind, address });
        }
    }
    candidates
}

/// Whether a daemon whose connection comes from `observed` can prove to be at `address` as well: that is
/// of the other IP family, and of a kind that somebody may be told. Loopback is so only where the
/// connection is over that.
pub fn can_be_proven(observed: SocketAddr, address: SocketAddr) -> bool {
    let is_other = ip(observed).is_ipv4() != ip(address).is_ipv4();
    is_other
        && match scope(ip(address)) {
            Scope::Public | Scope::Private => true,
            Scope::Loopback => scope(ip(observed)) == Scope::Loopback,
            Scope::Unusable => false,
        }
}

/// Whether a daemon observed at `observed` may be told that the tracker answers STUN at `server`, for such
/// a proof: what is private means another host in another network.
pub fn may_prove_at(observed: SocketAddr, server: SocketAddr) -> bool {
    can_be_proven(observed, server)
        && match scope(ip(observed)) {
            // Who is observed in a private network may well be elsewhere by the other family.
            Scope::Private => true,
            at => scope(ip(server)) == at,
        }
}

/// Where a probe goes that a daemon observed at `observed` asks for (PROTOCOL.md, Probes of a tracker),
/// or `None` if it gets none: to its own observed IP and to nowhere else.
///
/// None goes to loopback. Behind a proxy everybody looks local, and the tracker's own machine would
/// get packets from itself.
pub fn echo_target(observed: SocketAddr, port: u16) -> Option<SocketAddr> {
    let is_elsewhere = matches!(scope(ip(observed)), Scope::Public | Scope::Private);
    let target = SocketAddr::new(ip(observed), port);
    (is_elsewhere && port >= LOWEST_PORT).then_some(target)
}

/// Whether an IP at which `of` was seen may go to `receiver`.
fn may_tell_seen(receiver: &Situation, of: &Situation, seen: IpAddr) -> bool {
    match scope(seen) {
        Scope::Public => true,
        Scope::Private => {
            let is_inside = |ip| scope(ip) == Scope::Private;
            receiver.ips().any(is_inside) || is_local(receiver)
        }
        Scope::Loopback => is_local(of) && is_local(receiver),
        Scope::Unusable => false,
    }
}

/// Whether something `of` says about itself may go to `receiver`.
fn may_tell_declared(receiver: &Situation, of: &Situation, declared: &Candidate) -> bool {
    use CandidateKind::{Host, Mapped, PeerReflexive, Relayed, ServerReflexive};
    let declared_ip = ip(declared.address);
    let is_seen_ip = of.ips().any(|seen| seen == declared_ip);
    match (scope(declared_ip), declared.kind) {
        (_, PeerReflexive | Relayed) => false,
        (Scope::Public | Scope::Private, Host | ServerReflexive | Mapped) if is_seen_ip => {
            may_tell_seen(receiver, of, declared_ip)
        }
        (Scope::Private, Host | Mapped) => share_a_network(receiver, of),
        (Scope::Private, ServerReflexive) => false,
        // A public address that was not observed may be anybody's. So may a loopback port: it
        // would be a service of the receiver's own machine.
        (Scope::Public | Scope::Loopback | Scope::Unusable, _) => false,
    }
}

/// Whether both are seen at one IP: behind the same NAT, or on one machine.
fn share_a_network(a: &Situation, b: &Situation) -> bool {
    let is_shared = |at: IpAddr| b.ips().any(|other| other == at);
    a.ips()
        .filter(|at| is_shared(*at))
        .any(|shared| match scope(shared) {
            Scope::Public | Scope::Private => true,
            // A proxy in front of the tracker makes strangers look local; see `is_local`.
            Scope::Loopback => is_local(a) && is_local(b),
            Scope::Unusable => false,
        })
}

/// Whether the peer runs on the tracker's own machine.
fn is_local(peer: &Situation) -> bool {
    peer.tracker_is_loopback && scope(ip(peer.observed)) == Scope::Loopback
}

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Public,
    /// RFC 1918, RFC 6598 (shared by a carrier's customers) and RFC 4193.
    Private,
    Loopback,
    /// Nobody may be sent there.
    Unusable,
}

/// Of an address in canonical form.
fn scope(ip: IpAddr) -> Scope {
    match ip {
        IpAddr::V4(ip) => scope_v4(ip),
        IpAddr::V6(ip) => scope_v6(ip),
    }
}

fn scope_v4(ip: Ipv4Addr) -> Scope {
    match ip.octets() {
        [127, ..] => Scope::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Scope::Private,
        // This network, link-local, multicast, reserved and broadcast.
        [0, ..] | [169, 254, ..] | [224..=255, ..] => Scope::Unusable,
        _ => Scope::Public,
    }
}

fn scope_v6(ip: Ipv6Addr) -> Scope {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Scope::Loopback,
        // Unspecified and the deprecated IPv4-compatible ones.
        [0, 0, 0, 0, 0, 0, _, _] => Scope::Unusable,
        [0xfc00..=0xfdff, ..] => Scope::Private,
        // Link-local, the deprecated site-local, multicast.
        [0xfe80..=0xffff, ..] => Scope::Unusable,
        _ => Scope::Public,
    }
}

fn ip(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(ip(address), address.port())
}

#[cfg(test)]
mod tests;
