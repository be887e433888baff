//! Codes: a number and two words, such as `7-film-alibi`, that one person says and another types in place
//! of a link.
//!
//! The number ([`Nameplate`]) is that of a place at a tracker, where the two daemons find each other. The
//! words never travel: they are the password of SPAKE2 ([`exchange`]), of which each run lets whoever runs
//! it try one guess and no more, the tracker included. What comes out is the link, sealed.
//!
//! [`words`] is the list of words, [`exchange`] what the two sides say to each other, [`given`] what the
//! sharer's daemon decides (how many wrong guesses, how long, once), [`nameplates`] what the tracker does.
//!
//! Not here: messages ([`crate::wire::code`]), links ([`crate::content::link`]).

mod ending;
pub mod exchange;
pub mod given;
pub mod nameplates;
pub mod words;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use ending::{Closed, Ended};
pub use exchange::{Body, ExchangeError};
pub use given::{EXCHANGE_TIME, GUESSES, GivenCode, Receivers, Reply};
pub use nameplates::{CodeMail, Nameplates};
pub use words::{Word, Words};

/// The number of a code at its tracker, counted from 1. It is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nameplate(pub u16);

/// Names one exchange at a tracker: random, chosen by who opens the code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExchangeId(pub [u8; 8]);

/// A code. Whoever has it can have the link, so its words have no place in logs, and its `Debug` hides
/// them.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    /// Where the daemons meet.
    pub nameplate: Nameplate,
    /// What they prove to each other to know.
    pub words: Words,
}

/// Why a text is no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// It does not have the form.
    #[error("a code is a number and two words, such as 7-film-alibi")]
    NotACode,
    /// Its number is not one.
    #[error("the number of a code is between 1 and 65535, not {number}")]
    Number {
        /// What was typed.
        number: String,
    },
    /// One of its words is not on the list.
    #[error("no code has the word {word}")]
    Word {
        /// What was typed.
        word: String,
        /// Words of the list that are like it, the nearest first.
        nearest: Vec<&'static str>,
    },
}

impl Code {
    /// Whether a text has the form of a code, right or wrong: a number and two words of letters.
    pub fn is_like(text: &str) -> bool {
        let parts = split(text);
        let are = |part: &str, is: fn(&char) -> bool| part.chars().all(|it| is(&it));
        parts.is_some_and(|[number, first, second]| {
            are(number, char::is_ascii_digit)
                && [first, second]
                    .iter()
                    .all(|it| are(it, |it| it.is_alphabetic()))
        })
    }
}

/// The three parts of a text, none empty, with hyphens or blanks between them.
fn split(text: &str) -> Option<[&str; 3]> {
    let parts = text.trim().split(['-', ' ']).filter(|it| !it.is_empty());
    let parts: Vec<&str> = parts.take(4).collect();
    parts.try_into().ok()
}

impl FromStr for Code {
    type Err = CodeError;

    /// Reads a code in any case, with hyphens or blanks between its parts, of whose words the first
    /// [`words::LETTERS`] letters are enough.
    fn from_str(text: &str) -> Result<Code, CodeError> {
        let [number, first, second] = split(text).ok_or(CodeError::NotACode)?;
        if !Code::is_like(text) {
            return Err(CodeError::NotACode);
        }
        let nameplate = number.parse().ok().filter(|it| *it > 0);
        let nameplate = nameplate.map(Nameplate).ok_or_else(|| CodeError::Number {
            number: number.to_owned(),
        })?;
        let words = Words([first.parse()?, second.parse()?]);
        Ok(Code { nameplate, words })
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.nameplate, self.words)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({}-..)", self.nameplate)
    }
}

impl fmt::Display for Nameplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExchangeId({})", data_encoding::HEXLOWER.encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_in_any_case_with_hyphens_or_blanks_and_by_the_first_letters_of_its_words() {
        let code: Code = "7-film-alibi".parse().unwrap();
        assert_eq!(
            (code.nameplate, code.to_string().as_str()),
            (Nameplate(7), "7-film-alibi")
        );
        for text in [
            " 7 film alibi\n",
            "7-Film-ALIBI",
            "07 - film - alibi",
            "7-fil-ali",
            "7-film-alib",
        ] {
            assert_eq!(text.parse(), Ok(code.clone()), "{text}");
        }
        assert_eq!(format!("{code:?}"), "Code(7-..)");
    }

    #[test]
    fn what_is_no_code_is_told_from_a_code_with_a_wrong_word() {
        for text in [
            "",
            "7",
            "7-film",
            "film-7-alibi",
            "7-film-alibi-film",
            "7-film-2024",
            "p2p:abc",
            "7-fi.m-alibi",
        ] {
            assert!(!Code::is_like(text), "{text}");
            assert_eq!(text.parse::<Code>(), Err(CodeError::NotACode), "{text}");
        }
        for number in ["0", "65536", "99999999999"] {
            let text = format!("{number}-film-alibi");
            let error = CodeError::Number {
                number: number.to_owned(),
            };
            assert!(Code::is_like(&text));
            assert_eq!(text.parse::<Code>(), Err(error));
        }
        let text = "7-flim-alibi";
        let error = CodeError::Word {
            word: "flim".to_owned(),
            nearest: vec!["film"],
        };
        assert!(Code::is_like(text));
        assert_eq!(text.parse::<Code>(), Err(error));
    }
}
