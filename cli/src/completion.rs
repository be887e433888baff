//! Completes what is typed in a shell: options and subcommands by a script, and by asking daemons
//! the names of their shares.
//!
//! A script of [`Kind::Live`] calls this program at each press of the key with [`VARIABLE`] set,
//! which [`answer`] sees before anything else is done. Daemons have [`PATIENCE`] in all, so that
//! nobody waits for one that hangs.
//!
//! Not here: what can be typed ([`crate::args`]).

use std::{
    collections::BTreeSet,
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Command, CommandFactory, builder::StyledStr};
use clap_complete::{
    CompleteEnv, Shell,
    engine::{ArgValueCompleter, CompletionCandidate},
    env::Shells,
};
use tokio::task::JoinSet;
use warren_daemon::{
    control::model::{ApiError, Share, exit},
    home::socket_path,
};
use warren_service::manual;

use crate::{args::Args, control::Daemon, home, output::Output, settings, text};

/// Set by scripts that ask us what could follow.
const VARIABLE: &str = "WARREN_COMPLETE";

/// How long all daemons together may take to tell their shares.
const PATIENCE: Duration = Duration::from_millis(40);

/// Fewest digits of a content id that are completed.
const ID_DIGITS: usize = 4;

/// What a script can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It knows options and subcommands, and asks nobody.
    Static,
    /// It asks this program each time.
    Live,
}

/// Answers a shell, if it is one that asks, and ends the program then.
pub(crate) fn answer() {
    CompleteEnv::with_factory(command).var(VARIABLE).complete();
}

/// Prints a script.
///
/// # Errors
/// When the shell is not one of those, or stdout is closed.
pub(crate) fn print(shell: Shell, kind: Kind, output: Output) -> Result<(), ApiError> {
    let script = match kind {
        Kind::Static => manual::completions(shell, Args::command()),
        Kind::Live => live(shell).ok_or_else(|| {
            let message = format!("there is no live completion for {shell}");
            ApiError::new("shell", exit::USAGE, message, "Leave out --live.")
        })?,
    };
    output.result(String::from_utf8_lossy(&script).trim_end())
}

fn live(shell: Shell) -> Option<Vec<u8>> {
    let shells = Shells::builtins();
    let shell = shells.completer(&shell.to_string())?;
    let (name, mut script) = ("client", Vec::new());
    let written = shell.write_registration(VARIABLE, name, name, name, &mut script);
    written.ok().map(|()| script)
}

/// The command line, whose shares and numbers of daemons know what they could be.
fn command() -> Command {
    Args::command().mut_subcommands(|subcommand| {
        subcommand.mut_args(|arg| match arg.get_id().as_str() {
            "share" => arg.add(ArgValueCompleter::new(shares)),
            "idx" => arg.add(ArgValueCompleter::new(numbers)),
            _ => arg,
        })
    })
}

/// Numbers of daemons that have been started here.
fn numbers(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let numbers = folder().map(|folder| daemons(&folder)).unwrap_or_default();
    let numbers = numbers.iter().map(u16::to_string);
    let numbers = numbers.filter(|number| number.starts_with(&*current));
    numbers.map(CompletionCandidate::new).collect()
}

/// Names and content ids of shares.
fn shares(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let shares = folder().map(|folder| ask_all(&folder, &current));
    let shares = shares.unwrap_or_default();
    each_once(shares.iter().filter_map(|share| word(share, &current)))
}

/// Several daemons may have the same share, or shares of the same name.
fn each_once(words: impl Iterator<Item = CompletionCandidate>) -> Vec<CompletionCandidate> {
    let mut seen = BTreeSet::new();
    words
        .filter(|word| seen.insert(word.get_value().to_owned()))
        .collect()
}

