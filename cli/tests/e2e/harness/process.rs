//! One child process: what it says, how it ends, signals.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{DEADLINE, wait_for};

/// Lines of a process's messages that are shown when a test fails.
const SHOWN_LINES: usize = 60;

/// A running child process, killed when it is dropped.
pub(crate) struct Process {
    name: String,
    child: Arc<Mutex<Child>>,
    /// What it wrote to stdout so far.
    pub(crate) stdout: Lines,
    /// What it wrote to stderr so far.
    pub(crate) stderr: Lines,
}

impl Process {
    /// Starts a process that is called `name` in what a failed test shows.
    pub(crate) fn spawn(name: impl Into<String>, command: &mut Command) -> Process {
        let name = name.into();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Process {
            name,
            child: Arc::new(Mutex::new(child)),
            stdout,
            stderr,
        }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// The exit code once it has ended; 128 and the signal's number when a signal ended it.
    pub(crate) fn exited(&self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.lock().unwrap().try_wait().unwrap()?;
        status.code().or_else(|| status.signal().map(|n| 128 + n))
    }

    /// Waits until it ends, and for the last of what it had to say.
    #[track_caller]
    pub(crate) fn wait(&self) -> i32 {
        let code = wait_for(&format!("{} to end", self.name), || self.exited());
        self.stdout.wait_until_closed();
        self.stderr.wait_until_closed();
        code
    }

    /// Sends a signal, unless it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        send(&self.child, signal);
    }

    /// Ends it without warning, as a power switch would.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Lets it run for a small part of the time only.
    pub(crate) fn throttle(&self) -> Throttle {
        Throttle::start(Arc::clone(&self.child))
    }
}

/// Not after the child was waited for: then its number may be another's.
fn send(child: &Mutex<Child>, signal: Signal) {
    let mut child = child.lock().unwrap();
    if child.try_wait().unwrap().is_none() {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.unwrap(), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let said = self.stderr.all();
            let shown = &said[said.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("--- {}:\n{}", self.name, shown.join("\n"));
        }
    }
}

/// The lines of one stream of a process as they come.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    closed: bool,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Lines {
        let lines = Lines(Arc::new(Inner {
            state: Mutex::default(),
            changed: Condvar::new(),
        }));
        let writer = lines.clone();
        // Ends with the stream, which ends with the process.
        thread::spawn(move || writer.read(BufReader::new(stream)));
        lines
    }

    fn read(&self, mut stream: impl BufRead) {
        let mut line = Vec::new();
        while matches!(stream.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            self.0.state.lock().unwrap().lines.push(text);
            self.0.changed.notify_all();
            line.clear();
        }
        self.0.state.lock().unwrap().closed = true;
        self.0.changed.notify_all();
    }

    /// Line number `at`, as soon as it is there; `None` when the stream ended before.
    #[track_caller]
    pub(crate) fn wait_line(&self, at: usize) -> Option<String> {
        let state = self.wait(|state| state.lines.len() > at || state.closed);
        state.lines.get(at).cloned()
    }

    /// All lines so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.state.lock().unwrap().lines.clone()
    }

    /// All lines so far as one text.
    pub(crate) fn text(&self) -> String {
        self.all().iter().map(|line| format!("{line}\n")).collect()
    }

    fn wait_until_closed(&self) {
        drop(self.wait(|state| state.closed));
    }

    #[track_caller]
    fn wait(&self, ready: impl Fn(&State) -> bool) -> std::sync::MutexGuard<'_, State> {
        let state = self.0.state.lock().unwrap();
        let waiting = |state: &mut State| !ready(state);
        let (state, late) = self
            .0
            .changed
            .wait_timeout_while(state, DEADLINE, waiting)
            .unwrap();
        assert!(
            !late.timed_out(),
            "nothing said in {} s",
            DEADLINE.as_secs()
        );
        state
    }
}

/// Makes a process slow by stopping it most of the time, so that a transfer over loopback lasts
/// long enough to be interrupted. Ends when it is dropped.
pub(crate) struct Throttle {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Throttle {
    /// Stopped for this long, each time.
    const STOPPED: Duration = Duration::from_millis(90);
    /// Runs for this long in between.
    const RUNNING: Duration = Duration::from_millis(10);

    fn start(child: Arc<Mutex<Child>>) -> Throttle {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                send(&child, Signal::STOP);
                thread::sleep(Self::STOPPED);
                send(&child, Signal::CONT);
                thread::sleep(Self::RUNNING);
            }
        });
        Throttle {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by its own thread.
            let _ = thread.join();
        }
    }
}

/// What a command that has ended said.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code.
    pub(crate) code: i32,
    /// Its result.
    pub(crate) stdout: String,
    /// Its messages.
    pub(crate) stderr: String,
}

impl Ran {
    /// Fails unless it ended with `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Fails unless it ended with `code` and an error that has `words`, followed by a hint.
    #[track_caller]
    pub(crate) fn expect_error(self, code: i32, words: &str) -> Ran {
        let ran = self.expect(code);
        let error = ran.stderr.find("error[").map(|at| &ran.stderr[at..]);
        assert!(error.is_some_and(|error| error.contains(words)), "{ran:#?}");
        assert!(ran.stderr.contains("\nhint: "), "no hint: {ran:#?}");
        ran
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ran {
    let process = Process::spawn(format!("{command:?}"), command);
    Ran {
        code: process.wait(),
        stdout: process.stdout.text(),
        stderr: process.stderr.text(),
    }
}
