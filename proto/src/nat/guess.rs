//! Guesses the outside ports that no server can tell, as part of one [`super::PunchAttempt`].
//!
//! A NAT that maps by destination gives our packets to the peer a port that nobody knows before the
//! peer has seen them, and a peer that filters by port does not see them. What its port will be can be
//! foretold or hit upon: who does what is the `plan`, what is sent for it are the `shots`, how a
//! sequence is foretold is `sampling`.
//!
//! Both sides tell each other where to look, and that they agree to be looked for, by a *word* through
//! the tracker (trickle and trickled on the wire). No guess is sent before the peer's word has come in
//! this rendezvous, from the IP address that the tracker named in it; none before the host's
//! [`super::Turnstile`] has let us through; and none once the peer was heard.
//!
//! Whoever drives the attempt, once it has called [`super::PunchAttempt::guessing`]:
//!
//! * sends each [`Transmit`] from the socket that its `via` numbers, opening it the first time, if its
//!   `charge` allows it, and hands in what comes by that socket with
//!   [`super::PunchAttempt::handle_datagram_via`], answers of the tracker's STUN port included;
//! * passes [`super::PunchEvent::Trickle`] to the tracker of the rendezvous, and what that says to
//!   [`super::PunchAttempt::handle_trickled`];
//! * asks the turnstile at [`super::PunchEvent::Turn`], and leaves it at `TurnOver` or when it drops the
//!   attempt, with [`super::TurnEnd::Answered`] if a path was proven;
//! * closes sockets at `Close`, and those left when the attempt and its connection are gone;
//! * tells the tracker [`super::PunchAttempt::technique`] when a path is proven or the attempt failed.
//!
//! | our role | turn | word we send, and when | then |
//! | --- | --- | --- | --- |
//! | predicted | none | sequential, our port: after it was opened between two samples | waits, again up to twice |
//! | predicting | on the word | none | checks that port and those around it |
//! | mutual | first | sequential, our port to be: after a sample | on the word, aims 25 sockets, again up to twice |
//! | settling | first | endpoint-independent, our port for the peer's address | as spraying, from that socket |
//! | opening | on the word | random, our range: when all sockets are open | waits |
//! | spraying | first | endpoint-independent, our port: at once | on the word, checks 880 ports |
//! | block | first | our range | on the word, checks all ports |
//! | lining | on the word | sequential, a port amid a run of ours: after that was opened between two samples | waits |
//! | crowding | on the word | our range: at once | checks that port and the next from up to 1,100 sockets |

mod firing;
mod limits;
mod plan;
mod rounds;
mod sampling;
mod shots;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;

use super::probe::Dependence;
use super::punch::NoPath;
use super::stun::{Message, Transaction};
use super::{MAIN, PrimerHops, Transmit, usable};
use crate::wire::{CandidateKind, NatFiltering, NatMapping, Rendezvous, Technique};
use limits::{grace, least, packets};
use plan::{Class, Role, role};
use sampling::Sampling;
use shots::Shot;

pub(super) use plan::is_hopeless;
pub use plan::possible;

/// How long everything may take, from the start of the attempt.
const LONGEST: Duration = Duration::from_secs(7);

/// How long a peer may take to say its word after ours.
const PATIENCE: Duration = Duration::from_millis(2_500);

/// How long the hard side of a birthday waits for the other, which has to get its turn.
const OPEN: Duration = Duration::from_secs(4);

/// How long to wait for an answer to what was sent before it is called a miss: a bad round trip.
const REST: Duration = Duration::from_millis(1_000);

/// How often a sequence is foretold.
const ROUNDS: usize = 3;

/// How often our own port for one address is sought.
const SETTLINGS: usize = 5;

/// Most words taken from the peer: one for each of its rounds, and to spare.
const WORDS: usize = 8;

/// What an attempt must know of our own side to guess ports.
#[derive(Clone, Debug)]
pub struct Guessing {
    /// How our NAT maps, as the tracker was told.
    pub mapping: NatMapping,
    /// What of a destination that depends on, as far as known.
    pub dependence: Option<Dependence>,
    /// What our NAT lets in, as the tracker was told.
    pub filtering: NatFiltering,
    /// How far a check may travel that opens our NATs ([`super::Measured::primer_hops`]).
    pub primer_hops: PrimerHops,
    /// Where the tracker sees our main socket.
    pub reflexive: SocketAddr,
    /// A STUN port of the tracker, of the same family.
    pub stun: SocketAddr,
    /// Whether the tracker sees us by IPv6 too. Where it sees the peer by IPv6 as well, no port need be
    /// guessed to meet there.
    pub has_ipv6: bool,
    /// What the tracker advises first.
    pub advice: Option<Technique>,
}

