//! How many uploads go at once: of all shares together, and of each that has a limit of its own by
//! itself. What holds those back is no lack of uplink, so they neither take the places of others nor
//! tell anything about how many the uplink needs.

use std::collections::BTreeMap;
use std::time::Instant;

use super::slots::Slots;
use crate::id::SwarmId;

/// The places of all shares.
#[derive(Debug)]
pub(super) struct Places {
    common: Room,
    apart: BTreeMap<SwarmId, Room>,
}

#[derive(Debug)]
struct Room {
    slots: Slots,
    /// Places that are taken, as of when they were last counted.
    busy: usize,
}

impl Room {
    fn new(now: Instant) -> Room {
        Room {
            slots: Slots::new(now),
            busy: 0,
        }
    }
}

impl Places {
    pub(super) fn new(now: Instant) -> Places {
        Places {
            common: Room::new(now),
            apart: BTreeMap::new(),
        }
    }

    /// Gives a share places of its own, or takes them away.
    pub(super) fn set_apart(&mut self, now: Instant, swarm: SwarmId, apart: bool) {
        if apart {
            self.apart.entry(swarm).or_insert_with(|| Room::new(now));
        } else {
            self.apart.remove(&swarm);
        }
    }

    /// Whether the uploads of a share take the same places as those of others.
    pub(super) fn is_common(&self, swarm: &SwarmId) -> bool {
        !self.apart.contains_key(swarm)
    }

    /// Whether the uploads of two shares take the same places.
    pub(super) fn are_alike(&self, one: &SwarmId, other: &SwarmId) -> bool {
        one == other || self.is_common(one) && self.is_common(other)
    }

    /// How many places all shares have together.
    pub(super) fn common(&self) -> usize {
        self.common.slots.count()
    }

    /// Takes in which shares have places: each as often as it has.
    pub(super) fn count_busy<'a>(&mut self, busy: impl Iterator<Item = &'a SwarmId>) {
        self.rooms().for_each(|room| room.busy = 0);
        busy.for_each(|swarm| self.room(swarm).busy += 1);
    }

    /// Whether one more upload of a share may go.
    pub(super) fn has_room(&self, swarm: &SwarmId) -> bool {
        let room = self.apart.get(swarm).unwrap_or(&self.common);
        room.busy < room.slots.count()
    }

    /// Bytes of a share went out.
    pub(super) fn sent(&mut self, swarm: &SwarmId, bytes: u32) {
        self.room(swarm).slots.sent(bytes);
    }

    /// Notes where there is a place that nobody wants.
    pub(super) fn note_idle(&mut self) {
        let idle = self.rooms().filter(|room| room.busy < room.slots.count());
        idle.for_each(|room| room.slots.idle());
    }

    /// Judges how many are best.
    pub(super) fn look(&mut self, now: Instant) {
        self.rooms().for_each(|room| room.slots.look(now));
    }

    fn rooms(&mut self) -> impl Iterator<Item = &mut Room> {
        self.apart.values_mut().chain([&mut self.common])
    }

    fn room(&mut self, swarm: &SwarmId) -> &mut Room {
        self.apart.get_mut(swarm).unwrap_or(&mut self.common)
    }
}
