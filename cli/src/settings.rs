//! Reads the command line, and what it does not say from the environment and the settings file.
//!
//! What `client daemon` takes can be set, and the folder of all state, which every command needs.
//!
//! Not here: how settings are found and checked (`warren_service::settings`).

use std::{collections::BTreeSet, env, error::Error, ffi::OsString, path::PathBuf};

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use etcetera::BaseStrategy;
use warren_daemon::control::model::{ApiError, exit};
use warren_service::settings::{
    File, Found, Origin, Settings, SettingsError,
    file::Sections,
    shown::{Shown, table},
};

use crate::{
    args::{Args, ConfigArgs},
    output::Output,
};

/// What variables begin with.
const PREFIX: &str = "WARREN_";

/// The variable that names the file.
const FILE_VARIABLE: &str = "WARREN_CONFIG";

/// The subcommand whose arguments can be set.
const DAEMON: &str = "daemon";

/// Subcommands that need no state folder, and work where settings are broken.
const WITHOUT: [&str; 5] = ["inspect", "explain", "config", "completions", "man"];

/// Arguments of every subcommand that say how to talk, or which file is meant.
const EXEMPT: [&str; 3] = ["config", "quiet", "verbose"];

/// What is said for all daemons, or for one.
const SECTIONS: Sections = Sections {
    word: DAEMON,
    is_name: |name| name.parse::<u16>().is_ok(),
    expected: "the number of a daemon, 0 to 65535",
};

const TEMPLATE: &str = "\
What `client daemon` is run with, unless its command line or the environment (WARREN_...) says
otherwise. Everything is commented out: remove the # of what you want to set.
For one daemon alone, put settings at the end, under its number: [daemon.2]";

/// Why a command line is not carried out.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is none, or asks for help.
    Usage(clap::Error),
    /// What it does not say cannot be had.
    Settings(ApiError),
}

impl From<clap::Error> for Refusal {
    fn from(error: clap::Error) -> Self {
        Refusal::Usage(error)
    }
}

/// Reads the command line.
///
/// # Errors
/// When it is none, asks for help, or the settings are wrong.
pub(crate) fn parse(words: &[OsString]) -> Result<Args, Refusal> {
    let all = settings();
    let relaxed = with_daemon(Args::command(), |daemon| all.relax(daemon));
    let Ok(matches) = relaxed.try_get_matches_from(words) else {
        // In its own words.
        return Ok(Args::try_parse_from(words)?);
    };
    let Some((name, typed)) = matches.subcommand() else {
        return Ok(Args::try_parse_from(words)?);
    };
    if WITHOUT.contains(&name) {
        return Ok(Args::try_parse_from(words)?);
    }
    let typed_ids = match name {
        DAEMON => all.typed(typed),
        _ => typed_home(&matches),
    };
    let idx = typed.try_get_one::<u16>("idx").ok().flatten().copied();
    let named = matches.get_one::<PathBuf>("config");
    let found = find(&all, named, &typed_ids, idx).map_err(Refusal::Settings)?;
    let filled = with_daemon(Args::command(), |daemon| all.fill(daemon, &found));
    let filled = match found.get("home") {
        // What is in the environment needs no repeating in what the person is told to type.
        Some(home) if !matches!(home.origin, Origin::Variable(_)) => {
            let values = home.values.clone();
            filled.mut_arg("home", |arg| arg.default_values(values))
        }
        _ => filled,
    };
    Ok(Args::from_arg_matches(
        &filled.try_get_matches_from(words)?,
    )?)
}

/// Shows what holds for one daemon, or for all of them.
///
/// # Errors
/// When the settings are wrong, or stdout is closed.
pub(crate) fn show(
    config: Option<&PathBuf>,
    asked: &ConfigArgs,
    home: Option<&PathBuf>,
    output: Output,
) -> Result<(), ApiError> {
    let all = settings();
    if asked.template {
        return output.result(all.template(TEMPLATE).trim_end());
    }
    let typed = home.map(|home| ("home".to_owned(), vec![home.display().to_string()]));
    let typed: Vec<_> = typed.into_iter().collect();
    let ids = typed.iter().map(|(id, _)| id.clone()).collect();
    let found = find(&all, config, &ids, asked.idx)?;
    let shown = all.shown(&found, &typed);
    if output.json() {
        return shown.iter().try_for_each(|it| as_object(it, output));
    }
    let daemon = asked.idx.map(|idx| format!("daemon {idx}"));
    let daemon = daemon.as_deref().unwrap_or("a daemon");
    output.message(&format!(
        "what {daemon} is started with where its command line says nothing else; one that runs may have been started \
         otherwise"
    ));
    output.result(table(&shown).trim_end())
}

fn as_object(shown: &Shown, output: Output) -> Result<(), ApiError> {
    output.object("setting", &shown.to_json())
}

/// The state folder that a file names.
pub(crate) fn home() -> Option<PathBuf> {
    let found = find(&settings(), None, &BTreeSet::new(), None).ok()?;
    let home = found.get("home")?;
    let is_variable = matches!(home.origin, Origin::Variable(_));
    let home = home.values.first().filter(|_| !is_variable)?;
    Some(home.into())
}

/// All that can be set.
pub(crate) fn settings() -> Settings {
    let client = Args::command();
    let daemon = client.find_subcommand(DAEMON);
    let daemon = daemon.map(|daemon| Settings::of(daemon, PREFIX, &["idx"]));
    let home = Settings::of(&client, PREFIX, &EXEMPT);
    daemon.unwrap_or_default().and(home)
}

fn with_daemon(
    client: clap::Command,
    change: impl FnOnce(clap::Command) -> clap::Command,
) -> clap::Command {
    client.mut_subcommand(DAEMON, change)
}

fn typed_home(matches: &ArgMatches) -> BTreeSet<String> {
    let is_typed = matches.get_one::<PathBuf>("home").is_some();
    is_typed.then(|| "home".to_owned()).into_iter().collect()
}

fn find(
    all: &Settings,
    named: Option<&PathBuf>,
    typed: &BTreeSet<String>,
    idx: Option<u16>,
) -> Result<Found, ApiError> {
    let section = idx.map(|idx| idx.to_string());
    let found = || {
        let file = read_file(all, named)?;
        let variables = |name: &str| env::var_os(name);
        all.find(typed, &variables, file.as_ref(), section.as_deref())
    };
    found().map_err(|error| explained(&error))
}

/// The file that is named, or the usual one where it is there.
fn read_file(all: &Settings, named: Option<&PathBuf>) -> Result<Option<File>, SettingsError> {
    let named = named.cloned().or_else(|| {
        let named = env::var_os(FILE_VARIABLE).filter(|name| !name.is_empty());
        named.map(PathBuf::from)
    });
    if let Some(path) = named {
        return File::read(&path, all, Some(SECTIONS)).map(Some);
    }
    let folders = etcetera::base_strategy::Xdg::new();
    match folders.map(|folders| folders.config_dir().join("warren/config.toml")) {
        Ok(path) => File::read_if_there(&path, all, Some(SECTIONS)),
        Err(_) => Ok(None),
    }
}

fn explained(error: &SettingsError) -> ApiError {
    let message = match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    let hint = error.hint("client config --template");
    ApiError::new("settings", exit::USAGE, message, hint)
}
