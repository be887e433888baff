use proptest::prelude::*;

use super::*;

const A: PublicKey = PublicKey([1; 32]);
const B: PublicKey = PublicKey([2; 32]);
const RATE: u64 = 12_500_000;

#[test]
fn each_of_the_two_reaches_the_other_and_nobody_else() {
    let (mut table, now) = (table(), Instant::now());
    let id = table.open(now, B, A).unwrap();
    let send = |table: &mut RelayTable, from| table.forward(now, &batch(id, from), places);
    assert_eq!(send(&mut table, at(A)), Ok((B, Place::Udp(address(B)))));
    assert_eq!(send(&mut table, at(B)), Ok((A, Place::Udp(address(A)))));
    let stranger = Origin::Udp("192.0.2.99:5000".parse().unwrap());
    for origin in [at(PublicKey([3; 32])), stranger, Origin::Tunnel(A)] {
        assert_eq!(send(&mut table, origin), Err(Refusal::ForeignSource));
    }
    let counters = table.counters();
    assert_eq!((counters.datagrams, counters.bytes), (2, 2400));
    assert_eq!(counters.foreign_source, 3);
}

#[test]
fn a_session_that_is_closed_is_over_and_others_are_not() {
    let (mut table, now) = (table(), Instant::now());
    let other = PublicKey([3; 32]);
    let closed = table.open(now, A, B).unwrap();
    let open = table.open(now, A, other).unwrap();
    table.close(B, A);
    table.close(B, other);
    let refused = table.forward(now, &batch(closed, at(A)), places);
    assert_eq!(refused, Err(Refusal::UnknownSession));
    assert!(table.forward(now, &batch(open, at(A)), places).is_ok());
    assert_eq!(table.session_count(), 1);
}

#[test]
fn an_id_that_nobody_was_given_leads_nowhere() {
    let (mut table, now) = (table(), Instant::now());
    let id = table.open(now, A, B).unwrap();
    for bit in 0..96 {
        let mut other = id;
        other.0[bit / 8] ^= 1 << (bit % 8);
        let refused = table.forward(now, &batch(other, at(A)), places);
        assert_eq!(refused, Err(Refusal::UnknownSession));
    }
    assert_eq!(table.counters().unknown_session, 96);
    assert_eq!(table.counters().datagrams, 0);
}

#[test]
fn a_session_ends_a_minute_after_it_was_last_used_and_its_id_is_worth_nothing_then() {
    let (mut table, start) = (table(), Instant::now());
    let id = table.open(start, A, B).unwrap();
    let mut now = start;
    for _ in 0..5 {
        now += RELAY_IDLE - Duration::from_millis(1);
        table.expire(now);
        assert!(table.forward(now, &batch(id, at(A)), places).is_ok());
    }
    now += RELAY_IDLE;
    let refused = table.forward(now, &batch(id, at(A)), places);
    assert_eq!(
        refused,
        Err(Refusal::UnknownSession),
        "even if nobody tidied up"
    );
    table.expire(now);
    assert_eq!(table.session_count(), 0);
    let next = table.open(now, A, B).unwrap();
    assert_ne!(next, id);
    let replayed = table.forward(now, &batch(id, at(A)), places);
    assert_eq!(replayed, Err(Refusal::UnknownSession));
}

#[test]
fn a_pair_has_one_session_which_an_introduction_prolongs() {
    let (mut table, start) = (table(), Instant::now());
    let id = table.open(start, A, B);
    let later = start + RELAY_IDLE / 2;
    assert_eq!(table.open(later, B, A), id);
    table.expire(start + RELAY_IDLE);
    assert_eq!((table.session_count(), table.open(later, A, A)), (1, None));
    table.expire(later + RELAY_IDLE);
    assert_eq!(table.session_count(), 0);
}

