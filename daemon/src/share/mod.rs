//! One share of this daemon, as the node keeps it.
//!
//! A [`Share`] is where a share stands and who watches it; what is to be done with it is decided in
//! `node`. Its bytes are given by [`offer`], taken in by [`writer`], passed on while they come by [`arrival`], found and finished by
//! [`depot`]; [`changes`] is what is no longer right of it; what a link does not say is learnt by [`metadata`].

pub(crate) mod arrival;
pub(crate) mod changes;
pub(crate) mod depot;
pub(crate) mod metadata;
pub(crate) mod offer;
pub(crate) mod rereading;
pub(crate) mod writer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use warren_proto::content::Content;
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::transfer::{BanList, Download, Reach, RequestId};
use warren_proto::wire::{MemberState, Paths};

use crate::control::model::{ApiError, Event, FileCounts, PublishedShare, ShareState};
use crate::control::wish::Picked;
use crate::node::{Fetch, Receiver};
use crate::store::db::ShareRecord;
use crate::store::rereading::Noted;
use crate::store::terms::Terms;
use crate::tracker::TrackerId;
use changes::Changes;
use offer::Offer;
use rereading::Rereading;
use writer::Writer;

/// How far back the shown rate looks.
const RATE_WINDOW: Duration = Duration::from_secs(3);

/// For how long it has looked at least: the first moments of something say little of the rest.
const RATE_LEAST: Duration = Duration::from_secs(1);

/// Tells one life of a share from the next one of the same swarm, so that what a task reports
/// late is not taken for news of its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(pub(crate) u64);

/// A share.
#[derive(Debug)]
pub(crate) struct Share {
    /// Which life of it this is.
    pub(crate) epoch: Epoch,
    /// What the database holds of it, but for the manifest.
    pub(crate) record: ShareRecord,
    /// Where it stands.
    pub(crate) phase: Phase,
    /// Peers that trackers told us of.
    pub(crate) members: BTreeMap<PublicKey, Known>,
    /// Peers that have sent wrong bytes of it.
    pub(crate) banned: BanList,
    /// Who waits for it to be complete.
    pub(crate) watchers: Vec<Watcher>,
    /// Content bytes received since the daemon began.
    pub(crate) received: Received,
    /// How fast they come.
    pub(crate) rate: Rate,
    /// Which files of it are wanted, once that is known.
    pub(crate) picked: Option<Arc<Picked>>,
    /// Of a share that is given without being whole: what would take in more.
    pub(crate) kept: Option<Arc<Writer>>,
    /// Files are being made or moved, since others are wanted.
    pub(crate) is_choosing: bool,
    /// Of a folder that is complete: which of its files are no longer what was shared.
    pub(crate) changes: Option<Changes>,
    /// Of a share that is complete: which of its files have to be read again.
    pub(crate) rereading: Rereading,
    /// Until when peers are being met who are likely to be reached directly.
    pub(crate) expected: Option<Instant>,
    /// The person wants it to be neither fetched nor given.
    pub(crate) pause: Option<Pause>,
    /// Verified bytes and bytes in all when it was stopped.
    pub(crate) stopped_bytes: (u64, u64),
    /// What it was, while it is tried whether it can be fetched once more.
    pub(crate) was: Option<Box<ShareRecord>>,
    /// Its files are being verified, and repaired if need be.
    pub(crate) verifying: Option<Verifying>,
    /// Nobody wants it yet, but to know what it is.
    pub(crate) is_preview: bool,
    /// For how long and how often it is given.
    pub(crate) terms: Terms,
    /// What peers have of it that are not counted as having it, while that is counted.
    pub(crate) receivers: BTreeMap<PublicKey, Receiver>,
}

/// A verification that has not ended.
#[derive(Debug, Default)]
pub(crate) struct Verifying {
    /// Bytes of the share that were here when it began, as far as was known.
    pub(crate) had_bytes: u64,
    /// Bytes of those that turned out to be wrong or missing.
    pub(crate) wrong_bytes: u64,
    /// Where what somebody has edited of it is kept, once there is anything.
    pub(crate) kept: Arc<OnceLock<PathBuf>>,
}

/// What a paused share goes on with.
#[derive(Debug)]
pub(crate) enum Pause {
    /// It is not paused yet: its files are being made, read or named, or an error has stopped it.
    Asked,
    /// A download, as it was.
    Download(Arc<Writer>),
    /// A complete share.
    Complete(Arc<Offer>),
    /// A download of which only the link is known.
    Link,
}

