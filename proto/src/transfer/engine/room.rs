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
    /// kept from the others. Where nothing is outstanding any chunk has room, so that there is always
    /// one.
    pub(super) fn of(&self, share: &SwarmId, outstanding: u64) -> u64 {
        let free = self.free(outstanding);
        match self.waiting.front() {
            Some((first, chunk_bytes)) if first != share => free.saturating_sub(*chunk_bytes),
            _ => free,
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
    }

    #[test]
    fn shares_take_turns_where_there_is_not_room_for_a_chunk_of_each() {
        const SHARES: u8 = 5;
        const CHUNKS: u32 = 8;
        let bytes = 2 * u64::from(CHUNK_BYTES);
        let now = Instant::now();
        let mut engine = Engine::new(now, 7);
        engine.handle(now, Event::Budget { bytes }).unwrap();
        (1..=SHARES).for_each(|n| begin(&mut engine, now, SwarmId([n; 32]), CHUNKS));
        let mut under_way = requests(&mut engine, now);
        let mut asked = BTreeMap::new();
        while let Some((swarm, request)) = under_way.pop_front() {
            *asked.entry(swarm).or_insert(0) += 1;
            assert_eq!(under_way.len(), 1, "{asked:?}");
            assert!(engine.outstanding_bytes() <= bytes);
            let (least, most) = (asked.values().min(), asked.values().max());
            assert!(asked.len() < SHARES.into() || most <= least.map(|it| it + 1).as_ref());
            if asked.values().sum::<u32>() == u32::from(SHARES) * CHUNKS - 1 {
                break;
            }
            let event = transfer::Event::Verified { request };
            engine.handle(now, Event::Share { swarm, event }).unwrap();
            under_way.extend(requests(&mut engine, now));
        }
        assert_eq!(asked.len(), SHARES.into());
    }

    /// A share of which a peer has everything, and we nothing.
    fn begin(engine: &mut Engine, now: Instant, swarm: SwarmId, count: u32) {
        let (peer, rtt, reach) = (key(1), Duration::from_millis(40), Reach::Direct);
        let runs = vec![Run { start: 0, count }];
        let opened = Event::Opened {
            swarm,
            content: chunks(count),
            have: ChunkSet::empty(count),
        };
        engine.handle(now, opened).unwrap();
        for event in [
            // Less than a chunk: of this share one at a time.
            transfer::Event::Budget { bytes: 1 },
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
        requests.collect()
    }
}
