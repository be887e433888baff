//! Whom a batch is from, and what of it quinn gets.

use std::net::IpAddr;
use std::sync::Arc;

use warren_proto::id::PublicKey;

use super::*;
use crate::socket::extra::Extra;
use crate::socket::ids::LocalIds;
use crate::socket::mapped;
use crate::socket::routes::Path;

const HOME: &str = "198.51.100.7:4000";
const AWAY: &str = "203.0.113.9:5000";
const TRACKER: &str = "192.0.2.1:59000";

/// Length of the packets in a batch; the last is shorter.
const STRIDE: usize = 40;

#[test]
fn an_admitted_source_is_its_route_and_may_say_anything() {
    for unsolicited in [Unsolicited::Accept, Unsolicited::OnlyAdmitted] {
        let mut world = World::new(unsolicited);
        let ours = world.ids.make();
        let batch = [short(ours), initial(&[9; 20]), short([7; 8])];
        world.check(HOME, &batch, Some(world.route), &[true, true, true]);
    }
}

#[test]
fn a_known_id_from_elsewhere_is_its_route() {
    for unsolicited in [Unsolicited::Accept, Unsolicited::OnlyAdmitted] {
        let mut world = World::new(unsolicited);
        let ours = world.ids.make();
        world.check(HOME, &[short(ours)], Some(world.route), &[true]);
        world.check(AWAY, &[short(ours)], Some(world.route), &[true]);
        let handshake = long(0xe0, &ours);
        world.check(AWAY, &[handshake], Some(world.route), &[true]);
        assert_eq!(world.path(), addr(HOME));
    }
}

#[test]
fn beside_a_known_id_from_elsewhere_all_else_is_dropped() {
    for unsolicited in [Unsolicited::Accept, Unsolicited::OnlyAdmitted] {
        let mut world = World::new(unsolicited);
        let (ours, other) = (world.ids.make(), world.ids.make());
        let second = world.routes.route(&PublicKey([2; 32]), Class::Direct);
        assert!(world.routes.admit(second, addr("198.51.100.8:4000")));
        world.check(HOME, &[short(ours)], Some(world.route), &[true]);
        world.check("198.51.100.8:4000", &[short(other)], Some(second), &[true]);
        let batch = [initial(&[9; 20]), short(ours), short(other), short([7; 8])];
        world.check(
            AWAY,
            &batch,
            Some(world.route),
            &[false, true, false, false],
        );
    }
}

#[test]
fn an_id_is_learnt_wherever_in_the_batch_it_is() {
    let mut world = World::new(Unsolicited::OnlyAdmitted);
    let ids: Vec<LocalId> = (0..3).map(|_| world.ids.make()).collect();
    let batch = [ids[0], ids[0], ids[1], ids[2]].map(short);
    world.check(HOME, &batch, Some(world.route), &[true; 4]);
    for id in ids {
        world.check(AWAY, &[short(id)], Some(world.route), &[true]);
    }
}

#[test]
fn strangers_are_dropped_or_left_as_they_are() {
    let ours = LocalIds::default().make();
    let batch = [initial(&[9; 20]), short(ours), long(0xe0, &ours)];
    let world = World::new(Unsolicited::OnlyAdmitted);
    world.check(AWAY, &batch, None, &[false; 3]);
    let world = World::new(Unsolicited::Accept);
    world.check(AWAY, &batch, Some(addr(AWAY)), &[true; 3]);
}

#[test]
fn an_id_that_was_never_heard_on_a_route_is_a_stranger_even_if_it_is_ours() {
    let mut world = World::new(Unsolicited::OnlyAdmitted);
    let ours = world.ids.make();
    world.check(AWAY, &[short(ours)], None, &[false]);
}