#[test]
fn who_leaves_ends_all_its_sessions() {
    let (mut table, now) = (table(), Instant::now());
    let ids: Vec<_> = (2..6)
        .map(|n| table.open(now, A, PublicKey([n; 32])).unwrap())
        .collect();
    let other = table.open(now, B, PublicKey([3; 32])).unwrap();
    table.forget(&A);
    for id in ids {
        let refused = table.forward(now, &batch(id, at(B)), places);
        assert_eq!(refused, Err(Refusal::UnknownSession));
    }
    assert!(table.forward(now, &batch(other, at(B)), places).is_ok());
    table.forget(&B);
    assert!(table.members.is_empty() && table.by_age.is_empty() && table.by_pair.is_empty());
}

#[test]
fn nothing_goes_where_the_receiver_has_not_shown_that_it_receives() {
    let (mut table, now) = (table(), Instant::now());
    let id = table.open(now, A, B).unwrap();
    let unproven = |peer: &PublicKey| match *peer {
        B => Some(Place::Unproven),
        _ => places(peer),
    };
    let refused = table.forward(now, &batch(id, at(A)), unproven);
    assert_eq!(refused, Err(Refusal::Unproven(B)));
    let refused = table.forward(now, &batch(id, at(B)), unproven);
    assert_eq!(refused, Err(Refusal::Unproven(B)), "nor is it a sender");
    let gone = |peer: &PublicKey| places(peer).filter(|_| *peer == A);
    let refused = table.forward(now, &batch(id, at(A)), gone);
    assert_eq!(refused, Err(Refusal::NoReceiver));
    assert_eq!(table.counters().no_receiver, 3);
}

#[test]
fn a_tunnel_is_one_daemons_own() {
    let (mut table, now) = (table(), Instant::now());
    let id = table.open(now, A, B).unwrap();
    let by_tunnel = |peer: &PublicKey| match *peer {
        A => Some(Place::Tunnel),
        _ => places(peer),
    };
    let mut send = |origin| table.forward(now, &batch(id, origin), by_tunnel);
    assert_eq!(send(Origin::Tunnel(A)), Ok((B, Place::Udp(address(B)))));
    assert_eq!(send(at(B)), Ok((A, Place::Tunnel)));
    assert_eq!(send(Origin::Tunnel(B)), Err(Refusal::ForeignSource));
    assert_eq!(send(at(A)), Err(Refusal::ForeignSource));
}

#[test]
fn a_flood_gets_the_rate_and_no_more() {
    let (mut table, start) = (table(), Instant::now());
    let id = table.open(start, A, B).unwrap();
    for step in 0..10_000u32 {
        // Twenty times the rate for two seconds.
        let now = start + Duration::from_micros(200) * step;
        for _ in 0..42 {
            let _ = table.forward(now, &batch(id, at(A)), places);
        }
    }
    let counters = table.counters();
    let most = 2.0 * RATE as f64 + Limit::of(RATE).burst();
    assert!(counters.bytes as f64 <= most, "{counters:?}");
    assert!(
        counters.bytes as f64 >= 0.95 * 2.0 * RATE as f64,
        "{counters:?}"
    );
    assert_eq!(counters.datagrams + counters.over_rate, 420_000);
}

#[test]
fn a_quiet_pair_gets_its_part_beside_a_flood() {
    let (mut table, start) = (table(), Instant::now());
    let flood = table.open(start, A, B).unwrap();
    let (c, d) = (PublicKey([3; 32]), PublicKey([4; 32]));
    let quiet = table.open(start, c, d).unwrap();
    let mut passed = 0;
    for step in 0..20_000u32 {
        let now = start + Duration::from_micros(100) * step;
        for _ in 0..20 {
            let _ = table.forward(now, &batch(flood, at(A)), places);
        }
        // A third of the rate.
        if step % 3 == 0 {
            passed += u32::from(table.forward(now, &batch(quiet, at(c)), places).is_ok());
        }
    }
    assert!(passed >= 20_000 / 3 * 99 / 100, "{passed}");
}

