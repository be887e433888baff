//! Snapshots and what is found in them: which findings ([`table`]), whether faults are named ([`matrix`]),
//! and in which words, of which [`advice`] has those about what was chosen and what to type. [`scene`] makes
//! snapshots.

mod advice;
mod matrix;
mod scene;
mod table;

use std::collections::BTreeSet;

use super::*;
use crate::control::attempt::{CandidateKind, Outcome, Reason, Role, Technique};
use crate::control::messages;
use crate::control::model::{PeerPath, PortMappingState, Transport, Way};
use scene::*;

const EIM: &str = "endpoint-independent";

#[test]
fn a_tracker_that_is_not_reached_is_told_with_its_cause_and_what_to_look_at() {
    says(
        |it| {
            lost(
                &mut it.trackers[0],
                Some("tracker 203.0.113.1:59000 did not answer"),
            )
        },
        "TRK-01",
        "The tracker t.example:59000 is not reached: tracker 203.0.113.1:59000 did not answer.",
        "See that the tracker runs, and that nothing on the way stops UDP and TCP to port 59000; if \
         its key is not the one expected, ask who runs it for the new one.",
    );
    says(
        |it| by(&mut it.trackers[0], Transport::Udp, 443),
        "TRK-04",
        "The tracker t.example:59000 is reached by QUIC over UDP at port 443, since UDP to port 59000 \
         does not get through; where it gets out to few ports, most peers are reached through the \
         tracker.",
        "",
    );
}

#[test]
fn that_udp_does_not_get_out_is_said_only_when_nothing_shows_the_contrary() {
    let no_udp = |it: &mut Snapshot| by(&mut it.trackers[0], Transport::Tcp, 443);
    let ask = "Ask who runs this network to let UDP out; if nobody else reaches the tracker by UDP \
               either, let UDP through to its port 59000.";
    let text = "UDP does not get through to the tracker t.example:59000: it is reached by TLS over \
                TCP at port 443";
    says(
        |it| {
            no_udp(it);
            it.attempts.clear();
        },
        "TRK-05",
        &format!("{text}."),
        ask,
    );
    let none = format!("{text}, and no peer is connected directly.");
    says(no_udp, "TRK-05", &none, ask);
    // A peer in the same network shows nothing about what is beyond it.
    says(
        |it| {
            no_udp(it);
            it.peers.push(peer("b", PeerPath::Lan));
        },
        "TRK-05",
        &format!("{text}."),
        ask,
    );
    let out = "UDP reaches others, but not the tracker t.example:59000: that is reached by TLS over \
               TCP at port 443.";
    let let_in = "Let UDP through to port 59000 of the tracker.";
    says(
        |it| {
            no_udp(it);
            it.peers.push(peer("b", PeerPath::Direct));
        },
        "TRK-05",
        out,
        let_in,
    );
    says(
        |it| {
            no_udp(it);
            it.trackers.push(tracker());
        },
        "TRK-05",
        out,
        let_in,
    );
}

#[test]
fn what_to_do_about_the_router_is_said_once_and_helps() {
    let port_text = "The router does not open ports when asked: it answers neither PCP nor NAT-PMP \
                     nor UPnP.";
    says(
        |it| it.port.state = PortMappingState::Silent,
        "PORT-03",
        port_text,
        "Switch UPnP or NAT-PMP on at the router, or open UDP port 4000 there for this machine and \
         always start the daemon with --listen [::]:4000.",
    );
    let random = |it: &mut Snapshot| hard(it, "random", PortMappingState::Silent);
    says(random, "PORT-03", port_text, "");
    // Peers are not told of a port that was opened by hand, if the tracker sees another.
    says(
        random,
        "NET-02",
        "Your router, or your provider's, gives every destination another port, at random, so that \
         peers behind such a router or a strict one are hard to reach directly.",
        "Switch UPnP or NAT-PMP on at the router.",
    );
    says(
        |it| {
            hard(it, "random", PortMappingState::Silent);
            it.trackers[0].mapping_depends_on = Some("address".into());
        },
        "NET-02",
        "Your router, or your provider's, gives every IP address that this daemon sends to another \
         port, at random, so that peers behind such a router or a strict one are hard to reach \
         directly.",
        "Switch UPnP or NAT-PMP on at the router.",
    );
    says(
        |it| it.trackers[0].mapping_depends_on = Some("nothing".into()),
        "NET-01",
        "Every destination sees this daemon at the same port.",
        "",
    );
    says(
        |it| hard(it, "sequential", PortMappingState::Open),
        "NET-03",
        "Your router, or your provider's, gives every destination another port, each a fixed step \
         from the last; the port that it has opened for this daemon makes up for it.",
        "",
    );
    says(
        |_| (),
        "PORT-01",
        "The router lets peers in by UDP port 6000 (PCP).",
        "",
    );
    says(
        |it| it.port.address = None,
        "PORT-01",
        "The router lets peers in.",
        "",
    );
}

