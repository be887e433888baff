//! What was touched and what was edited look alike until they are read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::store::disk::RealDisk;
use crate::store::samples::{CHUNK_BYTES, Sample, noise, read};

#[test]
fn a_touched_file_is_given_again_once_it_was_read_and_one_that_was_edited_never() {
    for (change, expected) in [
        (touch as fn(&Path), Reread::Right),
        (replace, Reread::Right),
        (edit, Reread::Wrong),
    ] {
        for sample in [
            Sample::file("f", noise(1, 3 * CHUNK_BYTES)),
            Sample::mixed(),
        ] {
            let laid = Laid::out(sample);
            let path = laid.file_path(0);
            laid.assert_given();
            change(&path);
            let lies = fs::read(&path).unwrap();
            let [touched] = laid.touched()[..] else {
                panic!("only one file was touched");
            };
            laid.assert_refused();
            assert_eq!(
                laid.files.reread(touched, &Reading::default()).unwrap(),
                expected
            );
            match expected {
                Reread::Right => laid.assert_given(),
                _ => laid.assert_refused(),
            }
            assert_eq!(laid.touched().is_empty(), expected == Reread::Right);
            assert_eq!(fs::read(&path).unwrap(), lies, "nothing is written to it");
        }
    }
}

#[test]
fn what_was_read_is_found_so_by_the_next_start() {
    let laid = Laid::out(Sample::mixed());
    touch(&laid.file_path(0));
    let touched = laid.touched()[0];
    laid.files.reread(touched, &Reading::default()).unwrap();
    let Noted::Whole(noted) = laid.files.noted() else {
        panic!("all of it was wanted");
    };
    let content = &laid.sample.content;
    ShareFiles::open_in_place(Arc::new(RealDisk), &laid.path, content, &noted).unwrap();
}

#[test]
fn what_is_touched_between_look_and_reading_is_not_believed_and_what_is_gone_is_wrong() {
    let laid = Laid::out(Sample::mixed());
    let path = laid.file_path(0);
    touch(&path);
    let touched = laid.touched()[0];
    let file = fs::File::options().write(true).open(&path).unwrap();
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    file.set_modified(later).unwrap();
    let reading = Reading::default();
    let again = laid.files.reread(touched, &reading).unwrap();
    assert_eq!(again, Reread::Again(laid.touched()[0]));
    assert_eq!(reading.read_bytes(), 0);
    fs::write(&path, "shorter").unwrap();
    let wrong = laid.files.reread(touched, &reading).unwrap();
    assert_eq!(wrong, Reread::Wrong);
    fs::remove_file(&path).unwrap();
    let gone = laid.files.reread(touched, &reading).unwrap();
    assert_eq!(gone, Reread::Wrong);
}

#[test]
fn a_reading_that_is_ended_stops_and_proves_nothing() {
    let laid = Laid::out(Sample::file("f", noise(1, 3 * CHUNK_BYTES)));
    touch(&laid.path);
    let reading = Reading::default();
    reading.end();
    let ended = laid.files.reread(laid.touched()[0], &reading).unwrap();
    assert_eq!(ended, Reread::Ended);
    laid.assert_refused();
}

#[test]
fn what_a_late_look_calls_touched_is_not_read_again() {
    let laid = Laid::out(Sample::mixed());
    touch(&laid.file_path(0));
    let touched = laid.touched()[0];
    let reading = Reading::default();
    laid.files.reread(touched, &reading).unwrap();
    let once = reading.read_bytes();
    assert!(once > 0);
    assert_eq!(laid.files.reread(touched, &reading).unwrap(), Reread::Right);
    assert_eq!(reading.read_bytes(), once);
}

/// A share that lies where a person would have it.
struct Laid {
    _folder: tempfile::TempDir,
    path: PathBuf,
    sample: Sample,
    files: ShareFiles,
}

impl Laid {
    fn out(sample: Sample) -> Laid {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(sample.content.name.as_str());
        sample.lay_out(&path);
        let opened = ShareFiles::open_as_it_is(Arc::new(RealDisk), &path, &sample.content);
        let (files, _) = opened.unwrap().unwrap();
        Laid {
            _folder: folder,
            path,
            sample,
            files,
        }
    }

    fn file_path(&self, file: u32) -> PathBuf {
        match self.sample.content.file_path(file) {
            Some(path) => self.path.join(path.as_str()),
            None => self.path.clone(),
        }
    }

    fn touched(&self) -> Vec<Touched> {
        let differing = self.files.differing();
        assert!(differing.changed.is_empty());
        differing.touched
    }

    fn assert_given(&self) {
        for chunk in self.sample.chunks() {
            let len = self.sample.content.layout.chunk_len(chunk);
            assert_eq!(
                read(&self.files, chunk, 0, len).unwrap(),
                self.sample.chunk(chunk)
            );
        }
    }

    /// Fails if any chunk with bytes of the first file is read.
    fn assert_refused(&self) {
        let layout = &self.sample.content.layout;
        let chunks = self.sample.chunks();
        for chunk in chunks.filter(|it| layout.extents(*it).any(|extent| extent.file == 0)) {
            let bytes = read(&self.files, chunk, 0, layout.chunk_len(chunk));
            assert!(matches!(bytes, Err(StoreError::Changed { .. })));
        }
    }
}

fn touch(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
}

fn replace(path: &Path) {
    fs::copy(path, path.with_extension("new")).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

fn edit(path: &Path) {
    let size = fs::metadata(path).unwrap().len() as usize;
    fs::write(path, noise(99, size)).unwrap();
}
