//! Opens a direct path to one peer while both of us sit behind a NAT.
//!
//! [`PunchAttempt`] is our side of one rendezvous. It decides what to send and when; it holds no
//! socket and reads no clock: feed it datagrams and the time, send what `poll_transmit` yields,
//! sleep until `poll_timeout`. Dropping it closes it; until then it answers the peer's checks,
//! since a path we know of is of use only when the peer knows of it too.
//!
//! Both sides must send before either can receive: a NAT with address-dependent filtering drops
//! packets from an address it has not seen us send to (RFC 4787 §5). So the first checks are
//! expected to be lost; they are there to open our own side. How they start depends on what the
//! peer's NAT is said to let in (`schedule`).
//!
//! A path is proven when the peer answered our check from where the check went (RFC 8445 §7.2.5).
//! A check from an address nobody named is answered there, and the address becomes one more
//! candidate, peer-reflexive: that is how a peer behind an address-dependent mapping is found. Of
//! the proven paths the client chooses one and nominates it to the server.
//!
//! Where that cannot work, because a NAT maps by destination, ports are guessed meanwhile if the
//! attempt was told of our own NAT ([`PunchAttempt::guessing`]). That takes further sockets: a path has
//! one of ours at its near end, [`Path::via`].
//!
//! Nothing is sent to an address that neither the tracker nor an authenticated check named, at most 24
//! checks to any ([`PROBES_PER_ADDRESS`]), and to ports that are guessed only what `guess` allows. An
//! answer goes out once per request and is shorter than it.
//!
//! Not here: learning our reflexive address ([`super::MappingProbe`]), starting over from a new socket
//! where both NATs let uninvited packets take ports and the sides start further apart than the first
//! probe is held, and what many rendezvous together send to one IP address ([`super::Allowance`],
//! [`super::Turnstile`]).

mod choice;
mod event;
mod remotes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::check::{self, Check, Credentials, username_of};
use super::guess::{self, Guess, Guessing, Move, Request};
use super::schedule::{Due, PROBES_PER_ADDRESS};
use super::stun::{Message, Transaction};
use super::{Charge, MAIN, Transmit, usable, usable_server};
use crate::limits::CANDIDATES;
use crate::proof::Side;
use crate::wire::{NatMapping, Rendezvous, Technique};
use choice::Choice;
pub use event::{NoPath, Path, PunchEvent};
use remotes::{Remote, start, told};

/// How long to look for a path before saying there is none.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Most peer-reflexive candidates. A peer has one or two; two NATs that map by address and port
/// would go on making new ones for ever.
const LEARNT: usize = 4;

/// Most addresses we ever send to.
const ADDRESSES: usize = CANDIDATES + LEARNT;

/// Most requests answered: all that a peer with our own budgets sends to as many addresses of ours.
const ANSWERS: usize = PROBES_PER_ADDRESS * ADDRESSES;

#[derive(Debug)]
struct InFlight {
    to: Pair,
    sent: Instant,
    /// Of the path that was chosen.
    confirms: bool,
}

/// One of our sockets, and an address of the peer.
type Pair = (u16, SocketAddr);

/// Our side of one rendezvous.
#[derive(Debug)]
pub struct PunchAttempt {
    credentials: Credentials,
    side: Side,
    rng: StdRng,
    remotes: BTreeMap<Pair, Remote>,
    learnt: usize,
    in_flight: BTreeMap<Transaction, InFlight>,
    answered: BTreeSet<Transaction>,
    checks_sent: usize,
    choice: Choice,
    /// What the client, if that is the peer, nominated last.
    nominated: Option<Pair>,
    /// When to give up; none once a path was proven or we did.
    deadline: Option<Instant>,
    start: Instant,
    guess: Option<Guess>,
    /// Ports would have to be guessed, and cannot be.
    is_hopeless: bool,
    /// What found the path, or what was tried last.
    technique: Technique,
    /// Further sockets up to this number were spoken of in [`PunchEvent::Close`], or kept.
    closed: u16,
    transmits: VecDeque<Transmit>,
    events: VecDeque<PunchEvent>,
}

