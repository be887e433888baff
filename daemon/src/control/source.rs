//! Reads what a download is started from, with the same errors in the daemon and at the command
//! line.

use warren_proto::content::{
    link::{Link, LinkError},
    manifest::{Manifest, ManifestError},
};
use warren_proto::follow::FollowLink;
use warren_proto::id::{ContentId, Kind, ParseIdError};

use super::model::{ApiError, Source, exit};

/// What a download can begin from: it names a tracker.
#[derive(Clone, Debug)]
pub(crate) enum Located {
    /// A complete manifest.
    Manifest(Box<Manifest>),
    /// A link; hashes and names come from peers.
    Link(Link),
}

/// A source that was read and found well-formed.
#[derive(Clone, Debug)]
pub enum Parsed {
    /// A complete manifest.
    Manifest(Box<Manifest>),
    /// A link; hashes and names come from peers.
    Link(Link),
    /// A follow link; which version is the newest comes from its tracker.
    Follow(FollowLink),
    /// A content id; all else comes from peers.
    Id {
        /// Of a file or of a folder's listing.
        kind: Kind,
        /// The content id.
        id: ContentId,
    },
}

impl Source {
    /// Reads the manifest or the link.
    ///
    /// # Errors
    /// Exit code 6 for a manifest or a link that is damaged or contradicts itself, 2 for what is no link or
    /// content id.
    pub fn parse(&self) -> Result<Parsed, ApiError> {
        match self {
            Source::Manifest { bytes } => {
                let manifest = Manifest::decode(bytes).map_err(|error| ApiError::from(&error))?;
                Ok(Parsed::Manifest(Box::new(manifest)))
            }
            Source::Link { text } => read_link(text.trim()).map_err(|error| ApiError::from(&error)),
            Source::Id { id, folder } => {
                let kind = match folder {
                    true => Kind::Tree,
                    false => Kind::File,
                };
                let id = id.trim().parse().map_err(|error| bad_id(&error))?;
                Ok(Parsed::Id { kind, id })
            }
        }
    }
}

/// Either kind of link.
fn read_link(text: &str) -> Result<Parsed, LinkError> {
    match text.parse() {
        Err(LinkError::Version(_)) => text.parse().map(Parsed::Link),
        follow => follow.map(Parsed::Follow),
    }
}

fn bad_id(error: &ParseIdError) -> ApiError {
    let hint = "Give all 64 digits, as b3sum or client list IDX --json prints them.";
    ApiError::caused("malformed_id", exit::USAGE, error, hint)
}

impl From<&ManifestError> for ApiError {
    fn from(error: &ManifestError) -> Self {
        let (code, exit, hint) = match error {
            ManifestError::NotAManifest => (
                "not_a_manifest",
                exit::VERIFICATION_FAILED,
                "Use the .p2p file that client register wrote.",
            ),
            ManifestError::TooLarge => (
                "manifest_too_large",
                exit::VERIFICATION_FAILED,
                "Use the .p2p file that client register wrote; none is this large.",
            ),
            ManifestError::Version(_) => (
                "manifest_version",
                exit::VERIFICATION_FAILED,
                "Install a newer version of this program.",
            ),
            ManifestError::Damaged => (
                "manifest_damaged",
                exit::VERIFICATION_FAILED,
                "Get the .p2p file again from whoever shared it.",
            ),
            _ => (
                "manifest_invalid",
                exit::VERIFICATION_FAILED,
                "Do not use this .p2p file: no correct program wrote it. Ask whoever shared it for the link.",
            ),
        };
        ApiError::caused(code, exit, error, hint)
    }
}

impl From<&LinkError> for ApiError {
    fn from(error: &LinkError) -> Self {
        let hint = match error {
            LinkError::Version(_) => "Install a newer version of this program.",
            _ => "Copy the whole link, from p2p: to its last character.",
        };
        let exit = match error {
            LinkError::NotALink | LinkError::TooLong => exit::USAGE,
            LinkError::Damaged | LinkError::Version(_) | LinkError::Malformed => {
                exit::VERIFICATION_FAILED
            }
        };
        ApiError::caused("malformed_link", exit, error, hint)
    }
}
