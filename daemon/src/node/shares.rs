//! How shares begin, are finished, stopped and removed.
//!
//! Not here: how they come back after a restart ([`super::restoring`]).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use warren_proto::content::{ChunkSet, Content};
use warren_proto::id::{PublicKey, SwarmId};
use warren_proto::transfer::Event;

use super::choosing::no_longer_downloaded;
use super::following::Formers;
use super::report::error_about;
use super::report::tell_last;
use super::{Node, ShareEvent, Stopping};
use crate::control::model::ApiError;
use crate::control::wish::Wish;
use crate::hooks::Happening;
use crate::share::changes::Changes;
use crate::share::depot::{AtGoal, Opened, Settled, explain_sync};
use crate::share::metadata::MetadataError;
use crate::share::offer::Offer;
use crate::share::writer::{Writer, keep_synced};
use crate::share::{Active, Epoch, Learning, Phase, Share, guarded_token};
use crate::store::db::{ShareRecord, ShareState};
use crate::store::files::ShareFiles;
use crate::store::reuse::Source;
use crate::store::taken::Placing;
use crate::store::terms::Terms;

/// Pause before peers that could not tell what a link does not say are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

impl Node {
    /// Adds a share, in the place of any of the same swarm.
    pub(super) fn add(&mut self, record: ShareRecord, phase: Phase) -> SwarmId {
        let epoch = Epoch(self.next_number());
        let trackers = record.trackers.clone();
        let share = Share::new(epoch, record, phase);
        let swarm = share.swarm();
        self.ensure_trackers(&trackers);
        let before = self.shares.insert(swarm, share);
        if let (Some(before), Some(share)) = (&before, self.shares.get_mut(&swarm)) {
            share.terms = before.terms.clone();
            // A tracker that is told nothing new does not name them again.
            share.members = before.members.clone();
            share.meet_all_anew(Instant::now());
        }
        if before.is_some_and(|before| before.pause.is_some()) {
            self.note_pause(swarm, false);
        }
        self.active.insert(swarm);
        self.announce(swarm);
        swarm
    }

    /// Adds a download of which only the link is known.
    pub(super) fn add_link(&mut self, record: ShareRecord) -> SwarmId {
        self.add(record, Phase::Metadata(Learning::default()))
    }

    /// Adds a share whose files have to be made or found first.
    pub(super) fn add_preparing(&mut self, record: ShareRecord, how: Preparing) -> SwarmId {
        let verified_bytes = Arc::new(AtomicU64::new(0));
        let before = self.shares.get(&record.swarm()).map_or(0, Share::size);
        let phase = Phase::Preparing {
            verified_bytes: verified_bytes.clone(),
            bytes: how.bytes(before),
            is_new: matches!(how, Preparing::Create(_)),
        };
        let swarm = self.add(record, phase);
        self.prepare(swarm, how, verified_bytes);
        swarm
    }

    fn prepare(&mut self, swarm: SwarmId, how: Preparing, verified_bytes: Arc<AtomicU64>) {
        let Some(share) = self.shares.get(&swarm) else {
            return;
        };
        let (epoch, record, depot) = (share.epoch, share.record.clone(), self.config.depot.clone());
        let goal = match &how {
            Preparing::Create(_) => self.goal(&swarm),
            Preparing::Reopen(_) | Preparing::Recall => Ok(None),
        };
        let Formers { complete, partial } = self.formers(&swarm);
        self.run_disk_job(swarm, epoch, move || {
            let mut found = None;
            let opened = match how {
                Preparing::Create(content) => {
                    match depot.look_at_goal(goal, (&record, &content), &verified_bytes) {
                        Ok(AtGoal::Begun(source)) => {
                            found = source;
                            depot.create(&record, &content, &verified_bytes)
                        }
                        Ok(AtGoal::Whole(opened)) => Ok(opened),
                        Err(error) => Err(error),
                    }
                }
                Preparing::Reopen(content) => depot.reopen(&record, &content, &verified_bytes),
                Preparing::Recall => depot.recall(&record, &verified_bytes),
            };
            let complete = complete.and_then(|record| depot.source_of(&record));
            let sources = complete.into_iter().chain(partial).chain(found);
            let sources: Vec<Source> = sources.collect();
            ShareEvent::Opened(match sources.is_empty() {
                true => opened,
                false => opened.and_then(|it| depot.take_over(it, &sources, &verified_bytes)),
            })
        });
    }

