//! What a download would be, for who wants to know before a byte of content is fetched.
//!
//! Of a `.p2p`, and of a share that is here, all is known. A link is learnt from peers like that of a
//! download ([`Share::is_preview`](crate::share::Share)), but nothing of it is remembered, shown or fetched,
//! and it is gone with the last who asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use warren_proto::content::{Content, Link, Manifest};
use warren_proto::id::SwarmId;

use super::Node;
use super::commands::EVENTS;
use super::heads::Then;
use super::report::tell_last;
use crate::control::model::{ApiError, Event, Preview, PublishedShare, Taken, exit};
use crate::control::source::{Located, Parsed};
use crate::control::words::short_id;
use crate::share::depot::Depot;
use crate::share::{Phase, Previewing, Share, Watcher};
use crate::store::db::ShareRecord;

/// What somebody wants to know.
#[derive(Debug)]
pub(crate) struct Previewed {
    /// Of what.
    pub(super) source: Parsed,
    /// The folder it would go to, unless that is the daemon's own.
    pub(super) to: Option<PathBuf>,
}

impl Node {
    /// Tells what a download would be, now or when a peer has said so.
    pub(super) fn preview(&mut self, asked: Previewed) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let folder = asked.to.unwrap_or_else(|| self.config.downloads.clone());
        let watcher = Watcher {
            preview: Some(Previewing {
                folder,
                signed: None,
            }),
            ..Watcher::new(events)
        };
        match asked.source {
            Parsed::Follow(link) => self.ask_newest(link, Then::Preview, watcher),
            source => match self.with_tracker(source) {
                Ok(Located::Manifest(manifest)) => self.preview_known(*manifest, watcher),
                Ok(Located::Link(link)) => self.preview_link(&link, watcher),
                Err(error) => tell_last(watcher, error.into()),
            },
        }
        receiver
    }

    /// The same of a version that its publisher has signed.
    pub(super) fn preview_signed(
        &mut self,
        link: &Link,
        signed: PublishedShare,
        mut watcher: Watcher,
    ) {
        if let Some(preview) = &mut watcher.preview {
            preview.signed = Some(signed);
        }
        self.preview_link(link, watcher);
    }

    fn preview_link(&mut self, link: &Link, watcher: Watcher) {
        let swarm = SwarmId::of(link.kind, &link.id, link.secret.as_ref());
        if !self.shares.contains_key(&swarm) {
            let record = self.link_record(link);
            self.add_link(record);
            if let Some(share) = self.shares.get_mut(&swarm) {
                share.is_preview = true;
            }
        }
        self.preview_share(swarm, watcher);
    }

    fn preview_known(&self, manifest: Manifest, watcher: Watcher) {
        let swarm = manifest.content.swarm_id(manifest.secret.as_ref());
        let present = self.shares.get(&swarm).filter(|share| !share.is_preview);
        let at = present.map(|share| share.record.path.clone());
        self.answer_preview(watcher, move |depot, folder| {
            Ok(preview(depot, &manifest, folder, at))
        });
    }

    fn preview_share(&mut self, swarm: SwarmId, watcher: Watcher) {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        if matches!(share.phase, Phase::Metadata(_)) {
            return share.watchers.push(watcher);
        }
        let record = share.record.clone();
        if record.name.is_empty() {
            return tell_last(watcher, not_learnt(&record).into());
        }
        self.answer_preview(watcher, move |depot, folder| {
            let content = depot.content_known(&swarm)?;
            let manifest = manifest_of(&record, &content);
            Ok(learnt(depot, &manifest, folder, Some(record.path)))
        });
    }

    /// A peer has told what a link does not say: all who asked for no more are told.
    pub(super) fn tell_previews(&mut self, swarm: SwarmId, content: &Arc<Content>) {
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let is_one = |watcher: &mut Watcher| watcher.preview.is_some();
        let asking: Vec<Watcher> = share.watchers.extract_if(.., is_one).collect();
        let record = share.record.clone();
        for watcher in asking {
            let manifest = manifest_of(&record, content);
            self.answer_preview(watcher, move |depot, folder| {
                Ok(learnt(depot, &manifest, folder, None))
            });
        }
    }

    /// Lets go of links that nobody wants to know of any more.
    pub(super) fn end_previews(&mut self) {
        let is_over = |share: &&Share| {
            share.is_preview && share.watchers.iter().all(|it| it.events.is_closed())
        };
        let over = self.shares.values().filter(is_over);
        let over: Vec<SwarmId> = over.map(Share::swarm).collect();
        for swarm in over {
            self.take_out(swarm);
        }
    }

    fn answer_preview(
        &self,
        watcher: Watcher,
        look: impl FnOnce(&Depot, &Path) -> Result<Preview, ApiError> + Send + 'static,
    ) {
        let depot = self.config.depot.clone();
        tokio::task::spawn_blocking(move || {
            let Some(Previewing { folder, signed }) = watcher.preview.clone() else {
                return;
            };
            let looked = look(&depot, &folder).map(|preview| Preview { signed, ..preview });
            tell_last(watcher, looked.map_or_else(Event::Error, Event::Preview));
        });
    }
}

fn manifest_of(record: &ShareRecord, content: &Content) -> Manifest {
    Manifest::new(content.clone(), record.trackers.clone(), record.secret)
}

/// `at` is where the share lies that is here already.
fn preview(depot: &Depot, manifest: &Manifest, folder: &Path, at: Option<PathBuf>) -> Preview {
    let present = at.is_some();
    let path = at.unwrap_or_else(|| folder.join(manifest.content.name.as_str()));
    let (taken, free_bytes) = depot.look(&path, &manifest.content);
    Preview {
        manifest: None,
        present,
        path: path.display().to_string(),
        taken: Some(taken).filter(|taken| !present && *taken != Taken::Free),
        free_bytes,
        signed: None,
    }
}

/// The same of what whoever asks has no `.p2p` of.
fn learnt(depot: &Depot, manifest: &Manifest, folder: &Path, at: Option<PathBuf>) -> Preview {
    Preview {
        manifest: Some(manifest.encode()),
        ..preview(depot, manifest, folder, at)
    }
}

fn not_learnt(record: &ShareRecord) -> ApiError {
    let id = short_id(&record.id);
    let hint =
        format!("Go on with it, and it is learnt when a peer has it: client resume {id} IDX");
    let message = "what the link does not say is not known yet, and its download is stopped";
    ApiError::new("not_learnt", exit::REFUSED, message, hint)
}
