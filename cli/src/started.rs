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
use warren_daemon::control::model::LimitRequest;
use warren_daemon::home::started_path;

use crate::args::values::written_rate;
use crate::home::quoted;

/// Variables that set something for a daemon begin so; those that begin as the second are the tracker's.
const PREFIX: &str = "WARREN_";
const OF_TRACKERS: &str = "WARREN_TRACKER_";

/// A command line, and where it was typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Started {
    /// The folder in which it was typed, from which its paths count.
    folder: PathBuf,
    /// What was set for it by variables.
    variables: BTreeMap<String, String>,
    /// What followed the name of the program.
    words: Vec<String>,
    /// Names of limits that the settings file gave: without a word of them it would give them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    from_file: Vec<String>,
}

impl Started {
    /// This process, whose limits are `limits` wherever they come from; `None` when something of it is not text.
    pub(crate) fn now(limits: &LimitRequest) -> Option<Started> {
        let text = |word: OsString| word.into_string().ok();
        let variables = env::vars_os().filter_map(|(name, value)| Some((text(name)?, value)));
        let variables = variables
            .filter(|(name, _)| name.starts_with(PREFIX) && !name.starts_with(OF_TRACKERS));
        let words = env::args_os().skip(1).map(text);
        let words: Option<Vec<String>> = words.collect();
        let mut started = Started {
            folder: env::current_dir().ok()?,
            variables: variables
                .map(|(name, value)| Some((name, text(value)?)))
                .collect::<Option<_>>()?,
            words: words?
                .into_iter()
                .filter(|word| !is_loudness(word))
                .collect(),
            from_file: Vec::new(),
        };
        let given = rates(limits).filter(|(name, rate)| rate.is_some() && !started.says(name));
        let given = given.map(|(name, _)| name.to_owned()).collect();
        started.from_file = given;
        Some(started)
    }

    /// The words that are kept, with the limits that were set since in the place of those of then. The daemon
    /// remembers what is set; but what is said when it starts goes before.
    fn limited(kept: &str, since: &LimitRequest) -> Option<String> {
        let mut started: Started = serde_json::from_str(kept).ok()?;
        for (name, rate) in rates(since) {
            if let Some(rate) = rate {
                started.limit(name, &written_rate(rate));
            }
        }
        let switches = [
            ("background", since.background),
            ("lan-unlimited", since.lan_unlimited),
        ];
        for (name, _) in switches.iter().filter(|(_, is_on)| *is_on == Some(false)) {
            started.variables.remove(&variable(name));
            started.words.retain(|word| *word != format!("--{name}"));
        }
        started.kept()
    }

    /// Says another value of an option than it did, if it did or the settings file does.
    fn limit(&mut self, name: &str, value: &str) {
        let is_in_file = self.from_file.iter().any(|it| it == name);
        if !is_in_file && !self.says(name) {
            return;
        }
        self.variables.remove(&variable(name));
        let (alone, joined) = (format!("--{name}"), format!("--{name}="));
        let mut words = std::mem::take(&mut self.words).into_iter();
        while let Some(word) = words.next() {
            if word == alone {
                words.next();
            } else if !word.starts_with(&joined) {
                self.words.push(word);
            }
        }
        self.words.extend([alone, value.to_owned()]);
    }

    /// Whether a word or a variable gives this option.
    fn says(&self, name: &str) -> bool {
        let (alone, joined) = (format!("--{name}"), format!("--{name}="));
        let is_it = |word: &String| *word == alone || word.starts_with(&joined);
        self.words.iter().any(is_it) || self.variables.contains_key(&variable(name))
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

    /// The same, and how it goes with limits that are set later.
    pub(crate) fn to_keep(&self) -> Option<warren_daemon::Started> {
        Some(warren_daemon::Started {
            words: self.kept()?,
            limited: Started::limited,
        })
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

/// The limits that have a value, by the names of their options.
fn rates(limits: &LimitRequest) -> impl Iterator<Item = (&'static str, Option<u64>)> {
    [
        ("up", limits.up_bits_per_s),
        ("down", limits.down_bits_per_s),
    ]
    .into_iter()
}

/// The variable of an option.
fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.replace('-', "_").to_uppercase())
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
            from_file: Vec::new(),
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

    #[test]
    fn limits_that_were_set_later_are_in_the_line_where_it_would_undo_them() {
        let set = |up, down, background| LimitRequest {
            up_bits_per_s: up,
            down_bits_per_s: down,
            background,
            ..LimitRequest::default()
        };
        let none = set(None, None, None);
        let both = set(Some(5_000_000), Some(0), Some(false));
        for (variables, words, from_file, since, expected) in [
            ("", "--up 20M", "", &none, "client daemon 2 t --up 20M"),
            ("", "--up 20M", "", &both, "client daemon 2 t --up 5M"),
            (
                "",
                "--down=20M --up 1M --watch w",
                "",
                &both,
                "client daemon 2 t --watch w --up 5M --down off",
            ),
            ("", "--background", "", &both, "client daemon 2 t"),
            // What the daemon remembers needs no word.
            ("", "", "", &both, "client daemon 2 t"),
            ("20M", "", "", &both, "client daemon 2 t --up 5M"),
            ("", "", "down", &both, "client daemon 2 t --down off"),
        ] {
            let words = format!("daemon 2 t {words}");
            let name = ("WARREN_UP".to_owned(), variables.to_owned());
            let started = Started {
                folder: "/".into(),
                variables: Some(name)
                    .filter(|(_, value)| !value.is_empty())
                    .into_iter()
                    .collect(),
                words: words.split_whitespace().map(str::to_owned).collect(),
                from_file: from_file.split_whitespace().map(str::to_owned).collect(),
            };
            let kept = Started::limited(&started.kept().unwrap(), since).unwrap();
            let kept: Started = serde_json::from_str(&kept).unwrap();
            assert_eq!(kept.line(Some(Path::new("/"))), expected);
            let twice = Started::limited(&kept.kept().unwrap(), since).unwrap();
            assert_eq!(serde_json::from_str::<Started>(&twice).unwrap(), kept);
        }
    }
}
