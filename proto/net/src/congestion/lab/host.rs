//! One end of a flow: a connection of quinn-proto and what drives it, as quinn's task would.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn::congestion::ControllerFactory;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, EndpointConfig, ServerConfig, TransportConfig, VarInt};
use quinn_proto::{
    Connection, ConnectionHandle, DatagramEvent, Dir, EcnCodepoint, Endpoint, Event, StreamId,
    WriteError,
};

use super::MS;
use crate::congestion::Cues;
use crate::identity::Identity;
use crate::tls::{self, Expect, KeyVerifier, Protocol};
use crate::transport::{self, Way};

/// Datagrams in one batch, as quinn has it.
const BATCH: usize = 10;

/// How late a timer is when the task runs.
const LATE: Duration = Duration::from_micros(100);

/// What may be unread: more than any path of ours holds.
const WINDOW_BYTES: u32 = 96 << 20;

/// One stream.
const CHUNK_BYTES: u64 = 1 << 20;

/// Streams at once: more than are under way.
const STREAMS: u32 = 256;

/// Nobody's, by chance (RFC 5737).
const NETWORK: [u8; 3] = [203, 0, 113];

pub(super) struct Datagram {
    pub(super) bytes: BytesMut,
    pub(super) ecn: Option<EcnCodepoint>,
}

pub(super) struct Host {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    remote: SocketAddr,
    /// What is being received.
    incoming: Vec<StreamId>,
    /// What is being sent, and how much of it is left.
    outgoing: Option<(StreamId, u64)>,
    /// Bytes of content that are still to be written.
    pub(super) to_send: u64,
    /// Bytes of content that have come.
    pub(super) received: u64,
    /// When its next timer fires.
    pub(super) wakes: Option<Instant>,
}

impl Host {
    /// The sender of flow `number`. Writes that far ahead of what is acknowledged.
    pub(super) fn dial(
        now: Instant,
        number: usize,
        factory: Arc<dyn ControllerFactory + Send + Sync>,
        most_bytes: u64,
    ) -> Self {
        let mut host = Self::new(number, 1, 2, None);
        let verifier = KeyVerifier::new(Expect::Any);
        let tls = tls::client_config(&identity(), Protocol::Peer, verifier).unwrap();
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        config.transport_config(transport_with(factory, most_bytes));
        let connection = host.endpoint.connect(now, config, host.remote, "warren");
        host.connection = Some(connection.unwrap());
        host
    }

    /// The receiver of flow `number`.
    pub(super) fn listen(number: usize) -> Self {
        let tls = tls::server_config(&identity(), &[Protocol::Peer]).unwrap();
        let tls = QuicServerConfig::try_from(tls).unwrap();
        let mut config = ServerConfig::with_crypto(Arc::new(tls));
        config.transport_config(transport_with(super::ours(0), 0));
        Self::new(number, 2, 1, Some(Arc::new(config)))
    }

    fn new(number: usize, own: u8, other: u8, server: Option<Arc<ServerConfig>>) -> Self {
        let mut config = EndpointConfig::default();
        config.rng_seed(Some([number as u8 * 2 + own; 32]));
        let [a, b, c] = NETWORK;
        let remote = SocketAddr::from((Ipv4Addr::new(a, b, c, other), 1000 + number as u16));
        Host {
            endpoint: Endpoint::new(Arc::new(config), server, true, None),
            connection: None,
            remote,
            incoming: Vec::new(),
            outgoing: None,
            to_send: 0,
            received: 0,
            wakes: None,
        }
    }

