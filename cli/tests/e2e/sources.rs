//! A swarm is more than one source: seeds share the work, and whoever has bytes gives them.

use std::{collections::BTreeMap, fs, path::Path};

use crate::{
    content::{MIB, assert_same_file},
    harness::{Daemon, Swarm, caught_in_the_middle, wait_for},
};

#[test]
fn two_seeds_both_give() {
    caught_in_the_middle(|bytes| {
        let swarm = Swarm::start();
        let (one, two, theirs) = (swarm.daemon(1), swarm.daemon(2), swarm.daemon(3));
        let file = swarm.file("film.mkv", bytes, 1);
        let copy = swarm.path("copy/film.mkv");
        fs::create_dir(copy.parent().unwrap()).unwrap();
        fs::copy(&file, &copy).unwrap();
        let registered = one.register(&file);
        assert_eq!(two.register(&copy).content_id, registered.content_id);

        // Slow enough that the second is still needed when it is met.
        let slow = (one.throttle(), two.throttle());
        let mut transfer = theirs.download(&registered.manifest);
        transfer.midway()?;
        let given = wait_for("both seeds to give", || {
            let down = down_bytes(&theirs);
            let share = theirs.share(&registered.content_id);
            let over = share.verified_bytes == share.bytes;
            (over || down.values().filter(|bytes| **bytes > 0).count() == 2).then_some(down)
        });
        (given.values().filter(|bytes| **bytes > 0).count() == 2).then_some(())?;
        // The seeds count the same from their side.
        for seed in [&one, &two] {
            assert!(up_bytes(seed) > 0, "{:?}", seed.peers());
        }
        drop(slow);
        assert_same_file(&file, Path::new(&transfer.done().path));
        Some(())
    });
}

#[test]
fn downloads_at_the_same_time_give_to_each_other() {
    let swarm = Swarm::start();
    let seed = swarm.daemon(1);
    let leeches = [swarm.daemon(2), swarm.daemon(3), swarm.daemon(4)];
    let file = swarm.file("film.mkv", 24 * MIB, 2);
    let registered = seed.register(&file);
    let slow = seed.throttle();
    let transfers = leeches
        .each_ref()
        .map(|leech| leech.download(&registered.manifest));
    let exchanged = wait_for("a leech to give to another", || {
        let given = leeches.iter().any(|leech| up_bytes(leech) > 0);
        let over = leeches.iter().all(|leech| {
            let share = leech.share(&registered.content_id);
            share.bytes > 0 && share.verified_bytes == share.bytes
        });
        (given || over).then_some(given)
    });
    drop(slow);
    for transfer in transfers {
        assert_same_file(&file, Path::new(&transfer.done().path));
    }
    assert!(exchanged, "everything came from the seed");
}

#[test]
fn a_download_is_a_source_once_the_publisher_has_left() {
    let swarm = Swarm::start();
    let (publisher, second, third) = (swarm.daemon(1), swarm.daemon(2), swarm.daemon(3));
    let file = swarm.file("film.mkv", 5 * MIB, 3);
    let registered = publisher.register(&file);
    second.fetch(&registered.manifest);
    publisher.stop();

    let done = third.fetch(&registered.manifest);
    assert_same_file(&file, Path::new(&done.path));
    let by_link = swarm.daemon(4).fetch(registered.link.unwrap());
    assert_same_file(&file, Path::new(&by_link.path));
}

#[test]
fn peers_on_one_machine_are_lan_peers() {
    let swarm = Swarm::start();
    let (ours, theirs) = (swarm.daemon(1), swarm.daemon(2));
    let file = swarm.file("film.mkv", 5 * MIB, 4);
    theirs.fetch(ours.register(&file).manifest);
    let peers = theirs.peers();
    assert_eq!(peers.len(), 1, "{peers:?}");
    assert_eq!(peers[0].path.word(), "lan");
    assert!(peers[0].address.starts_with("127.0.0.1:"), "{peers:?}");
    // Content, and little else.
    assert!(
        (5 * MIB..6 * MIB).contains(&peers[0].down_bytes),
        "{peers:?}"
    );
    assert!((5 * MIB..6 * MIB).contains(&up_bytes(&ours)));
}

/// Bytes a daemon received, by the peer they came from.
fn down_bytes(daemon: &Daemon) -> BTreeMap<String, u64> {
    let peers = daemon.peers().into_iter();
    peers.map(|peer| (peer.peer, peer.down_bytes)).collect()
}

/// Bytes a daemon sent to the peers it is connected to.
fn up_bytes(daemon: &Daemon) -> u64 {
    daemon.peers().iter().map(|peer| peer.up_bytes).sum()
}
