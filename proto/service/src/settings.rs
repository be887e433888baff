//! Takes from the environment and from a file what the command line does not say.
//!
//! What can be set is said once, by the command line: [`Settings::of`] reads a [`Command`]'s
//! arguments and gives each a key in the file and a variable, both named after it, so `--no-relay`
//! is `no-relay = true` and `WARREN_NO_RELAY=1`. What was found becomes the default of its argument
//! ([`command`]), so that one parser reads them all, and the command line has the last word.
//!
//! Not here: reading the file ([`file`]), showing what came of it ([`shown`]).

pub mod command;
pub mod file;
pub mod shown;

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, Command};

pub use file::File;

/// From here on two names are too unlike for one to be a mistyped other (Jaro-Winkler, 0 to 1).
const ALIKE: f64 = 0.75;

/// What kind of value something has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// True or false.
    Flag,
    /// A whole number.
    Number,
    /// A path.
    Path,
    /// Any number of texts.
    List,
    /// A text.
    Text,
}

/// One thing that can be set.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The argument's name in the parser.
    id: String,
    key: String,
    variable: String,
    kind: Kind,
    parser: ValueParser,
    help: String,
    /// What stands for its value in help.
    placeholder: String,
    defaults: Vec<String>,
    /// What it cannot be combined with, by [`id`](Self::id).
    conflicts: Vec<String>,
}

/// All that can be set of one program.
#[derive(Clone, Debug, Default)]
pub struct Settings(Vec<Setting>);

/// Who said something, the weakest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody.
    Default,
    /// A file.
    File {
        /// Which.
        path: PathBuf,
        /// Where in it, from 1 on.
        line: usize,
    },
    /// The environment, by this variable.
    Variable(String),
    /// The command line.
    CommandLine,
}

impl Origin {
    fn rank(&self) -> u8 {
        match self {
            Origin::Default => 0,
            Origin::File { .. } => 1,
            Origin::Variable(_) => 2,
            Origin::CommandLine => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Variable(name) => f.write_str(name),
            Origin::CommandLine => f.write_str("command line"),
        }
    }
}

/// A value that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// As the command line would say it; more than one of a list only.
    pub values: Vec<OsString>,
    /// Who said it.
    pub origin: Origin,
}

/// What was found, by the names of arguments.
pub type Found = BTreeMap<String, Given>;

