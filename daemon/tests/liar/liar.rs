//! A member of a swarm, correct in everything but one lie.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use quinn::{ConnectionError, RecvStream, SendStream};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use warren_net::{
    Connection, Endpoint, Expect, FrameReader, FrameWriter, Identity, Profile, Protocol,
};
use warren_proto::{
    content::Run,
    id::PublicKey,
    limits::GRAIN_BYTES,
    proof::{Proof, Side, prove},
    swarm::PAIR_INTERVAL,
    wire::{
        Bounded, FromTracker, Hello, MemberState, NatFiltering, NatMapping, NoReason, Paths,
        PeerAnswer, PeerMessage, PeerRequest, ToTracker, encode,
    },
};
use warren_tracker::Tracker;

use crate::{meeting, share::Share};

/// What is written and not acknowledged: as much as is of use on loopback.
const SEND_WINDOW_BYTES: u64 = 1 << 20;

/// Our own number for the swarm.
const ALIAS: u32 = 7;

/// A type of message that there is not.
const UNKNOWN_TYPE: u16 = 0x7fff;

/// When a liar joins for the second time after the first.
const SECOND_JOIN: Duration = Duration::from_millis(150);

/// How often who holds back sends a byte.
const CRUMB_INTERVAL: Duration = Duration::from_secs(1);

/// Longest body of a frame.
const FRAME_BODY_BYTES: usize = 65_534;

/// What the liar does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Nothing at all.
    Nothing,
    /// Serves chunks with a bit changed.
    WrongBytes,
    /// Serves hash lists of the right length that belong to nothing.
    WrongHashes,
    /// Describes the share as of this many bytes.
    Size(u64),
    /// Suggests this name.
    Name(&'static str),
    /// Claims to have one chunk more than there are.
    HaveBeyondTheEnd,
    /// Answers requests with more and more bytes.
    EndlessAnswer,
    /// Ends its answers a byte early.
    ShortAnswer,
    /// Sends frames nobody knows, without end.
    EndlessFrames,
    /// Takes requests and answers none.
    Silence,
    /// Says to every request that it serves others.
    AlwaysBusy,
    /// Does not know what it proves.
    WrongProof,
    /// Answers with the first grain of a chunk, and with the rest once it may ([`Liar::go_on`]).
    HoldsBack,
    /// Joins a second time while it is asked, as one does who was left and joined again meanwhile.
    JoinsTwice,
    /// Answers the first request and no other.
    GivesOne,
}

impl Lie {
    /// Whether an honest daemon can tell that this was no accident, and must turn the liar away.
    pub(crate) fn must_be_caught(self) -> bool {
        match self {
            Lie::WrongBytes
            | Lie::WrongHashes
            | Lie::Size(_)
            | Lie::HaveBeyondTheEnd
            | Lie::EndlessAnswer => true,
            Lie::Nothing
            | Lie::Name(_)
            | Lie::ShortAnswer
            | Lie::EndlessFrames
            | Lie::Silence
            | Lie::AlwaysBusy
            | Lie::WrongProof
            | Lie::HoldsBack
            | Lie::JoinsTwice
            | Lie::GivesOne => false,
        }
    }
}

/// Which end of the connection the liar is. Who asks to meet is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The QUIC client.
    Dials,
    /// The QUIC server.
    IsDialled,
}

impl Role {
    fn side(self) -> Side {
        match self {
            Role::Dials => Side::Client,
            Role::IsDialled => Side::Server,
        }
    }
}

/// A running liar; it ends when it is dropped.
pub(crate) struct Liar {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    identity: Identity,
    endpoint: Endpoint,
    share: Arc<Share>,
    lie: Lie,
    lies: AtomicUsize,
    requests: AtomicUsize,
    turned_away: AtomicBool,
    may_go_on: Semaphore,
}

