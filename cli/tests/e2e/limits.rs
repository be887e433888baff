//! How fast daemons send and receive.
//!
//! That a limit holds is told by how long a transfer takes at the least, which no slow machine makes
//! untrue. That one does not hold is told by a transfer that ends: at [`LEAST`] each would take ten
//! minutes.

use std::path::Path;

use warren_daemon::control::model::{Event, Limits, exit};

use crate::{
    content::{MIB, assert_same_file},
    harness::{Daemon, DaemonOptions, Swarm},
};

/// The slowest limit.
const LEAST: &str = "64k";

/// What takes that ten minutes.
const LARGE: u64 = 5 * MIB;

#[test]
fn what_is_sent_and_what_is_received_take_as_long_as_their_limit_says() {
    for (sending, receiving) in [(&["--up", "16M"][..], &[][..]), (&[], &["--down", "16M"])] {
        let swarm = Swarm::start();
        let ours = swarm.daemon_with(1, DaemonOptions::of(sending));
        let theirs = swarm.daemon_with(2, DaemonOptions::of(receiving));
        let file = swarm.file("film.mkv", 4 * MIB, 1);
        let registered = ours.register(&file);
        let done = theirs.fetch(&registered.manifest);
        assert_same_file(&file, Path::new(&done.path));
        // 2 MB/s, of which a bucket of 60 kB may go at once.
        let least = (4 * MIB - 60_000) as f64 / 2e6;
        assert!(done.seconds >= least, "{} s for {least} s", done.seconds);
    }
}

#[test]
fn a_share_has_a_limit_of_its_own_and_others_do_not_wait_for_it() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let [slow, fast] = ["slow.mkv", "fast.mkv"].map(|name| {
        let file = swarm.file(name, LARGE, name.len() as u64 + name.as_bytes()[0] as u64);
        (ours.register(&file), file)
    });
    let limit = ["limit", "--share", "slow.mkv", "--up", LEAST];
    let shown = ours.client(&limit).expect(0).stdout;
    assert_eq!(shown, "limits  slow.mkv: up 64 kbit/s, down off\n");
    let mut waiting = theirs.download(&slow.0.manifest);
    waiting.until("its first bytes", |at| at.peers.total() == 1);
    let done = theirs.fetch(&fast.0.manifest);
    assert_same_file(&fast.1, Path::new(&done.path));
    let share = ours.share(&slow.0.content_id);
    assert_eq!(share.up_bits_per_s, Some(64_000));
    assert!(theirs.share(&slow.0.content_id).verified_bytes < LARGE);
    ours.client(&["limit", "--share", "slow.mkv", "--up", "off"])
        .expect(0);
    assert_same_file(&slow.1, Path::new(&waiting.done().path));
}

#[test]
fn a_limit_is_kept_over_a_restart_and_lifted_in_the_middle_of_a_download() {
    let swarm = Swarm::start();
    let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
    let shown = theirs
        .client(&["limit", "--down", LEAST, "--background", "on"])
        .expect(0);
    assert_eq!(
        shown.stdout,
        "limits  up off, down 64 kbit/s, in the background\n"
    );
    theirs.stop();
    theirs.restart();
    let expected = Limits {
        down_bits_per_s: Some(64_000),
        background: true,
        ..Limits::default()
    };
    assert_eq!(limits(&theirs), expected);
    let status = theirs.client(&["status"]).expect(0).stdout;
    assert!(
        status.contains("down 64 kbit/s, in the background"),
        "{status}"
    );

    let file = swarm.file("film.mkv", LARGE, 2);
    let registered = ours.register(&file);
    let mut transfer = theirs.download(&registered.manifest);
    transfer.until("a peer", |at| at.peers.total() == 1);
    theirs.client(&["limit", "--down", "off"]).expect(0);
    assert_same_file(&file, Path::new(&transfer.done().path));
}

#[test]
fn options_of_the_daemon_take_the_place_of_what_was_kept() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    ours.client(&["limit", "--up", "1M", "--down", "2M"])
        .expect(0);
    ours.stop();
    let ours = swarm.daemon_with(1, DaemonOptions::of(&["--up", "off", "--background"]));
    let expected = Limits {
        down_bits_per_s: Some(2_000_000),
        background: true,
        ..Limits::default()
    };
    assert_eq!(limits(&ours), expected);
}

#[test]
fn peers_in_the_local_network_are_exempt_where_that_is_wanted() {
    let swarm = Swarm::start();
    let options = ["--up", LEAST, "--lan-unlimited"];
    let (ours, theirs) = (
        swarm.daemon_with(1, DaemonOptions::of(&options)),
        swarm.daemon(2),
    );
    let file = swarm.file("film.mkv", LARGE, 3);
    let registered = ours.register(&file);
    let done = theirs.fetch(&registered.manifest);
    assert_same_file(&file, Path::new(&done.path));
    assert!(
        ours.peers().iter().all(|peer| peer.unlimited),
        "{:?}",
        ours.peers()
    );
    assert_eq!(limits(&ours).exempt_peers, 1);
    ours.client(&["limit", "--lan-unlimited", "off"]).expect(0);
    assert!(
        ours.peers().iter().all(|peer| !peer.unlimited),
        "{:?}",
        ours.peers()
    );
}

#[test]
fn in_the_background_all_arrives_too() {
    let swarm = Swarm::start();
    let (ours, theirs) = (
        swarm.daemon(1),
        swarm.daemon_with(2, DaemonOptions::of(&["--background"])),
    );
    let file = swarm.file("film.mkv", LARGE, 4);
    let registered = ours.register(&file);
    let done = theirs.fetch(&registered.manifest);
    assert_same_file(&file, Path::new(&done.path));
}

#[test]
fn what_is_no_limit_is_refused_in_words() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    for (asked, word) in [
        (
            &["limit", "--up", "much"][..],
            "expected off or bits per second",
        ),
        (&["limit", "--up", "1k"], "the least is 64k"),
        (
            &["limit", "--background", "maybe"],
            "possible values: on, off",
        ),
    ] {
        let ran = ours.client(asked).expect(exit::USAGE.into());
        assert!(ran.stderr.contains(word), "{}", ran.stderr);
    }
    let ran = ours.client(&["limit", "--share", "nothing", "--up", "1M"]);
    ran.expect(exit::NOT_FOUND.into());
    // And without the command line before it.
    let answer = ours.post("limit", br#"{"up_bits_per_s":1}"#);
    assert!(answer.contains("limit_too_low"), "{answer}");
    let answer = ours.post("limit", br#"{"share":"x","background":true}"#);
    assert!(answer.contains("not_of_a_share"), "{answer}");
    assert_eq!(limits(&ours), Limits::default());
}

#[track_caller]
fn limits(daemon: &Daemon) -> Limits {
    let shown = daemon.client(&["limit", "--json"]).expect(0).stdout;
    match serde_json::from_str(shown.trim()).unwrap() {
        Event::Limits(limits) => limits,
        other => panic!("{other:?}"),
    }
}
