//! A folder of which first some files are wanted, then others, then all.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicBool;

use warren_proto::content::ChunkIndex;

use super::*;
use crate::store::disk::RealDisk;
use crate::store::faulty::{Fault, FaultyDisk};
use crate::store::rereading::{Noted, Reading, Reread};
use crate::store::samples::{CHUNK_BYTES, Sample, quick_folder, read};

/// Numbers of files in [`Sample::mixed`], in the order of its listing.
const A_B: u32 = 0;
const DEEP: u32 = 1;
const SMALL: u32 = 2;
const EMPTY: u32 = 3;
/// Shares its chunk with [`SMALL`].
const RUN: u32 = 4;
const Z: u32 = 5;

#[test]
fn only_wanted_files_are_made_and_get_their_names() {
    let (downloads, sample) = (tempfile::tempdir().unwrap(), Sample::mixed());
    let files = create(downloads.path(), &sample, &[DEEP, EMPTY]);
    assert_eq!(
        tree(downloads.path()),
        ["photos.part/a/b/deep.bin", "photos.part/empty"]
    );
    let part = downloads.path().join("photos.part/a/b/deep.bin");
    assert_eq!(
        fs::metadata(part).unwrap().len(),
        2 * CHUNK_BYTES as u64 + 100
    );
    write(&files, &sample, &[DEEP]);
    files.settle(&chosen(&[DEEP, EMPTY])).unwrap();
    assert_eq!(
        tree(downloads.path()),
        ["photos/a/b/deep.bin", "photos/empty"]
    );
    check(&files, &sample, &[DEEP]);
}

#[test]
fn what_came_beside_a_wanted_file_is_kept_aside_and_not_fetched_again() {
    let (downloads, sample) = (tempfile::tempdir().unwrap(), Sample::mixed());
    let files = create(downloads.path(), &sample, &[SMALL]);
    write(&files, &sample, &[SMALL]);
    let settled = files.settle(&chosen(&[SMALL])).unwrap();
    let aside = aside(&sample);
    let left = format!("{aside}/a-b");
    let expected = [
        left.clone(),
        format!("{aside}/run.sh"),
        "photos/a/b/small".to_owned(),
    ];
    assert_eq!(tree(downloads.path()), expected);
    assert!(settled.has(SMALL) && !settled.has(RUN));
    check(&files, &sample, &[SMALL]);

    // Wanted later, it is there at once, also after a restart.
    drop(files);
    let files = reopen(downloads.path(), &sample, &[SMALL, RUN], &settled).unwrap();
    check(&files, &sample, &[SMALL, RUN]);
    assert_eq!(
        tree(downloads.path()),
        [left.as_str(), "photos.part/run.sh", "photos/a/b/small"]
    );
    files.settle(&chosen(&[SMALL, RUN])).unwrap();
    let tool = downloads.path().join("photos/run.sh");
    assert_eq!(
        fs::metadata(tool).unwrap().permissions().mode() & 0o100,
        0o100
    );
}

