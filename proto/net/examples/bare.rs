//! What a byte costs at least: the parts of a transfer, each by itself, that `scripts/bench` makes the
//! roofline of.
//!
//! ```text
//! bare FOLDER MIB
//! ```
//!
//! Carries so many MiB over quinn alone, on loopback, between two threads: [`STREAMS`] streams at a time
//! of [`CHUNK_BYTES`] each, the settings those that a daemon has on such a path, the receiver throwing
//! away what comes. Then it writes as many to a new file in the folder, reads them back and hashes
//! them from memory, each on one thread. Prints one line of JSON: for each part the processor time per
//! GiB, of both threads where there are two, and the rate.
//!
//! Settings that differ from the daemon's: the socket is quinn's own, so no datagram is looked at and
//! no route looked up, and batches are cut to [`MAX_BATCH_BYTES`] by asking quinn for fewer segments.

use std::env;
use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{
    AckFrequencyConfig, AsyncUdpSocket, ClientConfig, Connection, Endpoint, EndpointConfig,
    MtuDiscoveryConfig, Runtime, ServerConfig, TokioRuntime, TransportConfig, UdpPoller, VarInt,
};
use tokio::task::JoinSet;

use warren_net::tls::{self, KeyVerifier};
use warren_net::{Expect, Identity, Protocol};

type Failure = Box<dyn Error + Send + Sync>;

/// Streams that carry something at any time.
const STREAMS: u64 = 8;

/// What one stream carries.
const CHUNK_BYTES: usize = 1 << 20;

/// What is read, written and hashed at a time.
const RUN_BYTES: usize = 1 << 20;

/// The settings of `transport` in the library, on loopback.
const MTU_BYTES: u16 = 16_000;
const INITIAL_MTU_BYTES: u16 = 1200;
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONTENT_WINDOW_BYTES: u32 = 64 << 20;
const SEND_WINDOW_BYTES: u64 = 16 << 20;
const INITIAL_WINDOW_BYTES: u64 = 256 << 10;
const REORDERING_PACKETS: u32 = 16;
const PACKETS_PER_ACK: u32 = 10;

/// Largest payload the kernel takes in one call: 65,535 less the IPv4 and UDP headers.
const MAX_BATCH_BYTES: usize = 65_507;

fn main() -> Result<(), Failure> {
    let mut arguments = env::args().skip(1);
    let (Some(folder), Some(mib)) = (arguments.next(), arguments.next()) else {
        return Err("bare FOLDER MIB".into());
    };
    let bytes = mib.parse::<u64>()? << 20;
    let file = Path::new(&folder).join("bare");
    let carried = carry(bytes)?;
    let written = measured(bytes, || write(&file, bytes))?;
    let read = measured(bytes, || read(&file, bytes))?;
    let hashed = measured(bytes, || {
        hash(bytes);
        Ok(())
    })?;
    fs::remove_file(&file)?;
    let parts = [
        ("quinn", carried),
        ("write", written),
        ("read", read),
        ("blake3", hashed),
    ];
    let parts: Vec<_> = parts.map(|(name, cost)| cost.json(name)).into();
    say(&format!("{{{}}}", parts.join(",")))
}

#[expect(
    clippy::print_stdout,
    reason = "the one line is what the program is for"
)]
fn say(line: &str) -> Result<(), Failure> {
    println!("{line}");
    Ok(())
}

/// What a part took.
struct Cost {
    bytes: u64,
    took: Duration,
    cpu: Duration,
}

impl Cost {
    fn json(&self, name: &str) -> String {
        let gib = self.bytes as f64 / f64::from(1 << 30);
        let cpu = self.cpu.as_secs_f64() / gib;
        let rate = self.bytes as f64 / 1e6 / self.took.as_secs_f64();
        format!(r#""{name}":{{"cpu_s_per_gib":{cpu:.4},"mb_per_s":{rate:.1}}}"#)
    }
}

/// Runs something on this thread.
fn measured(bytes: u64, what: impl FnOnce() -> io::Result<()>) -> io::Result<Cost> {
    let (began, cpu) = (Instant::now(), thread_cpu()?);
    what()?;
    Ok(Cost {
        bytes,
        took: began.elapsed(),
        cpu: thread_cpu()? - cpu,
    })
}

/// Processor time of this thread so far: the first number of proc_pid_schedstat(5), in nanoseconds.
fn thread_cpu() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    let nanos = first.parse().map_err(io::Error::other)?;
    Ok(Duration::from_nanos(nanos))
}

fn write(file: &Path, bytes: u64) -> io::Result<()> {
    let file = File::create(file)?;
    let run = vec![0x5a; RUN_BYTES];
    for at in (0..bytes).step_by(RUN_BYTES) {
        file.write_all_at(&run, at)?;
    }
    Ok(())
}

fn read(file: &Path, bytes: u64) -> io::Result<()> {
    let file = File::open(file)?;
    let mut run = vec![0; RUN_BYTES];
    for at in (0..bytes).step_by(RUN_BYTES) {
        file.read_exact_at(&mut run, at)?;
    }
    Ok(())
}

