//! Keeps the path of one live connection: notices that it is dead, and follows the peer when its
//! NAT was rebooted or gave it another port, or when it moved to another network.
//!
//! [`PathKeeper`] is our side. It decides what to send and when; it holds no socket and reads no
//! clock: feed it datagrams, the time and what the connection hears, send what `poll_transmit`
//! yields, sleep until `poll_timeout`. The connection itself notices nothing: what it sends goes
//! wherever [`PathKeeper::path`] is.
//!
//! QUIC retransmits by itself, and that is not enough. Who receives has nothing to send, so its
//! rebooted NAT would stay shut; and where a NAT has given the peer a new port, that address has
//! to be proven before data may go there, or a forged source would turn us on a stranger.
//!
//! So silence counts only while an answer is outstanding. First one check asks the path, which is
//! all that a slow peer costs; then `doubt` says how checks go on, to every address known. Only the
//! client decides where to go. All its checks of its own path nominate, so each answer to one says
//! that the server knows; the server follows when the nominated address has answered it, too.
//! `remotes` are the addresses, `budget` bounds what is sent to them.
//!
//! Not here: finding a path where no known address answers ([`super::PunchAttempt`]), which
//! [`PathKeeper::try_address`] takes over; the credentials' derivation from the TLS session.

mod budget;
mod doubt;
mod remotes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::check::{self, Check, Credentials, username_of};
use super::stun::Transaction;
use super::{Charge, MAIN, Transmit, usable};
use crate::proof::Side;
use budget::{Budget, Seen, Standing};
use doubt::{Doubt, NOMINATIONS, Sign, Step, fast_pause, lull};
use remotes::{Remote, Remotes};

/// Longer round trips are taken for this one, so that patience ends well before a peer is dead.
const LONGEST_RTT: Duration = Duration::from_secs(2);

/// An answer that takes longer proves nothing: we have given up meanwhile.
const ANSWER_WITHIN: Duration = doubt::DEAD_AFTER;

/// Between nominations of a new path.
const NOMINATION_PAUSE: Duration = Duration::from_millis(50);

/// Checks of an address that a rendezvous has proven.
const TRIAL_CHECKS: usize = 5;

/// The shortest pause between those.
const TRIAL_PAUSE: Duration = Duration::from_millis(75);

/// A peer in doubt checks all our addresses at once. Requests that arrive so close together are of
/// one round, and of two paths in it the one in use stays.
const ONE_ROUND: Duration = Duration::from_millis(50);

/// What became of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeeperEvent {
    /// An authenticated request came from this address: packets of the connection may come from
    /// there, too. Once per address for as long as it is remembered.
    Heard {
        /// Where it came from.
        remote: SocketAddr,
    },
    /// Send there from now on: the address has answered, and both sides know.
    Moved {
        /// The new path.
        remote: SocketAddr,
        /// Its round trip, from a check.
        rtt: Duration,
    },
    /// The path does not answer: ask the tracker for an introduction. Again every 2 s while it
    /// lasts.
    Silent,
    /// The peer is heard again, here or elsewhere: ends what `Silent` began.
    Alive,
    /// The peer is where [`PathKeeper::try_address`] said and does not know this connection: close
    /// it, and connect anew.
    Forgotten,
    /// Nothing was heard for 10 s in spite of checks: close it. The last event; the keeper does
    /// nothing more.
    Dead,
}

/// Calm → Doubted by silence or suspicion → Calm when the peer is heard, or Over.
#[derive(Debug)]
enum State {
    Calm,
    Doubted(Doubt),
    Over,
}

/// Whether the peer that a rendezvous has met knows this connection.
#[derive(Debug)]
struct Trial {
    address: SocketAddr,
    until: Instant,
    was_heard: bool,
}

#[derive(Debug)]
struct InFlight {
    to: SocketAddr,
    sent: Instant,
    nominates: bool,
}

/// Our side of the path of one connection.
#[derive(Debug)]
pub struct PathKeeper {
    credentials: Credentials,
    side: Side,
    rng: StdRng,
    path: SocketAddr,
    rtt: Duration,
    /// When the peer was last heard, by whatever.
    heard: Instant,
    /// Since when an answer is outstanding.
    outstanding: Option<Instant>,
    state: State,
    /// How many silences of the connection were ended by checks since it was last heard itself.
    lulls: u32,
    remotes: Remotes,
    trial: Option<Trial>,
    /// Where the newest request came from, and when.
    newest: Option<(SocketAddr, Instant)>,
    /// Where the newest nomination came from.
    nominated: Option<SocketAddr>,
    in_flight: BTreeMap<Transaction, InFlight>,
    seen: Seen,
    checks: Budget,
    answers: Budget,
    transmits: VecDeque<Transmit>,
    events: VecDeque<KeeperEvent>,
}

