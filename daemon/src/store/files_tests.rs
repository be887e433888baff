//! A share's life on disk: downloaded, restarted, finished, changed behind our back, attacked.

use std::fs;
use std::os::unix::fs::symlink;

use warren_proto::content::{HashList, ShareName};

use super::*;

use crate::store::disk::RealDisk;
use crate::store::faulty::FaultyDisk;
use crate::store::samples::{CHUNK_BYTES, Sample, noise, read};

/// A name and a way to change a file behind our back.
type Mutation = (&'static str, fn(&Path));

#[test]
fn a_download_becomes_the_share() {
    for sample in [
        Sample::file("movie.mkv", noise(1, 3 * CHUNK_BYTES + 7)),
        Sample::file("note.txt", noise(2, 10)),
        Sample::file("empty", Vec::new()),
        Sample::mixed(),
        Sample::tree("hollow", vec![]),
        Sample::tree("folders", vec![("a/b", None), ("c", None)]),
    ] {
        let downloads = tempfile::tempdir().unwrap();
        let files = create(downloads.path(), &sample);
        write_all(&files, &sample);
        files.sync().unwrap();
        let (path, identities) = files.finish().unwrap();

        assert_eq!(path, downloads.path().join(sample.content.name.as_str()));
        sample.assert_at(&path);
        assert_eq!(
            fs::read_dir(downloads.path()).unwrap().count(),
            1,
            "no .part is left"
        );
        check_reads(&files, &sample);
        check_reads(
            &open_in_place(&path, &sample, &identities).unwrap(),
            &sample,
        );
    }
}

#[track_caller]
fn check_reads(files: &ShareFiles, sample: &Sample) {
    for chunk in sample.chunks() {
        assert!(files.verify(chunk).unwrap());
        let expected = sample.chunk(chunk);
        for (offset, len) in sample.content.layout.grains(chunk) {
            let grain = read(files, chunk, offset, len).unwrap();
            assert_eq!(grain, expected[offset as usize..][..len as usize]);
        }
        assert_eq!(
            read(files, chunk, 0, expected.len() as u32).unwrap(),
            expected
        );
    }
}

#[test]
fn every_file_that_is_larger_than_a_chunk_has_its_full_length_from_the_start() {
    let downloads = tempfile::tempdir().unwrap();
    let sample = Sample::mixed();
    create(downloads.path(), &sample);
    let part = downloads.path().join("photos.part");
    let listing = sample.content.listing.as_ref().unwrap();
    let len = |path: &str| fs::metadata(part.join(path)).ok().map(|it| it.len());
    for file in listing.files() {
        let is_small = (1..=CHUNK_BYTES as u64).contains(&file.size);
        let expected = (!is_small).then_some(file.size);
        assert_eq!(len(file.path.as_str()), expected, "{}", file.path.as_str());
    }
    assert!(part.join("nothing/here").is_dir());
}

#[test]
fn after_a_restart_written_chunks_verify_and_missing_ones_do_not() {
    let downloads = tempfile::tempdir().unwrap();
    let sample = Sample::mixed();
    let files = create(downloads.path(), &sample);
    let even = |chunk: &ChunkIndex| chunk.value().is_multiple_of(2);
    for chunk in sample.chunks().filter(even) {
        files
            .write_chunk(chunk, &sample.chunk(chunk)[..].into())
            .unwrap();
    }
    drop(files);

    let files = open_partial(downloads.path(), &sample).unwrap();
    for chunk in sample.chunks() {
        assert_eq!(files.verify(chunk).unwrap(), even(&chunk));
    }
    write_all(&files, &sample);
    sample.assert_at(&files.finish().unwrap().0);
}

#[test]
fn a_taken_name_is_refused_and_left_alone() {
    for taken in ["movie", "movie.part"] {
        let downloads = tempfile::tempdir().unwrap();
        let path = downloads.path().join(taken);
        fs::write(&path, "mine").unwrap();
        let sample = Sample::file("movie", noise(1, 10));
        let made =
            ShareFiles::create_partial(disk(), &sample.path_in(downloads.path()), &sample.content);
        assert!(matches!(made, Err(StoreError::TargetExists { path: at }) if at == path));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert_eq!(fs::read_dir(downloads.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_name_taken_meanwhile_keeps_the_download_unfinished() {
    let downloads = tempfile::tempdir().unwrap();
    let sample = Sample::mixed();
    let files = create(downloads.path(), &sample);
    write_all(&files, &sample);
    let target = downloads.path().join("photos");
    fs::create_dir(&target).unwrap();
    assert!(matches!(files.finish(), Err(StoreError::TargetExists { path }) if path == target));

    fs::remove_dir(&target).unwrap();
    sample.assert_at(&files.finish().unwrap().0);
}

#[test]
fn a_share_that_does_not_fit_is_refused_with_both_numbers() {
    let downloads = tempfile::tempdir().unwrap();
    let size = 8 << 40;
    let chunks = warren_proto::content::Layout::file(size)
        .unwrap()
        .chunk_count();
    let hashes: HashList = (0..chunks).map(|_| [1; 32]).collect();
    let content = Content::file(ShareName::parse("huge").unwrap(), size, hashes).unwrap();
    let made =
        ShareFiles::create_partial(disk(), &downloads.path().join("huge"), &Arc::new(content));
    let error = made.unwrap_err();
    assert!(error.is_out_of_space());
    assert!(
        matches!(error, StoreError::NoSpace { needed, free, .. } if needed == size && free > 0)
    );
    assert_eq!(fs::read_dir(downloads.path()).unwrap().count(), 0);
}

#[test]
fn a_name_as_long_as_names_get_can_be_downloaded() {
    let downloads = tempfile::tempdir().unwrap();
    let name = "ä".repeat(127) + "x";
    assert_eq!(name.len(), 255);
    let (one, two) = (
        Sample::file(&name, noise(1, 9)),
        Sample::file(&name, noise(2, 9)),
    );
    let (files, _other) = (
        create(downloads.path(), &one),
        create(downloads.path(), &two),
    );
    write_all(&files, &one);
    assert_eq!(files.finish().unwrap().0, downloads.path().join(&name));
}

#[test]
fn chunks_and_ranges_of_the_wrong_length_are_refused() {
    let downloads = tempfile::tempdir().unwrap();
    let sample = Sample::file("f", noise(1, 2 * CHUNK_BYTES));
    let files = create(downloads.path(), &sample);
    let chunk = sample.chunks().next().unwrap();
    for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES + 1] {
        let error = files
            .write_chunk(chunk, &vec![0; len][..].into())
            .unwrap_err();
        assert!(matches!(error, StoreError::BadRange { .. }));
    }
    for (offset, len) in [
        (0, 0),
        (1, 1),
        (0, CHUNK_BYTES as u32 + 1),
        (u32::MAX, u32::MAX),
    ] {
        let error = read(&files, chunk, offset, len).unwrap_err();
        assert!(matches!(error, StoreError::BadRange { .. }));
    }
}

#[test]
fn a_finished_share_is_not_written_to() {
    let downloads = tempfile::tempdir().unwrap();
    let sample = Sample::file("f", noise(1, 100));
    let files = create(downloads.path(), &sample);
    write_all(&files, &sample);
    files.finish().unwrap();
    let chunk = sample.chunks().next().unwrap();
    let error = files
        .write_chunk(chunk, &sample.chunk(chunk)[..].into())
        .unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }));
    assert!(matches!(
        files.discard_partial(),
        Err(StoreError::ReadOnly { .. })
    ));
    assert!(matches!(files.finish(), Err(StoreError::ReadOnly { .. })));
    files.sync().unwrap();
}

#[test]
fn a_symbolic_link_planted_in_a_download_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("small");
    fs::write(&victim, vec![b'x'; 1000]).unwrap();
    let sample = Sample::mixed();

    for plant_folder in [false, true] {
        let downloads = tempfile::tempdir().unwrap();
        drop(create(downloads.path(), &sample));
        let files = open_partial(downloads.path(), &sample).unwrap();
        files.open.clear();
        let folder = downloads.path().join("photos.part/a/b");
        if plant_folder {
            fs::remove_dir_all(&folder).unwrap();
            symlink(outside.path(), &folder).unwrap();
        } else {
            symlink(&victim, folder.join("small")).unwrap();
        }

        let written: Vec<_> = sample
            .chunks()
            .map(|chunk| files.write_chunk(chunk, &sample.chunk(chunk)[..].into()))
            .collect();
        assert!(
            written
                .iter()
                .any(|result| matches!(result, Err(StoreError::Changed { .. })))
        );
        open_partial(downloads.path(), &sample).unwrap_err();
        let _ = files.discard_partial();
        assert_eq!(fs::read(&victim).unwrap(), [b'x'; 1000]);
    }
}

