//! What the control API says: requests, events and errors, with their exact JSON.
//!
//! An [`Event`] is one JSON object with `"v":1` and `"type"`. The daemon sends it to the command
//! line, and `client --json` prints it unchanged, so its fields are a contract with scripts: fields
//! may be added, none renamed or removed. Paths in events are text: what cannot be written as UTF-8
//! is replaced, because JSON has no other way.
//!
//! Not here: routes and sockets ([`super::api`]), what is asked ([`requests`]), errors ([`error`]), trackers and
//! the port of the router ([`network`]), how an event is read ([`reading`]).

mod contents;
mod error;
mod network;
mod reading;
mod requests;

use serde::{Deserialize, Serialize, Serializer};

pub use super::attempt::Attempt;
use super::attempt::{CandidateKind, Role};
pub use super::codes::{CodeGiven, CodeStatus, CodeWish, OpenRequest, Opened};
pub use super::doctor::{Finding, Severity, Summary, Techniques};
pub use super::follow::{FollowRequest, FollowedShare, PublishedShare};
pub use super::limits::{LEAST_BITS_PER_S, LimitRequest, Limits};

pub use super::standing::{ShareStanding, Standing};
pub use crate::store::taken::{IfExists, Taken};
pub use crate::tracker::TrackerFault;
pub use contents::{Contents, FILES, FileStanding, MAP_PARTS};
pub use error::ApiError;
pub use network::{PortMapping, PortMappingState, Tracker, Transport, Way};
pub use requests::{
    DownloadRequest, ExpireRequest, LEAST_ID_DIGITS, MOST_DOWNLOADS, PreviewRequest,
    RegisterRequest, RelocateRequest, RemoveRequest, SelectRequest, ShareRequest, Source,
};

/// The version every event carries as `"v"`.
pub const EVENT_VERSION: u8 = 1;

/// Exit codes of `client`, carried by every [`ApiError`] and [`Summary`].
pub mod exit {
    /// All went well.
    pub const OK: u8 = 0;
    /// A failure none of the other codes names.
    pub const OTHER: u8 = 1;
    /// The command line or the request is malformed.
    pub const USAGE: u8 = 2;
    /// No daemon answers on the socket.
    pub const DAEMON_NOT_RUNNING: u8 = 3;
    /// The tracker does not answer or is not the one expected.
    pub const TRACKER_UNREACHABLE: u8 = 4;
    /// No peer has the content, or none answered in time.
    pub const NO_SOURCE: u8 = 5;
    /// Bytes do not match their hash or a `.p2p` is damaged.
    pub const VERIFICATION_FAILED: u8 = 6;
    /// The disk is full, or a file cannot be read or written.
    pub const DISK: u8 = 7;
    /// Refused on purpose: a symlink, a target in the way, another user's daemon.
    pub const REFUSED: u8 = 8;
    /// A file, share or route that does not exist.
    pub const NOT_FOUND: u8 = 9;
    /// The person pressed Ctrl-C.
    pub const INTERRUPTED: u8 = 130;
}

/// One thing that happened or one line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(remote = "Self", tag = "type", rename_all = "lowercase")]
pub enum Event {
    /// The path is shared; ends a register.
    Registered(Registered),
    /// How far a register or a download is.
    Progress(Progress),
    /// Every byte is verified and in place; ends a download.
    Done(Done),
    /// It failed; ends a register or a download.
    Error(ApiError),
    /// One connected peer.
    Peer(Peer),
    /// One share of this daemon.
    Share(Share),
    /// One tracker of this daemon.
    Tracker(Tracker),
    /// Whether the router of this daemon lets peers in.
    #[serde(rename = "port_mapping")]
    PortMapping(PortMapping),
    /// How fast this daemon may send and receive.
    Limits(Limits),
    /// One attempt to reach a peer.
    Attempt(Attempt),
    /// One thing that a person should know about how the daemon is connected.
    Finding(Finding),
    /// How peers were reached, in numbers.
    Summary(Summary),
    /// The link of a share.
    Link(ShareLink),
    /// One line of the log.
    Log(LogLine),
    /// A share, a peer or a tracker is no longer there; only in the stream of all events.
    Gone(Gone),
    /// One code of this daemon.
    Code(CodeStatus),
    /// What a code stands for.
    Opened(Opened),
    /// What a share is made of.
    Contents(Contents),
    /// What a download would be; ends a preview.
    Preview(Preview),
}

impl Event {
    /// Whether nothing follows this event in the answer to a register, a download or a preview.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Event::Registered(_) | Event::Done(_) | Event::Error(_) | Event::Preview(_)
        )
    }

    /// The event as one line of JSON, without the line feed.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("events hold only text, numbers and flags")
    }

    /// The same, added to what is there.
    pub(crate) fn write_json(&self, to: &mut Vec<u8>) {
        serde_json::to_writer(to, self).expect("events hold only text, numbers and flags");
    }
}