/// Content bytes by how the peers are reached that sent them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    pub(crate) direct_bytes: u64,
    pub(crate) relayed_bytes: u64,
}

impl Received {
    /// So many more have come.
    pub(crate) fn add(&mut self, reach: Reach, bytes: u32) {
        let counter = match reach {
            Reach::Direct => &mut self.direct_bytes,
            Reach::Relayed => &mut self.relayed_bytes,
        };
        *counter += u64::from(bytes);
    }

    /// All of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.direct_bytes + self.relayed_bytes
    }
}

/// Metadata → Preparing → Downloading → Finishing → Seeding; a registered share begins as Seeding,
/// one found after a restart as Preparing. Any may become Stopped.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Only the link is known.
    Metadata(Learning),
    /// Its files are being made, or read again after a restart.
    Preparing {
        /// Bytes found to be right so far.
        verified_bytes: Arc<AtomicU64>,
        /// Bytes in all; 0 when they are not known.
        bytes: u64,
        /// Whether nothing of it was there before.
        is_new: bool,
    },
    /// Being fetched.
    Downloading(Box<Active>),
    /// All is there; it is being made durable and gets its name.
    Finishing(Arc<Writer>),
    /// Complete.
    Seeding(Arc<Offer>),
    /// Neither fetched nor given until the person does something.
    Stopped {
        /// Why.
        error: ApiError,
        /// Whether the files are no longer what was shared.
        changed: bool,
    },
}

/// Which peers know what a link does not say.
#[derive(Debug, Default)]
pub(crate) struct Learning {
    /// Size and name as peers describe them.
    pub(crate) described: BTreeMap<PublicKey, (u64, String)>,
    /// Peers that were asked in vain.
    pub(crate) tried: BTreeSet<PublicKey>,
    /// When they may be asked again.
    pub(crate) retry_at: Option<Instant>,
    /// The one that is being asked.
    pub(crate) asking: Option<(PublicKey, Task)>,
}

/// A download under way.
#[derive(Debug)]
pub(crate) struct Active {
    /// Takes in what comes.
    pub(crate) writer: Arc<Writer>,
    /// Requests under way.
    pub(crate) fetches: BTreeMap<RequestId, Fetch>,
    /// Ends the task that syncs.
    pub(crate) _syncing: DropGuard,
}

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Task(pub(crate) AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A peer of the swarm that a tracker told us of.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// What it is said to have.
    pub(crate) state: MemberState,
    /// Which tracker said so last.
    pub(crate) tracker: TrackerId,
    /// When to ask for an introduction next.
    pub(crate) next_try: Instant,
    /// How often we have asked in vain.
    pub(crate) tries: u32,
    /// By which paths it wants to be reached.
    pub(crate) paths: Paths,
    /// Why it is not reached whatever we do.
    pub(crate) obstacle: Option<Obstacle>,
    /// An introduction came without a way through a tracker, or has led nowhere.
    pub(crate) is_unreached: bool,
    /// Since when that tracker has not named it among our neighbours any more.
    pub(crate) former: Option<Instant>,
}

/// Why two daemons have no path in common, as they were started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Obstacle {
    /// We want to be reached through a tracker alone, and the peer directly.
    TheyWantDirect,
    /// The other way round.
    TheyWantRelay,
    /// We want to be reached through a tracker alone, and this one offers nothing.
    NoRelayForUs(TrackerId),
    /// The peer does.
    NoRelayForThem(TrackerId),
}

/// Someone who waits for a download.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// Where to tell.
    pub(crate) events: mpsc::Sender<Event>,
    /// When they asked.
    pub(crate) since: Instant,
    /// What they asked for was complete already.
    pub(crate) found: Option<Found>,
    /// It was paused, which their asking has ended.
    pub(crate) was_paused: bool,
    /// They want to know what it is, and no more.
    pub(crate) preview: Option<Previewing>,
}

impl Watcher {
    /// Who has just asked, and is told there.
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Watcher {
        Watcher {
            events,
            since: Instant::now(),
            found: None,
            was_paused: false,
            preview: None,
        }
    }
}

/// What is known before of something that somebody wants to know of.
#[derive(Clone, Debug)]
pub(crate) struct Previewing {
    /// The folder to which it would go.
    pub(crate) folder: PathBuf,
    /// Whose version it is, where its publisher has signed that.
    pub(crate) signed: Option<PublishedShare>,
}

