//! One guess at a time on this machine, whichever daemon makes it: all daemons of a person go through
//! the same NAT.
//!
//! [`HostTurn`] is a lock on a file that they share, `<home>/guessing`, which the kernel releases when its
//! holder dies. Who has it writes down what it guesses, so that the next knows how much room in the NAT
//! that takes. A line for each guess of the last half minute:
//!
//! ```text
//! <uptime in ms when it ended, at the latest> <packets, at most> <daemon> <spray or guess>
//! ```
//!
//! Where the file cannot be used, a daemon guesses as if it were alone. Not here: whose turn it is within a
//! daemon (`warren_proto::nat::Turnstile`).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use warren_proto::nat::{Elsewhere, Turn};
use warren_proto::wire::Technique;

/// How long a guess counts: as long as a NAT keeps what was not answered.
const WINDOW: Duration = Duration::from_secs(30);

/// How long until the lock is tried again, or there may be room.
const RETRY: Duration = Duration::from_millis(50);

/// Most lines that are kept, the newest. In half a minute there is room for fewer guesses of any size.
const LINES: usize = 64;

/// Most bytes that are read: so many lines of 64 bytes.
const FILE_BYTES: u64 = 4_096;

/// Our hold on the lock, or the lack of it.
#[derive(Debug)]
pub(super) struct HostTurn {
    path: PathBuf,
    /// Tells our lines from those of others.
    own: u64,
    held: Option<Held>,
    /// Not to be tried before.
    retry: Option<Instant>,
}

#[derive(Debug)]
struct Held {
    /// `None` where it cannot be used.
    file: Option<File>,
    lines: Vec<Line>,
    /// The guess that is being made has the last line.
    is_guessing: bool,
}

/// A guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    /// Uptime.
    ended: Duration,
    packets: usize,
    daemon: u64,
    is_spray: bool,
}

impl HostTurn {
    /// The lock at this path. `own` must be another number for each daemon.
    pub(super) fn new(path: PathBuf, own: u64) -> HostTurn {
        HostTurn {
            path,
            own,
            held: None,
            retry: None,
        }
    }

    /// Takes the lock, unless another daemon has it or it was tried a moment ago. Returns what the others
    /// have guessed.
    pub(super) fn take(&mut self, now: Instant, uptime: Duration) -> Option<Vec<Elsewhere>> {
        if self.retry.is_some_and(|retry| now < retry) {
            return None;
        }
        match lock(&self.path) {
            Ok(file) => self.held = Some(Held::of(file, uptime)),
            Err(TryLockError::WouldBlock) => {
                self.retry = Some(now + RETRY);
                return None;
            }
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "guesses are not counted with those of other daemons");
                self.held = Some(Held::alone());
            }
        }
        self.retry = None;
        let lines = self.held.iter().flat_map(|held| &held.lines);
        let others = lines.filter(|line| line.daemon != self.own);
        Some(others.map(|line| line.seen(now, uptime)).collect())
    }

    /// A guess begins. Should we die, it counts as if all of it had been sent now.
    pub(super) fn begin(&mut self, uptime: Duration, turn: &Turn) {
        let line = Line {
            ended: uptime,
            packets: turn.packets,
            daemon: self.own,
            is_spray: turn.technique == Technique::BlockSpray,
        };
        if let Some(held) = &mut self.held {
            held.lines.push(line);
            held.is_guessing = true;
            held.write();
        }
    }

    /// The guess has ended after so many packets.
    pub(super) fn end(&mut self, uptime: Duration, packets: usize) {
        if let Some(held) = &mut self.held
            && let Some(line) = held.lines.last_mut()
            && std::mem::take(&mut held.is_guessing)
        {
            (line.ended, line.packets) = (uptime, packets);
            held.write();
        }
    }

    /// Lets others guess. A guess of which no end was told counts in full.
    pub(super) fn release(&mut self, uptime: Duration) {
        let lines = self.held.as_ref().map(|held| &held.lines);
        let packets = lines.and_then(|lines| lines.last()).map(|it| it.packets);
        self.end(uptime, packets.unwrap_or_default());
        // Closing the file releases the lock.
        self.held = None;
    }

    /// Lets others guess, since there is no room for what we want.
    pub(super) fn give_up(&mut self, now: Instant, uptime: Duration) {
        self.release(uptime);
        self.retry = Some(now + RETRY);
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// When it may be tried again.
    pub(super) fn retry(&self) -> Option<Instant> {
        self.retry
    }
}

impl Held {
    fn of(mut file: File, uptime: Duration) -> Held {
        Held {
            lines: read(&mut file, uptime),
            file: Some(file),
            is_guessing: false,
        }
    }

    fn alone() -> Held {
        Held {
            file: None,
            lines: Vec::new(),
            is_guessing: false,
        }
    }

    /// Others may count too little where that fails, and no more.
    fn write(&mut self) {
        let old = self.lines.len().saturating_sub(LINES);
        self.lines.drain(..old);
        let text: String = self.lines.iter().map(Line::text).collect();
        if let Some(file) = &mut self.file
            && let Err(error) = write(file, &text)
        {
            tracing::debug!(%error, "a guess is not told to other daemons");
        }
    }
}

impl Line {
    fn parse(line: &str) -> Option<Line> {
        let mut words = line.split(' ');
        let parsed = Line {
            ended: Duration::from_millis(words.next()?.parse().ok()?),
            packets: words.next()?.parse().ok()?,
            daemon: words.next()?.parse().ok()?,
            is_spray: words.next()? == "spray",
        };
        words.next().is_none().then_some(parsed)
    }

