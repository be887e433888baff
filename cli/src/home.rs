//! Which folder holds all state, and how to type the line that starts a daemon there.
//!
//! Not here: what lies in the folder (`warren-daemon`).

use std::{
    env, io,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy;
use warren_daemon::control::model::{ApiError, exit};
use warren_proto::content::address::TrackerAddress;

use crate::started::Started;

/// Says where the state is, unless the command line does.
pub(crate) const VARIABLE: &str = "WARREN_HOME";

/// The state folder as an absolute path: `--home`, else `$WARREN_HOME`, else the XDG state folder.
///
/// # Errors
/// When none of them is known, or the working directory is gone.
pub(crate) fn folder(flag: Option<&Path>) -> Result<PathBuf, ApiError> {
    let chosen = match (flag, env::var_os(VARIABLE)) {
        (Some(flag), _) => flag.to_path_buf(),
        (None, Some(folder)) if !folder.is_empty() => PathBuf::from(folder),
        (None, _) => xdg_folder()?,
    };
    std::path::absolute(&chosen).map_err(no_working_folder)
}

/// Error for a working directory that cannot be read, such as one that was deleted.
pub(crate) fn no_working_folder(error: io::Error) -> ApiError {
    ApiError::new(
        "no_working_folder",
        exit::OTHER,
        format!("cannot tell the current folder: {error}"),
        "Change to a folder that exists, or use absolute paths.",
    )
}

fn xdg_folder() -> Result<PathBuf, ApiError> {
    etcetera::base_strategy::Xdg::new()
        .ok()
        .and_then(|xdg| xdg.state_dir())
        .map(|state| state.join("warren"))
        .ok_or_else(|| {
            let hint = "Name one with --home DIR or set WARREN_HOME.";
            ApiError::new("no_home", exit::USAGE, "there is no folder for state", hint)
        })
}

/// The line that starts daemon `idx`: as it was started the last time, else with the tracker if we know which
/// one is wanted. `home` is `--home` as it was typed; `$WARREN_HOME` needs no repeating.
pub(crate) fn start_line(
    home: Option<&Path>,
    idx: u16,
    tracker: Option<&TrackerAddress>,
) -> String {
    let last = folder(home).ok().and_then(|home| Started::last(&home, idx));
    match last {
        Some(started) => started.line(env::current_dir().ok().as_deref()),
        None => first_line(home, idx, tracker),
    }
}

fn first_line(home: Option<&Path>, idx: u16, tracker: Option<&TrackerAddress>) -> String {
    let home = home.map_or(String::new(), |home| format!("--home {} ", quoted(home)));
    let tracker = tracker.map_or("TRACKER:PORT".to_owned(), TrackerAddress::to_string);
    format!("client {home}daemon {idx} {tracker}")
}

/// A path as a shell reads it back.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    // A # begins a comment only where a word begins.
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=#".contains(c);
    if !text.is_empty() && !text.starts_with('#') && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_line_can_be_typed() {
        let pin = warren_proto::id::TrackerPin([0; 16]);
        let tracker: TrackerAddress = format!("203.0.113.7:59000#{pin}").parse().unwrap();
        assert_eq!(first_line(None, 1, None), "client daemon 1 TRACKER:PORT");
        assert_eq!(
            first_line(Some(Path::new("/a b/it's")), 2, Some(&tracker)),
            format!(r"client --home '/a b/it'\''s' daemon 2 {tracker}")
        );
    }

    #[test]
    fn the_flag_wins_and_becomes_absolute() {
        assert_eq!(folder(Some(Path::new("/h"))).unwrap(), Path::new("/h"));
        assert!(folder(Some(Path::new("h"))).unwrap().is_absolute());
    }
}
