//! What a tracker decides about heads: which it keeps, for how long, and who is told.
//!
//! [`Heads`] is told what daemons say and returns what to tell them. It keeps the newest head of each publisher
//! and never an older one, whoever gives it. Heads are bounded in all and per network, follows also per daemon, and
//! so is how often a publisher's followers are told: what comes sooner waits, and only the newest is told then.
//!
//! A signature takes long to look at, and [`Heads`] does not do it: it returns a [`Claim`], and is told what came
//! of that ([`Heads::handle_verified`]). So nobody else waits for it. How often a network has that done is bounded.
//!
//! Not here: connections and sockets (`warren-tracker`).

mod idle;
mod kept;
mod looks;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use self::kept::KeptHeads;
use self::looks::Looks;
use super::{Head, PublisherId, SignedHead};
use crate::id::PublicKey;
use crate::limits::{FOLLOWS, FOLLOWS_PER_NETWORK, FOLLOWS_PER_PEER};
use crate::swarm::prefix;
use crate::tally::Tally;
use crate::wire::{FollowNews, FollowRequest, Given};

/// How long a head is kept that nobody follows or gives. It is lost to nobody: who has it gives it again.
pub const LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// Followers of one publisher are told of newer heads at most this often.
pub const TOLD_EVERY: Duration = Duration::from_secs(2);

/// What to tell whom.
pub type FollowMail = Vec<(PublicKey, FollowNews)>;

/// What is to be done about what a daemon has said.
#[derive(Debug)]
pub enum Heard {
    /// This is to be told.
    Mail(FollowMail),
    /// A signature is to be looked at ([`Claim::verify`]), and [`Heads::handle_verified`] told what came of it.
    Claim(Claim),
}

/// A head of which it depends on its signature what becomes of it.
#[derive(Debug)]
pub struct Claim {
    giver: Giver,
    publisher: PublisherId,
    head: Head,
}

/// A [`Claim`] that was looked at.
#[derive(Debug)]
pub struct Verified {
    giver: Giver,
    publisher: PublisherId,
    sequence: u64,
    /// `None` if the signature is wrong.
    head: Option<SignedHead>,
}

/// A daemon, and the network of its address.
type Giver = (PublicKey, IpAddr);

/// The newest heads that one tracker knows, and who follows whom.
#[derive(Debug)]
pub struct Heads {
    kept: KeptHeads,
    looks: Looks,
    followers: BTreeMap<PublisherId, BTreeSet<PublicKey>>,
    peers: BTreeMap<PublicKey, Follower>,
    follows_of: Tally<IpAddr>,
    follows_bound: Bound,
    /// Publishers that those who do follow have told at the last time have not heard of.
    untold: BTreeSet<PublisherId>,
}

/// A connected daemon that has followed somebody.
#[derive(Debug)]
struct Follower {
    network: IpAddr,
    follows: BTreeSet<PublisherId>,
}

/// How many there may be, in all and of each network.
#[derive(Clone, Copy, Debug)]
struct Bound {
    total: usize,
    each: usize,
}

impl Claim {
    /// Looks at the signature: 50 µs of processor time.
    pub fn verify(self) -> Verified {
        Verified {
            giver: self.giver,
            publisher: self.publisher,
            sequence: self.head.sequence,
            head: self.head.verified(),
        }
    }
}

impl Default for Heads {
    fn default() -> Self {
        let (total, each) = (FOLLOWS, FOLLOWS_PER_NETWORK);
        Heads {
            kept: KeptHeads::default(),
            looks: Looks::default(),
            followers: BTreeMap::new(),
            peers: BTreeMap::new(),
            follows_of: Tally::default(),
            follows_bound: Bound { total, each },
            untold: BTreeSet::new(),
        }
    }
}

impl Heads {
    /// Takes in what a daemon says, which is connected from `ip`.
    pub fn handle(
        &mut self,
        now: Instant,
        (peer, ip): (PublicKey, IpAddr),
        request: FollowRequest,
    ) -> Heard {
        let network = prefix(ip);
        Heard::Mail(match request {
            FollowRequest::Give(head) => return self.give(now, (peer, network), head),
            FollowRequest::Follow { publisher } => {
                vec![(peer, self.follow((peer, network), publisher))]
            }
            FollowRequest::Unfollow { publisher } => {
                self.unfollow(now, &peer, &publisher);
                Vec::new()
            }
        })
    }

    /// Takes in what came of a claim. Others may have given a newer head meanwhile, and who gave this one may be
    /// gone.
    pub fn handle_verified(&mut self, now: Instant, verified: Verified) -> FollowMail {
        let ((peer, network), publisher) = (verified.giver, verified.publisher);
        let named = (publisher, verified.sequence);
        let Some(head) = verified.head else {
            return self.answer(peer, named, Given::Invalid);
        };
        if let Some(known) = self.compare(&publisher, &head) {
            return self.answer(peer, named, known);
        }
        let idle_since = Some(now).filter(|_| !self.followers.contains_key(&publisher));
        if !self.kept.keep((publisher, network), head, idle_since) {
            return self.answer(peer, named, Given::TooMany);
        }
        let mut mail = self.answer(peer, named, Given::Kept);
        mail.extend(self.tell(now, publisher, Some(&peer)));
        mail
    }

