//! Properties every message type shares: round trips, canonical form, no panic, bounds.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::technique::TECHNIQUES;
use super::*;
use crate::code::{Body, Closed, Ended, ExchangeId, Nameplate};
use crate::content::chunks::Run;
use crate::follow::{Head, PublisherId, PublisherKey, Version};
use crate::id::{ContentId, Kind, PublicKey, RelayId, SwarmId};
use crate::limits::{
    CANDIDATES, CODE_MESSAGE_BYTES, DATAGRAM_BYTES, FRAME_BYTES, NAME_BYTES, PEERS_PER_ANSWER,
    RUNS_PER_FRAME,
};
use crate::proof::{Proof, Side};

/// Every type code in use, and a few that are not.
const KINDS: std::ops::Range<u16> = 0..0x0090;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn to_tracker_round_trips(message in to_tracker()) {
        check_round_trip(&message);
    }

    #[test]
    fn from_tracker_round_trips(message in from_tracker()) {
        check_round_trip(&message);
    }

    #[test]
    fn link_frames_are_read_as_they_were_written(frame in link_frame()) {
        let body = frame.encode_body();
        prop_assert_eq!(LinkFrame::decode(frame.kind(), &body), Ok(Some(frame)));
    }

    #[test]
    fn peer_messages_round_trip(message in peer_message()) {
        check_round_trip(&message);
    }

    #[test]
    fn peer_requests_round_trip(message in peer_request()) {
        check_round_trip(&message);
    }

    #[test]
    fn peer_answers_round_trip(message in peer_answer()) {
        check_round_trip(&message);
    }

    #[test]
    fn random_bytes_never_panic_and_what_decodes_is_canonical(
        kind in KINDS,
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        check_every_decoder(kind, &body);
    }

    #[test]
    fn a_bent_message_never_panics_and_stays_canonical(
        message in from_tracker(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = message.encode_body();
        let at = at.index(body.len());
        body[at] = byte;
        check_every_decoder(message.kind(), &body);
        body.truncate(cut.index(body.len()));
        check_every_decoder(message.kind(), &body);
    }

    #[test]
    fn random_headers_never_allow_more_than_the_limit(bytes: [u8; 6], max in 0usize..1 << 20) {
        if let Ok(header) = Header::decode(bytes, max) {
            prop_assert!(header.body_len + 2 <= max);
        }
    }
}

#[test]
fn the_largest_messages_fit_a_frame() {
    let run = Run {
        start: u32::MAX,
        count: u32::MAX,
    };
    let chunks = Bounded::truncated(std::iter::repeat_n(run, RUNS_PER_FRAME));
    check_fits(&PeerMessage::Have {
        alias: u32::MAX,
        chunks,
    });
    let member = Member {
        peer: PublicKey([255; 32]),
        state: MemberState::Seed,
    };
    check_fits(&FromTracker::Peers {
        swarm: SwarmId([255; 32]),
        seeds: u32::MAX,
        leeches: u32::MAX,
        sample: Bounded::truncated(std::iter::repeat_n(member, PEERS_PER_ANSWER)),
    });
}

#[test]
fn lists_and_names_one_over_their_limit_are_refused() {
    let candidate = Candidate {
        kind: CandidateKind::Host,
        address: ([10, 0, 0, 1], 5000).into(),
    };
    let too_many = (
        vec![candidate; CANDIDATES + 1],
        NatMapping::Unknown,
        NatFiltering::Unknown,
    );
    check_refused::<ToTracker>(0x0012, &postcard::to_stdvec(&too_many).unwrap());
    let member = Member {
        peer: PublicKey([1; 32]),
        state: MemberState::Seed,
    };
    let too_many = ([1u8; 10], vec![Technique::Checks; TECHNIQUES + 1]);
    check_refused::<FromTracker>(
        0x0029,
        &postcard::to_stdvec(&(1_u64, "x".repeat(65))).unwrap(),
    );
    check_refused::<FromTracker>(0x0028, &postcard::to_stdvec(&too_many).unwrap());
    let too_long = ([1u8; 8], vec![1u8; CODE_MESSAGE_BYTES + 1]);
    check_refused::<ToTracker>(0x0073, &postcard::to_stdvec(&too_long).unwrap());
    check_refused::<FromTracker>(0x007a, &postcard::to_stdvec(&too_long).unwrap());
    let too_many = (
        SwarmId([1; 32]),
        1u32,
        1u32,
        vec![member; PEERS_PER_ANSWER + 1],
    );
    check_refused::<FromTracker>(0x0021, &postcard::to_stdvec(&too_many).unwrap());
    let too_many = (1u32, vec![Run { start: 0, count: 1 }; RUNS_PER_FRAME + 1]);
    for kind in [0x0043, 0x0044, 0x0045] {
        check_refused::<PeerMessage>(kind, &postcard::to_stdvec(&too_many).unwrap());
    }
    let too_long = (1u32, 1u64, "n".repeat(NAME_BYTES + 1));
    check_refused::<PeerMessage>(0x0042, &postcard::to_stdvec(&too_long).unwrap());
    let observed = SocketAddr::from(([192, 0, 2, 1], 5000));
    let too_long = (
        observed,
        Some("n".repeat(tracker::PUBLIC_BYTES + 1)),
        None::<u16>,
        1u32,
        1u32,
    );
    check_refused::<FromTracker>(0x0020, &postcard::to_stdvec(&too_long).unwrap());
}

