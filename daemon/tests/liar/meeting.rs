//! Meets whom the tracker introduces, as honestly as a daemon does.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use tokio::{
    sync::mpsc,
    time::{Duration, sleep_until},
};
use warren_net::{Connection, Endpoint, Expect, Protocol, Socket};
use warren_proto::{
    id::PublicKey,
    nat::{PunchAttempt, PunchEvent},
    proof::Side,
    wire::Rendezvous,
};

/// Introductions that may wait.
const WAITING: usize = 64;

/// How long to sleep when nothing is due.
const LONG: Duration = Duration::from_secs(3600);

/// The latest connection with each peer that was dialled.
type Dialled = Arc<Mutex<BTreeMap<PublicKey, Connection>>>;

/// Starts the task that checks paths, and dials on those that are proven when the other side
/// has asked,
/// unless there is a connection. Introductions go in, connections come out.
pub(crate) fn start(endpoint: Endpoint) -> (mpsc::Sender<Rendezvous>, mpsc::Receiver<Connection>) {
    let (introductions, introduced) = mpsc::channel(WAITING);
    let (connected, connections) = mpsc::channel(WAITING);
    tokio::spawn(meet(endpoint, introduced, connected));
    (introductions, connections)
}

async fn meet(
    endpoint: Endpoint,
    mut introduced: mpsc::Receiver<Rendezvous>,
    connected: mpsc::Sender<Connection>,
) {
    let mut datagrams = endpoint.socket().take_stun();
    let mut attempts: Vec<(PublicKey, PunchAttempt)> = Vec::new();
    let dialled = Dialled::default();
    loop {
        let due = attempts
            .iter()
            .filter_map(|(_, it)| it.poll_timeout())
            .min();
        let due = due.unwrap_or_else(|| Instant::now() + LONG);
        tokio::select! {
            rendezvous = introduced.recv() => match rendezvous {
                Some(met) => attempts.push((met.peer, PunchAttempt::new(Instant::now(), &met, rand::random()))),
                None => return,
            },
            Some(datagram) = datagrams.recv() => {
                let its = attempts.iter_mut().find(|(_, it)| it.recognizes(&datagram.bytes));
                if let Some((_, attempt)) = its {
                    attempt.handle_datagram(Instant::now(), datagram.from, &datagram.bytes);
                }
            }
            () = sleep_until(due.into()) => {
                attempts.iter_mut().for_each(|(_, it)| it.handle_timeout(Instant::now()));
            }
        }
        for (peer, attempt) in &mut attempts {
            settle(&endpoint, *peer, attempt, (&dialled, &connected));
        }
    }
}

fn settle(
    endpoint: &Endpoint,
    peer: PublicKey,
    attempt: &mut PunchAttempt,
    (dialled, connected): (&Dialled, &mpsc::Sender<Connection>),
) {
    let socket: &Arc<Socket> = endpoint.socket();
    while let Some(transmit) = attempt.poll_transmit() {
        socket.send_raw_ttl(&transmit.bytes, transmit.to, transmit.ttl);
    }
    while let Some(event) = attempt.poll_event() {
        if let (PunchEvent::Proven(path), Side::Client) = (event, attempt.side()) {
            let is_open = |it: &Connection| it.quinn().close_reason().is_none();
            if dialled.lock().unwrap().get(&peer).is_some_and(is_open) {
                continue;
            }
            let (endpoint, dialled, connected) =
                (endpoint.clone(), Arc::clone(dialled), connected.clone());
            tokio::spawn(async move {
                let expect = Expect::Key(peer);
                let dialling = endpoint.connect(path.remote, Protocol::Peer, expect);
                if let Ok(connection) = dialling.await {
                    dialled.lock().unwrap().insert(peer, connection.clone());
                    let _ = connected.send(connection).await;
                }
            });
        }
    }
}
