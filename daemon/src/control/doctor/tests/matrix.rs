//! Forty faults, each injected alone into a healthy snapshot: whether its finding, and no other, is named.
//!
//! What is found of real daemons is tested beside the programs (`cli/tests/e2e/faults.rs`).

use std::time::{Duration, Instant};

use super::*;
use crate::control::model::{ShareState, Standing, TrackerFault};

/// What it is called, what is made wrong, and the codes of which one is to be named.
type Case = (&'static str, fn(&mut Snapshot), &'static [&'static str]);

/// Case, injected fault, findings that name it. Those after the first follow from the same fault: without a
/// tracker, for one, nobody knows how the router gives out ports.
#[rustfmt::skip]
const MATRIX: [Case; 40] = [
    ("tracker silent", |it| own_fault(it, TrackerFault::Silent), &["TRK-01", "NET-05"]),
    ("tracker's name unknown", |it| own_fault(it, TrackerFault::NameUnknown), &["TRK-11", "NET-05"]),
    ("tracker's key changed", |it| own_fault(it, TrackerFault::WrongKey), &["TRK-12", "NET-05"]),
    ("tracker not started", |it| own_fault(it, TrackerFault::NobodyListens), &["TRK-13", "NET-05"]),
    ("no route to the tracker", |it| own_fault(it, TrackerFault::NoRoute), &["TRK-14", "NET-05"]),
    ("web server at the tracker's port", |it| own_fault(it, TrackerFault::NotATracker), &["TRK-15", "NET-05"]),
    ("tracker of another version", |it| it.trackers[0].program = Some("warren 9.0".into()), &["TRK-16"]),
    ("tracker of a share gone", other_tracker_gone, &["TRK-03"]),
    ("UDP blocked, all TCP", |it| by(&mut it.trackers[0], Transport::Tcp, 59000), &["TRK-05", "NET-05"]),
    ("UDP blocked, TCP 443 alone", |it| by(&mut it.trackers[0], Transport::Tcp, 443), &["TRK-05", "NET-05"]),
    ("symmetric NAT, random", |it| hard(it, "random", PortMappingState::Silent), &["NET-02", "PORT-03"]),
    ("symmetric NAT, sequential", |it| hard(it, "sequential", PortMappingState::Silent), &["NET-03", "PORT-03"]),
    ("symmetric NAT, no pattern", |it| hard(it, "address-dependent", PortMappingState::Silent), &["NET-04", "PORT-03"]),
    ("NAT of which packets take ports", clashing, &["NET-06", "PORT-03"]),
    ("listens on loopback", listens_locally, &["NET-07"]),
    ("tracker on this machine", tracker_here, &["NET-08"]),
    ("no network", |it| it.addresses.clear(), &["NET-09"]),
    ("no IPv6", |it| it.addresses = vec![ip("192.168.1.9")], &["NET-10"]),
    ("no hairpinning", |it| it.trackers[0].hairpinning = Some(false), &["NET-11"]),
    ("MTU of 1280", |it| it.narrow_bytes = vec![1232], &["NET-12"]),
    ("relay only", |it| it.paths = Paths::RelayOnly, &["NET-13"]),
    ("router silent", |it| it.port.state = PortMappingState::Silent, &["PORT-03"]),
    ("router refuses", |it| it.port.state = PortMappingState::Refused, &["PORT-04"]),
    ("two routers", |it| it.port.state = PortMappingState::BehindNat, &["PORT-05"]),
    ("firewall before an open port", |it| it.port.state = PortMappingState::Shut, &["PORT-06"]),
    ("one peer relayed", |it| it.peers.push(peer("b", PeerPath::Relay)), &["PEER-02"]),
    ("one peer not reached", |it| it.attempts.push(failed("b", EIM)), &["PEER-03"]),
    ("no peer reached", |it| it.attempts = vec![failed("b", EIM)], &["PEER-04"]),
    ("a peer sends wrong bytes", liar, &["PEER-08"]),
    ("clock an hour ahead", |it| it.clock_ahead_ms = Some(3_600_000), &["HOST-01"]),
    ("clock of 1970", |it| it.clock_ahead_ms = Some(-1_790_000_000_000), &["HOST-01"]),
    ("few open files", |it| it.machine.open_files = Some((20, 256)), &["HOST-02"]),
    ("files used up", |it| it.machine.open_files = Some((4000, 4096)), &["HOST-03"]),
    ("disk full", |it| folder(it).free_bytes = Some(0), &["DISK-24"]),
    ("downloads read-only", |it| folder(it).fault = Some("Read-only file system".into()), &["DISK-25"]),
    ("share stopped by an error", |it| share(it, ShareState::Failed), &["SHR-12"]),
    ("share changed on disk", |it| share(it, ShareState::Changed), &["SHR-13"]),
    ("share paused", |it| share(it, ShareState::Paused), &["SHR-14"]),
    ("no source online", |it| share(it, ShareState::Waiting), &["SHR-15"]),
    ("limit of 64 kbit/s", |it| it.limits.down_bits_per_s = Some(64_000), &["LIM-02"]),
];

/// Faults beside the forty, and what is none.
#[rustfmt::skip]
const MORE: [Case; 16] = [
    ("no relay", |it| it.paths = Paths::DirectOnly, &["NET-14"]),
    ("tracker without relay", |it| it.trackers[0].relays = Some(false), &["NET-15"]),
    ("limit on sending", |it| it.limits.up_bits_per_s = Some(20_000_000), &["LIM-01"]),
    ("in the background", |it| it.limits.background = true, &["LIM-03"]),
    ("share with a limit", share_limited, &["LIM-04"]),
    ("seeds have left", share_lacking, &["SHR-16"]),
    ("disk hangs", |it| it.machine.folder = None, &["DISK-26"]),
    ("port mapping off", |it| it.port.state = PortMappingState::Off, &["PORT-07"]),
    ("no router", |it| it.port.state = PortMappingState::NoRouter, &["PORT-08"]),
    ("share without a tracker", waiting_without_tracker, &["TRK-13", "NET-05"]),
    ("share whose peers are not reached", waiting_unreached, &["PEER-04"]),
    ("share whose peer was reached at last", waiting_reached_late, &["SHR-15"]),
    ("peer that is being asked what a share is", share_asked_about, &[]),
    ("clocks that nearly agree", |it| it.clock_ahead_ms = Some(-30_000), &[]),
    ("share that is complete", |it| share(it, ShareState::Seeding), &[]),
    ("nothing", |_| (), &[]),
];

#[test]
fn each_of_forty_injected_faults_is_named_and_no_other_is_blamed() {
    let (named, longest) = run(&MATRIX);
    println!(
        "doctor matrix: {named} of {} faults named, longest {longest:?}",
        MATRIX.len()
    );
    assert_eq!(named, MATRIX.len());
}

#[test]
fn what_follows_from_a_fault_and_what_is_none_is_not_blamed() {
    assert_eq!(run(&MORE).0, MORE.len());
}

#[test]
fn everything_that_is_found_can_be_injected() {
    let all = MATRIX.iter().chain(&MORE);
    let injected: BTreeSet<&str> = all
        .flat_map(|(_, _, codes)| codes.iter().copied())
        .collect();
    let is_good = |it: &&messages::Message| {
        let well = ["TRK-02", "TRK-04", "NET-01", "PORT-01", "PORT-02"];
        let peers = ["PEER-01", "PEER-05", "PEER-06"];
        well.contains(&it.code) || peers.contains(&it.code)
    };
    let findings = messages::ALL.iter().filter(|it| it.word.is_empty());
    for finding in findings.filter(|it| !is_good(it)) {
        assert!(
            injected.contains(finding.code),
            "{} is in no matrix",
            finding.code
        );
    }
}

/// How many are named rightly, and how long the slowest took. Says which are not.
fn run(cases: &[Case]) -> (usize, Duration) {
    let (mut named, mut longest) = (0, Duration::ZERO);
    for (case, inject, expected) in cases {
        let mut snapshot = well();
        inject(&mut snapshot);
        let began = Instant::now();
        let (findings, _) = examine(&snapshot);
        longest = longest.max(began.elapsed());
        let found = blamed(&findings);
        match found == BTreeSet::from_iter(expected.iter().map(|code| (*code).to_owned())) {
            true => named += 1,
            false => println!("{case}: {found:?} in place of {expected:?}"),
        }
    }
    (named, longest)
}

/// All that is not as it should be.
fn blamed(findings: &[Finding]) -> BTreeSet<String> {
    let bad = findings.iter().filter(|it| it.severity > Severity::Ok);
    bad.map(|it| it.code.clone()).collect()
}

/// Nothing at all to be said.
fn well() -> Snapshot {
    let mut snapshot = healthy();
    snapshot.addresses.push(ip("2001:db8::1"));
    assert_eq!(blamed(&examine(&snapshot).0), BTreeSet::new());
    snapshot
}

fn own_fault(snapshot: &mut Snapshot, fault: TrackerFault) {
    lost(&mut snapshot.trackers[0], Some("it was tried"));
    snapshot.trackers[0].fault = Some(fault);
}

fn other_tracker_gone(snapshot: &mut Snapshot) {
    snapshot.trackers.push(tracker());
    lost(&mut snapshot.trackers[1], Some("it is silent"));
}

fn clashing(snapshot: &mut Snapshot) {
    hard(snapshot, EIM, PortMappingState::Silent);
    snapshot.trackers[0].filtering = "clashing".into();
}

fn listens_locally(snapshot: &mut Snapshot) {
    snapshot.listening = "127.0.0.1:4000".parse().unwrap();
    snapshot.port.state = PortMappingState::Unneeded;
}

fn tracker_here(snapshot: &mut Snapshot) {
    snapshot.tracker_is_here = true;
    snapshot.port.state = PortMappingState::Unneeded;
}

fn liar(snapshot: &mut Snapshot) {
    let mut liar = peer("a", PeerPath::Direct);
    liar.standing = Standing::Banned;
    snapshot.peers.push(liar);
}

fn folder(snapshot: &mut Snapshot) -> &mut machine::Folder {
    snapshot.machine.folder.as_mut().unwrap()
}

fn share(snapshot: &mut Snapshot, state: ShareState) {
    snapshot.shares.push(named_share("film.mkv", '9', state));
}

fn share_limited(snapshot: &mut Snapshot) {
    share(snapshot, ShareState::Downloading);
    snapshot.shares[0].down_bits_per_s = Some(500_000);
}

fn share_lacking(snapshot: &mut Snapshot) {
    share(snapshot, ShareState::Waiting);
    snapshot.shares[0].peers.direct = 1;
}

fn waiting_without_tracker(snapshot: &mut Snapshot) {
    share(snapshot, ShareState::Waiting);
    own_fault(snapshot, TrackerFault::NobodyListens);
}

fn waiting_unreached(snapshot: &mut Snapshot) {
    share(snapshot, ShareState::Waiting);
    snapshot.attempts = vec![failed("b", EIM)];
}

fn waiting_reached_late(snapshot: &mut Snapshot) {
    share(snapshot, ShareState::Waiting);
    snapshot.attempts = vec![failed("b", EIM), reached("b", 50)];
}

fn share_asked_about(snapshot: &mut Snapshot) {
    share(snapshot, ShareState::Metadata);
    snapshot.shares[0].peers.direct = 1;
}