/// What somebody wanted of a share that was complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Bytes of it.
    pub(crate) bytes: u64,
    /// How many files that is, unless it is all of them.
    pub(crate) files: Option<FileCounts>,
}

impl Share {
    /// A share in its first phase.
    pub(crate) fn new(epoch: Epoch, record: ShareRecord, phase: Phase) -> Share {
        Share {
            epoch,
            record,
            phase,
            members: BTreeMap::new(),
            banned: BanList::default(),
            watchers: Vec::new(),
            received: Received::default(),
            rate: Rate::default(),
            picked: None,
            kept: None,
            is_choosing: false,
            changes: None,
            rereading: Rereading::default(),
            expected: None,
            pause: None,
            stopped_bytes: (0, 0),
            was: None,
            verifying: None,
            is_preview: false,
            terms: Terms::default(),
            receivers: BTreeMap::new(),
        }
    }

    /// Its swarm.
    pub(crate) fn swarm(&self) -> SwarmId {
        self.record.swarm()
    }

    /// What its files are now.
    pub(crate) fn take_noted(&mut self, noted: Noted) {
        match noted {
            Noted::Whole(identities) => self.record.identities = Some(identities),
            Noted::Settled(settled) => self.record.settled = Some(settled),
        }
    }

    /// What a tracker is told of it; `None` while others could do nothing with us.
    pub(crate) fn member_state(&self) -> Option<MemberState> {
        match self.phase {
            // Who is taken for a seed is asked for anything.
            Phase::Finishing(_) | Phase::Seeding(_)
                if self.leaves_out() || self.changes.is_some() =>
            {
                Some(MemberState::Leech)
            }
            Phase::Finishing(_) | Phase::Seeding(_) => Some(MemberState::Seed),
            _ => self.wants().then_some(MemberState::Leech),
        }
    }

    /// Whether it wants something of others. A new download does so while its files are being
    /// made: peers meet meanwhile.
    pub(crate) fn wants(&self) -> bool {
        match self.phase {
            Phase::Metadata(_) | Phase::Downloading(_) => true,
            Phase::Preparing { is_new, .. } => is_new,
            Phase::Finishing(_) | Phase::Seeding(_) | Phase::Stopped { .. } => false,
        }
    }

    /// What is being fetched of it.
    pub(crate) fn downloaded(&self) -> Option<&Content> {
        match &self.phase {
            Phase::Downloading(active) => Some(&active.writer.offer.content),
            _ => None,
        }
    }

    /// What others may ask for.
    pub(crate) fn offer(&self) -> Option<&Arc<Offer>> {
        match &self.phase {
            Phase::Downloading(active) => Some(&active.writer.offer),
            Phase::Finishing(writer) => Some(&writer.offer),
            Phase::Seeding(offer) => Some(offer),
            Phase::Metadata(_) | Phase::Preparing { .. } | Phase::Stopped { .. } => None,
        }
    }

    /// Verified bytes and bytes in all, of what is wanted; the latter 0 while they are not known.
    /// `download` is what is fetched of it.
    pub(crate) fn bytes(&self, download: Option<&Download>) -> (u64, u64) {
        let picked = self.picked.as_ref().map(|picked| picked.selection.bytes());
        let wanted = |offer: &Offer| picked.unwrap_or(offer.content.size);
        match &self.phase {
            Phase::Stopped { .. } => self.stopped_bytes,
            Phase::Metadata(_) => (0, 0),
            Phase::Preparing {
                verified_bytes,
                bytes,
                ..
            } => (verified_bytes.load(Ordering::Relaxed), *bytes),
            Phase::Downloading(active) => {
                let bytes = wanted(&active.writer.offer);
                (download.map_or(0, Download::verified_bytes), bytes)
            }
            Phase::Finishing(writer) => (wanted(&writer.offer), wanted(&writer.offer)),
            Phase::Seeding(offer) => {
                let right = self.changes.as_ref().map(|changes| changes.right_bytes);
                let right = right.unwrap_or_else(|| wanted(offer));
                let right = right.saturating_sub(self.rereading.doubtful_bytes());
                (right, wanted(offer))
            }
        }
    }

    /// Whether the person has stopped it.
    pub(crate) fn is_paused(&self) -> bool {
        !matches!(self.pause, None | Some(Pause::Asked))
    }

