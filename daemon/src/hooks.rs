//! Runs commands of the person when something has become of a share.
//!
//! The node says what happened ([`Hooks::tell`]) and goes on; one task runs the commands, a few at a
//! time, and logs what they say. A command is words, split as a shell would, and no shell sees them
//! unless it is the first word. It learns what happened from its environment ([`Happened`]).
//!
//! Not here: when something has happened (`node`).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use warren_proto::content::path::printable;

/// Happenings that may wait for their commands. What comes when so many wait is logged and left out.
const WAITING: usize = 256;

/// Commands that run at once.
const AT_ONCE: usize = 4;

/// How long a command may run, before it and what it has started are killed.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// What of a command's output is logged; the rest is read and dropped.
const OUTPUT_BYTES: u64 = 64 << 10;

/// What systemd tells us alone. Who inherits it could speak for us.
const NOT_INHERITED: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

/// What may become of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Happening {
    /// It is new here: registered, or a download that began.
    Added,
    /// What is wanted of it is verified and in place.
    Complete,
    /// It goes no further, for instance because the disk is full.
    Failed,
    /// Its files are no longer what was shared.
    Changed,
    /// It was removed.
    Removed,
}

impl Happening {
    /// The word for it in `WARREN_EVENT`.
    pub fn word(self) -> &'static str {
        match self {
            Happening::Added => "added",
            Happening::Complete => "complete",
            Happening::Failed => "failed",
            Happening::Changed => "changed",
            Happening::Removed => "removed",
        }
    }
}

/// A command to run: at least a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCommand {
    program: String,
    arguments: Vec<String>,
}

/// Why a command is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookCommandError {
    /// A quote or a backslash is left open.
    #[error("a quote is not closed; give it as \"PROGRAM ARGUMENT...\"")]
    Quotes,
    /// There is nothing.
    #[error("expected a command, for example \"notify-send done\"")]
    Empty,
}

impl FromStr for HookCommand {
    type Err = HookCommandError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words = shlex::split(text).ok_or(HookCommandError::Quotes)?;
        let mut words = words.into_iter();
        let program = words.next().filter(|program| !program.is_empty());
        Ok(HookCommand {
            program: program.ok_or(HookCommandError::Empty)?,
            arguments: words.collect(),
        })
    }
}

/// What became of which share.
#[derive(Clone, Debug)]
pub(crate) struct Happened {
    /// What: `WARREN_EVENT`.
    pub(crate) what: Happening,
    /// Content id, lower-case hex: `WARREN_ID`.
    pub(crate) id: String,
    /// Its name, empty while a link has not brought it: `WARREN_NAME`.
    pub(crate) name: String,
    /// Where it is, or will be: `WARREN_PATH`.
    pub(crate) path: PathBuf,
    /// Why, where something went wrong: `WARREN_ERROR`.
    pub(crate) error: Option<String>,
}

impl Happened {
    fn variables(&self) -> [(&'static str, OsString); 5] {
        [
            ("WARREN_EVENT", self.what.word().into()),
            ("WARREN_ID", self.id.clone().into()),
            ("WARREN_NAME", self.name.clone().into()),
            ("WARREN_PATH", self.path.clone().into()),
            (
                "WARREN_ERROR",
                self.error.clone().unwrap_or_default().into(),
            ),
        ]
    }
}

/// Which command belongs to what.
pub type HookCommands = BTreeMap<Happening, HookCommand>;

/// The way to the task that runs commands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hooks {
    queue: Option<mpsc::Sender<Happened>>,
    wanted: Vec<Happening>,
}

impl Hooks {
    /// Starts the task, which somebody should await: it ends when all of these are gone and every command
    /// has ended, or at `stop`, when it kills what still runs.
    pub(crate) fn start(
        commands: HookCommands,
        stop: CancellationToken,
    ) -> (Hooks, JoinHandle<()>) {
        let (queue, happened) = mpsc::channel(WAITING);
        let wanted = commands.keys().copied().collect();
        let runner = tokio::spawn(run(commands, happened, stop));
        let queue = Some(queue);
        (Hooks { queue, wanted }, runner)
    }

