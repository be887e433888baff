//! What the control API says of codes, and in which words one is refused.
//!
//! Not here: what codes are (`warren_proto::code`), what becomes of them (the node).

use serde::{Deserialize, Serialize};
use warren_proto::code::{Closed, Code, CodeError, GUESSES, Nameplate, nameplates};

use super::model::{ApiError, exit};

/// How long a code is good unless said otherwise, in seconds.
pub const DEFAULT_EXPIRES_S: u32 = 3600;

/// Longest that a code may be good, in seconds.
pub const MAX_EXPIRES_S: u32 = nameplates::LONGEST.as_secs() as u32;

/// A code that is wanted for what is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CodeWish {
    /// For how long, in seconds, from 1 to 604,800.
    #[serde(default = "default_expires_s")]
    pub expires_s: u32,
    /// Whether only the first receiver is let in.
    #[serde(default)]
    pub once: bool,
}

fn default_expires_s() -> u32 {
    DEFAULT_EXPIRES_S
}

/// A code that was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CodeGiven {
    /// The code, such as `7-film-alibi`. Whoever has it can have the link.
    pub code: String,
    /// For how long it is good, in seconds.
    pub expires_s: u32,
    /// Whether only the first receiver is let in.
    pub once: bool,
}

/// Asks for the link of a code. Costs one guess if it is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OpenRequest {
    /// The code as it was typed.
    pub code: String,
}

/// What a code stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Opened {
    /// The link.
    pub link: String,
}

/// A code of this daemon. Its words are shown once, when it is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CodeStatus {
    /// Its number.
    pub number: u16,
    /// Content id of what it is for, lower-case hex.
    pub content_id: String,
    /// Name of what it is for.
    pub name: String,
    /// How it stands.
    pub state: CodeState,
    /// For how long it is still good, in seconds.
    pub expires_s: u64,
    /// Whether only the first receiver is let in.
    pub once: bool,
    /// How many receivers have got the link.
    pub opened: u32,
    /// How many wrong guesses there were, of 10 at most.
    pub wrong: u32,
}

/// How a code stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CodeState {
    /// Whoever knows it can open it.
    Open,
    /// The tracker is not reached, so nobody can.
    Unreachable,
    /// Its time is up.
    Expired,
    /// Its one receiver has come.
    Used,
    /// It was guessed wrong too often.
    Burned,
    /// What it is for was revoked.
    Revoked,
    /// What it is for is no longer shared, or the tracker has given its number to somebody else.
    Withdrawn,
}

impl OpenRequest {
    /// Reads the code.
    ///
    /// # Errors
    /// Exit code 2, with words that may have been meant.
    pub fn parse(&self) -> Result<Code, ApiError> {
        self.code.parse().map_err(|error| ApiError::from(&error))
    }
}

impl CodeWish {
    /// The wish, if it can be fulfilled.
    ///
    /// # Errors
    /// Exit code 2 for a time that is too long or none.
    pub fn checked(self) -> Result<CodeWish, ApiError> {
        match self.expires_s {
            1..=MAX_EXPIRES_S => Ok(self),
            _ => Err(ApiError::new(
                "bad_expiry",
                exit::USAGE,
                "a code is good for at least a second and at most 7 days",
                "For example: --code-expires 10m",
            )),
        }
    }
}

impl From<&CodeError> for ApiError {
    fn from(error: &CodeError) -> Self {
        let hint = match error {
            CodeError::Word { nearest, .. } if !nearest.is_empty() => {
                format!("Did you mean {}? Nothing was sent.", nearest.join(" or "))
            }
            CodeError::Word { .. } => "Ask for the code again. Nothing was sent.".to_owned(),
            CodeError::NotACode | CodeError::Number { .. } => {
                "Type it as it was given to you, for example 7-film-alibi.".to_owned()
            }
        };
        ApiError::caused("malformed_code", exit::USAGE, error, hint)
    }
}

