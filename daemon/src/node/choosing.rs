//! Which files of a share the person wants, said while it is there: at `client select`, or by a
//! download of what is present.

use std::sync::Arc;

use tokio::sync::oneshot;
use warren_proto::id::SwarmId;
use warren_proto::transfer::{self, Selection};

use super::report::{error_about, tell_last};
use super::shares::Preparing;
use super::{Node, ShareEvent};
use crate::control::model::{ApiError, Event, FileCounts, SelectRequest, exit};
use crate::control::wish::{Change, Picked, Wish};
use crate::control::words::short_id;
use crate::share::depot::{others_now, removed};
use crate::share::offer::Offer;
use crate::share::{Found, Pause, Phase, Share, Watcher};
use crate::store::db::{ShareRecord, ShareState};

/// Who wants it, and is told.
#[derive(Debug)]
pub(crate) enum Asker {
    /// `client select`, which is told how the share stands.
    Select(oneshot::Sender<Result<Event, ApiError>>),
    /// A download, which goes on.
    Download(Watcher),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Chosen {
    /// All of the share is there, and stays wanted; this is what was asked for of it.
    AsBefore(Found),
    /// What is wanted now, and the files that this means where they were looked up.
    Now(Box<ShareRecord>, Option<Arc<Picked>>),
}

impl Node {
    pub(super) fn select(&mut self, request: &SelectRequest, asker: Asker) {
        match self.find(&request.share) {
            Ok(swarm) => self.choose(swarm, &request.change, asker),
            Err(error) => self.answer_chosen(None, Err(error), asker),
        }
    }

    /// Changes what is wanted of a share. Patterns are tried, and files made and moved, by a task,
    /// which reports.
    pub(super) fn choose(&mut self, swarm: SwarmId, change: &Change, asker: Asker) {
        let wish = self
            .shares
            .get(&swarm)
            .map(|it| it.record.wish.changed(change));
        let Some((share, wish)) = self.shares.get_mut(&swarm).zip(wish) else {
            return;
        };
        let error = match &share.phase {
            _ if share.is_choosing => busy(),
            Phase::Preparing { .. } | Phase::Finishing(_) => busy(),
            Phase::Stopped {
                error,
                changed: true,
            } => match share.record.settled {
                Some(_) => no_longer_downloaded(&share.record),
                None => error.clone(),
            },
            Phase::Metadata(_) => return self.choose_unknown(swarm, wish, asker),
            Phase::Stopped { .. } if matches!(share.pause, Some(Pause::Link)) => {
                return self.choose_unknown(swarm, wish, asker);
            }
            Phase::Downloading(_) | Phase::Seeding(_) | Phase::Stopped { .. } => {
                return self.start_choosing(swarm, wish, asker);
            }
        };
        self.answer_chosen(Some(swarm), Err(error), asker);
    }

    /// Of which only the link is known: what is meant shows when the listing has come.
    fn choose_unknown(&mut self, swarm: SwarmId, wish: Wish, asker: Asker) {
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.record.wish = wish;
            let record = share.record.clone();
            self.remember(&record);
        }
        self.answer_chosen(Some(swarm), Ok(()), asker);
    }

    fn start_choosing(&mut self, swarm: SwarmId, wish: Wish, asker: Asker) {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        share.is_choosing = true;
        let (epoch, record) = (share.epoch, share.record.clone());
        let writer = super::downloads::writer_of(share);
        let offer = offered(share);
        // Who downloads it has had that looked at.
        let is_to_be_looked_at = matches!(asker, Asker::Select(_)) && share.is_at_rest();
        let depot = self.config.depot.clone();
        self.run_disk_job(swarm, epoch, move || {
            let looked_at = offer.as_ref().filter(|_| is_to_be_looked_at);
            let is_as_before =
                looked_at.map_or(Ok(true), |offer| depot.is_as_before(&offer.files, &record));
            let result = match (is_as_before, &writer, &offer) {
                (Ok(false), ..) if record.state == ShareState::Complete => {
                    Err(no_longer_downloaded(&record))
                }
                (Ok(false), ..) => Err(others_now(&record.path)),
                (Err(error), ..) => Err(error),
                (Ok(true), None, Some(whole)) => {
                    let picked = wish.pick(&whole.content, |_| false);
                    picked.map(|picked| Chosen::AsBefore(found(&picked)))
                }
                _ => {
                    let chosen = depot.choose(writer.as_deref(), &record, wish);
                    chosen.map(|(record, picked)| Chosen::Now(record, picked))
                }
            };
            ShareEvent::Chosen { result, asker }
        });
    }

