//! One attempt to reach a peer: the machine, the route it makes, and the record of it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use warren_proto::id::PublicKey;
use warren_proto::nat::{Path, PunchAttempt, PunchEvent, check};
use warren_proto::proof::Side;
use warren_proto::wire::{NatFiltering, NatMapping, Rendezvous, Technique};

use super::record::Record;
use super::relay::RelaySession;
use super::{Meeting, Nat};
use crate::control::attempt::{Outcome, Reason};
use crate::tracker::Line;

/// How long an attempt is kept: its five seconds, and what a peer that started late needs.
const LONGEST: Duration = Duration::from_secs(10);

/// How long the relay waits for a direct dial, at least, and in round trips: a handshake takes two.
const LEAST_DIAL: Duration = Duration::from_secs(1);
const DIAL_RTTS: u32 = 6;

/// How long it goes on answering the peer once there is a connection.
const FAREWELL: Duration = Duration::from_secs(2);

/// One side of one rendezvous.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) machine: PunchAttempt,
    pub(super) peer: PublicKey,
    /// The address under which QUIC knows the peer.
    pub(super) route: SocketAddr,
    /// Where the client says that it comes from, and to which of the machine's sockets.
    pub(super) nominated: Option<(u16, SocketAddr)>,
    /// The paths on which the peer has answered.
    pub(super) proven: Vec<Path>,
    /// Whether a direct path is looked for. If not, nothing leaves for the peer's address, whoever
    /// names one.
    pub(super) is_direct: bool,
    /// The way through the tracker.
    pub(super) relay: Option<RelaySession>,
    /// When to take it.
    pub(super) relay_due: Option<Instant>,
    /// Where it has wanted to guess.
    pub(super) guessed: Option<IpAddr>,
    /// To the tracker of the rendezvous.
    pub(super) line: Line,
    ends: Instant,
    has_failed: bool,
    /// Checks of the machine that were not sent.
    withheld: usize,
    record: Record,
}

impl Attempt {
    /// Begins now; nothing is sent before the wait of the rendezvous is over. A direct path has
    /// `head_start` before the relay is taken.
    pub(super) fn new(
        now: Instant,
        meeting: &Meeting,
        ours: Nat,
        route: SocketAddr,
        head_start: Duration,
    ) -> Attempt {
        let Meeting {
            rendezvous,
            relay,
            line,
            is_direct,
            ..
        } = meeting;
        Attempt {
            is_direct: *is_direct,
            relay: relay.clone(),
            relay_due: relay.as_ref().map(|_| now + head_start),
            machine: PunchAttempt::new(now, rendezvous, rand::random()),
            peer: rendezvous.peer,
            route,
            nominated: None,
            proven: Vec::new(),
            guessed: None,
            line: line.clone(),
            ends: now + LONGEST,
            has_failed: false,
            withheld: 0,
            record: Record::new(rendezvous, ours),
        }
    }

    /// The next thing found out, noted here.
    pub(super) fn poll_event(&mut self) -> Option<PunchEvent> {
        let event = self.machine.poll_event()?;
        match event {
            PunchEvent::Nominated { via, remote } => self.nominated = Some((via, remote)),
            PunchEvent::Proven(path) => {
                self.record.proven = Some((SystemTime::now(), path));
                self.proven.push(path);
            }
            PunchEvent::AlsoProven(path) => self.proven.push(path),
            PunchEvent::Failed => self.has_failed = true,
            PunchEvent::Heard { .. }
            | PunchEvent::Trickle { .. }
            | PunchEvent::Turn(_)
            | PunchEvent::TurnOver
            | PunchEvent::Close { .. } => (),
        }
        Some(event)
    }

    /// Whether the peer has answered on this path.
    pub(super) fn has_proven(&self, via: u16, remote: SocketAddr) -> bool {
        let mut proven = self.proven.iter();
        proven.any(|path| (path.via, path.remote) == (via, remote))
    }

    /// Whether it may still lead to a connection.
    pub(super) fn is_under_way(&self) -> bool {
        !self.has_failed && self.record.connected.is_none()
    }

    /// Whether a path was proven on which there is no connection yet, and none was kept instead.
    pub(super) fn is_open(&self) -> bool {
        let is_kept = matches!(self.record.outcome, Outcome::Kept | Outcome::NoHandshake);
        self.record.connected.is_none() && !is_kept && !self.proven.is_empty()
    }

