//! What the full-screen view knows: all that the daemon has told, rates made of it, and where the person is.
//!
//! Not here: what a key does ([`super::update`]), how it looks ([`super::view`]).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use warren_daemon::control::model::{Contents, Event, Limits, Peer, Share, ShareState, Tracker};

/// Samples of rates that are kept, one a second: as many as the widest graph shows.
const HISTORY: usize = 240;

/// How much a new sample counts in a rate, so that it can be read: half after two seconds.
const SMOOTHING: f64 = 0.3;

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct State {
    /// Number of the daemon.
    pub(super) idx: u16,
    /// What to type to share something.
    pub(super) register: String,
    /// Whether colours may be used.
    pub(super) colour: bool,
    /// By content id.
    pub(super) shares: BTreeMap<String, ShareRow>,
    /// Content ids in the order in which they are listed: by name, then by id.
    pub(super) order: Vec<String>,
    /// By short name.
    pub(super) peers: BTreeMap<String, PeerRow>,
    /// By address.
    pub(super) trackers: BTreeMap<String, Tracker>,
    pub(super) limits: Limits,
    /// Bytes a second received and sent, of all peers, oldest first.
    pub(super) history: VecDeque<(u64, u64)>,
    /// The share on which the person is.
    pub(super) selected: Option<String>,
    pub(super) screen: Screen,
    pub(super) dialog: Dialog,
    /// Files and map of the share whose details are shown.
    pub(super) contents: Option<Contents>,
    /// Whether they were asked for and the answer has not come.
    pub(super) asking_contents: bool,
    /// The first file that is shown of it.
    pub(super) first_file: usize,
    /// What came of the last thing that was asked for.
    pub(super) note: Option<Note>,
    /// Why the daemon does not answer.
    pub(super) gone: Option<String>,
}

/// What fills the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Screen {
    /// All shares.
    List,
    /// One share.
    Details,
}

/// What is in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dialog {
    None,
    /// All keys.
    Help,
    /// Whether to remove this share.
    Remove(String),
    /// New limits.
    Limits(Form),
}

/// Limits as they are typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// What is sent and what is received.
    pub(super) fields: [String; 2],
    /// Which of them is typed into.
    pub(super) at: usize,
    /// What is wrong with it.
    pub(super) error: Option<String>,
}

/// One line for the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) text: String,
    pub(super) is_error: bool,
}

/// A share and how fast it comes.
#[derive(Debug)]
pub(super) struct ShareRow {
    pub(super) share: Share,
    down: Rate,
    /// Of what is read of the disk and found to be right.
    read: Rate,
    /// Bytes a second received, oldest first.
    pub(super) history: VecDeque<u64>,
}

/// A peer and how fast it sends and receives.
#[derive(Debug)]
pub(super) struct PeerRow {
    pub(super) peer: Peer,
    down: Rate,
    up: Rate,
}

/// Bytes a second, made of a count that grows.
#[derive(Clone, Copy, Debug)]
struct Rate {
    last: u64,
    per_s: f64,
}

impl Rate {
    fn new(count: u64) -> Rate {
        let per_s = 0.0;
        Rate { last: count, per_s }
    }

    fn sample(&mut self, count: u64, elapsed: Duration) {
        let new = count.saturating_sub(self.last) as f64 / elapsed.as_secs_f64().max(0.1);
        self.per_s += (new - self.per_s) * SMOOTHING;
        self.last = count;
    }

    fn bytes_per_s(self) -> u64 {
        // What is left of a rate that has ended is none.
        match self.per_s < 1.0 {
            true => 0,
            false => self.per_s as u64,
        }
    }
}

impl ShareRow {
    fn new(share: Share) -> ShareRow {
        ShareRow {
            down: Rate::new(received(&share)),
            read: Rate::new(share.verified_bytes),
            share,
            history: VecDeque::new(),
        }
    }

    /// Bytes a second received; none where nothing is fetched, whatever came a moment ago.
    pub(super) fn down(&self) -> u64 {
        match self.share.state {
            ShareState::Downloading | ShareState::Metadata | ShareState::Waiting => {
                self.down.bytes_per_s()
            }
            _ => 0,
        }
    }

    /// Bytes a second read and verified of what is here.
    pub(super) fn read(&self) -> u64 {
        match self.share.state {
            ShareState::Hashing => self.read.bytes_per_s(),
            _ => 0,
        }
    }

    /// A rate that has ended leaves nothing behind for when it goes on.
    fn settle(&mut self) {
        if self.down() == 0 {
            self.down.per_s = 0.0;
        }
        if self.read() == 0 {
            self.read.per_s = 0.0;
        }
    }

    /// Part of it that is here, 0 to 1; none while its size is not known.
    pub(super) fn done(&self) -> Option<f64> {
        let Share {
            bytes,
            verified_bytes,
            ..
        } = self.share;
        match (bytes, self.share.state) {
            (0, ShareState::Seeding) => Some(1.0),
            (0, _) => None,
            (bytes, _) => Some(verified_bytes as f64 / bytes as f64),
        }
    }

    /// Seconds until it is complete, as fast as it comes now.
    pub(super) fn left_s(&self) -> Option<u64> {
        let left = self.share.bytes.saturating_sub(self.share.verified_bytes);
        left.checked_div(self.down().max(self.read()))
            .filter(|_| left > 0)
    }
}

impl PeerRow {
    fn new(peer: Peer) -> PeerRow {
        PeerRow {
            down: Rate::new(peer.down_bytes),
            up: Rate::new(peer.up_bytes),
            peer,
        }
    }

    /// Bytes a second received from it and sent to it.
    pub(super) fn rates(&self) -> (u64, u64) {
        (self.down.bytes_per_s(), self.up.bytes_per_s())
    }
}

