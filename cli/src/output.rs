//! The only place that writes: results to stdout, all else to stderr.
//!
//! With `--json` stdout holds one JSON object a line, errors included. Text that came from peers or
//! files is escaped before a terminal sees it.
//!
//! Not here: the live progress line ([`crate::progress`]).

use std::io::{self, Write};

use warren_daemon::control::model::{ApiError, EVENT_VERSION, Event, exit};
use warren_proto::content::path::printable;

/// Code of the error that says that whoever read stdout has gone, as `head` does.
pub(crate) const CLOSED: &str = "output_closed";

/// Writes for a person or for a script.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
}

/// Whether colours are wanted where a terminal shows them (no-color.org).
pub(crate) fn may_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl Output {
    /// For a script when `json`; without messages and progress when `quiet`.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Output { json, quiet }
    }

    /// For a script.
    pub(crate) fn for_scripts() -> Self {
        Output::new(true, false)
    }

    /// Whether nothing but results and errors is wanted.
    pub(crate) fn quiet(self) -> bool {
        self.quiet
    }

    /// Whether a script reads.
    pub(crate) fn json(self) -> bool {
        self.json
    }

    /// Writes one line of a result.
    ///
    /// # Errors
    /// When stdout is closed or full, so that nobody takes a lost result for a success.
    pub(crate) fn result(self, line: &str) -> Result<(), ApiError> {
        write_line(line).map_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                return ApiError::new(CLOSED, exit::OTHER, "nobody reads any more", "");
            }
            let message = format!("cannot write to standard output: {error}");
            ApiError::new("output", exit::OTHER, message, "")
        })
    }

    /// Writes lines of a result, of which there may be thousands, at once.
    ///
    /// # Errors
    /// As [`Self::result`].
    pub(crate) fn results(self, lines: impl Iterator<Item = String>) -> Result<(), ApiError> {
        let lines: Vec<String> = lines.collect();
        match lines.is_empty() {
            true => Ok(()),
            false => self.result(&lines.join("\n")),
        }
    }

    /// Writes an event as JSON.
    ///
    /// # Errors
    /// As [`Self::result`].
    pub(crate) fn event(self, event: &Event) -> Result<(), ApiError> {
        self.result(&event.to_json())
    }

    /// Writes an object of a type only this program has, as JSON. `object` holds its fields.
    ///
    /// # Errors
    /// As [`Self::result`].
    pub(crate) fn object(self, kind: &str, object: &serde_json::Value) -> Result<(), ApiError> {
        let mut line = serde_json::json!({ "v": EVENT_VERSION, "type": kind });
        if let (Some(line), Some(fields)) = (line.as_object_mut(), object.as_object()) {
            line.extend(fields.clone());
        }
        self.result(&line.to_string())
    }

    /// Tells the person something that is not a result.
    pub(crate) fn message(self, text: &str) {
        if !self.quiet {
            eprintln!("{}", printable(text));
        }
    }

    /// Tells what failed and what to do next.
    pub(crate) fn error(self, error: &ApiError) {
        if self.json {
            // When stdout is gone, the exit code is all that is left to say it with.
            let _ = write_line(&Event::from(error.clone()).to_json());
            return;
        }
        let code = &error.message_code;
        eprintln!("error[{code}]: {}", printable(&error.message));
        if !error.hint.is_empty() {
            eprintln!("hint: {}", printable(&error.hint));
        }
    }
}

fn write_line(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
