//! Downloads of what is here already: gone on with, looked at, or fetched once more as it is asked for.
//!
//! A share that is complete is looked at first. Where its files are no longer what they were, it is with the
//! person to say what becomes of them; until that is done the share stays in the list as it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use warren_proto::content::path::printable;
use warren_proto::id::SwarmId;

use super::beginning::{Wanting, Way};
use super::choosing::Asker;
use super::looking::looked_at;
use super::report::{error_about, tell_last};
use super::shares::Preparing;
use super::verifying::Stored;
use super::{Node, ShareEvent, Stopping};
use crate::control::model::{ApiError, exit};
use crate::control::source::Located;
use crate::control::wish::{Change, Files, Wish, path_of};
use crate::control::words::{short_id, typed};
use crate::hooks::Happening;
use crate::share::depot::{Checked, Moved, Opened, Others, others_now};
use crate::share::offer::Offer;
use crate::share::{Found, Phase, Share, Watcher};
use crate::store::db::{ShareRecord, ShareState};
use crate::store::taken::{self, IfExists, Taken};

impl Node {
    /// Why a share that is here does not come to the folder that was named: it is in another one.
    pub(super) fn is_elsewhere(&self, swarm: &SwarmId, way: &Way) -> Option<ApiError> {
        let share = self.shares.get(swarm).filter(|share| !share.is_preview)?;
        let to = way.to.as_ref()?;
        let path = &share.record.path;
        let folder = match share.record.name.as_str() {
            // Of what only the link is known, it is noted to which folder it goes.
            "" => path,
            _ => path.parent().unwrap_or(path),
        };
        (folder != to).then(|| elsewhere(share, to))
    }

    /// Begins a download, or goes on with it.
    pub(super) fn attach(&mut self, swarm: SwarmId, source: Located, way: Way) -> SwarmId {
        let share = self.shares.get(&swarm);
        let is_complete = share.is_some_and(Share::is_complete);
        match share.map(|share| &share.phase) {
            Some(Phase::Metadata(_)) => match source {
                Located::Manifest(manifest) => {
                    let before = self.shares.get(&swarm);
                    let is_new = before.is_some_and(|share| share.is_preview);
                    let before = before.map(|share| share.record.wish.clone());
                    let wish = before.unwrap_or_default().changed(&way.wish.as_change());
                    let swarm = self.begin_manifest(*manifest, Way { wish, ..way });
                    if is_new {
                        self.happened(&swarm, Happening::Added);
                    }
                    swarm
                }
                Located::Link(_) => swarm,
            },
            Some(Phase::Stopped { .. }) if !is_complete => self.resume(swarm, source, way),
            Some(_) => swarm,
            None => {
                let swarm = self.begin(source, way);
                self.happened(&swarm, Happening::Added);
                swarm
            }
        }
    }

    /// Goes on with a download that was stopped, or begins anew where there is nothing to go on
    /// with.
    fn resume(&mut self, swarm: SwarmId, source: Located, way: Way) -> SwarmId {
        let record = self.shares.get(&swarm).map(|share| share.record.clone());
        let begun = |record: &ShareRecord| {
            matches!(record.state, ShareState::Paused { .. }) && !record.name.is_empty()
        };
        match record.filter(begun) {
            Some(mut record) => {
                if way.if_exists != IfExists::Refuse {
                    record.placing.if_exists = way.if_exists;
                }
                self.add_preparing(record, Preparing::Recall)
            }
            None => {
                let before = self.shares.remove(&swarm).map(|share| share.record.wish);
                let wish = before.unwrap_or_default();
                self.begin(source, Way { wish, ..way })
            }
        }
    }

    /// Looks whether the files of a complete share are what they were, for somebody who wants it. Gives back who
    /// wants what there is none of.
    pub(super) fn check_share(&mut self, swarm: SwarmId, wanting: Wanting) -> Option<Wanting> {
        let Some(share) = self.shares.get(&swarm) else {
            return Some(wanting);
        };
        if share.is_unready() {
            self.wait_for_rest(swarm, wanting);
            return None;
        }
        if !share.is_at_rest() {
            return Some(wanting);
        }
        let files = share.offer().map(|offer| offer.files.clone());
        let (record, depot) = (share.record.clone(), self.config.depot.clone());
        self.run_disk_job(swarm, share.epoch, move || {
            let result = depot.check(files.as_deref(), &record, &wanting.way.wish);
            ShareEvent::Checked { result, wanting }
        });
        None
    }