    pub(super) fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref().map(|(_, connection)| connection)
    }

    pub(super) fn receive(&mut self, now: Instant, datagram: Datagram) {
        let mut answer = Vec::new();
        let (remote, ecn) = (self.remote, datagram.ecn);
        let event = self
            .endpoint
            .handle(now, remote, None, ecn, datagram.bytes, &mut answer);
        match (event, &mut self.connection) {
            (Some(DatagramEvent::NewConnection(incoming)), none) => {
                let accepted = self.endpoint.accept(incoming, now, &mut answer, None);
                *none = Some(accepted.map_err(|error| error.cause).unwrap());
            }
            (Some(DatagramEvent::ConnectionEvent(_, event)), Some((_, connection))) => {
                connection.handle_event(event);
            }
            _ => (),
        }
    }

    pub(super) fn wake(&mut self, now: Instant) {
        if let Some((_, connection)) = &mut self.connection {
            connection.handle_timeout(now);
        }
    }

    /// Reads, writes, and takes what is to be sent.
    pub(super) fn drive(&mut self, now: Instant, begun: Instant, out: &mut Vec<Datagram>) {
        let Some((handle, connection)) = &mut self.connection else {
            return;
        };
        loop {
            let mut is_idle = true;
            while let Some(event) = connection.poll_endpoint_events() {
                is_idle = false;
                if let Some(event) = self.endpoint.handle_event(*handle, event) {
                    connection.handle_event(event);
                }
            }
            while let Some(event) = connection.poll() {
                is_idle = false;
                assert!(!matches!(event, Event::ConnectionLost { .. }), "{event:?}");
            }
            if is_idle {
                break;
            }
        }
        self.received += read(connection, &mut self.incoming);
        write(connection, &mut self.outgoing, &mut self.to_send);
        let mut buffer = Vec::new();
        while let Some(transmit) = connection.poll_transmit(now, BATCH, &mut buffer) {
            let segment = transmit.segment_size.unwrap_or(transmit.size);
            out.extend(
                buffer[..transmit.size]
                    .chunks(segment)
                    .map(|bytes| Datagram {
                        bytes: BytesMut::from(bytes),
                        ecn: transmit.ecn,
                    }),
            );
            buffer.clear();
        }
        self.wakes = connection.poll_timeout().map(|at| fires(at, begun));
    }
}

/// When tokio fires a timer: at a whole millisecond.
fn fires(at: Instant, begun: Instant) -> Instant {
    let since = at.saturating_duration_since(begun).as_nanos();
    let millis = since.div_ceil(MS.as_nanos()) as u32;
    begun + millis * MS + LATE
}

/// What has come, of all streams.
fn read(connection: &mut Connection, streams: &mut Vec<StreamId>) -> u64 {
    let mut bytes = 0;
    if connection.side().is_client() {
        return bytes;
    }
    while let Some(stream) = connection.streams().accept(Dir::Uni) {
        streams.push(stream);
    }
    streams.retain(|stream| {
        let mut incoming = connection.recv_stream(*stream);
        let Ok(mut chunks) = incoming.read(true) else {
            return false;
        };
        let is_open = loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => bytes += chunk.bytes.len() as u64,
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        let _ = chunks.finalize();
        is_open
    });
    bytes
}

/// As much as there is room for: a stream for each chunk, like a peer.
fn write(connection: &mut Connection, open: &mut Option<(StreamId, u64)>, to_send: &mut u64) {
    let zeros = [0; 1 << 14];
    while *to_send > 0 && !connection.is_handshaking() {
        let next = || Some((connection.streams().open(Dir::Uni)?, CHUNK_BYTES));
        let Some((stream, left)) = open.take().or_else(next) else {
            return;
        };
        let most = (zeros.len() as u64).min(*to_send).min(left);
        let mut outgoing = connection.send_stream(stream);
        let written = match outgoing.write(&zeros[..most as usize]) {
            Ok(written) => written as u64,
            Err(WriteError::Blocked) => 0,
            Err(error) => panic!("{error}"),
        };
        *to_send -= written;
        if left > written {
            *open = Some((stream, left - written));
        } else {
            outgoing.finish().unwrap();
        }
        if written == 0 {
            return;
        }
    }
}

fn identity() -> Identity {
    Identity::generate().unwrap()
}

/// What peers use, with a controller.
fn transport_with(
    factory: Arc<dyn ControllerFactory + Send + Sync>,
    send_window: u64,
) -> Arc<TransportConfig> {
    let [a, b, c] = NETWORK;
    let way = Way::Direct((Ipv4Addr::new(a, b, c, 1), 1).into());
    let mut transport = transport::transport(Protocol::Peer, way, &Cues::default());
    transport
        .congestion_controller_factory(factory)
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS))
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(send_window);
    Arc::new(transport)
}
