//! How a newer version of a share takes the place of the one before, under the same name.
//!
//! The new one was made in a folder of its own. The one before is moved aside whole, the new one to its place, and
//! then what is left of the former one is deleted: files that are still what was downloaded. Whatever else is
//! there was changed or added by the person, and stays in a folder beside. Each step can be taken again, so that
//! one that was broken off is gone on with.
//!
//! Not here: when that is done, and what is noted of it (`share::depot`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use warren_proto::content::Content;
use warren_proto::id::Kind;

use super::disk::{Disk, FileIdentity};
use super::division::ABSENT;
use super::error::StoreError;
use super::files::{Identities, ShareFiles};
use super::following::Exchange;
use super::taken::IfExists;

/// Where the former version is meanwhile, beside the folder of the new one.
const ASIDE: &str = "former";

/// Highest number that is put behind the name of what is kept.
pub(super) const MAX_NUMBER: u32 = 9999;

impl Exchange {
    /// Where the new version is before.
    fn from(&self) -> PathBuf {
        self.staged.join(&self.name)
    }

    /// The same under the name that it is to have.
    fn source_called(&self) -> PathBuf {
        self.staged.join(self.called())
    }

    /// Where it is to be.
    pub(crate) fn to(&self) -> PathBuf {
        self.folder.join(self.called())
    }

    /// What it is to be called.
    fn called(&self) -> &str {
        self.called.as_ref().unwrap_or(&self.name)
    }

    /// Where the former version is, or what gives way to the first one.
    pub(crate) fn former_path(&self) -> Option<PathBuf> {
        let gives_way = matches!(self.if_exists, IfExists::Resume | IfExists::Overwrite);
        let former = self.former.as_ref().map(|former| former.path.clone());
        former.or_else(|| gives_way.then(|| self.to()))
    }

    /// The same while it is aside.
    pub(crate) fn aside_path(&self) -> Option<PathBuf> {
        let path = self.former_path()?;
        name_of(&path).map(|name| self.aside().join(name))
    }

    fn aside(&self) -> PathBuf {
        self.staged.with_file_name(ASIDE)
    }
}

/// Gives the new version its place; the former one is aside then.
///
/// # Errors
///
/// [`StoreError::TargetExists`] when something else has the name. The former version is where it was after any
/// error, or is aside and the same call goes on.
pub(crate) fn move_in(disk: &dyn Disk, plan: &Exchange) -> Result<(), StoreError> {
    let is_there = |path: PathBuf| path.symlink_metadata().is_ok();
    if !is_there(plan.from()) && !is_there(plan.source_called()) {
        // It is there already, or was removed.
        return match plan.to().symlink_metadata() {
            Ok(_) => Ok(()),
            Err(source) => Err(StoreError::at(&plan.from())(source)),
        };
    }
    let moved = plan.former_path();
    if let Some(path) = &moved {
        set_aside(disk, path, &plan.aside())?;
    }
    let moved_in = rename(plan).and_then(|()| {
        std::fs::create_dir_all(&plan.folder).map_err(StoreError::at(&plan.folder))?;
        move_to(disk, &plan.staged, &plan.folder, plan.called())
    });
    if let (Err(_), Some(path)) = (&moved_in, &moved) {
        // The first error is the one that matters.
        let _ = put_back(disk, path, &plan.aside());
    }
    moved_in
}

/// Gives the new version the name it is to have, where it is.
fn rename(plan: &Exchange) -> Result<(), StoreError> {
    let (from, to) = (plan.from(), plan.source_called());
    match from == to || from.symlink_metadata().is_err() {
        true => Ok(()),
        false => std::fs::rename(&from, &to).map_err(StoreError::at(&to)),
    }
}

fn set_aside(disk: &dyn Disk, path: &Path, aside: &Path) -> Result<(), StoreError> {
    let (Some(folder), Some(name)) = (path.parent(), name_of(path)) else {
        return Ok(());
    };
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    // Somebody has removed it, or this was done before.
    if !is_there(path) || is_there(&aside.join(name)) {
        return Ok(());
    }
    std::fs::create_dir_all(aside).map_err(StoreError::at(aside))?;
    move_to(disk, folder, aside, name)
}

