//! Finds a share again where its files were moved to.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use warren_proto::content::path::printable;

use super::verifying::is_right;
use super::{Depot, with_manifest};
use crate::control::model::{ApiError, exit};
use crate::control::words::typed;
use crate::store::db::ShareRecord;
use crate::store::error::StoreError;
use crate::store::files::ShareFiles;

/// A share that was found at another path.
#[derive(Debug)]
pub(crate) struct Moved {
    /// What is noted of it now, without its manifest.
    pub(crate) record: ShareRecord,
    /// Its files.
    pub(crate) files: Arc<ShareFiles>,
}

impl Depot {
    /// Makes sure that what lies at `path` is the share, and notes that it is there. Files with the inodes,
    /// sizes and times of before are the ones; others are read, and `read_bytes` follows.
    ///
    /// # Errors
    ///
    /// When they are others, or cannot be read. The share then is where it was.
    pub(crate) fn relocate(
        &self,
        record: &ShareRecord,
        path: &Path,
        read_bytes: &AtomicU64,
    ) -> Result<Moved, ApiError> {
        let content = self.content_of(&record.swarm())?;
        let other = || not_the_share(record, path);
        let at = |error| ApiError::from(&StoreError::at(path)(error));
        let found = std::fs::symlink_metadata(path).map_err(at)?;
        // When it is given, a link in its place is not followed.
        let path = match found.is_symlink() {
            true => &std::fs::canonicalize(path).map_err(at)?,
            false => path,
        };
        let opened = ShareFiles::open_as_it_is(self.disk.clone(), path, &content);
        let opened = opened.map_err(|error| ApiError::from(&error))?;
        let (files, identities) = opened.ok_or_else(other)?;
        let known = record.identities.as_ref();
        let were_moved = known.is_some_and(|known| known.were_moved_to(&identities));
        if !were_moved && !is_right(&files, &content, read_bytes)? {
            return Err(other());
        }
        let mut record = ShareRecord {
            identities: Some(identities),
            ..with_manifest(record, &content)
        };
        record.take_path(path.to_owned());
        self.amend(&record)?;
        record.manifest = None;
        let files = Arc::new(files);
        Ok(Moved { record, files })
    }
}

impl Depot {
    /// Moves a share to another path in its folder, in the place of what is there, and notes that.
    ///
    /// # Errors
    ///
    /// When what is there cannot be replaced, or the disk refuses.
    pub(crate) fn move_over(&self, record: &ShareRecord, path: &Path) -> Result<Moved, ApiError> {
        let content = self.content_of(&record.swarm())?;
        let moved = ShareFiles::move_over(self.disk.clone(), (&record.path, path), &content);
        let (files, identities) = moved.map_err(|error| ApiError::from(&error))?;
        let mut record = ShareRecord {
            identities: Some(identities),
            ..with_manifest(record, &content)
        };
        record.take_path(path.to_owned());
        self.amend(&record)?;
        record.manifest = None;
        let files = Arc::new(files);
        Ok(Moved { record, files })
    }
}

fn not_the_share(record: &ShareRecord, path: &Path) -> ApiError {
    let (name, place) = (printable(&record.name), path.display());
    let message = format!("what lies at {place} is not {name}; nothing was changed");
    let path = typed(path);
    let hint = format!(
        "Name the file or folder itself. If something else had this name before, give the share another one: move \
         it there, and relocate it to that. To share what is there: client register {path} IDX"
    );
    ApiError::new("not_the_share", exit::VERIFICATION_FAILED, message, hint)
}
