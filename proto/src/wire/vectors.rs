//! PROTOCOL.md shows one frame of every message; here each is encoded and decoded again.
//!
//! Shared values in the document: swarm `11` x 32, peer `22` x 32, proof `33` x 32, secret
//! `44` x 32.

use std::fmt::Debug;
use std::net::{Ipv6Addr, SocketAddr};

use super::*;
use crate::code::{Body, Closed, Ended, ExchangeId, Nameplate};
use crate::content::chunks::Run;
use crate::follow::{PublisherKey, Version};
use crate::id::{ContentId, Kind, PublicKey, RelayId, Secret, SwarmId};
use crate::proof::{self, Proof, Side};

const DOCUMENT: &str = include_str!("../../PROTOCOL.md");

const SWARM: SwarmId = SwarmId([0x11; 32]);
const PEER: PublicKey = PublicKey([0x22; 32]);
const HELLO: Hello = Hello {
    version: 1,
    features: 5,
};

#[test]
fn to_tracker() {
    check("tracker hello", &ToTracker::Hello(HELLO));
    let state = MemberState::Seed;
    check(
        "announce",
        &ToTracker::Announce {
            swarm: SWARM,
            state,
            introductions: 30,
        },
    );
    check("leave swarm", &ToTracker::Leave { swarm: SWARM });
    let mapping = NatMapping::Sequential { step: -2 };
    check(
        "situation",
        &ToTracker::Situation {
            candidates: candidates(),
            mapping,
            filtering: NatFiltering::PortDependent,
            paths: Paths::RelayOnly,
        },
    );
    check(
        "introduce",
        &ToTracker::Introduce {
            swarm: SWARM,
            peer: PEER,
        },
    );
    let token = [0x99; 12];
    check("echo", &ToTracker::Echo { port: 5000, token });
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let (address, token) = ((v6, 5000).into(), [0x99; 16]);
    check("prove", &ToTracker::Prove { address, token });
    let id = [0x55; 10];
    check(
        "trickle",
        &ToTracker::Trickle {
            id,
            port: 5000,
            mapping,
        },
    );
    check(
        "outcome",
        &ToTracker::Outcome {
            id,
            technique: Technique::Birthday,
            success: true,
        },
    );
}

#[test]
fn codes() {
    let (nameplate, exchange) = (Nameplate(7), ExchangeId([0x88; 8]));
    let message = Body::truncated([0x99; 32]);
    let to = |name, request| check(name, &ToTracker::Code(request));
    let claim = |nameplate| CodeRequest::Claim {
        ticket: 5,
        nameplate,
        lifetime_s: 3600,
    };
    to("claim", claim(None));
    to("claim again", claim(Some(nameplate)));
    let ended = Ended::Burned;
    to("release", CodeRequest::Release { nameplate, ended });
    let open = CodeRequest::Open {
        nameplate,
        exchange,
        message: message.clone(),
    };
    to("open", open);
    let pass = CodeRequest::Pass {
        exchange,
        message: message.clone(),
    };
    to("pass", pass);
    let reason = Closed::WrongWords;
    to("close exchange", CodeRequest::Close { exchange, reason });
    let from = |name, news| check(name, &FromTracker::Code(news));
    let claimed = |result| CodeNews::Claimed { ticket: 5, result };
    from("claimed", claimed(Claimed::Kept(nameplate)));
    from("claimed by another", claimed(Claimed::Taken));
    let opened = CodeNews::Opened {
        nameplate,
        exchange,
        message: message.clone(),
    };
    from("opened", opened);
    from("passed", CodeNews::Passed { exchange, message });
    from("closed", CodeNews::Closed { exchange, reason });
}