/// A guess that an attempt wants to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Where all its packets go.
    pub ip: IpAddr,
    /// How it guesses.
    pub technique: Technique,
    /// Most packets it takes.
    pub packets: usize,
    /// Fewest new flows in our NAT with which it is worth while.
    pub least: usize,
}

/// What a guess wants to be said or asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Our word for the peer.
    Word {
        port: u16,
        mapping: NatMapping,
    },
    Turn(Turn),
    /// The turn, asked for or taken, is not needed any more.
    TurnOver,
}

/// What a guess sends, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// A question to the tracker.
    Ask(Transmit),
    /// A check.
    Check(Shot),
}

/// Waiting → what the role needs first: Queued, Sampling or Ready. Queued → Sampling, Ready or Firing;
/// Sampling → Ready or Resting; Ready → Queued or Firing; Firing → Resting; Resting → Sampling; all →
/// Over.
#[derive(Debug)]
enum Stage {
    /// Other candidates come first.
    Waiting {
        until: Instant,
    },
    /// For our turn.
    Queued,
    Sampling(Sampling),
    /// For the peer's word.
    Ready {
        until: Instant,
    },
    Firing,
    /// For an answer.
    Resting {
        until: Instant,
    },
    Over,
}

/// What the peer has said, and from where.
#[derive(Clone, Copy, Debug)]
struct Word {
    address: SocketAddr,
    class: Class,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TurnState {
    None,
    Asked,
    Taken,
}

/// The guessing of one attempt.
#[derive(Debug)]
pub(super) struct Guess {
    settings: Guessing,
    rng: StdRng,
    /// The peer's address as the tracker observed it.
    told: SocketAddr,
    /// What the peer's NAT lets in.
    filtering: NatFiltering,
    own: Class,
    /// As the tracker told of it.
    theirs: Class,
    role: Role,
    stage: Stage,
    ends: Instant,
    turn: TurnState,
    has_said: bool,
    word: Option<Word>,
    words: usize,
    rounds: usize,
    next_via: u16,
    /// The socket that is easy for the peer: the main one, or one whose port we found out.
    easy_via: u16,
    shots: VecDeque<Shot>,
    last_shot: Instant,
    has_acted: bool,
    /// What ended it first.
    ended_by: Option<NoPath>,
    moves: VecDeque<Move>,
    requests: VecDeque<Request>,
}

impl Guess {
    /// `None` where there is nothing to guess: see `plan`.
    pub(super) fn new(
        start: Instant,
        rendezvous: &Rendezvous,
        settings: Guessing,
        rng: StdRng,
    ) -> Option<Guess> {
        let told = observed(rendezvous)?;
        let is_one_family = settings.stun.is_ipv4() == told.is_ipv4();
        let own = Class::of(settings.mapping, settings.filtering).given(settings.dependence);
        let peer = Class::of(rendezvous.mapping, rendezvous.filtering);
        let advised = plan::advised(own, peer, settings.advice);
        let peer = plan::advised(peer, own, settings.advice);
        let role = role(advised, peer).filter(|_| is_one_family)?;
        Some(Guess {
            filtering: rendezvous.filtering,
            told,
            own: advised,
            theirs: peer,
            role,
            stage: Stage::Waiting {
                until: start + grace(role, rendezvous, &settings),
            },
            settings,
            rng,
            ends: start + LONGEST,
            turn: TurnState::None,
            has_said: false,
            word: None,
            words: 0,
            rounds: 0,
            next_via: MAIN + 1,
            easy_via: MAIN,
            shots: VecDeque::new(),
            last_shot: start,
            has_acted: false,
            ended_by: None,
            moves: VecDeque::new(),
            requests: VecDeque::new(),
        })
    }

    pub(super) fn technique(&self) -> Technique {
        self.role.technique()
    }

