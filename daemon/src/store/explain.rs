//! What to tell the person when the disk, a journal, the database or the state folder fails.
//!
//! Not here: what failed ([`super::error`] and its like); the same for registering
//! ([`super::register`]) and for `.p2p` files ([`super::manifest_file`]).

use std::error::Error;
use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use super::db::DbError;
use super::error::StoreError;
use super::journal::JournalError;
use crate::control::model::{ApiError, exit};
use crate::home::HomeError;

const NO_SPACE: &str = "no_space";
const NEWER: &str = "Install the newer version of this program.";
const BUG: &str = "This is a bug; please report it.";

/// An error the system is the cause of.
pub(super) fn io(error: &dyn Error, source: &io::Error) -> ApiError {
    let is_full = "Make room on the disk, then run the same command again.";
    let is_denied = "Check the permissions of the file and its folders: ls -l shows them.";
    let is_read_only = "The file system is mounted read-only: use a folder on another one.";
    let is_gone = "See whether the path is right, and its folders are there: ls -ld shows them.";
    let is_other = "Check the disk: dmesg shows its errors.";
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ApiError::caused(NO_SPACE, exit::DISK, error, is_full)
        }
        io::ErrorKind::PermissionDenied => {
            ApiError::caused("permission_denied", exit::DISK, error, is_denied)
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ApiError::caused("read_only", exit::DISK, error, is_read_only)
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ApiError::caused("disk_error", exit::DISK, error, is_gone)
        }
        _ => ApiError::caused("disk_error", exit::DISK, error, is_other),
    }
}

impl From<&StoreError> for ApiError {
    fn from(error: &StoreError) -> Self {
        let (code, exit, hint) = match error {
            StoreError::TargetExists { path } | StoreError::AlreadyRenamed { path } => {
                ("target_exists", exit::REFUSED, move_away(path))
            }
            StoreError::OfAnotherKind { path, .. } => {
                ("target_exists", exit::REFUSED, move_only_away(path))
            }
            StoreError::Collides { .. } => (
                "names_collide",
                exit::REFUSED,
                "Start the daemon with a --downloads folder on a file system that tells upper \
                 from lower case."
                    .into(),
            ),
            StoreError::NoSpace { path, needed, free } => (
                NO_SPACE,
                exit::DISK,
                make_room(path, needed.saturating_sub(*free)),
            ),
            StoreError::DiskFull { .. } => {
                (NO_SPACE, exit::DISK, continues("Make room on the disk"))
            }
            StoreError::SyncFailed { .. } if error.is_out_of_space() => {
                (NO_SPACE, exit::DISK, continues("Make room on the disk"))
            }
            StoreError::SyncFailed { .. } => (
                "sync_failed",
                exit::DISK,
                continues("Check the disk (dmesg shows its errors)"),
            ),
            StoreError::Missing { .. } => ("not_found", exit::NOT_FOUND, start_over()),
            StoreError::Changed { path } => ("changed", exit::DISK, share_anew(path)),
            StoreError::ReadOnly { .. } => ("not_downloading", exit::OTHER, BUG.into()),
            StoreError::BadRange { .. } => ("bad_range", exit::OTHER, BUG.into()),
            StoreError::Io { source, .. } => return io(error, source),
        };
        ApiError::caused(code, exit, error, hint)
    }
}

fn move_away(path: &Path) -> String {
    format!(
        "Move {} away and run the same command again, or add --if-exists rename, overwrite or \
         resume; or store it elsewhere with --to DIR.",
        path.display()
    )
}

fn move_only_away(path: &Path) -> String {
    format!(
        "It is neither replaced nor taken as the beginning. Move {} away and run the same command again, or take \
         another name: --if-exists rename; or store it elsewhere with --to DIR.",
        path.display()
    )
}

fn make_room(path: &Path, missing: u64) -> String {
    continues(&format!(
        "Free at least {} more on the disk of {}",
        rounded_up(missing),
        path.display()
    ))
}

fn continues(act: &str) -> String {
    format!("{act}, then run the same download command: it continues.")
}

fn start_over() -> String {
    "Remove the download, then run the same command again: client remove NAME IDX".into()
}

fn share_anew(path: &Path) -> String {
    format!(
        "Put {} back as it was, or share what is there now: client register PATH IDX",
        path.display()
    )
}

/// A number of bytes that is not less, in the unit that shows it best.
fn rounded_up(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB")];
    let unit = UNITS.iter().find(|(unit, _)| bytes >= *unit * 10);
    let (unit, name) = unit.unwrap_or(&UNITS[2]);
    format!("{} {name}", bytes.div_ceil(*unit).max(1))
}

impl From<&JournalError> for ApiError {
    fn from(error: &JournalError) -> Self {
        let (code, exit, hint) = match error {
            JournalError::NotAJournal { .. } => ("journal_damaged", exit::DISK, start_over()),
            JournalError::Version { .. } => ("journal_version", exit::REFUSED, NEWER.into()),
            JournalError::OtherContent { .. } | JournalError::OtherLayout { .. } => {
                ("journal_damaged", exit::DISK, start_over())
            }
            JournalError::OutOfRange(_) => ("bad_range", exit::OTHER, BUG.into()),
            JournalError::Io { source, .. } => return io(error, source),
        };
        ApiError::caused(code, exit, error, hint)
    }
}

