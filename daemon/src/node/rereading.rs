//! Files that were touched: read again, a few shares at a time, while everything else goes on.
//!
//! Each reading is a thread of its own, of the lowest priority: it takes what others leave of a processor and, with
//! I/O schedulers that go by that, of a disk.
//!
//! Not here: when a share is read ([`crate::share::rereading`]), how a file is (`store::rereading`), what is found
//! without reading ([`super::looking`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use warren_proto::id::SwarmId;

use super::looking::looked_at;
use super::{Node, NodeEvent, Stopping};
use crate::control::model::ApiError;
use crate::share::depot::Depot;
use crate::share::offer::Offer;
use crate::share::rereading::Outcome;
use crate::store::changes::{Differing, Touched};
use crate::store::error::StoreError;
use crate::store::rereading::{Noted, Reading, Reread};

/// Shares that are read at once.
const AT_ONCE: usize = 2;

/// Only one of them may be of more than this: what takes a moment does not wait for what takes hours.
const LONG_BYTES: u64 = 1 << 30;

/// The lowest priority of a thread (setpriority(2)).
const NICEST: i32 = 19;

/// Which shares are to be read again.
#[derive(Debug, Default)]
pub(super) struct Rereads {
    /// Those that have files in doubt.
    doubtful: BTreeSet<SwarmId>,
    /// Those whose time has come, the largest first.
    due: Vec<(u64, SwarmId)>,
    /// Bytes of what is being read, by the number of the reading.
    under_way: BTreeMap<u64, u64>,
}

impl Rereads {
    fn may_begin(&self, bytes: u64) -> bool {
        let is_long = |bytes: &u64| *bytes > LONG_BYTES;
        let is_free = !is_long(&bytes) || !self.under_way.values().any(is_long);
        self.under_way.len() < AT_ONCE && is_free
    }

    /// The smallest that may be read now.
    fn next(&mut self) -> Option<SwarmId> {
        let (bytes, _) = *self.due.last()?;
        let may_begin = self.may_begin(bytes);
        self.due.pop_if(|_| may_begin).map(|(_, swarm)| swarm)
    }
}

/// A reading that is over.
#[derive(Debug)]
pub(crate) struct Finished {
    swarm: SwarmId,
    number: u64,
    offer: Arc<Offer>,
    outcome: Outcome,
    /// Files that are no longer what was shared.
    wrong: Vec<u32>,
    /// The first file that could not be read.
    failed: Option<StoreError>,
    /// What is noted of the files now, if any were right.
    noted: Option<Noted>,
}

impl Node {
    /// Files of a share are not as they were noted.
    pub(super) fn note_differing(&mut self, offer: &Arc<Offer>, differing: &Differing) {
        self.note_changed(offer, &differing.changed);
        self.note_touched(offer, &differing.touched);
    }

    /// Only reading these tells whether they are what was shared.
    fn note_touched(&mut self, offer: &Arc<Offer>, touched: &[Touched]) {
        let swarm = offer.swarm;
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        if !looked_at(share).is_some_and(|ours| Arc::ptr_eq(ours, offer)) {
            return;
        }
        let is_known = |it: &Touched| {
            let changes = share.changes.as_ref();
            changes.is_some_and(|changes| changes.has_all(&[it.file]))
        };
        let touched: Vec<Touched> = touched.iter().copied().filter(|it| !is_known(it)).collect();
        let was_doubtful = share.rereading.is_doubtful();
        share.rereading.note(Instant::now(), &touched);
        if share.rereading.is_doubtful() && !was_doubtful {
            self.rereads.doubtful.insert(swarm);
            let (share, files) = (share.record.id, touched.len());
            tracing::debug!(%share, files, "files were touched and are read again");
        }
    }

    /// The same of a share that has just been opened.
    pub(super) fn doubt(&mut self, swarm: SwarmId, touched: &[Touched]) {
        let share = self.shares.get(&swarm);
        if let Some(offer) = share.and_then(looked_at).cloned() {
            self.note_touched(&offer, touched);
        }
    }

    /// Begins to read what has come to rest.
    pub(super) fn reread(&mut self, now: Instant) {
        let shares = &mut self.shares;
        let mut due = Vec::new();
        self.rereads.doubtful.retain(|swarm| {
            let Some(share) = shares.get_mut(swarm) else {
                return false;
            };
            if looked_at(share).is_none() {
                share.rereading.forget();
            }
            let bytes = share.rereading.due_bytes(now);
            due.extend(bytes.map(|bytes| (bytes, *swarm)));
            share.rereading.is_doubtful()
        });
        due.sort_unstable_by(|one, other| other.cmp(one));
        self.rereads.due = due;
        self.reread_next();
    }

    fn reread_next(&mut self) {
        while let Some(swarm) = self.rereads.next() {
            self.begin_reading(swarm);
        }
    }

