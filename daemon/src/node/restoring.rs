//! How shares come back after a restart: few or thousands, soon.
//!
//! Where no byte has to be read, to find a share takes a moment, and to hand it from one task to the next
//! would take longer: so many are found by one job on the disk ([`AT_ONCE`]). All others have one of their
//! own, like a share that begins ([`super::shares`]).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use warren_proto::content::{Content, Manifest};
use warren_proto::id::SwarmId;

use super::shares::Preparing;
use super::{Node, ShareEvent};
use crate::control::model::ApiError;
use crate::share::depot::without_manifest;
use crate::share::{Epoch, Phase};
use crate::store::db::{ShareRecord, ShareState};

/// Shares that one job finds: what it takes to begin and end it is little beside. On a disk that is slow no
/// more than these wait before another share has its turn.
const AT_ONCE: usize = 64;

/// A share that is where it was, unless somebody has changed it.
struct Lying {
    swarm: SwarmId,
    epoch: Epoch,
    record: ShareRecord,
    content: Arc<Content>,
}

impl Node {
    /// Brings back the shares of the last run.
    ///
    /// [`Self::restore_pauses`] is to follow.
    pub(crate) fn restore(&mut self, records: Vec<ShareRecord>) {
        let mut lying = Vec::new();
        for record in records {
            match record.manifest.as_deref().map(Manifest::decode) {
                None => drop(self.add_link(record)),
                Some(Ok(manifest)) => {
                    let content = Arc::new(manifest.content);
                    let record = without_manifest(record);
                    match is_lying(&record) {
                        true => lying.extend(self.add_lying(record, content)),
                        false => drop(self.add_preparing(record, Preparing::Reopen(content))),
                    }
                }
                Some(Err(error)) => {
                    let error = ApiError::from(&error);
                    let changed = false;
                    let phase = Phase::Stopped { error, changed };
                    self.add(without_manifest(record), phase);
                }
            }
        }
        self.find_all(lying);
    }

    fn add_lying(&mut self, record: ShareRecord, content: Arc<Content>) -> Option<Lying> {
        let phase = Phase::Preparing {
            verified_bytes: Arc::default(),
            bytes: content.size,
            is_new: false,
        };
        let swarm = self.add(record.clone(), phase);
        Some(Lying {
            swarm,
            epoch: self.shares.get(&swarm)?.epoch,
            record,
            content,
        })
    }

    fn find_all(&self, lying: Vec<Lying>) {
        let mut left = lying.into_iter().peekable();
        while left.peek().is_some() {
            self.find_some(left.by_ref().take(AT_ONCE).collect());
        }
    }

    /// Finds these, one after the other, and reports each at once.
    fn find_some(&self, lying: Vec<Lying>) {
        let (node, jobs) = (self.me.clone(), self.disk_jobs.clone());
        let depot = self.config.depot.clone();
        let finding = move || {
            for share in lying {
                let opened = depot.reopen(&share.record, &share.content, &AtomicU64::new(0));
                node.blocking_send_share(share.swarm, share.epoch, ShareEvent::Opened(opened));
            }
        };
        tokio::spawn(async move {
            if let Ok(_turn) = jobs.acquire().await {
                let _ = tokio::task::spawn_blocking(finding).await;
            }
        });
    }
}

/// Whether all that has to be done is to look at what its files are.
fn is_lying(record: &ShareRecord) -> bool {
    let is_whole = matches!(record.state, ShareState::Registered | ShareState::Complete);
    is_whole && record.settled.is_none()
}
