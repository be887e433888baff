//! Finds out how our own NAT behaves, and notices when it was rebound or we moved.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};
use warren_proto::nat::{FilteringProbe, MappingProbe};
use warren_proto::wire::{NatFiltering, NatMapping};

use super::{Nat, StunServer};

/// How often the tracker is asked how our socket looks to it: this also keeps the mapping towards it
/// for as long as the least patient NATs do.
const REFRESH: Duration = Duration::from_secs(20);

/// How long the probe of the filtering may take; it gives up by itself before.
const LONGEST_PROBE: Duration = Duration::from_secs(10);

/// Longest datagram read from the socket of that probe.
const ANSWER_BYTES: usize = 512;

/// What a survey found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// How our NAT behaves, as far as it can be known.
    Nat(Nat),
    /// Our socket has another outside address than before.
    Rebound,
}

/// What is known of our own NAT, and what is under way to know more.
#[derive(Debug)]
pub(super) struct Survey {
    server: Option<StunServer>,
    probe: Option<MappingProbe>,
    /// Whether that probe asks both ports, and not only whether anything has changed.
    is_full: bool,
    next: Option<Instant>,
    reflexive: Option<SocketAddr>,
    mapping: Option<NatMapping>,
    filtering: Option<NatFiltering>,
    filtered: (mpsc::Sender<NatFiltering>, mpsc::Receiver<NatFiltering>),
}

impl Default for Survey {
    fn default() -> Self {
        Survey {
            server: None,
            probe: None,
            is_full: false,
            next: None,
            reflexive: None,
            mapping: None,
            filtering: None,
            filtered: mpsc::channel(1),
        }
    }
}

impl Survey {
    /// Begins anew, with this server.
    pub(super) fn start(&mut self, now: Instant, server: StunServer) {
        self.server = Some(server);
        let both: Vec<SocketAddr> = [server.main].into_iter().chain(server.other).collect();
        self.probe = Some(MappingProbe::new(now, &both, rand::random()));
        self.is_full = true;
        self.next = Some(now + REFRESH);
        let Some(other) = server.other else {
            self.filtering.get_or_insert(NatFiltering::Unknown);
            return;
        };
        let found = self.filtered.0.clone();
        tokio::spawn(async move {
            let filtering = probe_filtering(server.main, other).await;
            // The one before is as good where there is no room.
            let _ = found.try_send(filtering.unwrap_or(NatFiltering::Unknown));
        });
    }

    /// Begins anew with the server there is: something has changed.
    pub(super) fn restart(&mut self, now: Instant) {
        if let Some(server) = self.server {
            self.start(now, server);
        }
    }

    /// The probe that is under way.
    pub(super) fn probe(&mut self) -> Option<&mut MappingProbe> {
        self.probe.as_mut()
    }

    /// What the filtering turned out to be, when it does.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; nothing is lost.
    pub(super) async fn filtered(&mut self) -> NatFiltering {
        match self.filtered.1.recv().await {
            Some(filtering) => filtering,
            // Never: we hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// Takes in what [`Survey::filtered`] gave.
    pub(super) fn handle_filtered(&mut self, filtering: NatFiltering) -> Option<Finding> {
        self.filtering = Some(filtering);
        self.combine()
    }

    /// When to call [`Survey::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let probe = self.probe.as_ref().and_then(MappingProbe::poll_timeout);
        probe.into_iter().chain(self.next).min()
    }

    /// Advances to `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(probe) = &mut self.probe {
            probe.handle_timeout(now);
        }
        if let Some(server) = self.server
            && self.next.is_some_and(|next| next <= now)
        {
            self.next = Some(now + REFRESH);
            self.probe = Some(MappingProbe::new(now, &[server.main], rand::random()));
            self.is_full = false;
        }
    }

    /// How our socket looks to the tracker, as far as is known.
    pub(super) fn reflexive(&self) -> Option<SocketAddr> {
        self.reflexive
    }

    /// What the probe found out, once it is over.
    pub(super) fn poll_finding(&mut self) -> Option<Finding> {
        let measured = self.probe.as_mut()?.poll_measured()?;
        self.probe = None;
        let Some(reflexive) = measured.reflexive() else {
            // Nobody answered; what was known stays known.
            self.mapping.get_or_insert(measured.mapping);
            return self.is_full.then(|| self.combine()).flatten();
        };
        let before = self.reflexive.replace(reflexive);
        let is_other = before.is_some_and(|before| before != reflexive);
        if self.is_full {
            self.mapping = Some(measured.mapping);
        }
        match (is_other, self.is_full) {
            (true, _) => Some(Finding::Rebound),
            (false, true) => self.combine(),
            (false, false) => None,
        }
    }

    /// What is known once both halves are.
    fn combine(&self) -> Option<Finding> {
        let (mapping, filtering) = (self.mapping?, self.filtering?.given(self.mapping?));
        tracing::debug!(reflexive = ?self.reflexive, ?mapping, ?filtering, "our nat");
        Some(Finding::Nat(Nat { mapping, filtering }))
    }
}

/// Asks with a socket of its own, which has sent nothing yet; `None` where there can be none.
async fn probe_filtering(main: SocketAddr, other: SocketAddr) -> Option<NatFiltering> {
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
