//! Shares of which there are ever newer versions: whose they are, and what is signed about each.
//!
//! A *publisher* is an Ed25519 key, one for each followable share. What it says of a version is a [`Head`]: a
//! sequence number that only grows, and, sealed, which content the version is. A [`FollowLink`] names the
//! publisher and holds what opens its heads. A tracker keeps the newest head of each publisher ([`Heads`]) and
//! can neither make one nor read one; whoever has a head can give it to a tracker.
//!
//! Not here: what a daemon does about a newer version, where keys are kept (`warren-daemon`).

mod head;
mod heads;
mod link;

pub use head::{Head, PublisherKey, SEALED_BYTES, SignedHead, Version};
pub use heads::{Claim, FollowMail, Heads, Heard, LIFETIME, TOLD_EVERY, Verified};
pub use link::FollowLink;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{PublicKey, base32_encode};

/// What a publisher is known by: the first half of a derived hash of its key, as a tracker's pin is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublisherId(pub [u8; 16]);

impl PublisherId {
    /// That of this key.
    pub fn of(key: &PublicKey) -> PublisherId {
        let hash = blake3::derive_key("warren publisher v1", &key.0);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        PublisherId(id)
    }
}

impl fmt::Display for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32_encode(&self.0))
    }
}

impl fmt::Debug for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublisherId({self})")
    }
}
