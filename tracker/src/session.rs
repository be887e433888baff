//! One daemon's connection: hello both ways, welcome, then whatever either side has to say.
//!
//! Two queues feed the one writer. Answers wait for room, which slows down a daemon that asks
//! faster than it reads. News from others never wait (`state`). What a peer says in a rendezvous comes
//! as news, and never before that: room is there before a message is handled, and what that brings is
//! queued as one before anything else is written.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::time::timeout;

use warren_net::{Link, LinkError, LinkReader, LinkWriter, SendError};
use warren_proto::limits;
use warren_proto::wire::tracker::VERSION;
use warren_proto::wire::{FOLLOW_FEATURE, FromTracker, Hello, SessionName, ToTracker};

use crate::admission::Admission;
use crate::echo;
use crate::families::Families;
use crate::state::{SessionId, State};

/// How long a daemon may take to open its control stream and say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// How often to announce each swarm. A membership lasts three times as long.
pub(crate) const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(60);

/// Batches of answers waiting to be written: one announce makes up to 101, a rendezvous and advice for
/// each of 50 peers. At up to 450 bytes each, 180 KiB per daemon.
const ANSWERS: usize = 4;

/// News waiting to be written. At up to 540 bytes each, 280 KiB per daemon at the very most; a
/// daemon that falls this far behind is not reading.
const NEWS: usize = 512;

/// Why the tracker closes a connection, as the daemon sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// Nothing is wrong: the daemon is done, or the tracker stops.
    Done,
    /// The daemon broke the protocol.
    Protocol,
    /// The daemon does not read what it is sent.
    TooSlow,
    /// The same daemon has connected again.
    Replaced,
    /// The daemon has another IP address than when it connected, and is to connect again at once.
    Moved,
}

impl Close {
    /// The application error code (RFC 9000 §20.2).
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Done => 0,
            Self::Protocol => 1,
            Self::TooSlow => 2,
            Self::Replaced => 3,
            Self::Moved => 4,
        }
    }

    pub(crate) fn apply(self, link: &Link) {
        let reason = match self {
            Self::Done => "done",
            Self::Protocol => "protocol violation",
            Self::TooSlow => "news not read",
            Self::Replaced => "connected again",
            Self::Moved => "moved",
        };
        link.close(self.code(), reason);
    }
}

/// Why a session ended before its connection did.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("no hello within {} s", HELLO_TIMEOUT.as_secs())]
    NoHello,
    #[error("something else came in place of a hello")]
    NotHello,
    #[error("cannot read from the daemon")]
    Read(#[from] LinkError),
    #[error("cannot write to the daemon")]
    Write(#[from] SendError),
}

/// Where the tracker can be reached, as daemons are told.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The address it wants in links.
    pub(crate) public: Option<String>,
    /// The port at which it answers STUN alone.
    pub(crate) stun_port: Option<u16>,
    /// Where it answers STUN at another IP address, one of each family at most.
    pub(crate) alternates: Vec<SocketAddr>,
    /// Where it is by either IP family.
    pub(crate) families: Families,
}

/// What a session needs of the tracker.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) state: Arc<State>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) place: Place,
}

/// Serves one daemon until its connection ends; `from` is where it began its handshake.
pub(crate) async fn run(link: Link, from: IpAddr, desk: Desk) {
    let peer = link.peer_key();
    match serve(&link, from, desk).await {
        Ok(()) => {
            tracing::debug!(%peer, "daemon disconnected");
            Close::Done.apply(&link);
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(%peer, error, "session ended");
            Close::Protocol.apply(&link);
        }
    }
}

