//! When files that were touched are read again, and what is shown of a share meanwhile.
//!
//! [`Rereading`] decides, for one share. It reads no file and no clock: it is told which files are not as they were
//! noted, says when it is time to read them, and is told what came of that.
//!
//! Meanwhile the files are given to nobody: each read of them finds that they are not as they were noted, and who
//! asks is told that we are busy, asks others first and us again after a while. That the chunks are lost is not
//! said: most often they are there again after seconds, and nobody has to forget them and learn of them anew.
//!
//! Not here: which files were touched (`store::changes`), how they are read (`store::rereading`), how many at once
//! (`node::rereading`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::store::changes::Touched;
use crate::store::disk::FileIdentity;
use crate::store::rereading::Reading;

/// Files are read once they have not been touched for so long. File systems tell times in steps of up to 2 s (FAT):
/// what is written later than that has another time than what was read.
pub(crate) const SETTLED: Duration = Duration::from_secs(2);

/// After a reading the share rests so many times as long as that took: who touches files again and again does not
/// keep the disk busy.
const RESTS: u32 = 99;

/// Rests below this are not told of.
const LONG_REST: Duration = Duration::from_secs(10);

/// The files of one share that are to be read again, if there are any, and when.
#[derive(Debug, Default)]
pub(crate) struct Rereading {
    doubt: Option<Doubt>,
    /// No reading begins before.
    rested: Option<Instant>,
}

/// Files of which only reading tells what they are.
#[derive(Debug)]
struct Doubt {
    /// What was seen of them last.
    files: BTreeMap<u32, FileIdentity>,
    bytes: u64,
    /// When something was seen last that had not been.
    seen: Instant,
    under_way: Option<UnderWay>,
}

/// A reading, which ends when this is dropped.
#[derive(Debug)]
struct UnderWay {
    number: u64,
    reading: Arc<Reading>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.reading.end();
    }
}

/// What came of a reading that was not ended.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Files that need not be read any more, whatever they are.
    pub(crate) settled: Vec<u32>,
    /// Files that were touched once more.
    pub(crate) again: Vec<Touched>,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Rereading {
    /// These files are not as they were noted. What is seen a second time changes nothing.
    pub(crate) fn note(&mut self, now: Instant, touched: &[Touched]) {
        if touched.is_empty() {
            return;
        }
        let doubt = self.doubt.get_or_insert_with(|| Doubt {
            files: BTreeMap::new(),
            bytes: 0,
            seen: now,
            under_way: None,
        });
        for Touched {
            file,
            now: identity,
        } in touched
        {
            match doubt.files.insert(*file, *identity) {
                Some(before) if before == *identity => (),
                Some(_) => doubt.seen = now,
                None => {
                    doubt.bytes += identity.size;
                    doubt.seen = now;
                }
            }
        }
    }

    /// Nothing of it is to be read any more; a reading ends.
    pub(crate) fn forget(&mut self) {
        self.doubt = None;
    }

    /// Whether there is anything to be read, or being read.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.doubt.is_some()
    }

    /// Bytes of the files that are to be read, once it is time for that.
    pub(crate) fn due_bytes(&self, now: Instant) -> Option<u64> {
        let doubt = self.doubt.as_ref()?;
        let is_due = doubt.under_way.is_none() && doubt.due(self.rested) <= now;
        is_due.then_some(doubt.bytes)
    }

    /// Begins to read: which files, and how far that is.
    pub(crate) fn begin(&mut self, number: u64) -> Option<(Vec<Touched>, Arc<Reading>)> {
        let doubt = self.doubt.as_mut()?;
        let reading = Arc::<Reading>::default();
        doubt.under_way = Some(UnderWay {
            number,
            reading: reading.clone(),
        });
        let files = doubt.files.iter();
        let files = files.map(|(file, now)| Touched {
            file: *file,
            now: *now,
        });
        Some((files.collect(), reading))
    }

    /// A reading is over. False when it is not the one that is under way, and nothing it says counts.
    pub(crate) fn end(&mut self, now: Instant, number: u64, outcome: &Outcome) -> bool {
        let Some(doubt) = &mut self.doubt else {
            return false;
        };
        if doubt.under_way.as_ref().map(|it| it.number) != Some(number) {
            return false;
        }
        doubt.under_way = None;
        self.rested = Some(now + outcome.took * RESTS);
        for file in &outcome.settled {
            let size = doubt.files.remove(file).map(|it| it.size);
            doubt.bytes -= size.unwrap_or_default();
        }
        if doubt.files.is_empty() {
            self.doubt = None;
        }
        self.note(now, &outcome.again);
        true
    }

    /// Bytes of which it is not known yet whether they are right.
    pub(crate) fn doubtful_bytes(&self) -> u64 {
        let Some(doubt) = &self.doubt else { return 0 };
        let under_way = doubt.under_way.as_ref();
        let read = under_way.map_or(0, |it| it.reading.read_bytes());
        doubt.bytes.saturating_sub(read)
    }

    /// What is said of the share meanwhile.
    pub(crate) fn note_at(&self, now: Instant) -> Option<String> {
        let doubt = self.doubt.as_ref()?;
        let files = match doubt.files.len() {
            1 => "1 file was touched and is".to_owned(),
            count => format!("{count} files were touched and are"),
        };
        let rest = doubt.due(self.rested).saturating_duration_since(now);
        Some(match doubt.under_way {
            None if rest >= LONG_REST => format!(
                "{files} read again in {}, to see whether that is still what was shared, and given to nobody until \
                 then. At once with: client verify NAME IDX",
                rounded(rest)
            ),
            _ => format!("{files} read again, to see whether that is still what was shared"),
        })
    }
}

