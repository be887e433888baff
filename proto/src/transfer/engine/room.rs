//! How much may be on its way to us of all shares together, and which is next where that is too little
//! for one chunk of each.

use std::collections::VecDeque;

use crate::id::SwarmId;

/// Room for what was asked for and is not verified.
#[derive(Debug)]
pub(super) struct Room {
    most: u64,
    /// Shares that lack room for a chunk, who has waited longest first, and how large that is.
    waiting: VecDeque<(SwarmId, u64)>,
}

impl Room {
    /// As much as anybody asks for.
    pub(super) fn new() -> Room {
        Room {
            most: u64::MAX,
            waiting: VecDeque::new(),
        }
    }

    /// There is so much from now on, in bytes. What is outstanding beyond that stays.
    pub(super) fn set(&mut self, most: u64) {
        self.most = most;
    }

    /// What a share may add to what is `outstanding` in all. Room for a chunk of who waits longest is
    /// kept from the others. Where nothing is outstanding any chunk of who is next has room, so that
    /// there is always one.
    pub(super) fn of(&self, share: &SwarmId, outstanding: u64) -> u64 {
        match self.waiting.front() {
            Some((first, chunk_bytes)) if first != share => self
                .most
                .saturating_sub(outstanding.saturating_add(*chunk_bytes)),
            _ => self.free(outstanding),
        }
    }

    /// Who has waited longest and has room now.
    pub(super) fn next(&self, outstanding: u64) -> Option<SwarmId> {
        let (first, chunk_bytes) = self.waiting.front()?;
        (*chunk_bytes <= self.free(outstanding)).then_some(*first)
    }

    /// A share lacks room for a chunk.
    pub(super) fn wait(&mut self, share: SwarmId, chunk_bytes: u64) {
        if !self.waiting.iter().any(|(waiting, _)| *waiting == share) {
            self.waiting.push_back((share, chunk_bytes));
        }
    }

    /// A share has asked for something, or does not want to any more.
    pub(super) fn leave(&mut self, share: &SwarmId) {
        self.waiting.retain(|(waiting, _)| waiting != share);
    }

