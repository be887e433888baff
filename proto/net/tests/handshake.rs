//! Who gets through a handshake and who does not, over real sockets.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use warren_net::tls::{self, KeyVerifier};
use warren_net::{
    AcceptError, ConnectError, Connection, Endpoint, Expect, FrameError, FrameReader, FrameWriter,
    IDLE_WINDOW_BYTES, Identity, Profile, Protocol,
};
use warren_proto::id::TrackerPin;
use warren_proto::proof::Side;
use warren_proto::wire::{FromTracker, Hello, ToTracker};

#[tokio::test]
async fn both_ends_agree_on_keys_sides_and_exporter() {
    let (server, client) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let listening = listen(&server, Profile::Daemon, Protocol::Peer);
    let (dialled, accepted) = meet(
        &dialler(&client),
        &listening,
        Protocol::Peer,
        Expect::Key(server.public_key()),
    )
    .await;
    assert_eq!(dialled.peer_key(), server.public_key());
    assert_eq!(accepted.peer_key(), client.public_key());
    assert_eq!(
        (dialled.side(), accepted.side()),
        (Side::Client, Side::Server)
    );
    assert_eq!(dialled.protocol(), Protocol::Peer);
    assert_eq!(dialled.exporter(b"swarm"), accepted.exporter(b"swarm"));
    assert_ne!(dialled.exporter(b"swarm"), accepted.exporter(b"other"));
    assert_eq!(dialled.remote_address(), listening.local_addr());
    assert!(accepted.remote_address().is_ipv4());
}

#[tokio::test]
async fn sockets_without_ipv6_meet_too() {
    let listening = listen(
        &Identity::generate().unwrap(),
        Profile::Tracker,
        Protocol::Tracker,
    );
    let own = Identity::generate().unwrap();
    let client = Endpoint::bind(loopback(), &own, &[], Profile::Daemon).unwrap();
    let (dialled, accepted) = meet(&client, &listening, Protocol::Tracker, Expect::Any).await;
    assert_eq!(dialled.remote_address(), listening.local_addr());
    assert_eq!(accepted.remote_address(), client.local_addr());
}

#[tokio::test]
async fn a_stranger_may_send_little_and_a_peer_what_is_asked_of_it() {
    let (server, client) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let listening = listen(&server, Profile::Daemon, Protocol::Peer);
    let (stranger, accepted) =
        meet(&dialler(&client), &listening, Protocol::Peer, Expect::Any).await;
    stranger.set_send_window(16 << 20);
    // Over several streams, none of which is ever read.
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(stranger.quinn().open_bi().await.unwrap().0);
    }
    assert_eq!(pour(&mut streams).await, IDLE_WINDOW_BYTES as usize);

    let one = accepted.expect(1 << 20);
    let two = accepted.expect(2 << 20);
    assert_eq!(pour(&mut streams).await, 3 << 20);
    assert_eq!(accepted.unspent_bytes(), 0);
    // What it may send still, for all we know, is not granted a second time.
    drop((one, two));
    assert_eq!(accepted.unspent_bytes(), 3 << 20);
    let _three = accepted.expect(4 << 20);
    assert_eq!(pour(&mut streams).await, 1 << 20);
}

#[tokio::test]
async fn what_comes_is_asked_for_once() {
    const PIECE: usize = 1 << 20;
    let (server, client) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let listening = listen(&server, Profile::Daemon, Protocol::Peer);
    let (peer, accepted) = meet(&dialler(&client), &listening, Protocol::Peer, Expect::Any).await;
    peer.set_send_window(16 << 20);
    let mut streams = [peer.quinn().open_bi().await.unwrap().0];
    let mut unread = None;
    for _ in 0..3 {
        let mut expected = accepted.expect(PIECE as u64);
        let sent = pour(&mut streams).await;
        if unread.is_none() {
            assert_eq!(sent, PIECE + IDLE_WINDOW_BYTES as usize);
            unread = Some(accepted.quinn().accept_bi().await.unwrap().1);
        } else {
            assert!(sent <= PIECE + READ, "{sent} bytes");
            assert!(sent >= PIECE - READ, "{sent} bytes");
        }
        let mut left = PIECE;
        while left > 0 {
            let mut piece = vec![0; READ.min(left)];
            let read = unread.as_mut().unwrap().read(&mut piece).await;
            let read = read.unwrap().unwrap();
            expected.received(read as u64);
            left -= read;
        }
    }
}

/// Read at once, at most.
const READ: usize = 64 << 10;

/// Writes on all streams until none takes more for a while, but no more than 8 MiB.
async fn pour(streams: &mut [quinn::SendStream]) -> usize {
    let piece = vec![7; 16 * 1024];
    let mut taken = 0;
    let stuck = std::time::Duration::from_millis(300);
    while taken < 8 << 20 {
        let mut moved = 0;
        for stream in streams.iter_mut() {
            let sent_before = stream.write(&piece);
            if let Ok(Ok(count)) = tokio::time::timeout(stuck, sent_before).await {
                moved += count;
            }
        }
        if moved == 0 {
            break;
        }
        taken += moved;
    }
    taken
}