    /// Runs something that blocks for long, a few at a time, and reports what came of it.
    pub(super) fn run_disk_job(
        &self,
        swarm: SwarmId,
        epoch: Epoch,
        work: impl FnOnce() -> ShareEvent + Send + 'static,
    ) {
        let (node, jobs) = (self.me.clone(), self.disk_jobs.clone());
        tokio::spawn(async move {
            let Ok(_turn) = jobs.acquire().await else {
                return;
            };
            if let Ok(event) = tokio::task::spawn_blocking(work).await {
                node.send_share(swarm, epoch, event).await;
            }
        });
    }

    pub(super) fn handle_opened(&mut self, swarm: SwarmId, result: Result<Opened, ApiError>) {
        match result {
            Ok(Opened::Whole(files)) => self.handle_whole(swarm, files, None),
            Ok(Opened::Differing(files, differing)) => {
                let changed = Changes::with(None, &differing.changed);
                let changes = Changes::new(files.content(), changed);
                self.handle_whole(swarm, files, changes);
                self.doubt(swarm, &differing.touched);
            }
            Ok(Opened::Checked(writer)) => {
                let have = writer.offer.have_now();
                self.begin_download(swarm, writer, have);
                self.note_wrong(swarm);
            }
            Ok(Opened::Partial {
                files,
                journal,
                have,
                picked,
                found,
            }) => {
                let (settled, path) = (files.settled(), files.path());
                let offer = Arc::new(Offer::new(swarm, files, have.clone()));
                let writer = Arc::new(Writer::new(offer, *journal));
                if let Some(share) = self.shares.get_mut(&swarm) {
                    let was = share.was.take();
                    let left = was.filter(|was| was.settled.is_some() && was.path != path);
                    if let Some(left) = left {
                        let depot = self.config.depot.clone();
                        tokio::task::spawn_blocking(move || depot.discard_aside(&left));
                    }
                    // It may have got its name just before a former process ended.
                    share.record.settled = settled;
                    share.picked = Some(picked);
                    share.record.placing.found = found;
                    share.record.take_path(path);
                    if share.verifying.is_some() {
                        share.record.state = ShareState::Downloading;
                    }
                }
                self.begin_download(swarm, writer, have);
                self.note_wrong(swarm);
                self.version_opened(&swarm);
            }
            Err(error) => self.handle_unopened(swarm, error),
        }
        self.hold(swarm);
    }

    /// A complete share is open, and what of it has changed is known.
    fn handle_whole(&mut self, swarm: SwarmId, files: Arc<ShareFiles>, changes: Option<Changes>) {
        let mut have = ChunkSet::full(files.content().layout.chunk_count());
        for chunk in changes.iter().flat_map(|it| it.chunks(files.content())) {
            have.remove(chunk);
        }
        let (path, noted) = (files.path(), files.noted());
        let offer = Arc::new(Offer::new(swarm, files, have));
        self.close_share(swarm);
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        if !share.is_complete() {
            // It had got its name just before a former process ended, or lay there when it was to be fetched.
            share.record.take_path(path);
            share.record.state = ShareState::Complete;
            share.record.placing = Placing::default();
        }
        share.take_noted(noted);
        share.was = None;
        let record = &share.record;
        let registered = (record.state == ShareState::Registered).then_some(&*record.path);
        let changed = changes.as_ref().map(|it| it.error(registered));
        share.changes = changes;
        share.rereading.forget();
        if share.is_withheld() {
            share.phase = Phase::Seeding(offer);
            return self.withhold(swarm);
        }
        let was_new = matches!(share.phase, Phase::Preparing { is_new: true, .. });
        self.set_phase(swarm, Phase::Seeding(offer));
        if let Some(error) = changed {
            return self.tell_changed(swarm, &error);
        }
        if was_new {
            self.happened(&swarm, Happening::Complete);
        }
        if !self.exchange_version(swarm) {
            self.tell_done(swarm);
        }
    }

