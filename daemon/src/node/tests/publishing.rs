//! What is registered and published: which versions stay, and since when they are known.

use warren_proto::follow::{PublisherKey, Version};
use warren_proto::id::{ContentId, Kind};

use super::*;
use crate::clock::unix_ms;
use crate::store::following::Published;

#[tokio::test]
async fn of_two_versions_signed_at_once_the_newer_one_stays_whichever_comes_first() {
    for older_first in [false, true] {
        let mut scene = Scene::new();
        let path = scene.folder.path().join("photos");
        let mut versions = [
            (2, Sample::mixed()),
            (1, Sample::file("film", vec![7; 1000])),
        ];
        if older_first {
            versions.reverse();
        }
        for (sequence, sample) in &versions {
            let swarm = scene.seed(sample);
            let share = scene.node.shares.get_mut(&swarm).unwrap();
            share.record.path = path.clone();
            let published = published(&path, *sequence, swarm);
            scene.node.handle_published(published);
        }
        let newer = Sample::mixed().content.swarm_id(None);
        let known = scene.node.follows.published.values();
        let known: Vec<_> = known.map(|it| (it.head.sequence, it.swarm)).collect();
        assert_eq!(known, [(2, newer)]);
        assert!(scene.node.shares.keys().eq([&newer]));
    }
}

fn published(path: &Path, sequence: u64, swarm: SwarmId) -> Published {
    let key = PublisherKey::of(&[1; 32]).unwrap();
    let version = Version {
        kind: Kind::File,
        id: ContentId([sequence as u8; 32]),
        secret: None,
        signed_unix_s: 0,
    };
    Published {
        path: path.to_owned(),
        head: key.sign(sequence, &version),
        swarm,
    }
}

#[tokio::test]
async fn what_is_registered_is_known_since_hashing_began_and_not_since_it_has_ended() {
    let mut scene = Scene::new();
    let path = scene.folder.path().join("film.mkv");
    std::fs::write(&path, "a film").unwrap();
    let (events, _told) = mpsc::channel(16);
    let config = &scene.node.config;
    let places = (config.downloads.clone(), config.depot.clone());
    let request = register_request(&path, None);
    registering::hash(request, events, places, scene.node.me.clone()).await;
    let hashed = unix_ms();
    until(|| unix_ms() > hashed).await;
    // It may wait for the tracker, and be opened by a task.
    while scene.node.shares.is_empty() {
        match timeout(DEADLINE / 60, scene.events.recv()).await {
            Ok(event) => scene.take_in(event.unwrap()),
            Err(_) => scene.node.link_registrations(),
        }
    }
    let share = scene.node.shares.values().next().unwrap();
    assert!(share.record.added_unix_ms <= hashed);
}
