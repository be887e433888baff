//! A version of a followed share that is complete takes the place of the former one.
//!
//! The former one gives up its place first, so that nobody reads there any more; what cannot be exchanged goes back
//! to it. What is planned is noted before anything is moved, and a start after a cut goes on with it.
//!
//! Not here: what is moved on the disk (`share::depot`), what becomes of the former version's share
//! ([`crate::node::passing_on`]).

use std::path::Path;

use warren_proto::content::path::printable;
use warren_proto::follow::PublisherId;
use warren_proto::id::SwarmId;

use super::is_staged;
use crate::control::model::ApiError;
use crate::hooks::Happening;
use crate::node::{Node, ShareEvent, Stopping};
use crate::share::depot::{Exchanged, Opened};
use crate::store::following::{Exchange, Former};
use crate::store::taken::IfExists;

impl Node {
    /// Lets a version that is complete take its place; false for every other share.
    pub(in crate::node) fn exchange_version(&mut self, swarm: SwarmId) -> bool {
        let Some(publisher) = self.fetching_of(&swarm) else {
            return false;
        };
        let Some(path) = self.shares.get(&swarm).map(|it| it.record.path.clone()) else {
            return false;
        };
        let (true, Some(plan)) = (is_staged(&publisher, &path), self.plan(&publisher, &path))
        else {
            // One that was a share before it was followed is in its place.
            self.change_followed(publisher, |row| row.current = row.fetching.take());
            return false;
        };
        let leaving = plan.former.as_ref().map(|former| former.held.swarm);
        let leaving = leaving.and_then(|leaving| self.leave(leaving, swarm));
        self.change_followed(publisher, |row| row.exchange = Some(plan));
        let Some(following) = self.follows.followed.get_mut(&publisher) else {
            return false;
        };
        following.leaving = leaving;
        self.exchange(swarm, publisher);
        true
    }

    fn plan(&self, publisher: &PublisherId, path: &Path) -> Option<Exchange> {
        let row = &self.follows.followed.get(publisher)?.row;
        let former = row.current.and_then(|held| {
            let path = self.shares.get(&held.swarm)?.record.path.clone();
            Some(Former { held, path })
        });
        let name = path.file_name()?.to_str()?;
        // What the person calls it stays.
        let called = former.as_ref().and_then(|former| former.path.file_name());
        let called = called.and_then(|called| called.to_str());
        Some(Exchange {
            staged: path.parent()?.to_owned(),
            name: name.to_owned(),
            folder: self.folder_followed(row),
            called: called.filter(|called| *called != name).map(str::to_owned),
            if_exists: match former {
                Some(_) => IfExists::Refuse,
                None => row.if_exists,
            },
            former,
        })
    }

    fn exchange(&mut self, swarm: SwarmId, publisher: PublisherId) {
        let row = self
            .follows
            .followed
            .get(&publisher)
            .map(|it| it.row.clone());
        let (Some(share), Some(row)) = (self.shares.get(&swarm), row) else {
            return;
        };
        let (epoch, bytes) = (share.epoch, share.bytes(None).1);
        self.close_to_move(swarm, bytes);
        let depot = self.config.depot.clone();
        self.run_disk_job(swarm, epoch, move || {
            // A start after a cut goes on with it.
            let noted = depot.keep_followed(&publisher);
            let result = noted.and_then(|()| depot.exchange(&row));
            ShareEvent::Exchanged(result.map(Box::new))
        });
    }

    /// A version has taken its place, or could not.
    pub(in crate::node) fn handle_exchanged(
        &mut self,
        swarm: SwarmId,
        result: Result<Box<Exchanged>, ApiError>,
    ) {
        let Some(publisher) = self.fetching_of(&swarm) else {
            return;
        };
        let following = self.follows.followed.get_mut(&publisher);
        let leaving = following.and_then(|it| it.leaving.take());
        match result {
            Ok(exchanged) => self.handle_in_place(swarm, publisher, *exchanged),
            Err(error) => {
                self.change_followed(publisher, |row| row.exchange = None);
                if let Some(leaving) = leaving {
                    self.take_back(leaving);
                }
                self.stop_share(swarm, error, Stopping::Paused);
            }
        }
    }

    fn handle_in_place(&mut self, swarm: SwarmId, publisher: PublisherId, exchanged: Exchanged) {
        let Exchanged {
            files,
            record,
            kept,
        } = exchanged;
        if let Some(kept) = &kept {
            let kept = printable(&kept.display().to_string());
            tracing::warn!(
                kept,
                "files of a former version that were changed here are kept"
            );
        }
        self.change_followed(publisher, |row| {
            row.current = row.fetching.take();
            row.exchange = None;
            row.kept = kept;
        });
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.record = record;
        }
        self.displace_others(swarm);
        self.handle_opened(swarm, Ok(Opened::Whole(files)));
        self.happened(&swarm, Happening::Complete);
    }
}
