//! Writes the manual pages.
//!
//! Not here: what is in them, but for exit codes ([`crate::args`]).

use std::path::Path;

use clap::CommandFactory;
use warren_daemon::control::model::{ApiError, exit};
use warren_service::manual::write_pages;

use crate::args::Args;

/// What exit codes mean. They are a contract with scripts.
const EXIT_CODES: [(u8, &str); 11] = [
    (exit::OK, "All went well."),
    (exit::OTHER, "A failure none of the others names."),
    (exit::USAGE, "The command line, or a setting, is malformed."),
    (exit::DAEMON_NOT_RUNNING, "No daemon answers."),
    (exit::TRACKER_UNREACHABLE, "The tracker does not answer."),
    (exit::NO_SOURCE, "No peer has the content."),
    (exit::VERIFICATION_FAILED, "Bytes do not match their hash."),
    (exit::DISK, "The disk is full, or refuses."),
    (exit::REFUSED, "Refused on purpose."),
    (exit::NOT_FOUND, "There is no such file or share."),
    (exit::INTERRUPTED, "Interrupted."),
];

const FILES: &str = "\
.SH FILES
.TP
~/.config/warren/config.toml
What \\fBclient daemon\\fR is run with where its command line does not say. \\fBclient config\\fR shows
what holds and who said so; \\fBclient config \\-\\-template\\fR prints a file to begin with.
.TP
~/.local/state/warren/
Keys, the lists of shares, and sockets.
.SH ENVIRONMENT
Each option of \\fBclient daemon\\fR has a variable: \\fBWARREN_UP\\fR is \\fB\\-\\-up\\fR. It counts over the
file, and the command line over both. \\fBWARREN_CONFIG\\fR names another file.
";

/// Writes them into `folder`.
///
/// # Errors
/// When it cannot be written to.
pub(crate) fn write(folder: &Path) -> Result<(), ApiError> {
    write_pages(Args::command(), folder, &sections()).map_err(|error| {
        let message = format!("cannot write to {}: {error}", folder.display());
        ApiError::new("manual", exit::DISK, message, "Name a folder of yours.")
    })
}

fn sections() -> String {
    let codes = EXIT_CODES.map(|(code, meaning)| format!(".TP\n{code}\n{meaning}\n"));
    format!(".SH EXIT STATUS\n{}{FILES}", codes.concat())
}
