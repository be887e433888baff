//! What the downloads think of a peer as a source, in words.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use warren_proto::transfer;
use warren_proto::wire::NoReason;

/// What is thought of a peer. Later ones are worse.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It is asked like any other, or nothing is fetched of what it shares.
    #[default]
    Good,
    /// Others bring much more: it is asked after them, and for little.
    Slow,
    /// It did not have what it said it had.
    Refused,
    /// It is not asked for what it stalled on.
    Shunned,
    /// It has failed several times in a row.
    Unreliable,
    /// It serves others, and is asked again later.
    Busy,
    /// A stream broke, and it is asked again later.
    Failed,
    /// Nothing came of a request, and it is asked again later.
    Stalled,
    /// It sent wrong bytes, and is not asked again.
    Banned,
}

impl Standing {
    /// The word it has in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Good => "good",
            Standing::Slow => "slow",
            Standing::Refused => "refused",
            Standing::Shunned => "shunned",
            Standing::Unreliable => "unreliable",
            Standing::Busy => "busy",
            Standing::Failed => "failed",
            Standing::Stalled => "stalled",
            Standing::Banned => "banned",
        }
    }
}

/// What the download of one share thinks of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ShareStanding {
    /// Content id of the share, lower-case hex.
    pub content_id: String,
    /// What it thinks.
    pub standing: Standing,
    /// Why, in a sentence.
    pub reason: String,
    /// Milliseconds until it is asked again, or for what it stalled on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<u64>,
}

impl ShareStanding {
    /// What is thought of a peer at `now`, in words.
    pub(crate) fn new(content_id: String, standing: transfer::Standing, now: Instant) -> Self {
        let pause = end_of(standing).map(|until| until.saturating_duration_since(now));
        ShareStanding {
            content_id,
            standing: word(standing),
            reason: reason(standing).to_owned(),
            pause_ms: pause.map(millis),
        }
    }
}

/// Which of the words it is.
pub(crate) fn word(standing: transfer::Standing) -> Standing {
    use transfer::Standing as S;
    match standing {
        S::Good => Standing::Good,
        S::Slow => Standing::Slow,
        S::Refused { .. } => Standing::Refused,
        S::Shunned { .. } => Standing::Shunned,
        S::Unreliable => Standing::Unreliable,
        S::Busy { .. } => Standing::Busy,
        S::Failed { .. } => Standing::Failed,
        S::Stalled { .. } => Standing::Stalled,
        S::Banned => Standing::Banned,
    }
}

/// Why that is thought, as a sentence without full stop.
pub(crate) fn reason(standing: transfer::Standing) -> &'static str {
    use transfer::Standing as S;
    match standing {
        S::Good => "nothing is wrong with it",
        S::Slow => "it brings less than a third of what the median peer does",
        S::Refused { reason } => match reason {
            NoReason::Busy => "it serves others",
            NoReason::NotHere => "it does not have a chunk that it said it had",
            NoReason::Changed => "what it shares has changed on its disk",
            NoReason::Unknown => "it does not know what it was asked for",
        },
        S::Shunned { .. } => "it stalled on chunks that others have too, who are asked for them",
        S::Unreliable => "at least three requests in a row came to nothing",
        S::Busy { .. } => "it serves others",
        S::Failed { .. } => "a stream broke",
        S::Stalled { .. } => "a request brought nothing for too long",
        S::Banned => "it sent wrong bytes",
    }
}

/// When it will be asked again.
fn end_of(standing: transfer::Standing) -> Option<Instant> {
    use transfer::Standing as S;
    match standing {
        S::Shunned { until } | S::Busy { until } | S::Failed { until } | S::Stalled { until } => {
            Some(until)
        }
        S::Good | S::Slow | S::Refused { .. } | S::Unreliable | S::Banned => None,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_word_of_its_own_which_is_the_one_in_json_and_a_pause_where_there_is_one() {
        use transfer::Standing as S;
        let now = Instant::now();
        let until = now + Duration::from_millis(1500);
        let reason = NoReason::NotHere;
        for (standing, expected, pause_ms) in [
            (S::Good, "good", None),
            (S::Slow, "slow", None),
            (S::Refused { reason }, "refused", None),
            (S::Shunned { until }, "shunned", Some(1500)),
            (S::Unreliable, "unreliable", None),
            (S::Busy { until }, "busy", Some(1500)),
            (S::Failed { until }, "failed", Some(1500)),
            (S::Stalled { until }, "stalled", Some(1500)),
            (S::Banned, "banned", None),
        ] {
            let shown = ShareStanding::new("ab".into(), standing, now);
            assert_eq!(
                (shown.standing.word(), shown.pause_ms),
                (expected, pause_ms)
            );
            let json = serde_json::to_string(&shown.standing).unwrap();
            assert_eq!(json, format!("\"{expected}\""));
        }
    }

    #[test]
    fn a_pause_that_is_over_is_none_below_zero() {
        let now = Instant::now();
        let until = now;
        let later = now + Duration::from_secs(1);
        let busy = transfer::Standing::Busy { until };
        assert_eq!(
            ShareStanding::new("ab".into(), busy, later).pause_ms,
            Some(0)
        );
    }
}