#[test]
fn who_has_many_sessions_leaves_the_part_of_who_has_one() {
    let (mut table, start) = (table(), Instant::now());
    let many: Vec<_> = (10..30)
        .map(|n| table.open(start, A, PublicKey([n; 32])).unwrap())
        .collect();
    let (c, d) = (PublicKey([3; 32]), PublicKey([4; 32]));
    let single = table.open(start, c, d).unwrap();
    let mut bytes = [0; 2];
    for step in 0..40_000u32 {
        let now = start + Duration::from_micros(50) * step;
        for id in &many {
            let passed = table.forward(now, &batch(*id, at(A)), places).is_ok();
            bytes[0] += u64::from(passed);
        }
        bytes[1] += u64::from(table.forward(now, &batch(single, at(c)), places).is_ok());
    }
    // An even part for each session would be one in 21; for each of the 23 daemons, for whom each
    // datagram counts twice, it is two in 23.
    assert!(bytes[1] * 11 >= bytes[0], "{bytes:?}");
}

#[test]
fn sessions_are_capped_and_the_quiet_ones_make_room() {
    let config = RelayConfig {
        sessions: 4,
        sessions_per_peer: 2,
        ..RelayConfig::new(RATE)
    };
    let (mut table, start) = (RelayTable::new(config, [1; 32]), Instant::now());
    let first = table.open(start, A, peer(11)).unwrap();
    let second = table.open(start, A, peer(12)).unwrap();
    assert_eq!(table.open(start, A, peer(13)), None, "two of one daemon");
    let now = start + QUIET;
    assert!(table.forward(now, &batch(first, at(A)), places).is_ok());
    assert!(table.open(now, A, peer(13)).is_some());
    let refused = table.forward(now, &batch(second, at(A)), places);
    assert_eq!(refused, Err(Refusal::UnknownSession), "it made room");

    assert!(table.open(now, peer(21), peer(22)).is_some());
    assert!(table.open(now, peer(23), peer(24)).is_some());
    assert_eq!(table.open(now, peer(25), peer(26)), None, "four in all");
    assert!(table.open(now + QUIET, peer(25), peer(26)).is_some());
    assert_eq!(table.session_count(), 4);
}

#[test]
fn one_network_has_a_quarter_of_the_sessions_however_many_daemons_it_is() {
    let config = RelayConfig {
        sessions: 8,
        ..RelayConfig::new(RATE)
    };
    let (mut table, now) = (RelayTable::new(config, [1; 32]), Instant::now());
    for n in 1..=20 {
        let ip = match n {
            1..=9 => [203, 0, 113, n],
            _ => [198, 51, n, 1],
        };
        table.locate(peer(n), IpAddr::from(ip));
    }
    assert!(table.open(now, peer(1), peer(2)).is_some());
    assert!(table.open(now, peer(3), peer(10)).is_some());
    assert_eq!(table.open(now, peer(4), peer(5)), None);
    assert_eq!(table.open(now, peer(11), peer(6)), None);
    assert!(table.open(now, peer(11), peer(12)).is_some(), "elsewhere");
    table.forget(&peer(1));
    assert!(table.open(now, peer(11), peer(6)).is_some());
    (1..=20).for_each(|n| table.forget(&peer(n)));
    assert!(table.networks.is_empty() && table.by_network.is_empty());
}

#[test]
fn who_asks_for_nothing_any_more_shares_in_nothing() {
    let (mut table, start) = (table(), Instant::now());
    let ids: Vec<_> = (10..30)
        .map(|n| table.open(start, A, peer(n)).unwrap())
        .collect();
    for id in &ids {
        assert!(table.forward(start, &batch(*id, at(A)), places).is_ok());
    }
    assert_eq!(table.part_of_member(), RATE * 2 / 21);
    table.forget(&peer(10));
    assert_eq!(table.part_of_member(), RATE * 2 / 20);
    let later = start + ACTIVE / 2;
    assert!(table.forward(later, &batch(ids[1], at(A)), places).is_ok());
    let later = start + ACTIVE;
    assert!(table.forward(later, &batch(ids[2], at(A)), places).is_ok());
    assert_eq!(table.part_of_member(), RATE * 2 / 3);
}

#[test]
fn no_relayed_datagram_looks_like_stun() {
    let (mut table, now) = (table(), Instant::now());
    let mut seen = BTreeSet::new();
    for n in 0..200 {
        let id = table
            .open(now, PublicKey([n; 32]), PublicKey([201; 32]))
            .unwrap();
        assert!(!id.0.starts_with(&STUN_COOKIE) && seen.insert(id));
    }
}