impl From<&DbError> for ApiError {
    fn from(error: &DbError) -> Self {
        let full =
            |source: &rusqlite::Error| source.sqlite_error_code() == Some(ErrorCode::DiskFull);
        let (code, exit, hint) = match error {
            DbError::Corrupt { path, .. } => (
                "database_damaged",
                exit::DISK,
                format!(
                    "Restore it from a copy, or move {} away and start the daemon: files stay, \
                     but they must be shared or downloaded anew.",
                    path.display()
                ),
            ),
            DbError::Foreign { .. } => (
                "database_foreign",
                exit::REFUSED,
                "Name another folder with --home.".into(),
            ),
            DbError::Newer { .. } => ("database_version", exit::REFUSED, NEWER.into()),
            DbError::Sqlite { source, .. } if full(source) => (
                NO_SPACE,
                exit::DISK,
                "Make room on the disk, then run the same command again.".into(),
            ),
            DbError::Sqlite { .. } => (
                "database_error",
                exit::DISK,
                "Check the disk (dmesg shows its errors) and the permissions of the state folder."
                    .into(),
            ),
        };
        ApiError::caused(code, exit, error, hint)
    }
}

impl From<&HomeError> for ApiError {
    fn from(error: &HomeError) -> Self {
        let (code, exit, hint) = match error {
            HomeError::Running { idx, .. } => (
                "already_running",
                exit::REFUSED,
                format!("Use it as it is, stop it with client stop {idx}, or take another number."),
            ),
            HomeError::SocketPath { .. } => (
                "home_path",
                exit::USAGE,
                "Name a shorter folder with --home DIR or WARREN_HOME.".into(),
            ),
            HomeError::Io { source, .. } => return io(error, source),
        };
        ApiError::caused(code, exit, error, hint)
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;
    use warren_proto::id::ContentId;

    use super::*;
    use crate::store::taken::Taken;

    #[test]
    fn a_share_that_fails_on_disk_says_what_to_do() {
        let path = || Path::new("/data/film").to_owned();
        let source = |errno: Errno| io::Error::from(errno);
        let (needed, free) = (30 << 30, (10 << 30) + 1);
        for (error, code, exit, hint) in [
            (
                StoreError::TargetExists { path: path() },
                "target_exists",
                exit::REFUSED,
                "--if-exists rename",
            ),
            (
                StoreError::OfAnotherKind {
                    path: path(),
                    taken: Taken::Folder,
                },
                "target_exists",
                exit::REFUSED,
                "Move /data/film away",
            ),
            (
                StoreError::Collides { path: path() },
                "names_collide",
                exit::REFUSED,
                "--downloads",
            ),
            (
                StoreError::NoSpace {
                    path: path(),
                    needed,
                    free,
                },
                "no_space",
                exit::DISK,
                "at least 20 GiB more",
            ),
            (
                StoreError::DiskFull {
                    path: path(),
                    source: source(Errno::DQUOT),
                },
                "no_space",
                exit::DISK,
                "it continues",
            ),
            (
                StoreError::SyncFailed {
                    path: path(),
                    source: source(Errno::NOSPC),
                },
                "no_space",
                exit::DISK,
                "it continues",
            ),
            (
                StoreError::SyncFailed {
                    path: path(),
                    source: source(Errno::IO),
                },
                "sync_failed",
                exit::DISK,
                "dmesg",
            ),
            (
                StoreError::Missing { path: path() },
                "not_found",
                exit::NOT_FOUND,
                "client remove",
            ),
            (
                StoreError::Changed { path: path() },
                "changed",
                exit::DISK,
                "Put /data/film back",
            ),
            (
                StoreError::Io {
                    path: path(),
                    source: source(Errno::ACCESS),
                },
                "permission_denied",
                exit::DISK,
                "ls -l",
            ),
            (
                StoreError::Io {
                    path: path(),
                    source: source(Errno::ROFS),
                },
                "read_only",
                exit::DISK,
                "read-only",
            ),
        ] {
            check(&ApiError::from(&error), code, exit, hint);
        }
    }

    #[test]
    fn what_a_daemon_cannot_start_with_says_what_to_do() {
        let path = || Path::new("/state").to_owned();
        let running = HomeError::Running { idx: 3, pid: None };
        let too_long = HomeError::SocketPath {
            path: path(),
            bytes: 200,
        };
        check(
            &ApiError::from(&running),
            "already_running",
            exit::REFUSED,
            "client stop 3",
        );
        check(
            &ApiError::from(&too_long),
            "home_path",
            exit::USAGE,
            "--home",
        );

        let newer = DbError::Newer {
            path: path(),
            found: 9,
        };
        let foreign = DbError::Foreign { path: path() };
        let full = DbError::Sqlite {
            path: path(),
            source: rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(13), None),
        };
        check(
            &ApiError::from(&newer),
            "database_version",
            exit::REFUSED,
            "newer",
        );
        check(
            &ApiError::from(&foreign),
            "database_foreign",
            exit::REFUSED,
            "--home",
        );
        check(&ApiError::from(&full), "no_space", exit::DISK, "room");

        let (found, wanted) = (ContentId([1; 32]), ContentId([2; 32]));
        let other = JournalError::OtherContent {
            path: path(),
            found,
            wanted,
        };
        check(
            &ApiError::from(&other),
            "journal_damaged",
            exit::DISK,
            "client remove",
        );
    }

    #[test]
    fn bytes_are_never_rounded_down() {
        for (bytes, text) in [
            (0, "1 MiB"),
            (1, "1 MiB"),
            ((1 << 20) + 1, "2 MiB"),
            (9 << 30, "9216 MiB"),
            ((10 << 30) + 1, "11 GiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(rounded_up(bytes), text);
        }
    }

    #[track_caller]
    fn check(error: &ApiError, code: &str, exit: u8, hint: &str) {
        assert_eq!((error.code.as_str(), error.exit), (code, exit), "{error}");
        assert!(error.hint.contains(hint), "{}", error.hint);
        // A command at the end is copied with whatever is behind it.
        assert!(
            (error.hint.ends_with('.') || error.hint.ends_with(" IDX"))
                && !error.message.ends_with('.')
        );
    }
}
