//! One simulated daemon: its engine, what is on its way to it, and what a daemon's shell keeps.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plan::{Fault, mix, nanos};
use super::queue::Nanos;
use super::streams::{Fate, Upload};
use crate::content::{ChunkIndex, ChunkSet, Content, Run};
use crate::id::{PublicKey, SwarmId};
use crate::transfer::engine::{Action, Engine, Event, News, UploadId};
use crate::transfer::{self, Reach, RequestId};
use crate::wire::NoReason;

/// What a verdict takes: a fixed part, and hashing and writing at so many bytes per second.
const VERDICT: Duration = Duration::from_millis(1);
const HASHED_BYTES_PER_S: f64 = 1e9;
/// What a message costs on the wire without the runs in it, and each run; estimates, with the header
/// of the packet.
const MESSAGE_BYTES: u64 = 40;
const RUN_BYTES: u64 = 8;

/// What one peer is told, by another or by its own side.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// A connection stands.
    Joined { rtt: Duration, reach: Reach },
    /// The other has gone.
    Left,
    /// News of chunks, or a greeting.
    News(Arc<News>),
    /// Chunks to ask for.
    Suggestion(Arc<Vec<Run>>),
    /// A request.
    Ask {
        request: RequestId,
        chunk: ChunkIndex,
    },
    /// It is not needed any more.
    Cancel { request: RequestId },
    /// It is not served.
    Refused {
        request: RequestId,
        reason: NoReason,
    },
    /// Payload, and how it ends if it does.
    Payload {
        request: RequestId,
        bytes: u32,
        end: Option<Fate>,
    },
    /// A chunk is hashed.
    Verdict { request: RequestId, is_right: bool },
    /// Bytes went out, perhaps the last.
    Sent {
        upload: UploadId,
        bytes: u32,
        is_last: bool,
    },
}

impl What {
    /// Bytes of it on the wire that are no payload.
    pub(super) fn control_bytes(&self) -> u64 {
        let runs = match self {
            What::News(news) => news.have.len() + news.started.len() + news.lost.len(),
            What::Suggestion(runs) => runs.len(),
            What::Ask { .. } | What::Cancel { .. } | What::Refused { .. } => 1,
            What::Joined { .. } | What::Left => 0,
            What::Payload { .. } | What::Verdict { .. } | What::Sent { .. } => return 0,
        };
        MESSAGE_BYTES + RUN_BYTES * runs as u64
    }

    /// Its kind, and something of what it says, for the trace.
    pub(super) fn digest(&self) -> (u64, u64) {
        let sum = |sum: u64, runs: &[Run]| {
            runs.iter()
                .fold(sum, |sum, run| sum * 31 % (1 << 32) + u64::from(run.start))
        };
        match self {
            What::Joined { .. } | What::Left => (1, 0),
            What::News(news) => (2, sum(sum(sum(1, &news.have), &news.started), &news.lost)),
            What::Suggestion(runs) => (3, sum(1, runs)),
            What::Ask { chunk, .. } => (4, chunk.value().into()),
            What::Cancel { .. } => (5, 0),
            What::Refused { reason, .. } => (6, *reason as u64),
            What::Payload { bytes, .. } | What::Sent { bytes, .. } => (7, (*bytes).into()),
            What::Verdict { is_right, .. } => (8, (*is_right).into()),
        }
    }
}

/// Something that is on its way to a peer.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) at: Nanos,
    /// Grows with every letter, so that those that arrive together are read in the order sent.
    pub(super) number: u64,
    pub(super) from: u32,
    pub(super) what: What,
}

impl PartialEq for Letter {
    fn eq(&self, other: &Letter) -> bool {
        self.number == other.number
    }
}

impl Eq for Letter {}

impl PartialOrd for Letter {
    fn partial_cmp(&self, other: &Letter) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Letter {
    /// The greatest is the one to be read first.
    fn cmp(&self, other: &Letter) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// What a peer does to the world.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// Tells another.
    Tell(u32, What),
    /// Tells all it is connected to.
    TellAll(What),
    /// Tells itself, later.
    Later(Nanos, What),
    /// Sends to another.
    Serve(u32, Upload),
    /// Sends no more of that.
    Stop(u32, UploadId),
    /// Sends nothing more to another.
    StopAll(u32),
    /// Has a chunk, which it asked for so long ago.
    Has(ChunkIndex, Nanos),
    /// Has received so much for nothing.
    Wasted(u32),
    /// Has banned another.
    Bans(u32),
}

#[derive(Debug)]
struct Fetch {
    from: u32,
    chunk: ChunkIndex,
    asked: Nanos,
    received: u32,
}

#[derive(Debug)]
struct Asked {
    from: u32,
    request: RequestId,
    bytes: u32,
    is_served: bool,
}

/// What all peers have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) origin: Instant,
    pub(super) swarm: SwarmId,
    pub(super) content: Arc<Content>,
    pub(super) keys: Vec<PublicKey>,
}

