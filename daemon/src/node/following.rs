//! Shares of others that we follow: what is newest, and that it is fetched and takes its place.
//!
//! A head that is newer than all before is noted first, so that no older one is ever believed again. One version
//! is fetched at a time, in a folder of its own, into which goes at once what is here of the others; once it is
//! complete it takes their place. What comes meanwhile waits a moment: only the newest counts then.
//!
//! Not here: how a version that is complete takes its place ([`exchanging`]), what trackers say
//! ([`super::heads`]), shares of ours ([`super::publishing`]), what is done to the disk (`share::depot`).

mod exchanging;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use warren_proto::content::path::printable;
use warren_proto::follow::{FollowLink, Head, PublisherId};
use warren_proto::id::SwarmId;

use super::Node;
use super::beginning::{Wanting, Way};
use super::downloads;
use super::ending::Data;
use super::passing_on::Leaving;
use super::report::tell_last;
use crate::clock::unix_ms;
use crate::control::follow::{self, FollowedShare};
use crate::control::model::ApiError;
use crate::control::wish::Wish;
use crate::hooks::Happening;
use crate::share::{Pause, Phase, Watcher};
use crate::store::db::{ShareRecord, ShareState};
use crate::store::following::{Followed, Held, Published};
use crate::store::reuse::Source;
use crate::store::taken::{IfExists, Placing};

/// Shares that may be followed at once.
pub(super) const MOST: usize = 100;

/// From the beginning of one version until another one is begun in its place. Who publishes more often than that
/// makes nobody fetch more.
const BEGIN_AGAIN: Duration = Duration::from_secs(10);

/// The same after a version that could not be begun.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// Characters of a publisher in the name of the folder for its versions.
const STAGE_CHARS: usize = 8;

/// A share that is followed, as the node keeps it.
#[derive(Debug)]
pub(super) struct Following {
    /// What the database holds.
    pub(super) row: Followed,
    /// When a version may be begun.
    next_begin: Option<Instant>,
    /// The version whose place is being taken.
    leaving: Option<Leaving>,
    /// It was said that the newest version is a share already.
    is_blocked: bool,
}

/// What the files of a new version may be taken from.
#[derive(Debug, Default)]
pub(super) struct Formers {
    /// The version that is complete.
    pub(super) complete: Option<ShareRecord>,
    /// One that is not.
    pub(super) partial: Option<Source>,
}

impl Following {
    fn new(row: Followed) -> Following {
        Following {
            row,
            next_begin: None,
            leaving: None,
            is_blocked: false,
        }
    }
}

impl Node {
    /// Brings back what was followed and published in the last run.
    ///
    /// [`Self::restore`] is to follow, and then [`Self::hold_superseded`].
    pub(crate) fn restore_versions(&mut self, followed: Vec<Followed>, published: Vec<Published>) {
        for row in followed {
            self.ensure_trackers(std::slice::from_ref(&row.link.tracker));
            let publisher = row.publisher();
            let following = Following::new(row);
            self.follows.followed.insert(publisher, following);
        }
        self.restore_published(published);
    }

    /// What was not to be fetched any more is not, until it is dropped.
    pub(crate) fn hold_superseded(&mut self) {
        let rows = self.follows.followed.values();
        let superseded: Vec<Held> = rows.filter_map(|it| it.row.superseded).collect();
        for held in superseded {
            if let Some(share) = self.shares.get_mut(&held.swarm) {
                share.pause.get_or_insert(Pause::Asked);
            }
            self.hold(held.swarm);
        }
    }

