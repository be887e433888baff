//! Gives what was received to the route it belongs to, and drops what belongs nowhere.
//!
//! A GRO batch has one source, so it takes one look-up of that and, as long as its packets are for
//! one connection, one of their id.

use std::net::SocketAddr;

use quinn::udp::RecvMeta;

use super::{RouteId, Routes, Source, Table, Unsolicited};
use crate::socket::ids::{self, LocalId};
use crate::socket::{canonical, sort};

/// Whom a batch is from.
enum Sender {
    /// Whoever is at the address.
    Plain,
    /// The peer of a route.
    Peer {
        route: RouteId,
        /// There is something to remember of it.
        news: bool,
    },
}

/// What is left of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::socket) struct Received {
    /// Whether any is.
    pub(in crate::socket) any: bool,
    /// Packets that were dropped.
    pub(in crate::socket) dropped: u64,
}

impl Routes {
    /// Replaces the source of a batch by its route, and blanks the packets that quinn must not see.
    pub(in crate::socket) fn receive(&self, meta: &mut RecvMeta, batch: &mut [u8]) -> Received {
        let from = canonical(meta.addr);
        let (sender, received) = self.read().judge(from, batch, meta.stride);
        if let Some(Sender::Peer { route, news }) = sender {
            if news {
                let mut table = self.write();
                table.hear(from, meta.dst_ip);
                for id in destinations(batch, meta.stride) {
                    table.learn(id, route);
                }
            }
            meta.addr = route.addr();
        }
        received
    }
}

impl Table {
    /// Whom a batch is from; nobody if nothing of it is left.
    fn judge(
        &self,
        from: SocketAddr,
        batch: &mut [u8],
        stride: usize,
    ) -> (Option<Sender>, Received) {
        let all = Received {
            any: true,
            dropped: 0,
        };
        match self.sources.get(&from) {
            Some(Source::Admitted { route, unheard }) => {
                let route = *route;
                let news = *unheard || destinations(batch, stride).any(|id| self.is_news(&id));
                (Some(Sender::Peer { route, news }), all)
            }
            Some(Source::Dialled(_)) => match self.unsolicited {
                Unsolicited::Accept => (Some(Sender::Plain), all),
                Unsolicited::OnlyAdmitted => {
                    let left = keep(batch, stride, |packet| self.may_answer(packet));
                    (left.any.then_some(Sender::Plain), left)
                }
            },
            None => self.judge_stranger(from, batch, stride, all),
        }
    }

    fn judge_stranger(
        &self,
        from: SocketAddr,
        batch: &mut [u8],
        stride: usize,
        all: Received,
    ) -> (Option<Sender>, Received) {
        let pretends = RouteId::of(from).is_some();
        match self.rebound(batch, stride).filter(|_| !pretends) {
            Some(route) => {
                // A batch has one source for quinn: what else is in there is not this peer's.
                let of_route = |id: LocalId| self.ids.get(&id) == Some(&route);
                let left = keep(batch, stride, |packet| {
                    ids::destination(packet).is_some_and(of_route)
                });
                (Some(Sender::Peer { route, news: false }), left)
            }
            None if self.unsolicited == Unsolicited::Accept && !pretends => {
                (Some(Sender::Plain), all)
            }
            None => (None, keep(batch, stride, |_| false)),
        }
    }

    /// The route on which an id of the batch was heard before.
    fn rebound(&self, batch: &[u8], stride: usize) -> Option<RouteId> {
        if self.ids.is_empty() {
            return None;
        }
        destinations(batch, stride).find_map(|id| self.ids.get(&id).copied())
    }

    /// Whether a packet may come from an address that we dialled: all but what would open a
    /// connection. A short header without an id of ours may be a stateless reset.
    fn may_answer(&self, packet: &[u8]) -> bool {
        !ids::is_long(packet) || ids::destination(packet).is_some_and(|id| self.local_ids.made(&id))
    }
}

/// The ids that the QUIC packets of a batch are for, each run of the same one once.
fn destinations(batch: &[u8], stride: usize) -> impl Iterator<Item = LocalId> {
    let mut last = None;
    batch
        .chunks(stride.max(1))
        .filter(|packet| sort::is_quic(packet))
        .filter_map(ids::destination)
        .filter(move |id| last.replace(*id) != Some(*id))
}

/// Blanks the QUIC packets that are not wanted.
fn keep(batch: &mut [u8], stride: usize, wanted: impl Fn(&[u8]) -> bool) -> Received {
    let mut received = Received {
        any: false,
        dropped: 0,
    };
    let packets = batch.chunks_mut(stride.max(1));
    for packet in packets.filter(|packet| sort::is_quic(packet)) {
        if wanted(packet) {
            received.any = true;
        } else {
            received.dropped += 1;
            sort::blank(packet);
        }
    }
    received
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use warren_proto::id::PublicKey;

    use super::*;
    use crate::socket::ids::LocalIds;
    use crate::socket::{Class, mapped};

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
        world.routes.receive(&mut meta, &mut batch);
        let (mut meta, mut batch) = world.batch(AWAY, &[blanked, short(ours)]);
        let received = world.routes.receive(&mut meta, &mut batch);
        assert_eq!((received.any, received.dropped), (false, 1));
    }

    #[test]
    fn answers_leave_from_where_the_path_first_led() {
        let world = World::new(Unsolicited::OnlyAdmitted);
        let arrive = |from: &str, at: &str| {
            let (mut meta, mut batch) = world.batch(from, &[short([7; 8])]);
            meta.dst_ip = Some(at.parse().unwrap());
            world.routes.receive(&mut meta, &mut batch);
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
    }

    /// A socket with one route, to [`HOME`].
    struct World {
        routes: Routes,
        ids: LocalIds,
        route: SocketAddr,
    }

    impl World {
        fn new(unsolicited: Unsolicited) -> Self {
            let ids = LocalIds::default();
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
                .remote
        }

        fn local_ip(&self) -> Option<IpAddr> {
            self.routes
                .path(RouteId::of(self.route).unwrap())
                .unwrap()
                .local_ip
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
            let (mut meta, mut batch) = self.batch(from, packets);
            let received = self.routes.receive(&mut meta, &mut batch);
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
}
