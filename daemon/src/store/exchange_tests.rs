//! A newer version takes the place of another one; what a person has changed stays; a cut in between is mended.

use std::fs;

use super::*;
use crate::store::disk::RealDisk;
use crate::store::following::{Former, Held};
use crate::store::samples::Sample;
use warren_proto::id::SwarmId;

/// A folder with a version under its name and a newer one in a folder of its own.
struct Stage {
    folder: tempfile::TempDir,
    before: Sample,
    after: Sample,
    known: Identities,
    plan: Exchange,
}

impl Stage {
    fn new(before: Sample, after: Sample) -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let downloads = folder.path().to_owned();
        let name = before.content.name.as_str().to_owned();
        before.lay_out(&downloads.join(&name));
        let staged = downloads.join("stage/2");
        fs::create_dir_all(&staged).unwrap();
        after.lay_out(&staged.join(&name));
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let path = downloads.join(&name);
        let files = ShareFiles::open_as_source(disk, &path, &before.content).unwrap();
        let held = Held {
            sequence: 1,
            swarm: SwarmId([1; 32]),
        };
        Stage {
            known: files.identities_now().unwrap(),
            plan: Exchange {
                staged,
                name,
                folder: downloads,
                called: None,
                if_exists: IfExists::Refuse,
                former: Some(Former { held, path }),
            },
            folder,
            before,
            after,
        }
    }

    fn trees() -> Stage {
        let other = Sample::tree("photos", vec![("new", Some(b"new".to_vec()))]);
        Stage::new(Sample::mixed(), other)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn clear(&self) -> Option<PathBuf> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        clear(&disk, &self.plan, Some((&self.before.content, &self.known))).unwrap()
    }

    fn exchange(&self) -> Option<PathBuf> {
        move_in(&RealDisk, &self.plan).unwrap();
        self.clear()
    }

    /// Nothing is there but these.
    #[track_caller]
    fn assert_names(&self, names: &[&str]) {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut found: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(found, names);
    }
}

#[test]
fn the_new_version_has_the_name_and_nothing_is_left_of_the_former_one() {
    let stage = Stage::trees();
    assert_eq!(stage.exchange(), None);
    stage.after.assert_at(&stage.path("photos"));
    assert!(!stage.path("photos/run.sh").exists());
    stage.assert_names(&["photos"]);
}

#[test]
fn files_that_were_changed_or_added_are_kept_in_a_folder_beside() {
    let stage = Stage::trees();
    fs::write(stage.path("photos/run.sh"), "mine").unwrap();
    fs::write(stage.path("photos/a/added"), "mine too").unwrap();
    fs::create_dir(stage.path("photos.kept-1")).unwrap();
    let kept = stage.exchange().unwrap();
    assert_eq!(kept, stage.path("photos.kept-1-2"), "nothing is replaced");
    assert_eq!(fs::read(kept.join("run.sh")).unwrap(), b"mine");
    assert_eq!(fs::read(kept.join("a/added")).unwrap(), b"mine too");
    assert!(!kept.join("a/b").exists() && !kept.join("z").exists());
    stage.after.assert_at(&stage.path("photos"));
    stage.assert_names(&["photos", "photos.kept-1", "photos.kept-1-2"]);
}

#[test]
fn one_file_takes_the_place_of_another_one_and_a_changed_one_is_kept() {
    let file = |byte| Sample::file("film", vec![byte; 1000]);
    let stage = Stage::new(file(1), file(2));
    assert_eq!(stage.exchange(), None);
    stage.after.assert_at(&stage.path("film"));
    stage.assert_names(&["film"]);

    let stage = Stage::new(file(1), file(2));
    fs::write(stage.path("film"), "mine").unwrap();
    let kept = stage.exchange().unwrap();
    assert_eq!(fs::read(&kept).unwrap(), b"mine");
    stage.after.assert_at(&stage.path("film"));
    stage.assert_names(&["film", "film.kept-1"]);
}

#[test]
fn when_the_name_is_taken_the_former_version_is_where_it_was() {
    let mut stage = Stage::trees();
    stage.plan.name = "other".to_owned();
    fs::rename(
        stage.plan.staged.join("photos"),
        stage.plan.staged.join("other"),
    )
    .unwrap();
    fs::write(stage.path("other"), "in the way").unwrap();
    let error = move_in(&RealDisk, &stage.plan).unwrap_err();
    assert!(matches!(error, StoreError::TargetExists { .. }), "{error}");
    stage.before.assert_at(&stage.path("photos"));
    assert_eq!(fs::read(stage.path("other")).unwrap(), b"in the way");
    // Once it is out of the way the same goes on.
    fs::remove_file(stage.path("other")).unwrap();
    assert_eq!(stage.exchange(), None);
    stage.after.assert_at(&stage.path("other"));
    stage.assert_names(&["other"]);
}

#[test]
fn an_exchange_that_was_cut_off_is_gone_on_with() {
    // Only the former version is aside.
    let stage = Stage::trees();
    let former = stage.path("photos");
    set_aside(&RealDisk, &former, &stage.plan.aside()).unwrap();
    assert_eq!(stage.exchange(), None);
    stage.after.assert_at(&stage.path("photos"));
    stage.assert_names(&["photos"]);

    // The new one is in its place, and half of the former one is deleted.
    let stage = Stage::trees();
    fs::write(stage.path("photos/z"), "mine").unwrap();
    move_in(&RealDisk, &stage.plan).unwrap();
    fs::remove_file(stage.plan.aside().join("photos/run.sh")).unwrap();
    let kept = stage.exchange().unwrap();
    assert_eq!(fs::read(kept.join("z")).unwrap(), b"mine");
    stage.after.assert_at(&stage.path("photos"));

    // All is done but the note of it.
    assert_eq!(stage.exchange(), None);
    stage.after.assert_at(&stage.path("photos"));
    stage.assert_names(&["photos", "photos.kept-1"]);
}

#[test]
fn what_is_not_known_is_kept_whole() {
    let stage = Stage::trees();
    move_in(&RealDisk, &stage.plan).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let kept = clear(&disk, &stage.plan, None).unwrap().unwrap();
    stage.before.assert_at(&kept);
    stage.after.assert_at(&stage.path("photos"));
}
