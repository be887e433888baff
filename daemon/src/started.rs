//! How a daemon was started, kept for who starts it again: in words of the command line's own.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::control::limits::LimitRequest;
use crate::store::atomic::write_atomically;

/// How a daemon was started.
#[derive(Clone, Debug)]
pub struct Started {
    /// In whatever words.
    pub words: String,
    /// Which words would start it as these do, but with the limits that were set since.
    pub limited: fn(words: &str, since: &LimitRequest) -> Option<String>,
}

/// Where that is kept, and goes with what is set while the daemon runs: it is not undone by the next start.
#[derive(Debug)]
pub(crate) struct KeptStart {
    path: PathBuf,
    started: Mutex<Started>,
}

impl KeptStart {
    /// Keeps it there.
    pub(crate) fn new(path: PathBuf, started: Started) -> io::Result<KeptStart> {
        write_atomically(&path, started.words.as_bytes())?;
        let started = Mutex::new(started);
        Ok(KeptStart { path, started })
    }

    /// Limits of all shares together were set.
    pub(crate) fn limit(&self, since: &LimitRequest) -> io::Result<()> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let limited = (started.limited)(&started.words, since);
        let Some(words) = limited.filter(|words| *words != started.words) else {
            return Ok(());
        };
        write_atomically(&self.path, words.as_bytes())?;
        started.words = words;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_limit_is_kept_beside_those_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("started");
        let limited = |words: &str, since: &LimitRequest| {
            let up = since.up_bits_per_s?;
            Some(format!("{words} {up}"))
        };
        let words = "start".to_owned();
        let kept = KeptStart::new(path.clone(), Started { words, limited }).unwrap();
        for up_bits_per_s in [Some(1), None, Some(2)] {
            kept.limit(&LimitRequest {
                up_bits_per_s,
                ..LimitRequest::default()
            })
            .unwrap();
        }
        assert_eq!(fs::read_to_string(path).unwrap(), "start 1 2");
    }
}
