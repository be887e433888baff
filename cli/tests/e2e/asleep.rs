//! Machines that go to sleep in the middle of a transfer.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    content::{MIB, assert_same_file},
    harness::{Daemon, DaemonOptions, Swarm, Transfer, wait_for},
};

/// Longer than anybody waits for somebody who is not heard: a peer, a tracker, and who is asleep itself.
const SLEEP: Duration = Duration::from_secs(32);

/// What takes a dozen seconds with the limit of [`Pair::start`].
const BYTES: u64 = 24 * MIB;

/// Both at once, since it takes as long as it takes.
#[test]
fn a_transfer_goes_on_by_itself_after_either_side_was_asleep() {
    let swarm = Swarm::start();
    let mut pairs = [Pair::start(&swarm, 1), Pair::start(&swarm, 3)];
    for pair in &mut pairs {
        pair.transfer.midway().expect("it takes seconds");
    }
    let [seeding, leeching] = [&pairs[0].seed, &pairs[1].leech];
    let begun = Instant::now();
    [seeding, leeching].into_iter().for_each(Daemon::freeze);
    for awake in [&pairs[0].leech, &pairs[1].seed] {
        wait_for("the other to be missed", || {
            awake.peers().is_empty().then_some(())
        });
    }
    thread::sleep(SLEEP.saturating_sub(begun.elapsed()));
    [seeding, leeching].into_iter().for_each(Daemon::unfreeze);
    for pair in pairs {
        pair.end();
    }
}

/// A daemon that shares a file, and one that downloads it.
struct Pair {
    seed: Daemon,
    leech: Daemon,
    file: PathBuf,
    transfer: Transfer,
}

impl Pair {
    /// Two daemons of which nobody else knows, slow enough to be met in the middle.
    #[track_caller]
    fn start(swarm: &Swarm, idx: u16) -> Pair {
        let seed = swarm.daemon_with(idx, DaemonOptions::of(&["--up", "16M"]));
        let leech = swarm.daemon(idx + 1);
        seed.until_connected();
        let file = swarm.file(&format!("film-{idx}.mkv"), BYTES, idx.into());
        let transfer = leech.download(&seed.register(&file).manifest);
        Pair {
            seed,
            leech,
            file,
            transfer,
        }
    }

    /// Waits for the rest, at full speed.
    #[track_caller]
    fn end(self) {
        self.seed.client(&["limit", "--up", "off"]).expect(0);
        assert_same_file(&self.file, Path::new(&self.transfer.done().path));
    }
}
