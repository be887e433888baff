use super::*;

const HOME: &str = "198.51.100.7:4000";
const AWAY: &str = "203.0.113.9:5000";

#[test]
fn a_route_is_one_per_peer_and_class_and_comes_back_the_same() {
    let routes = routes();
    let direct = routes.route(&peer(1), Class::Direct);
    assert_eq!(routes.route(&peer(1), Class::Direct), direct);
    assert_ne!(routes.route(&peer(1), Class::Relay), direct);
    assert_ne!(routes.route(&peer(2), Class::Direct), direct);
    assert!(direct.is_ipv6() && direct.port() != 0);
    routes.forget(direct);
    assert_eq!(routes.owner(direct), None);
    assert_eq!(routes.route(&peer(1), Class::Direct), direct);
    assert_eq!(routes.owner(direct), Some((peer(1), Class::Direct)));
}

#[test]
fn only_an_admitted_address_becomes_the_path() {
    let routes = routes();
    let route = routes.route(&peer(1), Class::Direct);
    assert!(!routes.point(route, addr(HOME)));
    assert_eq!(path(&routes, route), None);
    assert!(routes.admit(route, addr(HOME)));
    assert_eq!(path(&routes, route), None);
    assert!(routes.point(route, addr(HOME)));
    assert!(!routes.point(route, addr(AWAY)));
    assert_eq!(path(&routes, route), Some(addr(HOME)));
}

#[test]
fn an_address_is_the_same_v4_mapped() {
    let routes = routes();
    let route = routes.route(&peer(1), Class::Direct);
    assert!(routes.admit(route, crate::socket::mapped(addr(HOME))));
    assert!(routes.point(route, addr(HOME)));
    assert_eq!(path(&routes, route), Some(addr(HOME)));
}

#[test]
fn an_address_belongs_to_the_last_that_admitted_it() {
    let routes = routes();
    let before = routes.route(&peer(1), Class::Direct);
    let after = routes.route(&peer(2), Class::Direct);
    admit_and_point(&routes, before, HOME);
    assert!(routes.admit(after, addr(HOME)));
    assert_eq!(path(&routes, before), None);
    assert!(!routes.point(before, addr(HOME)));
    assert!(routes.point(after, addr(HOME)));
}

#[test]
fn an_address_that_was_only_heard_takes_no_path_from_another() {
    let routes = routes();
    let victim = routes.route(&peer(1), Class::Direct);
    let thief = routes.route(&peer(2), Class::Direct);
    admit_and_point(&routes, victim, HOME);
    assert!(!routes.admit_heard(thief, addr(HOME)));
    assert_eq!(path(&routes, victim), Some(addr(HOME)));
    assert!(routes.admit_heard(victim, addr(HOME)));
    assert!(routes.admit_heard(thief, addr(AWAY)));
    assert!(routes.point(thief, addr(AWAY)));
}

#[test]
fn real_addresses_and_forgotten_routes_admit_nothing() {
    let routes = routes();
    let route = routes.route(&peer(1), Class::Direct);
    let other = routes.route(&peer(2), Class::Direct);
    assert!(!routes.admit(addr(AWAY), addr(HOME)));
    assert!(!routes.admit(route, other), "a route is no path");
    admit_and_point(&routes, route, HOME);
    routes.forget(route);
    assert!(!routes.admit(route, addr(HOME)));
    assert!(!routes.point(route, addr(HOME)));
    assert!(routes.read().sources.is_empty());
}

#[test]
fn a_dialled_address_is_not_admitted_while_its_connection_lives() {
    let routes = routes();
    let route = routes.route(&peer(1), Class::Direct);
    let (first, second) = (connection(), connection());
    assert!(routes.dial(addr(HOME), Arc::downgrade(&first)));
    assert!(routes.dial(addr(HOME), Arc::downgrade(&second)));
    drop(first);
    assert!(!routes.admit(route, addr(HOME)));
    drop(second);
    assert!(routes.admit(route, addr(HOME)));
    assert!(!routes.dial(addr(HOME), Arc::downgrade(&connection())));
    assert!(!routes.dial(route, Arc::downgrade(&connection())));
}