/// Hashes more than the caches hold, over and over.
fn hash(bytes: u64) {
    let memory = vec![0x5a; 64 * RUN_BYTES];
    let mut hasher = blake3::Hasher::new();
    for (_, run) in (0..bytes)
        .step_by(RUN_BYTES)
        .zip(memory.chunks(RUN_BYTES).cycle())
    {
        hasher.update(run);
    }
    std::hint::black_box(hasher.finalize());
}

/// Carries so many bytes from one thread to another.
fn carry(bytes: u64) -> Result<Cost, Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let to = socket.local_addr()?;
    let sender = thread::spawn(move || on_one_thread(send(socket, bytes)));
    let began = Instant::now();
    let received = on_one_thread(receive(to, bytes))?;
    let took = began.elapsed();
    let sent = sender.join().map_err(|_| "the sender panicked")??;
    let cpu = received + sent;
    Ok(Cost { bytes, took, cpu })
}

/// Runs a side to its end; returns the processor time that it took.
fn on_one_thread(side: impl Future<Output = Result<(), Failure>>) -> Result<Duration, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(side)?;
    Ok(thread_cpu()?)
}

/// Answers every stream with a chunk, until the other side closes.
async fn send(socket: UdpSocket, bytes: u64) -> Result<(), Failure> {
    let config = tls::server_config(&Identity::generate()?, &[Protocol::Peer])?;
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config)?));
    server.transport_config(transport());
    let endpoint = endpoint(socket, Some(server))?;
    let incoming = endpoint.accept().await.ok_or("the endpoint is closed")?;
    let connection = incoming.await?;
    let chunk = Bytes::from(vec![0x5a; CHUNK_BYTES]);
    let mut streams = JoinSet::new();
    for _ in 0..bytes / CHUNK_BYTES as u64 {
        let (mut stream, _) = connection.accept_bi().await?;
        let chunk = chunk.clone();
        streams.spawn(async move {
            stream.write_chunk(chunk).await?;
            stream.finish()?;
            Ok::<_, Failure>(())
        });
    }
    while let Some(done) = streams.join_next().await {
        done??;
    }
    connection.closed().await;
    Ok(())
}

/// Asks for chunks, some at a time.
async fn receive(from: SocketAddr, bytes: u64) -> Result<(), Failure> {
    let verifier = KeyVerifier::new(Expect::Any);
    let config = tls::client_config(&Identity::generate()?, Protocol::Peer, verifier)?;
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?));
    client.transport_config(transport());
    let endpoint = endpoint(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, None)?;
    let connection = endpoint.connect_with(client, from, "bare")?.await?;
    let chunks = bytes / CHUNK_BYTES as u64;
    let mut asked = JoinSet::new();
    for number in 0..chunks {
        if number >= STREAMS {
            asked.join_next().await.ok_or("nothing is asked for")???;
        }
        asked.spawn(fetch(connection.clone()));
    }
    while let Some(done) = asked.join_next().await {
        done??;
    }
    connection.close(VarInt::from_u32(0), b"");
    endpoint.wait_idle().await;
    Ok(())
}

/// Asks for one chunk and throws it away.
async fn fetch(connection: Connection) -> Result<(), Failure> {
    let (mut ask, mut stream) = connection.open_bi().await?;
    // The other side hears of a stream when something comes over it.
    ask.write_all(b"?").await?;
    ask.finish()?;
    let mut count = 0;
    while let Some(chunk) = stream.read_chunk(RUN_BYTES, true).await? {
        count += chunk.bytes.len();
    }
    match count {
        CHUNK_BYTES => Ok(()),
        _ => Err("a chunk came short".into()),
    }
}

fn endpoint(socket: UdpSocket, server: Option<ServerConfig>) -> io::Result<Endpoint> {
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(MTU_BYTES)
        .map_err(io::Error::other)?;
    let runtime = Arc::new(TokioRuntime);
    let socket = Arc::new(Cut(runtime.wrap_udp_socket(socket)?));
    Endpoint::new_with_abstract_socket(config, server, socket, runtime)
}

fn transport() -> Arc<TransportConfig> {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(PACKETS_PER_ACK))
        .reordering_threshold(VarInt::from_u32(REORDERING_PACKETS));
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_BYTES);
    let mut cubic = CubicConfig::default();
    cubic.initial_window(INITIAL_WINDOW_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS as u32))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONTENT_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .send_fairness(false)
        .packet_threshold(REORDERING_PACKETS)
        .initial_mtu(INITIAL_MTU_BYTES)
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(cubic));
    Arc::new(transport)
}

/// A socket of quinn's that is given no batch longer than the kernel takes.
struct Cut(Arc<dyn AsyncUdpSocket>);

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cut").field(&self.0).finish()
    }
}

impl AsyncUdpSocket for Cut {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.0.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut task::Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        let most = MAX_BATCH_BYTES / usize::from(MTU_BYTES);
        self.0.max_transmit_segments().min(most)
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}
