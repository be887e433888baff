//! Files that change under their shares: they are looked at all the time, a few at a time, and what has changed
//! is given no longer.
//!
//! A round goes over all complete shares, some hundred files at a time, and rests after each so long that no
//! more than a hundredth of the time is spent on it ([`SHARE_OF_TIME`]); a round begins no sooner than
//! [`ROUND`] after the one before. So a change to one of a few files is noticed within seconds, and to one of a
//! hundred thousand within minutes. Polling works on every file system, network ones included, and needs nothing
//! for each folder.
//!
//! Not here: how a file is looked at (`store::changes`), what a read finds out first (`Node::handle_broken`), files
//! of which only reading tells ([`super::rereading`]).

use std::collections::BTreeSet;
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::time::{Duration, Instant};

use warren_proto::content::Run;
use warren_proto::id::SwarmId;
use warren_proto::transfer::Event;

use super::{Node, NodeEvent, Stopping};
use crate::control::model::ApiError;
use crate::hooks::Happening;
use crate::share::changes::Changes;
use crate::share::offer::Offer;
use crate::share::{Phase, Share};
use crate::store::changes::Differing;
use crate::store::error::StoreError;

/// Between the beginnings of two rounds at least.
const ROUND: Duration = Duration::from_secs(2);

/// One part in so many of the time is spent with looking.
const SHARE_OF_TIME: u32 = 100;

/// Files looked at in one go, which takes a few milliseconds; a share counts as one more.
const AT_ONCE: u32 = 512;

/// Where the round is, and when it goes on.
#[derive(Debug)]
pub(super) struct Looks {
    /// The next share, and its first file that is still to be looked at; `None` at the beginning.
    at: Option<(SwarmId, u32)>,
    began: Instant,
    next: Instant,
    is_under_way: bool,
    /// Shares of which a read has found a change, which are being looked through.
    asked: BTreeSet<SwarmId>,
}

impl Looks {
    /// The first round begins after [`ROUND`]: whatever is there then has just been looked at.
    pub(super) fn new(now: Instant) -> Looks {
        Looks {
            at: None,
            began: now,
            next: now + ROUND,
            is_under_way: false,
            asked: BTreeSet::new(),
        }
    }

    /// Some files were looked at, which took so long.
    pub(super) fn end(&mut self, now: Instant, took: Duration) {
        self.is_under_way = false;
        self.next = self.next.max(now + took * (SHARE_OF_TIME - 1));
    }

    /// The round goes on from there, or another one begins.
    fn go_on(&mut self, now: Instant, at: Option<(SwarmId, u32)>) {
        if self.at.is_none() {
            self.began = now;
        }
        self.at = at;
        if at.is_none() {
            self.next = self.next.max(self.began + ROUND);
        }
    }
}

/// Files of one share to be looked at.
type Part = (Arc<Offer>, Range<u32>);

