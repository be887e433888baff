//! Who gets how much of our attention before they have proven anything.
//!
//! Anything that costs us work or bandwidth before a key is proven is rationed by network prefix,
//! since one host may hold many addresses of a prefix but rarely many prefixes.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use warren_proto::id::PublicKey;

/// Prefixes remembered per bucket table. A forged source address costs its sender one packet, so
/// the table needs a bound; 100,000 take about 10 MB.
const PREFIXES: usize = 100_000;

/// Handshakes per prefix: a machine room coming back at once, then 5 % of a core.
const HANDSHAKE_BURST: u32 = 512;
const HANDSHAKES_PER_S: u32 = 64;

/// STUN answers longer than their request, per prefix. At 44 bytes for 20, the worst case, an
/// attacker gets 8 × 24 extra bytes per second out of us towards any prefix.
const STUN_BURST: u32 = 32;
const STUN_PER_S: u32 = 8;

/// Between two probes for one daemon (PROTOCOL.md, Probes of a tracker).
const ECHO_INTERVAL: Duration = Duration::from_secs(10);

/// Probes of 20 bytes per prefix, whoever asks: a carrier's customers must not gang up on another
/// one behind the same address.
const ECHO_BURST: u32 = 32;
const ECHOES_PER_S: u32 = 8;

/// Handshakes under way from which on everyone must show their address first.
const BUSY_HANDSHAKES: usize = 512;

/// What to do with someone's first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Go through with the handshake.
    Accept,
    /// Make them show that they receive at their address, which costs us next to nothing.
    Retry,
    /// Turn them away.
    Refuse,
}

/// The addresses that share a bucket: an IPv4 /24 or an IPv6 /56.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Prefix([u8; 7]);

impl Prefix {
    pub(crate) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                // 0100::/8 holds no sender, so IPv4 and IPv6 cannot meet.
                Self([1, 0, 0, 0, a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, ..] = ip.octets();
                Self([a, b, c, d, e, f, g])
            }
        }
    }
}

/// The token buckets of one tracker.
pub(crate) struct Admission {
    /// Sources that may be forged; their bucket may be emptied by someone else.
    claimed: Buckets,
    /// Sources that have shown that they receive there.
    shown: Buckets,
    stun: Buckets,
    echo: Buckets,
    echo_of: DefaultKeyedRateLimiter<PublicKey>,
}

impl Admission {
    pub(crate) fn new() -> Self {
        Self {
            claimed: Buckets::new(HANDSHAKES_PER_S, HANDSHAKE_BURST),
            shown: Buckets::new(HANDSHAKES_PER_S, HANDSHAKE_BURST),
            stun: Buckets::new(STUN_PER_S, STUN_BURST),
            echo: Buckets::new(ECHOES_PER_S, ECHO_BURST),
            echo_of: RateLimiter::keyed(one_in(ECHO_INTERVAL)),
        }
    }

    /// Decides on a handshake from `ip`; `validated` if the sender has shown that it is there.
    pub(crate) fn handshake(&self, ip: IpAddr, validated: bool, under_way: usize) -> Verdict {
        match validated {
            true if self.shown.take(ip) => Verdict::Accept,
            true => Verdict::Refuse,
            false if under_way < BUSY_HANDSHAKES && self.claimed.take(ip) => Verdict::Accept,
            false => Verdict::Retry,
        }
    }

    /// Whether a STUN answer longer than its request may go to `ip`.
    pub(crate) fn longer_stun_answer(&self, ip: IpAddr) -> bool {
        self.stun.take(ip)
    }

    /// Whether a probe that a daemon asked for may go to `ip`.
    pub(crate) fn echo(&self, peer: &PublicKey, ip: IpAddr) -> bool {
        self.echo_of.len() < PREFIXES && self.echo_of.check_key(peer).is_ok() && self.echo.take(ip)
    }