impl Liar {
    /// Joins the swarm of `share` as a seed, and meets others in this role alone.
    pub(crate) async fn join(tracker: &Tracker, share: Arc<Share>, lie: Lie, role: Role) -> Liar {
        let identity = Identity::generate().unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::bind(any, &identity, &[Protocol::Peer], Profile::Daemon).unwrap();
        let shared = Arc::new(Shared {
            identity,
            endpoint,
            share,
            lie,
            lies: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            turned_away: AtomicBool::new(false),
            may_go_on: Semaphore::new(0),
        });
        let control = announce(&shared, tracker).await;
        let mut tasks = JoinSet::new();
        tasks.spawn(follow_tracker(Arc::clone(&shared), control, role));
        tasks.spawn(accept(Arc::clone(&shared)));
        Liar {
            shared,
            _tasks: tasks,
        }
    }

    /// Its key.
    pub(crate) fn key(&self) -> PublicKey {
        self.shared.identity.public_key()
    }

    /// How often it has lied.
    pub(crate) fn lies(&self) -> usize {
        self.shared.lies.load(Ordering::Relaxed)
    }

    /// How many requests it was sent.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// No longer holds anything back.
    pub(crate) fn go_on(&self) {
        self.shared.may_go_on.close();
    }

    /// Whether the other side has ended a connection on purpose after it was lied to.
    pub(crate) fn is_turned_away(&self) -> bool {
        self.shared.turned_away.load(Ordering::Relaxed)
    }
}

/// The connection to the tracker, which has to be kept, and its control stream.
type Control = (Connection, FrameReader, FrameWriter);

/// Connects to the tracker and announces; returns once the tracker has answered.
async fn announce(shared: &Shared, tracker: &Tracker) -> Control {
    let addr = tracker.local_addrs()[0];
    let expect = Expect::Pin(tracker.pin());
    let connection = shared.endpoint.connect(addr, Protocol::Tracker, expect);
    let connection = connection.await.unwrap();
    let (send, receive) = connection.quinn().open_bi().await.unwrap();
    let (mut reader, mut writer) = (FrameReader::new(receive), FrameWriter::new(send));
    for message in [
        ToTracker::Hello(HELLO),
        ToTracker::Situation {
            candidates: Bounded::new(),
            mapping: NatMapping::EndpointIndependent,
            filtering: NatFiltering::Unknown,
            paths: Paths::Any,
        },
        announcement(shared),
    ] {
        writer.send(&message).await.unwrap();
    }
    while let Some(message) = reader.recv().await.unwrap() {
        if matches!(message, FromTracker::Peers { .. }) {
            return (connection, reader, writer);
        }
    }
    panic!("the tracker does not answer");
}

/// Asks to meet whoever is there.
fn announcement(shared: &Shared) -> ToTracker {
    ToTracker::Announce {
        swarm: shared.share.swarm(),
        state: MemberState::Seed,
        introductions: 8,
    }
}

const HELLO: Hello = Hello {
    version: 1,
    features: 0,
};

/// Meets whom the tracker introduces. Who comes first is met by whoever comes last, who asks; to be dialled all
/// the same, it asks once more as soon as the tracker introduces the two anew.
async fn follow_tracker(
    shared: Arc<Shared>,
    (_connection, mut reader, mut writer): Control,
    role: Role,
) {
    let (introductions, mut connections) = meeting::start(shared.endpoint.clone());
    let mut served = JoinSet::new();
    loop {
        tokio::select! {
            message = reader.recv() => match message {
                Ok(Some(FromTracker::Rendezvous(met))) if met.side == role.side() => {
                    let _ = introductions.send(met).await;
                }
                Ok(Some(FromTracker::Rendezvous(_))) => {
                    sleep(PAIR_INTERVAL).await;
                    let _ = writer.send(&announcement(&shared)).await;
                }
                Ok(Some(_)) => (),
                Ok(None) | Err(_) => return,
            },
            Some(connection) = connections.recv() => {
                served.spawn(serve(Arc::clone(&shared), connection));
            }
        }
    }
}

