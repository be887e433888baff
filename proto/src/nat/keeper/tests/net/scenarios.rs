//! What becomes of a connection when its NATs, its peer or the network fail it.

use super::*;
use crate::nat::keeper::doubt::{lull, patience};
use KeeperEvent::{Alive, Dead, Forgotten, Moved};

#[test]
fn a_slow_peer_costs_one_check_and_no_event() {
    let mut net = Net::new(ms(40), [PortRestricted; 2], SERVER);
    net.run_for(ms(1000));
    net.hosts[SERVER].sends = false;
    net.run_for(ms(250));
    net.hosts[SERVER].sends = true;
    net.run_for(ms(2000));
    assert_eq!(net.checks(CLIENT).len(), 1);
    assert_eq!(net.checks(SERVER), []);
    assert_eq!(net.events(), []);
}

#[test]
fn a_very_slow_peer_costs_little_and_is_not_given_up() {
    let mut net = Net::new(ms(40), [PortRestricted; 2], SERVER);
    net.run_for(ms(1000));
    net.hosts[SERVER].sends = false;
    net.run_for(ms(120_000));
    assert!(net.checks(CLIENT).len() < 40);
    assert_eq!(net.events(), []);
}

#[test]
fn an_idle_connection_sends_nothing_for_10_minutes() {
    let mut net = Net::new(ms(40), [PortRestricted; 2], SERVER);
    net.run_for(ms(1000));
    net.become_idle();
    net.run_for(ms(600_000));
    assert_eq!((net.checks(CLIENT), net.checks(SERVER)), (vec![], vec![]));
    assert_eq!(net.events(), []);
}

#[test]
fn data_that_flows_needs_no_checks() {
    let mut net = Net::new(ms(40), [PortRestricted; 2], SERVER);
    net.run_for(ms(20_000));
    assert_eq!((net.checks(CLIENT), net.checks(SERVER)), (vec![], vec![]));
}

#[test]
fn a_nat_rebooted_with_the_same_port_is_open_again_after_a_short_silence() {
    for rtt in [20, 60, 150, 400].map(ms) {
        for (sender, rebooted) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut net = Net::new(rtt, [PortRestricted; 2], sender);
            net.run_for(ms(3000));
            net.reboot(rebooted, Port::Same);
            let alive = net.alive_within(ms(5000));
            let expected = lull(rtt, 0) + 2 * rtt;
            let case = format!("{rtt:?}, {sender} sends, {rebooted} rebooted");
            assert!(alive <= expected, "{case}: {alive:?}");
            net.run_for(ms(3000));
            assert!(net.flows(), "{case}");
            let moves = |e: &KeeperEvent| matches!(e, Moved { .. } | Forgotten | Dead);
            assert!(!net.events().iter().any(moves), "{case}");
        }
    }
}

#[test]
fn two_nats_rebooted_with_the_same_ports_are_open_again_after_a_short_silence() {
    for rtt in [20, 60, 150, 400].map(ms) {
        let mut net = Net::new(rtt, [PortRestricted; 2], SERVER);
        net.run_for(ms(3000));
        net.reboot(CLIENT, Port::Same);
        net.reboot(SERVER, Port::Same);
        let alive = net.alive_within(ms(5000));
        assert!(alive <= lull(rtt, 0) + 2 * rtt, "{rtt:?}: {alive:?}");
        net.run_for(ms(3000));
        assert!(net.flows());
    }
}

#[test]
fn a_new_port_is_followed_unaided_where_the_other_nat_lets_it_in() {
    for rtt in [20, 60, 150].map(ms) {
        for lax in [Open, FullCone] {
            for (sender, rebooted) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let mut filters = [lax; 2];
                filters[rebooted] = PortRestricted;
                let mut net = Net::new(rtt, filters, sender);
                net.run_for(ms(3000));
                let old = net.hosts[rebooted].keeper().path();
                net.reboot(rebooted, Port::New);
                net.run_for(lull(rtt, 0) + 4 * rtt + ms(300));
                let case = format!("{rtt:?}, {lax:?}, {sender} sends, {rebooted} rebooted");
                assert_eq!(net.hosts[rebooted].keeper().path(), old, "{case}");
                let (new, other) = (net.hosts[rebooted].nat.outside, 1 - rebooted);
                assert_eq!(net.hosts[other].keeper().path(), new, "{case}");
                net.run_for(ms(2000));
                assert!(net.flows(), "{case}");
                let ends = |event: &KeeperEvent| matches!(event, Forgotten | Dead);
                assert!(!net.events().iter().any(ends), "{case}");
            }
        }
    }
}

#[test]
fn a_new_port_that_the_other_nat_shuts_out_is_called_for_and_followed_when_introduced() {
    for rtt in [20, 60, 150].map(ms) {
        for rebooted in [CLIENT, SERVER] {
            let mut net = Net::new(rtt, [PortRestricted; 2], SERVER);
            net.run_for(ms(3000));
            net.reboot(rebooted, Port::New);
            let called = net.first(CLIENT, Silent, ms(3000));
            let silence = called + ms(5);
            assert!(silence >= patience(rtt), "{rtt:?}: {called:?}");
            assert!(called <= patience(rtt) + rtt, "{rtt:?}: {called:?}");
            net.introduce();
            net.run_for(3 * rtt + ms(200));
            let new = net.hosts[rebooted].nat.outside;
            assert_eq!(net.hosts[1 - rebooted].keeper().path(), new);
            net.run_for(ms(2000));
            assert!(net.flows());
            let told = net.told(CLIENT);
            assert_eq!(told.iter().filter(|event| **event == Silent).count(), 1);
            assert!(told.contains(&Alive));
            assert!(!net.events().contains(&Forgotten));
        }
    }
}