#[test]
fn of_peers_that_were_not_reached_is_told_what_is_known() {
    let nine = |it: &mut Snapshot| {
        it.attempts = (0..9).map(|n| reached(&format!("p{n}"), 50)).collect();
    };
    says(
        |it| {
            nine(it);
            hard(it, "random", PortMappingState::Silent);
            it.attempts.push(failed("x", "random"));
        },
        "PEER-03",
        "Direct with 9 of 10 peers; 1 was not reached; it is behind a router that gives every \
         destination another port, as you are.",
        "",
    );
    says(
        |it| {
            nine(it);
            it.attempts.push(failed("x", "sequential"));
            it.attempts.push(failed("y", "unknown"));
            it.attempts.push(failed("z", EIM));
        },
        "PEER-03",
        "Direct with 9 of 12 peers; 3 were not reached; 1 of them is behind a router that gives \
         every destination another port; how the router of 1 of them works is not known; 1 of them \
         did not answer.",
        "Ask those behind such a router to switch UPnP or NAT-PMP on there.",
    );
    says(
        |it| {
            it.attempts = vec![failed("x", EIM), failed("y", EIM)];
            for attempt in &mut it.attempts {
                attempt.outcome = Outcome::NoHandshake;
                attempt.reason = Some(Reason::NoHandshake);
                attempt.proven_unix_ms = Some(7);
            }
        },
        "PEER-04",
        "None of the 2 peers that were tried was reached; all answered, but no connection came of it.",
        "",
    );
    says(
        |it| {
            it.attempts = vec![failed("x", "unknown")];
            it.attempts[0].outcome = Outcome::Forbidden;
            it.attempts[0].reason = Some(Reason::Forbidden);
        },
        "PEER-04",
        "The one peer that was tried was not reached; with it no path is allowed, as the two and \
         their tracker were started.",
        "",
    );
    says(
        |it| {
            it.attempts = vec![failed("x", "unknown")];
            it.attempts[0].outcome = Outcome::Forbidden;
            it.attempts[0].reason = Some(Reason::Forbidden);
            it.why_forbidden =
                "this daemon was started with --relay-only, and a peer with --no-relay".into();
        },
        "PEER-04",
        "The one peer that was tried was not reached; with it no path is allowed: this daemon was \
         started with --relay-only, and a peer with --no-relay.",
        "",
    );
    says(
        |it| it.attempts = vec![failed("x", "unknown")],
        "PEER-04",
        "The one peer that was tried was not reached; how its router works is not known.",
        "",
    );
    // Our own router is not known while the tracker is reached by TCP, so "as you are" is not said.
    says(
        |it| {
            hard(it, "random", PortMappingState::Unneeded);
            by(&mut it.trackers[0], Transport::Tcp, 443);
            it.attempts = vec![failed("x", "random")];
        },
        "PEER-04",
        "The one peer that was tried was not reached; it is behind a router that gives every \
         destination another port.",
        "Ask those behind such a router to switch UPnP or NAT-PMP on there.",
    );
}

