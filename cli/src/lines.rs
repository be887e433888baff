//! How trackers, shares and peers look, one line each.
//!
//! Not here: limits ([`crate::limit`]), what `doctor` finds ([`crate::doctor`]).

use warren_daemon::clock::unix_ms;
use warren_daemon::control::{
    attempt::Role,
    codes::{CodeState, CodeStatus},
    model::{Event, Peer, PortMapping, Share, Standing, Tracker},
};
use warren_proto::content::path::printable;

use crate::{limit, select::counts, text};

/// How `client status` and `client peers` show an event, if they do.
pub(crate) fn line(event: &Event) -> Option<String> {
    match event {
        Event::Tracker(tracker) => Some(tracker_line(tracker)),
        Event::PortMapping(port) => Some(port_mapping_line(port)),
        Event::Limits(limits) if limit::is_limited(limits) => Some(limit::limits_line(limits)),
        Event::Share(share) => Some(share_line(share)),
        Event::Peer(peer) => Some(peer_line(peer)),
        Event::Code(code) => Some(code_line(code)),
        _ => None,
    }
}

fn tracker_line(tracker: &Tracker) -> String {
    let state = match (tracker.connected, tracker.way) {
        (true, Some(way)) => format!("connected {}", way.words(&tracker.address)),
        (true, None) => "connected".to_owned(),
        (false, _) => "not reached; trying again".to_owned(),
    };
    let note = tracker
        .note
        .as_ref()
        .map_or(String::new(), |note| format!("  ({note})"));
    let key = if tracker.key.is_empty() {
        String::new()
    } else {
        format!("#{}", tracker.key)
    };
    // Where it was not measured, or is not now, there may be no tracker, and nothing to say.
    let nat = match tracker.mapping.as_str() {
        _ if !tracker.connected => String::new(),
        "unknown" => String::new(),
        mapping => {
            let by = match tracker.mapping_depends_on.as_deref() {
                Some("address") => " by address",
                _ => "",
            };
            let hairpins = match tracker.hairpinning {
                Some(true) => ", hairpins",
                Some(false) => ", no hairpinning",
                None => "",
            };
            format!(
                "  (our NAT: {mapping} mapping{by}, {} filtering{hairpins})",
                tracker.filtering
            )
        }
    };
    printable(&format!(
        "tracker {}{key}  {state}{note}{nat}",
        tracker.address
    ))
}

fn port_mapping_line(port: &PortMapping) -> String {
    printable(&format!("port mapping  {}", port.note))
}

/// A share as `client status` and `client select` show it.
pub(crate) fn share_line(share: &Share) -> String {
    let name = if share.name.is_empty() {
        "(name not known yet)"
    } else {
        &share.name
    };
    let state = share.state_words();
    let amount = if share.verified_bytes == share.bytes {
        text::bytes(share.bytes)
    } else {
        format!(
            "{} of {}",
            text::bytes(share.verified_bytes),
            text::bytes(share.bytes)
        )
    };
    let files = share.files.map(|files| format!("  {}", counts(files)));
    let files = files.unwrap_or_default();
    let note = share
        .note
        .as_ref()
        .map_or(String::new(), |note| format!("  ({note})"));
    let terms = share_terms(share).map_or(String::new(), |terms| format!("  ({terms})"));
    let peers = match share.peers.total() {
        0 => String::new(),
        _ => format!("  ({})", text::peers(share.peers)),
    };
    let version = version(share).map_or(String::new(), |text| format!("  {text}"));
    printable(&format!(
        "{}  {state}  {amount}  {name}{files}{terms}{version}{peers}{note}",
        share.content_id
    ))
}

/// For how long and how often a share is given, if not for good.
pub(crate) fn share_terms(share: &Share) -> Option<String> {
    terms((share.expires_unix_ms, share.max_downloads, share.downloads))
}

/// The same of when it ends, in milliseconds since 1970, how many downloads of it there may be and how many there
/// were.
pub(crate) fn terms(
    (expires_unix_ms, max_downloads, downloads): (Option<u64>, Option<u32>, Option<u32>),
) -> Option<String> {
    let expires = expires_unix_ms.map(|at| match at.saturating_sub(unix_ms()) {
        0 => "expires now".to_owned(),
        left => format!("expires in {}", text::duration(left.div_ceil(1000))),
    });
    let downloads = max_downloads.map(|most| {
        let downloads = downloads.unwrap_or_default();
        format!("{downloads} of {}", text::count(most, "download"))
    });
    let terms: Vec<String> = expires.into_iter().chain(downloads).collect();
    (!terms.is_empty()).then(|| terms.join(", "))
}

/// Which version it is, of something that is followed or can be.
pub(crate) fn version(share: &Share) -> Option<String> {
    if let Some(published) = &share.published {
        return Some(format!("version {}, published", published.sequence));
    }
    let followed = share.followed.as_ref()?;
    let newest = match followed.newest {
        newest if newest > followed.sequence => format!(", the newest is version {newest}"),
        _ => String::new(),
    };
    let kept = followed.kept.as_ref();
    let kept = kept.map(|kept| format!(", files changed here are kept in {kept}"));
    let kept = kept.unwrap_or_default();
    Some(format!(
        "version {}, followed{newest}{kept}",
        followed.sequence
    ))
}

