//! One tracker session: connect, hello, announce, listen; again when it is lost, or when there is a
//! better way.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use warren_net::{ConnectError, Endpoint, Link, LinkError, LinkReader, LinkWriter, SendError};
use warren_proto::content::HostPort;
use warren_proto::id::{PublicKey, SwarmId, TrackerPin};
use warren_proto::limits;
use warren_proto::nat::Proven;
use warren_proto::swarm::Transport;
use warren_proto::wire::tracker::VERSION;
use warren_proto::wire::{
    Bounded, FOLLOW_FEATURE, FromTracker, Hello, MemberState, SessionName, ToTracker,
};

use super::backoff::{Backoff, jittered};
use super::better::Better;
use super::reach::{self, NotReached, Reach, ReachError, Way};
use super::said::Said;
use super::{Echo, Situation, TrackerConfig, TrackerEvent};
use crate::node::{NodeSender, OWN};
use crate::punch::{Proving, StunServer};

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

/// How long it may take to introduce us, by UDP: round trips, of which two lost packets take seven,
/// and at least. Who asks for it has mostly found a path through the tracker silent.
const INTRODUCTION_RTTS: u32 = 8;
const LEAST_INTRODUCTION: Duration = Duration::from_secs(1);

/// How long after a loss we hurry back if something waits for the tracker; how long each try may take
/// then, and how far apart they begin.
const HASTE: Duration = Duration::from_secs(30);
const HASTY_TRY: Duration = Duration::from_secs(2);
const HASTY_GAP: Duration = Duration::from_secs(1);

/// Longest wait before the first such try: not all of those who wait come back at once.
const HASTY_START: Duration = Duration::from_millis(100);

/// How long the first connection may take until it is said that it is being tried.
const SILENT_START: Duration = Duration::from_millis(1500);

/// Pause between batches of announces while many have no answer yet.
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
    /// Of our address of the other IP family.
    pub(super) proofs: mpsc::Receiver<Proven>,
    pub(super) said: Said,
    /// The way by which it was reached last.
    pub(super) worked: Option<Way>,
    /// How far it was then.
    pub(super) rtt: Option<Duration>,
    /// By when it must have said something.
    pub(super) answer_due: Option<Instant>,
    /// How many sessions in a row have ended because it did not.
    pub(super) silences: u32,
    /// Somebody waits for it.
    pub(super) hurry: Arc<Notify>,
    /// We may be elsewhere.
    pub(super) renewal: Arc<Notify>,
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
    #[error("the tracker does not answer")]
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
    features: u64,
    stun_port: Option<u16>,
    alternate: Option<SocketAddr>,
    other_family: Option<SocketAddr>,
    name: SessionName,
    announce_interval: Duration,
    retry_after: Duration,
}

