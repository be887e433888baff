//! What the control API is asked.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::control::codes::CodeWish;
use crate::control::wish::{Change, Wish};

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
}

/// Fetches what a `.p2p` or a link names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DownloadRequest {
    /// What to fetch.
    pub source: Source,
    /// Which files of it. Of a share that is present, as far as it says anything, what `select` changes.
    #[serde(flatten)]
    pub wish: Wish,
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

/// Names one share: to pause, resume, cancel or verify it, or to tell its link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ShareRequest {
    /// Content id, the beginning of one, or the name of a share.
    pub share: String,
}

mod base64 {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}
