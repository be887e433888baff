//! What the tests of connections over real sockets share.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses a part of it"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::timeout;

use warren_net::{
    AcceptError, Connection, Endpoint, Expected, Identity, Profile, Protocol, Unsolicited,
};

/// For what must happen. Nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn endpoint(identity: &Identity, unsolicited: Unsolicited) -> Endpoint {
    let loopback = "127.0.0.1:0".parse().unwrap();
    let serves = [Protocol::Peer];
    Endpoint::bind_with(loopback, identity, &serves, Profile::Daemon, unsolicited).unwrap()
}

/// What a check does that has proven `remote`.
#[track_caller]
pub fn open(endpoint: &Endpoint, route: SocketAddr, remote: SocketAddr) {
    assert!(endpoint.socket().admit(route, remote));
    assert!(endpoint.socket().point(route, remote));
}

pub fn accept_in_background(listening: &Endpoint) -> JoinHandle<Result<Connection, AcceptError>> {
    let listening = listening.clone();
    tokio::spawn(async move { listening.accept().await.unwrap().complete().await })
}

/// Lets the other side send much at once, until this is dropped.
pub fn expect_much(connection: &Connection) -> Expected {
    connection.expect(64 << 20)
}

/// Sends that many bytes on a stream of its own, and ends when all have been acknowledged.
pub fn pour(connection: &Connection, bytes: usize) -> JoinHandle<()> {
    let connection = connection.clone();
    connection.set_send_window(16 << 20);
    tokio::spawn(async move {
        let (mut send, _receive) = connection.quinn().open_bi().await.unwrap();
        let piece = bytes::Bytes::from(vec![7; 1 << 20]);
        for _ in 0..bytes / piece.len() {
            send.write_chunk(piece.clone()).await.unwrap();
        }
        send.finish().unwrap();
        timeout(PATIENCE, send.stopped()).await.unwrap().unwrap();
    })
}

pub async fn read_to_end(mut receive: quinn::RecvStream) -> usize {
    let mut read = 0;
    let mut chunks: Vec<bytes::Bytes> = vec![bytes::Bytes::new(); 64];
    while let Some(count) = timeout(PATIENCE, receive.read_chunks(&mut chunks))
        .await
        .unwrap()
        .unwrap()
    {
        read += chunks[..count].iter().map(bytes::Bytes::len).sum::<usize>();
    }
    read
}

/// What a connection moves, in MB/s.
pub async fn rate((dialled, accepted): (Connection, Connection)) -> f64 {
    const BYTES: usize = 1 << 30;
    let _expected = expect_much(&dialled);
    let started = Instant::now();
    let sending = pour(&accepted, BYTES);
    let receive = dialled.quinn().accept_bi().await.unwrap().1;
    assert_eq!(read_to_end(receive).await, BYTES);
    sending.await.unwrap();
    BYTES as f64 / 1e6 / started.elapsed().as_secs_f64()
}

/// A few bytes there and back.
pub async fn echo(dialled: &Connection, accepted: &Connection) {
    let there_and_back = async {
        let (mut send, mut receive) = dialled.quinn().open_bi().await.unwrap();
        send.write_all(b"ping").await.unwrap();
        let (mut back, mut heard) = accepted.quinn().accept_bi().await.unwrap();
        let mut bytes = [0; 4];
        heard.read_exact(&mut bytes).await.unwrap();
        back.write_all(&bytes).await.unwrap();
        receive.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"ping");
    };
    timeout(PATIENCE, there_and_back).await.unwrap();
}

pub async fn wait_until(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap();
}
