//! The paths of live connections: kept, followed when the peer moves, given up.

use std::net::SocketAddr;
use std::time::Instant;

use warren_net::Via;
use warren_proto::id::PublicKey;
use warren_proto::nat::{KeeperEvent, Transmit};

use super::{Arrival, Puncher};
use crate::punch::keeper::Keeper;
use crate::punch::owners::Owner;
use crate::punch::{Kept, PathNews};

impl Puncher {
    pub(super) async fn keep(&mut self, now: Instant, kept: Kept) {
        let Some(mut keeper) = Keeper::new(now, kept) else {
            return;
        };
        let via = self.endpoint.socket().via_of(keeper.route);
        keeper.via = via.unwrap_or(Via::MAIN);
        let peer = keeper.peer();
        self.fading.remove(&keeper.route);
        self.dialling.remove(&peer);
        self.leave_relay(peer);
        self.owners.forget(Owner::Keeper(peer));
        // 80 bits of a secret that the two ends alone know: nobody else has the name.
        self.owners
            .name(keeper.machine.username(), Owner::Keeper(peer));
        let attempts = self.attempts.iter_mut();
        for (id, attempt) in attempts.filter(|(_, it)| it.peer == peer) {
            attempt.connected(now);
            self.records.note(*id, attempt.record());
        }
        self.keepers.insert(peer, keeper);
    }

    pub(super) async fn time_keepers(&mut self, now: Instant) {
        let due = self
            .keepers
            .iter()
            .filter(|(_, it)| it.poll_timeout() <= now);
        let due: Vec<PublicKey> = due.map(|(peer, _)| *peer).collect();
        for peer in due {
            let Some(keeper) = self.keepers.get_mut(&peer) else {
                continue;
            };
            if keeper.is_over() {
                self.close_keeper(peer);
                self.meet_anew(peer).await;
            } else {
                keeper.handle_timeout(now);
                self.settle_keeper(peer, None).await;
            }
        }
    }

    pub(super) fn close_keeper(&mut self, peer: PublicKey) {
        let Some(keeper) = self.keepers.remove(&peer) else {
            return;
        };
        self.led
            .note(Instant::now(), peer, keeper.machine.path().ip());
        self.owners.forget(Owner::Keeper(peer));
        self.records.forget(&peer);
        self.let_fade(peer, keeper.route);
    }

    /// Has the keeper of a peer's path see whether that answers at an address where an attempt has
    /// found it, and whether it does where it was: what answers on the present path is no proof of a new
    /// process elsewhere. An address that another socket has found means nothing to this one.
    pub(super) async fn try_proven(
        &mut self,
        peer: PublicKey,
        via: Option<Via>,
        remote: SocketAddr,
    ) {
        let Some(keeper) = self.keepers.get_mut(&peer) else {
            return;
        };
        let now = Instant::now();
        if self.endpoint.socket().via_of(keeper.route) == via {
            keeper.machine.try_address(now, remote);
        }
        keeper.machine.suspect(now);
        self.settle_keeper(peer, None).await;
    }

    /// What a tracker's word has changed about a connection ends with the attempt, unless the peer
    /// has confirmed it on the connection.
    pub(super) fn point_back(&self, peer: PublicKey, route: SocketAddr) {
        if let Some(keeper) = self.keepers.get(&peer) {
            let path = keeper.machine.path();
            let socket = self.endpoint.socket();
            let present = (socket.via_of(route), socket.path_of(route));
            if present != (Some(keeper.via), Some(path)) {
                socket.point_via(route, keeper.via, path);
            }
        }
    }

    pub(super) async fn settle_keeper(&mut self, peer: PublicKey, heard: Option<Arrival>) {
        while let Some(transmit) = self.poll_keeper(&peer) {
            self.send(&transmit, Owner::Keeper(peer), heard);
        }
        while let Some(event) = self
            .keepers
            .get_mut(&peer)
            .and_then(|keeper| keeper.machine.poll_event())
        {
            self.handle_kept(peer, event, heard).await;
        }
    }

    fn poll_keeper(&mut self, peer: &PublicKey) -> Option<Transmit> {
        self.keepers.get_mut(peer)?.machine.poll_transmit()
    }

    /// `heard` is what led to the event, if that was a datagram.
    async fn handle_kept(&mut self, peer: PublicKey, event: KeeperEvent, heard: Option<Arrival>) {
        let Some(keeper) = self.keepers.get_mut(&peer) else {
            return;
        };
        let (session, route) = (keeper.kept.session, keeper.route);
        tracing::debug!(%peer, ?event, "path");
        match event {
            KeeperEvent::Heard { remote } => {
                keeper.aside = heard.map(|(.., via)| (remote, via));
                self.endpoint.socket().admit_heard(route, remote);
            }
            KeeperEvent::Moved { remote, .. } => {
                tracing::info!(%peer, "the path of a peer has changed");
                tracing::debug!(%peer, %remote, "its new path");
                let answered = heard.filter(|(from, ..)| *from == remote);
                let via = match answered {
                    Some((.., via)) => via,
                    None => self.endpoint.socket().via_of(route).unwrap_or(Via::MAIN),
                };
                self.point(peer, route, (via, remote)).await;
                if let Some(keeper) = self.keepers.get_mut(&peer) {
                    keeper.via = via;
                }
                self.note_superfluous(peer);
            }
            KeeperEvent::Silent => {
                self.set_silent(peer, true);
                // It may be our own address that is another one. The peer must not look for the old.
                self.survey.hurry(Instant::now());
                self.hurry_relay(Instant::now(), peer);
                self.tell(PathNews::Silent { peer, session }).await;
            }
            KeeperEvent::Alive => {
                self.set_silent(peer, false);
                self.leave_relay(peer);
                self.note_superfluous(peer);
                self.tell(PathNews::Alive { peer, session }).await;
            }
            KeeperEvent::Dead | KeeperEvent::Forgotten => {
                self.tell(PathNews::Gone { peer, session }).await;
                self.close_keeper(peer);
                self.meet_anew(peer).await;
            }
        }
    }

    fn set_silent(&mut self, peer: PublicKey, silent: bool) {
        if let Some(keeper) = self.keepers.get_mut(&peer) {
            keeper.is_silent = silent;
        }
    }
}