/// Why settings cannot be used. Each names the place.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings in {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What is wrong.
        message: String,
    },
    /// Nothing is called so.
    #[error("{origin}: there is no setting `{key}`")]
    Unknown {
        /// Where.
        origin: Origin,
        /// What was written.
        key: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// Its value is of another kind.
    #[error("{origin}: `{key}` is to be {expected}, not {found}")]
    WrongKind {
        /// Where.
        origin: Origin,
        /// Of what.
        key: String,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// Its value is refused.
    #[error("{origin}: `{key}` cannot be {value:?}: {message}")]
    Invalid {
        /// Where.
        origin: Origin,
        /// Of what.
        key: String,
        /// What is there.
        value: String,
        /// What belongs there.
        message: String,
    },
    /// Two exclude each other.
    #[error("{origin}: `{key}` cannot be combined with `{other}` ({other_origin})")]
    Conflict {
        /// Where.
        origin: Origin,
        /// The first.
        key: String,
        /// The second.
        other: String,
        /// Where that is.
        other_origin: Origin,
    },
}

impl SettingsError {
    /// What the person can do, in one sentence; `list` is the command that shows all settings.
    pub fn hint(&self, list: &str) -> String {
        match self {
            Self::Unreadable { .. } => {
                "Name a file that you may read with --config, or remove it.".to_owned()
            }
            Self::Unknown {
                nearest: Some(nearest),
                ..
            } => format!("Did you mean `{nearest}`? All that can be set: {list}"),
            Self::Unknown { nearest: None, .. } => format!("All that can be set: {list}"),
            Self::Syntax { .. } => {
                "Each line is `name = value`, with texts in double quotes (TOML).".to_owned()
            }
            Self::WrongKind { .. } | Self::Invalid { .. } => "Correct that value.".to_owned(),
            Self::Conflict { .. } => "Keep one of the two.".to_owned(),
        }
    }
}

impl Settings {
    /// All arguments of `command` but those in `exempt`; variables begin with `prefix`.
    pub fn of(command: &Command, prefix: &str, exempt: &[&str]) -> Settings {
        let args = command.get_arguments();
        let args = args.filter(|arg| !exempt.contains(&arg.get_id().as_str()));
        Settings(
            args.map(|arg| Setting::of(command, arg, prefix, exempt))
                .collect(),
        )
    }

    /// These and those of `others`.
    pub fn and(mut self, others: Settings) -> Settings {
        self.0.extend(others.0);
        self
    }

    /// The one that a file calls so.
    fn by_key(&self, key: &str) -> Option<&Setting> {
        self.0.iter().find(|setting| setting.key == key)
    }

    /// What may have been meant.
    fn nearest(&self, key: &str) -> Option<String> {
        nearest(key, self.0.iter().map(|setting| setting.key.as_str()))
    }

    /// What the environment and the file say where the command line says nothing.
    ///
    /// `typed` are the arguments that were given there and are not switched off. What contradicts
    /// a stronger word is left out; `section` of the file counts over the rest of it.
    ///
    /// # Errors
    ///
    /// When a variable has a value that means nothing, or two of the same weight exclude each other.
    pub fn find(
        &self,
        typed: &BTreeSet<String>,
        variables: &dyn Fn(&str) -> Option<OsString>,
        file: Option<&File>,
        section: Option<&str>,
    ) -> Result<Found, SettingsError> {
        let mut found = Found::new();
        for setting in &self.0 {
            let variable = variables(&setting.variable).filter(|value| !value.is_empty());
            let given = match variable {
                Some(value) => Some(setting.given_by(value)?),
                None => file.and_then(|file| file.given(&setting.id, section)),
            };
            if let Some(given) = given {
                found.insert(setting.id.clone(), given);
            }
        }
        self.drop_contradicted(&mut found, typed)?;
        Ok(found)
    }

    /// Of two that exclude each other the stronger one stays.
    fn drop_contradicted(
        &self,
        found: &mut Found,
        typed: &BTreeSet<String>,
    ) -> Result<(), SettingsError> {
        for (setting, other) in self.excluding() {
            let (Some(ours), Some(theirs)) = (setting.said(found, typed), other.said(found, typed))
            else {
                continue;
            };
            match ours.rank().cmp(&theirs.rank()) {
                std::cmp::Ordering::Less => drop(found.remove(&setting.id)),
                std::cmp::Ordering::Greater => drop(found.remove(&other.id)),
                // The parser says what it thinks of that.
                std::cmp::Ordering::Equal if ours == Origin::CommandLine => (),
                std::cmp::Ordering::Equal => {
                    return Err(SettingsError::Conflict {
                        origin: ours,
                        key: setting.key.clone(),
                        other: other.key.clone(),
                        other_origin: theirs,
                    });
                }
            }
        }
        Ok(())
    }

    /// Pairs that exclude each other.
    fn excluding(&self) -> impl Iterator<Item = (&Setting, &Setting)> {
        self.0.iter().flat_map(|setting| {
            let others = self.0.iter();
            let others = others.filter(|other| setting.conflicts.contains(&other.id));
            others.map(move |other| (setting, other))
        })
    }
}

impl Setting {
    fn of(command: &Command, arg: &Arg, prefix: &str, exempt: &[&str]) -> Setting {
        let id = arg.get_id().to_string();
        let key = arg.get_long().unwrap_or(&id).to_owned();
        let name = key.to_ascii_uppercase().replace('-', "_");
        let conflicts = command.get_arg_conflicts_with(arg).into_iter();
        let conflicts = conflicts.map(|other| other.get_id().as_str());
        let kind = kind_of(arg);
        let placeholder = arg.get_value_names().unwrap_or_default().iter();
        let defaults = arg.get_default_values().iter();
        Setting {
            // Shared by both programs.
            variable: match key.as_str() {
                "home" => "WARREN_HOME".to_owned(),
                _ => format!("{prefix}{name}"),
            },
            kind,
            parser: match kind {
                Kind::Flag => BoolishValueParser::new().into(),
                _ => arg.get_value_parser().clone(),
            },
            help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
            placeholder: placeholder.map(|name| name.as_str()).collect(),
            defaults: defaults
                .map(|value| value.to_string_lossy().into())
                .collect(),
            conflicts: conflicts
                .filter(|id| !exempt.contains(id))
                .map(ToOwned::to_owned)
                .collect(),
            id,
            key,
        }
    }

    fn given_by(&self, value: OsString) -> Result<Given, SettingsError> {
        let origin = Origin::Variable(self.variable.clone());
        let values = match self.kind {
            Kind::List => split(&value),
            _ => vec![value],
        };
        for value in &values {
            self.check(value, &origin)?;
        }
        Ok(Given { values, origin })
    }

    /// Whether the parser of the command line takes this value.
    fn check(&self, value: &OsStr, origin: &Origin) -> Result<(), SettingsError> {
        let arg = Arg::new("value")
            .long("value")
            .require_equals(true)
            .allow_hyphen_values(true)
            .action(ArgAction::Set)
            .value_parser(self.parser.clone());
        let mut word = OsString::from("--value=");
        word.push(value);
        let command = Command::new("value").no_binary_name(true).arg(arg);
        match command.try_get_matches_from([word]) {
            Ok(_) => Ok(()),
            Err(error) => Err(SettingsError::Invalid {
                origin: origin.clone(),
                key: self.key.clone(),
                value: value.to_string_lossy().into(),
                message: match (self.kind, error.source()) {
                    (Kind::Flag, _) | (_, None) => format!("expected {}", self.kind.expected()),
                    (_, Some(cause)) => cause.to_string(),
                },
            }),
        }
    }

    /// Who says so, unless it is what it would be anyway, which contradicts nothing.
    fn said(&self, found: &Found, typed: &BTreeSet<String>) -> Option<Origin> {
        if typed.contains(&self.id) {
            return Some(Origin::CommandLine);
        }
        let given = found.get(&self.id)?;
        let idle = match self.kind {
            Kind::Flag => !is_true(&given.values),
            _ => given.values.iter().eq(self.defaults.iter().map(OsStr::new)),
        };
        (!idle).then(|| given.origin.clone())
    }
}

impl Kind {
    /// What belongs there, in a file.
    fn expected(self) -> &'static str {
        match self {
            Kind::Flag => "true or false",
            Kind::Number => "a whole number",
            Kind::Path => "a path in double quotes",
            Kind::List => "a list of texts, such as [\"one\", \"two\"]",
            Kind::Text => "a text in double quotes",
        }
    }
}