impl PathKeeper {
    /// Starts calm. `path` is where the connection goes now and `side` ours on it; `credentials`
    /// come from its TLS session, so nobody else knows them. Transactions come from `seed`, so
    /// outside of tests it must be the system's randomness.
    pub fn new(
        now: Instant,
        credentials: Credentials,
        side: Side,
        path: SocketAddr,
        rtt: Duration,
        seed: [u8; 32],
    ) -> PathKeeper {
        let path = usable(path).unwrap_or(path);
        let rtt = rtt.min(LONGEST_RTT);
        PathKeeper {
            credentials,
            side,
            rng: StdRng::from_seed(seed),
            path,
            rtt,
            heard: now,
            outstanding: None,
            state: State::Calm,
            lulls: 0,
            remotes: Remotes::new(path, Remote::of_handshake(now, rtt)),
            trial: None,
            newest: None,
            nominated: None,
            in_flight: BTreeMap::new(),
            seen: Seen::default(),
            checks: Budget::default(),
            answers: Budget::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Where to send now, without IPv6 mapping, flow label and scope.
    pub fn path(&self) -> SocketAddr {
        self.path
    }

    /// USERNAME of the peer's checks.
    pub fn username(&self) -> &str {
        self.credentials.username()
    }

    /// Whether the datagram claims to belong here: a request with our USERNAME, or an answer to a
    /// request of ours. A cheap look, before any authentication.
    pub fn recognizes(&self, bytes: &[u8]) -> bool {
        match check::transaction_of(bytes) {
            Some(transaction) => self.in_flight.contains_key(&transaction),
            None => username_of(bytes) == Some(self.credentials.username()),
        }
    }

    /// Takes a datagram in. What is not an authenticated check of this connection changes nothing.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let Some(from) = usable(from).filter(|_| !self.is_over() && self.recognizes(bytes)) else {
            return;
        };
        match self.credentials.decode(bytes) {
            Ok(Check::Request {
                transaction,
                side,
                nominates,
            }) if side == self.side.other() => {
                self.handle_request(now, from, transaction, nominates);
            }
            Ok(Check::Answer { transaction, .. }) => self.handle_answer(now, from, transaction),
            // Our own request, reflected; or not authenticated.
            Ok(Check::Request { .. }) | Err(_) => return,
        }
        self.send_due(now);
    }

    /// The connection received something; `rtt` is its current estimate of the round trip.
    pub fn heard(&mut self, now: Instant, rtt: Duration) {
        self.rtt = rtt.min(LONGEST_RTT);
        self.hear(now, Sign::Quic);
    }

    /// Whether an answer is outstanding: a request of ours or data of ours under way. Only then
    /// does silence mean anything. May be called as often as it may have changed.
    pub fn expects(&mut self, now: Instant, outstanding: bool) {
        self.outstanding = outstanding.then(|| self.outstanding.unwrap_or(now));
        let is_slight = matches!(&self.state, State::Doubted(doubt) if doubt.is_slight());
        if is_slight && !outstanding {
            self.state = State::Calm;
        }
    }

    /// Looks at the path now, whatever was heard before: something says that it may be gone.
    pub fn suspect(&mut self, now: Instant) {
        if self.is_over() {
            return;
        }
        let asked = self.check_unless_just_done(now, self.path);
        match &mut self.state {
            State::Doubted(doubt) => doubt.suspect(now),
            State::Calm | State::Over => {
                let doubt = Doubt::of_suspicion(now, self.rtt, asked);
                self.state = State::Doubted(doubt);
            }
        }
        self.take_steps(now);
    }

    /// A rendezvous has proven that the peer, or a new process of it, is at `remote`: finds out
    /// whether it knows this connection, and moves there if so.
    pub fn try_address(&mut self, now: Instant, remote: SocketAddr) {
        let is_tried = |address| self.trial.as_ref().is_some_and(|t| t.address == address);
        let Some(address) = usable(remote).filter(|a| !self.is_over() && !is_tried(*a)) else {
            return;
        };
        let pause = self.rtt.max(TRIAL_PAUSE);
        let remote = self.remotes.learn(now, address, [Some(self.path), None]);
        remote.start(now, TRIAL_CHECKS, pause);
        self.trial = Some(Trial {
            address,
            until: now + pause * TRIAL_CHECKS as u32,
            was_heard: false,
        });
        self.send_due(now);
    }

