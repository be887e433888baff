//! One tracker session: connect, hello, announce, listen; again when it is lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use warren_net::{
    ConnectError, Connection, Endpoint, Expect, FrameError, FrameReader, FrameWriter, Protocol,
    SendError,
};
use warren_proto::content::{Host, HostPort};
use warren_proto::id::{PublicKey, SwarmId, TrackerPin};
use warren_proto::limits;
use warren_proto::wire::tracker::VERSION;
use warren_proto::wire::{Bounded, FromTracker, Hello, MemberState, ToTracker};

use super::backoff::{Backoff, jittered};
use super::{Echo, Situation, TrackerConfig, TrackerEvent};
use crate::node::NodeSender;
use crate::peer::dial::dial;
use crate::punch::StunServer;

/// First and longest wait between tries to reach a tracker.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(20);

/// How long a tracker may take from the handshake to its welcome.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a tracker may take to answer what it was told, however little it says.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a name may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Peers we ask to meet with the first announce of an unfinished share: half a full mesh, the
/// others ask for us.
const FIRST_INTRODUCTIONS: u8 = 32;

/// Announces sent at once; the tracker answers each with a frame of its own.
const ANNOUNCES_AT_ONCE: usize = 32;

/// Pause between such batches.
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(20);

pub(super) struct Session {
    pub(super) endpoint: Endpoint,
    pub(super) config: TrackerConfig,
    pub(super) node: NodeSender,
    pub(super) wanted: watch::Receiver<BTreeMap<SwarmId, MemberState>>,
    pub(super) situation: watch::Receiver<Situation>,
    pub(super) introductions: mpsc::Receiver<(SwarmId, PublicKey)>,
    pub(super) echoes: mpsc::Receiver<Echo>,
    pub(super) said: Said,
}

