//! Shares of ours that others may follow: what is signed is given to our tracker, and what it replaces goes.
//!
//! Not here: keys and signatures (`share::depot`), how a path comes to be shared ([`super::registering`]).

use std::path::Path;

use tokio::sync::oneshot;
use warren_proto::follow::{Head, PublisherId};
use warren_proto::id::{ContentId, SwarmId};

use super::Node;
use super::ending::Data;
use super::trackers::OWN;
use crate::control::follow::{self, PublishedShare};
use crate::control::model::ApiError;
use crate::control::words::typed;
use crate::share::Share;
use crate::store::db::{ShareRecord, ShareState};
use crate::store::following::Published;

/// Shares of ours that may be followable: our tracker is asked about each whenever it is reached.
const MOST: usize = 100;

impl Node {
    /// Brings back what was published in the last run.
    pub(super) fn restore_published(&mut self, published: Vec<Published>) {
        let by_id = |it: Published| (it.head.publisher(), it);
        self.follows.published = published.into_iter().map(by_id).collect();
    }

    /// Why a path is not made followable, or its next version not signed.
    pub(super) fn why_not_publish(&self, path: &Path) -> Option<ApiError> {
        let own = self.trackers.get(&OWN).filter(|own| own.connected);
        if own.is_some_and(|own| !own.follows) {
            return Some(follow::tracker_too_old(&self.own_name()));
        }
        let published = &self.follows.published;
        let is_known = published.values().any(|it| it.path == path);
        (!is_known && published.len() >= MOST).then(|| follow::too_many_published(MOST))
    }

    /// The greatest number of a version of what lies there; 0 when there is none.
    pub(super) fn published_at(&self, path: &Path) -> u64 {
        let published = self.follows.published.values();
        let mut its = published.filter(|it| it.path == path);
        its.next().map_or(0, |it| it.head.sequence)
    }

    /// What the person should know who registers anew what others follow, and does not say that it is the next
    /// version.
    pub(super) fn not_for_followers(&self, record: &ShareRecord) -> Option<String> {
        let mut published = self.follows.published.values();
        let published = published.find(|it| it.path == record.path)?;
        if published.swarm == record.swarm() {
            return None;
        }
        let (path, sequence) = (typed(&record.path), published.head.sequence);
        let kept = match self.shares.contains_key(&published.swarm) {
            true => ", and that version is no longer shared",
            false => "",
        };
        Some(format!(
            "who follows this share stays at version {sequence}{kept}; to make what is there now the next version: \
             client register {path} IDX --update"
        ))
    }

    /// What else was shared from this path, or downloaded to it, before it became what it is now: of other
    /// content than `id`. What is followed is replaced by its publisher alone.
    pub(super) fn formers_at(
        &self,
        path: &Path,
        id: &ContentId,
    ) -> impl Iterator<Item = (&SwarmId, &Share)> {
        let is_whole = |record: &ShareRecord| match record.state {
            ShareState::Registered => true,
            ShareState::Complete => record.settled.is_none(),
            _ => false,
        };
        let is_followed = |swarm: &SwarmId| {
            let mut followed = self.follows.followed.values();
            followed.any(|it| it.row.version(swarm).is_some())
        };
        self.shares.iter().filter(move |(swarm, share)| {
            let record = &share.record;
            record.path == path && record.id != *id && is_whole(record) && !is_followed(swarm)
        })
    }

    /// Shares what lay at a path before no longer, now that `swarm` does, which has what was set of it. No file is
    /// deleted.
    pub(super) fn replace_formers(&mut self, swarm: SwarmId) {
        let Some(record) = self.shares.get(&swarm).map(|share| &share.record) else {
            return;
        };
        let formers = self.formers_at(&record.path, &record.id);
        let formers: Vec<SwarmId> = formers.map(|(former, _)| *former).collect();
        for former in formers {
            self.pass_on_limit(&former, swarm);
            let (answer, _) = oneshot::channel();
            self.remove_share(former, Data::Kept, answer);
        }
    }

    /// Tells the tracker of a version that was signed, and shares the one before no longer: its files have
    /// changed.
    ///
    /// Of two that were signed at once the newer one may come first; the other is shared no longer, then.
    pub(super) fn handle_published(&mut self, published: Published) {
        let known = self.follows.published.get(&published.head.publisher());
        let newer = known.filter(|known| known.head.sequence > published.head.sequence);
        if newer.is_some_and(|newer| !self.shares.contains_key(&newer.swarm)) {
            // Somebody else has signed it: what is here is a version of nothing, until it is signed anew.
            return;
        }
        let published = newer.cloned().unwrap_or(published);
        self.replace_formers(published.swarm);
        let head = published.head.clone();
        self.follows.published.insert(head.publisher(), published);
        self.give_head(OWN, head);
    }

    /// Somebody has signed a version with the key of a share of ours: a daemon that was restored from a backup has
    /// signed less than it did. The next number is above that one.
    pub(super) fn note_published_elsewhere(&mut self, publisher: PublisherId, head: Head) {
        let Some(published) = self.follows.published.get_mut(&publisher) else {
            return;
        };
        let sequence = head.sequence;
        tracing::warn!(%publisher, sequence, "a version of a share of ours is known that this daemon has not signed");
        published.head = head;
        // Whatever is there now is another version than that.
        published.swarm = SwarmId([0; 32]);
        let (depot, published) = (self.config.depot.clone(), published.clone());
        tokio::task::spawn_blocking(move || depot.note_published(&published));
    }

    /// How a share of ours is shown that can be followed.
    pub(super) fn shown_published(&self, swarm: &SwarmId) -> Option<PublishedShare> {
        let mut published = self.follows.published.values();
        let published = published.find(|it| it.swarm == *swarm)?;
        Some(PublishedShare {
            publisher: published.head.publisher().to_string(),
            sequence: published.head.sequence,
        })
    }
}
