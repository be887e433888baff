//! How much may be sent to an IP address that does not answer.
//!
//! An attempt bounds what it sends itself, but attempts are the tracker's to cause: one that forges
//! rendezvous with somebody's address in all of them would make every daemon in its swarms check
//! there. [`Allowance`] is asked before each check of any attempt and refuses once an address has
//! got its share, until it answers or a minute has passed.
//!
//! Attempts pace themselves, so a refused check is simply not sent. An address that takes part in a
//! rendezvous answers within its first few checks and is never refused; what does not answer gets
//! one attempt's worth a minute.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Most bytes to one address within [`WINDOW`], headers included, while it does not answer: the 24
/// checks of 76 bytes that an attempt may send to one address, over IPv6 2,976.
const UNANSWERED_BYTES: usize = 3_000;

/// How long what was sent counts.
const WINDOW: Duration = Duration::from_secs(60);

/// Most addresses counted at once. What an address can take up is bounded by the bytes it may get:
/// at most 28 checks, each noted in 24 bytes, so all of them take 3 MB.
const ADDRESSES: usize = 4_096;

const UDP_HEADER_BYTES: usize = 8;
const IPV4_HEADER_BYTES: usize = 20;
const IPV6_HEADER_BYTES: usize = 40;

/// Counts what goes unanswered, by IPv4 address or IPv6 /64, which is what one host has.
#[derive(Debug, Default)]
pub struct Allowance {
    counts: BTreeMap<IpAddr, Count>,
}

impl Allowance {
    /// Nothing was sent yet.
    pub fn new() -> Allowance {
        Allowance::default()
    }

    /// Whether a datagram with so many bytes of payload may be sent to this address now; if so it
    /// is counted as sent. Also refuses an address it has no room to count.
    pub fn take(&mut self, now: Instant, to: SocketAddr, payload_bytes: usize) -> bool {
        let network = network_of(to.ip());
        if !self.make_room(now, network) {
            return false;
        }
        let bytes = payload_bytes.saturating_add(header_bytes(network));
        self.counts.entry(network).or_default().take(now, bytes)
    }

    /// The address answered a check or sent an authenticated one: what went there was wanted.
    pub fn answered(&mut self, ip: IpAddr) {
        self.counts.remove(&network_of(ip));
    }

    /// Forgets what is too old to count if there is no room for one more network.
    fn make_room(&mut self, now: Instant, network: IpAddr) -> bool {
        if self.counts.len() < ADDRESSES || self.counts.contains_key(&network) {
            return true;
        }
        self.counts.retain(|_, count| {
            count.forget(now);
            !count.sent.is_empty()
        });
        self.counts.len() < ADDRESSES
    }
}

/// What was sent to one network and not answered, oldest first.
#[derive(Debug, Default)]
struct Count {
    sent: VecDeque<(Instant, usize)>,
    bytes: usize,
}

impl Count {
    fn take(&mut self, now: Instant, bytes: usize) -> bool {
        self.forget(now);
        let after = self.bytes.saturating_add(bytes);
        if after > UNANSWERED_BYTES {
            return false;
        }
        self.bytes = after;
        self.sent.push_back((now, bytes));
        true
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, bytes)) = self.sent.front()
            && now.saturating_duration_since(*at) >= WINDOW
        {
            self.bytes -= bytes;
            self.sent.pop_front();
        }
    }
}

/// What is counted together.
pub(super) fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