    pub(super) fn handle_chosen(
        &mut self,
        swarm: SwarmId,
        result: Result<Chosen, ApiError>,
        asker: Asker,
    ) {
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.is_choosing = false;
            self.active.insert(swarm);
        }
        let asker = match (&result, asker) {
            (Ok(Chosen::AsBefore(found)), Asker::Download(watcher)) => {
                return self.attach_to_whole(swarm, *found, watcher);
            }
            (Ok(Chosen::Now(record, Some(picked))), Asker::Download(watcher))
                if self.has_all_of(&swarm, picked) =>
            {
                let found = found(picked);
                self.note_choice(swarm, record);
                return self.attach_to_whole(swarm, found, watcher);
            }
            (_, asker) => asker,
        };
        let result = result.map(|chosen| self.take_chosen(swarm, chosen));
        self.answer_chosen(Some(swarm), result, asker);
    }

    /// Whether the files of a complete share that are wanted now are those that were.
    fn has_all_of(&self, swarm: &SwarmId, picked: &Picked) -> bool {
        let share = self.shares.get(swarm);
        let share = share.filter(|share| matches!(share.phase, Phase::Seeding(_)));
        let before = share.and_then(|share| share.picked.as_ref());
        before.is_some_and(|before| before.chosen == picked.chosen)
    }

    /// The same is wanted in other words.
    fn note_choice(&mut self, swarm: SwarmId, record: &ShareRecord) {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let state = share.record.state.clone();
        share.record = ShareRecord {
            state: state.clone(),
            ..record.clone()
        };
        let depot = self.config.depot.clone();
        tokio::task::spawn_blocking(move || depot.note(&swarm, &state));
    }

    /// What a download asks for is a part of what is here.
    fn attach_to_whole(&mut self, swarm: SwarmId, found: Found, watcher: Watcher) {
        let found = Some(found);
        self.watch_or_tell(swarm, Watcher { found, ..watcher });
        self.tell_done(swarm);
    }

    /// Of a share that was removed meanwhile, though it may have been begun again.
    pub(super) fn drop_chosen(&mut self, asker: Asker) {
        self.answer_chosen(None, Err(removed()), asker);
    }

    fn take_chosen(&mut self, swarm: SwarmId, chosen: Chosen) {
        let (Some(share), Chosen::Now(record, picked)) = (self.shares.get_mut(&swarm), chosen)
        else {
            return;
        };
        share.record = (*record).clone();
        share.picked = picked;
        match &share.phase {
            Phase::Downloading(_) => self.tell_selection(swarm),
            Phase::Seeding(_) => {
                if let Some(writer) = share.kept.take() {
                    let have = writer.offer.have_now();
                    self.begin_download(swarm, writer, have);
                }
            }
            // Whoever resumes it goes on with what is wanted now.
            Phase::Stopped { .. } if share.is_paused() => {
                if let Some(writer) = share.kept.take() {
                    share.pause = Some(Pause::Download(writer));
                }
                share.stopped_bytes = paused_bytes(share);
            }
            Phase::Stopped { .. } => {
                let watchers = std::mem::take(&mut share.watchers);
                self.add_preparing(*record, Preparing::Recall);
                if let Some(share) = self.shares.get_mut(&swarm) {
                    share.watchers = watchers;
                }
            }
            Phase::Metadata(_) | Phase::Preparing { .. } | Phase::Finishing(_) => (),
        }
    }

    /// Tells the engine what is wanted.
    pub(super) fn tell_selection(&mut self, swarm: SwarmId) {
        let selection = self.shares.get(&swarm).and_then(Share::selection);
        if let Some(selection) = selection {
            self.tell_download(swarm, transfer::Event::Selected { selection });
        }
    }

    fn answer_chosen(
        &mut self,
        swarm: Option<SwarmId>,
        result: Result<(), ApiError>,
        asker: Asker,
    ) {
        let share = swarm.and_then(|swarm| self.shares.get_mut(&swarm));
        match (asker, result, share) {
            (Asker::Download(watcher), Ok(()), Some(share)) => share.watchers.push(watcher),
            (Asker::Download(_), Ok(()), None) => (),
            (asker, Err(error), share) => {
                let error = match share {
                    Some(share) => error_about(share, error),
                    None => error,
                };
                match asker {
                    Asker::Download(watcher) => tell_last(watcher, error.into()),
                    // Who asked may have gone.
                    Asker::Select(answer) => drop(answer.send(Err(error))),
                }
            }
            (Asker::Select(answer), Ok(()), Some(share)) => {
                let shown = share.swarm();
                let shown = self.shown_share(&shown).map(Event::Share);
                if let Some(event) = shown {
                    drop(answer.send(Ok(event)));
                }
            }
            (Asker::Select(_), Ok(()), None) => (),
        }
    }
}