#[test]
fn what_is_wanted_may_change_at_any_time_until_all_is_there() {
    let (downloads, sample) = (tempfile::tempdir().unwrap(), Sample::mixed());
    // Wanted whole at first, and some of it there.
    let files =
        ShareFiles::create_partial(disk(), &sample.path_in(downloads.path()), &sample.content)
            .unwrap();
    write(&files, &sample, &[DEEP, A_B]);
    // What shares a chunk with it has come too.
    let has = |file| [DEEP, A_B, SMALL, RUN].contains(&file);
    files.choose(&chosen(&[Z, A_B]), has).unwrap();
    let aside = aside(&sample);
    let expected = [
        format!("{aside}/a/b/deep.bin"),
        format!("{aside}/a/b/small"),
        format!("{aside}/run.sh"),
        "photos.part/a-b".into(),
        "photos.part/z".into(),
    ];
    assert_eq!(tree(downloads.path()), expected);
    check(&files, &sample, &[DEEP, A_B]);
    write(&files, &sample, &[Z]);
    let settled = files.settle(&chosen(&[Z, A_B])).unwrap();
    files.choose(&chosen(&[DEEP, Z, A_B]), |_| true).unwrap();
    check(&files, &sample, &[DEEP, A_B, Z]);

    drop(files);
    let all = [A_B, DEEP, SMALL, EMPTY, RUN, Z];
    let files = reopen(downloads.path(), &sample, &all, &settled).unwrap();
    check(&files, &sample, &[DEEP, A_B, Z]);
    write(&files, &sample, &[SMALL, RUN]);
    let (path, identities) = files.finish().unwrap();
    sample.assert_at(&path);
    assert_eq!(
        fs::read_dir(downloads.path()).unwrap().count(),
        1,
        "nothing beside it"
    );
    drop(files);
    let files = ShareFiles::open_in_place(disk(), &path, &sample.content, &identities).unwrap();
    check(&files, &sample, &all);
}

#[test]
fn where_no_file_is_made_or_moved_the_disk_is_left_alone() {
    let (downloads, sample) = (tempfile::tempdir().unwrap(), Sample::mixed());
    let faulty = Arc::new(FaultyDisk::sound());
    let (disk, content): (Arc<dyn Disk>, _) = (faulty.clone(), &sample.content);
    let wanted = chosen(&[DEEP, Z]);
    let create = ShareFiles::create_chosen(
        disk.clone(),
        &sample.path_in(downloads.path()),
        content,
        &wanted,
    );
    let files = create.unwrap();
    let before = faulty.calls();
    files.choose(&wanted, |_| true).unwrap();
    assert_eq!(faulty.calls(), before);
    write(&files, &sample, &[Z]);
    drop(files);

    // After a restart what is there is looked at, and the first bytes bring the names to the medium.
    let part = downloads.path().join("photos.part/a/b/deep.bin");
    fs::File::options()
        .write(true)
        .open(&part)
        .unwrap()
        .set_len(1)
        .unwrap();
    let is_synced = Arc::new(AtomicBool::new(false));
    let synced = is_synced.clone();
    faulty.during_next_sync(move || synced.store(true, Ordering::Relaxed));
    let none = Identities::none();
    let open = ShareFiles::open_divided(
        disk,
        &sample.path_in(downloads.path()),
        content,
        &wanted,
        Some(&none),
    );
    let files = open.unwrap();
    files.sync().unwrap();
    assert!(!is_synced.load(Ordering::Relaxed));
    let len = fs::metadata(&part).unwrap().len();
    assert_eq!(Some(len), sample.content.file_size(DEEP));
    write(&files, &sample, &[DEEP]);
    assert!(is_synced.load(Ordering::Relaxed));
}

#[test]
fn a_file_that_had_no_room_gets_its_length_when_it_is_chosen_again() {
    let sample = Sample::mixed();
    let (wanted, full) = (chosen(&[DEEP, Z]), Fault::Once(rustix::io::Errno::NOSPC));
    let mut n = 0;
    loop {
        let downloads = quick_folder();
        let faulty = Arc::new(FaultyDisk::failing_at(n, full));
        let (disk, at): (Arc<dyn Disk>, _) = (faulty.clone(), downloads.path());
        let created =
            ShareFiles::create_partial(self::disk(), &sample.path_in(at), &sample.content);
        drop(created.unwrap());
        let opened = ShareFiles::open_partial(disk, &sample.path_in(at), &sample.content);
        let chosen = opened.map(|files| (files.choose(&chosen(&[DEEP]), |_| false), files));
        if let Ok((Ok(()), files)) = chosen {
            // Whichever call fails, the next attempt has it right.
            let _ = files.choose(&wanted, |_| false);
            files.choose(&wanted, |_| false).unwrap();
            for file in [DEEP, Z] {
                let path = files.divided_path(file).unwrap();
                let len = fs::metadata(path).unwrap().len();
                assert_eq!(Some(len), sample.content.file_size(file), "after call {n}");
            }
            if !faulty.fault_was_met() {
                break;
            }
        }
        n += 1;
    }
    assert!(n > 20, "{n} calls");
}

