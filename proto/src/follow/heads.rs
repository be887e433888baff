//! What a tracker decides about heads: which it keeps, for how long, and who is told.
//!
//! [`Heads`] is told what daemons say and returns what to tell them. It keeps the newest head of each publisher
//! and never an older one, whoever gives it. What it keeps is bounded in all, per network and per daemon, and so
//! is how often a publisher's followers are told: what comes sooner waits, and only the newest is told then.
//!
//! Not here: connections and sockets (`warren-tracker`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Head, PublisherId};
use crate::id::PublicKey;
use crate::limits::{FOLLOWS, FOLLOWS_PER_NETWORK, FOLLOWS_PER_PEER, HEADS, HEADS_PER_NETWORK};
use crate::swarm::prefix;
use crate::wire::{FollowNews, FollowRequest, Given};

/// How long a head is kept that nobody follows or gives. It is lost to nobody: who has it gives it again.
pub const LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// Followers of one publisher are told of newer heads at most this often.
pub const TOLD_EVERY: Duration = Duration::from_secs(2);

/// Signatures of one daemon that are looked at: so many at once, 50 µs of processor time each, and then one in
/// each [`LOOK_EVERY`].
const LOOKS: u32 = 2 * FOLLOWS_PER_PEER as u32;
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What to tell whom.
pub type FollowMail = Vec<(PublicKey, FollowNews)>;

/// The newest heads that one tracker knows, and who follows whom.
#[derive(Debug, Default)]
pub struct Heads {
    kept: BTreeMap<PublisherId, Kept>,
    followers: BTreeMap<PublisherId, BTreeSet<PublicKey>>,
    peers: BTreeMap<PublicKey, Peer>,
    /// Publishers that those who do follow have told at the last time have not heard of.
    untold: BTreeSet<PublisherId>,
    kept_of: Counts,
    follows_of: Counts,
}

#[derive(Debug)]
struct Kept {
    head: Head,
    /// Where it came from first.
    network: IpAddr,
    /// When it was given or followed last.
    used: Instant,
    /// When followers were told last.
    told: Instant,
}

/// A connected daemon.
#[derive(Debug)]
struct Peer {
    network: IpAddr,
    follows: BTreeSet<PublisherId>,
    /// Signatures that may be looked at, as of then.
    looks: u32,
    since: Instant,
}

/// How many there are of each network, and in all.
#[derive(Debug, Default)]
struct Counts {
    total: usize,
    of: BTreeMap<IpAddr, usize>,
}

impl Heads {
    /// Takes in what a daemon says, which is connected from `ip`.
    pub fn handle(
        &mut self,
        now: Instant,
        (peer, ip): (PublicKey, IpAddr),
        request: FollowRequest,
    ) -> FollowMail {
        let network = prefix(ip);
        self.peers
            .entry(peer)
            .or_insert_with(|| Peer::new(now, network));
        match request {
            FollowRequest::Give(head) => self.give(now, peer, head),
            FollowRequest::Follow { publisher } => vec![(peer, self.follow(now, peer, publisher))],
            FollowRequest::Unfollow { publisher } => {
                self.unfollow(now, &peer, &publisher);
                Vec::new()
            }
        }
    }

    /// A daemon's connection has ended.
    pub fn disconnected(&mut self, now: Instant, peer: &PublicKey) {
        let follows = self.peers.get(peer).map(|it| it.follows.clone());
        for publisher in follows.into_iter().flatten() {
            self.unfollow(now, peer, &publisher);
        }
        self.peers.remove(peer);
    }

    /// Forgets what nobody wanted for long, and tells what has waited.
    pub fn expire(&mut self, now: Instant) -> FollowMail {
        let followers = &self.followers;
        let is_over = |publisher: &PublisherId, kept: &mut Kept| {
            !followers.contains_key(publisher) && now.duration_since(kept.used) >= LIFETIME
        };
        for (_, kept) in self.kept.extract_if(.., is_over) {
            self.kept_of.remove(kept.network);
        }
        let untold = std::mem::take(&mut self.untold);
        let told = untold.into_iter().map(|it| self.tell(now, it, None));
        told.collect::<Vec<_>>().concat()
    }

