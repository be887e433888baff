//! What we and trackers say to each other of followable shares.
//!
//! Every tracker that may know of a publisher is asked for its newest head, and is given ours where it knows none
//! or an older one: so nothing is lost with a tracker that is started anew, or while the publisher sleeps.
//!
//! Not here: what becomes of a newer version ([`super::following`]), how ours are made ([`super::publishing`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use warren_proto::content::Link;
use warren_proto::follow::{FollowLink, Head, PublisherId};
use warren_proto::id::{SwarmId, TrackerPin};
use warren_proto::wire::{FollowNews, FollowRequest, Given, ToTracker};

use super::Node;
use super::beginning::Way;
use super::commands::EVENTS;
use super::following::{Following, MOST};
use super::report::tell_last;
use super::trackers::{OWN, TrackerState};
use crate::control::follow;
use crate::control::model::{ApiError, Event, PublishedShare};
use crate::control::source::Parsed;
use crate::share::Watcher;
use crate::store::following::{Held, KnownVersion, Published};
use crate::tracker::TrackerId;

/// How long a tracker may take to be reached and to say which version is the newest.
const PATIENCE: Duration = Duration::from_secs(10);

/// Links whose newest version is being asked for at once.
const ASKED: usize = 32;

/// All that a node knows of followable shares.
#[derive(Debug, Default)]
pub(super) struct Follows {
    /// Of others.
    pub(super) followed: BTreeMap<PublisherId, Following>,
    /// Of ours.
    pub(super) published: BTreeMap<PublisherId, Published>,
    /// Shares that are versions of something that is not followed.
    pub(super) known: BTreeMap<SwarmId, KnownVersion>,
    asked: Vec<Asked>,
}

/// Somebody who waits for the newest head.
#[derive(Debug)]
struct Asked {
    link: FollowLink,
    then: Then,
    watcher: Watcher,
    deadline: Instant,
}

/// What the newest version is wanted for.
#[derive(Clone, Debug)]
pub(super) enum Then {
    /// To be fetched, and no later one.
    Once(Way),
    /// To be shown, and not fetched.
    Preview,
    /// To be followed; the first version begins so.
    Follow(Way),
}