async fn accept(shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Some(incoming) = shared.endpoint.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            if let Ok(connection) = incoming.complete().await {
                serve(shared, connection).await;
            }
        });
    }
}

/// Says what a seed says, and answers requests, until the connection ends.
async fn serve(shared: Arc<Shared>, connection: Connection) {
    connection.set_send_window(SEND_WINDOW_BYTES);
    let speaking = async {
        if let Some((writer, reader)) = control_stream(&connection).await {
            tokio::join!(
                shared.talk(&connection, writer, reader),
                answer_all(&shared, &connection)
            );
        }
    };
    let why = tokio::select! {
        why = connection.closed() => why,
        () = speaking => connection.closed().await,
    };
    // Before a lie the other side may close it for reasons of its own, such as a second connection.
    let lied = shared.lies.load(Ordering::Relaxed) > 0;
    if lied && matches!(why, ConnectionError::ApplicationClosed(_)) {
        shared.turned_away.store(true, Ordering::Relaxed);
    }
}

async fn control_stream(connection: &Connection) -> Option<(FrameWriter, FrameReader)> {
    let mut writer = FrameWriter::new(connection.quinn().open_uni().await.ok()?);
    writer.send(&PeerMessage::Hello(HELLO)).await.ok()?;
    let reader = FrameReader::new(connection.quinn().accept_uni().await.ok()?);
    Some((writer, reader))
}

async fn answer_all(shared: &Arc<Shared>, connection: &Connection) {
    let mut answers = JoinSet::new();
    while let Ok((send, receive)) = connection.quinn().accept_bi().await {
        let shared = Arc::clone(shared);
        answers.spawn(async move { shared.answer(send, receive).await });
    }
}

impl Shared {
    /// The control stream. Errors end it, and why there was one shows when the connection ends.
    async fn talk(
        &self,
        connection: &Connection,
        mut writer: FrameWriter,
        mut reader: FrameReader,
    ) {
        while let Ok(Some(message)) = reader.recv().await {
            if let PeerMessage::Join { swarm, .. } = message
                && swarm == self.share.swarm()
            {
                for message in self.introduction(connection) {
                    let _ = writer.send(&message).await;
                }
                match self.lie {
                    Lie::Size(_) | Lie::Name(_) | Lie::HaveBeyondTheEnd | Lie::WrongProof => {
                        self.lied();
                    }
                    Lie::EndlessFrames => self.flood(&mut writer).await,
                    Lie::JoinsTwice => {
                        sleep(SECOND_JOIN).await;
                        for message in self.introduction(connection) {
                            let _ = writer.send(&message).await;
                        }
                    }
                    _ => (),
                }
            }
        }
    }

    /// What follows the other side's join: our own, what the share is, and that we have all of it.
    fn introduction(&self, connection: &Connection) -> [PeerMessage; 3] {
        let run = self.share.all_chunks();
        let chunks = match self.lie {
            Lie::HaveBeyondTheEnd => Run {
                count: run.count + 1,
                ..run
            },
            _ => run,
        };
        [
            PeerMessage::Join {
                alias: ALIAS,
                swarm: self.share.swarm(),
                proof: self.proof(connection),
            },
            PeerMessage::Describe {
                alias: ALIAS,
                size: match self.lie {
                    Lie::Size(size) => size,
                    _ => self.share.described_bytes(),
                },
                name: match self.lie {
                    Lie::Name(name) => name.to_owned(),
                    _ => self.share.name().to_owned(),
                },
            },
            PeerMessage::Have {
                alias: ALIAS,
                chunks: Bounded::truncated([chunks]),
            },
        ]
    }

    fn proof(&self, connection: &Connection) -> Proof {
        let mut exporter = connection.exporter(&self.share.swarm().0);
        if self.lie == Lie::WrongProof {
            exporter[0] ^= 1;
        }
        let (id, key) = (self.share.content().id, self.identity.public_key());
        prove(&id, None, &exporter, connection.side(), &key)
    }

