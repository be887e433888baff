//! The way of a packet: out through NATs, across the core, in through NATs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Hairpin, INTERNET, Packet, SimNet};

impl SimNet {
    /// Out through gateways up to the network that has the destination.
    pub(super) fn climb(&mut self, mut packet: Packet) -> Option<Packet> {
        loop {
            let is_here = self.has(packet.network, packet.to);
            let Some(nat) = &mut self.networks[packet.network].gateway else {
                return is_here.then_some(packet);
            };
            if is_here {
                return Some(packet);
            }
            packet.ttl = packet.ttl.checked_sub(1).filter(|ttl| *ttl > 0)?;
            let hairpins = packet.to.ip() == IpAddr::V4(nat.outside);
            if hairpins && nat.kind.hairpin == Hairpin::No {
                return None;
            }
            packet.from = nat.outbound(self.now, packet.from, packet.to, &mut self.rng)?;
            packet.network = self.networks[packet.network].parent;
        }
    }

    /// In through gateways down to the host.
    pub(super) fn descend(&mut self, mut packet: Packet) -> Option<(usize, Packet)> {
        if packet.network == INTERNET {
            packet.ttl = packet
                .ttl
                .checked_sub(self.routers)
                .filter(|ttl| *ttl > 0)?;
        }
        loop {
            let host = self
                .hosts
                .iter()
                .position(|host| host.network == packet.network && host.has(packet.to));
            if let Some(host) = host {
                return Some((host, packet));
            }
            let below = self.below(packet.network, packet.to.ip())?;
            let nat = self.networks[below].gateway.as_mut()?;
            packet.to = nat.inbound(self.now, packet.from, packet.to.port())?;
            packet.ttl = packet.ttl.checked_sub(1).filter(|ttl| *ttl > 0)?;
            packet.network = below;
        }
    }

    fn has(&self, network: usize, to: SocketAddr) -> bool {
        let mut hosts = self.hosts.iter();
        let has_host = hosts.any(|host| host.network == network && host.address.ip() == to.ip());
        has_host || self.below(network, to.ip()).is_some()
    }

    /// The network whose gateway has this address in `network`.
    fn below(&self, network: usize, ip: IpAddr) -> Option<usize> {
        (1..self.networks.len()).find(|index| {
            let below = &self.networks[*index];
            let nat = below.gateway.as_ref();
            below.parent == network && nat.is_some_and(|nat| IpAddr::V4(nat.outside) == ip)
        })
    }

    /// From a host to the core.
    pub(super) fn leg(&self, mut network: usize, host: usize) -> Duration {
        let mut leg = self.hosts[host].leg;
        while network != INTERNET {
            leg += self.networks[network].leg;
            network = self.networks[network].parent;
        }
        leg
    }

    /// From the core to whoever has this address.
    pub(super) fn leg_to(&self, to: SocketAddr) -> Duration {
        let host = self
            .hosts
            .iter()
            .find(|h| h.network == INTERNET && h.address.ip() == to.ip());
        let below = self.below(INTERNET, to.ip());
        let network = below.map(|index| self.networks[index].leg);
        host.map(|host| host.leg).or(network).unwrap_or_default()
    }
}
