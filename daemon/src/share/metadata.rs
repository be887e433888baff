//! Learns from one peer what a link names: size, name, hashes and, of a tree, the listing.
//!
//! A link holds the content id alone, so everything else is the peer's claim until it has been
//! checked against the id: the hash list must merge to it, the last chunk settles the size
//! (`manifest-format.md`), a listing must hash to it and brings the hash of every file. Whatever
//! contradicts the id is proof that this peer is wrong.

use std::time::Duration;

use tokio::time::timeout;
use warren_net::Connection;
use warren_proto::content::{Content, HashList, Layout, Listing, ShareName};
use warren_proto::id::{ContentId, Kind};
use warren_proto::limits;
use warren_proto::wire::{Part, PeerRequest};

use super::writer::verify;
use crate::pace::Passage;
use crate::peer::fetch::{FetchError, fetch};

/// Time for all of it, beside that of [`SLOWEST_BYTES_PER_S`].
const PATIENCE: Duration = Duration::from_secs(30);

/// A peer that is slower than this gives way to another one.
const SLOWEST_BYTES_PER_S: u64 = 16 * 1024;

/// What is received for it while we are limited, of the limit, at least.
const LIMIT_PART: u64 = 16;

/// Digits of the content id in the name of a share whose peers suggest none that is allowed.
const NAME_DIGITS: usize = 16;

/// What is asked of whom.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Whether the link names a file or a tree.
    pub(crate) kind: Kind,
    /// What it names.
    pub(crate) id: ContentId,
    /// Our alias for the swarm at that peer.
    pub(crate) alias: u32,
    /// The size in the peer's description: of a tree, that of its listing.
    pub(crate) size: u64,
    /// The name in the peer's description.
    pub(crate) name: String,
}

/// Why we have not learnt it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetadataError {
    /// The peer's claims contradict the content id.
    #[error("what the peer says contradicts the content id: {0}")]
    False(&'static str),
    /// The peer did not tell.
    #[error("the peer did not tell")]
    Fetch(#[from] FetchError),
    /// The peer was too slow.
    #[error("the peer was too slow")]
    TooSlow,
}

/// Asks, checks, and returns content whose every byte can be verified.
///
/// # Errors
///
/// See [`MetadataError`].
///
/// # Cancel safety
///
/// May be dropped.
pub(crate) async fn learn(
    connection: Connection,
    question: Question,
    passage: Passage,
) -> Result<Content, MetadataError> {
    // A limit of ours is no fault of a peer.
    let limit = passage.receive_bytes_per_s().unwrap_or(u64::MAX);
    let slowest = SLOWEST_BYTES_PER_S.min(limit / LIMIT_PART).max(1);
    let extra = question.size.min(limits::MANIFEST_BYTES as u64) / slowest;
    let patience = PATIENCE + Duration::from_secs(extra);
    let name = name(&question);
    let asking = Asking {
        connection,
        question,
        passage,
    };
    let learning = async {
        match asking.question.kind {
            Kind::File => asking.file(name).await,
            Kind::Tree => asking.tree(name).await,
        }
    };
    timeout(patience, learning)
        .await
        .unwrap_or(Err(MetadataError::TooSlow))
}

/// The suggested name, or one made of the id when the suggestion is not allowed.
fn name(question: &Question) -> ShareName {
    let id = question.id.to_string();
    ShareName::parse(&question.name)
        .or_else(|_| ShareName::parse(&id[..NAME_DIGITS]))
        .expect("hexadecimal digits are an allowed name")
}

struct Asking {
    connection: Connection,
    question: Question,
    passage: Passage,
}

impl Asking {
    async fn file(&self, name: ShareName) -> Result<Content, MetadataError> {
        let content = self.as_file(name, Part::Content).await?;
        if let Some(last) = content.layout.chunk_count().checked_sub(1) {
            self.chunk(Part::Content, &content, last).await?;
        }
        Ok(content)
    }

    async fn tree(&self, name: ShareName) -> Result<Content, MetadataError> {
        if self.question.size > limits::MANIFEST_BYTES as u64 {
            return Err(MetadataError::False("a listing of impossible size"));
        }
        let listing = self.as_file(name.clone(), Part::Listing).await?;
        let mut bytes = Vec::new();
        for chunk in 0..listing.layout.chunk_count() {
            bytes.extend(self.chunk(Part::Listing, &listing, chunk).await?);
        }
        let listing = blocking(move || Listing::decode(&bytes)).await;
        let listing = listing.ok_or(MetadataError::False("a malformed listing"))?;
        let sizes: Vec<u64> = listing.files().map(|file| file.size).collect();
        let layout = Layout::tree(&sizes).map_err(|_| MetadataError::False("impossible sizes"))?;
        let hashes = self.hashes(Part::Content, layout.hash_count()).await?;
        let content = blocking(move || Content::tree(name, listing, hashes)).await;
        content.ok_or(MetadataError::False("the hash lists of its files"))
    }

    /// The file, or the listing taken as one, with hashes that merge to the content id.
    async fn as_file(&self, name: ShareName, part: Part) -> Result<Content, MetadataError> {
        let size = self.question.size;
        let layout = Layout::file(size).map_err(|_| MetadataError::False("an impossible size"))?;
        let hashes = self.hashes(part, layout.hash_count()).await?;
        let content = Content::file(name, size, hashes).ok();
        content
            .filter(|content| content.id == self.question.id)
            .ok_or(MetadataError::False("its hash list"))
    }

    async fn hashes(&self, part: Part, count: u32) -> Result<HashList, MetadataError> {
        let alias = self.question.alias;
        let request = PeerRequest::Hashes { alias, part };
        let bytes = self.bytes(&request, u64::from(count) * 32).await?;
        HashList::from_bytes(bytes).ok_or(MetadataError::False("its hash list"))
    }

    /// One verified chunk.
    async fn chunk(
        &self,
        part: Part,
        content: &Content,
        index: u32,
    ) -> Result<Vec<u8>, MetadataError> {
        let layout = &content.layout;
        let chunk = layout
            .chunk(index)
            .ok_or(MetadataError::False("its size"))?;
        let len = layout.chunk_len(chunk);
        let request = PeerRequest::Chunk {
            alias: self.question.alias,
            part,
            chunk: index,
            offset: 0,
            len,
        };
        let bytes = self.bytes(&request, u64::from(len)).await?;
        verify(content, chunk, &bytes[..].into())
            .then_some(bytes)
            .ok_or(MetadataError::False("its size or a chunk"))
    }

    /// A peer that offers another number of bytes than its own description implies lies in one
    /// of the two.
    async fn bytes(&self, request: &PeerRequest, len: u64) -> Result<Vec<u8>, MetadataError> {
        let mut bytes = Vec::new();
        match fetch(&self.connection, request, len, &self.passage, &mut bytes).await {
            Err(FetchError::Length { .. }) => Err(MetadataError::False("its size")),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(bytes),
        }
    }
}

async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()?.ok()
}
