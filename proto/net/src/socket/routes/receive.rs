//! Gives what was received to the route it belongs to, and drops what belongs nowhere.
//!
//! A GRO batch has one source, so it takes one look-up of that and, as long as its packets are for
//! one connection, one of their id.

use std::net::SocketAddr;

use quinn::udp::RecvMeta;

use warren_proto::id::RelayId;

use super::{Class, Place, RouteId, Routes, Source, Table, Unsolicited};
use crate::socket::extra::Via;
use crate::socket::ids::{self, LocalId};
use crate::socket::{canonical, sort};

/// Whom a batch is from.
enum Sender {
    /// Whoever is at the address.
    Plain,
    /// The peer of a route.
    Peer {
        route: RouteId,
        /// There is something to remember of it.
        news: bool,
    },
}

/// What is left of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::socket) struct Received {
    /// Whether any is.
    pub(in crate::socket) any: bool,
    /// Packets that were dropped.
    pub(in crate::socket) dropped: u64,
}

impl Received {
    const ALL: Self = Self {
        any: true,
        dropped: 0,
    };
}

impl Routes {
    /// Replaces the source of a batch by its route, and blanks the packets that quinn must not see.
    pub(in crate::socket) fn receive(
        &self,
        via: Via,
        meta: &mut RecvMeta,
        batch: &mut [u8],
    ) -> Received {
        let from = Place::new(via, meta.addr);
        let (sender, received) = self.read().judge(from, batch, meta.stride);
        if let Some(Sender::Peer { route, news }) = sender {
            if news {
                let mut table = self.write();
                table.hear(from, meta.dst_ip);
                table.learn_all(route, batch, meta.stride);
            }
            meta.addr = route.addr();
        }
        received
    }

    /// The route of a session; `None` if it has none, or if `tracker` is not who its datagrams come
    /// from, which for a tunnel's is nobody.
    pub(in crate::socket) fn session(
        &self,
        id: RelayId,
        tracker: Option<SocketAddr>,
    ) -> Option<RouteId> {
        let table = self.read();
        let route = *table.sessions.get(&id)?;
        let session = table.routes.get(&route)?.path.as_ref()?.session()?;
        (session == (id, tracker.map(canonical))).then_some(route)
    }

    /// The same as [`receive`](Self::receive) for what came on a relay route.
    pub(in crate::socket) fn receive_relayed(
        &self,
        route: RouteId,
        meta: &mut RecvMeta,
        batch: &mut [u8],
    ) -> Received {
        let (sender, received) = self.read().judge_relayed(route, batch, meta.stride);
        if let Some(Sender::Peer { news: true, .. }) = sender {
            self.write().learn_all(route, batch, meta.stride);
        }
        // What the tracker's own packets carry says nothing of the whole way.
        (meta.addr, meta.dst_ip, meta.ecn) = (route.addr(), None, None);
        received
    }
}

impl Table {
    /// Whom a batch is from; nobody if nothing of it is left.
    fn judge(&self, from: Place, batch: &mut [u8], stride: usize) -> (Option<Sender>, Received) {
        match self.sources.get(&from) {
            Some(Source::Admitted { route, unheard }) => {
                self.judge_peer(*route, *unheard, batch, stride)
            }
            Some(Source::Dialled(_)) => {
                let left = match self.unsolicited {
                    Unsolicited::Accept => self.keep_unknown(batch, stride),
                    Unsolicited::OnlyAdmitted => keep(batch, stride, |it| self.may_answer(it)),
                };
                (left.any.then_some(Sender::Plain), left)
            }
            None => self.judge_stranger(from, batch, stride),
        }
    }

    /// The peer may say anything, but not what is addressed to a connection on another route: it
    /// would be another peer's, repeated, and quinn would follow it here.
    fn judge_peer(
        &self,
        route: RouteId,
        unheard: bool,
        batch: &mut [u8],
        stride: usize,
    ) -> (Option<Sender>, Received) {
        let (mut news, mut others) = (unheard, false);
        for id in destinations(batch, stride) {
            match self.ids.get(&id) {
                Some(owner) => others |= *owner != route,
                None => news |= self.local_ids.made(&id),
            }
        }
        let left = if others {
            keep(batch, stride, |packet| {
                self.owner(packet).is_none_or(|owner| owner == route)
            })
        } else {
            Received::ALL
        };
        (left.any.then_some(Sender::Peer { route, news }), left)
    }