// The derived code is reached through `remote = "Self"`, so that no way of writing an event can
// forget its version.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Versioned<'a> {
            v: u8,
            #[serde(flatten, with = "Event")]
            event: &'a Event,
        }
        let versioned = Versioned {
            v: EVENT_VERSION,
            event: self,
        };
        versioned.serialize(serializer)
    }
}

impl From<ApiError> for Event {
    fn from(error: ApiError) -> Self {
        Event::Error(error)
    }
}

/// A path that is now shared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Registered {
    /// Absolute path of the file or folder that is shared.
    pub path: String,
    /// Absolute path of the `.p2p` written for it.
    pub manifest: String,
    /// The one-line link, when the daemon knows a tracker to put into it.
    pub link: Option<String>,
    /// Content id, lower-case hex.
    pub content_id: String,
    /// Sum of the sizes of all files.
    pub bytes: u64,
    /// Number of files: 1 for a file.
    pub files: u64,
    /// What the person should know: files left out, names that other systems refuse.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Content ids of what was shared from the same path before it changed, and is no longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<String>,
    /// When it is removed, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix_ms: Option<u64>,
    /// After how many complete downloads it is given no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_downloads: Option<u32>,
    /// How many of them there were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downloads: Option<u32>,
    /// The code for it, when one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<CodeGiven>,
    /// Why there is none although it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_code: Option<ApiError>,
    /// What the publisher of a followable share is known by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// Which version of a followable share this is, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The link by which its versions are followed, when the daemon knows a tracker to put into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_link: Option<String>,
    /// Of an update, bytes that were read; of the others it was known from the version before what they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
}

/// How far a register or a download is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Progress {
    /// Bytes hashed (register) or verified and on disk (download).
    pub verified_bytes: u64,
    /// Bytes in all; 0 while they are not known.
    pub bytes: u64,
    /// Bytes a second over the last few seconds.
    pub rate_bytes_per_s: u64,
    /// Connected peers of this content, by how they are reached.
    pub peers: PeerCounts,
    /// What is being done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Name of the content, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many files of a folder are wanted, when not all are; bytes are those of these alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FileCounts>,
    /// One sentence for the person, such as why nothing moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What the person can do about that, if there is anything to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What a register or a download is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Reading and hashing what is registered, or what is on disk already.
    Hashing,
    /// No connected peer has anything to give.
    Waiting,
    /// Fetching the hashes or the listing that a link does not carry.
    Metadata,
    /// Fetching content.
    Downloading,
}

/// How many files of a folder are wanted, of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FileCounts {
    /// Files that are wanted.
    pub selected: u64,
    /// Files there are.
    pub of: u64,
}

/// Number of peers by how they are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PeerCounts {
    /// In the same local network.
    pub lan: u32,
    /// Directly over the internet.
    pub direct: u32,
    /// Through a relay.
    pub relay: u32,
}

impl PeerCounts {
    /// Peers in all.
    pub fn total(&self) -> u32 {
        self.lan
            .saturating_add(self.direct)
            .saturating_add(self.relay)
    }
}

/// A download that is verified and in place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Done {
    /// Absolute path of the file or folder.
    pub path: String,
    /// Content id, lower-case hex.
    pub content_id: String,
    /// Sum of the sizes of all files that were wanted.
    pub bytes: u64,
    /// How many files of the folder those are, when not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FileCounts>,
    /// Time from the request to the last verified byte.
    pub seconds: f64,
    /// Whether all of it was there when it was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
    /// Whether it was paused, and is given again because it was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
    /// Of what was there: the path that it was to have, where something else was when it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<String>,
    /// After a relocation: what it is called now, if that is something else than before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed: Option<String>,
    /// After a verification: bytes that were fetched again, because they were wrong or missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired_bytes: Option<u64>,
    /// After a verification: where what somebody had edited is kept, which was copied before it was repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// What a download would be, of which no content was fetched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Preview {
    /// The bytes of a `.p2p` of it, in JSON as base64: what a download can be started from. None of a `.p2p`,
    /// which whoever asked has.
    #[serde(
        default,
        with = "requests::base64_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, format = Byte)]
    pub manifest: Option<Vec<u8>>,
    /// Whether the daemon has this share, complete or not.
    pub present: bool,
    /// Absolute path at which it would lie, or lies.
    pub path: String,
    /// What is there that is not of this share, a complete or an unfinished one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Taken>,
    /// Bytes that may still be written there, where the system says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// Whose version it is, of a follow link: its publisher has signed that. Nobody has signed anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<PublishedShare>,
}

/// The link of a share, which gives access to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ShareLink {
    /// Content id, lower-case hex.
    pub content_id: String,
    /// File or folder name; empty while a link has not brought it yet.
    pub name: String,
    /// The link, `p2p:...`.
    pub link: String,
}

/// One line of the daemon's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogLine {
    /// Time, level, place and text, as on stderr, without colours.
    pub line: String,
}

