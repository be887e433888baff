//! A swarm on virtual time around one download, for the tests beside it.
//!
//! Sources serve what they are asked for in order, each at its rate, and a round trip away. Every
//! action is checked against what the sources and the download may do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::Reach;
use super::consistency;
use super::{Action, Download, Event, RequestId};
use crate::content::{ChunkSet, Content, HashList, Run, ShareName};
use crate::id::PublicKey;
use crate::wire::NoReason;

/// The chunk size of shares up to 128 MiB.
pub(in crate::transfer) const CHUNK_BYTES: u32 = 64 * 1024;
/// In how many pieces a chunk arrives.
const PIECES: u32 = 4;
/// Shares of at most so many chunks are counted through after every event, larger ones less often.
const CHECKED_CHUNKS: u64 = 128;
/// From the last byte to the verdict.
const VERIFY_TIME: Duration = Duration::from_millis(2);

/// A file of so many bytes. Its hashes are of nothing.
pub(in crate::transfer) fn share(bytes: u64) -> Arc<Content> {
    let count = crate::content::Layout::file(bytes).unwrap().hash_count();
    let hashes: HashList = (0..count).map(|_| [7; 32]).collect();
    let name = ShareName::parse("simulated.bin").unwrap();
    Arc::new(Content::file(name, bytes, hashes).unwrap())
}

/// A file of so many chunks, the last of them a little shorter.
pub(in crate::transfer) fn chunks(count: u32) -> Arc<Content> {
    share(u64::from(count) * u64::from(CHUNK_BYTES) - 1000)
}

pub(in crate::transfer) fn key(n: u8) -> PublicKey {
    PublicKey([n; 32])
}

/// What a source does wrong, each with this probability for each request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// Serves wrong bytes.
    pub(super) corrupt: f64,
    /// Serves part and then nothing more of this request; later ones it serves.
    pub(super) silent: f64,
    pub(super) busy: f64,
    pub(super) fails: f64,
    /// Does not have what it said it has.
    pub(super) lies: f64,
}

/// A peer that can be asked.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) bytes_per_s: u64,
    pub(super) rtt: Duration,
    pub(super) reach: Reach,
    pub(super) has: Vec<Run>,
    pub(super) faults: Faults,
    /// From when on it delivers nothing at all.
    pub(super) dies: Option<Duration>,
}

impl Source {
    /// Has everything and does nothing wrong.
    pub(super) fn seed(content: &Content, bytes_per_s: u64, rtt_ms: u64) -> Source {
        let count = content.layout.chunk_count();
        Source {
            bytes_per_s,
            rtt: Duration::from_millis(rtt_ms),
            reach: Reach::Direct,
            has: vec![Run { start: 0, count }],
            faults: Faults::default(),
            dies: None,
        }
    }

    fn holds(&self, chunk: u32) -> bool {
        let mut runs = self.has.iter();
        runs.any(|run| (run.start..run.start + run.count).contains(&chunk))
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Asked(RequestId),
    Serve(PublicKey),
    Tell(Event),
    Join(PublicKey, Source),
}

#[derive(Debug)]
struct Asked {
    peer: PublicKey,
    len: u32,
    served: u32,
    /// How many bytes the source will serve.
    will_serve: u32,
    verdict: Option<Event>,
}

#[derive(Debug)]
struct Serving {
    source: Source,
    queue: VecDeque<RequestId>,
    is_serving: bool,
}

/// One download and its sources.
pub(super) struct Simulation {
    pub(super) download: Download,
    content: Arc<Content>,
    start: Instant,
    now: Instant,
    happenings: BTreeMap<(Instant, u64), Happening>,
    next: u64,
    sources: BTreeMap<PublicKey, Serving>,
    live: BTreeMap<RequestId, Asked>,
    banned: BTreeSet<PublicKey>,
    budget: u64,
    rng: StdRng,
    /// Every action and when it was yielded.
    pub(super) log: Vec<(Duration, Action)>,
    /// Bytes each source has sent.
    pub(super) sent: BTreeMap<PublicKey, u64>,
    /// When each chunk was verified first.
    pub(super) verified: BTreeMap<u32, Duration>,
    /// Chunks of live requests.
    asked_for: BTreeMap<RequestId, u32>,
    suggested: consistency::Suggested,
}

impl Simulation {
    pub(super) fn new(content: &Arc<Content>, seed: u64) -> Simulation {
        let have = ChunkSet::empty(content.layout.chunk_count());
        let now = Instant::now();
        Simulation {
            download: Download::new(content.clone(), have, seed),
            content: content.clone(),
            start: now,
            now,
            happenings: BTreeMap::new(),
            next: 0,
            sources: BTreeMap::new(),
            live: BTreeMap::new(),
            banned: BTreeSet::new(),
            budget: 48 << 20,
            rng: StdRng::seed_from_u64(seed),
            log: Vec::new(),
            sent: BTreeMap::new(),
            verified: BTreeMap::new(),
            asked_for: BTreeMap::new(),
            suggested: BTreeSet::new(),
        }
    }

