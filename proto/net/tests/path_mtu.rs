//! Packets as large as the interface takes, between real network namespaces; and what becomes of them
//! where the path takes less, or comes to.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

mod common;
mod namespaces;

use std::net::SocketAddr;

use tokio::time::timeout;

use common::{PATIENCE, accept_in_background, expect_much, pour, read_to_end, wait_until};
use namespaces::{Host, cable, inside};
use warren_net::{Connection, Endpoint, Expect, Identity, Profile, Protocol};

const MIB: usize = 1 << 20;

/// Headers of IPv4 and UDP, before a QUIC packet.
const V4_HEADERS_BYTES: u16 = 20 + 8;

const NEAR: [&str; 2] = ["198.18.0.1/24", "2001:db8:1::1/64"];
const NEAR_ROUTER: [&str; 2] = ["198.18.0.254/24", "2001:db8:1::fe/64"];
const FAR: [&str; 2] = ["198.18.1.1/24", "2001:db8:2::1/64"];
const FAR_ROUTER: [&str; 2] = ["198.18.1.254/24", "2001:db8:2::fe/64"];

#[test]
fn jumbo_frames_are_filled_by_either_family() {
    if !inside("jumbo_frames_are_filled_by_either_family") {
        return;
    }
    let lab = Lab::cable(9_000);
    for (listening, dialled) in [("[::]:0", "198.18.1.1"), ("[::]:0", "2001:db8:2::1")] {
        let pair = lab.meet(listening, dialled);
        for end in [&pair.dialled, &pair.accepted] {
            lab.until(end, |mtu| mtu == 8_952);
            assert_eq!(lost_probes(end), 0, "{dialled}");
        }
        lab.move_all(&pair, 32);
        assert_eq!(mtu(&pair.accepted), 8_952, "{dialled}");
    }
}

#[test]
fn frames_of_1500_are_filled_and_nothing_larger_is_tried() {
    if !inside("frames_of_1500_are_filled_and_nothing_larger_is_tried") {
        return;
    }
    let lab = Lab::cable(1_500);
    let pair = lab.meet("[::]:0", "198.18.1.1");
    for end in [&pair.dialled, &pair.accepted] {
        lab.until(end, |mtu| mtu == 1_452);
    }
    lab.move_all(&pair, 16);
    assert_eq!(mtu(&pair.accepted), 1_452);
    assert_eq!(lost_probes(&pair.accepted), 0);
}

#[test]
fn what_a_path_takes_is_found_behind_an_interface_that_takes_more() {
    if !inside("what_a_path_takes_is_found_behind_an_interface_that_takes_more") {
        return;
    }
    let lab = Lab::through_router([9_000, 1_500]);
    let pair = lab.meet("[::]:0", "198.18.1.1");
    // A size counts as lost only when something later has arrived. 14 round trips or so.
    for _ in 0..64 {
        if mtu(&pair.dialled) <= 1_400 {
            lab.move_all(&pair, 1);
        }
    }
    let found = mtu(&pair.dialled);
    assert!(
        found > 1_400 && found <= 1_500 - V4_HEADERS_BYTES,
        "{found}"
    );
    assert!(lost_probes(&pair.dialled) > 0);
}

#[test]
fn a_transfer_goes_on_when_the_path_comes_to_take_less() {
    if !inside("a_transfer_goes_on_when_the_path_comes_to_take_less") {
        return;
    }
    let lab = Lab::through_router([9_000, 9_000]);
    let pair = lab.meet("[::]:0", "198.18.1.1");
    lab.until(&pair.accepted, |mtu| mtu == 8_952);
    let _expected = expect_much(&pair.dialled);
    let sender = pair.accepted.clone();
    let sending = async move { pour(&sender, 64 * MIB).await.unwrap() };
    let sending = lab.far.start(sending);
    let receiver = pair.dialled.clone();
    let (mut rest, start) = lab.near.run(async move {
        let mut receive = receiver.quinn().accept_bi().await.unwrap().1;
        let mut start = vec![0; MIB];
        receive.read_exact(&mut start).await.unwrap();
        (receive, start.len())
    });
    assert_eq!(black_holes(&pair.accepted), 0);
    // From here on what is longer vanishes between the two, and nobody is told who would listen.
    lab.router.sh("ip link set near0 mtu 1500");
    let read = lab
        .near
        .run(async move { rest.read_to_end(64 * MIB).await.unwrap().len() });
    assert_eq!(start + read, 64 * MIB);
    lab.far.run(sending).unwrap();
    assert!(black_holes(&pair.accepted) > 0);
    assert!(mtu(&pair.accepted) <= 1_500 - V4_HEADERS_BYTES);
}

