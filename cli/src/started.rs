//! How a daemon was started the last time, so that it can be started again in the same way.
//!
//! The daemon keeps it in its state folder once it runs. Not here: what it was started with means
//! ([`crate::args`]).

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};
use warren_daemon::home::started_path;

use crate::home::quoted;

/// Variables that set something for a daemon begin so.
const PREFIX: &str = "WARREN_";

/// A command line, and where it was typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Started {
    /// The folder in which it was typed, from which its paths count.
    folder: PathBuf,
    /// What was set for it by variables.
    variables: BTreeMap<String, String>,
    /// What followed the name of the program.
    words: Vec<String>,
}

impl Started {
    /// This process; `None` when something of it is not text.
    pub(crate) fn now() -> Option<Started> {
        let text = |word: OsString| word.into_string().ok();
        let variables = env::vars_os().filter_map(|(name, value)| Some((text(name)?, value)));
        let variables = variables.filter(|(name, _)| name.starts_with(PREFIX));
        let words = env::args_os().skip(1).map(text);
        let words: Option<Vec<String>> = words.collect();
        Some(Started {
            folder: env::current_dir().ok()?,
            variables: variables
                .map(|(name, value)| Some((name, text(value)?)))
                .collect::<Option<_>>()?,
            words: words?
                .into_iter()
                .filter(|word| !is_loudness(word))
                .collect(),
        })
    }

    /// The last start of daemon `idx` with its state below `home`, if it was kept.
    pub(crate) fn last(home: &Path, idx: u16) -> Option<Started> {
        let kept = fs::read(started_path(home, idx)).ok()?;
        serde_json::from_slice(&kept).ok()
    }

    /// What the daemon is to keep.
    pub(crate) fn kept(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// The line to type in the folder `here`.
    pub(crate) fn line(&self, here: Option<&Path>) -> String {
        let mut line = String::new();
        if here != Some(&self.folder) {
            line += &format!("cd {} && ", quoted(&self.folder));
        }
        for (name, value) in &self.variables {
            line += &format!("{name}={} ", quoted(Path::new(value)));
        }
        line += "client";
        for word in &self.words {
            line += &format!(" {}", quoted(Path::new(word)));
        }
        line
    }

    /// Has a process be started like this one was.
    pub(crate) fn applied_to(&self, command: &mut Command) {
        command.args(&self.words).envs(&self.variables);
        command.current_dir(&self.folder);
    }
}

/// Whether a word says how much is told to who starts a daemon: the next one may want it otherwise.
fn is_loudness(word: &str) -> bool {
    let short = word.strip_prefix("-v");
    let is_short = short.is_some_and(|more| more.chars().all(|letter| letter == 'v'));
    is_short || ["--verbose", "--quiet", "-q"].contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_starts_it_in_its_folder_with_all_that_it_was_given() {
        let words = ["daemon", "2", "t:59000#k", "--downloads", "my films"];
        let started = Started {
            folder: "/home/ann".into(),
            variables: BTreeMap::from([("WARREN_UP".into(), "20M".into())]),
            words: words.map(str::to_owned).into(),
        };
        let line = "WARREN_UP=20M client daemon 2 t:59000#k --downloads 'my films'";
        assert_eq!(started.line(Some(Path::new("/home/ann"))), line);
        let elsewhere = started.line(Some(Path::new("/tmp")));
        assert_eq!(elsewhere, format!("cd /home/ann && {line}"));
        for (word, is_one) in [("-vv", true), ("-q", true), ("--up", false), ("-vx", false)] {
            assert_eq!(is_loudness(word), is_one, "{word}");
        }
        let kept = started.kept().unwrap();
        assert_eq!(serde_json::from_str::<Started>(&kept).unwrap(), started);
    }
}