#[test]
fn each_reason_of_an_attempt_is_told_in_words() {
    let of = |reason, text: &str| {
        says(
            |it| {
                it.attempts = vec![failed("x", EIM)];
                it.attempts[0].reason = Some(reason);
            },
            "PEER-04",
            &format!("The one peer that was tried was not reached; {text}."),
            "",
        );
    };
    of(Reason::NoAnswer, "it did not answer");
    of(Reason::Superseded, "it did not answer");
    of(
        Reason::RelayOnly,
        "it was started with --relay-only, so no direct path is allowed",
    );
    of(Reason::NoCandidates, "no address was told of it");
    of(
        Reason::Budget,
        "it was checked with fewer packets than it takes, to spare routers, and is tried again",
    );
    of(
        Reason::TurnRefused,
        "for it no port was guessed, since guesses there have found nobody",
    );
    of(
        Reason::NoSample,
        "for it the tracker did not show which ports your own router picks",
    );
    of(
        Reason::NoTrickle,
        "it did not say by way of the tracker at which port to look",
    );
    of(
        Reason::Unguessable,
        "it is behind a router that gives every destination another port",
    );
}

#[test]
fn why_peers_are_relayed_is_told_where_their_attempts_show_it() {
    let relayed = |name: &str, reason| Attempt {
        path: Some(PeerPath::Relay),
        reason: Some(reason),
        ..reached(name, 50)
    };
    let three = |it: &mut Snapshot| {
        hard(it, "random", PortMappingState::Silent);
        it.attempts.push(relayed("b", Reason::Unguessable));
        it.attempts.push(relayed("c", Reason::NoTrickle));
        it.attempts.push(relayed("d", Reason::NoAnswer));
    };
    let text = "Direct with 1 of 4 peers, through the tracker with 3; 1 of them did not say by way of \
                the tracker at which port to look; 1 of them is behind a router that gives every \
                destination another port, as you are.";
    says(three, "PEER-02", text, "");
    // Also when they are still connected so.
    let connected = |it: &mut Snapshot| {
        three(it);
        it.peers = ["b", "c", "d"]
            .map(|name| peer(name, PeerPath::Relay))
            .into();
    };
    says(connected, "PEER-02", text, "");
    // Who is direct by now is not explained.
    let later = |it: &mut Snapshot| {
        it.attempts = vec![reached("a", 50), relayed("b", Reason::Unguessable)];
        it.attempts.push(reached("b", 50));
    };
    let text =
        "All well: the trackers answer, and all 2 peers that were tried were reached directly.";
    says(later, "PEER-06", text, "");
}

#[test]
fn whether_two_behind_our_router_meet_by_its_outside_address_is_told_where_it_matters() {
    let hairpins = |yes| move |it: &mut Snapshot| it.trackers[0].hairpinning = Some(yes);
    says(
        hairpins(true),
        "NET-11",
        "The router leads packets for its own outside address back in.",
        "",
    );
    let no = "The router does not lead packets for its own outside address back in, so daemons behind it \
              meet by their addresses in the local network or through the tracker.";
    says(hairpins(false), "NET-11", no, "");
    let mut snapshot = healthy();
    hairpins(false)(&mut snapshot);
    snapshot.port.state = PortMappingState::Unneeded;
    assert!(!has(&examine(&snapshot).0, "NET-11"), "there is no router");
}

#[test]
fn who_was_reached_is_told_in_numbers() {
    let text =
        "All well: the trackers answer, and all 2 peers that were tried were reached directly.";
    says(|it| it.attempts.push(reached("b", 9)), "PEER-06", text, "");
    says(
        |it| it.peers.push(peer("b", PeerPath::Relay)),
        "PEER-02",
        "Direct with 1 of 2 peers, through the tracker with 1.",
        "",
    );
    says(
        |it| {
            let mut by_peer = peer("c", PeerPath::Relay);
            by_peer.relayed_by = Some("peer a".into());
            it.peers.extend([peer("b", PeerPath::Relay), by_peer]);
        },
        "PEER-02",
        "Direct with 1 of 3 peers, through the tracker with 1, through other peers with 1.",
        "",
    );
    says(
        |it| {
            it.attempts.clear();
            it.under_way = vec![failed("b", EIM), failed("c", EIM)];
        },
        "PEER-05",
        "2 peers are being tried; what comes of it is not known yet.",
        "",
    );
}