    /// Follows a share from now on, whose newest head this is. A version of it that is here already is the one that
    /// the next one takes the place of.
    pub(super) fn begin_following(
        &mut self,
        (link, head): (FollowLink, Head),
        way: Way,
        watcher: Watcher,
    ) {
        let publisher = link.publisher;
        let known = self.known_version(&publisher);
        let elsewhere = known.and_then(|(held, _)| self.is_elsewhere(&held.swarm, &way));
        if let Some(error) = elsewhere {
            return tell_last(watcher, error.into());
        }
        let (is_whole, held) = match known {
            Some((held, share)) => (share.is_complete(), Some(held)),
            None => (false, None),
        };
        let if_exists = way.if_exists;
        let row = Followed {
            link,
            head,
            current: held.filter(|_| is_whole),
            fetching: held.filter(|_| !is_whole),
            to: way.to,
            if_exists,
            superseded: None,
            exchange: None,
            kept: None,
        };
        self.follows.followed.insert(publisher, Following::new(row));
        self.keep_followed(publisher);
        self.advance_followed(Instant::now(), publisher);
        self.attach_follower(&publisher, if_exists, watcher);
    }

    /// Lets somebody watch the newest version come. One that is here is looked at, and what is wrong becomes what
    /// `if_exists` says.
    pub(super) fn attach_follower(
        &mut self,
        publisher: &PublisherId,
        if_exists: IfExists,
        watcher: Watcher,
    ) {
        let row = self.follows.followed.get(publisher).map(|it| &it.row);
        let held = row.and_then(|row| row.fetching.or(row.current));
        let is_fetched = row.is_some_and(|row| row.fetching.is_some());
        let swarm = held.map(|held| held.swarm);
        let Some((swarm, share)) = swarm.and_then(|it| Some((it, self.shares.get_mut(&it)?)))
        else {
            return tell_last(watcher, follow::no_room(publisher).into());
        };
        if share.is_unready() || (share.is_at_rest() && share.pause.is_none()) {
            let way = Way {
                if_exists,
                ..Way::default()
            };
            let waits = self.check_share(swarm, Wanting { way, watcher });
            return waits.map_or((), |it| self.watch_share(swarm, it.watcher));
        }
        match &share.phase {
            Phase::Stopped { error, .. } if !is_fetched || share.pause.is_some() => {
                tell_last(watcher, error.clone().into());
            }
            Phase::Stopped { .. } => {
                // What has stopped it may be over.
                share.watchers.push(watcher);
                self.go_on(swarm);
            }
            _ => share.watchers.push(watcher),
        }
    }

    /// Begins the newest versions where it is time.
    pub(super) fn watch_followed(&mut self, now: Instant) {
        let all: Vec<PublisherId> = self.follows.followed.keys().copied().collect();
        for publisher in all {
            self.advance_followed(now, publisher);
        }
    }

    /// Takes in a newer head, which is signed.
    pub(super) fn note_newer(&mut self, publisher: PublisherId, head: Head) {
        let Some(following) = self.follows.followed.get_mut(&publisher) else {
            return;
        };
        if head.open(&following.row.link.read).is_none() {
            tracing::warn!(%publisher, "a newer version of a followed share is not understood");
            return;
        }
        let sequence = head.sequence;
        tracing::info!(%publisher, sequence, "there is a newer version of a followed share");
        following.row.head = head;
        following.is_blocked = false;
        self.keep_followed(publisher);
        self.advance_followed(Instant::now(), publisher);
    }

    fn advance_followed(&mut self, now: Instant, publisher: PublisherId) {
        let Some(following) = self.follows.followed.get_mut(&publisher) else {
            return;
        };
        let row = &mut following.row;
        if following.leaving.is_some() {
            return;
        }
        if let Some(held) = row.fetching
            && !self.shares.contains_key(&held.swarm)
        {
            row.fetching = None;
            following.next_begin = Some(now + TRY_AGAIN);
            return self.keep_followed(publisher);
        }
        let newest = row.head.sequence;
        let has = |held: Option<Held>| held.is_some_and(|held| held.sequence >= newest);
        let is_early = following.next_begin.is_some_and(|at| now < at);
        if !has(row.current) && !has(row.fetching) && !is_early {
            following.next_begin = Some(now + BEGIN_AGAIN);
            self.begin_version(publisher);
        }
    }

