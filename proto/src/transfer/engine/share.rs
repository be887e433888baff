//! One share: what is fetched of it, what is told of it, what a seed of it suggests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

use super::Action;
use super::injection::Injection;
use super::news::{News, Pending};
use crate::content::chunks::OutOfRange;
use crate::content::{ChunkIndex, ChunkSet, Content, Run};
use crate::id::{PublicKey, SwarmId};
use crate::transfer::download::{Change, Invitation};
use crate::transfer::{self, Download};

/// Bytes that are suggested to a peer that has asked for nothing yet: as much as it will ask for.
const FIRST_BYTES: u32 = 1024 * 1024;
/// How long it must have been untrue that somebody has all that we lack before peers are told.
const UNSUPPLIED_DELAY: Duration = Duration::from_millis(250);
/// Suggestions that a peer has open, beside as many as it waits for. Until it asks, nobody else brings
/// these chunks into the swarm.
const MIN_SUGGESTIONS: usize = 2;

/// One open share.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) download: Download,
    pub(super) injection: Injection,
    pending: Pending,
    chunk_bytes: u32,
    /// What peers were told: whether somebody whom we reach directly has all that we lack.
    told_supplied: bool,
    /// When they may be told that it is no longer so.
    may_tell_unsupplied: Option<Instant>,
    /// Chunks that have come, or of which it is known that they will not now; whether they have.
    settled: Vec<(u32, bool)>,
    /// Peers that may want another suggestion.
    unadvised: Vec<PublicKey>,
    /// For when the engine has noted that something is due.
    pub(super) noted: Option<Instant>,
    /// What of [`Self::count`]'s total is ours.
    counted: u64,
}

impl Share {
    pub(super) fn new(content: Arc<Content>, have: ChunkSet, seed: u64) -> Share {
        let chunk_bytes = content.layout.longest_chunk();
        let mut rng = <StdRng as rand::SeedableRng>::seed_from_u64(seed);
        Share {
            injection: Injection::new(have.len(), &mut rng),
            download: Download::new(content, have, rng.random()),
            pending: Pending::default(),
            chunk_bytes,
            told_supplied: false,
            may_tell_unsupplied: None,
            settled: Vec::new(),
            unadvised: Vec::new(),
            noted: None,
            counted: 0,
        }
    }

    /// Takes an event in.
    ///
    /// # Errors
    ///
    /// See [`Download::handle`].
    pub(super) fn handle(
        &mut self,
        now: Instant,
        event: transfer::Event,
    ) -> Result<(), OutOfRange> {
        use transfer::Event as E;
        let (advise, gone) = match &event {
            E::PeerJoined { peer, .. } => (Some(*peer), Some(*peer)),
            E::Has { peer, .. } | E::Started { peer, .. } => (Some(*peer), None),
            E::PeerLeft { peer } => (None, Some(*peer)),
            _ => (None, None),
        };
        self.download.handle(now, event)?;
        gone.iter().for_each(|peer| self.injection.part(peer));
        self.unadvised.extend(advise);
        self.account(now);
        Ok(())
    }

    /// What a peer that has just joined is told.
    pub(super) fn greeting(&self) -> News {
        News {
            have: self.download.have().runs(),
            started: Run::fewest(self.download.asked_for()),
            lost: Vec::new(),
            supplied: self.told_supplied.then_some(true),
        }
    }