/// What `key` may have been meant to be.
fn nearest<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let alike = names.map(|name| (strsim::jaro_winkler(key, name), name));
    let alike = alike.filter(|(alike, _)| *alike >= ALIKE);
    let best = alike.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.map(|(_, name)| name.to_owned())
}

fn kind_of(arg: &Arg) -> Kind {
    let is = |id: TypeId| arg.get_value_parser().type_id() == id;
    match arg.get_action() {
        ArgAction::SetTrue => Kind::Flag,
        ArgAction::Append => Kind::List,
        _ if is(TypeId::of::<PathBuf>()) => Kind::Path,
        _ if is(TypeId::of::<u16>()) || is(TypeId::of::<u32>()) || is(TypeId::of::<u64>()) => {
            Kind::Number
        }
        _ => Kind::Text,
    }
}

/// Whether a flag is set, in any of the words that the command line takes for it.
fn is_true(values: &[OsString]) -> bool {
    let parsed = |value| BoolishValueParser::new().parse_ref(&Command::new("flag"), None, value);
    let first = values.first().map(OsString::as_os_str);
    first.is_some_and(|value| parsed(value).unwrap_or(false))
}

/// A list as a variable has it, with commas.
fn split(value: &OsStr) -> Vec<OsString> {
    let text = value.to_string_lossy();
    text.split(',').map(|part| part.trim().into()).collect()
}

#[cfg(test)]
mod tests;
