//! What a person is given to follow a share: its publisher, what opens its heads, and a tracker.
//!
//! As text it is a link of version 2, as long as any other: `p2p:` and 90 characters for an IPv4 tracker.
//! `manifest-format.md`, Link, is the normative text.

use std::fmt;
use std::str::FromStr;

use super::PublisherId;
use crate::content::TrackerAddress;
use crate::content::link::{FOLLOW_VERSION, Link, LinkError};
use crate::id::{ContentId, Kind, Secret};

/// A share whose versions can be followed. It gives access to all of them, so it belongs in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct FollowLink {
    /// Whose versions.
    pub publisher: PublisherId,
    /// What opens their heads.
    pub read: Secret,
    /// Who keeps the newest.
    pub tracker: TrackerAddress,
}

impl fmt::Display for FollowLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut id = [0; 32];
        id[..16].copy_from_slice(&self.publisher.0);
        id[16..].copy_from_slice(&self.read.0);
        let link = Link {
            kind: Kind::File,
            id: ContentId(id),
            tracker: self.tracker.clone(),
            secret: None,
        };
        f.write_str(&link.to_text(FOLLOW_VERSION))
    }
}

impl fmt::Debug for FollowLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FollowLink(..)")
    }
}

impl FromStr for FollowLink {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<FollowLink, LinkError> {
        let link = Link::from_text(text, FOLLOW_VERSION)?;
        if link.kind != Kind::File || link.secret.is_some() {
            return Err(LinkError::Malformed);
        }
        let (mut publisher, mut read) = ([0; 16], [0; 16]);
        publisher.copy_from_slice(&link.id.0[..16]);
        read.copy_from_slice(&link.id.0[16..]);
        Ok(FollowLink {
            publisher: PublisherId(publisher),
            read: Secret(read),
            tracker: link.tracker,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::content::Host;
    use crate::content::samples::any_tracker;
    use crate::id::TrackerPin;

    fn sample() -> FollowLink {
        FollowLink {
            publisher: PublisherId([3; 16]),
            read: Secret([4; 16]),
            tracker: TrackerAddress {
                host: Host::V4(Ipv4Addr::new(203, 0, 113, 7)),
                port: 59_000,
                pin: TrackerPin([9; 16]),
            },
        }
    }

    #[test]
    fn it_is_as_short_as_any_link_and_tells_its_secret_to_no_log() {
        let text = sample().to_string();
        assert_eq!(text.len(), 94);
        assert_eq!(text.to_uppercase().parse(), Ok(sample()));
        assert_eq!(format!("{:?}", sample()), "FollowLink(..)");
    }

    #[test]
    fn neither_kind_of_link_is_taken_for_the_other() {
        let follow = sample().to_string();
        assert_eq!(follow.parse::<Link>(), Err(LinkError::Version(2)));
        let link = Link {
            kind: Kind::Tree,
            id: ContentId([5; 32]),
            tracker: sample().tracker,
            secret: None,
        };
        let text = link.to_string();
        assert_eq!(text.parse::<FollowLink>(), Err(LinkError::Version(1)));
    }

    #[test]
    fn one_of_a_folder_or_with_a_secret_is_refused() {
        let link = |kind, secret| Link {
            kind,
            id: ContentId([5; 32]),
            tracker: sample().tracker,
            secret,
        };
        for link in [
            link(Kind::Tree, None),
            link(Kind::File, Some(Secret([1; 16]))),
        ] {
            let text = link.to_text(FOLLOW_VERSION);
            assert_eq!(text.parse::<FollowLink>(), Err(LinkError::Malformed));
        }
    }

    proptest! {
        #[test]
        fn it_survives_its_text(publisher: [u8; 16], read: [u8; 16], tracker in any_tracker()) {
            let (publisher, read) = (PublisherId(publisher), Secret(read));
            let link = FollowLink { publisher, read, tracker };
            prop_assert_eq!(link.to_string().parse(), Ok(link));
        }

        #[test]
        fn whatever_the_text_reading_never_panics(text in "p2p:[i-l][a-z2-7]{0,120}") {
            if let Ok(link) = text.parse::<FollowLink>() {
                prop_assert_eq!(link.to_string(), text);
            }
        }
    }
}