fn received(share: &Share) -> u64 {
    share.direct_bytes.saturating_add(share.relayed_bytes)
}

impl State {
    /// Of a daemon that has said nothing yet.
    pub(super) fn new(idx: u16, colour: bool) -> State {
        State {
            idx,
            register: format!("client register PATH {idx}"),
            colour,
            shares: BTreeMap::new(),
            order: Vec::new(),
            peers: BTreeMap::new(),
            trackers: BTreeMap::new(),
            limits: Limits::default(),
            history: VecDeque::new(),
            selected: None,
            screen: Screen::List,
            dialog: Dialog::None,
            contents: None,
            asking_contents: false,
            first_file: 0,
            note: None,
            gone: None,
        }
    }

    /// The place of the selected share among all, from 0.
    pub(super) fn position(&self) -> usize {
        let selected = self.selected.as_ref();
        let found = selected.and_then(|id| self.order.iter().position(|it| it == id));
        found.unwrap_or_default()
    }

    /// Content id of the selected share, which is what keys are about.
    pub(super) fn current_id(&self) -> Option<String> {
        self.current().map(|row| row.share.content_id.clone())
    }

    /// The selected share.
    pub(super) fn current(&self) -> Option<&ShareRow> {
        self.shares.get(self.selected.as_ref()?)
    }

    /// The share at this place, or the last.
    pub(super) fn select(&mut self, position: usize) {
        let last = self.order.len().saturating_sub(1);
        self.selected = self.order.get(position.min(last)).cloned();
    }

    /// Forgets what was told, and takes in how everything stands. The person stays where they are as long as
    /// that is there.
    pub(super) fn begin_anew(&mut self, standing: Vec<Event>) {
        self.shares.clear();
        self.order.clear();
        self.peers.clear();
        self.trackers.clear();
        let selected = self.selected.take();
        standing.into_iter().for_each(|event| self.take(event));
        match selected {
            Some(id) if self.shares.contains_key(&id) => self.selected = Some(id),
            _ => {
                self.select(0);
                self.screen = Screen::List;
                self.contents = None;
            }
        }
        if let Dialog::Remove(id) = &self.dialog
            && !self.shares.contains_key(id)
        {
            self.dialog = Dialog::None;
        }
    }

    /// Takes in what the daemon has told.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Share(share) => self.take_share(share),
            Event::Peer(peer) => match self.peers.get_mut(&peer.peer) {
                Some(row) => row.peer = peer,
                None => drop(self.peers.insert(peer.peer.clone(), PeerRow::new(peer))),
            },
            Event::Tracker(tracker) => {
                self.trackers.insert(tracker.address.clone(), tracker);
            }
            Event::Limits(limits) => self.limits = limits,
            Event::Contents(contents) => {
                self.asking_contents = false;
                // An answer may come when another share is shown already.
                if self.current_id().as_ref() == Some(&contents.content_id) {
                    self.contents = Some(contents);
                }
            }
            Event::Gone(gone) => match gone.what.as_str() {
                "share" => self.drop_share(&gone.id),
                "peer" => drop(self.peers.remove(&gone.id)),
                "tracker" => drop(self.trackers.remove(&gone.id)),
                _ => (),
            },
            _ => (),
        }
    }

    fn take_share(&mut self, share: Share) {
        let id = share.content_id.clone();
        let is_in_place = match self.shares.get_mut(&id) {
            Some(row) if row.share.name == share.name => {
                row.share = share;
                true
            }
            Some(row) => {
                row.share = share;
                self.order.retain(|it| *it != id);
                false
            }
            None => {
                self.shares.insert(id.clone(), ShareRow::new(share));
                false
            }
        };
        if !is_in_place {
            let key = self.key(&id);
            let at = self.order.partition_point(|it| self.key(it) < key);
            self.order.insert(at, id.clone());
        }
        self.selected.get_or_insert(id);
    }

    /// What shares are ordered by.
    fn key<'a>(&'a self, id: &'a str) -> (&'a str, &'a str) {
        let row = self.shares.get(id);
        (row.map_or("", |row| row.share.name.as_str()), id)
    }

    /// The one after it is selected then.
    fn drop_share(&mut self, id: &str) {
        let position = self.position();
        let was_selected = self.selected.as_deref() == Some(id);
        self.shares.remove(id);
        self.order.retain(|it| it != id);
        if self.dialog == Dialog::Remove(id.to_owned()) {
            self.dialog = Dialog::None;
        }
        if was_selected {
            self.select(position);
            self.screen = Screen::List;
            self.contents = None;
        }
    }

    /// Makes rates of what was told since the last time.
    pub(super) fn sample(&mut self, elapsed: Duration) {
        for row in self.shares.values_mut() {
            row.down.sample(received(&row.share), elapsed);
            row.read.sample(row.share.verified_bytes, elapsed);
            row.settle();
            let down = row.down();
            // Of a share at rest nothing need be remembered.
            if down > 0 || !row.history.is_empty() {
                remember(&mut row.history, down);
            }
        }
        let (mut down, mut up) = (0, 0);
        for row in self.peers.values_mut() {
            row.down.sample(row.peer.down_bytes, elapsed);
            row.up.sample(row.peer.up_bytes, elapsed);
            down += row.down.bytes_per_s();
            up += row.up.bytes_per_s();
        }
        remember(&mut self.history, (down, up));
    }

    /// Bytes a second received and sent, of all peers.
    pub(super) fn rates(&self) -> (u64, u64) {
        self.history.back().copied().unwrap_or_default()
    }
}

fn remember<T>(history: &mut VecDeque<T>, sample: T) {
    if history.len() == HISTORY {
        history.pop_front();
    }
    history.push_back(sample);
}
