//! What is shared, and how every byte of it is checked.
//!
//! [`Layout`] divides a share into chunks from sizes alone. [`HashList`] and [`tree`] tie chunks
//! and grains to the BLAKE3 hash of their file. The normative text is `manifest-format.md`.
//!
//! Not here: reading and writing shared files (`warren-daemon`), asking peers for them
//! (`transfer`).

pub mod chunks;
pub mod hashes;
pub mod layout;
pub mod tree;

pub use chunks::{ChunkIndex, ChunkSet, Run};
pub use hashes::HashList;
pub use layout::{Extent, Layout, LayoutError};
pub use tree::{Expected, Verifier};