#[test]
fn what_was_found_by_guessed_ports_is_told_and_counted() {
    let guessed = |peer: &str, technique| Attempt {
        technique,
        ..reached(peer, 50)
    };
    let mut snapshot = healthy();
    snapshot.attempts = vec![guessed("a", Technique::Prediction)];
    let text = |snapshot: &Snapshot| {
        let (findings, _) = examine(snapshot);
        findings.into_iter().map(|it| it.text).collect::<String>()
    };
    assert!(text(&snapshot).contains("reached directly, by a guessed port."));
    snapshot.attempts.push(reached("b", 50));
    assert!(text(&snapshot).contains("reached directly, 1 of them by a guessed port."));
    snapshot.attempts.push(guessed("c", Technique::Birthday));
    snapshot.attempts.push(failed("d", EIM));
    // What failed was found by nothing.
    snapshot.attempts.push(Attempt {
        technique: Technique::BlockSpray,
        ..failed("e", EIM)
    });
    // The latest path counts.
    snapshot
        .attempts
        .push(guessed("b", Technique::MutualPrediction));
    let said = text(&snapshot);
    assert!(
        said.contains("Direct with 3 of 5 peers, all of them by guessed ports; 2 were"),
        "{said}"
    );
    let techniques = examine(&snapshot).1.techniques;
    let expected = Techniques {
        prediction: 1,
        mutual_prediction: 1,
        birthday: 1,
        ..Techniques::default()
    };
    assert_eq!(techniques, expected);
    // Through the tracker no port is guessed.
    snapshot.peers = vec![peer("a", PeerPath::Relay)];
    assert_eq!(examine(&snapshot).1.techniques.guessed(), 2);
}

#[test]
fn a_peer_counts_once_as_it_is_reached_now_or_else_at_its_best() {
    let numbers = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = healthy();
        change(&mut snapshot);
        let summary = examine(&snapshot).1;
        let counts = [
            summary.direct,
            summary.relayed,
            summary.failed,
            summary.under_way,
        ];
        assert_eq!(summary.tried, counts[..3].iter().sum::<usize>());
        counts
    };
    assert_eq!(numbers(&|_| ()), [1, 0, 0, 0]);
    // It has left since.
    assert_eq!(
        numbers(&|it| it.attempts.push(failed("a", EIM))),
        [1, 0, 0, 0]
    );
    assert_eq!(
        numbers(&|it| it.peers.push(peer("a", PeerPath::Relay))),
        [0, 1, 0, 0]
    );
    assert_eq!(
        numbers(&|it| it.peers.push(peer("a", PeerPath::Lan))),
        [1, 0, 0, 0]
    );
    assert_eq!(
        numbers(&|it| it.under_way.push(failed("a", EIM))),
        [1, 0, 0, 0]
    );
    assert_eq!(
        numbers(&|it| it.under_way.push(failed("b", EIM))),
        [1, 0, 0, 1]
    );
    assert_eq!(
        numbers(&|it| it.under_way.push(reached("b", 5))),
        [2, 0, 0, 0]
    );
    let again = |it: &mut Snapshot| {
        it.attempts.push(failed("b", EIM));
        it.under_way.push(failed("b", EIM));
    };
    assert_eq!(numbers(&again), [1, 0, 1, 0]);
    let relayed = |it: &mut Snapshot| {
        it.attempts = vec![reached("b", 9)];
        it.attempts[0].path = Some(PeerPath::Relay);
        it.under_way = it.attempts.clone();
        it.under_way[0].peer = "c".into();
    };
    assert_eq!(numbers(&relayed), [0, 2, 0, 0]);
    let then_direct = |it: &mut Snapshot| {
        relayed(it);
        it.attempts[0].path = Some(PeerPath::Direct);
    };
    assert_eq!(numbers(&then_direct), [1, 1, 0, 0]);
    // That a connection lived on says nothing of how it was made.
    let kept = |it: &mut Snapshot| {
        it.attempts = vec![failed("b", EIM)];
        it.attempts[0].outcome = Outcome::Kept;
    };
    assert_eq!(numbers(&kept), [0, 0, 0, 0]);
}