    /// Sends frames of a type nobody knows until the other side has had enough.
    async fn flood(&self, writer: &mut FrameWriter) {
        let mut frame = (FRAME_BODY_BYTES + 2).to_be_bytes()[4..].to_vec();
        frame.extend_from_slice(&UNKNOWN_TYPE.to_be_bytes());
        frame.resize(frame.len() + FRAME_BODY_BYTES, 0);
        while writer.stream().write_all(&frame).await.is_ok() {
            self.lied();
        }
    }

    /// Answers one request, the way of this liar.
    async fn answer(&self, mut send: SendStream, receive: RecvStream) {
        let Ok(Some(request)) = FrameReader::new(receive).recv().await else {
            return;
        };
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        let Some(mut bytes) = self.bytes_for(&request) else {
            let reason = NoReason::Unknown;
            let _ = send.write_all(&encode(&PeerAnswer::No { reason })).await;
            return;
        };
        if self.lie == Lie::AlwaysBusy {
            self.lied();
            let reason = NoReason::Busy;
            let _ = send.write_all(&encode(&PeerAnswer::No { reason })).await;
            return;
        }
        let honest = PeerAnswer::Data {
            bytes: bytes.len() as u64,
        };
        let head = match self.lie {
            Lie::EndlessAnswer => PeerAnswer::Data { bytes: u64::MAX },
            _ => honest,
        };
        match (self.lie, request) {
            (lie, _) if lie == Lie::Silence || (lie == Lie::GivesOne && before > 0) => {
                self.lied();
                // The stream stays open for as long as the connection.
                return std::future::pending().await;
            }
            // It is asked when it joins for the second time.
            (Lie::JoinsTwice, _) => sleep(2 * SECOND_JOIN).await,
            (Lie::WrongBytes, PeerRequest::Chunk { .. }) => {
                self.lied();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            (Lie::WrongHashes, PeerRequest::Hashes { .. }) => {
                self.lied();
                bytes.iter_mut().for_each(|byte| *byte = !*byte);
            }
            // What it says is a lie; how much of the rest gets out is up to the daemon.
            (Lie::EndlessAnswer, _) => self.lied(),
            (Lie::ShortAnswer, _) => {
                self.lied();
                bytes.pop();
            }
            _ => (),
        }
        let _ = send.write_all(&encode(&head)).await;
        if matches!(
            (self.lie, request),
            (Lie::HoldsBack, PeerRequest::Chunk { .. })
        ) {
            let mut rest = bytes.split_off(bytes.len().min(GRAIN_BYTES as usize));
            let _ = send.write_all(&bytes).await;
            // An error says that it may. Until then a byte now and then shows that it has not stalled.
            while timeout(CRUMB_INTERVAL, self.may_go_on.acquire())
                .await
                .is_err()
            {
                let crumb: Vec<u8> = rest.drain(..1.min(rest.len())).collect();
                let _ = send.write_all(&crumb).await;
            }
            bytes = rest;
        }
        let _ = send.write_all(&bytes).await;
        while self.lie == Lie::EndlessAnswer && send.write_all(&[0; 65_536]).await.is_ok() {}
        let _ = send.finish();
    }

    /// The right bytes, and beyond the end of a share whose size is a lie some that fit the lie.
    fn bytes_for(&self, request: &PeerRequest) -> Option<Vec<u8>> {
        match (self.lie, request) {
            (Lie::Size(_), PeerRequest::Chunk { len, .. }) => {
                let made_up = || vec![0; *len as usize];
                Some(self.share.answer(request).unwrap_or_else(made_up))
            }
            _ => self.share.answer(request),
        }
    }

    fn lied(&self) {
        self.lies.fetch_add(1, Ordering::Relaxed);
    }
}
