//! Starts a daemon in the background for who has a link and nothing else.
//!
//! Not here: what a daemon is ([`crate::commands::daemon`]).

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use warren_daemon::control::model::{ApiError, exit};
use warren_proto::content::address::TrackerAddress;

use crate::{control::Daemon, home, started::Started};

/// How long a daemon may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Gap between two looks whether it does.
const POLL: Duration = Duration::from_millis(20);

/// What it said before it answered, in its state folder.
const SAID: &str = "start.log";

/// Longest part of that which is shown, in bytes.
const SAID_BYTES: usize = 2000;

/// Starts daemon `daemon.idx` with its state below `home`, and waits until it answers: as it was started the
/// last time, so that it is no less private or slow; or for the first time with this tracker, and its downloads
/// go below the current folder, as if the person had started it there.
///
/// # Errors
/// When it ends, or does not answer in time.
pub(crate) async fn in_background(
    daemon: &Daemon,
    home: &Path,
    tracker: &TrackerAddress,
) -> Result<(), ApiError> {
    let folder = daemon.socket.parent().unwrap_or(home);
    let said = folder.join(SAID);
    let last = Started::last(home, daemon.idx);
    let spawned = spawn(daemon.idx, home, (tracker, last.as_ref()), &said);
    let mut child = spawned.map_err(|error| not_started(daemon, &error.to_string()))?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if daemon.answers().await {
            return Ok(());
        }
        if matches!(child.try_wait(), Ok(Some(_))) {
            return Err(not_started(daemon, &last_words(&said)));
        }
        tokio::time::sleep(POLL).await;
    }
    Err(not_started(daemon, "it does not answer"))
}

fn spawn(
    idx: u16,
    home: &Path,
    (tracker, last): (&TrackerAddress, Option<&Started>),
    said: &Path,
) -> io::Result<Child> {
    if let Some(folder) = said.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut command = Command::new(std::env::current_exe()?);
    match last {
        Some(started) => {
            started.applied_to(&mut command);
            command.env(home::VARIABLE, home);
        }
        None => {
            command.arg("--home").arg(home);
            command.args(["daemon", &idx.to_string(), &tracker.to_string()]);
        }
    }
    command
        .arg("--quiet")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(said)?)
        // Ctrl-C at this terminal is for the client alone.
        .process_group(0)
        .spawn()
}

fn last_words(said: &Path) -> String {
    let text = fs::read_to_string(said).unwrap_or_default();
    let start = text.floor_char_boundary(text.len().saturating_sub(SAID_BYTES));
    text[start..].trim().replace('\n', "; ")
}

fn not_started(daemon: &Daemon, cause: &str) -> ApiError {
    let message = format!("daemon {} could not be started: {cause}", daemon.idx);
    let hint = format!("Start it yourself to see more: {}", daemon.start_line());
    ApiError::new(
        "daemon_not_started",
        exit::DAEMON_NOT_RUNNING,
        message,
        hint,
    )
}
