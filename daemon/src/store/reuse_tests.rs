//! What of a version before is taken into the next one, and that nothing is believed unread.

use std::fs;
use std::sync::Mutex;

use super::*;
use crate::store::disk::RealDisk;
use crate::store::faulty::FaultyDisk;
use crate::store::samples::{CHUNK_BYTES, Sample, quick_folder};

/// The sample with other bytes in some files, and other names.
fn later() -> Sample {
    let mut sample = Sample::mixed();
    let mut take = |path: &str| {
        let content = sample.content.clone();
        let file = (0..content.file_count())
            .find(|file| content.file_path(*file).unwrap().as_str() == path)
            .unwrap();
        std::mem::take(&mut sample.files[file as usize])
    };
    let (mut deep, small, dash) = (take("a/b/deep.bin"), take("a/b/small"), take("a-b"));
    let (run, z) = (take("run.sh"), take("z"));
    // In the second of three chunks.
    deep[CHUNK_BYTES + 7] ^= 1;
    Sample::tree(
        "photos",
        vec![
            ("a/b/deep.bin", Some(deep)),
            ("a/b/small", Some(small)),
            ("elsewhere/z", Some(z)),
            ("empty", Some(Vec::new())),
            ("new-name", Some(dash)),
            ("run.sh", Some([&run[..], b"more"].concat())),
        ],
    )
}

/// A source that lies in a folder under its own name.
fn source(folder: &Path, sample: &Sample) -> Source {
    let path = folder.join(sample.content.name.as_str());
    sample.lay_out(&path);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    Arc::new(ShareFiles::open_as_source(disk, &path, &sample.content).unwrap())
}

fn partial(folder: &Path, sample: &Sample) -> ShareFiles {
    ShareFiles::create_partial(Arc::new(RealDisk), &sample.path_in(folder), &sample.content)
        .unwrap()
}

fn nothing(sample: &Sample) -> ChunkSet {
    ChunkSet::empty(sample.content.layout.chunk_count())
}

/// The chunks of which all bytes are at a place where they are looked for.
#[track_caller]
fn check(files: &ShareFiles, sample: &Sample, taken: &ChunkSet, missing: &[&str]) {
    for chunk in sample.chunks() {
        let extents = sample.content.layout.extents(chunk);
        let names: Vec<String> = extents
            .map(|at| {
                let path = sample.content.file_path(at.file);
                format!("{}@{}", path.unwrap().as_str(), at.offset)
            })
            .collect();
        let is_missing = names.iter().any(|name| missing.contains(&name.as_str()));
        assert_eq!(taken.contains(chunk), !is_missing, "{names:?}");
        if !is_missing {
            let (mut bytes, expected) = (Vec::new(), sample.chunk(chunk));
            files
                .read(chunk, 0, expected.len() as u32, &mut bytes)
                .unwrap();
            assert_eq!(bytes, expected, "{names:?}");
        }
    }
}

#[test]
fn what_is_the_same_is_taken_whatever_it_is_called_and_the_rest_is_to_be_fetched() {
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sources = [source(before.path(), &Sample::mixed())];
    let sample = later();
    let files = partial(after.path(), &sample);
    let noted = Mutex::new(Vec::new());
    let note = |chunk| noted.lock().unwrap().push(chunk);
    let taken = files.take_over(&nothing(&sample), &sources, note).unwrap();
    let deep = format!("a/b/deep.bin@{CHUNK_BYTES}");
    check(&files, &sample, &taken, &[&deep, "run.sh@0"]);
    let mut noted = noted.into_inner().unwrap();
    noted.sort();
    assert!(taken.iter().eq(noted));
}

#[test]
fn what_is_there_already_is_not_taken_again() {
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sources = [source(before.path(), &Sample::mixed())];
    let sample = Sample::mixed();
    let files = partial(after.path(), &sample);
    let mut have = ChunkSet::full(sample.content.layout.chunk_count());
    let first = sample.chunks().next().unwrap();
    have.remove(first);
    let taken = files.take_over(&have, &sources, |_| ()).unwrap();
    assert!(taken.iter().eq([first]));
}

#[test]
fn files_that_were_changed_or_removed_since_give_nothing_wrong() {
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sample = Sample::mixed();
    let sources = [source(before.path(), &sample)];
    let root = before.path().join("photos");
    let mut deep = fs::read(root.join("a/b/deep.bin")).unwrap();
    deep[3] ^= 1;
    fs::write(root.join("a/b/deep.bin"), &deep[..CHUNK_BYTES + 10]).unwrap();
    fs::remove_file(root.join("z")).unwrap();
    let files = partial(after.path(), &sample);
    let taken = files
        .take_over(&nothing(&sample), &sources, |_| ())
        .unwrap();
    let deep = [0, 1, 2].map(|number| format!("a/b/deep.bin@{}", number * CHUNK_BYTES));
    let mut missing: Vec<&str> = deep.iter().map(String::as_str).collect();
    let z = format!("z@{CHUNK_BYTES}");
    missing.extend(["z@0", &z]);
    check(&files, &sample, &taken, &missing);
}

#[test]
fn a_download_that_is_not_complete_is_a_source_too() {
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sample = Sample::mixed();
    let unfinished = partial(before.path(), &sample);
    let first = sample.chunks().next().unwrap();
    let bytes = crate::store::segments::Segments::from(&sample.chunk(first)[..]);
    unfinished.write_chunk(first, &bytes).unwrap();
    let files = partial(after.path(), &sample);
    let sources = [Arc::new(unfinished)];
    let taken = files
        .take_over(&nothing(&sample), &sources, |_| ())
        .unwrap();
    assert!(taken.iter().eq([first]));
}

/// A short copy is gone on with, and one that fails costs the chunk alone.
#[test]
fn a_disk_that_fails_while_it_copies_costs_what_was_copied_then() {
    use crate::store::faulty::Fault;
    use rustix::io::Errno;
    let sample = Sample::mixed();
    for call in 0..200 {
        let (before, after) = (quick_folder(), quick_folder());
        let sources = [source(before.path(), &sample)];
        let disk = Arc::new(FaultyDisk::failing_at(call, Fault::Short(Errno::IO)));
        let made = ShareFiles::create_partial(
            disk.clone(),
            &sample.path_in(after.path()),
            &sample.content,
        );
        let Ok(files) = made else {
            continue;
        };
        let Ok(taken) = files.take_over(&nothing(&sample), &sources, |_| ()) else {
            continue;
        };
        for chunk in sample.chunks().filter(|chunk| taken.contains(*chunk)) {
            let (mut bytes, expected) = (Vec::new(), sample.chunk(chunk));
            let read = files.read(chunk, 0, expected.len() as u32, &mut bytes);
            assert!(read.is_err() || bytes == expected, "call {call}");
        }
        if !disk.fault_was_met() {
            assert!(taken.is_full());
            return;
        }
    }
    panic!("the fault was met each time");
}
