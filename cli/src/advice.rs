//! Advice with commands in it, as they can be typed here.
//!
//! Not here: what is advised (each place for itself, mostly in the daemon).

use std::{collections::BTreeSet, path::Path, sync::LazyLock};

use clap::CommandFactory;

use crate::{args::Args, home::quoted};

/// Names of the subcommands.
static COMMANDS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let args = Args::command();
    let names = args.get_subcommands().map(|it| it.get_name().to_owned());
    names.collect()
});

/// Advice with the number of the daemon in the place of `IDX`, and with `home`, the folder of its state, where that
/// was typed.
pub(crate) fn addressed(advice: &str, idx: u16, home: Option<&Path>) -> String {
    let mut addressed = Vec::new();
    let mut words = advice.split(' ').peekable();
    let mut is_quoted = false;
    while let Some(word) = words.next() {
        // What a name says is no command.
        is_quoted |= word.starts_with(['\'', '"']);
        if is_quoted {
            is_quoted = !word
                .trim_end_matches(['.', ',', ';', ':', ')'])
                .ends_with(['\'', '"']);
            addressed.push(word.to_owned());
            continue;
        }
        addressed.push(match word.strip_prefix("IDX") {
            Some(sign) if is_sign(sign) => format!("{idx}{sign}"),
            _ => word.to_owned(),
        });
        let is_program = word.trim_start_matches('(') == "client";
        let is_typed = is_program && words.peek().is_some_and(|next| is_command(next));
        if let Some(home) = home.filter(|_| is_typed) {
            addressed.push(format!("--home {}", quoted(home)));
        }
    }
    addressed.join(" ")
}

/// Whether this may follow a word directly.
fn is_sign(text: &str) -> bool {
    text.chars().all(|it| it.is_ascii_punctuation())
}

/// Whether a word is a subcommand, perhaps at the end of a sentence.
fn is_command(word: &str) -> bool {
    COMMANDS.contains(word.trim_end_matches(|it: char| it.is_ascii_punctuation()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_of_the_daemon_can_be_typed_here() {
        let advice = "See it (client list IDX), with the client of now: client resume NAME IDX.";
        assert_eq!(
            addressed(advice, 7, None),
            "See it (client list 7), with the client of now: client resume NAME 7."
        );
        assert_eq!(
            addressed(advice, 7, Some(Path::new("a b"))),
            "See it (client --home 'a b' list 7), with the client of now: \
             client --home 'a b' resume NAME 7."
        );
    }

    #[test]
    fn a_file_may_be_called_like_a_command() {
        let advice = "Type: client register '/a/client list IDX b' IDX; or client stop IDX.";
        assert_eq!(
            addressed(advice, 7, Some(Path::new("/h"))),
            "Type: client --home /h register '/a/client list IDX b' 7; or client --home /h stop 7."
        );
    }
}
