//! Measures how our NAT picks outside ports, by asking several servers how we look to them.
//!
//! [`MappingProbe`] sends STUN Binding requests and compares the answers (RFC 5780 §4.3). Feed it
//! datagrams and the time, send what `poll_transmit` yields, sleep until `poll_timeout`, until
//! `poll_measured` yields. One probe measures one family; a machine with both makes two.
//!
//! [`MappingProbe::new`] asks each server from the one socket in question, which shows whether its
//! mapping depends on the destination. [`MappingProbe::thorough`] goes on where there is more to
//! know, with sockets that are thrown away afterwards: it asks one server from each of them in turn,
//! which shows the sequence or the range that new mappings get their ports from; or, where one
//! mapping serves all destinations, lets one of them talk to the main one by their outside addresses
//! (*hairpinning*, RFC 4787 §6). Sockets are numbered: 0 is the one in question, and whoever drives
//! the probe opens another the first time that something is to be sent by its number.
//!
//! Where a NAT maps by destination, the main socket also asks how near the first server is (`primer`).
//!
//! Two ports of one server tell whether the mapping depends on the port; only two IP addresses tell
//! whether it depends on the address. A peer on an open path is as good a server for that
//! ([`Observers`]): what it sees of us is added with [`MappingProbe::observed_by`].
//!
//! Answers are not authenticated. They are matched by transaction and source, so only somebody who
//! sees our packets can forge one; what it gains is that our peers look for us in a wrong place, and
//! what the [`Allowance`](super::Allowance) leaves of six packets to an address it names.
//!
//! Not here: filtering, which only a packet from an address we never sent to can show
//! ([`super::FilteringProbe`]).

mod classify;
mod observers;
mod question;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::primer::{Distance, PrimerHops};
use super::stun::{self, Message, Transaction};
use super::{Charge, MAIN, Transmit, usable, usable_server};
use crate::wire::NatMapping;
pub use classify::{Confidence, Dependence, Sample, Verdict, classify};
pub use observers::{Observation, Observers};
pub(in crate::nat) use question::{Answer, Question, encode_request};

/// Most servers asked.
const SERVERS: usize = 8;

/// Throw-away sockets that show a sequence, asked from at the same moment, so that little else comes
/// between them.
const SEQUENCE_SOCKETS: u16 = 5;

/// Throw-away sockets that show a range, those before included: 32 samples leave 3 % of it beyond
/// each end.
const RANGE_SOCKETS: u16 = 32;

/// Between the questions from those.
const RANGE_GAP: Duration = Duration::from_millis(2);

/// How long a server at another IP address may take once the first has answered: three requests.
const ALTERNATE_WAIT: Duration = Duration::from_millis(500);

/// How often each side of a hairpin test sends.
const HAIRPINS: usize = 3;

/// Between two of them.
const HAIRPIN_GAP: Duration = Duration::from_millis(50);

/// How long to wait for the last.
const HAIRPIN_WAIT: Duration = Duration::from_millis(200);

/// Whether our NAT lets two hosts behind it talk by their outside addresses (RFC 4787 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hairpinning {
    /// Not measured: the mapping depends on the destination, or nobody told our address.
    #[default]
    Unknown,
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// What the answers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// How our NAT maps ports, as far as these servers show.
    pub mapping: NatMapping,
    /// What of a destination a mapping depends on, if that showed.
    pub dependence: Option<Dependence>,
    /// How far this may be trusted.
    pub confidence: Confidence,
    /// Whether two hosts behind our NAT may talk by their outside addresses.
    pub hairpinning: Hairpinning,
    /// How far a check may travel that opens our NATs. The least there is where a mapping serves all
    /// destinations, or was not measured thoroughly.
    pub primer_hops: PrimerHops,
    /// One for each question that was answered, in the order they were put.
    pub samples: Vec<Sample>,
}

impl Measured {
    fn of(
        samples: Vec<Sample>,
        observations: &[Observation],
        hairpinning: Hairpinning,
        primer_hops: PrimerHops,
    ) -> Measured {
        let Verdict {
            mapping,
            dependence,
            confidence,
        } = classify(&samples, observations);
        Measured {
            mapping,
            dependence,
            confidence,
            hairpinning,
            primer_hops,
            samples,
        }
    }

