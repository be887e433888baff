//! What is simulated: the share, the peers and the paths between them.

use std::time::Duration;

use super::queue::Nanos;
use crate::content::ChunkSet;
pub use crate::swarm::Class;
pub use crate::swarm::Shape;
use crate::swarm::Site;
use crate::transfer::Reach;

/// A maximum segment, for the rate that loss allows.
const SEGMENT_BYTES: f64 = 1452.0;

/// A whole run. The same plan gives the same run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it is called.
    pub name: String,
    /// Decides whatever is left to chance.
    pub seed: u64,
    /// Chunks of the share.
    pub chunks: u32,
    /// Bytes of each.
    pub chunk_bytes: u32,
    /// Round trip of the mean pair.
    pub rtt: Duration,
    /// By which part of it the round trips of pairs differ from it at most, both ways; below 1.
    pub rtt_spread: f64,
    /// Part of the packets that are lost. Each path then carries no more than
    /// 1.22 segments / (round trip x sqrt(loss)) (Mathis et al. 1997); 0 for no such bound.
    pub loss: f64,
    /// Bytes per second of the line that all relayed paths share; 0 when there is no relay.
    pub relay: f64,
    /// Who is connected to whom, where that is possible.
    pub topology: Topology,
    /// What happens to one peer within this time is told to its engine together.
    pub tick: Duration,
    /// Bytes each engine may have outstanding; `None` leaves it at its default.
    pub budget: Option<u64>,
    /// In how many pieces at most a chunk is told as it comes, beside the last 64 KiB.
    pub pieces: u32,
    /// Who takes part.
    pub peers: Vec<Member>,
    /// When to give up.
    pub patience: Duration,
}

/// One peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Bytes per second it can send.
    pub up: f64,
    /// Bytes per second it can receive.
    pub down: f64,
    /// What it has from the start.
    pub has: Has,
    /// What it does wrong.
    pub fault: Fault,
    /// How it can be reached.
    pub class: Class,
    /// When it comes and goes, ascending, beginning with a coming.
    pub presence: Vec<(Duration, Change)>,
    /// It leaves once it has sent so many times the share.
    pub sends_at_most: Option<f64>,
    /// It leaves once each chunk is had by somebody who is there all the time and does nothing wrong.
    pub leaves_when_copied: bool,
}

/// What a peer has at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Has {
    /// Nothing.
    Nothing,
    /// Everything.
    Everything,
    /// The chunks of which the number leaves `rest` when divided by `every`.
    Some {
        /// At least 1.
        every: u32,
        /// Less than that.
        rest: u32,
    },
}

/// Who is connected to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// As a tracker has it: [`crate::swarm::Overlay`].
    Tracker(Shape),
    /// Each peer to so many, at most, of those with a lower number, at random.
    Random {
        /// At least 1, or nobody is connected.
        links: u32,
        /// At least one of them is among the first so many, of whom each is connected to all others by
        /// way of these alone.
        core: u32,
    },
}

/// A coming or going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It comes with what it had.
    Comes,
    /// It comes and has nothing any more.
    ComesEmpty,
    /// It goes, and says so.
    Goes,
}

/// What a peer does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Serves wrong bytes.
    Corrupts,
    /// Says it has everything, and then not.
    Lies,
    /// Stops in the middle of every chunk.
    Stalls,
    /// Says it is busy, always.
    Refuses,
    /// Says that all is on its way to it and will soon be there, suggests everything to everybody, and
    /// never has any of it.
    Misleads,
}

impl Member {
    /// Who is there all the time and does nothing wrong.
    pub fn new(up: f64, down: f64) -> Member {
        Member {
            up,
            down,
            has: Has::Nothing,
            fault: Fault::None,
            class: Class::Open,
            presence: vec![(Duration::ZERO, Change::Comes)],
            sends_at_most: None,
            leaves_when_copied: false,
        }
    }

    /// The same with everything.
    pub fn seed(up: f64, down: f64) -> Member {
        Member {
            has: Has::Everything,
            ..Member::new(up, down)
        }
    }

    /// Whether it has everything from the start.
    pub fn is_seed(&self) -> bool {
        self.has == Has::Everything
    }

    /// Whether it is to have everything in the end: it stays, and does nothing wrong.
    pub fn is_needed(&self) -> bool {
        let stays = self
            .presence
            .last()
            .is_some_and(|(_, last)| *last != Change::Goes);
        let stays = stays && !self.leaves_when_copied;
        !self.is_seed() && self.fault == Fault::None && stays
    }

    /// Whether it is there from the start to the end, does nothing wrong, and loses nothing.
    pub(super) fn stays(&self) -> bool {
        let never_goes = self.presence == [(Duration::ZERO, Change::Comes)];
        let leaves = self.leaves_when_copied || self.sends_at_most.is_some();
        never_goes && !leaves && self.fault == Fault::None
    }

    /// Where it is: all are equally near to each other.
    pub(super) fn site(&self) -> Site {
        Site {
            vicinity: 0,
            class: self.class,
        }
    }

    /// The chunks it has at first.
    pub(super) fn first_chunks(&self, chunks: u32) -> ChunkSet {
        let mut have = ChunkSet::empty(chunks);
        let has = |chunk: &u32| match self.has {
            Has::Nothing => false,
            Has::Everything => true,
            Has::Some { every, rest } => chunk % every.max(1) == rest,
        };
        for chunk in (0..chunks).filter(has) {
            if let Some(chunk) = have.index(chunk) {
                have.insert(chunk);
            }
        }
        have
    }
}

impl Plan {
    /// Bytes of the share.
    pub fn bytes(&self) -> u64 {
        u64::from(self.chunks) * u64::from(self.chunk_bytes)
    }

    /// The round trip between two peers.
    pub(super) fn rtt_of(&self, a: u32, b: u32) -> Duration {
        let pair = (u64::from(a.min(b)) << 32) | u64::from(a.max(b));
        let part = mix(pair ^ self.seed) as f64 / u64::MAX as f64;
        self.rtt.mul_f64(1.0 + self.rtt_spread * (2.0 * part - 1.0))
    }

    /// How two peers reach each other, if they can.
    pub(super) fn reach(&self, a: u32, b: u32) -> Option<Reach> {
        let class = |peer: u32| self.peers[peer as usize].class;
        match class(a).meets(class(b)) {
            true => Some(Reach::Direct),
            false => (self.relay > 0.0).then_some(Reach::Relayed),
        }
    }

    /// The most that goes over one path.
    pub(super) fn cap(&self, a: u32, b: u32) -> f64 {
        let rtt = self.rtt_of(a, b).as_secs_f64();
        match self.loss > 0.0 && rtt > 0.0 {
            true => 1.22 * SEGMENT_BYTES / (rtt * self.loss.sqrt()),
            false => f64::INFINITY,
        }
    }
}

/// A time in nanoseconds; the longest there is if it is longer.
pub(super) fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

/// Spreads a number over all numbers (SplitMix64).
pub(super) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
