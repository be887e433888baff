//! One tracker session: connect, hello, announce, listen; again when it is lost, or when there is a
//! better way.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use warren_net::{ConnectError, Endpoint, Link, LinkError, LinkReader, LinkWriter, SendError};
use warren_proto::content::HostPort;
use warren_proto::id::{PublicKey, SwarmId, TrackerPin};
use warren_proto::limits;
use warren_proto::swarm::Transport;
use warren_proto::wire::tracker::VERSION;
use warren_proto::wire::{Bounded, FromTracker, Hello, MemberState, ToTracker};

use super::backoff::{Backoff, jittered};
use super::better::Better;
use super::reach::{self, Reach, ReachError, Way};
use super::said::Said;
use super::{Echo, Situation, TrackerConfig, TrackerEvent};
use crate::node::NodeSender;
use crate::punch::StunServer;

/// First and longest wait between tries to reach a tracker.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(20);

/// The tracker's close code for who has moved and is to connect again at once (PROTOCOL.md, Close codes).
const MOVED: u64 = 4;

/// A session that was shorter gave no reason to hurry.
const SHORTEST: Duration = Duration::from_secs(1);

/// How long a tracker may take from the handshake to its welcome.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a tracker may take to answer what it was told, however little it says.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between batches of announces.
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(20);

pub(super) struct Session {
    pub(super) endpoint: Endpoint,
    pub(super) config: TrackerConfig,
    pub(super) node: NodeSender,
    pub(super) wanted: watch::Receiver<BTreeMap<SwarmId, MemberState>>,
    pub(super) situation: watch::Receiver<Situation>,
    pub(super) introductions: mpsc::Receiver<(SwarmId, PublicKey)>,
    /// About rendezvous.
    pub(super) words: mpsc::Receiver<ToTracker>,
    pub(super) echoes: mpsc::Receiver<Echo>,
    pub(super) said: Said,
    /// The way by which it was reached last.
    pub(super) worked: Option<Way>,
}

