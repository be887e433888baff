//! The heads that are kept, and which of them goes where there is no room for another.
//!
//! One that is followed stays. Of the others that one goes which nobody has followed or given for longest: of the
//! network that the new one comes from if that has its part already, otherwise of the network that has most of
//! them. So whoever fills the room with heads that nobody follows pushes out its own, and shuts nobody out. What
//! goes is lost to nobody: who has it gives it again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::idle::{Idle, Idler};
use super::{Bound, LIFETIME, TOLD_EVERY};
use crate::follow::{Head, PublisherId, SignedHead};
use crate::limits::{HEADS, HEADS_PER_NETWORK};
use crate::tally::Tally;

/// The newest head of each publisher.
#[derive(Debug)]
pub(super) struct KeptHeads {
    pub(super) heads: BTreeMap<PublisherId, Kept>,
    pub(super) networks: Tally<IpAddr>,
    pub(super) idle: Idle,
    pub(super) bound: Bound,
}

#[derive(Debug)]
pub(super) struct Kept {
    pub(super) head: SignedHead,
    /// Where it came from first.
    network: IpAddr,
    /// When it was given or followed last; `None` while somebody follows it.
    idle_since: Option<Instant>,
    /// When followers were told last.
    told: Option<Instant>,
}

impl Default for KeptHeads {
    fn default() -> Self {
        let (total, each) = (HEADS, HEADS_PER_NETWORK);
        KeptHeads {
            heads: BTreeMap::new(),
            networks: Tally::default(),
            idle: Idle::default(),
            bound: Bound { total, each },
        }
    }
}

impl KeptHeads {
    pub(super) fn head(&self, publisher: &PublisherId) -> Option<&Head> {
        self.heads.get(publisher).map(|kept| &*kept.head)
    }

    /// Keeps a head in place of the older one, or makes room for it; false if there is none to be made. With
    /// `idle_since`, nobody follows it.
    pub(super) fn keep(
        &mut self,
        (publisher, network): (PublisherId, IpAddr),
        head: SignedHead,
        idle_since: Option<Instant>,
    ) -> bool {
        if let Some(kept) = self.heads.get_mut(&publisher) {
            kept.head = head;
            self.set_idle(&publisher, idle_since);
            return true;
        }
        if !self.make_room(network) {
            return false;
        }
        let kept = Kept {
            head,
            network,
            idle_since: None,
            told: None,
        };
        self.heads.insert(publisher, kept);
        self.networks.add(network);
        self.set_idle(&publisher, idle_since);
        true
    }

    /// Somebody follows it from now on.
    pub(super) fn note_followed(&mut self, publisher: &PublisherId) {
        self.set_idle(publisher, None);
    }

    /// Nobody follows it any more.
    pub(super) fn note_idle(&mut self, now: Instant, publisher: &PublisherId) {
        self.set_idle(publisher, Some(now));
    }

    /// Somebody has given it again.
    pub(super) fn note_given(&mut self, now: Instant, publisher: &PublisherId) {
        let kept = self.heads.get(publisher);
        if kept.is_some_and(|kept| kept.idle_since.is_some()) {
            self.set_idle(publisher, Some(now));
        }
    }

    /// Whether followers may be told of it now; then this counts as done.
    pub(super) fn may_tell(&mut self, now: Instant, publisher: &PublisherId) -> bool {
        let Some(kept) = self.heads.get_mut(publisher) else {
            return false;
        };
        let may_tell = kept
            .told
            .is_none_or(|told| now.duration_since(told) >= TOLD_EVERY);
        if may_tell {
            kept.told = Some(now);
        }
        may_tell
    }

    /// Forgets what nobody wanted for long.
    pub(super) fn expire(&mut self, now: Instant) {
        let Some(since) = now.checked_sub(LIFETIME) else {
            return;
        };
        while let Some(publisher) = self.idle.oldest_until(since) {
            self.forget(&publisher);
        }
    }

    fn make_room(&mut self, network: IpAddr) -> bool {
        let oldest = if self.networks.count(&network) >= self.bound.each {
            self.idle.oldest_of(network)
        } else if self.networks.total() >= self.bound.total {
            self.idle.oldest_of_most()
        } else {
            return true;
        };
        oldest.is_some_and(|oldest| self.forget(&oldest))
    }

    fn forget(&mut self, publisher: &PublisherId) -> bool {
        self.set_idle(publisher, None);
        let Some(kept) = self.heads.remove(publisher) else {
            return false;
        };
        self.networks.subtract(&kept.network);
        true
    }

    fn set_idle(&mut self, publisher: &PublisherId, since: Option<Instant>) {
        let Some(kept) = self.heads.get_mut(publisher) else {
            return;
        };
        let idler = |since| Idler {
            network: kept.network,
            since,
            publisher: *publisher,
        };
        if let Some(before) = kept.idle_since {
            self.idle.remove(idler(before));
        }
        if let Some(since) = since {
            self.idle.add(idler(since));
        }
        kept.idle_since = since;
    }
}
