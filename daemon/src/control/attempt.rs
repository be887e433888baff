//! How peers are reached: the words and records of attempts, as the control API shows them.

use serde::{Deserialize, Serialize};
use warren_proto::nat::{Dependence, Hairpinning, NoPath};
use warren_proto::proof::Side;
use warren_proto::wire;

use super::model::PeerPath;

/// One attempt to reach a peer that a tracker introduced. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Attempt {
    /// Short name of the peer's public key.
    pub peer: String,
    /// Which side of the connection we are.
    pub side: Role,
    /// Addresses of the peer that the tracker told and that may be sent to.
    pub candidates: usize,
    /// How each of those became known, in the order in which the tracker told them.
    #[serde(default)]
    pub candidate_kinds: Vec<CandidateKind>,
    /// How our own NAT picked outside ports when it began, as far as was known by then.
    pub our_mapping: String,
    /// What our own NAT let in then.
    pub our_filtering: String,
    /// Whether our own NAT led packets for its outside address back in, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub our_hairpinning: Option<bool>,
    /// How the peer's NAT picks outside ports.
    pub mapping: String,
    /// What the peer's NAT lets in.
    pub filtering: String,
    /// When the introduction came.
    pub started_unix_ms: u64,
    /// When the peer had answered on the path to use.
    pub proven_unix_ms: Option<u64>,
    /// When there was a connection, of whatever kind.
    pub connected_unix_ms: Option<u64>,
    /// When there was one through the tracker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relayed_unix_ms: Option<u64>,
    /// When there was a direct one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_unix_ms: Option<u64>,
    /// How the peer is reached as it turned out: once there is a direct connection, by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PeerPath>,
    /// The peer's end of the path, address and port.
    pub address: Option<String>,
    /// How that address became known.
    pub kind: Option<CandidateKind>,
    /// From the check that proved the path to its answer.
    pub rtt_ms: Option<f64>,
    /// Checks sent, over all addresses, guessed ones included.
    pub checks: usize,
    /// What found the path, or was tried last.
    pub technique: Technique,
    /// What came of it.
    pub outcome: Outcome,
    /// Why there is no direct connection, once it is over without one that was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

impl Attempt {
    /// Milliseconds from the introduction to the connection.
    pub fn reached_ms(&self) -> Option<u64> {
        let connected = self.connected_unix_ms?;
        Some(connected.saturating_sub(self.started_unix_ms))
    }
}

/// Which side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It dials: the other one asked to meet.
    Client,
    /// It is dialled.
    Server,
}

impl From<Side> for Role {
    fn from(side: Side) -> Role {
        match side {
            Side::Client => Role::Client,
            Side::Server => Role::Server,
        }
    }
}

impl Role {
    /// The word it has in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Role::Client => "client",
            Role::Server => "server",
        }
    }
}

/// How an address of a peer became known (RFC 8445 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CandidateKind {
    /// An address of one of its own interfaces.
    Host,
    /// The outside of its NAT, as the tracker saw it.
    ServerReflexive,
    /// The outside of its NAT, as we saw it.
    PeerReflexive,
    /// A port its router opened because it was asked to.
    Mapped,
    /// An address at a relay.
    Relayed,
}

impl From<wire::CandidateKind> for CandidateKind {
    fn from(kind: wire::CandidateKind) -> CandidateKind {
        match kind {
            wire::CandidateKind::Host => CandidateKind::Host,
            wire::CandidateKind::ServerReflexive => CandidateKind::ServerReflexive,
            wire::CandidateKind::PeerReflexive => CandidateKind::PeerReflexive,
            wire::CandidateKind::Mapped => CandidateKind::Mapped,
            wire::CandidateKind::Relayed => CandidateKind::Relayed,
        }
    }
}

impl CandidateKind {
    /// The word it has in JSON.
    pub fn word(self) -> &'static str {
        match self {
            CandidateKind::Host => "host",
            CandidateKind::ServerReflexive => "server-reflexive",
            CandidateKind::PeerReflexive => "peer-reflexive",
            CandidateKind::Mapped => "mapped",
            CandidateKind::Relayed => "relayed",
        }
    }
}

/// How a path was found, or looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Technique {
    /// Checks of addresses that were named.
    Checks,
    /// One side's next port was foretold.
    Prediction,
    /// That of both was.
    MutualPrediction,
    /// One side opened many ports, the other checked many.
    Birthday,
    /// Both checked all ports that the other may have.
    BlockSpray,
}

impl From<wire::Technique> for Technique {
    fn from(technique: wire::Technique) -> Technique {
        match technique {
            wire::Technique::Checks => Technique::Checks,
            wire::Technique::Prediction => Technique::Prediction,
            wire::Technique::MutualPrediction => Technique::MutualPrediction,
            wire::Technique::Birthday => Technique::Birthday,
            wire::Technique::BlockSpray => Technique::BlockSpray,
        }
    }
}

