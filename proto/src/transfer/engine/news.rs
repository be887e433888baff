//! What is told to every peer of a swarm, gathered for a moment.
//!
//! Availability is worth most while it is fresh: a lag of four chunks' time costs 10-21 % of a
//! swarm's speed. So the first news after a while goes out at once, and what follows within
//! [`INTERVAL`] together.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::content::Run;

/// News goes out no more often than this.
const INTERVAL: Duration = Duration::from_millis(10);

/// News of chunks. No chunk is in two of its lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// We have these, verified.
    pub have: Vec<Run>,
    /// We have asked for these.
    pub started: Vec<Run>,
    /// We have these no longer, or will not get them.
    pub lost: Vec<Run>,
    /// Whether somebody whom we reach directly has all that we lack, where that is news.
    pub supplied: Option<bool>,
}

impl News {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.have.is_empty()
            && self.started.is_empty()
            && self.lost.is_empty()
            && self.supplied.is_none()
    }
}

/// News that is not told yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    have: BTreeSet<u32>,
    started: BTreeSet<u32>,
    lost: BTreeSet<u32>,
    /// Those of the lost that peers believe we have: they must hear of it before anything else of them.
    forgotten: BTreeSet<u32>,
    /// Those of them that we have asked for since, to be told after that.
    later: BTreeSet<u32>,
    /// When it may be told.
    due: Option<Instant>,
    told: Option<Instant>,
}

impl Pending {
    /// We have the chunk.
    pub(super) fn have(&mut self, now: Instant, chunk: u32) {
        self.started.remove(&chunk);
        self.lost.remove(&chunk);
        self.forgotten.remove(&chunk);
        self.later.remove(&chunk);
        self.have.insert(chunk);
        self.arise(now);
    }

    /// We asked for the chunk.
    pub(super) fn started(&mut self, now: Instant, chunk: u32) {
        // Who was not told yet that we gave it up need not hear of it.
        if self.forgotten.contains(&chunk) {
            self.later.insert(chunk);
        } else if !self.lost.remove(&chunk) {
            self.started.insert(chunk);
        }
        self.arise(now);
    }

    /// We gave the chunk up.
    pub(super) fn lost(&mut self, now: Instant, chunk: u32) {
        self.later.remove(&chunk);
        if !self.started.remove(&chunk) {
            self.lost.insert(chunk);
        }
        self.arise(now);
    }

    /// We had the chunk, and have it no longer.
    pub(super) fn forgotten(&mut self, now: Instant, chunk: u32) {
        if !self.have.remove(&chunk) {
            self.forgotten.insert(chunk);
        }
        self.lost.insert(chunk);
        self.arise(now);
    }

    /// What is to be told now.
    pub(super) fn take(&mut self, now: Instant) -> Option<News> {
        self.due.filter(|due| *due <= now)?;
        self.due = None;
        let news = News {
            have: Run::fewest(std::mem::take(&mut self.have)),
            started: Run::fewest(std::mem::take(&mut self.started)),
            lost: Run::fewest(std::mem::take(&mut self.lost)),
            supplied: None,
        };
        let news = Some(news).filter(|news| !news.is_empty())?;
        self.told = Some(now);
        self.forgotten.clear();
        self.started = std::mem::take(&mut self.later);
        if !self.started.is_empty() {
            self.arise(now);
        }
        Some(news)
    }

    /// When there will be something to tell.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    fn arise(&mut self, now: Instant) {
        let earliest = self.told.map(|told| told + INTERVAL);
        self.due
            .get_or_insert(earliest.map_or(now, |earliest| earliest.max(now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_believes_that_we_have_a_chunk_hears_that_we_do_not_before_it_is_asked_for_again() {
        let (mut pending, mut now) = (Pending::default(), Instant::now());
        let mut told = |change: fn(&mut Pending, Instant)| {
            change(&mut pending, now);
            now += INTERVAL;
            let first = pending.take(now).unwrap_or_default();
            now += INTERVAL;
            let then = pending.take(now).unwrap_or_default();
            [first, then].map(|news| [news.have, news.started, news.lost].map(|it| it.len()))
        };
        let (have, started, lost, none) = ([1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]);
        assert_eq!(told(|it, now| it.have(now, 5)), [have, none]);
        let again = told(|it, now| {
            it.forgotten(now, 5);
            it.started(now, 5);
        });
        assert_eq!(again, [lost, started]);
        assert_eq!(told(|it, now| it.lost(now, 5)), [lost, none]);
        let never_told = told(|it, now| {
            it.have(now, 6);
            it.forgotten(now, 6);
            it.started(now, 6);
        });
        assert_eq!(
            never_told,
            [none, none],
            "as far as they know, it was asked for"
        );
        let given_up = told(|it, now| {
            it.have(now, 7);
            it.lost(now, 8);
            it.started(now, 8);
        });
        assert_eq!(given_up, [have, none]);
    }
}