impl Node {
    /// Fetches the newest version of a share, and with [`Then::Follow`] those that come.
    pub(super) fn follow(&mut self, link: FollowLink, then: Then) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let watcher = Watcher::new(events);
        self.ask_newest(link, then, watcher);
        receiver
    }

    /// Asks the tracker of a link which version is the newest.
    pub(super) fn ask_newest(&mut self, link: FollowLink, then: Then, watcher: Watcher) {
        let (publisher, pin) = (link.publisher, link.tracker.pin);
        let is_followed = self.follows.followed.contains_key(&publisher);
        if is_followed && let Then::Follow(way) = then {
            self.follow_again(publisher, way, watcher);
        } else if let Some(error) = self.why_not_follow(&publisher) {
            tell_last(watcher, error.into());
        } else {
            self.ensure_trackers(std::slice::from_ref(&link.tracker));
            let deadline = watcher.since + PATIENCE;
            self.follows.asked.push(Asked {
                link,
                then,
                watcher,
                deadline,
            });
            self.refuse_old_trackers();
            self.say_of_heads(pin, || FollowRequest::Follow { publisher });
        }
    }

    fn why_not_follow(&self, publisher: &PublisherId) -> Option<ApiError> {
        let follows = &self.follows;
        if let Some(published) = follows.published.get(publisher) {
            return Some(follow::own_share(&published.path));
        }
        let is_full = follows.followed.len() + follows.asked.len() >= MOST;
        let is_busy = follows.asked.len() >= ASKED;
        (is_full || is_busy).then(|| follow::too_many(MOST))
    }

    /// Says this to our own tracker and to that of this key, where they are connected and understand it.
    pub(super) fn say_of_heads(&self, pin: TrackerPin, request: impl Fn() -> FollowRequest) {
        for (id, tracker) in &self.trackers {
            if *id == OWN || tracker.pin == Some(pin) {
                say(tracker, request());
            }
        }
    }

    /// Gives a head to a tracker.
    pub(super) fn give_head(&self, tracker: TrackerId, head: Head) {
        if let Some(tracker) = self.trackers.get(&tracker) {
            say(tracker, FollowRequest::Give(head));
        }
    }

    /// There is a new connection to a tracker: it may be another process, which knows nothing.
    pub(super) fn ask_heads(&mut self, id: TrackerId) {
        self.refuse_old_trackers();
        let Some(tracker) = self.trackers.get(&id) else {
            return;
        };
        let is_its = |link: &FollowLink| id == OWN || tracker.pin == Some(link.tracker.pin);
        let follows = &self.follows;
        let rows = follows.followed.values().map(|it| &it.row.link);
        let asked = follows.asked.iter().map(|asked| &asked.link);
        let others = rows.chain(asked).filter(|link| is_its(link));
        let ours = follows.published.keys().filter(|_| id == OWN);
        for publisher in others.map(|link| link.publisher).chain(ours.copied()) {
            say(tracker, FollowRequest::Follow { publisher });
        }
    }

    /// Who waits for a tracker that knows nothing of all this is told so.
    fn refuse_old_trackers(&mut self) {
        let trackers = &self.trackers;
        let is_old = |asked: &mut Asked| {
            let mut its = trackers.values().filter(|it| it.connected);
            its.any(|it| it.pin == Some(asked.link.tracker.pin) && !it.follows)
        };
        let refused: Vec<Asked> = self.follows.asked.extract_if(.., is_old).collect();
        for asked in refused {
            let tracker = asked.link.tracker.host_port().to_string();
            tell_last(asked.watcher, follow::tracker_too_old(&tracker).into());
            self.stop_hearing(asked.link.publisher, asked.link.tracker.pin);
        }
    }

    /// Lets trackers tell us no more of a publisher, unless somebody here still wants to hear of it.
    pub(super) fn stop_hearing(&self, publisher: PublisherId, pin: TrackerPin) {
        let follows = &self.follows;
        let is_asked = |asked: &Asked| asked.link.publisher == publisher;
        let is_wanted = follows.followed.contains_key(&publisher)
            || follows.published.contains_key(&publisher)
            || follows.asked.iter().any(is_asked);
        if !is_wanted {
            self.say_of_heads(pin, || FollowRequest::Unfollow { publisher });
        }
    }

    /// Takes in what a tracker says of followable shares.
    pub(super) fn handle_follow_news(&mut self, id: TrackerId, news: FollowNews) {
        match news {
            FollowNews::Newest {
                publisher,
                head: Some(head),
            } => self.handle_head(id, publisher, head),
            FollowNews::Newest {
                publisher,
                head: None,
            } => {
                if let Some(head) = self.known_head(&publisher) {
                    self.give_head(id, head);
                }
            }
            FollowNews::Given {
                publisher,
                sequence,
                result,
            } => note_given(&publisher, sequence, result),
            FollowNews::TooMany { publisher } => {
                tracing::warn!(%publisher, "the tracker has no room for another follower");
            }
        }
    }

    /// The newest that we know of this publisher.
    fn known_head(&self, publisher: &PublisherId) -> Option<Head> {
        let followed = self.follows.followed.get(publisher);
        let followed = followed.map(|it| &it.row.head);
        let published = self.follows.published.get(publisher);
        let head = followed.or_else(|| published.map(|it| &it.head));
        head.cloned()
    }

    fn handle_head(&mut self, id: TrackerId, publisher: PublisherId, head: Head) {
        let known = self.known_head(&publisher);
        let is_asked = |asked: &Asked| asked.link.publisher == publisher;
        if known.as_ref() == Some(&head) && !self.follows.asked.iter().any(is_asked) {
            return;
        }
        // Only then: what nobody has asked for costs no more than this.
        let is_wanted = known.is_some() || self.follows.asked.iter().any(is_asked);
        if !is_wanted || head.publisher() != publisher || !head.is_signed() {
            tracing::debug!(%publisher, "a head that nobody has asked for, or that is not signed");
            return;
        }
        let newest = known.filter(|known| known.sequence >= head.sequence);
        self.answer_asked(publisher, newest.as_ref().unwrap_or(&head));
        match newest {
            None => self.note_head(publisher, head),
            Some(known) if known.sequence > head.sequence => self.give_head(id, known),
            Some(known) if known != head => {
                let sequence = head.sequence;
                tracing::warn!(%publisher, sequence, "a publisher has signed two versions with one number; the first stays");
            }
            Some(_) => (),
        }
    }

    fn note_head(&mut self, publisher: PublisherId, head: Head) {
        match self.follows.published.contains_key(&publisher) {
            true => self.note_published_elsewhere(publisher, head),
            false => self.note_newer(publisher, head),
        }
    }

    /// Those who have waited for it go on.
    fn answer_asked(&mut self, publisher: PublisherId, head: &Head) {
        let asked = &mut self.follows.asked;
        let its = asked.extract_if(.., |asked| asked.link.publisher == publisher);
        let its: Vec<Asked> = its.collect();
        let pins: BTreeSet<TrackerPin> = its.iter().map(|asked| asked.link.tracker.pin).collect();
        for Asked {
            link,
            then,
            watcher,
            ..
        } in its
        {
            let Some(version) = head.open(&link.read) else {
                tell_last(watcher, follow::not_readable().into());
                continue;
            };
            let newest = Link {
                kind: version.kind,
                id: version.id,
                tracker: link.tracker.clone(),
                secret: version.secret,
            };
            match then {
                Then::Follow(way) if self.follows.followed.contains_key(&publisher) => {
                    self.follow_again(publisher, way, watcher);
                }
                Then::Follow(way) => self.begin_following((link, head.clone()), way, watcher),
                Then::Once(way) => {
                    let swarm = SwarmId::of(version.kind, &version.id, version.secret.as_ref());
                    self.start_download(Parsed::Link(newest), way, watcher);
                    if !self.follows.followed.contains_key(&publisher) {
                        let sequence = head.sequence;
                        self.know_version(publisher, Held { sequence, swarm });
                    }
                }
                Then::Preview => self.preview_signed(&newest, signed_by(head), watcher),
            }
        }
        for pin in pins {
            self.stop_hearing(publisher, pin);
        }
    }

    /// Tells those who have waited too long.
    pub(super) fn watch_asked(&mut self, now: Instant) {
        let asked = &mut self.follows.asked;
        let overdue =
            asked.extract_if(.., |it| it.deadline <= now || it.watcher.events.is_closed());
        let overdue: Vec<Asked> = overdue.collect();
        for asked in overdue {
            let pin = asked.link.tracker.pin;
            let is_there = |it: &TrackerState| it.connected && it.pin == Some(pin);
            let tracker = asked.link.tracker.host_port().to_string();
            let error = match self.trackers.values().any(is_there) {
                true => follow::no_version(&tracker),
                false => follow::no_tracker(&tracker),
            };
            tell_last(asked.watcher, error.into());
            self.stop_hearing(asked.link.publisher, pin);
        }
    }

    /// The trackers of links, which are needed as those of shares are.
    pub(super) fn followed_pins(&self) -> impl Iterator<Item = TrackerPin> {
        let follows = &self.follows;
        let rows = follows.followed.values().map(|it| &it.row.link);
        let asked = follows.asked.iter().map(|asked| &asked.link);
        rows.chain(asked).map(|link| link.tracker.pin)
    }
}

fn signed_by(head: &Head) -> PublishedShare {
    PublishedShare {
        publisher: head.publisher().to_string(),
        sequence: head.sequence,
    }
}

/// What does not get there is made up for by the next connection.
fn say(tracker: &TrackerState, request: FollowRequest) {
    let can = tracker.connected && tracker.follows;
    if can && !tracker.handle.say(ToTracker::Follow(request)) {
        tracing::debug!("too much is waiting to be said to the tracker");
    }
}

fn note_given(publisher: &PublisherId, sequence: u64, result: Given) {
    match result {
        Given::Kept => tracing::info!(%publisher, sequence, "the tracker knows the newest version"),
        // It says next what it knows.
        Given::Older | Given::Differs => (),
        Given::Invalid => {
            tracing::warn!(%publisher, sequence, "the tracker finds a signature wrong")
        }
        Given::TooMany => {
            tracing::warn!(%publisher, sequence, "the tracker has no room for another followable share");
        }
    }
}
