//! Trackers that are missing, are not who they should be, or go and come back.

use std::path::Path;

use warren_daemon::control::model::Transport;

use crate::{
    content::{MIB, assert_same_file, random_file},
    harness::{
        Daemon, DaemonOptions, Place, Swarm, Tracker, caught_in_the_middle, free_address, wait_for,
    },
};

#[test]
fn a_download_waits_for_a_tracker_and_starts_by_itself_when_there_is_one() {
    let place = Place::new();
    let address = free_address();
    let start = |idx| Daemon::start(&place, idx, &address, DaemonOptions::default());
    let (ours, theirs) = (start(1), start(2));
    for daemon in [&ours, &theirs] {
        let trackers = daemon.status().trackers;
        assert_eq!(trackers.len(), 1);
        assert_eq!(trackers[0].address, address);
        assert!(!trackers[0].connected);
    }
    let file = place.path("film.mkv");
    random_file(&file, MIB, 1);
    let registered = ours.register(&file);
    let mut transfer = theirs.download(&registered.manifest);
    transfer.until("a note about the tracker", |progress| {
        let note = progress.note.as_deref().unwrap_or_default();
        note.contains("tracker")
    });

    let _tracker = Tracker::start(&place, "t", &address);
    assert_same_file(&file, Path::new(&transfer.done().path));
    ours.until_connected();
}

#[test]
fn who_has_typed_a_wrong_port_is_told_at_once_what_is_tried() {
    let place = Place::new();
    // It answers nothing, as behind a firewall.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let daemon = Daemon::start(&place, 1, &address, DaemonOptions::default());
    let tried = format!("connecting to tracker {address} ...");
    let log = wait_for("the end of the first try", || {
        let log = daemon.client(&["logs"]).expect(0).stdout;
        log.contains("no tracker").then_some(log)
    });
    assert_eq!(log.matches(&tried).count(), 1, "{log}");
    assert!(log.find(&tried) < log.find("no tracker"), "{log}");
}

#[test]
fn a_file_registered_without_a_tracker_gets_its_link_once_there_is_one() {
    let place = Place::new();
    let address = free_address();
    let ours = Daemon::start(&place, 1, &address, DaemonOptions::default());
    let file = place.path("film.mkv");
    random_file(&file, MIB, 2);
    // The link carries the tracker's key, which nobody knows yet.
    assert_eq!(ours.register(&file).link, None);

    let tracker = Tracker::start(&place, "t", &address);
    ours.until_connected();
    let link = ours.register(&file).link.unwrap();
    let theirs = Daemon::start(&place, 2, &tracker.address, DaemonOptions::default());
    assert_same_file(&file, Path::new(&theirs.fetch(link).path));
}

#[test]
fn a_tracker_with_another_key_than_the_one_given_is_exit_8() {
    let swarm = Swarm::start();
    let other = Tracker::start(swarm.place(), "other", "127.0.0.1:0");
    let wrong = format!("{}#{}", swarm.tracker.address, other.key);
    let ran = Daemon::run_to_end(swarm.place(), 1, &wrong);
    ran.expect_error(8, &swarm.tracker.address);

    let right = format!("{}#{}", swarm.tracker.address, swarm.tracker.key);
    let daemon = Daemon::start(swarm.place(), 1, &right, DaemonOptions::default());
    daemon.until_connected();
}

#[test]
fn a_tracker_that_changed_its_key_since_it_was_first_met_is_exit_8() {
    let swarm = Swarm::start();
    swarm.daemon(1).stop();
    swarm.tracker.stop();
    let _impostor = Tracker::start(swarm.place(), "other", &swarm.tracker.address);
    let ran = Daemon::run_to_end(swarm.place(), 1, &swarm.tracker.address);
    ran.expect_error(8, &swarm.tracker.address);
}

#[test]
fn a_tracker_that_is_killed_in_the_middle_does_not_end_a_transfer() {
    caught_in_the_middle(|bytes| {
        let mut swarm = Swarm::start();
        let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
        let file = swarm.file("film.mkv", bytes, 3);
        let registered = ours.register(&file);
        let slow = ours.throttle();
        let mut transfer = theirs.download(&registered.manifest);
        let seen = transfer.midway()?;
        swarm.tracker.kill();
        transfer.midway_beyond(seen.verified_bytes)?;
        swarm.tracker.restart();
        drop(slow);
        assert_same_file(&file, Path::new(&transfer.done().path));
        Some(())
    });
}

