//! Whether the trackers are reached, and how.

use super::{Code, Finding, Severity, Snapshot};
use crate::control::model::{PeerPath, Tracker, Transport};

pub(super) fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let finding = |(place, tracker): (usize, &Tracker)| match (&tracker.note, tracker.connected) {
        (_, true) => reached(snapshot, tracker),
        (None, false) => being_tried(tracker),
        (Some(cause), false) if place == 0 => own_unreached(tracker, cause),
        (Some(cause), false) => other_unreached(tracker, cause),
    };
    let trackers = snapshot.trackers.iter().enumerate();
    trackers.map(finding).collect()
}

fn own_unreached(tracker: &Tracker, cause: &str) -> Finding {
    let text = format!("The tracker {} is not reached: {cause}.", tracker.address);
    let finding = Code::OwnTrackerUnreached.says(Severity::Error, text);
    finding.with(Some(look_at(tracker)))
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
