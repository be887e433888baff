//! What came of each attempt to reach a peer: one record, kept for a while, shown and logged.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use warren_proto::id::PublicKey;
use warren_proto::nat::Path;
use warren_proto::proof::Side;
use warren_proto::wire::{NatFiltering, NatMapping, Rendezvous, Technique};

use super::Nat;
use crate::clock::unix_ms_at;
use crate::control::attempt::{
    Attempt, CandidateKind, Outcome, Reason, filtering_word, hairpins, mapping_word,
};
use crate::control::model::PeerPath;
use crate::peer::path_of;

/// Records kept: all that a person looks at, and those of a swarm that was just joined.
const RECORDS: usize = 256;

/// One attempt.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) peer: PublicKey,
    pub(super) side: Side,
    /// What the tracker told of the peer.
    pub(super) candidates: Vec<CandidateKind>,
    pub(super) mapping: NatMapping,
    pub(super) filtering: NatFiltering,
    /// Our own, as it was known when the attempt began.
    pub(super) ours: Nat,
    pub(super) started: SystemTime,
    pub(super) proven: Option<(SystemTime, Path)>,
    /// When there was a direct connection.
    pub(super) connected: Option<SystemTime>,
    /// When there was one through the tracker.
    pub(super) relayed: Option<SystemTime>,
    pub(super) checks: usize,
    pub(super) technique: Technique,
    pub(super) outcome: Outcome,
    pub(super) reason: Option<Reason>,
}

impl Record {
    fn event(&self) -> Attempt {
        let path = self.proven.map(|(_, path)| path);
        let direct = self.connected.and(path);
        let direct = direct.map(|path| path_of(path.remote.ip()));
        let first = self.connected.into_iter().chain(self.relayed).min();
        Attempt {
            peer: self.peer.to_string(),
            side: self.side.into(),
            candidates: self.candidates.len(),
            candidate_kinds: self.candidates.clone(),
            our_mapping: mapping_word(self.ours.mapping).to_owned(),
            our_filtering: filtering_word(self.ours.filtering).to_owned(),
            our_hairpinning: hairpins(self.ours.hairpinning),
            mapping: mapping_word(self.mapping).to_owned(),
            filtering: filtering_word(self.filtering).to_owned(),
            started_unix_ms: unix_ms_at(self.started),
            proven_unix_ms: self.proven.map(|(at, _)| unix_ms_at(at)),
            connected_unix_ms: first.map(unix_ms_at),
            relayed_unix_ms: self.relayed.map(unix_ms_at),
            direct_unix_ms: self.connected.map(unix_ms_at),
            path: direct.or(self.relayed.map(|_| PeerPath::Relay)),
            address: path.map(|path| path.remote.to_string()),
            kind: path.map(|path| path.kind.into()),
            rtt_ms: path.map(|path| path.rtt.as_secs_f64() * 1000.0),
            checks: self.checks,
            technique: self.technique.into(),
            outcome: self.outcome,
            reason: self.reason,
        }
    }

    /// Leaves the one line of the attempt in the log, without the address of the peer.
    fn log(&self) {
        let event = self.event();
        let kinds = event.candidate_kinds.iter().map(|kind| kind.word());
        let kinds: Vec<&str> = kinds.collect();
        let since = |at: Option<u64>| at.map(|at| at.saturating_sub(event.started_unix_ms));
        tracing::info!(
            target: "warren::attempt",
            peer = event.peer,
            side = event.side.word(),
            candidates = kinds.join(","),
            our_mapping = event.our_mapping,
            our_filtering = event.our_filtering,
            our_hairpinning = event.our_hairpinning,
            mapping = event.mapping,
            filtering = event.filtering,
            outcome = event.outcome.word(),
            reason = event.reason.map(Reason::word),
            path = event.path.map(PeerPath::word),
            kind = event.kind.map(CandidateKind::word),
            rtt_ms = event.rtt_ms,
            proven_ms = since(event.proven_unix_ms),
            connected_ms = since(event.connected_unix_ms),
            relayed_ms = since(event.relayed_unix_ms),
            direct_ms = since(event.direct_unix_ms),
            checks = event.checks,
            technique = event.technique.word(),
            "attempt"
        );
    }
}

/// The latest records, and what else others ask about paths.
#[derive(Debug, Default)]
pub(crate) struct Records(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    /// Those under way, by the number of the attempt.
    open: BTreeMap<u64, Record>,
    /// Oldest first.
    over: VecDeque<Record>,
    /// How the path of each connected peer was made.
    made: BTreeMap<PublicKey, Record>,
    /// Round trips of the paths that are proven and not yet connected.
    rtts: BTreeMap<SocketAddr, Duration>,
}

impl Records {
    /// The latest attempts, oldest first; those under way come last.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        let tables = self.lock();
        let all = tables.over.iter().chain(tables.open.values());
        all.map(Record::event).collect()
    }

    /// The latest attempts that are over, and those under way; each oldest first.
    pub(crate) fn by_state(&self) -> (Vec<Attempt>, Vec<Attempt>) {
        let tables = self.lock();
        let over = tables.over.iter().map(Record::event).collect();
        let open = tables.open.values().map(Record::event).collect();
        (over, open)
    }

    /// The attempt that made the path to a connected peer.
    pub(crate) fn made(&self, peer: &PublicKey) -> Option<Attempt> {
        self.lock().made.get(peer).map(Record::event)
    }

    pub(super) fn rtt(&self, route: SocketAddr) -> Option<Duration> {
        self.lock().rtts.get(&route).copied()
    }

    /// Nothing goes by this route any more.
    pub(super) fn unexpect(&self, route: SocketAddr) {
        self.lock().rtts.remove(&route);
    }

    pub(super) fn expect(&self, route: SocketAddr, rtt: Duration) {
        self.lock().rtts.insert(route, rtt);
    }

    /// An attempt is under way, and this is what is known of it by now.
    pub(super) fn note(&self, attempt: u64, record: Record) {
        let mut tables = self.lock();
        if record.outcome == Outcome::Connected {
            tables.made.insert(record.peer, record.clone());
        }
        tables.open.insert(attempt, record);
    }

    /// An attempt is over.
    pub(super) fn close(&self, attempt: u64, record: Record, route: SocketAddr) {
        record.log();
        let mut tables = self.lock();
        tables.open.remove(&attempt);
        tables.rtts.remove(&route);
        tables.keep(record);
    }

    /// An introduction of two that allow no path in common leads to no attempt.
    pub(super) fn forbid(&self, rendezvous: &Rendezvous, ours: Nat) {
        let mut record = Record::new(rendezvous, ours);
        (record.outcome, record.reason) = (Outcome::Forbidden, Some(Reason::Forbidden));
        record.log();
        self.lock().keep(record);
    }

    /// The peer is no longer connected.
    pub(super) fn forget(&self, peer: &PublicKey) {
        self.lock().made.remove(peer);
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn keep(&mut self, record: Record) {
        if self.over.len() == RECORDS {
            self.over.pop_front();
        }
        self.over.push_back(record);
    }
}
