//! The trackers a person has met and the key each had then, as ssh keeps its known hosts.
//!
//! A text file of `host:port PIN` lines, empty lines and `#` comments, shared by all daemons of a
//! person and edited by hand when a tracker changed its key. Changes replace the file whole and
//! keep every other line as it was.
//!
//! Not here: what to do when a key does not match (the caller refuses and says so).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use warren_proto::content::HostPort;
use warren_proto::id::TrackerPin;

use super::atomic::write_atomically;

/// Why the known trackers could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KnownError {
    /// A line that is neither empty, nor a comment, nor `host:port PIN`.
    #[error("line {line} of {} is not \"host:port KEY\"", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Number of the line, counted from 1.
        line: usize,
    },
    /// The file system refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The file of known trackers. Every call reads it anew, for others may have changed it.
#[derive(Clone, Debug)]
pub struct KnownTrackers {
    path: PathBuf,
}

impl KnownTrackers {
    /// The file at `path`; it need not exist.
    ///
    /// # Errors
    ///
    /// When it exists and cannot be read or understood.
    pub fn open(path: &Path) -> Result<KnownTrackers, KnownError> {
        let known = KnownTrackers {
            path: path.to_owned(),
        };
        known.read()?;
        Ok(known)
    }

    /// The key this tracker had when it was met.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or understood.
    pub fn lookup(&self, tracker: &HostPort) -> Result<Option<TrackerPin>, KnownError> {
        let lines = self.read()?;
        let known = lines.iter().filter_map(|line| line.known.as_ref());
        let mut same = known.filter(|(known, _)| known == tracker);
        Ok(same.next().map(|(_, pin)| *pin))
    }

    /// Remembers the key of a tracker, in the place of any it had before.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, understood or replaced; it is then as it was.
    pub fn insert(&self, tracker: &HostPort, pin: TrackerPin) -> Result<(), KnownError> {
        let _guard = self.lock()?;
        let others = self.read()?.into_iter().filter(|line| {
            let known = line.known.as_ref();
            known.is_none_or(|(known, _)| known != tracker)
        });
        let mut text: String = others.map(|line| line.text + "\n").collect();
        text.push_str(&format!("{tracker} {pin}\n"));
        write_atomically(&self.path, text.as_bytes()).map_err(|source| self.at(source))
    }

    fn read(&self) -> Result<Vec<Line>, KnownError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(self.at(source)),
        };
        (1..)
            .zip(text.lines())
            .map(|(line, text)| {
                let path = &self.path;
                Line::parse(text).ok_or_else(|| KnownError::Malformed {
                    path: path.clone(),
                    line,
                })
            })
            .collect()
    }

    /// Keeps other daemons from changing the file meanwhile, or their line would be lost. The lock
    /// is on the folder, because the file itself is replaced.
    fn lock(&self) -> Result<File, KnownError> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let locked = fs::create_dir_all(folder)
            .and_then(|()| File::open(folder))
            .and_then(|folder| folder.lock().map(|()| folder));
        locked.map_err(|source| self.at(source))
    }

    fn at(&self, source: io::Error) -> KnownError {
        KnownError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

/// A line as it stands, and what it says unless it is empty or a comment.
struct Line {
    text: String,
    known: Option<(HostPort, TrackerPin)>,
}

impl Line {
    fn parse(text: &str) -> Option<Line> {
        let said = text.trim();
        let known = if said.is_empty() || said.starts_with('#') {
            None
        } else {
            let (tracker, pin) = said.split_once(char::is_whitespace)?;
            Some((tracker.parse().ok()?, pin.trim().parse().ok()?))
        };
        let text = text.to_owned();
        Some(Line { text, known })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: TrackerPin = TrackerPin([1; 16]);
    const OTHER: TrackerPin = TrackerPin([2; 16]);

    #[test]
    fn a_tracker_is_known_by_the_last_key_it_was_given() {
        let home = tempfile::tempdir().unwrap();
        let known = KnownTrackers::open(&home.path().join("new/known-trackers")).unwrap();
        let (here, there) = (tracker("203.0.113.7:59000"), tracker("[2001:db8::1]:1"));
        assert_eq!(known.lookup(&here).unwrap(), None);

        known.insert(&here, PIN).unwrap();
        known.insert(&there, PIN).unwrap();
        known.insert(&here, OTHER).unwrap();
        assert_eq!(known.lookup(&here).unwrap(), Some(OTHER));
        assert_eq!(known.lookup(&there).unwrap(), Some(PIN));
        assert_eq!(known.lookup(&tracker("203.0.113.7:59001")).unwrap(), None);
    }

    #[test]
    fn the_file_can_be_edited_by_hand_and_keeps_its_comments() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known-trackers");
        let pin = PIN.to_string().to_uppercase();
        let text = format!("# home\n\n  example.org:59000 \t {pin}  \n");
        fs::write(&path, &text).unwrap();

        let known = KnownTrackers::open(&path).unwrap();
        assert_eq!(
            known.lookup(&tracker("example.org:59000")).unwrap(),
            Some(PIN)
        );
        known.insert(&tracker("192.0.2.1:5"), OTHER).unwrap();
        let expected = format!("{text}192.0.2.1:5 {OTHER}\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }

    #[test]
    fn a_line_that_says_nothing_is_named_and_never_dropped() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known-trackers");
        for bad in [
            "example.org:59000",
            "example.org nopin",
            "example.org:1 nopin",
        ] {
            let text = format!("# fine\n{bad}\n");
            fs::write(&path, &text).unwrap();
            let error = KnownTrackers::open(&path).unwrap_err().to_string();
            assert!(
                error.starts_with("line 2 of ") && error.contains("known-trackers"),
                "{error}"
            );
            let known = KnownTrackers { path: path.clone() };
            known.insert(&tracker("192.0.2.1:5"), PIN).unwrap_err();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn daemons_that_meet_trackers_at_once_lose_no_line() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known-trackers");
        std::thread::scope(|scope| {
            for port in 1..=8 {
                let known = KnownTrackers::open(&path).unwrap();
                scope.spawn(move || known.insert(&tracker(&format!("h:{port}")), PIN).unwrap());
            }
        });
        let known = KnownTrackers::open(&path).unwrap();
        for port in 1..=8 {
            let tracker = tracker(&format!("h:{port}"));
            assert_eq!(known.lookup(&tracker).unwrap(), Some(PIN));
        }
    }

    fn tracker(text: &str) -> HostPort {
        text.parse().unwrap()
    }
}