#[test]
fn a_link_in_the_place_of_the_download_itself_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    for sample in [Sample::mixed(), Sample::file("photos", noise(1, 10))] {
        let downloads = tempfile::tempdir().unwrap();
        symlink(
            outside.path().join("x"),
            downloads.path().join("photos.part"),
        )
        .unwrap();
        let made =
            ShareFiles::create_partial(disk(), &sample.path_in(downloads.path()), &sample.content);
        assert!(matches!(made, Err(StoreError::TargetExists { .. })));
        open_partial(downloads.path(), &sample).unwrap_err();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}

#[test]
fn discarding_removes_what_was_made_and_only_that() {
    for sample in [Sample::mixed(), Sample::file("f", noise(1, 10))] {
        let downloads = tempfile::tempdir().unwrap();
        create(downloads.path(), &sample).discard_partial().unwrap();
        assert_eq!(fs::read_dir(downloads.path()).unwrap().count(), 0);
    }

    let downloads = tempfile::tempdir().unwrap();
    let files = create(downloads.path(), &Sample::mixed());
    let mine = downloads.path().join("photos.part/a/b/mine");
    fs::write(&mine, "mine").unwrap();
    files.discard_partial().unwrap();
    assert!(mine.exists());
    assert!(!downloads.path().join("photos.part/a/b/small").exists());
    assert!(!downloads.path().join("photos.part/nothing").exists());
}