#[test]
fn files_of_others_under_the_final_name_are_left_alone() {
    let (downloads, sample) = (tempfile::tempdir().unwrap(), Sample::mixed());
    let files = create(downloads.path(), &sample, &[Z]);
    write(&files, &sample, &[Z]);
    let settled = files.settle(&chosen(&[Z])).unwrap();
    let mine = downloads.path().join("photos/a-b");
    fs::write(&mine, "mine").unwrap();
    files.choose(&chosen(&[Z, A_B]), |_| false).unwrap();
    write(&files, &sample, &[A_B]);
    let taken = files.settle(&chosen(&[Z, A_B]));
    assert!(matches!(taken, Err(StoreError::TargetExists { path }) if path == mine));
    drop(files);
    let files = reopen(downloads.path(), &sample, &[Z, A_B], &settled).unwrap();
    check(&files, &sample, &[Z, A_B]);
    assert_eq!(fs::read(&mine).unwrap(), b"mine");
    fs::remove_file(&mine).unwrap();
    files.settle(&chosen(&[Z, A_B])).unwrap();
    check(&files, &sample, &[Z, A_B]);
}

#[test]
fn a_folder_that_somebody_makes_meanwhile_is_not_taken_for_ours_after_a_restart() {
    let (downloads, sample) = (tempfile::tempdir().unwrap(), Sample::mixed());
    let mut files = create(downloads.path(), &sample, &[Z]);
    write(&files, &sample, &[Z]);
    let theirs = downloads.path().join("photos");
    fs::create_dir(&theirs).unwrap();
    fs::write(
        theirs.join("a-b"),
        sample.chunk(chunks_of(&sample, &[A_B])[0]),
    )
    .unwrap();
    for _ in 0..2 {
        let taken = files.settle(&chosen(&[Z]));
        assert!(matches!(taken, Err(StoreError::TargetExists { path }) if path == theirs));
        drop(files);
        files = reopen(downloads.path(), &sample, &[Z], &Identities::none()).unwrap();
        check(&files, &sample, &[Z]);
        assert!(!files.settled().unwrap().has(Z));
    }
    assert_eq!(tree(&theirs), ["a-b"]);
}

#[test]
fn a_settled_file_that_changes_is_no_longer_given() {
    let (downloads, sample) = (tempfile::tempdir().unwrap(), Sample::mixed());
    let files = create(downloads.path(), &sample, &[Z]);
    write(&files, &sample, &[Z]);
    let settled = files.settle(&chosen(&[Z])).unwrap();
    assert!(files.differing().is_empty());
    let path = downloads.path().join("photos/z");
    fs::write(&path, "changed").unwrap();
    let z = sample.content.layout.chunk(3).unwrap();
    let result = read(&files, z, 0, CHUNK_BYTES as u32);
    assert!(
        matches!(result, Err(StoreError::Changed { .. })),
        "{result:?}"
    );
    assert!(!files.differing().is_empty());
    drop(files);
    let found = reopen(downloads.path(), &sample, &[Z], &settled);
    assert!(matches!(found, Err(StoreError::Changed { path: at }) if at == path));
}