    /// Has the command for it run, if there is one. `describe` is called only then.
    pub(crate) fn tell(&self, what: Happening, describe: impl FnOnce() -> Happened) {
        let queue = self.queue.as_ref().filter(|_| self.wanted.contains(&what));
        let Some(queue) = queue else {
            return;
        };
        let happened = describe();
        let name = printable(&happened.name);
        if queue.try_send(happened).is_err() {
            tracing::warn!(
                hook = what.word(),
                %name,
                "a command was left out: {WAITING} wait already"
            );
        }
    }
}

/// Until nobody can tell anything any more, or it is stopped.
async fn run(commands: HookCommands, happened: mpsc::Receiver<Happened>, stop: CancellationToken) {
    let mut running = JoinSet::new();
    let ran = run_each(&commands, &mut running, happened);
    if stop.run_until_cancelled(ran).await.is_none() {
        running.shutdown().await;
    }
}

/// Until nobody can tell anything any more, and every command has ended.
async fn run_each(
    commands: &HookCommands,
    running: &mut JoinSet<()>,
    mut happened: mpsc::Receiver<Happened>,
) {
    loop {
        tokio::select! {
            Some(_) = running.join_next() => (),
            Some(happened) = happened.recv(), if running.len() < AT_ONCE => {
                if let Some(command) = commands.get(&happened.what).cloned() {
                    running.spawn(async move { run_one(&command, &happened).await });
                }
            }
            else => return,
        }
    }
}

async fn run_one(hook: &HookCommand, happened: &Happened) {
    let word = happened.what.word();
    let name = printable(&happened.name);
    let mut child = match spawn(hook, happened) {
        Ok(child) => child,
        Err(error) => {
            let program = &hook.program;
            return tracing::warn!(hook = word, %name, "cannot run {program}: {error}");
        }
    };
    let group = Group::of(&child);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ending = async { tokio::join!(log(out, word), log(err, word), child.wait()).2 };
    match timeout(TIME_LIMIT, ending).await {
        Ok(Ok(status)) if status.success() => tracing::info!(hook = word, %name, "has run"),
        Ok(Ok(status)) => tracing::warn!(hook = word, %name, "ended with {status}"),
        Ok(Err(error)) => tracing::warn!(hook = word, %name, "was lost: {error}"),
        Err(_) => {
            let seconds = TIME_LIMIT.as_secs();
            tracing::warn!(hook = word, %name, "was killed, as it took more than {seconds} s");
        }
    }
    drop(group);
}

fn spawn(hook: &HookCommand, happened: &Happened) -> std::io::Result<Child> {
    let mut command = Command::new(OsStr::new(&hook.program));
    command
        .args(&hook.arguments)
        .envs(happened.variables())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    for variable in NOT_INHERITED {
        command.env_remove(variable);
    }
    command.spawn()
}

/// A command and what it has started, killed when this is dropped. What has detached itself on
/// purpose, as daemons do, is no longer in it.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Group {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Group(id.and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It is gone where nothing of it was left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Logs line by line, as much of it as is logged.
async fn log(stream: Option<impl AsyncRead + Unpin>, hook: &'static str) {
    let Some(mut stream) = stream else {
        return;
    };
    let mut lines = BufReader::new((&mut stream).take(OUTPUT_BYTES));
    let mut line = Vec::new();
    while matches!(lines.read_until(b'\n', &mut line).await, Ok(1..)) {
        let text = String::from_utf8_lossy(&line);
        tracing::info!(hook, "{}", printable(text.trim_end()));
        line.clear();
    }
    drop(lines);
    // Whoever writes on must not wait for us.
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}

#[cfg(test)]
mod tests;