#[test]
fn an_unknown_type_is_skipped_whatever_its_body() {
    assert_eq!(ToTracker::decode(0x7fff, &[255; 9]), Ok(None));
    assert_eq!(FromTracker::decode(0x0010, &[255; 9]), Ok(None));
    assert_eq!(PeerMessage::decode(0x0050, &[255; 9]), Ok(None));
    assert_eq!(PeerRequest::decode(0x0001, &[255; 9]), Ok(None));
    assert_eq!(PeerAnswer::decode(0x0050, &[255; 9]), Ok(None));
}

#[test]
fn a_rendezvous_never_prints_its_secret() {
    let rendezvous = Rendezvous {
        id: [0; 10],
        secret: [0xab; 32],
        swarm: SwarmId([0; 32]),
        peer: PublicKey([0; 32]),
        side: Side::Client,
        candidates: Bounded::new(),
        mapping: NatMapping::Unknown,
        filtering: NatFiltering::Unknown,
        wait_ms: 0,
        paths: Paths::Any,
        relay: None,
    };
    let printed = format!("{rendezvous:?}");
    assert!(
        !printed.contains("171") && !printed.contains(&rendezvous.password()),
        "{printed}"
    );
    assert_eq!(
        (rendezvous.username().len(), rendezvous.password().len()),
        (16, 52)
    );
}

#[track_caller]
fn check_round_trip<M: Message + PartialEq + std::fmt::Debug>(message: &M) {
    let frame = encode(message);
    let (header, body) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
    let header = Header::decode(*header, FRAME_BYTES).unwrap();
    assert_eq!(
        header,
        Header {
            kind: message.kind(),
            body_len: body.len()
        }
    );
    assert_eq!(
        M::decode(header.kind, body).unwrap().as_ref(),
        Some(message)
    );
    check_refused::<M>(header.kind, &[body, &[0]].concat());
    check_refused::<M>(header.kind, &body[..body.len() - 1]);
}

#[track_caller]
fn check_refused<M: Message>(kind: u16, body: &[u8]) {
    assert!(
        M::decode(kind, body).is_err(),
        "type {kind:#06x} accepted {} bytes",
        body.len()
    );
}

#[track_caller]
fn check_fits<M: Message + PartialEq + std::fmt::Debug>(message: &M) {
    assert!(encode(message).len() <= FRAME_BYTES);
    check_round_trip(message);
}

fn check_every_decoder(kind: u16, body: &[u8]) {
    check_canonical::<ToTracker>(kind, body);
    check_canonical::<FromTracker>(kind, body);
    check_canonical::<LinkFrame>(kind, body);
    check_canonical::<OnLink<ToTracker>>(kind, body);
    check_canonical::<OnLink<FromTracker>>(kind, body);
    check_canonical::<PeerMessage>(kind, body);
    check_canonical::<PeerRequest>(kind, body);
    check_canonical::<PeerAnswer>(kind, body);
}

fn check_canonical<M: Message>(kind: u16, body: &[u8]) {
    if let Ok(Some(message)) = M::decode(kind, body) {
        assert_eq!(
            (message.kind(), message.encode_body().as_slice()),
            (kind, body)
        );
    }
}

fn hello() -> impl Strategy<Value = Hello> {
    any::<(u16, u64)>().prop_map(|(version, features)| Hello { version, features })
}

fn swarm() -> impl Strategy<Value = SwarmId> {
    any::<[u8; 32]>().prop_map(SwarmId)
}

fn peer() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_map(PublicKey)
}

fn state() -> impl Strategy<Value = MemberState> {
    prop::sample::select(vec![MemberState::Leech, MemberState::Seed])
}

fn member() -> impl Strategy<Value = Member> {
    (peer(), state()).prop_map(|(peer, state)| Member { peer, state })
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from),
    ]
}

