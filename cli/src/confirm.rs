//! Asks a person before something is deleted.

use std::io::{self, BufRead, IsTerminal, Write};

use warren_daemon::control::model::{ApiError, exit};
use warren_proto::content::path::printable;

/// Asks at the terminal whether to do `what`.
///
/// # Errors
/// When the answer is not yes, or there is no terminal to ask at.
pub(crate) fn confirm(what: &str) -> Result<(), ApiError> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let message = format!("nobody can be asked whether to {what}");
        let hint = "Say so in the command: --yes.";
        return Err(ApiError::new("not_confirmed", exit::USAGE, message, hint));
    }
    eprint!("{}? [y/N] ", printable(what));
    // Nothing is lost if the question is not seen: the answer is no then.
    let _ = io::stderr().flush();
    let mut answer = String::new();
    let _ = io::stdin().lock().read_line(&mut answer);
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(ApiError::new(
            "not_confirmed",
            exit::REFUSED,
            "nothing was deleted",
            "",
        )),
    }
}