impl Session {
    /// Never returns; dropping the future closes the connection.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        let mut better = Better::new();
        let mut hasty_until = Instant::now();
        let mut is_first = self.config.id == OWN;
        loop {
            let tried = Instant::now();
            let connected = tokio::select! {
                connected = self.connect_aloud(tried < hasty_until, &mut is_first) => connected,
                // From where we were, it may never be.
                () = self.renewal.notified() => {
                    hasty_until = Instant::now() + HASTE;
                    continue;
                }
            };
            let (error, wait) = match connected {
                Ok(welcomed) => {
                    backoff.reset();
                    let Some((error, advised)) = self.stay(welcomed, &mut better).await else {
                        continue;
                    };
                    (error, self.wait_after_loss(advised, &mut hasty_until))
                }
                Err(error) if tried < hasty_until => {
                    (error, HASTY_GAP - tried.elapsed().min(HASTY_GAP))
                }
                Err(error) => (error, backoff.next(&mut rand::rng())),
            };
            self.lost(&error).await;
            tokio::select! {
                () = sleep(wait) => (),
                () = self.renewal.notified() => hasty_until = Instant::now() + HASTE,
                // Soon enough, if we hurry already.
                () = self.hurry.notified(), if Instant::now() >= hasty_until => {
                    hasty_until = Instant::now() + HASTE;
                }
            }
        }
    }

    /// Tries all ways; the first time a person who has typed a wrong address learns what is being tried.
    async fn connect_aloud(
        &self,
        in_haste: bool,
        is_first: &mut bool,
    ) -> Result<Welcomed, SessionError> {
        let connecting = self.connect(in_haste);
        tokio::pin!(connecting);
        if std::mem::take(is_first) {
            tokio::select! {
                connected = &mut connecting => return connected,
                () = sleep(SILENT_START) => (),
            }
            tracing::info!("connecting to tracker {} ...", self.config.address);
        }
        connecting.await
    }

    /// Tries all ways. In haste for a moment only: what was sent while the tracker was not there is
    /// sent again ever later.
    async fn connect(&self, in_haste: bool) -> Result<Welcomed, SessionError> {
        let (reach, ways) = (self.reach(), self.ways());
        let connecting = connect(&reach, &ways);
        match in_haste {
            true => timeout(HASTY_TRY, connecting)
                .await
                .unwrap_or(Err(SessionError::Silent)),
            false => connecting.await,
        }
    }

    /// How long to wait after a session. Who waits for an answer comes back at once; the others give a
    /// tracker that was started anew the time it asks for.
    fn wait_after_loss(&self, advised: Duration, hasty_until: &mut Instant) -> Duration {
        let mut rng = rand::rng();
        if self.answer_due.is_none() {
            return jittered(advised.clamp(FIRST_RETRY, LONGEST_RETRY), &mut rng);
        }
        *hasty_until = Instant::now() + HASTE;
        rng.random_range(Duration::ZERO..HASTY_START)
    }

    async fn lost(&self, error: &SessionError) {
        let mismatch = match error {
            SessionError::Reach(ReachError::Connect(NotReached {
                told: ConnectError::KeyMismatch { presented, .. },
                ..
            })) => Some(TrackerPin::of(presented)),
            _ => None,
        };
        self.tell(TrackerEvent::Lost {
            cause: chain(error),
            fault: error.fault(),
            mismatch,
        })
        .await;
    }

    async fn tell(&self, event: TrackerEvent) {
        self.node.send(event.of(self.config.id)).await;
    }

    fn reach(&self) -> Reach {
        Reach {
            endpoint: self.endpoint.clone(),
            address: self.config.address.clone(),
            pin: self.config.pin,
            rtt: self.rtt,
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
    async fn stay(
        &mut self,
        mut welcomed: Welcomed,
        better: &mut Better,
    ) -> Option<(SessionError, Duration)> {
        let since = Instant::now();
        loop {
            self.arrived(&welcomed).await;
            better.begin(self.reach(), welcomed.way);
            let next = match self.talk(&mut welcomed, better).await {
                Ok(next) => Ok(next),
                Err(error) => better.last().await.ok_or(error),
            };
            let has_moved = welcomed.link.close_code() == Some(MOVED);
            self.rtt = Some(welcomed.link.rtt());
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
        self.rtt = Some(link.rtt());
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
            // We may be connected to that very one.
            alternate: welcomed.alternate.filter(|it| it.ip() != ip),
        };
        self.tell(TrackerEvent::Connected {
            pin,
            public: welcomed.public.clone(),
            features: welcomed.features,
            stun,
            proving: self.proving(welcomed),
            way,
            rtt: link.rtt(),
            tunnel: link.take_tunnel(),
        })
        .await;
    }

    /// Where to show our address of the other IP family: at the port that we have got through to, if that
    /// is not the one that was named.
    fn proving(&self, welcomed: &Welcomed) -> Option<Proving> {
        let mut server = welcomed.other_family?;
        let Way { transport, port } = welcomed.way;
        if transport == Transport::Udp && server.port() == self.config.address.port {
            server.set_port(port);
        }
        let is_ipv4 = |at: SocketAddr| at.ip().to_canonical().is_ipv4();
        let is_other = is_ipv4(server) != is_ipv4(welcomed.link.remote_address());
        is_other.then_some(Proving {
            server,
            session: welcomed.name,
        })
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
        let reach = self.reach();
        let Session {
            said,
            wanted,
            introductions,
            words,
            echoes,
            proofs,
            situation,
            config,
            node,
            answer_due,
            silences,
            renewal,
            ..
        } = self;
        said.forget();
        *answer_due = None;
        let introduction_timeout = introduction_timeout(&welcomed.link, *silences);
        let mut announce_timeout = ANSWER_TIMEOUT;
        let Welcomed {
            way,
            reader,
            writer,
            ..
        } = welcomed;
        let message = situation_message(&situation.borrow_and_update());
        writer.send(&message).await?;
        said.plan(&wanted.borrow_and_update());
        let period = welcomed.announce_interval;
        let mut renew = interval_at(Instant::now() + period, period);
        let mut next_batch = Instant::now();
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = reader.recv() => match message? {
                    Some(message) => {
                        // That left before it had heard anything.
                        if !matches!(message, FromTracker::About { .. }) {
                            (*answer_due, *silences) = (None, 0);
                        }
                        if matches!(message, FromTracker::Peers { .. } | FromTracker::Busy { .. }) {
                            said.note_answer();
                            if said.may_go_on() {
                                next_batch = Instant::now();
                            }
                        }
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
                    let message = situation_message(&situation.borrow_and_update());
                    writer.send(&message).await?;
                }
                () = renewal.notified() => {
                    better.renew(reach.clone(), *way);
                    // The answer shows that this session is of use until there is another.
                    said.forget();
                    said.plan(&wanted.borrow_and_update());
                    announce_timeout = introduction_timeout;
                }
                // Who is in no swarm yet is introduced to nobody.
                Some((swarm, peer)) = introductions.recv(), if !said.has_more() => {
                    writer.send(&ToTracker::Introduce { swarm, peer }).await?;
                    await_answer(answer_due, introduction_timeout);
                }
                Some(word) = words.recv() => writer.send(&word).await?,
                Some((port, token)) = echoes.recv() => {
                    writer.send(&ToTracker::Echo { port, token }).await?;
                }
                Some(proven) = proofs.recv() => writer.send(&prove(proven)).await?,
                _ = renew.tick() => {
                    said.forget();
                    said.plan(&wanted.borrow_and_update());
                }
                () = sleep_until(answer_due.unwrap_or(next_batch)), if answer_due.is_some() => {
                    *silences = silences.saturating_add(1);
                    return Err(SessionError::Silent);
                }
                () = sleep_until(next_batch), if said.has_more() => {
                    // Who is introduced for it is to be told of that address too.
                    if let Ok(proven) = proofs.try_recv() {
                        writer.send(&prove(proven)).await?;
                    }
                    for message in said.next_batch() {
                        writer.send(&message).await?;
                        if matches!(message, ToTracker::Announce { .. }) {
                            await_answer(answer_due, announce_timeout);
                        }
                    }
                    next_batch = match said.may_go_on() {
                        true => Instant::now(),
                        false => Instant::now() + ANNOUNCE_PAUSE,
                    };
                }
            }
        }
    }
}