fn candidates() -> impl Strategy<Value = Bounded<Candidate, CANDIDATES>> {
    use CandidateKind::*;
    let kind = prop::sample::select(vec![Host, ServerReflexive, PeerReflexive, Mapped, Relayed]);
    let candidate = (kind, address()).prop_map(|(kind, address)| Candidate { kind, address });
    prop::collection::vec(candidate, 0..=CANDIDATES).prop_map(Bounded::truncated)
}

fn mapping() -> impl Strategy<Value = NatMapping> {
    prop_oneof![
        Just(NatMapping::Unknown),
        Just(NatMapping::EndpointIndependent),
        Just(NatMapping::AddressDependent),
        any::<i16>().prop_map(|step| NatMapping::Sequential { step }),
        any::<(u16, u16)>().prop_map(|(low, high)| NatMapping::Random { low, high }),
    ]
}

fn technique() -> impl Strategy<Value = Technique> {
    prop::sample::select(&Technique::ALL[..])
}

fn techniques() -> impl Strategy<Value = Bounded<Technique, TECHNIQUES>> {
    prop::collection::vec(technique(), 0..=TECHNIQUES).prop_map(Bounded::truncated)
}

fn filtering() -> impl Strategy<Value = NatFiltering> {
    use NatFiltering::*;
    prop::sample::select(vec![Unknown, PortIndependent, PortDependent, Clashing])
}

fn paths() -> impl Strategy<Value = Paths> {
    prop::sample::select(vec![Paths::Any, Paths::DirectOnly, Paths::RelayOnly])
}

fn rendezvous() -> impl Strategy<Value = Rendezvous> {
    let names = any::<([u8; 10], [u8; 32], u16)>();
    let nat = (mapping(), filtering());
    let relay = any::<Option<[u8; 12]>>().prop_map(|id| id.map(RelayId));
    let other = (
        peer(),
        prop::sample::select(vec![Side::Client, Side::Server]),
    );
    (names, swarm(), other, candidates(), nat, (paths(), relay)).prop_map(
        |((id, secret, wait_ms), swarm, (peer, side), candidates, nat, (paths, relay))| {
            Rendezvous {
                id,
                secret,
                swarm,
                peer,
                side,
                candidates,
                mapping: nat.0,
                filtering: nat.1,
                wait_ms,
                paths,
                relay,
            }
        },
    )
}

fn code_message() -> impl Strategy<Value = (ExchangeId, Body)> {
    let message = prop::collection::vec(any::<u8>(), 0..=CODE_MESSAGE_BYTES);
    let exchange = any::<[u8; 8]>().prop_map(ExchangeId);
    (exchange, message.prop_map(Body::truncated))
}

fn closed() -> impl Strategy<Value = (ExchangeId, Closed)> {
    use Closed::*;
    let reason = prop::sample::select(vec![
        Unknown,
        Expired,
        Used,
        Burned,
        Withdrawn,
        Absent,
        Busy,
        TooManyGuesses,
        WrongWords,
        Late,
        Malformed,
    ]);
    (any::<[u8; 8]>().prop_map(ExchangeId), reason)
}

fn code_request() -> impl Strategy<Value = CodeRequest> {
    use Ended::*;
    let ended = prop::sample::select(vec![Expired, Used, Burned, Withdrawn]);
    prop_oneof![
        any::<(u32, Option<u16>, u32)>().prop_map(|(ticket, nameplate, lifetime_s)| {
            CodeRequest::Claim {
                ticket,
                nameplate: nameplate.map(Nameplate),
                lifetime_s,
            }
        }),
        (any::<u16>().prop_map(Nameplate), ended)
            .prop_map(|(nameplate, ended)| CodeRequest::Release { nameplate, ended }),
        (any::<u16>(), code_message()).prop_map(|(number, (exchange, message))| {
            CodeRequest::Open {
                nameplate: Nameplate(number),
                exchange,
                message,
            }
        }),
        code_message().prop_map(|(exchange, message)| CodeRequest::Pass { exchange, message }),
        closed().prop_map(|(exchange, reason)| CodeRequest::Close { exchange, reason }),
    ]
}

fn code_news() -> impl Strategy<Value = CodeNews> {
    let result = prop_oneof![
        any::<u16>().prop_map(|number| Claimed::Kept(Nameplate(number))),
        Just(Claimed::TooMany),
        Just(Claimed::Taken),
    ];
    prop_oneof![
        (any::<u32>(), result).prop_map(|(ticket, result)| CodeNews::Claimed { ticket, result }),
        (any::<u16>(), code_message()).prop_map(|(number, (exchange, message))| {
            CodeNews::Opened {
                nameplate: Nameplate(number),
                exchange,
                message,
            }
        }),
        code_message().prop_map(|(exchange, message)| CodeNews::Passed { exchange, message }),
        closed().prop_map(|(exchange, reason)| CodeNews::Closed { exchange, reason }),
    ]
}

