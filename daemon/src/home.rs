//! Where one daemon keeps its state, and the lock that makes it the only one there.
//!
//! [`DaemonHome`] owns `<home>/daemon-<idx>/` for as long as it lives:
//!
//! ```text
//! <home>/daemon-<idx>/   0700
//!   lock                 held while the daemon runs; contains its process id
//!   key                  the peer's Ed25519 key
//!   state.db             shares and settings (`store::db`)
//!   journal/             one journal per unfinished share (`store::journal`)
//!   control.sock         the control API
//! ```
//!
//! Not here: which folder `<home>` is (the command line decides), and `<home>/known-trackers`,
//! which all daemons of a person share (`store::known`), as they do `<home>/guessing` (`punch`).

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::started::{KeptStart, Started};
use crate::store::known::{KnownError, KnownTrackers};

/// Longest path of a Unix socket: `sun_path` has 108 bytes and the last one is a NUL (unix(7)).
pub const SOCKET_PATH_BYTES: usize = 107;

/// File of the state folder that says how the daemon was started.
const STARTED: &str = "started.json";

/// How often a taken lock is tried again, and the pause between.
const LOCK_TRIES: usize = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Longest process id read back from a lock file, in digits; kernels stop at 4,194,304.
const PID_DIGITS: u64 = 10;

/// Why a daemon's state folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another process holds the lock.
    #[error("daemon {idx} is already running{}", pid.map(|pid| format!(" as process {pid}")).unwrap_or_default())]
    Running {
        /// Number of the daemon.
        idx: u16,
        /// Its process id, when the lock file could be read.
        pid: Option<u32>,
    },
    /// The control socket's path does not fit into a socket address.
    #[error(
        "the socket path {} is {bytes} bytes long and the system allows {SOCKET_PATH_BYTES}: \
         choose a shorter folder with --home",
        path.display()
    )]
    SocketPath {
        /// The path that is too long.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The file system refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder in question.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The state folder of one running daemon, locked against every other process.
#[derive(Debug)]
pub struct DaemonHome {
    folder: PathBuf,
    socket: PathBuf,
    /// Closing it releases the lock, also when the process is killed.
    _lock: File,
}

impl DaemonHome {
    /// Creates `<home>/daemon-<idx>/` where needed and takes its lock for the life of the value.
    ///
    /// # Errors
    ///
    /// [`HomeError::Running`] when another process holds the lock, [`HomeError::SocketPath`] when
    /// the control socket could not be bound; nothing was created then.
    pub fn open(home: &Path, idx: u16) -> Result<DaemonHome, HomeError> {
        let folder = daemon_folder(home, idx)?;
        let socket = socket_path(home, idx)?;
        create_private(&folder)?;
        let lock = lock(&folder.join("lock"), idx)?;
        create_private(&folder.join("journal"))?;
        Ok(DaemonHome {
            folder,
            socket,
            _lock: lock,
        })
    }

    /// The file of the peer's private key.
    pub fn key(&self) -> PathBuf {
        self.folder.join("key")
    }

    /// The database of shares and settings.
    pub fn db(&self) -> PathBuf {
        self.folder.join("state.db")
    }

    /// The folder of the journals.
    pub fn journal_dir(&self) -> PathBuf {
        self.folder.join("journal")
    }

    /// Keeps how the daemon was started; what is not told removes what was kept.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub(crate) fn keep_started(&self, started: Option<Started>) -> io::Result<Option<KeptStart>> {
        let path = self.folder.join(STARTED);
        match started {
            Some(started) => KeptStart::new(path, started).map(Some),
            None => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(None),
            },
        }
    }

    /// The Unix socket of the control API.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// Where daemon `idx` listens for its clients; nothing is created.
///
/// # Errors
///
/// [`HomeError::SocketPath`] when the path is over [`SOCKET_PATH_BYTES`].
pub fn socket_path(home: &Path, idx: u16) -> Result<PathBuf, HomeError> {
    let path = daemon_folder(home, idx)?.join("control.sock");
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > SOCKET_PATH_BYTES {
        return Err(HomeError::SocketPath { path, bytes });
    }
    Ok(path)
}

/// Where it is kept how daemon `idx` was started the last time; nothing is created.
pub fn started_path(home: &Path, idx: u16) -> PathBuf {
    home.join(format!("daemon-{idx}")).join(STARTED)
}

