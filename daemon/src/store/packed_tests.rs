use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::store::disk::RealDisk;
use crate::store::samples::{Item, Sample, noise};

fn create(downloads: &Path, sample: &Sample) -> ShareFiles {
    let path = sample.path_in(downloads);
    ShareFiles::create_partial(Arc::new(RealDisk), &path, &sample.content).unwrap()
}

fn open(downloads: &Path, sample: &Sample) -> ShareFiles {
    let path = sample.path_in(downloads);
    ShareFiles::open_partial(Arc::new(RealDisk), &path, &sample.content).unwrap()
}

fn of_small(names: &[&'static str]) -> Sample {
    let items: Vec<Item> = names
        .iter()
        .map(|name| (*name, Some(noise(name.len() as u64, 700))))
        .collect();
    Sample::tree("photos", items)
}

fn write(files: &ShareFiles, sample: &Sample) {
    for chunk in sample.chunks() {
        let bytes = sample.chunk(chunk);
        files.write_chunk(chunk, &bytes[..].into()).unwrap();
    }
}

#[test]
fn a_small_file_is_there_once_it_has_come_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let sample = of_small(&["a/one", "a/two", "three"]);
    let files = create(folder.path(), &sample);
    let part = folder.path().join("photos.part");
    assert!(part.join("a").is_dir() && !part.join("a/one").exists());
    assert_eq!(files.identities_now().unwrap().0, [ABSENT; 3]);
    for chunk in sample.chunks() {
        assert!(!files.verify(chunk).unwrap());
    }
    write(&files, &sample);
    files.sync().unwrap();
    assert!(sample.chunks().all(|chunk| files.verify(chunk).unwrap()));
    let (path, identities) = files.finish().unwrap();
    sample.assert_at(&path);
    assert!((0..3).all(|file| identities.has(file)));
    assert_eq!(files.identities_now().unwrap(), identities);
    assert!(files.differing().is_empty());
}

#[test]
fn what_was_there_and_is_gone_after_a_restart_is_told_by_the_identities() {
    let folder = tempfile::tempdir().unwrap();
    let sample = of_small(&["a/one", "b/two"]);
    let files = create(folder.path(), &sample);
    write(&files, &sample);
    let before = files.identities_now().unwrap();
    drop(files);
    let again = open(folder.path(), &sample);
    assert_eq!(again.identities_now().unwrap(), before);
    drop(again);
    fs::remove_file(folder.path().join("photos.part/b/two")).unwrap();
    let again = open(folder.path(), &sample);
    assert_ne!(again.identities_now().unwrap(), before);
    assert!(!sample.chunks().all(|chunk| again.verify(chunk).unwrap()));
    write(&again, &sample);
    assert!(sample.chunks().all(|chunk| again.verify(chunk).unwrap()));
}

#[test]
fn what_is_written_again_replaces_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let sample = of_small(&["one", "two"]);
    let files = create(folder.path(), &sample);
    fs::write(folder.path().join("photos.part/one"), vec![7; 700]).unwrap();
    write(&files, &sample);
    write(&files, &sample);
    sample.assert_at(&files.finish().unwrap().0);
}

#[test]
fn a_link_in_the_place_of_a_small_file_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let sample = of_small(&["one"]);
    let files = create(folder.path(), &sample);
    let victim = folder.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    for target in [victim.clone(), folder.path().join("not-there")] {
        let at = folder.path().join("photos.part/one");
        symlink(&target, &at).unwrap();
        for chunk in sample.chunks() {
            let written = files.write_chunk(chunk, &sample.chunk(chunk)[..].into());
            assert!(matches!(written, Err(StoreError::Changed { .. })));
        }
        fs::remove_file(at).unwrap();
    }
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert!(!folder.path().join("not-there").exists());
}

#[test]
fn where_two_names_may_be_one_to_a_file_system_all_files_are_made_at_the_start() {
    let may_be_one: [&[&'static str]; 7] = [
        &["a", "A"],
        &["dir/a", "DIR/a"],
        &["gr\u{fc}n"],
        &["\u{212a}", "k"],
        &["longfi~1.txt", "longfilename.txt"],
        &["a", "a."],
        &["dir /a", "dir/a"],
    ];
    for names in may_be_one {
        let folder = tempfile::tempdir().unwrap();
        let sample = of_small(names);
        let _files = create(folder.path(), &sample);
        for name in names {
            let made = folder.path().join("photos.part").join(name);
            assert_eq!(fs::metadata(made).unwrap().len(), 700, "{name}");
        }
    }
    let distinct = of_small(&["a/b", "a/c", "B", "x y.txt", "z-1_(2)"]);
    assert!(is_distinct(&distinct.content));
}

#[test]
fn when_only_some_are_wanted_those_are_made_that_had_not_come() {
    let folder = tempfile::tempdir().unwrap();
    let sample = of_small(&["a/one", "b/two", "three"]);
    let files = create(folder.path(), &sample);
    // In the order of the listing.
    files.choose(&[true, false, true], |_| false).unwrap();
    let part = folder.path().join("photos.part");
    assert_eq!(fs::metadata(part.join("a/one")).unwrap().len(), 700);
    assert_eq!(fs::metadata(part.join("three")).unwrap().len(), 700);
    assert!(!part.join("b/two").exists());
    files.choose(&[true, true, true], |_| false).unwrap();
    write(&files, &sample);
    sample.assert_at(&files.finish().unwrap().0);
}

#[test]
fn any_number_of_folders_is_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<&'static str> = (0..600)
        .map(|number| &*format!("{}/{number}", number / 7).leak())
        .collect();
    let sample = of_small(&names);
    let files = create(folder.path(), &sample);
    write(&files, &sample);
    let all = files.identities_now().unwrap();
    for file in 0..600 {
        assert_eq!(files.identity_now(file).unwrap(), all.0[file as usize]);
    }
}
