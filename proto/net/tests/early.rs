//! What a server may say before its client has proven its key, over real sockets.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use warren_net::{
    AcceptError, Class, Connection, Endpoint, Expect, Handshake, Identity, Profile, Protocol,
};

/// For what must happen. Nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_server_speaks_before_the_client_has_proven_its_key() {
    let (server, client) = (Side::new(), Side::new());
    client.admits(&server);
    server.admits(&client);
    let dialling = client.dial(&server);
    let handshake = server.answer().await;
    let early = handshake.early().unwrap().clone();
    assert!(early.is_early());
    assert_eq!(early.peer_key(), client.identity.public_key());
    let mut said = early.quinn().open_uni().await.unwrap();
    said.write_all(b"early").await.unwrap();
    let early_secret = early.exporter(b"swarm");

    let dialled = timeout(PATIENCE, dialling).await.unwrap().unwrap();
    let mut hears = timeout(PATIENCE, dialled.quinn().accept_uni())
        .await
        .unwrap()
        .unwrap();
    let mut heard = [0; 5];
    timeout(PATIENCE, hears.read_exact(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&heard, b"early");

    let finished = timeout(PATIENCE, handshake.finish())
        .await
        .unwrap()
        .unwrap();
    assert!(finished.is_same(&early) && !finished.is_early());
    assert_eq!(early_secret, finished.exporter(b"swarm"));
    assert_eq!(early_secret, dialled.exporter(b"swarm"));
    assert_ne!(early_secret, early.exporter(b"another swarm"));
}

#[tokio::test]
async fn what_is_said_early_does_not_outlive_a_client_with_another_key() {
    let (server, client, other) = (Side::new(), Side::new(), Side::new());
    client.admits(&server);
    // Checks came from there in the name of another peer.
    let route = other.route_at(&server);
    let from = client.endpoint.local_addr();
    assert!(server.endpoint.socket().admit(route, from));
    assert!(server.endpoint.socket().point(route, from));
    let dialling = client.dial(&server);
    let handshake = server.answer().await;
    let early = handshake.early().unwrap().clone();
    assert_eq!(early.peer_key(), other.identity.public_key());
    let finished = timeout(PATIENCE, handshake.finish()).await.unwrap();
    assert!(matches!(finished, Err(AcceptError::Unusable)));
    timeout(PATIENCE, early.closed()).await.unwrap();
    // The client may have taken its part of the handshake for the whole.
    if let Ok(dialled) = timeout(PATIENCE, dialling).await.unwrap() {
        timeout(PATIENCE, dialled.closed()).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_speaks_early_to_a_client_that_could_be_anyone() {
    let (server, client) = (Side::new(), Side::new());
    let dialling = {
        let (endpoint, to) = (client.endpoint.clone(), server.endpoint.local_addr());
        tokio::spawn(async move { endpoint.connect(to, Protocol::Peer, Expect::Any).await })
    };
    let handshake = server.answer().await;
    assert!(handshake.early().is_none());
    assert!(handshake.finish().await.is_ok());
    assert!(dialling.await.unwrap().is_ok());
}

struct Side {
    identity: Identity,
    endpoint: Endpoint,
}

impl Side {
    fn new() -> Side {
        let identity = Identity::generate().unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::bind(any, &identity, &[Protocol::Peer], Profile::Daemon).unwrap();
        Side { identity, endpoint }
    }

    /// Our route at another endpoint.
    fn route_at(&self, other: &Side) -> SocketAddr {
        let key = self.identity.public_key();
        other.endpoint.socket().route(&key, Class::Direct)
    }

    /// As after a check.
    fn admits(&self, other: &Side) -> SocketAddr {
        let (socket, route) = (self.endpoint.socket(), other.route_at(self));
        let at = other.endpoint.local_addr();
        assert!(socket.admit(route, at) && socket.point(route, at));
        route
    }

    fn dial(
        &self,
        other: &Side,
    ) -> impl Future<Output = Result<Connection, warren_net::ConnectError>> + use<> {
        let route = other.route_at(self);
        let (endpoint, expect) = (
            self.endpoint.clone(),
            Expect::Key(other.identity.public_key()),
        );
        let dialling = tokio::spawn(async move {
            endpoint
                .connect_route(route, Protocol::Peer, expect, None)
                .await
        });
        async move { dialling.await.unwrap() }
    }

    async fn answer(&self) -> Handshake {
        let incoming = timeout(PATIENCE, self.endpoint.accept()).await.unwrap();
        incoming.unwrap().begin(None).unwrap()
    }
}