#[tokio::test]
async fn an_exporter_belongs_to_one_connection() {
    let (server, client) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let listening = listen(&server, Profile::Daemon, Protocol::Peer);
    let dialler = dialler(&client);
    let (first, _first) = meet(&dialler, &listening, Protocol::Peer, Expect::Any).await;
    let (second, _second) = meet(&dialler, &listening, Protocol::Peer, Expect::Any).await;
    assert_ne!(first.exporter(b"swarm"), second.exporter(b"swarm"));
}

#[tokio::test]
async fn the_right_pin_is_accepted() {
    let server = Identity::generate().unwrap();
    let listening = listen(&server, Profile::Tracker, Protocol::Tracker);
    let pin = Expect::Pin(TrackerPin::of(&server.public_key()));
    let client = dialler(&Identity::generate().unwrap());
    let (dialled, _accepted) = meet(&client, &listening, Protocol::Tracker, pin).await;
    assert_eq!(dialled.peer_key(), server.public_key());
}

#[tokio::test]
async fn another_key_than_expected_is_refused_and_named() {
    let other = Identity::generate().unwrap().public_key();
    for expect in [Expect::Key(other), Expect::Pin(TrackerPin::of(&other))] {
        let server = Identity::generate().unwrap();
        let listening = listen(&server, Profile::Tracker, Protocol::Tracker);
        let client = dialler(&Identity::generate().unwrap());
        let accepting = accept_in_background(&listening);
        let refused = client
            .connect(listening.local_addr(), Protocol::Tracker, expect)
            .await;
        match refused.unwrap_err() {
            ConnectError::KeyMismatch { presented, .. } => {
                assert_eq!(presented, server.public_key());
            }
            error => panic!("{error:?}"),
        }
        assert!(accepting.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn a_protocol_that_is_not_served_is_refused() {
    let listening = listen(
        &Identity::generate().unwrap(),
        Profile::Tracker,
        Protocol::Tracker,
    );
    let client = dialler(&Identity::generate().unwrap());
    let accepting = accept_in_background(&listening);
    let refused = client
        .connect(listening.local_addr(), Protocol::Peer, Expect::Any)
        .await;
    assert!(
        matches!(refused, Err(ConnectError::Refused { .. })),
        "{refused:?}"
    );
    assert!(accepting.await.unwrap().is_err());
}

#[tokio::test]
async fn a_client_certificate_of_another_kind_is_refused() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = self_signed(&key);
    client_certificate_is_refused(certificate, &key).await;
}

#[tokio::test]
async fn the_certificate_of_another_without_their_key_is_refused() {
    let victim = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let own = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    client_certificate_is_refused(self_signed(&victim), &own).await;
}

#[tokio::test]
async fn a_client_certificate_that_is_garbage_is_refused() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    client_certificate_is_refused(CertificateDer::from(vec![0xa5; 300]), &key).await;
}

#[tokio::test]
async fn frames_pass_unknown_types_are_skipped_and_the_end_is_clean() {
    let (dialled, accepted) = peers().await;
    let (send, _receive) = dialled.quinn().open_bi().await.unwrap();
    let mut writer = FrameWriter::new(send);
    writer
        .stream()
        .write_all(&[0, 0, 0, 4, 0x7f, 0xff, 1, 2])
        .await
        .unwrap();
    let hello = Hello {
        version: 1,
        features: 5,
    };
    writer.send(&ToTracker::Hello(hello)).await.unwrap();
    writer.into_inner().finish().unwrap();

    let (_send, receive) = accepted.quinn().accept_bi().await.unwrap();
    let mut reader = FrameReader::new(receive);
    assert_eq!(reader.recv().await.unwrap(), Some(ToTracker::Hello(hello)));
    assert_eq!(reader.recv::<ToTracker>().await.unwrap(), None);
}

#[tokio::test]
async fn a_frame_beyond_the_cap_is_refused_before_its_body_arrives() {
    let (dialled, accepted) = peers().await;
    let (mut send, _receive) = dialled.quinn().open_bi().await.unwrap();
    send.write_all(&[0xff, 0xff, 0xff, 0xff, 0, 1])
        .await
        .unwrap();
    let (_send, receive) = accepted.quinn().accept_bi().await.unwrap();
    let refused = FrameReader::new(receive).recv::<ToTracker>().await;
    assert!(matches!(refused, Err(FrameError::Decode(_))), "{refused:?}");
}

#[tokio::test]
async fn a_stream_that_ends_within_a_frame_is_an_error() {
    let (dialled, accepted) = peers().await;
    let (mut send, _receive) = dialled.quinn().open_bi().await.unwrap();
    send.write_all(&[0, 0, 0, 9, 0, 1, 1]).await.unwrap();
    send.finish().unwrap();
    let (_send, receive) = accepted.quinn().accept_bi().await.unwrap();
    let refused = FrameReader::new(receive).recv::<ToTracker>().await;
    assert!(matches!(refused, Err(FrameError::Truncated)), "{refused:?}");
}

#[tokio::test]
async fn a_read_given_up_half_way_loses_nothing() {
    let (dialled, accepted) = peers().await;
    let (send, _receive) = dialled.quinn().open_bi().await.unwrap();
    let mut writer = FrameWriter::new(send);
    let frame = warren_proto::wire::encode(&FromTracker::Busy { retry_after_s: 300 });
    writer.stream().write_all(&frame[..4]).await.unwrap();
    let (_send, receive) = accepted.quinn().accept_bi().await.unwrap();
    let mut reader = FrameReader::new(receive);
    tokio::select! {
        biased;
        received = reader.recv::<FromTracker>() => panic!("{received:?}"),
        () = tokio::time::sleep(std::time::Duration::from_millis(50)) => (),
    }
    writer.stream().write_all(&frame[4..]).await.unwrap();
    let received = reader.recv().await.unwrap();
    assert_eq!(received, Some(FromTracker::Busy { retry_after_s: 300 }));
}

#[tokio::test]
async fn stun_reaches_its_taker_beside_a_live_connection() {
    let (server, client) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let listening = listen(&server, Profile::Daemon, Protocol::Peer);
    let mut stun = listening.socket().take_stun();
    let dialler = dialler(&client);
    let (dialled, _accepted) = meet(&dialler, &listening, Protocol::Peer, Expect::Any).await;
    dialler
        .socket()
        .send_raw(&[0, 1, 2, 3], listening.local_addr());
    let received = stun.recv().await.unwrap();
    assert_eq!(received.bytes.as_ref(), [0, 1, 2, 3]);
    assert_eq!(received.from.port(), dialler.local_addr().port());
    assert!(dialled.quinn().close_reason().is_none());
}

#[track_caller]
fn listen(identity: &Identity, profile: Profile, protocol: Protocol) -> Endpoint {
    Endpoint::bind(loopback(), identity, &[protocol], profile).unwrap()
}

#[track_caller]
fn dialler(identity: &Identity) -> Endpoint {
    Endpoint::bind("[::]:0".parse().unwrap(), identity, &[], Profile::Daemon).unwrap()
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn peers() -> (Connection, Connection) {
    let listening = listen(
        &Identity::generate().unwrap(),
        Profile::Daemon,
        Protocol::Peer,
    );
    let client = dialler(&Identity::generate().unwrap());
    meet(&client, &listening, Protocol::Peer, Expect::Any).await
}

async fn meet(
    client: &Endpoint,
    listening: &Endpoint,
    protocol: Protocol,
    expect: Expect,
) -> (Connection, Connection) {
    let accepting = accept_in_background(listening);
    let dialled = client
        .connect(listening.local_addr(), protocol, expect)
        .await
        .unwrap();
    (dialled, accepting.await.unwrap().unwrap())
}

fn accept_in_background(
    listening: &Endpoint,
) -> tokio::task::JoinHandle<Result<Connection, AcceptError>> {
    let listening = listening.clone();
    tokio::spawn(async move { listening.accept().await.unwrap().complete().await })
}

fn self_signed(key: &KeyPair) -> CertificateDer<'static> {
    let params = CertificateParams::new(vec!["warren".to_owned()]).unwrap();
    params.self_signed(key).unwrap().der().clone()
}

/// Dials with a plain quinn client that presents `certificate` and signs with `key`.
async fn client_certificate_is_refused(certificate: CertificateDer<'static>, key: &KeyPair) {
    let listening = listen(
        &Identity::generate().unwrap(),
        Profile::Tracker,
        Protocol::Tracker,
    );
    let accepting = accept_in_background(&listening);
    let key = rustls::crypto::ring::sign::any_supported_type(
        &PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    )
    .unwrap();
    let resolver = Presents(Arc::new(rustls::sign::CertifiedKey::new(
        vec![certificate],
        key,
    )));
    let own = Identity::generate().unwrap();
    let verifier = KeyVerifier::new(Expect::Any);
    let mut config = tls::client_config(&own, Protocol::Tracker, verifier).unwrap();
    config.client_auth_cert_resolver = Arc::new(resolver);
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    let client = quinn::Endpoint::client(loopback()).unwrap();
    let connecting = client
        .connect_with(config, listening.local_addr(), "warren")
        .unwrap();
    if let Ok(connection) = connecting.await {
        // A TLS 1.3 client is done before the server has seen its certificate.
        connection.closed().await;
    }
    assert!(matches!(
        accepting.await.unwrap(),
        Err(AcceptError::Failed(_))
    ));
}

/// Presents one certificate whatever the server asks for.
#[derive(Debug)]
struct Presents(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Presents {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