#[test]
fn the_median_is_of_all_paths_that_were_proven() {
    let median = |times: &[u64]| {
        let mut snapshot = healthy();
        snapshot.attempts = times.iter().map(|&ms| reached("a", ms)).collect();
        snapshot.attempts.push(failed("b", EIM));
        examine(&snapshot).1.median_ms
    };
    assert_eq!(median(&[]), None);
    assert_eq!(median(&[30]), Some(30));
    assert_eq!(median(&[900, 10]), Some(455));
    assert_eq!(median(&[900, 10, 20]), Some(20));
    // A clock that was set back.
    let mut snapshot = healthy();
    snapshot.attempts[0].started_unix_ms = u64::MAX;
    assert_eq!(examine(&snapshot).1.median_ms, Some(0));
}

/// Every combination of what can be known: sentences are whole, actions too, and what is not known
/// is not claimed.
#[test]
fn every_combination_is_said_in_whole_sentences_and_claims_nothing_unknown() {
    let mappings = [
        EIM,
        "random",
        "sequential",
        "address-dependent",
        "unknown",
        "psychic",
    ];
    let filterings = [
        "port-independent",
        "port-dependent",
        "clashing",
        "unknown",
        "psychic",
    ];
    for mapping in mappings {
        for filtering in filterings {
            for state in every_port_state() {
                for transport in [None, Some(Transport::Udp), Some(Transport::Tcp)] {
                    for connected in [true, false] {
                        let mut snapshot = healthy();
                        snapshot.port.state = state;
                        let own = &mut snapshot.trackers[0];
                        own.mapping = mapping.into();
                        own.filtering = filtering.into();
                        own.connected = connected;
                        own.way = transport.map(|transport| Way {
                            transport,
                            port: 59000,
                        });
                        snapshot.attempts.push(failed("b", mapping));
                        check_sentences(&snapshot);
                    }
                }
            }
        }
    }
}

#[track_caller]
fn check_sentences(snapshot: &Snapshot) {
    let (findings, summary) = examine(snapshot);
    let own = &snapshot.trackers[0];
    let knows_nat = own.connected && own.way.is_some_and(|way| way.transport == Transport::Udp);
    for finding in &findings {
        for sentence in [Some(&finding.text), finding.action.as_ref()]
            .into_iter()
            .flatten()
        {
            assert!(sentence.ends_with('.'), "{sentence}");
            assert!(
                sentence.starts_with(|first: char| first.is_ascii_uppercase()),
                "{sentence}"
            );
            assert!(
                !sentence.contains("  ") && !sentence.contains(".."),
                "{sentence}"
            );
            assert!(knows_nat || !sentence.contains("as you are"), "{sentence}");
        }
        let of_nat = ["NET-01", "NET-02", "NET-03", "NET-04", "NET-06"];
        assert!(
            knows_nat || !of_nat.contains(&finding.code.as_str()),
            "{finding:?}"
        );
    }
    let worst = findings.iter().map(|it| it.severity).max();
    assert_eq!(findings.first().map(|it| it.severity), worst);
    assert_eq!(summary.exit == exit::OK, worst < Some(Severity::Error));
    assert_eq!(
        summary.exit == exit::TRACKER_UNREACHABLE,
        has(&findings, "TRK-01")
    );
}

#[test]
fn every_finding_is_explained_and_every_explained_one_exists() {
    let explained = messages::ALL.iter().filter(|it| it.word.is_empty());
    let mut explained: Vec<&str> = explained.map(|it| it.code).collect();
    explained.sort_unstable();
    let mut codes: Vec<&str> = Code::ALL.iter().map(|code| code.word()).collect();
    codes.sort_unstable();
    assert_eq!(explained, codes);
}
