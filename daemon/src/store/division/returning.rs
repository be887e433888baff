//! Gives files that were there before a divided share their final names back, when the share goes.
//!
//! What of them is wrong lies among what is fetched, and what of them is no longer wanted lies aside. All of it is
//! somebody's, whether a chunk of it is right or none; so is what others have put there, which moves along.
//!
//! Not here: whether there is anything to give back (`share::depot`), shares that are wanted whole (`store::taken`).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;

use warren_proto::content::Content;

use super::Home;
use crate::store::disk::Disk;
use crate::store::error::StoreError;
use crate::store::files::{ShareFiles, State};
use crate::store::partial::place;

impl ShareFiles {
    /// Moves all that is in the `.part` folder under its final names, as it is now; nothing happens where that is
    /// not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::TargetExists`] when something else has one of the names; what has not moved is where it was.
    pub fn give_part_back(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
    ) -> Result<(), StoreError> {
        let files = ShareFiles::discarded(disk, path, content)?;
        let name = files.place.part_name.clone();
        files.give_folder_back(&name)
    }

    /// The same of what lies aside.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn give_aside_back(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
    ) -> Result<(), StoreError> {
        let files = ShareFiles::discarded(disk, path, content)?;
        let name = files.aside_name();
        files.give_folder_back(&name)
    }

    /// Whether a file of the share lies aside.
    pub fn has_aside(&self) -> bool {
        let division = self.division();
        let mut files = division.iter().flat_map(|it| it.files_in(Home::Aside));
        files.next().is_some()
    }

    /// A share that goes, of which nothing is open.
    fn discarded(
        disk: Arc<dyn Disk>,
        path: &Path,
        content: &Arc<Content>,
    ) -> Result<ShareFiles, StoreError> {
        let place = place(disk.as_ref(), path, content)?;
        Ok(ShareFiles::new(
            disk,
            content.clone(),
            place,
            State::Discarded,
        ))
    }

    fn give_folder_back(mut self, name: &OsString) -> Result<(), StoreError> {
        let Some(folder) = self.open_folder(name)? else {
            return Ok(());
        };
        let own = self.place.parent_path.join(&self.place.name);
        let taken = StoreError::named(&own);
        let (from, to) = (Path::new(name), Path::new(&self.place.name));
        let renamed = self.disk.rename_noreplace(&self.place.parent, from, to);
        match renamed {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let root = self.disk.open_folder_beneath(&self.place.parent, to);
                // What is no folder stays what it is.
                self.place.root = Some(root.map_err(|_| taken(error))?);
                let moved = self.move_others(&folder, Path::new("."), &BTreeSet::new());
                moved.map_err(&taken)?;
                let removed = self.disk.rmdir(&self.place.parent, from);
                removed.map_err(&taken)?;
            }
            renamed => renamed.map_err(&taken)?,
        }
        self.sync_names()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::store::disk::RealDisk;
    use crate::store::samples::Sample;

    #[test]
    fn what_was_there_gets_its_names_back_with_what_others_have_put_beside() {
        for is_named in [false, true] {
            let (folder, path, sample) = before(is_named);
            let part = folder.path().join("photos.part");
            fs::create_dir_all(part.join("a/b")).unwrap();
            fs::write(part.join("a/b/small"), "edited").unwrap();
            fs::write(part.join("a/note"), "of somebody").unwrap();
            give_part_back(&path, &sample).unwrap();
            assert_eq!(fs::read(path.join("a/b/small")).unwrap(), b"edited");
            assert_eq!(fs::read(path.join("a/note")).unwrap(), b"of somebody");
            assert_eq!(path.join("a/mine").exists(), is_named);
            assert!(!part.exists());
            // Nothing is left to be done.
            give_part_back(&path, &sample).unwrap();
        }
    }

    #[test]
    fn what_lies_aside_gets_its_names_back() {
        for is_named in [false, true] {
            let (folder, path, sample) = before(is_named);
            let id = sample.content.id.to_string();
            let aside = folder.path().join(format!(".photos~{}.aside", &id[..16]));
            fs::create_dir_all(&aside).unwrap();
            fs::write(aside.join("z"), "edited").unwrap();
            ShareFiles::give_aside_back(disk(), &path, &sample.content).unwrap();
            assert_eq!(fs::read(path.join("z")).unwrap(), b"edited");
            assert!(!aside.exists());
        }
    }

    #[test]
    fn nothing_that_has_the_name_is_replaced_and_nothing_is_lost() {
        let (folder, path, sample) = before(true);
        let part = folder.path().join("photos.part");
        fs::create_dir_all(part.join("a")).unwrap();
        fs::write(part.join("a/mine"), "other").unwrap();
        let taken = give_part_back(&path, &sample);
        assert!(
            matches!(taken, Err(StoreError::TargetExists { .. })),
            "{taken:?}"
        );
        assert_eq!(fs::read(path.join("a/mine")).unwrap(), b"precious");
        assert_eq!(fs::read(part.join("a/mine")).unwrap(), b"other");
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        let taken = give_part_back(&path, &sample);
        assert!(
            matches!(taken, Err(StoreError::TargetExists { .. })),
            "{taken:?}"
        );
        assert_eq!(fs::read(part.join("a/mine")).unwrap(), b"other");
    }

    /// A place where the share's own folder is, or nothing.
    fn before(is_named: bool) -> (tempfile::TempDir, PathBuf, Sample) {
        let (folder, sample) = (tempfile::tempdir().unwrap(), Sample::mixed());
        let path = sample.path_in(folder.path());
        if is_named {
            fs::create_dir_all(path.join("a")).unwrap();
            fs::write(path.join("a/mine"), "precious").unwrap();
        }
        (folder, path, sample)
    }

    fn give_part_back(path: &Path, sample: &Sample) -> Result<(), StoreError> {
        ShareFiles::give_part_back(disk(), path, &sample.content)
    }

    fn disk() -> Arc<dyn Disk> {
        Arc::new(RealDisk)
    }
}
