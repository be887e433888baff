//! Whose each number is, and for how long.
//!
//! A number is kept for a while after its code has ended, so that who comes late is told why, and does not
//! use up a guess of another code. It is kept while its daemon is away for a moment, too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::code::{Closed, Nameplate};
use crate::id::PublicKey;
use crate::limits::{NAMEPLATES, NAMEPLATES_PER_NETWORK, NAMEPLATES_PER_PEER};
use crate::tally::Tally;
use crate::wire::Claimed;

/// How long a number is kept from when its daemon's connection ended until that daemon claims it again: it comes
/// back within seconds, also to a tracker that was started anew.
pub const GRACE: Duration = Duration::from_secs(120);

/// How long nobody else gets a number whose code has ended.
pub const RETIRED: Duration = Duration::from_secs(600);

/// All numbers that somebody has.
#[derive(Debug)]
pub(super) struct Numbers {
    held: BTreeMap<Nameplate, Held>,
    /// Those of each daemon whose code has not ended, at most [`NAMEPLATES_PER_PEER`].
    live: BTreeMap<PublicKey, BTreeSet<Nameplate>>,
    networks: Tally<IpAddr>,
    /// All numbers below `next` that nobody has.
    free: BTreeSet<Nameplate>,
    /// Never more than one above [`NAMEPLATES`]: it goes on when all below are held.
    next: u16,
}

#[derive(Debug)]
struct Held {
    owner: PublicKey,
    network: IpAddr,
    state: State,
}

/// Live → Away with the owner's connection, and back when it claims the number again; either → Over, until
/// it is forgotten. Over since its owner was away for too long → Live likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live { until: Instant },
    Away { since: Instant, until: Instant },
    Over { why: Closed, since: Instant },
}

impl Default for Numbers {
    fn default() -> Self {
        Numbers {
            held: BTreeMap::new(),
            live: BTreeMap::new(),
            networks: Tally::default(),
            free: BTreeSet::new(),
            next: 1,
        }
    }
}

impl Numbers {
    /// Gives a number to a daemon of that network: the one that is wanted, which it has had before, or the
    /// lowest that is free.
    pub(super) fn claim(
        &mut self,
        (owner, network): (PublicKey, IpAddr),
        wanted: Option<Nameplate>,
        until: Instant,
    ) -> Claimed {
        let wanted = wanted.filter(|it| it.0 > 0);
        if let Some(wanted) = wanted
            && self.held.contains_key(&wanted)
        {
            return self.claim_again(owner, wanted, until);
        }
        if self.held.len() >= NAMEPLATES
            || self.live_count(&owner) >= NAMEPLATES_PER_PEER
            || self.networks.count(&network) >= NAMEPLATES_PER_NETWORK
        {
            return Claimed::TooMany;
        }
        let nameplate = wanted.unwrap_or_else(|| self.lowest_free());
        self.free.remove(&nameplate);
        self.networks.add(network);
        self.live.entry(owner).or_default().insert(nameplate);
        let state = State::Live { until };
        let held = Held {
            owner,
            network,
            state,
        };
        self.held.insert(nameplate, held);
        Claimed::Kept(nameplate)
    }

    /// A number that somebody has goes on to be its daemon's, unless its code has ended by more than absence.
    fn claim_again(&mut self, owner: PublicKey, wanted: Nameplate, until: Instant) -> Claimed {
        let live = self.live_count(&owner);
        let Some(held) = self.held.get_mut(&wanted).filter(|it| it.owner == owner) else {
            return Claimed::Taken;
        };
        match held.state {
            State::Live { .. } | State::Away { .. } => (),
            State::Over { why, .. } if why != Closed::Absent => return Claimed::Taken,
            State::Over { .. } if live >= NAMEPLATES_PER_PEER => return Claimed::TooMany,
            State::Over { .. } => {
                self.live.entry(owner).or_default().insert(wanted);
            }
        }
        held.state = State::Live { until };
        Claimed::Kept(wanted)
    }

    /// Ends the code of a number, if it is this daemon's.
    pub(super) fn release(
        &mut self,
        now: Instant,
        owner: &PublicKey,
        nameplate: Nameplate,
        why: Closed,
    ) {
        let held = self.held.get(&nameplate);
        if held.is_some_and(|it| it.owner == *owner) {
            self.end(now, nameplate, why);
        }
    }

    /// A daemon's connection has ended.
    pub(super) fn disconnected(&mut self, now: Instant, owner: &PublicKey) {
        for nameplate in self.live.get(owner).into_iter().flatten() {
            if let Some(held) = self.held.get_mut(nameplate)
                && let State::Live { until } = held.state
            {
                held.state = State::Away { since: now, until };
            }
        }
    }

    /// Who answers those who open it, or why nobody does.
    pub(super) fn sharer(&self, now: Instant, nameplate: Nameplate) -> Result<PublicKey, Closed> {
        let held = self.held.get(&nameplate).ok_or(Closed::Unknown)?;
        match held.state {
            State::Live { until } | State::Away { until, .. } if until <= now => {
                Err(Closed::Expired)
            }
            State::Live { .. } => Ok(held.owner),
            State::Away { .. } => Err(Closed::Absent),
            State::Over { why, .. } => Err(why),
        }
    }

    /// Ends what has lasted its time, and forgets what has ended long ago.
    pub(super) fn expire(&mut self, now: Instant) {
        let due: Vec<(Nameplate, Due)> = self
            .held
            .iter()
            .filter_map(|(nameplate, held)| Some((*nameplate, held.state.due(now)?)))
            .collect();
        for (nameplate, due) in due {
            match due {
                Due::End(why) => self.end(now, nameplate, why),
                Due::Forget => self.forget(nameplate),
            }
        }
    }

    fn live_count(&self, owner: &PublicKey) -> usize {
        self.live.get(owner).map_or(0, BTreeSet::len)
    }

    /// Short numbers are easy to say.
    fn lowest_free(&mut self) -> Nameplate {
        if let Some(lowest) = self.free.first() {
            return *lowest;
        }
        while self.held.contains_key(&Nameplate(self.next)) {
            self.next += 1;
        }
        Nameplate(self.next)
    }

    /// Ends a code, unless it has ended before.
    fn end(&mut self, now: Instant, nameplate: Nameplate, why: Closed) {
        let Some(held) = self.held.get_mut(&nameplate) else {
            return;
        };
        if matches!(held.state, State::Over { .. }) {
            return;
        }
        held.state = State::Over { why, since: now };
        if let Some(its) = self.live.get_mut(&held.owner) {
            its.remove(&nameplate);
            if its.is_empty() {
                self.live.remove(&held.owner);
            }
        }
    }

    fn forget(&mut self, nameplate: Nameplate) {
        let Some(held) = self.held.remove(&nameplate) else {
            return;
        };
        self.networks.subtract(&held.network);
        if nameplate.0 < self.next {
            self.free.insert(nameplate);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.live.is_empty() && self.networks.is_empty()
    }
}

/// What becomes of a number whose time is up.
enum Due {
    End(Closed),
    Forget,
}

impl State {
    fn due(&self, now: Instant) -> Option<Due> {
        match *self {
            State::Live { until } | State::Away { until, .. } if until <= now => {
                Some(Due::End(Closed::Expired))
            }
            State::Away { since, .. } if since + GRACE <= now => Some(Due::End(Closed::Absent)),
            State::Over { since, .. } if since + RETIRED <= now => Some(Due::Forget),
            State::Live { .. } | State::Away { .. } | State::Over { .. } => None,
        }
    }
}
