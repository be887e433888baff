//! The machine of one download: books every event and hands out the next action.
//!
//! A chunk is missing while it is selected and not verified; what is not selected is not asked for,
//! whoever has it. A missing chunk is either wanted, and then lies in the [`Availability`], or asked of one or two
//! peers. A step costs O(peers) and, for a request, what finding the rarest chunk costs; news costs
//! what it changes. What a peer has that we miss is counted, so that a source is known without
//! looking. Who is reached through a relay is asked only for chunks that nobody has who is reached
//! directly, or soon will have (`patience`); these are told by counting holders once more. Events are booked in `news` (peers)
//! and `ends` (requests); `standings` keeps what is thought of peers; `choice` decides what to do, `invitations` what is done with what others suggest.

mod choice;
#[cfg(test)]
mod consistency;
mod ends;
mod invitations;
#[cfg(test)]
mod invited;
#[cfg(test)]
mod judged;
mod news;
mod preference;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod runs;
mod selecting;
#[cfg(test)]
mod selections;
#[cfg(test)]
pub(super) mod simulation;
mod standings;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod waits;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fixedbitset::FixedBitSet;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::availability::Availability;
use super::holders::Holders;
use super::patience::Patience;
use super::peer::{Peer, Setback};
use super::rate::Rate;
use super::selection::Selection;
use super::standing::BanList;
use super::window::Budget;
use super::{Action, Event, RequestId};
use crate::content::chunks::OutOfRange;
use crate::content::{ChunkIndex, ChunkSet, Content};
use crate::id::PublicKey;

pub(super) use invitations::Invitation;

/// The round trip that decides for how long bytes count in the rate of all peers together.
const RATE_RTT: Duration = Duration::from_millis(100);

/// Into how many steps need is divided.
const NEED_STEPS: u64 = 64;

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It was asked for.
    Asked,
    /// It is ours.
    Had,
    /// It was ours, and is missing.
    Lost,
    /// It is missing, and asked of nobody.
    Missing,
}

/// Decides which chunk of one share to ask of which peer.
#[derive(Debug)]
pub struct Download {
    content: Arc<Content>,
    have: ChunkSet,
    /// What is wanted; everything when it was not said.
    selection: Option<Arc<Selection>>,
    /// The selected chunks that are not in `have`.
    missing: FixedBitSet,
    /// Bytes of selected files in `have`.
    verified_bytes: u64,
    /// Wanted chunks that come before others.
    first_wanted: u32,
    /// How many of the chunks to be read in order are not missing, from the first one on.
    read: usize,
    /// Who can be asked for what.
    holders: Holders,
    /// Peers that have everything.
    seeds: u32,
    /// Chunks that somebody has who does not have everything.
    spread: FixedBitSet,
    /// How rare each chunk is, with what is on its way to others.
    rarity: Availability,
    /// The same of those peers alone who are reached directly and give what they are asked for.
    direct: Availability,
    peers: BTreeMap<PublicKey, Peer>,
    banned: BanList,
    /// Peers of whom something else may be thought than was told.
    reviewed: BTreeSet<PublicKey>,
    /// Before this it would be too soon to compare peers again.
    no_comparison_before: Option<Instant>,
    /// Whether relayed peers are left alone for a while.
    patience: Patience,
    /// Whom each live request was sent to.
    owners: BTreeMap<RequestId, PublicKey>,
    /// The requests for each chunk asked for, one or two.
    in_flight: BTreeMap<ChunkIndex, Vec<RequestId>>,
    budget: Budget,
    /// What all peers deliver between them.
    rate: Rate,
    actions: VecDeque<Action>,
    /// Peers that suggest something while nothing is asked of them.
    invited: BTreeSet<PublicKey>,
    next_request: u64,
    /// What became of chunks since it was last asked.
    changes: Vec<(ChunkIndex, Change)>,
    /// Whether there may be something to ask for, rather than nothing since the last event that
    /// makes room, brings chunks or lets a peer go on.
    may_ask: bool,
    /// No peer has a deadline before this.
    no_deadline_before: Option<Instant>,
    /// When to look for a chunk worth a copy.
    look_for_copy: Option<Instant>,
    /// Before this it would be too soon to look again.
    no_copy_before: Option<Instant>,
    /// Bytes received for nothing because another copy came first.
    wasted_bytes: u64,
    rng: StdRng,
}