/// Two hosts, with a router in between or without.
struct Lab {
    near: Host,
    router: Host,
    far: Host,
}

struct Pair {
    dialled: Connection,
    accepted: Connection,
    _ends: [Endpoint; 2],
}

impl Lab {
    /// The hosts are at the ends of one cable.
    fn cable(mtu: u32) -> Lab {
        let lab = Lab::hosts();
        cable((&lab.near, "host0", NEAR), (&lab.far, "host0", FAR), mtu);
        lab.lead(["dev host0", "dev host0"]);
        lab
    }

    /// Each host has a cable to the router.
    fn through_router([near_mtu, far_mtu]: [u32; 2]) -> Lab {
        let lab = Lab::hosts();
        let Lab { near, router, far } = &lab;
        cable(
            (near, "host0", NEAR),
            (router, "near0", NEAR_ROUTER),
            near_mtu,
        );
        cable((far, "host0", FAR), (router, "far0", FAR_ROUTER), far_mtu);
        router.forward();
        lab.lead(["via 198.18.0.254", "via 198.18.1.254"]);
        lab
    }

    fn hosts() -> Lab {
        let [near, router, far] = [Host::new(), Host::new(), Host::new()];
        Lab { near, router, far }
    }

    /// Sends everything of IPv4 that way, and of IPv6 out on the cable.
    fn lead(&self, [near, far]: [&str; 2]) {
        for (host, way) in [(&self.near, near), (&self.far, far)] {
            host.sh(&format!(
                "ip route add default {way}; ip -6 route add default dev host0"
            ));
        }
    }

    /// A connection from the near host to the far one, at `ip` of that.
    fn meet(&self, listening: &str, ip: &str) -> Pair {
        let identity = Identity::generate().unwrap();
        let key = identity.public_key();
        let listening: SocketAddr = listening.parse().unwrap();
        let bind = move |identity: Identity| {
            let serves = [Protocol::Peer];
            Endpoint::bind(listening, &identity, &serves, Profile::Daemon).unwrap()
        };
        let (there, accepting) = self.far.run(async move {
            let there = bind(identity);
            let accepting = accept_in_background(&there);
            (there, accepting)
        });
        let to = SocketAddr::new(ip.parse().unwrap(), there.local_addr().port());
        let (here, dialled) = self.near.run(async move {
            let here = bind(Identity::generate().unwrap());
            let dialled = here.connect(to, Protocol::Peer, Expect::Key(key));
            let dialled = timeout(PATIENCE, dialled).await.unwrap().unwrap();
            (here, dialled)
        });
        let accepted = self.far.run(accepting).unwrap().unwrap();
        Pair {
            dialled,
            accepted,
            _ends: [here, there],
        }
    }

    /// Waits for the size of packets that an end sends.
    fn until(&self, end: &Connection, reached: impl Fn(u16) -> bool + Send + 'static) {
        let end = end.clone();
        self.near.run(wait_until(move || reached(mtu(&end))));
    }

    /// Sends so many MiB each way.
    fn move_all(&self, pair: &Pair, mib: usize) {
        for (from, to) in [
            (&pair.accepted, &pair.dialled),
            (&pair.dialled, &pair.accepted),
        ] {
            let _expected = expect_much(to);
            let (from, to) = (from.clone(), to.clone());
            self.near.run(async move {
                let sending = pour(&from, mib * MIB);
                let receive = to.quinn().accept_bi().await.unwrap().1;
                assert_eq!(read_to_end(receive).await, mib * MIB);
                sending.await.unwrap();
            });
        }
    }
}

fn mtu(end: &Connection) -> u16 {
    end.quinn().stats().path.current_mtu
}

fn lost_probes(end: &Connection) -> u64 {
    end.quinn().stats().path.lost_plpmtud_probes
}

fn black_holes(end: &Connection) -> u64 {
    end.quinn().stats().path.black_holes_detected
}