impl Node {
    /// Looks at the next files, when it is time.
    pub(super) fn look_around(&mut self, now: Instant) {
        if self.looks.is_under_way || now < self.looks.next {
            return;
        }
        let (parts, at) = self.next_parts();
        self.looks.go_on(now, at);
        if parts.is_empty() {
            return;
        }
        self.looks.is_under_way = true;
        let node = self.me.clone();
        tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let looked = parts.into_iter().map(|(offer, files)| {
                let differing = offer.files.differing_among(files);
                (offer, differing)
            });
            let differing: Vec<_> = looked.filter(|(_, files)| !files.is_empty()).collect();
            let took = began.elapsed();
            for (offer, files) in differing {
                node.blocking_send(NodeEvent::Differing { offer, files });
            }
            node.blocking_send(NodeEvent::Looked(took));
        });
    }

    /// What is to be looked at now, and from where on then.
    fn next_parts(&self) -> (Vec<Part>, Option<(SwarmId, u32)>) {
        let (mut parts, mut left) = (Vec::new(), AT_ONCE);
        let begin = self.looks.at;
        let from = begin.map_or(Bound::Unbounded, |(swarm, _)| Bound::Included(swarm));
        for (swarm, share) in self.shares.range((from, Bound::Unbounded)) {
            let first = match begin {
                Some((at, first)) if at == *swarm => first,
                _ => 0,
            };
            if left == 0 {
                return (parts, Some((*swarm, first)));
            }
            left -= 1;
            let Some(offer) = looked_at(share) else {
                continue;
            };
            let count = offer.content.file_count();
            let end = count.min(first.saturating_add(left));
            parts.push((offer.clone(), first..end));
            left -= end.saturating_sub(first);
            if end < count {
                return (parts, Some((*swarm, end)));
            }
        }
        (parts, None)
    }

    /// Looks through all files of a share of which a read has found that one is not as it was noted, unless
    /// some are to be read again anyway: each who asks for them finds that.
    pub(super) fn look_at(&mut self, offer: &Arc<Offer>) {
        let share = self.shares.get(&offer.swarm);
        let is_doubtful = share.is_some_and(|share| share.rereading.is_doubtful());
        if is_doubtful || !self.looks.asked.insert(offer.swarm) {
            return;
        }
        let (offer, node) = (offer.clone(), self.me.clone());
        tokio::task::spawn_blocking(move || {
            let files = offer.files.differing();
            node.blocking_send(NodeEvent::Differing { offer, files });
        });
    }

    /// Files of a complete share were looked at.
    pub(super) fn handle_differing(&mut self, offer: &Arc<Offer>, differing: &Differing) {
        self.looks.asked.remove(&offer.swarm);
        self.note_differing(offer, differing);
    }

    /// Files of a complete share are no longer what was shared: what lies in them is given no longer, and peers
    /// are told so.
    pub(super) fn note_changed(&mut self, offer: &Arc<Offer>, files: &[u32]) {
        let swarm = offer.swarm;
        let share = self.shares.get(&swarm).and_then(looked_at);
        if files.is_empty() || !share.is_some_and(|ours| Arc::ptr_eq(ours, offer)) {
            return;
        }
        if offer.files.is_divided() {
            return self.stop_changed(offer, files);
        }
        let Some(share) = self.shares.get_mut(&swarm) else {
            return;
        };
        let before = share.changes.as_ref();
        if before.is_some_and(|before| before.has_all(files)) {
            return;
        }
        let files_now = Changes::with(before, files);
        let Some(changes) = Changes::new(&offer.content, files_now) else {
            return;
        };
        let lost = changes.chunks(&offer.content);
        lost.iter().for_each(|chunk| offer.take_back(*chunk));
        if offer.have_now().count() == 0 {
            return self.stop_changed(offer, files);
        }
        tracing::warn!(share = %share.record.id, "{}", changes.news());
        share.changes = Some(changes);
        self.tell_lost(swarm, Run::fewest(lost.iter().map(|it| it.value())));
        self.active.insert(swarm);
        self.announce(swarm);
        self.happened(&swarm, Happening::Changed);
    }

    /// Peers hear which chunks there are no longer. Nobody is asked for them.
    fn tell_lost(&mut self, swarm: SwarmId, runs: Vec<Run>) {
        if self.download_of(&swarm).is_some() {
            self.tell_selection(swarm);
            self.tell_download(swarm, Event::Forgotten { runs });
        }
    }

    /// Nothing is left of it.
    fn stop_changed(&mut self, offer: &Arc<Offer>, files: &[u32]) {
        let path = offer.files.path();
        let first = files.first().and_then(|it| offer.content.file_path(*it));
        let path = first.map_or_else(|| path.clone(), |first| path.join(first.as_str()));
        let explained = ApiError::from(&StoreError::Changed { path });
        tracing::warn!(error = %explained, "a share is no longer served");
        self.stop_share(offer.swarm, explained, Stopping::Changed);
    }
}

/// What of a share is to be what it was: all of it, once it is complete.
pub(super) fn looked_at(share: &Share) -> Option<&Arc<Offer>> {
    match &share.phase {
        Phase::Seeding(offer) if !share.is_choosing => Some(offer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundredth_of_the_time_is_spent_and_rounds_of_little_begin_seconds_apart() {
        let start = Instant::now();
        let mut looks = Looks::new(start);
        let began = looks.next;
        looks.go_on(began, Some((SwarmId([1; 32]), 0)));
        looks.end(began, Duration::from_millis(3));
        assert_eq!(looks.next, began + Duration::from_millis(297));
        let last = looks.next;
        looks.go_on(last, None);
        looks.end(last, Duration::from_millis(1));
        assert_eq!(looks.next, began + ROUND);
    }
}