impl Download {
    /// A download without peers, of which the chunks `have` are verified already. `seed` decides
    /// between chunks that are equally rare, and spreads pauses.
    pub fn new(content: Arc<Content>, have: ChunkSet, seed: u64) -> Download {
        let len = content.layout.chunk_count();
        let mut download = Download {
            have: ChunkSet::empty(len),
            selection: None,
            missing: FixedBitSet::with_capacity(len as usize),
            verified_bytes: content.size,
            first_wanted: 0,
            read: 0,
            holders: Holders::new(len),
            seeds: 0,
            spread: FixedBitSet::with_capacity(len as usize),
            rarity: Availability::new(len),
            direct: Availability::new(len),
            peers: BTreeMap::new(),
            banned: BanList::default(),
            reviewed: BTreeSet::new(),
            no_comparison_before: None,
            patience: Patience::default(),
            owners: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            budget: Budget::default(),
            rate: Rate::new(RATE_RTT),
            actions: VecDeque::new(),
            invited: BTreeSet::new(),
            next_request: 0,
            changes: Vec::new(),
            may_ask: true,
            no_deadline_before: None,
            look_for_copy: None,
            no_copy_before: None,
            wasted_bytes: 0,
            rng: StdRng::seed_from_u64(seed),
            content,
        };
        have.iter().for_each(|chunk| {
            download.have.insert(chunk);
        });
        for chunk in 0..len {
            let chunk = download.have.index(chunk);
            if let Some(chunk) = chunk.filter(|chunk| !download.have.contains(*chunk)) {
                download.miss(chunk);
            }
        }
        download.changes.clear();
        download
    }

    /// Takes an event in. Afterwards call [`Self::poll`].
    ///
    /// # Errors
    ///
    /// When a peer names a chunk there is not, in [`Event::Has`] or the like: it broke the protocol,
    /// and nothing changed.
    pub fn handle(&mut self, now: Instant, event: Event) -> Result<(), OutOfRange> {
        match event {
            // What is on its way to others leaves nobody more to ask for.
            Event::Started { .. } | Event::Suggested { .. } | Event::Has { .. } => (),
            Event::Received { .. } => self.may_ask = true,
            _ => (self.may_ask, self.look_for_copy) = (true, Some(now)),
        }
        match event {
            Event::PeerJoined { peer, rtt, reach } => self.join(now, peer, (rtt, reach)),
            Event::PeerMoved { peer, rtt, reach } => self.handle_moved(peer, rtt, reach),
            Event::Has { peer, runs } => {
                self.hear(now, peer, &runs)?;
                if self.may_ask {
                    self.look_for_copy = Some(now);
                }
            }
            Event::Started { peer, runs } => return self.handle_started(peer, &runs),
            Event::Suggested { peer, runs } => return self.handle_suggested(peer, &runs),
            Event::Supplied { peer, supplied } => self.handle_supplied(now, peer, supplied),
            Event::Expected { until } => self.patience.expect(until),
            Event::Lacks { peer, runs } => return self.handle_lacks(peer, &runs),
            Event::PeerLeft { peer } => drop(self.part(peer)),
            Event::Received { request, bytes } => self.receive(now, request, bytes),
            Event::Verified { request } => self.verify(now, request),
            Event::Corrupt { request } => self.ban(request),
            Event::Refused { request, reason } => self.refuse(now, request, reason),
            Event::Failed { request } => self.give_up(now, request, Setback::Failed),
            Event::Withdrawn { request } => self.withdraw(now, request),
            Event::Forgotten { runs } => self.forget(&runs),
            Event::Selected { selection } => self.select(now, selection),
            Event::Budget { bytes } => self.budget.limit = bytes,
        }
        Ok(())
    }