#[test]
fn dialled_addresses_are_forgotten_with_their_connections() {
    let routes = routes();
    for port in 1..=1000 {
        let connection = connection();
        let addr = SocketAddr::new([127, 0, 0, 1].into(), port);
        assert!(routes.dial(addr, Arc::downgrade(&connection)));
    }
    assert!(routes.read().sources.len() <= 2);
}

#[test]
fn the_oldest_address_makes_room_but_not_the_path() {
    let routes = routes();
    let route = routes.route(&peer(1), Class::Direct);
    admit_and_point(&routes, route, HOME);
    for port in 1..=100 {
        let remote = SocketAddr::new([192, 0, 2, 1].into(), port);
        assert!(routes.admit(route, remote));
        // Again, which takes no more room.
        assert!(routes.admit(route, remote));
    }
    assert_eq!(path(&routes, route), Some(addr(HOME)));
    assert_eq!(routes.read().sources.len(), SOURCES_PER_ROUTE);
    assert!(!routes.point(route, "192.0.2.1:1".parse().unwrap()));
    assert!(routes.point(route, "192.0.2.1:100".parse().unwrap()));
}

#[test]
fn a_flood_of_routes_takes_those_that_lead_nowhere() {
    let routes = routes();
    let live = routes.route(&peer(0), Class::Direct);
    admit_and_point(&routes, live, HOME);
    let idle = routes.route(&peer(1), Class::Direct);
    for n in 0..2 * ROUTES {
        routes.route(&peer(n + 2), Class::Direct);
    }
    assert_eq!(routes.read().routes.len(), ROUTES);
    assert_eq!(path(&routes, live), Some(addr(HOME)));
    assert_eq!(routes.owner(idle), None);
}

#[test]
fn a_flood_of_ids_takes_only_those_of_its_own_route() {
    let routes = routes();
    let quiet = RouteId::of(routes.route(&peer(1), Class::Direct)).unwrap();
    let loud = RouteId::of(routes.route(&peer(2), Class::Direct)).unwrap();
    let mut ids = routes.read().local_ids.clone();
    let mut table = routes.write();
    let kept = ids.make();
    table.learn(kept, quiet);
    let first = ids.make();
    table.learn(first, loud);
    for _ in 0..10_000 {
        table.learn(ids.make(), loud);
    }
    assert_eq!(table.ids.len(), 1 + IDS_PER_ROUTE);
    assert_eq!(table.ids.get(&kept), Some(&quiet));
    assert_eq!(table.ids.get(&first), None);
    table.remove(loud);
    assert_eq!(table.ids.len(), 1);
}

#[test]
fn an_id_that_was_made_up_or_is_anothers_is_not_learnt() {
    let routes = routes();
    let owner = RouteId::of(routes.route(&peer(1), Class::Direct)).unwrap();
    let thief = RouteId::of(routes.route(&peer(2), Class::Direct)).unwrap();
    let mut table = routes.write();
    let id = table.local_ids.make();
    table.learn(id, owner);
    table.learn(id, thief);
    table.learn([7; 8], thief);
    assert_eq!(table.ids.get(&id), Some(&owner));
    assert_eq!(table.ids.len(), 1);
}

#[tokio::test]
async fn a_place_at_a_further_socket_counts_among_the_addresses_of_its_route() {
    let routes = routes();
    let extra = Extra::open_for_test();
    let [one, two] = [1, 2].map(|n| routes.route(&peer(n), Class::Direct));
    admit_and_point(&routes, one, HOME);
    for port in 1..=100 {
        let remote = SocketAddr::new([192, 0, 2, 1].into(), port);
        assert!(routes.point_via(one, &extra, remote));
    }
    assert_eq!(routes.read().sources.len(), SOURCES_PER_ROUTE);
    assert!(!routes.point(one, addr(HOME)), "the oldest made room");

    // The last that was pointed there has it, and the other leads nowhere.
    let last = "192.0.2.1:100".parse().unwrap();
    assert!(routes.point_via(two, &extra, last));
    assert_eq!(path(&routes, one), None);
    assert_eq!(path(&routes, two), Some(last));
    assert!(!routes.point(two, last), "it is not admitted by the first");
    routes.forget(one);
    routes.forget(two);
    assert!(routes.read().sources.is_empty());
    assert_eq!(Arc::strong_count(&extra), 1);
}