    /// Our server-reflexive address, if any server answered.
    pub fn reflexive(&self) -> Option<SocketAddr> {
        self.samples.first().map(|sample| sample.mapped)
    }

    /// Outside port of the newest mapping, where the next one of a sequence goes on.
    pub fn base(&self) -> Option<u16> {
        let newest = self.samples.iter().rev().find(|s| s.is_first_try);
        newest.map(|sample| sample.mapped.port())
    }

    /// Whether servers at two IP addresses answered the main socket. If not, a mapping that depends
    /// on the address but not on the port looks endpoint-independent.
    pub fn compares_addresses(&self) -> bool {
        let first = self.samples.first().map(|sample| sample.server.ip());
        let differs = |s: &Sample| s.via == MAIN && Some(s.server.ip()) != first;
        self.samples.iter().any(differs)
    }
}

/// Asks some servers how our sockets look to them.
#[derive(Debug)]
pub struct MappingProbe {
    rng: StdRng,
    depth: Depth,
    stage: Stage,
    questions: Vec<Question>,
    observations: Vec<Observation>,
    /// Until when servers at other IP addresses than the first may take, once that has answered.
    patience: Option<Instant>,
    hairpin: Transaction,
    hairpinning: Hairpinning,
    distance: Distance,
    transmits: VecDeque<Transmit>,
}

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// The socket in question alone.
    Main,
    /// Throw-away sockets too.
    Thorough,
}

/// Main → Sequence → Range, or Main → Neighbour → Hairpin; each → Ended when there is no more to know.
#[derive(Debug)]
enum Stage {
    /// Each server is asked from the socket in question.
    Main,
    /// One server is asked from a few throw-away sockets at once.
    Sequence,
    /// The same from more.
    Range,
    /// A throw-away socket learns its outside address.
    Neighbour,
    /// It and the main one send to each other's.
    Hairpin {
        addresses: [SocketAddr; 2],
        left: usize,
        next: Instant,
    },
    Ended,
    Reported,
}

impl MappingProbe {
    /// Asks the first 8 usable addresses of the first one's family, each once, from the main socket
    /// alone. Two ports of one server should be among them, and a second IP address if there is one.
    pub fn new(now: Instant, servers: &[SocketAddr], seed: [u8; 32]) -> MappingProbe {
        MappingProbe::begin(now, servers, seed, Depth::Main)
    }

    /// The same, and then what only further sockets show: at most 32 of them, numbered from 1.
    pub fn thorough(now: Instant, servers: &[SocketAddr], seed: [u8; 32]) -> MappingProbe {
        MappingProbe::begin(now, servers, seed, Depth::Thorough)
    }

    /// The same when peers have shown, by authenticated checks, where they see our main socket come
    /// from. A mapping that looks endpoint-independent to the servers is looked at by further sockets
    /// then, for the pattern of its ports.
    pub fn observed_by(mut self, observations: Vec<Observation>) -> MappingProbe {
        self.observations = observations;
        self.observations.truncate(SERVERS);
        self
    }

    fn begin(now: Instant, servers: &[SocketAddr], seed: [u8; 32], depth: Depth) -> MappingProbe {
        let mut rng = StdRng::from_seed(seed);
        let [hairpin, distance] = [(); 2].map(|()| Transaction(rng.random()));
        let mut probe = MappingProbe {
            rng,
            depth,
            stage: Stage::Main,
            questions: Vec::new(),
            observations: Vec::new(),
            patience: None,
            hairpin,
            hairpinning: Hairpinning::Unknown,
            distance: Distance::unknown(distance),
            transmits: VecDeque::new(),
        };
        for address in servers.iter().copied().filter_map(usable_server) {
            let known = &probe.questions;
            let fits = known
                .first()
                .is_none_or(|first| question::is_same_family(first.address(), address));
            let is_new = known.iter().all(|question| question.address() != address);
            if fits && is_new && known.len() < SERVERS {
                probe.ask(now, MAIN, address);
            }
        }
        probe.handle_timeout(now);
        probe
    }

