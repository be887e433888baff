//! Threads that read, hash and write bytes of chunks.
//!
//! Each such piece of work is short, tens of microseconds where files are in the page cache, and there are
//! thousands a second: so there are few threads, and whoever is awake goes on with what waits. They sleep at
//! once when nothing does; a pool whose threads look around first took 5 % more. Tokio's blocking threads, of
//! which there may be hundreds, are for what takes long: to sync, to rename, to hash a share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::thread;

use flume::{Receiver, Sender};
use tokio::sync::oneshot;

/// As many as a disk has use for at once, whatever the processors.
const LEAST: usize = 4;

/// Pieces of work that may wait for a thread; who has more waits before it can say so.
const WAITING: usize = 1024;

type Work = Box<dyn FnOnce() + Send>;

static HANDS: LazyLock<Option<Sender<Work>>> = LazyLock::new(|| {
    let (sender, receiver) = flume::bounded(WAITING);
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let hands = (0..processors.max(LEAST)).map(|number| {
        let receiver = receiver.clone();
        let hand = thread::Builder::new().name(format!("hand-{number}"));
        hand.spawn(move || labour(&receiver))
    });
    let begun = hands.collect::<Vec<_>>();
    for error in begun.iter().filter_map(|hand| hand.as_ref().err()) {
        tracing::warn!(%error, "no thread for files");
    }
    begun.iter().any(Result::is_ok).then_some(sender)
});

fn labour(waiting: &Receiver<Work>) {
    for work in waiting {
        // Who waits for it is told: its sender is dropped. What it had is dropped too, and nobody else has it.
        let _ = catch_unwind(AssertUnwindSafe(work));
    }
}

/// Has some work done there. `None` if it panicked.
///
/// # Cancel safety
///
/// May be dropped; what has begun to wait for a thread is done all the same.
pub(crate) async fn work<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let Some(hands) = &*HANDS else {
        return tokio::task::spawn_blocking(job).await.ok();
    };
    let (done, result) = oneshot::channel();
    let work = Box::new(move || {
        // Nobody may be waiting any more.
        let _ = done.send(job());
    });
    hands.send_async(work).await.ok()?;
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