/// What an event was about is no longer there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Gone {
    /// `share`, `peer`, `tracker` or `code`.
    pub what: String,
    /// Its content id, short name, address or number.
    pub id: String,
}

/// One connected peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Peer {
    /// Short name of its public key.
    pub peer: String,
    /// How it is reached.
    pub path: PeerPath,
    /// Its address and port.
    pub address: String,
    /// Round trip time in milliseconds.
    pub rtt_ms: f64,
    /// Bytes received from it.
    pub down_bytes: u64,
    /// Bytes sent to it.
    pub up_bytes: u64,
    /// Which side of the connection we are.
    pub side: Role,
    /// How its address became known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<CandidateKind>,
    /// Who passes datagrams on, when it is reached through a relay: `tracker`, or `peer` and its short
    /// name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relayed_by: Option<String>,
    /// Why it is reached through a relay, where one of the two was started so; a sentence for the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_relayed: Option<String>,
    /// Milliseconds from the introduction to the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached_ms: Option<u64>,
    /// Whether limits do not hold for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlimited: bool,
    /// What is thought of it as a source: the worst, of all shares.
    #[serde(default)]
    pub standing: Standing,
    /// The shares of which it is not good, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standings: Vec<ShareStanding>,
}

/// How a peer is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PeerPath {
    /// In the same local network.
    Lan,
    /// Directly over the internet.
    Direct,
    /// Through a relay.
    Relay,
}

impl PeerPath {
    /// The word it has in JSON.
    pub fn word(self) -> &'static str {
        match self {
            PeerPath::Lan => "lan",
            PeerPath::Direct => "direct",
            PeerPath::Relay => "relay",
        }
    }
}

/// One share of a daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Share {
    /// Content id, lower-case hex.
    pub content_id: String,
    /// File or folder name; empty while a link has not brought it yet.
    pub name: String,
    /// Sum of the sizes of all files that are wanted; 0 while it is not known.
    pub bytes: u64,
    /// Of those, bytes verified and on disk.
    pub verified_bytes: u64,
    /// What the share is doing.
    pub state: ShareState,
    /// Absolute path of its file or folder; told of shares that are asked for by the beginning of what they are
    /// called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whether it was shared where it lies: its files are never deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_place: bool,
    /// What it is besides, of what the person has paused: `changed`, `failed` or `withheld`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also: Option<ShareState>,
    /// Whether all that is wanted of it has been here, or it was shared where it lies: there is no download
    /// to cancel, though its files may have changed since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub complete: bool,
    /// Connected peers of it, by how they are reached.
    #[serde(default)]
    pub peers: PeerCounts,
    /// Bytes of content received from peers that are reached directly, since the daemon began.
    #[serde(default)]
    pub direct_bytes: u64,
    /// The same from peers that are reached through a relay.
    #[serde(default)]
    pub relayed_bytes: u64,
    /// How many files of a folder are wanted, when not all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FileCounts>,
    /// What may be sent of it, in bits per second, when it has a limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_bits_per_s: Option<u64>,
    /// What may be received, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_bits_per_s: Option<u64>,
    /// When it is removed, in milliseconds since 1970, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix_ms: Option<u64>,
    /// After how many complete downloads by different peers it is given no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_downloads: Option<u32>,
    /// How many there were, while that is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downloads: Option<u32>,
    /// Which version it is of something that is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed: Option<FollowedShare>,
    /// Which version it is of something that others may follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<PublishedShare>,
    /// One sentence for the person, such as why it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Share {
    /// The words for where it stands, such as `paused, changed`.
    pub fn state_words(&self) -> String {
        let also = self.also.map(|also| format!(", {}", also.word()));
        format!("{}{}", self.state.word(), also.unwrap_or_default())
    }

    /// Whether its files are no longer what was shared.
    pub fn has_changed(&self) -> bool {
        [Some(self.state), self.also].contains(&Some(ShareState::Changed))
    }
}

/// What a share is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ShareState {
    /// Reading and hashing what is on disk.
    Hashing,
    /// Incomplete, and no connected peer has anything to give.
    #[default]
    Waiting,
    /// Fetching the hashes or the listing.
    Metadata,
    /// Fetching content.
    Downloading,
    /// Complete and offered to others.
    Seeding,
    /// The file on disk is no longer what was registered; not offered.
    Changed,
    /// Stopped by an error, such as a full disk.
    Failed,
    /// Stopped by the person.
    Paused,
    /// Not given any more: revoked, or downloaded as often as it was to be.
    Withheld,
}

impl ShareState {
    /// The word it has in JSON.
    pub fn word(self) -> &'static str {
        match self {
            ShareState::Hashing => "hashing",
            ShareState::Waiting => "waiting",
            ShareState::Metadata => "metadata",
            ShareState::Downloading => "downloading",
            ShareState::Seeding => "seeding",
            ShareState::Changed => "changed",
            ShareState::Failed => "failed",
            ShareState::Paused => "paused",
            ShareState::Withheld => "withheld",
        }
    }
}

#[cfg(test)]
mod tests;