fn header_bytes(ip: IpAddr) -> usize {
    UDP_HEADER_BYTES
        + match ip {
            IpAddr::V4(_) => IPV4_HEADER_BYTES,
            IpAddr::V6(_) => IPV6_HEADER_BYTES,
        }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::nat::check::REQUEST_BYTES;

    const V4: &str = "203.0.113.7:5000";
    const V6: &str = "[2001:db8:1:2::7]:5000";

    #[test]
    fn an_unanswering_address_gets_28_checks_over_ipv4_and_24_over_ipv6() {
        for (to, checks) in [(V4, 28), (V6, 24)] {
            let mut bench = Bench::new();
            assert_eq!(bench.take_all(to), checks, "{to}");
            assert_eq!(bench.take_all(to), 0, "{to}");
        }
    }

    #[test]
    fn what_was_sent_counts_for_60_s() {
        let mut bench = Bench::new();
        assert!(bench.take(V4));
        bench.now += ms(10_000);
        assert_eq!(bench.take_all(V4), 27);
        bench.now += ms(49_999);
        assert_eq!(bench.take_all(V4), 0);
        bench.now += ms(1);
        assert_eq!(bench.take_all(V4), 1);
        bench.now += ms(10_000);
        assert_eq!(bench.take_all(V4), 27);
    }

    #[test]
    fn an_answer_makes_what_went_before_uncounted() {
        for (to, answers) in [(V4, "203.0.113.7"), (V6, "2001:db8:1:2:3::8")] {
            let mut bench = Bench::new();
            let checks = bench.take_all(to);
            bench.allowance.answered("203.0.113.8".parse().unwrap());
            assert_eq!(bench.take_all(to), 0, "{to}");
            bench.allowance.answered(answers.parse().unwrap());
            assert_eq!(bench.take_all(to), checks, "{to}");
        }
    }

    #[test]
    fn ports_and_the_addresses_of_one_network_share_an_allowance_and_others_do_not() {
        for (used, same, other) in [
            (V4, "203.0.113.7:6000", "203.0.113.8:5000"),
            (V4, "[::ffff:203.0.113.7]:5000", "[2001:db8::7]:5000"),
            (V6, "[2001:db8:1:2:ffff::1]:9000", "[2001:db8:1:3::7]:5000"),
        ] {
            let mut bench = Bench::new();
            bench.take_all(used);
            assert_eq!(bench.take_all(same), 0, "{same}");
            assert!(bench.take(other), "{other}");
        }
    }

    #[test]
    fn a_refused_datagram_leaves_room_for_a_smaller_one() {
        let mut bench = Bench::new();
        let to = V4.parse().unwrap();
        assert!(!bench.allowance.take(bench.now, to, usize::MAX));
        assert!(!bench.allowance.take(bench.now, to, 2_973));
        assert!(bench.allowance.take(bench.now, to, 2_972));
    }

    #[test]
    fn with_4096_addresses_counted_a_new_one_waits_until_one_is_old() {
        let mut bench = Bench::new();
        for n in 0..4_096 {
            assert!(bench.take(&host(n)));
            bench.now += ms(1);
        }
        assert!(!bench.take(&host(4_096)), "no room");
        assert!(bench.take(&host(4_095)), "known");
        bench.now += ms(60_000 - 4_096);
        assert!(bench.take(&host(4_096)), "the first one is old");
        assert!(!bench.take(&host(4_097)), "the second is not");
        let answering: SocketAddr = host(7).parse().unwrap();
        bench.allowance.answered(answering.ip());
        assert!(bench.take(&host(4_097)));
        assert_eq!(bench.allowance.counts.len(), ADDRESSES);
    }

    /// What may happen between the checks.
    #[derive(Clone, Debug)]
    enum Step {
        Take(SocketAddr, usize),
        Answered(IpAddr),
        Pause(Duration),
    }

    proptest! {
        /// Whatever the calls, no minute has more than 3,000 bytes to an address since it answered.
        #[test]
        fn no_unanswering_address_gets_more_than_3_kb_a_minute(
            steps in proptest::collection::vec(any_step(), 0..400),
        ) {
            let (mut allowance, mut now) = (Allowance::new(), Instant::now());
            let mut sent: BTreeMap<IpAddr, Vec<(Instant, usize)>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Take(to, payload) => {
                        let bytes = payload + if to.is_ipv4() { 28 } else { 48 };
                        let to_it = sent.entry(to.ip()).or_default();
                        if allowance.take(now, to, payload) {
                            to_it.push((now, bytes));
                        }
                        let last_minute = to_it.iter().filter(|(at, _)| now - *at < WINDOW);
                        let bytes: usize = last_minute.map(|(_, bytes)| *bytes).sum();
                        prop_assert!(bytes <= 3_000, "{bytes} bytes to {to}");
                    }
                    Step::Answered(ip) => {
                        allowance.answered(ip);
                        sent.remove(&ip);
                    }
                    Step::Pause(pause) => now += pause,
                }
            }
        }

        /// An address that has got nothing in the last minute gets what an attempt needs, as long
        /// as there is room.
        #[test]
        fn an_address_that_was_left_alone_is_not_refused(
            steps in proptest::collection::vec(any_step(), 0..100),
        ) {
            let mut bench = Bench::new();
            for step in steps {
                match step {
                    Step::Take(to, payload) => {
                        bench.allowance.take(bench.now, to, payload);
                    }
                    Step::Answered(ip) => bench.allowance.answered(ip),
                    Step::Pause(pause) => bench.now += pause,
                }
            }
            bench.now += WINDOW;
            prop_assert_eq!(bench.take_all(V4), 28);
        }
    }

    /// Addresses that share no allowance, few enough to use theirs up.
    fn any_address() -> impl Strategy<Value = SocketAddr> {
        let addresses = [V4, V6, "198.51.100.1:7000"].map(|text| text.parse().unwrap());
        proptest::sample::select(addresses.to_vec())
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => (any_address(), 0..200usize).prop_map(|(to, payload)| Step::Take(to, payload)),
            1 => any_address().prop_map(|to| Step::Answered(to.ip())),
            3 => (0..20_000u64).prop_map(|pause| Step::Pause(ms(pause))),
        ]
    }

    struct Bench {
        now: Instant,
        allowance: Allowance,
    }

    impl Bench {
        fn new() -> Bench {
            Bench {
                now: Instant::now(),
                allowance: Allowance::new(),
            }
        }

        fn take(&mut self, to: &str) -> bool {
            (self.allowance).take(self.now, to.parse().unwrap(), REQUEST_BYTES)
        }

        /// How many checks pass until one is refused.
        fn take_all(&mut self, to: &str) -> usize {
            (0..1_000).take_while(|_| self.take(to)).count()
        }
    }

    fn host(number: u32) -> String {
        let ip = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(203, 0, 0, 0)) + number);
        format!("{ip}:5000")
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}
