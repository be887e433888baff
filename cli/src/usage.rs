//! What is said of a command line that is none.
//!
//! Not here: what a command line is ([`crate::args`]).

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use warren_daemon::control::{
    messages,
    model::{ApiError, exit},
};

use crate::output::Output;

/// Word of the error.
const WORD: &str = "usage";

/// Ends on a command line that is not one, or that asks for help.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nothing can be said when the terminal is gone.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let arguments = std::env::args_os().map(|it| it.to_string_lossy().into_owned());
    let arguments: Vec<String> = arguments.collect();
    let advice = advice(error, &arguments);
    if arguments.iter().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let hint = advice.unwrap_or_else(|| "See client --help.".to_owned());
        let error = ApiError::new(WORD, exit::USAGE, message(&text), hint);
        Output::for_scripts().error(&error);
    } else {
        show(error, advice);
    }
    ExitCode::from(exit::USAGE)
}

/// What clap says, with the code of the message, and what we know beside it.
fn show(error: &clap::Error, advice: Option<String>) {
    use std::io::IsTerminal;

    let is_colourful = std::io::stderr().is_terminal() && crate::output::may_colour();
    let styled = error.render();
    let text = match is_colourful {
        true => styled.ansi().to_string(),
        false => styled.to_string(),
    };
    let code = messages::code_of(WORD);
    eprint!("{}", text.replacen("error:", &format!("error[{code}]:"), 1));
    if let Some(advice) = advice {
        eprintln!("hint: {advice}");
    }
}

/// The sentence and what it lists, on one line.
fn message(text: &str) -> String {
    let sentence = text.lines().take_while(|line| !line.trim().is_empty());
    let words: Vec<&str> = sentence.map(str::trim).collect();
    let message = words.join(" ");
    message
        .strip_prefix("error: ")
        .map_or(message.clone(), str::to_owned)
}

/// What was meant, where that can be told: the number of a daemon before what belongs there.
fn advice(error: &clap::Error, arguments: &[String]) -> Option<String> {
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidValue) else {
        return None;
    };
    let is_number = matches!(error.kind(), ErrorKind::ValueValidation)
        && matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(arg)) if arg.contains("IDX"));
    let at = arguments.iter().position(|argument| argument == wrong)?;
    let number = arguments.get(at.checked_sub(1)?)?;
    if !is_number || number.parse::<u16>().is_err() {
        return None;
    }
    let mut swapped = arguments.to_vec();
    swapped.swap(at - 1, at);
    swapped[0] = "client".to_owned();
    Some(format!("The number comes last: {}", swapped.join(" ")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Args;

    #[test]
    fn what_is_missing_is_in_the_sentence() {
        let error = Args::try_parse_from(["client", "register"]).unwrap_err();
        let message = message(&error.render().to_string());
        assert!(message.contains("not provided: <PATH>"), "{message}");
    }

    #[test]
    fn swapped_arguments_are_put_right() {
        let typed = ["client", "register", "1", "film.mkv", "--json"].map(str::to_owned);
        let error = Args::try_parse_from(&typed).unwrap_err();
        let advice = advice(&error, &typed).unwrap();
        assert!(
            advice.ends_with("client register film.mkv 1 --json"),
            "{advice}"
        );
        let typed = ["client", "register", "film.mkv", "one"].map(str::to_owned);
        let error = Args::try_parse_from(&typed).unwrap_err();
        assert_eq!(super::advice(&error, &typed), None);
    }
}
