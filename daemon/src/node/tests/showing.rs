//! What people and scripts are shown.

use super::*;
use crate::control::model::{Contents, ShareRequest};

#[tokio::test]
async fn of_a_whole_share_each_file_is_here_and_of_a_part_what_was_wanted() {
    let sample = Sample::mixed();
    let (mut whole, mut part) = (Scene::new(), Scene::new());
    whole.seed(&sample);
    let contents = whole.contents().await;
    assert!(
        contents
            .files
            .iter()
            .all(|it| it.verified_bytes == it.bytes && it.wanted)
    );
    assert_eq!(contents.chunks_here, contents.chunks);
    assert_eq!(contents.files.len(), sample.files.len());
    part.download_part(&sample).await;
    let contents = part.contents().await;
    let wanted = contents.files.iter().filter(|it| it.wanted);
    assert!(wanted.map(|it| it.path.as_str()).eq(["empty"]));
    assert!(contents.files.iter().all(|it| it.verified_bytes == 0));
}

#[tokio::test]
async fn what_somebody_only_asks_about_is_no_share_for_the_doctor_either() {
    let mut scene = Scene::new();
    let swarm = scene.seed(&Sample::mixed());
    for is_preview in [false, true] {
        scene.node.shares.get_mut(&swarm).unwrap().is_preview = is_preview;
        let shares = scene.node.snapshot().shares;
        assert_eq!(shares.len(), usize::from(!is_preview));
    }
}

impl Scene {
    /// What the share is made of of which there is one.
    async fn contents(&mut self) -> Contents {
        let (answer, answered) = oneshot::channel();
        let share = "photos".to_owned();
        let request = ShareRequest { share };
        self.node.handle_command(Command::Contents(request, answer));
        match answered.await.unwrap().unwrap() {
            Event::Contents(contents) => contents,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn shares_of_one_name_are_told_apart_where_they_are_offered() {
    let mut scene = Scene::new();
    let mut seed = |name: &str, byte: u8| {
        let swarm = scene.seed(&Sample::file(name, vec![byte; 100]));
        scene.node.shares[&swarm].record.id.to_string()
    };
    let ids = [seed("dup", 1), seed("dup", 2)];
    seed("dupe", 3);
    let error = scene.node.find("du").unwrap_err();
    assert!(
        ids.iter().all(|id| error.hint.contains(&id[..12])),
        "{error:?}"
    );
    assert!(error.hint.contains("dupe"), "{error:?}");
    assert!(!error.hint.contains("dup, "), "{error:?}");
}