/// Expects something within this time, or sooner if that is so already.
fn await_answer(due: &mut Option<Instant>, within: Duration) {
    let latest = Instant::now() + within;
    *due = Some(due.map_or(latest, |due| due.min(latest)));
}

/// How long a tracker may take to introduce us; longer each time that it turns out to be slow. By TCP
/// the answer stands in line with what is relayed, and a tracker that has ended says so.
fn introduction_timeout(link: &Link, silences: u32) -> Duration {
    match link.transport() {
        Transport::Udp => (link.rtt() * INTRODUCTION_RTTS)
            .max(LEAST_INTRODUCTION)
            .saturating_mul(2u32.saturating_pow(silences))
            .min(ANSWER_TIMEOUT),
        Transport::Tcp => ANSWER_TIMEOUT,
    }
}

fn prove(Proven { address, token }: Proven) -> ToTracker {
    ToTracker::Prove { address, token }
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
    let (way, link, other) = reach.connect(ways).await?;
    let greeted = timeout(WELCOME_TIMEOUT, greet(way, link)).await;
    let mut welcomed = greeted.map_err(|_| SessionError::NoWelcome)??;
    welcomed.other_family = welcomed.other_family.or(other);
    Ok(welcomed)
}

async fn greet(way: Way, link: Link) -> Result<Welcomed, SessionError> {
    let (mut reader, mut writer) = link.control().await?;
    let hello = Hello {
        version: VERSION,
        features: FOLLOW_FEATURE,
    };
    writer.send(&ToTracker::Hello(hello)).await?;
    reader.set_max_bytes(limits::HELLO_BYTES);
    let Some(FromTracker::Hello(Hello { features, .. })) = reader.recv().await? else {
        return Err(SessionError::NotWelcome);
    };
    reader.set_max_bytes(limits::FRAME_BYTES);
    let Some(FromTracker::Welcome {
        public,
        stun_port,
        alternate,
        other_family,
        session: name,
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
        features,
        stun_port,
        alternate,
        other_family,
        name,
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

#[cfg(test)]
mod tests;