    /// How many publishers have a head here.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn give(&mut self, now: Instant, peer: PublicKey, head: Head) -> FollowMail {
        let (publisher, sequence) = (head.publisher(), head.sequence);
        let result = self.judge(now, &peer, &head);
        let given = FollowNews::Given {
            publisher,
            sequence,
            result,
        };
        let mut mail = vec![(peer, given)];
        match result {
            Given::Kept if self.is_known(&head) => {
                self.kept
                    .get_mut(&publisher)
                    .into_iter()
                    .for_each(|it| it.used = now);
            }
            Given::Kept => {
                self.keep(now, &peer, head);
                mail.extend(self.tell(now, publisher, Some(&peer)));
            }
            Given::Older | Given::Differs => mail.push((peer, self.newest(publisher))),
            Given::Invalid | Given::TooMany => (),
        }
        mail
    }

    fn is_known(&self, head: &Head) -> bool {
        let kept = self.kept.get(&head.publisher());
        kept.is_some_and(|kept| kept.head == *head)
    }

    /// What is to become of a head. A signature is looked at only where something depends on it.
    fn judge(&mut self, now: Instant, peer: &PublicKey, head: &Head) -> Given {
        let kept = self.kept.get(&head.publisher()).map(|kept| &kept.head);
        match kept {
            Some(kept) if kept == head => return Given::Kept,
            Some(kept) if kept.sequence > head.sequence => return Given::Older,
            _ => (),
        }
        let is_same = kept.is_some_and(|kept| kept.sequence == head.sequence);
        let is_new = kept.is_none();
        let Some(from) = self.peers.get_mut(peer) else {
            return Given::TooMany;
        };
        let has_room = self
            .kept_of
            .has_room(from.network, HEADS, HEADS_PER_NETWORK);
        if is_new && !has_room || !from.may_look(now) {
            return Given::TooMany;
        }
        match head.is_signed() {
            false => Given::Invalid,
            true if is_same => Given::Differs,
            true => Given::Kept,
        }
    }

    fn keep(&mut self, now: Instant, peer: &PublicKey, head: Head) {
        if let Some(kept) = self.kept.get_mut(&head.publisher()) {
            (kept.head, kept.used) = (head, now);
            return;
        }
        let Some(network) = self.peers.get(peer).map(|peer| peer.network) else {
            return;
        };
        self.kept_of.add(network);
        let kept = Kept {
            network,
            used: now,
            told: now.checked_sub(TOLD_EVERY).unwrap_or(now),
            head,
        };
        self.kept.insert(kept.head.publisher(), kept);
    }

    /// Tells all followers but one the newest head, or notes that they are to be told.
    fn tell(
        &mut self,
        now: Instant,
        publisher: PublisherId,
        but: Option<&PublicKey>,
    ) -> FollowMail {
        let Some(kept) = self.kept.get_mut(&publisher) else {
            return Vec::new();
        };
        if now.duration_since(kept.told) < TOLD_EVERY {
            self.untold.insert(publisher);
            return Vec::new();
        }
        kept.told = now;
        let followers = self.followers.get(&publisher).into_iter().flatten();
        let others = followers.filter(|follower| Some(*follower) != but);
        let newest = self.newest(publisher);
        others.map(|it| (*it, newest.clone())).collect()
    }

    fn newest(&self, publisher: PublisherId) -> FollowNews {
        let head = self.kept.get(&publisher).map(|kept| kept.head.clone());
        FollowNews::Newest { publisher, head }
    }

    fn follow(&mut self, now: Instant, peer: PublicKey, publisher: PublisherId) -> FollowNews {
        let Some(follower) = self.peers.get_mut(&peer) else {
            return FollowNews::TooMany { publisher };
        };
        if !follower.follows.contains(&publisher) {
            let has_room = self
                .follows_of
                .has_room(follower.network, FOLLOWS, FOLLOWS_PER_NETWORK);
            if !has_room || follower.follows.len() >= FOLLOWS_PER_PEER {
                return FollowNews::TooMany { publisher };
            }
            self.follows_of.add(follower.network);
            follower.follows.insert(publisher);
            self.followers.entry(publisher).or_default().insert(peer);
        }
        if let Some(kept) = self.kept.get_mut(&publisher) {
            kept.used = now;
        }
        self.newest(publisher)
    }

    fn unfollow(&mut self, now: Instant, peer: &PublicKey, publisher: &PublisherId) {
        let Some(follower) = self.peers.get_mut(peer) else {
            return;
        };
        if !follower.follows.remove(publisher) {
            return;
        }
        self.follows_of.remove(follower.network);
        if let Some(followers) = self.followers.get_mut(publisher) {
            followers.remove(peer);
            if followers.is_empty() {
                self.followers.remove(publisher);
            }
        }
        if let Some(kept) = self.kept.get_mut(publisher) {
            kept.used = now;
        }
    }
}

impl Peer {
    fn new(now: Instant, network: IpAddr) -> Peer {
        Peer {
            network,
            follows: BTreeSet::new(),
            looks: LOOKS,
            since: now,
        }
    }

    /// Takes one look, if there is one left.
    fn may_look(&mut self, now: Instant) -> bool {
        let more = now.duration_since(self.since).as_millis() / LOOK_EVERY.as_millis();
        if let Ok(more @ 1..) = u32::try_from(more) {
            self.looks = self.looks.saturating_add(more).min(LOOKS);
            self.since = now;
        }
        let may_look = self.looks > 0;
        self.looks = self.looks.saturating_sub(1);
        may_look
    }
}

impl Counts {
    fn has_room(&self, network: IpAddr, total: usize, each: usize) -> bool {
        self.total < total && self.of.get(&network).is_none_or(|count| *count < each)
    }

    fn add(&mut self, network: IpAddr) {
        self.total += 1;
        *self.of.entry(network).or_default() += 1;
    }

    fn remove(&mut self, network: IpAddr) {
        self.total -= 1;
        if let Some(count) = self.of.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.of.remove(&network);
            }
        }
    }
}

#[cfg(test)]
#[path = "heads_tests.rs"]
mod tests;