fn put_back(disk: &dyn Disk, path: &Path, aside: &Path) -> Result<(), StoreError> {
    match (path.parent(), name_of(path)) {
        (Some(folder), Some(name)) => move_to(disk, aside, folder, name),
        _ => Ok(()),
    }
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name().and_then(|name| name.to_str())
}

/// Moves something to another folder under the same name, durably.
fn move_to(disk: &dyn Disk, from: &Path, to: &Path, name: &str) -> Result<(), StoreError> {
    let open = |path: &Path| disk.open_folder(path).map_err(StoreError::at(path));
    let (from_folder, to_folder) = (open(from)?, open(to)?);
    let target = to.join(name);
    let moved = disk.move_noreplace(&from_folder, &to_folder, Path::new(name));
    moved.map_err(StoreError::named(&target))?;
    disk.fsync_folder(&to_folder).map_err(StoreError::at(to))?;
    disk.fsync_folder(&from_folder)
        .map_err(StoreError::at(from))
}

/// Deletes what is left of the former version and tells where the rest is: files that are not what was
/// downloaded. `known` is what the former one's files were.
///
/// # Errors
///
/// When something could not be deleted or moved; it is aside then, and the same call goes on.
pub(crate) fn clear(
    disk: &Arc<dyn Disk>,
    plan: &Exchange,
    known: Option<(&Arc<Content>, &Identities)>,
) -> Result<Option<PathBuf>, StoreError> {
    let aside = plan.aside();
    let mut kept = None;
    if let Some(path) = plan.aside_path() {
        if let Some((content, identities)) = known {
            delete_unchanged(disk, &path, content, identities);
        }
        if path.symlink_metadata().is_ok() {
            let sequence = plan.former.as_ref().map_or(0, |it| it.held.sequence);
            kept = Some(keep(disk.as_ref(), &path, &plan.folder, sequence)?);
        }
    }
    // What is not empty stays.
    let folders = [
        Some(aside.as_path()),
        Some(plan.staged.as_path()),
        plan.staged.parent(),
    ];
    for folder in folders.into_iter().flatten() {
        let _ = std::fs::remove_dir(folder);
    }
    Ok(kept)
}

/// What cannot be deleted is kept.
fn delete_unchanged(disk: &Arc<dyn Disk>, path: &Path, content: &Arc<Content>, known: &Identities) {
    let Ok(files) = ShareFiles::open_as_source(disk.clone(), path, content) else {
        return;
    };
    let identities = known.0.iter().zip(0..content.file_count());
    let unchanged = identities.map(|(known, file)| {
        let now = files.identity_now(file).ok();
        let is_same = now.is_some_and(|now| is_same(content.kind, known, &now));
        if is_same { *known } else { ABSENT }
    });
    let unchanged = Identities(unchanged.collect());
    let deletes = content.kind == Kind::Tree || unchanged.has(0);
    drop(files);
    if deletes {
        let deleted = ShareFiles::delete_named(disk.clone(), path, content, Some(&unchanged));
        if let Err(error) = deleted {
            tracing::debug!(%error, "something of a former version is kept");
        }
    }
}

/// Whether a file is what it was, though it may have been moved: that changes the inode of what is moved itself.
pub(crate) fn is_same(kind: Kind, before: &FileIdentity, now: &FileIdentity) -> bool {
    let before = match kind {
        Kind::File => FileIdentity {
            ctime_ns: now.ctime_ns,
            ..*before
        },
        Kind::Tree => *before,
    };
    before == *now
}

/// Moves what is not ours to delete to a name that is free.
fn keep(disk: &dyn Disk, path: &Path, folder: &Path, sequence: u64) -> Result<PathBuf, StoreError> {
    let name = name_of(path).unwrap_or_default();
    let numbers = (1..=MAX_NUMBER).map(|number| match number {
        1 => format!("{name}.kept-{sequence}"),
        more => format!("{name}.kept-{sequence}-{more}"),
    });
    for kept in numbers {
        let target = folder.join(&kept);
        if target.symlink_metadata().is_ok() {
            continue;
        }
        let renamed = path.with_file_name(&kept);
        std::fs::rename(path, &renamed).map_err(StoreError::at(&target))?;
        let from = renamed.parent().unwrap_or(Path::new("/"));
        return move_to(disk, from, folder, &kept).map(|()| target);
    }
    Err(StoreError::TargetExists {
        path: folder.join(name),
    })
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
