//! What was complete and is not as it was noted: what has not changed goes on being given, and what was only
//! touched is noted anew.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use warren_proto::content::{Content, Layout};

use super::verifying::others_now;
use super::{Depot, Opened, with_manifest};
use crate::control::model::ApiError;
use crate::store::changes::Differing;
use crate::store::db::ShareRecord;
use crate::store::error::StoreError;
use crate::store::files::{Identities, ShareFiles};

impl Depot {
    /// Finds a complete share as it lies there, without reading it.
    pub(super) fn open_lying(
        &self,
        record: &ShareRecord,
        content: &Arc<Content>,
    ) -> Result<Opened, ApiError> {
        let opened = self.open_whole(record, content);
        if !opened.as_ref().is_err_and(|error| error.code == "changed") {
            return opened;
        }
        let noted = record.identities.clone();
        // Of which nothing is noted, all is to be read.
        let known = noted.unwrap_or_else(|| Identities::unread(content));
        let disk = self.disk.clone();
        match ShareFiles::open_differing(disk, &record.path, content, &known) {
            Ok((files, differing)) if is_any_left(&content.layout, &differing.changed) => {
                Ok(Opened::Differing(Arc::new(files), differing))
            }
            _ => opened,
        }
    }

    /// Reads all of a folder that was shared where it lies, and notes what was found.
    pub(super) fn verify_lying(
        &self,
        record: &ShareRecord,
        content: &Arc<Content>,
        verified_bytes: &AtomicU64,
    ) -> Result<Opened, ApiError> {
        let (disk, path) = (self.disk.clone(), &record.path);
        let read = ShareFiles::open_read(disk, path, content, verified_bytes);
        let (files, identities, wrong) = match read {
            Err(StoreError::Changed { .. }) => return Err(others_now(path)),
            read => read.map_err(|error| ApiError::from(&error))?,
        };
        let record = ShareRecord {
            identities: Some(identities),
            ..with_manifest(record, content)
        };
        self.amend(&record)?;
        match wrong.is_empty() {
            true => Ok(Opened::Whole(Arc::new(files))),
            false if is_any_left(&content.layout, &wrong) => {
                let differing = Differing {
                    changed: wrong,
                    ..Differing::default()
                };
                Ok(Opened::Differing(Arc::new(files), differing))
            }
            false => Err(others_now(path)),
        }
    }
}

/// Whether there is a chunk without a byte of these files, or nothing has changed.
pub(super) fn is_any_left(layout: &Layout, changed: &[u32]) -> bool {
    if changed.is_empty() {
        return true;
    }
    let is_right = |file: u32| changed.binary_search(&file).is_err();
    let mut chunks = (0..layout.chunk_count()).filter_map(|chunk| layout.chunk(chunk));
    chunks.any(|chunk| layout.extents(chunk).all(|extent| is_right(extent.file)))
}
