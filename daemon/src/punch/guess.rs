//! What an attempt has to do with guessing ports: the words of the peer, ours, and what came of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use warren_proto::id::PublicKey;
use warren_proto::nat::{Guessing, TurnEnd};
use warren_proto::wire::{NatMapping, Rendezvous};

use super::attempt::Attempt;
use crate::tracker::TrackerId;

/// What the peer of a rendezvous has said by way of the tracker.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) tracker: TrackerId,
    pub(super) id: [u8; 10],
    pub(super) address: SocketAddr,
    pub(super) mapping: NatMapping,
}

/// How long it counts where a connection led that is no more: a minute of healing.
const LED: Duration = Duration::from_secs(60);

/// Most such connections remembered: as many as there may be peers.
const LED_PEERS: usize = 256;

/// Where connections with peers led until a moment ago. A guess in vain at such an address has bothered
/// nobody who did not talk with us just before.
#[derive(Debug, Default)]
pub(super) struct Led {
    by_peer: BTreeMap<PublicKey, (Instant, IpAddr)>,
}

impl Led {
    /// A connection with a peer has ended.
    pub(super) fn note(&mut self, now: Instant, peer: PublicKey, ip: IpAddr) {
        self.by_peer.retain(|_, (ended, _)| *ended + LED > now);
        if self.by_peer.len() < LED_PEERS || self.by_peer.contains_key(&peer) {
            self.by_peer.insert(peer, (now, ip));
        }
    }

    /// Where the last connection with a peer led.
    pub(super) fn ip_of(&self, now: Instant, peer: &PublicKey) -> Option<IpAddr> {
        let led = self.by_peer.get(peer);
        led.filter(|(ended, _)| *ended + LED > now)
            .map(|(_, ip)| *ip)
    }
}

impl Attempt {
    /// Guesses ports too, if our own NAT is known.
    pub(super) fn guessing(mut self, rendezvous: &Rendezvous, own: Option<Guessing>) -> Attempt {
        if let Some(own) = own {
            self.machine = self.machine.guessing(rendezvous, own);
        }
        self
    }

    /// How our turn to guess has ended. `known` is where a connection with the peer leads or has led:
    /// there it has answered before.
    pub(super) fn turn_end(&self, known: Option<IpAddr>) -> TurnEnd {
        let is_known = known.is_some() && known == self.guessed;
        match self.proven.is_empty() && !is_known {
            true => TurnEnd::Unanswered,
            false => TurnEnd::Answered,
        }
    }

    /// Tells the tracker whether a path was found, and by what.
    pub(super) fn tell_outcome(&self, success: bool) {
        self.line.outcome(self.machine.technique(), success);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_connection_led_counts_for_a_minute_and_for_so_many_peers() {
        let (mut led, now) = (Led::default(), Instant::now());
        let ip = IpAddr::from([203, 0, 113, 7]);
        let peer = |n: usize| PublicKey([u8::try_from(n % 256).unwrap(); 32]);
        for n in 0..LED_PEERS {
            led.note(now, peer(n), ip);
        }
        assert_eq!(led.by_peer.len(), LED_PEERS);
        assert_eq!(led.ip_of(now, &peer(9)), Some(ip));
        assert_eq!(led.ip_of(now + LED, &peer(9)), None);
        let mut other = [9; 32];
        other[0] = 1;
        led.note(now, PublicKey(other), ip);
        assert_eq!(led.ip_of(now, &PublicKey(other)), None, "no room");
        led.note(now + LED, PublicKey(other), ip);
        assert_eq!(led.ip_of(now + LED, &PublicKey(other)), Some(ip));
        assert_eq!(led.by_peer.len(), 1);
    }
}
