//! Peers that reach each other through the tracker, or must not.

use std::path::Path;

use warren_daemon::control::{
    attempt::Outcome,
    model::{PeerPath, Progress, Transport},
};

use crate::{
    content::{MIB, assert_same_file},
    harness::{
        Daemon, DaemonOptions, Door, Place, Swarm, Tracker, Transfer, caught_in_the_middle,
        wait_for,
    },
};

#[test]
fn who_wants_to_be_reached_through_the_tracker_alone_is_and_nobody_learns_where_it_is() {
    // Either may be the one that dials, and either the one that has the file.
    for hidden in [1, 2] {
        let swarm = Swarm::start();
        let options = |idx| match idx == hidden {
            true => DaemonOptions::of(&["--relay-only"]),
            false => DaemonOptions::default(),
        };
        let [ours, theirs] = [1, 2].map(|idx| swarm.daemon_with(idx, options(idx)));
        let file = swarm.file("film.mkv", 8 * MIB, 1);
        let registered = ours.register(&file);
        let mut transfer = theirs.download(registered.link.unwrap());
        transfer.until("a peer", |at| at.peers.relay == 1 && at.peers.total() == 1);
        assert_same_file(&file, Path::new(&transfer.done().path));

        for daemon in [&ours, &theirs] {
            let peers = daemon.peers();
            let [peer] = &peers[..] else {
                panic!("{peers:?}");
            };
            assert_eq!(peer.path, PeerPath::Relay);
            assert_eq!(peer.address, swarm.tracker.address);
            assert_eq!(peer.relayed_by.as_deref(), Some("tracker"));
            assert!(peer.reached_ms.is_some());
            assert_eq!(daemon.share(&registered.content_id).peers.relay, 1);
            for attempt in daemon.attempts() {
                assert_eq!((attempt.candidates, attempt.checks), (0, 0));
                assert_eq!(attempt.path, Some(PeerPath::Relay), "{attempt:?}");
                assert_eq!(attempt.outcome, Outcome::Connected);
            }
            let shown = daemon.client(&["peers"]).expect(0).stdout;
            assert!(shown.contains("  relay  "), "{shown}");
            let shown = daemon.client(&["status"]).expect(0).stdout;
            assert!(shown.contains("relay 1"), "{shown}");
        }
        assert!(swarm.tracker.stopped_after_relaying() > file.metadata().unwrap().len());
    }
}

#[test]
fn the_relay_works_by_tcp_too() {
    let swarm = Swarm::start();
    let gate = swarm.tracker.gate();
    let options = DaemonOptions::of(&["--relay-only"]);
    let ours = Daemon::start(swarm.place(), 1, &gate.address, options.clone());
    let theirs = Daemon::start(swarm.place(), 2, &gate.address, options);
    let by_udp = swarm.daemon(3);
    let file = swarm.file("film.mkv", 4 * MIB, 2);
    ours.until_connected();
    let registered = ours.register(&file);
    for daemon in [&theirs, &by_udp] {
        let done = daemon.fetch(&registered.manifest);
        assert_same_file(&file, Path::new(&done.path));
        let relayed = |peer: &_| peer_is_relayed(peer);
        assert!(daemon.peers().iter().any(relayed), "{:?}", daemon.peers());
    }
}

#[test]
fn who_wants_no_relay_and_who_wants_nothing_else_never_meet_and_are_told_why() {
    let swarm = Swarm::start();
    let ours = swarm.daemon_with(1, DaemonOptions::of(&["--no-relay"]));
    let theirs = swarm.daemon_with(2, DaemonOptions::of(&["--relay-only"]));
    let file = swarm.file("film.mkv", MIB, 3);
    let manifest = ours.register(&file).manifest;
    let mut transfer = theirs.download(&manifest);
    until_noted(
        &mut transfer,
        &["this daemon was started with --relay-only", "--no-relay"],
    );
    for daemon in [&ours, &theirs] {
        assert!(daemon.peers().is_empty());
        let attempts = daemon.attempts();
        let is_forbidden = |outcome| outcome == Outcome::Forbidden;
        assert!(
            attempts.iter().all(|it| is_forbidden(it.outcome)),
            "{attempts:?}"
        );
    }
    let hidden = swarm.daemon_with(3, DaemonOptions::of(&["--relay-only"]));
    let manifest = hidden.register(&swarm.file("other.mkv", MIB, 4)).manifest;
    let mut transfer = ours.download(&manifest);
    until_noted(
        &mut transfer,
        &["this daemon was started with --no-relay", "--relay-only"],
    );
    assert_eq!(swarm.tracker.stopped_after_relaying(), 0);
}

#[test]
fn without_a_relay_who_wants_nothing_else_reaches_nobody_and_is_told_why() {
    let place = Place::new();
    let tracker = Tracker::start_with(&place, "t", "127.0.0.1:0", &["--relay", "off"]);
    let start = |idx, options| Daemon::start(&place, idx, &tracker.address, options);
    let ours = start(1, DaemonOptions::default());
    let theirs = start(2, DaemonOptions::of(&["--relay-only"]));
    let file = place.path("film.mkv");
    crate::content::random_file(&file, MIB, 5);
    ours.until_connected();
    let manifest = ours.register(&file).manifest;
    let mut transfer = theirs.download(&manifest);
    let nothing = format!("tracker {} relays nothing", tracker.address);
    until_noted(
        &mut transfer,
        &["this daemon was started with --relay-only", &nothing],
    );

    // Those who ask for nothing special are as well off as ever.
    let third = start(3, DaemonOptions::default());
    assert_same_file(&file, Path::new(&third.fetch(&manifest).path));
}

