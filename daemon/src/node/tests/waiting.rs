//! Who asks for what is here while something else is done with it: everybody is answered, and nothing is called right
//! that was not looked at.

use super::*;
use crate::node::beginning::Wanting;

type Told = mpsc::Receiver<Event>;

#[tokio::test]
async fn who_asks_while_something_is_chosen_is_answered_after_that() {
    for pattern in ["z", "nothing-like-it"] {
        let mut scene = Scene::new();
        let swarm = scene.seed(&Sample::mixed());
        let selected = scene.select(pattern);
        let mut told = [scene.want(swarm), scene.want(swarm)];
        for told in &mut told {
            let told = scene.until_told(told).await;
            assert!(matches!(&told, Event::Done(done) if done.already));
        }
        let _ = scene.until_answered(selected).await;
        assert!(scene.node.waiting.is_empty());
    }
}

#[tokio::test]
async fn who_asks_while_files_are_opened_is_answered_when_they_were_looked_at() {
    for is_edited in [false, true] {
        let mut scene = Scene::new();
        let swarm = scene.seed(&Sample::mixed());
        let depot = scene.node.config.depot.clone();
        let mut record = depot.records().unwrap().pop().unwrap();
        record.state = ShareState::Complete;
        depot.remember(&record).unwrap();
        if is_edited {
            let mut bytes = std::fs::read(record.path.join("z")).unwrap();
            bytes[0] ^= 1;
            std::fs::write(record.path.join("z"), bytes).unwrap();
        }
        let mut scene = scene.restarted();
        let mut told = scene.want(swarm);
        match (is_edited, scene.until_told(&mut told).await) {
            (false, Event::Done(done)) => assert!(done.already),
            (true, Event::Error(error)) => assert_eq!(error.code, "target_exists"),
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn who_asks_is_told_when_the_share_is_paused_or_goes_meanwhile() {
    for (code, is_removed) in [("paused", false), ("removed", true)] {
        let mut scene = Scene::new();
        let swarm = scene.seed(&Sample::mixed());
        let jobs = scene.node.disk_jobs.clone();
        let busy = jobs.acquire_many(DISK_JOBS as u32).await.unwrap();
        let mut told = scene.want(swarm);
        match is_removed {
            true => scene
                .node
                .remove_share(swarm, Data::Kept, oneshot::channel().0),
            false => scene.node.pause("photos", oneshot::channel().0),
        }
        drop(busy);
        let told = scene.until_told(&mut told).await;
        assert!(
            matches!(&told, Event::Error(error) if error.code == code),
            "{told:?}"
        );
    }
}

impl Scene {
    /// Asks for all of what is here.
    fn want(&mut self, swarm: SwarmId) -> Told {
        let (events, told) = mpsc::channel(16);
        let watcher = Watcher::new(events);
        let way = crate::node::beginning::Way::default();
        if let Some(wanting) = self.node.check_share(swarm, Wanting { way, watcher }) {
            self.node.want_of_others(swarm, wanting);
        }
        told
    }
}