    /// The next thing to do. Call until there is nothing.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        self.review_due(now);
        self.handle_timeouts(now);
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        self.poll_late(now)
            .or_else(|| self.poll_invited(now))
            .or_else(|| self.poll_wanted(now))
            .or_else(|| self.poll_copy(now))
    }

    /// When to call [`Self::poll`] even if nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let others = [self.look_for_copy, self.patience.deadline()];
        let others = others.into_iter().flatten();
        self.no_deadline_before.into_iter().chain(others).min()
    }

    /// Whether somebody who is reached directly has everything that we lack. Who does not want
    /// everything will not get it: others need not wait for that.
    pub fn is_supplied(&self) -> bool {
        let mut peers = self.peers.values();
        self.wants_everything()
            && self.direct.orphans().is_none()
            && peers.any(|peer| peer.is_counted && peer.useful > 0)
    }

    /// The chunks that are verified.
    pub fn have(&self) -> &ChunkSet {
        &self.have
    }

    /// Whether no selected chunk is missing.
    pub fn is_complete(&self) -> bool {
        self.missing.is_clear()
    }

    /// Whether every chunk is verified, selected or not.
    pub fn has_everything(&self) -> bool {
        self.have.is_full()
    }

    /// Bytes of the selected files in the verified chunks.
    pub fn verified_bytes(&self) -> u64 {
        self.verified_bytes
    }

    /// Whether a joined peer that is not banned has a chunk we miss.
    pub fn has_source(&self) -> bool {
        let misses = |chunk: ChunkIndex| self.missing.contains(chunk.value() as usize);
        let mut peers = self.peers.values();
        peers.any(|peer| peer.useful > 0 || peer.shunned().any(misses))
    }

    /// How many chunks a joined peer lacks; 0 of anybody else.
    pub(super) fn missing_of(&self, peer: &PublicKey) -> u32 {
        let peer = self.peers.get(peer);
        peer.map_or(0, |peer| self.have.len() - peer.holds.count())
    }

    /// How much of the share a joined peer lacks, in [`NEED_STEPS`]; 0 of anybody else. In steps: if
    /// the very neediest came first, all would serve that one at once and fill its downlink while their
    /// uplinks idle.
    pub(super) fn need_of(&self, peer: &PublicKey) -> u32 {
        let missing = u64::from(self.missing_of(peer)) * NEED_STEPS;
        missing.div_ceil(u64::from(self.have.len().max(1))) as u32
    }

    /// Whether no peer is joined.
    pub fn is_alone(&self) -> bool {
        self.peers.is_empty()
    }

    /// How many joined peers lack something.
    pub(super) fn leeches(&self) -> usize {
        let lacks = |peer: &&Peer| peer.holds.count() < self.have.len();
        self.peers.values().filter(lacks).count()
    }

    /// How many peers have the chunk, or will.
    pub(super) fn copies(&self, chunk: u32) -> i64 {
        self.rarity.copies(chunk)
    }

    /// What became of chunks since the last call, in that order.
    pub(super) fn take_changes(&mut self) -> Vec<(ChunkIndex, Change)> {
        std::mem::take(&mut self.changes)
    }

    /// The chunks that were asked of somebody and are not verified, ascending.
    pub(super) fn asked_for(&self) -> impl Iterator<Item = u32> {
        self.in_flight.keys().map(|chunk| chunk.value())
    }

    /// The first of the live requests for a chunk.
    pub(super) fn brought_by(&self, chunk: ChunkIndex) -> Option<RequestId> {
        self.in_flight.get(&chunk)?.first().copied()
    }

    /// What a live request is for.
    pub(super) fn chunk_of(&self, id: RequestId) -> Option<ChunkIndex> {
        let mut in_flight = self.in_flight.iter();
        in_flight.find_map(|(chunk, all)| all.contains(&id).then_some(*chunk))
    }

    /// Bytes of a chunk.
    pub(super) fn chunk_len(&self, chunk: ChunkIndex) -> u32 {
        self.content.layout.chunk_len(chunk)
    }

    /// Whether any bytes of a live request have come.
    pub(super) fn has_begun(&self, id: RequestId) -> bool {
        let peer = self.owners.get(&id).and_then(|key| self.peers.get(key));
        peer.is_some_and(|peer| peer.has_begun(id))
    }

    /// How much more may be asked for, until it is said anew.
    pub(super) fn set_room(&mut self, bytes: u64) {
        let lacked = self.lacks_room();
        self.budget.room = bytes;
        self.may_ask |= lacked && !self.lacks_room();
    }

    /// Whether something would be asked for if there were room for it.
    pub(super) fn lacks_room(&self) -> bool {
        let chunk_bytes = self.content.layout.longest_chunk().into();
        self.holders.is_askable() && self.budget.lacks_room(chunk_bytes)
    }

    /// Bytes of the chunks that were asked for and not verified, each copy counted.
    pub fn outstanding_bytes(&self) -> u64 {
        self.budget.outstanding
    }
}
