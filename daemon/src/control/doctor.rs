//! Tells people how well their daemon is connected, and what they can do about it.
//!
//! [`examine`] turns a [`Snapshot`] into [`Finding`]s, the most serious first, and a [`Summary`] in
//! numbers. It reads no clock and asks nobody. A finding says only what the snapshot shows: what is
//! not known is said not to be known, and words that this program does not know count as that.
//!
//! By concern: [`trackers`], [`network`] (how others see us, and the port of our router), [`machine`]
//! (disk, clock, files), [`shares`] (what stops or slows single ones), [`reach`] (what came of the
//! attempts to reach peers). [`Code`] is the table of all findings.
//!
//! Not here: where a snapshot comes from (`node`), how findings look on a terminal (`cli`).

mod code;
mod machine;
mod network;
mod reach;
mod shares;
#[cfg(test)]
mod tests;
mod trackers;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use warren_proto::wire::Paths;

use super::attempt::{Attempt, Technique};
use super::model::{Event, Limits, Peer, PortMapping, Share, Tracker, exit};
use code::Code;
pub(crate) use machine::{Looks, Machine};
use reach::Reach;

/// What is known at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The trackers, the daemon's own one first. They also say how our NAT behaves.
    pub(crate) trackers: Vec<Tracker>,
    /// Whether our own tracker is on this machine, and so knows nothing of other networks.
    pub(crate) tracker_is_here: bool,
    /// The address and UDP port of our socket.
    pub(crate) listening: SocketAddr,
    /// Addresses of this machine that peers are told of.
    pub(crate) addresses: Vec<IpAddr>,
    /// How things stand with the port of our router.
    pub(crate) port: PortMapping,
    /// Attempts that are over, oldest first.
    pub(crate) attempts: Vec<Attempt>,
    /// Attempts that go on; there may be a connection already.
    pub(crate) under_way: Vec<Attempt>,
    /// Connected peers.
    pub(crate) peers: Vec<Peer>,
    /// Direct paths to peers that take only small packets: the largest that get through, in bytes of a UDP
    /// payload.
    pub(crate) narrow_bytes: Vec<u16>,
    /// How far our clock is ahead of a tracker's.
    pub(crate) clock_ahead_ms: Option<i64>,
    /// Our number, for commands that are advised.
    pub(crate) idx: u16,
    /// By which paths peers may reach us, as we were started.
    pub(crate) paths: Paths,
    /// Why peers that we know have no path in common with us, as all were started; empty when none is such.
    pub(crate) why_forbidden: String,
    /// How fast we may send and receive.
    pub(crate) limits: Limits,
    /// All shares.
    pub(crate) shares: Vec<Share>,
    /// Where the shares lie of which something is no longer what was shared, by content id.
    pub(crate) changed: BTreeMap<String, PathBuf>,
    /// What the system says of itself.
    pub(crate) machine: Machine,
}

/// One thing that a person should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// A stable word for scripts, such as `NET-02`; `client explain` tells what it means.
    pub code: String,
    /// How serious it is.
    pub severity: Severity,
    /// One sentence.
    pub text: String,
    /// What the person can do, when there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
}

/// How serious a finding is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Something works less well than it could.
    Warning,
    /// Something does not work.
    Error,
}

impl Severity {
    /// The word it has in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// How the peers were reached that the daemon remembers, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Summary {
    /// Peers of which is known whether they could be reached: the sum of the next three.
    pub tried: usize,
    /// Reached directly, in the local network or beyond.
    pub direct: usize,
    /// Reached through the tracker alone.
    pub relayed: usize,
    /// Not reached.
    pub failed: usize,
    /// Further peers that are being tried now.
    pub under_way: usize,
    /// How the direct paths were found, as far as attempts that are remembered tell.
    #[serde(default, skip_serializing_if = "Techniques::is_empty")]
    pub techniques: Techniques,
    /// Median of the milliseconds from an introduction to a direct path that was proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_ms: Option<u64>,
    /// Exit code of `client doctor`: 0 when no finding is an error, 4 when the tracker is not
    /// reached, else 1.
    pub exit: u8,
}

/// Peers by the technique that found the path to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct Techniques {
    /// Checks of addresses that were named.
    #[serde(skip_serializing_if = "is_none")]
    pub checks: usize,
    /// One side's next port was foretold.
    #[serde(skip_serializing_if = "is_none")]
    pub prediction: usize,
    /// That of both was.
    #[serde(skip_serializing_if = "is_none")]
    pub mutual_prediction: usize,
    /// One side opened many ports, the other checked many.
    #[serde(skip_serializing_if = "is_none")]
    pub birthday: usize,
    /// Both checked many ports that the other may have.
    #[serde(skip_serializing_if = "is_none")]
    pub block_spray: usize,
}

impl Techniques {
    /// Peers reached by ports that nobody had named.
    pub fn guessed(&self) -> usize {
        self.prediction + self.mutual_prediction + self.birthday + self.block_spray
    }

    fn is_empty(&self) -> bool {
        *self == Techniques::default()
    }

    fn add(&mut self, technique: Technique) {
        *match technique {
            Technique::Checks => &mut self.checks,
            Technique::Prediction => &mut self.prediction,
            Technique::MutualPrediction => &mut self.mutual_prediction,
            Technique::Birthday => &mut self.birthday,
            Technique::BlockSpray => &mut self.block_spray,
        } += 1;
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_none(count: &usize) -> bool {
    *count == 0
}

impl Finding {
    fn with(self, action: Option<String>) -> Finding {
        Finding { action, ..self }
    }

    fn is(&self, code: Code) -> bool {
        self.code == code.word()
    }
}

/// All that can be said of a daemon, the most serious first, and the numbers.
pub(crate) fn examine(snapshot: &Snapshot) -> (Vec<Finding>, Summary) {
    let reach = Reach::of(snapshot);
    let mut findings = trackers::findings(snapshot);
    findings.extend(network::findings(snapshot));
    findings.extend(machine::findings(snapshot));
    findings.extend(shares::findings(snapshot, &reach));
    findings.extend(reach::liars(snapshot));
    findings.push(reach.finding(snapshot));
    let is_answered = snapshot.trackers.iter().all(|tracker| tracker.connected);
    let is_well = is_answered && findings.iter().all(|it| it.severity <= Severity::Note);
    if let Some(last) = findings.last_mut()
        && is_well
        && last.is(Code::AllDirect)
    {
        *last = reach.all_well();
    }
    findings.sort_by_key(|finding| Reverse(finding.severity));
    let summary = reach.summary(exit_code(snapshot, &findings));
    (findings, summary)
}

/// The same as the control API says it.
pub(crate) fn shown(snapshot: &Snapshot) -> Vec<Event> {
    let (findings, summary) = examine(snapshot);
    let findings = findings.into_iter().map(Event::Finding);
    findings.chain([Event::Summary(summary)]).collect()
}

fn exit_code(snapshot: &Snapshot, findings: &[Finding]) -> u8 {
    let has_error = findings.iter().any(|it| it.severity == Severity::Error);
    let own = snapshot.trackers.first();
    match own.is_some_and(|own| !own.connected && own.note.is_some()) {
        true => exit::TRACKER_UNREACHABLE,
        false if has_error => exit::OTHER,
        false => exit::OK,
    }
}

/// `12.0 MiB`, for people.
fn bytes(bytes: u64) -> String {
    match bytes {
        0x4000_0000.. => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
        0x10_0000.. => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{} KiB", bytes / 1024),
    }
}
