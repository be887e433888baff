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
    /// When it may be told.
    due: Option<Instant>,
    told: Option<Instant>,
}

impl Pending {
    /// We have the chunk.
    pub(super) fn have(&mut self, now: Instant, chunk: u32) {
        self.started.remove(&chunk);
        self.lost.remove(&chunk);
        self.have.insert(chunk);
        self.arise(now);
    }

    /// We asked for the chunk.
    pub(super) fn started(&mut self, now: Instant, chunk: u32) {
        // Who was not told yet that we gave it up need not hear of it.
        if !self.lost.remove(&chunk) {
            self.started.insert(chunk);
        }
        self.arise(now);
    }

    /// We gave the chunk up, or lost it.
    pub(super) fn lost(&mut self, now: Instant, chunk: u32) {
        self.have.remove(&chunk);
        if !self.started.remove(&chunk) {
            self.lost.insert(chunk);
        }
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