impl PunchAttempt {
    /// Starts once the rendezvous' wait is over. Transactions come from `seed`, so outside of tests it
    /// must be the system's randomness. Candidates that may not be sent to are left out; loopback ones are the
    /// caller's to judge, who knows whether the tracker is on this machine.
    pub fn new(now: Instant, rendezvous: &Rendezvous, seed: [u8; 32]) -> PunchAttempt {
        let start = start(now, rendezvous);
        PunchAttempt {
            credentials: Credentials::of(rendezvous),
            side: rendezvous.side,
            rng: StdRng::from_seed(seed),
            remotes: told(now, rendezvous, start),
            learnt: 0,
            in_flight: BTreeMap::new(),
            answered: BTreeSet::new(),
            checks_sent: 0,
            choice: Choice::Open,
            nominated: None,
            deadline: Some(start + GIVE_UP),
            start,
            guess: None,
            is_hopeless: false,
            technique: Technique::Checks,
            closed: MAIN,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Guesses ports too, where that is needed. To be called at once after [`PunchAttempt::new`].
    pub fn guessing(mut self, rendezvous: &Rendezvous, own: Guessing) -> PunchAttempt {
        let rng = StdRng::from_seed(self.rng.random());
        let peer = (rendezvous.mapping, rendezvous.filtering);
        self.is_hopeless = guess::is_hopeless(&own, peer);
        self.guess = Guess::new(self.start, rendezvous, own, rng);
        let spoilt = self.guess.as_ref().and_then(Guess::spoilt_by_probes_to);
        if let Some(remote) = spoilt.and_then(|to| self.remotes.get_mut(&(MAIN, to))) {
            remote.schedule.open_only();
        }
        self
    }

    /// Which side of the connection to come we are.
    pub fn side(&self) -> Side {
        self.side
    }

    /// How many checks were sent so far, primers included and answers not.
    pub fn checks_sent(&self) -> usize {
        self.checks_sent
    }

    /// Whether a path was chosen, that is, [`PunchEvent::Proven`] found.
    pub fn is_proven(&self) -> bool {
        matches!(self.choice, Choice::Made)
    }

    /// What found the path, or what was tried last: [`crate::wire::ToTracker::Outcome`].
    pub fn technique(&self) -> Technique {
        self.technique
    }

    /// Why no path was proven, as far as that is known by now; of no meaning where one was.
    pub fn no_path(&self) -> NoPath {
        match &self.guess {
            _ if self.remotes.is_empty() => NoPath::NoCandidates,
            Some(guess) => guess.no_path(),
            None if self.is_hopeless => NoPath::Unguessable,
            None => NoPath::NoAnswer,
        }
    }

    /// Whether the datagram claims to belong here: a request with our USERNAME, or an answer to a
    /// request of ours. A cheap look, before any authentication.
    pub fn recognizes(&self, bytes: &[u8]) -> bool {
        match check::transaction_of(bytes) {
            Some(transaction) => {
                self.in_flight.contains_key(&transaction) || self.samples(transaction)
            }
            None => username_of(bytes) == Some(self.credentials.username()),
        }
    }

    /// Whether the tracker's answer to this request shows our guess where our ports are.
    fn samples(&self, transaction: Transaction) -> bool {
        let guess = self.guess.as_ref();
        guess.is_some_and(|guess| guess.recognizes(transaction))
    }

    /// Takes in a datagram that came by the main socket. What is not an authenticated check of this
    /// rendezvous changes nothing.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.handle_datagram_via(now, MAIN, from, bytes);
    }

    /// The same, by any of our sockets.
    pub fn handle_datagram_via(&mut self, now: Instant, via: u16, from: SocketAddr, bytes: &[u8]) {
        if !self.recognizes(bytes) {
            return;
        }
        if let (Some(guess), Some(message)) = (&mut self.guess, Message::parse(bytes))
            && guess.recognizes(message.transaction)
        {
            if let Some(server) = usable_server(from) {
                guess.handle_message(now, server, &message);
                self.send_due(now);
            }
            return;
        }
        let Some(from) = usable(from) else {
            return;
        };
        let from = (via, from);
        match self.credentials.decode(bytes) {
            Ok(Check::Request {
                transaction,
                side,
                nominates,
            }) if side == self.side.other() => {
                self.handle_request(now, from, transaction, nominates);
            }
            Ok(Check::Answer {
                transaction,
                mapped,
            }) => self.handle_answer(now, from, transaction, mapped),
            // Our own request, reflected; or not authenticated.
            Ok(Check::Request { .. }) | Err(_) => return,
        }
        self.send_due(now);
    }

    /// Takes in what the peer said by way of the tracker ([`crate::wire::FromTracker::Trickled`]).
    pub fn handle_trickled(&mut self, now: Instant, address: SocketAddr, mapping: NatMapping) {
        if let Some(guess) = &mut self.guess {
            guess.handle_word(now, address, mapping);
            self.send_due(now);
        }
    }

    /// The [`super::Turnstile`] lets us through.
    pub fn take_turn(&mut self, now: Instant) {
        if let Some(guess) = &mut self.guess {
            guess.take_turn(now);
            self.send_due(now);
        }
    }

    /// The [`super::Turnstile`] will not let us through in time.
    pub fn deny_turn(&mut self, now: Instant) {
        if let Some(guess) = &mut self.guess {
            guess.deny_turn();
            self.send_due(now);
        }
    }

    /// Guesses no more: there is a later rendezvous with the same peer, which knows better where we are.
    pub fn stop_guessing(&mut self, now: Instant) {
        if let Some(guess) = &mut self.guess {
            guess.supersede();
            self.send_due(now);
        }
    }

    /// Advances to `now`: chooses a path that has waited, sends the checks that are due, or gives
    /// up.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Choice::Held { until, proven } = &mut self.choice
            && *until <= now
        {
            let proven = std::mem::take(proven);
            self.choose(now, proven);
        }
        if let Some(guess) = &mut self.guess {
            guess.handle_timeout(now);
        }
        self.send_due(now);
        let is_guessing = self.guess.as_ref().is_some_and(|guess| !guess.is_over());
        let is_over = |deadline: &mut Instant| *deadline <= now && !is_guessing;
        if self.deadline.take_if(is_over).is_some() {
            self.events.push_back(PunchEvent::Failed);
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing found out.
    pub fn poll_event(&mut self) -> Option<PunchEvent> {
        self.events.pop_front()
    }

    /// When to call [`PunchAttempt::handle_timeout`], or `None` when nothing is due unless the peer
    /// is heard.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let held = match self.choice {
            Choice::Held { until, .. } => Some(until),
            Choice::Open | Choice::Made => None,
        };
        let checks = self.remotes.values().filter_map(|r| r.schedule.next());
        let guess = self.guess.as_ref().and_then(Guess::poll_timeout);
        // Until the guess is over, its time is ours.
        let deadline = self.deadline.filter(|_| guess.is_none());
        checks.chain(held).chain(guess).chain(deadline).min()
    }