/// Why there is no session now.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error("the tracker sent no welcome within {} s", WELCOME_TIMEOUT.as_secs())]
    NoWelcome,
    #[error("the tracker sent something else in place of a welcome")]
    NotWelcome,
    #[error("the connection to the tracker was lost")]
    Read(#[from] LinkError),
    #[error("the connection to the tracker was lost")]
    Write(#[from] SendError),
    #[error("the tracker did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    #[error("the tracker ended the session")]
    Ended,
}

/// A tracker that has welcomed us.
pub(super) struct Welcomed {
    way: Way,
    link: Link,
    reader: LinkReader,
    writer: LinkWriter,
    public: Option<HostPort>,
    stun_port: Option<u16>,
    announce_interval: Duration,
    retry_after: Duration,
}

impl Session {
    /// Never returns; dropping the future closes the connection.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        loop {
            let (error, wait) = match connect(&self.reach(), &self.ways()).await {
                Ok(welcomed) => {
                    backoff.reset();
                    let Some((error, advised)) = self.stay(welcomed).await else {
                        continue;
                    };
                    let wait = advised.clamp(FIRST_RETRY, LONGEST_RETRY);
                    (error, jittered(wait, &mut rand::rng()))
                }
                Err(error) => (error, backoff.next(&mut rand::rng())),
            };
            self.lost(&error).await;
            sleep(wait).await;
        }
    }

    async fn lost(&self, error: &SessionError) {
        let mismatch = match error {
            SessionError::Reach(ReachError::Connect(ConnectError::KeyMismatch {
                presented,
                ..
            })) => Some(TrackerPin::of(presented)),
            _ => None,
        };
        let cause = chain(error);
        self.tell(TrackerEvent::Lost { cause, mismatch }).await;
    }

    async fn tell(&self, event: TrackerEvent) {
        self.node.send(event.of(self.config.id)).await;
    }

    fn reach(&self) -> Reach {
        Reach {
            endpoint: self.endpoint.clone(),
            address: self.config.address.clone(),
            pin: self.config.pin,
        }
    }

    /// All ways to the tracker, that which worked last first.
    fn ways(&self) -> Vec<Way> {
        let mut ways = reach::ways(self.config.address.port);
        ways.sort_by_key(|way| Some(*way) != self.worked);
        ways
    }

    /// Talks for as long as there is a session, by ever better ways. Returns why there is none, and
    /// how long the tracker wants us to wait; nothing if it wants us back at once.
    async fn stay(&mut self, mut welcomed: Welcomed) -> Option<(SessionError, Duration)> {
        let since = Instant::now();
        loop {
            self.arrived(&welcomed).await;
            let mut better = Better::new(self.reach(), welcomed.way);
            let next = match self.talk(&mut welcomed, &mut better).await {
                Ok(next) => Ok(next),
                Err(error) => better.last().await.ok_or(error),
            };
            let has_moved = welcomed.link.close_code() == Some(MOVED);
            welcomed.link.close(0, "done");
            match next {
                Ok(next) => welcomed = next,
                Err(_) if has_moved && since.elapsed() >= SHORTEST => return None,
                Err(error) => return Some((error, welcomed.retry_after)),
            }
        }
    }

    async fn arrived(&mut self, welcomed: &Welcomed) {
        let (way, link) = (welcomed.way, &welcomed.link);
        self.worked = Some(way);
        let pin = TrackerPin::of(&link.peer_key());
        self.remember(pin).await;
        let ip = link.remote_address().ip();
        let stun_port = match way.transport {
            Transport::Udp => way.port,
            // That of TCP may be another one.
            Transport::Tcp => self.config.address.port,
        };
        let stun = StunServer {
            main: SocketAddr::new(ip, stun_port),
            other: welcomed.stun_port.map(|port| SocketAddr::new(ip, port)),
        };
        self.tell(TrackerEvent::Connected {
            pin,
            public: welcomed.public.clone(),
            stun,
            way,
            rtt: link.rtt(),
            tunnel: link.take_tunnel(),
        })
        .await;
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

    /// Talks until there is a better session, which is returned.
    async fn talk(
        &mut self,
        welcomed: &mut Welcomed,
        better: &mut Better,
    ) -> Result<Welcomed, SessionError> {
        let Session {
            said,
            wanted,
            introductions,
            words,
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
                next = better.found() => return Ok(next),
                Ok(()) = situation.changed() => {
                    better.hurry();
                    let message = situation_message(&situation.borrow_and_update());
                    writer.send(&message).await?;
                }
                // Who is in no swarm yet is introduced to nobody.
                Some((swarm, peer)) = introductions.recv(), if !said.has_more() => {
                    writer.send(&ToTracker::Introduce { swarm, peer }).await?;
                    answer_due.get_or_insert_with(|| Instant::now() + ANSWER_TIMEOUT);
                }
                Some(word) = words.recv() => writer.send(&word).await?,
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
        paths: situation.paths,
    }
}

/// Tries these ways to a tracker in this order, until one has it welcome us.
pub(super) async fn connect(reach: &Reach, ways: &[Way]) -> Result<Welcomed, SessionError> {
    let (way, link) = reach.connect(ways).await?;
    let greeted = timeout(WELCOME_TIMEOUT, greet(way, link)).await;
    greeted.map_err(|_| SessionError::NoWelcome)?
}

async fn greet(way: Way, link: Link) -> Result<Welcomed, SessionError> {
    let (mut reader, mut writer) = link.control().await?;
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
    Ok(Welcomed {
        way,
        link,
        reader,
        writer,
        public: public.and_then(|public| public.parse().ok()),
        stun_port,
        // Whatever a tracker says, it gets no more than one round of announces in 5 s.
        announce_interval: Duration::from_secs(u64::from(announce_interval_s.clamp(5, 3600))),
        retry_after: Duration::from_secs(u64::from(retry_after_s)),
    })
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