    /// Whether a path to this address was found by it: to where the tracker sees the peer, or anywhere
    /// near, none is found otherwise where both of us began to guess.
    pub(super) fn explains(&self, remote: SocketAddr) -> bool {
        self.has_acted && remote.ip() == self.told.ip()
    }

    /// The peer's address at which a probe of our main socket is of no use, and may spoil the guess:
    /// the peer is to find our port, and where its NAT clashes, a probe from there takes the port that
    /// the peer guesses from. Linux then lets flows to other ports leave from another one as well.
    pub(super) fn spoilt_by_probes_to(&self) -> Option<SocketAddr> {
        let is_found = matches!(self.role, Role::Predicted | Role::Opening);
        let may_spoil = is_found && self.filtering == NatFiltering::Clashing;
        may_spoil.then_some(self.told)
    }

    /// Whether anything was sent for it.
    pub(super) fn has_acted(&self) -> bool {
        self.has_acted
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// What has ended it, or would by now, where no path was found.
    pub(super) fn no_path(&self) -> NoPath {
        self.ended_by.unwrap_or(match self.stage {
            Stage::Queued => NoPath::NoTurn,
            Stage::Sampling(_) => NoPath::NoSample,
            Stage::Ready { .. } => NoPath::NoTrickle,
            Stage::Waiting { .. } | Stage::Firing | Stage::Resting { .. } | Stage::Over => {
                NoPath::NoAnswer
            }
        })
    }

    /// The further sockets that were named so far.
    pub(super) fn sockets(&self) -> std::ops::Range<u16> {
        MAIN + 1..self.next_via
    }

    pub(super) fn recognizes(&self, transaction: Transaction) -> bool {
        match &self.stage {
            Stage::Sampling(sampling) => sampling.recognizes(transaction),
            _ => false,
        }
    }

    /// Takes in an answer of the tracker.
    pub(super) fn handle_message(&mut self, now: Instant, from: SocketAddr, message: &Message<'_>) {
        if let Stage::Sampling(sampling) = &mut self.stage {
            sampling.handle_message(now, from, message);
            self.handle_timeout(now);
        }
    }

    /// Takes in the peer's word. One from another IP address than the tracker named at the beginning
    /// is nobody's.
    pub(super) fn handle_word(&mut self, now: Instant, address: SocketAddr, mapping: NatMapping) {
        let address = usable(address).filter(|it| it.ip() == self.told.ip());
        let (Some(address), false) = (address, self.is_over() || self.words == WORDS) else {
            return;
        };
        self.words += 1;
        let class = match Class::of(mapping, NatFiltering::PortDependent) {
            Class::Easy { .. } if mapping == NatMapping::Unknown => return,
            class => class,
        };
        let Some(role) = role(self.own, class) else {
            return;
        };
        self.role = role;
        self.word = Some(Word { address, class });
        match (&self.stage, role) {
            (Stage::Ready { .. }, _) => self.proceed(now),
            // It foretells its port anew, so we do too.
            (Stage::Firing | Stage::Resting { .. }, Role::Mutual) if self.rounds < ROUNDS => {
                self.begin_round(now);
            }
            (Stage::Firing | Stage::Resting { .. }, Role::Predicting) => self.fire(now),
            _ => (),
        }
    }

    /// The host's turn has come to us.
    pub(super) fn take_turn(&mut self, now: Instant) {
        if self.turn == TurnState::Asked {
            self.turn = TurnState::Taken;
            if let Stage::Queued = self.stage {
                self.proceed(now);
            }
        }
    }

    /// The host's turn will not come to us in time.
    pub(super) fn deny_turn(&mut self) {
        if self.turn == TurnState::Asked {
            self.turn = TurnState::None;
            self.end(NoPath::TurnRefused);
        }
    }

    /// The peer was heard: what follows is no guess.
    pub(super) fn heard(&mut self) {
        if !self.is_over() {
            self.shots.clear();
            self.stage = Stage::Resting { until: self.ends };
        }
    }

    /// There is a later one.
    pub(super) fn supersede(&mut self) {
        self.end(NoPath::Superseded);
    }

    fn end(&mut self, by: NoPath) {
        if !self.is_over() {
            self.ended_by = Some(by);
            self.stop();
        }
    }

    /// It is not needed any more.
    pub(super) fn stop(&mut self) {
        if self.turn != TurnState::None {
            self.requests.push_back(Request::TurnOver);
        }
        self.turn = TurnState::None;
        self.shots.clear();
        self.stage = Stage::Over;
    }

    pub(super) fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    pub(super) fn poll_move(&mut self) -> Option<Move> {
        self.moves.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let stage = match &self.stage {
            Stage::Over => return None,
            Stage::Waiting { until } | Stage::Ready { until } | Stage::Resting { until } => {
                Some(*until)
            }
            Stage::Sampling(sampling) => sampling.poll_timeout(),
            Stage::Queued | Stage::Firing => None,
        };
        let shot = self.next_shot();
        Some(
            [stage, shot]
                .into_iter()
                .flatten()
                .fold(self.ends, Instant::min),
        )
    }

    fn next_shot(&self) -> Option<Instant> {
        self.shots.front().map(|shot| self.last_shot + shot.pause)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if !self.is_over() && self.ends <= now {
            return self.end(self.no_path());
        }
        self.shoot(now);
        match &mut self.stage {
            Stage::Waiting { until } if *until <= now => self.proceed(now),
            Stage::Sampling(sampling) => {
                let due = sampling.take_due(now).into_iter().map(Move::Ask);
                self.moves.extend(due);
                if sampling.is_over(now) {
                    self.handle_samples(now);
                }
            }
            Stage::Ready { until } if *until <= now => self.end(NoPath::NoTrickle),
            Stage::Firing if self.shots.is_empty() => self.handle_fired(now),
            Stage::Resting { until } if *until <= now => self.handle_rested(now),
            _ => (),
        }
    }

    fn shoot(&mut self, now: Instant) {
        while self.next_shot().is_some_and(|due| due <= now)
            && let Some(shot) = self.shots.pop_front()
        {
            self.last_shot = now;
            self.has_acted = true;
            self.moves.push_back(Move::Check(shot));
        }
    }

    /// Does what comes next before the guess itself: our turn, our word, the peer's.
    fn proceed(&mut self, now: Instant) {
        match self.role {
            Role::Predicted => self.begin_round(now),
            Role::Mutual | Role::Settling | Role::Spraying | Role::Block if !self.has_turn() => {
                self.queue();
            }
            Role::Mutual | Role::Settling if !self.has_said => self.begin_round(now),
            Role::Spraying | Role::Block | Role::Crowding if !self.has_said => {
                self.say_place();
                self.proceed(now);
            }
            _ if self.word.is_none() => {
                let until = match self.role {
                    Role::Predicting | Role::Opening | Role::Lining | Role::Crowding => self.ends,
                    _ => now + PATIENCE,
                };
                self.stage = Stage::Ready { until };
            }
            _ if !self.has_turn() => self.queue(),
            Role::Lining => self.begin_round(now),
            _ => self.fire(now),
        }
    }

    fn has_turn(&self) -> bool {
        self.turn == TurnState::Taken
    }

    fn queue(&mut self) {
        self.stage = Stage::Queued;
        if self.turn == TurnState::None {
            self.turn = TurnState::Asked;
            self.requests.push_back(Request::Turn(Turn {
                ip: self.told.ip(),
                technique: self.role.technique(),
                packets: packets(self.role),
                least: least(self.role),
            }));
        }
    }

    /// Says where we are when that needs no sample.
    fn say_place(&mut self) {
        let (port, mapping) = match self.own {
            Class::Ranged(range) => (*range.ports().start(), range.mapping()),
            _ => (
                self.settings.reflexive.port(),
                NatMapping::EndpointIndependent,
            ),
        };
        self.say(port, mapping);
    }

    fn say(&mut self, port: u16, mapping: NatMapping) {
        self.has_said = true;
        self.requests.push_back(Request::Word { port, mapping });
    }

    fn new_via(&mut self) -> u16 {
        let via = self.next_via;
        self.next_via = via.saturating_add(1);
        via
    }
}

/// Where the tracker sees the peer, which it puts first.
fn observed(rendezvous: &Rendezvous) -> Option<SocketAddr> {
    let first = rendezvous.candidates.first();
    let observed = first.filter(|first| first.kind == CandidateKind::ServerReflexive);
    observed.and_then(|candidate| usable(candidate.address))
}
