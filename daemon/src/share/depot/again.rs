//! A complete share that somebody wants again: whether its files are what they were.

use std::sync::Arc;

use warren_proto::content::Content;

use super::{Depot, Opened, with_manifest};
use crate::control::model::ApiError;
use crate::store::db::ShareRecord;
use crate::store::error::StoreError;
use crate::store::files::ShareFiles;
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
            (Some(files), _) => files.check_unchanged().map(|()| Checked::AsBefore),
            // Of which a part was wanted: what is wrong with it is found when it is opened.
            (None, _) if record.settled.is_some() => {
                return self.recall(record, &Default::default()).map(Checked::Back);
            }
            (None, Some(known)) => {
                ShareFiles::open_in_place(self.disk.clone(), path, &content, known)
                    .map(|files| Checked::Back(Opened::Whole(Arc::new(files))))
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

    /// Notes a share as it was before something else was tried with it.
    pub(crate) fn note_again(&self, record: &ShareRecord) -> Result<(), ApiError> {
        let content = self.content_of(&record.swarm())?;
        self.amend(&with_manifest(record, &content))
    }
}
