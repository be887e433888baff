//! Asks what our NAT lets in, by a socket of its own.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::time::{sleep_until, timeout};
use warren_proto::nat::FilteringProbe;
use warren_proto::wire::NatFiltering;

/// How long the probe of the filtering may take; it gives up by itself before.
const LONGEST_PROBE: Duration = Duration::from_secs(10);

/// Longest datagram read from the socket of that probe.
const ANSWER_BYTES: usize = 512;

/// Asks with a socket of its own, which has sent nothing yet; `None` where there can be none.
pub(super) async fn probe_filtering(main: SocketAddr, other: SocketAddr) -> Option<NatFiltering> {
    let any: SocketAddr = match main {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.ok()?;
    let probe = FilteringProbe::new(Instant::now(), main, other, rand::random());
    let measured = timeout(LONGEST_PROBE, run_probe(&socket, probe)).await;
    measured.ok()
}

async fn run_probe(socket: &UdpSocket, mut probe: FilteringProbe) -> NatFiltering {
    let mut bytes = [0; ANSWER_BYTES];
    loop {
        while let Some(transmit) = probe.poll_transmit() {
            // What is lost is sent again.
            let _ = socket.send_to(&transmit.bytes, transmit.to).await;
        }
        if let Some(filtering) = probe.poll_measured() {
            return filtering;
        }
        let due = probe.poll_timeout().unwrap_or_else(Instant::now);
        tokio::select! {
            Ok((length, from)) = socket.recv_from(&mut bytes) => {
                probe.handle_datagram(Instant::now(), from, &bytes[..length]);
            }
            () = sleep_until(due.into()) => probe.handle_timeout(Instant::now()),
        }
    }
}
