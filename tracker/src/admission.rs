//! Who gets how much of our attention before they have proven anything.
//!
//! Anything that costs us work or bandwidth before a key is proven is rationed by network prefix,
//! since one host may hold many addresses of a prefix but rarely many prefixes.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

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
}

impl Admission {
    pub(crate) fn new() -> Self {
        Self {
            claimed: Buckets::new(HANDSHAKES_PER_S, HANDSHAKE_BURST),
            shown: Buckets::new(HANDSHAKES_PER_S, HANDSHAKE_BURST),
            stun: Buckets::new(STUN_PER_S, STUN_BURST),
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

    /// Forgets the prefixes whose buckets are full again.
    pub(crate) fn tidy(&self) {
        for buckets in [&self.claimed, &self.shown, &self.stun] {
            buckets.0.retain_recent();
            buckets.0.shrink_to_fit();
        }
    }
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
