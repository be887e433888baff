//! What was there before a download is there after it, however that ends.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::control::model::exit;
use crate::store::taken::IfExists;

/// Files of [`Sample::mixed`] with bytes, and one that is not of it.
const OWN: [&str; 6] = ["a/b/deep.bin", "a/b/small", "a-b", "run.sh", "z", "a/note"];

#[tokio::test]
async fn own_files_of_which_some_are_wanted_come_back_when_the_share_is_removed() {
    for standing in STANDINGS {
        let (mut scene, sample) = (Scene::new(), Sample::mixed());
        let own = scene.lay_own(&sample, &[]);
        let swarm = scene.resume(&sample, &["z"]).await;
        assert!(!scene.place().join("z").exists(), "it is being fetched");
        let note = scene.node.shown_share(&swarm).unwrap().note.unwrap();
        assert!(note.contains("gives its files their names back"), "{note}");
        let mut scene = scene.made(swarm, standing).await;
        scene.remove(swarm).await;
        assert_eq!(scene.own(), own, "{standing:?}");
    }
}

#[tokio::test]
async fn own_files_that_are_no_longer_wanted_come_back_when_the_share_is_removed() {
    for standing in STANDINGS {
        let (mut scene, sample) = (Scene::new(), Sample::mixed());
        let own = scene.lay_own(&sample, &[]);
        let swarm = scene.resume(&sample, &[]).await;
        let chosen = scene.select("z");
        scene.until_answered(chosen).await.unwrap();
        assert!(scene.node.shares[&swarm].leaves_out());
        let mut scene = scene.made(swarm, standing).await;
        scene.remove(swarm).await;
        assert_eq!(scene.own(), own, "{standing:?}");
    }
}

#[tokio::test]
async fn own_files_beside_a_part_that_is_complete_come_back_when_the_share_is_removed() {
    let (mut scene, sample) = (Scene::new(), Sample::mixed());
    let own = scene.lay_own(&sample, &["z"]);
    let swarm = scene.resume(&sample, &[]).await;
    let chosen = scene.select("z");
    scene.until_answered(chosen).await.unwrap();
    scene.node.advance_share(swarm);
    let is_it = |phase: &Phase| matches!(phase, Phase::Seeding(_));
    scene.until_phase(swarm, is_it).await;
    assert!(scene.place().join("z").exists() && !scene.place().join("a-b").exists());
    // More is wanted, and then the share is not.
    let chosen = scene.select("a-b");
    scene.until_answered(chosen).await.unwrap();
    scene.remove(swarm).await;
    assert_eq!(scene.own(), own);
}

/// How it stands when it is removed.
#[derive(Clone, Copy, Debug)]
enum Standing {
    Fetched,
    Paused,
    /// By an error.
    Stopped,
    /// Found again by the next start.
    Restarted,
}

const STANDINGS: [Standing; 4] = [
    Standing::Fetched,
    Standing::Paused,
    Standing::Stopped,
    Standing::Restarted,
];

impl Scene {
    fn place(&self) -> PathBuf {
        self.node.config.downloads.join("photos")
    }

    /// A folder of the person's own in the place of the share: no byte of it is what was shared, but for the files
    /// that are `right`.
    fn lay_own(&self, sample: &Sample, right: &[&str]) -> BTreeMap<String, Vec<u8>> {
        let place = self.place();
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        sample.lay_out(&place);
        std::fs::write(place.join("a/note"), "of mine").unwrap();
        for name in OWN.iter().filter(|name| !right.contains(name)) {
            let mut bytes = std::fs::read(place.join(name)).unwrap();
            bytes.iter_mut().for_each(|byte| *byte ^= 1);
            std::fs::write(place.join(name), bytes).unwrap();
        }
        self.own()
    }

    fn own(&self) -> BTreeMap<String, Vec<u8>> {
        let read = |name: &str| {
            Some((
                name.to_owned(),
                std::fs::read(self.place().join(name)).ok()?,
            ))
        };
        OWN.iter().filter_map(|name| read(name)).collect()
    }

    /// Begins a download of these files, or of all, with what is there.
    async fn resume(&mut self, sample: &Sample, only: &[&str]) -> SwarmId {
        let mut record = self.record(&sample.content);
        record.placing.if_exists = IfExists::Resume;
        record.wish.files.only = only.iter().map(|it| (*it).to_owned()).collect();
        let how = Preparing::Create(sample.content.clone());
        let swarm = self.node.add_preparing(record, how);
        self.until_downloading(swarm).await;
        swarm
    }

    async fn made(mut self, swarm: SwarmId, standing: Standing) -> Scene {
        match standing {
            Standing::Fetched => (),
            Standing::Paused => {
                let (answer, paused) = oneshot::channel();
                self.node.pause("photos", answer);
                self.until_answered(paused).await.unwrap();
            }
            Standing::Stopped => {
                let error = ApiError::new("disk_error", exit::DISK, "it failed", "Try again.");
                self.node.stop_share(swarm, error, Stopping::Paused);
            }
            Standing::Restarted => {
                self = self.restarted();
                self.until_downloading(swarm).await;
            }
        }
        self
    }

    async fn remove(&mut self, swarm: SwarmId) {
        let (answer, removed) = oneshot::channel();
        self.node.remove_share(swarm, Data::Kept, answer);
        self.until_answered(removed).await.unwrap();
    }
}
