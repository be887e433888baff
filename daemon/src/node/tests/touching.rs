//! Files that were touched are read until somebody ends that, and nothing is believed before.

use std::sync::Arc;

use super::*;
use crate::control::model::ShareState as Shown;
use crate::share::offer::Offer;
use crate::store::rereading::Reading;

#[tokio::test]
async fn whatever_ends_a_share_ends_its_reading() {
    type End = fn(&mut Scene, SwarmId);
    let ends: [(&str, End); 4] = [
        ("pause", |scene, _| {
            let (answer, _) = oneshot::channel();
            scene.node.pause("photos", answer);
        }),
        ("remove", |scene, swarm| {
            let (answer, _) = oneshot::channel();
            scene.node.remove_share(swarm, Data::Kept, answer);
        }),
        ("verify", |scene, _| {
            drop(scene.node.verify("photos").unwrap())
        }),
        ("stop", |scene, _| scene.node.shares.clear()),
    ];
    for (what, end) in ends {
        let mut scene = Scene::new();
        let (swarm, reading) = scene.read_touched();
        assert!(!reading.is_over());
        end(&mut scene, swarm);
        assert!(reading.is_over(), "{what}");
    }
}

#[tokio::test]
async fn a_touched_share_is_hashing_and_as_much_is_right_as_was_not_touched() {
    let mut scene = Scene::new();
    let (swarm, _reading) = scene.read_touched();
    let share = &scene.node.shares[&swarm];
    assert_eq!(share.state(None), Shown::Hashing);
    let (right, all) = share.bytes(None);
    assert!(right > 0 && right < all, "{right} of {all}");
}

impl Scene {
    /// A share of which one file was touched and is being read, by nobody.
    fn read_touched(&mut self) -> (SwarmId, Arc<Reading>) {
        let swarm = self.seed(&Sample::mixed());
        let offer: Arc<Offer> = self.node.shares[&swarm].offer().unwrap().clone();
        let first = offer.content.file_path(0).unwrap();
        let file = std::fs::File::open(offer.files.path().join(first.as_str())).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        let differing = offer.files.differing();
        self.node.handle_differing(&offer, &differing);
        let share = self.node.shares.get_mut(&swarm).unwrap();
        let (files, reading) = share.rereading.begin(0).unwrap();
        assert_eq!(files.len(), 1);
        (swarm, reading)
    }
}