    fn begin_reading(&mut self, swarm: SwarmId) {
        let number = self.next_number();
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let Some(offer) = looked_at(share).cloned() else {
            return;
        };
        let Some((files, reading)) = share.rereading.begin(number) else {
            return;
        };
        let bytes = files.iter().map(|it| it.now.size).sum();
        let (node, depot) = (self.me.clone(), self.config.depot.clone());
        let work = move || {
            // Without that it takes its part like any other.
            let _ = rustix::process::setpriority_process(None, NICEST);
            let finished = read(offer, number, &files, &reading);
            if let Some(noted) = &finished.noted {
                keep(&depot, &swarm, noted, &reading);
            }
            node.blocking_send(NodeEvent::Reread(Box::new(finished)));
        };
        if let Err(error) = thread::Builder::new().name("reread".into()).spawn(work) {
            tracing::warn!(%error, "no thread to read touched files again");
            share
                .rereading
                .end(Instant::now(), number, &Outcome::default());
            return;
        }
        self.rereads.under_way.insert(number, bytes);
    }

    /// Touched files were read.
    pub(super) fn handle_reread(&mut self, finished: Finished) {
        self.rereads.under_way.remove(&finished.number);
        self.settle(finished);
        self.reread_next();
    }

    fn settle(&mut self, finished: Finished) {
        let Finished {
            swarm,
            number,
            offer,
            outcome,
            wrong,
            failed,
            noted,
        } = finished;
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        if !share.rereading.end(Instant::now(), number, &outcome) {
            return;
        }
        if let Some(noted) = noted {
            share.take_noted(noted);
        }
        let right = outcome.settled.len() - wrong.len();
        if right > 0 {
            let share = share.record.id;
            tracing::info!(%share, right, "touched files were read and are what was shared");
        }
        if let Some(error) = failed {
            let explained = ApiError::from(&error);
            tracing::warn!(error = %explained, "a touched file cannot be read");
            if !offer.may_be_right_in_part() {
                return self.stop_share(swarm, explained, Stopping::Paused);
            }
        }
        self.note_changed(&offer, &wrong);
    }
}

/// Reads these files, one after the other.
fn read(offer: Arc<Offer>, number: u64, files: &[Touched], reading: &Reading) -> Finished {
    let began = Instant::now();
    let mut finished = Finished {
        swarm: offer.swarm,
        number,
        outcome: Outcome::default(),
        wrong: Vec::new(),
        failed: None,
        noted: None,
        offer,
    };
    let mut is_any_right = false;
    for touched in files {
        let outcome = &mut finished.outcome;
        match finished.offer.files.reread(*touched, reading) {
            Ok(Reread::Ended) => break,
            Ok(Reread::Again(touched)) => {
                outcome.again.push(touched);
                continue;
            }
            Ok(Reread::Right) => is_any_right = true,
            Ok(Reread::Wrong) => finished.wrong.push(touched.file),
            Err(error) => {
                finished.wrong.push(touched.file);
                finished.failed.get_or_insert(error);
            }
        }
        outcome.settled.push(touched.file);
    }
    finished.noted = is_any_right.then(|| finished.offer.files.noted());
    finished.outcome.took = began.elapsed();
    finished
}

/// The next start finds the files as they were noted.
fn keep(depot: &Depot, swarm: &SwarmId, noted: &Noted, reading: &Reading) {
    if reading.is_over() {
        // The share is gone, or is something else now.
        return;
    }
    if let Err(error) = depot.note_identities(swarm, noted) {
        tracing::warn!(%error, "it is not noted that touched files were read; the next start reads them again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_are_read_at_once_the_smallest_first_and_only_one_that_takes_long() {
        const LONG: u64 = LONG_BYTES + 1;
        let swarm = |number: u8| SwarmId([number; 32]);
        let mut rereads = Rereads {
            due: vec![
                (LONG, swarm(4)),
                (LONG, swarm(3)),
                (9, swarm(2)),
                (1, swarm(1)),
            ],
            ..Rereads::default()
        };
        let begin = |rereads: &mut Rereads, number| {
            let (bytes, _) = rereads.due.last().copied()?;
            let next = rereads.next();
            next.inspect(|_| assert!(rereads.under_way.insert(number, bytes).is_none()))
        };
        assert_eq!(begin(&mut rereads, 1), Some(swarm(1)));
        assert_eq!(begin(&mut rereads, 2), Some(swarm(2)));
        assert_eq!(begin(&mut rereads, 3), None, "two are being read");
        rereads.under_way.remove(&1);
        assert_eq!(begin(&mut rereads, 3), Some(swarm(3)));
        rereads.under_way.remove(&2);
        assert_eq!(
            begin(&mut rereads, 4),
            None,
            "it would be the second long one"
        );
        rereads.due.push((1, swarm(5)));
        assert_eq!(begin(&mut rereads, 5), Some(swarm(5)));
        rereads.under_way.remove(&3);
        assert_eq!(begin(&mut rereads, 4), Some(swarm(4)));
    }
}