    fn ask(&mut self, at: Instant, via: u16, server: SocketAddr) {
        let transaction = Transaction(self.rng.random());
        self.questions
            .push(Question::new(at, via, server, transaction));
    }

    /// Whether the datagram claims to be an answer to one of our requests, or is the request that
    /// our own sockets send each other.
    pub fn recognizes(&self, bytes: &[u8]) -> bool {
        let Some(message) = Message::parse(bytes) else {
            return false;
        };
        match message.kind {
            stun::BINDING_REQUEST => message.transaction == self.hairpin,
            stun::BINDING_SUCCESS => {
                let mut questions = self.questions.iter();
                questions.any(|question| question.recognizes(message.transaction))
                    || self.distance.recognizes(message.transaction)
            }
            _ => false,
        }
    }

    /// Takes a datagram in, on whichever socket it came. What is not an answer of the server that
    /// was asked changes nothing.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let (Some(from), Some(message)) = (usable_server(from), Message::parse(bytes)) else {
            return;
        };
        for question in &mut self.questions {
            question.handle_message(from, &message);
        }
        self.distance.handle_message(from, &message);
        let is_first = |q: &Question| !self.is_alternate(q) && q.answer().is_some();
        if self.questions.iter().any(is_first) {
            self.patience.get_or_insert(now + ALTERNATE_WAIT);
        }
        let is_hairpin =
            message.kind == stun::BINDING_REQUEST && message.transaction == self.hairpin;
        if let (Stage::Hairpin { .. }, true) = (&self.stage, is_hairpin) {
            self.hairpinning = Hairpinning::Yes;
            self.stage = Stage::Ended;
        }
        self.advance(now);
    }

    /// Advances to `now`: asks again those that have not answered, or gives them up.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.give_up_alternates(now);
        self.send_due(now);
        self.advance(now);
    }

    /// A second address that does not answer, as behind a firewall, must not hold up what is known.
    fn give_up_alternates(&mut self, now: Instant) {
        if self.patience.is_none_or(|until| now < until) {
            return;
        }
        let first = self.questions.first().map(|first| first.address().ip());
        let alternates = self.questions.iter_mut();
        let alternates = alternates.filter(|it| Some(it.address().ip()) != first);
        alternates.for_each(Question::give_up);
    }

    /// Whether it goes to another IP address than the first.
    fn is_alternate(&self, question: &Question) -> bool {
        let first = self.questions.first().map(|first| first.address().ip());
        Some(question.address().ip()) != first
    }

    fn send_due(&mut self, now: Instant) {
        let due = self
            .questions
            .iter_mut()
            .filter_map(|question| question.handle_timeout(now));
        self.transmits.extend(due);
        self.transmits.extend(self.distance.handle_timeout(now));
        self.send_hairpin(now);
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When to call [`MappingProbe::handle_timeout`], or `None` when there is nothing to wait for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Ended | Stage::Reported => None,
            Stage::Hairpin { next, .. } => Some(next),
            Stage::Main => self.next_question().map(|next| {
                let patience = self.patience.filter(|_| self.awaits_alternate());
                patience.map_or(next, |until| next.min(until))
            }),
            _ => self.next_question(),
        }
    }

    fn next_question(&self) -> Option<Instant> {
        let questions = self.questions.iter().filter_map(|q| q.poll_timeout());
        questions.chain(self.distance.poll_timeout()).min()
    }

    fn awaits_alternate(&self) -> bool {
        let mut waiting = self.questions.iter();
        waiting.any(|it| it.poll_timeout().is_some() && self.is_alternate(it))
    }

    /// The result, once: when every server has answered or was given up.
    pub fn poll_measured(&mut self) -> Option<Measured> {
        let Stage::Ended = self.stage else {
            return None;
        };
        self.stage = Stage::Reported;
        Some(Measured::of(
            self.samples(),
            &self.observations,
            self.hairpinning,
            self.distance.primer_hops(),
        ))
    }

    fn samples(&self) -> Vec<Sample> {
        let sample = |question: &Question| {
            let answer = question.answer()?;
            Some(Sample {
                via: question.via(),
                server: question.address(),
                mapped: answer.mapped,
                is_first_try: answer.is_first_try,
            })
        };
        self.questions.iter().filter_map(sample).collect()
    }

    /// Goes on to the next stage once this one's questions are settled.
    fn advance(&mut self, now: Instant) {
        if self.next_question().is_some() {
            return;
        }
        let samples = self.samples();
        match self.stage {
            Stage::Main => self.deepen(now, &samples),
            Stage::Sequence => match self.verdict(&samples).mapping {
                NatMapping::Random { .. } | NatMapping::AddressDependent => {
                    self.stage = Stage::Range;
                    self.ask_distance(now);
                    self.ask_from(now, SEQUENCE_SOCKETS + 1..=RANGE_SOCKETS, RANGE_GAP);
                }
                _ => self.stage = Stage::Ended,
            },
            Stage::Range => self.stage = Stage::Ended,
            Stage::Neighbour => self.begin_hairpin(now, &samples),
            Stage::Hairpin { .. } | Stage::Ended | Stage::Reported => (),
        }
    }

    fn verdict(&self, samples: &[Sample]) -> Verdict {
        classify(samples, &self.observations)
    }

    fn deepen(&mut self, now: Instant, samples: &[Sample]) {
        use Dependence::EndpointIndependent;
        let verdict = self.verdict(samples);
        match verdict.dependence {
            _ if self.depth == Depth::Main => self.stage = Stage::Ended,
            Some(EndpointIndependent) => {
                self.stage = Stage::Neighbour;
                self.ask_from(now, 1..=1, Duration::ZERO);
            }
            _ if verdict.mapping == NatMapping::Unknown => self.stage = Stage::Ended,
            _ => {
                self.stage = Stage::Sequence;
                self.ask_distance(now);
                self.ask_from(now, 1..=SEQUENCE_SOCKETS, Duration::ZERO);
            }
        }
    }

    fn ask_distance(&mut self, now: Instant) {
        if let Some(server) = self.answering() {
            self.transmits.extend(self.distance.ask(now, server));
        }
    }

    /// The first server that has answered.
    fn answering(&self) -> Option<SocketAddr> {
        let answered = self.questions.iter().find(|q| q.answer().is_some());
        answered.map(Question::address)
    }

    /// Asks the first server that has answered, from one throw-away socket after the other.
    fn ask_from(&mut self, now: Instant, sockets: std::ops::RangeInclusive<u16>, gap: Duration) {
        let Some(server) = self.answering() else {
            self.stage = Stage::Ended;
            return;
        };
        for (number, via) in (0..).zip(sockets) {
            self.ask(now + gap * number, via, server);
        }
        self.send_due(now);
    }

    fn begin_hairpin(&mut self, now: Instant, samples: &[Sample]) {
        let of = |via| samples.iter().find(|sample| sample.via == via);
        let mapped = |via| of(via).and_then(|sample| usable(sample.mapped));
        self.stage = match (mapped(MAIN), mapped(1)) {
            (Some(main), Some(neighbour)) => Stage::Hairpin {
                addresses: [main, neighbour],
                left: HAIRPINS,
                next: now,
            },
            _ => Stage::Ended,
        };
        self.send_hairpin(now);
    }

    /// Both sockets send, since a NAT may filter on the way back in.
    fn send_hairpin(&mut self, now: Instant) {
        let Stage::Hairpin {
            addresses: [main, neighbour],
            left,
            next,
        } = &mut self.stage
        else {
            return;
        };
        if *next > now {
            return;
        }
        if *left == 0 {
            self.hairpinning = Hairpinning::No;
            self.stage = Stage::Ended;
            return;
        }
        *left -= 1;
        *next = now
            + if *left == 0 {
                HAIRPIN_WAIT
            } else {
                HAIRPIN_GAP
            };
        for (via, to) in [(MAIN, *neighbour), (1, *main)] {
            self.transmits.push_back(Transmit {
                via,
                to,
                bytes: encode_request(self.hairpin, &[]),
                ttl: None,
                // Where the server says that we are, somebody else may be.
                charge: Charge::Unasked,
            });
        }
    }
}