proptest! {
    #[test]
    fn whatever_happens_only_live_sessions_pass_on_between_their_two_daemons(
        seed: [u8; 32],
        steps in prop::collection::vec((0u8..6, 0u8..5, 0u8..5, 0u64..70_000, 0u64..70_000), 1..200),
    ) {
        let config = RelayConfig { sessions: 6, sessions_per_peer: 3, ..RelayConfig::new(1_000_000) };
        let (mut table, start) = (RelayTable::new(config, seed), Instant::now());
        let (mut now, mut passed) = (start, 0);
        // Every id there ever was, whose it is, and whether it was ended.
        let mut opened: Vec<(RelayId, Pair, Instant, bool)> = Vec::new();
        for (step, a, b, millis, bytes) in steps {
            let (a, b) = (PublicKey([a; 32]), PublicKey([b; 32]));
            match step {
                0 => if let Some(id) = table.open(now, a, b) {
                    let pair = (a.min(b), a.max(b));
                    prop_assert!(a != b);
                    opened.retain(|(known, ..)| *known != id);
                    opened.push((id, pair, now, false));
                },
                1 => now += Duration::from_millis(millis),
                2 => {
                    table.forget(&a);
                    let its = |pair: &Pair| pair.0 == a || pair.1 == a;
                    opened.iter_mut().filter(|(_, pair, ..)| its(pair)).for_each(|it| it.3 = true);
                }
                _ if opened.is_empty() => (),
                _ => {
                    let at_index = millis as usize % opened.len();
                    let (id, pair, used, is_over) = opened[at_index];
                    let origin = if step == 5 { Origin::Tunnel(a) } else { at(a) };
                    let offered = Batch { id, origin, datagrams: 1, bytes };
                    if let Ok((receiver, place)) = table.forward(now, &offered, places) {
                        prop_assert!(!is_over && now < used + RELAY_IDLE);
                        prop_assert!(step != 5 && (pair == (a, receiver) || pair == (receiver, a)));
                        prop_assert_eq!(place, Place::Udp(address(receiver)));
                        opened[at_index].2 = now;
                        passed += bytes;
                    }
                }
            }
            table.expire(now);
            check(&table, &config);
        }
        let seconds = (now - start).as_secs_f64();
        prop_assert!(passed as f64 <= seconds * 1e6 + Limit::of(1_000_000).burst() + 1.0);
        prop_assert_eq!(table.counters().bytes, passed);
    }
}

/// The indexes agree, and nothing exceeds its cap.
fn check(table: &RelayTable, config: &RelayConfig) {
    let count = table.session_count();
    assert!(count <= config.sessions);
    assert_eq!((table.by_pair.len(), table.by_age.len()), (count, count));
    let of_members = table.members.values().map(|it| it.sessions.len());
    assert!(
        of_members
            .clone()
            .all(|its| (1..=config.sessions_per_peer).contains(&its))
    );
    assert_eq!(of_members.sum::<usize>(), 2 * count);
    let active = table.sessions.values().filter(|it| it.asked.is_some());
    let of_members = table.members.values().map(|it| it.active);
    assert_eq!(of_members.clone().sum::<u64>(), 2 * active.count() as u64);
    let members = of_members.filter(|active| *active > 0).count();
    assert_eq!(table.active_members, members as u64);
    for (id, session) in &table.sessions {
        assert!(table.by_age.contains(&(session.noted, *id)));
        assert_eq!(table.by_pair.get(&session.pair), Some(id));
    }
}

fn table() -> RelayTable {
    RelayTable::new(RelayConfig::new(RATE), [1; 32])
}

fn batch(id: RelayId, origin: Origin) -> Batch {
    Batch {
        id,
        origin,
        datagrams: 1,
        bytes: 1200,
    }
}

fn peer(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

fn at(peer: PublicKey) -> Origin {
    Origin::Udp(address(peer))
}

/// Everybody is connected, by UDP.
fn places(peer: &PublicKey) -> Option<Place> {
    Some(Place::Udp(address(*peer)))
}

fn address(peer: PublicKey) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, peer.0[0]], 5000))
}
