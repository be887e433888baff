//! What is followed again, or for the first time where something is there of it already: versions that are known to
//! be shares of this daemon, and what lies in the place of the first one.

use std::path::PathBuf;

use warren_proto::follow::PublisherId;
use warren_proto::id::SwarmId;

use super::Node;
use super::beginning::Way;
use super::report::tell_last;
use crate::control::follow;
use crate::control::model::ApiError;
use crate::share::{Share, Watcher};
use crate::store::db::ShareState;
use crate::store::following::{Held, KnownVersion};
use crate::store::taken::IfExists;

/// Where a first version is to be, and what to do with what is there.
pub(super) type Goal = (PathBuf, IfExists);

impl Node {
    /// What is known of the last run.
    pub(crate) fn restore_known(&mut self, known: Vec<KnownVersion>) {
        for known in known {
            let swarm = known.held.swarm;
            self.follows.known.insert(swarm, known);
            if !self.shares.contains_key(&swarm) {
                self.forget_known(&swarm);
            }
        }
    }

    /// Notes that a share is a version of something that is not followed.
    pub(super) fn know_version(&mut self, publisher: PublisherId, held: Held) {
        if !self.shares.contains_key(&held.swarm) {
            return;
        }
        let known = KnownVersion { publisher, held };
        self.follows.known.insert(held.swarm, known);
        let depot = self.config.depot.clone();
        tokio::task::spawn_blocking(move || depot.note_known_version(&known));
    }

    /// A share is gone.
    pub(super) fn forget_known(&mut self, swarm: &SwarmId) {
        if self.follows.known.remove(swarm).is_some() {
            let (depot, swarm) = (self.config.depot.clone(), *swarm);
            tokio::task::spawn_blocking(move || depot.forget_known_version(&swarm));
        }
    }

    /// The newest version of a publisher that is a share here, which nobody has registered.
    pub(super) fn known_version(&self, publisher: &PublisherId) -> Option<(Held, &Share)> {
        let its = self.follows.known.values();
        let its = its.filter(|known| known.publisher == *publisher);
        let shares =
            its.filter_map(|known| Some((known.held, self.shares.get(&known.held.swarm)?)));
        let usable = shares.filter(|(_, share)| share.record.state != ShareState::Registered);
        usable.max_by_key(|(held, share)| (share.is_complete(), held.sequence))
    }

    /// Somebody follows what is followed already.
    pub(super) fn follow_again(&mut self, publisher: PublisherId, way: Way, watcher: Watcher) {
        let Some(row) = self.follows.followed.get(&publisher).map(|it| &it.row) else {
            return;
        };
        let folder = self.folder_followed(row);
        if way.to.as_ref().is_some_and(|to| *to != folder) {
            let held = row.current.or(row.fetching);
            let share = held.and_then(|held| self.shares.get(&held.swarm));
            let name = share.map_or("NAME", |share| &share.record.name);
            return tell_last(watcher, follow::followed_elsewhere(&folder, name).into());
        }
        if way.if_exists != IfExists::Refuse {
            self.change_followed(publisher, |row| row.if_exists = way.if_exists);
        }
        self.attach_follower(&publisher, way.if_exists, watcher);
    }

    /// Where the first version of something is to be that is being fetched, unless it is clear that it can be
    /// there. A share in its place is taken for the version before where somebody has said so.
    ///
    /// # Errors
    ///
    /// When another share is there.
    pub(super) fn goal(&mut self, swarm: &SwarmId) -> Result<Option<Goal>, ApiError> {
        let Some((publisher, row)) = self.first_version(swarm) else {
            return Ok(None);
        };
        let name = self.shares.get(swarm).map(|share| &share.record.name);
        let path = self
            .folder_followed(row)
            .join(name.map_or("", String::as_str));
        let (if_exists, superseded) = (row.if_exists, row.superseded);
        let mut others = self.shares.iter();
        let is_there =
            |it: &(&SwarmId, &Share)| it.0 != swarm && !it.1.is_preview && it.1.record.path == path;
        let Some((other, share)) = others.find(is_there) else {
            return Ok(Some((path, if_exists)));
        };
        let held = Held {
            sequence: 0,
            swarm: *other,
        };
        match if_exists {
            // It gives way, or another name is taken.
            _ if superseded.is_some_and(|held| held.swarm == *other) => Ok(None),
            IfExists::Rename => Ok(None),
            _ if share.record.state == ShareState::Registered => Err(follow::own_in_place(&path)),
            IfExists::Resume | IfExists::Overwrite if share.is_complete() => {
                self.change_followed(publisher, |row| row.current = Some(held));
                Ok(None)
            }
            _ => Err(follow::share_in_place(&path, &share.record.id.to_string())),
        }
    }

    /// A first version that could not begin is followed no longer.
    pub(super) fn give_up_following(&mut self, swarm: &SwarmId) {
        if self.first_version(swarm).is_some() {
            self.end_following(swarm);
        }
    }
}