    /// The files of a share that is complete are what they were, or it is fetched once more.
    pub(super) fn handle_checked(
        &mut self,
        swarm: SwarmId,
        wanting: Wanting,
        result: Result<Checked, ApiError>,
    ) {
        let share = self.shares.get(&swarm);
        if !share.is_some_and(|share| share.is_at_rest() && share.pause.is_none()) {
            return self.want_of_others(swarm, wanting);
        }
        match result {
            Ok(Checked::AsBefore) => match self.wanted_path(swarm, &wanting.way) {
                Some(path) => {
                    self.note_found(swarm, wanting.watcher);
                    self.move_over(swarm, path);
                }
                None => {
                    if wanting.way.wish.as_change().files.is_none() {
                        self.give_whole(swarm);
                    }
                    self.want_of_it(swarm, wanting);
                }
            },
            Ok(Checked::Back(opened)) => {
                self.handle_opened(swarm, Ok(opened));
                self.want_of_it(swarm, wanting);
            }
            Ok(Checked::Changed(others)) => self.want_of_changed(swarm, wanting, others),
            Ok(Checked::NotAsked(error)) => tell_last(wanting.watcher, error.into()),
            Err(error) => {
                self.watch_share(swarm, wanting.watcher);
                self.stop_share(swarm, error, Stopping::Changed);
            }
        }
    }

    /// What was no longer what was shared is that again, all of it.
    fn give_whole(&mut self, swarm: SwarmId) {
        let share = self.shares.get(&swarm);
        let changed = share.filter(|share| share.changes.is_some());
        let files = changed.and_then(|share| Some(share.offer()?.files.clone()));
        if let Some(files) = files {
            self.handle_opened(swarm, Ok(Opened::Whole(files)));
        }
    }

    /// While its files were looked at somebody else has begun something with the share.
    pub(super) fn want_of_others(&mut self, swarm: SwarmId, Wanting { way, watcher }: Wanting) {
        let change = way.wish.as_change();
        match self.shares.contains_key(&swarm) && !change.is_empty() {
            true => self.choose(swarm, &change, Asker::Download(watcher)),
            false => self.watch_or_tell(swarm, watcher),
        }
    }

    /// What is here is as it was. Who says nothing of the files wants all of them.
    fn want_of_it(&mut self, swarm: SwarmId, Wanting { way, watcher }: Wanting) {
        let Some(share) = self.shares.get(&swarm) else {
            return;
        };
        let change = match share.leaves_out() {
            true => way.change_of_part(),
            false => way.wish.as_change(),
        };
        match share.phase {
            // Somebody has come just before.
            _ if share.is_choosing => self.wait_for_rest(swarm, Wanting { way, watcher }),
            _ if !change.is_empty() => self.choose(swarm, &change, Asker::Download(watcher)),
            Phase::Seeding(_) => {
                self.note_found(swarm, watcher);
                self.tell_done(swarm);
            }
            _ => self.watch_or_tell(swarm, watcher),
        }
    }

    /// Who waits for a share is told that it was here.
    fn note_found(&mut self, swarm: SwarmId, watcher: Watcher) {
        if let Some(share) = self.shares.get_mut(&swarm) {
            let found = Some(Found {
                bytes: share.bytes(None).1,
                files: share.file_counts(),
            });
            share.watchers.push(Watcher { found, ..watcher });
        }
    }

    /// The path that a complete share would have if something else had not been there, when it is to go there
    /// now.
    fn wanted_path(&self, swarm: SwarmId, way: &Way) -> Option<PathBuf> {
        let share = self.shares.get(&swarm)?;
        let is_its_folder = share.record.path.parent() == Some(&*self.folder_of(way));
        let is_wanted = way.if_exists == IfExists::Overwrite && is_its_folder;
        share.numbered_instead_of().filter(|_| is_wanted)
    }

    /// Moves a complete share over whatever has its path. Meanwhile nothing can be read where it was.
    fn move_over(&mut self, swarm: SwarmId, path: PathBuf) {
        let Some(share) = self.shares.get(&swarm) else {
            return;
        };
        let Some(offer) = share.offer().cloned() else {
            return;
        };
        let (epoch, record, depot) = (share.epoch, share.record.clone(), self.config.depot.clone());
        self.close_to_move(swarm, offer.content.size);
        self.run_disk_job(swarm, epoch, move || {
            let result = depot.move_over(&record, &path).map(Box::new);
            ShareEvent::MovedOver { result, offer }
        });
    }

