//! Which findings a snapshot leads to.

use super::*;

/// What each change of a healthy snapshot leads to: the exit code, and each finding as
/// `severity code`, the most serious first.
#[test]
fn findings_are_those_of_the_table() {
    use PortMappingState as Port;
    let well = "note NET-10, ok TRK-04, ok NET-01, ok PORT-01, ok PEER-06";
    let with_ipv6 = "ok TRK-04, ok NET-01, ok PORT-01, ok PEER-06";
    check("all well", |_| (), 0, well);
    check(
        "with IPv6",
        |it| it.addresses.push(ip("2001:db8::1")),
        0,
        with_ipv6,
    );
    check(
        "ULA is no public address",
        |it| it.addresses.push(ip("fd00::1")),
        0,
        well,
    );
    check(
        "IPv6 alone",
        |it| it.addresses = vec![ip("2001:db8::1")],
        0,
        with_ipv6,
    );
    check(
        "no network",
        |it| it.addresses.clear(),
        0,
        "warning NET-09, ok TRK-04, ok NET-01, ok PORT-01, ok PEER-01",
    );
    check(
        "tracker not reached",
        |it| lost(&mut it.trackers[0], Some("it is silent")),
        4,
        "error TRK-01, note NET-05, note NET-10, ok PORT-01, ok PEER-01",
    );
    check(
        "another tracker is being tried, so that it is not said to answer",
        |it| {
            it.trackers.push(tracker());
            lost(&mut it.trackers[1], None);
        },
        0,
        "note TRK-02, note NET-10, ok TRK-04, ok NET-01, ok PORT-01, ok PEER-01",
    );
    check(
        "just started",
        |it| {
            lost(&mut it.trackers[0], None);
            it.port.state = Port::Waiting;
            it.attempts.clear();
        },
        0,
        "note TRK-02, note NET-05, note NET-10, note PEER-05",
    );
    check(
        "another tracker not reached",
        |it| {
            it.trackers.push(tracker());
            lost(&mut it.trackers[1], Some("it is silent"));
        },
        0,
        "warning TRK-03, note NET-10, ok TRK-04, ok NET-01, ok PORT-01, ok PEER-01",
    );
    check(
        "tracker not reached, and nobody else",
        |it| {
            lost(&mut it.trackers[0], Some("it is silent"));
            it.attempts = vec![failed("a", EIM)];
        },
        4,
        "error TRK-01, error PEER-04, note NET-05, note NET-10, ok PORT-01",
    );
    check(
        "no UDP",
        |it| {
            by(&mut it.trackers[0], Transport::Tcp, 443);
            it.port.state = Port::Waiting;
            it.attempts.clear();
        },
        0,
        "warning TRK-05, note NET-05, note NET-10, note PEER-05",
    );
    check(
        "a way that is not told",
        |it| it.trackers[0].way = None,
        0,
        "note NET-05, note NET-10, ok TRK-04, ok PORT-01, ok PEER-06",
    );
    check(
        "random ports, and the router silent",
        |it| hard(it, "random", Port::Silent),
        0,
        "warning NET-02, note PORT-03, note NET-10, ok TRK-04, ok PEER-01",
    );
    check(
        "random ports, and one that is open",
        |it| hard(it, "random", Port::Open),
        0,
        "note NET-02, note NET-10, ok TRK-04, ok PORT-01, ok PEER-06",
    );
    check(
        "counted ports, and the router refuses",
        |it| hard(it, "sequential", Port::Refused),
        0,
        "warning NET-03, note PORT-04, note NET-10, ok TRK-04, ok PEER-01",
    );
    check(
        "other ports, behind two routers",
        |it| hard(it, "address-dependent", Port::BehindNat),
        0,
        "warning NET-04, note PORT-05, note NET-10, ok TRK-04, ok PEER-01",
    );
    check(
        "a word of a newer daemon",
        |it| hard(it, "psychic", Port::Unneeded),
        0,
        "note NET-05, note NET-10, ok TRK-04, ok PEER-06",
    );
    check(
        "clashing",
        |it| {
            it.trackers[0].filtering = "clashing".into();
            it.port.state = Port::Asking;
        },
        0,
        "note NET-06, note PORT-02, note NET-10, ok TRK-04, ok NET-01, ok PEER-06",
    );
    check(
        "clashing does not matter where a port is open",
        |it| it.trackers[0].filtering = "clashing".into(),
        0,
        well,
    );
    check(
        "shut",
        |it| it.port.state = Port::Shut,
        0,
        "warning PORT-06, note NET-10, ok TRK-04, ok NET-01, ok PEER-01",
    );
    check(
        "switched off",
        |it| it.port.state = Port::Off,
        0,
        "note PORT-07, note NET-10, ok TRK-04, ok NET-01, ok PEER-06",
    );
    check(
        "no router, or still checking",
        |it| it.port.state = Port::NoRouter,
        0,
        "note PORT-08, note NET-10, ok TRK-04, ok NET-01, ok PEER-06",
    );
    check(
        "this machine alone",
        |it| {
            it.listening = "127.0.0.1:4000".parse().unwrap();
            it.addresses.clear();
            it.port.state = Port::Unneeded;
        },
        0,
        "warning NET-07, ok TRK-04, ok PEER-01",
    );
    check(
        "the tracker on this machine",
        |it| {
            it.tracker_is_here = true;
            it.port.state = Port::Unneeded;
        },
        0,
        "note NET-08, note NET-10, ok TRK-04, ok PEER-06",
    );
    check(
        "a relayed peer",
        |it| it.peers.push(peer("b", PeerPath::Relay)),
        0,
        "note NET-10, note PEER-02, ok TRK-04, ok NET-01, ok PORT-01",
    );
    check(
        "one of two fails",
        |it| it.attempts.push(failed("b", EIM)),
        0,
        "warning PEER-03, note NET-10, ok TRK-04, ok NET-01, ok PORT-01",
    );
    check(
        "all fail",
        |it| it.attempts = vec![failed("b", EIM)],
        1,
        "error PEER-04, note NET-10, ok TRK-04, ok NET-01, ok PORT-01",
    );
    check(
        "one is being tried",
        |it| {
            it.attempts.clear();
            it.under_way.push(failed("b", EIM));
        },
        0,
        "note NET-10, note PEER-05, ok TRK-04, ok NET-01, ok PORT-01",
    );
}

#[track_caller]
fn check(what: &str, change: impl FnOnce(&mut Snapshot), exit: u8, expected: &str) {
    let mut snapshot = healthy();
    change(&mut snapshot);
    let (findings, summary) = examine(&snapshot);
    let found = findings
        .iter()
        .map(|it| format!("{} {}", it.severity.word(), it.code));
    let mut found: Vec<String> = found.collect();
    let severities: Vec<Severity> = findings.iter().map(|it| it.severity).collect();
    assert!(
        severities.is_sorted_by(|a, b| a >= b),
        "{what}: {findings:#?}"
    );
    // Among equals the order does not matter.
    found.sort_unstable();
    let mut expected: Vec<&str> = expected.split(", ").collect();
    expected.sort_unstable();
    assert_eq!(found, expected, "{what}: {findings:#?}");
    assert_eq!(summary.exit, exit, "{what}");
}
