//! What is asked of servers, and what their answers change, with a node that only listens.

use tokio::net::UdpSocket;
use tokio::time::timeout;
use warren_proto::nat::ADDRESS_TOKEN;
use warren_proto::wire::{Candidate, CandidateKind, NatFiltering, NatMapping};

use super::*;
use crate::node::NodeEvent;
use crate::punch::Nat;
use crate::punch::survey::Finding;
use crate::punch::task::tests::Bench;

const OTHER: TrackerId = TrackerId(1);
const RTT: Duration = Duration::from_millis(50);

/// What takes the longest to happen here.
const DEADLINE: Duration = Duration::from_secs(30);

/// What may go within a minute to who does not answer (PROTOCOL.md, Checks).
const UNANSWERED_BYTES: usize = 3_000;

#[tokio::test]
async fn a_tracker_that_lies_has_no_more_sent_to_a_victim_than_anybody_may() {
    let (mut bench, victim) = (bench().await, socket().await);
    let server = victim.local_addr().unwrap();
    let mut now = Instant::now();
    // It has us connect again and again.
    for session in 0..200 {
        let session = [session; 16];
        let proving = Proving { server, session };
        bench.puncher.prove(now, OTHER, Some(proving)).await;
        now += RTT * 2;
        bench.puncher.time_proofs(now).await;
    }
    // Whatever has come before the last word.
    socket().await.send_to(&[], server).await.unwrap();
    let (mut bytes, mut buffer) = (0, [0; 256]);
    loop {
        let received = timeout(DEADLINE, victim.recv(&mut buffer)).await;
        match received.expect("the last word").unwrap() {
            0 => break,
            length => bytes += length + 28,
        }
    }
    assert!((1..=UNANSWERED_BYTES).contains(&bytes), "{bytes} bytes");
}

#[tokio::test]
async fn what_the_server_says_is_told_to_the_tracker() {
    let (mut bench, server) = (bench().await, socket().await);
    let at = server.local_addr().unwrap();
    let proving = Proving {
        server: at,
        session: [7; 16],
    };
    bench
        .puncher
        .prove(Instant::now(), OTHER, Some(proving))
        .await;
    let answer = answer_to(&server).await;
    bench
        .puncher
        .handle_proof(Instant::now(), OTHER, at, &answer)
        .await;
    let PathNews::Proven(tracker, proven) = bench.next().await else {
        panic!("something else");
    };
    assert_eq!((tracker, proven.token), (OTHER, [9; 16]));
    assert_eq!(proven.address, "203.0.113.7:5000".parse().unwrap());
    assert_eq!(bench.puncher.proofs.by_tracker.len(), 1);
    bench.puncher.prove(Instant::now(), OTHER, None).await;
    assert_eq!(bench.puncher.proofs.by_tracker.len(), 0);
}

#[tokio::test]
async fn nobody_is_asked_by_a_family_that_this_machine_has_not() {
    let (mut bench, server) = (bench().await, socket().await);
    bench.puncher.candidates = vec![host("[2001:db8::9]:5000")];
    let proving = Proving {
        server: server.local_addr().unwrap(),
        session: [7; 16],
    };
    let now = Instant::now();
    bench.puncher.prove(now, OTHER, Some(proving)).await;
    assert_eq!(bench.puncher.proofs.poll_timeout(), None);
    // Until it has.
    bench.puncher.candidates = vec![host("192.168.1.9:5000")];
    bench.puncher.prove_anew(now).await;
    answer_to(&server).await;
}

#[tokio::test]
async fn our_nat_is_told_with_the_proof_or_when_that_takes_too_long() {
    let (mut bench, server, now) = (bench().await, socket().await, Instant::now());
    let at = server.local_addr().unwrap();
    let proving = Proving {
        server: at,
        session: [7; 16],
    };
    let nat = Nat {
        mapping: NatMapping::EndpointIndependent,
        filtering: NatFiltering::PortDependent,
        ..Nat::default()
    };
    bench.puncher.prove(now, OWN, Some(proving)).await;
    bench.puncher.proofs.begin(now, by_ipv6(), RTT);
    bench.puncher.handle_finding(Some(Finding::Nat(nat))).await;
    while let Ok(event) = bench.events.try_recv() {
        assert!(!matches!(event, NodeEvent::Path(_)), "{event:?}");
    }
    let late = now + RTT * PATIENCE_RTTS;
    assert!(
        bench
            .puncher
            .proofs
            .poll_timeout()
            .is_some_and(|due| due <= late)
    );
    bench.puncher.tell_nat(late).await;
    let told = bench.next().await;
    let with_ipv6 = Nat {
        has_ipv6: true,
        ..nat
    };
    assert!(matches!(told, PathNews::Nat(told) if told == with_ipv6));
    // What is found later is told when it is found.
    bench.puncher.handle_finding(Some(Finding::Nat(nat))).await;
    assert!(matches!(bench.next().await, PathNews::Nat(_)));
}

#[tokio::test]
async fn who_came_by_ipv6_studies_its_nat_by_ipv4_once_that_leads_there() {
    let (mut bench, server, now) = (bench().await, socket().await, Instant::now());
    let at = server.local_addr().unwrap();
    let proving = Proving {
        server: at,
        session: [7; 16],
    };
    let own = by_ipv6();
    assert_eq!(bench.puncher.surveyed_at(own), own);
    bench.puncher.prove(now, OWN, Some(proving)).await;
    bench.puncher.proofs.begin(now, own, RTT);
    bench.puncher.survey.start_within(now, own, RTT);
    let answer = answer_to(&server).await;
    bench.puncher.handle_proof(now, OWN, at, &answer).await;
    let by_ipv4 = StunServer {
        main: at,
        other: Some(SocketAddr::new(at.ip(), 59_001)),
        alternate: None,
    };
    assert_eq!(bench.puncher.surveyed_at(own), by_ipv4);
    assert_eq!(bench.puncher.survey.server(), Some(at));
}

fn by_ipv6() -> StunServer {
    StunServer {
        main: "[2001:db8:5::1]:59000".parse().unwrap(),
        other: Some("[2001:db8:5::1]:59001".parse().unwrap()),
        alternate: None,
    }
}

/// Of a machine that has IPv4.
async fn bench() -> Bench {
    let mut bench = Bench::new();
    // Who waits for one socket finds out that the others can be written to.
    let any = socket().await;
    any.send_to(&[0], any.local_addr().unwrap()).await.unwrap();
    timeout(DEADLINE, any.recv(&mut [0]))
        .await
        .unwrap()
        .unwrap();
    bench.puncher.candidates = vec![host("192.168.1.9:5000")];
    bench
}

fn host(address: &str) -> Candidate {
    Candidate {
        kind: CandidateKind::Host,
        address: address.parse().unwrap(),
    }
}

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

/// What a tracker says to the next that asks: that it is at 203.0.113.7:5000, and a token.
async fn answer_to(server: &UdpSocket) -> Vec<u8> {
    let mut request = [0; 256];
    let asked = timeout(DEADLINE, server.recv(&mut request)).await;
    asked.expect("a question").unwrap();
    let mut answer = vec![1, 1, 0, 32];
    answer.extend_from_slice(&request[4..20]);
    // XOR-MAPPED-ADDRESS, then the token.
    answer.extend_from_slice(&[0, 0x20, 0, 8, 0, 1, 0x32, 0x9a, 0xea, 0x12, 0xd5, 0x45]);
    answer.extend_from_slice(&ADDRESS_TOKEN.to_be_bytes());
    answer.extend_from_slice(&[0, 16]);
    answer.extend_from_slice(&[9; 16]);
    answer
}