    /// A path with this round trip is dialled: returns until when the relay waits for that. The attempt
    /// lives on for a while after that, or nobody would take the relay.
    pub(super) fn dialled(&mut self, now: Instant, rtt: Duration) -> Instant {
        let patience = now + LEAST_DIAL.max(rtt * DIAL_RTTS);
        self.ends = self.ends.max(patience + FAREWELL);
        patience
    }

    /// Whether there may be a connection through the tracker that was not there before.
    pub(super) fn may_relay(&self) -> bool {
        let is_idle = self.record.connected.is_none() && self.record.relayed.is_none();
        is_idle && self.relay.is_some()
    }

    /// There is a connection through the tracker; a direct path is still looked for.
    pub(super) fn relayed(&mut self) {
        if self.record.connected.is_none() && self.record.relayed.is_none() {
            self.record.relayed = Some(SystemTime::now());
            self.record.outcome = Outcome::Connected;
        }
    }

    /// Whether the peer says that it lets in whom it has not sent to, at one address for all.
    pub(super) fn meets_open(&self) -> bool {
        let nat = (self.record.mapping, self.record.filtering);
        nat == (
            NatMapping::EndpointIndependent,
            NatFiltering::PortIndependent,
        )
    }

    /// Which side of the connection we are.
    pub(super) fn side(&self) -> Side {
        self.machine.side()
    }

    /// There is a connection with the peer: the attempt ends soon.
    pub(super) fn connected(&mut self, now: Instant) {
        if self.record.connected.is_none() {
            self.record.connected = Some(SystemTime::now());
            self.record.outcome = Outcome::Connected;
            self.ends = self.ends.min(now + FAREWELL);
        }
    }

    /// The connection that we had lives on, on whatever path.
    pub(super) fn superfluous(&mut self, now: Instant) {
        if self.record.connected.is_none() && self.record.relayed.is_none() {
            self.record.outcome = Outcome::Kept;
            self.ends = self.ends.min(now + FAREWELL);
        }
    }

    /// The connection that was kept instead is no more: what was proven is of use after all.
    pub(super) fn reopen(&mut self) {
        if self.record.outcome == Outcome::Kept {
            self.record.outcome = Outcome::NoPath;
        }
    }

    /// A datagram of the machine was not sent: a budget is used up.
    pub(super) fn note_withheld(&mut self, bytes: &[u8]) {
        // Answers and questions to the tracker are no checks.
        if check::username_of(bytes).is_some() {
            self.withheld += 1;
        }
    }

    /// Why there is no direct connection, now that it ends.
    fn reason(&self) -> Option<Reason> {
        let checks = self.machine.checks_sent();
        if self.record.connected.is_some() || self.record.outcome == Outcome::Kept {
            None
        } else if !self.is_direct {
            Some(Reason::RelayOnly)
        } else if self.record.proven.is_some() {
            Some(Reason::NoHandshake)
        } else if self.withheld > checks / 2 {
            Some(Reason::Budget)
        } else {
            Some(self.machine.no_path().into())
        }
    }

    /// What is known of it by now.
    pub(super) fn record(&self) -> Record {
        let mut record = self.record.clone();
        record.checks = self.machine.checks_sent().saturating_sub(self.withheld);
        record.technique = self.machine.technique();
        record
    }

    /// QUIC got no answer on the proven path.
    pub(super) fn refused(&mut self) {
        if self.record.relayed.is_none() {
            self.record.outcome = Outcome::NoHandshake;
        }
    }

    /// When it ends.
    pub(super) fn ends(&self) -> Instant {
        self.ends
    }

    /// What came of it.
    pub(super) fn into_record(self) -> Record {
        let mut record = self.record();
        record.reason = self.reason();
        if record.outcome == Outcome::NoPath && record.proven.is_some() {
            record.outcome = Outcome::NoHandshake;
        }
        record
    }
}

impl Record {
    /// An attempt that begins now.
    pub(super) fn new(rendezvous: &Rendezvous, ours: Nat) -> Record {
        let kinds = rendezvous.candidates.iter().map(|it| it.kind.into());
        Record {
            peer: rendezvous.peer,
            side: rendezvous.side,
            candidates: kinds.collect(),
            mapping: rendezvous.mapping,
            filtering: rendezvous.filtering,
            ours,
            started: SystemTime::now(),
            proven: None,
            connected: None,
            relayed: None,
            checks: 0,
            technique: Technique::Checks,
            outcome: Outcome::NoPath,
            reason: None,
        }
    }
}