#[test]
fn two_nats_rebooted_with_new_ports_meet_when_introduced() {
    for sender in [CLIENT, SERVER] {
        let mut net = Net::new(ms(60), [PortRestricted; 2], sender);
        net.introduces = Some(ms(100));
        net.run_for(ms(3000));
        net.reboot(CLIENT, Port::New);
        net.reboot(SERVER, Port::New);
        net.run_for(ms(2000));
        for host in [CLIENT, SERVER] {
            let path = net.hosts[host].keeper().path();
            assert_eq!(path, net.hosts[1 - host].nat.outside);
        }
        net.run_for(ms(1000));
        assert!(net.flows());
    }
}

#[test]
fn a_client_that_noticed_a_change_is_followed_though_nothing_is_outstanding() {
    let mut net = Net::new(ms(60), [PortRestricted, Open], SERVER);
    net.run_for(ms(1000));
    net.become_idle();
    net.run_for(ms(1000));
    net.reboot(CLIENT, Port::New);
    net.suspect(CLIENT);
    net.run_for(ms(3 * 60 / 2));
    let new = net.hosts[CLIENT].nat.outside;
    assert_eq!(net.hosts[SERVER].keeper().path(), new);
}

#[test]
fn a_peer_that_was_restarted_has_forgotten() {
    for restarted in [CLIENT, SERVER] {
        let mut net = Net::new(ms(60), [PortRestricted; 2], SERVER);
        net.introduces = Some(ms(100));
        net.run_for(ms(3000));
        net.restart(restarted);
        net.run_for(ms(1500));
        let told = net.told(1 - restarted);
        assert_eq!(told, [Silent, Forgotten]);
        assert_eq!(net.hosts[restarted].checks.len(), 0);
    }
}

#[test]
fn a_dead_peer_is_called_for_every_2_s_and_dead_after_10() {
    for dead in [CLIENT, SERVER] {
        let mut net = Net::new(ms(60), [PortRestricted; 2], SERVER);
        net.run_for(ms(3000));
        net.hosts[dead].keeper = None;
        net.run_for(ms(30_000));
        let told = net.told(1 - dead);
        assert_eq!(told, [Silent, Silent, Silent, Silent, Silent, Dead]);
    }
}

#[test]
fn a_nomination_repeated_from_a_foreign_address_never_moves_the_server() {
    let stranger: SocketAddr = "198.51.100.66:6000".parse().unwrap();
    for is_first in [true, false] {
        let mut net = Net::new(ms(60), [PortRestricted, Open], SERVER);
        net.run_for(ms(1000));
        net.reboot(CLIENT, Port::New);
        for _ in 0..40 {
            net.run_for(ms(100));
            let sent = net.checks(CLIENT).len();
            net.suspect(CLIENT);
            let copies = net.checks(CLIENT).split_off(sent);
            for (_, copy) in copies {
                let delay = if is_first { ms(10) } else { ms(50) };
                net.inject(delay, stranger, copy);
            }
        }
        net.run_for(ms(3000));
        let moves = net
            .told(SERVER)
            .into_iter()
            .filter_map(|event| match event {
                Moved { remote, .. } => Some(remote),
                _ => None,
            });
        assert!(moves.into_iter().all(|remote| remote != stranger));
        assert_ne!(net.hosts[SERVER].keeper().path(), stranger);
        let to_stranger = net
            .checks(SERVER)
            .into_iter()
            .filter(|c| c.1.to == stranger);
        assert_eq!(to_stranger.count() > 0, is_first);
    }
}

#[test]
fn loss_of_20_percent_alone_moves_and_ends_nothing() {
    for seed in 0..20 {
        let mut net = Net::new(ms(60), [PortRestricted; 2], SERVER).lossy(seed);
        net.run_for(ms(20_000));
        let ends = |e: &KeeperEvent| matches!(e, Moved { .. } | Forgotten | Dead);
        assert!(!net.events().iter().any(ends), "seed {seed}");
        assert!(net.flows(), "seed {seed}");
    }
}

#[test]
fn with_20_percent_loss_a_new_port_is_followed_unaided() {
    for seed in 0..100 {
        let rebooted = seed as usize % 2;
        let mut filters = [FullCone; 2];
        filters[rebooted] = PortRestricted;
        let mut net = Net::new(ms(60), filters, seed as usize / 2 % 2).lossy(seed);
        net.run_for(ms(3000));
        net.reboot(rebooted, Port::New);
        net.run_for(ms(3000));
        let new = net.hosts[rebooted].nat.outside;
        assert_eq!(net.hosts[1 - rebooted].keeper().path(), new, "seed {seed}");
        net.run_for(ms(6000));
        assert!(net.flows(), "seed {seed}");
        assert!(!net.events().contains(&Dead), "seed {seed}");
    }
}

#[test]
fn with_20_percent_loss_a_new_port_is_followed_when_introduced() {
    for seed in 0..100 {
        let rebooted = seed as usize % 2;
        let mut net = Net::new(ms(60), [PortRestricted; 2], seed as usize / 2 % 2).lossy(seed);
        net.introduces = Some(ms(100));
        net.run_for(ms(3000));
        net.reboot(rebooted, Port::New);
        net.run_for(ms(5000));
        let new = net.hosts[rebooted].nat.outside;
        assert_eq!(net.hosts[1 - rebooted].keeper().path(), new, "seed {seed}");
        net.run_for(ms(5000));
        assert!(net.flows(), "seed {seed}");
        let ends = |event: &KeeperEvent| matches!(event, Forgotten | Dead);
        assert!(!net.events().iter().any(ends), "seed {seed}");
    }
}