#[test]
fn a_settled_file_that_was_only_touched_is_read_and_found_right_by_the_next_start() {
    let (downloads, sample) = (tempfile::tempdir().unwrap(), Sample::mixed());
    let files = create(downloads.path(), &sample, &[Z]);
    write(&files, &sample, &[Z]);
    let settled = files.settle(&chosen(&[Z])).unwrap();
    drop(files);
    let path = downloads.path().join("photos/z");
    let touch = || {
        let file = fs::File::open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    };
    touch();
    let files = reopen(downloads.path(), &sample, &[Z], &settled).unwrap();
    check(&files, &sample, &[Z]);
    let noted = files.settled().unwrap();
    assert_ne!(noted, settled);
    drop(files);
    let right = fs::read(&path).unwrap();
    fs::write(&path, vec![7; right.len()]).unwrap();
    touch();
    let found = reopen(downloads.path(), &sample, &[Z], &noted);
    assert!(matches!(found, Err(StoreError::Changed { path: at }) if at == path));
}

#[test]
fn a_settled_file_that_was_touched_is_given_again_once_it_was_read_and_one_that_was_edited_never() {
    let (downloads, sample) = (tempfile::tempdir().unwrap(), Sample::mixed());
    let files = create(downloads.path(), &sample, &[Z]);
    write(&files, &sample, &[Z]);
    files.settle(&chosen(&[Z])).unwrap();
    let path = downloads.path().join("photos/z");
    let len = fs::read(&path).unwrap().len();
    for is_edited in [false, true] {
        if is_edited {
            fs::write(&path, vec![7; len]).unwrap();
        }
        let file = fs::File::open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        let differing = files.differing();
        let [touched] = differing.touched[..] else {
            panic!("one file was touched: {differing:?}");
        };
        assert_eq!((touched.file, differing.changed), (Z, Vec::new()));
        let z = sample.content.layout.chunk(3).unwrap();
        read(&files, z, 0, CHUNK_BYTES as u32).unwrap_err();
        let reread = files.reread(touched, &Reading::default()).unwrap();
        let given = read(&files, z, 0, CHUNK_BYTES as u32);
        match is_edited {
            true => assert_eq!((reread, given.is_ok()), (Reread::Wrong, false)),
            false => assert_eq!((reread, given.unwrap()), (Reread::Right, sample.chunk(z))),
        }
    }
    let noted = files.noted();
    assert!(matches!(noted, Noted::Settled(settled) if settled.has(Z) && !settled.has(SMALL)));
    fs::remove_file(&path).unwrap();
    assert_eq!(files.differing().changed, [Z]);
}

#[test]
fn cancelling_leaves_what_has_its_name() {
    let (downloads, sample) = (tempfile::tempdir().unwrap(), Sample::mixed());
    let files = create(downloads.path(), &sample, &[SMALL]);
    write(&files, &sample, &[SMALL]);
    files.settle(&chosen(&[SMALL])).unwrap();
    files.choose(&chosen(&[SMALL, DEEP]), |_| true).unwrap();
    files.discard_partial().unwrap();
    assert_eq!(tree(downloads.path()), ["photos/a/b/small"]);
    assert!(!downloads.path().join(aside(&sample)).exists());
    assert!(!downloads.path().join("photos.part").exists());
}

#[test]
fn wherever_it_fails_nothing_that_came_is_lost() {
    let sample = Sample::mixed();
    // What the database would hold.
    let settled = RefCell::new(Identities::none());
    let life = |disk: Arc<dyn Disk>, downloads: &Path| -> Result<(), StoreError> {
        let content = &sample.content;
        let files = ShareFiles::create_chosen(
            disk,
            &sample.path_in(downloads),
            content,
            &chosen(&[SMALL]),
        )?;
        let pack = content.layout.chunk(5).unwrap();
        files.write_chunk(pack, &sample.chunk(pack)[..].into())?;
        settled.replace(files.settle(&chosen(&[SMALL]))?);
        files.choose(&chosen(&[SMALL, RUN, Z]), |_| true)?;
        settled.replace(files.settle(&chosen(&[SMALL, RUN]))?);
        Ok(())
    };
    let (mut n, written) = (0, calls_until_written(&sample));
    loop {
        let downloads = quick_folder();
        let disk = FaultyDisk::failing_at(n, Fault::From(rustix::io::Errno::IO));
        let lived = life(Arc::new(disk), downloads.path());
        if lived.is_ok() {
            break;
        }
        // What is found afterwards has what was written, if it was written at all.
        let wanted = chosen(&[SMALL, RUN]);
        let (content, settled) = (&sample.content, settled.replace(Identities::none()));
        let found = self::disk();
        let found = ShareFiles::open_divided(
            found,
            &sample.path_in(downloads.path()),
            content,
            &wanted,
            Some(&settled),
        );
        if n > written {
            let pack = content.layout.chunk(5).unwrap();
            let is_there = found.and_then(|files| files.verify(pack));
            assert!(matches!(is_there, Ok(true)), "after call {n}: {is_there:?}");
        }
        n += 1;
    }
    assert!(n > 40, "{n} calls");
}