    /// Advances to `now`: sends the checks that are due, and says what silence has come to mean.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.lull_end().is_some_and(|end| end <= now) {
            let asked = self.check_unless_just_done(now, self.path);
            self.state = State::Doubted(Doubt::of_silence(now, self.rtt, asked));
        }
        self.take_steps(now);
        if let Some(trial) = self.trial.take_if(|trial| trial.until <= now)
            && !trial.was_heard
        {
            self.events.push_back(KeeperEvent::Forgotten);
        }
        self.send_due(now);
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing found out.
    pub fn poll_event(&mut self) -> Option<KeeperEvent> {
        self.events.pop_front()
    }

    /// When to call [`PathKeeper::handle_timeout`], or `None` when nothing is due unless something
    /// is heard, expected or suspected.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let state = match &self.state {
            State::Calm => self.lull_end(),
            State::Doubted(doubt) => Some(doubt.next(self.heard)),
            State::Over => return None,
        };
        let checks = self.remotes.values().filter_map(Remote::next);
        let trial = self.trial.as_ref().map(|trial| trial.until);
        checks.chain(state).chain(trial).min()
    }

    /// A request is answered where it came from, and only the first with its transaction: a copy
    /// of it sent on from elsewhere would make us check whoever lives there.
    fn handle_request(
        &mut self,
        now: Instant,
        from: SocketAddr,
        transaction: Transaction,
        nominates: bool,
    ) {
        let standing = self.standing(from);
        if !self.seen.insert(transaction) || !self.answers.try_spend(now, from, standing) {
            return;
        }
        self.transmits.push_back(Transmit {
            via: MAIN,
            charge: Charge::Free,
            to: from,
            bytes: self.credentials.encode_answer(transaction, from),
            ttl: None,
        });
        self.newest = Some((from, now));
        if nominates {
            self.nominated = Some(from);
        }
        self.learn(now, from);
        self.move_if_due(now, from);
        self.hear(now, Sign::Request);
    }

    /// A request came from there. Whoever has not just answered is asked.
    fn learn(&mut self, now: Instant, from: SocketAddr) {
        let kept = [Some(self.path), self.trial.as_ref().map(|t| t.address)];
        let remote = self.remotes.learn(now, from, kept);
        remote.heard = Some(now);
        if !std::mem::replace(&mut remote.is_accepted, true) {
            self.events.push_back(KeeperEvent::Heard { remote: from });
        }
        if from != self.path && remote.fresh_proof(now).is_none() {
            remote.trigger(now, fast_pause(self.rtt));
        }
    }

    fn handle_answer(&mut self, now: Instant, from: SocketAddr, transaction: Transaction) {
        let asked = self.in_flight.get(&transaction);
        if asked.is_none_or(|check| check.to != from) {
            return;
        }
        let Some(check) = self.in_flight.remove(&transaction) else {
            return;
        };
        let nominates = self.nominates(from);
        if let Some(remote) = self.remotes.get_mut(from) {
            remote.prove(now, now.saturating_duration_since(check.sent));
            // That a plain check was answered does not say that the server knows of the choice.
            if check.nominates == nominates {
                remote.stop();
            }
        }
        self.move_if_due(now, from);
        self.hear(now, Sign::Answer);
    }

    /// Moves to `address` if it has answered of late and there is a reason to.
    fn move_if_due(&mut self, now: Instant, address: SocketAddr) {
        let remote = self.remotes.get(address);
        let Some(proof) = remote.and_then(|remote| remote.fresh_proof(now)) else {
            return;
        };
        if address == self.path || !self.is_wanted(address) {
            return;
        }
        let from = std::mem::replace(&mut self.path, address);
        self.rtt = proof.rtt.min(LONGEST_RTT);
        if let Some(old) = self.remotes.get_mut(from) {
            old.stop();
        }
        if let Some(new) = self.remotes.get_mut(address) {
            new.is_accepted = true;
            match self.side {
                Side::Client => new.start(now, NOMINATIONS, NOMINATION_PAUSE),
                Side::Server => new.stop(),
            }
        }
        self.events.push_back(KeeperEvent::Moved {
            remote: address,
            rtt: proof.rtt,
        });
    }

    /// Whether an address that has answered is to become the path.
    fn is_wanted(&self, address: SocketAddr) -> bool {
        match self.side {
            Side::Server => self.nominated == Some(address),
            Side::Client => {
                let is_given = self.trial.as_ref().is_some_and(|t| t.address == address);
                is_given || self.is_silent() || self.has_peer_moved_to(address)
            }
        }
    }

    /// Whether the newest request came from there, and none from the path in the same round.
    fn has_peer_moved_to(&self, address: SocketAddr) -> bool {
        let Some((_, at)) = self.newest.filter(|(newest, _)| *newest == address) else {
            return false;
        };
        let path = self.remotes.get(self.path);
        let heard = path.and_then(|path| path.heard);
        heard.is_none_or(|heard| heard + ONE_ROUND <= at)
    }

    fn hear(&mut self, now: Instant, sign: Sign) {
        self.heard = now;
        if let Some(trial) = &mut self.trial {
            trial.was_heard = true;
        }
        if let State::Doubted(doubt) = &self.state
            && doubt.is_ended_by(sign)
        {
            self.lulls += u32::from(doubt.is_slight());
            if doubt.is_silent() {
                self.events.push_back(KeeperEvent::Alive);
            }
            self.state = State::Calm;
        }
        if sign == Sign::Quic {
            self.lulls = 0;
        }
    }

    /// When silence becomes doubt.
    fn lull_end(&self) -> Option<Instant> {
        let is_calm = matches!(self.state, State::Calm);
        let since = self.outstanding.filter(|_| is_calm)?.max(self.heard);
        Some(since + lull(self.rtt, self.lulls))
    }

    /// Does what doubt has come to.
    fn take_steps(&mut self, now: Instant) {
        while let State::Doubted(doubt) = &mut self.state
            && let Some(step) = doubt.take_due(now, self.heard, self.rtt)
        {
            match step {
                Step::CallForHelp => self.events.push_back(KeeperEvent::Silent),
                Step::Round => self.check_all(now),
                Step::GiveUp => {
                    self.events.push_back(KeeperEvent::Dead);
                    self.state = State::Over;
                    self.trial = None;
                }
            }
        }
    }

    /// The path first: of several that come back it is the one to stay on.
    fn check_all(&mut self, now: Instant) {
        let others = self.remotes.addresses().filter(|to| *to != self.path);
        let all: Vec<SocketAddr> = std::iter::once(self.path).chain(others).collect();
        for to in all {
            let asked = self.check_unless_just_done(now, to);
            if let State::Doubted(doubt) = &mut self.state
                && asked
            {
                doubt.asked(now);
            }
        }
    }

    /// Whether a check is under way.
    fn check_unless_just_done(&mut self, now: Instant, to: SocketAddr) -> bool {
        let remote = self.remotes.get(to);
        remote.is_some_and(|remote| remote.is_just_checked(now)) || self.check(now, to)
    }

    fn send_due(&mut self, now: Instant) {
        if self.is_over() {
            return;
        }
        let remotes = self.remotes.iter_mut();
        let due = remotes.filter_map(|(to, remote)| remote.take_due(now).then_some(to));
        for to in due.collect::<Vec<_>>() {
            let asked = self.check(now, to);
            // Who could not ask everything knows nothing of the peer's memory.
            self.trial.take_if(|trial| trial.address == to && !asked);
        }
    }

    /// Sends a check if that is allowed.
    fn check(&mut self, now: Instant, to: SocketAddr) -> bool {
        let standing = self.standing(to);
        if usable(to).is_none() || !self.checks.try_spend(now, to, standing) {
            return false;
        }
        if let Some(remote) = self.remotes.get_mut(to) {
            remote.checked(now);
        }
        let transaction = Transaction(self.rng.random());
        let nominates = self.nominates(to);
        let bytes = match nominates {
            true => self.credentials.encode_nomination(transaction),
            false => self.credentials.encode_request(transaction, self.side),
        };
        let sent = InFlight {
            to,
            sent: now,
            nominates,
        };
        self.in_flight
            .retain(|_, check| now < check.sent + ANSWER_WITHIN);
        self.in_flight.insert(transaction, sent);
        self.transmits.push_back(Transmit {
            via: MAIN,
            charge: Charge::Free,
            to,
            bytes,
            ttl: None,
        });
        true
    }

    /// Whether checks that go there nominate.
    fn nominates(&self, to: SocketAddr) -> bool {
        self.side == Side::Client && to == self.path
    }

    fn standing(&self, address: SocketAddr) -> Standing {
        let remote = self.remotes.get(address);
        let has_answered = remote.is_some_and(|remote| remote.proof.is_some());
        let is_given = self.trial.as_ref().is_some_and(|t| t.address == address);
        match has_answered || is_given {
            true => Standing::Known,
            false => Standing::Stranger,
        }
    }

    fn is_silent(&self) -> bool {
        matches!(&self.state, State::Doubted(doubt) if doubt.is_silent())
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }
}