fn head() -> impl Strategy<Value = Head> {
    any::<([u8; 32], u64)>().prop_map(|(seed, sequence)| {
        let version = Version {
            kind: Kind::Tree,
            id: ContentId(seed),
            secret: None,
            signed_unix_s: sequence,
        };
        PublisherKey::of(&seed).unwrap().sign(sequence, &version)
    })
}

fn publisher() -> impl Strategy<Value = PublisherId> {
    any::<[u8; 16]>().prop_map(PublisherId)
}

fn follow_request() -> impl Strategy<Value = FollowRequest> {
    prop_oneof![
        head().prop_map(FollowRequest::Give),
        publisher().prop_map(|publisher| FollowRequest::Follow { publisher }),
        publisher().prop_map(|publisher| FollowRequest::Unfollow { publisher }),
    ]
}

fn follow_news() -> impl Strategy<Value = FollowNews> {
    use Given::*;
    let result = prop::sample::select(vec![Kept, Older, Differs, Invalid, TooMany]);
    prop_oneof![
        (publisher(), any::<u64>(), result).prop_map(|(publisher, sequence, result)| {
            FollowNews::Given {
                publisher,
                sequence,
                result,
            }
        }),
        (publisher(), prop::option::of(head()))
            .prop_map(|(publisher, head)| FollowNews::Newest { publisher, head }),
        publisher().prop_map(|publisher| FollowNews::TooMany { publisher }),
    ]
}

fn to_tracker() -> impl Strategy<Value = ToTracker> {
    prop_oneof![
        code_request().prop_map(ToTracker::Code),
        follow_request().prop_map(ToTracker::Follow),
        hello().prop_map(ToTracker::Hello),
        (swarm(), state(), any::<u8>()).prop_map(|(swarm, state, introductions)| {
            ToTracker::Announce {
                swarm,
                state,
                introductions,
            }
        }),
        swarm().prop_map(|swarm| ToTracker::Leave { swarm }),
        (candidates(), mapping(), filtering(), paths()).prop_map(
            |(candidates, mapping, filtering, paths)| ToTracker::Situation {
                candidates,
                mapping,
                filtering,
                paths,
            }
        ),
        (swarm(), peer()).prop_map(|(swarm, peer)| ToTracker::Introduce { swarm, peer }),
        any::<(u16, [u8; 12])>().prop_map(|(port, token)| ToTracker::Echo { port, token }),
        (address(), any::<[u8; 16]>())
            .prop_map(|(address, token)| ToTracker::Prove { address, token }),
        (any::<([u8; 10], u16)>(), mapping())
            .prop_map(|((id, port), mapping)| ToTracker::Trickle { id, port, mapping }),
        (any::<([u8; 10], bool)>(), technique()).prop_map(|((id, success), technique)| {
            ToTracker::Outcome {
                id,
                technique,
                success,
            }
        }),
    ]
}

fn from_tracker() -> impl Strategy<Value = FromTracker> {
    let public = prop::option::of("[a-z.:0-9]{0,259}");
    let sample = prop::collection::vec(member(), 0..=PEERS_PER_ANSWER);
    prop_oneof![
        code_news().prop_map(FromTracker::Code),
        follow_news().prop_map(FromTracker::Follow),
        hello().prop_map(FromTracker::Hello),
        (
            address(),
            public,
            [prop::option::of(address()), prop::option::of(address())],
            any::<(Option<u16>, [u8; 16], u32, u32)>()
        )
            .prop_map(|(observed, public, [alternate, other_family], rest)| {
                let (stun_port, session, announce_interval_s, retry_after_s) = rest;
                FromTracker::Welcome {
                    observed,
                    public,
                    stun_port,
                    alternate,
                    other_family,
                    session,
                    announce_interval_s,
                    retry_after_s,
                }
            }),
        (swarm(), any::<(u32, u32)>(), sample).prop_map(|(swarm, (seeds, leeches), sample)| {
            FromTracker::Peers {
                swarm,
                seeds,
                leeches,
                sample: Bounded::truncated(sample),
            }
        }),
        (swarm(), member()).prop_map(|(swarm, member)| FromTracker::Joined { swarm, member }),
        (swarm(), peer()).prop_map(|(swarm, peer)| FromTracker::Left { swarm, peer }),
        rendezvous().prop_map(FromTracker::Rendezvous),
        (swarm(), peer()).prop_map(|(swarm, peer)| FromTracker::NoSuchPeer { swarm, peer }),
        any::<u32>().prop_map(|retry_after_s| FromTracker::Busy { retry_after_s }),
        (any::<[u8; 10]>(), address(), mapping()).prop_map(|(id, address, mapping)| {
            FromTracker::Trickled {
                id,
                address,
                mapping,
            }
        }),
        (any::<[u8; 10]>(), techniques())
            .prop_map(|(id, techniques)| FromTracker::Advice { id, techniques }),
        (any::<u64>(), "[ -~]{0,64}")
            .prop_map(|(unix_ms, program)| FromTracker::About { unix_ms, program }),
    ]
}

