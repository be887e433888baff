//! A daemon that is well, and what may be otherwise with it.

use super::*;
use crate::control::model::ShareState;

#[track_caller]
pub(super) fn says(change: impl FnOnce(&mut Snapshot), code: &str, text: &str, action: &str) {
    let mut snapshot = healthy();
    change(&mut snapshot);
    let (findings, _) = examine(&snapshot);
    let found = findings.iter().find(|it| it.code == code);
    let found = found.unwrap_or_else(|| panic!("no {code} in {findings:#?}"));
    assert_eq!(found.text, text);
    assert_eq!(found.action.as_deref().unwrap_or_default(), action);
}

pub(super) fn has(findings: &[Finding], code: &str) -> bool {
    findings.iter().any(|finding| finding.code == code)
}

/// Behind a home router that opens a port; one peer was reached.
pub(super) fn healthy() -> Snapshot {
    Snapshot {
        trackers: vec![tracker()],
        tracker_is_here: false,
        listening: "[::]:4000".parse().unwrap(),
        addresses: vec![ip("192.168.1.9")],
        port: PortMapping {
            state: PortMappingState::Open,
            protocol: Some("PCP".into()),
            address: Some("203.0.113.7:6000".into()),
            note: String::new(),
        },
        attempts: vec![reached("a", 104)],
        under_way: Vec::new(),
        peers: Vec::new(),
        narrow_bytes: Vec::new(),
        clock_ahead_ms: Some(200),
        idx: 1,
        paths: Paths::Any,
        why_forbidden: String::new(),
        limits: Limits::default(),
        shares: Vec::new(),
        changed: std::collections::BTreeMap::new(),
        machine: Machine {
            downloads: "/srv/downloads".into(),
            folder: Some(machine::Folder {
                fault: None,
                free_bytes: Some(1 << 30),
            }),
            open_files: Some((40, 524_288)),
        },
    }
}

pub(super) fn tracker() -> Tracker {
    Tracker {
        address: "t.example:59000".into(),
        key: "k".into(),
        connected: true,
        way: Some(Way {
            transport: Transport::Udp,
            port: 59000,
        }),
        note: None,
        mapping: EIM.into(),
        mapping_depends_on: None,
        filtering: "port-dependent".into(),
        hairpinning: None,
        fault: None,
        program: Some(concat!("warren ", env!("CARGO_PKG_VERSION")).into()),
        relays: None,
    }
}

pub(super) fn lost(tracker: &mut Tracker, cause: Option<&str>) {
    tracker.connected = false;
    tracker.way = None;
    tracker.note = cause.map(str::to_owned);
}

pub(super) fn by(tracker: &mut Tracker, transport: Transport, port: u16) {
    tracker.way = Some(Way { transport, port });
}

pub(super) fn hard(snapshot: &mut Snapshot, mapping: &str, port: PortMappingState) {
    snapshot.trackers[0].mapping = mapping.into();
    snapshot.port.state = port;
}

pub(super) fn reached(peer: &str, ms: u64) -> Attempt {
    Attempt {
        proven_unix_ms: Some(1000 + ms),
        connected_unix_ms: Some(1000 + 2 * ms),
        outcome: Outcome::Connected,
        reason: None,
        ..failed(peer, EIM)
    }
}

pub(super) fn failed(peer: &str, mapping: &str) -> Attempt {
    Attempt {
        peer: peer.into(),
        side: Role::Client,
        candidates: 2,
        candidate_kinds: vec![CandidateKind::ServerReflexive, CandidateKind::Host],
        our_mapping: EIM.into(),
        our_filtering: "port-dependent".into(),
        our_hairpinning: None,
        mapping: mapping.into(),
        filtering: "port-dependent".into(),
        started_unix_ms: 1000,
        proven_unix_ms: None,
        connected_unix_ms: None,
        relayed_unix_ms: None,
        direct_unix_ms: None,
        path: None,
        address: None,
        kind: None,
        rtt_ms: None,
        checks: 24,
        technique: Technique::Checks,
        outcome: Outcome::NoPath,
        reason: Some(Reason::NoAnswer),
    }
}

pub(super) fn peer(name: &str, path: PeerPath) -> Peer {
    Peer {
        peer: name.into(),
        path,
        address: "203.0.113.9:4000".into(),
        rtt_ms: 12.0,
        down_bytes: 0,
        up_bytes: 0,
        side: Role::Server,
        kind: None,
        relayed_by: None,
        why_relayed: None,
        reached_ms: None,
        unlimited: false,
        standing: Default::default(),
        standings: Vec::new(),
    }
}

/// One that is half there; its content id is this digit again and again.
pub(super) fn named_share(name: &str, digit: char, state: ShareState) -> Share {
    Share {
        content_id: digit.to_string().repeat(64),
        name: name.into(),
        bytes: 1000,
        verified_bytes: 500,
        state,
        note: Some("no space is left".into()),
        ..Share::default()
    }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn every_port_state() -> [PortMappingState; 11] {
    use PortMappingState::*;
    [
        Off, Waiting, Unneeded, NoRouter, Asking, Silent, Refused, BehindNat, Checking, Shut, Open,
    ]
}
