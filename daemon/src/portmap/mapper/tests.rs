//! The mapper against routers that follow a script, in made-up time.

use super::*;
use crate::portmap::message::says;

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 9);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const INSIDE: u16 = 5000;
const NONCE: Nonce = [9; 12];

/// One way between us and the router.
const LATENCY: Duration = Duration::from_millis(1);

#[test]
fn pcp_is_granted_in_one_round_trip_and_nothing_else_is_opened() {
    let mut home = Home::new(Script {
        pcp: Says::Grants(INSIDE),
        nat_pmp: Says::Grants(INSIDE),
        upnp: Says::Grants(INSIDE),
        ..Script::default()
    });
    home.run_for(LATENCY * 2);
    home.check_open(Protocol::Pcp, INSIDE);
    home.run_for(secs(60));
    assert_eq!((home.count("nat-pmp map"), home.count("add")), (0, 0));
    assert_eq!(home.count("pcp map"), 1);
}

#[test]
fn another_port_than_was_asked_for_is_taken_and_asked_for_again() {
    for protocol in [Protocol::Pcp, Protocol::NatPmp, Protocol::Upnp] {
        let mut home = Home::new(Script::only(protocol, Says::Grants(40_000)));
        home.run_for(secs(10));
        home.check_open(protocol, 40_000);
        home.run_for(LIFETIME);
        home.check_open(protocol, 40_000);
        home.suggested.dedup();
        assert_eq!(home.suggested, [INSIDE, 40_000]);
    }
}

#[test]
fn a_router_that_knows_no_pcp_is_asked_by_nat_pmp_at_once() {
    let mut home = Home::new(Script {
        pcp: Says::NoSuchVersion,
        nat_pmp: Says::Grants(INSIDE),
        ..Script::default()
    });
    home.run_for(LATENCY * 4);
    home.check_open(Protocol::NatPmp, INSIDE);
}

#[test]
fn one_that_is_silent_about_pcp_half_a_second_later() {
    let mut home = Home::new(Script::only(Protocol::NatPmp, Says::Grants(INSIDE)));
    home.run_for(PATIENCE);
    assert_eq!(home.mapper.standing(), Standing::Asking);
    home.run_for(LATENCY * 2);
    home.check_open(Protocol::NatPmp, INSIDE);
}

#[test]
fn upnp_is_used_when_the_others_are_silent_or_refuse() {
    for says in [
        Says::Nothing,
        Says::NoSuchVersion,
        Says::Refuses,
        Says::Garbage,
    ] {
        let mut home = Home::new(Script {
            pcp: says,
            nat_pmp: says,
            upnp: Says::Grants(INSIDE),
            ..Script::default()
        });
        home.run_for(secs(1));
        home.check_open(Protocol::Upnp, INSIDE);
    }
}

#[test]
fn a_port_that_nothing_listens_at_is_no_reason_to_wait() {
    let mut home = Home::new(Script::only(Protocol::Upnp, Says::Grants(INSIDE)));
    home.mapper.handle_unreachable(home.now);
    home.run_for(LATENCY * 8);
    home.check_open(Protocol::Upnp, INSIDE);
}

#[test]
fn pcp_that_answers_after_upnp_takes_over() {
    let mut home = Home::new(Script::only(Protocol::Upnp, Says::Grants(40_000)));
    home.run_for(secs(1));
    home.check_open(Protocol::Upnp, 40_000);
    home.pcp_grants(INSIDE);
    home.run_for(secs(1));
    home.check_open(Protocol::Pcp, INSIDE);
    assert_eq!(home.count("remove 40000"), 1);
}

#[test]
fn where_both_opened_the_same_port_none_is_closed() {
    let mut home = Home::new(Script::only(Protocol::Upnp, Says::Grants(INSIDE)));
    home.run_for(secs(1));
    home.pcp_grants(INSIDE);
    home.run_for(secs(1));
    home.check_open(Protocol::Pcp, INSIDE);
    assert_eq!(home.count("remove"), 0);
}

#[test]
fn a_silent_router_gets_four_of_each_and_then_nothing_for_ten_minutes() {
    let mut home = Home::new(Script::default());
    home.run_for(RETRY);
    assert_eq!(home.mapper.standing(), Standing::Failed(Failure::Silent));
    assert_eq!(
        (home.count("pcp map"), home.count("nat-pmp address")),
        (4, 4)
    );
    assert_eq!(home.count("search"), 1);
    home.run_for(secs(10));
    assert_eq!((home.count("pcp map"), home.count("search")), (8, 2));
}

