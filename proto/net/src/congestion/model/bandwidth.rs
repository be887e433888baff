//! What the path carries of ours: the highest delivery rate of two probing cycles (draft-ietf-ccwg-bbr,
//! `BBR.max_bw`), and what says that it is less, or no more, than that.

/// Rounds without growth that end the start-up, and what growth is (`BBR.full_bw_count`).
const PLATEAU_ROUNDS: u32 = 3;
const PLATEAU_GROWTH: f64 = 1.25;

/// A path that carries less than this part of what it did, for so many round trips in which packets are
/// late, has become slower.
const SLUMP_PART: f64 = 2.0 / 3.0;
const SLUMP_ROUNDS: u32 = 2;

/// The highest delivery rate, in bytes a second.
#[derive(Clone, Debug, Default)]
pub(super) struct Bandwidth {
    /// Of this cycle and of the one before it.
    cycles: [f64; 2],
    /// Whether this cycle has had a sample of a path that was filled.
    is_known: bool,
}

impl Bandwidth {
    /// 0 before the first sample.
    pub(super) fn bytes_per_s(&self) -> f64 {
        self.cycles[0].max(self.cycles[1])
    }

    /// One of a path that was not filled counts when it is higher.
    pub(super) fn sample(&mut self, rate: f64, is_limited: bool) {
        self.is_known |= !is_limited;
        if !is_limited || rate > self.bytes_per_s() {
            self.cycles[0] = self.cycles[0].max(rate);
        }
    }

    /// The next cycle begins, unless this one tells nothing.
    pub(super) fn end_cycle(&mut self) {
        if std::mem::take(&mut self.is_known) {
            self.cycles = [0.0, self.cycles[0]];
        }
    }

    /// More than usual was sent, and `rate` is the highest that came of it: the path has become slower if
    /// that is far less.
    pub(super) fn check(&mut self, rate: f64) {
        if rate < SLUMP_PART * self.bytes_per_s() {
            self.lower(rate);
        }
    }

    /// It is less than was believed.
    pub(super) fn lower(&mut self, to: f64) {
        self.cycles = [to; 2];
    }
}

/// Sees that the rate grows no more, although more is sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Plateau {
    best: f64,
    rounds: u32,
}

impl Plateau {
    /// A round trip is over in which the path was filled. Whether its end is reached.
    pub(super) fn end_round(&mut self, bandwidth: f64) -> bool {
        if bandwidth >= PLATEAU_GROWTH * self.best {
            (self.best, self.rounds) = (bandwidth, 0);
        } else {
            self.rounds += 1;
        }
        self.rounds >= PLATEAU_ROUNDS
    }
}

/// Sees that the path has become slower, before the filter forgets. Packets are late then: that less
/// arrives because less was sent is no slump.
#[derive(Clone, Debug, Default)]
pub(super) struct Slump {
    rounds: u32,
    /// In the last round.
    rate: f64,
}

impl Slump {
    /// A round trip is over: the highest rate in it, and whether all packets were late. The rate to go by,
    /// once it is sure.
    pub(super) fn end_round(&mut self, rate: f64, is_late: bool, bandwidth: f64) -> Option<f64> {
        if rate >= SLUMP_PART * bandwidth || !is_late {
            *self = Slump::default();
            return None;
        }
        self.rounds += 1;
        let last = std::mem::replace(&mut self.rate, rate);
        (self.rounds >= SLUMP_ROUNDS).then(|| rate.max(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_two_cycles_counts() {
        let mut bandwidth = Bandwidth::default();
        for (rate, expected) in [(10.0, 10.0), (8.0, 10.0), (7.0, 8.0), (9.0, 9.0)] {
            bandwidth.end_cycle();
            bandwidth.sample(rate, false);
            assert_eq!(bandwidth.bytes_per_s(), expected);
        }
    }

    #[test]
    fn a_path_that_was_not_filled_is_not_worse_for_it() {
        let mut bandwidth = Bandwidth::default();
        bandwidth.sample(10.0, false);
        for _ in 0..10 {
            bandwidth.end_cycle();
            bandwidth.sample(1.0, true);
        }
        assert_eq!(bandwidth.bytes_per_s(), 10.0);
        bandwidth.sample(11.0, true);
        assert_eq!(bandwidth.bytes_per_s(), 11.0);
    }

    #[test]
    fn three_rounds_without_growth_are_the_plateau() {
        let mut plateau = Plateau::default();
        let rounds = [1.0, 2.0, 4.0, 4.5, 4.9, 5.0, 5.0, 5.0, 5.0];
        let end = rounds.iter().position(|rate| plateau.end_round(*rate));
        assert_eq!(end, Some(8), "5 is a quarter more than 4");
    }

    #[test]
    fn a_slump_is_believed_after_two_late_rounds() {
        let mut slump = Slump::default();
        let rounds = [
            (5.0, true),
            (7.0, true),
            (5.0, true),
            (5.0, false),
            (5.0, true),
        ];
        for (rate, is_late) in rounds {
            assert_eq!(slump.end_round(rate, is_late, 10.0), None);
        }
        assert_eq!(slump.end_round(3.0, true, 10.0), Some(5.0));
    }
}
