//! Threads that read, hash and write bytes of chunks.
//!
//! Each such piece of work is short, tens of microseconds where files are in the page cache, and there are
//! thousands a second. To wake a sleeping thread for each costs as much again: so there are few, and whoever
//! is awake goes on with what waits. Tokio's blocking threads, of which there may be hundreds, are for
//! what takes long: to sync, to rename, to hash a share.

use std::sync::LazyLock;

use rayon_core::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::oneshot;

/// As many as a disk has use for at once, whatever the processors.
const LEAST: usize = 4;

static HANDS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let built = ThreadPoolBuilder::new()
        .num_threads(processors.max(LEAST))
        .thread_name(|number| format!("hand-{number}"))
        // Who waits for the work is told.
        .panic_handler(|_| ())
        .build();
    built
        .inspect_err(|error| tracing::warn!(%error, "no threads for files of their own"))
        .ok()
});

/// Has some work done there. `None` if it panicked.
///
/// # Cancel safety
///
/// May be dropped; the work is done all the same.
pub(crate) async fn work<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let Some(hands) = &*HANDS else {
        return tokio::task::spawn_blocking(job).await.ok();
    };
    let (done, result) = oneshot::channel();
    hands.spawn(move || {
        // Nobody may be waiting any more.
        let _ = done.send(job());
    });
    result.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_also_after_some_has_panicked() {
        for _ in 0..100 {
            assert_eq!(work(|| panic!("as it should")).await, None::<()>);
        }
        let sums = (0..100).map(|number| work(move || number * 2));
        let done = futures_util::future::join_all(sums).await;
        assert_eq!(
            done,
            (0..100).map(|number| Some(number * 2)).collect::<Vec<_>>()
        );
    }
}