#[test]
fn a_refusal_is_told_in_the_words_of_who_was_asked_first() {
    let mut home = Home::new(Script {
        pcp: Says::Refuses,
        upnp: Says::Refuses,
        ..Script::default()
    });
    home.run_for(secs(10));
    let refused = Failure::Refused(Protocol::Pcp, Refusal::NotAllowed);
    assert_eq!(home.mapper.standing(), Standing::Failed(refused));
}

#[test]
fn garbage_is_as_good_as_silence() {
    let mut home = Home::new(Script {
        pcp: Says::Garbage,
        nat_pmp: Says::Garbage,
        ..Script::default()
    });
    home.run_for(secs(10));
    assert_eq!(home.mapper.standing(), Standing::Failed(Failure::Silent));
}

#[test]
fn answers_about_another_nonce_or_port_are_not_for_us() {
    let mut home = Home::new(Script::default());
    let grant = (OUTSIDE, granted(INSIDE, 7200));
    for (nonce, port) in [([8; 12], INSIDE), (NONCE, INSIDE + 1)] {
        let forged = says::pcp_map(9, 0, nonce, port, grant);
        home.mapper.handle_datagram(home.now, &forged);
    }
    let forged = says::address(9, 0, OUTSIDE);
    home.mapper.handle_datagram(home.now, &forged);
    let forged = says::map(9, 0, INSIDE + 1, granted(INSIDE, 7200));
    home.mapper.handle_datagram(home.now, &forged);
    assert_eq!(home.mapper.standing(), Standing::Asking);
}

#[test]
fn a_grant_that_is_of_no_use_is_a_refusal() {
    let of_pcp = |port| Script::only(Protocol::Pcp, Says::Grants(port));
    let shut_port = of_pcp(80);
    let no_time = Script {
        lifetime_s: 0,
        ..of_pcp(INSIDE)
    };
    let no_address = Script {
        outside: Ipv4Addr::UNSPECIFIED,
        ..Script::only(Protocol::NatPmp, Says::Grants(INSIDE))
    };
    for (script, refusal) in [
        (shut_port, Refusal::Useless),
        (no_time, Refusal::Useless),
        (no_address, Refusal::NoAddress),
    ] {
        let mut home = Home::new(script);
        home.run_for(secs(10));
        let Standing::Failed(Failure::Refused(_, said)) = home.mapper.standing() else {
            panic!("{:?}", home.mapper.standing());
        };
        assert_eq!(said, refusal);
    }
}

#[test]
fn what_is_granted_is_renewed_at_half_its_life_by_the_same_protocol() {
    for protocol in [Protocol::Pcp, Protocol::NatPmp] {
        let mut home = Home::new(Script {
            lifetime_s: 600,
            ..Script::only(protocol, Says::Grants(INSIDE))
        });
        home.run_for(secs(2));
        let map = home.maps(protocol);
        home.run_for(secs(290));
        assert_eq!(home.maps(protocol), map);
        home.run_for(secs(20));
        assert_eq!(home.maps(protocol), map + 1);
        home.run_for(secs(3000));
        assert_eq!(home.maps(protocol), map + 11);
        home.check_open(protocol, INSIDE);
        assert_eq!(home.count("search"), 1);
    }
}

#[test]
fn a_life_too_short_or_too_long_is_renewed_all_the_same() {
    for (lifetime_s, renewals) in [(1, 8640), (u32::MAX, 2)] {
        let mut home = Home::new(Script {
            lifetime_s,
            ..Script::only(Protocol::Pcp, Says::Grants(INSIDE))
        });
        home.run_for(secs(24 * 3600 + 1));
        let sent = home.count("pcp map") - 1;
        assert!(sent.abs_diff(renewals) <= renewals / 1000, "{sent}");
    }
}

#[test]
fn what_is_not_renewed_is_asked_for_in_every_way_and_ends_with_its_life() {
    let mut home = Home::new(Script::only(Protocol::Pcp, Says::Grants(INSIDE)));
    home.run_for(secs(1));
    home.script = Script::default();
    home.run_for(LIFETIME / 2 + secs(30));
    home.check_open(Protocol::Pcp, INSIDE);
    assert_eq!(home.count("search"), 2);
    home.run_for(LIFETIME / 2);
    assert_eq!(home.mapper.standing(), Standing::Failed(Failure::Silent));
}

