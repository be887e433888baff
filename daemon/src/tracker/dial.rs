//! Tries several things in their order until one works.

use std::time::Duration;

use tokio::task::JoinSet;

/// Makes the attempts in their order, each `head_start` after the one before, or at once when one
/// has failed, until one succeeds; the others are dropped.
///
/// # Errors
///
/// What every attempt met, in their order.
///
/// # Cancel safety
///
/// May be dropped; all attempts end.
pub(super) async fn race<T, E, A>(
    attempts: impl IntoIterator<Item = A>,
    head_start: Duration,
) -> Result<T, Vec<E>>
where
    T: Send + 'static,
    E: Send + 'static,
    A: Future<Output = Result<T, E>> + Send + 'static,
{
    let mut waiting = attempts.into_iter().enumerate().peekable();
    let mut under_way = JoinSet::new();
    let mut errors = Vec::new();
    loop {
        if let Some((place, attempt)) = waiting.next() {
            under_way.spawn(async move { (place, attempt.await) });
        } else if under_way.is_empty() {
            errors.sort_by_key(|(place, _)| *place);
            return Err(errors.into_iter().map(|(_, error)| error).collect());
        }
        let delay = tokio::time::sleep(head_start);
        tokio::select! {
            Some(ended) = under_way.join_next() => match ended {
                Ok((_, Ok(done))) => return Ok(done),
                Ok((place, Err(error))) => errors.push((place, error)),
                // It panicked, and said so itself.
                Err(_) => (),
            },
            () = delay, if waiting.peek().is_some() => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{Instant, sleep};

    use super::*;

    const HEAD_START: Duration = Duration::from_millis(750);

    #[tokio::test(start_paused = true)]
    async fn the_first_that_succeeds_wins_though_a_better_one_may_come_later() {
        check(&[(2000, true), (100, true)], Ok(1), 850).await;
        check(&[(800, true), (100, true)], Ok(0), 800).await;
        check(&[(100, true), (0, true)], Ok(0), 100).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_lets_the_next_begin_at_once() {
        check(&[(10, false), (10, true)], Ok(1), 20).await;
        // The first is still under way when the second fails.
        let attempts = [(5000, true), (10, false), (10, true)];
        check(&attempts, Ok(2), 770).await;
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_the_errors_come_in_the_order_of_the_attempts() {
        let attempts = [(3000, false), (10, false), (10, false)];
        check(&attempts, Err(vec![0, 1, 2]), 3000).await;
        check(&[], Err(vec![]), 0).await;
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_lose_are_dropped_and_those_that_wait_never_begin() {
        let begun = Arc::new(AtomicUsize::new(0));
        let alive = Arc::new(());
        let attempts: Vec<_> = [2000, 10, 10]
            .into_iter()
            .map(|millis| {
                let (begun, alive) = (Arc::clone(&begun), Arc::clone(&alive));
                async move {
                    begun.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(millis)).await;
                    drop(alive);
                    Ok::<_, ()>(millis)
                }
            })
            .collect();
        assert_eq!(race(attempts, HEAD_START).await, Ok(10));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(begun.load(Ordering::Relaxed), 2);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    /// Attempts take so many milliseconds and succeed or not; both say their number.
    async fn check(attempts: &[(u64, bool)], expected: Result<usize, Vec<usize>>, millis: u64) {
        let attempts = attempts.iter().copied().enumerate();
        let attempts = attempts.map(|(place, (millis, works))| async move {
            sleep(Duration::from_millis(millis)).await;
            if works { Ok(place) } else { Err(place) }
        });
        let began = Instant::now();
        assert_eq!(race(attempts, HEAD_START).await, expected);
        assert_eq!(began.elapsed(), Duration::from_millis(millis));
    }
}