    /// A request counts once with its transaction: a copy of it sent on from elsewhere would make us
    /// check whoever lives there. A nomination counts even when the address got all its answers,
    /// since the client may have checked several addresses of ours from it.
    fn handle_request(
        &mut self,
        now: Instant,
        from: Pair,
        transaction: Transaction,
        nominates: bool,
    ) {
        if self.answered.len() == ANSWERS || !self.answered.insert(transaction) {
            return;
        }
        let Some(remote) = self.remote(now, from) else {
            return;
        };
        if remote.answers < PROBES_PER_ADDRESS {
            self.answer(now, from, transaction);
        }
        if nominates && self.nominated.replace(from) != Some(from) {
            let (via, remote) = from;
            self.events.push_back(PunchEvent::Nominated { via, remote });
        }
    }

    /// A request is answered where it came from, and triggers a check there.
    fn answer(&mut self, now: Instant, from: Pair, transaction: Transaction) {
        let Some(known) = self.remotes.get_mut(&from) else {
            return;
        };
        known.answers += 1;
        known.schedule.trigger(now);
        let (via, remote) = from;
        if known.answers == 1 {
            self.events.push_back(PunchEvent::Heard { via, remote });
            if let Some(guess) = &mut self.guess {
                guess.heard();
            }
        }
        self.transmits.push_back(Transmit {
            via,
            to: remote,
            bytes: self.credentials.encode_answer(transaction, remote),
            ttl: None,
            charge: Charge::Free,
        });
    }

