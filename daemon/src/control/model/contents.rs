//! What a share is made of, as far as a person looks at it.

use serde::{Deserialize, Serialize};

/// Parts that the map of a share has at most.
pub const MAP_PARTS: u32 = 512;

/// Files that are told of a share at most, the first of its listing.
pub const FILES: usize = 1000;

/// The files of a share, how much of it is here, and who is connected for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Contents {
    /// Content id, lower-case hex.
    pub content_id: String,
    /// Chunks that it has; 0 while that is not known.
    pub chunks: u32,
    /// Of those, verified and on disk.
    pub chunks_here: u32,
    /// How much is here of each of up to 512 parts of about as many chunks, in their order, in percent. 100
    /// means all of it.
    #[serde(default)]
    pub map: Vec<u8>,
    /// Its files, in the order of the listing, at most 1,000.
    #[serde(default)]
    pub files: Vec<FileStanding>,
    /// Files that are not told of.
    #[serde(default)]
    pub more_files: u64,
    /// Short names of the connected peers that are in its swarm.
    #[serde(default)]
    pub peers: Vec<String>,
}

/// One file of a share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FileStanding {
    /// Its path below the share's folder, with `/`; of a share that is one file, its name.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Of those, bytes verified and on disk.
    pub verified_bytes: u64,
    /// Whether it is wanted.
    pub wanted: bool,
}