#[tokio::test]
async fn of_strangers_only_what_is_for_a_connection_of_a_former_life_comes_through() {
    let key = [7; 32];
    let mut before = LocalIds::new(&key);
    let id = before.make();
    let mut lives = std::iter::repeat_with(|| LocalIds::new(&key));
    let ids = lives.find(|next| next.made_before(&id)).unwrap();
    let world = World::with(Unsolicited::OnlyAdmitted, ids);
    let batch = [
        short(id),
        short(world.ids.clone().make()),
        short([7; 8]),
        long(0xe0, &id),
        initial(&id),
    ];
    let kept = [true, false, false, false, false];
    world.check(AWAY, &batch, Some(addr(AWAY)), &kept);
    let further = Extra::open_for_test();
    world.check_at(further.via, AWAY, &batch[..1], None, &[false]);
}

#[test]
fn whoever_we_dialled_may_answer_but_not_dial() {
    let mut world = World::new(Unsolicited::OnlyAdmitted);
    let connection = Arc::default();
    assert!(
        world
            .routes
            .dial(addr(TRACKER), Arc::downgrade(&connection))
    );
    let ours = world.ids.make();
    let batch = [
        initial(&ours),
        initial(&[9; 20]),
        short(ours),
        short([7; 8]),
    ];
    let kept = [true, false, true, true];
    world.check(TRACKER, &batch, Some(addr(TRACKER)), &kept);
    world.check(TRACKER, &batch[1..2], None, &[false]);
}

#[test]
fn no_peer_repeats_what_is_for_a_connection_on_another_route() {
    for unsolicited in [Unsolicited::Accept, Unsolicited::OnlyAdmitted] {
        let mut world = World::new(unsolicited);
        let (ours, new) = (world.ids.make(), world.ids.make());
        let second = world.routes.route(&PublicKey([2; 32]), Class::Direct);
        assert!(world.routes.admit(second, addr(AWAY)));
        world.check(HOME, &[short(ours)], Some(world.route), &[true]);
        world.check(AWAY, &[short(ours), short(ours)], None, &[false; 2]);
        let batch = [short(ours), short(new), initial(&[9; 20])];
        world.check(AWAY, &batch, Some(second), &[false, true, true]);
    }
}

#[test]
fn what_is_for_a_connection_on_a_route_is_no_plain_packet() {
    for unsolicited in [Unsolicited::Accept, Unsolicited::OnlyAdmitted] {
        let mut world = World::new(unsolicited);
        let (ours, plain) = (world.ids.make(), world.ids.make());
        let connection = Arc::default();
        let dialled = Arc::downgrade(&connection);
        assert!(world.routes.dial(addr(TRACKER), dialled));
        world.check(HOME, &[short(ours)], Some(world.route), &[true]);
        let batch = [short(ours), short(plain), long(0xe0, &ours)];
        let kept = [false, true, false];
        world.check(TRACKER, &batch, Some(addr(TRACKER)), &kept);
    }
}

#[test]
fn a_relayed_packet_takes_over_no_direct_connection_and_the_other_way_round() {
    for unsolicited in [Unsolicited::Accept, Unsolicited::OnlyAdmitted] {
        let mut world = World::new(unsolicited);
        let (direct, relayed) = (world.ids.make(), world.ids.make());
        let relay = world.relay();
        world.check(HOME, &[short(direct)], Some(world.route), &[true]);
        let batch = [initial(&[9; 20]), short(direct), short(relayed)];
        world.check_relayed(relay, &batch, &[true, false, true]);
        world.check_relayed(relay, &[short(direct)], &[false]);

        let batch = [short(relayed), short(direct)];
        world.check(HOME, &batch, Some(world.route), &[false, true]);
        // From elsewhere: a peer behind a tracker has no address that could change.
        world.check(AWAY, &batch, Some(world.route), &[false, true]);
        world.check(AWAY, &[short(relayed)], None, &[false]);
        world.check_relayed(relay, &[short(relayed)], &[true]);
    }
}

