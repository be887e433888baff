//! Which of the proven paths is taken.

use std::time::{Duration, Instant};

use super::remotes::is_local;
use super::{Path, PunchAttempt, PunchEvent};
use crate::wire::Technique;

/// How long a path through NATs waits for one inside the network. A round trip there takes a few
/// milliseconds, on a busy machine some dozens; where there is no such path nobody notices these.
pub(super) const LOCAL_PREFERENCE: Duration = Duration::from_millis(50);

/// Open → Held when a path is proven but a local one may follow in a moment; either → Made.
#[derive(Debug)]
pub(super) enum Choice {
    Open,
    Held { until: Instant, proven: Vec<Path> },
    Made,
}

impl PunchAttempt {
    pub(super) fn handle_proven(&mut self, now: Instant, path: Path) {
        match std::mem::replace(&mut self.choice, Choice::Made) {
            Choice::Open => self.hold_or_choose(now, now + LOCAL_PREFERENCE, vec![path]),
            Choice::Held { until, mut proven } => {
                proven.push(path);
                self.hold_or_choose(now, until, proven);
            }
            Choice::Made => self.events.push_back(PunchEvent::AlsoProven(path)),
        }
    }

    fn hold_or_choose(&mut self, now: Instant, until: Instant, proven: Vec<Path>) {
        if proven.iter().any(Path::is_local) || !self.awaits_local() {
            self.choose(now, proven);
        } else {
            self.choice = Choice::Held { until, proven };
        }
    }

    /// Whether a local path may still be proven.
    fn awaits_local(&self) -> bool {
        self.remotes
            .iter()
            .any(|((_, address), r)| is_local(*address, r.kind) && r.schedule.is_searching())
    }

    /// Takes the first local path, or else the first.
    pub(super) fn choose(&mut self, now: Instant, mut proven: Vec<Path>) {
        let local = proven.iter().position(Path::is_local);
        let chosen = proven.remove(local.unwrap_or(0));
        for (pair, remote) in &mut self.remotes {
            if *pair == (chosen.via, chosen.remote) {
                remote.schedule.confirm(now);
            } else {
                remote.schedule.cut_short();
            }
        }
        self.choice = Choice::Made;
        self.end_guess(&chosen);
        self.events.push_back(PunchEvent::Proven(chosen));
        let others = proven.into_iter().map(PunchEvent::AlsoProven);
        self.events.extend(others);
    }

    /// A path was found: no more guesses are needed.
    fn end_guess(&mut self, found: &Path) {
        let Some(guess) = &mut self.guess else {
            return;
        };
        self.technique = match guess.explains(found.remote) {
            true => guess.technique(),
            false => Technique::Checks,
        };
        guess.stop();
    }
}
