//! What is not to be given any more: it stays so whatever is done with it, and as long as it has to.

use std::collections::BTreeSet;

use warren_proto::id::PublicKey;

use super::super::terms::most_receivers;
use super::*;
use crate::control::model::ShareState as Shown;

#[tokio::test]
async fn what_was_revoked_stays_so_after_a_restart_though_files_of_it_were_left_out() {
    let mut scene = Scene::new();
    let swarm = scene.download_part(&Sample::mixed()).await;
    scene.revoke().await;
    let mut scene = scene.restarted();
    scene.until_opened(swarm).await;
    scene.assert_withheld(swarm);
}

#[tokio::test]
async fn what_was_revoked_is_not_verified_which_would_fetch_and_give_it() {
    let mut scene = Scene::new();
    let swarm = scene.download_part(&Sample::mixed()).await;
    scene.revoke().await;
    let error = scene.node.verify("photos").unwrap_err();
    assert_eq!(error.code, "withheld");
    scene.assert_withheld(swarm);
}

#[tokio::test]
async fn what_is_revoked_while_it_is_verified_is_withheld_whatever_that_finds() {
    for is_part in [false, true] {
        let (mut scene, sample) = (Scene::new(), Sample::mixed());
        let swarm = match is_part {
            true => scene.download_part(&sample).await,
            false => scene.seed(&sample),
        };
        let mut watched = scene.node.verify("photos").unwrap();
        scene.revoke().await;
        scene.until_opened(swarm).await;
        scene.assert_withheld(swarm);
        let told = scene.until_told(&mut watched).await;
        assert!(matches!(&told, Event::Error(error) if error.code == "withheld"));
        let (answer, removed) = oneshot::channel();
        scene.node.remove_share(swarm, Data::Kept, answer);
        removed.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_was_shared_where_it_lies_is_removed_also_while_it_is_verified() {
    let mut scene = Scene::new();
    let swarm = scene.seed(&Sample::mixed());
    let _watched = scene.node.verify("photos").unwrap();
    let share = scene.node.shares.get_mut(&swarm).unwrap();
    share.terms.expires_unix_ms = Some(1);
    scene.node.end_expired();
    assert!(scene.node.shares.contains_key(&swarm), "it waits for that");
    let (answer, removed) = oneshot::channel();
    scene.node.remove_share(swarm, Data::Kept, answer);
    removed.await.unwrap().unwrap();
}

#[tokio::test]
async fn of_many_strangers_those_who_were_given_most_are_remembered() {
    let mut scene = Scene::new();
    let sample = Sample::mixed();
    let swarm = scene.seed(&sample);
    let share = scene.node.shares.get_mut(&swarm).unwrap();
    share.terms.max_downloads = Some(2);
    // The smallest keys are those that a stranger can make go first.
    let given: BTreeSet<PublicKey> = (0..3).map(key).collect();
    for peer in &given {
        scene.node.note_given(swarm, *peer, 1);
    }
    let most = most_receivers(sample.content.layout.chunk_count());
    for stranger in 3..=most as u16 {
        scene.node.note_has(swarm, key(stranger), &[]);
    }
    let receivers = &scene.node.shares[&swarm].receivers;
    assert_eq!(receivers.len(), most);
    assert!(given.iter().all(|peer| receivers.contains_key(peer)));
}

#[test]
fn what_peers_say_that_they_have_takes_16_mib_for_each_share_at_most() {
    for chunks in [1, 1000, 30_000, 1 << 21] {
        let most = most_receivers(chunks);
        let bytes = most * (chunks as usize / 8);
        assert!(bytes <= 16 << 20, "{most} for {chunks} chunks");
        assert!((64..=4096).contains(&most));
    }
}

fn key(number: u16) -> PublicKey {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    PublicKey(bytes)
}

impl Scene {
    async fn revoke(&mut self) {
        let (answer, answered) = oneshot::channel();
        self.node.revoke("photos", answer);
        answered.await.unwrap().unwrap();
    }

    async fn until_opened(&mut self, swarm: SwarmId) {
        let is_it = |phase: &Phase| !matches!(phase, Phase::Preparing { .. });
        self.until_phase(swarm, is_it).await;
    }

    /// Neither fetched nor given, and no tracker is told of it.
    #[track_caller]
    fn assert_withheld(&self, swarm: SwarmId) {
        let share = &self.node.shares[&swarm];
        assert_eq!(share.state(None), Shown::Withheld, "{:?}", share.phase);
        assert_eq!(share.member_state(), None);
        assert!(share.offer().is_none() && share.verifying.is_none());
        assert!(self.node.download_of(&swarm).is_none());
    }
}