    /// A source joins now and says what it has.
    pub(super) fn with(mut self, n: u8, source: Source) -> Simulation {
        self.join_after(Duration::ZERO, n, source);
        self
    }

    /// A source joins later, or joins anew.
    pub(super) fn join_after(&mut self, after: Duration, n: u8, source: Source) {
        self.schedule(self.start + after, Happening::Join(key(n), source));
    }

    /// Something happens later.
    pub(super) fn tell_after(&mut self, after: Duration, event: Event) {
        self.schedule(self.start + after, Happening::Tell(event));
    }

    /// Runs until everything is verified and returns how long it took, or gives up at `limit`.
    pub(super) fn run(&mut self, limit: Duration) -> Option<Duration> {
        self.run_past(Duration::ZERO, limit)
    }

    /// What time it is.
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// How long it has run.
    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// The same, and until everything is over that happens at `least` or before.
    pub(super) fn run_past(&mut self, least: Duration, limit: Duration) -> Option<Duration> {
        let end = self.start + limit;
        self.act();
        let least = self.start + least;
        let is_due = |it: &Self| {
            let first = it.happenings.first_key_value();
            first.is_some_and(|((at, _), _)| *at <= least)
        };
        while !self.download.is_complete() || is_due(self) {
            let next = self.happenings.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.download.deadline();
            let wake = next.into_iter().chain(deadline).min()?;
            self.now = self.now.max(wake);
            if self.now > end {
                return None;
            }
            if next.is_some_and(|next| next <= self.now)
                && let Some((_, happening)) = self.happenings.pop_first()
            {
                self.happen(happening);
            }
            self.act();
        }
        Some(self.now - self.start)
    }

    /// Bytes sent beyond the share's size, as a part of it.
    pub(super) fn overhead(&self) -> f64 {
        let sent: u64 = self.sent.values().sum();
        sent as f64 / self.content.size as f64 - 1.0
    }

    /// How a source is reached that has not left.
    pub(super) fn reach_of(&self, peer: &PublicKey) -> Option<Reach> {
        self.sources.get(peer).map(|serving| serving.source.reach)
    }

    /// Whom each chunk was asked of, in order.
    pub(super) fn asked(&self) -> impl Iterator<Item = (PublicKey, u32)> + '_ {
        self.log.iter().filter_map(|(_, action)| match action {
            Action::Request { peer, chunk, .. } => Some((*peer, chunk.value())),
            Action::Cancel { .. } | Action::Ban { .. } => None,
        })
    }

    fn schedule(&mut self, at: Instant, happening: Happening) {
        self.next += 1;
        self.happenings.insert((at, self.next), happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Asked(id) => self.take_request(id),
            Happening::Serve(key) => self.serve(key),
            Happening::Tell(event) => self.tell(event),
            Happening::Join(key, source) => self.join(key, source),
        }
    }

    fn tell(&mut self, event: Event) {
        match &event {
            Event::PeerLeft { peer } | Event::PeerJoined { peer, .. } => {
                self.sources.remove(peer);
                self.live.retain(|_, asked| asked.peer != *peer);
            }
            Event::Verified { request }
            | Event::Corrupt { request }
            | Event::Refused { request, .. }
            | Event::Failed { request }
            | Event::Withdrawn { request } => {
                let was_live = self.live.remove(request).is_some();
                let chunk = self.asked_for.remove(request);
                if let (Event::Verified { .. }, true, Some(chunk)) = (&event, was_live, chunk) {
                    let at = self.now - self.start;
                    self.verified.entry(chunk).or_insert(at);
                }
            }
            Event::Budget { bytes } => self.budget = *bytes,
            Event::Suggested { peer, runs } => {
                let chunks = runs.iter().flat_map(|run| run.start..run.start + run.count);
                self.suggested.extend(chunks.map(|chunk| (*peer, chunk)));
            }
            Event::Has { .. }
            | Event::Started { .. }
            | Event::PeerMoved { .. }
            | Event::Lacks { .. }
            | Event::Received { .. }
            | Event::Supplied { .. }
            | Event::Expected { .. }
            | Event::Selected { .. }
            | Event::Forgotten { .. } => (),
        }
        self.download.handle(self.now, event).unwrap();
    }

    fn join(&mut self, peer: PublicKey, source: Source) {
        let (rtt, reach, runs) = (source.rtt, source.reach, source.has.clone());
        self.tell(Event::PeerJoined { peer, rtt, reach });
        self.tell(Event::Has { peer, runs });
        let serving = Serving {
            source,
            queue: VecDeque::new(),
            is_serving: false,
        };
        self.sources.insert(peer, serving);
    }