#[test]
fn of_a_share_with_its_name_only_what_was_wanted_is_deleted() {
    let (downloads, sample) = (tempfile::tempdir().unwrap(), Sample::mixed());
    let files = create(downloads.path(), &sample);
    write_all(&files, &sample);
    let (path, identities) = files.finish().unwrap();
    let delete = |settled: Option<&Identities>| {
        ShareFiles::delete_named(
            disk(),
            &sample.path_in(downloads.path()),
            &sample.content,
            settled,
        )
        .unwrap();
    };
    let there = || {
        let files = 0..sample.content.file_count();
        let path_of = |file| path.join(sample.content.file_path(file).unwrap().as_str());
        files
            .filter(|file| path_of(*file).exists())
            .collect::<Vec<u32>>()
    };
    let all = there();
    assert!(all.len() > 2);
    delete(Some(&Identities::none()));
    assert_eq!(there(), all);
    let mut first = Identities(identities.0[..1].to_vec());
    delete(Some(&first));
    assert_eq!(there(), all[1..]);
    first.0.clear();
    delete(None);
    assert!(!path.exists());
}

#[test]
fn what_is_found_in_the_place_of_a_download_is_told_apart() {
    let downloads = tempfile::tempdir().unwrap();
    let sample = Sample::mixed();
    let found = open_partial(downloads.path(), &sample);
    assert!(matches!(found, Err(StoreError::Missing { .. })));

    let files = create(downloads.path(), &sample);
    let part = downloads.path().join("photos.part");
    fs::write(part.join("a/b/small"), "short").unwrap();
    fs::remove_file(part.join("empty")).unwrap();
    files.identities_now().unwrap_err();
    let mended = open_partial(downloads.path(), &sample).unwrap();
    assert_eq!(fs::metadata(part.join("a/b/small")).unwrap().len(), 1000);
    assert!(part.join("empty").exists());

    write_all(&mended, &sample);
    fs::rename(&part, downloads.path().join("photos")).unwrap();
    let found = open_partial(downloads.path(), &sample);
    assert!(matches!(found, Err(StoreError::AlreadyRenamed { .. })));
}

