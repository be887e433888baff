//! TLS over TCP between a daemon and a tracker, over real sockets: who gets through, what passes,
//! and what a stranger can do to it.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::error::TrySendError;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use warren_net::tls::{self, KeyVerifier};
use warren_net::{
    AcceptError, ConnectError, Expect, FrameError, Identity, Link, LinkError, Protocol, Relayed,
    TcpConnection, TcpListener, Tunnel, connect_tcp,
};
use warren_proto::id::{RelayId, SwarmId, TrackerPin};
use warren_proto::limits::DATAGRAM_BYTES;
use warren_proto::swarm::Transport;
use warren_proto::wire::{FromTracker, Hello, LinkFrame, ToTracker, encode};

#[tokio::test]
async fn both_ends_agree_on_keys_and_messages_pass_both_ways() {
    let (tracker, daemon) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let listener = listen(&tracker);
    let expect = Expect::Key(tracker.public_key());
    let (dialled, accepted) = meet(&listener, &daemon, expect).await;
    assert_eq!(dialled.peer_key(), tracker.public_key());
    assert_eq!(accepted.peer_key(), daemon.public_key());
    assert_eq!(dialled.remote_address(), listener.local_addr());
    let (dialled, accepted) = (Link::Tcp(dialled), Link::Tcp(accepted));
    assert_eq!(dialled.transport(), Transport::Tcp);
    let (mut from_tracker, mut to_tracker) = dialled.control().await.unwrap();
    let (mut from_daemon, mut to_daemon) = accepted.control().await.unwrap();
    assert!(matches!(dialled.control().await, Err(LinkError::Taken)));
    let hello = Hello {
        version: 1,
        features: 5,
    };
    to_tracker.send(&ToTracker::Hello(hello)).await.unwrap();
    let heard = from_daemon.recv().await.unwrap();
    assert_eq!(heard, Some(ToTracker::Hello(hello)));
    let busy = FromTracker::Busy { retry_after_s: 3 };
    to_daemon.send(&busy).await.unwrap();
    assert_eq!(from_tracker.recv().await.unwrap(), Some(busy));
}

