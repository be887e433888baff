//! One `client download --json` that is under way.

use std::{process::Command, time::Instant};

use rustix::process::Signal;
use warren_daemon::control::model::{ApiError, Done, Event, Progress};

use super::{DEADLINE, Process};
use crate::content::MIB;

/// A download that is being watched.
pub(crate) struct Transfer {
    process: Process,
    /// How many of its events were read.
    read: usize,
}

impl Transfer {
    /// Starts the command.
    pub(crate) fn start(idx: u16, client: &mut Command) -> Transfer {
        Transfer {
            process: Process::spawn(format!("download by daemon {idx}"), client),
            read: 0,
        }
    }

    /// The next event; `None` when the command ended without another one.
    #[track_caller]
    fn next(&mut self) -> Option<Event> {
        let line = self.process.stdout.wait_line(self.read)?;
        self.read += 1;
        Some(serde_json::from_str(&line).unwrap_or_else(|_| panic!("no event: {line}")))
    }

    /// The first progress as wanted; `None` when the download ended before.
    #[track_caller]
    pub(crate) fn progress(&mut self, wanted: impl Fn(&Progress) -> bool) -> Option<Progress> {
        let deadline = Instant::now() + DEADLINE;
        let mut last = None;
        while Instant::now() < deadline {
            match self.next()? {
                Event::Progress(progress) if wanted(&progress) => return Some(progress),
                event => last = Some(event),
            }
        }
        panic!(
            "waited {} s for progress, last: {last:?}",
            DEADLINE.as_secs()
        );
    }

    /// The first progress as wanted, which must come.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, wanted: impl Fn(&Progress) -> bool) -> Progress {
        match self.progress(wanted) {
            Some(progress) => progress,
            None => panic!("the download ended without {what}: {}", self.said()),
        }
    }

    /// The first progress with some bytes here and some not; `None` when it was over before that
    /// could be seen.
    #[track_caller]
    pub(crate) fn midway(&mut self) -> Option<Progress> {
        self.midway_beyond(0)
    }

    /// As [`Self::midway`], with more than `bytes` here.
    #[track_caller]
    pub(crate) fn midway_beyond(&mut self, bytes: u64) -> Option<Progress> {
        self.progress(|at| at.verified_bytes > bytes && at.verified_bytes < at.bytes)
    }

    /// Waits for the end, which must be a success.
    #[track_caller]
    pub(crate) fn done(mut self) -> Done {
        let event = self.last();
        let code = self.process.wait();
        match event {
            Some(Event::Done(done)) if code == 0 => done,
            _ => panic!("exit {code}: {}", self.said()),
        }
    }

    /// Waits for the end, which must be an error with this exit code.
    #[track_caller]
    pub(crate) fn failed(mut self, code: u8) -> ApiError {
        let event = self.last();
        assert_eq!(self.process.wait(), i32::from(code), "{}", self.said());
        match event {
            Some(Event::Error(error)) => {
                assert_eq!(error.exit, code, "{error:?}");
                error
            }
            _ => panic!("no error: {}", self.said()),
        }
    }

    /// The last event of all.
    #[track_caller]
    fn last(&mut self) -> Option<Event> {
        let deadline = Instant::now() + DEADLINE;
        let mut last = None;
        while let Some(event) = self.next() {
            assert!(
                Instant::now() < deadline,
                "not over in {} s, last: {event:?}",
                DEADLINE.as_secs()
            );
            last = Some(event);
        }
        last
    }

    /// Waits for the end, whatever it is, and returns the exit code.
    #[track_caller]
    pub(crate) fn code(self) -> i32 {
        self.process.wait()
    }

    /// Presses Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.process.signal(Signal::INT);
    }

    fn said(&self) -> String {
        let lines = self.process.stdout.all();
        let shown = &lines[lines.len().saturating_sub(5)..];
        format!("{}\n{}", shown.join("\n"), self.process.stderr.text())
    }
}

/// Repeats `attempt` with ever larger files until it caught its download in the middle, which it
/// says with `Some`. On a fast machine a small one may be over before it is seen.
#[track_caller]
pub(crate) fn caught_in_the_middle(attempt: impl Fn(u64) -> Option<()>) {
    let sizes = [32 * MIB, 128 * MIB, 512 * MIB];
    let caught = sizes.into_iter().any(|bytes| attempt(bytes).is_some());
    assert!(caught, "every download was over before it could be seen");
}