    fn free(&self, outstanding: u64) -> u64 {
        match outstanding {
            0 => u64::MAX,
            _ => self.most.saturating_sub(outstanding),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::content::{ChunkSet, Run};
    use crate::transfer::download::simulation::{CHUNK_BYTES, chunks, key};
    use crate::transfer::engine::{Action, Engine, Event};
    use crate::transfer::{self, Reach, RequestId};

    const ONE: SwarmId = SwarmId([1; 32]);
    const TWO: SwarmId = SwarmId([2; 32]);
    const THREE: SwarmId = SwarmId([3; 32]);

    /// A budget that is less than a chunk: of the share one at a time.
    const ONE_CHUNK: u64 = 1;

    #[test]
    fn room_is_kept_for_who_waits_longest() {
        let mut room = Room::new();
        room.set(10);
        assert_eq!(room.of(&ONE, 4), 6);
        room.wait(TWO, 5);
        room.wait(TWO, 5);
        assert_eq!((room.of(&ONE, 4), room.of(&TWO, 4)), (1, 6));
        assert_eq!((room.next(5), room.next(6)), (Some(TWO), None));
        room.leave(&TWO);
        assert_eq!((room.of(&ONE, 4), room.next(0)), (6, None));
    }

    #[test]
    fn one_chunk_has_room_whatever_it_is() {
        let mut room = Room::new();
        room.set(0);
        assert_eq!((room.of(&ONE, 0), room.of(&ONE, 1)), (u64::MAX, 0));
        room.wait(TWO, 1);
        assert_eq!((room.of(&ONE, 0), room.of(&TWO, 0)), (0, u64::MAX));
    }

    #[test]
    fn shares_take_turns_where_there_is_not_room_for_a_chunk_of_each() {
        let chunk = u64::from(CHUNK_BYTES);
        take_turns(2 * chunk, 2);
        take_turns(chunk, 1);
        take_turns(0, 1);
    }

    /// Has five shares ask as there is room: for so many chunks at once.
    #[track_caller]
    fn take_turns(bytes: u64, at_once: usize) {
        const SHARES: u8 = 5;
        const CHUNKS: u32 = 8;
        let now = Instant::now();
        let mut engine = Engine::new(now, 7);
        engine.handle(now, Event::Budget { bytes }).unwrap();
        (1..=SHARES).for_each(|n| begin(&mut engine, now, SwarmId([n; 32]), CHUNKS, ONE_CHUNK));
        let mut under_way = requests(&mut engine, now);
        let mut asked = BTreeMap::new();
        while let Some((swarm, request)) = under_way.pop_front() {
            *asked.entry(swarm).or_insert(0) += 1;
            assert_eq!(under_way.len() + 1, at_once, "{asked:?}");
            let (least, most) = (asked.values().min(), asked.values().max());
            assert!(asked.len() < SHARES.into() || most <= least.map(|it| it + 1).as_ref());
            if asked.values().sum::<u32>() > u32::from(SHARES) * CHUNKS - at_once as u32 {
                break;
            }
            let event = transfer::Event::Verified { request };
            engine.handle(now, Event::Share { swarm, event }).unwrap();
            under_way.extend(requests(&mut engine, now));
        }
        assert_eq!(asked.len(), SHARES.into());
    }

    #[test]
    fn a_turn_that_is_not_taken_is_the_next_ones() {
        const CHUNKS: u32 = 256;
        let now = Instant::now();
        let mut engine = Engine::new(now, 7);
        begin(&mut engine, now, TWO, CHUNKS, u64::MAX);
        // So many are asked of a peer that has not answered.
        let first = requests(&mut engine, now).len();
        assert!(first < CHUNKS as usize);

        let mut engine = Engine::new(now, 7);
        let bytes = (1 + first as u64) * u64::from(CHUNK_BYTES);
        engine.handle(now, Event::Budget { bytes }).unwrap();
        begin(&mut engine, now, ONE, CHUNKS, ONE_CHUNK);
        begin(&mut engine, now, TWO, CHUNKS, u64::MAX);
        begin(&mut engine, now, THREE, CHUNKS, ONE_CHUNK);
        let under_way = requests(&mut engine, now);
        let asked = |swarm| under_way.iter().filter(|(of, _)| *of == swarm).count();
        assert_eq!((asked(ONE), asked(TWO), asked(THREE)), (1, first, 0));
        let (swarm, request) = under_way[0];
        let event = transfer::Event::Verified { request };
        engine.handle(now, Event::Share { swarm, event }).unwrap();
        let next = requests(&mut engine, now);
        let next: Vec<_> = next.into_iter().map(|(swarm, _)| swarm).collect();
        assert_eq!(next, [THREE], "the second waits for its peer");
    }

    /// A share of which a peer has everything, and we nothing.
    fn begin(engine: &mut Engine, now: Instant, swarm: SwarmId, count: u32, budget: u64) {
        let (peer, rtt, reach) = (key(1), Duration::from_millis(40), Reach::Direct);
        let runs = vec![Run { start: 0, count }];
        let opened = Event::Opened {
            swarm,
            content: chunks(count),
            have: ChunkSet::empty(count),
        };
        engine.handle(now, opened).unwrap();
        for event in [
            transfer::Event::Budget { bytes: budget },
            transfer::Event::PeerJoined { peer, rtt, reach },
            transfer::Event::Has { peer, runs },
        ] {
            engine.handle(now, Event::Share { swarm, event }).unwrap();
        }
    }

    fn requests(engine: &mut Engine, now: Instant) -> VecDeque<(SwarmId, RequestId)> {
        let actions = std::iter::from_fn(|| engine.poll(now));
        let requests = actions.filter_map(|action| match action {
            Action::Share {
                swarm,
                action: transfer::Action::Request { request, .. },
            } => Some((swarm, request)),
            _ => None,
        });
        let requests = requests.collect();
        let shares = engine.shares.values();
        let each = shares.map(|share| share.download.outstanding_bytes());
        assert_eq!(engine.outstanding, each.sum::<u64>());
        requests
    }
}
