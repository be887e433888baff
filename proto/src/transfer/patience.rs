//! When peers behind a relay are left alone although they have what nobody reached directly has.
//!
//! At the start of a swarm only the seed has anything, and who reaches it by a relay alone would draw
//! everything through that. But those who reach it directly will soon pass it on. They say so: a peer
//! is *supplied* while everything it lacks is had by somebody whom it reaches directly. While one such
//! peer is reached directly the relay is left alone, for as long as ever more can be had from those
//! reached directly, and something of it comes: whoever only says so is not believed for ever. Who waits
//! is not supplied itself, so no two wait for each other.
//!
//! Before that, while others are being met who are likely to be reached directly, a relayed peer is
//! asked for one chunk at a time: enough for a first byte at once, and little in vain.

use std::time::{Duration, Instant};

/// How long nothing more may come to be had directly before the relay is used: what the first chunks
/// take from a slow seed that gives some to many at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it is waited for words alone: without a chunk that somebody reached directly has brought.
const LONGEST: Duration = Duration::from_secs(30);

/// After so long from its beginning it is waited again.
const FORGIVEN: Duration = Duration::from_secs(300);

/// Until when relayed peers are left alone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    /// Somebody reached directly will soon have what is wanted.
    supplied: Option<Instant>,
    /// Since when that is waited for without anything having come.
    since: Option<Instant>,
    /// Others are being met.
    expected: Option<Instant>,
}

/// How much may be asked of relayed peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restraint {
    /// Whatever nobody who is reached directly has.
    Free,
    /// One chunk at a time of each.
    OneChunk,
    /// Nothing.
    Nothing,
}

impl Patience {
    /// Others are being met until then.
    pub(super) fn expect(&mut self, until: Instant) {
        self.expected = self.expected.max(Some(until));
    }

    /// Somebody will soon have more, or has come to have more, or says so.
    pub(super) fn wait(&mut self, now: Instant) {
        self.since.take_if(|since| *since + FORGIVEN <= now);
        let since = *self.since.get_or_insert(now);
        let until = (now + PATIENCE).min(since + LONGEST);
        self.supplied = Some(until).filter(|until| *until > now);
    }

    /// Somebody who is reached directly has brought something.
    pub(super) fn reward(&mut self) {
        self.since = None;
    }

    /// Forgets what is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.supplied.take_if(|until| *until <= now);
        self.expected.take_if(|until| *until <= now);
    }

    /// What holds until [`Self::deadline`], or until there is no supplied peer any more.
    pub(super) fn restraint(&self, has_supplier: impl FnOnce() -> bool) -> Restraint {
        match (self.supplied, self.expected) {
            (Some(_), _) if has_supplier() => Restraint::Nothing,
            (_, Some(_)) => Restraint::OneChunk,
            (_, None) => Restraint::Free,
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.supplied.into_iter().chain(self.expected).min()
    }
}

impl Restraint {
    /// Whether a relayed peer may be asked, and whether anything is asked of it already.
    pub(super) fn allows(self, is_asked: bool) -> bool {
        match self {
            Restraint::Free => true,
            Restraint::OneChunk => !is_asked,
            Restraint::Nothing => false,
        }
    }
}