#[test]
fn a_session_is_one_routes_and_a_route_has_one() {
    let routes = routes();
    let [one, two] = [1, 2].map(|n| routes.route(&peer(n), Class::Relay));
    assert!(routes.point_relay(one, relay(7, HOME)));
    assert_eq!(session(&routes, 7, HOME), Some(one));
    assert_eq!(session(&routes, 7, AWAY), None, "another tracker");
    assert_eq!(routes.session(RelayId([7; 12]), None), None, "no tunnel");

    assert!(routes.point_relay(two, relay(7, HOME)));
    assert_eq!(session(&routes, 7, HOME), Some(two));
    assert_eq!(path(&routes, one), None);

    assert!(routes.point_relay(two, relay(8, HOME)));
    assert_eq!(session(&routes, 7, HOME), None);
    assert_eq!(session(&routes, 8, HOME), Some(two));

    routes.forget(two);
    assert_eq!(session(&routes, 8, HOME), None);
    assert!(routes.read().sessions.is_empty());
}

#[test]
fn a_flood_of_relay_routes_leaves_no_session_behind() {
    let routes = routes();
    for n in 0..2 * ROUTES {
        let route = routes.route(&peer(n), Class::Relay);
        let id = RelayId(std::array::from_fn(|at| {
            n.to_le_bytes().get(at).map_or(0, |it| *it)
        }));
        let tracker = addr(HOME);
        assert!(routes.point_relay(route, Path::Relay { id, tracker }));
    }
    let table = routes.read();
    assert_eq!((table.routes.len(), table.sessions.len()), (ROUTES, ROUTES));
}

#[test]
fn neither_class_leads_the_way_of_the_other() {
    let routes = routes();
    let direct = routes.route(&peer(1), Class::Direct);
    let relayed = routes.route(&peer(1), Class::Relay);
    admit_and_point(&routes, direct, HOME);
    assert!(!routes.point_relay(direct, relay(7, AWAY)));
    assert_eq!(path(&routes, direct), Some(addr(HOME)));
    assert!(routes.point_relay(relayed, relay(7, AWAY)));
    for addr in [HOME, AWAY].map(addr) {
        assert!(!routes.admit(relayed, addr));
        assert!(!routes.admit_heard(relayed, addr));
        assert!(!routes.point(relayed, addr));
    }
    assert_eq!(path(&routes, direct), Some(addr(HOME)));
    assert_eq!(path(&routes, relayed), Some(addr(AWAY)));
    assert!(!routes.point_relay(addr(HOME), relay(7, AWAY)));
}

fn relay(id: u8, tracker: &str) -> Path {
    Path::Relay {
        id: RelayId([id; 12]),
        tracker: addr(tracker),
    }
}

fn session(routes: &Routes, id: u8, tracker: &str) -> Option<SocketAddr> {
    let route = routes.session(RelayId([id; 12]), Some(addr(tracker)))?;
    Some(route.addr())
}

fn routes() -> Routes {
    Routes::new(Unsolicited::OnlyAdmitted, LocalIds::default())
}

fn peer(n: usize) -> PublicKey {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&n.to_le_bytes());
    PublicKey(key)
}

fn connection() -> Arc<TransportConfig> {
    Arc::default()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn path(routes: &Routes, route: SocketAddr) -> Option<SocketAddr> {
    routes.path(RouteId::of(route).unwrap())?.remote()
}

#[track_caller]
fn admit_and_point(routes: &Routes, route: SocketAddr, remote: &str) {
    assert!(routes.admit(route, addr(remote)));
    assert!(routes.point(route, addr(remote)));
}