impl Technique {
    /// The word it has in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Technique::Checks => "checks",
            Technique::Prediction => "prediction",
            Technique::MutualPrediction => "mutual-prediction",
            Technique::Birthday => "birthday",
            Technique::BlockSpray => "block-spray",
        }
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A connection.
    Connected,
    /// The connection that there was lives on.
    Kept,
    /// No path was proven.
    NoPath,
    /// A path was proven, and no handshake came to its end.
    NoHandshake,
    /// The two, as they were started, and their tracker allow no path in common.
    Forbidden,
}

impl Outcome {
    /// The word it has in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Connected => "connected",
            Outcome::Kept => "kept",
            Outcome::NoPath => "no-path",
            Outcome::NoHandshake => "no-handshake",
            Outcome::Forbidden => "forbidden",
        }
    }
}

/// Why an attempt led to no direct connection, as far as our side can tell.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The two, as they were started, and their tracker allow no path in common.
    Forbidden,
    /// One of the two was started to be reached through a tracker alone.
    RelayOnly,
    /// No address of the peer is known that may be sent to.
    NoCandidates,
    /// Both NATs give every destination another port, in a way that no technique meets.
    Unguessable,
    /// Most checks were held back, or none could begin in time, to spare NATs and strangers: as many had
    /// been sent before.
    Budget,
    /// Ports were not guessed, since guesses at this network found nobody lately, or too many waited.
    TurnRefused,
    /// The tracker's answers did not show where the sequence of our ports is.
    NoSample,
    /// The peer did not say by way of the tracker where to look for it.
    NoTrickle,
    /// A later introduction to the same peer took over.
    Superseded,
    /// Nothing that was sent was answered.
    NoAnswer,
    /// The peer answered, but no handshake came to its end.
    NoHandshake,
}

impl From<NoPath> for Reason {
    fn from(why: NoPath) -> Reason {
        match why {
            NoPath::NoCandidates => Reason::NoCandidates,
            NoPath::Unguessable => Reason::Unguessable,
            NoPath::NoTurn => Reason::Budget,
            NoPath::TurnRefused => Reason::TurnRefused,
            NoPath::NoSample => Reason::NoSample,
            NoPath::NoTrickle => Reason::NoTrickle,
            NoPath::Superseded => Reason::Superseded,
            NoPath::NoAnswer => Reason::NoAnswer,
        }
    }
}

impl Reason {
    /// The word it has in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Forbidden => "forbidden",
            Reason::RelayOnly => "relay-only",
            Reason::NoCandidates => "no-candidates",
            Reason::Unguessable => "unguessable",
            Reason::Budget => "budget",
            Reason::TurnRefused => "turn-refused",
            Reason::NoSample => "no-sample",
            Reason::NoTrickle => "no-trickle",
            Reason::Superseded => "superseded",
            Reason::NoAnswer => "no-answer",
            Reason::NoHandshake => "no-handshake",
        }
    }
}

/// How a NAT picks outside ports (RFC 4787 §4.1), in one word.
pub fn mapping_word(mapping: wire::NatMapping) -> &'static str {
    match mapping {
        wire::NatMapping::Unknown => "unknown",
        wire::NatMapping::EndpointIndependent => "endpoint-independent",
        wire::NatMapping::AddressDependent => "address-dependent",
        wire::NatMapping::Sequential { .. } => "sequential",
        wire::NatMapping::Random { .. } => "random",
    }
}

/// What of a destination a mapping depends on (RFC 4787 §4.1).
pub fn dependence_word(dependence: Dependence) -> &'static str {
    match dependence {
        Dependence::EndpointIndependent => "nothing",
        Dependence::AddressDependent => "address",
        Dependence::AddressAndPortDependent => "address-and-port",
    }
}

/// Whether a NAT leads packets for its own outside address back in (RFC 4787 §6), where it was measured.
pub fn hairpins(hairpinning: Hairpinning) -> Option<bool> {
    match hairpinning {
        Hairpinning::Unknown => None,
        Hairpinning::Yes => Some(true),
        Hairpinning::No => Some(false),
    }
}

/// What a NAT lets in (RFC 4787 §5), in one word.
pub fn filtering_word(filtering: wire::NatFiltering) -> &'static str {
    match filtering {
        wire::NatFiltering::Unknown => "unknown",
        wire::NatFiltering::PortIndependent => "port-independent",
        wire::NatFiltering::PortDependent => "port-dependent",
        wire::NatFiltering::Clashing => "clashing",
    }
}