#[tokio::test]
async fn a_place_is_an_address_at_one_of_our_sockets() {
    for unsolicited in [Unsolicited::Accept, Unsolicited::OnlyAdmitted] {
        let mut world = World::new(unsolicited);
        let extra = Extra::open_for_test();
        let (via, second) = (
            extra.via,
            world.routes.route(&PublicKey([2; 32]), Class::Direct),
        );
        // The same address by another socket is another place, and may be another peer's.
        assert!(world.routes.point_via(second, &extra, addr(HOME)));
        let (one, two) = (world.ids.make(), world.ids.make());
        world.check(HOME, &[short(one)], Some(world.route), &[true]);
        world.check_at(via, HOME, &[initial(&[9; 20])], Some(second), &[true]);
        world.check_at(via, HOME, &[short(two)], Some(second), &[true]);
        assert_eq!(world.path(), addr(HOME));

        // From elsewhere, as at the first socket, only known ids; and nobody is let in there.
        world.check_at(via, AWAY, &[short(two)], Some(second), &[true]);
        world.check_at(via, AWAY, &[short(one)], Some(world.route), &[true]);
        world.check_at(via, AWAY, &[initial(&[9; 20])], None, &[false]);
        world.check(AWAY, &[short(two)], Some(second), &[true]);
    }
}

#[test]
fn a_relay_route_that_ended_receives_nothing() {
    let world = World::new(Unsolicited::OnlyAdmitted);
    let relay = world.relay();
    world.check_relayed(relay, &[initial(&[9; 20])], &[true]);
    world.routes.forget(relay.addr());
    world.check_relayed(relay, &[initial(&[9; 20])], &[false]);
}

#[test]
fn a_source_that_looks_like_a_route_is_dropped() {
    for unsolicited in [Unsolicited::Accept, Unsolicited::OnlyAdmitted] {
        let mut world = World::new(unsolicited);
        let ours = world.ids.make();
        world.check(HOME, &[short(ours)], Some(world.route), &[true]);
        let pretended = world.route.to_string();
        world.check(&pretended, &[short(ours)], None, &[false]);
        world.check(&pretended, &[initial(&[9; 20])], None, &[false]);
    }
}

#[test]
fn what_is_not_quic_is_neither_learnt_from_nor_counted() {
    let mut world = World::new(Unsolicited::OnlyAdmitted);
    let ours = world.ids.make();
    let mut blanked = short(ours);
    sort::blank(&mut blanked);
    let (mut meta, mut batch) = world.batch(HOME, &[blanked.clone(), short([7; 8])]);
    world.routes.receive(Via::MAIN, &mut meta, &mut batch);
    let (mut meta, mut batch) = world.batch(AWAY, &[blanked, short(ours)]);
    let received = world.routes.receive(Via::MAIN, &mut meta, &mut batch);
    assert_eq!((received.any, received.dropped), (false, 1));
}

#[test]
fn answers_leave_from_where_the_path_first_led() {
    let world = World::new(Unsolicited::OnlyAdmitted);
    let arrive = |from: &str, at: &str| {
        let (mut meta, mut batch) = world.batch(from, &[short([7; 8])]);
        meta.dst_ip = Some(at.parse().unwrap());
        world.routes.receive(Via::MAIN, &mut meta, &mut batch);
        world.local_ip()
    };
    let first: Option<IpAddr> = Some("10.0.0.1".parse().unwrap());
    assert!(world.routes.admit(world.route, addr(AWAY)));
    assert_eq!(arrive(AWAY, "10.0.0.9"), None, "not the path");
    assert_eq!(arrive(HOME, "10.0.0.1"), first);
    assert_eq!(arrive(HOME, "10.0.0.2"), first, "no packet changes it");
    assert!(world.routes.point(world.route, addr(HOME)));
    assert_eq!(world.local_ip(), None, "our own address may be another now");
    assert_eq!(arrive(HOME, "10.0.0.2"), Some("10.0.0.2".parse().unwrap()));
    world.routes.forget_local_ips();
    assert_eq!(world.local_ip(), None, "we have other addresses");
    assert_eq!(arrive(HOME, "10.0.0.3"), Some("10.0.0.3".parse().unwrap()));
}

