//! A complete share that somebody wants again: whether its files are what they were.

use std::sync::Arc;
use std::thread;

use warren_proto::content::Content;
use warren_proto::id::SwarmId;

use super::{Depot, Opened, with_manifest};
use crate::control::model::ApiError;
use crate::share::rereading::SETTLED;
use crate::store::changes::{Differing, Touched};
use crate::store::db::ShareRecord;
use crate::store::error::StoreError;
use crate::store::files::ShareFiles;
use crate::store::rereading::{Noted, Reading, Reread};
use crate::store::taken::{self, Taken};

/// What the files of a complete share are now.
#[derive(Debug)]
pub(crate) enum Checked {
    /// What they were, and the share is given.
    AsBefore,
    /// The same of a share that was stopped.
    Back(Opened),
    /// Others, or gone: what the share is, and what is in its place.
    Changed(Arc<Content>, Taken),
}

impl Depot {
    /// Looks at the files of a complete share, which are open as `files` while it is given.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub(crate) fn check(
        &self,
        files: Option<&ShareFiles>,
        record: &ShareRecord,
    ) -> Result<Checked, ApiError> {
        let content = match files {
            Some(files) => files.content().clone(),
            None => self.content_of(&record.swarm())?,
        };
        let path = &record.path;
        let found = match (files, &record.identities) {
            (Some(files), _) => match files.check_unchanged() {
                Err(StoreError::Changed { .. }) if self.is_only_touched(files, record) => {
                    Ok(Checked::AsBefore)
                }
                checked => checked.map(|()| Checked::AsBefore),
            },
            // Of which a part was wanted: what is wrong with it is found when it is opened.
            (None, _) if record.settled.is_some() => {
                return self.recall(record, &Default::default()).map(Checked::Back);
            }
            (None, Some(known)) => {
                let opened = ShareFiles::open_differing(self.disk.clone(), path, &content, known);
                match opened {
                    Ok((files, differing))
                        if differing.is_empty() || self.is_only_touched(&files, record) =>
                    {
                        Ok(Checked::Back(Opened::Whole(Arc::new(files))))
                    }
                    Ok(_) => Err(StoreError::Changed { path: path.clone() }),
                    Err(error) => Err(error),
                }
            }
            (None, None) => Err(StoreError::Changed { path: path.clone() }),
        };
        match found {
            Ok(found) => Ok(found),
            Err(StoreError::Changed { .. }) => {
                let taken = taken::look(path, &content);
                let taken = taken.map_err(|error| ApiError::from(&StoreError::at(path)(error)))?;
                Ok(Checked::Changed(content, taken))
            }
            Err(error) => Err(ApiError::from(&error)),
        }
    }

    /// Whether all files that are not as they were noted were only touched: these are read. What they are then is
    /// noted.
    fn is_only_touched(&self, files: &ShareFiles, record: &ShareRecord) -> bool {
        let Differing { changed, touched } = files.differing();
        if !changed.is_empty() || touched.is_empty() {
            return false;
        }
        thread::sleep(SETTLED);
        let reading = Reading::default();
        let is_right = |it: Touched| matches!(files.reread(it, &reading), Ok(Reread::Right));
        if !touched.into_iter().all(is_right) {
            return false;
        }
        if let Err(error) = self.note_identities(&record.swarm(), &files.noted()) {
            tracing::warn!(%error, "it is not noted that touched files were read");
        }
        true
    }

    /// Notes what the files of a share are now, if it is complete still.
    pub(crate) fn note_identities(&self, swarm: &SwarmId, noted: &Noted) -> Result<(), ApiError> {
        let noted = match noted {
            Noted::Whole(identities) => self.db.set_whole_identities(swarm, identities),
            Noted::Settled(settled) => self.db.set_settled(swarm, settled),
        };
        noted.map(drop).map_err(|error| ApiError::from(&error))
    }

    /// Notes a share as it was before something else was tried with it.
    pub(crate) fn note_again(&self, record: &ShareRecord) -> Result<(), ApiError> {
        let content = self.content_of(&record.swarm())?;
        self.amend(&with_manifest(record, &content))
    }
}
