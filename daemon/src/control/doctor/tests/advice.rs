//! What people have chosen themselves, and commands that they are told to type.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::control::model::{Share, ShareState, TrackerFault};

#[test]
fn that_peers_are_relayed_by_choice_is_told_with_whose_choice_it_was() {
    let relayed = |it: &mut Snapshot| {
        it.attempts = vec![reached("b", 50)];
        it.attempts[0].path = Some(PeerPath::Relay);
        it.attempts[0].reason = Some(Reason::RelayOnly);
    };
    let theirs = "Direct with 0 of 1 peer, through the tracker with 1; it was started with --relay-only, \
                  so no direct path is allowed.";
    says(relayed, "PEER-02", theirs, "");
    // The attempt has ended with a connection, and says no more.
    let connected = |it: &mut Snapshot| {
        relayed(it);
        it.attempts[0].reason = None;
        it.peers.push(peer("b", PeerPath::Relay));
        it.peers[0].why_relayed = Some("the peer was started with --relay-only".into());
    };
    says(connected, "PEER-02", theirs, "");
    let by_us = |it: &mut Snapshot| {
        relayed(it);
        it.attempts[0].reason = None;
        it.paths = Paths::RelayOnly;
    };
    let ours = "Direct with 0 of 1 peer, through the tracker with 1; with it no direct path is allowed, \
                as this daemon was started with --relay-only.";
    says(by_us, "PEER-02", ours, "");
    says(
        by_us,
        "NET-13",
        "This daemon was started with --relay-only: it reaches peers through its tracker alone, so all of \
         them share what the tracker passes on.",
        "Start it without --relay-only, if peers may learn the address of this machine.",
    );
    says(
        |it| it.paths = Paths::DirectOnly,
        "NET-14",
        "This daemon was started with --no-relay: peers to which there is no direct path are not reached.",
        "Start it without --no-relay, if the tracker may pass on, unreadably, what goes to such peers.",
    );
    says(
        |it| it.trackers[0].relays = Some(false),
        "NET-15",
        "The tracker t.example:59000 offers no relay: peers to which there is no direct path are not \
         reached.",
        "Ask who runs the tracker to start it with --relay RATE, if some peers are not reached.",
    );
}

#[test]
fn commands_that_are_advised_name_this_daemon_and_one_share() {
    let with = |shares: &[(&str, char)], state| {
        let shares = shares.iter();
        let shares: Vec<Share> = shares
            .map(|(name, digit)| named_share(name, *digit, state))
            .collect();
        move |it: &mut Snapshot| (it.idx, it.shares) = (7, shares)
    };
    says(
        with(&[("film.mkv", 'a')], ShareState::Paused),
        "SHR-14",
        "film.mkv is paused, so nothing of it is fetched or given.",
        "Go on with it: client resume film.mkv 7",
    );
    says(
        with(&[("film.mkv", 'a'), ("film.mkv", 'b')], ShareState::Failed),
        "SHR-12",
        "film.mkv (aaaaaaaaaaaa) is stopped by an error: no space is left.",
        "Mend that, then: client resume aaaaaaaaaaaa 7",
    );
    // A shell would make something else of it.
    for name in ["two words", "$(rm)", "-x", ""] {
        let shares = [(name, 'c')];
        let mut snapshot = healthy();
        with(&shares, ShareState::Changed)(&mut snapshot);
        let (findings, _) = examine(&snapshot);
        let changed = findings.iter().find(|it| it.code == "SHR-13").unwrap();
        let action = changed.action.as_deref().unwrap();
        assert!(action.contains("client verify cccccccccccc 7."), "{action}");
    }
    says(
        with(&[("a", 'a'), ("b", 'b')], ShareState::Paused),
        "SHR-14",
        "a and b are paused, so nothing of them is fetched or given.",
        "Go on with them: client resume a 7; client resume b 7",
    );
    let path = PathBuf::from("/films/two words");
    let changed = |it: &mut Snapshot| {
        with(&[("film.mkv", 'a')], ShareState::Changed)(it);
        it.changed = BTreeMap::from([("a".repeat(64), path.clone())]);
    };
    says(
        changed,
        "SHR-13",
        "film.mkv is not what was shared any more, so nobody gets what has changed.",
        "Put the files back, or have what is wrong of a download fetched again, which keeps what was changed beside it: \
         client verify film.mkv 7. To share what is there now: client register '/films/two words' 7",
    );
    let nameless = |it: &mut Snapshot| {
        let tracker = &mut it.trackers[0];
        tracker.address = "tracker.example:59000".into();
        (tracker.connected, tracker.note) = (false, Some("no address".into()));
        tracker.fault = Some(TrackerFault::NameUnknown);
    };
    says(
        nameless,
        "TRK-11",
        "The name of the tracker tracker.example:59000 leads to no address: no address.",
        "See whether the name is spelt rightly and whether it is found (getent hosts tracker.example); if no name is, \
         mend the name server, or give the tracker by its IP address.",
    );
    // Whatever is advised is advised to this daemon.
    let mut snapshot = healthy();
    snapshot.idx = 7;
    for (digit, state) in [('a', ShareState::Failed), ('b', ShareState::Changed)] {
        snapshot
            .shares
            .extend((0..5).map(|_| named_share("x", digit, state)));
    }
    snapshot
        .shares
        .push(named_share("y", 'e', ShareState::Waiting));
    snapshot.shares[0].up_bits_per_s = Some(64_000);
    snapshot.limits.up_bits_per_s = Some(1_000_000);
    snapshot.limits.background = true;
    snapshot.machine.folder.as_mut().unwrap().free_bytes = Some(0);
    let (findings, _) = examine(&snapshot);
    let actions = findings.iter().filter_map(|it| it.action.as_deref());
    let advised = actions.flat_map(|action| action.split("client ").skip(1));
    let advised: Vec<&str> = advised.collect();
    assert!(advised.len() >= 7, "{advised:?}");
    for command in advised {
        assert!(command.contains(" 7"), "client {command}");
    }
}
