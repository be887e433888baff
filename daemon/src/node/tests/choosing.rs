//! What is chosen of a share that is complete, and shares of which an earlier choice has left nothing noted.

use super::*;
use crate::store::files::Identities;

/// Until a touched file may be read.
const SETTLED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_complete_share_of_which_nothing_is_noted_is_read_and_given() {
    let part = Some(Identities::none());
    let file = || Sample::file("film", vec![7; 100_000]);
    for (sample, settled, state) in [
        (Sample::mixed(), None, ShareState::Registered),
        (Sample::mixed(), None, ShareState::Complete),
        (Sample::mixed(), part, ShareState::Complete),
        (file(), None, ShareState::Complete),
    ] {
        let mut scene = Scene::new();
        let swarm = scene.seed(&sample);
        let depot = scene.node.config.depot.clone();
        let mut record = depot.records().unwrap().pop().unwrap();
        (record.identities, record.settled, record.state) = (None, settled, state);
        if record.settled.is_some() {
            record.wish.files.only = vec!["z".to_owned()];
        }
        depot.remember(&record).unwrap();

        let mut scene = scene.restarted();
        scene
            .until_phase(swarm, |it| matches!(it, Phase::Seeding(_)))
            .await;
        let share = &scene.node.shares[&swarm];
        assert!(share.rereading.is_doubtful(), "{:?}", record.settled);
        assert!(share.changes.is_none() && share.picked.is_none());
        scene.node.reread(Instant::now() + SETTLED);
        scene.until_right(swarm).await;

        // From then on it is known what its files are.
        let mut scene = scene.restarted();
        scene
            .until_phase(swarm, |it| matches!(it, Phase::Seeding(_)))
            .await;
        assert!(!scene.node.shares[&swarm].rereading.is_doubtful());
    }
}

#[tokio::test]
async fn of_a_complete_share_of_which_nothing_is_noted_what_is_wrong_is_found() {
    let mut scene = Scene::new();
    let swarm = scene.seed(&Sample::mixed());
    let depot = scene.node.config.depot.clone();
    let mut record = depot.records().unwrap().pop().unwrap();
    record.identities = None;
    depot.remember(&record).unwrap();
    let mut bytes = std::fs::read(record.path.join("z")).unwrap();
    bytes[0] ^= 1;
    std::fs::write(record.path.join("z"), bytes).unwrap();

    let mut scene = scene.restarted();
    scene
        .until_phase(swarm, |it| matches!(it, Phase::Seeding(_)))
        .await;
    scene.node.reread(Instant::now() + SETTLED);
    scene.until_right(swarm).await;
    assert!(scene.node.shares[&swarm].changes.is_some());
}

#[tokio::test]
async fn of_a_download_it_is_known_from_its_end_on_what_its_files_are() {
    let mut scene = Scene::new();
    // Nobody is needed for what has no bytes.
    let (swarm, _watched) = scene.download(&Sample::file("film", Vec::new())).await;
    scene.node.advance_share(swarm);
    scene
        .until_phase(swarm, |it| matches!(it, Phase::Seeding(_)))
        .await;
    let known = scene.node.shares[&swarm].record.identities.clone();
    let noted = scene.node.config.depot.records().unwrap().pop().unwrap();
    assert!(known.is_some() && known == noted.identities);
}

impl Scene {
    /// Takes in what is reported until nothing of the share is in doubt.
    async fn until_right(&mut self, swarm: SwarmId) {
        let read = async {
            while self.node.shares[&swarm].rereading.is_doubtful() {
                let event = self.events.recv().await.unwrap();
                self.take_in(event);
            }
        };
        timeout(DEADLINE, read).await.unwrap();
    }
}