#[test]
fn following() {
    let key = PublisherKey::of(&[0x66; 32]).unwrap();
    let version = Version {
        kind: Kind::Tree,
        id: ContentId([0x77; 32]),
        secret: None,
        signed_unix_s: 1_700_000_000,
    };
    let head = key.sign(300, &version);
    let publisher = key.id();
    let to = |name, request| check(name, &ToTracker::Follow(request));
    to("give", FollowRequest::Give(head.clone()));
    to("follow", FollowRequest::Follow { publisher });
    to("unfollow", FollowRequest::Unfollow { publisher });
    let from = |name, news| check(name, &FromTracker::Follow(news));
    from(
        "given",
        FollowNews::Given {
            publisher,
            sequence: 300,
            result: Given::Older,
        },
    );
    from(
        "newest",
        FollowNews::Newest {
            publisher,
            head: Some(head.clone()),
        },
    );
    from(
        "newest of an unknown publisher",
        FollowNews::Newest {
            publisher,
            head: None,
        },
    );
    from("too many follows", FollowNews::TooMany { publisher });
    check_bytes("read secret of a publisher", &key.read().0);
    assert_eq!(head.open(&key.read()), Some(version));
}

#[test]
fn from_tracker() {
    let member = Member {
        peer: PEER,
        state: MemberState::Leech,
    };
    check("tracker hello", &FromTracker::Hello(HELLO));
    check("welcome", &welcome(Some("warren.example:59000".into())));
    check("welcome without public address", &welcome(None));
    let sample = Bounded::truncated([member]);
    check(
        "peers",
        &FromTracker::Peers {
            swarm: SWARM,
            seeds: 1,
            leeches: 300,
            sample,
        },
    );
    check(
        "joined",
        &FromTracker::Joined {
            swarm: SWARM,
            member,
        },
    );
    check(
        "left",
        &FromTracker::Left {
            swarm: SWARM,
            peer: PEER,
        },
    );
    check(
        "rendezvous",
        &FromTracker::Rendezvous(Rendezvous {
            id: [0x55; 10],
            secret: [0x44; 32],
            swarm: SWARM,
            peer: PEER,
            side: Side::Server,
            candidates: candidates(),
            mapping: NatMapping::Random {
                low: 1024,
                high: 65535,
            },
            filtering: NatFiltering::Clashing,
            wait_ms: 50,
            paths: Paths::Any,
            relay: Some(RelayId([0x55; 12])),
        }),
    );
    check(
        "no such peer",
        &FromTracker::NoSuchPeer {
            swarm: SWARM,
            peer: PEER,
        },
    );
    check("busy", &FromTracker::Busy { retry_after_s: 60 });
    let id = [0x55; 10];
    check(
        "trickled",
        &FromTracker::Trickled {
            id,
            address: ([203, 0, 113, 7], 5000).into(),
            mapping: NatMapping::EndpointIndependent,
        },
    );
    let techniques = Bounded::truncated([Technique::BlockSpray, Technique::Checks]);
    check("advice", &FromTracker::Advice { id, techniques });
    check(
        "about",
        &FromTracker::About {
            unix_ms: 1,
            program: "warren 0.1.0".into(),
        },
    );
}

#[test]
fn on_tls_over_tcp() {
    check(
        "datagram",
        &LinkFrame::Datagram {
            relay: RelayId([0x55; 12]),
            payload: vec![0x40, 0x41, 0x42],
        },
    );
    check("ping", &LinkFrame::Ping);
    check("close", &LinkFrame::Close { code: 3 });
}

#[test]
fn control_stream_between_peers() {
    let chunks = Bounded::truncated([
        Run { start: 0, count: 3 },
        Run {
            start: 300,
            count: 1,
        },
    ]);
    check("peer hello", &PeerMessage::Hello(HELLO));
    check(
        "join",
        &PeerMessage::Join {
            alias: 7,
            swarm: SWARM,
            proof: Proof([0x33; 32]),
        },
    );
    check("refused", &PeerMessage::Refused { swarm: SWARM });
    let name = "film.mkv".to_owned();
    check(
        "describe",
        &PeerMessage::Describe {
            alias: 7,
            size: 1 << 30,
            name,
        },
    );
    check(
        "have",
        &PeerMessage::Have {
            alias: 7,
            chunks: chunks.clone(),
        },
    );
    check(
        "started",
        &PeerMessage::Started {
            alias: 7,
            chunks: chunks.clone(),
        },
    );
    let lost = PeerMessage::Lost {
        alias: 7,
        chunks: chunks.clone(),
    };
    check("lost", &lost);
    check("suggest", &PeerMessage::Suggest { alias: 7, chunks });
    check(
        "relay ask",
        &PeerMessage::RelayAsk {
            alias: 7,
            peer: PEER,
        },
    );
    check(
        "relay open",
        &PeerMessage::RelayOpen {
            id: RelayId([0x55; 12]),
            peer: PEER,
            rtt_ms: 300,
        },
    );
    check(
        "relay refused",
        &PeerMessage::RelayRefused {
            peer: PEER,
            reason: NoRelay::NotConnected,
        },
    );
    check(
        "supplied",
        &PeerMessage::Supplied {
            alias: 7,
            supplied: true,
        },
    );
    check("yield", &PeerMessage::Yield { yields: true });
    check("leave alias", &PeerMessage::Leave { alias: 7 });
}

