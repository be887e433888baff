//! What is shared, and how every byte of it is checked.
//!
//! [`Layout`] divides a share into chunks from sizes alone. [`HashList`] and [`tree`] tie chunks
//! and grains to the BLAKE3 hash of their file. [`Listing`] is the table of a tree's entries.
//! [`Content`] is all of it together, consistent by construction; [`Manifest`] is its file form,
//! [`Link`] its shortest form. The normative text is `manifest-format.md`.
//!
//! Not here: reading and writing shared files (`warren-daemon`), asking peers for them
//! (`transfer`).

pub mod address;
pub mod chunks;
pub mod describe;
pub mod hashes;
pub mod layout;
pub mod link;
pub mod listing;
pub mod manifest;
pub mod path;
#[cfg(test)]
pub(crate) mod samples;
pub mod tree;

pub use address::{AddressError, DnsName, Host, HostPort, TrackerAddress};
pub use chunks::{ChunkIndex, ChunkSet, Run};
pub use hashes::HashList;
pub use layout::{Extent, Layout, LayoutError};
pub use link::{Link, LinkError};
pub use listing::{Entry, EntryKind, FileEntry, Listing, ListingError};
pub use manifest::{Content, ContentError, Extension, Manifest, ManifestError};
pub use path::{PathError, ShareName, SharePath};
pub use tree::{Expected, Verifier};