#[test]
fn a_router_that_was_started_anew_is_asked_anew_within_a_minute() {
    for protocol in [Protocol::Pcp, Protocol::NatPmp] {
        let mut home = Home::new(Script::only(protocol, Says::Grants(INSIDE)));
        home.run_for(secs(600));
        let before = home.maps(protocol);
        home.restart_router();
        home.script.port_after_restart(protocol, 40_000);
        home.run_for(HEARTBEAT + secs(1));
        assert_eq!(home.maps(protocol), before + 1, "{protocol}");
        home.check_open(protocol, 40_000);
    }
}

#[test]
fn a_router_that_stays_up_is_not_asked_for_more_than_its_age() {
    let mut home = Home::new(Script::only(Protocol::Pcp, Says::Grants(INSIDE)));
    home.run_for(secs(3000));
    assert_eq!(home.count("pcp map"), 1);
    assert_eq!(home.count("pcp announce"), 49);
}

#[test]
fn another_outside_address_is_noticed_with_the_age() {
    let mut home = Home::new(Script::only(Protocol::NatPmp, Says::Grants(INSIDE)));
    home.run_for(secs(100));
    home.script.outside = Ipv4Addr::new(203, 0, 113, 8);
    home.run_for(HEARTBEAT + secs(1));
    let Standing::Granted(opened) = home.mapper.standing() else {
        panic!("{:?}", home.mapper.standing());
    };
    assert_eq!(
        opened.outside,
        SocketAddrV4::new(home.script.outside, INSIDE)
    );
}

#[test]
fn a_change_of_the_network_renews_at_once_but_not_all_the_time() {
    let mut home = Home::new(Script::only(Protocol::Pcp, Says::Grants(INSIDE)));
    home.run_for(secs(100));
    home.mapper.renew(home.now);
    home.run_for(LATENCY * 2);
    assert_eq!(home.count("pcp map"), 2);
    for _ in 0..100 {
        home.mapper.renew(home.now);
        home.run_for(Duration::from_millis(100));
    }
    assert_eq!(home.count("pcp map"), 4);
}

#[test]
fn the_end_gives_back_what_there_is() {
    for (protocol, end) in [
        (Protocol::Pcp, "pcp end"),
        (Protocol::NatPmp, "nat-pmp end"),
        (Protocol::Upnp, "remove 40000"),
    ] {
        let mut home = Home::new(Script::only(protocol, Says::Grants(40_000)));
        home.run_for(secs(10));
        home.mapper.release();
        home.run_for(secs(10_000));
        assert_eq!(home.count(end), 1, "{protocol}");
        assert_eq!(home.sent.last().unwrap(), end);
    }
}

#[test]
fn a_port_that_upnp_opens_too_late_is_closed_again() {
    let mut home = Home::new(Script::only(Protocol::Pcp, Says::Grants(40_000)));
    home.run_for(secs(10));
    home.upnp_adds(50_000);
    assert_eq!(home.sent.last().unwrap(), "remove 50000");
    let before = home.sent.len();
    home.upnp_adds(40_000);
    assert_eq!(home.sent.len(), before, "that is the port we have");
    home.mapper.release();
    home.upnp_adds(50_001);
    assert_eq!(home.sent.last().unwrap(), "remove 50001");
}

#[test]
fn the_end_of_nothing_says_nothing() {
    let mut home = Home::new(Script::default());
    home.run_for(secs(1));
    let before = home.sent.len();
    home.mapper.release();
    home.pcp_grants(INSIDE);
    home.run_for(secs(10_000));
    assert_eq!(home.sent.len(), before);
}

#[test]
fn nothing_a_router_sends_panics_or_floods_us() {
    use proptest::test_runner::{Config, TestRunner};
    let datagram = proptest::collection::vec(proptest::num::u8::ANY, 0..70);
    let several = proptest::collection::vec((0_u8..6, datagram, 0_u64..100), 0..40);
    let mut runner = TestRunner::new(Config::with_cases(200));
    let run = |datagrams: Vec<(u8, Vec<u8>, u64)>| {
        let mut home = Home::new(Script::default());
        let start = home.now;
        for (kind, noise, pause_s) in datagrams {
            let bytes = plausible(kind, &noise);
            home.mapper.handle_datagram(home.now, &bytes);
            home.run_for(secs(pause_s));
        }
        let s = (home.now - start).as_secs() as usize;
        assert!(
            home.sent.len() <= 30 + 4 * s,
            "{} in {s} s",
            home.sent.len()
        );
        Ok(())
    };
    runner.run(&several, run).unwrap();
}