/// Why there is no session now.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("cannot find the address of {0}")]
    Resolve(HostPort, #[source] Box<dyn Error + Send + Sync>),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the tracker sent no welcome within {} s", WELCOME_TIMEOUT.as_secs())]
    NoWelcome,
    #[error("the tracker sent something else in place of a welcome")]
    NotWelcome,
    #[error("the connection to the tracker was lost")]
    Connection(#[from] quinn::ConnectionError),
    #[error("the connection to the tracker was lost")]
    Read(#[from] FrameError),
    #[error("the connection to the tracker was lost")]
    Write(#[from] SendError),
    #[error("the tracker did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    #[error("the tracker ended the session")]
    Ended,
}

/// A tracker that has welcomed us.
struct Welcomed {
    connection: Connection,
    reader: FrameReader,
    writer: FrameWriter,
    announce_interval: Duration,
    retry_after: Duration,
}

/// What a welcome says about the tracker.
struct Greeting {
    public: Option<HostPort>,
    stun_port: Option<u16>,
}

impl Session {
    /// Never returns; dropping the future closes the connection.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        loop {
            let (error, wait) = match self.connect().await {
                Ok(welcomed) => {
                    backoff.reset();
                    let advised = welcomed.retry_after.min(LONGEST_RETRY);
                    let error = self.serve(welcomed).await;
                    (error, Some(advised))
                }
                Err(error) => (error, None),
            };
            let wait = match wait {
                Some(advised) => jittered(advised.max(FIRST_RETRY), &mut rand::rng()),
                None => backoff.next(&mut rand::rng()),
            };
            self.lost(&error).await;
            sleep(wait).await;
        }
    }

    async fn lost(&self, error: &SessionError) {
        let mismatch = match error {
            SessionError::Connect(ConnectError::KeyMismatch { presented, .. }) => {
                Some(TrackerPin::of(presented))
            }
            _ => None,
        };
        let cause = chain(error);
        self.tell(TrackerEvent::Lost { cause, mismatch }).await;
    }

    async fn tell(&self, event: TrackerEvent) {
        self.node.send(event.of(self.config.id)).await;
    }

    async fn connect(&mut self) -> Result<Welcomed, SessionError> {
        let addrs = resolve(&self.config.address).await?;
        let expect = self.config.pin.map_or(Expect::Any, Expect::Pin);
        let connection = dial(&self.endpoint, &addrs, Protocol::Tracker, expect).await?;
        let pin = TrackerPin::of(&connection.peer_key());
        let main = connection.remote_address();
        let (welcomed, greeting) = timeout(WELCOME_TIMEOUT, greet(connection))
            .await
            .map_err(|_| SessionError::NoWelcome)??;
        self.remember(pin).await;
        let stun = StunServer {
            main,
            other: greeting
                .stun_port
                .map(|port| SocketAddr::new(main.ip(), port)),
        };
        let public = greeting.public;
        self.tell(TrackerEvent::Connected { pin, public, stun })
            .await;
        Ok(welcomed)
    }

    /// From now on only this key will do.
    async fn remember(&mut self, pin: TrackerPin) {
        self.config.pin = Some(pin);
        let Some(known) = self.config.known.take() else {
            return;
        };
        let address = self.config.address.clone();
        let stored = tokio::task::spawn_blocking(move || match known.lookup(&address) {
            Ok(Some(known)) if known == pin => Ok(()),
            _ => known.insert(&address, pin),
        })
        .await;
        if let Ok(Err(error)) = stored {
            let error: &dyn Error = &error;
            tracing::warn!(error, "the tracker's key is not remembered");
        }
    }

    async fn serve(&mut self, mut welcomed: Welcomed) -> SessionError {
        let Err(error) = self.talk(&mut welcomed).await;
        let session = welcomed.connection;
        session.close(0, "done");
        error
    }

    async fn talk(
        &mut self,
        welcomed: &mut Welcomed,
    ) -> Result<std::convert::Infallible, SessionError> {
        let Session {
            said,
            wanted,
            introductions,
            echoes,
            situation,
            config,
            node,
            ..
        } = self;
        said.forget();
        let Welcomed { reader, writer, .. } = welcomed;
        let message = situation_message(&situation.borrow_and_update());
        writer.send(&message).await?;
        said.plan(&wanted.borrow_and_update());
        let period = welcomed.announce_interval;
        let mut renew = interval_at(Instant::now() + period, period);
        let mut next_batch = Instant::now();
        let mut answer_due: Option<Instant> = None;
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = reader.recv() => match message? {
                    Some(message) => {
                        answer_due = None;
                        node.send(TrackerEvent::Said(message).of(config.id)).await;
                    }
                    None => return Err(SessionError::Ended),
                },
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return Err(SessionError::Ended);
                    }
                    said.plan(&wanted.borrow_and_update());
                }
                Ok(()) = situation.changed() => {
                    let message = situation_message(&situation.borrow_and_update());
                    writer.send(&message).await?;
                }
                Some((swarm, peer)) = introductions.recv() => {
                    writer.send(&ToTracker::Introduce { swarm, peer }).await?;
                    answer_due.get_or_insert_with(|| Instant::now() + ANSWER_TIMEOUT);
                }
                Some((port, token)) = echoes.recv() => {
                    writer.send(&ToTracker::Echo { port, token }).await?;
                }
                _ = renew.tick() => {
                    said.forget();
                    said.plan(&wanted.borrow_and_update());
                }
                () = sleep_until(answer_due.unwrap_or(next_batch)), if answer_due.is_some() => {
                    return Err(SessionError::Silent);
                }
                () = sleep_until(next_batch), if said.has_more() => {
                    for message in said.next_batch() {
                        writer.send(&message).await?;
                        if matches!(message, ToTracker::Announce { .. }) {
                            answer_due.get_or_insert_with(|| Instant::now() + ANSWER_TIMEOUT);
                        }
                    }
                    next_batch = Instant::now() + ANNOUNCE_PAUSE;
                }
            }
        }
    }
}

fn situation_message(situation: &Situation) -> ToTracker {
    ToTracker::Situation {
        candidates: Bounded::truncated(situation.candidates.iter().copied()),
        mapping: situation.nat.mapping,
        filtering: situation.nat.filtering,
    }
}

/// What was announced in this round, and what is still to be said.
#[derive(Default)]
pub(super) struct Said {
    announced: BTreeMap<SwarmId, MemberState>,
    /// Swarms whose first announce has asked for introductions. Later ones do not: who is not
    /// connected by then is asked for by name, so that an introduction always means that one of
    /// the two has no connection to the other.
    introduced: BTreeSet<SwarmId>,
    queue: VecDeque<ToTracker>,
}

impl Said {
    /// Queues the difference between what was said and what is wanted.
    fn plan(&mut self, wanted: &BTreeMap<SwarmId, MemberState>) {
        let gone = self
            .announced
            .keys()
            .filter(|swarm| !wanted.contains_key(swarm));
        let gone: Vec<SwarmId> = gone.copied().collect();
        for swarm in gone {
            self.announced.remove(&swarm);
            self.introduced.remove(&swarm);
            self.queue.push_back(ToTracker::Leave { swarm });
        }
        for (&swarm, &state) in wanted {
            if self.announced.insert(swarm, state) != Some(state) {
                let introductions = match state {
                    MemberState::Leech if self.introduced.insert(swarm) => FIRST_INTRODUCTIONS,
                    // Who needs us asks.
                    _ => 0,
                };
                self.queue.push_back(ToTracker::Announce {
                    swarm,
                    state,
                    introductions,
                });
            }
        }
    }

