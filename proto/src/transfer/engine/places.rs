//! How many receivers are served at once: of all shares together, and of each that has a limit of its
//! own by itself. What holds those back is no lack of uplink, so they neither take the places of others
//! nor tell anything about how many the uplink needs.

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
    /// Receivers served now.
    busy: usize,
    /// Of these, those who came before the one had left whose place they take.
    early: usize,
}

impl Room {
    fn new(now: Instant) -> Room {
        Room {
            slots: Slots::new(now),
            busy: 0,
            early: 0,
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

    /// Gives a share places of its own, or takes them away; `busy` of its receivers are served.
    pub(super) fn set_apart(&mut self, now: Instant, swarm: SwarmId, busy: usize, apart: bool) {
        if apart == self.apart.contains_key(&swarm) {
            return;
        }
        self.common.early = 0;
        self.room(&swarm).busy -= busy;
        if apart {
            self.apart.insert(swarm, Room::new(now));
        } else {
            self.apart.remove(&swarm);
        }
        self.room(&swarm).busy += busy;
    }

    /// Whether one more receiver of a share may be served.
    pub(super) fn has_room(&self, swarm: &SwarmId) -> bool {
        let room = self.apart.get(swarm).unwrap_or(&self.common);
        room.busy < room.slots.count()
    }

    /// Whether a receiver of a share may take the place of one of another share.
    pub(super) fn may_displace(&self, swarm: &SwarmId) -> bool {
        self.is_common(swarm) && self.common.early == 0
    }

    /// Whether a receiver of a share may keep its place for its next request.
    pub(super) fn may_keep(&self, swarm: &SwarmId) -> bool {
        !self.is_common(swarm) || self.common.early == 0
    }

    /// Whether the receivers of a share take the same places as those of others.
    pub(super) fn is_common(&self, swarm: &SwarmId) -> bool {
        !self.apart.contains_key(swarm)
    }

    /// A receiver of the share is served now, in the place of one who will leave.
    pub(super) fn displace(&mut self, swarm: &SwarmId) {
        let room = self.room(swarm);
        room.early += 1;
        room.busy += 1;
    }

    /// A receiver of the share is served now.
    pub(super) fn take(&mut self, swarm: &SwarmId) {
        self.room(swarm).busy += 1;
    }

    /// A receiver of the share is served no more.
    pub(super) fn leave(&mut self, swarm: &SwarmId) {
        let room = self.room(swarm);
        room.busy -= 1;
        room.early = room.early.saturating_sub(1);
    }

    /// Bytes of a share went out.
    pub(super) fn sent(&mut self, swarm: &SwarmId, bytes: u32) {
        self.room(swarm).slots.sent(bytes);
    }

    /// Notes where there is a place that nobody wants.
    pub(super) fn note_idle(&mut self) {
        let rooms = self.apart.values_mut().chain([&mut self.common]);
        let idle = rooms.filter(|room| room.busy < room.slots.count());
        idle.for_each(|room| room.slots.idle());
    }

    /// Judges how many are best.
    pub(super) fn look(&mut self, now: Instant) {
        let rooms = self.apart.values_mut().chain([&mut self.common]);
        rooms.for_each(|room| room.slots.look(now));
    }

    fn room(&mut self, swarm: &SwarmId) -> &mut Room {
        self.apart.get_mut(swarm).unwrap_or(&mut self.common)
    }
}