/// An answer of each kind, filled with noise.
fn plausible(kind: u8, noise: &[u8]) -> Vec<u8> {
    let number = |at: usize| u32::from(noise.get(at).copied().unwrap_or(1)) << (at % 24);
    let grant = granted(number(0) as u16 ^ 0x4000, number(1));
    match kind {
        0 => says::pcp_map(
            number(2),
            (number(3) % 3) as u8,
            NONCE,
            INSIDE,
            (OUTSIDE, grant),
        ),
        1 => says::pcp_announce(number(2)),
        2 => says::address(number(2), 0, Ipv4Addr::from(number(4))),
        3 => says::map(number(2), (number(3) % 3) as u8, INSIDE, grant),
        4 => [&[0, 0x81, 0, 1][..], noise].concat(),
        _ => noise.to_vec(),
    }
}

/// What a router does about one protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Says {
    #[default]
    Nothing,
    Grants(u16),
    Refuses,
    NoSuchVersion,
    Garbage,
}

/// What a router does.
#[derive(Clone, Debug)]
struct Script {
    pcp: Says,
    nat_pmp: Says,
    upnp: Says,
    lifetime_s: u32,
    outside: Ipv4Addr,
}

impl Default for Script {
    fn default() -> Script {
        Script {
            pcp: Says::Nothing,
            nat_pmp: Says::Nothing,
            upnp: Says::Nothing,
            lifetime_s: 7200,
            outside: OUTSIDE,
        }
    }
}

impl Script {
    fn only(protocol: Protocol, says: Says) -> Script {
        let mut script = Script::default();
        *script.of(protocol) = says;
        script
    }

    fn port_after_restart(&mut self, protocol: Protocol, port: u16) {
        *self.of(protocol) = Says::Grants(port);
    }

    fn of(&mut self, protocol: Protocol) -> &mut Says {
        match protocol {
            Protocol::Pcp => &mut self.pcp,
            Protocol::NatPmp => &mut self.nat_pmp,
            Protocol::Upnp => &mut self.upnp,
        }
    }
}

enum News {
    Datagram(Vec<u8>),
    Upnp(UpnpNews),
}

/// A mapper, its router, and the time.
struct Home {
    mapper: Mapper,
    script: Script,
    now: Instant,
    router_up: Instant,
    /// What the router says, and when it arrives.
    coming: VecDeque<(Instant, News)>,
    /// All that was asked, in words.
    sent: Vec<String>,
    /// The outside ports that were asked for.
    suggested: Vec<u16>,
}

impl Home {
    fn new(script: Script) -> Home {
        let now = Instant::now();
        let mut home = Home {
            mapper: Mapper::new(now, CLIENT, INSIDE, NONCE),
            script,
            now,
            router_up: now,
            coming: VecDeque::new(),
            sent: Vec::new(),
            suggested: Vec::new(),
        };
        home.deliver();
        home
    }

    fn restart_router(&mut self) {
        self.router_up = self.now;
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        loop {
            self.deliver();
            let arrival = self.coming.front().map(|(at, _)| *at);
            let timeout = self.mapper.poll_timeout().map(|due| due.max(self.now));
            let Some(next) = arrival
                .into_iter()
                .chain(timeout)
                .min()
                .filter(|at| *at <= end)
            else {
                break;
            };
            turns = if next == self.now { turns + 1 } else { 0 };
            assert!(turns < 100, "nothing ever changes");
            self.now = next;
            match self.coming.pop_front_if(|(at, _)| *at <= next) {
                Some((_, News::Datagram(bytes))) => self.mapper.handle_datagram(next, &bytes),
                Some((_, News::Upnp(news))) => self.mapper.handle_upnp(next, news),
                None => self.mapper.handle_timeout(next),
            }
        }
        self.now = end;
    }

