//! A downloading daemon that is killed or stopped continues where it was, and fetches nothing twice.

use std::path::Path;

use warren_daemon::{
    control::model::{ShareState, exit},
    home::is_held,
};

use crate::{
    content::{assert_nothing_unfinished, assert_same_file, assorted_folder, random_file, tree},
    harness::{Daemon, Swarm, caught_in_the_middle},
};

/// How often the downloading daemon is killed.
const KILLS: usize = 3;

#[test]
fn a_download_that_is_killed_again_and_again_keeps_what_it_has() {
    caught_in_the_middle(|bytes| {
        let swarm = Swarm::start();
        let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
        let file = swarm.file("film.mkv", bytes, 1);
        let registered = ours.register(&file);
        let mut verified = 0;
        for _ in 0..KILLS {
            verified = interrupted(&ours, &mut theirs, &registered, verified, Daemon::kill)?;
        }
        // It goes on by itself: nobody asks for it again.
        theirs.until_share(&registered.content_id, "all of it", |share| {
            share.state == ShareState::Seeding
        });
        assert_same_file(&file, &theirs.downloads().join("film.mkv"));
        assert_nothing_unfinished(&theirs.downloads());
        Some(())
    });
}

#[test]
fn a_download_that_is_stopped_keeps_what_it_has() {
    caught_in_the_middle(|bytes| {
        let swarm = Swarm::start();
        let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
        let file = swarm.file("film.mkv", bytes, 2);
        let registered = ours.register(&file);
        interrupted(&ours, &mut theirs, &registered, 0, Daemon::stop)?;
        let done = theirs.fetch(&registered.manifest);
        assert_same_file(&file, Path::new(&done.path));
        assert_nothing_unfinished(&theirs.downloads());
        Some(())
    });
}

#[test]
fn a_folder_by_its_link_that_is_killed_keeps_what_it_has() {
    caught_in_the_middle(|bytes| {
        let swarm = Swarm::start();
        let (ours, mut theirs) = (swarm.daemon(1), swarm.daemon(2));
        let folder = swarm.path("folder");
        assorted_folder(&folder);
        random_file(&folder.join("more"), bytes, 3);
        let mut registered = ours.register(&folder);
        registered.manifest = registered.link.clone().unwrap();
        interrupted(&ours, &mut theirs, &registered, 0, Daemon::kill)?;
        let done = theirs.fetch(&registered.manifest);
        assert_eq!(tree(Path::new(&done.path)), tree(&folder));
        assert_nothing_unfinished(&theirs.downloads());
        Some(())
    });
}

/// Starts the download, ends its daemon in the middle by `end` and starts it again. Fails unless
/// everything that was verified before is so again without the source, which stands still
/// meanwhile. Returns how much that is; `None` when the download was over too soon.
#[track_caller]
fn interrupted(
    ours: &Daemon,
    theirs: &mut Daemon,
    registered: &warren_daemon::control::model::Registered,
    already: u64,
    end: fn(&Daemon),
) -> Option<u64> {
    let slow = ours.throttle();
    let mut transfer = theirs.download(&registered.manifest);
    transfer.midway_beyond(already)?;
    drop(slow);
    ours.freeze();
    let before = theirs.share(&registered.content_id);
    end(theirs);
    assert_eq!(transfer.code(), i32::from(exit::DAEMON_NOT_RUNNING));

    theirs.restart();
    let after = theirs.until_share(&registered.content_id, "what was verified", |share| {
        share.state != ShareState::Hashing && share.verified_bytes >= before.verified_bytes
    });
    ours.unfreeze();
    (after.verified_bytes < after.bytes).then_some(after.verified_bytes)
}

#[test]
fn a_daemon_that_is_called_stopped_has_ended() {
    let swarm = Swarm::start();
    let ours = swarm.daemon(1);
    let home = swarm.place().home();
    assert!(is_held(&home, 1));
    ours.client(&["stop"]).expect(0);
    assert!(!is_held(&home, 1), "it could not be started again yet");
}
