//! The place of the first version of something that is followed, and what is in it already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use warren_proto::content::{Content, FileEntry, SharePath};
use warren_proto::id::SwarmId;

use super::verifying::is_right;
use super::{Depot, Opened, with_manifest};
use crate::control::follow;
use crate::control::model::ApiError;
use crate::store::db::ShareRecord;
use crate::store::error::StoreError;
use crate::store::files::{Identities, ShareFiles};
use crate::store::following::{Exchange, Followed, KnownVersion};
use crate::store::register::{Hashed, Hashing, Special, hash_share};
use crate::store::reuse::Source;
use crate::store::taken::{self, IfExists, Taken};

/// What was found where a first version is to be.
#[derive(Debug)]
pub(crate) enum AtGoal {
    /// That version.
    Whole(Opened),
    /// Perhaps something to take of.
    Begun(Option<Source>),
}

impl Depot {
    /// All shares that are known to be versions of something.
    pub(crate) fn known_versions(&self) -> Result<Vec<KnownVersion>, ApiError> {
        let known = self.db.known_versions();
        known.map_err(|error| ApiError::from(&error))
    }

    /// Notes that a share is one.
    pub(crate) fn note_known_version(&self, known: &KnownVersion) {
        if let Err(error) = self.db.set_known_version(known) {
            tracing::warn!(%error, "it is not noted of what a share is a version");
        }
    }

    /// Forgets that, with the share.
    pub(crate) fn forget_known_version(&self, swarm: &SwarmId) {
        if let Err(error) = self.db.forget_known_version(swarm) {
            tracing::warn!(%error, "it stays noted of what a share was a version");
        }
    }

    /// Looks at where a download is to be in the end, before it is fetched: what can be taken of what is there, or
    /// that it is there; `verified_bytes` follows the reading of that.
    ///
    /// # Errors
    ///
    /// When something is there and nothing was said of that. Whoever says so then need not learn again what there
    /// is.
    pub(crate) fn look_at_goal(
        &self,
        goal: Result<Option<(PathBuf, IfExists)>, ApiError>,
        (record, content): (&ShareRecord, &Arc<Content>),
        verified_bytes: &AtomicU64,
    ) -> Result<AtGoal, ApiError> {
        let looked = goal.and_then(|goal| match goal {
            Some((path, if_exists)) => {
                let place = (path.as_path(), if_exists);
                match self.whole_at(place, (record, content), verified_bytes)? {
                    Some(opened) => Ok(AtGoal::Whole(opened)),
                    None => self.look_at_place(place, content).map(AtGoal::Begun),
                }
            }
            None => Ok(AtGoal::Begun(None)),
        });
        if looked.is_err() {
            self.remember(&with_manifest(record, content))?;
        }
        looked
    }

    /// The version itself, where all of it lies in its place: it was a share here before. It is read, and stays.
    fn whole_at(
        &self,
        (path, if_exists): (&Path, IfExists),
        (record, content): (&ShareRecord, &Arc<Content>),
        verified_bytes: &AtomicU64,
    ) -> Result<Option<Opened>, ApiError> {
        if if_exists == IfExists::Rename {
            return Ok(None);
        }
        // What cannot be read is not it.
        let opened = ShareFiles::open_as_it_is(self.disk.clone(), path, content);
        let Ok(Some((files, identities))) = opened else {
            return Ok(None);
        };
        if !is_right(&files, content, verified_bytes).unwrap_or(false) {
            verified_bytes.store(0, Ordering::Relaxed);
            return Ok(None);
        }
        let path = path.to_owned();
        let record = ShareRecord {
            path,
            ..record.clone()
        };
        self.remember_whole(&record, content, identities)?;
        Ok(Some(Opened::Whole(Arc::new(files))))
    }

    fn look_at_place(
        &self,
        (path, if_exists): (&Path, IfExists),
        content: &Content,
    ) -> Result<Option<Source>, ApiError> {
        let looked = taken::look(path, content);
        let taken = looked.map_err(|error| ApiError::from(&StoreError::at(path)(error)))?;
        match (taken, if_exists) {
            (Taken::Free, _) | (_, IfExists::Rename | IfExists::Overwrite) => Ok(None),
            (_, IfExists::Refuse) => Err(follow::other_in_place(path)),
            // What cannot be read is kept beside all the same.
            (_, IfExists::Resume) => Ok(self.hash_at(path).and_then(|found| {
                let content = Arc::new(found.content);
                let opened = ShareFiles::open_as_source(self.disk.clone(), path, &content);
                opened.ok().map(Arc::new)
            })),
        }
    }

    fn hash_at(&self, path: &Path) -> Option<Hashed> {
        let hashing = Hashing::default();
        hash_share(self.disk.as_ref(), path, Special::Skip, &hashing).ok()
    }

    /// The plan of an exchange with the name that a first version gets, once another one was to be taken if its
    /// own is not free.
    pub(super) fn with_name(
        &self,
        followed: &Followed,
        plan: &Exchange,
        content: &Content,
    ) -> Result<Exchange, ApiError> {
        let is_open = plan.former.is_none() && plan.called.is_none();
        if !is_open || plan.if_exists != IfExists::Rename {
            return Ok(plan.clone());
        }
        let free = taken::free_path(&plan.to(), content);
        let free = free.map_err(|error| ApiError::from(&error))?;
        let name = free.file_name().and_then(|name| name.to_str());
        let plan = Exchange {
            called: name.map(str::to_owned),
            ..plan.clone()
        };
        let publisher = followed.publisher();
        self.amend_followed(&publisher, |row| row.exchange = Some(plan.clone()))?;
        Ok(plan)
    }

    /// Of what has given way to a first version: the files that need not be kept, since they are in it; those of its
    /// names as well if it was to overwrite them.
    pub(super) fn given_way(
        &self,
        plan: &Exchange,
        content: &Content,
    ) -> Option<(Arc<Content>, Identities)> {
        if plan.former.is_some() {
            return None;
        }
        let found = self.hash_at(&plan.aside_path()?)?;
        let old = found.content;
        let overwrites = plan.if_exists == IfExists::Overwrite;
        let goes: Vec<bool> = match (&old.listing, &content.listing) {
            (None, None) => vec![overwrites || old.id == content.id],
            (Some(old), Some(new)) => {
                let new: BTreeMap<&SharePath, [u8; 32]> =
                    new.files().map(|file| (file.path, file.root)).collect();
                let root_of = |file: &FileEntry| new.get(file.path).copied();
                let goes = |file: FileEntry| {
                    root_of(&file).is_some_and(|root| overwrites || root == file.root)
                };
                old.files().map(goes).collect()
            }
            // A file is no version of a folder.
            _ => return None,
        };
        let identities = found.identities.only(&goes);
        Some((Arc::new(old), identities))
    }
}
