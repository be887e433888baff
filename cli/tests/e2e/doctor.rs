//! What `client doctor` says of a real daemon.

use std::net::{TcpListener, UdpSocket};

use warren_daemon::control::model::{Event, Finding, Severity, Summary};

use crate::{
    content::MIB,
    harness::{Daemon, DaemonOptions, Place, Ran, Swarm, free_address, wait_for},
};

#[test]
fn without_a_tracker_the_doctor_says_so_and_is_exit_4() {
    let place = Place::new();
    let address = free_address();
    let daemon = Daemon::start(&place, 1, &address, DaemonOptions::default());
    // Until the first try has failed nothing is known, and nothing claimed.
    let ran = wait_for("the tracker to be given up", || {
        let ran = daemon.client(&["doctor", "--json"]);
        let (findings, summary) = parse(&ran);
        match ran.code {
            0 => assert_eq!(find(&findings, "TRK-02").severity, Severity::Note),
            code => assert_eq!((code, summary.exit), (4, 4)),
        }
        (ran.code != 0 && findings[0].code != "TRK-01").then_some(ran)
    });
    let (findings, summary) = parse(&ran);
    let first = &findings[0];
    assert_eq!(
        (first.code.as_str(), first.severity),
        ("TRK-13", Severity::Error)
    );
    let beginning = format!("The machine of the tracker {address} answers, but nothing listens at");
    assert!(first.text.starts_with(&beginning), "{first:?}");
    assert!(first.action.is_some());
    assert_eq!((summary.tried, summary.median_ms), (0, None));

    let said = daemon.client(&["doctor"]).expect(4);
    let beginning = format!("error    TRK-13   The machine of the tracker {address} answers");
    assert!(said.stdout.starts_with(&beginning), "{said:#?}");
    assert!(
        said.stdout
            .contains("\n                  do: Ask who runs the tracker to start it"),
        "{said:#?}"
    );
    let end = "\n0 peers tried: 0 direct, 0 relayed, 0 failed\n";
    assert!(said.stdout.ends_with(end), "{said:#?}");
    assert_eq!(said.stderr, "");
}

#[test]
fn a_tracker_that_is_silent_is_told_of_before_the_first_try_has_ended() {
    let place = Place::new();
    // Both take what is sent and answer nothing.
    let (silent, _udp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        match UdpSocket::bind(tcp.local_addr().unwrap()) {
            Ok(udp) => break (tcp, udp),
            Err(_) => continue,
        }
    };
    let address = silent.local_addr().unwrap().to_string();
    let daemon = Daemon::start(&place, 1, &address, DaemonOptions::default());
    let ran = wait_for("the doctor to find it", || {
        Some(daemon.client(&["doctor", "--json"])).filter(|ran| ran.code != 0)
    });
    let (findings, summary) = parse(&ran);
    let text = format!("The tracker {address} is not reached: it has not answered yet.");
    assert_eq!((&*findings[0].code, &findings[0].text), ("TRK-01", &text));
    assert!(findings[0].action.is_some());
    assert_eq!((ran.code, summary.exit), (4, 4));
    let said = format!("tracker {address} is not reached (");
    let home = place.home();
    let end = format!(
        "); what can be done: client --home {} doctor 1\n",
        home.display()
    );
    for shown in ["list", "status"] {
        let ran = daemon.client(&[shown]).expect(0);
        assert!(
            ran.stderr.contains(&said) && ran.stderr.ends_with(&end),
            "{ran:?}"
        );
    }
    let ran = daemon.client(&["list", "--json"]).expect(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
}

#[test]
fn with_a_tracker_and_a_peer_the_doctor_says_how_they_are_reached() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let (findings, summary) = parse(&theirs.client(&["doctor", "--json"]).expect(0));
    let reached = format!(
        "The tracker {} is reached by QUIC over UDP.",
        swarm.tracker.address
    );
    assert_eq!(find(&findings, "TRK-04").text, reached);
    // Tests listen on this machine alone.
    assert_eq!(findings[0].code, "NET-07");
    assert_eq!(find(&findings, "PEER-05").severity, Severity::Note);
    assert_eq!(summary.tried, 0);

    let file = swarm.file("film.mkv", MIB, 1);
    theirs.fetch(&ours.register(&file).manifest);
    for daemon in [&ours, &theirs] {
        // The first moments may go through the tracker.
        let (findings, summary) = wait_for("a direct path", || {
            let found = parse(&daemon.client(&["doctor", "--json"]).expect(0));
            (found.1.direct == 1).then_some(found)
        });
        let one = "The one peer that was tried was reached directly.";
        assert_eq!(find(&findings, "PEER-01").text, one);
        assert_eq!((summary.tried, summary.relayed, summary.failed), (1, 0, 0));
        let said = daemon.client(&["doctor"]).expect(0).stdout;
        let numbers = "\n1 peer tried: 1 direct, 0 relayed, 0 failed";
        assert!(said.contains(numbers), "{said}");
    }
}

#[test]
fn where_no_udp_gets_through_the_doctor_warns() {
    let swarm = Swarm::start();
    let gate = swarm.tracker.gate();
    let daemon = Daemon::start(swarm.place(), 1, &gate.address, DaemonOptions::default());
    daemon.until_connected();
    let (findings, _) = parse(&daemon.client(&["doctor", "--json"]).expect(0));
    let (_, port) = gate.address.rsplit_once(':').unwrap();
    let expected = format!(
        "UDP does not get through to the tracker {}: it is reached by TLS over TCP at port {port}.",
        gate.address
    );
    assert_eq!(find(&findings, "TRK-05").text, expected);
}

/// The findings, and the summary after them.
#[track_caller]
fn parse(ran: &Ran) -> (Vec<Finding>, Summary) {
    let mut findings = Vec::new();
    let mut summary = None;
    for line in ran.stdout.lines() {
        assert_eq!(summary, None, "nothing follows the summary: {ran:#?}");
        match serde_json::from_str(line) {
            Ok(Event::Finding(finding)) => findings.push(finding),
            Ok(Event::Summary(found)) => summary = Some(found),
            other => panic!("{other:?} in {ran:#?}"),
        }
    }
    (findings, summary.unwrap())
}

#[track_caller]
fn find<'a>(findings: &'a [Finding], code: &str) -> &'a Finding {
    let found = findings.iter().find(|finding| finding.code == code);
    found.unwrap_or_else(|| panic!("no {code} in {findings:#?}"))
}
