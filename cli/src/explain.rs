//! `client explain`: what a code means.
//!
//! Not here: the table (`warren_daemon::control::messages`).

use serde_json::json;
use warren_daemon::control::{
    messages::{self, Message},
    model::{ApiError, exit},
};
use warren_proto::content::path::printable;

use crate::output::Output;

/// Shows one message, or a list of all.
///
/// # Errors
/// When there is none with this code.
pub(crate) fn run(code: Option<&str>, output: Output) -> Result<(), ApiError> {
    let Some(code) = code else {
        return messages::ALL.iter().try_for_each(|it| match output.json() {
            true => show(it, output),
            false => output.result(&format!("{:<8} {}", it.code, it.name)),
        });
    };
    match messages::find(code) {
        Some(message) => show(message, output),
        None => Err(unknown(code)),
    }
}

fn show(it: &Message, output: Output) -> Result<(), ApiError> {
    if output.json() {
        let fields = json!({
            "message_code": it.code,
            "code": it.word,
            "name": it.name,
            "cause": it.cause,
            "next": it.next,
        });
        return output.object("message", &fields);
    }
    output.result(&format!("{}: {}", it.code, it.name))?;
    output.result(&format!("cause  {}", it.cause))?;
    output.result(&format!("next   {}", it.next))?;
    match it.word {
        "" => Ok(()),
        word => output.result(&format!("code in JSON: {word}")),
    }
}

fn unknown(code: &str) -> ApiError {
    let message = format!("there is no message {}", printable(code));
    let hint = match messages::near(code).join(" or ") {
        near if near.is_empty() => "See all, a line each: client explain".to_owned(),
        near => format!("Is it {near}? See all: client explain"),
    };
    ApiError::new("no_such_message", exit::NOT_FOUND, message, hint)
}