    /// It is there now, or where it was.
    pub(super) fn handle_moved_over(
        &mut self,
        swarm: SwarmId,
        result: Result<Box<Moved>, ApiError>,
        offer: Arc<Offer>,
    ) {
        match result {
            Ok(moved) => {
                let Moved { record, files } = *moved;
                if let Some(share) = self.shares.get_mut(&swarm) {
                    share.record = record;
                }
                self.displace_others(swarm);
                self.handle_opened(swarm, Ok(Opened::Whole(files)));
            }
            Err(error) => {
                self.tell_error(swarm, &error);
                self.set_phase(swarm, Phase::Seeding(offer));
                self.hold(swarm);
            }
        }
    }

    /// What is here is no longer what it was. It is with the person to say what becomes of that, unless nothing is
    /// there.
    fn want_of_changed(&mut self, swarm: SwarmId, wanting: Wanting, others: Others) {
        let Some(share) = self.shares.get(&swarm) else {
            return;
        };
        let was = share.record.clone();
        let refused = match (&was.state, others.taken, wanting.way.if_exists) {
            (ShareState::Registered, ..) if wanting.way.wish.as_change().files.is_some() => {
                Some(others_now(&was.path))
            }
            (ShareState::Registered, ..) | (_, Taken::Free, _) => None,
            (_, _, IfExists::Refuse) => Some(not_as_it_was(&was.path)),
            (_, _, IfExists::Rename) => None,
            _ => match taken::check_kind(&was.path, others.taken, &others.content) {
                Err(error) => Some(ApiError::from(&error)),
                Ok(()) => others.beside().map(|beside| also_changed(&beside)),
            },
        };
        if let Some(error) = refused {
            tell_last(wanting.watcher, error_about(share, error).into());
            return self.leave_changed(swarm, &others.wrong);
        }
        if was.settled.is_some() && wanting.way.if_exists != IfExists::Rename {
            self.watch_share(swarm, wanting.watcher);
            return self.repair_part(swarm, &wanting.way);
        }
        self.fetch_again(swarm, others, wanting);
    }

    /// What was found to have changed is given no longer, though nothing else is done about it.
    fn leave_changed(&mut self, swarm: SwarmId, wrong: &[u32]) {
        let Some(share) = self.shares.get(&swarm) else {
            return;
        };
        if let Some(offer) = looked_at(share).cloned() {
            self.note_changed(&offer, wrong);
        }
    }

    /// Of a share of which only some files were wanted, what is wrong or missing is fetched again.
    pub(super) fn repair_part(&mut self, swarm: SwarmId, way: &Way) {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let was = share.record.clone();
        share.record.wish = was.wish.changed(&way.change_of_part());
        share.record.state = ShareState::Downloading;
        share.was = Some(Box::new(was));
        self.look_through(swarm, Stored::Noted, None);
    }

    /// Fetches a share once more whose files are no longer what they were, as it is wanted: in its place, or as a
    /// download if it was shared where it lay.
    fn fetch_again(&mut self, swarm: SwarmId, others: Others, wanting: Wanting) {
        let Wanting { way, watcher } = wanting;
        let Others { content, taken, .. } = others;
        let Some(share) = self.shares.get(&swarm) else {
            return;
        };
        let was = share.record.clone();
        let mut record = ShareRecord {
            state: ShareState::Downloading,
            identities: None,
            settled: None,
            placing: way.placing(),
            wish: match (&was.settled, taken, way.if_exists) {
                (Some(_), ..) => was.wish.changed(&way.change_of_part()),
                (None, Taken::Free, _) | (None, _, IfExists::Rename) => way.wish.clone(),
                (None, ..) => Wish::default(),
            },
            ..was.clone()
        };
        if was.state != ShareState::Complete {
            record.take_path(self.folder_of(&way).join(content.name.as_str()));
        }
        self.leave_on_all(&swarm);
        self.close_share(swarm);
        let waiting = self.shares.get_mut(&swarm);
        let waiting = waiting.map(|share| std::mem::take(&mut share.watchers));
        self.add_preparing(record, Preparing::Create(content));
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.watchers = waiting.unwrap_or_default();
            share.watchers.push(watcher);
            for watcher in &mut share.watchers {
                watcher.found = None;
            }
            share.was = Some(Box::new(was));
        }
    }

    /// A share that was to be fetched once more is what it was, since that could not begin. False for any
    /// other.
    pub(super) fn return_to_before(&mut self, swarm: SwarmId, error: &ApiError) -> bool {
        let share = self.shares.get_mut(&swarm);
        let Some(was) = share.and_then(|share| share.was.take().map(|was| (share, was))) else {
            return false;
        };
        let (share, was) = was;
        share.record = *was;
        let (record, depot) = (share.record.clone(), self.config.depot.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = depot.note_again(&record) {
                tracing::warn!(%error, "a share is not noted as it was before");
            }
        });
        self.stop_share(swarm, error.clone(), Stopping::Changed);
        true
    }

    /// Other shares in the place that this one has now are given no longer: their files are gone.
    pub(super) fn displace_others(&mut self, swarm: SwarmId) {
        let Some(path) = self.shares.get(&swarm).map(|it| it.record.path.clone()) else {
            return;
        };
        let is_displaced =
            |share: &Share| share.record.path == path && matches!(share.phase, Phase::Seeding(_));
        let others = self.shares.iter();
        let others = others.filter(|(other, share)| **other != swarm && is_displaced(share));
        let others: Vec<SwarmId> = others.map(|(other, _)| *other).collect();
        for other in others {
            self.stop_share(other, displaced(&path), Stopping::Changed);
        }
    }
}