#[test]
fn a_relayed_transfer_goes_on_after_the_tracker_was_started_again() {
    caught_in_the_middle(|bytes| {
        let mut swarm = Swarm::start();
        let ours = swarm.daemon_with(1, DaemonOptions::of(&["--relay-only"]));
        let theirs = swarm.daemon(2);
        let file = swarm.file("film.mkv", bytes, 6);
        let registered = ours.register(&file);
        let mut transfer = theirs.download(&registered.manifest);
        transfer.midway()?;
        swarm.tracker.kill();
        // Whatever was on its way has come or is lost.
        swarm.tracker.restart();
        assert_same_file(&file, Path::new(&transfer.done().path));
        Some(())
    });
}

#[test]
fn a_relayed_transfer_goes_on_after_its_source_was_killed_and_started_again() {
    caught_in_the_middle(|bytes| {
        let swarm = Swarm::start();
        let mut ours = swarm.daemon_with(1, DaemonOptions::of(&["--relay-only"]));
        let theirs = swarm.daemon(2);
        let file = swarm.file("film.mkv", bytes, 8);
        let registered = ours.register(&file);
        let mut transfer = theirs.download(&registered.manifest);
        transfer.midway()?;
        ours.kill();
        ours.restart();
        assert_same_file(&file, Path::new(&transfer.done().path));
        Some(())
    });
}

#[test]
fn a_relayed_transfer_goes_on_when_its_source_changes_from_tcp_to_udp() {
    caught_in_the_middle(|bytes| {
        let place = Place::new();
        // Slow enough for UDP to be found in the middle: it is first tried after 15 s or so.
        let tracker = Tracker::start_with(&place, "t", "127.0.0.1:0", &["--relay", "8M"]);
        let gate = tracker.gate();
        let only = DaemonOptions::of(&["--relay-only"]);
        let ours = Daemon::start(&place, 1, &gate.address, only.clone());
        let theirs = Daemon::start(&place, 2, &tracker.address, only);
        let file = place.path("film.mkv");
        crate::content::random_file(&file, bytes.max(48 * MIB), 9);
        ours.until_connected();
        let registered = ours.register(&file);
        let mut transfer = theirs.download(&registered.manifest);
        transfer.progress(|at| at.peers.relay == 1 && at.verified_bytes > 0)?;
        gate.let_udp_through();
        ours.until("its tracker by UDP", |status| {
            let mut ways = status.trackers.iter().filter_map(|tracker| tracker.way);
            ways.any(|way| way.transport == Transport::Udp)
        });
        let at = transfer
            .progress(|at| at.verified_bytes < at.bytes)?
            .verified_bytes;
        transfer.progress(|now| now.verified_bytes > at && now.verified_bytes < now.bytes)?;
        transfer.interrupt();
        Some(())
    });
}

#[test]
fn a_relayed_transfer_moves_to_a_direct_path_when_there_is_one() {
    caught_in_the_middle(|bytes| {
        let place = Place::new();
        // A megabyte a second, so that something is left when the direct path is found.
        let tracker = Tracker::start_with(&place, "t", "127.0.0.1:0", &["--relay", "8M"]);
        let doors = [1, 2].map(|_| Door::before(&tracker.address));
        let [ours, theirs] = [1, 2].map(|idx: u16| {
            let address = &doors[usize::from(idx) - 1].address;
            Daemon::start(&place, idx, address, DaemonOptions::default())
        });
        let file = place.path("film.mkv");
        crate::content::random_file(&file, bytes, 7);
        ours.until_connected();
        let registered = ours.register(&file);
        let mut transfer = theirs.download(&registered.manifest);
        transfer.progress(|at| at.peers.relay == 1 && at.verified_bytes > 0)?;
        doors.iter().for_each(Door::open);
        let moved = |at: &Progress| at.peers.lan == 1 && at.verified_bytes < at.bytes;
        transfer.progress(moved)?;
        assert_same_file(&file, Path::new(&transfer.done().path));
        wait_for("the relayed connection to be gone", || {
            let peers = [ours.peers(), theirs.peers()].concat();
            let direct = peers.iter().filter(|peer| peer.path == PeerPath::Lan);
            (peers.len() == 2 && direct.count() == 2).then_some(())
        });
        Some(())
    });
}

fn peer_is_relayed(peer: &warren_daemon::control::model::Peer) -> bool {
    peer.path == PeerPath::Relay
}

/// Waits until the transfer says why it does not begin, in these words.
#[track_caller]
fn until_noted(transfer: &mut Transfer, words: &[&str]) {
    transfer.until("a note that says why", |progress| {
        let note = progress.note.as_deref().unwrap_or_default();
        words.iter().all(|word| note.contains(word))
    });
}
