//! How long to wait before the next try.

use std::time::Duration;

use rand::Rng;

/// Waits that double up to a limit, each spread over half to three halves of itself so that those
/// who lost the same tracker at once do not return at once.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Begins at `first` and doubles up to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Backoff {
            next: first,
            first,
            longest,
        }
    }

    /// The next wait.
    pub(crate) fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        jittered(wait, rng)
    }

    /// Begins anew, after a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Half to three halves of `wait`.
pub(crate) fn jittered(wait: Duration, rng: &mut impl Rng) -> Duration {
    wait.mul_f64(rng.random_range(0.5..1.5))
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew_after_a_success() {
        let mut rng = StdRng::seed_from_u64(1);
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(6));
        let mut backoff = Backoff::new(first, longest);
        for expected in [1, 2, 4, 6, 6] {
            check(backoff.next(&mut rng), expected);
        }
        backoff.reset();
        check(backoff.next(&mut rng), 1);
    }

    #[track_caller]
    fn check(wait: Duration, expected_s: u64) {
        let expected = Duration::from_secs(expected_s);
        assert!(wait >= expected / 2 && wait <= expected * 3 / 2, "{wait:?}");
    }
}
