//! What came of a run, and how it is told.

use std::fmt::Write;
use std::time::Duration;

use super::bound::Bound;
use super::gauge::{Look, Waits};

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The least time it could have taken.
    pub bound: Bound,
    /// When each peer had everything, of those only who were to have it; `None` for never.
    pub finished: Vec<Option<Duration>>,
    /// Bytes of the share.
    pub bytes: u64,
    /// Chunks of the share.
    pub chunks: u32,
    /// Payload that seeds sent.
    pub seed_bytes: u64,
    /// Payload that was received.
    pub payload_bytes: u64,
    /// That of it that came for a request that had ended or did not end well: second copies, wrong
    /// bytes, and what was broken off.
    pub wasted_bytes: u64,
    /// That of it that went through a relay.
    pub relayed_bytes: u64,
    /// Everything else that was said, as estimated.
    pub control_bytes: u64,
    /// Chunks asked for.
    pub requests: u64,
    /// How long it took from each request to the chunk.
    pub waits: Waits,
    /// Peers that were banned, once for each that banned them.
    pub bans: u64,
    /// Those of them that had done nothing wrong.
    pub unjust_bans: u64,
    /// Steps of the simulation.
    pub events: u64,
    /// What was told to engines.
    pub letters: u64,
    /// A hash of every action of every engine, and when it was.
    pub trace: u64,
    /// The swarm over time.
    pub looks: Vec<Look>,
}

impl Outcome {
    /// When the last had everything; `None` if somebody never had.
    pub fn last(&self) -> Option<Duration> {
        let all = self.finished.iter().copied().collect::<Option<Vec<_>>>();
        all.map(|all| all.into_iter().max().unwrap_or_default())
    }

    /// The mean of those who had everything.
    pub fn mean(&self) -> Duration {
        let done: Vec<Duration> = self.finished.iter().flatten().copied().collect();
        done.iter().sum::<Duration>() / (done.len() as u32).max(1)
    }

    /// The time of the last peer over the least possible; infinite if somebody never had everything.
    pub fn last_ratio(&self) -> f64 {
        self.last()
            .map_or(f64::INFINITY, |last| self.over_limit(last))
    }

    /// The mean time over the least possible.
    pub fn mean_ratio(&self) -> f64 {
        self.over_limit(self.mean())
    }

    /// Payload that seeds sent over the size of the share.
    pub fn seed_ratio(&self) -> f64 {
        self.seed_bytes as f64 / self.bytes as f64
    }

    /// So many bytes as a part of all payload.
    pub fn part(&self, bytes: u64) -> f64 {
        bytes as f64 / (self.payload_bytes as f64).max(1.0)
    }

    fn over_limit(&self, time: Duration) -> f64 {
        time.as_secs_f64() / self.bound.limit().as_secs_f64()
    }

    /// Names and values, as they are printed: figures a person compares.
    pub fn figures(&self) -> Vec<(&'static str, String)> {
        let percent = |bytes| format!("{:.3}", 100.0 * self.part(bytes));
        let never = self.finished.iter().filter(|done| done.is_none()).count();
        vec![
            (
                "limit_s",
                format!("{:.3}", self.bound.limit().as_secs_f64()),
            ),
            ("last_ratio", number(self.last_ratio())),
            ("mean_ratio", number(self.mean_ratio())),
            ("unfinished", never.to_string()),
            ("seed_ratio", number(self.seed_ratio())),
            ("wasted_percent", percent(self.wasted_bytes)),
            ("control_percent", percent(self.control_bytes)),
            ("relayed_percent", percent(self.relayed_bytes)),
            ("requests", self.requests.to_string()),
            ("request_mean_s", format!("{:.3}", self.waits.mean())),
            ("request_p90_s", format!("{:.3}", self.waits.percentile(90))),
            ("bans", self.bans.to_string()),
            ("unjust_bans", self.unjust_bans.to_string()),
            ("events", self.events.to_string()),
            ("letters", self.letters.to_string()),
            ("trace", format!("{:016x}", self.trace)),
        ]
    }

    /// How the swarm went, one line for each of `lines` moments: time, progress of the least, the
    /// quarters and the most, and what part of the uplinks was used.
    pub fn course(&self, lines: usize) -> String {
        let mut course = String::from(
            "    time     progress of the least, quarters, most    leeches' and seeds' uplinks\n",
        );
        for look in self
            .looks
            .iter()
            .step_by((self.looks.len() / lines.max(1)).max(1))
        {
            let [least, first, middle, third, most] = look.progress;
            let written = writeln!(
                course,
                "{:8.2} s   {least:.3} {first:.3} {middle:.3} {third:.3} {most:.3}   {:15.3} {:.3}",
                look.at.as_secs_f64(),
                look.leeches_up,
                look.seeds_up,
            );
            debug_assert!(written.is_ok(), "a string takes everything");
        }
        course
    }
}

/// With what a reader compares; JSON has no infinity.
fn number(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.4}")
    } else {
        "null".to_owned()
    }
}