    fn judge_relayed(
        &self,
        route: RouteId,
        batch: &mut [u8],
        stride: usize,
    ) -> (Option<Sender>, Received) {
        match self.class_of(route) {
            Some(Class::Relay) => self.judge_peer(route, false, batch, stride),
            _ => (None, keep(batch, stride, |_| false)),
        }
    }

    fn judge_stranger(
        &self,
        from: Place,
        batch: &mut [u8],
        stride: usize,
    ) -> (Option<Sender>, Received) {
        let pretends = RouteId::of(from.remote).is_some();
        // A further socket is there for those whom a route expects there.
        let may_be_plain = self.unsolicited == Unsolicited::Accept && from.via == Via::MAIN;
        match self.rebound(batch, stride).filter(|_| !pretends) {
            Some(route) => {
                // A batch has one source for quinn: what else is in there is not this peer's.
                let of_route = |packet: &[u8]| self.owner(packet) == Some(route);
                let left = keep(batch, stride, of_route);
                (Some(Sender::Peer { route, news: false }), left)
            }
            None if may_be_plain && !pretends => {
                let left = self.keep_unknown(batch, stride);
                (left.any.then_some(Sender::Plain), left)
            }
            None if from.via == Via::MAIN && !pretends => {
                let left = keep(batch, stride, |packet| self.is_of_former_life(packet));
                (left.any.then_some(Sender::Plain), left)
            }
            None => (None, keep(batch, stride, |_| false)),
        }
    }

    /// Whether a packet is for a connection of a process before this one: quinn, which has no such
    /// connection, answers with a stateless reset, shorter than the packet and one in 20 ms at most.
    /// Only somebody who has seen a packet of that connection can make such a one.
    fn is_of_former_life(&self, packet: &[u8]) -> bool {
        let id = ids::destination(packet).filter(|_| !ids::is_long(packet));
        id.is_some_and(|id| !self.ids.contains_key(&id) && self.local_ids.made_before(&id))
    }

    /// The direct route on which an id of the batch was heard before. On a relay route nobody is
    /// rebound: its session stays, whatever our address or the peer's.
    fn rebound(&self, batch: &[u8], stride: usize) -> Option<RouteId> {
        if self.ids.is_empty() {
            return None;
        }
        destinations(batch, stride).find_map(|id| {
            let route = *self.ids.get(&id)?;
            (self.class_of(route) == Some(Class::Direct)).then_some(route)
        })
    }

    /// Blanks what is addressed to a connection on a route.
    fn keep_unknown(&self, batch: &mut [u8], stride: usize) -> Received {
        if self.ids.is_empty() {
            return Received::ALL;
        }
        keep(batch, stride, |packet| self.owner(packet).is_none())
    }

    /// The route on which the id that a packet is for was heard.
    fn owner(&self, packet: &[u8]) -> Option<RouteId> {
        let id = ids::destination(packet)?;
        self.ids.get(&id).copied()
    }

    /// Whether a packet may come from an address that we dialled: all but what would open a
    /// connection, or is for one on a route. A short header without an id of ours may be a stateless
    /// reset.
    fn may_answer(&self, packet: &[u8]) -> bool {
        match ids::destination(packet) {
            Some(id) if self.ids.contains_key(&id) => false,
            Some(id) => !ids::is_long(packet) || self.local_ids.made(&id),
            None => !ids::is_long(packet),
        }
    }

    fn learn_all(&mut self, route: RouteId, batch: &[u8], stride: usize) {
        for id in destinations(batch, stride) {
            self.learn(id, route);
        }
    }
}

/// The ids that the QUIC packets of a batch are for, each run of the same one once.
fn destinations(batch: &[u8], stride: usize) -> impl Iterator<Item = LocalId> {
    let mut last = None;
    batch
        .chunks(stride.max(1))
        .filter(|packet| sort::is_quic(packet))
        .filter_map(ids::destination)
        .filter(move |id| last.replace(*id) != Some(*id))
}

/// Blanks the QUIC packets that are not wanted.
fn keep(batch: &mut [u8], stride: usize, wanted: impl Fn(&[u8]) -> bool) -> Received {
    let mut received = Received {
        any: false,
        dropped: 0,
    };
    let packets = batch.chunks_mut(stride.max(1));
    for packet in packets.filter(|packet| sort::is_quic(packet)) {
        if wanted(packet) {
            received.any = true;
        } else {
            received.dropped += 1;
            sort::blank(packet);
        }
    }
    received
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
