//! What is done, and when, from the first suspicion against a path to its end.

use std::time::{Duration, Instant};

use super::budget::PER_ADDRESS;

/// The shortest silence that means anything: pauses of a busy peer or a queue are shorter.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(200);

/// The longest time between two checks of a peer that answers them and says nothing else. So one
/// that takes its time over a request costs 11 of the 24 checks that fit in 30 s.
const LONGEST_LULL: Duration = Duration::from_secs(4);

/// The shortest time between two rounds of checks.
const FAST_PAUSE: Duration = Duration::from_millis(100);

/// How long rounds follow each other that fast.
const FAST_FOR: Duration = Duration::from_secs(1);

/// Between the rounds after those.
const SLOW_PAUSE: Duration = Duration::from_millis(500);

/// How long rounds follow each other like that.
const SLOW_FOR: Duration = Duration::from_secs(3);

/// Between the rounds after those: what an address may get has to last until the end.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Between two calls for help.
const SILENT_AGAIN: Duration = Duration::from_secs(2);

/// How long nothing is heard of a peer before it is taken for dead.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(10);

/// Most rounds of one doubt.
const ROUNDS: u128 = FAST_FOR.as_millis() / FAST_PAUSE.as_millis()
    + (SLOW_FOR.as_millis() - FAST_FOR.as_millis()) / SLOW_PAUSE.as_millis()
    + (DEAD_AFTER.as_millis() - SLOW_FOR.as_millis()) / LAST_PAUSE.as_millis();

/// Nominations of one new path, which come on top.
pub(super) const NOMINATIONS: usize = 3;

const _: () = assert!(ROUNDS as usize + NOMINATIONS <= PER_ADDRESS);

/// How long a path may stay silent while an answer is outstanding.
pub(super) fn patience(rtt: Duration) -> Duration {
    SHORTEST_PATIENCE.max(3 * rtt)
}

/// How much of it passes before a check: the other half is for its answer. Longer after each lull
/// that a check ended.
pub(super) fn lull(rtt: Duration, lulls_before: u32) -> Duration {
    let shortest = patience(rtt) / 2;
    let lull = shortest * (1 << lulls_before.min(6));
    lull.min(LONGEST_LULL.max(shortest))
}

/// Between two checks that ask the same.
pub(super) fn fast_pause(rtt: Duration) -> Duration {
    FAST_PAUSE.max(rtt)
}

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Request,
    Answer,
    Quic,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Say that the path does not answer.
    CallForHelp,
    /// Check every address known.
    Round,
    /// Give up.
    GiveUp,
}

/// Asked → Silent when the first check was not answered in time.
#[derive(Debug)]
enum Phase {
    Asked {
        until: Instant,
    },
    Silent {
        since: Instant,
        next_call: Instant,
        next_round: Instant,
    },
}

/// From a first check of the path until something is heard or it is given up.
#[derive(Debug)]
pub(super) struct Doubt {
    phase: Phase,
    is_suspicion: bool,
    /// When the first check went out; none if none could: then silence proves no death.
    asked: Option<Instant>,
}

impl Doubt {
    /// Silence has lasted for half of our patience. `asked` is whether a check went out now.
    pub(super) fn of_silence(now: Instant, rtt: Duration, asked: bool) -> Doubt {
        Doubt {
            phase: Phase::Asked {
                until: now + patience(rtt) / 2,
            },
            is_suspicion: false,
            asked: asked.then_some(now),
        }
    }

    /// Something speaks against the path, whatever was heard before. `asked` as above.
    pub(super) fn of_suspicion(now: Instant, rtt: Duration, asked: bool) -> Doubt {
        Doubt {
            phase: Phase::Asked {
                until: now + patience(rtt),
            },
            is_suspicion: true,
            asked: asked.then_some(now),
        }
    }

    /// Something more speaks against the path: what the network was when rounds became slow, it is
    /// no longer.
    pub(super) fn suspect(&mut self, now: Instant) {
        self.is_suspicion = true;
        if let Phase::Silent {
            since, next_round, ..
        } = &mut self.phase
        {
            (*since, *next_round) = (now, now);
        }
    }

    pub(super) fn is_silent(&self) -> bool {
        matches!(self.phase, Phase::Silent { .. })
    }

    /// Whether it rests on silence alone and has found nothing yet.
    pub(super) fn is_slight(&self) -> bool {
        !self.is_suspicion && !self.is_silent()
    }

    /// A request tells nothing of our way to the peer, so it does not answer a suspicion.
    pub(super) fn is_ended_by(&self, sign: Sign) -> bool {
        !self.is_suspicion || sign != Sign::Request
    }

    /// When [`Doubt::take_due`] has something next. `heard` is when the peer was last heard.
    pub(super) fn next(&self, heard: Instant) -> Instant {
        let next = match self.phase {
            Phase::Asked { until } => until,
            Phase::Silent {
                next_call,
                next_round,
                ..
            } => next_call.min(next_round),
        };
        self.end(heard).map_or(next, |end| next.min(end))
    }