#[tokio::test]
async fn another_key_than_expected_is_refused_and_named() {
    let tracker = Identity::generate().unwrap();
    let other = Identity::generate().unwrap().public_key();
    for expect in [Expect::Key(other), Expect::Pin(TrackerPin::of(&other))] {
        let listener = listen(&tracker);
        let addr = listener.local_addr();
        let accepting = accept_in_background(listener);
        let daemon = Identity::generate().unwrap();
        match connect_tcp(&daemon, addr, expect).await.unwrap_err() {
            ConnectError::KeyMismatch { presented, .. } => {
                assert_eq!(presented, tracker.public_key());
            }
            error => panic!("{error:?}"),
        }
        assert!(accepting.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn a_port_at_which_nobody_listens_is_refused() {
    let addr = listen(&Identity::generate().unwrap()).local_addr();
    let daemon = Identity::generate().unwrap();
    let refused = connect_tcp(&daemon, addr, Expect::Any).await;
    assert!(
        matches!(refused, Err(ConnectError::Refused { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    stranger_is_refused(|config| {
        config.client_auth_cert_resolver = Arc::new(Presents(None));
    })
    .await;
}

#[tokio::test]
async fn the_certificate_of_another_without_their_key_is_refused() {
    let victim = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = CertificateParams::new(vec!["warren".to_owned()]).unwrap();
    let victim = params.self_signed(&victim).unwrap().der().clone();
    let own = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    stranger_is_refused(|config| presents(config, victim, &own)).await;
}

#[tokio::test]
async fn a_client_certificate_that_is_garbage_is_refused() {
    let own = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let garbage = CertificateDer::from(vec![0xa5; 300]);
    stranger_is_refused(|config| presents(config, garbage, &own)).await;
}

#[tokio::test]
async fn who_speaks_another_protocol_or_none_is_refused() {
    stranger_is_refused(|config| config.alpn_protocols = vec![b"h2".to_vec()]).await;
    stranger_is_refused(|config| {
        config.alpn_protocols = vec![Protocol::Peer.alpn().to_vec()];
    })
    .await;
    stranger_is_refused(|config| config.alpn_protocols.clear()).await;
}

#[tokio::test]
async fn bytes_that_are_no_handshake_are_refused() {
    for garbage in [vec![0xff; 70_000], vec![0x16, 3, 1, 0xff, 0xff], vec![0; 9]] {
        let listener = listen(&Identity::generate().unwrap());
        let mut stranger = TcpStream::connect(listener.local_addr()).await.unwrap();
        let accepting = accept_in_background(listener);
        // It may be turned away before it has said everything.
        let _ = stranger.write_all(&garbage).await;
        let _ = stranger.shutdown().await;
        assert!(matches!(
            accepting.await.unwrap(),
            Err(AcceptError::Stream(_))
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_never_finished_ends_after_a_while() {
    let listener = listen(&Identity::generate().unwrap());
    let mut stranger = TcpStream::connect(listener.local_addr()).await.unwrap();
    // The beginning of a record that announces more.
    stranger.write_all(&[0x16, 3, 1, 0x40, 0]).await.unwrap();
    let incoming = listener.accept().await;
    assert_eq!(listener.handshakes_under_way(), 1);
    let ended = incoming.complete().await;
    assert!(matches!(ended, Err(AcceptError::TimedOut)), "{ended:?}");
    assert_eq!(listener.handshakes_under_way(), 0);
}

#[tokio::test]
async fn the_code_of_a_close_reaches_the_other_side() {
    let (dialled, accepted) = pair().await;
    let (mut reader, _writer) = dialled.take_control().unwrap();
    accepted.close(3);
    accepted.close(1);
    let ended = reader.recv::<FromTracker>().await;
    assert!(
        matches!(ended, Err(LinkError::Closed { code: 3 })),
        "{ended:?}"
    );
    accepted.finished().await;
}

#[tokio::test]
async fn the_last_handle_that_is_dropped_closes() {
    let (dialled, accepted) = pair().await;
    let (mut reader, _writer) = dialled.take_control().unwrap();
    let other_handle = accepted.clone();
    drop(accepted);
    assert!(other_handle.take_control().is_some());
    drop(other_handle);
    let ended = reader.recv::<FromTracker>().await;
    assert!(
        matches!(ended, Err(LinkError::Closed { code: 0 })),
        "{ended:?}"
    );
}

#[tokio::test]
async fn datagrams_pass_both_ways_and_what_is_too_long_does_not() {
    let (dialled, accepted) = pair().await;
    let (mut ours, mut theirs) = (run(&dialled), run(&accepted));
    for (from, to) in [(0, 1), (1, 0)] {
        let tunnels = [&mut ours, &mut theirs];
        tunnels[from]
            .outgoing
            .try_send(datagram(1, DATAGRAM_BYTES + 1))
            .unwrap();
        for length in [DATAGRAM_BYTES, 0, 1200] {
            let sent = datagram(2, length);
            tunnels[from].outgoing.try_send(sent.clone()).unwrap();
            assert_eq!(tunnels[to].incoming.recv().await, Some(sent));
        }
    }
}

#[tokio::test]
async fn datagrams_that_nobody_takes_are_dropped_and_counted() {
    let (mut stranger, accepted) = stranger().await;
    let swarm = SwarmId([1; 32]);
    for _ in 0..3 {
        let (relay, payload) = (RelayId([1; 12]), vec![0; 100]);
        let frame = encode(&LinkFrame::Datagram { relay, payload });
        stranger.write_all(&frame).await.unwrap();
    }
    let leave = ToTracker::Leave { swarm };
    stranger.write_all(&encode(&leave)).await.unwrap();
    stranger.flush().await.unwrap();
    let (mut reader, _writer) = accepted.take_control().unwrap();
    assert_eq!(reader.recv().await.unwrap(), Some(leave));
    assert_eq!(accepted.datagrams_dropped(), 3);
}

#[tokio::test]
async fn datagrams_beyond_the_queue_are_dropped_and_messages_still_come() {
    let (mut stranger, accepted) = stranger().await;
    let tunnel = accepted.take_tunnel().unwrap();
    let (mut reader, _writer) = accepted.take_control().unwrap();
    let leave = ToTracker::Leave {
        swarm: SwarmId([1; 32]),
    };
    let (relay, payload) = (RelayId([1; 12]), vec![0; 100]);
    let mut frames = encode(&LinkFrame::Datagram { relay, payload }).repeat(1000);
    frames.extend(encode(&leave));
    stranger.write_all(&frames).await.unwrap();
    stranger.flush().await.unwrap();
    assert_eq!(reader.recv().await.unwrap(), Some(leave));
    let kept = tunnel.incoming.len() as u64;
    assert!(kept > 0 && kept < 200, "{kept} wait");
    assert_eq!(accepted.datagrams_dropped(), 1000 - kept);
}

#[tokio::test]
async fn a_hostile_frame_ends_the_connection_before_it_is_read_whole() {
    let too_long = encode(&LinkFrame::Datagram {
        relay: RelayId([1; 12]),
        payload: vec![0; DATAGRAM_BYTES + 1],
    });
    let endless = vec![0xff, 0xff, 0xff, 0xff, 0, 0x30];
    let ping_with_more = vec![0, 0, 0, 3, 0, 0x31, 0];
    let garbage = vec![0xee; 64];
    for bytes in [too_long, endless, ping_with_more, garbage] {
        let (mut stranger, accepted) = stranger().await;
        stranger.write_all(&bytes).await.unwrap();
        stranger.flush().await.unwrap();
        let (mut reader, _writer) = accepted.take_control().unwrap();
        let ended = reader.recv::<ToTracker>().await;
        assert!(
            matches!(ended, Err(LinkError::Frame(FrameError::Decode(_)))),
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_within_a_frame_is_an_error() {
    let (mut stranger, accepted) = stranger().await;
    stranger.write_all(&[0, 0, 0, 9, 0, 1, 1]).await.unwrap();
    stranger.shutdown().await.unwrap();
    let (mut reader, _writer) = accepted.take_control().unwrap();
    let ended = reader.recv::<ToTracker>().await;
    assert!(
        matches!(ended, Err(LinkError::Frame(FrameError::Truncated))),
        "{ended:?}"
    );
}

#[tokio::test]
async fn who_says_nothing_for_a_minute_is_gone_even_with_a_frame_half_sent() {
    let (mut stranger, accepted) = stranger().await;
    stranger.write_all(&[0, 0, 0xff, 0, 0]).await.unwrap();
    stranger.flush().await.unwrap();
    let (mut reader, _writer) = accepted.take_control().unwrap();
    tokio::time::pause();
    let ended = reader.recv::<ToTracker>().await;
    assert!(matches!(ended, Err(LinkError::Silent(_))), "{ended:?}");
}

#[tokio::test]
async fn two_who_have_nothing_to_say_stay_connected() {
    let (dialled, accepted) = pair().await;
    let (mut ours, _to_them) = dialled.take_control().unwrap();
    let (mut theirs, _to_us) = accepted.take_control().unwrap();
    tokio::time::pause();
    tokio::select! {
        ended = ours.recv::<FromTracker>() => panic!("{ended:?}"),
        ended = theirs.recv::<ToTracker>() => panic!("{ended:?}"),
        () = tokio::time::sleep(Duration::from_secs(600)) => (),
    }
}

#[tokio::test]
async fn who_does_not_read_is_given_up_and_takes_no_more_memory_meanwhile() {
    let (_stranger, accepted) = stranger().await;
    let (_reader, mut writer) = accepted.take_control().unwrap();
    tokio::time::pause();
    let news = FromTracker::Left {
        swarm: SwarmId([1; 32]),
        peer: accepted.peer_key(),
    };
    let mut sent = 0u64;
    while writer.send(&news).await.is_ok() {
        sent += 1;
        // What the kernel takes for both ends, and a few that wait here.
        assert!(sent * 70 < 64 << 20, "nothing stops it");
    }
    accepted.finished().await;
}

#[tokio::test]
async fn who_does_not_read_does_not_hold_up_a_close() {
    let (_stranger, accepted) = stranger().await;
    let (_reader, mut writer) = accepted.take_control().unwrap();
    tokio::time::pause();
    let busy = FromTracker::Busy { retry_after_s: 3 };
    // With the clock paused this times out once the kernel takes no more.
    let full = Duration::from_millis(1);
    while let Ok(sent) = tokio::time::timeout(full, writer.send(&busy)).await {
        sent.unwrap();
    }
    let asked = tokio::time::Instant::now();
    accepted.close(2);
    accepted.finished().await;
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "it waited to write"
    );
}

#[tokio::test]
async fn a_message_overtakes_the_datagrams_that_wait() {
    let (dialled, accepted) = pair().await;
    let Tunnel { outgoing, .. } = accepted.take_tunnel().unwrap();
    let (_reader, mut writer) = accepted.take_control().unwrap();
    tokio::time::pause();
    let mut number = 0u32;
    let mut refused = 0;
    // With the clock paused a sleep ends when nothing else can go on: then the queue is full
    // because nothing is read at the other end.
    while refused < 2 {
        let mut marked = datagram(1, 1200);
        marked.bytes = Bytes::copy_from_slice(&number.to_be_bytes());
        match outgoing.try_send(marked) {
            Ok(()) => (number, refused) = (number + 1, 0),
            Err(TrySendError::Full(_)) => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(TrySendError::Closed(_)) => panic!("the connection broke"),
        }
    }
    let busy = FromTracker::Busy { retry_after_s: 3 };
    writer.send(&busy).await.unwrap();
    tokio::time::resume();
    let mut tunnel = dialled.take_tunnel().unwrap();
    let (mut reader, _writer) = dialled.take_control().unwrap();
    let reading = tokio::spawn(async move {
        let heard = reader.recv::<FromTracker>().await;
        (heard, reader)
    });
    let (heard, mut reader) = reading.await.unwrap();
    assert_eq!(heard.unwrap(), Some(busy));
    while tunnel.incoming.try_recv().is_ok() {}
    let rest = tokio::spawn(async move { reader.recv::<FromTracker>().await });
    let first_after = tunnel.incoming.recv().await.unwrap();
    let first_after = u32::from_be_bytes(first_after.bytes[..].try_into().unwrap());
    assert!(
        number - first_after >= 100,
        "{first_after} of {number} went before it"
    );
    rest.abort();
}

fn listen(identity: &Identity) -> TcpListener {
    TcpListener::bind("127.0.0.1:0".parse().unwrap(), identity).unwrap()
}

async fn pair() -> (TcpConnection, TcpConnection) {
    let listener = listen(&Identity::generate().unwrap());
    meet(&listener, &Identity::generate().unwrap(), Expect::Any).await
}

async fn meet(
    listener: &TcpListener,
    daemon: &Identity,
    expect: Expect,
) -> (TcpConnection, TcpConnection) {
    let accepting = async { listener.accept().await.complete().await };
    let dialling = connect_tcp(daemon, listener.local_addr(), expect);
    let (dialled, accepted) = tokio::join!(dialling, accepting);
    (dialled.unwrap(), accepted.unwrap())
}

fn accept_in_background(
    listener: TcpListener,
) -> tokio::task::JoinHandle<Result<TcpConnection, AcceptError>> {
    tokio::spawn(async move { listener.accept().await.complete().await })
}

/// Reads in the background, as whoever uses a connection does.
fn run(connection: &TcpConnection) -> Tunnel {
    let (mut reader, writer) = connection.take_control().unwrap();
    tokio::spawn(async move {
        let _writer = writer;
        while let Ok(Some(_)) = reader.recv::<ToTracker>().await {}
    });
    connection.take_tunnel().unwrap()
}

fn datagram(id: u8, length: usize) -> Relayed {
    Relayed {
        id: RelayId([id; 12]),
        bytes: vec![0x40; length].into(),
    }
}

fn client_config() -> rustls::ClientConfig {
    let own = Identity::generate().unwrap();
    tls::client_config(&own, Protocol::Tracker, KeyVerifier::new(Expect::Any)).unwrap()
}

async fn dial(
    addr: SocketAddr,
    config: rustls::ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from("warren").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// A client that writes what it likes after the handshake.
async fn stranger() -> (TlsStream<TcpStream>, TcpConnection) {
    let listener = listen(&Identity::generate().unwrap());
    let addr = listener.local_addr();
    let accepting = accept_in_background(listener);
    let stranger = dial(addr, client_config()).await.unwrap();
    (stranger, accepting.await.unwrap().unwrap())
}

/// Dials with a TLS client that is not quite ours.
async fn stranger_is_refused(bend: impl FnOnce(&mut rustls::ClientConfig)) {
    let listener = listen(&Identity::generate().unwrap());
    let addr = listener.local_addr();
    let accepting = accept_in_background(listener);
    let mut config = client_config();
    bend(&mut config);
    if let Ok(mut stream) = dial(addr, config).await {
        // A TLS 1.3 client is done before the server has seen its certificate.
        let _ = stream.read(&mut [0; 1]).await;
    }
    let refused = accepting.await.unwrap();
    assert!(
        matches!(refused, Err(AcceptError::Stream(_) | AcceptError::Unusable)),
        "{refused:?}"
    );
}

fn presents(
    config: &mut rustls::ClientConfig,
    certificate: CertificateDer<'static>,
    key: &KeyPair,
) {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let certified = rustls::sign::CertifiedKey::new(vec![certificate], key);
    config.client_auth_cert_resolver = Arc::new(Presents(Some(Arc::new(certified))));
}

/// Presents one certificate, or none, whatever the server asks for.
#[derive(Debug)]
struct Presents(Option<Arc<rustls::sign::CertifiedKey>>);

impl rustls::client::ResolvesClientCert for Presents {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}
