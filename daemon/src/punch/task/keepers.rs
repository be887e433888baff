//! The paths of live connections: kept, followed when the peer moves, given up.

use std::net::SocketAddr;
use std::time::Instant;

use warren_proto::id::PublicKey;
use warren_proto::nat::{KeeperEvent, Transmit};

use super::{Arrival, Puncher};
use crate::punch::keeper::Keeper;
use crate::punch::owners::Owner;
use crate::punch::{Kept, PathNews};

impl Puncher {
    pub(super) async fn keep(&mut self, now: Instant, kept: Kept) {
        let Some(keeper) = Keeper::new(now, kept) else {
            return;
        };
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
        self.owners.forget(Owner::Keeper(peer));
        self.records.forget(&peer);
        self.let_fade(peer, keeper.route);
    }

    /// What a tracker's word has changed about a connection ends with the attempt, unless the peer
    /// has confirmed it on the connection.
    pub(super) fn point_back(&self, peer: PublicKey, route: SocketAddr) {
        if let Some(keeper) = self.keepers.get(&peer) {
            let path = keeper.machine.path();
            let socket = self.endpoint.socket();
            if socket.path_of(route) != Some(path) {
                self.admit(route, path);
                socket.point(route, path);
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
            self.handle_kept(peer, event).await;
        }
    }

    fn poll_keeper(&mut self, peer: &PublicKey) -> Option<Transmit> {
        self.keepers.get_mut(peer)?.machine.poll_transmit()
    }

    async fn handle_kept(&mut self, peer: PublicKey, event: KeeperEvent) {
        let Some(keeper) = self.keepers.get(&peer) else {
            return;
        };
        let (session, route) = (keeper.kept.session, keeper.route);
        tracing::debug!(%peer, ?event, "path");
        match event {
            KeeperEvent::Heard { remote } => {
                self.endpoint.socket().admit_heard(route, remote);
            }
            KeeperEvent::Moved { remote, .. } => {
                tracing::info!(%peer, %remote, "the path of a peer has changed");
                self.point(peer, route, remote).await;
                self.note_superfluous(peer);
            }
            KeeperEvent::Silent => {
                self.set_silent(peer, true);
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