/// A socket with one route, to [`HOME`].
struct World {
    routes: Routes,
    ids: LocalIds,
    route: SocketAddr,
}

impl World {
    fn new(unsolicited: Unsolicited) -> Self {
        Self::with(unsolicited, LocalIds::default())
    }

    fn with(unsolicited: Unsolicited, ids: LocalIds) -> Self {
        let routes = Routes::new(unsolicited, ids.clone());
        let route = routes.route(&PublicKey([1; 32]), Class::Direct);
        assert!(routes.admit(route, addr(HOME)));
        assert!(routes.point(route, addr(HOME)));
        Self { routes, ids, route }
    }

    fn path(&self) -> SocketAddr {
        self.routes
            .path(RouteId::of(self.route).unwrap())
            .unwrap()
            .remote()
            .unwrap()
    }

    fn local_ip(&self) -> Option<IpAddr> {
        match self.routes.path(RouteId::of(self.route).unwrap()) {
            Some(Path::Direct { local_ip, .. }) => local_ip,
            other => panic!("{other:?}"),
        }
    }

    /// A relay route of another peer.
    fn relay(&self) -> RouteId {
        let route = self.routes.route(&PublicKey([2; 32]), Class::Relay);
        let path = Path::Relay {
            id: RelayId([1; 12]),
            tracker: addr(TRACKER),
        };
        assert!(self.routes.point_relay(route, path));
        RouteId::of(route).unwrap()
    }

    /// What quinn gets of a batch that came on a relay route.
    #[track_caller]
    fn check_relayed(&self, route: RouteId, packets: &[Vec<u8>], kept: &[bool]) {
        let (mut meta, mut batch) = self.batch(TRACKER, packets);
        let received = self.routes.receive_relayed(route, &mut meta, &mut batch);
        let left: Vec<bool> = batch.chunks(STRIDE).map(sort::is_quic).collect();
        assert_eq!(left, kept);
        assert_eq!(received.any, kept.contains(&true));
        assert_eq!(meta.addr, route.addr());
    }

    fn batch(&self, from: &str, packets: &[Vec<u8>]) -> (RecvMeta, Vec<u8>) {
        let mut batch = packets.concat();
        batch.truncate(packets.len() * STRIDE - 3);
        let meta = RecvMeta {
            addr: mapped(addr(from)),
            len: batch.len(),
            stride: STRIDE,
            ..RecvMeta::default()
        };
        (meta, batch)
    }

    /// What quinn gets of a batch, and whose it takes it for.
    #[track_caller]
    fn check(&self, from: &str, packets: &[Vec<u8>], sees: Option<SocketAddr>, kept: &[bool]) {
        self.check_at(Via::MAIN, from, packets, sees, kept);
    }

    /// The same of one that came to a socket.
    #[track_caller]
    fn check_at(
        &self,
        via: Via,
        from: &str,
        packets: &[Vec<u8>],
        sees: Option<SocketAddr>,
        kept: &[bool],
    ) {
        let (mut meta, mut batch) = self.batch(from, packets);
        let received = self.routes.receive(via, &mut meta, &mut batch);
        let left: Vec<bool> = batch.chunks(STRIDE).map(sort::is_quic).collect();
        assert_eq!(left, kept);
        let dropped = kept.iter().filter(|kept| !**kept).count() as u64;
        assert_eq!((received.any, received.dropped), (sees.is_some(), dropped));
        if let Some(sees) = sees {
            assert_eq!(canonical(meta.addr), sees);
        }
    }
}

fn short(id: LocalId) -> Vec<u8> {
    padded([&[0x41], &id[..]].concat())
}

fn initial(id: &[u8]) -> Vec<u8> {
    long(0xc3, id)
}

fn long(first: u8, id: &[u8]) -> Vec<u8> {
    padded([&[first, 0, 0, 0, 1, id.len() as u8], id].concat())
}

fn padded(mut packet: Vec<u8>) -> Vec<u8> {
    packet.resize(STRIDE, 0xaa);
    packet
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