#[test]
fn a_file_changed_under_a_share_stops_serving() {
    let change: [Mutation; 6] = [
        ("rewritten", |path| fs::write(path, noise(9, 1000)).unwrap()),
        ("grown", |path| fs::write(path, noise(4, 1001)).unwrap()),
        ("cut", |path| fs::write(path, "").unwrap()),
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("touched", |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH)
                .unwrap();
        }),
        ("replaced by its copy", |path| {
            fs::copy(path, path.with_extension("new")).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
    ];
    for (what, change) in change {
        let folder = tempfile::tempdir().unwrap();
        let sample = Sample::mixed();
        let path = folder.path().join("share");
        sample.lay_out(&path);
        let identities = identities_of(&path, &sample);
        let files = open_in_place(&path, &sample, &identities).unwrap();
        assert_eq!(files.open.count(), 0, "thousands may be shared");
        let changed = path.join("a/b/small");
        change(&changed);

        let failed: Vec<_> = sample
            .chunks()
            .filter_map(|chunk| files.verify(chunk).err())
            .collect();
        assert!(
            matches!(&failed[..], [StoreError::Changed { path }] if *path == changed),
            "{what}: {failed:?}"
        );
        let opened = open_in_place(&path, &sample, &identities);
        assert!(
            matches!(&opened, Err(StoreError::Changed { path }) if *path == changed),
            "{what}: {opened:?}"
        );
    }
}

#[test]
fn a_change_is_seen_through_a_file_that_is_open_already() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::file("f", noise(1, 100));
    let path = folder.path().join("f");
    sample.lay_out(&path);
    let files = open_in_place(&path, &sample, &identities_of(&path, &sample)).unwrap();
    let chunk = sample.chunks().next().unwrap();
    read(&files, chunk, 0, 100).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(50).unwrap();
    assert!(matches!(
        read(&files, chunk, 0, 100),
        Err(StoreError::Changed { .. })
    ));
}

fn identities_of(path: &Path, sample: &Sample) -> Identities {
    let name = path.file_name().unwrap();
    let mut place = Place::open(&RealDisk, path.parent().unwrap(), name, name).unwrap();
    place.open_root(&RealDisk, &sample.content).unwrap();
    let state = State::Whole(Identities(Vec::new()));
    let files = ShareFiles::new(disk(), sample.content.clone(), place, state);
    let state = files.state();
    files.identities(&state).unwrap()
}

fn open_in_place(
    path: &Path,
    sample: &Sample,
    identities: &Identities,
) -> Result<ShareFiles, StoreError> {
    ShareFiles::open_in_place(disk(), path, &sample.content, identities)
}

fn open_partial(downloads: &Path, sample: &Sample) -> Result<ShareFiles, StoreError> {
    ShareFiles::open_partial(disk(), &sample.path_in(downloads), &sample.content)
}

fn create(downloads: &Path, sample: &Sample) -> ShareFiles {
    ShareFiles::create_partial(disk(), &sample.path_in(downloads), &sample.content).unwrap()
}

fn write_all(files: &ShareFiles, sample: &Sample) {
    for chunk in sample.chunks() {
        files
            .write_chunk(chunk, &sample.chunk(chunk)[..].into())
            .unwrap();
    }
}

fn disk() -> Arc<dyn Disk> {
    // Real files, but no waiting for the real medium.
    Arc::new(FaultyDisk::sound())
}