/// Why a code was not opened at this tracker.
pub fn not_opened(nameplate: Nameplate, tracker: &str, why: Closed) -> ApiError {
    let new = "Ask whoever gave it to you for a new one: client register PATH --code";
    let (code, exit, message, hint) = match why {
        Closed::Unknown => (
            "no_such_code",
            exit::NOT_FOUND,
            format!("tracker {tracker} knows no code with the number {nameplate}"),
            "Check the number, and that the daemon of whoever gave it to you uses the same tracker. \
             A code that has ended is forgotten after a while: ask for a new one.",
        ),
        Closed::Expired => (
            "code_expired",
            exit::NOT_FOUND,
            format!("the time of code {nameplate} is up"),
            new,
        ),
        Closed::Used => (
            "code_used",
            exit::NOT_FOUND,
            format!("code {nameplate} was for one receiver, who has come"),
            "If that was not you, somebody else has the link: say so, and ask for a new code.",
        ),
        Closed::Burned => (
            "code_burned",
            exit::REFUSED,
            format!("code {nameplate} was guessed wrong {GUESSES} times and is no longer good"),
            new,
        ),
        Closed::Withdrawn => (
            "code_withdrawn",
            exit::NOT_FOUND,
            format!("what code {nameplate} was for is no longer shared"),
            new,
        ),
        Closed::Absent => (
            "sharer_absent",
            exit::NO_SOURCE,
            format!("the daemon that gave code {nameplate} is not connected to tracker {tracker}"),
            "Try again in a moment. If it stays so, its owner sees why with client doctor.",
        ),
        Closed::Busy => (
            "codes_busy",
            exit::REFUSED,
            "too many codes are being opened at the moment".to_owned(),
            "Try again in a minute; no guess was used.",
        ),
        Closed::TooManyGuesses => (
            "too_many_guesses",
            exit::REFUSED,
            "too many codes that were wrong have come from your network".to_owned(),
            "Try again in 10 minutes, or ask for the link.",
        ),
        Closed::WrongWords => (
            "wrong_code",
            exit::REFUSED,
            format!(
                "the words are not those of code {nameplate}; one of its {GUESSES} guesses is used"
            ),
            "Ask for the code again, and for the number too: it may be another one's.",
        ),
        Closed::Late => (
            "sharer_silent",
            exit::NO_SOURCE,
            format!("the daemon that gave code {nameplate} does not answer"),
            "Try again in a moment; if it stays so, ask for the link.",
        ),
        Closed::Malformed => (
            "code_failed",
            exit::OTHER,
            format!("what came back for code {nameplate} is not understood"),
            "The versions of both daemons may differ: install the newer one on both sides.",
        ),
    };
    ApiError::new(code, exit, message, hint)
}

/// Somebody answers for a code who does not know it.
pub fn not_the_sharer(nameplate: Nameplate, tracker: &str) -> ApiError {
    ApiError::new(
        "not_the_sharer",
        exit::VERIFICATION_FAILED,
        format!("somebody has answered for code {nameplate} who does not know its words"),
        format!(
            "Only tracker {tracker} could do that. Ask for the link, and have a look at that tracker."
        ),
    )
}

/// The tracker is needed, and not reached.
pub fn no_tracker(tracker: &str) -> ApiError {
    ApiError::new(
        "tracker_unreachable",
        exit::TRACKER_UNREACHABLE,
        format!("tracker {tracker} is not reached, and codes go by way of it"),
        "See why, and try again once it is: client doctor IDX",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own_and_says_what_to_do() {
        use Closed::{
            Absent, Burned, Busy, Expired, Late, Malformed, TooManyGuesses, Unknown, Used,
            Withdrawn, WrongWords,
        };
        let all = [
            Unknown,
            Expired,
            Used,
            Burned,
            Withdrawn,
            Absent,
            Busy,
            TooManyGuesses,
            WrongWords,
            Late,
            Malformed,
        ];
        let mut words = std::collections::BTreeSet::new();
        for why in all {
            let error = not_opened(Nameplate(7), "t:1", why);
            assert!(
                !error.hint.is_empty() && error.exit != exit::OK,
                "{error:?}"
            );
            assert!(words.insert(error.code), "{why:?}");
        }
    }

    #[test]
    fn a_wrong_word_is_named_and_the_one_that_may_be_meant() {
        let typed = OpenRequest {
            code: "7-flim-alibi".to_owned(),
        };
        let error = typed.parse().unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.exit),
            ("malformed_code", exit::USAGE)
        );
        assert_eq!(error.message, "no code has the word flim");
        assert_eq!(error.hint, "Did you mean film? Nothing was sent.");
    }

    #[test]
    fn a_code_is_good_for_a_second_to_a_week() {
        let wish = |json| serde_json::from_str::<CodeWish>(json).unwrap().checked();
        let usual = CodeWish {
            expires_s: 3600,
            once: false,
        };
        assert_eq!(wish("{}"), Ok(usual));
        for (json, is_good) in [
            (r#"{"expires_s":1,"once":true}"#, true),
            (r#"{"expires_s":604800}"#, true),
            (r#"{"expires_s":604801}"#, false),
            (r#"{"expires_s":0}"#, false),
        ] {
            assert_eq!(wish(json).is_ok(), is_good, "{json}");
        }
    }
}