    /// Polls until there is nothing more to do, and checks every action.
    fn act(&mut self) {
        while let Some(action) = self.download.poll(self.now) {
            self.log.push((self.now - self.start, action));
            if self.is_checked() {
                consistency::check_choice(&self.download, &action, &self.suggested);
            }
            match action {
                Action::Request {
                    request,
                    peer,
                    chunk,
                    len,
                } => self.request(request, peer, chunk.value(), len),
                Action::Cancel { request } => {
                    let asked = self.live.remove(&request);
                    assert!(asked.is_some(), "{request} was cancelled, but is not live");
                }
                Action::Ban { peer } => {
                    assert!(self.banned.insert(peer), "{peer} was banned twice");
                    assert!(self.live.values().all(|asked| asked.peer != peer));
                }
            }
        }
        if self.is_checked() {
            consistency::check(&self.download);
        }
        let deadline = self.download.deadline();
        assert!(
            deadline.is_none_or(|deadline| deadline > self.now),
            "it would spin"
        );
    }

    fn is_checked(&self) -> bool {
        let chunks = u64::from(self.content.layout.chunk_count());
        self.next
            .is_multiple_of(1 + (chunks / CHECKED_CHUNKS).pow(2))
    }

    fn request(&mut self, id: RequestId, peer: PublicKey, chunk: u32, len: u32) {
        let serving = &self.sources[&peer];
        assert!(!self.banned.contains(&peer), "{peer} is banned");
        assert!(
            serving.source.holds(chunk),
            "{peer} never said it had {chunk}"
        );
        let index = self.content.layout.chunk(chunk).unwrap();
        assert_eq!(len, self.content.layout.chunk_len(index));
        assert!(!self.download.have().contains(index));
        assert!(self.budget > 0, "asked while paused");
        let arrives = self.now + serving.source.rtt / 2;
        let asked = self.plan(id, peer, len);
        self.live.insert(id, asked);
        self.asked_for.insert(id, chunk);
        let outstanding: u64 = self.live.values().map(|asked| u64::from(asked.len)).sum();
        assert_eq!(outstanding, self.download.outstanding_bytes());
        assert!(
            outstanding <= self.budget.max(len.into()),
            "beyond the budget"
        );
        self.schedule(arrives, Happening::Asked(id));
    }

    /// Decides what will come of a request.
    fn plan(&mut self, request: RequestId, peer: PublicKey, len: u32) -> Asked {
        let faults = self.sources[&peer].source.faults;
        let mut happens = |probability| self.rng.random_bool(probability);
        let refused = |reason| (0, Some(Event::Refused { request, reason }));
        let (will_serve, verdict) = if happens(faults.busy) {
            refused(NoReason::Busy)
        } else if happens(faults.lies) {
            refused(NoReason::NotHere)
        } else if happens(faults.fails) {
            (len / 2, Some(Event::Failed { request }))
        } else if happens(faults.silent) {
            (len / 2, None)
        } else if happens(faults.corrupt) {
            (len, Some(Event::Corrupt { request }))
        } else {
            (len, Some(Event::Verified { request }))
        };
        Asked {
            peer,
            len,
            served: 0,
            will_serve,
            verdict,
        }
    }

    fn take_request(&mut self, id: RequestId) {
        let peer = self.live.get(&id).map(|asked| asked.peer);
        let Some((peer, serving)) =
            peer.and_then(|peer| Some((peer, self.sources.get_mut(&peer)?)))
        else {
            return;
        };
        serving.queue.push_back(id);
        if !serving.is_serving {
            serving.is_serving = true;
            self.serve(peer);
        }
    }

    /// Sends the next piece of the first request in the queue.
    fn serve(&mut self, peer: PublicKey) {
        let (start, now) = (self.start, self.now);
        let Some(serving) = self.sources.get_mut(&peer) else {
            return;
        };
        let live = &self.live;
        serving.queue.retain(|id| live.contains_key(id));
        let dead = serving.source.dies.is_some_and(|dies| start + dies <= now);
        serving.is_serving = !serving.queue.is_empty() && !dead;
        let Some(id) = serving.queue.front().copied().filter(|_| !dead) else {
            return;
        };
        let (rate, half) = (serving.source.bytes_per_s, serving.source.rtt / 2);
        let Some(asked) = self.live.get_mut(&id) else {
            return;
        };
        let bytes = asked
            .len
            .div_ceil(PIECES)
            .min(asked.will_serve - asked.served);
        asked.served += bytes;
        let verdict = asked
            .verdict
            .clone()
            .filter(|_| asked.served == asked.will_serve);
        if asked.served == asked.will_serve {
            serving.queue.pop_front();
        }
        *self.sent.entry(peer).or_default() += u64::from(bytes);
        let sent = now + Duration::from_secs_f64(f64::from(bytes) / rate as f64);
        self.schedule(sent, Happening::Serve(peer));
        if bytes > 0 {
            let received = Event::Received { request: id, bytes };
            self.schedule(sent + half, Happening::Tell(received));
        }
        if let Some(verdict) = verdict {
            self.schedule(sent + half + VERIFY_TIME, Happening::Tell(verdict));
        }
    }
}