impl Doubt {
    fn due(&self, rested: Option<Instant>) -> Instant {
        let settled = self.seen + SETTLED;
        rested.map_or(settled, |rested| rested.max(settled))
    }
}

fn rounded(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1000;

    #[test]
    fn what_was_touched_is_read_once_it_rests_and_right_bytes_count_as_they_are_read() {
        let start = Instant::now();
        let mut share = Rereading::default();
        assert_eq!(share.due_bytes(start + SETTLED), None);
        share.note(start, &[touched(3, 1), touched(5, 1)]);
        share.note(start + SETTLED, &[touched(3, 1)]);
        assert_eq!(share.due_bytes(start + SETTLED / 2), None);
        assert_eq!(share.due_bytes(start + SETTLED), Some(2 * SIZE));
        let (files, _) = share.begin(1).unwrap();
        assert_eq!(files, [touched(3, 1), touched(5, 1)]);
        assert_eq!(share.due_bytes(start + SETTLED), None, "it is being read");
        assert!(share.end(start, 1, &settled(&[3, 5], 1)));
        assert!(!share.is_doubtful());
        assert_eq!(share.doubtful_bytes(), 0);
    }

    #[test]
    fn what_is_touched_again_before_it_is_read_is_waited_for() {
        let start = Instant::now();
        let mut share = Rereading::default();
        for number in 0..10 {
            let now = start + SETTLED / 2 * number;
            share.note(now, &[touched(0, u64::from(number))]);
            assert_eq!(share.due_bytes(now + SETTLED / 2), None);
        }
        assert_eq!(share.due_bytes(start + SETTLED * 7), Some(SIZE));
    }

    #[test]
    fn a_share_that_is_touched_for_ever_is_read_a_hundredth_of_the_time() {
        let (start, took) = (Instant::now(), Duration::from_secs(10));
        let (mut share, mut now, mut read) = (Rereading::default(), start, Duration::ZERO);
        share.note(now, &[touched(0, 0)]);
        let mut inode = 0;
        while now < start + Duration::from_secs(100_000) {
            now += Duration::from_secs(1);
            if share.due_bytes(now).is_some() {
                share.begin(inode).unwrap();
                now += took;
                read += took;
                let number = inode;
                inode += 1;
                let again = vec![touched(0, inode)];
                let outcome = Outcome {
                    again,
                    took,
                    ..Outcome::default()
                };
                assert!(share.end(now, number, &outcome));
                assert_eq!(share.doubtful_bytes(), SIZE, "it stays withheld");
                let note = share.note_at(now).unwrap();
                assert!(note.contains("in 17 min"), "{note}");
                assert!(note.contains("client verify"), "{note}");
            }
        }
        let hundredth = (now - start) / 100;
        assert!(read <= hundredth + took, "{read:?} of {:?}", now - start);
        assert!(read >= hundredth / 2, "{read:?} of {:?}", now - start);
    }

    #[test]
    fn what_is_over_says_nothing_any_more_and_who_forgets_it_ends_it() {
        let start = Instant::now();
        let mut share = Rereading::default();
        share.note(start, &[touched(0, 1)]);
        let (_, reading) = share.begin(1).unwrap();
        assert!(!reading.is_over());
        share.forget();
        assert!(reading.is_over());
        share.note(start, &[touched(0, 2)]);
        assert!(!share.end(start, 1, &settled(&[0], 1)), "nobody has begun");
        let (_, reading) = share.begin(2).unwrap();
        assert!(!share.end(start, 1, &settled(&[0], 1)), "another one is");
        assert!(share.is_doubtful());
        drop(share);
        assert!(reading.is_over());
    }

    #[test]
    fn what_is_touched_while_others_are_read_is_read_after_them() {
        let start = Instant::now();
        let mut share = Rereading::default();
        share.note(start, &[touched(0, 1)]);
        share.begin(1).unwrap();
        share.note(start, &[touched(1, 1)]);
        assert!(share.end(start, 1, &settled(&[0], 0)));
        assert_eq!(share.due_bytes(start + SETTLED), Some(SIZE));
        assert_eq!(share.begin(2).unwrap().0, [touched(1, 1)]);
    }

    fn settled(files: &[u32], seconds: u64) -> Outcome {
        Outcome {
            settled: files.to_vec(),
            took: Duration::from_secs(seconds),
            ..Outcome::default()
        }
    }

    fn touched(file: u32, inode: u64) -> Touched {
        let now = FileIdentity {
            size: SIZE,
            mtime_ns: 1,
            ctime_ns: 1,
            inode,
        };
        Touched { file, now }
    }
}