    /// Lets the router hear what the mapper wants.
    fn deliver(&mut self) {
        while let Some(action) = self.mapper.poll_action() {
            let answer = match action {
                Action::Send(bytes) => self.hear(&bytes).map(News::Datagram),
                Action::Search => {
                    self.sent.push("search".to_owned());
                    Some(News::Upnp(match self.script.upnp {
                        Says::Nothing => UpnpNews::NotFound,
                        _ => UpnpNews::Found,
                    }))
                }
                Action::Add { port } => {
                    self.sent.push("add".to_owned());
                    self.suggested.push(port);
                    Some(News::Upnp(match self.script.upnp {
                        Says::Grants(port) => {
                            let outside = SocketAddrV4::new(self.script.outside, port);
                            UpnpNews::Added(outside, LIFETIME)
                        }
                        _ => UpnpNews::Refused(Refusal::NotAllowed),
                    }))
                }
                Action::Remove { port } => {
                    self.sent.push(format!("remove {port}"));
                    None
                }
            };
            let arrives = self.now + LATENCY * 2;
            self.coming.extend(answer.map(|answer| (arrives, answer)));
        }
    }

    fn hear(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (version, opcode) = (bytes[0], bytes[1]);
        let (name, says) = match (version, opcode) {
            (2, 0) => ("pcp announce", self.script.pcp),
            (2, 1) => ("pcp map", self.script.pcp),
            (0, 0) => ("nat-pmp address", self.script.nat_pmp),
            (0, 1) => ("nat-pmp map", self.script.nat_pmp),
            other => panic!("{other:?}"),
        };
        let is_end = match (version, opcode) {
            (2, 1) => bytes[4..8] == [0; 4],
            (0, 1) => bytes[8..12] == [0; 4],
            _ => false,
        };
        self.sent.push(match is_end {
            true => name.replace("map", "end"),
            false => name.to_owned(),
        });
        if opcode == 1 && !is_end {
            let at = if version == 2 { 42 } else { 6 };
            self.suggested
                .push(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        }
        self.answer(version, opcode, says)
    }

    fn answer(&self, version: u8, opcode: u8, says: Says) -> Option<Vec<u8>> {
        let epoch_s = (self.now - self.router_up).as_secs() as u32;
        let (code, port) = match says {
            Says::Nothing => return None,
            Says::Garbage => return Some(vec![version, opcode | 0x80, 7, 7, 7]),
            Says::NoSuchVersion if version == 2 => return Some(vec![0, 0x81, 0, 1, 0, 0, 0, 0]),
            Says::NoSuchVersion => {
                let mut bytes = says::pcp_announce(epoch_s);
                bytes[3] = 1;
                return Some(bytes);
            }
            Says::Refuses => (2, 0),
            Says::Grants(port) => (0, port),
        };
        let grant = granted(port, self.script.lifetime_s);
        let outside = self.script.outside;
        Some(match (version, opcode) {
            (2, 0) => says::pcp_announce(epoch_s),
            (2, 1) => says::pcp_map(epoch_s, code, NONCE, INSIDE, (outside, grant)),
            (0, 0) => says::address(epoch_s, code, outside),
            _ => says::map(epoch_s, code, INSIDE, grant),
        })
    }

    /// A port that is opened by UPnP, asked for or not.
    fn upnp_adds(&mut self, port: u16) {
        let outside = SocketAddrV4::new(OUTSIDE, port);
        let news = UpnpNews::Added(outside, LIFETIME);
        self.mapper.handle_upnp(self.now, news);
        self.run_for(secs(1));
    }

    /// A grant that comes unasked, or very late.
    fn pcp_grants(&mut self, port: u16) {
        let grant = (OUTSIDE, granted(port, 7200));
        let bytes = says::pcp_map(1, 0, NONCE, INSIDE, grant);
        self.mapper.handle_datagram(self.now, &bytes);
    }

    /// How many were sent whose name begins so.
    fn count(&self, name: &str) -> usize {
        let named = |sent: &&String| sent.starts_with(name);
        self.sent.iter().filter(named).count()
    }

    fn maps(&self, protocol: Protocol) -> usize {
        match protocol {
            Protocol::Pcp => self.count("pcp map"),
            Protocol::NatPmp => self.count("nat-pmp map"),
            Protocol::Upnp => self.count("add"),
        }
    }

    #[track_caller]
    fn check_open(&self, protocol: Protocol, port: u16) {
        let outside = SocketAddrV4::new(OUTSIDE, port);
        let expected = Standing::Granted(Opened { protocol, outside });
        assert_eq!(self.mapper.standing(), expected);
    }
}

fn granted(port: u16, lifetime_s: u32) -> Granted {
    Granted { port, lifetime_s }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
