//! The last lines of the log, for `client logs`: in memory alone, and so many bytes at most.
//!
//! A program that runs a daemon writes its log here too, a line at a time, as to a file.
//!
//! Not here: what is logged, and what stderr gets (the program decides).

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

/// Bytes of lines that are kept: some thousand lines.
const KEPT_BYTES: usize = 512 << 10;

/// Longest line; what is beyond is cut.
const LINE_BYTES: usize = 4 << 10;

/// Lines that may wait for who follows; who is slower misses the oldest.
const WAITING: usize = 256;

/// A log that many may write to and follow.
#[derive(Clone, Debug)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lines: Mutex<Lines>,
    news: broadcast::Sender<Arc<str>>,
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<Arc<str>>,
    bytes: usize,
}

impl Default for Log {
    fn default() -> Self {
        let (news, _) = broadcast::channel(WAITING);
        let lines = Mutex::default();
        Log(Arc::new(Inner { lines, news }))
    }
}

impl Log {
    /// The last `count` lines, the oldest first.
    pub fn last(&self, count: usize) -> Vec<Arc<str>> {
        self.lines().last(count)
    }

    /// The last `count` lines, and from then on all others.
    pub(crate) fn follow(&self, count: usize) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
        // Under the lock, so that no line falls between the two.
        let lines = self.lines();
        (lines.last(count), self.0.news.subscribe())
    }

    fn add(&self, text: &str) {
        let cut = text.floor_char_boundary(LINE_BYTES);
        let line: Arc<str> = text[..cut].trim_end().into();
        let mut lines = self.lines();
        lines.add(line.clone());
        // Nobody may be following.
        let _ = self.0.news.send(line);
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn add(&mut self, line: Arc<str>) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > KEPT_BYTES
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len();
        }
    }

    fn last(&self, count: usize) -> Vec<Arc<str>> {
        let skipped = self.lines.len().saturating_sub(count);
        self.lines.iter().skip(skipped).cloned().collect()
    }
}

/// Each write is one line.
impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_last_lines_are_kept_within_the_bound() {
        let mut log = Log::default();
        let line = "x".repeat(1000);
        for number in 0..1000 {
            log.write_all(format!("{number} {line}\n").as_bytes())
                .unwrap();
        }
        assert!(log.lines().bytes <= KEPT_BYTES);
        let last = log.last(2);
        assert_eq!(last.len(), 2);
        assert!(last[1].starts_with("999 x") && !last[1].ends_with('\n'));
        log.write_all(&vec![b'y'; 2 * LINE_BYTES]).unwrap();
        assert_eq!(log.last(1)[0].len(), LINE_BYTES);
    }

    #[test]
    fn who_follows_misses_no_line_and_gets_none_twice() {
        let mut log = Log::default();
        log.write_all(b"one\n").unwrap();
        let (before, mut news) = log.follow(10);
        log.write_all(b"two\n").unwrap();
        assert_eq!(before, [Arc::from("one")]);
        assert_eq!(&*news.try_recv().unwrap(), "two");
        assert!(news.try_recv().is_err());
    }
}