/// How many calls of the disk it takes until the pack of the life above is written.
fn calls_until_written(sample: &Sample) -> u64 {
    (0..)
        .find(|n| {
            let downloads = quick_folder();
            let disk = FaultyDisk::failing_at(*n, Fault::From(rustix::io::Errno::IO));
            let (disk, content): (Arc<dyn Disk>, _) = (Arc::new(disk), &sample.content);
            let files = ShareFiles::create_chosen(
                disk,
                &sample.path_in(downloads.path()),
                content,
                &chosen(&[SMALL]),
            );
            let pack = content.layout.chunk(5).unwrap();
            files.is_ok_and(|files| {
                files
                    .write_chunk(pack, &sample.chunk(pack)[..].into())
                    .is_ok()
            })
        })
        .unwrap()
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn create(downloads: &Path, sample: &Sample, files: &[u32]) -> ShareFiles {
    let wanted = chosen(files);
    ShareFiles::create_chosen(disk(), &sample.path_in(downloads), &sample.content, &wanted).unwrap()
}

fn reopen(
    downloads: &Path,
    sample: &Sample,
    files: &[u32],
    settled: &Identities,
) -> Result<ShareFiles, StoreError> {
    let wanted = chosen(files);
    ShareFiles::open_divided(
        disk(),
        &sample.path_in(downloads),
        &sample.content,
        &wanted,
        Some(settled),
    )
}

fn chosen(files: &[u32]) -> Vec<bool> {
    (0..6).map(|file| files.contains(&file)).collect()
}

/// The chunks with bytes of these files.
fn chunks_of(sample: &Sample, files: &[u32]) -> Vec<ChunkIndex> {
    let has = |chunk: &ChunkIndex| {
        let mut extents = sample.content.layout.extents(*chunk);
        extents.any(|at| files.contains(&at.file))
    };
    sample.chunks().filter(has).collect()
}

fn write(files: &ShareFiles, sample: &Sample, of: &[u32]) {
    for chunk in chunks_of(sample, of) {
        files
            .write_chunk(chunk, &sample.chunk(chunk)[..].into())
            .unwrap();
    }
    files.sync().unwrap();
}

/// Fails unless exactly these chunks are there, and can be read.
#[track_caller]
fn check(files: &ShareFiles, sample: &Sample, of: &[u32]) {
    let expected = chunks_of(sample, of);
    for chunk in sample.chunks() {
        let is_there = files.verify(chunk).unwrap();
        assert_eq!(is_there, expected.contains(&chunk), "{chunk:?}");
        if is_there {
            let len = sample.content.layout.chunk_len(chunk);
            assert_eq!(read(files, chunk, 0, len).unwrap(), sample.chunk(chunk));
        }
    }
}

fn aside(sample: &Sample) -> String {
    format!(".photos~{}.aside", &sample.content.id.to_string()[..16])
}

/// The paths of all files, sorted.
fn tree(folder: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => paths.push(path),
            }
        }
    }
    let relative = |path: PathBuf| path.strip_prefix(folder).unwrap().display().to_string();
    let mut paths: Vec<String> = paths.into_iter().map(relative).collect();
    paths.sort();
    paths
}
