//! How downloads begin: where they go, and whom they are begun for.
//!
//! Not here: downloads of what is here already ([`super::again`]).

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use warren_proto::content::{Link, Manifest};
use warren_proto::id::SwarmId;

use super::Node;
use super::choosing::Asker;
use super::commands::{EVENTS, Wanted};
use super::heads::Then;
use super::report::tell_last;
use super::shares::Preparing;
use crate::clock::unix_ms;
use crate::control::model::Event;
use crate::control::source::{Located, Parsed};
use crate::control::wish::Wish;
use crate::hooks::Happening;
use crate::share::{Phase, Share, Watcher};
use crate::store::db::{ShareRecord, ShareState};
use crate::store::taken::{IfExists, Placing};

/// How a download begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Way {
    /// Which files are wanted.
    pub(super) wish: Wish,
    /// The folder it goes to, unless that is the daemon's own.
    pub(super) to: Option<PathBuf>,
    /// What to do when something has its name there.
    pub(super) if_exists: IfExists,
    /// Of a share of which some files were chosen before, no others are wanted for saying nothing of them.
    pub(super) as_chosen: bool,
}

/// Who wants a share, and how.
#[derive(Debug)]
pub(crate) struct Wanting {
    pub(super) way: Way,
    pub(super) watcher: Watcher,
}

impl Node {
    pub(super) fn download(&mut self, wanted: Wanted) -> mpsc::Receiver<Event> {
        let Wanted { source, way } = wanted;
        if let Parsed::Follow(link) = source {
            return self.follow(link, Then::Once(way));
        }
        let (events, receiver) = mpsc::channel(EVENTS);
        let watcher = Watcher::new(events);
        self.start_download(source, way, watcher);
        receiver
    }

    /// Begins a download for somebody, or attaches them to one that is there.
    pub(super) fn start_download(&mut self, source: Parsed, way: Way, mut watcher: Watcher) {
        let source = match self.with_tracker(source) {
            Ok(source) => source,
            Err(error) => return tell_last(watcher, error.into()),
        };
        let swarm = match &source {
            Located::Manifest(manifest) => manifest.content.swarm_id(manifest.secret.as_ref()),
            Located::Link(link) => SwarmId::of(link.kind, &link.id, link.secret.as_ref()),
        };
        let share = self.shares.get(&swarm);
        if let Some(error) = share.and_then(|share| share.withheld()) {
            return tell_last(watcher, error.into());
        }
        if let Some(error) = self.is_elsewhere(&swarm, &way) {
            return tell_last(watcher, error.into());
        }
        watcher.was_paused = share.is_some_and(|share| share.pause.is_some());
        self.end_pause(swarm);
        if let Located::Link(_) = &source
            && self.want_previewed(swarm, &way)
        {
            return self.watch_share(swarm, watcher);
        }
        let Some(Wanting { way, watcher }) = self.check_share(swarm, Wanting { way, watcher })
        else {
            return;
        };
        let share = self.shares.get(&swarm);
        let is_to_be_repaired = matches!(way.if_exists, IfExists::Resume | IfExists::Overwrite);
        if is_to_be_repaired && share.is_some_and(Share::is_broken_part) {
            self.watch_share(swarm, watcher);
            return self.repair_part(swarm, &way);
        }
        let change = way.wish.as_change();
        if !change.is_empty() && self.may_choose(swarm, &source) {
            return self.choose(swarm, &change, Asker::Download(watcher));
        }
        let swarm = self.attach(swarm, source, way);
        self.watch_share(swarm, watcher);
    }

    pub(super) fn watch_share(&mut self, swarm: SwarmId, watcher: Watcher) {
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.watchers.push(watcher);
        }
    }

    /// Makes a link that somebody is only asking about a download. False when it is none.
    fn want_previewed(&mut self, swarm: SwarmId, way: &Way) -> bool {
        let folder = self.folder_of(way);
        let share = self.shares.get_mut(&swarm);
        let Some(share) = share.filter(|share| share.is_preview) else {
            return false;
        };
        share.is_preview = false;
        share.record = ShareRecord {
            path: folder,
            wish: way.wish.clone(),
            placing: way.placing(),
            ..share.record.clone()
        };
        let record = share.record.clone();
        self.remember(&record);
        self.happened(&swarm, Happening::Added);
        true
    }

    /// Where a download goes.
    pub(super) fn folder_of(&self, way: &Way) -> PathBuf {
        let own = || self.config.downloads.clone();
        way.to.clone().unwrap_or_else(own)
    }

    /// Whether a share is there of which other files can be wanted. Of a link more is known now if it is a
    /// manifest that came.
    fn may_choose(&self, swarm: SwarmId, source: &Located) -> bool {
        let share = self.shares.get(&swarm);
        share.is_some_and(|share| match share.phase {
            Phase::Metadata(_) => matches!(source, Located::Link(_)),
            _ => true,
        })
    }

    pub(super) fn begin(&mut self, source: Located, way: Way) -> SwarmId {
        match source {
            Located::Manifest(manifest) => self.begin_manifest(*manifest, way),
            Located::Link(link) => self.begin_link(&link, way),
        }
    }

    pub(super) fn begin_manifest(&mut self, manifest: Manifest, way: Way) -> SwarmId {
        let Manifest {
            content,
            trackers,
            secret,
            ..
        } = manifest;
        let record = ShareRecord {
            id: content.id,
            kind: content.kind,
            secret,
            name: content.name.as_str().to_owned(),
            path: self.folder_of(&way).join(content.name.as_str()),
            state: ShareState::Downloading,
            manifest: None,
            trackers,
            identities: None,
            added_unix_ms: unix_ms(),
            placing: way.placing(),
            wish: way.wish,
            settled: None,
        };
        let watchers = self.shares.get_mut(&record.swarm());
        let watchers = watchers.map(|share| std::mem::take(&mut share.watchers));
        let content = Arc::new(content);
        let swarm = self.add_preparing(record, Preparing::Create(content.clone()));
        if let Some(share) = self.shares.get_mut(&swarm) {
            share.watchers.extend(watchers.unwrap_or_default());
        }
        self.tell_previews(swarm, &content);
        swarm
    }

    fn begin_link(&mut self, link: &Link, way: Way) -> SwarmId {
        let record = ShareRecord {
            path: self.folder_of(&way),
            placing: way.placing(),
            wish: way.wish,
            ..self.link_record(link)
        };
        self.remember(&record);
        self.add_link(record)
    }

    /// Of what only the link is known, it is noted to which folder it goes.
    pub(super) fn link_record(&self, link: &Link) -> ShareRecord {
        ShareRecord {
            id: link.id,
            kind: link.kind,
            secret: link.secret,
            name: String::new(),
            path: self.config.downloads.clone(),
            state: ShareState::Downloading,
            manifest: None,
            trackers: vec![link.tracker.clone()],
            identities: None,
            added_unix_ms: unix_ms(),
            wish: Wish::default(),
            settled: None,
            placing: Placing::default(),
        }
    }

    /// Notes a share of which only the link is known.
    pub(super) fn remember(&self, record: &ShareRecord) {
        let (depot, remembered) = (self.config.depot.clone(), record.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = depot.remember(&remembered) {
                tracing::warn!(%error, "the download is not remembered; a restart would forget it");
            }
        });
    }
}

impl Way {
    pub(super) fn placing(&self) -> Placing {
        Placing {
            if_exists: self.if_exists,
            ..Placing::default()
        }
    }
}
