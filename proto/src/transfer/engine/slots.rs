//! How many receivers to serve at once.
//!
//! Serving k receivers side by side stretches the time in which a swarm fills by k ln 2 / ln(k + 1),
//! so as few as fill the uplink are best: two, that one's pause does not idle it. If each of them can
//! take only little, more are needed. Nobody tells how much an uplink carries; so while others wait,
//! one more is tried now and then, and kept if more goes out than before.

use std::time::{Duration, Instant};

/// Receivers served at once, at least and at most.
pub(super) const MIN: usize = 2;
const MAX: usize = 64;
/// How long a number of receivers is tried before it is judged.
const TRIAL: Duration = Duration::from_millis(250);
/// One more receiver must bring so much more to stay,
const GAIN: f64 = 1.05;
/// and one fewer may cost so little to go.
const LOSS: f64 = 0.98;
/// After a trial that brought nothing the next waits, twice as long each time.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(16);

/// What is being tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    /// Nothing.
    Rest,
    /// One more.
    More,
    /// One fewer.
    Fewer,
}

/// Finds the number.
#[derive(Debug)]
pub(super) struct Slots {
    count: usize,
    trial: Trial,
    /// Bytes a second in the last span judged.
    before: f64,
    sent: u64,
    since: Instant,
    rest: Duration,
    rest_until: Instant,
    /// Whether somebody waited for all of the span, and all places were taken.
    is_full: bool,
    /// Which kind of trial comes next.
    fewer_next: bool,
}

impl Slots {
    pub(super) fn new(now: Instant) -> Slots {
        Slots {
            count: MIN,
            trial: Trial::Rest,
            before: 0.0,
            sent: 0,
            since: now,
            rest: FIRST_REST,
            rest_until: now,
            is_full: true,
            fewer_next: false,
        }
    }

    /// How many may be served at once now.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Bytes went out.
    pub(super) fn sent(&mut self, bytes: u32) {
        self.sent += u64::from(bytes);
    }

    /// There was a place that nobody wanted, so that this span says nothing of the uplink.
    pub(super) fn idle(&mut self) {
        self.is_full = false;
    }

    /// Judges the span that is over, if one is.
    pub(super) fn look(&mut self, now: Instant) {
        let span = now.saturating_duration_since(self.since);
        if span < TRIAL {
            return;
        }
        let rate = self.sent as f64 / span.as_secs_f64();
        if self.is_full && span < 4 * TRIAL {
            self.judge(now, rate);
        } else {
            self.abandon();
        }
        (self.sent, self.since, self.is_full) = (0, now, true);
    }

    fn judge(&mut self, now: Instant, rate: f64) {
        let is_good = match self.trial {
            Trial::Rest => return self.begin(now, rate),
            Trial::More => rate >= self.before * GAIN,
            Trial::Fewer => rate >= self.before * LOSS,
        };
        if is_good {
            self.rest = FIRST_REST;
            self.before = rate;
            return self.step();
        }
        self.abandon();
        self.fewer_next = !self.fewer_next;
        self.rest_until = now + self.rest;
        self.rest = (2 * self.rest).min(LONGEST_REST);
    }

    fn begin(&mut self, now: Instant, rate: f64) {
        self.before = rate;
        if now < self.rest_until {
            return;
        }
        let fewer = self.fewer_next && self.count > MIN;
        self.trial = if fewer { Trial::Fewer } else { Trial::More };
        self.step();
    }

    /// Goes one further in the direction of the trial.
    fn step(&mut self) {
        match self.trial {
            Trial::More if self.count < MAX => self.count += 1,
            Trial::Fewer if self.count > MIN => self.count -= 1,
            _ => self.trial = Trial::Rest,
        }
    }

    /// Goes back to what was before the trial.
    fn abandon(&mut self) {
        match std::mem::replace(&mut self.trial, Trial::Rest) {
            Trial::Rest => (),
            Trial::More => self.count = (self.count - 1).max(MIN),
            Trial::Fewer => self.count = (self.count + 1).min(MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number found by an uplink of `up` whose receivers take `each`, after 20 s.
    fn found(up: f64, each: f64) -> usize {
        let mut now = Instant::now();
        let mut slots = Slots::new(now);
        for _ in 0..400 {
            now += Duration::from_millis(50);
            let rate = up.min(each * slots.count() as f64);
            slots.sent((rate * 0.05) as u32);
            slots.look(now);
        }
        slots.count()
    }

    #[test]
    fn as_many_are_served_as_fill_the_uplink() {
        let few = found(1e7, 1e7);
        assert!((MIN..=MIN + 1).contains(&few), "{few} for fast receivers");
        let many = found(1e7, 1e6);
        assert!((9..=11).contains(&many), "{many} for slow receivers");
    }

    #[test]
    fn nothing_is_learnt_while_nobody_waits() {
        let mut now = Instant::now();
        let mut slots = Slots::new(now);
        for _ in 0..100 {
            now += Duration::from_millis(100);
            slots.sent(1_000_000);
            slots.idle();
            slots.look(now);
        }
        assert_eq!(slots.count(), MIN);
    }
}
