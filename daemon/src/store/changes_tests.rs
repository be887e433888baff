//! What was done to files behind our back, and what of it is seen.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;
use crate::store::disk::RealDisk;
use crate::store::samples::{Sample, noise, read};

/// What it is called, how it is done, which files it changes, and which only reading tells of.
type Change = (&'static str, fn(&Path), &'static [u32], &'static [u32]);

/// The file of [`Sample::mixed`] that is changed, and its number.
const SMALL: (&str, u32) = ("a/b/small", 2);

/// The file beside it.
const DEEP: (&str, u32) = ("a/b/deep.bin", 1);

#[test]
fn what_was_done_to_a_file_is_seen_without_opening_it_and_the_others_are_what_they_were() {
    let small = &[SMALL.1];
    let change: [Change; 10] = [
        ("nothing", |_| (), &[], &[]),
        (
            "grown",
            |it| fs::write(it, noise(4, 1001)).unwrap(),
            small,
            &[],
        ),
        ("removed", |it| fs::remove_file(it).unwrap(), small, &[]),
        ("touched", touch, &[], small),
        ("made executable", make_executable, &[], small),
        ("edited", edit, &[], small),
        ("replaced by its copy", replace, &[], small),
        ("replaced by a link to it", link, small, &[]),
        ("a folder in its place", folder, small, &[]),
        ("its folder", move_folder, &[DEEP.1, SMALL.1], &[]),
    ];
    for (what, change, changed, touched) in change {
        let laid = Laid::out();
        change(&laid.path.join(SMALL.0));
        let found = laid.files.differing();
        let found_touched: Vec<u32> = found.touched.iter().map(|it| it.file).collect();
        assert_eq!(
            (found.changed, found_touched),
            (changed.into(), touched.into()),
            "{what}"
        );
    }
}

#[test]
fn all_of_a_share_is_gone_once_its_path_leads_elsewhere() {
    let laid = Laid::out();
    let all: Vec<u32> = (0..laid.sample.content.file_count()).collect();
    let away = laid.path.with_file_name("away");
    fs::rename(&laid.path, &away).unwrap();
    assert_eq!(laid.changed(), all, "moved");
    fs::create_dir(&laid.path).unwrap();
    assert_eq!(laid.changed(), all, "another folder is there");
    fs::remove_dir(&laid.path).unwrap();
    fs::rename(&away, &laid.path).unwrap();
    assert!(laid.changed().is_empty(), "moved back");
    let parent = laid.path.parent().unwrap();
    let away = parent.with_file_name("parent-away");
    fs::rename(parent, &away).unwrap();
    assert_eq!(laid.changed(), all, "the folder that it lies in was moved");
}

#[test]
fn a_single_file_is_one_of_one() {
    let sample = Sample::file("f", noise(1, 100));
    let laid = Laid::of(sample, "f");
    assert!(laid.changed().is_empty());
    fs::remove_file(&laid.path).unwrap();
    assert_eq!(laid.changed(), [0]);
}

#[test]
fn what_is_right_can_be_read_though_a_file_beside_it_has_changed() {
    let laid = Laid::out();
    fs::write(laid.path.join(SMALL.0), "else").unwrap();
    let (files, differing) = laid.open_differing();
    assert_eq!(differing.changed, [SMALL.1]);
    assert!(differing.touched.is_empty());
    for chunk in laid.sample.chunks() {
        let layout = &laid.sample.content.layout;
        let is_changed = layout.extents(chunk).any(|it| it.file == SMALL.1);
        let bytes = read(&files, chunk, 0, layout.chunk_len(chunk));
        match is_changed {
            true => assert!(matches!(bytes, Err(StoreError::Changed { .. }))),
            false => assert_eq!(bytes.unwrap(), laid.sample.chunk(chunk)),
        }
    }
}

#[test]
fn reading_tells_what_is_wrong_and_what_was_put_back_is_right_again() {
    let laid = Laid::out();
    let small = laid.path.join(SMALL.0);
    let right = fs::read(&small).unwrap();
    let size = right.len();
    touch(&laid.path.join(DEEP.0));
    for wrong in [noise(9, size), noise(9, size - 1)] {
        fs::write(&small, wrong).unwrap();
        assert_eq!(laid.read(), ([SMALL.1].to_vec(), [SMALL.1].to_vec()));
    }
    fs::remove_file(&small).unwrap();
    assert_eq!(laid.read(), ([SMALL.1].to_vec(), [SMALL.1].to_vec()));
    fs::write(&small, right).unwrap();
    assert_eq!(laid.read(), (Vec::new(), Vec::new()));
}

/// A share that lies where a person would have it.
struct Laid {
    _folder: tempfile::TempDir,
    path: PathBuf,
    sample: Sample,
    files: ShareFiles,
    identities: Identities,
}

impl Laid {
    fn out() -> Laid {
        Laid::of(Sample::mixed(), "share")
    }

    fn of(sample: Sample, name: &str) -> Laid {
        let folder = tempfile::tempdir().unwrap();
        let parent = folder.path().join("parent");
        fs::create_dir(&parent).unwrap();
        let path = parent.join(name);
        sample.lay_out(&path);
        let opened = ShareFiles::open_as_it_is(disk(), &path, &sample.content);
        let (files, identities) = opened.unwrap().unwrap();
        Laid {
            _folder: folder,
            path,
            sample,
            files,
            identities,
        }
    }

    fn changed(&self) -> Vec<u32> {
        let differing = self.files.differing();
        assert!(differing.touched.is_empty());
        differing.changed
    }

    fn open_differing(&self) -> (ShareFiles, Differing) {
        let content = &self.sample.content;
        ShareFiles::open_differing(disk(), &self.path, content, &self.identities).unwrap()
    }

    /// What is found to be wrong when all is read, and what of that a look at it finds afterwards.
    fn read(&self) -> (Vec<u32>, Vec<u32>) {
        let (content, read) = (&self.sample.content, AtomicU64::default());
        let opened = ShareFiles::open_read(disk(), &self.path, content, &read);
        let (files, identities, wrong) = opened.unwrap();
        assert_eq!(identities.0.len(), content.file_count() as usize);
        let looked = files.differing();
        assert!(
            looked.touched.is_empty(),
            "what was wrong is no longer believed"
        );
        (wrong, looked.changed)
    }
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn touch(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
}

fn make_executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn edit(path: &Path) {
    let size = fs::metadata(path).unwrap().len() as usize;
    fs::write(path, noise(99, size)).unwrap();
}

fn replace(path: &Path) {
    fs::copy(path, path.with_extension("new")).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

fn link(path: &Path) {
    let moved = path.with_extension("moved");
    fs::rename(path, &moved).unwrap();
    symlink(moved, path).unwrap();
}

fn folder(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
}

fn move_folder(path: &Path) {
    let folder = path.parent().unwrap();
    fs::rename(folder, folder.with_extension("moved")).unwrap();
}