async fn serve(
    link: &Link,
    from: IpAddr,
    Desk {
        state,
        admission,
        place,
    }: Desk,
) -> Result<(), SessionError> {
    let (mut reader, mut writer) = timeout(HELLO_TIMEOUT, greet(link))
        .await
        .map_err(|_| SessionError::NoHello)??;
    writer
        .send(&FromTracker::Hello(Hello {
            version: VERSION,
            features: FOLLOW_FEATURE,
        }))
        .await?;
    let name = rand::random();
    writer.send(&welcome(link, &state, place, name)).await?;
    writer.send(&about()).await?;

    let (news_in, news) = mpsc::channel(NEWS);
    let (answers_in, answers) = mpsc::channel(ANSWERS);
    let (id, tunnel) = state.connect(link, (from, name), news_in);
    let present = Present {
        peer: link.peer_key(),
        id,
        state: Arc::clone(&state),
    };
    let probe = |port, token| {
        let proven = present.state.proven(present.peer, present.id);
        echo::answer(link, (from, proven), &admission, (port, token));
    };
    tokio::select! {
        ended = read(&mut reader, &present, answers_in, probe) => ended,
        ended = write(&mut writer, answers, news) => ended,
        () = state.relay().serve_tunnel(present.peer, tunnel) => Ok(()),
        () = link.closed() => Ok(()),
    }
}

async fn greet(link: &Link) -> Result<(LinkReader, LinkWriter), SessionError> {
    let (mut reader, writer) = link.control().await?;
    reader.set_max_bytes(limits::HELLO_BYTES);
    match reader.recv().await? {
        Some(ToTracker::Hello(_)) => {
            reader.set_max_bytes(limits::FRAME_BYTES);
            Ok((reader, writer))
        }
        _ => Err(SessionError::NotHello),
    }
}

fn welcome(link: &Link, state: &State, place: Place, session: SessionName) -> FromTracker {
    let observed = link.remote_address();
    let is_ipv4 = observed.ip().to_canonical().is_ipv4();
    let mut alternates = place.alternates.into_iter();
    FromTracker::Welcome {
        observed,
        public: place.public,
        stun_port: place.stun_port,
        alternate: alternates.find(|addr| addr.is_ipv4() == is_ipv4),
        other_family: place.families.other(observed),
        session,
        announce_interval_s: u32::try_from(ANNOUNCE_INTERVAL.as_secs()).unwrap_or(u32::MAX),
        retry_after_s: state.retry_after_s(),
    }
}

/// A clock before 1970 is told as that.
fn about() -> FromTracker {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let unix_ms = since_1970.unwrap_or_default().as_millis();
    FromTracker::About {
        unix_ms: u64::try_from(unix_ms).unwrap_or(u64::MAX),
        program: concat!("warren ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

/// Reads until the daemon ends the stream or is replaced; `probe` is called for each echo.
async fn read(
    reader: &mut LinkReader,
    present: &Present,
    answers: mpsc::Sender<Vec<FromTracker>>,
    probe: impl Fn(u16, [u8; 12]),
) -> Result<(), SessionError> {
    while let Some(message) = reader.recv().await? {
        if let ToTracker::Echo { port, token } = message {
            probe(port, token);
        }
        let Ok(room) = answers.reserve().await else {
            return Ok(());
        };
        let Some(batch) = present
            .state
            .handle(Instant::now(), present.peer, present.id, message)
        else {
            return Ok(());
        };
        room.send(batch);
    }
    Ok(())
}

/// Writes whatever is queued, answers first.
async fn write(
    writer: &mut LinkWriter,
    mut answers: mpsc::Receiver<Vec<FromTracker>>,
    mut news: mpsc::Receiver<FromTracker>,
) -> Result<(), SessionError> {
    loop {
        let next = tokio::select! {
            biased;
            Some(batch) = answers.recv() => batch,
            Some(news) = news.recv() => vec![news],
            else => return Ok(()),
        };
        for message in next {
            writer.send(&message).await?;
        }
    }
}

/// A daemon's presence, given up however its session ends, a panic included.
struct Present {
    peer: warren_proto::id::PublicKey,
    id: SessionId,
    state: Arc<State>,
}

impl Drop for Present {
    fn drop(&mut self) {
        self.state.disconnect(self.peer, self.id);
    }
}
