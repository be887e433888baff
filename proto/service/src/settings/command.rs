//! Lets what was found be the default of the command line's arguments.

use std::collections::BTreeSet;

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{Found, Kind, Settings};

impl Settings {
    /// A command line on which nothing of ours has to be said, and flags can be taken back with
    /// `--flag=false`. What is typed on it says which file to read.
    pub fn relax(&self, command: Command) -> Command {
        command.mut_args(|arg| match self.by_id(arg.get_id().as_str()) {
            Some(Kind::Flag) => retractable(arg),
            Some(_) => arg.required(false),
            None => arg,
        })
    }

    /// Gives arguments the values that were found. What was not found is required where it was.
    pub fn fill(&self, command: Command, found: &Found) -> Command {
        command.mut_args(|arg| {
            let arg = match self.by_id(arg.get_id().as_str()) {
                Some(Kind::Flag) => retractable(arg),
                _ => arg,
            };
            match found.get(arg.get_id().as_str()) {
                Some(given) => arg.required(false).default_values(given.values.clone()),
                None => arg,
            }
        })
    }

    /// Which of ours were typed, but for flags that were taken back.
    pub fn typed(&self, matches: &ArgMatches) -> BTreeSet<String> {
        let typed = self.0.iter().filter(|setting| {
            let is_there = matches.try_contains_id(&setting.id).unwrap_or(false);
            let is_off = setting.kind == Kind::Flag
                && matches.try_get_one::<bool>(&setting.id).ok().flatten() == Some(&false);
            is_there
                && matches.value_source(&setting.id) == Some(ValueSource::CommandLine)
                && !is_off
        });
        typed.map(|setting| setting.id.clone()).collect()
    }

    /// The same with what was typed, as it was typed.
    pub fn typed_texts(&self, matches: &ArgMatches) -> Vec<(String, Vec<String>)> {
        let is_typed = |id: &str| {
            matches.try_contains_id(id).unwrap_or(false)
                && matches.value_source(id) == Some(ValueSource::CommandLine)
        };
        let texts = |id: &str| {
            let raw = matches.get_raw(id).into_iter().flatten();
            raw.map(|text| text.to_string_lossy().into()).collect()
        };
        let typed = self.0.iter().filter(|setting| is_typed(&setting.id));
        typed
            .map(|setting| (setting.id.clone(), texts(&setting.id)))
            .collect()
    }

    fn by_id(&self, id: &str) -> Option<Kind> {
        let setting = self.0.iter().find(|setting| setting.id == id);
        setting.map(|setting| setting.kind)
    }
}

fn retractable(arg: Arg) -> Arg {
    arg.action(ArgAction::Set)
        .value_parser(BoolishValueParser::new())
        .value_name("true|false")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("false")
}