    /// Bytes of what is wanted, as far as they are known.
    pub(crate) fn size(&self) -> u64 {
        let offer = self.offer().map(|offer| offer.content.size);
        let picked = self.picked.as_ref().map(|picked| picked.selection.bytes());
        picked.or(offer).unwrap_or(match &self.phase {
            Phase::Preparing { bytes, .. } => *bytes,
            _ => self.stopped_bytes.1,
        })
    }

    /// How many files are wanted, unless all are.
    pub(crate) fn file_counts(&self) -> Option<FileCounts> {
        let picked = self.picked.as_ref()?;
        (!picked.is_everything()).then(|| FileCounts {
            selected: picked.files.into(),
            of: picked.chosen.len() as u64,
        })
    }

    /// The word for where it stands. `download` is what is fetched of it.
    pub(crate) fn state(&self, download: Option<&Download>) -> ShareState {
        match &self.phase {
            Phase::Metadata(learning) if learning.asking.is_some() => ShareState::Metadata,
            Phase::Metadata(_) => ShareState::Waiting,
            Phase::Preparing { .. } => ShareState::Hashing,
            Phase::Downloading(active) if is_starved(active, download) => ShareState::Waiting,
            Phase::Downloading(_) | Phase::Finishing(_) => ShareState::Downloading,
            Phase::Seeding(_) if self.changes.is_some() => ShareState::Changed,
            Phase::Seeding(_) if self.rereading.is_doubtful() => ShareState::Hashing,
            Phase::Seeding(_) => ShareState::Seeding,
            Phase::Stopped { .. } if self.pause.is_some() => ShareState::Paused,
            Phase::Stopped { .. } if self.is_withheld() => ShareState::Withheld,
            Phase::Stopped { changed: true, .. } => ShareState::Changed,
            Phase::Stopped { .. } => ShareState::Failed,
        }
    }
}

impl Share {
    /// The word for what it is besides, while it is paused.
    pub(crate) fn also(&self) -> Option<ShareState> {
        if !matches!(self.phase, Phase::Stopped { .. }) {
            return None;
        }
        let pause = self.pause.as_ref()?;
        match pause {
            _ if self.has_changed() => Some(ShareState::Changed),
            _ if self.is_withheld() => Some(ShareState::Withheld),
            // It was stopped before anybody could pause it.
            Pause::Asked => Some(ShareState::Failed),
            _ => None,
        }
    }

    /// Whether its files are no longer what was shared, as far as is known.
    pub(crate) fn has_changed(&self) -> bool {
        let is_stopped_so = matches!(self.phase, Phase::Stopped { changed: true, .. });
        is_stopped_so || self.changes.is_some()
    }
}

fn is_starved(active: &Active, download: Option<&Download>) -> bool {
    active.fetches.is_empty() && !download.is_some_and(Download::has_source)
}

/// A token and the guard that cancels it.
pub(crate) fn guarded_token() -> (CancellationToken, DropGuard) {
    let token = CancellationToken::new();
    let guard = token.clone().drop_guard();
    (token, guard)
}

/// Bytes a second over the last [`RATE_WINDOW`].
#[derive(Debug, Default)]
pub(crate) struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    /// Notes how many bytes there are in all by now.
    pub(crate) fn sample(&mut self, now: Instant, total: u64) {
        self.0.push_back((now, total));
        while self.0.len() > 2 && now.duration_since(self.0[1].0) >= RATE_WINDOW {
            self.0.pop_front();
        }
    }

    /// The rate; 0 before there are samples of [`RATE_LEAST`].
    pub(crate) fn bytes_per_s(&self) -> u64 {
        let (Some((first, before)), Some((last, after))) = (self.0.front(), self.0.back()) else {
            return 0;
        };
        let elapsed = last.duration_since(*first);
        match elapsed < RATE_LEAST {
            true => 0,
            false => (after.saturating_sub(*before) as f64 / elapsed.as_secs_f64()) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.bytes_per_s(), 0);
        for second in 0..10u64 {
            // Nothing for five seconds, then a hundred bytes in each.
            let total = second.saturating_sub(5) * 100;
            rate.sample(start + Duration::from_secs(second), total);
        }
        assert_eq!(rate.bytes_per_s(), 100);
        let mut rate = Rate::default();
        for tenth in 0..10u64 {
            rate.sample(start + Duration::from_millis(100 * tenth), tenth);
            assert_eq!(rate.bytes_per_s(), 0, "too early to tell");
        }
    }
}