    fn end(&self, heard: Instant) -> Option<Instant> {
        Some(self.asked?.max(heard) + DEAD_AFTER)
    }

    /// The next step if it is due; called again until there is none. What is late is done once.
    pub(super) fn take_due(&mut self, now: Instant, heard: Instant, rtt: Duration) -> Option<Step> {
        if self.end(heard).is_some_and(|end| end <= now) {
            return Some(Step::GiveUp);
        }
        match &mut self.phase {
            Phase::Asked { until } if *until <= now => {
                self.phase = Phase::Silent {
                    since: now,
                    next_call: now + SILENT_AGAIN,
                    next_round: now,
                };
                Some(Step::CallForHelp)
            }
            Phase::Silent { next_call, .. } if *next_call <= now => {
                *next_call = now + SILENT_AGAIN;
                Some(Step::CallForHelp)
            }
            Phase::Silent {
                since, next_round, ..
            } if *next_round <= now => {
                *next_round = now + pause(now.saturating_duration_since(*since), rtt);
                Some(Step::Round)
            }
            Phase::Asked { .. } | Phase::Silent { .. } => None,
        }
    }

    /// A check has gone out: from now on silence counts.
    pub(super) fn asked(&mut self, now: Instant) {
        self.asked.get_or_insert(now);
    }
}

/// After a round at this age of the silence.
fn pause(age: Duration, rtt: Duration) -> Duration {
    let shortest = match age {
        age if age < FAST_FOR => FAST_PAUSE,
        age if age < SLOW_FOR => SLOW_PAUSE,
        _ => LAST_PAUSE,
    };
    shortest.max(rtt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_at_once_and_every_2_s_until_the_end() {
        let steps = run(20, true);
        let of = |step| at(&steps, step);
        let told = [100, 2100, 4100, 6100, 8100];
        assert_eq!(of(Step::CallForHelp), told);
        assert_eq!(of(Step::GiveUp), [10_000]);
    }

    #[test]
    fn rounds_become_slower_and_last_until_the_end() {
        let rounds = at(&run(20, true), Step::Round);
        let fast = (0..10).map(|n| 100 + 100 * n);
        let slow = (0..4).map(|n| 1100 + 500 * n);
        let last = (0..7).map(|n| 3100 + 1000 * n);
        assert_eq!(rounds, fast.chain(slow).chain(last).collect::<Vec<_>>());
        assert_eq!(rounds.len() as u128, ROUNDS);
    }

    #[test]
    fn rounds_are_a_round_trip_apart_at_least() {
        let rounds = at(&run(700, true), Step::Round);
        assert_eq!(rounds[..3], [1050, 1750, 2450]);
        assert!(rounds.windows(2).all(|pair| pair[1] - pair[0] >= 700));
    }

    #[test]
    fn who_could_not_ask_knows_of_no_death() {
        assert_eq!(at(&run(20, false), Step::GiveUp), []);
    }

    #[test]
    fn a_late_caller_does_everything_once() {
        let start = Instant::now();
        let mut doubt = Doubt::of_silence(start, ms(20), true);
        let late = start + ms(5000);
        let steps: Vec<_> = std::iter::from_fn(|| doubt.take_due(late, start, ms(20))).collect();
        assert_eq!(steps, [Step::CallForHelp, Step::Round]);
        assert!(doubt.next(start) > late);
    }

    #[test]
    fn a_new_suspicion_makes_rounds_fast_again() {
        let start = Instant::now();
        let mut doubt = Doubt::of_silence(start, ms(20), true);
        let now = start + ms(8000);
        while doubt.take_due(now, start, ms(20)).is_some() {}
        doubt.suspect(now);
        assert_eq!(doubt.take_due(now, start, ms(20)), Some(Step::Round));
        assert_eq!(doubt.next(start), now + FAST_PAUSE);
    }

    #[test]
    fn lulls_become_longer_up_to_4_s_but_are_never_shorter_than_half_our_patience() {
        let lulls: Vec<_> = (0..8).map(|n| lull(ms(20), n).as_millis()).collect();
        assert_eq!(lulls, [100, 200, 400, 800, 1600, 3200, 4000, 4000]);
        assert_eq!(lull(ms(3000), 0), ms(4500));
    }

    /// Milliseconds since the start of every step of a doubt in which nothing is heard.
    fn run(rtt_ms: u64, asked: bool) -> Vec<(u128, Step)> {
        let start = Instant::now();
        let mut doubt = Doubt::of_silence(start, ms(rtt_ms), asked);
        let mut steps = Vec::new();
        while doubt.next(start) < start + ms(30_000) {
            let now = doubt.next(start);
            let step = doubt.take_due(now, start, ms(rtt_ms)).unwrap();
            steps.push(((now - start).as_millis(), step));
            if step == Step::GiveUp {
                break;
            }
        }
        steps
    }

    fn at(steps: &[(u128, Step)], wanted: Step) -> Vec<u128> {
        let steps = steps.iter().filter(|(_, step)| *step == wanted);
        steps.map(|(at, _)| *at).collect()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}
