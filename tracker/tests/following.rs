//! Heads at a tracker over real sockets: who is told, and what a tracker says of itself.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is a failed test"
)]

use warren_proto::follow::{Head, PublisherKey, Version};
use warren_proto::id::{ContentId, Kind};
use warren_proto::wire::{FollowNews, FollowRequest, FromTracker, Given, ToTracker};

mod common;

use common::{Session, join, start, within};

#[tokio::test]
async fn a_head_reaches_followers_and_outlives_the_connection_of_who_gave_it() {
    let (tracker, _home) = start();
    let key = PublisherKey::of(&[1; 32]).unwrap();
    let publisher = key.id();
    let (mut ours, mut follower) = (join(&tracker).await, join(&tracker).await);
    say(&mut follower, FollowRequest::Follow { publisher }).await;
    let none = FollowNews::Newest {
        publisher,
        head: None,
    };
    assert_eq!(hear(&mut follower).await, none);

    let newest = |head: &Head| FollowNews::Newest {
        publisher,
        head: Some(head.clone()),
    };
    let first = head(&key, 1);
    assert_eq!(give(&mut ours, &first).await, Given::Kept);
    assert_eq!(hear(&mut follower).await, newest(&first));
    ours.connection.close(0, "done");

    let mut newcomer = join(&tracker).await;
    say(&mut newcomer, FollowRequest::Follow { publisher }).await;
    assert_eq!(hear(&mut newcomer).await, newest(&first));
    // Whoever has a newer one may bring it, and an older one is answered with that.
    assert_eq!(give(&mut newcomer, &head(&key, 3)).await, Given::Kept);
    let mut late = join(&tracker).await;
    assert_eq!(give(&mut late, &head(&key, 2)).await, Given::Older);
    assert_eq!(hear(&mut late).await, newest(&head(&key, 3)));
    // Told a moment later, since the first one was told just now.
    assert_eq!(hear(&mut follower).await, newest(&head(&key, 3)));
}

#[tokio::test]
async fn a_forged_head_is_kept_from_everybody() {
    let (tracker, _home) = start();
    let key = PublisherKey::of(&[1; 32]).unwrap();
    let publisher = key.id();
    let mut stranger = join(&tracker).await;
    let forged = Head {
        sequence: 9,
        ..head(&key, 1)
    };
    assert_eq!(give(&mut stranger, &forged).await, Given::Invalid);
    say(&mut stranger, FollowRequest::Follow { publisher }).await;
    let none = FollowNews::Newest {
        publisher,
        head: None,
    };
    assert_eq!(hear(&mut stranger).await, none);
}

async fn say(session: &mut Session, request: FollowRequest) {
    let message = ToTracker::Follow(request);
    session.writer.send(&message).await.unwrap();
}

async fn hear(session: &mut Session) -> FollowNews {
    match within(session.reader.recv()).await.unwrap() {
        Some(FromTracker::Follow(news)) => news,
        other => panic!("{other:?}"),
    }
}

async fn give(session: &mut Session, head: &Head) -> Given {
    say(session, FollowRequest::Give(head.clone())).await;
    match hear(session).await {
        FollowNews::Given { result, .. } => result,
        other => panic!("{other:?}"),
    }
}

fn head(key: &PublisherKey, sequence: u64) -> Head {
    let version = Version {
        kind: Kind::File,
        id: ContentId([2; 32]),
        secret: None,
        signed_unix_s: 0,
    };
    key.sign(sequence, &version)
}