/// Whether a daemon holds the state folder, from before it answers until after it has ended.
pub fn is_held(home: &Path, idx: u16) -> bool {
    let lock = daemon_folder(home, idx).map(|folder| File::open(folder.join("lock")));
    let Ok(Ok(lock)) = lock else {
        return false;
    };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// The trackers this person has met and the keys they had then, in `<home>/known-trackers`.
///
/// # Errors
///
/// When the file exists and cannot be read or understood.
pub fn known_trackers(home: &Path) -> Result<KnownTrackers, KnownError> {
    KnownTrackers::open(&home.join("known-trackers"))
}

/// The file by which the daemons of this person see to it that one at a time guesses ports.
pub(crate) fn guess_lock(home: &Path) -> PathBuf {
    home.join("guessing")
}

fn daemon_folder(home: &Path, idx: u16) -> Result<PathBuf, HomeError> {
    let home = std::path::absolute(home).map_err(at(home))?;
    Ok(home.join(format!("daemon-{idx}")))
}

/// Makes the folder and its missing parents, all 0700; an existing folder is tightened to that.
fn create_private(folder: &Path) -> Result<(), HomeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(at(folder))?;
    let mode = fs::metadata(folder)
        .map_err(at(folder))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(at(folder))?;
    }
    Ok(())
}

fn lock(path: &Path, idx: u16) -> Result<File, HomeError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(at(path))?;
    match try_lock(&file) {
        Ok(()) => (),
        Err(TryLockError::WouldBlock) => {
            return Err(HomeError::Running {
                idx,
                pid: read_pid(&file),
            });
        }
        Err(TryLockError::Error(source)) => return Err(at(path)(source)),
    }
    write_pid(&mut file).map_err(at(path))?;
    Ok(file)
}

/// Tries again for a moment: [`is_held`] takes the lock too, for an instant.
fn try_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            other => return other,
        }
    }
    file.try_lock()
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_DIGITS).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn at(path: &Path) -> impl Fn(io::Error) -> HomeError {
    move |source| HomeError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn opening_makes_a_private_folder_with_a_journal() {
        let home = tempfile::tempdir().unwrap();
        let daemon = DaemonHome::open(&home.path().join("new"), 7).unwrap();

        let folder = home.path().join("new/daemon-7");
        assert_eq!(
            fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert!(folder.join("journal").is_dir());
        assert_eq!(daemon.key(), folder.join("key"));
        assert_eq!(daemon.db(), folder.join("state.db"));
        assert_eq!(daemon.journal_dir(), folder.join("journal"));
        assert_eq!(daemon.socket(), folder.join("control.sock"));
    }

    #[test]
    fn a_second_daemon_learns_who_runs() {
        let home = tempfile::tempdir().unwrap();
        let first = DaemonHome::open(home.path(), 3).unwrap();

        let error = DaemonHome::open(home.path(), 3).unwrap_err();
        let us = std::process::id();
        assert!(matches!(error, HomeError::Running { idx: 3, pid: Some(pid) } if pid == us));
        assert_eq!(
            error.to_string(),
            format!("daemon 3 is already running as process {us}")
        );
        DaemonHome::open(home.path(), 4).unwrap();
        assert!(is_held(home.path(), 3) && !is_held(home.path(), 5));

        drop(first);
        // A process that another test is just starting has what is open here until it runs its own program.
        let soon = |is_so: &dyn Fn() -> bool| {
            (0..1000).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                is_so()
            })
        };
        assert!(soon(&|| !is_held(home.path(), 3)));
        assert!(soon(&|| DaemonHome::open(home.path(), 3).is_ok()));
    }

    #[test]
    fn a_folder_open_to_others_is_tightened() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("daemon-0");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();

        DaemonHome::open(home.path(), 0).unwrap();
        assert_eq!(
            fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn a_socket_path_that_does_not_fit_is_refused_before_anything_is_made() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("x".repeat(SOCKET_PATH_BYTES));
        let error = DaemonHome::open(&home, 1).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("the system allows 107: choose a shorter folder")
        );
        assert!(!home.exists());
    }

    #[test]
    fn a_socket_path_of_exactly_the_limit_fits() {
        let rest = "/daemon-1/control.sock".len();
        let home = |bytes: usize| PathBuf::from(format!("/{}", "h".repeat(bytes - rest - 1)));
        socket_path(&home(SOCKET_PATH_BYTES), 1).unwrap();
        socket_path(&home(SOCKET_PATH_BYTES + 1), 1).unwrap_err();
    }
}
