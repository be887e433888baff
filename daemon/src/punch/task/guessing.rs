//! Guesses at ports: one attempt's at a time, by further sockets.

use std::net::SocketAddr;
use std::time::Instant;

use warren_net::Via;
use warren_proto::id::PublicKey;
use warren_proto::nat::{Charge, MAIN, Transmit, Turn, TurnEnd};

use super::{Arrival, Puncher};
use crate::punch::attempt::Attempt;
use crate::punch::guess::Word;
use crate::punch::owners::Owner;
use crate::punch::wake::uptime;
use crate::tracker::TrackerId;

impl Puncher {
    /// Takes in what a peer said by way of the tracker that introduced us.
    pub(super) async fn hear(&mut self, now: Instant, word: &Word) {
        let is_its = |line: &crate::tracker::Line| line.is_about(word.tracker, &word.id);
        let mut attempts = self.attempts.iter_mut().filter(|(_, it)| it.is_direct);
        let Some((id, attempt)) = attempts.find(|(_, it)| is_its(&it.line)) else {
            return;
        };
        let id = *id;
        attempt
            .machine
            .handle_trickled(now, word.address, word.mapping);
        self.settle_attempt(id, None).await;
    }

    /// An attempt wants to guess.
    pub(super) fn queue(&mut self, id: u64, turn: Turn) {
        let now = Instant::now();
        if let Some(attempt) = self.attempts.get_mut(&id) {
            attempt.guessed = Some(turn.ip);
        }
        if let Err(wait) = self.turnstile.ask(now, id, turn) {
            tracing::debug!(%wait, "no guess");
            if let Some(attempt) = self.attempts.get_mut(&id) {
                attempt.machine.deny_turn(now);
            }
        }
    }

    /// Lets those guess whose turn it is, here and on this machine.
    pub(super) async fn let_through(&mut self, now: Instant) {
        while let Some(id) = self.poll_turn(now) {
            match self.attempts.get_mut(&id) {
                Some(attempt) => attempt.machine.take_turn(now),
                None => self.turnstile.leave(now, id, TurnEnd::Unanswered),
            }
            self.settle_attempt(id, None).await;
        }
    }

    fn poll_turn(&mut self, now: Instant) -> Option<u64> {
        let is_free = self.turnstile.is_free_for_one(now);
        if self.turnstile.current().is_none() {
            self.host_turn.release(uptime());
        }
        if !is_free {
            return None;
        }
        let elsewhere = self.host_turn.take(now, uptime())?;
        self.flows.note_elsewhere(elsewhere);
        let polled = self.turnstile.poll(now, &mut self.flows);
        match self.turnstile.current() {
            Some((_, turn, _)) => self.host_turn.begin(uptime(), &turn),
            None => self.host_turn.give_up(now, uptime()),
        }
        polled
    }

    /// When to ask again whether another daemon guesses.
    pub(super) fn next_host_turn(&self) -> Option<Instant> {
        let waits = self.turnstile.is_waiting() && !self.host_turn.is_held();
        self.host_turn.retry().filter(|_| waits)
    }

    /// An attempt guesses no more.
    pub(super) fn end_turn(&mut self, id: u64) {
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let (now, peer) = (Instant::now(), attempt.peer);
        let keeper = self.keepers.get(&peer);
        let present = keeper.map(|keeper| keeper.machine.path().ip());
        let end = attempt.turn_end(present.or_else(|| self.led.ip_of(now, &peer)));
        if let Some((_, _, sent)) = self.turnstile.current().filter(|(its, ..)| *its == id) {
            self.host_turn.end(uptime(), sent);
        }
        self.turnstile.leave(now, id, end);
    }

    /// Ends the guesses of earlier attempts with a peer that this tracker introduces anew: it would not,
    /// had they come to anything, and one of the two may be elsewhere by now.
    pub(super) async fn end_guesses(&mut self, now: Instant, peer: PublicKey, tracker: TrackerId) {
        let is_its = |it: &Attempt| it.peer == peer && it.line.tracker() == tracker;
        let earlier = self.attempts.iter().filter(|(_, it)| is_its(it));
        let earlier: Vec<u64> = earlier.map(|(id, _)| *id).collect();
        for id in earlier {
            if let Some(attempt) = self.attempts.get_mut(&id) {
                attempt.machine.stop_guessing(now);
            }
            self.settle_attempt(id, None).await;
        }
    }

    /// What an attempt calls by this number, while that is open.
    pub(super) fn via_of_attempt(&self, id: u64, number: u16) -> Option<Via> {
        self.vias.of(Owner::Attempt(id), number)
    }

    /// Closes a socket of an attempt, unless a route goes by it.
    pub(super) fn close_via(&mut self, id: u64, number: u16) {
        let socket = self.endpoint.socket();
        self.vias.close(socket, Owner::Attempt(id), number);
    }

    /// The peer of an attempt was heard. Until the client nominates one, this address is as good as
    /// any.
    pub(super) fn follow_heard(&self, id: u64, route: SocketAddr, number: u16, remote: SocketAddr) {
        let socket = self.endpoint.socket();
        if number == MAIN {
            socket.admit_heard(route, remote);
        }
        let via = self.via_of_attempt(id, number);
        match via.filter(|_| socket.path_of(route).is_none()) {
            Some(Via::MAIN) => socket.point(route, remote),
            Some(via) => socket.point_via(route, via, remote),
            None => false,
        };
    }

    /// Whether a datagram may be sent that is not an answer or a question to a server.
    pub(super) fn may_send(&mut self, transmit: &Transmit, owner: Owner) -> bool {
        let Transmit {
            to, bytes, charge, ..
        } = transmit;
        let now = Instant::now();
        match (charge, owner) {
            (Charge::Guess, Owner::Attempt(id)) => self.turnstile.take(now, id, *to),
            (Charge::Guess, _) => false,
            (Charge::Unasked, Owner::Survey) => self.allowance.take(now, *to, bytes.len()),
            (Charge::Unasked | Charge::Free, _) => {
                !self.is_unasked(*to, bytes, owner) || self.allowance.take(now, *to, bytes.len())
            }
        }
    }

    /// The socket that a datagram leaves by: of a keeper that of the route, or where the peer was
    /// heard; of others the one that they number. `None` if it cannot be opened.
    pub(super) fn via_for(
        &mut self,
        transmit: &Transmit,
        owner: Owner,
        heard: Option<Arrival>,
    ) -> Option<Via> {
        let socket = self.endpoint.socket();
        let Owner::Keeper(peer) = owner else {
            return self.vias.open(socket, owner, transmit.via);
        };
        let heard = heard.filter(|(from, ..)| *from == transmit.to);
        let keeper = self.keepers.get(&peer);
        let aside = keeper.and_then(|keeper| keeper.aside);
        let aside = aside.filter(|(remote, _)| *remote == transmit.to);
        let its = || keeper.and_then(|keeper| socket.via_of(keeper.route));
        let via = heard.map(|(.., via)| via);
        let via = via.or(aside.map(|(_, via)| via)).or_else(its);
        Some(via.unwrap_or(Via::MAIN))
    }
}