    /// The next thing to do. `queued` tells what a peer has asked of us, in bytes.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        swarm: SwarmId,
        queued: impl Fn(&PublicKey) -> u64,
    ) -> Option<Action> {
        if let Some(action) = self.download.poll(now) {
            self.account(now);
            return Some(Action::Share { swarm, action });
        }
        if let Some((peer, standing)) = self.download.poll_standing() {
            return Some(Action::Judged {
                swarm,
                peer,
                standing,
            });
        }
        let supplied = self.poll_supplied(now);
        let news = self.pending.take(now).unwrap_or_default();
        let news = News { supplied, ..news };
        if !news.is_empty() {
            return Some(Action::Announce { swarm, news });
        }
        self.injection.expire(now, |peer| queued(peer) > 0);
        while let Some(peer) = self.unadvised.pop() {
            if let Some(runs) = self.suggest(now, peer, queued(&peer)) {
                return Some(Action::Suggest { swarm, peer, runs });
            }
        }
        None
    }

    /// Brings what this share has outstanding up to date in the total of all shares, in bytes.
    pub(super) fn count(&mut self, total: &mut u64) {
        self.uncount(total);
        self.counted = self.download.outstanding_bytes();
        *total += self.counted;
    }

    /// Takes it out of the total.
    pub(super) fn uncount(&self, total: &mut u64) {
        *total -= self.counted;
    }

    /// The length of a chunk that would be asked for if there were room for it.
    pub(super) fn lacks_room(&self) -> Option<u64> {
        let lacks = self.download.lacks_room();
        lacks.then_some(self.chunk_bytes.into())
    }

    /// When to poll even if nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let download = self.download.deadline();
        let rest = [
            self.pending.deadline(),
            self.injection.deadline(),
            self.may_tell_unsupplied,
        ];
        download.into_iter().chain(rest.into_iter().flatten()).min()
    }

    /// A peer has asked us for a chunk.
    pub(super) fn asked(&mut self, now: Instant, peer: PublicKey, chunk: ChunkIndex) {
        self.injection.taken(now, &peer, chunk.value());
        self.unadvised.push(peer);
    }

    /// Which neighbour to invite, and to what. A seed invites nobody while it still has something to
    /// suggest that nobody has.
    pub(super) fn invite(
        &self,
        rng: &mut impl Rng,
        may: impl Fn(&PublicKey) -> bool,
    ) -> Option<Invitation> {
        if self.download.has_everything() && self.injection.left() > 0 {
            return None;
        }
        self.download.invite(rng, may)
    }

    /// Tells whether somebody whom we reach directly has all that we lack, if that is something new: at
    /// once when it is so, and not too often when it is no longer so.
    fn poll_supplied(&mut self, now: Instant) -> Option<bool> {
        let is_moot = self.download.is_complete() || self.download.is_alone();
        let supplied = self.download.is_supplied();
        if is_moot || supplied == self.told_supplied {
            self.may_tell_unsupplied = None;
            return None;
        }
        let due = *self
            .may_tell_unsupplied
            .get_or_insert(now + UNSUPPLIED_DELAY);
        if !supplied && now < due {
            return None;
        }
        (self.told_supplied, self.may_tell_unsupplied) = (supplied, None);
        Some(supplied)
    }

    /// What became of chunks that were on their way since this was last called: whether they have come.
    pub(super) fn take_settled(&mut self) -> Vec<(u32, bool)> {
        std::mem::take(&mut self.settled)
    }

    /// Gathers what is to be told.
    fn account(&mut self, now: Instant) {
        for (chunk, change) in self.download.take_changes() {
            if change != Change::Asked {
                self.settled.push((chunk.value(), change == Change::Had));
            }
            match change {
                Change::Asked => self.pending.started(now, chunk.value()),
                Change::Had => self.pending.have(now, chunk.value()),
                Change::Lost => self.pending.forgotten(now, chunk.value()),
                Change::Missing => self.pending.lost(now, chunk.value()),
            }
        }
    }

    /// Chunks that this peer should ask a seed for, once it has few suggestions left.
    fn suggest(&mut self, now: Instant, peer: PublicKey, queued: u64) -> Option<Vec<Run>> {
        if !self.download.has_everything() || self.download.missing_of(&peer) == 0 {
            return None;
        }
        let leeches = self.download.leeches().max(1);
        let open = self.injection.open_of(&peer);
        let wanted = match self.injection.has_asked(&peer) {
            true => MIN_SUGGESTIONS + (queued / u64::from(self.chunk_bytes.max(1))) as usize,
            false => MIN_SUGGESTIONS.max((FIRST_BYTES / self.chunk_bytes.max(1)) as usize),
        };
        if open > wanted / 2 {
            return None;
        }
        let part = self.injection.left().div_ceil(leeches);
        let count = (wanted - open).min(part);
        let download = &self.download;
        let is_fit = |chunk| download.copies(chunk) == 0;
        let chunks = self.injection.suggest(now, peer, count, is_fit);
        (!chunks.is_empty()).then(|| Run::fewest(chunks))
    }
}