    /// Begins a new round, or a new connection: everything is to be said again.
    fn forget(&mut self) {
        self.announced.clear();
        self.queue.clear();
    }

    fn has_more(&self) -> bool {
        !self.queue.is_empty()
    }

    fn next_batch(&mut self) -> impl Iterator<Item = ToTracker> {
        let count = self.queue.len().min(ANNOUNCES_AT_ONCE);
        self.queue.drain(..count)
    }
}

async fn resolve(address: &HostPort) -> Result<Vec<SocketAddr>, SessionError> {
    let failed = |error| SessionError::Resolve(address.clone(), error);
    let port = address.port;
    match &address.host {
        Host::V4(ip) => Ok(vec![SocketAddr::new((*ip).into(), port)]),
        Host::V6(ip) => Ok(vec![SocketAddr::new((*ip).into(), port)]),
        Host::Name(name) => {
            let name = (name.to_string(), port);
            match timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(name)).await {
                Ok(Ok(addrs)) => Ok(addrs.collect()),
                Ok(Err(error)) => Err(failed(error.into())),
                Err(_) => Err(failed("the name server does not answer".into())),
            }
        }
    }
}

async fn greet(connection: Connection) -> Result<(Welcomed, Greeting), SessionError> {
    let (send, receive) = connection.quinn().open_bi().await?;
    let (mut writer, mut reader) = (FrameWriter::new(send), FrameReader::new(receive));
    let hello = Hello {
        version: VERSION,
        features: 0,
    };
    writer.send(&ToTracker::Hello(hello)).await?;
    reader.set_max_bytes(limits::HELLO_BYTES);
    let Some(FromTracker::Hello(_)) = reader.recv().await? else {
        return Err(SessionError::NotWelcome);
    };
    reader.set_max_bytes(limits::FRAME_BYTES);
    let Some(FromTracker::Welcome {
        public,
        stun_port,
        announce_interval_s,
        retry_after_s,
        ..
    }) = reader.recv().await?
    else {
        return Err(SessionError::NotWelcome);
    };
    let public = public.and_then(|public| public.parse().ok());
    let welcomed = Welcomed {
        connection,
        reader,
        writer,
        // Whatever a tracker says, it gets no more than one round of announces in 5 s.
        announce_interval: Duration::from_secs(u64::from(announce_interval_s.clamp(5, 3600))),
        retry_after: Duration::from_secs(u64::from(retry_after_s)),
    };
    Ok((welcomed, Greeting { public, stun_port }))
}

/// The error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_said_again() {
        let (a, b, c) = (SwarmId([1; 32]), SwarmId([2; 32]), SwarmId([3; 32]));
        let mut said = Said::default();
        said.plan(&BTreeMap::from([
            (a, MemberState::Leech),
            (b, MemberState::Seed),
        ]));
        let batch: Vec<_> = said.next_batch().collect();
        let announce = |swarm, state, introductions| ToTracker::Announce {
            swarm,
            state,
            introductions,
        };
        assert_eq!(
            batch,
            [
                announce(a, MemberState::Leech, FIRST_INTRODUCTIONS),
                announce(b, MemberState::Seed, 0)
            ]
        );

        said.plan(&BTreeMap::from([
            (a, MemberState::Seed),
            (c, MemberState::Leech),
        ]));
        let batch: Vec<_> = said.next_batch().collect();
        let expected = [
            ToTracker::Leave { swarm: b },
            announce(a, MemberState::Seed, 0),
            announce(c, MemberState::Leech, FIRST_INTRODUCTIONS),
        ];
        assert_eq!(batch, expected);
        assert!(!said.has_more());
    }

    #[test]
    fn a_new_round_says_everything_and_asks_for_no_introductions() {
        let swarm = SwarmId([1; 32]);
        let wanted = BTreeMap::from([(swarm, MemberState::Leech)]);
        let mut said = Said::default();
        said.plan(&wanted);
        assert_eq!(said.next_batch().count(), 1);
        said.forget();
        said.plan(&wanted);
        let again = ToTracker::Announce {
            swarm,
            state: MemberState::Leech,
            introductions: 0,
        };
        assert_eq!(said.next_batch().collect::<Vec<_>>(), [again]);
    }
}