fn code_line(code: &CodeStatus) -> String {
    let left = text::duration(code.expires_s);
    let state = match code.state {
        CodeState::Open => format!("open for {left}"),
        CodeState::Unreachable => {
            format!("open for {left}, but the tracker is not reached")
        }
        CodeState::Expired => "expired".to_owned(),
        CodeState::Used => "used by its one receiver".to_owned(),
        CodeState::Burned => "ended, since it was guessed wrong too often".to_owned(),
        CodeState::Revoked => "ended, since what it is for was revoked".to_owned(),
        CodeState::Withdrawn => "withdrawn".to_owned(),
    };
    let once = match code.once {
        true => ", for one receiver",
        false => "",
    };
    printable(&format!(
        "code {}  {}  {state}{once}  (opened {}, {})",
        code.number,
        code.name,
        times(code.opened),
        text::count(code.wrong, "wrong guess"),
    ))
}

fn times(count: u32) -> String {
    text::count(count, "time")
}

fn peer_line(peer: &Peer) -> String {
    let by = peer
        .relayed_by
        .as_ref()
        .map(|by| format!(", relayed by {by}"));
    let kind = peer.kind.map(|kind| format!(", {}", kind.word()));
    let standing = match peer.standing {
        Standing::Good => String::new(),
        worse => format!(", {}", worse.word()),
    };
    let why = peer.why_relayed.as_ref();
    let why = why.map(|why| format!(", since {why}"));
    let reached = peer.reached_ms.map(|ms| format!(", reached in {ms} ms"));
    printable(&format!(
        "{}  {}  {}  {:.1} ms  down {}  up {}  ({}{}{}{}{}{standing})",
        peer.peer,
        peer.path.word(),
        peer.address,
        peer.rtt_ms,
        text::bytes(peer.down_bytes),
        text::bytes(peer.up_bytes),
        match peer.side {
            Role::Client => "we dialled",
            Role::Server => "it dialled",
        },
        kind.unwrap_or_default(),
        reached.unwrap_or_default(),
        by.unwrap_or_default(),
        why.unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use warren_daemon::control::{
        attempt::CandidateKind,
        model::{FileCounts, PeerCounts, PeerPath, ShareState},
    };

    use super::*;

    #[test]
    fn lists_are_one_line_each_and_hostile_names_are_escaped() {
        let share = Share {
            content_id: "ab".into(),
            name: "a\u{1b}[2Jb\nc".into(),
            bytes: 2048,
            verified_bytes: 1024,
            state: ShareState::Downloading,
            peers: PeerCounts {
                relay: 1,
                ..PeerCounts::default()
            },
            relayed_bytes: 1024,
            ..Share::default()
        };
        assert_eq!(
            share_line(&share),
            r"ab  downloading  1.0 KiB of 2.0 KiB  a\u{1b}[2Jb\u{a}c  (1 peer: relay 1)"
        );
        let part = Share {
            name: "d".into(),
            files: Some(FileCounts {
                selected: 3,
                of: 12,
            }),
            ..share
        };
        assert_eq!(
            share_line(&part),
            "ab  downloading  1.0 KiB of 2.0 KiB  d  3 of 12 files  (1 peer: relay 1)"
        );
        let bounded = Share {
            expires_unix_ms: Some(0),
            max_downloads: Some(3),
            downloads: Some(1),
            ..part
        };
        assert!(share_line(&bounded).contains("  (expires now, 1 of 3 downloads)"));
        let peer = Peer {
            peer: "abcd".into(),
            path: PeerPath::Direct,
            address: "203.0.113.9:4000".into(),
            rtt_ms: 12.34,
            down_bytes: 0,
            up_bytes: 1024,
            side: Role::Client,
            kind: Some(CandidateKind::ServerReflexive),
            relayed_by: None,
            why_relayed: None,
            reached_ms: Some(104),
            unlimited: false,
            standing: Standing::Good,
            standings: Vec::new(),
        };
        assert_eq!(
            peer_line(&peer),
            "abcd  direct  203.0.113.9:4000  12.3 ms  down 0 B  up 1.0 KiB  \
             (we dialled, server-reflexive, reached in 104 ms)"
        );
        let stalled = Peer {
            standing: Standing::Stalled,
            ..peer.clone()
        };
        assert!(peer_line(&stalled).ends_with(", reached in 104 ms, stalled)"));
        let relayed = Peer {
            path: PeerPath::Relay,
            relayed_by: Some("peer wxyz".into()),
            ..peer
        };
        assert!(peer_line(&relayed).ends_with(", reached in 104 ms, relayed by peer wxyz)"));
        let by_choice = Peer {
            why_relayed: Some("the peer was started with --relay-only".into()),
            ..relayed
        };
        let end = ", relayed by peer wxyz, since the peer was started with --relay-only)";
        assert!(peer_line(&by_choice).ends_with(end));
    }
}