    /// The peer's address `from`, learnt if there is room for one more.
    fn remote(&mut self, now: Instant, from: Pair) -> Option<&mut Remote> {
        if !self.remotes.contains_key(&from) {
            if self.learnt == LEARNT {
                return None;
            }
            self.learnt += 1;
            self.remotes.insert(from, Remote::learnt(now));
        }
        self.remotes.get_mut(&from)
    }

    fn handle_answer(
        &mut self,
        now: Instant,
        from: Pair,
        transaction: Transaction,
        mapped: SocketAddr,
    ) {
        let is_symmetric = |check: &mut InFlight| check.to == from;
        let Some(check) = take_if(&mut self.in_flight, transaction, is_symmetric) else {
            return;
        };
        // A guess that hit may be the first that is known of the address.
        let Some(remote) = self.remote(now, from) else {
            return;
        };
        if check.confirms {
            remote.schedule.acknowledge();
        }
        if remote.schedule.is_proven() {
            return;
        }
        remote.schedule.prove();
        let kind = remote.kind;
        self.deadline = None;
        let path = Path {
            via: from.0,
            remote: from.1,
            kind,
            rtt: now.saturating_duration_since(check.sent),
            observed: mapped,
        };
        self.handle_proven(now, path);
    }

    fn send_due(&mut self, now: Instant) {
        while let Some((pair, due)) = self.take_due(now) {
            self.check(now, pair, due, Charge::Unasked);
        }
        while let Some(next) = self.guess.as_mut().and_then(Guess::poll_move) {
            match next {
                Move::Ask(transmit) => self.transmits.push_back(transmit),
                Move::Check(shot) => {
                    let due = shot.ttl.map_or(Due::Probe, |hops| Due::Primer { hops });
                    self.check(now, (shot.via, shot.to), due, shot.charge);
                }
            }
        }
        while let Some(request) = self.guess.as_mut().and_then(Guess::poll_request) {
            self.events.push_back(match request {
                Request::Word { port, mapping } => PunchEvent::Trickle { port, mapping },
                Request::Turn(turn) => PunchEvent::Turn(turn),
                Request::TurnOver => PunchEvent::TurnOver,
            });
        }
        self.note_guess();
    }

    fn take_due(&mut self, now: Instant) -> Option<(Pair, Due)> {
        let mut remotes = self.remotes.iter_mut();
        remotes.find_map(|(pair, remote)| Some((*pair, remote.schedule.take_due(now)?)))
    }

    fn check(&mut self, now: Instant, to: Pair, due: Due, charge: Charge) {
        let transaction = Transaction(self.rng.random());
        let confirms = due == Due::Confirmation;
        let in_flight = InFlight {
            to,
            sent: now,
            confirms,
        };
        self.in_flight.insert(transaction, in_flight);
        self.checks_sent += 1;
        self.transmits.push_back(Transmit {
            via: to.0,
            to: to.1,
            bytes: match confirms && self.side == Side::Client {
                true => self.credentials.encode_nomination(transaction),
                false => self.credentials.encode_request(transaction, self.side),
            },
            ttl: due.hops(),
            charge,
        });
    }

    /// Remembers what was tried, and once it is over closes the sockets that nothing came of. The
    /// client may choose any path that it has heard of.
    fn note_guess(&mut self) {
        let Some(guess) = &self.guess else {
            return;
        };
        if guess.has_acted() && !self.is_proven() {
            self.technique = guess.technique();
        }
        let sockets = guess.sockets();
        if guess.is_over() && self.closed < sockets.end {
            let is_used = |via: u16| self.remotes.keys().any(|(used, _)| *used == via);
            let idle = sockets
                .clone()
                .filter(|via| *via > self.closed && !is_used(*via));
            let events = idle.map(|via| PunchEvent::Close { via });
            self.events.extend(events);
            self.closed = sockets.end;
        }
    }
}

fn take_if<K: Ord + Copy, V>(
    map: &mut BTreeMap<K, V>,
    key: K,
    condition: impl FnOnce(&mut V) -> bool,
) -> Option<V> {
    map.get_mut(&key)
        .is_some_and(condition)
        .then(|| map.remove(&key))?
}