#[test]
fn everyone_comes_back_to_a_tracker_that_was_started_again() {
    let mut swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", MIB, 4);
    let registered = ours.register(&file);
    swarm.tracker.stop();
    for daemon in [&ours, &theirs] {
        daemon.until("a tracker that is gone", |status| {
            status.trackers.iter().all(|tracker| !tracker.connected)
        });
    }
    swarm.tracker.restart();
    // The tracker forgot everything; the source has to announce again by itself.
    assert_same_file(&file, Path::new(&theirs.fetch(&registered.manifest).path));
}

#[test]
fn a_link_reaches_a_tracker_that_is_not_the_daemons_own() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let other = Tracker::start(swarm.place(), "other", "127.0.0.1:0");
    let theirs = Daemon::start(swarm.place(), 2, &other.address, DaemonOptions::default());
    let file = swarm.file("film.mkv", MIB, 5);
    let registered = ours.register(&file);
    assert_same_file(
        &file,
        Path::new(&theirs.fetch(registered.link.unwrap()).path),
    );
}

#[test]
fn a_link_with_the_wrong_key_of_its_tracker_gets_nothing() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let other = Tracker::start(swarm.place(), "other", "127.0.0.1:0");
    let theirs = Daemon::start(swarm.place(), 2, &other.address, DaemonOptions::default());
    let file = swarm.file("film.mkv", MIB, 6);
    let link = ours.register(&file).link.unwrap();
    let mut link: warren_proto::content::Link = link.parse().unwrap();
    link.tracker.pin.0[0] ^= 1;
    let mut transfer = theirs.download(link.to_string());
    transfer.until("a note", |progress| progress.note.is_some());
    assert!(ours.peers().is_empty());
    assert!(!theirs.downloads().join("film.mkv").exists());
}

#[test]
fn where_no_udp_gets_through_a_daemon_talks_to_its_tracker_by_tcp_until_it_does() {
    let swarm = Swarm::start();
    let gate = swarm.tracker.gate();
    let usual = DaemonOptions::default();
    let ours = Daemon::start(swarm.place(), 1, &gate.address, usual);
    ours.until_connected();
    assert_eq!(way(&ours), Some(Transport::Tcp));
    let said = ours.client(&["status"]).expect(0).stdout;
    let expected = "connected by TLS over TCP, since UDP does not get through";
    assert!(said.contains(expected), "{said}");
    let log = ours.process().stderr.text();
    let expected = format!(
        "tracker {} by TLS over TCP, since UDP does not get through",
        gate.address
    );
    assert!(log.contains(&expected), "{log}");

    // Nothing is known of the NAT then, and still it announces, and hears of others.
    let theirs = swarm.daemon(2);
    assert_eq!(way(&theirs), Some(Transport::Udp));
    let file = swarm.file("film.mkv", MIB, 7);
    let registered = ours.register(&file);
    let fetched = theirs.fetch(registered.link.unwrap());
    assert_same_file(&file, Path::new(&fetched.path));

    gate.let_udp_through();
    ours.until("its tracker by UDP", |status| {
        let mut ways = status.trackers.iter().filter_map(|tracker| tracker.way);
        ways.any(|way| way.transport == Transport::Udp)
    });
    let log = ours.process().stderr.text();
    assert!(!log.contains("no tracker"), "{log}");
}

#[test]
fn a_tracker_with_another_key_is_exit_8_by_tcp_too() {
    let swarm = Swarm::start();
    let other = Tracker::start(swarm.place(), "other", "127.0.0.1:0");
    let gate = other.gate();
    let wrong = format!("{}#{}", gate.address, swarm.tracker.key);
    let ran = Daemon::run_to_end(swarm.place(), 1, &wrong);
    ran.expect_error(8, &gate.address);
}

fn way(daemon: &Daemon) -> Option<Transport> {
    let trackers = daemon.status().trackers;
    trackers[0].way.map(|way| way.transport)
}