/// One daemon.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) engine: Engine,
    fault: Fault,
    inbox: BinaryHeap<Letter>,
    /// Whom it is connected to.
    pub(super) links: BTreeMap<u32, Reach>,
    fetches: BTreeMap<RequestId, Fetch>,
    uploads: BTreeMap<UploadId, Asked>,
    by_request: BTreeMap<(u32, RequestId), UploadId>,
    next_upload: u64,
    now: Nanos,
    effects: Vec<Effect>,
}

impl Peer {
    pub(super) fn new(
        common: &Common,
        now: Nanos,
        fault: Fault,
        have: ChunkSet,
        seed: u64,
    ) -> Peer {
        let mut peer = Peer {
            engine: Engine::new(common.instant(now), seed),
            fault,
            inbox: BinaryHeap::new(),
            links: BTreeMap::new(),
            fetches: BTreeMap::new(),
            uploads: BTreeMap::new(),
            by_request: BTreeMap::new(),
            next_upload: 0,
            now,
            effects: Vec::new(),
        };
        let (swarm, content) = (common.swarm, common.content.clone());
        peer.handle(
            common,
            Event::Opened {
                swarm,
                content,
                have,
            },
        );
        peer
    }

    /// What it has verified.
    pub(super) fn have<'a>(&'a self, common: &Common) -> Option<&'a ChunkSet> {
        self.engine
            .download(&common.swarm)
            .map(transfer::Download::have)
    }

    /// Puts a letter into its inbox.
    pub(super) fn deliver(&mut self, letter: Letter) {
        self.inbox.push(letter);
    }

    /// When it has something to do.
    pub(super) fn wake(&self, common: &Common) -> Option<Nanos> {
        let deadline = self.engine.deadline();
        let deadline = deadline.map(|at| common.nanos(at));
        self.inbox
            .peek()
            .map(|letter| letter.at)
            .into_iter()
            .chain(deadline)
            .min()
    }

    /// Tells the engine something about the share.
    pub(super) fn handle_share(&mut self, common: &Common, event: transfer::Event) {
        let swarm = common.swarm;
        self.handle(common, Event::Share { swarm, event });
    }

    /// Reads what has come by `now` and does what the engine says; what follows for others is put
    /// into `effects`. Returns how many letters it read.
    pub(super) fn step(&mut self, common: &Common, now: Nanos, effects: &mut Vec<Effect>) -> u64 {
        self.now = now;
        std::mem::swap(&mut self.effects, effects);
        let mut read = 0;
        while self.inbox.peek().is_some_and(|letter| letter.at <= now)
            && let Some(letter) = self.inbox.pop()
        {
            self.read(common, letter.from, letter.what);
            read += 1;
        }
        while let Some(action) = self.engine.poll(common.instant(now)) {
            self.act(common, action);
        }
        std::mem::swap(&mut self.effects, effects);
        read
    }

    fn handle(&mut self, common: &Common, event: Event) {
        let handled = self.engine.handle(common.instant(self.now), event);
        debug_assert!(handled.is_ok(), "all chunks are of this share");
    }

    fn read(&mut self, common: &Common, from: u32, what: What) {
        match what {
            What::Joined { rtt, reach } => self.read_joined(common, from, rtt, reach),
            What::Left => self.part(common, from),
            What::News(news) if self.links.contains_key(&from) => {
                self.read_news(common, from, &news)
            }
            What::Suggestion(runs) if self.links.contains_key(&from) => {
                let (peer, runs) = (common.key(from), runs.to_vec());
                self.handle_share(common, transfer::Event::Suggested { peer, runs });
            }
            What::Ask { request, chunk } if self.links.contains_key(&from) => {
                self.read_ask(common, from, request, chunk);
            }
            What::News(_) | What::Suggestion(_) | What::Ask { .. } => (),
            What::Cancel { request } => self.read_cancel(common, from, request),
            What::Refused { request, reason } => {
                if self.fetches.remove(&request).is_some() {
                    self.handle_share(common, transfer::Event::Refused { request, reason });
                }
            }
            What::Payload {
                request,
                bytes,
                end,
            } => self.read_payload(common, request, bytes, end),
            What::Verdict { request, is_right } => self.read_verdict(common, request, is_right),
            What::Sent {
                upload,
                bytes,
                is_last,
            } => {
                self.handle(common, Event::Sent { upload, bytes });
                if is_last {
                    self.forget(upload);
                    self.handle(common, Event::UploadEnded { upload });
                }
            }
        }
    }

    fn read_joined(&mut self, common: &Common, from: u32, rtt: Duration, reach: Reach) {
        self.links.insert(from, reach);
        let peer = common.key(from);
        let greeting = self.engine.greeting(&common.swarm);
        let greeting = self.said(common, greeting);
        self.effects
            .push(Effect::Tell(from, What::News(Arc::new(greeting))));
        self.mislead(common, from);
        self.handle_share(common, transfer::Event::PeerJoined { peer, rtt, reach });
    }

    /// What it says where it should say this.
    fn said(&self, common: &Common, news: News) -> News {
        match self.fault {
            Fault::Misleads => News {
                started: vec![all(common)],
                supplied: Some(true),
                ..News::default()
            },
            _ => news,
        }
    }

    /// Suggests everything to another, if that is its way.
    fn mislead(&mut self, common: &Common, to: u32) {
        if self.fault == Fault::Misleads {
            let suggestion = What::Suggestion(Arc::new(vec![all(common)]));
            self.effects.push(Effect::Tell(to, suggestion));
        }
    }

    fn read_news(&mut self, common: &Common, from: u32, news: &News) {
        self.mislead(common, from);
        let peer = common.key(from);
        if let Some(supplied) = news.supplied {
            self.handle_share(common, transfer::Event::Supplied { peer, supplied });
        }
        if !news.lost.is_empty() {
            let runs = news.lost.clone();
            self.handle_share(common, transfer::Event::Lacks { peer, runs });
        }
        if !news.have.is_empty() {
            let runs = news.have.clone();
            self.handle_share(common, transfer::Event::Has { peer, runs });
        }
        if !news.started.is_empty() {
            let runs = news.started.clone();
            self.handle_share(common, transfer::Event::Started { peer, runs });
        }
    }

    fn read_ask(&mut self, common: &Common, from: u32, request: RequestId, chunk: ChunkIndex) {
        let refusal = match self.fault {
            Fault::Refuses => Some(NoReason::Busy),
            Fault::Lies | Fault::Misleads => Some(NoReason::NotHere),
            _ => None,
        };
        if let Some(reason) = refusal {
            self.effects
                .push(Effect::Tell(from, What::Refused { request, reason }));
            return;
        }
        let upload = UploadId(self.next_upload);
        self.next_upload += 1;
        let bytes = common.content.layout.chunk_len(chunk);
        self.uploads.insert(
            upload,
            Asked {
                from,
                request,
                bytes,
                is_served: false,
            },
        );
        self.by_request.insert((from, request), upload);
        let (swarm, peer) = (common.swarm, common.key(from));
        self.handle(
            common,
            Event::Asked {
                upload,
                swarm,
                peer,
                chunk,
                bytes,
            },
        );
    }

    fn read_cancel(&mut self, common: &Common, from: u32, request: RequestId) {
        let Some(&upload) = self.by_request.get(&(from, request)) else {
            return;
        };
        if self.forget(upload).is_some_and(|asked| asked.is_served) {
            self.effects.push(Effect::Stop(from, upload));
        }
        self.handle(common, Event::UploadEnded { upload });
    }

    fn read_payload(&mut self, common: &Common, request: RequestId, bytes: u32, end: Option<Fate>) {
        let Some(fetch) = self.fetches.get_mut(&request) else {
            self.effects.push(Effect::Wasted(bytes));
            return;
        };
        fetch.received += bytes;
        let hashing = f64::from(fetch.received) / HASHED_BYTES_PER_S;
        self.handle_share(common, transfer::Event::Received { request, bytes });
        let is_right = match end {
            Some(Fate::Whole) => true,
            Some(Fate::Corrupt) => false,
            Some(Fate::Silent) | None => return,
        };
        let takes = VERDICT + Duration::from_secs_f64(hashing);
        let verdict = What::Verdict { request, is_right };
        self.effects.push(Effect::Later(nanos(takes), verdict));
    }

    fn read_verdict(&mut self, common: &Common, request: RequestId, is_right: bool) {
        let Some(fetch) = self.fetches.remove(&request) else {
            return;
        };
        if is_right {
            self.effects
                .push(Effect::Has(fetch.chunk, self.now - fetch.asked));
            self.handle_share(common, transfer::Event::Verified { request });
        } else {
            self.effects.push(Effect::Wasted(fetch.received));
            self.handle_share(common, transfer::Event::Corrupt { request });
        }
    }

    /// The connection to another is gone, and all that was asked over it.
    fn part(&mut self, common: &Common, other: u32) {
        if self.links.remove(&other).is_none() {
            return;
        }
        for (_, fetch) in self.fetches.extract_if(.., |_, fetch| fetch.from == other) {
            self.effects.push(Effect::Wasted(fetch.received));
        }
        let asked = self.uploads.iter().filter(|(_, asked)| asked.from == other);
        for upload in asked.map(|(upload, _)| *upload).collect::<Vec<_>>() {
            self.forget(upload);
            self.handle(common, Event::UploadEnded { upload });
        }
        self.effects.push(Effect::StopAll(other));
        let peer = common.key(other);
        self.handle_share(common, transfer::Event::PeerLeft { peer });
    }

    fn forget(&mut self, upload: UploadId) -> Option<Asked> {
        let asked = self.uploads.remove(&upload)?;
        self.by_request.remove(&(asked.from, asked.request));
        Some(asked)
    }

    fn refuse(&mut self, upload: UploadId, reason: NoReason) {
        if let Some(asked) = self.forget(upload) {
            let request = asked.request;
            self.effects
                .push(Effect::Tell(asked.from, What::Refused { request, reason }));
        }
    }

    fn act(&mut self, common: &Common, action: Action) {
        match action {
            Action::Share { action, .. } => self.act_share(common, action),
            Action::Serve { upload } => self.serve(upload),
            Action::Refuse { upload } => self.refuse(upload, NoReason::Busy),
            Action::Deny { upload } => self.refuse(upload, NoReason::NotHere),
            // Here a chunk is passed on once it is whole.
            Action::PassOn { .. } | Action::Judged { .. } => (),
            Action::Announce { news, .. } => {
                let news = self.said(common, news);
                self.effects
                    .push(Effect::TellAll(What::News(Arc::new(news))));
            }
            Action::Suggest { peer, runs, .. } => {
                self.effects
                    .push(Effect::Tell(index(&peer), What::Suggestion(Arc::new(runs))));
            }
        }
    }

    fn act_share(&mut self, common: &Common, action: transfer::Action) {
        match action {
            transfer::Action::Request {
                request,
                peer,
                chunk,
                ..
            } => {
                let from = index(&peer);
                self.fetches.insert(
                    request,
                    Fetch {
                        from,
                        chunk,
                        asked: self.now,
                        received: 0,
                    },
                );
                self.effects
                    .push(Effect::Tell(from, What::Ask { request, chunk }));
            }
            transfer::Action::Cancel { request } => {
                if let Some(fetch) = self.fetches.remove(&request) {
                    self.effects.push(Effect::Wasted(fetch.received));
                    self.effects
                        .push(Effect::Tell(fetch.from, What::Cancel { request }));
                }
            }
            transfer::Action::Ban { peer } => {
                let other = index(&peer);
                self.effects.push(Effect::Bans(other));
                self.effects.push(Effect::Tell(other, What::Left));
                self.part(common, other);
            }
        }
    }

    fn serve(&mut self, upload: UploadId) {
        let Some(asked) = self.uploads.get_mut(&upload) else {
            return;
        };
        asked.is_served = true;
        let (bytes, fate) = match self.fault {
            Fault::Corrupts => (asked.bytes, Fate::Corrupt),
            Fault::Stalls => (asked.bytes / 2, Fate::Silent),
            Fault::None | Fault::Lies | Fault::Refuses | Fault::Misleads => {
                (asked.bytes, Fate::Whole)
            }
        };
        let served = Upload {
            id: upload,
            request: asked.request,
            bytes,
            fate,
        };
        self.effects.push(Effect::Serve(asked.from, served));
    }
}

/// Every chunk of the share.
fn all(common: &Common) -> Run {
    Run {
        start: 0,
        count: common.content.layout.chunk_count(),
    }
}

impl Common {
    pub(super) fn instant(&self, at: Nanos) -> Instant {
        self.origin + Duration::from_nanos(at)
    }

    fn nanos(&self, at: Instant) -> Nanos {
        nanos(at.saturating_duration_since(self.origin))
    }

    fn key(&self, peer: u32) -> PublicKey {
        self.keys[peer as usize]
    }
}

/// The key of a peer: its number behind bytes that put the keys into an order of their own.
pub(super) fn key(peer: u32, seed: u64) -> PublicKey {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&mix(seed ^ u64::from(peer)).to_be_bytes());
    key[28..].copy_from_slice(&peer.to_be_bytes());
    PublicKey(key)
}

/// The number of the peer with a key.
fn index(key: &PublicKey) -> u32 {
    let [.., a, b, c, d] = key.0;
    u32::from_be_bytes([a, b, c, d])
}