fn link_frame() -> impl Strategy<Value = LinkFrame> {
    let payload = prop::collection::vec(any::<u8>(), 0..=DATAGRAM_BYTES);
    prop_oneof![
        (any::<[u8; 12]>(), payload).prop_map(|(relay, payload)| LinkFrame::Datagram {
            relay: RelayId(relay),
            payload,
        }),
        Just(LinkFrame::Ping),
        any::<u32>().prop_map(|code| LinkFrame::Close { code }),
    ]
}

fn runs() -> impl Strategy<Value = Bounded<Run, RUNS_PER_FRAME>> {
    let run = any::<(u32, u32)>().prop_map(|(start, count)| Run { start, count });
    prop::collection::vec(run, 0..40).prop_map(Bounded::truncated)
}

fn peer_message() -> impl Strategy<Value = PeerMessage> {
    let alias = any::<u32>();
    prop_oneof![
        hello().prop_map(PeerMessage::Hello),
        (alias, swarm(), any::<[u8; 32]>()).prop_map(|(alias, swarm, proof)| {
            PeerMessage::Join {
                alias,
                swarm,
                proof: Proof(proof),
            }
        }),
        swarm().prop_map(|swarm| PeerMessage::Refused { swarm }),
        (alias, any::<u64>(), "\\PC{0,63}").prop_map(|(alias, size, name)| PeerMessage::Describe {
            alias,
            size,
            name
        }),
        (alias, runs()).prop_map(|(alias, chunks)| PeerMessage::Have { alias, chunks }),
        (alias, runs()).prop_map(|(alias, chunks)| PeerMessage::Started { alias, chunks }),
        (alias, runs()).prop_map(|(alias, chunks)| PeerMessage::Lost { alias, chunks }),
        (alias, runs()).prop_map(|(alias, chunks)| PeerMessage::Suggest { alias, chunks }),
        alias.prop_map(|alias| PeerMessage::Leave { alias }),
        (alias, peer()).prop_map(|(alias, peer)| PeerMessage::RelayAsk { alias, peer }),
        (any::<[u8; 12]>(), peer(), any::<u16>()).prop_map(|(id, peer, rtt_ms)| {
            let id = RelayId(id);
            PeerMessage::RelayOpen { id, peer, rtt_ms }
        }),
        (
            peer(),
            prop::sample::select(vec![NoRelay::Off, NoRelay::NotConnected, NoRelay::Full])
        )
            .prop_map(|(peer, reason)| PeerMessage::RelayRefused { peer, reason }),
        (alias, any::<bool>())
            .prop_map(|(alias, supplied)| PeerMessage::Supplied { alias, supplied }),
        any::<bool>().prop_map(|yields| PeerMessage::Yield { yields }),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    prop::sample::select(vec![Part::Content, Part::Listing])
}

fn peer_request() -> impl Strategy<Value = PeerRequest> {
    prop_oneof![
        (any::<(u32, u32, u32, u32)>(), part()).prop_map(|((alias, chunk, offset, len), part)| {
            PeerRequest::Chunk {
                alias,
                part,
                chunk,
                offset,
                len,
            }
        }),
        (any::<u32>(), part()).prop_map(|(alias, part)| PeerRequest::Hashes { alias, part }),
        (any::<u32>(), part(), any::<u32>()).prop_map(|(alias, part, chunk)| PeerRequest::Grains {
            alias,
            part,
            chunk
        }),
    ]
}

fn peer_answer() -> impl Strategy<Value = PeerAnswer> {
    use NoReason::*;
    let reason = prop::sample::select(vec![NotHere, Busy, Changed, Unknown]);
    prop_oneof![
        any::<u64>().prop_map(|bytes| PeerAnswer::Data { bytes }),
        reason.prop_map(|reason| PeerAnswer::No { reason }),
    ]
}