impl Way {
    /// What is to be otherwise of a share of which some files are here: who names none wants all.
    fn change_of_part(&self) -> Change {
        let mut change = self.wish.as_change();
        if change.files.is_none() && !self.as_chosen {
            change.files = Some(Files::default());
        }
        change
    }
}

impl Others {
    /// The path in the share of a file that nobody has asked for, if one of those is not what it was either.
    fn beside(&self) -> Option<String> {
        self.beside.map(|it| printable(path_of(&self.content, it)))
    }
}

impl Share {
    /// Whether all that is wanted of it is here, and nothing is being done with it.
    pub(super) fn is_at_rest(&self) -> bool {
        let is_idle = matches!(self.phase, Phase::Seeding(_) | Phase::Stopped { .. });
        is_idle && self.is_complete()
    }

    /// Whether of its files some were wanted, and others of them are no longer what they were before the rest has
    /// come.
    pub(super) fn is_broken_part(&self) -> bool {
        let is_changed = matches!(self.phase, Phase::Stopped { changed: true, .. });
        is_changed && !self.is_complete() && self.record.settled.is_some()
    }

    /// The path that a complete download was to have, had something else not been there: it has a number instead.
    pub(super) fn numbered_instead_of(&self) -> Option<PathBuf> {
        let Phase::Seeding(offer) = &self.phase else {
            return None;
        };
        let is_whole = self.record.state == ShareState::Complete && self.record.settled.is_none();
        let wanted = taken::unnumbered(&self.record.path, &offer.content);
        wanted.filter(|_| is_whole)
    }
}

fn elsewhere(share: &Share, to: &Path) -> ApiError {
    let (id, path) = (short_id(&share.record.id), share.record.path.display());
    let name = printable(&share.record.name);
    let (message, hint) = match share.is_complete() {
        true => {
            let new = typed(&to.join(share.record.path.file_name().unwrap_or_default()));
            let (old, to) = (typed(&share.record.path), typed(to));
            let hint = match share.record.state {
                ShareState::Registered => format!(
                    "It is shared from there, and stays. For a copy: mkdir -p {to} && cp -rnT {old} {new}"
                ),
                _ => format!(
                    "To move it there: mkdir -p {to} && mv -nT {old} {new} && client relocate {id} {new} IDX. To \
                     fetch it anew instead: client remove {id} IDX before."
                ),
            };
            (format!("{name} is here already, at {path}"), hint)
        }
        false => (
            format!("it is being downloaded already, to {path}"),
            format!(
                "Leave out --to to see how far it is; to begin anew elsewhere: client cancel {id} IDX before."
            ),
        ),
    };
    ApiError::new("elsewhere", exit::REFUSED, message, hint)
}

fn not_as_it_was(path: &Path) -> ApiError {
    let path = path.display();
    ApiError::new(
        "target_exists",
        exit::REFUSED,
        format!("{path} is there already, and is no longer what was downloaded"),
        "Say what becomes of it, with the same command: --if-exists rename keeps it and fetches another one, resume \
         repairs it and overwrite replaces it, so that what was changed is lost.",
    )
}

/// A share that is here whole is repaired whole, and what nobody has spoken of is not to be fetched over.
fn also_changed(beside: &str) -> ApiError {
    ApiError::new(
        "target_exists",
        exit::REFUSED,
        format!("{beside}, which was not asked for, is no longer what was downloaded either"),
        "To repair all of the share, leave out which files; to keep what is there and fetch these beside it: \
         --if-exists rename.",
    )
}

fn displaced(path: &Path) -> ApiError {
    ApiError::new(
        "changed",
        exit::DISK,
        format!("{} is another share's now", path.display()),
        "Remove this one: client remove NAME IDX; or download it again with --if-exists rename.",
    )
}
