//! Reads the command line, and what it does not say from the environment and the settings file.
//!
//! Not here: how settings are found and checked (`warren_service::settings`).

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use warren_service::settings::shown::{Shown, table};
use warren_service::settings::{File, Found, Settings, SettingsError};

use crate::Args;

/// What variables begin with, but for `WARREN_HOME`.
const PREFIX: &str = "WARREN_TRACKER_";

/// The variable that names the file, and where it is otherwise.
const FILE_VARIABLE: &str = "WARREN_TRACKER_CONFIG";
const FILE: &str = "/etc/warren/tracker.toml";

/// Arguments that say what to do and not how.
const EXEMPT: [&str; 5] = [
    "config",
    "show_config",
    "config_template",
    "man",
    "completions",
];

const TEMPLATE: &str = "\
What `tracker` is run with, unless its command line or the environment (WARREN_TRACKER_...) says
otherwise. Everything is commented out: remove the # of what you want to set, and start it anew.";

/// What the manual says of settings.
pub(crate) const MANUAL: &str = "\
.SH FILES
.TP
/etc/warren/tracker.toml
What it is run with where its command line does not say. \\fBtracker \\-\\-show\\-config\\fR shows what
holds and who said so; \\fBtracker \\-\\-config\\-template\\fR prints a file to begin with.
.SH ENVIRONMENT
Each option has a variable: \\fBWARREN_TRACKER_LISTEN\\fR is \\fB\\-\\-listen\\fR, with commas between
several. It counts over the file, and the command line over both. \\fBWARREN_TRACKER_CONFIG\\fR names
another file.
";

/// Why a command line is not carried out.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is none, or asks for help.
    Usage(clap::Error),
    /// What it does not say cannot be had.
    Settings(SettingsError),
}

impl From<clap::Error> for Refusal {
    fn from(error: clap::Error) -> Self {
        Refusal::Usage(error)
    }
}

impl From<SettingsError> for Refusal {
    fn from(error: SettingsError) -> Self {
        Refusal::Settings(error)
    }
}

/// Arguments that ask for what is the same whatever is set: they work where the settings are broken.
const UNSET: [&str; 3] = ["config_template", "man", "completions"];

/// Reads the command line, and says where everything comes from.
///
/// # Errors
///
/// When it is none, asks for help, or the settings are wrong.
pub(crate) fn parse(words: &[OsString]) -> Result<(Args, Vec<Shown>), Refusal> {
    let all = settings();
    let Ok(matches) = all.relax(Args::command()).try_get_matches_from(words) else {
        // In its own words.
        return Ok((clap::Parser::try_parse_from(words)?, Vec::new()));
    };
    let is_typed = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    if UNSET.iter().any(is_typed) {
        return Ok((Args::from_arg_matches(&matches)?, Vec::new()));
    }
    let file = read_file(&all, matches.get_one::<PathBuf>("config"))?;
    let variables = |name: &str| env::var_os(name);
    let typed = all.typed(&matches);
    let found = all.find(&typed, &variables, file.as_ref(), None)?;
    let shown = shown(&all, &matches, &found);
    let filled = all.fill(Args::command(), &found);
    let matches = filled.try_get_matches_from(words)?;
    Ok((Args::from_arg_matches(&matches)?, shown))
}

/// A file in which everything that can be set is commented out.
pub(crate) fn template() -> String {
    settings().template(TEMPLATE)
}

/// What is set, as lines of text or of JSON.
pub(crate) fn lines(shown: &[Shown], json: bool) -> String {
    if !json {
        return table(shown);
    }
    let line = |it: &Shown| {
        let mut line = serde_json::json!({ "v": 1, "type": "setting" });
        if let (Some(line), Some(fields)) = (line.as_object_mut(), it.to_json().as_object()) {
            line.extend(fields.clone());
        }
        format!("{line}\n")
    };
    shown.iter().map(line).collect()
}

/// Why the settings are refused, in one line, and what can be done.
pub(crate) fn explained(error: &SettingsError) -> (String, String) {
    let message = match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    (message, error.hint("tracker --config-template"))
}

fn settings() -> Settings {
    Settings::of(&Args::command(), PREFIX, &EXEMPT)
}

fn shown(all: &Settings, matches: &ArgMatches, found: &Found) -> Vec<Shown> {
    let typed = all.typed_texts(matches);
    all.shown(found, &typed)
}

fn read_file(all: &Settings, named: Option<&PathBuf>) -> Result<Option<File>, SettingsError> {
    let variable = env::var_os(FILE_VARIABLE).filter(|name| !name.is_empty());
    match named.cloned().or_else(|| variable.map(PathBuf::from)) {
        Some(path) => File::read(&path, all, None).map(Some),
        None => File::read_if_there(Path::new(FILE), all, None),
    }
}