    /// Forgets the prefixes whose buckets are full again.
    pub(crate) fn tidy(&self) {
        for buckets in [&self.claimed, &self.shown, &self.stun, &self.echo] {
            buckets.0.retain_recent();
            buckets.0.shrink_to_fit();
        }
        self.echo_of.retain_recent();
        self.echo_of.shrink_to_fit();
    }
}

/// One at once, and the next only after `interval`.
fn one_in(interval: Duration) -> Quota {
    Quota::with_period(interval).unwrap_or(Quota::per_hour(NonZeroU32::MIN))
}

struct Buckets(DefaultKeyedRateLimiter<Prefix>);

impl Buckets {
    fn new(per_s: u32, burst: u32) -> Self {
        let per_s = NonZeroU32::new(per_s).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        Self(RateLimiter::keyed(
            Quota::per_second(per_s).allow_burst(burst),
        ))
    }

    /// Takes a token; false if there is none, or no room to remember one more prefix.
    fn take(&self, ip: IpAddr) -> bool {
        self.0.len() < PREFIXES && self.0.check_key(&Prefix::of(ip)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_shares_a_bucket_and_its_neighbour_does_not() {
        check("203.0.113.1", "203.0.113.200", true);
        check("203.0.113.1", "203.0.114.1", false);
        check("203.0.113.1", "::ffff:203.0.113.9", true);
        check("2001:db8:0:100::1", "2001:db8:0:1ff::2", true);
        check("2001:db8:0:100::1", "2001:db8:0:200::1", false);
    }

    #[test]
    fn an_empty_bucket_costs_a_round_trip_first_and_the_handshake_only_then() {
        let admission = Admission::new();
        let ip = "203.0.113.1".parse().unwrap();
        while admission.handshake(ip, false, 0) == Verdict::Accept {}
        assert_eq!(admission.handshake(ip, false, 0), Verdict::Retry);
        assert_eq!(admission.handshake(ip, true, 0), Verdict::Accept);
        while admission.handshake(ip, true, 0) == Verdict::Accept {}
        assert_eq!(admission.handshake(ip, true, 0), Verdict::Refuse);
        let other = "198.51.100.1".parse().unwrap();
        assert_eq!(admission.handshake(other, false, 0), Verdict::Accept);
    }

    #[test]
    fn a_daemon_gets_one_probe_and_not_the_next_however_it_moves() {
        let admission = Admission::new();
        let key = PublicKey([1; 32]);
        assert!(admission.echo(&key, "203.0.113.1".parse().unwrap()));
        for ip in ["203.0.113.1", "198.51.100.1", "2001:db8::1"] {
            assert!(!admission.echo(&key, ip.parse().unwrap()), "{ip}");
        }
        assert!(admission.echo(&PublicKey([2; 32]), "203.0.113.1".parse().unwrap()));
    }

    #[test]
    fn many_daemons_together_get_no_more_than_a_prefix_may() {
        let admission = Admission::new();
        let ip = "203.0.113.1".parse().unwrap();
        let keys = (0..=255).map(|number| PublicKey([number; 32]));
        let granted = keys.filter(|key| admission.echo(key, ip)).count();
        // The clock goes on meanwhile: a second of it is worth 8 more.
        assert!((32..128).contains(&granted), "{granted}");
    }

    #[test]
    fn under_load_everyone_shows_their_address_first() {
        let admission = Admission::new();
        let ip = "203.0.113.1".parse().unwrap();
        assert_eq!(
            admission.handshake(ip, false, BUSY_HANDSHAKES),
            Verdict::Retry
        );
        assert_eq!(
            admission.handshake(ip, true, BUSY_HANDSHAKES),
            Verdict::Accept
        );
    }

    #[track_caller]
    fn check(one: &str, other: &str, same: bool) {
        let [one, other] = [one, other].map(|ip| Prefix::of(ip.parse().unwrap()));
        assert_eq!(one == other, same);
    }
}
