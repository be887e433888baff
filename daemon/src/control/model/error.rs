//! Why a request failed, as the person and scripts are told.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use warren_proto::content::path::printable;

use super::exit;
use crate::control::messages;
use crate::control::words::short_id;

/// Why a request failed, ready to be shown: what failed, and what to do next.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, utoipa::ToSchema,
)]
#[error("{message}")]
pub struct ApiError {
    /// A stable word for scripts, such as `not_found`.
    pub code: String,
    /// Exit code of `client`.
    pub exit: u8,
    /// What failed and why, lower case, without a full stop.
    pub message: String,
    /// What the person can do next; empty when there is nothing to say.
    pub hint: String,
    /// What it is known by to people, such as `DISK-01`; `client explain` tells what it means.
    #[serde(default = "unlisted")]
    pub message_code: String,
}

fn unlisted() -> String {
    messages::UNLISTED.to_owned()
}

impl ApiError {
    /// An error with a stable `code`, one of the [`exit`](super::exit) codes, and what to do next.
    pub fn new(
        code: impl Into<String>,
        exit: u8,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let code = code.into();
        ApiError {
            message_code: messages::code_of(&code).to_owned(),
            code,
            exit,
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// A share is complete, so that there is no download of it to cancel; its files may have changed since.
    pub fn not_a_download(name: &str, id: &impl Display, has_changed: bool) -> Self {
        let (name, id) = (printable(name), short_id(id));
        let is = match has_changed {
            true => "has changed since it was complete",
            false => "is complete",
        };
        Self::new(
            "not_a_download",
            exit::REFUSED,
            format!("{name} {is}; there is no download to cancel"),
            format!(
                "To stop sharing it: client remove {id} IDX; --data deletes what was downloaded."
            ),
        )
    }

    /// A share lies where the person has it, so that its files are not the daemon's to delete.
    pub fn not_downloaded(name: &str, id: &impl Display) -> Self {
        let (name, id) = (printable(name), short_id(id));
        Self::new(
            "not_downloaded",
            exit::REFUSED,
            format!("{name} was shared where it lies, and not downloaded"),
            format!(
                "To stop sharing it: client remove {id} IDX; then delete it yourself if you want that."
            ),
        )
    }

    /// An error made from another one: the message is its text and those of its causes.
    pub fn caused(
        code: impl Into<String>,
        exit: u8,
        error: &dyn std::error::Error,
        hint: impl Into<String>,
    ) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self::new(code, exit, message, hint)
    }
}