impl Share {
    /// Whether some files of it are not wanted.
    pub(crate) fn leaves_out(&self) -> bool {
        let picked = self.picked.as_ref();
        picked.is_some_and(|picked| !picked.is_everything())
    }

    /// What is fetched of it, as far as that was said.
    pub(crate) fn selection(&self) -> Option<Arc<Selection>> {
        let nothing = self.changes.as_ref().map(|it| it.selection.clone());
        nothing.or_else(|| self.picked.as_ref().map(|it| it.selection.clone()))
    }
}

/// What is given of a share, also one that is complete and paused.
fn offered(share: &Share) -> Option<Arc<Offer>> {
    match &share.pause {
        Some(Pause::Complete(offer)) => Some(offer.clone()),
        _ => share.offer().cloned(),
    }
}

/// Verified bytes and bytes in all of what is wanted now, of a share that is paused.
fn paused_bytes(share: &Share) -> (u64, u64) {
    let (Some(Pause::Download(writer)), Some(picked)) = (&share.pause, &share.picked) else {
        return share.stopped_bytes;
    };
    let (layout, selection) = (&writer.offer.content.layout, &picked.selection);
    let have = writer.offer.have_now();
    let verified = have
        .iter()
        .map(|chunk| selection.bytes_of(chunk, layout.chunk_len(chunk)));
    (verified.map(u64::from).sum(), selection.bytes())
}

/// What of a whole share was asked for.
fn found(picked: &Picked) -> Found {
    let files = (!picked.is_everything()).then(|| FileCounts {
        selected: picked.files.into(),
        of: picked.chosen.len() as u64,
    });
    Found {
        bytes: picked.selection.bytes(),
        files,
    }
}

/// Why nothing more is fetched of a part that was downloaded: it would be said of all of it that it is right.
pub(super) fn no_longer_downloaded(record: &ShareRecord) -> ApiError {
    let (id, path) = (short_id(&record.id), record.path.display());
    ApiError::new(
        "changed",
        exit::DISK,
        format!("{path} is no longer what was downloaded"),
        format!("Repair it: client verify {id} IDX, or download it again with --if-exists resume"),
    )
}

/// Only for as long as the disk takes.
pub(super) fn busy() -> ApiError {
    ApiError::new(
        "busy",
        exit::OTHER,
        "the files of the share are just being made, read or named",
        "Try again in a moment; client status IDX shows how the share stands.",
    )
}
