use super::*;
use crate::control::attempt::Reason;
use crate::control::codes::CodeState;
use crate::control::wish;
use crate::control::wish::{Change, Wish};

#[test]
fn registered_is_this_json() {
    let event = Event::Registered(Registered {
        path: "/data/a film.mkv".into(),
        manifest: "/data/a film.p2p".into(),
        link: Some("p2p:abc".into()),
        content_id: "00ff".into(),
        bytes: 7,
        files: 1,
        ..Registered::default()
    });
    check(
        event,
        r#"{"v":1,"type":"registered","path":"/data/a film.mkv","manifest":"/data/a film.p2p","link":"p2p:abc","content_id":"00ff","bytes":7,"files":1}"#,
    );
}

#[test]
fn codes_are_this_json() {
    let given = CodeGiven {
        code: "7-film-alibi".into(),
        expires_s: 600,
        once: true,
    };
    let registered = Registered {
        path: "/d".into(),
        manifest: "/d.p2p".into(),
        content_id: "00".into(),
        bytes: 0,
        files: 0,
        code: Some(given),
        ..Registered::default()
    };
    check(
        Event::Registered(registered.clone()),
        r#"{"v":1,"type":"registered","path":"/d","manifest":"/d.p2p","link":null,"content_id":"00","bytes":0,"files":0,"code":{"code":"7-film-alibi","expires_s":600,"once":true}}"#,
    );
    let registered = Registered {
        code: None,
        no_code: Some(ApiError::new("a", 4, "b", "c")),
        publisher: None,
        sequence: None,
        follow_link: None,
        ..registered
    };
    check(
        Event::Registered(registered),
        r#"{"v":1,"type":"registered","path":"/d","manifest":"/d.p2p","link":null,"content_id":"00","bytes":0,"files":0,"no_code":{"code":"a","exit":4,"message":"b","hint":"c","message_code":"GEN-01"}}"#,
    );
    let link = "p2p:abc".into();
    let opened = Event::Opened(Opened { link });
    check(opened, r#"{"v":1,"type":"opened","link":"p2p:abc"}"#);
    let status = CodeStatus {
        number: 7,
        content_id: "00".into(),
        name: "d".into(),
        state: CodeState::Burned,
        expires_s: 0,
        once: false,
        opened: 2,
        wrong: 10,
    };
    check(
        Event::Code(status),
        r#"{"v":1,"type":"code","number":7,"content_id":"00","name":"d","state":"burned","expires_s":0,"once":false,"opened":2,"wrong":10}"#,
    );
}

#[test]
fn registered_without_a_link_says_null() {
    let event = Event::Registered(Registered {
        path: "/d".into(),
        manifest: "/d.p2p".into(),
        content_id: "00".into(),
        bytes: 0,
        files: 0,
        ..Registered::default()
    });
    check(
        event,
        r#"{"v":1,"type":"registered","path":"/d","manifest":"/d.p2p","link":null,"content_id":"00","bytes":0,"files":0}"#,
    );
}

#[test]
fn progress_is_this_json_and_its_extras_are_optional() {
    let mut progress = Progress {
        verified_bytes: 1,
        bytes: 2,
        rate_bytes_per_s: 3,
        peers: PeerCounts {
            lan: 4,
            direct: 5,
            relay: 6,
        },
        ..Progress::default()
    };
    check(
        Event::Progress(progress.clone()),
        r#"{"v":1,"type":"progress","verified_bytes":1,"bytes":2,"rate_bytes_per_s":3,"peers":{"lan":4,"direct":5,"relay":6}}"#,
    );
    progress.phase = Some(Phase::Waiting);
    progress.name = Some("film".into());
    progress.note = Some("no peer has it yet; waiting".into());
    progress.advice = Some("ask".into());
    check(
        Event::Progress(progress),
        r#"{"v":1,"type":"progress","verified_bytes":1,"bytes":2,"rate_bytes_per_s":3,"peers":{"lan":4,"direct":5,"relay":6},"phase":"waiting","name":"film","note":"no peer has it yet; waiting","advice":"ask"}"#,
    );
}

#[test]
fn what_a_paused_share_is_besides_is_optional_in_json() {
    let share = Share {
        content_id: "ab".into(),
        state: ShareState::Paused,
        also: Some(ShareState::Changed),
        complete: true,
        ..Share::default()
    };
    assert_eq!(share.state_words(), "paused, changed");
    assert!(share.has_changed());
    check(
        Event::Share(share),
        r#"{"v":1,"type":"share","content_id":"ab","name":"","bytes":0,"verified_bytes":0,"state":"paused","also":"changed","complete":true,"peers":{"lan":0,"direct":0,"relay":0},"direct_bytes":0,"relayed_bytes":0}"#,
    );
}

#[test]
fn done_is_this_json() {
    let event = Event::Done(Done {
        path: "/x".into(),
        content_id: "ab".into(),
        bytes: 9,
        files: None,
        seconds: 1.5,
        already: false,
        resumed: false,
        instead_of: None,
        renamed: None,
        repaired_bytes: None,
        kept: None,
    });
    check(
        event,
        r#"{"v":1,"type":"done","path":"/x","content_id":"ab","bytes":9,"seconds":1.5}"#,
    );
}

#[test]
fn what_was_there_already_and_what_was_repaired_is_this_json() {
    let done = Done {
        path: "/x".into(),
        content_id: "ab".into(),
        bytes: 9,
        files: None,
        seconds: 1.5,
        already: true,
        resumed: true,
        instead_of: Some("/z".into()),
        renamed: Some("y".into()),
        repaired_bytes: Some(3),
        kept: Some("/x.kept-1".into()),
    };
    check(
        Event::Done(done),
        r#"{"v":1,"type":"done","path":"/x","content_id":"ab","bytes":9,"seconds":1.5,"already":true,"resumed":true,"instead_of":"/z","renamed":"y","repaired_bytes":3,"kept":"/x.kept-1"}"#,
    );
}

#[test]
fn link_log_and_gone_are_this_json() {
    let link = ShareLink {
        content_id: "ab".into(),
        name: "film".into(),
        link: "p2p:abc".into(),
    };
    check(
        Event::Link(link),
        r#"{"v":1,"type":"link","content_id":"ab","name":"film","link":"p2p:abc"}"#,
    );
    let line = "INFO it runs".into();
    check(
        Event::Log(LogLine { line }),
        r#"{"v":1,"type":"log","line":"INFO it runs"}"#,
    );
    let (what, id) = ("share".into(), "ab".into());
    check(
        Event::Gone(Gone { what, id }),
        r#"{"v":1,"type":"gone","what":"share","id":"ab"}"#,
    );
}

#[test]
fn contents_are_this_json() {
    let file = FileStanding {
        path: "a/b".into(),
        bytes: 9,
        verified_bytes: 3,
        wanted: true,
    };
    let contents = Contents {
        content_id: "ab".into(),
        chunks: 3,
        chunks_here: 1,
        map: vec![100, 0, 0],
        files: vec![file],
        more_files: 0,
        peers: vec!["p".into()],
    };
    check(
        Event::Contents(contents),
        r#"{"v":1,"type":"contents","content_id":"ab","chunks":3,"chunks_here":1,"map":[100,0,0],"files":[{"path":"a/b","bytes":9,"verified_bytes":3,"wanted":true}],"more_files":0,"peers":["p"]}"#,
    );
}

#[test]
fn an_error_of_a_daemon_without_codes_is_unlisted() {
    let json = r#"{"v":1,"type":"error","code":"x","exit":1,"message":"m","hint":""}"#;
    match serde_json::from_str(json).unwrap() {
        Event::Error(error) => assert_eq!(error.message_code, "GEN-01"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_about_one_share_are_this_json() {
    let share = || "film".to_owned();
    let request = serde_json::to_string(&ShareRequest { share: share() }).unwrap();
    assert_eq!(request, r#"{"share":"film"}"#);
    for (data, json) in [
        (false, r#"{"share":"film"}"#),
        (true, r#"{"share":"film","data":true}"#),
    ] {
        let request = RemoveRequest {
            share: share(),
            data,
        };
        assert_eq!(serde_json::to_string(&request).unwrap(), json);
        assert_eq!(
            serde_json::from_str::<RemoveRequest>(json).unwrap(),
            request
        );
    }
    let source: Source = serde_json::from_str(r#"{"id":{"id":"ab"}}"#).unwrap();
    let (id, folder) = ("ab".to_owned(), false);
    assert_eq!(source, Source::Id { id, folder });
}

#[test]
fn error_is_this_json() {
    let event = ApiError::new("not_found", exit::NOT_FOUND, "no /film", "").into();
    check(
        event,
        r#"{"v":1,"type":"error","code":"not_found","exit":9,"message":"no /film","hint":"","message_code":"DISK-09"}"#,
    );
}

#[test]
fn peer_is_this_json() {
    let event = Event::Peer(Peer {
        peer: "abcdefgh".into(),
        path: PeerPath::Lan,
        address: "10.0.0.2:4000".into(),
        rtt_ms: 0.5,
        down_bytes: 1,
        up_bytes: 2,
        side: Role::Client,
        kind: Some(CandidateKind::Host),
        relayed_by: None,
        why_relayed: None,
        reached_ms: Some(7),
        unlimited: true,
        standing: Standing::Busy,
        standings: vec![ShareStanding {
            content_id: "ab".into(),
            standing: Standing::Busy,
            reason: "it serves others".into(),
            pause_ms: Some(250),
        }],
    });
    check(
        event,
        r#"{"v":1,"type":"peer","peer":"abcdefgh","path":"lan","address":"10.0.0.2:4000","rtt_ms":0.5,"down_bytes":1,"up_bytes":2,"side":"client","kind":"host","reached_ms":7,"unlimited":true,"standing":"busy","standings":[{"content_id":"ab","standing":"busy","reason":"it serves others","pause_ms":250}]}"#,
    );
}

#[test]
fn share_is_this_json() {
    let event = Event::Share(Share {
        content_id: "ab".into(),
        name: "film".into(),
        bytes: 5,
        verified_bytes: 4,
        state: ShareState::Seeding,
        peers: PeerCounts {
            lan: 0,
            direct: 2,
            relay: 1,
        },
        direct_bytes: 3,
        relayed_bytes: 1,
        files: Some(FileCounts {
            selected: 3,
            of: 12,
        }),
        up_bits_per_s: Some(64_000),
        ..Share::default()
    });
    check(
        event,
        r#"{"v":1,"type":"share","content_id":"ab","name":"film","bytes":5,"verified_bytes":4,"state":"seeding","peers":{"lan":0,"direct":2,"relay":1},"direct_bytes":3,"relayed_bytes":1,"files":{"selected":3,"of":12},"up_bits_per_s":64000}"#,
    );
}

#[test]
fn limits_are_this_json() {
    let event = Event::Limits(Limits {
        up_bits_per_s: Some(20_000_000),
        down_bits_per_s: None,
        background: true,
        lan_unlimited: false,
        exempt_peers: 0,
    });
    check(
        event,
        r#"{"v":1,"type":"limits","up_bits_per_s":20000000,"background":true,"lan_unlimited":false,"exempt_peers":0}"#,
    );
}

#[test]
fn tracker_is_this_json() {
    let event = Event::Tracker(Tracker {
        address: "example.org:59000".into(),
        key: "abc".into(),
        connected: true,
        way: Some(Way {
            transport: Transport::Tcp,
            port: 443,
        }),
        note: None,
        mapping: "endpoint-independent".into(),
        mapping_depends_on: Some("nothing".into()),
        filtering: "port-dependent".into(),
        fault: None,
        program: None,
        relays: None,
        hairpinning: Some(false),
    });
    check(
        event,
        r#"{"v":1,"type":"tracker","address":"example.org:59000","key":"abc","connected":true,"way":{"transport":"tcp","port":443},"mapping":"endpoint-independent","mapping_depends_on":"nothing","filtering":"port-dependent","hairpinning":false}"#,
    );
}

#[test]
fn a_way_says_its_port_when_it_is_another_one() {
    let way = |transport, port| Way { transport, port }.words("[2001:db8::1]:59000");
    assert_eq!(way(Transport::Udp, 59000), "by QUIC over UDP");
    assert_eq!(way(Transport::Udp, 443), "by QUIC over UDP at port 443");
    assert_eq!(
        way(Transport::Tcp, 443),
        "by TLS over TCP at port 443, since UDP does not get through"
    );
}

#[test]
fn port_mapping_is_this_json() {
    let open = Event::PortMapping(PortMapping {
        state: PortMappingState::Open,
        protocol: Some("PCP".into()),
        address: Some("203.0.113.7:6000".into()),
        note: "router opened UDP port 6000 (PCP)".into(),
    });
    check(
        open,
        r#"{"v":1,"type":"port_mapping","state":"open","protocol":"PCP","address":"203.0.113.7:6000","note":"router opened UDP port 6000 (PCP)"}"#,
    );
    let none = Event::PortMapping(PortMapping {
        state: PortMappingState::BehindNat,
        protocol: None,
        address: None,
        note: "none".into(),
    });
    check(
        none,
        r#"{"v":1,"type":"port_mapping","state":"behind-nat","note":"none"}"#,
    );
}

#[test]
fn findings_and_their_summary_are_this_json() {
    let mut finding = Finding {
        code: "PEER-04".into(),
        severity: Severity::Error,
        text: "None.".into(),
        action: Some("Ask.".into()),
    };
    check(
        Event::Finding(finding.clone()),
        r#"{"v":1,"type":"finding","code":"PEER-04","severity":"error","text":"None.","action":"Ask."}"#,
    );
    finding.action = None;
    check(
        Event::Finding(finding),
        r#"{"v":1,"type":"finding","code":"PEER-04","severity":"error","text":"None."}"#,
    );
    let summary = Event::Summary(Summary {
        tried: 6,
        direct: 3,
        relayed: 2,
        failed: 1,
        under_way: 4,
        techniques: Techniques {
            checks: 1,
            mutual_prediction: 2,
            ..Techniques::default()
        },
        median_ms: Some(104),
        exit: exit::OK,
    });
    check(
        summary,
        r#"{"v":1,"type":"summary","tried":6,"direct":3,"relayed":2,"failed":1,"under_way":4,"techniques":{"checks":1,"mutual-prediction":2},"median_ms":104,"exit":0}"#,
    );
}

#[test]
fn words_are_those_of_the_json() {
    for state in [
        ShareState::Hashing,
        ShareState::Waiting,
        ShareState::Metadata,
        ShareState::Downloading,
        ShareState::Seeding,
        ShareState::Changed,
        ShareState::Failed,
    ] {
        assert_eq!(serde_json::to_value(state).unwrap(), state.word());
    }
    for severity in [
        Severity::Ok,
        Severity::Note,
        Severity::Warning,
        Severity::Error,
    ] {
        assert_eq!(serde_json::to_value(severity).unwrap(), severity.word());
    }
    for path in [PeerPath::Lan, PeerPath::Direct, PeerPath::Relay] {
        assert_eq!(serde_json::to_value(path).unwrap(), path.word());
    }
    for reason in [
        Reason::Forbidden,
        Reason::RelayOnly,
        Reason::NoCandidates,
        Reason::Unguessable,
        Reason::Budget,
        Reason::TurnRefused,
        Reason::NoSample,
        Reason::NoTrickle,
        Reason::Superseded,
        Reason::NoAnswer,
        Reason::NoHandshake,
    ] {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.word());
    }
}

#[test]
fn fields_of_a_newer_daemon_are_ignored() {
    let json =
        r#"{"v":1,"type":"done","path":"/x","content_id":"a","bytes":1,"seconds":1.0,"new":[1]}"#;
    assert!(matches!(serde_json::from_str(json), Ok(Event::Done(_))));
}

#[test]
fn requests_are_this_json() {
    let manifest = DownloadRequest {
        source: Source::Manifest {
            bytes: vec![0, 255, 1],
        },
        wish: Wish::default(),
        to: None,
        if_exists: IfExists::Refuse,
        as_chosen: false,
    };
    let link = DownloadRequest {
        source: Source::Link {
            text: "p2p:x".into(),
        },
        wish: Wish {
            files: wish::Files {
                only: vec!["a/*".into()],
                except: Vec::new(),
            },
            ..Wish::default()
        },
        to: Some("/data".into()),
        if_exists: IfExists::Resume,
        as_chosen: false,
    };
    let manifest_json = r#"{"source":{"manifest":{"bytes":"AP8B"}}}"#;
    let link_json =
        r#"{"source":{"link":{"text":"p2p:x"}},"only":["a/*"],"to":"/data","if_exists":"resume"}"#;
    assert_eq!(serde_json::to_string(&manifest).unwrap(), manifest_json);
    assert_eq!(serde_json::to_string(&link).unwrap(), link_json);
    assert_eq!(
        serde_json::from_str::<DownloadRequest>(manifest_json).unwrap(),
        manifest
    );
    assert_eq!(
        serde_json::from_str::<DownloadRequest>(link_json).unwrap(),
        link
    );

    let select: SelectRequest =
        serde_json::from_str(r#"{"share":"a","files":{},"order":"sequential"}"#).unwrap();
    let change = Change {
        files: Some(wish::Files::default()),
        first: None,
        order: Some(wish::Order::Sequential),
    };
    let share = "a".to_owned();
    assert_eq!(select, SelectRequest { share, change });

    let register: RegisterRequest = serde_json::from_str(r#"{"path":"/a"}"#).unwrap();
    assert_eq!(
        register,
        RegisterRequest {
            path: "/a".into(),
            output: None,
            skip_special: false,
            update: false,
            code: None,
            expire_s: None,
            max_downloads: None,
        }
    );
    let too_many = RegisterRequest {
        max_downloads: Some(10_001),
        ..register
    };
    assert_eq!(too_many.checked_terms().unwrap_err().code, "bad_terms");
}

#[track_caller]
fn check(event: Event, json: &str) {
    assert_eq!(event.to_json(), json);
    assert_eq!(serde_json::from_str::<Event>(json).unwrap(), event);
}

#[test]
fn previews_are_this_json_and_send_no_p2p_back() {
    let preview = Preview {
        manifest: Some(b"p2p".to_vec()),
        present: false,
        path: "/d".into(),
        taken: None,
        free_bytes: None,
        signed: None,
    };
    let learnt = r#"{"v":1,"type":"preview","manifest":"cDJw","present":false,"path":"/d"}"#;
    check(Event::Preview(preview.clone()), learnt);
    let manifest = None;
    let of_p2p = r#"{"v":1,"type":"preview","present":false,"path":"/d"}"#;
    check(
        Event::Preview(Preview {
            manifest,
            ..preview
        }),
        of_p2p,
    );
}