    fn text(&self) -> String {
        let kind = match self.is_spray {
            true => "spray",
            false => "guess",
        };
        let ended = self.ended.as_millis();
        format!("{ended} {} {} {kind}\n", self.packets, self.daemon)
    }

    /// Whether it counts still. What ends later than now is of another run of the machine.
    fn counts(&self, uptime: Duration) -> bool {
        self.ended <= uptime && uptime < self.ended + WINDOW
    }

    fn seen(&self, now: Instant, uptime: Duration) -> Elsewhere {
        let ago = uptime.saturating_sub(self.ended);
        Elsewhere {
            ended: now.checked_sub(ago).unwrap_or(now),
            flows: self.packets,
            technique: match self.is_spray {
                true => Technique::BlockSpray,
                false => Technique::Birthday,
            },
        }
    }
}

fn lock(path: &PathBuf) -> Result<File, TryLockError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.mode(0o600).open(path);
    let file = file.map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

/// What counts still. What cannot be read or understood is left out.
fn read(file: &mut File, uptime: Duration) -> Vec<Line> {
    let mut bytes = Vec::new();
    // What was read before an error counts.
    let _ = file.take(FILE_BYTES).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().filter_map(Line::parse);
    lines.filter(|line| line.counts(uptime)).collect()
}

fn write(file: &mut File, text: &str) -> io::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIRTHDAY: Turn = Turn {
        ip: std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7)),
        technique: Technique::Birthday,
        packets: 880,
        least: 440,
    };

    #[test]
    fn one_daemon_has_the_lock_until_it_releases_it_or_dies() {
        let bench = Bench::new();
        let (mut ours, mut theirs) = (bench.daemon(1), bench.daemon(2));
        assert_eq!(bench.take(&mut ours), Some(vec![]));
        assert_eq!(bench.take(&mut theirs), None);
        assert_eq!(theirs.retry(), Some(bench.now + RETRY));
        ours.release(bench.uptime);
        assert_eq!(bench.take(&mut theirs), None, "a moment later");
        let later = bench.now + RETRY;
        assert!(theirs.take(later, bench.uptime).is_some() && theirs.is_held());
        drop(theirs);
        assert!(bench.take(&mut ours).is_some());
    }

    #[test]
    fn the_next_one_learns_what_was_guessed_and_who_died_counts_in_full() {
        let bench = Bench::new();
        let (mut ours, mut theirs) = (bench.daemon(1), bench.daemon(2));
        bench.take(&mut ours).unwrap();
        ours.begin(bench.uptime, &BIRTHDAY);
        ours.end(bench.uptime, 17);
        ours.release(bench.uptime);
        assert_eq!(bench.take(&mut ours), Some(vec![]), "its own it knows");
        ours.begin(bench.uptime, &BIRTHDAY);
        drop(ours);
        let flows = |guesses: Vec<Elsewhere>| guesses.iter().map(|it| it.flows).collect::<Vec<_>>();
        assert_eq!(bench.take(&mut theirs).map(flows), Some(vec![17, 880]));
        theirs.release(bench.uptime);
        let later = bench.uptime + WINDOW;
        assert_eq!(theirs.take(bench.now, later).map(flows), Some(vec![]));
    }

    #[test]
    fn what_means_nothing_is_left_out_and_no_file_is_no_obstacle() {
        let bench = Bench::new();
        let ended = bench.uptime.as_millis();
        let text = format!(
            "{ended} 7 3 guess\n{ended} 8 3 spray\nnonsense\n{ended} 9 3 guess more\n-1 1 1 guess\n{} 5 3 guess\n",
            ended + 1
        );
        std::fs::write(bench.path(), text).unwrap();
        let seen = bench.take(&mut bench.daemon(1)).unwrap();
        let expected = |flows, technique| Elsewhere {
            ended: bench.now,
            flows,
            technique,
        };
        let of = [(7, Technique::Birthday), (8, Technique::BlockSpray)];
        assert_eq!(
            seen,
            of.map(|(flows, technique)| expected(flows, technique))
        );
        let nowhere = bench.home.path().join("none/guessing");
        let mut alone = HostTurn::new(nowhere, 1);
        assert_eq!(bench.take(&mut alone), Some(vec![]));
        alone.begin(bench.uptime, &BIRTHDAY);
    }

    #[test]
    fn the_file_stays_small() {
        let bench = Bench::new();
        let mut ours = bench.daemon(u64::MAX);
        bench.take(&mut ours).unwrap();
        for _ in 0..LINES * 2 {
            ours.begin(bench.uptime, &BIRTHDAY);
        }
        let bytes = std::fs::metadata(bench.path()).unwrap().len();
        assert!(bytes <= FILE_BYTES, "{bytes}");
    }

    struct Bench {
        home: tempfile::TempDir,
        now: Instant,
        uptime: Duration,
    }

    impl Bench {
        fn new() -> Bench {
            Bench {
                home: tempfile::tempdir().unwrap(),
                now: Instant::now(),
                uptime: Duration::from_secs(1_000),
            }
        }

        fn path(&self) -> PathBuf {
            self.home.path().join("guessing")
        }

        fn daemon(&self, own: u64) -> HostTurn {
            HostTurn::new(self.path(), own)
        }

        fn take(&self, daemon: &mut HostTurn) -> Option<Vec<Elsewhere>> {
            daemon.take(self.now, self.uptime)
        }
    }
}