    /// It is given all the same, as far as it has not changed.
    fn tell_changed(&mut self, swarm: SwarmId, error: &ApiError) {
        self.tell_error(swarm, error);
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.verifying = None;
        }
        self.happened(&swarm, Happening::Changed);
    }

    /// A share that was removed while its files were being made: they go as well.
    pub(super) fn discard_opened(&self, swarm: SwarmId, result: Result<Opened, ApiError>) {
        let (files, found) = match result {
            Ok(Opened::Partial { files, found, .. }) => (files, found),
            Ok(Opened::Checked(writer)) => (writer.offer.files.clone(), false),
            Ok(Opened::Whole(_) | Opened::Differing(..)) | Err(_) => return,
        };
        let depot = self.config.depot.clone();
        tokio::task::spawn_blocking(move || {
            let removed = match found {
                // They were there before.
                true => depot
                    .return_found(&files)
                    .and_then(|()| depot.remove(&swarm, None)),
                false => depot.remove(&swarm, Some(&files)),
            };
            if let Err(error) = removed {
                tracing::warn!(%error, "a removed download has left something behind");
            }
        });
    }

    /// A new download that cannot begin is none; what was there before stays and says why.
    fn handle_unopened(&mut self, swarm: SwarmId, error: ApiError) {
        let Some(share) = self.shares.get(&swarm) else {
            return;
        };
        // What was not understood can be said better, see `client select`.
        let is_wish = ["no_match", "bad_pattern"].contains(&error.code.as_str());
        let is_new = matches!(share.phase, Phase::Preparing { is_new: true, .. }) && !is_wish;
        let is_watched = !share.watchers.is_empty();
        let error = match error.code.as_str() {
            "changed" if share.record.settled.is_some() => no_longer_downloaded(&share.record),
            _ => error,
        };
        if self.return_to_before(swarm, &error) {
            return;
        }
        if is_new && is_watched {
            self.give_up_following(&swarm);
            return self.forget(swarm, error);
        }
        let stopping = match error.code.as_str() {
            "changed" => Stopping::Changed,
            _ => Stopping::Paused,
        };
        self.stop_share(swarm, error, stopping);
    }

    /// Takes out a download that did not begin. Its watchers are told when the disk has forgotten
    /// it: whoever tries again then finds nothing of it.
    fn forget(&mut self, swarm: SwarmId, error: ApiError) {
        let mut share = self.take_out(swarm);
        if let Some(share) = &mut share {
            let changed = false;
            let error = error_about(share, error.clone());
            share.phase = Phase::Stopped { error, changed };
            self.happened_to(share, Happening::Failed);
        }
        let watchers = share.map(|share| share.watchers).unwrap_or_default();
        let depot = self.config.depot.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = depot.remove(&swarm, None) {
                tracing::warn!(%error, "a download that did not begin is still in the database");
            }
            for watcher in watchers {
                tell_last(watcher, error.clone().into());
            }
        });
    }

    /// Takes out a share; what is on the disk of it is the caller's to remove.
    pub(super) fn take_out(&mut self, swarm: SwarmId) -> Option<Share> {
        self.leave_on_all(&swarm);
        self.close_share(swarm);
        let share = self.shares.remove(&swarm)?;
        self.active.remove(&swarm);
        self.leave_swarm(&swarm);
        self.forget_limits(&swarm);
        self.forget_known(&swarm);
        self.config.depot.note_paused(swarm, false);
        self.config.depot.note_terms(swarm, Terms::default());
        Some(share)
    }

    /// Fetches what is wanted of a share and not in `have`, unless the share is not to be given: then it stops.
    pub(super) fn begin_download(&mut self, swarm: SwarmId, writer: Arc<Writer>, have: ChunkSet) {
        let Some(share) = self.shares.get(&swarm) else {
            return;
        };
        let (epoch, node) = (share.epoch, self.me.clone());
        let expected = share.expected;
        let wanted = share.picked.as_ref().map(|picked| picked.selection.bytes());
        let bytes = wanted.unwrap_or(writer.offer.content.size);
        self.open_share(swarm, writer.offer.content.clone(), have);
        if self.refuse_fetching(swarm, bytes) {
            return;
        }
        if let Some(until) = expected {
            self.tell_download(swarm, Event::Expected { until });
        }
        let (stop, guard) = guarded_token();
        let synced = writer.clone();
        tokio::spawn(async move {
            if let Err(error) = keep_synced(synced, stop).await {
                let event = ShareEvent::SyncFailed(explain_sync(&error));
                node.send_share(swarm, epoch, event).await;
            }
        });
        let active = Active {
            writer,
            fetches: Default::default(),
            _syncing: guard,
        };
        self.set_phase(swarm, Phase::Downloading(Box::new(active)));
        self.share_budget();
    }

    /// The share stands elsewhere now: trackers and peers are told, from the start where what they
    /// know no longer holds.
    pub(super) fn set_phase(&mut self, swarm: SwarmId, phase: Phase) {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        share.phase = phase;
        self.active.insert(swarm);
        self.announce(swarm);
        self.rejoin(swarm);
    }

    /// A peer has told what a link does not say, or not.
    pub(super) fn handle_learnt(
        &mut self,
        swarm: SwarmId,
        peer: PublicKey,
        result: Result<Arc<Content>, MetadataError>,
    ) {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let Phase::Metadata(learning) = &mut share.phase else {
            return;
        };
        learning.asking = None;
        match result {
            Ok(content) => {
                self.tell_previews(swarm, &content);
                match self.shares.get(&swarm) {
                    Some(share) if share.is_preview => drop(self.take_out(swarm)),
                    _ => self.begin_from_link(swarm, content),
                }
            }
            Err(error) => {
                learning.tried.insert(peer);
                learning.retry_at = Some(Instant::now() + ASK_AGAIN);
                let is_false = matches!(error, MetadataError::False(_));
                let error: &dyn std::error::Error = &error;
                tracing::debug!(%peer, error, "metadata not learnt");
                if is_false {
                    learning.described.remove(&peer);
                    self.ban(swarm, peer);
                }
            }
        }
    }

    fn begin_from_link(&mut self, swarm: SwarmId, content: Arc<Content>) {
        let folder = self.version_folder(&swarm);
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let verified_bytes = Arc::new(AtomicU64::new(0));
        share.record.name = content.name.as_str().to_owned();
        let folder = folder.unwrap_or_else(|| share.record.path.clone());
        share.record.path = folder.join(content.name.as_str());
        share.phase = Phase::Preparing {
            verified_bytes: verified_bytes.clone(),
            bytes: content.size,
            is_new: true,
        };
        self.prepare(swarm, Preparing::Create(content), verified_bytes);
    }

    /// Lets peers be asked again that could not tell.
    pub(super) fn ask_again(&mut self, now: Instant) {
        for swarm in &self.active {
            if let Some(share) = self.shares.get_mut(swarm)
                && let Phase::Metadata(learning) = &mut share.phase
                && learning.retry_at.is_some_and(|at| at <= now)
            {
                learning.retry_at = None;
                learning.tried.clear();
            }
        }
    }

    /// Every wanted chunk is there.
    pub(super) fn finish(&mut self, swarm: SwarmId) {
        let depot = self.config.depot.clone();
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let Phase::Downloading(active) = &share.phase else {
            return;
        };
        let Some(picked) = share.picked.clone().filter(|_| !share.is_choosing) else {
            return;
        };
        let (epoch, record) = (share.epoch, share.record.clone());
        let writer = active.writer.clone();
        share.phase = Phase::Finishing(writer.clone());
        // No turn to wait for: somebody may be waiting for this very file.
        let node = self.me.clone();
        tokio::spawn(async move {
            let finishing = move || depot.finish(&writer, &record, &picked);
            let finishing = tokio::task::spawn_blocking(finishing);
            if let Ok(result) = finishing.await {
                let event = ShareEvent::Finished(result);
                node.send_share(swarm, epoch, event).await;
            }
        });
        self.share_budget();
    }

    pub(super) fn handle_finished(&mut self, swarm: SwarmId, result: Result<Settled, ApiError>) {
        let Settled {
            path,
            settled,
            placing,
        } = match result {
            Ok(settled) => settled,
            Err(error) => return self.handle_unopened(swarm, error),
        };
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let Phase::Finishing(writer) = &share.phase else {
            return;
        };
        share.record.take_path(path);
        share.record.placing = placing;
        share.record.state = ShareState::Complete;
        share.record.settled = settled;
        let (writer, is_part) = (writer.clone(), share.leaves_out());
        if !is_part {
            share.take_noted(writer.offer.files.noted());
            (share.picked, share.record.wish) = (None, Wish::default());
        }
        share.phase = Phase::Seeding(writer.offer.clone());
        share.kept = is_part.then_some(writer);
        self.close_if_idle(swarm);
        self.announce(swarm);
        self.displace_others(swarm);
        if self.exchange_version(swarm) {
            return;
        }
        self.happened(&swarm, Happening::Complete);
        self.tell_done(swarm);
        self.hold(swarm);
        self.withhold(swarm);
    }

    /// Ends fetching and giving; what is on the disk stays.
    pub(super) fn stop_share(&mut self, swarm: SwarmId, error: ApiError, stopping: Stopping) {
        self.tell_error(swarm, &error);
        let download = self.engine.download(&swarm);
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let error = error_about(share, error);
        share.stopped_bytes = match stopping {
            // Nothing of it is given, and what of it may still be right nobody has read.
            Stopping::Changed if share.is_complete() => (0, share.size()),
            _ => share.bytes(download),
        };
        share.verifying = None;
        share.rereading.forget();
        let unfinished = !matches!(
            share.record.state,
            ShareState::Registered | ShareState::Complete
        );
        let changed = stopping == Stopping::Changed;
        if unfinished {
            let reason = error.message.clone();
            share.record.state = ShareState::Paused { reason };
            let (state, depot) = (share.record.state.clone(), self.config.depot.clone());
            tokio::task::spawn_blocking(move || depot.note(&swarm, &state));
        }
        share.phase = Phase::Stopped { error, changed };
        self.happened(
            &swarm,
            match stopping {
                Stopping::Changed => Happening::Changed,
                Stopping::Paused => Happening::Failed,
            },
        );
        self.close_share(swarm);
        self.leave_on_all(&swarm);
        self.announce(swarm);
        self.share_budget();
    }
}

/// How the files of a share come about.
#[derive(Clone, Debug)]
pub(super) enum Preparing {
    /// They are made.
    Create(Arc<Content>),
    /// They are there.
    Reopen(Arc<Content>),
    /// They are there, and the database knows of what.
    Recall,
}

impl Preparing {
    /// Bytes in all: of which only the database knows, as many as `before`.
    fn bytes(&self, before: u64) -> u64 {
        match self {
            Preparing::Create(content) | Preparing::Reopen(content) => content.size,
            Preparing::Recall => before,
        }
    }
}
