//! What the control API says of followable shares, and in which words something about them is refused.
//!
//! Not here: what they are (`warren_proto::follow`), what becomes of them (the node).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use warren_proto::content::path::printable;
use warren_proto::follow::{FollowLink, PublisherId};

use super::model::{ApiError, exit};
use super::words::typed;
use crate::store::taken::IfExists;

/// Follows a share: fetches its newest version and each that comes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FollowRequest {
    /// The follow link, `p2p:...`.
    pub link: String,
    /// Absolute path of the folder that its versions go to, instead of the daemon's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub to: Option<PathBuf>,
    /// What to do when something that is no version of it has its name there. `resume` takes of that what is right,
    /// and keeps the rest beside; `overwrite` replaces files that have the same names.
    #[serde(default)]
    pub if_exists: IfExists,
}

/// Of a share that is a version of something that is followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FollowedShare {
    /// Whose versions: 26 characters of base32.
    pub publisher: String,
    /// Which version this is.
    pub sequence: u64,
    /// The newest that is known.
    pub newest: u64,
    /// Where files are that were changed here in the version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// Of a share of this daemon that others may follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PublishedShare {
    /// What its publisher is known by: 26 characters of base32.
    pub publisher: String,
    /// Which version this is.
    pub sequence: u64,
}

impl FollowRequest {
    /// Reads the link.
    ///
    /// # Errors
    /// Exit code 2 for what is no link or one to a single version, 6 for one that is damaged.
    pub fn parse(&self) -> Result<FollowLink, ApiError> {
        use warren_proto::content::LinkError;
        match self.link.trim().parse() {
            Err(LinkError::Version(1)) => Err(not_a_follow_link(self.link.trim())),
            parsed => parsed.map_err(|error| ApiError::from(&error)),
        }
    }
}

fn not_a_follow_link(link: &str) -> ApiError {
    ApiError::new(
        "not_a_follow_link",
        exit::USAGE,
        "this link names one version, which never changes",
        format!(
            "Ask for the follow link, which registering it with --update prints. To fetch this version: \
             client download {link} IDX"
        ),
    )
}

/// The tracker knows nothing of followable shares.
pub fn tracker_too_old(tracker: &str) -> ApiError {
    ApiError::new(
        "tracker_too_old",
        exit::REFUSED,
        format!("tracker {tracker} is of an older version, which keeps no newest versions"),
        "Ask its operator to install a newer one; without it share and fetch single versions.",
    )
}

/// The tracker of a link is not reached.
pub fn no_tracker(tracker: &str) -> ApiError {
    ApiError::new(
        "tracker_unreachable",
        exit::TRACKER_UNREACHABLE,
        format!("tracker {tracker} is not reached, and it knows the newest version"),
        "See why, and try again once it is: client doctor IDX",
    )
}

/// No version is known.
pub fn no_version(tracker: &str) -> ApiError {
    ApiError::new(
        "no_version",
        exit::NO_SOURCE,
        format!("tracker {tracker} knows no version of this share"),
        "Try again when the daemon of whoever publishes it, or of somebody who follows it, is connected there.",
    )
}

/// What the publisher has signed says nothing with this link.
pub fn not_readable() -> ApiError {
    ApiError::new(
        "not_readable",
        exit::VERIFICATION_FAILED,
        "the newest version is not understood with this link",
        "Ask whoever publishes it for the follow link again, or install a newer version of this program.",
    )
}

/// A follow link of our own.
pub fn own_share(path: &Path) -> ApiError {
    let path = typed(path);
    ApiError::new(
        "own_share",
        exit::USAGE,
        "this daemon publishes that share itself",
        format!(
            "Follow it on another machine; here the next version is: client register {path} IDX --update"
        ),
    )
}

/// A share that nobody has said is a version of it lies in the place of the first one.
pub fn share_in_place(path: &Path, id: &str) -> ApiError {
    let path = path.display();
    ApiError::new(
        "target_exists",
        exit::REFUSED,
        format!("{path} is another share of this daemon, {id}"),
        "If it is an older version, take it as that: add --if-exists resume. Else --if-exists rename, or --to DIR.",
    )
}

/// Something else than the newest version lies in the place of the first one.
pub fn other_in_place(path: &Path) -> ApiError {
    let path = path.display();
    ApiError::new(
        "target_exists",
        exit::REFUSED,
        format!("{path} exists already, and is not the newest version"),
        "To take of it what is right, and keep the rest of it beside: add --if-exists resume. Else --if-exists rename \
         or overwrite, or --to DIR.",
    )
}

/// The same of one that was shared where it lies.
pub fn own_in_place(path: &Path) -> ApiError {
    let path = path.display();
    ApiError::new(
        "target_exists",
        exit::REFUSED,
        format!("{path} is shared where it lies by this daemon, and is not replaced"),
        "Take another name: add --if-exists rename; or another folder: --to DIR.",
    )
}

/// What is followed already goes to another folder than was named.
pub fn followed_elsewhere(folder: &Path, name: &str) -> ApiError {
    let name = typed(Path::new(name));
    ApiError::new(
        "elsewhere",
        exit::REFUSED,
        format!("it is followed already, and goes to {}", folder.display()),
        format!("Leave out --to; to begin anew elsewhere: client unfollow {name} IDX before."),
    )
}

/// A later version cannot take its place.
pub fn place_taken(path: &Path) -> ApiError {
    let path = path.display();
    ApiError::new(
        "target_exists",
        exit::REFUSED,
        format!("{path} exists already, where the next version is to be"),
        format!("Move {path} away, then: client resume NAME IDX"),
    )
}

/// It is not followed.
pub fn not_followed(name: &str) -> ApiError {
    ApiError::new(
        "not_followed",
        exit::NOT_FOUND,
        format!("{} is not followed", printable(name)),
        "See what is: client list IDX",
    )
}

/// More than a daemon follows.
pub fn too_many(most: usize) -> ApiError {
    ApiError::new(
        "too_many_followed",
        exit::REFUSED,
        format!("this daemon follows {most} shares at most"),
        "See them: client list IDX; end some: client unfollow NAME IDX",
    )
}

/// More than a daemon publishes.
pub fn too_many_published(most: usize) -> ApiError {
    ApiError::new(
        "too_many_published",
        exit::REFUSED,
        format!("this daemon publishes {most} followable shares at most"),
        "Share it without --update, or put it into a folder that is followable already.",
    )
}

/// The newest version could not be begun yet.
pub fn no_room(publisher: &PublisherId) -> ApiError {
    ApiError::new(
        "not_begun",
        exit::REFUSED,
        format!(
            "the newest version of {publisher} is not begun yet: it is a share of its own here, or there was an error"
        ),
        "It is followed. See what is there: client list IDX, and remove what is in its way.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_one_version_is_told_from_one_to_follow_and_from_a_damaged_one() {
        let parse = |link: &str| {
            let link = link.to_owned();
            FollowRequest {
                link,
                ..FollowRequest::default()
            }
            .parse()
            .unwrap_err()
        };
        let tracker = "203.0.113.7:59000#aaaaaaaaaaaaaaaaaaaaaaaaaa";
        let link = warren_proto::content::Link {
            kind: warren_proto::id::Kind::File,
            id: warren_proto::id::ContentId([1; 32]),
            tracker: tracker.parse().unwrap(),
            secret: None,
        };
        let text = link.to_string();
        assert_eq!(parse(&text).code, "not_a_follow_link");
        assert_eq!(parse(&text[..90]).code, "malformed_link");
        assert_eq!(parse("movie.mkv").exit, exit::USAGE);
    }
}
