//! Whether the trackers are reached, and how.

use std::path::Path;

use super::{Code, Finding, Severity, Snapshot};
use crate::control::model::{PeerPath, Tracker, TrackerFault, Transport};
use crate::control::words::typed;
use warren_proto::content::path::printable;

pub(super) fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let finding = |(place, tracker): (usize, &Tracker)| match (&tracker.note, tracker.connected) {
        (_, true) => reached(snapshot, tracker),
        (None, false) => being_tried(tracker),
        (Some(cause), false) if place == 0 => own_unreached(tracker, cause),
        (Some(cause), false) => other_unreached(tracker, cause),
    };
    let trackers = snapshot.trackers.iter().enumerate();
    let mut findings: Vec<Finding> = trackers.map(finding).collect();
    findings.extend(snapshot.trackers.first().and_then(other_version));
    findings
}

fn own_unreached(tracker: &Tracker, cause: &str) -> Finding {
    let address = &tracker.address;
    let port = port_of(tracker);
    let (code, text, action) = match tracker.fault {
        None | Some(TrackerFault::Silent) => (
            Code::OwnTrackerUnreached,
            format!("The tracker {address} is not reached: {cause}."),
            look_at(tracker),
        ),
        Some(TrackerFault::NameUnknown) => (
            Code::TrackerNameUnknown,
            format!("The name of the tracker {address} leads to no address: {cause}."),
            format!(
                "See whether the name is spelt rightly and whether it is found (getent hosts {}); if no name is, mend \
                 the name server, or give the tracker by its IP address.",
                typed(Path::new(host_of(tracker)))
            ),
        ),
        Some(TrackerFault::WrongKey) => (
            Code::TrackerKeyDiffers,
            format!("Who answers at {address} has another key than the tracker had: {cause}."),
            "Ask who runs the tracker; if its key is new, start the daemon with its address and #KEY, \
             otherwise somebody else answers in its place."
                .to_owned(),
        ),
        Some(TrackerFault::NobodyListens) => (
            Code::NobodyListens,
            format!(
                "The machine of the tracker {address} answers, but nothing listens at {port}."
            ),
            "Ask who runs the tracker to start it, and see whether the port is the right one."
                .to_owned(),
        ),
        Some(TrackerFault::NoRoute) => (
            Code::NoRoute,
            format!("The network leads to no machine at the tracker's address {address}."),
            "See whether this machine is connected (ip route), and whether the address is right."
                .to_owned(),
        ),
        Some(TrackerFault::NotATracker) => (
            Code::NotATracker,
            format!(
                "What answers at {address} is no tracker that this daemon understands: {cause}."
            ),
            format!("See which program has {port} there, and that the tracker is of this version."),
        ),
    };
    code.says(Severity::Error, text).with(Some(action))
}

/// Both understand each other; what is new in one of them is of no use.
fn other_version(tracker: &Tracker) -> Option<Finding> {
    let theirs = tracker.program.as_deref().filter(|_| tracker.connected)?;
    let ours = concat!("warren ", env!("CARGO_PKG_VERSION"));
    (theirs != ours).then(|| {
        let text = format!(
            "The tracker {} runs {}, this daemon {ours}.",
            tracker.address,
            printable(theirs)
        );
        let action = "Bring the older of the two up to date.".to_owned();
        let finding = Code::TrackerOfAnotherVersion.says(Severity::Note, text);
        finding.with(Some(action))
    })
}

fn other_unreached(tracker: &Tracker, cause: &str) -> Finding {
    let address = &tracker.address;
    let text = format!("The tracker {address}, which a share names, is not reached: {cause}.");
    let finding = Code::OtherTrackerUnreached.says(Severity::Warning, text);
    finding.with(Some(look_at(tracker)))
}

fn being_tried(tracker: &Tracker) -> Finding {
    let address = &tracker.address;
    let text =
        format!("Whether the tracker {address} answers is not known yet: it is being tried.");
    Code::TrackerBeingTried.says(Severity::Note, text)
}

fn look_at(tracker: &Tracker) -> String {
    let port = port_of(tracker);
    format!(
        "See that the tracker runs, and that nothing on the way stops UDP and TCP to {port}; if its \
         key is not the one expected, ask who runs it for the new one."
    )
}

/// Its name or address, as it was named.
fn host_of(tracker: &Tracker) -> &str {
    let host = tracker.address.rsplit_once(':').map(|(host, _)| host);
    host.unwrap_or(&tracker.address)
}

/// `port 59000`, as it was named.
fn port_of(tracker: &Tracker) -> String {
    let port = tracker.address.rsplit_once(':').map(|(_, port)| port);
    port.map_or("its port".to_owned(), |port| format!("port {port}"))
}

fn reached(snapshot: &Snapshot, tracker: &Tracker) -> Finding {
    let address = &tracker.address;
    let way = match tracker.way {
        Some(way) if way.transport == Transport::Tcp => return by_tcp(snapshot, tracker, way.port),
        Some(way) => format!(" {}{}", way.words(address), instead_of(tracker, way.port)),
        None => String::new(),
    };
    let text = format!("The tracker {address} is reached{way}.");
    Code::TrackerReached.says(Severity::Ok, text)
}

/// What another port than the one that was named tells of the network.
fn instead_of(tracker: &Tracker, port: u16) -> String {
    match tracker.address.ends_with(&format!(":{port}")) {
        true => String::new(),
        false => format!(
            ", since UDP to {} does not get through; where it gets out to few ports, most peers are \
             reached through the tracker",
            port_of(tracker)
        ),
    }
}

fn by_tcp(snapshot: &Snapshot, tracker: &Tracker, port: u16) -> Finding {
    let address = &tracker.address;
    let named = port_of(tracker);
    let way = format!("is reached by TLS over TCP at port {port}");
    let (text, action) = match udp_reaches_others(snapshot) {
        true => (
            format!("UDP reaches others, but not the tracker {address}: that {way}."),
            format!("Let UDP through to {named} of the tracker."),
        ),
        false => (
            format!(
                "UDP does not get through to the tracker {address}: it {way}{}.",
                no_direct_peer(snapshot)
            ),
            format!(
                "Ask who runs this network to let UDP out; if nobody else reaches the tracker by \
                 UDP either, let UDP through to its {named}."
            ),
        ),
    };
    let finding = Code::TrackerByTcp.says(Severity::Warning, text);
    finding.with(Some(action))
}

/// Whether another tracker, or a peer beyond this network, is reached by UDP now.
fn udp_reaches_others(snapshot: &Snapshot) -> bool {
    let tracker = snapshot.trackers.iter().any(is_by_udp);
    let peer = |path| snapshot.peers.iter().any(|peer| peer.path == path);
    tracker || peer(PeerPath::Direct)
}

/// Whether it is reached by UDP now, so that what it knows of our NAT is of now, too.
pub(super) fn is_by_udp(tracker: &Tracker) -> bool {
    let is_udp = tracker
        .way
        .is_some_and(|way| way.transport == Transport::Udp);
    tracker.connected && is_udp
}

/// Said only when peers were tried: where none is wanted, none is missing.
fn no_direct_peer(snapshot: &Snapshot) -> &'static str {
    let is_direct = |path| matches!(path, PeerPath::Lan | PeerPath::Direct);
    let has_direct = snapshot.peers.iter().any(|peer| is_direct(peer.path));
    let has_tried = !snapshot.attempts.is_empty() || !snapshot.peers.is_empty();
    match has_tried && !has_direct {
        true => ", and no peer is connected directly",
        false => "",
    }
}
