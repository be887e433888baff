//! What the control API is asked.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::control::codes::CodeWish;
use crate::control::wish::{Change, Wish};
use crate::store::taken::IfExists;
use crate::store::terms::Terms;

use super::{ApiError, exit};

/// Shares a file or folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RegisterRequest {
    /// Absolute path of the file or folder.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Absolute path of the `.p2p` to write, instead of the daemon's own choice.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub output: Option<PathBuf>,
    /// Leaves out symlinks and special files of a folder instead of refusing it.
    #[serde(default)]
    pub skip_special: bool,
    /// Makes it followable, or this its next version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub update: bool,
    /// Gives it a code, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<CodeWish>,
    /// For how many seconds it is shared; then it is removed, and its files stay. 0 is for good. Without it, as it
    /// was said the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_s: Option<u64>,
    /// After how many complete downloads by different peers it is given no longer, up to 10,000, counted from
    /// now. 0 is after none. Without it, as it was said the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_downloads: Option<u32>,
}

/// Downloads that are counted at most: more is as good as no limit.
pub const MOST_DOWNLOADS: u32 = 10_000;

impl RegisterRequest {
    /// Makes sure that there may be such terms.
    ///
    /// # Errors
    ///
    /// Exit code 2 for a number of downloads that is none.
    pub fn checked_terms(&self) -> Result<(), ApiError> {
        match self.max_downloads {
            Some(most) if most > MOST_DOWNLOADS => {
                let message =
                    format!("{most} is no number of downloads from 1 to {MOST_DOWNLOADS}");
                let hint = "Give another number, or 0 for no limit.";
                Err(ApiError::new("bad_terms", exit::USAGE, message, hint))
            }
            _ => Ok(()),
        }
    }

    /// The terms that begin now, `now_unix_ms` after 1970, of a share whose terms were these `before`: it is
    /// given again, and what is not said again stays.
    pub(crate) fn terms(&self, before: &Terms, now_unix_ms: u64) -> Terms {
        let after = |seconds: u64| now_unix_ms.saturating_add(seconds.saturating_mul(1000));
        let expires_unix_ms = match self.expire_s {
            Some(0) => None,
            Some(seconds) => Some(after(seconds)),
            None => before.expires_unix_ms,
        };
        let max_downloads = match self.max_downloads {
            Some(most) => (most > 0).then_some(most),
            None => before.max_downloads,
        };
        let counts_on = self.max_downloads.is_none() && !before.is_used_up();
        Terms {
            expires_unix_ms,
            max_downloads,
            takers: match counts_on {
                true => before.takers.clone(),
                false => BTreeSet::new(),
            },
            revoked: false,
        }
    }
}

/// Says for how long a share is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExpireRequest {
    /// Content id, the beginning of one, or the name of a share.
    pub share: String,
    /// For how many seconds from now; without it, for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_s: Option<u64>,
}

/// Says where the files of a share are now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RelocateRequest {
    /// Content id, the beginning of one, or the name of a share.
    pub share: String,
    /// Absolute path of the file or folder.
    #[schema(value_type = String)]
    pub path: PathBuf,
}

/// Fetches what a `.p2p` or a link names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DownloadRequest {
    /// What to fetch.
    pub source: Source,
    /// Which files of it. Of a share that is present, as far as it says anything, what `select` changes.
    #[serde(flatten)]
    pub wish: Wish,
    /// Absolute path of the folder that it goes to, instead of the daemon's own. A share that is present
    /// elsewhere is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub to: Option<PathBuf>,
    /// What to do when something has its name there, or what is there of it was changed.
    #[serde(default, skip_serializing_if = "is_refuse")]
    pub if_exists: IfExists,
    /// Of a share of which some files are here and complete, no others are fetched. Without it, all are that `wish`
    /// does not leave out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub as_chosen: bool,
}

fn is_false(value: &bool) -> bool {
    !*value
}

fn is_refuse(if_exists: &IfExists) -> bool {
    *if_exists == IfExists::Refuse
}

/// Asks what a download would be, without fetching any of its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PreviewRequest {
    /// What would be fetched.
    pub source: Source,
    /// Absolute path of the folder that it would go to, instead of the daemon's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub to: Option<PathBuf>,
}

/// Wants other files of a share, or in another order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SelectRequest {
    /// Content id, the beginning of one, or the name of a share.
    pub share: String,
    /// What is to be otherwise.
    #[serde(flatten)]
    pub change: Change,
}

/// What a download is started from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The bytes of a `.p2p`, in JSON as base64.
    Manifest {
        /// The whole file.
        #[serde(with = "base64")]
        #[schema(value_type = String, format = Byte)]
        bytes: Vec<u8>,
    },
    /// A link, `p2p:...`.
    Link {
        /// The link as it was typed.
        text: String,
    },
    /// A content id alone, of a share that the daemon has or of one that its own tracker knows.
    Id {
        /// The content id, 64 hexadecimal digits: of a file, what `b3sum` prints.
        id: String,
        /// Whether it is that of a folder.
        #[serde(default)]
        folder: bool,
    },
}

/// Stops sharing or downloading; files that are complete stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RemoveRequest {
    /// Content id, the beginning of one, or the name of a share.
    pub share: String,
    /// Deletes what was downloaded of it too. What was shared where it lay is never deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub data: bool,
}

/// Fewest digits of a content id that name a share.
pub const LEAST_ID_DIGITS: usize = 4;

/// Names one share: to pause, resume, cancel or verify it, or to tell its link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ShareRequest {
    /// Content id, its first 4 or more digits, or the name of a share.
    pub share: String,
}

pub(super) mod base64 {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::control::model) fn serialize<S: Serializer>(
        bytes: &[u8],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(in crate::control::model) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}

pub(super) mod base64_if_any {
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    struct Bytes(#[serde(deserialize_with = "super::base64::deserialize")] Vec<u8>);

    #[expect(clippy::ref_option, reason = "serde passes a reference")]
    pub(in crate::control::model) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => super::base64::serialize(bytes, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::control::model) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let bytes = Option::<Bytes>::deserialize(deserializer)?;
        Ok(bytes.map(|Bytes(bytes)| bytes))
    }
}