    /// Fetches the newest version.
    fn begin_version(&mut self, publisher: PublisherId) {
        let Some(row) = self.follows.followed.get(&publisher).map(|it| &it.row) else {
            return;
        };
        let Some(version) = row.head.open(&row.link.read) else {
            return;
        };
        let swarm = SwarmId::of(version.kind, &version.id, version.secret.as_ref());
        let sequence = row.head.sequence;
        let held = Held { sequence, swarm };
        let is = |other: Option<Held>| other.is_some_and(|other| other.swarm == swarm);
        if is(row.current) {
            return self.return_to(publisher, held);
        }
        if is(row.fetching) {
            return self.change_followed(publisher, |row| row.fetching = Some(held));
        }
        if self.shares.contains_key(&swarm) {
            return self.adopt(publisher, held);
        }
        // On the disk on which it is to be.
        let stage = self.folder_followed(row).join(stage_name(&publisher));
        let record = ShareRecord {
            id: version.id,
            kind: version.kind,
            secret: version.secret,
            name: String::new(),
            path: stage.join(sequence.to_string()),
            state: ShareState::Downloading,
            manifest: None,
            trackers: vec![row.link.tracker.clone()],
            identities: None,
            added_unix_ms: unix_ms(),
            wish: Wish::default(),
            settled: None,
            placing: Placing::default(),
        };
        let watchers = self.supersede(publisher);
        self.remember(&record);
        self.add_link(record);
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.watchers = watchers;
        }
        self.happened(&swarm, Happening::Added);
        self.change_followed(publisher, |row| row.fetching = Some(held));
    }

    /// The newest version is what is here.
    fn return_to(&mut self, publisher: PublisherId, held: Held) {
        let watchers = self.supersede(publisher);
        self.change_followed(publisher, |row| row.current = Some(held));
        self.drop_superseded(publisher);
        if let Some(share) = self.shares.get_mut(&held.swarm) {
            share.watchers.extend(watchers);
        }
        self.tell_done(held.swarm);
    }

    /// The newest version is a share of its own here: the first one is followed where it is, and no other is.
    fn adopt(&mut self, publisher: PublisherId, held: Held) {
        let Some(share) = self.shares.get(&held.swarm) else {
            return;
        };
        let (name, state) = (printable(&share.record.name), share.record.state.clone());
        let row = self.follows.followed.get_mut(&publisher);
        let Some(following) = row else {
            return;
        };
        let is_first = following.row.current.is_none() && following.row.fetching.is_none();
        match (is_first, state) {
            (true, ShareState::Complete) => {
                self.change_followed(publisher, |row| row.current = Some(held));
            }
            (true, ShareState::Downloading | ShareState::Paused { .. }) => {
                self.change_followed(publisher, |row| row.fetching = Some(held));
            }
            _ if !following.is_blocked => {
                following.is_blocked = true;
                tracing::warn!(
                    name,
                    "the newest version of a followed share is a share of its own here; it is taken once \
                     that is removed"
                );
            }
            _ => (),
        }
    }

    /// Stops fetching a version that is not the newest any more; who watched it watches the next one.
    fn supersede(&mut self, publisher: PublisherId) -> Vec<Watcher> {
        self.drop_superseded(publisher);
        let row = self.follows.followed.get_mut(&publisher);
        let Some(held) = row.and_then(|it| it.row.fetching.take()) else {
            return Vec::new();
        };
        let mut watchers = Vec::new();
        if let Some(share) = self.shares.get_mut(&held.swarm) {
            watchers = std::mem::take(&mut share.watchers);
            share.pause.get_or_insert(Pause::Asked);
        }
        self.hold(held.swarm);
        self.change_followed(publisher, |row| row.superseded = Some(held));
        watchers
    }

    fn drop_superseded(&mut self, publisher: PublisherId) {
        let row = self.follows.followed.get_mut(&publisher);
        if let Some(held) = row.and_then(|it| it.row.superseded.take()) {
            self.drop_version(&publisher, held.swarm);
            self.keep_followed(publisher);
        }
    }

    /// Takes out a version that was not complete, with all that is there of it.
    fn drop_version(&mut self, publisher: &PublisherId, swarm: SwarmId) {
        let share = self.shares.get(&swarm);
        let Some(path) = share.map(|it| it.record.path.clone()) else {
            return;
        };
        let (answer, answered) = oneshot::channel();
        if !is_staged(publisher, &path) {
            // It was a download of its own.
            if share.is_some_and(|share| !share.is_complete()) {
                self.remove_share(swarm, Data::Kept, answer);
            }
            return;
        }
        self.remove_share(swarm, Data::Deleted, answer);
        let depot = self.config.depot.clone();
        tokio::spawn(async move {
            // What could not be removed was said, or stays in the folder.
            let _ = answered.await;
            let _ = tokio::task::spawn_blocking(move || depot.clear_stage(&path)).await;
        });
    }

    /// The folder in which the versions are, or will be.
    pub(super) fn folder_followed(&self, row: &Followed) -> PathBuf {
        let current = row.current.and_then(|held| self.shares.get(&held.swarm));
        let folder = current.and_then(|share| share.record.path.parent());
        let folder = folder.or(row.to.as_deref());
        folder.unwrap_or(&self.config.downloads).to_owned()
    }

    /// The publisher and the row of which this share is the first version, which is being fetched.
    pub(super) fn first_version(&self, swarm: &SwarmId) -> Option<(PublisherId, &Followed)> {
        let publisher = self.fetching_of(swarm)?;
        let row = &self.follows.followed.get(&publisher)?.row;
        let path = &self.shares.get(swarm)?.record.path;
        let is_first = row.current.is_none() && is_staged(&publisher, path);
        is_first.then_some((publisher, row))
    }

    /// The publisher of whose versions this share is the one that is being fetched.
    fn fetching_of(&self, swarm: &SwarmId) -> Option<PublisherId> {
        let mut followed = self.follows.followed.iter();
        let is_it = |row: &Followed| row.fetching.is_some_and(|held| held.swarm == *swarm);
        followed
            .find(|(_, following)| is_it(&following.row))
            .map(|(publisher, _)| *publisher)
    }

    /// Where the files of a version go at first that a link has begun.
    pub(super) fn version_folder(&self, swarm: &SwarmId) -> Option<PathBuf> {
        let publisher = self.fetching_of(swarm)?;
        let folder = &self.shares.get(swarm)?.record.path;
        is_staged(&publisher, folder).then(|| folder.clone())
    }

    /// What the files of a share may be taken from, if it is a version of something.
    pub(super) fn formers(&self, swarm: &SwarmId) -> Formers {
        let row = self.fetching_of(swarm);
        let row = row.and_then(|publisher| self.follows.followed.get(&publisher));
        let Some(row) = row.map(|it| &it.row) else {
            return Formers::default();
        };
        let share = |held: Option<Held>| self.shares.get(&held?.swarm);
        let writer = share(row.superseded).and_then(downloads::writer_of);
        Formers {
            complete: share(row.current).map(|share| share.record.clone()),
            partial: writer.map(|writer| writer.offer.files.clone()),
        }
    }

    /// What there was of other versions was taken over.
    pub(super) fn version_opened(&mut self, swarm: &SwarmId) {
        if let Some(publisher) = self.fetching_of(swarm) {
            self.drop_superseded(publisher);
        }
    }

    /// Whether a share is a newer version of one that goes by the same name.
    pub(super) fn is_coming(&self, swarm: &SwarmId) -> bool {
        let row = self.fetching_of(swarm);
        let row = row.and_then(|publisher| self.follows.followed.get(&publisher));
        row.is_some_and(|it| it.row.current.is_some())
    }

    /// Follows the versions no more of which this share is one; others that are being fetched go.
    pub(super) fn end_following(&mut self, swarm: &SwarmId) -> Option<PublisherId> {
        let followed = self.follows.followed.iter();
        let mut its = followed.filter(|(_, it)| it.row.version(swarm).is_some());
        let publisher = its.next().map(|(publisher, _)| *publisher)?;
        self.end_following_of(publisher, Some(*swarm));
        Some(publisher)
    }

    /// Follows a publisher no more; versions that are being fetched go, but for the one that is to be `kept`.
    fn end_following_of(&mut self, publisher: PublisherId, kept: Option<SwarmId>) {
        let Some(Following { row, .. }) = self.follows.followed.remove(&publisher) else {
            return;
        };
        self.keep_followed(publisher);
        self.stop_hearing(publisher, row.link.tracker.pin);
        if let Some(current) = row.current {
            self.know_version(publisher, current);
        }
        for held in [row.fetching, row.superseded].into_iter().flatten() {
            if kept != Some(held.swarm) {
                self.drop_version(&publisher, held.swarm);
            }
        }
    }

    /// Ends following by the name of a share, or by the publisher.
    pub(super) fn unfollow(&mut self, wanted: &str) -> Result<(), ApiError> {
        let publisher = self.publisher_of(wanted)?;
        let row = self.follows.followed.get(&publisher).map(|it| &it.row);
        let complete = row.and_then(|row| row.current);
        self.end_following_of(publisher, complete.map(|held| held.swarm));
        Ok(())
    }

    fn publisher_of(&self, wanted: &str) -> Result<PublisherId, ApiError> {
        let mut ids = self.follows.followed.keys();
        if let Some(publisher) = ids.find(|publisher| publisher.to_string() == wanted) {
            return Ok(*publisher);
        }
        let swarm = self.find_followed(wanted)?;
        let mut rows = self.follows.followed.values().map(|it| &it.row);
        let row = rows.find(|row| row.version(&swarm).is_some());
        let row = row.ok_or_else(|| follow::not_followed(wanted))?;
        Ok(row.publisher())
    }

    /// How a share is shown that is a version of something.
    pub(super) fn shown_followed(&self, swarm: &SwarmId) -> Option<FollowedShare> {
        let mut rows = self.follows.followed.values().map(|it| &it.row);
        let (row, held) = rows.find_map(|row| Some((row, row.version(swarm)?)))?;
        let kept = row.kept.as_ref().filter(|_| row.current == Some(held));
        Some(FollowedShare {
            publisher: row.publisher().to_string(),
            sequence: held.sequence,
            newest: row.head.sequence,
            kept: kept.map(|path| path.display().to_string()),
        })
    }

    pub(super) fn change_followed(
        &mut self,
        publisher: PublisherId,
        change: impl FnOnce(&mut Followed),
    ) {
        if let Some(following) = self.follows.followed.get_mut(&publisher) {
            change(&mut following.row);
        }
        self.keep_followed(publisher);
    }

    /// Notes how it stands.
    fn keep_followed(&self, publisher: PublisherId) {
        let row = self.follows.followed.get(&publisher);
        let depot = self.config.depot.clone();
        depot.note_followed(publisher, row.map(|it| it.row.clone()));
        tokio::task::spawn_blocking(move || {
            if let Err(error) = depot.keep_followed(&publisher) {
                tracing::warn!(%error, "it is not noted which version of a share is followed");
            }
        });
    }
}

fn stage_name(publisher: &PublisherId) -> String {
    let publisher: String = publisher.to_string().chars().take(STAGE_CHARS).collect();
    format!(".warren-follow-{publisher}")
}

/// Whether this is where a version is fetched, also if downloads went elsewhere when that began.
fn is_staged(publisher: &PublisherId, path: &Path) -> bool {
    let name = stage_name(publisher);
    path.iter().any(|part| part == name.as_str())
}