    /// A daemon's connection has ended.
    pub fn disconnected(&mut self, now: Instant, peer: &PublicKey) {
        let Some(follower) = self.peers.remove(peer) else {
            return;
        };
        for publisher in follower.follows {
            self.end_follow(now, (peer, &follower.network), &publisher);
        }
    }

    /// Forgets what nobody wanted for long, and tells what has waited.
    pub fn expire(&mut self, now: Instant) -> FollowMail {
        self.kept.expire(now);
        self.looks.expire(now);
        let untold = std::mem::take(&mut self.untold).into_iter();
        untold.flat_map(|it| self.tell(now, it, None)).collect()
    }

    /// How many publishers have a head here.
    pub fn len(&self) -> usize {
        self.kept.heads.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.kept.heads.is_empty()
    }

    /// A signature is looked at only where something depends on it.
    fn give(&mut self, now: Instant, giver: Giver, head: Head) -> Heard {
        let (publisher, (peer, network)) = (head.publisher(), giver);
        let named = (publisher, head.sequence);
        Heard::Mail(match self.compare(&publisher, &head) {
            Some(Given::Kept) => {
                self.kept.note_given(now, &publisher);
                self.answer(peer, named, Given::Kept)
            }
            Some(Given::Older) => self.answer(peer, named, Given::Older),
            _ if !self.looks.take(now, network) => self.answer(peer, named, Given::TooMany),
            _ => {
                return Heard::Claim(Claim {
                    giver,
                    publisher,
                    head,
                });
            }
        })
    }

    /// What is to become of a head for the sake of that which is kept; `None` if it may take the place of that.
    fn compare(&self, publisher: &PublisherId, head: &Head) -> Option<Given> {
        let kept = self.kept.head(publisher)?;
        match head.sequence.cmp(&kept.sequence) {
            Ordering::Less => Some(Given::Older),
            Ordering::Equal if head == kept => Some(Given::Kept),
            Ordering::Equal => Some(Given::Differs),
            Ordering::Greater => None,
        }
    }

    /// What who gave a head is told.
    fn answer(
        &self,
        peer: PublicKey,
        (publisher, sequence): (PublisherId, u64),
        result: Given,
    ) -> FollowMail {
        let given = FollowNews::Given {
            publisher,
            sequence,
            result,
        };
        let newest = match result {
            Given::Older | Given::Differs => Some(self.newest(publisher)),
            Given::Kept | Given::Invalid | Given::TooMany => None,
        };
        let news = [Some(given), newest].into_iter().flatten();
        news.map(|news| (peer, news)).collect()
    }

    /// Tells all followers but one the newest head, or notes that they are to be told.
    fn tell(
        &mut self,
        now: Instant,
        publisher: PublisherId,
        but: Option<&PublicKey>,
    ) -> FollowMail {
        let Some(followers) = self.followers.get(&publisher) else {
            return Vec::new();
        };
        if self.kept.head(&publisher).is_none() {
            return Vec::new();
        }
        if !self.kept.may_tell(now, &publisher) {
            self.untold.insert(publisher);
            return Vec::new();
        }
        let others = followers.iter().filter(|follower| Some(*follower) != but);
        let newest = self.newest(publisher);
        others.map(|it| (*it, newest.clone())).collect()
    }

    fn newest(&self, publisher: PublisherId) -> FollowNews {
        let head = self.kept.head(&publisher).cloned();
        FollowNews::Newest { publisher, head }
    }

    fn follow(
        &mut self,
        (peer, network): (PublicKey, IpAddr),
        publisher: PublisherId,
    ) -> FollowNews {
        let follower = self.peers.entry(peer).or_insert_with(|| Follower {
            network,
            follows: BTreeSet::new(),
        });
        if !follower.follows.contains(&publisher) {
            let has_room = self
                .follows_bound
                .has_room(&self.follows_of, &follower.network);
            if !has_room || follower.follows.len() >= FOLLOWS_PER_PEER {
                return FollowNews::TooMany { publisher };
            }
            follower.follows.insert(publisher);
            self.follows_of.add(follower.network);
            self.followers.entry(publisher).or_default().insert(peer);
            self.kept.note_followed(&publisher);
        }
        self.newest(publisher)
    }

    fn unfollow(&mut self, now: Instant, peer: &PublicKey, publisher: &PublisherId) {
        let Some(follower) = self.peers.get_mut(peer) else {
            return;
        };
        if follower.follows.remove(publisher) {
            let network = follower.network;
            self.end_follow(now, (peer, &network), publisher);
        }
    }

    /// A daemon of that network that has followed no longer does.
    fn end_follow(
        &mut self,
        now: Instant,
        (peer, network): (&PublicKey, &IpAddr),
        publisher: &PublisherId,
    ) {
        self.follows_of.subtract(network);
        let Some(followers) = self.followers.get_mut(publisher) else {
            return;
        };
        followers.remove(peer);
        if followers.is_empty() {
            self.followers.remove(publisher);
            self.kept.note_idle(now, publisher);
        }
    }
}

impl Bound {
    fn has_room(&self, tally: &Tally<IpAddr>, network: &IpAddr) -> bool {
        tally.total() < self.total && tally.count(network) < self.each
    }
}

#[cfg(test)]
mod tests;