/// How a share is named that begins with `current`: by its name where that needs no quotes, or else
/// by the beginning of its content id.
fn word(share: &Share, current: &str) -> Option<CompletionCandidate> {
    let is_plain = |c: char| c.is_alphanumeric() || "._-+,@%".contains(c);
    let is_plain =
        !share.name.is_empty() && !share.name.starts_with('-') && share.name.chars().all(is_plain);
    let id = text::short_id(&share.content_id);
    let is_id = current.len() >= ID_DIGITS && share.content_id.starts_with(current);
    let (value, help) = match is_plain && share.name.starts_with(current) {
        true => (share.name.clone(), share.state_words()),
        false if is_id => (share.content_id.clone(), share.name.clone()),
        false if !is_plain && id.starts_with(current) => (id, share.name.clone()),
        false => return None,
    };
    let help = Some(help).filter(|help| !help.is_empty());
    let help = help.map(|help| StyledStr::from(warren_proto::content::path::printable(&help)));
    Some(CompletionCandidate::new(value).help(help))
}

/// The state folder: what was typed before, or what is set.
fn folder() -> Option<PathBuf> {
    let words: Vec<_> = env::args_os().skip_while(|word| word != "--").collect();
    let home = typed_home(&words).or_else(settings::home);
    home::folder(home.as_deref()).ok()
}

fn typed_home(words: &[OsString]) -> Option<PathBuf> {
    let at = words.iter().position(|word| word == "--home")?;
    words.get(at + 1).map(PathBuf::from)
}

fn daemons(home: &Path) -> Vec<u16> {
    let entries = fs::read_dir(home).into_iter().flatten().flatten();
    let number = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_prefix("daemon-")?.parse().ok()
    };
    let mut numbers: Vec<u16> = entries.filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn ask_all(home: &Path, beginning: &str) -> Vec<Share> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let Ok(runtime) = { runtime }.enable_all().build() else {
        return Vec::new();
    };
    let mut shares = Vec::new();
    let asking = async {
        let asked = daemons(home).into_iter();
        let asked = asked.map(|idx| ask(home.to_owned(), idx, beginning.to_owned()));
        let mut asked: JoinSet<_> = asked.collect();
        while let Some(answered) = asked.join_next().await {
            shares.extend(answered.unwrap_or_default());
        }
    };
    // What has come until then is what there is.
    let _ = runtime.block_on(async { tokio::time::timeout(PATIENCE, asking).await });
    shares
}

async fn ask(home: PathBuf, idx: u16, beginning: String) -> Vec<Share> {
    let Ok(socket) = socket_path(&home, idx) else {
        return Vec::new();
    };
    let daemon = Daemon {
        idx,
        socket,
        home: None,
        tracker: None,
    };
    daemon.shares(&beginning).await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_named_by_its_name_or_by_its_id() {
        let id = "9f64a747e1b97f131fabb6b447296c9b6f0201e79fb3c5356e6c77e89b6a806a";
        for (name, current, expected) in [
            ("film.mkv", "", Some("film.mkv")),
            ("film.mkv", "fi", Some("film.mkv")),
            ("film.mkv", "9f", None),
            ("film.mkv", "9f64", Some(id)),
            ("film.mkv", "x", None),
            ("my film.mkv", "", Some(&id[..12])),
            ("my film.mkv", "my", None),
            ("$(reboot)", "", Some(&id[..12])),
            ("-rf", "", Some(&id[..12])),
            ("", "9f", Some(&id[..12])),
        ] {
            let share = share(name, id);
            let word = word(&share, current).map(|it| it.get_value().to_owned());
            assert_eq!(word, expected.map(Into::into), "{name} {current}");
        }
    }

    #[test]
    fn what_several_daemons_have_is_offered_once() {
        let shares = [
            share("film.mkv", "0123456789abcdef"),
            share("film.mkv", "fedcba9876543210"),
            share("photos", "0123456789abcdef"),
        ];
        let words = each_once(shares.iter().filter_map(|it| word(it, "")));
        let words: Vec<_> = words.iter().map(CompletionCandidate::get_value).collect();
        assert_eq!(words, ["film.mkv", "photos"]);
    }

    #[test]
    fn numbers_are_those_of_folders_there_are() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["daemon-2", "daemon-10", "daemon-x", "tracker"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(daemons(folder.path()), [2, 10]);
        assert!(daemons(&folder.path().join("missing")).is_empty());
    }

    fn share(name: &str, id: &str) -> Share {
        let json = serde_json::json!({
            "content_id": id, "name": name, "bytes": 1, "verified_bytes": 1, "state": "seeding",
        });
        serde_json::from_value(json).unwrap()
    }
}
