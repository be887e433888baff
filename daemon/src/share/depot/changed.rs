//! Folders of which some files are no longer what was shared: the others go on being given.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use warren_proto::content::{Content, Layout};

use super::{Depot, Opened, with_manifest};
use crate::control::model::ApiError;
use crate::store::db::ShareRecord;
use crate::store::error::StoreError;
use crate::store::files::ShareFiles;

impl Depot {
    /// Finds a complete share as it lies there, without reading it.
    pub(super) fn open_lying(
        &self,
        record: &ShareRecord,
        content: &Arc<Content>,
    ) -> Result<Opened, ApiError> {
        let opened = self.open_whole(record, content);
        let (Err(error), Some(known)) = (&opened, &record.identities) else {
            return opened;
        };
        if error.code != "changed" || content.listing.is_none() {
            return opened;
        }
        let disk = self.disk.clone();
        match ShareFiles::open_changed(disk, &record.path, content, known) {
            Ok((files, changed)) if is_any_left(&content.layout, &changed) => {
                Ok(Opened::Changed(Arc::new(files), changed))
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
        let (files, identities, wrong) = read.map_err(|error| ApiError::from(&error))?;
        let record = ShareRecord {
            identities: Some(identities),
            ..with_manifest(record, content)
        };
        self.amend(&record)?;
        match wrong.is_empty() {
            true => Ok(Opened::Whole(Arc::new(files))),
            false if is_any_left(&content.layout, &wrong) => {
                Ok(Opened::Changed(Arc::new(files), wrong))
            }
            false => {
                let path = path.clone();
                Err(ApiError::from(&StoreError::Changed { path }))
            }
        }
    }
}

/// Whether there is a chunk without a byte of these files.
fn is_any_left(layout: &Layout, changed: &[u32]) -> bool {
    let is_right = |file: u32| changed.binary_search(&file).is_err();
    let mut chunks = (0..layout.chunk_count()).filter_map(|chunk| layout.chunk(chunk));
    chunks.any(|chunk| layout.extents(chunk).all(|extent| is_right(extent.file)))
}