#[test]
fn request_streams_between_peers() {
    let (alias, part) = (7, Part::Content);
    let len = 524_288;
    check(
        "chunk",
        &PeerRequest::Chunk {
            alias,
            part,
            chunk: 300,
            offset: 65_536,
            len,
        },
    );
    check(
        "hashes",
        &PeerRequest::Hashes {
            alias,
            part: Part::Listing,
        },
    );
    check(
        "grains",
        &PeerRequest::Grains {
            alias,
            part,
            chunk: 300,
        },
    );
    check("answer data", &PeerAnswer::Data { bytes: 524_288 });
    check(
        "answer no",
        &PeerAnswer::No {
            reason: NoReason::Changed,
        },
    );
}

#[test]
fn proofs() {
    let (content, secret) = (ContentId([0x66; 32]), Secret([0x77; 16]));
    let prove = |secret, side| proof::prove(&content, secret, &[0x88; 32], side, &PEER).0;
    check_bytes("proof client", &prove(None, Side::Client));
    check_bytes("proof server", &prove(None, Side::Server));
    check_bytes("proof private", &prove(Some(&secret), Side::Client));
    check_bytes("swarm id file", &SwarmId::of(Kind::File, &content, None).0);
}

#[test]
fn every_vector_of_the_document_is_checked() {
    let source = include_str!("vectors.rs");
    for line in DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("vector "))
    {
        let name = line.split(':').next().unwrap();
        assert!(
            source.contains(&format!("{name:?}")),
            "{name} is checked nowhere"
        );
    }
}

fn welcome(public: Option<String>) -> FromTracker {
    let observed = SocketAddr::from(([203, 0, 113, 7], 5000));
    let alternate = public.is_some().then(|| ([192, 0, 2, 2], 59001).into());
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let public_v6 = public.is_some().then(|| (v6, 59000).into());
    FromTracker::Welcome {
        observed,
        public,
        stun_port: Some(59001),
        alternate,
        other_family: public_v6,
        session: [0x77; 16],
        announce_interval_s: 60,
        retry_after_s: 5,
    }
}

fn candidates() -> Bounded<Candidate, 8> {
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    Bounded::truncated([
        Candidate {
            kind: CandidateKind::Host,
            address: ([192, 168, 1, 2], 5000).into(),
        },
        Candidate {
            kind: CandidateKind::Mapped,
            address: (v6, 65535).into(),
        },
    ])
}

#[track_caller]
fn check<M: Message + PartialEq + Debug>(name: &str, message: &M) {
    let frame = encode(message);
    check_bytes(name, &frame);
    let (header, body) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
    let header = Header::decode(*header, crate::limits::FRAME_BYTES).unwrap();
    assert_eq!(
        M::decode(header.kind, body).unwrap().as_ref(),
        Some(message)
    );
}

/// A vector is a line `vector NAME: HEX`, where `HEX` may hold spaces and `NNxCOUNT` repetitions.
#[track_caller]
fn check_bytes(name: &str, bytes: &[u8]) {
    let prefix = format!("vector {name}: ");
    let hex = DOCUMENT
        .lines()
        .find_map(|line| line.strip_prefix(&prefix))
        .unwrap_or("missing");
    let expanded: String = hex.split(' ').map(expand).collect();
    let actual = data_encoding::HEXLOWER.encode(bytes);
    assert_eq!(expanded, actual, "{prefix}");
}

fn expand(word: &str) -> String {
    match word.split_once('x') {
        Some((byte, count)) => byte.repeat(count.parse().unwrap()),
        None => word.to_owned(),
    }
}
